//! The GPU that a stage leases, and how the runner finds GPUs.

use cords::device::cuda::{self, Hardware, Precision, Settings};
use dynvis_runner::kind::{Context, Device, GpuDriver, StageError};

/// The GPU that the stage was given, opened; it is said which. None where it computes on the processor.
pub(super) fn gpu(context: &mut Context, precision: Precision) -> Result<Option<Hardware>, StageError> {
    let Device::Cuda(ordinal) = context.device else {
        return Ok(None);
    };
    let hardware = Hardware::open(Settings {
        ordinal,
        precision,
        // The same bits from the same stage, where the GPU and the images that it works on at a time are the same.
        deterministic: true,
    })?;
    context.note(format!(
        "on {} ({:.1} GiB free), {precision:?}",
        hardware.description().name,
        hardware.free_memory()? as f64 / (1u64 << 30) as f64,
    ));
    Ok(Some(hardware))
}

/// GPUs through NVIDIA's driver.
pub(crate) struct Cuda;

impl GpuDriver for Cuda {
    fn count(&self) -> Result<usize, String> {
        cuda::count().map_err(|error| error.to_string())
    }

    fn is_usable(&self, ordinal: usize) -> bool {
        cuda::is_usable(ordinal) == Ok(true)
    }

    fn total_memory(&self, ordinal: usize) -> Result<u64, String> {
        cuda::total_memory(ordinal).map_err(|error| error.to_string())
    }

    fn name(&self, ordinal: usize) -> Option<String> {
        Some(cuda::gpus().ok()?.get(ordinal)?.name.clone())
    }

    fn version(&self) -> Option<String> {
        let libraries = cuda::libraries();
        let driver = libraries.into_iter().find(|library| library.name == "CUDA driver")?;
        Some(format!("CUDA {}", driver.found.ok()?.version))
    }
}
