//! `noise`: classification by any number of models under noise on images, in units and on weights, each beside its controls.

mod params;
mod pictures;
mod tables;

use cords::data::ImageSet;
use cords::device::Cpu;
use cords::device::cuda::{Precision, with_images_that_fit};
use cords::net::{Model, Presentation};
use cords::noise::{EvaluationOptions, NoiseResult, Observer, check, evaluate};

use self::params::Params;
use super::{Artifact, Context, GPU_IMAGES, Kind, Output, StageError, Update, Violation, spread};

pub(super) struct Noise;

/// One evaluated condition of one model.
struct Evaluated {
    /// The stage that gave the model.
    slot: usize,
    model: String,
    seed: u64,
    trial: u32,
    /// Classes that the model tells apart.
    classes: usize,
    /// Areas that neural noise, silencing and noise on weights reached; none for all.
    areas: Option<Vec<usize>>,
    result: NoiseResult,
}

impl Kind for Noise {
    type Params = Params;
    const NAME: &'static str = "noise";
    const SUMMARY: &'static str =
        "accuracy under noise on images, in units and on weights, held or fresh in every step, beside controls";
    const CODE_VERSION: u32 = 4;
    const USES_DEVICE: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn outputs(_: &Params) -> Vec<Output> {
        let tables = ["accuracy", "summary", "time", "robustness", "gains", "paired"];
        tables
            .into_iter()
            .map(|slot| Output::new(slot, Artifact::Table))
            .chain([Output::new("pictures", Artifact::Files)])
            .collect()
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let indices = set.split(params.split.into());
        let indices = spread(indices, params.images.unwrap_or(indices.len()));
        let models = params
            .models
            .iter()
            .map(|m| Ok(Model::load(&context.input(&m.0)?.join("model.safetensors"))?))
            .collect::<Result<Vec<_>, StageError>>()?;
        let frames = frames_for_cnns(&models);
        // What does not fit is said before anything is evaluated.
        for model in &models {
            check(model, &set, &indices, &options(params, model, frames, 0))?;
        }
        let gpu = context.gpu(Precision::default())?;
        let memory = context.gpu_memory;
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
                    None => evaluate(&Cpu, model, &set, &indices, &options, &mut progress)?,
                    Some(gpu) => {
                        with_images_that_fit(gpu, GPU_IMAGES, memory, |device| {
                            evaluate(device, model, &set, &indices, &options, &mut progress)
                        })?
                        .0
                    }
                };
                evaluated.extend(results.into_iter().map(|result| Evaluated {
                    slot,
                    model: name.clone(),
                    seed: model.info().seed,
                    trial,
                    classes: model.architecture().classes,
                    areas: params.areas.clone(),
                    result,
                }));
            }
        }
        context.write_table("accuracy", &tables::accuracy(&evaluated)?)?;
        context.write_table("summary", &tables::summary(&evaluated)?)?;
        context.write_table("time", &tables::time(&evaluated)?)?;
        context.write_table("robustness", &tables::robustness_table(params, &evaluated)?)?;
        context.write_table("gains", &tables::gains(&evaluated)?)?;
        context.write_table("paired", &tables::paired(&evaluated)?)?;
        pictures::write(&evaluated, &context.output("pictures")?)
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
    EvaluationOptions {
        observers,
        conditions: params.conditions(),
        areas: params.areas.clone(),
        presentation: Presentation {
            spontaneous_ms: params.spontaneous.unwrap_or(own.spontaneous_ms),
            stimulus_ms: params.stimulus.unwrap_or(own.stimulus_ms),
        },
        dt_ms: frames.1,
        seed: params.seed,
        trial,
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
