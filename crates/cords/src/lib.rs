//! Convolutional recurrent dynamical systems for vision (CordsNet): simulation, training and analysis.
//!
//! A library without pipelines, tables or printing. Model code is written once over the kernel interface in
//! [`device`]; the same seed and inputs give the same bits whatever the number of threads.

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
pub mod tensor;

pub use dynvis_base::{Classified, ErrorKind};
pub use tensor::{Real, Tensor};
