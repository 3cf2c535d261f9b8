//! Which device a run takes, and which GPUs its stages may have.

use super::RunError;
use super::resources::Gpu;
use crate::kind::{Device, GpuDriver};

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
}
