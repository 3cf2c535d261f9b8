//! One run, looked at again and again.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dynvis_runner::store::{RunRecord, RunStatus, Store, StoreError};

use super::tail::Tail;
use super::view::{Seen, View};

/// Runs that are asked whether they go on, from the last one.
const ASKED: usize = 1000;

pub(super) struct Follower {
    store: Store,
    folder: PathBuf,
    run: RunRecord,
    /// Of the record: it is read again when it has changed.
    stamp: Option<(SystemTime, u64)>,
    tail: Tail,
    here: String,
}

impl Follower {
    pub(super) fn new(store: Store, folder: PathBuf, run: RunRecord) -> Self {
        Self {
            stamp: stamp(&folder),
            tail: Tail::of(&folder),
            here: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            store,
            folder,
            run,
        }
    }

    /// How the run stands now. Reads alone.
    pub(super) fn view(&mut self) -> View {
        // Before all else: what is written before the lock goes is then seen.
        let is_alive = self.run.status == RunStatus::Running && self.store.is_alive(&self.folder);
        self.tail.refresh();
        let stamp = stamp(&self.folder);
        // Without a file of its progress (an old run), stages that have ended stand beside the record.
        if stamp != self.stamp || (!self.tail.exists() && self.run.status == RunStatus::Running) {
            // It is replaced as a whole; one that cannot be read now may be in a moment.
            if let Ok(run) = self.store.read_run(&self.folder) {
                (self.run, self.stamp) = (run, stamp);
            }
        }
        View::of(&Seen {
            folder: &self.folder,
            run: &self.run,
            tail: &self.tail,
            is_alive,
            here: &self.here,
            now: SystemTime::now(),
        })
    }
}

fn stamp(folder: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(folder.join("run.json")).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The project's youngest run that goes on; none where none does.
pub(super) fn going_on(store: &Store) -> Result<Option<(PathBuf, RunRecord)>, StoreError> {
    let folders = store.run_folders()?;
    let alive = folders
        .into_iter()
        .rev()
        .take(ASKED)
        .filter(|(_, folder)| store.is_alive(folder));
    Ok(alive
        .filter_map(|(_, folder)| Some((store.read_run(&folder).ok()?, folder)))
        .find(|(run, _)| store.is_own(run))
        .map(|(run, folder)| (folder, run)))
}
