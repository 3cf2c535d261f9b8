//! Faults found in the store: what is kept, seen and told of runs that go on, were killed, or are another project's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Project, Ran};

const CHAIN: &str = r#"
name: chain
stages:
  a: { command: { run: [sh, -c, "printf 'x\n1\n' > t.csv"], outputs: { t: { path: t.csv, type: table } } } }
  b: { command: { run: [sh, -c, "cat {inputs.a}/*; printf 'x\n2\n' > t.csv"], inputs: { a: a }, outputs: { t: { path: t.csv, type: table } } } }
"#;

/// `b` waits until a file `go` is there.
const WAITS: &str = r#"
name: chain
stages:
  a: { command: { run: [sh, -c, "printf 'x\n1\n' > t.csv"], outputs: { t: { path: t.csv, type: table } } } }
  b: { command: { run: [sh, -c, "while [ ! -e {root}/go ]; do sleep 0.02; done; printf 'x\n2\n' > t.csv"], inputs: { a: a }, outputs: { t: { path: t.csv, type: table } } } }
"#;

const NOTHING: [&str; 4] = ["--keep-runs", "0", "--keep-days", "0"];

fn chain() -> Project {
    let project = Project::new();
    project.write("p.yaml", CHAIN);
    project
}

/// Runs it up to a step of stage `b` and kills it there.
fn killed(project: &Project, step: &str) {
    let ran = project.dynvis(&["run", "p.yaml", "--fail-at", step]);
    assert_ne!(ran.code, 0, "{step}: {}", ran.stderr);
    project.expect_no_process();
}

fn run_folders(project: &Project) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(project.path("cache/runs")).expect("runs");
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn gc_after_a_killed_run_keeps_what_it_committed() {
    for step in [
        "committed",
        "noted",
        "locked:2",
        "started:2",
        "renamed:2",
        "half-appended:2",
        "ended",
    ] {
        let project = chain();
        killed(&project, step);
        project.dynvis(&["gc"]).expect(0);
        assert_eq!(project.states(&["p.yaml"])["a"], "cached", "{step}");
        // A pin holds what no other policy keeps.
        project.dynvis(&["pin", "@"]).expect(0);
        project.dynvis(&[&["gc"], &NOTHING[..]].concat()).expect(0);
        assert_eq!(project.states(&["p.yaml"])["a"], "cached", "{step}, pinned");
        project.dynvis(&["pin", "@", "--remove"]).expect(0);
        project.dynvis(&[&["gc"], &NOTHING[..]].concat()).expect(0);
        assert_eq!(
            project.states(&["p.yaml"])["a"],
            "run",
            "{step}: nothing holds it any more"
        );
    }
}

#[test]
fn gc_keeps_everything_where_a_record_cannot_be_read() {
    type Damage = &'static dyn Fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("one wrong byte", &|record| {
            let mut bytes = std::fs::read(record).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] = b'\0';
            std::fs::write(record, bytes).expect("written");
        }),
        ("cut off", &|record| std::fs::write(record, "{").expect("written")),
        ("empty", &|record| std::fs::write(record, "").expect("written")),
        ("a newer version", &|record| {
            let text = std::fs::read_to_string(record).expect("read");
            std::fs::write(record, text.replacen("\"version\":1", "\"version\":2", 1)).expect("written");
        }),
    ];
    for (what, damage) in damages {
        let project = chain();
        project.dynvis(&["run", "p.yaml"]).expect(0);
        damage(&run_folders(&project)[0].join("run.json"));
        let ran = project.dynvis(&[&["gc"], &NOTHING[..]].concat()).expect(0);
        assert!(ran.stderr.contains("cannot be read"), "{what}: {}", ran.stderr);
        assert!(
            project.states(&["p.yaml"]).values().all(|state| state == "cached"),
            "{what}"
        );
        project.dynvis(&["verify"]).expect(102);
        let ignoring = [&["gc", "--ignore-unreadable"], &NOTHING[..]].concat();
        project.dynvis(&ignoring).expect(0);
        assert_eq!(project.states(&["p.yaml"])["a"], "run", "{what}");
    }
}

