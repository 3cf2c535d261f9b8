//! Archives that data sets come in, read without unpacking them into a folder: tar, tar within gzip, and zip.
//!
//! Members of a tar or of a zip that stores them lie in the archive as they are. What gzip compressed can be read from
//! its beginning alone, so it is decompressed once, into a file without a name that goes with the process; its place is
//! the folder for temporary files (`TMPDIR`).

use super::DataError;
use super::source::{Place, file_name};
use dynvis_base::guard::guard;
use dynvis_base::memory;
use flate2::bufread::GzDecoder;
use rayon::prelude::*;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// First bytes of a gzip archive.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a zip archive with members, and of one without.
const ZIP: [[u8; 4]; 2] = [*b"PK\x03\x04", *b"PK\x05\x06"];
/// Bytes of which a tar archive's parts are whole multiples.
const BLOCK: u64 = 512;
/// Bytes of a name, and of the attributes of a member, at most.
const LONGEST_NAME: u64 = 1 << 20;
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

/// What the members of a tar before another one say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

/// The regular files of the tar archive that lies in a range of a file; `within` begins what messages say of it.
fn tar_members(
    path: &Path,
    within: &str,
    file: &File,
    range: Range<u64>,
    passed_over: &mut Vec<String>,
) -> Result<Vec<Member>, DataError> {
    let damaged = |offset: u64, what: String| DataError::damaged(path, offset, format!("{within}{what}"));
    let mut members = Vec::new();
    let mut extended = Extended::default();
    let mut at = range.start;
    loop {
        let mut block = [0; BLOCK as usize];
        if range.end.saturating_sub(at) < BLOCK {
            let what = match at - range.start {
                0 => "no tar, gzip or zip archive",
                _ => "the archive ends without the zeros that mark its end: truncated",
            };
            return Err(damaged(range.end, what.to_owned()));
        }
        read_exact(path, file, at, &mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        let header = tar::Header::from_byte_slice(&block);
        check_sum(header).map_err(|what| {
            let what = match at - range.start {
                0 => format!("no tar, gzip or zip archive ({what})"),
                _ => what,
            };
            damaged(at, what)
        })?;
        let kind = header.entry_type();
        let size = match header.entry_size() {
            Ok(size) => size,
            Err(error) => return Err(damaged(at, format!("a member of unknown size ({error})"))),
        };
        // The size of a link or folder, where one is given, is not that of anything that follows.
        let has_content = !(kind.is_hard_link()
            || kind.is_symlink()
            || kind.is_character_special()
            || kind.is_block_special()
            || kind.is_dir()
            || kind.is_fifo());
        let is_attribute = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        let size = match has_content {
            false => 0,
            true if is_attribute => size,
            true => extended.size.unwrap_or(size),
        };
        let start = at + BLOCK;
        let name = || {
            extended
                .name
                .clone()
                .unwrap_or_else(|| header.path_bytes().into_owned())
        };
        let end = start.checked_add(size).filter(|end| *end <= range.end).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&name()).into_owned();
            damaged(range.end, format!("the archive ends within its member `{shown}`"))
        })?;
        // A last block need not be whole.
        let next = end.next_multiple_of(BLOCK).min(range.end);
        if is_attribute {
            if size > LONGEST_NAME {
                return Err(damaged(at, format!("a name or attributes of {size} bytes")));
            }
            let mut content = vec![0; size as usize];
            read_exact(path, file, start, &mut content)?;
            if kind.is_gnu_longname() {
                let name = content.split(|byte| *byte == 0).next().unwrap_or_default();
                extended.name = Some(name.to_vec());
            } else if kind.is_pax_local_extensions() {
                extend(&mut extended, &content).ok_or_else(|| damaged(start, "damaged attributes (pax)".to_owned()))?;
            }
            at = next;
            continue;
        }
        let name = name();
        let extended = std::mem::take(&mut extended);
        at = next;
        // Before there was a type for folders, a slash said it.
        if kind.is_dir() || name.ends_with(b"/") {
            continue;
        }
        let name = member_name(&name).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&name).into_owned();
            damaged(start - BLOCK, format!("its member `{shown}` would lie outside it"))
        })?;
        if kind.is_gnu_sparse() || extended.sparse {
            return Err(DataError::Damaged {
                file: path.to_owned(),
                offset: start - BLOCK,
                what: format!("{within}`{name}` is a sparse file, which is not read"),
                advice: "pack the archive again without sparse files".to_owned(),
            });
        }
        if kind.is_file() || kind.is_contiguous() {
            members.push(Member {
                name: name.into(),
                at: start,
                size,
            });
        } else {
            passed_over.push(name);
        }
    }
}

/// Holds the checksum of a header against its bytes, counted as unsigned or, as old programs did, as signed numbers.
fn check_sum(header: &tar::Header) -> Result<(), String> {
    let bytes = header.as_bytes();
    // The field itself counts as blanks.
    let others = || bytes[..148].iter().chain(&bytes[156..]);
    let unsigned = 8 * 32 + others().map(|byte| i64::from(*byte)).sum::<i64>();
    let signed = 8 * 32 + others().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
    match header.cksum() {
        Ok(sum) if [unsigned, signed].contains(&i64::from(sum)) => Ok(()),
        Ok(sum) => Err(format!("the header's checksum is {sum}, and its bytes give {unsigned}")),
        Err(_) => Err("the header has no checksum".to_owned()),
    }
}

