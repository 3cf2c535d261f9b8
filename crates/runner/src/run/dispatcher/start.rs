//! Starting: threads, GPUs and pools for a stage, its key's lock, a second look, and then its worker.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Instant;

use super::names::log_path;
use super::{Arrival, Dispatcher, Lease, Running};
use crate::fail::{self, Step};
use crate::key::{ContentHash, StageKey, without_parameter};
use crate::kind::{Device, ErrorClass, Input};
use crate::pipeline::{Stage, StageId};
use crate::plan::{Decision, Reason, State};
use crate::run::executor::{Claim as JobClaim, Executor, Local, Order};
use crate::run::resources::{GpuLease, Gpus};
use crate::run::worker::WorkerSpec;
use crate::run::{Event, RunError};
use crate::store::{Execution, JobExecution, StageOutcome};

/// What a stage wants besides threads.
#[derive(PartialEq)]
pub(super) struct Claim<'a> {
    gpus: usize,
    gpu_bytes: Option<u64>,
    pools: &'a BTreeMap<String, usize>,
}

impl<'a> Claim<'a> {
    /// `gpus` are there at most.
    pub(super) fn of(stage: &'a Stage, gpus: usize) -> Self {
        let wanted = stage.resources.gpu;
        let wanted = match (stage.kind().uses_device(), stage.kind().uses_several_gpus()) {
            (true, true) => wanted.unwrap_or(1),
            (true, false) => wanted.unwrap_or(1).min(1),
            (false, _) => wanted.unwrap_or(0),
        };
        Self {
            gpus: wanted.min(gpus),
            gpu_bytes: stage.resources.gpu_bytes(),
            pools: &stage.resources.pools,
        }
    }

    fn is_empty(&self) -> bool {
        self.gpus == 0 && self.pools.is_empty()
    }
}

/// GPUs that a stage wants, however many there are.
pub(in crate::run) fn gpus_wanted(stage: &Stage, device: Device) -> usize {
    match device {
        Device::Cpu => 0,
        Device::Auto | Device::Cuda(_) => Claim::of(stage, usize::MAX).gpus,
    }
}

