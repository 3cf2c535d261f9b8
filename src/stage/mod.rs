//! The stage kinds: one file or folder each. What a kind is, and what the runner asks of it, stands in
//! [`dynvis_runner::kind`].

mod cognitive;
mod command;
mod dataset;
mod evaluate;
mod fixed_points;
mod gpu;
mod import;
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

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use dynvis_runner::kind::{
    AnyRef, Artifact, Context, Declared, External, ExternalFile, Kind, Members, MissingData, Registry, Spread,
    StageError, Update, Violation, located,
};
pub(crate) use gpu::Cuda;
pub(crate) use noise::model_name;
pub(crate) use reference::{ACTIVITY, ActivityRef, DATASET, DatasetRef, MODEL, ModelRef, RECORDINGS, RecordingsRef};

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

/// Images that kinds which do not say how many work on at a time on a GPU, where there is room.
const GPU_IMAGES: usize = 64;

/// Every kind, in the order in which a study uses them.
pub(crate) fn with_kinds(registry: Registry) -> Registry {
    registry
        .with::<dataset::Dataset>()
        .with::<train::Train>()
        .with::<import::Import>()
        .with::<evaluate::Evaluate>()
        .with::<noise::Noise>()
        .with::<fixed_points::FixedPoints>()
        .with::<record::Record>()
        .with::<cognitive::Cognitive>()
        .with::<dynvis_runner::kinds::Collect>()
        .with::<recordings::RecordingsKind>()
        .with::<synthetic_recordings::SyntheticRecordings>()
        .with::<predictivity::Predictivity>()
        .with::<dynvis_runner::kinds::Command<command::Written>>()
}

#[cfg(test)]
mod tests {
    use dynvis_runner::pipeline::preset_problems;

    #[test]
    fn every_shipped_preset_is_for_a_kind_and_fits_it() {
        let registry = crate::kinds();
        assert!(
            registry
                .preset("train/cnn")
                .is_some_and(|text| text.contains("phase: cnn"))
        );
        assert_eq!(registry.preset("train/cn"), None);
        for (name, text) in registry.presets() {
            let problems = preset_problems(name, text, &registry);
            assert!(problems.is_empty(), "{name}: {problems:?}");
        }
    }
}
