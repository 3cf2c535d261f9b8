//! `plot` stages: figures of one's own.

use crate::harness::{Project, number, rows};

/// Two networks, three seeds, two levels; network b at level 1 has 0.2, 0.4 and 0.9.
const TABLE: &str = "network,seed,level,accuracy,low,high
a,0,0,0.9,0.8,1.0
a,1,0,0.9,0.8,1.0
a,2,0,0.9,0.8,1.0
a,0,1,0.5,0.4,0.6
a,1,1,0.6,0.5,0.7
a,2,1,0.7,0.6,0.8
b,0,0,0.8,0.7,0.9
b,1,0,0.8,0.7,0.9
b,2,0,0.8,0.7,0.9
b,0,1,0.2,0.1,0.3
b,1,1,0.4,0.3,0.5
b,2,1,0.9,0.8,1.0
";

/// A project with the table and one `plot` stage with these parameters.
fn project(plot: &str) -> Project {
    let project = Project::with_presets();
    let pipeline = format!(
        "stages:\n  source:\n    command: {{ run: [cp, \"{{files.0}}\", out.csv], files: [t.csv], outputs: {{ table: {{ path: \
         out.csv, type: table }} }} }}\n  figure:\n    plot: {{ table: source/table, {plot} }}\n"
    );
    project.write("p.yaml", &pipeline).write("t.csv", TABLE);
    project
}

/// The points that a figure has.
fn points(plot: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let project = project(plot);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    rows(&project, "figure/points")
}

/// What the run says where it fails, or `check` where that finds it.
fn complaint(plot: &str) -> String {
    let project = project(plot);
    let ran = project.dynvis(&["run", "p.yaml"]);
    assert!(ran.code != 0, "{plot}: {}", ran.stdout);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran.stderr
}

const LINES: &str = "x: level, y: accuracy";

/// Value, lower and upper end of network b at level 1.
#[track_caller]
fn at_one(more: &str) -> [f64; 3] {
    let points = points(&format!("{LINES}, where: [network=b, level=1], {more}"));
    assert_eq!(points.len(), 1, "{points:?}");
    assert_eq!(number(&points[0], "n"), 3.0);
    ["y", "low", "high"].map(|column| number(&points[0], column))
}

#[test]
fn aggregates_and_intervals_are_what_they_are_called() {
    let mean = 0.5;
    let sd = (0.13_f64).sqrt();
    let sem = sd / 3f64.sqrt();
    let near = |found: [f64; 3], expected: [f64; 3]| {
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close, "{found:?} {expected:?}");
    };
    near(at_one("interval: standard_deviation"), [mean, mean - sd, mean + sd]);
    near(at_one("interval: standard_error"), [mean, mean - sem, mean + sem]);
    let [value, low, high] = at_one("interval: confidence");
    // Student's 97.5 % point at two degrees of freedom.
    let arm = 4.302_652_729_911_275 * sem;
    assert!((value - mean).abs() < 1e-9);
    assert!(
        (low - mean + arm).abs() < 1e-6 && (high - mean - arm).abs() < 1e-6,
        "{low} {high}"
    );
    near(at_one("aggregate: median, interval: quartiles"), [0.4, 0.3, 0.65]);
    near(at_one("aggregate: median, interval: range"), [0.4, 0.2, 0.9]);
}

#[test]
fn a_figure_is_written_in_three_formats_to_the_same_bytes() {
    let project = project(&format!(
        "{LINES}, title: \"A <figure> & more\", lines: {{ chance: 0.1 }}"
    ));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let folder = project.dynvis(&["show", "@", "figure/figure"]).expect(0).stdout;
    let folder = std::path::PathBuf::from(folder.lines().next().expect("a folder"));
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    let svg = String::from_utf8(read("figure.svg")).expect("text");
    for text in [
        "A &lt;figure&gt; &amp; more",
        ">chance</text>",
        ">a</text>",
        ">level</text>",
    ] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
    assert!(
        svg.contains("band: mean plus and minus one standard deviation"),
        "{svg}"
    );
    let png = read("figure.png");
    assert!(png.starts_with(b"\x89PNG"));
    // 300 dots to the inch are 11811 to the metre.
    let place = png.windows(4).position(|bytes| bytes == b"pHYs").expect("a density");
    assert_eq!(png[place + 4..place + 8], 11_811_u32.to_be_bytes());
    let pdf = read("figure.pdf");
    assert!(pdf.starts_with(b"%PDF-"));
    project.dynvis(&["run", "p.yaml", "--force"]).expect(0);
    let contents =
        |run: usize| project.dynvis(&["runs", "--json"]).expect(0).json()[run]["stages"][1]["outputs"].clone();
    assert_eq!(contents(0), contents(1));
}

