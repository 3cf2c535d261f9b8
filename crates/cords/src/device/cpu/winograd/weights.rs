//! Weights in the transformed domain.

use super::super::aligned::Aligned;
use super::super::elementwise;
use super::super::tiles::{BLOCK, PANEL, blocks, panel_width};
use super::{P, Q, SPAN, SPREAD};
use crate::Real;

/// G: evaluates a kernel's polynomial at the points, divided by prod (a_j - a_k).
const G: [[f64; 3]; SPAN] = {
    let (p, q) = (P * P, Q * Q);
    let (np, nq) = (2.0 * p * (p - q), 2.0 * q * (q - p));
    [
        [1.0 / (p * q), 0.0, 0.0],
        [1.0 / np, P / np, p / np],
        [1.0 / np, -P / np, p / np],
        [1.0 / nq, Q / nq, q / nq],
        [1.0 / nq, -Q / nq, q / nq],
        [0.0, 0.0, 1.0],
    ]
};

/// Weights `[outputs, inputs, 3, 3]`, or their transpose turned by 180 degrees, transformed:
/// `[panel of outputs][36][inputs][columns of the panel]`.
pub(in super::super) struct Transformed<T> {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    values: Aligned<T>,
}

/// Values of transformed weights.
pub(in super::super) fn transformed_len(inputs: usize, outputs: usize) -> usize {
    SPREAD * blocks(inputs) * blocks(outputs) * BLOCK * BLOCK
}

impl<T: Real> Transformed<T> {
    /// From `weight(output, input)`, nine values in rows. On one thread: it may be called while others wait for it.
    pub(in super::super) fn new(inputs: usize, outputs: usize, weight: impl Fn(usize, usize) -> [T; 9]) -> Self {
        let depth = blocks(inputs) * BLOCK;
        let mut values = Aligned::zeros(transformed_len(inputs, outputs));
        for (panel, values) in values.chunks_mut(SPREAD * depth * PANEL).enumerate() {
            let width = panel_width(outputs, panel);
            for input in 0..inputs {
                for first in (0..width).step_by(BLOCK) {
                    let mut kernels = [[T::ZERO; BLOCK]; 9];
                    for lane in 0..BLOCK.min(outputs.saturating_sub(panel * PANEL + first)) {
                        for (kernels, value) in kernels.iter_mut().zip(weight(panel * PANEL + first + lane, input)) {
                            kernels[lane] = value;
                        }
                    }
                    for (xi, spread) in spread_kernels(&kernels).iter().enumerate() {
                        values[(xi * depth + input) * width + first..][..BLOCK].copy_from_slice(spread);
                    }
                }
            }
        }
        Self {
            inputs,
            outputs,
            values,
        }
    }

    /// Values of the output maps.
    pub(in super::super) fn output_len(&self, side: usize, batch: usize) -> usize {
        batch * blocks(self.outputs) * side * side * BLOCK
    }

    /// Weights of a panel for value `xi` of a tile: `[inputs][columns of the panel]`.
    pub(super) fn slab(&self, panel: usize, xi: usize) -> &[T] {
        let depth = blocks(self.inputs) * BLOCK;
        let width = panel_width(self.outputs, panel);
        &self.values[panel * SPREAD * depth * PANEL + xi * depth * width..][..depth * width]
    }
}

/// G g G^T of sixteen kernels side by side.
fn spread_kernels<T: Real>(kernels: &[[T; BLOCK]; 9]) -> [[T; BLOCK]; SPREAD] {
    elementwise::vectorised(|| {
        let mut half = [[[T::ZERO; BLOCK]; 3]; SPAN];
        for x in 0..3 {
            let column = spread_1d([kernels[x], kernels[3 + x], kernels[6 + x]]);
            for (half, value) in half.iter_mut().zip(column) {
                half[x] = value;
            }
        }
        let mut spread = [[T::ZERO; BLOCK]; SPREAD];
        for (half, spread) in half.into_iter().zip(spread.as_chunks_mut::<SPAN>().0) {
            *spread = spread_1d(half);
        }
        spread
    })
}

/// G g in one direction.
#[inline(always)]
fn spread_1d<T: Real>(g: [[T; BLOCK]; 3]) -> [[T; BLOCK]; SPAN] {
    let factor = |row: usize, column: usize| T::from_f64(G[row][column]);
    let even = |row: usize| -> [T; BLOCK] {
        std::array::from_fn(|lane| factor(row, 0) * g[0][lane] + factor(row, 2) * g[2][lane])
    };
    let odd = |row: usize| -> [T; BLOCK] { std::array::from_fn(|lane| factor(row, 1) * g[1][lane]) };
    let (even_p, odd_p, even_q, odd_q) = (even(1), odd(1), even(3), odd(3));
    [
        std::array::from_fn(|lane| factor(0, 0) * g[0][lane]),
        std::array::from_fn(|lane| even_p[lane] + odd_p[lane]),
        std::array::from_fn(|lane| even_p[lane] - odd_p[lane]),
        std::array::from_fn(|lane| even_q[lane] + odd_q[lane]),
        std::array::from_fn(|lane| even_q[lane] - odd_q[lane]),
        g[2],
    ]
}

/// G^T u G of sixteen transformed kernels side by side: the transpose of [`spread_kernels`].
pub(super) fn gather_kernels(spread: &[[f64; BLOCK]; SPREAD]) -> [[f64; BLOCK]; 9] {
    elementwise::vectorised(|| {
        let mut half = [[[0.0; BLOCK]; 3]; SPAN];
        for (spread, half) in spread.as_chunks::<SPAN>().0.iter().zip(&mut half) {
            for (row, spread) in G.iter().zip(spread) {
                for (factor, half) in row.iter().zip(half.iter_mut()) {
                    for (half, value) in half.iter_mut().zip(spread) {
                        *half += factor * value;
                    }
                }
            }
        }
        let mut kernels = [[0.0; BLOCK]; 9];
        for (row, half) in G.iter().zip(&half) {
            for (y, factor) in row.iter().enumerate() {
                for (x, half) in half.iter().enumerate() {
                    for (kernel, value) in kernels[y * 3 + x].iter_mut().zip(half) {
                        *kernel += factor * value;
                    }
                }
            }
        }
        kernels
    })
}
