//! Commands that say things: the catalogue, the schema, the doctor, exit codes, closed pipes.

use crate::harness::{Project, repository};

#[test]
fn the_catalogue_names_every_parameter_with_type_unit_and_default() {
    let project = Project::new();
    let kinds = project.dynvis(&["stages"]).expect(0);
    for kind in [
        "dataset",
        "train",
        "import",
        "noise",
        "fixed_points",
        "record",
        "cognitive",
        "collect",
        "recordings",
        "synthetic_recordings",
        "predictivity",
        "command",
    ] {
        assert!(kinds.stdout.contains(kind), "{}", kinds.stdout);
        let one = project.dynvis(&["stages", kind]).expect(0);
        assert!(
            one.stdout.contains("required"),
            "{kind} has a required parameter: {}",
            one.stdout
        );
    }
    let train = project.dynvis(&["stages", "train"]).expect(0).stdout;
    for word in ["learning_rate", "ms", "stage (dataset)", "direct", "augment.flip"] {
        assert!(train.contains(word), "no {word} in {train}");
    }
    kinds.snapshot("stages");
    project.dynvis(&["stages", "collect"]).snapshot("stages_kind");
    project
        .dynvis(&["stages", "trian"])
        .expect(2)
        .snapshot("stages_unknown");
}

#[test]
fn the_schema_is_json_and_knows_what_the_catalogue_knows() {
    let schema = Project::new().dynvis(&["schema"]).expect(0).json();
    let stage = &schema["properties"]["stages"]["additionalProperties"]["properties"];
    assert!(stage["train"]["properties"]["epochs"].is_object());
    assert_eq!(stage["dataset"]["additionalProperties"], false);
}

#[test]
fn the_dag_has_four_forms() {
    let project = Project::new();
    let quickstart = repository().join("pipelines/quickstart.yaml");
    let quickstart = quickstart.to_string_lossy();
    let dag = |format: &str| project.dynvis(&["dag", &quickstart, "--format", format]).expect(0);
    assert!(dag("text").stdout.contains("cordsnet x3"));
    assert!(dag("mermaid").stdout.contains("cordsnet --> noise"));
    assert!(dag("dot").stdout.starts_with("digraph"));
    let json = dag("json").json();
    assert_eq!(json["stages"].as_array().map(Vec::len), Some(5));
    project.write("p.yaml", FAN);
    for format in ["text", "mermaid", "dot", "json"] {
        project
            .dynvis(&["dag", "p.yaml", "--format", format])
            .snapshot(&format!("dag_{format}"));
    }
}

/// A stage, a matrix over it, and what gathers that.
const FAN: &str = r#"
name: fan
stages:
  source: { command: { run: [sh, -c, "echo 1 > x"], outputs: { x: { path: x } } } }
  part:
    command:
      run: [sh, -c, "(echo n; echo ${matrix.n}) > t.csv"]
      inputs: { from: source }
      outputs: { t: { path: t.csv, type: table } }
    matrix: { n: [1, 2] }
  all: { collect: { tables: ["part@*/t"] } }
"#;

#[test]
fn the_doctor_answers_without_a_gpu() {
    let ran = Project::new().dynvis(&["doctor"]).expect(0);
    for word in ["processor", "memory", "cache", "GPU", "CUDA driver", "NVRTC", "cuDNN"] {
        assert!(ran.stdout.contains(word), "{}", ran.stdout);
    }
}

#[test]
fn the_selftest_holds_the_processor_against_float64() {
    let ran = Project::new().dynvis(&["selftest", "--device", "cpu"]).expect(0);
    assert!(ran.stdout.contains("results, 0 missed"), "{}", ran.stdout);
    assert!(ran.stdout.contains("relax_adjoint"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("NO"), "{}", ran.stdout);
}

#[test]
fn wrong_use_has_exit_code_2() {
    let project = Project::new();
    project.dynvis(&["frobnicate"]).expect(2).snapshot("usage_command");
    project.write("p.yaml", "stages: {}\n");
    // No machine has so many GPUs.
    let ran = project.dynvis(&["run", "p.yaml", "--device", "cuda:999"]).expect(2);
    assert!(ran.stderr.contains("`cuda:999` cannot be used: "), "{}", ran.stderr);
    project.dynvis(&["run", "p.yaml", "--device", "abacus"]).expect(2);
    let ran = project.dynvis(&["benchmark", "--areas", "13"]).expect(2);
    assert!(ran.stderr.contains("13 areas: "), "{}", ran.stderr);
    project.dynvis(&["show", "@"]).expect(2);
    project.dynvis(&["log", "zz"]).expect(2);
}

#[test]
fn a_cache_of_another_version_is_not_touched() {
    let project = Project::new();
    project
        .write("p.yaml", "stages: {}\n")
        .write("cache/format", "dynvis cache 99\n");
    let ran = project.dynvis(&["run", "p.yaml"]).expect(2);
    assert!(ran.stderr.contains("another version"), "{}", ran.stderr);
    assert_eq!(project.read("cache/format"), "dynvis cache 99\n");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let project = Project::new();
    let mut child = project
        .command(&["schema"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
}

#[test]
fn a_log_is_shown_whole() {
    let project = Project::new();
    // Longer than what is shown of a line where a stage fails.
    let script = "(printf x%.0s $(seq 3000); echo end) >&2; echo > o";
    let command = format!("{{ run: [sh, -c, \"{script}\"], outputs: {{ o: {{ path: o }} }} }}");
    project.write("p.yaml", &format!("stages:\n  a:\n    command: {command}\n"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let log = project.dynvis(&["log", "@", "a"]).expect(0).stdout;
    assert!(log.contains(&format!("{}end\n", "x".repeat(3000))), "{log}");
}
