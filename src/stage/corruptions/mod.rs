//! `corruptions`: classification of published corrupted images by any number of models, and corruption errors.

mod params;
mod pictures;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cords::data::{CleanSubset, CorruptedFiles, Corruption, CorruptionSet, ImageSet, class_folder_files};
use cords::device::Cpu;
use cords::device::cuda::{Hardware, with_images_that_fit};
use cords::net::{Model, Presentation};
use cords::noise::{
    Baseline, Condition, CorruptionAnswers, CorruptionErrors, EvaluationOptions, NoiseError, NoisePresentation,
    NoiseResult, Observer, Perturbation, VersionResult, check, corruption_errors, drawn_noise, evaluate,
    evaluate_versions,
};
use cords::rng::{Purpose, Stream};
use dynvis_runner::table::{Table, TableRow, Value};

use self::params::Params;
use super::gpu::gpu;
use super::noise::model_name;
use super::times::require_presentation;
use super::{
    Artifact, Context, Declared, External, ExternalFile, FirstBytes, GPU_IMAGES, Kind, Members, MissingData, ModelRef,
    StageError, Tree, TreeFiles, Update, Violation,
};

pub(super) struct Corruptions;

/// What one model did.
struct Evaluated {
    /// The stage that gave the model.
    slot: usize,
    /// The first such stage whose model this one repeats.
    group: usize,
    network: String,
    /// What tells it from others in a legend.
    label: String,
    seed: u64,
    /// On the clean images.
    clean: VersionResult,
    /// On the corrupted images of the files.
    files: Vec<Shown<VersionResult>>,
    /// On the clean images with noise that was drawn here.
    drawn: Vec<Shown<NoiseResult>>,
    errors: CorruptionErrors,
}

/// What was shown, and what came of it.
struct Shown<R> {
    corruption: Corruption,
    severity: u8,
    result: R,
}

/// A folder of class folders with corrupted images, of which every file is read.
fn tree((prefix, folder): (String, PathBuf), hint: &'static str, root: &Path) -> Tree {
    let (listed, place) = (
        folder.clone(),
        folder.strip_prefix(root).unwrap_or(&folder).display().to_string(),
    );
    let select = move |_: &mut dyn FirstBytes| match class_folder_files(&listed) {
        Ok(files) => Ok(TreeFiles {
            files,
            others: Vec::new(),
        }),
        Err(error) => Err(MissingData {
            what: "corrupted images".to_owned(),
            place: place.clone(),
            hint: hint.to_owned(),
            unusable: Some(error.to_string()),
        }),
    };
    Tree {
        folder,
        prefix,
        rule: "class folders".to_owned(),
        is_watched: true,
        select: Arc::new(select),
    }
}

