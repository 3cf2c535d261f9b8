//! What a table means: its columns with roles, types, units and tolerances, as stage kinds declare them.
//!
//! A schema is data (serde); it travels inside the Parquet file. The builder is meant for literals in stage kinds.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::TableError;

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Part of what identifies a row.
    Key,
    /// Something measured or computed for that row.
    Value,
}

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 64-bit signed integer.
    Int,
    /// 64-bit float.
    Float,
    /// Boolean.
    Bool,
    /// UTF-8 text.
    Text,
}

impl DType {
    /// Whether values can be subtracted.
    pub fn is_number(self) -> bool {
        matches!(self, DType::Int | DType::Float)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::Int => "int",
            DType::Float => "float",
            DType::Bool => "bool",
            DType::Text => "text",
        })
    }
}

/// How far two values may lie apart and still count as equal: `|b - a| <= absolute + relative * |a|`.
/// The default, zero, means exact equality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Largest difference in the column's unit.
    pub absolute: f64,
    /// Largest difference as a fraction of the first value's magnitude.
    pub relative: f64,
}

impl Tolerance {
    fn is_exact(&self) -> bool {
        *self == Tolerance::default()
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// Column name in the file.
    pub name: String,
    /// One line for readers.
    #[serde(default)]
    pub description: String,
    /// Unit in the usual notation; `1` or nothing for a pure number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Key or value.
    pub role: Role,
    /// Type of the values.
    pub dtype: DType,
    /// The input slot whose members an integer key column numbers. Stage names are not stored, because content must
    /// not depend on them; [`super::Table::label_slots`] puts them in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Whether the number is that of the first of several members that repeat each other: the stage without its matrix
    /// field `seed`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub group: bool,
    /// Whether a value may be absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
    /// When two values count as equal in a difference.
    #[serde(default, skip_serializing_if = "Tolerance::is_exact")]
    pub tolerance: Tolerance,
}

impl ColumnSchema {
    /// A column without unit, slot or tolerance that must be filled in every row.
    pub fn new(name: impl Into<String>, role: Role, dtype: DType, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            unit: None,
            role,
            dtype,
            slot: None,
            group: false,
            allow_missing: false,
            tolerance: Tolerance::default(),
        }
    }

    /// Name with the unit in brackets, `tau [ms]`; a pure number has none.
    pub fn heading(&self) -> String {
        match self.unit.as_deref() {
            None | Some("" | "1") => self.name.clone(),
            Some(unit) => format!("{} [{unit}]", self.name),
        }
    }
}

/// A table's name, purpose and columns.
///
/// ```text
/// TableSchema::new("noise", "accuracy under input noise")
///     .key("model", DType::Int, "the network").slot("models")
///     .key("level", DType::Float, "noise standard deviation").unit("1")
///     .value("accuracy", DType::Float, "share of images classified right").tolerance(1e-3, 0.0)
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Short name, as in `show REF TABLE`.
    pub name: String,
    /// One line for readers.
    #[serde(default)]
    pub description: String,
    /// Columns in order.
    pub columns: Vec<ColumnSchema>,
}

impl TableSchema {
    /// A schema without columns yet.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            columns: Vec::new(),
        }
    }

    /// Appends a key column.
    pub fn key(mut self, name: &str, dtype: DType, description: &str) -> Self {
        self.columns
            .push(ColumnSchema::new(name, Role::Key, dtype, description));
        self
    }

    /// Appends a value column.
    pub fn value(mut self, name: impl Into<String>, dtype: DType, description: impl Into<String>) -> Self {
        self.columns
            .push(ColumnSchema::new(name, Role::Value, dtype, description));
        self
    }

    /// Unit of the column just appended.
    pub fn unit(mut self, unit: &str) -> Self {
        self.last().unit = Some(unit.to_owned());
        self
    }

    /// The input slot whose members the column just appended numbers.
    pub fn slot(mut self, slot: &str) -> Self {
        self.last().slot = Some(slot.to_owned());
        self
    }

    /// The input slot whose members the column just appended numbers, by the first of those that repeat each other.
    pub fn slot_groups(mut self, slot: &str) -> Self {
        self = self.slot(slot);
        self.last().group = true;
        self
    }

    /// Lets the column just appended lack values; a NaN pushed into it becomes null.
    pub fn allow_missing(mut self) -> Self {
        self.last().allow_missing = true;
        self
    }

    /// Tolerance of the column just appended: `|b - a| <= absolute + relative * |a|` counts as equal.
    pub fn tolerance(mut self, absolute: f64, relative: f64) -> Self {
        self.last().tolerance = Tolerance { absolute, relative };
        self
    }

    fn last(&mut self) -> &mut ColumnSchema {
        self.columns
            .last_mut()
            .expect("a column is appended before it is described")
    }

    /// Place of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Places of the key columns.
    pub fn keys(&self) -> Vec<usize> {
        (0..self.columns.len())
            .filter(|&place| self.columns[place].role == Role::Key)
            .collect()
    }

    /// At least one column, and no name twice.
    pub(super) fn check(&self) -> Result<(), TableError> {
        if self.columns.is_empty() {
            return Err(TableError::NoColumns {
                table: self.name.clone(),
            });
        }
        let mut seen = BTreeSet::new();
        match self.columns.iter().find(|column| !seen.insert(&column.name)) {
            Some(twice) => Err(TableError::DuplicateColumn {
                table: self.name.clone(),
                column: twice.name.clone(),
            }),
            None => Ok(()),
        }
    }
}
