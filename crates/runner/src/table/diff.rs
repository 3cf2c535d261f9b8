//! The keyed difference of two tables: which rows came, went or changed beyond their columns' tolerance, and, where
//! `seed` is a key, whether the means over seeds moved by more than the seeds' spread.
//!
//! Rows are matched by exact equality of their keys, wherever they stand. Computes only; `render_diff` makes text.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use statrs::function::beta::beta_reg;

use super::render::{printable, serialize_rows};
use super::schema::{ColumnSchema, Role, TableSchema, Tolerance};
use super::{Fields, Key, Table, TableError, Value};

/// The key column over whose values means are compared. A table of several networks may have two: `seed`, of its own
/// random numbers, and `models.seed`, of the networks. Networks trained anew are what a finding must hold for, so each
/// counts once there, with its mean over `seed`.
const SEED: &str = "seed";
/// How the name of another stage's seed ends.
const SEED_OF_INPUT: &str = ".seed";
/// Stands for a key where rows are matched by number.
const ROW: &str = "row number";
/// A change of means counts as larger than the spread below this two-sided p of Welch's test.
pub(super) const LEVEL: f64 = 0.05;

/// What differs between a first table `a` and a second `b`.
#[derive(Clone, Debug, Serialize)]
pub struct TableDiff {
    /// Columns that matched the rows; `row number` alone where the rows were matched by number.
    pub keys: Vec<String>,
    /// Rows that are in both, with no change beyond tolerance.
    pub equal: usize,
    /// Rows in both with at least one change beyond tolerance, in the order of `a`.
    pub changed: Vec<RowChange>,
    /// Rows of `b` whose keys `a` lacks.
    #[serde(serialize_with = "serialize_rows")]
    pub added: Table,
    /// Rows of `a` whose keys `b` lacks.
    #[serde(serialize_with = "serialize_rows")]
    pub removed: Table,
    /// Columns of `b` that `a` lacks.
    pub columns_added: Vec<String>,
    /// Columns of `a` that `b` lacks.
    pub columns_removed: Vec<String>,
    /// Columns of both that do not mean the same.
    pub columns_changed: Vec<ColumnChange>,
    /// Means over seeds (`seed` among the keys, or `models.seed` and the like), for each group of rows and each number
    /// column in which anything changed.
    pub seeds: Vec<SeedComparison>,
}

/// One row in which values changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowChange {
    /// Values of [`TableDiff::keys`].
    pub key: Fields,
    /// The values beyond tolerance; never empty.
    pub cells: Vec<CellChange>,
}

/// One changed value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellChange {
    /// Name of the column.
    pub column: String,
    /// Value in the first table.
    pub a: Value,
    /// Value in the second table.
    pub b: Value,
    /// `b - a` for two numbers.
    pub absolute: Option<f64>,
    /// `(b - a) / |a|` for two numbers, unless `a` is zero.
    pub relative: Option<f64>,
}

/// A column whose declaration differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnChange {
    /// Name of the column.
    pub column: String,
    /// `type` or `unit`.
    pub attribute: &'static str,
    /// Type or unit in the first table.
    pub a: String,
    /// Type or unit in the second table.
    pub b: String,
}

/// Mean and standard deviation (with n - 1) over the seeds of one table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Seeds with a value; at least 2.
    pub n: usize,
    /// Mean, in the column's unit.
    pub mean: f64,
    /// Standard deviation (with n - 1), in the column's unit.
    pub standard_deviation: f64,
}

/// Welch's t-test of two means with unequal variances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Welch {
    /// `(mean b - mean a) / standard error`.
    pub statistic: f64,
    /// Degrees of freedom of Welch and Satterthwaite.
    pub degrees_of_freedom: f64,
    /// Two-sided probability, from Student's t distribution.
    pub p: f64,
}

/// One column over the seeds of one group of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedComparison {
    /// The keys of the group without seeds.
    pub group: Fields,
    /// Name of the column.
    pub column: String,
    /// Seeds of the first table.
    pub a: Spread,
    /// Seeds of the second table.
    pub b: Spread,
    /// `None` where neither table has any spread.
    pub welch: Option<Welch>,
    /// Whether the means differ by more than the seeds' spread explains: Welch's two-sided p below 0.05, or two
    /// different means without any spread.
    pub exceeds_spread: bool,
}

impl TableDiff {
    /// A column's name with its unit, that of `a` if both tables have it.
    pub(super) fn heading(&self, column: &str) -> String {
        let schemas = [&self.removed.schema, &self.added.schema];
        let found = schemas
            .iter()
            .find_map(|schema| Some(&schema.columns[schema.position(column)?]));
        printable(&found.map_or_else(|| column.to_owned(), ColumnSchema::heading))
    }

