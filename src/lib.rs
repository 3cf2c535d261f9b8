//! Convolutional recurrent networks for vision as cached pipelines: the stage kinds and the command line of `dynvis`.
//!
//! The program is `dynvis::run_with(dynvis::kinds())`. A program with stage kinds of its own adds them:
//! `dynvis::run_with(dynvis::kinds().with::<MyKind>())`; see `examples/own_stage_kind.rs` and [`runner::kind::Kind`].

mod cli;
mod data;
mod figure;
mod harmless;
mod remote;
mod stage;

pub use dynvis_runner as runner;
use dynvis_runner::kind::Registry;

/// The stage kinds and presets of dynvis, GPUs through NVIDIA's driver.
#[must_use]
pub fn kinds() -> Registry {
    let registry = Registry::new(env!("CARGO_PKG_VERSION"))
        .with_presets(&include!(concat!(env!("OUT_DIR"), "/presets.rs")))
        .with_gpus(&stage::Cuda)
        .with_remotes(remote::check_address)
        .with_lock_file(include_bytes!("../Cargo.lock"));
    stage::with_kinds(registry)
}

/// Runs the command line with these stage kinds, and gives the exit code that the process shall end with. Called once,
/// from `main`: stages run in processes of their own, which are the same program again.
#[must_use]
pub fn run_with(registry: Registry) -> std::process::ExitCode {
    cli::main(registry)
}