impl Dispatcher<'_> {
    /// Starts of the stages that are to run what there is room for. True if one waits for another process.
    pub(super) fn start_ready(&mut self) -> Result<bool, RunError> {
        let pipeline = self.pipeline;
        let mut waits_for_others = false;
        let mut refused: Vec<Claim> = Vec::new();
        let is_local = |rank: &usize| !self.becomes_job(self.planned[*rank].id);
        let ready: Vec<usize> = self.ready.iter().copied().filter(is_local).collect();
        let mut ready = ready.into_iter();
        while !self.threads.are_all_taken() {
            // No more than can start side by side, however many there are.
            let mut startable = Vec::new();
            let slots = self.threads.slots();
            for rank in ready.by_ref() {
                let id = self.planned[rank].id;
                let Some(key) = self.key_of(id) else {
                    continue;
                };
                let gpus = self.gpus.as_ref().map_or(usize::MAX, |gpus| gpus.0.len());
                let claim = Claim::of(pipeline.stage(id), gpus);
                if claim.is_empty() {
                    startable.push((id, key, None));
                } else if !refused.contains(&claim) {
                    // Of a thousand that want the same, one is enough to find out that they must wait; and those that
                    // wait leave their share of threads to others. The key comes first: who waits for that keeps no GPU
                    // from others.
                    match self.try_lock(id, &key)? {
                        None => waits_for_others = true,
                        Some(lock) => match self.lease(&claim)? {
                            Some(lease) => startable.push((id, key, Some((lock, lease)))),
                            None => {
                                refused.push(claim);
                                // Where this run alone uses it up, looking again costs next to nothing.
                                waits_for_others = true;
                            }
                        },
                    }
                }
                if startable.len() == slots {
                    break;
                }
            }
            if startable.is_empty() {
                break;
            }
            let count = startable.len();
            for (index, (id, key, held)) in startable.into_iter().enumerate() {
                waits_for_others |= self.try_start(id, key, held, count - index)?;
            }
            if self.stopping {
                break;
            }
        }
        Ok(waits_for_others)
    }

    /// The key of a stage that is decided to run.
    pub(super) fn key_of(&mut self, id: StageId) -> Option<StageKey> {
        if let Some(decision) = &self.decided[id.0] {
            return decision.key.clone();
        }
        let stage = self.pipeline.stage(id);
        let upstream = self.upstream(stage)?;
        let decision = self.decide(stage, &upstream);
        let key = decision.key.clone();
        self.decided[id.0] = Some(decision);
        key
    }

    /// Starts a stage where there are threads, its key is free, and it is still to run. True if it waits for another
    /// process.
    fn try_start(
        &mut self,
        id: StageId,
        key: StageKey,
        held: Option<(File, Lease)>,
        ready: usize,
    ) -> Result<bool, RunError> {
        if self.must_wait_to_ask(&key) {
            return Ok(false);
        }
        let stage = self.pipeline.stage(id);
        let Some(threads) = self.threads.lease(stage.resources.cpu, ready) else {
            return Ok(false);
        };
        let held = match held {
            Some(held) => Some(held),
            None => self.try_lock(id, &key)?.map(|lock| (lock, Lease::default())),
        };
        let Some((lock, mut lease)) = held else {
            self.threads.give_back(threads);
            return Ok(true);
        };
        let Some(decision) = self.look_again(id)? else {
            self.threads.give_back(threads);
            return Ok(true);
        };
        if self.is_to_ask(&key, &decision) {
            self.threads.give_back(threads);
            self.ask(id, &key, lock);
            return Ok(false);
        }
        lease.threads = threads;
        self.start(stage, key, decision, lease, lock)?;
        Ok(false)
    }

    /// Decides on a stage whose key is locked now: another process may have finished it just before. None where it is
    /// not to run any more; then it is open.
    pub(super) fn look_again(&mut self, id: StageId) -> Result<Option<Decision>, RunError> {
        let stage = self.pipeline.stage(id);
        self.store.refresh()?;
        let upstream = self.upstream(stage).unwrap_or_default();
        let decision = self.decide(stage, &upstream);
        if decision.state != State::Run {
            self.open(id);
            return Ok(None);
        }
        Ok(Some(decision))
    }

    /// The right to compute a key; if another run has it, that is said once.
    pub(super) fn try_lock(&mut self, id: StageId, key: &StageKey) -> Result<Option<File>, RunError> {
        // Whoever has it may be about to end, with a result.
        self.decided[id.0] = None;
        let lock = self.store.try_lock(key)?;
        if lock.is_none() && !std::mem::replace(&mut self.announced_waiting[id.0], true) {
            let stage = &self.pipeline.stage(id).name;
            self.reporter.event(&Event::Waiting { stage, id });
        }
        Ok(lock)
    }

    /// GPUs and units of pools; `None`: not now.
    pub(super) fn lease(&mut self, claim: &Claim) -> Result<Option<Lease>, RunError> {
        let mut pools = Vec::new();
        for (pool, count) in claim.pools {
            let size = self.pipeline.pools.get(pool).copied().unwrap_or(0);
            match self.store.try_units(&format!("pool-{pool}"), size, *count)? {
                Some(units) => pools.extend(units),
                None => return Ok(None),
            }
        }
        if claim.gpus > 0 && self.gpus.is_none() {
            self.gpus = Some(self.find_gpus()?);
        }
        let gpus = match &self.gpus {
            Some(gpus) if claim.gpus > 0 => {
                let take = |name: &str, size, count| self.store.try_units(name, size, count);
                gpus.lease(claim.gpus, claim.gpu_bytes, take)?
            }
            _ => Some(GpuLease::default()),
        };
        Ok(gpus.map(|gpus| Lease {
            threads: 0,
            gpus,
            pools,
        }))
    }

    /// What stages may have, looked for when the first of them asks; the record names it from then on.
    fn find_gpus(&mut self) -> Result<Gpus, RunError> {
        let gpus = Gpus(match &self.options.gpus {
            Some(gpus) => gpus.clone(),
            None => {
                let reporter = &mut self.reporter;
                let passed_over = |text: &str| reporter.event(&Event::GpuPassedOver { text });
                self.options.device.gpus(self.options.registry.gpus(), passed_over)?
            }
        });
        self.record.device = gpus.name();
        Ok(gpus)
    }

    pub(super) fn start(
        &mut self,
        stage: &Stage,
        key: StageKey,
        decision: Decision,
        mut lease: Lease,
        lock: File,
    ) -> Result<(), RunError> {
        let of_stage = || stage.name.clone();
        fail::at(Step::Locked).map_err(|source| RunError::Lock {
            stage: of_stage(),
            source,
        })?;
        // Rather now than after hours of work that could not be published.
        if let Err(failure) = self.verify_inputs(stage) {
            self.threads.give_back(lease.threads);
            self.stopping |= !self.options.keep_going;
            let outcome = StageOutcome::Failed;
            self.settle(stage, outcome, None, &decision, None, Vec::new(), Some(&failure));
            return Ok(());
        }
        let lineage = stage.work.grows_by().zip(decision.description.as_ref());
        let lineage = lineage.map(|(parameter, description)| without_parameter(description, parameter));
        let has_job = self.store.has_job(&key);
        let is_job = has_job || self.becomes_job(stage.id);
        if is_job {
            // They are the node's.
            self.threads.give_back(std::mem::take(&mut lease.threads));
        }
        let is_first = self.failed[stage.id.0].is_empty() && !has_job;
        if decision.reasons.contains(&Reason::Forced) && is_first {
            // From the beginning: whoever forces a stage does not trust what is there.
            self.store.drop_checkpoint(&key);
            if let Some(lineage) = &lineage {
                self.store.drop_ends(lineage);
            }
        }
        let scratch = match is_job {
            true => None,
            false => Some(self.store.scratch(&key)?),
        };
        fail::at(Step::Scratch).map_err(|source| RunError::Scratch {
            stage: of_stage(),
            source,
        })?;
        let mut told = self.pipeline.members(stage).into_iter();
        let mut contents = Vec::new();
        let inputs = stage
            .inputs
            .iter()
            .filter_map(|input| {
                let member = told.next().unwrap_or_default();
                let settled = self.settled[input.producer.0].as_ref()?;
                let (_, content) = settled.outputs.iter().find(|(s, _)| *s == input.output)?;
                contents.push(content.clone());
                Some(Input {
                    slot: input.slot.clone(),
                    artifact: input.artifact,
                    path: self.store.object(content),
                    member,
                })
            })
            .collect();
        // It sees no other GPUs than its own, so that they are counted from 0 there.
        let device = match lease.gpus.ids.as_slice() {
            [] => Device::Cpu,
            _ => Device::Cuda(0),
        };
        let spec = WorkerSpec {
            kind: stage.kind().name().to_owned(),
            params: stage.work.params().clone(),
            inputs,
            ensure: stage.ensure.clone(),
            key: key.as_str().to_owned(),
            // A job has one for each attempt.
            scratch: scratch
                .as_ref()
                .map(|scratch| scratch.path().join("outputs"))
                .unwrap_or_default(),
            checkpoint: self.store.checkpoint(&key),
            lineage: lineage.map(|lineage| self.store.ends(&lineage)),
            root: self.pipeline.root.clone(),
            threads: lease.threads,
            device,
            gpu_memory: lease.gpus.bytes,
            gpus: lease.gpus.ids.clone(),
            parent: std::process::id(),
            fail_at: fail::planned(),
        };
        let id = stage.id;
        let is_forced = decision.reasons.contains(&Reason::Forced);
        let claim = self.job_claim(stage, contents, is_forced);
        let outputs = spec.scratch.clone();
        let mut execution = Execution {
            started: self.started.elapsed().as_secs_f64(),
            threads: lease.threads,
            device: self
                .gpus
                .as_ref()
                .map_or_else(|| Device::Cpu.to_string(), |gpus| gpus.name_of(&lease.gpus)),
            cpu_seconds: 0.0,
            peak_bytes: 0,
            job: None,
        };
        if is_job {
            (execution.threads, execution.device) = self.granted(stage, &claim);
            execution.job = Some(JobExecution {
                id: String::new(),
                host: None,
                queued: execution.started,
            });
        }
        let place = match &scratch {
            Some(scratch) => scratch.path().to_owned(),
            None => self.store.job_folder(&key),
        };
        let sender = self.sender.clone();
        let order = Order {
            stage: &stage.name,
            family: &stage.family,
            key: &key,
            spec,
            log: log_path(&self.folder, &stage.name),
            locks: [&lock].into_iter().chain(lease.locks()).collect(),
            place: &place,
            code: stage.work.code_version(),
            claim,
            tell: Box::new(move |told| {
                // The run may be over.
                let _ = sender.send(Arrival::Worker(id, told));
            }),
        };
        let worker = match is_job {
            true => self.jobs()?.start(order),
            false => Local.start(order),
        }
        .and_then(|worker| fail::at(Step::Started).map(|()| worker))
        .map_err(|source| RunError::Start {
            stage: of_stage(),
            source,
        })?;
        self.ready.remove(&self.rank[id.0]);
        self.executions.insert(id, execution);
        self.queued += usize::from(is_job);
        let started = Instant::now();
        self.running.push(Running {
            id,
            key,
            description: decision.description.unwrap_or_default(),
            reasons: decision.reasons,
            worker: Some(worker),
            _scratch: scratch,
            outputs,
            lease,
            is_job,
            started,
            is_announced: false,
            deadline: None,
            overdue: false,
            said: None,
            _lock: lock,
        });
        if !is_job {
            self.announce(id);
        }
        Ok(())
    }

    /// Says that a stage runs; from now on its time counts.
    pub(super) fn announce(&mut self, id: StageId) {
        let Some(running) = self.running.iter_mut().find(|running| running.id == id) else {
            return;
        };
        let stage = self.pipeline.stage(id);
        if !std::mem::replace(&mut running.is_announced, true) {
            running.started = Instant::now();
            running.deadline = stage.resources.time_limit().map(|limit| running.started + limit);
        }
        let execution = self.executions.get(&id);
        self.reporter.event(&Event::StageStarted {
            stage: &stage.name,
            id,
            reasons: &running.reasons,
            threads: execution.map_or(running.lease.threads, |execution| execution.threads),
            gpus: &running.lease.gpus.ids,
            expected_seconds: self.planned[self.rank[id.0]].seconds,
        });
    }

    /// Threads and device of a job, as far as is known here.
    fn granted(&self, stage: &Stage, claim: &JobClaim) -> (usize, String) {
        let queue = self.options.queue.as_ref();
        let options = queue.map(|queue| queue.profile.options(stage.kind().name(), &stage.name));
        let options = options.unwrap_or_default();
        let gpus = match options.gpu {
            Some(_) => claim.gpus,
            None => 0,
        };
        let ordinals: Vec<String> = (0..gpus).map(|ordinal| ordinal.to_string()).collect();
        let device = match gpus {
            0 => Device::Cpu.to_string(),
            _ => format!("cuda:{}", ordinals.join(",")),
        };
        // Without a word a queue gives one.
        (claim.cpu.or(options.cpu).unwrap_or(1), device)
    }

    /// What a job of the stage would ask for.
    fn job_claim(&self, stage: &Stage, inputs: Vec<ContentHash>, is_forced: bool) -> JobClaim {
        let resources = &stage.resources;
        let failed = &self.failed[stage.id.0];
        let gpus = gpus_wanted(stage, self.options.device);
        JobClaim {
            cpu: resources.cpu,
            memory: resources.memory,
            time: resources.time,
            gpus,
            factors: [ErrorClass::Oom, ErrorClass::Time].map(|class| resources.factor(class, failed)),
            keeps_checkpoints: stage.kind().keeps_checkpoints(),
            is_forced,
            inputs,
        }
    }
}
