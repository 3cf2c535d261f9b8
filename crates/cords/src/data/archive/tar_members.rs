//! The members of a tar archive: the headers of every kind that tars are written with.

use super::{Member, read_exact};
use crate::data::DataError;
use crate::data::source::file_name;
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of which a tar archive's parts are whole multiples.
pub(super) const BLOCK: u64 = 512;
/// Bytes of a name, and of the attributes of a member, at most.
const LONGEST_NAME: u64 = 1 << 20;

/// What the members of a tar before another one say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

/// The regular files of the tar archive that lies in a range of a file; `within` begins what messages say of it.
pub(super) fn tar_members(
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
pub(super) fn member_name(name: &[u8]) -> Option<String> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.is_empty() || parts.contains(&b"..".as_slice()) {
        return None;
    }
    Some(file_name(Path::new(OsStr::from_bytes(&parts.join(&b'/')))))
}
