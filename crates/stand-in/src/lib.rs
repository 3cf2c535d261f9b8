//! The functions of the CUDA driver, NVRTC, cuDNN, cuBLASLt and NCCL that dynvis calls, on host memory.
//!
//! One shared library stands for all five: [`install()`] gives it their names in a folder, and a program that is started
//! with that folder as `LD_LIBRARY_PATH` finds a GPU. Kernels are compiled by the host's C compiler, `cc`. Whatever a
//! real GPU would not forgive, or would forgive today and not tomorrow, is a *violation*: it is printed and counted.
//! What the environment can ask for, and what is counted, stands in `README.md`.

// Modules from the highest to the lowest:
// the libraries' functions: `driver`, `nvrtc`, `cudnn`, `cublaslt`, `nccl`;
// what they are made of: `collective`, `convolution`, `source`, `module`, `stream`, `memory`, `context`, `handles`,
// `counts`, `settings`, `codes`.
mod codes;
mod collective;
mod context;
mod convolution;
mod counts;
mod cublaslt;
mod cudnn;
mod driver;
mod handles;
mod host;
mod install;
mod memory;
mod module;
mod nccl;
mod nvrtc;
mod settings;
mod source;
mod stream;
#[cfg(test)]
mod tests;

pub use counts::{Convolutions, Counts, Graph, Traffic, Work};
pub use install::{Installed, install};
