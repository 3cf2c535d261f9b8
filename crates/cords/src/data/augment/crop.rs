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
        let found = (0..10).find_map(|_| {
            let [w, h] = draw_size(stream, self.scale, self.ratio, width, height);
            ((1..=width).contains(&w) && (1..=height).contains(&h)).then(|| {
                let top = stream.below((height - h) as u64 + 1) as usize;
                let left = stream.below((width - w) as u64 + 1) as usize;
                [left, top, w, h]
            })
        });
        found.unwrap_or_else(|| self.centred(width, height))
    }

    /// The largest centred rectangle of an allowed shape.
    fn centred(&self, width: usize, height: usize) -> [usize; 4] {
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

/// Draws the sides of a rectangle: the first is to the second as what is drawn from `ratio`.
fn draw_size(stream: &mut Stream, scale: [f32; 2], ratio: [f32; 2], width: usize, height: usize) -> [usize; 2] {
    let share = between(stream, scale[0], scale[1]);
    let logarithm = between(stream, ratio[0].ln(), ratio[1].ln());
    size(share, logarithm, width, height)
}

/// Sides of a rectangle that has a share of the image's area, by the logarithm of the first over the second, in whole
/// pixels.
fn size(share: f32, logarithm: f32, width: usize, height: usize) -> [usize; 2] {
    let area = (width * height) as f64 * f64::from(share);
    let ratio = f64::from(logarithm.exp());
    [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as usize)
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
            let [h, w] = draw_size(stream, self.scale, self.ratio, width, height);
            (h < height && w < width).then(|| {
                let top = stream.below((height - h) as u64 + 1) as usize;
                let left = stream.below((width - w) as u64 + 1) as usize;
                [left, top, w, h]
            })
        })
    }
}

/// Gives all pixels of a rectangle (left, top, width, height) the value 0: torchvision's `erase`. What of it lies
/// outside the image does not count.
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

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn rectangles_are_those_of_torchvision_for_the_same_draws() {
        let (_, described) = reference();
        let rows = described["windows"].as_array().expect("rows");
        assert!(rows.len() > 20);
        for row in rows {
            let number = |value: &serde_json::Value| value.as_f64().expect("a number");
            let whole = |value: &serde_json::Value| value.as_u64().expect("a whole number") as usize;
            let (height, width) = (whole(&row["size"][0]), whole(&row["size"][1]));
            let logarithm = number(&row["ratio"]).ln() as f32;
            let [w, h] = size(number(&row["area"]) as f32, logarithm, width, height);
            let fits = (1..=width).contains(&w) && (1..=height).contains(&h);
            let window = if fits {
                [0, 0, w, h]
            } else {
                RandomResizedCrop::default().centred(width, height)
            };
            let expected: Vec<usize> = row["crop"].as_array().expect("a window").iter().map(whole).collect();
            assert_eq!(window.to_vec(), expected, "{row}");
            let [h, w] = [w, h];
            match row["erased"].as_array() {
                Some(sides) => assert_eq!([w, h].to_vec(), sides.iter().map(whole).collect::<Vec<_>>(), "{row}"),
                None => assert!(h >= height || w >= width, "{row}"),
            }
        }
    }
}
