//! `dynvis worker`: the process that runs one stage. Started by `run`, not by people.

use std::path::PathBuf;

use super::error::CommandError;
use dynvis_runner::run::{RankArguments, guard, serve, serve_job, serve_rank};

#[derive(clap::Args)]
pub(crate) struct WorkerArgs {
    spec: PathBuf,
}

pub(crate) fn worker(args: &WorkerArgs) -> Result<u8, CommandError> {
    serve(
        super::registry(),
        &args.spec,
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )?;
    Ok(0)
}

/// Arguments of the process that a job is.
#[derive(clap::Args)]
pub(crate) struct JobArgs {
    folder: PathBuf,
    token: String,
}

pub(crate) fn job(args: &JobArgs) -> Result<u8, CommandError> {
    serve_job(super::registry(), &args.folder, &args.token).map_err(|source| CommandError::Io {
        action: format!("cannot do the job of `{}`", args.folder.display()),
        source,
    })?;
    Ok(0)
}

/// Arguments of a process that computes a stage together with its worker.
#[derive(clap::Args)]
pub(crate) struct RankArgs {
    spec: PathBuf,
    parent: u32,
    rank: usize,
    world: usize,
    id: String,
}

pub(crate) fn rank(args: &RankArgs) -> Result<u8, CommandError> {
    let arguments = RankArguments {
        spec: args.spec.clone(),
        parent: args.parent,
        rank: args.rank,
        world: args.world,
        id: args.id.clone(),
    };
    serve_rank(
        super::registry(),
        &arguments,
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )?;
    Ok(0)
}

/// Arguments of the process between a worker and a user's program.
#[derive(clap::Args)]
pub(crate) struct GuardArgs {
    parent: u32,
    place: PathBuf,
    program: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn guarded(args: &GuardArgs) -> Result<u8, CommandError> {
    guard(args.parent, &args.place, &args.program, &args.arguments).map_err(|source| CommandError::Io {
        action: format!("cannot run `{}`", args.program),
        source,
    })?;
    Ok(0)
}
