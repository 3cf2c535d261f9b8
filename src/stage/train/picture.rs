//! A picture of the network: areas as boxes from left to right, projections as arrows.

use std::path::Path;

use cords::net::{CellKind, Euler, Graph, Origin, Via};
use kuva::plot::LinePlot;
use kuva::render::annotations::TextAnnotation;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;

use crate::stage::StageError;
use crate::stage::picture::{COLOURS, write_picture};

/// Between the middles of boxes, in units of the picture.
const PITCH: f64 = 3.3;
/// Half the width of a box.
const HALF_WIDTH: f64 = 1.15;
/// Pixels of a unit.
const PIXELS: f64 = 46.0;
/// Between lines of text.
const LEADING: f64 = 0.34;
/// Length of a dash.
const DASH: f64 = 0.2;
/// Between dashes.
const GAP: f64 = 0.12;

/// Size of names, in pixels.
const NAME: u32 = 13;
/// Size of all other text.
const TEXT: u32 = 10;

const GREY: &str = "#555555";
// What happens to a source before the convolution.
const DIRECT: &str = COLOURS[6];
const SHORTCUT: &str = COLOURS[2];
const ENLARGED: &str = COLOURS[1];

/// Writes `network.svg` and `network.png` into a folder.
pub(super) fn write(graph: &Graph, euler: &Euler, title: String, folder: &Path) -> Result<(), StageError> {
    let drawing = Drawing::of(graph, euler);
    write_picture(folder, "network", || drawing.plots(title.clone()))
}

/// A line through points.
struct Stroke {
    points: Vec<(f64, f64)>,
    colour: &'static str,
    width: f64,
}

struct Label {
    text: String,
    /// Its middle.
    at: (f64, f64),
    size: u32,
}

#[derive(Default)]
struct Drawing {
    strokes: Vec<Stroke>,
    labels: Vec<Label>,
    /// Last column of boxes.
    columns: usize,
    /// Half the height of a box.
    half_height: f64,
    /// Columns that arrows lead from and to, one for each arrow.
    drawn: Vec<(usize, usize)>,
    /// Heights that arcs reach above and below.
    above: f64,
    below: f64,
}

/// Column 0 is the input layer's, area l stands in column l + 1, the readout in the last.
fn column(area: usize) -> usize {
    area + 1
}

impl Drawing {
    fn of(graph: &Graph, euler: &Euler) -> Self {
        /// Between the first or last line of text and the border of a box.
        const PADDING: f64 = 0.3;
        let description = graph.description();
        let readout = column(graph.areas());
        let image = vec![
            "image".to_owned(),
            format!("{} x {} px", description.image_side, description.image_side),
            format!("to {} channels", description.input_channels),
        ];
        let mut boxes = vec![(image, GREY)];
        let taus = graph.euler(euler).map_or_else(|_| Vec::new(), |euler| euler.tau_ms);
        for (number, area) in description.areas.iter().enumerate() {
            let tau = match taus.as_slice() {
                [tau] => Some(tau),
                taus => taus.get(number),
            };
            // It has been a quotient, which need not be as short as what was given.
            let tau = tau.map(|tau| (tau * 1000.0).round() / 1000.0);
            let lines = [
                Some(area.name.clone()),
                Some(format!("{} x {} x {}", area.channels, area.side, area.side)),
                tau.map(|tau| format!("tau {tau} ms")),
                area.trains_tau.then(|| "trained".to_owned()),
                (area.cell != CellKind::Leaky).then(|| area.cell.name().to_owned()),
            ];
            boxes.push((lines.into_iter().flatten().collect(), COLOURS[0]));
        }
        let classes = format!("{} classes", description.classes);
        boxes.push((vec!["readout".to_owned(), classes], GREY));
        let most_lines = boxes.iter().map(|(lines, _)| lines.len()).max().unwrap_or(1);
        let half_height = 0.5 * LEADING * (most_lines as f64 - 1.0) + PADDING;
        let mut drawing = Self {
            columns: readout,
            half_height,
            above: half_height,
            below: half_height,
            ..Self::default()
        };
        for (column, (lines, colour)) in boxes.into_iter().enumerate() {
            drawing.block(column, &lines, colour);
        }
        for projection in &description.projections {
            let to = column(projection.to);
            for source in &projection.sources {
                let from = match source.from {
                    Origin::Image => 0,
                    Origin::Area(area) => column(area),
                };
                let colour = match source.via {
                    Via::Direct => DIRECT,
                    Via::Shortcut(_) => SHORTCUT,
                    Via::Upsampled(_) => ENLARGED,
                };
                drawing.arrow(from, to, colour);
            }
        }
        for area in &description.readout {
            drawing.arrow(column(*area), readout, GREY);
        }
        let sources = || {
            description
                .projections
                .iter()
                .flat_map(|projection| &projection.sources)
        };
        let has = |wanted: fn(&Via) -> bool| sources().any(|source| wanted(&source.via));
        let mut meanings = vec![(DIRECT, false, "activity as it is")];
        if has(|via| matches!(via, Via::Upsampled(_))) {
            meanings.push((ENLARGED, false, "enlarged"));
        }
        if has(|via| matches!(via, Via::Shortcut(_))) {
            meanings.push((SHORTCUT, false, "by a shortcut convolution"));
        }
        meanings.push((GREY, false, "read out"));
        if drawing.drawn.iter().any(|(from, to)| to < from) {
            meanings.push((GREY, true, "back to an earlier area"));
        }
        drawing.legend(&meanings);
        drawing
    }

