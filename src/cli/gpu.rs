//! The GPU that a command computes on.

use cords::device::DeviceError;
use cords::device::cuda::{self, Hardware, Precision};
use dynvis_runner::kind::Device;

use super::error::CommandError;
use super::ui::Ui;
use super::wording::passed_over;
use crate::stage::gpu_settings;

/// The GPU that was asked for, opened, or none for the processor. `auto` goes on without one that cannot be used, and
/// says so.
pub(super) fn open(ui: &mut Ui, device: Device, precision: Precision) -> Result<Option<Hardware>, CommandError> {
    let open = |ordinal| Hardware::open(gpu_settings(ordinal, precision));
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda(ordinal) => {
            device.require(super::registry().gpus())?;
            let unusable = |error: DeviceError| dynvis_runner::run::RunError::Device {
                device: device.to_string(),
                reason: error.to_string(),
            };
            Ok(Some(open(ordinal).map_err(unusable)?))
        }
        Device::Auto => {
            let opened = match cuda::count() {
                Err(DeviceError::Absent(_)) | Ok(0) => return Ok(None),
                Err(error) => Err(format!("no GPU can be used: {error}")),
                Ok(_) => open(0).map_err(|error| format!("GPU 0 cannot be used: {error}")),
            };
            match opened {
                Ok(hardware) => Ok(Some(hardware)),
                Err(reason) => {
                    ui.status(&passed_over(&reason));
                    Ok(None)
                }
            }
        }
    }
}

/// Arguments of the process in which a GPU is tried out.
#[derive(clap::Args)]
pub(crate) struct TryArgs {
    ordinal: usize,
}

/// Opens a GPU, and says why it cannot be opened.
pub(crate) fn try_out(ui: &mut Ui, args: &TryArgs) -> Result<u8, CommandError> {
    match Hardware::open(gpu_settings(args.ordinal, Precision::default())) {
        Ok(_) => Ok(0),
        Err(error) => {
            ui.out(&format!("{error}\n"))?;
            Ok(super::exit::DIFFERENT)
        }
    }
}
