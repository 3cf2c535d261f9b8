//! The images of one part of an image set as normalised floats, changed at random where asked.

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
        self.set.fill_unit(index, out)?;
        if let Some(augment) = self.augment {
            augment.apply(out, self.set.side(), self.seed, index as u64, epoch);
        }
        self.set.normalise(out);
        Ok(())
    }
}
