//! Huffman codes: lookup tables that yield a symbol and its magnitude at once, and the reader of bits.

/// Bits that the table is looked up by. Longer codes, and magnitudes that reach beyond, are read in steps.
const LOOKUP: u32 = 10;

/// A Huffman table of one class (DC or AC).
#[derive(Clone)]
pub(super) struct Table {
    /// By the next [`LOOKUP`] bits: see [`Entry`].
    entries: Vec<Entry>,
    /// The largest code of each length, aligned to 16 bits, plus 1; codes of `length` bits lie below it.
    limits: [u32; 18],
    /// What is added to a code of each length to give the place of its symbol.
    offsets: [i32; 17],
    symbols: [u8; 256],
}

/// What the next bits say: bits 0 to 7 the length of code and magnitude together, bits 8 to 15 the symbol, bits 16 to 31
/// the value. Length 0: the code is longer than the table. [`WITHOUT_VALUE`] added to the length: the code alone is
/// known.
#[derive(Clone, Copy, Default)]
struct Entry(u32);

const WITHOUT_VALUE: u32 = 0x80;

/// A symbol with the value of its magnitude bits.
#[derive(Clone, Copy)]
pub(super) struct Coded {
    pub(super) symbol: u8,
    pub(super) value: i32,
}

impl Table {
    /// From the numbers of codes of 1 to 16 bits and the symbols in the order of their codes. `None` where those are no
    /// prefix code.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut all = [0; 256];
        all.get_mut(..symbols.len())?.copy_from_slice(symbols);
        let mut table = Self {
            entries: vec![Entry::default(); 1 << LOOKUP],
            limits: [0; 18],
            offsets: [0; 17],
            symbols: all,
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                if code >= 1 << length {
                    return None;
                }
                table.enter(code, length, *symbols.get(place)?);
                code += 1;
                place += 1;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        // Longer codes there are none: whatever is left is not a code.
        table.limits[17] = u32::MAX;
        (place == symbols.len()).then_some(table)
    }

    /// Enters a code at all places of the lookup that begin with it.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        if length > LOOKUP {
            return;
        }
        let size = u32::from(symbol & 15);
        let spare = LOOKUP - length;
        for rest in 0..1u32 << spare {
            let entry = if size <= spare {
                let bits = rest >> (spare - size);
                let value = extend(bits, size) as u32;
                value << 16 | u32::from(symbol) << 8 | (length + size)
            } else {
                u32::from(symbol) << 8 | length | WITHOUT_VALUE
            };
            self.entries[(code << spare | rest) as usize] = Entry(entry);
        }
    }
}

/// The value that `size` magnitude bits stand for.
#[inline(always)]
pub(super) fn extend(bits: u32, size: u32) -> i32 {
    // The leading bit is 0 for negative values.
    let negative = size > 0 && bits >> (size - 1) == 0;
    bits as i32 - if negative { (1 << size) - 1 } else { 0 }
}

/// Reads bits, the highest first, from bytes without stuffing. Beyond the end there are zeros; [`Bits::position`] tells.
#[derive(Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to be taken up.
    at: usize,
    /// Bits that were taken up and not used, from the top.
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            held: 0,
            count: 0,
        }
    }

    /// Bits used, from the start of the bytes.
    pub(super) fn position(&self) -> usize {
        self.at * 8 - self.count as usize
    }

    /// Holds at least 56 bits.
    #[inline(always)]
    fn refill(&mut self) {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(next) => {
                self.held |= u64::from_be_bytes(*next) >> self.count;
                self.at += (63 - self.count as usize) / 8;
                self.count |= 56;
            }
            None => self.refill_at_end(),
        }
    }

    #[cold]
    fn refill_at_end(&mut self) {
        while self.count <= 56 {
            let next = self.bytes.get(self.at).copied().unwrap_or(0);
            self.held |= u64::from(next) << (56 - self.count);
            self.at += 1;
            self.count += 8;
        }
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.held <<= bits;
        self.count -= bits;
    }

    /// The next `count` bits, at most 16.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        self.refill();
        let bits = (self.held >> 1 >> (63 - count)) as u32;
        self.skip(count);
        bits
    }

    /// The next symbol of `table`, and the value of as many bits as its lower half says. `None` where no code matches.
    /// At least 32 bits must be held.
    #[inline(always)]
    fn coded_of_held(&mut self, table: &Table) -> Option<Coded> {
        let Entry(entry) = table.entries[(self.held >> (64 - LOOKUP)) as usize];
        let length = entry & 0xFF;
        let symbol = (entry >> 8) as u8;
        if length.wrapping_sub(1) < WITHOUT_VALUE - 1 {
            self.skip(length);
            return Some(Coded {
                symbol,
                value: entry as i32 >> 16,
            });
        }
        let symbol = if length == 0 {
            self.long_symbol(table)?
        } else {
            self.skip(length - WITHOUT_VALUE);
            symbol
        };
        let size = u32::from(symbol & 15);
        let bits = (self.held >> 1 >> (63 - size)) as u32;
        self.skip(size);
        Some(Coded {
            symbol,
            value: extend(bits, size),
        })
    }

    #[inline(always)]
    pub(super) fn coded(&mut self, table: &Table) -> Option<Coded> {
        if self.count < 32 {
            self.refill();
        }
        self.coded_of_held(table)
    }

    /// The next symbol of `table` alone.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Table) -> Option<u8> {
        self.refill();
        let Entry(entry) = table.entries[(self.held >> (64 - LOOKUP)) as usize];
        let (length, symbol) = (entry & 0xFF, (entry >> 8) as u8);
        if length == 0 {
            return self.long_symbol(table);
        }
        self.skip(if length & WITHOUT_VALUE != 0 {
            length - WITHOUT_VALUE
        } else {
            length - u32::from(symbol & 15)
        });
        Some(symbol)
    }

    /// A symbol whose code is longer than the lookup.
    #[inline(never)]
    fn long_symbol(&mut self, table: &Table) -> Option<u8> {
        let code = (self.held >> 48) as u32;
        let length = (LOOKUP + 1..=16).find(|&length| code < table.limits[length as usize])?;
        let place = (code >> (16 - length)) as i32 + table.offsets[length as usize];
        self.skip(length);
        table.symbols.get(usize::try_from(place).ok()?).copied()
    }
}
