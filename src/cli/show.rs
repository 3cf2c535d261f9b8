//! `dynvis show`.

use std::path::{Path, PathBuf};

use super::ask::{Answer, Ask};
use super::error::CommandError;
use super::tables::{
    StageOutput, find_outputs, find_tables, note_old_name, read_tables, several, simple_table, tables_of,
};
use super::ui::Ui;
use super::wording::pulled_from;
use super::{open_store, project_here};
use dynvis_runner::kind::Artifact;
use dynvis_runner::store::{RunRecord, Store};
use dynvis_runner::table::{Format, RenderOptions, Role, Table, render};

/// Show a result table of a run, or list them; of an output that is no table, say where its files are
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters, or a table file
    #[arg(default_value = "@", add = super::completions::runs_and_files())]
    reference: String,
    /// `stage`, `stage/table` or `stage/output`; `stage@*/table` and `stage@field=value,*/table` for several members of
    /// a matrix, as one table with their fields as columns; all tables are listed if left out
    #[arg(add = super::completions::tables_of_run())]
    table: Option<String>,
    #[arg(long, value_enum, default_value_t = ShowFormat::Text)]
    format: ShowFormat,
    /// Rows to show at most, as text
    #[arg(long, default_value_t = 60)]
    rows: usize,
    /// What the table and each of its columns mean
    #[arg(long)]
    describe: bool,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ShowFormat {
    Text,
    Csv,
    Json,
    Md,
    /// With units and keys, for pandas and polars; to a file with `> t.parquet`
    Parquet,
    /// A structured array for `numpy.load`, one field a column; to a file with `> t.npy`
    Npy,
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
        Some(name) => {
            let files = files_of(&run, name);
            match files.as_slice() {
                [] => {}
                [one] => {
                    ui.out(&format!("{}\n", folder(&store, one).display()))?;
                    return Ok(0);
                }
                all if name.contains('*') => {
                    let lines = all
                        .iter()
                        .map(|f| format!("{}\t{}\n", f.name(), folder(&store, f).display()));
                    ui.out(&lines.collect::<String>())?;
                    return Ok(0);
                }
                all => return Err(several(name, "outputs", all)),
            }
            let found = find_tables(&run, name)?;
            note_old_name(ui, name, &found);
            for stage in found.iter().map(|f| f.stage) {
                if let Some(why) = &stage.accepted {
                    ui.status(&format!("`{}` was accepted without running: {why}", stage.name));
                }
                if let Some(pulled) = &stage.pulled {
                    ui.status(&format!("`{}` was {}", stage.name, pulled_from(pulled)));
                }
            }
            print(ui, &read_tables(&found, &store)?, args)
        }
        None if !args.ask.is_for_all() => Err(CommandError::hinted(
            "rows and columns are asked for, but no table is named",
            format!(
                "name one: `dynvis show {} STAGE/TABLE ...`; without options all are listed",
                args.reference
            ),
        )),
        None => {
            let rows = tables_of(&run)
                .iter()
                .map(|found| {
                    let Ok(table) = found.read(&store) else {
                        let why = match found.never_came(&store) {
                            true => "not in this cache: the run came without it",
                            false => "gone from the cache, or damaged",
                        };
                        return vec![found.name(), "-".into(), String::new(), why.into()];
                    };
                    let accepted = found.stage.accepted.as_ref();
                    let accepted = accepted.map(|why| format!("accepted without running: {why}"));
                    let pulled = found.stage.pulled.as_ref().map(pulled_from);
                    vec![
                        found.name(),
                        table.height().to_string(),
                        table.schema().description.clone(),
                        accepted.into_iter().chain(pulled).collect::<Vec<_>>().join("; "),
                    ]
                })
                .collect();
            ui.out(&simple_table(&["table", "rows", "what it holds", ""], rows, ui.width()))?;
            ui.status(&format!("`dynvis show {} STAGE/TABLE` shows one", args.reference));
            Ok(0)
        }
    }
}

/// Outputs that are no tables, named as `stage/output`.
fn files_of<'a>(run: &'a RunRecord, name: &str) -> Vec<StageOutput<'a>> {
    let found = find_outputs(run, name, |artifact| artifact != Artifact::TABLE);
    // A stage alone means its tables.
    let is_output = |found: &&StageOutput| {
        [found.slot, found.output()]
            .iter()
            .any(|output| name.ends_with(&format!("/{output}")))
    };
    if found.iter().all(|found| is_output(&found)) {
        found
    } else {
        Vec::new()
    }
}

fn folder(store: &Store, found: &StageOutput) -> PathBuf {
    found.content().map(|content| store.object(content)).unwrap_or_default()
}

/// What the table and its columns mean.
fn describe(ui: &mut Ui, table: &Table) -> Result<u8, CommandError> {
    let schema = table.schema();
    let rows = schema.columns.iter().map(|column| {
        let missing = if column.allow_missing { ", may be missing" } else { "" };
        let role = match column.role {
            Role::Key => "key",
            Role::Value => "value",
        };
        vec![
            column.name.clone(),
            role.to_owned(),
            format!("{}{missing}", column.dtype),
            column.unit.clone().unwrap_or_default(),
            column.description.clone(),
        ]
    });
    let rows = rows.collect();
    let title = match schema.description.as_str() {
        "" => schema.name.clone(),
        text => format!("{}: {text}", schema.name),
    };
    let header = ["column", "role", "type", "unit", "what it means"];
    ui.out(&format!(
        "{title}\n{} rows\n\n{}",
        table.height(),
        simple_table(&header, rows, ui.width())
    ))?;
    Ok(0)
}

fn print(ui: &mut Ui, table: &Table, args: &ShowArgs) -> Result<u8, CommandError> {
    for (column, dtype) in table.passed_over() {
        ui.status(&format!(
            "skipped column `{column}` ({dtype}): only numbers, text and booleans are read"
        ));
    }
    let Answer { table, joined } = args.ask.of(table, false)?;
    if let Some(joined) = joined {
        ui.status(&joined);
    }
    let table = &table;
    if args.describe {
        return describe(ui, table);
    }
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
        ShowFormat::Npy => {
            ui.out_bytes(&table.to_npy())?;
            return Ok(0);
        }
    };
    let options = RenderOptions {
        max_rows: (args.format == ShowFormat::Text).then_some(args.rows),
        width: ui.width(),
        color: ui.colour_out(),
    };
    let text = render(table, format, &options)?;
    match args.format {
        ShowFormat::Text => ui.page(&text)?,
        _ => ui.out(&text)?,
    }
    Ok(0)
}
