//! What a figure is: one description says which columns of which table are drawn, and how. [`content`](super::content)
//! is the pure function from there to what is drawn. Descriptions of the stage kinds' figures are constants
//! ([`kinds`](super::kinds)); that of a `plot` stage borrows from its parameters.

use dynvis_runner::table::{Table, Value};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a figure's values are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// curves with markers at the measured points
    #[default]
    Lines,
    /// one point for every row
    Points,
    /// one row below the other, each with its interval on a horizontal axis
    Forest,
    /// a coloured cell for every pair of values
    Matrix,
}

/// What is drawn of rows that make one point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aggregate {
    /// their arithmetic mean
    #[default]
    Mean,
    /// the middle one, the mean of both middle ones of an even number
    Median,
}

/// What a band or bar is where rows make one point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spread {
    /// the standard deviation of the rows (with n - 1), on both sides
    #[default]
    StandardDeviation,
    /// the standard error of the mean, sd / sqrt(n), on both sides; rows are taken to be independent
    StandardError,
    /// Student's 95 % interval of the mean; rows are taken to be independent and normally distributed
    Confidence,
    /// from the lower to the upper quartile of the rows (linear between order statistics)
    Quartiles,
    /// from the smallest to the largest row
    Range,
    /// nothing is drawn
    None,
}

/// Where the intervals of a figure come from, for values that are of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interval<'a> {
    None,
    /// The value plus and minus that column: what it is.
    Around(&'a str, &'a str),
    /// Columns of lower and upper ends: what they are.
    Ends(&'a str, &'a str, &'a str),
}

/// Rows that a figure shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Only<'a> {
    Is(&'a str, &'a str),
    IsNot(&'a str, &'a str),
    /// Rows with the lowest value above 0 that the column has.
    LowestAboveZero(&'a str),
    /// Rows where the column has no value.
    Missing(&'a str),
}

/// A line across a panel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guide<'a> {
    Horizontal(f64, &'a str),
    Vertical(f64, &'a str),
    /// At the mean of a column.
    Column(&'a str, &'a str),
}

/// One description of a figure. Names are those of columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure<'a> {
    pub(crate) kind: &'a str,
    /// Slot of the table.
    pub(crate) table: &'a str,
    pub(crate) title: &'a str,
    pub(crate) caption: &'a str,
    pub(crate) mark: Mark,
    /// The horizontal axis, and for a matrix its columns; nothing for a forest plot.
    pub(crate) x: &'a str,
    /// What stands there; the column's heading if empty.
    pub(crate) x_label: &'a str,
    /// Values with what they are, where there are several.
    pub(crate) y: &'a [(&'a str, &'a str)],
    pub(crate) y_label: &'a str,
    /// Rows of a matrix.
    pub(crate) rows: &'a str,
    /// Of values of one row.
    pub(crate) interval: Interval<'a>,
    /// Of several rows that make one point.
    pub(crate) aggregate: Aggregate,
    pub(crate) spread: Spread,
    /// A panel for each value of these.
    pub(crate) facet: &'a [&'a str],
    /// Tells curves apart by colour, and nothing else does; if empty, all keys that remain.
    pub(crate) colour: &'a [&'a str],
    /// Tells curves apart by marker and dashes; all other keys do so by colour.
    pub(crate) style: &'a str,
    /// Key columns over which rows are aggregated, beside seeds and trials that tell nothing else apart.
    pub(crate) over: &'a [&'a str],
    /// Key columns of which the value with the largest `y` is taken.
    pub(crate) best_of: &'a [&'a str],
    pub(crate) only: &'a [Only<'a>],
    pub(crate) y_range: Option<[f64; 2]>,
    pub(crate) is_log_x: bool,
    pub(crate) is_log_y: bool,
    /// Whether values of different panels are not to be compared, so that each has an axis of its own.
    pub(crate) is_apart: bool,
    pub(crate) guides: &'a [Guide<'a>],
    /// Beginnings of the names of stored pictures in whose place it stands.
    pub(crate) stands_for: &'a [&'a str],
}

/// What most figures are.
pub(crate) const LINES: Figure<'static> = Figure {
    kind: "",
    table: "",
    title: "",
    caption: "",
    mark: Mark::Lines,
    x: "",
    x_label: "",
    y: &[],
    y_label: "",
    rows: "",
    interval: Interval::None,
    aggregate: Aggregate::Mean,
    spread: Spread::StandardDeviation,
    facet: &[],
    colour: &[],
    style: "",
    over: &[],
    best_of: &[],
    only: &[],
    y_range: None,
    is_log_x: false,
    is_log_y: false,
    is_apart: false,
    guides: &[],
    stands_for: &[],
};

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Paint {
    /// The n-th of things without an order.
    Category(usize),
    /// A place between the lowest (0) and the highest (1) of ordered values.
    Ordered(f64),
    /// Something that is said of all curves.
    Neutral,
}

