//! Folders of jobs: what a site's queue computes for a key, from before it is submitted until its result is published
//! or given up. Whoever finds such a folder, with the key's lock, takes the job over; nobody computes the key beside it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Store;
use super::objects::{hash_folder, list};
use crate::key::{ContentHash, StageKey};

/// The record in a job's folder. Without it the folder counts for nothing.
pub(crate) const JOB: &str = "job.json";

/// What the store reads of a job's record.
#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    inputs: Vec<ContentHash>,
    #[serde(default)]
    is_forced: bool,
}

/// Whether the job of a folder is computed though its key has a result.
pub(super) fn is_forced(folder: &Path) -> bool {
    let record = std::fs::read(folder.join(JOB)).ok();
    let known = record.and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
    known.is_some_and(|known| known.is_forced)
}

impl Store {
    /// Where a job for a key keeps everything. Made by whoever submits it, who must have the key's lock.
    pub(crate) fn job_folder(&self, key: &StageKey) -> PathBuf {
        self.root.join("jobs").join(key.as_str())
    }

    /// Whether a job for the key is recorded. The key must be locked, else it may come or go.
    pub(crate) fn has_job(&self, key: &StageKey) -> bool {
        self.job_folder(key).join(JOB).is_file()
    }

    /// Forgets a job: one that still waits or runs ends by itself when it finds that. The key must be locked.
    pub(crate) fn drop_job(&self, key: &StageKey) {
        let folder = self.job_folder(key);
        // The record first: a folder that is half removed is no job's.
        let _ = std::fs::remove_file(folder.join(JOB));
        // Best effort: `sweep` tries again.
        let _ = std::fs::remove_dir_all(folder);
    }

    /// Folders of all jobs.
    pub(crate) fn job_folders(&self) -> impl Iterator<Item = PathBuf> + use<> {
        self.entries("jobs")
    }

    /// Contents that jobs read. Nobody may be there who notes them as used.
    pub(super) fn inputs_of_jobs(&self) -> HashSet<ContentHash> {
        let records = self
            .entries("jobs")
            .filter_map(|folder| std::fs::read(folder.join(JOB)).ok());
        records
            .filter_map(|bytes| serde_json::from_slice::<Known>(&bytes).ok())
            .flat_map(|record| record.inputs)
            .collect()
    }
}

/// The name under which a folder's files would be published.
pub(crate) fn content_of(folder: &Path) -> std::io::Result<ContentHash> {
    hash_folder(folder).map(|content| content.hash)
}

/// Files below a folder with their lengths in bytes, in order of their paths.
pub(crate) fn sizes(folder: &Path) -> std::io::Result<Vec<(String, u64)>> {
    let paths = list(folder)?.files.into_iter();
    paths
        .map(|path| {
            let size = fs_err::metadata(folder.join(&path))?.len();
            Ok((path, size))
        })
        .collect()
}
