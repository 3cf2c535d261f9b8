//! What would run, and why: pure functions of a pipeline, a selection and a [`World`].
//!
//! `run` calls the same `decide` once a stage's inputs are known, so what `plan` says is what `run` does.
//! Law: a stage that executes was planned as `run` or `maybe`; `cached` and `restore` never execute.
//!
//! A dry run with rules of its own would be easier to write, and would drift from the run. A dispatcher with a switch
//! that turns its effects off could not drift, but every effect would need the switch. Instead all that is asked of
//! the past and the outside goes through [`World`]: a run answers from the store, tests from memory, through whole
//! histories. The price is that trait: whatever a decision may depend on must be asked for there.

mod reason;
mod select;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexSet;
use serde::Serialize;
use serde_json::Value as Json;

pub use reason::Reason;
pub use select::{Request, Selection, SelectionError, select};

use crate::key::{
    ContentHash, FileChanges, FileObservation, FileTree, Identity, LISTED, StageKey, changes, description, listed,
    stage_key,
};
use crate::kind::{Broken, Conditions, MissingData};
use crate::pipeline::{InputSlot, Pipeline, Stage, StageId};
use crate::store::{Attempt, Health, ResultRecord};

/// What is known about files and variables outside the pipeline that a stage reads.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Files outside the pipeline: slot -> content.
    pub files: Vec<(String, ContentHash)>,
    /// More of them, many at a time.
    pub trees: Vec<Arc<FileTree>>,
    /// Environment variables: name -> hash of the value, `None` where the variable is not set.
    pub environment: Vec<(String, Option<String>)>,
    /// What is not there; the stage is blocked unless this is empty.
    pub missing: Vec<MissingData>,
    /// What these files, and folders that were listed for them, were when they were looked at; for whoever verifies
    /// them.
    pub(crate) seen: Arc<Vec<(PathBuf, FileObservation)>>,
}

impl Observed {
    /// Files by slot, one by one where they are few; each folder of very many is one entry.
    pub(crate) fn listed(&self) -> Vec<(String, ContentHash)> {
        listed(&self.files, &self.trees)
    }

    /// Folders whose files are not listed one by one, since there are too many in all.
    pub fn large_trees(&self) -> &[Arc<FileTree>] {
        let files = self.files.len() + self.trees.iter().map(|tree| tree.len()).sum::<usize>();
        if files > LISTED { &self.trees } else { &[] }
    }
}

/// The past and the outside, as the plan asks for them. Tests answer from memory.
pub trait World {
    /// The committed result of a key.
    fn result(&self, key: &StageKey) -> Option<&ResultRecord>;
    /// Whether the files of a key's result are still what was stored.
    fn health(&mut self, key: &StageKey) -> Health;
    /// Key of the stage's present result in this pipeline.
    fn current(&self, stage: &str) -> Option<StageKey>;
    /// The readable form of a key; `None` where none was kept.
    fn description(&self, key: &StageKey) -> Option<Json>;
    /// The last attempt at a key, if it left no result.
    fn attempt(&self, key: &StageKey) -> Option<Attempt>;
    /// Whether an earlier attempt left something to go on from.
    fn has_checkpoint(&self, key: &StageKey) -> bool;
    /// What is known of what lies outside and the stage reads; `None` where nobody looked.
    fn observed(&self, stage: StageId) -> Option<Observed>;
    /// How the files of each large folder differ from those that a key's result was made from; `None` where that was
    /// not kept.
    fn file_changes(&self, key: &StageKey, now: &Observed) -> Option<Vec<FileChanges>>;
    /// What a key's result lacks of what a stage declares.
    fn broken_condition(&self, key: &StageKey, conditions: &Conditions) -> Option<Broken>;
}

/// State of a stage in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The stage's result is there and current.
    Cached,
    /// The stage's result was computed before and becomes current again.
    Restore,
    /// Will execute. Where the key is not known yet because something upstream executes first, that is a forecast:
    /// a result of the key may turn up after all.
    Run,
    /// Waits for a stage that will execute; executes unless that comes out equal.
    Maybe,
    /// Cannot execute: data is missing, or something upstream is blocked.
    Blocked,
    /// Not selected.
    Excluded,
}

