//! Weights in and out of files that PyTorch writes and reads: `.pth` and `.safetensors` under the published names.
//!
//! Nothing in a file is ever executed: a `.pth` may hold tensors and ordered dicts alone, and what else its pickle asks
//! for is refused by name. Sizes are inferred from shapes, and everything that does not fit is reported at once.

mod error;
mod export;
mod import;
mod pickle;
mod pth;

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

pub use error::{ExchangeError, Misshapen, Report};
pub use export::{Format, export, to_bytes};
pub use import::{ImportOptions, import};

/// One entry of a file of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, without a `module.` in front.
    pub name: String,
    /// Extent of every axis.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Values,
}

/// Values of an entry in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floating-point numbers of any width, rounded to f32.
    Float(Vec<f32>),
    /// Anything else: the name of the number type alone.
    Other(String),
}

/// Prefix that PyTorch's data-parallel wrapper puts before every name.
const WRAPPER: &str = "module.";

/// All entries of a `.pth` (zip, as `torch.save` writes since PyTorch 1.6) or `.safetensors` file, sorted by name. The
/// file's first bytes tell which it is.
///
/// # Errors
/// [`ExchangeError`] where the file cannot be read, is of another format, asks for something that is neither a tensor nor
/// an ordered dict, or holds two entries of one name.
pub fn read(path: &Path) -> Result<Vec<Entry>, ExchangeError> {
    let mut entries = match sniff(path)? {
        Kind::Zip => pth::read(path)?,
        Kind::Safetensors => read_safetensors(path)?,
        Kind::Legacy => return Err(ExchangeError::Legacy { path: path.to_owned() }),
        Kind::Unknown => {
            return Err(ExchangeError::file(
                path,
                "neither a .pth (a zip archive) nor a .safetensors file",
            ));
        }
    };
    for entry in &mut entries {
        if let Some(name) = entry.name.strip_prefix(WRAPPER) {
            entry.name = name.to_owned();
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        None => Ok(entries),
        Some(pair) => Err(ExchangeError::file(
            path,
            format!("`{}` stands twice, with and without `{WRAPPER}`", pair[0].name),
        )),
    }
}

enum Kind {
    Zip,
    Safetensors,
    Legacy,
    Unknown,
}

fn sniff(path: &Path) -> Result<Kind, ExchangeError> {
    use std::io::Read;
    let mut head = Vec::new();
    crate::files::open(path)?.take(512).read_to_end(&mut head)?;
    // A pickle stream (PyTorch 0.1.10 to 1.5) starts with a protocol opcode, the tar archive before that has its mark at 257.
    let tar = head.get(257..262) == Some(b"ustar");
    Ok(if head.starts_with(b"PK\x03\x04") {
        Kind::Zip
    } else if head.get(8) == Some(&b'{') {
        Kind::Safetensors
    } else if tar || matches!(head.get(..2), Some([0x80, 1..=5])) {
        Kind::Legacy
    } else {
        Kind::Unknown
    })
}

fn read_safetensors(path: &Path) -> Result<Vec<Entry>, ExchangeError> {
    let bytes = crate::files::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| ExchangeError::file(path, error.to_string()))?;
    let entry = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| Entry {
        name: name.to_owned(),
        shape: view.shape().to_vec(),
        values: match view.dtype() {
            Dtype::F32 => floats(view.data(), f32::from_le_bytes),
            Dtype::F64 => floats(view.data(), |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F16 => floats(view.data(), |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => floats(view.data(), |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            other => Values::Other(format!("{other:?}")),
        },
    };
    let mut entries: Vec<Entry> = tensors.iter().map(entry).collect();
    // The reader's own order is another one every time.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Numbers of N bytes each.
fn floats<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Values {
    Values::Float(bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect())
}
