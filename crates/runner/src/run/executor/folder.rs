//! What submitter and nodes tell each other: files in the folder of a job, on a file system that they share.
//!
//! ```text
//! cache/jobs/KEY/
//!   job.json       the record: which submission counts, its id once that is known, what it asks for
//!   spec.json      what the worker is to do
//!   log            what setup and worker say on standard error
//!   stop           there when it is to end for good
//!   ATTEMPT.now    overwritten while the attempt is alive: a count, the job's id, how far it is
//!   ATTEMPT.said   lines that are to be seen, appended
//!   ATTEMPT.out/   a folder for each output
//!   ATTEMPT.ended  how it ended; renamed into place, durable
//! ```
//!
//! An attempt is called by its submission and by how often the queue has started that. Each writes into files of its
//! own, so that one whose node was thought to be dead harms no other.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::key::{ContentHash, StageKey};
use crate::kind::{StageError, Update};
use crate::pipeline::{Commands, JobOptions};
use crate::store::{JOB, persist};

/// Changes when a record changes its meaning.
pub(super) const VERSION: u32 = 1;

/// A job, from before it is submitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) key: StageKey,
    pub(super) stage: String,
    pub(super) family: String,
    /// The submission that counts: part of the job's name. Jobs of others end when they find that.
    pub(super) token: String,
    /// Which task of an array it is.
    pub(super) task: Option<u32>,
    /// As the queue calls it; none until it is known that the queue has it.
    pub(super) id: Option<String>,
    pub(super) submissions: u32,
    /// User id of whoever submitted it.
    #[serde(default)]
    pub(super) user: Option<u32>,
    /// What it asks for.
    pub(super) options: JobOptions,
    pub(super) gpus: usize,
    /// The queue's commands; none of Slurm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commands: Option<Commands>,
    /// Seconds before its time limit at which a job asks itself to end, where the queue sends no signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<u32>,
    pub(super) keeps_checkpoints: bool,
    /// It is computed though its key has a result, which therefore does not make the job's folder one that is left over.
    #[serde(default)]
    pub(super) is_forced: bool,
    /// Seconds between two signs of life.
    pub(super) beat: f64,
    /// What it reads of the store, which is not collected meanwhile.
    pub(super) inputs: Vec<ContentHash>,
    /// What of a checkpoint was there when it was submitted.
    pub(super) checkpoint: Option<String>,
    /// Versions of the program and of the stage kind's code.
    pub(super) program: String,
    pub(super) code: u32,
}

/// An attempt that is alive.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(super) struct Now {
    pub(super) count: u64,
    pub(super) job: String,
    pub(super) host: String,
    pub(super) update: Option<Update>,
    /// Why it has ended and could not say how.
    #[serde(default)]
    pub(super) trouble: Option<String>,
}

/// A line that is to be seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Line {
    Milestone(Update),
    Note(String),
}

/// How an attempt ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    /// What the worker said last.
    pub(super) said: Option<Result<(), StageError>>,
    /// The status of its process, as the system gives it.
    pub(super) status: i32,
    pub(super) job: String,
    pub(super) host: String,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_bytes: u64,
    /// What it wrote, where it came to its end.
    pub(super) outputs: Vec<Written>,
    /// Where it was asked to end before that.
    pub(super) stopped: Option<Stopped>,
}

impl Ended {
    /// Whether all of the work was done.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.said, Some(Ok(()))) && self.stopped.is_none()
    }
}

/// An output, as the node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) slot: String,
    pub(super) content: ContentHash,
    /// Paths and lengths of its files.
    pub(super) files: Vec<(String, u64)>,
}

/// An attempt that ended before its work did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    /// A checkpoint was written since it was submitted.
    pub(super) has_progressed: bool,
    /// The queue has it again.
    pub(super) is_requeued: bool,
}

/// An attempt: the submission, and how often the queue has started it before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt {
    pub(super) token: String,
    pub(super) restart: u32,
}

