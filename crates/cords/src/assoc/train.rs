//! Training: batches of trials, Adam, a curriculum over delays, and an end when held-out images are answered well
//! enough.
//!
//! Loop and checkpoints are those of every training ([`crate::learn`]). What stays apart from a training on images:
//! batches are drawn as the curriculum asks for them, so none is loaded ahead; validations come after so many gradient
//! steps, the first before any, and may end the training; records hold other numbers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::encoder::Responses;
use super::experiment::{GROUP, Presented, Setting, Simulation};
use super::stimulus::Clip;
use super::tasks::{Delay, Pool};
use super::training_state::TrainingState;
use super::{AssocError, Layout, Objective, Share, Weights, group_gradient};
use crate::learn::{CheckpointProgress, Checkpoints, Next, Resumable, Snapshot, SnapshotError, TrainingLoop, record};

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

record!(TrainRecord {
    step,
    trials,
    delays,
    objective,
    loss,
    gradient_norm,
    front_end_norm,
    answers,
    right,
    diverged,
});

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
    /// The state, after so many gradient steps, was read from a checkpoint or written to one, or could not be.
    Checkpoint(CheckpointProgress<usize>),
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

/// A training of association areas on a task. A front-end that learns is trained with them.
///
/// Without checkpoints and with nobody who watches, unless they are given.
pub struct Training<'a> {
    layout: &'a Layout,
    setting: &'a Setting<'a>,
    /// Stimuli of training and of validation.
    pools: (&'a Pool, &'a Pool),
    options: &'a TrainOptions,
    checkpoints: Option<&'a Checkpoints>,
    observer: Option<&'a mut TrainObserver<'a>>,
}

impl<'a> Training<'a> {
    /// On trials of the first pool, with validations on those of the second. Nothing is checked or computed before it
    /// runs.
    pub fn new(
        layout: &'a Layout,
        setting: &'a Setting<'a>,
        pools: (&'a Pool, &'a Pool),
        options: &'a TrainOptions,
    ) -> Self {
        Self {
            layout,
            setting,
            pools,
            options,
            checkpoints: None,
            observer: None,
        }
    }

