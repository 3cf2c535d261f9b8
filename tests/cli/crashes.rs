//! The tool is killed, or the disk is full, at every step of the commit protocol and at random instants: the next run
//! needs no manual step and comes to the same bytes, no process is left, and nothing half-written is visible.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use crate::chain::walk;
use crate::harness::{Project, Ran, say};

/// Two stages, two outputs, a table, a condition.
const SMALL: &str = r#"
name: small
stages:
  a:
    command:
      run: [sh, -c, "mkdir d; echo 1 > d/x; echo 2 > d/y"]
      outputs: { d: { path: d } }
  b:
    command:
      run: [sh, -c, "cat {inputs.d}/x {inputs.d}/y > out.txt; (echo n; cat out.txt) > t.csv"]
      inputs: { d: a }
      outputs: { out: { path: out.txt }, t: { path: t.csv, type: table } }
    ensure: { t: { rows: 2, finite: [n] } }
"#;

/// Stage/output -> content, but for tables that depend on the clock.
pub(crate) fn results(project: &Project) -> BTreeMap<String, String> {
    let runs = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    let mut all = BTreeMap::new();
    for stage in runs[0]["stages"].as_array().expect("stages") {
        for output in stage["outputs"].as_array().expect("outputs") {
            let (name, slot) = (stage["name"].as_str(), output["slot"].as_str());
            let (name, slot) = (name.expect("a name"), slot.expect("a slot"));
            if !["speed", "time"].contains(&slot) {
                all.insert(
                    format!("{name}/{slot}"),
                    output["content"].as_str().expect("a hash").to_owned(),
                );
            }
        }
    }
    all
}

/// What `objects/ab/HASH/` must hash to: (path, file hash) in order of the paths.
fn content(folder: &Path) -> String {
    let mut files = walk(folder);
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let path = file.strip_prefix(folder).expect("below").to_string_lossy().into_owned();
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        let hash = blake3::hash(&std::fs::read(&file).expect("read")).to_hex();
        hasher.update(hash.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Everything that stands under its name is whole: objects, records, descriptions. Readers work.
fn expect_sound(project: &Project, context: &str) {
    let cache = project.path("cache");
    if !cache.join("journal").exists() {
        return;
    }
    for group in std::fs::read_dir(cache.join("objects")).expect("objects").flatten() {
        for object in std::fs::read_dir(group.path()).expect("a folder").flatten() {
            let name = object.file_name().to_string_lossy().into_owned();
            assert_eq!(content(&object.path()), name, "{context}: half an object");
        }
    }
    // A line of the journal counts with its end; then its length and checksum hold, or a later line has closed it off.
    let journal = std::fs::read_to_string(cache.join("journal")).expect("the journal");
    let complete = journal.rfind('\n').map_or("", |end| &journal[..end]);
    for line in complete.lines().filter(|line| !line.ends_with('~')) {
        let (length, rest) = line.split_once(' ').expect("a length");
        let (checksum, json) = rest.split_once(' ').expect("a checksum");
        assert_eq!(length.parse(), Ok(json.len()), "{context}");
        assert_eq!(&blake3::hash(json.as_bytes()).to_hex()[..16], checksum, "{context}");
        let record: serde_json::Value = serde_json::from_str(json).expect("json");
        for output in record["Result"]["outputs"].as_array().into_iter().flatten() {
            let hash = output["content"].as_str().expect("a hash");
            let object = cache.join("objects").join(&hash[..2]).join(hash);
            assert!(object.is_dir(), "{context}: a result without its object");
        }
    }
    for file in walk(&cache.join("keys")).into_iter().chain(walk(&cache.join("runs"))) {
        if file.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&file).expect("read");
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
            assert!(parsed.is_ok(), "{context}: half of {}", file.display());
        }
    }
    for reader in [&["plan", "p.yaml"][..], &["runs"]] {
        let ran = project.dynvis(reader);
        assert_eq!(ran.code, 0, "{context}: {reader:?}: {}", ran.stderr);
    }
}

/// The next run: no manual step, the same results, nothing left over.
fn expect_recovery(project: &Project, expected: &BTreeMap<String, String>, context: &str) {
    project.expect_no_process();
    expect_sound(project, context);
    let ran = project.dynvis(&["run", "p.yaml"]);
    assert_eq!(ran.code, 0, "{context}: {}", ran.stderr);
    assert_eq!(&results(project), expected, "{context}");
    expect_sound(project, context);
    let scratch = std::fs::read_dir(project.path("cache/scratch")).expect("scratch");
    assert_eq!(scratch.count(), 0, "{context}: scratch is left");
    let states = project.states(&["p.yaml"]);
    assert!(states.values().all(|state| state == "cached"), "{context}: {states:?}");
}

