//! The [`World`] of a real run: the store, and what was observed outside before planning.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::key::{ContentHash, FileObservation, FingerprintError, Fingerprints, StageKey};
use crate::kind::{Broken, Conditions};
use crate::pipeline::{Pipeline, Stage, StageId};
use crate::plan::{Observed, World};
use crate::store::{Attempt, Health, ResultRecord, Store};

/// Reading less than this for the first time needs no announcement.
const SILENT_BYTES: u64 = 1 << 28;

/// Looks at every external file and variable that the pipeline's stages declare.
/// `notice` is told before many bytes are read for the first time: the stage, files and bytes.
///
/// # Errors
/// The first declared file that is there and cannot be read. One that is not there is among what is missing.
pub fn observe(
    pipeline: &Pipeline,
    store: &mut Store,
    notice: &mut dyn FnMut(&str, usize, u64),
) -> Result<Vec<Observed>, FingerprintError> {
    let mut all = Vec::with_capacity(pipeline.stages.len());
    for stage in &pipeline.stages {
        let external = stage.work.external(&pipeline.root);
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
        let observation_of = |path: &Path| {
            FileObservation::of(path).map_err(|source| FingerprintError {
                path: path.to_owned(),
                source,
            })
        };
        let mut seen = Vec::with_capacity(external.files.len() + external.folders.len());
        for folder in external.folders {
            let observation = observation_of(&folder)?;
            seen.push((folder, observation));
        }
        let mut files = Vec::with_capacity(external.files.len());
        for file in external.files {
            let observation = observation_of(&file.path)?;
            files.push((file.slot, store.fingerprints.file(&file.path)?));
            seen.push((file.path, observation));
        }
        let environment = external
            .environment
            .into_iter()
            .map(|name| {
                let value = std::env::var_os(&name).map(|value| environment_hash(&name, &value));
                (name, value)
            })
            .collect();
        all.push(Observed {
            files,
            environment,
            missing: Vec::new(),
            seen: Arc::new(seen),
        });
    }
    // What was read once need not be read again, whatever happens next. A plan needs no more than to read, so that a
    // cache that cannot be written is told of by what must write there.
    let _ = store.save_fingerprints();
    Ok(all)
}

/// A variable's value as it enters keys and descriptions: it may be a password, and those stand in files that are
/// shared.
fn environment_hash(name: &str, value: &OsStr) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("dynvis: the value of an environment variable in a stage's key");
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(value.as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// What changed of the files that a stage reads since they were observed: content, the list of them, or that they can
/// be listed at all. Also what was changed and changed back, since it may have been read in between.
pub(super) fn changed_since(
    stage: &Stage,
    root: &Path,
    observed: &Observed,
    fingerprints: &mut Fingerprints,
) -> Option<String> {
    let external = stage.work.external(root);
    if let Some(missing) = external.missing.first() {
        return Some(missing.place.clone());
    }
    for (path, observation) in observed.seen.iter() {
        if FileObservation::of(path).ok().as_ref() != Some(observation) {
            return Some(path.display().to_string());
        }
    }
    let now: BTreeMap<&str, &Path> = external
        .files
        .iter()
        .map(|f| (f.slot.as_str(), f.path.as_path()))
        .collect();
    let before: BTreeMap<&str, &ContentHash> = observed
        .files
        .iter()
        .map(|(slot, hash)| (slot.as_str(), hash))
        .collect();
    for (slot, path) in &now {
        // Where the times of a file are too young to tell, its content is read again.
        let unchanged = before
            .get(slot)
            .is_some_and(|hash| fingerprints.file(path).is_ok_and(|now| now == **hash));
        if !unchanged {
            return Some(path.display().to_string());
        }
    }
    before
        .keys()
        .find(|slot| !now.contains_key(*slot))
        .map(|slot| (*slot).to_owned())
}

/// Answers the plan's questions from the store.
pub struct StoreWorld<'a> {
    /// Where results are looked for.
    pub store: &'a mut Store,
    /// The pipeline's name, since a stage's present result is noted by it.
    pub pipeline: &'a str,
    /// What lies outside, by stage, as [`observe`] gives it.
    pub observed: &'a [Observed],
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
