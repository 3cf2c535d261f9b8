//! `gc`, `pin`, `verify`: what stays, what goes, what is damaged.

use std::path::PathBuf;

use crate::harness::Project;

const TWO: &str = r#"
name: two
vars: { text: one }
stages:
  a:
    command:
      run: [sh, -c, "echo a ${vars.text} > out.txt"]
      outputs: { out: { path: out.txt } }
  b:
    command:
      run: [sh, -c, "cat {inputs.from}/out.txt > out.txt; echo b >> out.txt"]
      inputs: { from: a }
      outputs: { out: { path: out.txt } }
"#;

fn two() -> Project {
    let project = Project::new();
    project.write("p.yaml", TWO);
    project
}

fn run(project: &Project, text: &str) {
    let variable = format!("vars.text={text}");
    project.dynvis(&["run", "p.yaml", "-S", &variable]).expect(0);
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn objects(project: &Project) -> Vec<PathBuf> {
    files(project.path("cache/objects"))
}

/// Everything in the cache but the stat cache and the gate.
fn contents(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    files(project.path("cache"))
        .into_iter()
        .filter(|path| !path.ends_with("fingerprints.json") && !path.ends_with("gate"))
        .map(|path| (path.clone(), std::fs::read(path).expect("readable")))
        .collect()
}

#[test]
fn results_that_no_kept_run_used_go_and_come_back_when_needed() {
    let project = two();
    for text in ["one", "two", "three"] {
        run(&project, text);
    }
    assert_eq!(objects(&project).len(), 6);
    let policy = ["--keep-runs", "1", "--keep-days", "0"];
    let before = contents(&project);
    let dry = project.dynvis(&[&["gc", "--dry-run"], &policy[..]].concat()).expect(0);
    dry.snapshot("gc_dry_run");
    assert_eq!(contents(&project), before, "a dry run changes nothing");
    project
        .dynvis(&[&["gc"], &policy[..]].concat())
        .expect(0)
        .snapshot("gc");
    assert_eq!(objects(&project).len(), 2);
    project.dynvis(&["verify"]).expect(0);
    assert!(
        project
            .states(&["p.yaml", "-S", "vars.text=three"])
            .values()
            .all(|s| s == "cached")
    );
    let again = project.states(&["p.yaml", "-S", "vars.text=one"]);
    assert_eq!(again["a"], "run");
    run(&project, "one");
    assert!(project.outcomes().values().all(|o| o == "ran"));
    // What the policy keeps stays.
    let ran = project.dynvis(&["gc"]).expect(0);
    assert!(ran.stderr.starts_with("removed: 0 B in 0 places"), "{}", ran.stderr);
    assert_eq!(objects(&project).len(), 4);
}

#[test]
fn pins_hold_results_whatever_the_policy() {
    let project = two();
    run(&project, "one");
    project
        .dynvis(&["pin", "@", "--note", "figure 2"])
        .expect(0)
        .snapshot("pin");
    run(&project, "two");
    project.dynvis(&["pin"]).expect(0).snapshot("pin_list");
    let policy = ["gc", "--keep-runs", "0", "--keep-days", "0", "--max-size", "0"];
    project.dynvis(&policy).expect(0);
    assert_eq!(objects(&project).len(), 2);
    assert!(
        project
            .states(&["p.yaml", "-S", "vars.text=one"])
            .values()
            .all(|s| s == "restore")
    );
    project.dynvis(&["pin", "@-1", "--remove"]).expect(0);
    project.dynvis(&["pin"]).expect(0).snapshot("pin_none");
    project.dynvis(&policy).expect(0);
    assert_eq!(objects(&project).len(), 0);
}

#[test]
fn what_was_accepted_stays_as_long_as_it_is_used() {
    let project = two();
    run(&project, "one");
    let changed = TWO.replace("echo b >>", "echo b  >>");
    project.write("p.yaml", &changed);
    let accept = ["accept", "p.yaml", "b", "--reason", "white space"];
    project.dynvis(&accept).expect(0);
    // The last run used it under the key that it was computed for.
    let policy = ["gc", "--keep-runs", "1", "--keep-days", "0"];
    project.dynvis(&policy).expect(0);
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
    run(&project, "one");
    assert!(project.outcomes().values().all(|o| o == "cached"));
    // Now it is used under the new key alone.
    project.dynvis(&policy).expect(0);
    assert_eq!(objects(&project).len(), 2);
    project.dynvis(&["verify"]).expect(0);
    let b = objects(&project)
        .into_iter()
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.ends_with("b\n")))
        .expect("the result of b");
    std::fs::remove_file(b).expect("removed");
    project.dynvis(&["verify"]).expect(102);
}

