//! Tiles to the transformed domain and back.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use super::super::lanes::{Lanes, Level, compiled, prefetch};
use super::super::tiles::{BLOCK, PANEL, blocks, panel_width};
use super::correlate::Epilogue;
use super::{Grid, P, POINTS, Q, SPAN, SPREAD, TILE, is_used};
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

/// The same transforms as matrices, for tiles of fewer outputs.
#[derive(Clone, Copy)]
pub(super) struct Matrices<T> {
    /// B^T, which transforms inputs.
    input: [[T; SPAN]; SPAN],
    /// A^T, which makes outputs of products.
    output: [[T; SPAN]; TILE],
    /// A, which transforms gradients of outputs.
    gradient: [[T; TILE]; SPAN],
}

impl<T: Real> Matrices<T> {
    /// For so many outputs in one direction.
    ///
    /// Row j of B^T holds the coefficients of the product over all other points used, k, of (x - a_k), as for four
    /// outputs, times the product over the points not used, e, of (a_j - a_e): a factor that the weights have too much.
    fn new(outputs: usize) -> Self {
        let (mut input, mut output) = ([[0.0; SPAN]; SPAN], [[0.0; SPAN]; TILE]);
        for point in (0..SPAN).filter(|point| is_used(outputs, *point)) {
            let mut polynomial = [0.0; SPAN];
            polynomial[0] = 1.0;
            for (other, root) in POINTS.into_iter().enumerate().filter(|(other, _)| *other != point) {
                if is_used(outputs, other) {
                    let times_x = [&[0.0], &polynomial[..SPAN - 1]].concat();
                    for (value, times_x) in polynomial.iter_mut().zip(times_x) {
                        *value = times_x - root * *value;
                    }
                } else if let Some(at) = POINTS.get(point) {
                    polynomial.iter_mut().for_each(|value| *value *= at - root);
                }
            }
            input[point] = polynomial;
            for (power, row) in output.iter_mut().enumerate().take(outputs) {
                row[point] = match POINTS.get(point) {
                    Some(at) => at.powi(power as i32),
                    None => f64::from(u8::from(power + 1 == outputs)),
                };
            }
        }
        Self {
            input: input.map(|row| row.map(T::from_f64)),
            output: output.map(|row| row.map(T::from_f64)),
            gradient: std::array::from_fn(|point| std::array::from_fn(|power| T::from_f64(output[power][point]))),
        }
    }
}

/// Matrix times vector.
///
/// # Safety
/// The instructions of `S` exist.
#[inline(always)]
unsafe fn by_matrix<S: Lanes, const I: usize, const O: usize>(
    matrix: &[[S::Element; I]; O],
    d: [S::Vector; I],
) -> [S::Vector; O] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [S::splat(<S::Element as Real>::ZERO); O];
        for (row, sum) in matrix.iter().zip(&mut sums) {
            for (factor, value) in row.iter().zip(d) {
                *sum = S::fma(S::splat(*factor), value, *sum);
            }
        }
        sums
    }
}

/// A tile's block of channels in maps.
#[derive(Clone, Copy)]
struct Window<T> {
    /// Place of the window's first value, outside the maps where the tile begins there.
    first: *const T,
    /// Values from one line of the maps to the next.
    line: usize,
    /// First and end of the rows and of the columns that lie within the maps; what lies outside is zero.
    rows: (usize, usize),
    columns: (usize, usize),
}

/// Where the 36 values of a tile lie, and its rows and columns of outputs with their matrices.
struct Shape<'a, T> {
    offsets: &'a [usize; SPREAD],
    outputs: [usize; 2],
    matrices: [&'a Matrices<T>; 2],
}

macro_rules! spread {
    ($name:ident, $body:ident, $side:expr, $transform:ident, $matrix:ident, $doc:literal) => {
        #[doc = $doc]
        /// Without `BORDER`, the whole tile lies within the maps; `SHORT` tiles have fewer than four outputs in a
        /// direction.
        ///
        /// # Safety
        /// The instructions of `S` exist; the window can be read where it lies within the maps, and the values written.
        #[inline(always)]
        unsafe fn $body<S: Lanes, const BORDER: bool, const SHORT: bool>(
            from: Window<S::Element>,
            to: *mut S::Element,
            shape: &Shape<'_, S::Element>,
        ) {
            let inside = |(first, end): (usize, usize), at: usize| !BORDER || (first <= at && at < end);
            let has = |direction: usize, point: usize| !SHORT || is_used(shape.outputs[direction], point);
            // SAFETY: the caller's promise.
            unsafe {
                for lane in (0..BLOCK).step_by(S::COUNT) {
                    let zero = S::splat(<S::Element as Real>::ZERO);
                    let mut half = [[zero; $side]; SPAN];
                    for x in 0..$side {
                        if !inside(from.columns, x) {
                            continue;
                        }
                        let mut column = [zero; $side];
                        for (y, value) in column.iter_mut().enumerate() {
                            if inside(from.rows, y) {
                                *value = S::load(from.first.wrapping_add(y * from.line + x * BLOCK + lane));
                            }
                        }
                        let values = if SHORT {
                            by_matrix::<S, $side, SPAN>(&shape.matrices[0].$matrix, column)
                        } else {
                            $transform::<S>(column)
                        };
                        for (half, value) in half.iter_mut().zip(values) {
                            half[x] = value;
                        }
                    }
                    for (y, row) in half.into_iter().enumerate() {
                        if !has(0, y) {
                            continue;
                        }
                        let values = if SHORT {
                            by_matrix::<S, $side, SPAN>(&shape.matrices[1].$matrix, row)
                        } else {
                            $transform::<S>(row)
                        };
                        for (x, value) in values.into_iter().enumerate() {
                            if has(1, x) {
                                S::store(to.add(shape.offsets[y * SPAN + x] + lane), value);
                            }
                        }
                    }
                }
            }
        }
        compiled! {
            fn $name[S: Lanes, const BORDER: bool, const SHORT: bool][S, BORDER, SHORT] = $body(
                from: Window<S::Element>,
                to: *mut S::Element,
                shape: &Shape<'_, S::Element>,
            )
        }
    };
}
spread!(
    spread_input,
    spread_input_body,
    SPAN,
    input_1d,
    input,
    "B^T d B of one block of channels of one input tile."
);
spread!(
    spread_gradient,
    spread_gradient_body,
    TILE,
    gradient_1d,
    gradient,
    "A d A^T of one block of channels of one output tile."
);

