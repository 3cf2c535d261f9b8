//! Image sets whose images are kept as their source has them: they are decoded and resized by the engine.

use std::path::PathBuf;

use cords::data::ImageSet as Set;
use numpy::{IntoPyArray, PyArray4, PyArrayMethods};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::call::compute;
use crate::errors::of_data;

/// An image set in its folder. `dynvis.dataset` is what to use.
#[pyclass(frozen, module = "dynvis._engine")]
pub(crate) struct ImageSet {
    set: Set,
}

#[pymethods]
impl ImageSet {
    /// Opens a folder that a stage `dataset` wrote.
    #[staticmethod]
    fn open(folder: PathBuf) -> PyResult<Self> {
        let set = Set::open(&folder).map_err(of_data)?;
        Ok(Self { set })
    }

    /// Images by index as networks are shown them, in pixel units [0, 1]: `[len(indices), channels, side, side]`.
    fn unit<'py>(&self, py: Python<'py>, indices: Vec<u32>) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let count = self.set.len();
        if let Some(index) = indices.iter().find(|index| **index as usize >= count) {
            return Err(PyIndexError::new_err(format!(
                "image {index}, but the image set has {count}"
            )));
        }
        let values = compute(py, || {
            let mut values = vec![0.0; indices.len() * self.set.image_len()];
            let images = values.par_chunks_mut(self.set.image_len()).zip(&indices);
            let filled = images.map(|(out, image)| self.set.fill_unit(*image as usize, out));
            filled.collect::<Result<(), _>>().map(|()| values)
        })?;
        let values = values.map_err(of_data)?;
        let (channels, side) = (self.set.channels(), self.set.side());
        values.into_pyarray(py).reshape([indices.len(), channels, side, side])
    }
}
