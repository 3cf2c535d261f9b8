//! Archives that data sets come in, read without unpacking them into a folder: tar, tar within gzip, and zip.
//!
//! Members of a tar or of a zip that stores them lie in the archive as they are. What gzip compressed can be read from
//! its beginning alone, so it is decompressed once, into a file without a name that goes with the process; its place is
//! the folder for temporary files (`TMPDIR`).

mod tar_members;
#[cfg(test)]
mod tests;

use super::DataError;
use super::source::Place;
use dynvis_base::guard::guard;
use dynvis_base::memory;
use flate2::bufread::GzDecoder;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar_members::{member_name, tar_members};
use zip::{CompressionMethod, ZipArchive};

/// First bytes of a gzip archive.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a zip archive with members, and of one without.
const ZIP: [[u8; 4]; 2] = [*b"PK\x03\x04", *b"PK\x05\x06"];
/// How many times its size a gzip archive may unpack to; images do not compress so well.
const LARGEST_RATIO: u64 = 200;
/// What any gzip archive may unpack to.
const ALWAYS_UNPACKED: u64 = 1 << 30;

/// An opened archive and the files in it.
pub(crate) struct Archive {
    path: PathBuf,
    content: Content,
    members: Vec<Member>,
    /// Names of members that are links or devices.
    passed_over: Vec<String>,
}

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its path there, as results hold names of files.
    pub(crate) name: Box<str>,
    /// Where it lies: in bytes from the beginning of the tar, or its number in the zip.
    at: u64,
    /// Bytes, as the archive says.
    pub(crate) size: u64,
}

enum Content {
    /// Opened anew for each member: a set may have more archives than a process may have files open.
    Tar,
    /// A decompressed tar.
    Unpacked(File),
    Zip(ZipArchive<Shared>),
}

