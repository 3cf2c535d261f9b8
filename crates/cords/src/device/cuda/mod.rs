//! The kernel interface on an NVIDIA GPU: float32 maps `[batch, side, side, channels]`, convolutions by cuDNN
//! (`products`), everything else by the kernels in `kernels.cu`, which NVRTC compiles when the device is opened.
//!
//! Methods of [`Device`](crate::device::Device) cannot fail, and neither do they here: the first error is kept, whatever follows does nothing,
//! and [`Device::check`](crate::device::Device::check) tells. That is how CUDA itself reports what it does asynchronously.

/// Kernel arguments: `r` before a buffer that is read, `w` before one that is changed, `o` before one all of which is
/// written, otherwise the parameter's type.
/// None where a buffer has no memory. `read` and `write` stand before memory itself, where there is any.
macro_rules! arguments {
    (@ r $buffer:expr) => { $buffer.memory().map(Argument::Read) };
    (@ w $buffer:expr) => { $buffer.memory_mut().map(|memory| Argument::Write(&*memory)) };
    (@ o $buffer:expr) => { $buffer.overwritten().map(|memory| Argument::Write(&*memory)) };
    (@ read $memory:expr) => { $memory.map(Argument::Read) };
    (@ write $memory:expr) => { $memory.map(Argument::Write) };
    (@ long $value:expr) => { Some(Argument::Long($value as i64)) };
    (@ int $value:expr) => { Some(Argument::Int($value as i32)) };
    (@ float $value:expr) => { Some(Argument::Float($value as f32)) };
    (@ double $value:expr) => { Some(Argument::Double($value)) };
    ($($kind:ident $value:expr),*) => { [$(arguments!(@ $kind $value)),*] };
}

mod bindings;
mod capture;
mod channels;
mod choice;
mod communicator;
mod compile;
mod convolutions;
mod device;
mod gpu;
mod hardware;
mod libraries;
mod memory;
mod packed;
mod peers;
mod products;
mod reductions;
mod weight_sums;

#[cfg(test)]
mod emulated;
#[cfg(test)]
mod emulated_peers;
#[cfg(test)]
mod tests;

pub use capture::Capture;
pub use communicator::unique_id;
pub use compile::{compile, try_compiler};
pub use gpu::{Argument, Gpu, KERNELS, Pass};
pub use hardware::{
    Description, Hardware, Precision, Recording, Settings, count, driver_version, gpus, name, total_memory,
};
pub use libraries::{Library, LoadedLibrary, libraries};
use memory::same;
pub use memory::{Buffer, Cuda, with_images_that_fit};
pub use packed::Packed;
pub use products::{Filter, Workspace};
pub use reductions::Reductions;
pub use weight_sums::WeightSum;

/// Parts that a sum over each of many rows is taken in.
const ROW_PARTS: usize = 16;
