//! From a table and a figure's description to curves: a pure function.
//!
//! Which rows make one curve follows from the table's key columns: those that are neither on the horizontal axis, nor a
//! panel each, nor averaged over. So a figure of a sweep tells its members apart without naming their matrix fields.

use std::collections::HashSet;

use dynvis_runner::table::{Role, Table, Value};
use indexmap::IndexMap;

use super::coded::Coded;
use super::description::{Across, Content, Curve, Figure, Guide, Mark, Only, Paint, Palette, Panel, Point};
use super::points::{Series, Undrawn};

/// Curves that are told apart in one panel.
const CURVES: usize = 6;
/// Panels of a figure.
const PANELS: usize = 60;
/// Points of a curve.
const POINTS: usize = 500;
/// Points of a scatter plot in one panel.
const SCATTER: usize = 1500;
/// Rows of a forest plot in one panel.
const FOREST: usize = 40;

/// Which columns make panels, colours and styles.
pub(super) struct Grouping<'a> {
    pub(super) facet: Vec<&'a str>,
    pub(super) identity: Vec<&'a str>,
    pub(super) style: Option<&'a str>,
}

impl Figure<'_> {
    /// What the figure shows of a table; none where the table lacks its columns, or has nothing to show. `runs`:
    /// whether the table is of two runs, told apart by its column `run`.
    pub(crate) fn content(&self, table: &Table, runs: bool, palette: &mut Palette) -> Option<Content> {
        let has = |name: &str| table.schema().position(name).is_some();
        let ys: Vec<_> = self.y.iter().filter(|(name, _)| has(name)).copied().collect();
        let (first_y, _) = *ys.first()?;
        if (self.mark != Mark::Forest && !has(self.x)) || (self.mark == Mark::Matrix && !has(self.rows)) {
            return None;
        }
        let rows = self.rows_of(table)?;
        let coded = Coded::of(table, &rows);
        let style = if runs { "run" } else { self.style };
        let keys: Vec<&str> = table
            .schema()
            .columns
            .iter()
            .filter(|column| column.role == Role::Key || self.names(&column.name))
            .map(|column| column.name.as_str())
            .filter(|name| ![self.x, self.rows].contains(name) && !self.best_of.contains(name) && !self.is_over(name))
            // Of files without roles whole numbers are taken for keys.
            .filter(|name| !self.y.iter().any(|(y, _)| y == name))
            .collect();
        let shown: Vec<&str> = keys.iter().copied().filter(|name| coded.varies(name)).collect();
        let first_row = *rows.first()?;
        let fixed = keys
            .iter()
            .filter(|name| self.facet.contains(name) && !coded.varies(name));
        let common = fixed.map(|name| coded.said(name, first_row)).collect();
        let mut left_out = Vec::new();
        let by = self.grouping(&coded, &rows, &shown, style, ys.len(), runs);
        let mut undrawn = Undrawn::default();
        let series = self.series(table, &coded, &rows, &by, &ys, &mut left_out, &mut undrawn);
        let mut panels = self.panels(table, &coded, &rows, &by, series, palette, &mut left_out);
        if panels.len() > PANELS {
            left_out.push(format!("{} of {} panels", panels.len() - PANELS, panels.len()));
            panels.truncate(PANELS);
        }
        if panels.is_empty() {
            return None;
        }
        let names = table.schema().columns.iter().map(|column| column.name.as_str());
        let over = names.filter(|name| self.mark != Mark::Points && self.is_over(name) && coded.varies(name));
        let (horizontal, vertical) = match self.mark {
            // Values lie on the horizontal axis, and names beside the vertical one.
            Mark::Forest => (label(table, first_y, self.y_label), String::new()),
            Mark::Matrix => (
                label(table, self.x, self.x_label),
                label(table, self.rows, self.y_label),
            ),
            _ => (label(table, self.x, self.x_label), label(table, first_y, self.y_label)),
        };
        let is_aggregated = panels
            .iter()
            .flat_map(|panel| &panel.curves)
            .any(|curve| curve.points.iter().any(|point| point.n > 1));
        let points = panels
            .iter()
            .flat_map(|panel| &panel.curves)
            .flat_map(|curve| &curve.points);
        let is_beyond = |value: f64| self.y_range.is_some_and(|[low, high]| value < low || value > high);
        let beyond = points.filter(|point| is_beyond(point.y)).count();
        Some(Content {
            x_label: horizontal,
            y_label: vertical,
            value_label: match self.mark {
                Mark::Matrix => label(table, first_y, ""),
                _ => String::new(),
            },
            missing: undrawn.missing,
            not_on_axis: undrawn.not_on_axis,
            beyond,
            intervals: self.interval_texts(&panels),
            over: over
                .filter(|_| is_aggregated)
                .map(|name| name.replace('_', " "))
                .collect(),
            common,
            left_out,
            panels,
        })
    }

    /// Whether the description tells panels or curves apart by a column.
    fn names(&self, column: &str) -> bool {
        self.facet.contains(&column) || self.colour.contains(&column) || self.style == column
    }

    /// Whether a key column tells no curves apart: rows are aggregated over it, or its points are of one cloud.
    fn is_over(&self, name: &str) -> bool {
        let is_seed = name == "seed" || name == "trial" || name.ends_with(".seed");
        let has_part = [self.x, self.rows].contains(&name) || self.names(name);
        self.over.contains(&name) || (is_seed && !has_part)
    }

    /// Key columns that vary among the rows and have no part in the figure, where it says which columns have.
    pub(crate) fn untold(&self, table: &Table) -> Vec<String> {
        let Some(rows) = self.rows_of(table) else {
            return Vec::new();
        };
        let coded = Coded::of(table, &rows);
        let has_part = |name: &str| {
            [self.x, self.rows].contains(&name)
                || self.names(name)
                || self.best_of.contains(&name)
                || self.is_over(name)
        };
        let columns = || table.schema().columns.iter().map(|column| column.name.as_str());
        let parts: Vec<&str> = columns().filter(|name| has_part(name)).collect();
        let apart = coded.distinct(&rows, &parts);
        // A column in step with others tells nothing more apart.
        let tells_more = |name: &str| {
            let with: Vec<&str> = parts.iter().copied().chain([name]).collect();
            coded.distinct(&rows, &with) > apart
        };
        let keys = table.schema().columns.iter().filter(|column| column.role == Role::Key);
        keys.map(|column| &column.name)
            .filter(|name| !has_part(name) && !self.y.iter().any(|(y, _)| y == name) && tells_more(name))
            .cloned()
            .collect()
    }

    /// Panels, colours and styles for these columns. More curves than can be told apart become a panel for each value
    /// of one column more.
    fn grouping<'a>(
        &self,
        coded: &Coded<'_>,
        rows: &[usize],
        shown: &[&'a str],
        style: &'a str,
        ys: usize,
        runs: bool,
    ) -> Grouping<'a> {
        let mut facet: Vec<&str> = shown.iter().copied().filter(|name| self.facet.contains(name)).collect();
        let rest = shown
            .iter()
            .copied()
            .filter(|name| !facet.contains(name) && *name != style)
            .filter(|name| self.colour.is_empty() || self.colour.contains(name));
        let mut identity: Vec<&str> = rest.collect();
        // Where a network's name tells curves apart, its stage's name need not.
        let all = coded.distinct(rows, shown);
        for column in identity.clone() {
            let fewer: Vec<&str> = identity.iter().copied().filter(|name| *name != column).collect();
            let columns: Vec<&str> = fewer
                .iter()
                .chain(&facet)
                .copied()
                .chain(shown.contains(&style).then_some(style))
                .collect();
            let may_go = column != "network" && self.colour.is_empty();
            if may_go && identity.len() > 1 && coded.distinct(rows, &columns) == all {
                identity = fewer;
            }
        }
        let mut style = Some(style).filter(|style| shown.contains(style));
        if self.mark == Mark::Matrix {
            facet.append(&mut identity);
            facet.extend(style.take());
        }
        let capacity = if self.mark == Mark::Forest { FOREST } else { CURVES };
        while coded.most(rows, &facet, identity.iter().copied().chain(style)) * ys > capacity {
            let candidates: Vec<&str> = identity.iter().copied().chain(style.filter(|_| !runs)).collect();
            // By its only key each curve would stand alone: panels of six are better.
            if identity.len() + usize::from(style.is_some()) < 2 {
                break;
            }
            // Few panels where that is enough, else few curves in a panel.
            let cost = |name: &&str| {
                let with: Vec<&str> = facet.iter().copied().chain([*name]).collect();
                let without = identity.iter().copied().chain(style).filter(|other| other != name);
                let curves = coded.most(rows, &with, without) * ys;
                match curves > capacity {
                    true => (true, curves),
                    false => (false, coded.distinct(rows, &with)),
                }
            };
            let Some(best) = candidates.iter().copied().min_by_key(cost) else {
                break;
            };
            facet.push(best);
            identity.retain(|name| *name != best);
            style = style.filter(|name| *name != best);
        }
        Grouping { facet, identity, style }
    }

    /// Numbers of the rows that are shown; none where a column is lacking.
    fn rows_of(&self, table: &Table) -> Option<Vec<usize>> {
        let mut rows: Vec<usize> = (0..table.height()).collect();
        for only in self.only {
            let (Only::Is(name, _) | Only::IsNot(name, _) | Only::LowestAboveZero(name) | Only::Missing(name)) = only;
            let values = table.column(name).ok()?;
            let numbers = values.iter().filter_map(Value::number).filter(|value| *value > 0.0);
            let lowest = numbers.fold(f64::INFINITY, f64::min);
            let is = |row: usize, text: &str| matches!(&values[row], Value::Text(own) if own == text);
            rows.retain(|&row| match only {
                Only::Is(_, text) => is(row, text),
                Only::IsNot(_, text) => !is(row, text),
                Only::LowestAboveZero(_) => values[row].number() == Some(lowest),
                Only::Missing(_) => values[row] == Value::Null,
            });
        }
        Some(rows)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "parts of one function, whose state is nobody else's"
    )]
    fn panels(
        &self,
        table: &Table,
        coded: &Coded<'_>,
        rows: &[usize],
        by: &Grouping<'_>,
        series: IndexMap<u128, IndexMap<(u128, usize), Series<'_>>>,
        palette: &mut Palette,
        left_out: &mut Vec<String>,
    ) -> Vec<Panel> {
        let said = |row: usize, columns: &[&str]| -> String {
            let parts: Vec<String> = columns.iter().map(|name| coded.said(name, row)).collect();
            parts.join(", ")
        };
        let ordered = match by.identity.as_slice() {
            [name] => coded.ordered(name),
            _ => Vec::new(),
        };
        let mut styles: Vec<String> = Vec::new();
        let mut most_points = 0;
        let limit = if self.mark == Mark::Points { SCATTER } else { POINTS };
        let mut out = Vec::new();
        for curves in series.into_values() {
            let Some(example) = curves.values().next().map(|series| series.example) else {
                continue;
            };
            let title = said(example, &by.facet);
            let mut of_panel: Vec<Curve> = Vec::new();
            for series in curves.into_values() {
                let name = said(series.example, &by.identity);
                let paint = match ordered.iter().position(|value| *value == name) {
                    Some(place) => Paint::Ordered(place as f64 / (ordered.len().max(2) - 1) as f64),
                    None if name.is_empty() => Paint::Category(0),
                    // Names stand beside the rows: the colour is the network's.
                    None if self.mark == Mark::Forest && by.identity.contains(&"network") => {
                        palette.of(&coded.said("network", series.example))
                    }
                    None => palette.of(&name),
                };
                let style = by
                    .style
                    .map_or_else(String::new, |column| coded.said(column, series.example));
                let what = series.what.replace('_', " ");
                let style = joined([style.as_str(), &what]);
                let number_of_style = styles.iter().position(|known| *known == style).unwrap_or_else(|| {
                    styles.push(style.clone());
                    styles.len() - 1
                });
                // Where another row of the same place has a value there is no gap.
                let values: HashSet<u64> = series.groups.values().map(|group| group.x.to_bits()).collect();
                let gaps = series.gaps.difference(&values).map(|gap| f64::from_bits(*gap));
                let mut gaps: Vec<f64> = gaps.collect();
                gaps.sort_by(f64::total_cmp);
                let mut points: Vec<Point> = series.groups.into_values().map(|group| self.point(&group)).collect();
                if self.mark == Mark::Lines {
                    points.sort_by(|a, b| a.x.total_cmp(&b.x));
                }
                let mut breaks = breaks(&points, &gaps);
                if points.len() > limit && self.mark != Mark::Matrix {
                    most_points = most_points.max(points.len());
                    let every = points.len().div_ceil(limit);
                    points = points.into_iter().step_by(every).collect();
                    // Between points far apart, a gap or two say nothing.
                    breaks.clear();
                }
                of_panel.push(Curve {
                    label: joined([&name, &style]),
                    paint,
                    style: number_of_style,
                    points,
                    breaks,
                });
            }
            // Curves without a single value are none.
            of_panel.retain(|curve| !curve.points.is_empty());
            if of_panel.is_empty() {
                continue;
            }
            let place = |curve: &Curve| match curve.paint {
                Paint::Ordered(place) => place,
                Paint::Category(_) | Paint::Neutral => 0.0,
            };
            of_panel.sort_by(|a, b| place(a).total_cmp(&place(b)));
            let guides = self.guides_of(table, coded, rows, &by.facet, example);
            let chunk = if self.mark == Mark::Forest { FOREST } else { CURVES };
            let parts = of_panel.len().div_ceil(chunk);
            for (part, curves) in of_panel.chunks(chunk).enumerate() {
                let of_parts = if parts > 1 {
                    format!("{} of {parts}", part + 1)
                } else {
                    String::new()
                };
                out.push(Panel {
                    title: joined([title.as_str(), of_parts.as_str()]),
                    curves: curves.to_vec(),
                    guides: guides.clone(),
                });
            }
        }
        if self.mark == Mark::Forest && out.iter().all(|panel| panel.curves.len() <= FOREST) {
            let mut labels: Vec<String> = Vec::new();
            for curve in out.iter().flat_map(|panel| &panel.curves) {
                if !labels.contains(&curve.label) {
                    labels.push(curve.label.clone());
                }
            }
            for panel in &mut out {
                panel
                    .curves
                    .sort_by_key(|curve| labels.iter().position(|label| *label == curve.label));
            }
        }
        if most_points > 0 {
            left_out.push(format!(
                "points: curves have up to {most_points}, and about {limit} of each are drawn, evenly chosen"
            ));
        }
        out
    }

    /// Lines across the panel that a row is part of.
    fn guides_of(
        &self,
        table: &Table,
        coded: &Coded<'_>,
        rows: &[usize],
        facet: &[&str],
        example: usize,
    ) -> Vec<Across> {
        let panel = coded.key(example, facet);
        let place = |guide: &Guide<'_>| match guide {
            Guide::Horizontal(at, _) | Guide::Vertical(at, _) => Some(*at),
            Guide::Column(name, _) => {
                let values = table.column(name).ok()?;
                let own = rows.iter().filter(|row| coded.key(**row, facet) == panel);
                let own = own.filter_map(|row| values[*row].number());
                let (sum, count) = own.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
                (count > 0.0).then_some(sum / count)
            }
        };
        let across = |guide: &Guide<'_>| {
            let (Guide::Horizontal(_, name) | Guide::Vertical(_, name) | Guide::Column(_, name)) = *guide;
            Some(Across {
                is_vertical: matches!(guide, Guide::Vertical(..)),
                at: place(guide)?,
                name: name.to_owned(),
            })
        };
        self.guides.iter().filter_map(across).collect()
    }
}

