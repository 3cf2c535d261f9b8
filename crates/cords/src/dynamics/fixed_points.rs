//! Everything about the steady states of many images, image by image side by side, keeping figures and not states.

use rayon::prelude::*;

use super::krylov::KrylovOptions;
use super::lyapunov::{Exponent, LyapunovOptions, exponents};
use super::network::NetworkJacobian;
use super::operator::{AreaJacobian, LinearOperator};
use super::response::{NoisySteps, Response, ResponseOptions};
use super::singular::{Leading, NonNormality, amplification, non_normality, numerical_abscissa, singular_values};
use super::spectrum::{Spectrum, SpectrumOptions, area_spectrum};
use super::starts::{Agreement, StartOptions, other_starts, return_distances};
use super::steady::{AreaSteadyState, SteadyOptions, SteadyState, blank, spontaneous_steady_state, steady_state};
use crate::net::{CordsNet, Input};

/// What is computed for every image. Nothing is computed that is not asked for.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FixedPointOptions {
    /// Steady states.
    pub steady: SteadyOptions,
    /// Spectra at them.
    pub spectrum: Option<SpectrumOptions>,
    /// Other starts of every area.
    pub starts: Option<StartOptions>,
    /// Steps without input after which the distance from the spontaneous state is taken.
    pub return_steps: Option<usize>,
    /// Sizes of the linearisation.
    pub sizes: Option<SizeOptions>,
    /// Response to small noise in the current of every unit.
    pub response: Option<NoiseOptions>,
    /// Lyapunov exponents along the trajectory from the spontaneous state.
    pub exponents: Option<LyapunovOptions>,
}

/// Which sizes are computed.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeOptions {
    /// Leading singular values.
    pub singular_values: usize,
    /// Numbers of Euler steps over which growth is computed.
    pub growth_steps: Vec<usize>,
    /// Random vectors that Frobenius norm and commutator are estimated from.
    pub probes: usize,
    /// Seed of starting vectors and probes.
    pub seed: u64,
}

/// Small noise, and the frequencies at which its response is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseOptions {
    /// How the response is computed.
    pub response: ResponseOptions,
    /// In Hz.
    pub frequencies_hz: Vec<f64>,
}

/// Sizes of an area's linearisation at a steady state.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Leading singular values of D W, dimensionless.
    pub singular_values: Leading,
    /// Largest eigenvalue of (J + J^T)/2, in 1/ms: above 0, some perturbations grow at first.
    pub abscissa_per_ms: f64,
    /// Of D W.
    pub non_normality: NonNormality,
    /// Numbers of Euler steps, and the largest factor by which a perturbation can have grown by then.
    pub growth: Vec<(usize, f64)>,
}

/// One area at the steady state of one image. Parts are missing where the area did not converge or they were not asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaFixedPoint {
    /// The steady state in figures.
    pub steady: AreaSteadyState,
    /// Its leading modes.
    pub spectrum: Option<Spectrum>,
    /// What other starts led to.
    pub starts: Option<Agreement>,
    /// Distance from the spontaneous state after the image, as a share of the steady state's; none without an image.
    pub return_distance: Option<f64>,
    /// Sizes of its linearisation.
    pub sizes: Option<Sizes>,
    /// Response to small noise in the currents of all areas, each unit's of standard deviation 1 in the sense of
    /// sqrt(2/alpha) sigma xi.
    pub response: Option<Response>,
    /// Lyapunov exponents along the trajectory.
    pub exponents: Option<Vec<Exponent>>,
}

/// The steady state of one image, or of no input, area by area.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedPoint {
    /// Per area.
    pub areas: Vec<AreaFixedPoint>,
}

