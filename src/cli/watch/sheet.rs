//! Rows of letters with their colours: what a terminal shows.

/// A colour or weight, as terminals are told it.
pub(super) type Style = &'static str;

pub(super) const PLAIN: Style = "";
pub(super) const BOLD: Style = "1";
pub(super) const SOFT: Style = "2";

#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) width: usize,
    rows: Vec<Vec<(char, Style)>>,
}

impl Sheet {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            rows: Vec::new(),
        }
    }

    pub(super) fn height(&self) -> usize {
        self.rows.len()
    }

    /// Writes into a row from a column on, over what stands there; what has no room is left out.
    pub(super) fn put(&mut self, row: usize, column: usize, text: &str, style: Style) {
        while self.rows.len() <= row {
            self.rows.push(Vec::new());
        }
        let cells = &mut self.rows[row];
        for (at, letter) in (column..self.width).zip(text.chars()) {
            while cells.len() <= at {
                cells.push((' ', PLAIN));
            }
            cells[at] = (letter, style);
        }
    }

    /// A row below all others.
    pub(super) fn add(&mut self, text: &str, style: Style) {
        self.put(self.rows.len(), 0, text, style);
    }

    /// The rows as lines, with colours or without.
    pub(super) fn lines(&self, height: usize, colour: bool) -> Vec<String> {
        let rows = self.rows.iter().take(height);
        rows.map(|row| {
            let end = row
                .iter()
                .rposition(|(letter, _)| *letter != ' ')
                .map_or(0, |last| last + 1);
            let mut text = String::new();
            let mut now = PLAIN;
            for (letter, style) in &row[..end] {
                if colour && *style != now {
                    text += if now.is_empty() { "" } else { "\u{1b}[0m" };
                    if !style.is_empty() {
                        text += &format!("\u{1b}[{style}m");
                    }
                    now = style;
                }
                text.push(*letter);
            }
            text + if now.is_empty() { "" } else { "\u{1b}[0m" }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_left_out_and_colours_end() {
        let mut sheet = Sheet::new(8);
        sheet.add("one two three", BOLD);
        sheet.put(2, 4, "12", PLAIN);
        assert_eq!(sheet.lines(9, false), ["one two", "", "    12"]);
        assert_eq!(sheet.lines(1, true), ["\u{1b}[1mone two\u{1b}[0m"]);
        let mut narrow = Sheet::new(0);
        narrow.add("x", PLAIN);
        assert_eq!(narrow.lines(9, true), [""]);
    }
}
