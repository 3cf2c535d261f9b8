//! The engine as a Python module, `dynvis._engine`: networks, their simulation, gradients, steady states and spectra.
//!
//! It is as thin as can be: arguments are checked and given defaults in Python (`python/dynvis/engine.py`), which is
//! what users call. Arrays of float32 are read where they lie, results are handed over without a copy, other Python
//! threads run meanwhile, and Ctrl-C ends a call within a step.

mod call;
mod errors;
mod images;
mod network;
mod steady;

use pyo3::prelude::*;

/// The engine of dynvis. Use `dynvis.Network`.
#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::errors::{DynvisError, EngineError};
    #[pymodule_export]
    use super::images::ImageSet;
    #[pymodule_export]
    use super::network::{Network, describe};
    #[pymodule_export]
    use super::steady::SteadyState;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("version", env!("CARGO_PKG_VERSION"))
    }
}
