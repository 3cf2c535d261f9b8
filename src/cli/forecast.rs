//! When a run will be done: from what its stages took before, and from how far those that run are.
//!
//! What is not known is not guessed. A stage's last time counts where nothing that it depends on has changed since, be
//! it its parameters, files and code or those of stages before it; in its place that of a member of the same matrix
//! which differs in its seed alone. Where the time of a stage to come is not known, what is told is a least time.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::wording::duration;
use dynvis_runner::kind::Update;
use dynvis_runner::names::REPETITION;
use dynvis_runner::pipeline::{Pipeline, StageId};
use dynvis_runner::plan::{Planned, Reason, State};
use dynvis_runner::run::Event;
use dynvis_runner::store::StageOutcome;
use serde::{Deserialize, Serialize};

/// Stages to come that are followed one by one; of more nothing is told.
const MOST: usize = 20_000;
/// Share of a stage, and seconds, after which its own speed says when it will end.
const ENOUGH: (f64, f64) = (0.02, 1.0);

/// How far a stage says it is.
#[derive(Clone, Copy, Debug)]
struct StageProgress {
    total: u64,
    /// When it first said so, and its share then: what an earlier run did says nothing about the speed of this one.
    first: (f64, f64),
    last: (f64, f64),
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// Nothing to do, or done.
    None,
    ToCome,
    Running {
        since: f64,
        place: Option<StageProgress>,
        /// From the beginning, not from a checkpoint.
        is_whole: bool,
    },
}

/// What a stage takes for itself while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    threads: usize,
    on_device: bool,
    pools: Vec<(String, usize)>,
}

struct Stage {
    work: Work,
    /// Seconds that it took under the same conditions.
    expected: Option<f64>,
    /// Members of a matrix that differ in their seed alone have the same.
    like: usize,
    producers: Vec<usize>,
    claim: Claim,
}

/// Stages of a run, and when what happens. Times are seconds since the run began.
pub(super) struct Forecast {
    stages: Vec<Stage>,
    jobs: usize,
    threads: usize,
    pools: BTreeMap<String, usize>,
    /// GPUs that stages were given so far; none before the first stage that could have one.
    gpus: Option<Vec<String>>,
    is_ending: bool,
}

/// A forecast that follows the events of a run, for all who show it.
pub(super) struct SharedForecast {
    forecast: Mutex<Forecast>,
    started: Instant,
}

impl SharedForecast {
    pub(super) fn new(forecast: Forecast) -> Self {
        Self {
            forecast: Mutex::new(forecast),
            started: Instant::now(),
        }
    }

    pub(super) fn event(&self, event: &Event) {
        self.with(|forecast, now| match event {
            Event::Started { plan, .. } => forecast.plan(plan),
            Event::StageStarted { id, reasons, gpus, .. } => forecast.started(*id, reasons, gpus, now),
            Event::Progress { id, update, .. } => forecast.progress(*id, update, now),
            Event::StageFinished {
                id, outcome, seconds, ..
            } => forecast.ended(*id, *outcome, *seconds),
            Event::Interrupted => forecast.interrupted(),
            _ => {}
        });
    }

    /// What is left of the whole run; none where nothing is known.
    pub(super) fn left(&self) -> Option<Left> {
        self.with(|forecast, now| forecast.left(now))
    }

    /// Seconds that are left of one stage.
    pub(super) fn of_stage(&self, id: StageId) -> Option<f64> {
        self.with(|forecast, now| forecast.of_stage(id, now))
    }

    fn with<T>(&self, with: impl FnOnce(&mut Forecast, f64) -> T) -> T {
        let mut forecast = self.forecast.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut forecast, self.started.elapsed().as_secs_f64())
    }
}

/// Seconds that are left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Left {
    About(f64),
    /// The time of some stages is not known.
    AtLeast(f64),
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::About(seconds) => write!(f, "about {} left", duration(*seconds)),
            Self::AtLeast(seconds) => write!(f, "at least {} left", duration(*seconds)),
        }
    }
}

