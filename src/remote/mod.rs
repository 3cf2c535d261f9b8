//! Results elsewhere: what is sent to a remote and fetched from it (`shared`), and one run in one file (`bundle`).
//! Knows no stage kind, prints nothing.

pub(crate) mod bundle;
mod shared;

pub(crate) use shared::{Sent, Shared};

/// What is wrong with the address of a remote.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    let parsed = dynvis_remote::Place::parse(text, std::path::Path::new("/"));
    parsed.map(|_| ()).map_err(|error| error.to_string())
}