impl State {
    /// As `plan` and JSON call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Restore => "restore",
            Self::Run => "run",
            Self::Maybe => "maybe",
            Self::Blocked => "blocked",
            Self::Excluded => "excluded",
        }
    }
}

/// What an input slot holds, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// The content of the output that fills the slot.
    Known(ContentHash),
    /// The producer executes or may execute first.
    Pending,
    /// The producer will not deliver in this run.
    Unavailable,
}

/// The verdict on one stage.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What happens to the stage.
    pub state: State,
    /// Why; empty only for `cached` and `restore`.
    pub reasons: Vec<Reason>,
    /// Known once every input is.
    pub key: Option<StageKey>,
    /// What the key stands for, unless it is that of the present result.
    pub description: Option<Json>,
}

/// One line of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The stage.
    pub id: StageId,
    /// What happens to the stage, and why.
    pub decision: Decision,
    /// How long the execution took that gave the stage's present result; `None` where there is none.
    pub seconds: Option<f64>,
}

/// Plans every stage, producers before consumers.
pub fn plan(pipeline: &Pipeline, selection: &Selection, world: &mut dyn World) -> Vec<Planned> {
    let mut decisions: Vec<Option<Decision>> = vec![None; pipeline.stages.len()];
    let mut planned = Vec::with_capacity(pipeline.stages.len());
    for id in pipeline.order() {
        let stage = pipeline.stage(id);
        let upstream: Vec<Upstream> = stage
            .inputs
            .iter()
            .map(|input| match &decisions[input.producer.0] {
                Some(decision) => upstream_of(decision, input, world),
                None => Upstream::Unavailable,
            })
            .collect();
        let decision = decide(pipeline, stage, &upstream, selection, world);
        let seconds = world
            .current(&stage.name)
            .and_then(|key| world.result(&key).map(|r| r.seconds));
        decisions[id.0] = Some(decision.clone());
        planned.push(Planned { id, decision, seconds });
    }
    planned
}

fn upstream_of(decision: &Decision, input: &InputSlot, world: &dyn World) -> Upstream {
    let stored = |key: &StageKey| {
        world
            .result(key)
            .and_then(|r| r.output(&input.output))
            .map(|o| o.content.clone())
    };
    match decision.state {
        State::Cached | State::Restore => decision
            .key
            .as_ref()
            .and_then(stored)
            .map_or(Upstream::Unavailable, Upstream::Known),
        State::Run | State::Maybe => Upstream::Pending,
        State::Blocked => Upstream::Unavailable,
        // A stage that was not selected still serves with a result that is up to date, or that turns out to be.
        State::Excluded => match &decision.key {
            Some(key) if decision.reasons.contains(&Reason::NotSelectedButCurrent) => {
                stored(key).map_or(Upstream::Unavailable, Upstream::Known)
            }
            _ if decision.reasons.contains(&Reason::NotSelectedMayBeCurrent) => Upstream::Pending,
            _ => Upstream::Unavailable,
        },
    }
}

/// Decides one stage from what its inputs hold.
pub(crate) fn decide(
    pipeline: &Pipeline,
    stage: &Stage,
    upstream: &[Upstream],
    selection: &Selection,
    world: &mut dyn World,
) -> Decision {
    let Some(observed) = world.observed(stage.id) else {
        // Of a stage that nobody asks about it is not known whether its result is current.
        return Decision {
            state: State::Excluded,
            reasons: vec![Reason::NotSelected],
            key: None,
            description: None,
        };
    };
    let decision = decide_selected(pipeline, stage, &observed, upstream, selection, world);
    if selection.includes(stage.id) {
        return decision;
    }
    let reason = match decision.state {
        State::Cached | State::Restore => Reason::NotSelectedButCurrent,
        State::Run | State::Maybe if decision.key.is_none() => Reason::NotSelectedMayBeCurrent,
        _ => Reason::NotSelected,
    };
    let mut reasons = vec![reason];
    reasons.extend(
        decision
            .reasons
            .into_iter()
            .filter(|r| matches!(r, Reason::Accepted { .. } | Reason::Pulled { .. })),
    );
    Decision {
        state: State::Excluded,
        reasons,
        key: decision.key,
        description: decision.description,
    }
}

