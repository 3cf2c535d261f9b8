//! Brings a selection up to date: decides, starts workers, publishes, records.
//!
//! Truth about a running pipeline lives in one loop (`dispatcher`); reporters only consume its events.
//!
//! Each stage is a process. Threads would save its start, a few milliseconds, but out of memory in one stage would end
//! the run, and a stage could not be killed. One thread owns the state; shared state behind locks would let publishing
//! proceed beside the loop, but every decision would need a lock, and the order of events would not be given. What
//! runs share among each other (keys, pools, GPUs) are locks of files, which the kernel drops with their holder; a
//! server that grants them would have to be started and found. `docs/design/scheduler.md` says more.

mod device;
mod dispatcher;
mod executor;
mod extents;
mod guard;
mod protocol;
mod provenance;
mod ranks;
mod resources;
mod signals;
mod worker;
mod world;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use dispatcher::{QueueOptions, RunOptions, log_path, missing_data, run};
pub use executor::{
    ChainError, ChainOptions, JobProgress, Link, QueueReport, RecordedJob, cancel_job, recorded_jobs,
    report as queue_report, serve_job, submit_chain,
};
pub use extents::extents;
pub use guard::guard;
pub(crate) use guard::run_program;
pub use ranks::{RankArguments, serve_rank};
pub use resources::Gpu;
pub use worker::serve;
use world::changed_since;
pub use world::{StoreWorld, observe};

use crate::key::Reading;
use crate::kind::{ErrorClass, MissingData, StageError, Update};
use crate::pipeline::StageId;
use crate::plan::{Planned, Reason};
use crate::store::{RunId, RunRecord, StageOutcome, StoreError};

/// Exit code of a process of dynvis that panicked, a fault of its own. Rust's code for that, 101, means something else
/// here.
pub const PANICKED: u8 = 70;

/// Exit code of a run that was asked to end before its work was done.
pub const INTERRUPTED: u8 = 130;

/// What happens during a run, in order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    /// The plan is made and the run's folder is there.
    Started {
        /// Id of the run.
        run: &'a RunId,
        /// The run's folder, with its record and logs.
        #[serde(skip)]
        folder: &'a Path,
        /// Every stage, producers before consumers.
        #[serde(skip)]
        plan: &'a [Planned],
        /// How many stages are selected.
        selected: usize,
    },
    /// The worker of a stage was started; once more for every retry, and where a queue starts a job again.
    StageStarted {
        /// Name of the stage.
        stage: &'a str,
        /// The stage's place in the pipeline.
        id: StageId,
        /// Why the stage executes.
        reasons: &'a [Reason],
        /// Processor threads that the stage has leased.
        threads: usize,
        /// GPUs that the stage has leased, as `CUDA_VISIBLE_DEVICES` names them.
        gpus: &'a [String],
        /// Seconds that the stage took the last time; `None` where that is not known.
        #[serde(skip)]
        expected_seconds: Option<f64>,
    },
    /// Files outside are read for the first time, which may take a while.
    Reading {
        /// Name of the stage that reads them.
        stage: &'a str,
        /// How many files: of a folder those that are to be read, of others all, known ones among them.
        files: usize,
        /// Bytes that are to be read now.
        bytes: u64,
    },
    /// Files outside are still read for the first time.
    ReadingGoesOn {
        /// Name of the stage that reads them.
        stage: &'a str,
        /// How far it is.
        #[serde(flatten)]
        reading: Reading,
        /// Seconds since it began.
        seconds: f64,
    },
    /// A queue has taken the stage as a job; it starts later.
    Queued {
        /// Name of the stage.
        stage: &'a str,
        /// The stage's place in the pipeline.
        id: StageId,
        /// The job's id, as the queue prints it.
        job: &'a str,
    },
    /// The queue cannot be asked for now; jobs go on.
    QueueSilent {
        /// Why.
        text: &'a str,
    },
    /// A stage tells how far it is.
    Progress {
        /// Name of the stage.
        stage: &'a str,
        /// The stage's place in the pipeline.
        id: StageId,
        /// What the stage tells.
        update: &'a Update,
    },
    /// A GPU is there that cannot be used; stages compute on others, or on the processor.
    GpuPassedOver {
        /// Which, and why.
        text: &'a str,
    },
    /// A stage tells something that is worth a line of its own.
    Note {
        /// Name of the stage.
        stage: &'a str,
        /// The stage's place in the pipeline.
        id: StageId,
        /// The line.
        text: &'a str,
    },
    /// Another process computes the same key; its result will be shared.
    Waiting {
        /// Name of the stage that waits.
        stage: &'a str,
        /// The stage's place in the pipeline.
        id: StageId,
    },
    /// A stage is settled: nothing more happens to it in this run.
    StageFinished {
        /// Name of the stage.
        stage: &'a str,
        /// The stage's place in the pipeline.
        id: StageId,
        /// What became of the stage.
        outcome: StageOutcome,
        /// Seconds that the stage's last attempt took; `None` where the stage did not execute.
        seconds: Option<f64>,
        /// Why the stage left no result; `None` unless it failed.
        error: Option<&'a Failure>,
    },
    /// The user asked the run to end: nothing new starts.
    Interrupted,
    /// Every stage is settled and the run's record is written.
    Finished {
        /// The whole record.
        record: &'a RunRecord,
    },
}

