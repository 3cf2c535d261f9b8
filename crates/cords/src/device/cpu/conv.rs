//! Convolution of maps `[channels, batch, side, side]`: patches are copied into panels, which weights multiply.
//!
//! Positions of the whole group are numbered through, so that a group of small maps fills whole vectors. Blocks of
//! positions are sized to keep their panels in the L2 cache; the split into blocks depends on shapes alone.

use super::panel::{Packed, multiply, multiply_rows, narrow, wide};
use crate::Real;
use crate::device::ConvShape;

/// Values of patches held at once between writing and use: 32 KiB in f32, for the L1 cache.
const BLOCK_VALUES: usize = 8 * 1024;
/// The same where large weights go through them block by block: 384 KiB in f32, for the L2 cache.
const LARGE_BLOCK_VALUES: usize = 96 * 1024;
/// Positions that a weight gradient's sums run over before they are added up: short sums cost more to add than to form,
/// but eight rows of long ones leave the L1 cache.
const GRADIENT_POSITIONS: usize = 1024;

/// Scratch of one group's convolutions.
#[derive(Default)]
pub struct Workspace<T> {
    patches: Vec<T>,
    gradients: Vec<T>,
    columns: Vec<T>,
    offsets: Vec<i32>,
    inside: Vec<Inside>,
}

/// Masks of one size-preserving kernel.
struct Inside {
    /// Side of the map, side of the kernel, words of a number.
    key: (usize, usize, usize),
    masks: Vec<u32>,
}

/// Weights of one convolution, packed for it and for its transpose.
pub struct Filter<T> {
    shape: ConvShape,
    /// `[outputs, patch]`.
    forward: Packed<T>,
    /// Where input and output have the same side: `[inputs, outputs x kernel x kernel]` with the kernel turned by 180 degrees,
    /// for a convolution of its own. Elsewhere `[patch, outputs]`.
    backward: Packed<T>,
}

/// Whether output and input have the same side and positions: stride 1 and half-kernel padding.
fn preserves_side(shape: ConvShape) -> bool {
    shape.stride == 1 && 2 * shape.padding + 1 == shape.kernel
}

/// The size-preserving convolution that is the transpose of `shape`.
fn transposed(shape: ConvShape) -> ConvShape {
    ConvShape {
        inputs: shape.outputs,
        outputs: shape.inputs,
        ..shape
    }
}

impl<T: Real> Filter<T> {
    pub(super) fn new(shape: ConvShape, weight: &[T]) -> Self {
        let (patch, taps) = (shape.patch(), shape.kernel * shape.kernel);
        assert_eq!(weight.len(), shape.outputs * patch, "weights of {shape:?}");
        let backward = if preserves_side(shape) {
            Packed::new(shape.inputs, shape.outputs * taps, |input, k| {
                weight[(k / taps * shape.inputs + input) * taps + taps - 1 - k % taps]
            })
        } else {
            Packed::new(patch, shape.outputs, |k, output| weight[output * patch + k])
        };
        Self {
            shape,
            forward: Packed::new(shape.outputs, patch, |output, k| weight[output * patch + k]),
            backward,
        }
    }
}

/// Grows a scratch buffer to `len` values and lends them.
fn scratch<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    &mut buffer[..len]
}

/// The part of a patch matrix that is wanted: input channels and positions.
#[derive(Clone, Copy)]
struct Part {
    inputs: (usize, usize),
    positions: (usize, usize),
}

/// Writes patches into panels `[inputs x kernel x kernel, width]`; positions beyond the end are zero.
fn write_patches<T: Real>(
    work: (&mut Vec<Inside>, &mut Vec<i32>),
    shape: ConvShape,
    batch: usize,
    x: &[T],
    part: Part,
    width: usize,
    panels: &mut [T],
) {
    let (inside, offsets) = work;
    if !preserves_side(shape) {
        return indexed_patches(offsets, shape, batch, x, part, width, panels);
    }
    let words = size_of::<T>() / 4;
    let key = (shape.in_side, shape.kernel, words);
    let index = inside.iter().position(|held| held.key == key).unwrap_or_else(|| {
        inside.push(Inside {
            key,
            masks: taps_inside(shape, words),
        });
        inside.len() - 1
    });
    let (x, panels) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(panels));
    let job = Shifted {
        shape,
        channel: batch * shape.in_side * shape.in_side,
        part,
        words,
        x,
        masks: &inside[index].masks,
    };
    if width == wide::<T>() {
        job.write::<WIDE_WORDS>(panels);
    } else {
        job.write::<NARROW_WORDS>(panels);
    }
}

