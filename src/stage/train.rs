//! `train`: a CordsNet from random weights with the published objective, or its feed-forward twin.

use std::ops::ControlFlow;
use std::time::Duration;

use cords::data::{Affine, Augment, Elastic, ImageSet, RandomResizedCrop, Split, SplitImages};
use cords::learn::{
    Checkpoints, CnnConfig, Data, DirectConfig, EpochRecord, Fit, Images, Initialisation, OptimiserKind, Place,
    Progress, Schedule, WarmUp, WindowRecord, train_cnn, train_cordsnet,
};
use cords::net::{Architecture, Euler, ModelInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Artifact, Context, DatasetRef, Kind, Output, StageError, Update, Violation};
use crate::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(super) struct Train;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// CordsNet from random weights, by back-propagation through time
    Direct,
    /// the feed-forward twin with batch norm
    Cnn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimiserName {
    /// stochastic gradient descent with momentum
    Sgd,
    /// Adam
    Adam,
    /// Adam with decoupled weight decay
    Adamw,
}

/// How the learning rate changes over training.
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

/// Random changes of training images, fresh in every epoch. All off by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AugmentParams {
    /// Largest rotation.
    #[schemars(range(min = 0.0, max = 180.0), extend("x-unit" = "degrees"))]
    degrees: f64,
    /// Largest shift, as a fraction of the side.
    #[schemars(range(min = 0.0, max = 1.0))]
    translate: f64,
    /// Range of the scale: [least, largest].
    #[schemars(length(min = 2, max = 2))]
    scale: Option<Vec<f64>>,
    /// Largest shear.
    #[schemars(range(min = 0.0, max = 89.0), extend("x-unit" = "degrees"))]
    shear: f64,
    /// Mirror left and right with probability 1/2.
    flip: bool,
    /// Largest relative change of brightness.
    #[schemars(range(min = 0.0, max = 1.0))]
    brightness: f64,
    /// Largest relative change of contrast.
    #[schemars(range(min = 0.0, max = 1.0))]
    contrast: f64,
    /// Strength of elastic deformation; 0 for none.
    #[schemars(range(min = 0.0), extend("x-unit" = "px"))]
    elastic_alpha: f64,
    /// Smoothness of elastic deformation.
    #[schemars(range(min = 0.0), extend("x-unit" = "px"))]
    elastic_sigma: f64,
    /// Random resized crop: range of the area, [least, largest], as fractions of the image.
    #[schemars(length(min = 2, max = 2))]
    crop: Option<Vec<f64>>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What is trained.
    phase: Phase,
    /// Images to train on and to validate with.
    data: DatasetRef,
    /// Number of areas: 2, 4, 6 or 8.
    #[serde(default = "eight")]
    #[schemars(range(min = 2, max = 8))]
    areas: usize,
    /// Channels of the input layer and of the first two areas; later pairs have 2, 4 and 8 times as many.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 1024), extend("x-unit" = "channels"))]
    width: usize,
    /// Channels of the input layer and of every area, instead of `width`.
    #[serde(default)]
    channels: Option<Vec<usize>>,
    /// Stride of every area's feed-forward convolution; 1, 1, 2, 1, 2, 1, 2, 1 if not given.
    #[serde(default)]
    strides: Option<Vec<usize>>,
    /// Euler step.
    #[serde(default = "two")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    dt: f64,
    /// Time constant: one for all areas, or one for each.
    #[serde(default = "ten_list")]
    #[schemars(extend("x-unit" = "ms"))]
    tau: Vec<f64>,
    /// Time without input from rest, whose end is the spontaneous state.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: f64,
    /// Time that the image is shown.
    #[serde(default = "two_hundred")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: f64,
    /// Time without input after the image.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    after: f64,
    /// End of the stimulus over which the readout is trained.
    #[serde(default = "sixty")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    readout_window: f64,
    /// Exponents of ten of the first and last weight within the readout window.
    #[serde(default = "published_ramp")]
    #[schemars(length(min = 2, max = 2))]
    ramp: Vec<f64>,
    /// Weight of the return to the spontaneous state.
    #[serde(default = "one_thousandth")]
    #[schemars(range(min = 0.0))]
    return_weight: f64,
    /// End of the time after the image over which the return is asked for.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    return_window: f64,
    /// Passes over the training images.
    #[schemars(range(min = 1))]
    epochs: usize,
    /// Images a gradient step.
    #[serde(default = "batch")]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    batch: usize,
    /// Rule of the gradient step.
    optimiser: OptimiserName,
    /// Learning rate before schedule and warm-up.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    learning_rate: f64,
    /// Momentum, for `sgd`.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    momentum: f64,
    /// Weight decay.
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
    /// Largest norm of the gradient; larger ones are scaled down.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    clip: Option<f64>,
    /// Width of the time windows in which validation accuracy is recorded.
    #[serde(default = "twenty")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    accuracy_window: f64,
    /// Initial sizes of weights.
    #[serde(default)]
    initialisation: InitialisationParams,
    /// Random changes of training images.
    #[serde(default)]
    augment: AugmentParams,
    /// Time between checkpoints, from which a stopped or killed training goes on to the same result; 0 for one after
    /// every batch.
    #[serde(default = "five")]
    #[schemars(range(min = 0.0), extend("x-unit" = "min", "x-unkeyed" = true))]
    checkpoint_minutes: f64,
    /// Seed of weights, order and augmentation; the pipeline's if not given.
    #[serde(default)]
    seed: u64,
}

