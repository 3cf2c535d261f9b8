//! A table as text for people (text, md) or programs (csv, json).
//!
//! Text and md round floats to six significant digits and may leave out rows and columns, which they say; csv and
//! json are complete and exact. Text never wraps: a table too wide for the terminal loses middle columns instead.

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serializer;

use super::csv::to_csv;
use super::schema::Role;
use super::{Table, TableError, Value};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    Text,
    /// RFC 4180, header of column names.
    Csv,
    /// `{"schema": ..., "rows": [...]}`, one row a line.
    Json,
    /// A GitHub table.
    Md,
}

/// Limits for text and md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Rows shown at most, the middle ones left out; all if `None`.
    pub max_rows: Option<usize>,
    /// Characters a line at most, text only; no limit if `None`.
    pub width: Option<usize>,
    /// Whether the header line is set in bold, text only.
    pub color: bool,
}

/// Significant digits in text and md.
pub(super) const DIGITS: usize = 6;

/// The table in the given format, ending in a newline.
///
/// # Errors
/// [`TableError::Json`], not expected of a valid table.
pub fn render(table: &Table, format: Format, options: &RenderOptions) -> Result<String, TableError> {
    Ok(match format {
        Format::Text => grid(table, options).text(options),
        Format::Md => grid(table, options).md(),
        Format::Csv => to_csv(table),
        Format::Json => json(table)?,
    })
}

fn json(table: &Table) -> Result<String, TableError> {
    let mut text = format!("{{\"schema\": {},\n\"rows\": [", serde_json::to_string(&table.schema)?);
    let all: Vec<usize> = (0..table.schema.columns.len()).collect();
    for row in 0..table.height() {
        text.push_str(if row == 0 { "\n" } else { ",\n" });
        text.push_str(&serde_json::to_string(&table.fields(row, &all))?);
    }
    text.push_str("\n]}\n");
    Ok(text)
}

/// The rows alone, as a JSON array of objects.
pub(super) fn serialize_rows<S: Serializer>(table: &Table, serializer: S) -> Result<S::Ok, S::Error> {
    let all: Vec<usize> = (0..table.schema.columns.len()).collect();
    serializer.collect_seq((0..table.height()).map(|row| table.fields(row, &all)))
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let group = |(place, digit): (usize, char)| {
        let comma = place > 0 && (digits.len() - place).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(group).collect()
}

/// A float rounded to so many significant digits, without trailing zeros, as `%g` of C: powers of ten from 1e-5
/// down and from 10^digits up.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{}", value + 0.0);
    }
    let rounded = format!("{value:.*e}", digits - 1);
    let Some((mantissa, exponent)) = rounded.split_once('e') else {
        return rounded;
    };
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match exponent.parse::<i32>() {
        Ok(power) if power >= -4 && power < digits as i32 => {
            trim(&format!("{value:.*}", (digits as i32 - 1 - power) as usize))
        }
        _ => format!("{}e{exponent}", trim(mantissa)),
    }
}

/// A cell for text and md, on one line whatever the value holds.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Float(value) => significant(*value, DIGITS),
        Value::Text(text) => printable(text),
        value => value.to_string(),
    }
}

/// Line breaks and other control characters escaped, so that no value can break the layout or steer a terminal.
pub(super) fn printable(text: &str) -> String {
    let escape = |character: char| match character.is_control() {
        true => character.escape_default().collect::<String>(),
        false => character.to_string(),
    };
    text.chars().map(escape).collect()
}

fn grid(table: &Table, options: &RenderOptions) -> Grid {
    let columns = table.schema.columns.iter().map(|column| GridColumn {
        heading: printable(&column.heading()),
        right: column.dtype.is_number(),
        pinned: column.role == Role::Key,
    });
    let row = |row: usize| table.columns.iter().map(|values| cell(&values[row])).collect();
    Grid::new(columns.collect(), table.height(), row, options)
}

/// One column of a [`Grid`].
#[derive(Clone)]
pub(super) struct GridColumn {
    pub(super) heading: String,
    /// Numbers stand to the right.
    pub(super) right: bool,
    /// Left out only after all others are.
    pub(super) pinned: bool,
}

/// Cells ready to be laid out.
pub(super) struct Grid {
    columns: Vec<GridColumn>,
    rows: Vec<Vec<String>>,
    /// Before which row how many were left out.
    hidden: Option<(usize, usize)>,
}

/// Longest text cell once space is short, in characters.
const SHORT_TEXT: usize = 24;
/// Blanks between columns.
const GAP: usize = 2;

impl Grid {
    /// The rows that `row` makes, without those in the middle that are too many.
    pub(super) fn new(
        columns: Vec<GridColumn>,
        height: usize,
        row: impl Fn(usize) -> Vec<String>,
        options: &RenderOptions,
    ) -> Self {
        let shown = options.max_rows.unwrap_or(height).min(height);
        let (head, count) = (shown.div_ceil(2), height - shown);
        let rows = (0..head).chain(head + count..height).map(row).collect();
        let hidden = (count > 0).then_some((head, count));
        Self { columns, rows, hidden }
    }

