//! `.pth` files: the zip archive that `torch.save` has written since PyTorch 1.6, and the stream of pickles of before.
//!
//! The pickle is first looked through for names that tensors and plain values do not need; only then is it read.

use std::io::Read;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchReader};
use zip::ZipArchive;

use super::pickle::foreign_names;
use super::{Entry, ExchangeError, Values, check_room, floats};
use dynvis_base::guard::guard;

/// Largest pickle that is looked at. That of a network of 50 tensors has 10 kB.
const LARGEST_PICKLE: u64 = 16 << 20;

/// Opens a file; with it come path and type of what in it is no tensor.
pub(super) fn open(path: &Path, zip: bool) -> Result<(PytorchReader, Vec<(String, String)>), ExchangeError> {
    let wrong = |reason: String| ExchangeError::file(path, reason);
    let names = if zip {
        foreign_names(&pickle(path)?).map(|(names, _)| names)
    } else {
        names_in_stream(path)?
    };
    let names = names.ok_or_else(|| wrong("its pickle is truncated".to_owned()))?;
    if !names.is_empty() {
        return Err(ExchangeError::Refused {
            path: path.to_owned(),
            names,
        });
    }
    let read = || Ok((PytorchReader::new(path)?, PytorchReader::read_pickle_data(path, None)?));
    let (reader, root) = guard(read)
        .map_err(|panicked| wrong(panicked.to_string()))?
        .map_err(|error: pytorch_reader::PytorchError| wrong(error.to_string()))?;
    let mut others = Vec::new();
    find_values(&root, String::new(), &reader, &mut others);
    others.sort();
    Ok((reader, others))
}

/// The entries of (new name, name in the file).
pub(super) fn load(
    path: &Path,
    reader: &PytorchReader,
    chosen: Vec<(String, String)>,
) -> Result<Vec<Entry>, ExchangeError> {
    let wrong = |reason: String| ExchangeError::file(path, reason);
    let bytes = chosen
        .iter()
        .filter_map(|(_, stored)| Some(reader.get(stored)?.byte_len() as u64));
    // The bytes themselves, and as float32.
    check_room(path, bytes.fold(0, u64::saturating_add).saturating_mul(2))?;
    let entry = |(name, stored): (String, String)| {
        let tensor = reader
            .get(&stored)
            .ok_or_else(|| wrong(format!("`{stored}` is gone")))?;
        let bytes = guard(|| tensor.read())
            .map_err(|panicked| wrong(panicked.to_string()))?
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Entry {
            name,
            shape: tensor.shape().to_vec(),
            values: match tensor.dtype() {
                DType::F32 => floats(&bytes, f32::from_ne_bytes),
                DType::F64 => floats(&bytes, |bytes| f64::from_ne_bytes(bytes) as f32),
                DType::F16 => floats(&bytes, |bytes| half::f16::from_ne_bytes(bytes).to_f32()),
                DType::BF16 => floats(&bytes, |bytes| half::bf16::from_ne_bytes(bytes).to_f32()),
                other => Values::Other(format!("{other:?}")),
            },
        })
    };
    chosen.into_iter().map(entry).collect()
}

/// Foreign names in the five pickles before the tensors' bytes: a number that marks the format, its version, the
/// machine, what was saved, and the order of the bytes. `None` where one is cut short.
fn names_in_stream(path: &Path) -> Result<Option<Vec<String>>, ExchangeError> {
    let mut bytes = Vec::new();
    dynvis_base::files::open(path)?
        .take(LARGEST_PICKLE)
        .read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    for _ in 0..5 {
        let Some((names, after)) = foreign_names(rest) else {
            return Ok(None);
        };
        all.extend(names);
        // What follows an opcode that is not known cannot be told apart.
        if !all.is_empty() {
            break;
        }
        rest = after;
    }
    Ok(Some(all))
}

/// Bytes of the pickle in the archive of a `.pth`.
fn pickle(path: &Path) -> Result<Vec<u8>, ExchangeError> {
    let wrong = |reason: String| ExchangeError::file(path, reason);
    let mut archive = ZipArchive::new(dynvis_base::files::open(path)?).map_err(|error| wrong(error.to_string()))?;
    let pickles: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .filter(|name| name == "data.pkl" || name.ends_with("/data.pkl"))
        .collect();
    let [name] = pickles.as_slice() else {
        return Err(wrong(format!(
            "a zip archive with {} entries called data.pkl; a .pth has one",
            pickles.len()
        )));
    };
    // An archive that somebody compressed may unpack to far more than it is.
    for index in 0..archive.len() {
        let size = archive
            .by_index_raw(index)
            .map_err(|error| wrong(error.to_string()))?
            .size();
        check_room(path, size)?;
    }
    let entry = archive.by_name(name).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::new();
    entry.take(LARGEST_PICKLE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_PICKLE {
        return Err(wrong(format!("its pickle has more than {LARGEST_PICKLE} bytes")));
    }
    Ok(bytes)
}

/// Path and type of entries that are neither tensors nor dicts. What a `state_dict()` says about its own versions is
/// left out.
fn find_values(value: &PickleValue, path: String, reader: &PytorchReader, other: &mut Vec<(String, String)>) {
    let kind = match value {
        PickleValue::Dict(entries) => {
            for (name, value) in entries {
                if name == "_metadata" {
                    continue;
                }
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                find_values(value, path, reader, other);
            }
            return;
        }
        _ if reader.get(&path).is_some() => return,
        PickleValue::Unsupported(class) => class,
        PickleValue::None => "None",
        PickleValue::Bool(_) => "bool",
        PickleValue::Int(_) => "int",
        PickleValue::Float(_) => "float",
        PickleValue::String(_) => "str",
        PickleValue::Bytes(_) => "bytes",
        PickleValue::List(_) => "list or tuple",
    };
    other.push((path, kind.to_owned()));
}
