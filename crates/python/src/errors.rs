//! Errors of the engine as exceptions, with the engine's text.

use cords::data::DataError;
use cords::learn::TrainError;
use cords::net::NetError;
use cords::{Classified, ErrorKind};
use pyo3::PyErr;
use pyo3::exceptions::{PyException, PyMemoryError};

pyo3::create_exception!(
    dynvis,
    DynvisError,
    PyException,
    "Anything that dynvis refuses or fails at."
);
pyo3::create_exception!(
    dynvis,
    EngineError,
    DynvisError,
    "An error of the engine, in its words."
);

/// A network's; what the system refuses is Python's `OSError` of that kind.
pub(crate) fn of_net(error: NetError) -> PyErr {
    match error {
        NetError::Io(error) => error.into(),
        error => of(&error),
    }
}

/// A gradient's.
pub(crate) fn of_training(error: TrainError) -> PyErr {
    match error {
        TrainError::Net(error) => of_net(error),
        error => of(&error),
    }
}

/// An image set's.
pub(crate) fn of_data(error: DataError) -> PyErr {
    match error {
        DataError::Io(error) => error.into(),
        error => of(&error),
    }
}

fn of<E: Classified>(error: &E) -> PyErr {
    match error.kind() {
        ErrorKind::Memory => PyMemoryError::new_err(error.to_string()),
        _ => EngineError::new_err(error.to_string()),
    }
}
