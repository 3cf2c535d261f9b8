//! Groups, order, NumPy files, and keys that are set aside.

use super::*;

fn networks() -> Table {
    let schema = TableSchema::new("noise", "accuracy under noise")
        .key("network", DType::Text, "")
        .key("level", DType::Float, "noise")
        .unit("mV")
        .key("seed", DType::Int, "")
        .value("accuracy", DType::Float, "share of images")
        .unit("%")
        .allow_missing()
        .value("images", DType::Int, "");
    let mut writer = TableWriter::new(schema).unwrap();
    let rows: [(&str, f64, i64, f64, i64); 6] = [
        ("b", 0.0, 0, 4.0, 10),
        ("a", 0.0, 0, 1.0, 10),
        ("a", 0.0, 1, 3.0, 10),
        ("a", 0.5, 0, 2.0, 20),
        ("a", 0.5, 1, f64::NAN, 20),
        ("b", 0.0, 1, 4.0, 10),
    ];
    for (network, level, seed, accuracy, images) in rows {
        let row = [
            network.into(),
            level.into(),
            seed.into(),
            accuracy.into(),
            images.into(),
        ];
        writer.push_row(row).unwrap();
    }
    writer.finish().unwrap()
}

fn grouping(by: &[&str], aggregates: &[(Aggregate, &str)]) -> Grouping {
    Grouping {
        by: by.iter().map(|name| (*name).to_owned()).collect(),
        aggregates: aggregates.iter().map(|(a, name)| (*a, (*name).to_owned())).collect(),
    }
}

fn headings(table: &Table) -> Vec<String> {
    table.schema().columns.iter().map(|column| column.heading()).collect()
}

#[test]
fn each_number_of_a_group_stands_beside_how_many_it_is_of() {
    let all = [
        (Aggregate::Mean, "accuracy"),
        (Aggregate::Sd, "accuracy"),
        (Aggregate::Sem, "accuracy"),
        (Aggregate::Median, "accuracy"),
        (Aggregate::Min, "accuracy"),
        (Aggregate::Max, "accuracy"),
    ];
    let Grouped { table, over } = networks().grouped(&grouping(&["network", "level"], &all)).unwrap();
    let expected = "network,level,mean(accuracy),sd(accuracy),sem(accuracy),median(accuracy),min(accuracy),\
                    max(accuracy),n(accuracy)\n\
                    b,0.0,4.0,0.0,0.0,4.0,4.0,4.0,2\n\
                    a,0.0,2.0,1.4142135623730951,1.0,2.0,1.0,3.0,2\n\
                    a,0.5,2.0,,,2.0,2.0,2.0,1\n";
    let csv = render(&table, Format::Csv, &RenderOptions::default()).unwrap();
    assert_eq!(csv, expected);
    assert_eq!(over, ["seed"]);
    assert_eq!(headings(&table)[1..3], ["level [mV]", "mean(accuracy) [%]"]);
    assert_eq!(headings(&table)[8], "n(accuracy)");
    let keys: Vec<usize> = table.schema().keys();
    assert_eq!(keys, [0, 1]);
    assert!(table.schema().columns[2].description.contains("over n(accuracy) rows"));
    // It is a table like any other: it can be stored, and read again.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    table.write_parquet(&path).unwrap();
    assert_eq!(Table::read(&path).unwrap(), table);
}

#[test]
fn what_rows_were_joined_over_is_told() {
    let by_level = networks().grouped(&grouping(&["level"], &[])).unwrap();
    assert_eq!(by_level.over, ["network", "seed"]);
    let csv = render(&by_level.table, Format::Csv, &RenderOptions::default()).unwrap();
    assert_eq!(csv, "level,n\n0.0,4\n0.5,2\n");
    let all = networks()
        .grouped(&grouping(&[], &[(Aggregate::Max, "images")]))
        .unwrap();
    assert_eq!(all.over, ["network", "level", "seed"]);
    let csv = render(&all.table, Format::Csv, &RenderOptions::default()).unwrap();
    assert_eq!(csv, "max(images),n(images)\n20.0,6\n");
    let none = networks().filtered(&["level>7".parse().unwrap()]).unwrap();
    assert_eq!(none.grouped(&grouping(&[], &[])).unwrap().table.height(), 0);
}

