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

/// Between the middles of boxes, half the width and half the height of a box, in units of the picture.
const PITCH: f64 = 3.0;
const HALF_WIDTH: f64 = 1.0;
const HALF_HEIGHT: f64 = 0.95;
/// Pixels of a unit.
const PIXELS: f64 = 46.0;
/// Height of an arc that spans one box more than its neighbour.
const ARC: f64 = 0.9;

/// Between lines of text.
const LEADING: f64 = 0.34;

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
    is_dashed: bool,
    width: f64,
}

struct Label {
    text: String,
    at: (f64, f64),
    size: u32,
}

#[derive(Default)]
struct Drawing {
    strokes: Vec<Stroke>,
    labels: Vec<Label>,
    /// Last column of boxes.
    columns: usize,
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
        let description = graph.description();
        let readout = column(graph.areas());
        let mut drawing = Self {
            columns: readout,
            above: HALF_HEIGHT,
            below: HALF_HEIGHT,
            ..Self::default()
        };
        let image = [
            "image".to_owned(),
            format!("{} x {} px", description.image_side, description.image_side),
            format!("to {} channels", description.input_channels),
        ];
        drawing.block(0, &image, GREY);
        let taus = graph.euler(euler).map_or_else(|_| Vec::new(), |euler| euler.tau_ms);
        for (number, area) in description.areas.iter().enumerate() {
            let tau = match taus.as_slice() {
                [tau] => Some(tau),
                taus => taus.get(number),
            };
            let trained = if area.trains_tau { ", trained" } else { "" };
            let lines = [
                Some(area.name.clone()),
                Some(format!("{} x {} x {}", area.channels, area.side, area.side)),
                tau.map(|tau| format!("tau {tau} ms{trained}")),
                (area.cell != CellKind::Leaky).then(|| area.cell.name().to_owned()),
            ];
            let lines: Vec<String> = lines.into_iter().flatten().collect();
            drawing.block(column(number), &lines, COLOURS[0]);
        }
        drawing.block(
            readout,
            &["readout".to_owned(), format!("{} classes", description.classes)],
            GREY,
        );
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
        let mut meanings = vec![(DIRECT, "activity as it is"), (GREY, "read out")];
        if has(|via| matches!(via, Via::Shortcut(_))) {
            meanings.insert(1, (SHORTCUT, "by a shortcut convolution"));
        }
        if has(|via| matches!(via, Via::Upsampled(_))) {
            meanings.insert(1, (ENLARGED, "enlarged"));
        }
        drawing.legend(&meanings);
        drawing
    }

    /// A box with its lines of text.
    fn block(&mut self, column: usize, lines: &[String], colour: &'static str) {
        let x = PITCH * column as f64;
        let (left, right) = (x - HALF_WIDTH, x + HALF_WIDTH);
        self.strokes.push(Stroke {
            points: vec![
                (left, -HALF_HEIGHT),
                (right, -HALF_HEIGHT),
                (right, HALF_HEIGHT),
                (left, HALF_HEIGHT),
                (left, -HALF_HEIGHT),
            ],
            colour,
            is_dashed: false,
            width: 2.0,
        });
        let first = 0.5 * LEADING * (lines.len() as f64 - 1.0) - 0.12;
        for (number, text) in lines.iter().enumerate() {
            self.labels.push(Label {
                text: text.clone(),
                at: (x, first - LEADING * number as f64),
                size: if number == 0 { 13 } else { 10 },
            });
        }
    }

    /// What colours mean, in a row below everything; dashed arrows lead back.
    fn legend(&mut self, meanings: &[(&'static str, &str)]) {
        let room = PITCH * (self.columns + 1) as f64 / meanings.len() as f64;
        let y = -self.below - 0.7;
        for (number, (colour, meaning)) in meanings.iter().enumerate() {
            let left = -0.5 * PITCH + room * number as f64 + 0.4;
            self.strokes.push(Stroke {
                points: vec![(left, y), (left + 0.6, y)],
                colour: *colour,
                is_dashed: false,
                width: 2.0,
            });
            self.labels.push(Label {
                text: (*meaning).to_owned(),
                at: (left + 0.8 + 0.055 * meaning.len() as f64 * 1.3, y - 0.12),
                size: 10,
            });
        }
        self.below += 0.7;
    }

    /// An arrow between boxes: straight to the next one, in an arc above others, dashed and below where it leads back,
    /// as a loop on top where it stays.
    fn arrow(&mut self, from: usize, to: usize, colour: &'static str) {
        let (start, end) = (PITCH * from as f64, PITCH * to as f64);
        let span = from.abs_diff(to) as f64;
        let is_back = to < from;
        let points = if to == from + 1 {
            vec![(start + HALF_WIDTH, 0.0), (end - HALF_WIDTH, 0.0)]
        } else if to == from {
            let height = 0.7;
            self.above = self.above.max(HALF_HEIGHT + height);
            arc((start - 0.3, HALF_HEIGHT), (start + 0.3, HALF_HEIGHT), height, 0.5)
        } else {
            let sign = if is_back { -1.0 } else { 1.0 };
            let height = ARC * span.max(1.0);
            let reached = if is_back { &mut self.below } else { &mut self.above };
            *reached = reached.max(HALF_HEIGHT + height);
            // Arcs leave right and arrive left of the middle of their boxes, so that they do not meet.
            let aside = 0.5 * (end - start).signum();
            let y = sign * HALF_HEIGHT;
            arc((start + aside, y), (end - aside, y), sign * height, 0.0)
        };
        if let [.., before, tip] = points[..] {
            self.head(before, tip, colour);
        }
        self.strokes.push(Stroke {
            points,
            colour,
            is_dashed: is_back,
            width: 1.5,
        });
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
            is_dashed: false,
            width: 1.5,
        });
    }

    fn plots(&self, title: String) -> (Vec<Plot>, Layout) {
        let stroke = |stroke: &Stroke| {
            let line = LinePlot::new()
                .with_data(stroke.points.iter().copied())
                .with_color(stroke.colour)
                .with_stroke_width(stroke.width);
            Plot::Line(if stroke.is_dashed { line.with_dashed() } else { line })
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
            .with_height(PIXELS * (high - low) + 60.0)
            .with_show_grid(false)
            // A width of 0 is drawn as a hair.
            .with_theme(Theme {
                axis_color: "white".into(),
                ..Theme::default()
            })
            .with_axis_line_width(0.0)
            .with_tick_width(0.0)
            .with_tick_length(0.0)
            .with_x_tick_format(nothing())
            .with_y_tick_format(nothing());
        let annotation = |layout: Layout, label: &Label| {
            let (x, y) = label.at;
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
