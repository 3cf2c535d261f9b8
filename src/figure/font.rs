//! The font of figures, DejaVu Sans: it has the letters of most languages and signs of formulas, and is part of the
//! program, so that a figure is the same on every machine.

use std::sync::LazyLock;

use ttf_parser::Face;

/// The font file; its licence lies beside it.
pub(super) const FONT: &[u8] = include_bytes!("font/DejaVuSans.ttf");
/// What it is called in figures, and what stands in where it is not there.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";

static FACE: LazyLock<Option<Face<'static>>> = LazyLock::new(|| Face::parse(FONT, 0).ok());

/// Width of a text in pixels, at so many pixels to the em.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let Some(face) = FACE.as_ref() else {
        return 0.6 * size * text.chars().count() as f64;
    };
    let advance = |letter: char| {
        let glyph = face.glyph_index(letter).unwrap_or(ttf_parser::GlyphId(0));
        f64::from(face.glyph_hor_advance(glyph).unwrap_or(0))
    };
    text.chars().map(advance).sum::<f64>() * size / f64::from(face.units_per_em())
}

/// A text in lines of at most that width, broken at blanks, or within a word that is wider.
pub(super) fn lines(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        if let Some(last) = lines.last_mut() {
            let joined = format!("{last} {word}");
            if width(&joined, size) <= room {
                *last = joined;
                continue;
            }
        }
        while width(&word, size) > room && word.chars().count() > 1 {
            let ends = word.char_indices().map(|(at, _)| at).skip(1);
            let fits = ends.take_while(|&end| width(&word[..end], size) <= room).last();
            let first = word.chars().next().map_or(1, char::len_utf8);
            let rest = word.split_off(fits.unwrap_or(first));
            lines.push(word);
            word = rest;
        }
        lines.push(word);
    }
    lines
}

/// A text that is cut off, with an ellipsis, where it is wider than there is room.
pub(super) fn cut(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let ends = text.char_indices().map(|(at, _)| at);
    let fits = ends.take_while(|&end| width(&text[..end], size) + width("\u{2026}", size) <= room);
    format!("{}\u{2026}", &text[..fits.last().unwrap_or(0)])
}

/// The same, cut in its middle: names that differ often do so at their ends.
pub(super) fn cut_within(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let kept = |count: usize| {
        let front = count.div_ceil(2);
        let back = count - front;
        let shown = letters[..front].iter().chain(['\u{2026}'].iter());
        shown.chain(&letters[letters.len() - back..]).collect::<String>()
    };
    let fits = (0..letters.len())
        .rev()
        .find(|count| width(&kept(*count), size) <= room);
    kept(fits.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_measured_and_broken() {
        assert!(FACE.is_some());
        assert!((width("0", 10.0) - 6.36).abs() < 0.01, "{}", width("0", 10.0));
        assert!(width("WW", 10.0) > 2.0 * width("ii", 10.0));
        let room = width("accuracy over", 12.0);
        assert_eq!(
            lines("accuracy over time of all", 12.0, room),
            ["accuracy over", "time of all"]
        );
        for text in ["", "a", "Donaudampfschiffahrt", "\u{e4}\u{2082}\u{1f600} x"] {
            for room in [0.0, 5.0, 30.0] {
                let joined: String = lines(text, 12.0, room).concat();
                assert_eq!(joined, text.replace(' ', ""), "{room}");
            }
        }
        assert_eq!(cut("abc", 12.0, 1000.0), "abc");
        assert_eq!(
            cut_within("abcdef ghijkl", 12.0, width("abc\u{2026}jkl", 12.0) + 0.1),
            "abc\u{2026}jkl"
        );
        assert!(width(&cut("a long name of a network", 12.0, 60.0), 12.0) <= 60.0);
    }
}
