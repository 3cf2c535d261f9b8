//! `record`: activity of chosen areas and times for chosen images, and its summary.

use cords::data::{ImageSet, Split};
use cords::device::Cpu;
use cords::device::cuda::{Precision, with_images_that_fit};
use cords::learn::Initialisation;
use cords::net::{MOST_STEPS, Model, Presentation};
use cords::record::{AreaTime, RecordOptions, record, recorded_bytes};
use dynvis_runner::table::{Row, TableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gpu::{gpu, tf32};
use super::keyed_defaults;
use super::picture::{Curve, Curves};
use super::times::require_presentation;
use super::{
    ACTIVITY, Artifact, Context, DatasetRef, Declared, GPU_IMAGES, Kind, Members, ModelRef, StageError, Update,
    Violation, model_name,
};

pub(super) struct Record;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The network to record from.
    model: ModelRef,
    /// Images to show it.
    data: DatasetRef,
    /// Part of the dataset.
    #[serde(default)]
    split: Part,
    /// Use the first this many images of the part; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    images: Option<usize>,
    /// Use these images, by their index in the dataset (its table `files` has them), instead of a part. `"0..119"`
    /// stands for all from 0 to 119. If not given, those of `split`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    indices: Option<Vec<Indices>>,
    /// Areas to record, from 0; all if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    areas: Option<Vec<usize>>,
    /// Times after image onset, each at the nearest Euler step; 0 is the spontaneous state, and after the stimulus
    /// there is no input. Not for a CNN, which has no time. If not given, every `every` ms to the end of the
    /// stimulus.
    #[serde(default)]
    #[schemars(length(min = 1), inner(range(min = 0.0)), extend("x-unit" = "ms"))]
    times: Option<Vec<f64>>,
    /// Time between recorded times where `times` is not given, each at the nearest Euler step; a step where that is
    /// longer.
    #[serde(default = "twenty")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    every: f64,
    /// Mean over each channel's map instead of every unit. Raw activity of R8 at 224 x 224 pixels takes 3 MB for each
    /// image and time.
    #[serde(default)]
    pooled: bool,
    /// Record the network as it was before training: random weights of its sizes, by the seed of its training. A
    /// control.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    untrained: bool,
    /// Time without input before the image; as the network was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: Option<f64>,
    /// Time that the image is shown; as the network was trained, if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: Option<f64>,
    /// What products of convolutions are computed from on a GPU: cuDNN is several times slower with float32. A processor
    /// computes in float32.
    #[serde(default = "tf32")]
    precision: Precision,
}

/// A part of a dataset, or all of it, which the engine's `Split` is not: its parts exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// training images
    Train,
    /// validation images, evaluated during training
    Validation,
    /// test images, used in no training
    #[default]
    Test,
    /// every image, in order of index
    All,
}

/// One image or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Indices {
    One(u32),
    /// First and last, `0..119`.
    Range(String),
}

impl Indices {
    /// First and last image.
    fn bounds(&self) -> Option<(u32, u32)> {
        match self {
            Self::One(index) => Some((*index, *index)),
            Self::Range(text) => {
                let (first, last) = text.split_once("..")?;
                let last = last.strip_prefix('=').unwrap_or(last);
                let bounds = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                (bounds.0 <= bounds.1).then_some(bounds)
            }
        }
    }
}

