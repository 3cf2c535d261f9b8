//! Association areas above a visual front-end, and the cognitive tasks that they learn.
//!
//! Rate units with the front-end's dynamics, any number of areas with forward and feedback projections. Gradients come
//! from dfdx; the same seed gives the same bits for any number of threads.

mod canvas;
mod decode;
mod dependence;
mod encoder;
mod error;
mod experiment;
mod front_end;
mod gradient;
mod layout;
mod measure;
mod psychometric;
mod readings;
mod readout;
mod simulate;
mod steady;
mod stimulus;
mod task_training;
mod tasks;
mod train;
mod trial;
mod weights;

pub use decode::decode;
pub use dependence::Dependence;
pub use encoder::{OneHot, Responses, StimulusEncoder};
pub use error::AssocError;
pub use experiment::{ActivityObserver, Answer, GROUP, Presented, Setting, Simulation};
pub use front_end::{FrontEnd, FrontEndSettings, FrontEndTraining};
pub use gradient::{Group, GroupGradient, LossKind, Objective, Share, group_gradient};
pub use layout::{Area, Layout, Projection};
pub use measure::{EpochRate, Lesion, MeasureObserver, NetworkMeasured, Score, TestTrials};
pub use psychometric::{Choices, Graded, Psychometric, psychometric};
pub use readings::{Decoded, DelayState, DelayStateOptions, decode_over_time, delay_states};
pub use readout::Readout;
pub use simulate::{Activity, simulate};
pub use steady::{AssocJacobian, AssocSteadyState, modes, settle};
pub use stimulus::{Clip, Item, PLACES, Scene, clips};
pub use tasks::{Delay, Draw, Duration, Pool, Task, TaskName, Timing};
pub use train::{TrainObserver, TrainOptions, TrainProgress, TrainRecord, Trained, Training};
pub use trial::{Epoch, Mask, Trial};
pub use weights::Weights;
