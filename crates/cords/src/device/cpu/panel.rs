//! Small matrix products on packed panels, in the best vector instructions that the processor has.
//!
//! A panel is `[depth, width]` with `width` neighbouring columns (output positions), so that one row of it is one or two
//! vectors. Results depend on the instruction set (fused multiply-add or not), never on the number of threads.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::any::TypeId;

#[cfg(target_arch = "x86_64")]
use super::lanes::{Half32, Half64, Wide32, Wide64};
use super::lanes::{Lanes, Plain};
use crate::Real;

/// Columns of a panel in a product `weights x panel`: two vectors of 512 bits.
pub(super) const fn wide<T>() -> usize {
    128 / size_of::<T>()
}

/// Columns of a panel in a product of two panels' rows: one vector of 512 bits.
pub(super) const fn narrow<T>() -> usize {
    64 / size_of::<T>()
}

/// Rows of one block of packed weights; the rest goes in blocks of 4, 2 and 1.
const ROWS: usize = 8;

/// Heights of the blocks that `rows` rows are cut into, with each block's first row.
fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let height = match rows - first {
            0 => return None,
            1 => 1,
            2..4 => 2,
            4..ROWS => 4,
            _ => ROWS,
        };
        first += height;
        Some((first - height, height))
    })
}

/// A matrix `[rows, depth]` packed in blocks of rows, each `[depth, height]`.
pub(super) struct Packed<T> {
    rows: usize,
    depth: usize,
    values: Vec<T>,
}

impl<T: Real> Packed<T> {
    /// Packs the matrix whose value (row, k) is `value(row, k)`.
    pub(super) fn new(rows: usize, depth: usize, value: impl Fn(usize, usize) -> T) -> Self {
        let mut values = Vec::with_capacity(rows * depth);
        for (first, height) in blocks(rows) {
            for k in 0..depth {
                values.extend((first..first + height).map(|row| value(row, k)));
            }
        }
        Self { rows, depth, values }
    }

    /// Columns of the matrix.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the matrix is small enough to stay in the cache while panel after panel passes by.
    pub(super) fn is_resident(&self) -> bool {
        size_of_val(self.values.as_slice()) <= RESIDENT_BYTES
    }
}

/// The same slice under the element type's own name; the types are equal.
fn same<T: Real, U: Real>(slice: &[T]) -> &[U] {
    bytemuck::cast_slice(slice)
}

fn same_mut<T: Real, U: Real>(slice: &mut [T]) -> &mut [U] {
    bytemuck::cast_slice_mut(slice)
}

/// Runs `$body::<lanes>(arguments)` with the widest vectors that the processor has for `$t`; slices are passed under the
/// element's own type.
macro_rules! dispatch {
    ($t:ty, $body:ident($($plain:expr),*; $($shared:expr),*; $out:expr)) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn wide<S: Lanes>(run: impl FnOnce()) {
                run();
            }
            #[target_feature(enable = "avx2,fma")]
            fn half<S: Lanes>(run: impl FnOnce()) {
                run();
            }
            let single = TypeId::of::<$t>() == TypeId::of::<f32>();
            let fma = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            // SAFETY (all four): the processor has just been found to have the instructions; `$body` checks its slices.
            if fma && std::is_x86_feature_detected!("avx512f") {
                return if single {
                    let out = same_mut($out);
                    unsafe { wide::<Wide32>(|| $body::<Wide32>($($plain,)* $(same($shared),)* out)) }
                } else {
                    let out = same_mut($out);
                    unsafe { wide::<Wide64>(|| $body::<Wide64>($($plain,)* $(same($shared),)* out)) }
                };
            }
            if fma {
                return if single {
                    let out = same_mut($out);
                    unsafe { half::<Half32>(|| $body::<Half32>($($plain,)* $(same($shared),)* out)) }
                } else {
                    let out = same_mut($out);
                    unsafe { half::<Half64>(|| $body::<Half64>($($plain,)* $(same($shared),)* out)) }
                };
            }
        }
        // SAFETY: ordinary instructions exist everywhere; `$body` checks its slices.
        unsafe { $body::<Plain<$t>>($($plain,)* $($shared,)* $out) }
    }};
}

/// Where a product's result goes.
#[derive(Clone, Copy)]
struct Target {
    /// Values between rows.
    stride: usize,
    /// Columns in all.
    columns: usize,
    accumulate: bool,
}