/// Whether a stage that runs for these reasons takes as long as it last did, as far as it is up to itself.
fn is_as_before(reasons: &[Reason]) -> bool {
    !reasons.iter().any(|reason| {
        matches!(
            reason,
            Reason::Parameter { .. }
                | Reason::Input { .. }
                | Reason::File { .. }
                | Reason::Files { .. }
                | Reason::CodeVersion { .. }
                | Reason::Environment { .. }
                | Reason::KeyFormat
                | Reason::NeverRun
        )
    })
}

impl Forecast {
    /// Of a run that may have `jobs` stages at once on so many processor threads.
    pub(super) fn new(pipeline: &Pipeline, jobs: usize, threads: usize) -> Self {
        let mut alike: HashMap<(String, String), usize> = HashMap::new();
        let stages = pipeline.stages.iter().map(|stage| {
            let mut fields = stage.fields.clone();
            fields.shift_remove(REPETITION);
            let fields = serde_json::to_string(&fields).unwrap_or_default();
            let next = alike.len();
            let pools = stage.resources.pools.iter().map(|(name, units)| (name.clone(), *units));
            Stage {
                work: Work::None,
                expected: None,
                like: *alike.entry((stage.family.clone(), fields)).or_insert(next),
                producers: stage.inputs.iter().map(|input| input.producer.0).collect(),
                claim: Claim {
                    threads: stage.resources.cpu.unwrap_or(1).clamp(1, threads.max(1)),
                    on_device: stage.kind().uses_device(),
                    pools: pools.collect(),
                },
            }
        });
        Self {
            stages: stages.collect(),
            jobs: jobs.min(threads).max(1),
            threads: threads.max(1),
            pools: pipeline.pools.clone().into_iter().collect(),
            gpus: None,
            is_ending: false,
        }
    }

    /// Takes over a plan, whose stages stand behind those that they need.
    fn plan(&mut self, planned: &[Planned]) {
        let mut as_before = vec![true; self.stages.len()];
        for p in planned {
            let id = p.id.0;
            let executes = matches!(p.decision.state, State::Run | State::Maybe);
            let before = self.stages[id].producers.iter().all(|producer| as_before[*producer]);
            let is_other = p.decision.state == State::Restore || (executes && !is_as_before(&p.decision.reasons));
            as_before[id] = before && !is_other;
            if executes {
                self.stages[id].work = Work::ToCome;
            }
            self.stages[id].expected = p.seconds.filter(|_| as_before[id]);
        }
        // A member that was never run, where its like was.
        let mut known: HashMap<usize, f64> = HashMap::new();
        for stage in &self.stages {
            if let Some(seconds) = stage.expected {
                known.insert(stage.like, seconds);
            }
        }
        for stage in &mut self.stages {
            let fits = stage.producers.iter().all(|producer| as_before[*producer]);
            if stage.expected.is_none() && fits {
                stage.expected = known.get(&stage.like).copied();
            }
        }
    }

    fn started(&mut self, id: StageId, reasons: &[Reason], gpus: &[String], now: f64) {
        let stage = &mut self.stages[id.0];
        stage.work = Work::Running {
            since: now,
            place: None,
            is_whole: !reasons.contains(&Reason::HasCheckpoint),
        };
        if stage.claim.on_device {
            let known = self.gpus.get_or_insert_default();
            for gpu in gpus {
                if !known.contains(gpu) {
                    known.push(gpu.clone());
                }
            }
        }
    }

    fn progress(&mut self, id: StageId, update: &Update, now: f64) {
        let Work::Running { place, .. } = &mut self.stages[id.0].work else {
            return;
        };
        if update.total == 0 {
            *place = None;
            return;
        }
        let here = (now, update.done as f64 / update.total as f64);
        *place = match *place {
            // Another part of its work has another measure.
            Some(known) if known.total == update.total && known.last.1 <= here.1 => {
                Some(StageProgress { last: here, ..known })
            }
            _ => Some(StageProgress {
                total: update.total,
                first: here,
                last: here,
            }),
        };
    }

