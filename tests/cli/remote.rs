//! Results elsewhere: `push`, `pull`, `cache: { remote: ... }`. Transfers themselves are tried in `crates/remote`; here a
//! folder is the remote. `bundle` and `open` are tried in `bundle`.

mod bundle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::chain::{CHAIN, chain, executed, walk};
use crate::crashes::results;
use crate::harness::{Project, rows};

/// A folder for several projects.
fn shared() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The chain with a remote that runs send to.
fn with_remote(remote: &Path, push: bool) -> Project {
    let project = chain();
    let cache = format!("cache: {{ remote: \"{}\", push: {push} }}\n", text(remote));
    project.write("p.yaml", &format!("{cache}{}", CHAIN.trim_start()));
    project
}

/// Files of the cache's objects, by their paths within, with their bytes.
fn objects(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = project.path("cache/objects");
    let files = walk(&folder).into_iter();
    files
        .map(|path| {
            let within = path.strip_prefix(&folder).expect("below").to_owned();
            (within, std::fs::read(&path).expect("read"))
        })
        .collect()
}

fn id_of_last_run(project: &Project) -> String {
    let runs = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    runs[0]["id"].as_str().expect("an id").to_owned()
}

/// Blobs of the remote, the largest last.
fn blobs(remote: &Path) -> Vec<PathBuf> {
    let mut files = walk(&remote.join("blobs"));
    files.sort_by_key(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
    files
}

fn records(remote: &Path) -> Vec<PathBuf> {
    walk(&remote.join("results"))
}

#[test]
fn what_one_project_computes_another_one_pulls() {
    let remote = shared();
    let first = chain();
    first.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&first), "abc");
    let url = text(remote.path());
    let ran = first.dynvis(&["push", "--to", &url]).expect(0);
    assert!(ran.stderr.contains("sent 3 results"), "{}", ran.stderr);
    let again = first.dynvis(&["push", "@", "--to", &url]).expect(0);
    assert!(
        again.stderr.contains("sent 0 results") && again.stderr.contains("3 there already"),
        "{}",
        again.stderr
    );

    // Of a pipeline: along the graph, nothing is computed.
    let second = chain();
    let plan = second.dynvis(&["plan", "p.yaml", "--remote", &url]).expect(0);
    assert!(
        plan.stderr.contains("would be pulled") && plan.stderr.contains('a'),
        "{}",
        plan.stderr
    );
    let ran = second.dynvis(&["pull", "p.yaml", "--from", &url]).expect(0);
    assert!(ran.stderr.contains("pulled 3 results"), "{}", ran.stderr);
    let states = second.states(&["p.yaml"]);
    assert!(states.values().all(|state| state == "cached"), "{states:?}");
    second.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&second), "");
    assert_eq!(results(&second), results(&first));
    assert_eq!(objects(&second), objects(&first));
    second.dynvis(&["verify"]).expect(0);
    second.dynvis(&["gc", "--keep-runs", "0", "--keep-days", "1"]).expect(0);
    assert_eq!(objects(&second), objects(&first));

    // It says where they come from.
    let plan = second.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(plan.stdout.contains(&format!("pulled from {url}")), "{}", plan.stdout);
    let shown = second.dynvis(&["show", "@", "c/t"]).expect(0);
    assert!(shown.stderr.contains("pulled from"), "{}", shown.stderr);
    let runs = second.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    assert_eq!(runs[0]["stages"][0]["pulled"]["from"], url.as_str());
    assert!(runs[0]["stages"][0]["pulled"]["host"].is_string());

    // What no run used yet is not collected at once.
    let third = chain();
    third.dynvis(&["pull", "p.yaml", "--from", &url]).expect(0);
    third.dynvis(&["gc"]).expect(0);
    assert!(third.states(&["p.yaml"]).values().all(|state| state == "cached"));
}

