//! The tool from outside, as a user runs it. One binary, one module a theme.

#![allow(unreachable_pub, reason = "modules of one test binary")]

mod check;
mod cli;
mod cognitive;
mod diff;
mod end_to_end;
mod exchange;
mod harness;
mod history;
mod housekeeping;
mod idle;
mod manual;
mod predictivity;
mod resume;
mod scheduling;
mod staged;
