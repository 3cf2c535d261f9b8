//! `evaluate`: accuracy of any number of models on the same images, as they are.

use crate::stage::gpu::gpu;
use cords::data::{ImageSet, SplitImages};
use cords::device::Cpu;
use cords::device::cuda::{Precision, with_images_that_fit};
use cords::learn::{Answers, evaluate};
use cords::net::{Model, Presentation};
use cords::noise::wilson_interval;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keyed_defaults;
use super::noise::model_name;
use super::times::require_presentation;
use super::{
    Artifact, Context, DatasetRef, Declared, GPU_IMAGES, Kind, Members, ModelRef, SplitName, Spread, StageError, Update,
};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(super) struct Evaluate;

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
    /// Time without input before the image; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: Option<f64>,
    /// Time that the image is shown; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: Option<f64>,
}

impl Params {
    /// How long a model is without an image and shown one; none where neither it nor the stage says.
    fn presentation(&self, model: &Model) -> Option<Presentation> {
        let own = model.info().presentation;
        Some(Presentation {
            spontaneous_ms: self.spontaneous.or(own.map(|own| own.spontaneous_ms))?,
            stimulus_ms: self.stimulus.or(own.map(|own| own.stimulus_ms))?,
        })
    }
}

/// One model's result.
struct Evaluated {
    slot: usize,
    /// The first slot whose model this one repeats.
    group: usize,
    network: String,
    seed: u64,
    /// The last phase of its training, and the epochs of all its phases; none where they are not known.
    phase: Option<String>,
    epochs: Option<usize>,
    images: usize,
    answers: Answers,
}

impl Kind for Evaluate {
    type Params = Params;
    const NAME: &'static str = "evaluate";
    const SUMMARY: &'static str = "accuracy of models on the same images, with the phase and length of their training";
    const CODE_VERSION: u32 = 4;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::EVALUATE;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("accuracy", Artifact::TABLE, "accuracy of every model"),
        Declared::always(
            "summary",
            Artifact::TABLE,
            "accuracy by network and training: mean and standard deviation over models that differ in their seed alone",
        ),
    ];
    const USES_DEVICE: bool = true;
    const SEES_GROUPS: bool = true;

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let images = SplitImages::new(&set, params.split.into(), None, 0)?;
        let gpu = gpu(context, Precision::default())?;
        let memory = context.gpu_memory;
        let members = Members::of(context, params.models.iter().map(|model| model.0.as_str()));
        let load = |reference: &ModelRef| -> Result<Model, StageError> {
            Ok(Model::load(&context.input(&reference.0)?.join("model.safetensors"))?)
        };
        let models = params.models.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        // What cannot be shown is said before anything is evaluated.
        for (slot, model) in models.iter().enumerate() {
            if let Some(shown) = params.presentation(model) {
                require_presentation(model, &format!("model {slot}"), shown)?;
            }
        }
        let mut evaluated = Vec::new();
        for (slot, model) in models.iter().enumerate() {
            let info = model.info();
            let presentation = params.presentation(model);
            let result = match &gpu {
                None => evaluate(&Cpu, model, &images, presentation)?,
                Some(gpu) => {
                    with_images_that_fit(gpu, GPU_IMAGES, memory, |device| {
                        evaluate(device, model, &images, presentation)
                    })?
                    .0
                }
            };
            evaluated.push(Evaluated {
                slot,
                group: members.group(slot),
                network: model_name(model),
                seed: info.seed,
                phase: info.phases.last().map(|phase| phase.phase.clone()),
                epochs: (!info.phases.is_empty()).then(|| info.phases.iter().map(|phase| phase.epochs).sum()),
                images: cords::learn::Images::len(&images),
                answers: result.answers,
            });
            context.report(Update {
                done: slot as u64 + 1,
                total: params.models.len() as u64,
                unit: "models".into(),
                phase: String::new(),
                figures: vec![("accuracy".into(), result.answers.accuracy)],
                milestone: true,
            });
        }
        context.write_table("accuracy", &accuracy_table(&evaluated)?)?;
        context.write_table("summary", &summary_table(&evaluated)?)
    }
}

