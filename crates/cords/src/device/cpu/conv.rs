//! Convolution of maps `[channels, batch, side, side]` as im2col and one matrix product per block of output rows.
//!
//! With channels outermost, a channel of the whole group is one contiguous row, so the product's result needs no
//! reordering and a stride-1 im2col row is one shifted copy. Blocks are sized to keep the columns in the L2 cache.
//! The split into blocks depends on shapes alone.

use crate::Real;
use crate::device::ConvShape;

/// Values of im2col columns held at once: 384 KiB in f32.
const BLOCK_VALUES: usize = 96 * 1024;
/// Below this many columns, weight gradients of several pairs are gathered into one product.
const GATHER_COLUMNS: usize = 512;

/// Scratch of one group's convolutions.
#[derive(Default)]
pub struct Workspace<T> {
    columns: Vec<T>,
    gathered: Vec<T>,
}

/// Weights of one convolution, and for size-preserving ones the flipped weights of its transpose.
pub struct Filter<T> {
    shape: ConvShape,
    /// `[outputs, inputs x kernel x kernel]`.
    weight: Vec<T>,
    /// `[inputs, outputs x kernel x kernel]`, kernel turned by 180 degrees.
    flipped: Option<Vec<T>>,
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
        assert_eq!(weight.len(), shape.outputs * shape.patch(), "weights of {shape:?}");
        let taps = shape.kernel * shape.kernel;
        let flipped = preserves_side(shape).then(|| {
            let mut flipped = vec![T::ZERO; weight.len()];
            for output in 0..shape.outputs {
                for input in 0..shape.inputs {
                    let from = &weight[(output * shape.inputs + input) * taps..][..taps];
                    let to = &mut flipped[(input * shape.outputs + output) * taps..][..taps];
                    for (to, from) in to.iter_mut().zip(from.iter().rev()) {
                        *to = *from;
                    }
                }
            }
            flipped
        });
        Self {
            shape,
            weight: weight.to_vec(),
            flipped,
        }
    }
}

/// A row-major view: value (i, j) at `start + i * row + j * column`.
#[derive(Clone, Copy)]
struct View<'a, T> {
    data: &'a [T],
    row: usize,
    column: usize,
}

