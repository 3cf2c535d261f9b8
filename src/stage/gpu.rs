//! The GPU that a stage leases, and how the runner finds GPUs.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cords::device::DeviceError;
use cords::device::cuda::{self, Hardware, Precision, Settings};
use dynvis_runner::kind::{Context, Device, GpuDriver, GpuError, StageError};

/// How this program uses a GPU: the same bits from the same work, where the GPU and the images that it works on at a
/// time are the same.
pub(crate) fn settings(ordinal: usize, precision: Precision) -> Settings {
    Settings {
        ordinal,
        precision,
        deterministic: true,
        kernels: kernels_folder(),
    }
}

/// What products are computed from where nothing is trained, unless a stage says otherwise.
pub(super) fn tf32() -> Precision {
    Precision::Tf32
}

/// Where the user's compiled kernels are kept, as the XDG Base Directory Specification says; none for a user without a
/// home.
fn kernels_folder() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join("dynvis").join("kernels"))
}

/// The GPU that the stage was given, opened; it is said which. None where it computes on the processor.
pub(super) fn gpu(context: &mut Context, precision: Precision) -> Result<Option<Hardware>, StageError> {
    let Device::Cuda(ordinal) = context.device else {
        return Ok(None);
    };
    let hardware = Hardware::open(settings(ordinal, precision))?;
    context.note(format!(
        "on {} ({:.1} GiB free), {precision:?}",
        hardware.description().name,
        hardware.free_memory()? as f64 / (1u64 << 30) as f64,
    ));
    Ok(Some(hardware))
}

/// What became of trials that were to be recorded once and replayed; none where there was none.
pub(super) fn recording_note(recording: &cuda::Recording) -> Option<String> {
    match recording {
        cuda::Recording {
            refused: Some(reason), ..
        } => Some(format!(
            "trials were not recorded as a CUDA graph and took longer: {reason}"
        )),
        cuda::Recording { replays: 0, .. } => None,
        cuda::Recording { replays, .. } => Some(format!(
            "trials were recorded as a CUDA graph, which was replayed {replays} times"
        )),
    }
}

/// GPUs through NVIDIA's driver.
pub(crate) struct Cuda;

/// The name of the hidden command in which [`Cuda`] tries a GPU out.
pub(crate) const TRY_OUT: &str = "try-gpu";

/// Opening a GPU takes seconds at most.
const LONGEST: Duration = Duration::from_secs(120);

impl GpuDriver for Cuda {
    fn count(&self) -> Result<usize, GpuError> {
        cuda::count().map_err(|error| match error {
            DeviceError::Absent(reason) => GpuError::Absent(reason),
            error => GpuError::Unusable(error.to_string()),
        })
    }

    /// In a process of its own: what a driver holds for a process goes with it, and so does its crash.
    fn try_out(&self, ordinal: usize) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("it could not be tried out: {error}");
        let mut child = Command::new(dynvis_base::platform::own_program().map_err(broken)?)
            .args([TRY_OUT, &ordinal.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(broken)?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait().map_err(broken)? {
                Some(status) => break status,
                None if started.elapsed() < LONGEST => std::thread::sleep(Duration::from_millis(10)),
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("it did not open within {} s", LONGEST.as_secs()));
                }
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        if let Some(out) = &mut child.stdout {
            let _ = out.read_to_string(&mut said);
        }
        match said.trim() {
            "" => Err(format!("the process that opened it ended with {status}")),
            reason => Err(reason.to_owned()),
        }
    }

    fn total_memory(&self, ordinal: usize) -> Result<u64, String> {
        cuda::total_memory(ordinal).map_err(|error| error.to_string())
    }

    fn name(&self, ordinal: usize) -> Option<String> {
        cuda::name(ordinal).ok()
    }

    fn version(&self) -> Option<String> {
        Some(format!("CUDA {}", cuda::driver_version().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_recording_is_said() {
        let recording = |replays, refused: Option<&str>| cuda::Recording {
            replays,
            refused: refused.map(str::to_owned),
        };
        assert_eq!(recording_note(&recording(0, None)), None);
        let note = |recording| recording_note(&recording).unwrap_or_default();
        assert!(note(recording(7, None)).ends_with("replayed 7 times"));
        // A refusal is not hidden by what was recorded besides.
        let refused = note(recording(7, Some("taking memory cannot be recorded")));
        assert!(
            refused.contains("not recorded") && refused.ends_with("taking memory cannot be recorded"),
            "{refused}"
        );
    }
}
