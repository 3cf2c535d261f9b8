//! Where workers run. The dispatcher decides what runs; an executor starts it, tells what becomes of it, and ends it.
//!
//! There are two ways: processes beside the tool ([`Local`]) and jobs of a queue ([`Jobs`]). The queue is Slurm's or one
//! that the profile's commands speak with; a third one is a third `queue::Cluster`. What jobs do through files stands in
//! `docs/slurm.md`, how to write an executor or a queue in `docs/design/executors.md`.

mod chain;
mod command;
mod commands;
mod folder;
mod job;
mod jobs;
mod local;
mod look;
mod queue;
mod recorded;
mod slurm;
mod watch;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;

use super::Failure;
use super::protocol::Message;
use super::worker::WorkerSpec;
use crate::key::{ContentHash, StageKey};

pub use chain::{ChainError, ChainOptions, Link, submit_chain};
pub use job::serve_job;
pub(super) use jobs::Jobs;
pub(super) use local::Local;
pub use recorded::{JobProgress, RecordedJob, cancel_job, recorded_jobs};
pub use slurm::{QueueReport, report};

/// What a worker, or the queue that has it, tells.
#[derive(Debug)]
pub(super) enum Told {
    /// The worker says something.
    Said(Message),
    /// A queue has taken it, under this id.
    Queued(String),
    /// It runs now, as the job of this id, on a machine of that name where it is known. Once more where it was queued
    /// again.
    Running(String, Option<String>),
    /// It has ended: [`Worker::end`] says how. Nothing is told after that.
    Ended,
}

/// Takes what is told, from any thread.
pub(super) type Tell = Box<dyn Fn(Told) + Send>;

/// What a stage's worker is to do, and what it may take.
pub(super) struct Order<'a> {
    pub(super) stage: &'a str,
    pub(super) family: &'a str,
    pub(super) key: &'a StageKey,
    pub(super) spec: WorkerSpec,
    /// The stage's log; said there is appended.
    pub(super) log: PathBuf,
    /// What the worker holds, too, as long as it lives, if it runs on this machine.
    pub(super) locks: Vec<&'a File>,
    /// A folder for what goes with it: of a worker on this machine its scratch folder, of a job that which is found again.
    pub(super) place: &'a Path,
    /// Version of the stage kind's code.
    pub(super) code: u32,
    pub(super) claim: Claim,
    pub(super) tell: Tell,
}

/// What a job asks for. A worker on this machine has it already.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    /// Processor threads.
    pub(super) cpu: Option<usize>,
    /// GiB of memory.
    pub(super) memory: Option<f64>,
    /// Minutes.
    pub(super) time: Option<f64>,
    pub(super) gpus: usize,
    /// By how much more of memory and of time it asks, after attempts that had too little.
    pub(super) factors: [f64; 2],
    pub(super) keeps_checkpoints: bool,
    /// It is computed though its key has a result.
    pub(super) is_forced: bool,
    /// What it reads of the store.
    pub(super) inputs: Vec<ContentHash>,
}

/// How a worker ended.
#[derive(Debug)]
pub(super) struct End {
    /// How its process ended, or why there is nothing to tell of that.
    pub(super) how: Result<ExitStatus, Failure>,
    pub(super) cpu_seconds: f64,
    pub(super) peak_bytes: u64,
    /// What a job has left.
    pub(super) job: Option<JobEnd>,
}

/// What a job has left.
#[derive(Clone, Debug, Default)]
pub(super) struct JobEnd {
    /// How long its last attempt took.
    pub(super) seconds: Option<f64>,
    /// Folder with the outputs.
    pub(super) outputs: PathBuf,
    /// What was written there, by slots.
    pub(super) contents: Vec<(String, ContentHash)>,
    /// It is in no queue any more, and nobody can submit it again here.
    pub(super) is_gone: bool,
}

/// A worker that was started.
pub(super) trait Worker {
    /// To the worker and all that it started: TERM asks it to end, KILL ends it.
    fn signal(&self, signal: Signal);

    /// How it ended, once that was told.
    ///
    /// # Errors
    /// Its end cannot be waited for.
    fn end(self: Box<Self>) -> std::io::Result<End>;

    /// Lets it go on without this process; false where it cannot.
    fn leave(&self) -> bool;
}

/// Starts workers.
pub(super) trait Executor {
    /// Starts a worker, or queues it.
    ///
    /// # Errors
    /// It could not be started.
    fn start(&mut self, order: Order<'_>) -> std::io::Result<Box<dyn Worker>>;

    /// Nothing more is started for now: what was queued may be submitted, together where that is possible.
    fn submit(&mut self) {}
}
