//! Response to small noise at a stable steady state: the stationary covariance of dx/dt = J x + noise, or of the Euler
//! steps that simulate it, without forming it.
//!
//! With the map M = I + dt J and noise of covariance Q in every step, S = sum over t of M^t Q (M^T)^t. Its trace over
//! any units is the mean, over random signs z on these units, of sum over t of |Q^(1/2) (M^T)^t z|^2 (Hutchinson 1990).
//!
//! In continuous time, with noise of intensity Q/dt: S = integral of e^(J t) Q/dt e^(J^T t) dt, its trace likewise.
//! Euler steps that are not small beside tau have larger fluctuations: of a unit without coupling 1 / (1 - dt / (2
//! tau)) times as large.

use num_complex::Complex64;

use super::flow::{at, gauss_legendre, taylor};
use super::krylov::{KrylovOptions, Which, leading_eigenvalues, norm};
use super::operator::{LinearOperator, dense};
use super::singular::{Estimate, signs};

/// A linear system with noise in every step.
pub struct NoisySteps<'a> {
    jacobian: &'a dyn LinearOperator,
    dt_ms: f64,
    /// Standard deviation of the noise that a step adds to each unit.
    noise: Vec<f64>,
}

/// How responses are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResponseOptions {
    /// Random vectors that a trace is estimated from.
    pub probes: usize,
    /// Steps after which what is left of a probe is given up.
    pub max_steps: usize,
    /// Share of a probe's norm that may be left.
    pub tolerance: f64,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for ResponseOptions {
    fn default() -> Self {
        Self {
            probes: 16,
            max_steps: 5000,
            tolerance: 1e-8,
            seed: 0,
        }
    }
}

/// Growth of a probe after which there is no steady response.
const GROWN: f64 = 1e6;

/// The noise response of some units.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Trace of the stationary covariance; its error is the standard error of the mean over probes.
    pub trace: Estimate,
    /// The trace without any coupling between units, at the same noise.
    pub uncoupled: f64,
    /// Euler steps (or the time of so many) until the last probe had died away.
    pub steps: usize,
    /// Whether all probes had died away before the steps ran out. Where they had not, trace and spectrum say nothing.
    pub converged: bool,
    /// Power of the fluctuations at the frequencies asked for, summed over units, per Hz: a density over negative
    /// frequencies too. In continuous time its integral over all frequencies is the trace. Under Euler steps that from
    /// -1/(2 dt) to 1/(2 dt) is, and beyond it repeats.
    pub spectrum: Vec<Estimate>,
}

impl<'a> NoisySteps<'a> {
    /// Euler steps of dx/dt = J x in which unit i gets noise of standard deviation `noise[i]`.
    ///
    /// # Panics
    /// If there is not one value per unit.
    pub fn new(jacobian: &'a dyn LinearOperator, dt_ms: f64, noise: Vec<f64>) -> Self {
        assert_eq!(noise.len(), jacobian.dim(), "one value per unit");
        Self { jacobian, dt_ms, noise }
    }

    fn step_transpose(&self, x: &mut [f64], change: &mut [f64]) {
        self.jacobian.apply_transpose(x, change);
        x.iter_mut()
            .zip(change)
            .for_each(|(x, change)| *x += self.dt_ms * *change);
    }

    fn step(&self, x: &mut [f64], change: &mut [f64]) {
        self.jacobian.apply(x, change);
        x.iter_mut()
            .zip(change)
            .for_each(|(x, change)| *x += self.dt_ms * *change);
    }

    fn weighted(&self, x: &[f64]) -> f64 {
        x.iter().zip(&self.noise).map(|(x, noise)| (x * noise).powi(2)).sum()
    }

