//! The loop that owns the truth about a run: which stage is where, who runs, what was published.
//!
//! A stage is looked at when something has changed for it: its last producer is settled, a worker has ended, a signal
//! has come, or, while it waits for another process, 200 ms are over. To look at all stages at every message would be
//! shorter, and would cost stages times messages: with thousands of members that report their progress the loop would
//! do little else. The price are the sets and counts of [`Dispatcher`] that say for whom something has changed.

mod end;
mod jobs;
mod names;
mod record;
mod remote;
mod start;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::executor::{Executor, Jobs, Told, Worker};
use super::provenance::{self, Git};
use super::resources::{Gpu, GpuLease, Gpus, Threads};
use super::{Event, MissingFor, Reporter, RunError, StoreWorld, observe, signals};
use crate::fail::{self, Step};
use crate::key::{ContentHash, StageKey};
use crate::kind::{Device, ErrorClass, Registry, StageError};
use crate::pipeline::{Pipeline, Profile, Stage, StageId};
use crate::plan::{Decision, Observed, Planned, Reason, Selection, State, Upstream, decide, plan};
use crate::store::{
    Execution, Hold, JournalEntry, RECORD_VERSION, RunId, RunRecord, RunStage, RunStatus, SharedElsewhere,
    StageOutcome, Store, Uses,
};

pub use names::log_path;
pub(super) use start::gpus_wanted;

/// How often a key or pool that another process holds is looked at again, where stages run on this machine.
const POLL: Duration = Duration::from_millis(200);

/// How a run proceeds; none of it changes a result.
#[derive(Clone)]
pub struct RunOptions<'a> {
    /// What the program is made of.
    pub registry: &'a Registry,
    /// Stages that may run side by side, at least 1.
    pub jobs: usize,
    /// Processor threads that all stages share, at least 1.
    pub threads: usize,
    /// Where stages compute that can choose.
    pub device: Device,
    /// Where stages become jobs of a site's queue: how.
    pub queue: Option<QueueOptions>,
    /// In place of this machine's GPUs, for tests.
    pub gpus: Option<Vec<Gpu>>,
    /// Whether stages still start after one has failed, where they do not depend on it.
    pub keep_going: bool,
    /// What is asked for a result before a stage computes it.
    pub remote: Option<SharedElsewhere>,
    /// As typed, for the record.
    pub arguments: Vec<String>,
}

/// How stages become jobs.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// What jobs ask for, and which stages are none.
    pub profile: Profile,
    /// Jobs that wait or run at once, at least 1.
    pub jobs: usize,
}

/// Signals closer together than this are one wish: a terminal that closes sends several.
const ONE_WISH: Duration = Duration::from_millis(500);

/// What arrives at the loop.
enum Arrival {
    Worker(StageId, Told),
    /// What the remote has of a stage's key.
    Remote(StageId, remote::Answer),
    /// Why the queue cannot be asked.
    Queue(String),
    Signal(i32),
}

/// What a stage has for itself while it runs.
#[derive(Debug, Default)]
struct Lease {
    threads: usize,
    gpus: GpuLease,
    /// Units of pools; others may have them when these are dropped.
    pools: Vec<File>,
}

impl Lease {
    /// What keeps GPUs and pools from others.
    fn locks(&self) -> impl Iterator<Item = &File> {
        self.pools.iter().chain(&self.gpus.locks)
    }
}

