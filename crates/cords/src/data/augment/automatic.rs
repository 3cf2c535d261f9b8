//! RandAugment (Cubuk et al. 2020) and TrivialAugment (Müller and Hutter 2021), as torchvision has them.

use serde::{Deserialize, Serialize};

use super::colour::{autocontrast, brightness, contrast, equalize, posterize, saturation, sharpness, solarize};
use super::geometry::{AffineChange, Interpolation, affine, rotate};
use super::planes::{Level, Planes};
use super::spaced;
use crate::rng::Stream;

/// Several operations of the fourteen one after another, each drawn with equal probability and of the same magnitude
/// (torchvision's `RandAugment`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Operations for each image.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 14)))]
    pub operations: u32,
    /// Magnitude of the operations: the number of a bin, from 0.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 999)))]
    pub magnitude: u32,
    /// Bins that the range of magnitudes is divided into.
    #[cfg_attr(feature = "schema", schemars(range(min = 2, max = 1000)))]
    pub bins: u32,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            operations: 2,
            magnitude: 9,
            bins: 31,
        }
    }
}

/// One operation of the fourteen, of a magnitude drawn from 31 (torchvision's `TrivialAugmentWide`).
const TRIVIAL_BINS: u32 = 31;

/// An operation of RandAugment and TrivialAugment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Rows are shifted by the magnitude times their distance from the upper edge.
    ShearX,
    /// Columns are shifted by the magnitude times their distance from the left edge.
    ShearY,
    /// Shift to the right by so many pixels.
    TranslateX,
    /// Shift down by so many pixels.
    TranslateY,
    /// Rotation by so many degrees against the clock.
    Rotate,
    /// [`brightness`] by 1 plus the magnitude.
    Brightness,
    /// [`saturation`] by 1 plus the magnitude.
    Color,
    /// [`contrast`] by 1 plus the magnitude.
    Contrast,
    /// [`sharpness`] by 1 plus the magnitude.
    Sharpness,
    /// [`posterize`] to so many bits.
    Posterize,
    /// [`solarize`] from this share of the largest level on.
    Solarize,
    /// [`autocontrast`].
    AutoContrast,
    /// [`equalize`].
    Equalize,
}

/// How large an operation's magnitudes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magnitudes {
    /// Those of RandAugment.
    RandAugment,
    /// The wider ones of TrivialAugment.
    TrivialAugmentWide,
}

impl Operation {
    /// All of them, in torchvision's order.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Whether its magnitude is taken with either sign.
    pub fn is_signed(self) -> bool {
        !matches!(
            self,
            Self::Identity | Self::Posterize | Self::Solarize | Self::AutoContrast | Self::Equalize
        )
    }

    /// The magnitude of a bin of `bins`, for an image of so many pixels; 0 for operations that have none.
    pub fn magnitude(self, magnitudes: Magnitudes, bin: u32, bins: u32, width: usize, height: usize) -> f64 {
        let wide = magnitudes == Magnitudes::TrivialAugmentWide;
        let choose = |narrow: f64, of_wide: f64| if wide { of_wide } else { narrow };
        let last = bins.saturating_sub(1).max(1);
        let up_to = |largest: f64| f64::from(spaced(0.0, largest as f32, bin, last));
        let shift = |size: usize| up_to(choose(150.0 / 331.0 * size as f64, 32.0));
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => 0.0,
            Self::ShearX | Self::ShearY => up_to(choose(0.3, 0.99)),
            Self::TranslateX => shift(width),
            Self::TranslateY => shift(height),
            Self::Rotate => up_to(choose(30.0, 135.0)),
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => up_to(choose(0.9, 0.99)),
            Self::Posterize => {
                let bins_of_a_bit = (f64::from(last) / choose(4.0, 6.0)) as f32;
                f64::from((8.0 - bin as f32 / bins_of_a_bit).round_ties_even())
            }
            Self::Solarize => f64::from(spaced(1.0, 0.0, bin, last)),
        }
    }

    /// Changes an image, by a magnitude with its sign.
    pub fn apply<L: Level>(
        self,
        image: &mut Planes<'_, L>,
        magnitude: f64,
        interpolation: Interpolation,
        fill: Option<L>,
    ) {
        let corner = [-0.5 * image.width() as f64, -0.5 * image.height() as f64];
        let mut by = |change: AffineChange| affine(image, &change, interpolation, fill);
        let none = AffineChange::default();
        let angle = magnitude.atan().to_degrees();
        match self {
            Self::Identity => {}
            Self::ShearX => by(AffineChange {
                shear: [angle, 0.0],
                centre: corner,
                ..none
            }),
            Self::ShearY => by(AffineChange {
                shear: [0.0, angle],
                centre: corner,
                ..none
            }),
            Self::TranslateX => by(AffineChange {
                translate: [magnitude.trunc(), 0.0],
                ..none
            }),
            Self::TranslateY => by(AffineChange {
                translate: [0.0, magnitude.trunc()],
                ..none
            }),
            Self::Rotate => rotate(image, magnitude, interpolation, fill),
            Self::Brightness => brightness(image, (1.0 + magnitude) as f32),
            Self::Color => saturation(image, 1.0 + magnitude),
            Self::Contrast => contrast(image, 1.0 + magnitude),
            Self::Sharpness => sharpness(image, 1.0 + magnitude),
            Self::Posterize => posterize(image, magnitude as u32),
            Self::Solarize => solarize(image, (f64::from(L::BOUND) * magnitude) as f32),
            Self::AutoContrast => autocontrast(image),
            Self::Equalize => equalize(image),
        }
    }

    fn draw(stream: &mut Stream) -> Self {
        Self::ALL[stream.below(Self::ALL.len() as u64) as usize]
    }

    /// The magnitude with a drawn sign. Operations without one draw it as well, so that the draws that follow do not
    /// depend on which operation it is.
    fn with_sign(self, magnitude: f64, stream: &mut Stream) -> f64 {
        let negative = stream.uniform() < 0.5;
        if negative && self.is_signed() {
            -magnitude
        } else {
            magnitude
        }
    }
}

impl RandAugment {
    /// Draws the operations with their magnitudes, for an image of so many pixels.
    pub(super) fn draw(self, stream: &mut Stream, width: usize, height: usize) -> Vec<(Operation, f64)> {
        let one = |_| {
            let operation = Operation::draw(stream);
            let magnitudes = Magnitudes::RandAugment;
            let magnitude = operation.magnitude(magnitudes, self.magnitude, self.bins, width, height);
            (operation, operation.with_sign(magnitude, stream))
        };
        (0..self.operations).map(one).collect()
    }
}

/// Draws the operation of TrivialAugment and its magnitude, for an image of so many pixels.
pub(super) fn draw_trivial(stream: &mut Stream, width: usize, height: usize) -> (Operation, f64) {
    let operation = Operation::draw(stream);
    let bin = stream.below(u64::from(TRIVIAL_BINS)) as u32;
    let magnitudes = Magnitudes::TrivialAugmentWide;
    let magnitude = operation.magnitude(magnitudes, bin, TRIVIAL_BINS, width, height);
    (operation, operation.with_sign(magnitude, stream))
}
