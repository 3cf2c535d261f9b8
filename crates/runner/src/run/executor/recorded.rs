//! Jobs that are recorded in a cache, whoever has submitted them, for those who want to see or end them.

use std::time::SystemTime;

use serde::Serialize;

use super::folder::{Folder, Record};
use super::queue::cluster;
use crate::key::StageKey;
use crate::pipeline::Profile;
use crate::store::{Store, StoreError};

/// A job that is recorded.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedJob {
    /// What it computes.
    pub key: StageKey,
    /// Name of the stage for which it was submitted.
    pub stage: String,
    /// As the queue calls it; none where its answer was lost.
    pub id: Option<String>,
    /// How often it was submitted without getting further.
    pub submissions: u32,
    /// How far it is, by what it has written.
    pub progress: JobProgress,
    /// The node of its last attempt.
    pub host: Option<String>,
    /// Its last sign of life, by the clock of the file system.
    #[serde(skip)]
    pub heard: Option<SystemTime>,
    /// Whether a run attends to it now.
    pub is_attended: bool,
    #[serde(skip)]
    profile: Profile,
}

/// How far a job is, by what it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobProgress {
    /// It has not started.
    Waits,
    /// It has started, and not said that it has ended.
    Started,
    /// It has ended; the next run of its pipeline publishes what it has written, or goes on.
    Ended,
}

/// What the folders of a cache say of its jobs, in order of stage names. The queue is not asked.
///
/// # Errors
/// The locks of the cache cannot be tried.
pub fn recorded_jobs(store: &Store) -> Result<Vec<RecordedJob>, StoreError> {
    let mut jobs = Vec::new();
    for folder in store.job_folders().map(Folder) {
        let Some(record) = folder.record() else { continue };
        let is_attended = store.try_lock(&record.key)?.is_none();
        jobs.push(recorded(&folder, record, is_attended));
    }
    jobs.sort_by(|a, b| a.stage.cmp(&b.stage));
    Ok(jobs)
}

fn recorded(folder: &Folder, record: Record, is_attended: bool) -> RecordedJob {
    let names = folder.names();
    let last = |what| {
        Folder::attempts(&names, what)
            .filter(|attempt| attempt.token == record.token)
            .max()
    };
    let now = last("now");
    let heard = now
        .as_ref()
        .and_then(|attempt| std::fs::metadata(folder.of(attempt, "now")).ok()?.modified().ok());
    RecordedJob {
        progress: match (&now, last("ended")) {
            (None, _) => JobProgress::Waits,
            (Some(now), Some(ended)) if ended >= *now => JobProgress::Ended,
            (Some(_), _) => JobProgress::Started,
        },
        host: now.and_then(|attempt| folder.now(&attempt)).map(|now| now.host),
        heard,
        is_attended,
        profile: Profile {
            commands: record.commands,
            ..Profile::default()
        },
        key: record.key,
        stage: record.stage,
        id: record.id,
        submissions: record.submissions,
    }
}

/// Cancels a job and forgets it. Where the queue does not hear of it the job ends by itself when it finds its folder
/// gone: false.
///
/// # Errors
/// The lock of its key cannot be tried. None where a run attends to the job, which is to be ended then.
pub fn cancel_job(store: &Store, job: &RecordedJob) -> Result<Option<bool>, StoreError> {
    let Some(_lock) = store.try_lock(&job.key)? else {
        return Ok(None);
    };
    let cancelled = job
        .id
        .as_ref()
        .map(|id| cluster(&job.profile).cancel(std::slice::from_ref(id)));
    store.drop_job(&job.key);
    Ok(Some(matches!(cancelled, Some(Ok(())))))
}
