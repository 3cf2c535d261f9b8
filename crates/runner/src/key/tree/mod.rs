//! Content of folders with very many files: a million files take about 90 MB of memory, and where none of them has
//! changed none is opened.
//!
//! What [`Fingerprints`](super::Fingerprints) promises of single files holds of these: a file is read again unless
//! device, inode, size, mtime and ctime are what they were when it was hashed, and what had just been changed then is
//! read every time. What is remembered lies in one file a folder ([`records`]), is read block by block, and can be
//! thrown away. Memory-mapping it would be shorter, but what another program cuts off would end this one.

mod records;
mod scan;

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynvis_base::{FileList, Head};
use serde::Serialize;

use super::fingerprint::hash_of_file;
use super::{ContentHash, FingerprintError};
use records::{Cursor, Form, Record, Records, Value, Writer};
pub use scan::Reading;
use scan::{Files, Threads, block_range, find};

/// The files of a folder that a stage reads, in the order of their slots, with the content of each.
pub struct FileTree {
    /// What stands before the names of files in their slots.
    prefix: String,
    files: FileList,
    contents: Vec<Value>,
    /// Of each block of files: a hash over what they were when they were looked at, links that lead to them included.
    marks: Vec<Value>,
}

impl fmt::Debug for FileTree {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} files of {}", self.len(), self.files.root().display())
    }
}

fn content(path: &Path) -> std::io::Result<Value> {
    Ok(*hash_of_file(path)?.as_bytes())
}

fn content_hash(content: &Value) -> ContentHash {
    ContentHash::new(&blake3::Hash::from_bytes(*content))
}

impl FileTree {
    /// Looks at all files of a list, and reads those that are not remembered at `place` as they are now; `told` hears
    /// how far that is.
    ///
    /// # Errors
    /// The first file in order that cannot be looked at or read.
    pub(crate) fn observe(
        prefix: &str,
        mut files: FileList,
        place: &Path,
        told: &mut dyn FnMut(Reading),
    ) -> Result<Self, FingerprintError> {
        files.sort();
        let found = find(&files, content, place, told)?;
        Ok(Self {
            prefix: prefix.to_owned(),
            files,
            contents: found.values,
            marks: found.marks,
        })
    }

