//! What a place must be able to do.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// A download slower than this, in bytes a second, counts as broken.
const LEAST_RATE: u64 = 1024;

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another try may help, perhaps after a pause that the server asks for.
    Passing { reason: String, pause: Option<Duration> },
    /// No other try helps.
    Lasting { reason: String, advice: String },
    /// What is there is not what was sent.
    Damaged(String),
    /// This machine is at fault.
    Local { action: String, source: std::io::Error },
}

impl Trouble {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing {
            reason: reason.into(),
            pause: None,
        }
    }

    pub(crate) fn lasting(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Lasting {
            reason: reason.into(),
            advice: advice.into(),
        }
    }

    pub(crate) fn local(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        |source| Self::Local { action, source }
    }
}

/// What is to be written.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    /// A file on this machine, and its size in bytes.
    File(&'a Path, u64),
}

impl Content<'_> {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// The error where a file has not as many bytes as it had.
    pub(crate) fn is_short() -> Trouble {
        let short = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a file is shorter than it was");
        Trouble::local("read what is to be sent")(short)
    }

    /// The bytes from a place on.
    pub(crate) fn from(&self, place: u64) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
                Box::new(&bytes[start..])
            }
            Self::File(path, size) => {
                let mut file = dynvis_base::files::open(path)?;
                file.seek(SeekFrom::Start(place))?;
                Box::new(file.take(size.saturating_sub(place)))
            }
        })
    }
}

/// Takes bytes as they come.
pub(crate) type Take<'a> = dyn FnMut(&[u8]) -> Result<(), Trouble> + 'a;

/// A place for files by name. Nothing is visible there half-written.
pub(crate) trait Backend: Send + Sync {
    /// The sizes of what is there.
    fn sizes(&self, names: &[String]) -> Result<Vec<Option<u64>>, Trouble>;

    /// The bytes of a file from a place on. False where there is no such file. Bytes may be missing at the end without
    /// an error.
    fn read(&self, name: &str, from: u64, take: &mut Take) -> Result<bool, Trouble>;

    /// Writes a file, replacing what is there. Called again with the same name and content, it goes on where it stopped.
    /// `arrived` is set to the bytes that are known to be there.
    fn write(&self, name: &str, content: Content, arrived: &AtomicU64) -> Result<(), Trouble>;

    /// Removes what uploads from here have left there that were given up long ago, as far as that can be done now.
    fn tidy(&self) {}

    /// Transfers that go side by side.
    fn lanes(&self) -> usize;
}

/// Who sends, in eight digits that are kept beside what is remembered: those of one cache, from whichever machine. Made by
/// the first file that is sent, since asking leaves nothing behind.
pub(crate) struct Sender {
    state: Option<PathBuf>,
    name: OnceLock<String>,
}

impl Sender {
    pub(crate) fn new(state: Option<PathBuf>) -> Self {
        Self {
            state,
            name: OnceLock::new(),
        }
    }

    /// What a file is called while it comes: parts of two senders must not be one.
    pub(crate) fn part_of(&self, name: &str) -> String {
        let sender = self.name.get_or_init(|| self.kept());
        format!("{name}.{sender}.part")
    }

    fn kept(&self) -> String {
        let seed = format!(
            "{} {} {:?}",
            rustix::system::uname().nodename().to_string_lossy(),
            std::process::id(),
            std::time::SystemTime::now()
        );
        let fresh = blake3::hash(seed.as_bytes()).to_hex()[..8].to_owned();
        let Some(folder) = &self.state else {
            return fresh;
        };
        let file = folder.join("sender");
        let is_one = |text: &String| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let kept = || dynvis_base::files::read_to_string(&file).ok().filter(is_one);
        kept().unwrap_or_else(|| {
            // Without it what is half sent is sent anew.
            let _ = fs_err::create_dir_all(folder);
            let _ = dynvis_base::files::persist(&file, fresh.as_bytes());
            kept().unwrap_or(fresh)
        })
    }
}

/// Gives a reader's bytes on as they come. `broken` makes of its error what it means. Where too little comes within
/// `patience` it ends; without, it is waited for.
pub(crate) fn pump(
    reader: &mut dyn Read,
    take: &mut Take,
    patience: Option<Duration>,
    broken: &dyn Fn(std::io::Error) -> Trouble,
) -> Result<(), Trouble> {
    let mut block = vec![0; 1 << 17];
    let (mut since, mut bytes) = (Instant::now(), 0);
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                take(&block[..count])?;
                bytes += count as u64;
                if patience.is_some_and(|patience| since.elapsed() >= patience) {
                    let seconds = since.elapsed().as_secs().max(1);
                    if bytes / seconds < LEAST_RATE {
                        return Err(Trouble::passing(format!("only {bytes} bytes came in {seconds} s")));
                    }
                    (since, bytes) = (Instant::now(), 0);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}
