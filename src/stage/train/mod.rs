//! `train`: a CordsNet by the published objective, directly or in the published phases, and its feed-forward twin.

mod augment_params;
mod extent;
mod network;
mod params;
mod picture;
mod site;
mod tables;

use std::path::Path;

use cords::data::{ImageSet, Images, Split, SplitImages};
use cords::device::Cpu;
use cords::learn::{CheckpointProgress, Data, EpochRecord, Fit, Keep, Progress, TrainingPosition, evaluate};
use cords::net::{Euler, Graph, Model, ModelInfo, Parameters, TrainedPhase, fold};

use self::network::ImageSizes;
use self::params::{Params, Phase};
use self::site::{Job, Site, Trained};
use self::tables::{
    AnyEpoch, CellParameter, Epoch, Form, Inversion, Speed, Window, cell_parameters, forms, training_table,
};
use super::times::require;
use super::{Artifact, Context, Declared, Extent, InputExtents, Kind, MODEL, StageError, Update, Violation};
use super::{checkpoints, keyed_defaults};
use dynvis_runner::kind::ErrorClass;
use dynvis_runner::table::TableRow;

pub(super) struct Train;

impl Kind for Train {
    type Params = Params;
    const NAME: &'static str = "train";
    const SUMMARY: &'static str =
        "train a CordsNet directly or in the published phases, or its feed-forward twin: one phase a stage";
    const CODE_VERSION: u32 = 5;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::TRAIN;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("model", MODEL, "the trained network"),
        Declared::table::<Form>("the CNN before and after its batch norms were folded in")
            .when("in phase `fold`", |params| params.phase == Phase::Fold),
        Declared::table::<AnyEpoch>("objective, accuracy and gradient of each epoch")
            .when("in all phases but `fold`", |params| params.phase != Phase::Fold),
        Declared::table::<Inversion>("how well each area's linear dynamics reproduce the folded CNN's currents")
            .when("in phase `invert`", |params| params.phase == Phase::Invert),
        Declared::table::<Window>("validation in time windows after image onset, for each epoch")
            .when("in phases `direct`, `linear`, `anneal` and `finetune`", |params| {
                params.phase.has_trials()
            }),
        Declared::table::<Speed>("how fast each epoch went: the one table that differs from run to run")
            .when("in all phases but `fold`", |params| params.phase != Phase::Fold),
        Declared::table::<CellParameter>("trained time constants and adaptation of areas, before and after training")
            .when(
                "with a `network` whose time constants or adaptation are trained",
                |params| params.trains_cells(),
            ),
        Declared::always(
            "pictures",
            Artifact::FILES,
            "the network, its areas and projections; SVG and PNG",
        )
        .when("with `network`", |params| params.network.is_some()),
    ];
    const KEEPS_CHECKPOINTS: bool = true;
    const USES_DEVICE: bool = true;
    const USES_SEVERAL_GPUS: bool = true;

    fn code_version(params: &Params) -> u32 {
        // Since then random changes of images are torchvision's. Mirroring was before.
        const TORCHVISION: u32 = 6;
        if params.changes_images() {
            TORCHVISION
        } else {
            Self::CODE_VERSION
        }
    }

    fn grows_by(params: &Params) -> Option<&'static str> {
        params.begins_a_longer_one().then_some("epochs")
    }

    fn check(params: &Params) -> Vec<Violation> {
        params.violations()
    }

    fn extent(params: &Params, _root: &Path, inputs: &InputExtents) -> Result<Option<Extent>, StageError> {
        Ok(Some(extent::extent(params, inputs)))
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let augment = params.augment.augmentation();
        let train = SplitImages::new(&set, Split::Train, Some(&augment), params.seed)?;
        if augment.random_resized_crop.is_some() && set.manifest().originals.is_none() {
            context.note(format!(
                "random crops are of the prepared images, {0} x {0} pixels; with `store: encoded` of the data set they \
                 are of the original images",
                set.side()
            ));
        }
        let validation = SplitImages::new(&set, Split::Validation, None, params.seed)?;
        if validation.is_empty() {
            return Err(StageError::new("the dataset has no validation images")
                .hint("give the dataset stage a `validation` fraction above 0"));
        }
        let start = start(params, &set, context)?;
        if let (Phase::Fold, Some(cnn)) = (params.phase, &start) {
            return fold_cnn(cnn, &validation, context);
        }
        let data = Data {
            train: &train,
            validation: &validation,
        };
        let fit = params
            .fit()
            .ok_or_else(|| StageError::new("`epochs`, `optimiser` or `learning_rate` is not given"))?;
        let mut info = ModelInfo {
            seed: params.seed,
            data: set.name().to_owned(),
            mean: set.mean().to_vec(),
            std: set.std().to_vec(),
            classes: set.classes().to_vec(),
            presentation: None,
            phases: phases(start.as_ref(), params.phase, fit.epochs),
            network: start.as_ref().and_then(|start| start.info().network.clone()),
        };
        let checkpoints = checkpoints::of(context, params.checkpoint_minutes);
        let final_states = checkpoints::final_states(context);
        let (architecture, own_euler, parameters) = match &start {
            Some(model) => parts(model),
            None => {
                let images = ImageSizes {
                    channels: set.channels(),
                    side: set.side(),
                    classes: set.classes().len(),
                };
                let graph = params.graph(images).map_err(|flaw| StageError::new(flaw.message))?;
                (graph, None, Parameters::new())
            }
        };
        check_room(&architecture)?;
        if let Some(network) = params.network.as_ref().filter(|_| context.ranks.is_first()) {
            info.network = network.title(&architecture);
            let published = || format!("CordsNet-R{}", architecture.areas());
            let title = info.network.clone().unwrap_or_else(published);
            picture::write(&architecture, &params.euler(None), title, &context.output("pictures")?)?;
        }
        let job = Job {
            params,
            euler: params.euler(own_euler.as_ref()),
            architecture,
            start: start.as_ref().map(|_| &parameters),
            fit: &fit,
            data,
            checkpoints: Some(&checkpoints),
            final_states: final_states.as_ref(),
        };
        require(&job.euler, "the network", &params.times())?;
        let site = Site::open(params, context)?;
        let mut batches_each = 0;
        let mut observer = |progress: Progress<'_>| {
            tell(&progress, params.phase, &mut batches_each, context);
            checkpoints::heed(context)
        };
        let trained = site.train(&job, &mut observer)?;
        if !context.ranks.is_first() {
            return Ok(());
        }
        if let Some(note) = site.recording_note() {
            context.note(note);
        }
        tell_kept(&fit, trained.epochs(), &mut info, context);
        let (model, epochs) = match trained {
            Trained::Cnn(mut trained) => {
                let epochs = std::mem::take(&mut trained.epochs);
                (trained.into_model(info), epochs)
            }
            Trained::Inverse(mut trained) => {
                info.presentation = Some(params.inversion(fit).presentation());
                context.write_rows(Inversion::NAME, trained.areas.iter().map(Inversion::of))?;
                let epochs = std::mem::take(&mut trained.epochs);
                (trained.into_model(info), epochs)
            }
            Trained::CordsNet(mut trained) => {
                info.presentation = Some(params.trials(fit, None).presentation());
                context.write_rows(Window::NAME, trained.windows.iter().map(Window::of))?;
                let epochs = std::mem::take(&mut trained.epochs);
                (trained.into_model(info), epochs)
            }
        };
        write(params, &model, &epochs, context)
    }
}

