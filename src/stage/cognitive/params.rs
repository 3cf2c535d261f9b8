//! Parameters of `cognitive`, and what the engine takes of them.

use cords::assoc::{
    Area, AssocError, Duration, Layout, LossKind, Mask, Objective, Projection, TaskName, Timing, TrainOptions,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::{DatasetRef, ModelRef, Violation};

/// What trials are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::stage) enum Stimuli {
    /// images, seen through the front-end
    #[default]
    Images,
    /// a one-hot vector for each class (and place), without any picture: the control
    OneHot,
}

/// Whose durations a task has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::stage) enum TimingName {
    /// ours, close to the literature's; each may be given by a parameter of its own (docs/tasks.md lists them)
    #[default]
    Own,
    /// those that the corresponding environment of NeuroGym has by default, with its strengths of evidence and no
    /// `grace`
    Neurogym,
}

/// Whether the front-end learns with the areas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::stage) enum FrontEndName {
    /// it stays as it is, and its responses are computed once
    #[default]
    Frozen,
    /// the gradient at its activity goes on into its weights; its responses are computed anew at every step
    Through,
}

/// An association area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct AreaParams {
    /// Name of the area, as in tables.
    name: String,
    /// Number of rate units of the area.
    #[schemars(range(min = 1, max = 10000))]
    units: usize,
    /// Time constant of the area's units.
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    tau: f64,
    /// Standard deviation sigma of each unit's private noise: sqrt(2 tau / dt) sigma within the current of every step.
    #[serde(default = "noise")]
    #[schemars(range(min = 0.0))]
    noise: f64,
}

