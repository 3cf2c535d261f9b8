//! What the records of runs say, as parts of a page: stages, what ran and why, parameters, provenance, differences.

use std::collections::BTreeSet;

use dynvis_runner::key::changes;
use dynvis_runner::kind::Artifact;
use dynvis_runner::run::log_path;
use dynvis_runner::store::{RunStage, StageOutcome};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value, diff};
use indexmap::IndexMap;
use serde_json::Value as Json;

use super::graph::{self, Node};
use super::html::escape;
use super::{Family, Runs, is_equal};
use crate::cli::harmless::whole_line;
use crate::cli::tables::{name_of, read_tables};
use crate::cli::wording::{duration, pulled_from};
use crate::cli::{log, registry};

/// Lines of a failed stage's log, its last ones.
const LOG_LINES: usize = 40;
/// Different values of a parameter that are listed.
const VALUES: usize = 12;
/// Letters of a value.
const LETTERS: usize = 300;

/// What became of a stage, as a word of the page's style and for people.
fn outcome(outcome: StageOutcome) -> (&'static str, &'static str) {
    match outcome {
        StageOutcome::Failed => ("failed", "failed"),
        StageOutcome::Interrupted => ("interrupted", "interrupted"),
        StageOutcome::Blocked => ("blocked", "not reached"),
        StageOutcome::Ran => ("ran", "ran"),
        StageOutcome::Restored => ("cached", "restored"),
        StageOutcome::Cached => ("cached", "cached"),
        StageOutcome::Excluded => ("excluded", "not selected"),
    }
}

/// How long the stage's result took, in this run or when it was computed.
fn seconds(runs: &Runs<'_>, stage: &RunStage) -> Option<f64> {
    let earlier = || Some(runs.store.result(stage.key.as_ref()?)?.seconds);
    stage.seconds.or_else(earlier)
}

/// The state that a box of the graph shows, the gravest of its members', and the counts of all.
fn state(members: &[&RunStage]) -> (&'static str, String) {
    const GRAVE_FIRST: [StageOutcome; 7] = [
        StageOutcome::Failed,
        StageOutcome::Interrupted,
        StageOutcome::Blocked,
        StageOutcome::Ran,
        StageOutcome::Restored,
        StageOutcome::Cached,
        StageOutcome::Excluded,
    ];
    let count = |wanted: StageOutcome| members.iter().filter(|stage| stage.outcome == wanted).count();
    let there: Vec<StageOutcome> = GRAVE_FIRST.into_iter().filter(|wanted| count(*wanted) > 0).collect();
    let texts: Vec<String> = there
        .iter()
        .map(|wanted| match members.len() {
            1 => outcome(*wanted).1.to_owned(),
            _ => format!("{} {}", count(*wanted), outcome(*wanted).1),
        })
        .collect();
    let state = there.first().map_or("excluded", |gravest| outcome(*gravest).0);
    (state, texts.join(", "))
}

/// The graph of the last run; of two with what the first one did below.
pub(super) fn graph(runs: &Runs<'_>) -> String {
    let node = |family: &Family<'_>| {
        let last = family
            .members
            .last()
            .filter(|members| !members.is_empty())
            .or(family.members.first());
        let members = last.map_or(&[][..], Vec::as_slice);
        let (state, outcome) = state(members);
        let inputs: BTreeSet<&str> = family
            .all()
            .flat_map(|stage| &stage.inputs)
            .map(|input| input.stage.as_str())
            .collect();
        let took: f64 = members.iter().filter_map(|stage| seconds(runs, stage)).sum();
        Node {
            name: family.name.to_owned(),
            kind: family.kind.to_owned(),
            members: members.len(),
            outcome,
            state,
            took: if took > 0.0 { duration(took) } else { String::new() },
            inputs: inputs.into_iter().map(str::to_owned).collect(),
        }
    };
    let nodes: Vec<Node> = runs.families.iter().map(node).collect();
    graph::svg(&nodes)
}