#[test]
fn a_run_is_pulled_with_its_record() {
    let remote = shared();
    let first = chain();
    first.dynvis(&["run", "p.yaml"]).expect(0);
    let (url, id) = (text(remote.path()), id_of_last_run(&first));
    first.dynvis(&["push", "--to", &url]).expect(0);
    let second = Project::new();
    second.dynvis(&["pull", &id, "--from", &url]).expect(0);
    assert_eq!(results(&second), results(&first));
    assert_eq!(rows(&second, "c/t"), rows(&first, "c/t"));
    second.dynvis(&["report", &id, "--out", "r.html"]).expect(0);
    second.dynvis(&["diff", &id, &id]).expect(0);
    second.dynvis(&["verify"]).expect(0);
    second.dynvis(&["gc"]).expect(0);
    second.dynvis(&["show", &id, "c/t"]).expect(0);
    // The letters of another one.
    let ran = second.dynvis(&["pull", "kkkkkkkk", "--from", &url]).expect(2);
    assert!(ran.stderr.contains("no run `kkkkkkkk`"), "{}", ran.stderr);
    let ran = second.dynvis(&["pull", &id]).expect(2);
    assert!(ran.stderr.contains("--from URL"), "{}", ran.stderr);
    let ran = second.dynvis(&["pull", &id, "--from", "s3://"]).expect(2);
    assert!(ran.stderr.contains("is no remote"), "{}", ran.stderr);
}

#[test]
fn a_run_whose_own_bytes_are_not_there_is_said_to_lack_them() {
    let remote = shared();
    let url = text(remote.path());
    let pipeline = "name: p\nstages:\n  a:\n    command:\n      run: [sh, -c, '(echo x; date +%N) > a.csv']\n      \
                    outputs: { a: { path: a.csv, type: table } }\n";
    let sent = || {
        let project = Project::new();
        project.write("p.yaml", pipeline).dynvis(&["run", "p.yaml"]).expect(0);
        let ran = project.dynvis(&["push", "--to", &url]).expect(0);
        (id_of_last_run(&project), ran, project)
    };
    let (first, _, _) = sent();
    let (second, ran, maker) = sent();
    assert!(ran.stderr.contains("1 of them with other bytes"), "{}", ran.stderr);
    let here = Project::new();
    here.dynvis(&["pull", &first, "--from", &url]).expect(0);
    let ran = here.dynvis(&["pull", &second, "--from", &url]).expect(1);
    assert!(ran.stderr.contains("the run had other bytes"), "{}", ran.stderr);
    let ran = here.dynvis(&["show", &first]).expect(0);
    assert!(ran.stderr.contains("came from"), "{}", ran.stderr);
    // The same from a bundle.
    maker.dynvis(&["bundle", "@", "-o", "b.zip"]).expect(0);
    let bundle = text(&maker.path("b.zip"));
    let ran = here.dynvis(&["open", &bundle]).expect(1);
    assert!(ran.stderr.contains("the run had other bytes"), "{}", ran.stderr);
    let fresh = Project::new();
    fresh.dynvis(&["open", &bundle]).expect(0);
    assert_eq!(rows(&fresh, "a/a"), rows(&maker, "a/a"));
    let ran = maker.dynvis(&["push", "--to", "cache/elsewhere"]).expect(2);
    assert!(ran.stderr.contains("within the cache"), "{}", ran.stderr);
}

#[test]
fn a_run_asks_before_it_computes_and_sends_what_it_computed() {
    let remote = shared();
    let first = with_remote(remote.path(), true);
    let ran = first.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&first), "abc");
    assert!(ran.stderr.contains("sent 3 results"), "{}", ran.stderr);
    let second = with_remote(remote.path(), true);
    let ran = second.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&second), "");
    assert!(
        ran.stderr.contains("3 restored") && ran.stderr.contains("3 pulled"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("sent"), "{}", ran.stderr);
    assert_eq!(results(&second), results(&first));
    // A part of it: what is not there is computed, and what follows from that is asked for, too.
    let third = with_remote(remote.path(), false);
    third.write("in.txt", "1x\n");
    third.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&third), "ab", "b comes out equal, so that c is there");
    // Whoever forces, and whoever wants none, computes.
    let fourth = with_remote(remote.path(), false);
    fourth.dynvis(&["run", "p.yaml", "--remote", "none"]).expect(0);
    assert_eq!(executed(&fourth), "abc");
    let fifth = with_remote(remote.path(), false);
    fifth.dynvis(&["run", "p.yaml", "--force"]).expect(0);
    assert_eq!(executed(&fifth), "abc");
    // Keys do not know of it.
    assert_eq!(results(&fourth), results(&first));
}

