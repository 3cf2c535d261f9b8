//! Parameters of `train`, and the engine's settings made of them.

use cords::device::Phi;
use cords::device::cuda::Precision;
use cords::learn::{
    BestBy, DirectConfig, Fit, HistoryPrecision, Initialisation, InvertConfig, Keep, OptimiserKind, OptimiserSettings,
    PhiSchedule, Schedule, WarmUp,
};
use cords::net::{Architecture, Euler, Graph, MOST_STEPS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::augment_params::{AugmentParams, two};
use super::network::{AREAS, Flaw, ImageSizes, NetworkParams, WIDTH};
use crate::stage::times::{Asked, unfit};
use crate::stage::{DatasetRef, ModelRef, Violation};

/// What is trained. `cnn`, `fold`, `invert`, `linear`, `anneal`, `finetune` in this order are the published method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// CordsNet from random weights, by back-propagation through time
    Direct,
    /// 1: the feed-forward twin with batch norm, from random weights
    Cnn,
    /// 1b: that twin's batch norms into weights and biases; trains nothing
    Fold,
    /// 2: recurrent weights and biases whose linear dynamics settle at the folded twin's currents
    Invert,
    /// 3: all weights with phi = identity
    Linear,
    /// 4: all weights while phi's negative slope falls evenly to 0 over the epochs (0.95, 0.90, ... 0 over 20)
    Anneal,
    /// 5: all weights with phi = ReLU
    Finetune,
}

impl Phase {
    /// As in a pipeline.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Cnn => "cnn",
            Self::Fold => "fold",
            Self::Invert => "invert",
            Self::Linear => "linear",
            Self::Anneal => "anneal",
            Self::Finetune => "finetune",
        }
    }

    /// The preset with the published settings.
    fn preset(self) -> &'static str {
        match self {
            Self::Direct => "cordsnet",
            other => other.name(),
        }
    }

    /// Whether it goes on from another stage's model.
    pub(super) fn has_start(self) -> bool {
        !matches!(self, Self::Direct | Self::Cnn)
    }

    /// Whether it trains a CordsNet by trials in time.
    pub(super) fn has_trials(self) -> bool {
        matches!(self, Self::Direct | Self::Linear | Self::Anneal | Self::Finetune)
    }
}

