//! A world in memory in which pipelines run: what [`super`] holds the planner's laws against.
//!
//! [`Memory::run`] goes through a pipeline as `run::dispatcher` does, with a formula in place of programs. What a
//! result must be is computed without keys ([`Memory::fresh`]), so that a key that says too little or too much shows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::key::FileChanges;
use crate::kind::Registry;
use crate::kinds::{Command, FilesOrTable};
use crate::pipeline::from_text;
use crate::plan::*;
use crate::store::{Acceptance, RunId, StoredOutput};

/// A stage as its user would write it. Numbers that point at something are taken modulo what there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) parameter: u8,
    /// Its outputs have two possible contents only, so that they often come out equal.
    pub(super) coarse: bool,
    /// An earlier stage, its member, its output.
    pub(super) inputs: Vec<(usize, usize, usize)>,
    /// Members of its matrix; 0 for none.
    pub(super) members: usize,
    pub(super) reads_file: bool,
    pub(super) reads_variable: bool,
}

/// A pipeline, and how its text looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Study {
    pub(super) stages: Vec<Written>,
    pub(super) rotation: usize,
    pub(super) backwards: bool,
}

impl Study {
    pub(super) fn pipeline(&self) -> Pipeline {
        let mut stages: Vec<String> = (0..self.stages.len()).map(|i| self.stage(i)).collect();
        stages.rotate_left(self.rotation % self.stages.len());
        if self.backwards {
            stages.reverse();
        }
        let text = format!("name: study\nstages:\n{}", stages.concat());
        let path = if self.backwards { "elsewhere/q.yaml" } else { "p.yaml" };
        let registry = Registry::new("0").with::<Command<FilesOrTable>>();
        from_text(path, &text, &registry).unwrap_or_else(|p| panic!("{:?}\n{text}", p[0].kind))
    }

    fn stage(&self, index: usize) -> String {
        let stage = &self.stages[index];
        let mut inputs = String::new();
        for (slot, (producer, member, output)) in stage.inputs.iter().enumerate().filter(|_| index > 0) {
            let producer = &self.stages[producer % index];
            let member = member.checked_rem(producer.members).map(|m| format!("@n={m}"));
            let output = ["out", "more"][output % 2];
            inputs += &format!(
                "i{slot}: \"{}{}/{output}\", ",
                producer.name,
                member.unwrap_or_default()
            );
        }
        let values: Vec<usize> = (0..stage.members).collect();
        let (matrix, member) = match values.as_slice() {
            [] => (String::new(), "none"),
            _ => (format!("    matrix: {{ n: {values:?} }}\n"), "${matrix.n}"),
        };
        let mut parameters = [
            format!("run: [p{}, \"{member}\", {}]", stage.parameter, stage.coarse),
            format!("inputs: {{ {inputs} }}"),
            "outputs: { out: { path: a }, more: { path: b } }".to_owned(),
            format!("files: [{}]", if stage.reads_file { "data" } else { "" }),
            format!("environment: [{}]", if stage.reads_variable { "VARIABLE" } else { "" }),
        ];
        let mut parts = [matrix, String::new()];
        if self.backwards {
            parameters.reverse();
            parts[0] += "    # a comment\n    description: in words\n";
        }
        parts[1] = format!("    command: {{ {} }}\n", parameters.join(", "));
        if self.backwards {
            parts.reverse();
        }
        format!("  {}:\n{}", stage.name, parts.concat())
    }
}

/// What happens between two runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    Parameter(usize, u8),
    Rename(usize),
    /// The same pipeline in another order, with comments, under another path.
    Rewrite(usize),
    /// Another content of the file; `None` deletes it.
    File(Option<u8>),
    Variable(Option<u8>),
    /// A stored result is edited.
    Damage(usize),
    /// A record of the journal is lost.
    Forget(usize),
    /// The stage declares a condition that a result breaks.
    Condition(usize),
    /// A stage's present result is declared to be up to date, where it could be.
    Accept(usize),
}

/// What each slot of a stage holds; nothing where it delivers nothing.
pub(super) type Outputs = Vec<(String, ContentHash)>;

struct Stored {
    record: ResultRecord,
    description: Json,
    /// What it was made from, without keys.
    work: String,
    damaged: bool,
    lost: bool,
    breaks: bool,
}

impl Stored {
    fn new(record: ResultRecord, description: Json, work: String) -> Self {
        Self {
            record,
            description,
            work,
            damaged: false,
            lost: false,
            breaks: false,
        }
    }
}

