//! The typed contract between a stage kind and the runner.
//!
//! A kind's parameters are one serde struct. Validation, the catalogue of kinds, the JSON Schema and the key of a
//! result all come from that struct; nothing is declared twice.
//!
//! A kind is a type of its own, and the runner sees it with the parameter type erased ([`AnyKind`]). An enum of all
//! kinds would need no erasure, but this crate would have to know each, and a lab could add none without changing it.
//! Parameters as plain JSON would need none either, but every kind would have to check them itself, and their schema
//! would be a second statement of the same thing.
//!
//! What a running stage may use is all in [`Context`]: values and a closure, nothing of how a run starts its workers.
//! So the contract lies below store, pipeline and run, and a kind can be tried without any of them.

mod conditions;
mod context;
mod device;
mod error;
mod extent;
mod external;
mod identity;
mod members;
mod output;
mod published;
mod ranks;
mod reference;
mod registry;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

pub use conditions::{Broken, Conditions};
pub(crate) use context::JOB_MEMORY;
pub use context::{Context, Input, Said, Update};
pub use device::Device;
pub use dynvis_base::{FileList, Head};
pub use error::{ErrorClass, StageError};
pub use extent::{Extent, InputExtents, Size};
pub use external::{External, ExternalFile, FirstBytes, MissingData, Select, Tree, TreeFiles, located};
pub use members::{Member, Members, ProducerInput, Spread};
pub use output::{Artifact, Declared, Output, PossibleOutput};
pub use published::{published_parameter, stored_parameter};
pub use ranks::Ranks;
pub use reference::{AnyRef, AnyRefs};
pub use registry::{GpuDriver, GpuError, Registry};

/// A rule between parameters that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The parameter to point at, dotted for nested ones, with the place for an item of a list: `noises.0.kind`.
    pub parameter: Cow<'static, str>,
    /// What is wrong, for the user.
    pub message: String,
}

impl Violation {
    /// A broken rule, pointing at `parameter` (dotted for nested ones, with places in lists).
    pub fn new(parameter: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            parameter: parameter.into(),
            message: message.into(),
        }
    }
}

/// A stage kind, written by implementing this for a unit struct.
pub trait Kind: Sync + 'static {
    /// All parameters, with defaults, units and ranges in the schema.
    type Params: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// How pipelines name the kind.
    const NAME: &'static str;
    /// What a stage of the kind does, in one line without a period; `dynvis stages` shows it.
    const SUMMARY: &'static str;
    /// Rises by 1 whenever the same parameters and inputs give other bytes or another meaning, and only then. It is
    /// part of the key of every stage of the kind, but for those that [`code_version`](Self::code_version) names.
    const CODE_VERSION: u32;
    /// Parameters that stand in keys also where they are at their default: those that the kind had when all defaults
    /// did, so that results from then keep their keys. A parameter that is added later is not among them, and results
    /// that were made before it keep theirs; its default may change only together with
    /// [`CODE_VERSION`](Self::CODE_VERSION). Dotted where they are nested, `*` for any key of a map.
    const KEYED_DEFAULTS: &'static [&'static str] = &[];
    /// All outputs that its stages can have, in order. None where stages name their own.
    const OUTPUTS: &'static [Declared<Self::Params>];
    /// Whether it goes on from what an earlier attempt left in [`Context::checkpoint`], and ends with a checkpoint soon
    /// after [`Context::stop_requested`]. Other kinds are ended at once.
    const KEEPS_CHECKPOINTS: bool = false;

    /// Whether it computes where [`Context::device`] says. Other kinds compute on the processor.
    const USES_DEVICE: bool = false;

    /// Whether it computes on several GPUs together, a process on each ([`Context::ranks`]), where a stage's resources
    /// ask for them. Other kinds that use the device have one.
    const USES_SEVERAL_GPUS: bool = false;

    /// Whether it is told which of its inputs repeat each other and the matrix fields of the others ([`Members`]). They
    /// are part of its stages' identity then.
    const SEES_GROUPS: bool = false;

    /// Whether that which tells repetitions apart is among what it is told of its inputs' members.
    const SEES_REPETITIONS: bool = false;

    /// Whether it is told nothing of inputs that are a stage each, and no list of members.
    const SEES_LISTS_ALONE: bool = false;

    /// Whether it is told the names of the stages that the tables in its inputs number, and their matrix fields: they are
    /// part of its stages' identity then, and of what [`joined`](crate::kinds::joined) reads. Kinds that also
    /// [see groups](Self::SEES_GROUPS) alone.
    const SEES_NAMES: bool = false;

    /// The code version that is part of a stage's key. It is above [`CODE_VERSION`](Self::CODE_VERSION) for stages
    /// whose parameters alone give other bytes or another meaning since: the others keep their keys. When the kind's
    /// own rises, it rises above all that any stage had.
    fn code_version(_params: &Self::Params) -> u32 {
        Self::CODE_VERSION
    }
    /// The parameter by which a stage grows, where it has one: a stage with more of it begins as one with less does, to
    /// the bit, and may go on from what that left in [`Context::lineage`].
    fn grows_by(_params: &Self::Params) -> Option<&'static str> {
        None
    }
    /// Rules that a schema cannot state.
    fn check(_params: &Self::Params) -> Vec<Violation> {
        Vec::new()
    }
    /// What a stage with these parameters writes.
    fn outputs(params: &Self::Params) -> Vec<Output> {
        let has = |declared: &&Declared<_>| declared.when.is_none_or(|(_, has)| has(params));
        let output = |declared: &Declared<_>| Output::new(declared.slot, declared.artifact);
        Self::OUTPUTS.iter().filter(has).map(output).collect()
    }
    /// What is read from outside the pipeline; `root` is the project's folder.
    fn external(_params: &Self::Params, _root: &Path) -> External {
        External::default()
    }
    /// What a stage with these parameters takes, as far as it can be told before it runs: from names and sizes of what
    /// is read from outside, and from what the producers of its inputs said. Nothing where nothing is known.
    ///
    /// # Errors
    /// Why it cannot be told, where the stage would fail by the same.
    fn extent(_params: &Self::Params, _root: &Path, _inputs: &InputExtents) -> Result<Option<Extent>, StageError> {
        Ok(None)
    }
    /// Computes the outputs, in a worker: writes each below [`Context::output`].
    ///
    /// # Errors
    /// Why the stage failed. What it had written is kept under the run and not published.
    fn run(params: &Self::Params, context: &mut Context) -> Result<(), StageError>;
}