impl Archive {
    /// Opens an archive, whichever kind it is, and reads the list of its members.
    ///
    /// # Errors
    /// [`DataError::Damaged`] where it ends early, a checksum is wrong, a member's size is more than the archive holds,
    /// or two members have one name; [`DataError::Io`] where reading fails.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let mut file = dynvis_base::files::open(path)?;
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(4).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(0))?;
        let mut passed_over = Vec::new();
        let (content, members) = if head.starts_with(&GZIP) {
            let unpacked = unpack_gzip(path, &file)?;
            let members = tar_members(path, "", &unpacked, 0..unpacked.metadata()?.len(), &mut passed_over)?;
            (Content::Unpacked(unpacked), members)
        } else if ZIP.iter().any(|zip| head == zip) {
            let (zip, members) = open_zip(path, file, &mut passed_over)?;
            (Content::Zip(zip), members)
        } else {
            let length = file.metadata()?.len();
            (
                Content::Tar,
                tar_members(path, "", file.file(), 0..length, &mut passed_over)?,
            )
        };
        let archive = Self {
            path: path.to_owned(),
            content,
            members,
            passed_over,
        };
        archive.check_names()?;
        Ok(archive)
    }

    /// A tar of tars as one archive: members of its member `a.tar` are called `a/NAME`. Other members than tars are
    /// not in it.
    pub(crate) fn flattened(self) -> Result<Self, DataError> {
        let inner = |member: &Member| -> Result<(Vec<Member>, Vec<String>), DataError> {
            let Some(stem) = member.name.strip_suffix(".tar") else {
                return Ok(Default::default());
            };
            let mut passed_over = Vec::new();
            let range = member.at..member.at + member.size;
            let within = format!("in its member `{}`: ", member.name);
            let mut members = match &self.content {
                Content::Tar => {
                    let file = dynvis_base::files::open(&self.path)?;
                    tar_members(&self.path, &within, file.file(), range, &mut passed_over)?
                }
                Content::Unpacked(file) => tar_members(&self.path, &within, file, range, &mut passed_over)?,
                Content::Zip(_) => {
                    return Err(DataError::damaged(
                        &self.path,
                        0,
                        "a zip, where a tar of tars is needed",
                    ));
                }
            };
            for member in &mut members {
                member.name = format!("{stem}/{}", member.name).into();
            }
            Ok((members, passed_over))
        };
        let found: Vec<_> = self.members.par_iter().map(inner).collect();
        let mut problems = Vec::new();
        let (mut members, mut passed_over) = (Vec::new(), self.passed_over.clone());
        for found in found {
            match found {
                Ok((more, others)) => {
                    members.extend(more);
                    passed_over.extend(others);
                }
                Err(problem) => problems.push(problem),
            }
        }
        match DataError::all(problems) {
            Some(problem) => Err(problem),
            None => {
                let archive = Self {
                    members,
                    passed_over,
                    ..self
                };
                archive.check_names()?;
                Ok(archive)
            }
        }
    }

    fn check_names(&self) -> Result<(), DataError> {
        let mut names: Vec<&str> = self.members.iter().map(|member| &*member.name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => Err(DataError::Damaged {
                file: self.path.clone(),
                offset: 0,
                what: format!("two members are called `{}`", pair[0]),
                advice: "pack the archive again".to_owned(),
            }),
        }
    }

    /// Path of the archive.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The files in it, in its order.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Names of members that were passed over, since they are links or devices.
    pub(crate) fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The number of the member whose last part of the name is `name`: the first of several.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let last = |member: &Member| member.name.rsplit('/').next() == Some(name);
        self.members.iter().position(last)
    }

    /// What messages call a member.
    pub(crate) fn member_path(&self, member: usize) -> PathBuf {
        self.path.join(&*self.members[member].name)
    }

    /// The content of a member, which memory has room for.
    pub(crate) fn read(&self, member: usize) -> Result<Vec<u8>, DataError> {
        let path = self.member_path(member);
        let Member { at, size, .. } = self.members[member];
        memory::check_room(size).map_err(|room| DataError::too_large(&path, room))?;
        let from = |file: &File| {
            let mut bytes = vec![0; size as usize];
            read_exact(&self.path, file, at, &mut bytes)?;
            Ok(bytes)
        };
        match &self.content {
            Content::Tar => from(dynvis_base::files::open(&self.path)?.file()),
            Content::Unpacked(file) => from(file),
            Content::Zip(zip) => self.entry(zip, member, |path, entry| {
                let mut bytes = Vec::new();
                memory::read_to_end(entry, size, &mut bytes).map_err(|error| match error {
                    memory::ReadError::NoRoom(room) => DataError::too_large(path, room),
                    memory::ReadError::Io(error) => damaged_zip(path, &error),
                })?;
                Ok(bytes)
            }),
        }
    }

    /// Reads a member of a zip to its end, which holds it against its checksum.
    pub(crate) fn verify(&self, member: usize) -> Result<(), DataError> {
        match &self.content {
            Content::Zip(zip) => self.entry(zip, member, |path, entry| {
                let copied = std::io::copy(entry, &mut std::io::sink());
                copied.map(|_| ()).map_err(|error| damaged_zip(path, &error))
            }),
            Content::Tar | Content::Unpacked(_) => Ok(()),
        }
    }

    /// The content of a member of a zip, decompressed into a file that has no name: it may be larger than memory.
    pub(crate) fn unpacked(&self, member: usize) -> Result<File, DataError> {
        let size = self.members[member].size;
        match &self.content {
            Content::Zip(zip) => self.entry(zip, member, |path, entry| unpack_member(path, entry, size)),
            Content::Tar | Content::Unpacked(_) => {
                Err(DataError::damaged(&self.path, 0, "a tar, where a zip is needed"))
            }
        }
    }

    /// What `read` makes of a member of a zip.
    fn entry<T>(
        &self,
        zip: &ZipArchive<Shared>,
        member: usize,
        read: impl FnOnce(&Path, &mut dyn Read) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        let path = self.member_path(member);
        let opened = || {
            let mut zip = zip.clone();
            let index = self.members[member].at as usize;
            let mut entry = zip.by_index(index).map_err(|error| damaged_zip(&path, &error))?;
            read(&path, &mut entry)
        };
        guard(opened).unwrap_or_else(|panicked| Err(DataError::panicked(&path, &panicked)))
    }

    /// Where a member lies in the archive, if it lies there as it is.
    pub(crate) fn place(&self, member: usize) -> Option<Place> {
        let Member { at, size, .. } = self.members[member];
        let offset = match &self.content {
            Content::Tar => at,
            Content::Unpacked(_) => return None,
            Content::Zip(zip) => {
                let mut zip = zip.clone();
                let entry = zip.by_index_raw(at as usize).ok()?;
                if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                    return None;
                }
                entry.data_start()?
            }
        };
        Some(Place {
            path: self.path.clone(),
            offset,
            length: Some(size),
        })
    }
}

fn damaged_zip(path: &Path, error: &dyn std::fmt::Display) -> DataError {
    DataError::damaged(path, 0, format!("damaged zip ({error})"))
}

/// Reads bytes of a file that must have them.
pub(super) fn read_exact(path: &Path, file: &File, at: u64, bytes: &mut [u8]) -> Result<(), DataError> {
    file.read_exact_at(bytes, at).map_err(|error| match error.kind() {
        // Where things lie was held against its length before.
        std::io::ErrorKind::UnexpectedEof => DataError::damaged(path, at, "the file has become shorter"),
        kind => std::io::Error::new(kind, format!("`{}`: {error}", path.display())).into(),
    })
}

