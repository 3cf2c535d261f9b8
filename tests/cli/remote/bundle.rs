//! One run in one file: `bundle` and `open`.

use super::{id_of_last_run, objects};
use crate::chain::chain;
use crate::crashes::results;
use crate::harness::{Project, rows};

/// Images, a network, tables, pictures.
const SMALL: &str = r#"
name: small
headline: accuracy/accuracy
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 20, side: 16 }
  cnn:
    train: { use: train/digits/cnn, data: digits, areas: 2, width: 4, epochs: 1, batch: 16, warmup: 0 }
  accuracy:
    evaluate: { models: [cnn], data: digits }
"#;

#[test]
fn a_bundle_is_opened_elsewhere() {
    let first = Project::with_presets();
    first.write("p.yaml", SMALL);
    first.dynvis(&["run", "p.yaml"]).expect(0);
    let id = id_of_last_run(&first);
    first.dynvis(&["bundle", "@", "-o", "one.zip"]).expect(0);
    first.dynvis(&["bundle", "@", "-o", "two.zip"]).expect(0);
    let bytes = std::fs::read(first.path("one.zip")).expect("read");
    assert!(
        bytes == std::fs::read(first.path("two.zip")).expect("read"),
        "twice the same"
    );

    // For readers without dynvis.
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).expect("an archive");
    let names: Vec<String> = zip
        .file_names()
        .map(|name| name.expect("a name").into_owned())
        .collect();
    for name in [
        "README.txt",
        "sha256.txt",
        "pipeline/p.yaml",
        "tables/accuracy/accuracy.csv",
        "models/cnn.safetensors",
    ] {
        assert!(names.iter().any(|other| other == name), "{name} is not among {names:?}");
    }
    let mut readme = String::new();
    std::io::Read::read_to_string(&mut zip.by_name("README.txt").expect("there"), &mut readme).expect("text");
    assert!(readme.contains(&id) && readme.contains("tables/"), "{readme}");

    let second = Project::with_presets();
    second.write("p.yaml", SMALL);
    std::fs::copy(first.path("one.zip"), second.path("b.zip")).expect("copied");
    let ran = second.dynvis(&["open", "b.zip", "--list"]).expect(0);
    assert!(ran.stdout.contains("cnn"), "{}", ran.stdout);
    assert!(!second.path("cache").exists());
    second.dynvis(&["open", "b.zip"]).expect(0);
    assert_eq!(results(&second), results(&first));
    assert_eq!(objects(&second), objects(&first));
    assert_eq!(rows(&second, "accuracy/accuracy"), rows(&first, "accuracy/accuracy"));
    second.dynvis(&["report", "@", "--out", "r.html"]).expect(0);
    second.dynvis(&["export", "--tables", "--models", "out"]).expect(0);
    second.dynvis(&["run", "p.yaml"]).expect(0);
    let outcomes = second.outcomes();
    assert!(outcomes.values().all(|outcome| outcome == "restored"), "{outcomes:?}");
    second.dynvis(&["verify"]).expect(0);
    second.dynvis(&["diff", &id, "@"]).expect(0);
    // A second time there is nothing to do.
    let ran = second.dynvis(&["open", "b.zip"]).expect(0);
    assert!(ran.stderr.contains("3 here already"), "{}", ran.stderr);
    // And from what was opened the same bundle can be made but for who sends it.
    second.dynvis(&["bundle", &id, "-o", "again.zip"]).expect(0);

    first
        .dynvis(&["bundle", "@", "--without-data", "-o", "light.zip"])
        .expect(0);
    let third = Project::with_presets();
    std::fs::copy(first.path("light.zip"), third.path("light.zip")).expect("copied");
    let ran = third.dynvis(&["open", "light.zip"]).expect(0);
    assert!(
        ran.stderr
            .contains("not in the bundle, which was made without data, and computed again by `run`: digits"),
        "{}",
        ran.stderr
    );
    third.dynvis(&["show", "@", "accuracy/accuracy"]).expect(0);
    let listed = third.dynvis(&["show", "@"]).expect(0);
    let line = listed.stdout.lines().find(|line| line.starts_with("digits/"));
    let line = line.unwrap_or_default();
    assert!(line.contains("the run came without it"), "{}", listed.stdout);
    let name = line.split_whitespace().next().unwrap_or_default();
    let ran = third.dynvis(&["show", "@", name]).expect(2);
    assert!(ran.stderr.contains("came from elsewhere without it"), "{}", ran.stderr);
}

