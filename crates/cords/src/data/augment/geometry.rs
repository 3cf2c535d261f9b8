//! Affine and elastic changes: every pixel of the result is looked up at a place of the image.
//!
//! Places are computed in float32 in the order in which torchvision and `torch.nn.functional.grid_sample` compute
//! them, so that with [`Interpolation::Nearest`] the same pixels are taken where a place lies halfway between two.

use serde::{Deserialize, Serialize};

use super::planes::{Level, Planes, integer};
use super::{between, flip, spaced};
use crate::device::vectorised;
use crate::rng::Stream;

/// How a level between pixels is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// the nearest pixel's
    #[default]
    Nearest,
    /// weighted mean of the four pixels around
    Bilinear,
}

/// Random affine change about the image's centre (torchvision's `RandomAffine`), every value uniform on its range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Affine {
    /// Rotation from -degrees to degrees.
    pub degrees: f32,
    /// Shift in each direction, from -translate to translate as a fraction of the side, in whole pixels.
    pub translate: f32,
    /// Smallest and largest magnification.
    pub scale: [f32; 2],
    /// Horizontal shear angle from -shear to shear, in degrees.
    pub shear: f32,
}

impl Default for Affine {
    fn default() -> Self {
        Self {
            degrees: 0.0,
            translate: 0.0,
            scale: [1.0, 1.0],
            shear: 0.0,
        }
    }
}

impl Affine {
    /// Draws the values for an image of so many pixels.
    pub(super) fn draw(&self, stream: &mut Stream, width: usize, height: usize) -> AffineChange {
        let angle = between(stream, -self.degrees, self.degrees);
        let mut shift = |size: usize| {
            let reach = self.translate * size as f32;
            f64::from(between(stream, -reach, reach).round_ties_even())
        };
        let translate = [shift(width), shift(height)];
        AffineChange {
            angle: f64::from(angle),
            translate,
            scale: f64::from(between(stream, self.scale[0], self.scale[1])),
            shear: [f64::from(between(stream, -self.shear, self.shear)), 0.0],
            centre: [0.0, 0.0],
        }
    }
}

/// A drawn affine change as it was before torchvision's arithmetic was taken over; results from then hold. [a, b, c, d,
/// e, f] for x' = a x + b y + c and y' = d x + e y + f, from a pixel of the result to its place in the image, in pixels
/// from the centre.
pub(super) struct SoftChange([f32; 6]);

impl SoftChange {
    /// Draws the values of an [`Affine`], for an image of `side` x `side` pixels.
    pub(super) fn draw(options: &Affine, stream: &mut Stream, side: usize) -> Self {
        let angle = between(stream, -options.degrees, options.degrees).to_radians();
        let reach = options.translate * side as f32;
        let shift = [
            between(stream, -reach, reach).round(),
            between(stream, -reach, reach).round(),
        ];
        let scale = between(stream, options.scale[0], options.scale[1]);
        let shear = between(stream, -options.shear, options.shear).to_radians().tan();
        let (sin, cos) = angle.sin_cos();
        // S^-1 R^-1 / scale, with S^-1 = [[1, tan(shear)], [0, 1]].
        let (a, b) = ((cos - shear * sin) / scale, (sin + shear * cos) / scale);
        let (d, e) = (-sin / scale, cos / scale);
        let (c, f) = (-(a * shift[0] + b * shift[1]), -(d * shift[0] + e * shift[1]));
        Self([a, b, c, d, e, f])
    }

    /// Moves the pixels of a square image, interpolated bilinearly, as if black surrounded it.
    pub(super) fn apply(&self, image: &mut Planes<'_, f32>) {
        let (side, plane) = (image.width(), image.plane());
        let full = side as f32;
        let centre = (full - 1.0) / 2.0;
        let Self([a, b, c, d, e, f]) = self;
        let input = image.levels().to_vec();
        let output = image.levels_mut();
        for y in 0..side {
            for x in 0..side {
                let at = y * side + x;
                let (px, py) = (x as f32 - centre, y as f32 - centre);
                let (qx, qy) = (a * px + b * py + c + centre, d * px + e * py + f + centre);
                // Half of a pixel's weight is outside when its centre is half a pixel out.
                let coverage = cover(qx, full) * cover(qy, full);
                let (x0, x1, wx) = neighbours(qx, side);
                let (y0, y1, wy) = neighbours(qy, side);
                for (input, output) in input.chunks_exact(plane).zip(output.chunks_exact_mut(plane)) {
                    let upper = input[y0 * side + x0] * (1.0 - wx) + input[y0 * side + x1] * wx;
                    let lower = input[y1 * side + x0] * (1.0 - wx) + input[y1 * side + x1] * wx;
                    output[at] = match coverage {
                        0.0 => 0.0,
                        _ => coverage * (upper * (1.0 - wy) + lower * wy),
                    };
                }
            }
        }
    }
}

