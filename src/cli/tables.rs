//! Tables for the terminal: small lists of our own, and the result tables of a run under the names that users know.

use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, Width};
use dynvis_runner::key::ContentHash;
use dynvis_runner::kind::Artifact;
use dynvis_runner::names::find;
use dynvis_runner::pipeline::{old_name, suggest};
use dynvis_runner::store::{RunRecord, RunStage, Store};
use dynvis_runner::table::{SlotLabel, Table, value_of_field};

use super::error::CommandError;
use super::registry;
use super::ui::Ui;
use super::wording::{first_names, wrapped};

/// Longer cells are prose.
const PROSE: usize = 40;
/// Columns that prose needs to be read with ease.
const FOR_PROSE: usize = 24;

/// What each column cannot do without: its longest word, and where it holds prose a few words.
fn least_widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let cells = |column: usize| {
        let below = rows.iter().filter_map(move |row| row.get(column));
        std::iter::once(header[column]).chain(below.map(String::as_str))
    };
    let width = |text: &str| text.chars().count();
    let least = |column: usize| {
        let words = cells(column)
            .flat_map(str::split_whitespace)
            .map(width)
            .max()
            .unwrap_or(0);
        let longest = cells(column).map(width).max().unwrap_or(0);
        match longest > PROSE {
            true => words.max(FOR_PROSE),
            false => words,
        }
    };
    (0..header.len()).map(least).collect()
}

/// Whether a table stands within the width without a word that is cut.
pub(crate) fn fits(header: &[&str], rows: &[Vec<String>], width: usize) -> bool {
    least_widths(header, rows).iter().map(|least| least + 3).sum::<usize>() <= width
}

/// A borderless table, wrapped between words to the width. Where there is no room for all columns side by side, each
/// row is a paragraph.
pub(crate) fn simple_table(header: &[&str], rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    if let Some(width) = width
        && !fits(header, &rows, width)
    {
        return paragraphs(header, &rows, width);
    }
    let least = least_widths(header, &rows);
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
        for (column, least) in grid.column_iter_mut().zip(least) {
            let least = u16::try_from(least + 2).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
    }
    let lines: Vec<String> = grid.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// Rows below one another: the first cell, and under it the others with their headings.
fn paragraphs(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let mut cells = header.iter().zip(row);
        if let Some((_, first)) = cells.next() {
            lines.push(wrapped(first, width));
        }
        let filled = cells.filter(|(_, cell)| !cell.is_empty());
        lines.extend(filled.map(|(name, cell)| match *name {
            "" => wrapped(&format!("  {cell}"), width),
            name => wrapped(&format!("  {name}: {cell}"), width),
        }));
    }
    lines.join("\n") + "\n"
}

/// A result table of a run: which stage, which output.
pub(crate) struct StageOutput<'a> {
    pub(crate) stage: &'a RunStage,
    pub(crate) slot: &'a str,
}

impl StageOutput<'_> {
    /// `noise/accuracy`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.stage.name, self.output())
    }

    /// `accuracy`: what users call the output, which need not be its slot.
    pub(crate) fn output(&self) -> &str {
        registry()
            .kind(&self.stage.kind)
            .map_or(self.slot, |kind| kind.published_output(self.slot))
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

    /// Whether the cache has never had the result: a bundle was made without it, or a remote did not have it.
    pub(crate) fn never_came(&self, store: &Store) -> bool {
        let key = self.stage.key.as_ref();
        key.is_none_or(|key| store.result(key).is_none())
    }

    /// The table, with the names of stages in place of slot numbers.
    pub(crate) fn read(&self, store: &Store) -> Result<Table, CommandError> {
        let path = self
            .path(store)
            .ok_or_else(|| CommandError::user(format!("`{}` has no table `{}`", self.stage.name, self.output())))?;
        if !path.exists() {
            let hint = format!("run the pipeline again; `{}` will be recomputed", self.stage.name);
            return Err(match self.never_came(store) {
                true => CommandError::hinted(
                    format!(
                        "`{}` is not in this cache: the run came from elsewhere without it",
                        self.name()
                    ),
                    hint,
                ),
                false => CommandError::hinted(format!("the file of `{}` is gone from the cache", self.name()), hint),
            });
        }
        Ok(Table::read(&path)?.label_slots(&self.labels()).called(self.output()))
    }

    /// The names that stand for slot numbers.
    pub(crate) fn labels(&self) -> Vec<SlotLabel> {
        self.stage
            .inputs
            .iter()
            .filter_map(|input| SlotLabel::of(&input.slot, &input.stage, &input.fields))
            .collect()
    }
}

/// All tables of a run, in order of the stages.
pub(crate) fn tables_of(run: &RunRecord) -> Vec<StageOutput<'_>> {
    run.stages
        .iter()
        .flat_map(|stage| {
            stage
                .outputs
                .iter()
                .filter(|o| o.artifact == Artifact::TABLE)
                .map(move |o| StageOutput { stage, slot: &o.slot })
        })
        .collect()
}