/// H rows of a block of weights `[depth, height]`, from row `h` on, times two vectors of a panel's columns, from column `w` on.
///
/// # Safety
/// `S`'s instructions exist; `weights` holds `depth x height` values and h + H <= height; `panel` holds `depth x wide` values
/// and w + 2 `S::COUNT` <= wide.
#[inline(always)]
unsafe fn tile<S: Lanes, const H: usize>(
    weights: &[S::Element],
    (height, h): (usize, usize),
    panel: &[S::Element],
    w: usize,
) -> [[S::Vector; 2]; H] {
    let width = wide::<S::Element>();
    // SAFETY: within the bounds that the caller promises.
    unsafe {
        let mut sums = [[S::splat(S::Element::ZERO); 2]; H];
        let mut weight = weights.as_ptr().add(h);
        let mut row = panel.as_ptr().add(w);
        for _ in 0..weights.len() / height {
            let (left, right) = (S::load(row), S::load(row.add(S::COUNT)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let factor = S::splat(*weight.add(i));
                sums[0] = S::multiply_add(factor, left, sums[0]);
                sums[1] = S::multiply_add(factor, right, sums[1]);
            }
            weight = weight.wrapping_add(height);
            row = row.wrapping_add(width);
        }
        sums
    }
}

/// Adds a tile's sums to `out`, or writes them, from row 0 and column `first` on; columns beyond the end are dropped.
///
/// # Safety
/// `S`'s instructions exist.
#[inline(always)]
unsafe fn put<S: Lanes, const H: usize>(
    sums: [[S::Vector; 2]; H],
    first: usize,
    target: Target,
    out: &mut [S::Element],
) {
    let count = target.columns.saturating_sub(first).min(2 * S::COUNT);
    let mut values = [S::Element::ZERO; 32];
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: two vectors are at most 32 elements.
        unsafe {
            S::store(values.as_mut_ptr(), sums[0]);
            S::store(values.as_mut_ptr().add(S::COUNT), sums[1]);
        }
        if count == 0 {
            return;
        }
        let out = &mut out[row * target.stride + first..][..count];
        if target.accumulate {
            for (out, value) in out.iter_mut().zip(&values) {
                *out += *value;
            }
        } else {
            out.copy_from_slice(&values[..count]);
        }
    }
}

/// A block of weights `[depth, height]` times every panel.
///
/// # Safety
/// `S`'s instructions exist.
#[inline(always)]
unsafe fn rows<S: Lanes>(
    height: usize,
    target: Target,
    weights: &[S::Element],
    panels: &[S::Element],
    out: &mut [S::Element],
) {
    let width = wide::<S::Element>();
    let depth = weights.len() / height;
    assert!(weights.len() == depth * height && 2 * S::COUNT <= width);
    for (index, panel) in panels.chunks_exact(depth * width).enumerate() {
        for w in (0..width).step_by(2 * S::COUNT) {
            let column = index * width + w;
            let mut h = 0;
            while h < height {
                let out = &mut out[h * target.stride..];
                // SAFETY: the slices have just been checked, and each arm takes no more rows than are left.
                unsafe {
                    h += match height - h {
                        ROWS.. if S::MANY => {
                            put::<S, ROWS>(tile::<S, ROWS>(weights, (height, h), panel, w), column, target, out);
                            ROWS
                        }
                        4.. => {
                            put::<S, 4>(tile::<S, 4>(weights, (height, h), panel, w), column, target, out);
                            4
                        }
                        2.. => {
                            put::<S, 2>(tile::<S, 2>(weights, (height, h), panel, w), column, target, out);
                            2
                        }
                        _ => {
                            put::<S, 1>(tile::<S, 1>(weights, (height, h), panel, w), column, target, out);
                            1
                        }
                    };
                }
            }
        }
    }
}

fn multiply_block<T: Real>(height: usize, target: Target, weights: &[T], panels: &[T], out: &mut [T]) {
    dispatch!(T, rows(height, target; weights, panels; out))
}

/// Weights above this many bytes are taken block by block through all panels; smaller ones stay in the cache.
const RESIDENT_BYTES: usize = 256 * 1024;

