//! Training: batches of trials, Adam, a curriculum over delays, and an end when held-out images are answered well enough.

use std::ops::ControlFlow;

use dfdx::tensor::{Cpu, Gradients, TensorFromVec};
use dfdx::tensor_ops::AdamConfig;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::experiment::{GROUP, Presented, Setting};
use super::source::Responses;
use super::tasks::{Delay, Pool};
use super::{AssocError, Layout, Objective, Share, Weights, group_gradient};

/// How long and how fast is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// Loss and penalties.
    pub objective: Objective,
    /// Gradient steps at most.
    pub steps: usize,
    /// Trials of a step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Largest Euclidean norm of the gradient; longer ones are shortened to it.
    pub clip: f64,
    /// Different trials that are learned from. Delays and noise are new each time.
    pub distinct: u64,
    /// Steps between validations.
    pub validate_every: usize,
    /// Trials of a validation.
    pub validation_trials: usize,
    /// Accuracy on validation images at which the next delay is taken in, and at which training ends after the last.
    pub criterion: f64,
    /// Validations in a row that must reach the criterion at its end.
    pub patience: usize,
    /// Whether delays are taken in one by one, the shortest first.
    pub curriculum: bool,
}

impl TrainOptions {
    /// Checks that the numbers can be trained with.
    ///
    /// # Errors
    /// [`AssocError::Setting`].
    pub fn validate(&self) -> Result<(), AssocError> {
        let wrong = |setting, problem: String| Err(AssocError::setting(setting, problem));
        for (name, value) in [
            ("steps", self.steps),
            ("batch", self.batch),
            ("validate_every", self.validate_every),
            ("validation_trials", self.validation_trials),
            ("patience", self.patience),
            ("distinct", self.distinct as usize),
        ] {
            if value == 0 {
                return wrong(name, "0; give at least 1".into());
            }
        }
        for (name, value) in [("learning_rate", self.learning_rate), ("clip", self.clip)] {
            if !(value.is_finite() && value > 0.0) {
                return wrong(name, format!("{value}; give more than 0"));
            }
        }
        for (name, value) in [
            ("rate_penalty", self.objective.rate),
            ("weight_penalty", self.objective.weight),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(name, format!("{value}; give 0 or more"));
            }
        }
        Ok(())
    }
}

/// A validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainRecord {
    /// Gradient steps done.
    pub step: usize,
    /// Trials seen.
    pub trials: u64,
    /// Share of the delays in use.
    pub delays: f64,
    /// Mean objective since the last validation.
    pub objective: f64,
    /// Mean loss since the last validation.
    pub loss: f64,
    /// Mean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Answers on validation images.
    pub answers: usize,
    /// Those that were right.
    pub right: usize,
}

impl TrainRecord {
    /// Accuracy on validation images.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.answers.max(1) as f64
    }
}

/// What training came to.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The weights at the end.
    pub weights: Weights<f32>,
    /// Validations, the first one before any step.
    pub records: Vec<TrainRecord>,
    /// Whether the criterion was reached.
    pub reached: bool,
}

/// Trials of training are numbered from 0, those of validation and test from these on: none is ever in two of them.
const VALIDATION: u64 = 1 << 40;
/// See [`VALIDATION`].
pub(super) const TEST: u64 = 1 << 41;

/// Trains from given weights on trials of the pool `train`, watching the pool `validation`.
///
/// # Errors
/// [`AssocError`]: what does not fit, [`AssocError::Diverged`], [`AssocError::Stopped`] where `observe` breaks off.
pub fn train(
    layout: &Layout,
    start: Weights<f32>,
    setting: &Setting<'_>,
    responses: &mut Responses<'_>,
    pools: (&Pool, &Pool),
    options: &TrainOptions,
    observe: &mut dyn FnMut(&TrainRecord) -> ControlFlow<()>,
) -> Result<Trained, AssocError> {
    layout.validate()?;
    options.validate()?;
    start.check(layout)?;
    let (pool, validation) = pools;
    let delays = setting.timing.delays.len().max(1);
    let mut level = if options.curriculum { 1 } else { delays };
    let mut weights = start;
    let mut adam = Adam::new(&weights, options.learning_rate)?;
    let mut records: Vec<TrainRecord> = Vec::new();
    let (mut passed, mut seen) = (0, 0u64);
    let (mut objective, mut loss, mut norms, mut since) = (0.0, 0.0, 0.0, 0usize);
    for step in 0..=options.steps {
        let share = level as f64 / delays as f64;
        if step % options.validate_every == 0 || step == options.steps {
            let trials = setting.draw(
                validation,
                VALIDATION,
                options.validation_trials,
                None,
                Delay::UpTo(share),
            );
            setting.prepare(responses, &trials, layout.dt_ms)?;
            let acting = weights.effective(layout);
            let answers = setting.run(layout, &acting, responses, &trials, true, &mut |_, _| {})?;
            let mean = |sum: f64| if since == 0 { 0.0 } else { sum / since as f64 };
            let record = TrainRecord {
                step,
                trials: seen,
                delays: share,
                objective: mean(objective),
                loss: mean(loss),
                gradient_norm: mean(norms),
                answers: answers.len(),
                right: answers.iter().filter(|answer| answer.is_right()).count(),
            };
            (objective, loss, norms, since) = (0.0, 0.0, 0.0, 0);
            records.push(record);
            if observe(&record).is_break() {
                return Err(AssocError::Stopped);
            }
            passed = if record.accuracy() >= options.criterion {
                passed + 1
            } else {
                0
            };
            if level < delays && passed > 0 {
                (level, passed) = (level + 1, 0);
            } else if passed >= options.patience {
                return Ok(Trained {
                    weights,
                    records,
                    reached: true,
                });
            }
        }
        if step == options.steps {
            break;
        }
        let share = level as f64 / delays as f64;
        let trials = setting.draw(pool, seen, options.batch, Some(options.distinct), Delay::UpTo(share));
        seen += options.batch as u64;
        setting.prepare(responses, &trials, layout.dt_ms)?;
        let found = batch_gradient(layout, &weights, setting, responses, &trials, &options.objective)?;
        let norm = adam.step(found.gradient, options.clip, &mut weights)?;
        if !(found.objective.is_finite() && norm.is_finite()) {
            return Err(AssocError::Diverged { step });
        }
        objective += found.objective;
        loss += found.loss;
        norms += norm;
        since += 1;
    }
    Ok(Trained {
        weights,
        records,
        reached: false,
    })
}

