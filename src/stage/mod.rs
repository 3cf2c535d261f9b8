//! The stage kinds: one file or folder each, and the typed contract between a kind and the rest of the tool.
//!
//! A kind's parameters are one serde struct. Validation, `dynvis stages`, `dynvis schema` and the
//! key of a result all come from that struct; nothing is declared twice.

mod cognitive;
mod collect;
mod command;
mod conditions;
mod context;
mod dataset;
mod evaluate;
mod fixed_points;
mod import;
mod members;
mod noise;
mod picture;
mod predictivity;
mod record;
mod recordings;
mod recordings_table;
mod reference;
mod synthetic_recordings;
mod times;
mod train;

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cords::device::OutOfMemory;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

pub(crate) use conditions::{Broken, Conditions};
pub(crate) use context::{Context, Input, Said, Update};
pub(crate) use members::{Member, Members, REPETITION, Spread, members};
pub(crate) use noise::model_name;
pub(crate) use reference::{ActivityRef, AnyRef, AnyRefs, DatasetRef, ModelRef, RecordingsRef};

/// What an output is, and what an input must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Artifact {
    /// Images, labels and splits, memory-mapped by later stages.
    Dataset,
    /// A trained network.
    Model,
    /// Activity of a network's areas for chosen images and times.
    Activity,
    /// Recorded or simulated responses of neurons.
    Recordings,
    /// A Parquet result table.
    Table,
    /// Any other file or folder.
    Files,
}

impl Artifact {
    /// What a reference of that type takes; none where it takes any output.
    pub(crate) fn named(expected: &str) -> Option<Self> {
        match expected {
            "dataset" => Some(Self::Dataset),
            "model" => Some(Self::Model),
            "activity" => Some(Self::Activity),
            "recordings" => Some(Self::Recordings),
            "table" => Some(Self::Table),
            _ => None,
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Dataset => "a dataset",
            Self::Model => "a model",
            Self::Activity => "activity",
            Self::Recordings => "recordings",
            Self::Table => "a table",
            Self::Files => "files",
        }
    }
}

/// A part of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SplitName {
    /// images that models learn from
    Train,
    /// images that training watches
    Validation,
    /// images that nothing has seen
    #[default]
    Test,
}

impl From<SplitName> for cords::data::Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}

/// So many of a list's entries, evenly spread over it: sets of images often come class by class.
fn spread(all: &[u32], count: usize) -> Vec<u32> {
    let count = count.min(all.len());
    (0..count).map(|place| all[place * all.len() / count]).collect()
}

/// A declared output of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Name of the slot; a table is shown under it.
    pub(crate) slot: String,
    pub(crate) artifact: Artifact,
}

impl Output {
    pub(crate) fn new(slot: &str, artifact: Artifact) -> Self {
        Self {
            slot: slot.to_owned(),
            artifact,
        }
    }
}

/// Whether a stage with these parameters has an output.
type Has<P> = fn(&P) -> bool;

/// An output that stages of a kind can have. `P`: the kind's parameters.
pub(crate) struct Declared<P> {
    slot: &'static str,
    artifact: Artifact,
    /// What it holds, for people.
    holds: &'static str,
    /// Where not every stage has it: which ones do, in words, and whether one with these parameters does.
    when: Option<(&'static str, Has<P>)>,
}

impl<P> Declared<P> {
    /// One that every stage of the kind has.
    const fn always(slot: &'static str, artifact: Artifact, holds: &'static str) -> Self {
        Self {
            slot,
            artifact,
            holds,
            when: None,
        }
    }

    /// One that some have.
    const fn when(mut self, which: &'static str, has: Has<P>) -> Self {
        self.when = Some((which, has));
        self
    }
}

/// The same as the rest of the tool sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PossibleOutput {
    pub(crate) slot: &'static str,
    pub(crate) artifact: Artifact,
    pub(crate) holds: &'static str,
    /// Which stages have it; none where all do.
    pub(crate) when: Option<&'static str>,
}

/// A file or folder outside the pipeline that a stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalFile {
    /// Its name within the stage's identity: never a path of this machine.
    pub(crate) slot: String,
    pub(crate) path: PathBuf,
}

/// Where a path of a pipeline leads: relative to the project's folder, absolute, or below the user's home (`~/…`).
pub(crate) fn located(root: &Path, path: &str) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => Path::new(&home).join(below),
        _ => root.join(path),
    }
}

