//! What may go from the store: results that no kept run used, and what they leave behind.
//!
//! Runs in progress hold the store while they decide which results they use and while they publish ([`Store::hold`]),
//! and note what they use ([`Uses`]); collecting holds it alone. So nothing goes that a running process reads. A
//! collection that is cut off leaves whole results, missing ones, and remains that the next one takes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::{JournalEntry, RunRecord, StageOutcome, Store, StoreError, io, journal};
use crate::key::{ContentHash, StageKey};

/// The results that a run in progress uses, in its folder. Locked as long as the run lives: the kernel drops the lock
/// with the process.
const USES: &str = "uses";
/// What runs and collecting lock.
const GATE: &str = "gate";
/// Marks a pinned run; holds why.
const PIN: &str = "pin";
/// What stages that failed had written.
const PARTIAL: &str = "partial";

/// What collecting keeps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// Results of so many last runs of each pipeline.
    pub runs: usize,
    /// Results of runs that started within this time.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// Then as many as fit, the last used first; of what pins and running processes hold nothing goes even so.
    pub bytes: Option<u64>,
    /// Also what runs of other projects in this cache used.
    #[serde(skip)]
    pub all_projects: bool,
    /// Also where records cannot be read, which may have used anything.
    #[serde(skip)]
    pub ignores_unreadable: bool,
}

fn seconds<S: serde::Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(age.as_secs())
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalReason {
    /// No run that is kept used it.
    Unused,
    /// It was used, but others were used later and there is no room for it.
    Size,
    /// No result is made of it: a run was killed while it published, or collecting was cut off.
    NoResult,
    /// Left by a stage that failed in a run that is not kept.
    Partial,
}

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Removal {
    /// Why this is removed.
    pub why: RemovalReason,
    /// Key of the result; `None` where this is no result.
    pub key: Option<StageKey>,
    /// `pipeline/stage` of every stage that a run knows the result by.
    pub stages: Vec<String>,
    /// When a run used the result last, as RFC 3339 in UTC; `None` where none did.
    pub last_used: Option<String>,
    /// Bytes that are freed: what is shared with results that stay is not among them.
    pub bytes: u64,
    #[serde(skip)]
    folders: Vec<PathBuf>,
}

/// What collecting would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Collection {
    /// What goes.
    pub doomed: Vec<Removal>,
    /// How many results stay.
    pub kept_results: usize,
    /// Bytes of all files that stay; what results share counts once.
    pub kept_bytes: u64,
    /// Results among them that stay because runs of other projects used them.
    pub of_other_projects: usize,
    /// Records that cannot be read. They may have used anything, so everything stays.
    pub unreadable: Vec<String>,
}

impl Collection {
    /// Bytes that removing gives back.
    pub fn bytes(&self) -> u64 {
        self.doomed.iter().map(|d| d.bytes).sum()
    }
}

