//! Reference tensors for the tests, and the error measure that they are compared by.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;

use cords::net::{Architecture, Parameters};
use cords::{Real, Tensor};
use safetensors::{Dtype, SafeTensors};

/// One reference file: float64 tensors, integer labels, configuration.
pub(crate) struct Fixture {
    bytes: Vec<u8>,
    pub(crate) json: serde_json::Value,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let bytes = std::fs::read(path).expect("the fixture is in the repository");
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

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("no {key}"))
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor<f64> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        assert_eq!(view.dtype(), Dtype::F64, "{name}");
        let data = view
            .data()
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")))
            .collect();
        Tensor::new(view.shape(), data).expect("shape fits")
    }

    pub(crate) fn labels(&self) -> Vec<u32> {
        let tensors = self.tensors();
        let view = tensors.tensor("labels").expect("labels");
        view.data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")) as u32)
            .collect()
    }

    /// Float tensors under `prefix`, without it.
    pub(crate) fn parameters<T: Real>(&self, prefix: &str) -> Parameters<T> {
        let mut parameters = Parameters::new();
        for (name, view) in self.tensors().iter() {
            if let Some(short) = name.strip_prefix(prefix)
                && view.dtype() == Dtype::F64
            {
                parameters.insert(short, self.tensor(name).cast());
            }
        }
        parameters
    }

    pub(crate) fn architecture(&self) -> Architecture {
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
    }
}

/// |found - expected| / |expected| in the Euclidean norm.
pub(crate) fn relative_error<T: Real>(found: &[T], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(f, e)| f.to_f64() - e));
    let size = norm(&mut expected.iter().copied());
    if size == 0.0 { difference } else { difference / size }
}

pub(crate) fn assert_close<T: Real>(what: &str, found: &[T], expected: &[f64], tolerance: f64) {
    let error = relative_error(found, expected);
    assert!(
        error <= tolerance,
        "{what}: relative error {error:e} exceeds {tolerance:e}"
    );
}
