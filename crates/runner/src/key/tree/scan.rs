//! Looks at many files at once: what each is, and its value, which is read from the file only where the file is not
//! what it was when the value was found.

use std::ffi::CStr;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dynvis_base::FileList;
use dynvis_base::platform;
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use serde::Serialize;

use super::super::fingerprint::{FingerprintError, Stat, present_ns};
use super::records::{Cursor, Form, PER_BLOCK, Record, Records, Value, Writer, stat_bytes};

/// How a value is found.
pub(super) type Read = fn(&Path) -> std::io::Result<Value>;

/// How far the reading of files is whose values are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// Files that were read.
    pub done: u64,
    /// Files that are to be read in all.
    pub files: u64,
    /// Bytes that were read.
    pub done_bytes: u64,
    /// Bytes that are to be read in all.
    pub bytes: u64,
}

/// Threads that look at files: as many as there are processors. The system may refuse them; then it takes longer.
pub(super) struct Threads(Option<rayon::ThreadPool>);

impl Threads {
    pub(super) fn new() -> Self {
        Self(rayon::ThreadPoolBuilder::new().build().ok())
    }

    fn count(&self) -> usize {
        self.0.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Does one thing for each of the blocks that `items` fall into; results are in order.
    pub(super) fn for_blocks<I: Send, T: Send>(
        &self,
        items: &mut [I],
        block: impl Fn(usize, &mut [I]) -> T + Sync,
    ) -> Vec<T> {
        match &self.0 {
            Some(pool) => pool.install(|| {
                let blocks = items.par_chunks_mut(PER_BLOCK).enumerate();
                blocks.map(|(index, items)| block(index, items)).collect()
            }),
            None => {
                let blocks = items.chunks_mut(PER_BLOCK).enumerate();
                blocks.map(|(index, items)| block(index, items)).collect()
            }
        }
    }
}

/// What a file is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) stat: Stat,
    /// When the link was changed that leads to it, where one does.
    link_changed_ns: Option<i128>,
    /// Its value, where that is known.
    pub(super) value: Option<Value>,
}

impl Seen {
    /// When the file or the link to it was last changed.
    pub(super) fn changed_ns(&self) -> i128 {
        self.link_changed_ns.unwrap_or(i128::MIN).max(self.stat.changed_ns)
    }
}

/// What a block of files is now.
pub(super) struct Look {
    pub(super) seen: Vec<Seen>,
    /// Hash over what each of them is, links included.
    pub(super) mark: Value,
    /// When looking began.
    at_ns: i128,
}

/// Files in the order of their names, and what is remembered of them.
pub(super) struct Files<'a> {
    pub(super) list: &'a FileList,
    pub(super) known: Option<&'a Records>,
    pub(super) read: Read,
}

/// Files of the block with a number.
pub(super) fn block_range(index: usize, files: usize) -> Range<usize> {
    (index * PER_BLOCK)..((index + 1) * PER_BLOCK).min(files)
}

impl Files<'_> {
    fn error(&self, i: usize, source: impl Into<std::io::Error>) -> FingerprintError {
        FingerprintError {
            path: self.list.path(i),
            source: source.into(),
        }
    }

    /// Looks at a block of files. None of them is opened.
    pub(super) fn look(&self, index: usize) -> Result<Look, FingerprintError> {
        let range = block_range(index, self.list.len());
        let at_ns = present_ns();
        let mut seen = Vec::with_capacity(range.len());
        let mut marks = Vec::new();
        let mut name = Vec::new();
        let mut folder: Option<(usize, OwnedFd)> = None;
        let mut known = self.known.map(|records| Known::new(records, self.list, &range));
        for i in range {
            let number = self.list.folder_of(i);
            let opened = match folder.take().filter(|(opened, _)| *opened == number) {
                Some((_, opened)) => opened,
                None => {
                    let flags = platform::LOOK | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    let opened = openat(CWD, self.list.folder(number), flags, Mode::empty());
                    opened.map_err(|source| self.error(i, source))?
                }
            };
            let (stat, link) = stat_of(&opened, self.list.name(i)).map_err(|source| self.error(i, source))?;
            folder = Some((number, opened));
            name.clear();
            self.list.write_within(i, &mut name);
            marks.extend_from_slice(&(name.len() as u64).to_le_bytes());
            marks.extend_from_slice(&name);
            marks.extend_from_slice(&stat_bytes(&stat));
            marks.push(u8::from(link.is_some()));
            marks.extend(link.iter().flat_map(stat_bytes));
            let value = known.as_mut().and_then(|known| known.value(&name, &stat));
            let link_changed_ns = link.map(|link| link.changed_ns);
            seen.push(Seen {
                stat,
                link_changed_ns,
                value,
            });
        }
        let mark = *blake3::hash(&marks).as_bytes();
        Ok(Look { seen, mark, at_ns })
    }

    /// Reads the values of a block's files that are not known. Gives for every file whether what was found may be
    /// remembered: a file that changes while it is read may not, and is noticed when it is looked at again; nor may one
    /// that had just been changed when it was looked at, since another edit might not show in its times, which are
    /// coarse.
    fn fill(&self, index: usize, look: &mut Look) -> Result<Vec<bool>, FingerprintError> {
        let range = block_range(index, self.list.len());
        let at_ns = look.at_ns;
        let fill = |(i, seen): (usize, &mut Seen)| {
            if seen.value.is_some() {
                return Ok(true);
            }
            let path = self.list.path(i);
            let read = (self.read)(&path).and_then(|value| Ok((value, Stat::of(&path)?)));
            let (value, after) = read.map_err(|source| FingerprintError { path, source })?;
            seen.value = Some(value);
            Ok(after == seen.stat && seen.stat.is_settled_at(at_ns))
        };
        let filled: Vec<Result<bool, FingerprintError>> = match rayon::current_thread_index() {
            Some(_) => range.into_par_iter().zip(&mut look.seen).map(fill).collect(),
            None => range.zip(&mut look.seen).map(fill).collect(),
        };
        filled.into_iter().collect()
    }

    /// A block's files with all values, each of them with whether it may be remembered.
    pub(super) fn look_and_fill(&self, index: usize) -> Result<(Look, Vec<bool>), FingerprintError> {
        let mut look = self.look(index)?;
        let may_be_kept = self.fill(index, &mut look)?;
        Ok((look, may_be_kept))
    }
}

