//! Against a real server, `s3s-fs`, behind a line that is slow and breaks off:
//!
//! ```text
//! cargo install s3s-fs --features binary
//! DYNVIS_S3_SERVER=$(command -v s3s-fs) cargo test -p dynvis-remote --test real_server
//! ```

#![allow(missing_docs, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dynvis_remote::{Blob, Options, Place, Remote, RemoteError};

/// What a test has to tell though it passes.
#[expect(clippy::print_stderr, reason = "tests have no other way")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

fn start(program: &str, folder: &Path) -> (Server, u16) {
    let port = free_port();
    let child = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--access-key", "key", "--secret-key", "secret"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("s3s-fs starts");
    let server = Server(child);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "it answers");
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, port)
}

/// A line to the server: of the next connections `cuts` end after that many bytes from the server, or from us.
#[derive(Default)]
struct Line {
    cuts: AtomicUsize,
    after_down: AtomicUsize,
    after_up: AtomicUsize,
    connections: AtomicUsize,
}

fn line_to(port: u16) -> (Arc<Line>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let own = listener.local_addr().expect("an address").port();
    let line = Arc::new(Line::default());
    let shared = Arc::clone(&line);
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let far = TcpStream::connect(("127.0.0.1", port)).expect("the server answers");
            let cut = shared
                .cuts
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |cuts| cuts.checked_sub(1));
            let most = |of: &AtomicUsize| match cut {
                Ok(_) => of.load(Ordering::SeqCst),
                Err(_) => usize::MAX,
            };
            let (up, down) = (most(&shared.after_up), most(&shared.after_down));
            let clones = || (near.try_clone().expect("cloned"), far.try_clone().expect("cloned"));
            let ((from, to), (back, forth)) = (clones(), clones());
            std::thread::spawn(move || pass(from, to, up));
            std::thread::spawn(move || pass(forth, back, down));
        }
    });
    (line, own)
}

