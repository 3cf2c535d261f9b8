//! Leading eigenvalues by the Krylov-Schur method (Stewart 2001): Arnoldi with reorthogonalisation, thick restarts.
//!
//! Eigenvalues are chosen by real part or by distance from a point, not by magnitude alone, and exact invariant
//! subspaces are gone on from. Sums run in a fixed order. No dense matrix of the operator's size is formed, unless it
//! is no larger than the Krylov subspace.

use super::LinearOperator;
use super::schur::{Dense, Schur};
use crate::rng::{Purpose, Stream};
use num_complex::Complex64;
use rayon::prelude::*;

/// Which eigenvalues are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    /// The eigenvalues of largest real part.
    LargestReal,
    /// The eigenvalues farthest from a point on the real axis.
    FarthestFrom(f64),
}

impl Which {
    fn rank(self, value: Complex64) -> f64 {
        match self {
            Self::LargestReal => value.re,
            Self::FarthestFrom(point) => (value - point).norm(),
        }
    }
}

/// How eigenvalues are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KrylovOptions {
    /// Eigenvalues wanted; one more comes where the last is half of a complex pair.
    pub count: usize,
    /// Which eigenvalues count as leading.
    pub which: Which,
    /// Dimension of the Krylov subspace at first; at least 2 `count` + 4 is used. Larger ones need fewer products and
    /// more memory (`subspace` vectors of the operator's dimension). Where eigenvalues lie close together it grows, to
    /// twice this at most.
    pub subspace: usize,
    /// Restarts after which the method gives up.
    pub max_restarts: usize,
    /// Residual |A v - lambda v|, |v| = 1, at which an eigenvalue counts as found, relative to the largest magnitude of
    /// an eigenvalue seen.
    pub tolerance: f64,
    /// Seed of the starting vector.
    pub seed: u64,
}

impl Default for KrylovOptions {
    fn default() -> Self {
        Self {
            count: 6,
            which: Which::LargestReal,
            subspace: 64,
            max_restarts: 300,
            tolerance: 1e-10,
            seed: 0,
        }
    }
}

/// An eigenvalue with its eigenvector.
#[derive(Clone, Debug)]
pub struct Eigenpair {
    /// The eigenvalue lambda, in the operator's unit.
    pub value: Complex64,
    /// Real part of the unit eigenvector.
    pub vector_re: Vec<f64>,
    /// Imaginary part of the unit eigenvector.
    pub vector_im: Vec<f64>,
    /// |A v - lambda v|, computed from the vector itself.
    pub residual: f64,
}

/// Leading eigenvalues with their eigenvectors, and what they cost.
#[derive(Clone, Debug)]
pub struct LeadingEigenvalues {
    /// Best first; complex pairs are whole, the one with positive imaginary part first.
    pub pairs: Vec<Eigenpair>,
    /// Whether all wanted eigenvalues reached the tolerance.
    pub converged: bool,
    /// Products with the operator.
    pub products: usize,
    /// Number of restarts of the Krylov subspace.
    pub restarts: usize,
}

/// Restarts after which the subspace grows.
const GROWS_EVERY: usize = 30;

/// The decomposition A V_m = V_m B + v_m b^T, with B's rows over b's row: the projected matrix (m + 1 by m).
struct Decomposition<'a> {
    operator: &'a dyn LinearOperator,
    basis: Vec<Vec<f64>>,
    /// Column j holds the coefficients of A v_j on v_0 .. v_m.
    columns: Vec<Vec<f64>>,
    stream: Stream,
    products: usize,
}

