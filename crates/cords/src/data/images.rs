//! What training and evaluation need from a set of images.

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
    /// Writes image `i`, `[channels, side, side]`, normalised; `epoch` keys random augmentation, where there is any.
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]);
}
