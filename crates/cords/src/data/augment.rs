//! Random changes of training images, keyed by (seed, image, epoch): the same whatever the batch or thread.
//!
//! Works on floats in [0, 1] before normalisation. All geometric changes (random resized crop, flip, affine, elastic,
//! in this order) are composed into one map from output to input pixels and interpolated once, bilinearly; what lies
//! outside the image is black. Brightness and contrast follow. Everything is off by default.

use super::DataError;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Which random changes are made, and how strong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Random rectangle, resized to the whole image.
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Probability of mirroring left to right.
    pub horizontal_flip: f32,
    /// Rotation, shift, scaling and shear.
    pub affine: Option<Affine>,
    /// Smooth random displacement of pixels.
    pub elastic: Option<Elastic>,
    /// Levels are multiplied by a factor uniform on [1 - brightness, 1 + brightness] and clipped to [0, 1].
    pub brightness: f32,
    /// Differences from the mean luminance are multiplied by a factor uniform on [1 - contrast, 1 + contrast], and
    /// the result clipped to [0, 1].
    pub contrast: f32,
}

/// A rectangle of random area and shape, resized to the whole image (as torchvision's `RandomResizedCrop`).
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

/// Affine change about the image's centre (as torchvision's `RandomAffine`), every value uniform on its range.
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

/// Random displacement of every pixel: a field uniform on [-1, 1], blurred by a Gaussian, times alpha / 2 pixels. That
/// is torchvision's `ElasticTransform`, whose alpha is in its own coordinates of half the image's side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// Strength of the displacement, in half pixels.
    pub alpha: f32,
    /// Standard deviation of the blur in pixels.
    pub sigma: f32,
}

/// Index of each change within an image's draws: switching one on or off does not change the others' draws.
#[derive(Clone, Copy)]
enum Change {
    Crop,
    Flip,
    Affine,
    Elastic,
    Brightness,
    Contrast,
}

impl Augment {
    /// Whether no change is ever made.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`DataError::Option`] with the value that is out of range.
    pub fn validate(&self) -> Result<(), DataError> {
        let within = |option: &'static str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(DataError::option(
                option,
                format!("{value} given; it must be {low} to {high}"),
            ))
        };
        let range = |option: &'static str, [low, high]: [f32; 2], largest: f32| {
            if low > 0.0 && low <= high && high <= largest {
                return Ok(());
            }
            let what = format!("[{low}, {high}] given; it must be smallest and largest, above 0 and at most {largest}");
            Err(DataError::option(option, what))
        };
        within("horizontal_flip", self.horizontal_flip, 0.0, 1.0)?;
        within("brightness", self.brightness, 0.0, 1.0)?;
        within("contrast", self.contrast, 0.0, 1.0)?;
        if let Some(crop) = &self.random_resized_crop {
            range("random_resized_crop.scale", crop.scale, 1.0)?;
            range("random_resized_crop.ratio", crop.ratio, 100.0)?;
        }
        if let Some(affine) = &self.affine {
            within("affine.degrees", affine.degrees, 0.0, 180.0)?;
            within("affine.translate", affine.translate, 0.0, 1.0)?;
            range("affine.scale", affine.scale, 100.0)?;
            within("affine.shear", affine.shear, 0.0, 80.0)?;
        }
        if let Some(elastic) = &self.elastic {
            within("elastic.alpha", elastic.alpha, 0.0, 10_000.0)?;
            within("elastic.sigma", elastic.sigma, 0.1, 1_000.0)?;
        }
        Ok(())
    }

    /// Changes one image in place: `pixels` is [channels, side, side] in [0, 1], `image` its index in the data set.
    ///
    /// # Panics
    /// If `pixels` is not a whole number of channels.
    pub fn apply(&self, pixels: &mut [f32], side: usize, seed: u64, image: u64, epoch: u32) {
        let plane = side * side;
        assert!(
            plane > 0 && pixels.len().is_multiple_of(plane),
            "whole channels of side x side"
        );
        let stream = |change: Change| Stream::new(seed, Purpose::Augmentation, image, epoch, 0, change as u32);
        if let Some(map) = self.map(side, &stream) {
            let input = pixels.to_vec();
            map.sample(&input, pixels, side);
        }
        if self.brightness > 0.0 {
            let factor = between(
                &mut stream(Change::Brightness),
                1.0 - self.brightness,
                1.0 + self.brightness,
            );
            pixels
                .iter_mut()
                .for_each(|level| *level = (*level * factor).clamp(0.0, 1.0));
        }
        if self.contrast > 0.0 {
            let factor = between(&mut stream(Change::Contrast), 1.0 - self.contrast, 1.0 + self.contrast);
            let mean = mean_luminance(pixels, plane);
            pixels
                .iter_mut()
                .for_each(|level| *level = ((*level - mean) * factor + mean).clamp(0.0, 1.0));
        }
    }

    /// The drawn geometric change; `None` where the image stays as it is.
    fn map(&self, side: usize, stream: &dyn Fn(Change) -> Stream) -> Option<Map> {
        let mut map = Map::identity(side);
        let mut changed = false;
        if let Some(crop) = &self.random_resized_crop {
            map.window = crop.draw(&mut stream(Change::Crop), side);
            changed = true;
        }
        if self.horizontal_flip > 0.0 && stream(Change::Flip).uniform() < f64::from(self.horizontal_flip) {
            map.flip = true;
            changed = true;
        }
        if let Some(affine) = &self.affine {
            map.linear = affine.draw(&mut stream(Change::Affine), side);
            changed = true;
        }
        if let Some(elastic) = &self.elastic {
            map.displacement = Some(elastic.draw(&mut stream(Change::Elastic), side));
            changed = true;
        }
        changed.then_some(map)
    }
}

