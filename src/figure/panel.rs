//! One panel of a figure as SVG: axes, lines across, curves with their bands and markers, forest plots and matrices.
//!
//! For a page everything has a class, and the page's style gives it a colour, light or dark. On paper colours and sizes
//! stand in every element, since programs for drawing and for slides read styles badly, and markers are shapes.

use dynvis_runner::table::significant;

use super::description::{Across, Content, Curve, Figure, Mark, Paint, Panel};
use super::font;
use super::markup::escape;
use super::scale::{Axis, number};
use super::theme::{self, colour};

/// What a figure is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A page whose style knows the classes of the elements.
    Page,
    /// A file of its own.
    Paper,
}

/// Colours of the theme.
pub(crate) const COLOURS: usize = theme::CATEGORIES.len();
/// Sizes in pixels of a panel and of what lies around its axes.
pub(super) const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 236.0;
/// What is left of the axes beside the widest label of a tick, and all of it at least.
const LEFT: [f64; 2] = [32.0, 58.0];
const RIGHT: f64 = 12.0;
pub(crate) const TOP: f64 = 8.0;
const BOTTOM: f64 = 44.0;
/// Of a forest plot: room for names, at least and at most, and height of a row.
const NAMES: [f64; 2] = [60.0, 190.0];
const ROW: f64 = 20.0;
/// More points are drawn smaller.
const MANY: usize = 60;

/// A panel's axes and where they stand.
pub(crate) struct Frame {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) left: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.left + self.x.place(x) * self.width,
            TOP + (1.0 - self.y.place(y)) * self.height,
        )
    }

    /// Width and height with all that lies around the axes.
    pub(crate) fn total(&self) -> (f64, f64) {
        (self.left + self.width + RIGHT, TOP + self.height + BOTTOM)
    }
}

/// Room for the labels of a vertical axis.
fn left_of(axis: &Axis) -> f64 {
    let widths = axis.ticks.iter().map(|(_, label)| font::width(label, 12.0));
    (LEFT[0] + widths.fold(0.0, f64::max)).max(LEFT[1])
}

/// The ends of a matrix's colours, in words.
pub(crate) fn range_texts(range: [f64; 2]) -> [String; 2] {
    range.map(|value| significant(value, 3).replace('-', "\u{2212}"))
}

/// Smallest and largest value of a matrix.
pub(crate) fn value_range(content: &Content) -> [f64; 2] {
    let curves = content.panels.iter().flat_map(|panel| &panel.curves);
    let values = curves.flat_map(|curve| &curve.points).map(|point| point.y);
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
        [low.min(value), high.max(value)]
    })
}

/// Values are compared between panels: one vertical axis for all of them.
pub(crate) fn shared_axis(figure: &Figure<'_>, content: &Content) -> Option<Axis> {
    let is_shared = matches!(figure.mark, Mark::Lines | Mark::Forest) && !figure.is_apart;
    is_shared.then(|| {
        let points = content
            .panels
            .iter()
            .flat_map(|panel| &panel.curves)
            .flat_map(|curve| &curve.points);
        let values = points.flat_map(|point| [point.y].into_iter().chain(point.interval.into_iter().flatten()));
        let guides = content.panels.iter().flat_map(|panel| &panel.guides);
        // Values of a forest plot lie on the horizontal axis.
        let is_of_values = |across: &&Across| across.is_vertical == (figure.mark == Mark::Forest);
        let guides = guides.filter(is_of_values).map(|across| across.at);
        Axis::of(values.chain(guides), figure.is_log_y, figure.y_range)
    })
}

