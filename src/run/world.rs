//! The [`World`] of a real run: the store, and what was observed outside before planning.

use serde_json::Value as Json;

use crate::key::{FingerprintError, StageKey};
use crate::pipeline::{Pipeline, StageId};
use crate::plan::{Observed, World};
use crate::store::{Attempt, Health, ResultRecord, Store};

/// Looks at every external file and variable that the pipeline's stages declare.
pub(crate) fn observe(pipeline: &Pipeline, store: &mut Store) -> Result<Vec<Observed>, FingerprintError> {
    pipeline
        .stages
        .iter()
        .map(|stage| {
            let external = stage.kind.external(&stage.params, &pipeline.root);
            // What is missing is reported before anything is hashed.
            if !external.missing.is_empty() {
                return Ok(Observed {
                    missing: external.missing,
                    ..Observed::default()
                });
            }
            let files = external
                .files
                .into_iter()
                .map(|file| Ok((file.slot, store.fingerprints.file(&file.path)?)))
                .collect::<Result<_, FingerprintError>>()?;
            let environment = external
                .environment
                .into_iter()
                .map(|name| {
                    let value = std::env::var(&name).ok();
                    (name, value)
                })
                .collect();
            Ok(Observed {
                files,
                environment,
                missing: Vec::new(),
            })
        })
        .collect()
}

/// Answers the plan's questions from the store.
pub(crate) struct StoreWorld<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) pipeline: &'a str,
    pub(crate) observed: &'a [Observed],
}

impl World for StoreWorld<'_> {
    fn result(&self, key: &StageKey) -> Option<&ResultRecord> {
        self.store.result(key)
    }

    fn health(&mut self, key: &StageKey) -> Health {
        self.store.health(key)
    }

    fn current(&self, stage: &str) -> Option<StageKey> {
        self.store.current(self.pipeline, stage).cloned()
    }

    fn description(&self, key: &StageKey) -> Option<Json> {
        self.store.description(key)
    }

    fn attempt(&self, key: &StageKey) -> Option<Attempt> {
        self.store.attempt(key).cloned()
    }

    fn observed(&self, stage: StageId) -> Observed {
        self.observed.get(stage.0).cloned().unwrap_or_default()
    }
}