    fn ended(&mut self, id: StageId, outcome: StageOutcome, seconds: Option<f64>) {
        let was = std::mem::replace(&mut self.stages[id.0].work, Work::None);
        let is_whole = matches!(was, Work::Running { is_whole: true, .. });
        match (outcome, seconds) {
            (StageOutcome::Ran, Some(seconds)) if is_whole && self.stages.len() <= MOST => {
                let like = self.stages[id.0].like;
                let alike = self.stages.iter_mut().filter(|stage| stage.like == like);
                alike.for_each(|stage| stage.expected = Some(seconds));
            }
            // What comes now is another run than the planned one.
            (StageOutcome::Failed | StageOutcome::Blocked, _) => self.is_ending = true,
            _ => {}
        }
    }

    fn interrupted(&mut self) {
        self.is_ending = true;
    }

    /// What a running stage has still to do, by its own speed or by its last time.
    fn rest(stage: &Stage, now: f64) -> Option<f64> {
        let Work::Running { since, place, .. } = stage.work else {
            return None;
        };
        let by_speed = place.and_then(|place| {
            let (share, seconds) = (place.last.1 - place.first.1, place.last.0 - place.first.0);
            let is_enough = share >= ENOUGH.0 && seconds >= ENOUGH.1;
            is_enough.then(|| (1.0 - place.last.1) * seconds / share - (now - place.last.0))
        });
        match by_speed {
            Some(rest) => Some(rest.max(0.0)),
            // One that takes longer than ever ends nobody knows when.
            None => stage.expected.map(|all| all - (now - since)).filter(|rest| *rest > 0.0),
        }
    }

    /// What is left for one stage.
    fn of_stage(&self, id: StageId, now: f64) -> Option<f64> {
        Self::rest(&self.stages[id.0], now)
    }

    /// What is left of the whole run; none where nothing is known.
    fn left(&self, now: f64) -> Option<Left> {
        let to_do = |stage: &&Stage| !matches!(stage.work, Work::None);
        if self.is_ending || self.stages.iter().filter(to_do).count() > MOST {
            return None;
        }
        let mut all_known = true;
        let times: Vec<f64> = self
            .stages
            .iter()
            .map(|stage| {
                let known = match stage.work {
                    Work::None => Some(0.0),
                    Work::ToCome => stage.expected,
                    Work::Running { .. } => Self::rest(stage, now),
                };
                all_known &= known.is_some();
                known.unwrap_or(0.0)
            })
            .collect();
        let seconds = self.end(&times);
        match all_known {
            _ if seconds < 1.0 => None,
            true => Some(Left::About(seconds)),
            false => Some(Left::AtLeast(seconds)),
        }
    }