pub(crate) fn frame(figure: &Figure<'_>, panel: &Panel, shared: Option<&Axis>) -> Frame {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let vertical = || {
        let guides = panel.guides.iter().filter(|across| across.is_vertical);
        guides.map(|across| across.at)
    };
    match figure.mark {
        Mark::Forest => {
            let values = points().flat_map(|point| [point.y].into_iter().chain(point.interval.into_iter().flatten()));
            let rows = panel.curves.len() as f64;
            let names = panel.curves.iter().map(|curve| font::width(&curve.label, 12.0));
            let left = names.fold(0.0, f64::max).clamp(NAMES[0], NAMES[1]) + 14.0;
            Frame {
                x: shared
                    .cloned()
                    .unwrap_or_else(|| Axis::of(values.chain(vertical()), figure.is_log_y, figure.y_range)),
                y: Axis {
                    low: rows - 0.5,
                    high: -0.5,
                    is_log: false,
                    ticks: Vec::new(),
                },
                left,
                width: WIDTH - left - RIGHT,
                height: ROW * rows,
            }
        }
        Mark::Matrix => {
            let (columns, rows) = cells(panel);
            let axis = |values: &[f64]| {
                // Every n-th cell has a label.
                let every = values.len().div_ceil(8).max(1);
                let ticks = values.iter().enumerate().step_by(every);
                Axis {
                    low: -0.5,
                    high: values.len() as f64 - 0.5,
                    is_log: false,
                    ticks: ticks.map(|(place, value)| (place as f64, number(*value))).collect(),
                }
            };
            let y = axis(&rows);
            let left = left_of(&y);
            Frame {
                x: axis(&columns),
                y,
                left,
                width: WIDTH - left - RIGHT,
                height: HEIGHT - TOP - BOTTOM,
            }
        }
        Mark::Lines | Mark::Points => {
            let values = points().map(|point| point.y);
            let y = shared
                .cloned()
                .unwrap_or_else(|| Axis::of(values, figure.is_log_y, figure.y_range));
            let left = left_of(&y);
            Frame {
                x: Axis::of(points().map(|point| point.x).chain(vertical()), figure.is_log_x, None),
                y,
                left,
                width: WIDTH - left - RIGHT,
                height: HEIGHT - TOP - BOTTOM,
            }
        }
    }
}

/// Values of the columns and rows of a matrix, ascending.
pub(crate) fn cells(panel: &Panel) -> (Vec<f64>, Vec<f64>) {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let distinct = |values: &mut dyn Iterator<Item = f64>| {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    };
    (
        distinct(&mut points().map(|point| point.x)),
        distinct(&mut points().map(|point| point.row)),
    )
}

/// What a class is on paper, but for the colour of a curve.
fn attributes(class: &str) -> String {
    let text = |anchor: &str, size: u32, colour: &str| {
        format!("text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\"")
    };
    let line = |colour: &str, width: &str| format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"");
    match class {
        "tick" => text("middle", 12, theme::INK),
        "label" => text("middle", 13, theme::INK),
        "name" => text("end", 12, theme::INK),
        "guide-name" => text("end", 12, theme::SOFT),
        "grid" => line(theme::RULE, "1"),
        "axis" => line(theme::SOFT, "1.2"),
        "beside" => text("start", 12, theme::INK),
        "box" => format!("fill=\"#f6f8fa\" stroke=\"{}\" stroke-width=\"1.3\"", theme::SOFT),
        "box-name" => text("middle", 12, theme::INK),
        "box-text" => text("middle", 11, theme::SOFT),
        "flow" => line(theme::INK, "1.4"),
        "flow-shortcut" => line(theme::INK, "1.4") + " stroke-dasharray=\"5 3\"",
        "loop" => line(theme::CATEGORIES[0], "1.8"),
        "back" => line(theme::CATEGORIES[1], "1.6"),
        "back-upsampled" => line(theme::CATEGORIES[1], "1.6") + " stroke-dasharray=\"5 3\"",
        "tip" => format!("fill=\"{}\"", theme::INK),
        _ => line(theme::SOFT, "1.2") + " stroke-dasharray=\"5 4\"",
    }
}

/// Styles that tell curves apart, by dashes and, of four, by markers.
pub(crate) const STYLES: usize = 8;
pub(crate) const MARKERS: usize = 4;

/// Dashes by the style of a curve.
const DASHES: [&str; STYLES] = [
    "",
    " stroke-dasharray=\"7 4\"",
    " stroke-dasharray=\"2 3.5\"",
    " stroke-dasharray=\"9 3 2 3\"",
    " stroke-dasharray=\"12 3\"",
    " stroke-dasharray=\"4 2 1 2 1 2\"",
    " stroke-dasharray=\"1 2\"",
    " stroke-dasharray=\"6 7\"",
];

impl Look {
    /// The class of an element, or what it is.
    pub(super) fn class(self, class: &str) -> String {
        match self {
            Self::Page => format!("class=\"{class}\""),
            Self::Paper => attributes(class),
        }
    }

    pub(super) fn text(self, class: &str, x: f64, y: f64, text: &str) -> String {
        format!(
            "<text {} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            self.class(class),
            escape(text)
        )
    }

    pub(super) fn path(self, class: &str, d: &str) -> String {
        format!("<path {} d=\"{d}\"/>", self.class(class))
    }

