//! Transfers from a server on the loopback that does what servers do: breaks off, lies, gives wrong bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use super::catalogue::{Format, Remote, Set, Unpacked};
use super::checksum::{Checksum, hexadecimal};
use super::fetch::{Client, Event, FetchError, Network, Wanted, fetch};
use super::get::{addresses, get};
use super::part::part_of;
use super::presence::{By, State, presence};

/// A request as the server saw it.
#[derive(Clone, Debug, Default)]
struct Request {
    line: String,
    /// Names in small letters.
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// First byte that was asked for.
    fn first(&self) -> Option<usize> {
        self.header("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }
}

/// A server on the loopback, and what it was asked.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` is given the number of the request, from 0.
    fn new(answer: impl Fn(usize, &Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let Some(request) = read_request(&stream) else { return };
                    let number = {
                        let mut seen = seen.lock().expect("no panic");
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    // A client that goes away is part of the tests.
                    let _ = answer(number, &request, &mut stream);
                });
            }
        });
        Self { address, requests }
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let mut request = Request {
        line: lines.next()?.ok()?,
        ..Request::default()
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        request
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(request)
}

/// Head of an answer, with lines of one's own.
fn head(stream: &mut TcpStream, status: &str, lines: &[String]) -> std::io::Result<()> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{lines}\r\n")
}

fn length(bytes: usize) -> String {
    format!("Content-Length: {bytes}")
}

/// A server as it should be: ranges, and a whole file where `If-Range` names another one.
fn ranges(request: &Request, stream: &mut TcpStream, body: &[u8], etag: &str) -> std::io::Result<()> {
    let tag = format!("ETag: {etag}");
    let first = request
        .first()
        .filter(|_| request.header("if-range").is_none_or(|of| of == etag));
    match first {
        Some(first) if first < body.len() => {
            let range = format!("Content-Range: bytes {first}-{}/{}", body.len() - 1, body.len());
            head(stream, "206 Partial Content", &[length(body.len() - first), range, tag])?;
            stream.write_all(&body[first..])
        }
        Some(_) => head(
            stream,
            "416 Range Not Satisfiable",
            &[length(0), format!("Content-Range: bytes */{}", body.len())],
        ),
        None => {
            head(stream, "200 OK", &[length(body.len()), tag])?;
            stream.write_all(body)
        }
    }
}

/// The beginning of the whole, with a length as if all came.
fn break_off(stream: &mut TcpStream, body: &[u8], at: usize, etag: &str) -> std::io::Result<()> {
    head(stream, "200 OK", &[length(body.len()), format!("ETag: {etag}")])?;
    stream.write_all(&body[..at])
}

/// Bytes without a pattern that a shift could hide.
fn body() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..300_000).map(|_| next()).collect()
}

fn md5_of(bytes: &[u8]) -> Checksum {
    Checksum::Md5(String::leak(hexadecimal(&Md5::digest(bytes))))
}

/// A folder, the bytes that shall come, and a client without patience.
struct Lab {
    folder: tempfile::TempDir,
    body: Vec<u8>,
    client: Client,
}

fn impatient() -> Network {
    Network {
        // Not the environment's.
        proxy: Some(String::new()),
        certificates: None,
        patience: Duration::from_millis(1500),
        retries: 2,
        pause: Duration::from_millis(10),
    }
}

impl Lab {
    fn new() -> Self {
        Self::with(impatient())
    }