/// Output tiles in maps: where the first value of tile and panel lies, and the maps' side.
#[derive(Clone, Copy)]
struct Corner {
    at: usize,
    side: usize,
}

/// A^T m A of one panel of one tile, handed to the epilogue.
///
/// # Safety
/// The instructions of `S` exist; the tile's values can be read; the corner lies within the epilogue's maps.
#[inline(always)]
unsafe fn gather_body<S: Lanes, E: Epilogue<S>, const SHORT: bool>(
    m: *const S::Element,
    shape: &Shape<'_, S::Element>,
    columns: usize,
    corner: Corner,
    epilogue: E,
) {
    let has = |direction: usize, point: usize| !SHORT || is_used(shape.outputs[direction], point);
    // SAFETY: the caller's promise.
    unsafe {
        let plane = corner.side * corner.side * BLOCK;
        for column in (0..columns).step_by(S::COUNT) {
            let zero = S::splat(<S::Element as Real>::ZERO);
            let mut half = [[zero; SPAN]; TILE];
            for x in 0..SPAN {
                if !has(1, x) {
                    continue;
                }
                let mut values = [zero; SPAN];
                for (y, value) in values.iter_mut().enumerate() {
                    if has(0, y) {
                        *value = S::load(m.add(shape.offsets[y * SPAN + x] + column));
                    }
                }
                let values = if SHORT {
                    by_matrix::<S, SPAN, TILE>(&shape.matrices[0].output, values)
                } else {
                    output_1d::<S>(values)
                };
                for (half, value) in half.iter_mut().zip(values) {
                    half[x] = value;
                }
            }
            let at = corner.at + column / BLOCK * plane + column % BLOCK;
            for (y, row) in half.into_iter().enumerate() {
                if SHORT && y >= shape.outputs[0] {
                    break;
                }
                let values = if SHORT {
                    by_matrix::<S, SPAN, TILE>(&shape.matrices[1].output, row)
                } else {
                    output_1d::<S>(row)
                };
                for (x, value) in values.into_iter().enumerate() {
                    if SHORT && x >= shape.outputs[1] {
                        break;
                    }
                    epilogue.put(at + (y * corner.side + x) * BLOCK, value);
                }
            }
        }
    }
}

compiled! {
    fn gather[S: Lanes, E: Epilogue<S>, const SHORT: bool][S, E, SHORT] = gather_body(
        m: *const S::Element,
        shape: &Shape<'_, S::Element>,
        columns: usize,
        corner: Corner,
        epilogue: E,
    )
}

/// The tiles of maps with what their transforms need.
pub(super) struct Transform<T> {
    pub(super) grid: Grid,
    whole: Matrices<T>,
    last: Matrices<T>,
}

impl<T: Real> Transform<T> {
    pub(super) fn new(grid: Grid) -> Self {
        Self {
            grid,
            whole: Matrices::new(TILE),
            last: Matrices::new(grid.last),
        }
    }

    /// Calls `expect` with the index of every pixel of the next tile's outputs, moved down and to the right by `moved`,
    /// in the block of channels number 0 of maps of so many channels.
    #[inline(always)]
    fn ahead(&self, channels: usize, tile: usize, moved: usize, expect: impl Fn(usize)) {
        if tile + 1 >= self.grid.count {
            return;
        }
        let side = self.grid.side;
        let (image, y, x) = self.grid.place(tile + 1);
        let plane = image * blocks(channels) * side * side;
        let (rows, columns) = (side.min(y + moved + TILE), side.min(x + moved + TILE));
        for row in y + moved..rows {
            for column in x + moved..columns {
                expect((plane + row * side + column) * BLOCK);
            }
        }
    }

