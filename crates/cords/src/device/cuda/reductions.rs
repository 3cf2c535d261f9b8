//! Numbers that kernels leave for the host, read in one go.

use super::gpu::Gpu;
use super::{Buffer, Cuda};

/// Numbers that kernels have left, all in one buffer.
pub struct Reductions<M> {
    pub(super) cells: Buffer<M>,
    /// Places of what has been left and not been read.
    pub(super) places: Vec<std::ops::Range<usize>>,
    /// What was read when the buffer was full.
    pub(super) read: Vec<Vec<f64>>,
}

impl<M> Default for Reductions<M> {
    fn default() -> Self {
        Self {
            cells: Buffer::default(),
            places: Vec::new(),
            read: Vec::new(),
        }
    }
}

/// Numbers that one buffer holds: those of a whole training step of the published trial.
pub(super) const CELLS: usize = 1 << 17;

impl<G: Gpu> Cuda<G> {
    /// Room for `count` numbers among the reductions: the first one's place.
    pub(super) fn places(&self, reductions: &mut Reductions<G::Memory>, count: usize) -> usize {
        assert!(count <= CELLS);
        if reductions.cells.len == 0 {
            reductions.cells = self.room(CELLS, size_of::<f64>());
        }
        let used = reductions.places.last().map_or(0, |last| last.end);
        let first = if used + count > CELLS {
            self.take(reductions);
            0
        } else {
            used
        };
        reductions.places.push(first..first + count);
        first
    }

    /// Reads the reductions that the buffer holds.
    pub(super) fn take(&self, reductions: &mut Reductions<G::Memory>) {
        let used = reductions.places.last().map_or(0, |last| last.end);
        let mut host = vec![0.0f64; used];
        if let Some(memory) = &reductions.cells.memory
            && used > 0
        {
            self.attempt(|gpu| gpu.read(memory, bytemuck::cast_slice_mut(&mut host)));
        }
        let lists = reductions.places.drain(..).map(|place| host[place].to_vec());
        reductions.read.extend(lists);
    }
}