/// Connections from one area to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct ProjectionParams {
    /// Area whose units project, from 0.
    from: usize,
    /// Area that the projection reaches, from 0.
    to: usize,
    /// Share of pairs of units that are connected.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    density: f64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct Params {
    /// The CordsNet that sees the images. Also named for one-hot stimuli, which do not use it.
    pub(in crate::stage) front_end: ModelRef,
    /// Images of the trials: training, validation and test trials are made of those parts.
    pub(in crate::stage) data: DatasetRef,
    /// The task that is learned.
    pub(in crate::stage) task: TaskName,
    /// What trials are made of.
    #[serde(default)]
    pub(in crate::stage) stimuli: Stimuli,

    /// Durations of trial epochs that no parameter of their own gives. An answer is the output that is largest on
    /// average over the second half of the time to answer; fixation that is broken before counts in the loss and not as
    /// an error (NeuroGym judges the first answer and may abort the trial).
    #[serde(default)]
    timing: TimingName,
    /// Time before the first stimulus; the task's own if not given. This and all durations that follow are multiples
    /// of `dt`.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    fixation: Option<f64>,
    /// Duration of the stimulus, or of the first one; the task's own if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    stimulus: Option<f64>,
    /// Delays, of which each presentation draws one; the task's own if not given.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000), inner(range(min = 0.0)), extend("x-unit" = "ms"))]
    delays: Option<Vec<f64>>,
    /// Duration of the second stimulus or of a cue; the task's own if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    test: Option<f64>,
    /// Time between the second stimulus and the signal to answer, in tasks that compare two stimuli; the task's own
    /// if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    wait: Option<f64>,
    /// Time to answer; the task's own if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    response: Option<f64>,
    /// Durations of evidence, or intervals to compare; the task's own if not given.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000), inner(range(min = 0.0)), extend("x-unit" = "ms"))]
    durations: Option<Vec<f64>>,
    /// Contrasts of evidence, in thousandths at the finest; the task's own if not given.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000), inner(range(min = 0.0, max = 1.0)))]
    strengths: Option<Vec<f64>>,
    /// Standard deviation of the evidence's noise, fresh at every step, in the pixel range for a step of 2 ms, in
    /// thousandths at the finest; the task's own if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    evidence_noise: Option<f64>,
    /// Objects on the canvas; the task's own if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 8))]
    objects: Option<usize>,
    /// Images of a stream; the task's own if not given.
    #[serde(default)]
    #[schemars(range(min = 2, max = 100))]
    items: Option<usize>,

    /// Association areas, from the one that the stimulus reaches to the one that answers.
    #[serde(default = "areas")]
    #[schemars(length(min = 1, max = 100))]
    areas: Vec<AreaParams>,
    /// Density of the projections from each area to the next.
    #[serde(default = "feedforward")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    feedforward: f64,
    /// Density of the projections from each area to the one before; 0 for none.
    #[serde(default = "feedback")]
    #[schemars(range(min = 0.0, max = 1.0))]
    feedback: f64,
    /// Projections one by one; those of `feedforward` and `feedback` if not given.
    #[serde(default)]
    projections: Option<Vec<ProjectionParams>>,
    /// Dale's law: share of excitatory units, 0.8 being usual; only they project between areas. If not given, there
    /// is no such law.
    #[serde(default)]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    excitatory: Option<f64>,
    /// Areas that the fixation signal and the task's cues reach; the last one if not given.
    #[serde(default)]
    cue_areas: Option<Vec<usize>>,
    /// Euler step of the association areas, a multiple of the front-end's.
    #[serde(default = "ten")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    pub(in crate::stage) dt: f64,
    /// Spectral radius of the initial recurrent weights.
    #[serde(default = "gain")]
    #[schemars(range(min = 0.0))]
    pub(in crate::stage) gain: f64,

    /// Areas of the front-end that are read, from 0; the last two if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::stage) read_areas: Option<Vec<usize>>,
    /// Each map is averaged over `grid` x `grid` cells, at most as many as it has; 1, or 4 where the task needs
    /// place, if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(in crate::stage) grid: Option<usize>,
    /// Whether the front-end learns with the areas, where it is used; what it becomes is the output `front_end` then.
    #[serde(default)]
    pub(in crate::stage) front_end_training: FrontEndName,
    /// Adam's learning rate for the front-end, where it learns.
    #[serde(default = "front_end_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub(in crate::stage) front_end_learning_rate: f64,
    /// Time without input after which the front-end counts as back at its spontaneous state; it runs as long before
    /// anything is shown. A multiple of `dt`.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    pub(in crate::stage) settle: f64,

    /// Weight of the loss while fixation is held.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    hold_weight: f64,
    /// Weight of the loss while an answer is due.
    #[serde(default = "five")]
    #[schemars(range(min = 0.0))]
    response_weight: f64,
    /// Time at the beginning and after the signal to answer that does not count in the loss; 100 ms, or none under
    /// `timing: neurogym`, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    grace: Option<f64>,
    /// What the answer is compared by.
    #[serde(default)]
    loss: LossKind,
    /// Factor of the mean square rate.
    #[serde(default = "rate_penalty")]
    #[schemars(range(min = 0.0))]
    rate_penalty: f64,
    /// Factor of the sum of squared weights.
    #[serde(default = "weight_penalty")]
    #[schemars(range(min = 0.0))]
    weight_penalty: f64,

    /// Gradient steps at most.
    #[serde(default = "two_thousand")]
    #[schemars(range(min = 1, max = 1_000_000_000), extend("x-unit" = "steps"))]
    steps: usize,
    /// Trials of a gradient step.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 100_000), extend("x-unit" = "trials"))]
    batch: usize,
    /// Adam's learning rate for the association areas.
    #[serde(default = "learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    learning_rate: f64,
    /// Largest norm of the areas' gradient, and of the front-end's; larger gradients are scaled down to it.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    clip: f64,
    /// Different training trials; delays and the noise of units are new each time one comes back.
    #[serde(default = "many")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64), extend("x-unit" = "trials"))]
    trials: u64,
    /// Gradient steps between validations.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1), extend("x-unit" = "steps"))]
    validate_every: usize,
    /// Trials of a validation.
    #[serde(default = "validation_trials")]
    #[schemars(range(min = 1, max = 1_000_000), extend("x-unit" = "trials"))]
    validation_trials: usize,
    /// Accuracy on validation images at which the next delay comes in, and at which training ends after the last.
    #[serde(default = "criterion")]
    #[schemars(range(min = 0.0))]
    criterion: f64,
    /// Validations in a row that must reach the criterion at the end.
    #[serde(default = "three")]
    #[schemars(range(min = 1))]
    patience: usize,
    /// Take delays in one by one, the shortest first.
    #[serde(default = "yes")]
    curriculum: bool,

    /// Time between checkpoints, from which a stopped or killed training goes on to the same result; 0 for one after
    /// every step.
    #[serde(default = "five")]
    #[schemars(range(min = 0.0), extend("x-unit" = "min", "x-unkeyed" = true))]
    pub(in crate::stage) checkpoint_minutes: f64,

    /// Trials from test images that accuracy is measured on.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1_000_000), extend("x-unit" = "trials"))]
    pub(in crate::stage) test_trials: usize,
    /// Trials that stimulus, memory and choice are decoded from, half of them from one half of the test images and half
    /// from the other: a decoder is tested on images that it has not seen. 0 for none.
    #[serde(default = "decode_trials")]
    #[schemars(range(min = 0, max = 100_000), extend("x-unit" = "trials"))]
    pub(in crate::stage) decode_trials: usize,
    /// Distance of the times that are decoded at, a multiple of `dt`.
    #[serde(default = "hundred")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    pub(in crate::stage) decode_every: f64,
    /// Trials whose delay is followed to its steady state; 0 for none.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0, max = 100_000), extend("x-unit" = "trials"))]
    pub(in crate::stage) steady_trials: usize,
    /// Eigenvalues at each of these, largest real part first; 0 for none.
    #[serde(default = "four")]
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::stage) eigenvalues: usize,
    /// Seed of weights, connections, trials and noise; the pipeline's if not given.
    #[serde(default)]
    pub(in crate::stage) seed: u64,
}

