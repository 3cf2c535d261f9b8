//! A window of a picture at the size that training or evaluation needs it: only what the window needs is decoded.

use super::{Decoder, Header, Picture, Pixels, guarded};
use crate::data::DataError;
use std::path::Path;

/// Which part of a picture is wanted, and at what size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Left, top, width and height in whole pixels of the picture: as it is shown where `apply_orientation`, otherwise
    /// as it is stored.
    pub(crate) window: [usize; 4],
    /// Width and height of the result.
    pub(crate) size: (usize, usize),
    /// 1 or 3.
    pub(crate) channels: usize,
    /// Whether the picture is turned and mirrored as its EXIF or XMP data say.
    pub(crate) apply_orientation: bool,
}

/// Decodes a window of the content of `file` and resizes it as Pillow does, antialiased and bilinear. A JPEG that is
/// shrunk by 2 or more both ways is decoded at a half, a quarter or an eighth of its size before: a mean of less than
/// one level from what Pillow gives. Of a JPEG whose components come in one scan, damage below the window goes
/// unnoticed.
pub(crate) fn decode_view(decoder: &mut Decoder, file: &Path, bytes: &[u8], view: View) -> Result<Pixels, DataError> {
    guarded(file, || {
        let picture = Picture::open(file, bytes)?;
        let header = match view.apply_orientation {
            true => picture.header(),
            false => Header {
                orientation: 1,
                ..picture.header()
            },
        };
        view.check(header)?;
        let stored = view.stored_window(header);
        let (pixels, part) = match &picture {
            Picture::Jpeg(jpeg) => {
                let eighths = view.eighths();
                let (part, within) = scaled(stored, eighths, (header.width, header.height));
                (jpeg.decode(&mut decoder.jpeg, part, eighths)?, within)
            }
            Picture::Png(png) => {
                let [_, _, width, height] = stored;
                (png.decode()?.cropped(stored), [0.0, 0.0, width as f64, height as f64])
            }
        };
        let (pixels, part) = oriented(pixels, part, header.orientation);
        // Before resizing where channels are fewer, after where they are more: as Pillow, and with less work.
        let pixels = if view.channels == 1 { pixels.with_channels(1) } else { pixels };
        let resized = decoder.resizer.resize(pixels, part, view.size);
        Ok(resized.with_channels(view.channels))
    })
}

impl View {
    fn check(&self, header: Header) -> Result<(), DataError> {
        let [left, top, width, height] = self.window;
        let (whole_width, whole_height) = header.oriented_size();
        let inside = |start: usize, length: usize, whole: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
        };
        if !inside(left, width, whole_width) || !inside(top, height, whole_height) {
            let what = format!("{:?} given, of a picture of {whole_width} x {whole_height} pixels", self.window);
            return Err(DataError::option("window", what));
        }
        if self.size.0 == 0 || self.size.1 == 0 {
            return Err(DataError::option("size", "a picture without pixels was asked for"));
        }
        Ok(())
    }

    /// The window in the picture as it is stored.
    fn stored_window(&self, header: Header) -> [usize; 4] {
        let [mut left, mut top, mut width, mut height] = self.window;
        if header.orientation > 4 {
            (left, top, width, height) = (top, left, height, width);
        }
        // Orientations whose first stored column is shown last, and whose first stored row is.
        if matches!(header.orientation, 2 | 3 | 7 | 8) {
            left = header.width - left - width;
        }
        if matches!(header.orientation, 3 | 4 | 6 | 7) {
            top = header.height - top - height;
        }
        [left, top, width, height]
    }

    /// The size that a JPEG is decoded at, in eighths.
    fn eighths(&self) -> usize {
        let [_, _, width, height] = self.window;
        let shrunk = |by: usize| width >= by * self.size.0 && height >= by * self.size.1;
        [8, 4, 2].into_iter().find(|&by| shrunk(by)).map_or(8, |by| 8 / by)
    }
}

/// The pixels of a picture decoded at `eighths` eighths of its size that a window reaches into, and where among those
/// it lies: left, top, right, bottom.
fn scaled([left, top, width, height]: [usize; 4], eighths: usize, size: (usize, usize)) -> ([usize; 4], [f64; 4]) {
    let first = |at: usize| at * eighths / 8;
    let last = |at: usize, whole: usize| (at * eighths).div_ceil(8).min((whole * eighths).div_ceil(8));
    let place = |at: usize, from: usize| at as f64 * eighths as f64 / 8.0 - from as f64;
    let (x, y) = (first(left), first(top));
    let part = [x, y, last(left + width, size.0) - x, last(top + height, size.1) - y];
    let within = [place(left, x), place(top, y), place(left + width, x), place(top + height, y)];
    (part, within)
}

/// Turned and mirrored as an orientation of 1 to 8 says, with a part of the picture.
fn oriented(pixels: Pixels, [left, top, right, bottom]: [f64; 4], orientation: u8) -> (Pixels, [f64; 4]) {
    if orientation == 1 {
        return (pixels, [left, top, right, bottom]);
    }
    let (transposed, mirrored, upside_down) = (
        orientation > 4,
        matches!(orientation, 2 | 3 | 7 | 8),
        matches!(orientation, 3 | 4 | 6 | 7),
    );
    let Pixels {
        width,
        height,
        channels,
        data,
    } = pixels;
    let across = |at: f64| if mirrored { width as f64 - at } else { at };
    let down = |at: f64| if upside_down { height as f64 - at } else { at };
    let (x, y) = ([across(left), across(right)], [down(top), down(bottom)]);
    let (x, y) = if transposed { (y, x) } else { (x, y) };
    let part = [x[0].min(x[1]), y[0].min(y[1]), x[0].max(x[1]), y[0].max(y[1])];
    let (new_width, new_height) = if transposed { (height, width) } else { (width, height) };
    let mut out = Vec::with_capacity(data.len());
    for y in 0..new_height {
        for x in 0..new_width {
            let (x, y) = if transposed { (y, x) } else { (x, y) };
            let x = if mirrored { width - 1 - x } else { x };
            let y = if upside_down { height - 1 - y } else { y };
            out.extend_from_slice(&data[(y * width + x) * channels..][..channels]);
        }
    }
    let pixels = Pixels {
        width: new_width,
        height: new_height,
        channels,
        data: out,
    };
    (pixels, part)
}
