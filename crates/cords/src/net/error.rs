//! What can be wrong with a network's description, its parameters or its file.

use std::path::PathBuf;

use dynvis_base::{Classified, ErrorKind};

/// An architecture, parameter set or model file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The number of areas is not 2, 4, 6 or 8.
    #[error("{areas} areas: CordsNet has 2, 4, 6 or 8 (R2 to R8)")]
    Areas {
        /// Number of areas asked for.
        areas: usize,
    },
    /// `channels` must have one entry more than `strides`: the input layer's.
    #[error("{channels} channel counts for {strides} areas: give one for the input layer and one for each area")]
    Channels {
        /// Number of entries in `channels`.
        channels: usize,
        /// Number of entries in `strides`.
        strides: usize,
    },
    /// A size is 0 or too large to index.
    #[error("{what} is {value}: it must be at least 1 and small enough to index")]
    Size {
        /// Name of the size.
        what: String,
        /// Value that it has.
        value: usize,
    },
    /// Two areas whose activities are added differ in width or side.
    #[error(
        "areas {first} and {second} have {first_channels} x {first_side}^2 and {second_channels} x {second_side}^2 \
         units: their activities are added, so channels and side must be equal (the second of a pair needs stride 1)"
    )]
    Pair {
        /// First area of the pair.
        first: usize,
        /// Second area of the pair.
        second: usize,
        /// Channels of the first.
        first_channels: usize,
        /// Side of the first.
        first_side: usize,
        /// Channels of the second.
        second_channels: usize,
        /// Side of the second.
        second_side: usize,
    },
    /// Area 0 differs from the input layer, whose maps are added to its activity in x_1 = r_0 + inp_skip(inp).
    #[error(
        "the input layer has {inp_channels} x {inp_side}^2 maps and area 0 {channels} x {side}^2: \
         they are added, so area 0 needs the same channels and stride 1"
    )]
    InputLayer {
        /// Channels of the input layer.
        inp_channels: usize,
        /// Side of the input layer's maps.
        inp_side: usize,
        /// Channels of area 0.
        channels: usize,
        /// Side of area 0.
        side: usize,
    },
    /// The stride-2 shortcut into an odd area does not land on that area's side.
    #[error(
        "area {area} reads maps of side {side}, but the 1x1 stride-2 shortcut into it gives side {shortcut}: \
         an even area from 2 on must have stride 2"
    )]
    Shortcut {
        /// Index of the odd area, from 0.
        area: usize,
        /// Side of the maps it reads.
        side: usize,
        /// Side that the shortcut gives.
        shortcut: usize,
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
            | Self::Size { .. }
            | Self::Pair { .. }
            | Self::InputLayer { .. }
            | Self::Shortcut { .. }
            | Self::TimeConstants { .. }
            | Self::Missing { .. }
            | Self::Unexpected { .. }
            | Self::Shape { .. }
            | Self::NotFinite { .. }
            | Self::ZeroRow { .. }
            | Self::Length { .. }
            | Self::File { .. } => ErrorKind::Input,
        }
    }
}
