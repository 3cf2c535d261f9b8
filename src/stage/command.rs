//! What a program of the user's own can write besides files and tables.

use std::path::Path;

use dynvis_runner::kinds::OutputType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Artifact, MODEL, StageError};

/// What an output of the program is to later stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Written {
    /// any file or folder
    #[default]
    Files,
    /// a CSV or Parquet file, shown and compared like a result table
    Table,
    /// a model.safetensors under the published names
    Model,
}

impl OutputType for Written {
    fn artifact(self) -> Artifact {
        match self {
            Self::Files => Artifact::FILES,
            Self::Table => Artifact::TABLE,
            Self::Model => MODEL,
        }
    }

    fn check(self, written: &Path) -> Result<&'static str, StageError> {
        cords::net::Model::load(written)?;
        Ok("model.safetensors")
    }
}
