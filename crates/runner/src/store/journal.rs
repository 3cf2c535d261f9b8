//! The journal: one JSON record a line, preceded by its length and checksum.
//!
//! A record counts once its line is complete and durable. A torn tail (power loss, kill) is dropped and closed off.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::JournalEntry;
use super::objects::sync_folder;
use crate::fail::{self, Step};

/// Hex digits of the checksum that stand in each line.
const CHECKSUM: usize = 16;

pub(super) fn frame(json: &str) -> String {
    let checksum = blake3::hash(json.as_bytes()).to_hex();
    format!("{} {} {json}\n", json.len(), &checksum[..CHECKSUM])
}

/// Reads complete records from `offset` on; returns them and where the last complete line ends.
pub(super) fn read(path: &Path, offset: u64) -> std::io::Result<(Vec<JournalEntry>, u64)> {
    let mut file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(e) => return Err(e),
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut records = Vec::new();
    let mut end = 0;
    while let Some(length) = bytes[end..].iter().position(|b| *b == b'\n') {
        if let Some(record) = parse(&bytes[end..end + length]) {
            records.push(record);
        }
        end += length + 1;
    }
    Ok((records, offset + end as u64))
}

/// How many whole lines are no records. Torn ones, which a killed process leaves, do not count: they were marked, or
/// lack their end.
pub(super) fn damaged_lines(path: &Path) -> std::io::Result<usize> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let lines = bytes
        .split_inclusive(|b| *b == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"));
    Ok(lines
        .filter(|line| parse(line).is_none() && !line.ends_with(b"~"))
        .count())
}

/// A line that fails its checksum is not a record: a torn write that a later append closed off.
fn parse(line: &[u8]) -> Option<JournalEntry> {
    let line = std::str::from_utf8(line).ok()?;
    let (length, rest) = line.split_once(' ')?;
    let (checksum, json) = rest.split_once(' ')?;
    let whole = json.len() == length.parse::<usize>().ok()?
        && blake3::hash(json.as_bytes())
            .to_hex()
            .get(..CHECKSUM)
            .is_some_and(|c| c == checksum);
    whole.then(|| serde_json::from_str(json).ok()).flatten()
}

/// Writes what is there when that step fails, if it is to fail now.
fn fail_after(step: Step, file: &mut std::fs::File, written: &[u8]) -> std::io::Result<()> {
    if fail::is_next(step) {
        file.write_all(written)?;
    }
    fail::at(step)
}

/// Appends records and waits until they are on disk. A cut may leave the first ones alone.
pub(super) fn append(path: &Path, records: &[JournalEntry]) -> std::io::Result<()> {
    let is_new = !path.exists();
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    file.lock()?;
    let mut text = String::new();
    if ends_torn(&mut file)? {
        // Marked, so that a record that lacked nothing but its end of line does not come to life late.
        text += "~\n";
    }
    let mut ends = Vec::new();
    for record in records {
        text += &frame(&serde_json::to_string(record)?);
        ends.push(text.len());
    }
    if let [first, rest @ ..] = ends.as_slice() {
        fail_after(Step::HalfAppended, &mut file, &text.as_bytes()[..first / 2])?;
        if !rest.is_empty() {
            fail_after(Step::FirstAppended, &mut file, &text.as_bytes()[..*first])?;
        }
    }
    file.write_all(text.as_bytes())?;
    fail::at(Step::Appended)?;
    file.sync_data()?;
    match path.parent().filter(|_| is_new) {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

fn ends_torn(file: &mut std::fs::File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0] != b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::StageKey;

    fn record(stage: &str) -> JournalEntry {
        JournalEntry::Current {
            project: None,
            pipeline: "p".into(),
            stage: stage.into(),
            key: StageKey::new(&blake3::hash(stage.as_bytes())),
        }
    }

    #[test]
    fn a_torn_tail_is_dropped_and_later_records_survive() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal");
        append(&path, &[record("a")]).expect("append");
        append(&path, &[record("b")]).expect("append");
        let whole = fs_err::read(&path).expect("read");
        for cut in 1..frame("").len() + 10 {
            fs_err::write(&path, &whole[..whole.len() - cut]).expect("tear");
            let (records, _) = read(&path, 0).expect("read");
            assert_eq!(records, [record("a")], "cut {cut}");
            append(&path, &[record("c")]).expect("append");
            let (records, _) = read(&path, 0).expect("read");
            assert_eq!(records, [record("a"), record("c")], "cut {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_loses_one_record_only() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal");
        for stage in ["a", "b", "c"] {
            append(&path, &[record(stage)]).expect("append");
        }
        let mut bytes = fs_err::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs_err::write(&path, &bytes).expect("write");
        let (records, _) = read(&path, 0).expect("read");
        assert_eq!(records, [record("a"), record("c")]);
    }

    #[test]
    fn reading_continues_where_it_stopped() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal");
        append(&path, &[record("a")]).expect("append");
        let (_, end) = read(&path, 0).expect("read");
        append(&path, &[record("b")]).expect("append");
        assert_eq!(read(&path, end).expect("read").0, [record("b")]);
    }
}
