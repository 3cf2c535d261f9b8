//! `examples/own_stage_kind.rs`: a program with a stage kind of its own.

use std::path::Path;
use std::process::Command;

use crate::harness::Project;

#[test]
fn a_program_with_a_stage_kind_of_its_own_runs_pipelines_with_it() {
    let program = Path::new(env!("CARGO_BIN_EXE_dynvis")).with_file_name("examples/own_stage_kind");
    assert!(
        program.is_file(),
        "`cargo test` builds examples, unless it is asked for one test alone"
    );
    let project = Project::new();
    project.write("scores.csv", "name,score\na,0.25\nb,0.75\nc,\nd,0.5\n");
    project.write(
        "p.yaml",
        "
name: own
stages:
  scores:
    command: { run: [cp, \"{files.0}\", out.csv], files: [scores.csv], outputs: { scores: { path: out.csv, type: table } } }
  ranks:
    ranks: { table: scores/scores, column: score }
",
    );
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        let out = command
            .args(arguments)
            .current_dir(project.path(""))
            .env_remove("DYNVIS_CACHE")
            .output();
        let out = out.expect("it starts");
        assert!(
            out.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).expect("text")
    };
    run(&["run", "p.yaml"]);
    let table: serde_json::Value =
        serde_json::from_str(&run(&["show", "@", "ranks/ranks", "--format", "json"])).expect("json");
    let rows: Vec<(u64, u64, f64)> = table["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            let number = |name: &str| row[name].as_u64().expect("a number");
            (number("rank"), number("row"), row["value"].as_f64().expect("a number"))
        })
        .collect();
    assert_eq!(rows, [(1, 2, 0.75), (2, 4, 0.5), (3, 1, 0.25)]);
    // All that is asked of a kind of dynvis is answered for this one too, and a second run has nothing to do.
    assert!(run(&["stages", "ranks"]).contains("The column of numbers that rows are ranked by."));
    assert!(run(&["schema"]).contains("ranks"));
    assert!(run(&["plan", "p.yaml"]).contains("cached  ranks"));
    // dynvis itself knows no such kind, and says so.
    let said = project.dynvis(&["check", "p.yaml"]).expect(2).stderr;
    assert!(said.contains("ranks"), "{said}");
}
