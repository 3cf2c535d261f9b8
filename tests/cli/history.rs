//! What is remembered of runs: records, lists, logs, references, traces.

use crate::harness::Project;

const PIPELINE: &str = r#"
name: first
seed: 7
stages:
  a:
    command:
      run: [sh, -c, "python3 -c 'x = bytearray(60000000)' 2> /dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; cat {files.0} > out.txt"]
      files: [in.txt]
      outputs: { out: { path: out.txt } }
  b:
    command:
      run: [sh, -c, "echo ${matrix.seed}; cat {inputs.from}/out.txt > out.txt"]
      inputs: { from: a }
      outputs: { out: { path: out.txt } }
    matrix: { seed: [1, 2] }
"#;

fn project() -> Project {
    let project = Project::new();
    project.write("p.yaml", PIPELINE).write("in.txt", "1\n");
    project.write(
        "q.yaml",
        "name: second\nstages:\n  x:\n    command:\n      run: [\"false\"]\n      outputs: { out: { path: out.txt } }\n",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["run", "q.yaml"]).expect(100);
    project.dynvis(&["run", "p.yaml", "-S", "seed=8"]).expect(0);
    project
}

fn ids(project: &Project, arguments: &[&str]) -> Vec<String> {
    let all = [&["runs", "--json"], arguments].concat();
    let runs = project.dynvis(&all).expect(0).json();
    let runs = runs.as_array().expect("a list");
    runs.iter()
        .map(|r| r["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn everything_about_a_run_is_recorded() {
    let project = project();
    let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
    let run = &runs[2];
    assert_eq!(run["arguments"], serde_json::json!(["run", "p.yaml"]));
    assert_eq!((&run["pipeline"], &run["status"]), (&"first".into(), &"done".into()));
    for field in ["host", "device", "dynvis_version", "started_at", "finished_at"] {
        assert!(
            run[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {run:#}"
        );
    }
    for field in ["binary", "lock_file"] {
        assert_eq!(run[field].as_str().map(str::len), Some(64), "{field}: {run:#}");
    }
    // This project is no repository.
    assert!(run["git"].is_null(), "{run:#}");
    let stage = &run["stages"][0];
    assert_eq!(stage["name"], "a");
    assert_eq!(stage["files"]["0"].as_str().map(str::len), Some(64));
    let execution = &stage["execution"];
    assert!(
        execution["cpu_seconds"].as_f64().is_some_and(|s| s > 0.0 && s < 60.0),
        "{run:#}"
    );
    assert!(
        execution["peak_bytes"].as_f64().is_some_and(|b| b > 1e6 && b < 4e9),
        "{run:#}"
    );
    assert_eq!(run["stages"][1]["inputs"][0]["content"], stage["outputs"][0]["content"]);
    // Nothing executed in the last one.
    assert!(runs[0]["stages"][0]["execution"].is_null());
}

#[test]
fn seeds_and_the_state_of_the_repository_are_recorded() {
    let git = |project: &Project, arguments: &[&str]| {
        let status = std::process::Command::new("git")
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .current_dir(project.path("."))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.is_ok_and(|s| s.success()), "git {arguments:?}");
    };
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "name: p\nseed: 5\nstages:\n  digits:\n    dataset: { use: dataset/digits }\n",
    );
    git(&project, &["init"]);
    git(&project, &["add", "p.yaml"]);
    git(&project, &["commit", "-m", "p"]);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.write("p.yaml", &(project.read("p.yaml") + "# more\n"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
    assert_eq!(runs[1]["git"]["dirty"], false, "{runs:#}");
    assert_eq!(runs[0]["git"]["dirty"], true);
    assert_eq!(runs[0]["git"]["revision"].as_str().map(str::len), Some(40));
    assert_eq!(runs[1]["stages"][0]["seed"], 5, "{runs:#}");
}

#[test]
fn runs_are_filtered_and_sorted() {
    let project = project();
    let all = ids(&project, &[]);
    assert_eq!(all.len(), 3);
    assert_eq!(
        ids(&project, &["--reverse"]),
        all.iter().rev().cloned().collect::<Vec<_>>()
    );
    assert_eq!(ids(&project, &["--pipeline", "fir*"]), [all[0].clone(), all[2].clone()]);
    assert_eq!(ids(&project, &["--status", "failed"]), [all[1].clone()]);
    assert_eq!(ids(&project, &["--stage", "b@seed=1"]), [all[2].clone()]);
    assert_eq!(ids(&project, &["--stage", "b", "-n", "1"]), [all[2].clone()]);
    assert_eq!(ids(&project, &["--since", "1h"]), all);
    assert_eq!(ids(&project, &["--before", "2020-01-01"]), [""; 0]);
    assert_eq!(ids(&project, &["--sort", "memory", "-n", "1"]), [all[2].clone()]);
    assert_eq!(ids(&project, &["--sort", "cpu", "-n", "1"]), [all[2].clone()]);
    assert_eq!(ids(&project, &["--sort", "took", "-n", "1"]), [all[2].clone()]);
    assert_eq!(
        ids(&project, &["--sort", "pipeline", "-n", "1", "--reverse"]),
        [all[1].clone()]
    );
    project
        .dynvis(&["runs", "--since", "yesterday"])
        .expect(2)
        .snapshot("runs_since");
    project
        .dynvis(&["runs", "--pipeline", "nothing"])
        .expect(0)
        .snapshot("runs_none");
    Project::new().dynvis(&["runs"]).expect(0).snapshot("runs_empty");
    project.dynvis(&["pin", &all[1]]).expect(0);
    assert_eq!(ids(&project, &["--pinned"]), [all[1].clone()]);
}

#[test]
fn runs_have_names_as_short_as_can_be() {
    let project = project();
    let runs = project.dynvis(&["runs", "--json"]).expect(0).json();
    for run in runs.as_array().expect("a list") {
        let prefix = run["prefix"].as_str().expect("a prefix");
        let ran = project.dynvis(&["log", prefix]).expect(0);
        assert!(
            ran.stdout.contains(run["id"].as_str().expect("an id")),
            "{}",
            ran.stdout
        );
    }
    let last = project.dynvis(&["log", "@"]).expect(0);
    assert!(last.stdout.contains(runs[0]["id"].as_str().expect("an id")));
    let before = project.dynvis(&["log", "@-1"]).expect(0);
    assert!(before.stdout.contains(runs[1]["id"].as_str().expect("an id")));
    for wrong in ["@-9", "@x", "zzzzzzzzz", "0", "@--1", "@-18446744073709551615"] {
        let ran = project.dynvis(&["log", wrong]).expect(2);
        assert!(ran.stderr.contains(&format!("no run `{wrong}`")), "{}", ran.stderr);
    }
}

#[test]
fn a_log_tells_of_the_whole_run_or_of_one_stage() {
    let project = project();
    let whole = project.dynvis(&["log", "@-2"]).expect(0);
    for word in ["p.yaml", "program", "Cargo.lock", "b@seed=2", "never run", "memory"] {
        assert!(whole.stdout.contains(word), "no {word} in\n{}", whole.stdout);
    }
    whole.snapshot_of_measurements("log");
    project
        .dynvis(&["log", "@-1", "x"])
        .expect(0)
        .snapshot_of_measurements("log_failed");
    project
        .dynvis(&["log", "@-2", "b@seed=1"])
        .expect(0)
        .snapshot("log_stage");
    project.dynvis(&["runs"]).expect(0).snapshot_of_measurements("runs");
    project
        .dynvis(&["log", "@", "a"])
        .expect(0)
        .snapshot("log_not_executed");
    project.dynvis(&["log", "@", "c"]).expect(2).snapshot("log_no_stage");
}

#[test]
fn a_trace_has_every_stage_that_executed() {
    let project = project();
    let trace = project.dynvis(&["trace", "@-2"]).expect(0).json();
    let events = trace["traceEvents"].as_array().expect("events");
    let stages: Vec<&str> = events
        .iter()
        .filter(|e| e["ph"] == "X")
        .map(|e| e["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(stages.len(), 3, "{trace:#}");
    assert_eq!(stages[0], "a");
    // Whatever overlaps is on another line.
    let spans: Vec<(f64, f64, i64)> = events
        .iter()
        .filter(|e| e["ph"] == "X")
        .map(|e| {
            let number = |name: &str| e[name].as_f64().expect("a number");
            (
                number("ts"),
                number("ts") + number("dur"),
                e["tid"].as_i64().expect("a line"),
            )
        })
        .collect();
    for (i, a) in spans.iter().enumerate() {
        assert!(a.0 >= 0.0 && a.1 > a.0);
        for b in &spans[i + 1..] {
            assert!(a.2 != b.2 || a.1 <= b.0 || b.1 <= a.0, "{spans:?}");
        }
    }
    assert_eq!(trace["otherData"]["pipeline"], "first");
    project
        .dynvis(&["trace", "@-1"])
        .expect(0)
        .snapshot_of_measurements("trace");
    let nothing = project.dynvis(&["trace", "@"]).expect(0).json();
    assert!(
        nothing["traceEvents"]
            .as_array()
            .expect("events")
            .iter()
            .all(|e| e["ph"] == "M")
    );
    project.dynvis(&["trace", "nothing"]).expect(2).snapshot("trace_no_run");
}

#[test]
fn a_trace_has_every_attempt_and_runs_that_were_killed() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "
name: p
stages:
  a:
    command:
      run: [sh, -c, \"[ -e {root}/once ] || { touch {root}/once; sleep 0.3; kill -KILL $$; }; sleep 0.3; echo 1 > a.txt\"]
      outputs: { a: { path: a.txt } }
    resources: { retry: { times: 1, on: [oom] } }
  b:
    command:
      run: [sh, -c, \"while [ ! -e {root}/go ]; do sleep 0.05; done; cp {inputs.a}/a.txt b.txt\"]
      inputs: { a: a }
      outputs: { b: { path: b.txt } }
",
    );
    let mut command = project.command(&["run", "p.yaml"]);
    let quiet = std::process::Stdio::null;
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.stdout(quiet()).stderr(quiet()).spawn().expect("it starts");
    let bars = |references: &[&str]| -> Vec<(u64, String, f64, f64, String)> {
        let trace = project.dynvis(&[&["trace"], references].concat()).expect(0).json();
        let events = trace["traceEvents"].as_array().expect("events").clone();
        let bars = events.into_iter().filter(|event| event["ph"] == "X");
        bars.map(|event| {
            let seconds = |name: &str| event[name].as_f64().expect("a number") / 1e6;
            (
                event["pid"].as_u64().expect("a number"),
                event["name"].as_str().expect("a name").to_owned(),
                seconds("ts"),
                seconds("dur"),
                event["args"]["outcome"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
    };
    crate::resume::wait_until("b", || {
        let trace = project.dynvis(&["trace"]);
        trace.stdout.contains("\"name\": \"b\"").then_some(())
    });
    crate::resume::signal(rustix::process::Signal::KILL, child.id());
    crate::resume::end(child).expect(-1);
    project.write("go", "");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let all = bars(&["@-1", "@"]);
    let names: Vec<(u64, &str, &str)> = all.iter().map(|bar| (bar.0, bar.1.as_str(), bar.4.as_str())).collect();
    assert_eq!(
        names,
        [
            (1, "a", "tried again"),
            (1, "a", "ran"),
            (1, "b", "not known: the run goes on, or was killed"),
            (2, "b", "ran"),
        ]
    );
    assert!(all[0].3 >= 0.25 && all[1].3 >= 0.25, "{all:?}");
    assert!(
        all.windows(2).all(|pair| pair[1].2 >= pair[0].2),
        "one after the other: {all:?}"
    );
}
