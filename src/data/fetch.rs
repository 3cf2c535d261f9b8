//! One file from the first address that gives what was published. What has come of it stays in `NAME.part` whatever
//! ends the transfer, and is gone on with by the next one; only bytes that have all checksums get the name `NAME`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use super::checksum::{Checksum, Hashing};
use super::part::{Origin, Part, part_of};

/// How servers are reached.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// In place of the proxy that the environment names; empty for none.
    pub(crate) proxy: Option<String>,
    /// Certificates (PEM) to trust in place of the system's.
    pub(crate) certificates: Option<PathBuf>,
    /// Longest wait for a connection and for any next bytes.
    pub(crate) patience: Duration,
    /// How often an address is tried again after it gave nothing.
    pub(crate) retries: u32,
    /// Wait before the first of these; each next one is twice as long.
    pub(crate) pause: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            proxy: None,
            certificates: None,
            patience: Duration::from_secs(60),
            retries: 5,
            pause: Duration::from_secs(1),
        }
    }
}

/// No wait between two tries is longer, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Connections, and whether they shall end.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    network: Network,
    interrupted: Arc<AtomicBool>,
}

impl Client {
    /// # Errors
    /// A proxy that is no address, certificates that cannot be read.
    pub(crate) fn new(network: Network) -> Result<Self, FetchError> {
        let proxy = match &network.proxy {
            Some(address) if address.is_empty() => None,
            Some(address) => Some(Proxy::new(address).map_err(|_| FetchError::Proxy(address.clone()))?),
            None => Proxy::try_from_env(),
        };
        let roots = match &network.certificates {
            Some(file) => certificates_of(file)?,
            None => system_certificates(),
        };
        let config = Agent::config_builder()
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("dynvis/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_connect(Some(network.patience))
            .timeout_recv_response(Some(network.patience))
            .timeout_per_read(Some(network.patience))
            // Each address is another place, and after an error a connection is of no use.
            .max_idle_connections(0);
        Ok(Self {
            agent: config.build().into(),
            network,
            interrupted: Arc::default(),
        })
    }

    /// Ends transfers, from any thread, and lets none begin.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    fn heed(&self) -> Result<(), Trouble> {
        match self.is_interrupted() {
            true => Err(Trouble::Interrupted),
            false => Ok(()),
        }
    }

    fn sleep(&self, time: Duration) -> Result<(), Trouble> {
        let end = Instant::now() + time;
        loop {
            self.heed()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

/// Certificates of a file in PEM.
fn certificates_of(file: &Path) -> Result<RootCerts, FetchError> {
    let wrong = |source| FetchError::Certificates {
        file: file.to_owned(),
        source,
    };
    let text = dynvis_base::files::read(file).map_err(wrong)?;
    let items = parse_pem(&text).filter_map(Result::ok);
    let found: Vec<Certificate<'static>> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(wrong(std::io::Error::other("it has no certificate in PEM")));
    }
    Ok(RootCerts::from(found))
}

/// The certificates that the system trusts, among them those that a lab has installed for its own proxy; where it has
/// none, as small containers do, Mozilla's.
fn system_certificates() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    RootCerts::from(found.iter().map(|der| Certificate::from_der(der).to_owned()))
}

/// A file that shall come.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) target: &'a Path,
    /// Whether it takes the place of a file that is there.
    pub(crate) replaces: bool,
    pub(crate) bytes: u64,
    pub(crate) checksums: &'a [Checksum],
    /// The first to try first.
    pub(crate) addresses: &'a [String],
}

