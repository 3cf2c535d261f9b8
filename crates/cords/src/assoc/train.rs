//! Training: batches of trials, Adam, a curriculum over delays, and an end when held-out images are answered well
//! enough.
//!
//! The whole state is in checkpoints, from which a training goes on to the same bits.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::encoder::Responses;
use super::experiment::{GROUP, Presented, Setting};
use super::stimulus::Clip;
use super::tasks::{Delay, Pool};
use super::training_state::{Keeper, TrainingState};
use super::{AssocError, Layout, Objective, Share, Weights, group_gradient};
use crate::learn::Checkpoints;

/// How long and how fast is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// What is minimised: the loss, and factors of the penalties.
    pub objective: Objective,
    /// Gradient steps at most.
    pub steps: usize,
    /// Trials of a step.
    pub batch: usize,
    /// Learning rate of Adam for the areas' weights.
    pub learning_rate: f64,
    /// Largest Euclidean norm of the areas' gradient, and of the front-end's; longer ones are shortened to it.
    pub clip: f64,
    /// Different trials that are learned from. Delays and the units' noise are new each time; what is shown, with the
    /// noise of evidence, comes back.
    pub distinct: u64,
    /// Gradient steps between validations.
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

/// What a validation found, with means over the gradient steps since the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainRecord {
    /// Gradient steps done when the validation began.
    pub step: usize,
    /// Trials seen in training when the validation began.
    pub trials: u64,
    /// Share of the delays in use.
    pub delays: f64,
    /// Mean objective since the last validation.
    pub objective: f64,
    /// Mean loss since the last validation.
    pub loss: f64,
    /// Mean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Mean norm of the gradient of the front-end's parameters before clipping; 0 where it does not learn.
    pub front_end_norm: f64,
    /// Answers on validation images.
    pub answers: usize,
    /// Right answers on validation images.
    pub right: usize,
    /// Answers on validation images for which activity left the finite numbers.
    pub diverged: usize,
}

impl TrainRecord {
    /// Accuracy on validation images, among answers for which activity stayed finite; none where it never did.
    pub fn accuracy(&self) -> Option<f64> {
        let finite = self.answers.saturating_sub(self.diverged);
        (finite > 0).then(|| self.right as f64 / finite as f64)
    }

    /// Whether enough of all answers were right; what has diverged was not.
    fn reaches(&self, criterion: f64) -> bool {
        self.right as f64 >= criterion * self.answers.max(1) as f64
    }
}

/// How far a training is, as told to whoever watches it.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainProgress<'a> {
    /// Gradient steps that are done.
    Step(usize),
    /// A validation begins, after so many gradient steps. It is not stopped; what comes behind it is.
    Validating(usize),
    /// A validation has ended, with this record.
    Validated(&'a TrainRecord),
    /// Training goes on from a checkpoint after so many gradient steps.
    Continued(usize),
    /// There is a checkpoint that must not be used, and why; training starts from the beginning.
    CheckpointRefused(String),
    /// A checkpoint was written after so many gradient steps.
    CheckpointWritten(usize),
    /// A checkpoint could not be written, and why; training goes on.
    CheckpointFailed(String),
}

/// Called as training goes on; breaking off ends it, with a checkpoint where there is a place for one.
pub type TrainObserver<'a> = dyn FnMut(TrainProgress<'_>) -> ControlFlow<()> + 'a;

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
pub(super) const VALIDATION: u64 = 1 << 40;
/// Number of the first test trial; see [`VALIDATION`].
pub(super) const TEST: u64 = 1 << 41;

/// Trains from given weights on trials of the first pool, watching the second. A front-end that learns is trained with
/// them, and is left in `responses` as it is at the end.
///
/// # Errors
/// [`AssocError`]: what does not fit, [`AssocError::Diverged`], [`AssocError::Stopped`] where `observe` breaks off.
#[expect(
    clippy::too_many_arguments,
    reason = "what is trained, on what, how, and who watches"
)]
pub fn train(
    layout: &Layout,
    start: Weights<f32>,
    setting: &Setting<'_>,
    responses: &mut Responses<'_>,
    pools: (&Pool, &Pool),
    options: &TrainOptions,
    checkpoints: Option<&Checkpoints<'_>>,
    observe: &mut TrainObserver<'_>,
) -> Result<Trained, AssocError> {
    layout.validate()?;
    options.validate()?;
    start.check(layout)?;
    let training = Training {
        layout,
        setting,
        pools,
        options,
    };
    let mut state = TrainingState::new(start, if options.curriculum { 1 } else { training.delays() });
    let resumed = state.resume(checkpoints, responses);
    let flow = match resumed {
        Ok(false) => ControlFlow::Continue(()),
        Ok(true) => observe(TrainProgress::Continued(state.step)),
        Err(reason) => observe(TrainProgress::CheckpointRefused(reason)),
    };
    if flow.is_break() {
        return Err(AssocError::Stopped);
    }
    let mut keeper = Keeper {
        checkpoints,
        last: Instant::now(),
    };
    loop {
        if state.end.is_none() && training.validates(&state) {
            // A request to stop is heeded behind it.
            let _ = observe(TrainProgress::Validating(state.step));
            let record = training.validate(&mut state, responses)?;
            let flow = observe(TrainProgress::Validated(&record));
            // What is complete is not stopped.
            if flow.is_break() && state.end.is_none() {
                keeper.write(&state, responses, observe);
                return Err(AssocError::Stopped);
            }
        }
        if let Some(reached) = state.end {
            // Whatever is done with the result may be interrupted, too.
            keeper.write(&state, responses, observe);
            return Ok(Trained {
                weights: state.areas.weights,
                records: state.records,
                reached,
            });
        }
        training.step(&mut state, responses)?;
        let stop = observe(TrainProgress::Step(state.step)).is_break();
        if stop || keeper.is_due() {
            keeper.write(&state, responses, observe);
        }
        if stop {
            return Err(AssocError::Stopped);
        }
    }
}

