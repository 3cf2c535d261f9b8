//! Plans, their reasons, and results that were accepted: complete screens.

use crate::chain::{CHAIN, chain, executed, run, stored};
use crate::harness::Project;

#[test]
fn a_plan_and_its_reasons() {
    let project = chain();
    project
        .dynvis(&["plan", "p.yaml", "--exit-code"])
        .snapshot("plan_first");
    run(&project, &[]).snapshot("run_first");
    project
        .dynvis(&["plan", "p.yaml", "--exit-code"])
        .snapshot("plan_cached");
    run(&project, &[]).snapshot("run_cached");
    project.write("p.yaml", &CHAIN.replace("tr -d x <", "tr 1 2 <"));
    project
        .dynvis(&["plan", "p.yaml", "--exit-code"])
        .snapshot("plan_changed");
    project.dynvis(&["plan", "p.yaml", "--json"]).snapshot("plan_json");
    project.dynvis(&["why", "p.yaml", "b"]).snapshot("why");
    project.dynvis(&["why", "p.yaml", "b", "--json"]).snapshot("why_json");
    project.dynvis(&["why", "p.yaml", "d"]).snapshot("why_unknown");
    run(&project, &["--dry-run"]).snapshot("run_dry");
    project.dynvis(&["check", "p.yaml"]).snapshot("check");
    std::fs::remove_file(project.path("in.txt")).expect("removed");
    project
        .dynvis(&["plan", "p.yaml", "--exit-code"])
        .snapshot("plan_missing_data");
    run(&project, &[]).snapshot("run_missing_data");
}

#[test]
fn what_is_downstream_can_be_forced_too() {
    let project = chain();
    run(&project, &[]).expect(0);
    executed(&project);
    run(&project, &["--force=b"]).expect(0);
    assert_eq!(executed(&project), "b");
    run(&project, &["--force=b", "--force-downstream"]).expect(0);
    assert_eq!(executed(&project), "bc");
    run(&project, &["--until", "b", "--force=a", "--force-downstream"]).expect(0);
    assert_eq!(executed(&project), "ab", "what is not selected is not forced");
    run(&project, &["--force-downstream"]).expect(2);
}

#[test]
fn globs_select_stages_and_members() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"
stages:
  net_a: { command: { run: [sh, -c, "echo ${matrix.n} > x"], outputs: { x: { path: x } } }, matrix: { n: [1, 2] } }
  net_b: { command: { run: [sh, -c, "echo b > x"], outputs: { x: { path: x } } } }
  other: { command: { run: [sh, -c, "echo o > x"], outputs: { x: { path: x } } } }
"#,
    );
    let selected = |names: &[&str]| -> Vec<String> {
        let states = project.states(&[&["p.yaml"], names].concat());
        let selected = states.into_iter().filter(|(_, state)| state == "run");
        selected.map(|(name, _)| name).collect()
    };
    assert_eq!(selected(&["net_*"]), ["net_a@n=1", "net_a@n=2", "net_b"]);
    assert_eq!(selected(&["net_a@n=2"]), ["net_a@n=2"]);
    assert_eq!(selected(&["*@n=1", "other"]), ["net_a@n=1", "other"]);
    assert_eq!(selected(&["net_?"]), ["net_a@n=1", "net_a@n=2", "net_b"]);
    project.dynvis(&["plan", "p.yaml", "net_c*"]).expect(2);
}

#[test]
fn an_accepted_result_is_up_to_date_and_shown_as_accepted_ever_after() {
    let project = chain();
    let accept = |arguments: &[&str]| project.dynvis(&[&["accept", "p.yaml"], arguments].concat());
    let why = ["--reason", "only a comment"];
    accept(&["c", why[0], why[1]]).snapshot("accept_without_result");
    run(&project, &[]).expect(0);
    executed(&project);
    accept(&["c", why[0], why[1]]).snapshot("accept_cached");
    // A comment in the program of `b`, which is part of its key.
    project.write(
        "p.yaml",
        &CHAIN.replace(
            "> out.txt\"]\n      inputs: { from: a }",
            "> out.txt # fast\"]\n      inputs: { from: a }",
        ),
    );
    assert_eq!(project.states(&["p.yaml"])["b"], "run");
    accept(&["c", why[0], why[1]]).snapshot("accept_pending");
    accept(&["b", why[0], why[1]]).snapshot("accept");
    project
        .dynvis(&["plan", "p.yaml", "--exit-code"])
        .snapshot("plan_accepted");
    project.dynvis(&["why", "p.yaml", "b"]).snapshot("why_accepted");
    run(&project, &[]).snapshot("run_accepted");
    assert_eq!(executed(&project), "");
    let runs = project.dynvis(&["runs", "-n", "1"]).expect(0);
    assert!(
        runs.stdout.contains("3 cached (1 accepted without running)"),
        "{}",
        runs.stdout
    );
    let json = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    assert_eq!(json[0]["stages"][1]["accepted"], "only a comment");
    // What was accepted once more is still what was computed at first.
    project.write(
        "p.yaml",
        &CHAIN.replace(
            "> out.txt\"]\n      inputs: { from: a }",
            "> out.txt # faster\"]\n      inputs: { from: a }",
        ),
    );
    accept(&["b", "--reason", "another comment"]).expect(0);
    let why = project.dynvis(&["why", "p.yaml", "b"]).expect(0);
    assert!(
        why.stdout.contains("another comment") && why.stdout.contains("# faster"),
        "{}",
        why.stdout
    );
    // Until it runs.
    run(&project, &["--force=b"]).expect(0);
    assert_eq!(executed(&project), "b");
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(!plan.stdout.contains("accepted"), "{}", plan.stdout);
}

#[test]
fn tables_of_accepted_results_say_so() {
    let project = chain();
    run(&project, &[]).expect(0);
    project.write("p.yaml", &CHAIN.replace("> t.csv", "> t.csv # x"));
    project
        .dynvis(&["accept", "p.yaml", "c", "--reason", "a comment"])
        .expect(0);
    run(&project, &[]).expect(0);
    project.dynvis(&["show", "@"]).snapshot("show_accepted_list");
    project.dynvis(&["show", "@", "c/t"]).snapshot("show_accepted");
}

#[test]
fn what_is_damaged_or_other_is_not_accepted() {
    let project = chain();
    run(&project, &[]).expect(0);
    let changed = CHAIN.replace("> t.csv", "> t.csv # x");
    project.write("p.yaml", &changed.replace("out: { path: out.txt }, t:", "t:"));
    project
        .dynvis(&["accept", "p.yaml", "c", "--reason", "x"])
        .snapshot("accept_other_outputs");
    project.write("p.yaml", &format!("{changed}    ensure: {{ t: {{ rows: 2 }} }}\n"));
    project
        .dynvis(&["accept", "p.yaml", "c", "--reason", "x"])
        .snapshot("accept_broken");
    project.write("p.yaml", &changed);
    let table = &stored(&project, "t.parquet")[0];
    std::fs::remove_file(table).expect("removed");
    project
        .dynvis(&["accept", "p.yaml", "c", "--reason", "x"])
        .snapshot("accept_damaged");
    project.dynvis(&["accept", "p.yaml", "c"]).expect(2);
    project.dynvis(&["accept", "p.yaml", "c", "--reason", ""]).expect(2);
}
