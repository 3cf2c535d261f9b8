//! What of a set lies in a project's folder.

use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

use super::catalogue::{Remote, Set};
use super::checksum::{Hashing, blake3_of, each_block};
use super::part::part_of;
use super::unpack::Member;

/// What an archive held, in a set's folder: by that its files are known when it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// Archives that were unpacked, with the files that came out of them.
    pub(crate) unpacked: Vec<RecordedArchive>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct RecordedArchive {
    pub(crate) archive: String,
    pub(crate) files: Vec<Member>,
}

fn record_in(folder: &Path) -> PathBuf {
    folder.join(".dynvis-data.json")
}

impl Record {
    /// The record of a set's folder; empty where there is none, or none that can be read.
    pub(crate) fn read(folder: &Path) -> Self {
        let text = dynvis_base::files::read_to_string(&record_in(folder)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// # Errors
    /// Those of writing.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = record_in(folder);
        let part = part_of(&path);
        fs_err::write(&part, format!("{:#}\n", serde_json::to_value(self)?))?;
        fs_err::rename(part, path)
    }

    /// What came out of an archive.
    pub(crate) fn files_of(&self, archive: &str) -> Option<&[Member]> {
        let mut all = self.unpacked.iter();
        all.find(|one| one.archive == archive).map(|one| one.files.as_slice())
    }
}

/// How much of a set is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// All of it.
    Complete,
    /// Some of it, or part of a file.
    Partial,
    /// Nothing.
    Missing,
    /// A file that is not as it was published.
    Damaged,
    /// None of the published files, but others.
    Other,
}

/// What there is of a set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Presence {
    pub(crate) state: State,
    /// Bytes of its files and parts of files.
    pub(crate) bytes: u64,
    /// What is wrong or not complete, a line each.
    pub(crate) notes: Vec<String>,
}

/// By what files are told.
pub(crate) enum By<'a> {
    /// Names and sizes.
    Size,
    /// All their bytes; the function is given how many were read since it was called last, and may end it with an
    /// error.
    Checksum(&'a mut dyn FnMut(u64) -> Result<()>),
}

/// What lies there of a set, below the project's folder.
///
/// # Errors
/// Those of reading files.
pub(crate) fn presence(set: &Set, root: &Path, mut by: By) -> Result<Presence> {
    let folder = root.join(set.folder);
    let record = Record::read(&folder);
    let mut notes = Vec::new();
    let (mut bytes, mut complete, mut is_damaged) = (0, 0, false);
    for file in set.files {
        let found = match record.files_of(file.name).filter(|_| file.unpacked.is_some()) {
            Some(members) => unpacked(&folder, file.name, members, &mut by)?,
            None => whole(&folder, file, &mut by)?,
        };
        bytes += found.bytes;
        complete += usize::from(found.is_complete);
        is_damaged |= found.is_damaged;
        notes.extend(found.note);
    }
    let state = match () {
        () if is_damaged => State::Damaged,
        () if complete == set.files.len() && complete > 0 => State::Complete,
        () if bytes > 0 => State::Partial,
        // `data` itself holds everything.
        () if set.folder.contains('/') && has_entries(&folder) => State::Other,
        () => State::Missing,
    };
    if matches!(state, State::Missing | State::Other) {
        notes.clear();
    }
    Ok(Presence { state, bytes, notes })
}

#[derive(Default)]
struct Found {
    bytes: u64,
    is_complete: bool,
    is_damaged: bool,
    note: Option<String>,
}

/// A file as it is published.
fn whole(folder: &Path, file: &Remote, by: &mut By) -> Result<Found> {
    let path = folder.join(file.name);
    let Some(bytes) = size_of(&path)? else {
        let part = size_of(&part_of(&path))?.unwrap_or(0);
        let note = match part {
            0 => format!("`{}` is missing", file.name),
            part => format!("of `{}` {part} of {} bytes are there", file.name, file.bytes),
        };
        return Ok(Found {
            bytes: part,
            note: Some(note),
            ..Found::default()
        });
    };
    let wrong = match by {
        _ if bytes != file.bytes => Some(format!("has {bytes} bytes; {} are published", file.bytes)),
        By::Size => None,
        By::Checksum(progress) => {
            let mut hashing = Hashing::new(file.checksums);
            each_block(dynvis_base::files::open(&path)?, |block| {
                hashing.update(block);
                progress(block.len() as u64)
            })?;
            hashing.check().err().map(|mismatch| mismatch.to_string())
        }
    };
    if let Some(wrong) = wrong {
        return Ok(Found {
            bytes,
            is_damaged: true,
            note: Some(format!("`{}`: {wrong}", file.name)),
            ..Found::default()
        });
    }
    if file.unpacked.is_some() {
        return Ok(Found {
            bytes,
            note: Some(format!("`{}` is to be unpacked", file.name)),
            ..Found::default()
        });
    }
    Ok(Found {
        bytes,
        is_complete: true,
        ..Found::default()
    })
}

/// Files that came out of an archive.
fn unpacked(folder: &Path, archive: &str, members: &[Member], by: &mut By) -> Result<Found> {
    let mut found = Found::default();
    let mut wrong = Vec::new();
    for member in members {
        let path = folder.join(&member.name);
        let Some(bytes) = size_of(&path)? else {
            wrong.push(format!("`{}` is gone", member.name));
            continue;
        };
        found.bytes += bytes;
        if bytes != member.bytes {
            found.is_damaged = true;
            wrong.push(format!("`{}` has {bytes} bytes, not {}", member.name, member.bytes));
        } else if let By::Checksum(progress) = by {
            progress(bytes)?;
            if blake3_of(&path)? != member.blake3 {
                found.is_damaged = true;
                wrong.push(format!("`{}` has other bytes than when it was unpacked", member.name));
            }
        }
    }
    found.is_complete = wrong.is_empty();
    found.note = (!wrong.is_empty()).then(|| format!("of `{archive}`: {}", wrong.join(", ")));
    Ok(found)
}

/// Size of a file, if there is one.
fn size_of(path: &Path) -> Result<Option<u64>> {
    match fs_err::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_entries(folder: &Path) -> bool {
    fs_err::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