impl Kind for Corruptions {
    type Params = Params;
    const NAME: &'static str = "corruptions";
    const SUMMARY: &'static str =
        "accuracy on CIFAR-10-C, CIFAR-100-C or ImageNet-C, with corruption errors (mCE), beside noise drawn here";
    const CODE_VERSION: u32 = 1;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::table::<tables::Accuracy>(
            "accuracy of every model on every corruption and severity, from files and drawn",
        ),
        Declared::table::<tables::Error>("errors and corruption errors of every model and corruption, over severities"),
        Declared::table::<tables::Category>("their means over noise, blur, weather and digital corruptions"),
        Declared::table::<tables::Mean>(
            "mean error, mean corruption error (mCE) and relative mCE of every model over the fifteen corruptions",
        ),
        Declared::table::<tables::Summary>(
            "the same by network: mean and standard deviation over models that differ in their seed alone",
        ),
        Declared::table::<tables::Agreement>(
            "noise from files beside noise drawn here on the same images (McNemar's exact test)",
        ),
        Declared::always(
            "pictures",
            Artifact::FILES,
            "error over severity, of each corruption and of all; SVG and PNG",
        ),
    ];
    const USES_DEVICE: bool = true;
    const SEES_GROUPS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn external(params: &Params, root: &Path) -> External {
        let source = params.source(root);
        let required = source.required_files();
        let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        let missing: Vec<_> = required.iter().filter(|file| file.found().is_none()).collect();
        let missing: Vec<MissingData> = if missing.len() == required.len() {
            // One line for a set that is not there at all.
            vec![MissingData {
                what: params.set.title().to_owned(),
                place: shown(&source.path),
                hint: params.hint().to_owned(),
                ..MissingData::default()
            }]
        } else {
            let of = |file: &&cords::data::Requirement| MissingData {
                what: file.what.clone(),
                place: shown(file.alternatives.first().unwrap_or(&source.path)),
                hint: params.hint().to_owned(),
                ..MissingData::default()
            };
            missing.iter().map(of).collect()
        };
        if !missing.is_empty() {
            return External {
                missing,
                ..External::default()
            };
        }
        match source.input_files() {
            Ok(inputs) => External {
                files: inputs
                    .files
                    .into_iter()
                    .map(|(slot, path)| ExternalFile { slot, path })
                    .collect(),
                trees: inputs
                    .folders
                    .into_iter()
                    .map(|folder| tree(folder, params.hint(), root))
                    .collect(),
                ..External::default()
            },
            Err(error) => External {
                missing: vec![MissingData {
                    what: params.set.title().to_owned(),
                    place: shown(&source.path),
                    hint: params.hint().to_owned(),
                    unusable: Some(error.to_string()),
                }],
                ..External::default()
            },
        }
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let images = chosen(set.split(params.split), params.images, params.seed);
        let names = names_of(&context.table_input(&params.files.0)?, &set, &images)?;
        let load = |context: &Context, reference: &ModelRef| -> Result<Model, StageError> {
            Ok(Model::load(&context.input(&reference.0)?.join("model.safetensors"))?)
        };
        let models = params.models.iter().map(|model| load(context, model));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let baseline = params.baseline.as_ref().map(|model| load(context, model)).transpose()?;
        // What does not fit is said before anything is evaluated.
        let named = models
            .iter()
            .enumerate()
            .map(|(slot, model)| (format!("model {slot}"), model));
        for (whose, model) in named.chain(baseline.iter().map(|model| ("the baseline".to_owned(), model))) {
            let presentation = presentation(params, model);
            require_presentation(model, &whose, presentation)?;
            let options = EvaluationOptions {
                presentation,
                ..EvaluationOptions::default()
            };
            check(model, &set, &images, &options)?;
        }
        let source = params.source(&context.root);
        let corrupted = source.open(CleanSubset {
            set: &set,
            images: &images,
            files: &names,
            resize: params.resize,
        })?;
        let shown = Versions {
            set: &set,
            images: &images,
            corrupted: &corrupted,
            versions: source.versions(),
            drawn: drawn_conditions(params, &set),
        };
        for note in notes(params, &set, &shown) {
            context.note(note);
        }
        let gpu = gpu(context, params.precision)?;
        let published = params.set == CorruptionSet::ImagenetC && set.classes().len() == params.set.classes();
        let total = models.len() + baseline.iter().len();
        // The baseline's answers are needed for each model's errors.
        let base = match &baseline {
            Some(model) => Some(shown.files(params, model, gpu.as_ref(), context, (0, total))?),
            None => None,
        };
        let members = Members::of(context, params.models.iter().map(|model| model.0.as_str()));
        let kinds: Vec<String> = models.iter().map(model_name).collect();
        let labels = members.labels(&kinds);
        let mut evaluated = Vec::new();
        for (slot, model) in models.iter().enumerate() {
            let place = (slot + base.iter().len(), total);
            let results = shown.files(params, model, gpu.as_ref(), context, place)?;
            let drawn = shown.drawn(params, model, gpu.as_ref(), context, place)?;
            let against = match &base {
                Some(results) => Baseline::Answers(answers(results)?),
                None if published => Baseline::AlexNet,
                None => Baseline::None,
            };
            let errors = corruption_errors(&shown.versions, &answers(&results)?, &against, params.seed)
                .ok_or_else(|| StageError::new("the dataset's part has no images"))?;
            let mut results = results.into_iter();
            let clean = results.next().ok_or_else(no_results)?;
            let files = shown.versions.iter().zip(results);
            evaluated.push(Evaluated {
                slot,
                group: members.group(slot),
                network: kinds[slot].clone(),
                label: labels[slot].clone(),
                seed: model.info().seed,
                clean,
                files: files
                    .map(|(version, result)| Shown {
                        corruption: version.0,
                        severity: version.1,
                        result,
                    })
                    .collect(),
                drawn,
                errors,
            });
        }
        let against = match (&baseline, published) {
            (Some(model), _) => format!("{}, seed {}", model_name(model), model.info().seed),
            (None, true) => "AlexNet, as published".to_owned(),
            (None, false) => "none".to_owned(),
        };
        context.write_rows(tables::Accuracy::NAME, evaluated.iter().flat_map(tables::Accuracy::all))?;
        context.write_rows(tables::Error::NAME, evaluated.iter().flat_map(tables::Error::all))?;
        context.write_rows(tables::Category::NAME, evaluated.iter().flat_map(tables::Category::all))?;
        context.write_rows(
            tables::Mean::NAME,
            evaluated.iter().map(|e| tables::Mean::of(e, &against)),
        )?;
        context.write_rows(tables::Summary::NAME, tables::summary(&evaluated))?;
        context.write_rows(
            tables::Agreement::NAME,
            evaluated.iter().flat_map(tables::Agreement::all),
        )?;
        pictures::write(&evaluated, &members, &context.output("pictures")?)
    }
}