    /// The number that changed most in relation to its size, and where: `accuracy 0.9 -> 0.5 (level=1)`.
    pub fn largest_change(&self) -> Option<String> {
        let cells = self
            .changed
            .iter()
            .flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
        let size = |cell: &CellChange| match (cell.relative, cell.absolute) {
            (Some(relative), _) => relative.abs(),
            (None, Some(_)) => f64::INFINITY,
            (None, None) => -1.0,
        };
        let (row, found) = cells.max_by(|(_, a), (_, b)| size(a).total_cmp(&size(b)))?;
        let (a, b) = (super::render::cell(&found.a), super::render::cell(&found.b));
        let place = printable(&row.key.to_string());
        Some(format!("{} {a} -> {b} ({place})", self.heading(&found.column)))
    }

    /// Whether nothing differs beyond tolerance.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
            && self.added.height() == 0
            && self.removed.height() == 0
            && self.columns_added.is_empty()
            && self.columns_removed.is_empty()
            && self.columns_changed.is_empty()
    }
}

/// Compares two tables by the key columns that both have.
///
/// A table whose roles were guessed follows the other's roles; tolerances are those of `a`, or of `b` where the roles
/// of `a` were guessed. Two tables with guessed roles whose keys do not identify rows are matched by row number.
///
/// # Errors
/// [`TableError::Ambiguous`] if the common keys do not identify the rows.
pub fn diff(a: &Table, b: &Table) -> Result<TableDiff, TableError> {
    let mut keys = common_keys(a, b);
    let (index_a, index_b) = match (a.index(&places(a, &keys)), b.index(&places(b, &keys))) {
        (Ok(of_a), Ok(of_b)) => (of_a, of_b),
        _ if a.inferred && b.inferred => {
            keys = vec![ROW.to_owned()];
            (rows_by_number(a), rows_by_number(b))
        }
        (Err(rows), _) => return Err(ambiguous(a, &keys, rows)),
        (_, Err(rows)) => return Err(ambiguous(b, &keys, rows)),
    };
    let mut shared: Vec<Shared> = Vec::new();
    for (in_a, column) in a.schema.columns.iter().enumerate() {
        let name = &column.name;
        let (Some(in_b), false) = (b.schema.position(name), keys.contains(name)) else {
            continue;
        };
        let number = column.dtype.is_number() && b.schema.columns[in_b].dtype.is_number();
        let tolerance = if a.inferred {
            b.schema.columns[in_b].tolerance
        } else {
            column.tolerance
        };
        shared.push(Shared {
            name: name.clone(),
            in_a,
            in_b,
            tolerance,
            number,
        });
    }

    let (mut changed, mut removed, mut equal) = (Vec::new(), Vec::new(), 0);
    for (key, row_a) in in_row_order(&index_a) {
        let Some(&row_b) = index_b.get(key) else {
            removed.push(row_a);
            continue;
        };
        let compare = |column: &Shared| column.compare(&a.columns[column.in_a][row_a], &b.columns[column.in_b][row_b]);
        let cells: Vec<CellChange> = shared.iter().filter_map(compare).collect();
        if cells.is_empty() {
            equal += 1;
        } else {
            changed.push(RowChange {
                key: named(&keys, key),
                cells,
            });
        }
    }
    let rows_b = in_row_order(&index_b).into_iter();
    let added: Vec<usize> = rows_b
        .filter(|(key, _)| !index_a.contains_key(key))
        .map(|(_, row)| row)
        .collect();

    let missing_in = |from: &TableSchema, other: &TableSchema| -> Vec<String> {
        let names = from.columns.iter().map(|column| column.name.clone());
        names.filter(|name| other.position(name).is_none()).collect()
    };
    let mut diff = TableDiff {
        equal,
        changed,
        added: b.select(&added),
        removed: a.select(&removed),
        columns_added: missing_in(&b.schema, &a.schema),
        columns_removed: missing_in(&a.schema, &b.schema),
        columns_changed: columns_changed(a, b),
        seeds: Vec::new(),
        keys,
    };
    let seeds = Seeds::among(&diff.keys);
    if !seeds.replicates.is_empty() {
        diff.seeds = seeds.compare(a, b, &diff, &shared);
    }
    Ok(diff)
}

/// A value column of both tables.
struct Shared {
    name: String,
    in_a: usize,
    in_b: usize,
    tolerance: Tolerance,
    number: bool,
}

