//! Resizing with the antialiased triangle ("bilinear") of Pillow and torchvision, and what stands on it: the shorter
//! side resized and the centre square cropped.
//!
//! The arithmetic is Pillow's, so that the bytes are: weights in fixed point with 22 bits, first across, then down, each
//! rounded to whole levels.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::decode::Pixels;
use std::ops::Range;

/// Bits of the weights: a sum of weighted levels of 8 bits, with its sign and one bit to spare, has 32.
const BITS: u32 = 32 - 8 - 2;

/// How a picture's columns, or its rows, become those of another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Pixels of the picture.
    pub(crate) from: usize,
    /// The part of them, whole pixels or not, that becomes the other picture.
    pub(crate) part: (f64, f64),
    /// Pixels of the other picture.
    pub(crate) to: usize,
    /// Those of them that are wanted.
    pub(crate) wanted: Range<usize>,
}

impl Axis {
    /// All of a picture.
    pub(crate) fn whole(from: usize, to: usize) -> Self {
        Self {
            from,
            part: (0.0, from as f64),
            to,
            wanted: 0..to,
        }
    }

    /// Whether pixels stay as they are.
    fn is_cut(&self) -> bool {
        self.from == self.to && self.part == (0.0, self.from as f64)
    }
}

/// Resizes pictures, with buffers that it uses again: [`plan`](Self::plan) says which pixels are needed, and
/// [`resize`](Self::resize) is given those.
#[derive(Default)]
pub(crate) struct Resizer {
    across: Weights,
    down: Weights,
    #[cfg(target_arch = "x86_64")]
    groups: avx2::Groups,
    /// The picture after the first pass.
    middle: Vec<u8>,
}

/// Which pixels of a line each pixel of the resized line is the weighted mean of. No weights: each is one pixel.
#[derive(Default)]
struct Weights {
    /// For every pixel, the first of its pixels, from the first that any has, and where its weights begin and end.
    spans: Vec<(usize, Range<usize>)>,
    weights: Vec<i32>,
}

impl Weights {
    /// Returns the pixels that are needed.
    fn set(&mut self, axis: &Axis) -> Range<usize> {
        self.spans.clear();
        self.weights.clear();
        if axis.is_cut() {
            return axis.wanted.clone();
        }
        let (start, end) = axis.part;
        let scale = (end - start) / axis.to as f64;
        // Reaches over the pixels that fall into one, and never less than to the next on both sides.
        let reach = scale.max(1.0);
        let slope = 1.0 / reach;
        let mut row = Vec::new();
        for i in axis.wanted.clone() {
            let centre = start + (i as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let last = ((centre + reach + 0.5) as usize).min(axis.from);
            let weight = |at: usize| (1.0 - ((at as f64 - centre + 0.5) * slope).abs()).max(0.0);
            row.clear();
            row.extend((first..last).map(weight));
            let sum: f64 = row.iter().sum();
            let begin = self.weights.len();
            let fixed = row
                .iter()
                .map(|weight| (0.5 + weight / sum * f64::from(1 << BITS)) as i32);
            self.weights.extend(fixed);
            self.spans.push((first, begin..self.weights.len()));
        }
        let origin = self.spans.first().map_or(0, |(first, _)| *first);
        let ends = self.spans.iter().map(|(first, range)| first + range.len());
        let needed = origin..ends.max().unwrap_or(0);
        self.spans.iter_mut().for_each(|(first, _)| *first -= origin);
        needed
    }

    fn iter(&self) -> impl ExactSizeIterator<Item = (usize, &[i32])> {
        self.spans
            .iter()
            .map(|(first, range)| (*first, &self.weights[range.clone()]))
    }

    /// Pixels that a line of `length` becomes.
    fn to(&self, length: usize) -> usize {
        if self.spans.is_empty() {
            length
        } else {
            self.spans.len()
        }
    }
}

impl Resizer {
    /// Prepares for a picture; returns the columns and rows of it that are needed.
    pub(crate) fn plan(&mut self, across: &Axis, down: &Axis) -> [Range<usize>; 2] {
        [self.across.set(across), self.down.set(down)]
    }

