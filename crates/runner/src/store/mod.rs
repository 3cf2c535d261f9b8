//! Results on disk: content-addressed objects, the journal that makes them count, descriptions, locks, run records.
//!
//! Nothing is ever visible half-written: scratch, fsync, rename, then one journal record, which is the commit point.
//!
//! The journal is text that is only appended to. A database would bring transactions, but no text tool reads it, and
//! damage would not be limited to one line. A file for each result would need no lock to append, but a run with
//! nothing to do would open as many files as there are results. Locks are those of open files: a file with a process
//! id in it outlives that process, and somebody must remove it by hand. The steps, and what a kill at each of them
//! leaves, stand in `docs/design/commit.md`.
//!
//! Layout and format versions live here:
//!
//! ```text
//! cache/
//!   format             version of this layout
//!   journal            one record a line, with length and checksum; append-only
//!   objects/ab/HASH/   files of one output, named by their content
//!   keys/ab/KEY.json   what the key describes, for `plan`, `diff` and people
//!   locks/KEY          held while a key is computed
//!   locks/pool-NAME-N  held while a stage has that unit of a pool; gpu-ID-N: that GiB of a GPU
//!   runs/TIME-ID/      run.json, the pipeline as it was read, one log a stage, what failed stages left, `pin`; `uses` and
//!                      `stages` (those that have ended) while it goes on; `progress`: not the
//!                      store's, how far its stages are, for `watch`
//!   gate               held by runs while they decide and publish, alone by `gc`
//!   scratch/KEY-*/     what running stages write; goes with them
//!   jobs/KEY/          a job that a site's queue has for the key; goes when its result is published or given up
//!   checkpoints/KEY/   how far a stage came that was stopped or killed; goes with its success
//!   arriving/KEY/      files of a result that comes from elsewhere, by their hashes; gone when it is published
//!   uploads/           not the store's: notes of uploads to a remote that were broken off; `lock`
//!   chains/            not the store's: logs of jobs that were submitted as a chain
//!   ends/NAME/         the states that stages ended with which differ in how long they go on alone
//!   benchmarks.jsonl   not the store's: what the program has timed, one JSON object a line
//!   fingerprints.json  stat cache of hashed files
//!   files/HASH         the same of a folder with many files; HASH.N: first bytes of some; .part: while they are read
//!   keys/ab/KEY.files  the files of such folders that the key describes, for `plan` and `why`
//! ```

mod collect;
#[cfg(any(test, fuzzing))]
mod hostile;
mod jobs;
mod journal;
mod objects;
mod parcel;
mod publish;
mod runs;
mod unfinished;
mod verify;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub(crate) use collect::Uses;
pub use collect::{Hold, Policy, Removal, RemovalReason};
#[cfg(any(test, fuzzing))]
pub use hostile::{check_journal, check_manifests, framed};
pub(crate) use jobs::{JOB, content_of, sizes};
pub(crate) use objects::persist;
pub(crate) use parcel::fetch;
pub use parcel::{Elsewhere, ElsewhereError, Parcel, PullError, Pulled, SharedElsewhere};
pub(crate) use runs::RECORD_VERSION;
pub use runs::{
    Execution, GitState, JobExecution, ReportTexts, RunId, RunInput, RunOutput, RunRecord, RunStage, RunStatus,
    StageOutcome, shortest_prefixes,
};
pub use verify::{Damage, Fault};

use crate::key::{ContentHash, FileChanges, FileTree, Fingerprints, StageKey, remembered, write_files};
use crate::kind::{Artifact, Broken, Conditions, Tree};

/// Changes when a file below `cache/` changes its meaning.
const FORMAT: &str = "dynvis cache 1\n";

