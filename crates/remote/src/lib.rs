//! A store of blobs by their content and of small records by name, elsewhere: in a plain folder, on S3-compatible
//! storage, or on a machine that is reached over SSH. One synchronous interface, [`Remote`]; knows nothing of pipelines.
//!
//! ```text
//! blobs/ab/HASH     bytes, named by their blake3
//! NAME              a record: one line with its length and blake3, then its text
//! ```
//!
//! A record that is there means that all blobs are there that it names: whoever writes sends blobs first. Whoever reads
//! believes neither: blobs are held against their hash and size while they come, records against their first line.
//!
//! Transfers that break off go on where they stopped, within a call and in the next one. Why not through another crate:
//! `docs/design/remote.md`.

mod backend;
mod blob;
mod folder;
mod http;
mod place;
mod record;
mod s3;
mod ssh;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub use blake3::Hash;
pub use blob::Blob;
pub use place::Place;

use backend::{Backend, Content, Trouble};

/// Longest record that is read, in bytes.
pub const LONGEST_RECORD: u64 = 1 << 26;

/// A try that brought less has brought nothing, or a line that gives a byte at a time would be waited for without end.
const LEAST: u64 = 1 << 16;

/// How often a transfer may begin anew and still be gone on with for as long as it gets on.
const RESTARTS: u32 = 3;

/// No wait between two tries is longer, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How patient transfers are, and where their state is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest wait for a connection and for any next bytes.
    pub patience: Duration,
    /// How often something is tried again after it brought nothing.
    pub retries: u32,
    /// Wait before the first of these; each next one is twice as long.
    pub pause: Duration,
    /// Folder that remembers which uploads were broken off, and what arrived; `None`: those to S3 begin anew.
    pub state: Option<PathBuf>,
    /// Variables that go before those of the environment.
    pub variables: Vec<(String, String)>,
}

impl Options {
    /// A variable by name, where it says something.
    fn variable(&self, name: &str) -> Option<String> {
        let given = self.variables.iter().find(|(given, _)| given == name);
        let value = match given {
            Some((_, value)) => Some(value.clone()),
            None => std::env::var(name).ok(),
        };
        value.filter(|value| !value.trim().is_empty())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(60),
            retries: 4,
            pause: Duration::from_secs(1),
            state: None,
            variables: Vec::new(),
        }
    }
}

