//! `dynvis`: convolutional recurrent networks for vision as cached pipelines.

mod cli;
mod fail;
mod files;
mod key;
mod pipeline;
mod plan;
mod run;
mod stage;
mod store;
mod table;

fn main() -> std::process::ExitCode {
    cli::main()
}
