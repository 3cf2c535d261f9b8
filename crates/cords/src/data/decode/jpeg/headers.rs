//! What a JPEG says before its pixels: frame, tables, colours, orientation.

use super::huffman::Table;

/// Marker of the start of a scan.
pub(super) const SCAN: u8 = 0xDA;
/// Marker of the end of the image.
pub(super) const END: u8 = 0xD9;
/// Marker of quantisation tables.
const QUANTISATION: u8 = 0xDB;
/// Marker of Huffman tables.
const HUFFMAN: u8 = 0xC4;
/// Marker of the restart interval.
const RESTART_INTERVAL: u8 = 0xDD;
/// Marker of EXIF and XMP.
const APP1: u8 = 0xE1;

/// Where the value of each place of the zigzag order lies in a block, row by row. A run may lead up to 15 places beyond
/// the last.
pub(super) const ZIGZAG: [u8; 80] = {
    let mut order = [63; 80];
    let (mut row, mut column, mut place) = (0usize, 0usize, 0);
    while place < 64 {
        order[place] = (row * 8 + column) as u8;
        let up = (row + column) % 2 == 0;
        (row, column) = match (up, row, column) {
            (true, _, 7) => (row + 1, 7),
            (true, 0, _) => (0, column + 1),
            (true, ..) => (row - 1, column + 1),
            (false, 7, _) => (7, column + 1),
            (false, _, 0) => (row + 1, 0),
            (false, ..) => (row + 1, column - 1),
        };
        place += 1;
    }
    order
};

/// The segments of a JPEG from a place on, up to the first scan or the end of the image, that one included: marker, and
/// content without its length. [`Segments::at`] is where the next begins.
pub(super) struct Segments<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    ended: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn from(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
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
            self.ended = marker == SCAN || marker == END;
            if marker == END {
                return Some((END, &[]));
            }
            let length = bytes.get(self.at..self.at + 2)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            // None where the length does not count itself, or leads out of the file.
            let body = bytes.get(self.at + 2..self.at + length)?;
            self.at += length;
            return Some((marker, body));
        }
        None
    }
}

/// A component of the frame.
#[derive(Clone, Copy)]
pub(super) struct Component {
    pub(super) name: u8,
    /// Sampling factors, across and down.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Number of its quantisation table.
    pub(super) quantisation: usize,
}

/// How the components stand for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
    /// Inks, as 255 minus their amount, as Adobe writes them and PIL takes them.
    Cmyk,
    /// The same with luminance and chrominance for the first three.
    Ycck,
}

/// The frame header with what stands before and beside it.
pub(super) struct Frame<'a> {
    /// Number of the start-of-frame marker: 0 and 1 sequential, 2 progressive, others rare.
    pub(super) kind: u8,
    /// Bits of a sample.
    precision: u8,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
    /// Components in the first scan.
    first_scan: usize,
    jfif: bool,
    /// The colour transform that an Adobe segment names.
    adobe: Option<u8>,
    /// TIFF structure of the first EXIF segment.
    pub(super) exif: Option<&'a [u8]>,
    /// Text of the first XMP segment.
    pub(super) xmp: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// Reads the segments up to the first scan. `None` where there is no frame or no scan.
    pub(super) fn find(bytes: &'a [u8]) -> Option<Self> {
        let mut frame: Option<Self> = None;
        let (mut jfif, mut adobe, mut exif, mut xmp) = (false, None, None, None);
        for (marker, body) in Segments::from(bytes, 2) {
            match marker {
                0xE0 if body.len() >= 12 && body.starts_with(b"JFIF\0") => jfif = true,
                0xEE if body.len() >= 12 && body.starts_with(b"Adobe") => adobe = Some(body[11]),
                APP1 => {
                    exif = exif.or(body.strip_prefix(b"Exif\0\0"));
                    xmp = xmp.or(body.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0"));
                }
                // Start of frame; C4, C8 and CC are tables and extensions.
                0xC0..=0xCF if ![HUFFMAN, 0xC8, 0xCC].contains(&marker) && frame.is_none() => {
                    frame = Some(Self::of_segment(marker & 0x0F, body)?);
                }
                SCAN => {
                    let frame = frame?;
                    let first_scan = usize::from(*body.first()?);
                    return Some(Self {
                        first_scan,
                        jfif,
                        adobe,
                        exif,
                        xmp,
                        ..frame
                    });
                }
                END => return None,
                _ => {}
            }
        }
        None
    }

    fn of_segment(kind: u8, body: &[u8]) -> Option<Self> {
        let [precision, h1, h0, w1, w0, count, rest @ ..] = body else {
            return None;
        };
        let component = |entry: &[u8]| Component {
            name: entry[0],
            across: usize::from(entry[1] >> 4),
            down: usize::from(entry[1] & 15),
            quantisation: usize::from(entry[2]),
        };
        if rest.len() != 3 * usize::from(*count) {
            return None;
        }
        Some(Self {
            kind,
            precision: *precision,
            width: usize::from(u16::from_be_bytes([*w1, *w0])),
            height: usize::from(u16::from_be_bytes([*h1, *h0])),
            components: rest.chunks_exact(3).map(component).collect(),
            first_scan: 0,
            jfif: false,
            adobe: None,
            exif: None,
            xmp: None,
        })
    }

    /// Why it is not read, where that is known from its headers.
    pub(super) fn not_read(&self) -> Option<String> {
        // As large as any decoder reads them.
        const LARGEST: usize = 1 << 14;
        let sampling = |component: &Component| {
            let (across, down) = self.largest_sampling();
            let whole = |largest: usize, own: usize| (1..=4).contains(&own) && largest.is_multiple_of(own);
            whole(across, component.across) && whole(down, component.down)
        };
        match (self.kind, self.precision) {
            (3, _) => Some("a lossless JPEG".to_owned()),
            (5..=7, _) => Some("a hierarchical JPEG".to_owned()),
            (9..=15, _) => Some("a JPEG with arithmetic coding".to_owned()),
            (_, bits) if bits != 8 => Some(format!("a JPEG with {bits} bits a sample")),
            _ if self.width > LARGEST || self.height > LARGEST => Some(format!(
                "a JPEG of {} x {} pixels (sides up to {LARGEST} are read)",
                self.width, self.height
            )),
            _ if !matches!(self.components.len(), 1 | 3 | 4) => {
                Some(format!("a JPEG of {} components", self.components.len()))
            }
            _ if !self.components.iter().all(sampling) => {
                Some("a JPEG whose components' sampling factors do not divide each other".to_owned())
            }
            _ => None,
        }
    }

    /// Whether coefficients must be kept until the last scan.
    pub(super) fn has_several_scans(&self) -> bool {
        self.kind == 2 || self.first_scan < self.components.len()
    }

    pub(super) fn is_progressive(&self) -> bool {
        self.kind == 2
    }

    /// The largest sampling factors, across and down.
    pub(super) fn largest_sampling(&self) -> (usize, usize) {
        let largest = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        (largest(|c| c.across), largest(|c| c.down))
    }

    /// As libjpeg takes them.
    pub(super) fn colours(&self) -> Colours {
        let names: Vec<u8> = self.components.iter().map(|component| component.name).collect();
        match (self.components.len(), self.jfif, self.adobe) {
            (1, ..) => Colours::Grey,
            (3, true, _) => Colours::YCbCr,
            (3, false, Some(0)) => Colours::Rgb,
            (3, false, None) if names == *b"RGB" => Colours::Rgb,
            (3, ..) => Colours::YCbCr,
            (_, _, None | Some(0)) => Colours::Cmyk,
            _ => Colours::Ycck,
        }
    }
}