fn stat_of(folder: &OwnedFd, name: &CStr) -> rustix::io::Result<(Stat, Option<Stat>)> {
    let own = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(own.st_mode) != FileType::Symlink {
        return Ok((Stat::from(&own), None));
    }
    let stat = statat(folder, name, AtFlags::empty())?;
    Ok((Stat::from(&stat), Some(Stat::from(&own))))
}

/// Finds what is remembered of files that are asked for in order.
struct Known<'a> {
    cursor: Cursor<'a>,
    /// The record that comes next, and its name.
    next: Option<Record>,
    name: Vec<u8>,
}

impl<'a> Known<'a> {
    fn new(records: &'a Records, list: &FileList, range: &Range<usize>) -> Self {
        let written = |i: Option<usize>| {
            let mut name = Vec::new();
            if let Some(i) = i {
                list.write_within(i, &mut name);
            }
            name
        };
        let (first, last) = (written(range.clone().next()), written(range.clone().last()));
        let mut known = Self {
            cursor: records.cursor(records.blocks_of(&first, &last)),
            next: None,
            name: Vec::new(),
        };
        known.step();
        known
    }

    fn step(&mut self) {
        self.next = None;
        if let Some((name, record)) = self.cursor.advance() {
            self.name.clear();
            self.name.extend_from_slice(name);
            self.next = Some(record);
        }
    }

    /// The value of a file that is what it was.
    fn value(&mut self, name: &[u8], stat: &Stat) -> Option<Value> {
        while self.next.is_some() && self.name.as_slice() < name {
            self.step();
        }
        let record = self.next.filter(|_| self.name == name)?;
        (record.stat.as_ref() == Some(stat)).then_some(record.value)
    }
}

/// What was found: a value for every file, and a hash over what the files of each block are.
pub(super) struct Found {
    pub(super) values: Vec<Value>,
    pub(super) marks: Vec<Value>,
}

/// A block as it was first looked at.
#[derive(Default)]
struct First {
    mark: Value,
    /// Files to be read, and their bytes.
    files: u64,
    bytes: u64,
    /// Whether one of these has not just been changed.
    may_be_kept: bool,
}

