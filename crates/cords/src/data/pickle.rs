//! Pickles as inert values, for data sets that Python wrote: nothing in them is executed.
//!
//! Opcodes of protocols 0 to 5 as Python's `pickletools` describes them. A call is kept as the name of what is called
//! and its arguments. Values lie in one list and refer to each other by place, so that depth costs no stack.

/// Place of a value in [`Pickle`].
pub(super) type At = usize;

/// One value of a pickle; others are referred to by place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Python 2's strings are bytes too.
    Bytes(Vec<u8>),
    /// A list, tuple or set.
    List(Vec<At>),
    Dict(Vec<(At, At)>),
    /// Name of a Python class or function, `module.name`.
    Name(String),
    /// What is called, its arguments, and the state that it is given afterwards.
    Call(At, At, Option<At>),
    /// Something that nothing here asks for, such as a number too long for 64 bits.
    Other,
}

/// Values of a pickle, and which of them the whole is.
pub(super) struct Pickle {
    values: Vec<Value>,
    root: At,
}

/// Reads on in a pickle's bytes.
struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(head)
    }

    /// A little-endian number of `n` bytes.
    fn number(&mut self, n: usize) -> Option<usize> {
        let bytes = self.take(n)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    }

    /// Bytes after a length of `n` bytes.
    fn counted(&mut self, n: usize) -> Option<&'a [u8]> {
        let length = self.number(n)?;
        self.take(length)
    }

    fn line(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end + 1)?;
        std::str::from_utf8(&line[..end]).ok()
    }
}

/// The little-endian number in two's complement of up to eight bytes.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

/// What stands on the machine's stack.
#[derive(Clone, Copy)]
enum Slot {
    Value(At),
    Mark,
}

#[derive(Default)]
struct Machine {
    values: Vec<Value>,
    stack: Vec<Slot>,
    memo: std::collections::HashMap<usize, At>,
}

impl Machine {
    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(Slot::Value(self.values.len() - 1));
    }

    fn pop(&mut self) -> Option<At> {
        match self.stack.pop()? {
            Slot::Value(at) => Some(at),
            Slot::Mark => None,
        }
    }

    fn top(&self) -> Option<At> {
        match self.stack.last()? {
            Slot::Value(at) => Some(*at),
            Slot::Mark => None,
        }
    }

    /// Everything above the last mark, which goes too.
    fn pop_to_mark(&mut self) -> Option<Vec<At>> {
        let mark = self.stack.iter().rposition(|slot| matches!(slot, Slot::Mark))?;
        let values = self.stack[mark + 1..].iter().filter_map(|slot| match slot {
            Slot::Value(at) => Some(*at),
            Slot::Mark => None,
        });
        let values = values.collect();
        self.stack.truncate(mark);
        Some(values)
    }

    fn pop_many(&mut self, n: usize) -> Option<Vec<At>> {
        let mut values = (0..n).map(|_| self.pop()).collect::<Option<Vec<_>>>()?;
        values.reverse();
        Some(values)
    }

    fn extend(&mut self, items: Vec<At>) -> Option<()> {
        let at = self.top()?;
        match &mut self.values[at] {
            Value::List(list) => list.extend(items),
            _ => return None,
        }
        Some(())
    }

    fn set_items(&mut self, items: &[At]) -> Option<()> {
        let pairs = items.as_chunks::<2>();
        let at = self.top()?;
        match &mut self.values[at] {
            Value::Dict(dict) if pairs.1.is_empty() => dict.extend(pairs.0.iter().map(|[key, value]| (*key, *value))),
            // Subclasses of dict, OrderedDict for one.
            Value::Call(..) => {}
            _ => return None,
        }
        Some(())
    }

    fn get(&mut self, index: usize) -> Option<()> {
        let at = *self.memo.get(&index)?;
        self.stack.push(Slot::Value(at));
        Some(())
    }

    fn put(&mut self, index: usize) -> Option<()> {
        let at = self.top()?;
        self.memo.insert(index, at);
        Some(())
    }
}

