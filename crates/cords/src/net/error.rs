//! What can be wrong with a network's description, its parameters or its file.

use std::path::PathBuf;

use dynvis_base::{Classified, ErrorKind};

use super::graph::GraphError;
use super::graph::rule::MOST_AREAS;

/// An architecture, parameter set or model file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// More areas than the rule of the published networks goes up to, or none.
    #[error("{areas} areas: a network by the rule of CordsNet-R2, R4, R6 and R8 has 1 to {MOST_AREAS}")]
    Areas {
        /// Number of areas asked for.
        areas: usize,
    },
    /// A description whose parts do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// `channels` must have one entry more than `strides`: the input layer's.
    #[error("{channels} channel counts for {strides} areas: give one for the input layer and one for each area")]
    Channels {
        /// Number of entries in `channels`.
        channels: usize,
        /// Number of entries in `strides`.
        strides: usize,
    },
    /// A time constant or step that is not usable.
    #[error("dt {dt_ms} ms with tau {tau_ms:?} ms for {areas} areas: need 0 < dt <= tau, and one tau or one per area")]
    TimeConstants {
        /// Euler step in ms.
        dt_ms: f64,
        /// Time constants in ms.
        tau_ms: Vec<f64>,
        /// Number of areas of the network.
        areas: usize,
    },
    /// Linear analysis of a network with units whose hidden variables are not linear.
    #[error("area {area} has cells `{cell}`, which have no linearisation: steady states and their dynamics need one")]
    NotLinear {
        /// Name of the area.
        area: String,
        /// Name of its cell.
        cell: String,
    },
    /// A time constant that Euler steps are too long for.
    #[error("area {area}: {what} is {tau_ms} ms, which is below the Euler step of {dt_ms} ms")]
    TooFast {
        /// Name of the area.
        area: String,
        /// Which of its time constants.
        what: String,
        /// Its value in ms.
        tau_ms: f64,
        /// Euler step in ms.
        dt_ms: f64,
    },
    /// A parameter that the network needs is not there.
    #[error("parameter `{name}` is missing")]
    Missing {
        /// Published name of the parameter.
        name: String,
    },
    /// A parameter that the network does not have.
    #[error("parameter `{name}` does not belong to this network")]
    Unexpected {
        /// Name of the parameter, as given.
        name: String,
    },
    /// A parameter of the wrong shape.
    #[error("parameter `{name}` has shape {found:?}, this network needs {expected:?}")]
    Shape {
        /// Published name of the parameter.
        name: String,
        /// Shape that the parameter has.
        found: Vec<usize>,
        /// Shape that the network needs.
        expected: Vec<usize>,
    },
    /// A parameter holds NaN or infinity.
    #[error("parameter `{name}` holds a value that is not finite")]
    NotFinite {
        /// Published name of the parameter.
        name: String,
    },
    /// A weight-normalised row whose direction vector is zero has no weight.
    #[error("parameter `{name}` has a row of zeros (row {row}): its weight g v/|v| is undefined")]
    ZeroRow {
        /// Published name of the direction tensor.
        name: String,
        /// Row of the tensor, which is an output channel.
        row: usize,
    },
    /// Data handed over has the wrong number of values.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// What was handed over.
        what: String,
        /// Number of values found.
        found: usize,
        /// Number of values needed.
        expected: usize,
    },
    /// A model of the other kind.
    #[error("the model is a {found}, but a {needed} is needed: give a model that was trained as one")]
    Kind {
        /// Kind of the model.
        found: &'static str,
        /// Kind that is needed.
        needed: &'static str,
    },
    /// Not a model file.
    #[error("{path}: not a model file: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Classified for NetError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => Classified::kind(error),
            Self::Areas { .. }
            | Self::Channels { .. }
            | Self::Graph(_)
            | Self::TimeConstants { .. }
            | Self::NotLinear { .. }
            | Self::TooFast { .. }
            | Self::Missing { .. }
            | Self::Unexpected { .. }
            | Self::Shape { .. }
            | Self::NotFinite { .. }
            | Self::ZeroRow { .. }
            | Self::Length { .. }
            | Self::Kind { .. }
            | Self::File { .. } => ErrorKind::Input,
        }
    }
}
