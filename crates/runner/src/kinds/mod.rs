//! Stage kinds that any program can offer: they know of files and tables, and of nothing else.

mod collect;
mod command;

pub use collect::Collect;
pub use command::{Command, FilesOrTable, OutputType};
