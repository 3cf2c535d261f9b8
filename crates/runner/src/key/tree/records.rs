//! What is remembered of many files, on disk: blocks of records in the order of the files' names, each with a checksum.
//!
//! ```text
//! file    kind (16 bytes), blocks
//! block   bytes and number of records (u32 each), first 16 bytes of the records' blake3, records
//! record  bytes that its name shares with the one before and bytes that it does not (u16 each), the latter;
//!         stat unless the kind is without: device, inode, size (u64 each), mtime and ctime (i64 s, u32 ns each);
//!         value (32 bytes)
//! ```
//!
//! All numbers are little-endian. A file is written from its beginning to its end and is of use up to where it was cut
//! off: nothing stands at its end that all depends on. A block that is damaged is as if it were not there. JSON, as the
//! stat cache of single files is, takes three times the room and must be read whole; a database would bring
//! transactions for what can be made again.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::fingerprint::Stat;

/// Records of a block at most.
pub(super) const PER_BLOCK: usize = 512;

/// What a record holds besides name and stat: a content hash, or the first bytes of a file.
pub(crate) type Value = [u8; 32];

const HEADER: usize = 24;
const STAT: usize = 48;
/// More than a block can take.
const LARGEST: u64 = (PER_BLOCK * (4 + u16::MAX as usize + STAT + size_of::<Value>())) as u64;

/// What the records of a file hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// What a file was when its value was found.
    Stats,
    /// Name and value alone.
    Values,
}

impl Form {
    fn kind(self) -> &'static [u8; 16] {
        match self {
            Self::Stats => b"dynvis stats 1\n\0",
            Self::Values => b"dynvis files 1\n\0",
        }
    }
}

/// What is remembered of one file; its name is handed around beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stat: Option<Stat>,
    pub(super) value: Value,
}

/// An opened file of records.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    form: Form,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    /// Name of its first record.
    first: Vec<u8>,
    at: u64,
    bytes: usize,
    records: usize,
    checksum: [u8; 16],
}

impl Records {
    /// `None` where there is no such file, or it is of another kind.
    pub(super) fn open(path: &Path, form: Form) -> Option<Self> {
        let file = dynvis_base::files::open(path).ok()?.into_file();
        Self::of(file, form)
    }

    /// The blocks of an opened file, up to the first that cannot be one.
    pub(super) fn of(file: File, form: Form) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let mut kind = [0; 16];
        file.read_exact_at(&mut kind, 0).ok()?;
        if kind != *form.kind() {
            return None;
        }
        let mut blocks = Vec::new();
        let mut at = kind.len() as u64;
        while let Some(block) = block_at(&file, at, length) {
            at = block.at + block.bytes as u64;
            blocks.push(block);
        }
        Some(Self { file, form, blocks })
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Number of records, damaged ones among them.
    pub(super) fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.records).sum()
    }

    /// Blocks in which names from `first` to `last` may stand.
    pub(super) fn blocks_of(&self, first: &[u8], last: &[u8]) -> Range<usize> {
        let start = self.blocks.partition_point(|block| block.first.as_slice() <= first);
        let end = self.blocks.partition_point(|block| block.first.as_slice() <= last);
        start.saturating_sub(1)..end
    }

    /// The records of a block as they lie in the file; `None` where they are damaged or cannot be read.
    pub(super) fn read(&self, block: usize) -> Option<Vec<u8>> {
        let block = &self.blocks[block];
        let mut records = vec![0; block.bytes];
        self.file.read_exact_at(&mut records, block.at).ok()?;
        (checksum(&records) == block.checksum).then_some(records)
    }

    /// The records of these blocks, in order.
    pub(super) fn cursor(&self, blocks: Range<usize>) -> Cursor<'_> {
        Cursor {
            records: self,
            blocks,
            block: Vec::new(),
            at: 0,
            name: Vec::new(),
        }
    }
}

fn checksum(records: &[u8]) -> [u8; 16] {
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&blake3::hash(records).as_bytes()[..16]);
    checksum
}

fn block_at(file: &File, at: u64, length: u64) -> Option<Block> {
    let mut header = [0; HEADER + 4];
    file.read_exact_at(&mut header, at).ok()?;
    let number = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
    let (bytes, records) = (number(0)?, number(4)?);
    let mut checksum = [0; 16];
    checksum.copy_from_slice(&header[8..HEADER]);
    let at = at + HEADER as u64;
    // What is asked for is there: a damaged number makes nobody reserve more than the file has.
    let is_possible = u64::from(bytes) <= LARGEST && at + u64::from(bytes) <= length;
    if !is_possible || records == 0 || records as usize > PER_BLOCK {
        return None;
    }
    let name = u16::from_le_bytes([header[HEADER + 2], header[HEADER + 3]]);
    let mut first = vec![0; usize::from(name)];
    file.read_exact_at(&mut first, at + 4).ok()?;
    Some(Block {
        first,
        at,
        bytes: bytes as usize,
        records: records as usize,
        checksum,
    })
}

/// Goes through records in order.
pub(super) struct Cursor<'a> {
    records: &'a Records,
    blocks: Range<usize>,
    block: Vec<u8>,
    at: usize,
    /// Name of the last record.
    name: Vec<u8>,
}