/// Says which epoch's weights the model has, where that need not be the last of all, and writes it down in the model.
fn tell_kept(fit: &Fit, epochs: &[EpochRecord], info: &mut ModelInfo, context: &mut Context) {
    if let Some(rest) = fit.epochs.checked_sub(epochs.len()).filter(|rest| *rest > 0) {
        context.note(format!(
            "ended after epoch {}, {rest} before the last: no better one on the validation images since epoch {}",
            epochs.len(),
            epochs.len() - fit.early_stop.unwrap_or(0)
        ));
    }
    let Some((kept, record)) = fit.kept(epochs).and_then(|kept| Some((kept + 1, epochs.get(kept)?))) else {
        return;
    };
    if let Some(phase) = info.phases.last_mut() {
        phase.epochs = kept;
    }
    if fit.keep == Keep::Best {
        context.note(format!(
            "keeps epoch {kept} of {}: on the validation images accuracy {:.4}, cross-entropy {:.4}",
            epochs.len(),
            record.validation_accuracy,
            record.validation_loss
        ));
    }
}

fn write(params: &Params, model: &Model, epochs: &[EpochRecord], context: &mut Context) -> Result<(), StageError> {
    model.save(&context.output("model")?.join("model.safetensors"))?;
    context.write_table(<Epoch>::NAME, &training_table(params, epochs)?)?;
    if params.trains_cells() {
        context.write_rows(
            CellParameter::NAME,
            cell_parameters(model.architecture(), model.parameters()),
        )?;
    }
    context.write_rows(Speed::NAME, epochs.iter().map(Speed::of))
}

