//! Figures as SVG within HTML, with the numbers behind their points for the script of the page.
//!
//! Colours are names that the page's style gives, light and dark: a network has the same in every figure.

use dynvis_runner::table::significant;

use super::figure::{Content, Curve, Figure, Guide, Mark, Paint, Panel};
use super::html::{escape, json_block};
use super::scale::{Axis, number};

/// Colours of the page's style.
const COLOURS: usize = 8;
/// Sizes in pixels of a panel and of what lies around its axes.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 44.0;
/// Of a forest plot: room for names, and height of a row.
const NAMES: f64 = 150.0;
const ROW: f64 = 20.0;
/// Letters of a name for which there is room.
const LETTERS: usize = 24;
/// More points are drawn smaller.
const MANY: usize = 60;

/// A panel's axes and where they stand.
struct Frame {
    x: Axis,
    y: Axis,
    left: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.left + self.x.place(x) * self.width,
            TOP + (1.0 - self.y.place(y)) * self.height,
        )
    }

    fn total(&self) -> (f64, f64) {
        (self.left + self.width + RIGHT, TOP + self.height + BOTTOM)
    }
}

/// A figure as an HTML element with its numbers. `id`: its place in the page.
pub(super) fn figure(id: usize, figure: &Figure, content: &Content) -> String {
    let range = value_range(content);
    let shared = shared_axis(figure, content);
    let mut panels = String::new();
    let mut numbers = Vec::new();
    for panel in &content.panels {
        let frame = frame(figure, panel, shared.as_ref());
        let svg = svg(figure, content, panel, &frame, range);
        let title = match panel.title.as_str() {
            "" => String::new(),
            title => format!("<p class=\"panel-title\">{}</p>", escape(title)),
        };
        panels += &format!("<div class=\"panel\">{title}{svg}</div>\n");
        numbers.push(panel_json(figure, panel, &frame));
    }
    let mut said = figure.caption.to_owned();
    let mut say = |text: String| {
        said.push(' ');
        said += &text;
    };
    if !content.common.is_empty() {
        say(format!("All of it: {}.", content.common.join(", ")));
    }
    if !content.averaged.is_empty() && figure.mark != Mark::Matrix {
        say(format!("Mean over {}.", content.averaged.join(", ")));
    }
    let left_out = content
        .left_out
        .iter()
        .map(|text| left_out(&format!("Not drawn: {text}.")));
    let json = format!(
        "{{\"mark\":{:?},\"x\":{},\"y\":{},\"value\":{},\"panels\":[{}]}}",
        match figure.mark {
            Mark::Lines => "lines",
            Mark::Points => "points",
            Mark::Forest => "forest",
            Mark::Matrix => "matrix",
        },
        text(&content.x_label),
        text(&content.y_label),
        text(figure.y.first().map_or("", |(name, _)| name)),
        numbers.join(",")
    );
    format!(
        "<figure id=\"figure-{id}\" class=\"figure\"><figcaption><h3>{}</h3><p>{}</p></figcaption>\n{}\
         <div class=\"panels{}\">\n{panels}</div>\n{}</figure>\n{}",
        escape(figure.title),
        escape(&said),
        legend(figure, content, range),
        if figure.mark == Mark::Forest { " wide" } else { "" },
        left_out.collect::<String>(),
        json_block(&format!("numbers-{id}"), &json)
    )
}

/// A line that says what is not in the page.
pub(super) fn left_out(text: &str) -> String {
    format!("<p class=\"left-out\">{}</p>\n", escape(text))
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Smallest and largest value of a matrix.
fn value_range(content: &Content) -> [f64; 2] {
    let curves = content.panels.iter().flat_map(|panel| &panel.curves);
    let values = curves.flat_map(|curve| &curve.points).map(|point| point.y);
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
        [low.min(value), high.max(value)]
    })
}

