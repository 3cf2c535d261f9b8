//! Linear flows dx/dt = A x in continuous time, beside the Euler steps that simulate them: by the Taylor series of e^(A
//! t), which needs nothing but products and, in segments no longer than a time constant, loses no digits.

use super::krylov::norm;
use super::operator::LinearOperator;

/// Share of a vector's norm below which terms are left out.
const TOLERANCE: f64 = 1e-11;
/// Terms after which a segment is halved.
const TERMS: usize = 60;

/// The terms (A h)^k x / k! of e^(A h) x, k from 0: at theta h, term k has the factor theta^k. None where they do not
/// get small.
pub(super) fn taylor(apply: &dyn Fn(&[f64], &mut [f64]), x: &[f64], h_ms: f64) -> Option<Vec<Vec<f64>>> {
    let mut terms = vec![x.to_vec()];
    let enough = TOLERANCE * norm(x);
    let mut small = 0;
    while small < 2 {
        if terms.len() > TERMS {
            return None;
        }
        let k = terms.len() as f64;
        let mut next = vec![0.0; x.len()];
        apply(&terms[terms.len() - 1], &mut next);
        next.iter_mut().for_each(|x| *x *= h_ms / k);
        let size = norm(&next);
        // Two in a row: of a non-normal operator one term may vanish and the next one not.
        small = if size <= enough { small + 1 } else { 0 };
        terms.push(next);
    }
    Some(terms)
}

/// x at theta h.
pub(super) fn at(terms: &[Vec<f64>], theta: f64) -> Vec<f64> {
    // By Horner's rule.
    let mut sum = terms[terms.len() - 1].clone();
    for term in terms.iter().rev().skip(1) {
        sum.iter_mut()
            .zip(term)
            .for_each(|(sum, term)| *sum = *sum * theta + term);
    }
    sum
}

/// e^(A t) of an operator A in 1/ms, as an operator itself.
pub(super) struct Flow<'a> {
    operator: &'a dyn LinearOperator,
    time_ms: f64,
    scale_ms: f64,
}

impl<'a> Flow<'a> {
    /// `scale_ms` is a time in which x changes by no more than a few times itself, such as the shortest time constant.
    pub(super) fn new(operator: &'a dyn LinearOperator, time_ms: f64, scale_ms: f64) -> Self {
        Self {
            operator,
            time_ms,
            scale_ms,
        }
    }

    fn run(&self, x: &[f64], out: &mut [f64], apply: &dyn Fn(&[f64], &mut [f64])) {
        let mut segments = (self.time_ms / self.scale_ms).ceil().max(1.0) as usize;
        while !self.in_segments(segments, x, out, apply) {
            segments *= 2;
            if segments > 1 << 20 {
                // Nothing that a network does: not a number rather than no end.
                return out.fill(f64::NAN);
            }
        }
    }

    /// Whether terms get small in segments so short.
    fn in_segments(&self, segments: usize, x: &[f64], out: &mut [f64], apply: &dyn Fn(&[f64], &mut [f64])) -> bool {
        out.copy_from_slice(x);
        (0..segments).all(|_| {
            let terms = taylor(apply, out, self.time_ms / segments as f64);
            if let Some(terms) = &terms {
                out.copy_from_slice(&at(terms, 1.0));
            }
            terms.is_some()
        })
    }
}

impl LinearOperator for Flow<'_> {
    fn dim(&self) -> usize {
        self.operator.dim()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        self.run(x, out, &|x, out| self.operator.apply(x, out));
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        self.run(x, out, &|x, out| self.operator.apply_transpose(x, out));
    }
}

/// Nodes on [0, 1] and weights of Gauss and Legendre's rule with twelve nodes, by Newton's method on the polynomial.
pub(super) fn gauss_legendre() -> [(f64, f64); 12] {
    const N: usize = 12;
    std::array::from_fn(|i| {
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (N as f64 + 0.5)).cos();
        let mut slope = 0.0;
        for _ in 0..20 {
            let (mut before, mut value) = (1.0, x);
            for k in 2..=N {
                let k = k as f64;
                (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
            }
            slope = N as f64 * (x * value - before) / (x * x - 1.0);
            x -= value / slope;
        }
        (0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_nodes_integrate_powers() {
        for power in [0, 1, 7, 22, 23] {
            let sum: f64 = gauss_legendre().iter().map(|(x, w)| w * x.powi(power)).sum();
            assert!((sum - 1.0 / f64::from(power + 1)).abs() < 1e-14, "{power}: {sum}");
        }
    }

    /// A rotation that decays, and a chain: e^(A t) by hand.
    #[test]
    fn flows_by_hand() {
        struct Matrix([f64; 4]);
        impl LinearOperator for Matrix {
            fn dim(&self) -> usize {
                2
            }
            fn apply(&self, x: &[f64], out: &mut [f64]) {
                let [a, b, c, d] = self.0;
                (out[0], out[1]) = (a * x[0] + b * x[1], c * x[0] + d * x[1]);
            }
            fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
                let [a, b, c, d] = self.0;
                (out[0], out[1]) = (a * x[0] + c * x[1], b * x[0] + d * x[1]);
            }
        }
        let mut out = [0.0; 2];
        let turning = Matrix([-0.1, -0.3, 0.3, -0.1]);
        Flow::new(&turning, 25.0, 10.0).apply(&[1.0, 0.0], &mut out);
        let size = (-2.5f64).exp();
        assert!((out[0] - size * 7.5f64.cos()).abs() < 1e-10 && (out[1] - size * 7.5f64.sin()).abs() < 1e-10);
        let chain = Matrix([-0.1, 0.0, 2.0, -0.1]);
        Flow::new(&chain, 25.0, 10.0).apply(&[1.0, 0.0], &mut out);
        assert!((out[1] - 50.0 * size).abs() < 1e-8, "{out:?}");
        Flow::new(&chain, 25.0, 10.0).apply_transpose(&[0.0, 1.0], &mut out);
        assert!((out[0] - 50.0 * size).abs() < 1e-8, "{out:?}");
    }
}
