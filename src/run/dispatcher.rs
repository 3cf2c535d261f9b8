//! The loop that owns the truth about a run: which stage is where, who runs, what was published.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use wait4::Wait4;

use super::protocol::Message;
use super::provenance::{self, Git};
use super::resources::Threads;
use super::worker::{self, WorkerSpec};
use super::{Device, Event, Failure, MissingFor, Reporter, RunError, StoreWorld, observe, signals};
use crate::key::{ContentHash, StageKey};
use crate::pipeline::{Pipeline, Stage, StageId};
use crate::plan::{Decision, Observed, Planned, Reason, Selection, State, Upstream, decide, plan};
use crate::stage::{Input, StageError};
use crate::store::{
    Attempt, Execution, Hold, Record, ResultRecord, RunId, RunInput, RunRecord, RunStage, RunStatus, StageOutcome,
    Store, StoreError, Uses,
};

/// How often a key that another process holds is looked at again.
const POLL: Duration = Duration::from_millis(200);

/// How a run proceeds; none of it changes a result.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) jobs: usize,
    pub(crate) threads: usize,
    pub(crate) device: Device,
    pub(crate) keep_going: bool,
    /// As typed, for the record.
    pub(crate) arguments: Vec<String>,
}

/// Signals closer together than this are one wish: a terminal that closes sends several.
const ONE_WISH: Duration = Duration::from_millis(500);

/// What arrives at the loop.
enum Arrival {
    Worker(StageId, Option<Message>),
    Signal,
}

/// A running worker.
struct Running {
    id: StageId,
    key: StageKey,
    description: Json,
    reasons: Vec<Reason>,
    /// Until it has ended.
    child: Option<Child>,
    scratch: tempfile::TempDir,
    threads: usize,
    device: Device,
    started: Instant,
    said: Option<Result<(), StageError>>,
    /// Held until the result is committed.
    _lock: File,
}

/// What became of a stage.
struct Settled {
    outcome: StageOutcome,
    key: Option<StageKey>,
    reason: String,
    seconds: Option<f64>,
    outputs: Vec<(String, ContentHash)>,
}

/// Brings the selection up to date and returns the run's record.
pub(crate) fn run(
    pipeline: &Pipeline,
    selection: &Selection,
    store: &mut Store,
    options: &RunOptions,
    reporter: &mut dyn Reporter,
) -> Result<RunRecord, RunError> {
    store.sweep();
    let git = Git::ask(&pipeline.root);
    let observed = observe(pipeline, store, &mut |stage, files, bytes| {
        reporter.event(&Event::Reading { stage, files, bytes });
    })?;
    // Until what is planned to be there is noted as used.
    let hold = store.hold()?;
    let planned = {
        let mut world = StoreWorld {
            store,
            pipeline: &pipeline.name,
            observed: &observed,
        };
        plan(pipeline, selection, &mut world)
    };
    let missing = missing_data(pipeline, &planned);
    if !missing.is_empty() {
        return Err(RunError::MissingData(missing));
    }
    let id = RunId::fresh();
    let folder = store.new_run_folder(&id)?;
    fs_err::create_dir_all(folder.join("logs")).map_err(RunError::Spawn)?;
    let (sender, receiver) = channel();
    signals::forward(sender.clone(), || Arrival::Signal).map_err(RunError::Spawn)?;
    let record = RunRecord {
        version: 1,
        id: id.clone(),
        pipeline: pipeline.name.clone(),
        path: pipeline.path.clone(),
        arguments: options.arguments.clone(),
        started_at: jiff::Timestamp::now().to_string(),
        finished_at: None,
        status: RunStatus::Running,
        seconds: 0.0,
        dynvis_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        device: options.device.to_string(),
        driver: None,
        git: None,
        binary: provenance::binary(store),
        lock_file: Some(provenance::lock_file()),
        headline: pipeline.headline.clone(),
        stages: Vec::new(),
    };
    let uses = store.uses(&folder)?;
    store.write_run(&folder, &record, false)?;
    reporter.event(&Event::Started {
        run: &id,
        plan: &planned,
        selected: planned.iter().filter(|p| selection.includes(p.id)).count(),
    });
    let mut dispatcher = Dispatcher {
        pipeline,
        selection,
        store,
        options,
        reporter,
        observed,
        folder: folder.clone(),
        uses,
        unnoted: Vec::new(),
        executions: HashMap::new(),
        git: Some(git),
        record,
        decided: known_decisions(&planned),
        planned,
        settled: (0..pipeline.stages.len()).map(|_| None).collect(),
        hold: Some(hold),
        announced_waiting: vec![false; pipeline.stages.len()],
        running: Vec::new(),
        threads: Threads::new(options.threads, options.jobs),
        device: None,
        sender,
        receiver,
        stopping: false,
        trouble: None,
        interrupts: 0,
        last_interrupt: None,
        started: Instant::now(),
    };
    dispatcher.drive();
    let trouble = dispatcher.trouble.take();
    let record = dispatcher.finish(trouble.is_some())?;
    trouble.map_or(Ok(record), Err)
}