fn between(stream: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * stream.uniform() as f32
}

/// Mean over the image of 0.299 R + 0.587 G + 0.114 B, or of the single channel.
fn mean_luminance(pixels: &[f32], plane: usize) -> f32 {
    let mean = |channel: &[f32]| channel.iter().map(|v| f64::from(*v)).sum::<f64>() / plane as f64;
    let means: Vec<f64> = pixels.chunks_exact(plane).map(mean).collect();
    let luminance = match means.as_slice() {
        [r, g, b] => 0.299 * r + 0.587 * g + 0.114 * b,
        _ => means.iter().sum::<f64>() / means.len() as f64,
    };
    luminance as f32
}

impl RandomResizedCrop {
    /// Left, top, width and height in whole pixels. Ten tries, then the largest centred rectangle of an allowed shape.
    fn draw(&self, stream: &mut Stream, side: usize) -> [f32; 4] {
        let full = side as f32;
        for _ in 0..10 {
            let area = full * full * between(stream, self.scale[0], self.scale[1]);
            let ratio = between(stream, self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let (width, height) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
            if (1.0..=full).contains(&width) && (1.0..=full).contains(&height) {
                let top = stream.below((full - height) as u64 + 1) as f32;
                let left = stream.below((full - width) as u64 + 1) as f32;
                return [left, top, width, height];
            }
        }
        let ratio = 1.0f32.clamp(self.ratio[0], self.ratio[1]);
        let (width, height) = (full * ratio.min(1.0), full / ratio.max(1.0));
        [(full - width) / 2.0, (full - height) / 2.0, width, height]
    }
}

impl Affine {
    /// Inverse map [a, b, c, d, e, f] from output to input, x' = a x + b y + c and y' = d x + e y + f, in pixels from
    /// the image's centre. Forward: p' = scale R(angle) S(shear) p + shift with S = [[1, -tan(shear)], [0, 1]].
    fn draw(&self, stream: &mut Stream, side: usize) -> [f32; 6] {
        let angle = between(stream, -self.degrees, self.degrees).to_radians();
        let reach = self.translate * side as f32;
        let shift = [
            between(stream, -reach, reach).round(),
            between(stream, -reach, reach).round(),
        ];
        let scale = between(stream, self.scale[0], self.scale[1]);
        let shear = between(stream, -self.shear, self.shear).to_radians().tan();
        let (sin, cos) = angle.sin_cos();
        // S^-1 R^-1 / scale, with S^-1 = [[1, tan(shear)], [0, 1]].
        let (a, b) = ((cos - shear * sin) / scale, (sin + shear * cos) / scale);
        let (d, e) = (-sin / scale, cos / scale);
        [
            a,
            b,
            -(a * shift[0] + b * shift[1]),
            d,
            e,
            -(d * shift[0] + e * shift[1]),
        ]
    }
}

impl Elastic {
    /// Displacements in pixels, all of x and then all of y.
    fn draw(&self, stream: &mut Stream, side: usize) -> Vec<f32> {
        let mut field: Vec<f32> = (0..2 * side * side).map(|_| between(stream, -1.0, 1.0)).collect();
        let radius = (4.0 * self.sigma).ceil() as usize;
        let weight = |offset: usize| (-0.5 * (offset as f64 / f64::from(self.sigma)).powi(2)).exp();
        let sum: f64 = (1..=radius).map(|offset| 2.0 * weight(offset)).sum::<f64>() + 1.0;
        let kernel: Vec<f32> = (0..=radius).map(|offset| (weight(offset) / sum) as f32).collect();
        for plane in field.chunks_exact_mut(side * side) {
            blur(plane, side, &kernel, 1, side);
            blur(plane, side, &kernel, side, 1);
        }
        field.iter_mut().for_each(|value| *value *= 0.5 * self.alpha);
        field
    }
}

/// Convolves every line with the symmetric kernel (its middle and right half), reflecting at the edges. `along` is the
/// distance between neighbours on a line, `across` that between lines.
fn blur(plane: &mut [f32], side: usize, kernel: &[f32], along: usize, across: usize) {
    let radius = kernel.len() - 1;
    let reflect = |at: isize| -> usize {
        let period = (2 * side as isize - 2).max(1);
        let at = at.rem_euclid(period);
        at.min(period - at).min(side as isize - 1) as usize
    };
    let source: Vec<usize> = (0..side + 2 * radius)
        .map(|at| reflect(at as isize - radius as isize) * along)
        .collect();
    let mut line = vec![0.0; source.len()];
    let mut blurred = vec![0.0; side];
    for start in (0..side).map(|line| line * across) {
        for (value, from) in line.iter_mut().zip(&source) {
            *value = plane[start + from];
        }
        blurred.fill(0.0);
        for offset in 0..=2 * radius {
            let weight = kernel[offset.abs_diff(radius)];
            for (sum, value) in blurred.iter_mut().zip(&line[offset..]) {
                *sum += weight * value;
            }
        }
        for (at, value) in blurred.iter().enumerate() {
            plane[start + at * along] = *value;
        }
    }
}

/// A geometric change as the composition output -> displacement -> linear map -> flip -> window of the input.
struct Map {
    /// Left, top, width, height of the part of the input that fills the image.
    window: [f32; 4],
    flip: bool,
    /// Linear map about the centre.
    linear: [f32; 6],
    displacement: Option<Vec<f32>>,
}

impl Map {
    fn identity(side: usize) -> Self {
        Self {
            window: [0.0, 0.0, side as f32, side as f32],
            flip: false,
            linear: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            displacement: None,
        }
    }

