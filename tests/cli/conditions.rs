//! `ensure`: conditions on tables, before they are published and ever after.

use crate::chain::executed;
use crate::harness::Project;

/// A stage that writes a table of these rows under these conditions, and one that needs it.
fn pipeline(rows: &str, ensure: &str) -> String {
    format!(
        r#"
name: p
stages:
  scores:
    command:
      run: [sh, -c, "echo s >> $COUNT; printf 'level,accuracy\\n{rows}' > t.csv"]
      outputs: {{ t: {{ path: t.csv, type: table }} }}
    ensure: {ensure}
  next:
    command: {{ run: [sh, -c, "echo n >> $COUNT; touch x"], inputs: {{ t: scores }}, outputs: {{ x: {{ path: x }} }} }}
"#
    )
}

#[test]
fn what_breaks_a_condition_is_not_published() {
    for (ensure, message) in [
        ("{ t: { rows: 3 } }", "2 rows, at least 3 are needed"),
        ("{ t: { columns: [loss] } }", "no column `loss`; it has level, accuracy"),
        (
            "{ t: { finite: [accuracy] } }",
            "column `accuracy` holds `inf` in row 2, where a finite number is needed",
        ),
    ] {
        let project = Project::new();
        project.write("p.yaml", &pipeline("0,0.9\\\\n1,inf\\\\n", ensure));
        let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
        assert!(
            ran.stderr.contains("its output `t` breaks a condition"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
        assert_eq!(executed(&project), "s");
        assert_eq!(project.states(&["p.yaml"])["scores"], "run");
        // Without the condition nothing else is in the way.
        project.write("p.yaml", &pipeline("0,0.9\\\\n1,inf\\\\n", "{}"));
        project.dynvis(&["run", "p.yaml"]).expect(0);
    }
}

/// Conditions are no part of the key: new ones are held against what is there.
#[test]
fn a_result_that_breaks_a_new_condition_is_not_up_to_date() {
    let project = Project::new();
    let rows = "0,0.9\\\\n1,0.5\\\\n";
    project.write("p.yaml", &pipeline(rows, "{}"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&project), "sn");
    let good = pipeline(rows, "{ t: { rows: 2, columns: [level], finite: [accuracy] } }");
    project.write("p.yaml", &good);
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&project), "");
    let journal = project.read("cache/journal");
    assert!(journal.contains("Ensured"), "the verdict is kept: {journal}");
    let length = journal.len();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(project.read("cache/journal").len(), length, "and not asked for again");
    project.write("p.yaml", &pipeline(rows, "{ t: { rows: 3 } }"));
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    let broken = project.dynvis(&["run", "p.yaml"]).expect(100);
    plan.snapshot("plan_of_a_broken_condition");
    broken.snapshot("run_into_a_broken_condition");
    assert_eq!(executed(&project), "s");
    // Taken back, the old result serves again.
    project.write("p.yaml", &good);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&project), "");
}

/// A stage that was not selected serves only with what is up to date.
#[test]
fn a_broken_result_serves_nobody() {
    let project = Project::new();
    project.write("p.yaml", &pipeline("0,0.9\\\\n", "{}"));
    project.dynvis(&["run", "p.yaml", "scores"]).expect(0);
    project.write("p.yaml", &pipeline("0,0.9\\\\n", "{ t: { rows: 2 } }"));
    let states = project.states(&["p.yaml", "next", "--only"]);
    assert_eq!(states["next"], "blocked");
}

#[test]
fn check_knows_what_can_be_said_before_a_run() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"
pools: { licence: 2, "1x": 0 }
stages:
  a:
    command: { run: ["true"], outputs: { t: { path: t.csv, type: table }, f: { path: f } } }
    ensure: { t: { rows: 0, row: 1 }, u: { rows: 1 }, f: { rows: 1 } }
    resources: { pools: { licence: 3, licences: 1 }, timeout: 0, gpu_memory: -1 }
  b:
    command: { run: ["true"], outputs: { t: { path: t.csv, type: table } } }
    ensure: [t]
    resources: { retry: { times: 0, on: [oomm] }, timeout: soon }
  c:
    command: { run: ["true"], outputs: { t: { path: t.csv, type: table }, f: { path: f } } }
    ensure: { u: { rows: 1 }, f: { rows: 1 } }
"#,
    );
    let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
    ran.snapshot("check_of_conditions_and_resources");
}