/// Computes leading eigenvalues of a real operator. `progress` is called with (restart, eigenvalues found so far).
pub fn leading_eigenvalues(
    operator: &dyn LinearOperator,
    options: &KrylovOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> LeadingEigenvalues {
    let [found] = leading_eigenvalues_by(operator, [(options.which, options.count)], options, progress);
    found
}

/// The same for several orders at once, from one Krylov subspace: eigenvalues that lead in one order lie at the rim of
/// the spectrum, where those of other orders are being found anyway. `wanted` takes the place of `options.which` and
/// `options.count`; products and restarts are those of all together.
pub fn leading_eigenvalues_by<const N: usize>(
    operator: &dyn LinearOperator,
    wanted: [(Which, usize); N],
    options: &KrylovOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> [LeadingEigenvalues; N] {
    let n = operator.dim();
    let wanted = wanted.map(|(which, count)| (which, count.min(n)));
    let count: usize = wanted.iter().map(|(_, count)| count).sum();
    let first = options.subspace.max(2 * count + 4).min(n);
    let mut m = first;
    let mut found = [(); N].map(|()| LeadingEigenvalues {
        pairs: Vec::new(),
        converged: true,
        products: 0,
        restarts: 0,
    });
    if count == 0 {
        return found;
    }
    let mut decomposition = Decomposition {
        operator,
        basis: Vec::with_capacity(m + 1),
        columns: Vec::with_capacity(m),
        stream: Stream::new(options.seed, Purpose::Probe, 0, 0, 0, 0),
        products: 0,
    };
    if !decomposition.append_random() {
        return found;
    }
    for restart in 0..=options.max_restarts {
        if restart > 0 && restart % GROWS_EVERY == 0 {
            m = (m + first / 2).min(2 * first).min(n);
        }
        decomposition.expand(m);
        let (projected, last_row) = decomposition.projected();
        let Some(schur) = sorted(&projected, &wanted) else {
            // The operator gave values that are not finite.
            found.iter_mut().for_each(|found| found.converged = false);
            break;
        };
        let largest = (0..m).map(|i| schur.eigenvalue(i).norm()).fold(0.0, f64::max);
        let leading = wanted.map(|wanted| whole_pairs(&schur, wanted, largest));
        let is_close: Vec<bool> = (0..m)
            .map(|i| {
                leading.iter().any(|leading| leading.contains(&i)) && {
                    let x = schur.eigenvector(i);
                    let spill = last_row
                        .iter()
                        .zip(&x)
                        .fold(Complex64::new(0.0, 0.0), |sum, (b, x)| sum + x * *b);
                    spill.norm() <= options.tolerance * largest
                }
            })
            .collect();
        let close = is_close.iter().filter(|close| **close).count();
        progress(restart, close);
        for (found, leading) in found.iter_mut().zip(&leading) {
            found.restarts = restart;
            found.converged = leading.iter().all(|i| is_close[*i]);
        }
        if found.iter().all(|found| found.converged) || restart == options.max_restarts || m == n {
            for (found, leading) in found.iter_mut().zip(&leading) {
                found.pairs = leading.iter().map(|&i| decomposition.pair(&schur, i)).collect();
            }
            break;
        }
        // More than the wanted directions are kept: those that are found no longer slow down the rest.
        let distinct = (0..m)
            .filter(|i| leading.iter().any(|leading| leading.contains(i)))
            .count();
        let keep = (distinct + close + (m - distinct) / 3).clamp(distinct + 1, m - 1);
        decomposition.truncate(&schur, keep, &last_row);
    }
    found
        .iter_mut()
        .for_each(|found| found.products = decomposition.products);
    found
}

/// The Schur form with the eigenvalues that are wanted first, then those that come next in the order in which they do
/// so soonest.
fn sorted(projected: &Dense, wanted: &[(Which, usize)]) -> Option<Schur> {
    let by_first = |value| wanted.first().map_or(0.0, |(which, _)| which.rank(value));
    let mut schur = Schur::sorted(projected, by_first)?;
    if wanted.len() > 1 {
        let m = projected.n;
        let mut behind = vec![f64::INFINITY; m];
        for (which, count) in wanted.iter().filter(|(_, count)| *count > 0) {
            for (place, i) in in_order(&schur, *which).into_iter().enumerate() {
                behind[i] = behind[i].min(place as f64 - *count as f64);
            }
        }
        let values: Vec<Complex64> = (0..m).map(|i| schur.eigenvalue(i)).collect();
        // An exchange leaves values as they are, to the bit.
        let place = |value| values.iter().position(|other| *other == value);
        schur.sort(|value| place(value).map_or(f64::NEG_INFINITY, |i| -behind[i]));
    }
    Some(schur)
}

/// Places of all eigenvalues on the diagonal, best first.
fn in_order(schur: &Schur, which: Which) -> Vec<usize> {
    let rank = |i: &usize| which.rank(schur.eigenvalue(*i));
    let mut order: Vec<usize> = (0..schur.t.n).collect();
    order.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    order
}

impl Decomposition<'_> {
    /// Extends the basis to m + 1 vectors (or the whole space).
    fn expand(&mut self, m: usize) {
        while self.columns.len() < m {
            let j = self.columns.len();
            let mut next = vec![0.0; self.operator.dim()];
            self.operator.apply(&self.basis[j], &mut next);
            self.products += 1;
            let before = norm(&next);
            let mut column = self.orthogonalise(&mut next);
            let after = norm(&next);
            if after > 1e-14 * before && after > 0.0 && self.basis.len() < self.operator.dim() {
                next.iter_mut().for_each(|x| *x /= after);
                column.push(after);
                self.basis.push(next);
                self.columns.push(column);
            } else {
                // The basis spans an invariant subspace: go on with a new direction, coupled by 0.
                column.push(0.0);
                self.columns.push(column);
                // Nothing is appended when the basis is the whole space, and then no column is missing.
                self.append_random();
            }
        }
    }

    /// Removes from `x` its parts along the basis, twice, and returns the coefficients.
    fn orthogonalise(&self, x: &mut [f64]) -> Vec<f64> {
        let mut coefficients = vec![0.0; self.basis.len()];
        for _ in 0..2 {
            let along = &*x;
            let dots: Vec<f64> = self.basis.par_iter().map(|v| dot(v, along)).collect();
            x.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, x)| {
                for (v, h) in self.basis.iter().zip(&dots) {
                    add_scaled(x, -h, &v[chunk * CHUNK..][..x.len()]);
                }
            });
            coefficients.iter_mut().zip(&dots).for_each(|(sum, h)| *sum += h);
        }
        coefficients
    }

    /// Appends a random unit vector orthogonal to the basis; false where the basis is the whole space already.
    fn append_random(&mut self) -> bool {
        if self.basis.len() >= self.operator.dim() {
            return false;
        }
        loop {
            let mut x: Vec<f64> = (0..self.operator.dim()).map(|_| self.stream.normal()).collect();
            let before = norm(&x);
            self.orthogonalise(&mut x);
            let after = norm(&x);
            // A random vector lies within the span only by accident; then another is drawn.
            if after > 1e-8 * before {
                x.iter_mut().for_each(|x| *x /= after);
                self.orthogonalise(&mut x);
                let after = norm(&x);
                x.iter_mut().for_each(|x| *x /= after);
                self.basis.push(x);
                return true;
            }
        }
    }

    /// B (m by m) and the coefficients b of A V_m on the vector after the basis.
    fn projected(&self) -> (Dense, Vec<f64>) {
        let m = self.columns.len();
        let mut b = Dense::zeros(m);
        let mut last = vec![0.0; m];
        for (j, column) in self.columns.iter().enumerate() {
            for (i, value) in column.iter().enumerate() {
                if i < m {
                    b[(i, j)] = Complex64::new(*value, 0.0)
                } else {
                    last[j] = *value
                }
            }
        }
        (b, last)
    }

    /// Keeps the invariant subspace of the first `keep` eigenvalues of the Schur form and of their conjugates.
    fn truncate(&mut self, schur: &Schur, keep: usize, last_row: &[f64]) {
        let m = self.columns.len();
        let z = real_basis(schur, keep);
        let (projected, _) = self.projected();
        let column = |column: &Vec<f64>| {
            let product: Vec<f64> = (0..m)
                .map(|i| (0..m).map(|j| projected[(i, j)].re * column[j]).sum())
                .collect();
            let mut coefficients: Vec<f64> = z.iter().map(|z| dot(z, &product)).collect();
            coefficients.push(dot(last_row, column));
            coefficients
        };
        let columns: Vec<Vec<f64>> = z.iter().map(column).collect();
        let mut basis = combinations(&self.basis[..m], &z);
        basis.push(self.basis.swap_remove(m));
        self.columns = columns;
        self.basis = basis;
    }

    /// The Ritz pair of eigenvalue `i` with its true residual.
    fn pair(&mut self, schur: &Schur, i: usize) -> Eigenpair {
        let n = self.operator.dim();
        let value = schur.eigenvalue(i);
        let mut vector_re = vec![0.0; n];
        let mut vector_im = vec![0.0; n];
        for (v, x) in self.basis.iter().zip(schur.eigenvector(i)) {
            add_scaled(&mut vector_re, x.re, v);
            add_scaled(&mut vector_im, x.im, v);
        }
        let size = (dot(&vector_re, &vector_re) + dot(&vector_im, &vector_im)).sqrt();
        vector_re.iter_mut().chain(&mut vector_im).for_each(|x| *x /= size);
        let (mut re, mut im) = (vec![0.0; n], vec![0.0; n]);
        self.operator.apply(&vector_re, &mut re);
        self.operator.apply(&vector_im, &mut im);
        self.products += 2;
        add_scaled(&mut re, -value.re, &vector_re);
        add_scaled(&mut re, value.im, &vector_im);
        add_scaled(&mut im, -value.re, &vector_im);
        add_scaled(&mut im, -value.im, &vector_re);
        Eigenpair {
            value,
            vector_re,
            vector_im,
            residual: (dot(&re, &re) + dot(&im, &im)).sqrt(),
        }
    }
}

