//! Work of stages beside their results: scratch folders, checkpoints, the states that stages ended with, and how what is
//! left of them goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::jobs::is_forced;
use super::{Health, Store, StoreError, io};
use crate::key::StageKey;

/// How long a checkpoint waits for the run that goes on with it.
const CHECKPOINTS_KEPT: Duration = Duration::from_hours(24 * 90);

impl Store {
    /// A fresh folder for work in progress, on the same file system as the objects. The key must be locked.
    pub(crate) fn scratch(&self, key: &StageKey) -> Result<tempfile::TempDir, StoreError> {
        tempfile::Builder::new()
            .prefix(&format!("{}-", key.as_str()))
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .tempdir_in(self.root.join("scratch"))
            .map_err(io("make a scratch folder"))
    }

    /// Where a stage may keep what lets a later attempt at the same key go on. Made by the stage that writes there.
    pub(crate) fn checkpoint(&self, key: &StageKey) -> PathBuf {
        self.root.join("checkpoints").join(key.as_str())
    }

    /// Whether an earlier attempt left a checkpoint.
    pub(crate) fn has_checkpoint(&self, key: &StageKey) -> bool {
        self.checkpoint(key).is_dir()
    }

    /// Forgets how far earlier attempts came. The key must be locked.
    pub(crate) fn drop_checkpoint(&self, key: &StageKey) {
        // Best effort: it lies apart from every result, and `sweep` tries again.
        let _ = std::fs::remove_dir_all(self.checkpoint(key));
    }

    /// Where stages that differ in how long they go on alone may keep the states that they end with. Made by the stage
    /// that writes there.
    pub(crate) fn ends(&self, lineage: &StageKey) -> PathBuf {
        self.root.join("ends").join(lineage.as_str())
    }

    /// Forgets where stages of a lineage ended.
    pub(crate) fn drop_ends(&self, lineage: &StageKey) {
        // Best effort, as with checkpoints: one that is left is held against its own hash.
        let _ = std::fs::remove_dir_all(self.ends(lineage));
    }

    /// Removes what killed runs left behind: scratch folders, checkpoints, jobs and arrivals of keys that have a result since, and
    /// those that nobody went on with for 90 days; and ends of stages, logs of chains and notes of uploads from before
    /// then. Leaves alone what is in use.
    pub fn sweep(&mut self) {
        for path in self
            .entries("ends")
            .filter(|path| is_older_than(path, CHECKPOINTS_KEPT))
        {
            // Best effort, as nothing depends on it.
            let _ = std::fs::remove_dir_all(&path);
        }
        let is_log = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
        // The file that uploads lock is none of these.
        let is_note = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 32);
        let logs = self.entries("chains").filter(is_log);
        for path in logs.chain(self.entries("uploads").filter(is_note)) {
            if is_older_than(&path, CHECKPOINTS_KEPT) {
                let _ = std::fs::remove_file(&path);
            }
        }
        for folder in ["scratch", "checkpoints", "jobs", "arriving"] {
            for path in self.entries(folder) {
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
                let text = name.as_deref().and_then(|name| name.split('-').next());
                let Some(key) = text.and_then(StageKey::parse) else {
                    continue;
                };
                // A job goes on without whoever submitted it, and writes into a folder of its own.
                let is_stale = folder == "scratch" || self.is_stale(&key, &path);
                // Whoever holds the lock uses it; and may have done so a moment ago, hence the second look.
                if is_stale
                    && let Ok(Some(_lock)) = self.try_lock(&key)
                    && (folder == "scratch" || self.is_stale(&key, &path))
                {
                    // Best effort, as nothing depends on it.
                    let _ = std::fs::remove_dir_all(&path);
                }
            }
        }
    }

    /// Whether nothing will go on from a key's checkpoint or job.
    fn is_stale(&mut self, key: &StageKey, folder: &Path) -> bool {
        is_older_than(folder, CHECKPOINTS_KEPT) || (self.health(key) == Health::Intact && !is_forced(folder))
    }
}

/// Whether nothing was written into a folder for that long.
fn is_older_than(folder: &Path, age: Duration) -> bool {
    std::fs::metadata(folder)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed > age))
}
