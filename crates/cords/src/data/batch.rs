//! The images of one part of an image set as normalised floats, changed at random where asked.

use super::{Augment, DataError, ImageSet, Split};

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

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether the part has no images.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Label of image `i` of the part.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn label(&self, i: usize) -> u32 {
        self.set.label(self.indices[i] as usize)
    }

    /// Writes image `i` of the part, [C, H, W], normalised, as changed in `epoch`.
    ///
    /// # Panics
    /// If `i` is out of range or `out` does not have C * H * W values.
    pub fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) {
        let index = self.indices[i] as usize;
        self.set.fill_unit(index, out);
        if let Some(augment) = self.augment {
            augment.apply(out, self.set.side(), self.seed, index as u64, epoch);
        }
        self.set.normalise(out);
    }
}
