//! Shapes of maps and of what goes from maps to maps.

use serde::{Deserialize, Serialize};

/// A batch of square maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Number of images of the batch.
    pub batch: usize,
    /// Channels of one image.
    pub channels: usize,
    /// Height and width of one map.
    pub side: usize,
}

impl Maps {
    /// Values of all maps.
    pub fn len(self) -> usize {
        self.batch * self.channels * self.plane()
    }

    /// Whether there are no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Values of one map.
    pub fn plane(self) -> usize {
        self.side * self.side
    }

    /// The same maps of another number of channels.
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// The same maps for another number of images.
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}

/// A convolution of square maps without bias: `weight` is `[outputs, inputs, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Side of the input maps.
    pub in_side: usize,
}

impl ConvShape {
    /// Side of the output maps.
    pub fn out_side(self) -> usize {
        (self.in_side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Inputs that one output value reads: inputs x kernel x kernel.
    pub fn patch(self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    /// Input maps of `batch` images.
    pub fn in_maps(self, batch: usize) -> Maps {
        Maps {
            batch,
            channels: self.inputs,
            side: self.in_side,
        }
    }

    /// Output maps of `batch` images.
    pub fn out_maps(self, batch: usize) -> Maps {
        Maps {
            batch,
            channels: self.outputs,
            side: self.out_side(),
        }
    }
}

/// How maps are enlarged, as by PyTorch's `interpolate`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Every value is that of the input pixel that it lies in.
    Nearest,
    /// Linear between the centres of pixels, constant beyond the outermost (`align_corners=False`).
    Bilinear,
}

impl Interpolation {
    /// The two input positions that an output position of an axis reads, and their weights, for `from` positions that
    /// become `to`, at least as many.
    pub(crate) fn taps(self, from: usize, to: usize, position: usize) -> [(usize, f64); 2] {
        match self {
            Self::Nearest => [(position * from / to, 1.0), (position * from / to, 0.0)],
            Self::Bilinear => {
                let place = ((position as f64 + 0.5) * (from as f64 / to as f64) - 0.5).max(0.0);
                let first = (place as usize).min(from - 1);
                let weight = place - first as f64;
                [(first, 1.0 - weight), ((first + 1).min(from - 1), weight)]
            }
        }
    }
}
