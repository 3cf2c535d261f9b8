//! The published objective of a CordsNet trial, in steps.

use serde::{Deserialize, Serialize};

use super::trajectory::Period;
use crate::Real;
use crate::device::Device;
use crate::net::Connections;

/// One trial and what is asked of it.
///
/// No input from r = 0 (no gradient; its end is the spontaneous state) -> image -> no input again;
/// `L = mean_k(w_k CE_k)` over the last `window` image steps, plus `return_weight` times the mean over areas and over
/// the last `return_window` steps after the image of `mean((r_l - spontaneous_l)^2)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Steps without input from r = 0; 0 makes r = 0 the spontaneous state.
    pub spontaneous_steps: usize,
    /// Steps with the image.
    pub stimulus_steps: usize,
    /// Steps without input after the image.
    pub after_steps: usize,
    /// Weight of the cross-entropy at each of the last image steps (as many as there are weights).
    pub ramp: Vec<f64>,
    /// Weight of the return term.
    pub return_weight: f64,
    /// Steps at the end of the trial over which the return term is averaged.
    pub return_window: usize,
}

/// n values from 10^first to 10^last, evenly spaced in the exponent.
pub fn logspace(first: f64, last: f64, n: usize) -> Vec<f64> {
    let exponent = |i: usize| match n {
        1 => first,
        _ => first + (last - first) * i as f64 / (n - 1) as f64,
    };
    (0..n).map(|i| 10f64.powf(exponent(i))).collect()
}

impl Objective {
    /// The published trial: 100 steps each, ramp logspace(-3, 0) over 30 steps, return weight 1e-3 over 10 steps.
    pub fn published() -> Self {
        Self {
            spontaneous_steps: 100,
            stimulus_steps: 100,
            after_steps: 100,
            ramp: logspace(-3.0, 0.0, 30),
            return_weight: 1e-3,
            return_window: 10,
        }
    }

    /// Steps of the part of the trial that has a gradient.
    pub(crate) fn steps(&self) -> usize {
        self.stimulus_steps + self.after_steps
    }

    /// What is shown when, in the part of the trial that has a gradient.
    pub(crate) fn parts(&self) -> Vec<Period> {
        let part = |steps, shows| Period { steps, shows };
        let parts = [part(self.stimulus_steps, true), part(self.after_steps, false)];
        parts.into_iter().filter(|part| part.steps > 0).collect()
    }

    /// Place in the ramp of the state after `step` steps with a gradient.
    pub(crate) fn ramp_index(&self, step: usize) -> Option<usize> {
        let first = self.stimulus_steps + 1 - self.ramp.len();
        (first..=self.stimulus_steps).contains(&step).then(|| step - first)
    }

    /// Whether the state after `step` steps is in the return window.
    pub(crate) fn returns(&self, step: usize) -> bool {
        self.return_window > 0 && step > self.steps() - self.return_window
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.ramp.is_empty() || self.ramp.len() > self.stimulus_steps {
            return Some(format!(
                "the readout window has {} steps, the stimulus {}: it must have at least 1 and fit into the stimulus",
                self.ramp.len(),
                self.stimulus_steps
            ));
        }
        if self.return_window > self.after_steps {
            return Some(format!(
                "the return window has {} steps, the time after the stimulus {}: it must fit",
                self.return_window, self.after_steps
            ));
        }
        let finite = self.ramp.iter().all(|w| w.is_finite() && *w >= 0.0) && self.return_weight.is_finite();
        (!finite || self.return_weight < 0.0).then(|| "a weight of the objective is negative or not finite".to_owned())
    }

    /// Factor of `sum((r_l - spontaneous_l)^2)` at one step of the return window, for a batch of `batch` images.
    pub(crate) fn return_factor<T: Real, D: Device<T>>(
        &self,
        connections: &Connections<T, D>,
        area: usize,
        batch: usize,
    ) -> f64 {
        let areas = connections.architecture.areas();
        1.0 / ((areas * self.return_window) as f64 * connections.maps(area, batch).len() as f64)
    }
}
