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

/// Values of all 36 weight matrices from which they come from memory for every use. It then takes less time to read a
/// quarter of them, the weights as they are, and to transform that.
const LARGE: usize = 36 * 512 * 512;

/// Values of a kernel as it is.
const KERNEL: usize = 9;

/// Values that are kept of each kernel.
const fn kept(inputs: usize, outputs: usize) -> usize {
    if SPREAD * inputs * outputs < LARGE {
        SPREAD
    } else {
        KERNEL
    }
}

/// Weights `[outputs, inputs, 3, 3]`, or their transpose turned by 180 degrees, transformed:
/// `[panel of outputs][36][inputs][columns of the panel]`, or, where they are large, as they are:
/// `[panel of outputs][inputs][9][columns of the panel]`.
pub(in super::super) struct Transformed<T> {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    values: Aligned<T>,
}

/// Six matrices `[inputs][columns of the panel]` of some inputs: those of one row of a tile's values.
#[derive(Clone, Copy)]
pub(super) struct Slabs<T> {
    pub(super) first: *const T,
    /// Values from one matrix to the next.
    pub(super) stride: usize,
}

/// Values of transformed weights.
pub(in super::super) fn transformed_len(inputs: usize, outputs: usize) -> usize {
    kept(inputs, outputs) * blocks(inputs) * blocks(outputs) * BLOCK * BLOCK
}