/// What stays the same while a network is trained.
struct Training<'a> {
    layout: &'a Layout,
    setting: &'a Setting<'a>,
    /// Stimuli of training and of validation.
    pools: (&'a Pool, &'a Pool),
    options: &'a TrainOptions,
}

impl Training<'_> {
    /// Levels of the curriculum: a delay each, or an eighth of many.
    fn delays(&self) -> usize {
        self.setting.timing.delays.len().clamp(1, 8)
    }

    /// Whether a validation is due: one that a checkpoint holds already is not made again.
    fn validates(&self, state: &TrainingState) -> bool {
        let due = state.step.is_multiple_of(self.options.validate_every) || state.step == self.options.steps;
        due && state.records.last().is_none_or(|last| last.step != state.step)
    }

    /// Answers trials of validation images, and decides on the next delay or the end.
    fn validate(&self, state: &mut TrainingState, responses: &mut Responses<'_>) -> Result<TrainRecord, AssocError> {
        let Self {
            layout,
            setting,
            options,
            ..
        } = self;
        let share = state.level as f64 / self.delays() as f64;
        let count = options.validation_trials;
        let trials = setting.draw(self.pools.1, VALIDATION, count, None, Delay::UpTo(share));
        setting.prepare(responses, &trials, layout.dt_ms)?;
        let acting = state.areas.weights.effective(layout);
        let answers = setting.run(layout, &acting, responses, &trials, true, &mut |_, _| {})?;
        let means = std::mem::take(&mut state.sums).means();
        let record = TrainRecord {
            step: state.step,
            trials: state.seen,
            delays: share,
            objective: means.objective,
            loss: means.loss,
            gradient_norm: means.norm,
            front_end_norm: means.front_end_norm,
            answers: answers.len(),
            right: answers.iter().filter(|answer| answer.is_right()).count(),
            diverged: answers.iter().filter(|answer| answer.choice.is_none()).count(),
        };
        state.records.push(record);
        state.passed = if record.reaches(options.criterion) {
            state.passed + 1
        } else {
            0
        };
        if state.level < self.delays() && state.passed > 0 {
            (state.level, state.passed) = (state.level + 1, 0);
        } else if state.passed >= options.patience {
            state.end = Some(true);
        }
        if state.step == options.steps && state.end.is_none() {
            state.end = Some(false);
        }
        Ok(record)
    }

    /// One gradient step on a batch of trials.
    fn step(&self, state: &mut TrainingState, responses: &mut Responses<'_>) -> Result<(), AssocError> {
        let Self {
            layout,
            setting,
            options,
            ..
        } = self;
        let share = state.level as f64 / self.delays() as f64;
        let batch = options.batch;
        let trials = setting.draw(
            self.pools.0,
            state.seen,
            batch,
            Some(options.distinct),
            Delay::UpTo(share),
        );
        setting.prepare(responses, &trials, layout.dt_ms)?;
        let through = responses.learner().is_some();
        let weights = &state.areas.weights;
        let found = batch_gradient(
            layout,
            weights,
            setting,
            responses,
            &trials,
            &options.objective,
            through,
        )?;
        let norm = state.areas.step(&found.gradient, options.learning_rate, options.clip);
        let front_end_norm = match through {
            true => responses.learn(&found.at_clips, options.clip)?,
            false => 0.0,
        };
        if !(found.objective.is_finite() && norm.is_finite() && front_end_norm.is_finite()) {
            return Err(AssocError::Diverged { step: state.step });
        }
        state.seen += batch as u64;
        state.step += 1;
        state.sums.add(&found, norm, front_end_norm);
        Ok(())
    }
}

/// Loss and gradient of a batch.
pub(super) struct BatchGradient {
    pub(super) objective: f64,
    pub(super) loss: f64,
    gradient: Weights<f32>,
    /// Gradient by the scaled responses, `[steps, features]` of each clip; empty unless asked for.
    at_clips: BTreeMap<Clip, Vec<f32>>,
}

/// Groups side by side, summed in their order.
fn batch_gradient(
    layout: &Layout,
    weights: &Weights<f32>,
    setting: &Setting<'_>,
    responses: &Responses<'_>,
    trials: &[Presented],
    objective: &Objective,
    through: bool,
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
            group_gradient(layout, weights, group, objective, share, through)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut sum = BatchGradient {
        objective: 0.0,
        loss: 0.0,
        gradient: Weights::zeros(layout),
        at_clips: BTreeMap::new(),
    };
    for (one, presented) in found.iter().zip(trials.chunks(GROUP)) {
        sum.objective += one.objective;
        sum.loss += one.loss;
        for (sum, one) in sum.gradient.blocks_mut().into_iter().zip(one.weights.blocks()) {
            sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
        if through {
            setting.add_at_clips(layout, presented, &one.features, &mut sum.at_clips);
        }
    }
    Ok(sum)
}
