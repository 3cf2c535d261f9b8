//! Results that come from elsewhere: what travels with the files of one, what of that is believed, and how it becomes a
//! result of this cache.
//!
//! Nothing of it is believed but what can be held against hashes: the content of an output is a hash over its files'
//! paths and hashes, so a record whose content fits cannot name other files, and files are hashed once more when they
//! are published. That the numbers are those of the key nobody can tell but who computes them again.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::objects::{content_hash, make_folder};
use super::{Acceptance, Health, JournalEntry, ResultRecord, RunId, Store, StoreError, StoredFile, StoredOutput, io};
use crate::fail::{self, Step};
use crate::key::{ContentHash, StageKey};
use crate::kind::{Conditions, Output};
use crate::names::is_name;

/// Version of the form of parcels.
const VERSION: u32 = 1;
/// Most files of a result that comes from elsewhere.
const MOST_FILES: usize = 5_000_000;

/// Where a result was computed that came from elsewhere, and how it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// The remote or the bundle, without secrets.
    pub from: String,
    /// Name of the machine that sent it.
    pub host: String,
    /// Version of the program that sent it.
    pub dynvis_version: String,
    /// When it came, as RFC 3339 in UTC.
    pub at: String,
}

/// What is known of a result but for its files: what travels beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// Version of this form.
    pub version: u32,
    /// What the result is the result of.
    pub key: StageKey,
    /// Name of the stage kind.
    pub kind: String,
    /// The run that computed it.
    pub run: RunId,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// When that ended, as RFC 3339 in UTC.
    pub finished_at: String,
    /// Every output.
    pub outputs: Vec<StoredOutput>,
    /// Where a user declared an earlier result to be this key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
    /// What the key describes; `None` where that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Json>,
    /// Name of the machine that it comes from: where it was computed, unless that had pulled it, too.
    pub host: String,
    /// Version of the program there.
    pub dynvis_version: String,
}

/// A place that results are fetched from. What goes wrong is told in words.
pub trait Elsewhere: Send + Sync {
    /// What the place is called.
    fn name(&self) -> &str;

    /// What is there of a key; `None` where nothing is.
    ///
    /// # Errors
    /// The place cannot be reached, or what it holds of the key is damaged.
    fn find(&self, key: &StageKey) -> Result<Option<Parcel>, ElsewhereError>;

    /// Brings every file of a parcel into a folder, under the name of its hash; those that are there already stay.
    ///
    /// # Errors
    /// As [`find`](Self::find), and the folder cannot be written.
    fn bring(&self, parcel: &Parcel, folder: &Path) -> Result<(), ElsewhereError>;
}

/// Why nothing came from elsewhere.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ElsewhereError {
    /// What is wrong.
    pub message: String,
    /// What may help; empty where nothing is known to.
    pub advice: String,
    /// Whether it concerns one result alone: others may come.
    pub is_about_content: bool,
}

impl ElsewhereError {
    /// Something is wrong with one result.
    pub fn of_content(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            advice: String::new(),
            is_about_content: true,
        }
    }
}

impl Parcel {
    /// As text.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The parcel of a key, from text that somebody else has written.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str, key: &StageKey) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| format!("it cannot be read: {error}");
        let value: Json = serde_json::from_str(text).map_err(unreadable)?;
        match value.get("version").and_then(Json::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(format!("it is of another version of dynvis ({version})")),
            None => return Err("it has no version".into()),
        }
        let parcel = Self::deserialize(&value).map_err(unreadable)?;
        parcel.check(key)?;
        check_texts(&value)?;
        Ok(parcel)
    }

    fn check(&self, key: &StageKey) -> Result<(), String> {
        if self.key != *key {
            return Err("it is of another key".into());
        }
        // They are printed, and names of stages' kinds and runs are looked for.
        let is_word = |text: &str| !text.is_empty() && text.len() < 300 && !text.chars().any(char::is_control);
        for text in [&self.kind, &self.host, &self.dynvis_version, &self.finished_at] {
            if !is_word(text) {
                return Err("it names something with characters that no name has".into());
            }
        }
        if !self.run.is_one() {
            return Err("its run has no name of a run".into());
        }
        if !(self.seconds.is_finite() && self.seconds >= 0.0) {
            return Err("its time is none".into());
        }
        let mut slots = HashSet::new();
        let mut count = 0_usize;
        let mut bytes = 0_u64;
        for output in &self.outputs {
            if !is_name(&output.slot) || !slots.insert(&output.slot) {
                return Err("its outputs have no names of outputs".into());
            }
            count = count.saturating_add(output.files.len() + output.empty.len());
            for file in &output.files {
                bytes = bytes.checked_add(file.size).ok_or("it is larger than anything is")?;
            }
            check_paths(output)?;
            // The one statement of what an output is: no other list of files has this content.
            if content_hash(&output.files, &output.empty) != output.content {
                return Err(format!("its output `{}` is not made of its files", output.slot));
            }
        }
        match count <= MOST_FILES {
            true => Ok(()),
            false => Err("it has too many files".into()),
        }
    }

    /// Every blob once, with its size in bytes.
    #[must_use]
    pub fn blobs(&self) -> Vec<(&ContentHash, u64)> {
        let mut seen = HashSet::new();
        let files = self.outputs.iter().flat_map(|output| &output.files);
        files
            .filter(|file| seen.insert(&file.hash))
            .map(|file| (&file.hash, file.size))
            .collect()
    }

    /// Bytes of all blobs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blobs().iter().map(|(_, size)| size).sum()
    }

    /// That it is what a stage of that kind with these outputs would leave.
    ///
    /// # Errors
    /// That it is not, in words.
    pub fn fits(&self, kind: &str, outputs: &[Output]) -> Result<(), String> {
        let has = |wanted: &Output| {
            let mut of = self.outputs.iter();
            of.any(|output| output.slot == wanted.slot && output.artifact == wanted.artifact)
        };
        match self.kind == kind && self.outputs.len() == outputs.len() && outputs.iter().all(has) {
            true => Ok(()),
            false => Err("it is of another kind of stage, or has other outputs".into()),
        }
    }
}