#[test]
fn curves_are_told_apart_and_labels_replaced() {
    let found = points(&format!("{LINES}, labels: {{ network: {{ a: Trained in phases }} }}"));
    let labels: Vec<&str> = found.iter().filter_map(|row| row["label"].as_str()).collect();
    assert_eq!(labels, ["Trained in phases", "Trained in phases", "b", "b"]);
    let panels = points(&format!("{LINES}, facet: network, colour: [seed]"));
    assert_eq!(panels.len(), 12);
    assert!(panels.iter().all(|row| number(row, "n") == 1.0));
    assert!(panels.iter().any(|row| row["facet"] == "b" && row["label"] == "seed 2"));
    let forest = points("mark: forest, y: accuracy, where: level=1");
    assert_eq!(forest.len(), 2);
    assert!(forest[0].get("x").is_none_or(serde_json::Value::is_null));
    let whole = points("mark: matrix, x: level, rows: seed, y: accuracy, where: network=b");
    assert_eq!(whole.len(), 6);
    let ends = points(&format!(
        "{LINES}, where: [seed=0, network=a], interval_columns: [low, high]"
    ));
    assert_eq!([number(&ends[1], "low"), number(&ends[1], "high")], [0.4, 0.6]);
}

#[test]
fn members_of_a_matrix_are_joined_by_their_fields() {
    let project = Project::with_presets();
    project.write("a1.csv", "step,loss\n0,2.5\n1,1.5\n").write("a2.csv", "step,loss\n0,4.5\n1,3.5\n").write(
        "p.yaml",
        "
stages:
  source:
    command: { run: [cp, \"{files.0}\", out.csv], files: [\"a${matrix.width}.csv\"], outputs: { table: { path: out.csv, type: table } } }
    matrix: { width: [1, 2] }
  figure:
    plot: { table: \"source@*/table\", x: step, y: loss, log_y: true }
",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let found = rows(&project, "figure/points");
    let labels: Vec<&str> = found.iter().filter_map(|row| row["label"].as_str()).collect();
    assert_eq!(labels, ["width 1", "width 1", "width 2", "width 2"]);
    assert_eq!(number(&found[3], "y"), 3.5);
}

#[test]
fn what_does_not_fit_is_said_with_what_to_do() {
    for (plot, wanted) in [
        ("x: level, y: acuracy", "did you mean `accuracy`"),
        (
            "x: level, y: accuracy, labels: { network: { a: b } }",
            "would both be called `b`",
        ),
        (
            "mark: matrix, x: level, rows: seed, y: accuracy, log_y: true",
            "go evenly",
        ),
        ("mark: forest, y: accuracy, log_x: true", "`log_y`"),
        ("x: level, y: [accuracy, accuracy]", "twice"),
        (
            "x: level, y: accuracy, interval: range, interval_columns: [low, high]",
            "leave one of them out",
        ),
        ("x: network, y: accuracy", "holds no numbers"),
        ("y: accuracy", "`x` is needed"),
        ("x: level, y: []", "at least one column"),
        ("mark: forest, x: level, y: accuracy", "a forest plot has no `x`"),
        ("mark: matrix, x: level, y: accuracy", "a matrix needs `rows`"),
        ("x: level, y: accuracy, rows: seed", "only a matrix"),
        ("x: level, y: accuracy, colour: seed", "rows differ in network too"),
        ("x: level, y: accuracy, colour: low", "tells no curves apart"),
        ("x: level, y: accuracy, colour: level", "has a part already"),
        ("x: level, y: accuracy, where: [level]", "COLUMN=VALUE"),
        ("x: level, y: accuracy, where: [nothing=1]", "nothing"),
        ("x: level, y: accuracy, where: [level=7]", "there is nothing to draw"),
        (
            "x: level, y: accuracy, interval_columns: [low, high]",
            "are of single rows",
        ),
        (
            "x: level, y: accuracy, aggregate: median, interval: confidence",
            "an interval of a mean",
        ),
        ("x: level, y: accuracy, y_range: [1, 0]", "below the second"),
        ("x: level, y: accuracy, y_range: [0, 1], log_y: true", "begins above 0"),
        ("x: level, y: accuracy, labels: { network: { c: d } }", "no row has `c`"),
        ("x: level, y: accuracy, colr: seed", "did you mean `colour`"),
        ("x: level, y: accuracy, mark: bars", "lines"),
    ] {
        let said = complaint(plot).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(wanted), "{plot}: {said}");
    }
}

/// A project whose table has what measurements sometimes have.
fn odd(table: &str, plot: &str) -> Project {
    let project = project(plot);
    project.write("t.csv", table);
    project
}

#[test]
fn what_is_no_point_is_said_and_lines_do_not_go_across_it() {
    let table = "x,y\n0,1.5\n1,inf\n2,\n3,2.5\n4,1e200\n5,3.5\n6,4.5\n";
    let project = odd(table, "x: x, y: y");
    let told = project.dynvis(&["run", "p.yaml"]).expect(0).stderr;
    assert!(
        told.contains("3 values are missing, infinite or above 1e100 and not drawn"),
        "{told}"
    );
    let folder = project.dynvis(&["show", "@", "figure/figure"]).expect(0).stdout;
    let svg = std::fs::read_to_string(std::path::Path::new(folder.trim()).join("figure.svg")).expect("a figure");
    assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    // Of four points the last two are joined alone.
    let line = svg
        .split("stroke-linejoin")
        .nth(1)
        .and_then(|rest| rest.split(" d=\"").nth(1));
    let line = line.and_then(|rest| rest.split('"').next()).expect("a line");
    assert_eq!((line.matches('M').count(), line.matches('L').count()), (3, 1), "{line}");
    let logarithmic = odd("x,y\n0,1.5\n1,-2.5\n10,2.5\n", "x: x, y: y, log_x: true, log_y: true");
    let told = logarithmic.dynvis(&["run", "p.yaml"]).expect(0).stderr;
    assert!(told.contains("2 values are not on a logarithmic axis"), "{told}");
    assert_eq!(rows(&logarithmic, "figure/points").len(), 1);
    let beyond = odd("x,y\n0,1.5\n1,2.5\n2,9.5\n", "x: x, y: y, y_range: [0, 3]");
    let told = beyond.dynvis(&["run", "p.yaml"]).expect(0).stderr;
    assert!(told.contains("1 value is beyond the ends of the axis"), "{told}");
}

#[test]
fn whole_numbers_on_an_axis_tell_no_curves_apart_nor_do_columns_in_step() {
    let table = "net,model,x,spikes\na,m1,0,3\na,m1,1,5\nb,m2,0,4\nb,m2,1,7\n";
    let project = odd(table, "x: x, y: spikes, colour: net");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let found = rows(&project, "figure/points");
    assert_eq!(
        found.iter().map(|row| number(row, "y")).collect::<Vec<_>>(),
        [3.0, 5.0, 4.0, 7.0]
    );
    let lines: Vec<f64> = found.iter().map(|row| number(row, "curve")).collect();
    assert_eq!(lines, [0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn nine_styles_are_too_many() {
    let rows = |count: usize| {
        (0..count)
            .map(|k| format!("s{k},0,1.5\ns{k},1,{k}.5\n"))
            .collect::<String>()
    };
    let many = odd(&format!("s,x,y\n{}", rows(9)), "x: x, y: y, style: s");
    let said = many.dynvis(&["run", "p.yaml"]).stderr;
    assert!(said.contains("`style` tells 8 values apart, and there are 9"), "{said}");
    let few = odd(&format!("s,x,y\n{}", rows(6)), "x: x, y: y, style: s");
    few.dynvis(&["run", "p.yaml"]).expect(0);
}

#[test]
fn figures_of_one_name_are_files_of_their_own() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 12, side: 16 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, epochs: 1, warmup: 0, batch: 16 }
    matrix: { width: [4, 8] }
  own:
    plot: { table: \"net@*/training\", x: epoch, y: loss, title: Loss, caption: Of both. }
",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["export", "--pictures", "all"]).expect(0);
    let drawings = ["the-network-cordsnet-r2", "the-network-cordsnet-r2-2"];
    let drawings = drawings.map(|name| project.read(&format!("all/pictures/net/{name}.svg")));
    assert!(drawings[0].contains("4 channels") && drawings[1].contains("8 channels"));
    for ending in ["svg", "pdf", "png"] {
        assert!(project.path(&format!("all/pictures/own/loss.{ending}")).is_file());
    }
    let captions = project.read("all/pictures/figures.md");
    assert!(captions.contains("**Loss.** Of both."), "{captions}");
}