/// Initial sizes of weights: lengths of rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct InitialisationParams {
    /// Of the input and feed-forward convolutions (sqrt 2 if not given).
    #[schemars(range(min = 0.0))]
    feedforward: Option<f64>,
    /// Of the shortcuts (1 if not given).
    #[schemars(range(min = 0.0))]
    shortcut: Option<f64>,
    /// Spectral radius of the recurrent convolutions; below 1 the dynamics start contractive (0.5 if not given).
    #[schemars(range(min = 0.0))]
    recurrent: Option<f64>,
    /// Of the readout (1 if not given).
    #[schemars(range(min = 0.0))]
    readout: Option<f64>,
}

fn eight() -> usize {
    8
}

fn sixty_four() -> usize {
    64
}

fn two() -> f64 {
    2.0
}

fn ten_list() -> Vec<f64> {
    vec![10.0]
}

fn two_hundred() -> f64 {
    200.0
}

fn sixty() -> f64 {
    60.0
}

fn twenty() -> f64 {
    20.0
}

fn published_ramp() -> Vec<f64> {
    vec![-3.0, 0.0]
}

fn one_thousandth() -> f64 {
    1e-3
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

impl Params {
    fn architecture(&self, in_channels: usize, image_side: usize, classes: usize) -> Architecture {
        /// Widths of the published networks in units of the first pair's.
        const WIDTHS: [usize; 9] = [1, 1, 1, 2, 2, 4, 4, 8, 8];
        const STRIDES: [usize; 8] = [1, 1, 2, 1, 2, 1, 2, 1];
        let areas = self.areas.min(STRIDES.len());
        Architecture {
            in_channels,
            image_side,
            channels: self
                .channels
                .clone()
                .unwrap_or_else(|| WIDTHS[..=areas].iter().map(|w| w * self.width).collect()),
            strides: self.strides.clone().unwrap_or_else(|| STRIDES[..areas].to_vec()),
            classes,
        }
    }

    fn euler(&self) -> Euler {
        Euler {
            dt_ms: self.dt,
            tau_ms: self.tau.clone(),
        }
    }

    fn fit(&self) -> Fit {
        let default = Initialisation::default();
        let initialisation = Initialisation {
            feedforward: self.initialisation.feedforward.unwrap_or(default.feedforward),
            shortcut: self.initialisation.shortcut.unwrap_or(default.shortcut),
            recurrent: self.initialisation.recurrent.unwrap_or(default.recurrent),
            readout: self.initialisation.readout.unwrap_or(default.readout),
        };
        Fit {
            epochs: self.epochs,
            batch: self.batch,
            optimiser: match self.optimiser {
                OptimiserName::Sgd => OptimiserKind::Sgd {
                    momentum: self.momentum,
                    weight_decay: self.weight_decay,
                },
                OptimiserName::Adam => OptimiserKind::Adam {
                    weight_decay: self.weight_decay,
                },
                OptimiserName::Adamw => OptimiserKind::AdamW {
                    weight_decay: self.weight_decay,
                },
            },
            learning_rate: self.learning_rate,
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
            seed: self.seed,
        }
    }

    fn direct(&self) -> DirectConfig {
        DirectConfig {
            spontaneous_ms: self.spontaneous,
            stimulus_ms: self.stimulus,
            after_ms: self.after,
            readout_window_ms: self.readout_window,
            ramp: [self.ramp[0], self.ramp[1]],
            return_weight: self.return_weight,
            return_window_ms: self.return_window,
            accuracy_window_ms: self.accuracy_window,
            fit: self.fit(),
        }
    }

    fn augmentation(&self) -> Augment {
        let a = &self.augment;
        let pair = |values: &Option<Vec<f64>>| values.as_ref().map(|v| [v[0] as f32, v[1] as f32]);
        let affine = a.degrees > 0.0 || a.translate > 0.0 || a.scale.is_some() || a.shear > 0.0;
        Augment {
            random_resized_crop: pair(&a.crop).map(|scale| RandomResizedCrop {
                scale,
                ..RandomResizedCrop::default()
            }),
            horizontal_flip: if a.flip { 0.5 } else { 0.0 },
            affine: affine.then(|| Affine {
                degrees: a.degrees as f32,
                translate: a.translate as f32,
                scale: pair(&a.scale).unwrap_or([1.0, 1.0]),
                shear: a.shear as f32,
            }),
            elastic: (a.elastic_alpha > 0.0).then_some(Elastic {
                alpha: a.elastic_alpha as f32,
                sigma: a.elastic_sigma as f32,
            }),
            brightness: a.brightness as f32,
            contrast: a.contrast as f32,
        }
    }
}

impl Kind for Train {
    type Params = Params;
    const NAME: &'static str = "train";
    const SUMMARY: &'static str = "train a CordsNet with the published objective, or its feed-forward twin";
    const CODE_VERSION: u32 = 1;
    const KEEPS_CHECKPOINTS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        // Any image that is large enough will do: what depends on the data is checked when they are known.
        let architecture = params.architecture(3, 224, 10);
        if let Err(error) = architecture.validate() {
            let at = match (&params.channels, &params.strides) {
                (Some(_), _) => "channels",
                (None, Some(_)) => "strides",
                (None, None) => "areas",
            };
            found.push(Violation::new(at, error.to_string()));
        }
        if let Err(error) = params.augmentation().validate() {
            found.push(Violation::new("augment", error.to_string()));
        }
        if params.phase == Phase::Direct {
            if let Err(error) = params.euler().validate(architecture.areas()) {
                found.push(Violation::new("tau", error.to_string()));
            } else if let Err(error) = params.direct().objective(&params.euler()) {
                found.push(Violation::new("stimulus", error.to_string()));
            }
        }
        found
    }

    fn outputs(params: &Params) -> Vec<Output> {
        let mut outputs = vec![
            Output::new("model", Artifact::Model),
            Output::new("training", Artifact::Table),
            // Apart from the rest, so that the rest is the same bytes on every machine and day.
            Output::new("speed", Artifact::Table),
        ];
        if params.phase == Phase::Direct {
            outputs.insert(2, Output::new("windows", Artifact::Table));
        }
        outputs
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let augment = params.augmentation();
        let train = SplitImages::new(&set, Split::Train, Some(&augment), params.seed)?;
        let validation = SplitImages::new(&set, Split::Validation, None, params.seed)?;
        if validation.is_empty() {
            return Err(StageError::new("the dataset has no validation images")
                .hint("give the dataset stage a `validation` fraction above 0"));
        }
        let data = Data {
            train: &train,
            validation: &validation,
        };
        let architecture = params.architecture(set.channels(), set.side(), set.classes().len());
        let mut info = ModelInfo {
            seed: params.seed,
            data: set.name().to_owned(),
            mean: set.mean().to_vec(),
            std: set.std().to_vec(),
            classes: set.classes().to_vec(),
            presentation: None,
            phases: Vec::new(),
        };
        let (folder, identity) = (context.checkpoint.clone(), context.key.clone());
        let checkpoints = Checkpoints {
            folder: &folder,
            identity: &identity,
            every: Duration::try_from_secs_f64(60.0 * params.checkpoint_minutes).unwrap_or(Duration::MAX),
        };
        let checkpoints = Some(&checkpoints);
        let mut batches_each = 0;
        let mut observer = |progress: Progress<'_>| {
            tell(&progress, &mut batches_each, context);
            if context.stop_requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let (model, epochs, windows) = match params.phase {
            Phase::Direct => {
                let config = params.direct();
                info.presentation = Some(config.presentation());
                let mut trained = train_cordsnet(
                    &architecture,
                    &params.euler(),
                    &config,
                    &data,
                    checkpoints,
                    &mut observer,
                )?;
                let (epochs, windows) = (
                    std::mem::take(&mut trained.epochs),
                    std::mem::take(&mut trained.windows),
                );
                (trained.into_model(info), epochs, Some(windows))
            }
            Phase::Cnn => {
                let config = CnnConfig { fit: params.fit() };
                let mut trained = train_cnn(&architecture, &config, &data, checkpoints, &mut observer)?;
                let epochs = std::mem::take(&mut trained.epochs);
                (trained.into_model(info), epochs, None)
            }
        };
        model.save(&context.output("model")?.join("model.safetensors"))?;
        context.write_table("training", &training_table(params.phase, &epochs)?)?;
        if let Some(windows) = windows {
            context.write_table("windows", &windows_table(&windows)?)?;
        }
        context.write_table("speed", &speed_table(&epochs)?)
    }
}