#[test]
fn what_cannot_be_joined_is_an_error_that_names_it() {
    let failed = |by: &[&str], aggregates: &[(Aggregate, &str)]| {
        networks().grouped(&grouping(by, aggregates)).unwrap_err().to_string()
    };
    assert_eq!(
        failed(&[], &[(Aggregate::Sem, "network")]),
        "table `noise`: column `network` holds text; `sem` is of numbers"
    );
    assert!(failed(&["levle"], &[]).contains("no column `levle`"));
    assert!(failed(&[], &[(Aggregate::Mean, "acc")]).contains("no column `acc`"));
    assert!(failed(&["level", "level"], &[]).contains("names the column `level` twice"));
}

#[test]
fn rows_are_sorted_by_several_columns_and_missing_values_come_last() {
    let sorted = |by: &[&str]| {
        let by: Vec<SortBy> = by.iter().map(|text| text.parse().unwrap()).collect();
        let table = networks().sorted(&by).unwrap();
        let rows = (0..table.height()).map(|row| {
            let text = |name: &str| table.column(name).unwrap()[row].to_string();
            format!("{}{}", text("network"), text("accuracy"))
        });
        rows.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(sorted(&["accuracy"]), "a1.0 a2.0 a3.0 b4.0 b4.0 a");
    assert_eq!(sorted(&["-accuracy"]), "b4.0 b4.0 a3.0 a2.0 a1.0 a");
    assert_eq!(sorted(&["network", "-accuracy"]), "a3.0 a2.0 a1.0 a b4.0 b4.0");
    assert_eq!(sorted(&[]), "b4.0 a1.0 a3.0 a2.0 a b4.0");
    assert!("-".parse::<SortBy>().is_err());
    let unknown = ["nosuch".parse().unwrap()];
    assert!(networks().sorted(&unknown).is_err());
}

#[test]
fn a_numpy_file_is_a_header_and_records() {
    let schema = TableSchema::new("t", "")
        .key("é's", DType::Text, "")
        .value("n", DType::Int, "")
        .value("m", DType::Int, "")
        .allow_missing()
        .value("x", DType::Float, "")
        .allow_missing()
        .value("b", DType::Bool, "");
    let mut writer = TableWriter::new(schema).unwrap();
    let missing = || Value::Null;
    writer
        .push_row(["aé".into(), Value::Int(-2), Value::Int(7), 0.5.into(), true.into()])
        .unwrap();
    writer
        .push_row(["".into(), Value::Int(3), missing(), missing(), false.into()])
        .unwrap();
    let bytes = writer.finish().unwrap().to_npy();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x03\x00");
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    assert_eq!((12 + length) % 64, 0);
    let header = std::str::from_utf8(&bytes[12..12 + length]).unwrap();
    assert!(header.ends_with('\n'));
    assert_eq!(
        header.trim_end(),
        "{'descr': [('é\\'s', '<U2'), ('n', '<i8'), ('m', '<f8'), ('x', '<f8'), ('b', '|b1')], \
         'fortran_order': False, 'shape': (2,), }"
    );
    let mut expected: Vec<u8> = Vec::new();
    let text = |text: [char; 2]| text.map(|c| u32::from(c).to_le_bytes()).concat();
    expected.extend(text(['a', 'é']));
    expected.extend((-2_i64).to_le_bytes());
    expected.extend(7_f64.to_le_bytes());
    expected.extend(0.5_f64.to_le_bytes());
    expected.push(1);
    expected.extend(text(['\0', '\0']));
    expected.extend(3_i64.to_le_bytes());
    expected.extend(f64::NAN.to_le_bytes());
    expected.extend(f64::NAN.to_le_bytes());
    expected.push(0);
    assert_eq!(bytes[12 + length..], expected);
}

#[test]
fn keys_that_tell_two_tables_apart_are_set_aside() {
    let of = |level: f64| {
        let condition = format!("level={level}").parse().unwrap();
        networks().filtered(&[condition]).unwrap()
    };
    let (a, b) = (of(0.0), of(0.5));
    let found = set_aside(&a, &b);
    assert_eq!(
        (found.of_a.to_string(), found.of_b.to_string()),
        ("level=0.0".into(), "level=0.5".into())
    );
    let compared = diff(&found.a, &found.b).unwrap();
    assert_eq!(compared.keys, ["network", "seed"]);
    assert_eq!((compared.changed.len(), compared.removed.height()), (2, 2));
    // The same value, or several, stay.
    let same = set_aside(&a, &networks());
    assert!(same.of_a.0.is_empty() && same.a == a);
}
