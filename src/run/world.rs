//! The [`World`] of a real run: the store, and what was observed outside before planning.

use serde_json::Value as Json;

use crate::key::{FingerprintError, StageKey};
use crate::pipeline::{Pipeline, StageId};
use crate::plan::{Observed, World};
use crate::stage::{Broken, Conditions};
use crate::store::{Attempt, Health, ResultRecord, Store};

/// Reading less than this for the first time needs no announcement.
const SILENT_BYTES: u64 = 1 << 28;

/// Looks at every external file and variable that the pipeline's stages declare.
/// `notice` is told before many bytes are read for the first time: the stage, files and bytes.
pub(crate) fn observe(
    pipeline: &Pipeline,
    store: &mut Store,
    notice: &mut dyn FnMut(&str, usize, u64),
) -> Result<Vec<Observed>, FingerprintError> {
    let mut all = Vec::with_capacity(pipeline.stages.len());
    for stage in &pipeline.stages {
        let external = stage.kind.external(&stage.params, &pipeline.root);
        // What is missing is reported before anything is read.
        if !external.missing.is_empty() {
            all.push(Observed {
                missing: external.missing,
                ..Observed::default()
            });
            continue;
        }
        let unread: u64 = external
            .files
            .iter()
            .map(|f| store.fingerprints.unread_bytes(&f.path))
            .sum();
        if unread > SILENT_BYTES {
            notice(&stage.name, external.files.len(), unread);
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
        all.push(Observed {
            files,
            environment,
            missing: Vec::new(),
        });
    }
    // What was read once need not be read again, whatever happens next. A plan needs no more than to read, so that a
    // cache that cannot be written is told of by what must write there.
    let _ = store.save_fingerprints();
    Ok(all)
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

    fn has_checkpoint(&self, key: &StageKey) -> bool {
        self.store.has_checkpoint(key)
    }

    fn broken_condition(&self, key: &StageKey, conditions: &Conditions) -> Option<Broken> {
        self.store.broken_condition(key, conditions)
    }

    fn observed(&self, stage: StageId) -> Observed {
        self.observed.get(stage.0).cloned().unwrap_or_default()
    }
}