/// Share of a bilinear sample at `position` that falls on the pixels 0 .. full - 1.
fn cover(position: f32, full: f32) -> f32 {
    (position + 1.0).clamp(0.0, 1.0) * (full - position).clamp(0.0, 1.0)
}

/// The two pixels next to a position, and the weight of the second.
fn neighbours(position: f32, side: usize) -> (usize, usize, f32) {
    let last = side as f32 - 1.0;
    // In the order of operations in which results from before were computed.
    let at = ((position + 0.5) - 0.5).clamp(0.0, last);
    let first = at.floor();
    (first as usize, (first as usize + 1).min(side - 1), at - first)
}

/// A drawn affine change. Pixels are sheared, magnified, turned and shifted, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineChange {
    /// Rotation in degrees, clockwise as the image is looked at.
    pub angle: f64,
    /// Shift to the right and down, in pixels.
    pub translate: [f64; 2],
    /// Magnification, above 0.
    pub scale: f64,
    /// Angles of shear along rows and along columns, in degrees.
    pub shear: [f64; 2],
    /// The place that stays where it is but for the shift, in pixels right of and below the image's centre.
    pub centre: [f64; 2],
}

impl Default for AffineChange {
    /// No change.
    fn default() -> Self {
        Self {
            angle: 0.0,
            translate: [0.0; 2],
            scale: 1.0,
            shear: [0.0; 2],
            centre: [0.0; 2],
        }
    }
}

impl AffineChange {
    /// Where a pixel comes from: x' = a x + b y + c and y' = d x + e y + f for [[a, b, c], [d, e, f]], in pixels from
    /// the image's centre.
    ///
    /// Forward it is p' = scale R(angle) Y X (p - centre) + centre + translate, with X = [[1, -tan(shear x)], [0, 1]]
    /// and Y = [[1, 0], [-tan(shear y), 1]].
    fn inverse(&self) -> [[f64; 3]; 2] {
        let rotation = self.angle.to_radians();
        let [shear_x, shear_y] = self.shear.map(f64::to_radians);
        // The forward map without scale, [[p, q], [r, s]], of determinant 1.
        let turned = rotation - shear_y;
        let p = turned.cos() / shear_y.cos();
        let q = -(p * shear_x.tan() + rotation.sin());
        let r = turned.sin() / shear_y.cos();
        let s = rotation.cos() - r * shear_x.tan();
        let [x, y] = self.centre;
        let (moved_x, moved_y) = (x + self.translate[0], y + self.translate[1]);
        let [a, b, d, e] = [s, -q, -r, p].map(|entry| entry / self.scale);
        [
            [a, b, x - a * moved_x - b * moved_y],
            [d, e, y - d * moved_x - e * moved_y],
        ]
    }
}

/// Changes an image as torchvision's `affine` with `center` at the image's centre plus [`AffineChange::centre`]. What
/// lies outside has the level `fill`, or is black.
///
/// Between pixels at the edge, black enters once without `fill`, and `fill` once more than that with it: that is how
/// torchvision computes, whose `RandomAffine` has `fill = 0`.
pub fn affine<L: Level>(
    image: &mut Planes<'_, L>,
    change: &AffineChange,
    interpolation: Interpolation,
    fill: Option<L>,
) {
    let (width, height) = (image.width(), image.height());
    let half = |size: usize| (0.5 * size as f64) as f32;
    let [[a, b, c], [d, e, f]] = change.inverse();
    let row_of = |row: [f64; 3], size: usize| row.map(|entry| entry as f32 / half(size));
    let ([a, b, c], [d, e, f]) = (row_of([a, b, c], width), row_of([d, e, f], height));
    let from_centre = |at: usize, size: usize| at as f32 - ((size as f64 - 1.0) * 0.5) as f32;
    let columns: Vec<f32> = (0..width).map(|x| from_centre(x, width)).collect();
    let row = |y: usize, xs: &mut [f32], ys: &mut [f32]| {
        let y = from_centre(y, height);
        linear([a, y * b, c], &columns, xs);
        linear([d, y * e, f], &columns, ys);
    };
    vectorised(
        #[inline(always)]
        || sample(image, interpolation, fill, row),
    );
}

#[inline(always)]
fn linear([slope, sum, end]: [f32; 3], columns: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(columns) {
        *out = (x * slope + sum) + end;
    }
}

