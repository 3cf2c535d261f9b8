//! Convolutions of any kernel, stride and padding as sums over taps, without a copy of patches.
//!
//! A convolution is one pass over its output positions; the transpose of a convolution with stride s is s x s passes,
//! each over the positions that share the same taps. Maps are copied once into a frame of zeros, so that no tap needs a
//! test.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::ops::Range;

use super::aligned::Aligned;
use super::lanes::Lanes;
use super::parallel::{Shared, share, threads};
use super::tiles::{BLOCK, PANEL, Positions, Rows, Sink, blocks, outer, panel_width, panels, product};
use crate::Real;
use crate::device::ConvShape;

/// Output positions that share their taps.
struct Pass<T> {
    /// First output row and column.
    first: (usize, usize),
    /// Where each tap reads, in the frame, for the first position.
    taps: Vec<(usize, usize)>,
    /// `[panel of outputs][block of inputs][tap][input][columns of the panel]`.
    weights: Aligned<T>,
}

/// A convolution, or the transpose of one, as passes over output positions.
pub struct Taps<T> {
    inputs: usize,
    outputs: usize,
    in_side: usize,
    out_side: usize,
    /// Zeros before the maps in the frame, and the frame's side.
    before: usize,
    frame: usize,
    /// Input positions from one output position to the next, and output positions between those of a pass.
    in_step: usize,
    out_step: usize,
    passes: Vec<Pass<T>>,
}

/// Scratch of a call.
#[derive(Default)]
pub struct Workspace<T> {
    frames: Aligned<T>,
}

/// Weights in the order of a pass; `weight(output, input, ky, kx)`.
fn pack<T: Real>(
    inputs: usize,
    outputs: usize,
    taps: &[(usize, usize)],
    weight: impl Fn(usize, usize, (usize, usize)) -> T,
) -> Aligned<T> {
    let depth = BLOCK.min(inputs);
    let mut packed = Aligned::zeros(blocks(inputs) * depth * taps.len() * blocks(outputs) * BLOCK);
    let mut at = 0;
    for panel in 0..panels(outputs) {
        let width = panel_width(outputs, panel);
        for block in 0..blocks(inputs) {
            for tap in taps {
                for input in block * BLOCK..block * BLOCK + depth {
                    let columns = panel * PANEL..outputs.min(panel * PANEL + width);
                    if input < inputs {
                        for (output, to) in columns.zip(&mut packed[at..]) {
                            *to = weight(output, input, *tap);
                        }
                    }
                    at += width;
                }
            }
        }
    }
    packed
}