/// Facts of each run, side by side.
pub(super) fn facts(runs: &Runs<'_>) -> String {
    let mut out = String::new();
    for side in runs.sides {
        let heading = match runs.are_two() {
            true => format!("<h3>Run {}</h3>", escape(side.run.id.as_str())),
            false => String::new(),
        };
        let mut rows = vec![
            vec!["run".to_owned(), side.run.id.to_string()],
            vec!["stages".to_owned(), crate::cli::wording::outcomes(&side.run)],
        ];
        rows.extend(log::about(&side.run, runs.store.is_alive(&side.folder)));
        let seeds: BTreeSet<i64> = side.run.stages.iter().filter_map(|stage| stage.seed).collect();
        if !seeds.is_empty() {
            let seeds: Vec<String> = seeds.iter().map(i64::to_string).collect();
            rows.push(vec!["seeds".to_owned(), seeds.join(", ")]);
        }
        let rows: String = rows
            .iter()
            .map(|row| match row.as_slice() {
                [name, value] => format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)),
                _ => String::new(),
            })
            .collect();
        out += &format!("<div>{heading}<dl class=\"facts\">{rows}</dl></div>\n");
    }
    format!("<div class=\"both\">{out}</div>\n")
}

fn written(schema: TableSchema, rows: impl IntoIterator<Item = Vec<Value>>) -> Result<Table, TableError> {
    let mut writer = TableWriter::new(schema)?;
    for row in rows {
        writer.push_row(row)?;
    }
    writer.finish()
}

/// The column `run` says nothing of one run.
fn without_run(runs: &Runs<'_>, table: Table) -> Result<Table, TableError> {
    if runs.are_two() {
        return Ok(table);
    }
    let names = table.schema().columns.iter().map(|column| column.name.clone());
    let names: Vec<String> = names.filter(|name| name != "run").collect();
    table.with_columns(&names, false)
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

/// All stages with their outcomes, times and reasons.
pub(super) fn stages(runs: &Runs<'_>) -> Result<Table, TableError> {
    let schema = TableSchema::new("stages", "What became of every stage, and why")
        .key("run", DType::Text, "Run")
        .key("stage", DType::Text, "Stage, with its matrix fields")
        .value("kind", DType::Text, "Stage kind")
        .value("outcome", DType::Text, "What became of it in the run")
        .value("reason", DType::Text, "Why it ran or did not")
        .value(
            "took",
            DType::Float,
            "How long it took, in this run or when its result was computed",
        )
        .unit("s")
        .allow_missing()
        .value("cpu", DType::Float, "Processor time in this run")
        .unit("s")
        .allow_missing()
        .value("memory", DType::Float, "Memory of its largest process in this run")
        .unit("MB")
        .allow_missing()
        .value("device", DType::Text, "Where it computed in this run")
        .allow_missing()
        .value("seed", DType::Text, "Parameter `seed`")
        .allow_missing()
        .value("key", DType::Text, "Identity of the result")
        .allow_missing();
    let rows = runs.sides.iter().flat_map(|side| {
        side.run.stages.iter().map(move |stage| {
            let execution = stage.execution.as_ref();
            let reason = match (&stage.accepted, &stage.pulled) {
                (Some(why), _) => format!("accepted without running: {why}"),
                (None, Some(pulled)) => pulled_from(pulled),
                (None, None) => stage.reason.clone(),
            };
            vec![
                text(side.run.id.as_str()),
                text(&stage.name),
                text(&stage.kind),
                text(outcome(stage.outcome).1),
                text(reason),
                Value::finite(seconds(runs, stage)),
                Value::finite(execution.map(|execution| execution.cpu_seconds)),
                Value::finite(execution.map(|execution| execution.peak_bytes as f64 / 1e6)),
                execution.map_or(Value::Null, |execution| text(&execution.device)),
                stage.seed.map_or(Value::Null, |seed| text(seed.to_string())),
                stage.key.as_ref().map_or(Value::Null, |key| text(key.as_str())),
            ]
        })
    });
    without_run(runs, written(schema, rows)?)
}

/// Hashes of all that stages read from outside and of all that they wrote.
pub(super) fn hashes(runs: &Runs<'_>) -> Result<Table, TableError> {
    let schema = TableSchema::new("hashes", "blake3 of the files that stages read and of what they wrote")
        .key("run", DType::Text, "Run")
        .key("stage", DType::Text, "Stage, with its matrix fields")
        .key(
            "what",
            DType::Text,
            "file: read from outside the pipeline; output: written",
        )
        .key("name", DType::Text, "The file as the key knows it, or the output")
        .value("hash", DType::Text, "blake3 of the content");
    let mut rows = Vec::new();
    for side in runs.sides {
        for stage in &side.run.stages {
            let mut add = |what: &str, name: &str, hash: &str| {
                rows.push(
                    [side.run.id.as_str(), stage.name.as_str(), what, name, hash]
                        .map(text)
                        .to_vec(),
                );
            };
            for (name, hash) in &stage.files {
                add("file", name, hash.as_str());
            }
            for output in &stage.outputs {
                add("output", &output.slot, output.content.as_str());
            }
        }
    }
    without_run(runs, written(schema, rows)?)
}

/// A value of a parameter as people read it.
fn shown(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        value => value.to_string(),
    };
    match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text,
    }
}

