//! What happened to other tools and must not happen here: one test an event, named after it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::chain::{CHAIN, chain, executed, run, stored, wait_for, walk};
use crate::harness::{Project, Ran, repository, say};

#[test]
fn output_bytes_come_out_identical_after_a_rerun() {
    let project = chain();
    run(&project, &[]).expect(0);
    executed(&project);
    // `b` drops every x, so its output comes out equal and `c` has nothing to do.
    project.write("in.txt", "x1\n");
    let states = project.states(&["p.yaml"]);
    assert_eq!(states["a"], "run");
    assert_eq!(states["b"], "maybe");
    assert_eq!(states["c"], "maybe");
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "ab");
    assert_eq!(project.outcomes()["c"], "cached");
}

#[test]
fn intermediate_result_deleted() {
    let project = chain();
    project.write("in.txt", "x1\n");
    run(&project, &[]).expect(0);
    executed(&project);
    // The results of `b` and `c` are equal, that of `a` is another one.
    let of_a = stored(&project, "out.txt")
        .into_iter()
        .find(|path| std::fs::read_to_string(path).expect("read") == "x1\n")
        .expect("the result of a");
    std::fs::remove_dir_all(of_a.parent().expect("a folder")).expect("deleted");
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("output `out` is missing"), "{}", plan.stdout);
    assert_eq!(project.states(&["p.yaml"])["b"], "maybe");
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "a");
    assert_eq!(std::fs::read_to_string(of_a).expect("it is back"), "x1\n");
}

#[test]
fn stored_result_edited_or_damaged() {
    let project = chain();
    run(&project, &[]).expect(0);
    executed(&project);
    // All three stages pass the same bytes on, so there is one object.
    let files = stored(&project, "out.txt");
    assert_eq!(files.len(), 1);
    forge(&files[0]);
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("output `out` is damaged"), "{}", plan.stdout);
    run(&project, &[]).expect(0);
    assert!(executed(&project).starts_with('a'));
    assert_eq!(std::fs::read_to_string(&files[0]).expect("restored"), "1\n");
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
}

/// Edits a stored file, which is read-only.
fn forge(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("writable");
    std::fs::write(file, "forged").expect("damaged");
}

#[test]
fn parameter_changed_and_changed_back() {
    let project = chain();
    run(&project, &[]).expect(0);
    project.write("p.yaml", &CHAIN.replace("tr -d x <", "tr 1 2 <"));
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "abcbc");
    project.write("p.yaml", CHAIN);
    let states = project.states(&["p.yaml"]);
    assert_eq!(
        [&states["a"], &states["b"], &states["c"]],
        ["cached", "restore", "restore"]
    );
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "");
    assert_eq!(project.outcomes()["c"], "restored");
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
    // The same with a file.
    project.write("in.txt", "2\n");
    run(&project, &[]).expect(0);
    executed(&project);
    project.write("in.txt", "1\n");
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "restore"));
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "");
}

#[test]
fn whitespace_comment_or_key_order_changed() {
    let project = chain();
    run(&project, &[]).expect(0);
    executed(&project);
    let reordered = CHAIN.replace("name: chain", "# a comment\nname:   chain").replace(
        "      inputs: { from: b }\n      outputs: { out: { path: out.txt }, t: { path: t.csv, type: table } }",
        "      outputs: { t: { type: table, path: t.csv }, out: { path: out.txt } }\n      inputs: { from: b }",
    );
    assert_ne!(reordered, CHAIN);
    project.write("p.yaml", &reordered);
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
    // Renamed stages find their results under other names.
    project.write(
        "p.yaml",
        &CHAIN.replace("  a:\n", "  start:\n").replace("from: a", "from: start"),
    );
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "");
}

#[test]
fn kill_9_of_the_tool_in_mid_stage() {
    let project = Project::new();
    let script = |seconds: u32| {
        format!(
            "stages:\n  slow:\n    command: {{ run: [sh, -c, \"echo $$ > {{root}}/pid; sleep {seconds}; echo 1 > \
             out.txt\"], outputs: {{ out: {{ path: out.txt }} }} }}\n"
        )
    };
    project.write("p.yaml", &script(30));
    let mut child = start(&project, &[]);
    wait_for(&project, "pid");
    child.kill().expect("killed");
    child.wait().expect("ends");
    project.expect_no_process();
    project.write("p.yaml", &script(0));
    run(&project, &[]).expect(0);
}

