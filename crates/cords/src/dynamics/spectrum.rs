//! The leading modes of an area at a steady state, in time units.

use super::krylov::{Eigenpair, KrylovOptions, LeadingEigenvalues, Which, leading_eigenvalues_by, norm};
use super::operator::{ActiveCoupling, AreaJacobian, LinearOperator};
use crate::net::CordsNet;
use num_complex::Complex64;
use serde::{Deserialize, Serialize};

/// How many modes are computed, and how well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectrumOptions {
    /// Modes of largest real part; one more comes where the last is half of a complex pair.
    pub modes: usize,
    /// Modes of largest magnitude; one more likewise.
    pub by_magnitude: usize,
    /// Whether the eigenvectors of the modes of largest real part are kept.
    pub vectors: bool,
    /// Dimension of the Krylov subspace.
    pub subspace: usize,
    /// Restarts after which the method gives up.
    pub max_restarts: usize,
    /// Residual relative to the largest coupling eigenvalue seen.
    pub tolerance: f64,
    /// Seed of the starting vector.
    pub seed: u64,
}

impl Default for SpectrumOptions {
    fn default() -> Self {
        let KrylovOptions {
            count,
            subspace,
            max_restarts,
            tolerance,
            seed,
            ..
        } = KrylovOptions::default();
        Self {
            modes: count,
            by_magnitude: 0,
            vectors: false,
            subspace,
            max_restarts,
            tolerance,
            seed,
        }
    }
}

/// One eigenvalue of the Jacobian J = (-I + D W) / tau of an area, or of areas that drive each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mode {
    /// Real part in 1/ms.
    pub real_per_ms: f64,
    /// Imaginary part in 1/ms.
    pub imaginary_per_ms: f64,
    /// |J v - lambda v| with |v| = 1, computed from the eigenvector, in 1/ms; 0 for units without coupling.
    pub residual_per_ms: f64,
    /// -1 / real part in ms: the time in which the mode decays to 1/e. None where it does not decay.
    pub time_constant_ms: Option<f64>,
    /// |imaginary part| / 2 pi in Hz.
    pub frequency_hz: f64,
    /// |1 + dt lambda|: the factor per Euler step; below 1 the simulated mode decays too.
    pub euler_factor: f64,
    /// Participation ratio (sum |v|^2)^2 / sum |v|^4 of the eigenvector, as a share of the units: about the part of
    /// them in which the mode lives. None for units without coupling.
    pub participation: Option<f64>,
}

impl Mode {
    pub(crate) fn new(real_per_ms: f64, imaginary_per_ms: f64, residual_per_ms: f64, dt_ms: f64) -> Self {
        // Eigenvalues of a real operator are real or come in pairs: an imaginary part that is smaller than the error is
        // 0.
        let imaginary_per_ms = if imaginary_per_ms.abs() <= residual_per_ms {
            0.0
        } else {
            imaginary_per_ms
        };
        Self {
            real_per_ms,
            imaginary_per_ms,
            residual_per_ms,
            time_constant_ms: (real_per_ms < 0.0).then(|| -1.0 / real_per_ms),
            frequency_hz: imaginary_per_ms.abs() / std::f64::consts::TAU * 1000.0,
            euler_factor: (1.0 + dt_ms * real_per_ms).hypot(dt_ms * imaginary_per_ms),
            participation: None,
        }
    }

    /// Of the eigenvector (`re`, `im`) over all units.
    pub(crate) fn with_participation(mut self, re: &[f64], im: &[f64]) -> Self {
        let squares = || re.iter().zip(im).map(|(re, im)| re * re + im * im);
        let sum: f64 = squares().sum();
        let fourth: f64 = squares().map(|square| square * square).sum();
        self.participation = (fourth > 0.0).then(|| sum * sum / fourth / re.len() as f64);
        self
    }

    /// Magnitude |lambda| in 1/ms.
    pub fn magnitude_per_ms(&self) -> f64 {
        self.real_per_ms.hypot(self.imaginary_per_ms)
    }
}

/// The unit eigenvector of a mode.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeVector {
    /// Rank of the mode by real part.
    pub rank: usize,
    /// Real part, `[channels, side, side]`.
    pub re: Vec<f32>,
    /// Imaginary part, `[channels, side, side]`.
    pub im: Vec<f32>,
}

/// What a steady state is, by the modes that were computed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stability {
    /// All modes decay, the slowest without turning.
    StableNode,
    /// All modes decay, the slowest while turning.
    StableFocus,
    /// The slowest modes neither grow nor decay to speak of: |Re lambda| tau < 0.02.
    Marginal,
    /// Some modes grow and others decay.
    Saddle,
    /// All modes that were computed grow; the others were not computed.
    SaddleOrUnstable,
    /// All modes of the spectrum grow.
    Unstable,
}

