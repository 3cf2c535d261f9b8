//! Complex Schur form of a small dense matrix, with its eigenvalues in a wanted order: A = Q T Q^H, T upper triangular.
//!
//! Householder reduction to Hessenberg form, QR iteration with Wilkinson's shift, and exchange of neighbours by plane
//! rotations (Golub and Van Loan, Matrix Computations, sections 7.4 to 7.6). Backward stable whatever the
//! eigenvectors' condition, which matters here: convolutions with zero padding can be far from normal.

use num_complex::Complex64;

/// A square matrix, row by row.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) n: usize,
    pub(super) data: Vec<Complex64>,
}

impl Dense {
    pub(super) fn zeros(n: usize) -> Self {
        Self {
            n,
            data: vec![Complex64::new(0.0, 0.0); n * n],
        }
    }

    fn identity(n: usize) -> Self {
        let mut identity = Self::zeros(n);
        for i in 0..n {
            identity[(i, i)] = Complex64::new(1.0, 0.0);
        }
        identity
    }
}

impl std::ops::Index<(usize, usize)> for Dense {
    type Output = Complex64;
    fn index(&self, (row, column): (usize, usize)) -> &Complex64 {
        &self.data[row * self.n + column]
    }
}

impl std::ops::IndexMut<(usize, usize)> for Dense {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut Complex64 {
        &mut self.data[row * self.n + column]
    }
}

/// A = Q T Q^H.
#[derive(Debug)]
pub(super) struct Schur {
    pub(super) t: Dense,
    pub(super) q: Dense,
}

impl Schur {
    /// Schur form with the eigenvalues in descending order of `rank`; `None` where the iteration does not converge
    /// (entries that are not finite).
    pub(super) fn sorted(a: &Dense, rank: impl Fn(Complex64) -> f64) -> Option<Self> {
        let mut schur = Self {
            t: a.clone(),
            q: Dense::identity(a.n),
        };
        schur.reduce_to_hessenberg();
        schur.iterate()?;
        schur.sort(rank);
        Some(schur)
    }

    pub(super) fn eigenvalue(&self, i: usize) -> Complex64 {
        self.t[(i, i)]
    }

    /// Unit eigenvector of A for eigenvalue `i`, by back substitution in T.
    pub(super) fn eigenvector(&self, i: usize) -> Vec<Complex64> {
        let n = self.t.n;
        let value = self.eigenvalue(i);
        // A repeated eigenvalue is moved apart by a rounding error of the matrix.
        let floor = f64::EPSILON * self.t.data.iter().map(|v| v.norm()).fold(0.0, f64::max);
        let mut z = vec![Complex64::new(0.0, 0.0); n];
        z[i] = Complex64::new(1.0, 0.0);
        for row in (0..i).rev() {
            let sum = (row + 1..=i).fold(Complex64::new(0.0, 0.0), |sum, k| sum + self.t[(row, k)] * z[k]);
            if sum.norm() == 0.0 {
                continue;
            }
            let mut pivot = self.t[(row, row)] - value;
            if pivot.norm() < floor {
                pivot = Complex64::new(floor, 0.0);
            }
            z[row] = -sum / pivot;
            // Growth is scaled down at once: a defective matrix would overflow.
            let size = z[row].norm();
            if size > 1e100 {
                z[row..=i].iter_mut().for_each(|z| *z /= size);
            }
        }
        let mut x: Vec<Complex64> = (0..n)
            .map(|row| (0..=i).fold(Complex64::new(0.0, 0.0), |sum, k| sum + self.q[(row, k)] * z[k]))
            .collect();
        let norm = x.iter().map(|x| x.norm_sqr()).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        x
    }

    fn reduce_to_hessenberg(&mut self) {
        let n = self.t.n;
        for k in 0..n.saturating_sub(2) {
            let mut v: Vec<Complex64> = (k + 1..n).map(|row| self.t[(row, k)]).collect();
            let norm = v.iter().map(|v| v.norm_sqr()).sum::<f64>().sqrt();
            if norm == 0.0 {
                continue;
            }
            let phase = if v[0].norm() == 0.0 {
                Complex64::new(1.0, 0.0)
            } else {
                v[0] / v[0].norm()
            };
            v[0] += phase * norm;
            let squared = v.iter().map(|v| v.norm_sqr()).sum::<f64>();
            // H = I - 2 v v^H / (v^H v) from the left, then from the right, and into Q.
            for column in 0..n {
                let dot = v.iter().enumerate().fold(Complex64::new(0.0, 0.0), |sum, (i, v)| {
                    sum + v.conj() * self.t[(k + 1 + i, column)]
                });
                let factor = dot * (2.0 / squared);
                for (i, v) in v.iter().enumerate() {
                    self.t[(k + 1 + i, column)] -= v * factor;
                }
            }
            for matrix in [&mut self.t, &mut self.q] {
                for row in 0..n {
                    let dot = v.iter().enumerate().fold(Complex64::new(0.0, 0.0), |sum, (i, v)| {
                        sum + matrix[(row, k + 1 + i)] * v
                    });
                    let factor = dot * (2.0 / squared);
                    for (i, v) in v.iter().enumerate() {
                        matrix[(row, k + 1 + i)] -= factor * v.conj();
                    }
                }
            }
            for row in k + 2..n {
                self.t[(row, k)] = Complex64::new(0.0, 0.0);
            }
        }
    }

