//! Random changes of training images, keyed by (seed, image, epoch): the same whatever the batch or thread.
//!
//! They are torchvision's (`torchvision.transforms.v2`, 0.29), in the order in which training recipes have them. First
//! the image as it lies in a file is cut to a random rectangle ([`Augment::window`]) and resized, and is mirrored
//! ([`Augment::flips`]). Then its floats in [0, 1] are changed ([`Augment::apply`]): RandAugment or TrivialAugment,
//! affine change, colour jitter, elastic deformation. Then they are normalised, then a rectangle is erased
//! ([`Augment::erase`]). Last, the images of a batch are mixed ([`Augment::mix`]). Everything is off by default.
//!
//! # What equals torchvision
//!
//! Every operation is a function of its drawn parameters, on 8-bit levels and on floats, and gives what torchvision
//! gives for tensors of `uint8` and `float32`; what it does to PIL images can differ from that. The tests hold them
//! against torchvision's results (`benches/reference/augment.py`): 8-bit levels are equal, floats within 1e-5. In large
//! images bilinear interpolation of 8-bit levels differs by 1 in about one of a hundred thousand.
//!
//! | here | torchvision v2 |
//! |---|---|
//! | [`RandomResizedCrop`], [`Augment::window`] | `RandomResizedCrop.make_params`; resizing is the loader's |
//! | [`flip`] | `horizontal_flip` |
//! | [`RandAugment`] | `RandAugment`: 14 operations, magnitudes, signs; `fill` none |
//! | [`Augment::trivial_augment`] | `TrivialAugmentWide` with 31 bins; `fill` none |
//! | [`Affine`], [`affine`] | `RandomAffine`, `affine`; `fill` 0; shear along rows alone |
//! | [`rotate`] | `rotate` without `expand`, about the centre |
//! | [`brightness`], [`contrast`], [`saturation`], [`hue`] | `ColorJitter`, which draws their order as well |
//! | [`sharpness`], [`posterize`], [`solarize`], [`autocontrast`], [`equalize`], [`invert`] | the same names |
//! | [`Elastic`], [`displacement`], [`elastic`] | `ElasticTransform`; bilinear, `fill` 0 |
//! | [`RandomErasing`], [`erase`] | `RandomErasing` with `value` 0 |
//! | [`MixOptions`], [`Mix`] | `CutMix`, `MixUp`: one weight a batch, the batch rolled by one |
//!
//! Draws are not torch's: they come from the keyed generator, and have torchvision's distributions. Where torchvision
//! refuses to blur (an elastic deformation whose sigma is a quarter of the side or more), the field is reflected again.

mod automatic;
mod colour;
mod crop;
mod geometry;
mod mix;
mod planes;

pub use automatic::{Magnitudes, Operation, RandAugment};
pub use colour::{
    autocontrast, brightness, contrast, equalize, hue, invert, posterize, saturation, sharpness, solarize,
};
pub use crop::{RandomErasing, RandomResizedCrop, erase};
use geometry::SoftChange;
pub use geometry::{Affine, AffineChange, Elastic, Interpolation, affine, displacement, elastic, rotate};
pub use mix::{Mix, MixOptions};
pub use planes::{Level, Planes};

use serde::{Deserialize, Serialize};

use super::DataError;
use crate::rng::{Purpose, Stream};

/// Which random changes are made, and how strong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Random rectangle, resized to the whole image.
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Probability of mirroring left to right.
    pub horizontal_flip: f32,
    /// Some operations of fourteen, all of one magnitude.
    pub rand_augment: Option<RandAugment>,
    /// One operation of fourteen, of a magnitude drawn from 31 over a wide range; not beside `rand_augment`.
    pub trivial_augment: bool,
    /// Rotation, shift, scaling and shear.
    pub affine: Option<Affine>,
    /// How levels between pixels are found by `affine`, `rand_augment` and `trivial_augment`. If it is none: for
    /// `affine` bilinearly, as if black surrounded the image (torchvision's `fill=None`, while with an interpolation it
    /// is its `RandomAffine`, which darkens edges twice where it interpolates); for the others from the nearest pixel.
    pub interpolation: Option<Interpolation>,
    /// Levels are multiplied by a factor uniform on [1 - brightness, 1 + brightness].
    pub brightness: f32,
    /// Differences from the mean grey are multiplied by a factor uniform on [1 - contrast, 1 + contrast].
    pub contrast: f32,
    /// Differences from every pixel's grey are multiplied by a factor uniform on [1 - saturation, 1 + saturation].
    pub saturation: f32,
    /// Hues are turned by a share of the full circle that is uniform on [-hue, hue].
    pub hue: f32,
    /// Smooth random displacement of pixels.
    pub elastic: Option<Elastic>,
    /// Rectangle of the normalised image that becomes 0.
    pub erasing: Option<RandomErasing>,
    /// Mixing of the images of a batch.
    pub mix: MixOptions,
}