#[test]
fn a_remote_that_is_away_fails_no_run() {
    let project = with_remote(Path::new("/nowhere/at/all"), true);
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&project), "abc");
    assert_eq!(
        ran.stderr.matches("no such folder").count(),
        2,
        "once asked, once sent: {}",
        ran.stderr
    );
    assert!(ran.stderr.contains("were not sent"), "{}", ran.stderr);
    let fresh = with_remote(Path::new("/nowhere/at/all"), true);
    let plan = fresh.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(
        plan.stderr.contains("not known what could be pulled"),
        "{}",
        plan.stderr
    );
    let ran = project.dynvis(&["push"]).expect(2);
    assert!(
        ran.stderr.contains("no such folder") && ran.stderr.contains("mount it"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_a_remote_forgets_is_computed_and_sent_again() {
    let remote = shared();
    let first = with_remote(remote.path(), true);
    first.dynvis(&["run", "p.yaml"]).expect(0);
    let whole: BTreeMap<PathBuf, Vec<u8>> = blobs(remote.path())
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(&path).expect("read")))
        .collect();
    // Forgotten: every blob, but no record.
    for path in whole.keys() {
        std::fs::remove_file(path).expect("removed");
    }
    let second = with_remote(remote.path(), false);
    let ran = second.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&second), "abc");
    assert!(ran.stderr.contains("is gone"), "{}", ran.stderr);
    assert_eq!(objects(&second), objects(&first));
    first.dynvis(&["push"]).expect(0);
    for (path, bytes) in &whole {
        assert!(std::fs::read(path).expect("sent again") == *bytes);
    }
    // Damaged, of the right length: found when it is pulled, and by `push --check`.
    let largest = blobs(remote.path()).pop().expect("a blob");
    let mut bytes = whole[&largest].clone();
    bytes[0] ^= 1;
    std::fs::write(&largest, &bytes).expect("damaged");
    let third = with_remote(remote.path(), false);
    let ran = third.dynvis(&["pull", "p.yaml"]).expect(0);
    assert!(
        ran.stderr.contains("is damaged") && ran.stderr.contains("push --check"),
        "{}",
        ran.stderr
    );
    third.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(objects(&third), objects(&first));
    let ran = first.dynvis(&["push"]).expect(0);
    assert!(ran.stderr.contains("3 there already"), "{}", ran.stderr);
    let ran = first.dynvis(&["push", "--check"]).expect(0);
    assert!(ran.stderr.contains("1 files were damaged"), "{}", ran.stderr);
    assert!(std::fs::read(&largest).expect("mended") == whole[&largest]);
    // A record that is cut off.
    let record = records(remote.path()).pop().expect("a record");
    let text = std::fs::read(&record).expect("read");
    std::fs::write(&record, &text[..text.len() / 2]).expect("cut");
    let fourth = with_remote(remote.path(), false);
    fourth.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(objects(&fourth), objects(&first));
    first.dynvis(&["push"]).expect(0);
    assert_eq!(std::fs::read(&record).expect("read"), text);
}

/// A record as the remote has it.
fn framed(json: &str) -> String {
    let hash = blake3::hash(json.as_bytes()).to_hex();
    format!("dynvis-record 1 {} {hash}\n{json}", json.len())
}

