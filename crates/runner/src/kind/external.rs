//! What a stage reads from outside the pipeline.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynvis_base::{FileList, Head};
use serde::Serialize;

/// A file or folder outside the pipeline that a stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalFile {
    /// The file's name within the stage's identity: never a path of this machine.
    pub slot: String,
    /// Where the file or folder lies on this machine.
    pub path: PathBuf,
}

/// A folder of which a stage reads files by a rule: as many as there may be. They are listed, looked at and compared
/// only where somebody asks about the stage, side by side, and held compactly.
#[derive(Clone)]
pub struct Tree {
    /// Where the folder lies on this machine.
    pub folder: PathBuf,
    /// What stands before a file's name within the folder in its slot.
    pub prefix: String,
    /// Names the rule and all that it depends on besides what lies in the folder. Trees of the same folder and rule
    /// hold the same files.
    pub rule: String,
    /// Whether a file that comes or goes while the stage runs is a change, be it one that the rule passes over.
    pub is_watched: bool,
    /// Says which files are read.
    pub select: Arc<Select>,
}

/// Says which files of a folder are read, or what is not there or of no use.
pub type Select = dyn Fn(&mut dyn FirstBytes) -> Result<TreeFiles, MissingData> + Send + Sync;

/// What a rule has found.
#[derive(Debug, Default)]
pub struct TreeFiles {
    /// Files below the folder. Their slots are their names within it as the list writes them.
    pub files: FileList,
    /// Files that lie elsewhere.
    pub others: Vec<ExternalFile>,
}

/// The first bytes of files, for rules that go by more than names. Files that have not changed are not opened again.
pub trait FirstBytes {
    /// Puts a list in order and gives the first bytes of its files.
    ///
    /// # Errors
    /// A file cannot be read; the message names it.
    fn of(&mut self, files: &mut FileList) -> std::io::Result<Vec<Head>>;
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} of {}", self.rule, self.folder.display())
    }
}

/// Where a path of a pipeline leads: relative to the project's folder, absolute, or below the user's home (`~/…`).
pub fn located(root: &Path, path: &str) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => Path::new(&home).join(below),
        _ => root.join(path),
    }
}

/// Something that must exist before a stage can run and does not, or is there and of no use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MissingData {
    /// What is missing, in a user's words.
    pub what: String,
    /// Where to put it, relative to the project's folder where it lies within.
    pub place: String,
    /// Where it can be had, or what else to do.
    pub hint: String,
    /// Why what is there is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

/// What a stage reads from outside: everything that is there, or what is not.
#[derive(Clone, Debug, Default)]
pub struct External {
    /// Files that are there.
    pub files: Vec<ExternalFile>,
    /// Folders of which a rule says which files are read.
    pub trees: Vec<Tree>,
    /// What is not there, or of no use; the stage is blocked unless this is empty.
    pub missing: Vec<MissingData>,
    /// Environment variables that belong to the stage's identity.
    pub environment: Vec<String>,
}

impl External {
    /// Adds a file that must be there; `missing` says what it is where it is not, or is none.
    pub fn require(&mut self, slot: &str, path: PathBuf, missing: MissingData) {
        let unusable = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let slot = slot.to_owned();
                return self.files.push(ExternalFile { slot, path });
            }
            Ok(metadata) => dynvis_base::files::irregular(metadata.file_type()).map(|what| format!("it is {what}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(error.to_string()),
        };
        self.missing.push(MissingData { unusable, ..missing });
    }
}
