//! The gradient of weights, summed in the transformed domain.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::ops::Range;

use rayon::prelude::*;

use super::super::aligned::Aligned;
use super::super::lanes::Lanes;
use super::super::parallel::{Shared, share, threads};
use super::super::tiles::{BLOCK, PANEL, Positions, blocks, outer, panel_width, panels};
use super::transform::Transform;
use super::weights::gather_kernels;
use super::{CLASSES, Grid, Layout, SPREAD, offsets};
use crate::Real;

/// Gradient of weights `[outputs, inputs, 3, 3]`, summed in the transformed domain over any number of steps.
///
/// Two-level sum: a block of tiles is summed from zero and then added.
pub struct TransformedSum<T> {
    inputs: usize,
    outputs: usize,
    /// `[panel of outputs][36][inputs][columns of the panel]`; empty until something is added.
    total: Aligned<T>,
    /// Transformed input tiles and output gradients that wait to be multiplied.
    x: Aligned<T>,
    dy: Aligned<T>,
    /// Tiles that wait, by class of value.
    filled: [usize; CLASSES],
    /// Class of each of the 36 values, for the maps that were added.
    classes: [usize; SPREAD],
}

/// Tiles of one block of the sum.
fn capacity(inputs: usize, outputs: usize) -> usize {
    if inputs.max(outputs) > 256 { 128 } else { 64 }
}

/// Values of a sum.
fn total_len(inputs: usize, outputs: usize) -> usize {
    SPREAD * blocks(inputs) * blocks(outputs) * BLOCK * BLOCK
}

/// Values of a sum with the tiles that wait.
pub(in super::super) fn sum_len(inputs: usize, outputs: usize) -> usize {
    let waiting = |channels: usize| Layout::new(capacity(inputs, outputs), blocks(channels)).len();
    total_len(inputs, outputs) + waiting(inputs) + waiting(outputs)
}

