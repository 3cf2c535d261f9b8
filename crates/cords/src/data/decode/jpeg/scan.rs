//! Entropy-coded data: from a scan's bits to coefficients.

use super::headers::{Scan, Tables, ZIGZAG};
use super::huffman::{Bits, Table};
use super::idct::Block;

/// Why a scan cannot be decoded.
pub(super) type Damage = &'static str;

const NO_CODE: Damage = "a Huffman code that its tables do not have";
const BEYOND: Damage = "a block with more than 64 coefficients";

/// A scan's data without stuffing, with the bounds of its restart intervals.
#[derive(Default)]
pub(super) struct Unstuffed {
    pub(super) bytes: Vec<u8>,
    /// Where each interval begins and ends in `bytes`.
    intervals: Vec<(usize, usize)>,
}

impl Unstuffed {
    /// Takes up the data at the beginning of `bytes`, and returns where the marker after it begins; `None` where there
    /// is none.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> Option<usize> {
        self.bytes.clear();
        self.intervals.clear();
        self.bytes.reserve(bytes.len());
        let mut start = 0;
        let mut at = 0;
        loop {
            let run = memchr::memchr(0xFF, &bytes[at..])?;
            self.bytes.extend_from_slice(&bytes[at..at + run]);
            let marker = at + run;
            at = marker;
            // Repeated FF is padding.
            while *bytes.get(at)? == 0xFF {
                at += 1;
            }
            match bytes[at] {
                0 => self.bytes.push(0xFF),
                0xD0..=0xD7 => {
                    self.intervals.push((start, self.bytes.len()));
                    start = self.bytes.len();
                }
                _ => {
                    self.intervals.push((start, self.bytes.len()));
                    return Some(marker);
                }
            }
            at += 1;
        }
    }
}

