//! Who may take how many processor threads.

/// Processor threads of this machine and who has them.
#[derive(Debug)]
pub(super) struct Threads {
    total: usize,
    taken: usize,
    jobs: usize,
    running: usize,
}

impl Threads {
    pub(super) fn new(total: usize, jobs: usize) -> Self {
        Self {
            total: total.max(1),
            taken: 0,
            jobs: jobs.max(1),
            running: 0,
        }
    }

    /// Threads for a stage that wants `wanted` (or a fair share while `ready` stages wait); `None`: not now.
    /// A stage that wants more than the machine has gets all of it, alone.
    pub(super) fn lease(&mut self, wanted: Option<usize>, ready: usize) -> Option<usize> {
        let free = self.total.saturating_sub(self.taken);
        let slots = self.jobs.saturating_sub(self.running);
        if slots == 0 || (free == 0 && self.running > 0) {
            return None;
        }
        let threads = match wanted {
            Some(wanted) => wanted.clamp(1, self.total),
            None => (free / ready.clamp(1, slots)).max(1),
        };
        if threads > free && self.running > 0 {
            return None;
        }
        self.taken += threads;
        self.running += 1;
        Some(threads)
    }

    pub(super) fn give_back(&mut self, threads: usize) {
        self.taken = self.taken.saturating_sub(threads);
        self.running = self.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_stages_share_and_a_lone_one_takes_all() {
        let mut threads = Threads::new(4, 4);
        assert_eq!(threads.lease(None, 1), Some(4));
        assert_eq!(threads.lease(None, 1), None);
        threads.give_back(4);
        assert_eq!(threads.lease(None, 3), Some(1));
        assert_eq!(threads.lease(None, 2), Some(1));
        assert_eq!(threads.lease(Some(3), 1), None, "waits for its threads");
        threads.give_back(1);
        assert_eq!(threads.lease(Some(3), 1), Some(3));
    }

    #[test]
    fn jobs_bound_the_number_of_stages() {
        let mut threads = Threads::new(8, 1);
        assert_eq!(threads.lease(Some(99), 2), Some(8), "never more than there are");
        assert_eq!(threads.lease(Some(1), 1), None);
    }
}