/// What happens on the way.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// Another process fetches the same file.
    Waiting { file: &'a str },
    /// Bytes are about to come, from this place in the file on.
    Started {
        file: &'a str,
        address: &'a str,
        from: u64,
        bytes: u64,
    },
    /// So many bytes are there.
    Progress { file: &'a str, done: u64, bytes: u64 },
    /// An address is tried again, or, where there is no `pause`, given up.
    Trouble {
        file: &'a str,
        address: &'a str,
        reason: &'a str,
        /// Seconds until it is tried again.
        pause: Option<f64>,
    },
    /// An archive is unpacked; so many of the bytes that are to come out of it are there.
    Unpacking { file: &'a str, done: u64, bytes: u64 },
    /// The file is complete.
    Done { file: &'a str, bytes: u64 },
}

pub(crate) type Tell<'a> = dyn FnMut(&Event) + 'a;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("interrupted")]
    Interrupted,
    #[error("no address gave `{name}`")]
    Addresses {
        name: String,
        /// Address and what was wrong with it.
        failures: Vec<(String, String)>,
    },
    #[error("`{}` is there with {found} bytes; {expected} are published", path.display())]
    Other { path: PathBuf, found: u64, expected: u64 },
    #[error("`{}` is no regular file", .0.display())]
    NoFile(PathBuf),
    #[error("{needed} bytes are needed in `{}`, and {free} are free", folder.display())]
    Room { folder: PathBuf, needed: u64, free: u64 },
    #[error("`{0}` is no address of a proxy")]
    Proxy(String),
    #[error("cannot read certificates from `{}`", file.display())]
    Certificates {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot unpack `{}`: {reason}", file.display())]
    Archive { file: PathBuf, reason: String },
    #[error("cannot {action}")]
    Disk {
        action: String,
        #[source]
        source: std::io::Error,
    },
}

impl FetchError {
    pub(crate) fn disk(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        |source| match source.kind() {
            std::io::ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Disk { action, source },
        }
    }
}

/// What ends one try.
#[derive(Debug)]
enum Trouble {
    Interrupted,
    Disk(std::io::Error),
    /// Another try may give more.
    Passing {
        reason: String,
        pause: Option<Duration>,
    },
    /// The bytes that were there before do not go with this address, or were wrong.
    Stale(String),
    /// This address gives nothing.
    Lasting(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Disk(error),
        }
    }
}

impl Trouble {
    fn passing(reason: impl Into<String>) -> Self {
        Self::Passing {
            reason: reason.into(),
            pause: None,
        }
    }
}

/// Fetches a file. False if it was there already, by its size.
///
/// # Errors
/// That no address gave it, with what was wrong with each; a file of that name with another size; a disk that is full
/// or cannot be written; an interruption.
pub(crate) fn fetch(client: &Client, wanted: &Wanted, tell: &mut Tell) -> Result<bool, FetchError> {
    let name = wanted
        .target
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let folder = wanted.target.parent().unwrap_or(Path::new("."));
    let write = || format!("write `{}`", part_of(wanted.target).display());
    fs_err::create_dir_all(folder).map_err(FetchError::disk("make the folder"))?;
    let mut is_waiting = false;
    let mut part = loop {
        if !wanted.replaces && is_there(wanted.target, wanted.bytes)? {
            return Ok(false);
        }
        if let Some(part) = Part::open(wanted.target).map_err(FetchError::disk(write()))? {
            break part;
        }
        if !std::mem::replace(&mut is_waiting, true) {
            tell(&Event::Waiting { file: &name });
        }
        client
            .sleep(Duration::from_millis(500))
            .map_err(|_| FetchError::Interrupted)?;
    };
    // Whoever held the part before may have completed the file.
    if !wanted.replaces && is_there(wanted.target, wanted.bytes)? {
        part.remove().map_err(FetchError::disk(write()))?;
        return Ok(false);
    }
    let outcome = room(folder, wanted.bytes.saturating_sub(part.len())).and_then(|()| {
        let mut failures = Vec::new();
        for address in wanted.addresses {
            match from_address(client, wanted, &name, address, &mut part, tell) {
                Ok(()) => return Ok(()),
                Err(Trouble::Interrupted) => return Err(FetchError::Interrupted),
                Err(Trouble::Disk(source)) => {
                    return Err(FetchError::Disk {
                        action: write(),
                        source,
                    });
                }
                Err(Trouble::Passing { reason, .. } | Trouble::Stale(reason) | Trouble::Lasting(reason)) => {
                    let (file, pause, told) = (name.as_str(), None, reason.as_str());
                    tell(&Event::Trouble {
                        file,
                        address,
                        reason: told,
                        pause,
                    });
                    failures.push((address.clone(), reason));
                }
            }
        }
        Err(FetchError::Addresses {
            name: name.clone(),
            failures,
        })
    });
    match outcome {
        Ok(()) => part.complete().map_err(FetchError::disk(write()))?,
        Err(error) => {
            // Nothing came: nothing shall lie there.
            if part.len() == 0 {
                let _ = part.remove();
            }
            return Err(error);
        }
    }
    let bytes = wanted.bytes;
    tell(&Event::Done { file: &name, bytes });
    Ok(true)
}

/// Whether a file is there. One of another size may be somebody's own and is not touched.
fn is_there(path: &Path, bytes: u64) -> Result<bool, FetchError> {
    match fs_err::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(FetchError::NoFile(path.to_owned())),
        Ok(metadata) if metadata.len() == bytes => Ok(true),
        Ok(metadata) => Err(FetchError::Other {
            path: path.to_owned(),
            found: metadata.len(),
            expected: bytes,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FetchError::disk("look for the file")(error)),
    }
}

/// That a folder's file system has room for so many bytes more.
pub(crate) fn room(folder: &Path, needed: u64) -> Result<(), FetchError> {
    // One that does not say has to be tried.
    let Ok(stat) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed <= free {
        return Ok(());
    }
    Err(FetchError::Room {
        folder: folder.to_owned(),
        needed,
        free,
    })
}

/// Completes the part from one address, trying again where that may help.
fn from_address(
    client: &Client,
    wanted: &Wanted,
    name: &str,
    address: &str,
    part: &mut Part,
    tell: &mut Tell,
) -> Result<(), Trouble> {
    let mut fruitless = 0;
    loop {
        client.heed()?;
        let before = part.len();
        let trouble = match attempt(client, wanted, name, address, part, tell) {
            Ok(()) => return Ok(()),
            // What ended the transfer was the interruption, however it looks.
            Err(_) if client.is_interrupted() => return Err(Trouble::Interrupted),
            Err(trouble) => trouble,
        };
        let Trouble::Passing { reason, pause } = &trouble else {
            return Err(trouble);
        };
        fruitless = if part.len() > before { 1 } else { fruitless + 1 };
        if fruitless > client.network.retries {
            return Err(trouble);
        }
        let longer = client.network.pause.saturating_mul(1 << (fruitless - 1).min(16));
        let pause = pause.unwrap_or_default().max(longer).min(LONGEST_PAUSE);
        tell(&Event::Trouble {
            file: name,
            address,
            reason,
            pause: Some(pause.as_secs_f64()),
        });
        client.sleep(pause)?;
    }
}

/// One request, behind the bytes that are there where the server gives the same file.
fn attempt(
    client: &Client,
    wanted: &Wanted,
    name: &str,
    address: &str,
    part: &mut Part,
    tell: &mut Tell,
) -> Result<(), Trouble> {
    let is_over = || client.is_interrupted();
    if part.len() > wanted.bytes {
        part.clear()?;
    }
    if part.len() == wanted.bytes {
        // Complete, but its end was not recorded; or an earlier transfer put bytes of two files together.
        let mut hashing = Hashing::new(wanted.checksums);
        part.hash(&mut hashing, &is_over)?;
        match hashing.check() {
            Ok(()) => return Ok(()),
            Err(_) => part.clear()?,
        }
    }
    let from = part.len();
    match request(client, wanted, name, address, from, part, tell) {
        Err(Trouble::Stale(_)) if from > 0 => request(client, wanted, name, address, 0, part, tell),
        outcome => outcome,
    }
}

/// One request for the bytes from a place on, which is 0 or the end of the part, and what it gives. Where the bytes are
/// wrong the part is empty afterwards.
fn request(
    client: &Client,
    wanted: &Wanted,
    name: &str,
    address: &str,
    mut from: u64,
    part: &mut Part,
    tell: &mut Tell,
) -> Result<(), Trouble> {
    let bytes = wanted.bytes;
    let mut request = client.agent.get(address).header(header::ACCEPT_ENCODING, "identity");
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
        let origin = part.origin();
        if origin.address == address
            && let Some(version) = origin.version
        {
            request = request.header(header::IF_RANGE, version);
        }
    }
    let mut response = request.call().map_err(trouble_of)?;
    let range = range_of(&response);
    let announced = match response.status() {
        StatusCode::OK => response.body().content_length(),
        StatusCode::PARTIAL_CONTENT => match range {
            Some((first, total)) if from > 0 && first == from => total,
            _ => return Err(Trouble::Stale("gives another range than was asked for".into())),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(Trouble::Stale("has no such range".into())),
        status => return Err(refusal(status, &response)),
    };
    // Before what is there is thrown away: this may be the page of a proxy that wants a password.
    if let Some(announced) = announced
        && announced != bytes
    {
        return Err(Trouble::Lasting(format!(
            "has {announced} bytes; {bytes} are published"
        )));
    }
    if response.status() == StatusCode::OK {
        // The server gives no ranges, or has another file than before.
        part.clear()?;
        from = 0;
    }
    part.set_origin(&Origin {
        address: address.to_owned(),
        version: version_of(&response),
    })?;
    tell(&Event::Started {
        file: name,
        address,
        from,
        bytes,
    });
    let mut hashing = Hashing::new(wanted.checksums);
    part.hash(&mut hashing, &|| client.is_interrupted())?;
    receive(client, bytes, name, &mut response, part, &mut hashing, tell)?;
    if let Err(mismatch) = hashing.check() {
        part.clear()?;
        return Err(Trouble::Stale(format!(
            "gives other bytes than were published: {mismatch}"
        )));
    }
    Ok(())
}

/// The body, into the part and the checksums.
fn receive(
    client: &Client,
    bytes: u64,
    name: &str,
    response: &mut Response<Body>,
    part: &mut Part,
    hashing: &mut Hashing,
    tell: &mut Tell,
) -> Result<(), Trouble> {
    let mut reader = response.body_mut().as_reader();
    let mut block = vec![0; 1 << 16];
    loop {
        client.heed()?;
        let count = match reader.read(&mut block) {
            Ok(count) => count,
            Err(error) => {
                let ended = format!("broke off after {} of {bytes} bytes", part.len());
                let reason = match ureq::Error::from(error) {
                    ureq::Error::Timeout(_) => format!("{ended}: no more for too long"),
                    ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => ended,
                    error => format!("{ended}: {}", words(&error)),
                };
                return Err(Trouble::passing(reason));
            }
        };
        if count == 0 {
            break;
        }
        if part.len() + count as u64 > bytes {
            part.clear()?;
            return Err(Trouble::Lasting(format!(
                "gives more than the {bytes} bytes that are published"
            )));
        }
        part.write(&block[..count])?;
        hashing.update(&block[..count]);
        let done = part.len();
        tell(&Event::Progress {
            file: name,
            done,
            bytes,
        });
    }
    if part.len() < bytes {
        return Err(Trouble::passing(format!(
            "broke off after {} of {bytes} bytes",
            part.len()
        )));
    }
    Ok(())
}

/// First byte and size of the whole file, of `Content-Range: bytes 5-9/10`; the size may be unknown.
fn range_of(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, total))
}

