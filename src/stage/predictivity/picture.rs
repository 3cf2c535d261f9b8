//! The time-resolved matrix of scores as a picture.

use std::path::Path;
use std::sync::Arc;

use kuva::plot::{ColorMap, Heatmap};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use crate::stage::StageError;
use crate::stage::picture::write_picture;

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
        write_picture(folder, name, || self.plots())
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

#[cfg(test)]
mod tests {
    use super::*;

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
