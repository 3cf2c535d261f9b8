//! `dynvis export --tables --pictures --models FOLDER`: results of a run under names that people read.

use std::path::{Path, PathBuf};

use super::error::CommandError;
use super::export::{ExportArgs, file_name};
use super::files::{copy, write};
use super::report::pictures_in;
use super::tables::tables_of;
use super::ui::Ui;
use super::{open_store, project_here};
use crate::stage::MODEL;
use dynvis_runner::kind::Artifact;
use dynvis_runner::store::{RunStage, Store};
use dynvis_runner::table::{Format, RenderOptions, render};

/// What was written.
#[derive(Default)]
struct Written {
    tables: usize,
    pictures: usize,
    models: usize,
}

pub(super) fn export_all(ui: &mut Ui, cache: Option<&Path>, args: &ExportArgs) -> Result<u8, CommandError> {
    let folder = PathBuf::from(&args.what);
    let is_taken = folder.exists() && std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_some());
    if is_taken {
        return Err(CommandError::hinted(
            format!("{} is there already and is no empty folder", folder.display()),
            "name a folder that is new: of what lies there nobody could tell which run it is of",
        ));
    }
    let store = open_store(cache, &project_here())?;
    let (_, run) = super::find_run(ui, &store, args.of.as_deref().unwrap_or(&args.run))?;
    let mut written = Written::default();
    if args.tables {
        for found in tables_of(&run) {
            let table = match found.read(&store) {
                Ok(table) => table,
                Err(error) => {
                    ui.status(&format!("left out: {error}"));
                    continue;
                }
            };
            let path = |ending: &str| {
                let name = format!("{}.{ending}", found.output());
                folder.join("tables").join(file_name(&found.stage.name)).join(name)
            };
            write(&path("parquet"), &table.to_parquet()?)?;
            let csv = render(&table, Format::Csv, &RenderOptions::default())?;
            write(&path("csv"), csv.as_bytes())?;
            written.tables += 1;
        }
    }
    for stage in &run.stages {
        if args.pictures {
            written.pictures += pictures(&store, stage, &folder)?;
        }
        if args.models {
            written.models += models(ui, &store, stage, &folder)?;
        }
    }
    let counts = [
        (args.tables, written.tables, "tables as Parquet and CSV"),
        (args.pictures, written.pictures, "pictures"),
        (args.models, written.models, "models"),
    ];
    let counts = counts.iter().filter(|(is_asked, ..)| *is_asked);
    let counts: Vec<String> = counts.map(|(_, count, what)| format!("{count} {what}")).collect();
    ui.status(&format!(
        "wrote {} of run {} to {}",
        counts.join(", "),
        run.id,
        folder.display()
    ));
    Ok(0)
}

/// Pictures of a stage; those of another output than `pictures` lie in a folder of that name.
fn pictures(store: &Store, stage: &RunStage, folder: &Path) -> Result<usize, CommandError> {
    let mut count = 0;
    for output in stage.outputs.iter().filter(|output| output.artifact == Artifact::FILES) {
        let mut target = folder.join("pictures").join(file_name(&stage.name));
        if output.slot != "pictures" {
            target.push(file_name(&output.slot));
        }
        for picture in pictures_in(&store.object(&output.content)) {
            copy(&picture.path, &target.join(&picture.name))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Models of a stage as dynvis keeps them.
fn models(ui: &mut Ui, store: &Store, stage: &RunStage, folder: &Path) -> Result<usize, CommandError> {
    let mut count = 0;
    for output in stage.outputs.iter().filter(|output| output.artifact == MODEL) {
        let name = match output.slot.as_str() {
            "model" => file_name(&stage.name),
            slot => format!("{}-{}", file_name(&stage.name), file_name(slot)),
        };
        let file = store.object(&output.content).join("model.safetensors");
        if !file.exists() {
            ui.status(&format!(
                "left out: the file of `{}/{}` is gone from the cache",
                stage.name, output.slot
            ));
            continue;
        }
        copy(&file, &folder.join("models").join(format!("{name}.safetensors")))?;
        count += 1;
    }
    Ok(count)
}