/// The store and the outside.
#[derive(Default)]
pub(super) struct Memory {
    results: BTreeMap<StageKey, Stored>,
    current: BTreeMap<String, StageKey>,
    attempts: BTreeMap<StageKey, Attempt>,
    /// What was accepted as the result of which work.
    accepted: BTreeMap<String, Outputs>,
    pub(super) file: Option<u8>,
    pub(super) variable: Option<u8>,
    observed: Vec<Observed>,
}

impl World for Memory {
    fn result(&self, key: &StageKey) -> Option<&ResultRecord> {
        self.results.get(key).filter(|r| !r.lost).map(|r| &r.record)
    }
    fn health(&mut self, key: &StageKey) -> Health {
        let slot = "out".to_owned();
        let damaged = self.results[key].damaged;
        if damaged {
            Health::Damaged { slot }
        } else {
            Health::Intact
        }
    }
    fn current(&self, stage: &str) -> Option<StageKey> {
        self.current.get(stage).cloned()
    }
    fn description(&self, key: &StageKey) -> Option<Json> {
        self.results.get(key).map(|r| r.description.clone())
    }
    fn attempt(&self, key: &StageKey) -> Option<Attempt> {
        self.attempts.get(key).cloned()
    }
    fn has_checkpoint(&self, _: &StageKey) -> bool {
        false
    }
    fn broken_condition(&self, key: &StageKey, _: &Conditions) -> Option<Broken> {
        let broken = || Broken {
            output: "out".to_owned(),
            problem: "too few rows".to_owned(),
        };
        self.results[key].breaks.then(broken)
    }
    fn observed(&self, stage: StageId) -> Option<Observed> {
        Some(self.observed[stage.0].clone())
    }
    fn file_changes(&self, _: &StageKey, _: &Observed) -> Option<Vec<FileChanges>> {
        None
    }
}

/// What a run did.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) planned: Vec<State>,
    pub(super) executed: BTreeSet<StageId>,
    pub(super) keys: BTreeMap<String, StageKey>,
}

fn hash(text: &str) -> ContentHash {
    ContentHash::new(&blake3::hash(text.as_bytes()))
}

/// What fills the stage's slots, once every producer is settled.
fn upstream(stage: &Stage, settled: &[Option<Outputs>]) -> Option<Vec<Upstream>> {
    let held = |input: &InputSlot| {
        let found = settled[input.producer.0].as_ref()?.iter().find(|o| o.0 == input.output);
        Some(found.map_or(Upstream::Unavailable, |(_, content)| Upstream::Known(content.clone())))
    };
    stage.inputs.iter().map(held).collect()
}

/// What the stage's program writes when it sees `work`.
fn outputs(stage: &Stage, work: &str) -> Outputs {
    let parity = (blake3::hash(work.as_bytes()).as_bytes()[0] % 2).to_string();
    let seen = if stage.work.params()["run"][2] == "true" {
        &parity
    } else {
        work
    };
    let slots = stage.outputs.iter().map(|o| o.slot.clone());
    slots
        .map(|slot| (slot.clone(), hash(&format!("{slot} {seen}"))))
        .collect()
}

impl Memory {
    /// Nothing is computed yet, and the file is there.
    pub(super) fn new() -> Self {
        let file = Some(0);
        Self {
            file,
            ..Self::default()
        }
    }

    pub(super) fn apply(&mut self, edit: Edit, study: &mut Study) {
        let (count, results) = (study.stages.len(), self.results.len().max(1));
        match edit {
            Edit::Parameter(stage, value) => study.stages[stage % count].parameter = value,
            Edit::Rename(stage) => study.stages[stage % count].name.push('x'),
            Edit::Rewrite(by) => (study.rotation, study.backwards) = (study.rotation + by, !study.backwards),
            Edit::File(content) => self.file = content,
            Edit::Variable(value) => self.variable = value,
            Edit::Damage(n) => self
                .results
                .values_mut()
                .skip(n % results)
                .take(1)
                .for_each(|r| r.damaged = true),
            Edit::Forget(n) => self
                .results
                .values_mut()
                .skip(n % results)
                .take(1)
                .for_each(|r| r.lost = true),
            Edit::Condition(n) => self
                .results
                .values_mut()
                .skip(n % results)
                .take(1)
                .for_each(|r| r.breaks = true),
            Edit::Accept(n) => self.accept(n, &study.pipeline()),
        }
    }

