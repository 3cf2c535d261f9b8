//! Kinds of errors. Whether another attempt at a stage may help follows from the kind of the error that it ended with.

use crate::guard::Panicked;
use crate::memory::{NoRoom, ReadError};

/// What kind of failure an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Memory of the machine or of a device did not suffice; another attempt may find more.
    Memory,
    /// Reading or writing failed; another attempt may get over it.
    Io,
    /// What was given cannot be used: a file's content, a parameter, a combination of them.
    Input,
    /// A computation left the finite numbers or did not succeed.
    Diverged,
    /// A device that was asked for is missing or cannot be used.
    Device,
    /// The caller asked to stop.
    Stopped,
    /// A fault of the program itself.
    Bug,
}

/// An error that says which kind of failure it is. Every error that a stage kind may end with is one: a type that does
/// not say so cannot be passed on from a stage.
pub trait Classified: std::error::Error + 'static {
    /// The kind of failure.
    fn kind(&self) -> ErrorKind;
}

impl Classified for std::io::Error {
    fn kind(&self) -> ErrorKind {
        use std::io::ErrorKind::{InvalidData, InvalidInput, OutOfMemory, UnexpectedEof};
        match std::io::Error::kind(self) {
            OutOfMemory => ErrorKind::Memory,
            // What stands in a file does not get better.
            InvalidData | InvalidInput | UnexpectedEof => ErrorKind::Input,
            _ => ErrorKind::Io,
        }
    }
}

impl Classified for serde_json::Error {
    fn kind(&self) -> ErrorKind {
        match self.io_error_kind() {
            Some(kind) => Classified::kind(&std::io::Error::from(kind)),
            None => ErrorKind::Input,
        }
    }
}

impl Classified for NoRoom {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Memory
    }
}

impl Classified for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRoom(error) => error.kind(),
            Self::Io(error) => Classified::kind(error),
        }
    }
}

impl Classified for Panicked {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let of = |kind: std::io::ErrorKind| Classified::kind(&std::io::Error::from(kind));
        assert_eq!(of(std::io::ErrorKind::StorageFull), ErrorKind::Io);
        assert_eq!(of(std::io::ErrorKind::OutOfMemory), ErrorKind::Memory);
        assert_eq!(of(std::io::ErrorKind::InvalidData), ErrorKind::Input);
        let json = serde_json::from_str::<u8>("x").expect_err("no number");
        assert_eq!(json.kind(), ErrorKind::Input);
    }
}
