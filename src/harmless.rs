//! Text of programs and files on a terminal: no sequence in it may move the cursor, change the title or clear the
//! screen.

/// Characters of a line that are shown among other news.
const LONGEST: usize = 400;

/// The text without control characters and escape sequences, but for ends of lines and tabs.
pub(crate) fn harmless(text: &str) -> String {
    filtered(text, |_| false)
}

/// The same, but colours stay: they are the tool's own.
pub(crate) fn coloured(text: &str) -> String {
    filtered(text, |sequence| {
        let codes = sequence.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m'));
        codes.is_some_and(|codes| codes.bytes().all(|b| b.is_ascii_digit() || b == b';'))
    })
}

fn filtered(text: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let is_strange = |c: char| {
        let turns_text = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        (c.is_control() && c != '\n' && c != '\t') || turns_text
    };
    if !text.contains(is_strange) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_strange) {
        clean += &rest[..at];
        rest = &rest[at..];
        let length = sequence(rest);
        if is_kept(&rest[..length]) {
            clean += &rest[..length];
        }
        rest = &rest[length..];
    }
    clean + rest
}

/// Bytes of the escape sequence, or of the one character, that a text begins with.
fn sequence(text: &str) -> usize {
    let mut characters = text.char_indices();
    let Some((_, first)) = characters.next() else {
        return 0;
    };
    let (kind, body) = match first {
        '\u{1b}' => match characters.next() {
            Some((at, kind)) if !kind.is_control() => (kind, at + kind.len_utf8()),
            _ => return first.len_utf8(),
        },
        '\u{9b}' => ('[', first.len_utf8()),
        '\u{9d}' => (']', first.len_utf8()),
        other => return other.len_utf8(),
    };
    let inside = &text[body..];
    match kind {
        // Parameters, and the letter that ends them.
        '[' => inside
            .find(|c: char| !('\u{20}'..='\u{3f}').contains(&c))
            .map_or(text.len(), |end| {
                let last = inside[end..].chars().next().filter(|c| ('@'..='~').contains(c));
                body + end + last.map_or(0, char::len_utf8)
            }),
        // A title and the like, up to a bell or a terminator, and never over the end of the line.
        ']' | 'P' | 'X' | '^' | '_' => inside
            .find(['\u{7}', '\u{1b}', '\u{9c}', '\n'])
            .map_or(text.len(), |end| match inside[end..].chars().next() {
                Some('\u{1b}') if inside[end..].starts_with("\u{1b}\\") => body + end + 2,
                Some(end_mark @ ('\u{7}' | '\u{9c}')) => body + end + end_mark.len_utf8(),
                _ => body + end,
            }),
        '(' | ')' | '*' | '+' | '#' | '%' | ' ' => body + inside.chars().next().map_or(0, char::len_utf8),
        _ => body,
    }
}

/// A line of a program as a terminal would show it at its end: of a bar that was drawn anew after each carriage return,
/// what it was last.
pub(crate) fn whole_line(text: &str) -> String {
    let drawn = text.rsplit('\r').find(|part| !part.trim().is_empty());
    harmless(drawn.unwrap_or_default())
}

/// The same, cut where it is too long to stand among other news.
pub(crate) fn line(text: &str) -> String {
    let clean = whole_line(text);
    match clean.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_taken_out_and_text_stays() {
        for (text, clean) in [
            ("plain é\ttext\n", "plain é\ttext\n"),
            ("\u{1b}[31mred\u{1b}[0m\u{1b}[2J", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;never ends\nnext", "\nnext"),
            ("\u{9b}2Jc1\u{9d}t\u{9c}", "c1"),
            ("bell\u{7} back\u{8} null\0 \u{202e}turned", "bell back null turned"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
            ("\u{1b}(Bx\u{1b}cy", "xy"),
        ] {
            assert_eq!(harmless(text), clean, "{text:?}");
        }
        assert_eq!(
            coloured("\u{1b}[1;31merror:\u{1b}[0m \u{1b}[2J"),
            "\u{1b}[1;31merror:\u{1b}[0m "
        );
    }

    #[test]
    fn of_a_bar_the_last_state_is_shown() {
        assert_eq!(line("\r 1/3 |#  |\r 2/3 |## |\r 3/3 |###|\r"), " 3/3 |###|");
        assert_eq!(line("text\r"), "text");
        assert_eq!(line(&"x".repeat(1000)).chars().count(), LONGEST + 1);
    }
}
