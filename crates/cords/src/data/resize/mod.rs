//! Resizing with the antialiased triangle ("bilinear") of Pillow and torchvision, and what stands on it: the shorter
//! side resized and the centre square cropped.
//!
//! Both passes round to whole levels, and their weights are in fixed point, so that every [`Rule`] has levels of its
//! own.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::decode::Pixels;
use std::ops::Range;

/// Bits of the weights: a sum of weighted levels of 8 bits, with its sign and one bit to spare, has 32.
const BITS: u32 = 32 - 8 - 2;

/// Whose arithmetic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// That of Pillow 13, to the bit: weights of 22 bits, and first across, but first down where more than twice as many
    /// rows go as columns. Earlier versions go across first, which may round to the next level.
    Pillow,
    /// That of the crate `fast_image_resize`, by which sets of arrays (MNIST, CIFAR) were resized from the first on:
    /// down before across, weights of 16 bits with their sign. At most 2 levels from Pillow.
    Arrays,
}

/// How a picture's columns, or its rows, become those of another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Pixels of the picture.
    pub(crate) from: usize,
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
            to,
            wanted: 0..to,
        }
    }

    /// By how many pixels the other picture is smaller.
    fn loss(&self) -> i64 {
        self.from as i64 - self.to as i64
    }

    /// Whether pixels stay as they are.
    fn is_cut(&self) -> bool {
        self.from == self.to
    }
}

/// Resizes pictures, with buffers that it uses again: [`plan`](Self::plan) says which pixels are needed, and
/// [`resize`](Self::resize) is given those.
#[derive(Default)]
pub(crate) struct Resizer {
    is_down_first: bool,
    across: Weights,
    down: Weights,
    #[cfg(target_arch = "x86_64")]
    groups: avx2::Groups,
    buffer: Vec<u8>,
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
    fn set(&mut self, axis: &Axis, rule: Rule) -> Range<usize> {
        self.spans.clear();
        self.weights.clear();
        if axis.is_cut() {
            return axis.wanted.clone();
        }
        let scale = axis.from as f64 / axis.to as f64;
        // Reaches over the pixels that fall into one, and never less than to the next on both sides.
        let reach = scale.max(1.0);
        let slope = 1.0 / reach;
        let mut exact: Vec<f64> = Vec::new();
        let mut largest: f64 = 0.0;
        for i in 0..axis.to {
            // The largest of all weights decides how the coarser ones are rounded.
            if rule == Rule::Pillow && !axis.wanted.contains(&i) {
                continue;
            }
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let last = ((centre + reach + 0.5) as usize).min(axis.from);
            let begin = exact.len();
            exact.extend((first..last).map(|at| {
                let distance = match rule {
                    Rule::Pillow => at as f64 - centre + 0.5,
                    Rule::Arrays => at as f64 - (centre - 0.5),
                };
                (1.0 - (distance * slope).abs()).max(0.0)
            }));
            let sum: f64 = exact[begin..].iter().sum();
            for weight in &mut exact[begin..] {
                *weight /= sum;
                largest = largest.max(*weight);
            }
            if axis.wanted.contains(&i) {
                self.spans.push((first, begin..exact.len()));
            }
        }
        let bits = match rule {
            Rule::Pillow => BITS,
            // As many as leave the largest weight 15 bits.
            Rule::Arrays => (0..BITS - 1)
                .find(|bits| (largest * f64::from(2 << bits)).round() >= f64::from(1 << 15))
                .unwrap_or(BITS - 1),
        };
        let fixed = |weight: &f64| ((weight * f64::from(1 << bits)).round() as i32) << (BITS - bits);
        self.weights.extend(exact.iter().map(fixed));
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
}

impl Resizer {
    /// Prepares for a picture; returns the columns and rows of it that are needed.
    pub(crate) fn plan(&mut self, across: &Axis, down: &Axis, rule: Rule) -> [Range<usize>; 2] {
        let rows_go = down.loss();
        self.is_down_first = match rule {
            Rule::Pillow => rows_go > 0 && rows_go > 2 * across.loss(),
            Rule::Arrays => true,
        };
        [self.across.set(across, rule), self.down.set(down, rule)]
    }

    /// The wanted part of the resized picture, from the pixels that [`plan`](Self::plan) said are needed.
    pub(crate) fn resize(&mut self, pixels: Pixels) -> Pixels {
        if self.is_down_first {
            let pixels = self.resize_down(pixels);
            self.resize_across(pixels)
        } else {
            let pixels = self.resize_across(pixels);
            self.resize_down(pixels)
        }
    }

    /// One pass; what it had becomes the buffer of the next.
    fn resize_across(&mut self, mut pixels: Pixels) -> Pixels {
        if self.across.spans.is_empty() {
            return pixels;
        }
        let width = self.across.spans.len();
        let (from, to) = (pixels.width * pixels.channels, width * pixels.channels);
        let mut data = std::mem::take(&mut self.buffer);
        data.resize(pixels.height * to, 0);
        self.rows_across(&mut pixels, from, &mut data, to);
        self.buffer = std::mem::replace(&mut pixels.data, data);
        Pixels { width, ..pixels }
    }