    /// The wanted part of the resized picture, from the pixels that [`plan`](Self::plan) said are needed.
    pub(crate) fn resize(&mut self, mut pixels: Pixels) -> Pixels {
        let (width, height) = (self.across.to(pixels.width), self.down.to(pixels.height));
        if !self.across.spans.is_empty() {
            self.middle.resize(pixels.height * width * pixels.channels, 0);
            self.resize_across(&mut pixels, width);
            if self.down.spans.is_empty() {
                pixels.data.clone_from(&self.middle);
            }
        }
        if !self.down.spans.is_empty() {
            let length = width * pixels.channels;
            let mut data = vec![0; height * length];
            let rows = if self.across.spans.is_empty() {
                &pixels.data
            } else {
                &self.middle
            };
            down(&self.down, rows, length, &mut data);
            pixels.data = data;
        }
        Pixels {
            width,
            height,
            ..pixels
        }
    }

    /// All rows of `pixels` at another width, into the buffer between the passes.
    fn resize_across(&mut self, pixels: &mut Pixels, to: usize) {
        let length = pixels.width * pixels.channels;
        #[cfg(target_arch = "x86_64")]
        if pixels.channels == 3 && std::is_x86_feature_detected!("avx2") && self.groups.set(&self.across) {
            let end = pixels.data.len();
            pixels.data.resize(end + avx2::BEYOND, 0);
            #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
            // SAFETY: the processor has just been found to have AVX2.
            unsafe {
                avx2::across(&self.groups, &pixels.data, length, &mut self.middle, 3 * to);
            }
            pixels.data.truncate(end);
            return;
        }
        match pixels.channels {
            1 => across::<1>(&self.across, &pixels.data, length, &mut self.middle, to),
            _ => across::<3>(&self.across, &pixels.data, length, &mut self.middle, 3 * to),
        }
    }
}

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (BITS - 1);

/// Resizes rows of `length` bytes of `C` channels to rows of `to` bytes.
fn across<const C: usize>(weights: &Weights, source: &[u8], length: usize, out: &mut [u8], to: usize) {
    for (source, out) in source.chunks_exact(length).zip(out.chunks_exact_mut(to)) {
        let source = source.as_chunks::<C>().0;
        for ((first, weights), out) in weights.iter().zip(out.as_chunks_mut::<C>().0) {
            let mut sums = [HALF; C];
            for (weight, pixel) in weights.iter().zip(&source[first..]) {
                for (sum, level) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(*level);
                }
            }
            *out = sums.map(rounded);
        }
    }
}

/// Resizes columns: rows of `length` bytes.
fn down(weights: &Weights, source: &[u8], length: usize, out: &mut [u8]) {
    for ((first, weights), out) in weights.iter().zip(out.chunks_exact_mut(length)) {
        let rows = &source[first * length..];
        let tail = tiles_down(weights, rows, length, out);
        for (at, out) in out.iter_mut().enumerate().skip(tail) {
            let levels = rows[at..].iter().step_by(length);
            let sum: i32 = weights
                .iter()
                .zip(levels)
                .map(|(weight, level)| weight * i32::from(*level))
                .sum();
            *out = rounded(sum + HALF);
        }
    }
}

/// Resizes as many columns as vectors take, and returns how many those are.
fn tiles_down(weights: &[i32], rows: &[u8], length: usize, out: &mut [u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        let (tiles, _) = out.as_chunks_mut::<{ avx2::TILE }>();
        for (tile, out) in tiles.iter_mut().enumerate() {
            #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
            // SAFETY: the processor has just been found to have AVX2.
            unsafe {
                avx2::tile_down(weights, &rows[tile * avx2::TILE..], length, out);
            }
        }
        return tiles.len() * avx2::TILE;
    }
    let _ = (weights, rows, length, out);
    0
}

/// How a picture is resized so that its shorter side is `resize`, and the centre `side` x `side` wanted of it: across and
/// down. `side` must not exceed `resize`.
pub(crate) fn fitted(width: usize, height: usize, resize: usize, side: usize) -> [Axis; 2] {
    let (to_width, to_height) = fitted_size(width, height, resize);
    let centre = |from: usize, to: usize| {
        let start = crop_start(to, side);
        Axis {
            wanted: start..start + side,
            ..Axis::whole(from, to)
        }
    };
    [centre(width, to_width), centre(height, to_height)]
}

