//! `dynvis diff`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::error::CommandError;
use super::tables::{find_table, simple_table, tables_of};
use super::ui::Ui;
use super::{exit, open_store, project_here};
use crate::key::{Change, changes};
use crate::store::{RunRecord, Store};
use crate::table::{DiffFormat, RenderOptions, Table, diff as diff_tables, render_diff};

/// Compare two runs, or two table files: changed parameters, changed, added and removed rows
#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// `@-1`, `@`, a run's id or its first letters, or a table file
    a: String,
    /// The same, for the other side
    b: String,
    /// Compare this table only: `stage` or `stage/table`
    table: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Md,
}

pub(crate) fn diff(ui: &mut Ui, cache: Option<&Path>, args: &DiffArgs) -> Result<u8, CommandError> {
    let options = RenderOptions {
        max_rows: Some(100),
        width: ui.width(),
        color: ui.colour_out(),
    };
    let format = match args.format {
        Format::Text => DiffFormat::Text,
        Format::Json => DiffFormat::Json,
        Format::Md => DiffFormat::Md,
    };
    let (file_a, file_b) = (Path::new(&args.a), Path::new(&args.b));
    if file_a.is_file() && file_b.is_file() {
        let found = diff_tables(&Table::read(file_a)?, &Table::read(file_b)?)?;
        ui.out(&render_diff(&found, format, &options)?)?;
        return Ok(if found.is_empty() { 0 } else { exit::DIFFERENT });
    }
    let store = open_store(cache, &project_here())?;
    let (_, a) = store.find_run(&args.a)?;
    let (_, b) = store.find_run(&args.b)?;
    let parameters = parameter_changes(&store, &a, &b);
    let names = table_names(&a, &b, args.table.as_deref())?;
    let mut different = !parameters.is_empty();
    let mut tables = Vec::new();
    let mut text = String::new();
    if args.format != Format::Json && !parameters.is_empty() {
        text += &parameters_text(&parameters, ui.width());
    }
    let mut equal = 0;
    for name in &names.both {
        let (in_a, in_b) = (find_table(&a, name)?, find_table(&b, name)?);
        // The same content under the same names cannot differ; nothing needs to be read.
        if in_a.path(&store) == in_b.path(&store) && in_a.stage.inputs == in_b.stage.inputs {
            equal += 1;
            continue;
        }
        let found = diff_tables(&in_a.read(&store)?, &in_b.read(&store)?)?;
        if found.is_empty() {
            equal += 1;
            continue;
        }
        different = true;
        let rendered = render_diff(&found, format, &options)?;
        if args.format == Format::Json {
            let value: Json = serde_json::from_str(&rendered).unwrap_or(Json::Null);
            tables.push(json!({ "table": name, "diff": value }));
        } else {
            let mark = if args.format == Format::Md { "## " } else { "" };
            text += &format!("\n{mark}{name}\n{rendered}");
        }
    }
    different |= !names.only_a.is_empty() || !names.only_b.is_empty();
    if args.format == Format::Json {
        let document = json!({
            "version": 1, "a": a.id, "b": b.id, "parameters": parameters
                .iter()
                .map(|(stage, c)| json!({ "stage": stage, "path": c.path, "before": c.before, "after": c.after }))
                .collect::<Vec<_>>(),
            "tables": tables, "equal_tables": equal,
            "only_in_a": names.only_a, "only_in_b": names.only_b, "not_part_of_both": names.unselected,
        });
        ui.out(&format!("{document:#}\n"))?;
    } else {
        ui.out(text.trim_start_matches('\n'))?;
        for (side, only) in [("first", &names.only_a), ("second", &names.only_b)] {
            if !only.is_empty() {
                ui.out(&format!("only in the {side} run: {}\n", only.join(", ")))?;
            }
        }
        if !names.unselected.is_empty() {
            let list = names.unselected.join(", ");
            ui.status(&format!("not compared, since not part of both runs: {list}"));
        }
        ui.status(&format!("{equal} of {} tables equal", names.both.len()));
    }
    Ok(if different { exit::DIFFERENT } else { 0 })
}

struct Names {
    both: Vec<String>,
    only_a: Vec<String>,
    only_b: Vec<String>,
    /// Tables of stages that one of the runs was not asked to bring up to date.
    unselected: Vec<String>,
}

fn table_names(a: &RunRecord, b: &RunRecord, wanted: Option<&str>) -> Result<Names, CommandError> {
    if let Some(name) = wanted {
        find_table(a, name)?;
        find_table(b, name)?;
        return Ok(Names {
            both: vec![name.to_owned()],
            only_a: Vec::new(),
            only_b: Vec::new(),
            unselected: Vec::new(),
        });
    }
    let list = |run: &RunRecord| -> Vec<String> { tables_of(run).iter().map(super::tables::Found::name).collect() };
    let (in_a, in_b) = (list(a), list(b));
    let known = |run: &RunRecord| -> BTreeSet<String> { run.stages.iter().map(|s| s.name.clone()).collect() };
    let (stages_a, stages_b) = (known(a), known(b));
    let stage = |table: &str| table.split('/').next().unwrap_or_default().to_owned();
    let mut names = Names {
        both: Vec::new(),
        only_a: Vec::new(),
        only_b: Vec::new(),
        unselected: Vec::new(),
    };
    for name in &in_a {
        if in_b.contains(name) {
            names.both.push(name.clone());
        } else if stages_b.contains(&stage(name)) {
            names.unselected.push(name.clone());
        } else {
            names.only_a.push(name.clone());
        }
    }
    for name in in_b {
        if in_a.contains(&name) {
            continue;
        }
        if stages_a.contains(&stage(&name)) {
            names.unselected.push(name);
        } else {
            names.only_b.push(name);
        }
    }
    Ok(names)
}

/// Differences between what the stages of both runs were made from, inputs from upstream left out:
/// those are consequences.
fn parameter_changes(store: &Store, a: &RunRecord, b: &RunRecord) -> Vec<(String, Change)> {
    let mut found = Vec::new();
    for stage in &a.stages {
        let Some(other) = b.stages.iter().find(|s| s.name == stage.name) else {
            continue;
        };
        if let (Some(before), Some(after)) = (&stage.key, &other.key)
            && before != after
            && let (Some(before), Some(after)) = (store.description(before), store.description(after))
        {
            found.extend(
                changes(&before, &after)
                    .into_iter()
                    .filter(|c| !c.path.starts_with("inputs."))
                    .map(|c| (stage.name.clone(), c)),
            );
        }
    }
    found
}

fn parameters_text(parameters: &[(String, Change)], width: Option<usize>) -> String {
    let show = |v: &Option<Json>| v.as_ref().map_or_else(|| "unset".into(), Json::to_string);
    let rows = parameters
        .iter()
        .map(|(stage, c)| {
            let path = c.path.strip_prefix("params.").unwrap_or(&c.path);
            vec![format!("{stage}.{path}"), show(&c.before), show(&c.after)]
        })
        .collect();
    simple_table(&["changed parameter", "first", "second"], rows, width)
}
