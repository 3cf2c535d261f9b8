//! Recordings in a NumPy archive (`numpy.savez`, compressed or not): `responses` `[presentation, neuron, bin]`, or
//! `[stimulus, repetition, neuron, bin]`, beside arrays under the names of a Brain-Score assembly's coordinates.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use zip::ZipArchive;

use super::Recordings;
use super::assembly::{Array, Axis, Values, VariableFile, assemble, guarded, variable};
use crate::neural::NeuralError;
use dynvis_base::memory;

struct Archive {
    path: PathBuf,
    zip: RefCell<ZipArchive<fs_err::File>>,
}

impl Recordings {
    /// Reads an archive. `wanted` names the array of responses, which is `responses` if not given.
    ///
    /// # Errors
    /// [`NeuralError::File`] where the file is no archive or needs more memory than there is, [`NeuralError::Variable`]
    /// with the array that is missing, damaged or of the wrong shape or type, [`NeuralError::Recordings`] where the
    /// arrays contradict each other, [`NeuralError::Io`] where reading fails.
    pub fn from_npz(path: &Path, wanted: Option<&str>) -> Result<Self, NeuralError> {
        guarded(path, || {
            let zip = ZipArchive::new(dynvis_base::files::open(path)?).map_err(|error| NeuralError::File {
                path: path.to_owned(),
                problem: format!("is not an archive of numpy.savez: {error}"),
            })?;
            let archive = Archive {
                path: path.to_owned(),
                zip: RefCell::new(zip),
            };
            let name = wanted.unwrap_or("responses");
            let wrong = |problem: String| variable(path, name, &problem);
            let (values, shape) = archive.array(name).map_err(wrong)?;
            let values = values.into_numbers().ok_or_else(|| wrong("is text".to_owned()))?;
            let axes = match shape.len() {
                2 => vec![Axis::Presentation, Axis::Neuron],
                3 => vec![Axis::Presentation, Axis::Neuron, Axis::Bin],
                4 => vec![Axis::Presentation, Axis::Repetition, Axis::Neuron, Axis::Bin],
                _ => {
                    return Err(wrong(format!(
                        "has shape {shape:?}, not [presentation, neuron, bin] or [stimulus, repetition, neuron, bin]"
                    )));
                }
            };
            let array = Array {
                variable: name.to_owned(),
                values,
                shape,
                axes,
            };
            assemble(&archive, &array)
        })
    }
}

impl VariableFile for Archive {
    fn path(&self) -> &Path {
        &self.path
    }

    fn has(&self, name: &str) -> bool {
        self.zip.borrow().index_for_name(&format!("{name}.npy")).is_some()
    }

    fn read(&self, name: &str) -> Result<Values, String> {
        Ok(self.array(name)?.0)
    }
}

impl Archive {
    /// Values in row order, and the shape.
    fn array(&self, name: &str) -> Result<(Values, Vec<usize>), String> {
        let mut zip = self.zip.borrow_mut();
        let names = || {
            let arrays = zip
                .file_names()
                .flatten()
                .map(|name| name.trim_end_matches(".npy").to_owned());
            arrays.collect::<Vec<_>>().join(", ")
        };
        if zip.index_for_name(&format!("{name}.npy")).is_none() {
            return Err(format!("cannot be found; the archive has {}", names()));
        }
        let mut entry = zip
            .by_name(&format!("{name}.npy"))
            .map_err(|error| format!("cannot be read: {error}"))?;
        let header = NpyHeader::from_reader(&mut entry).map_err(|error| format!("is not a NumPy array: {error}"))?;
        let DType::Plain(kind) = header.dtype() else {
            return Err("is a structured array; save one plain array a name".to_owned());
        };
        let shape: Vec<usize> = header.shape().iter().map(|n| *n as usize).collect();
        let size = kind.num_bytes().ok_or("has values of unknown size")?;
        let count = shape
            .iter()
            .try_fold(1usize, |all, n| all.checked_mul(*n))
            .ok_or("has an impossible shape")?;
        // As it is stored, as numbers, and in the order of stimuli.
        let expected = count.checked_mul(size).ok_or("has an impossible shape")? as u64;
        memory::check_room(expected.saturating_add((count as u64).saturating_mul(5 * 8))).map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        memory::read_to_end(&mut entry, expected.saturating_add(1 << 16), &mut bytes)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if size == 0 || Some(bytes.len()) != count.checked_mul(size) {
            return Err(format!(
                "holds {} bytes, shape {shape:?} needs {count} x {size}",
                bytes.len()
            ));
        }
        let big = kind.endianness() == Endianness::Big;
        let items = bytes.chunks_exact(size);
        let values = match kind.type_char() {
            TypeChar::UnicodeStr => Values::Text(items.map(|item| unicode(item, big)).collect::<Result<_, _>>()?),
            TypeChar::ByteStr => {
                let text = |item: &[u8]| String::from_utf8_lossy(item).trim_end_matches('\0').to_owned();
                Values::Text(items.map(text).collect())
            }
            TypeChar::Object => return Err("is an array of Python objects; save it with a dtype of its own".to_owned()),
            kind @ (TypeChar::Int | TypeChar::Uint) if size == 8 => {
                let (words, _) = bytes.as_chunks::<8>();
                let whole = |word: &[u8; 8]| {
                    let word = if big {
                        u64::from_be_bytes(*word)
                    } else {
                        u64::from_le_bytes(*word)
                    };
                    let signed = kind == TypeChar::Int;
                    Some(if signed {
                        i128::from(word as i64)
                    } else {
                        i128::from(word)
                    })
                };
                Values::Whole(words.iter().map(whole).collect())
            }
            kind => Values::Numbers(items.map(|item| number(item, &kind, big)).collect::<Result<_, _>>()?),
        };
        let values = if header.order() == Order::Fortran {
            by_rows(values, &shape)
        } else {
            values
        };
        Ok((values, shape))
    }
}