impl Shared {
    /// The change from `a` to `b`, if it is beyond tolerance.
    fn compare(&self, a: &Value, b: &Value) -> Option<CellChange> {
        if a == b {
            return None;
        }
        let change = |absolute, relative| {
            Some(CellChange {
                column: self.name.clone(),
                a: a.clone(),
                b: b.clone(),
                absolute,
                relative,
            })
        };
        let (Some(x), Some(y)) = (a.number(), b.number()) else {
            return change(None, None);
        };
        let absolute = match (a, b) {
            // Exact for integers that floats cannot tell apart.
            (Value::Int(a), Value::Int(b)) => (i128::from(*b) - i128::from(*a)) as f64,
            _ => y - x,
        };
        // An infinity differs from everything but itself, whatever the tolerance.
        if absolute.is_finite() && absolute.abs() <= self.tolerance.absolute + self.tolerance.relative * x.abs() {
            return None;
        }
        change(Some(absolute), (x != 0.0).then(|| absolute / x.abs()))
    }
}

/// Columns that both tables have and that are keys of either, guessed roles counting only if both are guessed.
pub(super) fn common_keys(a: &Table, b: &Table) -> Vec<String> {
    let key_of = |table: &Table, other: &Table, name: &str| {
        let role = table
            .schema
            .position(name)
            .map(|place| table.schema.columns[place].role);
        (!table.inferred || other.inferred) && role == Some(Role::Key)
    };
    let names = a.schema.columns.iter().map(|column| &column.name);
    let common = names.filter(|name| b.schema.position(name).is_some());
    common
        .filter(|name| key_of(a, b, name) || key_of(b, a, name))
        .cloned()
        .collect()
}

fn places(table: &Table, names: &[String]) -> Vec<usize> {
    names.iter().filter_map(|name| table.schema.position(name)).collect()
}

fn named(names: &[String], key: &Key) -> Fields {
    Fields(names.iter().cloned().zip(key.0.iter().cloned()).collect())
}

fn rows_by_number(table: &Table) -> BTreeMap<Key, usize> {
    (0..table.height()).map(|row| (Key(vec![row.into()]), row)).collect()
}

fn in_row_order(index: &BTreeMap<Key, usize>) -> Vec<(&Key, usize)> {
    let mut rows: Vec<(&Key, usize)> = index.iter().map(|(key, row)| (key, *row)).collect();
    rows.sort_by_key(|(_, row)| *row);
    rows
}

fn ambiguous(table: &Table, keys: &[String], (first, second): (usize, usize)) -> TableError {
    let key = table.fields(second, &places(table, keys));
    TableError::Ambiguous {
        table: table.schema.name.clone(),
        first,
        second,
        key,
    }
}

fn columns_changed(a: &Table, b: &Table) -> Vec<ColumnChange> {
    let mut changes = Vec::new();
    let guessed = a.inferred || b.inferred;
    for of_a in &a.schema.columns {
        let Some(of_b) = b.schema.position(&of_a.name).map(|place| &b.schema.columns[place]) else {
            continue;
        };
        let mut note = |attribute, a: String, b: String| {
            changes.push(ColumnChange {
                column: of_a.name.clone(),
                attribute,
                a,
                b,
            });
        };
        // A CSV file may show a column of floats as integers.
        let same = of_a.dtype == of_b.dtype || guessed && of_a.dtype.is_number() && of_b.dtype.is_number();
        if !same {
            note("type", of_a.dtype.to_string(), of_b.dtype.to_string());
        }
        if !guessed && of_a.unit != of_b.unit {
            let unit = |unit: &Option<String>| unit.clone().unwrap_or_else(|| "none".to_owned());
            note("unit", unit(&of_a.unit), unit(&of_b.unit));
        }
    }
    changes
}

/// Rows of each group of keys without the seed.
fn groups(table: &Table, names: &[String]) -> BTreeMap<Key, Vec<usize>> {
    let places = places(table, names);
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for row in 0..table.height() {
        groups.entry(table.key(row, &places)).or_default().push(row);
    }
    groups
}

/// What key columns are to a comparison over seeds.
pub(super) struct Seeds {
    /// Those whose values tell one replicate from another.
    pub(super) replicates: Vec<String>,
    /// `seed`, where it only tells rows of one replicate apart.
    pub(super) averaged: &'static str,
    /// Everything that is no seed.
    groups: Vec<String>,
}