fn no_results() -> StageError {
    StageError::new("a model gave no answers")
}

/// So many images, chosen by seed, in their order.
fn chosen(all: &[u32], count: Option<usize>, seed: u64) -> Vec<u32> {
    let count = count.unwrap_or(all.len()).min(all.len());
    // No class has this number: the order is none of those that datasets are divided by.
    let order = Stream::new(seed, Purpose::Split, u64::MAX, 0, 0, 0).permutation(all.len());
    let mut chosen: Vec<u32> = order[..count].iter().map(|place| all[*place as usize]).collect();
    chosen.sort_unstable();
    chosen
}

/// The files of some images of a dataset, from its table of images.
fn names_of(table: &Table, set: &ImageSet, images: &[u32]) -> Result<Vec<String>, StageError> {
    let hint = "`files` must be the table of the dataset that `data` names: `DATASET/files`";
    let column = |name| table.column(name).map_err(|error| StageError::from(error).hint(hint));
    let (index, file, class) = (column("index")?, column("file")?, column("class")?);
    let mut names = vec![None; set.len()];
    for ((index, file), class) in index.iter().zip(file).zip(class) {
        let (Value::Int(index), Value::Text(file), Value::Text(class)) = (index, file, class) else {
            continue;
        };
        let index = *index as usize;
        let of_set = (index < set.len()).then(|| &set.classes()[set.label(index) as usize]);
        if of_set != Some(class) {
            let problem = format!("`files` is not the table of this dataset: its image {index} is of class `{class}`");
            return Err(StageError::new(problem).hint(hint));
        }
        names[index] = Some(file.clone());
    }
    let name = |image: &u32| {
        let missing = || StageError::new(format!("`files` does not name image {image} of the dataset")).hint(hint);
        names[*image as usize].clone().ok_or_else(missing)
    };
    images.iter().map(name).collect()
}

/// How long a model is without an image and shown one.
fn presentation(params: &Params, model: &Model) -> Presentation {
    let own = model.info().presentation.unwrap_or(Presentation::published());
    Presentation {
        spontaneous_ms: params.spontaneous.unwrap_or(own.spontaneous_ms),
        stimulus_ms: params.stimulus.unwrap_or(own.stimulus_ms),
    }
}

/// Results of the clean images and of all versions, as answers.
fn answers(results: &[VersionResult]) -> Result<CorruptionAnswers<'_>, StageError> {
    let (clean, versions) = results.split_first().ok_or_else(no_results)?;
    Ok(CorruptionAnswers {
        clean: &clean.right,
        versions: versions.iter().map(|result| result.right.as_slice()).collect(),
    })
}

/// The noises among the corruptions, at the set's levels, where the images have the size that these are for.
fn drawn_conditions(params: &Params, set: &ImageSet) -> Vec<Shown<Condition>> {
    if !params.drawn || set.side() != params.set.side() {
        return Vec::new();
    }
    let mut conditions = Vec::new();
    for corruption in &params.corruptions {
        let Some((noise, levels)) = drawn_noise(*corruption, params.set) else {
            continue;
        };
        let perturbation = Perturbation::Pixels {
            noise,
            timing: NoisePresentation::Static,
            clip: true,
        };
        conditions.extend(params.severities.iter().map(|severity| Shown {
            corruption: *corruption,
            severity: *severity,
            result: Condition {
                perturbation,
                level: levels[usize::from(*severity) - 1],
            },
        }));
    }
    conditions
}