#[test]
fn what_a_killed_bundle_left_is_written_over() {
    let project = chain();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["bundle", "-o", "a.zip"]).expect(0);
    let left = project.path(".b.zip.part");
    std::fs::write(&left, vec![7; 100_000]).expect("written");
    project.dynvis(&["bundle", "-o", "b.zip"]).expect(0);
    assert_eq!(
        std::fs::read(project.path("a.zip")).ok(),
        std::fs::read(project.path("b.zip")).ok()
    );
    assert!(!left.exists());
    // While another process writes it, it is left alone.
    let other = std::fs::File::create(&left).expect("made");
    other.lock().expect("locked");
    let ran = project.dynvis(&["bundle", "-o", "b.zip"]).expect(2);
    assert!(ran.stderr.contains("another process writes it"), "{}", ran.stderr);
    drop(other);
    project.dynvis(&["bundle", "-o", "b.zip"]).expect(0);
    // Where there is no room it is said once.
    let script = r#"
        mkdir full && mount -t tmpfs -o size=4k none full || { echo skipped; exit 0; }
        "$DYNVIS" bundle -o full/b.zip 2>&1
        echo "$? $(ls -A full | wc -l)"
    "#;
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .current_dir(project.path(""))
        .env("DYNVIS", env!("CARGO_BIN_EXE_dynvis"))
        .output();
    let said = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    if said.is_empty() || said.contains("skipped") {
        crate::harness::say("skipped: a file system of one's own cannot be mounted here");
        return;
    }
    assert!(
        said.contains("cannot write full/b.zip") && !said.contains("ZipWriter"),
        "{said}"
    );
    assert!(said.ends_with("2 0\n"), "{said}");
}

#[test]
fn a_damaged_bundle_changes_nothing() {
    let first = chain();
    first.dynvis(&["run", "p.yaml"]).expect(0);
    first.dynvis(&["bundle", "-o", "b.zip"]).expect(0);
    let whole = std::fs::read(first.path("b.zip")).expect("read");
    let project = Project::new();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(project.path("b.zip"), bytes).expect("written");
        let ran = project.dynvis(&["open", "b.zip"]);
        assert!(
            ran.code == 2 && ran.stderr.contains("b.zip"),
            "{what}: {} {}",
            ran.code,
            ran.stderr
        );
        assert!(!project.path("cache").exists(), "{what}");
    };
    refused(b"", "empty");
    refused(b"PK, but not really", "no archive");
    for part in 1..8 {
        refused(&whole[..whole.len() * part / 8], "cut off");
    }
    // Hostile ones, whose archive is sound.
    let rewritten = |change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>| {
        let mut old = zip::ZipArchive::new(std::io::Cursor::new(&whole)).expect("an archive");
        let mut new = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for index in 0..old.len() {
            let mut entry = old.by_index(index).expect("an entry");
            let name = entry.name().expect("a name").into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("read");
            new.start_file(&name, zip::write::SimpleFileOptions::default())
                .expect("started");
            std::io::Write::write_all(&mut new, &change(&name, bytes)).expect("written");
        }
        new.finish().expect("finished").into_inner()
    };
    let replaced = |of: &'static str, from: &'static str, to: &'static str| {
        rewritten(&move |name, bytes| match name.starts_with(of) {
            true => String::from_utf8(bytes).expect("text").replace(from, to).into_bytes(),
            false => bytes,
        })
    };
    refused(&replaced("dynvis/results/", "out.txt", "../out.t"), "a path above");
    refused(
        &replaced("dynvis/results/", "\"version\":1", "\"version\":9"),
        "a version",
    );
    refused(
        &replaced("dynvis/bundle.json", "\"version\": 1", "\"version\": 9"),
        "a version",
    );
    refused(
        &replaced("dynvis/run.json", "\"id\": \"", "\"id\": \"../"),
        "a run's id",
    );
    refused(
        &replaced("dynvis/run.json", "\"name\": \"a\"", "\"name\": \"..\""),
        "a stage's name",
    );
    refused(
        &replaced("dynvis/run.json", "\"slot\": \"out\"", "\"slot\": \"../out\""),
        "an output's name",
    );
    let flipped = rewritten(&|name, mut bytes| {
        if name.starts_with("dynvis/blobs/") {
            bytes[0] ^= 1;
        }
        bytes
    });
    refused(&flipped, "other bytes");
    refused(&replaced("dynvis/bundle.json", "dynvis/blobs/", "nowhere/"), "no bytes");
    // Whole, it opens.
    std::fs::write(project.path("b.zip"), &whole).expect("written");
    project.dynvis(&["open", "b.zip"]).expect(0);
    project.dynvis(&["verify"]).expect(0);
}
