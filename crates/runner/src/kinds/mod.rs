//! Stage kinds that any program can offer: they know of files and tables, and of nothing else.
//!
//! They are kinds like those of any lab, over the same contract, and come last: `command` starts its program through
//! the guard of `run`. As special cases within the dispatcher they could do without a worker between tool and program,
//! but keys, conditions, retries and publishing would each have a second case.

mod collect;
mod command;

pub use collect::{Collect, joined};
pub use command::{Command, FilesOrTable, OutputType};