impl Cursor<'_> {
    /// The next record and its name. Damaged blocks are passed over.
    pub(super) fn advance(&mut self) -> Option<(&[u8], Record)> {
        loop {
            if let Some(record) = self.in_block() {
                return Some((&self.name, record));
            }
            let next = self.blocks.next()?;
            self.block = self.records.read(next).unwrap_or_default();
            self.at = 0;
            self.name.clear();
        }
    }

    fn in_block(&mut self) -> Option<Record> {
        let mut rest = self.block.get(self.at..).filter(|rest| !rest.is_empty())?;
        let mut take = |bytes: usize| {
            let (taken, after) = rest.split_at_checked(bytes)?;
            rest = after;
            Some(taken)
        };
        let shared = u16::from_le_bytes(*take(2)?.first_chunk()?);
        let suffix = u16::from_le_bytes(*take(2)?.first_chunk()?);
        let suffix = take(usize::from(suffix))?;
        let stat = match self.records.form {
            Form::Stats => Some(stat_from(take(STAT)?.first_chunk()?)),
            Form::Values => None,
        };
        let value = *take(size_of::<Value>())?.first_chunk()?;
        self.name.truncate(usize::from(shared));
        self.name.extend_from_slice(suffix);
        self.at = self.block.len() - rest.len();
        Some(Record { stat, value })
    }
}

const NANOSECONDS: i128 = 1_000_000_000;

fn stat_from(bytes: &[u8; STAT]) -> Stat {
    let (integers, times) = bytes.split_at(24);
    let integer = |at: usize| u64::from_le_bytes(integers[at * 8..][..8].try_into().unwrap_or_default());
    let time = |at: usize| {
        let seconds = i64::from_le_bytes(times[at..][..8].try_into().unwrap_or_default());
        let nanoseconds = u32::from_le_bytes(times[at + 8..][..4].try_into().unwrap_or_default());
        i128::from(seconds) * NANOSECONDS + i128::from(nanoseconds)
    };
    Stat {
        device: integer(0),
        inode: integer(1),
        size: integer(2),
        modified_ns: time(0),
        changed_ns: time(12),
    }
}

/// A stat as records hold it.
pub(super) fn stat_bytes(stat: &Stat) -> [u8; STAT] {
    let mut bytes = [0; STAT];
    for (place, integer) in [stat.device, stat.inode, stat.size].into_iter().enumerate() {
        bytes[place * 8..][..8].copy_from_slice(&integer.to_le_bytes());
    }
    for (place, time) in [(24, stat.modified_ns), (36, stat.changed_ns)] {
        // Both fit: they were made of a number of seconds and one of nanoseconds.
        let (seconds, nanoseconds) = (time.div_euclid(NANOSECONDS) as i64, time.rem_euclid(NANOSECONDS) as u32);
        bytes[place..][..8].copy_from_slice(&seconds.to_le_bytes());
        bytes[place + 8..][..4].copy_from_slice(&nanoseconds.to_le_bytes());
    }
    bytes
}

/// Writes a file of records.
pub(super) struct Writer<W> {
    out: W,
    form: Form,
    block: Vec<u8>,
    records: u32,
    last: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, form: Form) -> std::io::Result<Self> {
        out.write_all(form.kind())?;
        Ok(Self {
            out,
            form,
            block: Vec::new(),
            records: 0,
            last: Vec::new(),
        })
    }

    /// Adds a record; names come in order. One that is longer than any that can be opened is left out, and so is one
    /// without stat where there should be one.
    pub(super) fn push(&mut self, name: &[u8], record: &Record) -> std::io::Result<()> {
        let shared = match self.records {
            0 => 0,
            _ => self.last.iter().zip(name).take_while(|(a, b)| a == b).count(),
        };
        let suffix = &name[shared..];
        let (Ok(shared), Ok(length)) = (u16::try_from(shared), u16::try_from(suffix.len())) else {
            return Ok(());
        };
        let stat = match (self.form, &record.stat) {
            (Form::Stats, None) => return Ok(()),
            (Form::Stats, Some(stat)) => Some(stat_bytes(stat)),
            (Form::Values, _) => None,
        };
        self.block.extend_from_slice(&shared.to_le_bytes());
        self.block.extend_from_slice(&length.to_le_bytes());
        self.block.extend_from_slice(suffix);
        self.block.extend(stat.into_iter().flatten());
        self.block.extend_from_slice(&record.value);
        self.last.clear();
        self.last.extend_from_slice(name);
        self.records += 1;
        match self.records as usize == PER_BLOCK {
            true => self.end_block(),
            false => Ok(()),
        }
    }

    fn end_block(&mut self) -> std::io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let bytes = u32::try_from(self.block.len()).map_err(std::io::Error::other)?;
        self.out.write_all(&bytes.to_le_bytes())?;
        self.out.write_all(&self.records.to_le_bytes())?;
        self.out.write_all(&checksum(&self.block))?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        self.records = 0;
        Ok(())
    }

    /// Ends the present block, so that what was written up to here is of use whatever comes.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.end_block()?;
        self.out.flush()
    }

    /// Ends the last block.
    pub(super) fn finish(mut self) -> std::io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}
