//! What can be wrong with recordings, with activity beside them, and with regressions between the two.

use std::path::PathBuf;

use dynvis_base::{Classified, ErrorKind};

/// Why nothing was read, simulated or fitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeuralError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Images cannot be read.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// Not a file of the kind that it should be, or a damaged one.
    #[error("{path}: {problem}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A variable of a file of recordings that is missing, damaged or of another shape than it must have.
    #[error("{path}: variable `{variable}`: {problem}")]
    Variable {
        /// Path of the file.
        path: PathBuf,
        /// Name or path of the variable within the file.
        variable: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Recordings that contradict themselves.
    #[error("recordings: {problem}")]
    Recordings {
        /// What the contradiction is.
        problem: String,
    },
    /// Two sets of stimuli that do not fit each other.
    #[error("stimulus `{stimulus}`: {problem}")]
    Stimulus {
        /// Id of the stimulus in the recordings.
        stimulus: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A choice that cannot be computed.
    #[error("{option}: {problem}")]
    Option {
        /// Name of the option that is at fault.
        option: &'static str,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Linear algebra that did not succeed.
    #[error("{what} failed: {problem}")]
    Numerics {
        /// What was to be computed.
        what: &'static str,
        /// Why the computation failed.
        problem: String,
    },
}

impl Classified for NeuralError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => Classified::kind(error),
            Self::Data(error) => error.kind(),
            Self::Numerics { .. } => ErrorKind::Diverged,
            Self::File { .. }
            | Self::Variable { .. }
            | Self::Recordings { .. }
            | Self::Stimulus { .. }
            | Self::Option { .. } => ErrorKind::Input,
        }
    }
}
