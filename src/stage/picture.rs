//! Pictures of results, each as SVG and as PNG.

use std::path::Path;

use kuva::plot::LinePlot;
use kuva::plot::legend::LegendPosition;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::StageError;

/// Colours that the colour-blind tell apart (Okabe and Ito), with a dark gold in place of yellow, which is faint on
/// white.
pub(super) const COLOURS: [&str; 8] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8F7F00",
];

/// A line with its spread.
pub(super) struct Curve {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Lower and upper ends at every point; empty where there are none.
    pub(super) band: Vec<[f64; 2]>,
}

/// Several curves over one axis.
#[derive(Default)]
pub(super) struct Curves {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    /// Ends of the vertical axis; those of the data if not given.
    pub(super) y_range: Option<[f64; 2]>,
    pub(super) log_y: bool,
    /// Whether the horizontal axis counts: it has ticks at all whole numbers and nowhere else.
    pub(super) counts_x: bool,
    pub(super) curves: Vec<Curve>,
}

impl Curves {
    /// Writes `name.svg` and `name.png` into a folder.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<(), StageError> {
        write_picture(folder, name, || self.plots())
    }

    fn plots(&self) -> (Vec<Plot>, Layout) {
        let line = |(index, curve): (usize, &Curve)| {
            let line = LinePlot::new()
                .with_data(curve.points.iter().copied())
                .with_color(COLOURS[index % COLOURS.len()])
                .with_legend(curve.label.clone());
            let line = match index / COLOURS.len() {
                0 => line,
                1 => line.with_dashed(),
                2 => line.with_dotted(),
                _ => line.with_dashdot(),
            };
            Plot::Line(if curve.band.len() == curve.points.len() && !curve.band.is_empty() {
                let ends = |end: usize| curve.band.iter().map(move |band| band[end]);
                line.with_band(ends(0), ends(1))
            } else {
                line
            })
        };
        let plots: Vec<Plot> = self.curves.iter().enumerate().map(line).collect();
        let mut layout = Layout::auto_from_plots(&plots)
            .with_title(self.title.clone())
            .with_x_label(self.x_label.clone())
            .with_y_label(self.y_label.clone())
            .with_legend_position(LegendPosition::OutsideRightTop);
        if let Some([low, high]) = self.y_range {
            layout = layout.with_y_axis_min(low).with_y_axis_max(high);
        }
        if self.log_y {
            layout = layout.with_log_y();
        }
        if self.counts_x {
            layout = layout.with_x_tick_step(1.0);
        }
        (plots, layout)
    }
}

/// Writes a plot as `name.svg` and `name.png` into a folder.
pub(super) fn write_picture(
    folder: &Path,
    name: &str,
    plots: impl Fn() -> (Vec<Plot>, Layout),
) -> Result<(), StageError> {
    let (drawn, layout) = plots();
    let svg = renumber_clips(&kuva::render_to_svg(drawn, layout));
    fs_err::write(folder.join(format!("{name}.svg")), svg)?;
    let (drawn, layout) = plots();
    let png = kuva::render_to_png(drawn, layout, 2.0)
        .map_err(|error| StageError::new(format!("the picture `{name}` cannot be drawn: {error}")))?;
    Ok(fs_err::write(folder.join(format!("{name}.png")), png)?)
}

/// A name as part of a file's.
pub(super) fn file_name(name: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    name.chars().map(word).collect()
}

/// Ids of clip paths count over the whole process; within a file they shall depend on the file alone.
fn renumber_clips(svg: &str) -> String {
    const PREFIX: &str = "kuva-clip-";
    let mut parts = svg.split(PREFIX);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (id, rest) = part.split_at(end);
        let number = seen.iter().position(|known| *known == id).unwrap_or_else(|| {
            seen.push(id);
            seen.len() - 1
        });
        out.push_str(&format!("{PREFIX}{number}{rest}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_numbered_within_the_file() {
        let text = "<a id=\"kuva-clip-17\"/><b clip=\"url(#kuva-clip-17)\"/><c id=\"kuva-clip-18\"/>";
        let expected = "<a id=\"kuva-clip-0\"/><b clip=\"url(#kuva-clip-0)\"/><c id=\"kuva-clip-1\"/>";
        assert_eq!(renumber_clips(text), expected);
        assert_eq!(renumber_clips("<svg/>"), "<svg/>");
    }

    #[test]
    fn equal_curves_give_equal_bytes() {
        let curves = || Curves {
            title: "accuracy".into(),
            x_label: "level".into(),
            y_label: "accuracy".into(),
            y_range: Some([0.0, 1.0]),
            curves: vec![Curve {
                label: "CordsNet".into(),
                points: vec![(0.0, 0.9), (0.5, 0.6), (1.0, 0.2)],
                band: vec![[0.8, 1.0], [0.5, 0.7], [0.1, 0.3]],
            }],
            ..Curves::default()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = |name: &str| {
            curves().write(folder.path(), name).expect("a picture");
            ["svg", "png"].map(|kind| std::fs::read(folder.path().join(format!("{name}.{kind}"))).expect("a file"))
        };
        assert_eq!(bytes("first"), bytes("second"));
    }
}