/// Finds the value of every file. What had to be read is remembered at `place`, piece by piece, as far as that can be
/// written: whoever is interrupted goes on from there. `told` is called before files are read and again and again while
/// they are.
///
/// # Errors
/// The first file in order that cannot be looked at or read.
pub(super) fn find(
    list: &FileList,
    read: Read,
    place: &Path,
    told: &mut dyn FnMut(Reading),
) -> Result<Found, FingerprintError> {
    recover(place);
    let records = Records::open(place, Form::Stats);
    let files = Files {
        list,
        known: records.as_ref(),
        read,
    };
    let threads = Threads::new();
    let mut values = vec![Value::default(); list.len()];
    let looked = threads.for_blocks(&mut values, |index, values| {
        let look = files.look(index)?;
        let mut first = First {
            mark: look.mark,
            ..First::default()
        };
        for (seen, value) in look.seen.iter().zip(values) {
            match seen.value {
                Some(known) => *value = known,
                None => {
                    first.files += 1;
                    first.bytes += seen.stat.size;
                    first.may_be_kept |= seen.stat.is_settled_at(look.at_ns);
                }
            }
        }
        Ok(first)
    });
    let firsts: Vec<First> = looked.into_iter().collect::<Result<_, FingerprintError>>()?;
    let mut marks: Vec<Value> = firsts.iter().map(|first| first.mark).collect();
    let mut reading = Reading {
        files: firsts.iter().map(|first| first.files).sum(),
        bytes: firsts.iter().map(|first| first.bytes).sum(),
        ..Reading::default()
    };
    if reading.files == 0 {
        return Ok(Found { values, marks });
    }
    told(reading);
    let is_worth_keeping = firsts.iter().any(|first| first.may_be_kept);
    let mut part = is_worth_keeping.then(|| Part::begin(place)).flatten();
    // So many at a time that no thread waits long for others, and few are lost where it is interrupted.
    let at_a_time = 2 * threads.count();
    let mut name = Vec::new();
    for start in (0..firsts.len()).step_by(at_a_time) {
        let end = (start + at_a_time).min(firsts.len());
        if part.is_none() && firsts[start..end].iter().all(|first| first.files == 0) {
            continue;
        }
        let range = start * PER_BLOCK..(end * PER_BLOCK).min(list.len());
        let is_written = part.is_some();
        let filled = threads.for_blocks(&mut values[range], |index, values| {
            let index = start + index;
            if !is_written && firsts[index].files == 0 {
                return Ok(None);
            }
            let (look, may_be_kept) = files.look_and_fill(index)?;
            for (seen, value) in look.seen.iter().zip(values) {
                *value = seen.value.unwrap_or_default();
            }
            Ok(Some((look, may_be_kept)))
        });
        let mut failed = None;
        for (index, filled) in (start..).zip(filled) {
            match filled {
                Ok(None) => {}
                Ok(Some((look, may_be_kept))) => {
                    marks[index] = look.mark;
                    let records = (block_range(index, list.len()).zip(look.seen).zip(may_be_kept))
                        .filter(|(_, may_be_kept)| *may_be_kept);
                    for ((i, seen), _) in records {
                        name.clear();
                        list.write_within(i, &mut name);
                        let record = seen.value.map(|value| Record {
                            stat: Some(seen.stat),
                            value,
                        });
                        part = part.and_then(|part| part.push(&name, &record?));
                    }
                    reading.done += firsts[index].files;
                    reading.done_bytes += firsts[index].bytes;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        part = part.and_then(Part::flush);
        match failed {
            Some(error) => return Err(error),
            None => told(reading),
        }
    }
    if let Some(part) = part {
        part.finish(place);
    }
    Ok(Found { values, marks })
}

/// A file of records that is being written. Where that fails nothing is remembered, and nothing else is lost. It stays
/// where it is if its process is killed or cannot go on: [`recover`] finds it.
struct Part {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
}

fn part_of(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// The file at a path for this process alone; `None` while another one has it, or where it cannot be written.
fn locked(path: &Path) -> Option<File> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.ok().filter(|file| file.try_lock().is_ok())?;
    // Whoever had it may have put it into place a moment ago: then it is not at that path any more.
    let (own, there) = (file.metadata().ok()?, std::fs::symlink_metadata(path).ok()?);
    ((own.dev(), own.ino()) == (there.dev(), there.ino())).then_some(file)
}

impl Part {
    fn begin(place: &Path) -> Option<Self> {
        let path = part_of(place);
        let file = locked(&path)?;
        file.set_len(0).ok()?;
        let writer = Writer::new(BufWriter::new(file), Form::Stats).ok()?;
        Some(Self { path, writer })
    }

    fn push(mut self, name: &[u8], record: &Record) -> Option<Self> {
        self.writer.push(name, record).is_ok().then_some(self)
    }

    fn flush(mut self) -> Option<Self> {
        self.writer.flush().is_ok().then_some(self)
    }

    fn finish(self, place: &Path) {
        let Self { path, writer } = self;
        // Locked until it is in place.
        if let Ok(_file) = writer.finish() {
            let _ = std::fs::rename(path, place);
        }
    }
}

/// Puts what an interrupted process had read among what is remembered. Nothing is lost where that fails.
fn recover(place: &Path) {
    let path = part_of(place);
    if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return;
    }
    let Some(file) = locked(&path) else {
        return;
    };
    let merged = file.try_clone().ok().and_then(|file| {
        let part = Records::of(file, Form::Stats)?;
        merge(place, &part)
    });
    if merged.is_some() {
        let _ = std::fs::remove_file(&path);
    }
}

/// What was written last, and after its last name what was there before.
fn merge(place: &Path, part: &Records) -> Option<()> {
    let folder = place.parent()?;
    let merged = dynvis_base::files::temporary(folder).ok()?;
    let mut writer = Writer::new(BufWriter::new(merged.as_file()), Form::Stats).ok()?;
    let mut last = Vec::new();
    let mut cursor = part.cursor(0..part.blocks());
    while let Some((name, record)) = cursor.advance() {
        writer.push(name, &record).ok()?;
        last.clear();
        last.extend_from_slice(name);
    }
    if let Some(before) = Records::open(place, Form::Stats) {
        let mut cursor = before.cursor(0..before.blocks());
        while let Some((name, record)) = cursor.advance() {
            if name > last.as_slice() {
                writer.push(name, &record).ok()?;
            }
        }
    }
    writer.finish().ok()?;
    merged.persist(place).ok()?;
    Some(())
}
