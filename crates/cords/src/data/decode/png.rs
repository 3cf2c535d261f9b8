//! PNG, by the crate `image`.

use super::{Header, PNG, Pixels, check_room, exif};
use crate::data::DataError;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// A PNG whose header was read.
pub(super) struct Png<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    width: usize,
    height: usize,
    /// Bits of a sample.
    depth: u8,
    /// Bit 1: palette; bit 2: colour; bit 4: alpha.
    kind: u8,
}

/// Deflate makes at most so many bytes of one.
const LARGEST_RATIO: u64 = 1032;

impl<'a> Png<'a> {
    pub(super) fn open(file: &'a Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        let damaged = |what: String| DataError::damaged(file, bytes.len() as u64, what);
        let Some((b"IHDR", &[w3, w2, w1, w0, h3, h2, h1, h0, depth, kind, ..])) = Chunks::of(bytes).next() else {
            return Err(damaged("damaged or truncated PNG (no header)".to_owned()));
        };
        // The decoder takes palettes of any length, and panics at those that are not whole.
        let palette = Chunks::of(bytes).find(|(name, _)| *name == b"PLTE");
        if let Some((_, palette)) = palette
            && (palette.is_empty() || palette.len() > 768 || !palette.len().is_multiple_of(3))
        {
            let length = palette.len();
            let what = format!("damaged PNG (a palette of {length} bytes; it must be 3 for each of 1 to 256 colours)");
            return Err(damaged(what));
        }
        Ok(Self {
            file,
            bytes,
            width: u32::from_be_bytes([w3, w2, w1, w0]) as usize,
            height: u32::from_be_bytes([h3, h2, h1, h0]) as usize,
            depth,
            kind,
        })
    }

    /// Samples of a pixel in the file.
    fn samples(&self) -> u64 {
        match self.kind {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        }
    }

    pub(super) fn header(&self) -> Header {
        let exif = Chunks::of(self.bytes).find(|(name, _)| *name == b"eXIf");
        Header {
            width: self.width,
            height: self.height,
            channels: if self.kind & 2 == 0 { 1 } else { 3 },
            orientation: exif::orientation(exif.map(|(_, tiff)| tiff), None),
        }
    }

    pub(super) fn decode(&self) -> Result<Pixels, DataError> {
        let (width, height) = (self.width as u64, self.height as u64);
        let pixels = width.saturating_mul(height);
        let row = width.saturating_mul(self.samples() * u64::from(self.depth)).div_ceil(8);
        let unpacked = row.saturating_mul(height);
        if unpacked / LARGEST_RATIO > self.bytes.len() as u64 {
            let what = format!(
                "damaged PNG ({} bytes cannot hold the {width} x {height} pixels that its header tells of)",
                self.bytes.len()
            );
            return Err(DataError::damaged(self.file, self.bytes.len() as u64, what));
        }
        // As the file has it, with palettes expanded, and as bytes of three channels.
        let palette = if self.kind & 1 == 1 { 4 } else { 0 };
        check_room(self.file, unpacked.saturating_add(pixels.saturating_mul(palette + 3)))?;
        let mut reader = ImageReader::with_format(Cursor::new(self.bytes), ImageFormat::Png);
        let mut limits = Limits::default();
        // What stands beside the pixels in the file may unpack to so much; the pixels were looked at.
        const BESIDE: u64 = 64 << 20;
        limits.max_alloc = Some(pixels.saturating_mul(16).saturating_add(BESIDE));
        reader.limits(limits);
        let image = reader.decode().map_err(|error| {
            let what = format!("damaged or truncated PNG ({error})");
            DataError::damaged(self.file, self.bytes.len() as u64, what)
        })?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let upper = |values: &[u16], channels: usize| -> Vec<u8> {
            let colours = values.chunks_exact(channels).flat_map(|pixel| &pixel[..3]);
            colours.map(|value| (value >> 8) as u8).collect()
        };
        let (channels, data) = match image {
            DynamicImage::ImageLuma8(_)
            | DynamicImage::ImageLuma16(_)
            | DynamicImage::ImageLumaA8(_)
            | DynamicImage::ImageLumaA16(_) => (1, image.into_luma8().into_raw()),
            DynamicImage::ImageRgb16(image) => (3, upper(image.as_raw(), 3)),
            DynamicImage::ImageRgba16(image) => (3, upper(image.as_raw(), 4)),
            _ => (3, image.into_rgb8().into_raw()),
        };
        Ok(Pixels {
            width,
            height,
            channels,
            data,
        })
    }
}

/// The chunks of a PNG before its pixels: name and content.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes.get(PNG.len()..).unwrap_or(&[]),
        }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_first_chunk::<4>()?;
        let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        // Past the checksum.
        self.rest = rest.get(4..).unwrap_or(&[]);
        (name != b"IDAT").then_some((name, content))
    }
}
