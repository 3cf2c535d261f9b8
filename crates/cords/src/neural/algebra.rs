//! Products of matrices. Every sum is one thread's, in one order, on any number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, Col, Mat, MatRef, Par};
use rayon::prelude::*;

/// Columns of a product that are computed together.
const COLUMNS: usize = 16;

/// The product a b, on one thread.
pub(super) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// K B of a symmetric matrix with many rows, some columns to a thread.
pub(super) fn symmetric_product(k: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let n = k.nrows();
    let parts: Vec<Mat<f64>> = (0..b.ncols())
        .step_by(COLUMNS)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|first| product(k, b.subcols(first, COLUMNS.min(b.ncols() - first))))
        .collect();
    let mut out = Mat::zeros(n, b.ncols());
    for (part, first) in parts.iter().zip((0..b.ncols()).step_by(COLUMNS)) {
        out.as_mut().subcols_mut(first, part.ncols()).copy_from(part);
    }
    out
}

/// K v of a symmetric matrix: each entry is the product of a column with v.
pub(super) fn symmetric_times(k: MatRef<'_, f64>, v: &Col<f64>) -> Col<f64> {
    let n = k.nrows();
    let entries: Vec<f64> = (0..n)
        .into_par_iter()
        .with_min_len(64)
        .map(|i| k.col(i).transpose() * v)
        .collect();
    Col::from_fn(n, |i| entries[i])
}

/// The product a^T b, on one thread.
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
