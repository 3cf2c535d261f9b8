//! Weights in the transformed domain.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::ops::Range;

use super::super::aligned::Aligned;
use super::super::elementwise;
use super::super::lanes::{Lanes, Level, compiled};
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

/// Values of all 36 weight matrices above which they do not stay in the second-level cache. It then takes less time to
/// read a quarter of them and to transform that anew for every convolution.
const LARGE: usize = 36 * 256 * 256;

/// Weights `[outputs, inputs, 3, 3]`, or their transpose turned by 180 degrees.
pub(in super::super) struct Transformed<T> {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// `[panel of outputs][36][inputs][columns of the panel]`, or, where they are large, as they are:
    /// `[panel of outputs][inputs][9][columns of the panel]`.
    values: Aligned<T>,
    large: bool,
}

/// Transformed weights of some inputs and one panel.
#[derive(Clone, Copy)]
pub(super) struct Slab<T> {
    /// First value.
    pub(super) first: *const T,
    /// Values between the 36 matrices.
    pub(super) stride: usize,
}

impl<T: Real> Transformed<T> {
    /// From `weight(output, input)`, nine values in rows. On one thread: it may be called while others wait for it.
    pub(in super::super) fn new(inputs: usize, outputs: usize, weight: impl Fn(usize, usize) -> [T; 9]) -> Self {
        let depth = blocks(inputs) * BLOCK;
        let large = SPREAD * depth * blocks(outputs) * BLOCK >= LARGE;
        let each = if large { 9 } else { SPREAD };
        let mut values = Aligned::zeros(blocks(outputs) * BLOCK * depth * each);
        for (panel, values) in values.chunks_mut(each * depth * PANEL).enumerate() {
            let width = panel_width(outputs, panel);
            for input in 0..inputs {
                for first in (0..width).step_by(BLOCK) {
                    let mut kernels = [[T::ZERO; BLOCK]; 9];
                    for lane in 0..BLOCK.min(outputs.saturating_sub(panel * PANEL + first)) {
                        for (kernels, value) in kernels.iter_mut().zip(weight(panel * PANEL + first + lane, input)) {
                            kernels[lane] = value;
                        }
                    }
                    if large {
                        let to = &mut values[input * 9 * width..][..9 * width];
                        for (to, from) in to.chunks_exact_mut(width).zip(&kernels) {
                            to[first..][..BLOCK].copy_from_slice(from);
                        }
                        continue;
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
            large,
        }
    }

    /// Whether every use transforms them anew.
    pub(super) fn is_large(&self) -> bool {
        self.large
    }

    /// Values of the output maps.
    pub(in super::super) fn output_len(&self, side: usize, batch: usize) -> usize {
        batch * blocks(self.outputs) * side * side * BLOCK
    }

    /// Transformed weights `[xi][inputs][columns of the panel]` of a range of inputs: all 36, or, where they are large, the
    /// six of row `row` of the transformed kernels, in `held`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(super) unsafe fn slab<S: Lanes<Element = T>>(
        &self,
        (panel, row): (usize, usize),
        inputs: Range<usize>,
        held: &mut Aligned<T>,
    ) -> Slab<T> {
        let depth = blocks(self.inputs) * BLOCK;
        let width = panel_width(self.outputs, panel);
        if !self.large {
            let first = self.values[panel * SPREAD * depth * PANEL + inputs.start * width..].as_ptr();
            return Slab {
                first,
                stride: depth * width,
            };
        }
        let from = &self.values[(panel * depth * PANEL + inputs.start * width) * 9..][..inputs.len() * 9 * width];
        // One line more between the six, so that they do not compete for the same cache sets.
        let stride = inputs.len() * width + BLOCK;
        let held = held.at_least(SPAN * stride);
        // SAFETY: the caller's promise; both slices hold the range's values.
        unsafe { spread_weights::<S>(row, from.as_ptr(), (inputs.len(), width), (held.as_mut_ptr(), stride)) };
        Slab {
            first: held.as_ptr(),
            stride,
        }
    }
}

/// Row `row` of G g G^T for weights `[inputs][9][width]`, as six times `[inputs][width]`, `stride` apart.
///
/// # Safety
/// The instructions of `S` exist; `from` can be read and `to` written as far as the sizes reach.
#[inline(always)]
unsafe fn spread_weights_body<S: Lanes>(
    row: usize,
    from: *const S::Element,
    (inputs, width): (usize, usize),
    (to, stride): (*mut S::Element, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let factor = |row: usize| G[row].map(|factor| S::splat(<S::Element as Real>::from_f64(factor)));
        let sum = |f: [S::Vector; 3], g: [S::Vector; 3]| S::fma(f[1], g[1], S::fma(f[2], g[2], S::mul(f[0], g[0])));
        let (down, plus_p, plus_q) = (factor(row), factor(1), factor(3));
        let (minus_p, minus_q) = (factor(2)[1], factor(4)[1]);
        let first = factor(0)[0];
        for input in 0..inputs {
            for lane in (0..width).step_by(S::COUNT) {
                let (from, to) = (from.add(input * 9 * width + lane), to.add(input * width + lane));
                let at = |index: usize| S::load(from.add(index * width));
                let half: [S::Vector; 3] = std::array::from_fn(|x| sum(down, [at(x), at(3 + x), at(6 + x)]));
                let even_p = S::fma(plus_p[2], half[2], S::mul(plus_p[0], half[0]));
                let even_q = S::fma(plus_q[2], half[2], S::mul(plus_q[0], half[0]));
                let spread = [
                    S::mul(first, half[0]),
                    S::fma(plus_p[1], half[1], even_p),
                    S::fma(minus_p, half[1], even_p),
                    S::fma(plus_q[1], half[1], even_q),
                    S::fma(minus_q, half[1], even_q),
                    half[2],
                ];
                for (x, value) in spread.into_iter().enumerate() {
                    S::store(to.add(x * stride), value);
                }
            }
        }
    }
}

compiled! {
    fn spread_weights[S: Lanes][S] = spread_weights_body(
        row: usize,
        from: *const S::Element,
        sizes: (usize, usize),
        to: (*mut S::Element, usize),
    )
}

/// G g G^T of sixteen kernels side by side, rounded once.
fn spread_kernels<T: Real>(kernels: &[[T; BLOCK]; 9]) -> [[T; BLOCK]; SPREAD] {
    elementwise::vectorised(|| {
        let kernels = kernels.map(|kernel| kernel.map(T::to_f64));
        let mut half = [[[0.0; BLOCK]; 3]; SPAN];
        for (row, half) in G.iter().zip(&mut half) {
            for (x, half) in half.iter_mut().enumerate() {
                for (y, factor) in row.iter().enumerate() {
                    for (half, value) in half.iter_mut().zip(&kernels[y * 3 + x]) {
                        *half += factor * value;
                    }
                }
            }
        }
        let mut spread = [[0.0; BLOCK]; SPREAD];
        for (half, spread) in half.iter().zip(spread.as_chunks_mut::<SPAN>().0) {
            for (row, spread) in G.iter().zip(spread) {
                for (factor, half) in row.iter().zip(half) {
                    for (spread, value) in spread.iter_mut().zip(half) {
                        *spread += factor * value;
                    }
                }
            }
        }
        spread.map(|values| values.map(T::from_f64))
    })
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
