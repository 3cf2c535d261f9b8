//! `check`: every error in one pass, each at its place.

use crate::harness::{Project, Ran, repository};

#[test]
fn every_planted_error_is_reported_with_its_line() {
    let project = Project::new();
    let folder = repository().join("tests/fixtures/many_errors/pipelines");
    let output = project
        .command(&["check", "many_errors.yaml"])
        .current_dir(folder)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let planted = [
        ("2:1", "unknown key `seeds`", "did you mean `seed`?"),
        ("6:24", "`digitz` is not one of", "did you mean `digits`?"),
        ("6:38", "unknown variable `sid`", "did you mean `side`?"),
        ("8:38", "4 is out of range: at least 8", ""),
        ("10:5", "unknown stage kind `trian`", "did you mean `train`?"),
        ("12:37", "no stage named `digitts`", "did you mean `digits`?"),
        ("12:54", "expected an integer, found text (`ten`)", ""),
        ("12:59", "unknown parameter `batchsize`", "did you mean `batch`?"),
        (
            "14:19",
            "cannot read preset `train/cnn-r2`",
            "did you mean `train/cnn`?",
        ),
        ("17:3", "`twice` is declared twice", "first here"),
        ("20:51", "13 is out of range: at least 1, at most 12", ""),
        (
            "22:23",
            "`tiny` gives a dataset, but this parameter needs a model",
            "this stage",
        ),
        ("22:29", "`late` has no matrix", "write `late`"),
        (
            "24:5",
            "missing parameter `models`",
            "Stages whose CordsNets are analysed",
        ),
        ("25:3", "in a cycle: first -> second -> first", "part of the cycle"),
        ("37:15", "matrix field `sead`", "did you mean `seed`?"),
        ("39:37", "no stage named `images`", ""),
        ("40:18", "unknown resource `gpus`", "did you mean `gpu`?"),
        ("stages/train/broken.yaml:3:8", "not valid YAML", "used here"),
        ("47:23", "`many` has 2 members", "write `many@seed=0` for one of them"),
        (
            "47:29",
            "`many@seed=2` names no member",
            "members: many@seed=0, many@seed=1",
        ),
        ("47:80", "-1 is out of range: at least 0", ""),
    ];
    let found = format!("{} problems in this pipeline", planted.len());
    assert!(text.contains(&found), "these and no others:\n{text}");
    for (place, message, help) in planted {
        assert!(text.contains(place), "no place {place} for {message:?} in\n{text}");
        assert!(text.contains(message), "no {message:?} in\n{text}");
        assert!(text.contains(help), "no {help:?} in\n{text}");
    }
}

#[test]
fn a_good_pipeline_is_said_to_be_good() {
    let project = Project::with_presets();
    project.write("p.yaml", "stages:\n  digits:\n    dataset: { use: dataset/digits }\n");
    let ran = project.dynvis(&["check", "p.yaml"]).expect(0);
    assert!(ran.stderr.contains("no errors"), "{}", ran.stderr);
}

#[test]
fn every_shipped_pipeline_checks_clean() {
    for entry in std::fs::read_dir(repository().join("pipelines")).expect("pipelines") {
        let path = entry.expect("an entry").path();
        let name = path.to_string_lossy().into_owned();
        Project::new().dynvis(&["check", &name]).expect(0);
    }
    let paper = repository().join("pipelines/paper.yaml");
    let paper = paper.to_string_lossy();
    Project::new()
        .dynvis(&["check", &paper, "-S", "vars.data=digits"])
        .expect(0);
}

#[test]
fn overrides_are_typed_and_typos_get_a_suggestion() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "vars: { side: 16 }\nstages:\n  digits:\n    dataset: { source: digits, side: \"${vars.side}\" }\n",
    );
    project
        .dynvis(&["check", "p.yaml", "-S", "vars.side=24", "-S", "digits.limit=100"])
        .expect(0);
    for (argument, message, help) in [
        ("digits.sidee=16", "unknown parameter `sidee`", "did you mean `side`?"),
        ("digit.side=16", "no stage named `digit`", "did you mean `digits`?"),
        ("vars.sid=16", "unknown variable `sid`", "did you mean `side`?"),
        ("digits.side=big", "expected an integer", ""),
        ("digits.side", "is not of the form", ""),
        ("digits.side=[", "not valid YAML", ""),
    ] {
        let ran = project.dynvis(&["check", "p.yaml", "-S", argument]).expect(2);
        assert!(ran.stderr.contains(message), "{argument}: {}", ran.stderr);
        assert!(ran.stderr.contains(help), "{argument}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("-S {argument}")),
            "{argument}: {}",
            ran.stderr
        );
    }
}

#[test]
fn hostile_texts_get_an_answer() {
    let project = Project::new();
    let deep = "[".repeat(20_000);
    let long_name = format!("stages: {{ {}: {{}} }}", "x".repeat(10_000));
    for text in [
        "",
        "null",
        "[]",
        "stages:",
        "stages: 3",
        "stages: {a: }",
        "\u{feff}",
        "a: b: c",
        "stages: {1: {2: 3}}",
        "&a [*a]",
        "stages: {a: {dataset: {source: {x: 1}}}}",
        &deep,
        &long_name,
    ] {
        project.write("p.yaml", text);
        let ran = project.dynvis(&["check", "p.yaml"]);
        assert_eq!(ran.code, 2, "{text:.40}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{text:.40}: {}", ran.stderr);
    }
    std::fs::write(project.path("p.yaml"), [0xff, 0xfe, 0x00]).expect("written");
    let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
    assert!(ran.stderr.contains("not UTF-8"), "{}", ran.stderr);
    let ran = project.dynvis(&["check", "nowhere.yaml"]).expect(2);
    assert!(ran.stderr.contains("no such file"), "{}", ran.stderr);
}

