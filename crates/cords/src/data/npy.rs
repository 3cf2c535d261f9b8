//! NumPy arrays in files (`.npy`, versions 1 to 3 of the format), read in place: a few values at a time, however large
//! the array is.

use super::DataError;
use super::archive::read_exact;
use dynvis_base::guard::guard;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, TypeStr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a header at most. It holds a type and a shape; numpy itself refuses longer ones than 10,000.
const LONGEST_HEADER: u64 = 1 << 16;

/// An array whose values lie in a file one after the other, the last axis fastest.
#[derive(Debug)]
pub(crate) struct NpyFile {
    path: PathBuf,
    file: File,
    /// Bytes before the first value.
    start: u64,
    shape: Vec<usize>,
    kind: TypeStr,
    /// Bytes of a value.
    size: usize,
}

impl NpyFile {
    /// Opens an array: reads its header, and holds the file's length against it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let file = dynvis_base::files::open(path)?;
        let length = file.metadata()?.len();
        Self::within(path, file.into_file(), 0, length)
    }

    /// Opens the array that is `length` bytes of a file from `begin` on, such as a member of an archive; `path` is what
    /// messages call it.
    pub(crate) fn within(path: &Path, mut file: File, begin: u64, length: u64) -> Result<Self, DataError> {
        let damaged = |offset: u64, what: String| DataError::damaged(path, offset, what);
        file.seek(SeekFrom::Start(begin))?;
        check_header(path, &mut file)?;
        file.seek(SeekFrom::Start(begin))?;
        let header = guard(|| NpyHeader::from_reader((&mut file).take(length)))
            .map_err(|panicked| DataError::panicked(path, &panicked))?;
        let header = header.map_err(|error| damaged(0, format!("not a NumPy array ({error})")))?;
        let start = file.stream_position()?;
        let DType::Plain(kind) = header.dtype() else {
            return Err(damaged(
                0,
                "a structured array; one of plain numbers is needed".to_owned(),
            ));
        };
        let shape = header.shape().iter().map(|n| usize::try_from(*n));
        let shape: Vec<usize> = shape
            .collect::<Result<_, _>>()
            .map_err(|_| damaged(0, format!("an array of impossible shape {:?}", header.shape())))?;
        if header.order() == Order::Fortran && shape.iter().filter(|n| **n > 1).count() > 1 {
            return Err(damaged(
                0,
                "an array in Fortran's order; save it again in C's (numpy.ascontiguousarray)".to_owned(),
            ));
        }
        let size = kind.num_bytes().filter(|size| *size > 0);
        let bytes = size.and_then(|size| shape.iter().try_fold(size, |all, n| all.checked_mul(*n)));
        let (Some(size), Some(bytes)) = (size, bytes) else {
            return Err(damaged(
                0,
                format!("an array of impossible shape {shape:?} of type {kind}"),
            ));
        };
        let found = length;
        let expected = (start - begin).saturating_add(bytes as u64);
        if found != expected {
            let what = if found < expected { "truncated" } else { "too long" };
            return Err(damaged(
                found.min(expected),
                format!("{what}: {found} bytes, but an array of shape {shape:?} and type {kind} takes {expected}"),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            start,
            shape,
            kind,
            size,
        })
    }

    /// Extent of every axis.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of its values as numpy writes it, such as `|u1`.
    pub(crate) fn kind(&self) -> String {
        self.kind.to_string()
    }

    /// Whether its values are bytes, levels from 0 to 255.
    pub(crate) fn has_levels(&self) -> bool {
        (self.kind.type_char(), self.size) == (TypeChar::Uint, 1)
    }

    /// Reads bytes of an array of levels from the value at `first` on, in the order of the file, until `out` is full.
    pub(crate) fn levels(&self, first: usize, out: &mut [u8]) -> Result<(), DataError> {
        self.read((first * self.size) as u64, out)
    }

    /// All values of an array of whole numbers.
    pub(crate) fn whole_numbers(&self) -> Result<Vec<i64>, DataError> {
        let signed = match self.kind.type_char() {
            TypeChar::Int => true,
            TypeChar::Uint => false,
            _ => {
                let what = format!("values of type {}; whole numbers are needed", self.kind);
                return Err(DataError::damaged(&self.path, 0, what));
            }
        };
        let bytes = self.size * self.shape.iter().product::<usize>();
        // As they lie in the file, and as numbers.
        dynvis_base::memory::check_room((bytes as u64).saturating_mul(9))
            .map_err(|room| DataError::too_large(&self.path, room))?;
        let mut raw = vec![0; bytes];
        self.read(0, &mut raw)?;
        let big = self.kind.endianness() == Endianness::Big;
        let whole = |item: &[u8]| -> Option<i64> {
            let mut wide = [0; 8];
            wide.get_mut(..item.len())?.copy_from_slice(item);
            if big {
                wide[..item.len()].reverse();
            }
            let value = i64::from_le_bytes(wide);
            let unused = 64 - 8 * item.len() as u32;
            Some(if signed { value << unused >> unused } else { value })
        };
        let all = raw.chunks_exact(self.size).map(whole).collect::<Option<Vec<i64>>>();
        all.ok_or_else(|| DataError::damaged(&self.path, 0, format!("numbers of {} bytes", self.size)))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), DataError> {
        let at = self.start + offset;
        read_exact(&self.path, &self.file, at, out)
    }
}