/// Takes what is needed from pax records, each `LENGTH KEY=VALUE` and a line feed. `None` where they are damaged.
fn extend(extended: &mut Extended, mut records: &[u8]) -> Option<()> {
    while !records.is_empty() {
        let blank = records.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
        let record = records.get(blank + 1..length)?.strip_suffix(b"\n")?;
        records = &records[length..];
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extended.name = Some(value.to_vec()),
            b"size" => extended.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            _ => extended.sparse |= key.starts_with(b"GNU.sparse."),
        }
    }
    Some(())
}

/// A member's name without `./` and what makes it absolute; `None` where it leads out of the archive.
fn member_name(name: &[u8]) -> Option<String> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.is_empty() || parts.contains(&b"..".as_slice()) {
        return None;
    }
    Some(file_name(Path::new(OsStr::from_bytes(&parts.join(&b'/')))))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn member(name: &str, kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, content.len() as u64);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        bytes
    }

    fn opened(parts: &[Vec<u8>]) -> Result<Archive, DataError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tar");
        std::fs::write(&path, [parts.concat(), vec![0; 1024]].concat()).expect("written");
        Archive::open(&path)
    }

    fn names(archive: &Archive) -> Vec<&str> {
        archive.members().iter().map(|member| &*member.name).collect()
    }

    #[test]
    fn names_links_and_folders_of_every_dialect() {
        use tar::EntryType;
        let file = |name: &str| member(name, EntryType::Regular, b"x");
        let archive = opened(&[
            member("folder", EntryType::Directory, b""),
            file("./a//b"),
            file("/absolute"),
            member("x", EntryType::GNULongName, b"a long name\0"),
            file("short"),
            member("x", EntryType::XHeader, b"12 path=p/q\n13 comment=\n\n"),
            file("other"),
            member("link", EntryType::Symlink, b""),
            member("old/", EntryType::new(0), b""),
        ]);
        let archive = archive.expect("an archive");
        assert_eq!(names(&archive), ["a/b", "absolute", "a long name", "p/q"]);
        assert_eq!(archive.passed_over(), ["link"]);
        let place = archive.place(0).expect("it lies there");
        assert_eq!((place.offset, place.length), (3 * BLOCK - BLOCK, Some(1)));
    }

    #[test]
    fn what_is_hostile_or_damaged_is_told_with_its_place() {
        use tar::EntryType;
        let file = |name: &str| member(name, EntryType::Regular, b"x");
        let mut changed = file("a");
        changed[3] = b'z';
        for (parts, what) in [
            (vec![file("a/../../b")], "`a/../../b` would lie outside"),
            (vec![file("a"), file("a")], "two members are called `a`"),
            (vec![file("a"), changed], "at byte 1024: the header's checksum is"),
            (
                vec![header("a", EntryType::Regular, 1 << 40)],
                "ends within its member `a`",
            ),
            (
                vec![header("a", EntryType::GNULongName, 1 << 40)],
                "ends within its member",
            ),
            (
                vec![member("x", EntryType::XHeader, b"99 path=p\n"), file("a")],
                "damaged attributes",
            ),
            (
                vec![member("x", EntryType::XHeader, b"22 GNU.sparse.major=1\n"), file("a")],
                "`a` is a sparse file",
            ),
            (vec![member("a", EntryType::GNUSparse, b"x")], "`a` is a sparse file"),
        ] {
            let error = opened(&parts).map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains(what) && error.contains("a.tar"), "{what}: {error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        for (bytes, what) in [
            (b"no archive".to_vec(), "no tar, gzip or zip archive"),
            (file("a"), "without the zeros that mark its end"),
            (vec![b'x'; 4096], "no tar, gzip or zip archive"),
        ] {
            let path = folder.path().join("b.tar");
            std::fs::write(&path, bytes).expect("written");
            let error = Archive::open(&path).map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_tar_of_tars_is_one_archive() {
        use tar::EntryType;
        let inner = |names: &[&str]| {
            let files: Vec<Vec<u8>> = names
                .iter()
                .map(|name| member(name, EntryType::Regular, b"abc"))
                .collect();
            [files.concat(), vec![0; 1024]].concat()
        };
        let outer = [
            member("one.tar", EntryType::Regular, &inner(&["a", "b"])),
            member("two.tar", EntryType::Regular, &inner(&["a"])),
            member("notes", EntryType::Regular, b"x"),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tar");
        let mut bytes = [outer.concat(), vec![0; 1024]].concat();
        std::fs::write(&path, &bytes).expect("written");
        let archive = Archive::open(&path).and_then(Archive::flattened).expect("an archive");
        assert_eq!(names(&archive), ["one/a", "one/b", "two/a"]);
        assert_eq!(archive.read(2).expect("there"), b"abc");
        // Both inner archives at fault: both are named.
        bytes[512] ^= 1;
        let second = outer[0].len() + 512;
        bytes[second] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        let opened = Archive::open(&path).and_then(Archive::flattened);
        let error = opened.map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains("`one.tar`") && error.contains("`two.tar`"), "{error}");
    }
}
