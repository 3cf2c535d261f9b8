//! Tables for the terminal: small lists of our own, and the result tables of a run under the names that users know.

use comfy_table::{ContentArrangement, Table as Grid};
use serde_json::Value as Json;

use super::error::CommandError;
use crate::key::ContentHash;
use crate::pipeline::{find, suggest};
use crate::stage::Artifact;
use crate::store::{RunRecord, RunStage, Store};
use crate::table::{SlotLabel, Table, Value};

/// A borderless table, wrapped to the width.
pub(crate) fn simple_table(header: &[&str], rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    let mut grid = Grid::new();
    grid.load_preset(comfy_table::presets::NOTHING);
    grid.set_header(header.to_vec());
    for row in rows {
        grid.add_row(row);
    }
    if let Some(width) = width {
        grid.set_content_arrangement(ContentArrangement::Dynamic);
        grid.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    for column in grid.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = grid.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// A result table of a run: which stage, which output.
pub(crate) struct Found<'a> {
    pub(crate) stage: &'a RunStage,
    pub(crate) slot: &'a str,
}

impl Found<'_> {
    /// `noise/accuracy`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.stage.name, self.slot)
    }

    /// What it holds.
    pub(crate) fn content(&self) -> Option<&ContentHash> {
        let output = self.stage.outputs.iter().find(|o| o.slot == self.slot)?;
        Some(&output.content)
    }

    /// The stored file.
    pub(crate) fn path(&self, store: &Store) -> Option<std::path::PathBuf> {
        Some(store.object(self.content()?).join(format!("{}.parquet", self.slot)))
    }

    /// The table, with the names of stages in place of slot numbers.
    pub(crate) fn read(&self, store: &Store) -> Result<Table, CommandError> {
        let path = self
            .path(store)
            .ok_or_else(|| CommandError::user(format!("`{}` has no table `{}`", self.stage.name, self.slot)))?;
        if !path.exists() {
            return Err(CommandError::hinted(
                format!("the file of `{}` is gone from the cache", self.name()),
                format!("run the pipeline again; `{}` will be recomputed", self.stage.name),
            ));
        }
        Ok(Table::read(&path)?.label_slots(&self.labels()))
    }

    /// The names that stand for slot numbers.
    pub(crate) fn labels(&self) -> Vec<SlotLabel> {
        self.stage
            .inputs
            .iter()
            .filter_map(|input| {
                let (slot, index) = input.slot.split_once('.')?;
                Some(SlotLabel {
                    slot: slot.to_owned(),
                    index: index.parse().ok()?,
                    stage: input.stage.clone(),
                    fields: input.fields.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
                })
            })
            .collect()
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Value::Int(i),
            (None, Some(f)) => Value::Float(f),
            _ => Value::Text(n.to_string()),
        },
        Json::String(s) => Value::Text(s.clone()),
        Json::Null => Value::Null,
        other => Value::Text(other.to_string()),
    }
}

/// All tables of a run, in order of the stages.
pub(crate) fn tables_of(run: &RunRecord) -> Vec<Found<'_>> {
    run.stages
        .iter()
        .flat_map(|stage| {
            stage
                .outputs
                .iter()
                .filter(|o| o.artifact == Artifact::Table)
                .map(move |o| Found { stage, slot: &o.slot })
        })
        .collect()
}

/// The table named `stage` or `stage/table`; a stage alone gives its first table.
pub(crate) fn find_table<'a>(run: &'a RunRecord, name: &str) -> Result<Found<'a>, CommandError> {
    let mut all = tables_of(run);
    let names: Vec<String> = all.iter().map(Found::name).collect();
    let selected = find(&run.stages, name);
    let is_meant = |table: &Found| {
        selected.as_ref().is_some_and(|selected| {
            let mut members = selected.members.iter().map(|member| &run.stages[*member]);
            members.any(|stage| stage.name == table.stage.name)
                && selected.output.as_deref().is_none_or(|slot| slot == table.slot)
        })
    };
    let position = all
        .iter()
        .position(is_meant)
        .or_else(|| all.iter().position(|table| table.slot == name));
    match position {
        Some(index) => Ok(all.swap_remove(index)),
        None => Err(CommandError::hinted(
            format!("run {} has no table `{name}`", run.id),
            match suggest(name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "it has no tables at all".into(),
                None => format!("its tables: {}", names.join(", ")),
            },
        )),
    }
}

/// The table that stands for a whole run: the pipeline's `headline`, else the first table of its last stage.
pub(crate) fn headline(run: &RunRecord) -> Option<Found<'_>> {
    match &run.headline {
        Some(name) => find_table(run, name).ok(),
        None => {
            let mut all = tables_of(run);
            let last = all.last()?.stage.name.clone();
            let first = all.iter().position(|t| t.stage.name == last)?;
            Some(all.swap_remove(first))
        }
    }
}