/// UCS-4 text, padded with zeros.
fn unicode(item: &[u8], big: bool) -> Result<String, String> {
    let (words, _) = item.as_chunks::<4>();
    words
        .iter()
        .map(|word| {
            if big {
                u32::from_be_bytes(*word)
            } else {
                u32::from_le_bytes(*word)
            }
        })
        .filter(|word| *word != 0)
        .map(|word| char::from_u32(word).ok_or_else(|| format!("holds {word:#x}, which is not a character")))
        .collect()
}

fn number(item: &[u8], kind: &TypeChar, big: bool) -> Result<f64, String> {
    let mut item = item.to_vec();
    if big {
        item.reverse();
    }
    macro_rules! as_number {
        ($type:ty) => {
            item.as_slice()
                .try_into()
                .map(<$type>::from_le_bytes)
                .ok()
                .map(|v| v as f64)
        };
    }
    let value = match (kind, item.len()) {
        (TypeChar::Float, 8) => as_number!(f64),
        (TypeChar::Float, 4) => as_number!(f32),
        (TypeChar::Float, 2) => item
            .as_slice()
            .try_into()
            .ok()
            .map(|b| half::f16::from_le_bytes(b).to_f64()),
        (TypeChar::Int, 8) => as_number!(i64),
        (TypeChar::Int, 4) => as_number!(i32),
        (TypeChar::Int, 2) => as_number!(i16),
        (TypeChar::Int, 1) => as_number!(i8),
        (TypeChar::Uint, 8) => as_number!(u64),
        (TypeChar::Uint, 4) => as_number!(u32),
        (TypeChar::Uint, 2) => as_number!(u16),
        (TypeChar::Uint | TypeChar::Bool, 1) => as_number!(u8),
        _ => None,
    };
    value.ok_or_else(|| {
        format!(
            "has values of type {}{}, which are not numbers",
            kind.to_str(),
            item.len()
        )
    })
}

/// Values of an array in Fortran's order, in that of C.
fn by_rows(values: Values, shape: &[usize]) -> Values {
    fn reorder<T: Clone>(values: &[T], shape: &[usize]) -> Vec<T> {
        let mut strides = vec![1; shape.len()];
        for i in 1..shape.len() {
            strides[i] = strides[i - 1] * shape[i - 1];
        }
        (0..values.len())
            .map(|mut place| {
                let mut from = 0;
                for (extent, stride) in shape.iter().zip(&strides).rev() {
                    from += place % extent * stride;
                    place /= extent;
                }
                values[from].clone()
            })
            .collect()
    }
    match values {
        Values::Text(values) => Values::Text(reorder(&values, shape)),
        Values::Numbers(values) => Values::Numbers(reorder(&values, shape)),
        Values::Whole(values) => Values::Whole(reorder(&values, shape)),
    }
}
