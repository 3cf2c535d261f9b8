//! A figure as one SVG of its own: title, legend, and panels in a grid. It holds all that it shows, colours and sizes in
//! its elements, so that browsers, programs for drawing and converters draw it alike.

use super::description::{Content, Figure, Mark, Paint};
use super::font::{self, FAMILY};
use super::markup::escape;
use super::network::Network;
use super::panel::{Look, WIDTH, frame, inside, legend, range_texts, shared_axis, value_range};
use super::theme::{self, colour};

/// Pixels between what belongs together, and around all of it.
const GAP: f64 = 18.0;
const MARGIN: f64 = 10.0;
/// Sizes of letters.
const TITLE: f64 = 15.0;
const TEXT: f64 = 12.0;
/// Steps in which the colours of a matrix are shown.
const STEPS: usize = 40;

/// A figure as SVG. Sizes are in pixels, 96 to the inch.
pub(super) struct Paper {
    pub(super) svg: String,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Panels side by side where nothing else is asked for: up to two fill the width of a page.
fn usual_columns(panels: usize) -> usize {
    match panels {
        0..=4 => panels.clamp(1, 2),
        _ => 3,
    }
}

/// A figure on white paper. `columns`: panels side by side.
pub(super) fn paper(figure: &Figure<'_>, content: &Content, columns: Option<usize>) -> Paper {
    let columns = columns.unwrap_or_else(|| usual_columns(content.panels.len()));
    let columns = columns.clamp(1, content.panels.len().max(1));
    let width = 2.0 * MARGIN + columns as f64 * WIDTH + (columns - 1) as f64 * GAP;
    let room = width - 2.0 * MARGIN;
    let range = value_range(content);
    let mut body = String::new();
    let mut y = MARGIN;
    for line in font::lines(figure.title, TITLE, room) {
        y += TITLE * 1.3;
        body += &text(MARGIN, y - 4.0, TITLE, &line);
    }
    let (drawn, height) = above_panels(figure, content, range, y, room);
    body += &drawn;
    y = height;
    let shared = shared_axis(figure, content);
    for row in content.panels.chunks(columns) {
        let titles: Vec<Vec<String>> = row
            .iter()
            .map(|panel| font::lines(&panel.title, TEXT, WIDTH - 8.0))
            .collect();
        let lines = titles.iter().map(Vec::len).max().unwrap_or(0);
        let top = y + lines as f64 * TEXT * 1.3 + if lines > 0 { 4.0 } else { 0.0 };
        let mut tallest: f64 = 0.0;
        for (place, (panel, title)) in row.iter().zip(titles).enumerate() {
            let x = MARGIN + place as f64 * (WIDTH + GAP);
            let frame = frame(figure, panel, shared.as_ref());
            for (line, title) in title.iter().enumerate() {
                body += &text(x + frame.left, y + (line + 1) as f64 * TEXT * 1.3, TEXT, title);
            }
            let inside = inside(Look::Paper, figure, content, panel, &frame, range);
            body += &format!("<g transform=\"translate({x:.1} {top:.1})\">{inside}</g>\n");
            tallest = tallest.max(frame.total().1);
        }
        y = top + tallest + GAP / 2.0;
    }
    sheet(
        figure.title,
        &content.caption(figure),
        &body,
        width,
        y + MARGIN - GAP / 2.0,
    )
}

/// A drawing of a network on white paper.
pub(super) fn network_paper(title: &str, caption: &str, drawn: &Network) -> Paper {
    let body = text(MARGIN, MARGIN + TITLE, TITLE, title)
        + &format!(
            "<g transform=\"translate(0 {:.1})\">{}</g>\n",
            MARGIN + TITLE * 1.3,
            drawn.inside
        );
    sheet(title, caption, &body, drawn.width, drawn.height + MARGIN + TITLE * 1.3)
}

fn sheet(title: &str, caption: &str, body: &str, width: f64, height: f64) -> Paper {
    let (width, height) = (width.ceil(), height.ceil());
    Paper {
        svg: format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
             {height:.0}\" font-family=\"{FAMILY}\">\n<title>{}</title>\n<desc>{}</desc>\n<rect width=\"{width:.0}\" \
             height=\"{height:.0}\" fill=\"{}\"/>\n{body}</svg>\n",
            escape(title),
            escape(caption),
            theme::PAPER
        ),
        width,
        height,
    }
}

fn text(x: f64, y: f64, size: f64, text: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{}\">{}</text>\n",
        theme::INK,
        escape(text)
    )
}

/// Legend, and of a matrix its colours, below `y`; with the height at which panels begin.
fn above_panels(figure: &Figure<'_>, content: &Content, range: [f64; 2], y: f64, room: f64) -> (String, f64) {
    const ROW: f64 = 19.0;
    let mut body = String::new();
    let mut y = y;
    if figure.mark == Mark::Matrix {
        let [low, high] = range_texts(range);
        let left = MARGIN + font::width(&low, TEXT) + 6.0;
        let step = 120.0 / STEPS as f64;
        y += ROW;
        body += &text(MARGIN, y - 4.0, TEXT, &low);
        for place in 0..STEPS {
            body += &format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"11\" fill=\"{}\"/>",
                left + place as f64 * step,
                y - 14.0,
                step + 0.3,
                colour(Paint::Ordered(place as f64 / (STEPS - 1) as f64))
            );
        }
        let high = match content.value_label.as_str() {
            "" => high,
            label => format!("{high}   {label}"),
        };
        body += &text(left + 126.0, y - 4.0, TEXT, &high);
    }
    let mut x = room;
    for entry in legend(Look::Paper, figure, content) {
        // What bands are is a sentence; names are cut where they are wider than the figure.
        let lines = font::lines(&entry.text, TEXT, room - 44.0);
        let wide = lines.iter().map(|line| font::width(line, TEXT)).fold(0.0, f64::max) + 40.0;
        if x + wide > room {
            (x, y) = (0.0, y + ROW);
        }
        body += &format!(
            "<g transform=\"translate({:.1} {:.1})\">{}</g>",
            MARGIN + x,
            y - 15.0,
            entry.sample
        );
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                y += TEXT * 1.3;
            }
            body += &text(MARGIN + x + 40.0, y - 4.0, TEXT, line);
        }
        x += wide + GAP;
    }
    (body, y + 6.0)
}
