//! Networks: architecture, time constants, parameters under their published names, CordsNet-R2 to R8 and the CNN twin.
//!
//! Networks know areas and projections; they know nothing of training, data sets or files of experiments.

mod architecture;
mod cnn;
mod cordsnet;
mod error;
mod filters;
mod model;
mod parameters;

pub use architecture::{Architecture, Euler, Phi};
pub use cnn::Cnn;
pub use cordsnet::{CordsNet, Input, State};
pub use error::NetError;
pub use model::{Model, ModelInfo, Presentation};
pub use parameters::Parameters;

pub(crate) use cnn::{CnnNorms, NORM_EPSILON, norm_names};
pub(crate) use cordsnet::Connections;
pub(crate) use filters::{ConvName, WeightNorm, conv_shapes};
