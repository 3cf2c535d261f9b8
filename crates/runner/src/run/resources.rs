//! Who may take how many processor threads, and which GPUs.

use std::fs::File;

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

    /// Whether no stage can start, whatever it wants.
    pub(super) fn are_all_taken(&self) -> bool {
        self.running >= self.jobs || (self.taken >= self.total && self.running > 0)
    }

    /// How many more stages may run side by side.
    pub(super) fn slots(&self) -> usize {
        self.jobs.saturating_sub(self.running).max(1)
    }

    /// Threads for a stage that wants `wanted` (or a fair share while `ready` stages wait); `None`: not now.
    /// A stage that wants more than the machine has gets all of it, alone.
    pub(super) fn lease(&mut self, wanted: Option<usize>, ready: usize) -> Option<usize> {
        let free = self.total.saturating_sub(self.taken);
        let slots = self.jobs.saturating_sub(self.running);
        if self.are_all_taken() {
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

    /// None is what jobs of a queue have.
    pub(super) fn give_back(&mut self, threads: usize) {
        if threads == 0 {
            return;
        }
        self.taken = self.taken.saturating_sub(threads);
        self.running = self.running.saturating_sub(1);
    }
}

/// A GPU that stages may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// As `CUDA_VISIBLE_DEVICES` names it.
    pub id: String,
    /// As `--device` names it: its place among those that this process sees.
    pub ordinal: usize,
    /// Bytes of its memory.
    pub memory: u64,
}

/// Memory is let in units of this: few enough that each can be a lock.
const UNIT: u64 = 1 << 30;

impl Gpu {
    fn units(&self) -> usize {
        usize::try_from(self.memory.div_ceil(UNIT)).unwrap_or(1).max(1)
    }

    /// Units that a stage takes which asks for so many bytes: all for a whole one, never more than there are.
    fn wanted(&self, bytes: Option<u64>) -> usize {
        let asked = bytes.map_or(usize::MAX, |bytes| {
            usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX)
        });
        asked.clamp(1, self.units())
    }
}

/// GPUs that stages of a run may have.
#[derive(Debug, Default)]
pub(super) struct Gpus(pub(super) Vec<Gpu>);

/// GPUs that one stage has for itself, each or a part of its memory.
#[derive(Debug)]
pub(super) struct GpuLease<L = File> {
    pub(super) ids: Vec<String>,
    /// Bytes of each; `None` for whole ones.
    pub(super) bytes: Option<u64>,
    /// Others may have what these stand for when they are dropped.
    pub(super) locks: Vec<L>,
}

impl Default for GpuLease {
    /// None at all.
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            bytes: None,
            locks: Vec::new(),
        }
    }
}

impl Gpus {
    /// `count` GPUs, or all where there are fewer, with so much memory of each, or the whole of each. `None`: not now.
    /// `take(name, size, count)` locks units of what is called so, in this run and others.
    pub(super) fn lease<L, E>(
        &self,
        count: usize,
        bytes: Option<u64>,
        mut take: impl FnMut(&str, usize, usize) -> Result<Option<Vec<L>>, E>,
    ) -> Result<Option<GpuLease<L>>, E> {
        let count = count.min(self.0.len());
        let (mut ids, mut locks) = (Vec::new(), Vec::new());
        for gpu in &self.0 {
            if ids.len() == count {
                break;
            }
            let name = format!("gpu-{}", gpu.id.replace('/', "_"));
            if let Some(units) = take(&name, gpu.units(), gpu.wanted(bytes))? {
                ids.push(gpu.id.clone());
                locks.extend(units);
            }
        }
        Ok((ids.len() == count).then_some(GpuLease { ids, bytes, locks }))
    }

    /// As the record of a run names them: `cuda:0`, `cuda:0,1`, or `cpu` for none.
    pub(super) fn name(&self) -> String {
        name(self.0.iter())
    }

    /// Those of a lease, in the same way.
    pub(super) fn name_of<L>(&self, lease: &GpuLease<L>) -> String {
        name(self.0.iter().filter(|gpu| lease.ids.contains(&gpu.id)))
    }
}

