//! Stages that are jobs of a queue: which are, how many at once, and how they go on without the tool.

use super::start::Claim;
use super::{Arrival, Dispatcher};
use crate::pipeline::StageId;
use crate::plan::{Decision, State};
use crate::run::executor::Jobs;
use crate::run::{Event, RunError};
use crate::store::StageOutcome;

impl Dispatcher<'_> {
    /// Whether a stage is to be a job.
    pub(super) fn becomes_job(&self, id: StageId) -> bool {
        let kind = self.pipeline.stage(id).kind().name();
        let queue = self.options.queue.as_ref();
        queue.is_some_and(|queue| !queue.profile.local.iter().any(|local| local == kind))
    }

    /// What submits jobs, and takes over those of earlier runs.
    pub(super) fn jobs(&mut self) -> Result<&mut Jobs, RunError> {
        if self.jobs.is_none() {
            let profile = self.options.queue.as_ref().map(|queue| queue.profile.clone());
            let sender = self.sender.clone();
            let trouble = move |text| {
                // The run may be over.
                let _ = sender.send(Arrival::Queue(text));
            };
            let version = self.options.registry.version;
            let jobs = Jobs::new(profile, version, Box::new(trouble)).map_err(RunError::Queue)?;
            self.jobs = Some(jobs);
        }
        self.jobs
            .as_mut()
            .ok_or_else(|| RunError::Queue(std::io::Error::other("it was lost")))
    }

    /// Makes jobs of the stages that are to be some, as many as there may be. True if one waits for another process.
    pub(super) fn start_jobs(&mut self) -> Result<bool, RunError> {
        let Some(most) = self.options.queue.as_ref().map(|queue| queue.jobs) else {
            return Ok(false);
        };
        let pipeline = self.pipeline;
        let mut waits_for_others = false;
        let mut refused: Vec<Claim> = Vec::new();
        let ready: Vec<usize> = self.ready.iter().copied().collect();
        for rank in ready {
            if self.queued >= most || self.stopping {
                break;
            }
            let id = self.planned[rank].id;
            let stage = pipeline.stage(id);
            // Of GPUs the queue knows.
            let claim = Claim::of(stage, 0);
            if !self.becomes_job(id) || refused.contains(&claim) {
                continue;
            }
            let Some(key) = self.key_of(id) else {
                continue;
            };
            if self.must_wait_to_ask(&key) {
                continue;
            }
            let Some(lock) = self.try_lock(id, &key)? else {
                waits_for_others = true;
                continue;
            };
            let Some(lease) = self.lease(&claim)? else {
                refused.push(claim);
                waits_for_others = true;
                continue;
            };
            match self.look_again(id)? {
                Some(decision) if self.is_to_ask(&key, &decision) => self.ask(id, &key, lock),
                Some(decision) => self.start(stage, key, decision, lease, lock)?,
                None => waits_for_others = true,
            }
        }
        Ok(waits_for_others)
    }

    /// The queue has a stage's job.
    pub(super) fn is_queued(&mut self, id: StageId, job: String) {
        self.reporter.event(&Event::Queued {
            stage: &self.pipeline.stage(id).name,
            id,
            job: &job,
        });
        let now = self.started.elapsed().as_secs_f64();
        if let Some(execution) = self.executions.get_mut(&id)
            && let Some(of_queue) = execution.job.as_mut()
        {
            of_queue.id = job;
            // It ran, and waits again.
            if execution.started > of_queue.queued {
                (of_queue.queued, execution.started) = (now, now);
            }
        }
    }

    /// A stage's job runs, for the first time or again.
    pub(super) fn is_running(&mut self, id: StageId, job: String, host: Option<String>) {
        let now = self.started.elapsed().as_secs_f64();
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.started = now;
            if let Some(execution) = execution.job.as_mut() {
                execution.id = job;
                execution.host = host.or(execution.host.take());
            }
        }
        self.announce(id);
    }

    /// Lets jobs go on without the tool: the next run takes them over.
    pub(super) fn leave_jobs(&mut self) {
        let running = std::mem::take(&mut self.running).into_iter();
        let (jobs, others): (Vec<_>, Vec<_>) = running.partition(|running| running.is_job);
        self.running = others;
        for running in jobs {
            let is_left = running.worker.as_ref().is_some_and(|worker| worker.leave());
            if !is_left {
                self.running.push(running);
                continue;
            }
            self.queued -= 1;
            self.note(running.id, "its job goes on; the next run takes it over");
            let stage = self.pipeline.stage(running.id);
            let decision = Decision {
                state: State::Run,
                reasons: running.reasons.clone(),
                key: Some(running.key.clone()),
                description: None,
            };
            let outcome = StageOutcome::Interrupted;
            self.settle(stage, outcome, None, &decision, None, Vec::new(), None);
        }
    }
}
