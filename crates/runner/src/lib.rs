//! Pipelines of cached stages: from YAML to a plan, to processes, to stored results and tables.
//!
//! Knows no stage kind but a program of the user's own and the collecting of tables ([`kinds`]); a [`kind::Registry`]
//! says which others there are, and what they compute is their own business. Prints nothing: errors are typed, and what
//! happens in a run is told to a [`run::Reporter`].
//!
//! A run starts its own program again, as `PROGRAM worker SPEC` for every stage and as `PROGRAM guard …` above a user's
//! program, and as `PROGRAM job FOLDER TOKEN` on nodes of a cluster: a program that calls [`run::run`] answers to these,
//! with [`run::serve`], [`run::guard`] and [`run::serve_job`].
//!
//! # Modules
//!
//! Each uses only modules below it in this list, which `tests/cli/modules.rs` reads and holds the code against.
//!
//! - `kinds`: the stage kinds that know of files and tables only
//! - `run`: workers, leases, publishing
//! - `plan`: what would run, and why
//! - `pipeline`: from YAML to typed stages
//! - `store`: results on disk, the journal, locks, records of runs
//! - `kind`: the contract between a stage kind and everything below
//! - `key`: what identifies a result, and fingerprints of files
//! - `table`: result tables, their files, their differences, and how they are shown
//! - `names`: names of stages, members and outputs, and the way from a name to what it stands for
//! - `fail`: steps at which tests kill a run or let its disk be full

// What derives write is called from outside and from here.
extern crate self as dynvis_runner;

pub mod fail;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod names;
pub mod pipeline;
pub mod plan;
pub mod run;
pub mod store;
pub mod table;
