//! Parquet and CSV files: round trips, files of other programs, damage.

use proptest::prelude::*;

use super::super::file::METADATA_KEY;
use super::*;

#[test]
fn parquet_round_trip_keeps_values_schema_and_bytes() {
    let table = noise();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.parquet");
    table.write_parquet(&path).unwrap();
    let back = Table::read(&path).unwrap();
    assert_eq!(back, table);
    assert_eq!(back.schema().columns[3].unit.as_deref(), Some("ms"));
    assert_eq!(back.column("tau").unwrap()[1], Value::Null, "NaN was stored as missing");
    assert_eq!(
        fs_err::read(&path).unwrap(),
        noise().to_parquet().unwrap(),
        "equal tables give equal bytes"
    );
    assert_eq!(back.to_parquet().unwrap(), table.to_parquet().unwrap());
}

#[test]
fn large_tables_have_equal_bytes_each_time() {
    // More than one row group (262,144 rows), which polars encodes in parallel.
    let schema = TableSchema::new("large", "")
        .key("i", DType::Int, "")
        .value("x", DType::Float, "");
    let large = || {
        let mut writer = TableWriter::new(schema.clone()).unwrap();
        for i in 0..300_000_i64 {
            writer.push_row([i.into(), (i as f64).sin().into()]).unwrap();
        }
        writer.finish().unwrap().to_parquet().unwrap()
    };
    let first = large();
    assert_eq!(first, large());
    let (_folder, path) = written("large.parquet", &first);
    assert_eq!(Table::read(&path).unwrap().height(), 300_000);
}

/// A Parquet file as another program may write it, with our metadata only if given.
fn foreign_parquet(columns: Vec<polars::prelude::Column>, description: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    use polars::prelude::*;
    let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
    let mut bytes = Vec::new();
    let metadata = description.map(|json| KeyValueMetadata::from_static(vec![(METADATA_KEY.into(), json.into())]));
    ParquetWriter::new(&mut bytes)
        .with_key_value_metadata(metadata)
        .finish(&mut frame)
        .unwrap();
    written("foreign.parquet", &bytes)
}

#[test]
fn foreign_parquet_counts_columns_before_the_first_float_as_keys() {
    use polars::prelude::*;
    let columns = vec![
        Column::new("area".into(), ["V1", "IT"]),
        Column::new("unit".into(), [1_u32, 2]),
        Column::new("rate".into(), [0.5_f32, f32::NAN]),
        Column::new("count".into(), [7_i64, 8]),
    ];
    let (_folder, path) = foreign_parquet(columns, None);
    let table = Table::read(&path).unwrap();
    let roles: Vec<_> = table
        .schema()
        .columns
        .iter()
        .map(|column| (column.dtype, column.role))
        .collect();
    use schema::Role::{Key as K, Value as V};
    assert_eq!(
        roles,
        [(DType::Text, K), (DType::Int, K), (DType::Float, V), (DType::Int, V)]
    );
    assert!(table.inferred);
    assert_eq!(table.schema().name, "foreign");
    assert_eq!(table.column("rate").unwrap(), [Value::Float(0.5), Value::Null]);
    // A guess does not become a statement by being written.
    let (_folder, again) = written("again.parquet", &table.to_parquet().unwrap());
    assert!(Table::read(&again).unwrap().inferred);
}

#[test]
fn foreign_types_without_a_counterpart_are_passed_over() {
    use polars::prelude::*;
    let days = Column::new("day".into(), [1_i32, 2]).cast(&DataType::Date).unwrap();
    let rates = Column::new("rate".into(), [0.5, 1.5]);
    let (_folder, path) = foreign_parquet(vec![days, rates], None);
    let table = Table::read(&path).unwrap();
    assert_eq!(table.column("rate").unwrap(), [Value::Float(0.5), Value::Float(1.5)]);
    let message = table.column("day").unwrap_err().to_string();
    assert_eq!(
        message,
        "table `foreign`, column `day`: cannot read the type Date32; store it as numbers, bool or string"
    );
    let huge = vec![Column::new("id".into(), [u64::MAX])];
    let (_folder, path) = foreign_parquet(huge, None);
    assert!(
        matches!(Table::read(&path), Err(TableError::Parquet { .. })),
        "2^64 - 1 does not fit"
    );
}