/// Texts of a few lines that stand for gigabytes, or for a depth that no stack has.
#[test]
fn texts_that_would_take_all_memory_are_refused() {
    let lines = |lines: &mut dyn Iterator<Item = String>| lines.collect::<Vec<_>>().join("\n");
    let doubled = |one: &dyn Fn(usize) -> String| lines(&mut (1..40).map(one));
    let stage = "\nstages: { a: { dataset: { source: digits } } }\n";
    let numbers: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let numbers = numbers.join(", ");
    let long = "x".repeat(1 << 20);
    let texts = [
        ("depth of a list", "[".repeat(10_000)),
        ("depth, closed", "[".repeat(10_000) + &"]".repeat(10_000)),
        ("depth of a mapping", "{a: ".repeat(10_000) + "1" + &"}".repeat(10_000)),
        (
            "depth by indentation",
            lines(&mut (0..10_000).map(|i| format!("{}a:", " ".repeat(i)))),
        ),
        (
            "depth of a stage",
            format!("stages: {{ a: {{ dataset: {} }} }}", "[".repeat(10_000)),
        ),
        (
            "a billion laughs",
            format!(
                "a0: &a0 [x, x]\n{}{stage}",
                doubled(&|i| format!("a{i}: &a{i} [*a{}, *a{}]", i - 1, i - 1))
            ),
        ),
        (
            "laughs in mappings",
            format!(
                "a0: &a0 {{ x: y }}\n{}{stage}",
                doubled(&|i| format!("a{i}: &a{i} {{ x: *a{}, y: *a{} }}", i - 1, i - 1))
            ),
        ),
        (
            "one long text again and again",
            format!(
                "a: &a {long}\n{}\nb: [{}]{stage}",
                lines(&mut (0..3000).map(|i| format!("c{i}: &c{i} 1"))),
                vec!["*a"; 20_000].join(", ")
            ),
        ),
        (
            "variables that double",
            format!(
                "vars:\n  a0: xxxxxxxx\n{}{stage}",
                doubled(&|i| format!("  a{i}: \"${{vars.a{}}}${{vars.a{}}}\"", i - 1, i - 1))
            ),
        ),
        (
            "lists of variables that double",
            format!(
                "vars:\n  a0: [x]\n{}{stage}",
                doubled(&|i| format!("  a{i}: [\"${{vars.a{}}}\", \"${{vars.a{}}}\"]", i - 1, i - 1))
            ),
        ),
        (
            "a matrix of a quintillion",
            format!(
                "stages:\n  a:\n    dataset: {{ source: digits }}\n    matrix:\n{}\n",
                lines(&mut (0..6).map(|i| format!("      m{i}: [{numbers}]")))
            ),
        ),
        (
            "a matrix of long texts",
            format!(
                "stages:\n  a:\n    dataset: {{ source: digits }}\n    matrix: {{ limit: [{numbers}], text: [{long}] \
                 }}\n"
            ),
        ),
        (
            "links of all with all",
            format!(
                "stages:\n  a:\n    command: {{ run: [x], outputs: {{ o: {{ path: \"o${{matrix.m}}\" }} }} }}\n    \
                 matrix: {{ m: [{numbers}] }}\n{}",
                lines(&mut (0..3000).map(|i| format!("  b{i}: {{ collect: {{ tables: [\"a@*\"] }} }}")))
            ),
        ),
    ];
    let project = Project::new();
    for (name, text) in texts {
        project.write("p.yaml", &text);
        // A gigabyte and a half, in KiB, is plenty for a text.
        let Ran { code, stderr, .. } = project.check_within("ulimit -v 1500000;", "p.yaml");
        assert_eq!(code, 2, "{name}: {stderr:.2000}");
        assert!(stderr.contains("in this pipeline"), "{name}: {stderr:.2000}");
    }
    // Presets can name each other, too.
    for i in 0..40 {
        let body = format!("dataset: {{ use: [p{}, p{}] }}\n", i + 1, i + 1);
        project.write(&format!("stages/p{i}.yaml"), &body);
    }
    project
        .write("stages/p40.yaml", "dataset: { source: digits }\n")
        .write("p.yaml", "stages: { a: { dataset: { use: p0 } } }\n");
    project.check_within("", "p.yaml").expect(2);
}

/// Lists of a fixed length, too short or empty: what checks the values behind them must not take them for granted.
#[test]
fn lists_of_another_length_are_refused() {
    for parameter in [
        "ramp: [1]",
        "ramp: []",
        "augment: { crop: [0.5] }",
        "augment: { scale: [] }",
    ] {
        let project = Project::new();
        let text = format!(
            "name: short\nseed: 0\nstages:\n  digits:\n    dataset: {{ source: digits, side: 16 }}\n  cordsnet:\n    \
             train: {{ data: digits, areas: 2, {parameter} }}\n"
        );
        project.write("p.yaml", &text);
        let text = project.dynvis(&["check", "p.yaml"]).expect(2).stderr;
        assert!(text.contains("exactly 2 items"), "{parameter}: {text}");
    }
}