/// `batches_each` remembers the batches of an epoch, so that the end of one counts in the same unit.
fn tell(progress: &Progress, batches_each: &mut usize, context: &mut Context) {
    match progress {
        Progress::Batch {
            epoch,
            epochs,
            batch,
            batches,
            loss,
            images_per_second,
        } => {
            *batches_each = *batches;
            context.report(Update {
                done: (epoch * batches + batch + 1) as u64,
                total: (epochs * batches) as u64,
                unit: "batches".into(),
                phase: format!("epoch {}/{epochs}", epoch + 1),
                figures: vec![("loss".into(), *loss), ("images/s".into(), *images_per_second)],
                milestone: false,
            });
        }
        Progress::Epoch { epochs, record } => context.report(Update {
            done: ((record.epoch + 1) * *batches_each) as u64,
            total: (epochs * *batches_each) as u64,
            unit: "batches".into(),
            phase: format!("epoch {}/{epochs}", record.epoch + 1),
            figures: vec![
                ("loss".into(), record.loss),
                ("validation accuracy".into(), record.validation_accuracy),
                ("images/s".into(), record.images as f64 / record.seconds),
            ],
            milestone: true,
        }),
        Progress::Continued(place) => {
            *batches_each = place.batches;
            context.note(format!("goes on from its checkpoint: {}", words(*place)));
        }
        Progress::CheckpointRefused { reason } => {
            context.note(format!(
                "cannot use its checkpoint, starts from the beginning: {reason}"
            ));
        }
        Progress::CheckpointWritten(place) if context.stop_requested() => {
            let place = words(*place);
            context.note(format!("wrote a checkpoint: {place}; the next run goes on from there"));
        }
        Progress::CheckpointWritten(_) => {}
        Progress::CheckpointFailed { reason } => {
            context.note(format!("cannot write a checkpoint: {reason}"));
        }
    }
}

