//! What training and evaluation need from a set of images.

/// Normalises an image of planes of so many pixels in place: (x - mean) / std, one constant of each for each plane.
pub(super) fn normalise(image: &mut [f32], plane: usize, (means, stds): (&[f32], &[f32])) {
    for ((pixels, mean), std) in image.chunks_exact_mut(plane).zip(means).zip(stds) {
        let scale = 1.0 / std;
        for pixel in pixels {
            *pixel = (*pixel - mean) * scale;
        }
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
    /// Writes image `i`, `[channels, side, side]`, normalised; `epoch` keys random augmentation, where there is any.
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]);
}