impl<T: Real> Taps<T> {
    /// The convolution with weights `[outputs, inputs, kernel, kernel]`.
    pub(super) fn forward(shape: ConvShape, weight: &[T]) -> Self {
        let kernel = shape.kernel;
        let taps: Vec<(usize, usize)> = (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))).collect();
        let value = |output: usize, input: usize, (ky, kx): (usize, usize)| {
            weight[((output * shape.inputs + input) * kernel + ky) * kernel + kx]
        };
        Self {
            inputs: shape.inputs,
            outputs: shape.outputs,
            in_side: shape.in_side,
            out_side: shape.out_side(),
            before: shape.padding,
            frame: shape.in_side + 2 * shape.padding,
            in_step: shape.stride,
            out_step: 1,
            passes: vec![Pass {
                first: (0, 0),
                weights: pack(shape.inputs, shape.outputs, &taps, value),
                taps,
            }],
        }
    }

    /// Its transpose. Input position i takes part in output position o by tap k where o stride + k = i + padding.
    pub(super) fn backward(shape: ConvShape, weight: &[T]) -> Self {
        let (kernel, stride, padding) = (shape.kernel, shape.stride, shape.padding);
        let before = (kernel - 1).saturating_sub(padding).div_ceil(stride);
        // Taps of one dimension for positions i = first + stride j: (k, o - j + before).
        let line = |first: usize| -> Vec<(usize, usize)> {
            (0..kernel)
                .filter(|k| {
                    (first + padding + stride * before)
                        .checked_sub(*k)
                        .is_some_and(|at| at % stride == 0)
                })
                .map(|k| (k, (first + padding + stride * before - k) / stride))
                .collect()
        };
        let phases = stride.min(shape.in_side);
        let passes = (0..phases)
            .flat_map(|y| (0..phases).map(move |x| (y, x)))
            .map(|(y, x)| {
                let (rows, columns) = (line(y), line(x));
                let both: Vec<_> = rows
                    .iter()
                    .flat_map(|row| columns.iter().map(move |column| (*row, *column)))
                    .collect();
                let kernels: Vec<(usize, usize)> = both.iter().map(|(row, column)| (row.0, column.0)).collect();
                // From outputs to inputs.
                let value = |input: usize, output: usize, (ky, kx): (usize, usize)| {
                    weight[((output * shape.inputs + input) * kernel + ky) * kernel + kx]
                };
                Pass {
                    first: (y, x),
                    taps: both.iter().map(|(row, column)| (row.1, column.1)).collect(),
                    weights: pack(shape.outputs, shape.inputs, &kernels, value),
                }
            })
            .collect();
        let reach = (shape.in_side - 1) / stride + padding.div_ceil(stride) + 1;
        Self {
            inputs: shape.outputs,
            outputs: shape.inputs,
            in_side: shape.out_side(),
            out_side: shape.in_side,
            before,
            frame: before + reach.max(shape.out_side()),
            in_step: 1,
            out_step: stride,
            passes,
        }
    }

    /// y (+)= this applied to x.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(super) unsafe fn apply<S: Lanes<Element = T>>(
        &self,
        work: &mut Workspace<T>,
        batch: usize,
        x: &[T],
        y: &mut [T],
        accumulate: bool,
    ) {
        let (inputs, outputs) = (blocks(self.inputs), blocks(self.outputs));
        let out_plane = self.out_side * self.out_side * BLOCK;
        assert_eq!(
            x.len(),
            batch * inputs * self.in_side * self.in_side * BLOCK,
            "input maps"
        );
        assert_eq!(y.len(), batch * outputs * out_plane, "output maps");
        if !accumulate && self.passes.iter().any(|pass| pass.taps.is_empty()) {
            y.fill(T::ZERO);
        }
        let frames = frames(
            &mut work.frames,
            (self.in_side, self.before, self.frame),
            batch * inputs,
            x,
        );
        let plane = self.frame * self.frame * BLOCK;
        let to = Shared::new(y);
        for pass in self.passes.iter().filter(|pass| !pass.taps.is_empty()) {
            let [height, width] =
                [pass.first.0, pass.first.1].map(|first| (self.out_side - first).div_ceil(self.out_step));
            let depth = BLOCK.min(self.inputs);
            let offsets: Vec<usize> = (0..inputs)
                .flat_map(|block| {
                    let taps = pass.taps.iter();
                    taps.map(move |(ky, kx)| block * plane + (ky * self.frame + kx) * BLOCK)
                })
                .collect();
            // One product for a row of an image, or, where rows are short, for one position of all images.
            let by_image = batch > width;
            let products = if by_image { height * width } else { batch * height };
            let workers = threads(batch * height * width * offsets.len() * depth * self.outputs);
            let rows = if by_image { batch } else { width };
            let one = |product_index: usize| {
                let (image, row, column) = if by_image {
                    (0, product_index / width, product_index % width)
                } else {
                    (product_index / height, product_index % height, 0)
                };
                let from = image * inputs * plane + (row * self.in_step * self.frame + column * self.in_step) * BLOCK;
                let at = image * outputs * out_plane
                    + ((pass.first.0 + row * self.out_step) * self.out_side + pass.first.1 + column * self.out_step)
                        * BLOCK;
                (from, at)
            };
            let strides = if by_image {
                (inputs * plane, outputs * out_plane)
            } else {
                (self.in_step * BLOCK, self.out_step * BLOCK)
            };
            let mut parts = vec![(); workers];
            share(&mut parts, products, |(), range: Range<usize>| {
                let mut weights = pass.weights.as_ptr();
                for panel in 0..panels(self.outputs) {
                    let columns = panel_width(self.outputs, panel);
                    for index in range.clone() {
                        let (from, at) = one(index);
                        let x = Rows {
                            x: frames[from..].as_ptr(),
                            stride: strides.0,
                            blocks: &offsets,
                            depth,
                        };
                        let y = Sink {
                            y: to.get().wrapping_add(at + panel * (PANEL / BLOCK) * out_plane),
                            stride: strides.1,
                            block: out_plane,
                            accumulate,
                        };
                        // SAFETY: the caller's promise; taps stay within the frame, rows within the maps, and every
                        // position is written by one thread.
                        unsafe { product::<S>(rows, x, weights, columns, y) };
                    }
                    weights = weights.wrapping_add(offsets.len() * depth * columns);
                }
            });
        }
    }
}

/// Scratch values of a convolution of so many images, both ways: frames, and the sum that a step adds it to.
pub(super) fn scratch_len(shape: ConvShape, batch: usize) -> usize {
    let reach = shape.out_side() + 2 * shape.kernel;
    let forward = blocks(shape.inputs) * (shape.in_side + 2 * shape.padding).pow(2);
    let backward = blocks(shape.outputs) * reach.pow(2);
    batch * BLOCK * (forward.max(backward) + blocks(shape.outputs) * shape.out_side().pow(2))
}

/// Maps of `count` blocks copied into frames of zeros; the maps themselves where the frame is no larger.
fn frames<'a, T: Real>(
    held: &'a mut Aligned<T>,
    (side, before, frame): (usize, usize, usize),
    count: usize,
    x: &'a [T],
) -> &'a [T] {
    if frame == side {
        return x;
    }
    let (plane, framed) = (side * side * BLOCK, frame * frame * BLOCK);
    let frames = held.at_least(count * framed);
    let parts = threads(x.len());
    let to = Shared::new(frames);
    share(&mut vec![(); parts], count, |(), range| {
        for block in range {
            // SAFETY: frame `block` lies within the buffer, and no other thread writes it.
            let to = unsafe { std::slice::from_raw_parts_mut(to.get().add(block * framed), framed) };
            let from = &x[block * plane..][..plane];
            to.fill(T::ZERO);
            for (row, from) in from.chunks_exact(side * BLOCK).enumerate() {
                to[((row + before) * frame + before) * BLOCK..][..side * BLOCK].copy_from_slice(from);
            }
        }
    });
    frames
}

