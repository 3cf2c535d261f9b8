//! What a figure is: one description says which columns of which table are drawn, and how. [`content`](super::content)
//! is the pure function from there to what is drawn.

use dynvis_runner::table::{Table, Value};
use indexmap::IndexMap;

/// How a figure's values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Curves with markers at the measured points.
    Lines,
    /// One point for every row.
    Points,
    /// One row below the other, each with its interval on a horizontal axis.
    Forest,
    /// A cell for every pair of values.
    Matrix,
}

/// Where the intervals of a figure come from, for values that are of one row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Interval {
    None,
    /// The value plus and minus that column: what it is.
    Around(&'static str, &'static str),
    /// Columns of lower and upper ends: what they are.
    Ends(&'static str, &'static str, &'static str),
}

/// Rows that a figure shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Only {
    Is(&'static str, &'static str),
    IsNot(&'static str, &'static str),
    /// Rows with the lowest value above 0 that the column has.
    LowestAboveZero(&'static str),
    /// Rows where the column has no value.
    Missing(&'static str),
}

/// A line across a panel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guide {
    Horizontal(f64, &'static str),
    Vertical(f64, &'static str),
    /// At the mean of a column.
    Column(&'static str, &'static str),
}

/// One description of a figure. Names are those of columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) kind: &'static str,
    /// Slot of the table.
    pub(super) table: &'static str,
    pub(super) title: &'static str,
    pub(super) caption: &'static str,
    pub(super) mark: Mark,
    /// The horizontal axis, and for a matrix its columns; nothing for a forest plot.
    pub(super) x: &'static str,
    /// What stands there; the column's heading if empty.
    pub(super) x_label: &'static str,
    /// Values with what they are, where there are several.
    pub(super) y: &'static [(&'static str, &'static str)],
    pub(super) y_label: &'static str,
    /// Rows of a matrix.
    pub(super) rows: &'static str,
    pub(super) interval: Interval,
    /// A panel for each value of these.
    pub(super) facet: &'static [&'static str],
    /// Tells curves apart by marker and dashes; all other keys do so by colour.
    pub(super) style: &'static str,
    /// Key columns over which the mean is taken.
    pub(super) over: &'static [&'static str],
    /// Key columns of which the value with the largest `y` is taken.
    pub(super) best_of: &'static [&'static str],
    pub(super) only: &'static [Only],
    pub(super) y_range: Option<[f64; 2]>,
    pub(super) is_log_y: bool,
    pub(super) guides: &'static [Guide],
    /// Beginnings of the names of stored pictures in whose place it stands.
    pub(super) stands_for: &'static [&'static str],
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Paint {
    /// The n-th of things without an order.
    Category(usize),
    /// A place between the lowest (0) and the highest (1) of ordered values.
    Ordered(f64),
}

/// Which colour stands for what, the same in all figures of a report.
#[derive(Default)]
pub(super) struct Palette(IndexMap<String, usize>);

impl Palette {
    pub(super) fn of(&mut self, name: &str) -> Paint {
        let next = self.0.len();
        Paint::Category(*self.0.entry(name.to_owned()).or_insert(next))
    }

    /// Gives the networks of a table their colours, in the order in which they come.
    pub(super) fn meet_networks(&mut self, table: &Table) {
        for value in table.column("network").unwrap_or_default() {
            if let Value::Text(name) = value {
                self.of(name);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Of a matrix the value of the row.
    pub(super) row: f64,
    pub(super) interval: Option<[f64; 2]>,
    /// Rows that it is the mean of.
    pub(super) n: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) label: String,
    pub(super) paint: Paint,
    /// Which marker and dashes.
    pub(super) style: usize,
    /// Ascending in x, but for [`Mark::Points`].
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) curves: Vec<Curve>,
    pub(super) guides: Vec<(Guide, f64)>,
}

/// A figure's content, ready to be drawn.
pub(super) struct Content {
    pub(super) panels: Vec<Panel>,
    pub(super) x_label: String,
    pub(super) y_label: String,
    /// What bands and bars are, if there are any.
    pub(super) intervals: Vec<String>,
    /// What was averaged over, if anything was.
    pub(super) averaged: Vec<String>,
    /// What all of it has in common.
    pub(super) common: Vec<String>,
    /// What is not shown, and how to get it.
    pub(super) left_out: Vec<String>,
}
