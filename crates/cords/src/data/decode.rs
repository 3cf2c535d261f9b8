//! JPEG and PNG files to 8-bit pixels, refusing damaged files.
//!
//! The format is told by the content, not by the name. Grey images stay grey; palettes are expanded; an alpha channel
//! is dropped, not composed; 16-bit PNG is rounded to 8 bits; CMYK JPEG becomes RGB; orientation tags are ignored.
//! JPEG has no checksums: changed bits that still decode go unnoticed, as in every decoder.

use super::DataError;
use image::{DynamicImage, ImageFormat};
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

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
}

/// Decodes the content of `file`.
pub(crate) fn decode(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    if bytes.starts_with(&[0xFF, 0xD8]) {
        decode_jpeg(file, bytes)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        decode_png(file, bytes)
    } else {
        let found = match bytes {
            [] => "the file is empty".to_owned(),
            [b'G', b'I', b'F', b'8', ..] => "it is a GIF".to_owned(),
            [b'R', b'I', b'F', b'F', ..] => "it is a WebP or another RIFF file".to_owned(),
            [b'B', b'M', ..] => "it is a BMP".to_owned(),
            _ => format!("it begins with bytes {:02x?}", &bytes[..bytes.len().min(4)]),
        };
        Err(DataError::NotAnImage {
            file: file.to_owned(),
            found,
        })
    }
}

fn decode_png(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let image = image::load_from_memory_with_format(bytes, ImageFormat::Png)
        .map_err(|error| DataError::damaged(file, bytes.len() as u64, format!("damaged or truncated PNG ({error})")))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let grey = matches!(
        image,
        DynamicImage::ImageLuma8(_)
            | DynamicImage::ImageLuma16(_)
            | DynamicImage::ImageLumaA8(_)
            | DynamicImage::ImageLumaA16(_)
    );
    let (channels, data) = if grey {
        (1, image.into_luma8().into_raw())
    } else {
        (3, image.into_rgb8().into_raw())
    };
    Ok(Pixels {
        width,
        height,
        channels,
        data,
    })
}

fn decode_jpeg(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    // The decoder fills what a truncated file lacks with grey, even in its strict mode within the last row of blocks.
    if !ends_properly(bytes) {
        return Err(DataError::damaged(
            file,
            bytes.len() as u64,
            "truncated JPEG (no end-of-image marker)",
        ));
    }
    let damaged = |error: zune_jpeg::errors::DecodeErrors| {
        DataError::damaged(file, bytes.len() as u64, format!("damaged JPEG ({error:?})"))
    };
    let open = |strict: bool| {
        let options = DecoderOptions::default()
            .set_strict_mode(strict)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map(|()| decoder)
    };
    // Padding between header segments breaks the standard but not the image: only the pixel data is held to it.
    let mut decoder = open(true).or_else(|_| open(false)).map_err(damaged)?;
    let channels = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => 1,
        _ => 3,
    };
    if channels == 1 {
        decoder.set_options(decoder.options().jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    let info = decoder
        .info()
        .ok_or_else(|| DataError::damaged(file, 0, "damaged JPEG (no frame header)"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let mut data = vec![0; width * height * channels];
    decoder.decode_into(&mut data).map_err(damaged)?;
    Ok(Pixels {
        width,
        height,
        channels,
        data,
    })
}

/// Whether an end-of-image marker follows the start of the (first) scan. Segments before the scan are stepped over,
/// since an embedded preview has markers of its own.
fn ends_properly(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xDA;
    const END: [u8; 2] = [0xFF, 0xD9];
    let mut at = 2;
    loop {
        // Bytes before a marker, and repeated FF, are padding.
        while at < bytes.len() && bytes[at] != 0xFF {
            at += 1;
        }
        while at < bytes.len() && bytes[at] == 0xFF {
            at += 1;
        }
        let Some(&marker) = bytes.get(at) else { return false };
        at += 1;
        if marker == SCAN {
            return bytes[at..].windows(2).any(|pair| pair == END);
        }
        // Markers without a segment: stuffing, temporary, restart and start of image.
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let Some(length) = bytes.get(at..at + 2) else {
            return false;
        };
        at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
    }
}