#[test]
fn the_last_used_fit_first() {
    let project = two();
    for text in ["one", "two", "three"] {
        run(&project, text);
    }
    // 6 and 8 bytes, 6 and 8, 8 and 10: the last two runs take 32.
    project
        .dynvis(&["gc", "--max-size", "31B", "--dry-run"])
        .expect(0)
        .snapshot("gc_size");
    let json = project.dynvis(&["gc", "--max-size", "18B", "--json"]).expect(0).json();
    assert_eq!(json["collection"]["kept_bytes"], 18, "{json:#}");
    assert!(
        project
            .states(&["p.yaml", "-S", "vars.text=three"])
            .values()
            .all(|s| s == "cached")
    );
    assert_eq!(objects(&project).len(), 2);
    for wrong in [["--max-size", "much"], ["--keep-days", "-1"], ["--keep-runs", "x"]] {
        project.dynvis(&["gc", wrong[0], wrong[1]]).expect(2);
    }
}

#[test]
fn nothing_goes_that_a_run_in_progress_uses() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"
name: slow
stages:
  a:
    command:
      run: [sh, -c, "echo a > out.txt"]
      outputs: { out: { path: out.txt } }
  b:
    command:
      run: [sh, -c, "touch $FLAG; while [ -e $FLAG ]; do sleep 0.02; done; cat {inputs.from}/out.txt > out.txt"]
      inputs: { from: a }
      outputs: { out: { path: out.txt } }
"#,
    );
    let flag = project.path("flag");
    let mut child = project
        .command(&["run", "p.yaml"])
        .env("FLAG", &flag)
        .spawn()
        .expect("starts");
    wait_for(|| flag.exists());
    assert_eq!(objects(&project).len(), 1);
    let runs = project
        .dynvis(&["runs", "--status", "running", "--json"])
        .expect(0)
        .json();
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs:#}");
    let policy = ["gc", "--keep-runs", "0", "--keep-days", "0", "--max-size", "0"];
    let ran = project.dynvis(&policy).expect(0);
    assert_eq!(objects(&project).len(), 1, "{}{}", ran.stdout, ran.stderr);
    std::fs::remove_file(&flag).expect("removed");
    assert!(child.wait().expect("ends").success());
    project.dynvis(&["verify"]).expect(0);
    assert_eq!(objects(&project).len(), 1, "both outputs are the same bytes");
    // Now that it has ended, the same policy takes everything.
    project.dynvis(&policy).expect(0);
    assert_eq!(objects(&project).len(), 0);
}

fn wait_for(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("did not come in 10 seconds");
}

#[test]
fn a_collection_that_is_killed_leaves_a_valid_store() {
    let project = Project::new();
    let many: String = (0..40)
        .map(|i| {
            format!(
                "  s{i}:\n    command:\n      run: [sh, -c, \"mkdir d; for i in 1 2 3 4 5 6 7 8 9; do echo \
                 ${{vars.text}} {i} $i > d/$i; done\"]\n      outputs: {{ out: {{ path: d }} }}\n"
            )
        })
        .collect();
    project.write("p.yaml", &format!("name: many\nvars: {{ text: one }}\nstages:\n{many}"));
    for round in 0..4_u64 {
        run(&project, "one");
        run(&project, "two");
        let mut child = project
            .command(&["gc", "--keep-runs", "1", "--keep-days", "0"])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(std::time::Duration::from_millis(4 + 6 * round));
        let _ = child.kill();
        child.wait().expect("ends");
        // Whatever is left of the first run's results is whole, or is not taken for a result.
        project.dynvis(&["verify"]).expect(0);
        assert!(
            project
                .states(&["p.yaml", "-S", "vars.text=two"])
                .values()
                .all(|s| s == "cached")
        );
        run(&project, "one");
        project.dynvis(&["verify"]).expect(0);
        project
            .dynvis(&["gc", "--keep-runs", "1", "--keep-days", "0"])
            .expect(0);
        assert_eq!(objects(&project).len(), 40 * 9);
        project.dynvis(&["verify"]).expect(0);
    }
}