    fn with(network: Network) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            body: body(),
            client: Client::new(network).expect("a client"),
        }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("data/set/file.bin")
    }

    fn part(&self) -> PathBuf {
        part_of(&self.target())
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, bytes).expect("written");
    }

    /// Fetches, and gives what was told.
    fn fetch(&self, addresses: &[String]) -> (Result<bool, FetchError>, Vec<String>) {
        let (target, checksums) = (self.target(), [md5_of(&self.body)]);
        let wanted = Wanted {
            target: &target,
            replaces: false,
            bytes: self.body.len() as u64,
            checksums: &checksums,
            addresses,
        };
        let mut told = Vec::new();
        let result = fetch(&self.client, &wanted, &mut |event| {
            if !matches!(event, Event::Progress { .. }) {
                told.push(serde_json::to_string(event).expect("JSON"));
            }
        });
        (result, told)
    }

    #[track_caller]
    fn expect_fetched(&self, addresses: &[String]) -> Vec<String> {
        let (result, told) = self.fetch(addresses);
        assert!(matches!(result, Ok(true)), "{result:?}: {told:#?}");
        self.expect_complete();
        told
    }

    /// The file is there, and nothing else.
    #[track_caller]
    fn expect_complete(&self) {
        assert!(
            std::fs::read(self.target()).expect("the file") == self.body,
            "other bytes"
        );
        assert_eq!(self.names(), ["file.bin"]);
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("data/set")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// What was wrong with each address.
    #[track_caller]
    fn expect_failures(&self, addresses: &[String]) -> Vec<String> {
        let (result, told) = self.fetch(addresses);
        match result {
            Err(FetchError::Addresses { failures, .. }) => failures.into_iter().map(|(_, reason)| reason).collect(),
            other => panic!("{other:?}: {told:#?}"),
        }
    }
}

#[test]
fn a_whole_file_comes_in_one_request() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| ranges(request, stream, &body, "\"a\""));
    lab.expect_fetched(&[server.url("file.bin")]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].line, "GET /file.bin HTTP/1.1");
    assert_eq!(requests[0].header("range"), None);
    assert_eq!(requests[0].header("accept-encoding"), Some("identity"));
    assert!(
        requests[0]
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("dynvis/"))
    );
    // A file of the right size is not asked for again.
    let (again, told) = lab.fetch(&[server.url("file.bin")]);
    assert!(matches!(again, Ok(false)), "{again:?}: {told:?}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_ended() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |number, request, stream| match number {
        0 => break_off(stream, &body, 100_000, "\"a\""),
        _ => ranges(request, stream, &body, "\"a\""),
    });
    let told = lab.expect_fetched(&[server.url("file.bin")]);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some("bytes=100000-"));
    assert_eq!(requests[1].header("if-range"), Some("\"a\""));
    let trouble = told.iter().find(|line| line.contains("trouble")).expect("it is told");
    assert!(trouble.contains("broke off after 100000 of 300000 bytes"), "{trouble}");
}

#[test]
fn the_next_call_goes_on_where_the_last_one_ended() {
    let lab = Lab::with(Network {
        retries: 0,
        ..impatient()
    });
    let body = lab.body.clone();
    let server = Server::new(move |number, request, stream| match number {
        0 => break_off(stream, &body, 123_456, "\"a\""),
        _ => ranges(request, stream, &body, "\"a\""),
    });
    let reasons = lab.expect_failures(&[server.url("file.bin")]);
    assert_eq!(reasons, ["broke off after 123456 of 300000 bytes"]);
    assert_eq!(lab.names(), ["file.bin.part", "file.bin.part.json"]);
    lab.expect_fetched(&[server.url("file.bin")]);
    assert_eq!(server.requests()[1].first(), Some(123_456));
}

#[test]
fn a_server_without_ranges_gives_all_again() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |number, _, stream| match number {
        0 => break_off(stream, &body, 100_000, "\"a\""),
        _ => {
            head(stream, "200 OK", &[length(body.len())])?;
            stream.write_all(&body)
        }
    });
    lab.expect_fetched(&[server.url("file.bin")]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_file_that_changed_on_the_server_starts_over() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let old = vec![7; body.len()];
    let server = Server::new(move |number, request, stream| match number {
        0 => break_off(stream, &old, 100_000, "\"old\""),
        _ => ranges(request, stream, &body, "\"new\""),
    });
    lab.expect_fetched(&[server.url("file.bin")]);
    let requests = server.requests();
    assert_eq!(requests[1].header("if-range"), Some("\"old\""));
    assert_eq!(requests.len(), 2);
}

#[test]
fn wrong_bytes_of_an_earlier_transfer_start_over_once() {
    let lab = Lab::new();
    let body = lab.body.clone();
    // A server that knows no `If-Range` and no versions.
    let server = Server::new(move |_, request, stream| {
        let mut request = request.clone();
        request.headers.retain(|(name, _)| name != "if-range");
        ranges(&request, stream, &body, "W/\"weak\"")
    });
    lab.put(&lab.part(), &[9; 50_000]);
    lab.expect_fetched(&[server.url("file.bin")]);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].first(), requests[1].first()), (Some(50_000), None));
}