/// By stage. A key is known where all inputs are, and then nothing that runs here changes it.
fn known_decisions(planned: &[Planned]) -> Vec<Option<Decision>> {
    let mut known = vec![None; planned.len()];
    for p in planned.iter().filter(|p| p.decision.key.is_some()) {
        known[p.id.0] = Some(p.decision.clone());
    }
    known
}

/// Selected stages that lack data, each with the stages that wait for it.
pub(crate) fn missing_data(pipeline: &Pipeline, planned: &[Planned]) -> Vec<MissingFor> {
    let mut found: Vec<MissingFor> = Vec::new();
    for p in planned {
        let missing: Vec<_> = p
            .decision
            .reasons
            .iter()
            .filter_map(|r| match r {
                Reason::DataMissing(m) if p.decision.state == State::Blocked => Some(m.clone()),
                _ => None,
            })
            .collect();
        if missing.is_empty() {
            continue;
        }
        let mut waiting = Vec::new();
        let mut reached = vec![p.id];
        for other in planned {
            let stage = pipeline.stage(other.id);
            if other.decision.state == State::Blocked && stage.inputs.iter().any(|i| reached.contains(&i.producer)) {
                reached.push(other.id);
                waiting.push(stage.name.clone());
            }
        }
        found.push(MissingFor {
            stage: pipeline.stage(p.id).name.clone(),
            missing,
            waiting,
        });
    }
    found
}

struct Dispatcher<'a> {
    pipeline: &'a Pipeline,
    selection: &'a Selection,
    store: &'a mut Store,
    options: &'a RunOptions,
    reporter: &'a mut dyn Reporter,
    observed: Vec<Observed>,
    folder: PathBuf,
    /// Which results may not be collected while the run goes on.
    uses: Uses,
    /// Those that are not noted there yet.
    unnoted: Vec<StageKey>,
    /// How the stages that executed went.
    executions: HashMap<StageId, Execution>,
    git: Option<Git>,
    record: RunRecord,
    planned: Vec<Planned>,
    settled: Vec<Option<Settled>>,
    /// Decisions that hold until a stage is started or settled: those of the plan, where nothing upstream executes, and
    /// those on stages that wait for threads or for a device.
    decided: Vec<Option<Decision>>,
    /// Since before the plan was made.
    hold: Option<Hold>,
    announced_waiting: Vec<bool>,
    running: Vec<Running>,
    threads: Threads,
    /// Where stages compute that can choose, once one of them has started.
    device: Option<Device>,
    sender: Sender<Arrival>,
    receiver: Receiver<Arrival>,
    /// No new stages: after a failure, or Ctrl-C.
    stopping: bool,
    /// Why the tool itself cannot go on.
    trouble: Option<RunError>,
    interrupts: u32,
    last_interrupt: Option<Instant>,
    started: Instant,
}

