//! Everything about the steady states of many images, image by image side by side, keeping figures and not states.

use rayon::prelude::*;

use super::attractors::{AttractorOptions, Attractors, attractors};
use super::initial_conditions::{InitialConditionOptions, MonoStability, from_initial_conditions, return_distances};
use super::krylov::KrylovOptions;
use super::lyapunov::{Exponent, LyapunovOptions, exponents};
use super::network::NetworkJacobian;
use super::operator::{AreaJacobian, Coupling, LinearOperator};
use super::response::{NoisySteps, Response, ResponseOptions};
use super::singular::{
    DENSE_NETWORK_UNITS, DENSE_UNITS, DepartureFromNormality, Growth, Leading, departure_from_normality, growth,
    numerical_abscissa, singular_values, squared_eigenvalues, squared_norm,
};
use super::spectrum::{Spectrum, SpectrumOptions, area_spectrum};
use super::steady::{AreaSteadyState, SteadyOptions, SteadyState, blank, spontaneous_steady_state, steady_state};
use crate::data::DataError;
use crate::net::{CordsNet, Input, NeuralNoise, State, spread};
use crate::progress::Counter;

/// What is computed for every image. Nothing is computed that is not asked for.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FixedPointOptions {
    /// How steady states are found.
    pub steady: SteadyOptions,
    /// How spectra of the Jacobians at steady states are computed, if they are.
    pub spectrum: Option<SpectrumOptions>,
    /// Other initial conditions of every area.
    pub initial_conditions: Option<InitialConditionOptions>,
    /// Where activity goes in the long run.
    pub attractors: Option<AttractorOptions>,
    /// Steps without input after which the distance from the spontaneous state is taken.
    pub return_steps: Option<usize>,
    /// Non-normality of the linearisation.
    pub non_normality: Option<NonNormalityOptions>,
    /// Response to small noise in the current of every unit.
    pub response: Option<NoiseOptions>,
    /// Lyapunov exponents along the trajectory from the spontaneous state.
    pub exponents: Option<ExponentOptions>,
}

/// Along which trajectories exponents are computed.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentOptions {
    /// How exponents are computed.
    pub lyapunov: LyapunovOptions,
    /// Levels of neural noise ([`NeuralNoise`]) on the trajectory, the same for neighbouring ones; 0 is the trajectory
    /// without.
    pub noise: Vec<f64>,
}

/// What is computed of non-normality.
#[derive(Clone, Debug, PartialEq)]
pub struct NonNormalityOptions {
    /// Number of leading singular values of the coupling.
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
    /// Frequencies of the response in Hz.
    pub frequencies_hz: Vec<f64>,
    /// Leading modes of the fluctuations of the whole network; 0 for none.
    pub modes: usize,
}

/// A mode of a network's stationary fluctuations: an eigenvector of their covariance.
#[derive(Clone, Debug, PartialEq)]
pub struct FluctuationMode {
    /// Variance along the mode, for noise of standard deviation 1.
    pub variance: f64,
    /// |S v - variance v| of the unit vector v.
    pub residual: f64,
    /// Share of the mode that lies in each area; they sum to 1.
    pub shares: Vec<f64>,
    /// Whether all modes reached the tolerance.
    pub converged: bool,
}

/// Non-normality of the linearisation J = T^-1 (-I + K) of an area or of the whole network at a steady state, T the
/// time constants. Of an area K is D W over all its units; of the network it has the connections between areas too.
#[derive(Clone, Debug, PartialEq)]
pub struct NonNormality {
    /// Leading singular values of K, dimensionless.
    pub singular_values: Leading,
    /// Largest eigenvalue of (J + J^T)/2, in 1/ms: above 0, some perturbations grow at first. None where it did not
    /// converge.
    pub abscissa_per_ms: Option<f64>,
    /// Henrici's departure from normality of K, dimensionless.
    pub departure_from_normality: DepartureFromNormality,
    /// The largest factor by which a perturbation can have grown.
    pub growth: Vec<Growth>,
}

