//! JPEG and PNG files to 8-bit pixels, refusing damaged files.
//!
//! The format is told by the content, not by the name. Pixels are those of PIL's `Image.open(file).convert("RGB")`: of
//! JPEG to the bit, CMYK included; palettes are expanded; an alpha channel is dropped, not composed; of 16-bit colour
//! the upper 8 bits are taken. Otherwise than there, grey images stay grey, and 16-bit grey is rounded to 8 bits (PIL
//! cuts it off at 255). Orientation tags are heeded where that is asked for. Of an animated PNG the picture
//! that stands for it is read. JPEG has no checksums: changed bits that still decode go unnoticed, as in every decoder.

mod exif;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;
mod view;

use view::Turn;
pub(crate) use view::{View, decode_view};

use super::DataError;
use super::resize::Resizer;
use dynvis_base::{guard, memory};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg::Jpeg;
use png::Png;
use std::path::Path;

/// 8-bit pixels, channel fastest ([height, width, channels]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub(crate) channels: usize,
    pub(crate) data: Vec<u8>,
}

impl Pixels {
    /// The same image with 1 or 3 channels: grey is repeated; colour becomes luminance with the weights of
    /// ITU-R BT.601 (0.299, 0.587, 0.114), rounded.
    pub(crate) fn with_channels(self, channels: usize) -> Self {
        let data = match (self.channels, channels) {
            (1, 3) => self.data.iter().flat_map(|level| [*level; 3]).collect(),
            (3, 1) => {
                let weigh = |p: &[u8]| {
                    (19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 32768) >> 16
                };
                self.data.chunks_exact(3).map(|pixel| weigh(pixel) as u8).collect()
            }
            _ => return self,
        };
        Self { channels, data, ..self }
    }

    /// The rectangle of `width` x `height` pixels at (left, top).
    pub(crate) fn cropped(self, [left, top, width, height]: [usize; 4]) -> Self {
        if (width, height) == (self.width, self.height) {
            return self;
        }
        let rows = self
            .data
            .chunks_exact(self.width * self.channels)
            .skip(top)
            .take(height);
        let data = rows
            .flat_map(|row| &row[left * self.channels..][..width * self.channels])
            .copied()
            .collect();
        Self {
            width,
            height,
            channels: self.channels,
            data,
        }
    }

    /// Channel after channel: [channels, height, width].
    pub(crate) fn into_planes(self) -> Vec<u8> {
        if self.channels == 1 {
            return self.data;
        }
        let plane = |channel: usize| self.data.iter().skip(channel).step_by(self.channels);
        (0..self.channels).flat_map(plane).copied().collect()
    }
}

/// First bytes of a PNG file.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Whether a file that begins so is a JPEG or PNG.
pub(super) fn is_image(head: &[u8]) -> bool {
    head.starts_with(&[0xFF, 0xD8, 0xFF]) || head.starts_with(PNG)
}

/// What kind of picture a file is that begins so and is neither JPEG nor PNG.
pub(super) fn other_picture(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'G', b'I', b'F', b'8', ..] => Some("a GIF"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("a WebP image"),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("a BMP"),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some("a TIFF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => Some("an AVIF image"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', ..] => Some("an HEIC image"),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => Some("a JPEG 2000 image"),
        [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] | [0xFF, 0x0A, ..] => Some("a JPEG XL image"),
        _ => None,
    }
}

/// What a file says of its picture before the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Width and height in pixels as they are stored, before any orientation.
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub(crate) channels: usize,
    /// How the stored picture is to be turned and mirrored, by its EXIF or XMP data: 1, upright, to 8.
    pub(crate) orientation: u8,
}

impl Header {
    /// Width and height as the picture is shown once its orientation is applied.
    pub(crate) fn oriented_size(&self) -> (usize, usize) {
        match self.orientation {
            5..=8 => (self.height, self.width),
            _ => (self.width, self.height),
        }
    }
}

/// A file's picture whose headers were read.
enum Picture<'a> {
    Jpeg(Jpeg<'a>),
    Png(Png<'a>),
}

impl<'a> Picture<'a> {
    fn open(file: &'a Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        if bytes.starts_with(&[0xFF, 0xD8]) {
            return Ok(Self::Jpeg(Jpeg::open(file, bytes)?));
        }
        if bytes.starts_with(PNG) {
            return Ok(Self::Png(Png::open(file, bytes)?));
        }
        let found = match (other_picture(bytes), bytes) {
            (_, []) => "the file is empty".to_owned(),
            (Some(kind), _) => format!("it is {kind}"),
            _ => format!("it begins with bytes {:02x?}", &bytes[..bytes.len().min(4)]),
        };
        Err(DataError::NotAnImage {
            file: file.to_owned(),
            found,
        })
    }

    fn header(&self) -> Header {
        match self {
            Self::Jpeg(jpeg) => jpeg.header(),
            Self::Png(png) => png.header(),
        }
    }
}

/// Buffers that decoding one image after another uses again. One a thread.
#[derive(Default)]
pub(crate) struct Decoder {
    jpeg: jpeg::Scratch,
    resizer: Resizer,
}

/// Decodes the content of `file`, turned as its EXIF or XMP data say where `upright`. A decoder that panics has found
/// it damaged.
pub(crate) fn decode(file: &Path, bytes: &[u8], upright: bool) -> Result<Pixels, DataError> {
    guarded(file, || {
        let picture = Picture::open(file, bytes)?;
        let pixels = match &picture {
            Picture::Jpeg(jpeg) => jpeg.decode(&mut jpeg::Scratch::default(), [0, 0, jpeg.width(), jpeg.height()])?,
            Picture::Png(png) => png.decode()?,
        };
        let orientation = if upright { picture.header().orientation } else { 1 };
        Ok(Turn::of(orientation).applied(pixels))
    })
}

/// Encodes pixels as a file of the same kind as `bytes` are: JPEG of quality 95, or PNG.
pub(crate) fn encode_like(bytes: &[u8], pixels: &Pixels) -> Result<Vec<u8>, DataError> {
    const QUALITY: u8 = 95;
    let (width, height) = (pixels.width as u32, pixels.height as u32);
    let colour = match pixels.channels {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    let mut out = Vec::new();
    let encoded = if bytes.starts_with(PNG) {
        PngEncoder::new(&mut out).write_image(&pixels.data, width, height, colour)
    } else {
        JpegEncoder::new_with_quality(&mut out, QUALITY).write_image(&pixels.data, width, height, colour)
    };
    encoded.map_err(|error| DataError::option("max_side", error.to_string()))?;
    Ok(out)
}

fn guarded<T>(file: &Path, decode: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    guard::guard(decode).unwrap_or_else(|panicked| Err(DataError::panicked(file, &panicked)))
}

/// Whether there is memory for an image of so many bytes. Ordinary images are not looked at: the system would be asked
/// for each of a million of them.
fn check_room(file: &Path, bytes: u64) -> Result<(), DataError> {
    const ORDINARY: u64 = 8 << 20;
    if bytes <= ORDINARY {
        return Ok(());
    }
    memory::check_room(bytes).map_err(|no_room| DataError::too_large(file, no_room))
}
