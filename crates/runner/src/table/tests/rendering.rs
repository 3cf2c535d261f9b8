//! Tables as text, md, csv and JSON.

use proptest::prelude::*;

use super::super::render::significant;
use super::*;

#[test]
fn six_significant_digits() {
    let cases = [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (1.0 / 3.0, "0.333333"),
        (123456.7, "123457"),
        (1234567.0, "1.23457e6"),
        (999999.5, "1e6"),
        (0.0001, "0.0001"),
        (0.00001, "1e-5"),
        (1e-300, "1e-300"),
        (0.99999999, "1"),
        (100.0, "100"),
        (f64::INFINITY, "inf"),
    ];
    for (value, expected) in cases {
        assert_eq!(significant(value, 6), expected, "{value:?}");
    }
}

#[test]
fn text_has_units_alignment_and_missing_values() {
    insta::assert_snapshot!(text(&noise(), None, Some(80)), @r##"
    model  level  accuracy  tau [ms]  images
    ────────────────────────────────────────
        0      0     0.981      23.5   10000
        0    0.5    0.8125         -   10000
        1      0      0.99      1e-7   10000
        1    0.5  0.333333   12345.7   10000
    "##);
    let bold = render(
        &noise(),
        Format::Text,
        &RenderOptions {
            color: true,
            ..RenderOptions::default()
        },
    )
    .unwrap();
    assert_eq!(
        bold.replace("\u{1b}[1m", "").replace("\u{1b}[0m", ""),
        text(&noise(), None, None)
    );
}

#[test]
fn long_tables_lose_middle_rows() {
    let rows: Vec<_> = (0..2000).map(|i| (i, 0.25, 0.5, i as f64)).collect();
    insta::assert_snapshot!(text(&noise_rows(&rows), Some(5), Some(80)), @r##"
    model  level  accuracy  tau [ms]  images
    ────────────────────────────────────────
        0   0.25       0.5         0   10000
        1   0.25       0.5         1   10000
        2   0.25       0.5         2   10000
    … 1,995 rows more
     1998   0.25       0.5      1998   10000
     1999   0.25       0.5      1999   10000
    "##);
}

#[test]
fn md_marks_alignment_and_escapes_bars() {
    let table = seeded(&[("a|b", 0, 0.5), ("c", 1, 0.25), ("d", 2, 0.125), ("e", 3, 1e-9)]);
    let options = RenderOptions {
        max_rows: Some(3),
        ..RenderOptions::default()
    };
    insta::assert_snapshot!(render(&table, Format::Md, &options).unwrap(), @r##"
    | model        | seed | accuracy |
    |--------------|-----:|---------:|
    | a\|b         |    0 |      0.5 |
    | c            |    1 |     0.25 |
    | … 1 row more |      |          |
    | e            |    3 |     1e-9 |
    "##);
}

#[test]
fn csv_and_json_are_complete_and_exact() {
    let options = RenderOptions {
        max_rows: Some(1),
        width: Some(10),
        color: true,
    };
    insta::assert_snapshot!(render(&noise(), Format::Csv, &options).unwrap(), @r##"
    model,level,accuracy,tau,images
    0,0.0,0.981,23.5,10000
    0,0.5,0.8125,,10000
    1,0.0,0.99,1e-7,10000
    1,0.5,0.3333333333333333,12345.678,10000
    "##);
    insta::assert_snapshot!(render(&noise(), Format::Json, &options).unwrap(), @r##"
    {"schema": {"name":"noise","description":"accuracy under input noise","columns":[{"name":"model","description":"the network","role":"key","dtype":"int","slot":"models"},{"name":"level","description":"noise standard deviation","unit":"1","role":"key","dtype":"float"},{"name":"accuracy","description":"share of images classified right","role":"value","dtype":"float","tolerance":{"absolute":0.001,"relative":0.0}},{"name":"tau","description":"time constant","unit":"ms","role":"value","dtype":"float","allow_missing":true},{"name":"images","description":"images seen","role":"value","dtype":"int"}]},
    "rows": [
    {"model":0,"level":0.0,"accuracy":0.981,"tau":23.5,"images":10000},
    {"model":0,"level":0.5,"accuracy":0.8125,"tau":null,"images":10000},
    {"model":1,"level":0.0,"accuracy":0.99,"tau":1e-7,"images":10000},
    {"model":1,"level":0.5,"accuracy":0.3333333333333333,"tau":12345.678,"images":10000}
    ]}
    "##);
}

#[test]
fn wide_tables_lose_middle_columns_and_say_so() {
    let mut schema = TableSchema::new("wide", "")
        .key("stage", DType::Text, "")
        .key("area", DType::Text, "");
    for place in 0..20 {
        schema = schema.value(format!("measure_{place}"), DType::Float, "").unit("Hz");
    }
    let mut writer = TableWriter::new(schema).unwrap();
    for row in 0..3_i64 {
        let long = format!("a stage\twith a rather long name, number {row}");
        let keys = [long.into(), "V1".into()];
        writer
            .push_row(
                keys.into_iter()
                    .chain((0..20).map(|place| Value::Float(f64::from(place) / 7.0))),
            )
            .unwrap();
    }
    let table = writer.finish().unwrap();
    insta::assert_snapshot!(text(&table, None, Some(80)), @r##"
    stage                     area  measure_0 [Hz]  …  measure_19 [Hz]
    ──────────────────────────────────────────────────────────────────
    a stage\twith a rather …  V1                 0  …          2.71429
    a stage\twith a rather …  V1                 0  …          2.71429
    a stage\twith a rather …  V1                 0  …          2.71429
    18 columns not shown: measure_1, measure_2, measure_3, …, measure_16,
    measure_17, measure_18
    "##);
    for width in 1..400 {
        let text = text(&table, Some(2), Some(width));
        let widest = text.lines().map(|line| line.chars().count()).max();
        // Below 20 characters the words of the note are longer than a line; words are not broken.
        assert!(widest <= Some(width.max(20)), "width {width}:\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn json_keeps_every_value(table in any_table()) {
        let text = render(&table, Format::Json, &RenderOptions::default()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(json["rows"].as_array().unwrap().len(), table.height());
        for (row, x) in table.column("x").unwrap().iter().enumerate() {
            prop_assert_eq!(json["rows"][row]["x"].as_f64(), x.number());
        }
    }

    #[test]
    fn text_is_one_line_a_row_at_any_width(table in any_table(), width in 60_usize..200) {
        let text = text(&table, None, Some(width));
        prop_assert!(text.lines().count() <= table.height() + 3);
    }
}