/// That no text of a JSON document that somebody else has written moves a terminal's cursor, colours it or turns what it
/// shows around: they are printed here.
pub(super) fn check_texts(value: &Json) -> Result<(), String> {
    fn is_tame(text: &str) -> bool {
        let is_wild = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        !text.chars().any(is_wild)
    }
    fn all_tame(value: &Json) -> bool {
        match value {
            Json::String(text) => is_tame(text),
            Json::Array(items) => items.iter().all(all_tame),
            Json::Object(map) => map.iter().all(|(name, value)| is_tame(name) && all_tame(value)),
            _ => true,
        }
    }
    match all_tame(value) {
        true => Ok(()),
        false => Err("it has characters that would change what a terminal shows".into()),
    }
}

/// That every path stays below the output's folder, and stands once.
fn check_paths(output: &StoredOutput) -> Result<(), String> {
    let is_fine = |path: &str| {
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
        path.len() < 4096 && !path.contains('\0') && path.split('/').all(is_part)
    };
    let wrong = |path: &str| {
        let path: String = path.chars().filter(|c| !c.is_control()).take(80).collect();
        format!(
            "its output `{}` has a file `{path}`, which is no path within it",
            output.slot
        )
    };
    let files = output.files.iter().map(|file| file.path.as_str());
    let all = || files.clone().chain(output.empty.iter().map(String::as_str));
    if let Some(path) = all().find(|path| !is_fine(path)) {
        return Err(wrong(path));
    }
    if !files.clone().is_sorted_by(|a, b| a < b) || !output.empty.is_sorted_by(|a, b| a < b) {
        return Err(format!("the files of its output `{}` are in disorder", output.slot));
    }
    let mut names: HashSet<&str> = HashSet::new();
    if let Some(path) = all().find(|path| !names.insert(path)) {
        return Err(wrong(path));
    }
    // A file that is a folder, too.
    let is_below_a_file = |path: &&str| path.match_indices('/').any(|(end, _)| names.contains(&path[..end]));
    match all().find(is_below_a_file) {
        Some(path) => Err(wrong(path)),
        None => Ok(()),
    }
}

impl Store {
    /// The result of a key as it travels, and where its files are; `None` where it is not whole.
    pub fn parcel(&mut self, key: &StageKey, version: &str) -> Option<(Parcel, Vec<(StoredFile, PathBuf)>)> {
        if self.health(key) != Health::Intact {
            return None;
        }
        let result = self.result(key)?.clone();
        let mut files = Vec::new();
        for output in &result.outputs {
            let folder = self.object(&output.content);
            files.extend(output.files.iter().map(|file| (file.clone(), folder.join(&file.path))));
        }
        let parcel = Parcel {
            version: VERSION,
            description: self.description(key),
            key: result.key,
            kind: result.kind,
            run: result.run,
            seconds: result.seconds,
            finished_at: result.finished_at,
            outputs: result.outputs,
            accepted: result.accepted,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            dynvis_version: version.to_owned(),
        };
        Some((parcel, files))
    }

    /// Where the files of a key's result arrive. What breaks off stays there for the next attempt.
    pub fn arriving(&self, key: &StageKey) -> PathBuf {
        self.root().join("arriving").join(key.as_str())
    }