/// A running worker.
struct Running {
    id: StageId,
    key: StageKey,
    description: Json,
    reasons: Vec<Reason>,
    /// Until it has ended.
    worker: Option<Box<dyn Worker>>,
    /// Of one beside the tool.
    _scratch: Option<tempfile::TempDir>,
    /// Where its outputs are, or will be.
    outputs: PathBuf,
    lease: Lease,
    is_job: bool,
    /// Since it runs, or waits to run.
    started: Instant,
    /// Whether it was said that it runs.
    is_announced: bool,
    /// When it is asked to end, and then, when it is ended.
    deadline: Option<Instant>,
    overdue: bool,
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

/// Brings the selection up to date and returns the run's record, also where stages failed or the run was interrupted.
///
/// # Errors
/// Data is missing, the cache cannot be read or written, or the tool cannot start or watch workers ([`RunError`]). What
/// runs comes to its end first.
pub fn run(
    pipeline: &Pipeline,
    selection: &Selection,
    store: &mut Store,
    options: &RunOptions<'_>,
    reporter: &mut dyn Reporter,
) -> Result<RunRecord, RunError> {
    store.sweep();
    let git = Git::ask(&pipeline.root);
    let observed = observe(pipeline, selection, store, &mut |event| reporter.event(event))?;
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
    fs_err::create_dir_all(folder.join("logs")).map_err(|source| RunError::Folder {
        folder: folder.clone(),
        source,
    })?;
    keep_texts(pipeline, &folder);
    let (sender, receiver) = channel();
    signals::forward(sender.clone(), Arrival::Signal).map_err(RunError::Signals)?;
    let record = RunRecord {
        version: RECORD_VERSION,
        id: id.clone(),
        pipeline: pipeline.name.clone(),
        project: store.project().map(str::to_owned),
        path: pipeline.path.clone(),
        arguments: options.arguments.clone(),
        started_at: jiff::Timestamp::now().to_string(),
        finished_at: None,
        status: RunStatus::Running,
        seconds: 0.0,
        dynvis_version: options.registry.version.to_owned(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        device: options.device.to_string(),
        driver: None,
        git: None,
        binary: provenance::binary(store),
        lock_file: Some(provenance::lock_file(options.registry)),
        headline: pipeline.headline.clone(),
        report: pipeline.report.clone(),
        pulled: None,
        stages: Vec::new(),
    };
    let uses = store.uses(&folder)?;
    store.write_run(&folder, &record, false)?;
    fail::at(Step::Begun).map_err(|source| RunError::Record {
        folder: folder.clone(),
        source,
    })?;
    reporter.event(&Event::Started {
        run: &id,
        folder: &folder,
        plan: &planned,
        selected: planned.iter().filter(|p| selection.includes(p.id)).count(),
    });
    let count = pipeline.stages.len();
    let mut rank = vec![0; count];
    for (place, planned) in planned.iter().enumerate() {
        rank[planned.id.0] = place;
    }
    let mut consumers = vec![Vec::new(); count];
    let mut unsettled = vec![0; count];
    for stage in &pipeline.stages {
        let producers: BTreeSet<usize> = stage.inputs.iter().map(|input| input.producer.0).collect();
        unsettled[stage.id.0] = producers.len();
        for producer in producers {
            consumers[producer].push(stage.id);
        }
    }
    let open = (0..count)
        .filter(|stage| unsettled[*stage] == 0)
        .map(|stage| rank[stage]);
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
        unwritten: Vec::new(),
        executions: HashMap::new(),
        git: Some(git),
        record,
        decided: known_decisions(&planned),
        planned,
        settled: (0..count).map(|_| None).collect(),
        open: open.collect(),
        ready: BTreeSet::new(),
        rank,
        consumers,
        unsettled,
        hold: Some(hold),
        failed: vec![Vec::new(); count],
        jobs: None,
        queued: 0,
        announced_waiting: vec![false; count],
        running: Vec::new(),
        remote: options.remote.clone(),
        asked: HashSet::new(),
        asking: Vec::new(),
        threads: Threads::new(options.threads, options.jobs),
        gpus: None,
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

/// The pipeline as it was read, beside the run's record.
fn keep_texts(pipeline: &Pipeline, folder: &std::path::Path) {
    let folder = folder.join("pipeline");
    for (name, text) in &pipeline.texts {
        // Best effort: it is for readers, and no result depends on it.
        let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), text));
    }
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
pub fn missing_data(pipeline: &Pipeline, planned: &[Planned]) -> Vec<MissingFor> {
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
    options: &'a RunOptions<'a>,
    reporter: &'a mut dyn Reporter,
    observed: Vec<Option<Observed>>,
    folder: PathBuf,
    /// Which results may not be collected while the run goes on.
    uses: Uses,
    /// Those that are not noted there yet.
    unnoted: Vec<StageKey>,
    /// Stages that have ended and are not in the run's record yet.
    unwritten: Vec<RunStage>,
    /// How the stages that executed went, in their last attempt.
    executions: HashMap<StageId, Execution>,
    git: Option<Git>,
    record: RunRecord,
    planned: Vec<Planned>,
    settled: Vec<Option<Settled>>,
    /// Stages to be decided on, since every producer is settled: their places in the plan, where producers come first.
    open: BTreeSet<usize>,
    /// Stages that are to run and wait for threads, GPUs, pools or another process, in the same way.
    ready: BTreeSet<usize>,
    /// By stage: its place in the plan.
    rank: Vec<usize>,
    /// By stage: those that read its outputs; none once it is settled.
    consumers: Vec<Vec<StageId>>,
    /// By stage: how many of its producers are not settled.
    unsettled: Vec<usize>,
    /// Decisions that hold until a stage is started or settled: those of the plan, where nothing upstream executes, and
    /// those on stages that wait for threads, GPUs or pools.
    decided: Vec<Option<Decision>>,
    /// Since before the plan was made.
    hold: Option<Hold>,
    /// Attempts that were followed by another one: why they failed.
    failed: Vec<Vec<ErrorClass>>,
    /// Once a stage is a job.
    jobs: Option<Jobs>,
    /// How many are.
    queued: usize,
    announced_waiting: Vec<bool>,
    running: Vec<Running>,
    /// What is asked for results, until it turns out to be away.
    remote: Option<SharedElsewhere>,
    /// Keys that it was asked for.
    asked: HashSet<StageKey>,
    /// Stages whose results may be on their way.
    asking: Vec<remote::Asking>,
    threads: Threads,
    /// What stages may have, once one of them asks.
    gpus: Option<Gpus>,
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
    ///
    /// Stages are looked at when something has changed for them: one has ended, or, while one waits for another
    /// process, after a while. What workers tell on their way changes nothing.
    fn drive(&mut self) {
        let mut waits_for_others = false;
        let mut look_at = Some(Instant::now());
        loop {
            if look_at.is_some_and(|at| at <= Instant::now()) {
                let scheduled = match waits_for_others {
                    true => self.store.refresh().map_err(RunError::from),
                    false => Ok(()),
                };
                waits_for_others = scheduled.and_then(|()| self.schedule()).unwrap_or_else(|error| {
                    self.stop_for(error);
                    false
                });
                look_at = match self.open.is_empty() || self.stopping {
                    false => Some(Instant::now()),
                    true => waits_for_others.then(|| Instant::now() + self.pause()),
                };
                // What is on its way when a run stops is gone on with by the next one.
                let none_asking = self.asking.is_empty() || self.stopping;
                if self.running.is_empty() && look_at.is_none() && none_asking {
                    return;
                }
            }
            let handled = match self.next_arrival(look_at) {
                Some(Arrival::Signal(signal)) => {
                    self.interrupt(signal);
                    look_at = Some(Instant::now());
                    Ok(())
                }
                Some(Arrival::Worker(id, Told::Ended)) => {
                    look_at = Some(Instant::now());
                    self.worker_ended(id)
                }
                Some(Arrival::Worker(id, told)) => {
                    self.hear(id, told);
                    Ok(())
                }
                Some(Arrival::Remote(id, answer)) => {
                    look_at = Some(Instant::now());
                    self.remote_answered(id, answer)
                }
                Some(Arrival::Queue(text)) => {
                    self.reporter.event(&Event::QueueSilent { text: &text });
                    Ok(())
                }
                None => Ok(()),
            };
            if let Err(error) = handled {
                self.stop_for(error);
            }
            self.end_overdue();
            self.say_who_waits();
        }
    }

    /// How long what another process holds is left alone. Of a shared file system no more is asked than of the queue.
    fn pause(&self) -> Duration {
        let queue = self.options.queue.as_ref();
        queue.map_or(POLL, |queue| POLL.max(Duration::from_secs_f64(queue.profile.poll)))
    }

    /// What arrives next; `None` if nothing does until then, or before a stage's time is up.
    fn next_arrival(&self, until: Option<Instant>) -> Option<Arrival> {
        let deadlines = self.running.iter().filter_map(|running| running.deadline);
        let deadlines = deadlines.chain(self.asking.iter().filter_map(|asking| asking.late));
        match deadlines.chain(until).min() {
            Some(until) => self
                .receiver
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .ok(),
            None => self.receiver.recv().ok(),
        }
    }

    /// Lets a stage be decided on (again).
    fn open(&mut self, id: StageId) {
        self.ready.remove(&self.rank[id.0]);
        self.open.insert(self.rank[id.0]);
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
        let mut records: Vec<JournalEntry> = Vec::new();
        while let Some(rank) = self.open.pop_first() {
            let id = self.planned[rank].id;
            let stage = pipeline.stage(id);
            let Some(upstream) = self.upstream(stage) else {
                continue;
            };
            let decision = match self.decided[id.0].take() {
                Some(decision) if !self.is_overtaken(&decision) => decision,
                _ => self.decide(stage, &upstream),
            };
            match decision.state {
                State::Cached => records.extend(self.settle_present(stage, &decision, StageOutcome::Cached)),
                State::Restore => records.extend(self.settle_present(stage, &decision, StageOutcome::Restored)),
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
                    self.ready.insert(rank);
                    self.decided[id.0] = Some(decision);
                }
            }
        }
        self.note_uses()?;
        if !records.is_empty() {
            self.store.commit_all(&records)?;
        }
        if self.stopping {
            return Ok(false);
        }
        let before = self.queued;
        let started = self
            .start_jobs()
            .and_then(|waits_for_others| Ok(self.start_ready()? || waits_for_others));
        // Together, and those before one that could not be started, too.
        if self.queued > before {
            self.jobs()?.submit();
        }
        started
    }

