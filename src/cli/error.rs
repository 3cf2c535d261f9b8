//! Everything that a user is told when something is wrong: message, causes, hint, exit code.

use dynvis_runner::key::FingerprintError;
use dynvis_runner::kind::StageError;
use dynvis_runner::pipeline::{Problem, SourceTexts};
use dynvis_runner::plan::SelectionError;
use dynvis_runner::run::{MissingFor, RunError};
use dynvis_runner::store::StoreError;
use dynvis_runner::table::TableError;

use super::exit;
use super::wording::size;
use crate::data::fetch::FetchError;

/// What a subcommand can end with, other than success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{} problem{} in this {what}", .problems.len(), if .problems.len() == 1 { "" } else { "s" })]
    Pipeline {
        /// Which text it is.
        what: &'static str,
        problems: Vec<Problem>,
        sources: SourceTexts,
    },
    #[error("data is missing; nothing was run")]
    MissingData(Vec<MissingFor>),
    #[error("{message}")]
    User { message: String, hint: Option<String> },
    #[error(transparent)]
    Selection(#[from] SelectionError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Run(RunError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Remote(#[from] dynvis_remote::RemoteError),
    #[error(transparent)]
    Training(#[from] cords::learn::TrainError),
    #[error("{0}")]
    Stage(StageError),
    #[error("{action}")]
    Io {
        action: String,
        #[source]
        source: std::io::Error,
    },
    /// Whoever read the output has closed it: no error.
    #[error("the output was closed")]
    BrokenPipe,
}

/// What to do where the cache cannot be read or written.
fn store_hint(kind: std::io::ErrorKind) -> String {
    use std::io::ErrorKind as Kind;
    match kind {
        Kind::PermissionDenied => {
            "is the cache read-only? Its files or folders may be another user's: a group shares it where its folders \
             are the group's (`chmod -R g+rwX`, setgid) and all work with umask 002; or use a cache of your own with \
             `--cache FOLDER`"
        }
        Kind::ReadOnlyFilesystem => "the file system is read-only: use another folder with `--cache FOLDER`",
        Kind::StorageFull | Kind::QuotaExceeded => "make room, with `dynvis gc` for example",
        _ => "is the disk full, or the folder read-only?",
    }
    .to_owned()
}

/// What to do where a data set did not come.
fn fetch_hint(error: &FetchError) -> Option<String> {
    use std::io::ErrorKind as Kind;
    Some(match error {
        FetchError::Interrupted => "what came is kept; the same command goes on where it ended".into(),
        FetchError::Addresses { .. } => {
            "the same command goes on where it ended; `--mirror URL` fetches from elsewhere, `--proxy URL` by way of a \
             proxy"
                .into()
        }
        FetchError::Other { .. } => {
            "move it away if it is your own; `--replace` puts the published file in its place".into()
        }
        FetchError::NoFile(_) => "move it away".into(),
        FetchError::Room { needed, free, .. } => format!(
            "{} of {} are free; the project's `data` may be a link to another disk",
            size(*free),
            size(*needed)
        ),
        FetchError::Archive { .. } => "`--replace` fetches it again".into(),
        FetchError::Disk { source, .. } => match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => {
                "make room; what came is kept, and the same command goes on where it ended".into()
            }
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
                "the folder cannot be written; the project's `data` may be a link to a folder that can".into()
            }
            _ => return None,
        },
        FetchError::Proxy(_) => "`http://HOST:PORT`, `https://HOST:PORT` or `socks5://HOST:PORT` is one".into(),
        FetchError::Certificates { .. } => return None,
    })
}

impl From<StageError> for CommandError {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::MissingData(missing) => Self::MissingData(missing),
            RunError::Store(e) => Self::Store(e),
            RunError::Fingerprint(e) => Self::Fingerprint(e),
            other => Self::Run(other),
        }
    }
}

impl CommandError {
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::User {
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::User {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Run(RunError::Device { .. }) => exit::USAGE,
            Self::Fetch(FetchError::Interrupted) => exit::INTERRUPTED,
            Self::Stage(_) | Self::Training(_) | Self::Run(_) => exit::STAGE_FAILED,
            _ => exit::USAGE,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::User { hint, .. } => hint.clone(),
            Self::Selection(e) => Some(match &e.suggestion {
                Some(name) => format!("did you mean `{name}`?"),
                None => "`dynvis dag PIPELINE` lists the stages".into(),
            }),
            Self::Store(StoreError::NoSuchRun { .. }) => {
                Some("`dynvis runs` lists the runs; `@` is the last one, `@-1` the one before".into())
            }
            Self::Store(StoreError::AmbiguousRun { .. }) => Some("give more letters of the run's id".into()),
            Self::Store(StoreError::Format { .. }) => {
                Some("use another folder with `--cache`, or move the old one away".into())
            }
            Self::Store(StoreError::Io { source, .. }) => Some(store_hint(source.kind())),
            Self::Store(StoreError::NewerRun { .. }) => Some("read it with that version of dynvis".into()),
            Self::Run(RunError::Device { .. }) => Some("`dynvis doctor` shows what this machine offers".into()),
            Self::Stage(e) => e.hint.clone(),
            Self::Fetch(e) => fetch_hint(e),
            Self::Remote(e) => Some(e.advice().to_owned()).filter(|advice| !advice.is_empty()),
            _ => None,
        }
    }

    /// The chain of causes below the message.
    pub(crate) fn causes(&self) -> Vec<String> {
        if let Self::Stage(e) = self {
            return e.causes.clone();
        }
        if let Self::Fetch(FetchError::Addresses { failures, .. }) = self {
            let cause = |(address, reason): &(String, String)| format!("{address} {reason}");
            return failures.iter().map(cause).collect();
        }
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }
}