    /// When the last stage ends, if each starts as soon as its inputs, a place and what it claims are there.
    fn end(&self, times: &[f64]) -> f64 {
        let mut waits_for: Vec<usize> = vec![0; self.stages.len()];
        let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); self.stages.len()];
        let mut ready: BTreeMap<&Claim, VecDeque<usize>> = BTreeMap::new();
        let mut free = Free::of(self);
        // Ends to come, the next one first: in microseconds, which have an order.
        let mut ends: BinaryHeap<std::cmp::Reverse<(u64, usize)>> = BinaryHeap::new();
        let at = |seconds: f64| (seconds * 1e6) as u64;
        for (id, stage) in self.stages.iter().enumerate() {
            match stage.work {
                Work::None => continue,
                Work::Running { .. } => {
                    free.take(&stage.claim);
                    ends.push(std::cmp::Reverse((at(times[id]), id)));
                }
                Work::ToCome => {
                    for &producer in &stage.producers {
                        if !matches!(self.stages[producer].work, Work::None) {
                            waits_for[id] += 1;
                            consumers[producer].push(id);
                        }
                    }
                    if waits_for[id] == 0 {
                        ready.entry(&stage.claim).or_default().push_back(id);
                    }
                }
            }
        }
        let mut now = 0;
        loop {
            for (claim, waiting) in &mut ready {
                while !waiting.is_empty() && free.has(claim) {
                    if let Some(id) = waiting.pop_front() {
                        free.take(claim);
                        ends.push(std::cmp::Reverse((now + at(times[id]), id)));
                    }
                }
            }
            let Some(std::cmp::Reverse((end, id))) = ends.pop() else {
                return now as f64 / 1e6;
            };
            now = end;
            free.give_back(&self.stages[id].claim);
            for &consumer in &consumers[id] {
                waits_for[consumer] -= 1;
                if waits_for[consumer] == 0 {
                    ready
                        .entry(&self.stages[consumer].claim)
                        .or_default()
                        .push_back(consumer);
                }
            }
        }
    }
}

/// What stages to come may have.
struct Free {
    jobs: usize,
    running: usize,
    threads: usize,
    /// None where no stage takes one.
    gpus: Option<usize>,
    pools: BTreeMap<String, usize>,
}

impl Free {
    fn of(forecast: &Forecast) -> Self {
        Self {
            jobs: forecast.jobs,
            running: 0,
            threads: forecast.threads,
            // Before it is known one is likely, and a short time the greater fault.
            gpus: match &forecast.gpus {
                None => Some(1),
                Some(gpus) if gpus.is_empty() => None,
                Some(gpus) => Some(gpus.len()),
            },
            pools: forecast.pools.clone(),
        }
    }

    /// With nothing running everything can start, as in a run.
    fn has(&self, claim: &Claim) -> bool {
        let pools = || {
            claim
                .pools
                .iter()
                .all(|(pool, units)| self.pools.get(pool).is_none_or(|free| units <= free))
        };
        self.running == 0
            || (self.running < self.jobs
                && claim.threads <= self.threads
                && (!claim.on_device || self.gpus != Some(0))
                && pools())
    }

    fn take(&mut self, claim: &Claim) {
        self.running += 1;
        self.threads = self.threads.saturating_sub(claim.threads);
        if let (true, Some(gpus)) = (claim.on_device, &mut self.gpus) {
            *gpus = gpus.saturating_sub(1);
        }
        for (pool, units) in &claim.pools {
            if let Some(free) = self.pools.get_mut(pool) {
                *free = free.saturating_sub(*units);
            }
        }
    }