/// A place in a training.
fn words(place: Place) -> String {
    let Place {
        epoch,
        epochs,
        batch,
        batches,
    } = place;
    format!("epoch {}/{epochs}, {batch} of {batches} batches done", epoch + 1)
}

fn training_table(phase: Phase, epochs: &[EpochRecord]) -> Result<Table, TableError> {
    let mut schema = TableSchema::new("training", "Loss, accuracy and gradient of each epoch")
        .key("epoch", DType::Int, "Epoch, from 1")
        .value("loss", DType::Float, "Mean training loss")
        .value(
            "cross_entropy",
            DType::Float,
            "Mean training cross-entropy at the end of the stimulus",
        )
        .unit("nat")
        .value(
            "accuracy",
            DType::Float,
            "Training images classified rightly, as augmented",
        )
        .value(
            "validation_cross_entropy",
            DType::Float,
            "Validation cross-entropy at the end of the stimulus",
        )
        .unit("nat")
        .value(
            "validation_accuracy",
            DType::Float,
            "Validation images classified rightly",
        )
        .value("learning_rate", DType::Float, "Learning rate of the last step")
        .value(
            "gradient_norm",
            DType::Float,
            "Norm of the gradient before clipping, mean over steps",
        );
    if phase == Phase::Direct {
        schema = schema.value(
            "return_term",
            DType::Float,
            "Mean squared distance from the spontaneous state after the image",
        );
    }
    let mut table = TableWriter::new(schema)?;
    for r in epochs {
        let mut row = vec![Value::Int(r.epoch as i64 + 1)];
        row.extend(
            [
                r.loss,
                r.cross_entropy,
                r.accuracy,
                r.validation_loss,
                r.validation_accuracy,
                r.learning_rate,
                r.gradient_norm,
            ]
            .map(Value::Float),
        );
        if phase == Phase::Direct {
            row.push(Value::Float(r.return_term));
        }
        table.push_row(row)?;
    }
    table.finish()
}

