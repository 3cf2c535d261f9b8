//! Work within one kernel, shared between threads: only how it is cut depends on their number, never a result.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use rayon::prelude::*;

/// A pointer that threads share; each writes a part of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(*mut T);

// SAFETY: whoever dereferences it promises that no two threads touch the same part.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub(super) fn get(self) -> *mut T {
        self.0
    }
}

/// Multiply-adds below which a kernel stays on its thread: some 100 microseconds.
const WORTH_SHARING: usize = 5_000_000;

/// Threads worth using for so many multiply-adds.
pub(super) fn threads(multiply_adds: usize) -> usize {
    (multiply_adds / WORTH_SHARING).clamp(1, rayon::current_num_threads())
}

/// Cuts `0..count` into `workers.len()` runs of nearly equal length and gives each to a worker.
pub(super) fn share<W: Send>(workers: &mut [W], count: usize, task: impl Fn(&mut W, std::ops::Range<usize>) + Sync) {
    let parts = workers.len();
    if let [worker] = workers {
        return task(worker, 0..count);
    }
    workers
        .par_iter_mut()
        .with_max_len(1)
        .enumerate()
        .for_each(|(part, worker)| task(worker, part * count / parts..(part + 1) * count / parts));
}
