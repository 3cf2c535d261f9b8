//! The page's server: two things to read, for those who know the address. HTTP/1.1 over the standard library's sockets,
//! one request a connection, a thread each.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::follow::Follower;
use super::page::{PAGE, policy};
use crate::cli::error::CommandError;
use crate::cli::ui::Ui;

/// Connections at once; more are closed.
const CONNECTIONS: usize = 32;
/// Bytes of a request, and how long it may take to come.
const LARGEST: usize = 8 << 10;
const REQUEST: Duration = Duration::from_secs(5);
/// How long an answer may take to be taken.
const ANSWER: Duration = Duration::from_secs(30);
/// For how long an answer is given again: however many look on, files are read no more often.
const FRESH: Duration = Duration::from_millis(500);
/// Headers of a request.
const HEADERS: usize = 64;

pub(super) fn serve(ui: &mut Ui, follower: Follower, address: SocketAddr) -> Result<u8, CommandError> {
    let failed = |action: String| move |source| CommandError::Io { action, source };
    let listener = TcpListener::bind(address).map_err(failed(format!("cannot serve at {address}")))?;
    let address = listener
        .local_addr()
        .map_err(failed(format!("cannot serve at {address}")))?;
    let token = token().map_err(failed("cannot draw a token".into()))?;
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = match address.ip() {
        ip if ip.is_unspecified() => host_name.clone(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    };
    ui.out(&format!("http://{host}:{}/{token}/\n", address.port()))?;
    match address.ip().is_loopback() {
        true => ui.status(
            "for programs on this machine that have this address; reads alone, what the page shows and no other file; \
             Ctrl-C ends it",
        ),
        false => ui.status(&format!(
            "{} whoever reaches port {} of this machine and has this address can read what the page shows: names of \
             stages, figures, ends of logs; it goes over the network unencrypted, address included. No other file can \
             be read and nothing changed; Ctrl-C ends it",
            ui.paint("warning:", "33"),
            address.port()
        )),
    }
    let server = Arc::new(Server {
        token: blake3::hash(token.as_bytes()),
        is_loopback: address.ip().is_loopback(),
        host_name,
        state: Mutex::new(Shown { follower, last: None }),
        connections: AtomicUsize::new(0),
    });
    for connection in listener.incoming() {
        let Ok(connection) = connection else {
            // No file descriptor is free, for example: not in a busy loop.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if server.connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            server.connections.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let place = Place(Arc::clone(&server));
        // Where no thread can be started, the connection is closed.
        let _ = std::thread::Builder::new().spawn(move || place.0.answer(connection));
    }
    Ok(0)
}

/// Gives a connection's place back, whatever becomes of it.
struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// 192 random bits that may stand in an address.
fn token() -> std::io::Result<String> {
    use base64::Engine as _;
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

struct Shown {
    follower: Follower,
    last: Option<(Instant, Arc<Vec<u8>>)>,
}

struct Server {
    /// Hashes are compared in constant time, and tell nothing about the token.
    token: blake3::Hash,
    is_loopback: bool,
    host_name: String,
    state: Mutex<Shown>,
    connections: AtomicUsize,
}

/// What a request is answered with.
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: Arc<Vec<u8>>,
}

impl Answer {
    fn error(status: &'static str, text: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: Arc::new(format!("{text}\n").into_bytes()),
        }
    }
}

impl Server {
    fn answer(&self, mut connection: TcpStream) {
        let answer = match request(&mut connection) {
            Ok(Some(bytes)) => self.answer_to(&bytes),
            Ok(None) => Answer::error("431 Request Header Fields Too Large", "the request is too long"),
            // It is gone, or too slow.
            Err(_) => return,
        };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nAllow: GET\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nContent-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\n\
             X-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             \r\n",
            answer.status,
            answer.kind,
            answer.body.len(),
            policy(),
        );
        // There is nobody to tell.
        let _ = send(&mut connection, &[head.as_bytes(), &answer.body]);
    }

    fn answer_to(&self, bytes: &[u8]) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let is_whole = request.parse(bytes).is_ok_and(|status| status.is_complete());
        let (Some(method), Some(target), true) = (request.method, request.path, is_whole) else {
            return Answer::error("400 Bad Request", "this is no request of HTTP/1.1");
        };
        if method != "GET" {
            return Answer::error(
                "405 Method Not Allowed",
                "this page is read, with GET, and nothing else",
            );
        }
        let mut hosts = request
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("host"));
        let host = hosts.next().and_then(|header| std::str::from_utf8(header.value).ok());
        match host {
            Some(host) if hosts.next().is_none() && self.is_ours(host) => {}
            // A name that somebody else lets lead here (DNS rebinding) would make this page one of theirs.
            _ => {
                return Answer::error(
                    "403 Forbidden",
                    "open this page by the address that was printed, or by localhost",
                );
            }
        }
        let path = target.split('?').next().unwrap_or_default();
        let (token, rest) = path
            .strip_prefix('/')
            .map_or(("", path), |path| path.split_once('/').unwrap_or((path, "")));
        match (blake3::hash(token.as_bytes()) == self.token, rest) {
            (true, "") => Answer {
                status: "200 OK",
                kind: "text/html; charset=utf-8",
                body: Arc::new(PAGE.as_bytes().to_vec()),
            },
            (true, "state.json") => Answer {
                status: "200 OK",
                kind: "application/json",
                body: self.state(),
            },
            _ => Answer::error("404 Not Found", "there is nothing here"),
        }
    }

    /// Whether a `Host` names this server: by an address, by `localhost`, or by the machine's name where others may
    /// read.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let ip = match inner {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        match ip {
            Some(ip) => ip.is_loopback() || !self.is_loopback,
            None => {
                name.eq_ignore_ascii_case("localhost")
                    || (!self.is_loopback && name.eq_ignore_ascii_case(&self.host_name))
            }
        }
    }

    fn state(&self) -> Arc<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, last)) = &state.last
            && at.elapsed() < FRESH
        {
            return Arc::clone(last);
        }
        let json = serde_json::to_vec(&state.follower.view()).unwrap_or_else(|_| b"{}".to_vec());
        let json = Arc::new(json);
        state.last = Some((Instant::now(), Arc::clone(&json)));
        json
    }
}

/// Time that is left, an error where there is none.
fn left(until: Instant) -> std::io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// A request's head; none where it is too long.
fn request(connection: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + REQUEST;
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        if bytes.len() > LARGEST {
            return Ok(None);
        }
        connection.set_read_timeout(Some(left(until)?))?;
        match connection.read(&mut part)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => bytes.extend(&part[..read]),
        }
    }
    Ok(Some(bytes))
}

fn send(connection: &mut TcpStream, parts: &[&[u8]]) -> std::io::Result<()> {
    let until = Instant::now() + ANSWER;
    for mut rest in parts.iter().copied() {
        while !rest.is_empty() {
            connection.set_write_timeout(Some(left(until)?))?;
            match connection.write(rest)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => rest = &rest[written..],
            }
        }
    }
    Ok(())
}