/// Reads a scan's MCUs one after another and watches restart intervals.
pub(super) struct Reader<'a> {
    unstuffed: &'a Unstuffed,
    bits: Bits<'a>,
    interval: usize,
    /// MCUs that an interval has.
    length: usize,
    /// MCUs to come in this interval.
    left: usize,
    /// The last first coefficient of each component.
    predictions: [i32; 4],
    /// Blocks to come that have no further coefficients.
    empty: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(unstuffed: &'a Unstuffed, restart_interval: usize) -> Self {
        let length = if restart_interval == 0 {
            usize::MAX
        } else {
            restart_interval
        };
        Self {
            unstuffed,
            bits: Bits::new(&unstuffed.bytes, 0),
            interval: 0,
            length,
            left: length,
            predictions: [0; 4],
            empty: 0,
        }
    }

    /// To be called before every MCU.
    #[inline(always)]
    pub(super) fn next_unit(&mut self) -> Result<(), Damage> {
        if self.left == 0 {
            self.restart()?;
        }
        self.left -= 1;
        Ok(())
    }

    #[cold]
    fn restart(&mut self) -> Result<(), Damage> {
        self.check_end(true)?;
        self.interval += 1;
        let intervals = &self.unstuffed.intervals;
        let &(start, _) = intervals.get(self.interval).ok_or("a restart marker is missing")?;
        self.bits = Bits::new(&self.unstuffed.bytes, start);
        self.left = self.length;
        self.predictions = [0; 4];
        self.empty = 0;
        Ok(())
    }

    /// Whether no more bits were read than the interval has, and where `whole`, no byte is left over.
    fn check_end(&self, whole: bool) -> Result<(), Damage> {
        let (_, end) = self.unstuffed.intervals[self.interval];
        let used = self.bits.position().div_ceil(8);
        if used > end {
            return Err("pixel data that ends too early");
        }
        if whole && used < end {
            return Err("more pixel data than pixels");
        }
        Ok(())
    }

    /// To be called now and then: data that ends too early reads as zeros.
    pub(super) fn check(&self) -> Result<(), Damage> {
        self.check_end(false)
    }

    /// To be called after the last MCU of a scan.
    pub(super) fn finish(&self) -> Result<(), Damage> {
        self.check_end(false)?;
        if self.interval + 1 < self.unstuffed.intervals.len() {
            return Err("more restart markers than its header says");
        }
        Ok(())
    }

    #[inline(always)]
    fn difference(&mut self, table: &Table, component: usize) -> Result<i32, Damage> {
        let coded = self.bits.coded(table).ok_or(NO_CODE)?;
        let value = self.predictions[component].wrapping_add(coded.value);
        self.predictions[component] = value;
        Ok(value)
    }

    /// A block of a sequential scan; `block` is zero before. Returns the last place that may be other than zero.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        (dc, ac): (&Table, &Table),
        component: usize,
        block: &mut Block,
    ) -> Result<usize, Damage> {
        block[0] = self.difference(dc, component)? as i16;
        let mut last = 0;
        self.coefficients(ac, |place, value| {
            last = place;
            block[usize::from(ZIGZAG[place])] = value as i16;
        })?;
        Ok(last)
    }

    /// As [`Reader::block`] for a block that is not wanted.
    #[inline(always)]
    pub(super) fn pass_over(&mut self, (dc, ac): (&Table, &Table), component: usize) -> Result<(), Damage> {
        self.difference(dc, component)?;
        self.coefficients(ac, |_, _| {})
    }

    /// Calls `found` with the place, in zigzag order and up to 15 beyond the last, and the value of each coefficient of a
    /// sequential scan but the first.
    #[inline(always)]
    fn coefficients(&mut self, ac: &Table, mut found: impl FnMut(usize, i32)) -> Result<(), Damage> {
        // A copy, which the compiler keeps in registers.
        let mut bits = self.bits.clone();
        let mut place = 1;
        while place < 64 {
            let coded = match bits.coded_at_once(ac) {
                Ok(coded) => coded,
                Err(entry) => {
                    let coded = bits.coded_in_steps(ac, entry).ok_or(NO_CODE)?;
                    match coded.symbol {
                        0 => break,
                        0xF0 => {
                            place += 16;
                            continue;
                        }
                        symbol if symbol & 15 == 0 => return Err(NO_CODE),
                        _ => coded,
                    }
                }
            };
            place += usize::from(coded.symbol >> 4);
            found(place, coded.value);
            place += 1;
        }
        self.bits = bits;
        if place > 64 { Err(BEYOND) } else { Ok(()) }
    }

    /// First coefficients of a progressive scan.
    pub(super) fn first(
        &mut self,
        scan: &Scan,
        dc: Option<&Table>,
        component: usize,
        block: &mut Block,
    ) -> Result<(), Damage> {
        if scan.high > 0 {
            block[0] |= (self.bits.take(1) << scan.low) as i16;
            return Ok(());
        }
        let value = self.difference(dc.ok_or(NO_CODE)?, component)?;
        block[0] = (value << scan.low) as i16;
        Ok(())
    }

    /// The other coefficients of a progressive scan, for the first time.
    pub(super) fn others(&mut self, scan: &Scan, ac: &Table, block: &mut Block) -> Result<(), Damage> {
        if self.empty > 0 {
            self.empty -= 1;
            return Ok(());
        }
        let mut place = scan.first;
        while place <= scan.last {
            let symbol = self.bits.symbol(ac).ok_or(NO_CODE)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    self.empty = self.run_of_empty(run as u32) - 1;
                    return Ok(());
                }
                place += 16;
                continue;
            }
            place += run;
            let bits = self.bits.take(size);
            let value = super::huffman::extend(bits, size);
            block[usize::from(ZIGZAG[place])] = (value << scan.low) as i16;
            place += 1;
        }
        if place > scan.last + 1 { Err(BEYOND) } else { Ok(()) }
    }

    /// Number of blocks, this one included, that have nothing more.
    fn run_of_empty(&mut self, size: u32) -> u32 {
        (1 << size) + self.bits.take(size)
    }

    /// One more bit of the other coefficients.
    pub(super) fn refine(&mut self, scan: &Scan, ac: &Table, block: &mut Block) -> Result<(), Damage> {
        let bit = 1i16 << scan.low;
        let mut place = scan.first;
        if self.empty == 0 {
            while place <= scan.last {
                let symbol = self.bits.symbol(ac).ok_or(NO_CODE)?;
                let (mut run, size) = (symbol >> 4, symbol & 15);
                let mut value = 0;
                match (size, run) {
                    (0, 15) => {}
                    (0, _) => {
                        self.empty = self.run_of_empty(u32::from(run));
                        break;
                    }
                    (1, _) => value = if self.bits.take(1) == 1 { bit } else { -bit },
                    _ => return Err("a correction of more than one bit"),
                }
                // Past `run` coefficients that are zero so far, correcting those that are not.
                while place <= scan.last {
                    let one = &mut block[usize::from(ZIGZAG[place])];
                    if *one != 0 {
                        Self::correct(&mut self.bits, one, bit);
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    place += 1;
                }
                if value != 0 {
                    if place > scan.last {
                        return Err(BEYOND);
                    }
                    block[usize::from(ZIGZAG[place])] = value;
                }
                place += 1;
            }
        }
        if self.empty > 0 {
            for &at in ZIGZAG.get(place..=scan.last).unwrap_or(&[]) {
                let one = &mut block[usize::from(at)];
                if *one != 0 {
                    Self::correct(&mut self.bits, one, bit);
                }
            }
            self.empty -= 1;
        }
        Ok(())
    }

    fn correct(bits: &mut Bits, value: &mut i16, bit: i16) {
        if bits.take(1) == 1 && *value & bit == 0 {
            *value = value.wrapping_add(if *value >= 0 { bit } else { -bit });
        }
    }
}

/// The tables that a component of a scan names.
pub(super) fn tables_of(tables: &Tables, dc: usize, ac: usize) -> (Option<&Table>, Option<&Table>) {
    (
        tables.dc.get(dc).and_then(Option::as_ref),
        tables.ac.get(ac).and_then(Option::as_ref),
    )
}
