//! The process that a job is: it starts the worker on its node, writes what that says where the submitter reads it,
//! passes signals on, and has the job queued again where it was asked to end too early.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use wait4::Wait4;

use super::command;
use super::commands::JOB_ID;
use super::folder::{Attempt, Ended, Folder, Line, Now, Record, Stopped, Written, append, overwrite, stamp};
use super::local::signal_group;
use crate::kind::{Device, Registry, StageError};
use crate::run::protocol::Message;
use crate::run::signals;
use crate::run::worker::{self, WorkerSpec};
use crate::store::{content_of, sizes};

/// How long the queue may take to take the job back.
const REQUEUE: Duration = Duration::from_secs(30);

/// How long after its worker has gone without a word a job may hear that it is to end.
const LAST_SIGNAL: Duration = Duration::from_secs(2);

/// What the process hears.
enum Heard {
    Worker(Option<Message>),
    Signal,
}

/// Does the work of a job: `folder` is its folder, `token` the submission that it is of. Returns at once where the
/// submission does not count any more, or an earlier attempt has done the work.
///
/// # Errors
/// The job's folder cannot be read or written, or the worker cannot be started.
pub fn serve_job(registry: &Registry, folder: &Path, token: &str) -> std::io::Result<()> {
    // Before anything else, so that no signal ends it.
    let (sender, heard) = channel();
    signals::forward(sender.clone(), |_| Heard::Signal)?;
    let folder = Folder(folder.to_owned());
    let Some(record) = folder.record().filter(|record| record.token == token) else {
        return Ok(());
    };
    let names = folder.names();
    let is_done = |attempt: Attempt| folder.ended(&attempt).is_some_and(|ended| ended.is_done());
    if Folder::attempts(&names, "ended").any(is_done) {
        return Ok(());
    }
    let restart = match &record.commands {
        None => variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()),
        // A queue that starts a job again need not say how often.
        Some(_) => Folder::attempts(&names, "now")
            .filter(|attempt| attempt.token == token)
            .map(|attempt| attempt.restart + 1)
            .max(),
    };
    let restart = restart.unwrap_or(0);
    let attempt = Attempt {
        token: token.to_owned(),
        restart,
    };
    for attempt in Folder::attempts(&names, "ended") {
        // Of those that left no word nobody knows whether they write there still, on a node that was thought to be dead.
        let _ = std::fs::remove_dir_all(folder.of(&attempt, "out"));
    }
    let mut job = Job {
        now: Now {
            count: 0,
            job: job_id(),
            // As the queue calls it.
            host: variable("SLURMD_NODENAME")
                .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned()),
            update: None,
            trouble: None,
        },
        alive: File::create(folder.of(&attempt, "now"))?,
        said: std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.of(&attempt, "said"))?,
        folder,
        attempt,
        record,
    };
    job.beat()?;
    let started = Instant::now();
    let ended = match job.start(registry, sender) {
        Ok((child, spec)) => match job.attend(child, &heard) {
            Some(over) => job
                .ended(&spec, over, started)
                .unwrap_or_else(|error| job.refused(error.into())),
            None => return Ok(()),
        },
        Err(error) => job.refused(error),
    };
    let is_to_requeue = ended.stopped.is_some_and(|stopped| stopped.is_requeued);
    if let Err(error) = job.folder.keep_ended(&job.attempt, &ended) {
        // Where there is no room for another file, there is in one that is there.
        job.now.trouble = Some(match &ended.said {
            Some(Err(said)) => format!("{said}; {error}"),
            _ => error.to_string(),
        });
        job.beat()?;
        return Err(error);
    }
    if is_to_requeue && !requeue() {
        let mut ended = ended;
        ended.stopped = ended.stopped.map(|stopped| Stopped {
            is_requeued: false,
            ..stopped
        });
        job.folder.keep_ended(&job.attempt, &ended)?;
    }
    Ok(())
}

struct Job {
    folder: Folder,
    record: Record,
    attempt: Attempt,
    now: Now,
    alive: File,
    said: File,
}

/// A worker that has ended.
struct Over {
    child: Child,
    said: Option<Result<(), StageError>>,
    was_asked: bool,
}

impl Job {
    fn beat(&mut self) -> std::io::Result<()> {
        self.now.count += 1;
        overwrite(&self.alive, &self.now)
    }

