//! S3 and what speaks like it. Requests are signed by `rusty_s3`, made by `ureq`; large blobs go in parts.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusty_s3::actions::CreateMultipartUpload;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::Options;
use crate::backend::{Backend, Content, Take, Trouble, pump};
use crate::http::{agent, code_of, no_answer, refusal, text_of};
use crate::side_by_side;

/// Larger files go in parts of this many bytes, or of more where there would be too many.
const PART: u64 = 8 << 20;
/// Parts that an upload may have.
const MOST_PARTS: u64 = 10_000;
/// How long an address is good for, from when it is signed to when its request arrives.
const VALID: Duration = Duration::from_hours(1);
/// An upload that nobody has gone on with for so long is ended by the next `push`.
const GIVEN_UP: Duration = Duration::from_hours(7 * 24);
/// What a server calls an upload whose parts it does not have as they were sent.
const LOST_PARTS: [&str; 3] = ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"];
/// After so many failures in a row an upload of an earlier process is given up.
const DOUBTFUL: u32 = 3;
/// Longest answer in XML.
const LONGEST_ANSWER: u64 = 1 << 22;

pub(crate) struct S3 {
    bucket: Bucket,
    prefix: String,
    credentials: Option<Credentials>,
    agent: Agent,
    /// Where it is noted which uploads were broken off, and what arrived of them.
    state: Option<PathBuf>,
    patience: Duration,
    /// How often in a row uploads failed that earlier processes have begun; `None` of those that go on.
    uploads: Mutex<HashMap<String, Option<u32>>>,
}

