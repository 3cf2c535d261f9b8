//! Rows as structs: a table's columns are the fields of its row, so that no value can land in another's column.

use super::{DType, Table, TableError, TableSchema, TableWriter, Value};

/// What a column can hold.
pub trait Cell {
    /// The column's type.
    const DTYPE: DType;
    /// Whether the column may lack values.
    const MAY_BE_MISSING: bool = false;
    /// The value in the table.
    fn cell(self) -> Value;
}

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl Cell for $kind {
            const DTYPE: DType = DType::Int;
            fn cell(self) -> Value {
                // Counts and seeds of more than 63 bits are none that anything here makes.
                i64::try_from(self).map_or(Value::Null, Value::Int)
            }
        }
    )*};
}
integers!(i64, i32, u64, u32, usize);

impl Cell for f64 {
    const DTYPE: DType = DType::Float;
    fn cell(self) -> Value {
        Value::Float(self)
    }
}

impl Cell for bool {
    const DTYPE: DType = DType::Bool;
    fn cell(self) -> Value {
        Value::Bool(self)
    }
}

impl Cell for String {
    const DTYPE: DType = DType::Text;
    fn cell(self) -> Value {
        Value::Text(self)
    }
}

impl Cell for &str {
    const DTYPE: DType = DType::Text;
    fn cell(self) -> Value {
        Value::Text(self.to_owned())
    }
}

/// A value that may be missing. A float that is not finite is missing too.
impl<C: Cell> Cell for Option<C> {
    const DTYPE: DType = C::DTYPE;
    const MAY_BE_MISSING: bool = true;
    fn cell(self) -> Value {
        match self.map(Cell::cell) {
            Some(Value::Float(value)) => Value::finite(value),
            Some(value) => value,
            None => Value::Null,
        }
    }
}

/// Columns that a struct's fields make up; see `#[derive(Row)]`.
pub trait Row {
    /// Appends the columns.
    fn columns(schema: TableSchema) -> TableSchema;
    /// Appends their values.
    fn cells(self, row: &mut Vec<Value>);
}

/// No columns: what a part of a row is where a table has no such part.
impl Row for () {
    fn columns(schema: TableSchema) -> TableSchema {
        schema
    }

    fn cells(self, _: &mut Vec<Value>) {}
}

/// A row of a table that has a name.
pub trait TableRow: Row + Sized {
    /// The table's name, as in `show RUN STAGE/TABLE`.
    const NAME: &'static str;
    /// What it holds, in one line.
    const DESCRIPTION: &'static str;

    /// The table's schema.
    fn schema() -> TableSchema {
        Self::columns(TableSchema::new(Self::NAME, Self::DESCRIPTION))
    }

    /// The table of these rows.
    ///
    /// # Errors
    /// Two rows with the same key, or a float that is not finite in a column that lacks no values.
    fn table(rows: impl IntoIterator<Item = Self>) -> Result<Table, TableError> {
        let mut table = TableWriter::new(Self::schema())?;
        for row in rows {
            let mut cells = Vec::new();
            row.cells(&mut cells);
            table.push_row(cells)?;
        }
        table.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Role;
    use dynvis_derive::Row;

    #[derive(Row)]
    struct Which {
        /// The network
        #[column(key, slot = "models")]
        model: usize,
    }

    /// Accuracy at each
    /// level of noise
    #[derive(Row)]
    #[table(name = "accuracy")]
    struct Accuracy {
        #[column(flatten)]
        which: Which,
        /// Standard deviation
        #[column(key, unit = "1")]
        level: f64,
        /// Share of images
        #[column(absolute = 1e-3)]
        accuracy: Option<f64>,
        /// Kind of noise
        #[column(name = "type")]
        kind: &'static str,
    }

    #[test]
    fn a_struct_makes_the_columns_that_the_builder_makes() {
        let built = TableSchema::new("accuracy", "Accuracy at each level of noise")
            .key("model", DType::Int, "The network")
            .slot("models")
            .key("level", DType::Float, "Standard deviation")
            .unit("1")
            .value("accuracy", DType::Float, "Share of images")
            .tolerance(1e-3, 0.0)
            .allow_missing()
            .value("type", DType::Text, "Kind of noise");
        assert_eq!(Accuracy::schema(), built);
        assert_eq!(built.columns[0].role, Role::Key);
        let row = |model, accuracy| Accuracy {
            which: Which { model },
            level: 0.5,
            accuracy,
            kind: "gaussian",
        };
        let table = Accuracy::table([row(0, Some(0.25)), row(1, Some(f64::NAN)), row(2, None)]).expect("a table");
        assert_eq!(
            table.column("accuracy").expect("there"),
            [Value::Float(0.25), Value::Null, Value::Null]
        );
        assert_eq!(table.column("model").expect("there")[2], Value::Int(2));
        assert!(Accuracy::table([row(0, None), row(0, None)]).is_err(), "one key twice");
    }
    /// Rows of two tables
    #[derive(Row)]
    #[table(name = "parts")]
    struct Parts<P: Row> {
        /// Number of the row
        #[column(key)]
        row: usize,
        #[column(flatten)]
        part: P,
    }

    #[test]
    fn a_part_of_a_row_may_have_no_columns() {
        let with = Parts::table([Parts {
            row: 0,
            part: Which { model: 1 },
        }]);
        assert_eq!(with.expect("a table").column("model").expect("there"), [Value::Int(1)]);
        let without = Parts::table([Parts { row: 0, part: () }]).expect("a table");
        assert_eq!(without.schema().columns.len(), 1);
    }
}