    /// Does as `cli::accept` does.
    fn accept(&mut self, n: usize, pipeline: &Pipeline) {
        self.observe(pipeline);
        let planned = plan(pipeline, &chosen(pipeline, Request::default()), self);
        let stage = &pipeline.stages[n % pipeline.stages.len()];
        let mut settled: Vec<Option<Outputs>> = vec![None; pipeline.stages.len()];
        for Planned { id, decision, .. } in &planned {
            if let (State::Cached | State::Restore, Some(key)) = (decision.state, &decision.key) {
                settled[id.0] = Some(self.held(key));
            }
        }
        let decision = planned.into_iter().find(|planned| planned.id == stage.id);
        let decision = decision.expect("every stage is planned").decision;
        let usable = |stored: &&Stored| !(stored.damaged || stored.lost || stored.breaks);
        let present = self.current.get(&stage.name);
        let present = present.and_then(|key| self.results.get(key)).filter(usable);
        let (State::Run, Some(key), Some(present)) = (decision.state, &decision.key, present) else {
            return;
        };
        let from = present
            .record
            .accepted
            .as_ref()
            .map_or(&present.record.key, |accepted| &accepted.from);
        let record = ResultRecord {
            key: key.clone(),
            accepted: Some(Acceptance {
                reason: "the same".to_owned(),
                from: from.clone(),
            }),
            ..present.record.clone()
        };
        let upstream = upstream(stage, &settled).expect("a key needs settled inputs");
        let work = self.work(stage, &upstream);
        let description = decision.description.clone().expect("known with the key");
        self.attempts.remove(key);
        self.current.insert(stage.name.clone(), key.clone());
        let stored = Stored::new(record, description, work.clone());
        self.results.insert(key.clone(), stored);
        self.accepted.insert(work, self.held(key));
    }

    /// What a stored result holds.
    fn held(&self, key: &StageKey) -> Outputs {
        let outputs = &self.results[key].record.outputs;
        outputs.iter().map(|o| (o.slot.clone(), o.content.clone())).collect()
    }

    /// Looks outside, as `run::observe` does.
    pub(super) fn observe(&mut self, pipeline: &Pipeline) {
        self.observed = vec![Observed::default(); pipeline.stages.len()];
        for (stage, observed) in pipeline.stages.iter().zip(&mut self.observed) {
            if stage.work.params()["environment"][0].is_string() {
                observed
                    .environment
                    .push(("VARIABLE".into(), self.variable.map(|v| v.to_string())));
            }
            if stage.work.params()["files"][0].is_string() {
                match self.file {
                    Some(content) => observed.files.push(("0".into(), hash(&content.to_string()))),
                    None => observed.missing.push(MissingData {
                        what: "the file `data`".into(),
                        place: "data".into(),
                        ..MissingData::default()
                    }),
                }
            }
        }
    }

    /// Everything that the stage's program sees.
    fn work(&self, stage: &Stage, upstream: &[Upstream]) -> String {
        let Observed { files, environment, .. } = &self.observed[stage.id.0];
        let inputs: BTreeMap<_, _> = stage.inputs.iter().map(|i| &i.slot).zip(upstream).collect();
        format!("{} {inputs:?} {files:?} {environment:?}", stage.work.params()["run"])
    }

    /// What every stage gives when computed from nothing.
    pub(super) fn fresh(&self, pipeline: &Pipeline) -> Vec<Option<Outputs>> {
        let mut all = vec![None; pipeline.stages.len()];
        for id in pipeline.order() {
            let stage = pipeline.stage(id);
            let upstream = upstream(stage, &all).expect("producers stand before consumers");
            let possible = !upstream.contains(&Upstream::Unavailable) && self.observed[id.0].missing.is_empty();
            let found = possible.then(|| outputs(stage, &self.work(stage, &upstream)));
            all[id.0] = Some(found.unwrap_or_default());
        }
        all
    }