impl Seeds {
    pub(super) fn among(keys: &[String]) -> Self {
        let named = |is_replicate: &dyn Fn(&String) -> bool| -> Vec<String> {
            keys.iter().filter(|key| is_replicate(key)).cloned().collect()
        };
        let of_inputs = named(&|key| key.ends_with(SEED_OF_INPUT));
        let has_own = keys.iter().any(|key| key == SEED);
        Self {
            averaged: if has_own && !of_inputs.is_empty() { SEED } else { "" },
            replicates: match of_inputs.is_empty() {
                true => named(&|key| key == SEED),
                false => of_inputs,
            },
            groups: named(&|key| key != SEED && !key.ends_with(SEED_OF_INPUT)),
        }
    }

    fn compare(&self, a: &Table, b: &Table, diff: &TableDiff, shared: &[Shared]) -> Vec<SeedComparison> {
        let mut touched: BTreeSet<(Key, &str)> = BTreeSet::new();
        for row in &diff.changed {
            let fields = row.key.0.iter().filter(|(name, _)| self.groups.contains(name));
            let group = Key(fields.map(|(_, value)| value.clone()).collect());
            touched.extend(row.cells.iter().map(|cell| (group.clone(), cell.column.as_str())));
        }
        let (added, removed) = (groups(&diff.added, &self.groups), groups(&diff.removed, &self.groups));
        let groups_b = groups(b, &self.groups);
        let mut comparisons = Vec::new();
        for (group, rows_a) in groups(a, &self.groups) {
            let Some(rows_b) = groups_b.get(&group) else { continue };
            let other_seeds = added.contains_key(&group) || removed.contains_key(&group);
            for column in shared.iter().filter(|column| column.number) {
                if !other_seeds && !touched.contains(&(group.clone(), column.name.as_str())) {
                    continue;
                }
                let spreads = (
                    self.spread(a, column.in_a, &rows_a),
                    self.spread(b, column.in_b, rows_b),
                );
                let (Some(a), Some(b)) = spreads else { continue };
                let welch = welch(&a, &b);
                let exceeds_spread = welch.map_or(a.mean != b.mean, |welch| welch.p < LEVEL);
                let (group, column) = (named(&self.groups, &group), column.name.clone());
                comparisons.push(SeedComparison {
                    group,
                    column,
                    a,
                    b,
                    welch,
                    exceeds_spread,
                });
            }
        }
        comparisons
    }

    /// Mean and standard deviation over replicates, each with the mean of its finite numbers; `None` below two of them.
    fn spread(&self, table: &Table, column: usize, rows: &[usize]) -> Option<Spread> {
        let places = places(table, &self.replicates);
        let mut replicates: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
        for &row in rows {
            let number = table.columns[column][row].number();
            if let Some(value) = number.filter(|value| value.is_finite()) {
                replicates.entry(table.key(row, &places)).or_default().push(value);
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let means: Vec<f64> = replicates.values().map(|values| mean(values)).collect();
        if means.len() < 2 {
            return None;
        }
        let over_all = mean(&means);
        let squares: f64 = means.iter().map(|value| (value - over_all).powi(2)).sum();
        Some(Spread {
            n: means.len(),
            mean: over_all,
            standard_deviation: (squares / (means.len() as f64 - 1.0)).sqrt(),
        })
    }
}

/// Welch (1947): t = (mb - ma) / sqrt(sa²/na + sb²/nb), with the degrees of freedom of Welch and Satterthwaite.
/// `None` without any spread, where t has no value.
fn welch(a: &Spread, b: &Spread) -> Option<Welch> {
    let of_mean = |spread: &Spread| spread.standard_deviation.powi(2) / spread.n as f64;
    let (va, vb) = (of_mean(a), of_mean(b));
    let variance = va + vb;
    if variance <= 0.0 || !variance.is_finite() {
        return None;
    }
    let statistic = (b.mean - a.mean) / variance.sqrt();
    // Shares of the variance rather than its squares, which would underflow for tiny spreads.
    let part = |v: f64, n: usize| (v / variance).powi(2) / (n as f64 - 1.0);
    let degrees_of_freedom = 1.0 / (part(va, a.n) + part(vb, b.n));
    // P(|T| > |t|) = I_x(df/2, 1/2) with x = df / (df + t²); no difference of nearly equal numbers in the tail.
    let x = degrees_of_freedom / (degrees_of_freedom + statistic.powi(2));
    let p = beta_reg(degrees_of_freedom / 2.0, 0.5, x);
    Some(Welch {
        statistic,
        degrees_of_freedom,
        p,
    })
}