/// One area at the steady state of one image. Parts are missing where the area did not converge or they were not asked
/// for.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaFixedPoint {
    /// The first of the areas that this one drives and is driven by, at which their spectrum, non-normality, exponents
    /// and attractors stand: itself where nothing feeds back to it from other areas.
    pub component: usize,
    /// The steady state in figures.
    pub steady: AreaSteadyState,
    /// Leading modes of the area's Jacobian.
    pub spectrum: Option<Spectrum>,
    /// The steady states that other initial conditions led to.
    pub initial_conditions: Option<MonoStability>,
    /// Where activity goes in the long run, whether the area converged or not.
    pub attractors: Option<Attractors>,
    /// Distance from the spontaneous state after the image, as a share of the steady state's; none without an image.
    pub return_distance: Option<f64>,
    /// Non-normality of the area's linearisation.
    pub non_normality: Option<NonNormality>,
    /// Response to small noise in the currents of all areas, each unit's of standard deviation 1 in the sense of
    /// sqrt(2/alpha) sigma xi, under Euler steps.
    pub response: Option<Response>,
    /// Response to the same noise in continuous time, which Euler steps approach as they become small.
    pub continuous_response: Option<Response>,
    /// Lyapunov exponents along the trajectory, at each level of its noise.
    pub exponents: Option<Vec<Vec<Exponent>>>,
}

/// The steady state of one image, or of no input, area by area.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedPoint {
    /// The areas of the network, from 0.
    pub areas: Vec<AreaFixedPoint>,
    /// Non-normality of the whole network's linearisation: there are connections between areas, so perturbations can
    /// grow where no area alone lets them.
    pub non_normality: Option<NonNormality>,
    /// Leading modes of the whole network's fluctuations under Euler steps, largest variance first; empty where they
    /// were not asked for or the fluctuations do not settle.
    pub fluctuations: Vec<FluctuationMode>,
    /// Class that the network names at the steady state; none where it did not converge.
    pub answer: Option<usize>,
}

/// The fixed points of a network, without input and for images.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedPoints {
    /// Steady state without input.
    pub spontaneous: FixedPoint,
    /// Steady state of each image, in the order in which they were given.
    pub images: Vec<FixedPoint>,
    /// Activity of the images' steady states, `[image][area][unit]`, where it was to be kept.
    pub states: Vec<Vec<Vec<f32>>>,
}

