//! Huffman codes: lookup tables that yield a symbol and its magnitude at once, and the reader of bits.

/// Bits that the table is looked up by. Longer codes, and magnitudes that reach beyond, are read in steps.
const LOOKUP: u32 = 10;

/// A Huffman table of one class (DC or AC).
#[derive(Clone)]
pub(super) struct Table {
    /// By the next [`LOOKUP`] bits: see [`Entry`].
    entries: Box<[Entry; 1 << LOOKUP]>,
    /// The largest code of each length, aligned to 16 bits, plus 1; codes of `length` bits lie below it.
    limits: [u32; 18],
    /// What is added to a code of each length to give the place of its symbol.
    offsets: [i32; 17],
    symbols: [u8; 256],
}

/// What the next bits say: bits 0 to 5 the length of code and magnitude together, bits 8 to 15 the symbol, bits 16 to
/// 31 the value. With [`CODE_ALONE`], the length is that of the code: there is no magnitude, or it reaches beyond;
/// length 0 says that the code is longer than the lookup.
#[derive(Clone, Copy)]
pub(super) struct Entry(u32);

const CODE_ALONE: u32 = 0x80;

impl Entry {
    const LONGER: Self = Self(CODE_ALONE);

    #[inline(always)]
    fn length(self) -> u32 {
        self.0 & 63
    }

    #[inline(always)]
    fn symbol(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    fn is_code_alone(self) -> bool {
        self.0 & CODE_ALONE != 0
    }
}

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
            entries: Box::new([Entry::LONGER; 1 << LOOKUP]),
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
            let entry = if (1..=spare).contains(&size) {
                let bits = rest >> (spare - size);
                let value = extend(bits, size) as u32;
                value << 16 | u32::from(symbol) << 8 | (length + size)
            } else {
                u32::from(symbol) << 8 | length | CODE_ALONE
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

/// Reads bits, the highest first, from bytes without stuffing. Beyond the end there are zeros; [`Bits::position`]
/// tells.
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
    #[inline(always)]
    pub(super) fn coded(&mut self, table: &Table) -> Option<Coded> {
        match self.coded_at_once(table) {
            Ok(coded) => Some(coded),
            Err(entry) => self.coded_in_steps(table, entry),
        }
    }

    /// The usual case of [`Bits::coded`]: a short code with a magnitude.
    #[inline(always)]
    pub(super) fn coded_at_once(&mut self, table: &Table) -> Result<Coded, Entry> {
        if self.count < 32 {
            self.refill();
        }
        let entry = table.entries[(self.held >> (64 - LOOKUP)) as usize];
        if entry.is_code_alone() {
            return Err(entry);
        }
        self.skip(entry.length());
        Ok(Coded {
            symbol: entry.symbol(),
            value: entry.0 as i32 >> 16,
        })
    }

    /// The other cases.
    #[inline(always)]
    pub(super) fn coded_in_steps(&mut self, table: &Table, entry: Entry) -> Option<Coded> {
        let symbol = self.symbol_of(table, entry)?;
        let size = u32::from(symbol & 15);
        let bits = (self.held >> 1 >> (63 - size)) as u32;
        self.skip(size);
        Some(Coded {
            symbol,
            value: extend(bits, size),
        })
    }

    #[inline(always)]
    fn symbol_of(&mut self, table: &Table, entry: Entry) -> Option<u8> {
        if entry.length() == 0 {
            return self.long_symbol(table);
        }
        self.skip(entry.length());
        Some(entry.symbol())
    }

    /// The next symbol of `table` alone.
    pub(super) fn symbol(&mut self, table: &Table) -> Option<u8> {
        self.refill();
        let entry = table.entries[(self.held >> (64 - LOOKUP)) as usize];
        if entry.is_code_alone() {
            return self.symbol_of(table, entry);
        }
        self.skip(entry.length() - u32::from(entry.symbol() & 15));
        Some(entry.symbol())
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