    /// With its state on disk, from which a training that was stopped goes on to the same bits.
    pub fn checkpoints(mut self, checkpoints: Option<&'a Checkpoints>) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// With an observer, who is told after every gradient step and validation and may stop the training.
    pub fn observer(mut self, observer: &'a mut TrainObserver<'a>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Trains from given weights. A front-end that learns is left in `responses` as it is at the end.
    ///
    /// # Errors
    /// [`AssocError`]: what does not fit, [`AssocError::Diverged`], [`AssocError::Stopped`] where the observer breaks
    /// off.
    pub fn run(self, start: Weights<f32>, responses: &'a mut Responses<'_>) -> Result<Trained, AssocError> {
        let Self {
            layout,
            setting,
            pools,
            options,
            checkpoints,
            observer,
        } = self;
        layout.validate()?;
        options.validate()?;
        start.check(layout)?;
        let mut training = TaskTraining {
            layout,
            setting,
            pools,
            options,
            state: TrainingState::new(start, if options.curriculum { 1 } else { levels(setting) }),
            responses,
            observer,
        };
        let mut training_loop = TrainingLoop::begin(&mut training, checkpoints)?;
        training_loop.run(&mut TaskTraining::batch)?;
        // Whatever is done with the result may be interrupted, too; what is complete is not stopped.
        let _ = training_loop.write();
        let state = training.state;
        Ok(Trained {
            weights: state.areas.weights,
            records: state.records,
            reached: state.end == Some(true),
        })
    }
}

/// Levels of the curriculum: a delay each, or an eighth of many.
fn levels(setting: &Setting<'_>) -> usize {
    setting.timing.delays.len().clamp(1, 8)
}

/// Areas, and a front-end that learns with them, in training.
struct TaskTraining<'a, 'r> {
    layout: &'a Layout,
    setting: &'a Setting<'a>,
    pools: (&'a Pool, &'a Pool),
    options: &'a TrainOptions,
    state: TrainingState,
    responses: &'a mut Responses<'r>,
    observer: Option<&'a mut TrainObserver<'a>>,
}

impl TaskTraining<'_, '_> {
    /// Share of the delays that the curriculum has taken in.
    fn share(&self) -> f64 {
        self.state.level as f64 / levels(self.setting) as f64
    }

    /// Trials of the next gradient step.
    fn batch(&self) -> Vec<Presented> {
        let TrainOptions { batch, distinct, .. } = *self.options;
        let delay = Delay::UpTo(self.share());
        self.setting
            .draw(self.pools.0, self.state.seen, batch, Some(distinct), delay)
    }

    fn observe(&mut self, progress: TrainProgress<'_>) -> ControlFlow<()> {
        match &mut self.observer {
            Some(observer) => observer(progress),
            None => ControlFlow::Continue(()),
        }
    }

    /// Answers trials of validation images.
    fn validation(&mut self) -> Result<TrainRecord, AssocError> {
        let (layout, setting, delays) = (self.layout, self.setting, self.share());
        let count = self.options.validation_trials;
        let trials = setting.draw(self.pools.1, VALIDATION, count, None, Delay::UpTo(delays));
        setting.prepare(self.responses, &trials, layout.dt_ms)?;
        let acting = self.state.areas.weights.effective(layout);
        let simulation = Simulation::new(setting, layout, self.responses);
        let answers = simulation.run(&acting, &trials, &mut |_, _| {})?;
        let means = std::mem::take(&mut self.state.sums).means();
        Ok(TrainRecord {
            step: self.state.step,
            trials: self.state.seen,
            delays,
            objective: means.objective,
            loss: means.loss,
            gradient_norm: means.norm,
            front_end_norm: means.front_end_norm,
            answers: answers.len(),
            right: answers.iter().filter(|answer| answer.is_right()).count(),
            diverged: answers.iter().filter(|answer| answer.choice.is_none()).count(),
        })
    }
}

impl Resumable for TaskTraining<'_, '_> {
    /// Gradient steps done.
    type Position = usize;
    type Batch = Vec<Presented>;
    type Error = AssocError;

    fn next(&self) -> Next {
        let (state, options) = (&self.state, self.options);
        let due = state.step.is_multiple_of(options.validate_every) || state.step == options.steps;
        // One that a checkpoint holds already is not made again.
        let done = state.records.last().is_some_and(|last| last.step == state.step);
        match (state.end, due && !done) {
            (Some(_), _) => Next::End,
            (None, true) => Next::Validation,
            (None, false) => Next::GradientStep,
        }
    }

    fn position(&self) -> usize {
        self.state.step
    }

    fn step(&mut self, trials: Vec<Presented>) -> Result<ControlFlow<()>, AssocError> {
        let (layout, options) = (self.layout, self.options);
        self.setting.prepare(self.responses, &trials, layout.dt_ms)?;
        let through = self.responses.learner().is_some();
        let simulation = Simulation::new(self.setting, layout, self.responses);
        let weights = &self.state.areas.weights;
        let found = batch_gradient(&simulation, weights, &trials, &options.objective, through)?;
        let state = &mut self.state;
        let norm = state.areas.step(&found.gradient, options.learning_rate, options.clip);
        let front_end_norm = match through {
            true => self.responses.learn(&found.at_clips, options.clip)?,
            false => 0.0,
        };
        if !(found.objective.is_finite() && norm.is_finite() && front_end_norm.is_finite()) {
            return Err(AssocError::Diverged { step: state.step });
        }
        state.seen += trials.len() as u64;
        state.step += 1;
        state.sums.add(&found, norm, front_end_norm);
        Ok(self.observe(TrainProgress::Step(self.state.step)))
    }

    /// Decides on the next delay or the end, too.
    fn validate(&mut self) -> Result<ControlFlow<()>, AssocError> {
        let _ = self.observe(TrainProgress::Validating(self.state.step));
        let record = self.validation()?;
        let (options, state) = (self.options, &mut self.state);
        state.records.push(record);
        state.passed = if record.reaches(options.criterion) {
            state.passed + 1
        } else {
            0
        };
        if state.level < levels(self.setting) && state.passed > 0 {
            (state.level, state.passed) = (state.level + 1, 0);
        } else if state.passed >= options.patience {
            state.end = Some(true);
        }
        if state.step == options.steps && state.end.is_none() {
            state.end = Some(false);
        }
        Ok(self.observe(TrainProgress::Validated(&record)))
    }

    fn tell(&mut self, progress: CheckpointProgress<usize>) -> ControlFlow<()> {
        self.observe(TrainProgress::Checkpoint(progress))
    }

    fn stopped(&self, _checkpoint: bool) -> AssocError {
        AssocError::Stopped
    }

    fn save(&self, snapshot: &mut Snapshot) {
        self.state.save(self.responses, snapshot);
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.state.restore(snapshot, self.responses)
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
    simulation: &Simulation<'_>,
    weights: &Weights<f32>,
    trials: &[Presented],
    objective: &Objective,
    through: bool,
) -> Result<BatchGradient, AssocError> {
    let layout = simulation.layout;
    let groups = trials
        .par_chunks(GROUP)
        .with_max_len(1)
        .map(|presented| simulation.group(presented))
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
            simulation.add_at_clips(presented, &one.features, &mut sum.at_clips);
        }
    }
    Ok(sum)
}
