//! `noise`: classification of noisy images by any number of models, each beside its controls.

use cords::data::{ImageSet, Split};
use cords::device::Cpu;
use cords::device::cuda::{Precision, with_images_that_fit};
use cords::net::{Model, Presentation};
use cords::noise::{Condition, EvaluationOptions, NoiseResult, Observer, Timing, evaluate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Artifact, Context, DatasetRef, GPU_IMAGES, Kind, ModelRef, Output, SplitName, StageError, Update, Violation,
};
use crate::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(super) struct Noise;

/// When noise is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PresentationName {
    /// one draw per image, held while it is shown
    Static,
    /// a fresh draw at every step; the level is that of a step of 2 ms and scales with sqrt(2 ms / dt)
    Dynamic,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Models to evaluate.
    #[schemars(length(min = 1))]
    models: Vec<ModelRef>,
    /// Images to evaluate them on.
    data: DatasetRef,
    /// Part of the dataset.
    #[serde(default)]
    split: SplitName,
    /// Standard deviations of Gaussian noise in pixel units of [0, 1], added before normalisation.
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    levels: Vec<f64>,
    /// When noise is drawn.
    #[serde(default = "both")]
    #[schemars(length(min = 1))]
    presentations: Vec<PresentationName>,
    /// Use the first this many images of the part; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    images: Option<usize>,
    /// Time without input before the image; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: Option<f64>,
    /// Time that the image is shown; as each CordsNet was trained, if not given. A CNN gets the frames of the first
    /// CordsNet among the models.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: Option<f64>,
    /// Independent repetitions of the noise.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    trials: u32,
    /// Clip noisy pixels to [0, 1].
    #[serde(default)]
    clip: bool,
    /// Seed of the noise; the pipeline's if not given.
    #[serde(default)]
    seed: u64,
}

fn both() -> Vec<PresentationName> {
    vec![PresentationName::Static, PresentationName::Dynamic]
}

fn one() -> u32 {
    1
}

/// One evaluated condition of one model.
struct Evaluated {
    slot: usize,
    model: String,
    seed: u64,
    trial: u32,
    result: NoiseResult,
}

impl Kind for Noise {
    type Params = Params;
    const NAME: &'static str = "noise";
    const SUMMARY: &'static str = "accuracy under Gaussian image noise, held or fresh in every step, beside controls";
    const CODE_VERSION: u32 = 3;
    const USES_DEVICE: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut levels = params.levels.clone();
        levels.sort_by(f64::total_cmp);
        if levels.windows(2).any(|w| w[0] == w[1]) {
            found.push(Violation::new("levels", "a level stands twice"));
        }
        if params.presentations.len() > 1 && params.presentations[0] == params.presentations[1] {
            found.push(Violation::new("presentations", "a presentation stands twice"));
        }
        found
    }

    fn outputs(_: &Params) -> Vec<Output> {
        vec![
            Output::new("accuracy", Artifact::Table),
            Output::new("summary", Artifact::Table),
            Output::new("time", Artifact::Table),
        ]
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let indices = set.split(params.split.into());
        let indices = &indices[..params.images.unwrap_or(indices.len()).min(indices.len())];
        let models = params
            .models
            .iter()
            .map(|m| Ok(Model::load(&context.input(&m.0)?.join("model.safetensors"))?))
            .collect::<Result<Vec<_>, StageError>>()?;
        let frames = frames_for_cnns(&models);
        let gpu = context.gpu(Precision::default())?;
        let mut evaluated = Vec::new();
        let total = models.len() * params.trials as usize;
        for (slot, model) in models.iter().enumerate() {
            for trial in 0..params.trials {
                let options = options(params, model, frames, trial);
                let done = slot * params.trials as usize + trial as usize;
                let name = model_name(model);
                let mut progress = |part, parts: usize| {
                    context.report(Update {
                        done: (done * 1000 + part * 1000 / parts.max(1)) as u64,
                        total: (total * 1000) as u64,
                        unit: "per mille of a model".into(),
                        phase: format!("{name}, model {}/{}", slot + 1, models.len()),
                        figures: Vec::new(),
                        milestone: part == parts,
                    });
                };
                let results = match &gpu {
                    None => evaluate(&Cpu, model, &set, indices, &options, &mut progress)?,
                    Some(gpu) => {
                        with_images_that_fit(gpu, GPU_IMAGES, |device| {
                            evaluate(device, model, &set, indices, &options, &mut progress)
                        })?
                        .0
                    }
                };
                evaluated.extend(results.into_iter().map(|result| Evaluated {
                    slot,
                    model: name.clone(),
                    seed: model.info().seed,
                    trial,
                    result,
                }));
            }
        }
        context.write_table("accuracy", &accuracy_table(&evaluated)?)?;
        context.write_table("summary", &summary_table(&evaluated)?)?;
        context.write_table("time", &time_table(&evaluated)?)
    }
}

