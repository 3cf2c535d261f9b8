//! Settings of a training, with the published values as defaults.

use serde::{Deserialize, Serialize};

use super::{
    BestBy, HistoryPrecision, Initialisation, Keep, Objective, OptimiserKind, OptimiserSettings, Schedule, TrainError,
    WarmUp, logspace,
};
use crate::net::{Euler, Presentation};

/// Settings that both kinds of network share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fit {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a batch (the last ones of an epoch are spread, so that no batch is a remainder).
    pub batch: usize,
    /// Rule for the steps.
    pub optimiser: OptimiserSettings,
    /// Learning rate before schedule and warm-up.
    pub learning_rate: f64,
    /// Course of the learning rate over the epochs.
    pub schedule: Schedule,
    /// Rise of the learning rate at the beginning, if there is one.
    pub warm_up: Option<WarmUp>,
    /// Largest norm of the gradient of all parameters together; larger ones are scaled down.
    pub clip: Option<f64>,
    /// Sizes of the initial weights.
    pub initialisation: Initialisation,
    /// Epochs in a row that are no better on the validation images than one before them, after which the training ends;
    /// all `epochs` where `None`.
    pub early_stop: Option<usize>,
    /// Which epoch's weights the trained network has.
    pub keep: Keep,
    /// What makes an epoch better than another.
    pub best_by: BestBy,
    /// Seed of initial weights and of the order of the images.
    pub seed: u64,
}

impl Default for Fit {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 32,
            optimiser: OptimiserSettings::new(OptimiserKind::AdamW, 0.01),
            learning_rate: 2e-3,
            schedule: Schedule::Cosine { end: 0.02 },
            warm_up: Some(WarmUp { steps: 50, start: 0.1 }),
            clip: Some(1.0),
            initialisation: Initialisation::default(),
            early_stop: None,
            keep: Keep::Last,
            best_by: BestBy::Accuracy,
            seed: 0,
        }
    }
}

impl Fit {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let wrong = |field, problem: &str| {
            Err(TrainError::Setting {
                field,
                problem: problem.to_owned(),
            })
        };
        let share = |value: f64| value.is_finite() && value >= 0.0;
        if self.epochs == 0 {
            return wrong("epochs", "must be at least 1");
        }
        if self.batch == 0 {
            return wrong("batch", "must be at least 1");
        }
        if self.early_stop == Some(0) {
            return wrong("early_stop", "must be at least 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong("learning_rate", "must be positive");
        }
        if !self.clip.is_none_or(|clip| clip.is_finite() && clip > 0.0) {
            return wrong("clip", "must be positive");
        }
        if !self.warm_up.is_none_or(|warm_up| share(warm_up.start)) {
            return wrong("warm_up", "its start must be finite and not negative");
        }
        let schedule = match self.schedule {
            Schedule::Constant => true,
            Schedule::Step { epochs, factor } => epochs > 0 && share(factor),
            Schedule::Cosine { end } => share(end),
        };
        if !schedule {
            return wrong(
                "schedule",
                "its epochs must be at least 1 and its factor finite and not negative",
            );
        }
        let OptimiserSettings {
            momentum, weight_decay, ..
        } = self.optimiser;
        if !(share(momentum) && momentum < 1.0 && share(weight_decay)) {
            return wrong(
                "optimiser",
                "momentum must be in [0, 1), weight decay finite and not negative",
            );
        }
        match self.initialisation.problem() {
            Some(problem) => wrong("initialisation", &problem),
            None => Ok(()),
        }
    }
}

/// Direct training of a CordsNet from random weights by the published objective. Times in ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectConfig {
    /// Time without input from r = 0; its end is the spontaneous state.
    pub spontaneous_ms: f64,
    /// Time with the image.
    pub stimulus_ms: f64,
    /// Time without input after the image.
    pub after_ms: f64,
    /// Last part of the stimulus, over which the cross-entropy is taken.
    pub readout_window_ms: f64,
    /// Exponents of 10 between which the weights of the cross-entropy rise over that window.
    pub ramp: [f64; 2],
    /// Weight of the mean squared distance from the spontaneous state.
    pub return_weight: f64,
    /// Last part of the trial, over which that distance is taken.
    pub return_window_ms: f64,
    /// Width of the time windows in which validation accuracy is recorded.
    pub accuracy_window_ms: f64,
    /// How the activities that the backward pass reads are kept.
    pub history: HistoryPrecision,
    /// Bytes that a gradient step may take; no limit where `None`. It never shows in a result.
    pub memory_budget: Option<u64>,
    /// Everything that is not about time.
    pub fit: Fit,
}

impl Default for DirectConfig {
    fn default() -> Self {
        let published = Presentation::published();
        Self {
            spontaneous_ms: published.spontaneous_ms,
            stimulus_ms: published.stimulus_ms,
            after_ms: 200.0,
            readout_window_ms: 60.0,
            ramp: [-3.0, 0.0],
            return_weight: 1e-3,
            return_window_ms: 20.0,
            accuracy_window_ms: 20.0,
            history: HistoryPrecision::Float32,
            memory_budget: None,
            fit: Fit::default(),
        }
    }
}

impl DirectConfig {
    /// The objective in steps of `euler`.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for the first setting that is not usable: a time that is not a whole number of steps,
    /// for one.
    pub fn objective(&self, euler: &Euler) -> Result<Objective, TrainError> {
        let times = [
            ("spontaneous_ms", self.spontaneous_ms, 0),
            ("stimulus_ms", self.stimulus_ms, 1),
            ("after_ms", self.after_ms, 0),
            ("readout_window_ms", self.readout_window_ms, 1),
            ("return_window_ms", self.return_window_ms, 0),
        ];
        for (field, ms, least) in times {
            if let Some(problem) = euler.unfit(ms, least) {
                return Err(TrainError::Setting { field, problem });
            }
        }
        if self.accuracy_window_ms.is_nan() || self.accuracy_window_ms < euler.dt_ms {
            return Err(TrainError::Setting {
                field: "accuracy_window_ms",
                problem: format!(
                    "{} ms is less than a step of {} ms",
                    self.accuracy_window_ms, euler.dt_ms
                ),
            });
        }
        let objective = Objective {
            spontaneous_steps: euler.steps(self.spontaneous_ms),
            stimulus_steps: euler.steps(self.stimulus_ms),
            after_steps: euler.steps(self.after_ms),
            ramp: logspace(self.ramp[0], self.ramp[1], euler.steps(self.readout_window_ms)),
            return_weight: self.return_weight,
            return_window: euler.steps(self.return_window_ms),
        };
        match objective.problem() {
            Some(problem) => Err(TrainError::Setting {
                field: "objective",
                problem,
            }),
            None => self.fit.check().map(|()| objective),
        }
    }

    /// The trial's phases as a model remembers them.
    pub fn presentation(&self) -> Presentation {
        Presentation {
            spontaneous_ms: self.spontaneous_ms,
            stimulus_ms: self.stimulus_ms,
        }
    }
}

/// Training of the CNN twin by cross-entropy.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CnnConfig {
    /// Everything: there is no time.
    pub fit: Fit,
}

impl CnnConfig {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        self.fit.check()
    }
}
