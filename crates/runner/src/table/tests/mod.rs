//! Tests of the whole folder through its public functions: here the helpers, the writer and slot labels.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod asking;
mod differences;
mod files;
mod rendering;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::diff::TableDiff;
use super::*;

fn noise_schema() -> TableSchema {
    TableSchema::new("noise", "accuracy under input noise")
        .key("model", DType::Int, "the network")
        .slot("models")
        .key("level", DType::Float, "noise standard deviation")
        .unit("1")
        .value("accuracy", DType::Float, "share of images classified right")
        .tolerance(1e-3, 0.0)
        .value("tau", DType::Float, "time constant")
        .unit("ms")
        .allow_missing()
        .value("images", DType::Int, "images seen")
}

fn noise_rows(rows: &[(i64, f64, f64, f64)]) -> Table {
    let mut writer = TableWriter::new(noise_schema()).unwrap();
    for &(model, level, accuracy, tau) in rows {
        let row = [
            model.into(),
            level.into(),
            accuracy.into(),
            tau.into(),
            10_000_i64.into(),
        ];
        writer.push_row(row).unwrap();
    }
    writer.finish().unwrap()
}

fn noise() -> Table {
    let rows = [
        (0, 0.0, 0.981, 23.5),
        (0, 0.5, 0.8125, f64::NAN),
        (1, 0.0, 0.99, 1e-7),
        (1, 0.5, 1.0 / 3.0, 12345.678),
    ];
    noise_rows(&rows)
}

/// A table with key `group` (and `seed`) and a value column per name.
fn seeded(rows: &[(&str, i64, f64)]) -> Table {
    let schema = TableSchema::new("train", "")
        .key("model", DType::Text, "")
        .key("seed", DType::Int, "")
        .value("accuracy", DType::Float, "");
    let mut writer = TableWriter::new(schema).unwrap();
    for &(model, seed, accuracy) in rows {
        writer.push_row([model.into(), seed.into(), accuracy.into()]).unwrap();
    }
    writer.finish().unwrap()
}

fn text(table: &Table, max_rows: Option<usize>, width: Option<usize>) -> String {
    render(
        table,
        Format::Text,
        &RenderOptions {
            max_rows,
            width,
            color: false,
        },
    )
    .unwrap()
}

fn plain_diff(diff: &TableDiff, format: DiffFormat) -> String {
    render_diff(
        diff,
        format,
        &RenderOptions {
            width: Some(80),
            ..RenderOptions::default()
        },
    )
    .unwrap()
}

fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).unwrap();
    (folder, path)
}

fn read_csv(text: &str) -> Result<Table, TableError> {
    let (_folder, path) = written("foreign.csv", text.as_bytes());
    Table::read(&path)
}

#[test]
fn rows_that_do_not_fit_are_refused_with_row_and_column() {
    let refuse = |row: Vec<Value>| {
        let mut writer = TableWriter::new(noise_schema()).unwrap();
        writer
            .push_row([0_i64.into(), 0.0.into(), 1.0.into(), 1.0.into(), 1_i64.into()])
            .unwrap();
        let message = writer.push_row(row).unwrap_err().to_string();
        assert_eq!(
            writer.finish().unwrap().height(),
            1,
            "the refused row is not in the table"
        );
        message
    };
    let n = |value: f64| Value::Float(value);
    let one = Value::Int(1);
    assert_eq!(
        refuse(vec![one.clone()]),
        "table `noise`, row 1: 1 values for 5 columns"
    );
    assert_eq!(
        refuse(vec![one.clone(), one.clone(), n(1.0), n(1.0), one.clone()]),
        "table `noise`, row 1, column `level`: expected float, found int"
    );
    assert_eq!(
        refuse(vec![one.clone(), n(1.0), n(f64::NAN), n(1.0), one.clone()]),
        "table `noise`, row 1, column `accuracy`: NaN is not a finite number; declare the column `allow_missing` if a \
         value may be absent"
    );
    // Missing is allowed in `tau`, infinite is not.
    assert_eq!(
        refuse(vec![one.clone(), n(1.0), n(1.0), n(f64::INFINITY), one.clone()]),
        "table `noise`, row 1, column `tau`: inf is not a finite number"
    );
    assert_eq!(
        refuse(vec![one.clone(), Value::Null, n(1.0), n(1.0), one]),
        "table `noise`, row 1, column `level`: no value, but the column is not declared `allow_missing`"
    );
}