    fn shape<'a>(&'a self, tile: usize, offsets: &'a [usize; SPREAD]) -> Shape<'a, T> {
        let outputs = self.grid.size(tile);
        Shape {
            offsets,
            outputs,
            matrices: outputs.map(|outputs| if outputs == TILE { &self.whole } else { &self.last }),
        }
    }

    /// Transforms one tile of every block of channels of `x` to the offsets from `to`, blocks of channels `block`
    /// apart.
    ///
    /// # Safety
    /// The instructions of `S` exist; there is room at `to`; no other thread writes the same tile.
    pub(super) unsafe fn spread_tile<S: Lanes<Element = T>>(
        &self,
        channels: usize,
        x: &[T],
        tile: usize,
        (to, block, offsets): (*mut T, usize, &[usize; SPREAD]),
    ) {
        let (image, y, x0) = self.grid.place(tile);
        let side = self.grid.side;
        // The tile begins one row above its outputs and one column before them.
        let within = |first: usize| (usize::from(first == 0), SPAN.min(side + 1 - first));
        let (rows, columns) = (within(y), within(x0));
        let shape = self.shape(tile, offsets);
        for channel in 0..blocks(channels) {
            let from = &x[(image * blocks(channels) + channel) * side * side * BLOCK..][..side * side * BLOCK];
            let window = Window {
                // Not before the slice's first value by more than one row and one column, which are not read there.
                first: from
                    .as_ptr()
                    .wrapping_add((y * side + x0) * BLOCK)
                    .wrapping_sub((side + 1) * BLOCK),
                line: side * BLOCK,
                rows,
                columns,
            };
            let to = to.wrapping_add(channel * block);
            // What the next tile does not share with this one.
            let plane = x.as_ptr().wrapping_add(channel * side * side * BLOCK);
            self.ahead(channels, tile, 1, |pixel| prefetch(plane.wrapping_add(pixel)));
            // SAFETY: rows and columns are those within the checked slice; the caller promises the place.
            unsafe {
                if shape.outputs != [TILE; 2] {
                    spread_input::<S, true, true>(window, to, &shape);
                } else if [rows, columns] != [(0, SPAN); 2] {
                    spread_input::<S, true, false>(window, to, &shape);
                } else {
                    spread_input::<S, false, false>(window, to, &shape);
                }
            }
        }
    }

    /// Transforms one tile of every block of channels of an output gradient.
    ///
    /// # Safety
    /// As [`spread_tile`](Self::spread_tile).
    pub(super) unsafe fn gradient_tile<S: Lanes<Element = T>>(
        &self,
        channels: usize,
        dy: &[T],
        tile: usize,
        (to, block, offsets): (*mut T, usize, &[usize; SPREAD]),
    ) {
        let (image, y, x) = self.grid.place(tile);
        let side = self.grid.side;
        let shape = self.shape(tile, offsets);
        let [rows, columns] = shape.outputs.map(|outputs| (0, outputs));
        for channel in 0..blocks(channels) {
            let from = &dy[(image * blocks(channels) + channel) * side * side * BLOCK..][..side * side * BLOCK];
            let window = Window {
                first: from[(y * side + x) * BLOCK..].as_ptr(),
                line: side * BLOCK,
                rows,
                columns,
            };
            let to = to.wrapping_add(channel * block);
            let plane = dy.as_ptr().wrapping_add(channel * side * side * BLOCK);
            self.ahead(channels, tile, 0, |pixel| prefetch(plane.wrapping_add(pixel)));
            // SAFETY: rows and columns are those within the checked slice; the caller promises the place.
            unsafe {
                if shape.outputs == [TILE; 2] {
                    spread_gradient::<S, false, false>(window, to, &shape);
                } else {
                    spread_gradient::<S, true, true>(window, to, &shape);
                }
            }
        }
    }

    /// Products of one panel of one tile, at offsets from `products`, back to outputs and to the epilogue.
    ///
    /// # Safety
    /// The instructions of `S` exist; the products can be read; the epilogue's maps are those of the grid.
    pub(super) unsafe fn gather_tile<S: Lanes<Element = T>, E: Epilogue<S>>(
        &self,
        outputs: usize,
        (tile, panel): (usize, usize),
        (products, offsets): (*const T, &[usize; SPREAD]),
        epilogue: E,
    ) {
        let (image, y, x) = self.grid.place(tile);
        let side = self.grid.side;
        let plane = image * blocks(outputs) + panel * (PANEL / BLOCK);
        let corner = Corner {
            at: (plane * side * side + y * side + x) * BLOCK,
            side,
        };
        let (shape, width) = (self.shape(tile, offsets), panel_width(outputs, panel));
        let plane = side * side * BLOCK;
        for block in 0..width / BLOCK {
            let first = (panel * (PANEL / BLOCK) + block) * plane;
            self.ahead(outputs, tile, 0, |pixel| epilogue.expect(first + pixel));
        }
        // SAFETY: the values of the panel's columns; the corner lies in the grid.
        unsafe {
            if shape.outputs == [TILE; 2] {
                gather::<S, E, false>(products, &shape, width, corner, epilogue);
            } else {
                gather::<S, E, true>(products, &shape, width, corner, epilogue);
            }
        }
    }
}