/// Which colour stands for what, the same in all figures of a report.
#[derive(Default)]
pub(crate) struct Palette(IndexMap<String, usize>);

impl Palette {
    pub(crate) fn of(&mut self, name: &str) -> Paint {
        let next = self.0.len();
        Paint::Category(*self.0.entry(name.to_owned()).or_insert(next))
    }

    /// Gives the networks of a table their colours, in the order in which they come.
    pub(crate) fn meet_networks(&mut self, table: &Table) {
        for value in table.column("network").unwrap_or_default() {
            if let Value::Text(name) = value {
                self.of(name);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Of a matrix the value of the row.
    pub(crate) row: f64,
    pub(crate) interval: Option<[f64; 2]>,
    /// Rows that it is of.
    pub(crate) n: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) label: String,
    pub(crate) paint: Paint,
    /// Which marker and dashes.
    pub(crate) style: usize,
    /// Ascending in x, but for [`Mark::Points`].
    pub(crate) points: Vec<Point>,
    /// Places of points before which the line is broken, as there is no value between.
    pub(crate) breaks: Vec<usize>,
}

/// A line across a panel, in its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Across {
    pub(crate) is_vertical: bool,
    pub(crate) at: f64,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) curves: Vec<Curve>,
    pub(crate) guides: Vec<Across>,
}

/// A figure's content, ready to be drawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) panels: Vec<Panel>,
    pub(crate) x_label: String,
    pub(crate) y_label: String,
    /// What the colours of a matrix are.
    pub(crate) value_label: String,
    /// What bands and bars are, if there are any.
    pub(crate) intervals: Vec<String>,
    /// What was aggregated over, if anything was.
    pub(crate) over: Vec<String>,
    /// What all of it has in common.
    pub(crate) common: Vec<String>,
    /// What is not shown, and how to get it.
    pub(crate) left_out: Vec<String>,
    /// Values that are no points: missing or infinite ones, those that a logarithmic axis does not have, and those
    /// beyond the ends of the axis that the description names.
    pub(crate) missing: usize,
    pub(crate) not_on_axis: usize,
    pub(crate) beyond: usize,
}

impl Content {
    /// What was aggregated over, as a sentence.
    pub(crate) fn over(&self, figure: &Figure<'_>) -> Option<String> {
        let what = match figure.aggregate {
            Aggregate::Mean => "Mean",
            Aggregate::Median => "Median",
        };
        (!self.over.is_empty()).then(|| format!("{what} over {}.", self.over.join(", ")))
    }

    /// What is no point of the figure, in sentences.
    pub(crate) fn undrawn(&self) -> Vec<String> {
        let told = [
            (self.missing, "missing, infinite or above 1e100"),
            (self.not_on_axis, "not on a logarithmic axis"),
            (self.beyond, "beyond the ends of the axis"),
        ];
        let said = |(count, what): &(usize, &str)| {
            let plural = if *count == 1 { "value is" } else { "values are" };
            format!("{count} {plural} {what} and not drawn.")
        };
        told.iter().filter(|(count, _)| *count > 0).map(said).collect()
    }

    /// What stands below the figure: what it shows, what all of it has in common, over what was aggregated.
    pub(crate) fn caption(&self, figure: &Figure<'_>) -> String {
        let mut parts = vec![figure.caption.to_owned()];
        if !self.common.is_empty() {
            parts.push(format!("All of it: {}.", self.common.join(", ")));
        }
        parts.extend(self.over(figure));
        parts.extend(self.undrawn());
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }
}

/// A figure with its content, as a `plot` stage keeps it beside the drawn files: whoever reads it can draw it anew.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    title: String,
    caption: String,
    mark: Mark,
    aggregate: Aggregate,
    /// The column of the values.
    y: String,
    y_range: Option<[f64; 2]>,
    is_log_x: bool,
    is_log_y: bool,
    content: Content,
}

impl Stored {
    /// A figure and what it shows, to be kept.
    pub(crate) fn new(figure: &Figure<'_>, content: Content) -> Self {
        Self {
            title: figure.title.to_owned(),
            caption: figure.caption.to_owned(),
            mark: figure.mark,
            aggregate: figure.aggregate,
            y: figure
                .y
                .first()
                .map_or_else(String::new, |(name, _)| (*name).to_owned()),
            y_range: figure.y_range,
            is_log_x: figure.is_log_x,
            is_log_y: figure.is_log_y,
            content,
        }
    }

    /// What it shows.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Hands on what is needed to draw it.
    pub(crate) fn with_figure<T>(&self, draw: impl FnOnce(&Figure<'_>, &Content) -> T) -> T {
        let figure = Figure {
            title: &self.title,
            caption: &self.caption,
            mark: self.mark,
            aggregate: self.aggregate,
            y: &[(&self.y, "")],
            y_range: self.y_range,
            is_log_x: self.is_log_x,
            is_log_y: self.is_log_y,
            ..LINES
        };
        draw(&figure, &self.content)
    }
}
