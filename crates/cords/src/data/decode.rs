//! JPEG and PNG files to 8-bit pixels, refusing damaged files.
//!
//! The format is told by the content, not by the name. Grey images stay grey; palettes are expanded; an alpha channel
//! is dropped, not composed; 16-bit PNG is rounded to 8 bits; CMYK JPEG becomes RGB; orientation tags are ignored; of
//! an animated PNG the picture that stands for it is read. JPEG has no checksums: changed bits that still decode go
//! unnoticed, as in every decoder.

use super::DataError;
use dynvis_base::{guard, memory};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
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

/// Decodes the content of `file`. A decoder that panics has found it damaged.
pub(crate) fn decode(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    if bytes.starts_with(&[0xFF, 0xD8]) {
        guarded(file, || decode_jpeg(file, bytes))
    } else if bytes.starts_with(PNG) {
        guarded(file, || decode_png(file, bytes))
    } else {
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

fn guarded(file: &Path, decode: impl FnOnce() -> Result<Pixels, DataError>) -> Result<Pixels, DataError> {
    guard::guard(decode).unwrap_or_else(|panicked| Err(DataError::panicked(file, &panicked)))
}

/// Whether there is memory for an image of so many bytes on every thread. Ordinary images are not looked at: the system
/// would be asked for each of a million of them.
fn check_room(file: &Path, bytes: u64) -> Result<(), DataError> {
    const ORDINARY: u64 = 8 << 20;
    if bytes <= ORDINARY {
        return Ok(());
    }
    let threads = rayon::current_num_threads() as u64;
    memory::check_room(bytes.saturating_mul(threads)).map_err(|no_room| DataError::too_large(file, no_room))
}

fn decode_png(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    // The header's width and height; a pixel has at most 8 bytes, and the decoder holds it twice.
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u64::from(u32::from_be_bytes(four.try_into().ok()?)))
    };
    let pixels = number(16).unwrap_or(0).saturating_mul(number(20).unwrap_or(0));
    check_room(file, pixels.saturating_mul(16))?;
    // The decoder takes palettes of any length, and panics at those that are not whole.
    if let Some(length) = palette_length(bytes)
        && (length == 0 || length > 768 || !length.is_multiple_of(3))
    {
        let what = format!("damaged PNG (a palette of {length} bytes; it must be 3 for each of 1 to 256 colours)");
        return Err(DataError::damaged(file, bytes.len() as u64, what));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    // What stands beside the pixels in the file may unpack to so much; the pixels were looked at.
    const BESIDE: u64 = 64 << 20;
    limits.max_alloc = Some(pixels.saturating_mul(16).saturating_add(BESIDE));
    reader.limits(limits);
    let image = reader
        .decode()
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

/// Bytes of a PNG's palette.
fn palette_length(bytes: &[u8]) -> Option<usize> {
    let mut at = PNG.len();
    loop {
        let head = bytes.get(at..at + 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        match &head[4..] {
            b"PLTE" => return Some(length),
            b"IDAT" => return None,
            // Length, name and checksum stand around a chunk.
            _ => at = at.checked_add(length)?.checked_add(12)?,
        }
    }
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
    let frame = Frame::find(bytes).ok_or_else(|| DataError::damaged(file, 0, "damaged JPEG (no frame header)"))?;
    if let Some(what) = frame.not_read() {
        return Err(DataError::Unsupported {
            file: file.to_owned(),
            what,
        });
    }
    let samples = frame.width as u64 * frame.height as u64 * frame.components as u64;
    // Coefficients of 2 bytes, samples and the result.
    check_room(file, 4 * samples)?;
    if frame.has_several_scans() {
        return decode_scans(file, bytes, &frame);
    }
    decode_usual(file, bytes)
}

fn decode_usual(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
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

/// Sequential JPEGs whose components come in scans of their own. Of these the usual decoder gives noise without an
/// error where colour is subsampled down the columns (its issue 448) or restart intervals count the blocks of one
/// component, and refuses others that are sound.
fn decode_scans(file: &Path, bytes: &[u8], frame: &Frame) -> Result<Pixels, DataError> {
    let damaged =
        |error: jpeg_decoder::Error| DataError::damaged(file, bytes.len() as u64, format!("damaged JPEG ({error})"));
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let data = decoder.decode().map_err(damaged)?;
    let format = decoder.info().map(|info| info.pixel_format);
    let (channels, data) = match format {
        Some(jpeg_decoder::PixelFormat::L8) => (1, data),
        Some(jpeg_decoder::PixelFormat::RGB24) => (3, data),
        // Inks as 255 minus their amount.
        Some(jpeg_decoder::PixelFormat::CMYK32) => {
            let ink = |pixel: &[u8], at: usize| (u16::from(pixel[at]) * u16::from(pixel[3]) + 127) / 255;
            let pixels = data.chunks_exact(4);
            let rgb = pixels.flat_map(|pixel| [0, 1, 2].map(|at| ink(pixel, at) as u8));
            (3, rgb.collect())
        }
        _ => {
            return Err(DataError::damaged(
                file,
                0,
                "damaged JPEG (samples that are not of 8 bits)",
            ));
        }
    };
    if data.len() != frame.width * frame.height * channels {
        return Err(DataError::damaged(
            file,
            0,
            "damaged JPEG (fewer pixels than its header says)",
        ));
    }
    Ok(Pixels {
        width: frame.width,
        height: frame.height,
        channels,
        data,
    })
}

/// What a JPEG's headers say, as far as it decides who decodes it.
struct Frame {
    /// Number of the start-of-frame marker: 0 and 1 sequential, 2 progressive, others rare.
    kind: u8,
    /// Bits of a sample.
    precision: u8,
    width: usize,
    height: usize,
    components: usize,
    /// Components in the first scan.
    first_scan: usize,
}

impl Frame {
    /// Reads the segments up to the first scan.
    fn find(bytes: &[u8]) -> Option<Self> {
        let mut frame: Option<Self> = None;
        for (marker, body) in Segments::of(bytes) {
            match marker {
                // Start of frame; C4, C8 and CC are tables and extensions.
                0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) && frame.is_none() => {
                    let [precision, h1, h0, w1, w0, count, rest @ ..] = body else {
                        return None;
                    };
                    let components = rest.chunks_exact(3).take(usize::from(*count)).count();
                    frame = Some(Self {
                        kind: marker & 0x0F,
                        precision: *precision,
                        width: usize::from(u16::from_be_bytes([*w1, *w0])),
                        height: usize::from(u16::from_be_bytes([*h1, *h0])),
                        components,
                        first_scan: 0,
                    });
                }
                SCAN => {
                    let mut frame = frame?;
                    frame.first_scan = usize::from(*body.first()?);
                    return Some(frame);
                }
                _ => {}
            }
        }
        None
    }

    /// Why no decoder here reads it, where that is known from its headers.
    fn not_read(&self) -> Option<String> {
        // The decoders' own bound.
        const LARGEST: usize = 1 << 14;
        match (self.kind, self.precision) {
            (3, _) => Some("a lossless JPEG".to_owned()),
            (5..=7, _) => Some("a hierarchical JPEG".to_owned()),
            (9..=15, _) => Some("a JPEG with arithmetic coding".to_owned()),
            (_, bits) if bits != 8 => Some(format!("a JPEG with {bits} bits a sample")),
            _ if self.width > LARGEST || self.height > LARGEST => Some(format!(
                "a JPEG of {} x {} pixels (sides up to {LARGEST} are read)",
                self.width, self.height
            )),
            _ if !matches!(self.components, 1 | 3 | 4) => Some(format!("a JPEG of {} components", self.components)),
            _ => None,
        }
    }

    /// Whether a sequential frame's components come in scans of their own.
    fn has_several_scans(&self) -> bool {
        self.kind <= 1 && self.first_scan < self.components
    }
}

/// Marker of the start of a scan.
const SCAN: u8 = 0xDA;

/// The segments of a JPEG up to the first scan, that one included: marker, and content without its length.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 2,
            ended: false,
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.bytes;
        while !self.ended {
            // Bytes before a marker, and repeated FF, are padding.
            while self.at < bytes.len() && bytes[self.at] != 0xFF {
                self.at += 1;
            }
            while self.at < bytes.len() && bytes[self.at] == 0xFF {
                self.at += 1;
            }
            let marker = *bytes.get(self.at)?;
            self.at += 1;
            // Markers without a segment: stuffing, temporary, restart and start of image.
            if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8) {
                continue;
            }
            self.ended = marker == SCAN;
            let length = bytes.get(self.at..self.at + 2)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            let body = &bytes[(self.at + 2).min(bytes.len())..(self.at + length).min(bytes.len())];
            self.at += length;
            return Some((marker, body));
        }
        None
    }
}

/// Whether an end-of-image marker follows the start of the (first) scan. Segments before the scan are stepped over,
/// since an embedded preview has markers of its own.
fn ends_properly(bytes: &[u8]) -> bool {
    const END: [u8; 2] = [0xFF, 0xD9];
    let mut segments = Segments::of(bytes);
    let scan = segments.by_ref().any(|(marker, _)| marker == SCAN);
    scan && bytes
        .get(segments.at..)
        .is_some_and(|rest| rest.windows(2).any(|pair| pair == END))
}
