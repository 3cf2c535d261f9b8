//! The orientation that EXIF data names, as PIL reads it.

/// The orientation, 1 to 8, that the TIFF structure of EXIF data names, or else XMP text; 1, upright, where neither
/// does or what they say is damaged.
pub(super) fn orientation(tiff: Option<&[u8]>, xmp: Option<&[u8]>) -> u8 {
    let named = tiff.and_then(find).or_else(|| xmp.and_then(find_in_xmp));
    named.filter(|value| (1..=8).contains(value)).unwrap_or(1)
}

/// Tag of the orientation.
const ORIENTATION: u16 = 0x0112;

/// Orientation in XMP text, as an attribute or an element.
fn find_in_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    let after = memchr::memmem::find_iter(xmp, NAME).map(|at| &xmp[at + NAME.len()..]);
    let digits = after.filter_map(|rest| rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">")));
    let mut numbers = digits.filter_map(|rest| rest.first().filter(|digit| digit.is_ascii_digit()));
    numbers.next().map(|digit| digit - b'0')
}

fn find(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.first_chunk::<4>()? {
        b"II\x2A\0" => true,
        b"MM\0\x2A" => false,
        _ => return None,
    };
    let two = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let four = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<4>()?;
        Some(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        } as usize)
    };
    let directory = four(4)?;
    let count = usize::from(two(directory)?);
    // Of several entries the first counts.
    for entry in (0..count).map(|i| directory.saturating_add(2 + 12 * i)) {
        if two(entry)? != ORIENTATION {
            continue;
        }
        let (kind, values) = (two(entry + 2)?, four(entry + 4)?);
        return match (kind, values) {
            (1, 1..=4) => tiff.get(entry + 8).copied(),
            (3, 1..=2) => two(entry + 8)?.try_into().ok(),
            (4, 1) => four(entry + 8)?.try_into().ok(),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure of one directory with one entry.
    fn tiff(kind: u16, values: u32, content: [u8; 4]) -> Vec<u8> {
        let mut bytes = b"II\x2A\0\x08\0\0\0\x01\0\x12\x01".to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(values.to_le_bytes());
        bytes.extend(content);
        bytes
    }

    #[test]
    fn orientation_is_found_or_upright() {
        for value in 1..=8 {
            assert_eq!(orientation(Some(&tiff(3, 1, [value, 0, 0, 0])), None), value);
            assert_eq!(orientation(Some(&tiff(1, 1, [value, 9, 9, 9])), None), value);
        }
        let big = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        assert_eq!(orientation(Some(big), None), 6);
        for damaged in [
            tiff(3, 1, [9, 0, 0, 0]),
            tiff(3, 1, [6, 1, 0, 0]),
            tiff(2, 1, [6, 0, 0, 0]),
            tiff(3, 0, [6, 0, 0, 0]),
        ] {
            assert_eq!(orientation(Some(&damaged), None), 1);
        }
        let whole = tiff(3, 1, [6, 0, 0, 0]);
        for cut in 0..whole.len() - 2 {
            assert_eq!(orientation(Some(&whole[..cut]), None), 1, "{cut}");
        }
    }

    #[test]
    fn xmp_stands_in_where_exif_says_nothing() {
        assert_eq!(orientation(None, Some(b"<x tiff:Orientation=\"8\"/>")), 8);
        assert_eq!(orientation(None, Some(b"<tiff:Orientation>3</tiff:Orientation>")), 3);
        assert_eq!(orientation(None, Some(b"<tiff:Orientation>x")), 1);
        assert_eq!(
            orientation(Some(&tiff(3, 1, [5, 0, 0, 0])), Some(b"tiff:Orientation=\"8\"")),
            5
        );
    }
}
