//! Content hashes of files outside the store, remembered by (device, inode, size, mtime, ctime).
//!
//! A file whose five numbers are unchanged is not read again; that is what makes a no-op read no data.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::ContentHash;
use dynvis_base::files;

/// A file that could not be read while it was hashed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{path}`")]
pub struct FingerprintError {
    /// The file that could not be read.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: std::io::Error,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

impl From<&std::fs::Metadata> for Stat {
    fn from(meta: &std::fs::Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl From<&rustix::fs::Stat> for Stat {
    fn from(stat: &rustix::fs::Stat) -> Self {
        let nanoseconds = |s, ns| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: dynvis_base::platform::device(stat),
            inode: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Nanoseconds since 1970.
pub(super) fn present_ns() -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as i128
}

impl Stat {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        Ok(Self::from(&fs_err::metadata(path)?))
    }

    /// Whether any later change than at that time shows in these numbers: every edit sets the time of change to the
    /// present.
    pub(super) fn is_settled_at(&self, now_ns: i128) -> bool {
        now_ns >= self.changed_ns + SETTLED_AFTER.as_nanos() as i128
    }
}

/// What a file or folder was when it was looked at. One that was changed and changed back since is another: whatever
/// writes or replaces it sets the time of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileObservation {
    stat: Stat,
    /// Of the link, where it is one: it may have led elsewhere for a while.
    link: Option<Stat>,
}

impl FileObservation {
    /// What is at a path now: the file or folder itself, and the link where the path is one.
    ///
    /// # Errors
    /// Nothing is there, or it cannot be looked at.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let own = fs_err::symlink_metadata(path)?;
        Ok(Self {
            stat: Stat::of(path)?,
            link: own.is_symlink().then(|| Stat::from(&own)),
        })
    }
}

/// Coarsest time stamps in use, and some.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    stat: Stat,
    hash: ContentHash,
}

/// The stat cache: path -> what it was and what it hashed to.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    known: BTreeMap<PathBuf, Known>,
    changed: bool,
}

impl Fingerprints {
    /// Reads the cache; anything unreadable counts as empty, since it can be made again.
    pub(crate) fn load(path: &Path) -> Self {
        let known = files::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self { known, changed: false }
    }

    /// What to write back, if anything was hashed anew.
    pub(crate) fn to_save(&self) -> Option<Vec<u8>> {
        self.changed
            .then(|| serde_json::to_vec(&self.known).unwrap_or_default())
    }

    /// Hash of a file's bytes; read only where the file is not known to be unchanged.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn file(&mut self, path: &Path) -> Result<ContentHash, FingerprintError> {
        let error = |source| FingerprintError {
            path: path.to_owned(),
            source,
        };
        let before = Stat::of(path).map_err(error)?;
        if let Some(known) = self.known.get(path)
            && known.stat == before
        {
            return Ok(known.hash.clone());
        }
        let hash = hash_file(path).map_err(error)?;
        // A file that changes while it is read gets no entry; its stage will notice when it verifies its inputs. Nor
        // does one that has just changed: times are coarse, so another edit might not show in them.
        if Stat::of(path).map_err(error)? == before && before.is_settled_at(present_ns()) {
            self.known.insert(
                path.to_owned(),
                Known {
                    stat: before,
                    hash: hash.clone(),
                },
            );
            self.changed = true;
        }
        Ok(hash)
    }

    /// Bytes that [`file`](Self::file) would have to read.
    pub(crate) fn unread_bytes(&self, path: &Path) -> u64 {
        match (Stat::of(path), self.known.get(path)) {
            (Ok(stat), Some(known)) if known.stat == stat => 0,
            (Ok(stat), _) => stat.size,
            (Err(_), _) => 0,
        }
    }

    /// Notes the hash of a file that was just written, so that it need not be read again.
    pub(crate) fn remember(&mut self, path: &Path, hash: &ContentHash) {
        if let Ok(stat) = Stat::of(path) {
            let hash = hash.clone();
            self.known.insert(path.to_owned(), Known { stat, hash });
            self.changed = true;
        }
    }
}

/// blake3 of a file's bytes, read in pieces.
///
/// # Errors
/// The file cannot be read, or is no regular one.
pub(crate) fn hash_file(path: &Path) -> std::io::Result<ContentHash> {
    Ok(ContentHash::new(&hash_of_file(path)?))
}

/// [`hash_file`] in its short form.
pub(super) fn hash_of_file(path: &Path) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut file = files::open(path)?;
    hasher.update_reader(&mut file)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_the_hash_and_an_untouched_file_is_not_read_again() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x");
        fs_err::write(&path, b"one").expect("write");
        let mut cache = Fingerprints::default();
        let first = cache.file(&path).expect("hash");
        assert!(
            cache.to_save().is_none(),
            "an edit within the same tick of the clock would not show"
        );
        std::thread::sleep(SETTLED_AFTER);
        assert_eq!(first, cache.file(&path).expect("again"));
        let saved = folder.path().join("stat");
        fs_err::write(&saved, cache.to_save().expect("changed")).expect("save");
        let mut reloaded = Fingerprints::load(&saved);
        assert_eq!(first, reloaded.file(&path).expect("known"));
        assert!(reloaded.to_save().is_none(), "nothing was hashed anew");
        fs_err::write(&path, b"two").expect("edit");
        assert_ne!(first, reloaded.file(&path).expect("changed"));
    }
}
