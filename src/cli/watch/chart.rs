//! Curves in braille: 2 x 4 dots in the place of a letter.

use serde::Serialize;

use super::sheet::{BOLD, PLAIN, SOFT, Sheet, Style};
use super::view::{Panel, Series};

/// Columns of the labels beside an axis, with the axis.
const LABELS: usize = 8;
/// Rows above and below the curves: name, axis, labels.
pub(super) const FRAME: usize = 3;
/// Columns below which there is nothing to see.
pub(super) const NARROWEST: usize = LABELS + 12;
/// Ratio of the largest value to the smallest one from which the axis is logarithmic.
const LOGARITHMIC: f64 = 30.0;

/// What a vertical axis spans.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    pub(super) fn of(series: &[Series], is_share: bool) -> Self {
        if is_share {
            return Self {
                low: 0.0,
                high: 1.0,
                is_logarithmic: false,
            };
        }
        let values = || {
            series
                .iter()
                .flat_map(|series| &series.points)
                .map(|(_, value)| f64::from(*value))
        };
        let (low, high) = (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        );
        if low > 0.0 && high / low > LOGARITHMIC {
            let decade = |value: f64, round: fn(f64) -> f64| 10f64.powf(round(value.log10()));
            return Self {
                low: decade(low, f64::floor),
                high: decade(high, f64::ceil),
                is_logarithmic: true,
            };
        }
        let (low, high) = (-above(-low), above(high));
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            is_logarithmic: false,
        }
    }

    /// From 0 at the lower end to 1 at the upper one.
    fn place(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value / self.low).log10() / (self.high / self.low).log10(),
            false => (value - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0)
    }

    fn at(&self, share: f64) -> f64 {
        match self.is_logarithmic {
            true => self.low * (self.high / self.low).powf(share),
            false => self.low + share * (self.high - self.low),
        }
    }
}

/// The next round number above, 0 for none above 0.
fn above(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 0.0;
    }
    let unit = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.into_iter().find(|step| step * unit >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * unit
}

/// A number in at most 6 letters.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1e5 || (size > 0.0 && size < 1e-3) {
        return format!("{value:.0e}");
    }
    let digits = if size >= 100.0 { 0 } else { 3 };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// What the horizontal axis spans: all that was trained, from its beginning or from where it went on.
pub(super) fn span(series: &[Series]) -> (f64, f64) {
    let places = || series.iter().flat_map(|series| &series.points).map(|(at, _)| *at);
    let (first, last) = (places().fold(f64::INFINITY, f64::min), places().fold(0.0, f64::max));
    let first = if first < 0.25 * last { 0.0 } else { first };
    match last > first {
        true => (first, last),
        false => (0.0, last.max(1.0)),
    }
}

fn style(series: &Series) -> (Style, &'static str, &'static str) {
    match (series.is_whole, series.is_validation) {
        (false, _) => ("36", "⠒", "batches"),
        (true, false) => ("1;33", "•", "training"),
        (true, true) => ("1;35", "×", "validation"),
    }
}

/// Draws a panel into `rows` + [`FRAME`] rows from the given one on.
pub(super) fn draw(sheet: &mut Sheet, top: usize, left: usize, width: usize, rows: usize, panel: &Panel) {
    if width < NARROWEST || rows == 0 {
        return;
    }
    let columns = width - LABELS;
    let Panel { scale, from, to, .. } = *panel;
    let cut = |text: &str| text.chars().take(width).collect::<String>();
    sheet.put(top, left, &cut(&panel.name), BOLD);
    let mut legend = left + panel.name.chars().count() + 2;
    let mut said: Vec<&str> = Vec::new();
    for series in &panel.series {
        let (colour, marker, name) = style(series);
        let name = if series.is_whole || panel.axis == "epoch" {
            name
        } else {
            "within"
        };
        if !said.contains(&name) && legend + name.len() + 2 <= left + width {
            sheet.put(top, legend, marker, colour);
            sheet.put(top, legend + 2, name, PLAIN);
            legend += name.len() + 4;
            said.push(name);
        }
    }
    for (row, share) in [
        (0, 1.0),
        (rows / 2, 1.0 - (rows / 2) as f64 / (rows - 1).max(1) as f64),
        (rows - 1, 0.0),
    ] {
        let label = short(scale.at(share));
        sheet.put(
            top + 1 + row,
            left,
            &format!("{label:>width$}", width = LABELS - 2),
            PLAIN,
        );
    }
    for row in 0..rows {
        sheet.put(top + 1 + row, left + LABELS - 1, "┤", SOFT);
    }
    let axis = top + 1 + rows;
    sheet.put(axis, left + LABELS - 1, &format!("└{}", "─".repeat(columns)), SOFT);
    let end = match panel.end > to {
        true => format!("{} of {}", short(to), short(panel.end)),
        false => short(to),
    };
    let name = &panel.axis;
    let start = short(from);
    sheet.put(axis + 1, left + LABELS, &start, PLAIN);
    sheet.put(
        axis + 1,
        (left + width).saturating_sub(end.chars().count()),
        &end,
        PLAIN,
    );
    let (before, long) = (start.chars().count() + 1, name.chars().count());
    let middle = columns.saturating_sub(long) / 2;
    if middle >= before && middle + long + end.chars().count() < columns {
        sheet.put(axis + 1, left + LABELS + middle, name, PLAIN);
    }
    let dot = |(at, value): (f64, f32)| {
        let across = ((at - from) / (to - from)).clamp(0.0, 1.0) * (2 * columns - 1) as f64;
        let down = (1.0 - scale.place(f64::from(value))) * (4 * rows - 1) as f64;
        (across.round() as usize, down.round() as usize)
    };
    let has_batches = panel.series.iter().any(|series| !series.is_whole);
    for series in &panel.series {
        let (colour, marker, _) = style(series);
        let dots: Vec<(usize, usize)> = series.points.iter().map(|point| dot(*point)).collect();
        if !series.is_whole || !has_batches {
            let cells = curve(&dots, columns, rows);
            for (row, cells) in cells.chunks(columns).enumerate() {
                for (column, bits) in cells.iter().enumerate().filter(|(_, bits)| **bits != 0) {
                    let letter = char::from_u32(0x2800 + u32::from(*bits)).unwrap_or('·');
                    sheet.put(top + 1 + row, left + LABELS + column, &letter.to_string(), colour);
                }
            }
        }
        if series.is_whole {
            for (x, y) in dots {
                sheet.put(top + 1 + y / 4, left + LABELS + x / 2, marker, colour);
            }
        }
    }
}

