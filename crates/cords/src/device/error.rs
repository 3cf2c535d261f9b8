//! What can go wrong with a device.

use dynvis_base::{Classified, ErrorKind};

/// Why a device cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device, or something that it needs is missing.
    #[error("{0}")]
    Absent(String),
    /// The device's memory does not suffice.
    #[error("the device has no {bytes} bytes left")]
    Memory {
        /// What was asked for.
        bytes: u64,
    },
    /// The device or its driver has failed.
    #[error("{call} failed: {reason}")]
    Failed {
        /// What was asked of it.
        call: String,
        /// What the driver answered.
        reason: String,
    },
}

impl Classified for DeviceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Absent(_) | Self::Failed { .. } => ErrorKind::Device,
        }
    }
}
