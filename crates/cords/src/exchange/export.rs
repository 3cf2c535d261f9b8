//! Weights into files that the published PyTorch class loads with `strict=True`.
//!
//! A `.pth` is a zip archive of stored (not compressed) entries: a pickle of an ordered dict of tensors, in opcodes of
//! protocol 2, and the bytes of each tensor. The same model gives the same bytes.

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::net::Model;

/// A file format of PyTorch's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A zip archive, as `torch.save` writes it.
    Pth,
    /// A safetensors file, as `safetensors.torch.save_file` writes it.
    Safetensors,
}

/// Alignment of a tensor's bytes in a `.pth`, so that PyTorch can map the file.
const ALIGNMENT: u16 = 64;

/// One tensor as it is written.
struct Stored<'a> {
    name: String,
    shape: &'a [usize],
    bytes: Vec<u8>,
    integer: bool,
}

/// Writes [`to_bytes`] into a file, which appears whole or not at all.
///
/// # Errors
/// Where writing fails.
pub fn export(model: &Model, format: Format, path: &Path) -> std::io::Result<()> {
    dynvis_base::files::persist(path, &to_bytes(model, format)?)
}

/// A file's bytes: parameters under the published names in the published order, and for a CNN the batch counters that
/// PyTorch's batch norm expects.
///
/// # Errors
/// Where an archive or header cannot be made; memory and sizes apart, that does not happen.
pub fn to_bytes(model: &Model, format: Format) -> std::io::Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, tensor) in model.parameters().iter() {
        tensors.push(Stored {
            name: name.to_owned(),
            shape: &tensor.shape,
            bytes: tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            integer: false,
        });
        if let Some(norm) = name.strip_suffix(".running_var") {
            tensors.push(Stored {
                name: format!("{norm}.num_batches_tracked"),
                shape: &[],
                bytes: 0i64.to_le_bytes().to_vec(),
                integer: true,
            });
        }
    }
    match format {
        Format::Safetensors => safetensors_bytes(&tensors),
        Format::Pth => pth_bytes(&tensors),
    }
}

fn safetensors_bytes(tensors: &[Stored<'_>]) -> std::io::Result<Vec<u8>> {
    let views = tensors
        .iter()
        .map(|tensor| {
            let number = if tensor.integer { Dtype::I64 } else { Dtype::F32 };
            Ok((
                tensor.name.as_str(),
                TensorView::new(number, tensor.shape.to_vec(), &tensor.bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(std::io::Error::other)
}

fn pth_bytes(tensors: &[Stored<'_>]) -> std::io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut add = |name: &str, bytes: &[u8], options| {
        archive.start_file(format!("model/{name}"), options)?;
        archive.write_all(bytes)
    };
    add("data.pkl", &pickle(tensors), options)?;
    add("byteorder", b"little", options)?;
    for (key, tensor) in tensors.iter().enumerate() {
        add(&format!("data/{key}"), &tensor.bytes, options.with_alignment(ALIGNMENT))?;
    }
    add("version", b"3\n", options)?;
    Ok(archive.finish()?.into_inner())
}

/// The opcodes of `OrderedDict` with one `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())` a name.
fn pickle(tensors: &[Stored<'_>]) -> Vec<u8> {
    let mut out = b"\x80\x02".to_vec();
    empty_ordered_dict(&mut out);
    out.push(b'(');
    for (key, tensor) in tensors.iter().enumerate() {
        text(&mut out, &tensor.name);
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.extend(b"((");
        text(&mut out, "storage");
        global(
            &mut out,
            "torch",
            if tensor.integer { "LongStorage" } else { "FloatStorage" },
        );
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.shape.iter().product());
        out.extend(b"tQ");
        integer(&mut out, 0);
        integers(&mut out, tensor.shape);
        let stride = |axis: usize| tensor.shape[axis + 1..].iter().product();
        integers(&mut out, &(0..tensor.shape.len()).map(stride).collect::<Vec<_>>());
        out.push(0x89);
        empty_ordered_dict(&mut out);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    out
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").bytes());
}

fn empty_ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend(b")R");
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn integer(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(small) => {
            out.push(b'J');
            out.extend(small.to_le_bytes());
        }
        // LONG1 with nine bytes, the last one for the sign.
        Err(_) => {
            out.extend([0x8a, 9]);
            out.extend((value as u64).to_le_bytes());
            out.push(0);
        }
    }
}

fn integers(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    for value in values {
        integer(out, *value);
    }
    out.push(b't');
}