#[test]
fn records_that_lead_elsewhere_are_not_believed() {
    let remote = shared();
    let first = with_remote(remote.path(), true);
    first.dynvis(&["run", "p.yaml"]).expect(0);
    let expected = objects(&first);
    let sound: Vec<(PathBuf, String)> = records(remote.path())
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(&path).expect("read")))
        .collect();
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 7] = [
        ("a path above", |parcel| {
            parcel["outputs"][0]["files"][0]["path"] = "../../../evil".into()
        }),
        ("an absolute path", |parcel| {
            parcel["outputs"][0]["files"][0]["path"] = "/tmp/evil".into()
        }),
        ("a slot that is a path", |parcel| {
            parcel["outputs"][0]["slot"] = "../evil".into()
        }),
        ("another content", |parcel| {
            parcel["outputs"][0]["content"] = "a".repeat(64).into()
        }),
        ("no hash", |parcel| {
            parcel["outputs"][0]["files"][0]["hash"] = "../../evil".into()
        }),
        ("another key", |parcel| parcel["key"] = "b".repeat(64).into()),
        ("another kind", |parcel| parcel["kind"] = "train".into()),
    ];
    for (what, change) in changes {
        for (path, text) in &sound {
            let (_, json) = text.split_once('\n').expect("a first line");
            let mut parcel: serde_json::Value = serde_json::from_str(json).expect("JSON");
            change(&mut parcel);
            std::fs::write(path, framed(&parcel.to_string())).expect("written");
        }
        let second = with_remote(remote.path(), false);
        let ran = second.dynvis(&["run", "p.yaml"]).expect(0);
        assert_eq!(executed(&second), "abc", "{what}");
        assert!(ran.stderr.contains("it is computed here"), "{what}: {}", ran.stderr);
        assert_eq!(objects(&second), expected, "{what}");
        assert!(
            walk(&second.path("")).iter().all(|path| !path.ends_with("evil")),
            "{what}"
        );
    }
    // A size that is not the blob's.
    for (path, text) in &sound {
        let (_, json) = text.split_once('\n').expect("a first line");
        let mut parcel: serde_json::Value = serde_json::from_str(json).expect("JSON");
        parcel["outputs"][0]["files"][0]["size"] = 1.into();
        std::fs::write(path, framed(&parcel.to_string())).expect("written");
    }
    let second = with_remote(remote.path(), false);
    second.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(executed(&second), "abc");
    assert_eq!(objects(&second), expected);
}

#[test]
fn a_pull_that_is_killed_goes_on() {
    let remote = shared();
    // Outputs of different contents, so that each is renamed.
    let three = || {
        let project = chain();
        project.write("in.txt", "1x\n");
        project
    };
    let first = three();
    first.dynvis(&["run", "p.yaml"]).expect(0);
    let url = text(remote.path());
    first.dynvis(&["push", "--to", &url]).expect(0);
    let mut killed = 0;
    for step in ["hashed", "durable", "renamed", "described", "appended", "committed"] {
        for time in 1..=3 {
            for accident in ["", "=full"] {
                let project = three();
                let at = format!("{step}:{time}{accident}");
                let ran = project.dynvis(&["pull", "p.yaml", "--from", &url, "--fail-at", &at]);
                assert_ne!(ran.code, 0, "{at} was not reached");
                assert_eq!(
                    ran.code,
                    if accident.is_empty() { -1 } else { 2 },
                    "{at}: {}",
                    ran.stderr
                );
                killed += 1;
                project.dynvis(&["pull", "p.yaml", "--from", &url]).expect(0);
                project.dynvis(&["run", "p.yaml"]).expect(0);
                assert_eq!(executed(&project), "", "{at}");
                assert_eq!(objects(&project), objects(&first), "{at}");
                project.dynvis(&["verify"]).expect(0);
                for folder in ["arriving", "scratch"] {
                    let left = std::fs::read_dir(project.path("cache").join(folder)).map_or(0, Iterator::count);
                    assert_eq!(left, 0, "{at}: {folder}");
                }
            }
        }
    }
    assert_eq!(killed, 36);
}