/// Sizes, step and weights of a model.
fn parts(model: &Model) -> (Graph, Option<Euler>, Parameters<f32>) {
    let euler = match model {
        Model::CordsNet { euler, .. } => Some(euler.clone()),
        Model::Cnn { .. } => None,
    };
    (model.architecture().clone(), euler, model.parameters().clone())
}

/// Refuses a network whose training asks for more memory than can be had, which would end the process.
fn check_room(graph: &Graph) -> Result<(), StageError> {
    /// Of a weight: its value, its gradient and the optimiser's moments, two at most, four bytes each.
    const BYTES: u64 = 16;
    let values = |shape: &[usize]| {
        shape
            .iter()
            .fold(1u64, |values, size| values.saturating_mul(*size as u64))
    };
    let shapes = graph.cordsnet_shapes();
    let weights = shapes
        .iter()
        .map(|(_, shape)| values(shape))
        .fold(0, u64::saturating_add);
    dynvis_base::memory::check_room(weights.saturating_mul(BYTES)).map_err(|error| {
        StageError::new(format!(
            "training takes up to {BYTES} bytes for each of {weights} weights (its value, gradient and moments): {error}"
        ))
        .hint("give it fewer areas, fewer channels (`width`) or smaller kernels")
        .class(Some(ErrorClass::Oom))
    })
}

/// The phases that a model went through before, and this one.
fn phases(start: Option<&Model>, phase: Phase, epochs: usize) -> Vec<TrainedPhase> {
    let mut phases = start.map(|model| model.info().phases.clone()).unwrap_or_default();
    phases.push(TrainedPhase {
        phase: phase.name().to_owned(),
        epochs,
    });
    phases
}

/// The model that the phase goes on from, held against the phase, the parameters and the images.
fn start(params: &Params, set: &ImageSet, context: &Context) -> Result<Option<Model>, StageError> {
    let Some(reference) = &params.start else {
        return Ok(None);
    };
    let model = Model::load(&context.input(&reference.0)?.join("model.safetensors"))?;
    let found = match &model {
        Model::CordsNet { .. } => "a CordsNet",
        Model::Cnn { parameters, .. } if parameters.is_folded_cnn() => "a folded CNN",
        Model::Cnn { .. } => "a CNN with batch norms",
    };
    let (needed, before) = match params.phase {
        Phase::Fold => ("a CNN with batch norms", "cnn"),
        Phase::Invert => ("a folded CNN", "fold"),
        _ => ("a CordsNet", "invert"),
    };
    if found != needed {
        let phase = params.phase.name();
        return Err(StageError::new(format!(
            "phase `{phase}` continues from {needed}, but `start` is {found}"
        ))
        .hint(format!("a stage `train` of phase `{before}` gives {needed}")));
    }
    if let Some(contradiction) = params.contradiction(model.architecture()) {
        return Err(StageError::new(contradiction).hint("leave it out: sizes come with the model"));
    }
    let info = model.info();
    let normalisation = (info.mean.as_slice(), info.std.as_slice());
    if !info.mean.is_empty() && normalisation != (set.mean(), set.std()) {
        return Err(StageError::new(format!(
            "`start` was trained on images of mean {:?} and standard deviation {:?}, these have {:?} and {:?}",
            info.mean,
            info.std,
            set.mean(),
            set.std()
        ))
        .hint("use the dataset that the first phase was trained on"));
    }
    if !info.classes.is_empty() && info.classes != set.classes() {
        return Err(StageError::new(format!(
            "`start` was trained on classes {:?}, these images have {:?}",
            info.classes,
            set.classes()
        )));
    }
    Ok(Some(model))
}

