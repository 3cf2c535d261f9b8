//! The [`World`] of a real run: the store, and what was observed outside before planning.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dynvis_base::{FileList, Head};
use serde_json::Value as Json;

use super::Event;
use crate::key::{
    ContentHash, FileChanges, FileObservation, FileTree, FingerprintError, Fingerprints, LISTED, Reading, StageKey,
    heads,
};
use crate::kind::{Broken, Conditions, External, ExternalFile, FirstBytes, MissingData, Tree, TreeFiles};
use crate::pipeline::{Pipeline, Stage, StageId};
use crate::plan::{Observed, Selection, World};
use crate::store::{Attempt, Health, ResultRecord, Store};

/// Reading less than this for the first time needs no announcement.
const SILENT_BYTES: u64 = 1 << 28;
/// The same of a folder's files, since small ones take longer than their bytes say.
const SILENT_FILES: u64 = 20_000;
/// How often it is told how far the reading of a folder is.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Looks at the external files and variables of the stages that a selection is about: the selected ones and all that
/// they need. Of other stages too, so that it can be told whether their results are current, but where that may take
/// long: `None` stands for those with a folder of more files than are looked at in passing.
///
/// `notice` is told when much is read for the first time, with [`Event::Reading`] before and [`Event::ReadingGoesOn`]
/// meanwhile.
///
/// # Errors
/// The first declared file that is there and cannot be read. One that is not there is among what is missing.
pub fn observe(
    pipeline: &Pipeline,
    selection: &Selection,
    store: &mut Store,
    notice: &mut dyn FnMut(&Event),
) -> Result<Vec<Option<Observed>>, FingerprintError> {
    let asked = selection.with_upstream(pipeline);
    let mut scans = Scans::default();
    let mut all = Vec::with_capacity(pipeline.stages.len());
    for stage in &pipeline.stages {
        let external = stage.work.external(&pipeline.root);
        if !asked.contains(&stage.id) && !is_quick(&external, pipeline, stage, store) {
            all.push(None);
            continue;
        }
        // What is missing is reported before anything is read.
        if !external.missing.is_empty() {
            all.push(Some(blocked(external.missing)));
            continue;
        }
        let unread: u64 = external
            .files
            .iter()
            .map(|f| store.fingerprints.unread_bytes(&f.path))
            .sum();
        if unread > SILENT_BYTES {
            notice(&Event::Reading {
                stage: &stage.name,
                files: external.files.len(),
                bytes: unread,
            });
        }
        let mut seen = Vec::with_capacity(external.files.len());
        let mut files = Vec::with_capacity(external.files.len());
        let mut trees = Vec::with_capacity(external.trees.len());
        let mut missing = Vec::new();
        let mut single = external.files;
        for tree in &external.trees {
            match scans.scan(tree, store, &stage.name, notice)? {
                Ok(scan) => {
                    trees.push(scan.files);
                    single.extend(scan.others);
                    seen.extend(scan.folders.iter().cloned());
                }
                Err(unusable) => missing.push(unusable),
            }
        }
        if !missing.is_empty() {
            all.push(Some(blocked(missing)));
            continue;
        }
        for file in single {
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
        all.push(Some(Observed {
            files,
            trees,
            environment,
            missing: Vec::new(),
            seen: Arc::new(seen),
        }));
    }
    // What was read once need not be read again, whatever happens next. A plan needs no more than to read, so that a
    // cache that cannot be written is told of by what must write there.
    let _ = store.save_fingerprints();
    Ok(all)
}

/// Whether it can be told in passing what a stage reads from outside. A folder that nobody has looked at is as large as
/// it was when the stage's present result was made; without one it may be of any size.
fn is_quick(external: &External, pipeline: &Pipeline, stage: &Stage, store: &Store) -> bool {
    let present = store.current(&pipeline.name, &stage.name);
    let was_small = present.is_some_and(|key| !store.has_files(key));
    let is_small = |tree: &Tree| match store.remembered_files(tree) {
        0 => was_small,
        files => files <= LISTED,
    };
    external.files.len() <= LISTED && external.trees.iter().all(is_small)
}

fn blocked(missing: Vec<MissingData>) -> Observed {
    Observed {
        missing,
        ..Observed::default()
    }
}

fn observation_of(path: &Path) -> Result<FileObservation, FingerprintError> {
    FileObservation::of(path).map_err(|source| FingerprintError {
        path: path.to_owned(),
        source,
    })
}

/// What a folder's rule has found, looked at.
#[derive(Clone)]
struct Scan {
    files: Arc<FileTree>,
    others: Vec<ExternalFile>,
    /// Where a file that comes or goes is a change, and what they were.
    folders: Arc<Vec<(PathBuf, FileObservation)>>,
}

/// Folders that several stages read are looked at once.
#[derive(Default)]
struct Scans(HashMap<(PathBuf, String, String), Result<Scan, MissingData>>);

impl Scans {
    fn scan(
        &mut self,
        tree: &Tree,
        store: &Store,
        stage: &str,
        notice: &mut dyn FnMut(&Event),
    ) -> Result<Result<Scan, MissingData>, FingerprintError> {
        let name = (tree.folder.clone(), tree.rule.clone(), tree.prefix.clone());
        if let Some(known) = self.0.get(&name) {
            return Ok(known.clone());
        }
        let scan = match select(tree, store) {
            Ok(found) => Ok(look(tree, found, store, stage, notice)?),
            Err(unusable) => Err(unusable),
        };
        self.0.insert(name, scan.clone());
        Ok(scan)
    }
}

fn look(
    tree: &Tree,
    found: TreeFiles,
    store: &Store,
    stage: &str,
    notice: &mut dyn FnMut(&Event),
) -> Result<Scan, FingerprintError> {
    let folders = match tree.is_watched {
        true => folders_of(&found.files),
        false => BTreeSet::new(),
    };
    let folders = folders.into_iter().map(|folder| {
        let observation = observation_of(&folder)?;
        Ok((folder, observation))
    });
    let folders: Vec<_> = folders.collect::<Result<_, FingerprintError>>()?;
    let started = Instant::now();
    let mut last: Option<Instant> = None;
    let mut told = |reading: Reading| {
        if reading.bytes <= SILENT_BYTES && reading.files <= SILENT_FILES {
            return;
        }
        match last {
            None => {
                // It takes long: what is read is kept also where there is no cache yet.
                store.make_room_for_file_hashes();
                notice(&Event::Reading {
                    stage,
                    files: reading.files as usize,
                    bytes: reading.bytes,
                });
            }
            Some(last) if last.elapsed() < TOLD_EVERY => return,
            Some(_) => notice(&Event::ReadingGoesOn {
                stage,
                reading,
                seconds: started.elapsed().as_secs_f64(),
            }),
        }
        last = Some(Instant::now());
    };
    let place = store.file_hashes(tree);
    Ok(Scan {
        files: Arc::new(FileTree::observe(&tree.prefix, found.files, &place, &mut told)?),
        others: found.others,
        folders: Arc::new(folders),
    })
}

/// Folders that hold these files, up to that of the list.
fn folders_of(files: &FileList) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::from([files.root().to_owned()]);
    let mut last = None;
    for i in 0..files.len() {
        let number = files.folder_of(i);
        if last == Some(number) {
            continue;
        }
        last = Some(number);
        let above = files.folder(number).ancestors();
        for folder in above.take_while(|folder| folder.starts_with(files.root())) {
            if !folders.insert(folder.to_owned()) {
                break;
            }
        }
    }
    folders
}