/// Words of 32 bits in a row of a wide and of a narrow panel.
const WIDE_WORDS: usize = 32;
const NARROW_WORDS: usize = 16;

/// For every tap, all bits set at positions whose tap falls inside the map: `[kernel x kernel, plane + largest panel]`, periodic
/// in the plane, `words` words a position.
fn taps_inside(shape: ConvShape, words: usize) -> Vec<u32> {
    let (side, kernel) = (shape.in_side, shape.kernel);
    let within = |at: usize| (shape.padding..shape.padding + side).contains(&at);
    let mut masks = Vec::new();
    for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
        for position in 0..side * side + WIDE_WORDS / words {
            let (y, x) = (position / side % side, position % side);
            let mask = if within(y + ky) && within(x + kx) { u32::MAX } else { 0 };
            masks.extend(std::iter::repeat_n(mask, words));
        }
    }
    masks
}

/// Patches of a size-preserving convolution: every tap is the map shifted, with zeros where the tap falls outside. Numbers are
/// moved as words of 32 bits, so that zeroing is a bitwise and.
#[derive(Clone, Copy)]
struct Shifted<'a> {
    shape: ConvShape,
    /// Numbers of one channel of the whole group.
    channel: usize,
    part: Part,
    /// Words of a number.
    words: usize,
    x: &'a [u32],
    masks: &'a [u32],
}