/// Turns an image by `degrees` against the clock about its centre, as torchvision's `rotate`: by whole quarters
/// exactly, where the image is square, and by halves always.
pub fn rotate<L: Level>(image: &mut Planes<'_, L>, degrees: f64, interpolation: Interpolation, fill: Option<L>) {
    let degrees = degrees.rem_euclid(360.0);
    let (width, height) = (image.width(), image.height());
    if degrees == 0.0 {
    } else if degrees == 180.0 {
        let plane = image.plane();
        image.levels_mut().chunks_exact_mut(plane).for_each(<[L]>::reverse);
    } else if width == height && (degrees == 90.0 || degrees == 270.0) {
        transpose(image);
        if degrees == 90.0 {
            let plane = image.plane();
            for plane in image.levels_mut().chunks_exact_mut(plane) {
                for y in 0..height / 2 {
                    let (upper, lower) = plane.split_at_mut((height - 1 - y) * width);
                    upper[y * width..][..width].swap_with_slice(&mut lower[..width]);
                }
            }
        } else {
            flip(image.levels_mut(), width);
        }
    } else {
        let change = AffineChange {
            angle: -degrees,
            ..AffineChange::default()
        };
        affine(image, &change, interpolation, fill);
    }
}

/// Exchanges rows and columns of a square image.
fn transpose<L: Level>(image: &mut Planes<'_, L>) {
    let (side, plane) = (image.width(), image.plane());
    for plane in image.levels_mut().chunks_exact_mut(plane) {
        for y in 0..side {
            for x in 0..y {
                plane.swap(y * side + x, x * side + y);
            }
        }
    }
}

/// Random displacement of every pixel (torchvision's `ElasticTransform`): a field uniform on [-1, 1], blurred by a
/// Gaussian, times `alpha` / 2 pixels. Interpolated bilinearly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Strength of the displacement, in half pixels.
    pub alpha: f32,
    /// Standard deviation of the blur in pixels.
    pub sigma: f32,
}

impl Elastic {
    /// Draws the displacement of an image of so many pixels.
    pub(super) fn draw(&self, stream: &mut Stream, width: usize, height: usize) -> Vec<f32> {
        let noise = (0..2 * width * height).map(|_| between(stream, -1.0, 1.0)).collect();
        displacement(noise, width, height, self)
    }
}

/// The displacement that noise makes: `noise` and the result are `[2, height, width]`, of x and of y, the result in
/// units of half the image's width and height.
///
/// The blur reflects the noise at the edges as often as it is wide; torchvision refuses to reflect more than once.
///
/// # Panics
/// If there are not twice as many values as pixels.
pub fn displacement(mut noise: Vec<f32>, width: usize, height: usize, elastic: &Elastic) -> Vec<f32> {
    let plane = width * height;
    assert!(
        plane > 0 && noise.len() == 2 * plane,
        "a displacement of x and of y for each pixel"
    );
    // torchvision's kernel has so many weights, or one more, to be odd.
    let radius = (8.0 * f64::from(elastic.sigma) + 1.0) as usize / 2;
    let weight = |offset: usize| (-0.5 * (offset as f64 / f64::from(elastic.sigma)).powi(2)).exp();
    let sum: f64 = (1..=radius).map(|offset| 2.0 * weight(offset)).sum::<f64>() + 1.0;
    let kernel: Vec<f32> = (0..=radius).map(|offset| (weight(offset) / sum) as f32).collect();
    for (field, size) in noise.chunks_exact_mut(plane).zip([width, height]) {
        blur(field, &kernel, (width, 1), (height, width));
        blur(field, &kernel, (height, width), (width, 1));
        for value in field {
            *value = *value * elastic.alpha / size as f32;
        }
    }
    noise
}

/// Convolves every line with the symmetric kernel (its middle and right half), reflecting at the edges. Lines have
/// `length` values, `along` apart, and there are `lines` of them, `across` apart.
fn blur(plane: &mut [f32], kernel: &[f32], (length, along): (usize, usize), (lines, across): (usize, usize)) {
    let radius = kernel.len() - 1;
    let reflect = |at: isize| -> usize {
        let period = (2 * length as isize - 2).max(1);
        let at = at.rem_euclid(period);
        at.min(period - at).min(length as isize - 1) as usize
    };
    let source: Vec<usize> = (0..length + 2 * radius)
        .map(|at| reflect(at as isize - radius as isize) * along)
        .collect();
    let mut line = vec![0.0; source.len()];
    let mut blurred = vec![0.0; length];
    for start in (0..lines).map(|line| line * across) {
        for (value, from) in line.iter_mut().zip(&source) {
            *value = plane[start + from];
        }
        vectorised(
            #[inline(always)]
            || convolve(&line, kernel, &mut blurred),
        );
        for (at, value) in blurred.iter().enumerate() {
            plane[start + at * along] = *value;
        }
    }
}