#[test]
fn a_part_that_is_too_long_or_complete_is_told_by_its_bytes() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| ranges(request, stream, &body, "\"a\""));
    // Longer than the whole.
    lab.put(&lab.part(), &[1; 400_000]);
    lab.expect_fetched(&[server.url("file.bin")]);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].first(), None);
    // As long, and wrong.
    std::fs::remove_file(lab.target()).expect("removed");
    lab.put(&lab.part(), &[1; 300_000]);
    lab.expect_fetched(&[server.url("file.bin")]);
    assert_eq!(server.requests().len(), 2);
    // As long, and right: it was killed before the last step.
    std::fs::remove_file(lab.target()).expect("removed");
    lab.put(&lab.part(), &lab.body);
    lab.expect_fetched(&[server.url("file.bin")]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn lengths_that_are_not_the_published_ones_are_refused() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| {
        let page = b"<html>please sign in</html>";
        match request.line.split(' ').nth(1).unwrap_or_default() {
            "/page" => {
                head(stream, "200 OK", &[length(page.len())])?;
                stream.write_all(page)
            }
            "/longer" => {
                head(stream, "200 OK", &[length(body.len() + 1)])?;
                stream.write_all(&body)
            }
            // Without a length: as long as it goes on.
            "/endless" => {
                head(stream, "200 OK", &[])?;
                loop {
                    stream.write_all(&body)?;
                }
            }
            _ => {
                head(stream, "200 OK", &[])?;
                stream.write_all(&body[..1000])
            }
        }
    });
    // What is there of the file is not given up for a page that asks for a password.
    lab.put(&lab.part(), &lab.body[..70_000]);
    let reasons = lab.expect_failures(&[server.url("page"), server.url("longer")]);
    assert_eq!(
        reasons,
        [
            "has 27 bytes; 300000 are published",
            "has 300001 bytes; 300000 are published"
        ]
    );
    assert_eq!(std::fs::metadata(lab.part()).expect("the part").len(), 70_000);
    let reasons = lab.expect_failures(&[server.url("endless"), server.url("short")]);
    assert_eq!(reasons[0], "gives more than the 300000 bytes that are published");
    assert_eq!(reasons[1], "broke off after 1000 of 300000 bytes");
    assert!(!lab.target().exists());
}

#[test]
fn bodies_without_a_length_and_in_chunks_are_taken() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| {
        if request.line.contains("/chunks") {
            head(stream, "200 OK", &["Transfer-Encoding: chunked".to_owned()])?;
            for chunk in body.chunks(7_000) {
                write!(stream, "{:x}\r\n", chunk.len())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            return stream.write_all(b"0\r\n\r\n");
        }
        head(stream, "200 OK", &[])?;
        stream.write_all(&body)
    });
    for name in ["chunks", "plain"] {
        lab.expect_fetched(&[server.url(name)]);
        std::fs::remove_file(lab.target()).expect("removed");
    }
}

#[test]
fn wrong_bytes_are_named_with_both_checksums_and_removed() {
    let lab = Lab::new();
    let mut other = lab.body.clone();
    other[299_999] ^= 1;
    let expected = (md5_of(&lab.body).digits(), md5_of(&other).digits());
    let server = Server::new(move |_, request, stream| ranges(request, stream, &other, "\"a\""));
    let reasons = lab.expect_failures(&[server.url("file.bin")]);
    assert_eq!(
        reasons,
        [format!(
            "gives other bytes than were published: MD5 {} was expected and {} found",
            expected.0, expected.1
        )]
    );
    assert_eq!(
        server.requests().len(),
        1,
        "other bytes do not become right by asking again"
    );
    assert_eq!(lab.names(), [""; 0]);
}

