//! The table itself: columns of values, the writer that lets only valid rows in, and stage names for slot numbers.
//!
//! Rows stay in the order they were pushed. Sizes are those of results (up to some millions of cells), so plain
//! vectors of [`Value`] are enough.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::schema::{ColumnSchema, DType, Role, TableSchema};
use super::{Fields, Key, TableError, Value};
use crate::names::REPETITION;

/// A finished table. See the module documentation of [`super`] for what always holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub(super) schema: TableSchema,
    /// One vector a column, all of the same length.
    pub(super) columns: Vec<Vec<Value>>,
    /// The file said nothing of roles, so they were guessed and keys need not be unique.
    pub(super) inferred: bool,
    /// The line that each row begins on, where the file is text; else empty.
    pub(super) lines: Vec<usize>,
    /// Columns of the file that hold what a table cannot, with their types.
    pub(super) passed_over: Vec<(String, String)>,
}

/// What stands behind one number of an input slot, for [`Table::label_slots`].
#[derive(Clone, Debug, PartialEq)]
pub struct SlotLabel {
    /// The input slot, as its column names it.
    pub slot: String,
    /// The number in the table.
    pub index: usize,
    /// The stage that filled it.
    pub stage: String,
    /// The matrix fields of that member of the stage, in their order.
    pub fields: Vec<(String, Value)>,
}

impl SlotLabel {
    /// What stands behind the input slot of that name, `models.3`; none where it is no item of a list.
    pub fn of(slot: &str, stage: &str, fields: &IndexMap<String, Json>) -> Option<Self> {
        let (slot, index) = slot.split_once('.')?;
        Some(Self {
            slot: slot.to_owned(),
            index: index.parse().ok()?,
            stage: stage.to_owned(),
            fields: fields
                .iter()
                .map(|(name, field)| (name.clone(), value_of_field(field)))
                .collect(),
        })
    }

    /// The same without a matrix field.
    fn without(&self, field: &str) -> Self {
        let mut label = self.clone();
        label.fields.retain(|(name, _)| name != field);
        label
    }
}

/// A matrix field as a cell.
pub fn value_of_field(json: &Json) -> Value {
    match json {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(float)) => Value::Float(float),
            _ => Value::Text(number.to_string()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Null => Value::Null,
        other => Value::Text(other.to_string()),
    }
}

impl Table {
    /// Name, purpose and columns.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// All values of a column, in row order.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`].
    pub fn column(&self, name: &str) -> Result<&[Value], TableError> {
        if let Some((_, found)) = self.passed_over.iter().find(|(passed, _)| passed == name) {
            return Err(TableError::UnsupportedType {
                table: self.schema.name.clone(),
                column: name.to_owned(),
                found: found.clone(),
            });
        }
        let place = self.schema.position(name).ok_or_else(|| TableError::UnknownColumn {
            table: self.schema.name.clone(),
            column: name.to_owned(),
            columns: self.schema.columns.iter().map(|column| column.name.clone()).collect(),
        })?;
        Ok(&self.columns[place])
    }

    /// Where a row stands in its file, as its owner finds it: `line 7` of a text, else `row 6`, counted from 1.
    pub fn place(&self, row: usize) -> String {
        match self.lines.get(row) {
            Some(line) => format!("line {line}"),
            None => format!("row {}", row + 1),
        }
    }

    /// The numbers of a column, in row order; NaN where there is none. Numbers in quotes are numbers, too.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`], [`TableError::UnsupportedType`], and [`TableError::NoNumber`] with the place of
    /// the first value that is none.
    pub fn numbers(&self, name: &str) -> Result<Vec<f64>, TableError> {
        let number = |(row, value): (usize, &Value)| {
            let found = match value {
                Value::Null => Some(f64::NAN),
                Value::Text(text) if super::csv::is_missing(text.trim()) => Some(f64::NAN),
                Value::Text(text) => text.trim().parse().ok(),
                value => value.number(),
            };
            found.ok_or_else(|| TableError::NoNumber {
                place: self.place(row),
                column: name.to_owned(),
                found: value.to_string(),
            })
        };
        self.column(name)?.iter().enumerate().map(number).collect()
    }