/// |Re lambda| tau below which a mode is marginal.
const MARGINAL: f64 = 0.02;

/// The leading modes of one area.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// Slowest (largest real part) first; of a complex pair the positive imaginary part first.
    pub modes: Vec<Mode>,
    /// Largest magnitude first; as many as were asked for.
    pub by_magnitude: Vec<Mode>,
    /// Eigenvectors of the `modes`, where they were asked for; none of units without coupling, whose eigenvalue has so
    /// many.
    pub vectors: Vec<ModeVector>,
    /// Whether all modes, those by magnitude and the largest Euler factor reached the tolerance.
    pub converged: bool,
    /// Whether the slowest mode decays: the steady state is stable in continuous time. None where `converged` is false.
    pub stable: Option<bool>,
    /// Largest |1 + dt lambda| over the whole spectrum, not over `modes` alone.
    pub euler_radius: f64,
    /// Whether that factor is no positive number, so that the simulated mode turns.
    pub euler_turns: bool,
    /// Whether the steady state is stable under the simulated Euler steps: `euler_radius` below 1. None where
    /// `converged` is false.
    pub euler_stable: Option<bool>,
    /// Units of the area.
    pub units: usize,
    /// Units whose derivative phi'(u) is not 0; each of the others has the mode -1/tau to itself. All units where they
    /// differ in their time constants.
    pub coupled_units: usize,
    /// Time constant of the units in ms, by which modes are called marginal; of several the largest, so that what decays
    /// as slowly as its unit (adaptation, for one) is not called so.
    pub tau_ms: f64,
    /// Products with the recurrent convolution, for all of it together.
    pub products: usize,
}

impl Spectrum {
    /// Modes that grow, and modes that are marginal: as many as were computed, or all of them.
    pub fn growing_and_marginal(&self) -> (usize, usize) {
        let rates = || self.modes.iter().map(|mode| mode.real_per_ms * self.tau_ms);
        let growing = rates().filter(|rate| *rate >= MARGINAL).count();
        (growing, rates().filter(|rate| rate.abs() < MARGINAL).count())
    }

    /// What the steady state is. None where the modes did not converge or there are none.
    pub fn stability(&self) -> Option<Stability> {
        let found = || stability_of(&self.rates(), self.units);
        self.converged.then(found).flatten()
    }

    /// What it is under the simulated Euler steps, (|1 + dt lambda| - 1) / alpha in place of Re lambda tau.
    pub fn euler_stability(&self, dt_ms: f64) -> Option<Stability> {
        let found = || stability_of(&self.euler_rates(dt_ms), self.units);
        self.converged.then(found).flatten()
    }

    /// Re lambda tau of the modes, and whether they turn.
    pub(super) fn rates(&self) -> Vec<(f64, bool)> {
        let rate = |mode: &Mode| (mode.real_per_ms * self.tau_ms, mode.imaginary_per_ms != 0.0);
        self.modes.iter().map(rate).collect()
    }

    /// (|1 + dt lambda| - 1) / alpha of the modes and of the one for which it is largest, largest first.
    pub(super) fn euler_rates(&self, dt_ms: f64) -> Vec<(f64, bool)> {
        let alpha = dt_ms / self.tau_ms;
        let rate = |factor: f64| (factor - 1.0) / alpha;
        let mut rates: Vec<(f64, bool)> = self
            .modes
            .iter()
            .map(|mode| {
                (
                    rate(mode.euler_factor),
                    mode.imaginary_per_ms != 0.0 || mode.real_per_ms * dt_ms < -1.0,
                )
            })
            .collect();
        rates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let largest = rate(self.euler_radius);
        // It was found by itself, to its own rounding.
        let is_among_them = rates.first().is_some_and(|(found, _)| largest - found < 1e-6);
        if !is_among_them && !rates.is_empty() {
            rates.insert(0, (largest, self.euler_turns));
        }
        rates
    }
}

/// What a steady state is by its slowest modes, slowest first: (Re lambda tau, whether it turns), of so many modes in
/// all.
pub(super) fn stability_of(modes: &[(f64, bool)], units: usize) -> Option<Stability> {
    let turns = modes.first()?.1;
    let growing = modes.iter().filter(|(rate, _)| *rate >= MARGINAL).count();
    let marginal = modes.iter().any(|(rate, _)| rate.abs() < MARGINAL);
    Some(match (growing, marginal) {
        (growing, _) if growing == units => Stability::Unstable,
        (growing, _) if growing == modes.len() => Stability::SaddleOrUnstable,
        (1.., _) => Stability::Saddle,
        (0, true) => Stability::Marginal,
        (0, false) if turns => Stability::StableFocus,
        (0, false) => Stability::StableNode,
    })
}