/// [`Kind`] with its parameter type erased, as the runner sees it.
pub trait AnyKind: Sync {
    /// [`Kind::NAME`].
    fn name(&self) -> &'static str;
    /// [`Kind::SUMMARY`].
    fn summary(&self) -> &'static str;
    /// [`Kind::CODE_VERSION`], that of most of its stages.
    fn code_version(&self) -> u32;
    /// [`Kind::KEEPS_CHECKPOINTS`].
    fn keeps_checkpoints(&self) -> bool;
    /// [`Kind::USES_DEVICE`].
    fn uses_device(&self) -> bool;
    /// [`Kind::USES_SEVERAL_GPUS`].
    fn uses_several_gpus(&self) -> bool;
    /// [`Kind::SEES_GROUPS`].
    fn sees_groups(&self) -> bool;
    /// [`Kind::SEES_REPETITIONS`].
    fn sees_repetitions(&self) -> bool;
    /// [`Kind::SEES_LISTS_ALONE`].
    fn sees_lists_alone(&self) -> bool;
    /// [`Kind::SEES_NAMES`].
    fn sees_names(&self) -> bool;
    /// JSON Schema of [`Kind::Params`].
    fn schema(&'static self) -> &'static Json;
    /// All outputs that its stages can have; none where these name their own.
    fn possible_outputs(&self) -> Vec<PossibleOutput>;
    /// What parameters say before it is known which stages their references lead to.
    ///
    /// # Errors
    /// That they are none of this kind.
    fn draft(&self, params: Json) -> Result<Draft, String>;
    /// A stage of this kind. References in `params` are the names of input slots.
    ///
    /// # Errors
    /// That they are none of this kind.
    fn stage(&'static self, params: Json) -> Result<Box<dyn AnyStage>, String>;
}

/// Parameters on their way to a stage.
pub struct Draft {
    /// All parameters, every default filled in.
    pub params: Json,
    /// What a stage with these parameters writes.
    pub outputs: Vec<Output>,
    /// Rules that the parameters break.
    pub violations: Vec<Violation>,
}

/// A stage's parameters: read once, and asked for all that follows from them.
pub trait AnyStage: Send + Sync {
    /// The kind of this stage.
    fn kind(&self) -> &'static dyn AnyKind;
    /// All parameters, every default filled in; references are the names of input slots.
    fn params(&self) -> &Json;
    /// Parameters that identify a result. Left out are paths, since only what stands in the files counts; what cannot
    /// change a result; and what is at its default, but for parameters that stood in keys with it before
    /// (`Kind::KEYED_DEFAULTS`).
    fn identity(&self) -> &Json;
    /// [`Kind::code_version`].
    fn code_version(&self) -> u32;
    /// [`Kind::grows_by`].
    fn grows_by(&self) -> Option<&'static str>;
    /// What is read from outside the pipeline; `root` is the project's folder.
    fn external(&self, root: &Path) -> External;
    /// [`Kind::extent`].
    ///
    /// # Errors
    /// Why it cannot be told.
    fn extent(&self, root: &Path, inputs: &InputExtents) -> Result<Option<Extent>, StageError>;
    /// Computes the outputs, in a worker.
    ///
    /// # Errors
    /// Why the stage failed.
    fn run(&self, context: &mut Context) -> Result<(), StageError>;
}

struct Erased<K> {
    schema: OnceLock<Json>,
    kind: PhantomData<K>,
}

impl<K> Erased<K> {
    const fn new() -> Self {
        Self {
            schema: OnceLock::new(),
            kind: PhantomData,
        }
    }
}

/// The typed parameters, and all of them again as JSON.
fn read<K: Kind>(params: Json) -> Result<(K::Params, Json), String> {
    let typed: K::Params = serde_json::from_value(params).map_err(|e| e.to_string())?;
    let json = serde_json::to_value(&typed).map_err(|e| e.to_string())?;
    Ok((typed, json))
}

impl<K: Kind> AnyKind for Erased<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn summary(&self) -> &'static str {
        K::SUMMARY
    }

