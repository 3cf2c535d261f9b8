//! Optimisers, gradient-norm clipping and learning-rate schedules, computed as PyTorch computes them.

use serde::{Deserialize, Serialize};

use super::snapshot::{Number, Snapshot, SnapshotError};
use crate::Real;
use crate::device::{AdamStep, Device};

/// Which rule turns gradients into steps. Both kinds of Adam have betas 0.9 and 0.999 and epsilon 1e-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OptimiserKind {
    /// stochastic gradient descent with momentum
    Sgd,
    /// Adam
    Adam,
    /// Adam with decoupled weight decay
    #[serde(rename = "adamw")]
    AdamW,
}

/// A rule with its numbers (Adam: Kingma and Ba 2015; AdamW: Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSettings {
    /// The rule.
    pub kind: OptimiserKind,
    /// Share of the last velocity that is kept; of SGD alone.
    pub momentum: f64,
    /// Times the parameter it is added to the gradient; with AdamW, times the learning rate it is the share of the
    /// parameter that each step takes away. In training it acts on everything but areas' time constants, which are
    /// logarithms, and parameters of cells.
    pub weight_decay: f64,
}

impl OptimiserSettings {
    /// A rule without momentum.
    pub fn new(kind: OptimiserKind, weight_decay: f64) -> Self {
        Self {
            kind,
            momentum: 0.0,
            weight_decay,
        }
    }
}

const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;
/// Added to the norm before dividing by it, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// An optimiser's memory for one list of parameters.
pub struct Optimiser<T: Real, D: Device<T>> {
    device: D,
    settings: OptimiserSettings,
    steps: u64,
    moments: Vec<[D::Buffer; 2]>,
    /// How many of the last parameters weight decay leaves alone.
    undecayed: usize,
}

impl<T: Real, D: Device<T>> Optimiser<T, D> {
    /// A fresh optimiser for parameters of the given lengths.
    pub fn new(device: &D, settings: OptimiserSettings, lengths: &[usize]) -> Self {
        let second = |length| match settings.kind {
            OptimiserKind::Sgd => 0,
            OptimiserKind::Adam | OptimiserKind::AdamW => length,
        };
        Self {
            device: device.clone(),
            settings,
            steps: 0,
            moments: lengths
                .iter()
                .map(|length| [device.zeros(*length), device.zeros(second(*length))])
                .collect(),
            undecayed: 0,
        }
    }

    /// A fresh optimiser for these parameters.
    pub(crate) fn of(device: &D, settings: OptimiserSettings, parameters: &[D::Buffer]) -> Self {
        let lengths: Vec<usize> = parameters.iter().map(|values| device.download(values).len()).collect();
        Self::new(device, settings, &lengths)
    }

    /// The same without weight decay of so many of the last parameters.
    pub(crate) fn without_decay_of_last(mut self, count: usize) -> Self {
        self.undecayed = count;
        self
    }

    /// Moves the parameters one step against their gradients.
    pub fn step(&mut self, learning_rate: f64, gradients: &[D::Buffer], parameters: &mut [D::Buffer]) {
        self.steps += 1;
        let OptimiserSettings {
            kind,
            momentum,
            weight_decay,
        } = self.settings;
        let decayed = self.moments.len() - self.undecayed;
        let each = gradients.iter().zip(&mut self.moments).zip(parameters);
        for (number, ((gradient, moments), parameter)) in each.enumerate() {
            let weight_decay = if number < decayed { weight_decay } else { 0.0 };
            match kind {
                OptimiserKind::Sgd => {
                    let velocity = &mut moments[0];
                    self.device
                        .sgd_step(learning_rate, momentum, weight_decay, gradient, velocity, parameter);
                }
                OptimiserKind::Adam | OptimiserKind::AdamW => {
                    let step = AdamStep {
                        learning_rate,
                        betas: BETAS,
                        epsilon: EPSILON,
                        weight_decay,
                        decoupled: kind == OptimiserKind::AdamW,
                        step: self.steps,
                    };
                    self.device.adam_step(step, gradient, moments, parameter);
                }
            }
        }
    }
}

impl<T: Real, D: Device<T>> Optimiser<T, D> {
    /// Steps and moments, bit for bit.
    pub(crate) fn save(&self, snapshot: &mut Snapshot)
    where
        T: Number,
    {
        snapshot.put("optimiser.steps", &[self.steps]);
        for (index, moments) in self.moments.iter().enumerate() {
            for (order, moment) in moments.iter().enumerate() {
                snapshot.put_buffer(moment_name(index, order), &self.device, moment);
            }
        }
    }

