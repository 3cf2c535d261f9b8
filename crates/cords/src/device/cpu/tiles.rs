//! Register tiles: the innermost loops of all convolutions.
//!
//! Every output element is one chain of fused multiply-adds in a fixed order, whatever the size of the tile or the
//! width of the vectors.

#![expect(unsafe_code, reason = "vector instructions and pointers")]

use super::lanes::{Lanes, Level, compiled};
use crate::Real;

/// Channels of one block: the innermost axis of maps on the CPU.
pub(super) const BLOCK: usize = 16;

/// Blocks that hold `channels` channels.
pub(super) fn blocks(channels: usize) -> usize {
    channels.div_ceil(BLOCK)
}

/// Columns of a full panel of weights.
pub(super) const PANEL: usize = 32;

/// Panels of so many columns.
pub(super) fn panels(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// Width of panel `panel` of so many columns: a last panel of up to 16 columns is one block.
pub(super) fn panel_width(columns: usize, panel: usize) -> usize {
    if blocks(columns) * BLOCK - panel * PANEL >= PANEL {
        PANEL
    } else {
        BLOCK
    }
}

/// The left factor of a product: rows of scalars, cut into blocks of `depth` neighbouring values.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    /// First value of row 0.
    pub(super) x: *const T,
    /// Values from one row to the next.
    pub(super) stride: usize,
    /// Where each block starts, from `x`.
    pub(super) blocks: &'a [usize],
    /// Values of a block.
    pub(super) depth: usize,
}

/// Where a product's rows go.
#[derive(Clone, Copy)]
pub(super) struct Sink<T> {
    /// First value of row 0.
    pub(super) y: *mut T,
    /// Values from one row to the next.
    pub(super) stride: usize,
    /// From the first block of 16 columns to the second.
    pub(super) block: usize,
    /// Whether results are added to what is there.
    pub(super) accumulate: bool,
}

/// Positions that an outer product sums over: `lines` lines of `count` each.
#[derive(Clone, Copy)]
pub(super) struct Positions<T> {
    /// Row values of the first position.
    pub(super) x: *const T,
    /// Values from one position to the next.
    pub(super) x_step: usize,
    /// Values from one line to the next.
    pub(super) x_line: usize,
    /// Columns of the first position.
    pub(super) e: *const T,
    /// Values from one position to the next.
    pub(super) e_step: usize,
    /// Values from one line to the next.
    pub(super) e_line: usize,
    /// From the first block of 16 columns to the second.
    pub(super) e_block: usize,
    /// Positions of a line.
    pub(super) count: usize,
    /// Number of lines of positions.
    pub(super) lines: usize,
}

/// M rows times N vectors of columns; `places[n]` is where vector n goes in a row of y.
///
/// # Safety
/// The instructions exist, and all that is pointed at.
#[inline(always)]
unsafe fn product_body<S: Lanes, const M: usize, const N: usize>(
    x: Rows<'_, S::Element>,
    w: *const S::Element,
    columns: usize,
    y: Sink<S::Element>,
    places: [usize; N],
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[S::splat(S::Element::ZERO); N]; M];
        if y.accumulate {
            for (m, sums) in sums.iter_mut().enumerate() {
                for (place, sum) in places.iter().zip(sums) {
                    *sum = S::load(y.y.add(m * y.stride + place));
                }
            }
        }
        let mut w = w;
        for block in x.blocks {
            let mut from = x.x.add(*block);
            for _ in 0..x.depth {
                let mut right = [S::splat(S::Element::ZERO); N];
                for (n, right) in right.iter_mut().enumerate() {
                    *right = S::load(w.add(n * S::COUNT));
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let left = S::splat(*from.add(m * x.stride));
                    for (sum, right) in sums.iter_mut().zip(&right) {
                        *sum = S::fma(left, *right, *sum);
                    }
                }
                w = w.wrapping_add(columns);
                from = from.wrapping_add(1);
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (place, sum) in places.iter().zip(sums) {
                S::store(y.y.add(m * y.stride + place), *sum);
            }
        }
    }
}

compiled! {
    fn product_tile[S: Lanes, const M: usize, const N: usize][S, M, N] = product_body(
        x: Rows<'_, S::Element>,
        w: *const S::Element,
        columns: usize,
        y: Sink<S::Element>,
        places: [usize; N],
    )
}

/// Calls `product_tile::<S, rows, $n>` for a number of rows known only at run time.
macro_rules! by_rows {
    ($s:ident, $n:literal, $rows:expr, $arguments:tt) => {
        by_rows!(@ $s, $n, $rows, $arguments, 4, [1 2 3 4] 6, [5 6] 14, [7 8 9 10 11 12 13 14])
    };
    // Register tiles higher than `S::ROWS` are not compiled.
    (@ $s:ident, $n:literal, $rows:expr, $arguments:tt, $($most:literal, [$($m:literal)*])*) => {
        match $rows {
            $($($m => if const { $s::ROWS >= $most } { product_tile::<$s, $m, $n> $arguments },)*)*
            rows => unreachable!("a register tile of {rows} rows"),
        }
    };
}