/// Why something could not be sent or fetched.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// That is no place that results can be sent to.
    #[error("`{url}` is no remote: {reason}")]
    Url {
        /// As typed.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The remote cannot be reached, or does not do what it is asked.
    #[error("`{item}` of the remote `{url}`: {reason}")]
    Failed {
        /// The remote.
        url: String,
        /// What was to be read or written there.
        item: String,
        /// What went wrong, the last time that it was tried.
        reason: String,
        /// What may help.
        advice: String,
        /// Whether it may help to try again later.
        is_passing: bool,
    },
    /// What is there is not what was sent.
    #[error("`{item}` of the remote `{url}` is damaged: {reason}")]
    Damaged {
        /// The remote.
        url: String,
        /// What is damaged.
        item: String,
        /// In what.
        reason: String,
    },
    /// A blob that a record names is not there.
    #[error("`{item}` of the remote `{url}` is gone")]
    Gone {
        /// The remote.
        url: String,
        /// What is not there.
        item: String,
    },
    /// Reading or writing on this machine failed.
    #[error("cannot {action}")]
    Local {
        /// What was tried, as `cannot {action}` says it.
        action: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl RemoteError {
    /// Whether the remote itself is well and only what it holds is not: another result may be fetched from it.
    #[must_use]
    pub fn is_about_content(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Gone { .. })
    }

    /// What the user may do; empty where the error says it.
    #[must_use]
    pub fn advice(&self) -> &str {
        match self {
            Self::Failed { advice, .. } => advice,
            Self::Damaged { .. } | Self::Gone { .. } => {
                "`dynvis push --check` from a machine that has the result sends it again"
            }
            _ => "",
        }
    }
}

/// A store of blobs and records elsewhere.
pub struct Remote {
    url: String,
    backend: Box<dyn Backend>,
    options: Options,
}

impl Remote {
    /// The remote at a place. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`RemoteError::Url`] where the environment's settings for it cannot be understood.
    pub fn open(place: &Place, options: Options) -> Result<Self, RemoteError> {
        let backend: Box<dyn Backend> = match place {
            Place::Folder(folder) => Box::new(folder::Folder::new(folder.clone(), &options)),
            Place::S3 { bucket, prefix } => {
                let s3 = s3::S3::new(bucket, prefix, &options).map_err(|reason| RemoteError::Url {
                    url: place.to_string(),
                    reason,
                })?;
                Box::new(s3)
            }
            Place::Ssh { host, port, folder } => Box::new(ssh::Ssh::new(host, *port, folder, &options)),
        };
        Ok(Self {
            url: place.to_string(),
            backend,
            options,
        })
    }

    /// Where it is, without secrets.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The text of a record; `None` where there is none of that name.
    ///
    /// # Errors
    /// [`RemoteError::Damaged`] where the record is not whole, and those of transfers.
    pub fn record(&self, name: &str) -> Result<Option<String>, RemoteError> {
        check_name(name).map_err(|reason| self.failed(name, reason))?;
        let bytes = self.patiently(name, || {
            let mut bytes = Vec::new();
            let mut take = |more: &[u8]| {
                if (bytes.len() + more.len()) as u64 > LONGEST_RECORD {
                    return Err(Trouble::Damaged("it is too long for a record".into()));
                }
                bytes.extend_from_slice(more);
                Ok(())
            };
            let is_there = self.backend.read(name, 0, &mut take)?;
            Ok(is_there.then_some(bytes))
        })?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        match record::parse(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(reason) => Err(RemoteError::Damaged {
                url: self.url.clone(),
                item: name.to_owned(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// Writes a record; one of that name is replaced. Blobs that it names must be there.
    ///
    /// # Errors
    /// Those of transfers.
    pub fn put_record(&self, name: &str, text: &str) -> Result<(), RemoteError> {
        check_name(name).map_err(|reason| self.failed(name, reason))?;
        let bytes = record::framed(text);
        self.write(name, Content::Bytes(&bytes))
    }

    /// Whether there are records of these names, intact or not.
    ///
    /// # Errors
    /// Those of transfers.
    pub fn has_records(&self, names: &[String]) -> Result<Vec<bool>, RemoteError> {
        let sizes = self.sizes(names)?;
        Ok(sizes.into_iter().map(|size| size.is_some()).collect())
    }

    fn sizes(&self, names: &[String]) -> Result<Vec<Option<u64>>, RemoteError> {
        let item = match names {
            [] => return Ok(Vec::new()),
            [name] => name.clone(),
            [first, ..] => {
                let folder = first.split('/').next().unwrap_or_default();
                format!("{folder}, {} names", names.len())
            }
        };
        self.patiently(&item, || self.backend.sizes(names))
    }

    /// Removes what uploads from here have left there that were given up long ago, as far as that can be done now.
    pub fn tidy(&self) {
        self.backend.tidy();
    }

    fn write(&self, name: &str, content: Content) -> Result<(), RemoteError> {
        let mut patience = Patience::new(self, name);
        let arrived = AtomicU64::new(0);
        loop {
            match self.backend.write(name, content, &arrived) {
                Ok(()) => return Ok(()),
                Err(trouble) => patience.bear(trouble, arrived.load(Ordering::Relaxed))?,
            }
        }
    }

    /// Tries until it succeeds, or will not.
    fn patiently<T>(&self, item: &str, mut attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, RemoteError> {
        let mut patience = Patience::new(self, item);
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(trouble) => patience.bear(trouble, 0)?,
            }
        }
    }

    fn failed(&self, item: &str, reason: String) -> RemoteError {
        RemoteError::Failed {
            url: self.url.clone(),
            item: item.to_owned(),
            reason,
            advice: String::new(),
            is_passing: false,
        }
    }
}

/// Counts tries of one transfer that brought nothing.
struct Patience<'a> {
    remote: &'a Remote,
    item: &'a str,
    fruitless: u32,
    /// Bytes that were there when it last brought something.
    length: u64,
    /// How often it began anew, with fewer.
    restarts: u32,
}

impl<'a> Patience<'a> {
    fn new(remote: &'a Remote, item: &'a str) -> Self {
        Self {
            remote,
            item,
            fruitless: 0,
            length: 0,
            restarts: 0,
        }
    }

    /// Begins with so many bytes.
    fn with(self, length: u64) -> Self {
        Self { length, ..self }
    }

    /// Waits where another try may help. `length` is to how many bytes this one came.
    fn bear(&mut self, trouble: Trouble, length: u64) -> Result<(), RemoteError> {
        let url = || self.remote.url.clone();
        let item = || self.item.to_owned();
        let (reason, pause) = match trouble {
            Trouble::Passing { reason, pause } => (reason, pause),
            Trouble::Lasting { reason, advice } => {
                return Err(RemoteError::Failed {
                    url: url(),
                    item: item(),
                    reason,
                    advice,
                    is_passing: false,
                });
            }
            Trouble::Damaged(reason) => {
                return Err(RemoteError::Damaged {
                    url: url(),
                    item: item(),
                    reason,
                });
            }
            Trouble::Local { action, source } => return Err(RemoteError::Local { action, source }),
        };
        self.fruitless += 1;
        if length >= self.length.saturating_add(LEAST) {
            (self.length, self.fruitless) = (length, 1);
        } else if length < self.length && self.restarts < RESTARTS {
            // A remote that forgets again and again would be sent to without end.
            (self.length, self.restarts) = (length, self.restarts + 1);
        }
        let options = &self.remote.options;
        if self.fruitless > options.retries {
            return Err(RemoteError::Failed {
                url: url(),
                item: item(),
                reason: match self.fruitless {
                    1 => reason,
                    tries => format!("{reason} ({tries} tries)"),
                },
                advice: match self.length {
                    0 => "the same command may succeed later",
                    _ => "what has been transferred stays; the same command goes on there",
                }
                .into(),
                is_passing: true,
            });
        }
        let longer = options.pause.saturating_mul(1 << (self.fruitless - 1).min(16));
        std::thread::sleep(pause.unwrap_or_default().max(longer).min(LONGEST_PAUSE));
        Ok(())
    }
}

/// That a name is one that no place could understand as something else.
fn check_name(name: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        let is_fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_fine)
    };
    match name.split('/').all(is_part) && name.len() < 200 {
        true => Ok(()),
        false => Err("that is no name of a record".into()),
    }
}

/// Does something for every item, several at a time, and gives what came of each, in order.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let count = threads.min(items.len()) - 1;
        let spawned: Vec<_> = (0..count)
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, take).ok())
            .collect();
        let mut all = take();
        for thread in spawned {
            match thread.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for fine in ["runs/kkkk", "results/ab/abcd.1", "a"] {
            assert_eq!(check_name(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "a b", "a\nb", "a'b", "-é",
        ] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_done_side_by_side_comes_in_order() {
        let items: Vec<u32> = (0..100).collect();
        for threads in [1, 3, 200] {
            let doubled = side_by_side(&items, threads, |item| item * 2);
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
