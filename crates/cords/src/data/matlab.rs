//! MATLAB's `.mat` files of versions 5 to 7, as "MAT-File Level 5 File Format" describes them: arrays of numbers, text,
//! cells and structs, compressed or not. Of version 7.3, which is HDF5, nothing is read.
//!
//! Sizes in a file are held against the bytes that there are, and nothing is allocated by what a header says alone.

use super::DataError;
use dynvis_base::memory::{self, ReadError};
use flate2::read::ZlibDecoder;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes before the first element.
const HEADER: usize = 128;
/// Bytes in which an array's kind, dimensions and name must lie.
const DESCRIPTION: u64 = 1 << 12;
/// Types of elements that hold others.
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// Arrays within arrays.
const DEEPEST: usize = 8;

/// A variable that was asked for.
pub(crate) struct Variable {
    path: PathBuf,
    pub(crate) name: String,
    big: bool,
    /// The content of its element.
    bytes: Vec<u8>,
}

/// An array. The first of its dimensions is the fastest.
#[derive(Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Values,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Values {
    /// Type of the numbers, and where they lie in the variable's bytes.
    Numbers(Number, Range<usize>),
    Text(String),
    Cells(Vec<Array>),
    /// Names of the fields, and the arrays of all fields of the first struct, then of the second.
    Structs(Vec<String>, Vec<Array>),
    /// Of a kind that nothing here asks for, such as a sparse array.
    Other,
}

/// Types of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Signed(usize),
    Unsigned(usize),
    Single,
    Double,
}

impl Number {
    fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            1 => Self::Signed(1),
            2 => Self::Unsigned(1),
            3 => Self::Signed(2),
            4 => Self::Unsigned(2),
            5 => Self::Signed(4),
            6 => Self::Unsigned(4),
            7 => Self::Single,
            9 => Self::Double,
            12 => Self::Signed(8),
            13 => Self::Unsigned(8),
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::Signed(size) | Self::Unsigned(size) => size,
            Self::Single => 4,
            Self::Double => 8,
        }
    }
}

/// Reads variables of these names, in the order of the file. `path` is what messages call it.
///
/// # Errors
/// [`DataError::Damaged`] where it is no such file or its elements do not fit into each other, [`DataError::TooLarge`]
/// where a variable takes more memory than there is or than `limit` bytes.
pub(crate) fn read(
    path: &Path,
    mut stream: impl Read,
    wanted: &[&str],
    limit: u64,
) -> Result<Vec<Variable>, DataError> {
    let damaged = |at: u64, what: &str| DataError::damaged(path, at, what);
    let mut header = Vec::new();
    stream.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    if header.starts_with(b"MATLAB 7.3") || header.starts_with(b"\x89HDF") {
        return Err(DataError::Damaged {
            file: path.to_owned(),
            offset: 0,
            what: "a .mat file of version 7.3, which is not read".to_owned(),
            advice: "save it again with `save(..., '-v7')`".to_owned(),
        });
    }
    let big = match header.get(126..128) {
        Some(b"IM") => false,
        Some(b"MI") => true,
        _ => return Err(damaged(0, "no .mat file of versions 5 to 7")),
    };
    let mut found = Vec::new();
    let mut at = HEADER as u64;
    loop {
        let mut tag = Vec::new();
        stream.by_ref().take(8).read_to_end(&mut tag)?;
        let Some((kind, length)) = whole_tag(&tag, big) else {
            return match tag.len() {
                0 => Ok(found),
                _ => Err(damaged(at, "truncated")),
            };
        };
        let mut element = stream.by_ref().take(u64::from(length));
        let variable = match kind {
            COMPRESSED => {
                let mut plain = ZlibDecoder::new(&mut element);
                let mut tag = Vec::new();
                let read = plain.by_ref().take(8).read_to_end(&mut tag);
                read.map_err(|error| damaged(at, &format!("damaged compression ({error})")))?;
                match whole_tag(&tag, big) {
                    Some((MATRIX, length)) => variable(path, at, plain, length, big, wanted, limit)?,
                    Some(_) => None,
                    None => return Err(damaged(at, "an element that ends within its head")),
                }
            }
            MATRIX => variable(path, at, &mut element, length, big, wanted, limit)?,
            _ => None,
        };
        found.extend(variable);
        std::io::copy(&mut element, &mut std::io::sink())?;
        if element.limit() > 0 {
            return Err(damaged(at, "truncated: an element is longer than the file"));
        }
        at = at.saturating_add(8 + u64::from(length));
    }
}