    /// Columns of the file that no table can hold (lists, dates, bytes), with their types.
    pub fn passed_over(&self) -> &[(String, String)] {
        &self.passed_over
    }

    /// The values of one row in the given columns, with their names.
    pub(super) fn fields(&self, row: usize, places: &[usize]) -> Fields {
        let field = |&place: &usize| {
            (
                self.schema.columns[place].name.clone(),
                self.columns[place][row].clone(),
            )
        };
        Fields(places.iter().map(field).collect())
    }

    /// The key that the given columns make of a row.
    pub(super) fn key(&self, row: usize, places: &[usize]) -> Key {
        Key(places.iter().map(|&place| self.columns[place][row].clone()).collect())
    }

    /// Row number by key over the given columns, or the first two rows whose keys are the same.
    pub(super) fn index(&self, places: &[usize]) -> Result<BTreeMap<Key, usize>, (usize, usize)> {
        let mut index = BTreeMap::new();
        for row in 0..self.height() {
            if let Some(first) = index.insert(self.key(row, places), row) {
                return Err((first, row));
            }
        }
        Ok(index)
    }

    /// No two rows with the same key.
    pub(super) fn check_keys(&self) -> Result<(), TableError> {
        let keys = self.schema.keys();
        let Err((first, second)) = self.index(&keys) else {
            return Ok(());
        };
        let table = self.schema.name.clone();
        Err(match keys.is_empty() {
            true => TableError::NoKeys { table },
            false => TableError::DuplicateKey {
                table,
                first,
                second,
                key: self.fields(second, &keys),
            },
        })
    }

    /// The same table with only the given rows, in the given order.
    pub(super) fn select(&self, rows: &[usize]) -> Table {
        let pick = |column: &Vec<Value>| rows.iter().map(|&row| column[row].clone()).collect();
        let columns = self.columns.iter().map(pick).collect();
        Table {
            schema: self.schema.clone(),
            columns,
            inferred: self.inferred,
            lines: rows.iter().filter_map(|&row| self.lines.get(row).copied()).collect(),
            passed_over: self.passed_over.clone(),
        }
    }

    /// The same with a column as text: what `text` gives for a value, else the value as it is shown; what is missing
    /// stays so. Rows that a key told apart may be alike then.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`].
    pub fn relabelled(&self, name: &str, text: impl Fn(&Value) -> Option<String>) -> Result<Table, TableError> {
        self.column(name)?;
        let mut out = self.clone();
        let place = self.schema.position(name).unwrap_or_default();
        for value in &mut out.columns[place] {
            if *value != Value::Null {
                *value = Value::Text(text(value).unwrap_or_else(|| value.to_string()));
            }
        }
        let column = &mut out.schema.columns[place];
        column.dtype = DType::Text;
        column.unit = None;
        column.slot = None;
        column.tolerance = ColumnSchema::new("", Role::Key, DType::Text, "").tolerance;
        out.inferred = true;
        Ok(out)
    }

