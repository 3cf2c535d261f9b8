//! Functions of NVIDIA's libraries, in the library that was opened here.
//!
//! cudarc opens NVRTC, cuDNN and NCCL by names of its own: `libnvrtc.so` before `libnvrtc.so.13`, which may be another
//! version in another folder, and never `libnccl.so.2`; it panics where it finds none. Its statuses are enums, in which
//! the number of a newer library is undefined behaviour. Here they are numbers.

#![expect(unsafe_code, reason = "looks functions up")]

use std::ffi::{c_char, c_int, c_void};

/// A struct of functions by their names in a library.
macro_rules! functions {
    ($(#[$doc:meta])* $name:ident: $($function:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(#[$doc])*
        #[expect(non_snake_case, reason = "names of the library")]
        pub(super) struct $name {
            $(pub(super) $function: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $name {
            pub(super) const NAMES: &[&str] = &[$(stringify!($function)),*];

            /// # Safety
            /// It is the library whose header declares these functions so, and stays open.
            pub(super) unsafe fn of(library: &libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: as asked for above.
                    $($function: *unsafe { library.get(stringify!($function).as_bytes()) }?,)*
                })
            }
        }
    };
}

/// A program of NVRTC, a handle or descriptor of cuDNN, a communicator of NCCL, or a stream.
pub(super) type Handle = *mut c_void;
/// A text that is read, and a list of them.
type Text = *const c_char;
type Texts = *const Text;
/// Memory of a GPU that is read, and memory that is written; numbers by which results are multiplied lie on the host.
type In = *const c_void;
type Out = *mut c_void;
/// Where cuDNN tells what it thinks of algorithms, and of how many.
type Told = *mut Performance;
type Count = *mut c_int;

functions! {
    /// NVRTC's, as `nvrtc.h` of CUDA 12 and 13 declares them. Results are statuses, 0 for success.
    Nvrtc:
    nvrtcGetErrorString(c_int) -> Text;
    nvrtcCreateProgram(*mut Handle, Text, Text, c_int, Texts, Texts) -> c_int;
    nvrtcCompileProgram(Handle, c_int, Texts) -> c_int;
    nvrtcDestroyProgram(*mut Handle) -> c_int;
    nvrtcGetProgramLogSize(Handle, *mut usize) -> c_int;
    nvrtcGetProgramLog(Handle, *mut c_char) -> c_int;
    nvrtcGetCUBINSize(Handle, *mut usize) -> c_int;
    nvrtcGetCUBIN(Handle, *mut c_char) -> c_int;
}

functions! {
    /// cuDNN's, as `cudnn_cnn.h` and `cudnn_ops.h` of version 9 declare them. Results are statuses, 0 for success.
    Cudnn:
    cudnnCreate(*mut Handle) -> c_int;
    cudnnDestroy(Handle) -> c_int;
    cudnnSetStream(Handle, *mut c_void) -> c_int;
    cudnnCreateTensorDescriptor(*mut Handle) -> c_int;
    cudnnSetTensor4dDescriptor(Handle, c_int, c_int, c_int, c_int, c_int, c_int) -> c_int;
    cudnnDestroyTensorDescriptor(Handle) -> c_int;
    cudnnCreateFilterDescriptor(*mut Handle) -> c_int;
    cudnnSetFilter4dDescriptor(Handle, c_int, c_int, c_int, c_int, c_int, c_int) -> c_int;
    cudnnDestroyFilterDescriptor(Handle) -> c_int;
    cudnnCreateConvolutionDescriptor(*mut Handle) -> c_int;
    cudnnSetConvolution2dDescriptor(Handle, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int) -> c_int;
    cudnnSetConvolutionMathType(Handle, c_int) -> c_int;
    cudnnDestroyConvolutionDescriptor(Handle) -> c_int;
    cudnnGetConvolutionForwardAlgorithm_v7(Handle, Handle, Handle, Handle, Handle, c_int, Count, Told) -> c_int;
    cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle, Handle, Handle, Handle, Handle, c_int, Count, Told) -> c_int;
    cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle, Handle, Handle, Handle, Handle, c_int, Count, Told) -> c_int;
    cudnnConvolutionForward(
        Handle, In, Handle, In, Handle, In, Handle, c_int, Out, usize, In, Handle, Out
    ) -> c_int;
    cudnnConvolutionBackwardData(
        Handle, In, Handle, In, Handle, In, Handle, c_int, Out, usize, In, Handle, Out
    ) -> c_int;
    cudnnConvolutionBackwardFilter(
        Handle, In, Handle, In, Handle, In, Handle, c_int, Out, usize, In, Handle, Out
    ) -> c_int;
}

/// By which the ranks of a world find each other: NCCL's `ncclUniqueId`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub(super) [c_char; 128]);

functions! {
    /// NCCL's, as `nccl.h` of version 2 declares them. Results are statuses, 0 for success.
    Nccl:
    ncclGetErrorString(c_int) -> Text;
    ncclGetUniqueId(*mut UniqueId) -> c_int;
    ncclCommInitRank(*mut Handle, c_int, UniqueId, c_int) -> c_int;
    ncclAllGather(In, Out, usize, c_int, Handle, Handle) -> c_int;
    ncclCommGetAsyncError(Handle, *mut c_int) -> c_int;
}

/// What cuDNN says of an algorithm: `cudnnConvolutionFwdAlgoPerf_t` and those of the other passes, which have the same
/// form.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Performance {
    pub(super) algorithm: c_int,
    pub(super) status: c_int,
    pub(super) time: f32,
    pub(super) memory: usize,
    pub(super) determinism: c_int,
    pub(super) math: c_int,
    pub(super) reserved: [c_int; 3],
}

/// Numbers of cuDNN's header that are asked for.
pub(super) mod cudnn {
    use std::ffi::c_int;

    pub(in super::super) const FLOAT: c_int = 0;
    pub(in super::super) const BFLOAT16: c_int = 9;
    pub(in super::super) const NHWC: c_int = 1;
    /// The kernel is not turned.
    pub(in super::super) const CROSS_CORRELATION: c_int = 1;
    pub(in super::super) const DEFAULT_MATH: c_int = 0;
    pub(in super::super) const TENSOR_OP_MATH: c_int = 1;
    pub(in super::super) const FMA_MATH: c_int = 3;
    pub(in super::super) const DETERMINISTIC: c_int = 1;
}
