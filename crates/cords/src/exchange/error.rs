//! What can be wrong with a file of weights that came from elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::net::NetError;
use dynvis_base::memory::NoRoom;
use dynvis_base::{Classified, ErrorKind};

/// A file of weights that cannot be read, does not fit a network, or cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Not a file of weights, or a damaged one.
    #[error("{path}: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `.pth` of before PyTorch 0.1.10.
    #[error(
        "{path}: a .pth in the tar format of before PyTorch 0.1.10, which is not read; convert it once in PyTorch: \
         `torch.save(torch.load(path), path)`"
    )]
    Legacy {
        /// Path of the file.
        path: PathBuf,
    },
    /// Several networks of which none is named, or none of the name that is asked for.
    #[error("{path}: it holds {}, below {}; name the one to take", networks(prefixes.len()), prefixes.join(", "))]
    Several {
        /// Path of the file.
        path: PathBuf,
        /// What stands before the names of each, in backticks.
        prefixes: Vec<String>,
    },
    /// What it unpacks to does not fit into memory.
    #[error("{path} is too large: {room}")]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// What it takes and what there is.
        room: NoRoom,
    },
    /// The pickle asks for something that is neither a tensor, a dict nor a plain value.
    #[error(
        "{path}: refused, since besides tensors, dicts and plain values it holds {}; nothing of it was executed. Save the \
         `state_dict()` alone", names.join(", ")
    )]
    Refused {
        /// Path of the file.
        path: PathBuf,
        /// Python names, opcodes or entries, each in backticks.
        names: Vec<String>,
    },
    /// Entries that do not make a network.
    #[error("{path}: {report}")]
    Entries {
        /// Path of the file.
        path: PathBuf,
        /// All that does not fit.
        report: Box<Report>,
    },
    /// The sizes that the shapes give make no network.
    #[error("{path}: the sizes of its tensors make no network")]
    Sizes {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: NetError,
    },
    /// The weights of a CNN do not tell the side of the image.
    #[error("{path}: a CNN's weights do not tell the side of its images; give it")]
    Side {
        /// Path of the file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn networks(count: usize) -> String {
    match count {
        1 => "1 network".to_owned(),
        n => format!("{n} networks"),
    }
}

impl Classified for ExchangeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => Classified::kind(error),
            Self::Sizes { source, .. } => source.kind(),
            Self::TooLarge { .. } => ErrorKind::Memory,
            Self::File { .. }
            | Self::Legacy { .. }
            | Self::Several { .. }
            | Self::Refused { .. }
            | Self::Entries { .. }
            | Self::Side { .. } => ErrorKind::Input,
        }
    }
}

impl ExchangeError {
    pub(super) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// A tensor of the wrong shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Name of the tensor in the file.
    pub name: String,
    /// Shape that the tensor has.
    pub found: Vec<usize>,
    /// Shape that the network needs; 0 for a size that no entry tells.
    pub expected: Vec<usize>,
}

/// Everything about a set of entries that does not fit the network whose sizes most of them agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The network, e.g. `CordsNet-R2`.
    pub network: String,
    /// Names that it needs and that are not there.
    pub missing: Vec<String>,
    /// Names that it does not have.
    pub unexpected: Vec<String>,
    /// Tensors of the wrong shape.
    pub misshapen: Vec<Misshapen>,
    /// Tensors whose values cannot be used, with the reason.
    pub unusable: Vec<(String, String)>,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty() && self.unusable.is_empty()
    }

    /// One line for each entry that does not fit.
    pub fn lines(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|name| format!("missing: `{name}`"));
        let unexpected = self.unexpected.iter().map(|name| format!("unexpected: `{name}`"));
        let misshapen = self.misshapen.iter().map(|entry| {
            let known = |size: &usize| if *size == 0 { "?".to_owned() } else { size.to_string() };
            let expected: Vec<String> = entry.expected.iter().map(known).collect();
            format!(
                "wrong shape: `{}` is {:?}, needed is [{}]",
                entry.name,
                entry.found,
                expected.join(", ")
            )
        });
        let unusable = self
            .unusable
            .iter()
            .map(|(name, reason)| format!("unusable: `{name}` {reason}"));
        missing.chain(unexpected).chain(misshapen).chain(unusable).collect()
    }

    /// The counts alone: `not a CordsNet-R2: 1 entry missing, 2 unexpected, 0 misshapen, 0 unusable`.
    pub fn summary(&self) -> String {
        format!(
            "its entries are not those of a {}: {} missing, {} unexpected, {} of wrong shape, {} unusable",
            self.network,
            self.missing.len(),
            self.unexpected.len(),
            self.misshapen.len(),
            self.unusable.len()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.summary(), self.lines().join("; "))
    }
}