    fn say(&self, line: &Line) {
        // A lost line fails no stage.
        let _ = append(&self.said, line);
    }

    fn start(&self, registry: &Registry, sender: Sender<Heard>) -> Result<(Child, WorkerSpec), StageError> {
        let mut spec: WorkerSpec = serde_json::from_slice(&fs_err::read(self.folder.spec())?)?;
        let code = registry.kind(&spec.kind).map(|kind| kind.stage(spec.params.clone()));
        let code = code.and_then(Result::ok).map(|stage| stage.code_version());
        // Of another version that has the same code for the stage the result is the same, as everywhere.
        if code != Some(self.record.code) {
            let message = format!(
                "the program on the node, dynvis {}, has other code for the stage than that which submitted the job, {}",
                registry.version, self.record.program
            );
            return Err(StageError::new(message).hint("run again: what is left is submitted by the program of now"));
        }
        spec.scratch = self.folder.of(&self.attempt, "out");
        spec.parent = std::process::id();
        spec.threads = threads();
        spec.gpus = gpus(self.record.gpus, variable("CUDA_VISIBLE_DEVICES").as_deref());
        spec.device = match spec.gpus.as_slice() {
            [] => Device::Cpu,
            _ => Device::Cuda(0),
        };
        fs_err::create_dir_all(&spec.scratch)?;
        let tell = move |message| {
            // Nobody hears it where this process ends.
            let _ = sender.send(Heard::Worker(message));
        };
        let path = self.folder.of(&self.attempt, "spec");
        let child = worker::start(&spec, &path, &self.folder.log(), &spec.gpus.join(","), &[], tell)?;
        Ok((child, spec))
    }

    /// Hears the worker to its end. None where nobody wants that any more.
    fn attend(&mut self, child: Child, heard: &Receiver<Heard>) -> Option<Over> {
        let beat = Duration::from_secs_f64(self.record.beat.clamp(0.01, 3600.0));
        let mut next = Instant::now() + beat;
        let (mut said, mut was_asked, mut unwanted) = (None, false, 0);
        let mut limit = self.time_limit();
        loop {
            match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Heard::Worker(Some(message))) => match message {
                    Message::Progress(update) => {
                        if update.milestone {
                            self.say(&Line::Milestone(update.clone()));
                        }
                        self.now.update = Some(update);
                    }
                    Message::Note(text) => self.say(&Line::Note(text)),
                    Message::Failed(error) => said = Some(Err(error)),
                    Message::Done => said = Some(Ok(())),
                },
                Ok(Heard::Worker(None)) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Heard::Signal) => {
                    was_asked = true;
                    self.ask_to_end(&child);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next {
                // Twice in a row: a file system that is away for a moment costs no hours of work.
                let is_unwanted =
                    self.folder.is_of_another(&self.attempt.token) || self.folder.is_overtaken(&self.attempt);
                unwanted = match is_unwanted {
                    true => unwanted + 1,
                    false => 0,
                };
                if unwanted > 1 {
                    signal_group(&child, Signal::KILL);
                    return None;
                }
                // Nor does one sign of life that is lost.
                let _ = self.beat();
                next = Instant::now() + beat;
                // What another queue than Slurm tells by no signal.
                let is_asked = limit.is_some_and(|limit| Instant::now() >= limit)
                    || (self.record.commands.is_some() && self.folder.is_to_stop());
                if is_asked && !was_asked {
                    (was_asked, limit) = (true, None);
                    self.ask_to_end(&child);
                }
            }
        }
        // Where the whole job is cancelled its worker may be gone before this process hears of it.
        if said.is_none() && !was_asked {
            let until = Instant::now() + LAST_SIGNAL;
            while let Ok(heard) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                was_asked |= matches!(heard, Heard::Signal);
                if was_asked {
                    break;
                }
            }
        }
        Some(Over { child, said, was_asked })
    }

    fn ask_to_end(&self, child: &Child) {
        // Others are left their last minute: they may come to their end in it.
        if self.record.keeps_checkpoints {
            signal_group(child, Signal::TERM);
        }
    }

    /// When the job is to ask itself to end.
    fn time_limit(&self) -> Option<Instant> {
        let (grace, minutes) = (self.record.grace?, self.record.options.time?);
        let seconds = (minutes * 60.0 - f64::from(grace)).clamp(0.0, 1e9);
        Some(Instant::now() + Duration::from_secs_f64(seconds))
    }

    /// What is to be known of a worker that has ended.
    fn ended(&self, spec: &WorkerSpec, over: Over, started: Instant) -> std::io::Result<Ended> {
        let Over { child, said, was_asked } = over;
        signal_group(&child, Signal::KILL);
        let process = child.wait4()?;
        let is_done = matches!(said, Some(Ok(())));
        let mut outputs = Vec::new();
        if is_done {
            let names = Folder(spec.scratch.clone()).names();
            for slot in names {
                let folder = spec.scratch.join(&slot);
                // What is no folder of files is refused when it is published.
                if let (Ok(content), Ok(files)) = (content_of(&folder), sizes(&folder)) {
                    sync(&folder, &files)?;
                    outputs.push(Written { slot, content, files });
                }
            }
        }
        let stopped = (was_asked && !is_done).then(|| {
            let has_progressed =
                stamp(&spec.checkpoint).is_some_and(|now| self.record.checkpoint.as_ref() != Some(&now));
            Stopped {
                has_progressed,
                // Where it is cancelled, the submitter decides; where it is not known why, too.
                is_requeued: has_progressed
                    && self.record.commands.is_none()
                    && !self.folder.is_to_stop()
                    && is_running(),
            }
        });
        Ok(Ended {
            said,
            status: process.status.into_raw(),
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: (process.rusage.utime + process.rusage.stime).as_secs_f64(),
            peak_bytes: process.rusage.maxrss,
            outputs,
            stopped,
            ..self.refused(StageError::new(""))
        })
    }

    /// A worker that was not started.
    fn refused(&self, error: StageError) -> Ended {
        Ended {
            said: Some(Err(error)),
            status: 0,
            job: self.now.job.clone(),
            host: self.now.host.clone(),
            seconds: 0.0,
            cpu_seconds: 0.0,
            peak_bytes: 0,
            outputs: Vec::new(),
            stopped: None,
        }
    }
}

