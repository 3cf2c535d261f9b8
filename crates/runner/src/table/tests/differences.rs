//! Keyed differences and the comparison over seeds.

use proptest::prelude::*;

use super::*;

#[test]
fn a_difference_shows_what_changed_and_nothing_else() {
    let a = noise_rows(&[
        (0, 0.0, 0.981, 20.0),
        (0, 0.5, 0.81, f64::NAN),
        (1, 0.0, 0.9, 0.0),
        (1, 0.5, 0.7, 5.0),
    ]);
    // Other order; accuracy of (0, 0) moves within tolerance; (1, 0.5) goes and (2, 0) comes.
    let b = noise_rows(&[
        (2, 0.0, 0.5, 1.0),
        (1, 0.0, 0.85, 1e-9),
        (0, 0.5, 0.81, 3.0),
        (0, 0.0, 0.9815, 20.000_000_1),
    ]);
    let diff = diff(&a, &b).unwrap();
    assert_eq!(diff.equal, 0);
    insta::assert_snapshot!(plain_diff(&diff, DiffFormat::Text), @r##"
    3 rows changed, 1 added, 1 removed, 0 equal (rows matched by model, level)

    rows changed
    model  level  column      a           b  b - a  relative
    ────────────────────────────────────────────────────────
        0      0  tau [ms]   20  20.0000001  +1e-7   +5e-7 %
        0    0.5  tau [ms]    -           3
        1      0  accuracy  0.9        0.85  -0.05   -5.56 %
        1      0  tau [ms]    0        1e-9  +1e-9

    rows added
    model  level  accuracy  tau [ms]  images
    ────────────────────────────────────────
        2      0       0.5         1   10000

    rows removed
    model  level  accuracy  tau [ms]  images
    ────────────────────────────────────────
        1    0.5       0.7         5   10000
    "##);
    insta::assert_snapshot!(plain_diff(&diff, DiffFormat::Md), @r##"
    3 rows changed, 1 added, 1 removed, 0 equal (rows matched by model, level)

    **rows changed**

    | model | level | column   |   a |          b | b - a | relative |
    |------:|------:|----------|----:|-----------:|------:|---------:|
    |     0 |     0 | tau [ms] |  20 | 20.0000001 | +1e-7 |  +5e-7 % |
    |     0 |   0.5 | tau [ms] |   - |          3 |       |          |
    |     1 |     0 | accuracy | 0.9 |       0.85 | -0.05 |  -5.56 % |
    |     1 |     0 | tau [ms] |   0 |       1e-9 | +1e-9 |          |

    **rows added**

    | model | level | accuracy | tau [ms] | images |
    |------:|------:|---------:|---------:|-------:|
    |     2 |     0 |      0.5 |        1 |  10000 |

    **rows removed**

    | model | level | accuracy | tau [ms] | images |
    |------:|------:|---------:|---------:|-------:|
    |     1 |   0.5 |      0.7 |        5 |  10000 |
    "##);
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["keys"], serde_json::json!(["model", "level"]));
    assert_eq!(
        json["changed"][2]["key"],
        serde_json::json!({ "model": 1, "level": 0.0 })
    );
    let relative = (0.85 - 0.9) / 0.9;
    let cell =
        serde_json::json!({ "column": "accuracy", "a": 0.9, "b": 0.85, "absolute": 0.85 - 0.9, "relative": relative });
    assert_eq!(json["changed"][2]["cells"][0], cell);
    assert_eq!(json["changed"][1]["cells"][0]["a"], serde_json::Value::Null);
    assert_eq!(json["removed"][0]["accuracy"], 0.7);
    assert_eq!(json["added"].as_array().unwrap().len(), 1);
    assert!(!diff.is_empty());
}

#[test]
fn no_difference_is_one_line() {
    let diff = diff(&noise(), &noise()).unwrap();
    assert!(diff.is_empty());
    insta::assert_snapshot!(plain_diff(&diff, DiffFormat::Text), @r##"
    no difference: 4 rows equal within tolerance (rows matched by model, level)
    "##);
}

#[test]
fn columns_that_come_go_or_change_are_named() {
    let a = noise();
    let mut b = a.clone();
    b.schema.columns[3].unit = Some("s".to_owned());
    b.schema.columns[4].name = "pictures".to_owned();
    let diff = diff(&a, &b).unwrap();
    assert!(!diff.is_empty());
    assert_eq!((diff.changed.len(), diff.equal), (0, 4));
    insta::assert_snapshot!(plain_diff(&diff, DiffFormat::Text), @r##"
    0 rows changed, 0 added, 0 removed, 4 equal (rows matched by model, level)

    columns
    - pictures: added
    - images: removed
    - tau: unit ms -> s; values are compared without conversion
    "##);
}

#[test]
fn tolerance_is_absolute_plus_relative() {
    let table = |x: f64| {
        let schema = TableSchema::new("t", "")
            .value("x", DType::Float, "")
            .tolerance(0.25, 0.5);
        let mut writer = TableWriter::new(schema).unwrap();
        writer.push_row([x.into()]).unwrap();
        writer.finish().unwrap()
    };
    let changed = |a: f64, b: f64| !diff(&table(a), &table(b)).unwrap().is_empty();
    // 0.25 + 0.5 * |a|; all of it exact in binary.
    assert!(!changed(2.0, 3.25) && changed(2.0, 3.375));
    assert!(!changed(-2.0, -3.25) && changed(-2.0, -3.375));
    assert!(!changed(0.0, 0.25) && changed(0.0, 0.5));
}

#[test]
fn large_integers_are_compared_exactly() {
    let table = |x: i64| {
        let schema = TableSchema::new("t", "").value("x", DType::Int, "");
        let mut writer = TableWriter::new(schema).unwrap();
        writer.push_row([x.into()]).unwrap();
        writer.finish().unwrap()
    };
    let diff = diff(&table(1 << 60), &table((1 << 60) + 1)).unwrap();
    assert_eq!(diff.changed[0].cells[0].absolute, Some(1.0));
}

#[test]
fn a_csv_file_follows_the_roles_of_a_described_table() {
    // `level` reads as float, so a guess would take `model` alone for a key.
    let csv = read_csv(&render(&noise(), Format::Csv, &RenderOptions::default()).unwrap()).unwrap();
    for diff in [diff(&noise(), &csv).unwrap(), diff(&csv, &noise()).unwrap()] {
        assert_eq!(diff.keys, ["model", "level"]);
        assert!(diff.is_empty(), "{}", plain_diff(&diff, DiffFormat::Text));
    }
    let shifted = read_csv("model,level,accuracy,tau,images\n0,0,0.981,23.5,10000\n0,0.5,0.8,,10000\n").unwrap();
    let diff = diff(&noise(), &shifted).unwrap();
    assert_eq!((diff.changed.len(), diff.removed.height(), diff.equal), (1, 2, 1));
}

#[test]
fn rows_without_usable_keys_are_matched_by_number_if_roles_were_guessed() {
    let (a, b) = (
        read_csv("x,y\n1.5,2\n2.5,3\n").unwrap(),
        read_csv("x,y\n1.5,2\n2.5,4\n").unwrap(),
    );
    let by_number = diff(&a, &b).unwrap();
    assert_eq!(by_number.keys, ["row number"]);
    assert_eq!(by_number.changed[0].key.to_string(), "row number=1");
    assert_eq!(by_number.changed[0].cells[0].column, "y");

    let mut other = noise();
    other.schema.columns[1].name = "dose".to_owned();
    let message = diff(&noise(), &other).unwrap_err().to_string();
    assert_eq!(
        message,
        "table `noise`: rows 0 and 1 are alike (model=0) in all key columns that the other table has, too, so rows \
         cannot be matched"
    );
}

#[test]
fn means_over_seeds_are_compared_with_their_spread() {
    let a = seeded(&[
        ("cnn", 0, 0.75),
        ("cnn", 1, 0.75),
        ("net", 0, 1.0),
        ("net", 1, 2.0),
        ("net", 2, 3.0),
        ("one", 0, 1.0),
    ]);
    let b = seeded(&[
        ("cnn", 0, 0.5),
        ("cnn", 1, 0.5),
        ("net", 3, 2.0),
        ("net", 4, 4.0),
        ("net", 5, 6.0),
        ("one", 0, 2.0),
    ]);
    let diff = diff(&a, &b).unwrap();
    let of = |model: &str| diff.seeds.iter().find(|item| item.group.0[0].1 == Value::from(model));
    assert!(of("one").is_none(), "one seed has no spread");
    let cnn = of("cnn").unwrap();
    assert_eq!((cnn.welch, cnn.exceeds_spread), (None, true));
    // By hand: means 2 and 4, variances 1 and 4, n = 3: t = 2 / sqrt(5/3), df = (5/3)² / (1/18 + 16/18) = 50/17.
    // p from scipy.stats.ttest_ind([2, 4, 6], [1, 2, 3], equal_var=False), version 1.17.
    let net = of("net").unwrap();
    let welch = net.welch.unwrap();
    assert!((welch.statistic - 2.0 / (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!((welch.degrees_of_freedom - 50.0 / 17.0).abs() < 1e-12);
    assert!((welch.p - 0.22088084049409593).abs() < 1e-10, "{}", welch.p);
    assert!(!net.exceeds_spread);
    insta::assert_snapshot!(plain_diff(&diff, DiffFormat::Text), @r##"
    3 rows changed, 3 added, 3 removed, 0 equal (rows matched by model, seed)

    rows changed
    model  seed  column       a    b  b - a  relative
    ─────────────────────────────────────────────────
    cnn       0  accuracy  0.75  0.5  -0.25   -33.3 %
    cnn       1  accuracy  0.75  0.5  -0.25   -33.3 %
    one       0  accuracy     1    2     +1    +100 %

    rows added
    model  seed  accuracy
    ─────────────────────
    net       3         2
    net       4         4
    net       5         6

    rows removed
    model  seed  accuracy
    ─────────────────────
    net       0         1
    net       1         2
    net       2         3

    over seeds
    Mean ± standard deviation over seeds. A change counts as larger than the seeds'
    spread if Welch's t-test gives a two-sided p below 0.05; 2 comparisons made, not
    corrected for their number.
    - model=cnn: accuracy 0.75 ± 0 (2 seeds) -> 0.5 ± 0 (2 seeds), change -0.25, no
      spread over seeds in either, so no test
    - model=net: accuracy 2 ± 1 (3 seeds) -> 4 ± 2 (3 seeds), change +2, not larger
      than the seeds' spread (t = 1.549, df = 2.941, p = 0.2209)
    "##);
}

#[test]
fn welch_agrees_with_student_where_that_has_a_closed_form() {
    // Equal n = 2 and equal variance give df = 2, where P(|T| > t) = 1 - t / sqrt(t² + 2).
    let a = seeded(&[("m", 0, 0.0), ("m", 1, 2.0)]);
    for shift in [0.5, 3.0, 40.0, 1e6] {
        let b = seeded(&[("m", 0, shift), ("m", 1, shift + 2.0)]);
        let welch = diff(&a, &b).unwrap().seeds[0].welch.unwrap();
        assert!((welch.degrees_of_freedom - 2.0).abs() < 1e-9);
        // Standard error sqrt(2/2 + 2/2). The closed form without cancellation: 2 / (r (r + t)) with r = sqrt(t² + 2).
        let t = shift / 2.0_f64.sqrt();
        let r = (t * t + 2.0).sqrt();
        let expected = 2.0 / (r * (r + t));
        // The incomplete beta function is good to about 1e-12; means of values near 1e6 cost four digits more.
        assert!((welch.p / expected - 1.0).abs() < 1e-8, "{} {expected}", welch.p);
    }
}

#[test]
fn a_network_trained_anew_is_the_replicate_not_its_noise() {
    let table = |shift: f64| {
        let schema = TableSchema::new("noise", "")
            .key("models.seed", DType::Int, "")
            .key("seed", DType::Int, "")
            .value("accuracy", DType::Float, "");
        let mut writer = TableWriter::new(schema).unwrap();
        for (network, accuracy) in [(0, 1.0), (1, 2.0), (2, 3.0)] {
            for (noise, deviation) in [(0, -0.5), (1, 0.5)] {
                let row = [network.into(), noise.into(), (accuracy + deviation + shift).into()];
                writer.push_row(row).unwrap();
            }
        }
        writer.finish().unwrap()
    };
    let diff = diff(&table(0.0), &table(2.0)).unwrap();
    let [found] = diff.seeds.as_slice() else {
        panic!("{:?}", diff.seeds)
    };
    // Six rows, but three networks: the two draws of noise tell nothing of how networks differ.
    assert_eq!((found.a.n, found.a.mean, found.a.standard_deviation), (3, 2.0, 1.0));
    assert_eq!((found.b.n, found.b.mean, found.b.standard_deviation), (3, 4.0, 1.0));
    let welch = found.welch.unwrap();
    assert!((welch.degrees_of_freedom - 4.0).abs() < 1e-12);
    let text = plain_diff(&diff, DiffFormat::Text).replace('\n', " ");
    assert!(
        text.contains("over seeds of models.seed, averaged over seed first."),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_table_does_not_differ_from_itself_in_any_order(table in any_table()) {
        let mut rows: Vec<usize> = (0..table.height()).collect();
        rows.reverse();
        let diff = diff(&table, &table.select(&rows)).unwrap();
        prop_assert!(diff.is_empty());
        prop_assert_eq!(diff.equal, table.height());
    }

    #[test]
    fn exactly_the_planted_changes_are_found(table in any_table(), fates in proptest::collection::vec(0..4_u8, 20)) {
        let mut other = table.clone();
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for (row, fate) in fates.into_iter().enumerate().take(table.height()) {
            match fate {
                1 => {
                    let x = &mut other.columns[2][row];
                    *x = Value::Float(x.number().unwrap_or(0.0) * 2.0 + 1e13);
                    changed.push(table.fields(row, &[0, 1]));
                }
                2 => removed.push(row),
                _ => {}
            }
        }
        let kept: Vec<usize> = (0..table.height()).filter(|row| !removed.contains(row)).collect();
        let other = other.select(&kept);
        let there = diff(&table, &other).unwrap();
        prop_assert_eq!(there.changed.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), changed);
        prop_assert!(there.changed.iter().all(|row| row.cells.len() == 1 && row.cells[0].column == "x"));
        prop_assert_eq!(&there.removed, &table.select(&removed));
        prop_assert_eq!(there.added.height(), 0);
        prop_assert_eq!(there.equal + there.changed.len() + there.removed.height(), table.height());
        // And the other way round what went has come.
        let back = diff(&other, &table).unwrap();
        prop_assert_eq!(&back.added, &table.select(&removed));
        prop_assert_eq!(back.changed.len(), there.changed.len());
    }
}
