//! Why a training stopped early.

use super::EpochRecord;
use dynvis_base::{Classified, ErrorKind};

use crate::data::DataError;
use crate::device::DeviceError;
use crate::net::NetError;

/// A training that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The network's description is not usable.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A setting is not usable.
    #[error("training setting {field}: {problem}")]
    Setting {
        /// Name of the setting that is at fault.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Images do not fit the network.
    #[error(
        "the network takes {expected_channels} x {expected_side}^2 images of {expected_classes} classes, the {set} \
         images are {channels} x {side}^2 of {classes}"
    )]
    Images {
        /// Which set of images.
        set: &'static str,
        /// Channels that the network needs.
        expected_channels: usize,
        /// Side that the network needs.
        expected_side: usize,
        /// Classes that the network has.
        expected_classes: usize,
        /// Channels of the images.
        channels: usize,
        /// Height and width of the images.
        side: usize,
        /// Number of classes of the images.
        classes: usize,
    },
    /// A set of images is empty.
    #[error("there are no {set} images")]
    NoImages {
        /// Which set of images.
        set: &'static str,
    },
    /// A label is not a class of the network.
    #[error("{set} image {image} has label {label}, the network has {classes} classes")]
    Label {
        /// Which set of images.
        set: &'static str,
        /// Index of the image in its set, from 0.
        image: usize,
        /// Label of the image.
        label: u32,
        /// Number of classes of the network.
        classes: usize,
    },
    /// A gradient step does not fit into the memory that it may take, even with the fewest activities kept.
    #[error(
        "a gradient step needs at least {:.2} GiB, the memory budget is {:.2} GiB: raise the budget, or train a \
         smaller network or batch",
        gib(*needed),
        gib(*budget)
    )]
    Memory {
        /// Bytes that the smallest plan takes.
        needed: u64,
        /// Bytes that a gradient step may take.
        budget: u64,
    },
    /// Loss or gradient became infinite or NaN.
    #[error(
        "{what} is not finite in epoch {epoch}, step {step} (largest activity {largest:e} in {place}): lower the \
         learning rate or clip the gradient"
    )]
    NonFinite {
        /// What is not finite: loss or gradient.
        what: &'static str,
        /// Training epoch, from 0.
        epoch: usize,
        /// Optimiser step within the epoch, from 0.
        step: usize,
        /// Largest activity seen in that step.
        largest: f64,
        /// Where: an area, or a layer of the CNN.
        place: String,
    },
    /// An image cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device that the network trains on has failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The observer asked to stop.
    #[error("stopped by request after {} whole epochs, {}", records.len(), if *checkpoint { "to be resumed from its \
        checkpoint" } else { "without a checkpoint" })]
    Stopped {
        /// Records of the epochs that were completed.
        records: Vec<EpochRecord>,
        /// Whether the state at this moment is on disk, so that the same training goes on from here.
        checkpoint: bool,
    },
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

impl Classified for TrainError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Net(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Memory { .. } => ErrorKind::Memory,
            Self::NonFinite { .. } => ErrorKind::Diverged,
            Self::Stopped { .. } => ErrorKind::Stopped,
            Self::Setting { .. } | Self::Images { .. } | Self::NoImages { .. } | Self::Label { .. } => ErrorKind::Input,
        }
    }
}