/// How the learning rate changes over training: by name alone, as the engine's `Schedule` takes any factor and end,
/// which here are always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ScheduleName {
    /// the same throughout
    #[default]
    Constant,
    /// a tenth after every `decay_every` epochs, each time with its warm-up
    Steps,
    /// a half cosine down to zero
    Cosine,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// Phase of training.
    pub(super) phase: Phase,
    /// The stage whose model the phase goes on from: `cnn` for `fold`, `fold` for `invert`, then the phase before;
    /// random weights, for `direct` and `cnn` alone, if not given.
    #[serde(default)]
    pub(super) start: Option<ModelRef>,
    /// Images to train on and to validate with.
    pub(super) data: DatasetRef,
    /// Number of areas, 1 to 12, of which 2, 4, 6 and 8 are published; 8, or as in `start`, if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 12))]
    areas: Option<usize>,
    /// Channels of the input layer and of the first two areas; later pairs have 2, 4 and 8 times as many. 64, or as in
    /// `start`, if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024), extend("x-unit" = "channels"))]
    width: Option<usize>,
    /// Channels of the input layer and of every area, instead of `width`; those that `width` makes if not given.
    #[serde(default)]
    channels: Option<Vec<usize>>,
    /// Stride of every area's feed-forward convolution; 1, 1, 2, 1, 2, 1, 2, then 1, or as in `start`, if not given.
    #[serde(default)]
    strides: Option<Vec<usize>>,
    /// Euler step; 2 ms, or as in `start`, if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    dt: Option<f64>,
    /// Time constant: one for all areas, or one for each; 10 ms, or as in `start`, if not given.
    #[serde(default)]
    #[schemars(extend("x-unit" = "ms"))]
    tau: Option<Vec<f64>>,
    /// Time without input from r = 0, whose end is the spontaneous state; 200 ms, or none in `linear`, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: Option<f64>,
    /// Time that the image is shown.
    #[serde(default = "stimulus")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: f64,
    /// Time without input after the image; 200 ms, or none in `linear`, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    after: Option<f64>,
    /// End of the stimulus over which the readout is trained.
    #[serde(default = "readout_window")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    readout_window: f64,
    /// Exponents of ten of the first and last weight within the readout window.
    #[serde(default = "ramp")]
    #[schemars(length(min = 2, max = 2))]
    ramp: Vec<f64>,
    /// Weight of the return to the spontaneous state; 0.001, or 0 in `linear`, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    return_weight: Option<f64>,
    /// End of the time after the image over which the return is asked for; 20 ms, or none in `linear`, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    return_window: Option<f64>,
    /// Weight of the recurrent term left after three sweeps, in `invert`.
    #[serde(default = "contraction_weight")]
    #[schemars(range(min = 0.0))]
    contraction_weight: f64,
    /// Passes over the training images; none, which `fold` alone allows, if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(super) epochs: Option<usize>,
    /// Images a gradient step.
    #[serde(default = "batch")]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    batch: usize,
    /// Rule of the gradient step; none, which `fold` alone allows, if not given.
    #[serde(default)]
    optimiser: Option<OptimiserKind>,
    /// Learning rate before schedule and warm-up; none, which `fold` alone allows, if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    learning_rate: Option<f64>,
    /// Momentum of `sgd`; 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    momentum: f64,
    /// Weight decay of the optimiser, for all but trained time constants and parameters of cells; 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
    /// How the learning rate changes.
    #[serde(default)]
    schedule: ScheduleName,
    /// Epochs at one learning rate, for `steps`.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1), extend("x-unit" = "epochs"))]
    decay_every: usize,
    /// Gradient steps over which the learning rate rises linearly.
    #[serde(default)]
    #[schemars(extend("x-unit" = "steps"))]
    warmup: usize,
    /// Share of the learning rate at the first step of the warm-up.
    #[serde(default = "third")]
    #[schemars(range(min = 0.0, max = 1.0))]
    warmup_start: f64,
    /// Largest norm of the gradient, to which larger ones are scaled down; gradients stay as they are if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    clip: Option<f64>,
    /// Width of the time windows in which validation accuracy is recorded, to the nearest step (their table has the
    /// ends).
    #[serde(default = "accuracy_window")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    accuracy_window: f64,
    /// Lengths of initial weight rows.
    #[serde(default)]
    initialisation: InitialisationParams,
    /// Random changes of training images.
    #[serde(default)]
    pub(super) augment: AugmentParams,
    /// Time between checkpoints, from which a stopped or killed training goes on to the same result; 0 for one after
    /// every batch.
    #[serde(default = "five")]
    #[schemars(range(min = 0.0), extend("x-unit" = "min", "x-unkeyed" = true))]
    pub(super) checkpoint_minutes: f64,
    /// Memory that a gradient step may take: fewer images are run side by side, and activities that do not fit are
    /// computed twice, to the same result. If not given, half of this machine's, shared among stages by their threads.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "GiB", "x-unkeyed" = true))]
    pub(super) memory_budget: Option<f64>,
    /// How the activities that the backward pass reads are kept, in phases with trials.
    #[serde(default)]
    history: HistoryPrecision,
    /// What products of convolutions are computed from on a GPU; a processor computes in float32.
    #[serde(default)]
    pub(super) precision: Precision,
    /// Seed of weights, order and augmentation; the pipeline's if not given.
    #[serde(default)]
    pub(super) seed: u64,
    /// Another network, in place of `areas`, `channels` and `strides`: a preset with changes, or areas and projections
    /// in full; the published one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<NetworkParams>,
    /// Epochs in a row that are no better on the validation images than one before them, by `best_by`, after which
    /// training ends; all `epochs` if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "epochs"))]
    early_stop: Option<usize>,
    /// Which epoch's weights the model has. Validation that chooses is no longer independent: accuracy that is to be
    /// reported is that on test images.
    #[serde(default)]
    keep: Keep,
    /// What makes an epoch better, for `early_stop` and `keep: best`.
    #[serde(default)]
    best_by: BestBy,
}

