//! Columns by the number of each value: tables have up to millions of rows, and few different values in a key.

use std::collections::{HashMap, HashSet};

use dynvis_runner::table::{DType, Role, Table, Value};

use super::scale::number;

/// A column whose values are numbered in the order in which they come.
struct Column {
    /// Of every row of the table; rows that do not count have 0.
    codes: Vec<u32>,
    /// What is said of each value.
    texts: Vec<String>,
    /// Each value where it is a number.
    numbers: Vec<Option<f64>>,
    /// The number of a value that is missing.
    missing: Option<u32>,
}

/// Columns of a table that tell rows apart.
pub(crate) struct Coded<'a>(HashMap<&'a str, Column>);

/// What two equal values have in common.
#[derive(PartialEq, Eq, Hash)]
enum Same<'a> {
    Nothing,
    Text(&'a str),
    Number(u64),
    Bool(bool),
}

impl<'a> Coded<'a> {
    /// The columns of a table but those of floats that are no keys, as far as these rows go.
    pub(crate) fn of(table: &'a Table, rows: &[usize]) -> Self {
        let columns = table
            .schema()
            .columns
            .iter()
            .filter(|column| column.role == Role::Key || column.dtype != DType::Float);
        Self(
            columns
                .map(|column| (column.name.as_str(), coded(table, &column.name, rows)))
                .collect(),
        )
    }

    /// Whether the rows have more than one value there.
    pub(crate) fn varies(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|column| column.texts.len() > 1)
    }

    /// A row's value in a column: text as it is, anything else with the column's name.
    pub(crate) fn said(&self, name: &str, row: usize) -> String {
        let text = self
            .0
            .get(name)
            .and_then(|column| column.texts.get(column.codes[row] as usize));
        text.cloned().unwrap_or_default()
    }

    /// Equal for rows that have the same values in these columns, and for no others.
    pub(crate) fn key(&self, row: usize, names: &[&str]) -> u128 {
        let columns = names.iter().filter_map(|name| self.0.get(*name));
        columns.fold(0, |key: u128, column| {
            key.wrapping_mul(column.texts.len().max(1) as u128)
                .wrapping_add(u128::from(column.codes[row]))
        })
    }

    /// How many different rows there are in these columns.
    pub(crate) fn distinct(&self, rows: &[usize], names: &[&str]) -> usize {
        rows.iter()
            .map(|row| self.key(*row, names))
            .collect::<HashSet<_>>()
            .len()
    }

    /// The largest number of different rows in some columns among those that are the same in others.
    pub(crate) fn most<'b>(&self, rows: &[usize], same: &[&str], different: impl Iterator<Item = &'b str>) -> usize {
        let different: Vec<&str> = different.collect();
        let mut seen: HashSet<(u128, u128)> = HashSet::new();
        let mut counts: HashMap<u128, usize> = HashMap::new();
        for &row in rows {
            let key = self.key(row, same);
            if seen.insert((key, self.key(row, &different))) {
                *counts.entry(key).or_default() += 1;
            }
        }
        counts.into_values().max().unwrap_or(0)
    }

    /// The texts of a column's values in ascending order, where all that are there are numbers.
    pub(crate) fn ordered(&self, name: &str) -> Vec<String> {
        let Some(column) = self.0.get(name) else {
            return Vec::new();
        };
        let texts = column.texts.iter().enumerate();
        let there = texts.filter(|(code, _)| Some(*code as u32) != column.missing);
        let all: Option<Vec<(f64, &String)>> = there.map(|(code, text)| Some((column.numbers[code]?, text))).collect();
        let mut all = all.unwrap_or_default();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, text)| text.clone()).collect()
    }
}

fn coded(table: &Table, name: &str, rows: &[usize]) -> Column {
    let values = table.column(name).unwrap_or_default();
    let unit = table
        .schema()
        .position(name)
        .and_then(|place| table.schema().columns[place].unit.as_deref());
    let unit = unit
        .filter(|unit| *unit != "1")
        .map_or_else(String::new, |unit| format!(" {unit}"));
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Null => format!("no {name}"),
        value => {
            let text = value.number().map_or_else(|| value.to_string(), number);
            format!("{} {text}{unit}", name.replace('_', " "))
        }
    };
    let mut known: HashMap<Same<'_>, u32> = HashMap::new();
    let mut column = Column {
        codes: vec![0; table.height()],
        texts: Vec::new(),
        numbers: Vec::new(),
        missing: None,
    };
    for &row in rows {
        let Some(value) = values.get(row) else { continue };
        let same = match value {
            Value::Null => Same::Nothing,
            Value::Text(text) => Same::Text(text),
            Value::Bool(value) => Same::Bool(*value),
            value => Same::Number((value.number().unwrap_or(f64::NAN) + 0.0).to_bits()),
        };
        let next = column.texts.len() as u32;
        let code = *known.entry(same).or_insert(next);
        if code == next {
            if *value == Value::Null {
                column.missing = Some(code);
            }
            column.texts.push(text(value));
            column.numbers.push(value.number());
        }
        column.codes[row] = code;
    }
    column
}
