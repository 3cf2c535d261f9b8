//! How a call computes: on threads of the engine, while other Python threads run and Ctrl-C is looked for.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cords::interrupt::{Stop, interruptible};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// How often Ctrl-C is looked for.
const TICK: Duration = Duration::from_millis(20);

/// The threads that compute, and the process that they belong to.
static THREADS: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// As many threads as the machine has, or `RAYON_NUM_THREADS`. They do not outlive a fork: the new process, as
/// `multiprocessing` starts it, gets its own, and those of the old one are left alone.
fn threads() -> PyResult<Arc<ThreadPool>> {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((owner, pool)) = &*threads
        && *owner == process
    {
        return Ok(pool.clone());
    }
    let pool = ThreadPoolBuilder::new().thread_name(|number| format!("dynvis {number}"));
    let pool = pool
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("no threads can be had: {error}")))?;
    let pool = Arc::new(pool);
    // Dropping another process's would wait for threads that are not there.
    std::mem::forget(threads.replace((process, pool.clone())));
    Ok(pool)
}

/// Computes, and gives the result or the exception of a signal, `KeyboardInterrupt` for one.
///
/// # Errors
/// What a signal handler has raised.
pub(crate) fn compute<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> PyResult<R> {
    let threads = threads()?;
    let stop = Stop::default();
    py.detach(|| {
        threads.in_place_scope(|scope| {
            let (done, result) = channel();
            let asked = stop.clone();
            scope.spawn(move |_| {
                // Whoever waits for it may have gone.
                let _ = done.send(interruptible(&asked, work));
            });
            let mut raised = None;
            loop {
                match result.recv_timeout(TICK) {
                    Ok(Ok(result)) if raised.is_none() => return Ok(result),
                    // A panic, if not of ours, goes on at the end of the scope.
                    Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                        return Err(raised.unwrap_or_else(|| PyRuntimeError::new_err("interrupted")));
                    }
                    Err(RecvTimeoutError::Timeout) if raised.is_none() => {
                        raised = Python::attach(|py| py.check_signals()).err();
                        if raised.is_some() {
                            stop.ask();
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    })
}
