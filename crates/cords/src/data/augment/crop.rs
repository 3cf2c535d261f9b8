//! Random rectangles: the part of an image that is kept, and the part that is erased.

use serde::{Deserialize, Serialize};

use super::between;
use super::planes::{Level, Planes};
use crate::rng::Stream;

/// A rectangle of random area and shape, resized to the whole image (torchvision's `RandomResizedCrop`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// Smallest and largest area as a fraction of the image's.
    pub scale: [f32; 2],
    /// Smallest and largest width over height; its logarithm is uniform.
    pub ratio: [f32; 2],
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self {
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
        }
    }
}

impl RandomResizedCrop {
    /// Left, top, width and height in whole pixels. Ten tries, then the largest centred rectangle of an allowed shape.
    pub(super) fn draw(&self, stream: &mut Stream, width: usize, height: usize) -> [usize; 4] {
        for _ in 0..10 {
            let (area, ratio) = draw_rectangle(stream, self.scale, self.ratio, width, height);
            let [w, h] = [whole_root(area * ratio), whole_root(area / ratio)];
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = stream.below((height - h) as u64 + 1) as usize;
                let left = stream.below((width - w) as u64 + 1) as usize;
                return [left, top, w, h];
            }
        }
        let shape = width as f64 / height as f64;
        let [narrowest, widest] = self.ratio.map(f64::from);
        let [w, h] = if shape < narrowest {
            [width, (width as f64 / narrowest).round_ties_even() as usize]
        } else if shape > widest {
            [(height as f64 * widest).round_ties_even() as usize, height]
        } else {
            [width, height]
        };
        // A side of less than half a pixel would be none.
        let [w, h] = [w.clamp(1, width), h.clamp(1, height)];
        [(width - w) / 2, (height - h) / 2, w, h]
    }
}

/// Area in pixels, and shape.
fn draw_rectangle(stream: &mut Stream, scale: [f32; 2], ratio: [f32; 2], width: usize, height: usize) -> (f64, f64) {
    let area = (width * height) as f64 * f64::from(between(stream, scale[0], scale[1]));
    let ratio = between(stream, ratio[0].ln(), ratio[1].ln()).exp();
    (area, f64::from(ratio))
}

fn whole_root(square: f64) -> usize {
    square.sqrt().round_ties_even() as usize
}

/// A rectangle of random area and shape whose normalised values become 0 (torchvision's `RandomErasing`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomErasing {
    /// Probability that an image loses a rectangle.
    pub probability: f32,
    /// Smallest and largest area as a fraction of the image's.
    pub scale: [f32; 2],
    /// Smallest and largest height over width; its logarithm is uniform.
    pub ratio: [f32; 2],
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            probability: 0.5,
            scale: [0.02, 0.33],
            ratio: [0.3, 3.3],
        }
    }
}

impl RandomErasing {
    /// Left, top, width and height in whole pixels; none where nothing is erased. Ten tries, then nothing.
    pub(super) fn draw(&self, stream: &mut Stream, width: usize, height: usize) -> Option<[usize; 4]> {
        if stream.uniform() >= f64::from(self.probability) {
            return None;
        }
        (0..10).find_map(|_| {
            let (area, ratio) = draw_rectangle(stream, self.scale, self.ratio, width, height);
            let [h, w] = [whole_root(area * ratio), whole_root(area / ratio)];
            (h < height && w < width).then(|| {
                let top = stream.below((height - h) as u64 + 1) as usize;
                let left = stream.below((width - w) as u64 + 1) as usize;
                [left, top, w, h]
            })
        })
    }
}

/// Gives all pixels of a rectangle (left, top, width, height) the value 0: torchvision's `erase`. What of it lies outside
/// the image does not count.
pub fn erase<L: Level>(image: &mut Planes<'_, L>, [left, top, width, height]: [usize; 4]) {
    let row = image.width();
    let (first, end) = (left.min(row), left.saturating_add(width).min(row));
    let plane = image.plane();
    for plane in image.levels_mut().chunks_exact_mut(plane) {
        for row in plane.chunks_exact_mut(row).skip(top).take(height) {
            row[first..end].fill(L::default());
        }
    }
}
