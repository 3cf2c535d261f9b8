//! Steps of a run at which a test ends the process, as `kill -9` or a power cut would, or lets the disk be full:
//! `run --fail-at STEP`, an option that the help does not show. Without it a step costs a look at an empty cell.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A step on the way from a stage that is to run to its committed result, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The run's first record is written.
    Begun,
    /// The key is locked, and still to be computed.
    Locked,
    /// The scratch folder is there.
    Scratch,
    /// The worker runs, or is to be submitted.
    Started,
    /// What is to be submitted as a job is recorded.
    JobRecorded,
    /// The queue has been asked to take a job, and its id is not recorded.
    JobSubmitted,
    /// The ids of jobs are recorded.
    JobKnown,
    /// In the worker: every output is written.
    Written,
    /// In the worker: the declared conditions hold.
    Ensured,
    /// The worker has ended well.
    Done,
    /// What was read is still what it was.
    Verified,
    /// An output is hashed.
    Hashed,
    /// The files of an output are durable and read-only.
    Durable,
    /// An output stands under its content's name.
    Renamed,
    /// The readable form of the key is kept.
    Described,
    /// Half of a line of the journal is written.
    HalfAppended,
    /// Of several lines that the journal gets at once, only the first is written: the result's, not the one that makes
    /// it the stage's own.
    FirstAppended,
    /// What the journal gets is written, but not known to be durable.
    Appended,
    /// The result and that it is the stage's own are durable: the commit point.
    Committed,
    /// The result is noted as used by this run.
    Noted,
    /// Every stage is settled, the run's last record is not written.
    Ended,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Accident {
    /// The process is killed.
    Kill,
    /// Writing fails because the disk is full.
    DiskFull,
    /// The process panics, as a fault of its own would make it.
    Panic,
}

/// `STEP`, `STEP:2` for the second time that it is reached, `STEP=full` for a full disk, `STEP=panic` for a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailAt {
    step: Step,
    time: u32,
    accident: Accident,
}

impl FromStr for FailAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, accident) = match text.split_once('=') {
            Some((rest, "full")) => (rest, Accident::DiskFull),
            Some((rest, "panic")) => (rest, Accident::Panic),
            _ => (text, Accident::Kill),
        };
        let (name, time) = text.split_once(':').unwrap_or((text, "1"));
        let unknown = |_| {
            let known = Step::value_variants().iter().filter_map(Step::to_possible_value);
            let known: Vec<String> = known.map(|step| step.get_name().to_owned()).collect();
            format!("no such step; there are {}", known.join(", "))
        };
        Ok(Self {
            step: <Step as ValueEnum>::from_str(name, false).map_err(unknown)?,
            time: time.parse().map_err(|_| format!("`{time}` is not a number"))?,
            accident,
        })
    }
}

static PLANNED: OnceLock<FailAt> = OnceLock::new();
static REACHED: AtomicU32 = AtomicU32::new(0);

/// From now on, in this process.
pub fn plan(at: FailAt) {
    // A second accident is never planned.
    let _ = PLANNED.set(at);
}

/// What is planned, for a worker to be told.
pub fn planned() -> Option<FailAt> {
    PLANNED.get().copied()
}

/// Whether something will happen the next time that `step` is reached.
pub fn is_next(step: Step) -> bool {
    planned().is_some_and(|at| at.step == step && REACHED.load(Ordering::SeqCst) + 1 == at.time)
}

/// Marks a step as reached.
///
/// # Errors
/// That no space is left, where that is planned.
///
/// # Panics
/// Where that is planned.
pub fn at(step: Step) -> std::io::Result<()> {
    let Some(at) = planned().filter(|at| at.step == step) else {
        return Ok(());
    };
    if REACHED.fetch_add(1, Ordering::SeqCst) + 1 != at.time {
        return Ok(());
    }
    match at.accident {
        Accident::Kill => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            Ok(())
        }
        Accident::DiskFull => Err(rustix::io::Errno::NOSPC.into()),
        Accident::Panic => panic!("a panic that was planned"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_steps() {
        let at = |text: &str| text.parse::<FailAt>();
        let (step, time, accident) = (Step::HalfAppended, 2, Accident::DiskFull);
        assert_eq!(at("half-appended:2=full"), Ok(FailAt { step, time, accident }));
        let (step, time, accident) = (Step::Begun, 1, Accident::Kill);
        assert_eq!(at("begun"), Ok(FailAt { step, time, accident }));
        for wrong in ["", "nowhere", "begun:x", "begun=empty"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