fn windows_table(windows: &[WindowRecord]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "windows",
            "Validation in time windows after image onset, for each epoch",
        )
        .key("epoch", DType::Int, "Epoch, from 1")
        .key("start", DType::Float, "Start of the window after image onset")
        .unit("ms")
        .value("end", DType::Float, "Its end")
        .unit("ms")
        .value(
            "accuracy",
            DType::Float,
            "Validation images classified rightly, mean over the window",
        )
        .value(
            "cross_entropy",
            DType::Float,
            "Validation cross-entropy, mean over the window",
        )
        .unit("nat"),
    )?;
    for w in windows {
        let mut row = vec![Value::Int(w.epoch as i64 + 1)];
        row.extend([w.start_ms, w.end_ms, w.accuracy, w.cross_entropy].map(Value::Float));
        table.push_row(row)?;
    }
    table.finish()
}

fn speed_table(epochs: &[EpochRecord]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "speed",
            "How fast each epoch went: the one table that differs from run to run",
        )
        .key("epoch", DType::Int, "Epoch, from 1")
        .value(
            "images_per_second",
            DType::Float,
            "Training images, validation time included",
        )
        .unit("1/s")
        .value("seconds", DType::Float, "Wall-clock time")
        .unit("s"),
    )?;
    for r in epochs {
        table.push_row([
            Value::Int(r.epoch as i64 + 1),
            Value::Float(r.images as f64 / r.seconds.max(1e-9)),
            Value::Float(r.seconds),
        ])?;
    }
    table.finish()
}