/// Presentation and step of the first CordsNet, so that a CNN sees the same frames; the published ones without any.
fn frames_for_cnns(models: &[Model]) -> (Presentation, f64) {
    models
        .iter()
        .find_map(|model| match model {
            Model::CordsNet { euler, info, .. } => Some((info.presentation?, euler.dt_ms)),
            Model::Cnn { .. } => None,
        })
        .unwrap_or((
            Presentation {
                spontaneous_ms: 200.0,
                stimulus_ms: 200.0,
            },
            2.0,
        ))
}

fn options(params: &Params, model: &Model, frames: (Presentation, f64), trial: u32) -> EvaluationOptions {
    let own = model.info().presentation.unwrap_or(frames.0);
    let observers = match model {
        Model::CordsNet { .. } => vec![Observer::Cordsnet, Observer::CordsnetWithoutRecurrence],
        Model::Cnn { .. } => vec![Observer::CnnFirstFrame, Observer::CnnMeanFrame, Observer::CnnMeanLogits],
    };
    let conditions = params
        .presentations
        .iter()
        .flat_map(|p| {
            let timing = match p {
                PresentationName::Static => Timing::Static,
                PresentationName::Dynamic => Timing::Dynamic,
            };
            params
                .levels
                .iter()
                .map(move |level| Condition { timing, level: *level })
        })
        .collect();
    EvaluationOptions {
        observers,
        conditions,
        presentation: Presentation {
            spontaneous_ms: params.spontaneous.unwrap_or(own.spontaneous_ms),
            stimulus_ms: params.stimulus.unwrap_or(own.stimulus_ms),
        },
        dt_ms: frames.1,
        seed: params.seed,
        trial,
        clip: params.clip,
    }
}

/// `CordsNet-R2`, `CNN-R2`.
pub(crate) fn model_name(model: &Model) -> String {
    let kind = match model {
        Model::CordsNet { .. } => "CordsNet",
        Model::Cnn { .. } => "CNN",
    };
    format!("{kind}-R{}", model.architecture().areas())
}

/// How a network looks at the frames, in a reader's words.
fn view(observer: Observer) -> &'static str {
    match observer {
        Observer::Cordsnet => "dynamics",
        Observer::CordsnetWithoutRecurrence => "no recurrence",
        Observer::CnnFirstFrame => "one frame",
        Observer::CnnMeanFrame => "mean of frames",
        Observer::CnnMeanLogits => "mean of logits",
    }
}

fn timing_name(timing: Timing) -> &'static str {
    match timing {
        Timing::Static => "static",
        Timing::Dynamic => "dynamic",
    }
}

const VIEW: &str =
    "How the network looks: dynamics, no recurrence (recurrent weights 0), one frame, mean of frames, mean of logits";

/// What one evaluated condition is known by.
fn condition_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("models", DType::Int, "The stage that gave the model")
        .slot("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("view", DType::Text, VIEW)
        .key("seed", DType::Int, "Seed of the model's training")
        .key("trial", DType::Int, "Repetition of the noise")
        .key(
            "presentation",
            DType::Text,
            "static: one draw held; dynamic: fresh at every step",
        )
        .key("level", DType::Float, "Standard deviation of the noise")
        .unit("pixel range")
}

