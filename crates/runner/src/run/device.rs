//! Where stages compute.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RunError;
use super::resources::Gpu;
use crate::kind::GpuDriver;

/// Where stages compute that can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// On a GPU where there is one.
    Auto,
    Cpu,
    /// On this GPU, counted from 0 among those that `CUDA_VISIBLE_DEVICES` leaves.
    Cuda(usize),
}

impl Device {
    /// The device itself: never [`Device::Auto`], and a GPU only where one can be used.
    ///
    /// # Errors
    /// [`RunError::Device`] where a GPU was asked for that cannot be used.
    pub fn resolve(self, driver: &dyn GpuDriver) -> Result<Self, RunError> {
        let missing = |reason| {
            Err(RunError::Device {
                device: self.to_string(),
                reason,
            })
        };
        let ordinal = match self {
            // Nothing of a GPU is touched.
            Self::Cpu => return Ok(Self::Cpu),
            Self::Auto if driver.is_usable(0) => return Ok(Self::Cuda(0)),
            Self::Auto => return Ok(Self::Cpu),
            Self::Cuda(ordinal) => ordinal,
        };
        match driver.count() {
            Ok(count) if ordinal < count => Ok(self),
            Ok(0) => missing("the driver finds no GPU".to_owned()),
            Ok(count) => missing(format!("GPUs are counted from 0 to {}", count - 1)),
            Err(error) => missing(error),
        }
    }

    /// The GPUs that stages may have: every usable one for [`Device::Auto`], the one that was asked for, or none.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(super) fn gpus(self, driver: &dyn GpuDriver) -> Result<Vec<Gpu>, RunError> {
        let ordinals: Vec<usize> = match self {
            Self::Auto => (0..driver.count().unwrap_or(0))
                .filter(|ordinal| driver.is_usable(*ordinal))
                .collect(),
            asked => match asked.resolve(driver)? {
                Self::Cuda(ordinal) => vec![ordinal],
                _ => Vec::new(),
            },
        };
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let gpu = |ordinal| {
            let memory = driver.total_memory(ordinal).map_err(|reason| RunError::Device {
                device: Self::Cuda(ordinal).to_string(),
                reason,
            })?;
            let id = id(visible.as_deref(), ordinal);
            Ok(Gpu { id, ordinal, memory })
        };
        ordinals.into_iter().map(gpu).collect()
    }
}

/// How a process that this one starts finds the GPU that is the `ordinal`-th here.
fn id(visible: Option<&str>, ordinal: usize) -> String {
    let named = visible.and_then(|list| list.split(',').nth(ordinal)).map(str::trim);
    match named.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => ordinal.to_string(),
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match (name, name.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(ordinal))) => Ok(Self::Cuda(ordinal)),
            _ => Err("use `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_environment() {
        assert_eq!(id(None, 1), "1");
        assert_eq!(id(Some("2, GPU-5f"), 0), "2");
        assert_eq!(id(Some("2, GPU-5f"), 1), "GPU-5f");
        assert_eq!(id(Some(""), 0), "0");
    }

    #[test]
    fn names_of_devices() {
        for (name, device) in [
            ("auto", Device::Auto),
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:12", Device::Cuda(12)),
        ] {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(name.parse::<Device>().is_err(), "{name}");
        }
    }
}