const DIVERGED: &str = "Images whose logits or activity were not finite; they have no answer";
const PHASE: &str = "Phase of training that made it";
const EPOCHS: &str = "Passes over the training images in all phases together";

fn phase_value(phase: &Option<String>) -> Value {
    phase.clone().map_or(Value::Null, Value::Text)
}

fn epochs_value(epochs: Option<usize>) -> Value {
    epochs.map_or(Value::Null, |epochs| Value::Int(epochs as i64))
}

fn accuracy_table(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new("accuracy", "Accuracy of every model")
            .key("models", DType::Int, "The stage that gave the model")
            .slot("models")
            .key("network", DType::Text, "Kind and number of areas")
            .key("seed", DType::Int, "Seed of the model's training")
            .value("phase", DType::Text, PHASE)
            .allow_missing()
            .value("epochs", DType::Int, EPOCHS)
            .allow_missing()
            .value(
                "accuracy",
                DType::Float,
                "Images classified rightly, of those that did not diverge; missing where all did",
            )
            .allow_missing()
            .value("accuracy_low", DType::Float, "Lower end of the 95 % interval (Wilson)")
            .allow_missing()
            .value("accuracy_high", DType::Float, "Upper end of the 95 % interval (Wilson)")
            .allow_missing()
            .value(
                "cross_entropy",
                DType::Float,
                "Mean cross-entropy of images that did not diverge; missing where all did",
            )
            .unit("nat")
            .allow_missing()
            .value("images", DType::Int, "Number of images")
            .value("diverged", DType::Int, DIVERGED),
    )?;
    for e in evaluated {
        let answered = e.images - e.answers.diverged;
        let interval = (answered > 0).then(|| wilson_interval(e.answers.right, answered));
        table.push_row([
            Value::Int(e.slot as i64),
            Value::Text(e.network.clone()),
            Value::Int(e.seed as i64),
            phase_value(&e.phase),
            epochs_value(e.epochs),
            Value::finite(e.answers.accuracy),
            Value::optional(interval.map(|[low, _]| low)),
            Value::optional(interval.map(|[_, high]| high)),
            Value::finite(e.answers.cross_entropy),
            Value::Int(e.images as i64),
            Value::Int(e.answers.diverged as i64),
        ])?;
    }
    table.finish()
}

/// Mean and spread over the models that repeat each other, of one network, phase and length.
fn summary_table(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        TableSchema::new(
            "summary",
            "Accuracy by network and training: mean and standard deviation over models that differ in their seed alone",
        )
        .key(
            "models",
            DType::Int,
            "The stage that gave the models, by all matrix fields but `seed`",
        )
        .slot_groups("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("phase", DType::Text, PHASE)
        .allow_missing()
        .key("epochs", DType::Int, EPOCHS)
        .allow_missing()
        .value(
            "accuracy",
            DType::Float,
            "Images classified rightly, mean; missing where all diverged",
        )
        .allow_missing()
        .value("deviation", DType::Float, "Standard deviation over models")
        .allow_missing()
        .value("n", DType::Int, "Models with an accuracy")
        .value("diverged", DType::Int, DIVERGED),
    )?;
    let mut groups: IndexMap<_, Vec<&Evaluated>> = IndexMap::new();
    for e in evaluated {
        let group = (e.group, e.network.as_str(), &e.phase, e.epochs);
        groups.entry(group).or_default().push(e);
    }
    for ((group, network, phase, epochs), models) in groups {
        let accuracies: Vec<f64> = models.iter().map(|e| e.answers.accuracy).collect();
        let Spread { mean, deviation, n } = Spread::of(&accuracies);
        let diverged: usize = models.iter().map(|e| e.answers.diverged).sum();
        table.push_row([
            Value::Int(group as i64),
            Value::Text(network.to_owned()),
            phase_value(phase),
            epochs_value(epochs),
            Value::optional(mean),
            Value::optional(deviation),
            Value::Int(n as i64),
            Value::Int(diverged as i64),
        ])?;
    }
    table.finish()
}
