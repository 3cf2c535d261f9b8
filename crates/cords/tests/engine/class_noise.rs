//! Images and a network with which trainings are short.

use cords::data::{DataError, Images};
use cords::net::{Architecture, Graph};
use cords::rng::{Purpose, Stream};

/// Noise whose class, of three, shows in its mean; fresh in every epoch, as with augmentation.
pub(crate) struct ClassNoise {
    pub(crate) count: usize,
    pub(crate) seed: u64,
    /// How far the means of two classes are apart.
    pub(crate) distance: f32,
    /// Whether every other batch is mixed.
    pub(crate) mixes: bool,
}

impl Images for ClassNoise {
    fn len(&self) -> usize {
        self.count
    }
    fn channels(&self) -> usize {
        1
    }
    fn side(&self) -> usize {
        16
    }
    fn classes(&self) -> usize {
        3
    }
    fn label(&self, i: usize) -> u32 {
        (i % 3) as u32
    }
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        Stream::new(self.seed, Purpose::Augmentation, i as u64, 0, epoch, 0).normal_fill(out);
        out.iter_mut()
            .for_each(|value| *value += self.distance * ((i % 3) as f32 - 1.0));
        Ok(())
    }
    fn mix(&self, epoch: u32, batch: u32, images: &mut [f32]) -> Option<f32> {
        let mut stream = Stream::new(self.seed, Purpose::Probe, u64::from(batch), 0, epoch, 0);
        let weight = stream.uniform() as f32;
        // Other batches are left as they are.
        (self.mixes && batch.is_multiple_of(2)).then(|| {
            let before = images.to_vec();
            let (own, len) = (images.len(), 16 * 16);
            for (index, value) in images.iter_mut().enumerate() {
                *value = weight * *value + (1.0 - weight) * before[(index + own - len) % own];
            }
            weight
        })
    }
}

/// A network of two areas for them.
pub(crate) fn architecture() -> Graph {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4, 4, 4],
        strides: vec![1, 1],
        classes: 3,
    }
    .graph()
    .expect("valid")
}
