//! The activation function of a network's units.

use serde::{Deserialize, Serialize};

/// The activation function phi of the update.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Phi {
    /// max(u, 0): the trained network's.
    Relu,
    /// u where positive, else slope * u: the anneal phase's.
    LeakyRelu(f64),
    /// u: the linear phase's.
    Identity,
}

impl Phi {
    /// Slope for negative currents; 1 for the identity.
    pub fn slope(self) -> f64 {
        match self {
            Self::Relu => 0.0,
            Self::LeakyRelu(slope) => slope,
            Self::Identity => 1.0,
        }
    }
}