#[test]
fn descriptions_of_other_versions_or_other_columns_are_refused() {
    use polars::prelude::*;
    let read = |json: &str| {
        let (_folder, path) = foreign_parquet(vec![Column::new("x".into(), [1_i64])], Some(json));
        Table::read(&path)
    };
    assert!(matches!(
        read(r#"{"format": 2, "shape": []}"#),
        Err(TableError::NewerFormat { found: 2, .. })
    ));
    assert!(matches!(read(r#"{"format": 1, "#), Err(TableError::Metadata { .. })));
    assert!(matches!(read(r#"{"format": 1}"#), Err(TableError::Metadata { .. })));
    let column = |name: &str, dtype: &str| format!(r#"{{"name": "{name}", "role": "key", "dtype": "{dtype}"}}"#);
    let table = |column: String| format!(r#"{{"format": 1, "table": {{"name": "t", "columns": [{column}]}}}}"#);
    assert!(matches!(
        read(&table(column("y", "int"))),
        Err(TableError::SchemaMismatch { .. })
    ));
    assert!(matches!(
        read(&table(column("x", "text"))),
        Err(TableError::SchemaMismatch { .. })
    ));
    // What an older writer left out has a default: this must stay readable.
    assert_eq!(
        read(&table(column("x", "int"))).unwrap().schema().columns[0]
            .tolerance
            .absolute,
        0.0
    );
}

#[test]
fn damaged_files_are_errors_and_never_wrong_values() {
    let bytes = noise().to_parquet().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    for length in (0..bytes.len()).step_by(7) {
        fs_err::write(&path, &bytes[..length]).unwrap();
        assert!(Table::read(&path).is_err(), "cut to {length} of {} bytes", bytes.len());
    }
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        fs_err::write(&path, &flipped).unwrap();
        // A flip in the name of the seal leaves an unsealed, but whole file.
        assert!(
            Table::read(&path).map_or(true, |table| table == noise()),
            "bit flipped in byte {place}"
        );
    }
    let message = Table::read(&folder.path().join("absent.parquet"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("absent.parquet"), "{message}");
    assert!(matches!(
        Table::read(&folder.path().join("x.json")),
        Err(TableError::UnknownExtension { .. })
    ));
}

#[test]
fn csv_fields_get_the_narrowest_type() {
    let table = read_csv(
        "\u{feff}name,\"a \"\"b\"\"\",ok,code,x,y,none\r\n\
         \"two\nlines\",1,true,007,1e-3,,\r\n\
         \"1\",-2,false,8,nan,inf,\r\n",
    )
    .unwrap();
    let columns = &table.schema().columns;
    assert_eq!(columns[1].name, "a \"b\"");
    let types: Vec<DType> = columns.iter().map(|column| column.dtype).collect();
    use DType::*;
    // "007" makes `code` text, and a column of nothing counts as float.
    assert_eq!(types, [Text, Int, Bool, Text, Float, Float, Float]);
    assert_eq!(table.column("name").unwrap(), ["two\nlines", "1"].map(Value::from));
    assert_eq!(table.column("x").unwrap(), [Value::Float(1e-3), Value::Null]);
    assert_eq!(table.column("y").unwrap(), [Value::Null, Value::Float(f64::INFINITY)]);
}

#[test]
fn csv_errors_name_the_line() {
    let message = |text: &str| {
        let message = read_csv(text).unwrap_err().to_string();
        message
            .split_once("foreign.csv, ")
            .map_or(message.clone(), |(_, rest)| rest.to_owned())
    };
    assert_eq!(message("a,b\n1,2\n\n3\n"), "line 4: 1 fields, but the header has 2");
    assert_eq!(
        message("a,b\n\"x\ny\",2\n3,\"4\n"),
        "line 4: a quoted field is never closed"
    );
    assert_eq!(
        message("a\n\"x\"y\n"),
        "line 2: text after a closing quote; write a quote inside a field as two"
    );
    assert_eq!(message(""), "line 1: no header line");
    assert_eq!(
        message("a,a\n1,2\n"),
        "table `foreign` names the column `a` twice; column names must differ"
    );
    let (_folder, path) = written("foreign.csv", b"a\nx\n\xff\n");
    assert!(matches!(
        Table::read(&path),
        Err(TableError::Csv {
            line: 3,
            problem: CsvProblem::Encoding,
            ..
        })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn written_and_read_is_equal(table in any_table()) {
        let (_folder, path) = written("any.parquet", &table.to_parquet().unwrap());
        prop_assert_eq!(&Table::read(&path).unwrap(), &table);
    }

    #[test]
    fn csv_keeps_every_value(table in any_table()) {
        let csv = read_csv(&render(&table, Format::Csv, &RenderOptions::default()).unwrap()).unwrap();
        prop_assert_eq!(&csv.columns, &table.columns);
    }
}
