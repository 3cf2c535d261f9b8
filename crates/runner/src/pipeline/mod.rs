//! From YAML text to a typed, located and validated [`Pipeline`].
//!
//! Reading files (pipeline and presets) happens in `load`; everything after is a pure function of the texts.
//! Every error is collected; a pipeline with any is never returned.
//!
//! The text becomes a tree in which each value knows its place (`node`); the tree is held against the JSON Schema of
//! the kind's parameter struct (`validate`), and only then read into the struct. To read the text into structs at once
//! would be far less code, but serde stops at its first error, and after presets, matrices and overrides were merged
//! nothing would know its line any more. The price: `validate` knows the part of JSON Schema that schemars writes, and
//! the struct has the last word where the two disagree.

mod load;
mod matrix;
mod node;
mod presets;
mod problem;
mod profile;
mod published;
mod ranges;
mod resolve;
mod resources;
mod root;
mod sweep;
#[cfg(test)]
mod tests;
mod validate;

use std::path::PathBuf;

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use serde_json::Value as Json;

pub use load::{LoadOptions, load};
pub use node::{SourceTexts, Spot};
pub use presets::{Origin, Preset, preset_kind, preset_problems, preset_text, presets};
pub use problem::{Problem, old_name, suggest};
pub use profile::{Commands, JobOptions, JobState, Profile, Rule, load_profile, profile_schema};
pub use resources::Resources;
pub use root::project_root;
pub use validate::{alternatives, types, unwrap_optional, variants};

#[cfg(any(test, fuzzing))]
use crate::kind::Registry;
use crate::kind::{AnyKind, AnyStage, Artifact, Conditions, Member, Output, ProducerInput, stored_parameter};
use crate::names::{Named, REPETITION};
use crate::store::ReportTexts;

/// Dense index of a stage (one member of a matrix) in its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StageId(pub usize);

/// A pipeline without errors: acyclic, every reference resolved, every parameter typed.
pub struct Pipeline {
    /// The pipeline's `name`, else that of its file without the ending.
    pub name: String,
    /// As given on the command line.
    pub path: PathBuf,
    /// The project's folder: where `stages/`, `data/` and `cache/` are.
    pub root: PathBuf,
    /// `stage` or `stage/table` to print at the end of a run.
    pub headline: Option<String>,
    /// What is said in the report of a run.
    pub report: Option<ReportTexts>,
    /// Where results are kept besides this machine's cache.
    pub cache: Option<CacheSettings>,
    /// What stages share besides threads and GPUs: name to number of units. One unit is a mutex.
    pub pools: IndexMap<String, usize>,
    /// The pipeline's file and the presets that it names, as they were read: name and text.
    pub texts: Vec<(String, String)>,
    /// Every stage and member, as declared; `StageId` counts in this list.
    pub stages: Vec<Stage>,
}

/// `cache` of a pipeline: where results are kept besides this machine's cache. No key holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Address of the remote, as written.
    pub remote: String,
    /// Whether a run sends what it has computed.
    pub push: bool,
}

/// One unit of work: a stage, or one member of a stage's matrix.
pub struct Stage {
    /// The place in [`Pipeline::stages`].
    pub id: StageId,
    /// `cordsnet`, or `cordsnet@seed=1` for a member of a matrix.
    pub name: String,
    /// The name as written in the pipeline.
    pub family: String,
    /// The matrix fields of this member, in order of declaration.
    pub fields: IndexMap<String, Json>,
    /// The stage's kind and parameters.
    pub work: Box<dyn AnyStage>,
    /// Filled input slots, in the order in which the parameters name them.
    pub inputs: Vec<InputSlot>,
    /// What the stage writes.
    pub outputs: Vec<Output>,
    /// What the stage takes while it runs, and how often it may try.
    pub resources: Resources,
    /// What must hold of the stage's tables before they are published.
    pub ensure: Conditions,
}

impl Stage {
    /// The stage's kind.
    pub fn kind(&self) -> &'static dyn AnyKind {
        self.work.kind()
    }
}

impl Named for Stage {
    fn name(&self) -> &str {
        &self.name
    }
    fn family(&self) -> &str {
        &self.family
    }
    fn fields(&self) -> &IndexMap<String, Json> {
        &self.fields
    }
}

/// An input of a stage: which output of which stage fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSlot {
    /// `data`, or `models.3` for an item of a list.
    pub slot: String,
    /// The list that it is an item of: `models`.
    pub list: Option<String>,
    /// The stage that fills the slot.
    pub producer: StageId,
    /// The slot of the producer's output.
    pub output: String,
    /// What kind of output it is.
    pub artifact: Artifact,
}

/// A pipeline from its text alone, without presets and files: for tests of what comes after resolving, and for fuzzing.
///
/// # Errors
/// Every problem, in order of places.
#[cfg(any(test, fuzzing))]
pub fn from_text(path: &str, text: &str, registry: &Registry) -> Result<Pipeline, Vec<Problem>> {
    from_text_with_notes(path, text, registry, &mut Vec::new())
}

