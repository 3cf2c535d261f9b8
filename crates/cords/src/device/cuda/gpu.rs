//! What the CUDA device needs from a GPU: memory, the kernels of `kernels.cu`, and convolutions.
//!
//! Work is done in the order in which it was asked for. Errors may come late, as those of CUDA do.

use crate::device::{ConvShape, DeviceError, Peers};

/// A GPU, or what stands for one in tests.
pub trait Gpu: Clone + Send + Sync + 'static {
    /// Bytes on the GPU.
    type Memory: Send + Sync;
    /// Work that was recorded.
    type Graph: Send + Sync;

    /// So many bytes, all zero.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] where there are not so many.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory, DeviceError>;
    /// Host bytes to the start of `to`.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn write(&self, from: &[u8], to: &mut Self::Memory) -> Result<(), DeviceError>;
    /// The first bytes of `from` to the host; waits for all work that was asked for.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn read(&self, from: &Self::Memory, to: &mut [u8]) -> Result<(), DeviceError>;
    /// The first `bytes` of `from` to `to` from its byte `first` on.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn copy(&self, from: &Self::Memory, to: &mut Self::Memory, first: usize, bytes: usize) -> Result<(), DeviceError>;
    /// Sets the first `bytes` to 0.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn clear(&self, memory: &mut Self::Memory, bytes: usize) -> Result<(), DeviceError>;
    /// Runs a kernel of `kernels.cu` on so many items. `arguments` are its parameters but for the last.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn launch(
        &self,
        kernel: &'static str,
        arguments: &mut [Argument<'_, Self::Memory>],
        items: usize,
    ) -> Result<(), DeviceError>;
    /// Whether convolutions whose channels come in eights are computed from bfloat16.
    fn computes_from_bfloat16(&self) -> bool;
    /// One pass of a convolution of maps `[batch, side, side, channels]` with weights
    /// `[outputs, kernel, kernel, inputs]`, all float32, or all bfloat16 where `narrow`. The result is added to what
    /// `to` holds where `accumulate`, which is never asked of bfloat16, and takes its place otherwise.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed, [`DeviceError::Memory`] where there is no room
    /// for its scratch memory.
    #[expect(clippy::too_many_arguments, reason = "a convolution, its numbers and its maps")]
    fn convolve(
        &self,
        pass: Pass,
        shape: ConvShape,
        batch: usize,
        narrow: bool,
        from: [&Self::Memory; 2],
        to: &mut Self::Memory,
        accumulate: bool,
    ) -> Result<(), DeviceError>;
    /// Bytes of scratch memory that convolutions take at most.
    fn convolution_scratch(&self) -> u64;
    /// From now on work is recorded instead of done. Memory can neither be taken nor given back, written nor read by
    /// the host.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn begin_recording(&self) -> Result<(), DeviceError>;
    /// What was asked for since the beginning of the recording.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where something of it cannot be recorded.
    fn end_recording(&self) -> Result<Self::Graph, DeviceError>;
    /// Hears why work that was to be recorded is asked for piece by piece from now on.
    fn recording_refused(&self, _reason: &DeviceError) {}
    /// Does recorded work, on the memory that it was recorded with.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU or its driver has failed.
    fn replay(&self, graph: &Self::Graph) -> Result<(), DeviceError>;
    /// Which of the GPUs that work together this is.
    fn peers(&self) -> Peers {
        Peers::ALONE
    }
    /// The first `bytes` of every peer's `own`, those of rank 0 first, to the start of `all`.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the GPU, its driver, a peer or the way to it has failed.
    fn gather(&self, own: &Self::Memory, bytes: usize, all: &mut Self::Memory) -> Result<(), DeviceError> {
        self.copy(own, all, 0, bytes)
    }
    /// Numbers of every peer, as many each, those of rank 0 first. It takes no memory.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    fn gather_numbers(&self, own: &[f64]) -> Result<Vec<f64>, DeviceError> {
        Ok(own.to_vec())
    }
    /// Another number whenever scratch memory that recorded work would use has been given back.
    fn generation(&self) -> u64;
}

/// An argument of a kernel, by its type in `kernels.cu`.
#[derive(Debug)]
pub enum Argument<'a, M> {
    /// Memory that the kernel reads: `const T *`.
    Read(&'a M),
    /// Memory that the kernel writes, and may read: `T *`. Several may hold it; work is done in order.
    Write(&'a M),
    /// A signed number of 64 bits: `Long`.
    Long(i64),
    /// A signed number of 32 bits: `int`.
    Int(i32),
    /// A number in single precision: `float`.
    Float(f32),
    /// A number in double precision: `double`.
    Double(f64),
}

/// What a convolution computes, from which two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Outputs from inputs and weights.
    Forward,
    /// Gradient of inputs from that of outputs and weights.
    Inputs,
    /// Gradient of weights from inputs and the gradient of outputs.
    Weights,
}

/// The kernels, as the host and NVRTC compile them.
pub const KERNELS: &str = include_str!("kernels.cu");

/// Names of the kernels.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let starts = KERNELS.split("\nKERNEL ").skip(1);
    starts.filter_map(|kernel| Some(kernel.split_once('(')?.0.trim()))
}
