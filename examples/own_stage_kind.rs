//! A program with a stage kind of its own beside those of dynvis. From the root of this repository:
//!
//! ```text
//! cargo run --release --example own_stage_kind -- run p.yaml
//! ```
//!
//! where `p.yaml` has a stage `ranks: { table: noise/summary, column: accuracy }`. The struct [`Params`] is all that
//! validation, `stages ranks`, the JSON Schema and the key of a result need; the struct [`Rank`] is the table.

use std::process::ExitCode;

use dynvis::runner::kind::{AnyRef, Context, Declared, Kind, StageError};
use dynvis::runner::table::{Row, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `ranks`: the rows of a table in order of one of its columns.
struct Ranks;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The table, as `stage/table`.
    table: AnyRef,
    /// The column of numbers that rows are ranked by.
    column: String,
}

/// Rows of a table by rank
#[derive(Row)]
#[table(name = "ranks")]
struct Rank {
    /// Rank, from 1 for the largest value
    #[column(key)]
    rank: usize,
    /// Row of the table, from 1
    row: usize,
    /// Its value
    #[column(relative = 1e-9)]
    value: f64,
}

impl Kind for Ranks {
    type Params = Params;
    const NAME: &'static str = "ranks";
    const SUMMARY: &'static str = "the rows of a table in order of one of its columns";
    const CODE_VERSION: u32 = 1;
    const OUTPUTS: &'static [Declared<Params>] = &[Declared::table::<Rank>("rows of the table by rank")];

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let table = context.table_input(&params.table.0)?;
        let values = table.column(&params.column)?.iter().map(Value::number);
        let mut rows: Vec<(usize, f64)> = values
            .enumerate()
            .filter_map(|(row, value)| Some((row, value?)))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        let ranked = rows.into_iter().enumerate().map(|(rank, (row, value))| Rank {
            rank: rank + 1,
            row: row + 1,
            value,
        });
        context.write_rows("ranks", ranked)
    }
}

fn main() -> ExitCode {
    dynvis::run_with(dynvis::kinds().with::<Ranks>())
}