/// Type and length of an element that is no short one.
fn whole_tag(tag: &[u8], big: bool) -> Option<(u32, u32)> {
    let tag: &[u8; 8] = tag.try_into().ok()?;
    let number = |at: usize| {
        let four = [tag[at], tag[at + 1], tag[at + 2], tag[at + 3]];
        if big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        }
    };
    Some((number(0), number(4)))
}

/// Reads an array of `length` bytes, if it has one of the wanted names.
fn variable(
    path: &Path,
    at: u64,
    mut element: impl Read,
    length: u32,
    big: bool,
    wanted: &[&str],
    limit: u64,
) -> Result<Option<Variable>, DataError> {
    let damaged = |what: String| DataError::damaged(path, at, what);
    let reading = |error: ReadError| match error {
        ReadError::NoRoom(room) => DataError::too_large(path, room),
        ReadError::Io(error) => damaged(format!("damaged compression ({error})")),
    };
    let length = u64::from(length);
    let mut bytes = Vec::new();
    memory::read_to_end(element.by_ref().take(length.min(DESCRIPTION)), u64::MAX, &mut bytes).map_err(reading)?;
    let mut cursor = Cursor {
        bytes: &bytes,
        at: 0,
        end: bytes.len(),
        big,
    };
    let name = description(&mut cursor)
        .ok_or_else(|| damaged("an array without a name".to_owned()))?
        .2;
    if !wanted.contains(&name.as_str()) {
        return Ok(None);
    }
    let rest = length - length.min(DESCRIPTION);
    memory::check_room(length.min(limit)).map_err(|room| reading(room.into()))?;
    // One byte more than there should be, so that its checksum is looked at and what follows is seen.
    let limit = limit.saturating_sub(bytes.len() as u64);
    memory::read_to_end(element.take(rest.saturating_add(1)), limit, &mut bytes).map_err(reading)?;
    if bytes.len() as u64 != length {
        let what = format!("`{name}` has {} bytes, and its head says {length}", bytes.len());
        return Err(damaged(what));
    }
    Ok(Some(Variable {
        path: path.to_owned(),
        name,
        big,
        bytes,
    }))
}

impl Variable {
    /// The array that it is.
    pub(crate) fn array(&self) -> Result<Array, DataError> {
        let mut cursor = Cursor {
            bytes: &self.bytes,
            at: 0,
            end: self.bytes.len(),
            big: self.big,
        };
        let what = || self.wrong("its elements do not fit into each other".to_owned());
        cursor.array(DEEPEST).ok_or_else(what)
    }

    /// An error about this variable.
    pub(crate) fn wrong(&self, what: String) -> DataError {
        DataError::damaged(&self.path, 0, format!("variable `{}`: {what}", self.name))
    }