/// What tells this version of the file from others: a strong ETag, else when it was changed.
fn version_of(response: &Response<Body>) -> Option<String> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let tag = text(header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(header::LAST_MODIFIED)).map(str::to_owned)
}

/// What a status other than success means.
fn refusal(status: StatusCode, response: &Response<Body>) -> Trouble {
    let reason = format!("answers {status}");
    let is_passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    if !is_passing {
        return Trouble::Lasting(reason);
    }
    let after = response.headers().get(header::RETRY_AFTER);
    let seconds = after.and_then(|text| text.to_str().ok()?.trim().parse().ok());
    Trouble::Passing {
        reason,
        pause: seconds.map(Duration::from_secs),
    }
}

/// What an error says.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// What an error before the first byte means.
fn trouble_of(error: ureq::Error) -> Trouble {
    let reason = words(&error);
    match error {
        // The resolver's errors have no kind of their own.
        ureq::Error::Io(_) if reason.starts_with("failed to lookup address") => {
            Trouble::Lasting("cannot be found: there is no such host, or no network".into())
        }
        ureq::Error::TooManyRedirects => Trouble::Lasting("redirects without end".into()),
        ureq::Error::Timeout(_) => Trouble::passing("does not answer"),
        // A certificate that is not trusted comes as an error of reading.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Trouble::Lasting(format!(
            "{error}; where a proxy looks into connections, `--ca-certificate` names its certificate"
        )),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => Trouble::passing(reason),
        _ => Trouble::Lasting(reason),
    }
}