fn select(tree: &Tree, store: &Store) -> Result<TreeFiles, MissingData> {
    if store.exists() {
        store.make_room_for_file_hashes();
    }
    let mut heads = StoredHeads { tree, store, asked: 0 };
    (tree.select)(&mut heads)
}

/// First bytes that the store remembers.
struct StoredHeads<'a> {
    tree: &'a Tree,
    store: &'a Store,
    /// How often they were asked for: each time of other files, and in the same order the next time.
    asked: usize,
}

impl FirstBytes for StoredHeads<'_> {
    fn of(&mut self, files: &mut FileList) -> std::io::Result<Vec<Head>> {
        let place = self.store.file_heads(self.tree, self.asked);
        self.asked += 1;
        heads(files, &place).map_err(|error| error.source)
    }
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
pub(super) fn changed_since(stage: &Stage, root: &Path, observed: &Observed, store: &mut Store) -> Option<String> {
    let external = stage.work.external(root);
    if let Some(missing) = external.missing.first() {
        return Some(missing.place.clone());
    }
    for (path, observation) in observed.seen.iter() {
        if FileObservation::of(path).ok().as_ref() != Some(observation) {
            return Some(path.display().to_string());
        }
    }
    let mut single = external.files;
    if external.trees.len() != observed.trees.len() {
        return Some(root.display().to_string());
    }
    for (tree, before) in external.trees.iter().zip(&observed.trees) {
        let now = match select(tree, store) {
            Ok(now) => now,
            Err(unusable) => return Some(unusable.place),
        };
        match before.change(now.files, &store.file_hashes(tree)) {
            Ok(None) => single.extend(now.others),
            Ok(Some(path)) => return Some(path.display().to_string()),
            Err(error) => return Some(error.path.display().to_string()),
        }
    }
    let fingerprints: &mut Fingerprints = &mut store.fingerprints;
    let now: BTreeMap<&str, &Path> = single.iter().map(|f| (f.slot.as_str(), f.path.as_path())).collect();
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
    pub observed: &'a [Option<Observed>],
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

    fn observed(&self, stage: StageId) -> Option<Observed> {
        self.observed.get(stage.0).cloned().flatten()
    }

    fn file_changes(&self, key: &StageKey, now: &Observed) -> Option<Vec<FileChanges>> {
        let changes = now.trees.iter().map(|tree| self.store.file_changes(key, tree));
        let changes: Option<Vec<FileChanges>> = changes.collect();
        changes.map(|all| all.into_iter().filter(|changes| !changes.is_empty()).collect())
    }
}