/// Lengths of initial weight rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct InitialisationParams {
    /// Length of the rows of the input and feed-forward convolutions; sqrt 2 if not given.
    #[schemars(range(min = 0.0))]
    feedforward: Option<f64>,
    /// Length of the rows of the shortcuts; 1 if not given.
    #[schemars(range(min = 0.0))]
    shortcut: Option<f64>,
    /// Spectral radius of the recurrent convolutions; below 1 the dynamics start contractive; 0.5 if not given.
    #[schemars(range(min = 0.0))]
    recurrent: Option<f64>,
    /// Length of the rows of the readout; 1 if not given.
    #[schemars(range(min = 0.0))]
    readout: Option<f64>,
}

fn stimulus() -> f64 {
    DirectConfig::default().stimulus_ms
}

fn contraction_weight() -> f64 {
    InvertConfig::default().contraction_weight
}

fn readout_window() -> f64 {
    DirectConfig::default().readout_window_ms
}

fn accuracy_window() -> f64 {
    DirectConfig::default().accuracy_window_ms
}

fn ramp() -> Vec<f64> {
    DirectConfig::default().ramp.to_vec()
}

fn five() -> f64 {
    5.0
}

fn batch() -> usize {
    128
}

fn hundred() -> usize {
    100
}

fn third() -> f64 {
    1.0 / 3.0
}

const MOST_EPOCHS: usize = 1_000_000;
/// Rows of the table of time windows.
const MOST_WINDOWS: f64 = 1e7;

/// Why a trial cannot be simulated: its steps would not end, and what is kept of each would fit into no memory.
fn too_long(trial: &DirectConfig, euler: &Euler) -> Option<String> {
    let times = [
        (
            "the trial (`spontaneous`, `stimulus` and `after`)",
            trial.spontaneous_ms + trial.stimulus_ms + trial.after_ms,
        ),
        ("`readout_window`", trial.readout_window_ms),
        ("`return_window`", trial.return_window_ms),
        ("`accuracy_window`", trial.accuracy_window_ms),
    ];
    times.iter().find_map(|(name, ms)| {
        let steps = ms / euler.dt_ms;
        let is_fine = steps <= MOST_STEPS;
        (!is_fine).then(|| {
            format!(
                "{name} takes {ms} ms, {steps:.0} steps of {} ms; at most {MOST_STEPS} steps are possible",
                euler.dt_ms
            )
        })
    })
}

impl Params {
    /// A network that starts from random weights, for images of some sizes.
    pub(super) fn graph(&self, images: ImageSizes) -> Result<Graph, Flaw> {
        match &self.network {
            Some(network) => network.graph(self.width, images),
            None => self.published(images),
        }
    }

    /// The same for images that are not known yet: any that are large enough will do.
    fn graph_of_some_images(&self) -> Result<Graph, Flaw> {
        match &self.network {
            Some(network) => network.graph_of_some_images(self.width),
            None => self.published(ImageSizes {
                channels: 3,
                side: 224,
                classes: 10,
            }),
        }
    }

    /// A network by the rule of the published ones.
    fn published(&self, images: ImageSizes) -> Result<Graph, Flaw> {
        let areas = self.areas.unwrap_or(AREAS);
        let architecture = Architecture {
            in_channels: images.channels,
            image_side: images.side,
            channels: self
                .channels
                .clone()
                .unwrap_or_else(|| Architecture::published_channels(areas, self.width.unwrap_or(WIDTH))),
            strides: self
                .strides
                .clone()
                .unwrap_or_else(|| Architecture::published_strides(areas)),
            classes: images.classes,
        };
        let place = match (&self.channels, &self.strides) {
            (Some(_), _) => "channels",
            (None, Some(_)) => "strides",
            (None, None) => "areas",
        };
        architecture
            .graph()
            .map_err(|error| Flaw::new(place, error.to_string()))
    }

