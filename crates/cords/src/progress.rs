//! Progress that is counted from any thread.

use std::sync::{Mutex, PoisonError};

/// What is told (parts done, parts in all).
type Listener<'a> = &'a mut (dyn FnMut(usize, usize) + Send);

/// Tells a listener how many of so many parts of some work are done.
pub(crate) struct Counter<'a> {
    counted: Mutex<(usize, Listener<'a>)>,
    total: usize,
}

impl<'a> Counter<'a> {
    /// Nothing is done yet, which is told at once.
    pub(crate) fn new(total: usize, listener: Listener<'a>) -> Self {
        listener(0, total);
        Self {
            counted: Mutex::new((0, listener)),
            total,
        }
    }

    /// One more part is done.
    pub(crate) fn add(&self) {
        // A count is whole whatever became of the thread that held it.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.0 += 1;
        let done = counted.0;
        (counted.1)(done, self.total);
    }
}
