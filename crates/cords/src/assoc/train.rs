//! Training: batches of trials, Adam, a curriculum over delays, and an end when held-out images are answered well
//! enough.
//!
//! Loop and checkpoints are those of every training ([`crate::learn`]). What stays apart from a training on images:
//! batches are drawn as the curriculum asks for them, so none is loaded ahead; validations come after so many gradient
//! steps, the first before any, and may end the training; records hold other numbers.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::encoder::Responses;
use super::experiment::Setting;
use super::task_training::TaskTraining;
use super::tasks::Pool;
use super::{AssocError, Layout, Objective, Weights};
use crate::learn::{CheckpointProgress, Checkpoints, TrainingLoop, record};

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
    pub(super) fn reaches(&self, criterion: f64) -> bool {
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
    pub(super) layout: &'a Layout,
    pub(super) setting: &'a Setting<'a>,
    /// Stimuli of training and of validation.
    pub(super) pools: (&'a Pool, &'a Pool),
    pub(super) options: &'a TrainOptions,
    checkpoints: Option<&'a Checkpoints>,
    pub(super) observer: Option<&'a mut TrainObserver<'a>>,
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
        self.layout.validate()?;
        self.options.validate()?;
        start.check(self.layout)?;
        let checkpoints = self.checkpoints;
        let mut training = TaskTraining::new(self, start, responses);
        let mut training_loop = TrainingLoop::begin(&mut training, checkpoints)?;
        training_loop.run(&mut TaskTraining::batch)?;
        // Whatever is done with the result may be interrupted, too; what is complete is not stopped.
        let _ = training_loop.write();
        Ok(training.into_trained())
    }
}