    fn code_version(&self) -> u32 {
        K::CODE_VERSION
    }

    fn keeps_checkpoints(&self) -> bool {
        K::KEEPS_CHECKPOINTS
    }

    fn uses_device(&self) -> bool {
        K::USES_DEVICE
    }

    fn uses_several_gpus(&self) -> bool {
        K::USES_SEVERAL_GPUS
    }

    fn sees_groups(&self) -> bool {
        K::SEES_GROUPS
    }

    fn sees_repetitions(&self) -> bool {
        K::SEES_REPETITIONS
    }

    fn sees_lists_alone(&self) -> bool {
        K::SEES_LISTS_ALONE
    }

    fn sees_names(&self) -> bool {
        K::SEES_NAMES
    }

    fn schema(&'static self) -> &'static Json {
        self.schema.get_or_init(schema_of::<K::Params>)
    }

    fn possible_outputs(&self) -> Vec<PossibleOutput> {
        let possible = |declared: &Declared<_>| PossibleOutput {
            slot: declared.slot,
            name: declared.name,
            artifact: declared.artifact,
            holds: declared.holds,
            schema: declared.schema.map(|schema| schema()),
            when: declared.when.map(|(which, _)| which),
        };
        K::OUTPUTS.iter().map(possible).collect()
    }

    fn draft(&self, params: Json) -> Result<Draft, String> {
        let (typed, params) = read::<K>(params)?;
        Ok(Draft {
            params,
            outputs: K::outputs(&typed),
            violations: K::check(&typed),
        })
    }

    fn stage(&'static self, params: Json) -> Result<Box<dyn AnyStage>, String> {
        let (typed, params) = read::<K>(params)?;
        let mut identity = identity::without_unkeyed(self.schema(), params.clone());
        identity::drop_defaults(&mut identity, &params, K::KEYED_DEFAULTS, |params| {
            read::<K>(params).ok().map(|(_, json)| json)
        });
        Ok(Box::new(Stage::<K> {
            kind: self,
            typed,
            params,
            identity,
        }))
    }
}

struct Stage<K: Kind> {
    kind: &'static dyn AnyKind,
    typed: K::Params,
    params: Json,
    identity: Json,
}

impl<K: Kind> AnyStage for Stage<K> {
    fn kind(&self) -> &'static dyn AnyKind {
        self.kind
    }

    fn params(&self) -> &Json {
        &self.params
    }

    fn identity(&self) -> &Json {
        &self.identity
    }

    fn code_version(&self) -> u32 {
        K::code_version(&self.typed)
    }

    fn grows_by(&self) -> Option<&'static str> {
        K::grows_by(&self.typed)
    }

    fn external(&self, root: &Path) -> External {
        K::external(&self.typed, root)
    }

    fn extent(&self, root: &Path, inputs: &InputExtents) -> Result<Option<Extent>, StageError> {
        K::extent(&self.typed, root, inputs)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        K::run(&self.typed, context)
    }
}

/// A kind with its parameter type erased. It lives as long as the program.
pub(crate) fn erased<K: Kind>() -> &'static dyn AnyKind {
    Box::leak(Box::new(Erased::<K>::new()))
}

/// The JSON Schema of a type, all in one piece.
pub fn schema_of<T: JsonSchema>() -> Json {
    let generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    struct Risen;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Params {
        is_new: bool,
    }

    impl Kind for Risen {
        type Params = Params;
        const NAME: &'static str = "risen";
        const SUMMARY: &'static str = "results of some stages are others since";
        const CODE_VERSION: u32 = 3;
        const OUTPUTS: &'static [Declared<Params>] = &[];

        fn code_version(params: &Params) -> u32 {
            Self::CODE_VERSION + u32::from(params.is_new)
        }

        fn run(_params: &Params, _context: &mut Context) -> Result<(), StageError> {
            Ok(())
        }
    }

    #[test]
    fn a_stage_can_have_a_later_code_version_than_its_kind() {
        let kind = erased::<Risen>();
        let version = |is_new: bool| {
            let stage = kind.stage(serde_json::json!({ "is_new": is_new })).expect("parameters");
            stage.code_version()
        };
        assert_eq!([version(false), version(true)], [3, 4]);
        assert_eq!(kind.code_version(), 3);
    }
}
