//! The lines of a text that an error shows, made fit for a terminal: whatever stands in a file, it can be drawn.
//!
//! Lines may have a megabyte (JSON on one line is YAML), and characters that a terminal obeys. What is far from the
//! places in question is left out, and such characters are shown as pictures.

use std::borrow::Cow;
use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Lines of more characters than this are cut.
const WIDE: usize = 300;
/// Characters that are left before and behind a place in such a line.
const AROUND: usize = 60;
/// Characters of a message.
const MESSAGE: usize = 1500;

/// A text as it is shown, and where in it the places are.
pub(super) struct Snippet {
    name: String,
    text: String,
    /// As asked for, in bytes of `text`.
    pub(super) places: Vec<Range<usize>>,
    /// Start of a place in `text` and its column in the file, from 0.
    columns: Vec<(usize, usize)>,
}

impl Snippet {
    /// `places`: byte ranges of `text`, each within one line.
    pub(super) fn new(name: &str, text: &str, places: &[Range<usize>]) -> Self {
        let mut snippet = Self {
            name: name.to_owned(),
            text: String::new(),
            places: Vec::new(),
            columns: Vec::new(),
        };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut starts = Vec::with_capacity(lines.len() + 1);
        let mut start = 0;
        for line in &lines {
            starts.push(start);
            start += line.len();
        }
        let line_of = |place: usize| starts.partition_point(|start| *start <= place).saturating_sub(1);
        let mut wanted: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
        for place in places {
            let line = line_of(place.start);
            wanted.push((line, vec![place.clone()]));
            wanted.push((line.saturating_sub(1), Vec::new()));
            wanted.push((line + 1, Vec::new()));
        }
        wanted.sort_by_key(|(line, _)| *line);
        wanted.dedup_by(|next, first| {
            let is_same = next.0 == first.0;
            if is_same {
                first.1.append(&mut next.1);
            }
            is_same
        });
        // Place in the file and in what is shown, for every character that is.
        let mut shown: Vec<(usize, usize)> = Vec::new();
        let mut wanted = wanted.into_iter().peekable();
        for (number, line) in lines.iter().enumerate() {
            if let Some((_, inside)) = wanted.next_if(|(line, _)| *line == number) {
                snippet.line(starts[number], line.trim_end_matches(['\n', '\r']), &inside, &mut shown);
            }
            if line.ends_with('\n') {
                snippet.text.push('\n');
            }
        }
        let end = snippet.text.len();
        let at = |place: usize| {
            let index = shown.partition_point(|(original, _)| *original < place);
            shown.get(index).map_or(end, |(_, shown)| *shown)
        };
        for place in places {
            let line = line_of(place.start);
            let line_start = starts.get(line).copied().unwrap_or(0);
            let from = at(place.start);
            let to = at(place.end).max(from);
            // The end of a place that is cut is where its line ends.
            let line_end = snippet.text[from..].find('\n').map_or(end, |length| from + length);
            let before = text.get(line_start..place.start).unwrap_or_default();
            snippet.columns.push((from, before.chars().count()));
            snippet.places.push(from..to.min(line_end));
        }
        snippet
    }

    /// Takes a line in; `shown` gets its characters' places.
    fn line(&mut self, start: usize, line: &str, places: &[Range<usize>], shown: &mut Vec<(usize, usize)>) {
        let is_wide = line.chars().nth(WIDE).is_some();
        let starts: Vec<usize> = places.iter().map(|place| place.start).collect();
        let ends: Vec<usize> = places.iter().map(|place| place.end).collect();
        let mut kept: Vec<bool> = Vec::new();
        if is_wide {
            let count = line.chars().count();
            kept.resize(count, false);
            let index_of = |place: &usize| line[..place.saturating_sub(start).min(line.len())].chars().count();
            let near = starts.iter().chain(&ends).map(index_of);
            for index in near.chain(places.is_empty().then_some(0)) {
                kept[index.saturating_sub(AROUND).min(count)..(index + AROUND).min(count)].fill(true);
            }
        }
        let mut is_gap = false;
        for (index, (at, c)) in line.char_indices().enumerate() {
            if is_wide && !kept[index] {
                if !is_gap {
                    self.text.push('…');
                }
                is_gap = true;
                continue;
            }
            is_gap = false;
            shown.push((start + at, self.text.len()));
            self.text.push(visible(c));
        }
        shown.push((start + line.len(), self.text.len()));
    }
}