/// Every step, as the program itself lists them, but those that stages pass as jobs.
fn steps() -> Vec<String> {
    let project = Project::new();
    project.write("p.yaml", SMALL);
    let ran = project.dynvis(&["run", "p.yaml", "--fail-at", "?"]).expect(2);
    let (_, list) = ran.stderr.split_once("there are ").expect("a list");
    let line = list.lines().next().expect("a line");
    let steps = line.split(", ").filter(|step| !step.starts_with("job-"));
    steps.map(str::to_owned).collect()
}

fn at_every_step(accident: &str, mut check: impl FnMut(&str, u32, &Ran)) {
    let expected = {
        let project = Project::new();
        project.write("p.yaml", SMALL);
        project.dynvis(&["run", "p.yaml"]).expect(0);
        results(&project)
    };
    assert_eq!(expected.len(), 3);
    for step in steps() {
        for time in 1..=3 {
            let project = Project::new();
            project.write("p.yaml", SMALL);
            let at = format!("{step}:{time}{accident}");
            let ran = project.dynvis(&["run", "p.yaml", "--fail-at", &at]);
            // A step that is reached less often: nothing happened.
            if ran.code == 0 {
                assert!(time > 1, "{at} was not reached");
                break;
            }
            check(&at, time, &ran);
            expect_recovery(&project, &expected, &at);
        }
    }
}

#[test]
fn killed_at_every_step() {
    let in_worker = ["written", "ensured"];
    let mut count = 0;
    at_every_step("", |at, _, ran| {
        count += 1;
        let step = at.split(':').next().expect("a step");
        // A worker that dies fails its stage; the tool that dies says nothing.
        let code = if in_worker.contains(&step) { 100 } else { -1 };
        assert_eq!(ran.code, code, "{at}: {}", ran.stderr);
    });
    assert!(count >= 30, "{count}");
}

#[test]
fn disk_full_at_every_step() {
    at_every_step("=full", |at, _, ran| {
        assert!([2, 100].contains(&ran.code), "{at}: {} {}", ran.code, ran.stderr);
        let clear = ran.stderr.to_lowercase().contains("no space left on device");
        assert!(clear, "{at}: no clear error: {}", ran.stderr);
    });
}

/// Images, training with checkpoints, evaluation and a program of one's own.
const REAL: &str = r#"
name: real
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 20, side: 16 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 3, batch: 16, warmup: 0, checkpoint_minutes: 0 }
    resources: { cpu: 1 }
  noise:
    noise: { models: [net], data: digits, levels: [0] }
    resources: { cpu: 1 }
  fields:
    command:
      run: [sh, -c, "mkdir d; for i in 1 2 3 4 5; do cp {inputs.net}/* d/copy$i; done; (echo i,x; seq 9 | sed 's/$/,0.5/') > t.csv"]
      inputs: { net: net/model }
      outputs: { copies: { path: d }, t: { path: t.csv, type: table } }
    ensure: { t: { rows: 9, finite: [x] } }
"#;

/// A run, killed after a random time.
#[test]
fn killed_at_200_random_instants() {
    const TIMES: usize = 200;
    let project = Project::with_presets();
    project.write("p.yaml", REAL);
    let begun = Instant::now();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let mut whole = begun.elapsed();
    let expected = results(&project);
    assert!(expected.len() > 6, "{expected:?}");
    // Any instants do; these are the same in every run of the test.
    let mut state: u64 = 7;
    let mut killed = 0;
    for time in 0..TIMES {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 11) as f64 / (1u64 << 53) as f64;
        let wait = whole.mul_f64(share);
        std::fs::remove_dir_all(project.path("cache")).expect("a fresh cache");
        let mut child = project
            .command(&["run", "p.yaml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(wait);
        // SIGKILL.
        child.kill().expect("killed");
        let status = child.wait().expect("ends");
        if status.success() {
            // It takes less time than was thought.
            whole = whole.min(wait);
        } else {
            killed += 1;
        }
        expect_recovery(&project, &expected, &format!("kill {time} after {wait:?}"));
    }
    say(&format!(
        "{killed} of {TIMES} runs were killed before their end, of about {whole:?}"
    ));
    assert!(killed * 2 >= TIMES, "{killed} of {TIMES}");
}
