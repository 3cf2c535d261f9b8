//! From the rows of a table to the values of curves, and from several values to one point with its band.

use std::collections::HashSet;

use cords::statistics::student;
use dynvis_runner::table::{Aggregate as Of, Table};
use indexmap::IndexMap;

use super::coded::Coded;
use super::content::Grouping;
use super::description::{Aggregate, Figure, Interval, Mark, Panel, Point, Spread};

/// Larger values are no measurements, and make no axis.
const LARGEST: f64 = 1e100;
/// Cells of all matrices of a figure.
const CELLS: usize = 6000;

/// Values that were measured under the same conditions.
pub(super) struct Group {
    pub(super) x: f64,
    /// Of a matrix the value of the row.
    pub(super) row: f64,
    pub(super) values: Vec<f64>,
    pub(super) interval: Option<[f64; 2]>,
}

/// Groups by their place on the axis, of one curve.
pub(super) struct Series<'a> {
    /// A row of the table that is part of it.
    pub(super) example: usize,
    /// Which of several values.
    pub(super) what: &'a str,
    pub(super) groups: IndexMap<u128, Group>,
    /// Places of rows without a value, by bits.
    pub(super) gaps: HashSet<u64>,
}

/// Values that become no points.
#[derive(Default)]
pub(super) struct Undrawn {
    pub(super) missing: usize,
    pub(super) not_on_axis: usize,
}

impl Figure<'_> {
    /// Panel -> curve -> values, in the order of the rows.
    #[expect(
        clippy::too_many_arguments,
        reason = "parts of one function, whose state is nobody else's"
    )]
    pub(super) fn series<'a>(
        &self,
        table: &Table,
        coded: &Coded<'_>,
        rows: &[usize],
        by: &Grouping<'_>,
        ys: &[(&'a str, &'a str)],
        left_out: &mut Vec<String>,
        undrawn: &mut Undrawn,
    ) -> IndexMap<u128, IndexMap<(u128, usize), Series<'a>>> {
        let mut panels: IndexMap<u128, IndexMap<(u128, usize), Series<'a>>> = IndexMap::new();
        let number = |column: &str, row: usize| {
            table
                .column(column)
                .ok()?
                .get(row)?
                .number()
                .filter(|n| n.abs() <= LARGEST)
        };
        let mut cells = HashSet::new();
        let curve_columns: Vec<&str> = by.identity.iter().copied().chain(by.style).collect();
        for &row in rows {
            let place = match self.mark {
                Mark::Forest => Some(0.0),
                _ => number(self.x, row),
            };
            let Some(x) = place else {
                undrawn.missing += 1;
                continue;
            };
            if self.is_log_x && x <= 0.0 && self.mark != Mark::Forest {
                undrawn.not_on_axis += 1;
                continue;
            }
            let own_row = if self.mark == Mark::Matrix {
                number(self.rows, row)
            } else {
                Some(0.0)
            };
            let Some(own_row) = own_row else {
                undrawn.missing += 1;
                continue;
            };
            let panel = coded.key(row, &by.facet);
            let curve = coded.key(row, &curve_columns);
            for (which, &(y, what)) in ys.iter().enumerate() {
                let value = number(y, row);
                let is_on_axis = value.is_none_or(|value| !self.is_log_y || value > 0.0);
                undrawn.missing += usize::from(value.is_none());
                undrawn.not_on_axis += usize::from(!is_on_axis);
                let value = value.filter(|_| is_on_axis);
                let spot = match self.mark {
                    Mark::Points => row as u128,
                    _ => (u128::from(x.to_bits()) << 64) | u128::from(own_row.to_bits()),
                };
                if self.mark == Mark::Matrix {
                    cells.insert((panel, spot));
                    if cells.len() > CELLS {
                        continue;
                    }
                }
                let series = panels
                    .entry(panel)
                    .or_default()
                    .entry((curve, which))
                    .or_insert_with(|| Series {
                        example: row,
                        what,
                        groups: IndexMap::new(),
                        gaps: HashSet::new(),
                    });
                let Some(value) = value else {
                    series.gaps.insert(x.to_bits());
                    continue;
                };
                let interval = || self.interval_of(table, row, value);
                let group = series.groups.entry(spot).or_insert_with(|| Group {
                    x,
                    row: own_row,
                    values: Vec::new(),
                    interval: None,
                });
                let best = group.values.first().copied();
                if !self.best_of.is_empty() && best.is_some_and(|best| best >= value) {
                    continue;
                }
                if !self.best_of.is_empty() {
                    group.values.clear();
                }
                group.values.push(value);
                group.interval = interval();
            }
        }
        if cells.len() > CELLS {
            left_out.push(format!("{} of {} cells", cells.len() - CELLS, cells.len()));
        }
        panels
    }

    /// Where the values of a group stand, with their spread where there are several.
    pub(super) fn point(&self, group: &Group) -> Point {
        let n = group.values.len();
        let (y, interval) = match n {
            0 | 1 => (group.values.first().copied().unwrap_or(f64::NAN), group.interval),
            _ => aggregated(&group.values, self.aggregate, self.spread),
        };
        Point {
            x: group.x,
            y,
            row: group.row,
            interval: interval.filter(|_| self.mark != Mark::Matrix),
            n,
        }
    }

    fn interval_of(&self, table: &Table, row: usize, value: f64) -> Option<[f64; 2]> {
        let number = |name: &str| table.column(name).ok()?[row].number().filter(|value| value.is_finite());
        match self.interval {
            Interval::None => None,
            Interval::Around(name, _) => number(name).map(|arm| [value - arm, value + arm]),
            Interval::Ends(low, high, _) => Some([number(low)?, number(high)?]),
        }
    }

    pub(super) fn interval_texts(&self, panels: &[Panel]) -> Vec<String> {
        let curves = || panels.iter().flat_map(|panel| &panel.curves);
        let points = || {
            curves()
                .flat_map(|curve| &curve.points)
                .filter(|point| point.interval.is_some())
        };
        let mut texts = Vec::new();
        if points().any(|point| point.n == 1) {
            match self.interval {
                Interval::None => {}
                Interval::Around(_, what) | Interval::Ends(.., what) => texts.push(what.to_owned()),
            }
        }
        if points().any(|point| point.n > 1) {
            texts.extend(spread_text(self.aggregate, self.spread));
        }
        if let [single, several] = texts.as_mut_slice() {
            *single = format!("of single rows {single}");
            *several = format!("of several {several}");
        }
        texts
    }
}