    /// Bytes of an array of numbers.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// Whole numbers of an array, also where they are stored as floating-point ones.
    pub(crate) fn whole_numbers(&self, array: &Array) -> Option<Vec<i64>> {
        let Values::Numbers(kind, range) = &array.values else {
            return None;
        };
        let number = |item: &[u8]| {
            let mut wide = [0; 8];
            wide[..item.len()].copy_from_slice(item);
            if self.big {
                wide[..item.len()].reverse();
            }
            let whole = |value: f64| (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64);
            let bits = u64::from_le_bytes(wide);
            match kind {
                Number::Signed(size) => {
                    let unused = 64 - 8 * *size as u32;
                    Some(bits.cast_signed() << unused >> unused)
                }
                Number::Unsigned(_) => i64::try_from(bits).ok(),
                Number::Single => whole(f64::from(f32::from_bits(bits as u32))),
                Number::Double => whole(f64::from_bits(bits)),
            }
        };
        self.bytes(range).chunks_exact(kind.size()).map(number).collect()
    }
}

/// Reads on in the bytes of a variable.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    big: bool,
}

impl Cursor<'_> {
    fn number(&self, at: usize) -> Option<u32> {
        let four: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        })
    }

    /// Type and place of the next element, which is stepped over.
    fn element(&mut self) -> Option<(u32, Range<usize>)> {
        let first = self.number(self.at)?;
        let (kind, range, next) = if first >> 16 == 0 {
            let length = self.number(self.at + 4)? as usize;
            let start = self.at + 8;
            let end = start.checked_add(length)?;
            (first, start..end, end.checked_next_multiple_of(8)?)
        } else {
            // Up to four bytes share the eight of the head.
            let length = (first >> 16) as usize;
            if length > 4 {
                return None;
            }
            (first & 0xffff, self.at + 4..self.at + 4 + length, self.at + 8)
        };
        if range.end > self.end {
            return None;
        }
        // The last one need not be filled up.
        self.at = next.min(self.end);
        Some((kind, range))
    }

    /// The numbers of an element, of which there are `at_most`.
    fn integers(&mut self, at_most: usize) -> Option<Vec<u32>> {
        let (_, range) = self.element()?;
        if range.len() > 4 * at_most {
            return None;
        }
        range.step_by(4).map(|at| self.number(at)).collect()
    }

    /// An array whose content is what is left up to the end.
    fn array(&mut self, depth: usize) -> Option<Array> {
        let nothing = |values: Values| Array {
            dims: vec![0, 0],
            values,
        };
        if self.at == self.end {
            return Some(nothing(Values::Other));
        }
        let (class, dims, _) = description(self)?;
        let count = dims.iter().try_fold(1usize, |all, n| all.checked_mul(*n))?;
        let values = match class {
            1 => Values::Cells(self.arrays(count, depth)?),
            2 => {
                let length = *self.integers(1)?.first()? as usize;
                let (_, names) = self.element()?;
                if length == 0 && !names.is_empty() {
                    return None;
                }
                let names: Vec<String> = self.bytes[names].chunks(length.max(1)).map(text).collect();
                let arrays = self.arrays(count.checked_mul(names.len())?, depth)?;
                Values::Structs(names, arrays)
            }
            4 => {
                let (kind, range) = self.element()?;
                Values::Text(self.characters(kind, range)?)
            }
            6..=15 => {
                let (kind, range) = self.element()?;
                let kind = Number::of(kind)?;
                if count.checked_mul(kind.size())? != range.len() {
                    return None;
                }
                Values::Numbers(kind, range)
            }
            _ => Values::Other,
        };
        Some(Array { dims, values })
    }

    /// Arrays that lie one after the other.
    fn arrays(&mut self, count: usize, depth: usize) -> Option<Vec<Array>> {
        let depth = depth.checked_sub(1)?;
        // Each takes eight bytes at least.
        if count > self.end.saturating_sub(self.at) / 8 {
            return None;
        }
        let mut arrays = Vec::new();
        for _ in 0..count {
            let (kind, range) = self.element()?;
            if kind != MATRIX {
                return None;
            }
            let mut inner = Cursor {
                at: range.start,
                end: range.end,
                ..*self
            };
            arrays.push(inner.array(depth)?);
        }
        Some(arrays)
    }

    fn characters(&self, kind: u32, range: Range<usize>) -> Option<String> {
        let bytes = &self.bytes[range];
        match kind {
            1 | 2 | 16 => Some(String::from_utf8_lossy(bytes).into_owned()),
            4 | 17 => {
                let unit = |two: &[u8]| match self.big {
                    true => u16::from_be_bytes([two[0], two[1]]),
                    false => u16::from_le_bytes([two[0], two[1]]),
                };
                let units: Vec<u16> = bytes.chunks_exact(2).map(unit).collect();
                Some(String::from_utf16_lossy(&units))
            }
            _ => None,
        }
    }
}

