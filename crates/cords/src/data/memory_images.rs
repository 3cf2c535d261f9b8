//! Images as floats in memory: stimuli that are computed, or come from another library.

use super::images::normalise;
use super::{DataError, Images};

/// Labelled images in memory, normalised per channel when they are asked for: (x - mean) / std.
///
/// ```
/// # fn main() -> Result<(), cords::data::DataError> {
/// use cords::data::{Images, MemoryImages};
///
/// // Two images of 1 x 2 x 2 values, black and white.
/// let images = MemoryImages::new([1, 2], 2, vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], vec![0, 1])?
///     .normalised(&[0.5], &[0.25])?;
/// let mut image = [0.0; 4];
/// images.fill(1, 0, &mut image)?;
/// assert_eq!(image, [2.0; 4]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryImages {
    channels: usize,
    side: usize,
    classes: usize,
    values: Vec<f32>,
    labels: Vec<u32>,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl MemoryImages {
    /// Images `[labels.len(), channels, side, side]`, as they are: mean 0 and standard deviation 1 per channel until
    /// others are given. Labels lie below `classes`.
    ///
    /// # Errors
    /// [`DataError::Option`] where a size is 0, the number of values is not that of so many images, a value is not
    /// finite, or a label is that of no class.
    pub fn new(
        [channels, side]: [usize; 2],
        classes: usize,
        values: Vec<f32>,
        labels: Vec<u32>,
    ) -> Result<Self, DataError> {
        let wrong = |option, what: String| Err(DataError::option(option, what));
        if channels == 0 || side == 0 || classes == 0 {
            return wrong(
                "images",
                "channels, side and the number of classes must be at least 1".to_owned(),
            );
        }
        let count = labels.len();
        let expected = [count, channels, side, side]
            .iter()
            .try_fold(1usize, |product, n| product.checked_mul(*n));
        if expected != Some(values.len()) {
            let found = values.len();
            return wrong(
                "images",
                format!("{found} values given, which are not {count} images of {channels} x {side} x {side}"),
            );
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let image = index / (channels * side * side);
            return wrong("images", format!("image {image} has a value that is not finite"));
        }
        if let Some(image) = labels.iter().position(|label| *label as usize >= classes) {
            let label = labels[image];
            return wrong(
                "labels",
                format!("image {image} has label {label}, but there are {classes} classes, counted from 0"),
            );
        }
        Ok(Self {
            channels,
            side,
            classes,
            values,
            labels,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        })
    }

    /// The same images with the mean and the standard deviation that each channel is normalised by, in the unit of the
    /// values.
    ///
    /// # Errors
    /// [`DataError::Option`] where there is not one finite value for each channel, or a standard deviation is not above
    /// 0.
    pub fn normalised(self, mean: &[f32], std: &[f32]) -> Result<Self, DataError> {
        let fits = |values: &[f32]| values.len() == self.channels && values.iter().all(|value| value.is_finite());
        if !fits(mean) || !fits(std) || std.iter().any(|std| *std <= 0.0) {
            return Err(DataError::option(
                "normalisation",
                format!(
                    "mean {mean:?} and std {std:?} must have one finite value for each of {} channels, std above 0",
                    self.channels
                ),
            ));
        }
        Ok(Self {
            mean: mean.to_vec(),
            std: std.to_vec(),
            ..self
        })
    }
}

impl Images for MemoryImages {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn side(&self) -> usize {
        self.side
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }

    fn fill(&self, i: usize, _epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        let plane = self.side * self.side;
        let len = self.channels * plane;
        out.copy_from_slice(&self.values[i * len..][..len]);
        normalise(out, plane, (&self.mean, &self.std));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let values = || vec![0.0; 8];
        let refused = |images: Result<MemoryImages, DataError>| images.expect_err("refused").to_string();
        let short = refused(MemoryImages::new([1, 2], 2, vec![0.0; 7], vec![0, 1]));
        assert!(
            short.contains("7 values") && short.contains("2 images of 1 x 2 x 2"),
            "{short}"
        );
        let label = refused(MemoryImages::new([1, 2], 2, values(), vec![0, 2]));
        assert!(label.contains("image 1 has label 2"), "{label}");
        let mut broken = values();
        broken[5] = f32::NAN;
        assert!(refused(MemoryImages::new([1, 2], 2, broken, vec![0, 1])).contains("image 1"));
        assert!(MemoryImages::new([0, 2], 2, Vec::new(), Vec::new()).is_err());
        let images = MemoryImages::new([1, 2], 2, values(), vec![0, 1]).expect("two images");
        assert!(images.clone().normalised(&[0.0, 0.0], &[1.0]).is_err());
        for (mean, std) in [(0.0, 0.0), (0.0, f32::NAN), (f32::NAN, 1.0)] {
            assert!(images.clone().normalised(&[mean], &[std]).is_err(), "{mean} {std}");
        }
    }
}
