//! Numbers that kernels leave for the host, read in one go.

use super::gpu::Gpu;
use super::{Buffer, Cuda};

/// Numbers that kernels have left, all in one buffer.
pub struct Tally<M> {
    pub(super) cells: Buffer<M>,
    /// Places of what has been left and not been read.
    pub(super) places: Vec<std::ops::Range<usize>>,
    /// What was read when the buffer was full.
    pub(super) read: Vec<Vec<f64>>,
}

impl<M> Default for Tally<M> {
    fn default() -> Self {
        Self {
            cells: Buffer::default(),
            places: Vec::new(),
            read: Vec::new(),
        }
    }
}

/// Numbers of a tally: those of a whole training step of the published trial.
pub(super) const CELLS: usize = 1 << 17;

impl<G: Gpu> Cuda<G> {
    /// Room for `count` numbers in a tally: the first one's place.
    pub(super) fn places(&self, tally: &mut Tally<G::Memory>, count: usize) -> usize {
        assert!(count <= CELLS);
        if tally.cells.len == 0 {
            tally.cells = self.room(CELLS, size_of::<f64>());
        }
        let used = tally.places.last().map_or(0, |last| last.end);
        let first = if used + count > CELLS {
            self.take(tally);
            0
        } else {
            used
        };
        tally.places.push(first..first + count);
        first
    }

    /// Reads what the buffer of a tally holds.
    pub(super) fn take(&self, tally: &mut Tally<G::Memory>) {
        let used = tally.places.last().map_or(0, |last| last.end);
        let mut host = vec![0.0f64; used];
        if let Some(memory) = &tally.cells.memory
            && used > 0
        {
            self.attempt(|gpu| gpu.read(memory, bytemuck::cast_slice_mut(&mut host)));
        }
        let lists = tally.places.drain(..).map(|place| host[place].to_vec());
        tally.read.extend(lists);
    }
}