/// The same, with what is no error.
#[cfg(any(test, fuzzing))]
fn from_text_with_notes(
    path: &str,
    text: &str,
    registry: &Registry,
    notes: &mut Vec<Problem>,
) -> Result<Pipeline, Vec<Problem>> {
    struct NoPresets;
    impl presets::Presets for NoPresets {
        fn get(&mut self, _: &str, _: &mut SourceTexts) -> Result<node::Node, presets::PresetError> {
            Err(presets::PresetError::Unreadable("there are no presets here".into()))
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
    }
    let mut sources = SourceTexts::default();
    let source = sources.add(path.to_owned(), text.to_owned());
    let document = node::parse(&sources, source).map_err(|e| {
        let kind = problem::ProblemKind::Syntax { message: e.message };
        vec![Problem::at(e.spot, kind)]
    })?;
    let place = resolve::PipelineLocation {
        path: path.into(),
        root: "/nowhere".into(),
        default_name: "pipeline".into(),
    };
    let options = LoadOptions {
        registry,
        overrides: Vec::new(),
    };
    resolve::resolve(&document, place, &options, &mut NoPresets, &mut sources, notes)
}

impl Pipeline {
    /// The stage of that id.
    ///
    /// # Panics
    /// Where the id is of another pipeline with more stages.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0]
    }

    /// The stages that read an output of `id`.
    pub(crate) fn consumers(&self, id: StageId) -> impl Iterator<Item = &Stage> {
        self.stages
            .iter()
            .filter(move |s| s.inputs.iter().any(|i| i.producer == id))
    }

    /// What a stage's kind is told of the members in its inputs, in the order of the inputs; empty for a kind that does
    /// not [see groups](crate::kind::Kind::SEES_GROUPS).
    pub(crate) fn members<'a>(&'a self, stage: &'a Stage) -> Vec<Member> {
        if !stage.kind().sees_groups() {
            return Vec::new();
        }
        let mut families: IndexMap<&str, IndexSet<&str>> = IndexMap::new();
        let member = |input: &'a InputSlot| {
            let producer = self.stage(input.producer);
            if input.list.is_none() && stage.kind().sees_lists_alone() {
                return Member::default();
            }
            let list = input.list.as_deref().unwrap_or(&input.slot);
            let (family, _) = families.entry(list).or_default().insert_full(&producer.family);
            let all = stage.kind().sees_repetitions();
            let fields = producer.fields.iter().filter(|(name, _)| all || *name != REPETITION);
            // However the pipeline spells a parameter, the key and what is computed are the same.
            let stored = |name: &str| stored_parameter(producer.kind().schema(), name).to_owned();
            let source = |source: &InputSlot| {
                let behind = self.stage(source.producer);
                ProducerInput {
                    slot: source.slot.clone(),
                    stage: behind.family.clone(),
                    fields: behind.fields.clone(),
                }
            };
            let sees_names = stage.kind().sees_names();
            let sources = producer
                .inputs
                .iter()
                .filter(|source| sees_names && source.list.is_some());
            Member {
                family,
                fields: fields.map(|(name, value)| (stored(name), value.clone())).collect(),
                stage: if sees_names {
                    producer.family.clone()
                } else {
                    String::new()
                },
                sources: sources.map(source).collect(),
            }
        };
        stage.inputs.iter().map(member).collect()
    }

    /// The graph: an edge from producer to consumer, weighted with the consumer's slot.
    pub fn graph(&self) -> petgraph::Graph<StageId, String> {
        let mut graph = petgraph::Graph::new();
        let nodes: Vec<_> = self.stages.iter().map(|s| graph.add_node(s.id)).collect();
        for stage in &self.stages {
            for input in &stage.inputs {
                graph.add_edge(nodes[input.producer.0], nodes[stage.id.0], input.slot.clone());
            }
        }
        graph
    }

    /// Stages in an order in which every producer stands before its consumers,
    /// otherwise as declared.
    pub fn order(&self) -> Vec<StageId> {
        let mut placed = vec![false; self.stages.len()];
        let mut waiting: Vec<usize> = self
            .stages
            .iter()
            .map(|s| {
                let mut producers: Vec<_> = s.inputs.iter().map(|i| i.producer).collect();
                producers.sort_unstable();
                producers.dedup();
                producers.len()
            })
            .collect();
        let mut consumers = vec![Vec::new(); self.stages.len()];
        for stage in &self.stages {
            let mut producers: Vec<_> = stage.inputs.iter().map(|i| i.producer).collect();
            producers.sort_unstable();
            producers.dedup();
            for producer in producers {
                consumers[producer.0].push(stage.id.0);
            }
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..self.stages.len()).filter(|i| waiting[*i] == 0).collect();
        let mut order = Vec::with_capacity(self.stages.len());
        while let Some(next) = ready.pop_first() {
            placed[next] = true;
            order.push(StageId(next));
            for &consumer in &consumers[next] {
                waiting[consumer] -= 1;
                if waiting[consumer] == 0 && !placed[consumer] {
                    ready.insert(consumer);
                }
            }
        }
        order
    }
}
