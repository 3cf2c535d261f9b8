//! The images of one part of an image set as normalised floats, changed at random where asked.

use super::augment::flip;
use super::image_set::as_unit;
use super::{Augment, DataError, ImageSet, Split};
use crate::data::Images;

/// The images of a part, in its order, ready for a network.
#[derive(Clone, Copy, Debug)]
pub struct SplitImages<'a> {
    set: &'a ImageSet,
    indices: &'a [u32],
    augment: Option<&'a Augment>,
    seed: u64,
}

impl<'a> SplitImages<'a> {
    /// `augment` is applied with draws keyed by (`seed`, index in the image set, epoch).
    ///
    /// # Errors
    /// [`DataError::Option`] where a value of `augment` is out of range.
    pub fn new(set: &'a ImageSet, split: Split, augment: Option<&'a Augment>, seed: u64) -> Result<Self, DataError> {
        if let Some(augment) = augment {
            augment.validate()?;
        }
        Ok(Self {
            set,
            indices: set.split(split),
            augment: augment.filter(|augment| !augment.is_off()),
            seed,
        })
    }
}

impl Images for SplitImages<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn channels(&self) -> usize {
        self.set.channels()
    }

    fn side(&self) -> usize {
        self.set.side()
    }

    fn classes(&self) -> usize {
        self.set.classes().len()
    }

    fn label(&self, i: usize) -> u32 {
        self.set.label(self.indices[i] as usize)
    }

    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        let index = self.indices[i] as usize;
        let (set, seed, image, side) = (self.set, self.seed, index as u64, self.set.side());
        let Some(augment) = self.augment else {
            set.fill_unit(index, out)?;
            set.normalise(out);
            return Ok(());
        };
        let [width, height] = set.original_size(index);
        match augment.window(seed, image, epoch, width, height) {
            Some(window) => as_unit(&set.window(index, window)?, out),
            None => set.fill_unit(index, out)?,
        }
        if augment.flips(seed, image, epoch) {
            flip(out, side);
        }
        augment.apply(out, side, seed, image, epoch);
        set.normalise(out);
        augment.erase(out, side, seed, image, epoch);
        Ok(())
    }

    fn mix(&self, epoch: u32, batch: u32, images: &mut [f32]) -> Option<f32> {
        let side = self.set.side();
        let mix = self.augment?.mix(self.seed, epoch, batch, side)?;
        mix.images(images, self.set.channels(), side, side);
        Some(mix.weight(side, side) as f32)
    }
}