/// Folder of what is remembered of folders with many files.
const FILES: &str = "files";

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing in the cache failed.
    #[error("cannot {action} in the cache")]
    Io {
        /// What was tried, as `cannot {action} in the cache` says it.
        action: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The cache is of another version of the program.
    #[error("`{path}` is a cache of another version of dynvis ({found})")]
    Format {
        /// The cache's folder.
        path: PathBuf,
        /// What the file `format` in that folder says.
        found: String,
    },
    /// A stage that ended well did not write an output that it declares.
    #[error("output `{slot}` was declared but not written")]
    OutputMissing {
        /// Name of the output's slot.
        slot: String,
    },
    /// What a job wrote is not what arrived here.
    #[error("output `{slot}` is not what its job wrote: the file system gives other bytes here than on the job's node")]
    Transfer {
        /// Name of the output's slot.
        slot: String,
    },
    /// No run of the cache is meant by that reference.
    #[error("no run `{reference}`")]
    NoSuchRun {
        /// As typed: `@-1`, or the beginning of an id.
        reference: String,
    },
    /// Several runs have ids that begin so.
    #[error("`{reference}` could be any of {}", .matches.join(", "))]
    AmbiguousRun {
        /// The beginning of an id, as typed.
        reference: String,
        /// The ids that begin so.
        matches: Vec<String>,
    },
    /// A newer version of the program wrote the run's record.
    #[error("the record of run `{id}` is of a newer version of dynvis ({version})")]
    NewerRun {
        /// Folder of the run.
        id: String,
        /// Version of the record.
        version: u32,
    },
    /// The run's record is not JSON of the right form.
    #[error("the record of run `{id}` is damaged")]
    DamagedRun {
        /// Folder of the run.
        id: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { action, source }
}

/// A file of a stored output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Path relative to the object's folder.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// blake3 of the file's bytes.
    pub hash: ContentHash,
}

/// One output of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutput {
    /// Name of the slot.
    pub slot: String,
    /// What kind of output it is.
    pub artifact: Artifact,
    /// Hash over all files, which names the object's folder.
    pub content: ContentHash,
    /// Every file, in order of the paths.
    pub files: Vec<StoredFile>,
    /// Paths of folders in the output that hold nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<String>,
}

/// A committed result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// What the result is the result of.
    pub key: StageKey,
    /// Name of the stage kind.
    pub kind: String,
    /// The run that published it; of an accepted result the run that computed it.
    pub run: RunId,
    /// How long the stage's process took, in seconds.
    pub seconds: f64,
    /// When the result was published or accepted, as RFC 3339 in UTC.
    pub finished_at: String,
    /// One entry for each output, in the order in which the kind declares them.
    pub outputs: Vec<StoredOutput>,
    /// Declared conditions that held when the result was published.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub ensured: Conditions,
    /// Where a user declared an earlier result to be this key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
    /// How it came here where it was not computed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
}

/// A result that was declared to be up to date, not computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Why, in the user's words.
    pub reason: String,
    /// The key that the result was computed for.
    pub from: StageKey,
}

impl ResultRecord {
    /// The output in the slot of that name.
    pub fn output(&self, slot: &str) -> Option<&StoredOutput> {
        self.outputs.iter().find(|o| o.slot == slot)
    }
}

/// How an attempt that left no result ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The run that tried.
    pub run: RunId,
    /// Whether the user ended the attempt; else it failed.
    pub interrupted: bool,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JournalEntry {
    /// A result is published.
    Result(ResultRecord),
    /// From now on this is the stage's result in that pipeline.
    Current {
        /// The project, unless it is the one that holds the cache, or not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project: Option<String>,
        /// Name of the pipeline.
        pipeline: String,
        /// Name of the stage, with matrix fields.
        stage: String,
        /// Key of the result.
        key: StageKey,
    },
    /// The key's result was held against these conditions after it was published, and they hold.
    Ensured {
        /// Key of the result.
        key: StageKey,
        /// What holds of the result's tables.
        conditions: Conditions,
    },
    /// A stage failed or was interrupted; a later result of the key takes this back.
    Attempt {
        /// The key that was to be computed.
        key: StageKey,
        /// Which run tried, and how it ended.
        attempt: Attempt,
    },
    /// Results whose files were removed to make room; a later result of a key takes this back.
    Collected {
        /// Keys of these results.
        keys: Vec<StageKey>,
    },
}

/// Whether a committed result can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Every file is what was stored.
    Intact,
    /// An output's folder or a file of it is gone or cannot be read, or the key has no result.
    Missing {
        /// Slot of the first output that is not there; empty where the key has no result.
        slot: String,
    },
    /// A file has other bytes, or something lies there that was not stored.
    Damaged {
        /// Slot of the first output that is damaged.
        slot: String,
    },
}