/// Something that must exist before a stage can run and does not, or is there and of no use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MissingData {
    /// What is missing, in a user's words.
    pub(crate) what: String,
    /// Where to put it, relative to the project's folder where it lies within.
    pub(crate) place: String,
    /// Where it can be had, or what else to do.
    pub(crate) hint: String,
    /// Why what is there is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unusable: Option<String>,
}

/// What a stage reads from outside: everything that is there, or what is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct External {
    pub(crate) files: Vec<ExternalFile>,
    /// Folders whose lists of names gave the files, where whatever comes or goes there may be read.
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) missing: Vec<MissingData>,
    /// Environment variables that belong to the stage's identity.
    pub(crate) environment: Vec<String>,
}

impl External {
    /// Adds a file that must be there; `missing` says what it is where it is not, or is none.
    pub(crate) fn require(&mut self, slot: &str, path: PathBuf, missing: MissingData) {
        let unusable = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let slot = slot.to_owned();
                return self.files.push(ExternalFile { slot, path });
            }
            Ok(metadata) => crate::files::irregular(metadata.file_type()).map(|what| format!("it is {what}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(error.to_string()),
        };
        self.missing.push(MissingData { unusable, ..missing });
    }
}

/// A rule between parameters that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The parameter to point at, dotted for nested ones.
    pub(crate) parameter: &'static str,
    pub(crate) message: String,
}

impl Violation {
    pub(crate) fn new(parameter: &'static str, message: impl Into<String>) -> Self {
        Self {
            parameter,
            message: message.into(),
        }
    }
}

/// Kinds of failure that another attempt may get over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorClass {
    /// memory of the machine or of a GPU did not suffice
    Oom,
    /// reading or writing failed
    Io,
}

impl ErrorClass {
    /// As messages say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oom => "want of memory",
            Self::Io => "trouble with reading or writing",
        }
    }

    /// The class of an error or of the first of its causes that has one.
    fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            let found = match cause.downcast_ref() {
                Some(io) => Self::of_io(io),
                None => Self::of_memory(cause),
            };
            if found.is_some() {
                return found;
            }
            next = inside(cause).or_else(|| cause.source());
        }
        None
    }

    fn of_io(error: &std::io::Error) -> Option<Self> {
        use std::io::ErrorKind::{InvalidData, InvalidInput, OutOfMemory, UnexpectedEof};
        match error.kind() {
            OutOfMemory => Some(Self::Oom),
            // What stands in a file does not get better.
            InvalidData | InvalidInput | UnexpectedEof => None,
            _ => Some(Self::Io),
        }
    }

    fn of_memory(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        fn lacks<E: OutOfMemory + std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
            error.downcast_ref::<E>().is_some_and(E::is_out_of_memory)
        }
        let is_memory = lacks::<cords::device::DeviceError>(error)
            || lacks::<cords::learn::TrainError>(error)
            || lacks::<cords::noise::NoiseError>(error)
            || lacks::<cords::record::RecordError>(error)
            || matches!(error.downcast_ref(), Some(cords::assoc::AssocError::Memory));
        is_memory.then_some(Self::Oom)
    }
}

/// What an error passes on as its own: such a one is left out of the chain of causes.
fn inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    macro_rules! first {
        ($($variant:path),* $(,)?) => {{
            $(if let Some($variant(inner)) = error.downcast_ref() {
                return Some(inner);
            })*
            None
        }};
    }
    first!(
        cords::assoc::AssocError::Io,
        cords::assoc::AssocError::Net,
        cords::data::DataError::Io,
        cords::learn::TrainError::Net,
        cords::net::NetError::Io,
        cords::neural::NeuralError::Data,
        cords::neural::NeuralError::Io,
        cords::noise::NoiseError::Net,
        cords::record::RecordError::Io,
        cords::record::RecordError::Net,
        crate::table::TableError::Io,
    )
}

/// Why a stage failed, as its worker reports it.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StageError {
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
    /// Where another attempt may get over it.
    pub(crate) class: Option<ErrorClass>,
}

impl StageError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            class: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn class(mut self, class: Option<ErrorClass>) -> Self {
        self.class = class;
        self
    }

    /// Keeps the whole chain of causes.
    pub(crate) fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self {
            message: error.to_string(),
            causes,
            hint: None,
            class: ErrorClass::of(error),
        }
    }
}