/// The leading eigenvalues of an area's recurrent convolution W itself, with residuals |W v - kappa v|: as many of
/// largest magnitude, and as many of largest real part.
pub fn recurrent_spectrum(net: &CordsNet<f64>, area: usize, options: &SpectrumOptions) -> [LeadingEigenvalues; 2] {
    let everywhere = vec![1.0; net.area_shape(area).iter().product()];
    let jacobian = AreaJacobian::with_derivative(net, area, everywhere);
    let wanted = [Which::FarthestFrom(0.0), Which::LargestReal].map(|which| (which, options.modes));
    leading_eigenvalues_by(&jacobian.coupling(), wanted, &options.krylov(), &mut |_, _| {})
}

impl SpectrumOptions {
    fn krylov(&self) -> KrylovOptions {
        KrylovOptions {
            subspace: self.subspace,
            max_restarts: self.max_restarts,
            tolerance: self.tolerance,
            seed: self.seed,
            ..KrylovOptions::default()
        }
    }
}

/// The leading modes of an area, `dt_ms` being the Euler step. `progress` is called with (restart, modes found).
///
/// Only the units that are coupled enter the iteration. Where their number does not exceed the dimension of the Krylov
/// subspace, the iteration is a dense computation.
pub fn area_spectrum(
    jacobian: &AreaJacobian<'_>,
    dt_ms: f64,
    options: &SpectrumOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Spectrum {
    let coupling = jacobian.coupling();
    let (units, coupled_units) = (jacobian.dim(), coupling.dim());
    let tau = jacobian.tau_ms();
    let alpha = dt_ms / tau;
    // lambda = (kappa - 1) / tau, and 1 + dt lambda = 1 - alpha + alpha kappa = alpha (kappa - (alpha - 1) / alpha).
    let wanted = [
        (Which::LargestReal, options.modes),
        (Which::FarthestFrom((alpha - 1.0) / alpha), 1),
        (Which::FarthestFrom(1.0), options.by_magnitude),
    ];
    let [leading, farthest, largest] = leading_eigenvalues_by(&coupling, wanted, &options.krylov(), progress);

    let uncoupled = Mode::new(-1.0 / tau, 0.0, 0.0, dt_ms);
    let uncoupled_units = units - coupled_units;
    // With the modes of uncoupled units among them, as many as are wanted, and the vectors of coupled ones where they
    // are.
    let merged = |pairs: &[Eigenpair], count: usize, rank: &dyn Fn(&Mode) -> f64| {
        let mut modes: Vec<(Mode, Option<FullVector>)> = pairs
            .iter()
            .map(|pair| {
                let (mode, vector) = coupled_mode(jacobian, &coupling, pair, dt_ms);
                (mode, options.vectors.then_some(vector))
            })
            .collect();
        let at = modes.iter().position(|(mode, _)| rank(mode) < rank(&uncoupled));
        let at = at.unwrap_or(modes.len());
        let others = std::iter::repeat_with(|| (uncoupled, None)).take(uncoupled_units.min(count));
        modes.splice(at..at, others);
        let cut = count.min(modes.len());
        // A complex pair is not cut in two.
        let splits_pair = cut > 0 && cut < modes.len() && modes[cut - 1].0.imaginary_per_ms > 0.0;
        modes.truncate(cut + usize::from(splits_pair));
        modes
    };
    let slowest = merged(&leading.pairs, options.modes, &|mode| mode.real_per_ms);
    let by_magnitude = merged(&largest.pairs, options.by_magnitude, &Mode::magnitude_per_ms);
    let modes: Vec<Mode> = slowest.iter().map(|(mode, _)| *mode).collect();
    let vectors = slowest.into_iter().enumerate().filter_map(|(rank, (_, vector))| {
        let [re, im] = vector?.map(|part| part.into_iter().map(|value| value as f32).collect());
        Some(ModeVector { rank, re, im })
    });

    // With the error that is made of an eigenvalue: an imaginary part below it is 0.
    let of_coupled = farthest
        .pairs
        .first()
        .map(|pair| (1.0 - alpha + alpha * pair.value, alpha * pair.residual));
    let of_uncoupled = (uncoupled_units > 0).then(|| ((1.0 - alpha).into(), 0.0));
    let factors = of_coupled.into_iter().chain(of_uncoupled);
    let (largest_factor, error): (Complex64, f64) = factors
        .max_by(|a, b| a.0.norm().total_cmp(&b.0.norm()))
        .unwrap_or_default();
    let found = leading.converged && farthest.converged && largest.converged;
    let euler_radius = largest_factor.norm();
    Spectrum {
        converged: found,
        stable: found.then(|| modes.iter().all(|mode| mode.real_per_ms < 0.0)),
        euler_radius,
        euler_turns: largest_factor.im.abs() > error || largest_factor.re < 0.0,
        euler_stable: found.then_some(euler_radius < 1.0),
        by_magnitude: by_magnitude.into_iter().map(|(mode, _)| mode).collect(),
        vectors: vectors.collect(),
        modes,
        units,
        coupled_units,
        tau_ms: jacobian.largest_tau_ms(),
        products: leading.products,
    }
}

/// Real and imaginary part of an eigenvector over all units.
type FullVector = [Vec<f64>; 2];

/// A mode of the coupled units, with the residual of the whole area's Jacobian.
fn coupled_mode(
    jacobian: &AreaJacobian<'_>,
    coupling: &ActiveCoupling<'_>,
    pair: &Eigenpair,
    dt_ms: f64,
) -> (Mode, FullVector) {
    let tau = jacobian.tau_ms();
    let (real, imaginary) = ((pair.value.re - 1.0) / tau, pair.value.im / tau);
    let (re, im) = (coupling.scatter(&pair.vector_re), coupling.scatter(&pair.vector_im));
    let [mut out_re, mut out_im] = [&re, &im].map(|x| {
        let mut out = vec![0.0; x.len()];
        jacobian.apply(x, &mut out);
        out
    });
    for i in 0..re.len() {
        out_re[i] -= real * re[i] - imaginary * im[i];
        out_im[i] -= real * im[i] + imaginary * re[i];
    }
    let mode = Mode::new(real, imaginary, norm(&out_re).hypot(norm(&out_im)), dt_ms).with_participation(&re, &im);
    (mode, [re, im])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_states_are_named_by_their_modes() {
        let spectrum = |modes: &[(f64, f64)], units: usize| Spectrum {
            modes: modes.iter().map(|(re, im)| Mode::new(*re, *im, 0.0, 2.0)).collect(),
            by_magnitude: Vec::new(),
            vectors: Vec::new(),
            converged: true,
            stable: None,
            euler_radius: 0.0,
            euler_turns: false,
            euler_stable: None,
            units,
            coupled_units: units,
            tau_ms: 10.0,
            products: 0,
        };
        let of = |modes: &[(f64, f64)]| spectrum(modes, 3).stability();
        assert_eq!(of(&[(-0.05, 0.0), (-0.1, 0.2)]), Some(Stability::StableNode));
        assert_eq!(of(&[(-0.05, 0.1), (-0.05, -0.1)]), Some(Stability::StableFocus));
        assert_eq!(of(&[(0.0019, 0.0), (-0.1, 0.0)]), Some(Stability::Marginal));
        assert_eq!(of(&[(0.0021, 0.0), (-0.1, 0.0)]), Some(Stability::Saddle));
        assert_eq!(of(&[(0.2, 0.0), (0.1, 0.0), (0.1, 0.0)]), Some(Stability::Unstable));
        // Two of three computed: the third is not known.
        assert_eq!(of(&[(0.2, 0.0), (0.1, 0.0)]), Some(Stability::SaddleOrUnstable));
        // Steps of dt = 2 ms: a mode of -1.1 / ms has the factor -1.2 a step, which no slow mode foretells.
        let overshoots = Spectrum {
            euler_radius: 1.2,
            euler_turns: true,
            ..spectrum(&[(-0.05, 0.0), (-0.1, 0.0)], 3)
        };
        assert_eq!(overshoots.stability(), Some(Stability::StableNode));
        assert_eq!(overshoots.euler_stability(2.0), Some(Stability::Saddle));
        let still = Spectrum {
            euler_radius: 0.9,
            ..spectrum(&[(-0.05, 0.0), (-0.1, 0.0)], 3)
        };
        assert_eq!(still.euler_stability(2.0), Some(Stability::StableNode));
        let turning = Spectrum {
            euler_radius: 0.98,
            euler_turns: true,
            ..still
        };
        assert_eq!(turning.euler_stability(2.0), Some(Stability::StableFocus));
        let unknown = Spectrum {
            converged: false,
            ..spectrum(&[(-0.1, 0.0)], 3)
        };
        assert_eq!(unknown.stability(), None);
        let found = spectrum(&[(0.1, 0.0), (0.001, 0.0), (-0.001, 0.0), (-0.1, 0.0)], 4);
        assert_eq!(found.growing_and_marginal(), (1, 2));
    }
}