/// Tables that segments define, each for all scans after it.
#[derive(Clone, Default)]
pub(super) struct Tables {
    /// In the order of a block, row by row.
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Table>; 4],
    pub(super) ac: [Option<Table>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart_interval: usize,
}

impl Tables {
    /// Takes up a segment; others than tables say nothing. `None` where it is damaged.
    pub(super) fn define(&mut self, marker: u8, body: &[u8]) -> Option<()> {
        match marker {
            QUANTISATION => self.define_quantisation(body),
            HUFFMAN => self.define_huffman(body),
            RESTART_INTERVAL => {
                self.restart_interval = usize::from(u16::from_be_bytes(body.try_into().ok()?));
                Some(())
            }
            _ => Some(()),
        }
    }

    fn define_quantisation(&mut self, mut body: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = body {
            let (wide, number) = (usize::from(head >> 4), usize::from(head & 15));
            let bytes = rest.get(..64 << wide)?;
            let mut values = [0; 64];
            for (place, &at) in ZIGZAG[..64].iter().enumerate() {
                values[usize::from(at)] = match wide {
                    0 => u16::from(bytes[place]),
                    1 => u16::from_be_bytes([bytes[2 * place], bytes[2 * place + 1]]),
                    _ => return None,
                };
            }
            *self.quantisation.get_mut(number)? = Some(values);
            body = &rest[64 << wide..];
        }
        Some(())
    }

    fn define_huffman(&mut self, mut body: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = body {
            let counts = rest.first_chunk::<16>()?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let symbols = rest.get(16..16 + total)?;
            let table = Table::new(counts, symbols)?;
            match head >> 4 {
                // A difference has at most 15 bits.
                0 if symbols.iter().all(|&symbol| symbol < 16) => {
                    *self.dc.get_mut(usize::from(head & 15))? = Some(table);
                }
                1 => *self.ac.get_mut(usize::from(head & 15))? = Some(table),
                _ => return None,
            }
            body = &rest[16 + total..];
        }
        Some(())
    }
}

/// A scan header.
pub(super) struct Scan {
    /// Index of each component in the frame, with the numbers of its DC and AC tables.
    pub(super) components: Vec<(usize, usize, usize)>,
    /// First and last place of the zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bit of the previous and of this scan.
    pub(super) high: u32,
    pub(super) low: u32,
}

impl Scan {
    /// `None` where it does not fit the frame.
    pub(super) fn of_segment(body: &[u8], frame: &Frame<'_>) -> Option<Self> {
        let count = usize::from(*body.first()?);
        let entries = body.get(1..1 + 2 * count)?;
        let [first, last, bits] = body.get(1 + 2 * count..)?.try_into().ok()?;
        let component = |entry: &[u8]| {
            let index = frame.components.iter().position(|one| one.name == entry[0])?;
            Some((index, usize::from(entry[1] >> 4), usize::from(entry[1] & 15)))
        };
        let components: Vec<_> = entries.chunks_exact(2).map(component).collect::<Option<_>>()?;
        let once = (1..components.len()).all(|i| components[..i].iter().all(|one| one.0 != components[i].0));
        let scan = Self {
            components,
            first: usize::from(first),
            last: usize::from(last),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        let sound = if frame.is_progressive() {
            let places = match scan.first {
                0 => scan.last == 0,
                first => first <= scan.last && scan.last < 64 && scan.components.len() == 1,
            };
            places && scan.low <= 13 && (scan.high == 0 || scan.high == scan.low + 1)
        } else {
            // Of a scan of all components the rest is not looked at, as some programs write nonsense there.
            scan.components.len() == frame.components.len() || (first, last, bits) == (0, 63, 0)
        };
        (once && sound && (1..=4).contains(&count)).then_some(scan)
    }
}