impl Pickle {
    /// Reads a pickle; `None` where it is cut short or no pickle.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes { rest: bytes };
        let mut m = Machine::default();
        loop {
            let opcode = bytes.take(1)?[0];
            let text = |bytes: &[u8]| Value::Text(String::from_utf8_lossy(bytes).into_owned());
            match opcode {
                b'.' => {
                    let root = m.pop()?;
                    return Some(Self { values: m.values, root });
                }
                0x80 => {
                    bytes.take(1)?;
                }
                0x95 => {
                    bytes.take(8)?;
                }
                b'(' => m.stack.push(Slot::Mark),
                b'0' => {
                    m.stack.pop()?;
                }
                b'1' => {
                    m.pop_to_mark()?;
                }
                b'2' => {
                    let at = m.top()?;
                    m.stack.push(Slot::Value(at));
                }
                b'N' => m.push(Value::None),
                0x88 => m.push(Value::Bool(true)),
                0x89 => m.push(Value::Bool(false)),
                b'K' => {
                    let value = bytes.number(1)?;
                    m.push(Value::Int(value as i64));
                }
                b'M' => {
                    let value = bytes.number(2)?;
                    m.push(Value::Int(value as i64));
                }
                b'J' => {
                    let value = bytes.take(4)?;
                    m.push(long(value));
                }
                0x8a => {
                    let value = bytes.counted(1)?;
                    m.push(long(value));
                }
                0x8b => {
                    let value = bytes.counted(4)?;
                    m.push(long(value));
                }
                b'I' | b'L' => {
                    let line = bytes.line()?.trim_end_matches('L');
                    m.push(match (opcode, line) {
                        (b'I', "01") => Value::Bool(true),
                        (b'I', "00") => Value::Bool(false),
                        _ => line.parse().map_or(Value::Other, Value::Int),
                    });
                }
                b'F' => {
                    let line = bytes.line()?;
                    m.push(line.parse().map_or(Value::Other, Value::Float));
                }
                b'G' => {
                    let value = bytes.take(8)?.try_into().ok()?;
                    m.push(Value::Float(f64::from_be_bytes(value)));
                }
                b'U' | b'C' => {
                    let value = bytes.counted(1)?.to_vec();
                    m.push(Value::Bytes(value));
                }
                b'T' | b'B' => {
                    let value = bytes.counted(4)?.to_vec();
                    m.push(Value::Bytes(value));
                }
                0x8e | 0x96 => {
                    let value = bytes.counted(8)?.to_vec();
                    m.push(Value::Bytes(value));
                }
                b'S' => {
                    let line = bytes.line()?.trim_matches(['\'', '"']);
                    // Escapes stand for bytes that names of keys do not have.
                    m.push(if line.contains('\\') {
                        Value::Other
                    } else {
                        Value::Bytes(line.as_bytes().to_vec())
                    });
                }
                b'V' => {
                    let line = bytes.line()?;
                    m.push(Value::Text(line.to_owned()));
                }
                0x8c => {
                    let value = text(bytes.counted(1)?);
                    m.push(value);
                }
                b'X' => {
                    let value = text(bytes.counted(4)?);
                    m.push(value);
                }
                0x8d => {
                    let value = text(bytes.counted(8)?);
                    m.push(value);
                }
                b')' | b']' | 0x8f => m.push(Value::List(Vec::new())),
                b'}' => m.push(Value::Dict(Vec::new())),
                b't' | b'l' | 0x91 => {
                    let items = m.pop_to_mark()?;
                    m.push(Value::List(items));
                }
                0x85..=0x87 => {
                    let items = m.pop_many(usize::from(opcode - 0x84))?;
                    m.push(Value::List(items));
                }
                b'a' => {
                    let item = m.pop()?;
                    m.extend(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = m.pop_to_mark()?;
                    m.extend(items)?;
                }
                b'd' => {
                    let items = m.pop_to_mark()?;
                    m.push(Value::Dict(Vec::new()));
                    m.set_items(&items)?;
                }
                b's' => {
                    let items = m.pop_many(2)?;
                    m.set_items(&items)?;
                }
                b'u' => {
                    let items = m.pop_to_mark()?;
                    m.set_items(&items)?;
                }
                b'c' => {
                    let (module, name) = (bytes.line()?, bytes.line()?);
                    m.push(Value::Name(format!("{module}.{name}")));
                }
                0x93 => {
                    let parts = m.pop_many(2)?;
                    let [Value::Text(module), Value::Text(name)] = [&m.values[parts[0]], &m.values[parts[1]]] else {
                        return None;
                    };
                    let name = format!("{module}.{name}");
                    m.push(Value::Name(name));
                }
                b'R' | 0x81 => {
                    let [called, arguments] = m.pop_many(2)?.try_into().ok()?;
                    m.push(Value::Call(called, arguments, None));
                }
                b'b' => {
                    let state = m.pop()?;
                    let at = m.top()?;
                    if let Value::Call(_, _, given) = &mut m.values[at] {
                        *given = Some(state);
                    }
                }
                b'q' => m.put(bytes.number(1)?)?,
                b'r' => m.put(bytes.number(4)?)?,
                b'p' => m.put(bytes.line()?.parse().ok()?)?,
                0x94 => m.put(m.memo.len())?,
                b'h' => m.get(bytes.number(1)?)?,
                b'j' => m.get(bytes.number(4)?)?,
                b'g' => m.get(bytes.line()?.parse().ok()?)?,
                _ => return None,
            }
        }
    }

