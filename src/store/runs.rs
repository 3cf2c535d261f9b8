//! Run records: what each run did, found again by id prefix or by `@`, `@-1`.

use std::fmt;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Store, StoreError, io, persist};
use crate::key::{ContentHash, StageKey};
use crate::stage::Artifact;

/// Eight letters; shortest unique prefixes are accepted everywhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RunId(String);

impl RunId {
    /// A fresh id. Letters k to z only, so that ids never look like hashes.
    pub(crate) fn fresh() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        let seed = format!("{now} {} {:p}", std::process::id(), &now);
        let hash = blake3::hash(seed.as_bytes());
        Self(
            hash.as_bytes()[..8]
                .iter()
                .map(|b| char::from(b'k' + (b & 15)))
                .collect(),
        )
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunStatus {
    Running,
    Done,
    Failed,
    Interrupted,
}

/// What became of a stage in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageOutcome {
    /// Nothing to do: the result was there.
    Cached,
    /// An earlier result with the same key became current again.
    Restored,
    Ran,
    Failed,
    /// Something upstream failed or was missing.
    Blocked,
    Interrupted,
    Excluded,
}

/// A filled input slot, by the names that the user knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunInput {
    pub(crate) slot: String,
    pub(crate) stage: String,
    pub(crate) fields: IndexMap<String, Json>,
}

/// An output as a run saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunOutput {
    pub(crate) slot: String,
    pub(crate) artifact: Artifact,
    pub(crate) content: ContentHash,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunStage {
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) fields: IndexMap<String, Json>,
    pub(crate) kind: String,
    pub(crate) outcome: StageOutcome,
    /// Why it ran or did not, as `plan` says it.
    pub(crate) reason: String,
    pub(crate) key: Option<StageKey>,
    /// Why its result, which was not computed, was declared to be up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<String>,
    pub(crate) seconds: Option<f64>,
    pub(crate) inputs: Vec<RunInput>,
    pub(crate) outputs: Vec<RunOutput>,
}

/// One run, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) version: u32,
    pub(crate) id: RunId,
    pub(crate) pipeline: String,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) started_at: String,
    pub(crate) finished_at: Option<String>,
    pub(crate) status: RunStatus,
    pub(crate) seconds: f64,
    pub(crate) dynvis_version: String,
    pub(crate) host: String,
    pub(crate) device: String,
    pub(crate) headline: Option<String>,
    pub(crate) stages: Vec<RunStage>,
}

impl Store {
    /// The folder of a run; sorts by time of start.
    pub(crate) fn new_run_folder(&self, id: &RunId) -> Result<PathBuf, StoreError> {
        let name = format!("{:015}-{id}", jiff::Timestamp::now().as_millisecond());
        let folder = self.root().join("runs").join(name);
        fs_err::create_dir_all(&folder).map_err(io("make a run's folder"))?;
        Ok(folder)
    }

    pub(crate) fn write_run(&self, folder: &std::path::Path, run: &RunRecord) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec_pretty(run).unwrap_or_default();
        persist(&folder.join("run.json"), &bytes).map_err(io("write a run's record"))
    }

    /// Folders of all runs, oldest first, each with its id.
    pub(crate) fn run_folders(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut folders = Vec::new();
        for entry in fs_err::read_dir(self.root().join("runs")).map_err(io("list the runs"))? {
            let path = entry.map_err(io("list the runs"))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            if let Some((_, id)) = name.as_deref().and_then(|n| n.split_once('-'))
                && path.join("run.json").exists()
            {
                folders.push((id.to_owned(), path));
            }
        }
        folders.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(folders)
    }

    pub(crate) fn read_run(&self, folder: &std::path::Path) -> Result<RunRecord, StoreError> {
        let bytes = fs_err::read(folder.join("run.json")).map_err(io("read a run's record"))?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::DamagedRun {
            id: folder.display().to_string(),
            source,
        })
    }

    /// A run by `@` (the last), `@-1` (the one before it), or a prefix of its id.
    pub(crate) fn find_run(&self, reference: &str) -> Result<(PathBuf, RunRecord), StoreError> {
        let folders = self.run_folders()?;
        let missing = || StoreError::NoSuchRun {
            reference: reference.to_owned(),
        };
        let folder = if let Some(back) = reference.strip_prefix('@') {
            let back: usize = match back {
                "" => 0,
                back => back
                    .strip_prefix('-')
                    .and_then(|n| n.parse().ok())
                    .ok_or_else(missing)?,
            };
            folders
                .len()
                .checked_sub(back + 1)
                .map(|i| folders[i].1.clone())
                .ok_or_else(missing)?
        } else {
            let matches: Vec<_> = folders.iter().filter(|(id, _)| id.starts_with(reference)).collect();
            match matches.as_slice() {
                _ if reference.is_empty() => return Err(missing()),
                [] => return Err(missing()),
                [(_, path)] => path.clone(),
                several => {
                    return Err(StoreError::AmbiguousRun {
                        reference: reference.to_owned(),
                        matches: several.iter().map(|(id, _)| id.clone()).collect(),
                    });
                }
            }
        };
        let run = self.read_run(&folder)?;
        Ok((folder, run))
    }
}
