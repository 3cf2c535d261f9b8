//! Selection, order and failures, with small programs as stages.

use crate::chain::{chain, executed, run, walk};
use crate::harness::Project;

#[test]
fn the_second_run_does_nothing() {
    let project = chain();
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "abc");
    let states = project.states(&["p.yaml"]);
    assert!(states.values().all(|s| s == "cached"), "{states:?}");
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "");
}

#[test]
fn keep_going_runs_what_does_not_depend_on_the_failure() {
    let project = Project::new();
    let stage = |name: &str, script: &str| {
        format!("  {name}:\n    command: {{ run: [sh, -c, \"{script}\"], outputs: {{ out: {{ path: out.txt }} }} }}\n")
    };
    let text = format!(
        "stages:\n{}{}",
        stage("bad", "exit 1"),
        stage("good", "sleep 0.2; echo 1 > out.txt")
    );
    project.write("p.yaml", &text);
    run(&project, &["--keep-going", "--jobs", "1"]).expect(100);
    let outcomes = project.outcomes();
    assert_eq!((outcomes["bad"].as_str(), outcomes["good"].as_str()), ("failed", "ran"));
}

#[test]
fn selection() {
    let project = chain();
    run(&project, &["b"]).expect(0);
    assert_eq!(executed(&project), "ab");
    run(&project, &["--from", "b"]).expect(0);
    assert_eq!(executed(&project), "c");
    run(&project, &["--force=b"]).expect(0);
    assert_eq!(executed(&project), "b");
    run(&project, &["--until", "b", "--force"]).expect(0);
    assert_eq!(executed(&project), "ab");
    project.write("in.txt", "5\n");
    let states = project.states(&["p.yaml", "c", "--only"]);
    assert_eq!((states["a"].as_str(), states["c"].as_str()), ("excluded", "blocked"));
    let ran = run(&project, &["d"]).expect(2);
    assert!(ran.stderr.contains("no stage `d`"), "{}", ran.stderr);
}

