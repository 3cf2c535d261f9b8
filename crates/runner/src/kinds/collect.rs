//! `collect`: the same table of several stages as one.

use indexmap::{IndexMap, IndexSet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::kind::{AnyRef, Artifact, Context, Declared, Kind, StageError};
use crate::names::scalar;
use crate::table::{DType, SlotLabel, Table, TableSchema, TableWriter, Value, value_of_field};

/// The stage kind `collect`.
pub struct Collect;

/// Matrix fields of a stage: name to value.
type Fields = IndexMap<String, Json>;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Tables with the same columns, as `stage/table`, or `stage@*/table` for all members of a matrix, whose fields
    /// become columns.
    #[schemars(length(min = 1))]
    tables: Vec<AnyRef>,
}

impl Kind for Collect {
    type Params = Params;
    const NAME: &'static str = "collect";
    const SUMMARY: &'static str = "the same table of several stages, or of all members of a matrix, as one";
    const CODE_VERSION: u32 = 2;
    const KEYED_DEFAULTS: &'static [&'static str] = &["tables"];
    const OUTPUTS: &'static [Declared<Params>] = &[Declared::always(
        "collected",
        Artifact::TABLE,
        "the rows of all tables, with the matrix fields of the stages that gave them",
    )];
    const SEES_GROUPS: bool = true;
    const SEES_REPETITIONS: bool = true;

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let mut tables = Vec::new();
        for reference in &params.tables {
            let member = context.inputs.get(&reference.0).map(|input| input.member.clone());
            tables.push((context.table_input(&reference.0)?, member.unwrap_or_default().fields));
        }
        context.write_table("collected", &collect(&tables)?)
    }
}

/// The tables in some input slots as one, as `dynvis show stage@*/table` has them: matrix fields in front, as
/// `stage.field` where tables have another column of that name, and names of stages in place of their numbers. The kind
/// has to [see groups and repetitions](Kind::SEES_GROUPS) and [names](Kind::SEES_NAMES).
///
/// # Errors
/// An input is no table or cannot be read.
pub fn joined(context: &Context, slots: &[String]) -> Result<Table, StageError> {
    let mut tables = Vec::new();
    let mut stage = String::new();
    for slot in slots {
        let member = context
            .inputs
            .get(slot)
            .map(|input| input.member.clone())
            .unwrap_or_default();
        let labels = member.sources.iter();
        let labels = labels.filter_map(|source| SlotLabel::of(&source.slot, &source.stage, &source.fields));
        let table = context.table_input(slot)?.label_slots(&labels.collect::<Vec<_>>());
        let fields = member
            .fields
            .iter()
            .map(|(name, field)| (name.clone(), value_of_field(field)));
        tables.push((fields.collect(), table));
        stage = member.stage;
    }
    match tables.as_slice() {
        [(_, one)] => Ok(one.clone()),
        several => Ok(Table::stack(&stage, several)?),
    }
}

/// Tables with the matrix fields of the stages that gave them.
fn collect(tables: &[(Table, Fields)]) -> Result<Table, StageError> {
    let Some((first, _)) = tables.first() else {
        return Err(StageError::new("there are no tables"));
    };
    let mut schema = TableSchema::new("collected", &first.schema().description)
        .key("tables", DType::Int, "The stage that gave the row")
        .slot("tables");
    let mut names: IndexSet<&String> = tables.iter().flat_map(|(_, fields)| fields.keys()).collect();
    // A table that says it itself need not be told.
    names.retain(|name| *name != "tables" && first.schema().position(name).is_none());
    let types: Vec<DType> = names.iter().map(|name| type_of(tables, name)).collect();
    for (name, dtype) in names.iter().zip(&types) {
        let description = format!("Matrix field `{name}` of the stage that gave the row");
        schema = schema.key(name, *dtype, &description).allow_missing();
    }
    schema.columns.extend(first.schema().columns.iter().cloned());
    let mut out = TableWriter::new(schema)?;
    for (slot, (table, fields)) in tables.iter().enumerate() {
        let told = names
            .iter()
            .zip(&types)
            .map(|(name, dtype)| value(fields.get(*name), *dtype));
        let told: Vec<Value> = told.collect();
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
            out.push_row(std::iter::once(Value::Int(slot as i64)).chain(told.clone()).chain(own))?;
        }
    }
    Ok(out.finish()?)
}

/// The type of a column that holds a field of every table.
fn type_of(tables: &[(Table, Fields)], name: &str) -> DType {
    let mut values = tables.iter().filter_map(|(_, fields)| fields.get(name));
    if values.clone().all(Json::is_i64) {
        DType::Int
    } else if values.all(Json::is_number) {
        DType::Float
    } else {
        DType::Text
    }
}

fn value(field: Option<&Json>, dtype: DType) -> Value {
    let Some(field) = field else {
        return Value::Null;
    };
    match dtype {
        DType::Int => field.as_i64().map_or(Value::Null, Value::Int),
        DType::Float => field.as_f64().map_or(Value::Null, Value::Float),
        _ => Value::Text(scalar(field)),
    }
}
