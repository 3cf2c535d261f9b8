//! A remote as a place for results: `results/ab/KEY` is a parcel, `runs/ID` the record of a run.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use dynvis_remote::{Blob, Hash, Options, Place, Remote, RemoteError};
use dynvis_runner::key::{ContentHash, StageKey};
use dynvis_runner::store::{Elsewhere, ElsewhereError, Parcel, RunRecord, StoredFile};

/// Names that are asked for at once.
const AT_ONCE: usize = 500;

pub(crate) struct Shared {
    remote: Remote,
    /// Where it is noted what is being sent.
    state: Option<PathBuf>,
}

/// A result that is to be sent, and where its files are.
pub(crate) type Outgoing = (Parcel, Vec<(StoredFile, PathBuf)>);

/// What became of results that were to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) results: usize,
    /// Files, by their content.
    pub(crate) blobs: usize,
    pub(crate) bytes: u64,
    /// Results that were there already.
    pub(crate) there: usize,
    /// Those among them with other bytes: somebody else's, which stay.
    pub(crate) others: usize,
    /// Blobs that were there and damaged, with `--check`.
    pub(crate) mended: usize,
}

fn name_of(key: &StageKey) -> String {
    format!("results/{}/{}", &key.as_str()[..2], key.as_str())
}

fn hash_of(content: &ContentHash) -> Hash {
    // A content's digits are those of a hash.
    Hash::from_hex(content.as_str()).unwrap_or(Hash::from_bytes([0; 32]))
}

impl Shared {
    pub(crate) fn open(place: &Place, options: Options) -> Result<Self, RemoteError> {
        let state = options.state.clone();
        Remote::open(place, options).map(|remote| Self { remote, state })
    }

    pub(crate) fn url(&self) -> &str {
        self.remote.url()
    }

    /// Which of these keys have a record there.
    pub(crate) fn has(&self, keys: &[StageKey]) -> Result<Vec<bool>, RemoteError> {
        let names: Vec<String> = keys.iter().map(name_of).collect();
        let mut all = Vec::new();
        for names in names.chunks(AT_ONCE) {
            all.extend(self.remote.has_records(names)?);
        }
        Ok(all)
    }

    /// From one cache one process sends at a time, since what is half sent has one name: until the file is dropped that is
    /// this one. `busy` is told where another one has to be waited for.
    pub(crate) fn alone(&self, busy: &mut dyn FnMut()) -> Option<File> {
        let folder = self.state.as_ref()?;
        std::fs::create_dir_all(folder).ok()?;
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(folder.join("lock")).ok()?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            busy();
            file.lock().ok()?;
        }
        Some(file)
    }

    /// The record of a run.
    pub(crate) fn run(&self, id: &str) -> Result<Option<String>, RemoteError> {
        self.remote.record(&format!("runs/{id}"))
    }

    pub(crate) fn put_run(&self, run: &RunRecord) -> Result<(), RemoteError> {
        let text = serde_json::to_string(run).unwrap_or_default();
        self.remote.put_record(&format!("runs/{}", run.id), &text)
    }

    /// Sends results: of each the blobs that are not there, then its record. A record that is damaged, or whose blobs
    /// are not all there, is replaced; one of equal worth stays. With `check` what is there is read and replaced where it
    /// is not what it should be. `done` is told of each result.
    pub(crate) fn send(
        &self,
        outgoing: &[Outgoing],
        check: bool,
        done: &mut dyn FnMut(&Parcel, bool),
    ) -> Result<Sent, RemoteError> {
        self.remote.tidy();
        let mut blobs: BTreeMap<&ContentHash, Blob> = BTreeMap::new();
        for (file, path) in outgoing.iter().flat_map(|(_, files)| files) {
            blobs.entry(&file.hash).or_insert_with(|| Blob {
                hash: hash_of(&file.hash),
                size: file.size,
                file: path.clone(),
            });
        }
        let all: Vec<Blob> = blobs.values().cloned().collect();
        let mut sent = Sent::default();
        let mut there: HashSet<Hash> = HashSet::new();
        for blobs in all.chunks(AT_ONCE) {
            for (blob, is_there) in blobs.iter().zip(self.remote.has(blobs)?) {
                if is_there && check && !self.remote.is_sound(blob)? {
                    sent.mended += 1;
                } else if is_there {
                    there.insert(blob.hash);
                }
            }
        }
        for (parcel, _) in outgoing {
            let name = name_of(&parcel.key);
            let needed = parcel.blobs();
            let missing: Vec<Blob> = needed
                .iter()
                .filter_map(|(hash, _)| blobs.get(hash))
                .filter(|blob| !there.contains(&blob.hash))
                .cloned()
                .collect();
            let theirs = match self.remote.record(&name) {
                Ok(text) => text.and_then(|text| Parcel::parse(&text, &parcel.key).ok()),
                Err(error) if error.is_about_content() => None,
                Err(error) => return Err(error),
            };
            let is_there = match &theirs {
                Some(theirs) if theirs.outputs == parcel.outputs => missing.is_empty(),
                Some(theirs) => {
                    let is_whole = self.is_whole(theirs)?;
                    sent.others += usize::from(is_whole);
                    is_whole
                }
                None => false,
            };
            if is_there {
                sent.there += 1;
                done(parcel, false);
                continue;
            }
            self.remote.send(&missing, &|_| {})?;
            there.extend(missing.iter().map(|blob| blob.hash));
            sent.blobs += missing.len();
            sent.bytes += missing.iter().map(|blob| blob.size).sum::<u64>();
            self.remote.put_record(&name, &parcel.to_text())?;
            sent.results += 1;
            done(parcel, true);
        }
        Ok(sent)
    }

    /// Whether all blobs are there that a parcel names.
    fn is_whole(&self, parcel: &Parcel) -> Result<bool, RemoteError> {
        let blobs: Vec<Blob> = wanted(parcel, Path::new(""));
        for blobs in blobs.chunks(AT_ONCE) {
            if !self.remote.has(blobs)?.iter().all(|is_there| *is_there) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn wanted(parcel: &Parcel, folder: &Path) -> Vec<Blob> {
    let blobs = parcel.blobs().into_iter();
    blobs
        .map(|(content, size)| Blob {
            hash: hash_of(content),
            size,
            file: folder.join(content.as_str()),
        })
        .collect()
}

fn elsewhere(error: &RemoteError) -> ElsewhereError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    ElsewhereError {
        message: format!("{error}{}", cause.unwrap_or_default()),
        advice: error.advice().to_owned(),
        is_about_content: error.is_about_content(),
    }
}

impl Elsewhere for Shared {
    fn name(&self) -> &str {
        self.url()
    }

    fn find(&self, key: &StageKey) -> Result<Option<Parcel>, ElsewhereError> {
        let name = name_of(key);
        let Some(text) = self.remote.record(&name).map_err(|error| elsewhere(&error))? else {
            return Ok(None);
        };
        let refused = |reason| ElsewhereError::of_content(format!("`{name}` of the remote `{}`: {reason}", self.url()));
        Parcel::parse(&text, key).map(Some).map_err(refused)
    }

    fn bring(&self, parcel: &Parcel, folder: &Path) -> Result<(), ElsewhereError> {
        self.remote
            .fetch(&wanted(parcel, folder), &|_| {})
            .map_err(|error| elsewhere(&error))
    }
}
