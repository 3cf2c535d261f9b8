//! What the CUDA device needs from a GPU: memory, the kernels of `kernels.cu`, and convolutions.
//!
//! Work is done in the order in which it was asked for. Errors may come late, as those of CUDA do.

use crate::device::{ConvShape, DeviceError};

/// A GPU, or what stands for one in tests.
pub trait Gpu: Clone + Send + Sync + 'static {
    /// Bytes on the GPU.
    type Memory: Send + Sync;

    /// So many bytes, all zero.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] where there are not so many.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory, DeviceError>;
    /// Host bytes to the start of `to`.
    ///
    /// # Errors
    /// [`DeviceError::Failed`], here and below: the GPU or its driver has failed.
    fn write(&self, from: &[u8], to: &mut Self::Memory) -> Result<(), DeviceError>;
    /// The first bytes of `from` to the host; waits for all work that was asked for.
    ///
    /// # Errors
    /// As above.
    fn read(&self, from: &Self::Memory, to: &mut [u8]) -> Result<(), DeviceError>;
    /// The first `bytes` of `from` to the start of `to`.
    ///
    /// # Errors
    /// As above.
    fn copy(&self, from: &Self::Memory, to: &mut Self::Memory, bytes: usize) -> Result<(), DeviceError>;
    /// Sets the first `bytes` to 0.
    ///
    /// # Errors
    /// As above.
    fn clear(&self, memory: &mut Self::Memory, bytes: usize) -> Result<(), DeviceError>;
    /// Runs a kernel of `kernels.cu` on so many items. `arguments` are its parameters but for the last.
    ///
    /// # Errors
    /// As above.
    fn launch(
        &self,
        kernel: &'static str,
        arguments: &mut [Argument<'_, Self::Memory>],
        items: usize,
    ) -> Result<(), DeviceError>;
    /// One pass of a convolution of maps `[batch, side, side, channels]` with weights `[outputs, kernel, kernel, inputs]`.
    /// The result is added to what `to` holds where `accumulate`, and takes its place otherwise.
    ///
    /// # Errors
    /// As above, and [`DeviceError::Memory`] where there is no room for its scratch memory.
    fn convolve(
        &self,
        pass: Pass,
        shape: ConvShape,
        batch: usize,
        from: [&Self::Memory; 2],
        to: &mut Self::Memory,
        accumulate: bool,
    ) -> Result<(), DeviceError>;
    /// Bytes of scratch memory that convolutions take at most.
    fn convolution_scratch(&self) -> u64;
}

/// A kernel's argument.
#[derive(Debug)]
pub enum Argument<'a, M> {
    /// `const T *`
    Read(&'a M),
    /// `T *`
    Write(&'a mut M),
    /// `Long`
    Long(i64),
    /// `int`
    Int(i32),
    /// `float`
    Float(f32),
    /// `double`
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
