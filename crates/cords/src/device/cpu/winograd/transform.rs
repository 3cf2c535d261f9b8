//! Tiles to the transformed domain and back.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use super::super::aligned::Aligned;
use super::super::lanes::{Lanes, Level, compiled};
use super::super::tiles::{BLOCK, PANEL, blocks, panel_width};
use super::correlate::Epilogue;
use super::{Grid, Layout, P, Q, SPAN, TILE};
use crate::Real;

/// B^T d: row j holds the coefficients of prod over k != j of (x - a_k).
///
/// # Safety
/// The instructions of `S` exist.
#[inline(always)]
unsafe fn input_1d<S: Lanes>(d: [S::Vector; SPAN]) -> [S::Vector; SPAN] {
    let number = |value| <S::Element as Real>::from_f64(value);
    // SAFETY: the caller's promise.
    unsafe {
        let (p, q) = (S::splat(number(P)), S::splat(number(Q)));
        let (p2, q2) = (S::splat(number(-P * P)), S::splat(number(-Q * Q)));
        let (sum, both) = (S::splat(number(-P * P - Q * Q)), S::splat(number(P * P * Q * Q)));
        let even_p = S::fma(q2, d[2], d[4]);
        let odd_p = S::mul(p, S::fma(q2, d[1], d[3]));
        let even_q = S::fma(p2, d[2], d[4]);
        let odd_q = S::mul(q, S::fma(p2, d[1], d[3]));
        [
            S::fma(both, d[0], S::fma(sum, d[2], d[4])),
            S::add(even_p, odd_p),
            S::sub(even_p, odd_p),
            S::add(even_q, odd_q),
            S::sub(even_q, odd_q),
            S::fma(both, d[1], S::fma(sum, d[3], d[5])),
        ]
    }
}

/// A^T m: values of the product's polynomial back to four outputs.
///
/// # Safety
/// The instructions of `S` exist.
#[inline(always)]
unsafe fn output_1d<S: Lanes>(m: [S::Vector; SPAN]) -> [S::Vector; TILE] {
    let number = |value| <S::Element as Real>::from_f64(value);
    // SAFETY: the caller's promise.
    unsafe {
        let (p, q) = (S::splat(number(P)), S::splat(number(Q)));
        let (p2, q2) = (S::splat(number(P * P)), S::splat(number(Q * Q)));
        let (even_p, odd_p) = (S::add(m[1], m[2]), S::mul(p, S::sub(m[1], m[2])));
        let (even_q, odd_q) = (S::add(m[3], m[4]), S::mul(q, S::sub(m[3], m[4])));
        [
            S::add(m[0], S::add(even_p, even_q)),
            S::add(odd_p, odd_q),
            S::fma(p2, even_p, S::mul(q2, even_q)),
            S::add(S::fma(p2, odd_p, S::mul(q2, odd_q)), m[5]),
        ]
    }
}

/// A d: the transpose of [`output_1d`].
///
/// # Safety
/// The instructions of `S` exist.
#[inline(always)]
unsafe fn gradient_1d<S: Lanes>(d: [S::Vector; TILE]) -> [S::Vector; SPAN] {
    let number = |value| <S::Element as Real>::from_f64(value);
    // SAFETY: the caller's promise.
    unsafe {
        let (p, q) = (S::splat(number(P)), S::splat(number(Q)));
        let (p2, q2) = (S::splat(number(P * P)), S::splat(number(Q * Q)));
        let (even_p, odd_p) = (S::fma(p2, d[2], d[0]), S::mul(p, S::fma(p2, d[3], d[1])));
        let (even_q, odd_q) = (S::fma(q2, d[2], d[0]), S::mul(q, S::fma(q2, d[3], d[1])));
        [
            d[0],
            S::add(even_p, odd_p),
            S::sub(even_p, odd_p),
            S::add(even_q, odd_q),
            S::sub(even_q, odd_q),
            d[3],
        ]
    }
}

/// A tile's block of channels in maps: its first value, and the values between lines.
#[derive(Clone, Copy)]
struct Window<T> {
    first: *const T,
    line: usize,
}