#[test]
fn a_repeated_key_is_named() {
    let mut writer = TableWriter::new(noise_schema()).unwrap();
    // Minus zero is the same key as zero.
    for level in [0.0, 0.5, -0.0] {
        writer
            .push_row([3_i64.into(), level.into(), 0.5.into(), Value::Null, 1_i64.into()])
            .unwrap();
    }
    let message = writer.finish().unwrap_err().to_string();
    assert_eq!(
        message,
        "table `noise`: rows 0 and 2 have the same key (model=3, level=-0.0); key columns must identify a row"
    );
}

#[test]
fn a_table_without_keys_holds_one_row() {
    let schema = TableSchema::new("summary", "").value("loss", DType::Float, "");
    let mut writer = TableWriter::new(schema).unwrap();
    writer.push_row([0.5.into()]).unwrap();
    writer.push_row([0.25.into()]).unwrap();
    assert!(matches!(writer.finish(), Err(TableError::NoKeys { .. })));
}

#[test]
fn schemas_are_checked() {
    let twice = TableSchema::new("t", "")
        .key("x", DType::Int, "")
        .value("x", DType::Float, "");
    assert!(matches!(TableWriter::new(twice), Err(TableError::DuplicateColumn { column, .. }) if column == "x"));
    assert!(matches!(
        TableWriter::new(TableSchema::new("t", "")),
        Err(TableError::NoColumns { .. })
    ));
}

fn label(index: usize, stage: &str, fields: &[(&str, Value)]) -> SlotLabel {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    SlotLabel {
        slot: "models".to_owned(),
        index,
        stage: stage.to_owned(),
        fields,
    }
}

/// A mean over seeds is that of the stage without its seed.
#[test]
fn the_number_of_a_group_becomes_the_stage_without_its_seed() {
    let schema = TableSchema::new("summary", "")
        .key("models", DType::Int, "")
        .slot_groups("models")
        .value("accuracy", DType::Float, "");
    let mut writer = TableWriter::new(schema).unwrap();
    for (model, accuracy) in [(0, 0.5), (1, 0.6), (3, 0.7)] {
        writer.push_row([Value::Int(model), Value::Float(accuracy)]).unwrap();
    }
    let of = |index, dt, seed| label(index, "cordsnet", &[("dt", Value::Int(dt)), ("seed", Value::Int(seed))]);
    let labels = [label(0, "cnn", &[]), of(1, 1, 0), of(2, 1, 1), of(3, 5, 0), of(4, 5, 1)];
    let labelled = writer.finish().unwrap().label_slots(&labels);
    let names: Vec<&str> = labelled.schema().columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["models", "dt", "accuracy"]);
    assert_eq!(
        labelled.column("models").unwrap(),
        ["cnn", "cordsnet", "cordsnet"].map(Value::from)
    );
    assert_eq!(
        labelled.column("dt").unwrap(),
        [Value::Null, Value::Int(1), Value::Int(5)]
    );
    labelled.check_keys().unwrap();
    assert_eq!(
        labelled.label_slots(&labels),
        labelled,
        "labelling twice changes nothing"
    );
}