/// Resizes so that the shorter side is `resize`, crops the centre `side` x `side`, and returns [C, side, side].
/// `side` must not exceed `resize`.
pub(crate) fn fit(resizer: &mut Resizer, pixels: Pixels, resize: usize, side: usize) -> Vec<u8> {
    let [across, down] = fitted(pixels.width, pixels.height, resize, side);
    let [columns, rows] = resizer.plan(&across, &down);
    let needed = pixels.cropped([columns.start, rows.start, columns.len(), rows.len()]);
    resizer.resize(needed).into_planes()
}

/// Width and height when the shorter side becomes `resize`; the longer is cut to whole pixels, as torchvision does.
fn fitted_size(width: usize, height: usize, resize: usize) -> (usize, usize) {
    if width <= height {
        (resize, resize * height / width)
    } else {
        (resize * width / height, resize)
    }
}

/// First row or column of the centre crop; halves go to the even number, as Python's `round` in torchvision.
fn crop_start(size: usize, side: usize) -> usize {
    let spare = size - side;
    let half = spare / 2;
    if spare % 2 == 1 && half % 2 == 1 {
        half + 1
    } else {
        half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_side_and_crop_follow_torchvision() {
        assert_eq!(fitted_size(500, 375, 256), (341, 256));
        assert_eq!(fitted_size(375, 500, 256), (256, 341));
        assert_eq!(fitted_size(28, 28, 32), (32, 32));
        // round((341 - 224) / 2) = round(58.5) = 58 and round((227 - 224) / 2) = round(1.5) = 2 in Python.
        assert_eq!(crop_start(341, 224), 58);
        assert_eq!(crop_start(227, 224), 2);
        assert_eq!(crop_start(256, 224), 16);
    }

    /// A plain, direct evaluation of the antialiased triangle filter in f64.
    fn reference(data: &[u8], width: usize, height: usize, to: (usize, usize)) -> Vec<f64> {
        let weights = |from: usize, to: usize| -> Vec<Vec<f64>> {
            let scale = from as f64 / to as f64;
            let support = scale.max(1.0);
            (0..to)
                .map(|i| {
                    let centre = (i as f64 + 0.5) * scale;
                    let row: Vec<f64> = (0..from)
                        .map(|j| (1.0 - ((j as f64 + 0.5 - centre) / support).abs()).max(0.0))
                        .collect();
                    let sum: f64 = row.iter().sum();
                    row.iter().map(|w| w / sum).collect()
                })
                .collect()
        };
        let (across, down) = (weights(width, to.0), weights(height, to.1));
        let mut out = Vec::new();
        for row in &down {
            for column in &across {
                let mut sum = 0.0;
                for (y, wy) in row.iter().enumerate() {
                    for (x, wx) in column.iter().enumerate() {
                        sum += wy * wx * f64::from(data[y * width + x]);
                    }
                }
                out.push(sum);
            }
        }
        out
    }

    /// Two roundings to whole levels, of which the second passes on the first: at most 1 level off.
    #[test]
    fn filter_is_the_antialiased_triangle() {
        for (width, height, resize) in [(37, 50, 16), (8, 8, 32), (61, 33, 20)] {
            let data: Vec<u8> = (0..width * height).map(|i| (i * i * 31 + i * 7) as u8).collect();
            let (w, h) = fitted_size(width, height, resize);
            let expected = reference(&data, width, height, (w, h));
            let pixels = Pixels {
                width,
                height,
                channels: 1,
                data,
            };
            let out = fit(&mut Resizer::default(), pixels, resize, resize);
            let (top, left) = (crop_start(h, resize), crop_start(w, resize));
            for y in 0..resize {
                for x in 0..resize {
                    let difference = f64::from(out[y * resize + x]) - expected[(y + top) * w + x + left];
                    assert!(
                        difference.abs() <= 1.001,
                        "{width}x{height} to {resize}: {difference} at {y}, {x}"
                    );
                }
            }
        }
    }
}
