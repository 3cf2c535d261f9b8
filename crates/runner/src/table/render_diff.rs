//! A table difference as text or md. Shows only what differs; an empty difference is one line that says so.

use super::diff::{CellChange, LEVEL, SeedComparison, Seeds, Spread, TableDiff};
use super::render::{
    DIGITS, Format, Grid, GridColumn, RenderOptions, cell, counted, hidden_note, printable, render, significant, wrap,
};
use super::{Table, TableError, Value};

/// How a difference is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffFormat {
    /// Aligned columns under headings.
    Text,
    /// GitHub tables under headings.
    Md,
}

/// Digits of summary statistics, whose last ones are noise anyway.
const SHORT: usize = 4;

/// The difference in the given format, ending in a newline.
///
/// # Errors
/// [`TableError::Json`], not expected of a valid difference.
pub fn render_diff(diff: &TableDiff, format: DiffFormat, options: &RenderOptions) -> Result<String, TableError> {
    let md = format == DiffFormat::Md;
    // Text that goes into an md document is wrapped by whoever shows it.
    let prose = |text: &str, indent: &str| {
        let lines = wrap(&printable(text), if md { None } else { options.width }, indent);
        lines.join("\n") + "\n"
    };
    let mut out = prose(&summary(diff), "");
    let mut section = |title: &str, body: String| {
        let title = if md { format!("**{title}**\n") } else { title.to_owned() };
        out.push_str(&format!("\n{title}\n{body}"));
    };
    let table = |table: &Table| render(table, if md { Format::Md } else { Format::Text }, options);

    let columns = column_lines(diff);
    if !columns.is_empty() {
        section(
            "columns",
            columns.iter().map(|line| prose(&format!("- {line}"), "  ")).collect(),
        );
    }
    if !diff.changed.is_empty() {
        let grid = changed_cells(diff, options);
        section("rows changed", if md { grid.md() } else { grid.text(options) });
    }
    if diff.added.height() > 0 {
        section("rows added", table(&diff.added)?);
    }
    if diff.removed.height() > 0 {
        section("rows removed", table(&diff.removed)?);
    }
    if !diff.seeds.is_empty() {
        let limit = options.max_rows.unwrap_or(usize::MAX);
        let items = diff
            .seeds
            .iter()
            .take(limit)
            .map(|item| prose(&format!("- {}", diff.sentence(item)), "  "));
        let mut body: String = [prose(&diff.seeds_note(), "")].into_iter().chain(items).collect();
        if diff.seeds.len() > limit {
            body.push_str(&(hidden_note(diff.seeds.len() - limit, "comparison") + "\n"));
        }
        section("over seeds", body);
    }
    Ok(out)
}

/// `2 rows changed, 1 added, 0 removed, 9 equal (rows matched by model, level)`.
fn summary(diff: &TableDiff) -> String {
    let by = match diff.keys.as_slice() {
        [] => "one row each".to_owned(),
        keys => format!("rows matched by {}", keys.join(", ")),
    };
    if diff.is_empty() {
        return format!(
            "no difference: {} equal within tolerance ({by})",
            counted(diff.equal, "row")
        );
    }
    let (added, removed) = (diff.added.height(), diff.removed.height());
    let changed = counted(diff.changed.len(), "row");
    format!(
        "{changed} changed, {added} added, {removed} removed, {} equal ({by})",
        diff.equal
    )
}

fn column_lines(diff: &TableDiff) -> Vec<String> {
    let changes = diff.columns_changed.iter().map(|change| {
        let unlike = if change.attribute == "unit" {
            "; values are compared without conversion"
        } else {
            ""
        };
        format!(
            "{}: {} {} -> {}{unlike}",
            change.column, change.attribute, change.a, change.b
        )
    });
    let added = diff.columns_added.iter().map(|name| format!("{name}: added"));
    let removed = diff.columns_removed.iter().map(|name| format!("{name}: removed"));
    added.chain(removed).chain(changes).collect()
}

