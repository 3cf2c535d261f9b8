//! Scenes as pixels.

use super::stimulus::{PLACES, Scene};
use crate::data::{DataError, ImageSet};

/// A scene without its noise, in pixels of [0, 1]; `[channels, side, side]`. What no image covers has the mean
/// level, as the blank screen does.
///
/// # Errors
/// [`DataError`] where an image cannot be read.
pub(super) fn drawn(scene: &Scene, set: &ImageSet, means: &[f32]) -> Result<Vec<f32>, DataError> {
    let side = set.side();
    let plane = side * side;
    let mut canvas: Vec<f32> = means
        .iter()
        .flat_map(|mean| std::iter::repeat_n(*mean, plane))
        .collect();
    let whole = scene.items.iter().filter(|item| item.place.is_none()).count();
    let contrast = f32::from(scene.contrast) / 1000.0;
    let mut image = vec![0.0; set.image_len()];
    for item in &scene.items {
        set.fill_unit(item.image as usize, &mut image)?;
        for ((canvas, image), mean) in canvas.chunks_exact_mut(plane).zip(image.chunks_exact(plane)).zip(means) {
            match item.place {
                None => {
                    let weight = contrast / whole as f32;
                    canvas
                        .iter_mut()
                        .zip(image)
                        .for_each(|(c, pixel)| *c += weight * (pixel - mean));
                }
                Some(place) => draw_small(canvas, image, side, place, contrast, *mean),
            }
        }
    }
    Ok(canvas)
}

/// Draws one channel of an image at a quarter of its side, at a place of the ring; each pixel is the mean of those that
/// it stands for.
fn draw_small(canvas: &mut [f32], image: &[f32], side: usize, place: u8, contrast: f32, mean: f32) {
    let small = (side / 4).max(1);
    let middle = (side as f64 - small as f64) / 2.0;
    let angle = std::f64::consts::TAU * f64::from(place) / PLACES as f64;
    let left = (middle * (1.0 + angle.cos())).round() as usize;
    let top = (middle * (1.0 - angle.sin())).round() as usize;
    for y in 0..small {
        for x in 0..small {
            let (rows, columns) = (
                y * side / small..(y + 1) * side / small,
                x * side / small..(x + 1) * side / small,
            );
            let count = (rows.len() * columns.len()).max(1);
            let sum: f32 = rows.flat_map(|row| image[row * side..][columns.clone()].iter()).sum();
            canvas[(top + y).min(side - 1) * side + (left + x).min(side - 1)] =
                mean + contrast * (sum / count as f32 - mean);
        }
    }
}
