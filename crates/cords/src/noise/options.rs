//! What is evaluated, and whether it can be.

use dynvis_base::{Classified, ErrorKind};
use serde::{Deserialize, Serialize};

use super::pixels::{NoisePresentation, PixelNoise, Pixels, REFERENCE_DT_MS};
use super::statistics::Score;
use super::{Condition, Perturbation};
use crate::data::{DataError, ImageSet};
use crate::device::{DeviceError, Phi};
use crate::net::{Graph, Model, NetError, NeuralNoise, Presentation, unfit};
use dynvis_base::memory::check_room;

/// Which network or control is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observer {
    /// The CordsNet, from its spontaneous state; the answer is read at the end of the presentation.
    Cordsnet,
    /// The CordsNet with the weights of all projections that close loops set to 0, recurrent ones and feedback: what
    /// leaky integration alone does. Not of every network ([`Graph::check_feedforward_rest`]).
    CordsnetWithoutRecurrence,
    /// The CNN on the first frame.
    CnnFirstFrame,
    /// The CNN on the average of the frames that the CordsNet sees.
    CnnMeanFrame,
    /// The CNN on every frame that the CordsNet sees, its logits averaged.
    CnnMeanLogits,
}

impl Observer {
    /// Whether a condition means something to it: a CNN has no current to be noisy in time, and sees images without
    /// noise in one way only.
    pub fn sees(self, condition: &Condition) -> bool {
        match (self, condition.perturbation) {
            (Self::Cordsnet | Self::CordsnetWithoutRecurrence, _) | (_, Perturbation::Pixels { .. }) => true,
            (Self::CnnFirstFrame, Perturbation::Silencing | Perturbation::Weights) => true,
            (_, Perturbation::Neural | Perturbation::Silencing | Perturbation::Weights) => false,
        }
    }
}

/// What is evaluated, and under which conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationOptions {
    /// Networks; all must fit the model.
    pub observers: Vec<Observer>,
    /// Perturbations with their levels.
    pub conditions: Vec<Condition>,
    /// Areas that neural noise, silencing and noise on weights reach; all if none are named.
    #[serde(default)]
    pub areas: Option<Vec<usize>>,
    /// Durations of the spontaneous phase (without noise) and of the image.
    pub presentation: Presentation,
    /// Step in ms at which the frames follow each other that a CNN sees the mean of; a CordsNet has its own.
    pub dt_ms: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// Number of the repetition: other draws at the same seed.
    #[serde(default)]
    pub trial: u32,
}

impl Default for EvaluationOptions {
    /// The CordsNet in all its areas through the published presentation, under no condition yet.
    fn default() -> Self {
        Self {
            observers: vec![Observer::Cordsnet],
            conditions: Vec::new(),
            areas: None,
            presentation: Presentation::published(),
            dt_ms: REFERENCE_DT_MS,
            seed: 0,
            trial: 0,
        }
    }
}

impl EvaluationOptions {
    pub(super) fn perturbed_areas(&self, architecture: &Graph) -> Vec<usize> {
        self.areas
            .clone()
            .unwrap_or_else(|| (0..architecture.areas()).collect())
    }

    pub(super) fn pixel_noise(&self, condition: &Condition, dt_ms: f64) -> Option<(PixelNoise, bool)> {
        let Perturbation::Pixels { noise, timing, clip } = condition.perturbation else {
            return None;
        };
        let noise = PixelNoise {
            seed: self.seed,
            trial: self.trial,
            pixels: noise,
            timing,
            level: condition.level,
            dt_ms,
        };
        Some((noise, clip))
    }

    pub(super) fn neural_noise(
        &self,
        condition: &Condition,
        architecture: &Graph,
        images: &[u32],
    ) -> Option<NeuralNoise> {
        (condition.perturbation == Perturbation::Neural).then(|| NeuralNoise {
            seed: self.seed,
            trial: self.trial,
            images: images.iter().map(|image| u64::from(*image)).collect(),
            std: condition.level,
            areas: self.perturbed_areas(architecture),
        })
    }
}

/// An evaluation that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The model's parameters do not make a network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// An observer that needs the other kind of model.
    #[error("observer {observer:?} needs a {needed} model, but the model is a {found}")]
    Observer {
        /// Observer that was asked for.
        observer: Observer,
        /// Kind that it needs.
        needed: &'static str,
        /// Kind of the model.
        found: &'static str,
    },
    /// Images and model do not fit together.
    #[error("the image set has {what} {found}, but the model takes {expected}; prepare the images for this model")]
    Mismatch {
        /// Property in which image set and model differ.
        what: &'static str,
        /// Value that the image set has.
        found: String,
        /// Value that the model needs.
        expected: String,
    },
    /// An option outside its range.
    #[error("{option}: {what}")]
    Option {
        /// Name of the option that is at fault.
        option: &'static str,
        /// What is wrong with it and what would be right.
        what: String,
    },
    /// Images that are read while a network is evaluated cannot be.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device has failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Classified for NoiseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Net(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Observer { .. } | Self::Mismatch { .. } | Self::Option { .. } => ErrorKind::Input,
        }
    }
}

/// Images of a group at least.
const GROUP: u64 = 8;

