//! Cognitive tasks through the tool: one network, its tables, and the tables of a matrix as one.

use rustix::process::Signal;

use crate::harness::Project;
use crate::resume::{checkpoint, end, signal, start, wait_until, worker_of};

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
    let folder = project
        .dynvis(&["show", "@", "task@stimuli=images/pictures"])
        .expect(0)
        .stdout;
    let folder = std::path::Path::new(folder.trim());
    for name in ["delays", "decoding_stimulus"] {
        let svg = std::fs::read_to_string(folder.join(format!("{name}.svg"))).expect("a picture");
        assert!(svg.contains("<svg") && !svg.contains("NaN"), "{name}");
        let png = std::fs::read(folder.join(format!("{name}.png"))).expect("a picture");
        assert!(png.starts_with(b"\x89PNG"), "{name}");
    }
    assert!(!folder.join("psychometric.svg").exists(), "there is no graded evidence");

    // The same again is cached; a member of the matrix with another measurement runs alone.
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(
        project.outcomes().values().all(|outcome| outcome == "cached"),
        "{:?}",
        project.outcomes()
    );
}

const THROUGH: &str = r#"
name: through
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 30, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, warmup: 0, batch: 16 }
  task:
    cognitive:
      use: cognitive/digits
      front_end: cordsnet
      front_end_training: through
      front_end_learning_rate: 1e-3
      data: digits
      task: noisy_evidence
      durations: [100, 200]
      steps: 12
      batch: 8
      criterion: 1.1
      validate_every: 4
      validation_trials: 8
      test_trials: 64
      decode_trials: 40
      steady_trials: 2
  evaluate:
    evaluate: { models: [cordsnet, task/front_end], data: digits }
"#;

/// Content of every output of the stage, but for what depends on the clock.
fn contents(project: &Project) -> std::collections::BTreeMap<String, String> {
    let runs = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    let stages = runs[0]["stages"].as_array().expect("stages").clone();
    let stage = stages.into_iter().find(|s| s["name"] == "task").expect("the stage");
    let outputs = stage["outputs"].as_array().expect("outputs").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    outputs
        .iter()
        .map(|output| (text(&output["slot"]), text(&output["content"])))
        .filter(|(slot, _)| slot != "speed")
        .collect()
}

