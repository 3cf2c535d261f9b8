//! Results of a stage in a page: its figures and its tables, within the room that there is.

use dynvis_runner::key::ContentHash;
use dynvis_runner::kind::Artifact;
use dynvis_runner::store::Store;

use super::data_table::{DataTable, FIRST, bytes, shares};
use super::draw::{figure, left_out};
use super::networks::networks;
use super::{Family, Runs, StageOutput, is_equal, stacked};
use crate::cli::error::CommandError;
use crate::cli::tables::{headline, name_of};
use crate::cli::wording::size;
use crate::figure::kinds::figures_of;
use crate::figure::{Content, Figure, Palette, Stored};
use crate::stage::DESCRIPTION;

/// What is known of a table after it was read once.
struct Item<'a> {
    family: usize,
    slot: &'a str,
    /// `noise/summary`.
    name: String,
    /// The command that prints all of it.
    command: String,
    is_headline: bool,
    figures: String,
    /// Bytes of its data; none where it cannot be read, of which `html` tells.
    asked: Option<usize>,
    /// Drawn already, where it was clear that there is room.
    html: Option<String>,
    /// Said of two runs that have the same.
    note: &'static str,
}

/// Tables and figures of all families.
pub(super) struct Results {
    /// For each family: figures, then tables.
    pub(super) figures: Vec<String>,
    pub(super) tables: Vec<String>,
    /// How many there are, and how many of them are not there, or cut.
    pub(super) count_tables: usize,
    pub(super) count_figures: usize,
    pub(super) left_out: usize,
}

/// Tables up to which each shows its first rows.
const FEW: usize = 300;
/// Bytes of a table beside its data, with and without first rows: about.
const FRAMES: [usize; 2] = [5_000, 2_500];

/// Reads every table once, and those that are cut once more. `room`: bytes for all; figures take at most
/// `room_of_figures` of it.
pub(super) fn results(runs: &Runs<'_>, room: usize, room_of_figures: usize) -> Result<Results, CommandError> {
    let count: usize = runs
        .families
        .iter()
        .map(|family| family.slots(|artifact| artifact == Artifact::TABLE).len())
        .sum();
    let is_few = count <= FEW;
    let data_room = |used_by_figures: usize| {
        let frames = count * if is_few { FRAMES[0] } else { FRAMES[1] };
        room.saturating_sub(used_by_figures + frames)
    };
    // What is sure to be left.
    let least_room = data_room(room_of_figures);
    let mut palette = Palette::default();
    let mut items: Vec<Item<'_>> = Vec::new();
    let mut found = Results {
        figures: vec![String::new(); runs.families.len()],
        tables: vec![String::new(); runs.families.len()],
        count_tables: 0,
        count_figures: 0,
        left_out: 0,
    };
    let chief = headline(runs.last()).unwrap_or_default();
    let (mut used_by_figures, mut used_by_tables) = (0, 0);
    for (place, family) in runs.families.iter().enumerate() {
        let drawings = networks(runs, family)
            .into_iter()
            .map(|network| (network.html(), network.title));
        let mut drawn: Vec<(String, String)> = drawings.collect();
        for stored in stored_figures(runs, family) {
            let id = found.count_figures + drawn.len();
            drawn.push(
                stored.with_figure(|description, content| {
                    (figure(id, description, content), description.title.to_owned())
                }),
            );
        }
        found.count_figures += drawn.len();
        for (html, title) in drawn {
            if used_by_figures + html.len() > room_of_figures {
                found.left_out += 1;
                found.figures[place] += &no_room(&title, html.len());
                continue;
            }
            used_by_figures += html.len();
            found.figures[place] += &html;
        }
        for slot in family.slots(|artifact| artifact == Artifact::TABLE) {
            let outputs = family.outputs(slot);
            let mut item = Item::of(runs, place, slot, &outputs);
            item.is_headline = chief
                .iter()
                .any(|table| table.stage.family == family.name && table.slot == slot);
            let id = items.len();
            match stacked(runs, &outputs) {
                Ok(read) => {
                    let mut figures = figures_of(family.kind, slot).peekable();
                    if figures.peek().is_some() {
                        palette.meet_networks(&read.table);
                    }
                    for description in figures {
                        let Some(content) = description.content(&read.table, read.is_of_two, &mut palette) else {
                            continue;
                        };
                        let html = figure(found.count_figures, description, &content);
                        found.count_figures += 1;
                        if used_by_figures + html.len() > room_of_figures {
                            found.left_out += 1;
                            item.figures += &no_room(description.title, html.len());
                            continue;
                        }
                        found.left_out += usize::from(!content.left_out.is_empty());
                        used_by_figures += html.len();
                        item.figures += &html;
                    }
                    let asked = bytes(&read.table);
                    item.asked = Some(asked);
                    used_by_tables += asked;
                    if used_by_tables <= least_room {
                        item.html = Some(item.table(id, usize::MAX, is_few).html(&read.table));
                    }
                }
                Err(error) => {
                    let why = error
                        .hint()
                        .map_or_else(|| error.to_string(), |hint| format!("{error}: {hint}"));
                    item.html = Some(left_out(&format!("{}: {why}", item.name)));
                    found.left_out += 1;
                }
            }
            items.push(item);
        }
    }
    found.count_tables = items.len();
    let asked: Vec<usize> = items.iter().map(|item| item.asked.unwrap_or(0)).collect();
    let shares = shares(&asked, data_room(used_by_figures));
    let mut used = used_by_figures;
    for (id, (mut item, share)) in items.into_iter().zip(shares).enumerate() {
        let is_cut = item.asked.is_some_and(|asked| share < asked);
        if is_cut || item.html.is_none() {
            let outputs = runs.families[item.family].outputs(item.slot);
            let room = if is_cut { share } else { usize::MAX };
            let read = stacked(runs, &outputs)?;
            item.html = Some(item.table(id, room, is_few).html(&read.table));
        }
        let mut html = item.html.unwrap_or_default();
        let has_room = used + html.len() <= room;
        if !has_room {
            html = left_out(&format!("No room for {}: {}", item.name, item.command));
        }
        used += html.len();
        found.left_out += usize::from(is_cut || !has_room);
        found.figures[item.family] += &item.figures;
        found.tables[item.family] += &html;
        found.tables[item.family] += item.note;
    }
    Ok(found)
}

