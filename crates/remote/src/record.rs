//! The form of a record: a line with the text's length and blake3, then the text. What was cut off or damaged shows.

const HEAD: &str = "dynvis-record 1";

/// Of a record whose end is missing.
const SHORT: &str = "its end is missing";

pub(crate) fn framed(text: &str) -> Vec<u8> {
    format!(
        "{HEAD} {} {}\n{text}",
        text.len(),
        blake3::hash(text.as_bytes()).to_hex()
    )
    .into_bytes()
}

pub(crate) fn parse(bytes: &[u8]) -> Result<&str, &'static str> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(SHORT)?;
    let (head, text) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| "its first line is no text")?;
    let rest = head
        .strip_prefix("dynvis-record ")
        .ok_or("its first line is not that of a record")?;
    let rest = rest.strip_prefix("1 ").ok_or("it is of another version of dynvis")?;
    let (length, hash) = rest.split_once(' ').ok_or("its first line is not that of a record")?;
    let length: usize = length.parse().map_err(|_| "its first line is not that of a record")?;
    if text.len() < length {
        return Err(SHORT);
    }
    if text.len() > length || blake3::hash(text).to_hex().as_str() != hash {
        return Err("its text is not what was sent");
    }
    std::str::from_utf8(text).map_err(|_| "it is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_whole_or_none() {
        let whole = framed("{\"a\": 1}");
        assert_eq!(parse(&whole), Ok("{\"a\": 1}"));
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "{cut}");
        }
        for place in 0..whole.len() {
            let mut other = whole.clone();
            other[place] ^= 1;
            assert!(parse(&other).is_err(), "{place}");
        }
        let mut longer = whole.clone();
        longer.push(b' ');
        assert!(parse(&longer).is_err());
    }
}
