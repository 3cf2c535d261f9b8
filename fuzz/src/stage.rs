//! Two stage kinds in place of the real ones, whose engine takes long to build: the language asks no more of a kind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Artifact {
    Dataset,
    Model,
    Activity,
    Recordings,
    Table,
    Files,
}

impl Artifact {
    pub(crate) fn named(expected: &str) -> Option<Self> {
        match expected {
            "dataset" => Some(Self::Dataset),
            "model" => Some(Self::Model),
            "table" => Some(Self::Table),
            _ => None,
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        "an artifact"
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Output {
    pub(crate) slot: String,
    pub(crate) artifact: Artifact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorClass {
    Oom,
    Io,
}

/// `ensure`, read and kept like the real one, which tables are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Conditions(BTreeMap<String, OfTable>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfTable {
    #[serde(default)]
    #[schemars(range(min = 1))]
    rows: Option<usize>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    finite: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Broken {
    pub(crate) output: String,
    pub(crate) problem: String,
}

impl Conditions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn broken(&self, _: impl Fn(&str) -> Option<PathBuf>) -> Option<Broken> {
        None
    }
}

pub(crate) struct Violation {
    pub(crate) parameter: &'static str,
    pub(crate) message: String,
}

pub(crate) trait AnyKind: Sync {
    fn name(&self) -> &'static str;
    fn schema(&'static self) -> &'static Json;
    fn canonical(&self, params: Json) -> Result<(Json, Vec<Violation>), String>;
    fn outputs(&self, params: &Json) -> Vec<Output>;
}

#[path = "../../src/stage/reference.rs"]
mod reference;

use reference::{AnyRef, DatasetRef};

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// in the program
    #[default]
    Digits,
    /// on disk
    Folder,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DatasetParams {
    #[serde(default)]
    source: Source,
    #[serde(default)]
    #[schemars(range(min = 8, max = 512))]
    side: Option<u32>,
    #[serde(default)]
    seed: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nested {
    #[serde(default)]
    rate: f64,
    #[serde(default)]
    flip: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrainParams {
    data: DatasetRef,
    #[serde(default)]
    others: Vec<AnyRef>,
    #[serde(default)]
    inputs: BTreeMap<String, AnyRef>,
    #[serde(default)]
    levels: Vec<f64>,
    #[serde(default)]
    augment: Option<Nested>,
    #[schemars(length(min = 1))]
    outputs: BTreeMap<String, String>,
}

struct Dataset(OnceLock<Json>);
struct Train(OnceLock<Json>);

pub(crate) fn schema_of<P: JsonSchema>() -> Json {
    let generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    generator.into_root_schema_for::<P>().to_value()
}

fn canonical<P: Serialize + serde::de::DeserializeOwned>(params: Json) -> Result<(Json, Vec<Violation>), String> {
    let typed: P = serde_json::from_value(params).map_err(|e| e.to_string())?;
    Ok((serde_json::to_value(&typed).map_err(|e| e.to_string())?, Vec::new()))
}

impl AnyKind for Dataset {
    fn name(&self) -> &'static str {
        "dataset"
    }
    fn schema(&'static self) -> &'static Json {
        self.0.get_or_init(schema_of::<DatasetParams>)
    }
    fn canonical(&self, params: Json) -> Result<(Json, Vec<Violation>), String> {
        canonical::<DatasetParams>(params)
    }
    fn outputs(&self, _: &Json) -> Vec<Output> {
        let (slot, artifact) = ("images".to_owned(), Artifact::Dataset);
        vec![Output { slot, artifact }]
    }
}

impl AnyKind for Train {
    fn name(&self) -> &'static str {
        "train"
    }
    fn schema(&'static self) -> &'static Json {
        self.0.get_or_init(schema_of::<TrainParams>)
    }
    fn canonical(&self, params: Json) -> Result<(Json, Vec<Violation>), String> {
        canonical::<TrainParams>(params)
    }
    fn outputs(&self, params: &Json) -> Vec<Output> {
        let names = params.get("outputs").and_then(Json::as_object);
        let names = names.into_iter().flatten().map(|(name, _)| name.clone());
        let artifact = Artifact::Model;
        names.map(|slot| Output { slot, artifact }).collect()
    }
}

static DATASET: Dataset = Dataset(OnceLock::new());
static TRAIN: Train = Train(OnceLock::new());

pub(crate) fn kinds() -> [&'static dyn AnyKind; 2] {
    [&DATASET, &TRAIN]
}

pub(crate) fn kind(name: &str) -> Option<&'static dyn AnyKind> {
    kinds().into_iter().find(|k| k.name() == name)
}