/// Gradient of weights `[outputs, inputs, kernel, kernel]`, summed over any number of steps.
pub struct TapsSum<T> {
    shape: ConvShape,
    /// `[panel of outputs][block of inputs][tap][input][columns of the panel]`; empty until something is added.
    total: Aligned<T>,
}

/// Rows of the sum that one thread takes at a time.
const ROWS: usize = 8;

impl<T: Real> TapsSum<T> {
    pub(super) fn new(shape: ConvShape) -> Self {
        Self {
            shape,
            total: Aligned::default(),
        }
    }

    /// Forgets everything that was added.
    pub(super) fn clear(&mut self) {
        self.total.fill(T::ZERO);
    }

    /// Adds the gradient of `<dy, conv(x)>`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(super) unsafe fn add<S: Lanes<Element = T>>(
        &mut self,
        work: &mut Workspace<T>,
        batch: usize,
        x: &[T],
        dy: &[T],
    ) {
        let shape = self.shape;
        let (inputs, outputs, out) = (blocks(shape.inputs), blocks(shape.outputs), shape.out_side());
        let out_plane = out * out * BLOCK;
        assert_eq!(
            x.len(),
            batch * inputs * shape.in_side * shape.in_side * BLOCK,
            "input maps"
        );
        assert_eq!(dy.len(), batch * outputs * out_plane, "output gradient");
        let (depth, taps) = (BLOCK.min(shape.inputs), shape.kernel * shape.kernel);
        let rows = taps * depth;
        if self.total.is_empty() {
            self.total = Aligned::zeros(inputs * rows * outputs * BLOCK);
        }
        let frame = shape.in_side + 2 * shape.padding;
        let frames = frames(
            &mut work.frames,
            (shape.in_side, shape.padding, frame),
            batch * inputs,
            x,
        );
        let plane = frame * frame * BLOCK;
        let offsets: Vec<usize> = (0..taps)
            .flat_map(|tap| {
                let at = (tap / shape.kernel * frame + tap % shape.kernel) * BLOCK;
                (0..depth).map(move |input| at + input)
            })
            .collect();
        let groups = rows.div_ceil(ROWS);
        let panels = panels(shape.outputs);
        let total = Shared::new(&mut self.total);
        let workers = threads(batch * out * out * inputs * rows * shape.outputs);
        // Where maps are single values, images are the positions.
        let single = out == 1 && shape.in_side == 1;
        share(&mut vec![(); workers], panels * inputs * groups, |(), range| {
            for index in range {
                let (panel, block, group) = (index / (inputs * groups), index / groups % inputs, index % groups);
                let columns = panel_width(shape.outputs, panel);
                let offsets = &offsets[group * ROWS..rows.min((group + 1) * ROWS)];
                let at = panel * PANEL * inputs * rows + (block * rows + group * ROWS) * columns;
                for image in 0..if single { 1 } else { batch } {
                    let positions = Positions {
                        x: frames[(image * inputs + block) * plane..].as_ptr(),
                        x_step: if single { inputs * plane } else { shape.stride * BLOCK },
                        x_line: shape.stride * frame * BLOCK,
                        e: dy[(image * outputs + panel * (PANEL / BLOCK)) * out_plane..].as_ptr(),
                        e_step: if single { outputs * out_plane } else { BLOCK },
                        e_line: out * BLOCK,
                        e_block: out_plane,
                        count: if single { batch } else { out },
                        lines: out,
                    };
                    // SAFETY: the caller's promise; taps stay within the frame, and each thread has its own rows of the
                    // sum.
                    unsafe { outer::<S>(offsets, positions, columns, total.get().wrapping_add(at)) };
                }
            }
        });
    }

    /// dw += the gradient that was summed.
    pub(super) fn finish(&self, dw: &mut [T]) {
        let shape = self.shape;
        assert_eq!(dw.len(), shape.outputs * shape.patch(), "weight gradient of {shape:?}");
        if self.total.is_empty() {
            return;
        }
        let (inputs, depth, taps) = (
            blocks(shape.inputs),
            BLOCK.min(shape.inputs),
            shape.kernel * shape.kernel,
        );
        for (output, dw) in dw.chunks_exact_mut(shape.patch()).enumerate() {
            let (panel, column) = (output / PANEL, output % PANEL);
            let columns = panel_width(shape.outputs, panel);
            let total = &self.total[panel * PANEL * inputs * taps * depth..];
            for (input, dw) in dw.chunks_exact_mut(taps).enumerate() {
                for (tap, dw) in dw.iter_mut().enumerate() {
                    let row = (input / BLOCK * taps + tap) * depth + input % BLOCK;
                    *dw += total[row * columns + column];
                }
            }
        }
    }
}