#[test]
fn a_pull_waits_for_another_process() {
    let remote = shared();
    let first = chain();
    first.dynvis(&["run", "p.yaml"]).expect(0);
    first.dynvis(&["push", "--to", &text(remote.path())]).expect(0);
    let second = chain();
    let from = text(remote.path());
    let pull = ["pull", "p.yaml", "--from", &from];
    let key = first.dynvis(&["runs", "--json"]).expect(0).json()[0]["stages"][0]["key"].clone();
    let lock = second.path("cache/locks").join(key.as_str().expect("a key"));
    // Once, so that there is a cache.
    second.dynvis(&pull).expect(0);
    std::fs::remove_dir_all(second.path("cache/objects")).expect("removed");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&lock)
        .expect("opened");
    file.lock().expect("locked");
    let mut command = second.command(&pull);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let said = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut said = std::io::BufRead::lines(said).map(|line| line.expect("text"));
    assert!(said.by_ref().any(|line| line.contains("waits for `a`")));
    drop(file);
    said.for_each(drop);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(objects(&second), objects(&first));
}

/// Requests to a server that has nothing and takes everything, after a wait for each: `METHOD PATH`.
fn empty_server(wait: std::time::Duration) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let shared = std::sync::Arc::clone(&requests);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let requests = std::sync::Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut request = vec![0; 1 << 16];
                let count = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                let line = text.split('?').next().unwrap_or_default().to_owned();
                let status = match line.split(' ').next() {
                    Some("PUT" | "DELETE") => "204 x",
                    _ => "404 x",
                };
                requests.lock().expect("requests").push(line);
                std::thread::sleep(wait);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            });
        }
    });
    (address, requests)
}

fn with_server(mut command: std::process::Command, address: &str) -> crate::harness::Ran {
    command.env("AWS_ENDPOINT_URL", address);
    for name in [
        "AWS_ENDPOINT_URL_S3",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ] {
        command.env_remove(name);
    }
    command.output().expect("it starts").into()
}

#[test]
fn a_push_ends_uploads_that_were_given_up() {
    let (address, requests) = empty_server(std::time::Duration::ZERO);
    let project = chain();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let note = "ab".repeat(16);
    let path = format!("cache/uploads/{note}");
    project.write(&path, &format!("an-id\n{address}/lab/ x/blobs/ab/cd\n"));
    let push = || with_server(project.command(&["push", "--to", "s3://lab/x"]), &address);
    push().expect(0);
    let ended = || {
        requests
            .lock()
            .expect("requests")
            .iter()
            .filter(|line| line.starts_with("DELETE"))
            .count()
    };
    assert_eq!(ended(), 0, "it may be gone on with");
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(project.path(&path))
        .expect("opened");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(24 * 8);
    file.set_modified(long_ago).expect("set");
    push().expect(0);
    assert_eq!(ended(), 1);
    assert!(!project.path(&path).exists());
}

#[test]
fn a_run_says_for_which_remote_it_waits() {
    let (address, _) = empty_server(std::time::Duration::from_secs(12));
    let project = chain();
    let command = project.command(&["run", "p.yaml", "--only", "a", "--remote", "s3://lab/x"]);
    let ran = with_server(command, &address).expect(0);
    let said = "waits for s3://lab/x, which has not given it in 10 s";
    assert_eq!(ran.stderr.matches(said).count(), 1, "{}", ran.stderr);
    assert_eq!(executed(&project), "a");
}

#[test]
fn what_is_wrong_with_a_remote_in_a_pipeline_is_told_with_its_place() {
    let project = chain();
    for (section, words) in [
        ("cache: shared\n", "a mapping with `remote` and `push`"),
        ("cache: { push: true }\n", "`remote`"),
        ("cache: { remote: x, push: 1 }\n", "`true` or `false`"),
        ("cache: { remote: x, pull: true }\n", "pull"),
        ("cache: { remote: \"s3://\" }\n", "is no remote"),
        ("cache: { remote: \"http://lab/x\" }\n", "is no remote"),
        ("cache: { remote: \"ssh://me:pw@host/x\" }\n", "use keys of ssh"),
        ("cache: { remote: \"me@host:/x\" }\n", "ssh://USER@HOST/FOLDER"),
    ] {
        project.write("p.yaml", &format!("{section}{}", CHAIN.trim_start()));
        let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
        assert!(
            ran.stderr.contains(words) && ran.stderr.contains("p.yaml:1"),
            "{section}: {}",
            ran.stderr
        );
    }
}
