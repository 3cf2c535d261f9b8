//! What training and evaluation need from a set of images.

use std::ops::Range;

use rayon::prelude::*;

use super::DataError;

/// Normalises an image of planes of so many pixels in place: (x - mean) / std, one constant of each for each plane.
pub(super) fn normalise(image: &mut [f32], plane: usize, (means, stds): (&[f32], &[f32])) {
    for ((pixels, mean), std) in image.chunks_exact_mut(plane).zip(means).zip(stds) {
        let scale = 1.0 / std;
        for pixel in pixels {
            *pixel = (*pixel - mean) * scale;
        }
    }
}

/// Fills images of one size side by side, each by `fill(index, out)`.
///
/// # Errors
/// That of the first image of which there is one.
pub(crate) fn fill_images(
    indices: &[u32],
    out: &mut [f32],
    fill: impl Fn(u32, &mut [f32]) -> Result<(), DataError> + Send + Sync,
) -> Result<(), DataError> {
    let len = out.len() / indices.len().max(1);
    let images = out.par_chunks_exact_mut(len.max(1)).zip(indices);
    match images.find_map_first(|(out, index)| fill(*index, out).err()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A set of labelled images as normalised floats.
pub trait Images: Sync {
    /// Number of images of the set.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Channels of an image.
    fn channels(&self) -> usize;
    /// Height and width of an image.
    fn side(&self) -> usize;
    /// Number of classes; labels lie below it.
    fn classes(&self) -> usize;
    /// Class of image `i`.
    fn label(&self, i: usize) -> u32;
    /// Writes every value of image `i`, `[channels, side, side]`, normalised; `epoch` keys random augmentation, where
    /// there is any.
    ///
    /// # Errors
    /// [`DataError`] where the image is damaged or cannot be read; what `out` then holds is of no use.
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError>;
    /// Mixes the images of a training batch with each other, each with the one before it and the first with the last
    /// (CutMix, MixUp). Returns the weight that each image's own class then has in what it is to be answered with, from
    /// 0 to 1; the rest is that of the image before. None, as where there is nothing else, leaves them as they are.
    ///
    /// `images` are those of a batch of an epoch, both from 0, `[images, channels, side, side]` as
    /// [`fill`](Self::fill) has written them. What is random is keyed by epoch and batch, so that a training that goes
    /// on from a checkpoint meets the same images.
    fn mix(&self, _epoch: u32, _batch: u32, _images: &mut [f32]) -> Option<f32> {
        None
    }
}

/// Some images of a set that follow one another.
pub(crate) struct PartOfImages<'a> {
    images: &'a dyn Images,
    part: Range<usize>,
}

impl<'a> PartOfImages<'a> {
    pub(crate) fn new(images: &'a dyn Images, part: Range<usize>) -> Self {
        Self { images, part }
    }
}

impl Images for PartOfImages<'_> {
    fn len(&self) -> usize {
        self.part.len()
    }
    fn channels(&self) -> usize {
        self.images.channels()
    }
    fn side(&self) -> usize {
        self.images.side()
    }
    fn classes(&self) -> usize {
        self.images.classes()
    }
    fn label(&self, i: usize) -> u32 {
        self.images.label(self.part.start + i)
    }
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        self.images.fill(self.part.start + i, epoch, out)
    }
}
