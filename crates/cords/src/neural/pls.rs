//! Partial least squares regression (PLS2) from a Gram matrix.
//!
//! NIPALS alternates w = X^T y / y.y, t = X w, c = Y^T t / t.t, y = Y c / c.c, on residuals X and Y that shrink by the
//! part along t after each component. Since y = Y a for some a, all of it takes place in M = Y^T K Y with K = X X^T: an
//! iteration costs q^2 products for q responses and needs neither features nor stimuli. With P the projection away from
//! all scores t so far, the residuals are P X and P Y, so K itself never changes.

use faer::{Col, Mat, MatRef, Side};
use serde::{Deserialize, Serialize};

use super::NeuralError;
use super::algebra::{map_columns, product, symmetric_product, symmetric_times, transposed_product};

/// How the weights of a component are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PlsRule {
    /// scikit-learn's loop, which ends before it converges: as in published benchmarks
    #[default]
    Sklearn,
    /// the leading singular vector, to rounding
    Converged,
}

/// Iterations of [`PlsRule::Sklearn`] at most.
const MAX_ITERATIONS: usize = 500;
/// Where they end: |w - w_before|^2.
const TOLERANCE: f64 = 1e-6;
/// K Y is computed anew where its part in M has fallen to this: downdates keep the rounding of what they started from.
const REFRESH: f64 = 1e-2;

/// A fitted regression in dual form.
pub struct PlsFit {
    /// A `[stimuli, responses]`: predictions of centred responses are (x - mean) Xc^T A.
    pub coefficients: Mat<f64>,
    /// Iterations of each component; as many as there are components. Fewer than asked for where nothing was left of
    /// the responses.
    pub iterations: Vec<usize>,
}

/// Fits `components` components to centred responses `[stimuli, responses]` by the centred Gram matrix of the features.
///
/// # Errors
/// [`NeuralError::Option`] where components are none or more than stimuli, [`NeuralError::Numerics`] where linear
/// algebra fails.
pub fn pls(
    kernel: MatRef<'_, f64>,
    responses: MatRef<'_, f64>,
    components: usize,
    rule: PlsRule,
) -> Result<PlsFit, NeuralError> {
    let (n, q) = (responses.nrows(), responses.ncols());
    if components == 0 || components > n {
        return Err(NeuralError::Option {
            option: "components",
            problem: format!("{components} of {n} training stimuli; give 1 to {n}"),
        });
    }
    let mut y = responses.to_owned();
    let mut ky = symmetric_product(kernel, y.as_ref());
    let mut fresh = f64::INFINITY;
    let mut weights: Vec<Col<f64>> = Vec::new();
    let mut kernel_scores: Vec<Col<f64>> = Vec::new();
    let mut scores = Scores::new(n);
    let mut iterations = Vec::new();
    while scores.count < components {
        if rule == PlsRule::Sklearn {
            clear_negligible(&mut y);
        }
        let Some(first) = (0..q).find(|j| y.col(*j).iter().any(|v| v.abs() > f64::EPSILON)) else {
            break;
        };
        let mut m = symmetric(transposed_product(y.as_ref(), ky.as_ref()));
        let size = trace(&m);
        if fresh.is_finite() && size < REFRESH * fresh {
            ky = symmetric_product(kernel, y.as_ref());
            scores.project(&mut ky);
            m = symmetric(transposed_product(y.as_ref(), ky.as_ref()));
        }
        if !fresh.is_finite() || size < REFRESH * fresh {
            fresh = size;
        }
        let found = match rule {
            PlsRule::Sklearn => nipals(&m, &transposed_product(y.as_ref(), y.as_ref()), first),
            PlsRule::Converged => leading(&m)?,
        };
        let Some((direction, count)) = found else { break };
        let score = &ky * &direction;
        let square = score.squared_norm_l2();
        if square.is_nan() || square <= 0.0 {
            break;
        }
        let kernel_score = symmetric_times(kernel, &score);
        let loadings = y.transpose() * &score * faer::Scale(1.0 / square);
        weights.push(&y * &direction);
        y -= &score * loadings.transpose();
        ky -= &kernel_score * loadings.transpose();
        scores.push(&score, square);
        scores.project(&mut ky);
        kernel_scores.push(kernel_score);
        iterations.push(count);
    }
    let h = scores.count;
    if h == 0 {
        return Ok(PlsFit {
            coefficients: Mat::zeros(n, q),
            iterations,
        });
    }
    // With weights W = X^T U: X W (P^T W)^-1 T^T Y / T^T T = K U (T^T K U)^-1 T^T Y.
    let u = Mat::from_fn(n, h, |i, k| weights[k][i]);
    let kt = Mat::from_fn(n, h, |i, k| kernel_scores[k][i]);
    let small = transposed_product(kt.as_ref(), u.as_ref());
    let right = transposed_product(scores.values(), responses);
    let inner = faer::linalg::solvers::Solve::solve(&small.partial_piv_lu(), &right);
    Ok(PlsFit {
        coefficients: product(u.as_ref(), inner.as_ref()),
        iterations,
    })
}

