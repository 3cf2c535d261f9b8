//! Ctrl-C and termination as messages to the dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `notify` with every SIGINT, SIGTERM and SIGHUP from now on.
pub(super) fn forward<T: Send + 'static>(
    sender: Sender<T>,
    notify: impl Fn(i32) -> T + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            if sender.send(notify(signal)).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

/// In a worker: what SIGTERM, SIGINT and SIGHUP do.
#[derive(Clone, Default)]
pub(super) struct Termination {
    /// Set by the first of them, for the stage to see.
    pub(super) requested: Arc<AtomicBool>,
    /// Whether the stage looks at it. If not, the whole process group ends at once, so that no child outlives the
    /// worker.
    pub(super) is_heeded: Arc<AtomicBool>,
}

impl Termination {
    /// From now on.
    pub(super) fn listen() -> std::io::Result<Self> {
        let termination = Self::default();
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let heard = termination.clone();
        std::thread::Builder::new().spawn(move || {
            for _ in signals.forever() {
                heard.requested.store(true, Ordering::SeqCst);
                if !heard.is_heeded.load(Ordering::SeqCst) {
                    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
                }
            }
        })?;
        Ok(termination)
    }
}
