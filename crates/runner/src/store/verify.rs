//! Reads every byte of the store and holds it against its hash.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;

use super::{Store, StoreError, io, journal};
use crate::key::{ContentHash, StageKey, hash_file};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The file's bytes are not those that were stored.
    Damaged,
    /// The file is gone.
    Missing,
    /// The file was not stored with the result.
    Unexpected,
    /// The file cannot be read.
    Unreadable,
}

/// A file of a result that is not as it was stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Damage {
    /// Key of the result.
    pub key: StageKey,
    /// `pipeline/stage` of every stage that has the result.
    pub stages: Vec<String>,
    /// Slot of the output.
    pub output: String,
    /// Path of the file within the output.
    pub file: String,
    /// What is wrong with the file.
    pub fault: Fault,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verified {
    /// Results that were looked at.
    pub results: usize,
    /// Files that were read; what results share counts once.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// Every file that is not as it was stored.
    pub damaged: Vec<Damage>,
    /// Lines of the journal that are no records: what a power cut or a disk fault left.
    pub journal_lines: usize,
    /// Runs whose record cannot be read.
    pub runs: Vec<String>,
}

impl Store {
    /// What is wrong with a stored file: object, name, path, what it hashes to now, and the fault.
    fn differs<'f>(
        &self,
        content: &'f ContentHash,
        file: &'f super::StoredFile,
    ) -> Option<(&'f ContentHash, &'f str, PathBuf, Option<ContentHash>, Fault)> {
        let path = self.object(content).join(&file.path);
        let (found, fault) = match hash_file(&path) {
            Ok(hash) if hash == file.hash => return None,
            Ok(hash) => (Some(hash), Fault::Damaged),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (None, Fault::Missing),
            Err(_) => (None, Fault::Unreadable),
        };
        Some((content, file.path.as_str(), path, found, fault))
    }

    /// Hashes every stored file. What is damaged is not taken for intact any more, even if its times say so.
    /// `notice` is told files and bytes before they are read.
    ///
    /// # Errors
    /// The gate, the journal or the list of runs cannot be read, or the stat cache cannot be written. Damage is no
    /// error: it is what this looks for.
    pub fn verify(&mut self, notice: &mut dyn FnMut(usize, u64)) -> Result<Verified, StoreError> {
        // So that nothing goes while it is read.
        let _hold = self.hold()?;
        self.refresh()?;
        let mut verified = Verified {
            journal_lines: journal::damaged_lines(&self.root().join("journal")).map_err(io("read the journal"))?,
            ..Verified::default()
        };
        for (id, folder) in self.run_folders()? {
            if self.read_run(&folder).is_err() {
                verified.runs.push(id);
            }
        }
        let mut stages: HashMap<&StageKey, Vec<String>> = HashMap::new();
        for ((_, pipeline, stage), key) in &self.current {
            stages.entry(key).or_default().push(format!("{pipeline}/{stage}"));
        }
        let results: Vec<_> = self
            .results
            .values()
            .filter(|r| !self.collected.contains(&r.key))
            .collect();
        verified.results = results.len();
        // Results may share an output; it is read once.
        let mut objects: BTreeMap<&ContentHash, &[super::StoredFile]> = BTreeMap::new();
        for output in results.iter().flat_map(|r| &r.outputs) {
            objects.insert(&output.content, &output.files);
        }
        let files: Vec<(&ContentHash, &super::StoredFile)> = objects
            .iter()
            .flat_map(|(content, files)| files.iter().map(|f| (*content, f)))
            .collect();
        verified.files = files.len();
        verified.bytes = files.iter().map(|(_, f)| f.size).sum();
        notice(verified.files, verified.bytes);
        let differs = |(content, file)| self.differs(content, file);
        let hashed: Vec<_> = match rayon::ThreadPoolBuilder::new().build() {
            Ok(pool) => pool.install(|| files.into_par_iter().filter_map(differs).collect()),
            // The system gives no threads: it takes longer.
            Err(_) => files.into_iter().filter_map(differs).collect(),
        };
        let mut faults: BTreeMap<&ContentHash, Vec<(String, Fault)>> = BTreeMap::new();
        let mut known_now = Vec::new();
        for (content, file, path, found, fault) in hashed {
            faults.entry(content).or_default().push((file.to_owned(), fault));
            known_now.extend(found.map(|hash| (path, hash)));
        }
        for (content, files) in &objects {
            for name in self.names_in(content) {
                if !files.iter().any(|f| f.path == name) {
                    faults.entry(content).or_default().push((name, Fault::Unexpected));
                }
            }
        }
        for result in results {
            for output in &result.outputs {
                for (file, fault) in faults.get(&output.content).into_iter().flatten() {
                    let mut stages = stages.get(&result.key).cloned().unwrap_or_default();
                    stages.sort();
                    verified.damaged.push(Damage {
                        key: result.key.clone(),
                        stages,
                        output: output.slot.clone(),
                        file: file.clone(),
                        fault: *fault,
                    });
                }
            }
        }
        let place = |d: &Damage| (d.stages.clone(), d.key.clone(), d.output.clone(), d.file.clone());
        verified.damaged.sort_by_cached_key(place);
        for (path, hash) in known_now {
            self.fingerprints.remember(&path, &hash);
        }
        self.save_fingerprints()?;
        Ok(verified)
    }

    /// Files in an output's folder and below it, by their paths within.
    fn names_in(&self, content: &ContentHash) -> Vec<String> {
        fn walk(folder: &std::path::Path, prefix: &str, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => walk(&entry.path(), &format!("{name}/"), names),
                    _ => names.push(name),
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.object(content), "", &mut names);
        names.sort();
        names
    }
}