fn fold_cnn(cnn: &Model, validation: &SplitImages<'_>, context: &mut Context) -> Result<(), StageError> {
    let architecture = cnn.architecture();
    let folded = Model::Cnn {
        architecture: architecture.clone(),
        parameters: fold(architecture, cnn.parameters())?,
        info: ModelInfo {
            phases: phases(Some(cnn), Phase::Fold, 0),
            ..cnn.info().clone()
        },
    };
    let [before, after] = [cnn, &folded].map(|model| evaluate(&Cpu, model, validation, None));
    context.write_rows(Form::NAME, forms(&before?, &after?))?;
    Ok(folded.save(&context.output("model")?.join("model.safetensors"))?)
}

/// `batches_each` remembers the batches of an epoch, so that the end of one counts in the same unit.
fn tell(progress: &Progress, phase: Phase, batches_each: &mut usize, context: &mut Context) {
    match progress {
        Progress::Batch {
            epoch,
            epochs,
            batch,
            batches,
            objective,
            cross_entropy,
            accuracy,
            images_per_second,
        } => {
            let mut figures = figures(phase, [*cross_entropy, *accuracy, *objective]);
            figures.push(("images/s".into(), *images_per_second));
            *batches_each = *batches;
            context.report(Update {
                done: (epoch * batches + batch + 1) as u64,
                total: (epochs * batches) as u64,
                unit: "batches".into(),
                phase: format!("epoch {}/{epochs}", epoch + 1),
                figures,
                milestone: false,
            });
        }
        Progress::Validation { epoch, epochs } => context.report(Update {
            done: ((epoch + 1) * *batches_each) as u64,
            total: (epochs * *batches_each) as u64,
            unit: "batches".into(),
            phase: format!("epoch {}/{epochs}, validation", epoch + 1),
            figures: Vec::new(),
            milestone: false,
        }),
        Progress::Epoch { epochs, record } => {
            let mut figures = figures(phase, [record.cross_entropy, record.accuracy, record.loss]);
            figures.extend([
                ("validation accuracy".into(), record.validation_accuracy),
                ("images/s".into(), record.images as f64 / record.seconds),
            ]);
            context.report(Update {
                done: ((record.epoch + 1) * *batches_each) as u64,
                total: (epochs * *batches_each) as u64,
                unit: "batches".into(),
                phase: format!("epoch {}/{epochs}", record.epoch + 1),
                figures,
                milestone: true,
            });
        }
        Progress::Checkpoint(progress) => {
            if let CheckpointProgress::Continued(place) | CheckpointProgress::Grown(place) = progress {
                *batches_each = place.batches;
            }
            checkpoints::tell(progress, words, context);
        }
    }
}

/// How training goes, by name. Phase `invert` knows no labels, and the objective of a CNN is its cross-entropy.
fn figures(phase: Phase, [cross_entropy, accuracy, objective]: [f64; 3]) -> Vec<(String, f64)> {
    let (labelled, own_objective) = (phase != Phase::Invert, phase != Phase::Cnn);
    let named = [
        ("cross-entropy", cross_entropy, labelled),
        ("accuracy", accuracy, labelled),
        ("objective", objective, own_objective),
    ];
    let known = named.into_iter().filter(|(.., is_known)| *is_known);
    known.map(|(name, value, _)| (name.to_owned(), value)).collect()
}

