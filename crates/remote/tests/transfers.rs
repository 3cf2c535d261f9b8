//! Transfers to folders, by a program in place of `ssh`, and to a server on the loopback that is slow, breaks off,
//! forgets and lies.

#![allow(missing_docs, reason = "tests")]

mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dynvis_remote::{Blob, Options, Place, Remote, RemoteError};
use server::{Fault, Server};

/// Bytes that do not repeat.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn blob(folder: &Path, name: &str, content: &[u8]) -> Blob {
    let file = folder.join(name);
    fs_err::write(&file, content).expect("written");
    Blob {
        hash: blake3::hash(content),
        size: content.len() as u64,
        file,
    }
}

/// The same blob, to be fetched.
fn wanted(blob: &Blob, folder: &Path) -> Blob {
    Blob {
        file: folder.join(blob.hash.to_hex().as_str()),
        ..blob.clone()
    }
}

fn part(blob: &Blob) -> PathBuf {
    PathBuf::from(format!("{}.part", blob.file.display()))
}

fn options() -> Options {
    Options {
        // Of a machine that is busy with other work.
        patience: Duration::from_secs(120),
        retries: 2,
        pause: Duration::from_millis(1),
        ..Options::default()
    }
}

fn of_server(server: &Server, options: Options) -> Remote {
    let variables = [
        ("AWS_ENDPOINT_URL_S3", server.address.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_REGION", "here"),
    ];
    let variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let place = Place::parse("s3://bucket/lab", Path::new("/")).expect("a place");
    Remote::open(&place, Options { variables, ..options }).expect("open")
}

/// A program that does what `ssh` would be asked to do elsewhere.
fn of_shell(folder: &Path, script: &str, options: Options) -> Remote {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join("ssh");
    fs_err::write(&program, format!("#!/bin/sh\nfor last; do :; done\n{script}\n")).expect("written");
    fs_err::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("executable");
    let there = folder.join("there it's");
    fs_err::create_dir_all(&there).expect("folder");
    let place = Place::Ssh {
        host: "host".into(),
        port: Some(2200),
        folder: there.display().to_string(),
    };
    let variables = vec![("DYNVIS_SSH".to_owned(), program.display().to_string())];
    Remote::open(&place, Options { variables, ..options }).expect("open")
}

const SHELL: &str = "exec sh -c \"$last\"";

fn comes_back(remote: &Remote, folder: &Path) {
    let all: Vec<Blob> = [(0, "empty"), (1, "one"), (300_000, "large")]
        .map(|(count, name)| blob(folder, name, &bytes(count, 1)))
        .to_vec();
    assert_eq!(remote.has(&all).expect("asked"), [false; 3]);
    remote.send(&all, &|_| {}).expect("sent");
    assert_eq!(remote.has(&all).expect("asked"), [true; 3]);
    assert!(remote.is_sound(&all[2]).expect("read"));
    assert_eq!(remote.record("results/ab/x").expect("asked"), None);
    remote.put_record("results/ab/x", "{\"a\": \"ä\"}").expect("sent");
    remote.put_record("results/ab/x", "{\"b\": 1}").expect("sent again");
    assert_eq!(
        remote.record("results/ab/x").expect("there").as_deref(),
        Some("{\"b\": 1}")
    );
    let names = ["results/ab/x", "results/ab/y"].map(str::to_owned);
    assert_eq!(remote.has_records(&names).expect("asked"), [true, false]);
    let arriving = folder.join("arriving");
    fs_err::create_dir_all(&arriving).expect("folder");
    let fetched: Vec<Blob> = all.iter().map(|blob| wanted(blob, &arriving)).collect();
    remote.fetch(&fetched, &|_| {}).expect("fetched");
    for (sent, fetched) in all.iter().zip(&fetched) {
        assert_eq!(
            fs_err::read(&sent.file).expect("read"),
            fs_err::read(&fetched.file).expect("read")
        );
    }
    assert_eq!(fs_err::read_dir(&arriving).expect("list").count(), 3);
    let missing = wanted(&blob(folder, "other", b"other"), &arriving);
    let error = remote.fetch(&[missing], &|_| {}).expect_err("not there");
    assert!(matches!(error, RemoteError::Gone { .. }), "{error}");
}

#[test]
fn what_was_sent_comes_back() {
    let folder = tempfile::tempdir().expect("folder");
    let there = folder.path().join("there");
    fs_err::create_dir_all(&there).expect("folder");
    comes_back(
        &Remote::open(&Place::Folder(there), options()).expect("open"),
        folder.path(),
    );
    let folder = tempfile::tempdir().expect("folder");
    comes_back(&of_shell(folder.path(), SHELL, options()), folder.path());
    let folder = tempfile::tempdir().expect("folder");
    comes_back(&of_server(&Server::start(), options()), folder.path());
}

#[test]
fn errors_that_pass_are_sat_out_and_others_are_told_at_once() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("folder"));
    let remote = of_server(&server, options());
    let one = blob(folder.path(), "one", &bytes(1000, 2));
    server.fail("PUT", Fault::Status(500, "InternalError"));
    server.fail("PUT", Fault::Status(503, "SlowDown"));
    remote.send(std::slice::from_ref(&one), &|_| {}).expect("sent");
    assert_eq!(server.requests("PUT").len(), 3);
    server.fail("PUT", Fault::Hang(500));
    remote.send(std::slice::from_ref(&one), &|_| {}).expect("sent");
    for _ in 0..3 {
        server.fail("GET", Fault::Status(500, "InternalError"));
    }
    let error = remote.record("runs/x").expect_err("away");
    assert!(
        matches!(&error, RemoteError::Failed { is_passing: true, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("runs/x") && error.to_string().contains("s3://bucket/lab"),
        "{error}"
    );
    let before = server.requests("PUT").len();
    server.fail("PUT", Fault::Status(403, "InvalidAccessKeyId"));
    let error = remote.put_record("runs/x", "{}").expect_err("refused");
    assert!(error.to_string().contains("InvalidAccessKeyId") && error.advice().contains("AWS_ACCESS_KEY_ID"));
    assert_eq!(server.requests("PUT").len(), before + 1);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let server = Server::start();
    let patience = Duration::from_millis(100);
    let remote = of_server(&server, Options { patience, ..options() });
    for _ in 0..3 {
        server.fail("GET", Fault::Silent(Duration::from_secs(20)));
    }
    let started = Instant::now();
    let error = remote.record("runs/x").expect_err("away");
    assert!(matches!(error, RemoteError::Failed { is_passing: true, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("folder"));
    let content = bytes(400_000, 3);
    let large = blob(folder.path(), "large", &content);
    let remote = of_server(&server, options());
    remote.send(std::slice::from_ref(&large), &|_| {}).expect("sent");
    let target = wanted(&large, folder.path());
    // More often than it would be tried without anything coming.
    for _ in 0..4 {
        server.fail("GET", Fault::Cut(50_000));
    }
    server.fail("GET", Fault::Slow(Duration::from_millis(5)));
    remote.fetch(std::slice::from_ref(&target), &|_| {}).expect("fetched");
    assert_eq!(fs_err::read(&target.file).expect("read"), content);
    let ranges: Vec<Option<String>> = server
        .requests("GET")
        .into_iter()
        .map(|request| request.range)
        .collect();
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=50000-"));
    assert_eq!(ranges[4].as_deref(), Some("bytes=200000-"));
    // And in a later call, also where the server gives no ranges.
    for fault in [None, Some(Fault::NoRange)] {
        fs_err::remove_file(&target.file).expect("removed");
        server.fail("GET", Fault::Cut(150_000));
        let impatient = of_server(
            &server,
            Options {
                retries: 0,
                ..options()
            },
        );
        let error = impatient
            .fetch(std::slice::from_ref(&target), &|_| {})
            .expect_err("broke off");
        assert!(matches!(error, RemoteError::Failed { is_passing: true, .. }), "{error}");
        assert_eq!(fs_err::metadata(part(&target)).expect("kept").len(), 150_000);
        if let Some(fault) = fault {
            server.fail("GET", fault);
        }
        remote.fetch(std::slice::from_ref(&target), &|_| {}).expect("fetched");
        assert_eq!(fs_err::read(&target.file).expect("read"), content);
        let last = server.requests("GET").pop().expect("asked");
        assert_eq!(last.range.as_deref(), Some("bytes=150000-"));
        assert!(!part(&target).exists());
    }
}

#[test]
fn wrong_bytes_never_get_the_name() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("folder"));
    let content = bytes(100_000, 4);
    let large = blob(folder.path(), "large", &content);
    let remote = of_server(&server, options());
    remote.send(std::slice::from_ref(&large), &|_| {}).expect("sent");
    let target = wanted(&large, folder.path());
    // Once on the wire: it is fetched again.
    server.fail("GET", Fault::Damage);
    remote.fetch(std::slice::from_ref(&target), &|_| {}).expect("fetched");
    assert_eq!(fs_err::read(&target.file).expect("read"), content);
    // For good: as long as it was, shorter, longer.
    let key = format!("lab/blobs/{}/{}", &large.hash.to_hex()[..2], large.hash.to_hex());
    let mut other = content.clone();
    other[5] ^= 1;
    for stored in [other, content[..5000].to_vec(), [content.as_slice(), b"more"].concat()] {
        fs_err::remove_file(&target.file).ok();
        server
            .state
            .objects
            .lock()
            .expect("objects")
            .insert(key.clone(), stored.clone());
        let error = remote
            .fetch(std::slice::from_ref(&target), &|_| {})
            .expect_err("damaged");
        assert!(error.is_about_content() && error.advice().contains("push"), "{error}");
        assert!(!target.file.exists() && !part(&target).exists());
        assert!(!remote.is_sound(&large).expect("read"));
        assert_eq!(
            remote.has(std::slice::from_ref(&large)).expect("asked"),
            [stored.len() == content.len()]
        );
    }
    // Sent again, it is whole again.
    remote.send(std::slice::from_ref(&large), &|_| {}).expect("sent");
    assert!(remote.is_sound(&large).expect("read"));
    // What an earlier call left may be wrong, too.
    fs_err::write(part(&target), [7; 9]).expect("written");
    remote.fetch(std::slice::from_ref(&target), &|_| {}).expect("fetched");
    assert_eq!(fs_err::read(&target.file).expect("read"), content);
}

#[test]
fn a_damaged_record_is_told_as_such() {
    let server = Server::start();
    let remote = of_server(&server, options());
    remote.put_record("runs/x", "{\"a\": 1}").expect("sent");
    let key = "lab/runs/x".to_owned();
    let whole = server.state.objects.lock().expect("objects")[&key].clone();
    for stored in [&whole[..whole.len() - 1], b"", b"<html>Please log in</html>"] {
        server
            .state
            .objects
            .lock()
            .expect("objects")
            .insert(key.clone(), stored.to_vec());
        let error = remote.record("runs/x").expect_err("damaged");
        assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");
    }
}

/// A blob of three parts, and a remote that remembers.
struct Parts {
    server: Server,
    folder: tempfile::TempDir,
    content: Vec<u8>,
    large: Blob,
}

impl Parts {
    fn new() -> Self {
        let (server, folder) = (Server::start(), tempfile::tempdir().expect("folder"));
        let content = bytes((20 << 20) + 5, 5);
        let large = blob(folder.path(), "large", &content);
        Self {
            server,
            folder,
            content,
            large,
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("uploads")
    }

    fn send(&self) -> Result<(), RemoteError> {
        self.remote().send(std::slice::from_ref(&self.large), &|_| {})
    }

    fn remote(&self) -> Remote {
        let state = Some(self.state());
        of_server(&self.server, Options { state, ..options() })
    }

    /// Numbers of parts that were asked to be taken.
    fn asked(&self) -> Vec<String> {
        let requests = self.server.requests("PUT").into_iter();
        requests
            .filter_map(|request| request.query.get("partNumber").cloned())
            .collect()
    }

    /// The first part arrives, the second one is refused for good.
    fn break_off(&self) {
        self.server.state.objects.lock().expect("objects").clear();
        self.server.fail("PUT", Fault::Slow(Duration::ZERO));
        self.server.fail("PUT", Fault::Status(403, "AccessDenied"));
        self.send().expect_err("refused");
        assert!(self.server.state.objects.lock().expect("objects").is_empty());
    }

    fn expect_there(&self) {
        let hex = self.large.hash.to_hex();
        let key = format!("lab/blobs/{}/{hex}", &hex[..2]);
        assert!(self.server.state.objects.lock().expect("objects")[&key] == self.content);
        assert_eq!(fs_err::read_dir(self.state()).expect("a folder").count(), 0);
    }
}

#[test]
fn an_upload_in_parts_goes_on_where_it_broke_off() {
    let parts = Parts::new();
    // Within a call, more often than it would be tried without anything arriving.
    let fine = Fault::Slow(Duration::ZERO);
    let cut = Fault::Hang(1 << 20);
    let error = Fault::Status(500, "InternalError");
    for fault in [cut, error, fine, cut, error, fine, cut, error] {
        parts.server.fail("PUT", fault);
    }
    parts.send().expect("sent");
    // What is cut off is not noted there.
    assert_eq!(parts.asked(), ["1", "1", "2", "2", "3", "3"].map(str::to_owned)[..]);
    parts.expect_there();
    // In a later call, also where the server has lost the upload, or a part of it.
    let nothing: fn(&Server) = |_| {};
    let cases = [
        (nothing, &["1", "2", "2", "3"][..]),
        (Server::forget_uploads, &["1", "2", "2", "1", "2", "3"]),
        (Server::forget_parts, &["1", "2", "2", "3", "1", "2", "3"]),
    ];
    for (forget, expected) in cases {
        let before = parts.asked().len();
        parts.break_off();
        forget(&parts.server);
        parts.send().expect("sent");
        assert_eq!(parts.asked()[before..], *expected);
        parts.expect_there();
        assert_eq!(parts.server.open_uploads(), 0);
    }
}

#[test]
fn an_upload_that_lacks_nothing_but_its_end_begins_anew_where_it_was_forgotten() {
    let parts = Parts::new();
    // All parts arrive, and nothing is made of them; then the server has other words for what it does not know.
    let refused = Fault::Status(403, "AccessDenied");
    for fault in [Fault::Slow(Duration::ZERO), refused] {
        parts.server.fail("POST", fault);
    }
    parts.send().expect_err("refused");
    assert_eq!(parts.asked(), ["1", "2", "3"].map(str::to_owned)[..]);
    parts.server.fail("POST", refused);
    parts.send().expect("sent");
    assert_eq!(parts.asked(), ["1", "2", "3", "1", "2", "3"].map(str::to_owned)[..]);
    parts.expect_there();
    assert_eq!(parts.server.open_uploads(), 0);
}

#[test]
fn an_upload_that_was_given_up_is_ended() {
    let parts = Parts::new();
    parts.break_off();
    let noted = fs_err::read_dir(parts.state()).expect("a folder").next();
    let noted = noted.expect("a note").expect("a file").path();
    parts.remote().tidy();
    assert!(
        noted.exists() && parts.server.open_uploads() == 1,
        "it may be gone on with"
    );
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(8 * 24);
    let file = fs_err::OpenOptions::new().append(true).open(&noted).expect("opened");
    file.into_file().set_modified(long_ago).expect("set");
    parts.remote().tidy();
    assert!(!noted.exists());
    assert_eq!(parts.server.open_uploads(), 0);
}

#[test]
fn a_line_that_gives_a_byte_at_a_time_is_not_waited_for() {
    let (server, folder) = (Server::start(), tempfile::tempdir().expect("folder"));
    let small = blob(folder.path(), "small", &bytes(2000, 7));
    let remote = of_server(&server, options());
    remote.send(std::slice::from_ref(&small), &|_| {}).expect("sent");
    let target = wanted(&small, folder.path());
    // A byte for each connection.
    for _ in 0..10 {
        server.fail("GET", Fault::Cut(1));
    }
    let error = remote
        .fetch(std::slice::from_ref(&target), &|_| {})
        .expect_err("too slow");
    assert!(matches!(error, RemoteError::Failed { is_passing: true, .. }), "{error}");
    assert_eq!(server.requests("GET").len(), 3);
    // One connection that gives a byte from time to time.
    let server = Server::start();
    let impatient = Options {
        patience: Duration::from_millis(1500),
        retries: 0,
        ..options()
    };
    let remote = of_server(&server, impatient);
    remote.send(std::slice::from_ref(&small), &|_| {}).expect("sent");
    server.fail("GET", Fault::Drip(Duration::from_millis(50)));
    let other = Blob {
        file: folder.path().join("other"),
        ..small
    };
    let error = remote
        .fetch(std::slice::from_ref(&other), &|_| {})
        .expect_err("too slow");
    assert!(error.to_string().contains("bytes came in"), "{error}");
}

#[test]
fn a_folder_goes_on_where_it_broke_off() {
    let folder = tempfile::tempdir().expect("folder");
    let there = folder.path().join("there");
    let content = bytes(1 << 20, 8);
    let large = blob(folder.path(), "large", &content);
    let hex = large.hash.to_hex();
    let place = there.join("blobs").join(&hex[..2]);
    fs_err::create_dir_all(&place).expect("folders");
    let remote = Remote::open(&Place::Folder(there), options()).expect("open");
    let names = || -> Vec<String> {
        let entries = fs_err::read_dir(&place).expect("list");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect()
    };
    // How the part is called: of a file that gets shorter while it is sent it stays.
    let shorter = Blob {
        size: large.size + 1,
        ..large.clone()
    };
    remote.send(&[shorter], &|_| {}).expect_err("too short");
    let [part] = names().try_into().expect("a part");
    assert!(part.ends_with(".part"), "{part}");
    let mut damaged = content[..700_000].to_vec();
    damaged[500_000..].fill(0);
    let longer = [&content[..], b"more"].concat();
    for left in [&content[..300_000], &damaged, &longer, &[]] {
        fs_err::write(place.join(&part), left).expect("written");
        remote.send(std::slice::from_ref(&large), &|_| {}).expect("sent");
        assert_eq!(names(), [hex.to_string()]);
        let sent = place.join(hex.as_str());
        assert!(fs_err::read(&sent).expect("read") == content);
        fs_err::remove_file(&sent).expect("removed");
    }
}

#[test]
fn ssh_goes_on_where_it_broke_off_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("folder");
    let options = || Options {
        state: Some(folder.path().join("uploads")),
        ..options()
    };
    let content = bytes(300_000, 6);
    let large = blob(folder.path(), "large", &content);
    let hex = large.hash.to_hex();
    let there = folder.path().join("there it's").join("blobs").join(&hex[..2]);
    // The line breaks while it is sent, and again while it is fetched.
    let cut = "case \"$last\" in *'cat >'*) head -c 100000 | sh -c \"$last\"; exit 255;; esac\nexec sh -c \"$last\"";
    let remote = of_shell(
        folder.path(),
        cut,
        Options {
            retries: 0,
            ..options()
        },
    );
    let error = remote
        .send(std::slice::from_ref(&large), &|_| {})
        .expect_err("broke off");
    assert!(matches!(error, RemoteError::Failed { .. }), "{error}");
    assert!(!there.join(hex.as_str()).exists());
    let counted =
        "case \"$last\" in *'cat >'*) tee -a \"$0.sent\" | sh -c \"$last\"; exit;; esac\nexec sh -c \"$last\"";
    let remote = of_shell(folder.path(), counted, options());
    remote.send(std::slice::from_ref(&large), &|_| {}).expect("sent");
    assert_eq!(
        fs_err::metadata(folder.path().join("ssh.sent")).expect("counted").len(),
        200_000
    );
    assert!(fs_err::read(there.join(hex.as_str())).expect("read") == content);
    let target = wanted(&large, folder.path());
    let cut =
        "case \"$last\" in *'exec tail'*) sh -c \"$last\" | head -c 120000; exit 255;; esac\nexec sh -c \"$last\"";
    of_shell(folder.path(), cut, options())
        .fetch(std::slice::from_ref(&target), &|_| {})
        .expect("fetched");
    assert!(fs_err::read(&target.file).expect("read") == content);
    for (script, words) in [
        (
            "echo 'me@host: Permission denied (publickey).' >&2; exit 255",
            "ssh-copy-id",
        ),
        ("exit 45", "make it there"),
        ("sleep 20", "may succeed later"),
    ] {
        let patience = match script.starts_with("sleep") {
            true => Duration::from_millis(300),
            false => options().patience,
        };
        let remote = of_shell(
            folder.path(),
            script,
            Options {
                patience,
                retries: 0,
                ..options()
            },
        );
        let error = remote.record("runs/x").expect_err("fails");
        assert!(error.advice().contains(words), "{script}: {error}; {}", error.advice());
    }
}

#[test]
fn what_stands_in_the_way_over_ssh_is_not_written_through() {
    let folder = tempfile::tempdir().expect("folder");
    let options = Options {
        state: Some(folder.path().join("uploads")),
        ..options()
    };
    let content = bytes(300_000, 9);
    let large = blob(folder.path(), "large", &content);
    let hex = large.hash.to_hex();
    let place = folder.path().join("there it's").join("blobs").join(&hex[..2]);
    let sent = place.join(hex.as_str());
    let cut = "case \"$last\" in *'cat >'*) head -c 100000 | sh -c \"$last\"; exit 255;; esac\nexec sh -c \"$last\"";
    let once = Options {
        retries: 0,
        ..options.clone()
    };
    of_shell(folder.path(), cut, once)
        .send(std::slice::from_ref(&large), &|_| {})
        .expect_err("broke off");
    let part = fs_err::read_dir(&place).expect("list").next().expect("a part");
    let part = part.expect("a part").path();
    assert_eq!(fs_err::metadata(&part).expect("there").len(), 100_000);
    let remote = of_shell(folder.path(), SHELL, options.clone());
    let send = || remote.send(std::slice::from_ref(&large), &|_| {});
    let expect_sent = || {
        send().expect("sent");
        assert!(fs_err::symlink_metadata(&sent).expect("there").is_file());
        assert!(fs_err::read(&sent).expect("read") == content);
        assert!(fs_err::symlink_metadata(&part).is_err());
        fs_err::remove_file(&sent).expect("removed");
    };
    // Other bytes, as after a power cut.
    let mut damaged = content[..100_000].to_vec();
    damaged[50_000] ^= 1;
    fs_err::write(&part, damaged).expect("written");
    expect_sent();
    let victim = folder.path().join("victim");
    fs_err::write(&victim, "mine").expect("written");
    fs_err::os::unix::fs::symlink(&victim, &part).expect("linked");
    expect_sent();
    assert_eq!(fs_err::read_to_string(&victim).expect("read"), "mine");
    let made = std::process::Command::new("mkfifo").arg(&part).status();
    assert!(made.expect("it starts").success());
    expect_sent();
    fs_err::create_dir(&sent).expect("made");
    let error = send().expect_err("in the way");
    assert!(error.to_string().contains("a folder stands in its place"), "{error}");
    assert_eq!(fs_err::read_dir(&sent).expect("list").count(), 0);
    fs_err::remove_dir(&sent).expect("removed");
    // Bytes that change on their way, for instance by what is still writing there.
    let other = "case \"$last\" in *'cat >'*) tr a b | sh -c \"$last\"; exit;; esac\nexec sh -c \"$last\"";
    let error = of_shell(folder.path(), other, options)
        .send(std::slice::from_ref(&large), &|_| {})
        .expect_err("other bytes");
    assert!(error.to_string().contains("bytes were changed on the way"), "{error}");
    assert!(!sent.exists());
}

#[test]
fn a_bucket_that_is_not_there_is_no_empty_remote() {
    let server = Server::start();
    let endpoint = ("AWS_ENDPOINT_URL_S3".to_owned(), server.address.clone());
    let place = Place::parse("s3://other", Path::new("/")).expect("a place");
    let variables = vec![endpoint];
    let remote = Remote::open(&place, Options { variables, ..options() }).expect("open");
    for error in [
        remote.record("runs/x").expect_err("no bucket"),
        remote.put_record("runs/x", "{}").expect_err("no bucket"),
    ] {
        assert!(
            error.to_string().contains("NoSuchBucket") && error.advice().contains("bucket"),
            "{error}"
        );
    }
}

#[test]
fn a_folder_that_is_not_there_is_no_empty_remote() {
    let folder = tempfile::tempdir().expect("folder");
    let remote = Remote::open(&Place::Folder(folder.path().join("share")), options()).expect("open");
    let error = remote.record("runs/x").expect_err("not mounted");
    assert!(error.advice().contains("mount"), "{error}");
    assert!(!folder.path().join("share").exists());
}