#[test]
fn the_next_address_is_tried_where_one_has_nothing() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| {
        if request.line.contains("/mirror") {
            return ranges(request, stream, &body, "\"m\"");
        }
        head(stream, "404 Not Found", &[length(0)])
    });
    let told = lab.expect_fetched(&[server.url("gone"), server.url("mirror")]);
    assert!(told[0].contains("answers 404 Not Found"), "{told:#?}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_part_of_one_address_is_completed_from_another() {
    let lab = Lab::with(Network {
        retries: 0,
        ..impatient()
    });
    let body = lab.body.clone();
    let server = Server::new(move |number, request, stream| match number {
        0 => break_off(stream, &body, 200_000, "\"one\""),
        _ => ranges(request, stream, &body, "\"two\""),
    });
    lab.expect_fetched(&[server.url("one"), server.url("two")]);
    let requests = server.requests();
    assert_eq!(requests[1].first(), Some(200_000));
    assert_eq!(
        requests[1].header("if-range"),
        None,
        "another server has other versions"
    );
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |number, request, stream| match number {
        0 => head(
            stream,
            "503 Service Unavailable",
            &[length(0), "Retry-After: 1".to_owned()],
        ),
        1 => head(stream, "429 Too Many Requests", &[length(0)]),
        _ => ranges(request, stream, &body, "\"a\""),
    });
    let begin = Instant::now();
    let told = lab.expect_fetched(&[server.url("file.bin")]);
    assert!(begin.elapsed() >= Duration::from_secs(1), "as the server asked");
    assert!(told[0].contains("\"pause\":1.0"), "{told:#?}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let lab = Lab::new();
    let server = Server::new(|_, _, stream| head(stream, "500 Internal Server Error", &[length(0)]));
    let reasons = lab.expect_failures(&[server.url("file.bin")]);
    assert_eq!(reasons, ["answers 500 Internal Server Error"]);
    assert_eq!(server.requests().len(), 3, "once, and two retries");
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| {
        if request.line.contains("/there") {
            return ranges(request, stream, &body, "\"a\"");
        }
        let to = if request.line.contains("/loop") {
            "/loop"
        } else {
            "/there"
        };
        head(stream, "302 Found", &[length(0), format!("Location: {to}")])
    });
    let told = lab.expect_fetched(&[server.url("loop"), server.url("here")]);
    assert!(told[0].contains("redirects without end"), "{told:#?}");
    assert!(server.requests().len() < 20);
}

#[test]
fn a_server_that_stalls_is_left_and_asked_for_the_rest() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |number, request, stream| {
        if number > 0 {
            return ranges(request, stream, &body, "\"a\"");
        }
        break_off(stream, &body, 100_000, "\"a\"")?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let begin = Instant::now();
    let told = lab.expect_fetched(&[server.url("file.bin")]);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert!(
        told.iter().any(|line| line.contains("no more for too long")),
        "{told:#?}"
    );
    assert_eq!(server.requests()[1].first(), Some(100_000));
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let lab = Lab::with(Network {
        retries: 0,
        patience: Duration::from_millis(500),
        ..impatient()
    });
    let server = Server::new(|_, _, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let begin = Instant::now();
    assert_eq!(lab.expect_failures(&[server.url("file.bin")]), ["does not answer"]);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_without_tls_is_said() {
    let lab = Lab::new();
    let server = Server::new(|_, _, stream| head(stream, "200 OK", &[length(0)]));
    let reasons = lab.expect_failures(&[server.url("file.bin").replace("http:", "https:")]);
    assert_eq!(reasons.len(), 1);
    assert_eq!(lab.names(), [""; 0]);
}

#[test]
fn nobody_there_is_said() {
    let lab = Lab::with(Network {
        retries: 0,
        ..impatient()
    });
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let reasons = lab.expect_failures(&[format!("http://{free}/file.bin")]);
    assert!(reasons[0].contains("refused"), "{reasons:?}");
}

#[test]
fn two_at_once_fetch_once() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| {
        std::thread::sleep(Duration::from_millis(700));
        ranges(request, stream, &body, "\"a\"")
    });
    let addresses = [server.url("file.bin")];
    // Locks are those of opened files, so threads stand for processes.
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| lab.fetch(&addresses))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    lab.expect_complete();
    assert_eq!(server.requests().len(), 1);
    let fetched = results.iter().filter(|(result, _)| matches!(result, Ok(true))).count();
    let waited = results.iter().filter(|(result, _)| matches!(result, Ok(false))).count();
    assert_eq!((fetched, waited), (1, 2));
    assert!(
        results
            .iter()
            .any(|(_, told)| told.iter().any(|line| line.contains("waiting")))
    );
}

