//! `noise`: classification by any number of models under noise on images, in units and on weights, each beside its
//! controls.

mod frames;
mod params;
mod pictures;
mod tables;

use std::path::Path;

use cords::data::ImageSet;
use cords::device::Cpu;
use cords::device::cuda::with_images_that_fit;
use cords::net::{Model, Outline, Presentation};
use cords::noise::{EvaluationOptions, NoiseResult, Observer, REFERENCE_DT_MS, check, evaluate};

use self::frames::Frames;
use self::params::Params;
pub(super) use self::tables::mcnemar;
use super::extent::{Facts, Shown, facts};
use super::gpu::gpu;
use super::keyed_defaults;
use super::times::require_presentation;
use super::{
    Artifact, Context, Declared, Extent, GPU_IMAGES, InputExtents, Kind, Members, StageError, Update, Violation, spread,
};
use dynvis_runner::table::TableRow;

pub(super) struct Noise;

/// One evaluated condition of one model.
struct Evaluated {
    /// The stage that gave the model.
    slot: usize,
    /// The first such stage whose model this one repeats.
    group: usize,
    model: String,
    /// What tells it from others in a legend.
    label: String,
    /// Step at which frames follow each other.
    dt_ms: f64,
    seed: u64,
    trial: u32,
    /// Classes that the model tells apart.
    classes: usize,
    /// Areas that neural noise, silencing and noise on weights reached; none for all.
    areas: Option<Vec<usize>>,
    result: NoiseResult,
}

impl Evaluated {
    fn noise_name(&self) -> String {
        tables::noise_name(&self.result.condition, self.areas.as_deref())
    }
}

impl Kind for Noise {
    type Params = Params;
    const NAME: &'static str = "noise";
    const SUMMARY: &'static str =
        "accuracy under noise on images, in units and on weights, static or redrawn at every step, with controls";
    const CODE_VERSION: u32 = 5;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::NOISE;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::table::<tables::Accuracy>("accuracy of every model, view, noise and level"),
        Declared::table::<tables::Summary>(
            "accuracy by network and noise: mean and standard deviation over trials and models that differ in their \
             seed alone",
        ),
        Declared::table::<tables::AtTime>("accuracy of recurrent networks over time after image onset"),
        Declared::table::<tables::Robust>(
            "threshold (level at half of the clean accuracy) and area under accuracy over level",
        ),
        Declared::table::<tables::Gain>("how much of the noise reaches each area"),
        Declared::table::<tables::Pair>(
            "every network against every CordsNet with its dynamics, image by image (McNemar's exact test)",
        ),
        Declared::always(
            "pictures",
            Artifact::FILES,
            "accuracy over level and time, and some frames of every noise; SVG and PNG",
        ),
        Declared::always(
            "frames",
            Artifact::FILES,
            "all frames of some images under every noise and level",
        )
        .when("with `frames`", |params| params.frames.is_some()),
    ];
    const USES_DEVICE: bool = true;
    const SEES_GROUPS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn extent(params: &Params, _root: &Path, inputs: &InputExtents) -> Result<Option<Extent>, StageError> {
        let Some(images) = facts(inputs, &params.data.0).and_then(|told| told.images) else {
            return Ok(None);
        };
        let all = images.of(params.split);
        let images = params.images.map_or(all, |images| all.min(images as u64));
        let shown = Shown {
            purpose: "noise",
            images: [params.models.len(), params.conditions().len(), params.trials as usize]
                .iter()
                .fold(images, |images, times| images.saturating_mul(*times as u64)),
            // Controls and draws of noise take time beside the steps of the network.
            trial: None,
        };
        let told = Facts {
            shown: vec![shown],
            ..Facts::default()
        };
        Ok(Some(Extent::with_facts(None, told)))
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let indices = set.split(params.split);
        let indices = spread(indices, params.images.unwrap_or(indices.len()));
        let models = params
            .models
            .iter()
            .map(|m| Ok(Model::load(&context.input(&m.0)?.join("model.safetensors"))?))
            .collect::<Result<Vec<_>, StageError>>()?;
        let members = Members::of(context, params.models.iter().map(|model| model.0.as_str()));
        let labels = members.labels(&names(&models, &members));
        let frames = frames_for_cnns(params, &models);
        for note in warnings(params, &models, &frames) {
            context.note(note);
        }
        // What does not fit is said before anything is evaluated.
        for (slot, model) in models.iter().enumerate() {
            let options = options(params, model, &frames, 0);
            require_presentation(model, &format!("model {slot}"), options.presentation)?;
            check(model, &set, &indices, &options)?;
        }
        check_rows(params, &models, &frames)?;
        let conditions = params.conditions();
        let steps_ms = steps(&models, &frames);
        let sequence = Frames {
            set: &set,
            conditions: &conditions,
            seed: params.seed,
            steps_ms: &steps_ms,
            stimulus_ms: frames.stimulus_ms,
        };
        if let Some(count) = params.frames {
            sequence.save(&spread(&indices, count), &context.output("frames")?)?;
        }
        if params.pictured > 0 {
            sequence.draw(&spread(&indices, params.pictured), &context.output("pictures")?)?;
        }
        let gpu = gpu(context, params.precision)?;
        let memory = context.gpu_memory;
        let mut evaluated = Vec::new();
        let total = models.len() * params.trials as usize;
        for (slot, model) in models.iter().enumerate() {
            for trial in 0..params.trials {
                let options = options(params, model, &frames, trial);
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
                    group: members.group(slot),
                    model: name.clone(),
                    label: labels[slot].clone(),
                    dt_ms: result.dt_ms,
                    seed: model.info().seed,
                    trial,
                    classes: model.architecture().classes(),
                    areas: params.areas.clone(),
                    result,
                }));
            }
        }
        context.write_rows(tables::Accuracy::NAME, evaluated.iter().map(tables::Accuracy::of))?;
        context.write_rows(tables::Summary::NAME, tables::summary(&evaluated))?;
        context.write_rows(tables::AtTime::NAME, tables::over_time(&evaluated))?;
        context.write_rows(tables::Robust::NAME, tables::robust(params, &evaluated))?;
        context.write_rows(tables::Gain::NAME, tables::gains(&evaluated))?;
        context.write_rows(tables::Pair::NAME, tables::pairs(&evaluated))?;
        pictures::write(&evaluated, &members, &context.output("pictures")?)
    }
}