/// Keeps collecting away while it lives.
#[derive(Debug)]
#[must_use]
pub struct Hold(#[expect(dead_code, reason = "holds a lock")] File);

/// What a run in progress uses. While it lives, nothing of that goes.
#[derive(Debug)]
pub(crate) struct Uses {
    file: File,
    path: PathBuf,
}

impl Uses {
    /// Notes that the run uses these results. The store must be held since before that was decided.
    pub(crate) fn note(&mut self, keys: impl Iterator<Item = StageKey>) -> Result<(), StoreError> {
        let lines: String = keys.map(|key| format!("{}\n", key.as_str())).collect();
        self.file.write_all(lines.as_bytes()).map_err(io("note what is used"))
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        // Best effort: without its lock it counts for nothing.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A result, as collecting sees it.
#[derive(Default)]
struct Candidate {
    stages: Vec<String>,
    last_used: Option<String>,
    /// A pin or a running process holds it: neither age nor size counts.
    is_held: bool,
    /// Runs of another project used it.
    is_foreign: bool,
    /// A run that is kept used it.
    is_kept: bool,
}

impl Store {
    /// Keeps collecting away, and waits for one that goes on.
    ///
    /// # Errors
    /// The gate cannot be opened or locked.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        // To read is enough, and all that a cache allows which cannot be written.
        let file = File::open(self.root().join(GATE)).or_else(|_| self.gate())?;
        file.lock_shared().map_err(io("hold the store"))?;
        Ok(Hold(file))
    }

    fn gate(&self) -> Result<File, StoreError> {
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root().join(GATE))
            .map_err(io("open the gate of the store"))
    }

    /// Begins the list of what a run uses.
    pub(crate) fn uses(&self, run_folder: &Path) -> Result<Uses, StoreError> {
        let path = run_folder.join(USES);
        let file = File::create(&path).map_err(io("note what is used"))?;
        file.lock().map_err(io("note what is used"))?;
        Ok(Uses { file, path })
    }

    /// Whether a run goes on, and the keys that it noted as used, also where it was killed since.
    fn noted(&self, run_folder: &Path) -> std::io::Result<(bool, Vec<StageKey>)> {
        let mut file = match File::open(run_folder.join(USES)) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((false, Vec::new())),
            Err(e) => return Err(e),
        };
        // Whoever wrote it is gone if the lock can be had. A shared one, so that two who ask do not take each other for
        // the run; and over NFS a file that is open to be read can have no other.
        let is_alive = file.try_lock_shared().is_err();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok((is_alive, text.lines().filter_map(StageKey::parse).collect()))
    }

    /// Why a run is pinned, where it is.
    pub fn pin(&self, run_folder: &Path) -> Option<String> {
        let text = fs_err::read_to_string(run_folder.join(PIN)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Pins a run, or takes the pin away.
    ///
    /// # Errors
    /// The pin cannot be written or removed.
    pub fn set_pin(&self, run_folder: &Path, note: Option<&str>) -> Result<(), StoreError> {
        // Not while a collection looks for pins.
        let _hold = self.hold()?;
        let path = run_folder.join(PIN);
        match note {
            Some(note) => super::persist(&path, format!("{note}\n").as_bytes()).map_err(io("pin a run")),
            None => match fs_err::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io("take a pin away")(e)),
                _ => Ok(()),
            },
        }
    }

    /// What goes under a policy. With `remove`, it goes.
    ///
    /// # Errors
    /// The gate, the journal or the list of runs cannot be read, or something cannot be removed. Records that cannot
    /// be read are no error: `Collection::unreadable`.
    pub fn collect(&mut self, policy: &Policy, remove: bool) -> Result<Collection, StoreError> {
        let _hold = if remove {
            let gate = self.gate()?;
            gate.lock().map_err(io("lock the store"))?;
            Hold(gate)
        } else {
            self.hold()?
        };
        self.refresh()?;
        let collection = self.find_doomed(policy)?;
        if remove {
            self.remove(&collection)?;
        }
        Ok(collection)
    }

    fn find_doomed(&self, policy: &Policy) -> Result<Collection, StoreError> {
        let mut candidates: HashMap<&StageKey, Candidate> =
            self.results.keys().map(|key| (key, Candidate::default())).collect();
        let mut runs_of: HashMap<(Option<String>, String), usize> = HashMap::new();
        // A result is a run's also where that was killed between committing it and noting that.
        let mut computed: HashMap<&str, Vec<&StageKey>> = HashMap::new();
        for result in self.results.values() {
            computed.entry(result.run.as_str()).or_default().push(&result.key);
        }
        let mut partial = Vec::new();
        let mut unreadable = Vec::new();
        let lines = journal::damaged_lines(&self.root().join("journal")).map_err(io("read the journal"))?;
        if lines > 0 {
            unreadable.push(format!("{lines} of the journal's lines"));
        }
        for (id, folder) in self.all_run_folders()?.iter().rev() {
            let noted = self.noted(folder);
            let is_pinned = folder.join(PIN).exists();
            let (run, (is_alive, noted)) = match (self.read_run(folder), noted) {
                (Ok(run), Ok(noted)) => (run, noted),
                // Killed before it began.
                (Err(_), Ok((_, noted))) if noted.is_empty() && !is_pinned && !folder.join("run.json").exists() => {
                    continue;
                }
                _ => {
                    unreadable.push(folder.display().to_string());
                    continue;
                }
            };
            let is_foreign = !policy.all_projects && !self.is_own(&run);
            let number = runs_of.entry((run.project.clone(), run.pipeline.clone())).or_default();
            *number += 1;
            let is_kept = *number <= policy.runs || is_younger(&run, policy.age);
            for stage in &run.stages {
                let Some(candidate) = stage.key.as_ref().and_then(|key| candidates.get_mut(key)) else {
                    continue;
                };
                let name = format!("{}/{}", run.pipeline, stage.name);
                if !candidate.stages.contains(&name) {
                    candidate.stages.push(name);
                }
            }
            let recorded = run.stages.iter().filter_map(|stage| stage.key.as_ref());
            let computed = computed.get(id.as_str()).into_iter().flatten().copied();
            for key in recorded.chain(&noted).chain(computed) {
                let Some(candidate) = candidates.get_mut(key) else {
                    continue;
                };
                candidate.is_held |= is_pinned || is_alive || is_foreign;
                candidate.is_kept |= is_pinned || is_alive || is_foreign || is_kept;
                candidate.is_foreign |= is_foreign;
                if candidate.last_used.is_none() {
                    candidate.last_used = Some(run.started_at.clone());
                }
            }
            if !is_kept && !is_pinned && !is_alive && !is_foreign {
                partial.extend(self.partial(id, folder, &run));
            }
        }
        // What was pulled is used as of then, though no run has used it yet.
        for (key, candidate) in &mut candidates {
            let Some(pulled) = &self.results[*key].pulled else {
                continue;
            };
            candidate.is_kept |= is_since(&pulled.at, policy.age);
            candidate.last_used.get_or_insert_with(|| pulled.at.clone());
        }
        // What a job reads whose submitter is gone, too.
        let read_by_jobs = self.inputs_of_jobs();
        for (key, candidate) in &mut candidates {
            let mut contents = self.results[*key].outputs.iter().map(|output| &output.content);
            candidate.is_held |= contents.any(|content| read_by_jobs.contains(content));
        }
        let keeps_all = !unreadable.is_empty() && !policy.ignores_unreadable;
        if keeps_all {
            partial.clear();
            candidates.values_mut().for_each(|candidate| candidate.is_held = true);
        }
        let mut order: Vec<(&StageKey, Candidate)> = candidates.into_iter().collect();
        // The last used first; equal times in an order that does not change from call to call.
        order.sort_by(|a, b| (&b.1.last_used, a.0).cmp(&(&a.1.last_used, b.0)));
        order.sort_by_key(|(_, candidate)| !candidate.is_held);

        let mut kept: HashSet<&ContentHash> = HashSet::new();
        let mut collection = Collection {
            unreadable,
            ..Collection::default()
        };
        let mut going = Vec::new();
        for (key, candidate) in order {
            let outputs = &self.results[key].outputs;
            let new: BTreeMap<&ContentHash, u64> = outputs
                .iter()
                .filter(|o| !kept.contains(&o.content))
                .map(|o| (&o.content, o.files.iter().map(|f| f.size).sum()))
                .collect();
            let bytes: u64 = new.values().sum();
            let fits = policy.bytes.is_none_or(|most| collection.kept_bytes + bytes <= most);
            if candidate.is_held || candidate.is_kept && fits {
                // What was collected before and is there no more takes no room.
                let is_there = !self.collected.contains(key);
                collection.kept_results += usize::from(is_there);
                collection.of_other_projects += usize::from(is_there && candidate.is_foreign);
                collection.kept_bytes += if self.collected.contains(key) { 0 } else { bytes };
                kept.extend(new.keys());
            } else if !self.collected.contains(key) {
                let why = if candidate.is_kept {
                    RemovalReason::Size
                } else {
                    RemovalReason::Unused
                };
                going.push((key, candidate, why));
            }
        }
        let mut accounted: HashSet<&ContentHash> = HashSet::new();
        for (key, candidate, why) in going {
            // All of it stays with other results, like that of an accepted one which no run has used yet.
            if self.results[key].outputs.iter().all(|o| kept.contains(&o.content)) {
                collection.kept_results += 1;
                continue;
            }
            let folders: Vec<PathBuf> = self.results[key]
                .outputs
                .iter()
                .filter(|o| !kept.contains(&o.content) && accounted.insert(&o.content))
                .map(|o| self.object(&o.content))
                .collect();
            collection.doomed.push(Removal {
                why,
                key: Some(key.clone()),
                stages: candidate.stages,
                last_used: candidate.last_used,
                bytes: folders.iter().map(|f| folder_bytes(f)).sum(),
                folders,
            });
        }
        let known: HashSet<&str> = kept.iter().chain(&accounted).map(|c| c.as_str()).collect();
        for folder in self.object_folders() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if !keeps_all && !known.contains(name.as_ref()) {
                collection.doomed.push(Removal {
                    why: RemovalReason::NoResult,
                    key: None,
                    stages: Vec::new(),
                    last_used: None,
                    bytes: folder_bytes(&folder),
                    folders: vec![folder],
                });
            }
        }
        collection.doomed.extend(partial);
        Ok(collection)
    }

    /// What the failed stages of a run left.
    fn partial(&self, id: &str, folder: &Path, run: &RunRecord) -> Option<Removal> {
        let partial = folder.join(PARTIAL);
        let failed = run.stages.iter().filter(|s| s.outcome == StageOutcome::Failed);
        partial.is_dir().then(|| Removal {
            why: RemovalReason::Partial,
            key: None,
            stages: failed
                .map(|s| format!("{}/{} (run {id})", run.pipeline, s.name))
                .collect(),
            last_used: Some(run.started_at.clone()),
            bytes: folder_bytes(&partial),
            folders: vec![partial],
        })
    }

    /// First the note that the results are gone, then their files: whatever is cut off, no result counts that is not
    /// whole.
    fn remove(&mut self, collection: &Collection) -> Result<(), StoreError> {
        let keys: Vec<StageKey> = collection.doomed.iter().filter_map(|d| d.key.clone()).collect();
        // They explain a result that is gone, and are large.
        keys.iter().for_each(|key| self.drop_files(key));
        if !keys.is_empty() {
            self.commit(JournalEntry::Collected { keys })?;
        }
        for folder in collection.doomed.iter().flat_map(|d| &d.folders) {
            match super::objects::remove(folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("remove a result")(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Folders of all outputs.
    fn object_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self
            .entries("objects")
            .filter_map(|shelf| std::fs::read_dir(shelf).ok())
            .flat_map(|shelf| shelf.flatten().map(|entry| entry.path()))
            .collect();
        folders.sort();
        folders
    }

    /// Whether the process of a run still lives.
    pub fn is_alive(&self, run_folder: &Path) -> bool {
        self.noted(run_folder).is_ok_and(|(is_alive, _)| is_alive)
    }
}

fn is_younger(run: &RunRecord, age: Duration) -> bool {
    is_since(&run.started_at, age)
}

/// Whether a time is no longer ago than that.
fn is_since(time: &str, age: Duration) -> bool {
    time.parse::<jiff::Timestamp>().is_ok_and(|started| {
        let elapsed = jiff::Timestamp::now().duration_since(started);
        Duration::try_from(elapsed).is_ok_and(|elapsed| elapsed <= age) || elapsed.is_negative()
    })
}

/// Bytes of all files in a folder and below.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => folder_bytes(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}