    /// Fetches a key's result, whose lock the caller has: files first, then it is published as a stage's own is. False
    /// where there is none. `is_wanted` has a look at what is there first.
    ///
    /// # Errors
    /// What the place says, and where the result is not what it says it is; the cache cannot be written.
    pub fn pull(
        &mut self,
        key: &StageKey,
        place: &dyn Elsewhere,
        is_wanted: &dyn Fn(&Parcel) -> Result<(), String>,
    ) -> Result<bool, PullError> {
        let Some(parcel) = fetch(key, place, &self.arriving(key), is_wanted)? else {
            return Ok(false);
        };
        self.admit(&parcel, place.name())?;
        Ok(true)
    }

    /// Publishes a result whose files have arrived, whose key the caller has locked.
    ///
    /// # Errors
    /// A file is not what the parcel says, or is not there; the cache cannot be written.
    pub fn admit(&mut self, parcel: &Parcel, from: &str) -> Result<(), StoreError> {
        let _hold = self.hold()?;
        let arriving = self.arriving(&parcel.key);
        let scratch = self.scratch(&parcel.key)?;
        let mut left: HashMap<&ContentHash, usize> = HashMap::new();
        for file in parcel.outputs.iter().flat_map(|output| &output.files) {
            *left.entry(&file.hash).or_default() += 1;
        }
        let arranging = || io("arrange what has arrived");
        let mut outputs = Vec::new();
        for (index, output) in parcel.outputs.iter().enumerate() {
            // By number: what the outputs are called elsewhere names nothing here.
            let folder = scratch.path().join(index.to_string());
            fs_err::create_dir_all(&folder).map_err(arranging())?;
            for path in &output.empty {
                fs_err::create_dir_all(folder.join(path)).map_err(arranging())?;
            }
            for file in &output.files {
                let (from, to) = (arriving.join(file.hash.as_str()), folder.join(&file.path));
                fs_err::create_dir_all(to.parent().unwrap_or(&folder)).map_err(arranging())?;
                let uses = left.get_mut(&file.hash);
                let is_last = uses.is_none_or(|uses| {
                    *uses -= 1;
                    *uses == 0
                });
                match is_last {
                    true => fs_err::rename(&from, &to).map_err(arranging())?,
                    false => fs_err::copy(&from, &to).map(|_| ()).map_err(arranging())?,
                }
            }
            let stored = self.publish(&output.slot, output.artifact, &folder, None)?;
            if stored.content != output.content || stored.files != output.files {
                return Err(StoreError::Transfer {
                    slot: output.slot.clone(),
                });
            }
            outputs.push(stored);
        }
        if let Some(description) = &parcel.description
            && self.description(&parcel.key).is_none()
        {
            self.keep_description(&parcel.key, description)?;
        }
        fail::at(Step::Described).map_err(io("publish a result"))?;
        self.commit(JournalEntry::Result(ResultRecord {
            key: parcel.key.clone(),
            kind: parcel.kind.clone(),
            run: parcel.run.clone(),
            seconds: parcel.seconds,
            finished_at: parcel.finished_at.clone(),
            outputs,
            // Held against the conditions here when they are asked for.
            ensured: Conditions::default(),
            accepted: parcel.accepted.clone(),
            pulled: Some(Pulled {
                from: from.to_owned(),
                host: parcel.host.clone(),
                dynvis_version: parcel.dynvis_version.clone(),
                at: jiff::Timestamp::now().to_string(),
            }),
        }))?;
        fail::at(Step::Committed).map_err(io("publish a result"))?;
        // Best effort: `sweep` tries again.
        let _ = std::fs::remove_dir_all(&arriving);
        Ok(())
    }
}

/// Why a result was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Nothing usable came.
    #[error(transparent)]
    Elsewhere(#[from] ElsewhereError),
    /// The cache cannot be written, or what came is not what it should be.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Brings the files of a key's result. `None` where there is none.
pub(crate) fn fetch(
    key: &StageKey,
    place: &dyn Elsewhere,
    folder: &Path,
    is_wanted: &dyn Fn(&Parcel) -> Result<(), String>,
) -> Result<Option<Parcel>, ElsewhereError> {
    let Some(parcel) = place.find(key)? else {
        return Ok(None);
    };
    let refused = |reason: String| ElsewhereError::of_content(format!("the record of {}: {reason}", key.short()));
    // Whoever made the parcel may not have looked at it.
    parcel.check(key).map_err(refused)?;
    is_wanted(&parcel).map_err(refused)?;
    let cannot = |error: std::io::Error| ElsewhereError {
        message: format!("cannot make `{}`: {error}", folder.display()),
        advice: String::new(),
        is_about_content: false,
    };
    make_folder(folder).map_err(cannot)?;
    let needed = parcel.bytes();
    if let Ok(stat) = rustix::fs::statvfs(folder) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let there: u64 = parcel
            .blobs()
            .iter()
            .filter_map(|(hash, _)| Some(std::fs::metadata(folder.join(hash.as_str())).ok()?.len()))
            .sum();
        if needed.saturating_sub(there) > free {
            return Err(ElsewhereError {
                message: format!("the result takes {needed} bytes, and {free} are free in the cache"),
                advice: "make room, with `dynvis gc` for example".into(),
                is_about_content: true,
            });
        }
    }
    place.bring(&parcel, folder)?;
    Ok(Some(parcel))
}

