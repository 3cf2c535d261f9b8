//! What the engine and the runner share and neither owns: how files that others wrote are opened (regular files only),
//! parsed (a panic is an error) and kept within the memory that there is, and the kinds of errors that a caller tells
//! apart; and what operating systems do in different ways. Many files of one folder are held compactly.

mod error;
mod file_list;
pub mod files;
pub mod guard;
pub mod memory;
pub mod platform;

pub use error::{Classified, ErrorKind};
pub use file_list::{FileList, Head, write_name};