    fn give_back(&mut self, claim: &Claim) {
        self.running -= 1;
        self.threads += claim.threads;
        if let (true, Some(gpus)) = (claim.on_device, &mut self.gpus) {
            *gpus += 1;
        }
        for (pool, units) in &claim.pools {
            if let Some(free) = self.pools.get_mut(pool) {
                *free += units;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dataset that is there, networks with seeds that need it, and what needs them all.
    fn forecast(networks: usize, seconds: Option<f64>, last: Option<f64>, jobs: usize) -> Forecast {
        let stage = |work, expected, like, producers: Vec<usize>| Stage {
            work,
            expected,
            like,
            producers,
            claim: Claim {
                threads: 1,
                ..Claim::default()
            },
        };
        let mut stages = vec![stage(Work::None, None, 0, Vec::new())];
        stages.extend((0..networks).map(|_| stage(Work::ToCome, seconds, 1, vec![0])));
        stages.push(stage(Work::ToCome, last, 2, (1..=networks).collect()));
        Forecast {
            stages,
            jobs,
            threads: jobs,
            pools: BTreeMap::new(),
            gpus: None,
            is_ending: false,
        }
    }

    fn at(done: u64, total: u64) -> Update {
        Update {
            done,
            total,
            ..Update::default()
        }
    }

    #[test]
    fn the_whole_run_has_an_eta() {
        // Two at a time, then the third, then the last.
        let mut run = forecast(3, Some(100.0), Some(50.0), 2);
        assert_eq!(run.left(0.0), Some(Left::About(250.0)));
        assert_eq!(
            forecast(3, Some(100.0), Some(50.0), 8).left(0.0),
            Some(Left::About(150.0))
        );
        for id in [1, 2] {
            run.started(StageId(id), &[], &[], 0.0);
        }
        assert_eq!(run.left(40.0), Some(Left::About(210.0)));
        // One is slower than it was: 40 s for a tenth of it, and the place of the other is free for the third
        // meanwhile.
        run.progress(StageId(1), &at(0, 100), 0.0);
        run.progress(StageId(1), &at(10, 100), 40.0);
        assert_eq!(run.of_stage(StageId(1), 40.0), Some(360.0));
        assert_eq!(run.left(40.0), Some(Left::About(410.0)));
        run.ended(StageId(2), StageOutcome::Ran, Some(60.0));
        assert_eq!(run.stages[3].expected, Some(60.0), "it differs in its seed alone");
        assert_eq!(run.left(60.0), Some(Left::About(390.0)));
        // Before the next news of it, time goes on.
        assert_eq!(run.of_stage(StageId(1), 70.0), Some(330.0));
        assert_eq!(run.left(0.0).expect("known").to_string(), "about 8 min left");
    }

    #[test]
    fn of_what_is_not_known_there_is_no_eta_rather_than_a_wrong_one() {
        assert_eq!(forecast(3, None, None, 2).left(0.0), None);
        let mut run = forecast(1, Some(100.0), None, 2);
        assert_eq!(run.left(0.0), Some(Left::AtLeast(100.0)));
        run.started(StageId(1), &[], &[], 0.0);
        assert_eq!(run.left(101.0), None, "it takes longer than it did");
        // What an earlier run did says nothing about the speed of this one.
        run.progress(StageId(1), &at(50, 100), 101.0);
        assert_eq!(run.of_stage(StageId(1), 101.0), None);
        run.progress(StageId(1), &at(60, 100), 111.0);
        assert_eq!(run.left(111.0), Some(Left::AtLeast(40.0)));
        // Another part of its work.
        run.progress(StageId(1), &at(1, 7), 112.0);
        assert_eq!(run.of_stage(StageId(1), 112.0), None);
        run.progress(StageId(1), &at(0, 0), 113.0);
        run.ended(StageId(1), StageOutcome::Failed, Some(113.0));
        assert_eq!(run.left(113.0), None, "nobody knows what still runs");
    }

    #[test]
    fn a_last_time_under_other_conditions_is_none() {
        let changed = Reason::Parameter {
            path: "epochs".into(),
            before: None,
            after: None,
        };
        assert!(is_as_before(&[
            Reason::Forced,
            Reason::InterruptedBefore { run: "k".into() }
        ]));
        for reason in [changed, Reason::NeverRun, Reason::File { slot: "0".into() }] {
            assert!(!is_as_before(&[Reason::Forced, reason]));
        }
    }

    #[test]
    fn stages_that_share_a_pool_or_a_gpu_wait_for_each_other() {
        let mut run = forecast(3, Some(100.0), Some(50.0), 8);
        run.pools.insert("disk".into(), 1);
        for stage in &mut run.stages[1..=3] {
            stage.claim.pools = vec![("disk".into(), 1)];
        }
        assert_eq!(run.left(0.0), Some(Left::About(350.0)));
        let mut run = forecast(3, Some(100.0), Some(50.0), 8);
        run.stages.iter_mut().for_each(|stage| stage.claim.on_device = true);
        assert_eq!(run.left(0.0), Some(Left::About(350.0)));
        run.started(StageId(1), &[], &[], 0.0);
        assert_eq!(run.left(0.0), Some(Left::About(150.0)), "on the processor");
    }
}
