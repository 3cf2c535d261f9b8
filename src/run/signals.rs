//! Ctrl-C and termination as messages to the dispatcher.

use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `notify` for every SIGINT, SIGTERM and SIGHUP from now on.
pub(super) fn forward<T: Send + 'static>(
    sender: Sender<T>,
    notify: impl Fn() -> T + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(notify()).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// In a worker: on SIGTERM or SIGINT, ends the whole process group, so that no child outlives it.
pub(super) fn end_group_on_termination() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
        }
    });
    Ok(())
}