#[test]
fn slot_numbers_become_stage_names_and_matrix_fields() {
    let table = noise_rows(&[(0, 0.0, 0.9, 1.0), (1, 0.0, 0.8, 1.0), (7, 0.0, 0.7, 1.0)]);
    let labels = [
        label(0, "cnn", &[]),
        label(1, "cordsnet", &[("seed", Value::Int(2)), ("level", Value::Float(0.1))]),
    ];
    let labelled = table.label_slots(&labels);
    let names: Vec<&str> = labelled
        .schema()
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    // `level` is a column already and says something else.
    assert_eq!(
        names,
        ["model", "seed", "model.level", "level", "accuracy", "tau", "images"]
    );
    assert_eq!(
        labelled.column("model").unwrap(),
        ["cnn", "cordsnet", "7"].map(Value::from)
    );
    assert_eq!(
        labelled.column("seed").unwrap(),
        [Value::Null, Value::Int(2), Value::Null]
    );
    assert_eq!(labelled.schema().columns[0].dtype, DType::Text);
    assert!(
        labelled.schema().columns[..4]
            .iter()
            .all(|column| column.role == schema::Role::Key)
    );
    labelled.check_keys().unwrap();
    assert_eq!(
        labelled.label_slots(&labels),
        labelled,
        "labelling twice changes nothing"
    );
    let (_folder, path) = written("labelled.parquet", &labelled.to_parquet().unwrap());
    assert_eq!(Table::read(&path).unwrap(), labelled);
}

#[test]
fn labels_keep_keys_unique() {
    let table = noise_rows(&[(0, 0.0, 0.9, 1.0), (1, 0.0, 0.8, 1.0)]);
    let labelled = table.label_slots(&[label(0, "cnn", &[]), label(1, "cnn", &[])]);
    assert_eq!(labelled.column("model").unwrap(), ["cnn #0", "cnn #1"].map(Value::from));
    // A field that an existing column repeats is left out; mixed types become text.
    let same = [
        label(0, "cnn", &[("level", Value::Int(0))]),
        label(1, "net", &[("level", Value::Float(0.0))]),
    ];
    assert_eq!(table.label_slots(&same).schema().columns.len(), 5);
    let mixed = [
        label(0, "cnn", &[("k", Value::Int(3))]),
        label(1, "cnn", &[("k", "auto".into())]),
    ];
    assert_eq!(
        table.label_slots(&mixed).column("k").unwrap(),
        ["3", "auto"].map(Value::from)
    );
}

/// Any table of two keys (int, text) and three values (float, bool, int, all possibly missing).
fn any_table() -> impl Strategy<Value = Table> {
    let value = (
        proptest::option::of(-1e12_f64..1e12),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<i64>()),
    );
    let key = (any::<i64>(), "[ -~\n\u{e9}]{0,6}");
    proptest::collection::btree_map(key, value, 0..20).prop_shuffle_rows()
}

/// Rows in an order other than that of their keys.
trait ShuffleRows {
    fn prop_shuffle_rows(self) -> BoxedStrategy<Table>;
}

type Rows = BTreeMap<(i64, String), (Option<f64>, Option<bool>, Option<i64>)>;

impl<S: Strategy<Value = Rows> + 'static> ShuffleRows for S {
    fn prop_shuffle_rows(self) -> BoxedStrategy<Table> {
        let rows = self
            .prop_map(|rows| rows.into_iter().collect::<Vec<_>>())
            .prop_shuffle();
        let table = rows.prop_map(|rows| {
            let schema = TableSchema::new("any", "any table")
                .key("i", DType::Int, "")
                .key("name", DType::Text, "")
                .value("x", DType::Float, "")
                .unit("ms")
                .allow_missing()
                .value("ok", DType::Bool, "")
                .allow_missing()
                .value("n", DType::Int, "")
                .allow_missing();
            let mut writer = TableWriter::new(schema).unwrap();
            for ((i, name), (x, ok, n)) in rows {
                writer
                    .push_row([i.into(), name.into(), x.into(), ok.into(), n.into()])
                    .unwrap();
            }
            writer.finish().unwrap()
        });
        table.boxed()
    }
}