    /// The first size given here that `start` does not have.
    pub(super) fn contradiction(&self, start: &Graph) -> Option<String> {
        let differs = |name: &str, given: String, found: String| {
            (given != found).then(|| format!("`{name}` is {given}, but the network of `start` has {found}"))
        };
        let areas = self
            .areas
            .map(|areas| ("areas", areas.to_string(), start.areas().to_string()));
        let width = self
            .width
            .map(|width| ("width", width.to_string(), start.input_channels().to_string()));
        // What only the short form has.
        let (channels, strides) = match start.architecture() {
            Some(short) => (format!("{:?}", short.channels), format!("{:?}", short.strides)),
            None => ("areas".to_owned(), "projections".to_owned()),
        };
        let channels = self
            .channels
            .as_ref()
            .map(|given| ("channels", format!("{given:?}"), channels));
        let strides = self
            .strides
            .as_ref()
            .map(|given| ("strides", format!("{given:?}"), strides));
        [areas, width, channels, strides]
            .into_iter()
            .flatten()
            .find_map(|(name, given, found)| differs(name, given, found))
    }

    /// Step and time constants: those given, else those of `start`, else the published ones.
    pub(super) fn euler(&self, start: Option<&Euler>) -> Euler {
        let published = Euler::published();
        let otherwise = start.unwrap_or(&published);
        Euler {
            dt_ms: self.dt.unwrap_or(otherwise.dt_ms),
            tau_ms: self.tau.clone().unwrap_or_else(|| otherwise.tau_ms.clone()),
        }
    }

    /// None where a setting is missing that `fold` alone does without.
    pub(super) fn fit(&self) -> Option<Fit> {
        let default = Initialisation::default();
        let initialisation = Initialisation {
            feedforward: self.initialisation.feedforward.unwrap_or(default.feedforward),
            shortcut: self.initialisation.shortcut.unwrap_or(default.shortcut),
            recurrent: self.initialisation.recurrent.unwrap_or(default.recurrent),
            readout: self.initialisation.readout.unwrap_or(default.readout),
        };
        Some(Fit {
            epochs: self.epochs?,
            batch: self.batch,
            optimiser: OptimiserSettings {
                kind: self.optimiser?,
                momentum: self.momentum,
                weight_decay: self.weight_decay,
            },
            learning_rate: self.learning_rate?,
            schedule: match self.schedule {
                ScheduleName::Constant => Schedule::Constant,
                ScheduleName::Steps => Schedule::Step {
                    epochs: self.decay_every,
                    factor: 0.1,
                },
                ScheduleName::Cosine => Schedule::Cosine { end: 0.0 },
            },
            warm_up: (self.warmup > 0).then_some(WarmUp {
                steps: self.warmup,
                start: self.warmup_start,
            }),
            clip: self.clip,
            initialisation,
            early_stop: self.early_stop,
            keep: self.keep,
            best_by: self.best_by,
            seed: self.seed,
        })
    }

    /// The trial and its objective. Phase `linear` runs from r = 0 and asks for the readout alone.
    pub(super) fn trials(&self, fit: Fit, memory_budget: Option<u64>) -> DirectConfig {
        let published = DirectConfig::default();
        let otherwise = |published: f64| if self.phase == Phase::Linear { 0.0 } else { published };
        DirectConfig {
            spontaneous_ms: self.spontaneous.unwrap_or(otherwise(published.spontaneous_ms)),
            stimulus_ms: self.stimulus,
            after_ms: self.after.unwrap_or(otherwise(published.after_ms)),
            readout_window_ms: self.readout_window,
            ramp: two(&self.ramp).unwrap_or(published.ramp),
            return_weight: self.return_weight.unwrap_or(otherwise(published.return_weight)),
            return_window_ms: self.return_window.unwrap_or(otherwise(published.return_window_ms)),
            accuracy_window_ms: self.accuracy_window,
            history: self.history,
            memory_budget,
            fit,
        }
    }