    fn line(self, paint: Paint, style: usize, width: f64, d: &str) -> String {
        match self {
            Self::Page => {
                let painted = painted(paint, &format!("line d{}", style % STYLES));
                format!("<path {painted} stroke-width=\"{width:.1}\" d=\"{d}\"/>")
            }
            Self::Paper => format!(
                "<path fill=\"none\" stroke=\"{}\" stroke-linejoin=\"round\" stroke-width=\"{width:.1}\"{} d=\"{d}\"/>",
                colour(paint),
                DASHES[style % STYLES]
            ),
        }
    }

    fn band(self, paint: Paint, d: &str) -> String {
        match self {
            Self::Page => format!("<path {} d=\"{d}\"/>", painted(paint, "band")),
            Self::Paper => format!("<path fill=\"{}\" fill-opacity=\"0.18\" d=\"{d}\"/>", colour(paint)),
        }
    }

    fn bar(self, paint: Paint, d: &str) -> String {
        match self {
            Self::Page => format!("<path {} d=\"{d}\"/>", painted(paint, "bar")),
            Self::Paper => format!(
                "<path fill=\"none\" stroke=\"{}\" stroke-width=\"2\" d=\"{d}\"/>",
                colour(paint)
            ),
        }
    }

    fn cell(self, paint: Paint, [x, y, width, height]: [f64; 4]) -> String {
        let painted = match self {
            Self::Page => painted(paint, "cell"),
            Self::Paper => format!("fill=\"{}\"", colour(paint)),
        };
        format!("<rect {painted} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>")
    }

    /// Markers: discs and squares, filled or hollow. On a page they are lines of length 0 with round or square ends, one
    /// element for all of a curve.
    fn markers(self, paint: Paint, style: usize, is_small: bool, places: &[(f64, f64)]) -> String {
        let style = style % MARKERS;
        match self {
            Self::Page => {
                let size = if is_small { " small" } else { "" };
                let d: String = places.iter().map(|(x, y)| format!("M{x:.1},{y:.1}h0")).collect();
                let mut out = format!("<path {} d=\"{d}\"/>", painted(paint, &format!("dots m{style}{size}")));
                if style >= 2 {
                    out += &format!("<path class=\"hole m{style}{size}\" d=\"{d}\"/>");
                }
                out
            }
            Self::Paper => {
                let half = if is_small { 1.6 } else { 3.0 };
                let (colour, paper) = (colour(paint), theme::PAPER);
                let fill = match style {
                    0 | 1 => format!("fill=\"{colour}\""),
                    _ => format!("fill=\"{paper}\" stroke=\"{colour}\" stroke-width=\"1.6\""),
                };
                let shape = |(x, y): &(f64, f64)| match style {
                    0 | 2 => format!("<circle {fill} cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{half}\"/>"),
                    _ => format!(
                        "<rect {fill} x=\"{:.1}\" y=\"{:.1}\" width=\"{side}\" height=\"{side}\"/>",
                        x - half + 0.3,
                        y - half + 0.3,
                        side = 2.0 * half - 0.6
                    ),
                };
                places.iter().map(shape).collect()
            }
        }
    }
}

/// The classes of an element in the colour of a curve, and where it is a place on a scale the place.
fn painted(paint: Paint, class: &str) -> String {
    match paint {
        Paint::Category(n) => format!("class=\"{class} k{}\"", n % COLOURS),
        Paint::Neutral => format!("class=\"{class} kn\""),
        Paint::Ordered(place) => format!("class=\"{class} ko\" style=\"--p:{:.0}%\"", 100.0 * place),
    }
}

/// What stands within a panel, as elements below an `svg` element of its size.
pub(crate) fn inside(
    look: Look,
    figure: &Figure<'_>,
    content: &Content,
    panel: &Panel,
    frame: &Frame,
    range: [f64; 2],
) -> String {
    let mut out = axes(look, figure, content, frame);
    // What lies beyond the axes is cut off.
    out += &format!(
        "<svg x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" viewBox=\"{:.1} {TOP} {:.1} {:.1}\">",
        frame.left, frame.width, frame.height, frame.left, frame.width, frame.height
    );
    out += &guides(look, panel, frame);
    match figure.mark {
        Mark::Lines => {
            out.extend(panel.curves.iter().map(|curve| band(look, curve, frame)));
            for (place, curve) in panel.curves.iter().enumerate() {
                // Later curves are thinner, so that those below are seen where curves coincide.
                let width = 1.6 + 0.5 * (panel.curves.len() - 1 - place) as f64;
                out += &look.line(curve.paint, curve.style, width, &broken_path(curve, frame));
            }
            out.extend(panel.curves.iter().map(|curve| markers(look, curve, frame)));
        }
        Mark::Points => out.extend(panel.curves.iter().map(|curve| markers(look, curve, frame))),
        Mark::Forest => out += &forest(look, panel, frame),
        Mark::Matrix => out += &matrix(look, panel, frame, range),
    }
    out += "</svg>";
    if figure.mark == Mark::Forest {
        for (row, curve) in panel.curves.iter().enumerate() {
            let (_, y) = frame.at(frame.x.low, row as f64);
            let label = font::cut_within(&curve.label, 12.0, frame.left - 12.0);
            out += &look.text("name", frame.left - 8.0, y + 4.0, &label);
        }
    }
    out
}

