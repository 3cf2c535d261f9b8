//! Reference tensors for the tests, and the error measure that they are compared by.
//!
//! Files come from the folder named by the environment variable `CORDS_FIXTURES`, and what it does not hold from
//! `tests/fixtures`. Every size, time constant and weight is read from the file, so that the same checks run on any set
//! of the same layout.

use std::path::PathBuf;

use cords::data::{ImageSet, ImageSource, Limit, PrepareConfig, SourceName, prepare};
use cords::net::{Architecture, Graph, Parameters};
use cords::{Real, Tensor};
use safetensors::{Dtype, SafeTensors};

/// One reference file: float tensors, integer labels, configuration.
pub(crate) struct Fixture {
    bytes: Vec<u8>,
    pub(crate) json: serde_json::Value,
}

impl Fixture {
    /// The place of a reference file.
    pub(crate) fn path(name: &str) -> PathBuf {
        let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let chosen = std::env::var_os("CORDS_FIXTURES").map(|folder| PathBuf::from(folder).join(name));
        chosen.filter(|path| path.exists()).unwrap_or_else(|| own.join(name))
    }

    pub(crate) fn open(name: &str) -> Self {
        let path = Self::path(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let json = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("json"))
            .expect("configuration");
        let json = serde_json::from_str(json).expect("JSON");
        Self { bytes, json }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a safetensors file")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("no {key}"))
    }

    /// A tensor of F64 or F32.
    pub(crate) fn tensor(&self, name: &str) -> Tensor<f64> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        let data = match view.dtype() {
            Dtype::F64 => view
                .data()
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")))
                .collect(),
            Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("4 bytes"))))
                .collect(),
            other => panic!("{name} is {other:?}"),
        };
        Tensor::new(view.shape(), data).expect("shape fits")
    }

    pub(crate) fn labels(&self) -> Vec<u32> {
        self.integers("labels").into_iter().map(|label| label as u32).collect()
    }

    /// A tensor of I64.
    pub(crate) fn integers(&self, name: &str) -> Vec<usize> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        view.data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")) as usize)
            .collect()
    }

    /// Float tensors under `prefix`, without it.
    pub(crate) fn parameters<T: Real>(&self, prefix: &str) -> Parameters<T> {
        let mut parameters = Parameters::new();
        let tensors = self.tensors();
        // The file's own order is another one every time.
        let mut all: Vec<_> = tensors.iter().collect();
        all.sort_by_key(|(name, _)| *name);
        for (name, view) in all {
            if let Some(short) = name.strip_prefix(prefix)
                && matches!(view.dtype(), Dtype::F64 | Dtype::F32)
            {
                parameters.insert(short, self.tensor(name).cast());
            }
        }
        parameters
    }

    pub(crate) fn architecture(&self) -> Graph {
        if let Some(graph) = self.json.get("graph") {
            let graph: Graph = serde_json::from_value(graph.clone()).unwrap_or_else(|error| panic!("{error}"));
            // Which time constants are trained, the tensors tell.
            let mut description = graph.description().clone();
            for (number, area) in description.areas.iter_mut().enumerate() {
                area.trains_tau = self.has(&format!("param.log_tau.{number}"));
                if area.trains_tau {
                    area.tau_per_channel = self.tensor(&format!("param.log_tau.{number}")).len() > 1;
                    area.tau_ms.get_or_insert(self.number("tau_ms"));
                }
            }
            return Graph::new(description).expect("valid");
        }
        let list = |key: &str| -> Vec<usize> {
            let values = self.json[key].as_array().expect("a list");
            values
                .iter()
                .map(|v| v.as_u64().expect("an integer") as usize)
                .collect()
        };
        Architecture {
            in_channels: self.number("in_channels") as usize,
            image_side: self.number("image") as usize,
            channels: list("channels"),
            strides: list("strides"),
            classes: self.number("classes") as usize,
        }
        .graph()
        .expect("valid")
    }
}

/// max |found - expected| / max |expected|; the difference itself where everything expected is 0. NaN is no agreement.
pub(crate) fn largest_error<T: Real>(found: &[T], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(f, e)| (f.to_f64() - e).abs());
    let difference = differences.fold(0.0f64, |worst, d| if worst.is_nan() || d <= worst { worst } else { d });
    let size = expected.iter().fold(0.0f64, |size, e| size.max(e.abs()));
    if size == 0.0 { difference } else { difference / size }
}

/// Fails where [`largest_error`] exceeds the tolerance.
#[track_caller]
pub(crate) fn assert_close<T: Real>(what: &str, found: &[T], expected: &[f64], tolerance: f64) {
    let error = largest_error(found, expected);
    assert!(
        error <= tolerance,
        "{what}: the largest difference is {error:e} of the largest entry, allowed are {tolerance:e}"
    );
}

/// 120 digits of 16 x 16 pixels, and the folder that they lie in.
pub(crate) fn digits() -> (ImageSet, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("can make a folder");
    let config = PrepareConfig {
        seed: 1,
        limit: Some(Limit::PerClass(12)),
        ..PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 16)
    };
    prepare(&config, dir.path(), &mut |_, _| {}).expect("embedded");
    (ImageSet::open(dir.path()).expect("just written"), dir)
}
