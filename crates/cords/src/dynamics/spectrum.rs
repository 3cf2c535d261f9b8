//! The leading modes of an area at a steady state, in time units.

use super::krylov::{KrylovOptions, LeadingEigenvalues, Which, leading_eigenvalues, norm};
use super::operator::{AreaJacobian, LinearOperator};
use serde::{Deserialize, Serialize};

/// How many modes are computed, and how well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectrumOptions {
    /// Modes of largest real part; one more comes where the last is half of a complex pair.
    pub modes: usize,
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
            subspace,
            max_restarts,
            tolerance,
            seed,
        }
    }
}

/// One eigenvalue of an area's Jacobian J = (-I + D W) / tau.
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
}

impl Mode {
    pub(crate) fn new(real_per_ms: f64, imaginary_per_ms: f64, residual_per_ms: f64, dt_ms: f64) -> Self {
        // Eigenvalues of a real operator are real or come in pairs: an imaginary part that is smaller than the error is 0.
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
        }
    }
}

/// The leading modes of one area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Slowest (largest real part) first; of a complex pair the positive imaginary part first.
    pub modes: Vec<Mode>,
    /// Whether all modes, and the largest Euler factor, reached the tolerance.
    pub converged: bool,
    /// Whether the slowest mode decays: the steady state is stable in continuous time. None where `converged` is false.
    pub stable: Option<bool>,
    /// Largest |1 + dt lambda| over the whole spectrum, not over `modes` alone.
    pub euler_radius: f64,
    /// Whether the steady state is stable under the simulated Euler steps: `euler_radius` below 1. None where `converged`
    /// is false.
    pub euler_stable: Option<bool>,
    /// Units of the area.
    pub units: usize,
    /// Units whose derivative phi'(u) is not 0; each of the others has the mode -1/tau to itself.
    pub coupled_units: usize,
    /// Products with the recurrent convolution.
    pub products: usize,
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
    let krylov = |count: usize, which: Which| KrylovOptions {
        count,
        which,
        subspace: options.subspace,
        max_restarts: options.max_restarts,
        tolerance: options.tolerance,
        seed: options.seed,
    };
    let leading = leading_eigenvalues(&coupling, &krylov(options.modes, Which::LargestReal), progress);
    // 1 + dt lambda = 1 - alpha + alpha kappa = alpha (kappa - (alpha - 1) / alpha).
    let farthest = krylov(1, Which::FarthestFrom((alpha - 1.0) / alpha));
    let farthest = leading_eigenvalues(&coupling, &farthest, progress);

    let mut modes = coupled_modes(jacobian, &leading, dt_ms);
    let uncoupled = Mode::new(-1.0 / tau, 0.0, 0.0, dt_ms);
    let uncoupled_units = units - coupled_units;
    let at = modes
        .iter()
        .position(|mode| mode.real_per_ms < uncoupled.real_per_ms)
        .unwrap_or(modes.len());
    modes.splice(
        at..at,
        std::iter::repeat_n(uncoupled, uncoupled_units.min(options.modes)),
    );
    let cut = options.modes.min(modes.len());
    // A complex pair is not cut in two.
    let splits_pair = cut > 0 && cut < modes.len() && modes[cut - 1].imaginary_per_ms > 0.0;
    modes.truncate(cut + usize::from(splits_pair));

    let coupled_radius = farthest
        .pairs
        .first()
        .map(|pair| (1.0 - alpha + alpha * pair.value).norm());
    let uncoupled_radius = (uncoupled_units > 0).then_some(uncoupled.euler_factor);
    let found = leading.converged && farthest.converged;
    let euler_radius = coupled_radius.into_iter().chain(uncoupled_radius).fold(0.0, f64::max);
    Spectrum {
        converged: found,
        stable: found.then(|| modes.iter().all(|mode| mode.real_per_ms < 0.0)),
        euler_radius,
        euler_stable: found.then_some(euler_radius < 1.0),
        modes,
        units,
        coupled_units,
        products: leading.products + farthest.products,
    }
}

/// Modes of the coupled units, with residuals of the whole area's Jacobian.
fn coupled_modes(jacobian: &AreaJacobian<'_>, leading: &LeadingEigenvalues, dt_ms: f64) -> Vec<Mode> {
    let coupling = jacobian.coupling();
    let tau = jacobian.tau_ms();
    let apply = |x: &[f64]| {
        let mut out = vec![0.0; x.len()];
        jacobian.apply(x, &mut out);
        out
    };
    let mode = |pair: &super::Eigenpair| {
        let (real, imaginary) = ((pair.value.re - 1.0) / tau, pair.value.im / tau);
        let (re, im) = (coupling.scatter(&pair.vector_re), coupling.scatter(&pair.vector_im));
        let (mut out_re, mut out_im) = (apply(&re), apply(&im));
        for i in 0..re.len() {
            out_re[i] -= real * re[i] - imaginary * im[i];
            out_im[i] -= real * im[i] + imaginary * re[i];
        }
        Mode::new(real, imaginary, norm(&out_re).hypot(norm(&out_im)), dt_ms)
    };
    leading.pairs.iter().map(mode).collect()
}