/// Places of points before which a curve is broken: of ascending points and gaps, those with a gap before them.
fn breaks(points: &[Point], gaps: &[f64]) -> Vec<usize> {
    let before = |x: f64| gaps.partition_point(|gap| *gap < x);
    let places = 1..points.len();
    places
        .filter(|&place| before(points[place].x) > before(points[place - 1].x))
        .collect()
}

/// What stands at an axis: what the description says, else the column's heading.
fn label(table: &Table, column: &str, given: &str) -> String {
    let heading = || {
        let place = table.schema().position(column)?;
        Some(table.schema().columns[place].heading().replace('_', " "))
    };
    match given {
        "" => heading().unwrap_or_default(),
        given => given.to_owned(),
    }
}

fn joined(parts: [&str; 2]) -> String {
    let filled: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    filled.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::kinds::FIGURES;
    use dynvis_runner::table::{DType, TableSchema, TableWriter};

    /// A table like `noise/summary` of so many networks, seeds and views.
    fn table(networks: usize, seeds: usize, views: usize) -> Table {
        let schema = TableSchema::new("summary", "")
            .key("models", DType::Text, "")
            .key("seed", DType::Int, "")
            .key("network", DType::Text, "")
            .key("view", DType::Text, "")
            .key("noise", DType::Text, "")
            .key("level", DType::Float, "")
            .value("accuracy", DType::Float, "")
            .value("deviation", DType::Float, "")
            .allow_missing();
        let mut writer = TableWriter::new(schema).expect("a schema");
        for network in 0..networks {
            for seed in 0..seeds {
                for view in 0..views {
                    // The highest level first.
                    for level in [1.0, 0.0] {
                        let row = [
                            Value::from(format!("stage{network}")),
                            Value::from(seed),
                            Value::from(format!("R{network}")),
                            Value::from(format!("view{view}")),
                            Value::from("gaussian"),
                            Value::Float(level),
                            Value::Float(0.5 + 0.1 * seed as f64),
                            Value::Float(0.02),
                        ];
                        writer.push_row(row).expect("a row");
                    }
                }
            }
        }
        writer.finish().expect("a table")
    }

    fn accuracy() -> &'static Figure<'static> {
        FIGURES
            .iter()
            .find(|figure| (figure.kind, figure.table) == ("noise", "summary"))
            .expect("the figure")
    }

    #[test]
    fn curves_ascend_and_have_the_tables_intervals() {
        let content = accuracy().content(&table(2, 1, 1), false, &mut Palette::default());
        let content = content.expect("something to show");
        assert_eq!(content.common, ["gaussian"]);
        let [panel] = content.panels.as_slice() else {
            panic!("{} panels", content.panels.len());
        };
        let labels: Vec<&str> = panel.curves.iter().map(|curve| curve.label.as_str()).collect();
        assert_eq!(labels, ["R0", "R1"], "stages say no more than networks");
        let points = &panel.curves[0].points;
        assert_eq!([points[0].x, points[1].x], [0.0, 1.0]);
        assert_eq!(points[0].interval, Some([0.48, 0.52]));
        assert_eq!(content.intervals.len(), 1);
    }

    #[test]
    fn the_mean_is_taken_over_seeds() {
        let content = accuracy().content(&table(1, 3, 1), false, &mut Palette::default());
        let content = content.expect("something to show");
        let point = &content.panels[0].curves[0].points[0];
        assert_eq!(point.n, 3);
        assert!((point.y - 0.6).abs() < 1e-12);
        let [low, high] = point.interval.expect("a standard deviation");
        assert!((low - 0.5).abs() < 1e-12 && (high - 0.7).abs() < 1e-12, "{low} {high}");
        assert_eq!(content.over, ["seed"]);
    }

    #[test]
    fn a_panel_has_six_curves_at_most_and_networks_keep_their_colours() {
        let mut palette = Palette::default();
        let few = accuracy()
            .content(&table(3, 1, 2), false, &mut palette)
            .expect("a figure");
        assert_eq!(few.panels.len(), 1);
        let many = accuracy()
            .content(&table(5, 1, 3), false, &mut palette)
            .expect("a figure");
        assert_eq!(many.panels.len(), 3, "a panel for each view");
        let most = accuracy()
            .content(&table(20, 1, 1), false, &mut palette)
            .expect("a figure");
        let all = [&few, &many, &most];
        for panel in all.iter().flat_map(|content| &content.panels) {
            assert!((1..=CURVES).contains(&panel.curves.len()), "{}", panel.curves.len());
        }
        let colours = |content: &Content, name: &str| {
            let curves = content.panels.iter().flat_map(|panel| &panel.curves);
            let own = curves.filter(|curve| curve.label.starts_with(name));
            own.map(|curve| format!("{:?}", curve.paint)).collect::<HashSet<_>>()
        };
        for name in ["R0", "R1", "R2"] {
            assert_eq!(colours(&few, name), colours(&many, name), "{name}");
            assert_eq!(colours(&few, name).len(), 1, "{name}");
        }
        assert_eq!(most.panels.len(), 4, "six in a panel");
        assert_eq!(most.panels.iter().map(|panel| panel.curves.len()).sum::<usize>(), 20);
    }

    #[test]
    fn a_table_without_the_columns_makes_no_figure() {
        let schema = TableSchema::new("summary", "").key("level", DType::Float, "");
        let empty = TableWriter::new(schema).expect("a schema").finish().expect("a table");
        assert!(accuracy().content(&empty, false, &mut Palette::default()).is_none());
        assert!(
            accuracy()
                .content(&table(0, 0, 0), false, &mut Palette::default())
                .is_none()
        );
    }
}
