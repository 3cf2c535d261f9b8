//! The functions phi of a relaxation.

use serde::{Deserialize, Serialize};

/// A function that is the identity where its argument is positive.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Phi {
    /// max(u, 0).
    Relu,
    /// u where positive, else slope * u.
    LeakyRelu(f64),
    /// u.
    Identity,
}

impl Phi {
    /// Slope for negative arguments; 1 for the identity.
    pub fn slope(self) -> f64 {
        match self {
            Self::Relu => 0.0,
            Self::LeakyRelu(slope) => slope,
            Self::Identity => 1.0,
        }
    }
}
