//! `dynvis worker`: the process that runs one stage. Started by `run`, not by people.

use std::path::PathBuf;

use super::error::CommandError;
use crate::run::serve;

#[derive(clap::Args)]
pub(crate) struct WorkerArgs {
    spec: PathBuf,
}

pub(crate) fn worker(args: &WorkerArgs) -> Result<u8, CommandError> {
    serve(&args.spec, &mut std::io::stdout(), &mut std::io::stderr())?;
    Ok(0)
}
