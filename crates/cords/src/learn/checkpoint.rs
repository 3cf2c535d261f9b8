//! Checkpoints: a training's whole state in one file, from which it goes on to the same final bytes.
//!
//! A file appears whole or not at all (written beside its place, made durable, renamed). It carries a hash of its
//! content and the identity of its training: what is damaged or belongs to another training is refused, never used.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::tensor::{SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;

/// Metadata key, and the version that a change of the layout raises.
const KEY: &str = "cords.checkpoint";
const VERSION: u32 = 1;
/// Name of the file within its folder.
const FILE: &str = "training.safetensors";

/// Where and how often a training keeps its state.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// Folder of the file; made when there is something to write. One training at a time may use it.
    pub folder: PathBuf,
    /// Names everything that determines the training's result; a checkpoint of another identity is refused.
    pub identity: String,
    /// Time between two checkpoints; zero for one after every batch.
    pub every: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    identity: String,
    /// blake3 of identity and content.
    hash: String,
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Format(#[from] safetensors::SafeTensorError),
    #[error(transparent)]
    Header(#[from] serde_json::Error),
}

/// What was found where a checkpoint would be.
pub(crate) enum StoredCheckpoint {
    Nothing,
    /// A file that must not be used, and why.
    Refused(String),
    Usable(Snapshot),
}

impl Checkpoints {
    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Whether there is a file of a checkpoint, whatever it holds.
    pub(crate) fn is_there(&self) -> bool {
        self.path().is_file()
    }

    /// Puts `snapshot` in the place of the last checkpoint.
    pub(crate) fn write(&self, snapshot: &Snapshot) -> Result<(), WriteError> {
        write(&self.path(), &self.identity, snapshot)
    }

    /// Reads the last checkpoint and holds it against its hash and this training's identity.
    pub(crate) fn read(&self) -> StoredCheckpoint {
        let file = match dynvis_base::files::read(&self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return StoredCheckpoint::Nothing,
            Err(error) => return StoredCheckpoint::Refused(error.to_string()),
        };
        match parse(&file, &self.identity) {
            Ok(snapshot) => StoredCheckpoint::Usable(snapshot),
            Err(reason) => StoredCheckpoint::Refused(reason),
        }
    }
}

/// Writes a state to a file, whole or not at all, and makes its folder.
pub(super) fn write(path: &Path, identity: &str, snapshot: &Snapshot) -> Result<(), WriteError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let header = Header {
        version: VERSION,
        identity: identity.to_owned(),
        hash: hash(identity, snapshot),
    };
    let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(&header)?)]);
    let views = snapshot
        .iter()
        .map(|(name, dtype, bytes)| {
            Ok((
                name,
                TensorView::new(dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, WriteError>>()?;
    // A fixed name: what a killed training left half-written is written over.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let mut file = fs_err::File::create(PathBuf::from(&unfinished))?;
    file.write_all(&safetensors::serialize(views, Some(metadata))?)?;
    file.sync_all()?;
    fs_err::rename(PathBuf::from(&unfinished), path)?;
    fs_err::File::open(folder)?.sync_all()?;
    Ok(())
}

/// A state from a file's bytes, held against its hash and the identity of the training that asks; or why it is none.
pub(super) fn parse(file: &[u8], identity: &str) -> Result<Snapshot, String> {
    let damaged = |reason: &dyn std::fmt::Display| format!("it is damaged: {reason}");
    let (_, metadata) = SafeTensors::read_metadata(file).map_err(|error| damaged(&error))?;
    let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let header = header.ok_or_else(|| damaged(&format!("its metadata has no `{KEY}`")))?;
    let header: Header = serde_json::from_str(header).map_err(|error| damaged(&error))?;
    if header.version != VERSION {
        let found = header.version;
        return Err(format!("its layout is version {found}, this program's is {VERSION}"));
    }
    if header.identity != identity {
        return Err("it belongs to another training".to_owned());
    }
    let tensors = SafeTensors::deserialize(file).map_err(|error| damaged(&error))?;
    let mut snapshot = Snapshot::default();
    for (name, view) in tensors.iter() {
        snapshot.put_bytes(name.to_owned(), view.dtype(), view.data().to_vec());
    }
    if hash(identity, &snapshot) != header.hash {
        return Err(damaged(&"its content does not have the hash that it was written with"));
    }
    Ok(snapshot)
}

/// Lengths stand before everything of varying length, so that fields cannot run together.
fn hash(identity: &str, snapshot: &Snapshot) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(identity.as_bytes());
    for (name, dtype, bytes) in snapshot.iter() {
        field(name.as_bytes());
        field(format!("{dtype:?}").as_bytes());
        field(bytes);
    }
    hasher.finalize().to_hex().to_string()
}