    /// Replaces each column that numbers the members of an input slot by the stage's name (text), and puts the
    /// members' matrix fields right after it as key columns, null where a member lacks a field.
    ///
    /// A field is left out where the table already has a column of that name with the same values; where the values
    /// differ it is named `column.field`. A number without a label stays, as text. Members that no name or field
    /// tells apart get ` #number` behind the name, so that keys stay unique. Where a number stands for all members that
    /// repeat each other, the matrix field `seed` is left out.
    pub fn label_slots(&self, labels: &[SlotLabel]) -> Table {
        let mut out = self.clone();
        (out.schema.columns, out.columns) = (Vec::new(), Vec::new());
        for (schema, values) in self.schema.columns.iter().zip(&self.columns) {
            let Some(slot) = &schema.slot else {
                out.append(schema.clone(), values.clone());
                continue;
            };
            let of_slot = labels.iter().filter(|label| label.slot == *slot);
            let members: Vec<SlotLabel> = of_slot
                .map(|label| match schema.group {
                    true => label.without(REPETITION),
                    false => label.clone(),
                })
                .collect();
            let of_row: Vec<Option<&SlotLabel>> = values
                .iter()
                .map(|value| match value {
                    Value::Int(index) => members.iter().find(|label| label.index as i64 == *index),
                    _ => None,
                })
                .collect();

            let stage = |label: &SlotLabel| {
                let alike = |other: &&SlotLabel| other.stage == label.stage && other.fields == label.fields;
                match members.iter().filter(alike).count() {
                    0 | 1 => label.stage.clone(),
                    // Those that repeat each other have one number.
                    _ if schema.group => label.stage.clone(),
                    _ => format!("{} #{}", label.stage, label.index),
                }
            };
            let stages = of_row.iter().zip(values).map(|(label, value)| match (label, value) {
                (Some(label), _) => Value::Text(stage(label)),
                (None, Value::Null) => Value::Null,
                (None, number) => Value::Text(number.to_string()),
            });
            let stages = stages.collect();
            let mut text = schema.clone();
            (text.dtype, text.slot, text.group) = (DType::Text, None, false);
            out.append(text, stages);

            for field in names_of(members.iter().map(|label| &label.fields)) {
                let of_member = |label: &SlotLabel| value_of(&label.fields, field);
                let values = of_row
                    .iter()
                    .map(|label| label.map_or(Value::Null, of_member))
                    .collect();
                let (dtype, values) = unify(values);
                let name = match self.column(field).or_else(|_| out.column(field)) {
                    Ok(existing) if Key(existing.to_vec()) == Key(values.clone()) => continue,
                    Ok(_) => format!("{}.{field}", schema.name),
                    Err(_) => field.to_owned(),
                };
                let description = format!("matrix field of {}", schema.name);
                let mut column = ColumnSchema::new(name, Role::Key, dtype, description);
                column.allow_missing = true;
                out.append(column, values);
            }
        }
        out
    }

    /// The same table under another name.
    #[must_use]
    pub fn called(mut self, name: &str) -> Table {
        name.clone_into(&mut self.schema.name);
        self
    }

    /// Tables of the members of a matrix as one, each member's fields in front of its rows as key columns.
    ///
    /// A field is left out where every table has a column of that name with the same value; where the values differ it
    /// is named `STAGE.field`. Columns that a member lacks are missing in its rows.
    ///
    /// # Errors
    /// [`TableError::DuplicateKey`] where the fields do not tell the members apart.
    pub fn stack(stage: &str, members: &[(Vec<(String, Value)>, Table)]) -> Result<Table, TableError> {
        let Some((_, first)) = members.first() else {
            return Err(TableError::NoColumns {
                table: stage.to_owned(),
            });
        };
        let mut out = Table {
            schema: TableSchema::new(first.schema.name.clone(), first.schema.description.clone()),
            columns: Vec::new(),
            inferred: members.iter().any(|(_, table)| table.inferred),
            lines: Vec::new(),
            passed_over: Vec::new(),
        };
        for field in names_of(members.iter().map(|(fields, _)| fields)) {
            let there = |(own, table): &(Vec<(String, Value)>, Table)| {
                let wanted = value_of(own, field);
                table
                    .column(field)
                    .is_ok_and(|values| values.iter().all(|value| value.order(&wanted).is_eq()))
            };
            if members.iter().all(there) {
                continue;
            }
            let taken = members.iter().any(|(_, table)| table.schema.position(field).is_some());
            let values = members
                .iter()
                .flat_map(|(own, table)| vec![value_of(own, field); table.height()]);
            let (dtype, values) = unify(values.collect());
            let name = if taken {
                format!("{stage}.{field}")
            } else {
                field.to_owned()
            };
            let mut column = ColumnSchema::new(name, Role::Key, dtype, format!("matrix field of {stage}"));
            column.allow_missing = true;
            out.append(column, values);
        }
        let mut columns: Vec<&ColumnSchema> = Vec::new();
        for column in members.iter().flat_map(|(_, table)| &table.schema.columns) {
            if !columns.iter().any(|known| known.name == column.name) {
                columns.push(column);
            }
        }
        for column in columns {
            let values = members
                .iter()
                .flat_map(|(_, table)| match table.schema.position(&column.name) {
                    Some(place) => table.columns[place].clone(),
                    None => vec![Value::Null; table.height()],
                });
            let (dtype, values) = unify(values.collect());
            let mut column = column.clone();
            let everywhere = members
                .iter()
                .all(|(_, table)| table.schema.position(&column.name).is_some());
            column.allow_missing |= !everywhere;
            if values.iter().any(|value| *value != Value::Null) {
                column.dtype = dtype;
            }
            out.append(column, values);
        }
        if !out.inferred {
            out.check_keys()?;
        }
        Ok(out)
    }

