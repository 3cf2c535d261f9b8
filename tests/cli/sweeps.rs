//! Sweeps: how members of matrices are written and referred to, how long they train, and which epoch they keep.

use std::path::PathBuf;

use crate::harness::{Project, rows};

/// A tiny CNN twin for two numbers of areas, and its folded form.
fn twins(fold: &str) -> String {
    format!(
        "
stages:
  digits: {{ dataset: {{ use: dataset/digits, limit_per_class: 40, side: 16 }} }}
  cnn:
    train: {{ use: train/digits/cnn, data: digits, width: 2, epochs: 1 }}
    matrix: {{ areas: [2, 3], seed: [4] }}
  fold:
    train: {{ use: train/fold, data: digits, {fold} }}
    matrix: {{ areas: [2, 3], seed: [4] }}
"
    )
}

const WRITTEN_OUT: &str = "start: \"cnn@areas=${matrix.areas},seed=${matrix.seed}\"";

#[test]
fn a_member_that_is_named_by_its_stage_alone_is_the_one_with_the_same_fields() {
    let project = Project::with_presets();
    project.write("p.yaml", &twins(WRITTEN_OUT));
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    let note = "matrix field `areas` sets the parameter `areas` of `train` too";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert!(!ran.stderr.contains("`seed` sets"), "{}", ran.stderr);
    // The same keys where the parameter is asked for, without a note.
    project.write("p.yaml", &twins("start: cnn, areas: \"${matrix.areas}\""));
    let planned = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(!planned.stderr.contains(note), "{}", planned.stderr);
    let states = project.states(&["p.yaml"]);
    assert!(states.values().all(|state| state == "cached"), "{states:?}");
    // Not asked for, it is not set.
    project.write("p.yaml", &twins("start: cnn"));
    let why = project
        .dynvis(&["why", "p.yaml", "fold@areas=3,seed=4"])
        .expect(0)
        .stdout;
    assert!(
        why.contains("areas: 3 -> unset") || why.contains("areas: 3 -> null"),
        "{why}"
    );
}

/// The presets' pipeline of the whole paper, in which members name each other by their stages alone.
#[test]
fn members_of_the_paper_find_each_other() {
    let project = Project::with_presets();
    let paper = std::fs::read_to_string(crate::harness::repository().join("pipelines/paper.yaml")).expect("the paper");
    project.write("pipelines/paper.yaml", &paper);
    let checked = project
        .dynvis(&["check", "pipelines/paper.yaml", "-S", "vars.data=[digits, mnist]"])
        .expect(0);
    assert!(!checked.stderr.contains("not asked for"), "{}", checked.stderr);
    let graph = project
        .dynvis(&[
            "dag",
            "pipelines/paper.yaml",
            "--format",
            "json",
            "-S",
            "vars.data=[digits, mnist]",
        ])
        .expect(0)
        .json();
    let stages = graph["stages"].as_array().expect("stages");
    let record = stages.iter().find(|stage| stage["stage"] == "record").expect("record");
    assert_eq!(record["members"], 8, "two data sets by four networks: {record}");
    assert_eq!(
        record["inputs"],
        serde_json::json!({ "cordsnet": ["model"], "images": ["data"] })
    );
}

#[test]
fn what_validation_cannot_choose_is_said() {
    let project = Project::with_presets();
    for (stage, told) in [
        (
            "train: { use: train/fold, start: cnn, data: digits, keep: best }",
            "phase `fold` trains nothing: leave `keep` out",
        ),
        (
            "train: { use: train/digits/anneal, start: cnn, data: digits, early_stop: 2 }",
            "phase `anneal` ends with phi = ReLU, which no epoch but the last has: leave `early_stop` out",
        ),
        (
            "train: { use: train/digits/cnn, data: digits, early_stop: 0 }",
            "early_stop",
        ),
    ] {
        project.write(
            "p.yaml",
            &format!(
                "stages:\n  digits: {{ dataset: {{ use: dataset/digits }} }}\n  cnn: {{ train: {{ use: \
                 train/digits/cnn, data: digits }} }}\n  x: {{ {stage} }}\n"
            ),
        );
        let checked = project.dynvis(&["check", "p.yaml"]).expect(2);
        assert!(checked.stderr.contains(told), "{told}: {}", checked.stderr);
    }
}

/// A tiny CNN twin, by a constant learning rate unless `more` says otherwise.
fn cnn(more: &str) -> String {
    format!(
        "
stages:
  digits: {{ dataset: {{ use: dataset/digits, limit_per_class: 40, side: 16 }} }}
  cnn:
    train: {{ phase: cnn, data: digits, areas: 2, width: 2, optimiser: adamw, learning_rate: 0.01, {more} }}
"
    )
}

/// The bytes of the model that the last run has.
fn model(project: &Project) -> Vec<u8> {
    let folder = project.dynvis(&["show", "@", "cnn/model"]).expect(0).stdout;
    std::fs::read(PathBuf::from(folder.trim()).join("model.safetensors")).expect("a model")
}

#[test]
fn more_epochs_go_on_from_fewer_to_the_same_bytes() {
    let goes_on = |project: &Project, more: &str, options: &[&str]| {
        project.write("p.yaml", &cnn(more));
        let mut arguments = vec!["run", "p.yaml"];
        arguments.extend(options);
        project.dynvis(&arguments).expect(0);
        let log = project.dynvis(&["log", "@", "cnn"]).expect(0).stdout;
        log.contains("goes on from where a shorter training ended")
    };
    let (grown, whole) = (Project::new(), Project::new());
    assert!(!goes_on(&grown, "epochs: 1", &[]));
    assert!(goes_on(&grown, "epochs: 3", &[]));
    assert!(!goes_on(&whole, "epochs: 3", &[]));
    assert!(model(&grown) == model(&whole));
    assert_eq!(rows(&grown, "cnn/training"), rows(&whole, "cnn/training"));
    // Whoever forces a stage does not trust what is there.
    assert!(!goes_on(&grown, "epochs: 4", &["--force"]));
    // Another learning rate is another training; epochs along a cosine are others when there are more of them.
    assert!(!goes_on(&grown, "epochs: 5, momentum: 0.5", &[]));
    assert!(!goes_on(&grown, "epochs: 1, schedule: cosine", &[]));
    assert!(!goes_on(&grown, "epochs: 2, schedule: cosine", &[]));
}

#[test]
fn the_best_epoch_is_kept_and_told() {
    let project = Project::new();
    project.write("p.yaml", &cnn("epochs: 3, keep: best, early_stop: 1"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let training = rows(&project, "cnn/training");
    let accuracies: Vec<f64> = training
        .iter()
        .map(|row| row["validation_accuracy"].as_f64().expect("an accuracy"))
        .collect();
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    let kept = 1 + accuracies
        .iter()
        .position(|accuracy| *accuracy == best)
        .expect("an epoch");
    let log = project.dynvis(&["log", "@", "cnn"]).expect(0).stdout;
    assert!(
        log.contains(&format!("keeps epoch {kept} of {}", accuracies.len())),
        "{log}"
    );
    // The same weights as of a training that ends there.
    let best = model(&project);
    let shorter = Project::new();
    shorter.write("p.yaml", &cnn(&format!("epochs: {kept}")));
    shorter.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(best == model(&shorter));
}