/// Another node reads these next.
fn sync(folder: &Path, files: &[(String, u64)]) -> std::io::Result<()> {
    for (path, _) in files {
        fs_err::File::open(folder.join(path))?.sync_all()?;
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// As the queue prints it. The number of one task of an array is that of the whole, which stands for all its tasks.
fn job_id() -> String {
    if let Some(id) = variable(JOB_ID) {
        return id;
    }
    match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(array), Some(task)) => format!("{array}_{task}"),
        _ => variable("SLURM_JOB_ID").unwrap_or_default(),
    }
}

/// Processor threads that the job has on its node.
fn threads() -> usize {
    // Grid Engine, PBS, LSF.
    let names = [
        "SLURM_CPUS_PER_TASK",
        "SLURM_CPUS_ON_NODE",
        "NSLOTS",
        "NCPUS",
        "LSB_DJOB_NUMPROC",
    ];
    let granted = names.iter().find_map(|name| variable(name)?.parse().ok());
    granted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Those of the job, as the queue names them in `visible`, or else counted.
fn gpus(count: usize, visible: Option<&str>) -> Vec<String> {
    let named: Vec<String> = visible
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(|id| id.trim().to_owned())
        .collect();
    match named.is_empty() {
        true => (0..count).map(|ordinal| ordinal.to_string()).collect(),
        false => named.into_iter().take(count).collect(),
    }
}

/// Whether the queue takes the job for running: neither cancelled nor taken away.
fn is_running() -> bool {
    let id = job_id();
    let mut ask = Command::new("squeue");
    ask.args(["--noheader", "--format=%T", "--jobs", &id]);
    command::answer(ask, "", REQUEUE).is_ok_and(|state| state.trim() == "RUNNING")
}

/// Has the queue take the job back, which ends this process, too. False where it does not.
fn requeue() -> bool {
    let id = job_id();
    let mut ask = Command::new("scontrol");
    ask.args(["requeue", &id]);
    command::answer(ask, "", REQUEUE).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_those_that_the_queue_names() {
        assert_eq!(gpus(2, None), ["0", "1"]);
        assert_eq!(gpus(1, Some("3, 5")), ["3"]);
        assert_eq!(gpus(2, Some("GPU-a,GPU-b")), ["GPU-a", "GPU-b"]);
        assert_eq!(gpus(0, Some("0")), Vec::<String>::new());
    }
}