/// One line a changed value.
fn changed_cells(diff: &TableDiff, options: &RenderOptions) -> Grid {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in &diff.changed {
        for change in &row.cells {
            let (a, b) = distinct(change);
            let absolute = change.absolute.map_or_else(String::new, |value| signed(value, DIGITS));
            let percent = |value: f64| signed(100.0 * value, 3) + " %";
            let relative = change.relative.map_or_else(String::new, percent);
            rows.push(
                row.key
                    .0
                    .iter()
                    .map(|(_, value)| cell(value))
                    .chain([diff.heading(&change.column), a, b, absolute, relative])
                    .collect(),
            );
        }
    }
    let numeric = |place: usize| {
        let mut values = diff.changed.iter().map(|row| &row.key.0[place].1);
        values.all(|value| matches!(value, Value::Null | Value::Int(_) | Value::Float(_)))
    };
    let keys = diff.keys.iter().enumerate();
    let keys = keys.map(|(place, key)| GridColumn {
        heading: diff.heading(key),
        right: numeric(place),
        pinned: true,
    });
    let rest = [
        ("column", false, true),
        ("a", true, true),
        ("b", true, true),
        ("b - a", true, false),
    ];
    let rest = rest.into_iter().chain([("relative", true, false)]);
    let rest = rest.map(|(heading, right, pinned)| GridColumn {
        heading: heading.to_owned(),
        right,
        pinned,
    });
    Grid::new(keys.chain(rest).collect(), rows.len(), |row| rows[row].clone(), options)
}

/// Both values with as many digits as it takes to tell them apart.
fn distinct(change: &CellChange) -> (String, String) {
    let text = |value: &Value, digits: usize| match value {
        Value::Float(value) => significant(*value, digits),
        value => cell(value),
    };
    let pairs = (DIGITS..=17).map(|digits| (text(&change.a, digits), text(&change.b, digits)));
    let mut pairs = pairs.skip_while(|(a, b)| a == b);
    pairs.next().unwrap_or_else(|| (cell(&change.a), cell(&change.b)))
}

fn signed(value: f64, digits: usize) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    sign.to_owned() + &significant(value, digits)
}

impl TableDiff {
    fn seeds_note(&self) -> String {
        let seeds = Seeds::among(&self.keys);
        let averaged = match seeds.averaged.is_empty() {
            true => String::new(),
            false => format!(
                " of {}, averaged over {} first",
                seeds.replicates.join(" and "),
                seeds.averaged
            ),
        };
        format!(
            "Mean ± standard deviation over seeds{averaged}. A change counts as larger than the seeds' spread if \
             Welch's t-test gives a two-sided p below {LEVEL}; {} made, not corrected for their number.",
            counted(self.seeds.len(), "comparison")
        )
    }

    /// What happened to a mean, and whether the seeds' spread could explain it.
    fn sentence(&self, item: &SeedComparison) -> String {
        let group = match item.group.to_string() {
            text if text.is_empty() => text,
            text => text + ": ",
        };
        let side = |side: &Spread| {
            let (mean, deviation) = (
                significant(side.mean, SHORT),
                significant(side.standard_deviation, SHORT),
            );
            format!("{mean} ± {deviation} ({} seeds)", side.n)
        };
        let verdict = match (item.exceeds_spread, item.welch) {
            (true, Some(_)) => "larger than the seeds' spread",
            (false, Some(_)) => "not larger than the seeds' spread",
            (_, None) => "no spread over seeds in either, so no test",
        };
        let test = item.welch.map_or_else(String::new, |welch| {
            let [t, df, p] = [welch.statistic, welch.degrees_of_freedom, welch.p].map(|x| significant(x, SHORT));
            format!(" (t = {t}, df = {df}, p = {p})")
        });
        let change = signed(item.b.mean - item.a.mean, SHORT);
        let (a, b) = (side(&item.a), side(&item.b));
        format!(
            "{group}{} {a} -> {b}, change {change}, {verdict}{test}",
            self.heading(&item.column)
        )
    }
}