/// out (+)= weights x panels: `columns` columns in panels `[depth, wide]`, a row of `out` every `stride` values.
pub(super) fn multiply<T: Real>(
    weights: &Packed<T>,
    panels: &[T],
    columns: usize,
    out: &mut [T],
    stride: usize,
    accumulate: bool,
) {
    let depth = weights.depth;
    let width = wide::<T>();
    let together = if weights.is_resident() {
        1
    } else {
        columns.div_ceil(width)
    };
    for (index, panels) in panels.chunks(together * depth * width).enumerate() {
        let column = index * together * width;
        let target = Target {
            stride,
            columns: columns.min(column + together * width) - column,
            accumulate,
        };
        for (first, height) in blocks(weights.rows) {
            let block = &weights.values[first * depth..][..height * depth];
            multiply_block(height, target, block, panels, &mut out[first * stride + column..]);
        }
    }
}

/// Rows of the right factor that one tile takes.
const RIGHT: usize = 3;

/// Sums over panels and columns of H rows of the left panels times R rows of the right ones, added to `out`.
///
/// # Safety
/// `S`'s instructions exist; every panel of `left`, `left_panel` values from the last's start, holds H rows of `narrow` values,
/// and likewise `right` R rows.
#[inline(always)]
unsafe fn outer_tile<S: Lanes, const H: usize, const R: usize>(
    (left_panel, right_panel, stride): (usize, usize, usize),
    left: &[S::Element],
    right: &[S::Element],
    out: &mut [S::Element],
) {
    let width = narrow::<S::Element>();
    // SAFETY: within the bounds that the caller promises.
    unsafe {
        let mut sums = [[S::splat(S::Element::ZERO); R]; H];
        for (left, right) in left.chunks(left_panel).zip(right.chunks(right_panel)) {
            for w in (0..width).step_by(S::COUNT) {
                let right: [S::Vector; R] = std::array::from_fn(|r| S::load(right.as_ptr().add(r * width + w)));
                for (h, sums) in sums.iter_mut().enumerate() {
                    let left = S::load(left.as_ptr().add(h * width + w));
                    for (sum, right) in sums.iter_mut().zip(&right) {
                        *sum = S::multiply_add(left, *right, *sum);
                    }
                }
            }
        }
        for (h, sums) in sums.iter().enumerate() {
            for (r, sum) in sums.iter().enumerate() {
                let mut values = [S::Element::ZERO; 16];
                S::store(values.as_mut_ptr(), *sum);
                // Halves are added together until one value is left.
                let mut half = S::COUNT / 2;
                while half > 0 {
                    for i in 0..half {
                        values[i] += values[i + half];
                    }
                    half /= 2;
                }
                out[h * stride + r] += values[0];
            }
        }
    }
}