    pub(super) fn append(&mut self, schema: ColumnSchema, values: Vec<Value>) {
        self.schema.columns.push(schema);
        self.columns.push(values);
    }
}

/// The names of all members' matrix fields, each once.
fn names_of<'a>(members: impl Iterator<Item = &'a Vec<(String, Value)>>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in members.flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// A member's value in a matrix field; null where it lacks that.
fn value_of(fields: &[(String, Value)], name: &str) -> Value {
    let found = fields.iter().find(|(own, _)| own == name);
    found.map_or(Value::Null, |(_, value)| value.clone())
}

/// One type for values that came one by one: integers beside floats become floats, any other mixture text.
fn unify(values: Vec<Value>) -> (DType, Vec<Value>) {
    let mut types = values.iter().filter_map(Value::dtype);
    let first = types.next().unwrap_or(DType::Text);
    let merge = |a: DType, b: DType| match (a, b) {
        (a, b) if a == b => a,
        (a, b) if a.is_number() && b.is_number() => DType::Float,
        _ => DType::Text,
    };
    let dtype = types.fold(first, merge);
    let convert = |value: Value| match (dtype, value) {
        (_, Value::Null) => Value::Null,
        (DType::Float, Value::Int(value)) => Value::Float(value as f64),
        (DType::Text, value) => Value::Text(value.to_string()),
        (_, value) => value,
    };
    (dtype, values.into_iter().map(convert).collect())
}

/// Builds a [`Table`] row by row.
pub struct TableWriter {
    table: Table,
}

impl TableWriter {
    /// An empty table of this schema.
    ///
    /// # Errors
    /// No columns, or two of the same name.
    pub fn new(schema: TableSchema) -> Result<Self, TableError> {
        schema.check()?;
        let columns = vec![Vec::new(); schema.columns.len()];
        Ok(Self {
            table: Table {
                schema,
                columns,
                inferred: false,
                lines: Vec::new(),
                passed_over: Vec::new(),
            },
        })
    }

    /// Appends a row, one value a column in the schema's order. A NaN becomes null where the column allows missing
    /// values.
    ///
    /// # Errors
    /// Wrong number of values, wrong type, a value that is missing or not finite. The row is then not appended.
    pub fn push_row(&mut self, row: impl IntoIterator<Item = Value>) -> Result<(), TableError> {
        let mut values: Vec<Value> = row.into_iter().collect();
        let schema = &self.table.schema;
        let (table, row) = (|| schema.name.clone(), self.table.height());
        if values.len() != schema.columns.len() {
            let (expected, found) = (schema.columns.len(), values.len());
            return Err(TableError::Arity {
                table: table(),
                row,
                expected,
                found,
            });
        }
        for (value, column) in values.iter_mut().zip(&schema.columns) {
            let name = || column.name.clone();
            match *value {
                Value::Float(number) if number.is_nan() && column.allow_missing => *value = Value::Null,
                Value::Float(number) if !number.is_finite() => {
                    return Err(TableError::NotFinite {
                        table: table(),
                        row,
                        column: name(),
                        value: number,
                    });
                }
                _ => {}
            }
            match value.dtype() {
                None if !column.allow_missing => {
                    return Err(TableError::Missing {
                        table: table(),
                        row,
                        column: name(),
                    });
                }
                Some(found) if found != column.dtype => {
                    let expected = column.dtype;
                    return Err(TableError::Type {
                        table: table(),
                        row,
                        column: name(),
                        expected,
                        found,
                    });
                }
                _ => {}
            }
        }
        for (column, value) in self.table.columns.iter_mut().zip(values) {
            column.push(value);
        }
        Ok(())
    }

    /// The finished table.
    ///
    /// # Errors
    /// [`TableError::DuplicateKey`], [`TableError::NoKeys`]: a table without key columns may hold one row.
    pub fn finish(self) -> Result<Table, TableError> {
        self.table.check_keys()?;
        Ok(self.table)
    }
}
