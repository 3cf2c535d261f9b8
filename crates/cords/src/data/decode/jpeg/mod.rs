//! JPEG: sequential and progressive, 8 bits a sample, with the same pixels as libjpeg (and so PIL) to the bit.
//!
//! A decoder of its own, because none of the crates decodes a part without the whole, and Huffman codes are two thirds
//! of the work. Of a sequential file the rows below the wanted part are not read, and beside and above it codes are
//! only passed over. `docs/design/decoding.md` has the figures.

mod colour;
mod headers;
mod huffman;
mod idct;
mod scan;

use super::{Header, Pixels, check_room, exif};
use crate::data::DataError;
use crate::device::vectorised;
use colour::{Line, Plane};
use headers::{END, Frame, SCAN, Scan, Segments, Tables};
use idct::Block;
use scan::{Damage, Reader, Unstuffed, tables_of};
use std::path::Path;

/// Buffers that decoding one image after another uses again.
#[derive(Default)]
pub(super) struct Scratch {
    unstuffed: Unstuffed,
    samples: [Vec<u8>; 4],
    lines: [Line; 4],
}

/// A JPEG whose headers were read and are of a kind that can be decoded.
pub(super) struct Jpeg<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    frame: Frame<'a>,
}

/// A part of the image: left, top, width, height in pixels.
type Rectangle = [usize; 4];

/// Where a component's blocks lie.
struct Layout {
    /// Blocks of the whole component, whole MCUs, across and down.
    blocks: (usize, usize),
    /// Blocks that have samples, across and down.
    own: (usize, usize),
    /// Blocks of an MCU, across and down.
    unit: (usize, usize),
}

/// Samples of a block's side.
const SIZE: usize = 8;

/// MCUs that are wanted, across and down.
struct Wanted {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl<'a> Jpeg<'a> {
    pub(super) fn open(file: &'a Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        let length = bytes.len() as u64;
        let damaged = |what: &str| DataError::damaged(file, length, format!("damaged or truncated JPEG ({what})"));
        let mut frame = Frame::find(bytes).ok_or_else(|| damaged("no frame header, or no pixel data"))?;
        if let Some(what) = frame.not_read() {
            return Err(DataError::Unsupported {
                file: file.to_owned(),
                what,
            });
        }
        if frame.width == 0 || frame.height == 0 {
            return Err(damaged("an image without pixels"));
        }
        // Of a single component the sampling factors say nothing.
        if let [only] = &mut frame.components[..] {
            (only.across, only.down) = (1, 1);
        }
        Ok(Self { file, bytes, frame })
    }

    pub(super) fn width(&self) -> usize {
        self.frame.width
    }

    pub(super) fn height(&self) -> usize {
        self.frame.height
    }

    fn channels(&self) -> usize {
        if self.frame.components.len() == 1 { 1 } else { 3 }
    }

    pub(super) fn header(&self) -> Header {
        Header {
            width: self.frame.width,
            height: self.frame.height,
            channels: self.channels(),
            orientation: exif::orientation(self.frame.exif, self.frame.xmp),
        }
    }

    /// Decodes a part of the image. Whether the file is sound is only looked at as far as it is read, to its end where
    /// the part is the whole.
    pub(super) fn decode(&self, scratch: &mut Scratch, part: Rectangle) -> Result<Pixels, DataError> {
        let samples = self.frame.width as u64 * self.frame.height as u64 * self.frame.components.len() as u64;
        // Coefficients of 2 bytes, samples and the result.
        check_room(self.file, 4 * samples)?;
        let damage = |what: Damage| {
            DataError::damaged(
                self.file,
                self.bytes.len() as u64,
                format!("damaged or truncated JPEG ({what})"),
            )
        };
        let planes = vectorised(|| self.planes(scratch, part)).map_err(damage)?;
        let mut data = Vec::new();
        vectorised(|| colour::pixels(&planes, self.frame.colours(), part, &mut scratch.lines, &mut data));
        for (buffer, plane) in scratch.samples.iter_mut().zip(planes) {
            *buffer = plane.samples;
        }
        Ok(Pixels {
            width: part[2],
            height: part[3],
            channels: self.channels(),
            data,
        })
    }