impl SourceCode for Snippet {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.text.read_span(span, before, after)?;
        // Without lines around it this is asked for a place's own line and column.
        let own = self
            .columns
            .iter()
            .find(|(at, _)| (before, after) == (0, 0) && *at == span.offset());
        let column = own.map_or(found.column(), |(_, column)| *column);
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            found.data(),
            *found.span(),
            found.line(),
            column,
            found.line_count(),
        )))
    }
}

/// A character that a terminal shows and does not obey.
fn visible(c: char) -> char {
    match c {
        '\t' => c,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        // What turns the direction of writing around, and a mark that nobody sees.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A message that quotes what stands in a file: without control characters, and no longer than anybody reads.
pub(super) fn readable(message: &str) -> Cow<'_, str> {
    let is_fine = |c: char| c == '\n' || (c != '\t' && visible(c) == c);
    let count = message.chars().count();
    if count <= MESSAGE && message.chars().all(is_fine) {
        return Cow::Borrowed(message);
    }
    let shown = |c: char| if c == '\n' { c } else { visible(c) };
    if count <= MESSAGE {
        return Cow::Owned(message.chars().map(shown).collect());
    }
    let start: String = message.chars().take(MESSAGE / 3).map(shown).collect();
    let end: String = message.chars().skip(count - MESSAGE / 3).map(shown).collect();
    Cow::Owned(format!(
        "{start} … ({} more characters) … {end}",
        count - 2 * (MESSAGE / 3)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, places: &[Range<usize>]) -> (String, Vec<String>) {
        let snippet = Snippet::new("t", text, places);
        let shown = snippet
            .places
            .iter()
            .map(|p| snippet.text[p.clone()].to_owned())
            .collect();
        (snippet.text, shown)
    }

    #[test]
    fn short_lines_stay_and_lines_far_away_are_left_out() {
        let text = "a: 1\nb: 2\r\nc: 3\nd: 4\ne: 5";
        let (shown, places) = show(text, &[text.find("b").map(|at| at..at + 1).expect("b")]);
        assert_eq!(shown, "a: 1\nb: 2\nc: 3\n\n");
        assert_eq!(places, ["b"]);
        let (shown, places) = show(text, std::slice::from_ref(&(text.len()..text.len())));
        assert_eq!(shown, "\n\n\nd: 4\ne: 5");
        assert_eq!(places, [""]);
    }

    #[test]
    fn places_in_long_lines_are_found_again() {
        let text = format!(
            "x{}FIRST{}é漢{}LAST{}\u{1b}[31m\n",
            "a".repeat(70_000),
            "\t".repeat(500),
            "漢".repeat(70_000),
            "b".repeat(500)
        );
        let of = |word: &str| text.find(word).map(|at| at..at + word.len()).expect("there");
        let (shown, places) = show(&text, &[of("LAST"), of("FIRST"), of(&"a".repeat(70_000))]);
        assert_eq!(places[..2], ["LAST", "FIRST"]);
        assert!(places[2].starts_with("aaa") && places[2].contains('…'), "{}", places[2]);
        assert!(shown.chars().count() < 1000, "{}", shown.chars().count());
        let snippet = Snippet::new("t", &text, &[of("LAST")]);
        let span = SourceSpan::from(snippet.places[0].clone());
        let contents = snippet.read_span(&span, 0, 0).expect("read");
        assert_eq!(contents.column(), text[..of("LAST").start].chars().count());
    }

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let (shown, places) = show("a\u{0}\u{1b}[2J\rb\u{202e}", std::slice::from_ref(&(1..2)));
        assert_eq!((shown.as_str(), places[0].as_str()), ("a␀␛[2J␍b\u{fffd}", "␀"));
        assert_eq!(readable("a\u{1b}b"), "a␛b");
        assert!(readable(&"漢".repeat(100_000)).chars().count() < MESSAGE);
    }
}
