//! Products of matrices on one thread: regressions run side by side, and each is the same sum on any number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// a b.
pub(super) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// a^T b.
pub(super) fn transposed_product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    product(a.transpose(), b)
}

/// Changes each column by what `change` does to it, and gathers what that returns.
pub(super) fn map_columns<T>(values: &mut Mat<f64>, mut change: impl FnMut(&mut [f64]) -> T) -> Vec<T> {
    (0..values.ncols())
        .map(|j| change(values.col_as_slice_mut(j)))
        .collect()
}

/// Takes the mean of each column out, and returns the means.
pub(super) fn centre_columns(values: &mut Mat<f64>) -> Vec<f64> {
    map_columns(values, |column| {
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        column.iter_mut().for_each(|v| *v -= mean);
        mean
    })
}