impl From<Broken> for StageError {
    fn from(broken: Broken) -> Self {
        let message = format!("its output `{}` breaks a condition: {}", broken.output, broken.problem);
        Self::new(message).hint("the conditions stand under the stage's `ensure`; what it wrote is kept under the run")
    }
}

macro_rules! from_errors {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for StageError {
            fn from(error: $error) -> Self {
                Self::from_error(&error)
            }
        }
    )*};
}
from_errors!(
    std::io::Error,
    cords::assoc::AssocError,
    crate::table::TableError,
    serde_json::Error,
    cords::data::DataError,
    cords::net::NetError,
    cords::learn::TrainError,
    cords::device::DeviceError,
    cords::noise::NoiseError,
    cords::record::RecordError,
    cords::neural::NeuralError,
);

/// Images that kinds which do not say how many work on at a time on a GPU, where there is room.
const GPU_IMAGES: usize = 64;

/// A stage kind, written by implementing this for a unit struct.
pub(crate) trait Kind: Sync {
    /// All parameters, with defaults, units and ranges in the schema.
    type Params: Serialize + DeserializeOwned + JsonSchema + 'static;
    const NAME: &'static str;
    const SUMMARY: &'static str;
    /// Changes exactly when the kind's numbers change: it is part of every key.
    const CODE_VERSION: u32;
    /// All outputs that its stages can have, in order. None where stages name their own.
    const OUTPUTS: &'static [Declared<Self::Params>];
    /// Whether it goes on from what an earlier attempt left in [`Context::checkpoint`], and ends with a checkpoint soon
    /// after [`Context::stop_requested`]. Other kinds are ended at once.
    const KEEPS_CHECKPOINTS: bool = false;

    /// Whether it computes where [`Context::device`] says. Other kinds compute on the processor.
    const USES_DEVICE: bool = false;

    /// Whether it is told which of its inputs repeat each other and the matrix fields of the others ([`Members`]). They are part
    /// of its stages' identity then.
    const SEES_GROUPS: bool = false;

    /// Whether that which tells repetitions apart is among what it is told of its inputs' members.
    const SEES_REPETITIONS: bool = false;

    /// Whether it is told nothing of inputs that are a stage each, and no list of members.
    const SEES_LISTS_ALONE: bool = false;

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
    fn run(params: &Self::Params, context: &mut Context) -> Result<(), StageError>;
}

