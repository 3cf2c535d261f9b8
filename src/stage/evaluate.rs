//! `evaluate`: accuracy of any number of models on the same images, as they are.

use std::path::Path;

use cords::data::{ImageSet, Split, SplitImages};
use cords::device::Cpu;
use cords::device::cuda::{Precision, with_images_that_fit};
use cords::learn::evaluate;
use cords::net::{Model, Presentation};
use cords::noise::wilson_interval;
use dynvis_runner::table::{Row, TableRow};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extent::{Facts, Shown, facts};
use super::gpu::{gpu, tf32};
use super::keyed_defaults;
use super::noise::model_name;
use super::times::require_presentation;
use super::{
    Context, DatasetRef, Declared, Extent, GPU_IMAGES, InputExtents, Kind, Members, ModelRef, Spread, StageError,
    Update, test_split,
};

pub(super) struct Evaluate;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Stages whose models are evaluated on the same images.
    #[schemars(length(min = 1))]
    models: Vec<ModelRef>,
    /// Images to evaluate them on.
    data: DatasetRef,
    /// Part of the dataset.
    #[serde(default = "test_split")]
    split: Split,
    /// Time without input before the image; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: Option<f64>,
    /// Time that the image is shown; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: Option<f64>,
    /// What products of convolutions are computed from on a GPU: cuDNN is several times slower with float32. A processor
    /// computes in float32.
    #[serde(default = "tf32")]
    precision: Precision,
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

/// Accuracy of every model
#[derive(Row)]
#[table(name = "accuracy")]
struct Accuracy {
    /// The stage that gave the model
    #[column(key, slot = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: String,
    /// Seed of the model's training
    #[column(key)]
    seed: i64,
    #[column(description = PHASE)]
    phase: Option<String>,
    #[column(description = EPOCHS)]
    epochs: Option<usize>,
    /// Images classified rightly, of those that did not diverge; missing where all did
    accuracy: Option<f64>,
    /// Lower end of the 95 % interval (Wilson)
    accuracy_low: Option<f64>,
    /// Upper end of the 95 % interval (Wilson)
    accuracy_high: Option<f64>,
    /// Mean cross-entropy of images that did not diverge; missing where all did
    #[column(unit = "nat")]
    cross_entropy: Option<f64>,
    /// Number of images
    images: usize,
    #[column(description = DIVERGED)]
    diverged: usize,
}

/// Accuracy by network and training: mean and standard deviation over models that differ in their seed alone
#[derive(Row)]
#[table(name = "summary")]
struct Summary {
    /// The stage that gave the models, by all matrix fields but `seed`
    #[column(key, group = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: String,
    #[column(key, description = PHASE)]
    phase: Option<String>,
    #[column(key, description = EPOCHS)]
    epochs: Option<usize>,
    /// Images classified rightly, mean; missing where all diverged
    accuracy: Option<f64>,
    /// Standard deviation over models
    deviation: Option<f64>,
    /// Models with an accuracy
    n: usize,
    #[column(description = DIVERGED)]
    diverged: usize,
}

const DIVERGED: &str = "Images whose logits or activity were not finite; they have no answer";
const PHASE: &str = "Phase of training that made it";
const EPOCHS: &str = "Passes over the training images in all phases together";

impl Kind for Evaluate {
    type Params = Params;
    const NAME: &'static str = "evaluate";
    const SUMMARY: &'static str = "accuracy of models on the same images, with the phase and length of their training";
    const CODE_VERSION: u32 = 4;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::EVALUATE;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::table::<Accuracy>("accuracy of every model"),
        Declared::table::<Summary>(
            "accuracy by network and training: mean and standard deviation over models that differ in their seed alone",
        ),
    ];
    const USES_DEVICE: bool = true;
    const SEES_GROUPS: bool = true;

    fn extent(params: &Params, _root: &Path, inputs: &InputExtents) -> Result<Option<Extent>, StageError> {
        let Some(images) = facts(inputs, &params.data.0).and_then(|told| told.images) else {
            return Ok(None);
        };
        let shown = params.models.iter().map(|model| {
            let network = facts(inputs, &model.0).and_then(|told| told.network.as_ref());
            let own = network.and_then(|network| network.presentation);
            let stimulus = params.stimulus.or(own.map(|own| own.stimulus_ms));
            Shown {
                purpose: "evaluation",
                images: images.of(params.split),
                trial: network.zip(stimulus).and_then(|(network, ms)| network.evaluation(ms)),
            }
        });
        let told = Facts {
            shown: shown.collect(),
            ..Facts::default()
        };
        Ok(Some(Extent::with_facts(None, told)))
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let images = SplitImages::new(&set, params.split, None, 0)?;
        let gpu = gpu(context, params.precision)?;
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
            let answers = result.answers;
            let count = cords::data::Images::len(&images);
            let answered = count - answers.diverged;
            let interval = (answered > 0).then(|| wilson_interval(answers.right, answered));
            evaluated.push(Accuracy {
                models: slot,
                network: model_name(model),
                seed: info.seed as i64,
                phase: info.phases.last().map(|phase| phase.phase.clone()),
                epochs: (!info.phases.is_empty()).then(|| info.phases.iter().map(|phase| phase.epochs).sum()),
                accuracy: Some(answers.accuracy),
                accuracy_low: interval.map(|[low, _]| low),
                accuracy_high: interval.map(|[_, high]| high),
                cross_entropy: Some(answers.cross_entropy),
                images: count,
                diverged: answers.diverged,
            });
            context.report(Update {
                done: slot as u64 + 1,
                total: params.models.len() as u64,
                unit: "models".into(),
                phase: String::new(),
                figures: vec![("accuracy".into(), answers.accuracy)],
                milestone: true,
            });
        }
        let summary = summary(&evaluated, &members);
        context.write_rows(Accuracy::NAME, evaluated)?;
        context.write_rows(Summary::NAME, summary)
    }
}

/// Mean and spread over the models that repeat each other, of one network, phase and length.
fn summary(evaluated: &[Accuracy], members: &Members) -> Vec<Summary> {
    let mut groups: IndexMap<_, Vec<&Accuracy>> = IndexMap::new();
    for row in evaluated {
        let group = (members.group(row.models), &row.network, &row.phase, row.epochs);
        groups.entry(group).or_default().push(row);
    }
    let of_group = |((models, network, phase, epochs), rows): ((_, &String, &Option<String>, _), Vec<&Accuracy>)| {
        let accuracies: Vec<f64> = rows.iter().filter_map(|row| row.accuracy).collect();
        let Spread { mean, deviation, n } = Spread::of(&accuracies);
        Summary {
            models,
            network: network.clone(),
            phase: phase.clone(),
            epochs,
            accuracy: mean,
            deviation,
            n,
            diverged: rows.iter().map(|row| row.diverged).sum(),
        }
    };
    groups.into_iter().map(of_group).collect()
}
