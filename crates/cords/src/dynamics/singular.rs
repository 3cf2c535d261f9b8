//! Singular values, numerical abscissa and non-normality of an operator that is known by its products.

use super::flow::Flow;
use super::krylov::{KrylovOptions, Which, dot, leading_eigenvalues};
use super::operator::{LinearOperator, dense, for_each_column};
use crate::rng::{Purpose, Stream};

/// [0 A; A^T 0], whose eigenvalues are the singular values of A and their negatives: no square loses digits.
struct Augmented<'a>(&'a dyn LinearOperator);

impl LinearOperator for Augmented<'_> {
    fn dim(&self) -> usize {
        2 * self.0.dim()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let n = self.0.dim();
        let (top, bottom) = out.split_at_mut(n);
        self.0.apply(&x[n..], top);
        self.0.apply_transpose(&x[..n], bottom);
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        self.apply(x, out);
    }
}

/// (A + A^T) / 2.
struct SymmetricPart<'a>(&'a dyn LinearOperator);

impl LinearOperator for SymmetricPart<'_> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let mut transposed = vec![0.0; x.len()];
        self.0.apply(x, out);
        self.0.apply_transpose(x, &mut transposed);
        for (out, transposed) in out.iter_mut().zip(&transposed) {
            *out = 0.5 * (*out + transposed);
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        self.apply(x, out);
    }
}

/// Leading real numbers of an operator, with what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Leading {
    /// The numbers, largest first.
    pub values: Vec<f64>,
    /// Residual of each, as of an eigenvalue.
    pub residuals: Vec<f64>,
    /// Whether all reached the tolerance.
    pub converged: bool,
    /// Products with the operator or its transpose.
    pub products: usize,
}

impl Leading {
    /// The first one; none where they did not converge.
    pub fn largest(&self) -> Option<f64> {
        self.values.first().copied().filter(|_| self.converged)
    }
}

fn leading(operator: &dyn LinearOperator, options: &KrylovOptions, progress: &mut dyn FnMut(usize, usize)) -> Leading {
    let options = KrylovOptions {
        which: Which::LargestReal,
        ..*options
    };
    let found = leading_eigenvalues(operator, &options, progress);
    let pairs = found.pairs.iter().take(options.count);
    Leading {
        values: pairs.clone().map(|pair| pair.value.re).collect(),
        residuals: pairs.map(|pair| pair.residual).collect(),
        converged: found.converged,
        products: 2 * found.products,
    }
}

/// Leading singular values; `options.which` does not matter. `progress` is called with (restart, values found so far).
pub fn singular_values(
    operator: &dyn LinearOperator,
    options: &KrylovOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Leading {
    let options = KrylovOptions {
        count: options.count.min(operator.dim()),
        ..*options
    };
    let mut found = leading(&Augmented(operator), &options, progress);
    // Of an operator of low rank the last ones are 0, but for roundings.
    found.values.iter_mut().for_each(|value| *value = value.max(0.0));
    found
}

/// Largest eigenvalue of (A + A^T)/2: how fast the norm of a solution of dx/dt = A x can grow at first. `options.count`
/// does not matter.
pub fn numerical_abscissa(operator: &dyn LinearOperator, options: &KrylovOptions) -> Leading {
    let options = KrylovOptions { count: 1, ..*options };
    leading(&SymmetricPart(operator), &options, &mut |_, _| {})
}

/// A stochastic estimate, with the standard error of its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean of the samples.
    pub value: f64,
    /// Standard error of the mean; NaN of a single probe.
    pub error: f64,
}

impl Estimate {
    /// Mean and standard error of independent samples.
    pub fn of(samples: &[f64]) -> Self {
        let n = samples.len() as f64;
        let value = samples.iter().sum::<f64>() / n;
        let squares: f64 = samples.iter().map(|x| (x - value).powi(2)).sum();
        Self {
            value,
            error: (squares / (n - 1.0) / n).sqrt(),
        }
    }
}

/// How far an operator is from normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepartureFromNormality {
    /// Squared Frobenius norm; its error is 0 where it was computed and not estimated.
    pub squared_norm: Estimate,
    /// |A^T A - A A^T|_F / |A|_F^2: 0 for a normal operator. Estimated.
    pub commutator: f64,
    /// Henrici's departure from normality sqrt(|A|_F^2 - sum |lambda|^2) / |A|_F (Henrici 1962), 0 for a normal
    /// operator and 1 for a nilpotent one. None where the eigenvalues are too many to compute all of them.
    pub departure: Option<f64>,
    /// What the departure is at least: commutator / sqrt(6) (Elsner and Paardekooper 1987). Often far too low.
    pub departure_at_least: f64,
    /// What it is at most, as sum |lambda|^2 >= |sum lambda^2| = |tr A^2|.
    pub departure_at_most: f64,
}

impl DepartureFromNormality {
    /// With the exact figures of an operator small enough for them: its squared Frobenius norm and the sum of
    /// |lambda|^2.
    pub fn with_exact(mut self, squared_norm: f64, squared_eigenvalues: f64) -> Self {
        let share = (squared_norm - squared_eigenvalues).max(0.0) / squared_norm.max(f64::MIN_POSITIVE);
        self.squared_norm = Estimate {
            value: squared_norm,
            error: 0.0,
        };
        self.departure = Some(share.sqrt());
        self
    }
}