    pub(super) fn get(&self, at: At) -> &Value {
        &self.values[at]
    }

    /// The root dict's value under a key, whether that is text or bytes.
    pub(super) fn entry(&self, key: &str) -> Option<At> {
        let Value::Dict(entries) = self.get(self.root) else {
            return None;
        };
        let same = |at: At| match self.get(at) {
            Value::Text(text) => text == key,
            _ => self.bytes(at).is_some_and(|bytes| bytes == key.as_bytes()),
        };
        entries.iter().find(|(name, _)| same(*name)).map(|(_, value)| *value)
    }

    /// The elements of a list or tuple.
    fn items(&self, at: At) -> Option<&[At]> {
        match self.get(at) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn int(&self, at: At) -> Option<i64> {
        match self.get(at) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    fn ints(&self, at: At) -> Option<Vec<i64>> {
        self.items(at)?.iter().map(|item| self.int(*item)).collect()
    }

    /// Bytes, also as Python 3 writes them in protocol 2: `_codecs.encode(text, "latin1")`.
    fn bytes(&self, at: At) -> Option<Vec<u8>> {
        match self.get(at) {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Call(called, arguments, None) => match self.get(*called) {
                Value::Name(name) if name == "_codecs.encode" => match self.get(*self.items(*arguments)?.first()?) {
                    Value::Text(text) => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// Whole numbers from a list or from a NumPy array of one dimension.
    pub(super) fn whole_numbers(&self, at: At) -> Option<Vec<i64>> {
        if let Some(numbers) = self.ints(at) {
            return Some(numbers);
        }
        let array = self.array(at)?;
        let size = array.item_size;
        let number = |bytes: &[u8]| match long(bytes) {
            Value::Int(value) if array.kind == 'i' => Some(value),
            Value::Int(value) if size < 8 => Some(value & ((1 << (8 * size)) - 1)),
            _ => None,
        };
        array.bytes.chunks_exact(size).map(number).collect()
    }

    /// A NumPy array of whole numbers, rows one after the other.
    pub(super) fn array(&self, at: At) -> Option<Array> {
        let Value::Call(called, arguments, state) = self.get(at) else {
            return None;
        };
        let Value::Name(name) = self.get(*called) else {
            return None;
        };
        let (shape, dtype, fortran, bytes) = match (name.rsplit('.').next()?, state) {
            // State: version, shape, dtype, whether columns come first, bytes.
            ("_reconstruct", Some(state)) => {
                let [_, shape, dtype, fortran, bytes] = self.items(*state)?.try_into().ok()?;
                (shape, dtype, *self.get(fortran) == Value::Bool(true), bytes)
            }
            // Protocol 5: bytes, dtype, shape, order.
            ("_frombuffer", None) => {
                let [bytes, dtype, shape, order] = self.items(*arguments)?.try_into().ok()?;
                (shape, dtype, *self.get(order) == Value::Text("F".to_owned()), bytes)
            }
            _ => return None,
        };
        let mut bytes = self.bytes(bytes)?;
        let shape = self.ints(shape)?.into_iter().map(|n| usize::try_from(n).ok());
        let shape = shape.collect::<Option<Vec<_>>>()?;
        let (kind, item_size) = self.dtype(dtype)?;
        let count = shape.iter().try_fold(item_size, |count, n| count.checked_mul(*n))?;
        if count != bytes.len() {
            return None;
        }
        if fortran {
            let [rows, columns] = *shape.as_slice() else {
                return None;
            };
            if item_size != 1 {
                return None;
            }
            bytes = (0..rows * columns)
                .map(|at| bytes[at % columns * rows + at / columns])
                .collect();
        }
        Some(Array {
            shape,
            kind,
            item_size,
            bytes,
        })
    }

    /// Kind (`u` or `i`) and bytes of `numpy.dtype("u1")` and the like; little-endian numbers only.
    fn dtype(&self, at: At) -> Option<(char, usize)> {
        let Value::Call(_, arguments, state) = self.get(at) else {
            return None;
        };
        let first = *self.items(*arguments)?.first()?;
        let name = match self.get(first) {
            Value::Text(text) => text.clone(),
            Value::Bytes(bytes) => String::from_utf8(bytes.clone()).ok()?,
            _ => return None,
        };
        let kind = name.chars().next().filter(|kind| "ui".contains(*kind))?;
        let size = name[1..].parse().ok().filter(|size| [1, 2, 4, 8].contains(size))?;
        // State: version, byte order, ...
        let big = state
            .and_then(|state| self.items(state)?.get(1).copied())
            .is_some_and(|order| {
                matches!(self.get(order), Value::Text(order) if order == ">")
                    || matches!(self.get(order), Value::Bytes(order) if order == b">")
            });
        (!big || size == 1).then_some((kind, size))
    }
}

/// Values of a NumPy array, in the order of its file.
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    /// Kind of its numbers: `u` unsigned or `i` signed.
    kind: char,
    pub(super) item_size: usize,
    pub(super) bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"labels": [3, 300], "data": ...}` as Python 2 and 3 write it.
    #[test]
    fn arrays_and_lists_of_every_python() {
        let two = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x03M\x2c\x01eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\n\
            q\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87R\
            q\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06abcdeftbu.";
        let pickle = Pickle::read(two).expect("whole");
        let labels = pickle.entry("labels").expect("there");
        assert_eq!(pickle.whole_numbers(labels), Some(vec![3, 300]));
        let data = pickle.array(pickle.entry("data").expect("there")).expect("an array");
        assert_eq!(
            (data.shape.as_slice(), data.item_size, data.bytes.as_slice()),
            (&[2, 3][..], 1, &b"abcdef"[..])
        );
        assert!(pickle.entry("other").is_none());
        for length in 0..two.len() {
            assert!(Pickle::read(&two[..length]).is_none(), "cut at {length}");
        }
        // Protocol 2 of Python 3 writes bytes as text in Latin 1.
        let three =
            b"\x80\x02}X\x01\x00\x00\x00xc_codecs\nencode\nX\x02\x00\x00\x00\xc3\xbfX\x06\x00\x00\x00latin1\x86Rs.";
        let pickle = Pickle::read(three).expect("whole");
        assert_eq!(pickle.bytes(pickle.entry("x").expect("there")), Some(vec![0xff]));
        // And so also a key.
        let key = b"\x80\x02}c_codecs\nencode\nX\x01\x00\x00\x00kX\x06\x00\x00\x00latin1\x86RK\x05s.";
        let pickle = Pickle::read(key).expect("whole");
        assert_eq!(pickle.int(pickle.entry("k").expect("there")), Some(5));
        // Deep nesting takes no stack: a million tuples of one.
        let mut deep = vec![b'N'];
        deep.extend(std::iter::repeat_n(0x85, 1_000_000));
        deep.push(b'.');
        assert!(Pickle::read(&deep).is_some());
    }
}
