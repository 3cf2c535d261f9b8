//! A window of a picture at the size that training or evaluation needs it: only what the window needs is decoded.

use super::{Decoder, Header, Picture, Pixels, guarded};
use crate::data::DataError;
use crate::data::resize::{Axis, Rule, fitted};
use std::path::Path;

/// Which part of a picture is wanted, and at what size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Left, top, width and height in whole pixels of the picture: as it is shown where `apply_orientation`, otherwise
    /// as it is stored. Pixels outside play no part.
    pub(crate) window: [usize; 4],
    /// Width and height that the window is resized to.
    pub(crate) size: (usize, usize),
    /// Left, top, width and height of the part of the resized window that is wanted.
    pub(crate) cut: [usize; 4],
    /// 1 or 3.
    pub(crate) channels: usize,
    /// Whether the picture is turned and mirrored as its EXIF or XMP data say.
    pub(crate) apply_orientation: bool,
}

/// Decodes a window of the content of `file` and resizes it as Pillow does, antialiased and bilinear: the same bytes,
/// but of a JPEG that is shrunk by 6 or more both ways, which is decoded at a half, a quarter or an eighth of its size
/// first: 0.4 levels from Pillow's in the mean of photographs, 0.7 at most. Of a JPEG whose components come in one
/// scan, damage below the window goes unnoticed.
pub(crate) fn decode_view(decoder: &mut Decoder, file: &Path, bytes: &[u8], view: &View) -> Result<Pixels, DataError> {
    guarded(file, || {
        let picture = Picture::open(file, bytes)?;
        let mut header = picture.header();
        if !view.apply_orientation {
            header.orientation = 1;
        }
        view.check(header)?;
        let eighths = match picture {
            Picture::Jpeg(_) => view.eighths(),
            Picture::Png(_) => 8,
        };
        let turn = Turn::of(header.orientation);
        // The picture, and the window in it, as decoded and shown.
        let [left, top, width, height] = view.window;
        let whole = turn.size((
            (header.width * eighths).div_ceil(8),
            (header.height * eighths).div_ceil(8),
        ));
        let (x, across) = axis(left, width, whole.0, eighths, view.size.0, (view.cut[0], view.cut[2]));
        let (y, down) = axis(top, height, whole.1, eighths, view.size.1, (view.cut[1], view.cut[3]));
        let [columns, rows] = decoder.resizer.plan(&across, &down, Rule::Pillow);
        let needed = [x + columns.start, y + rows.start, columns.len(), rows.len()];
        let stored = turn.stored(needed, whole);
        let pixels = match &picture {
            Picture::Jpeg(jpeg) => jpeg.decode(&mut decoder.jpeg, stored, eighths)?,
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
    pub(crate) fn of_window(window: [usize; 4], side: usize, channels: usize) -> Self {
        Self {
            window,
            size: (side, side),
            cut: [0, 0, side, side],
            channels,
            apply_orientation: false,
        }
    }

    /// The centre `side` x `side` of a picture of `width` x `height` pixels whose shorter side is resized to `resize`.
    pub(crate) fn of_centre((width, height): (usize, usize), resize: usize, side: usize, channels: usize) -> Self {
        let [across, down] = fitted(width, height, resize, side);
        Self {
            window: [0, 0, width, height],
            size: (across.to, down.to),
            cut: [across.wanted.start, down.wanted.start, side, side],
            channels,
            apply_orientation: false,
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

    /// The size that a JPEG is decoded at, in eighths: one from which is still shrunk by [`REST`] or more.
    fn eighths(&self) -> usize {
        let [_, _, width, height] = self.window;
        let shrunk = |by: usize| width / by >= self.size.0 && height / by >= self.size.1;
        [8, 4, 2]
            .into_iter()
            .find(|&by| shrunk(REST * by))
            .map_or(8, |by| 8 / by)
    }
}

/// The inverse transform to a smaller block cuts frequencies off, where averaging lets them fade. The less is left to
/// average, the more it shows: of photographs decoded at half their size and shrunk to a third of it, 0.35 levels in
/// the mean (0.7 in the worst of 40); to a half, 0.7 (1.6); not at all, 2.9 (6.3).
const REST: usize = 3;

/// How a window of `length` pixels from `start` on is resized once the picture, then of `whole` pixels, is decoded at
/// `eighths` eighths of its size: the first pixel that it reaches into, and the rest from there.
fn axis(
    start: usize,
    length: usize,
    whole: usize,
    eighths: usize,
    to: usize,
    (cut_start, cut_length): (usize, usize),
) -> (usize, Axis) {
    let first = start * eighths / 8;
    let last = ((start + length) * eighths).div_ceil(8).min(whole);
    let place = |at: usize| (at * eighths) as f64 / 8.0 - first as f64;
    let axis = Axis {
        from: last - first,
        part: (place(start), place(start + length)),
        to,
        wanted: cut_start..cut_start + cut_length,
    };
    (first, axis)
}

/// What an orientation of 1 to 8 does to a stored picture.
#[derive(Clone, Copy)]
struct Turn {
    /// Rows become columns, after the rest.
    transposed: bool,
    /// The first stored column comes last.
    mirrored: bool,
    /// The first stored row comes last.
    upside_down: bool,
}

impl Turn {
    fn of(orientation: u8) -> Self {
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
    fn applied(self, pixels: Pixels) -> Pixels {
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