    /// Aligned columns under a rule, then notes on what was left out.
    pub(super) fn text(mut self, options: &RenderOptions) -> String {
        let dropped = options.width.map_or_else(Vec::new, |width| self.fit(width));
        let mut lines: Vec<String> = self.layout(presets::NOTHING, (0, GAP as u16));
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        if options.color {
            lines[0] = format!("\u{1b}[1m{}\u{1b}[0m", lines[0]);
        }
        lines.insert(1, "─".repeat(width));
        if let Some((place, count)) = self.hidden {
            lines.insert(2 + place, hidden_note(count, "row"));
        }
        if !dropped.is_empty() {
            lines.extend(wrap(&dropped_note(&dropped), options.width, ""));
        }
        lines.join("\n") + "\n"
    }

    /// A GitHub table; numbers aligned right.
    pub(super) fn md(mut self) -> String {
        let escape = |text: &mut String| *text = text.replace('|', "\\|");
        self.rows.iter_mut().flatten().for_each(escape);
        self.columns.iter_mut().for_each(|column| escape(&mut column.heading));
        if let Some((place, count)) = self.hidden {
            let mut row = vec![String::new(); self.columns.len()];
            row[0] = hidden_note(count, "row");
            self.rows.insert(place, row);
        }
        let mut lines = self.layout(presets::ASCII_MARKDOWN, (1, 1));
        let mut rule: Vec<String> = lines[1].split('|').map(str::to_owned).collect();
        for (dashes, column) in rule[1..].iter_mut().zip(&self.columns) {
            if column.right {
                dashes.replace_range(dashes.len() - 1.., ":");
            }
        }
        lines[1] = rule.join("|");
        lines.join("\n") + "\n"
    }

    fn layout(&self, preset: &str, padding: (u16, u16)) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table
            .load_preset(preset)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|column| &column.heading));
        table.add_rows(&self.rows);
        for (column, layout) in self.columns.iter().zip(table.column_iter_mut()) {
            layout.set_padding(padding);
            layout.set_cell_alignment(if column.right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            });
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Makes each line fit `width`: shortens long texts, then removes middle columns, then cuts what is left.
    /// Gives the headings removed. A column of `…` stands where columns are missing.
    fn fit(&mut self, width: usize) -> Vec<String> {
        if self.total() <= width {
            return Vec::new();
        }
        let text: Vec<usize> = (0..self.columns.len())
            .filter(|&place| !self.columns[place].right)
            .collect();
        self.rows
            .iter_mut()
            .for_each(|row| text.iter().for_each(|&place| shorten(&mut row[place], SHORT_TEXT)));

        let mut dropped: Vec<(usize, String)> = Vec::new();
        let mut places: Vec<usize> = (0..self.columns.len()).collect();
        const MARK: &str = "…";
        while self.total() > width {
            let shown: Vec<usize> = (0..self.columns.len())
                .filter(|&at| self.columns[at].heading != MARK)
                .collect();
            let loose: Vec<usize> = shown.iter().copied().filter(|&at| !self.columns[at].pinned).collect();
            // One value column stays beside the keys as long as possible.
            let candidates = if loose.len() > 1 { loose } else { shown };
            if candidates.len() < 2 {
                break;
            }
            let at = candidates[candidates.len() / 2];
            dropped.push((
                places[at],
                std::mem::replace(&mut self.columns[at].heading, MARK.to_owned()),
            ));
            self.columns[at].right = false;
            self.rows.iter_mut().for_each(|row| row[at] = MARK.to_owned());
            // One mark for neighbours.
            for at in (1..self.columns.len()).rev() {
                if self.columns[at].heading == MARK && self.columns[at - 1].heading == MARK {
                    self.columns.remove(at);
                    places.remove(at);
                    self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
                }
            }
        }
        if self.total() > width {
            let marks = self.columns.len() - 1;
            let room = width.saturating_sub(marks * (1 + GAP)).max(1);
            self.columns
                .iter_mut()
                .for_each(|column| shorten(&mut column.heading, room));
            self.rows.iter_mut().flatten().for_each(|text| shorten(text, room));
        }
        dropped.sort();
        dropped.into_iter().map(|(_, heading)| heading).collect()
    }

    fn total(&self) -> usize {
        let widest = |at: usize| {
            let cells = self.rows.iter().map(|row| &row[at]).chain([&self.columns[at].heading]);
            cells.map(|text| text.chars().count()).max().unwrap_or(0)
        };
        (0..self.columns.len()).map(widest).sum::<usize>() + GAP * self.columns.len().saturating_sub(1)
    }
}

fn shorten(text: &mut String, limit: usize) {
    if text.chars().count() > limit {
        *text = text.chars().take(limit.saturating_sub(1)).chain(['…']).collect();
    }
}

/// Names the columns left out, the middle ones of many by `…`.
fn dropped_note(headings: &[String]) -> String {
    const NAMED: usize = 6;
    let mut names: Vec<&str> = headings
        .iter()
        .map(|heading| heading.split_once(" [").map_or(heading.as_str(), |(name, _)| name))
        .collect();
    if names.len() > NAMED {
        names.splice(NAMED / 2..names.len() - NAMED / 2, ["…"]);
    }
    format!("{} not shown: {}", counted(headings.len(), "column"), names.join(", "))
}

pub(super) fn hidden_note(count: usize, noun: &str) -> String {
    format!("… {} more", counted(count, noun))
}

/// `1 row`, `1,234 rows`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// Breaks prose between words; lines after the first begin with `indent`.
pub(super) fn wrap(text: &str, width: Option<usize>, indent: &str) -> Vec<String> {
    let limit = width.unwrap_or(usize::MAX);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.trim_start().is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= limit {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines
}
