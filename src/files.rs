//! How the tool opens files that others made.

pub(crate) use cords::files::{irregular, open, read, read_to_string};