/// Steady state and all that is asked for at it, without input (`image` not given) or for the embedding of one image,
/// with the activity. An image starts from the spontaneous state that goes with it. `elsewhere` are states that other
/// starts begin with. `done` is called [`FixedPointOptions::parts`] times for each area.
pub fn fixed_point(
    net: &CordsNet<f64>,
    image: Option<(&[f64], &SteadyState)>,
    elsewhere: &[State<f64>],
    options: &FixedPointOptions,
    done: &(dyn Fn() + Sync),
) -> (SteadyState, FixedPoint) {
    let settled = &mut |_, _| done();
    let (steady, inp) = match image {
        None => (spontaneous_steady_state(net, &options.steady, settled), blank(net)),
        Some((inp, spontaneous)) => (
            steady_state(net, inp, spontaneous, &options.steady, settled),
            inp.to_vec(),
        ),
    };
    let count = steady.areas.len();
    let components = net.architecture().components();
    let each_area = || (0..count).for_each(|_| done());
    let spontaneous = image.map_or(&steady.state, |(_, spontaneous)| &spontaneous.state);
    let converged = steady.converged();
    let initial_conditions = options.initial_conditions.filter(|_| converged);
    let given: Vec<State<f64>> = if initial_conditions.is_some() || options.attractors.is_some() {
        // From the spontaneous state, or without an image from r = 0.
        let mut on_the_way = image.map_or_else(|| net.zeros(1), |_| spontaneous.clone());
        let steps = options.steady.joint_steps / 2;
        net.run(&mut on_the_way, Input::Constant(&inp), steps, &mut |_, _| {});
        let states = [spontaneous, &on_the_way].into_iter().chain(elsewhere);
        states.cloned().collect()
    } else {
        Vec::new()
    };
    let initial_conditions = initial_conditions.map(|initial_conditions| {
        from_initial_conditions(net, &steady, &given, &inp, &options.steady, &initial_conditions)
    });
    let long_run = options
        .attractors
        .as_ref()
        .map(|options| attractors(net, &steady, &given, &inp, options));
    if long_run.is_some() {
        each_area();
    }
    let returns = options
        .return_steps
        .filter(|_| image.is_some() && converged)
        .map(|steps| return_distances(net, &steady.state, spontaneous, steps));
    if options.initial_conditions.is_some() {
        each_area();
    }
    let response = options.response.as_ref();
    let responses = response
        .filter(|_| converged)
        .map(|noise| responses(net, &steady, &inp, noise));
    if response.is_some() {
        each_area();
    }
    let exponents = options.exponents.as_ref().map(|exponents| {
        let levels = exponents.noise.iter();
        levels
            .map(|level| noisy_exponents(net, spontaneous, &inp, *level, &exponents.lyapunov))
            .collect::<Vec<_>>()
    });
    if exponents.is_some() {
        each_area();
    }
    let area = |(area, figures): (usize, &AreaSteadyState)| {
        let dt_ms = net.euler().dt_ms;
        let asked = figures.converged && (options.spectrum.is_some() || options.non_normality.is_some());
        // Of areas that drive each other at the first of them.
        let component = components.iter().find(|component| component.contains(&area));
        let component = component.map_or(&[][..], Vec::as_slice);
        let first = component.first().copied().unwrap_or(area);
        let jacobian =
            (asked && first == area).then(|| AreaJacobian::of_component(net, component, &steady.state, &inp));
        let spectrum = jacobian.as_ref().zip(options.spectrum);
        let non_normality = jacobian.as_ref().zip(options.non_normality.as_ref());
        let non_normality = non_normality.map(|(jacobian, options)| {
            let is_small = jacobian.dim() <= DENSE_UNITS;
            let tau_ms = jacobian.unit_tau_ms();
            // Of units with one time constant it has fewer rows.
            let squares = || {
                if jacobian.is_uniform() {
                    squared_eigenvalues(&jacobian.coupling())
                } else {
                    squared_eigenvalues(&Coupling::of(jacobian, tau_ms.clone()))
                }
            };
            let eigenvalues = is_small.then(squares).flatten();
            (
                non_normality_of(jacobian, tau_ms, dt_ms, eigenvalues, options),
                eigenvalues,
            )
        });
        let found = AreaFixedPoint {
            component: first,
            steady: *figures,
            spectrum: spectrum.map(|(jacobian, options)| area_spectrum(jacobian, dt_ms, &options, &mut |_, _| {})),
            initial_conditions: initial_conditions
                .as_ref()
                .map(|initial_conditions| initial_conditions[area]),
            attractors: long_run.as_ref().and_then(|found| {
                let place = components.iter().position(|areas| areas.first() == Some(&area))?;
                found.get(place).cloned()
            }),
            return_distance: returns.as_ref().map(|returns| returns[area]),
            non_normality: non_normality.as_ref().map(|(non_normality, _)| non_normality.clone()),
            response: responses.as_ref().map(|found| found.euler[area].clone()),
            continuous_response: responses.as_ref().map(|found| found.continuous[area].clone()),
            exponents: exponents
                .as_ref()
                .map(|levels| levels.iter().map(|areas| areas[area].clone()).collect()),
        };
        if options.spectrum.is_some() || options.non_normality.is_some() {
            done();
        }
        (found, non_normality.and_then(|(_, eigenvalues)| eigenvalues))
    };
    let found: Vec<(AreaFixedPoint, Option<f64>)> = steady.areas.iter().enumerate().map(area).collect();
    let non_normality = options
        .non_normality
        .as_ref()
        .filter(|_| converged)
        .map(|non_normality| {
            let jacobian = NetworkJacobian::at(net, &steady.state, &inp);
            // Nothing feeds back from one component to another before it, so the eigenvalues of its coupling are those
            // of its components', whatever the time constants.
            let of_components = components.iter().map(|areas| found[areas[0]].1);
            let eigenvalues = of_components.sum::<Option<f64>>();
            let eigenvalues = eigenvalues.filter(|_| jacobian.dim() <= DENSE_NETWORK_UNITS);
            let tau_ms = jacobian.unit_tau_ms();
            non_normality_of(&jacobian, tau_ms, net.euler().dt_ms, eigenvalues, non_normality)
        });
    if options.non_normality.is_some() {
        each_area();
    }
    let areas = found.into_iter().map(|(area, _)| area).collect();
    let logits = net.logits(&steady.state);
    // Of equal logits the lower class comes first.
    let largest = (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    let point = FixedPoint {
        areas,
        non_normality,
        fluctuations: responses.map_or_else(Vec::new, |found| found.modes),
        answer: largest.filter(|_| converged),
    };
    (steady, point)
}

impl FixedPointOptions {
    /// Parts of the work at one area of one steady state that are reported when they are done.
    pub fn parts(&self) -> usize {
        let asked = [
            true,
            self.initial_conditions.is_some(),
            self.attractors.is_some(),
            self.response.is_some(),
            self.exponents.is_some(),
            self.spectrum.is_some() || self.non_normality.is_some(),
            // Those of the whole network.
            self.non_normality.is_some(),
        ];
        asked.into_iter().filter(|asked| *asked).count()
    }
}

/// Exponents of every area along the trajectory from the spontaneous state, with neural noise of a level.
fn noisy_exponents(
    net: &CordsNet<f64>,
    spontaneous: &State<f64>,
    inp: &[f64],
    level: f64,
    lyapunov: &LyapunovOptions,
) -> Vec<Vec<Exponent>> {
    let noise = NeuralNoise {
        seed: lyapunov.seed,
        trial: 0,
        images: vec![0],
        std: level,
        areas: (0..spontaneous.areas.len()).collect(),
    };
    let noise = Some(&noise).filter(|_| level > 0.0);
    exponents(net, spontaneous, Input::Constant(inp), noise, lyapunov, &mut |_, _| {})
}

/// Non-normality of a Jacobian whose units have these time constants. `eigenvalues` is the sum of |kappa|^2 over all
/// eigenvalues of K, where it is known.
fn non_normality_of(
    jacobian: &dyn LinearOperator,
    tau_ms: Vec<f64>,
    dt_ms: f64,
    eigenvalues: Option<f64>,
    options: &NonNormalityOptions,
) -> NonNormality {
    let scale_ms = tau_ms.iter().copied().fold(f64::INFINITY, f64::min);
    let coupling = Coupling::of(jacobian, tau_ms);
    let krylov = KrylovOptions {
        count: options.singular_values.max(1),
        tolerance: 1e-8,
        seed: options.seed,
        ..KrylovOptions::default()
    };
    let departure_from_normality = departure_from_normality(&coupling, options.probes, options.seed);
    let exact =
        eigenvalues.map(|eigenvalues| departure_from_normality.with_exact(squared_norm(&coupling), eigenvalues));
    NonNormality {
        singular_values: singular_values(&coupling, &krylov, &mut |_, _| {}),
        abscissa_per_ms: numerical_abscissa(jacobian, &krylov).largest(),
        departure_from_normality: exact.unwrap_or(departure_from_normality),
        growth: growth(
            jacobian,
            dt_ms,
            scale_ms,
            &options.growth_steps,
            &krylov,
            &mut |_, _| {},
        ),
    }
}

/// What noise in the currents of all areas leads to.
struct Responses {
    /// Per area, under Euler steps.
    euler: Vec<Response>,
    /// Per area, in continuous time.
    continuous: Vec<Response>,
    /// Leading modes of the fluctuations under Euler steps.
    modes: Vec<FluctuationMode>,
}

fn responses(net: &CordsNet<f64>, steady: &SteadyState, inp: &[f64], options: &NoiseOptions) -> Responses {
    let jacobian = NetworkJacobian::at(net, &steady.state, inp);
    let euler = net.euler();
    let mut noise = vec![0.0; jacobian.dim()];
    for area in 0..jacobian.areas() {
        // alpha phi'(u) sqrt(2/alpha).
        let units = noise[jacobian.range(area)].iter_mut().zip(jacobian.derivative(area));
        for ((noise, derivative), alpha) in units.zip(net.unit_alphas(area)) {
            *noise = (2.0 * alpha).sqrt() * derivative;
        }
    }
    let system = NoisySteps::new(&jacobian, euler.dt_ms, noise);
    let taus_ms = (0..jacobian.areas()).flat_map(|area| net.area_taus_ms(area));
    let scale_ms = taus_ms.fold(f64::INFINITY, f64::min);
    let frequencies = &options.frequencies_hz;
    let under_steps: Vec<Response> = (0..jacobian.areas())
        .map(|area| {
            let leaks: Vec<f64> = net.unit_alphas(area).iter().map(|alpha| 1.0 - alpha).collect();
            let range = jacobian.range(area);
            system.response(range, &leaks, frequencies, &options.response, &mut |_, _| {})
        })
        .collect();
    let continuous = (0..jacobian.areas())
        .map(|area| {
            let range = jacobian.range(area);
            let taus_ms: Vec<f64> = spread(&net.area_taus_ms(area), range.len()).collect();
            let times = (&taus_ms[..], scale_ms);
            system.continuous_response(range, times, frequencies, &options.response, &mut |_, _| {})
        })
        .collect();
    let steps = under_steps.iter().map(|response| response.steps).max().unwrap_or(0);
    let modes = if options.modes == 0 || under_steps.iter().any(|response| !response.converged) {
        Vec::new()
    } else {
        let modes = system.leading_modes(options.modes, steps, options.response.seed);
        let mode = |pair: &super::Eigenpair| FluctuationMode {
            variance: pair.value.re,
            residual: pair.residual,
            converged: modes.converged,
            shares: (0..jacobian.areas())
                .map(|area| pair.vector_re[jacobian.range(area)].iter().map(|v| v * v).sum())
                .collect(),
        };
        modes.pairs.iter().take(options.modes).map(mode).collect()
    };
    Responses {
        euler: under_steps,
        continuous,
        modes,
    }
}

/// Writes normalised image i (`[in_channels, side, side]`), from any thread.
pub type FillImage<'a> = dyn Fn(usize, &mut [f32]) -> Result<(), DataError> + Sync + 'a;

/// The spontaneous fixed point, then that of every image, with the states where they are to be kept. `progress` is
/// called with (parts done, parts in all), from any thread.
///
/// # Errors
/// That of `image`, of the first image of which there is one.
pub fn fixed_points(
    net: &CordsNet<f64>,
    images: usize,
    image: &FillImage<'_>,
    options: &FixedPointOptions,
    keep_states: bool,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<FixedPoints, DataError> {
    let total = (images + 1) * net.architecture().areas() * options.parts();
    let counter = Counter::new(total, progress);
    let done = || counter.add();
    let (spontaneous_state, spontaneous) = fixed_point(net, None, &[], options, &done);
    let embedded = |i: usize| -> Result<Vec<f64>, DataError> {
        let mut pixels = vec![0.0f32; net.architecture().image_len()];
        image(i, &mut pixels)?;
        let pixels: Vec<f64> = pixels.into_iter().map(f64::from).collect();
        Ok(net.embed(&pixels, 1))
    };
    let found: Vec<Result<_, DataError>> = (0..images)
        .into_par_iter()
        .with_max_len(1)
        .map(|i| {
            let inp = embedded(i)?;
            // What the next image's activity is after the joint steps.
            let begins_elsewhere = options.initial_conditions.is_some() || options.attractors.is_some();
            let other = (begins_elsewhere && images > 1).then(|| embedded((i + 1) % images));
            let elsewhere = other.transpose()?.map(|other| {
                let mut state = spontaneous_state.state.clone();
                let steps = options.steady.joint_steps;
                net.run(&mut state, Input::Constant(&other), steps, &mut |_, _| {});
                state
            });
            let image = Some((inp.as_slice(), &spontaneous_state));
            let (steady, point) = fixed_point(net, image, elsewhere.as_slice(), options, &done);
            let narrow = |area: &Vec<f64>| -> Vec<f32> { area.iter().map(|r| *r as f32).collect() };
            let states = if keep_states {
                steady.state.areas.iter().map(narrow).collect()
            } else {
                Vec::new()
            };
            Ok((point, states))
        })
        .collect();
    let found: Vec<_> = found.into_iter().collect::<Result<_, _>>()?;
    let (images, states) = found.into_iter().unzip();
    Ok(FixedPoints {
        spontaneous,
        images,
        states,
    })
}