#[test]
fn a_file_that_is_somebodys_own_is_not_touched() {
    let lab = Lab::new();
    lab.put(&lab.target(), b"my own");
    let (result, _) = lab.fetch(&["http://127.0.0.1:9/file.bin".to_owned()]);
    match result {
        Err(FetchError::Other { found, expected, .. }) => assert_eq!((found, expected), (6, 300_000)),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(lab.target()).expect("the file"), b"my own");
    assert_eq!(lab.names(), ["file.bin"]);
}

#[test]
fn a_part_that_is_no_file_is_refused() {
    let lab = Lab::new();
    lab.put(&lab.folder.path().join("elsewhere"), b"keep");
    lab.put(&lab.target().with_file_name("x"), b"");
    std::os::unix::fs::symlink(lab.folder.path().join("elsewhere"), lab.part()).expect("linked");
    let (result, _) = lab.fetch(&["http://127.0.0.1:9/file.bin".to_owned()]);
    assert!(matches!(result, Err(FetchError::Disk { .. })), "{result:?}");
    assert_eq!(
        std::fs::read(lab.folder.path().join("elsewhere")).expect("kept"),
        b"keep"
    );
}

#[test]
fn an_interruption_keeps_what_came() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |number, request, stream| {
        if number > 0 {
            return ranges(request, stream, &body, "\"a\"");
        }
        break_off(stream, &body, 100_000, "\"a\"")?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let client = lab.client.clone();
    let begin = Instant::now();
    let (result, _) = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            client.interrupt();
        });
        lab.fetch(&[server.url("file.bin")])
    });
    assert!(matches!(result, Err(FetchError::Interrupted)), "{result:?}");
    assert!(
        begin.elapsed() < Duration::from_millis(1400),
        "at once, not after the wait for bytes"
    );
    assert_eq!(std::fs::metadata(lab.part()).expect("the part").len(), 100_000);
    let after = Lab {
        client: Client::new(impatient()).expect("a client"),
        ..lab
    };
    after.expect_fetched(&[server.url("file.bin")]);
    assert_eq!(server.requests()[1].first(), Some(100_000));
}

#[test]
fn more_than_the_disk_has_is_not_begun() {
    let lab = Lab::new();
    let wanted = Wanted {
        target: &lab.target(),
        replaces: false,
        bytes: u64::MAX / 2,
        checksums: &[],
        addresses: &["http://127.0.0.1:9/file.bin".to_owned()],
    };
    let result = fetch(&lab.client, &wanted, &mut |_| {});
    assert!(matches!(result, Err(FetchError::Room { .. })), "{result:?}");
    assert_eq!(lab.names(), [""; 0]);
}

#[test]
fn a_proxy_is_used_where_it_is_given() {
    let lab = Lab::new();
    let body = lab.body.clone();
    let server = Server::new(move |_, request, stream| ranges(request, stream, &body, "\"a\""));
    let behind = server.address;
    let proxy = Server::new(move |_, request, stream| {
        assert!(request.line.starts_with("CONNECT data.invalid:80 "), "{}", request.line);
        write!(stream, "HTTP/1.1 200 Connection established\r\n\r\n")?;
        let mut inner = TcpStream::connect(behind)?;
        let (mut back, mut forth) = (inner.try_clone()?, stream.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut back, &mut forth).and(forth.shutdown(std::net::Shutdown::Write)));
        let mut block = [0; 1024];
        loop {
            let count = stream.read(&mut block)?;
            if count == 0 {
                return Ok(());
            }
            inner.write_all(&block[..count])?;
        }
    });
    let lab = Lab {
        client: Client::new(Network {
            proxy: Some(format!("http://{}", proxy.address)),
            ..impatient()
        })
        .expect("a client"),
        ..lab
    };
    lab.expect_fetched(&["http://data.invalid/file.bin".to_owned()]);
    assert_eq!(proxy.requests().len(), 1);
    let network = Network {
        proxy: Some("no address".to_owned()),
        ..impatient()
    };
    assert!(matches!(Client::new(network).err(), Some(FetchError::Proxy(_))));
}

#[test]
fn certificates_are_read_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        Client::new(Network {
            certificates: Some(file),
            ..impatient()
        })
    };
    assert!(matches!(
        with("no.pem", "no certificate").err(),
        Some(FetchError::Certificates { .. })
    ));
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(with("some.pem", pem).is_ok());
}