/// The images that are recorded.
fn chosen(params: &Params, set: &ImageSet) -> Result<Vec<u32>, StageError> {
    let Some(indices) = &params.indices else {
        let part: Vec<u32> = match params.split {
            Part::Train => set.split(Split::Train).to_vec(),
            Part::Validation => set.split(Split::Validation).to_vec(),
            Part::Test => set.split(Split::Test).to_vec(),
            Part::All => (0..set.len() as u32).collect(),
        };
        return Ok(part[..params.images.unwrap_or(part.len()).min(part.len())].to_vec());
    };
    let mut images = Vec::new();
    for (first, last) in indices.iter().filter_map(Indices::bounds) {
        // Before the range is written out: it may be as long as there are numbers.
        if last as usize >= set.len() {
            return Err(
                StageError::new(format!("`indices`: image {last} of a dataset of {}", set.len()))
                    .hint("the dataset's table `files` lists its images"),
            );
        }
        images.extend(first..=last);
    }
    Ok(images)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// The same network with the weights that training starts from.
fn untrained(mut model: Model, seed: u64) -> Model {
    let initial = Initialisation::default();
    match &mut model {
        Model::CordsNet {
            architecture,
            parameters,
            ..
        } => *parameters = initial.cordsnet(architecture, seed),
        Model::Cnn {
            architecture,
            parameters,
            ..
        } => *parameters = initial.cnn(architecture, seed),
    }
    model
}

fn twenty() -> f64 {
    20.0
}

impl Kind for Record {
    type Params = Params;
    const NAME: &'static str = "record";
    const SUMMARY: &'static str =
        "activity of chosen areas and times for chosen images, raw or pooled, and the logits over time";
    const CODE_VERSION: u32 = 4;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::RECORD;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("activity", ACTIVITY, "activity of the areas for every image and time"),
        Declared::table::<Summary>("mean rate, dimensionality and accuracy by area and time"),
        Declared::always("pictures", Artifact::FILES, "the summary over time; SVG and PNG"),
    ];
    const USES_DEVICE: bool = true;
    const SEES_GROUPS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        if params.images.is_some() && params.indices.is_some() {
            found.push(Violation::new("indices", "give `images` or `indices`, not both"));
        }
        let wrong = params.indices.iter().flatten().find(|range| range.bounds().is_none());
        if let Some(Indices::Range(text)) = wrong {
            found.push(Violation::new(
                "indices",
                format!("`{text}` is not a range of images: write `0..119` for all from 0 to 119"),
            ));
        }
        if params
            .areas
            .iter()
            .any(|areas| areas.windows(2).any(|pair| pair[0] >= pair[1]))
        {
            found.push(Violation::new(
                "areas",
                "areas must be in ascending order, without duplicates",
            ));
        }
        if params
            .times
            .iter()
            .any(|times| times.windows(2).any(|pair| pair[0] >= pair[1]))
        {
            found.push(Violation::new(
                "times",
                "times must be in ascending order, without duplicates",
            ));
        }
        found
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let mut model = Model::load(&context.input(&params.model.0)?.join("model.safetensors"))?;
        if params.untrained {
            let seed = model.info().seed;
            model = untrained(model, seed);
        }
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let indices = chosen(params, &set)?;
        let indices = indices.as_slice();
        let options = options(params, &model);
        require_presentation(&model, &model_name(&model), options.presentation)?;
        let bytes = recorded_bytes(&model, indices.len(), &options);
        if let Ok(disk) = rustix::fs::statvfs(&context.scratch)
            && bytes > disk.f_bavail.saturating_mul(disk.f_frsize)
        {
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            let (needed, left) = (gib(bytes), gib(disk.f_bavail.saturating_mul(disk.f_frsize)));
            let (images, times) = (indices.len(), options.times_ms.len().max(1));
            return Err(StageError::new(format!(
                "activity of {images} images at {times} `times` takes {needed:.1} GiB, and the disk has {left:.1} GiB \
                 left"
            ))
            .hint("record fewer `times`, `areas` or images, or give `pooled: true`"));
        }
        let path = context.output("activity")?.join("activity.safetensors");
        let name = model_name(&model);
        let title = format!("{name}, seed {}", model.info().seed);
        let gpu = gpu(context, params.precision)?;
        let memory = context.gpu_memory;
        let mut progress = |done, total| {
            let shown = done <= indices.len();
            context.report(Update {
                done: done as u64,
                total: total as u64,
                unit: if shown { "images" } else { "areas and times" }.into(),
                phase: if shown { name.clone() } else { "dimensionality".into() },
                figures: Vec::new(),
                milestone: done == indices.len() || done == total,
            });
        };
        let rows = match &gpu {
            None => record(&Cpu, &model, &set, indices, &options, &path, &mut progress)?,
            Some(gpu) => {
                with_images_that_fit(gpu, GPU_IMAGES, memory, |device| {
                    record(device, &model, &set, indices, &options, &path, &mut progress)
                })?
                .0
            }
        };
        context.write_rows(Summary::NAME, rows.iter().map(Summary::of))?;
        let pictures = context.output("pictures")?;
        let title = Members::of(context, [params.model.0.as_str()]).title(&title);
        let activity = over_time(&title, "mean rate", &rows, |row| row.mean_rate);
        let dimensionality = over_time(&title, "participation ratio", &rows, |row| row.participation_ratio);
        for (figure, curves) in [("activity", activity), ("dimensionality", dimensionality)] {
            // A CNN has one time, which makes no line.
            if curves.curves.iter().any(|curve| curve.points.len() > 1) {
                curves.write(&pictures, figure)?;
            }
        }
        Ok(())
    }
}