    /// Number of files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// What stands before the names of files in their slots.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Slots and contents in the order of the slots' bytes.
    pub(super) fn slots(&self) -> Slots<'_> {
        Slots {
            tree: self,
            next: 0,
            slot: self.prefix.clone().into_bytes(),
        }
    }

    /// All slots with the contents of their files, for few files.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (String, ContentHash)> {
        let slot = |i| format!("{}{}", self.prefix, self.files.within(i));
        (0..self.len()).map(move |i| (slot(i), content_hash(&self.contents[i])))
    }

    /// One hash over all slots and contents.
    pub(crate) fn digest(&self) -> ContentHash {
        let mut hasher = Piecewise::new(blake3::Hasher::new());
        let mut slots = self.slots();
        while let Some((slot, content)) = slots.advance() {
            hasher.update(&(slot.len() as u64).to_le_bytes());
            hasher.update(slot);
            hasher.update(content);
        }
        ContentHash::new(&hasher.finish().finalize())
    }

    /// What is different of these files now, by its path: the list of them, what one of them is (also where it was
    /// changed and changed back), or its content.
    ///
    /// # Errors
    /// The first file that cannot be looked at or read.
    pub(crate) fn change(&self, mut now: FileList, place: &Path) -> Result<Option<PathBuf>, FingerprintError> {
        now.sort();
        let ends_at = self.len().min(now.len());
        if let Some(i) = (0..ends_at).find(|i| !self.files.is_same_file(*i, &now, *i)) {
            // The one that stands first in the order is missing on the other side.
            let (before, after) = (self.files.within(i), now.within(i));
            return Ok(Some(if before < after {
                self.files.path(i)
            } else {
                now.path(i)
            }));
        }
        if self.len() != now.len() {
            let longer = if self.len() > now.len() { &self.files } else { &now };
            return Ok(Some(longer.path(ends_at)));
        }
        let known = Records::open(place, Form::Stats);
        let files = Files {
            list: &now,
            known: known.as_ref(),
            read: content,
        };
        let mut blocks = vec![(); now.len()];
        let changes = Threads::new().for_blocks(&mut blocks, |index, _| {
            // Where the times of a file are too young to tell, its content is read again.
            let (look, _) = files.look_and_fill(index)?;
            let range = block_range(index, now.len());
            let values = look.seen.iter().map(|seen| seen.value.unwrap_or_default());
            if let Some((i, _)) = (range.clone().zip(values)).find(|(i, value)| self.contents[*i] != *value) {
                return Ok(Some(now.path(i)));
            }
            if look.mark == self.marks[index] {
                return Ok(None);
            }
            // Whatever changes a file sets the time of change, so that it is the last one.
            let last = range.zip(&look.seen).max_by_key(|(_, seen)| seen.changed_ns());
            Ok(last.map(|(i, _)| now.path(i)))
        });
        for change in changes {
            if let Some(path) = change? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

/// Writes slots and contents of folders for [`FileChanges::since`].
///
/// # Errors
/// They cannot be written.
pub(crate) fn write_files(trees: &[Arc<FileTree>], out: impl std::io::Write) -> std::io::Result<()> {
    let mut writer = Writer::new(out, Form::Values)?;
    let mut trees: Vec<&Arc<FileTree>> = trees.iter().collect();
    trees.sort_by_key(|tree| tree.prefix());
    for tree in trees {
        let mut slots = tree.slots();
        while let Some((slot, value)) = slots.advance() {
            let record = Record {
                stat: None,
                value: *value,
            };
            writer.push(slot, &record)?;
        }
    }
    writer.finish()?;
    Ok(())
}

/// Goes through slots in order.
pub(super) struct Slots<'a> {
    tree: &'a FileTree,
    next: usize,
    slot: Vec<u8>,
}

impl<'a> Slots<'a> {
    /// The next slot, which is UTF-8, and the hash of its file.
    pub(super) fn advance(&mut self) -> Option<(&[u8], &'a Value)> {
        let content = self.tree.contents.get(self.next)?;
        self.slot.truncate(self.tree.prefix.len());
        self.tree.files.write_within(self.next, &mut self.slot);
        self.next += 1;
        Some((&self.slot, content))
    }
}

/// Hands small pieces on to a hasher together, which makes it several times as fast.
pub(super) struct Piecewise {
    hasher: blake3::Hasher,
    pieces: Vec<u8>,
}

impl Piecewise {
    const ENOUGH: usize = 1 << 16;

    pub(super) fn new(hasher: blake3::Hasher) -> Self {
        Self {
            hasher,
            pieces: Vec::with_capacity(Self::ENOUGH),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.pieces.extend_from_slice(bytes);
        if self.pieces.len() >= Self::ENOUGH {
            self.hasher.update(&self.pieces);
            self.pieces.clear();
        }
    }

    pub(super) fn finish(mut self) -> blake3::Hasher {
        self.hasher.update(&self.pieces);
        self.hasher
    }
}

/// How the files of a folder differ from what they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileChanges {
    /// Files with other content.
    pub changed: u64,
    /// Files that are there now alone.
    pub added: u64,
    /// Files that were there alone.
    pub removed: u64,
    /// The first of them in the order of slots.
    pub examples: Vec<String>,
}

impl FileChanges {
    /// Whether nothing is other than it was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed + self.added + self.removed == 0
    }

    /// As many examples are given.
    const EXAMPLES: usize = 20;

    /// What has changed of a folder since files were [written](write_files) to `path`; `None` where that cannot be
    /// read.
    pub(crate) fn since(path: &Path, now: &FileTree) -> Option<Self> {
        let records = Records::open(path, Form::Values)?;
        let mut changes = Self::default();
        let mut before = records.cursor(0..records.blocks());
        let mut after = now.slots();
        let own = |found: Option<(&[u8], Value)>| found.map(|(slot, value)| (slot.to_owned(), value));
        let next = |cursor: &mut Cursor| {
            loop {
                let found = own(cursor.advance().map(|(slot, record)| (slot, record.value)));
                if found
                    .as_ref()
                    .is_none_or(|(slot, _)| slot.starts_with(now.prefix.as_bytes()))
                {
                    return found;
                }
            }
        };
        let next_now = |slots: &mut Slots| own(slots.advance().map(|(slot, value)| (slot, *value)));
        let (mut old, mut new) = (next(&mut before), next_now(&mut after));
        loop {
            let order = match (&old, &new) {
                (None, None) => return Some(changes),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let differs = match order {
                Ordering::Less => {
                    changes.removed += 1;
                    old.as_ref()
                }
                Ordering::Greater => {
                    changes.added += 1;
                    new.as_ref()
                }
                Ordering::Equal => {
                    let differs = new
                        .as_ref()
                        .filter(|(_, value)| old.as_ref().map(|(_, v)| v) != Some(value));
                    changes.changed += u64::from(differs.is_some());
                    differs
                }
            };
            if let Some((slot, _)) = differs.filter(|_| changes.examples.len() < Self::EXAMPLES) {
                changes.examples.push(String::from_utf8_lossy(slot).into_owned());
            }
            if order.is_le() {
                old = next(&mut before);
            }
            if order.is_ge() {
                new = next_now(&mut after);
            }
        }
    }
}

fn head(path: &Path) -> std::io::Result<Value> {
    let head = Head::read(path)?;
    let mut value = Value::default();
    let bytes = head.bytes();
    value[0] = bytes.len() as u8;
    value[1..=bytes.len()].copy_from_slice(bytes);
    Ok(value)
}

/// The first bytes of files, in the order into which the list is put; read only where a file is not remembered at
/// `place` as it is now.
///
/// # Errors
/// The first file in order that cannot be looked at or read.
pub(crate) fn heads(files: &mut FileList, place: &Path) -> Result<Vec<Head>, FingerprintError> {
    files.sort();
    let found = find(files, head, place, &mut |_| {})?;
    let of = |value: &Value| Head::new(&value[1..=usize::from(value[0]).min(Head::LONGEST)]);
    Ok(found.values.iter().map(of).collect())
}

/// How many files are remembered at a place; 0 where none are.
pub(crate) fn remembered(place: &Path) -> usize {
    Records::open(place, Form::Stats).map_or(0, |records| records.len())
}

#[cfg(test)]
mod tests;
