//! A window of a picture at the size that training or evaluation needs it: only what the window needs is decoded.

use super::{Decoder, Header, Picture, Pixels, guarded};
use crate::data::DataError;
use crate::data::resize::{Axis, Rule, fitted};
use std::path::Path;

/// Which part of a picture is wanted, and at what size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Left, top, width and height in whole pixels of the picture: as it is shown where `upright`, otherwise
    /// as it is stored. Pixels outside play no part.
    pub(crate) window: [usize; 4],
    /// Width and height that the window is resized to.
    pub(crate) size: (usize, usize),
    /// Left, top, width and height of the part of the resized window that is wanted.
    pub(crate) cut: [usize; 4],
    /// 1 or 3.
    pub(crate) channels: usize,
    /// Whether the picture is turned and mirrored as its EXIF or XMP data say.
    pub(crate) upright: bool,
}

/// Decodes a window of the content of `file` and resizes it as Pillow does, antialiased and bilinear: the same bytes. Of
/// a JPEG whose components come in one scan, damage below the window goes unnoticed.
pub(crate) fn decode_view(decoder: &mut Decoder, file: &Path, bytes: &[u8], view: &View) -> Result<Pixels, DataError> {
    guarded(file, || {
        let picture = Picture::open(file, bytes)?;
        let mut header = picture.header();
        if !view.upright {
            header.orientation = 1;
        }
        view.check(header)?;
        let turn = Turn::of(header.orientation);
        let [left, top, width, height] = view.window;
        let axis = |from: usize, to: usize, start: usize, length: usize| Axis {
            from,
            to,
            wanted: start..start + length,
        };
        let across = axis(width, view.size.0, view.cut[0], view.cut[2]);
        let down = axis(height, view.size.1, view.cut[1], view.cut[3]);
        let [columns, rows] = decoder.resizer.plan(&across, &down, Rule::Pillow);
        let needed = [left + columns.start, top + rows.start, columns.len(), rows.len()];
        let stored = turn.stored(needed, header.oriented_size());
        let pixels = match &picture {
            Picture::Jpeg(jpeg) => jpeg.decode(&mut decoder.jpeg, stored)?,
            Picture::Png(png) => png.decode()?.cropped(stored),
        };
        let pixels = turn.applied(pixels);
        // Before resizing where channels are fewer, after where they are more: as Pillow, and with less work.
        let pixels = if view.channels == 1 {
            pixels.with_channels(1)
        } else {
            pixels
        };
        Ok(decoder.resizer.resize(pixels).with_channels(view.channels))
    })
}

impl View {
    /// A window resized to `side` x `side`.
    pub(crate) fn of_window(window: [usize; 4], side: usize, channels: usize, upright: bool) -> Self {
        Self {
            window,
            size: (side, side),
            cut: [0, 0, side, side],
            channels,
            upright,
        }
    }

    /// The centre `side` x `side` of a picture of `width` x `height` pixels whose shorter side is resized to `resize`.
    pub(crate) fn of_centre(
        (width, height): (usize, usize),
        resize: usize,
        side: usize,
        channels: usize,
        upright: bool,
    ) -> Self {
        let [across, down] = fitted(width, height, resize, side);
        Self {
            window: [0, 0, width, height],
            size: (across.to, down.to),
            cut: [across.wanted.start, down.wanted.start, side, side],
            channels,
            upright,
        }
    }

    fn check(&self, header: Header) -> Result<(), DataError> {
        let within = |option: &'static str, [left, top, width, height]: [usize; 4], (whole_width, whole_height)| {
            let inside = |start: usize, length: usize, whole: usize| {
                length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
            };
            if inside(left, width, whole_width) && inside(top, height, whole_height) {
                return Ok(());
            }
            let what = format!("[{left}, {top}, {width}, {height}] given, of {whole_width} x {whole_height} pixels");
            Err(DataError::option(option, what))
        };
        within("window", self.window, header.oriented_size())?;
        within("cut", self.cut, self.size)
    }
}

/// What an orientation of 1 to 8 does to a stored picture.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    /// Rows become columns, after the rest.
    transposed: bool,
    /// The first stored column comes last.
    mirrored: bool,
    /// The first stored row comes last.
    upside_down: bool,
}

impl Turn {
    pub(super) fn of(orientation: u8) -> Self {
        Self {
            transposed: orientation > 4,
            mirrored: matches!(orientation, 2 | 3 | 7 | 8),
            upside_down: matches!(orientation, 3 | 4 | 6 | 7),
        }
    }

    /// Width and height as shown of those stored, and the other way round.
    fn size(self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.transposed {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Where a rectangle of a picture of the shown size `whole` is stored.
    fn stored(self, [left, top, width, height]: [usize; 4], whole: (usize, usize)) -> [usize; 4] {
        let whole = self.size(whole);
        let (left, top) = self.size((left, top));
        let (width, height) = self.size((width, height));
        let left = if self.mirrored { whole.0 - left - width } else { left };
        let top = if self.upside_down { whole.1 - top - height } else { top };
        [left, top, width, height]
    }

    /// The picture as it is shown.
    pub(super) fn applied(self, pixels: Pixels) -> Pixels {
        if !(self.transposed || self.mirrored || self.upside_down) {
            return pixels;
        }
        let (width, height) = self.size((pixels.width, pixels.height));
        let mut data = Vec::with_capacity(pixels.data.len());
        for y in 0..height {
            for x in 0..width {
                let (x, y) = self.size((x, y));
                let x = if self.mirrored { pixels.width - 1 - x } else { x };
                let y = if self.upside_down { pixels.height - 1 - y } else { y };
                let at = (y * pixels.width + x) * pixels.channels;
                data.extend_from_slice(&pixels.data[at..at + pixels.channels]);
            }
        }
        Pixels {
            width,
            height,
            data,
            ..pixels
        }
    }
}