fn leaked<T>(value: Vec<T>) -> &'static [T] {
    Vec::leak(value)
}

/// A set of one archive in tar and one in zip.
fn archives() -> (Set, Vec<(&'static str, Vec<u8>)>) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As it stands: the builder refuses what an archive of others may have.
        header.as_gnu_mut().expect("GNU").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes).expect("appended");
    };
    put("./CIFAR/fog.npy", b"fog");
    put("CIFAR/labels.npy", b"labels");
    put("CIFAR/../../outside.npy", b"no");
    put("CIFAR/.hidden", b"no");
    put("other/fog.npy", b"no");
    let tar = tar.into_inner().expect("a tar");
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [
        ("gzip/a.gz", "letters"),
        ("gzip/b.gz", ""),
        ("__MACOSX/gzip/a.gz", "no"),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .expect("begun");
        zip.write_all(bytes.as_bytes()).expect("written");
    }
    let zip = zip.finish().expect("a zip").into_inner();
    let file = |name, bytes: &[u8], format, folder| Remote {
        name,
        bytes: bytes.len() as u64,
        checksums: leaked(vec![md5_of(bytes)]),
        addresses: leaked(vec!["http://data.invalid/x"]),
        unpacked: Some(Unpacked {
            format,
            folder,
            bytes: 1000,
        }),
    };
    let set = Set {
        name: "archives",
        about: "archives",
        folder: "data/archives",
        kind: "dataset",
        sources: &[],
        licence: "-",
        citation: "-",
        page: "-",
        files: leaked(vec![
            file("c.tar", &tar, Format::Tar, "CIFAR"),
            file("g.zip", &zip, Format::Zip, "gzip"),
        ]),
        by_hand: None,
    };
    (set, vec![("c.tar", tar), ("g.zip", zip)])
}

#[test]
fn archives_are_unpacked_recorded_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let (set, bodies) = archives();
    let server = Server::new(move |_, request, stream| {
        let asked = request
            .line
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let body = bodies.iter().find(|(name, _)| *name == asked).expect("one of them");
        ranges(request, stream, &body.1, "\"a\"")
    });
    let client = Client::new(impatient()).expect("a client");
    let mirrors = [server.url("{set}/{file}")];
    let state = |by: By| presence(&set, root, by).expect("read");
    assert_eq!(state(By::Size).state, State::Missing);
    assert!(get(&client, &set, root, &mirrors, false, &mut |_| {}).expect("fetched"));
    let read = |name: &str| std::fs::read_to_string(root.join("data/archives").join(name));
    for (name, text) in [
        ("fog.npy", "fog"),
        ("labels.npy", "labels"),
        ("a.gz", "letters"),
        ("b.gz", ""),
    ] {
        assert_eq!(read(name).expect(name), text);
    }
    let mut names: Vec<_> = std::fs::read_dir(root.join("data/archives"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, [".dynvis-data.json", "a.gz", "b.gz", "fog.npy", "labels.npy"]);
    assert!(!root.join("data/outside.npy").exists() && !root.join("outside.npy").exists());
    assert!(server.requests()[0].line.contains(" /archives/c.tar "));
    // Complete, by size and by checksum; nothing is fetched again.
    assert_eq!(state(By::Size).state, State::Complete);
    assert_eq!(state(By::Checksum(&mut |_| Ok(()))).state, State::Complete);
    assert!(!get(&client, &set, root, &mirrors, false, &mut |_| {}).expect("nothing to do"));
    assert_eq!(server.requests().len(), 2);
    // Other bytes of the same size are seen by checksum, another size at once, and `replace` mends both.
    std::fs::write(root.join("data/archives/fog.npy"), "fig").expect("written");
    assert_eq!(state(By::Size).state, State::Complete);
    let found = state(By::Checksum(&mut |_| Ok(())));
    assert_eq!(found.state, State::Damaged);
    assert!(
        found.notes[0].contains("`fog.npy` has other bytes"),
        "{:?}",
        found.notes
    );
    std::fs::write(root.join("data/archives/fog.npy"), "frog").expect("written");
    assert_eq!(state(By::Size).state, State::Damaged);
    assert!(get(&client, &set, root, &mirrors, true, &mut |_| {}).expect("fetched"));
    assert_eq!(state(By::Checksum(&mut |_| Ok(()))).state, State::Complete);
    // A file that is gone: the archive comes once more.
    std::fs::remove_file(root.join("data/archives/a.gz")).expect("removed");
    let found = state(By::Size);
    assert_eq!(found.state, State::Partial);
    assert_eq!(found.notes, ["of `g.zip`: `a.gz` is gone"]);
    assert!(get(&client, &set, root, &mirrors, false, &mut |_| {}).expect("fetched"));
    assert_eq!(state(By::Size).state, State::Complete);
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn an_archive_that_holds_too_much_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (set, bodies) = archives();
    let file = &set.files[0];
    let path = folder.path().join(file.name);
    std::fs::write(&path, &bodies[0].1).expect("written");
    let small = Unpacked {
        bytes: 5,
        ..file.unpacked.expect("an archive")
    };
    let error = super::unpack::unpack(&path, small, folder.path(), &mut |_| Ok(())).expect_err("too much");
    assert!(error.to_string().contains("more than 5 bytes"), "{error}");
    std::fs::write(&path, b"no archive at all").expect("written");
    for format in [Format::Tar, Format::Zip] {
        let unpacked = Unpacked { format, ..small };
        super::unpack::unpack(&path, unpacked, folder.path(), &mut |_| Ok(())).expect_err("no archive");
    }
}