#[test]
fn projects_that_share_a_cache_keep_their_own_results_and_runs() {
    let (one, other) = (chain(), Project::new());
    other.write("p.yaml", &CHAIN.replace("x\\n2", "x\\n3"));
    let cache = tempfile::tempdir().expect("a folder");
    let cache = cache.path().join("shared");
    let in_cache = |project: &Project, arguments: &[&str]| -> Ran {
        let mut command = project.command(arguments);
        command.env("DYNVIS_CACHE", &cache);
        command.output().expect("starts").into()
    };
    in_cache(&one, &["run", "p.yaml"]).expect(0);
    in_cache(&other, &["run", "p.yaml"]).expect(0);
    let csv = ["show", "@", "b/t", "--format", "csv"];
    assert_eq!(in_cache(&one, &csv).expect(0).stdout, "x\n2\n");
    assert_eq!(in_cache(&other, &csv).expect(0).stdout, "x\n3\n");
    let runs = |project: &Project, arguments: &[&str]| {
        let all = [&["runs", "--json"], arguments].concat();
        in_cache(project, &all).expect(0).json().as_array().map_or(0, Vec::len)
    };
    assert_eq!([runs(&one, &[]), runs(&one, &["--all-projects"])], [1, 2]);
    let ran = in_cache(&one, &[&["gc"], &NOTHING[..]].concat()).expect(0);
    assert!(ran.stderr.contains("stay for other projects"), "{}", ran.stderr);
    let states = |project: &Project| in_cache(project, &["plan", "p.yaml", "--exit-code"]).code;
    assert_eq!(states(&other), 0, "the other project's results are there");
    assert_eq!(states(&one), 10, "its own are not");
    in_cache(&one, &[&["gc", "--all-projects"], &NOTHING[..]].concat()).expect(0);
    assert_eq!(states(&other), 10);
}

#[test]
fn what_has_ended_is_seen_while_a_run_goes_on_and_after_it_was_killed() {
    let project = Project::new();
    project.write("p.yaml", WAITS);
    let start = |project: &Project| {
        let mut command = project.command(&["run", "p.yaml"]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts")
    };
    let mut child = start(&project);
    let csv = ["show", "@", "a/t", "--format", "csv"];
    wait_until("the table of `a`", || project.dynvis(&csv).stdout == "x\n1\n");
    let log = project.dynvis(&["log", "@"]).expect(0).stdout;
    assert!(
        log.contains("running") && log.contains("a ") && log.contains("ran"),
        "{log}"
    );
    let run = &project.dynvis(&["runs", "--json"]).expect(0).json()[0];
    assert_eq!(run["stages"][0]["name"], "a", "{run}");
    child.kill().expect("killed");
    child.wait().expect("ended");
    project.expect_no_process();
    assert_eq!(project.dynvis(&csv).expect(0).stdout, "x\n1\n");
    let run = &project.dynvis(&["runs", "--json"]).expect(0).json()[0];
    assert_eq!(run["stages"].as_array().map(Vec::len), Some(1), "{run}");
    assert!(run["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{run}");
    let log = project.dynvis(&["log", "@"]).expect(0).stdout;
    assert!(log.contains("killed"), "{log}");
    // Its whole record takes the place of what was noted meanwhile.
    project.write("go", "");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let last = run_folders(&project).pop().expect("a run");
    assert!(!last.join("stages").exists());
}

#[test]
fn a_panic_is_no_changed_input() {
    for (step, code) in [("begun=panic", 70), ("written=panic", 100), ("ensured=panic", 100)] {
        let project = chain();
        let ran = project.dynvis(&["run", "p.yaml", "--fail-at", step]).expect(code);
        assert!(ran.stderr.contains("panic"), "{step}: {}", ran.stderr);
        project.expect_no_process();
        project.dynvis(&["run", "p.yaml"]).expect(0);
    }
}

#[test]
fn a_cache_is_shared_as_the_umask_says() {
    for (umask, file, folder) in [("002", 0o664, 0o775), ("027", 0o640, 0o750), ("077", 0o600, 0o700)] {
        let project = chain();
        let mut command = std::process::Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" run p.yaml");
        let ran = command
            .args(["-c", &script, env!("CARGO_BIN_EXE_dynvis")])
            .current_dir(project.path(""))
            .output();
        let ran: Ran = ran.expect("starts").into();
        ran.expect(0);
        let mut folders = vec![project.path("cache")];
        let mut files = 0;
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(at).expect("a folder").flatten() {
                let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
                let shown = entry.path().display().to_string();
                // Published files and folders are nobody's to change.
                let is_object = shown.contains("/objects/");
                if entry.path().is_dir() {
                    let expected = if is_object && shown.rsplit('/').next().is_some_and(|name| name.len() > 2) {
                        folder & !0o202
                    } else {
                        folder
                    };
                    assert_eq!(mode, expected, "umask {umask}: {shown} is {mode:o}");
                    folders.push(entry.path());
                } else {
                    files += 1;
                    let expected = if is_object { file & 0o444 } else { file };
                    assert_eq!(mode, expected, "umask {umask}: {shown} is {mode:o}");
                }
            }
        }
        assert!(files > 5);
    }
}