fn name<'a>(gpus: impl Iterator<Item = &'a Gpu>) -> String {
    let ordinals: Vec<String> = gpus.map(|gpu| gpu.ordinal.to_string()).collect();
    match ordinals.as_slice() {
        [] => "cpu".to_owned(),
        some => format!("cuda:{}", some.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::rc::{Rc, Weak};

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

    fn gpus(gib: &[u64]) -> Gpus {
        let gpu = |(ordinal, gib): (usize, &u64)| Gpu {
            id: format!("id-{ordinal}"),
            ordinal,
            memory: gib * UNIT,
        };
        Gpus(gib.iter().enumerate().map(gpu).collect())
    }

    /// Units in memory, free again with the lease.
    #[derive(Default)]
    struct Locks(RefCell<BTreeMap<String, Vec<Weak<()>>>>);

    impl Locks {
        fn take(&self, name: &str, size: usize, count: usize) -> Result<Option<Vec<Rc<()>>>, Infallible> {
            let mut all = self.0.borrow_mut();
            let taken = all.entry(name.to_owned()).or_default();
            taken.retain(|unit| unit.strong_count() > 0);
            if taken.len() + count > size {
                return Ok(None);
            }
            let units: Vec<_> = (0..count).map(|_| Rc::new(())).collect();
            taken.extend(units.iter().map(Rc::downgrade));
            Ok(Some(units))
        }

        fn lease(&self, gpus: &Gpus, count: usize, bytes: Option<u64>) -> Option<GpuLease<Rc<()>>> {
            let lease = gpus.lease(count, bytes, |name, size, count| self.take(name, size, count));
            lease.unwrap_or_else(|never| match never {})
        }
    }

    #[test]
    fn whole_gpus_are_let_once() {
        let (gpus, locks) = (gpus(&[8, 16]), Locks::default());
        let lease = |count, bytes| locks.lease(&gpus, count, bytes);
        let first = lease(1, None).expect("free");
        assert_eq!(first.ids, ["id-0"]);
        let second = lease(1, None).expect("free");
        assert_eq!(second.ids, ["id-1"]);
        assert!(lease(1, Some(1)).is_none(), "both are let");
        drop(first);
        assert!(lease(2, None).is_none(), "one is let");
        assert_eq!(
            lease(1, None).expect("free").ids,
            ["id-0"],
            "what was not enough was given back"
        );
        drop(second);
        assert_eq!(lease(5, None).expect("free").ids.len(), 2, "never more than there are");
    }

    #[test]
    fn memory_is_shared_up_to_its_end() {
        let (gpus, locks) = (gpus(&[8, 16]), Locks::default());
        let lease = |gib: u64| locks.lease(&gpus, 1, Some(gib * UNIT));
        let five = lease(5).expect("free");
        assert_eq!(five.ids, ["id-0"]);
        assert_eq!(five.bytes, Some(5 * UNIT));
        let three = lease(3).expect("free");
        assert_eq!(three.ids, ["id-0"]);
        let four = lease(4).expect("free");
        assert_eq!(four.ids, ["id-1"]);
        assert!(locks.lease(&gpus, 1, None).is_none(), "none is whole");
        drop((five, three));
        assert_eq!(locks.lease(&gpus, 1, None).expect("free").ids, ["id-0"]);
        assert_eq!(lease(12).expect("free").ids, ["id-0"], "more than it has: a whole one");
        assert_eq!(lease(0).expect("free").ids, ["id-0"]);
    }

    #[test]
    fn names_for_the_record() {
        assert_eq!(gpus(&[]).name(), "cpu");
        assert_eq!(gpus(&[1]).name(), "cuda:0");
        assert_eq!(gpus(&[1, 1]).name(), "cuda:0,1");
        let none = Locks::default().lease(&gpus(&[]), 2, None);
        assert_eq!(none.expect("none is there").ids.len(), 0);
    }
}
