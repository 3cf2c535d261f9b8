//! Figures as files: SVG, PDF with text as text, and PNG with 300 dots to the inch.

use std::sync::{Arc, LazyLock};

use krilla::geom::Size;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt as _, SvgSettings};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::description::{Content, Figure};
use super::font::FONT;
use super::network::Network;
use super::paper::{Paper, network_paper, paper};

/// Pixels to the inch of an SVG, points to the inch of a PDF, dots to the inch of a PNG.
const PIXELS: f64 = 96.0;
const POINTS: f64 = 72.0;
const DOTS: f64 = 300.0;
/// Dots of a PNG; a larger figure has fewer to the inch.
const MOST_DOTS: f64 = 60e6;

/// Nothing but the font of the program, so that a figure is the same everywhere.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// A figure as bytes of files.
pub(crate) struct Drawn {
    pub(crate) svg: String,
    pub(crate) pdf: Vec<u8>,
    pub(crate) png: Vec<u8>,
}

impl Drawn {
    /// Endings of files and what they hold.
    pub(crate) fn files(&self) -> [(&'static str, &[u8]); 3] {
        [
            ("svg", self.svg.as_bytes()),
            ("pdf", self.pdf.as_slice()),
            ("png", self.png.as_slice()),
        ]
    }
}

/// Draws a figure. `columns`: panels side by side.
///
/// # Errors
/// Why it cannot be drawn, in a sentence without its end.
pub(crate) fn draw(figure: &Figure<'_>, content: &Content, columns: Option<usize>) -> Result<Drawn, String> {
    files(paper(figure, content, columns))
}

/// Draws a network.
///
/// # Errors
/// As [`draw`].
pub(crate) fn draw_network(title: &str, caption: &str, drawn: &Network) -> Result<Drawn, String> {
    files(network_paper(title, caption, drawn))
}

fn files(paper: Paper) -> Result<Drawn, String> {
    let options = Options {
        fontdb: Arc::clone(&FONTS),
        font_family: "DejaVu Sans".to_owned(),
        ..Options::default()
    };
    let tree = Tree::from_str(&paper.svg, &options).map_err(|error| format!("the figure is no SVG: {error}"))?;
    Ok(Drawn {
        pdf: pdf(&tree, paper.width, paper.height)?,
        png: png(&tree, paper.width, paper.height)?,
        svg: paper.svg,
    })
}

fn pdf(tree: &Tree, width: f64, height: f64) -> Result<Vec<u8>, String> {
    let size = [width, height].map(|pixels| (pixels * POINTS / PIXELS) as f32);
    let size = Size::from_wh(size[0], size[1]).ok_or("the figure has no size")?;
    let mut document = krilla::Document::new();
    let mut page = document.start_page_with(PageSettings::new(size));
    let mut surface = page.surface();
    surface
        .draw_svg(tree, size, SvgSettings::default())
        .ok_or("the figure cannot be drawn as PDF")?;
    surface.finish();
    page.finish();
    document
        .finish()
        .map_err(|error| format!("the figure cannot be drawn as PDF: {error:?}"))
}

fn png(tree: &Tree, width: f64, height: f64) -> Result<Vec<u8>, String> {
    let most = (MOST_DOTS / (width * height)).sqrt();
    let scale = (DOTS / PIXELS).min(most);
    let [columns, rows] = [width, height].map(|pixels| (pixels * scale).round() as u32);
    let mut picture = Pixmap::new(columns, rows).ok_or("the figure has no size")?;
    picture.fill(Color::WHITE);
    resvg::render(
        tree,
        Transform::from_scale(scale as f32, scale as f32),
        &mut picture.as_mut(),
    );
    // On white nothing is transparent.
    let colours: Vec<u8> = picture
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, columns, rows);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let to_the_metre = (scale * PIXELS / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: to_the_metre,
        yppu: to_the_metre,
        unit: png::Unit::Meter,
    }));
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&colours)?;
        writer.finish()
    });
    written.map_err(|error| format!("the figure cannot be written as PNG: {error}"))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::description::{Across, Aggregate, Curve, LINES, Mark, Paint, Panel, Point};

    fn content(values: &[f64]) -> Content {
        let point = |(place, value): (usize, &f64)| Point {
            x: place as f64,
            y: *value,
            row: 0.0,
            interval: Some([value - 0.1, value + 0.1]),
            n: 1,
        };
        let curve = |style: usize| Curve {
            label: format!("a <curve> & {style}"),
            paint: if style.is_multiple_of(2) {
                Paint::Category(style)
            } else {
                Paint::Ordered(0.3)
            },
            style,
            points: values.iter().enumerate().map(point).collect(),
            breaks: vec![1],
        };
        Content {
            panels: vec![
                Panel {
                    title: "a panel with a title that is longer than the panel is wide, and so has several lines"
                        .into(),
                    curves: (0..4).map(curve).collect(),
                    guides: vec![Across {
                        is_vertical: false,
                        at: 0.5,
                        name: "chance".into(),
                    }],
                },
                Panel {
                    title: String::new(),
                    curves: vec![curve(0)],
                    guides: Vec::new(),
                },
            ],
            x_label: "x [ms]".into(),
            y_label: "\u{3b1} [1/ms]".into(),
            intervals: vec!["plus and minus".into()],
            over: Vec::new(),
            common: Vec::new(),
            left_out: Vec::new(),
            value_label: "value".into(),
            missing: 1,
            not_on_axis: 0,
            beyond: 2,
        }
    }

    #[test]
    fn every_mark_is_drawn_of_any_values() {
        for mark in [Mark::Lines, Mark::Points, Mark::Forest, Mark::Matrix] {
            for is_log in [false, true] {
                for values in [
                    &[0.2, 0.9, -0.3][..],
                    &[1.0],
                    &[0.0, 0.0],
                    &[1e300, -1e300],
                    &[5e-324, 1.0],
                ] {
                    let figure = Figure {
                        title: "T",
                        mark,
                        aggregate: Aggregate::Mean,
                        is_log_x: is_log,
                        is_log_y: is_log,
                        y: &[("value", "")],
                        ..LINES
                    };
                    for columns in [None, Some(1), Some(12)] {
                        let drawn = draw(&figure, &content(values), columns);
                        let drawn = drawn.unwrap_or_else(|why| panic!("{mark:?} {values:?}: {why}"));
                        let wrong = ["NaN", "inf"].iter().find(|word| {
                            drawn.svg.contains(&format!("{word}\"")) || drawn.svg.contains(&format!("{word} "))
                        });
                        assert_eq!(wrong, None, "{mark:?} {values:?} {is_log}: {}", drawn.svg);
                        assert!(drawn.pdf.starts_with(b"%PDF") && drawn.png.starts_with(b"\x89PNG"));
                    }
                }
            }
        }
    }
}