    #[inline(always)]
    fn planes(&self, scratch: &mut Scratch, part: Rectangle) -> Result<Vec<Plane>, Damage> {
        let layouts = self.layouts();
        let wanted = self.wanted(part);
        let mut planes: Vec<Plane> = Vec::with_capacity(layouts.len());
        let (across, down) = self.frame.largest_sampling();
        for (layout, samples) in layouts.iter().zip(&mut scratch.samples) {
            let stride = wanted.columns.len() * layout.unit.0 * SIZE;
            let of = |whole: usize, unit: usize, largest: usize| (whole * unit).div_ceil(largest);
            // What an earlier image left there is written over.
            let mut samples = std::mem::take(samples);
            samples.resize(stride * wanted.rows.len() * layout.unit.1 * SIZE, 0);
            planes.push(Plane {
                samples,
                stride,
                left: wanted.columns.start * layout.unit.0 * SIZE,
                top: wanted.rows.start * layout.unit.1 * SIZE,
                width: of(self.frame.width, layout.unit.0, across),
                height: of(self.frame.height, layout.unit.1, down),
                across: across / layout.unit.0,
                down: down / layout.unit.1,
                smooth: false,
            });
        }
        for plane in &mut planes {
            plane.smooth = match (plane.across, plane.down) {
                (2, 1 | 2) => plane.width > 2,
                (1, 2) => true,
                _ => false,
            };
        }
        if self.frame.has_several_scans() {
            self.decode_several_scans(scratch, &layouts, &wanted, &mut planes)?;
        } else {
            self.decode_one_scan(scratch, &layouts, &wanted, &mut planes)?;
        }
        Ok(planes)
    }

    fn layouts(&self) -> Vec<Layout> {
        let (across, down) = self.frame.largest_sampling();
        let units = (
            self.frame.width.div_ceil(8 * across),
            self.frame.height.div_ceil(8 * down),
        );
        let layout = |component: &headers::Component| Layout {
            blocks: (units.0 * component.across, units.1 * component.down),
            own: (
                (self.frame.width * component.across).div_ceil(8 * across),
                (self.frame.height * component.down).div_ceil(8 * down),
            ),
            unit: (component.across, component.down),
        };
        self.frame.components.iter().map(layout).collect()
    }

    /// The MCUs that a part needs, with those of neighbours from which samples are interpolated.
    fn wanted(&self, [left, top, width, height]: Rectangle) -> Wanted {
        let (across, down) = self.frame.largest_sampling();
        let range = |start: usize, length: usize, sampling: usize, whole: usize| {
            let margin = if sampling > 1 { sampling } else { 0 };
            let unit = sampling * SIZE;
            let units = whole.div_ceil(8 * sampling);
            start.saturating_sub(margin) / unit..(start + length + margin).div_ceil(unit).min(units)
        };
        Wanted {
            columns: range(left, width, across, self.frame.width),
            rows: range(top, height, down, self.frame.height),
        }
    }

    /// Segments up to the next scan, whose header and data are returned.
    fn next_scan(&self, segments: &mut Segments<'a>, tables: &mut Tables) -> Result<Option<Scan>, Damage> {
        for (marker, body) in segments {
            match marker {
                SCAN => {
                    let scan = Scan::of_segment(body, &self.frame);
                    return scan.map(Some).ok_or("a scan header that does not fit the frame");
                }
                END => return Ok(None),
                _ => tables.define(marker, body).ok_or("tables that are not whole")?,
            }
        }
        Err("no end-of-image marker")
    }

    /// A sequential scan of all components: samples at once.
    #[inline(always)]
    fn decode_one_scan(
        &self,
        scratch: &mut Scratch,
        layouts: &[Layout],
        wanted: &Wanted,
        planes: &mut [Plane],
    ) -> Result<(), Damage> {
        let mut tables = Tables::default();
        let mut segments = Segments::from(self.bytes, 2);
        let scan = self.next_scan(&mut segments, &mut tables)?.ok_or("no pixel data")?;
        let data = self.bytes.get(segments.at..).unwrap_or(&[]);
        scratch.unstuffed.fill(data).ok_or("no end-of-image marker")?;
        let mut reader = Reader::new(&scratch.unstuffed, tables.restart_interval);
        let mut coded = Vec::with_capacity(4);
        for &(index, dc, ac) in &scan.components {
            let (Some(dc), Some(ac)) = tables_of(&tables, dc, ac) else {
                return Err("a Huffman table is missing");
            };
            let number = self.frame.components[index].quantisation;
            let quantisation = tables.quantisation.get(number).and_then(Option::as_ref);
            coded.push((index, (dc, ac), quantisation.ok_or("a quantisation table is missing")?));
        }
        let (columns, rows) = (
            layouts[0].blocks.0 / layouts[0].unit.0,
            layouts[0].blocks.1 / layouts[0].unit.1,
        );
        for row in 0..wanted.rows.end {
            for column in 0..columns {
                reader.next_unit()?;
                let skipped = row < wanted.rows.start || !wanted.columns.contains(&column);
                for &(index, huffman, quantisation) in &coded {
                    let Layout { unit, .. } = layouts[index];
                    if skipped {
                        for _ in 0..unit.0 * unit.1 {
                            reader.pass_over(huffman, index)?;
                        }
                        continue;
                    }
                    let plane = &mut planes[index];
                    for y in 0..unit.1 {
                        for x in 0..unit.0 {
                            let mut block: Block = [0; 64];
                            let last = reader.block(huffman, index, &mut block)?;
                            let x = ((column - wanted.columns.start) * unit.0 + x) * SIZE;
                            let y = ((row - wanted.rows.start) * unit.1 + y) * SIZE;
                            let out = &mut plane.samples[y * plane.stride + x..];
                            samples(&block, last, quantisation, out, plane.stride);
                        }
                    }
                }
            }
            reader.check()?;
        }
        if wanted.rows.end == rows {
            reader.finish()?;
        }
        Ok(())
    }