/// Steady state and all that is asked for at it, without input (`image` not given) or for the embedding of one image, with the activity.
/// An image starts from the spontaneous state that goes with it.
pub fn fixed_point(
    net: &CordsNet<f64>,
    image: Option<(&[f64], &SteadyState)>,
    options: &FixedPointOptions,
) -> (SteadyState, FixedPoint) {
    let nothing = &mut |_, _| {};
    let (steady, inp) = match image {
        None => (spontaneous_steady_state(net, &options.steady, nothing), blank(net)),
        Some((inp, spontaneous)) => (
            steady_state(net, inp, spontaneous, &options.steady, nothing),
            inp.to_vec(),
        ),
    };
    let spontaneous = image.map_or(&steady.state, |(_, spontaneous)| &spontaneous.state);
    let starts = options
        .starts
        .filter(|_| steady.converged())
        .map(|starts| other_starts(net, &steady, spontaneous, &inp, &options.steady, &starts));
    let returns = options
        .return_steps
        .filter(|_| image.is_some() && steady.converged())
        .map(|steps| return_distances(net, &steady.state, spontaneous, steps));
    let responses = options
        .response
        .as_ref()
        .filter(|_| steady.converged())
        .map(|noise| responses(net, &steady, &inp, noise));
    let exponents = options
        .exponents
        .map(|lyapunov| exponents(net, spontaneous, Input::Constant(&inp), &lyapunov, &mut |_, _| {}));
    let area = |(area, figures): (usize, &AreaSteadyState)| {
        let dt_ms = net.euler().dt_ms;
        let asked = figures.converged && (options.spectrum.is_some() || options.sizes.is_some());
        let jacobian = asked.then(|| AreaJacobian::at(net, area, &steady.state, &inp));
        let spectrum = jacobian.as_ref().zip(options.spectrum);
        let sizes = jacobian.as_ref().zip(options.sizes.as_ref());
        AreaFixedPoint {
            steady: *figures,
            spectrum: spectrum.map(|(jacobian, options)| area_spectrum(jacobian, dt_ms, &options, &mut |_, _| {})),
            starts: starts.as_ref().map(|starts| starts[area]),
            return_distance: returns.as_ref().map(|returns| returns[area]),
            sizes: sizes.map(|(jacobian, options)| sizes_of(jacobian, dt_ms, options)),
            response: responses.as_ref().map(|responses| responses[area].clone()),
            exponents: exponents.as_ref().map(|exponents| exponents[area].clone()),
        }
    };
    let areas = steady.areas.iter().enumerate().map(area).collect();
    (steady, FixedPoint { areas })
}

fn sizes_of(jacobian: &AreaJacobian<'_>, dt_ms: f64, options: &SizeOptions) -> Sizes {
    let coupling = jacobian.coupling();
    let krylov = KrylovOptions {
        count: options.singular_values.max(1),
        tolerance: 1e-8,
        seed: options.seed,
        ..KrylovOptions::default()
    };
    let growth = amplification(jacobian, dt_ms, &options.growth_steps, &krylov, &mut |_, _| {});
    let factors = growth
        .iter()
        .map(|leading| leading.values.first().copied().unwrap_or(f64::NAN));
    Sizes {
        singular_values: singular_values(&coupling, &krylov, &mut |_, _| {}),
        abscissa_per_ms: numerical_abscissa(jacobian, &krylov)
            .values
            .first()
            .copied()
            .unwrap_or(f64::NAN),
        non_normality: non_normality(&coupling, options.probes, options.seed),
        growth: options.growth_steps.iter().copied().zip(factors).collect(),
    }
}

/// Per area, the response to noise in the currents of all areas.
fn responses(net: &CordsNet<f64>, steady: &SteadyState, inp: &[f64], options: &NoiseOptions) -> Vec<Response> {
    let jacobian = NetworkJacobian::at(net, &steady.state, inp);
    let euler = net.euler();
    let mut noise = vec![0.0; jacobian.dim()];
    for area in 0..jacobian.areas() {
        // alpha phi'(u) sqrt(2/alpha).
        let size = (2.0 * euler.alpha(area)).sqrt();
        for (noise, derivative) in noise[jacobian.range(area)].iter_mut().zip(jacobian.derivative(area)) {
            *noise = size * derivative;
        }
    }
    let system = NoisySteps::new(&jacobian, euler.dt_ms, noise);
    (0..jacobian.areas())
        .map(|area| {
            let leak = 1.0 - euler.alpha(area);
            let range = jacobian.range(area);
            system.response(range, leak, &options.frequencies_hz, &options.response, &mut |_, _| {})
        })
        .collect()
}

/// The spontaneous fixed point, then that of every image. `image(i, out)` writes normalised image i
/// (`[in_channels, side, side]`); `progress` is called with (fixed points done, fixed points in all).
pub fn fixed_points(
    net: &CordsNet<f64>,
    images: usize,
    image: &(dyn Fn(usize, &mut [f32]) + Sync),
    options: &FixedPointOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> (FixedPoint, Vec<FixedPoint>) {
    progress(0, images + 1);
    let (spontaneous_state, spontaneous) = fixed_point(net, None, options);
    progress(1, images + 1);
    let mut found = Vec::with_capacity(images);
    let indices: Vec<usize> = (0..images).collect();
    // Rounds serve the progress report alone: images are independent.
    for round in indices.chunks(2 * rayon::current_num_threads()) {
        found.par_extend(round.par_iter().with_max_len(1).map(|&i| {
            let mut pixels = vec![0.0f32; net.architecture().image_len()];
            image(i, &mut pixels);
            let pixels: Vec<f64> = pixels.into_iter().map(f64::from).collect();
            let inp = net.embed(&pixels, 1);
            fixed_point(net, Some((&inp, &spontaneous_state)), options).1
        }));
        progress(1 + found.len(), images + 1);
    }
    (spontaneous, found)
}
