//! Parameters of `train` that say how training images are changed at random.

use cords::data::augment::Interpolation;
use cords::data::{Affine, Augment, Elastic, MixOptions, RandAugment, RandomErasing, RandomResizedCrop};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Random changes of training images, fresh in every epoch, as torchvision's transforms of the same names (v2) in this
/// order: crop, mirror, RandAugment or TrivialAugment, affine change, colour jitter, elastic deformation, erasing,
/// mixing of the batch. All off by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AugmentParams {
    /// Largest rotation of a training image (RandomAffine).
    #[schemars(range(min = 0.0, max = 180.0), extend("x-unit" = "degrees"))]
    degrees: f64,
    /// Largest shift, as a fraction of the side (RandomAffine).
    #[schemars(range(min = 0.0, max = 1.0))]
    translate: f64,
    /// Range of the scale: [least, largest]; images keep their size if not given (RandomAffine).
    #[schemars(length(min = 2, max = 2))]
    scale: Option<Vec<f64>>,
    /// Largest shear of a training image along its rows (RandomAffine).
    #[schemars(range(min = 0.0, max = 89.0), extend("x-unit" = "degrees"))]
    shear: f64,
    /// Mirror left and right with probability 1/2 (RandomHorizontalFlip).
    flip: bool,
    /// Largest relative change of brightness (ColorJitter).
    #[schemars(range(min = 0.0, max = 1.0))]
    brightness: f64,
    /// Largest relative change of contrast (ColorJitter).
    #[schemars(range(min = 0.0, max = 1.0))]
    contrast: f64,
    /// Strength of elastic deformation: `alpha` of ElasticTransform; 0 for none.
    #[schemars(range(min = 0.0), extend("x-unit" = "half px"))]
    elastic_alpha: f64,
    /// Smoothness of elastic deformation: `sigma` of ElasticTransform.
    #[schemars(range(min = 0.0), extend("x-unit" = "px"))]
    elastic_sigma: f64,
    /// Random resized crop: range of the area, [least, largest], as fractions of the image; no crop if not given. The
    /// shape is drawn from 3/4 to 4/3 (RandomResizedCrop).
    #[schemars(length(min = 2, max = 2))]
    crop: Option<Vec<f64>>,
    /// Largest relative change of saturation (ColorJitter).
    #[schemars(range(min = 0.0, max = 1.0))]
    saturation: f64,
    /// Largest change of hue, as a share of the full circle (ColorJitter).
    #[schemars(range(min = 0.0, max = 0.5))]
    hue: f64,
    /// How levels between pixels are found in affine changes as torchvision computes them, those of `rand_augment` and
    /// `trivial_augment` included. If not given, `degrees`, `translate`, `scale` and `shear` interpolate bilinearly as
    /// if black surrounded the image, and the others take the nearest pixel.
    interpolation: Option<Interpolation>,
    /// Some operations of 14, all of one magnitude (RandAugment; Cubuk et al. 2020); `{}` for the 2 of magnitude 9 of
    /// 31 that are published, none if not given.
    rand_augment: Option<RandAugment>,
    /// One operation of 14, of a random magnitude (TrivialAugmentWide; Müller and Hutter 2021).
    trivial_augment: bool,
    /// Probability that a rectangle of 2 % to 33 % of the normalised image becomes 0 (RandomErasing; Zhong et al.
    /// 2020).
    #[schemars(range(min = 0.0, max = 1.0))]
    erasing: f64,
    /// CutMix: alpha of the Beta distribution of the area that stays; none if not given (Yun et al. 2019). With
    /// `mixup`, one of both is drawn for each batch.
    #[schemars(range(min = 0.001, max = 1000.0))]
    cutmix: Option<f64>,
    /// MixUp: alpha of the Beta distribution of the weight; none if not given (Zhang et al. 2018). With `cutmix`, one
    /// of both is drawn for each batch.
    #[schemars(range(min = 0.001, max = 1000.0))]
    mixup: Option<f64>,
}

impl AugmentParams {
    /// As the engine takes them.
    pub(super) fn augmentation(&self) -> Augment {
        let pair = |values: &Option<Vec<f64>>| values.as_deref().and_then(two).map(|pair| pair.map(|v| v as f32));
        let affine = self.degrees > 0.0 || self.translate > 0.0 || self.scale.is_some() || self.shear > 0.0;
        Augment {
            random_resized_crop: pair(&self.crop).map(|scale| RandomResizedCrop {
                scale,
                ..RandomResizedCrop::default()
            }),
            horizontal_flip: if self.flip { 0.5 } else { 0.0 },
            rand_augment: self.rand_augment,
            trivial_augment: self.trivial_augment,
            affine: affine.then(|| Affine {
                degrees: self.degrees as f32,
                translate: self.translate as f32,
                scale: pair(&self.scale).unwrap_or([1.0, 1.0]),
                shear: self.shear as f32,
            }),
            interpolation: self.interpolation,
            brightness: self.brightness as f32,
            contrast: self.contrast as f32,
            saturation: self.saturation as f32,
            hue: self.hue as f32,
            elastic: (self.elastic_alpha > 0.0).then_some(Elastic {
                alpha: self.elastic_alpha as f32,
                sigma: self.elastic_sigma as f32,
            }),
            erasing: (self.erasing > 0.0).then(|| RandomErasing {
                probability: self.erasing as f32,
                ..RandomErasing::default()
            }),
            mix: MixOptions {
                cutmix: self.cutmix.map(|alpha| alpha as f32),
                mixup: self.mixup.map(|alpha| alpha as f32),
            },
        }
    }

    /// Whether images are changed otherwise than they were before torchvision's arithmetic was taken over.
    pub(super) fn is_new(&self) -> bool {
        let mut since = Augment {
            horizontal_flip: 0.0,
            ..self.augmentation()
        };
        // Affine changes by themselves are computed as they were, too.
        if self.interpolation.is_none() && !self.flip {
            since.affine = None;
        }
        !since.is_off()
    }
}

/// Two numbers; a list of more or fewer has been refused already.
pub(super) fn two(values: &[f64]) -> Option<[f64; 2]> {
    values.try_into().ok()
}