    /// Progressive files, and those whose components come in scans of their own: all coefficients, then samples.
    fn decode_several_scans(
        &self,
        scratch: &mut Scratch,
        layouts: &[Layout],
        wanted: &Wanted,
        planes: &mut [Plane],
    ) -> Result<(), Damage> {
        // Files have up to a dozen; each costs a pass over the whole image.
        const MOST_SCANS: usize = 200;
        let mut coefficients: Vec<Vec<Block>> = layouts
            .iter()
            .map(|layout| vec![[0; 64]; layout.blocks.0 * layout.blocks.1])
            .collect();
        let mut tables = Tables::default();
        let mut quantisation: [Option<[u16; 64]>; 4] = [None; 4];
        let mut segments = Segments::from(self.bytes, 2);
        let mut scans = 0;
        while let Some(scan) = self.next_scan(&mut segments, &mut tables)? {
            scans += 1;
            if scans > MOST_SCANS {
                return Err("more scans than any program writes");
            }
            let data = self.bytes.get(segments.at..).unwrap_or(&[]);
            let length = scratch.unstuffed.fill(data).ok_or("no end-of-image marker")?;
            segments = Segments::from(self.bytes, segments.at + length);
            // A component has the table that stood there at its first scan.
            for &(index, ..) in &scan.components {
                let number = self.frame.components[index].quantisation;
                quantisation[index] = quantisation[index].or(tables.quantisation.get(number).copied().flatten());
            }
            let mut reader = Reader::new(&scratch.unstuffed, tables.restart_interval);
            self.read_scan(&mut reader, &scan, &tables, layouts, &mut coefficients)?;
            reader.finish()?;
        }
        for (index, (layout, plane)) in layouts.iter().zip(planes).enumerate() {
            let quantisation = quantisation[index].ok_or("a component without pixel data")?;
            let Layout { unit, .. } = *layout;
            for y in wanted.rows.start * unit.1..wanted.rows.end * unit.1 {
                for x in wanted.columns.start * unit.0..wanted.columns.end * unit.0 {
                    let block = &coefficients[index][y * layout.blocks.0 + x];
                    let (x, y) = (x * SIZE - plane.left, y * SIZE - plane.top);
                    let out = &mut plane.samples[y * plane.stride + x..];
                    samples(block, 63, &quantisation, out, plane.stride);
                }
            }
        }
        Ok(())
    }

    fn read_scan(
        &self,
        reader: &mut Reader<'_>,
        scan: &Scan,
        tables: &Tables,
        layouts: &[Layout],
        coefficients: &mut [Vec<Block>],
    ) -> Result<(), Damage> {
        const MISSING: Damage = "a Huffman table is missing";
        let progressive = self.frame.is_progressive();
        let read = |reader: &mut Reader<'_>, (index, dc, ac): (usize, usize, usize), block: &mut Block| {
            let (dc, ac) = tables_of(tables, dc, ac);
            match (progressive, scan.first, scan.high) {
                (false, ..) => {
                    let both = (dc.ok_or(MISSING)?, ac.ok_or(MISSING)?);
                    block.fill(0);
                    reader.block(both, index, block).map(|_| ())
                }
                (true, 0, _) => reader.first(scan, dc, index, block),
                (true, _, 0) => reader.others(scan, ac.ok_or(MISSING)?, block),
                (true, ..) => reader.refine(scan, ac.ok_or(MISSING)?, block),
            }
        };
        if let [only] = scan.components[..] {
            // Blocks of a scan of its own come row by row, without those that fill up MCUs.
            let layout = &layouts[only.0];
            for y in 0..layout.own.1 {
                for x in 0..layout.own.0 {
                    reader.next_unit()?;
                    read(reader, only, &mut coefficients[only.0][y * layout.blocks.0 + x])?;
                }
                reader.check()?;
            }
            return Ok(());
        }
        let units = (
            layouts[0].blocks.0 / layouts[0].unit.0,
            layouts[0].blocks.1 / layouts[0].unit.1,
        );
        for row in 0..units.1 {
            for column in 0..units.0 {
                reader.next_unit()?;
                for &component in &scan.components {
                    let Layout { unit, blocks, .. } = layouts[component.0];
                    for y in row * unit.1..(row + 1) * unit.1 {
                        for x in column * unit.0..(column + 1) * unit.0 {
                            read(reader, component, &mut coefficients[component.0][y * blocks.0 + x])?;
                        }
                    }
                }
            }
            reader.check()?;
        }
        Ok(())
    }
}

/// Writes the samples of a block. `last` is the last place of the zigzag order that may be other than zero.
#[inline(always)]
fn samples(block: &Block, last: usize, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    match last {
        0 => idct::flat(block[0], quantisation, out, stride),
        _ => idct::full(block, last, quantisation, out, stride),
    }
}