    fn iterate(&mut self) -> Option<()> {
        let n = self.t.n;
        let norm = self.t.data.iter().map(|v| v.norm_sqr()).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return None;
        }
        let mut high = n;
        let mut tries = 0;
        while high > 1 {
            // The active block is low..high: the largest with no negligible subdiagonal entry.
            let mut low = high - 1;
            while low > 0 {
                let neighbours = self.t[(low - 1, low - 1)].norm() + self.t[(low, low)].norm();
                let scale = if neighbours == 0.0 { norm } else { neighbours };
                if self.t[(low, low - 1)].norm() <= f64::EPSILON * scale {
                    self.t[(low, low - 1)] = Complex64::new(0.0, 0.0);
                    break;
                }
                low -= 1;
            }
            if low + 1 == high {
                high -= 1;
                tries = 0;
                continue;
            }
            tries += 1;
            if tries > 300 {
                return None;
            }
            let last = high - 1;
            let shift = if tries % 10 == 0 {
                // An exceptional shift breaks cycles.
                self.t[(last, last)] + Complex64::new(0.75 * self.t[(last, last - 1)].norm(), 0.0)
            } else {
                wilkinson(
                    self.t[(last - 1, last - 1)],
                    self.t[(last - 1, last)],
                    self.t[(last, last - 1)],
                    self.t[(last, last)],
                )
            };
            self.sweep(low, high, shift);
        }
        Some(())
    }

    /// One QR step with a shift on the block low..high, by chasing the bulge with plane rotations.
    fn sweep(&mut self, low: usize, high: usize, shift: Complex64) {
        let mut pair = (self.t[(low, low)] - shift, self.t[(low + 1, low)]);
        for k in low..high - 1 {
            let rotation = Rotation::zeroing(pair.0, pair.1);
            self.rotate(rotation, k);
            if k > low {
                self.t[(k + 1, k - 1)] = Complex64::new(0.0, 0.0);
            }
            if k + 2 < high {
                pair = (self.t[(k + 1, k)], self.t[(k + 2, k)]);
            }
        }
    }

    /// Similarity by a rotation of rows and columns k and k + 1, gathered in Q.
    fn rotate(&mut self, rotation: Rotation, k: usize) {
        let n = self.t.n;
        let Rotation { c, s } = rotation;
        for column in 0..n {
            let (a, b) = (self.t[(k, column)], self.t[(k + 1, column)]);
            self.t[(k, column)] = a * c + s * b;
            self.t[(k + 1, column)] = b * c - s.conj() * a;
        }
        for matrix in [&mut self.t, &mut self.q] {
            for row in 0..n {
                let (a, b) = (matrix[(row, k)], matrix[(row, k + 1)]);
                matrix[(row, k)] = a * c + s.conj() * b;
                matrix[(row, k + 1)] = b * c - s * a;
            }
        }
    }

    /// Descending order of `rank` on the diagonal: insertion sort by exchanging neighbours.
    pub(super) fn sort(&mut self, rank: impl Fn(Complex64) -> f64) {
        for i in 1..self.t.n {
            for k in (0..i).rev() {
                if rank(self.t[(k + 1, k + 1)]) <= rank(self.t[(k, k)]) {
                    break;
                }
                self.exchange(k);
            }
        }
    }

    /// Exchanges the eigenvalues at k and k + 1.
    fn exchange(&mut self, k: usize) {
        let (first, second) = (self.t[(k, k)], self.t[(k + 1, k + 1)]);
        // (t01, second - first) spans the eigenvector of `second` in the 2 x 2 block.
        self.rotate(Rotation::zeroing(self.t[(k, k + 1)], second - first), k);
        self.t[(k, k)] = second;
        self.t[(k + 1, k + 1)] = first;
        self.t[(k + 1, k)] = Complex64::new(0.0, 0.0);
    }
}

/// [[c, s], [-conj(s), c]] with c real.
#[derive(Clone, Copy)]
struct Rotation {
    c: f64,
    s: Complex64,
}

impl Rotation {
    /// The rotation that maps (a, b) to (r, 0).
    fn zeroing(a: Complex64, b: Complex64) -> Self {
        let (size_a, size_b) = (a.norm(), b.norm());
        let r = size_a.hypot(size_b);
        if size_b == 0.0 {
            return Self {
                c: 1.0,
                s: Complex64::new(0.0, 0.0),
            };
        }
        if size_a == 0.0 {
            return Self {
                c: 0.0,
                s: b.conj() / size_b,
            };
        }
        Self {
            c: size_a / r,
            s: (a / size_a) * b.conj() / r,
        }
    }
}

