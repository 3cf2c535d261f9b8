//! Faults of `noise`, `evaluate` and `record`: networks that diverge, means over what is no repetition, networks of
//! other steps, images that could not be seen.

use serde_json::Value;

use crate::harness::Project;

/// A dataset and two tiny kinds of network.
const HEAD: &str = r#"
name: t
stages:
  digits: { dataset: { use: dataset/digits, limit_per_class: 12, side: 16 } }
  cnn: { train: { use: train/digits/cnn, data: digits, areas: 2, width: 4, epochs: 1, warmup: 0 } }
"#;

/// Parameters of a CordsNet that trains in a moment.
const QUICK: &str = "use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, spontaneous: 10, \
    stimulus: 20, after: 10, \
                     readout_window: 10, return_window: 10, warmup: 0";

fn project(stages: &str) -> Project {
    let project = Project::with_presets();
    project.write("p.yaml", &format!("{HEAD}{}", stages.replace("QUICK", QUICK)));
    project
}

fn rows(project: &Project, table: &str) -> Vec<Value> {
    let shown = project.dynvis(&["show", "@", table, "--format", "json"]).expect(0);
    shown.json()["rows"].as_array().expect("rows").clone()
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column]
        .as_str()
        .unwrap_or_else(|| panic!("text in {column}: {row}"))
}

/// Names and contents of the files in a stage's folder of pictures, or another output's.
fn files(project: &Project, stage: &str, output: &str) -> Vec<(String, Vec<u8>)> {
    let run = &project.dynvis(&["runs", "--json"]).expect(0).json()[0];
    let stages = run["stages"].as_array().expect("stages");
    let stage = stages.iter().find(|s| s["name"] == stage).expect("the stage");
    let outputs = stage["outputs"].as_array().expect("outputs");
    let output = outputs.iter().find(|o| o["slot"] == output).expect("the output");
    let hash = text(output, "content");
    let found = walk(&project.path("cache/objects"), hash);
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(found)
        .expect("its folder")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("read"))
        })
        .collect();
    files.sort();
    files
}

/// The folder of that name, one or two levels below.
fn walk(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let direct = folder.join(name);
    if direct.is_dir() {
        return direct;
    }
    folder.join(&name[..2]).join(name)
}

#[test]
fn images_that_diverged_have_no_accuracy_in_any_table() {
    let project = project(
        "  boom:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, spontaneous: 5, stimulus: 10, after: 5,
      readout_window: 5, return_window: 5, initialisation: { recurrent: 20 } }
  ev: { evaluate: { models: [cnn, boom], data: digits, stimulus: 1000, spontaneous: 1000 } }
  no: { noise: { models: [boom], data: digits, levels: [0, 0.5, 1], stimulus: 1000, spontaneous: 1000, presentations: [static] } }
  re: { record: { model: boom, data: digits, stimulus: 1000, spontaneous: 1000, every: 100 } }
",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let has_none = |row: &Value, columns: &[&str]| {
        for column in columns {
            assert!(row[*column].is_null(), "{column}: {row}");
        }
    };
    let accuracy = rows(&project, "ev/accuracy");
    assert_eq!(accuracy[0]["diverged"], 0);
    assert!(accuracy[0]["accuracy"].is_number());
    assert_eq!(accuracy[1]["diverged"], accuracy[1]["images"]);
    has_none(
        &accuracy[1],
        &["accuracy", "accuracy_low", "accuracy_high", "cross_entropy"],
    );
    let summary = rows(&project, "ev/summary");
    let boom = summary.iter().find(|row| row["models"] == "boom").expect("a row");
    has_none(boom, &["accuracy", "deviation"]);
    assert_eq!(
        (&boom["n"], &boom["diverged"]),
        (&Value::from(0), &accuracy[1]["images"])
    );

    let dynamics = |table: &str| -> Vec<Value> {
        let rows = rows(&project, table);
        rows.into_iter().filter(|row| row["view"] == "dynamics").collect()
    };
    for row in dynamics("no/accuracy") {
        assert_eq!(row["diverged"], row["images"]);
        has_none(
            &row,
            &["accuracy", "accuracy_low", "accuracy_high", "top5", "cross_entropy"],
        );
    }
    for row in dynamics("no/summary") {
        has_none(&row, &["accuracy"]);
        assert_eq!(row["n"], 0);
    }
    let time = dynamics("no/time");
    has_none(time.last().expect("rows"), &["accuracy"]);
    assert!(time.last().expect("rows")["diverged"].as_i64().expect("a count") > 0);
    for row in dynamics("no/robustness") {
        has_none(
            &row,
            &[
                "clean",
                "half",
                "half_low",
                "half_high",
                "area",
                "area_low",
                "area_high",
            ],
        );
        assert_eq!(row["half_is"], "nowhere");
    }
    for row in dynamics("no/gains") {
        has_none(&row, &["change", "gain"]);
    }
    for row in rows(&project, "no/paired") {
        has_none(&row, &["difference", "p"]);
        assert!(row["diverged"].as_i64().expect("a count") > 0);
    }
    let recorded = rows(&project, "re/summary");
    has_none(
        recorded.last().expect("rows"),
        &["accuracy", "mean_rate", "participation_ratio"],
    );
    assert!(recorded.last().expect("rows")["diverged"].as_i64().expect("a count") > 0);
}

