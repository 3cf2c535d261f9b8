//! Networks: graphs of areas, cells, time constants, parameters under their published names, CordsNet and the CNN twin.
//!
//! Networks know areas and projections; they know nothing of training, data sets or files of experiments. What a
//! network is stands in a [`Graph`]; all that is computed of it walks the graph.

mod cell;
mod cnn;
mod connections;
mod cordsnet;
mod diverged;
mod error;
mod euler;
mod filters;
mod fold;
mod folded;
mod graph;
mod model;
mod parameters;
mod sources;
mod spontaneous;
mod time;

pub use cell::{
    Adaptation, AdjointMap, AdjointMaps, Cell, CellKind, CellMaps, CellParameter, HiddenVariable, OwnCell, StepMap,
    linear_adjoint,
};
pub use cnn::Cnn;
pub use cordsnet::{CordsNet, Input, NeuralNoise, State, View, WriteImages};
pub use error::NetError;
pub use euler::Euler;
pub use fold::fold;
pub use graph::{Architecture, Area, Description, Graph, GraphError, Kernel, Origin, Preset, Projection, Source, Via};
pub use model::{Model, ModelInfo, Outline, Presentation, TrainedPhase};
pub use parameters::Parameters;
pub use time::{MOST_STEPS, no_multiple, unfit};

pub(crate) use cell::CellGradient;
pub(crate) use cnn::{CnnChunk, CnnGraph, ConvInput, NORM_EPSILON, Running, Statistics, cnn_others, running_from};
pub(crate) use connections::{Connections, Embedding, StepScratch, cordsnet_others};
pub(crate) use cordsnet::spread;
pub(crate) use diverged::diverged;
pub(crate) use filters::Weights;
pub(crate) use folded::{FoldedGraph, area_bias_name, current};
pub(crate) use graph::rule::MOST_AREAS;
pub(crate) use graph::{Conv, ConvKind, INPUT, Inlet, TwinArea, Way};
pub(crate) use parameters::bias_name;
pub(crate) use spontaneous::SpontaneousPhase;
pub(crate) use time::{fits, misfit};