/// Decompresses a gzip archive (several one after the other, zeros after them, as `gunzip` does in memory) into a file
/// that has no name.
fn unpack_gzip(path: &Path, file: &fs_err::File) -> Result<File, DataError> {
    let limit = (file.metadata()?.len().saturating_mul(LARGEST_RATIO)).max(ALWAYS_UNPACKED);
    let mut reader = BufReader::with_capacity(1 << 16, file.file());
    let mut out = temporary(path)?;
    let mut written = 0;
    loop {
        let fail = |read: u64, error: std::io::Error| DataError::unpacking(path, read as usize, error.into());
        written = copy(path, GzDecoder::new(&mut reader), &mut out, written, limit, &fail)?;
        let mut zeros = false;
        loop {
            let rest = reader.fill_buf()?;
            if rest.is_empty() {
                return Ok(out);
            }
            if rest.starts_with(&GZIP) && !zeros {
                break;
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(DataError::damaged(
                    path,
                    written,
                    "bytes that are not a gzip archive follow the archive",
                ));
            }
            zeros = true;
            let length = rest.len();
            reader.consume(length);
        }
    }
}

/// A file without a name for what is decompressed of `path`.
fn temporary(path: &Path) -> Result<File, DataError> {
    tempfile::tempfile().map_err(|error| unpacking(path, &error))
}

fn unpacking(path: &Path, error: &std::io::Error) -> DataError {
    let folder = std::env::temp_dir();
    let message = format!(
        "`{}` could not be decompressed into a file in `{}` (TMPDIR names another folder): {error}",
        path.display(),
        folder.display()
    );
    std::io::Error::new(error.kind(), message).into()
}

/// Copies what a decoder of `path` gives behind the `written` bytes that are there, to at most `limit` bytes in all,
/// which it returns. `fail` says what is wrong after so many bytes.
fn copy(
    path: &Path,
    mut from: impl Read,
    to: &mut File,
    mut written: u64,
    limit: u64,
    fail: &dyn Fn(u64, std::io::Error) -> DataError,
) -> Result<u64, DataError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(written),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fail(written, error)),
        };
        written += read as u64;
        if written > limit {
            let what = format!("it unpacks to more than {limit} bytes, which no images of its size do");
            return Err(DataError::damaged(path, written, what));
        }
        to.write_all(&buffer[..read]).map_err(|error| unpacking(path, &error))?;
    }
}

/// Decompresses a member of a zip, `length` bytes as the archive says, into a file that has no name.
fn unpack_member(path: &Path, member: impl Read, length: u64) -> Result<File, DataError> {
    let mut out = temporary(path)?;
    let fail = |_, error: std::io::Error| damaged_zip(path, &error);
    // One byte more than there should be, so that the checksum is looked at.
    let found = copy(
        path,
        member.take(length.saturating_add(1)),
        &mut out,
        0,
        u64::MAX,
        &fail,
    )?;
    if found == length {
        return Ok(out);
    }
    let what = format!("it unpacks to {found} bytes or more, and the archive says {length}");
    Err(DataError::damaged(path, found.min(length), what))
}

/// A file that several readers read at places of their own.
#[derive(Clone)]
struct Shared {
    file: Arc<fs_err::File>,
    length: u64,
    at: u64,
}

impl Read for Shared {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.file().read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn open_zip(
    path: &Path,
    file: fs_err::File,
    passed_over: &mut Vec<String>,
) -> Result<(ZipArchive<Shared>, Vec<Member>), DataError> {
    let length = file.metadata()?.len();
    let shared = Shared {
        file: Arc::new(file),
        length,
        at: 0,
    };
    let read = || {
        let zip = ZipArchive::new(shared)
            .map_err(|error| DataError::damaged(path, length, format!("damaged or truncated zip ({error})")))?;
        let mut members = Vec::new();
        for index in 0..zip.len() {
            let entry = zip
                .by_index_data(index)
                .map_err(|error| DataError::damaged(path, 0, format!("damaged zip ({error})")))?;
            let raw = entry.name_raw();
            if raw.ends_with(b"/") || raw.ends_with(b"\\") {
                continue;
            }
            let name = member_name(raw).ok_or_else(|| {
                let what = format!("its member `{}` would lie outside it", String::from_utf8_lossy(raw));
                DataError::damaged(path, 0, what)
            })?;
            const KIND: u32 = 0o170_000;
            const REGULAR: u32 = 0o100_000;
            match entry.unix_mode().map(|mode| mode & KIND) {
                None | Some(0 | REGULAR) => members.push(Member {
                    name: name.into(),
                    at: index as u64,
                    size: entry.size(),
                }),
                Some(_) => passed_over.push(name),
            }
        }
        Ok((zip, members))
    };
    guard(read).unwrap_or_else(|panicked| Err(DataError::panicked(path, &panicked)))
}