/// A figure of every area over time.
fn over_time(title: &str, figure: &str, rows: &[AreaTime], of: impl Fn(&AreaTime) -> Option<f64>) -> Curves {
    let mut areas: Vec<usize> = rows.iter().map(|row| row.area).collect();
    areas.sort_unstable();
    areas.dedup();
    let curve = |area: &usize| Curve {
        label: format!("area {area}"),
        points: rows
            .iter()
            .filter(|row| row.area == *area)
            .filter_map(|row| Some((row.time_ms, of(row)?)))
            .collect(),
        band: Vec::new(),
    };
    Curves {
        title: title.to_owned(),
        x_label: "time after image onset [ms]".into(),
        y_label: figure.to_owned(),
        curves: areas
            .iter()
            .map(curve)
            .filter(|curve| !curve.points.is_empty())
            .collect(),
        ..Curves::default()
    }
}

fn options(params: &Params, model: &Model) -> RecordOptions {
    let own = model.info().presentation.unwrap_or(Presentation::published());
    let presentation = Presentation {
        spontaneous_ms: params.spontaneous.unwrap_or(own.spontaneous_ms),
        stimulus_ms: params.stimulus.unwrap_or(own.stimulus_ms),
    };
    let times_ms = match (&params.times, model) {
        (Some(times), _) => times.clone(),
        (None, Model::CordsNet { euler, .. }) => {
            // Never two to a step.
            let every = params.every.max(euler.dt_ms);
            // The end of the stimulus counts in spite of rounding.
            let count = (presentation.stimulus_ms / every + 1e-9).floor().min(MOST_STEPS) as usize;
            (0..=count).map(|i| i as f64 * every).collect()
        }
        (None, _) => Vec::new(),
    };
    RecordOptions {
        areas: params
            .areas
            .clone()
            .unwrap_or_else(|| (0..model.architecture().areas()).collect()),
        times_ms,
        pooled: params.pooled,
        presentation,
    }
}

/// Mean rate, dimensionality and accuracy by area and time
#[derive(Row)]
#[table(name = "summary")]
struct Summary {
    /// Area, from 0
    #[column(key)]
    area: usize,
    /// Time after image onset
    #[column(key, unit = "ms")]
    time: f64,
    /// Activity, mean over units and images that had not diverged; missing where all had
    #[column(absolute = 1e-6, relative = 1e-6)]
    mean_rate: Option<f64>,
    /// (sum lambda)^2 / sum lambda^2 of the recorded values' covariance over images that had not diverged;
    /// none where nothing varies
    #[column(absolute = 1e-6, relative = 1e-6)]
    participation_ratio: Option<f64>,
    /// Images classified rightly by the network's readout at that time, of those that had not diverged;
    /// the same for all areas
    accuracy: Option<f64>,
    /// Images whose logits or activity, in any area, were not finite; they have no answer
    diverged: usize,
}

impl Summary {
    fn of(row: &AreaTime) -> Self {
        Self {
            area: row.area,
            time: row.time_ms,
            mean_rate: row.mean_rate,
            participation_ratio: row.participation_ratio,
            accuracy: row.accuracy,
            diverged: row.diverged,
        }
    }
}
