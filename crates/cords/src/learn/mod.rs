//! Training: the published objective, backpropagation through time, optimisers and the training loop.
//!
//! Gradients are written by hand over the kernel interface; there is no tape. A batch is cut into groups of a fixed
//! number of images whose gradients are summed in order, so the number of threads never shows in a result.

mod activity;
mod ahead;
mod best;
mod checkpoint;
mod cnn_gradient;
mod config;
mod error;
mod evaluate;
mod final_states;
mod fit;
mod gathered;
mod gradient;
mod history;
mod image_gradient;
mod init;
mod invert;
mod invert_training;
mod memory;
mod objective;
mod optimise;
mod rollout;
mod snapshot;
mod train;
mod training;
mod training_loop;
mod trajectory;

pub use activity::GradientAt;
pub(crate) use activity::{ActivityLearner, StimulusPeriod};
pub use best::{BestBy, Keep};
pub use checkpoint::Checkpoints;
pub use cnn_gradient::{CnnGradient, CnnLoss, cnn_gradient};
pub use config::{CnnConfig, DirectConfig, Fit};
pub use error::TrainError;
pub use evaluate::{Answers, Evaluation, evaluate};
pub use final_states::FinalStates;
pub use fit::{Data, EpochRecord, Observer, Progress, TrainingPosition};
pub use gradient::{Batch, BatchLoss, CordsNetGradient, Gradient};
pub use history::HistoryPrecision;
pub use image_gradient::image_gradient;
pub use init::Initialisation;
pub use invert::{AreaInverse, AreaInversion, AreaInversionGradient};
pub use invert_training::{InvertConfig, TrainedInverse};
pub use memory::Memory;
pub use objective::{Objective, logspace};
pub use optimise::{Optimiser, OptimiserKind, OptimiserSettings, Schedule, WarmUp, clip_gradient_norm, learning_rate};
pub(crate) use snapshot::{Record, Snapshot, SnapshotError, record};
pub use train::{PhiSchedule, TrainedCnn, TrainedCordsNet, WindowRecord};
pub use training::Training;
pub use training_loop::CheckpointProgress;
pub(crate) use training_loop::{Next, Resumable, TrainingLoop};