/// Where a transformed tile goes: its first value, and the distance between the 36.
#[derive(Clone, Copy)]
struct Place<T> {
    first: *mut T,
    stride: usize,
}

macro_rules! spread {
    ($name:ident, $body:ident, $side:expr, $transform:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// The instructions of `S` exist; the window can be read and the place written.
        #[inline(always)]
        unsafe fn $body<S: Lanes>(from: Window<S::Element>, to: Place<S::Element>) {
            // SAFETY: the caller's promise.
            unsafe {
                for lane in (0..BLOCK).step_by(S::COUNT) {
                    let zero = S::splat(<S::Element as Real>::ZERO);
                    let mut half = [[zero; $side]; SPAN];
                    for x in 0..$side {
                        let mut column = [zero; $side];
                        for (y, value) in column.iter_mut().enumerate() {
                            *value = S::load(from.first.add(y * from.line + x * BLOCK + lane));
                        }
                        for (half, value) in half.iter_mut().zip($transform::<S>(column)) {
                            half[x] = value;
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        for (x, value) in $transform::<S>(row).into_iter().enumerate() {
                            S::store(to.first.add((y * SPAN + x) * to.stride + lane), value);
                        }
                    }
                }
            }
        }
        compiled! {
            fn $name[S: Lanes][S] = $body(from: Window<S::Element>, to: Place<S::Element>)
        }
    };
}
spread!(
    spread_input,
    spread_input_body,
    SPAN,
    input_1d,
    "B^T d B of one block of channels of one input tile."
);
spread!(
    spread_gradient,
    spread_gradient_body,
    TILE,
    gradient_1d,
    "A d A^T of one block of channels of one output tile."
);

/// Output tiles in maps: where the first value of tile and panel lies, and how much of the tile does.
#[derive(Clone, Copy)]
struct Corner {
    at: usize,
    height: usize,
    width: usize,
    side: usize,
}

/// A^T m A of one panel of one tile, handed to the epilogue.
///
/// # Safety
/// The instructions of `S` exist; the 36 values, `stride` apart, can be read; the corner lies within the epilogue's maps.
#[inline(always)]
unsafe fn gather_body<S: Lanes, E: Epilogue<S>>(
    m: *const S::Element,
    stride: usize,
    columns: usize,
    corner: Corner,
    epilogue: E,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let plane = corner.side * corner.side * BLOCK;
        for column in (0..columns).step_by(S::COUNT) {
            let zero = S::splat(<S::Element as Real>::ZERO);
            let mut half = [[zero; SPAN]; TILE];
            for x in 0..SPAN {
                let mut values = [zero; SPAN];
                for (y, value) in values.iter_mut().enumerate() {
                    *value = S::load(m.add((y * SPAN + x) * stride + column));
                }
                for (half, value) in half.iter_mut().zip(output_1d::<S>(values)) {
                    half[x] = value;
                }
            }
            let at = corner.at + column / BLOCK * plane + column % BLOCK;
            for (y, row) in half.into_iter().enumerate().take(corner.height) {
                let values = output_1d::<S>(row);
                for (x, value) in values.into_iter().enumerate().take(corner.width) {
                    epilogue.put(at + (y * corner.side + x) * BLOCK, value);
                }
            }
        }
    }
}

compiled! {
    fn gather[S: Lanes, E: Epilogue<S>][S, E] = gather_body(
        m: *const S::Element,
        stride: usize,
        columns: usize,
        corner: Corner,
        epilogue: E,
    )
}

