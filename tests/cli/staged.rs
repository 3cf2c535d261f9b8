//! Staged training: each phase a stage of its own, fed by the one before.

use crate::harness::Project;

/// All phases of a tiny network, one epoch each but where a phase is about epochs.
const PIPELINE: &str = r#"
name: staged
headline: accuracy/accuracy
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 20, side: 16 }
  cnn:
    train: { use: train/digits/cnn, data: digits, areas: 4, width: 4, epochs: 2 }
  fold:
    train: { use: train/fold, start: cnn, data: digits }
  invert:
    train: { use: train/digits/invert, start: fold, data: digits, epochs: 2, tau: 20 }
  linear:
    train: { use: train/digits/linear, start: invert, data: digits, epochs: 1 }
  anneal:
    train: { use: train/digits/anneal, start: linear, data: digits, epochs: 2 }
  finetune:
    train: { use: train/digits/finetune, start: anneal, data: digits, epochs: 1 }
  direct:
    train: { use: [train/digits/cordsnet, train/digits/augment], data: digits, areas: 4, width: 4, epochs: 1 }
  accuracy:
    evaluate:
      models: [cnn, fold, invert, linear, anneal, finetune, direct]
      data: digits
"#;

fn rows(project: &Project, table: &str) -> Vec<serde_json::Value> {
    let shown = project
        .dynvis(&["show", "@", table, "--format", "json"])
        .expect(0)
        .json();
    shown["rows"].as_array().expect("rows").clone()
}

#[test]
fn every_phase_is_a_stage_that_is_cached_and_rerun_alone() {
    let project = Project::with_presets();
    project.write("p.yaml", PIPELINE);
    project.dynvis(&["run", "p.yaml"]).expect(0);

    let accuracy = rows(&project, "accuracy/accuracy");
    let of = |field: &str| accuracy.iter().map(|row| row[field].clone()).collect::<Vec<_>>();
    assert_eq!(
        of("phase"),
        ["cnn", "fold", "invert", "linear", "anneal", "finetune", "direct"]
    );
    assert_eq!(of("models"), of("phase"), "stages are named after their phases here");
    assert_eq!(of("epochs"), [2, 2, 4, 5, 7, 8, 1], "all phases so far together");
    assert_eq!(
        accuracy[0]["accuracy"], accuracy[1]["accuracy"],
        "folding changes no answer"
    );
    let difference = rows(&project, "fold/folding")[1]["difference"]
        .as_f64()
        .expect("a number");
    assert!(difference < 1e-4, "{difference}");

    let inversion = rows(&project, "invert/inversion");
    assert_eq!(inversion.len(), 2 * 4, "epochs times areas");
    for area in 0..4 {
        let error = |epoch: usize| inversion[4 * epoch + area]["error"].as_f64().expect("a number");
        assert!(error(1) < error(0), "area {area}: {} {}", error(0), error(1));
    }
    let slopes: Vec<_> = rows(&project, "anneal/training")
        .iter()
        .map(|row| row["slope"].clone())
        .collect();
    assert_eq!(slopes, [0.5, 0.0]);
    let linear = &rows(&project, "linear/training")[0];
    assert_eq!(linear["return_term"], 0.0, "no return is asked for");

    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(
        project.outcomes().values().all(|outcome| outcome == "cached"),
        "{:?}",
        project.outcomes()
    );
    project
        .dynvis(&["run", "p.yaml", "-S", "anneal.learning_rate=5e-4"])
        .expect(0);
    let ran: Vec<String> = project
        .outcomes()
        .into_iter()
        .filter(|(_, outcome)| outcome == "ran")
        .map(|(stage, _)| stage)
        .collect();
    assert_eq!(ran, ["accuracy", "anneal", "finetune"]);
}

#[test]
fn a_phase_says_what_it_goes_on_from() {
    let project = Project::with_presets();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(PIPELINE.contains(from), "{from}");
        project.write("p.yaml", &PIPELINE.replace(from, to));
        let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    check(
        "use: train/digits/linear, start: invert,",
        "use: train/digits/linear,",
        "phase `linear` continues from another stage's model: name that stage with `start`",
    );
    check(
        "use: train/digits/cnn, data",
        "use: train/digits/cnn, start: direct, data",
        "phase `cnn` starts from random weights",
    );
    check(
        "use: train/digits/finetune, start: anneal,",
        "phase: finetune, start: anneal, optimiser: adamw,",
        "phase `finetune` needs `learning_rate`; `use: train/finetune` brings the published one",
    );
    check(
        "[train/digits/cordsnet, train/digits/augment]",
        "[train/digits/cordsnet, train/digits/argument]",
        "cannot read preset `train/digits/argument`",
    );
    check("start: linear,", "start: digits,", "needs a model");

    // What only the model can tell, when it is there.
    let fails = |from: &str, to: &str, stage: &str, expected: &str| {
        assert!(PIPELINE.contains(from), "{from}");
        project.write("p.yaml", &PIPELINE.replace(from, to));
        let ran = project.dynvis(&["run", "p.yaml", stage]).expect(100);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    fails(
        "use: train/digits/invert, start: fold,",
        "use: train/digits/invert, start: cnn,",
        "invert",
        "phase `invert` continues from a folded CNN, but `start` is a CNN with batch norms",
    );
    fails(
        "use: train/digits/invert, start: fold,",
        "use: train/digits/invert, start: fold, width: 8,",
        "invert",
        "`width` is 8, but the network of `start` has 4",
    );
    fails("tau: 20 }", "tau: [20, 10] }", "invert", "one tau or one per area");
}