/// Consumes events; never changes what the run does.
pub trait Reporter {
    /// Takes one event; called from the run's own loop, which waits for it.
    fn event(&mut self, event: &Event);
}

/// Why a stage left no result.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
pub enum Failure {
    /// The stage said so itself.
    #[error("{0}")]
    Stage(StageError),
    /// The stage's process ended and said nothing.
    #[error("its process ended without a result ({status})")]
    Crashed {
        /// How the process ended, as the system tells it.
        status: String,
        /// `oom` where the system killed it; else `None`.
        class: Option<ErrorClass>,
    },
    /// The queue of a site ended the stage's job, or does not take it.
    #[error("its job {what}")]
    Job {
        /// What became of the job, as `its job {what}` says it.
        what: String,
        /// `oom` or `time` where it had too little of that; else `None`.
        class: Option<ErrorClass>,
    },
    /// The stage's `timeout` was over.
    #[error("it did not end within its {minutes} minutes")]
    TimedOut {
        /// The time limit, in minutes.
        minutes: f64,
    },
    /// Something that the stage reads is not what it was when the run began.
    #[error("{file} changed while the stage ran or waited for its turn; nothing was published")]
    InputChanged {
        /// The file or result, in words.
        file: String,
    },
    /// The result could not be verified, hashed, moved or committed.
    #[error("{message}")]
    Store {
        /// What went wrong, with its cause.
        message: String,
        /// `io` where another attempt may get over it; else `None`.
        class: Option<ErrorClass>,
    },
}

impl Failure {
    /// The class of failure, for `retry`; `None` where another attempt does not help.
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Stage(error) => error.class,
            Self::Crashed { class, .. } | Self::Store { class, .. } | Self::Job { class, .. } => *class,
            Self::TimedOut { .. } | Self::InputChanged { .. } => None,
        }
    }
}

/// Data that selected stages need and that is not there.
#[derive(Clone, Debug)]
pub struct MissingFor {
    /// Name of the stage.
    pub stage: String,
    /// What is not there.
    pub missing: Vec<MissingData>,
    /// Names of other stages that cannot run without the stage.
    pub waiting: Vec<String>,
}

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cache cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file outside the pipeline could not be hashed.
    #[error(transparent)]
    Fingerprint(#[from] crate::key::FingerprintError),
    /// The run's folder could not be made.
    #[error("cannot make the run's folder, `{}`", .folder.display())]
    Folder {
        /// Path of that folder.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Ctrl-C and termination could not be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The run's record could not be written.
    #[error("cannot write the run's record, in `{}`", .folder.display())]
    Record {
        /// Folder of the run.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The key of a stage could not be locked.
    #[error("cannot lock the key of stage `{stage}`")]
    Lock {
        /// Name of the stage.
        stage: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The scratch folder of a stage could not be made.
    #[error("cannot make the scratch folder of stage `{stage}`")]
    Scratch {
        /// Name of the stage.
        stage: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The worker of a stage could not be started.
    #[error("cannot start the worker of stage `{stage}`")]
    Start {
        /// Name of the stage.
        stage: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Jobs could not be attended to.
    #[error("cannot speak with the queue")]
    Queue(#[source] std::io::Error),
    /// The end of a stage's worker could not be waited for.
    #[error("cannot wait for the worker of stage `{stage}`")]
    Wait {
        /// Name of the stage.
        stage: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// That the run uses a result could not be noted.
    #[error("cannot note that the run uses the result of stage `{stage}`")]
    Note {
        /// Name of the stage whose result it is.
        stage: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Selected stages need data that is not there, so nothing was started.
    #[error("data is missing")]
    MissingData(Vec<MissingFor>),
    /// The GPU that was asked for cannot be used.
    #[error("`{device}` cannot be used: {reason}")]
    Device {
        /// As the user named it: `cuda:1`.
        device: String,
        /// Why the device cannot be used.
        reason: String,
    },
}
