//! Result tables: typed columns with keys, units and tolerances, their Parquet files, keyed differences and rendering.
//!
//! Knows nothing of stages or of the terminal: every function returns a value, text or bytes. A [`Table`] that exists
//! is valid: its values fit its schema, and its key columns identify each row (unless its roles were only inferred).
//!
//! A file carries its own description, in the Parquet metadata. A description in a second file would be lost with the
//! first copy; CSV alone has neither types nor tolerances, so `diff` could not tell a change from noise. In memory a
//! table is plain vectors of [`Value`], and polars is kept to the edge (`file`): its frames would be faster on
//! millions of rows, which results do not have, and would bring its types and panics into every comparison. What else
//! was considered for differences stands in `docs/design/diff.md`.

mod aggregate;
mod csv;
mod data;
mod diff;
mod file;
mod filter;
mod npy;
mod render;
mod render_diff;
mod row;
mod schema;
mod set_aside;
mod sort;

use std::cmp::Ordering;
use std::fmt;
use std::path::PathBuf;

use dynvis_base::{Classified, ErrorKind};
use serde::{Serialize, Serializer};

pub use aggregate::{Aggregate, Grouped, Grouping};
pub use data::{SlotLabel, Table, TableWriter, value_of_field};
pub use diff::{TableDiff, diff};
pub use dynvis_derive::Row;
pub use filter::Condition;
pub use render::{Format, RenderOptions, render, significant};
pub use render_diff::{DiffFormat, render_diff};
pub use row::{Cell, Row, TableRow};
pub use schema::{DType, Role, TableSchema};
pub use set_aside::{SetAside, set_aside};
pub use sort::SortBy;

/// One cell. Tables written here hold finite floats only; a file from elsewhere may bring infinities, never NaN.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A number in the column's unit.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// No value.
    Null,
}

impl Value {
    /// A number that may be missing.
    pub fn optional(value: Option<f64>) -> Self {
        value.map_or(Self::Null, Self::Float)
    }

    /// A number that may be missing, and is where it has diverged.
    pub fn finite(value: impl Into<Option<f64>>) -> Self {
        Self::optional(value.into().filter(|value| value.is_finite()))
    }
}

impl Value {
    /// The type, or `None` for [`Value::Null`].
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Value::Int(_) => Some(DType::Int),
            Value::Float(_) => Some(DType::Float),
            Value::Bool(_) => Some(DType::Bool),
            Value::Text(_) => Some(DType::Text),
            Value::Null => None,
        }
    }

    /// The number in an integer or float cell.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Total order of key values: null, bool, numbers, text. Zero and minus zero are one key, as are 1 and 1.0
    /// (a CSV file may have lost the difference).
    fn order(&self, other: &Value) -> Ordering {
        // Adding +0.0 turns minus zero into zero and changes nothing else.
        let total = |a: f64, b: f64| (a + 0.0).total_cmp(&(b + 0.0));
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Int(a), Value::Float(b)) => total(*a as f64, *b),
            (Value::Float(a), Value::Int(b)) => total(*a, *b as f64),
            (Value::Float(a), Value::Float(b)) => total(*a, *b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            _ => {
                let rank = |value: &Value| match value {
                    Value::Null => 0,
                    Value::Bool(_) => 1,
                    Value::Int(_) | Value::Float(_) => 2,
                    Value::Text(_) => 3,
                };
                rank(self).cmp(&rank(other))
            }
        }
    }
}

impl Classified for TableError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => Classified::kind(error),
            Self::NoColumns { .. }
            | Self::NoKeys { .. }
            | Self::DuplicateColumn { .. }
            | Self::Arity { .. }
            | Self::Type { .. }
            | Self::Missing { .. }
            | Self::NotFinite { .. }
            | Self::DuplicateKey { .. }
            | Self::UnknownColumn { .. }
            | Self::UnknownExtension { .. }
            | Self::Parquet { .. }
            | Self::Damaged { .. }
            | Self::Unreadable { .. }
            | Self::Encode { .. }
            | Self::UnsupportedType { .. }
            | Self::NoNumber { .. }
            | Self::NotNumbers { .. }
            | Self::Metadata { .. }
            | Self::NewerFormat { .. }
            | Self::SchemaMismatch { .. }
            | Self::Csv { .. }
            | Self::Ambiguous { .. }
            | Self::Json { .. } => ErrorKind::Input,
        }
    }
}

