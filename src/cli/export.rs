//! `dynvis export`.

use crate::stage::MODEL;
use std::path::{Path, PathBuf};

use cords::device::Phi;
use cords::exchange::{Format, export as write_weights};
use cords::net::{Graph, Model};

use super::error::CommandError;
use super::export_all::export_all;
use super::files::{cannot_write, make_folder_of};
use super::ui::Ui;
use super::{open_store, project_here};
use crate::stage::{StageError, model_name};
use dynvis_runner::names::find;
use dynvis_runner::pipeline::suggest;
use dynvis_runner::store::{RunRecord, RunStage, Store};

/// Write a model's weights for the published PyTorch class (`load_state_dict` with strict=True), or all tables, pictures
/// or models of a run
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("all").args(["tables", "pictures", "models"]).multiple(true))]
pub(crate) struct ExportArgs {
    /// A stage that trains or imports a model (`cordsnet@seed=0`, `cordsnet/model`), or a model file; with `--tables`,
    /// `--pictures` or `--models` the folder to write to
    #[arg(value_name = "MODEL|FOLDER")]
    pub(super) what: String,
    /// With `--tables`, `--pictures` or `--models` the run to take them from, as `--run`
    #[arg(value_name = "RUN", requires = "all", add = super::completions::runs())]
    pub(super) of: Option<String>,
    /// All tables, as Parquet and CSV, in `tables/STAGE`
    #[arg(long)]
    pub(super) tables: bool,
    /// All figures as SVG, PDF and PNG, in `pictures/STAGE`, with their captions in `pictures/figures.md`; and pictures
    /// that stages store and no figure stands for
    #[arg(long)]
    pub(super) pictures: bool,
    /// All models as dynvis keeps them, in `models`
    #[arg(long)]
    pub(super) models: bool,
    /// [default: as the ending of --out says, else pth]
    #[arg(long, value_enum, conflicts_with = "all")]
    format: Option<ExportFormat>,
    /// [default: the stage's name with the format's ending, in this folder]
    #[arg(long, short, value_name = "FILE", conflicts_with = "all")]
    out: Option<PathBuf>,
    /// The run to take it from: `@` (last run), `@-1`, a run's id or its first letters
    #[arg(long, default_value = "@", value_name = "RUN")]
    pub(super) run: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    /// Format of `torch.save(model.state_dict(), path)`
    Pth,
    /// Format of `safetensors.torch.save_file`
    Safetensors,
}

impl ExportFormat {
    fn ending(self) -> &'static str {
        match self {
            Self::Pth => "pth",
            Self::Safetensors => "safetensors",
        }
    }

    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "pth" | "pt" => Some(Self::Pth),
            "safetensors" => Some(Self::Safetensors),
            _ => None,
        }
    }
}

/// Whether a network is a published one but for time constants that are not trained: the published class is given those.
fn is_published(graph: &Graph) -> bool {
    let mut description = graph.description().clone();
    for area in description.areas.iter_mut().filter(|area| !area.trains_tau) {
        area.tau_ms = None;
    }
    Graph::new(description).is_ok_and(|graph| graph.architecture().is_some())
}

pub(crate) fn export(ui: &mut Ui, cache: Option<&Path>, args: &ExportArgs) -> Result<u8, CommandError> {
    if args.tables || args.pictures || args.models {
        return export_all(ui, cache, args);
    }
    let ending = args.out.as_deref().and_then(ExportFormat::of);
    let format = args.format.or(ending).unwrap_or(ExportFormat::Pth);
    let file = PathBuf::from(&args.what);
    let (source, name) = if file.is_file() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (file, name)
    } else {
        let store = open_store(cache, &project_here())?;
        let (_, run) = store.find_run(&args.run)?;
        model_of(&store, &run, &args.what)?
    };
    let out = match &args.out {
        Some(out) => out.clone(),
        None => {
            let out = PathBuf::from(format!("{}.{}", file_name(&name), format.ending()));
            if out.exists() {
                return Err(CommandError::hinted(
                    format!("{} is there already", out.display()),
                    "name the file to write with `--out FILE`",
                ));
            }
            out
        }
    };
    let model = Model::load(&source).map_err(StageError::from).map_err(|error| {
        CommandError::hinted(
            error.message,
            "name a stage whose output is a model, or a model file of dynvis",
        )
    })?;
    if !is_published(model.architecture()) {
        return Err(CommandError::hinted(
            format!(
                "{} is not one of the published networks, and is not exported: the file formats hold tensors alone, \
                 and the published PyTorch class has no other connections, cells or trained time constants, so that what \
                 reads the file would make another network of it",
                model_name(&model)
            ),
            format!(
                "use dynvis's own file, which has the whole network in its header: {}",
                source.display()
            ),
        ));
    }
    let written = match format {
        ExportFormat::Pth => Format::Pth,
        ExportFormat::Safetensors => Format::Safetensors,
    };
    make_folder_of(&out)?;
    write_weights(&model, written, &out).map_err(cannot_write(&out))?;
    ui.status(&format!(
        "wrote {}: {} with {} tensors, {} values",
        out.display(),
        model_name(&model),
        model.parameters().len(),
        model.parameters().values()
    ));
    if let Model::CordsNet { phi, .. } = &model
        && *phi != Phi::Relu
    {
        ui.status("the published class has ReLU, which this network has not yet: it is between its training phases");
    }
    Ok(0)
}

/// A stage's name as that of a file that needs no quotes in a shell.
pub(super) fn file_name(name: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || "@=,._-+".contains(c);
    let name = name.replace('"', "");
    name.chars().map(|c| if kept(c) { c } else { '_' }).collect()
}

/// The model file of `stage` or `stage/output` in a run, and the stage's name.
fn model_of(store: &Store, run: &RunRecord, name: &str) -> Result<(PathBuf, String), CommandError> {
    let selected = find(&run.stages, name);
    let slot = selected.as_ref().and_then(|selected| selected.output.as_deref());
    let model = |s: &RunStage| {
        let output = s
            .outputs
            .iter()
            .find(|o| o.artifact == MODEL && slot.is_none_or(|slot| slot == o.slot))?;
        Some((store.object(&output.content).join("model.safetensors"), s.name.clone()))
    };
    let models: Vec<_> = run.stages.iter().filter_map(|s| Some((s, model(s)?))).collect();
    let is_meant = |stage: &RunStage| {
        let members = selected.iter().flat_map(|selected| &selected.members);
        members.copied().any(|member| run.stages[member].name == stage.name)
    };
    let members: Vec<_> = models.iter().filter(|(stage, _)| is_meant(stage)).collect();
    match members.as_slice() {
        [(_, found)] => Ok(found.clone()),
        [] => {
            let names = models.iter().map(|(s, _)| s.name.as_str());
            Err(CommandError::hinted(
                format!("run {} has no model `{name}`, and there is no such file", run.id),
                match suggest(name, names.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if models.is_empty() => "it has no models at all".into(),
                    None => format!("its models: {}", names.collect::<Vec<_>>().join(", ")),
                },
            ))
        }
        several => Err(CommandError::hinted(
            format!("`{name}` matches {} models", several.len()),
            format!(
                "name one: {}",
                several
                    .iter()
                    .map(|(s, _)| s.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        )),
    }
}
