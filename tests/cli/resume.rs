//! Training that is stopped or killed: the next run goes on, to the same bytes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::{Project, Ran};

/// A few seconds of training: 300 batches.
fn project(threads: usize) -> Project {
    let project = Project::with_presets();
    let text = format!(
        "
name: p
stages:
  digits:
    dataset: {{ use: dataset/digits, limit_per_class: 50, side: 16 }}
  net:
    train: {{ use: train/digits/cordsnet, data: digits, areas: 2, width: 8, epochs: 20, batch: 24, learning_rate: 5e-3 }}
    resources: {{ cpu: {threads} }}
"
    );
    project.write("p.yaml", &text);
    project.dynvis(&["run", "p.yaml", "digits"]).expect(0);
    project
}

/// A run in a process group of its own.
pub(crate) fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut all = vec!["run", "p.yaml", "--progress", "plain"];
    all.extend(arguments);
    project
        .command(&all)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("starts")
}

/// What the run said until its end, and its exit code.
pub(crate) fn end(child: Child) -> Ran {
    let output = child.wait_with_output().expect("ends");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn signal(signal: Signal, process_group: u32) {
    let pid = Pid::from_raw(i32::try_from(process_group).expect("a process id")).expect("a process id");
    // It may have ended in this moment.
    let _ = kill_process_group(pid, signal);
}

/// The process whose parent is `parent`.
pub(crate) fn worker_of(parent: u32) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    })
}

pub(crate) fn checkpoint(project: &Project) -> Option<PathBuf> {
    let folder = std::fs::read_dir(project.path("cache/checkpoints"))
        .ok()?
        .flatten()
        .next()?;
    Some(folder.path().join("training.safetensors")).filter(|path| path.exists())
}

pub(crate) fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = ready() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain for {what}");
}

fn last_run(project: &Project) -> serde_json::Value {
    let runs = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    let stages = runs[0]["stages"].as_array().expect("stages").clone();
    stages.into_iter().find(|s| s["name"] == "net").expect("the stage")
}

/// Bytes of every output but `speed`, and the epochs that `speed` tells of.
pub(crate) fn result(project: &Project) -> (BTreeMap<String, Vec<u8>>, Vec<i64>) {
    let mut files = BTreeMap::new();
    for output in last_run(project)["outputs"].as_array().expect("outputs") {
        let (slot, hash) = (output["slot"].as_str(), output["content"].as_str());
        let (slot, hash) = (slot.expect("a name"), hash.expect("a hash"));
        let folder = project.path("cache/objects").join(&hash[..2]).join(hash);
        for file in std::fs::read_dir(folder)
            .expect("an object")
            .flatten()
            .filter(|_| slot != "speed")
        {
            files.insert(slot.to_owned(), std::fs::read(file.path()).expect("read"));
        }
    }
    assert_eq!(files.keys().collect::<Vec<_>>(), ["model", "training", "windows"]);
    let speed = project
        .dynvis(&["show", "@", "net/speed", "--format", "json"])
        .expect(0);
    let rows = speed.json()["rows"].as_array().expect("rows").clone();
    assert!(rows.iter().all(|row| row["seconds"].as_f64().expect("a time") > 0.0));
    (
        files,
        rows.iter()
            .map(|row| row["epoch"].as_i64().expect("an epoch"))
            .collect(),
    )
}

/// Of a run that nothing disturbed, on one thread.
fn undisturbed() -> (BTreeMap<String, Vec<u8>>, Vec<i64>) {
    let project = project(1);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(checkpoint(&project).is_none(), "a success leaves no checkpoint");
    result(&project)
}

/// The number that stands behind some words.
fn number_behind(said: &str, words: &str) -> usize {
    let (_, behind) = said.split_once(words).expect(words);
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).expect("a number")
}

/// The epoch that a run went on in, from 1, and how many of its batches were done; none where it said nothing of it.
fn continued(said: &str) -> Option<(usize, usize)> {
    let (_, behind) = said.split_once("resumes from its checkpoint: ")?;
    // A run that was killed may have ended within the line.
    let (place, _) = behind.split_once(" batches done")?;
    Some((number_behind(place, "epoch "), number_behind(place, "/20, ")))
}

