//! A file that is not complete yet: `NAME.part` beside where it will be, and what is known of it in `NAME.part.json`.

use std::fs::TryLockError;
use std::io::{Error, ErrorKind, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::checksum::{Hashing, each_block};

/// What the server said of the bytes that are there, so that only bytes of the same file are put behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Origin {
    pub(crate) address: String,
    /// A strong `ETag`, or `Last-Modified`.
    pub(crate) version: Option<String>,
}

/// The part of a file, which no other process writes as long as this lives.
pub(crate) struct Part {
    target: PathBuf,
    path: PathBuf,
    file: std::fs::File,
    length: u64,
}

/// `NAME.part` of `NAME`.
pub(crate) fn part_of(target: &Path) -> PathBuf {
    with_ending(target, ".part")
}

fn origin_of(target: &Path) -> PathBuf {
    with_ending(target, ".part.json")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Part {
    /// Opens the part of a file, with what an earlier call left, or makes an empty one. `None` if another process holds
    /// it.
    pub(crate) fn open(target: &Path) -> Result<Option<Self>> {
        let path = part_of(target);
        match fs_err::symlink_metadata(&path) {
            // A pipe or a device would block, and a link lead elsewhere.
            Ok(metadata) if !metadata.is_file() => {
                let what = format!("`{}` is no regular file; move it away", path.display());
                return Err(Error::new(ErrorKind::InvalidInput, what));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs_err::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let file = file.into_file();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Some network file systems have no locks: then two processes are on their own.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(named(&path, error)),
        }
        let opened = file.metadata()?;
        // Whoever had the lock may have completed and renamed this file between our opening and our lock.
        match fs_err::metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) == (opened.dev(), opened.ino()) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(Self {
            target: target.to_owned(),
            path,
            length: opened.len(),
            file,
        }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// What is known of the bytes that are there.
    pub(crate) fn origin(&self) -> Origin {
        let text = dynvis_base::files::read_to_string(&origin_of(&self.target)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Notes where the bytes that follow come from. Without that, they are only taken up again by their checksums.
    pub(crate) fn set_origin(&self, origin: &Origin) -> Result<()> {
        let text = serde_json::to_string(origin).map_err(Error::other)?;
        fs_err::write(origin_of(&self.target), text)
    }

    /// Throws the bytes away.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|error| named(&self.path, error))?;
        self.length = 0;
        Ok(())
    }

    /// Puts the next bytes behind those that are there.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(self.length));
        let written = written.and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| named(&self.path, error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Takes the bytes that are there into checksums. `is_over` ends it with [`ErrorKind::Interrupted`].
    pub(crate) fn hash(&mut self, hashing: &mut Hashing, is_over: &dyn Fn() -> bool) -> Result<()> {
        let read = self.file.rewind().and_then(|()| {
            each_block(&self.file, |block| {
                if is_over() {
                    return Err(ErrorKind::Interrupted.into());
                }
                hashing.update(block);
                Ok(())
            })
        });
        read.map_err(|error| named(&self.path, error))
    }

    /// Makes it the file itself, durably.
    pub(crate) fn complete(self) -> Result<()> {
        self.file.sync_all().map_err(|error| named(&self.path, error))?;
        fs_err::rename(&self.path, &self.target)?;
        remove_if_there(&origin_of(&self.target))?;
        sync_folder(&self.target)
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Result<()> {
        remove_if_there(&origin_of(&self.target))?;
        remove_if_there(&self.path)
    }
}

fn named(path: &Path, error: Error) -> Error {
    Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the names in a file's folder durable.
pub(crate) fn sync_folder(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs_err::File::open(folder)?.sync_all()
}
