//! Results elsewhere: what is sent to a remote and fetched from it (`shared`), and one run in one file (`bundle`).
//! Knows no stage kind, prints nothing.

pub(crate) mod bundle;
mod shared;

pub(crate) use shared::{Sent, Shared};