/// Gives bytes on until there are no more, or that many have gone; then the whole connection ends.
fn pass(mut from: TcpStream, mut to: TcpStream, most: usize) {
    let mut block = [0; 1 << 14];
    let mut passed = 0;
    loop {
        let count = from.read(&mut block).unwrap_or(0);
        let count = count.min(most.saturating_sub(passed));
        if count == 0 || to.write_all(&block[..count]).is_err() {
            break;
        }
        passed += count;
        if passed == most {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn results_come_and_go_over_a_bad_line() {
    let Ok(program) = std::env::var("DYNVIS_S3_SERVER") else {
        say("skipped: DYNVIS_S3_SERVER names no s3s-fs; .ci/run installs it");
        return;
    };
    let folder = tempfile::tempdir().expect("folder");
    let there = folder.path().join("there");
    fs_err::create_dir_all(there.join("bucket")).expect("folder");
    let (_server, port) = start(&program, &there);
    let (line, port) = line_to(port);
    let variables = [
        ("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{port}")),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_SESSION_TOKEN", String::new()),
    ];
    let options = Options {
        patience: Duration::from_secs(120),
        retries: 3,
        pause: Duration::from_millis(20),
        state: Some(folder.path().join("uploads")),
        variables: variables.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    };
    let open = || {
        let place = Place::parse("s3://bucket/lab", Path::new("/")).expect("a place");
        Remote::open(&place, options.clone()).expect("open")
    };
    let remote = open();
    let blobs: Vec<Blob> = [0_usize, 1, 700_000, (100 << 20) + 1]
        .iter()
        .map(|count| {
            let mut content = vec![0; *count];
            blake3::Hasher::new()
                .update(&count.to_le_bytes())
                .finalize_xof()
                .fill(&mut content);
            let file = folder.path().join(format!("of-{count}"));
            fs_err::write(&file, &content).expect("written");
            let (hash, size) = (blake3::hash(&content), content.len() as u64);
            Blob { hash, size, file }
        })
        .collect();
    assert_eq!(remote.has(&blobs).expect("asked"), [false; 4]);
    assert_eq!(remote.record("runs/x").expect("asked"), None);
    // Up: each connection holds for one part and ends in the next, more often than is tried without anything arriving.
    line.after_up.store(20 << 20, Ordering::SeqCst);
    line.after_down.store(usize::MAX, Ordering::SeqCst);
    line.cuts.store(1000, Ordering::SeqCst);
    let before = line.connections.load(Ordering::SeqCst);
    // By a remote of its own, which has no connection yet that was opened before.
    open().send(&blobs[3..], &|_| {}).expect("sent");
    assert!(line.connections.load(Ordering::SeqCst) >= before + 6);
    line.cuts.store(0, Ordering::SeqCst);
    remote.send(&blobs[..3], &|_| {}).expect("sent");
    remote.put_record("runs/x", "{\"a\": \"ä\"}").expect("sent");
    assert_eq!(
        remote.record("runs/x").expect("there").as_deref(),
        Some("{\"a\": \"ä\"}")
    );
    assert_eq!(remote.has(&blobs).expect("asked"), [true; 4]);
    // Down: cut off several times.
    let arriving = folder.path().join("arriving");
    fs_err::create_dir_all(&arriving).expect("folder");
    let wanted: Vec<Blob> = blobs
        .iter()
        .map(|blob| Blob {
            file: arriving.join(blob.hash.to_hex().as_str()),
            ..blob.clone()
        })
        .collect();
    // A connection that is kept would not be cut: a remote of its own has none yet.
    let fresh = open();
    line.after_up.store(usize::MAX, Ordering::SeqCst);
    line.after_down.store(5 << 20, Ordering::SeqCst);
    line.cuts.store(4, Ordering::SeqCst);
    let before = line.connections.load(Ordering::SeqCst);
    fresh.fetch(&wanted[3..], &|_| {}).expect("fetched");
    assert!(
        line.connections.load(Ordering::SeqCst) >= before + 5,
        "it went on after each cut"
    );
    fresh.fetch(&wanted[..3], &|_| {}).expect("fetched");
    for (sent, fetched) in blobs.iter().zip(&wanted) {
        assert!(fs_err::read(&sent.file).expect("read") == fs_err::read(&fetched.file).expect("read"));
    }
    // An upload that the server does not know any more, which it calls a lack of rights.
    let hex = blobs[3].hash.to_hex();
    let stored = there.join("bucket/lab/blobs").join(&hex[..2]).join(hex.as_str());
    fs_err::remove_file(&stored).expect("forgotten");
    line.after_up.store(20 << 20, Ordering::SeqCst);
    line.after_down.store(usize::MAX, Ordering::SeqCst);
    line.cuts.store(1, Ordering::SeqCst);
    let place = Place::parse("s3://bucket/lab", Path::new("/")).expect("a place");
    let impatient = Options {
        retries: 0,
        ..options.clone()
    };
    let impatient = Remote::open(&place, impatient).expect("open");
    impatient.send(&blobs[3..], &|_| {}).expect_err("broke off");
    let notes = fs_err::read_dir(folder.path().join("uploads"))
        .expect("a folder")
        .flatten();
    let mut notes = notes.map(|note| note.path()).filter(|path| !path.ends_with("sender"));
    let note = notes.next().expect("a note");
    let text = fs_err::read_to_string(&note).expect("read");
    let (_, parts) = text.split_once('\n').expect("lines");
    assert_eq!(parts.lines().count(), 3, "the place, and two parts: {text}");
    fs_err::write(&note, format!("00000000-0000-4000-8000-000000000000\n{parts}")).expect("written");
    open().send(&blobs[3..], &|_| {}).expect("sent");
    assert!(fs_err::read(&stored).expect("there") == fs_err::read(&blobs[3].file).expect("read"));
    // What the server forgets, and what is damaged there.
    let hex = blobs[2].hash.to_hex();
    let stored = there.join("bucket/lab/blobs").join(&hex[..2]).join(hex.as_str());
    fs_err::remove_file(&wanted[2].file).expect("removed");
    fs_err::write(&stored, vec![7; 700_000]).expect("damaged");
    assert!(!remote.is_sound(&blobs[2]).expect("read"));
    let error = remote.fetch(&wanted[2..3], &|_| {}).expect_err("damaged");
    assert!(matches!(error, RemoteError::Damaged { .. }), "{error}");
    fs_err::remove_file(&stored).expect("forgotten");
    let error = remote.fetch(&wanted[2..3], &|_| {}).expect_err("gone");
    assert!(matches!(error, RemoteError::Gone { .. }), "{error}");
    assert!(!wanted[2].file.exists());
    // Refusals say what to do.
    let mut stranger = options.clone();
    stranger.variables[2].1 = "guess".into();
    let place = Place::parse("s3://bucket/lab", Path::new("/")).expect("a place");
    let error = Remote::open(&place, stranger)
        .and_then(|remote| remote.put_record("runs/y", "{}"))
        .expect_err("a wrong key");
    assert!(error.advice().contains("AWS_SECRET_ACCESS_KEY"), "{error}");
}
