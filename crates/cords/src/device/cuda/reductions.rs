//! Sums, each taken in as many parts as fill a GPU, and the numbers that kernels leave for the host, read in one go.

use super::gpu::{Argument, Gpu};
use super::{Buffer, Cuda};

/// Numbers that kernels have left, all in one buffer.
pub struct Reductions<M> {
    pub(super) cells: Buffer<M>,
    /// Parts of sums, which nothing reads once they are summed.
    pub(super) parts: Buffer<M>,
    pub(super) sums: Buffer<M>,
    /// Places of what has been left and not been read.
    pub(super) places: Vec<std::ops::Range<usize>>,
    /// What was read when the buffer was full.
    pub(super) read: Vec<Vec<f64>>,
}

impl<M> Default for Reductions<M> {
    fn default() -> Self {
        Self {
            cells: Buffer::default(),
            parts: Buffer::default(),
            sums: Buffer::default(),
            places: Vec::new(),
            read: Vec::new(),
        }
    }
}

/// Numbers that one buffer holds: those of a whole training step of the published trial, of 512 images.
pub(super) const CELLS: usize = 1 << 15;
/// Parts that a sum over many values is taken in, whatever the GPU: its result does not depend on that.
pub(super) const PARTS: usize = 1 << 15;
/// Parts that are left of it.
pub(super) const FOLDED: usize = 64;

/// What becomes of parts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Largest,
}

impl<G: Gpu> Cuda<G> {
    /// Leaves the parts of a sum over so many values, or their largest: `launch` has the number of parts to be computed,
    /// the first one's place, and where they go.
    pub(super) fn reduce(
        &self,
        reductions: &mut Reductions<G::Memory>,
        values: usize,
        fold: Fold,
        launch: impl FnOnce(usize, usize, &mut Buffer<G::Memory>),
    ) {
        let count = values.min(FOLDED);
        let first = self.places(reductions, count);
        // A few values each are summed at once.
        if values <= FOLDED * FOLDED {
            return launch(count, first, &mut reductions.cells);
        }
        let many = values.min(PARTS);
        self.parts_of(reductions, PARTS);
        launch(many, 0, &mut reductions.parts);
        let Reductions { cells, parts, .. } = reductions;
        let parts = &*parts;
        match fold {
            Fold::Sum => self.launch(
                "fold",
                count,
                arguments!(r parts, long many, long 1, long first, w cells),
            ),
            Fold::Largest => self.launch(
                "fold_largest",
                count,
                arguments!(r parts, long many, long first, w cells),
            ),
        }
    }

    /// Room for so many parts.
    pub(super) fn parts_of(&self, reductions: &mut Reductions<G::Memory>, count: usize) {
        if reductions.parts.len < count {
            reductions.parts = self.room(count, size_of::<f64>());
        }
    }

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
        if let Some(memory) = reductions.cells.memory()
            && used > 0
        {
            self.attempt(|gpu| gpu.read(memory, bytemuck::cast_slice_mut(&mut host)));
        }
        let lists = reductions.places.drain(..).map(|place| host[place].to_vec());
        reductions.read.extend(lists);
    }
}
