//! Weights in and out of files that PyTorch writes and reads: `.pth` and `.safetensors` under the published names.
//!
//! Nothing in a file is ever executed: a `.pth` may hold tensors, dicts and plain values, and what else its pickle asks
//! for is refused by name. The network is found wherever a checkpoint holds it; sizes are inferred from shapes, and
//! everything that does not fit is reported at once.

mod error;
mod export;
mod import;
mod pickle;
mod pth;

use std::path::Path;

use pytorch_reader::PytorchReader;
use safetensors::{Dtype, SafeTensors};

use dynvis_base::memory;

pub use error::{ExchangeError, Misshapen, Report};
pub use export::{Format, export, to_bytes};
pub use import::{ImportOptions, Imported, import, import_with_notes};

/// One entry of a file of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name of the tensor, without what PyTorch's wrappers put into it (`module.`, `_orig_mod.`).
    pub name: String,
    /// Extent of every axis.
    pub shape: Vec<usize>,
    /// Values in row-major order.
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

/// What the wrappers of PyTorch put into names: data-parallel ones `module`, `torch.compile` `_orig_mod`; at any depth.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// A name without what wrappers put into it.
fn unwrapped(name: &str) -> String {
    let parts = name.split('.').filter(|part| !WRAPPERS.contains(part));
    parts.collect::<Vec<_>>().join(".")
}

/// All entries of a `.pth` (as `torch.save` writes and wrote) or `.safetensors` file, sorted by name; in nested dicts
/// with the keys before it. The file's first bytes tell which it is. What is no tensor is left out.
///
/// # Errors
/// [`ExchangeError`] where the file cannot be read, is of another format, asks for something that is neither a tensor,
/// a dict nor a plain value, does not fit into memory, or holds two entries of one name.
pub fn read(path: &Path) -> Result<Vec<Entry>, ExchangeError> {
    let file = Opened::open(path)?;
    let chosen: Vec<(String, String)> = file.names().into_iter().map(|name| (unwrapped(&name), name)).collect();
    file.load(chosen)
}

/// A file whose names are known and whose values are read on demand.
struct Opened<'a> {
    path: &'a Path,
    tensors: Tensors,
    /// Path and type of what is no tensor.
    others: Vec<(String, String)>,
}

enum Tensors {
    Pth(Box<PytorchReader>),
    Safetensors(Vec<u8>),
}

impl<'a> Opened<'a> {
    fn open(path: &'a Path) -> Result<Self, ExchangeError> {
        let (tensors, others) = match sniff(path)? {
            kind @ (Kind::Zip | Kind::Legacy) => {
                let (reader, others) = pth::open(path, matches!(kind, Kind::Zip))?;
                (Tensors::Pth(Box::new(reader)), others)
            }
            Kind::Safetensors => {
                let file = dynvis_base::files::open(path)?;
                check_room(path, file.metadata()?.len())?;
                let bytes = dynvis_base::files::read_opened(&file)?;
                SafeTensors::deserialize(&bytes).map_err(|error| ExchangeError::file(path, error.to_string()))?;
                (Tensors::Safetensors(bytes), Vec::new())
            }
            Kind::Tar => return Err(ExchangeError::Legacy { path: path.to_owned() }),
            Kind::Unknown => {
                return Err(ExchangeError::file(
                    path,
                    "neither a .pth (a zip archive) nor a .safetensors file",
                ));
            }
        };
        Ok(Self { path, tensors, others })
    }

    /// Names as they stand in the file, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.tensors {
            Tensors::Pth(reader) => reader.keys(),
            Tensors::Safetensors(bytes) => SafeTensors::deserialize(bytes)
                .map(|tensors| tensors.names().into_iter().map(str::to_owned).collect())
                .unwrap_or_default(),
        };
        names.sort();
        names
    }

    /// The entries of (new name, name in the file), sorted by new name.
    fn load(&self, mut chosen: Vec<(String, String)>) -> Result<Vec<Entry>, ExchangeError> {
        chosen.sort();
        if let Some([(name, first), (_, second)]) = chosen.array_windows().find(|[a, b]| a.0 == b.0) {
            let what = format!("`{name}` is in the file twice, as `{first}` and as `{second}`");
            return Err(ExchangeError::file(self.path, what));
        }
        match &self.tensors {
            Tensors::Pth(reader) => pth::load(self.path, reader, chosen),
            Tensors::Safetensors(bytes) => {
                let tensors = SafeTensors::deserialize(bytes)
                    .map_err(|error| ExchangeError::file(self.path, error.to_string()))?;
                let load = |(name, stored): (String, String)| {
                    let view = tensors
                        .tensor(&stored)
                        .map_err(|error| ExchangeError::file(self.path, error.to_string()))?;
                    Ok(entry_of(name, &view))
                };
                chosen.into_iter().map(load).collect()
            }
        }
    }
}

fn check_room(path: &Path, bytes: u64) -> Result<(), ExchangeError> {
    memory::check_room(bytes).map_err(|room| ExchangeError::TooLarge {
        path: path.to_owned(),
        room,
    })
}

enum Kind {
    Zip,
    Safetensors,
    /// The stream of pickles of PyTorch 0.1.10 to 1.5.
    Legacy,
    Tar,
    Unknown,
}

fn sniff(path: &Path) -> Result<Kind, ExchangeError> {
    use std::io::Read;
    let mut head = Vec::new();
    dynvis_base::files::open(path)?.take(512).read_to_end(&mut head)?;
    // A pickle stream starts with a protocol opcode, the tar archive before that has its mark at 257.
    Ok(if head.starts_with(b"PK\x03\x04") {
        Kind::Zip
    } else if head.get(8) == Some(&b'{') {
        Kind::Safetensors
    } else if head.get(257..262) == Some(b"ustar") {
        Kind::Tar
    } else if matches!(head.get(..2), Some([0x80, 1..=5])) {
        Kind::Legacy
    } else {
        Kind::Unknown
    })
}

fn entry_of(name: String, view: &safetensors::tensor::TensorView<'_>) -> Entry {
    Entry {
        name,
        shape: view.shape().to_vec(),
        values: match view.dtype() {
            Dtype::F32 => floats(view.data(), f32::from_le_bytes),
            Dtype::F64 => floats(view.data(), |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F16 => floats(view.data(), |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => floats(view.data(), |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            other => Values::Other(format!("{other:?}")),
        },
    }
}

/// Numbers of N bytes each.
fn floats<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Values {
    Values::Float(bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect())
}