/// An open cache.
pub struct Store {
    root: PathBuf,
    results: HashMap<StageKey, ResultRecord>,
    /// By project, pipeline and stage.
    current: HashMap<(Option<String>, String, String), StageKey>,
    /// Whose cache it is for now: the project's folder, `.` for the one that holds the cache.
    project: Option<String>,
    attempts: HashMap<StageKey, Attempt>,
    ensured: HashMap<StageKey, Vec<Conditions>>,
    collected: HashSet<StageKey>,
    /// The stat cache.
    pub(crate) fingerprints: Fingerprints,
    /// How much of the journal has been read.
    journal_read: u64,
}

impl Store {
    /// Opens the cache at `root`, making it if needed.
    ///
    /// # Errors
    /// [`StoreError::Format`], or the folders or the journal cannot be made or read.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in ["objects", "keys", "locks", "runs", "scratch"] {
            fs_err::create_dir_all(root.join(folder)).map_err(io("make a folder"))?;
        }
        let store = Self::open_existing(root)?;
        if !store.exists() {
            persist(&root.join("format"), FORMAT.as_bytes()).map_err(io("write the format"))?;
        }
        Ok(store)
    }

    /// Opens the cache at `root` to read it. Where there is none, none is made, and the store is empty.
    ///
    /// # Errors
    /// [`StoreError::Format`], or the journal cannot be read.
    pub fn open_existing(root: &Path) -> Result<Self, StoreError> {
        match fs_err::read_to_string(root.join("format")) {
            Ok(found) if found == FORMAT => {}
            Ok(found) => {
                return Err(StoreError::Format {
                    path: root.to_owned(),
                    found: found.trim().to_owned(),
                });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io("read the format")(e)),
        }
        let fingerprints = Fingerprints::load(&root.join("fingerprints.json"));
        let mut store = Self {
            root: root.to_owned(),
            results: HashMap::new(),
            current: HashMap::new(),
            project: None,
            attempts: HashMap::new(),
            ensured: HashMap::new(),
            collected: HashSet::new(),
            fingerprints,
            journal_read: 0,
        };
        store.refresh()?;
        Ok(store)
    }

    /// Whether there is a cache, or only the place of one.
    pub fn exists(&self) -> bool {
        self.root.join("format").exists()
    }

    /// Reads what other processes have appended since the last look.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        let (records, end) =
            journal::read(&self.root.join("journal"), self.journal_read).map_err(io("read the journal"))?;
        self.journal_read = end;
        for record in records {
            self.absorb(record);
        }
        Ok(())
    }

    fn absorb(&mut self, record: JournalEntry) {
        match record {
            JournalEntry::Result(result) => {
                self.attempts.remove(&result.key);
                self.ensured.insert(result.key.clone(), vec![result.ensured.clone()]);
                self.collected.remove(&result.key);
                self.results.insert(result.key.clone(), result);
            }
            JournalEntry::Current {
                project,
                pipeline,
                stage,
                key,
            } => {
                self.current.insert((project, pipeline, stage), key);
            }
            JournalEntry::Ensured { key, conditions } => self.ensured.entry(key).or_default().push(conditions),
            JournalEntry::Attempt { key, attempt } => {
                self.attempts.insert(key, attempt);
            }
            JournalEntry::Collected { keys } => self.collected.extend(keys),
        }
    }

    /// Whether a key's result is known to fulfil these conditions.
    pub(crate) fn is_ensured(&self, key: &StageKey, conditions: &Conditions) -> bool {
        conditions.is_empty() || self.ensured.get(key).is_some_and(|held| held.contains(conditions))
    }

    /// What a key's result lacks of these conditions; its tables are read only where that is not known.
    pub fn broken_condition(&self, key: &StageKey, conditions: &Conditions) -> Option<Broken> {
        if self.is_ensured(key, conditions) {
            return None;
        }
        let result = self.result(key)?;
        conditions.broken(|slot| Some(self.object(&result.output(slot)?.content)))
    }

    /// Appends a record and makes it durable.
    pub(crate) fn commit(&mut self, record: JournalEntry) -> Result<(), StoreError> {
        self.commit_all(&[record])
    }

    /// Appends records in this order and makes them durable. A cut may leave the first ones alone.
    ///
    /// # Errors
    /// The journal cannot be written or read.
    pub fn commit_all(&mut self, records: &[JournalEntry]) -> Result<(), StoreError> {
        journal::append(&self.root.join("journal"), records).map_err(io("append to the journal"))?;
        self.refresh()
    }

    /// The committed result of a key, whether or not its files are still there.
    pub fn result(&self, key: &StageKey) -> Option<&ResultRecord> {
        self.results.get(key)
    }

    /// The key of the stage's present result in that pipeline of the project.
    pub fn current(&self, pipeline: &str, stage: &str) -> Option<&StageKey> {
        let of = |project| self.current.get(&(project, pipeline.to_owned(), stage.to_owned()));
        // What was noted before projects were.
        of(self.project_of_results()).or_else(|| of(None))
    }

    /// That a result is a stage's own from now on.
    pub fn current_entry(&self, pipeline: &str, stage: &str, key: &StageKey) -> JournalEntry {
        JournalEntry::Current {
            project: self.project_of_results(),
            pipeline: pipeline.to_owned(),
            stage: stage.to_owned(),
            key: key.clone(),
        }
    }

    fn project_of_results(&self) -> Option<String> {
        self.project.clone().filter(|project| project != ".")
    }

    /// From now on runs and pipelines are those of the project at `root`. Where it holds the cache it is called `.`, so
    /// that it may be moved.
    pub fn of_project(&mut self, root: &Path) {
        let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
        let (root, cache) = (real(root), real(&self.root));
        self.project = root.map(|root| match cache.as_deref().and_then(Path::parent) {
            Some(holder) if holder == root => ".".to_owned(),
            _ => root.to_string_lossy().into_owned(),
        });
    }

    /// The project that runs are those of, as records call it; `None` before [`of_project`](Self::of_project).
    pub(crate) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The last attempt at a key, if it left no result.
    pub(crate) fn attempt(&self, key: &StageKey) -> Option<&Attempt> {
        self.attempts.get(key)
    }

    /// The cache's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of an output's files.
    pub fn object(&self, content: &ContentHash) -> PathBuf {
        let hash = content.as_str();
        self.root.join("objects").join(hash.get(..2).unwrap_or("__")).join(hash)
    }

    /// Holds every file of a result against its hash, and what lies in its folders against its manifest; unchanged
    /// files are not read.
    pub fn health(&mut self, key: &StageKey) -> Health {
        let Some(result) = self.results.get(key) else {
            return Health::Missing { slot: String::new() };
        };
        for output in &result.outputs {
            let folder = self.object(&output.content);
            for file in &output.files {
                let slot = output.slot.clone();
                match self.fingerprints.file(&folder.join(&file.path)) {
                    Ok(hash) if hash == file.hash => {}
                    Ok(_) => return Health::Damaged { slot },
                    Err(_) => return Health::Missing { slot },
                }
            }
            let slot = output.slot.clone();
            if !folder.is_dir() {
                return Health::Missing { slot };
            }
            // A stage may have left something there, or another program.
            let is_expected = objects::list(&folder).is_ok_and(|listing| {
                let expected = output.files.iter().map(|file| &file.path);
                listing.empty == output.empty && listing.files.iter().eq(expected)
            });
            if !is_expected {
                return Health::Damaged { slot };
            }
        }
        Health::Intact
    }

    /// Keeps the readable form of a key.
    ///
    /// # Errors
    /// The description cannot be written.
    pub fn keep_description(&self, key: &StageKey, description: &Json) -> Result<(), StoreError> {
        let path = self.description_path(key);
        // One that came from elsewhere may be another one.
        if self.description(key).as_ref() == Some(description) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.root);
        fs_err::create_dir_all(parent).map_err(io("make a folder"))?;
        let bytes = serde_json::to_vec_pretty(description).unwrap_or_default();
        // It explains: without it a result is as good, but `why`, `diff` and `plan` have less to say.
        objects::replace(&path, &bytes).map_err(io("write a description"))
    }

    /// The readable form of a key; `None` where none was kept or it cannot be read.
    pub fn description(&self, key: &StageKey) -> Option<Json> {
        let bytes = fs_err::read(self.description_path(key)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the files of large folders that a key describes, where it describes any.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn keep_files(&self, key: &StageKey, trees: &[Arc<FileTree>]) -> Result<(), StoreError> {
        let path = self.files_path(key);
        if trees.is_empty() || path.exists() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.root);
        fs_err::create_dir_all(parent).map_err(io("make a folder"))?;
        objects::replace_by(&path, |out| write_files(trees, out)).map_err(io("write a list of files"))
    }

    /// Whether the files of large folders were kept that a key describes.
    pub(crate) fn has_files(&self, key: &StageKey) -> bool {
        self.files_path(key).exists()
    }

    /// Forgets the files of large folders that a key describes.
    fn drop_files(&self, key: &StageKey) {
        // Best effort: nothing depends on it.
        let _ = std::fs::remove_file(self.files_path(key));
    }

    /// How the files of a large folder differ from those that a key describes; `None` where they were not kept.
    pub(crate) fn file_changes(&self, key: &StageKey, now: &FileTree) -> Option<FileChanges> {
        FileChanges::since(&self.files_path(key), now)
    }

    fn description_path(&self, key: &StageKey) -> PathBuf {
        self.of_key(key, "json")
    }

    fn files_path(&self, key: &StageKey) -> PathBuf {
        self.of_key(key, "files")
    }

    fn of_key(&self, key: &StageKey, extension: &str) -> PathBuf {
        let name = key.as_str();
        self.root
            .join("keys")
            .join(name.get(..2).unwrap_or("__"))
            .join(format!("{name}.{extension}"))
    }

    /// Where the hashes of a folder's files are remembered.
    pub(crate) fn file_hashes(&self, tree: &Tree) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        for part in [tree.folder.as_os_str().as_encoded_bytes(), tree.rule.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let name = hasher.finalize().to_hex();
        self.root.join(FILES).join(name.get(..32).unwrap_or(&name))
    }

    /// Where the first bytes are remembered that a folder's rule asks for the n-th time, from 0.
    pub(crate) fn file_heads(&self, tree: &Tree, n: usize) -> PathBuf {
        self.file_hashes(tree).with_extension(n.to_string())
    }

    /// How many files of a folder are remembered; 0 where nobody has looked at it.
    pub(crate) fn remembered_files(&self, tree: &Tree) -> usize {
        remembered(&self.file_hashes(tree))
    }

    /// Makes a place for what is remembered of folders, be there a cache or not.
    pub(crate) fn make_room_for_file_hashes(&self) {
        // Where it cannot be made, nothing is remembered.
        let _ = std::fs::create_dir_all(self.root.join(FILES));
    }

    /// Takes the right to compute a key; `None` while another process has it. The kernel drops it with the process.
    ///
    /// # Errors
    /// The lock file cannot be opened, or the file system has no locks.
    pub fn try_lock(&self, key: &StageKey) -> Result<Option<File>, StoreError> {
        try_exclusive(self.lock_file(key.as_str())?)
    }

    fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.root.join("locks").join(name);
        let mut options = std::fs::OpenOptions::new();
        match options.create(true).truncate(false).write(true).open(&path) {
            // Another user's: to read is enough to lock it.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => File::open(&path).map_err(|_| e),
            opened => opened,
        }
        .map_err(io("open a lock"))
    }

    /// Takes `count` of the `size` units that go by a name, for as long as the locks live; `None` while others, in this
    /// process or another one, have too many of them.
    pub(crate) fn try_units(&self, name: &str, size: usize, count: usize) -> Result<Option<Vec<File>>, StoreError> {
        let mut units = Vec::new();
        for index in 0..size {
            // Until there are enough, or cannot be.
            if units.len() == count || units.len() + (size - index) < count {
                break;
            }
            units.extend(try_exclusive(self.lock_file(&format!("{name}-{index}"))?)?);
        }
        Ok((units.len() == count).then_some(units))
    }

    fn entries(&self, folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = std::fs::read_dir(self.root.join(folder));
        entries.into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// Writes the stat cache back, if files were hashed since it was read.
    pub(crate) fn save_fingerprints(&self) -> Result<(), StoreError> {
        match self.fingerprints.to_save() {
            // It can be made again.
            Some(bytes) => {
                objects::replace(&self.root.join("fingerprints.json"), &bytes).map_err(io("write the stat cache"))
            }
            None => Ok(()),
        }
    }
}

fn try_exclusive(file: File) -> Result<Option<File>, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(e)) => Err(io("take a lock")(e)),
    }
}