/// Exact text: floats in their shortest form that reads back to the same bits, null as nothing.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::Null => Ok(()),
        }
    }
}

/// JSON: numbers, booleans, strings, null; an infinity, which JSON lacks, as the string `"inf"` or `"-inf"`.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::Float(value) => serializer.serialize_str(&format!("{value:?}")),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Text(value) => serializer.serialize_str(value),
            Value::Null => serializer.serialize_unit(),
        }
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Value::$variant(value.into())
            }
        })*
    };
}
value_from! { i64 => Int, i32 => Int, u32 => Int, f64 => Float, f32 => Float, bool => Bool, String => Text, &str => Text }

/// A count of things in memory, which is always below 2^63.
impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::Int(value as i64)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// The key of one row, ordered by [`Value::order`].
#[derive(Clone, Debug)]
struct Key(Vec<Value>);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        pairs
            .map(|(a, b)| a.order(b))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| self.0.len().cmp(&other.0.len()))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

/// Named values in order: a row's key, or a whole row.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields(pub Vec<(String, Value)>);

/// `level=0.5, seed=1`, as messages and reports name a row.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let value = if *value == Value::Null { "-" } else { &value.to_string() };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

/// A JSON object in the order of the fields.
impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// What can go wrong with a table or its file. Rows count from 0, lines of a CSV file from 1.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A table needs a column.
    #[error("table `{table}` has no columns")]
    NoColumns {
        /// Name of the table.
        table: String,
    },
    /// Several rows, and no column says which is which.
    #[error("table `{table}` has several rows, but no key column to distinguish them")]
    NoKeys {
        /// Name of the table.
        table: String,
    },
    /// Two columns have one name.
    #[error("table `{table}` names the column `{column}` twice; column names must differ")]
    DuplicateColumn {
        /// Name of the table.
        table: String,
        /// The name that stands twice.
        column: String,
    },
    /// A row has more or fewer values than there are columns.
    #[error("table `{table}`, row {row}: {found} values for {expected} columns")]
    Arity {
        /// Name of the table.
        table: String,
        /// Number of the row, from 0.
        row: usize,
        /// How many columns the table has.
        expected: usize,
        /// How many values the row has.
        found: usize,
    },
    /// A value is of another type than its column.
    #[error("table `{table}`, row {row}, column `{column}`: expected {expected}, found {found}")]
    Type {
        /// Name of the table.
        table: String,
        /// Number of the row, from 0.
        row: usize,
        /// Name of the column.
        column: String,
        /// Type of the column.
        expected: DType,
        /// Type of the value.
        found: DType,
    },
    /// A value is absent from a column that must be filled.
    #[error("table `{table}`, row {row}, column `{column}`: no value, but the column is not declared `allow_missing`")]
    Missing {
        /// Name of the table.
        table: String,
        /// Number of the row, from 0.
        row: usize,
        /// Name of the column.
        column: String,
    },
    /// A float is NaN or infinite.
    #[error("table `{table}`, row {row}, column `{column}`: {value} is not a finite number{}", not_finite_hint(*.value))]
    NotFinite {
        /// Name of the table.
        table: String,
        /// Number of the row, from 0.
        row: usize,
        /// Name of the column.
        column: String,
        /// The float.
        value: f64,
    },
    /// Two rows have the same values in all key columns.
    #[error("table `{table}`: rows {first} and {second} have the same key ({key}); key columns must identify a row")]
    DuplicateKey {
        /// Name of the table.
        table: String,
        /// Number of the first of the two rows, from 0.
        first: usize,
        /// Number of the second of the two rows, from 0.
        second: usize,
        /// Key columns with the values of both rows.
        key: Fields,
    },
    /// A column was asked for that the table does not have.
    #[error("table `{table}` has no column `{column}`; it has {}", .columns.join(", "))]
    UnknownColumn {
        /// Name of the table.
        table: String,
        /// The name that was asked for.
        column: String,
        /// Names of the columns that there are.
        columns: Vec<String>,
    },
    /// Reading or writing the file failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The ending of a file's name is none of those that tables have.
    #[error("{}: not a table file; expected a name ending in .parquet, .csv or .tsv", .path.display())]
    UnknownExtension {
        /// Path of the file.
        path: PathBuf,
    },
    /// polars cannot read the file.
    #[error("{}: not a readable Parquet file", .path.display())]
    Parquet {
        /// Path of the file.
        path: PathBuf,
        /// What polars says.
        source: polars::error::PolarsError,
    },
    /// The file is not what its seal was made of.
    #[error("{}: damaged since it was written", .path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file contradicts itself, or polars panicked on it.
    #[error("{}: not a readable Parquet file: {problem}", .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        problem: String,
    },
    /// polars cannot write the table.
    #[error("table `{table}` could not be encoded as Parquet")]
    Encode {
        /// Name of the table.
        table: String,
        /// What polars says.
        source: polars::error::PolarsError,
    },
    /// A column was asked for whose type tables do not have: lists, dates, bytes.
    #[error("table `{table}`, column `{column}`: cannot read the type {found}; store it as numbers, bool or string")]
    UnsupportedType {
        /// Name of the table.
        table: String,
        /// Name of the column.
        column: String,
        /// The type, as polars calls it.
        found: String,
    },
    /// Numbers were asked for, and a value is none.
    #[error("{place}, column `{column}`: `{found}` is not a number")]
    NoNumber {
        /// The row, as its owner finds it: `line 7` of a text, else `row 6`, counted from 1.
        place: String,
        /// Name of the column.
        column: String,
        /// The value.
        found: String,
    },
    /// Numbers are to be aggregated, and a column holds none.
    #[error("table `{table}`: column `{column}` holds {found}; `{wanted}` is of numbers")]
    NotNumbers {
        /// Name of the table.
        table: String,
        /// Name of the column.
        column: String,
        /// Type of the column.
        found: DType,
        /// The aggregate that was asked for.
        wanted: &'static str,
    },
    /// The table description in the file is not JSON of the right form.
    #[error("{}: the table description in the file's metadata is damaged", .path.display())]
    Metadata {
        /// Path of the file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A newer version of the program wrote the file.
    #[error("{}: table format {found} is newer than this program, which reads up to {supported}; update dynvis", .path.display())]
    NewerFormat {
        /// Path of the file.
        path: PathBuf,
        /// Version of the file's format.
        found: u64,
        /// The newest version that this program reads.
        supported: u64,
    },
    /// Another program has changed the columns and kept the description.
    #[error("{}: the columns ({}) do not match the table description in the file's metadata ({})", .path.display(), .found.join(", "), .described.join(", "))]
    SchemaMismatch {
        /// Path of the file.
        path: PathBuf,
        /// The file's columns, as `name: type`.
        found: Vec<String>,
        /// The description's columns, as `name: type`.
        described: Vec<String>,
    },
    /// A line of a CSV file cannot be read.
    #[error("{}, line {line}: {problem}", .path.display())]
    Csv {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: CsvProblem,
    },
    /// Rows of two tables cannot be matched, since rows of one are alike in the common key columns.
    #[error(
        "table `{table}`: rows {first} and {second} are alike ({key}) in all key columns that the other table has, \
         too, so rows cannot be matched"
    )]
    Ambiguous {
        /// Name of the table with such rows.
        table: String,
        /// Number of the first of the two rows, from 0.
        first: usize,
        /// Number of the second of the two rows, from 0.
        second: usize,
        /// Common key columns with the values of both rows.
        key: Fields,
    },
    /// Encoding as JSON failed.
    #[error("encoding as JSON failed")]
    Json(#[from] serde_json::Error),
}

/// Infinities are never written; a NaN may stand for a missing value if the column says so.
fn not_finite_hint(value: f64) -> &'static str {
    if value.is_nan() {
        "; declare the column `allow_missing` if a value may be absent"
    } else {
        ""
    }
}

/// Why a line of a CSV file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvProblem {
    /// The line has more or fewer fields than the header.
    #[error("{found} fields, but the header has {expected}")]
    Fields {
        /// How many fields the header has.
        expected: usize,
        /// How many fields the line has.
        found: usize,
    },
    /// The file ends within a quoted field.
    #[error("a quoted field is never closed")]
    OpenQuote,
    /// Behind a closing quote something else than a separator follows.
    #[error("text after a closing quote; write a quote inside a field as two")]
    AfterQuote,
    /// The bytes are not UTF-8, nor UTF-16 with its mark.
    #[error("not UTF-8 text; save it as UTF-8")]
    Encoding,
    /// The file holds nothing, or nothing but comments.
    #[error("no header line")]
    Empty,
}

#[cfg(test)]
mod tests;