    /// Whether another run may have computed meanwhile what is to run here. Whoever starts a stage looks again; until
    /// then there is nothing else that is new.
    fn is_overtaken(&self, decision: &Decision) -> bool {
        let has_result = decision
            .key
            .as_ref()
            .is_some_and(|key| self.store.result(key).is_some());
        decision.state == State::Run && has_result && !decision.reasons.contains(&Reason::Forced)
    }

    /// Keeps the results of settled stages from being collected, and lets others see what has ended. The store must be
    /// held.
    fn note_uses(&mut self) -> Result<(), RunError> {
        self.uses.note(self.unnoted.drain(..))?;
        if !self.unwritten.is_empty() {
            self.store.add_stages(&self.folder, &self.unwritten)?;
            self.unwritten.clear();
        }
        Ok(())
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

    /// The first Ctrl-C asks workers to end (those that keep checkpoints write one), the second one ends them. Where the
    /// terminal is closed, or the tool is asked to end, jobs go on without it.
    fn interrupt(&mut self, signal: i32) {
        let last = self.last_interrupt.replace(Instant::now());
        if last.is_some_and(|last| last.elapsed() < ONE_WISH) {
            return;
        }
        self.interrupts += 1;
        self.stopping = true;
        if self.interrupts == 1 {
            self.reporter.event(&Event::Interrupted);
        }
        if signal != signal_hook::consts::SIGINT {
            self.leave_jobs();
        }
        let signal = if self.interrupts == 1 {
            rustix::process::Signal::TERM
        } else {
            rustix::process::Signal::KILL
        };
        self.running.iter().for_each(|running| running.signal(signal));
    }
}

impl Running {
    /// To the worker and all that it started.
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(worker) = &self.worker {
            worker.signal(signal);
        }
    }
}
