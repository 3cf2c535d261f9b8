//! Convolutional recurrent dynamical systems for vision (CordsNet): simulation, training and analysis.
//!
//! A library without pipelines, tables or printing. Model code is written once over the kernel interface in
//! [`device`]; the same seed and inputs give the same bits whatever the number of threads.
//!
//! # Modules
//!
//! Each uses only modules below it in this list, which `tests/cli/modules.rs` of the workspace reads and holds the code against.
//!
//! - `selftest`: a device against float64, and its memory against what is planned
//! - `assoc`: association areas, cognitive tasks, the training of one on the other
//! - `noise`: classification under noise on images, units and weights
//! - `dynamics`: steady states, spectra, noise response and exponents
//! - `record`: activity streamed into a file
//! - `exchange`: weights from and to PyTorch's files
//! - `learn`: gradients, optimisers and the training phases
//! - `neural`: recordings, and regressions of them on features of stimuli
//! - `data`: image sets, from their sources to normalised floats
//! - `net`: CordsNet, the CNN twin, their parameters and model files
//! - `tensor`: a dense tensor, in which parameters are kept
//! - `device`: the kernel interface, its number types, and the processors that implement it
//! - `rng`: counter-based random numbers
//! - `progress`: a count of parts done, from any thread
//! - `statistics`: quantiles and intervals
//! - `linear`: small dense systems of equations

pub mod assoc;
pub mod data;
pub mod device;
pub mod dynamics;
pub mod exchange;
pub mod learn;
mod linear;
pub mod net;
pub mod neural;
pub mod noise;
mod progress;
pub mod record;
pub mod rng;
pub mod selftest;
mod statistics;
mod tensor;

pub use device::Real;
pub use dynvis_base::{Classified, ErrorKind};
pub use tensor::Tensor;
