//! What the results of two sides of a comparison were made from, and how that differs.

use dynvis_runner::key::{Change, changes};
use dynvis_runner::store::{RunStage, Store};
use serde::Serialize;
use serde_json::Value as Json;

use super::registry;
use super::tables::simple_table;

/// Something that a stage's result was made from and that differs.
#[derive(Serialize)]
pub(super) struct Cause {
    stage: String,
    what: What,
    /// The parameter, input slot, file or variable.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// For an input: the stage that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    before: Option<Json>,
    after: Option<Json>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Kind,
    Parameter,
    CodeVersion,
    File,
    Environment,
    Outputs,
    KeyFormat,
    Input,
}

impl Cause {
    fn new(stage: &RunStage, change: Change) -> Self {
        let (part, name) = change.path.split_once('.').unwrap_or((&change.path, ""));
        let what = match part {
            "kind" => What::Kind,
            "params" => What::Parameter,
            "code_version" => What::CodeVersion,
            "inputs" | "members" => What::Input,
            "files" => What::File,
            "environment" => What::Environment,
            "outputs" => What::Outputs,
            _ => What::KeyFormat,
        };
        let producer = stage.inputs.iter().find(|i| what == What::Input && i.slot == name);
        Self {
            stage: stage.name.clone(),
            what,
            name: match (what, registry().kind(&stage.kind)) {
                (What::Parameter, Some(kind)) => kind.published_path(name),
                (What::Outputs, Some(kind)) => kind.published_output(name).to_owned(),
                _ => name.to_owned(),
            },
            from: producer.map(dynvis_runner::store::RunInput::producer),
            before: change.before,
            after: change.after,
        }
    }

    /// The changed thing as a line of a table names it.
    fn title(&self) -> String {
        let name = &self.name;
        match (self.what, &self.from) {
            (What::Parameter, _) => name.clone(),
            (What::Kind, _) => "kind".into(),
            (What::CodeVersion, _) => "code version".into(),
            (What::File, _) => format!("file `{name}`"),
            (What::Environment, _) => format!("environment variable {name}"),
            (What::Outputs, _) => format!("output `{name}`"),
            (What::KeyFormat, _) => "format of keys".into(),
            (What::Input, Some(from)) => format!("input `{name}` (from `{from}`)"),
            (What::Input, None) => format!("input `{name}`"),
        }
    }
}

/// Differences between what stages were made from: those of a stage's own before those that came from upstream, which
/// are their consequences.
pub(super) fn causes(stores: (&Store, &Store), pairs: &[(&RunStage, &RunStage)]) -> Vec<Cause> {
    let mut found = Vec::new();
    for (before, after) in pairs {
        if let (Some(key_a), Some(key_b)) = (&before.key, &after.key)
            && key_a != key_b
            && let (Some(described_a), Some(described_b)) = (stores.0.description(key_a), stores.1.description(key_b))
        {
            let changes = changes(&described_a, &described_b);
            found.extend(changes.into_iter().map(|change| Cause::new(after, change)));
        }
    }
    found.sort_by_key(|cause| cause.what);
    found
}

/// As a table for the terminal, or in Markdown.
pub(super) fn causes_text(causes: &[Cause], md: bool, width: Option<usize>) -> String {
    let show = |cause: &Cause, value: &Option<Json>| match (cause.what, value) {
        (_, None) => "unset".into(),
        // Hashes of contents: enough to tell them apart.
        (What::Input | What::File, Some(Json::String(hash))) => hash.get(..12).unwrap_or(hash).to_owned(),
        (_, Some(value)) => value.to_string(),
    };
    let rows: Vec<Vec<String>> = causes
        .iter()
        .map(|c| vec![c.stage.clone(), c.title(), show(c, &c.before), show(c, &c.after)])
        .collect();
    let header = ["stage", "what changed", "first", "second"];
    if !md {
        return simple_table(&header, rows, width);
    }
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let head = line(&header.map(str::to_owned)) + "|---|---|---|---|\n";
    rows.iter().fold(head, |text, row| text + &line(row))
}
