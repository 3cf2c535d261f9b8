//! The process between a worker and a user's program. It adopts whatever the program leaves behind, also in sessions of
//! its own, and ends all of it with the stage, and where its worker is killed. The worker does the same where this
//! process is killed. Where both are, and the tool, the program goes on; it holds the key's lock then, so that nobody
//! else computes the key meanwhile.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use dynvis_base::platform;
use rustix::process::{Signal, WaitOptions};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How the program ended.
#[derive(Debug, Serialize, Deserialize)]
enum Ended {
    /// With this status, as the system gives it.
    With(i32),
    /// It could not be started.
    NotStarted(String),
}

/// Runs a program to its end, with all that it starts. `prepare` sets its folder, variables and log; `place` is a file
/// for the two processes to speak through.
///
/// # Errors
/// Why the program could not be started.
pub(crate) fn run_program(
    program: &str,
    arguments: &[String],
    place: &Path,
    prepare: impl FnOnce(&mut Command),
) -> std::io::Result<ExitStatus> {
    platform::adopt_orphans()?;
    let mut guard = Command::new(platform::own_program()?);
    guard
        .arg0("dynvis")
        .args(["guard", &std::process::id().to_string()])
        .arg(place)
        .arg("--")
        .arg(program)
        .args(arguments)
        // The locks, and the pipe at whose end the tool takes the stage to be over.
        .stdin(Stdio::from(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?))
        .stdout(Stdio::from(rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?))
        .process_group(0);
    prepare(&mut guard);
    let status = guard.spawn()?.wait()?;
    end_children();
    let said = fs_err::read(place)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match said {
        Some(Ended::With(status)) => Ok(ExitStatus::from_raw(status)),
        Some(Ended::NotStarted(why)) => Err(std::io::Error::other(why)),
        // It was killed.
        None => Ok(status),
    }
}

/// The guard's side: runs `program` as the worker `parent` (a process id) asked, and writes into the file `place` how
/// that ended.
///
/// # Errors
/// The worker is gone, the system refuses what the guard needs, or `place` cannot be written. That the program could
/// not be started is no error here: it is written into `place`.
pub fn guard(parent: u32, place: &Path, program: &str, arguments: &[String]) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    platform::adopt_orphans()?;
    platform::end_with_parent(parent, Signal::TERM)?;
    // Without it the program would outlive its stage: rather it is not started.
    std::thread::Builder::new().spawn(move || {
        if signals.forever().next().is_some() {
            loop {
                kill_children();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    })?;
    // Without close-on-exec, so that the program has the locks, too.
    let _locks = rustix::io::dup(std::io::stdin())?;
    let log = File::from(rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3)?);
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .spawn();
    let ended = match child {
        Ok(mut child) => Ended::With(child.wait()?.into_raw()),
        Err(error) => Ended::NotStarted(error.to_string()),
    };
    end_children();
    fs_err::write(place, serde_json::to_vec(&ended)?)
}

/// Kills the processes that this one has started or adopted, until none is left.
fn end_children() {
    while kill_children() {
        // Those of the ones that end here are adopted, and come next.
        if rustix::process::wait(WaitOptions::empty()).is_err() {
            break;
        }
    }
}

/// Whether there were any.
fn kill_children() -> bool {
    let children = platform::children();
    for child in &children {
        // It may have ended in this moment.
        let _ = rustix::process::kill_process(*child, Signal::KILL);
    }
    !children.is_empty()
}