    /// The response of the units in `range`; `leaks` are 1 - dt/tau of each of them. `progress` is called with (probes
    /// done, probes).
    pub fn response(
        &self,
        range: std::ops::Range<usize>,
        leaks: &[f64],
        frequencies_hz: &[f64],
        options: &ResponseOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Response {
        let n = self.jacobian.dim();
        let probes = options.probes.max(2);
        let (mut traces, mut powers) = (Vec::new(), vec![Vec::new(); frequencies_hz.len()]);
        let (mut converged, mut steps) = (true, 0);
        let turns: Vec<Complex64> = frequencies_hz
            .iter()
            .map(|hz| Complex64::from_polar(1.0, -std::f64::consts::TAU * hz / 1000.0 * self.dt_ms))
            .collect();
        for probe in 0..probes {
            let mut x = vec![0.0; n];
            x[range.clone()].copy_from_slice(&signs(range.len(), options.seed, probe));
            let (start, mut change) = (norm(&x), vec![0.0; n]);
            let mut trace = 0.0;
            // Sum over t of e^(-i omega t) (M^T)^t z.
            let mut sums = vec![vec![Complex64::new(0.0, 0.0); n]; turns.len()];
            let mut phases = vec![Complex64::new(1.0, 0.0); turns.len()];
            let mut step = 0;
            loop {
                let size = norm(&x);
                if size <= options.tolerance * start {
                    break;
                }
                if step == options.max_steps || size.is_nan() || size > GROWN * start {
                    converged = false;
                    break;
                }
                trace += self.weighted(&x);
                for ((sum, phase), turn) in sums.iter_mut().zip(&mut phases).zip(&turns) {
                    sum.iter_mut().zip(&x).for_each(|(sum, x)| *sum += *phase * *x);
                    *phase *= turn;
                }
                self.step_transpose(&mut x, &mut change);
                step += 1;
            }
            steps = steps.max(step);
            traces.push(trace);
            for (powers, sum) in powers.iter_mut().zip(&sums) {
                let weighted = sum
                    .iter()
                    .zip(&self.noise)
                    .map(|(sum, noise)| sum.norm_sqr() * noise * noise);
                // A sequence with steps of dt has the density dt |sum|^2 over frequencies from -1/(2 dt) to 1/(2 dt).
                powers.push(self.dt_ms / 1000.0 * weighted.sum::<f64>());
            }
            progress(probe + 1, probes);
        }
        let uncoupled = self.noise[range]
            .iter()
            .zip(leaks)
            .map(|(noise, leak)| noise * noise / (1.0 - leak * leak))
            .sum();
        Response {
            trace: Estimate::of(&traces),
            uncoupled,
            steps,
            converged,
            spectrum: powers.iter().map(|powers| Estimate::of(powers)).collect(),
        }
    }

    /// The same in continuous time: of dx/dt = J x with white noise that adds the variance noise^2 in every dt.
    /// `taus_ms` are the time constants of the units in `range`, `scale_ms` is the shortest of all units.
    ///
    /// Probes follow dx/dt = J^T x by Taylor's series, integrals are taken by Gauss and Legendre's rule in segments of
    /// `scale_ms`, to some nine digits.
    pub fn continuous_response(
        &self,
        range: std::ops::Range<usize>,
        (taus_ms, scale_ms): (&[f64], f64),
        frequencies_hz: &[f64],
        options: &ResponseOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Response {
        let n = self.jacobian.dim();
        let probes = options.probes.max(2);
        let omegas: Vec<f64> = frequencies_hz
            .iter()
            .map(|hz| std::f64::consts::TAU * hz / 1000.0)
            .collect();
        // Twelve nodes follow a segment in which a phase turns by little more than half a turn.
        let fastest = omegas.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let mut h = if fastest * scale_ms > 4.0 {
            4.0 / fastest
        } else {
            scale_ms
        };
        let longest_ms = options.max_steps as f64 * self.dt_ms;
        let nodes = gauss_legendre();
        let (mut traces, mut powers) = (Vec::new(), vec![Vec::new(); omegas.len()]);
        let (mut converged, mut steps) = (true, 0);
        for probe in 0..probes {
            let mut x = vec![0.0; n];
            x[range.clone()].copy_from_slice(&signs(range.len(), options.seed, probe));
            let start = norm(&x);
            let (mut trace, mut time) = (0.0, 0.0);
            // Integral of e^(-i omega t) e^(J^T t) z.
            let mut sums = vec![vec![Complex64::new(0.0, 0.0); n]; omegas.len()];
            loop {
                let size = norm(&x);
                if size <= options.tolerance * start {
                    break;
                }
                if time >= longest_ms || size.is_nan() || size > GROWN * start {
                    converged = false;
                    break;
                }
                let Some(terms) = taylor(&|x, out| self.jacobian.apply_transpose(x, out), &x, h) else {
                    h *= 0.5;
                    if h < 1e-6 * scale_ms {
                        converged = false;
                        break;
                    }
                    continue;
                };
                for (node, weight) in nodes {
                    let there = at(&terms, node);
                    trace += weight * h * self.weighted(&there);
                    for (sum, omega) in sums.iter_mut().zip(&omegas) {
                        let phase = Complex64::from_polar(weight * h, -omega * (time + node * h));
                        sum.iter_mut().zip(&there).for_each(|(sum, x)| *sum += phase * *x);
                    }
                }
                x = at(&terms, 1.0);
                time += h;
            }
            steps = steps.max((time / self.dt_ms).ceil() as usize);
            traces.push(trace / self.dt_ms);
            for (powers, sum) in powers.iter_mut().zip(&sums) {
                let weighted = sum
                    .iter()
                    .zip(&self.noise)
                    .map(|(sum, noise)| sum.norm_sqr() * noise * noise);
                // Per Hz, of time in ms.
                powers.push(weighted.sum::<f64>() / self.dt_ms / 1000.0);
            }
            progress(probe + 1, probes);
        }
        let uncoupled = self.noise[range]
            .iter()
            .zip(taus_ms)
            .map(|(noise, tau_ms)| noise * noise / self.dt_ms * tau_ms / 2.0)
            .sum();
        Response {
            trace: Estimate::of(&traces),
            uncoupled,
            steps,
            converged,
            spectrum: powers.iter().map(|powers| Estimate::of(powers)).collect(),
        }
    }

    /// Leading eigenvalues of the stationary covariance of all units under Euler steps, with eigenvectors.
    ///
    /// A product takes three times `steps` steps and keeps 2 sqrt(steps) vectors.
    pub fn leading_modes(&self, count: usize, steps: usize, seed: u64) -> super::LeadingEigenvalues {
        let covariance = Covariance { system: self, steps };
        let options = KrylovOptions {
            count,
            which: Which::LargestReal,
            subspace: 2 * count + 8,
            tolerance: 1e-6,
            seed,
            ..KrylovOptions::default()
        };
        leading_eigenvalues(&covariance, &options, &mut |_, _| {})
    }
}

/// sum over t < steps of M^t Q (M^T)^t.
struct Covariance<'a> {
    system: &'a NoisySteps<'a>,
    steps: usize,
}

impl LinearOperator for Covariance<'_> {
    fn dim(&self) -> usize {
        self.system.jacobian.dim()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let system = self.system;
        let mut change = vec![0.0; x.len()];
        let stride = (self.steps as f64).sqrt().ceil().max(1.0) as usize;
        // (M^T)^t x at every stride-th t; those between are computed again when they are needed.
        let mut kept = vec![x.to_vec()];
        for start in (stride..self.steps).step_by(stride) {
            let mut next = kept[start / stride - 1].clone();
            (0..stride).for_each(|_| system.step_transpose(&mut next, &mut change));
            kept.push(next);
        }
        // By Horner's rule, from the last t on.
        out.fill(0.0);
        for (part, first) in kept.into_iter().enumerate().rev() {
            let steps = stride.min(self.steps - part * stride);
            let mut past = vec![first];
            for step in 1..steps {
                let mut next = past[step - 1].clone();
                system.step_transpose(&mut next, &mut change);
                past.push(next);
            }
            for past in past.iter().rev() {
                system.step(out, &mut change);
                for ((out, past), noise) in out.iter_mut().zip(past).zip(&system.noise) {
                    *out += noise * noise * past;
                }
            }
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        self.apply(x, out);
    }
}

/// The stationary covariance of dx/dt = J x + noise of intensity `intensity` in every unit, J S + S J^T + intensity I =
/// 0, as a dense matrix, row by row: for small systems. None where J is not stable.
///
/// By Smith's doubling after a Cayley transform (Smith 1968).
pub fn stationary_covariance(jacobian: &dyn LinearOperator, intensity: f64) -> Option<Vec<f64>> {
    let n = jacobian.dim();
    let a = dense(jacobian);
    // Any positive shift does; one of the size of J converges fast.
    let shift = a.norm_l2() / (n as f64).sqrt();
    let shifted =
        |sign: f64| faer::Mat::<f64>::from_fn(n, n, |i, j| a[(i, j)] + if i == j { sign * shift } else { 0.0 });
    let lower = shifted(-1.0).partial_piv_lu();
    use faer::linalg::solvers::Solve;
    let mut map = lower.solve(shifted(1.0));
    let inverse = lower.solve(faer::Mat::<f64>::identity(n, n));
    let mut sum = faer::Scale(2.0 * shift * intensity) * (&inverse * inverse.transpose());
    for _ in 0..60 {
        let added = &map * &sum * map.transpose();
        let (size, old) = (added.norm_l2(), sum.norm_l2());
        sum += &added;
        if !size.is_finite() {
            return None;
        }
        if size <= 1e-16 * old {
            return Some(
                (0..n)
                    .flat_map(|i| (0..n).map(move |j| (i, j)))
                    .map(|ij| sum[ij])
                    .collect(),
            );
        }
        map = &map * &map;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n units that leak alike, each driven by the one before it with weight `chain`.
    struct Chain(usize, f64);

    impl LinearOperator for Chain {
        fn dim(&self) -> usize {
            self.0
        }
        fn apply(&self, x: &[f64], out: &mut [f64]) {
            for (i, out) in out.iter_mut().enumerate() {
                let before = if i == 0 { 0.0 } else { x[i - 1] };
                *out = (self.1 * before - x[i]) / 10.0;
            }
        }
        fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
            for (i, out) in out.iter_mut().enumerate() {
                let after = x.get(i + 1).copied().unwrap_or(0.0);
                *out = (self.1 * after - x[i]) / 10.0;
            }
        }
    }

    /// White noise of variance 1 that a leaky unit with alpha = 0.2 averages has variance alpha / (2 - alpha) = 1/9;
    /// its power at frequency 0 is dt, that of the noise itself.
    #[test]
    fn a_leaky_unit_reduces_the_variance_of_white_noise_to_a_ninth() {
        let uncoupled = Chain(30, 0.0);
        let system = NoisySteps::new(&uncoupled, 2.0, vec![0.2; 30]);
        let found = system.response(10..30, &[0.8; 20], &[0.0], &ResponseOptions::default(), &mut |_, _| {});
        // 20 units; probes all give the same.
        assert!((found.trace.value / 20.0 - 1.0 / 9.0).abs() < 1e-9, "{found:?}");
        assert!((found.uncoupled / 20.0 - 1.0 / 9.0).abs() < 1e-12 && found.converged);
        assert!((found.spectrum[0].value / 20.0 - 0.002).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn traces_modes_and_power_of_a_chain_are_those_of_its_covariance() {
        let chain = Chain(12, 1.3);
        let (dt, noise) = (2.0, 0.3);
        let system = NoisySteps::new(&chain, dt, vec![noise; 12]);
        // The covariance by its definition, column by column.
        let covariance = Covariance {
            system: &system,
            steps: 400,
        };
        let diagonal = |i: usize| {
            let (mut unit, mut column) = (vec![0.0; 12], vec![0.0; 12]);
            unit[i] = 1.0;
            covariance.apply(&unit, &mut column);
            column[i]
        };
        let expected: f64 = (4..12).map(diagonal).sum();
        let options = ResponseOptions {
            probes: 400,
            ..ResponseOptions::default()
        };
        let found = system.response(4..12, &[0.8; 8], &[], &options, &mut |_, _| {});
        assert!(
            (found.trace.value - expected).abs() < 4.0 * found.trace.error,
            "{found:?}, {expected}"
        );
        assert!(found.trace.error < 0.05 * expected && found.trace.value > found.uncoupled);
        // By its definition, S = sum of M^t Q (M^T)^t, and what its eigenvalues are.
        let mut dense = faer::Mat::<f64>::zeros(12, 12);
        for j in 0..12 {
            let mut state = vec![0.0; 12];
            state[j] = noise;
            let mut change = vec![0.0; 12];
            for _ in 0..400 {
                for (a, x) in state.iter().enumerate() {
                    (0..12).for_each(|b| dense[(a, b)] += x * state[b]);
                }
                system.step(&mut state, &mut change);
            }
        }
        for i in 0..12 {
            assert!((diagonal(i) - dense[(i, i)]).abs() < 1e-10 * dense[(i, i)], "{i}");
        }
        let all = dense.self_adjoint_eigenvalues(faer::Side::Lower).expect("converges");
        let modes = system.leading_modes(2, 400, 1);
        assert!(modes.converged);
        for (pair, expected) in modes.pairs.iter().zip(all.iter().rev()) {
            assert!(
                (pair.value.re / expected - 1.0).abs() < 1e-6,
                "{} {expected}",
                pair.value
            );
        }
        // Power over all frequencies is variance: a sum over as many as tell it exactly.
        let frequencies: Vec<f64> = (0..1000).map(|k| f64::from(k) / 1000.0 * 500.0).collect();
        let power = system.response(
            4..12,
            &[0.8; 8],
            &frequencies,
            &ResponseOptions::default(),
            &mut |_, _| {},
        );
        let sum: f64 = power.spectrum.iter().map(|power| power.value).sum();
        assert!(
            (sum * 0.5 / power.trace.value - 1.0).abs() < 1e-6,
            "{sum} {:?}",
            power.trace
        );
    }

    /// A rotation that decays, J = -a I + w R, in continuous time: S = q / (2 a) I, and power q (|J - i omega|^-1)_F^2.
    #[test]
    fn continuous_response_of_a_rotation_by_hand() {
        struct Turning;
        impl LinearOperator for Turning {
            fn dim(&self) -> usize {
                2
            }
            fn apply(&self, x: &[f64], out: &mut [f64]) {
                (out[0], out[1]) = (-0.1 * x[0] - 0.2 * x[1], 0.2 * x[0] - 0.1 * x[1]);
            }
            fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
                (out[0], out[1]) = (-0.1 * x[0] + 0.2 * x[1], -0.2 * x[0] - 0.1 * x[1]);
            }
        }
        let (dt, q) = (5.0f64, 0.3f64);
        let system = NoisySteps::new(&Turning, dt, vec![(q * dt).sqrt(); 2]);
        let frequencies = [0.0, 30.0, 1000.0];
        let options = ResponseOptions::default();
        let found = system.continuous_response(0..2, (&[10.0; 2], 10.0), &frequencies, &options, &mut |_, _| {});
        assert!(
            found.converged && (found.trace.value - q / 0.1).abs() < 1e-8,
            "{found:?}"
        );
        assert!((found.uncoupled - q * 10.0).abs() < 1e-12, "{found:?}");
        for (hz, power) in frequencies.iter().zip(&found.spectrum) {
            let omega = std::f64::consts::TAU * hz / 1000.0;
            // Eigenvalues -0.1 +- 0.2 i of a normal operator.
            let each = [0.2, -0.2].map(|w: f64| q / (0.01 + (omega - w).powi(2)) / 1000.0);
            let expected = each[0] + each[1];
            assert!(
                (power.value / expected - 1.0).abs() < 1e-6,
                "{hz}: {} {expected}",
                power.value
            );
        }
        // Under Euler steps of 5 ms: |1 + dt lambda|^2 = 0.25 + 1, which grows.
        assert!(
            !system
                .response(0..2, &[0.5; 2], &[], &options, &mut |_, _| {})
                .converged
        );
    }

    /// One unit: S = intensity tau / 2. Two in a chain: by hand from the three equations.
    #[test]
    fn dense_covariances_by_hand() {
        let one = stationary_covariance(&Chain(1, 0.0), 2.0).expect("stable");
        assert!((one[0] - 10.0).abs() < 1e-12, "{one:?}");
        let two = stationary_covariance(&Chain(2, 0.5), 2.0).expect("stable");
        // With tau = 10: s11 = 10, s12 = 0.5 s11 / 2, s22 = 10 + 0.5 s12.
        for (found, expected) in two.iter().zip([10.0, 2.5, 2.5, 11.25]) {
            assert!((found - expected).abs() < 1e-12, "{two:?}");
        }
        struct Growing;
        impl LinearOperator for Growing {
            fn dim(&self) -> usize {
                1
            }
            fn apply(&self, x: &[f64], out: &mut [f64]) {
                out[0] = 0.1 * x[0];
            }
            fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
                out[0] = 0.1 * x[0];
            }
        }
        assert_eq!(stationary_covariance(&Growing, 2.0), None);
    }
}