#[test]
fn means_are_over_seeds_and_not_over_networks_that_differ_in_a_matrix_field() {
    let stages = "  net:
    train: { QUICK }
    matrix: { dt: [2, 5], seed: [0, 1] }
  other: { train: { QUICK, width: 6 } }
  no: { noise: { models: [cnn, \"net@*\", other], data: digits, levels: [0, 0.5], presentations: [static] } }
  ev: { evaluate: { models: [cnn, \"net@*\", other], data: digits } }
";
    let project = project(&stages.replace(
        "{ QUICK, width: 6 }",
        &format!("{{ {}, seed: 7 }}", QUICK.replace("width: 4", "width: 6")),
    ));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    for (table, views) in [("no/summary", 2), ("ev/summary", 1)] {
        let summary = rows(&project, table);
        let of = |models: &str, dt: Value| -> Vec<&Value> {
            let is = |row: &&Value| {
                let level = row.get("level").is_none_or(|level| level == 0.5);
                row["models"] == models && row["models.dt"].as_i64().or(row["dt"].as_i64()) == dt.as_i64() && level
            };
            summary.iter().filter(is).collect()
        };
        for dt in [2, 5] {
            let found = of("net", dt.into());
            assert_eq!(found.len(), views, "{table}: {summary:#?}");
            assert!(found.iter().all(|row| row["n"] == 2), "{table}: {found:#?}");
        }
        // Another stage is no repetition either.
        let other: Vec<&Value> = summary.iter().filter(|row| row["models"] == "other").collect();
        assert!(
            !other.is_empty() && other.iter().all(|row| row["n"] == 1),
            "{table}: {other:#?}"
        );
    }
    let pictures = files(&project, "no", "pictures");
    let accuracy = pictures
        .iter()
        .find(|(name, _)| name == "accuracy_gaussian_static.svg")
        .expect("the picture");
    let svg = String::from_utf8_lossy(&accuracy.1);
    for legend in ["CordsNet-R2, dt=2, dynamics", "CordsNet-R2, dt=5, dynamics"] {
        assert!(svg.contains(legend), "no `{legend}` in the legend");
    }
    // Names of stages are told by the tool and belong to no key.
    let text = project
        .read("p.yaml")
        .replace("net@*", "renamed@*")
        .replace("  net:", "  renamed:");
    project.write("p.yaml", &text);
    let states = project.states(&["p.yaml"]);
    assert_eq!(
        (states["no"].as_str(), states["ev"].as_str()),
        ("cached", "cached"),
        "{states:?}"
    );
}

#[test]
fn networks_of_other_steps_are_told_apart_and_a_cnns_frames_do_not_hang_on_the_first() {
    let noise = "data: digits, levels: [0, 1], presentations: [static, dynamic]";
    let project = project(&format!(
        "  fine: {{ train: {{ QUICK, dt: 2 }} }}
  coarse: {{ train: {{ QUICK, dt: 5 }} }}
  one: {{ noise: {{ models: [cnn, fine, coarse], {noise} }} }}
  two: {{ noise: {{ models: [cnn, coarse, fine], {noise} }} }}
  process: {{ noise: {{ models: [fine, coarse], data: digits, levels: [0, 1] }} }}
"
    ));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let log = |stage: &str| project.dynvis(&["log", "@", stage]).expect(0).stdout;
    assert!(log("one").contains("steps of 2 and 5 ms"), "{}", log("one"));
    assert!(log("one").contains("gaussian (dynamic)"), "{}", log("one"));
    // Noise that goes on in time is what is shown unless asked for otherwise, and it is the same at every step.
    assert!(!log("process").contains("steps of"), "{}", log("process"));
    let process = rows(&project, "process/accuracy");
    assert!(process.iter().any(|row| row["presentation"] == "over 20 ms"));
    assert!(process.iter().all(|row| row["step_bound"] == false), "{process:#?}");

    let cnn = |stage: &str| -> Vec<Value> {
        let rows = rows(&project, &format!("{stage}/accuracy"));
        rows.into_iter().filter(|row| row["models"] == "cnn").collect()
    };
    assert_eq!(cnn("one"), cnn("two"), "whatever the order of the CordsNets");
    let one = rows(&project, "one/accuracy");
    for row in &one {
        let bound = row["presentation"] == "dynamic" && row["level"] != 0.0;
        assert_eq!(row["step_bound"], bound, "{row}");
        let dt = match text(row, "models") {
            "coarse" => 5.0,
            _ => 2.0,
        };
        assert_eq!(row["dt"], dt, "{row}");
    }
    let pairs = rows(&project, "one/paired");
    assert!(
        pairs.iter().any(|row| row["dt"] == 2.0 && row["against_dt"] == 5.0),
        "{pairs:#?}"
    );
    // Stages that no field tells apart are told apart by what their networks are.
    let pictures = files(&project, "one", "pictures");
    let svg = pictures
        .iter()
        .find(|(name, _)| name == "accuracy_gaussian_dynamic.svg")
        .expect("the picture");
    assert!(
        String::from_utf8_lossy(&svg.1).contains("dt 5 ms, dynamics"),
        "no step in the legend"
    );
    assert!(
        pictures
            .iter()
            .any(|(name, _)| name == "frames_gaussian__dynamic__steps_of_5_ms.png")
    );
}

#[test]
fn a_cnn_sees_what_the_cordsnets_agree_on_whatever_else_they_differ_in() {
    let noise = "data: digits, levels: [0, 1], presentations: [dynamic]";
    let project = project(&format!(
        "  net: {{ train: {{ QUICK, dt: 5 }} }}
  longer: {{ train: {{ {}, dt: 5 }} }}
  rested: {{ train: {{ {}, dt: 5 }} }}
  times: {{ noise: {{ models: [cnn, net, longer], {noise} }} }}
  rests: {{ noise: {{ models: [cnn, net, rested], {noise} }} }}
",
        QUICK.replace("stimulus: 20", "stimulus: 40"),
        QUICK.replace("spontaneous: 10", "spontaneous: 20"),
    ));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    // A CNN has no time without an image, so nothing of it is in dispute.
    for (stage, is_warned) in [("times", true), ("rests", false)] {
        let log = project.dynvis(&["log", "@", stage]).expect(0).stdout;
        assert_eq!(log.contains("the CordsNets differ"), is_warned, "{stage}: {log}");
        let rows = rows(&project, &format!("{stage}/accuracy"));
        let averaged: Vec<&Value> = rows.iter().filter(|row| row["view"] == "mean of frames").collect();
        assert!(
            !averaged.is_empty() && averaged.iter().all(|row| row["dt"] == 5.0),
            "{stage}: {averaged:#?}"
        );
    }
}

#[test]
fn perturbed_images_can_be_seen_and_read() {
    let project = project(
        "  no:
    noise:
      models: [cnn]
      data: digits
      levels: [0, 0.5]
      stimulus: 20
      frames: 2
      noises: [{ kind: gaussian }, { kind: impulse, levels: [0.2] }]
  unpictured: { noise: { models: [cnn], data: digits, levels: [0, 0.5], presentations: [static], pictured: 0 } }
",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let others = files(&project, "unpictured", "pictures");
    assert!(!others.is_empty() && others.iter().all(|(name, _)| !name.starts_with("frames")));
    let pictures = files(&project, "no", "pictures");
    let frames: Vec<&str> = pictures
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("frames"))
        .collect();
    assert_eq!(
        frames,
        [
            "frames_gaussian__over_20_ms.png",
            "frames_gaussian__static.png",
            "frames_impulse__static.png"
        ]
    );
    for (name, bytes) in pictures.iter().filter(|(name, _)| name.starts_with("frames")) {
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 1000, "{name}");
    }
    let written = files(&project, "no", "frames");
    let [(name, bytes)] = written.as_slice() else {
        panic!("one file: {written:?}")
    };
    assert_eq!(name, "frames.safetensors");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let shape = |name: &str| header[name]["shape"].clone();
    assert_eq!(
        shape("gaussian, static, level 0.5"),
        serde_json::json!([2, 1, 1, 16, 16])
    );
    assert_eq!(
        shape("gaussian, over 20 ms, level 0.5"),
        serde_json::json!([2, 10, 1, 16, 16])
    );
    assert_eq!(
        shape("impulse, static, level 0.2"),
        serde_json::json!([2, 1, 1, 16, 16])
    );
    let values = |name: &str| -> Vec<f32> {
        let ends = header[name]["data_offsets"].as_array().expect("offsets");
        let at = |end: usize| 8 + length + ends[end].as_u64().expect("an offset") as usize;
        let bytes = bytes[at(0)..at(1)].chunks_exact(4);
        bytes
            .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
            .collect()
    };
    let (clean, noisy) = (
        values("gaussian, static, level 0"),
        values("gaussian, static, level 0.5"),
    );
    let squares: f32 = clean.iter().zip(&noisy).map(|(a, b)| (a - b).powi(2)).sum();
    // 512 values: a standard error of 3 % of their deviation, bound 5 of them.
    let deviation = (squares / clean.len() as f32).sqrt();
    assert!((deviation / 0.5 - 1.0).abs() < 0.16, "{deviation}");
}

#[test]
fn cnns_alone_under_neural_noise_leave_empty_tables_and_no_error() {
    let project =
        project("  no: { noise: { models: [cnn], data: digits, noises: [{ kind: neural, levels: [0, 1] }] } }\n");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(rows(&project, "no/accuracy").is_empty());
    assert!(files(&project, "no", "pictures").is_empty());
}