/// Several values as one, and what a band shows of them.
fn aggregated(values: &[f64], aggregate: Aggregate, spread: Spread) -> (f64, Option<[f64; 2]>) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let of = |what: Of| what.of(&sorted).unwrap_or(f64::NAN);
    let middle = match aggregate {
        Aggregate::Mean => of(Of::Mean),
        Aggregate::Median => of(Of::Median),
    };
    let around = |at: f64, arm: f64| Some([at - arm, at + arm]);
    let ends = match spread {
        Spread::StandardDeviation => around(middle, of(Of::Sd)),
        Spread::StandardError => around(middle, of(Of::Sem)),
        Spread::Confidence => around(of(Of::Mean), student(sorted.len() as f64 - 1.0) * of(Of::Sem)),
        Spread::Quartiles => Some([quantile(&sorted, 0.25), quantile(&sorted, 0.75)]),
        Spread::Range => Some([of(Of::Min), of(Of::Max)]),
        Spread::None => None,
    };
    (middle, ends)
}

/// A quantile of ascending values, linear between them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// What a band is, for the legend.
fn spread_text(aggregate: Aggregate, spread: Spread) -> Option<String> {
    let middle = match aggregate {
        Aggregate::Mean => "mean",
        Aggregate::Median => "median",
    };
    Some(match spread {
        Spread::StandardDeviation => format!("{middle} plus and minus one standard deviation"),
        Spread::StandardError => format!("{middle} plus and minus one standard error of the mean"),
        Spread::Confidence => "95 % interval of the mean (Student's t)".to_owned(),
        Spread::Quartiles => "from the lower to the upper quartile".to_owned(),
        Spread::Range => "from the smallest to the largest".to_owned(),
        Spread::None => return None,
    })
}