/// Index of each change within an image's draws: switching one on or off does not change the others' draws.
#[derive(Clone, Copy)]
enum Change {
    Crop,
    Flip,
    Affine,
    Elastic,
    Brightness,
    Contrast,
    Saturation,
    Hue,
    /// Which of the four above comes first, second, third and fourth.
    OrderOfJitter,
    RandAugment,
    TrivialAugment,
    Erasing,
    /// Drawn for each batch, whose number stands in place of the image's.
    Mix,
}

impl Change {
    fn stream(self, seed: u64, image: u64, epoch: u32) -> Stream {
        Stream::new(seed, Purpose::Augmentation, image, epoch, 0, self as u32)
    }
}

impl Augment {
    /// Whether no change is ever made.
    pub fn is_off(&self) -> bool {
        let is_off = Self {
            interpolation: self.interpolation,
            ..Self::default()
        };
        *self == is_off
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`DataError::Option`] with the value that is out of range.
    pub fn validate(&self) -> Result<(), DataError> {
        let within = |option: &'static str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(DataError::option(
                option,
                format!("{value} given; it must be {low} to {high}"),
            ))
        };
        let range = |option: &'static str, [low, high]: [f32; 2], largest: f32| {
            if low > 0.0 && low <= high && high <= largest {
                return Ok(());
            }
            let what = format!("[{low}, {high}] given; it must be smallest and largest, above 0 and at most {largest}");
            Err(DataError::option(option, what))
        };
        within("horizontal_flip", self.horizontal_flip, 0.0, 1.0)?;
        within("brightness", self.brightness, 0.0, 1.0)?;
        within("contrast", self.contrast, 0.0, 1.0)?;
        within("saturation", self.saturation, 0.0, 1.0)?;
        within("hue", self.hue, 0.0, 0.5)?;
        if let Some(crop) = &self.random_resized_crop {
            range("random_resized_crop.scale", crop.scale, 1.0)?;
            range("random_resized_crop.ratio", crop.ratio, 100.0)?;
        }
        if let Some(affine) = &self.affine {
            within("affine.degrees", affine.degrees, 0.0, 180.0)?;
            within("affine.translate", affine.translate, 0.0, 1.0)?;
            range("affine.scale", affine.scale, 100.0)?;
            within("affine.shear", affine.shear, 0.0, 80.0)?;
        }
        if let Some(elastic) = &self.elastic {
            within("elastic.alpha", elastic.alpha, 0.0, 10_000.0)?;
            within("elastic.sigma", elastic.sigma, 0.1, 1_000.0)?;
        }
        if let Some(erasing) = &self.erasing {
            within("erasing.probability", erasing.probability, 0.0, 1.0)?;
            range("erasing.scale", erasing.scale, 1.0)?;
            range("erasing.ratio", erasing.ratio, 100.0)?;
        }
        for (option, alpha) in [("mix.cutmix", self.mix.cutmix), ("mix.mixup", self.mix.mixup)] {
            within(option, alpha.unwrap_or(1.0), 0.001, 1_000.0)?;
        }
        if let Some(RandAugment {
            operations,
            magnitude,
            bins,
        }) = self.rand_augment
        {
            if self.trivial_augment {
                let what = "given beside rand_augment; give one of them".to_owned();
                return Err(DataError::option("trivial_augment", what));
            }
            if !(1..=14).contains(&operations) {
                let what = format!("{operations} given; it must be 1 to 14");
                return Err(DataError::option("rand_augment.operations", what));
            }
            if !(2..=1000).contains(&bins) {
                let what = format!("{bins} given; it must be 2 to 1000");
                return Err(DataError::option("rand_augment.bins", what));
            }
            if magnitude >= bins {
                let what = format!(
                    "{magnitude} given; it must be 0 to {}, below rand_augment.bins",
                    bins - 1
                );
                return Err(DataError::option("rand_augment.magnitude", what));
            }
        }
        Ok(())
    }

    /// The rectangle of an original of so many pixels that is resized to the whole image: left, top, width and height
    /// in pixels, none of which lies outside. None where there is no random crop.
    ///
    /// # Panics
    /// If the original has no pixels.
    pub fn window(&self, seed: u64, image: u64, epoch: u32, width: usize, height: usize) -> Option<[usize; 4]> {
        assert!(width > 0 && height > 0, "an original of {width} x {height} pixels");
        let crop = self.random_resized_crop.as_ref()?;
        Some(crop.draw(&mut Change::Crop.stream(seed, image, epoch), width, height))
    }

    /// Whether an image is mirrored ([`flip`]), after it was cropped.
    pub fn flips(&self, seed: u64, image: u64, epoch: u32) -> bool {
        self.horizontal_flip > 0.0
            && Change::Flip.stream(seed, image, epoch).uniform() < f64::from(self.horizontal_flip)
    }

    /// Makes all changes between mirroring and normalisation, in place: `pixels` is [1 or 3, side, side] in [0, 1],
    /// `image` its index in the data set.
    ///
    /// # Panics
    /// If `pixels` is not one or three planes.
    pub fn apply(&self, pixels: &mut [f32], side: usize, seed: u64, image: u64, epoch: u32) {
        let mut planes = Planes::new(pixels, side, side);
        let stream = |change: Change| change.stream(seed, image, epoch);
        let interpolation = self.interpolation.unwrap_or_default();
        if let Some(rand_augment) = self.rand_augment {
            for (operation, magnitude) in rand_augment.draw(&mut stream(Change::RandAugment), side, side) {
                operation.apply(&mut planes, magnitude, interpolation, None);
            }
        }
        if self.trivial_augment {
            let (operation, magnitude) = automatic::draw_trivial(&mut stream(Change::TrivialAugment), side, side);
            operation.apply(&mut planes, magnitude, interpolation, None);
        }
        if let Some(options) = &self.affine {
            let mut stream = stream(Change::Affine);
            match self.interpolation {
                Some(interpolation) => {
                    affine(
                        &mut planes,
                        &options.draw(&mut stream, side, side),
                        interpolation,
                        Some(0.0),
                    );
                }
                None => SoftChange::draw(options, &mut stream, side).apply(&mut planes),
            }
        }
        self.jitter(&mut planes, &stream);
        if let Some(options) = &self.elastic {
            let displacement = options.draw(&mut stream(Change::Elastic), side, side);
            elastic(&mut planes, &displacement, Interpolation::Bilinear, Some(0.0));
        }
    }

    /// Brightness, contrast, saturation and hue in a drawn order.
    fn jitter(&self, planes: &mut Planes<'_, f32>, stream: &dyn Fn(Change) -> Stream) {
        let factor = |change: Change, reach: f32| {
            let factor = || f64::from(between(&mut stream(change), (1.0 - reach).max(0.0), 1.0 + reach));
            (reach > 0.0).then(factor)
        };
        let bright = factor(Change::Brightness, self.brightness);
        let contrasted = factor(Change::Contrast, self.contrast);
        let saturated = factor(Change::Saturation, self.saturation);
        let turn = || between(&mut stream(Change::Hue), -self.hue, self.hue);
        let turned = (self.hue > 0.0).then(turn);
        for next in stream(Change::OrderOfJitter).permutation(4) {
            match (next, bright, contrasted, saturated, turned) {
                (0, Some(factor), ..) => brightness(planes, factor as f32),
                (1, _, Some(factor), ..) => contrast(planes, factor),
                (2, _, _, Some(factor), _) => saturation(planes, factor),
                (3, .., Some(share)) => hue(planes, share),
                _ => {}
            }
        }
    }

    /// Erases a rectangle of an image after normalisation, in place: `values` is [1 or 3, side, side].
    ///
    /// # Panics
    /// If `values` is not one or three planes.
    pub fn erase(&self, values: &mut [f32], side: usize, seed: u64, image: u64, epoch: u32) {
        let mut planes = Planes::new(values, side, side);
        let mut stream = Change::Erasing.stream(seed, image, epoch);
        if let Some(window) = self
            .erasing
            .as_ref()
            .and_then(|erasing| erasing.draw(&mut stream, side, side))
        {
            erase(&mut planes, window);
        }
    }

    /// How the images of a batch, by its number within the epoch, are mixed; not at all if `None`.
    pub fn mix(&self, seed: u64, epoch: u32, batch: u32, side: usize) -> Option<Mix> {
        if self.mix.is_off() {
            return None;
        }
        self.mix
            .draw(&mut Change::Mix.stream(seed, batch.into(), epoch), side, side)
    }
}

/// Mirrors rows of `width` levels left to right: torchvision's `horizontal_flip`.
pub fn flip<L: Level>(levels: &mut [L], width: usize) {
    levels.chunks_exact_mut(width).for_each(<[L]>::reverse);
}

/// Uniform from `low` to `high`.
fn between(stream: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * stream.uniform() as f32
}

/// Value `at` of `last` + 1 evenly spaced ones, as `torch.linspace` computes it: from both ends, each rounded once.
fn spaced(first: f32, end: f32, at: u32, last: u32) -> f32 {
    let step = f64::from((end - first) / last.max(1) as f32);
    let value = if at < last.div_ceil(2) {
        f64::from(first) + step * f64::from(at)
    } else {
        f64::from(end) - step * f64::from(last.saturating_sub(at))
    };
    value as f32
}

#[cfg(test)]
mod tests;
