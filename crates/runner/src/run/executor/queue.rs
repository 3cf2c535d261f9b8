//! What any queue of jobs is asked, and what it answers.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use super::command::CommandError;
use super::commands::Templates;
use super::folder::Record;
use super::slurm::Slurm;
use crate::pipeline::Profile;

/// A job, as the queue shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) host: Option<String>,
    /// Why it waits; empty where that is not told.
    pub(super) reason: String,
}

/// What a job is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not started, or waits to be started again.
    Waits,
    /// It runs, or is between two states.
    Runs,
    /// Its process has ended, well or not.
    Ended,
    OutOfMemory,
    TimeLimit,
    /// Cancelled, taken away, or ended with its node.
    Taken,
}

impl State {
    pub(super) fn is_over(self) -> bool {
        !matches!(self, Self::Waits | Self::Runs)
    }
}

/// Why a submission was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The queue says that it will never take it so.
    ForGood(String),
    /// It may have been taken all the same, or may be another time.
    Unsure(String),
}

/// Jobs that a queue lists.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// By the submission and the task within it, where the queue tells names.
    by_name: HashMap<(String, Option<u32>), Seen>,
    by_id: HashMap<String, Seen>,
}

impl Queue {
    /// `name`: the submission that it is of, and the task within it.
    pub(super) fn add(&mut self, name: Option<(String, Option<u32>)>, seen: Seen) {
        // Of a federation that lists a job twice the one that goes on counts.
        if let Some(name) = name
            && self.by_name.get(&name).is_none_or(|other| other.state.is_over())
        {
            self.by_name.insert(name, seen.clone());
        }
        if self.by_id.get(&seen.id).is_none_or(|other| other.state.is_over()) {
            self.by_id.insert(seen.id.clone(), seen);
        }
    }

    /// The job of this submission.
    pub(super) fn named(&self, token: &str, task: Option<u32>) -> Option<&Seen> {
        self.by_name.get(&(token.to_owned(), task))
    }

    /// The job of this record, by its name or else by its id.
    pub(super) fn find(&self, record: &Record) -> Option<&Seen> {
        let by_id = || self.by_id.get(record.id.as_ref()?);
        self.named(&record.token, record.task).or_else(by_id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// A queue of jobs, as far as jobs need one: what a fourth kind of queue has to do. It is asked from one thread. All that
/// it says may be late, wrong or missing; what is done about that is not its own affair (`look.rs`).
pub(super) trait Cluster: Send {
    /// Submits jobs that ask for the same, together where there are several ([`Self::most_together`]), and gives the id
    /// of the whole. Of several the task of number n is called `ID_n`.
    fn submit(
        &self,
        records: &[&Record],
        folders: &[&Path],
        profile: &Profile,
        program: &Path,
    ) -> Result<String, Refusal>;

    /// All jobs of these users, those that have ended a while ago too where the queue still knows them. The
    /// asking user is always among them.
    fn queue(&self, users: &BTreeSet<u32>) -> Result<Queue, CommandError>;

    /// What it says of a job that is not listed any more; none where it says nothing.
    fn accounted(&self, id: &str) -> Option<State>;

    /// Asks a running job to write a checkpoint and end. A job looks for the file `stop` in its folder, too.
    fn ask_to_end(&self, id: &str) -> Result<(), CommandError>;

    /// Ends jobs, whether they run or wait, by one command if it can.
    fn cancel(&self, ids: &[String]) -> Result<(), CommandError>;

    /// How many jobs may be submitted together.
    fn most_together(&self, profile: &Profile) -> usize;

    /// What it is asked with, for its user: to list and to cancel.
    fn words(&self) -> [&str; 2];
}

/// The queue that a profile is about.
pub(super) fn cluster(profile: &Profile) -> Box<dyn Cluster> {
    let limit = Duration::from_secs_f64(profile.command_limit);
    match &profile.commands {
        Some(commands) => Box::new(Templates::new(commands.clone(), limit)),
        None => Box::new(Slurm { limit }),
    }
}