impl<T: Real> Transformed<T> {
    /// Zeros for the transformed weights of so many channels.
    pub(in super::super) fn zeros(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            values: Aligned::zeros(transformed_len(inputs, outputs)),
        }
    }

    /// Takes over `weight(output, input)`, nine values in rows. On one thread: it may be called while others wait for
    /// it.
    pub(in super::super) fn fill(&mut self, weight: impl Fn(usize, usize) -> [T; KERNEL]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let depth = blocks(inputs) * BLOCK;
        let kept = kept(inputs, outputs);
        for (panel, values) in self.values.chunks_mut(kept * depth * PANEL).enumerate() {
            let width = panel_width(outputs, panel);
            for first in (0..width).step_by(BLOCK) {
                let lanes = BLOCK.min(outputs.saturating_sub(panel * PANEL + first));
                for block in (0..inputs).step_by(BLOCK) {
                    let range = block..inputs.min(block + BLOCK);
                    // Weights of neighbouring inputs or outputs lie side by side: a block of both is read at a time.
                    let mut kernels = [[[T::ZERO; BLOCK]; KERNEL]; BLOCK];
                    for lane in 0..lanes {
                        for (input, kernels) in range.clone().zip(&mut kernels) {
                            for (kernels, value) in kernels.iter_mut().zip(weight(panel * PANEL + first + lane, input))
                            {
                                kernels[lane] = value;
                            }
                        }
                    }
                    for (input, kernels) in range.zip(&kernels) {
                        let mut put = |line: usize, value: &[T; BLOCK]| {
                            values[line * width + first..][..BLOCK].copy_from_slice(value);
                        };
                        if kept == KERNEL {
                            for (tap, value) in kernels.iter().enumerate() {
                                put(input * KERNEL + tap, value);
                            }
                        } else {
                            for (xi, value) in spread_kernels(kernels).iter().enumerate() {
                                put(xi * depth + input, value);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Values of the output maps.
    pub(in super::super) fn output_len(&self, side: usize, batch: usize) -> usize {
        batch * blocks(self.outputs) * side * side * BLOCK
    }

    /// Blocks of inputs that [`slabs`](Self::slabs) should be asked for at a time. What it transforms stays in the
    /// first-level cache.
    pub(super) fn together(&self) -> usize {
        if kept(self.inputs, self.outputs) == SPREAD {
            blocks(self.inputs)
        } else {
            1
        }
    }

    /// Weights of a panel for a row of a tile's values, for a range of blocks of inputs. `held` is theirs until they
    /// are used.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(super) unsafe fn slabs<S: Lanes<Element = T>>(
        &self,
        (panel, row): (usize, usize),
        range: Range<usize>,
        held: &mut Aligned<T>,
    ) -> Slabs<T> {
        let (depth, width) = (blocks(self.inputs) * BLOCK, panel_width(self.outputs, panel));
        let kept = kept(self.inputs, self.outputs);
        let values = &self.values[panel * kept * depth * PANEL..][..kept * depth * width];
        let first = range.start * BLOCK;
        if kept == SPREAD {
            return Slabs {
                first: values[(row * SPAN * depth + first) * width..].as_ptr(),
                stride: depth * width,
            };
        }
        let inputs = range.len() * BLOCK;
        let from = &values[first * KERNEL * width..][..inputs * KERNEL * width];
        // One line more between the six, so that they do not compete for the same cache sets.
        let stride = inputs * width + BLOCK;
        let to = held.at_least(SPAN * stride);
        // SAFETY: the caller's promise; both slices have the length that the sizes ask for.
        unsafe { spread_row::<S>(row, from.as_ptr(), (inputs, width), (to.as_mut_ptr(), stride)) };
        Slabs {
            first: to.as_ptr(),
            stride,
        }
    }
}

/// Row `row` of G g G^T of weights `[inputs][9][width]`, as six matrices `[inputs][width]`, `stride` apart.
///
/// # Safety
/// The instructions of `S` exist; `from` can be read and `to` written as far as the sizes reach.
#[inline(always)]
unsafe fn spread_row_body<S: Lanes>(
    row: usize,
    from: *const S::Element,
    (inputs, width): (usize, usize),
    (to, stride): (*mut S::Element, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let factor = |row: usize, column: usize| S::splat(<S::Element as Real>::from_f64(G[row][column]));
        let [down0, down1, down2] = [factor(row, 0), factor(row, 1), factor(row, 2)];
        let one = factor(0, 0);
        let [p0, p1, p2] = [factor(1, 0), factor(1, 1), factor(1, 2)];
        let [q0, q1, q2] = [factor(3, 0), factor(3, 1), factor(3, 2)];
        for input in 0..inputs {
            for lane in (0..width).step_by(S::COUNT) {
                let from = from.add(input * KERNEL * width + lane);
                let mut g = [S::splat(<S::Element as Real>::ZERO); 3];
                for (x, g) in g.iter_mut().enumerate() {
                    let tap = |y: usize| S::load(from.add((y * 3 + x) * width));
                    *g = S::fma(down2, tap(2), S::fma(down1, tap(1), S::mul(down0, tap(0))));
                }
                let (even_p, odd_p) = (S::fma(p2, g[2], S::mul(p0, g[0])), S::mul(p1, g[1]));
                let (even_q, odd_q) = (S::fma(q2, g[2], S::mul(q0, g[0])), S::mul(q1, g[1]));
                let spread = [
                    S::mul(one, g[0]),
                    S::add(even_p, odd_p),
                    S::sub(even_p, odd_p),
                    S::add(even_q, odd_q),
                    S::sub(even_q, odd_q),
                    g[2],
                ];
                for (x, value) in spread.into_iter().enumerate() {
                    S::store(to.add(x * stride + input * width + lane), value);
                }
            }
        }
    }
}

compiled! {
    fn spread_row[S: Lanes][S] = spread_row_body(
        row: usize,
        from: *const S::Element,
        sizes: (usize, usize),
        to: (*mut S::Element, usize),
    )
}

/// G g G^T of sixteen kernels side by side.
fn spread_kernels<T: Real>(kernels: &[[T; BLOCK]; KERNEL]) -> [[T; BLOCK]; SPREAD] {
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
pub(super) fn gather_kernels(spread: &[[f64; BLOCK]; SPREAD]) -> [[f64; BLOCK]; KERNEL] {
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
        let mut kernels = [[0.0; BLOCK]; KERNEL];
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
