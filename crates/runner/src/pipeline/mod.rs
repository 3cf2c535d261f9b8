//! From YAML text to a typed, located and validated [`Pipeline`].
//!
//! Reading files (pipeline and presets) happens in `load`; everything after is a pure function of the texts.
//! Every error is collected; a pipeline with any is never returned.

mod load;
mod matrix;
mod names;
mod node;
mod presets;
mod problem;
mod reference;
mod resolve;
mod resources;
mod root;
mod validate;

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value as Json;

pub use load::{LoadOptions, load};
pub use node::{SourceTexts, Spot};
pub use presets::{Origin, Preset, preset_kind, preset_problems, preset_text, presets};
pub use problem::{Problem, ProblemKind, suggest};
pub use reference::{Named, find, is_name, member_name, scalar};
pub use resources::Resources;
pub use root::project_root;
pub use validate::{types, unwrap_optional, variants};

#[cfg(any(test, fuzzing))]
use crate::kind::Registry;
use crate::kind::{AnyKind, AnyStage, Artifact, Conditions, Output};

/// Dense index of a stage (one member of a matrix) in its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StageId(pub usize);

/// A pipeline without errors: acyclic, every reference resolved, every parameter typed.
pub struct Pipeline {
    pub name: String,
    /// As given on the command line.
    pub path: PathBuf,
    /// The project's folder: where `stages/`, `data/` and `cache/` are.
    pub root: PathBuf,
    /// `stage` or `stage/table` to print at the end of a run.
    pub headline: Option<String>,
    /// What stages share besides threads and GPUs: name to number of units. One unit is a mutex.
    pub pools: IndexMap<String, usize>,
    pub stages: Vec<Stage>,
}

/// One unit of work: a stage, or one member of a stage's matrix.
pub struct Stage {
    pub id: StageId,
    /// `cordsnet`, or `cordsnet@seed=1` for a member of a matrix.
    pub name: String,
    /// The name as written in the pipeline.
    pub family: String,
    /// The matrix fields of this member, in order of declaration.
    pub fields: IndexMap<String, Json>,
    /// Its kind and parameters.
    pub work: Box<dyn AnyStage>,
    pub inputs: Vec<InputSlot>,
    pub outputs: Vec<Output>,
    pub resources: Resources,
    /// What must hold of its tables.
    pub ensure: Conditions,
}

impl Stage {
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
    pub producer: StageId,
    pub output: String,
    pub artifact: Artifact,
}

/// A pipeline from its text alone, without presets and files: for tests of what comes after resolving, and for fuzzing.
#[cfg(any(test, fuzzing))]
pub fn from_text(path: &str, text: &str, registry: &Registry) -> Result<Pipeline, Vec<Problem>> {
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
    resolve::resolve(
        &document,
        place,
        &options,
        &mut NoPresets,
        &mut sources,
        &mut Vec::new(),
    )
}

impl Pipeline {
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0]
    }

    /// The stages that read an output of `id`.
    pub fn consumers(&self, id: StageId) -> impl Iterator<Item = &Stage> {
        self.stages
            .iter()
            .filter(move |s| s.inputs.iter().any(|i| i.producer == id))
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
