//! `dynvis show`.

use std::path::{Path, PathBuf};

use super::error::CommandError;
use super::tables::{find_table, simple_table, tables_of};
use super::ui::Ui;
use super::{open_store, project_here};
use crate::stage::Artifact;
use crate::store::{RunRecord, Store};
use crate::table::{Format, RenderOptions, Table, render};

/// Show a result table of a run, or list them; of an output that is no table, say where its files are
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters, or a table file
    #[arg(default_value = "@", add = super::completions::runs_and_files())]
    reference: String,
    /// `stage`, `stage/table` or `stage/output`; all tables are listed if left out
    #[arg(add = super::completions::tables_of_run())]
    table: Option<String>,
    #[arg(long, value_enum, default_value_t = ShowFormat::Text)]
    format: ShowFormat,
    /// Rows to show at most, as text
    #[arg(long, default_value_t = 60)]
    rows: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ShowFormat {
    Text,
    Csv,
    Json,
    Md,
    Parquet,
}

pub(crate) fn show(ui: &mut Ui, cache: Option<&Path>, args: &ShowArgs) -> Result<u8, CommandError> {
    let file = PathBuf::from(&args.reference);
    if file.is_file() {
        let table = Table::read(&file)?;
        return print(ui, &table, args);
    }
    let store = open_store(cache, &project_here())?;
    let (_, run) = super::find_run(ui, &store, &args.reference)?;
    match &args.table {
        Some(name) => match files_of(&store, &run, name) {
            Some(folder) => {
                ui.out(&format!("{}\n", folder.display()))?;
                Ok(0)
            }
            None => {
                let found = find_table(&run, name)?;
                if let Some(why) = &found.stage.accepted {
                    ui.status(&format!("`{}` was accepted without running: {why}", found.stage.name));
                }
                print(ui, &found.read(&store)?, args)
            }
        },
        None => {
            let rows = tables_of(&run)
                .iter()
                .filter_map(|found| {
                    let table = found.read(&store).ok()?;
                    let accepted = found.stage.accepted.as_ref();
                    Some(vec![
                        found.name(),
                        table.height().to_string(),
                        table.schema().description.clone(),
                        accepted.map_or_else(String::new, |why| format!("accepted without running: {why}")),
                    ])
                })
                .collect();
            ui.out(&simple_table(&["table", "rows", "what it holds", ""], rows, ui.width()))?;
            ui.status(&format!("`dynvis show {} STAGE/TABLE` shows one", args.reference));
            Ok(0)
        }
    }
}

/// The folder of an output that is no table, named as `stage/output`.
fn files_of(store: &Store, run: &RunRecord, name: &str) -> Option<PathBuf> {
    let (stage, slot) = name.split_once('/')?;
    let stage = run.stages.iter().find(|s| s.name == stage || s.family == stage)?;
    let output = stage
        .outputs
        .iter()
        .find(|o| o.slot == slot && o.artifact != Artifact::Table)?;
    Some(store.object(&output.content))
}

fn print(ui: &mut Ui, table: &Table, args: &ShowArgs) -> Result<u8, CommandError> {
    let format = match args.format {
        ShowFormat::Text => Format::Text,
        ShowFormat::Csv => Format::Csv,
        ShowFormat::Json => Format::Json,
        ShowFormat::Md => Format::Md,
        ShowFormat::Parquet => {
            let bytes = table.to_parquet()?;
            ui.out_bytes(&bytes)?;
            return Ok(0);
        }
    };
    let options = RenderOptions {
        max_rows: (args.format == ShowFormat::Text).then_some(args.rows),
        width: ui.width(),
        color: ui.colour_out(),
    };
    ui.out(&render(table, format, &options)?)?;
    Ok(0)
}
