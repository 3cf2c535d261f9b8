//! Cognitive tasks through the tool: one network, its tables, and the tables of a matrix as one.

use crate::harness::Project;

const PIPELINE: &str = r#"
name: small
headline: collected/collected
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 30, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, warmup: 0, batch: 16 }
  task:
    cognitive:
      use: cognitive/digits
      front_end: cordsnet
      data: digits
      task: go_no_go
      stimuli: "${matrix.stimuli}"
      delays: [40, 80]
      steps: 10
      validate_every: 5
      validation_trials: 32
      test_trials: 64
      decode_trials: 40
      steady_trials: 3
    matrix: { stimuli: [images, one_hot] }
  collected:
    collect: { tables: ["task@*/summary"] }
"#;

#[test]
fn a_task_gives_its_tables_and_a_matrix_is_collected() {
    let project = Project::with_presets();
    project.write("p.yaml", PIPELINE);
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(ran.stdout.contains("chance"), "the headline table: {}", ran.stdout);
    let rows = |table: &str| {
        let shown = project
            .dynvis(&["show", "@", table, "--format", "json"])
            .expect(0)
            .json();
        shown["rows"].as_array().expect("rows").clone()
    };
    let collected = rows("collected/collected");
    let stimuli: Vec<&str> = collected.iter().filter_map(|row| row["stimuli"].as_str()).collect();
    assert_eq!(
        stimuli,
        ["images", "one_hot"],
        "matrix fields are columns: {collected:?}"
    );
    let accuracy = rows("task@stimuli=images/accuracy");
    let delays: Vec<f64> = accuracy.iter().filter_map(|row| row["delay"].as_f64()).collect();
    assert_eq!(
        delays,
        [40.0, 40.0, 80.0, 80.0, 80.0, 80.0, 160.0, 160.0],
        "trained, then twice as long"
    );
    let lesions = rows("task@stimuli=images/lesions");
    let names: Vec<&str> = lesions.iter().filter_map(|row| row["lesion"].as_str()).collect();
    assert_eq!(names, ["none", "sensory to prefrontal", "prefrontal to sensory"]);
    assert_eq!(rows("task@stimuli=images/states").len(), 3);
    assert!(!rows("task@stimuli=images/decoding").is_empty());

    // The same again is cached; a member of the matrix with another measurement runs alone.
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(
        project.outcomes().values().all(|outcome| outcome == "cached"),
        "{:?}",
        project.outcomes()
    );
}

#[test]
fn collecting_what_does_not_fit_is_refused() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "name: p\nstages:\n  a: { dataset: { use: dataset/digits, limit_per_class: 12, side: 16 } }\n  c: { collect: { tables: [a] } }\n",
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(ran.stderr.contains("an input is no table"), "{}", ran.stderr);
}
