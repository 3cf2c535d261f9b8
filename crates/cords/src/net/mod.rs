//! Networks: architecture, time constants, parameters under their published names, CordsNet-R2 to R8 and the CNN twin.
//!
//! Networks know areas and projections; they know nothing of training, data sets or files of experiments.

mod architecture;
mod cnn;
mod connections;
mod cordsnet;
mod diverged;
mod error;
mod filters;
mod fold;
mod folded;
mod model;
mod parameters;
mod time;

pub use architecture::{Architecture, Euler};
pub use cnn::Cnn;
pub use cordsnet::{CordsNet, Input, NeuralNoise, State, View, WriteImages};
pub use error::NetError;
pub use fold::fold;
pub use model::{Model, ModelInfo, Presentation, TrainedPhase};
pub use parameters::Parameters;
pub use time::{MOST_STEPS, no_multiple, unfit};

pub(crate) use cnn::{CnnChunk, CnnGraph, NORM_EPSILON, Running, Statistics, cnn_others, norm_names, running_from};
pub(crate) use connections::{Connections, StepScratch, cordsnet_others};
pub(crate) use diverged::diverged;
pub(crate) use filters::{ConvName, Weights, conv_names, conv_shapes};
pub(crate) use folded::{FoldedGraph, area_bias_name, current};
pub(crate) use model::persist;
pub(crate) use parameters::bias_name;
pub(crate) use time::{fits, misfit};