/// Grid, ticks and labels.
fn axes(look: Look, figure: &Figure<'_>, content: &Content, frame: &Frame) -> String {
    let (left, bottom) = (frame.left, TOP + frame.height);
    let right = left + frame.width;
    let mut grid = String::new();
    let mut texts = String::new();
    let mut free = f64::NEG_INFINITY;
    for (value, label) in &frame.x.ticks {
        let (x, _) = frame.at(*value, frame.y.low);
        grid += &format!("M{x:.1},{TOP}V{bottom:.1}");
        // Where there is no room for all labels, some are left out.
        let half = 0.5 * font::width(label, 12.0);
        if x - half >= free {
            texts += &look.text("tick", x, bottom + 15.0, label);
            free = x + half + 4.0;
        }
    }
    for (value, label) in &frame.y.ticks {
        let (_, y) = frame.at(frame.x.low, *value);
        grid += &format!("M{left:.1},{y:.1}H{right:.1}");
        texts += &look.text("name", left - 6.0, y + 4.0, label);
    }
    // A label may be as wide as the panel.
    let x_label = font::cut(&content.x_label, 13.0, right + RIGHT - 4.0);
    let half = 0.5 * font::width(&x_label, 13.0);
    let middle = (0.5 * (left + right)).min(right + RIGHT - half).max(half);
    let below = look.text("label", middle, bottom + 34.0, &x_label);
    let beside = match figure.mark {
        Mark::Forest => String::new(),
        _ => {
            let room = frame.height + TOP + 0.6 * BOTTOM;
            // As large as others where there is room, and then smaller, down to what can be read.
            let size = (13.0 * room / font::width(&content.y_label, 13.0).max(1.0)).clamp(9.0, 13.0);
            format!(
                "<text {} style=\"font-size:{size:.1}px\" transform=\"translate(13 {:.1}) rotate(-90)\">{}</text>",
                look.class("label"),
                TOP + 0.5 * frame.height,
                escape(&font::cut(&content.y_label, size, room + 8.0))
            )
        }
    };
    let axis = look.path("axis", &format!("M{left:.1},{TOP}V{bottom:.1}H{right:.1}"));
    look.path("grid", &grid) + &axis + &texts + &below + &beside
}

fn guides(look: Look, panel: &Panel, frame: &Frame) -> String {
    let guide = |across: &Across| {
        let (x, y) = frame.at(across.at, across.at);
        let (right, bottom) = (frame.left + frame.width, TOP + frame.height);
        match across.is_vertical {
            true => {
                // To the left of the line, or to its right where there is more room.
                let (to_left, to_right) = (x - frame.left, right - x);
                let name = font::cut(&across.name, 12.0, to_left.max(to_right) - 8.0);
                let end = match font::width(&name, 12.0) + 6.0 > to_left {
                    true => x + 4.0 + font::width(&name, 12.0),
                    false => x - 4.0,
                };
                look.path("guide", &format!("M{x:.1},{TOP}V{bottom:.1}"))
                    + &look.text("guide-name", end, TOP + 12.0, &name)
            }
            false => {
                let name = font::cut(&across.name, 12.0, frame.width - 8.0);
                let above = if y - 14.0 < TOP { y + 13.0 } else { y - 4.0 };
                look.path("guide", &format!("M{:.1},{y:.1}H{right:.1}", frame.left))
                    + &look.text("guide-name", right - 4.0, above, &name)
            }
        }
    };
    panel.guides.iter().map(guide).collect()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (place, (x, y)) in points.enumerate() {
        out += &format!("{}{x:.1},{y:.1}", if place == 0 { 'M' } else { 'L' });
    }
    out
}

