//! `.pth` files: the zip archive that `torch.save` has written since PyTorch 1.6.
//!
//! The pickle is first looked through for names that tensors do not need; only then is it read.

use std::io::Read;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchReader};
use zip::ZipArchive;

use super::pickle::foreign_names;
use super::{Entry, ExchangeError, Values, floats};

/// Largest pickle that is looked at. That of a network of 50 tensors has 10 kB.
const LARGEST_PICKLE: u64 = 16 << 20;

pub(super) fn read(path: &Path) -> Result<Vec<Entry>, ExchangeError> {
    let wrong = |reason: String| ExchangeError::file(path, reason);
    let names = foreign_names(&pickle(path)?).ok_or_else(|| wrong("its pickle is cut short".to_owned()))?;
    let refused = |names| ExchangeError::Refused {
        path: path.to_owned(),
        names,
    };
    if !names.is_empty() {
        return Err(refused(names));
    }
    let reader = PytorchReader::new(path).map_err(|error| wrong(error.to_string()))?;
    let root = PytorchReader::read_pickle_data(path, None).map_err(|error| wrong(error.to_string()))?;
    let mut other = Vec::new();
    find_values(&root, String::new(), &reader, &mut other);
    if !other.is_empty() {
        other.sort();
        return Err(refused(other));
    }
    reader
        .tensors()
        .values()
        .map(|tensor| {
            let bytes = tensor.read().map_err(|error| wrong(error.to_string()))?;
            Ok(Entry {
                name: tensor.name.clone(),
                shape: tensor.shape().to_vec(),
                values: match tensor.dtype() {
                    DType::F32 => floats(&bytes, f32::from_ne_bytes),
                    DType::F64 => floats(&bytes, |bytes| f64::from_ne_bytes(bytes) as f32),
                    DType::F16 => floats(&bytes, |bytes| half::f16::from_ne_bytes(bytes).to_f32()),
                    DType::BF16 => floats(&bytes, |bytes| half::bf16::from_ne_bytes(bytes).to_f32()),
                    other => Values::Other(format!("{other:?}")),
                },
            })
        })
        .collect()
}

/// The archive's pickle.
fn pickle(path: &Path) -> Result<Vec<u8>, ExchangeError> {
    let wrong = |reason: String| ExchangeError::file(path, reason);
    let mut archive = ZipArchive::new(crate::files::open(path)?).map_err(|error| wrong(error.to_string()))?;
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
    let entry = archive.by_name(name).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::new();
    entry.take(LARGEST_PICKLE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_PICKLE {
        return Err(wrong(format!("its pickle has more than {LARGEST_PICKLE} bytes")));
    }
    Ok(bytes)
}

/// Entries that are neither tensors nor dicts. What a `state_dict()` says about its own versions is passed over.
fn find_values(value: &PickleValue, path: String, reader: &PytorchReader, other: &mut Vec<String>) {
    match value {
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
        }
        _ if reader.get(&path).is_some() => {}
        PickleValue::Unsupported(class) => other.push(format!("`{path}` ({class})")),
        PickleValue::None => other.push(format!("`{path}` (None)")),
        PickleValue::Bool(_) => other.push(format!("`{path}` (bool)")),
        PickleValue::Int(_) => other.push(format!("`{path}` (int)")),
        PickleValue::Float(_) => other.push(format!("`{path}` (float)")),
        PickleValue::String(_) => other.push(format!("`{path}` (str)")),
        PickleValue::Bytes(_) => other.push(format!("`{path}` (bytes)")),
        PickleValue::List(_) => other.push(format!("`{path}` (list or tuple)")),
    }
}
