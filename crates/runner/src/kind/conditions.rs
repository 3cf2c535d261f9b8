//! `ensure`: what must hold of a stage's tables, looked at before they are published.
//!
//! Conditions change no content and are no part of the key. A result that breaks them is not published, and one that
//! was published under other conditions is not up to date while it breaks those of today.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AnyKind;
use crate::table::{Table, Value};

/// Conditions by the output that they are about, a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Conditions(pub BTreeMap<String, OfTable>);

/// What must hold of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfTable {
    /// Rows that it has at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    rows: Option<usize>,
    /// Columns that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    /// Columns that it has and that hold a finite number in every row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    finite: Vec<String>,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Slot of the table that breaks the condition.
    pub output: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Broken {
    /// The same with the output called as users of the kind know it.
    #[must_use]
    pub fn published(self, kind: &dyn AnyKind) -> Self {
        let output = kind.published_output(&self.output).to_owned();
        Self { output, ..self }
    }
}

impl Conditions {
    /// Whether nothing is asked of any table.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first condition that does not hold of the tables below the outputs' folders.
    pub fn broken(&self, folder: impl Fn(&str) -> Option<PathBuf>) -> Option<Broken> {
        self.0.iter().find_map(|(output, conditions)| {
            let path = folder(output).map(|folder| folder.join(format!("{output}.parquet")));
            let problem = match path.map(|path| Table::read(&path)) {
                None => Some("there is no such output".to_owned()),
                Some(Err(error)) => Some(error.to_string()),
                Some(Ok(table)) => conditions.problem(&table),
            }?;
            let output = output.clone();
            Some(Broken { output, problem })
        })
    }
}

impl OfTable {
    fn problem(&self, table: &Table) -> Option<String> {
        let missing = |name: &&String| table.column(name).is_err();
        if let Some(name) = self.columns.iter().chain(&self.finite).find(missing) {
            let columns = &table.schema().columns;
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            return Some(format!("no column `{name}`; it has {}", names.join(", ")));
        }
        if let Some(least) = self.rows.filter(|least| table.height() < *least) {
            let plural = if table.height() == 1 { "" } else { "s" };
            return Some(format!("{} row{plural}, at least {least} are needed", table.height()));
        }
        self.finite.iter().find_map(|name| {
            let values = table.column(name).unwrap_or_default();
            let is_finite = |value: &Value| value.number().is_some_and(f64::is_finite);
            let row = values.iter().position(|value| !is_finite(value))?;
            let found = match &values[row] {
                Value::Null => "no value".to_owned(),
                value => format!("`{value}`"),
            };
            Some(format!(
                "column `{name}` holds {found} in row {}, where a finite number is needed",
                row + 1
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_is_told_from_the_others() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("t.csv");
        fs_err::write(&path, "name,accuracy\na,0.5\nb,inf\nc,\n").expect("written");
        let table = Table::read(&path).expect("a table");
        let problem = |yaml: serde_json::Value| {
            let conditions: OfTable = serde_json::from_value(yaml).expect("conditions");
            conditions.problem(&table)
        };
        use serde_json::json;
        assert_eq!(problem(json!({})), None);
        assert_eq!(problem(json!({ "rows": 3, "columns": ["accuracy", "name"] })), None);
        let said = |yaml| problem(yaml).expect("broken");
        assert_eq!(said(json!({ "rows": 4 })), "3 rows, at least 4 are needed");
        assert_eq!(
            said(json!({ "columns": ["name", "loss"] })),
            "no column `loss`; it has name, accuracy"
        );
        assert_eq!(
            said(json!({ "finite": ["loss"] })),
            "no column `loss`; it has name, accuracy"
        );
        let finite = "where a finite number is needed";
        assert_eq!(
            said(json!({ "finite": ["accuracy"] })),
            format!("column `accuracy` holds `inf` in row 2, {finite}")
        );
        assert_eq!(
            said(json!({ "finite": ["name"] })),
            format!("column `name` holds `a` in row 1, {finite}")
        );
        fs_err::write(&path, "name,accuracy\na,0.5\nc,\n").expect("written");
        let table = Table::read(&path).expect("a table");
        let conditions: OfTable = serde_json::from_value(json!({ "finite": ["accuracy"] })).expect("conditions");
        assert_eq!(
            conditions.problem(&table).expect("broken"),
            format!("column `accuracy` holds no value in row 2, {finite}")
        );
    }
}
