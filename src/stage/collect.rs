//! `collect`: the same table of several stages as one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AnyRef, Artifact, Context, Kind, Output, StageError};
use crate::table::{DType, Table, TableSchema, TableWriter, Value};

pub(super) struct Collect;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Tables with the same columns, as `stage/table`, or `stage@*/table` for all members of a matrix.
    #[schemars(length(min = 1))]
    tables: Vec<AnyRef>,
}

impl Kind for Collect {
    type Params = Params;
    const NAME: &'static str = "collect";
    const SUMMARY: &'static str = "the same table of several stages, or of all members of a matrix, as one";
    const CODE_VERSION: u32 = 1;

    fn outputs(_: &Params) -> Vec<Output> {
        vec![Output::new("collected", Artifact::Table)]
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let mut tables = Vec::new();
        for reference in &params.tables {
            tables.push(context.table_input(&reference.0)?);
        }
        context.write_table("collected", &collect(&tables)?)
    }
}

fn collect(tables: &[Table]) -> Result<Table, StageError> {
    let Some(first) = tables.first() else {
        return Err(StageError::new("there are no tables"));
    };
    let mut schema = TableSchema::new("collected", &first.schema().description)
        .key("tables", DType::Int, "The stage that gave the row")
        .slot("tables");
    schema.columns.extend(first.schema().columns.iter().cloned());
    let mut out = TableWriter::new(schema)?;
    for (slot, table) in tables.iter().enumerate() {
        if table.schema().columns != first.schema().columns {
            return Err(StageError::new(format!(
                "table {slot} (`{}`) has other columns than the first (`{}`)",
                table.schema().name,
                first.schema().name
            )));
        }
        let columns = table.schema().columns.iter().map(|column| table.column(&column.name));
        let columns = columns.collect::<Result<Vec<&[Value]>, _>>()?;
        for row in 0..table.height() {
            let own = columns.iter().map(|column| column[row].clone());
            out.push_row(std::iter::once(Value::Int(slot as i64)).chain(own))?;
        }
    }
    Ok(out.finish()?)
}