#[test]
fn missing_files_stop_before_any_work() {
    let project = chain();
    std::fs::remove_file(project.path("in.txt")).expect("removed");
    let ran = run(&project, &[]).expect(2);
    assert!(ran.stderr.contains("the file `in.txt`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("waiting for it: b, c"), "{}", ran.stderr);
    assert_eq!(executed(&project), "");
    let states = project.states(&["p.yaml"]);
    assert!(states.values().all(|s| s == "blocked"), "{states:?}");
    assert_eq!(project.dynvis(&["plan", "p.yaml", "--exit-code"]).code, 10);
}

#[test]
fn independent_stages_run_side_by_side() {
    let project = Project::new();
    // Each waits for the other's mark: one after the other, they would wait in vain.
    let stage = |me: &str, other: &str| {
        format!(
            "  {me}:\n    resources: {{ cpu: 1 }}\n    command:\n      run: [sh, -c, \"touch {{root}}/{me}.mark; for i \
             in $(seq 100); do [ -e {{root}}/{other}.mark ] && break; sleep 0.1; done; [ -e {{root}}/{other}.mark ] && \
             echo 1 > out.txt\"]\n      outputs: {{ out: {{ path: out.txt }} }}\n"
        )
    };
    project.write(
        "p.yaml",
        &format!("stages:\n{}{}", stage("left", "right"), stage("right", "left")),
    );
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if threads < 2 {
        return;
    }
    run(&project, &["--jobs", "2"]).expect(0);
}

/// A cache that fails in the middle starts nothing more, and what runs comes to its end.
#[test]
fn trouble_with_the_cache_does_not_throw_away_what_runs() {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        return;
    }
    let project = Project::new();
    project.write(
        "p.yaml",
        "
stages:
  long:
    resources: { cpu: 1 }
    command:
      run: [sh, -c, \"echo long >> $COUNT; touch {root}/mark; sleep 1; echo 1 > out.txt\"]
      outputs: { out: { path: out.txt } }
  saboteur:
    resources: { cpu: 1 }
    command:
      run: [sh, -c, \"while [ ! -e {root}/mark ]; do sleep 0.05; done; mv {root}/cache/locks {root}/cache/away; touch {root}/cache/locks; echo 2 > out.txt\"]
      outputs: { out: { path: out.txt } }
  next:
    command:
      run: [sh, -c, \"cp {inputs.from}/out.txt out.txt\"]
      inputs: { from: saboteur }
      outputs: { out: { path: out.txt } }
",
    );
    let ran = run(&project, &["--jobs", "2"]).expect(2);
    assert!(ran.stderr.contains("cannot open a lock"), "{}", ran.stderr);
    std::fs::remove_file(project.path("cache/locks")).expect("removed");
    std::fs::rename(project.path("cache/away"), project.path("cache/locks")).expect("put back");
    let outcomes = project.outcomes();
    assert_eq!(
        (outcomes["long"].as_str(), outcomes["next"].as_str()),
        ("ran", "blocked")
    );
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "long", "once");
}

/// Links would let a result change, or go, with files elsewhere; and make those read-only.
#[test]
fn linked_outputs_become_files_of_their_own() {
    let project = Project::new();
    project.write("in.txt", "1\n").write(
        "p.yaml",
        "
stages:
  a:
    command:
      run: [sh, -c, \"echo a >> $COUNT; ln -s {root}/in.txt soft; mkdir d; echo 2 > x; ln -s ../x d/y; ln {root}/in.txt hard\"]
      outputs: { soft: { path: soft }, d: { path: d }, hard: { path: hard } }
  b:
    command:
      run: [sh, -c, \"cat {inputs.s}/soft {inputs.d}/y {inputs.h}/hard > out.txt; ! [ -h {inputs.d}/y ]\"]
      inputs: { s: a/soft, d: a/d, h: a/hard }
      outputs: { out: { path: out.txt } }
",
    );
    run(&project, &[]).expect(0);
    project.write("in.txt", "an edit of one's own file\n");
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
    let out = walk(&project.path("cache/objects"))
        .into_iter()
        .find(|p| p.ends_with("out.txt"));
    assert_eq!(
        std::fs::read_to_string(out.expect("a result")).expect("read"),
        "1\n2\n1\n"
    );
    project.write(
        "q.yaml",
        "stages:\n  a:\n    command: { run: [ln, -s, /tmp, out], outputs: { out: { path: out } } }\n",
    );
    let ran = project.dynvis(&["run", "q.yaml"]).expect(100);
    assert!(ran.stderr.contains("is a link to a folder"), "{}", ran.stderr);
}

#[test]
fn tables_of_runs_are_shown_and_compared() {
    let project = Project::new();
    let pipeline = |rows: &str| {
        format!(
            "stages:\n  t:\n    command:\n      run: [sh, -c, \"printf '{rows}' > t.csv\"]\n      outputs: {{ scores: \
             {{ path: t.csv, type: table }} }}\n"
        )
    };
    project.write("p.yaml", &pipeline("level,accuracy\\\\n0,0.9\\\\n1,0.5\\\\n"));
    let ran = run(&project, &[]).expect(0);
    assert!(ran.stdout.contains("accuracy"), "headline: {}", ran.stdout);
    project.write(
        "p.yaml",
        &pipeline("level,accuracy\\\\n0,0.9\\\\n1,0.75\\\\n2,0.25\\\\n"),
    );
    run(&project, &[]).expect(0);
    let diff = project.dynvis(&["diff", "@-1", "@", "--json"]).expect(1).json();
    let table = &diff["tables"][0];
    assert_eq!(table["table"], "t/scores");
    let text = table.to_string();
    assert!(text.contains("0.75") && text.contains("0.25"), "{text}");
    assert!(!text.contains("0.9"), "row 0 did not change: {text}");
    project.dynvis(&["diff", "@", "@"]).expect(0);
    let csv = project.dynvis(&["show", "@", "t/scores", "--format", "csv"]).expect(0);
    assert_eq!(csv.stdout, "level,accuracy\n0,0.9\n1,0.75\n2,0.25\n");
    let list = project.dynvis(&["show", "@"]).expect(0);
    assert!(list.stdout.contains("t/scores"), "{}", list.stdout);
    let ran = project.dynvis(&["show", "@", "t/score"]).expect(2);
    assert!(ran.stderr.contains("did you mean `t/scores`?"), "{}", ran.stderr);
    project.dynvis(&["show", "@-7"]).expect(2);
    project
        .write("a.csv", "level,accuracy\n0,0.9\n")
        .write("b.csv", "level,accuracy\n0,0.8\n");
    project.dynvis(&["diff", "a.csv", "b.csv"]).expect(1);
    project.dynvis(&["diff", "a.csv", "a.csv"]).expect(0);
}

#[test]
fn a_matrix_fans_out_and_in() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"
stages:
  one:
    command:
      run: [sh, -c, "echo ${matrix.n} > out.txt"]
      outputs: { out: { path: out.txt } }
    matrix: { n: [1, 2, 3] }
  member:
    command:
      run: [sh, -c, "cat {inputs.it}/out.txt > out.txt"]
      inputs: { it: "one@n=2" }
      outputs: { out: { path: out.txt } }
"#,
    );
    run(&project, &[]).expect(0);
    let outcomes = project.outcomes();
    assert_eq!(
        outcomes.keys().map(String::as_str).collect::<Vec<_>>(),
        ["member", "one@n=1", "one@n=2", "one@n=3"]
    );
    let dag = project.dynvis(&["dag", "p.yaml"]).expect(0);
    assert!(dag.stdout.contains("one x3"), "{}", dag.stdout);
    run(&project, &["one@n=2", "--force=one@n=2"]).expect(0);
    assert_eq!(project.outcomes()["one@n=2"], "ran");
    assert_eq!(project.outcomes()["one@n=1"], "excluded");
}