impl<T> View<'_, T> {
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// c (+)= a b with a `[m, k]`, b `[k, n]`; c's rows are `c_row` apart. One thread.
fn product<T: Real>(
    [m, n, k]: [usize; 3],
    a: View<'_, T>,
    b: View<'_, T>,
    c: &mut [T],
    c_row: usize,
    accumulate: bool,
) {
    assert!(a.holds(m, k) && b.holds(k, n) && c_row >= n && (m == 0 || (m - 1) * c_row + n <= c.len()));
    #[expect(unsafe_code, reason = "the gemm crate takes pointers and strides")]
    // SAFETY: the assertion bounds every offset that m, n, k and the strides can reach by the length of the slice
    // behind the pointer (lengths are far below isize::MAX), rows of `c` do not overlap, and `c` is a unique borrow.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_row as isize,
            accumulate,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Output rows (of all images, in order) whose columns fit a block.
fn rows_per_block(shape: ConvShape, batch: usize) -> usize {
    let rows = batch * shape.out_side();
    (BLOCK_VALUES / (shape.patch() * shape.out_side())).clamp(1, rows.max(1))
}

/// Output positions along one axis whose tap `tap` falls inside the input, as a range.
fn inside(shape: ConvShape, tap: usize) -> (usize, usize) {
    let first = shape.padding.saturating_sub(tap).div_ceil(shape.stride);
    // Position p reads p * stride + tap - padding < in_side.
    let end = (shape.in_side + shape.padding)
        .saturating_sub(tap)
        .div_ceil(shape.stride);
    let end = end.min(shape.out_side());
    (first.min(end), end)
}

/// Writes the patches of output rows `rows.0..rows.1` as columns `[patch, ld]`, starting at column `at`.
fn im2col<T: Real>(
    shape: ConvShape,
    batch: usize,
    x: &[T],
    rows: (usize, usize),
    columns: &mut [T],
    ld: usize,
    at: usize,
) {
    let (side, out) = (shape.in_side, shape.out_side());
    let channel_len = batch * side * side;
    let n = (rows.1 - rows.0) * out;
    for input in 0..shape.inputs {
        let channel = &x[input * channel_len..][..channel_len];
        for ky in 0..shape.kernel {
            let (y_first, y_end) = inside(shape, ky);
            for kx in 0..shape.kernel {
                let patch_row = (input * shape.kernel + ky) * shape.kernel + kx;
                let to = &mut columns[patch_row * ld + at..][..n];
                let (x_first, x_end) = inside(shape, kx);
                if preserves_side(shape) {
                    shifted_copy(shape, channel, rows, (ky, kx), to);
                    for (row, to) in (rows.0..rows.1).zip(to.chunks_exact_mut(side)) {
                        if !(y_first..y_end).contains(&(row % side)) {
                            to.fill(T::ZERO);
                        } else {
                            to[..x_first].fill(T::ZERO);
                            to[x_end..].fill(T::ZERO);
                        }
                    }
                } else {
                    for (row, to) in (rows.0..rows.1).zip(to.chunks_exact_mut(out)) {
                        let (image, y) = (row / out, row % out);
                        if !(y_first..y_end).contains(&y) {
                            to.fill(T::ZERO);
                            continue;
                        }
                        let iy = y * shape.stride + ky - shape.padding;
                        let from = &channel[(image * side + iy) * side..][..side];
                        to[..x_first].fill(T::ZERO);
                        to[x_end..].fill(T::ZERO);
                        for (ox, to) in (x_first..x_end).zip(&mut to[x_first..x_end]) {
                            *to = from[ox * shape.stride + kx - shape.padding];
                        }
                    }
                }
            }
        }
    }
}

/// Copies a channel shifted by one tap of a size-preserving kernel; positions outside the image hold garbage.
fn shifted_copy<T: Real>(
    shape: ConvShape,
    channel: &[T],
    rows: (usize, usize),
    (ky, kx): (usize, usize),
    to: &mut [T],
) {
    let side = shape.in_side;
    // Source of to[j] is channel[j + ahead - behind]; what falls off either end is outside every image.
    let ahead = rows.0 * side + ky * side + kx;
    let behind = shape.padding * side + shape.padding;
    let skip = behind.saturating_sub(ahead).min(to.len());
    let start = (ahead + skip).saturating_sub(behind).min(channel.len());
    let len = (to.len() - skip).min(channel.len() - start);
    to[skip..skip + len].copy_from_slice(&channel[start..start + len]);
}

/// Adds columns `[patch, n]` of output rows `rows` back to where [`im2col`] read them.
fn add_col2im<T: Real>(shape: ConvShape, batch: usize, columns: &[T], rows: (usize, usize), dx: &mut [T]) {
    let (side, out) = (shape.in_side, shape.out_side());
    let channel_len = batch * side * side;
    let n = (rows.1 - rows.0) * out;
    for input in 0..shape.inputs {
        let channel = &mut dx[input * channel_len..][..channel_len];
        for ky in 0..shape.kernel {
            let (y_first, y_end) = inside(shape, ky);
            for kx in 0..shape.kernel {
                let (x_first, x_end) = inside(shape, kx);
                let patch_row = (input * shape.kernel + ky) * shape.kernel + kx;
                let from = &columns[patch_row * n..][..n];
                for (row, from) in (rows.0..rows.1).zip(from.chunks_exact(out)) {
                    let (image, y) = (row / out, row % out);
                    if !(y_first..y_end).contains(&y) {
                        continue;
                    }
                    let iy = y * shape.stride + ky - shape.padding;
                    let to = &mut channel[(image * side + iy) * side..][..side];
                    for (ox, from) in (x_first..x_end).zip(&from[x_first..x_end]) {
                        to[ox * shape.stride + kx - shape.padding] += *from;
                    }
                }
            }
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

/// y (+)= weights (as `[outputs, patch]`) times the patches of x.
fn correlate<T: Real>(
    work: &mut Workspace<T>,
    shape: ConvShape,
    weight: &[T],
    batch: usize,
    x: &[T],
    y: &mut [T],
    accumulate: bool,
) {
    let (out, patch) = (shape.out_side(), shape.patch());
    let positions = batch * out * out;
    assert_eq!(x.len(), shape.in_maps(batch).len(), "input of {shape:?}, batch {batch}");
    assert_eq!(
        y.len(),
        shape.out_maps(batch).len(),
        "output of {shape:?}, batch {batch}"
    );
    let weight = View {
        data: weight,
        row: patch,
        column: 1,
    };
    if shape.kernel == 1 && preserves_side(shape) {
        // The maps are their own patches.
        let x = View {
            data: x,
            row: positions,
            column: 1,
        };
        return product([shape.outputs, positions, patch], weight, x, y, positions, accumulate);
    }
    let step = rows_per_block(shape, batch);
    for first in (0..batch * out).step_by(step) {
        let rows = (first, (first + step).min(batch * out));
        let n = (rows.1 - rows.0) * out;
        let columns = scratch(&mut work.columns, patch * n);
        im2col(shape, batch, x, rows, columns, n, 0);
        let columns = View {
            data: columns,
            row: n,
            column: 1,
        };
        product(
            [shape.outputs, n, patch],
            weight,
            columns,
            &mut y[first * out..],
            positions,
            accumulate,
        );
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
    correlate(work, filter.shape, &filter.weight, batch, x, y, accumulate);
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
    if let Some(flipped) = &filter.flipped {
        return correlate(work, transposed(shape), flipped, batch, dy, dx, accumulate);
    }
    assert_eq!(dy.len(), shape.out_maps(batch).len(), "output gradient of {shape:?}");
    assert_eq!(dx.len(), shape.in_maps(batch).len(), "input gradient of {shape:?}");
    if !accumulate {
        dx.fill(T::ZERO);
    }
    let (out, patch) = (shape.out_side(), shape.patch());
    let positions = batch * out * out;
    let step = rows_per_block(shape, batch);
    for first in (0..batch * out).step_by(step) {
        let rows = (first, (first + step).min(batch * out));
        let n = (rows.1 - rows.0) * out;
        let columns = scratch(&mut work.columns, patch * n);
        let weight = View {
            data: &filter.weight,
            row: 1,
            column: patch,
        };
        let dy = View {
            data: &dy[first * out..],
            row: positions,
            column: 1,
        };
        product([patch, n, shape.outputs], weight, dy, columns, n, false);
        add_col2im(shape, batch, columns, rows, dx);
    }
}

pub(super) fn conv_weight_gradient<T: Real>(
    work: &mut Workspace<T>,
    shape: ConvShape,
    batch: usize,
    pairs: &[(&Vec<T>, &Vec<T>)],
    dw: &mut [T],
) {
    let (out, patch) = (shape.out_side(), shape.patch());
    let positions = batch * out * out;
    assert_eq!(dw.len(), shape.outputs * patch, "weight gradient of {shape:?}");
    for (x, dy) in pairs {
        assert_eq!(x.len(), shape.in_maps(batch).len(), "input of {shape:?}");
        assert_eq!(dy.len(), shape.out_maps(batch).len(), "output gradient of {shape:?}");
    }
    let dims = |n| [shape.outputs, patch, n];
    if positions >= GATHER_COLUMNS {
        let step = rows_per_block(shape, batch);
        for (x, dy) in pairs {
            for first in (0..batch * out).step_by(step) {
                let rows = (first, (first + step).min(batch * out));
                let n = (rows.1 - rows.0) * out;
                let columns = scratch(&mut work.columns, patch * n);
                im2col(shape, batch, x, rows, columns, n, 0);
                let dy = View {
                    data: &dy[first * out..],
                    row: positions,
                    column: 1,
                };
                let columns = View {
                    data: columns,
                    row: 1,
                    column: n,
                };
                product(dims(n), dy, columns, dw, patch, true);
            }
        }
        return;
    }
    let together = (GATHER_COLUMNS.min(BLOCK_VALUES / patch) / positions).max(1);
    for pairs in pairs.chunks(together) {
        let n = pairs.len() * positions;
        let columns = scratch(&mut work.columns, patch * n);
        let gathered = scratch(&mut work.gathered, shape.outputs * n);
        for (i, (x, dy)) in pairs.iter().enumerate() {
            im2col(shape, batch, x, (0, batch * out), columns, n, i * positions);
            for (to, from) in gathered.chunks_exact_mut(n).zip(dy.chunks_exact(positions)) {
                to[i * positions..][..positions].copy_from_slice(from);
            }
        }
        let dy = View {
            data: gathered,
            row: n,
            column: 1,
        };
        let columns = View {
            data: columns,
            row: 1,
            column: n,
        };
        product(dims(n), dy, columns, dw, patch, true);
    }
}