/// The eigenvalue of [[a, b], [c, d]] nearer to d.
fn wilkinson(a: Complex64, b: Complex64, c: Complex64, d: Complex64) -> Complex64 {
    let half = (a - d) * 0.5;
    let product = b * c;
    let root = (half * half + product).sqrt();
    // The larger denominator, for the smaller correction.
    let denominator = if (half + root).norm() >= (half - root).norm() {
        half + root
    } else {
        half - root
    };
    if denominator.norm() == 0.0 {
        d
    } else {
        d - product / denominator
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn random(n: usize, seed: u64) -> Dense {
        let mut stream = Stream::new(seed, Purpose::Probe, 0, 0, 0, 0);
        Dense {
            n,
            data: (0..n * n).map(|_| Complex64::new(stream.normal(), 0.0)).collect(),
        }
    }

    /// max |A - Q T Q^H| and max |Q^H Q - I|.
    fn errors(a: &Dense, schur: &Schur) -> (f64, f64) {
        let n = a.n;
        let zero = Complex64::new(0.0, 0.0);
        let (mut product, mut orthogonality) = (0.0f64, 0.0f64);
        for i in 0..n {
            for j in 0..n {
                let mut sum = zero;
                for k in 0..n {
                    for l in k..n {
                        sum += schur.q[(i, k)] * schur.t[(k, l)] * schur.q[(j, l)].conj();
                    }
                }
                product = product.max((sum - a[(i, j)]).norm());
                let dot = (0..n).fold(zero, |sum, k| sum + schur.q[(k, i)].conj() * schur.q[(k, j)]);
                orthogonality = orthogonality.max((dot - if i == j { 1.0 } else { 0.0 }).norm());
            }
        }
        (product, orthogonality)
    }

    fn check(a: &Dense) -> Schur {
        let schur = Schur::sorted(a, |value| value.re).expect("finite");
        let (product, orthogonality) = errors(a, &schur);
        let norm = a.data.iter().map(|v| v.norm_sqr()).sum::<f64>().sqrt().max(1.0);
        // Backward stable: a modest multiple of n eps |A|.
        assert!(
            product < 50.0 * a.n as f64 * f64::EPSILON * norm,
            "n = {}: {product}",
            a.n
        );
        assert!(
            orthogonality < 50.0 * a.n as f64 * f64::EPSILON,
            "n = {}: {orthogonality}",
            a.n
        );
        assert!((1..a.n).all(|i| schur.eigenvalue(i).re <= schur.eigenvalue(i - 1).re));
        schur
    }

    #[test]
    fn random_matrices_are_rebuilt_and_sorted() {
        for n in [1, 2, 3, 5, 17, 40] {
            let a = random(n, n as u64);
            let schur = check(&a);
            for i in 0..n {
                let x = schur.eigenvector(i);
                let residual = (0..n).map(|row| {
                    let product = (0..n).fold(Complex64::new(0.0, 0.0), |sum, k| sum + a[(row, k)] * x[k]);
                    (product - schur.eigenvalue(i) * x[row]).norm_sqr()
                });
                // Random matrices of this size have eigenvectors of condition below 1e3.
                assert!(residual.sum::<f64>().sqrt() < 1e-11);
            }
        }
    }

    #[test]
    fn known_eigenvalues() {
        // Rotation by 90 degrees, a cyclic shift (roots of 1), a Jordan block, zeros.
        let from = |n: usize, rows: &[f64]| Dense {
            n,
            data: rows.iter().map(|v| Complex64::new(*v, 0.0)).collect(),
        };
        let schur = check(&from(2, &[0.0, -1.0, 1.0, 0.0]));
        assert!(
            (0..2).all(|i| schur.eigenvalue(i).re.abs() < 1e-15 && (schur.eigenvalue(i).im.abs() - 1.0).abs() < 1e-15)
        );
        let mut shift = Dense::zeros(8);
        for i in 0..8 {
            shift[((i + 1) % 8, i)] = Complex64::new(1.0, 0.0);
        }
        let schur = check(&shift);
        assert!((schur.eigenvalue(0) - 1.0).norm() < 1e-13);
        assert!((0..8).all(|i| (schur.eigenvalue(i).norm() - 1.0).abs() < 1e-13));
        let mut jordan = Dense::zeros(6);
        for i in 0..6 {
            jordan[(i, i)] = Complex64::new(2.0, 0.0);
            if i > 0 {
                jordan[(i - 1, i)] = Complex64::new(1.0, 0.0);
            }
        }
        check(&jordan);
        check(&Dense::zeros(4));
        let mut bad = Dense::zeros(3);
        bad[(0, 1)] = Complex64::new(f64::NAN, 0.0);
        assert!(Schur::sorted(&bad, |value| value.re).is_none());
    }
}