/// y (+)= x times weights `[blocks x depth, columns]`, for any number of rows and 16 or 32 columns.
///
/// # Safety
/// The instructions exist; `x` and `w` can be read and `y` written as far as the sizes reach.
pub(super) unsafe fn product<S: Lanes>(
    rows: usize,
    x: Rows<'_, S::Element>,
    w: *const S::Element,
    columns: usize,
    y: Sink<S::Element>,
) {
    let place = |column: usize| column / BLOCK * y.block + column % BLOCK;
    let mut first = 0;
    while first < rows {
        // Tiles of nearly equal height.
        let left = rows - first;
        let height = left.div_ceil(left.div_ceil(S::ROWS));
        let x = Rows {
            x: x.x.wrapping_add(first * x.stride),
            ..x
        };
        let y = Sink {
            y: y.y.wrapping_add(first * y.stride),
            ..y
        };
        let mut column = 0;
        while column < columns {
            let w = w.wrapping_add(column);
            // SAFETY: a part of what the caller promises.
            unsafe {
                if columns - column > S::COUNT {
                    let places = [place(column), place(column + S::COUNT)];
                    by_rows!(S, 2, height, (x, w, columns, y, places));
                    column += 2 * S::COUNT;
                } else {
                    let places = [place(column)];
                    by_rows!(S, 1, height, (x, w, columns, y, places));
                    column += S::COUNT;
                }
            }
        }
        first += height;
    }
}

/// R rows times N vectors of columns, summed over positions and added to rows of `columns` values.
///
/// # Safety
/// The instructions exist, and all that is pointed at.
#[inline(always)]
unsafe fn outer_body<S: Lanes, const R: usize, const N: usize>(
    offsets: &[usize; R],
    p: Positions<S::Element>,
    places: [usize; N],
    columns: usize,
    y: *mut S::Element,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[S::splat(S::Element::ZERO); N]; R];
        for line in 0..p.lines {
            let mut x = p.x.add(line * p.x_line);
            let mut e = p.e.add(line * p.e_line);
            for _ in 0..p.count {
                let mut right = [S::splat(S::Element::ZERO); N];
                for (place, right) in places.iter().zip(&mut right) {
                    *right = S::load(e.add(*place));
                }
                for (offset, sums) in offsets.iter().zip(&mut sums) {
                    let left = S::splat(*x.add(*offset));
                    for (sum, right) in sums.iter_mut().zip(&right) {
                        *sum = S::fma(left, *right, *sum);
                    }
                }
                x = x.wrapping_add(p.x_step);
                e = e.wrapping_add(p.e_step);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                let y = y.add(r * columns + n * S::COUNT);
                S::store(y, S::add(S::load(y), *sum));
            }
        }
    }
}

compiled! {
    fn outer_tile[S: Lanes, const R: usize, const N: usize][S, R, N] = outer_body(
        offsets: &[usize; R],
        p: Positions<S::Element>,
        places: [usize; N],
        columns: usize,
        y: *mut S::Element,
    )
}

/// y `[rows, columns]` += sum over positions of x[offset of the row] e[column], for 16 or 32 columns.
///
/// # Safety
/// The instructions exist; `p` can be read and `y` read and written as far as the sizes reach.
pub(super) unsafe fn outer<S: Lanes>(offsets: &[usize], p: Positions<S::Element>, columns: usize, y: *mut S::Element) {
    let place = |column: usize| column / BLOCK * p.e_block + column % BLOCK;
    let mut row = 0;
    while row < offsets.len() {
        let left = &offsets[row..];
        let height = match left.len() {
            8.. if S::ROWS >= 8 => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let mut column = 0;
        while column < columns {
            let y = y.wrapping_add(row * columns + column);
            macro_rules! tile {
                ($n:literal, $places:expr) => {
                    match height {
                        8 if const { S::ROWS >= 8 } => outer_tile::<S, 8, $n>(head(left), p, $places, columns, y),
                        4 => outer_tile::<S, 4, $n>(head(left), p, $places, columns, y),
                        2 => outer_tile::<S, 2, $n>(head(left), p, $places, columns, y),
                        _ => outer_tile::<S, 1, $n>(head(left), p, $places, columns, y),
                    }
                };
            }
            // SAFETY: a part of what the caller promises.
            unsafe {
                if columns - column > S::COUNT {
                    tile!(2, [place(column), place(column + S::COUNT)]);
                    column += 2 * S::COUNT;
                } else {
                    tile!(1, [place(column)]);
                    column += S::COUNT;
                }
            }
        }
        row += height;
    }
}

fn head<const R: usize>(offsets: &[usize]) -> &[usize; R] {
    offsets
        .first_chunk()
        .expect("a tile is no higher than the rows that are left")
}