/// That a header is no longer than headers are, as it is read whole, and no more nested than that of an array is: its
/// parser calls itself for every bracket.
fn check_header(path: &Path, file: &mut File) -> Result<(), DataError> {
    const DEEPEST: usize = 16;
    let mut head = Vec::new();
    file.by_ref().take(12).read_to_end(&mut head)?;
    if !head.starts_with(b"\x93NUMPY") || head.len() < 12 {
        return Ok(());
    }
    let (length, before) = match head[6] {
        1 => (u64::from(u16::from_le_bytes([head[8], head[9]])), 10),
        _ => (
            u64::from(u32::from_le_bytes([head[8], head[9], head[10], head[11]])),
            12,
        ),
    };
    if length > LONGEST_HEADER {
        return Err(DataError::damaged(path, 8, format!("a header of {length} bytes")));
    }
    file.take(length).read_to_end(&mut head)?;
    let brackets = head[before..].iter().filter(|byte| b"([{".contains(byte)).count();
    if brackets > DEEPEST {
        let what = "a header that is none of a plain array; one of plain numbers is needed";
        return Err(DataError::damaged(path, before as u64, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in version 1 of the format.
    fn npy(descr: &str, fortran: bool, shape: &str, values: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(values);
        out
    }

    fn opened(bytes: &[u8]) -> Result<NpyFile, DataError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).expect("written");
        NpyFile::open(&path)
    }

    #[test]
    fn values_are_read_where_they_lie() {
        let array = opened(&npy("|u1", false, "(3, 2, 2)", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).expect("an array");
        assert_eq!((array.shape(), array.has_levels()), (&[3, 2, 2][..], true));
        let mut out = [0; 4];
        array.levels(4, &mut out).expect("in the file");
        assert_eq!(out, [4, 5, 6, 7]);
        assert!(array.levels(10, &mut out).is_err(), "beyond the end");
        // Of one axis there is one order.
        let array = opened(&npy("|u1", true, "(2,)", &[7, 200])).expect("an array");
        assert_eq!(array.whole_numbers().expect("numbers"), [7, 200]);
    }

    #[test]
    fn whole_numbers_of_every_type() {
        for (descr, bytes) in [
            ("|i1", vec![0xFE, 3]),
            ("<i2", vec![0xFE, 0xFF, 3, 0]),
            (">i2", vec![0xFF, 0xFE, 0, 3]),
            ("<i8", [(-2i64).to_le_bytes(), 3i64.to_le_bytes()].concat()),
            (">i4", [(-2i32).to_be_bytes(), 3i32.to_be_bytes()].concat()),
        ] {
            let array = opened(&npy(descr, false, "(2,)", &bytes)).expect("an array");
            assert_eq!(array.whole_numbers().expect("numbers"), [-2, 3], "{descr}");
        }
        let array = opened(&npy("<f4", false, "(1,)", &1f32.to_le_bytes())).expect("an array");
        let error = array.whole_numbers().expect_err("no whole numbers").to_string();
        assert!(error.contains("whole numbers are needed"), "{error}");
    }

    #[test]
    fn what_is_damaged_is_told() {
        let good = npy("|u1", false, "(3, 2)", &[0; 6]);
        let error = |bytes: &[u8]| opened(bytes).expect_err("damaged").to_string();
        for (bytes, what) in [
            (good[..good.len() - 1].to_vec(), "truncated: 133 bytes"),
            ([good.as_slice(), &[0]].concat(), "too long"),
            (good[..20].to_vec(), "not a NumPy array"),
            (Vec::new(), "not a NumPy array"),
            (b"PK\x03\x04 and more than twelve bytes".to_vec(), "not a NumPy array"),
            (npy("|u1", true, "(3, 2)", &[0; 6]), "Fortran's order"),
            (npy("<i8", false, "(9999999999, 1000000000)", &[]), "impossible shape"),
            (
                b"\x93NUMPY\x02\x00\xff\xff\xff\xff and more".to_vec(),
                "a header of 4294967295 bytes",
            ),
            (npy("|u1", false, &"(".repeat(20_000), &[]), "none of a plain array"),
        ] {
            let error = error(&bytes);
            assert!(error.contains(what) && error.contains("a.npy"), "{what}: {error}");
        }
    }
}