/// The letters of a line through these dots, row by row.
fn curve(dots: &[(usize, usize)], columns: usize, rows: usize) -> Vec<u8> {
    const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    let mut cells = vec![0; columns * rows];
    let mut set = |x: usize, y: usize| cells[(y / 4) * columns + x / 2] |= BITS[y % 4][x % 2];
    for pair in dots.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let steps = x0.abs_diff(x1).max(y0.abs_diff(y1)).max(1);
        for step in 0..=steps {
            let between = |a: usize, b: usize| {
                let share = step as f64 / steps as f64;
                (a as f64 + share * (b as f64 - a as f64)).round() as usize
            };
            set(between(x0, x1), between(y0, y1));
        }
    }
    if let [(x, y)] = dots {
        set(*x, *y);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f32)>) -> Panel {
        let series = vec![Series {
            name: "cross-entropy".into(),
            is_whole: false,
            is_validation: false,
            points,
        }];
        Panel::new("cross-entropy (nats)".into(), "epoch".into(), 10.0, false, series)
    }

    #[test]
    fn a_curve_is_drawn_within_its_axes() {
        let mut sheet = Sheet::new(30);
        draw(&mut sheet, 0, 0, 30, 4, &panel(vec![(0.0, 2.0), (4.0, 0.2)]));
        let lines = sheet.lines(99, false);
        assert_eq!(lines.len(), 4 + FRAME, "{lines:#?}");
        assert_eq!(lines[5], format!("       └{}", "─".repeat(22)));
        assert!(
            lines[6].trim_start().starts_with("0 ") && lines[6].ends_with("epoch  4 of 10"),
            "{lines:#?}"
        );
        assert!(
            lines[1].starts_with("     2 ┤") && lines[4].starts_with("     0 ┤"),
            "{lines:#?}"
        );
        let dots = |line: &str| line.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        // It falls from the left end to the right one.
        assert!(lines[1..5].iter().all(|line| dots(line) > 0), "{lines:#?}");
        assert!(lines[1].chars().position(|c| c > '\u{2800}') < lines[4].chars().position(|c| c > '\u{2800}'));
    }

    #[test]
    fn whatever_the_numbers_nothing_is_drawn_outside() {
        let all = [
            vec![],
            vec![(0.0, 0.0)],
            vec![(1e18, 1e29), (f64::MAX, -1e29)],
            vec![(5.0, 1e-30), (5.0, 1e29)],
            vec![(3.0, -1.0), (3.5, -1.0)],
        ];
        for points in all {
            for width in 0..60 {
                for rows in 0..5 {
                    let mut sheet = Sheet::new(width);
                    draw(&mut sheet, 0, 0, width, rows, &panel(points.clone()));
                    assert!(sheet.height() <= rows + FRAME, "{points:?}");
                }
            }
        }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, round) in [(2.31, 2.5), (0.07, 0.08), (1.0, 1.0), (990.0, 1000.0), (-1.0, 0.0)] {
            assert!((above(value) - round).abs() < 1e-9, "{value}: {}", above(value));
        }
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1234.5, "1234"),
            (1e7, "1e7"),
            (1e-5, "1e-5"),
            (12.0, "12"),
        ] {
            assert_eq!(short(value), text);
        }
        assert!(panel(vec![(0.0, 2000.0), (1.0, 3.0)]).scale.is_logarithmic);
    }
}