/// [`Kind`] with its parameter type erased, as the rest of the tool sees it.
pub(crate) trait AnyKind: Sync {
    fn name(&self) -> &'static str;
    fn summary(&self) -> &'static str;
    fn code_version(&self) -> u32;
    fn keeps_checkpoints(&self) -> bool;
    fn uses_device(&self) -> bool;
    fn sees_groups(&self) -> bool;
    fn sees_repetitions(&self) -> bool;
    fn sees_lists_alone(&self) -> bool;
    fn schema(&'static self) -> &'static Json;
    /// Parameters with every default filled in, and the rules that they break.
    fn canonical(&self, params: Json) -> Result<(Json, Vec<Violation>), String>;
    fn outputs(&self, params: &Json) -> Vec<Output>;
    /// All outputs that its stages can have; none where these name their own.
    fn possible_outputs(&self) -> Vec<PossibleOutput>;
    fn external(&self, params: &Json, root: &Path) -> External;
    fn run(&self, params: &Json, context: &mut Context) -> Result<(), StageError>;
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

    fn sees_groups(&self) -> bool {
        K::SEES_GROUPS
    }

    fn sees_repetitions(&self) -> bool {
        K::SEES_REPETITIONS
    }

    fn sees_lists_alone(&self) -> bool {
        K::SEES_LISTS_ALONE
    }

    fn schema(&'static self) -> &'static Json {
        self.schema.get_or_init(schema_of::<K::Params>)
    }

    fn canonical(&self, params: Json) -> Result<(Json, Vec<Violation>), String> {
        let typed: K::Params = serde_json::from_value(params).map_err(|e| e.to_string())?;
        let violations = K::check(&typed);
        let json = serde_json::to_value(&typed).map_err(|e| e.to_string())?;
        Ok((json, violations))
    }

    fn outputs(&self, params: &Json) -> Vec<Output> {
        K::Params::deserialize(params).map_or_else(|_| Vec::new(), |p| K::outputs(&p))
    }

    fn possible_outputs(&self) -> Vec<PossibleOutput> {
        let possible = |declared: &Declared<_>| PossibleOutput {
            slot: declared.slot,
            artifact: declared.artifact,
            holds: declared.holds,
            when: declared.when.map(|(which, _)| which),
        };
        K::OUTPUTS.iter().map(possible).collect()
    }

    fn external(&self, params: &Json, root: &Path) -> External {
        K::Params::deserialize(params).map_or_else(|_| External::default(), |p| K::external(&p, root))
    }

    fn run(&self, params: &Json, context: &mut Context) -> Result<(), StageError> {
        let typed = K::Params::deserialize(params)?;
        K::run(&typed, context)
    }
}

/// The JSON Schema of a type, all in one piece.
pub(crate) fn schema_of<T: JsonSchema>() -> Json {
    let generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

static DATASET: Erased<dataset::Dataset> = Erased::new();
static TRAIN: Erased<train::Train> = Erased::new();
static EVALUATE: Erased<evaluate::Evaluate> = Erased::new();
static IMPORT: Erased<import::Import> = Erased::new();
static NOISE: Erased<noise::Noise> = Erased::new();
static FIXED_POINTS: Erased<fixed_points::FixedPoints> = Erased::new();
static RECORD: Erased<record::Record> = Erased::new();
static COGNITIVE: Erased<cognitive::Cognitive> = Erased::new();
static COLLECT: Erased<collect::Collect> = Erased::new();
static RECORDINGS: Erased<recordings::RecordingsKind> = Erased::new();
static SYNTHETIC_RECORDINGS: Erased<synthetic_recordings::SyntheticRecordings> = Erased::new();
static PREDICTIVITY: Erased<predictivity::Predictivity> = Erased::new();
static COMMAND: Erased<command::Command> = Erased::new();

/// Every kind, in the order in which a study uses them.
pub(crate) fn kinds() -> [&'static dyn AnyKind; 13] {
    [
        &DATASET,
        &TRAIN,
        &IMPORT,
        &EVALUATE,
        &NOISE,
        &FIXED_POINTS,
        &RECORD,
        &COGNITIVE,
        &COLLECT,
        &RECORDINGS,
        &SYNTHETIC_RECORDINGS,
        &PREDICTIVITY,
        &COMMAND,
    ]
}

/// The kind of that name.
pub(crate) fn kind(name: &str) -> Option<&'static dyn AnyKind> {
    kinds().into_iter().find(|k| k.name() == name)
}

/// Parameters as they enter the key. Left out are paths, since only what stands in the files counts, and what cannot
/// change a result.
pub(crate) fn identity_params(kind: &'static dyn AnyKind, params: &Json) -> Json {
    let mut params = params.clone();
    if let (Some(map), Some(properties)) = (
        params.as_object_mut(),
        kind.schema().get("properties").and_then(Json::as_object),
    ) {
        let counts = |property: &Json| property.get("x-path").is_none() && property.get("x-unkeyed").is_none();
        map.retain(|name, _| properties.get(name).is_none_or(counts));
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use cords::device::DeviceError;
    use cords::learn::TrainError;

    #[test]
    fn errors_know_whether_another_attempt_may_help() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let class = |error: StageError| error.class;
        assert_eq!(class(full().into()), Some(ErrorClass::Io));
        assert_eq!(class(crate::table::TableError::Io(full()).into()), Some(ErrorClass::Io));
        let bytes = 1 << 40;
        assert_eq!(class(DeviceError::Memory { bytes }.into()), Some(ErrorClass::Oom));
        let training = TrainError::Device(DeviceError::Memory { bytes });
        assert_eq!(class(training.into()), Some(ErrorClass::Oom));
        let memory = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        assert_eq!(class(memory.into()), Some(ErrorClass::Oom));
        let content = std::io::Error::from(std::io::ErrorKind::InvalidData);
        assert_eq!(class(content.into()), None);
        assert_eq!(class(StageError::new("wrong")), None);
        let text = serde_json::to_string(&StageError::from(full())).expect("json");
        let back: StageError = serde_json::from_str(&text).expect("json");
        assert_eq!(back.class, Some(ErrorClass::Io), "it survives the way to the parent");
    }
}