/// A run in a process group of its own.
fn start(project: &Project, arguments: &[&str]) -> Child {
    project
        .command(&[&["run", "p.yaml"], arguments].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("starts")
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("a process id");
    kill_process(pid, Signal::INT).expect("it runs");
}

#[test]
fn ctrl_c_once() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "
stages:
  slow:
    command: { run: [sh, -c, \"echo $$ > {root}/pid; sleep 60\"], outputs: { out: { path: out.txt } } }
  next:
    command: { run: [sh, -c, \"echo n >> $COUNT; touch out.txt\"], inputs: { from: slow }, outputs: { out: { path: out.txt } } }
",
    );
    let mut child = start(&project, &[]);
    wait_for(&project, "pid");
    interrupt(&child);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    project.expect_no_process();
    let outcomes = project.outcomes();
    assert_eq!(
        (outcomes["slow"].as_str(), outcomes["next"].as_str()),
        ("interrupted", "blocked")
    );
    assert_eq!(executed(&project), "", "nothing is started any more");
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("interrupted before"), "{}", plan.stdout);
}

/// Training writes a checkpoint after its present batch, which here takes long; the second Ctrl-C does not wait for
/// that.
#[test]
fn ctrl_c_twice() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "
stages:
  digits:
    dataset: { use: dataset/digits }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 128, batch: 200, epochs: 1, warmup: 0 }
    resources: { cpu: 1 }
",
    );
    let mut child = start(&project, &[]);
    std::fs::create_dir_all(project.path("cache/runs")).expect("a folder");
    while !walk(&project.path("cache/runs"))
        .iter()
        .any(|file| file.ends_with("logs/net.log"))
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(700));
    assert!(
        child.try_wait().expect("status").is_none(),
        "the first one waits for the batch"
    );
    interrupt(&child);
    let asked = Instant::now();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    project.expect_no_process();
    assert_eq!(project.outcomes()["net"], "interrupted");
}

