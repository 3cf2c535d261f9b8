//! A store in which any file may hold any bytes: what must hold whatever they are. Called by tests and by the fuzz
//! targets.

use std::path::Path;
use std::time::Duration;

use super::{JournalEntry, Policy, Store, journal};
use crate::key::StageKey;

const KEEP_NOTHING: Policy = Policy {
    runs: 0,
    age: Duration::ZERO,
    bytes: Some(0),
    all_projects: true,
    ignores_unreadable: true,
};

/// The store at `root` opens with this journal, answers, and keeps what is appended.
pub fn check_journal(root: &Path, bytes: &[u8]) {
    fs_err::create_dir_all(root).expect("a folder");
    let path = root.join("journal");
    fs_err::write(&path, bytes).expect("written");
    let (written, _) = journal::read(&path, 0).expect("readable");
    ask_everything(root);
    let (before, _) = journal::read(&path, 0).expect("readable");
    assert_eq!(before[..written.len()], written, "no record is lost");
    let key = StageKey::new(&blake3::hash(b"appended"));
    let appended = JournalEntry::Current {
        project: None,
        pipeline: "p".into(),
        stage: "s".into(),
        key: key.clone(),
    };
    let mut store = Store::open(root).expect("opens");
    store.commit(appended.clone()).expect("commits");
    let (after, _) = journal::read(&path, 0).expect("readable");
    assert_eq!(after[..before.len()], before, "no record is lost");
    assert_eq!(
        after[before.len()..],
        [appended],
        "the new one is there, and nothing else came to life"
    );
    assert_eq!(Store::open(root).expect("opens").current("p", "s"), Some(&key));
}

/// A journal in which lines that look like JSON have their length and checksum, so that more than the checksum is
/// tried.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let json = line.strip_suffix(b"\n").map(std::str::from_utf8);
        match json {
            Some(Ok(json)) if json.starts_with('{') => text.extend(journal::frame(json).into_bytes()),
            _ => text.extend(line),
        }
    }
    text
}

/// The store at `root` opens and answers with these bytes as a run's record, as what a key stands for, as the hashes of
/// files and as its format.
pub fn check_manifests(root: &Path, bytes: &[u8]) {
    let key = StageKey::new(&blake3::hash(b"k"));
    for file in [
        "runs/000000000000001-kkkkkkkk/run.json".to_owned(),
        "runs/000000000000002-kkkkzzzz/run.json".to_owned(),
        format!("keys/{}/{}.json", &key.as_str()[..2], key.as_str()),
        "fingerprints.json".to_owned(),
    ] {
        let path = root.join(file);
        fs_err::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs_err::write(path, bytes).expect("written");
    }
    ask_everything(root);
    let store = Store::open(root).expect("opens");
    let _ = store.description(&key);
    for reference in ["@", "@-1", "kkkkk", "kkkk", "z", "", "@-18446744073709551615"] {
        if let Ok((_, run)) = store.find_run(reference) {
            let text = serde_json::to_vec(&run).expect("a record is JSON");
            let again: super::RunRecord = serde_json::from_slice(&text).expect("and reads back");
            assert_eq!(again, run);
            let _ = (run.cpu_seconds(), run.peak_bytes());
        }
    }
    fs_err::write(root.join("format"), bytes).expect("written");
    let _ = Store::open(root);
}

fn ask_everything(root: &Path) {
    let mut store = Store::open(root).expect("opens");
    let keys: Vec<StageKey> = store.results.keys().cloned().collect();
    for key in keys {
        let _ = store.health(&key);
        let result = store.result(&key).expect("it is there").clone();
        for output in &result.outputs {
            let folder = store.object(&output.content);
            let inside = folder.strip_prefix(root.join("objects")).expect("within the store");
            assert!(
                inside
                    .components()
                    .all(|c| matches!(c, std::path::Component::Normal(_))),
                "{inside:?}"
            );
        }
    }
    store.sweep();
    let found = store.collect(&KEEP_NOTHING, false).expect("a dry run");
    assert!(found.doomed.iter().all(|d| d.bytes == 0), "there are no files");
    store.collect(&KEEP_NOTHING, true).expect("collects");
    store.verify(&mut |_, _| {}).expect("verifies");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_that_is_no_hash_leads_nowhere() {
        let line = |content: &str| {
            let json = format!(
                r#"{{"Result":{{"key":"{}","kind":"k","run":"kkkkkkkk","seconds":1.0,"finished_at":"","outputs":[{{"slot":"o","artifact":"files","content":"{content}","files":[]}}]}}}}"#,
                "ab".repeat(32)
            );
            framed(format!("{json}\n").as_bytes())
        };
        for content in [
            "../../../elsewhere",
            "",
            "é",
            "ab/../../..",
            &"AB".repeat(32),
            &"ab".repeat(32),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let elsewhere = folder.path().join("elsewhere");
            fs_err::create_dir_all(&elsewhere).expect("a folder");
            check_journal(&folder.path().join("a/cache"), &line(content));
            assert!(elsewhere.exists());
        }
    }

    #[test]
    fn nothing_that_a_journal_holds_stops_the_store() {
        for bytes in [
            &b""[..],
            b"\n",
            b"~\n",
            b"~",
            b"0  \n",
            b"18446744073709551616 0123456789abcdef {}\n",
            b"2 0123456789abcdef {}",
            &[0xff, b'\n', 0, b'\n'],
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            check_journal(folder.path(), bytes);
        }
    }

    #[test]
    fn nothing_that_a_manifest_holds_stops_the_store() {
        let deep = "[".repeat(100_000);
        for bytes in ["", "null", "{}", "[]", "dynvis cache 1\n", "{\"version\":1e999}", &deep] {
            let folder = tempfile::tempdir().expect("a folder");
            check_manifests(folder.path(), bytes.as_bytes());
        }
    }
}