/// Parameters and inputs of a family, a column for each run. What differs between members is listed.
pub(super) fn parameters(runs: &Runs<'_>, family: &Family<'_>) -> String {
    // Parameter -> values of each run, each once.
    let mut all: IndexMap<String, Vec<Vec<String>>> = IndexMap::new();
    let count = runs.sides.len();
    let kind = registry().kind(family.kind);
    let mut add = |name: String, side: usize, value: String| {
        let values = &mut all.entry(name).or_insert_with(|| vec![Vec::new(); count])[side];
        if !values.contains(&value) {
            values.push(value);
        }
    };
    for (side, members) in family.members.iter().enumerate() {
        for stage in members {
            let description = stage.key.as_ref().and_then(|key| runs.store.description(key));
            let description = description.unwrap_or_default();
            for (name, value) in description["params"].as_object().into_iter().flatten() {
                let name = kind.map_or_else(|| name.clone(), |kind| kind.published_path(name));
                add(name, side, shown(value));
            }
            for input in &stage.inputs {
                let list = input.slot.split('.').next().unwrap_or_default();
                add(format!("input {list}"), side, input.producer());
            }
            if let Some(version) = description["code_version"].as_i64() {
                add("code version".to_owned(), side, version.to_string());
            }
        }
    }
    if all.is_empty() {
        return String::new();
    }
    let said = |values: &Vec<String>| match values.len() {
        0 => "\u{2013}".to_owned(),
        more if more > VALUES => format!("{}, \u{2026} ({more} values)", values[..VALUES].join(", ")),
        _ => values.join(", "),
    };
    let mut rows = String::new();
    for (name, sides) in &all {
        let cells: String = sides
            .iter()
            .map(|values| format!("<td>{}</td>", escape(&said(values))))
            .collect();
        rows += &format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(name));
    }
    let head = match runs.are_two() {
        true => {
            let ids = runs
                .sides
                .iter()
                .map(|side| format!("<th scope=\"col\">{}</th>", escape(side.run.id.as_str())));
            format!("<tr><td></td>{}</tr>\n", ids.collect::<String>())
        }
        false => String::new(),
    };
    format!(
        "<details><summary>Parameters and inputs</summary>\n<p class=\"soft\">What is not listed is at its default: \
         <code>dynvis stages {}</code> lists all.</p><table class=\"plain\">\n{head}{rows}</table></details>\n",
        escape(family.kind)
    )
}

/// The states of a family's members, and the last lines of the logs of those that failed.
pub(super) fn states(runs: &Runs<'_>, family: &Family<'_>) -> String {
    let mut out = String::new();
    for (side, members) in family.members.iter().enumerate() {
        if members.is_empty() {
            continue;
        }
        let (class, text) = state(members);
        let took: f64 = members.iter().filter_map(|stage| seconds(runs, stage)).sum();
        let reasons: BTreeSet<&str> = members
            .iter()
            .map(|stage| stage.reason.as_str())
            .filter(|why| !why.is_empty())
            .collect();
        let why = match reasons.len() {
            0 => String::new(),
            1..=3 => format!(": {}", reasons.into_iter().collect::<Vec<_>>().join("; ")),
            more => format!(": {more} reasons, see the table of stages"),
        };
        let run = match runs.are_two() {
            true => format!("{}: ", runs.sides[side].run.id),
            false => String::new(),
        };
        out += &format!(
            "<p>{}<span class=\"{class}\">{}</span>{}{}</p>\n",
            escape(&run),
            escape(&text),
            if took > 0.0 {
                format!(", {}", duration(took))
            } else {
                String::new()
            },
            escape(&why)
        );
        let failed = members
            .iter()
            .filter(|stage| matches!(stage.outcome, StageOutcome::Failed | StageOutcome::Interrupted));
        for stage in failed {
            let Ok(bytes) = dynvis_base::files::read(&log_path(&runs.sides[side].folder, &stage.name)) else {
                continue;
            };
            let log = String::from_utf8_lossy(&bytes);
            let lines: Vec<String> = log.lines().map(whole_line).collect();
            let start = lines.len().saturating_sub(LOG_LINES);
            out += &format!(
                "<p>Log of {}{}:</p><pre class=\"log\">{}</pre>\n",
                escape(&stage.name),
                if start > 0 {
                    format!(", the last {LOG_LINES} of {} lines", lines.len())
                } else {
                    String::new()
                },
                escape(&lines[start..].join("\n"))
            );
        }
    }
    out
}

