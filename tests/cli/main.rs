//! The tool from outside, as a user runs it. One binary, one module a theme.

mod check;
mod cli;
mod end_to_end;
mod harness;
mod scheduling;
