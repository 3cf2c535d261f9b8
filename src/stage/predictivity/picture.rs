//! The time-resolved matrix of scores as a picture.

use std::path::Path;
use std::sync::Arc;

use kuva::plot::{ColorMap, Heatmap};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use crate::stage::StageError;

/// Scores by model time or latency (rows) and neural time (columns).
pub(super) struct Matrix {
    pub(super) title: String,
    /// What the rows are.
    pub(super) rows: &'static str,
    /// Their values in ms.
    pub(super) rows_ms: Vec<f64>,
    /// Centres of the time bins in ms, ascending.
    pub(super) neural_ms: Vec<f64>,
    /// `[row][bin]`, NaN where there is no score.
    pub(super) values: Vec<Vec<f64>>,
}

impl Matrix {
    fn plots(&self) -> (Vec<Plot>, Layout) {
        let labels =
            |times: &[f64]| -> Vec<String> { times.iter().map(|t| format!("{}", (t * 10.0).round() / 10.0)).collect() };
        let rows = labels(&self.rows_ms);
        let columns = labels(&self.neural_ms);
        // A colour scale needs a finite value, if only to show that there is none.
        let scored = self.values.iter().flatten().any(|v| v.is_finite());
        let values = if scored {
            self.values.clone()
        } else {
            vec![vec![0.0; columns.len()]; rows.len()]
        };
        let heatmap = Heatmap::new()
            .with_data(values)
            .with_labels(rows.clone(), columns.clone())
            .with_color_map(ColorMap::Custom(Arc::new(move |share| {
                colour(if scored { share } else { f64::NAN })
            })));
        let plots: Vec<Plot> = vec![Plot::Heatmap(heatmap)];
        let layout = Layout::auto_from_plots(&plots)
            .with_title(self.title.clone())
            .with_x_label("neural time [ms after stimulus onset]")
            .with_y_label(self.rows)
            .with_x_categories(columns)
            .with_y_categories(rows);
        (plots, layout)
    }

    /// Writes `name.svg` and `name.png` into a folder.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<(), StageError> {
        let (plots, layout) = self.plots();
        let svg = renumber_clips(&kuva::render_to_svg(plots, layout));
        fs_err::write(folder.join(format!("{name}.svg")), svg)?;
        let (plots, layout) = self.plots();
        let png = kuva::render_to_png(plots, layout, 2.0)
            .map_err(|error| StageError::new(format!("the picture `{name}` cannot be drawn: {error}")))?;
        Ok(fs_err::write(folder.join(format!("{name}.png")), png)?)
    }
}

/// Grey where there is no score: activity that is the same for all images predicts nothing.
fn colour(share: f64) -> String {
    if share.is_nan() {
        "#bbbbbb".to_owned()
    } else {
        ColorMap::Viridis.map(share)
    }
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
    fn equal_matrices_give_equal_bytes() {
        let matrix = || Matrix {
            title: "area 0".into(),
            rows: "model time",
            rows_ms: vec![0.0, 10.0],
            neural_ms: vec![5.0, 15.0, 25.0],
            values: vec![vec![f64::NAN; 3], vec![0.3, 0.5, 0.4]],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = |name: &str| {
            matrix().write(folder.path(), name).expect("a picture");
            ["svg", "png"].map(|kind| std::fs::read(folder.path().join(format!("{name}.{kind}"))).expect("a file"))
        };
        assert_eq!(bytes("first"), bytes("second"));
    }
}