/// Places of the first `count` eigenvalues in an order, with the missing halves of complex pairs; of a pair, the one
/// with positive imaginary part first.
fn whole_pairs(schur: &Schur, (which, count): (Which, usize), scale: f64) -> Vec<usize> {
    let order = in_order(schur, which);
    let mut wanted = Vec::new();
    let mut used = vec![false; order.len()];
    for &i in &order {
        if wanted.len() >= count {
            break;
        }
        if used[i] {
            continue;
        }
        used[i] = true;
        let value = schur.eigenvalue(i);
        if value.im.abs() <= 1e-10 * scale {
            wanted.push(i);
            continue;
        }
        let distance = |j: usize| (schur.eigenvalue(j) - value.conj()).norm();
        let others = order.iter().copied().filter(|j| !used[*j]);
        match others.min_by(|a, b| distance(*a).total_cmp(&distance(*b))) {
            Some(j) if distance(j) <= 1e-6 * scale => {
                used[j] = true;
                wanted.extend(if value.im > 0.0 { [i, j] } else { [j, i] });
            }
            _ => wanted.push(i),
        }
    }
    wanted
}

/// An orthonormal real basis of the span of the first `keep` Schur vectors and their conjugates. Both spans are
/// invariant under the real matrix, hence so is their sum; it has more than `keep` dimensions where `keep` splits a
/// pair.
///
/// Gram-Schmidt with pivoting over real and imaginary parts. Where the span is closed under conjugation these columns
/// form a tight frame of it: at step p the remaining squared norms sum to keep - p, so no pivot is below 1 / (2 keep).
fn real_basis(schur: &Schur, keep: usize) -> Vec<Vec<f64>> {
    let m = schur.t.n;
    let mut columns: Vec<Vec<f64>> = (0..keep)
        .flat_map(|k| {
            let re = (0..m).map(|i| schur.q[(i, k)].re).collect();
            let im = (0..m).map(|i| schur.q[(i, k)].im).collect();
            [re, im]
        })
        .collect();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    while basis.len() < m {
        let largest = (0..columns.len()).max_by(|a, b| norm(&columns[*a]).total_cmp(&norm(&columns[*b])));
        let Some(pivot) = largest else { break };
        let mut column = columns.swap_remove(pivot);
        if norm(&column) < 1e-8 {
            break;
        }
        for _ in 0..2 {
            let dots: Vec<f64> = basis.iter().map(|v| dot(v, &column)).collect();
            basis
                .iter()
                .zip(&dots)
                .for_each(|(v, h)| add_scaled(&mut column, -h, v));
        }
        let size = norm(&column);
        column.iter_mut().for_each(|x| *x /= size);
        for other in &mut columns {
            let h = dot(&column, other);
            add_scaled(other, -h, &column);
        }
        basis.push(column);
    }
    basis
}