impl Dispatcher<'_> {
    /// Until nothing runs and nothing can start. Trouble of the tool itself (a full disk) starts nothing more, but what
    /// runs may come to its end: hours of work are not thrown away because of another stage.
    fn drive(&mut self) {
        loop {
            let waits_for_lock = self.schedule().unwrap_or_else(|error| {
                self.stop_for(error);
                false
            });
            if self.running.is_empty() && !waits_for_lock {
                return;
            }
            let arrival = if waits_for_lock {
                self.receiver.recv_timeout(POLL).ok()
            } else {
                self.receiver.recv().ok()
            };
            let handled = match arrival {
                Some(Arrival::Signal) => {
                    self.interrupt();
                    Ok(())
                }
                Some(Arrival::Worker(id, Some(message))) => {
                    self.hear(id, message);
                    Ok(())
                }
                Some(Arrival::Worker(id, None)) => self.worker_ended(id),
                None => self.store.refresh().map_err(RunError::from),
            };
            if let Err(error) = handled {
                self.stop_for(error);
            }
        }
    }

    fn stop_for(&mut self, error: RunError) {
        self.stopping = true;
        self.trouble.get_or_insert(error);
    }

    /// Settles what needs no work and starts what can run. True if a stage waits for another process.
    fn schedule(&mut self) -> Result<bool, RunError> {
        let pipeline = self.pipeline;
        // What is decided to be there stays there: it is noted before others may collect.
        let _hold = match self.hold.take() {
            Some(hold) => hold,
            None => self.store.hold()?,
        };
        let mut waits_for_lock = false;
        let mut restored = Vec::new();
        let mut ready: Vec<(StageId, Option<StageKey>)> = Vec::new();
        let order: Vec<StageId> = self.planned.iter().map(|p| p.id).collect();
        for id in order {
            if self.settled[id.0].is_some() || self.running.iter().any(|r| r.id == id) {
                continue;
            }
            let stage = pipeline.stage(id);
            let Some(upstream) = self.upstream(stage) else {
                continue;
            };
            // Whoever starts a stage looks again; until then there is nothing new to find.
            let decision = match self.decided[id.0].take() {
                Some(decision) => decision,
                None => self.decide(stage, &upstream),
            };
            match decision.state {
                State::Cached => self.settle_present(stage, &decision, StageOutcome::Cached),
                State::Restore => {
                    restored.extend(decision.key.as_ref().map(|key| self.current_record(stage, key)));
                    self.settle_present(stage, &decision, StageOutcome::Restored);
                }
                State::Excluded => {
                    let usable = decision.reasons.contains(&Reason::NotSelectedButCurrent);
                    let outputs = match &decision.key {
                        Some(key) if usable => self.outputs_of(key),
                        _ => Vec::new(),
                    };
                    let key = decision.key.clone().filter(|_| usable);
                    self.settle(stage, StageOutcome::Excluded, key, &decision, None, outputs, None);
                }
                State::Blocked => {
                    self.settle(stage, StageOutcome::Blocked, None, &decision, None, Vec::new(), None);
                }
                State::Run | State::Maybe => {
                    ready.push((id, decision.key.clone()));
                    self.decided[id.0] = Some(decision);
                }
            }
        }
        self.note_uses()?;
        if !restored.is_empty() {
            self.store.commit_all(&restored)?;
        }
        if self.stopping {
            return Ok(false);
        }
        // A GPU's memory is planned by one process at a time. Stages that wait for that leave their share of threads to others.
        let mut on_gpu = self.running.iter().any(|r| r.device != Device::Cpu);
        let mut startable = Vec::new();
        for (id, key) in ready {
            let device = if pipeline.stage(id).kind.uses_device() {
                self.device()?
            } else {
                Device::Cpu
            };
            if device == Device::Cpu || !std::mem::replace(&mut on_gpu, true) {
                startable.push((id, key, device));
            }
        }
        let count = startable.len();
        for (index, (id, key, device)) in startable.into_iter().enumerate() {
            let stage = pipeline.stage(id);
            let Some(key) = key else {
                continue;
            };
            let Some(threads) = self.threads.lease(stage.resources.cpu, count - index) else {
                break;
            };
            self.decided[id.0] = None;
            let Some(lock) = self.store.try_lock(&key)? else {
                self.threads.give_back(threads);
                waits_for_lock = true;
                if !std::mem::replace(&mut self.announced_waiting[id.0], true) {
                    self.reporter.event(&Event::Waiting { stage: &stage.name, id });
                }
                continue;
            };
            // Look again: another process may have finished it just before the lock was free.
            self.store.refresh()?;
            let upstream = self.upstream(stage).unwrap_or_default();
            let decision = self.decide(stage, &upstream);
            if decision.state != State::Run {
                self.threads.give_back(threads);
                waits_for_lock = true;
                continue;
            }
            self.start(stage, key, decision, (threads, device), lock)?;
        }
        Ok(waits_for_lock)
    }

    /// Keeps the results of settled stages from being collected. The store must be held.
    fn note_uses(&mut self) -> Result<(), RunError> {
        Ok(self.uses.note(self.unnoted.drain(..))?)
    }

    /// Where stages compute that can choose; the record says so from then on.
    fn device(&mut self) -> Result<Device, RunError> {
        if let Some(device) = self.device {
            return Ok(device);
        }
        let device = self.options.device.resolve()?;
        self.record.device = device.to_string();
        Ok(*self.device.insert(device))
    }

    /// What fills each slot, once every producer is settled.
    fn upstream(&self, stage: &Stage) -> Option<Vec<Upstream>> {
        stage
            .inputs
            .iter()
            .map(|input| {
                let settled = self.settled[input.producer.0].as_ref()?;
                Some(
                    settled
                        .outputs
                        .iter()
                        .find(|(slot, _)| *slot == input.output)
                        .map_or(Upstream::Unavailable, |(_, c)| Upstream::Known(c.clone())),
                )
            })
            .collect()
    }

    fn decide(&mut self, stage: &Stage, upstream: &[Upstream]) -> Decision {
        let mut world = StoreWorld {
            store: self.store,
            pipeline: &self.pipeline.name,
            observed: &self.observed,
        };
        decide(self.pipeline, stage, upstream, self.selection, &mut world)
    }

    fn outputs_of(&self, key: &StageKey) -> Vec<(String, ContentHash)> {
        self.store.result(key).map_or_else(Vec::new, |r| {
            r.outputs.iter().map(|o| (o.slot.clone(), o.content.clone())).collect()
        })
    }

    fn settle_present(&mut self, stage: &Stage, decision: &Decision, outcome: StageOutcome) {
        if let Some(key) = decision.key.clone() {
            let outputs = self.outputs_of(&key);
            self.settle(stage, outcome, Some(key), decision, None, outputs, None);
        }
    }

    fn current_record(&self, stage: &Stage, key: &StageKey) -> Record {
        Record::Current {
            pipeline: self.pipeline.name.clone(),
            stage: stage.name.clone(),
            key: key.clone(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the one setter of a stage's end")]
    fn settle(
        &mut self,
        stage: &Stage,
        outcome: StageOutcome,
        key: Option<StageKey>,
        decision: &Decision,
        seconds: Option<f64>,
        outputs: Vec<(String, ContentHash)>,
        error: Option<&Failure>,
    ) {
        let reasons: Vec<String> = decision.reasons.iter().map(Reason::to_string).collect();
        let reason = match error {
            Some(error) => error.to_string(),
            None => reasons.join("; "),
        };
        self.unnoted.extend(key.clone());
        self.settled[stage.id.0] = Some(Settled {
            outcome,
            key,
            reason,
            seconds,
            outputs,
        });
        self.reporter.event(&Event::StageFinished {
            stage: &stage.name,
            id: stage.id,
            outcome,
            seconds,
            error,
        });
    }

    fn start(
        &mut self,
        stage: &Stage,
        key: StageKey,
        decision: Decision,
        (threads, device): (usize, Device),
        lock: File,
    ) -> Result<(), RunError> {
        if decision.reasons.contains(&Reason::Forced) {
            // From the beginning: whoever forces a stage does not trust what is there.
            self.store.drop_checkpoint(&key);
        }
        let scratch = self.store.scratch(&key)?;
        let inputs = stage
            .inputs
            .iter()
            .filter_map(|input| {
                let settled = self.settled[input.producer.0].as_ref()?;
                let (_, content) = settled.outputs.iter().find(|(s, _)| *s == input.output)?;
                Some(Input {
                    slot: input.slot.clone(),
                    artifact: input.artifact,
                    path: self.store.object(content),
                })
            })
            .collect();
        let spec = WorkerSpec {
            kind: stage.kind.name().to_owned(),
            params: stage.params.clone(),
            inputs,
            key: key.as_str().to_owned(),
            scratch: scratch.path().join("outputs"),
            checkpoint: self.store.checkpoint(&key),
            root: self.pipeline.root.clone(),
            threads,
            device,
            parent: std::process::id(),
        };
        let id = stage.id;
        let child = worker::start(
            &spec,
            &scratch.path().join("spec.json"),
            &log_path(&self.folder, &stage.name),
            &lock,
            self.sender.clone(),
            move |message| Arrival::Worker(id, message),
        )
        .map_err(RunError::Spawn)?;
        let expected_seconds = self.planned.iter().find(|p| p.id == id).and_then(|p| p.seconds);
        self.reporter.event(&Event::StageStarted {
            stage: &stage.name,
            id,
            reasons: &decision.reasons,
            threads,
            expected_seconds,
        });
        self.executions.insert(
            id,
            Execution {
                started: self.started.elapsed().as_secs_f64(),
                threads,
                device: device.to_string(),
                cpu_seconds: 0.0,
                peak_bytes: 0,
            },
        );
        self.running.push(Running {
            id,
            key,
            description: decision.description.unwrap_or_default(),
            reasons: decision.reasons,
            child: Some(child),
            scratch,
            threads,
            device,
            started: Instant::now(),
            said: None,
            _lock: lock,
        });
        Ok(())
    }

    fn hear(&mut self, id: StageId, message: Message) {
        match message {
            Message::Progress(update) => self.reporter.event(&Event::Progress {
                stage: &self.pipeline.stage(id).name,
                id,
                update: &update,
            }),
            Message::Note(text) => self.reporter.event(&Event::Note {
                stage: &self.pipeline.stage(id).name,
                id,
                text: &text,
            }),
            Message::Failed(error) => self.said(id, Err(error)),
            Message::Done => self.said(id, Ok(())),
        }
    }

    fn said(&mut self, id: StageId, what: Result<(), StageError>) {
        if let Some(running) = self.running.iter_mut().find(|r| r.id == id) {
            running.said = Some(what);
        }
    }

    fn worker_ended(&mut self, id: StageId) -> Result<(), RunError> {
        let Some(index) = self.running.iter().position(|r| r.id == id) else {
            return Ok(());
        };
        let mut running = self.running.remove(index);
        self.threads.give_back(running.threads);
        let Some(child) = running.child.take() else {
            return Ok(());
        };
        let ended = child.wait4().map_err(RunError::Spawn)?;
        let status = ended.status;
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.cpu_seconds = (ended.rusage.utime + ended.rusage.stime).as_secs_f64();
            execution.peak_bytes = ended.rusage.maxrss;
        }
        // From before the outputs are in place until the result that names them is noted as used.
        let _hold = self.store.hold()?;
        let stage = self.pipeline.stage(id);
        let seconds = running.started.elapsed().as_secs_f64();
        let result = match running.said.take() {
            // Everything is written when it says so, even if a signal ends its process in that moment.
            Some(Ok(())) if status.success() || self.interrupts > 0 => self.publish(stage, &running, seconds),
            _ if self.interrupts > 0 => Err(None),
            Some(Err(error)) => Err(Some(Failure::Stage(error))),
            _ => Err(Some(Failure::Crashed {
                status: status.to_string(),
            })),
        };
        let decision = Decision {
            state: State::Run,
            reasons: std::mem::take(&mut running.reasons),
            key: Some(running.key.clone()),
            description: None,
        };
        match result {
            Ok(outputs) => {
                let key = Some(running.key);
                let seconds = Some(seconds);
                self.settle(stage, StageOutcome::Ran, key, &decision, seconds, outputs, None);
                self.note_uses()?;
            }
            Err(failure) => {
                let interrupted = failure.is_none();
                let noted = self.store.commit(Record::Attempt {
                    key: running.key.clone(),
                    attempt: Attempt {
                        run: self.record.id.clone(),
                        interrupted,
                    },
                });
                if let Err(error) = noted {
                    self.stop_for(error.into());
                }
                // Where a forced stage has a result, the next run takes that.
                if self.store.has_checkpoint(&running.key) && self.store.result(&running.key).is_none() {
                    self.reporter.event(&Event::Note {
                        stage: &stage.name,
                        id,
                        text: "the next run goes on from its last checkpoint",
                    });
                }
                let outcome = if interrupted {
                    StageOutcome::Interrupted
                } else {
                    keep_partial(&running, &self.folder, &stage.name);
                    StageOutcome::Failed
                };
                self.stopping |= interrupted || !self.options.keep_going;
                self.settle(
                    stage,
                    outcome,
                    None,
                    &decision,
                    Some(seconds),
                    Vec::new(),
                    failure.as_ref(),
                );
            }
        }
        Ok(())
    }

    /// Verifies what was read, publishes what was written, commits.
    fn publish(
        &mut self,
        stage: &Stage,
        running: &Running,
        seconds: f64,
    ) -> Result<Vec<(String, ContentHash)>, Option<Failure>> {
        let store_failure = |e: StoreError| {
            let cause = std::error::Error::source(&e).map(|s| format!(": {s}"));
            Some(Failure::Store {
                message: format!("{e}{}", cause.unwrap_or_default()),
            })
        };
        let external = stage.kind.external(&stage.params, &self.pipeline.root);
        for file in external.files {
            let now = self.store.fingerprints.file(&file.path).ok();
            let before = self.observed[stage.id.0]
                .files
                .iter()
                .find(|(slot, _)| *slot == file.slot)
                .map(|(_, hash)| hash.clone());
            if now != before {
                return Err(Some(Failure::InputChanged {
                    file: file.path.display().to_string(),
                }));
            }
        }
        let mut outputs = Vec::new();
        for output in &stage.outputs {
            let scratch = running.scratch.path().join("outputs").join(&output.slot);
            let stored = self
                .store
                .publish(&output.slot, output.artifact, &scratch)
                .map_err(store_failure)?;
            outputs.push(stored);
        }
        self.store
            .keep_description(&running.key, &running.description)
            .map_err(store_failure)?;
        let contents = outputs.iter().map(|o| (o.slot.clone(), o.content.clone())).collect();
        let result = Record::Result(ResultRecord {
            key: running.key.clone(),
            kind: stage.kind.name().to_owned(),
            run: self.record.id.clone(),
            seconds,
            finished_at: jiff::Timestamp::now().to_string(),
            outputs,
        });
        let current = self.current_record(stage, &running.key);
        self.store.commit_all(&[result, current]).map_err(store_failure)?;
        self.store.drop_checkpoint(&running.key);
        Ok(contents)
    }

    /// The first Ctrl-C asks workers to end (those that keep checkpoints write one), the second one ends them.
    fn interrupt(&mut self) {
        let last = self.last_interrupt.replace(Instant::now());
        if last.is_some_and(|last| last.elapsed() < ONE_WISH) {
            return;
        }
        self.interrupts += 1;
        self.stopping = true;
        if self.interrupts == 1 {
            self.reporter.event(&Event::Interrupted);
        }
        let signal = if self.interrupts == 1 {
            rustix::process::Signal::TERM
        } else {
            rustix::process::Signal::KILL
        };
        self.signal_workers(signal);
    }

    fn signal_workers(&self, signal: rustix::process::Signal) {
        for running in &self.running {
            let id = running.child.as_ref().map(Child::id);
            let pid = id
                .and_then(|id| i32::try_from(id).ok())
                .and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended in this moment; then there is nothing to end.
                let _ = rustix::process::kill_process_group(pid, signal);
            }
        }
    }

    /// Writes the final record.
    fn finish(mut self, mut failed: bool) -> Result<RunRecord, RunError> {
        let contents: Vec<HashMap<String, ContentHash>> = self
            .settled
            .iter()
            .map(|s| s.iter().flat_map(|s| s.outputs.iter().cloned()).collect())
            .collect();
        for planned in &self.planned {
            let stage = self.pipeline.stage(planned.id);
            let settled = self.settled[planned.id.0].take().unwrap_or(Settled {
                outcome: if self.selection.includes(planned.id) {
                    StageOutcome::Blocked
                } else {
                    StageOutcome::Excluded
                },
                key: None,
                reason: "the run stopped before it".into(),
                seconds: None,
                outputs: Vec::new(),
            });
            failed |= settled.outcome == StageOutcome::Failed;
            let outputs = stage
                .outputs
                .iter()
                .filter_map(|o| {
                    let (_, content) = settled.outputs.iter().find(|(s, _)| *s == o.slot)?;
                    Some(crate::store::RunOutput {
                        slot: o.slot.clone(),
                        artifact: o.artifact,
                        content: content.clone(),
                    })
                })
                .collect();
            self.record.stages.push(RunStage {
                name: stage.name.clone(),
                family: stage.family.clone(),
                fields: stage.fields.clone(),
                kind: stage.kind.name().to_owned(),
                outcome: settled.outcome,
                reason: settled.reason,
                key: settled.key,
                seconds: settled.seconds,
                execution: self.executions.remove(&planned.id),
                seed: stage.params.get("seed").and_then(Json::as_i64),
                files: self.observed[planned.id.0].files.iter().cloned().collect(),
                inputs: stage
                    .inputs
                    .iter()
                    .map(|i| {
                        let producer = self.pipeline.stage(i.producer);
                        RunInput {
                            slot: i.slot.clone(),
                            stage: producer.family.clone(),
                            fields: producer.fields.clone(),
                            content: contents[i.producer.0].get(&i.output).cloned(),
                        }
                    })
                    .collect(),
                outputs,
            });
        }
        self.record.status = if self.interrupts > 0 {
            RunStatus::Interrupted
        } else if failed {
            RunStatus::Failed
        } else {
            RunStatus::Done
        };
        self.record.driver = self.device.and_then(provenance::driver);
        self.record.git = self.git.take().and_then(Git::answer);
        self.record.finished_at = Some(jiff::Timestamp::now().to_string());
        self.record.seconds = self.started.elapsed().as_secs_f64();
        // The record of a run that did nothing is no loss in a power cut, and a disk may take long.
        let executed = self.record.stages.iter().any(|s| s.execution.is_some());
        self.store.write_run(&self.folder, &self.record, executed)?;
        self.store.save_fingerprints()?;
        // Once more: another run's last worker may have ended since.
        self.store.sweep();
        self.reporter.event(&Event::Finished { record: &self.record });
        Ok(self.record)
    }
}

