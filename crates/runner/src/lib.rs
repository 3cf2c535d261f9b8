//! Pipelines of cached stages: from YAML to a plan, to processes, to stored results and tables.
//!
//! Knows no stage kind but a program of the user's own and the collecting of tables ([`kinds`]); a [`kind::Registry`]
//! says which others there are, and what they compute is their own business. Prints nothing: errors are typed, and what
//! happens in a run is told to a [`run::Reporter`].
//!
//! A run starts its own program again, as `PROGRAM worker SPEC` for every stage and as `PROGRAM guard …` above a user's
//! program: a program that calls [`run::run`] answers to both, with [`run::serve`] and [`run::guard`].

#![allow(
    missing_docs,
    reason = "fields of records and variants of events say by their names what they are"
)]

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