/// Scores T of the components so far, which are orthogonal to each other.
struct Scores {
    /// `[stimuli, room]`, of which `count` columns are filled.
    store: Mat<f64>,
    squares: Vec<f64>,
    count: usize,
}

impl Scores {
    fn new(n: usize) -> Self {
        Self {
            store: Mat::zeros(n, 0),
            squares: Vec::new(),
            count: 0,
        }
    }

    fn values(&self) -> MatRef<'_, f64> {
        self.store.subcols(0, self.count)
    }

    fn push(&mut self, score: &Col<f64>, square: f64) {
        let n = self.store.nrows();
        self.store.resize_with(n, self.count + 1, |i, _| score[i]);
        self.squares.push(square);
        self.count += 1;
    }

    /// Takes the parts along the scores out of all columns; twice, so that rounding leaves nothing of them.
    fn project(&self, values: &mut Mat<f64>) {
        for _ in 0..2 {
            let mut along = transposed_product(self.values(), values.as_ref());
            for (k, square) in self.squares.iter().enumerate() {
                along.row_mut(k).iter_mut().for_each(|v| *v /= square);
            }
            *values -= product(self.values(), along.as_ref());
        }
    }
}

/// Sets responses that are next to nothing to 0, as scikit-learn does.
fn clear_negligible(y: &mut Mat<f64>) {
    map_columns(y, |column| {
        if column.iter().all(|v| v.abs() < 10.0 * f64::EPSILON) {
            column.fill(0.0);
        }
    });
}

/// The loop of [`PlsRule::Sklearn`], from the response `first`: u with w = X^T Y u of length 1, and how often it
/// turned. `m` is Y^T K Y, `squares` Y^T Y. `None` where the features explain nothing of the responses.
fn nipals(m: &Mat<f64>, squares: &Mat<f64>, first: usize) -> Option<(Col<f64>, usize)> {
    let q = m.nrows();
    // y = Y a.
    let mut a: Col<f64> = Col::zeros(q);
    a[first] = 1.0;
    let mut before: Option<Col<f64>> = None;
    for iteration in 1..=MAX_ITERATIONS {
        let length = a.transpose() * (squares * &a);
        let mut u = &a * faer::Scale(1.0 / length);
        let mut mu = m * &u;
        let norm = (u.transpose() * &mu).max(0.0).sqrt() + f64::EPSILON;
        if norm.is_nan() || norm <= f64::EPSILON {
            return None;
        }
        u *= faer::Scale(1.0 / norm);
        mu *= faer::Scale(1.0 / norm);
        // c = Y^T t / t.t is M u but for its length, which y = Y c / c.c and the norm of w take out again.
        let length = mu.squared_norm_l2();
        a = &mu * faer::Scale(1.0 / length);
        let settled = before.is_some_and(|before| {
            let step = &u - before;
            step.transpose() * (m * &step) < TOLERANCE
        });
        if settled || q == 1 || iteration == MAX_ITERATIONS {
            return Some((u, iteration));
        }
        before = Some(u);
    }
    None
}

/// The leading left singular vector of X^T Y as X^T Y u, from the leading eigenvector of M = Y^T K Y.
fn leading(m: &Mat<f64>) -> Result<Option<(Col<f64>, usize)>, NeuralError> {
    let eigen = m
        .self_adjoint_eigen(Side::Lower)
        .map_err(|error| NeuralError::Numerics {
            what: "the eigendecomposition of a PLS component",
            problem: format!("{error:?}"),
        })?;
    let last = m.nrows() - 1;
    let value = eigen.S()[last];
    if value.is_nan() || value <= 0.0 {
        return Ok(None);
    }
    let u = eigen.U().col(last) * faer::Scale(1.0 / value.sqrt());
    Ok(Some((u, 1)))
}

fn trace(m: &Mat<f64>) -> f64 {
    m.diagonal().column_vector().iter().sum()
}

/// Rounding made the two halves differ.
fn symmetric(mut m: Mat<f64>) -> Mat<f64> {
    for i in 0..m.nrows() {
        for j in 0..i {
            let mean = 0.5 * (m[(i, j)] + m[(j, i)]);
            m[(i, j)] = mean;
            m[(j, i)] = mean;
        }
    }
    m
}