/// Class, dimensions and name of an array.
fn description(cursor: &mut Cursor<'_>) -> Option<(u32, Vec<usize>, String)> {
    let flags = *cursor.integers(2)?.first()?;
    let dims = cursor.integers(32)?.into_iter().map(|n| n as usize).collect();
    let (_, name) = cursor.element()?;
    Some((flags & 0xff, dims, text(&cursor.bytes[name])))
}

/// Text up to the first zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element in the order of bytes of Motorola's machines.
    fn element(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut out = [kind.to_be_bytes(), (content.len() as u32).to_be_bytes()].concat();
        out.extend(content);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    fn file(class: u8, values: &[u8]) -> Vec<u8> {
        let mut out = vec![b' '; HEADER];
        out[124..].copy_from_slice(b"\x01\x00MI");
        let flags = element(6, &[0, 0, 0, class, 0, 0, 0, 0]);
        let dims = element(5, &[0, 0, 0, 1, 0, 0, 0, 2]);
        // A name of up to four letters lies within its element's head.
        let name = [0, 1, 0, 1, b'y', 0, 0, 0].to_vec();
        out.extend(element(MATRIX, &[flags, dims, name, values.to_vec()].concat()));
        out
    }

    fn numbers(bytes: &[u8]) -> Option<Vec<i64>> {
        let variables = read(Path::new("a.mat"), bytes, &["y"], u64::MAX).ok()?;
        let variable = variables.first()?;
        variable.whole_numbers(&variable.array().ok()?)
    }

    #[test]
    fn both_orders_of_bytes_and_short_elements() {
        let doubles = [(-2f64).to_be_bytes(), 7f64.to_be_bytes()].concat();
        assert_eq!(numbers(&file(6, &element(9, &doubles))), Some(vec![-2, 7]));
        // Doubles that are stored as short whole numbers.
        assert_eq!(numbers(&file(6, &[0, 4, 0, 3, 0xff, 0xfe, 0, 9])), Some(vec![-2, 9]));
        assert_eq!(numbers(&file(6, &element(9, &doubles[..8]))), None);
        assert_eq!(
            numbers(&file(6, &element(9, &[0.5f64.to_be_bytes(); 2].concat()))),
            None
        );
    }

    #[test]
    fn what_is_no_such_file_is_told() {
        let message = |bytes: &[u8]| {
            let found = read(Path::new("a.mat"), bytes, &["y"], u64::MAX);
            found.map(|_| ()).expect_err("refused").to_string()
        };
        assert!(message(b"MATLAB 7.3 MAT-file, Platform").contains("-v7"));
        assert!(message(&[b'x'; 400]).contains("no .mat file"));
        let sound = file(6, &element(9, &[0; 16]));
        assert!(message(&sound[..sound.len() - 1]).contains("a.mat"));
        // Cells within cells, deeper than any data set has them.
        let mut deep = element(9, &[]);
        for _ in 0..200 {
            let flags = element(6, &[0, 0, 0, 1, 0, 0, 0, 0]);
            let dims = element(5, &[0, 0, 0, 1, 0, 0, 0, 1]);
            deep = element(MATRIX, &[flags, dims, element(1, b"y"), deep].concat());
        }
        let bytes = [&file(6, &[])[..HEADER], &deep].concat();
        assert_eq!(numbers(&bytes), None);
    }
}
