//! Tables for the terminal: small lists of our own, and the result tables of a run under the names that users know.

use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, Width};
use serde_json::Value as Json;

use super::error::CommandError;
use super::wording::first_names;
use crate::key::ContentHash;
use crate::pipeline::{find, suggest};
use crate::stage::Artifact;
use crate::store::{RunRecord, RunStage, Store};
use crate::table::{SlotLabel, Table, Value};

/// A borderless table, wrapped to the width.
pub(crate) fn simple_table(header: &[&str], rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    let mut words = vec![0; header.len()];
    for cells in std::iter::once(header.to_vec()).chain(rows.iter().map(|row| row.iter().map(String::as_str).collect()))
    {
        for (longest, cell) in words.iter_mut().zip(cells) {
            let widths = cell.split_whitespace().map(|word| word.chars().count());
            *longest = widths.chain([*longest]).max().unwrap_or(0);
        }
    }
    let mut grid = Grid::new();
    grid.load_preset(comfy_table::presets::NOTHING);
    grid.set_header(header.to_vec());
    for row in rows {
        grid.add_row(row);
    }
    for column in grid.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(width) = width {
        grid.set_content_arrangement(ContentArrangement::Dynamic);
        grid.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        // A column is as wide as its longest word where there is room, so that words stay whole.
        for (column, least) in grid.column_iter_mut().zip(word_widths(&words, width)) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
    }
    let lines: Vec<String> = grid.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// Widths that columns keep, with the blanks behind them: those of their longest words, the longest ones cut until a
/// line holds them all.
fn word_widths(words: &[usize], width: usize) -> Vec<u16> {
    let room = width.saturating_sub(3 * words.len());
    let mut widths = words.to_vec();
    while widths.iter().sum::<usize>() > room {
        let Some(longest) = widths.iter_mut().max().filter(|longest| **longest > 4) else {
            break;
        };
        *longest -= 1;
    }
    widths
        .iter()
        .map(|width| u16::try_from(width + 2).unwrap_or(u16::MAX))
        .collect()
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

/// The outputs that a user calls so, all of one slot of one stage: `stage`, `stage/slot`, or of members of a matrix
/// `stage@field=value`, `stage@field=value,*`, `stage@*`. A stage alone gives the slot of its first such output.
pub(crate) fn find_outputs<'a>(run: &'a RunRecord, name: &str, wanted: impl Fn(Artifact) -> bool) -> Vec<Found<'a>> {
    let Some(selected) = find(&run.stages, name) else {
        return Vec::new();
    };
    let members = selected.members.iter().map(|member| &run.stages[*member]);
    let outputs = members.flat_map(|stage| stage.outputs.iter().map(move |output| (stage, output)));
    let mut found: Vec<Found> = outputs
        .filter(|(_, output)| wanted(output.artifact))
        .filter(|(_, output)| selected.output.as_deref().is_none_or(|slot| slot == output.slot))
        .map(|(stage, output)| Found {
            stage,
            slot: &output.slot,
        })
        .collect();
    if let Some(first) = found.first().map(|found| found.slot) {
        found.retain(|found| found.slot == first);
    }
    found
}

/// The tables that a user calls so: one, or the same one of several members of a matrix.
pub(crate) fn find_tables<'a>(run: &'a RunRecord, name: &str) -> Result<Vec<Found<'a>>, CommandError> {
    let found = find_outputs(run, name, |artifact| artifact == Artifact::Table);
    if !found.is_empty() {
        return Ok(found);
    }
    let all = tables_of(run);
    let names: Vec<String> = all.iter().map(Found::name).collect();
    if let Some(found) = all.into_iter().find(|t| t.slot == name) {
        return Ok(find_outputs(run, &format!("{}/{name}", found.stage.family), |a| {
            a == Artifact::Table
        }));
    }
    Err(CommandError::hinted(
        format!("run {} has no table `{name}`", run.id),
        match suggest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "it has no tables at all".into(),
            None => format!("its tables: {}", first_names(names.iter().map(String::as_str))),
        },
    ))
}

/// What they are called together: `cordsnet@*/training` for several members.
pub(crate) fn name_of(found: &[Found]) -> String {
    match found {
        [] => String::new(),
        [one] => one.name(),
        [first, ..] => format!("{}@*/{}", first.stage.family, first.slot),
    }
}

/// One table, or those of several members as one, their matrix fields as columns in front.
pub(crate) fn read_tables(found: &[Found], store: &Store) -> Result<Table, CommandError> {
    if let [one] = found {
        return one.read(store);
    }
    let member = |found: &Found| {
        let fields = found.stage.fields.iter().map(|(k, v)| (k.clone(), value(v))).collect();
        Ok((fields, found.read(store)?))
    };
    let members = found.iter().map(member).collect::<Result<Vec<_>, CommandError>>()?;
    let stage = found.first().map_or("", |f| f.stage.family.as_str());
    Ok(Table::stack(stage, &members)?)
}

/// A reference that stands for several members where one is needed.
pub(crate) fn several(name: &str, what: &str, found: &[Found]) -> CommandError {
    let names: Vec<&str> = found.iter().map(|f| f.stage.name.as_str()).collect();
    CommandError::hinted(
        format!("`{name}` stands for {} {what}", names.len()),
        format!("name one: {}", names.join(", ")),
    )
}

/// The table that stands for a whole run, of all members where it is one of a matrix: the pipeline's `headline`, else
/// the first table of its last stage.
pub(crate) fn headline(run: &RunRecord) -> Option<Vec<Found<'_>>> {
    match &run.headline {
        Some(name) => find_tables(run, name).ok(),
        None => {
            let last = tables_of(run).last()?.stage.family.clone();
            find_tables(run, &last).ok()
        }
    }
}
