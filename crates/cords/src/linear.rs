//! Small dense systems of equations.

use faer::linalg::solvers::Solve;
use faer::{MatRef, Side};

/// Solves A X = B for a symmetric positive definite A `[n, n]` and B `[n, columns]`, both row by row. None where A is
/// not positive definite.
pub(crate) fn solve_positive(a: &[f64], b: &[f64], columns: usize) -> Option<Vec<f64>> {
    let n = b.len() / columns.max(1);
    let factor = MatRef::from_row_major_slice(a, n, n).llt(Side::Lower).ok()?;
    let x = factor.solve(MatRef::from_row_major_slice(b, n, columns));
    let entries = (0..n).flat_map(|i| (0..columns).map(move |j| (i, j)));
    let x: Vec<f64> = entries.map(|entry| x[entry]).collect();
    x.iter().all(|value| value.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_systems() {
        let x = solve_positive(&[4.0, 2.0, 2.0, 3.0], &[8.0, 8.0], 1).expect("positive definite");
        assert!((x[0] - 1.0).abs() < 1e-14 && (x[1] - 2.0).abs() < 1e-14, "{x:?}");
        let x = solve_positive(&[4.0, 0.0, 0.0, 16.0], &[4.0, 8.0, 32.0, 48.0], 2);
        assert_eq!(x, Some(vec![1.0, 2.0, 2.0, 3.0]));
        // A = L L' with L = [[2, 0], [1, 3]].
        let x = solve_positive(&[4.0, 2.0, 2.0, 10.0], &[8.0, 22.0], 1).expect("positive definite");
        assert!((x[0] - 1.0).abs() < 1e-14 && (x[1] - 2.0).abs() < 1e-14, "{x:?}");
        assert_eq!(solve_positive(&[-1.0], &[1.0], 1), None);
        assert_eq!(solve_positive(&[1.0, 2.0, 2.0, 1.0], &[0.0, 0.0], 1), None);
    }
}