/// Values are compared between panels: one vertical axis for all of them.
fn shared_axis(figure: &Figure, content: &Content) -> Option<Axis> {
    (figure.mark == Mark::Lines).then(|| {
        let points = content
            .panels
            .iter()
            .flat_map(|panel| &panel.curves)
            .flat_map(|curve| &curve.points);
        let values = points.flat_map(|point| [point.y].into_iter().chain(point.interval.into_iter().flatten()));
        let guides = content.panels.iter().flat_map(|panel| &panel.guides);
        let guides = guides
            .filter(|(guide, _)| !matches!(guide, Guide::Vertical(..)))
            .map(|(_, at)| *at);
        Axis::of(values.chain(guides), figure.is_log_y, figure.y_range)
    })
}

fn frame(figure: &Figure, panel: &Panel, shared: Option<&Axis>) -> Frame {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let vertical = || {
        let guides = panel
            .guides
            .iter()
            .filter(|(guide, _)| matches!(guide, Guide::Vertical(..)));
        guides.map(|(_, at)| *at)
    };
    match figure.mark {
        Mark::Forest => {
            let values = points().flat_map(|point| [point.y].into_iter().chain(point.interval.into_iter().flatten()));
            let rows = panel.curves.len() as f64;
            Frame {
                x: Axis::of(values.chain(vertical()), figure.is_log_y, figure.y_range),
                y: Axis {
                    low: rows - 0.5,
                    high: -0.5,
                    is_log: false,
                    ticks: Vec::new(),
                },
                left: NAMES,
                width: WIDTH - NAMES - RIGHT,
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
            Frame {
                x: axis(&columns),
                y: axis(&rows),
                left: LEFT,
                width: WIDTH - LEFT - RIGHT,
                height: HEIGHT - TOP - BOTTOM,
            }
        }
        Mark::Lines | Mark::Points => {
            let values = points().map(|point| point.y);
            Frame {
                x: Axis::of(points().map(|point| point.x).chain(vertical()), false, None),
                y: shared
                    .cloned()
                    .unwrap_or_else(|| Axis::of(values, figure.is_log_y, figure.y_range)),
                left: LEFT,
                width: WIDTH - LEFT - RIGHT,
                height: HEIGHT - TOP - BOTTOM,
            }
        }
    }
}

/// Values of the columns and rows of a matrix, ascending.
fn cells(panel: &Panel) -> (Vec<f64>, Vec<f64>) {
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

fn svg(figure: &Figure, content: &Content, panel: &Panel, frame: &Frame, range: [f64; 2]) -> String {
    let (width, height) = frame.total();
    let described = format!(
        "{}{}: {} against {}, {} curves. Arrow keys go through the points.",
        figure.title,
        if panel.title.is_empty() {
            String::new()
        } else {
            format!(", {}", panel.title)
        },
        if figure.mark == Mark::Forest {
            "names"
        } else {
            &content.y_label
        },
        content.x_label,
        panel.curves.len()
    );
    let mut out = format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" tabindex=\"0\" aria-label=\"{}\">",
        escape(&described)
    );
    out += &axes(figure, content, frame);
    // What lies beyond the axes is cut off.
    out += &format!(
        "<svg x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" viewBox=\"{:.1} {TOP} {:.1} {:.1}\">",
        frame.left, frame.width, frame.height, frame.left, frame.width, frame.height
    );
    out += &guides(panel, frame);
    match figure.mark {
        Mark::Lines => {
            for (place, curve) in panel.curves.iter().enumerate() {
                out += &band(curve, frame);
                // Later curves are thinner, so that those below are seen where curves coincide.
                out += &line(curve, frame, 1.6 + 0.5 * (panel.curves.len() - 1 - place) as f64);
            }
            out.extend(panel.curves.iter().map(|curve| dots(curve, frame)));
        }
        Mark::Points => out.extend(panel.curves.iter().map(|curve| dots(curve, frame))),
        Mark::Forest => out += &forest(panel, frame),
        Mark::Matrix => out += &matrix(panel, frame, range),
    }
    out += "</svg>";
    if figure.mark == Mark::Forest {
        for (row, curve) in panel.curves.iter().enumerate() {
            let (_, y) = frame.at(frame.x.low, row as f64);
            out += &format!(
                "<text class=\"name\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
                NAMES - 8.0,
                y + 4.0,
                escape(&shortened(&curve.label))
            );
        }
    }
    out + "<g class=\"at\"></g></svg>"
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}\u{2026}", &label[..end]),
        None => label.to_owned(),
    }
}