/// Whether model, images and options fit together, as [`evaluate`](super::evaluate()) finds them.
///
/// # Errors
/// What does not.
pub fn check(model: &Model, set: &ImageSet, images: &[u32], options: &EvaluationOptions) -> Result<(), NoiseError> {
    let architecture = model.architecture();
    let mismatch = |what: &'static str, found: String, expected: String| {
        if found == expected {
            Ok(())
        } else {
            Err(NoiseError::Mismatch { what, found, expected })
        }
    };
    mismatch(
        "channels",
        set.channels().to_string(),
        architecture.in_channels().to_string(),
    )?;
    mismatch(
        "image side",
        set.side().to_string(),
        architecture.image_side().to_string(),
    )?;
    mismatch(
        "classes",
        set.classes().len().to_string(),
        architecture.classes().to_string(),
    )?;
    let info = model.info();
    if !info.classes.is_empty() {
        mismatch(
            "class names",
            format!("{:?}", set.classes()),
            format!("{:?}", info.classes),
        )?;
    }
    if !info.mean.is_empty() {
        let constants = [info.mean.len(), info.std.len()];
        mismatch(
            "channels",
            format!("{:?}", [set.channels(); 2]),
            format!("{constants:?}"),
        )?;
    }
    let is_cordsnet = matches!(model, Model::CordsNet { .. });
    if is_cordsnet && options.observers.contains(&Observer::CordsnetWithoutRecurrence) {
        architecture.check_feedforward_rest()?;
    }
    let option = |option: &'static str, what: String| Err(NoiseError::Option { option, what });
    if images.is_empty() {
        return option("images", "none given; the part of the image set is empty".to_owned());
    }
    if let Some(image) = images.iter().find(|image| **image as usize >= set.len()) {
        return option(
            "images",
            format!("index {image} given, but the set has {} images", set.len()),
        );
    }
    for condition in &options.conditions {
        let level = condition.level;
        if !(level.is_finite() && level >= 0.0) {
            return option("level", format!("{level} given; it must be finite and not negative"));
        }
        let is_fraction = match condition.perturbation {
            Perturbation::Pixels { noise, timing, .. } => {
                if let NoisePresentation::OrnsteinUhlenbeck { tau_ms } = timing {
                    if !noise.is_normal() {
                        return option(
                            "timing",
                            format!("{noise:?} noise cannot be correlated in time; only normal noise can"),
                        );
                    }
                    if !(tau_ms.is_finite() && tau_ms > 0.0) {
                        return option("tau_ms", format!("{tau_ms} given; it must be above 0"));
                    }
                }
                if let Pixels::Correlated { length } = noise
                    && !(length > 0.0 && length <= set.side() as f64)
                {
                    let side = set.side();
                    return option(
                        "length",
                        format!("{length} given; it must be above 0 and at most {side} pixels"),
                    );
                }
                noise == Pixels::Impulse
            }
            Perturbation::Silencing => true,
            Perturbation::Neural | Perturbation::Weights => false,
        };
        if is_fraction && level > 1.0 {
            return option("level", format!("{level} given; a fraction must not be above 1"));
        }
        if let (Perturbation::Silencing, Model::CordsNet { phi, .. }) = (condition.perturbation, model)
            && *phi != Phi::Relu
        {
            return option(
                "silencing",
                format!("units of phi = {phi:?} cannot be silenced; only those of ReLU can"),
            );
        }
    }
    if let Some(area) = options
        .areas
        .iter()
        .flatten()
        .find(|area| **area >= architecture.areas())
    {
        let areas = architecture.areas();
        return option(
            "areas",
            format!("{area} given, but the model has areas 0 to {}", areas - 1),
        );
    }
    if !(options.dt_ms.is_finite() && options.dt_ms > 0.0) {
        return option("dt_ms", format!("{} given; it must be above 0", options.dt_ms));
    }
    let Presentation {
        spontaneous_ms,
        stimulus_ms,
    } = options.presentation;
    let dt_ms = match model {
        Model::CordsNet { euler, .. } => euler.dt_ms,
        Model::Cnn { .. } => options.dt_ms,
    };
    // A CNN has no time without an image, and sees one frame unless frames change.
    if is_cordsnet && let Some(problem) = unfit(spontaneous_ms, dt_ms, 0) {
        return option("spontaneous_ms", problem);
    }
    if (is_cordsnet || options.conditions.iter().any(Condition::has_frames))
        && let Some(problem) = unfit(stimulus_ms, dt_ms, 1)
    {
        let whose = if is_cordsnet {
            ""
        } else {
            ", at which the frames that a CNN sees follow each other"
        };
        return option("stimulus_ms", format!("{problem}{whose}"));
    }
    if !(stimulus_ms.is_finite() && stimulus_ms > 0.0) {
        return option("stimulus_ms", format!("{stimulus_ms} given; it must be above 0"));
    }
    let steps = if is_cordsnet {
        (stimulus_ms / dt_ms).round() as u64
    } else {
        0
    };
    // For each group of images and step two counts, for each image its score.
    let (images, conditions) = (images.len() as u64, options.conditions.len() as u64);
    let counts = images.div_ceil(GROUP) * steps * size_of::<[usize; 2]>() as u64;
    let each = counts + images * size_of::<Score>() as u64;
    check_room(conditions.saturating_mul(each)).or_else(|error| {
        let problem = format!("{images} images under {conditions} conditions, over {steps} steps: {error}");
        option("stimulus_ms", problem)
    })
}