/// That a key's result was not computed here, or not for this key.
fn provenance(key: &StageKey, world: &dyn World) -> Vec<Reason> {
    let result = world.result(key);
    let accepted = result.and_then(|result| result.accepted.as_ref());
    let pulled = result.and_then(|result| result.pulled.as_ref());
    let accepted = accepted.map(|accepted| Reason::Accepted {
        why: accepted.reason.clone(),
    });
    let pulled = pulled.map(|pulled| Reason::Pulled {
        from: pulled.from.clone(),
        host: pulled.host.clone(),
    });
    accepted.into_iter().chain(pulled).collect()
}

fn decide_selected(
    pipeline: &Pipeline,
    stage: &Stage,
    observed: &Observed,
    upstream: &[Upstream],
    selection: &Selection,
    world: &mut dyn World,
) -> Decision {
    let blocked = |reasons| Decision {
        state: State::Blocked,
        reasons,
        key: None,
        description: None,
    };
    if !observed.missing.is_empty() {
        return blocked(observed.missing.iter().cloned().map(Reason::DataMissing).collect());
    }
    let waiting_for = |wanted: Upstream| {
        let names: IndexSet<&str> = stage
            .inputs
            .iter()
            .zip(upstream)
            .filter(|(_, u)| **u == wanted)
            .map(|(input, _)| pipeline.stage(input.producer).name.as_str())
            .collect();
        names.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let unavailable = waiting_for(Upstream::Unavailable);
    if !unavailable.is_empty() {
        return blocked(
            unavailable
                .into_iter()
                .map(|stage| Reason::UpstreamUnavailable { stage })
                .collect(),
        );
    }
    let inputs: Vec<(String, Option<ContentHash>)> = stage
        .inputs
        .iter()
        .zip(upstream)
        .map(|(input, u)| {
            let content = match u {
                Upstream::Known(content) => Some(content.clone()),
                _ => None,
            };
            (input.slot.clone(), content)
        })
        .collect();
    let pending = waiting_for(Upstream::Pending);
    if !pending.is_empty() {
        return decide_pending(pipeline, stage, &inputs, observed, pending, selection, world);
    }
    let previous = world.current(&stage.name);
    let known: Vec<(String, ContentHash)> = inputs
        .into_iter()
        .filter_map(|(slot, content)| Some((slot, content?)))
        .collect();
    let key = with_identity(pipeline, stage, &known, observed, stage_key);
    let mut decision = Decision {
        state: State::Run,
        reasons: Vec::new(),
        key: Some(key.clone()),
        description: None,
    };
    let health = match world.result(&key) {
        Some(_) if !selection.forces(stage.id) => Some(world.health(&key)),
        _ => None,
    };
    let broken = match health {
        Some(Health::Intact) => world.broken_condition(&key, &stage.ensure),
        _ => None,
    };
    if health == Some(Health::Intact) && broken.is_none() && previous.as_ref() == Some(&key) {
        decision.state = State::Cached;
        decision.reasons.extend(provenance(&key, world));
        return decision;
    }
    // Of a stage that is as it was, nobody asks for the long form.
    decision.description = Some(with_identity(pipeline, stage, &known, observed, description));
    if selection.forces(stage.id) {
        decision.reasons.push(Reason::Forced);
        return decision;
    }
    if let Some(health) = health {
        let published = |slot: &str| stage.kind().published_output(slot).to_owned();
        match health {
            Health::Intact => match broken {
                Some(broken) => decision
                    .reasons
                    .push(Reason::ConditionBroken(broken.published(stage.kind()))),
                None => {
                    decision.state = State::Restore;
                    decision.reasons.extend(provenance(&key, world));
                }
            },
            Health::Missing { slot } => {
                let output = published(&slot);
                decision.reasons.push(Reason::OutputMissing { output });
            }
            Health::Damaged { slot } => {
                let output = published(&slot);
                decision.reasons.push(Reason::OutputDamaged { output });
            }
        }
        return decision;
    }
    if world.has_checkpoint(&key) {
        decision.reasons.push(Reason::HasCheckpoint);
    }
    if let Some(attempt) = world.attempt(&key) {
        let run = attempt.run.to_string();
        decision.reasons.push(if attempt.interrupted {
            Reason::InterruptedBefore { run }
        } else {
            Reason::FailedBefore { run }
        });
    }
    if let Some(previous) = previous
        && let (Some(before), Some(after)) = (world.description(&previous), &decision.description)
    {
        let found = changes(&before, after);
        let reasons = reason::from_changes(pipeline, stage, &found);
        decision.reasons.extend(reason::with_files(reasons, observed, || {
            world.file_changes(&previous, observed)
        }));
    }
    // Also where the record of a result is lost, but not the note that it was the stage's own.
    if decision.reasons.is_empty() {
        decision.reasons.push(Reason::NeverRun);
    }
    decision
}

/// A stage whose key is not known yet, because something upstream executes first.
fn decide_pending(
    pipeline: &Pipeline,
    stage: &Stage,
    inputs: &[(String, Option<ContentHash>)],
    observed: &Observed,
    pending: Vec<String>,
    selection: &Selection,
    world: &dyn World,
) -> Decision {
    let mut decision = Decision {
        state: State::Maybe,
        reasons: Vec::new(),
        key: None,
        description: None,
    };
    if selection.forces(stage.id) {
        decision.state = State::Run;
        decision.reasons.push(Reason::Forced);
        return decision;
    }
    let previous = world.current(&stage.name);
    match previous.as_ref().and_then(|p| world.description(p)) {
        None => {
            decision.state = State::Run;
            decision.reasons.push(Reason::NeverRun);
        }
        Some(mut before) => {
            // Compare everything but the inputs that are not known yet.
            let known: Vec<(String, ContentHash)> = inputs
                .iter()
                .filter_map(|(slot, content)| Some((slot.clone(), content.clone()?)))
                .collect();
            let after = with_identity(pipeline, stage, &known, observed, description);
            if let Some(old) = before.get_mut("inputs").and_then(Json::as_object_mut) {
                let open = |slot: &str| inputs.iter().any(|(s, c)| s == slot && c.is_none());
                old.retain(|slot, _| !open(slot));
            }
            let own = reason::from_changes(pipeline, stage, &changes(&before, &after));
            let own = reason::with_files(own, observed, || world.file_changes(previous.as_ref()?, observed));
            if own.is_empty() {
                decision
                    .reasons
                    .extend(pending.into_iter().map(|stage| Reason::UpstreamMayChange { stage }));
            } else {
                decision.state = State::Run;
                decision.reasons = own;
            }
        }
    }
    decision
}

fn with_identity<T>(
    pipeline: &Pipeline,
    stage: &Stage,
    inputs: &[(String, ContentHash)],
    observed: &Observed,
    use_identity: impl FnOnce(&Identity) -> T,
) -> T {
    let outputs: Vec<(String, String)> = stage
        .outputs
        .iter()
        .map(|o| (o.slot.clone(), o.artifact.in_keys()))
        .collect();
    let members: Vec<(String, String)> = stage
        .inputs
        .iter()
        .zip(pipeline.members(stage))
        .filter_map(|(input, member)| Some((input.slot.clone(), member.identity()?)))
        .collect();
    use_identity(&Identity {
        kind: stage.kind().name(),
        code_version: stage.work.code_version(),
        params: stage.work.identity(),
        inputs,
        members: &members,
        files: &observed.files,
        trees: &observed.trees,
        environment: &observed.environment,
        outputs: &outputs,
    })
}