#[test]
fn what_is_there_is_told_by_size_and_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let files = [("one", b"first".as_slice()), ("two", b"second")].map(|(name, bytes)| Remote {
        name,
        bytes: bytes.len() as u64,
        checksums: leaked(vec![md5_of(bytes)]),
        addresses: &["http://data.invalid/one"],
        unpacked: None,
    });
    let set = Set {
        name: "two",
        about: "two files",
        folder: "data/two",
        kind: "dataset",
        sources: &[],
        licence: "-",
        citation: "-",
        page: "-",
        files: leaked(files.into()),
        by_hand: None,
    };
    let there = |by: By| presence(&set, root, by).expect("read");
    let put = |name: &str, text: &str| std::fs::write(root.join("data/two").join(name), text).expect("written");
    assert_eq!(there(By::Size).state, State::Missing);
    std::fs::create_dir_all(root.join("data/two")).expect("a folder");
    assert_eq!(there(By::Size).state, State::Missing);
    put("mine", "");
    assert_eq!(there(By::Size).state, State::Other);
    put("one.part", "fir");
    let found = there(By::Size);
    assert_eq!((found.state, found.bytes), (State::Partial, 3));
    assert_eq!(found.notes, ["of `one` 3 of 5 bytes are there", "`two` is missing"]);
    put("one", "first");
    put("two", "secand");
    assert_eq!(there(By::Size).state, State::Complete);
    let found = there(By::Checksum(&mut |_| Ok(())));
    assert_eq!(found.state, State::Damaged);
    assert!(found.notes[0].starts_with("`two`: MD5 "), "{:?}", found.notes);
    put("two", "second and more");
    assert_eq!(there(By::Size).notes, ["`two`: has 15 bytes; 6 are published"]);
}

#[test]
fn mirrors_take_the_place_of_the_published_addresses() {
    let set = super::catalogue::set("cifar10").expect("a set");
    let file = &set.files[0];
    let at = |mirror: &str| addresses(set, file, &[mirror.to_owned()]).remove(0);
    assert_eq!(at("http://lab/data"), "http://lab/data/cifar-10-binary.tar.gz");
    assert_eq!(at("http://lab/data/"), "http://lab/data/cifar-10-binary.tar.gz");
    assert_eq!(at("http://lab/{set}"), "http://lab/cifar10/cifar-10-binary.tar.gz");
    assert_eq!(
        at("http://lab/{file}?set={set}"),
        "http://lab/cifar-10-binary.tar.gz?set=cifar10"
    );
    assert_eq!(
        at("http://lab/x/cifar-10-binary.tar.gz?download=1"),
        "http://lab/x/cifar-10-binary.tar.gz?download=1"
    );
    let published = addresses(set, file, &[]);
    assert_eq!(published, file.addresses);
}