    /// Takes over what [`save`](Self::save) wrote.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError>
    where
        T: Number,
    {
        self.steps = snapshot.get("optimiser.steps", 1)?[0];
        for (index, moments) in self.moments.iter_mut().enumerate() {
            for (order, moment) in moments.iter_mut().enumerate() {
                snapshot.fill_buffer(&moment_name(index, order), &self.device, moment)?;
            }
        }
        Ok(())
    }
}

fn moment_name(parameter: usize, order: usize) -> String {
    format!("optimiser.{parameter}.moment{}", order + 1)
}

/// Scales all gradients down together where their joint norm exceeds `limit`; returns the norm before.
pub fn clip_gradient_norm<T: Real, D: Device<T>>(device: &D, limit: Option<f64>, gradients: &mut [D::Buffer]) -> f64 {
    let mut reductions = D::Reductions::default();
    for gradient in gradients.iter() {
        device.sum_squares(gradient, &mut reductions);
    }
    let squares = device.read(&mut reductions);
    let norm = squares
        .iter()
        .map(|parts| parts.iter().sum::<f64>())
        .sum::<f64>()
        .sqrt();
    if let Some(limit) = limit {
        let factor = limit / (norm + CLIP_EPSILON);
        if factor < 1.0 {
            for gradient in gradients {
                device.scale(factor, gradient);
            }
        }
    }
    norm
}

/// How the learning rate changes over the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// One and the same rate in every epoch.
    Constant,
    /// Times `factor` after every `epochs` epochs; the warm-up starts anew each time.
    Step {
        /// Epochs at one rate.
        epochs: usize,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Half a cosine over the whole training, from the full rate to `end` times it.
    Cosine {
        /// Share of the rate that is left at the end.
        end: f64,
    },
}

/// A linear rise of the learning rate over the first steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Optimiser steps until the full rate.
    pub steps: usize,
    /// Share of the rate at the first step.
    pub start: f64,
}

/// Learning rate of one optimiser step, from the base rate, schedule and warm-up.
///
/// `step` counts all optimiser steps from 0; `steps_per_epoch` and `epochs` give the length of the training.
pub fn learning_rate(
    base: f64,
    schedule: Schedule,
    warm_up: Option<WarmUp>,
    step: usize,
    steps_per_epoch: usize,
    epochs: usize,
) -> f64 {
    let epoch = step / steps_per_epoch.max(1);
    let (factor, restart) = match schedule {
        Schedule::Constant => (1.0, 0),
        Schedule::Step { epochs, factor } => {
            let stage = epoch / epochs.max(1);
            (factor.powi(stage as i32), stage * epochs.max(1) * steps_per_epoch)
        }
        Schedule::Cosine { end } => {
            let progress = step as f64 / (steps_per_epoch * epochs).max(1) as f64;
            (
                end + (1.0 - end) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                0,
            )
        }
    };
    let warm = warm_up.filter(|warm_up| warm_up.steps > 0).map_or(1.0, |warm_up| {
        let progress = ((step - restart) as f64 / warm_up.steps as f64).min(1.0);
        warm_up.start + (1.0 - warm_up.start) * progress
    });
    base * factor * warm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_schedule_restarts_the_warm_up() {
        let warm_up = Some(WarmUp {
            steps: 5,
            start: 1.0 / 3.0,
        });
        let schedule = Schedule::Step { epochs: 2, factor: 0.1 };
        let rate = |step| learning_rate(0.1, schedule, warm_up, step, 10, 6);
        assert!((rate(0) - 0.1 / 3.0).abs() < 1e-15);
        assert!((rate(5) - 0.1).abs() < 1e-15);
        assert!((rate(19) - 0.1).abs() < 1e-15);
        assert!((rate(20) - 0.01 / 3.0).abs() < 1e-15);
        assert!((rate(59) - 0.001).abs() < 1e-15);
    }

    #[test]
    fn cosine_runs_from_the_full_rate_to_its_end() {
        let rate = |step| learning_rate(2.0, Schedule::Cosine { end: 0.1 }, None, step, 10, 4);
        assert_eq!(rate(0), 2.0);
        assert!((rate(20) - 1.1).abs() < 1e-12);
        assert!((rate(40) - 0.2).abs() < 1e-12);
        assert_eq!(learning_rate(2.0, Schedule::Constant, None, 7, 10, 4), 2.0);
    }
}