/// Equal work waits and is shared; meanwhile other work proceeds.
#[test]
fn two_runs_at_once_on_one_cache() {
    let project = Project::new();
    // It ends well only if the other run's other stage has run before it ends.
    let slow = "
  slow:
    command:
      run: [sh, -c, \"echo s >> $COUNT; echo > {root}/started; for i in $(seq 400); do [ -e {root}/mark ] && break; sleep 0.05; done; [ -e {root}/mark ] && echo 1 > out.txt\"]
      outputs: { out: { path: out.txt } }
";
    let other = "
  other:
    command: { run: [sh, -c, \"echo o >> $COUNT; touch {root}/mark; echo 2 > out.txt\"], outputs: { out: { path: out.txt } } }
";
    project.write("p.yaml", &format!("name: one\nstages:{slow}"));
    project.write("q.yaml", &format!("name: two\nstages:{slow}{other}"));
    let mut one = start(&project, &[]);
    wait_for(&project, "started");
    let two = project.dynvis(&["run", "q.yaml"]).expect(0);
    assert!(one.wait().expect("ends").success());
    assert!(
        two.stderr.contains("another run or stage computes the same"),
        "{}",
        two.stderr
    );
    assert_eq!(executed(&project), "so");
    let outcomes = project.outcomes();
    assert_eq!(
        (outcomes["slow"].as_str(), outcomes["other"].as_str()),
        ("restored", "ran")
    );
}

#[test]
fn input_file_edited_while_the_stage_reads_it() {
    let project = chain();
    project.write(
        "p.yaml",
        &CHAIN.replace("cp {files.0} out.txt", "cp {files.0} out.txt; echo late > {files.0}"),
    );
    let ran = run(&project, &[]).expect(101);
    assert!(
        ran.stderr.contains("in.txt` changed while the stage ran"),
        "{}",
        ran.stderr
    );
    assert_eq!(executed(&project), "a");
    assert_eq!(stored(&project, "out.txt").len(), 0, "nothing is published");
    // The same for a stored result that the stage takes.
    let project = chain();
    let forging = "chmod u+w {inputs.from}/out.txt; echo late > {inputs.from}/out.txt; tr";
    project.write("p.yaml", &CHAIN.replace("tr", forging));
    let ran = run(&project, &[]).expect(101);
    assert!(ran.stderr.contains("` changed while the stage ran"), "{}", ran.stderr);
    assert_eq!(executed(&project), "ab");
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("output `out` is damaged"), "{}", plan.stdout);
}

#[test]
fn a_stage_fails() {
    let project = chain();
    run(&project, &[]).expect(0);
    executed(&project);
    let broken = CHAIN.replace(
        "cat {inputs.from}/out.txt > out.txt;",
        "echo partial > out.txt; echo it broke >&2; exit 3;",
    );
    project.write("p.yaml", &broken);
    let ran = run(&project, &[]).expect(100);
    assert!(ran.stderr.contains("it broke"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`c` failed"), "{}", ran.stderr);
    let kept = walk(&project.path("cache/runs"));
    assert!(kept.iter().any(|p| p.ends_with("partial/c/work/out.txt")), "{kept:?}");
    let log = project.dynvis(&["log", "@", "c"]).expect(0);
    assert!(log.stdout.contains("it broke"), "{}", log.stdout);
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("failed before"), "{}", plan.stdout);
    project.write("p.yaml", CHAIN);
    assert!(project.states(&["p.yaml"]).values().all(|s| s == "cached"));
}

/// A cache on a file system of 512 KiB, filled up so far that writing fails at different steps.
#[test]
fn disk_full() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "
stages:
  big:
    command: { run: [sh, -c, \"head -c 60000 /dev/zero > out.txt\"], outputs: { out: { path: out.txt } } }
  table:
    command: { run: [sh, -c, \"(echo n,x; seq 2000 | sed 's/$/,0.5/') > t.csv\"], outputs: { t: { path: t.csv, type: table } } }
",
    );
    let script = r#"
        mkdir -p cache && mount -t tmpfs -o size=512k none cache || { echo skipped; exit 0; }
        for free in 0 4 8 16 24 32 48 64 72 80 96 112 128; do
            rm -rf cache/*
            head -c $(((512 - free) * 1024)) /dev/zero > cache/ballast 2> /dev/null
            "$DYNVIS" run p.yaml --keep-going > full.$free.out 2>&1
            code=$?
            rm cache/ballast
            "$DYNVIS" run p.yaml > again.$free.out 2>&1
            echo "$free $code $? $(cat cache/objects/*/*/out.txt | wc -c) $(ls cache/scratch | wc -l)"
        done
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .current_dir(project.path(""))
        .env("DYNVIS", env!("CARGO_BIN_EXE_dynvis"))
        .output();
    let stdout = output.map_or_else(|_| String::new(), |output| Ran::from(output).stdout);
    if stdout.is_empty() || stdout.contains("skipped") {
        say("skipped: a file system of one's own cannot be mounted here");
        return;
    }
    let mut failed = 0;
    for line in stdout.lines() {
        let [free, code, again, bytes, scratch] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{stdout}");
        };
        let said = project.read(&format!("full.{free}.out"));
        if code != "0" {
            failed += 1;
            assert!(["2", "100"].contains(&code), "{line}\n{said}");
            let full = said.to_lowercase().contains("no space left on device");
            assert!(full, "{line}: no clear error\n{said}");
        }
        let again_said = project.read(&format!("again.{free}.out"));
        assert_eq!(
            (again, bytes, scratch),
            ("0", "60000", "0"),
            "{line}\n{said}\n{again_said}"
        );
    }
    assert_eq!(stdout.lines().count(), 13, "{stdout}");
    assert!(failed >= 5, "the disk was never full: {stdout}");
}

/// Reading still works, and what would write says why it cannot.
#[test]
fn read_only_cache() {
    let project = chain();
    run(&project, &[]).expect(0);
    project.write("in.txt", "2\n");
    executed(&project);
    std::fs::remove_file(project.path("cache/fingerprints.json")).expect("removed");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    };
    let folders = folders(&project.path("cache"));
    for path in walk(&project.path("cache")) {
        mode(&path, 0o444);
    }
    folders.iter().for_each(|folder| mode(folder, 0o555));
    mode(&project.path(""), 0o755);
    // Whoever is root may write anywhere.
    let nobody = |arguments: &[&str]| -> Option<Ran> {
        let mut command = project.command(arguments);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        Some(command.output().ok()?.into())
    };
    let Some(plan) = nobody(&["plan", "p.yaml", "--json"]) else {
        say("skipped: the program cannot be started as another user here");
        return;
    };
    assert_eq!(plan.expect(0).json()["stages"][0]["state"], "run");
    let ran = nobody(&["run", "p.yaml"]).expect("starts").expect(2);
    for words in [
        "cannot make a run's folder in the cache",
        "ermission denied",
        "read-only?",
    ] {
        assert!(ran.stderr.contains(words), "no {words:?} in {}", ran.stderr);
    }
    for reading in [
        &["runs"][..],
        &["show", "@", "c/t"],
        &["log"],
        &["why", "p.yaml", "a"],
        &["gc", "--dry-run"],
        &["verify"],
    ] {
        nobody(reading).expect("starts").expect(0);
    }
    folders.iter().rev().for_each(|folder| mode(folder, 0o755));
    for path in walk(&project.path("cache")) {
        mode(&path, 0o644);
    }
    assert_eq!(executed(&project), "");
    run(&project, &[]).expect(0);
    assert_eq!(executed(&project), "abc");
}

/// A folder and all below it.
fn folders(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            found.extend(folders(&entry.path()));
        }
    }
    found
}

/// All at once, each with its line; of what stands twice or in a circle, with both.
#[test]
fn cycle_duplicate_name_missing_reference_wrong_artifact_type_unknown_parameter() {
    let fixture = repository().join("tests/fixtures/many_errors/pipelines");
    let output = Project::new()
        .command(&["check", "many_errors.yaml"])
        .current_dir(fixture)
        .output();
    let ran = Ran::from(output.expect("runs")).expect(2);
    for words in [
        "stages depend on each other in a cycle: first -> second -> first",
        "part of the cycle",
        "`twice` is declared twice",
        "first here",
        "no stage named `digitts`",
        "`tiny` gives a dataset, but this parameter needs a model",
        "this stage",
        "unknown parameter `batchsize`",
    ] {
        assert!(ran.stderr.contains(words), "no {words:?} in\n{}", ran.stderr);
    }
}
