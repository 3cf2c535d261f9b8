//! A table as a NumPy file: a structured array, one record a row, one field a column, read by `numpy.load`.
//!
//! NumPy's arrays have no missing values. A missing number is NaN, so a column of integers or booleans that lacks one
//! is a column of floats; a missing text is the empty one. Units and keys are not in the file: Parquet has them.

use super::schema::DType;
use super::{Table, Value};

/// How the values of a column lie in a record.
enum Layout {
    Int,
    Float,
    Bool,
    /// UTF-32 characters, as many as the longest text has.
    Text(usize),
}

impl Layout {
    fn of(dtype: DType, values: &[Value]) -> Self {
        let lacks = values.contains(&Value::Null);
        match dtype {
            DType::Int | DType::Bool if lacks => Self::Float,
            DType::Int => Self::Int,
            DType::Bool => Self::Bool,
            DType::Float => Self::Float,
            DType::Text => {
                let lengths = values.iter().map(|value| value.to_string().chars().count());
                Self::Text(lengths.max().unwrap_or(0).max(1))
            }
        }
    }

    /// As NumPy writes it.
    fn descr(&self) -> String {
        match self {
            Self::Int => "<i8".to_owned(),
            Self::Float => "<f8".to_owned(),
            Self::Bool => "|b1".to_owned(),
            Self::Text(length) => format!("<U{length}"),
        }
    }

    fn write(&self, value: &Value, bytes: &mut Vec<u8>) {
        match (self, value) {
            (Self::Int, Value::Int(number)) => bytes.extend(number.to_le_bytes()),
            (Self::Bool, value) => bytes.push(u8::from(*value == Value::Bool(true))),
            (Self::Text(length), value) => {
                let text = value.to_string();
                let characters = text.chars().map(u32::from).chain(std::iter::repeat(0));
                bytes.extend(characters.take(*length).flat_map(u32::to_le_bytes));
            }
            (Self::Int | Self::Float, value) => {
                let number = match value {
                    Value::Bool(is) => f64::from(u8::from(*is)),
                    value => value.number().unwrap_or(f64::NAN),
                };
                bytes.extend(number.to_le_bytes());
            }
        }
    }
}

/// A name as a Python string.
fn quoted(name: &str) -> String {
    let escape = |character: char| match character {
        '\\' | '\'' => format!("\\{character}"),
        character if character.is_control() => format!("\\U{:08x}", u32::from(character)),
        character => character.to_string(),
    };
    format!("'{}'", name.chars().map(escape).collect::<String>())
}

/// The bytes before the records: magic, version, and a description padded to a whole number of 64 bytes.
fn header(descr: &str, rows: usize) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x03\x00";
    const LENGTH: usize = 4;
    let mut text = format!("{{'descr': [{descr}], 'fortran_order': False, 'shape': ({rows},), }}");
    let filled = (MAGIC.len() + LENGTH + text.len() + 1).next_multiple_of(64);
    text += &" ".repeat(filled - MAGIC.len() - LENGTH - text.len() - 1);
    text.push('\n');
    // Version 3 is UTF-8; a description of 4 GiB would need as many columns.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [MAGIC, &length.to_le_bytes(), text.as_bytes()].concat()
}

impl Table {
    /// The table as a `.npy` file (version 3) of one structured array.
    pub fn to_npy(&self) -> Vec<u8> {
        let columns = self.schema.columns.iter().zip(&self.columns);
        let layouts: Vec<Layout> = columns
            .map(|(schema, values)| Layout::of(schema.dtype, values))
            .collect();
        let fields = self.schema.columns.iter().zip(&layouts);
        let fields = fields.map(|(schema, layout)| format!("({}, '{}')", quoted(&schema.name), layout.descr()));
        let mut bytes = header(&fields.collect::<Vec<_>>().join(", "), self.height());
        for row in 0..self.height() {
            for (layout, values) in layouts.iter().zip(&self.columns) {
                layout.write(&values[row], &mut bytes);
            }
        }
        bytes
    }
}