    /// A box with its lines of text.
    fn block(&mut self, column: usize, lines: &[String], colour: &'static str) {
        const MARGIN: f64 = 0.08;
        let x = PITCH * column as f64;
        let (left, right, half_height) = (x - HALF_WIDTH, x + HALF_WIDTH, self.half_height);
        self.strokes.push(Stroke {
            points: vec![
                (left, -half_height),
                (right, -half_height),
                (right, half_height),
                (left, half_height),
                (left, -half_height),
            ],
            colour,
            width: 2.0,
        });
        let first = 0.5 * LEADING * (lines.len() as f64 - 1.0);
        for (number, text) in lines.iter().enumerate() {
            let size = if number == 0 { NAME } else { TEXT };
            self.labels.push(Label {
                text: shortened(text, size, 2.0 * (HALF_WIDTH - MARGIN)),
                at: (x, first - LEADING * number as f64),
                size,
            });
        }
    }

    /// What colours and dashes mean, below everything, in as many rows as it takes.
    fn legend(&mut self, meanings: &[(&'static str, bool, &str)]) {
        const SAMPLE: f64 = 0.6;
        let (first, end) = (-0.5 * PITCH + 0.4, PITCH * (self.columns as f64 + 0.5));
        let mut left = first;
        self.below += 0.7;
        for (colour, is_dashed, meaning) in meanings {
            let length = text_width(meaning, TEXT);
            if left > first && left + SAMPLE + 0.2 + length > end {
                left = first;
                self.below += LEADING;
            }
            let y = -self.below;
            self.line(vec![(left, y), (left + SAMPLE, y)], colour, *is_dashed, 2.0);
            left += SAMPLE + 0.2;
            self.labels.push(Label {
                text: (*meaning).to_owned(),
                at: (left + 0.5 * length, y),
                size: TEXT,
            });
            left += length + 0.5;
        }
    }

    /// A line, in dashes or not.
    fn line(&mut self, points: Vec<(f64, f64)>, colour: &'static str, is_dashed: bool, width: f64) {
        let parts = if is_dashed { dashes(&points) } else { vec![points] };
        self.strokes
            .extend(parts.into_iter().map(|points| Stroke { points, colour, width }));
    }

    /// An arrow between boxes: straight to the next one, in an arc above others, dashed and below where it leads back,
    /// as a loop on top where it stays. Further ones between the same boxes are drawn beside it.
    fn arrow(&mut self, from: usize, to: usize, colour: &'static str) {
        /// Height of an arc that spans one box more than its neighbour.
        const ARC: f64 = 0.9;
        /// Between arrows of one pair of boxes.
        const BESIDE: f64 = 0.2;
        let before = self.drawn.iter().filter(|ends| **ends == (from, to)).count();
        self.drawn.push((from, to));
        let beside = BESIDE * before as f64;
        let (start, end) = (PITCH * from as f64, PITCH * to as f64);
        let span = from.abs_diff(to) as f64;
        let is_back = to < from;
        let points = if to == from + 1 {
            // By turns above and below the first one, as far as the boxes reach.
            let sign = if before % 2 == 1 { 1.0 } else { -1.0 };
            let y = sign * (BESIDE * before.div_ceil(2) as f64).min(self.half_height);
            vec![(start + HALF_WIDTH, y), (end - HALF_WIDTH, y)]
        } else if to == from {
            let height = 0.7 + beside;
            self.above = self.above.max(self.half_height + height);
            let (left, right) = (start - 0.2, start + 0.2);
            arc(
                (left, self.half_height),
                (right, self.half_height),
                height,
                0.5 + beside,
            )
        } else {
            let sign = if is_back { -1.0 } else { 1.0 };
            let height = ARC * span + beside;
            let reached = if is_back { &mut self.below } else { &mut self.above };
            *reached = reached.max(self.half_height + height);
            // Arcs leave right and arrive left of the middle of their boxes, so that they do not meet; of one pair,
            // higher ones go around lower ones.
            let aside = (0.6 - 0.5 * beside).max(0.3) * (end - start).signum();
            let y = sign * self.half_height;
            arc((start + aside, y), (end - aside, y), sign * height, 0.0)
        };
        if let [.., before, tip] = points[..] {
            self.head(before, tip, colour);
        }
        self.line(points, colour, is_back, 1.5);
    }

    fn head(&mut self, before: (f64, f64), tip: (f64, f64), colour: &'static str) {
        const LENGTH: f64 = 0.22;
        let (dx, dy) = (tip.0 - before.0, tip.1 - before.1);
        let length = dx.hypot(dy).max(f64::MIN_POSITIVE);
        let (dx, dy) = (LENGTH * dx / length, LENGTH * dy / length);
        let side = |sign: f64| (tip.0 - dx - sign * 0.45 * dy, tip.1 - dy + sign * 0.45 * dx);
        self.strokes.push(Stroke {
            points: vec![side(1.0), tip, side(-1.0)],
            colour,
            width: 1.5,
        });
    }

    fn plots(&self, title: String) -> (Vec<Plot>, Layout) {
        /// Pixels above the drawing, where the title stands.
        const TOP: f64 = 47.0;
        /// Pixels below it.
        const BOTTOM: f64 = 10.0;
        let stroke = |stroke: &Stroke| {
            let line = LinePlot::new()
                .with_data(stroke.points.iter().copied())
                .with_color(stroke.colour)
                .with_stroke_width(stroke.width);
            Plot::Line(line)
        };
        let plots: Vec<Plot> = self.strokes.iter().map(stroke).collect();
        let (left, right) = (-PITCH * 0.5, PITCH * (self.columns as f64 + 0.5));
        let (low, high) = (-self.below - 0.3, self.above + 0.3);
        let nothing = || TickFormat::Custom(std::sync::Arc::new(|_| String::new()));
        let layout = Layout::auto_from_plots(&plots)
            .with_title(title)
            .with_x_axis_min(left)
            .with_x_axis_max(right)
            .with_y_axis_min(low)
            .with_y_axis_max(high)
            .with_width(PIXELS * (right - left))
            .with_height(PIXELS * (high - low) + TOP + BOTTOM)
            .with_force_margins(0.0, 0.0)
            .with_force_margins_y(TOP, BOTTOM)
            .with_show_grid(false)
            // A width of 0 is drawn as a hair; a theme has a grid of its own.
            .with_theme(Theme {
                axis_color: "white".into(),
                tick_color: "white".into(),
                show_grid: false,
                ..Theme::default()
            })
            .with_axis_line_width(0.0)
            .with_tick_width(0.0)
            .with_tick_length(0.0)
            .with_x_tick_format(nothing())
            .with_y_tick_format(nothing());
        let annotation = |layout: Layout, label: &Label| {
            /// Pixels by which text is raised above its place, and the height of capitals as a share of its size.
            const RAISED: f64 = 6.0;
            const CAPITALS: f64 = 0.73;
            let (x, middle) = label.at;
            let y = middle - (RAISED + 0.5 * CAPITALS * f64::from(label.size)) / PIXELS;
            layout.with_annotation(TextAnnotation::new(label.text.clone(), x, y).with_font_size(label.size))
        };
        (plots, self.labels.iter().fold(layout, annotation))
    }
}

/// Half an ellipse between two points, higher than these by a height and wider by so much on either side.
fn arc(from: (f64, f64), to: (f64, f64), height: f64, wider: f64) -> Vec<(f64, f64)> {
    const POINTS: usize = 24;
    (0..=POINTS)
        .map(|step| {
            let part = step as f64 / POINTS as f64;
            let up = (std::f64::consts::PI * part).sin();
            let x = from.0 + (to.0 - from.0) * part + wider * up * (part - 0.5) * 2.0;
            (x, from.1 + (to.1 - from.1) * part + height * up)
        })
        .collect()
}

/// The parts of a line that are drawn where it is dashed: dashes go on around its corners.
fn dashes(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut parts = Vec::new();
    let mut part: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    let (mut is_drawn, mut left) = (true, DASH);
    for (from, to) in points.iter().zip(points.iter().skip(1)) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let mut walked = 0.0;
        while length - walked > left {
            walked += left;
            let at = (from.0 + dx * walked / length, from.1 + dy * walked / length);
            part.push(at);
            if is_drawn {
                parts.push(std::mem::take(&mut part));
            }
            is_drawn = !is_drawn;
            left = if is_drawn { DASH } else { GAP };
        }
        left -= length - walked;
        if is_drawn {
            part.push(*to);
        }
    }
    if part.len() > 1 {
        parts.push(part);
    }
    parts
}

/// About how wide text of a size is, in units of the picture.
fn text_width(text: &str, size: u32) -> f64 {
    let of = |letter: char| match letter {
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | 'I' | ' ' | '.' | ',' | ':' | ';' | '\'' | '|' | '(' | ')' | '-' => 0.36,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 1.0,
        letter if letter.is_ascii_uppercase() => 0.76,
        letter if letter.is_ascii() => 0.62,
        _ => 1.0,
    };
    text.chars().map(of).sum::<f64>() * f64::from(size) / PIXELS
}

/// The text, or its beginning where it is wider than that.
fn shortened(text: &str, size: u32, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut letters: Vec<char> = text.chars().collect();
    loop {
        letters.pop();
        let short: String = letters.iter().chain(&['\u{2026}']).collect();
        if letters.is_empty() || text_width(&short, size) <= width {
            return short;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_and_short_ones_stay() {
        let width = 2.0 * HALF_WIDTH;
        assert_eq!(shortened("V1", NAME, width), "V1");
        let short = shortened("inferotemporal_cortex_anterior", NAME, width);
        assert!(short.starts_with("infero") && short.ends_with('\u{2026}'), "{short}");
        assert!(text_width(&short, NAME) <= width, "{short}");
    }

    #[test]
    fn dashes_have_one_length_around_corners() {
        // Steps that are shorter than a dash.
        let points: Vec<(f64, f64)> = (0..=100).map(|step| (0.01 * f64::from(step), 0.0)).collect();
        let parts = dashes(&points);
        // Of 1 in all: dashes from 0, 0.32, 0.64 and 0.96.
        assert_eq!(parts.len(), 4);
        for (number, part) in parts.iter().enumerate() {
            let (first, last) = (part.first().expect("a point"), part.last().expect("a point"));
            assert!((first.0 - (DASH + GAP) * number as f64).abs() < 1e-9, "{part:?}");
            let end = ((DASH + GAP) * number as f64 + DASH).min(1.0);
            assert!((last.0 - end).abs() < 1e-9, "{part:?}");
        }
    }
}
