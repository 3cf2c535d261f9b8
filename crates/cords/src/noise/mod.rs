//! Gaussian noise on images, and how well networks classify under it.
//!
//! Noise is added in pixel units [0, 1], before normalisation. Draws are named by (seed, image, trial, step), so they
//! do not depend on the level, on the batch or on threads: a level only scales them.

mod evaluate;
mod statistics;

pub use evaluate::{EvaluationOptions, NoiseError, NoiseResult, Observer, TimePoint, evaluate};
pub use statistics::wilson_interval;

use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Step in ms at which levels of dynamic noise are stated.
pub const REFERENCE_DT_MS: f64 = 2.0;

/// When noise is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// One draw per image, held while the image is shown.
    Static,
    /// A fresh draw at every step. The level is the standard deviation of a step of 2 ms and scales with
    /// sqrt(2 ms / dt): a finer step is the same experiment.
    Dynamic,
}

/// One way of perturbing images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// When noise is drawn.
    pub timing: Timing,
    /// Standard deviation in pixel units [0, 1] (for dynamic noise at a step of 2 ms); 0 is the clean image.
    pub level: f64,
}

/// Gaussian pixel noise of one condition at one step size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageNoise {
    /// Seed of all draws.
    pub seed: u64,
    /// Number of the repetition.
    pub trial: u32,
    /// When noise is drawn, and how strong.
    pub condition: Condition,
    /// Whether pixels are clipped to [0, 1] after the noise is added.
    pub clip: bool,
    /// Step in ms.
    pub dt_ms: f64,
}

impl ImageNoise {
    /// Standard deviation of one frame's noise in pixel units, before clipping.
    pub fn frame_std(&self) -> f64 {
        match self.condition.timing {
            Timing::Static => self.condition.level,
            Timing::Dynamic => self.condition.level * (REFERENCE_DT_MS / self.dt_ms).sqrt(),
        }
    }

    /// Whether every step of a presentation shows the same frame.
    pub fn is_held(&self) -> bool {
        self.condition.timing == Timing::Static || self.condition.level == 0.0
    }

    /// Writes the frame shown at `step`: `clean` plus noise. Both are in [0, 1] before normalisation; `image` is the
    /// index of the image in its data set. Static noise is the draw that dynamic noise has at step 0.
    pub fn frame(&self, clean: &[f32], image: u64, step: u32, out: &mut [f32]) {
        let std = self.frame_std() as f32;
        if std == 0.0 {
            out.copy_from_slice(clean);
        } else {
            let step = if self.is_held() { 0 } else { step };
            Stream::new(self.seed, Purpose::ImageNoise, image, self.trial, step, 0).normal_fill(out);
            for (value, clean) in out.iter_mut().zip(clean) {
                *value = clean + std * *value;
            }
        }
        if self.clip {
            out.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        }
    }
}
