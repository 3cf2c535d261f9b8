//! Brings a selection up to date: decides, starts workers, publishes, records.
//!
//! Truth about a running pipeline lives in one loop (`dispatcher`); reporters only consume its events.

mod device;
mod dispatcher;
mod guard;
mod protocol;
mod provenance;
mod resources;
mod signals;
mod worker;
mod world;

use std::path::PathBuf;

use serde::Serialize;

pub use dispatcher::{RunOptions, log_path, missing_data, run};
pub use guard::guard;
pub(crate) use guard::run_program;
pub use resources::Gpu;
pub use worker::serve;
use world::changed_since;
pub use world::{StoreWorld, observe};

use crate::kind::{ErrorClass, MissingData, StageError, Update};
use crate::pipeline::StageId;
use crate::plan::{Planned, Reason};
use crate::store::{RunId, RunRecord, StageOutcome, StoreError};

/// Exit code of a process of dynvis that panicked, a fault of its own. Rust's code for that, 101, means something else
/// here.
pub const PANICKED: u8 = 70;

/// What happens during a run, in order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    Started {
        run: &'a RunId,
        #[serde(skip)]
        plan: &'a [Planned],
        selected: usize,
    },
    StageStarted {
        stage: &'a str,
        id: StageId,
        reasons: &'a [Reason],
        threads: usize,
        /// Those that it has, as `CUDA_VISIBLE_DEVICES` names them.
        gpus: &'a [String],
        #[serde(skip)]
        expected_seconds: Option<f64>,
    },
    /// Files outside are read for the first time, which may take a while.
    Reading {
        stage: &'a str,
        files: usize,
        bytes: u64,
    },
    Progress {
        stage: &'a str,
        id: StageId,
        update: &'a Update,
    },
    /// A stage tells something that is worth a line of its own.
    Note {
        stage: &'a str,
        id: StageId,
        text: &'a str,
    },
    /// Another process computes the same key; its result will be shared.
    Waiting {
        stage: &'a str,
        id: StageId,
    },
    StageFinished {
        stage: &'a str,
        id: StageId,
        outcome: StageOutcome,
        seconds: Option<f64>,
        error: Option<&'a Failure>,
    },
    Interrupted,
    Finished {
        record: &'a RunRecord,
    },
}

/// Consumes events; never changes what the run does.
pub trait Reporter {
    fn event(&mut self, event: &Event);
}

/// Why a stage left no result.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
pub enum Failure {
    /// The stage said so itself.
    #[error("{0}")]
    Stage(StageError),
    #[error("its process ended without a result ({status})")]
    Crashed { status: String, class: Option<ErrorClass> },
    #[error("it did not end within its {minutes} minutes")]
    TimedOut { minutes: f64 },
    #[error("{file} changed while the stage ran or waited for its turn; nothing was published")]
    InputChanged { file: String },
    #[error("{message}")]
    Store { message: String, class: Option<ErrorClass> },
}

impl Failure {
    /// Where another attempt may get over it.
    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Stage(error) => error.class,
            Self::Crashed { class, .. } | Self::Store { class, .. } => *class,
            Self::TimedOut { .. } | Self::InputChanged { .. } => None,
        }
    }
}

/// Data that selected stages need and that is not there.
#[derive(Clone, Debug)]
pub struct MissingFor {
    pub stage: String,
    pub missing: Vec<MissingData>,
    /// Stages that cannot run without it.
    pub waiting: Vec<String>,
}

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fingerprint(#[from] crate::key::FingerprintError),
    #[error("cannot make the run's folder, `{}`", .folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot write the run's record, in `{}`", .folder.display())]
    Record {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot lock the key of stage `{stage}`")]
    Lock {
        stage: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make the scratch folder of stage `{stage}`")]
    Scratch {
        stage: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start the worker of stage `{stage}`")]
    Start {
        stage: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot wait for the worker of stage `{stage}`")]
    Wait {
        stage: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot note that the run uses the result of stage `{stage}`")]
    Note {
        stage: String,
        #[source]
        source: std::io::Error,
    },
    #[error("data is missing")]
    MissingData(Vec<MissingFor>),
    #[error("there is no `{device}` here: {reason}")]
    Device { device: String, reason: String },
}
