//! Work that is recorded once and done again by the GPU alone.

use super::Cuda;
use super::gpu::Gpu;
use super::tally::Tally;

/// A piece of work from one time to the next.
#[derive(Default)]
pub enum Recording<G> {
    /// It was never done.
    #[default]
    New,
    /// It was done once: there is memory for everything, and every convolution has its algorithm.
    Done,
    /// What it asked for.
    Recorded {
        /// To be done again.
        graph: G,
        /// Of the numbers that it leaves.
        places: Vec<std::ops::Range<usize>>,
        /// That of the scratch memory that it uses.
        generation: u64,
    },
    /// It cannot be recorded.
    Refused,
}

impl<G: Gpu> Cuda<G> {
    /// Does `work`, or what it was when it was recorded.
    pub(super) fn do_again(
        &self,
        recording: &mut Recording<G::Graph>,
        tally: &mut Tally<G::Memory>,
        mut work: impl FnMut(&mut Tally<G::Memory>),
    ) {
        if self.failure().is_some() {
            return work(tally);
        }
        let outdated = match recording {
            Recording::New | Recording::Refused => false,
            Recording::Done => true,
            Recording::Recorded { generation, .. } => *generation != self.gpu.generation(),
        };
        if outdated {
            *recording = self.record(tally, &mut work);
        }
        match recording {
            Recording::Recorded { graph, places, .. } => {
                tally.places.clone_from(places);
                self.attempt(|gpu| gpu.replay(graph));
            }
            Recording::New => {
                work(tally);
                *recording = Recording::Done;
            }
            Recording::Done | Recording::Refused => work(tally),
        }
    }

    /// Records `work` without doing it; nothing, where that is not possible.
    fn record(
        &self,
        tally: &mut Tally<G::Memory>,
        work: &mut impl FnMut(&mut Tally<G::Memory>),
    ) -> Recording<G::Graph> {
        let generation = self.gpu.generation();
        if self.gpu.begin_recording().is_err() {
            return Recording::Refused;
        }
        work(tally);
        let graph = self.gpu.end_recording();
        let places = std::mem::take(&mut tally.places);
        tally.read.clear();
        // What failed was asked for in vain, and is asked for again.
        match (graph, self.failure().take()) {
            (Ok(graph), None) => Recording::Recorded {
                graph,
                places,
                generation,
            },
            _ => Recording::Refused,
        }
    }
}
