//! A server that speaks as much of S3 as is asked of it here, keeps everything in memory, and misbehaves when told to.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A status and a code in place of an answer.
    Status(u16, &'static str),
    /// The connection ends after so many bytes of the answer's body.
    Cut(usize),
    /// The connection ends after so many bytes of the request's body.
    Hang(usize),
    /// Nothing is said for so long.
    Silent(Duration),
    /// The body comes in pieces, with a wait before each.
    Slow(Duration),
    /// The body comes byte by byte, with a wait before each.
    Drip(Duration),
    /// A byte of the answer's body is another one.
    Damage,
    /// The whole body, whatever range was asked for.
    NoRange,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) range: Option<String>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Mutex<BTreeMap<String, Vec<u8>>>,
    uploads: Mutex<HashMap<String, BTreeMap<u16, Vec<u8>>>>,
    faults: Mutex<Vec<(&'static str, Fault)>>,
    pub(crate) requests: Mutex<Vec<Request>>,
}

pub(crate) struct Server {
    pub(crate) state: Arc<State>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = answer(&state, stream);
                });
            }
        });
        Self { state, address }
    }

    /// The next request of that method goes wrong.
    pub(crate) fn fail(&self, method: &'static str, fault: Fault) {
        self.state.faults.lock().expect("faults").push((method, fault));
    }

    pub(crate) fn requests(&self, method: &str) -> Vec<Request> {
        let requests = self.state.requests.lock().expect("requests");
        requests
            .iter()
            .filter(|request| request.method == method)
            .cloned()
            .collect()
    }

    pub(crate) fn forget_uploads(&self) {
        self.state.uploads.lock().expect("uploads").clear();
    }

    /// Of each upload the first part.
    pub(crate) fn forget_parts(&self) {
        for parts in self.state.uploads.lock().expect("uploads").values_mut() {
            parts.pop_first();
        }
    }

    pub(crate) fn open_uploads(&self) -> usize {
        self.state.uploads.lock().expect("uploads").len()
    }
}

fn answer(state: &State, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: HashMap<String, String> = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (mut length, mut range) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "range" => range = Some(value.to_owned()),
            _ => {}
        }
    }
    let fault = {
        let mut faults = state.faults.lock().expect("faults");
        let found = faults.iter().position(|(of, _)| *of == method);
        found.map(|index| faults.remove(index).1)
    };
    if let Some(Fault::Hang(after)) = fault {
        let mut some = vec![0; after];
        reader.read_exact(&mut some)?;
        return Ok(());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let key = path.trim_start_matches("/bucket/").to_owned();
    state.requests.lock().expect("requests").push(Request {
        method: method.to_owned(),
        query: query.clone(),
        range: range.clone(),
    });
    match fault {
        Some(Fault::Status(status, code)) => {
            let text = format!("<Error><Code>{code}</Code></Error>");
            return respond(&mut stream, status, "", text.as_bytes(), method == "HEAD");
        }
        Some(Fault::Silent(time)) => {
            std::thread::sleep(time);
            return Ok(());
        }
        _ => {}
    }
    if !path.starts_with("/bucket/") {
        let text = b"<Error><Code>NoSuchBucket</Code></Error>";
        return respond(&mut stream, 404, "", text, method == "HEAD");
    }
    if !query.contains_key("X-Amz-Signature") {
        let text = b"<Error><Code>AccessDenied</Code></Error>";
        return respond(&mut stream, 403, "", text, method == "HEAD");
    }
    let (status, headers, text) = act(state, method, &key, &query, range.as_deref(), body, fault);
    let Some(fault) = fault.filter(|fault| *fault != Fault::NoRange) else {
        return respond(&mut stream, status, &headers, &text, method == "HEAD");
    };
    let mut text = text;
    let length = text.len();
    match fault {
        Fault::Cut(after) => text.truncate(after),
        Fault::Damage => text[length / 2] ^= 1,
        _ => {}
    }
    write!(
        stream,
        "HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    let piece = if matches!(fault, Fault::Drip(_)) { 1 } else { 1 << 16 };
    for piece in text.chunks(piece) {
        if let Fault::Slow(wait) | Fault::Drip(wait) = fault {
            std::thread::sleep(wait);
        }
        stream.write_all(piece)?;
    }
    stream.flush()
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8], is_head: bool) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if !is_head {
        stream.write_all(body)?;
    }
    stream.flush()
}

const NAMESPACE: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

fn act(
    state: &State,
    method: &str,
    key: &str,
    query: &HashMap<String, String>,
    range: Option<&str>,
    body: Vec<u8>,
    fault: Option<Fault>,
) -> (u16, String, Vec<u8>) {
    let error = |status, code: &str| {
        (
            status,
            String::new(),
            format!("<Error><Code>{code}</Code></Error>").into_bytes(),
        )
    };
    let mut uploads = state.uploads.lock().expect("uploads");
    let mut objects = state.objects.lock().expect("objects");
    if method == "POST" && query.contains_key("uploads") {
        let id = format!("upload-{}", state.requests.lock().expect("requests").len());
        let text = format!(
            "<InitiateMultipartUploadResult {NAMESPACE}><Bucket>bucket</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        uploads.insert(id, BTreeMap::new());
        return (200, String::new(), text.into_bytes());
    }
    if let Some(id) = query.get("uploadId") {
        let Some(parts) = uploads.get_mut(id) else {
            return error(404, "NoSuchUpload");
        };
        return match method {
            "PUT" => {
                let number: u16 = query["partNumber"].parse().expect("a number");
                parts.insert(number, body);
                (200, format!("ETag: \"part-{number}\"\r\n"), Vec::new())
            }
            "DELETE" => {
                uploads.remove(id);
                (204, String::new(), Vec::new())
            }
            _ => {
                let text = String::from_utf8(body).expect("XML");
                let named = text.matches("<PartNumber>").count();
                if named != parts.len() {
                    return error(400, "InvalidPart");
                }
                objects.insert(key.to_owned(), parts.values().flatten().copied().collect());
                uploads.remove(id);
                let text = format!(
                    "<CompleteMultipartUploadResult {NAMESPACE}><ETag>\"x\"</ETag></CompleteMultipartUploadResult>"
                );
                (200, String::new(), text.into_bytes())
            }
        };
    }
    match method {
        "PUT" => {
            objects.insert(key.to_owned(), body);
            (200, "ETag: \"x\"\r\n".into(), Vec::new())
        }
        "GET" | "HEAD" => {
            let Some(bytes) = objects.get(key) else {
                return error(404, "NoSuchKey");
            };
            let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            match from {
                Some(from) if fault != Some(Fault::NoRange) => {
                    match bytes.get(from..).filter(|rest| !rest.is_empty()) {
                        Some(rest) => {
                            let (last, length) = (bytes.len() - 1, bytes.len());
                            (
                                206,
                                format!("Content-Range: bytes {from}-{last}/{length}\r\n"),
                                rest.to_vec(),
                            )
                        }
                        None => error(416, "InvalidRange"),
                    }
                }
                _ => (200, String::new(), bytes.clone()),
            }
        }
        _ => error(501, "NotImplemented"),
    }
}