impl Shifted<'_> {
    fn write<const W: usize>(self, panels: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn avx2<const W: usize>(job: Shifted<'_>, panels: &mut [u32]) {
                job.write_body::<W>(panels);
            }
            if std::is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
                // SAFETY: the processor has just been found to have AVX2.
                return unsafe { avx2::<W>(self, panels) };
            }
        }
        self.write_body::<W>(panels);
    }

    #[inline(always)]
    fn write_body<const W: usize>(self, panels: &mut [u32]) {
        let Self { shape, part, words, .. } = self;
        let (side, kernel) = (shape.in_side, shape.kernel);
        let rows = (part.inputs.1 - part.inputs.0) * kernel * kernel;
        let behind = shape.padding * (side + 1) * words;
        let masks_row = self.masks.len() / (kernel * kernel);
        for (index, panel) in panels.chunks_exact_mut(rows * W).enumerate() {
            let first = part.positions.0 + index * W / words;
            let count = part.positions.1.saturating_sub(first).min(W / words) * words;
            let masks = &self.masks[first % (side * side) * words..];
            let mut panel = panel.as_chunks_mut::<W>().0.iter_mut();
            for input in part.inputs.0..part.inputs.1 {
                for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                    let Some(out) = panel.next() else { return };
                    let mask = masks[(ky * kernel + kx) * masks_row..].first_chunk::<W>();
                    let Some(mask) = mask else { return };
                    // Word j of the row is word ahead + j - behind of x, if it is in the map at all.
                    let ahead = (input * self.channel + first + ky * side + kx) * words;
                    let from = ahead
                        .checked_sub(behind)
                        .and_then(|start| self.x.get(start..)?.first_chunk::<W>());
                    match from {
                        Some(from) if count == W => and(from, mask, out),
                        _ => {
                            for (j, (out, mask)) in out.iter_mut().zip(mask).enumerate() {
                                *out = if j < count && *mask != 0 {
                                    self.x[ahead + j - behind]
                                } else {
                                    0
                                };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Bitwise and, eight words at a time by value: the compiler need not fear that they overlap, and uses vectors.
#[inline(always)]
fn and<const W: usize>(a: &[u32; W], b: &[u32; W], out: &mut [u32; W]) {
    let eights = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    for ((a, b), out) in eights.zip(out.as_chunks_mut::<8>().0) {
        let (mut a, b) = (*a, *b);
        for (a, b) in a.iter_mut().zip(b) {
            *a &= b;
        }
        *out = a;
    }
}

/// Patches of any convolution, through a table of where each tap of each position reads.
fn indexed_patches<T: Real>(
    offsets: &mut Vec<i32>,
    shape: ConvShape,
    batch: usize,
    x: &[T],
    part: Part,
    width: usize,
    panels: &mut [T],
) {
    let (side, out) = (shape.in_side, shape.out_side());
    let (taps, channel) = (shape.kernel * shape.kernel, batch * side * side);
    let rows = (part.inputs.1 - part.inputs.0) * taps;
    let count = panels.len() / rows;
    offsets.clear();
    offsets.resize(taps * count, -1);
    let within = |at: usize| (shape.padding..shape.padding + side).contains(&at);
    let taps_in_order = (0..shape.kernel).flat_map(|ky| (0..shape.kernel).map(move |kx| (ky, kx)));
    for ((ky, kx), offsets) in taps_in_order.zip(offsets.chunks_exact_mut(count)) {
        for_lines(part.positions, out, |line, x, range| {
            let (image, iy) = (line / out, line % out * shape.stride + ky);
            if !within(iy) {
                return;
            }
            let row = (image * side + iy - shape.padding) * side;
            for (x, offset) in (x..).zip(&mut offsets[range]) {
                let ix = x * shape.stride + kx;
                if within(ix) {
                    *offset = (row + ix - shape.padding) as i32;
                }
            }
        });
    }
    for (index, panel) in panels.chunks_exact_mut(rows * width).enumerate() {
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            let (input, tap) = (part.inputs.0 + row / taps, row % taps);
            let from = &x[input * channel..][..channel];
            let offsets = &offsets[tap * count + index * width..][..width];
            for (out, offset) in out.iter_mut().zip(offsets) {
                *out = usize::try_from(*offset).map_or(T::ZERO, |offset| from[offset]);
            }
        }
    }
}

/// Writes maps `[channels, positions]` into panels `[channels, W]`; positions beyond the end are zero.
fn write_maps<T: Real>(width: usize, channels: usize, x: &[T], range: (usize, usize), panels: &mut [T]) {
    let positions = x.len() / channels;
    for (index, panel) in panels.chunks_exact_mut(channels * width).enumerate() {
        let first = range.0 + index * width;
        let count = range.1.saturating_sub(first).min(width);
        for (x, out) in x.chunks_exact(positions).zip(panel.chunks_exact_mut(width)) {
            out[..count].copy_from_slice(&x[first..first + count]);
            out[count..].fill(T::ZERO);
        }
    }
}

/// Positions whose panels fill a block: a multiple of the width.
fn block<T: Real>(weights: &Packed<T>, positions: usize) -> usize {
    let width = wide::<T>();
    let values = if weights.is_resident() {
        BLOCK_VALUES
    } else {
        LARGE_BLOCK_VALUES
    };
    (values / (weights.depth() * width)).clamp(1, positions.div_ceil(width).max(1)) * width
}

/// y (+)= weights (packed `[outputs, patch]`) times the patches of x.
fn correlate<T: Real>(
    work: &mut Workspace<T>,
    shape: ConvShape,
    weights: &Packed<T>,
    batch: usize,
    x: &[T],
    y: &mut [T],
    accumulate: bool,
) {
    let (patch, width) = (shape.patch(), wide::<T>());
    let positions = shape.out_maps(batch).len() / shape.outputs;
    assert_eq!(x.len(), shape.in_maps(batch).len(), "input of {shape:?}, batch {batch}");
    assert_eq!(
        y.len(),
        shape.out_maps(batch).len(),
        "output of {shape:?}, batch {batch}"
    );
    let step = block(weights, positions);
    for first in (0..positions).step_by(step) {
        let last = (first + step).min(positions);
        let panels = scratch(&mut work.patches, (last - first).div_ceil(width) * width * patch);
        let part = Part {
            inputs: (0, shape.inputs),
            positions: (first, last),
        };
        write_patches(
            (&mut work.inside, &mut work.offsets),
            shape,
            batch,
            x,
            part,
            width,
            panels,
        );
        multiply(weights, panels, last - first, &mut y[first..], positions, accumulate);
    }
}

pub(super) fn conv<T: Real>(
    work: &mut Workspace<T>,
    filter: &Filter<T>,
    batch: usize,
    x: &[T],
    y: &mut [T],
    accumulate: bool,
) {
    correlate(work, filter.shape, &filter.forward, batch, x, y, accumulate);
}

pub(super) fn conv_transpose<T: Real>(
    work: &mut Workspace<T>,
    filter: &Filter<T>,
    batch: usize,
    dy: &[T],
    dx: &mut [T],
    accumulate: bool,
) {
    let shape = filter.shape;
    if preserves_side(shape) {
        return correlate(work, transposed(shape), &filter.backward, batch, dy, dx, accumulate);
    }
    assert_eq!(dy.len(), shape.out_maps(batch).len(), "output gradient of {shape:?}");
    assert_eq!(dx.len(), shape.in_maps(batch).len(), "input gradient of {shape:?}");
    if !accumulate {
        dx.fill(T::ZERO);
    }
    let (patch, width) = (shape.patch(), wide::<T>());
    let positions = dy.len() / shape.outputs;
    let step = block(&filter.backward, positions);
    for first in (0..positions).step_by(step) {
        let last = (first + step).min(positions);
        let count = last - first;
        let panels = scratch(&mut work.gradients, count.div_ceil(width) * width * shape.outputs);
        write_maps(width, shape.outputs, dy, (first, last), panels);
        let columns = scratch(&mut work.columns, patch * count);
        multiply(&filter.backward, panels, count, columns, count, false);
        add_patches(shape, batch, columns, (first, last), dx);
    }
}

/// Adds patch values `[patch, positions]` to where the patches were read.
fn add_patches<T: Real>(shape: ConvShape, batch: usize, columns: &[T], range: (usize, usize), dx: &mut [T]) {
    let (side, out) = (shape.in_side, shape.out_side());
    let (taps, channel) = (shape.kernel * shape.kernel, batch * side * side);
    let within = |at: usize| (shape.padding..shape.padding + side).contains(&at);
    for (row, from) in columns.chunks_exact(range.1 - range.0).enumerate() {
        let (input, ky, kx) = (row / taps, row % taps / shape.kernel, row % shape.kernel);
        let dx = &mut dx[input * channel..][..channel];
        for_lines(range, out, |line, x, range| {
            let (image, iy) = (line / out, line % out * shape.stride + ky);
            if !within(iy) {
                return;
            }
            let to = &mut dx[(image * side + iy - shape.padding) * side..][..side];
            for (x, from) in (x..).zip(&from[range]) {
                let ix = x * shape.stride + kx;
                if within(ix) {
                    to[ix - shape.padding] += *from;
                }
            }
        });
    }
}

/// Calls `visit(line, x, range)` for every run of positions in one output row: the row's number over all images, the
/// column that the run starts at, and its place counted from the first position.
fn for_lines(positions: (usize, usize), out: usize, mut visit: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let mut position = positions.0;
    while position < positions.1 {
        let (line, x) = (position / out, position % out);
        let end = positions.1.min((line + 1) * out);
        visit(line, x, position - positions.0..end - positions.0);
        position = end;
    }
}

pub(super) fn conv_weight_gradient<T: Real>(
    work: &mut Workspace<T>,
    shape: ConvShape,
    batch: usize,
    pairs: &[(&Vec<T>, &Vec<T>)],
    dw: &mut [T],
) {
    let (patch, taps, width) = (shape.patch(), shape.kernel * shape.kernel, narrow::<T>());
    let positions = shape.out_maps(batch).len() / shape.outputs;
    assert_eq!(dw.len(), shape.outputs * patch, "weight gradient of {shape:?}");
    for (x, dy) in pairs {
        assert_eq!(x.len(), shape.in_maps(batch).len(), "input of {shape:?}");
        assert_eq!(dy.len(), shape.out_maps(batch).len(), "output gradient of {shape:?}");
    }
    // Either several pairs at once, or one pair in several blocks of positions.
    let padded = positions.div_ceil(width) * width;
    let together = (GRADIENT_POSITIONS / padded).max(1);
    let step = padded.min(GRADIENT_POSITIONS);
    for pairs in pairs.chunks(together) {
        for first in (0..positions).step_by(step) {
            let range = (first, (first + step).min(positions));
            let each = (range.1 - range.0).div_ceil(width) * width;
            let gradients = scratch(&mut work.gradients, pairs.len() * each * shape.outputs);
            for ((_, dy), panels) in pairs.iter().zip(gradients.chunks_exact_mut(each * shape.outputs)) {
                write_maps(width, shape.outputs, dy, range, panels);
            }
            let slab = (LARGE_BLOCK_VALUES / (taps * pairs.len() * each)).clamp(1, shape.inputs);
            for input in (0..shape.inputs).step_by(slab) {
                let part = Part {
                    inputs: (input, (input + slab).min(shape.inputs)),
                    positions: range,
                };
                let rows = (part.inputs.1 - input) * taps;
                let patches = scratch(&mut work.patches, pairs.len() * each * rows);
                for ((x, _), panels) in pairs.iter().zip(patches.chunks_exact_mut(each * rows)) {
                    write_patches(
                        (&mut work.inside, &mut work.offsets),
                        shape,
                        batch,
                        x,
                        part,
                        width,
                        panels,
                    );
                }
                multiply_rows(gradients, shape.outputs, patches, rows, &mut dw[input * taps..], patch);
            }
        }
    }
}