/// The line of a curve, which goes across no place without a value.
fn broken_path(curve: &Curve, frame: &Frame) -> String {
    let mut starts = curve.breaks.iter().copied().peekable();
    let mut out = String::new();
    for (place, point) in curve.points.iter().enumerate() {
        let is_start = place == 0 || starts.next_if_eq(&place).is_some();
        let (x, y) = frame.at(point.x, point.y);
        out += &format!("{}{x:.1},{y:.1}", if is_start { 'M' } else { 'L' });
    }
    out
}

fn band(look: Look, curve: &Curve, frame: &Frame) -> String {
    let ends: Vec<(f64, [f64; 2])> = curve
        .points
        .iter()
        .filter_map(|point| Some((point.x, point.interval?)))
        .collect();
    match ends.as_slice() {
        [] => String::new(),
        [(x, [low, high])] => {
            let ((x, low), (_, high)) = (frame.at(*x, *low), frame.at(*x, *high));
            look.bar(curve.paint, &format!("M{x:.1},{low:.1}V{high:.1}"))
        }
        _ => {
            let above = ends.iter().map(|(x, [_, high])| frame.at(*x, *high));
            let below = ends.iter().rev().map(|(x, [low, _])| frame.at(*x, *low));
            look.band(curve.paint, &(path(above.chain(below)) + "Z"))
        }
    }
}

fn markers(look: Look, curve: &Curve, frame: &Frame) -> String {
    let places: Vec<(f64, f64)> = curve.points.iter().map(|point| frame.at(point.x, point.y)).collect();
    look.markers(curve.paint, curve.style, places.len() > MANY, &places)
}

fn forest(look: Look, panel: &Panel, frame: &Frame) -> String {
    let mut out = String::new();
    for (row, curve) in panel.curves.iter().enumerate() {
        for point in &curve.points {
            let (x, y) = frame.at(point.y, row as f64);
            if let Some([low, high]) = point.interval {
                let ((low, _), (high, _)) = (frame.at(low, 0.0), frame.at(high, 0.0));
                out += &look.bar(curve.paint, &format!("M{low:.1},{y:.1}H{high:.1}"));
            }
            out += &look.markers(curve.paint, curve.style % 2, false, &[(x, y)]);
        }
    }
    out
}

fn matrix(look: Look, panel: &Panel, frame: &Frame, [low, high]: [f64; 2]) -> String {
    let (columns, rows) = cells(panel);
    let (width, height) = (frame.width / columns.len() as f64, frame.height / rows.len() as f64);
    let place = |values: &[f64], value: f64| values.iter().position(|known| *known == value).unwrap_or(0) as f64;
    let mut out = String::new();
    for point in panel.curves.iter().flat_map(|curve| &curve.points) {
        let (x, y) = frame.at(place(&columns, point.x), place(&rows, point.row));
        let share = if high > low {
            (point.y - low) / (high - low)
        } else {
            0.5
        };
        // Neighbours overlap a little, or a line of paper shows between them.
        let cell = [x - 0.5 * width, y - 0.5 * height, width + 0.2, height + 0.2];
        out += &look.cell(Paint::Ordered(share), cell);
    }
    out
}

/// An entry of a legend.
pub(crate) struct Entry {
    /// Elements within 34 by 14 pixels.
    pub(crate) sample: String,
    pub(crate) text: String,
}

/// What colours, dashes, bands and bars mean; of a matrix nothing.
pub(crate) fn legend(look: Look, figure: &Figure<'_>, content: &Content) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    if matches!(figure.mark, Mark::Lines | Mark::Points) {
        for curve in content.panels.iter().flat_map(|panel| &panel.curves) {
            if curve.label.is_empty() || entries.iter().any(|entry| entry.text == curve.label) {
                continue;
            }
            let line = match figure.mark {
                Mark::Lines => look.line(curve.paint, curve.style, 2.0, "M1,7H33"),
                _ => String::new(),
            };
            entries.push(Entry {
                sample: line + &look.markers(curve.paint, curve.style, false, &[(17.0, 7.0)]),
                text: curve.label.clone(),
            });
        }
    }
    if !content.intervals.is_empty() {
        let (what, sample) = match figure.mark {
            Mark::Forest => ("bar", look.bar(Paint::Neutral, "M3,7H31")),
            _ => ("band", look.band(Paint::Neutral, "M1,2H33V12H1Z")),
        };
        entries.push(Entry {
            sample,
            text: format!("{what}: {}", content.intervals.join("; ")),
        });
    }
    entries
}
