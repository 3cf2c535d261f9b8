//! Rows in order of columns: `level`, or `-accuracy` for the largest first.

use std::cmp::Ordering;
use std::str::FromStr;

use super::{Table, TableError, Value};

/// A column that rows are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortBy {
    /// Name of the column.
    pub column: String,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl FromStr for SortBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, descending) = match text.trim().strip_prefix('-') {
            Some(column) => (column.trim(), true),
            None => (text.trim(), false),
        };
        match column.is_empty() {
            true => Err("expected `COLUMN`, or `-COLUMN` for the largest first".to_owned()),
            false => Ok(Self {
                column: column.to_owned(),
                descending,
            }),
        }
    }
}

impl SortBy {
    /// Missing values come last either way.
    fn order(&self, a: &Value, b: &Value) -> Ordering {
        match (a, b) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => Ordering::Greater,
            (_, Value::Null) => Ordering::Less,
            _ if self.descending => b.order(a),
            _ => a.order(b),
        }
    }
}

impl Table {
    /// The rows in order of the first column, those alike in it in order of the second, and so on; the rest as they
    /// stood. Missing values come last.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`].
    pub fn sorted(&self, by: &[SortBy]) -> Result<Table, TableError> {
        let columns = by.iter().map(|sort| self.column(&sort.column));
        let columns: Vec<&[Value]> = columns.collect::<Result<_, _>>()?;
        let mut rows: Vec<usize> = (0..self.height()).collect();
        rows.sort_by(|&a, &b| {
            let orders = by.iter().zip(&columns);
            let mut orders = orders.map(|(sort, values)| sort.order(&values[a], &values[b]));
            orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        });
        Ok(self.select(&rows))
    }
}