/// The outputs that a user calls so, all of one slot of one stage: `stage`, `stage/slot`, or of members of a matrix
/// `stage@field=value`, `stage@field=value,*`, `stage@*`. A stage alone gives the slot of its first such output.
pub(crate) fn find_outputs<'a>(
    run: &'a RunRecord,
    name: &str,
    wanted: impl Fn(Artifact) -> bool,
) -> Vec<StageOutput<'a>> {
    let Some(selected) = find(&run.stages, name) else {
        return Vec::new();
    };
    let members = selected.members.iter().map(|member| &run.stages[*member]);
    let outputs = members.flat_map(|stage| stage.outputs.iter().map(move |output| (stage, output)));
    let mut found: Vec<StageOutput> = outputs
        .filter(|(_, output)| wanted(output.artifact))
        .filter(|(stage, output)| {
            let asked = selected.output.as_deref();
            asked.is_none_or(|name| output.slot == slot_of(stage, name))
        })
        .map(|(stage, output)| StageOutput {
            stage,
            slot: &output.slot,
        })
        .collect();
    if let Some(first) = found.first().map(|found| found.slot) {
        found.retain(|found| found.slot == first);
    }
    found
}

/// The slot of the output of a stage that a user calls so.
fn slot_of<'a>(stage: &RunStage, name: &'a str) -> &'a str {
    registry()
        .kind(&stage.kind)
        .map_or(name, |kind| kind.stored_output(name))
}

/// Says that a user asked for outputs by an old name.
pub(crate) fn note_old_name(ui: &mut Ui, name: &str, found: &[StageOutput]) {
    let Some(first) = found.first().filter(|first| first.slot != first.output()) else {
        return;
    };
    if name.rsplit('/').next() == Some(first.slot) {
        let said = old_name(first.slot, first.output());
        ui.status(&format!("{} {said}", ui.paint("warning:", "33")));
    }
}

/// The tables that a user calls so: one, or the same one of several members of a matrix.
pub(crate) fn find_tables<'a>(run: &'a RunRecord, name: &str) -> Result<Vec<StageOutput<'a>>, CommandError> {
    let found = find_outputs(run, name, |artifact| artifact == Artifact::TABLE);
    if !found.is_empty() {
        return Ok(found);
    }
    let all = tables_of(run);
    let names: Vec<String> = all.iter().map(StageOutput::name).collect();
    if let Some(found) = all.into_iter().find(|table| table.slot == slot_of(table.stage, name)) {
        return Ok(find_outputs(run, &format!("{}/{name}", found.stage.family), |a| {
            a == Artifact::TABLE
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
pub(crate) fn name_of(found: &[StageOutput]) -> String {
    match found {
        [] => String::new(),
        [one] => one.name(),
        [first, ..] => format!("{}@*/{}", first.stage.family, first.output()),
    }
}

/// One table, or those of several members as one, their matrix fields as columns in front.
pub(crate) fn read_tables(found: &[StageOutput], store: &Store) -> Result<Table, CommandError> {
    if let [one] = found {
        return one.read(store);
    }
    let member = |found: &StageOutput| {
        let fields = found
            .stage
            .fields
            .iter()
            .map(|(k, v)| (k.clone(), value_of_field(v)))
            .collect();
        Ok((fields, found.read(store)?))
    };
    let members = found.iter().map(member).collect::<Result<Vec<_>, CommandError>>()?;
    let stage = found.first().map_or("", |f| f.stage.family.as_str());
    Ok(Table::stack(stage, &members)?)
}

/// A reference that stands for several members where one is needed.
pub(crate) fn several(name: &str, what: &str, found: &[StageOutput]) -> CommandError {
    let names: Vec<&str> = found.iter().map(|f| f.stage.name.as_str()).collect();
    CommandError::hinted(
        format!("`{name}` stands for {} {what}", names.len()),
        format!("name one: {}", names.join(", ")),
    )
}

/// The table that stands for a whole run, of all members where it is one of a matrix: the pipeline's `headline`, else
/// the first table of its last stage.
pub(crate) fn headline(run: &RunRecord) -> Option<Vec<StageOutput<'_>>> {
    match &run.headline {
        Some(name) => find_tables(run, name).ok(),
        None => {
            let last = tables_of(run).last()?.stage.family.clone();
            find_tables(run, &last).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every word of a text, that is, what may not be cut.
    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn tables_of_40_80_and_200_columns_cut_no_word() {
        let header = ["run", "started (UTC)", "pipeline", "status", "what it is"];
        let row = |id: &str, status: &str, prose: &str| {
            [id, "2026-11-29 09:04:15", "predictivity_of_macaques", status, prose]
                .map(str::to_owned)
                .to_vec()
        };
        let rows = vec![
            row(
                "kklmnopq",
                "interrupted",
                "a network whose activity diverged at the fourth level of multiplicative noise",
            ),
            row("zzyxwvut", "done", ""),
        ];
        for width in [40, 80, 200] {
            let text = simple_table(&header, rows.clone(), Some(width));
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "{width}:\n{text}"
            );
            let shown = words(&text);
            for word in rows.iter().flatten().flat_map(|cell| words(cell)) {
                assert!(shown.contains(&word), "{width}: `{word}` is cut:\n{text}");
            }
        }
        let narrow = simple_table(&header, rows, Some(40));
        assert!(
            narrow.starts_with("kklmnopq\n  started (UTC): 2026-11-29 09:04:15\n"),
            "{narrow}"
        );
    }
}