impl<'a> Item<'a> {
    fn of(runs: &Runs<'_>, family: usize, slot: &'a str, outputs: &[Vec<StageOutput<'a>>]) -> Self {
        let (side, last) = outputs
            .iter()
            .enumerate()
            .rfind(|(_, own)| !own.is_empty())
            .unwrap_or((0, &outputs[0]));
        let name = name_of(last);
        let run = &runs.sides[side].run.id;
        // What holds a quote or a blank stands in quotes, for the shell.
        let command = format!(
            "dynvis show {run} {} --format csv",
            crate::cli::wording::shell_word(&name)
        );
        let note = match outputs {
            [first, second] if !first.is_empty() && is_equal(first, second) => {
                "<p class=\"soft\">The same in both runs.</p>\n"
            }
            [first, second] if first.is_empty() || second.is_empty() => {
                "<p class=\"soft\">In one of the runs only.</p>\n"
            }
            _ => "",
        };
        Self {
            family,
            slot,
            name,
            command,
            is_headline: false,
            figures: String::new(),
            asked: None,
            html: None,
            note,
        }
    }

    fn table(&self, id: usize, room: usize, is_few: bool) -> DataTable<'_> {
        DataTable {
            id: format!("{id}"),
            name: &self.name,
            command: &self.command,
            room,
            first: if is_few { FIRST } else { 1 },
            is_open: self.is_headline,
        }
    }
}

/// Figures that `plot` stages keep, each content once. What cannot be read is shown as a stored picture.
pub(super) fn stored_figures(runs: &Runs<'_>, family: &Family<'_>) -> Vec<Stored> {
    let outputs = family.all().flat_map(|stage| &stage.outputs);
    let mut contents: Vec<_> = Vec::new();
    for output in outputs.filter(|output| output.artifact == Artifact::FILES) {
        if !contents.contains(&&output.content) {
            contents.push(&output.content);
        }
    }
    contents
        .into_iter()
        .filter_map(|content| stored_figure(runs.store, content))
        .collect()
}

/// The figure that an output is, where a `plot` stage wrote it and it can be read.
pub(in crate::cli) fn stored_figure(store: &Store, content: &ContentHash) -> Option<Stored> {
    let path = store.object(content).join(DESCRIPTION);
    let text = path
        .is_file()
        .then(|| dynvis_base::files::read_to_string(&path).ok())??;
    serde_json::from_str(&text).ok()
}

/// Draws the figures of all tables of a run, all members of a family in one, and hands each on with the family's name.
pub(super) fn each_figure(
    runs: &Runs<'_>,
    mut drawn: impl FnMut(&str, &Figure<'_>, &Content) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut palette = Palette::default();
    for family in &runs.families {
        for slot in family.slots(|artifact| artifact == Artifact::TABLE) {
            let mut figures = figures_of(family.kind, slot).peekable();
            // Tables without figures are not read.
            if figures.peek().is_none() {
                continue;
            }
            // Of a table that cannot be read the export of tables tells.
            let Ok(read) = stacked(runs, &family.outputs(slot)) else {
                continue;
            };
            palette.meet_networks(&read.table);
            for figure in figures {
                if let Some(content) = figure.content(&read.table, read.is_of_two, &mut palette) {
                    drawn(family.name, figure, &content)?;
                }
            }
        }
    }
    Ok(())
}

fn no_room(title: &str, bytes: usize) -> String {
    left_out(&format!(
        "No room for the figure \u{201c}{title}\u{201d} ({}): `--max-size` gives more.",
        size(bytes as u64)
    ))
}