fn areas() -> Vec<AreaParams> {
    let area = |name: &str| AreaParams {
        name: name.into(),
        units: 100,
        tau: 100.0,
        noise: noise(),
    };
    vec![area("sensory"), area("parietal"), area("prefrontal")]
}

macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)*) => {$(
        fn $name() -> $type {
            $value
        }
    )*};
}
defaults! {
    noise: f64 = 0.05;
    feedforward: f64 = 0.1;
    feedback: f64 = 0.05;
    ten: f64 = 10.0;
    gain: f64 = 1.2;
    two_hundred: f64 = 200.0;
    one: f64 = 1.0;
    five: f64 = 5.0;
    hundred: f64 = 100.0;
    rate_penalty: f64 = 1e-3;
    weight_penalty: f64 = 1e-5;
    two_thousand: usize = 2000;
    sixty_four: usize = 64;
    learning_rate: f64 = 1e-3;
    front_end_learning_rate: f64 = 1e-4;
    many: u64 = 4096;
    fifty: usize = 50;
    validation_trials: usize = 256;
    criterion: f64 = 0.95;
    three: usize = 3;
    yes: bool = true;
    thousand: usize = 1000;
    decode_trials: usize = 400;
    twenty: usize = 20;
    four: usize = 4;
}

/// A choice as it is written.
fn word(choice: &impl Serialize) -> String {
    let value = serde_json::to_value(choice).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Units whose weights are held: three matrices of 1.6 GB.
const MOST_UNITS: usize = 20_000;
/// Numbers of training trials; those of validation begin there.
const MOST_TRIALS: u64 = 1 << 40;
/// Steps in which a front-end returns to its spontaneous state.
const MOST_SETTLING: f64 = 100_000.0;

impl Params {
    pub(in crate::stage) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let areas = self.areas.len();
        for projection in self.projections.iter().flatten() {
            if projection.from >= areas || projection.to >= areas || projection.from == projection.to {
                found.push(Violation::new(
                    "projections",
                    format!(
                        "{} to {} does not join two different areas of 0 to {}",
                        projection.from,
                        projection.to,
                        areas.saturating_sub(1)
                    ),
                ));
            }
        }
        if let Some(area) = self.cue_areas.iter().flatten().find(|area| **area >= areas) {
            found.push(Violation::new(
                "cue_areas",
                format!("area {area}, but there are areas 0 to {}", areas.saturating_sub(1)),
            ));
        }
        if let Some(area) = self.areas.iter().find(|area| area.tau < self.dt) {
            found.push(Violation::new(
                "areas",
                format!(
                    "`{}` has a time constant of {} ms, below the step of {} ms",
                    area.name, area.tau, self.dt
                ),
            ));
        }
        let mut names: Vec<&str> = self.areas.iter().map(|area| area.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            found.push(Violation::new("areas", format!("two areas are called `{}`", pair[0])));
        }
        let units = self.areas.iter().map(|area| area.units).sum::<usize>();
        if units > MOST_UNITS {
            let problem = format!("{units} units in all; the weights between at most {MOST_UNITS} are held");
            found.push(Violation::new("areas", problem));
        }
        let seen = (self.steps as u64).saturating_mul(self.batch as u64);
        if seen > MOST_TRIALS {
            let problem = format!(
                "{} steps of {} trials are {seen} trials; at most {MOST_TRIALS} have a number",
                self.steps, self.batch
            );
            found.push(Violation::new("steps", problem));
        }
        found.extend(self.misfits());
        let distinct = |values: &[f64]| values.iter().any(|value| *value != values[0]);
        if self.task == TaskName::IntervalDiscrimination && self.durations.as_ref().is_some_and(|d| !distinct(d)) {
            found.push(Violation::new(
                "durations",
                "give at least two different intervals to compare",
            ));
        }
        found
    }

    /// What pictures say of the network that they show: task, stimuli and seed.
    pub(in crate::stage) fn title(&self) -> String {
        format!("{}, {}, seed {}", word(&self.task), word(&self.stimuli), self.seed)
    }

    /// What training lowers, beside penalties, as people say it.
    pub(in crate::stage) fn loss_name(&self) -> &'static str {
        match self.loss {
            LossKind::CrossEntropy => "cross-entropy",
            LossKind::SquaredError => "squared error",
        }
    }

    /// Whether there is a front-end that learns.
    pub(in crate::stage) fn trains_front_end(&self) -> bool {
        self.front_end_training == FrontEndName::Through && self.stimuli == Stimuli::Images
    }

    /// What is given of the durations, by parameter.
    fn given(&self) -> [(&'static str, bool); 9] {
        [
            ("fixation", self.fixation.is_some()),
            ("stimulus", self.stimulus.is_some()),
            ("delays", self.delays.is_some()),
            ("test", self.test.is_some()),
            ("wait", self.wait.is_some()),
            ("response", self.response.is_some()),
            ("durations", self.durations.is_some()),
            ("strengths", self.strengths.is_some()),
            ("grace", self.grace.is_some()),
        ]
    }

    /// What of the times cannot be shown in steps of `dt`, or contradicts another.
    fn misfits(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let name = word(&self.task);
        let neurogym = self.timing == TimingName::Neurogym;
        if neurogym && self.task.neurogym_name().is_none() {
            let problem = format!("NeuroGym has no environment like `{name}`; leave `timing` out and give durations");
            return vec![Violation::new("timing", problem)];
        }
        if neurogym && let Some((given, _)) = self.given().into_iter().find(|(_, given)| *given) {
            let problem = "it is given, also by a preset, beside `timing: neurogym`, which sets all durations; leave \
                one of them out";
            return vec![Violation::new(given, problem)];
        }
        // Their ranges are checked before.
        if !(self.dt.is_finite() && self.dt > 0.0) {
            return found;
        }
        let timing = self.durations();
        let whose = |duration: Duration| {
            let given = self
                .given()
                .into_iter()
                .any(|(name, given)| given && name == duration.name());
            if given {
                String::new()
            } else {
                format!("not given, so as `{name}` has it: ")
            }
        };
        for (duration, problem) in timing.misfits(self.task, self.dt) {
            found.push(Violation::new(duration.name(), format!("{}{problem}", whose(duration))));
        }
        if let Err(AssocError::Setting { setting, problem }) = timing.validate() {
            found.push(Violation::new(setting, problem));
        }
        let answer = if timing.answer_at_test {
            timing.test
        } else {
            timing.response
        };
        let settles = self.stimuli == Stimuli::Images;
        for (parameter, value, counts) in [
            ("grace", self.grace(), true),
            ("settle", self.settle, settles),
            ("decode_every", self.decode_every, self.decode_trials > 0),
        ] {
            if counts && let Some(problem) = cords::net::no_multiple(value, self.dt) {
                found.push(Violation::new(parameter, problem));
            }
        }
        if settles && self.settle / self.dt > MOST_SETTLING {
            let problem = format!(
                "{:e} ms are more than {MOST_SETTLING} steps of {} ms",
                self.settle, self.dt
            );
            found.push(Violation::new("settle", problem));
        }
        if self.grace() >= answer {
            let problem = format!(
                "{} ms leave nothing of the {answer} ms in which an answer is due to learn from",
                self.grace()
            );
            found.push(Violation::new("grace", problem));
        }
        found
    }

    fn grace(&self) -> f64 {
        let own = if self.timing == TimingName::Neurogym {
            0.0
        } else {
            100.0
        };
        self.grace.unwrap_or(own)
    }

    /// The task's durations with what is given in their place.
    pub(in crate::stage) fn durations(&self) -> Timing {
        let own = match self.timing {
            TimingName::Own => None,
            TimingName::Neurogym => self.task.neurogym(self.dt),
        };
        let own = own.unwrap_or_else(|| self.task.timing());
        Timing {
            fixation: self.fixation.unwrap_or(own.fixation),
            stimulus: self.stimulus.unwrap_or(own.stimulus),
            delays: self.delays.clone().unwrap_or(own.delays),
            test: self.test.unwrap_or(own.test),
            wait: self.wait.unwrap_or(own.wait),
            response: self.response.unwrap_or(own.response),
            durations: self.durations.clone().unwrap_or(own.durations),
            strengths: self.strengths.clone().unwrap_or(own.strengths),
            noise: self.evidence_noise.unwrap_or(own.noise),
            objects: self.objects.unwrap_or(own.objects),
            items: self.items.unwrap_or(own.items),
            ..own
        }
    }

    /// The areas for a task with these numbers of inputs and outputs.
    pub(in crate::stage) fn layout(&self, features: usize, cues: usize, outputs: usize) -> Layout {
        let last = self.areas.len().saturating_sub(1);
        let area = |area: &AreaParams| Area {
            name: area.name.clone(),
            units: area.units,
            tau_ms: area.tau,
            noise: area.noise,
        };
        let projections = match &self.projections {
            Some(given) => given
                .iter()
                .map(|p| Projection {
                    from: p.from,
                    to: p.to,
                    density: p.density,
                })
                .collect(),
            None => (0..last)
                .flat_map(|area| [(area, area + 1, self.feedforward), (area + 1, area, self.feedback)])
                .filter(|(.., density)| *density > 0.0)
                .map(|(from, to, density)| Projection { from, to, density })
                .collect(),
        };
        Layout {
            areas: self.areas.iter().map(area).collect(),
            projections,
            excitatory: self.excitatory,
            dt_ms: self.dt,
            features,
            cues,
            cue_areas: self.cue_areas.clone().unwrap_or_else(|| vec![last]),
            outputs,
            seed: self.seed,
        }
    }

    pub(in crate::stage) fn mask(&self) -> Mask {
        Mask {
            hold: self.hold_weight,
            respond: self.response_weight,
            grace_ms: self.grace(),
        }
    }

    pub(in crate::stage) fn training(&self) -> TrainOptions {
        TrainOptions {
            objective: Objective {
                loss: self.loss,
                rate: self.rate_penalty,
                weight: self.weight_penalty,
            },
            steps: self.steps,
            batch: self.batch,
            learning_rate: self.learning_rate,
            clip: self.clip,
            distinct: self.trials,
            validate_every: self.validate_every,
            validation_trials: self.validation_trials,
            criterion: self.criterion,
            patience: self.patience,
            curriculum: self.curriculum,
        }
    }
}