fn assert_nothing_is_left(project: &Project) {
    for folder in ["checkpoints", "scratch"] {
        let left: Vec<_> = std::fs::read_dir(project.path("cache").join(folder))
            .expect("a folder")
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_killed_training_goes_on_to_the_same_bytes_on_another_number_of_threads() {
    let expected = undisturbed();
    let project = project(2);
    // Up to four times, each some way further; with a checkpoint after every batch, so that one is there soon.
    let mut kills = 0;
    let mut written = None;
    let mut places = Vec::new();
    while kills < 4 {
        let mut child = start(&project, &["-S", "net.checkpoint_minutes=0"]);
        let worker = wait_until("the worker", || worker_of(child.id()));
        wait_until("a checkpoint", || {
            let bytes = std::fs::read(checkpoint(&project)?).ok()?;
            (written.as_ref() != Some(&bytes)).then(|| written = Some(bytes))
        });
        std::thread::sleep(Duration::from_millis(100 * kills));
        if kills > 1 && child.try_wait().expect("status").is_some() {
            break;
        }
        signal(Signal::KILL, worker);
        signal(Signal::KILL, child.id());
        places.extend(continued(&end(child).stderr));
        kills += 1;
    }
    let plan = project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains("resumes from its checkpoint"), "{}", plan.stdout);
    // How often checkpoints are written is not part of the stage's identity.
    let ran = end(start(&project, &[])).expect(0);
    let place = continued(&ran.stderr).expect("it resumes from its checkpoint");
    places.push(place);
    assert!(
        places[0] > (1, 0) && places.is_sorted(),
        "each goes on where the one before was, or further: {places:?}"
    );
    // The epoch that it goes on in is the first to end, and then every other one ends once.
    let ended: Vec<usize> = ran
        .stderr
        .lines()
        .filter(|line| line.contains("  validation accuracy "))
        .map(|line| number_behind(line, "epoch "))
        .collect();
    assert_eq!(ended, (place.0..=20).collect::<Vec<_>>(), "{}", ran.stderr);
    assert!(result(&project) == expected, "the results differ");
    assert_nothing_is_left(&project);
    let states = project.states(&["p.yaml", "-S", "net.checkpoint_minutes=7"]);
    assert_eq!(states["net"], "cached");
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_says_so() {
    let expected = undisturbed();
    let project = project(2);
    let interrupt = |project: &Project| {
        let mut child = start(project, &[]);
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        while !said.contains("validation accuracy") {
            said += &lines.next().expect("it goes on").expect("a line");
        }
        // A terminal that closes sends several signals; that is one wish, not a second Ctrl-C.
        signal(Signal::INT, child.id());
        std::thread::sleep(Duration::from_millis(20));
        signal(Signal::HUP, child.id());
        let rest: Vec<String> = lines.map(|line| line.expect("a line")).collect();
        assert_eq!(child.wait().expect("ends").code(), Some(130));
        said + &rest.join("\n")
    };
    let said = interrupt(&project);
    assert!(said.contains("wrote a checkpoint: epoch "), "{said}");
    assert!(said.contains("the next run resumes from its last checkpoint"), "{said}");
    assert_eq!(last_run(&project)["outcome"], "interrupted");
    let log = project.dynvis(&["log", "@", "net"]).expect(0);
    assert!(log.stdout.contains("wrote a checkpoint"), "{}", log.stdout);

    // Again, on the way from the checkpoint; then one flipped bit, and the training starts over.
    let said = interrupt(&project);
    assert!(said.contains("resumes from its checkpoint"), "{said}");
    let path = checkpoint(&project).expect("a checkpoint");
    let good = std::fs::read(&path).expect("read");
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let ran = end(start(&project, &[])).expect(0);
    assert!(
        ran.stderr
            .contains("cannot use its checkpoint, starts from the beginning: it is damaged"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("epoch 1/20"), "{}", ran.stderr);
    assert!(result(&project) == expected, "the results differ");
    assert_nothing_is_left(&project);

    // Forced, it does not go on from what is there.
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(&path, good).expect("written");
    let ran = end(start(&project, &["--force=net"])).expect(0);
    assert!(!ran.stderr.contains("checkpoint"), "{}", ran.stderr);
    assert!(result(&project) == expected, "the results differ");
}

#[test]
fn a_killed_worker_fails_its_stage_and_keeps_its_checkpoint() {
    let project = project(1);
    let child = start(&project, &["-S", "net.checkpoint_minutes=0"]);
    let worker = wait_until("the worker", || worker_of(child.id()));
    wait_until("a checkpoint", || checkpoint(&project));
    signal(Signal::KILL, worker);
    let ran = end(child).expect(100);
    assert!(
        ran.stderr.contains("the next run resumes from its last checkpoint"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("SIGKILL"), "{}", ran.stderr);
    let ran = end(start(&project, &[])).expect(0);
    assert!(ran.stderr.contains("resumes from its checkpoint"), "{}", ran.stderr);
}

/// The tool alone is killed: its worker writes a checkpoint and ends, and until then nobody else computes the key.
#[test]
fn a_worker_without_parent_writes_a_checkpoint_first() {
    let project = project(1);
    // Seconds a batch, which the worker finishes first: time enough for the next run to start.
    let slow = ["-S", "net.batch=400", "-S", "net.width=96", "-S", "net.epochs=3"];
    let mut child = start(&project, &[&slow[..], &["-S", "net.checkpoint_minutes=0"]].concat());
    let first = wait_until("a checkpoint", || std::fs::read(checkpoint(&project)?).ok());
    child.kill().expect("killed");
    child.wait().expect("ends");
    let next = start(&project, &slow);
    wait_until("another checkpoint", || {
        let bytes = std::fs::read(checkpoint(&project)?).ok()?;
        assert!(
            worker_of(next.id()).is_none() || bytes != first,
            "two workers at the same key"
        );
        (bytes != first).then_some(())
    });
    let ran = end(next).expect(0);
    assert!(
        ran.stderr.contains("another run or stage computes the same"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("resumes from its checkpoint"), "{}", ran.stderr);
    assert_nothing_is_left(&project);
}

/// What a stage has for itself stays its own until its worker has ended, also where the tool is no more.
#[test]
fn a_worker_without_parent_keeps_what_it_leased() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "
name: p
pools: { licence: 1 }
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 50, side: 16 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 96, epochs: 30, batch: 400, checkpoint_minutes: 0 }
    resources: { cpu: 1, pools: { licence: 1 } }
",
    );
    project.dynvis(&["run", "p.yaml", "digits"]).expect(0);
    let mut child = start(&project, &[]);
    let worker = wait_until("the worker", || worker_of(child.id()));
    wait_until("a checkpoint", || std::fs::read(checkpoint(&project)?).ok());
    child.kill().expect("killed");
    child.wait().expect("ends");
    // Its batches take seconds, and it ends after one.
    project.write(
        "q.yaml",
        &format!(
            "
name: q
pools: {{ licence: 1 }}
stages:
  next:
    command:
      run: [sh, -c, \"if grep -q dynvis /proc/{worker}/cmdline; then echo beside it; else echo after it; fi > out.txt\"]
      outputs: {{ out: {{ path: out.txt }} }}
    resources: {{ pools: {{ licence: 1 }} }}
"
        ),
    );
    project.dynvis(&["run", "q.yaml"]).expect(0);
    let folder = project.dynvis(&["show", "@", "next/out"]).expect(0).stdout;
    let said = std::fs::read_to_string(std::path::Path::new(folder.trim()).join("out.txt")).expect("written");
    assert_eq!(said, "after it\n");
}

/// Ctrl-C during the last validation: the training is complete, so its result is published.
#[test]
fn what_is_complete_when_ctrl_c_comes_is_not_lost() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "
name: p
stages:
  digits:
    dataset: { use: dataset/digits, side: 32, validation: 0.8, test: 0.1 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 16, epochs: 1, batch: 32 }
    resources: { cpu: 1 }
",
    );
    let mut child = project
        .command(&["run", "p.yaml", "--progress", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut validates = || -> Option<bool> {
        let line = lines.next()?.expect("a line");
        let event: serde_json::Value = serde_json::from_str(&line).ok()?;
        Some(event["progress"]["update"]["phase"] == "epoch 1/1, validation")
    };
    while !validates().expect("events") {}
    signal(Signal::INT, child.id());
    lines.for_each(drop);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(last_run(&project)["outcome"], "ran");
    assert_eq!(project.states(&["p.yaml"])["net"], "cached");
}
