//! Published data sets: which there are, what is there of them in a project, and how they come onto the disk.
//!
//! - [`catalogue`]: the table of sets, with addresses, sizes, checksums and licences
//! - [`presence`]: what of a set lies in a project's folder, by size or by checksum
//! - [`get`]: a whole set: its files, and what archives hold
//! - [`unpack`]: what an archive holds, as files
//! - [`fetch`]: one file, from the first address that gives what was published
//! - [`part`]: a file that is not complete yet
//! - [`checksum`]: checksums of bytes that come one after the other

pub(crate) mod catalogue;
pub(crate) mod checksum;
pub(crate) mod fetch;
pub(crate) mod get;
mod part;
pub(crate) mod presence;
#[cfg(test)]
mod tests;
mod unpack;