impl S3 {
    /// With what the environment says, by the names that all programs for S3 read.
    pub(crate) fn new(bucket: &str, prefix: &str, options: &Options) -> Result<Self, String> {
        let first = |names: [&str; 2]| names.iter().find_map(|name| options.variable(name));
        let region = first(["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".into());
        let endpoint = first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        let key = options.variable("AWS_ACCESS_KEY_ID");
        let secret = options.variable("AWS_SECRET_ACCESS_KEY");
        if key.is_some() != secret.is_some() {
            return Err("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set".to_owned());
        }
        let credentials = key
            .zip(secret)
            .map(|(key, secret)| match options.variable("AWS_SESSION_TOKEN") {
                Some(token) => Credentials::new_with_token(key, secret, token),
                None => Credentials::new(key, secret),
            });
        let style = match endpoint.is_some() || bucket.contains(['.', '_']) {
            true => UrlStyle::Path,
            false => UrlStyle::VirtualHost,
        };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let url = endpoint
            .parse()
            .map_err(|_| "AWS_ENDPOINT_URL is no address, such as `https://HOST:PORT`".to_owned())?;
        let bucket = Bucket::new(url, style, bucket.to_owned(), region)
            .map_err(|_| "AWS_ENDPOINT_URL is no address of a server, such as `https://HOST:PORT`".to_owned())?;
        Ok(Self {
            bucket,
            prefix: prefix.to_owned(),
            credentials,
            agent: agent(options),
            state: options.state.clone(),
            patience: options.patience,
            uploads: Mutex::default(),
        })
    }

    fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn size(&self, name: &str) -> Result<Option<u64>, Trouble> {
        let key = self.key(name);
        let action = self.bucket.head_object(self.credentials.as_ref(), &key);
        let mut response = self
            .agent
            .head(action.sign(VALID).as_str())
            .call()
            .map_err(|error| no_answer(&error))?;
        match response.status() {
            StatusCode::OK => {
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                length
                    .map(Some)
                    .ok_or_else(|| Trouble::passing("the server does not say how large it is"))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(&mut response)),
        }
    }

    /// PUT with a body; gives the answer.
    fn put(&self, address: &str, body: &[u8]) -> Result<Response<Body>, Trouble> {
        let mut response = self
            .agent
            .put(address)
            .content_type("application/octet-stream")
            .send(body)
            .map_err(|error| no_answer(&error))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refusal(&mut response)),
        }
    }

    /// In parts; those that are there already are not sent again.
    fn write_parts(&self, name: &str, content: Content, arrived: &AtomicU64) -> Result<(), Trouble> {
        let size = content.size();
        let part_size = PART.max(size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20));
        let key = self.key(name);
        let credentials = self.credentials.as_ref();
        let noted = self.state_of(name).and_then(|file| Noted::read(&file));
        let mut upload = match noted {
            Some(noted) => noted.upload,
            None => self.begin(name, &key)?,
        };
        let mut tags = Vec::new();
        arrived.store(0, Ordering::Relaxed);
        for (index, start) in (0..size)
            .step_by(usize::try_from(part_size).unwrap_or(usize::MAX))
            .enumerate()
        {
            let number = u16::try_from(index + 1).unwrap_or(u16::MAX);
            let length = part_size.min(size - start);
            let tag = match upload.parts.remove(&number) {
                Some((there, tag)) if there == length => tag,
                _ => {
                    let bytes = read_part(&content, start, length)?;
                    let action = self.bucket.upload_part(credentials, &key, number, &upload.id);
                    let response = self
                        .put(action.sign(VALID).as_str(), &bytes)
                        .map_err(|trouble| self.doubt(name, &key, &upload.id, trouble))?;
                    self.trust(&upload.id);
                    let tag = response.headers().get(header::ETAG);
                    let tag = tag.and_then(|tag| tag.to_str().ok());
                    let tag = tag.ok_or_else(|| Trouble::lasting("the server names no part that it got", ""))?;
                    self.remember(name, &format!("{number} {length} {tag}\n"));
                    tag.to_owned()
                }
            };
            tags.push(tag);
            arrived.store(start + length, Ordering::Relaxed);
        }
        let action = || {
            let tags = tags.iter().map(String::as_str);
            self.bucket
                .complete_multipart_upload(credentials, &key, &upload.id, tags)
        };
        let mut response = self
            .agent
            .post(action().sign(VALID).as_str())
            .content_type("application/xml")
            .send(action().body())
            .map_err(|error| no_answer(&error))?;
        let status = response.status();
        let trouble = match status.is_success() {
            false => refusal(&mut response),
            true => {
                // A server may say that all is well before it finds out that it is not.
                let text = text_of(&mut response, LONGEST_ANSWER)?;
                if !text.contains("<Error>") {
                    self.forget(name);
                    return Ok(());
                }
                Trouble::passing(format!("the server answers {}", code_of(&text)))
            }
        };
        if status == StatusCode::NOT_FOUND {
            // Completed by a request whose answer was lost; or the server has forgotten it.
            self.forget(name);
            return match self.size(name)? {
                Some(there) if there == size => Ok(()),
                _ => Err(Trouble::passing("the server has forgotten the upload")),
            };
        }
        match trouble {
            // It has lost a part.
            Trouble::Lasting { reason, .. } | Trouble::Passing { reason, .. }
                if LOST_PARTS.iter().any(|code| reason.contains(code)) =>
            {
                self.abort(&key, &upload.id);
                self.forget(name);
                Err(Trouble::passing(reason))
            }
            trouble => Err(self.doubt(name, &key, &upload.id, trouble)),
        }
    }

    fn begin(&self, name: &str, key: &str) -> Result<Upload, Trouble> {
        let action = self.bucket.create_multipart_upload(self.credentials.as_ref(), key);
        let mut response = self
            .agent
            .post(action.sign(VALID).as_str())
            .send_empty()
            .map_err(|error| no_answer(&error))?;
        if !response.status().is_success() {
            return Err(refusal(&mut response));
        }
        let text = text_of(&mut response, LONGEST_ANSWER)?;
        let parsed = CreateMultipartUpload::parse_response(&text);
        let parsed = parsed.map_err(|error| Trouble::lasting(format!("the server's answer is none: {error}"), ""))?;
        let id = parsed.upload_id().to_owned();
        if let Some(file) = self.state_of(name) {
            // Without it a later try begins anew.
            let _ = file.parent().map(fs_err::create_dir_all);
            let text = format!("{id}\n{} {key}\n", self.bucket.base_url());
            let _ = dynvis_base::files::persist(&file, text.as_bytes());
        }
        self.trust(&id);
        Ok(Upload {
            id,
            parts: HashMap::new(),
        })
    }

    /// An upload of which a part has arrived, or that was begun here, goes on.
    fn trust(&self, id: &str) {
        if let Ok(mut uploads) = self.uploads.lock() {
            uploads.insert(id.to_owned(), None);
        }
    }

    /// A part did not arrive, or all of them do not become a file. The server may not know the upload any more, where an
    /// earlier process has begun it: for that servers have several words, and some close the line before they say any.
    /// Then another one is begun. Whoever may not send at all may not begin one either, and what is noted stays.
    fn doubt(&self, name: &str, key: &str, id: &str, trouble: Trouble) -> Trouble {
        let is_lasting = matches!(trouble, Trouble::Lasting { .. });
        let is_given_up =
            self.uploads
                .lock()
                .is_ok_and(|mut uploads| match uploads.entry(id.to_owned()).or_insert(Some(0)) {
                    None => false,
                    Some(failures) => {
                        *failures += 1;
                        is_lasting || *failures >= DOUBTFUL
                    }
                });
        if !is_given_up {
            return trouble;
        }
        match (self.begin(name, key), trouble) {
            (Err(trouble), _) => trouble,
            (Ok(_), Trouble::Lasting { reason, .. } | Trouble::Passing { reason, .. }) => {
                self.abort(key, id);
                Trouble::passing(reason)
            }
            (Ok(_), trouble) => trouble,
        }
    }

    /// Best effort: the storage's own rules for unfinished uploads may end it, too.
    fn abort(&self, key: &str, id: &str) -> bool {
        let action = self.bucket.abort_multipart_upload(self.credentials.as_ref(), key, id);
        let response = self.agent.delete(action.sign(VALID).as_str()).call();
        response.is_ok_and(|response| response.status().is_success() || response.status() == StatusCode::NOT_FOUND)
    }

    /// Adds to what is noted of an upload; best effort.
    fn remember(&self, name: &str, line: &str) {
        if let Some(file) = self.state_of(name)
            && let Ok(mut file) = fs_err::OpenOptions::new().append(true).open(file)
        {
            let _ = file.write_all(line.as_bytes());
        }
    }

    fn state_of(&self, name: &str) -> Option<PathBuf> {
        let place = format!("{}{}", self.bucket.base_url(), self.key(name));
        let hash = blake3::hash(place.as_bytes()).to_hex();
        Some(self.state.as_ref()?.join(&hash[..32]))
    }

    fn forget(&self, name: &str) {
        if let Some(file) = self.state_of(name) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// An upload in parts that goes on: each part that is there, with its size and tag.
struct Upload {
    id: String,
    parts: HashMap<u16, (u64, String)>,
}

/// What is noted of an upload here, since not every server can say what it has of one: a line with its id, one with the
/// server and the key, and one for each part.
struct Noted {
    place: String,
    upload: Upload,
}

impl Noted {
    fn read(file: &Path) -> Option<Self> {
        let text = dynvis_base::files::read_to_string(file).ok()?;
        let mut lines = text.split_inclusive('\n');
        let id = lines.next()?.trim().to_owned();
        let place = lines.next().unwrap_or_default().trim().to_owned();
        // The last one may be torn.
        let part = |line: &str| {
            let mut words = line.strip_suffix('\n')?.splitn(3, ' ');
            let (number, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some((number, (size, words.next()?.to_owned())))
        };
        let parts = lines.filter_map(part).collect();
        let upload = Upload { id, parts };
        (!upload.id.is_empty()).then_some(Self { place, upload })
    }
}

fn read_part(content: &Content, start: u64, length: u64) -> Result<Vec<u8>, Trouble> {
    let reading = || Trouble::local("read what is to be sent");
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut reader = content.from(start).map_err(reading())?.take(length);
    reader.read_to_end(&mut bytes).map_err(reading())?;
    if bytes.len() as u64 != length {
        return Err(Content::is_short());
    }
    Ok(bytes)
}

impl Backend for S3 {
    fn sizes(&self, names: &[String]) -> Result<Vec<Option<u64>>, Trouble> {
        side_by_side(names, self.lanes(), |name| self.size(name))
            .into_iter()
            .collect()
    }

    fn read(&self, name: &str, from: u64, take: &mut Take) -> Result<bool, Trouble> {
        let key = self.key(name);
        let action = self.bucket.get_object(self.credentials.as_ref(), &key);
        let mut request = self
            .agent
            .get(action.sign(VALID).as_str())
            .header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let mut response = request.call().map_err(|error| no_answer(&error))?;
        // Of a server that gives no ranges, what is there already comes once more.
        let mut skipped = match response.status() {
            StatusCode::OK => from,
            StatusCode::PARTIAL_CONTENT if from > 0 => 0,
            // There is no more than what has come.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(true),
            StatusCode::NOT_FOUND => {
                return match refusal(&mut response) {
                    Trouble::Lasting { reason, advice } if reason.contains("NoSuchBucket") => {
                        Err(Trouble::Lasting { reason, advice })
                    }
                    _ => Ok(false),
                };
            }
            _ => return Err(refusal(&mut response)),
        };
        let broken = |error: std::io::Error| match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => Trouble::passing("no more came for too long"),
            ureq::Error::Io(error) => Trouble::passing(format!("it broke off: {error}")),
            error => Trouble::passing(format!("it broke off: {error}")),
        };
        let mut take = |bytes: &[u8]| {
            let skip = skipped.min(bytes.len() as u64);
            skipped -= skip;
            match &bytes[usize::try_from(skip).unwrap_or(bytes.len())..] {
                [] => Ok(()),
                new => take(new),
            }
        };
        pump(
            &mut response.body_mut().as_reader(),
            &mut take,
            Some(self.patience),
            &broken,
        )?;
        Ok(true)
    }

    fn write(&self, name: &str, content: Content, arrived: &AtomicU64) -> Result<(), Trouble> {
        // A record may be another one the next time.
        if content.size() > PART && matches!(content, Content::File(..)) {
            return self.write_parts(name, content, arrived);
        }
        let bytes = read_part(&content, 0, content.size())?;
        let key = self.key(name);
        let action = self.bucket.put_object(self.credentials.as_ref(), &key);
        self.put(action.sign(VALID).as_str(), &bytes).map(|_| ())
    }

    fn tidy(&self) {
        let listed = self.state.as_ref().and_then(|folder| fs_err::read_dir(folder).ok());
        for entry in listed.into_iter().flatten().flatten() {
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let is_old = changed
                .and_then(|at| at.elapsed().ok())
                .is_some_and(|age| age > GIVEN_UP);
            let Some(noted) = is_old.then(|| Noted::read(&entry.path())).flatten() else {
                continue;
            };
            let key = noted.place.split_once(' ');
            let key = key.filter(|(server, _)| *server == self.bucket.base_url().as_str());
            if key.is_some_and(|(_, key)| self.abort(key, &noted.upload.id)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn lanes(&self) -> usize {
        6
    }
}