/// A place in a training.
fn words(place: &TrainingPosition) -> String {
    let TrainingPosition {
        epoch,
        epochs,
        batch,
        batches,
    } = place;
    format!("epoch {}/{epochs}, {batch} of {batches} batches done", epoch + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dynvis_runner::kind::Said;

    /// What an observer is told as it stands beside the bar and in the lines of a log.
    fn shown(phase: Phase) -> Vec<Vec<(String, f64)>> {
        let record = EpochRecord {
            epoch: 0,
            loss: 0.5,
            cross_entropy: 2.0,
            return_term: 0.0,
            accuracy: 0.25,
            validation_loss: 3.0,
            validation_accuracy: 0.125,
            validation_diverged: 0,
            learning_rate: 0.1,
            gradient_norm: 1.0,
            seconds: 2.0,
            waiting_seconds: 0.0,
            images: 100,
        };
        let batch = Progress::Batch {
            epoch: 0,
            epochs: 1,
            batch: 0,
            batches: 1,
            objective: 0.5,
            cross_entropy: 2.0,
            accuracy: 0.25,
            images_per_second: 50.0,
        };
        let epoch = Progress::Epoch {
            epochs: 1,
            record: &record,
        };
        let mut updates = Vec::new();
        let mut context = Context {
            inputs: std::collections::BTreeMap::new(),
            scratch: std::path::PathBuf::new(),
            root: std::path::PathBuf::new(),
            threads: 1,
            device: dynvis_runner::kind::Device::Cpu,
            gpu_memory: None,
            ranks: dynvis_runner::kind::Ranks::alone(),
            key: String::new(),
            checkpoint: std::path::PathBuf::new(),
            lineage: None,
            stop: std::sync::Arc::default(),
            said: Box::new(|said| match said {
                Said::Progress(update) => updates.push(update.figures),
                Said::Note(note) => panic!("{note}"),
            }),
        };
        for progress in [batch, epoch] {
            tell(&progress, phase, &mut 1, &mut context);
        }
        drop(context);
        updates
    }

    #[test]
    fn only_stages_whose_images_change_otherwise_have_a_later_code_version() {
        use serde_json::json;
        let registry = crate::kinds();
        let kind = registry.kind("train").expect("a kind");
        let stage = |augment: serde_json::Value| {
            let params = json!({ "phase": "cnn", "data": "digits", "augment": augment });
            kind.stage(params).expect("parameters")
        };
        let before = [
            ("degrees", json!(0.0)),
            ("translate", json!(0.0)),
            ("scale", json!(null)),
            ("shear", json!(0.0)),
            ("flip", json!(true)),
            ("brightness", json!(0.0)),
            ("contrast", json!(0.0)),
            ("elastic_alpha", json!(0.0)),
            ("elastic_sigma", json!(0.0)),
            ("crop", json!(null)),
        ];
        let before: serde_json::Map<_, _> = before
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
        let mirrored = stage(json!({ "flip": true, "interpolation": null, "erasing": 0.0, "cutmix": null }));
        assert_eq!(mirrored.identity()["augment"], json!(before), "new parameters stay out");
        for same in [
            json!({}),
            json!({ "flip": true }),
            json!({ "interpolation": "bilinear" }),
            json!({ "degrees": 5 }),
            json!({ "scale": [0.9, 1.1], "shear": 5, "translate": 0.1 }),
        ] {
            assert_eq!(stage(same.clone()).code_version(), kind.code_version(), "{same}");
        }
        for changed in [
            json!({ "degrees": 5, "interpolation": "nearest" }),
            json!({ "degrees": 5, "flip": true }),
            json!({ "scale": [0.9, 1.1], "contrast": 0.1 }),
            json!({ "flip": true, "crop": [0.08, 1.0] }),
            json!({ "brightness": 0.1 }),
            json!({ "elastic_alpha": 20, "elastic_sigma": 5 }),
            json!({ "rand_augment": {} }),
            json!({ "mixup": 0.2 }),
        ] {
            assert_eq!(
                stage(changed.clone()).code_version(),
                kind.code_version() + 1,
                "{changed}"
            );
        }
        assert_eq!(
            stage(json!({ "rand_augment": { "magnitude": 9 } })).identity(),
            stage(json!({ "rand_augment": {} })).identity()
        );
    }

    #[test]
    fn the_shown_loss_says_whether_it_is_the_objective_or_the_cross_entropy() {
        let named = |figures: &[(&str, f64)]| -> Vec<(String, f64)> {
            figures
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect()
        };
        let learned = named(&[("cross-entropy", 2.0), ("accuracy", 0.25), ("objective", 0.5)]);
        let rate = named(&[("images/s", 50.0)]);
        let validated = [named(&[("validation accuracy", 0.125)]), rate.clone()].concat();
        for phase in [Phase::Direct, Phase::Linear, Phase::Anneal, Phase::Finetune] {
            let expected = [&rate, &validated].map(|rest| [learned.clone(), rest.clone()].concat());
            assert_eq!(shown(phase), expected, "{phase:?}");
        }
        let expected = [&rate, &validated].map(|rest| [learned[..2].to_vec(), rest.clone()].concat());
        assert_eq!(shown(Phase::Cnn), expected);
        let expected = [&rate, &validated].map(|rest| [learned[2..].to_vec(), rest.clone()].concat());
        assert_eq!(shown(Phase::Invert), expected);
    }
}
