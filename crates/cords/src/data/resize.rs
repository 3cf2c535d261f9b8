//! Resizing the shorter side and cropping the centre square, channel by channel output.
//!
//! The filter is the antialiased triangle ("bilinear") of Pillow and torchvision; levels differ from theirs by at most
//! 2 of 255, since the arithmetic is rounded at other places.

use super::DataError;
use super::decode::Pixels;
use super::image_set::Window;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer};

/// Resizes so that the shorter side is `resize`, crops the centre `side` x `side`, and returns [C, side, side].
/// `side` must not exceed `resize`.
pub(crate) fn fit(resizer: &mut Resizer, pixels: Pixels, resize: usize, side: usize) -> Result<Vec<u8>, DataError> {
    let (width, height) = fitted_size(pixels.width, pixels.height, resize);
    let Pixels { channels, .. } = pixels;
    let data = if (width, height) == (pixels.width, pixels.height) {
        pixels.data
    } else {
        let whole = [0, 0, pixels.width, pixels.height];
        resized(resizer, &pixels, whole, [width, height])?.data
    };
    let (top, left) = (crop_start(height, side), crop_start(width, side));
    let mut out = Vec::with_capacity(channels * side * side);
    for channel in 0..channels {
        for row in top..top + side {
            let from = (row * width + left) * channels + channel;
            out.extend(data[from..].iter().step_by(channels).take(side));
        }
    }
    Ok(out)
}

/// Shrinks an image so that its longer side is `longest`.
pub(crate) fn shrink(resizer: &mut Resizer, pixels: Pixels, longest: usize) -> Result<Pixels, DataError> {
    let scale = |length: usize, other: usize| (length * longest + other / 2) / other;
    let (width, height) = (pixels.width, pixels.height);
    let size = match width >= height {
        true => [longest, scale(height, width).max(1)],
        false => [scale(width, height).max(1), longest],
    };
    resized(resizer, &pixels, [0, 0, width, height], size)
}

/// A window of an image, resized to `[channels, side, side]`.
pub(crate) fn window(
    resizer: &mut Resizer,
    pixels: &Pixels,
    window: Window,
    side: usize,
) -> Result<Vec<u8>, DataError> {
    let Pixels { channels, data, .. } = resized(resizer, pixels, window, [side, side])?;
    let mut out = Vec::with_capacity(data.len());
    for channel in 0..channels {
        out.extend(data[channel..].iter().step_by(channels));
    }
    Ok(out)
}

/// The same of an image whose channels lie one after the other, `[channels, height, width]`.
pub(crate) fn window_of_planes(
    resizer: &mut Resizer,
    planes: &[u8],
    [width, height]: [usize; 2],
    window: Window,
    side: usize,
) -> Result<Vec<u8>, DataError> {
    let mut out = Vec::new();
    for plane in planes.chunks_exact(width * height) {
        let pixels = Pixels {
            width,
            height,
            channels: 1,
            data: plane.to_vec(),
        };
        out.extend(resized(resizer, &pixels, window, [side, side])?.data);
    }
    Ok(out)
}

/// A window of an image, resized.
fn resized(
    resizer: &mut Resizer,
    pixels: &Pixels,
    [left, top, wide, high]: Window,
    [width, height]: [usize; 2],
) -> Result<Pixels, DataError> {
    let fail = |what: String| DataError::option("resize", what);
    let channels = pixels.channels;
    let kind = if channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let source = ImageRef::new(pixels.width as u32, pixels.height as u32, &pixels.data, kind)
        .map_err(|error| fail(error.to_string()))?;
    let mut target = Image::new(width as u32, height as u32, kind);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left as f64, top as f64, wide as f64, high as f64);
    let resized = match channels {
        1 => convolve::<U8>(resizer, &source, &mut target, &options),
        _ => convolve::<U8x3>(resizer, &source, &mut target, &options),
    };
    resized.map_err(|error| fail(error.to_string()))?;
    Ok(Pixels {
        width,
        height,
        channels,
        data: target.into_vec(),
    })
}

/// Resizes pixels of one type. `Resizer::resize` finds the type by itself and so is compiled for all thirteen, which is
/// much code.
fn convolve<P: PixelTrait>(
    resizer: &mut Resizer,
    source: &ImageRef<'_>,
    target: &mut Image<'_>,
    options: &ResizeOptions,
) -> Result<(), ResizeError> {
    match (source.typed_image::<P>(), target.typed_image_mut::<P>()) {
        (Some(source), Some(mut target)) => resizer.resize_typed(&source, &mut target, Some(options)),
        _ => Err(ResizeError::PixelTypesAreDifferent),
    }
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
