//! The stage kinds: one file or folder each. What a kind is, and what the runner asks of it, stands in
//! [`dynvis_runner::kind`].

mod checkpoints;
mod cognitive;
mod command;
mod corruptions;
mod dataset;
mod evaluate;
pub(crate) mod extent;
mod fixed_points;
mod gpu;
mod import;
mod keyed_defaults;
mod noise;
mod picture;
mod plot;
mod predictivity;
mod record;
mod recordings;
mod recordings_table;
mod reference;
mod synthetic_recordings;
mod times;
mod train;

use cords::data::Split;

pub(crate) use dynvis_runner::kind::{
    AnyRef, Artifact, Context, Declared, Extent, External, ExternalFile, FirstBytes, InputExtents, Kind, Members,
    MissingData, Registry, Size, Spread, StageError, Tree, TreeFiles, Update, Violation, located,
};
pub(crate) use gpu::{Cuda, TRY_OUT, settings as gpu_settings};
pub(crate) use noise::{model_name, outline_name};
pub(crate) use plot::DESCRIPTION;
pub(crate) use reference::{ACTIVITY, ActivityRef, DATASET, DatasetRef, MODEL, ModelRef, RECORDINGS, RecordingsRef};

/// The part of a dataset that networks are judged by.
fn test_split() -> Split {
    Split::Test
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
        .with::<corruptions::Corruptions>()
        .with::<fixed_points::FixedPoints>()
        .with::<record::Record>()
        .with::<cognitive::Cognitive>()
        .with::<dynvis_runner::kinds::Collect>()
        .with::<plot::Plot>()
        .with::<recordings::RecordingsKind>()
        .with::<synthetic_recordings::SyntheticRecordings>()
        .with::<predictivity::Predictivity>()
        .with::<dynvis_runner::kinds::Command<command::Written>>()
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;
    use std::path::Path;

    use dynvis_runner::kind::Output;
    use dynvis_runner::pipeline::{LoadOptions, load, preset_problems};
    use dynvis_runner::plan::{Planned, Request, plan, select};
    use dynvis_runner::run::{StoreWorld, observe};
    use dynvis_runner::store::Store;
    use schemars::JsonSchema;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::*;

    /// A kind as it would be with one more parameter, which has a default.
    struct Plus<K>(PhantomData<K>);

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(bound = "P: Serialize + DeserializeOwned")]
    struct PlusParams<P> {
        #[serde(flatten)]
        before: P,
        /// A parameter of tomorrow.
        #[serde(default)]
        of_tomorrow: Option<f64>,
    }

    impl<K: Kind> Kind for Plus<K> {
        type Params = PlusParams<K::Params>;
        const NAME: &'static str = K::NAME;
        const SUMMARY: &'static str = K::SUMMARY;
        const CODE_VERSION: u32 = K::CODE_VERSION;
        const KEYED_DEFAULTS: &'static [&'static str] = K::KEYED_DEFAULTS;
        const OUTPUTS: &'static [Declared<Self::Params>] = &[];
        const SEES_GROUPS: bool = K::SEES_GROUPS;
        const SEES_REPETITIONS: bool = K::SEES_REPETITIONS;
        const SEES_LISTS_ALONE: bool = K::SEES_LISTS_ALONE;
        const SEES_NAMES: bool = K::SEES_NAMES;

        fn code_version(params: &Self::Params) -> u32 {
            K::code_version(&params.before)
        }

        fn outputs(params: &Self::Params) -> Vec<Output> {
            K::outputs(&params.before)
        }

        fn external(params: &Self::Params, root: &Path) -> External {
            K::external(&params.before, root)
        }

        fn run(params: &Self::Params, context: &mut Context) -> Result<(), StageError> {
            K::run(&params.before, context)
        }
    }

    /// States of all stages of the pipeline in the unpacked `tests/fixtures/cache-0.1.tar.gz`.
    fn states(registry: &Registry, overrides: &[&str]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cache-0.1.tar.gz");
        let unpacked = std::process::Command::new("tar")
            .arg("-xzf")
            .arg(fixture)
            .arg("-C")
            .arg(folder.path())
            .status();
        assert!(unpacked.expect("tar").success());
        let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
        let loaded = load(&folder.path().join("p.yaml"), &LoadOptions { registry, overrides });
        let pipeline = loaded.result.unwrap_or_else(|problems| panic!("{}", problems[0].kind));
        let mut store = Store::open_existing(&folder.path().join("cache")).expect("a store");
        store.of_project(folder.path());
        let selection = select(&pipeline, &Request::default()).expect("a selection");
        let observed = observe(&pipeline, &selection, &mut store, &mut |_| {}).expect("files");
        let mut world = StoreWorld {
            store: &mut store,
            pipeline: &pipeline.name,
            observed: &observed,
        };
        let planned = plan(&pipeline, &selection, &mut world);
        let state = |planned: &Planned| {
            let state = serde_json::to_value(planned.decision.state).expect("json");
            (pipeline.stage(planned.id).name.clone(), state.to_string())
        };
        planned.iter().map(state).collect()
    }

    /// Results of version 0.1 keep their keys where every kind gets another parameter, and lose them where it is set.
    #[test]
    fn a_new_parameter_with_a_default_changes_no_key() {
        type Command = dynvis_runner::kinds::Command<command::Written>;
        let registry = Registry::new("0")
            .with_presets(crate::kinds().presets())
            .with::<Plus<dataset::Dataset>>()
            .with::<Plus<train::Train>>()
            .with::<Plus<import::Import>>()
            .with::<Plus<evaluate::Evaluate>>()
            .with::<Plus<noise::Noise>>()
            .with::<Plus<corruptions::Corruptions>>()
            .with::<Plus<fixed_points::FixedPoints>>()
            .with::<Plus<record::Record>>()
            .with::<Plus<cognitive::Cognitive>>()
            .with::<Plus<dynvis_runner::kinds::Collect>>()
            .with::<Plus<plot::Plot>>()
            .with::<Plus<recordings::RecordingsKind>>()
            .with::<Plus<synthetic_recordings::SyntheticRecordings>>()
            .with::<Plus<predictivity::Predictivity>>()
            .with::<Plus<Command>>();
        let names = |registry: &Registry| registry.kinds().iter().map(|kind| kind.name()).collect::<Vec<_>>();
        assert_eq!(names(&registry), names(&crate::kinds()), "every kind");
        let all = states(&registry, &[]);
        assert_eq!(all.len(), 12);
        // Which of them are up to date is told by `results_of_an_earlier_version_are_still_up_to_date`.
        assert_eq!(all, states(&crate::kinds(), &[]));
        let changed = states(&registry, &["noise.of_tomorrow=1"]);
        let state = |states: &[(String, String)], name: &str| {
            let found = states.iter().find(|(stage, _)| stage == name);
            found.map(|(_, state)| state.clone())
        };
        assert_eq!(state(&all, "digits").as_deref(), Some("\"cached\""));
        assert_eq!(state(&changed, "noise").as_deref(), Some("\"run\""));
        assert_eq!(state(&changed, "evaluate"), state(&all, "evaluate"));
    }

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
