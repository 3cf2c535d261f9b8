//! Resizing with the antialiased triangle ("bilinear") of Pillow and torchvision, and what stands on it: the shorter
//! side resized and the centre square cropped.
//!
//! The arithmetic is Pillow's, so that the bytes are: weights in fixed point with 22 bits, first across, then down, each
//! rounded to whole levels.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::decode::Pixels;

/// Bits of the weights: a sum of weighted levels of 8 bits, with its sign and one bit to spare, has 32.
const BITS: u32 = 32 - 8 - 2;

/// Resizes images, with buffers that it uses again.
#[derive(Default)]
pub(crate) struct Resizer {
    across: Weights,
    down: Weights,
    #[cfg(target_arch = "x86_64")]
    groups: avx2::Groups,
    /// The image after the first pass.
    middle: Vec<u8>,
}

/// Which pixels of a line each pixel of the resized line is the weighted mean of.
#[derive(Default)]
struct Weights {
    /// For every pixel, the first of its pixels and where its weights begin and end.
    spans: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<i32>,
}

impl Weights {
    /// From the part `start .. end` of a line of `size` pixels to `to` pixels.
    fn set(&mut self, size: usize, (start, end): (f64, f64), to: usize) {
        self.spans.clear();
        self.weights.clear();
        let scale = (end - start) / to as f64;
        // Reaches over the pixels that fall into one, and never less than to the next on both sides.
        let reach = scale.max(1.0);
        let slope = 1.0 / reach;
        let mut row = Vec::new();
        for i in 0..to {
            let centre = start + (i as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let last = ((centre + reach + 0.5) as usize).min(size);
            let weight = |at: usize| (1.0 - ((at as f64 - centre + 0.5) * slope).abs()).max(0.0);
            row.clear();
            row.extend((first..last).map(weight));
            let sum: f64 = row.iter().sum();
            let begin = self.weights.len();
            self.weights
                .extend(row.iter().map(|weight| (0.5 + weight / sum * f64::from(1 << BITS)) as i32));
            self.spans.push((first, begin..self.weights.len()));
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.spans.iter().map(|(first, range)| (*first, &self.weights[range.clone()]))
    }
}

impl Resizer {
    /// The part of `pixels` from (left, top) to (right, bottom), whole pixels or not, as an image of `size` (width and
    /// height).
    pub(crate) fn resize(&mut self, mut pixels: Pixels, part: [f64; 4], size: (usize, usize)) -> Pixels {
        let Pixels {
            width,
            height,
            channels,
            ..
        } = pixels;
        if part == [0.0, 0.0, width as f64, height as f64] && size == (width, height) {
            return pixels;
        }
        let [left, top, right, bottom] = part;
        self.across.set(width, (left, right), size.0);
        self.down.set(height, (top, bottom), size.1);
        // Only rows that the second pass reads.
        let ends = self.down.spans.iter().map(|(first, range)| first + range.len());
        let rows = self.down.spans.first().map_or(0, |(first, _)| *first)..ends.max().unwrap_or(0);
        let (middle, first_row) = if (left, right, size.0) == (0.0, width as f64, width) {
            (&pixels.data, 0)
        } else {
            self.middle.resize(rows.len() * size.0 * channels, 0);
            self.resize_across(&mut pixels, rows.clone(), size.0);
            (&self.middle, rows.start)
        };
        let mut data = vec![0; size.0 * size.1 * channels];
        if (top, bottom, size.1) == (0.0, height as f64, height) {
            data.copy_from_slice(middle);
        } else {
            down(&self.down, middle, first_row, size.0 * channels, &mut data);
        }
        Pixels {
            width: size.0,
            height: size.1,
            channels,
            data,
        }
    }

    /// Some rows of `pixels` at another width, into the buffer between the passes.
    fn resize_across(&mut self, pixels: &mut Pixels, rows: std::ops::Range<usize>, to: usize) {
        let (length, channels) = (pixels.width * pixels.channels, pixels.channels);
        #[cfg(target_arch = "x86_64")]
        if channels == 3 && std::is_x86_feature_detected!("avx2") && self.groups.set(&self.across) {
            let end = pixels.data.len();
            pixels.data.resize(end + avx2::BEYOND, 0);
            let source = &pixels.data[rows.start * length..];
            #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
            // SAFETY: the processor has just been found to have AVX2.
            unsafe {
                avx2::across(&self.groups, source, length, &mut self.middle, 3 * to);
            }
            pixels.data.truncate(end);
            return;
        }
        let source = &pixels.data[rows.start * length..rows.end * length];
        match channels {
            1 => across::<1>(&self.across, source, pixels.width, &mut self.middle, to),
            _ => across::<3>(&self.across, source, pixels.width, &mut self.middle, to),
        }
    }
}

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (BITS - 1);

/// Resizes rows of `width` pixels of `C` channels.
fn across<const C: usize>(weights: &Weights, source: &[u8], width: usize, out: &mut [u8], to: usize) {
    for (source, out) in source.chunks_exact(width * C).zip(out.chunks_exact_mut(to * C)) {
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

/// Resizes columns: rows of `length` bytes, the first of which is row `top` of the image.
fn down(weights: &Weights, source: &[u8], top: usize, length: usize, out: &mut [u8]) {
    for ((first, weights), out) in weights.iter().zip(out.chunks_exact_mut(length)) {
        let rows = &source[(first - top) * length..];
        let tail = tiles_down(weights, rows, length, out);
        for (at, out) in out.iter_mut().enumerate().skip(tail) {
            let levels = rows[at..].iter().step_by(length);
            let sum: i32 = weights.iter().zip(levels).map(|(weight, level)| weight * i32::from(*level)).sum();
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

/// Resizes so that the shorter side is `resize`, crops the centre `side` x `side`, and returns [C, side, side].
/// `side` must not exceed `resize`.
pub(crate) fn fit(resizer: &mut Resizer, pixels: Pixels, resize: usize, side: usize) -> Vec<u8> {
    let (width, height) = fitted_size(pixels.width, pixels.height, resize);
    let whole = [0.0, 0.0, pixels.width as f64, pixels.height as f64];
    let Pixels { channels, data, .. } = resizer.resize(pixels, whole, (width, height));
    let (top, left) = (crop_start(height, side), crop_start(width, side));
    let mut out = Vec::with_capacity(channels * side * side);
    for channel in 0..channels {
        for row in top..top + side {
            let from = (row * width + left) * channels + channel;
            out.extend(data[from..].iter().step_by(channels).take(side));
        }
    }
    out
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
            let out = fit(&mut Resizer::new(), pixels, resize, resize).expect("valid sizes");
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
}
