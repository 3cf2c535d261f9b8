//! Figures as HTML with the numbers behind their points, for the script of the page.

use dynvis_runner::table::significant;

use super::html::{escape, json_block};
use crate::figure::description::{Curve, Panel};
use crate::figure::panel::{
    Frame, Look, TOP, cells, frame, inside, legend as entries, range_texts, shared_axis, value_range,
};
use crate::figure::scale::Axis;
use crate::figure::{Content, Figure, Mark};

/// A figure as an HTML element with its numbers. `id`: its place in the page.
pub(super) fn figure(id: usize, figure: &Figure<'_>, content: &Content) -> String {
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
    let said = content.caption(figure);
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

fn svg(figure: &Figure<'_>, content: &Content, panel: &Panel, frame: &Frame, range: [f64; 2]) -> String {
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
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" tabindex=\"0\" aria-label=\"{}\">{}<g class=\"at\"></g>\
         </svg>",
        escape(&described),
        inside(Look::Page, figure, content, panel, frame, range)
    )
}

/// What colours, dashes, bands and bars mean.
fn legend(figure: &Figure<'_>, content: &Content, range: [f64; 2]) -> String {
    let mut items: Vec<String> = Vec::new();
    if figure.mark == Mark::Matrix {
        let [low, high] = range_texts(range);
        items.push(format!(
            "<li>{low} <span class=\"ramp\"></span> {high} {} (empty: no value)</li>",
            escape(&content.value_label)
        ));
    }
    for entry in entries(Look::Page, figure, content) {
        items.push(format!(
            "<li><svg class=\"sample\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">{}</svg> {}</li>",
            entry.sample,
            escape(&entry.text)
        ));
    }
    match items.is_empty() {
        true => String::new(),
        false => format!("<ul class=\"legend\">{}</ul>\n", items.concat()),
    }
}

/// A panel's numbers for the script: where its axes stand and what its points are.
fn panel_json(figure: &Figure<'_>, panel: &Panel, frame: &Frame) -> String {
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