/// `height` rows of the left panels times all rows of the right ones.
///
/// # Safety
/// `S`'s instructions exist.
#[inline(always)]
unsafe fn outer<S: Lanes>(
    height: usize,
    (left_panel, right_panel, stride): (usize, usize, usize),
    left: &[S::Element],
    right: &[S::Element],
    out: &mut [S::Element],
) {
    let width = narrow::<S::Element>();
    let right_rows = right_panel / width;
    assert!(left.len().is_multiple_of(left_panel) && right.len().is_multiple_of(right_panel));
    assert!(height * width <= left_panel && right_rows * width == right_panel);
    let sizes = (left_panel, right_panel, stride);
    let mut h = 0;
    while h < height {
        let left = &left[h * width..];
        let mut r = 0;
        let step = match height - h {
            ROWS.. if S::MANY => ROWS,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        while r < right_rows {
            let right = &right[r * width..];
            let out = &mut out[h * stride + r..];
            let many = right_rows - r >= RIGHT;
            // SAFETY: the slices have just been checked, and each arm takes no more rows than are left of either side.
            unsafe {
                match (step, many) {
                    (ROWS, true) => outer_tile::<S, ROWS, RIGHT>(sizes, left, right, out),
                    (4, true) => outer_tile::<S, 4, RIGHT>(sizes, left, right, out),
                    (2, true) => outer_tile::<S, 2, RIGHT>(sizes, left, right, out),
                    (_, true) => outer_tile::<S, 1, RIGHT>(sizes, left, right, out),
                    (ROWS, false) => outer_tile::<S, ROWS, 1>(sizes, left, right, out),
                    (4, false) => outer_tile::<S, 4, 1>(sizes, left, right, out),
                    (2, false) => outer_tile::<S, 2, 1>(sizes, left, right, out),
                    (_, false) => outer_tile::<S, 1, 1>(sizes, left, right, out),
                }
            }
            r += if many { RIGHT } else { 1 };
        }
        h += step;
    }
}

fn outer_block<T: Real>(height: usize, sizes: (usize, usize, usize), left: &[T], right: &[T], out: &mut [T]) {
    dispatch!(T, outer(height, sizes; left, right; out))
}

/// out += left x right^T, both in panels `[rows, narrow]` over the same columns; a row of `out` every `stride` values.
pub(super) fn multiply_rows<T: Real>(
    left: &[T],
    left_rows: usize,
    right: &[T],
    right_rows: usize,
    out: &mut [T],
    stride: usize,
) {
    let width = narrow::<T>();
    assert!(left.len() * right_rows == right.len() * left_rows && left.len().is_multiple_of(left_rows * width));
    let sizes = (left_rows * width, right_rows * width, stride);
    outer_block(left_rows, sizes, left, right, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: every sum is exact, whatever its order and rounding.
    fn value<T: Real>(i: usize) -> T {
        T::from_f64((i * 7919 % 13) as f64 - 6.0)
    }

    /// Both products of one kind of vector against plain loops; rows that fill blocks and rows that do not.
    fn check<S: Lanes>() {
        let (w, n) = (wide::<S::Element>(), narrow::<S::Element>());
        let (depth, columns, stride) = (5, 2 * w + 3, 2 * w + 9);
        let panels: Vec<S::Element> = (0..3 * depth * w).map(value).collect();
        for height in [1, 2, 4, 8] {
            let weights: Vec<S::Element> = (0..depth * height).map(|i| value(i + 3)).collect();
            for accumulate in [false, true] {
                let target = Target {
                    stride,
                    columns,
                    accumulate,
                };
                let mut out = vec![S::Element::from_f64(5.0); height * stride];
                // SAFETY: called for vectors that the processor has.
                unsafe { rows::<S>(height, target, &weights, &panels, &mut out) };
                for (row, column) in (0..height).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let mut sum = S::Element::from_f64(if accumulate { 5.0 } else { 0.0 });
                    for k in 0..depth {
                        sum += weights[k * height + row] * panels[(column / w * depth + k) * w + column % w];
                    }
                    assert_eq!(
                        out[row * stride + column],
                        sum,
                        "height {height}, row {row}, column {column}"
                    );
                }
                let beyond = S::Element::from_f64(5.0);
                assert!(
                    out.chunks(stride)
                        .all(|row| row[columns..].iter().all(|v| *v == beyond))
                );
            }
        }
        for (left_rows, right_rows) in [(1, 1), (3, 4), (8, 3), (13, 7)] {
            let left: Vec<S::Element> = (0..3 * left_rows * n).map(value).collect();
            let right: Vec<S::Element> = (0..3 * right_rows * n).map(|i| value(i + 5)).collect();
            let mut out = vec![S::Element::from_f64(2.0); left_rows * (right_rows + 1)];
            let sizes = (left_rows * n, right_rows * n, right_rows + 1);
            // SAFETY: called for vectors that the processor has.
            unsafe { outer::<S>(left_rows, sizes, &left, &right, &mut out) };
            for (l, r) in (0..left_rows).flat_map(|l| (0..right_rows).map(move |r| (l, r))) {
                let mut sum = S::Element::from_f64(2.0);
                for (panel, i) in (0..3).flat_map(|panel| (0..n).map(move |i| (panel, i))) {
                    sum += left[(panel * left_rows + l) * n + i] * right[(panel * right_rows + r) * n + i];
                }
                assert_eq!(
                    out[l * (right_rows + 1) + r],
                    sum,
                    "{left_rows} x {right_rows}, {l}, {r}"
                );
            }
        }
    }

    #[test]
    fn products_in_ordinary_instructions() {
        check::<Plain<f32>>();
        check::<Plain<f64>>();
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn products_in_avx2() {
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            check::<Half32>();
            check::<Half64>();
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn products_in_avx512() {
        if std::is_x86_feature_detected!("avx512f") {
            check::<Wide32>();
            check::<Wide64>();
        }
    }
}
