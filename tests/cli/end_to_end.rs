//! The main job in small: real images through every stage kind, with numbers that must hold.

use crate::harness::Project;

/// A trial of the quickstart: fewer images, fewer steps.
const PIPELINE: &str = r#"
name: small
headline: noise/summary
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 60, side: 16 }
  cnn:
    train: { use: train/digits/cnn, data: digits, areas: 2, width: 8, epochs: 8, warmup: 0, batch: 16, learning_rate: 5e-3 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 8, epochs: 3, warmup: 0, batch: 16, learning_rate: 5e-3 }
    matrix: { seed: [0, 1] }
  noise:
    noise: { models: [cnn, "cordsnet@*"], data: digits, levels: [0, 2] }
  fixed_points:
    fixed_points: { models: ["cordsnet@*"], data: digits, images: 2, eigenvalues: 2 }
"#;

fn rows(project: &Project, table: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let shown = project
        .dynvis(&["show", "@", table, "--format", "json"])
        .expect(0)
        .json();
    shown["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|r| r.as_object().expect("an object").clone())
        .collect()
}

#[test]
fn images_in_tables_out() {
    let project = Project::with_presets();
    project.write("p.yaml", PIPELINE);
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(ran.stdout.contains("accuracy"), "the headline table: {}", ran.stdout);

    let counts = rows(&project, "digits/counts");
    let total: i64 = counts.iter().map(|r| r["images"].as_i64().expect("a count")).sum();
    assert_eq!(total, 600, "60 of each of 10 classes");

    // Far above chance after so little training, or something is wrong in data, gradient or optimiser.
    let training = rows(&project, "cnn/training");
    let accuracy = training.last().expect("rows")["validation_accuracy"]
        .as_f64()
        .expect("a number");
    assert!(accuracy > 0.5, "{accuracy}");

    let noise = rows(&project, "noise/accuracy");
    let names: std::collections::BTreeSet<_> = noise.iter().map(|r| r["models"].as_str().expect("a name")).collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["cnn", "cordsnet"],
        "slots carry the stages' names"
    );
    let mean = |level: f64| {
        let of: Vec<f64> = noise
            .iter()
            .filter(|r| r["level"].as_f64() == Some(level))
            .map(|r| r["accuracy"].as_f64().expect("a number"))
            .collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    assert!(
        mean(0.0) > mean(2.0) + 0.1,
        "noise of 2 harms: {} {}",
        mean(0.0),
        mean(2.0)
    );
    for row in noise.iter().filter(|r| r["presentation"] == "static") {
        let (level, achieved) = (row["level"].as_f64(), row["achieved"].as_f64());
        let (level, achieved) = (level.expect("a level"), achieved.expect("measured"));
        assert!(
            (level - achieved).abs() <= 0.01 * level,
            "level {level}, achieved {achieved}"
        );
    }

    let states = rows(&project, "fixed_points/states");
    assert!(!states.is_empty());
    for row in states.iter().filter(|r| r["converged"] == true) {
        assert!(row["residual"].as_f64().expect("a number") <= 1e-6);
    }

    // Everything cached; then one stage alone.
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(
        project.outcomes().values().all(|o| o == "cached"),
        "{:?}",
        project.outcomes()
    );
    project
        .dynvis(&["run", "p.yaml", "noise", "-S", "noise.levels=[0,1]"])
        .expect(0);
    let outcomes = project.outcomes();
    assert_eq!(outcomes["noise"], "ran");
    assert!(
        outcomes
            .iter()
            .all(|(s, o)| s == "noise" || o == "cached" || o == "excluded"),
        "{outcomes:?}"
    );
    let diff = project.dynvis(&["diff", "@-1", "@", "--json"]).expect(1).json();
    let changed: Vec<&str> = diff["changed"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| p["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(changed, ["levels"]);
    for table in diff["tables"].as_array().expect("a list") {
        // It sums up all levels.
        if table["table"] == "noise/robustness" {
            continue;
        }
        let changed = table["diff"]["changed"].as_array().map_or(0, Vec::len);
        assert_eq!(changed, 0, "rows at level 0 must not change: {table:#}");
    }
}

#[test]
fn the_same_bytes_for_any_number_of_threads() {
    let one = |threads: &str| {
        let project = Project::with_presets();
        let text = PIPELINE.replace(
            "    matrix: { seed: [0, 1] }\n",
            &format!("    resources: {{ cpu: {threads} }}\n"),
        );
        project.write("p.yaml", &text.replace("cordsnet@*", "cordsnet"));
        project
            .dynvis(&[
                "run",
                "p.yaml",
                "cordsnet",
                "-S",
                "digits.limit_per_class=12",
                "-S",
                "cordsnet.epochs=1",
            ])
            .expect(0);
        let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
        let stages = runs[0]["stages"].as_array().expect("stages").clone();
        let stage = stages
            .iter()
            .find(|s| s["name"] == "cordsnet")
            .expect("the stage")
            .clone();
        let outputs = stage["outputs"].as_array().expect("outputs").clone();
        outputs
            .iter()
            .filter(|o| o["slot"] != "speed")
            .map(|o| o["content"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(one("1"), one("2"));
}
