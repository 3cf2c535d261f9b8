//! Why a stage failed.

use dynvis_base::{Classified, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Broken;

/// Kinds of failure that another attempt may get over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// memory of the machine or of a GPU did not suffice
    Oom,
    /// reading or writing failed
    Io,
    /// a job came to the time limit of its queue
    Time,
}

impl ErrorClass {
    /// As messages say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oom => "out of memory",
            Self::Io => "input or output failed",
            Self::Time => "time limit",
        }
    }

    /// The class of a kind of failure, where another attempt may get over it.
    fn of(kind: ErrorKind) -> Option<Self> {
        match kind {
            ErrorKind::Memory => Some(Self::Oom),
            ErrorKind::Io => Some(Self::Io),
            ErrorKind::Input | ErrorKind::Diverged | ErrorKind::Device | ErrorKind::Stopped | ErrorKind::Bug => None,
        }
    }
}

/// Why a stage failed, as its worker reports it.
///
/// It is made from every error that says which kind it is ([`Classified`]), so that no error of an engine is passed on
/// without an answer to whether another attempt may help.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageError {
    /// What went wrong, for the user.
    pub message: String,
    /// Causes, from the nearest to the deepest; empty where the message says all.
    pub causes: Vec<String>,
    /// What the user can do; `None` where nothing is to be said.
    pub hint: Option<String>,
    /// The class of failure, for `retry`; `None` where another attempt does not help.
    pub class: Option<ErrorClass>,
}

impl StageError {
    /// A failure without causes or hint that another attempt does not get over.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            class: None,
        }
    }

    /// Says what the user can do, in place of an earlier hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whether another attempt may help; `None`: it does not.
    pub fn class(mut self, class: Option<ErrorClass>) -> Self {
        self.class = class;
        self
    }

    /// Keeps the whole chain of causes.
    pub fn from_error(error: &dyn Classified) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self {
            message: error.to_string(),
            causes,
            hint: None,
            class: ErrorClass::of(error.kind()),
        }
    }
}

impl std::fmt::Display for StageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Broken> for StageError {
    fn from(broken: Broken) -> Self {
        let message = format!("its output `{}` breaks a condition: {}", broken.output, broken.problem);
        Self::new(message).hint("the conditions are in the stage's `ensure`; what it wrote is kept under the run")
    }
}

impl<E: Classified> From<E> for StageError {
    fn from(error: E) -> Self {
        Self::from_error(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableError;

    #[test]
    fn errors_know_whether_another_attempt_may_help() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let class = |error: StageError| error.class;
        assert_eq!(class(full().into()), Some(ErrorClass::Io));
        assert_eq!(class(TableError::Io(full()).into()), Some(ErrorClass::Io));
        let memory = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        assert_eq!(class(memory.into()), Some(ErrorClass::Oom));
        let content = std::io::Error::from(std::io::ErrorKind::InvalidData);
        assert_eq!(class(content.into()), None);
        assert_eq!(class(StageError::new("wrong")), None);
        let text = serde_json::to_string(&StageError::from(full())).expect("json");
        let back: StageError = serde_json::from_str(&text).expect("json");
        assert_eq!(back.class, Some(ErrorClass::Io), "it survives the way to the parent");
    }
}