    fn sample(&self, input: &[f32], output: &mut [f32], side: usize) {
        let plane = side * side;
        let full = side as f32;
        let centre = (full - 1.0) / 2.0;
        let [a, b, c, d, e, f] = self.linear;
        let [left, top, width, height] = self.window;
        for y in 0..side {
            for x in 0..side {
                let at = y * side + x;
                let (mut px, mut py) = (x as f32 - centre, y as f32 - centre);
                if let Some(field) = &self.displacement {
                    px += field[at];
                    py += field[plane + at];
                }
                let (mut qx, qy) = (a * px + b * py + c + centre, d * px + e * py + f + centre);
                // Half of a pixel's weight is outside when its centre is half a pixel out: as if black surrounded it.
                let coverage = cover(qx, full) * cover(qy, full);
                if coverage == 0.0 {
                    output.iter_mut().skip(at).step_by(plane).for_each(|level| *level = 0.0);
                    continue;
                }
                if self.flip {
                    qx = full - 1.0 - qx;
                }
                let (x0, x1, wx) = neighbours(left, width, qx, full, side);
                let (y0, y1, wy) = neighbours(top, height, qy, full, side);
                for (input, output) in input.chunks_exact(plane).zip(output.chunks_exact_mut(plane)) {
                    let upper = input[y0 * side + x0] * (1.0 - wx) + input[y0 * side + x1] * wx;
                    let lower = input[y1 * side + x0] * (1.0 - wx) + input[y1 * side + x1] * wx;
                    output[at] = coverage * (upper * (1.0 - wy) + lower * wy);
                }
            }
        }
    }
}

/// Share of a bilinear sample at `position` that falls on the pixels 0 .. full - 1.
fn cover(position: f32, full: f32) -> f32 {
    (position + 1.0).clamp(0.0, 1.0) * (full - position).clamp(0.0, 1.0)
}

/// The two input pixels next to a position in the window, and the weight of the second. `position` counts pixels of
/// the whole image, whose edges are stretched to the window's; samples do not leave the window.
fn neighbours(start: f32, length: f32, position: f32, full: f32, side: usize) -> (usize, usize, f32) {
    let last = (start + length - 1.0).max(start).min(side as f32 - 1.0);
    let at = (start + (position + 0.5) * (length / full) - 0.5).clamp(start, last);
    let first = at.floor();
    (first as usize, (first as usize + 1).min(side - 1), at - first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(side: usize) -> Vec<f32> {
        (0..3 * side * side)
            .map(|i| ((i * 37 + 11) % 101) as f32 / 100.0)
            .collect()
    }

    fn with(augment: &Augment, side: usize, image: u64, epoch: u32) -> Vec<f32> {
        let mut pixels = picture(side);
        augment.apply(&mut pixels, side, 5, image, epoch);
        pixels
    }

    #[test]
    fn off_changes_nothing_and_draws_depend_on_their_key_alone() {
        assert_eq!(with(&Augment::default(), 9, 0, 0), picture(9));
        let augment = Augment {
            brightness: 0.5,
            ..Augment::default()
        };
        assert_eq!(with(&augment, 9, 3, 1), with(&augment, 9, 3, 1));
        assert_ne!(with(&augment, 9, 3, 1), with(&augment, 9, 3, 2));
        assert_ne!(with(&augment, 9, 3, 1), with(&augment, 9, 4, 1));
    }

    #[test]
    fn flip_mirrors_exactly() {
        let augment = Augment {
            horizontal_flip: 1.0,
            ..Augment::default()
        };
        let (before, after) = (picture(7), with(&augment, 7, 0, 0));
        for row in 0..21 {
            for x in 0..7 {
                assert_eq!(after[row * 7 + x], before[row * 7 + 6 - x]);
            }
        }
    }

    #[test]
    fn flip_happens_as_often_as_asked() {
        // 4,000 draws at 0.3: standard deviation 29, bound 5 of them.
        let augment = Augment {
            horizontal_flip: 0.3,
            ..Augment::default()
        };
        let flipped = (0..4000)
            .filter(|image| with(&augment, 2, *image, 0) != picture(2))
            .count();
        assert!((flipped as i64 - 1200).abs() < 145, "{flipped}");
    }

    /// Maps written out for a known rotation and shift, checked where they hit pixels exactly.
    #[test]
    fn quarter_turn_and_shift_move_pixels_exactly() {
        let side = 5;
        let input = &picture(side)[..25];
        // Forward: rotation by 90 degrees maps (x, y) to (-y, x); its inverse maps output (x, y) to input (y, -x).
        let mut map = Map::identity(side);
        map.linear = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0];
        let mut output = vec![0.0; 25];
        map.sample(input, &mut output, side);
        for y in 0..side {
            for x in 0..side {
                assert_eq!(output[y * side + x], input[(4 - x) * side + y]);
            }
        }
        // A shift by (1, 0): column 0 becomes black.
        map.linear = [1.0, 0.0, -1.0, 0.0, 1.0, 0.0];
        map.sample(input, &mut output, side);
        for y in 0..side {
            assert_eq!(output[y * side], 0.0);
            assert_eq!(output[y * side + 1..][..4], input[y * side..][..4]);
        }
    }

    #[test]
    fn affine_inverse_undoes_the_forward_map() {
        let affine = Affine {
            degrees: 40.0,
            translate: 0.2,
            scale: [0.7, 1.5],
            shear: 20.0,
        };
        for image in 0..20 {
            let stream = || Stream::new(1, Purpose::Augmentation, image, 0, 0, Change::Affine as u32);
            let [a, b, c, d, e, f] = affine.draw(&mut stream(), 40);
            let mut draws = stream();
            let angle = between(&mut draws, -40.0, 40.0).to_radians();
            let shift = [
                between(&mut draws, -8.0, 8.0).round(),
                between(&mut draws, -8.0, 8.0).round(),
            ];
            let scale = between(&mut draws, 0.7, 1.5);
            let shear = between(&mut draws, -20.0, 20.0).to_radians().tan();
            let (x, y) = (7.0, -11.0);
            let (sx, sy) = (x - shear * y, y);
            let forward = [
                scale * (angle.cos() * sx - angle.sin() * sy) + shift[0],
                scale * (angle.sin() * sx + angle.cos() * sy) + shift[1],
            ];
            // f32 with values up to 30 and a condition number below 4.
            assert!((a * forward[0] + b * forward[1] + c - x).abs() < 1e-4);
            assert!((d * forward[0] + e * forward[1] + f - y).abs() < 1e-4);
        }
    }

    #[test]
    fn whole_window_is_the_identity_and_a_quarter_window_is_upsampled() {
        let augment = Augment {
            random_resized_crop: Some(RandomResizedCrop {
                scale: [1.0, 1.0],
                ratio: [1.0, 1.0],
            }),
            ..Augment::default()
        };
        let (before, after) = (picture(8), with(&augment, 8, 0, 0));
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-6));
        // Windows of a constant image stay constant: no black creeps in at their edges.
        let augment = Augment {
            random_resized_crop: Some(RandomResizedCrop::default()),
            ..Augment::default()
        };
        let mut flat = vec![0.5; 3 * 64];
        augment.apply(&mut flat, 8, 1, 2, 3);
        assert!(flat.iter().all(|level| (level - 0.5).abs() < 1e-6), "{flat:?}");
    }

    #[test]
    fn elastic_field_has_the_spread_of_its_definition() {
        // A field uniform on [-1, 1] has variance 1/3; blurring by a 2-D Gaussian multiplies it by 1/(4 pi sigma^2),
        // away from the edges, where reflection repeats values. 40 inner fields (20 of x, 20 of y) of 48 x 48 with
        // about 48 * 48 / (4 pi sigma^2) = 46 independent patches each: relative standard error sqrt(2 / 1840) = 3.3 %;
        // bound 5.
        let elastic = Elastic {
            alpha: 10.0,
            sigma: 2.0,
        };
        let mut sum = 0.0;
        for image in 0..20 {
            let mut stream = Stream::new(0, Purpose::Augmentation, image, 0, 0, 0);
            let field = elastic.draw(&mut stream, 64);
            let inner = |row: usize| &field[row * 64 + 8..][..48];
            sum += (0..128)
                .filter(|row| (8..56).contains(&(row % 64)))
                .flat_map(inner)
                .map(|v| f64::from(v * v))
                .sum::<f64>();
        }
        let variance = sum / (40.0 * 48.0 * 48.0);
        let expected = 25.0 / 3.0 / (4.0 * std::f64::consts::PI * 4.0);
        assert!(
            (variance / expected - 1.0).abs() < 0.165,
            "{variance} against {expected}"
        );
        // Blurs wider than the image are reflected as often as needed.
        assert!(
            Elastic { alpha: 1.0, sigma: 5.0 }
                .draw(&mut Stream::new(0, Purpose::Augmentation, 0, 0, 0, 0), 3)
                .iter()
                .all(|v| v.is_finite())
        );
    }

    #[test]
    fn contrast_keeps_the_mean_and_levels_stay_in_range() {
        let augment = Augment {
            contrast: 0.5,
            ..Augment::default()
        };
        let mut pixels: Vec<f32> = picture(8).iter().map(|v| 0.4 + 0.2 * v).collect();
        let before = mean_luminance(&pixels, 64);
        augment.apply(&mut pixels, 8, 3, 4, 5);
        assert!((mean_luminance(&pixels, 64) - before).abs() < 1e-6);
        let augment = Augment {
            contrast: 1.0,
            brightness: 1.0,
            ..Augment::default()
        };
        for image in 0..20 {
            assert!(
                with(&augment, 8, image, 0)
                    .iter()
                    .all(|level| (0.0..=1.0).contains(level))
            );
        }
    }

    #[test]
    fn switching_one_change_on_leaves_the_others_draws() {
        let flip = Augment {
            horizontal_flip: 0.5,
            ..Augment::default()
        };
        let both = Augment {
            horizontal_flip: 0.5,
            affine: Some(Affine::default()),
            ..Augment::default()
        };
        for image in 0..20 {
            assert_eq!(with(&flip, 6, image, 0), with(&both, 6, image, 0));
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        assert!(Augment::default().validate().is_ok());
        assert!(
            Augment {
                horizontal_flip: 1.5,
                ..Augment::default()
            }
            .validate()
            .is_err()
        );
        assert!(
            Augment {
                brightness: f32::NAN,
                ..Augment::default()
            }
            .validate()
            .is_err()
        );
        let elastic = Some(Elastic { alpha: 1.0, sigma: 0.0 });
        assert!(
            Augment {
                elastic,
                ..Augment::default()
            }
            .validate()
            .is_err()
        );
        let affine = Some(Affine {
            scale: [1.2, 0.8],
            ..Affine::default()
        });
        assert!(
            Augment {
                affine,
                ..Augment::default()
            }
            .validate()
            .is_err()
        );
    }
}
