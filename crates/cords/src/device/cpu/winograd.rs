//! 3x3 convolutions with stride 1 and padding 1 by Winograd's algorithm F(4x4, 3x3) (Lavin and Gray 2016).
//!
//! y = A^T [(G g G^T) . (B^T d B)] A on 6x6 input tiles d that overlap by two, with the interpolation points
//! 0, +-5/8, +-3/2 and infinity: four times fewer multiplications than the direct sum, at a quarter of the largest
//! rounding error that the usual points 0, +-1, +-2 have. Weights are transformed once; weight gradients are summed in
//! the transformed domain, block of tiles by block of tiles, and transformed back at the end.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::ops::Range;

use rayon::prelude::*;

use super::aligned::Aligned;
use super::lanes::{Lanes, Level, compiled};
use super::parallel::{Shared, share, threads};
use super::tiles::{BLOCK, Positions, Rows, Sink, blocks, outer, product};
use crate::Real;

/// Values of a transformed tile.
const SPREAD: usize = 36;
/// Side of an output tile, and of the input tile that it depends on.
const TILE: usize = 4;
const SPAN: usize = 6;

/// The finite points are 0, +-P and +-Q.
const P: f64 = 0.625;
const Q: f64 = 1.5;

/// Columns of a full panel of weights.
const PANEL: usize = 32;

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

/// What becomes of a convolution's output, `COUNT` neighbouring channels at a time.
pub(super) trait Epilogue<S: Lanes>: Copy + Sync {
    /// Takes the values that belong at index `at` of the output maps.
    ///
    /// # Safety
    /// The instructions of `S` exist; the index lies within the maps.
    unsafe fn put(self, at: usize, value: S::Vector);
}

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

/// Width of panel `panel` of so many columns.
fn panel_width(columns: usize, panel: usize) -> usize {
    if blocks(columns) * BLOCK - panel * PANEL >= PANEL {
        PANEL
    } else {
        BLOCK
    }
}