/// Estimates by `probes` random vectors of signs (Hutchinson 1990).
pub fn departure_from_normality(operator: &dyn LinearOperator, probes: usize, seed: u64) -> DepartureFromNormality {
    let n = operator.dim();
    let (mut squares, mut commutators, mut traces) = (Vec::new(), Vec::new(), Vec::new());
    for probe in 0..probes.max(2) {
        let x = signs(n, seed, probe);
        let [mut ax, mut atx, mut left, mut right] = [(); 4].map(|()| vec![0.0; n]);
        operator.apply(&x, &mut ax);
        operator.apply_transpose(&x, &mut atx);
        operator.apply_transpose(&ax, &mut left);
        operator.apply(&atx, &mut right);
        // Both |A x|^2 and |A^T x|^2 have the mean |A|_F^2.
        squares.push(0.5 * (dot(&ax, &ax) + dot(&atx, &atx)));
        let difference: Vec<f64> = left.iter().zip(&right).map(|(l, r)| l - r).collect();
        commutators.push(dot(&difference, &difference));
        // x^T A A x has the mean tr A^2.
        traces.push(dot(&atx, &ax));
    }
    let squared_norm = Estimate::of(&squares);
    let whole = squared_norm.value.max(f64::MIN_POSITIVE);
    let commutator = Estimate::of(&commutators).value.sqrt() / whole;
    let trace = Estimate::of(&traces).value.abs().min(whole);
    DepartureFromNormality {
        squared_norm,
        commutator,
        departure: None,
        departure_at_least: commutator / 6.0f64.sqrt(),
        departure_at_most: ((whole - trace) / whole).sqrt(),
    }
}

/// Units up to which all entries and eigenvalues of an operator are computed: about a second of one core.
pub const DENSE_UNITS: usize = 1024;

/// Units up to which the norm of a whole network's coupling is computed, which takes a product with the network for
/// each.
pub const DENSE_NETWORK_UNITS: usize = 4096;

/// Squared Frobenius norm, column by column.
pub fn squared_norm(operator: &dyn LinearOperator) -> f64 {
    let mut sum = 0.0;
    for_each_column(operator, |_, column| sum += dot(column, column));
    sum
}

/// Sum of |lambda|^2 over all eigenvalues, by a dense method. None where it does not converge.
pub fn squared_eigenvalues(operator: &dyn LinearOperator) -> Option<f64> {
    let all = dense(operator).eigenvalues().ok()?;
    Some(all.iter().map(|value| value.re * value.re + value.im * value.im).sum())
}

/// A vector of random signs.
pub(super) fn signs(n: usize, seed: u64, probe: usize) -> Vec<f64> {
    let mut stream = Stream::new(seed, Purpose::Probe, probe as u64, 1, 0, 0);
    let mut word = 0;
    let sign = |i: usize| {
        if i.is_multiple_of(32) {
            word = stream.word();
        }
        if word >> (i % 32) & 1 == 1 { 1.0 } else { -1.0 }
    };
    (0..n).map(sign).collect()
}

/// M^k of an operator M = I + factor A.
struct Power<'a> {
    operator: &'a dyn LinearOperator,
    factor: f64,
    steps: usize,
}

impl Power<'_> {
    fn run(&self, x: &[f64], out: &mut [f64], apply: impl Fn(&[f64], &mut [f64])) {
        let mut now = x.to_vec();
        for _ in 0..self.steps {
            apply(&now, out);
            for (now, change) in now.iter_mut().zip(&*out) {
                *now += self.factor * change;
            }
        }
        out.copy_from_slice(&now);
    }
}

impl LinearOperator for Power<'_> {
    fn dim(&self) -> usize {
        self.operator.dim()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        self.run(x, out, |x, out| self.operator.apply(x, out));
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        self.run(x, out, |x, out| self.operator.apply_transpose(x, out));
    }
}

/// The largest factor by which a perturbation can have grown after some Euler steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Number of Euler steps.
    pub steps: usize,
    /// |(I + dt A)^k|_2: under Euler steps.
    pub euler: f64,
    /// |e^(A k dt)|_2: in continuous time.
    pub continuous: f64,
}

/// The largest growth after each number of Euler steps, under these steps and in continuous time. `scale_ms` is the
/// shortest time constant. `progress` is called with (times done, times).
pub fn growth(
    operator: &dyn LinearOperator,
    dt_ms: f64,
    scale_ms: f64,
    steps: &[usize],
    options: &KrylovOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<Growth> {
    let options = KrylovOptions { count: 1, ..*options };
    let norm = |operator: &dyn LinearOperator| {
        let found = singular_values(operator, &options, &mut |_, _| {});
        found.largest().unwrap_or(f64::NAN)
    };
    let mut found = Vec::with_capacity(steps.len());
    for (index, count) in steps.iter().enumerate() {
        let euler = norm(&Power {
            operator,
            factor: dt_ms,
            steps: *count,
        });
        let continuous = norm(&Flow::new(operator, *count as f64 * dt_ms, scale_ms));
        found.push(Growth {
            steps: *count,
            euler,
            continuous,
        });
        progress(index + 1, steps.len());
    }
    found
}