/// What stages of two runs were made from and that differs.
pub(super) fn causes(runs: &Runs<'_>) -> Result<Table, TableError> {
    let schema = TableSchema::new(
        "changes",
        "What the stages of both runs were made from and that differs",
    )
    .key("stage", DType::Text, "Stage, with its matrix fields")
    .key("what", DType::Text, "Parameter, input, file or code version")
    .value("first", DType::Text, "In the first run")
    .allow_missing()
    .value("second", DType::Text, "In the second run")
    .allow_missing();
    let [first, second] = runs.sides else {
        return written(schema, []);
    };
    let mut rows = Vec::new();
    for before in &first.run.stages {
        let Some(after) = second.run.stages.iter().find(|stage| stage.name == before.name) else {
            continue;
        };
        let (Some(a), Some(b)) = (&before.key, &after.key) else {
            continue;
        };
        if a == b {
            continue;
        }
        let (Some(a), Some(b)) = (runs.store.description(a), runs.store.description(b)) else {
            continue;
        };
        for change in changes(&a, &b) {
            let what = match (change.path.split_once('.'), registry().kind(&after.kind)) {
                (Some(("params", name)), Some(kind)) => kind.published_path(name),
                (Some((part, name)), _) => format!("{} {name}", part.trim_end_matches('s')),
                (None, _) => change.path.replace('_', " "),
            };
            let value = |value: &Option<Json>| value.as_ref().map_or(Value::Null, |value| text(shown(value)));
            rows.push(vec![
                text(&after.name),
                text(what),
                value(&change.before),
                value(&change.after),
            ]);
        }
    }
    written(schema, rows)
}

/// A line for each table of both runs that differs.
pub(super) fn differences(runs: &Runs<'_>) -> Result<Table, TableError> {
    let schema = TableSchema::new(
        "differences",
        "Tables that differ: rows by their keys, and the largest change",
    )
    .key("table", DType::Text, "Stage and table")
    .value(
        "changed",
        DType::Int,
        "Rows in both whose values differ beyond their tolerance",
    )
    .allow_missing()
    .value("added", DType::Int, "Rows of the second run alone")
    .allow_missing()
    .value("removed", DType::Int, "Rows of the first run alone")
    .allow_missing()
    .value("equal", DType::Int, "Rows that are the same")
    .allow_missing()
    .value(
        "largest change",
        DType::Text,
        "The value that changed most, with its row",
    )
    .allow_missing();
    let mut rows = Vec::new();
    for family in &runs.families {
        for slot in family.slots(|artifact| artifact == Artifact::TABLE) {
            let outputs = family.outputs(slot);
            let [a, b] = outputs.as_slice() else { continue };
            if a.is_empty() || b.is_empty() || is_equal(a, b) {
                continue;
            }
            let (Ok(before), Ok(after)) = (read_tables(a, runs.store), read_tables(b, runs.store)) else {
                continue;
            };
            let name = text(name_of(b));
            match diff(&before, &after) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    let counts = [
                        found.changed.len(),
                        found.added.height(),
                        found.removed.height(),
                        found.equal,
                    ];
                    let mut row = vec![name];
                    row.extend(counts.map(Value::from));
                    row.push(found.largest_change().map_or(Value::Null, text));
                    rows.push(row);
                }
                Err(error) => rows.push(vec![
                    name,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    text(error.to_string()),
                ]),
            }
        }
    }
    written(schema, rows)
}