/// Transforms one tile of every block of channels of `x`, whose first block is number `block` of the layout.
///
/// # Safety
/// The instructions of `S` exist; `spread` has room for the layout; no other thread writes the same tile.
pub(super) unsafe fn spread_tile<S: Lanes>(
    grid: Grid,
    channels: usize,
    x: &[S::Element],
    (layout, block, slot): (Layout, usize, usize),
    tile: usize,
    border: &mut Aligned<S::Element>,
    spread: *mut S::Element,
) {
    let (image, y, x0) = grid.place(tile);
    let side = grid.side;
    let inside = y > 0 && x0 > 0 && y + SPAN - 1 <= side && x0 + SPAN - 1 <= side;
    for channel in 0..blocks(channels) {
        let from = &x[(image * blocks(channels) + channel) * side * side * BLOCK..][..side * side * BLOCK];
        let window = if inside {
            Window {
                first: from[((y - 1) * side + x0 - 1) * BLOCK..].as_ptr(),
                line: side * BLOCK,
            }
        } else {
            let border = border.at_least(SPAN * SPAN * BLOCK);
            let (cells, pixels) = (border.as_chunks_mut::<BLOCK>().0, from.as_chunks::<BLOCK>().0);
            let inside = |at: usize| (1..=side).contains(&at);
            for (index, cell) in cells.iter_mut().enumerate() {
                let (row, column) = (y + index / SPAN, x0 + index % SPAN);
                *cell = if inside(row) && inside(column) {
                    pixels[(row - 1) * side + column - 1]
                } else {
                    [<S::Element as Real>::ZERO; BLOCK]
                };
            }
            Window {
                first: border.as_ptr(),
                line: SPAN * BLOCK,
            }
        };
        let place = Place {
            first: spread.wrapping_add(((block + channel) * layout.tiles + slot) * BLOCK),
            stride: layout.stride,
        };
        // SAFETY: the window was cut from a checked slice with six lines of six blocks; the caller promises the place.
        unsafe { spread_input::<S>(window, place) };
    }
}

/// Transforms one tile of every block of channels of an output gradient; beyond the maps it is zero.
///
/// # Safety
/// As [`spread_tile`].
pub(super) unsafe fn gradient_tile<S: Lanes>(
    grid: Grid,
    channels: usize,
    dy: &[S::Element],
    (layout, slot): (Layout, usize),
    tile: usize,
    border: &mut Aligned<S::Element>,
    spread: *mut S::Element,
) {
    let (image, y, x) = grid.place(tile);
    let side = grid.side;
    let (height, width) = (TILE.min(side - y), TILE.min(side - x));
    for channel in 0..blocks(channels) {
        let from = &dy[(image * blocks(channels) + channel) * side * side * BLOCK..][..side * side * BLOCK];
        let window = if height == TILE && width == TILE {
            Window {
                first: from[(y * side + x) * BLOCK..].as_ptr(),
                line: side * BLOCK,
            }
        } else {
            let border = border.at_least(TILE * TILE * BLOCK);
            let (cells, pixels) = (border.as_chunks_mut::<BLOCK>().0, from.as_chunks::<BLOCK>().0);
            for (index, cell) in cells.iter_mut().enumerate() {
                let (row, column) = (index / TILE, index % TILE);
                *cell = if row < height && column < width {
                    pixels[(y + row) * side + x + column]
                } else {
                    [<S::Element as Real>::ZERO; BLOCK]
                };
            }
            Window {
                first: border.as_ptr(),
                line: TILE * BLOCK,
            }
        };
        let place = Place {
            first: spread.wrapping_add((channel * layout.tiles + slot) * BLOCK),
            stride: layout.stride,
        };
        // SAFETY: the window was cut from a checked slice with four lines of four blocks; the caller promises the place.
        unsafe { spread_gradient::<S>(window, place) };
    }
}
/// Products of one panel of one tile, `stride` apart, back to outputs and to the epilogue.
///
/// # Safety
/// The instructions of `S` exist; the products can be read; the epilogue's maps are those of the grid.
pub(super) unsafe fn gather_tile<S: Lanes, E: Epilogue<S>>(
    grid: Grid,
    outputs: usize,
    (tile, panel): (usize, usize),
    (products, stride): (*const S::Element, usize),
    epilogue: E,
) {
    let (image, y, x) = grid.place(tile);
    let corner = Corner {
        at: ((image * blocks(outputs) + panel * (PANEL / BLOCK)) * grid.side * grid.side + y * grid.side + x) * BLOCK,
        height: TILE.min(grid.side - y),
        width: TILE.min(grid.side - x),
        side: grid.side,
    };
    // SAFETY: 36 products of the panel's columns; the corner lies in the grid.
    unsafe { gather::<S, E>(products, stride, panel_width(outputs, panel), corner, epilogue) };
}