    fn rows_across(&mut self, pixels: &mut Pixels, from: usize, out: &mut [u8], to: usize) {
        #[cfg(target_arch = "x86_64")]
        if pixels.channels == 3 && std::is_x86_feature_detected!("avx2") && self.groups.set(&self.across) {
            pixels.data.resize(pixels.data.len() + avx2::BEYOND, 0);
            #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
            // SAFETY: the processor has just been found to have AVX2.
            unsafe {
                avx2::across(&self.groups, &pixels.data, from, out, to);
            }
            return;
        }
        match pixels.channels {
            1 => across::<1>(&self.across, &pixels.data, from, out, to),
            _ => across::<3>(&self.across, &pixels.data, from, out, to),
        }
    }

    fn resize_down(&mut self, mut pixels: Pixels) -> Pixels {
        if self.down.spans.is_empty() {
            return pixels;
        }
        let height = self.down.spans.len();
        let length = pixels.width * pixels.channels;
        let mut data = std::mem::take(&mut self.buffer);
        data.resize(height * length, 0);
        down(&self.down, &pixels.data, length, &mut data);
        self.buffer = std::mem::replace(&mut pixels.data, data);
        Pixels { height, ..pixels }
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

/// How a picture is resized so that its shorter side is `resize`, and the centre `side` x `side` wanted of it: across
/// and down. `side` must not exceed `resize`.
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

/// As evaluation shows an image: resizes so that the shorter side is `resize`, crops the centre `side` x `side`, and
/// returns [C, side, side]. `side` must not exceed `resize`.
pub(crate) fn fit(resizer: &mut Resizer, pixels: Pixels, resize: usize, side: usize, rule: Rule) -> Vec<u8> {
    let [across, down] = fitted(pixels.width, pixels.height, resize, side);
    resized(resizer, pixels, &across, &down, rule).into_planes()
}

/// Shrinks an image so that its longer side is `longest`.
pub(crate) fn shrink(resizer: &mut Resizer, pixels: Pixels, longest: usize) -> Pixels {
    let scale = |length: usize, other: usize| ((length * longest + other / 2) / other).max(1);
    let (width, height) = (pixels.width, pixels.height);
    let (to_width, to_height) = match width >= height {
        true => (longest, scale(height, width)),
        false => (scale(width, height), longest),
    };
    let (across, down) = (Axis::whole(width, to_width), Axis::whole(height, to_height));
    resized(resizer, pixels, &across, &down, Rule::Pillow)
}

/// An image resized to `side` x `side`.
pub(crate) fn square(resizer: &mut Resizer, pixels: Pixels, side: usize) -> Pixels {
    let (across, down) = (Axis::whole(pixels.width, side), Axis::whole(pixels.height, side));
    resized(resizer, pixels, &across, &down, Rule::Pillow)
}

fn resized(resizer: &mut Resizer, pixels: Pixels, across: &Axis, down: &Axis, rule: Rule) -> Pixels {
    let [columns, rows] = resizer.plan(across, down, rule);
    let needed = pixels.cropped([columns.start, rows.start, columns.len(), rows.len()]);
    resizer.resize(needed)
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

    /// Fixed-point weights and two roundings to whole levels: at most 2 levels off.
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
            let out = fit(&mut Resizer::default(), pixels, resize, resize, Rule::Arrays);
            let (top, left) = (crop_start(h, resize), crop_start(w, resize));
            for y in 0..resize {
                for x in 0..resize {
                    let difference = f64::from(out[y * resize + x]) - expected[(y + top) * w + x + left];
                    assert!(
                        difference.abs() <= 2.0,
                        "{width}x{height} to {resize}: {difference} at {y}, {x}"
                    );
                }
            }
        }
    }

    /// What `fast_image_resize` 6.1 made of the same pictures: sets of arrays that were prepared with it stay as they
    /// are.
    #[test]
    fn sets_of_arrays_keep_their_bytes() {
        let mut found = Vec::new();
        for (width, height, channels, resize, side) in [
            (8, 8, 1, 16, 16),
            (8, 8, 1, 32, 32),
            (28, 28, 1, 32, 28),
            (50, 37, 3, 24, 20),
            (20, 61, 3, 33, 33),
        ] {
            let data: Vec<u8> = (0..width * height * channels)
                .map(|i| (i * i * 31 + i * 7) as u8)
                .collect();
            let pixels = Pixels {
                width,
                height,
                channels,
                data,
            };
            let levels = fit(&mut Resizer::default(), pixels, resize, side, Rule::Arrays);
            let hash = levels.iter().fold(0u64, |hash, level| {
                hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(*level)
            });
            found.push(hash);
        }
        let expected = [
            0x1b64_255c_5e3a_ec30,
            0x2352_a2d9_f6d1_0ee0,
            0x98bc_a746_6d4b_35c5,
            0xd5a3_aecb_5663_65fd,
            0x62b3_b8c8_05cf_6390,
        ];
        assert_eq!(found, expected);
    }
}
