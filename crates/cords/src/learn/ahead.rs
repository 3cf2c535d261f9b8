//! Batches of a training, loaded and augmented while the ones before them are at work.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use crate::data::Images;
use crate::rng::{Purpose, Stream};

/// The batches of a training. The order of the images depends on the seed and the epoch alone.
pub(crate) struct Batches<'a> {
    pub(crate) images: &'a dyn Images,
    pub(crate) seed: u64,
    pub(crate) epochs: usize,
    /// Batches of an epoch.
    pub(crate) batches: usize,
}

/// Images and labels of one batch, loaded ahead of the work on it.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Normalised images, `[labels.len(), channels, side, side]`.
    pub(crate) images: Vec<f32>,
    pub(crate) labels: Vec<u32>,
}

/// Batches that wait, beside the one that is being prepared.
const WAITING: usize = 1;

impl Batches<'_> {
    /// Does `work`, which is given the next batch whenever it asks, from batch `first` of an epoch on:
    /// `(epoch, batch)`. Where the system gives no thread, batches are loaded when they are asked for.
    pub(crate) fn prepare<R>(&self, first: (usize, usize), work: impl FnOnce(&mut dyn FnMut() -> Prepared) -> R) -> R {
        let (sender, receiver) = sync_channel(WAITING);
        std::thread::scope(|scope| {
            let loading = std::thread::Builder::new().spawn_scoped(scope, move || {
                for batch in self.all_from(first) {
                    // Nobody listens any more: training has ended.
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            });
            let Ok(loader) = loading else {
                let mut batches = self.all_from(first);
                return work(&mut || batches.next().unwrap_or_default());
            };
            let mut loader = Some(loader);
            let mut next = || {
                receiver.recv().unwrap_or_else(|_| {
                    // It ends before the last batch only where reading images has panicked.
                    if let Some(Err(panic)) = loader.take().map(|loader| loader.join()) {
                        std::panic::resume_unwind(panic);
                    }
                    Prepared::default()
                })
            };
            let result = work(&mut next);
            drop(receiver);
            result
        })
    }

    /// All batches from one of an epoch on.
    fn all_from(&self, (epoch, batch): (usize, usize)) -> impl Iterator<Item = Prepared> {
        (epoch..self.epochs).flat_map(move |now| {
            let order = self.order(now);
            let start = if now == epoch { batch } else { 0 };
            (start..self.batches).map(move |batch| self.load(&order, now, batch))
        })
    }

    fn order(&self, epoch: usize) -> Vec<u32> {
        Stream::new(self.seed, Purpose::Shuffle, 0, 0, epoch as u32, 0).permutation(self.images.len())
    }

    fn load(&self, order: &[u32], epoch: usize, batch: usize) -> Prepared {
        let [first, end] = [batch, batch + 1].map(|batch| batch * order.len() / self.batches);
        let chosen = &order[first..end];
        let len = self.images.channels() * self.images.side() * self.images.side();
        let mut images = vec![0.0; chosen.len() * len];
        images
            .par_chunks_exact_mut(len)
            .zip(chosen)
            .for_each(|(out, image)| self.images.fill(*image as usize, epoch as u32, out));
        Prepared {
            images,
            labels: chosen.iter().map(|image| self.images.label(*image as usize)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images that hold their number and their epoch.
    struct Numbered(usize);

    impl Images for Numbered {
        fn len(&self) -> usize {
            self.0
        }
        fn channels(&self) -> usize {
            2
        }
        fn side(&self) -> usize {
            1
        }
        fn classes(&self) -> usize {
            10
        }
        fn label(&self, i: usize) -> u32 {
            i as u32
        }
        fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) {
            out.copy_from_slice(&[i as f32, epoch as f32]);
        }
    }

    #[test]
    fn every_image_comes_once_in_an_epoch_and_a_course_is_taken_up_anywhere() {
        let batches = Batches {
            images: &Numbered(10),
            seed: 3,
            epochs: 2,
            batches: 4,
        };
        let take = |first, count: usize| batches.prepare(first, |next| (0..count).map(|_| next()).collect::<Vec<_>>());
        let all = take((0, 0), 8);
        for (epoch, part) in all.chunks(4).enumerate() {
            let mut seen: Vec<u32> = part.iter().flat_map(|batch| batch.labels.clone()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
            for batch in part {
                let expected: Vec<f32> = batch
                    .labels
                    .iter()
                    .flat_map(|label| [*label as f32, epoch as f32])
                    .collect();
                assert_eq!(batch.images, expected);
            }
        }
        // Whoever stops early leaves nothing behind that waits.
        let later = take((0, 3), 2);
        assert_eq!([&later[0].labels, &later[1].labels], [&all[3].labels, &all[4].labels]);
    }
}