/// Whether there is memory for what becomes rows of the table `time`.
fn check_rows(params: &Params, models: &[Model], frames: &FramesForCnns) -> Result<(), StageError> {
    /// What a row takes, as it is and in a table.
    const ROW_BYTES: u64 = 512;
    let rows = |model: &Model| {
        let Model::CordsNet { euler, .. } = model else {
            return 0;
        };
        let options = options(params, model, frames, 0);
        let steps = euler.steps(options.presentation.stimulus_ms);
        (steps * options.observers.len() * options.conditions.len()) as u64
    };
    let trials = u64::from(params.trials);
    let rows = models.iter().map(rows).sum::<u64>().saturating_mul(trials);
    dynvis_base::memory::check_room(rows.saturating_mul(ROW_BYTES)).map_err(|error| {
        StageError::new(format!(
            "the table `time` has {rows} rows, one for every model, condition, trial and step: {error}"
        ))
        .hint("lower `stimulus`, `trials` or the number of levels")
    })
}

/// What CNNs are shown where frames change.
struct FramesForCnns {
    /// How long the image is shown.
    stimulus_ms: f64,
    /// Step at which frames follow each other.
    dt_ms: f64,
    /// Whether there are CordsNets that do not agree on one of these, where it is not given.
    disputed: bool,
}

/// Step and duration of the CordsNets, so that a CNN sees the same frames. What they do not agree on is as published,
/// and so are both where there are none: whatever the order of models, it is the same.
fn frames_for_cnns(params: &Params, models: &[Model]) -> FramesForCnns {
    let (steps, stimuli): (Vec<f64>, Vec<f64>) = models
        .iter()
        .filter_map(|model| match model {
            Model::CordsNet { euler, info, .. } => Some((
                euler.dt_ms,
                info.presentation.unwrap_or(Presentation::published()).stimulus_ms,
            )),
            Model::Cnn { .. } => None,
        })
        .unzip();
    let chosen = |given: Option<f64>, own: &[f64], published: f64| -> (f64, bool) {
        let agree = own.windows(2).all(|pair| pair[0] == pair[1]);
        let common = own.first().copied().filter(|_| agree);
        (given.or(common).unwrap_or(published), given.is_none() && !agree)
    };
    let (dt_ms, step_is_disputed) = chosen(params.frame_step, &steps, REFERENCE_DT_MS);
    let (stimulus_ms, time_is_disputed) = chosen(params.stimulus, &stimuli, Presentation::published().stimulus_ms);
    FramesForCnns {
        stimulus_ms,
        dt_ms,
        disputed: step_is_disputed || time_is_disputed,
    }
}

/// Every step at which a network sees frames follow each other, in ascending order, each once.
fn steps(models: &[Model], frames: &FramesForCnns) -> Vec<f64> {
    let mut steps: Vec<f64> = models.iter().map(|model| step(model, frames)).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    steps
}

fn step(model: &Model, frames: &FramesForCnns) -> f64 {
    match model {
        Model::CordsNet { euler, .. } => euler.dt_ms,
        Model::Cnn { .. } => frames.dt_ms,
    }
}