/// Values of a vector that are worked on together, so that as many values of a whole basis fit a core's cache.
const CHUNK: usize = 1024;

/// Sums of `rows` with each of the `weights`.
fn combinations(rows: &[Vec<f64>], weights: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> = weights.iter().map(|_| vec![0.0; rows[0].len()]).collect();
    let mut chunks: Vec<Vec<&mut [f64]>> = Vec::new();
    for sum in &mut sums {
        for (chunk, part) in sum.chunks_mut(CHUNK).enumerate() {
            if chunk == chunks.len() {
                chunks.push(Vec::new());
            }
            chunks[chunk].push(part);
        }
    }
    chunks.into_par_iter().enumerate().for_each(|(chunk, parts)| {
        for (part, weights) in parts.into_iter().zip(weights) {
            for (row, weight) in rows.iter().zip(weights) {
                add_scaled(part, *weight, &row[chunk * CHUNK..][..part.len()]);
            }
        }
    });
    sums
}

/// Sum of products in eight interleaved parts: the same order on every machine and for any number of threads.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

pub(super) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>())
}

pub(super) fn add_scaled(to: &mut [f64], factor: f64, from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Explicit(Dense);

    impl LinearOperator for Explicit {
        fn dim(&self) -> usize {
            self.0.n
        }
        fn apply(&self, x: &[f64], out: &mut [f64]) {
            for (row, out) in out.iter_mut().enumerate() {
                *out = (0..self.0.n).map(|column| self.0[(row, column)].re * x[column]).sum();
            }
        }
        fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
            for (column, out) in out.iter_mut().enumerate() {
                *out = (0..self.0.n).map(|row| self.0[(row, column)].re * x[row]).sum();
            }
        }
    }

    fn random(n: usize) -> Dense {
        let mut stream = Stream::new(n as u64, Purpose::Probe, 0, 0, 0, 0);
        let scale = 1.0 / (n as f64).sqrt();
        Dense {
            n,
            data: (0..n * n)
                .map(|_| Complex64::new(scale * stream.normal(), 0.0))
                .collect(),
        }
    }

    fn compare(a: Dense, options: &KrylovOptions) -> LeadingEigenvalues {
        let dense = Schur::sorted(&a, |value| options.which.rank(value)).expect("finite");
        let found = leading_eigenvalues(&Explicit(a), options, &mut |_, _| {});
        assert!(found.converged);
        assert!(found.pairs.len() >= options.count.min(dense.t.n));
        for (i, pair) in found.pairs.iter().enumerate() {
            assert!(pair.residual < 1e-9, "{i}: {}", pair.residual);
            // Same rank as in the full list, so none was passed over. Random matrices: condition of eigenvalues < 100.
            let difference = options.which.rank(pair.value) - options.which.rank(dense.eigenvalue(i));
            assert!(
                difference.abs() < 1e-8,
                "{i}: {} against {}",
                pair.value,
                dense.eigenvalue(i)
            );
        }
        let imaginary: f64 = found.pairs.iter().map(|pair| pair.value.im).sum();
        assert!(imaginary.abs() < 1e-9, "a pair was split");
        found
    }

    #[test]
    fn random_matrices_against_all_their_eigenvalues() {
        for n in [5, 30, 120] {
            for which in [Which::LargestReal, Which::FarthestFrom(0.0), Which::FarthestFrom(-0.4)] {
                for count in [1, 4, 7] {
                    compare(
                        random(n),
                        &KrylovOptions {
                            count,
                            which,
                            subspace: 24,
                            ..KrylovOptions::default()
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn exact_invariant_subspaces_do_not_stop_it() {
        // Zero, the identity, a nilpotent shift, and a matrix of rank 2: the first product leaves the new direction at
        // 0.
        let n = 60;
        let options = KrylovOptions {
            count: 3,
            subspace: 12,
            ..KrylovOptions::default()
        };
        let zero = leading_eigenvalues(&Explicit(Dense::zeros(n)), &options, &mut |_, _| {});
        assert!(
            zero.converged
                && zero
                    .pairs
                    .iter()
                    .all(|pair| pair.value.norm() == 0.0 && pair.residual == 0.0)
        );
        let mut identity = Dense::zeros(n);
        (0..n).for_each(|i| identity[(i, i)] = Complex64::new(1.0, 0.0));
        let found = leading_eigenvalues(&Explicit(identity), &options, &mut |_, _| {});
        assert!(found.pairs.len() == 3 && found.pairs.iter().all(|pair| (pair.value - 1.0).norm() < 1e-14));
        let mut rank2 = Dense::zeros(n);
        rank2[(0, 0)] = Complex64::new(3.0, 0.0);
        rank2[(1, 1)] = Complex64::new(-2.0, 0.0);
        let found = compare(rank2, &options);
        assert!((found.pairs[0].value - 3.0).norm() < 1e-12 && found.pairs[1].value.norm() < 1e-12);
    }

    #[test]
    fn small_operators_are_solved_in_one_go() {
        for n in [1, 2, 3] {
            let found = compare(
                random(n),
                &KrylovOptions {
                    count: 6,
                    ..KrylovOptions::default()
                },
            );
            assert_eq!((found.pairs.len(), found.restarts), (n, 0));
        }
        let none = leading_eigenvalues(&Explicit(Dense::zeros(0)), &KrylovOptions::default(), &mut |_, _| {});
        assert!(none.converged && none.pairs.is_empty());
    }

    #[test]
    fn failure_is_reported() {
        let options = KrylovOptions {
            count: 4,
            subspace: 12,
            max_restarts: 1,
            ..KrylovOptions::default()
        };
        let found = leading_eigenvalues(&Explicit(random(200)), &options, &mut |_, _| {});
        assert!(!found.converged && !found.pairs.is_empty());
        let mut bad = random(20);
        bad[(3, 4)] = Complex64::new(f64::NAN, 0.0);
        let found = leading_eigenvalues(&Explicit(bad), &options, &mut |_, _| {});
        assert!(!found.converged && found.pairs.is_empty());
    }
}