/// Loss and gradient of a batch.
struct BatchGradient {
    objective: f64,
    loss: f64,
    gradient: Weights<f32>,
}

/// Groups side by side, summed in their order.
fn batch_gradient(
    layout: &Layout,
    weights: &Weights<f32>,
    setting: &Setting<'_>,
    responses: &Responses<'_>,
    trials: &[Presented],
    objective: &Objective,
) -> Result<BatchGradient, AssocError> {
    let groups = trials
        .par_chunks(GROUP)
        .with_max_len(1)
        .map(|presented| setting.group(layout, responses, presented, true))
        .collect::<Result<Vec<_>, _>>()?;
    let mask: f64 = groups
        .iter()
        .flat_map(|group| &group.mask)
        .map(|mask| f64::from(*mask))
        .sum();
    let found = groups
        .par_iter()
        .with_max_len(1)
        .map(|group| {
            let share = Share {
                mask,
                trials: group.trials as f64 / trials.len() as f64,
            };
            group_gradient(layout, weights, group, objective, share, false)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut sum = BatchGradient {
        objective: 0.0,
        loss: 0.0,
        gradient: Weights::zeros(layout),
    };
    for one in found {
        sum.objective += one.objective;
        sum.loss += one.loss;
        for (sum, one) in sum.gradient.blocks_mut().into_iter().zip(one.weights.blocks()) {
            sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
    }
    Ok(sum)
}

/// Adam over the four blocks, by dfdx's update with moments that are kept under each block's tensor.
struct Adam {
    config: AdamConfig,
    steps: i32,
    parameters: Vec<dfdx::tensor::Tensor<(usize,), f32, Cpu>>,
    first: Gradients<f32, Cpu>,
    second: Gradients<f32, Cpu>,
}

impl Adam {
    fn new(weights: &Weights<f32>, learning_rate: f64) -> Result<Self, AssocError> {
        let device = Cpu::default();
        let parameters = weights
            .blocks()
            .into_iter()
            .map(|block| device.try_tensor_from_vec(block.clone(), (block.len(),)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            config: AdamConfig {
                lr: learning_rate,
                ..AdamConfig::default()
            },
            steps: 0,
            parameters,
            first: Gradients::leaky(),
            second: Gradients::leaky(),
        })
    }

    /// One step along a gradient of which the norm, returned, is cut at `clip`.
    fn step(&mut self, mut gradient: Weights<f32>, clip: f64, weights: &mut Weights<f32>) -> Result<f64, AssocError> {
        let squares = gradient.blocks().into_iter().flatten().map(|g| f64::from(*g).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        if norm > clip {
            let scale = (clip / norm) as f32;
            gradient.blocks_mut().into_iter().flatten().for_each(|g| *g *= scale);
        }
        self.steps += 1;
        let blocks = gradient.blocks().into_iter().zip(weights.blocks_mut());
        for (parameter, (gradient, block)) in self.parameters.iter_mut().zip(blocks) {
            let mut own = Gradients::leaky();
            own.get_or_alloc_mut(parameter)?.copy_from_slice(gradient);
            let (first, second) = (
                self.first.get_or_alloc_mut(parameter)?,
                self.second.get_or_alloc_mut(parameter)?,
            );
            self.config
                .try_update(self.steps, parameter, first, second, own.get_or_alloc_mut(parameter)?)?;
            *block = parameter.as_vec();
        }
        Ok(norm)
    }
}
