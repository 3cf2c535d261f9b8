//! `dynvis export --tables --pictures --models FOLDER`: results of a run under names that people read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::error::CommandError;
use super::export::{ExportArgs, file_name};
use super::files::{copy, write};
use super::report::{figure_files, pictures_in, stored_figure};
use super::tables::tables_of;
use super::ui::Ui;
use super::{open_store, project_here};
use crate::figure::kinds::stands_for;
use crate::stage::MODEL;
use dynvis_runner::kind::Artifact;
use dynvis_runner::store::{RunRecord, RunStage, Store};
use dynvis_runner::table::{Format, RenderOptions, render};

/// What is to be written.
#[derive(Clone, Copy)]
pub(super) struct What {
    pub(super) tables: bool,
    pub(super) pictures: bool,
    pub(super) models: bool,
}

/// What was written.
#[derive(Default)]
pub(super) struct Written {
    tables: usize,
    figures: usize,
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
    let (folder_of_run, run) = super::find_run(ui, &store, args.of.as_deref().unwrap_or(&args.run))?;
    let what = What {
        tables: args.tables,
        pictures: args.pictures,
        models: args.models,
    };
    let written = write_all(ui, &store, &folder_of_run, &run, what, &folder)?;
    let counts = [
        (args.tables, written.tables, "tables as Parquet and CSV"),
        (args.pictures, written.figures, "figures as SVG, PDF and PNG"),
        (args.pictures, written.pictures, "stored pictures"),
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

/// Writes results of a run under names that people read.
pub(super) fn write_all(
    ui: &mut Ui,
    store: &Store,
    folder_of_run: &Path,
    run: &RunRecord,
    what: What,
    folder: &Path,
) -> Result<Written, CommandError> {
    let mut written = Written::default();
    if what.tables {
        for found in tables_of(run) {
            let table = match found.read(store) {
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
    if what.pictures {
        written.figures = figures(store, folder_of_run, run, folder)?;
    }
    for stage in &run.stages {
        if what.pictures {
            written.pictures += pictures(store, stage, folder)?;
        }
        if what.models {
            written.models += models(ui, store, stage, folder)?;
        }
    }
    Ok(written)
}

/// Figures of all stages' tables, and a list of them with their captions.
fn figures(store: &Store, folder_of_run: &Path, run: &RunRecord, folder: &Path) -> Result<usize, CommandError> {
    let mut count = 0;
    let mut lists: IndexMap<String, String> = IndexMap::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    figure_files(store, folder_of_run, run, |figure| {
        let list = lists.entry(figure.family.clone()).or_default();
        // Networks of one name with other widths, and figures of one title, are files of their own.
        let mut name = format!("{}/{}", file_name(&figure.family), words(&figure.title));
        let count_of_name = names.entry(name.clone()).or_default();
        *count_of_name += 1;
        if *count_of_name > 1 {
            name = format!("{name}-{count_of_name}");
        }
        for (ending, bytes) in figure.drawn.files() {
            write(&folder.join("pictures").join(format!("{name}.{ending}")), bytes)?;
        }
        *list += &format!(
            "\n![{}]({name}.png)\n\n**{}.** {}",
            figure.title, figure.title, figure.caption
        );
        for note in &figure.notes {
            *list += &format!(" {note}");
        }
        list.push('\n');
        count += 1;
        Ok(())
    })?;
    if count > 0 {
        let lists = lists.iter().map(|(family, list)| format!("\n## {family}\n{list}"));
        let list = format!("# Figures of run {}\n{}", run.id, lists.collect::<String>());
        write(&folder.join("pictures/figures.md"), list.as_bytes())?;
    }
    Ok(count)
}

/// A title as the name of a file.
fn words(title: &str) -> String {
    let letters = title.to_lowercase();
    let words = letters
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Pictures of a stage in whose place no figure stands; those of another output than `pictures` lie in a folder of that name.
fn pictures(store: &Store, stage: &RunStage, folder: &Path) -> Result<usize, CommandError> {
    let mut count = 0;
    let files = stage.outputs.iter().filter(|output| output.artifact == Artifact::FILES);
    for output in files.filter(|output| stored_figure(store, &output.content).is_none()) {
        let mut target = folder.join("pictures").join(file_name(&stage.name));
        if output.slot != "pictures" {
            target.push(file_name(&output.slot));
        }
        for picture in pictures_in(&store.object(&output.content)) {
            if stands_for(&stage.kind, &picture.name) {
                continue;
            }
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
