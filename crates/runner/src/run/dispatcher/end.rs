//! Ending: what a worker says, what is published of it, what is tried again, and what time is up.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::names::file_name;
use super::{Dispatcher, Running};
use crate::fail::{self, Step};
use crate::key::ContentHash;
use crate::kind::{ErrorClass, StageError};
use crate::pipeline::{Stage, StageId};
use crate::plan::{Decision, State};
use crate::run::executor::Told;
use crate::run::protocol::Message;
use crate::run::{Event, Failure, RunError, changed_since};
use crate::store::{Attempt, Health, JournalEntry, ResultRecord, StageOutcome, StoreError};

/// How long a stage whose time is up may take to write a checkpoint.
const GRACE: Duration = Duration::from_secs(60);

/// Why there is no result.
enum NoResult {
    Failed(Failure),
    Interrupted,
    /// Its job is nowhere any more, and can be submitted by nobody here.
    Gone(Failure),
}

impl Dispatcher<'_> {
    pub(super) fn hear(&mut self, id: StageId, told: Told) {
        let message = match told {
            Told::Said(message) => message,
            Told::Queued(job) => return self.is_queued(id, job),
            Told::Running(job, host) => return self.is_running(id, job, host),
            // The loop itself attends to that.
            Told::Ended => return,
        };
        match message {
            Message::Progress(update) => self.reporter.event(&Event::Progress {
                stage: &self.pipeline.stage(id).name,
                id,
                update: &update,
            }),
            Message::Note(text) => self.note(id, &text),
            Message::Failed(error) => self.said(id, Err(error)),
            Message::Done => self.said(id, Ok(())),
        }
    }

    pub(super) fn note(&mut self, id: StageId, text: &str) {
        self.reporter.event(&Event::Note {
            stage: &self.pipeline.stage(id).name,
            id,
            text,
        });
    }

    fn said(&mut self, id: StageId, what: Result<(), StageError>) {
        if let Some(running) = self.running.iter_mut().find(|r| r.id == id) {
            running.said = Some(what);
        }
    }

    /// Asks stages whose time is up to end, as Ctrl-C does, and ends those that were asked long ago.
    pub(super) fn end_overdue(&mut self) {
        let now = Instant::now();
        for running in &mut self.running {
            if running.deadline.is_none_or(|deadline| now < deadline) {
                continue;
            }
            let was_asked = std::mem::replace(&mut running.overdue, true);
            running.deadline = (!was_asked).then(|| now + GRACE);
            running.signal(if was_asked { Signal::KILL } else { Signal::TERM });
        }
    }

    pub(super) fn worker_ended(&mut self, id: StageId) -> Result<(), RunError> {
        let Some(index) = self.running.iter().position(|r| r.id == id) else {
            return Ok(());
        };
        let mut running = self.running.remove(index);
        if !running.is_job {
            // What it started ends with it; that is left over where the system killed it.
            running.signal(Signal::KILL);
        }
        let Some(worker) = running.worker.take() else {
            return Ok(());
        };
        let end = worker.end().map_err(|source| RunError::Wait {
            stage: self.pipeline.stage(id).name.clone(),
            source,
        })?;
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.cpu_seconds = end.cpu_seconds;
            execution.peak_bytes = end.peak_bytes;
        }
        let job = end.job.unwrap_or_default();
        let now = self.started.elapsed().as_secs_f64();
        if let (Some(seconds), Some(execution)) = (job.seconds, self.executions.get_mut(&id)) {
            // That it ran was seen some time after it began.
            execution.started = execution.started.min((now - seconds).max(0.0));
        }
        if running.is_job {
            running.outputs.clone_from(&job.outputs);
            self.queued -= 1;
        }
        // From before the outputs are in place until the result that names them is noted as used.
        let _hold = self.store.hold()?;
        let stage = self.pipeline.stage(id);
        let seconds = job.seconds.unwrap_or_else(|| running.started.elapsed().as_secs_f64());
        let is_success = end.how.as_ref().is_ok_and(ExitStatus::success);
        let result = match running.said.take() {
            // Everything is written when it says so, even if a signal ends its process in that moment.
            Some(Ok(())) if is_success || self.interrupts > 0 || running.overdue => self
                .publish(stage, &running, &job.contents, seconds)
                .map_err(NoResult::Failed),
            _ if self.interrupts > 0 => Err(NoResult::Interrupted),
            _ if running.overdue => Err(NoResult::Failed(Failure::TimedOut {
                minutes: stage.resources.timeout.unwrap_or_default(),
            })),
            Some(Err(error)) => Err(NoResult::Failed(Failure::Stage(error))),
            _ => Err(match end.how {
                Ok(status) => NoResult::Failed(crashed(status)),
                Err(failure) if job.is_gone => NoResult::Gone(failure),
                Err(failure) => NoResult::Failed(failure),
            }),
        };
        let lease = std::mem::take(&mut running.lease);
        self.threads.give_back(lease.threads);
        drop(lease);
        let key = running.key.clone();
        let is_job = running.is_job;
        match result {
            Ok(outputs) => {
                let decision = decision_of(&running);
                let key = Some(running.key);
                let seconds = Some(seconds);
                self.settle(stage, StageOutcome::Ran, key, &decision, seconds, outputs, None);
                self.note_uses()?;
                fail::at(Step::Noted).map_err(|source| RunError::Note {
                    stage: stage.name.clone(),
                    source,
                })?;
            }
            Err(no_result) => self.settle_without(stage, &running, seconds, no_result),
        }
        if is_job {
            // While its key is still locked.
            self.store.drop_job(&key);
        }
        Ok(())
    }

    /// After an attempt without result: another one, or the end.
    fn settle_without(&mut self, stage: &Stage, running: &Running, seconds: f64, no_result: NoResult) {
        if let NoResult::Gone(failure) = &no_result {
            self.note(stage.id, &format!("{failure}: it starts anew, here"));
            return self.open(stage.id);
        }
        let interrupted = matches!(no_result, NoResult::Interrupted);
        let noted = self.store.commit(JournalEntry::Attempt {
            key: running.key.clone(),
            attempt: Attempt {
                run: self.record.id.clone(),
                interrupted,
            },
        });
        if let Err(error) = noted {
            self.stop_for(error.into());
        }
        if let NoResult::Failed(failure) = &no_result
            && let Some(class) = failure.class()
            && !self.stopping
            && self.failed[stage.id.0].len() < stage.resources.retries(Some(class))
        {
            // Not settled, so it is looked at again, and goes on from its checkpoint if it left one.
            self.failed[stage.id.0].push(class);
            let (attempt, all) = (self.failed[stage.id.0].len(), stage.resources.retries(Some(class)));
            let text = format!("{failure}; retry {attempt} of {all} ({})", class.name());
            self.note(stage.id, &text);
            self.open(stage.id);
            return;
        }
        // Where a forced stage has a result, the next run takes that.
        if self.store.has_checkpoint(&running.key) && self.store.result(&running.key).is_none() {
            self.note(stage.id, "the next run resumes from its last checkpoint");
        }
        let (outcome, failure) = match no_result {
            NoResult::Interrupted => (StageOutcome::Interrupted, None),
            NoResult::Failed(failure) | NoResult::Gone(failure) => {
                keep_partial(running, &self.folder, &stage.name);
                (StageOutcome::Failed, Some(failure))
            }
        };
        self.stopping |= interrupted || !self.options.keep_going;
        self.settle(
            stage,
            outcome,
            None,
            &decision_of(running),
            Some(seconds),
            Vec::new(),
            failure.as_ref(),
        );
    }

    /// Verifies what was read, publishes what was written, commits.
    fn publish(
        &mut self,
        stage: &Stage,
        running: &Running,
        told: &[(String, ContentHash)],
        seconds: f64,
    ) -> Result<Vec<(String, ContentHash)>, Failure> {
        let full = |source| {
            store_failure(StoreError::Io {
                action: "publish a result",
                source,
            })
        };
        fail::at(Step::Done).map_err(full)?;
        self.verify_inputs(stage)?;
        fail::at(Step::Verified).map_err(full)?;
        let mut outputs = Vec::new();
        for output in &stage.outputs {
            let scratch = running.outputs.join(&output.slot);
            let told = told
                .iter()
                .find(|(slot, _)| *slot == output.slot)
                .map(|(_, content)| content);
            let stored = self
                .store
                .publish(&output.slot, output.artifact, &scratch, told)
                .map_err(store_failure)?;
            outputs.push(stored);
        }
        self.store
            .keep_description(&running.key, &running.description)
            .map_err(store_failure)?;
        let observed = self.observed[stage.id.0].as_ref();
        let trees = observed.map_or(&[][..], |observed| observed.large_trees());
        self.store.keep_files(&running.key, trees).map_err(store_failure)?;
        fail::at(Step::Described).map_err(full)?;
        let contents = outputs.iter().map(|o| (o.slot.clone(), o.content.clone())).collect();
        let result = JournalEntry::Result(ResultRecord {
            key: running.key.clone(),
            kind: stage.kind().name().to_owned(),
            run: self.record.id.clone(),
            seconds,
            finished_at: jiff::Timestamp::now().to_string(),
            outputs,
            ensured: stage.ensure.clone(),
            accepted: None,
            pulled: None,
        });
        let current = self.current_entry(stage, &running.key);
        self.store.commit_all(&[result, current]).map_err(store_failure)?;
        fail::at(Step::Committed).map_err(full)?;
        self.store.drop_checkpoint(&running.key);
        Ok(contents)
    }

    /// Whether everything that the stage has read is still what it was: files outside, and results that it takes.
    pub(super) fn verify_inputs(&mut self, stage: &Stage) -> Result<(), Failure> {
        if let Some(observed) = &self.observed[stage.id.0]
            && let Some(file) = changed_since(stage, &self.pipeline.root, observed, self.store)
        {
            return Err(Failure::InputChanged {
                file: format!("`{file}`"),
            });
        }
        for input in &stage.inputs {
            let Some(producer) = &self.settled[input.producer.0] else {
                continue;
            };
            let content = producer.outputs.iter().find(|(slot, _)| *slot == input.output);
            if let (Some(key), Some((_, content))) = (&producer.key, content)
                && self.store.health(key) != Health::Intact
            {
                let producer = &self.pipeline.stage(input.producer).name;
                return Err(Failure::InputChanged {
                    file: format!(
                        "the result of `{producer}/{}`, which the stage takes and must leave as it is, `{}`",
                        input.output,
                        self.store.object(content).display()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// A worker that said nothing at its end. The system kills processes where memory is short.
fn crashed(status: ExitStatus) -> Failure {
    let killed = status.signal() == Some(Signal::KILL.as_raw());
    let panicked = status.code() == Some(i32::from(crate::run::PANICKED));
    Failure::Crashed {
        status: match panicked {
            true => "it panicked, which is a bug in dynvis: its log says where".to_owned(),
            false => status.to_string(),
        },
        class: killed.then_some(ErrorClass::Oom),
    }
}

fn store_failure(error: StoreError) -> Failure {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    Failure::Store {
        message: format!("{error}{}", cause.unwrap_or_default()),
        class: matches!(error, StoreError::Io { .. }).then_some(ErrorClass::Io),
    }
}

fn decision_of(running: &Running) -> Decision {
    Decision {
        state: State::Run,
        reasons: running.reasons.clone(),
        key: Some(running.key.clone()),
        description: None,
    }
}

/// Keeps what a failed stage had written, under the run.
fn keep_partial(running: &Running, folder: &Path, stage: &str) {
    let outputs = &running.outputs;
    if outputs.is_dir() {
        let kept = folder.join("partial").join(file_name(stage));
        // Best effort: the failure itself is already recorded.
        let _ = fs_err::create_dir_all(kept.parent().unwrap_or(folder)).and_then(|()| fs_err::rename(outputs, &kept));
    }
}