fn panels(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// Weights `[outputs, inputs, 3, 3]`, or their transpose turned by 180 degrees, in the transformed domain:
/// `[panel of outputs][36][inputs][columns of the panel]`.
pub(super) struct Transformed<T> {
    inputs: usize,
    outputs: usize,
    values: Aligned<T>,
}

impl<T: Real> Transformed<T> {
    /// From `weight(output, input)`, nine values in rows. On one thread: it may be called while others wait for it.
    pub(super) fn new(inputs: usize, outputs: usize, weight: impl Fn(usize, usize) -> [T; 9]) -> Self {
        let depth = blocks(inputs) * BLOCK;
        let mut values = Aligned::zeros(blocks(outputs) * BLOCK * depth * SPREAD);
        for (panel, values) in values.chunks_mut(SPREAD * depth * PANEL).enumerate() {
            let width = panel_width(outputs, panel);
            for input in 0..inputs {
                for first in (0..width).step_by(BLOCK) {
                    let mut kernels = [[0.0f64; BLOCK]; 9];
                    for lane in 0..BLOCK.min(outputs.saturating_sub(panel * PANEL + first)) {
                        for (kernels, value) in kernels.iter_mut().zip(weight(panel * PANEL + first + lane, input)) {
                            kernels[lane] = value.to_f64();
                        }
                    }
                    for (xi, spread) in spread_kernels(&kernels).iter().enumerate() {
                        let to = &mut values[(xi * depth + input) * width + first..][..BLOCK];
                        for (to, value) in to.iter_mut().zip(spread) {
                            *to = T::from_f64(*value);
                        }
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
    pub(super) fn output_len(&self, side: usize, batch: usize) -> usize {
        batch * blocks(self.outputs) * side * side * BLOCK
    }

    /// Weights of a panel for the value `xi` of a tile.
    fn slab(&self, panel: usize, xi: usize) -> &[T] {
        let depth = blocks(self.inputs) * BLOCK;
        let width = panel_width(self.outputs, panel);
        &self.values[panel * SPREAD * depth * PANEL + xi * depth * width..][..depth * width]
    }
}

/// G g G^T of sixteen kernels side by side.
fn spread_kernels(kernels: &[[f64; BLOCK]; 9]) -> [[f64; BLOCK]; SPREAD] {
    super::elementwise::vectorised(|| {
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
        spread
    })
}

/// G^T u G of sixteen transformed kernels side by side: the transpose of [`spread_kernels`].
fn gather_kernels(spread: &[[f64; BLOCK]; SPREAD]) -> [[f64; BLOCK]; 9] {
    super::elementwise::vectorised(|| {
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

/// Tiles of the maps of a batch: image by image, row by row.
#[derive(Clone, Copy)]
struct Grid {
    side: usize,
    /// Tiles of a row.
    across: usize,
    /// All tiles.
    count: usize,
}

impl Grid {
    fn new(side: usize, batch: usize) -> Self {
        let across = side.div_ceil(TILE);
        Self {
            side,
            across,
            count: batch * across * across,
        }
    }

    /// Image, and the position of the tile's first output.
    fn place(self, tile: usize) -> (usize, usize, usize) {
        let (image, tile) = (tile / (self.across * self.across), tile % (self.across * self.across));
        (image, tile / self.across * TILE, tile % self.across * TILE)
    }
}

/// Scratch of one thread.
#[derive(Default)]
struct Scratch<T> {
    /// Transformed tiles.
    spread: Aligned<T>,
    /// Products, before they are transformed back.
    products: Aligned<T>,
    /// A tile that reaches beyond its maps.
    border: Aligned<T>,
}

/// Scratch of all threads.
#[derive(Default)]
pub struct Workspace<T> {
    threads: Vec<Scratch<T>>,
    /// Transformed tiles and products that threads share.
    spread: Aligned<T>,
    products: Aligned<T>,
}

impl<T: Real> Workspace<T> {
    fn threads(&mut self, count: usize) -> &mut [Scratch<T>] {
        if self.threads.len() < count {
            self.threads.resize_with(count, Scratch::default);
        }
        &mut self.threads[..count]
    }
}

/// One term of a sum of convolutions: its weights and the maps that they are applied to.
#[derive(Clone, Copy)]
pub struct Term<'a, T> {
    pub(super) weights: &'a Transformed<T>,
    pub(super) x: &'a [T],
}

/// How transformed tiles lie: `[36][block of channels][tile][16]`, one line more between the 36, so that they do not
/// compete for the same cache sets.
#[derive(Clone, Copy)]
struct Layout {
    tiles: usize,
    stride: usize,
}

impl Layout {
    fn new(tiles: usize, blocks: usize) -> Self {
        Self {
            tiles,
            stride: blocks * tiles * BLOCK + BLOCK,
        }
    }

    fn len(self) -> usize {
        SPREAD * self.stride
    }
}

/// Transforms one tile of every block of channels of `x`, whose first block is number `block` of the layout.
///
/// # Safety
/// The instructions of `S` exist; `spread` has room for the layout; no other thread writes the same tile.
unsafe fn spread_tile<S: Lanes>(
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

/// One of the 36 products of transformed tiles and one panel of every term's weights: `[tile][columns of the panel]`.
///
/// # Safety
/// The instructions of `S` exist; `spread` holds the transformed tiles; `products` has room.
unsafe fn multiply<S: Lanes>(
    terms: &[Term<'_, S::Element>],
    (spread, layout): (*const S::Element, Layout),
    places: &[usize],
    (panel, xi): (usize, usize),
    products: *mut S::Element,
) {
    let width = panel_width(terms[0].weights.outputs, panel);
    let mut places = places;
    for (index, term) in terms.iter().enumerate() {
        let (blocks, rest) = places.split_at(blocks(term.weights.inputs));
        places = rest;
        let x = Rows {
            x: spread.wrapping_add(xi * layout.stride),
            stride: BLOCK,
            blocks,
            depth: BLOCK.min(term.weights.inputs),
        };
        let y = Sink {
            y: products,
            stride: width,
            block: BLOCK,
            accumulate: index > 0,
        };
        // SAFETY: the caller's promise; the slab holds blocks x 16 rows of `width` columns.
        unsafe { product::<S>(layout.tiles, x, term.weights.slab(panel, xi).as_ptr(), width, y) };
    }
}

/// Products of one panel of one tile, `stride` apart, back to outputs and to the epilogue.
///
/// # Safety
/// The instructions of `S` exist; the products can be read; the epilogue's maps are those of the grid.
unsafe fn gather_tile<S: Lanes, E: Epilogue<S>>(
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

/// Tiles of a block: their transform should stay in the second-level cache.
const BLOCK_TILES: usize = 28;

/// Values of all 36 weight matrices above which they do not stay in the second-level cache, so that they should pass by
/// as seldom as possible.
const STREAMED_WEIGHTS: usize = 36 * 256 * 256;

/// Values of transformed tiles and products that are held while streamed weights pass by.
const STREAMED_TILES: usize = 4 << 20;

/// Sum of convolutions of maps of one side, handed to the epilogue. All terms have the same outputs.
///
/// # Safety
/// The instructions of `S` exist; the epilogue's maps are `[batch][blocks of outputs][side][side][16]`.
pub(super) unsafe fn correlate<S: Lanes, E: Epilogue<S>>(
    work: &mut Workspace<S::Element>,
    terms: &[Term<'_, S::Element>],
    side: usize,
    batch: usize,
    epilogue: E,
) {
    let grid = Grid::new(side, batch);
    let outputs = terms[0].weights.outputs;
    let inputs: usize = terms.iter().map(|term| blocks(term.weights.inputs) * BLOCK).sum();
    for term in terms {
        let len = batch * blocks(term.weights.inputs) * side * side * BLOCK;
        assert_eq!(
            (term.x.len(), term.weights.outputs),
            (len, outputs),
            "maps of a convolution"
        );
    }
    let workers = threads(SPREAD * grid.count * inputs * outputs);
    let places = |layout: Layout| -> Vec<usize> {
        let blocks = 0..inputs / BLOCK;
        blocks.map(|block| block * layout.tiles * BLOCK).collect()
    };
    let spread_all = |layout: Layout, tiles: Range<usize>, first: usize, border: &mut Aligned<S::Element>, spread| {
        for tile in tiles {
            let mut block = 0;
            for term in terms {
                let place = (layout, block, tile - first);
                // SAFETY: the caller's promise; every tile has a slot of its own.
                unsafe { spread_tile::<S>(grid, term.weights.inputs, term.x, place, tile, border, spread) };
                block += blocks(term.weights.inputs);
            }
        }
    };
    let panels = panels(outputs);
    let few = workers > 1 && grid.count < workers * BLOCK_TILES / 2;
    if few || SPREAD * inputs * outputs >= STREAMED_WEIGHTS {
        // All tiles of a large block at once, one of the 36 weight matrices after another: each weight is read once for
        // the block, and threads share tiles, then matrices, then tiles.
        let capacity = (STREAMED_TILES / (SPREAD * (inputs + outputs))).max(BLOCK_TILES);
        let count = grid.count.div_ceil(capacity);
        let (mut spread_held, mut products_held) =
            (std::mem::take(&mut work.spread), std::mem::take(&mut work.products));
        for block in 0..count {
            let tiles = block * grid.count / count..(block + 1) * grid.count / count;
            let (first, layout) = (tiles.start, Layout::new(tiles.len(), inputs / BLOCK));
            // Products: `[36][panel][tile][columns of the panel]`.
            let stride = panels * PANEL * tiles.len() + BLOCK;
            let spread = Shared::new(spread_held.at_least(layout.len()));
            let products = Shared::new(products_held.at_least(SPREAD * stride));
            share(work.threads(workers), tiles.len(), |scratch, range| {
                let tiles = first + range.start..first + range.end;
                spread_all(layout, tiles, first, &mut scratch.border, spread.get());
            });
            let places = places(layout);
            let at = |xi: usize, panel: usize| xi * stride + panel * PANEL * layout.tiles;
            share(work.threads(workers), SPREAD * panels, |_, range| {
                for (xi, panel) in range.map(|index| (index / panels, index % panels)) {
                    let to = products.get().wrapping_add(at(xi, panel));
                    // SAFETY: the caller's promise; all tiles have been transformed; each product has a place of its own.
                    unsafe { multiply::<S>(terms, (spread.get(), layout), &places, (panel, xi), to) };
                }
            });
            share(work.threads(workers), tiles.len() * panels, |_, range| {
                for (slot, panel) in range.map(|index| (index / panels, index % panels)) {
                    let from = products
                        .get()
                        .wrapping_add(at(0, panel) + slot * panel_width(outputs, panel));
                    // SAFETY: the caller's promise; all products are there, and every output has one thread.
                    unsafe { gather_tile::<S, E>(grid, outputs, (first + slot, panel), (from, stride), epilogue) };
                }
            });
        }
        (work.spread, work.products) = (spread_held, products_held);
        return;
    }
    let count = grid
        .count
        .div_ceil(BLOCK_TILES)
        .next_multiple_of(workers)
        .min(grid.count);
    share(work.threads(workers.min(count)), count, |scratch, range| {
        for block in range {
            let tiles = block * grid.count / count..(block + 1) * grid.count / count;
            let layout = Layout::new(tiles.len(), inputs / BLOCK);
            let places = places(layout);
            let spread = scratch.spread.at_least(layout.len()).as_mut_ptr();
            spread_all(layout, tiles.clone(), tiles.start, &mut scratch.border, spread);
            let stride = tiles.len() * PANEL + BLOCK;
            let products = scratch.products.at_least(SPREAD * stride).as_mut_ptr();
            for panel in 0..panels {
                for xi in 0..SPREAD {
                    let to = products.wrapping_add(xi * stride);
                    // SAFETY: the caller's promise; the block's tiles have been transformed.
                    unsafe { multiply::<S>(terms, (spread, layout), &places, (panel, xi), to) };
                }
                for (slot, tile) in tiles.clone().enumerate() {
                    let from = products.wrapping_add(slot * panel_width(outputs, panel)).cast_const();
                    // SAFETY: the caller's promise; all products of the panel are there.
                    unsafe { gather_tile::<S, E>(grid, outputs, (tile, panel), (from, stride), epilogue) };
                }
            }
        }
    });
}

/// Gradient of weights `[outputs, inputs, 3, 3]`, summed in the transformed domain over any number of steps.
///
/// Two-level sum: a block of tiles is summed from zero and then added.
pub struct TransformedSum<T> {
    inputs: usize,
    outputs: usize,
    /// As [`Transformed`]'s values; empty until something is added.
    total: Aligned<T>,
    /// Transformed input tiles and output gradients that wait to be multiplied.
    x: Aligned<T>,
    dy: Aligned<T>,
    filled: usize,
    border: Vec<Aligned<T>>,
}

impl<T: Real> TransformedSum<T> {
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            total: Aligned::default(),
            x: Aligned::default(),
            dy: Aligned::default(),
            filled: 0,
            border: Vec::new(),
        }
    }

    /// Forgets everything that was added.
    pub(super) fn clear(&mut self) {
        self.total.fill(T::ZERO);
        self.filled = 0;
    }

    /// Tiles of one block of the sum.
    fn capacity(&self) -> usize {
        if self.inputs.max(self.outputs) > 256 { 128 } else { 64 }
    }

    /// Adds the gradient of `<dy, conv(x)>`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(super) unsafe fn add<S: Lanes<Element = T>>(&mut self, side: usize, batch: usize, x: &[T], dy: &[T]) {
        let grid = Grid::new(side, batch);
        let (inputs, outputs) = (blocks(self.inputs), blocks(self.outputs));
        let plane = side * side * BLOCK;
        assert_eq!(
            (x.len(), dy.len()),
            (batch * inputs * plane, batch * outputs * plane),
            "maps of a weight gradient"
        );
        let capacity = self.capacity();
        let (from, to) = (Layout::new(capacity, inputs), Layout::new(capacity, outputs));
        if self.total.is_empty() {
            self.total = Aligned::zeros(SPREAD * inputs * outputs * BLOCK * BLOCK);
            self.x = Aligned::zeros(from.len());
            self.dy = Aligned::zeros(to.len());
        }
        let workers = threads(SPREAD * grid.count * inputs * outputs * BLOCK * BLOCK);
        if self.border.len() < workers {
            self.border.resize_with(workers, Aligned::default);
        }
        let mut first = 0;
        while first < grid.count {
            let tiles = first..grid.count.min(first + capacity - self.filled);
            let filled = self.filled;
            let (spread_x, spread_dy) = (Shared::new(&mut self.x), Shared::new(&mut self.dy));
            let channels = (self.inputs, self.outputs);
            share(&mut self.border[..workers], tiles.len(), |border, range| {
                for slot in range {
                    let tile = tiles.start + slot;
                    // SAFETY: the caller's promise; every tile has a slot of its own below the capacity.
                    unsafe {
                        let slot = filled + slot;
                        spread_tile::<S>(grid, channels.0, x, (from, 0, slot), tile, border, spread_x.get());
                        gradient_tile::<S>(grid, channels.1, dy, (to, slot), tile, border, spread_dy.get());
                    }
                }
            });
            self.filled += tiles.len();
            first = tiles.end;
            if self.filled == capacity {
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
        let capacity = self.capacity();
        let (inputs, outputs) = (blocks(self.inputs), blocks(self.outputs));
        let (from, to) = (Layout::new(capacity, inputs), Layout::new(capacity, outputs));
        let total = Shared::new(&mut self.total);
        let (x, dy, filled) = (&self.x, &self.dy, self.filled);
        let rows: [usize; BLOCK] = std::array::from_fn(|row| row);
        let depth = inputs * BLOCK;
        let task = |_: &mut Aligned<T>, range: Range<usize>| {
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
                            count: filled,
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
        share(&mut self.border[..workers], SPREAD, task);
        self.filled = 0;
    }

    /// dw += the gradient that was summed, `[outputs, inputs, 3, 3]`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    pub(super) unsafe fn finish<S: Lanes<Element = T>>(&mut self, dw: &mut [T]) {
        assert_eq!(dw.len(), self.outputs * self.inputs * 9, "weight gradient");
        if self.total.is_empty() {
            return;
        }
        if self.filled > 0 {
            let workers = threads(SPREAD * self.filled * self.inputs * self.outputs);
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

/// Transforms one tile of every block of channels of an output gradient; beyond the maps it is zero.
///
/// # Safety
/// As [`spread_tile`].
unsafe fn gradient_tile<S: Lanes>(
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