impl<T: Real> TransformedSum<T> {
    pub(in super::super) fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            total: Aligned::default(),
            x: Aligned::default(),
            dy: Aligned::default(),
            filled: [0; CLASSES],
            classes: [0; SPREAD],
        }
    }

    /// Forgets everything that was added.
    pub(in super::super) fn clear(&mut self) {
        self.total.fill(T::ZERO);
        self.filled = [0; CLASSES];
    }

    /// Adds the gradient of `<dy, conv(x)>`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(in super::super) unsafe fn add<S: Lanes<Element = T>>(&mut self, side: usize, batch: usize, x: &[T], dy: &[T]) {
        let grid = Grid::new(side, batch);
        let (inputs, outputs) = (blocks(self.inputs), blocks(self.outputs));
        let plane = side * side * BLOCK;
        assert_eq!(
            (x.len(), dy.len()),
            (batch * inputs * plane, batch * outputs * plane),
            "maps of a weight gradient"
        );
        let capacity = capacity(self.inputs, self.outputs);
        let (from, to) = (Layout::new(capacity, inputs), Layout::new(capacity, outputs));
        if self.total.is_empty() {
            self.total = Aligned::zeros(total_len(self.inputs, self.outputs));
            self.x = Aligned::zeros(from.len());
            self.dy = Aligned::zeros(to.len());
        }
        let workers = threads(SPREAD * grid.count * inputs * outputs * BLOCK * BLOCK);
        let (transform, classes) = (Transform::new(grid), grid.classes());
        // Maps of another side are another sum.
        assert!(self.filled[0] == 0 || self.classes == classes, "maps of one side");
        self.classes = classes;
        let mut first = 0;
        while first < grid.count {
            let tiles = first..grid.count.min(first + capacity - self.filled[0]);
            let slots = grid.slots(tiles.clone(), self.filled);
            let (spread_x, spread_dy) = (Shared::new(&mut self.x), Shared::new(&mut self.dy));
            let channels = (self.inputs, self.outputs);
            share(&mut vec![(); workers], tiles.len(), |(), range| {
                for index in range {
                    let place = |layout: Layout| offsets(&classes, layout.stride, BLOCK, slots[index]);
                    let (x_to, dy_to) = (&place(from), &place(to));
                    let (tile, block) = (tiles.start + index, capacity * BLOCK);
                    // SAFETY: the caller's promise; every tile has places of its own, of which there are enough.
                    unsafe {
                        transform.spread_tile::<S>(channels.0, x, tile, (spread_x.get(), block, x_to));
                        transform.gradient_tile::<S>(channels.1, dy, tile, (spread_dy.get(), block, dy_to));
                    }
                }
            });
            self.filled = slots[tiles.len()];
            first = tiles.end;
            if self.filled[0] == capacity {
                // SAFETY: the caller's promise.
                unsafe { self.flush::<S>(workers) };
            }
        }
    }

    /// Multiplies what waits.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    unsafe fn flush<S: Lanes<Element = T>>(&mut self, workers: usize) {
        let capacity = capacity(self.inputs, self.outputs);
        let (inputs, outputs) = (blocks(self.inputs), blocks(self.outputs));
        let (from, to) = (Layout::new(capacity, inputs), Layout::new(capacity, outputs));
        let total = Shared::new(&mut self.total);
        let (x, dy, filled, classes) = (&self.x, &self.dy, self.filled, self.classes);
        let rows: [usize; BLOCK] = std::array::from_fn(|row| row);
        let depth = inputs * BLOCK;
        let task = |(): &mut (), range: Range<usize>| {
            for xi in range {
                for panel in 0..panels(self.outputs) {
                    let width = panel_width(self.outputs, panel);
                    for input in 0..inputs {
                        let positions = Positions {
                            x: x[xi * from.stride + input * capacity * BLOCK..].as_ptr(),
                            x_step: BLOCK,
                            x_line: 0,
                            e: dy[xi * to.stride + panel * (PANEL / BLOCK) * capacity * BLOCK..].as_ptr(),
                            e_step: BLOCK,
                            e_line: 0,
                            e_block: capacity * BLOCK,
                            count: filled[classes[xi]],
                            lines: 1,
                        };
                        let rows = &rows[..BLOCK.min(self.inputs - input * BLOCK)];
                        let at = panel * SPREAD * depth * PANEL + (xi * depth + input * BLOCK) * width;
                        // SAFETY: the caller's promise; each thread has its own `xi`.
                        unsafe { outer::<S>(rows, positions, width, total.get().wrapping_add(at)) };
                    }
                }
            }
        };
        share(&mut vec![(); workers], SPREAD, task);
        self.filled = [0; CLASSES];
    }

    /// dw += the gradient that was summed, `[outputs, inputs, 3, 3]`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(in super::super) unsafe fn finish<S: Lanes<Element = T>>(&mut self, dw: &mut [T]) {
        assert_eq!(dw.len(), self.outputs * self.inputs * 9, "weight gradient");
        if self.total.is_empty() {
            return;
        }
        if self.filled[0] > 0 {
            let workers = threads(SPREAD * self.filled[0] * self.inputs * self.outputs);
            // SAFETY: the caller's promise.
            unsafe { self.flush::<S>(workers) };
        }
        let depth = blocks(self.inputs) * BLOCK;
        let (inputs, outputs, total) = (self.inputs, self.outputs, &self.total);
        dw.par_chunks_mut(PANEL * inputs * 9)
            .enumerate()
            .for_each(|(panel, dw)| {
                let width = panel_width(outputs, panel);
                let total = &total[panel * SPREAD * depth * PANEL..];
                for input in 0..inputs {
                    for (group, dw) in dw.chunks_mut(BLOCK * inputs * 9).enumerate() {
                        let mut spread = [[0.0f64; BLOCK]; SPREAD];
                        for (xi, spread) in spread.iter_mut().enumerate() {
                            let from = &total[(xi * depth + input) * width + group * BLOCK..][..BLOCK];
                            for (spread, value) in spread.iter_mut().zip(from) {
                                *spread = value.to_f64();
                            }
                        }
                        let kernels = gather_kernels(&spread);
                        for (lane, dw) in dw.chunks_exact_mut(inputs * 9).enumerate() {
                            for (dw, kernel) in dw[input * 9..][..9].iter_mut().zip(&kernels) {
                                *dw += T::from_f64(kernel[lane]);
                            }
                        }
                    }
                }
            });
    }
}
