//! What a pickle asks for, found without running it: Python names, and opcodes that tensors and dicts do not need.
//!
//! The opcodes and their arguments are those of Python's `pickletools`. Names come as text (GLOBAL) or from two strings
//! on top of the stack (STACK_GLOBAL); no opcode that could put other strings there unseen is let through.

use std::collections::{BTreeSet, HashMap};

/// Modules and names that tensors, dicts and the plain values beside them in a checkpoint need. None is called: values
/// of other classes are passed over by the reader.
fn needed(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter" | "deque"),
        "torch._utils" => matches!(
            name,
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_parameter" | "_rebuild_parameter_with_state"
        ),
        "torch" if matches!(name, "Size" | "device" | "dtype") || is_number_type(name) => true,
        "torch.serialization" => name == "_get_layout",
        "torch.nn.parameter" => name == "Parameter",
        "argparse" => name == "Namespace",
        "_codecs" => name == "encode",
        "__builtin__" | "builtins" => matches!(
            name,
            "set" | "frozenset" | "dict" | "list" | "tuple" | "int" | "float" | "str" | "bool" | "bytes" | "bytearray"
        ),
        "numpy" => matches!(name, "dtype" | "ndarray") || is_number_type(name),
        "numpy.dtypes" => name.ends_with("DType"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "scalar" | "_reconstruct"),
        "datetime" => matches!(name, "datetime" | "date" | "time" | "timedelta" | "timezone"),
        "pathlib" | "pathlib._local" => name.ends_with("Path"),
        // Options of a Lightning module.
        "lightning_fabric.utilities.data" | "lightning.fabric.utilities.data" => name == "AttributeDict",
        "pytorch_lightning.utilities.parsing" | "lightning.pytorch.utilities.parsing" => name == "AttributeDict",
        "torch" => name.strip_suffix("Storage").is_some_and(|number| {
            matches!(
                number,
                "Float" | "Double" | "Half" | "BFloat16" | "Long" | "Int" | "Short" | "Char" | "Byte" | "Bool"
            )
        }),
        _ => false,
    }
}

/// `float32`, `bfloat16`, `int64` and the like.
fn is_number_type(name: &str) -> bool {
    let bits = name.trim_start_matches(|c: char| c.is_ascii_lowercase());
    matches!(
        &name[..name.len() - bits.len()],
        "float" | "bfloat" | "int" | "uint" | "complex"
    ) && bits.parse::<u32>().is_ok()
        || name == "bool"
}

/// Reads on in a pickle's bytes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
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

    /// Text after a length of `n` bytes.
    fn text(&mut self, n: usize) -> Option<String> {
        let length = self.number(n)?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn line(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(end + 1)?;
        String::from_utf8(line[..end].to_vec()).ok()
    }
}