/// Values of [`condition_keys`].
fn condition_values(e: &Evaluated) -> Vec<Value> {
    vec![
        Value::Int(e.slot as i64),
        Value::Text(e.model.clone()),
        Value::Text(view(e.result.observer).into()),
        Value::Int(e.seed as i64),
        Value::Int(i64::from(e.trial)),
        Value::Text(timing_name(e.result.condition.timing).into()),
        Value::Float(e.result.condition.level),
    ]
}

fn accuracy_table(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        condition_keys(TableSchema::new(
            "accuracy",
            "Accuracy of every model, view, presentation and noise level",
        ))
        .value("accuracy", DType::Float, "Images classified rightly")
        .value("accuracy_low", DType::Float, "Lower end of the 95 % interval (Wilson)")
        .value("accuracy_high", DType::Float, "Upper end of the 95 % interval (Wilson)")
        .value(
            "top5",
            DType::Float,
            "Images whose label is among the five largest logits",
        )
        .allow_missing()
        .value("cross_entropy", DType::Float, "Mean cross-entropy")
        .unit("nat")
        .allow_missing()
        .value(
            "achieved",
            DType::Float,
            "Standard deviation of the noise in the frames, measured",
        )
        .unit("pixel range")
        .tolerance(1e-6, 1e-6)
        .value("images", DType::Int, "Number of images")
        .value(
            "diverged",
            DType::Int,
            "Images whose logits were not finite, counted as wrong",
        ),
    )?;
    for e in evaluated {
        let r = &e.result;
        let mut row = condition_values(e);
        row.extend([
            Value::Float(r.accuracy),
            Value::Float(r.accuracy_interval[0]),
            Value::Float(r.accuracy_interval[1]),
            Value::optional(r.top5),
            Value::optional(r.cross_entropy),
            Value::Float(r.achieved_std),
            Value::Int(r.images as i64),
            Value::Int(r.diverged as i64),
        ]);
        table.push_row(row)?;
    }
    table.finish()
}

/// Mean and spread over the models of one kind, and over trials.
fn summary_table(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "summary",
            "Accuracy by network and noise: mean and standard deviation over models and trials",
        )
        .key("network", DType::Text, "Kind and number of areas")
        .key("view", DType::Text, VIEW)
        .key(
            "presentation",
            DType::Text,
            "static: one draw held; dynamic: fresh at every step",
        )
        .key("level", DType::Float, "Standard deviation of the noise")
        .unit("pixel range")
        .value("accuracy", DType::Float, "Images classified rightly, mean")
        .value("deviation", DType::Float, "Standard deviation over models and trials")
        .allow_missing()
        .value("n", DType::Int, "Models times trials"),
    )?;
    let mut groups: indexmap::IndexMap<(String, &str, &str, u64), Vec<f64>> = indexmap::IndexMap::new();
    for e in evaluated {
        let r = &e.result;
        let key = (
            e.model.clone(),
            view(r.observer),
            timing_name(r.condition.timing),
            r.condition.level.to_bits(),
        );
        groups.entry(key).or_default().push(r.accuracy);
    }
    for ((network, view, presentation, level), values) in groups {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        table.push_row([
            Value::Text(network),
            Value::Text(view.into()),
            Value::Text(presentation.into()),
            Value::Float(f64::from_bits(level)),
            Value::Float(mean),
            if values.len() > 1 {
                // Equal values deviate by nothing, not by the rounding of their mean.
                let equal = values.iter().all(|v| *v == values[0]);
                Value::Float(if equal { 0.0 } else { variance.sqrt() })
            } else {
                Value::Null
            },
            Value::Int(values.len() as i64),
        ])?;
    }
    table.finish()
}

fn time_table(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        condition_keys(TableSchema::new(
            "time",
            "Accuracy of recurrent networks as a function of time after image onset",
        ))
        .key("time", DType::Float, "Time after image onset")
        .unit("ms")
        .value("accuracy", DType::Float, "Images classified rightly"),
    )?;
    for e in evaluated {
        for point in &e.result.over_time {
            let mut row = condition_values(e);
            row.extend([Value::Float(point.time_ms), Value::Float(point.accuracy)]);
            table.push_row(row)?;
        }
    }
    table.finish()
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}
