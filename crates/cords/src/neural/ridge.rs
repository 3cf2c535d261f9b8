//! Ridge regression and principal components from a Gram matrix.

use faer::{Mat, MatRef, Side};

use super::NeuralError;
use super::algebra::{product, transposed_product};

fn failed<E: std::fmt::Debug>(what: &'static str) -> impl Fn(E) -> NeuralError {
    move |error| NeuralError::Numerics {
        what,
        problem: format!("{error:?}"),
    }
}

/// (K + alpha I)^-1 Y: the dual coefficients of ridge regression with an intercept on centred K and Y.
///
/// # Errors
/// [`NeuralError::Numerics`] where the matrix is not positive definite, which a positive `alpha` prevents.
pub fn ridge(kernel: MatRef<'_, f64>, responses: MatRef<'_, f64>, alpha: f64) -> Result<Mat<f64>, NeuralError> {
    let mut shifted = kernel.to_owned();
    for i in 0..shifted.nrows() {
        shifted[(i, i)] += alpha;
    }
    let factor = shifted
        .llt(Side::Lower)
        .map_err(failed("the Cholesky factorisation of ridge regression"))?;
    Ok(faer::linalg::solvers::Solve::solve(&factor, responses))
}

/// Eigendecomposition of a centred Gram matrix, for ridge regression with many penalties.
pub struct RidgePath {
    vectors: Mat<f64>,
    values: Vec<f64>,
    /// The eigenvector of equal entries: the intercept, which is not penalised.
    intercept: usize,
}

impl RidgePath {
    /// Decomposes K.
    ///
    /// # Errors
    /// [`NeuralError::Numerics`] where the decomposition does not converge.
    pub fn new(kernel: MatRef<'_, f64>) -> Result<Self, NeuralError> {
        let n = kernel.nrows();
        // Centring makes equal entries a null vector. Moved to eigenvalue n, it stands apart from the other null
        // vectors, of which there are many where features are fewer than stimuli.
        let shifted = Mat::from_fn(n, n, |i, j| kernel[(i, j)] + 1.0);
        let eigen = shifted
            .self_adjoint_eigen(Side::Lower)
            .map_err(failed("the eigendecomposition of ridge regression"))?;
        let vectors = eigen.U().to_owned();
        let sums: Vec<f64> = vectors
            .col_iter()
            .map(|column| column.iter().sum::<f64>().abs())
            .collect();
        let intercept = (0..n).max_by(|a, b| sums[*a].total_cmp(&sums[*b])).unwrap_or(0);
        Ok(Self {
            vectors,
            values: eigen.S().column_vector().iter().copied().collect(),
            intercept,
        })
    }

    /// The penalty with the smallest mean squared error over stimuli and responses where each stimulus is predicted
    /// from the fit to all others, the first of equal ones, and the dual coefficients at it.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where `alphas` is empty.
    pub fn best(&self, responses: MatRef<'_, f64>, alphas: &[f64]) -> Result<(f64, Mat<f64>), NeuralError> {
        let (alpha, _) = self.least_error(responses, alphas)?;
        let rotated = transposed_product(self.vectors.as_ref(), responses);
        Ok((alpha, self.solve(&rotated, &self.inverse(alpha))))
    }

    /// That penalty, and every stimulus predicted from the fit to all others.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where `alphas` is empty.
    pub fn left_out(&self, responses: MatRef<'_, f64>, alphas: &[f64]) -> Result<(f64, Mat<f64>), NeuralError> {
        let (alpha, errors) = self.least_error(responses, alphas)?;
        Ok((alpha, responses - errors))
    }

    /// That penalty, and the errors of stimuli left out at it.
    fn least_error(&self, responses: MatRef<'_, f64>, alphas: &[f64]) -> Result<(f64, Mat<f64>), NeuralError> {
        let rotated = transposed_product(self.vectors.as_ref(), responses);
        let mut best: Option<(f64, f64, Mat<f64>)> = None;
        for alpha in alphas {
            let inverse = self.inverse(*alpha);
            let coefficients = self.solve(&rotated, &inverse);
            // (G^-1 Y)_i / (G^-1)_ii is the error of stimulus i left out, with G = K + alpha I without the intercept.
            let diagonal: Vec<f64> = self
                .vectors
                .row_iter()
                .map(|row| row.iter().zip(&inverse).map(|(v, w)| v * v * w).sum())
                .collect();
            let errors = Mat::from_fn(coefficients.nrows(), coefficients.ncols(), |i, j| {
                coefficients[(i, j)] / diagonal[i]
            });
            let squares = errors
                .col_iter()
                .map(|column| column.iter().map(|e| e.powi(2)).sum::<f64>());
            let error: f64 = squares.sum();
            if best.as_ref().is_none_or(|(_, least, _)| error < *least) {
                best = Some((*alpha, error, errors));
            }
        }
        let (alpha, _, errors) = best.ok_or(NeuralError::Option {
            option: "alphas",
            problem: "none are given".to_owned(),
        })?;
        Ok((alpha, errors))
    }

    fn inverse(&self, alpha: f64) -> Vec<f64> {
        let inverse = |(i, value): (usize, &f64)| {
            if i == self.intercept {
                0.0
            } else {
                1.0 / (value + alpha)
            }
        };
        self.values.iter().enumerate().map(inverse).collect()
    }

    fn solve(&self, rotated: &Mat<f64>, inverse: &[f64]) -> Mat<f64> {
        let scaled = Mat::from_fn(rotated.nrows(), rotated.ncols(), |i, j| rotated[(i, j)] * inverse[i]);
        product(self.vectors.as_ref(), scaled.as_ref())
    }
}

/// The leading principal components of the training stimuli's features.
pub struct Principal {
    /// `[train, components]`, unit columns.
    vectors: Mat<f64>,
    values: Vec<f64>,
}

impl Principal {
    /// The first `components` of them, or all that are not rounding.
    ///
    /// # Errors
    /// [`NeuralError::Numerics`] where the decomposition does not converge.
    pub fn new(kernel: MatRef<'_, f64>, components: usize) -> Result<Self, NeuralError> {
        let n = kernel.nrows();
        let eigen = kernel
            .self_adjoint_eigen(Side::Lower)
            .map_err(failed("the eigendecomposition of principal components"))?;
        let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let negligible = values.last().copied().unwrap_or(0.0) * n as f64 * f64::EPSILON;
        let kept: Vec<usize> = (0..n)
            .rev()
            .take(components)
            .filter(|i| values[*i] > negligible)
            .collect();
        Ok(Self {
            vectors: Mat::from_fn(n, kept.len(), |i, k| eigen.U()[(i, kept[k])]),
            values: kept.iter().map(|i| values[*i]).collect(),
        })
    }

    /// The training stimuli's Gram matrix in these components.
    pub fn kernel(&self) -> Mat<f64> {
        let scaled = Mat::from_fn(self.vectors.nrows(), self.values.len(), |i, k| {
            self.vectors[(i, k)] * self.values[k]
        });
        product(scaled.as_ref(), self.vectors.transpose())
    }

    /// Coefficients fitted in these components, for inner products of all features.
    pub fn lift(&self, coefficients: MatRef<'_, f64>) -> Mat<f64> {
        let along = transposed_product(self.vectors.as_ref(), coefficients);
        product(self.vectors.as_ref(), along.as_ref())
    }
}