/// Keeps what a failed stage had written, under the run.
fn keep_partial(running: &Running, folder: &Path, stage: &str) {
    let outputs = running.scratch.path().join("outputs");
    if outputs.is_dir() {
        let kept = folder.join("partial").join(file_name(stage));
        // Best effort: the failure itself is already recorded.
        let _ = fs_err::create_dir_all(kept.parent().unwrap_or(folder)).and_then(|()| fs_err::rename(&outputs, &kept));
    }
}

/// A stage's name as a file name: no two names share one, and none is longer than file systems allow.
pub(crate) fn file_name(stage: &str) -> String {
    /// Most file systems take 255 bytes; endings are added.
    const LONGEST: usize = 200;
    let mut name = String::new();
    for byte in stage.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() => name.push(char::from(b)),
            b'@' | b'=' | b',' | b'.' | b'-' | b'_' => name.push(char::from(byte)),
            other => name += &format!("%{other:02x}"),
        }
    }
    if name.len() > LONGEST {
        let hash = blake3::hash(stage.as_bytes()).to_hex();
        name.truncate(LONGEST - 17);
        name += &format!("-{}", &hash[..16]);
    }
    name
}

/// Where a stage's log stands in a run's folder.
pub(crate) fn log_path(run_folder: &Path, stage: &str) -> PathBuf {
    run_folder.join("logs").join(format!("{}.log", file_name(stage)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_never_share_a_file() {
        assert_eq!(file_name("net@seed=0,x=1.5"), "net@seed=0,x=1.5");
        let long = "é".repeat(300);
        let names = ["a/b", "a_b", "a b", "a%20b", "a%2fb", &long, &long[2..]].map(file_name);
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| n.len() <= 200 && !n.contains('/')), "{names:?}");
    }
}