#[test]
fn a_killed_stage_goes_on_to_the_same_bytes_and_its_front_end_is_a_model() {
    let undisturbed = Project::with_presets();
    undisturbed.write("p.yaml", THROUGH);
    undisturbed.dynvis(&["run", "p.yaml"]).expect(0);
    let expected = contents(&undisturbed);
    assert!(expected.contains_key("front_end") && expected.contains_key("areas"));
    let shown = undisturbed
        .dynvis(&["show", "@", "evaluate/accuracy", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(shown["rows"].as_array().expect("rows").len(), 2, "{shown}");
    let folder = undisturbed.dynvis(&["show", "@", "task/pictures"]).expect(0).stdout;
    assert!(std::path::Path::new(folder.trim()).join("psychometric.png").exists());

    let project = Project::with_presets();
    project.write("p.yaml", THROUGH);
    project.dynvis(&["run", "p.yaml", "cordsnet"]).expect(0);
    let mut child = start(&project, &["-S", "task.checkpoint_minutes=0"]);
    let worker = wait_until("the worker", || worker_of(child.id()));
    wait_until("a checkpoint", || checkpoint(&project));
    signal(Signal::KILL, worker);
    signal(Signal::KILL, child.id());
    child.wait().expect("ends");
    let ran = end(start(&project, &[])).expect(0);
    assert!(
        ran.stderr.contains("resumes from its checkpoint: step "),
        "{}",
        ran.stderr
    );
    assert_eq!(contents(&project), expected);
    assert!(checkpoint(&project).is_none(), "a success leaves no checkpoint");
}

/// Stops the stage `task` of p.yaml with a signal at the first progress of which `at` is true; whether there was one.
fn stop_at(project: &Project, kill: bool, at: impl Fn(&serde_json::Value) -> bool) -> bool {
    use std::io::BufRead;
    use std::os::unix::process::CommandExt;
    let mut child = project
        .command(&["run", "p.yaml", "task", "--progress", "json"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("starts");
    let mut lines = std::io::BufReader::new(child.stderr.take().expect("piped")).lines();
    let stopped = lines.by_ref().any(|line| {
        let event = serde_json::from_str::<serde_json::Value>(&line.expect("a line"));
        event.is_ok_and(|event| at(&event["progress"]["update"]["phase"]))
    });
    if stopped && kill {
        if let Some(worker) = worker_of(child.id()) {
            signal(Signal::KILL, worker);
        }
        signal(Signal::KILL, child.id());
    } else if stopped {
        signal(Signal::INT, child.id());
    }
    lines.for_each(drop);
    child.wait().expect("ends");
    stopped
}

/// At every kind of moment of a stage: a step, a validation, between the last step and its validation, in each
/// measurement.
#[test]
fn a_stop_at_every_kind_of_moment_goes_on_to_the_same_bytes() {
    for mode in ["frozen", "through"] {
        let text = THROUGH.replace("front_end_training: through", &format!("front_end_training: {mode}"));
        // Of models that are trained here the first is compared alone.
        let text = text.replace("models: [cordsnet, task/front_end]", "models: [cordsnet]");
        // Long enough to be stopped within.
        let text = text.replace("validation_trials: 8", "validation_trials: 400");
        let project = Project::with_presets();
        project.write("p.yaml", &text);
        project.dynvis(&["run", "p.yaml", "cordsnet"]).expect(0);
        let copy = |from: &str, to: &str| {
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([project.path(from), project.path(to)])
                .status();
            assert!(copied.expect("starts").success());
        };
        copy("cache", "prepared");
        let again = || {
            std::fs::remove_dir_all(project.path("cache")).expect("removed");
            copy("prepared", "cache");
        };
        project.dynvis(&["run", "p.yaml", "task"]).expect(0);
        let expected = contents(&project);
        assert_eq!(expected.contains_key("front_end"), mode == "through");
        for phase in [
            "step 0/12, validation",
            "step 2/12",
            "step 4/12, validation",
            "step 12/12",
            "step 12/12, validation",
            "test trials",
            "lesions",
            "twice the delays",
            "decoding",
            "steady states",
        ] {
            for kill in [false, true] {
                again();
                assert!(
                    stop_at(&project, kill, |found| found == phase),
                    "{mode}: never at `{phase}`"
                );
                // Ctrl-C does not stop what is complete then; else the next run goes on.
                project.dynvis(&["run", "p.yaml", "task"]).expect(0);
                assert_eq!(contents(&project), expected, "{mode}, {phase}, killed: {kill}");
            }
        }
    }
}

#[test]
fn durations_that_do_not_fit_are_refused_at_check_with_the_nearest() {
    let project = Project::with_presets();
    let refused = |change: &str, said: &[&str]| {
        project.write("p.yaml", &PIPELINE.replace("delays: [40, 80]", change));
        let checked = project.dynvis(&["check", "p.yaml"]);
        assert_ne!(checked.code, 0, "{change}");
        // Messages are wrapped, and stand beside lines.
        let plain: String = checked
            .stderr
            .chars()
            .map(|c| if "│|╰─▶×".contains(c) { ' ' } else { c })
            .collect();
        let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        said.iter()
            .for_each(|said| assert!(words.contains(said), "{change}: {}", checked.stderr));
    };
    refused(
        "stimulus: 3",
        &["3 ms shows nothing at steps of 10 ms; the nearest is 10 ms"],
    );
    refused("stimulus: 0", &["0 ms shows nothing"]);
    refused(
        "delays: [40, 84]",
        &[
            "84 ms, which is not a multiple of the step of 10 ms",
            "the nearest are 80 and 90 ms",
        ],
    );
    refused("grace: 15", &["the nearest are 10 and 20 ms"]);
    refused("grace: 200", &["200 ms leave nothing of the 200 ms"]);
    refused("settle: 101", &["the nearest are 100 and 110 ms"]);
    refused("decode_every: 25", &["the nearest are 20 and 30 ms"]);
    refused("dt: 15", &["not a multiple of the step of 15 ms"]);
    refused("delays: [1e300]", &["out of range"]);
    refused("dt: 1e-12", &["out of range"]);
    refused("settle: 1e300", &["out of range"]);
    refused("timing: neurogym", &["beside `timing: neurogym`"]);
}

#[test]
fn timing_of_neurogym_is_checked_and_runs() {
    let project = Project::with_presets();
    let text = PIPELINE
        .replace("use: cognitive/digits", "use: cognitive/neurogym")
        .replace("      delays: [40, 80]\n", "")
        .replace("stimuli: [images, one_hot]", "stimuli: [one_hot]")
        .replace("steps: 10", "steps: 2");
    project.write("p.yaml", &text);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let shown = project
        .dynvis(&["show", "@", "task@stimuli=one_hot/accuracy", "--format", "json"])
        .expect(0)
        .json();
    let rows = shown["rows"].as_array().expect("rows").clone();
    assert!(
        rows.iter().all(|row| row["delay"] == 500.0 || row["delay"] == 1000.0),
        "{rows:?}"
    );
    // Its 100 ms to answer leave room for no `grace`.
    project.write("p.yaml", &text.replace("task: go_no_go", "task: context_decision"));
    project.dynvis(&["check", "p.yaml"]).expect(0);
    project.write("p.yaml", &text.replace("task: go_no_go", "task: two_back"));
    let ran = project.dynvis(&["check", "p.yaml"]);
    assert!(
        ran.code != 0 && ran.stderr.contains("NeuroGym has no environment like `two_back`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn collecting_what_does_not_fit_is_refused() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "name: p\nstages:\n  a: { dataset: { use: dataset/digits, limit_per_class: 12, side: 16 } }\n  c: { collect: { \
         tables: [a] } }\n",
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(ran.stderr.contains("an input is not a table"), "{}", ran.stderr);
}