impl Attempt {
    fn parse(stem: &str) -> Option<Self> {
        let (token, restart) = stem.split_once('.')?;
        Some(Self {
            token: token.to_owned(),
            restart: restart.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.token, self.restart)
    }
}

/// A job's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    pub(super) fn of(&self, attempt: &Attempt, what: &str) -> PathBuf {
        self.0.join(format!("{attempt}.{what}"))
    }

    pub(super) fn record(&self) -> Option<Record> {
        let record: Record = serde_json::from_slice(&std::fs::read(self.0.join(JOB)).ok()?).ok()?;
        (record.version == VERSION).then_some(record)
    }

    /// Whether another submission counts, or none: as far as that can be told now.
    pub(super) fn is_of_another(&self, token: &str) -> bool {
        match std::fs::read(self.0.join(JOB)) {
            Ok(bytes) => serde_json::from_slice(&bytes).is_ok_and(|record: Record| record.token != token),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Whether the queue has started it again since, on a node that took this one for dead.
    pub(super) fn is_overtaken(&self, attempt: &Attempt) -> bool {
        let names = self.names();
        Self::attempts(&names, "now").any(|other| other.token == attempt.token && other.restart > attempt.restart)
    }

    /// Makes it durable that this is so.
    pub(super) fn keep(&self, record: &Record) -> std::io::Result<()> {
        fs_err::create_dir_all(&self.0)?;
        persist(&self.0.join(JOB), &serde_json::to_vec_pretty(record)?)
    }

    /// Names of what is in it. A folder that is listed is looked at anew, also where the file system remembers for a
    /// while that a file was not there.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Attempts that have left a file of this kind, among these names.
    pub(super) fn attempts<'a>(names: &'a BTreeSet<String>, what: &'a str) -> impl Iterator<Item = Attempt> + 'a {
        let stems = names
            .iter()
            .filter_map(move |name| name.strip_suffix(what)?.strip_suffix('.'));
        stems.filter_map(Attempt::parse)
    }

    pub(super) fn ended(&self, attempt: &Attempt) -> Option<Ended> {
        serde_json::from_slice(&std::fs::read(self.of(attempt, "ended")).ok()?).ok()
    }

    pub(super) fn keep_ended(&self, attempt: &Attempt, ended: &Ended) -> std::io::Result<()> {
        persist(&self.of(attempt, "ended"), &serde_json::to_vec(ended)?)
    }

    /// How far an attempt is. One that is being written is none.
    pub(super) fn now(&self, attempt: &Attempt) -> Option<Now> {
        serde_json::from_slice(&std::fs::read(self.of(attempt, "now")).ok()?).ok()
    }

    pub(super) fn is_to_stop(&self) -> bool {
        self.0.join("stop").exists()
    }

    pub(super) fn ask_to_stop(&self) -> std::io::Result<()> {
        fs_err::write(self.0.join("stop"), "")
    }

    pub(super) fn unask(&self) {
        // It is not there as a rule.
        let _ = std::fs::remove_file(self.0.join("stop"));
    }
}

/// Overwrites a small file in place: no name changes, which would cost a shared file system more.
pub(super) fn overwrite(file: &std::fs::File, now: &Now) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(now)?;
    file.write_all_at(&bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

/// Appends a line, whole or not at all as far as the file system grants that.
pub(super) fn append(mut file: &std::fs::File, line: &Line) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// What of a checkpoint is there: another text after it was written again. Times are compared with each other only, never
/// with this machine's.
pub(super) fn stamp(checkpoint: &Path) -> Option<String> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(checkpoint).ok()?.flatten() {
        if let Ok(metadata) = entry.metadata() {
            let time = (metadata.mtime(), metadata.mtime_nsec());
            seen.push((entry.file_name().to_string_lossy().into_owned(), metadata.len(), time));
        }
    }
    seen.sort();
    (!seen.is_empty()).then(|| format!("{seen:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_known_by_their_files() {
        let names = [
            "job.json",
            "ab12.0.now",
            "ab12.10.now",
            "ab12.2.ended",
            "x.now",
            ".now",
            "log",
        ];
        let names = names.map(str::to_owned).into_iter().collect();
        let of = |what| {
            Folder::attempts(&names, what)
                .map(|a| a.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("now"), ["ab12.0", "ab12.10"]);
        assert_eq!(of("ended"), ["ab12.2"]);
        let last = Folder::attempts(&names, "now").max();
        assert_eq!(last.map(|attempt| attempt.restart), Some(10));
    }

    #[test]
    fn a_shorter_sign_of_life_leaves_nothing_of_a_longer_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = Folder(folder.path().to_owned());
        let attempt = Attempt {
            token: "t".to_owned(),
            restart: 0,
        };
        let file = fs_err::File::create(folder.of(&attempt, "now"))
            .expect("made")
            .into_parts()
            .0;
        for host in ["a-machine-with-a-long-name", "b"] {
            let now = Now {
                count: 1,
                job: "7".to_owned(),
                host: host.to_owned(),
                update: None,
                trouble: None,
            };
            overwrite(&file, &now).expect("written");
            assert_eq!(folder.now(&attempt), Some(now));
        }
    }
}
