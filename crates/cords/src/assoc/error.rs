//! Why association areas could not be built, trained or measured.

use dynvis_base::{Classified, ErrorKind};

use crate::data::DataError;
use crate::net::NetError;

/// What went wrong, with the value and what would do instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssocError {
    /// The front-end is not usable.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A setting is not usable.
    #[error("{setting}: {problem}")]
    Setting {
        /// Name of the setting that is at fault.
        setting: &'static str,
        /// What is wrong with it, and what would do.
        problem: String,
    },
    /// Values of another number than their sizes call for.
    #[error("{what}: {found} values, but the sizes call for {expected}")]
    Shape {
        /// What the values are, with their sizes.
        what: &'static str,
        /// Number of values given.
        found: usize,
        /// The number that fits.
        expected: usize,
    },
    /// Training left the finite numbers.
    #[error("the loss is not finite at training step {step}; lower `learning_rate` or the weights' `gain`")]
    Diverged {
        /// The step, from 0.
        step: usize,
    },
    /// The front-end could not be trained.
    #[error(transparent)]
    Training(#[from] crate::learn::TrainError),
    /// An image cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The machine has no memory left for a group of trials.
    #[error("no memory for a group of trials; lower `batch` or the number of units")]
    Memory,
    /// A file of association areas that cannot be read.
    #[error("{}: not a file of association areas: {problem}", .file.display())]
    File {
        /// Path of the file.
        file: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Interrupted by the caller.
    #[error("stopped")]
    Stopped,
}

impl Classified for AssocError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Net(error) => error.kind(),
            Self::Training(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Io(error) => Classified::kind(error),
            Self::Memory => ErrorKind::Memory,
            Self::Diverged { .. } => ErrorKind::Diverged,
            Self::Stopped => ErrorKind::Stopped,
            Self::Shape { .. } => ErrorKind::Bug,
            Self::Setting { .. } | Self::File { .. } => ErrorKind::Input,
        }
    }
}

impl AssocError {
    pub(crate) fn setting(setting: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting {
            setting,
            problem: problem.into(),
        }
    }
}

/// Sizes are checked before tensors are made, so that what dfdx can still report is a lack of memory.
impl From<dfdx::tensor::CpuError> for AssocError {
    fn from(_: dfdx::tensor::CpuError) -> Self {
        Self::Memory
    }
}
