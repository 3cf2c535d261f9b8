//! What C programs hold pointers to: every handle is given once, so that one that was destroyed is known as such.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::counts::violation;

/// Things of one kind by their handles.
pub(crate) struct Handles<T> {
    kind: &'static str,
    live: Mutex<BTreeMap<usize, Arc<T>>>,
}

impl<T> Handles<T> {
    pub(crate) const fn new(kind: &'static str) -> Self {
        Self {
            kind,
            live: Mutex::new(BTreeMap::new()),
        }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, thing: T) -> *mut c_void {
        // Of all kinds, so that a handle of another kind is not taken for one of this.
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        // No address that memory has.
        let handle = NEXT.fetch_add(1, Ordering::Relaxed) << 4;
        self.live().insert(handle, Arc::new(thing));
        handle as *mut c_void
    }

    /// None, and a violation, where there is no such thing.
    pub(crate) fn get(&self, call: &str, handle: *mut c_void) -> Option<Arc<T>> {
        let found = self.live().get(&(handle as usize)).cloned();
        if found.is_none() {
            violation(format!("{call}: {handle:?} is no {}, or was destroyed", self.kind));
        }
        found
    }

    /// As [`get`](Self::get); it is gone from then on.
    pub(crate) fn take(&self, call: &str, handle: *mut c_void) -> Option<Arc<T>> {
        let found = self.live().remove(&(handle as usize));
        if found.is_none() {
            violation(format!("{call}: {handle:?} is no {}, or was destroyed", self.kind));
        }
        found
    }

    pub(crate) fn retain(&self, keep: impl Fn(&T) -> bool) {
        self.live().retain(|_, thing| keep(thing));
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.live().values().cloned().collect()
    }
}