#[inline(always)]
fn convolve(line: &[f32], kernel: &[f32], blurred: &mut [f32]) {
    let radius = kernel.len() - 1;
    blurred.fill(0.0);
    for offset in 0..=2 * radius {
        let weight = kernel[offset.abs_diff(radius)];
        for (sum, value) in blurred.iter_mut().zip(&line[offset..]) {
            *sum += weight * value;
        }
    }
}

/// Moves pixels as torchvision's `elastic`. `displacement` is [2, height, width], of x and of y, in units of half the
/// image's width and height. Outside and edges as with [`affine`].
///
/// # Panics
/// If there are not twice as many displacements as pixels.
pub fn elastic<L: Level>(
    image: &mut Planes<'_, L>,
    displacement: &[f32],
    interpolation: Interpolation,
    fill: Option<L>,
) {
    let (width, height) = (image.width(), image.height());
    assert_eq!(
        displacement.len(),
        2 * image.plane(),
        "a displacement of x and of y for each pixel"
    );
    let (along, down) = displacement.split_at(image.plane());
    let (columns, rows) = (places(width), places(height));
    let row = |y: usize, xs: &mut [f32], ys: &mut [f32]| {
        let place = rows[y];
        for ((x, column), moved) in xs.iter_mut().zip(&columns).zip(&along[y * width..]) {
            *x = column + moved;
        }
        for (y, moved) in ys.iter_mut().zip(&down[y * width..]) {
            *y = place + moved;
        }
    };
    vectorised(
        #[inline(always)]
        || sample(image, interpolation, fill, row),
    );
}

/// The pixels' centres along a side that reaches from -1 to 1.
fn places(size: usize) -> Vec<f32> {
    let last = size.saturating_sub(1);
    let end = (last as f64 / size as f64) as f32;
    (0..size).map(|at| spaced(-end, end, at as u32, last as u32)).collect()
}

/// Every pixel's level at the place that `row` gives: of each row, x and y of the places in units of half the width and
/// height from the centre.
#[inline(always)]
fn sample<L: Level>(
    image: &mut Planes<'_, L>,
    interpolation: Interpolation,
    fill: Option<L>,
    row: impl Fn(usize, &mut [f32], &mut [f32]),
) {
    let (width, height, plane) = (image.width(), image.height(), image.plane());
    let (mut xs, mut ys) = (vec![0.0; width], vec![0.0; width]);
    let source = image.levels().to_vec();
    let mut from = vec![0; width];
    let mut around = Around::new(width);
    for y in 0..height {
        row(y, &mut xs, &mut ys);
        match interpolation {
            Interpolation::Nearest => nearest(&xs, &ys, &mut from, width, height),
            Interpolation::Bilinear => around.find(&xs, &ys, width, height),
        }
        let planes = source.chunks_exact(plane);
        for (source, out) in planes.zip(image.levels_mut().chunks_exact_mut(plane)) {
            let out = &mut out[y * width..][..width];
            match interpolation {
                Interpolation::Nearest => take(source, &from, fill.unwrap_or_default(), out),
                Interpolation::Bilinear => around.mean(source, fill.map(L::number), out),
            }
        }
    }
}

/// The pixels of a plane that are named, and another level in place of those that are none of it.
#[inline(always)]
fn take<L: Level>(source: &[L], from: &[u32], outside: L, out: &mut [L]) {
    for (out, from) in out.iter_mut().zip(from) {
        *out = source.get(*from as usize).copied().unwrap_or(outside);
    }
}

/// The pixel nearest to each place, and none of the plane for those outside.
#[inline(always)]
fn nearest(xs: &[f32], ys: &[f32], from: &mut [u32], width: usize, height: usize) {
    let (half_width, half_height) = (width as f32 / 2.0, height as f32 / 2.0);
    let (last_x, last_y) = (width as f32 - 1.0, height as f32 - 1.0);
    for ((from, x), y) in from.iter_mut().zip(xs).zip(ys) {
        let x = ((x + 1.0) * half_width - 0.5).round_ties_even();
        let y = ((y + 1.0) * half_height - 0.5).round_ties_even();
        let inside = (x >= 0.0) & (x <= last_x) & (y >= 0.0) & (y <= last_y);
        let [x, y] = [integer(x.clamp(0.0, last_x)), integer(y.clamp(0.0, last_y))];
        let at = y.wrapping_mul(width as u32).wrapping_add(x);
        *from = if inside { at } else { u32::MAX };
    }
}