/// Grid, ticks and labels.
fn axes(figure: &Figure, content: &Content, frame: &Frame) -> String {
    let (left, bottom) = (frame.left, TOP + frame.height);
    let right = left + frame.width;
    let mut grid = String::new();
    let mut texts = String::new();
    for (value, label) in &frame.x.ticks {
        let (x, _) = frame.at(*value, frame.y.low);
        grid += &format!("M{x:.1},{TOP}V{bottom:.1}");
        texts += &format!(
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
            bottom + 15.0
        );
    }
    for (value, label) in &frame.y.ticks {
        let (_, y) = frame.at(frame.x.low, *value);
        grid += &format!("M{left:.1},{y:.1}H{right:.1}");
        texts += &format!(
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    let below = format!(
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        0.5 * (left + right),
        bottom + 34.0,
        escape(&content.x_label)
    );
    let beside = match figure.mark {
        Mark::Forest => String::new(),
        _ => format!(
            "<text class=\"label\" transform=\"translate(13 {:.1}) rotate(-90)\">{}</text>",
            TOP + 0.5 * frame.height,
            escape(&content.y_label)
        ),
    };
    format!(
        "<path class=\"grid\" d=\"{grid}\"/><path class=\"axis\" d=\"M{left:.1},{TOP}V{bottom:.1}H{right:.1}\"/>{texts}{below}{beside}"
    )
}

fn guides(panel: &Panel, frame: &Frame) -> String {
    let mut out = String::new();
    for (guide, at) in &panel.guides {
        let (Guide::Horizontal(_, name) | Guide::Vertical(_, name) | Guide::Column(_, name)) = guide;
        let (x, y) = frame.at(*at, *at);
        let (right, bottom) = (frame.left + frame.width, TOP + frame.height);
        out += &match guide {
            Guide::Vertical(..) => format!(
                "<path class=\"guide\" d=\"M{x:.1},{TOP}V{bottom:.1}\"/><text class=\"guide-name\" x=\"{:.1}\" \
                 y=\"{:.1}\">{name}</text>",
                x - 4.0,
                TOP + 12.0
            ),
            _ => format!(
                "<path class=\"guide\" d=\"M{:.1},{y:.1}H{right:.1}\"/><text class=\"guide-name\" x=\"{:.1}\" \
                 y=\"{:.1}\">{name}</text>",
                frame.left,
                right - 4.0,
                y - 4.0
            ),
        };
    }
    out
}

/// The classes, and where it is a place on a scale the place, of a colour.
fn paint(paint: Paint, class: &str) -> String {
    match paint {
        Paint::Category(n) => format!("class=\"{class} k{}\"", n % COLOURS),
        Paint::Ordered(place) => format!("class=\"{class} ko\" style=\"--p:{:.0}%\"", 100.0 * place),
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (place, (x, y)) in points.enumerate() {
        out += &format!("{}{x:.1},{y:.1}", if place == 0 { 'M' } else { 'L' });
    }
    out
}

fn band(curve: &Curve, frame: &Frame) -> String {
    let ends: Vec<(f64, [f64; 2])> = curve
        .points
        .iter()
        .filter_map(|point| Some((point.x, point.interval?)))
        .collect();
    match ends.as_slice() {
        [] => String::new(),
        [(x, [low, high])] => {
            let ((x, low), (_, high)) = (frame.at(*x, *low), frame.at(*x, *high));
            format!("<path {} d=\"M{x:.1},{low:.1}V{high:.1}\"/>", paint(curve.paint, "bar"))
        }
        _ => {
            let above = ends.iter().map(|(x, [_, high])| frame.at(*x, *high));
            let below = ends.iter().rev().map(|(x, [low, _])| frame.at(*x, *low));
            format!(
                "<path {} d=\"{}Z\"/>",
                paint(curve.paint, "band"),
                path(above.chain(below))
            )
        }
    }
}

fn line(curve: &Curve, frame: &Frame, width: f64) -> String {
    let points = curve.points.iter().map(|point| frame.at(point.x, point.y));
    let class = format!("line d{}", curve.style % 4);
    format!(
        "<path {} stroke-width=\"{width:.1}\" d=\"{}\"/>",
        paint(curve.paint, &class),
        path(points)
    )
}

/// Markers: lines of length 0 with round or square ends.
fn dots(curve: &Curve, frame: &Frame) -> String {
    let size = if curve.points.len() > MANY { " small" } else { "" };
    let mut d = String::new();
    for point in &curve.points {
        let (x, y) = frame.at(point.x, point.y);
        d += &format!("M{x:.1},{y:.1}h0");
    }
    let mut out = format!(
        "<path {} d=\"{d}\"/>",
        paint(curve.paint, &format!("dots m{}{size}", curve.style % 4))
    );
    if curve.style % 4 >= 2 {
        out += &format!("<path class=\"hole m{}{size}\" d=\"{d}\"/>", curve.style % 4);
    }
    out
}

fn forest(panel: &Panel, frame: &Frame) -> String {
    let mut out = String::new();
    for (row, curve) in panel.curves.iter().enumerate() {
        for point in &curve.points {
            let (x, y) = frame.at(point.y, row as f64);
            if let Some([low, high]) = point.interval {
                let ((low, _), (high, _)) = (frame.at(low, 0.0), frame.at(high, 0.0));
                out += &format!("<path {} d=\"M{low:.1},{y:.1}H{high:.1}\"/>", paint(curve.paint, "bar"));
            }
            let class = format!("dots m{}", curve.style % 2);
            out += &format!("<path {} d=\"M{x:.1},{y:.1}h0\"/>", paint(curve.paint, &class));
        }
    }
    out
}

fn matrix(panel: &Panel, frame: &Frame, [low, high]: [f64; 2]) -> String {
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
        out += &format!(
            "<rect {} x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            paint(Paint::Ordered(share), "cell"),
            x - 0.5 * width,
            y - 0.5 * height,
            width + 0.2,
            height + 0.2
        );
    }
    out
}

/// What colours, dashes, bands and bars mean.
fn legend(figure: &Figure, content: &Content, [low, high]: [f64; 2]) -> String {
    let mut items: Vec<String> = Vec::new();
    let sample =
        |inside: &str| format!("<svg class=\"sample\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">{inside}</svg>");
    match figure.mark {
        Mark::Matrix => items.push(format!(
            "<li>{} <span class=\"ramp\"></span> {} (grey: no value)</li>",
            number(low),
            number(high)
        )),
        Mark::Forest => {}
        Mark::Lines | Mark::Points => {
            let mut seen: Vec<&str> = Vec::new();
            for curve in content.panels.iter().flat_map(|panel| &panel.curves) {
                if curve.label.is_empty() || seen.contains(&curve.label.as_str()) {
                    continue;
                }
                seen.push(&curve.label);
                let style = curve.style % 4;
                let line = match figure.mark {
                    Mark::Lines => format!(
                        "<path {} stroke-width=\"2\" d=\"M1,7H33\"/>",
                        paint(curve.paint, &format!("line d{style}"))
                    ),
                    _ => String::new(),
                };
                let hole = if style >= 2 {
                    format!("<path class=\"hole m{style}\" d=\"M17,7h0\"/>")
                } else {
                    String::new()
                };
                let dot = format!(
                    "<path {} d=\"M17,7h0\"/>{hole}",
                    paint(curve.paint, &format!("dots m{style}"))
                );
                items.push(format!("<li>{} {}</li>", sample(&(line + &dot)), escape(&curve.label)));
            }
        }
    }
    if !content.intervals.is_empty() {
        let (what, drawn) = match figure.mark {
            Mark::Forest => ("bar", "<path class=\"bar k0\" d=\"M3,7H31\"/>"),
            _ => ("band", "<path class=\"band k0\" d=\"M1,2H33V12H1Z\"/>"),
        };
        items.push(format!(
            "<li>{} {what}: {}</li>",
            sample(drawn),
            escape(&content.intervals.join("; "))
        ));
    }
    match items.is_empty() {
        true => String::new(),
        false => format!("<ul class=\"legend\">{}</ul>\n", items.concat()),
    }
}

/// A panel's numbers for the script: where its axes stand and what its points are.
fn panel_json(figure: &Figure, panel: &Panel, frame: &Frame) -> String {
    let list = |values: &mut dyn Iterator<Item = f64>| -> String {
        let texts: Vec<String> = values.map(|value| significant(value, 6)).collect();
        format!("[{}]", texts.join(","))
    };
    let axis = |axis: &Axis| format!("[{:e},{:e},{}]", axis.low, axis.high, axis.is_log);
    let (columns, rows) = cells(panel);
    let curve = |(row, curve): (usize, &Curve)| {
        let points = || curve.points.iter();
        let mut parts = vec![format!("\"label\":{}", text(&curve.label))];
        let mut add = |name: &str, values: &mut dyn Iterator<Item = f64>| {
            parts.push(format!("\"{name}\":{}", list(values)));
        };
        match figure.mark {
            Mark::Forest => {
                add("x", &mut points().map(|point| point.y));
                add("y", &mut points().map(|_| row as f64));
            }
            Mark::Matrix => {
                let place =
                    |values: &[f64], value: f64| values.iter().position(|known| *known == value).unwrap_or(0) as f64;
                add("x", &mut points().map(|point| place(&columns, point.x)));
                add("y", &mut points().map(|point| place(&rows, point.row)));
                add("v", &mut points().map(|point| point.y));
            }
            Mark::Lines | Mark::Points => {
                add("x", &mut points().map(|point| point.x));
                add("y", &mut points().map(|point| point.y));
            }
        }
        if points().any(|point| point.interval.is_some()) && figure.mark != Mark::Matrix {
            let ends: Vec<String> = points()
                .map(|point| {
                    point
                        .interval
                        .map_or("null".to_owned(), |ends| list(&mut ends.into_iter()))
                })
                .collect();
            parts.push(format!("\"i\":[{}]", ends.join(",")));
        }
        if points().any(|point| point.n > 1) {
            let counts: Vec<String> = points().map(|point| point.n.to_string()).collect();
            parts.push(format!("\"n\":[{}]", counts.join(",")));
        }
        format!("{{{}}}", parts.join(","))
    };
    let curves: Vec<String> = panel.curves.iter().enumerate().map(curve).collect();
    let cells = match figure.mark {
        Mark::Matrix => format!(
            ",\"columns\":{},\"rows\":{}",
            list(&mut columns.iter().copied()),
            list(&mut rows.iter().copied())
        ),
        _ => String::new(),
    };
    format!(
        "{{\"box\":[{:.1},{TOP},{:.1},{:.1}],\"ax\":{},\"ay\":{}{cells},\"curves\":[{}]}}",
        frame.left,
        frame.width,
        frame.height,
        axis(&frame.x),
        axis(&frame.y),
        curves.join(",")
    )
}