/// All names and opcodes in a pickle that are not needed for tensors and plain values, sorted, and the bytes after it;
/// `None` where it is cut short.
pub(super) fn foreign_names(pickle: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let mut bytes = Bytes(pickle);
    let mut foreign = BTreeSet::new();
    let mut strings: HashMap<usize, String> = HashMap::new();
    let mut memo_entries = 0;
    // The strings on top of the stack, as far as they were pushed one after the other.
    let mut top: Vec<String> = Vec::new();
    loop {
        let opcode = *bytes.take(1)?.first()?;
        match opcode {
            b'X' => top.push(bytes.text(4)?),
            0x8c => top.push(bytes.text(1)?),
            0x8d => top.push(bytes.text(8)?),
            b'p' | b'q' | b'r' | 0x94 => {
                let index = match opcode {
                    b'p' => bytes.line()?.parse().ok()?,
                    b'q' => bytes.number(1)?,
                    b'r' => bytes.number(4)?,
                    _ => memo_entries,
                };
                memo_entries += 1;
                match top.last() {
                    Some(text) => strings.insert(index, text.clone()),
                    None => strings.remove(&index),
                };
            }
            b'g' | b'h' | b'j' => {
                let index = match opcode {
                    b'g' => bytes.line()?.parse().ok()?,
                    b'h' => bytes.number(1)?,
                    _ => bytes.number(4)?,
                };
                match strings.get(&index) {
                    Some(text) => top.push(text.clone()),
                    None => top.clear(),
                }
            }
            b'c' => {
                let (module, name) = (bytes.line()?, bytes.line()?);
                if !needed(&module, &name) {
                    foreign.insert(format!("`{module}.{name}`"));
                }
                top.clear();
            }
            0x93 => {
                match top.as_slice() {
                    [.., module, name] if needed(module, name) => {}
                    [.., module, name] => {
                        foreign.insert(format!("`{module}.{name}`"));
                    }
                    _ => {
                        foreign.insert("a name that is made up while it is read".to_owned());
                    }
                }
                top.clear();
            }
            b'.' => return Some((foreign.into_iter().collect(), bytes.0)),
            _ => {
                let argument = match opcode {
                    // MARK, tuples, empty containers, None, True, False, items, REDUCE, NEWOBJ, BUILD, a persistent id,
                    // POP, DUP.
                    b'(' | b't' | b')' | b'}' | b']' | b'N' | b'u' | b's' | b'e' | b'a' | b'R' | b'b' | b'Q' => 0,
                    b'd' | b'l' | b'0' | b'1' | b'2' | 0x81 | 0x85..=0x89 | 0x8f | 0x90 | 0x91 | 0x92 => 0,
                    0x80 | b'K' => 1,
                    b'M' => 2,
                    b'J' => 4,
                    0x95 | b'G' => 8,
                    0x8a | b'U' | b'C' => bytes.number(1)?,
                    0x8b | b'T' | b'B' => bytes.number(4)?,
                    0x8e | 0x96 => bytes.number(8)?,
                    b'I' | b'L' | b'F' | b'S' | b'V' => {
                        bytes.line()?;
                        0
                    }
                    other => {
                        // What follows cannot be told apart any more.
                        foreign.insert(format!("the pickle opcode 0x{other:02x}"));
                        return Some((foreign.into_iter().collect(), bytes.0));
                    }
                };
                bytes.take(argument)?;
                // A frame's length pushes nothing.
                if opcode != 0x95 {
                    top.clear();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pickle: &[u8]) -> Vec<String> {
        foreign_names(pickle).expect("a whole pickle").0
    }

    #[test]
    fn what_a_dict_of_tensors_needs_passes() {
        assert!(names(b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.").is_empty());
        // Protocol 4: the same name from two strings, with and without the memo.
        let stacked = b"\x80\x04\x95\x26\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94h\x00h\x01\x93.";
        assert!(names(stacked).is_empty());
    }

    #[test]
    fn anything_else_is_named() {
        assert_eq!(names(b"cposix\nsystem\nX\x02\0\0\0ls\x85R."), ["`posix.system`"]);
        assert_eq!(names(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93."), ["`os.system`"]);
        // Both names, each once.
        assert_eq!(names(b"cb\nC\ncb\nC\nca\nD\n."), ["`a.D`", "`b.C`"]);
        // An opcode of extensions, and a name whose strings came another way.
        assert_eq!(
            names(b"ccollections\nOrderedDict\n\x82\x01."),
            ["the pickle opcode 0x82"]
        );
        assert_eq!(names(b"c__main__\nNet\n)\x81."), ["`__main__.Net`"]);
        assert_eq!(names(b"\x8c\x02os)\x93."), ["a name that is made up while it is read"]);
        // The memo gives back a number, not the string that stood there before.
        assert_eq!(
            names(b"\x8c\x0bcollectionsq\x00K\x01q\x00\x8c\x02osh\x00\x93."),
            ["a name that is made up while it is read"]
        );
    }

    #[test]
    fn plain_values_of_checkpoints_pass() {
        assert!(names(b"cargparse\nNamespace\n)\x81}b.").is_empty());
        assert!(names(b"cnumpy._core.multiarray\nscalar\nq\x00ctorch\nfloat32\nctorch\nbfloat16\nK\x01.").is_empty());
        assert_eq!(
            names(b"ctorch\nload\nctorch\nfloatx\n."),
            ["`torch.floatx`", "`torch.load`"]
        );
        assert_eq!(names(b"cbuiltins\neval\n."), ["`builtins.eval`"]);
    }

    #[test]
    fn a_cut_pickle_is_noticed() {
        let whole = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.";
        for length in 0..whole.len() {
            assert!(foreign_names(&whole[..length]).is_none(), "cut at {length}");
        }
    }
}