#[test]
fn what_belongs_to_no_result_goes() {
    let project = two();
    run(&project, "one");
    let stray = "ab".repeat(32);
    project.write(&format!("cache/objects/ab/{stray}/out.txt"), "0123456789");
    project.write(
        "bad.yaml",
        "name: bad\nstages:\n  x:\n    command:\n      run: [sh, -c, \"echo part > out.txt; \
            false\"]\n      outputs: { out: { path: out.txt } }\n",
    );
    project.dynvis(&["run", "bad.yaml"]).expect(100);
    project
        .dynvis(&["gc", "--keep-runs", "0", "--keep-days", "0"])
        .expect(0)
        .snapshot("gc_strays");
    assert!(objects(&project).is_empty());
    // The record and the log of the failed run stay.
    project.dynvis(&["log", "@", "x"]).expect(0);
    assert!(
        !files(project.path("cache/runs"))
            .iter()
            .any(|p| p.to_string_lossy().contains("partial"))
    );
}

#[test]
fn old_logs_of_chains_and_notes_of_uploads_go() {
    let project = two();
    run(&project, "one");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(24 * 91);
    let note = "ab".repeat(16);
    let names = [
        "chains/old.log",
        "chains/new.log",
        &format!("uploads/{note}"),
        "uploads/lock",
    ];
    for name in names {
        let path = format!("cache/{name}");
        project.write(&path, "text");
        if !name.contains("new") {
            let file = std::fs::OpenOptions::new().append(true).open(project.path(&path));
            file.expect("opened").set_modified(long_ago).expect("set");
        }
    }
    project.dynvis(&["gc"]).expect(0);
    let left = names.map(|name| project.path(&format!("cache/{name}")).exists());
    assert_eq!(left, [false, true, false, true]);
}

#[test]
fn damaged_results_are_named() {
    let project = two();
    run(&project, "one");
    project.dynvis(&["verify"]).expect(0).snapshot("verify");
    let damaged = objects(&project).remove(0);
    let folder = damaged.parent().expect("a folder").to_owned();
    // The same size and the same times: only the bytes tell.
    let times = std::fs::metadata(&damaged).expect("metadata").modified().expect("time");
    let bytes = std::fs::read(&damaged).expect("read");
    std::fs::remove_file(&damaged).expect("removed");
    std::fs::write(&damaged, bytes.iter().map(|b| b ^ 1).collect::<Vec<_>>()).expect("forged");
    std::fs::File::options()
        .write(true)
        .open(&damaged)
        .and_then(|f| f.set_modified(times))
        .expect("times");
    std::fs::write(folder.join("stray"), "x").expect("written");
    let other = objects(&project)
        .into_iter()
        .find(|p| p.parent() != Some(&folder))
        .expect("another");
    std::fs::remove_file(&other).expect("removed");
    project.dynvis(&["verify"]).expect(102).snapshot("verify_damaged");
    let json = project.dynvis(&["verify", "--json"]).expect(102).json();
    let faults: Vec<&str> = json["damaged"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|d| d["fault"].as_str().expect("a name"))
        .collect();
    assert_eq!(faults.len(), 3, "{json:#}");
    for fault in ["damaged", "missing", "unexpected"] {
        assert!(faults.contains(&fault), "{json:#}");
    }
    std::fs::remove_file(folder.join("stray")).expect("removed");
    run(&project, "one");
    project.dynvis(&["verify"]).expect(0);
}