/// What a reader of the tables must know.
fn notes(params: &Params, set: &ImageSet, shown: &Versions<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let all = Corruption::FIFTEEN
        .iter()
        .flat_map(|c| Corruption::SEVERITIES.map(|severity| (*c, severity)));
    let missing: Vec<_> = all.filter(|version| !shown.versions.contains(version)).collect();
    if !missing.is_empty() {
        let of = |corruption: &Corruption| {
            let severities = missing
                .iter()
                .filter(|(other, _)| other == corruption)
                .map(|(_, s)| s.to_string());
            let severities: Vec<String> = severities.collect();
            (!severities.is_empty()).then(|| format!("{} {}", corruption.name(), severities.join("/")))
        };
        let names: Vec<String> = Corruption::FIFTEEN.iter().filter_map(of).collect();
        notes.push(format!(
            "no mean corruption error: it is over fifteen corruptions at five severities, and these are not \
             evaluated: {}",
            names.join(", ")
        ));
    }
    let (side, theirs) = (set.side(), params.set.side());
    let draws = params
        .corruptions
        .iter()
        .any(|corruption| drawn_noise(*corruption, params.set).is_some());
    if params.drawn && draws && side != theirs {
        notes.push(format!(
            "no noise is drawn: the dataset's images have {side} x {side} pixels and those of {} {theirs} x {theirs}, \
             so that noise at its levels would be another experiment",
            params.set.title()
        ));
    }
    if params.set == CorruptionSet::ImagenetC && params.baseline.is_none() && set.classes().len() != 1000 {
        notes.push(format!(
            "no corruption errors: AlexNet's published errors are those of 1000 classes, and the dataset has {}; \
             `baseline` may name a model of the pipeline",
            set.classes().len()
        ));
    }
    notes
}

/// What models are shown.
struct Versions<'a> {
    set: &'a ImageSet,
    images: &'a [u32],
    corrupted: &'a CorruptedFiles,
    versions: Vec<(Corruption, u8)>,
    drawn: Vec<Shown<Condition>>,
}

/// Which model is at work, and of how many.
type Place = (usize, usize);

impl Versions<'_> {
    /// The clean images and the corrupted ones of the files.
    fn files(
        &self,
        params: &Params,
        model: &Model,
        gpu: Option<&Hardware>,
        context: &mut Context,
        place: Place,
    ) -> Result<Vec<VersionResult>, StageError> {
        let shown = presentation(params, model);
        let memory = context.gpu_memory;
        let mut progress = |done, all| report(context, model, place, "corrupted images", [done, all]);
        let results: Result<Vec<VersionResult>, NoiseError> = match gpu {
            None => evaluate_versions(&Cpu, model, self.set, self.images, self.corrupted, shown, &mut progress),
            Some(gpu) => with_images_that_fit(gpu, GPU_IMAGES, memory, |device| {
                evaluate_versions(
                    device,
                    model,
                    self.set,
                    self.images,
                    self.corrupted,
                    shown,
                    &mut progress,
                )
            })
            .map(|(results, _)| results),
        };
        Ok(results?)
    }

    /// The clean images under noise that is drawn here.
    fn drawn(
        &self,
        params: &Params,
        model: &Model,
        gpu: Option<&Hardware>,
        context: &mut Context,
        place: Place,
    ) -> Result<Vec<Shown<NoiseResult>>, StageError> {
        if self.drawn.is_empty() {
            return Ok(Vec::new());
        }
        let options = EvaluationOptions {
            observers: vec![match model {
                Model::CordsNet { .. } => Observer::Cordsnet,
                Model::Cnn { .. } => Observer::CnnFirstFrame,
            }],
            conditions: self.drawn.iter().map(|drawn| drawn.result).collect(),
            presentation: presentation(params, model),
            seed: params.seed,
            ..EvaluationOptions::default()
        };
        let memory = context.gpu_memory;
        let mut progress = |done, all| report(context, model, place, "drawn noise", [done, all]);
        let results: Result<Vec<NoiseResult>, NoiseError> = match gpu {
            None => evaluate(&Cpu, model, self.set, self.images, &options, &mut progress),
            Some(gpu) => with_images_that_fit(gpu, GPU_IMAGES, memory, |device| {
                evaluate(device, model, self.set, self.images, &options, &mut progress)
            })
            .map(|(results, _)| results),
        };
        let drawn = self.drawn.iter().zip(results?);
        Ok(drawn
            .map(|(drawn, result)| Shown {
                corruption: drawn.corruption,
                severity: drawn.severity,
                result,
            })
            .collect())
    }
}

fn report(context: &mut Context, model: &Model, (place, models): Place, what: &str, [done, all]: [usize; 2]) {
    context.report(Update {
        done: done as u64,
        total: all as u64,
        unit: "groups of images".into(),
        phase: format!("{}, {}/{models}, {what}", model_name(model), place + 1),
        figures: Vec::new(),
        milestone: done == all,
    });
}