/// What a reader of the tables must know before networks are compared.
fn warnings(params: &Params, models: &[Model], frames: &FramesForCnns) -> Vec<String> {
    let mut notes = Vec::new();
    for (slot, model) in models.iter().enumerate() {
        if let Model::CordsNet { architecture, .. } = model
            && let Err(error) = architecture.check_feedforward_rest()
        {
            let name = model_name(model);
            notes.push(format!("model {slot} ({name}) has no view `no recurrence`: {error}"));
        }
    }
    let mut bound: Vec<String> = Vec::new();
    for condition in params.conditions().iter().filter(|c| tables::is_step_bound(c)) {
        let name = format!(
            "{} ({})",
            tables::noise_name(condition, params.areas.as_deref()),
            tables::presentation_name(condition)
        );
        if !bound.contains(&name) {
            bound.push(name);
        }
    }
    let steps: Vec<String> = steps(models, frames).iter().map(f64::to_string).collect();
    if steps.len() > 1 && !bound.is_empty() {
        notes.push(format!(
            "networks with steps of {} ms are compared under noise that is drawn anew at every step: {}. It is the \
             same experiment for small noise only; noise correlated in time (`ornstein_uhlenbeck`) is the same at \
             every step. Columns `dt` and `step_bound` tell which rows are meant",
            steps.join(" and "),
            bound.join(", ")
        ));
    }
    let has_cnn = models.iter().any(|model| matches!(model, Model::Cnn { .. }));
    if has_cnn && frames.disputed {
        notes.push(format!(
            "the CordsNets differ in their step or in how long they see an image, so the CNNs' frames follow each \
             other every {} ms for {} ms; `frame_step` and `stimulus` set that",
            frames.dt_ms, frames.stimulus_ms
        ));
    }
    notes
}

/// Names of the models for a legend. Where stages that no matrix field tells apart have networks of one kind, what
/// differs between the networks stands behind.
fn names(models: &[Model], members: &Members) -> Vec<String> {
    let kinds: Vec<String> = models.iter().map(model_name).collect();
    let properties: Vec<Vec<String>> = models.iter().map(properties).collect();
    let name = |index: usize| {
        let others = |other: &usize| kinds[*other] == kinds[index] && members.differ_in_stage_alone(index, *other);
        let others: Vec<usize> = (0..models.len()).filter(others).collect();
        let differs = |place: &usize| {
            let own = &properties[index][*place];
            others.iter().any(|other| properties[*other][*place] != *own)
        };
        let found = (0..properties[index].len()).filter(differs);
        let found: Vec<&str> = found.map(|place| properties[index][place].as_str()).collect();
        [kinds[index].as_str()]
            .into_iter()
            .chain(found)
            .collect::<Vec<_>>()
            .join(", ")
    };
    (0..models.len()).map(name).collect()
}

/// What may tell two networks of one kind apart, in an order that is the same for all of a kind.
fn properties(model: &Model) -> Vec<String> {
    let mut found = vec![format!("width {}", model.architecture().input_channels())];
    if let Model::CordsNet {
        architecture, euler, ..
    } = model
    {
        let own = architecture.euler(euler).unwrap_or_else(|_| euler.clone());
        let taus: Vec<String> = own.tau_ms.iter().map(f64::to_string).collect();
        found.push(format!("dt {} ms", euler.dt_ms));
        found.push(format!("tau {} ms", taus.join("/")));
    }
    let phases = &model.info().phases;
    let last = phases.last().map_or("untrained", |phase| phase.phase.as_str());
    found.push(format!("after {last}"));
    found.push(format!(
        "{} epochs",
        phases.iter().map(|phase| phase.epochs).sum::<usize>()
    ));
    found
}

fn options(params: &Params, model: &Model, frames: &FramesForCnns, trial: u32) -> EvaluationOptions {
    let own = match model {
        Model::CordsNet { info, .. } => info.presentation.unwrap_or(Presentation::published()),
        Model::Cnn { .. } => Presentation {
            stimulus_ms: frames.stimulus_ms,
            ..Presentation::published()
        },
    };
    let observers = match model {
        Model::CordsNet { architecture, .. } => {
            let has_control = architecture.check_feedforward_rest().is_ok();
            let control = has_control.then_some(Observer::CordsnetWithoutRecurrence);
            [Observer::Cordsnet].into_iter().chain(control).collect()
        }
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
        dt_ms: frames.dt_ms,
        seed: params.seed,
        trial,
    }
}

/// `CordsNet-R2`, `CNN-R2`, or the network's own name.
pub(crate) fn model_name(model: &Model) -> String {
    let has_dynamics = matches!(model, Model::CordsNet { .. });
    name_of(
        has_dynamics,
        model.info().network.as_deref(),
        model.architecture().areas(),
    )
}

/// The same of what a file says of itself.
pub(crate) fn outline_name(outline: &Outline) -> String {
    let own = outline.info.network.as_deref();
    name_of(outline.euler.is_some(), own, outline.architecture.areas())
}

fn name_of(has_dynamics: bool, own: Option<&str>, areas: usize) -> String {
    match (own, has_dynamics) {
        (None, true) => format!("CordsNet-R{areas}"),
        (None, false) => format!("CNN-R{areas}"),
        (Some(name), true) => name.to_owned(),
        (Some(name), false) => format!("CNN-{}", name.strip_prefix("CordsNet-").unwrap_or(name)),
    }
}