    /// The times that the phase simulates.
    pub(super) fn times(&self) -> Vec<Asked<'static>> {
        match (self.phase, self.fit()) {
            (Phase::Invert, _) => vec![("stimulus", self.stimulus, 1)],
            (phase, Some(fit)) if phase.has_trials() => {
                let trial = self.trials(fit, None);
                vec![
                    ("spontaneous", trial.spontaneous_ms, 0),
                    ("stimulus", trial.stimulus_ms, 1),
                    ("after", trial.after_ms, 0),
                    ("readout_window", trial.readout_window_ms, 1),
                    ("return_window", trial.return_window_ms, 0),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// What of them the steps of `euler` cannot simulate, by parameter.
    fn unfit(&self, euler: &Euler) -> Vec<(&'static str, String)> {
        unfit(euler, &self.times())
    }

    pub(super) fn inversion(&self, fit: Fit) -> InvertConfig {
        InvertConfig {
            contraction_weight: self.contraction_weight,
            stimulus_ms: self.stimulus,
            fit,
        }
    }

    /// phi over the epochs, in phases with trials.
    pub(super) fn phi(&self) -> PhiSchedule {
        match self.phase {
            Phase::Linear => PhiSchedule::Held(Phi::Identity),
            Phase::Anneal => PhiSchedule::Annealed,
            _ => PhiSchedule::Held(Phi::Relu),
        }
    }

    /// Rules that the schema cannot state.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let phase = self.phase.name();
        match (&self.start, self.phase.has_start()) {
            (None, true) => found.push(Violation::new(
                "phase",
                format!("phase `{phase}` continues from another stage's model: name that stage with `start`"),
            )),
            (Some(_), false) => found.push(Violation::new(
                "start",
                format!("phase `{phase}` starts from random weights; `finetune` continues from a model"),
            )),
            _ => {}
        }
        if self.phase != Phase::Fold {
            let missing = [
                ("epochs", self.epochs.is_none()),
                ("optimiser", self.optimiser.is_none()),
                ("learning_rate", self.learning_rate.is_none()),
            ];
            for (name, _) in missing.iter().filter(|(_, missing)| *missing) {
                found.push(Violation::new(
                    "phase",
                    format!(
                        "phase `{phase}` needs `{name}`; `use: train/{}` brings the published one",
                        self.phase.preset()
                    ),
                ));
            }
        }
        if self.epochs.is_some_and(|epochs| epochs > MOST_EPOCHS) {
            let message = format!("more than {MOST_EPOCHS} epochs");
            found.push(Violation::new("epochs", message));
        }
        if self.network.is_some() {
            found.extend(self.beside_network());
        }
        found.extend(self.unfit_choice());
        // What depends on the data is checked when they are known.
        let graph = match self.graph_of_some_images() {
            Ok(graph) => Some(graph),
            Err(Flaw { place, message, .. }) => {
                found.push(Violation::new(place, message));
                None
            }
        };
        if let (Phase::Cnn, Some(graph)) = (self.phase, &graph)
            && let Err(error) = graph.check_twin()
        {
            let at = if self.network.is_some() { "network" } else { "areas" };
            let message = format!("phase `cnn`: {error}; phase `direct` trains any network");
            found.push(Violation::new(at, message));
        }
        if let Err(error) = self.augment.augmentation().validate() {
            found.push(Violation::new("augment", error.to_string()));
        }
        let steps_known = self.dt.is_some() || !self.phase.has_start();
        if self.phase.has_trials() && steps_known {
            let euler = self.euler(None);
            let areas = match (self.areas, self.phase.has_start(), &graph) {
                (Some(_), ..) | (None, false, _) => graph.as_ref().map(Graph::areas),
                // The network is known when it runs.
                (None, true, _) => None,
            };
            let has_own = |graph: &Graph| (0..graph.areas()).all(|area| graph.area(area).tau_ms.is_some());
            let checked = if graph.as_ref().is_some_and(has_own) {
                // Those of the stage are not used.
                Ok(())
            } else {
                // As many as there are time constants where nothing says how many areas there are.
                euler.validate(areas.unwrap_or(euler.tau_ms.len()))
            };
            if let Err(error) = checked {
                found.push(Violation::new("tau", error.to_string()));
            } else if let Some(Flaw { place, message, .. }) = self.too_fast(graph.as_ref(), &euler) {
                found.push(Violation::new(place, message));
            } else if let Some(fit) = self.fit()
                && let Some(message) = too_long(&self.trials(fit, None), &euler)
            {
                found.push(Violation::new("dt", message));
            } else {
                let unfit = self.unfit(&euler);
                if let (true, Some(fit)) = (unfit.is_empty(), self.fit())
                    && let Err(error) = self.trials(fit, None).objective(&euler)
                {
                    found.push(Violation::new("stimulus", error.to_string()));
                }
                found.extend(unfit.into_iter().map(|(name, problem)| Violation::new(name, problem)));
            }
        } else if steps_known {
            let unfit = self.unfit(&self.euler(None)).into_iter();
            found.extend(unfit.map(|(name, problem)| Violation::new(name, problem)));
        }
        let windows = (self.stimulus / self.accuracy_window).ceil() * self.epochs.unwrap_or(0) as f64;
        if self.phase.has_trials() && windows > MOST_WINDOWS {
            let message =
                format!("{windows} time windows of `accuracy_window` in all `epochs`; at most {MOST_WINDOWS} are kept");
            found.push(Violation::new("accuracy_window", message));
        }
        found
    }

    /// Whether its epochs are the first of a training with more of them: nothing in them depends on how many there are
    /// to be.
    pub(super) fn begins_a_longer_one(&self) -> bool {
        let is_held = !matches!(self.phase, Phase::Fold | Phase::Anneal);
        is_held && self.schedule != ScheduleName::Cosine
    }

    /// Why validation cannot choose an epoch of this phase, where it is asked to.
    fn unfit_choice(&self) -> Option<Violation> {
        let asked = [
            ("early_stop", self.early_stop.is_some()),
            ("keep", self.keep == Keep::Best),
        ];
        let (name, _) = asked.into_iter().find(|(_, is_asked)| *is_asked)?;
        let reason = match self.phase {
            Phase::Fold => "trains nothing",
            Phase::Invert => "learns no classes, so accuracy and cross-entropy do not say which epoch is best",
            Phase::Anneal => "ends with phi = ReLU, which no epoch but the last has",
            Phase::Direct | Phase::Cnn | Phase::Linear | Phase::Finetune => return None,
        };
        let message = format!("phase `{}` {reason}: leave `{name}` out", self.phase.name());
        Some(Violation::new(name, message))
    }

    /// Whether time constants of areas or adaptation are trained.
    pub(super) fn trains_cells(&self) -> bool {
        self.network.as_ref().is_some_and(NetworkParams::trains_cells)
    }

    /// What of `network` is too fast for the steps.
    fn too_fast(&self, graph: Option<&Graph>, euler: &Euler) -> Option<Flaw> {
        self.network.as_ref()?.too_fast(graph?, euler)
    }

    /// What may not stand beside `network`.
    fn beside_network(&self) -> Vec<Violation> {
        let given = [
            ("areas", self.areas.is_some()),
            ("channels", self.channels.is_some()),
            ("strides", self.strides.is_some()),
        ];
        let given = given.into_iter().filter(|(_, given)| *given);
        let mut found: Vec<Violation> = given
            .map(|(name, _)| {
                let message = format!("`{name}` and `network` both say which network it is: give one of them");
                Violation::new(name, message)
            })
            .collect();
        if self.phase.has_start() {
            let phase = self.phase.name();
            let message = format!("phase `{phase}` continues with the network of `start`: leave `network` out");
            found.push(Violation::new("network", message));
        }
        found
    }

    /// Whether images are changed at random in another way than they were before torchvision's arithmetic was taken
    /// over.
    pub(super) fn changes_images(&self) -> bool {
        self.phase != Phase::Fold && self.augment.is_new()
    }
}