#[test]
fn verify_tells_of_damaged_lines_of_the_journal() {
    let project = chain();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["verify"]).expect(0);
    let journal = project.path("cache/journal");
    let mut bytes = std::fs::read(&journal).expect("read");
    let middle = bytes.iter().position(|b| *b == b'{').expect("a record") + 5;
    bytes[middle] ^= 1;
    std::fs::write(&journal, bytes).expect("written");
    project.dynvis(&["verify"]).expect(102);
    let ran = project.dynvis(&[&["gc"], &NOTHING[..]].concat()).expect(0);
    assert!(ran.stderr.contains("everything stays"), "{}", ran.stderr);
}

#[test]
fn a_damaged_last_record_is_passed_over() {
    let project = chain();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let last = run_folders(&project).pop().expect("a run");
    std::fs::write(last.join("run.json"), "{ no record").expect("written");
    for command in [&["show", "@", "a/t"][..], &["log"], &["log", "@"]] {
        let ran = project.dynvis(command).expect(0);
        assert!(ran.stderr.contains("skipped"), "{command:?}: {}", ran.stderr);
    }
}

#[test]
fn the_last_run_is_the_last_one_after_a_clock_was_set_back() {
    let project = chain();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let folder = run_folders(&project).pop().expect("a run");
    let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
    let (_, id) = name.split_once('-').expect("time and id");
    // As if it had been made in the year 2100.
    std::fs::rename(&folder, folder.with_file_name(format!("004102444800000-{id}"))).expect("renamed");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let log = project.dynvis(&["log", "@"]).expect(0).stdout;
    assert!(!log.contains(id), "`@` is the new run: {log}");
    assert!(project.dynvis(&["log", "@-1"]).expect(0).stdout.contains(id));
}

#[test]
fn commands_that_only_read_make_no_cache() {
    let project = chain();
    for (command, code) in [
        (&["check", "p.yaml"][..], 0),
        (&["plan", "p.yaml"], 0),
        (&["run", "p.yaml", "--dry-run"], 0),
        (&["dag", "p.yaml"], 0),
        (&["why", "p.yaml", "a"], 0),
        (&["runs"], 0),
        (&["show"], 2),
        (&["log"], 2),
        (&["diff", "@-1", "@"], 2),
        (&["pin"], 0),
        (&["gc"], 0),
        (&["verify"], 0),
        (&["jobs"], 0),
        (&["doctor"], 0),
        (&["stages"], 0),
        (&["presets"], 0),
    ] {
        let ran = project.dynvis(command);
        assert_eq!(ran.code, code, "{command:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!project.path("cache").exists(), "{command:?} made a cache");
    }
}

#[test]
fn a_path_may_begin_at_the_users_home() {
    let project = Project::new();
    project.write("home/data.txt", "at home\n").write(
        "p.yaml",
        "name: p\nstages:\n  a: { command: { run: [sh, -c, 'cat {files.0} > o'], files: ['~/data.txt'], outputs: { o: \
         { path: o } } } }\n  b: { recordings: { path: '~/none.csv' } }\n",
    );
    let mut command = project.command(&["run", "p.yaml", "a"]);
    command.env("HOME", project.path("home"));
    let ran: Ran = command.output().expect("starts").into();
    ran.expect(0);
    assert_eq!(project.outcomes()["a"], "ran");
    let mut command = project.command(&["run", "p.yaml", "b"]);
    command.env("HOME", project.path("home"));
    let ran: Ran = command.output().expect("starts").into();
    assert!(ran.expect(2).stderr.contains("~/none.csv"));
}