/// A place that several threads may ask.
pub type SharedElsewhere = Arc<dyn Elsewhere>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Artifact;

    fn hash(text: &str) -> ContentHash {
        ContentHash::new(&blake3::hash(text.as_bytes()))
    }

    fn parcel(paths: &[&str], empty: &[&str]) -> Parcel {
        let files: Vec<StoredFile> = paths
            .iter()
            .map(|path| StoredFile {
                path: (*path).to_owned(),
                size: 1,
                hash: hash(path),
            })
            .collect();
        let empty: Vec<String> = empty.iter().map(|path| (*path).to_owned()).collect();
        Parcel {
            version: VERSION,
            key: StageKey::new(&blake3::hash(b"key")),
            kind: "train".into(),
            run: RunId::fresh(),
            seconds: 1.0,
            finished_at: "2026-01-01T00:00:00Z".into(),
            outputs: vec![StoredOutput {
                slot: "model".into(),
                artifact: Artifact::FILES,
                content: content_hash(&files, &empty),
                files,
                empty,
            }],
            accepted: None,
            description: None,
            host: "elsewhere".into(),
            dynvis_version: "0.2.0".into(),
        }
    }

    fn error_of(parcel: &Parcel) -> String {
        Parcel::parse(&parcel.to_text(), &StageKey::new(&blake3::hash(b"key"))).expect_err("refused")
    }

    #[test]
    fn a_parcel_is_read_as_it_was_written() {
        let sound = parcel(&["a", "b/c", "b/d"], &["e", "f/g"]);
        assert_eq!(Parcel::parse(&sound.to_text(), &sound.key), Ok(sound.clone()));
        assert_eq!(sound.bytes(), 3);
        assert_eq!(sound.fits("train", &[Output::new("model", Artifact::FILES)]), Ok(()));
        assert!(sound.fits("train", &[Output::new("model", Artifact::TABLE)]).is_err());
        assert!(sound.fits("other", &[Output::new("model", Artifact::FILES)]).is_err());
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in [
            "../a",
            "/etc/passwd",
            "a/../../b",
            "a//b",
            "./a",
            "a/",
            "",
            "a\0b",
            "..",
        ] {
            assert!(error_of(&parcel(&[path], &[])).contains("no path within it"), "{path}");
            assert!(error_of(&parcel(&[], &[path])).contains("no path within it"), "{path}");
        }
        // One name for a file and a folder.
        for (files, empty) in [
            (&["a", "a/b"][..], &[][..]),
            (&["a/b"], &["a/b"]),
            (&["a/b"], &["a/b/c"]),
        ] {
            assert!(
                error_of(&parcel(files, empty)).contains("no path within it"),
                "{files:?}"
            );
        }
        assert!(error_of(&parcel(&["b", "a"], &[])).contains("disorder"));
        assert!(error_of(&parcel(&["a", "a"], &[])).contains("disorder"));
    }

    #[test]
    fn a_parcel_that_does_not_fit_together_is_refused() {
        let mut other = parcel(&["a"], &[]);
        other.outputs[0].files[0].hash = hash("other");
        assert!(error_of(&other).contains("not made of its files"));
        let mut other = parcel(&["a"], &[]);
        other.key = StageKey::new(&blake3::hash(b"other"));
        assert!(error_of(&other).contains("another key"));
        let mut other = parcel(&["a"], &[]);
        other.host = "a\u{1b}[31m".into();
        assert!(error_of(&other).contains("characters"));
        for wild in ["\u{1b}[31m", "\u{7}", "\u{202e}txt"] {
            let mut other = parcel(&["a"], &[]);
            other.description = Some(serde_json::json!({ "params": [{ "note": wild }] }));
            assert!(error_of(&other).contains("terminal"), "{wild:?}");
        }
        let mut other = parcel(&["a", "b"], &[]);
        other.outputs[0].files[0].size = u64::MAX;
        assert!(error_of(&other).contains("larger"));
        let mut other = parcel(&["a"], &[]);
        other.outputs.push(other.outputs[0].clone());
        assert!(error_of(&other).contains("outputs"));
        let text = parcel(&["a"], &[]).to_text();
        let key = StageKey::new(&blake3::hash(b"key"));
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"size\":1", "\"size\":-1"),
            ("\"a\"", "1"),
        ] {
            assert!(Parcel::parse(&text.replacen(from, to, 1), &key).is_err(), "{from}");
        }
        assert!(Parcel::parse("", &key).is_err());
    }
}
