//! Noise on images, inside networks and on their weights, and how well networks classify under it and under published
//! corruptions of images.
//!
//! Noise on images is added in pixel units [0, 1], before normalisation. Draws are named by (seed, image, trial, step,
//! area), so they do not depend on the batch, on threads or on the device, and a level only scales them.

mod corruption_error;
mod corruptions;
mod evaluate;
mod frames;
mod networks;
mod options;
mod pixels;
mod robustness;
mod statistics;

pub use corruption_error::{
    ALEXNET_CLEAN_ERROR, Baseline, CorruptionAnswers, CorruptionError, CorruptionErrors, alexnet, corruption_errors,
};
pub use corruptions::{VersionResult, drawn_noise, evaluate_versions};
pub use evaluate::{AreaChange, NoiseResult, TimePoint, evaluate};
pub use options::{EvaluationOptions, NoiseError, Observer, check};
pub use pixels::{FrameSequence, NoisePresentation, PixelNoise, Pixels, REFERENCE_DT_MS, Severities};
pub use robustness::{Estimate, Measured, Robustness, ThresholdPosition, robustness};
pub use statistics::wilson_interval;

use serde::{Deserialize, Serialize};

/// What is perturbed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Perturbation {
    /// Pixels of the images are perturbed.
    Pixels {
        /// Kind of noise on pixels.
        noise: Pixels,
        /// When it is drawn.
        timing: NoisePresentation,
        /// Whether noisy pixels are clipped to [0, 1].
        clip: bool,
    },
    /// The current inside the activation function of a CordsNet ([`NeuralNoise`](crate::net::NeuralNoise)), from image
    /// onset on.
    Neural,
    /// Units of a network are silenced, each with a probability of `level`: those of one level are among those of every
    /// higher.
    Silencing,
    /// Every weight of an area's recurrent convolution and of those of projections to it, shortcuts aside, becomes w
    /// (1 + level xi), xi normal.
    Weights,
}

/// A perturbation at a level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What is perturbed, and how.
    pub perturbation: Perturbation,
    /// How much; 0 is not at all. See [`Pixels`], [`NeuralNoise`](crate::net::NeuralNoise) and [`Perturbation`] for its
    /// units.
    pub level: f64,
}

impl Condition {
    /// Whether nothing is perturbed.
    pub fn is_clean(&self) -> bool {
        self.level == 0.0
    }

    /// Whether what is shown changes in time.
    fn has_frames(&self) -> bool {
        let changes = |timing| timing != NoisePresentation::Static;
        matches!(self.perturbation, Perturbation::Pixels { timing, .. } if changes(timing))
    }
}
