//! Which stages a command is about: named ones with all that they need, ranges, and what is forced.

use std::collections::BTreeSet;

use crate::names::find;
use crate::pipeline::{Pipeline, StageId, suggest};

/// Stages to bring up to date, and stages to execute whatever their state.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    included: BTreeSet<StageId>,
    forced: BTreeSet<StageId>,
}

impl Selection {
    /// Whether the stage is to be brought up to date.
    pub fn includes(&self, id: StageId) -> bool {
        self.included.contains(&id)
    }

    /// Whether the stage is selected and shall execute whatever its state.
    pub(crate) fn forces(&self, id: StageId) -> bool {
        self.forced.contains(&id) && self.included.contains(&id)
    }
}

impl Selection {
    /// The selected stages and all that they need.
    pub(crate) fn with_upstream(&self, pipeline: &Pipeline) -> BTreeSet<StageId> {
        closure(self.included.clone(), |id| upstream(pipeline, id))
    }
}

/// A name on the command line that selects nothing.
#[derive(Debug, thiserror::Error)]
#[error("no stage `{name}` in this pipeline")]
pub struct SelectionError {
    /// As typed.
    pub name: String,
    /// What was most likely meant; `None` where nothing is near.
    pub suggestion: Option<String>,
}

/// What the command line asks for, as typed.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Stages to bring up to date, with everything upstream; empty for all.
    pub stages: Vec<String>,
    /// Leave out what is upstream of `stages`.
    pub only: bool,
    /// These and everything downstream of them.
    pub from: Vec<String>,
    /// Everything up to these.
    pub until: Vec<String>,
    /// Execute every selected stage, whatever its state.
    pub force_all: bool,
    /// Stages to execute whatever their state.
    pub force: Vec<String>,
    /// With what is downstream of what is forced.
    pub force_downstream: bool,
}

/// Resolves a request. Names are stages, members (`cordsnet@seed=1`, `cordsnet@depth=4,*`) or globs over either.
///
/// # Errors
/// The first name that selects nothing.
pub fn select(pipeline: &Pipeline, request: &Request) -> Result<Selection, SelectionError> {
    let all: BTreeSet<StageId> = pipeline.stages.iter().map(|s| s.id).collect();
    let mut included = if request.stages.is_empty() {
        all.clone()
    } else {
        let named = find_all(pipeline, &request.stages)?;
        if request.only {
            named
        } else {
            closure(named, |id| upstream(pipeline, id))
        }
    };
    if !request.from.is_empty() {
        let start = find_all(pipeline, &request.from)?;
        let downstream = closure(start, |id| pipeline.consumers(id).map(|s| s.id).collect());
        included = included.intersection(&downstream).copied().collect();
    }
    if !request.until.is_empty() {
        let end = find_all(pipeline, &request.until)?;
        let needed = closure(end, |id| upstream(pipeline, id));
        included = included.intersection(&needed).copied().collect();
    }
    let mut forced = if request.force_all {
        included.clone()
    } else {
        find_all(pipeline, &request.force)?
    };
    if request.force_downstream {
        forced = closure(forced, |id| pipeline.consumers(id).map(|s| s.id).collect());
    }
    Ok(Selection { included, forced })
}

fn upstream(pipeline: &Pipeline, id: StageId) -> Vec<StageId> {
    pipeline.stage(id).inputs.iter().map(|i| i.producer).collect()
}

fn closure(mut found: BTreeSet<StageId>, next: impl Fn(StageId) -> Vec<StageId>) -> BTreeSet<StageId> {
    let mut waiting: Vec<StageId> = found.iter().copied().collect();
    while let Some(id) = waiting.pop() {
        for other in next(id) {
            if found.insert(other) {
                waiting.push(other);
            }
        }
    }
    found
}

fn find_all(pipeline: &Pipeline, names: &[String]) -> Result<BTreeSet<StageId>, SelectionError> {
    let mut found = BTreeSet::new();
    for name in names {
        // What is no glob, or is somebody's name as it stands.
        if let Some(selected) = find(&pipeline.stages, name).filter(|selected| selected.output.is_none()) {
            found.extend(selected.members.iter().map(|member| pipeline.stages[*member].id));
            continue;
        }
        let pattern = globset::Glob::new(name).ok().map(|g| g.compile_matcher());
        let selected = |text: &str| pattern.as_ref().is_some_and(|p| p.is_match(text));
        let matching: Vec<StageId> = pipeline
            .stages
            .iter()
            .filter(|s| selected(&s.name) || selected(&s.family))
            .map(|s| s.id)
            .collect();
        if matching.is_empty() {
            let known = pipeline
                .stages
                .iter()
                .flat_map(|s| [s.family.as_str(), s.name.as_str()]);
            return Err(SelectionError {
                name: name.clone(),
                suggestion: suggest(name, known),
            });
        }
        found.extend(matching);
    }
    Ok(found)
}
