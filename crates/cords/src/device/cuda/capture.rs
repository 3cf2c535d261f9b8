//! Work that is recorded once and done again by the GPU alone.

use super::Cuda;
use super::gpu::Gpu;
use super::reductions::Reductions;

/// A piece of work from one time to the next.
#[derive(Default)]
pub enum Capture<G> {
    /// The work was never done.
    #[default]
    New,
    /// The work was done once: there is memory for everything, and every convolution has its algorithm.
    Done,
    /// What it asked for.
    Recorded {
        /// To be done again.
        graph: G,
        /// Where the numbers that the work leaves lie among all reductions.
        places: Vec<std::ops::Range<usize>>,
        /// Generation of the scratch memory that the work uses; in another one it must be recorded again.
        generation: u64,
    },
    /// The work cannot be recorded, and is done anew each time.
    Refused,
}

impl<G: Gpu> Cuda<G> {
    /// Does `work`, or what it was when it was recorded.
    pub(super) fn do_again(
        &self,
        capture: &mut Capture<G::Graph>,
        reductions: &mut Reductions<G::Memory>,
        mut work: impl FnMut(&mut Reductions<G::Memory>),
    ) {
        if self.failure().is_some() {
            return work(reductions);
        }
        let outdated = match capture {
            Capture::New | Capture::Refused => false,
            Capture::Done => true,
            Capture::Recorded { generation, .. } => *generation != self.gpu.generation(),
        };
        if outdated {
            *capture = self.record(reductions, &mut work);
        }
        match capture {
            Capture::Recorded { graph, places, .. } => match self.gpu.replay(graph) {
                Ok(()) => reductions.places.clone_from(places),
                // Nothing of it was done.
                Err(error) => {
                    self.gpu.recording_refused(&error);
                    *capture = Capture::Refused;
                    work(reductions);
                }
            },
            Capture::New => {
                work(reductions);
                *capture = Capture::Done;
            }
            Capture::Done | Capture::Refused => work(reductions),
        }
    }

    /// Records `work` without doing it; nothing, where that is not possible.
    fn record(
        &self,
        reductions: &mut Reductions<G::Memory>,
        work: &mut impl FnMut(&mut Reductions<G::Memory>),
    ) -> Capture<G::Graph> {
        let generation = self.gpu.generation();
        if let Err(error) = self.gpu.begin_recording() {
            self.gpu.recording_refused(&error);
            return Capture::Refused;
        }
        work(reductions);
        let graph = self.gpu.end_recording();
        let places = std::mem::take(&mut reductions.places);
        reductions.read.clear();
        // What failed was asked for in vain, and is asked for again.
        match (graph, self.failure().take()) {
            (Ok(graph), None) => Capture::Recorded {
                graph,
                places,
                generation,
            },
            (graph, failure) => {
                if let Some(error) = failure.or(graph.err()) {
                    self.gpu.recording_refused(&error);
                }
                Capture::Refused
            }
        }
    }
}