    /// Plans; then settles what needs no work and executes one of what is ready, until nothing is. Checks every law.
    pub(super) fn run(
        &mut self,
        pipeline: &Pipeline,
        selection: &Selection,
        fails: Option<usize>,
    ) -> Result<Ran, TestCaseError> {
        self.observe(pipeline);
        let planned = plan(pipeline, selection, self);
        let gap = |p: &Planned| p.decision.reasons.contains(&Reason::NotSelectedMayBeCurrent);
        let undisturbed = fails.is_none() && !planned.iter().any(gap);
        let mut settled: Vec<Option<Outputs>> = vec![None; pipeline.stages.len()];
        let (mut ran, mut attempted) = (Ran::default(), BTreeSet::new());
        let accepted = self.accepted.clone();
        loop {
            let mut ready = Vec::new();
            for Planned {
                id, decision: forecast, ..
            } in &planned
            {
                let stage = pipeline.stage(*id);
                let (None, Some(upstream)) = (&settled[id.0], upstream(stage, &settled)) else {
                    continue;
                };
                let decision = decide(pipeline, stage, &upstream, selection, self);
                let state = decision.state;
                let present = matches!(state, State::Cached | State::Restore);
                let lawful = match forecast.state {
                    State::Cached | State::Restore => present,
                    State::Run | State::Maybe => present || state == State::Run || !undisturbed,
                    State::Blocked | State::Excluded => state == forecast.state,
                };
                let context = format!("{}: planned {forecast:?}, now {decision:?}", stage.name);
                prop_assert!(lawful && state != State::Maybe, "{context}");
                prop_assert_eq!(selection.includes(*id), state != State::Excluded, "{}", context);
                prop_assert!(
                    present || !(decision.reasons.is_empty() || forecast.reasons.is_empty()),
                    "{context}"
                );
                if state == State::Run {
                    ready.push((stage, decision, upstream));
                    continue;
                }
                let serves = present || decision.reasons.contains(&Reason::NotSelectedButCurrent);
                let stored = decision.key.filter(|_| serves);
                settled[id.0] = Some(stored.as_ref().map_or_else(Outputs::new, |key| self.held(key)));
                if let (State::Restore, Some(key)) = (state, stored) {
                    self.current.insert(stage.name.clone(), key);
                }
            }
            if ready.is_empty() {
                break;
            }
            let (stage, decision, upstream) = ready.swap_remove(fails.unwrap_or(0) % ready.len());
            let work = self.work(stage, &upstream);
            let known = self
                .results
                .values()
                .any(|r| r.work == work && !r.damaged && !r.lost && !r.breaks);
            prop_assert!(
                selection.forces(stage.id) || !known,
                "computed twice: {} {decision:?}",
                stage.name
            );
            ran.executed.insert(stage.id);
            attempted.insert(decision.key.clone());
            let failed = fails.is_some_and(|n| n % pipeline.stages.len() == stage.id.0);
            let written = if failed { Outputs::new() } else { outputs(stage, &work) };
            if !failed {
                self.accepted.remove(&work);
            }
            settled[stage.id.0] = Some(written.clone());
            self.record(stage, decision, work, written);
        }
        for Planned { id, decision, .. } in planned {
            let stage = pipeline.stage(id);
            let name = &stage.name;
            if let Some(held) = settled[id.0].as_ref().filter(|held| !held.is_empty()) {
                // What the program makes of what stands upstream now, or what was accepted in its place.
                let work = upstream(stage, &settled).map(|upstream| self.work(stage, &upstream));
                let work = work.expect("what delivers has settled producers");
                let is_fresh = *held == outputs(stage, &work) || accepted.get(&work) == Some(held);
                prop_assert!(is_fresh, "{name} holds an old result");
            }
            let certain = decision.state == State::Run && decision.key.is_some();
            prop_assert!(!certain || attempted.contains(&decision.key), "{name} was to execute");
            ran.planned.push(decision.state);
            ran.keys.extend(self.current(name).map(|key| (name.clone(), key)));
        }
        Ok(ran)
    }

    /// Records an execution; one that wrote nothing failed.
    fn record(&mut self, stage: &Stage, decision: Decision, work: String, written: Outputs) {
        let (key, run) = (decision.key.expect("known"), RunId::fresh());
        if written.is_empty() {
            let interrupted = stage.id.0.is_multiple_of(2);
            self.attempts.insert(key, Attempt { run, interrupted });
            return;
        }
        let artifact = crate::kind::Artifact::FILES;
        let output = |(slot, content)| StoredOutput {
            slot,
            artifact,
            content,
            files: Vec::new(),
            empty: Vec::new(),
        };
        let record = ResultRecord {
            key: key.clone(),
            kind: stage.kind().name().to_owned(),
            run,
            seconds: 1.0,
            finished_at: String::new(),
            outputs: written.into_iter().map(output).collect(),
            ensured: Conditions::default(),
            accepted: None,
            pulled: None,
        };
        let description = decision.description.expect("known with the key");
        self.attempts.remove(&key);
        self.current.insert(stage.name.clone(), key.clone());
        self.results.insert(key, Stored::new(record, description, work));
    }

    pub(super) fn run_all(&mut self, study: &Study) -> Result<Ran, TestCaseError> {
        let pipeline = study.pipeline();
        self.run(&pipeline, &chosen(&pipeline, Request::default()), None)
    }
}

pub(super) fn chosen(pipeline: &Pipeline, request: Request) -> Selection {
    select(pipeline, &request).expect("names of stages")
}