/// The pixels around the places of a row: of each the numbers of the upper left, upper right, lower left and lower
/// right one, and their weights, 0 for those outside.
struct Around {
    pixels: [Vec<u32>; 4],
    weights: [Vec<f32>; 4],
}

impl Around {
    fn new(width: usize) -> Self {
        Self {
            pixels: [(); 4].map(|()| vec![0; width]),
            weights: [(); 4].map(|()| vec![0.0; width]),
        }
    }

    #[inline(always)]
    fn find(&mut self, xs: &[f32], ys: &[f32], width: usize, height: usize) {
        let pixels = self.pixels.each_mut().map(Vec::as_mut_slice);
        let weights = self.weights.each_mut().map(Vec::as_mut_slice);
        find_around(xs, ys, pixels, weights, [width, height]);
    }

    #[inline(always)]
    fn mean<L: Level>(&self, source: &[L], fill: Option<f32>, out: &mut [L]) {
        let pixels = self.pixels.each_ref().map(Vec::as_slice);
        let weights = self.weights.each_ref().map(Vec::as_slice);
        match fill {
            None => mean_of_four(
                source,
                pixels,
                weights,
                out,
                #[inline(always)]
                |level, _| level,
            ),
            Some(fill) => mean_of_four(
                source,
                pixels,
                weights,
                out,
                #[inline(always)]
                |level, inside| (level - fill) * inside + fill,
            ),
        }
    }
}

#[inline(always)]
fn find_around(
    xs: &[f32],
    ys: &[f32],
    [p0, p1, p2, p3]: [&mut [u32]; 4],
    [w0, w1, w2, w3]: [&mut [f32]; 4],
    [width, height]: [usize; 2],
) {
    let pixels = p0.iter_mut().zip(p1).zip(p2).zip(p3);
    let weights = w0.iter_mut().zip(w1).zip(w2).zip(w3);
    for (((((p0, p1), p2), p3), (((w0, w1), w2), w3)), (x, y)) in pixels.zip(weights).zip(xs.iter().zip(ys)) {
        let ([left, right], [west, east]) = pair(*x, width);
        let ([upper, lower], [north, south]) = pair(*y, height);
        let [upper, lower] = [upper, lower].map(|y| y.wrapping_mul(width as u32));
        *p0 = upper.wrapping_add(left);
        *p1 = upper.wrapping_add(right);
        *p2 = lower.wrapping_add(left);
        *p3 = lower.wrapping_add(right);
        *w0 = north * west;
        *w1 = north * east;
        *w2 = south * west;
        *w3 = south * east;
    }
}

/// The two pixels of a line around a place, and their weights.
#[inline(always)]
fn pair(place: f32, size: usize) -> ([u32; 2], [f32; 2]) {
    let last = size as f32 - 1.0;
    let at = (place + 1.0) * (size as f32 / 2.0) - 0.5;
    let first = at.floor();
    let second = first + 1.0;
    let share = at - first;
    let inside = |pixel: f32| (pixel >= 0.0) & (pixel <= last);
    let pixel = |pixel: f32| integer(pixel.clamp(0.0, last));
    let weight = |pixel: f32, weight: f32| if inside(pixel) { weight } else { 0.0 };
    (
        [pixel(first), pixel(second)],
        [weight(first, 1.0 - share), weight(second, share)],
    )
}

/// Weighted means of four pixels each. `finish` makes the level of it, given which part of the weight lies inside.
#[inline(always)]
fn mean_of_four<L: Level>(
    source: &[L],
    [p0, p1, p2, p3]: [&[u32]; 4],
    [w0, w1, w2, w3]: [&[f32]; 4],
    out: &mut [L],
    finish: impl Fn(f32, f32) -> f32,
) {
    let level = |pixel: &u32| source.get(*pixel as usize).map_or(0.0, |level| level.number());
    let pixels = p0.iter().zip(p1).zip(p2).zip(p3);
    let weights = w0.iter().zip(w1).zip(w2).zip(w3);
    for ((out, (((p0, p1), p2), p3)), (((w0, w1), w2), w3)) in out.iter_mut().zip(pixels).zip(weights) {
        let mean = L::product_sum(level(p1), *w1, level(p0) * w0);
        let mean = L::product_sum(level(p3), *w3, L::product_sum(level(p2), *w2, mean));
        *out = L::rounded(finish(mean, ((w0 + w1) + w2) + w3));
    }
}
