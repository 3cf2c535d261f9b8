//! Whether a steady state is the only one: areas settled again from other initial conditions, and the return after the
//! image.

use super::krylov::{distance, norm};
use super::solve::{Component, Relaxation};
use super::steady::{SteadyOptions, SteadyState, same_within};
use crate::net::{CordsNet, Input, State};
use crate::rng::{Purpose, Stream};

/// Other initial conditions for every area.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InitialConditionOptions {
    /// Number of initial conditions: r = 0, the spontaneous state, a point of the trajectory, another image's activity,
    /// then perturbations.
    pub count: usize,
    /// Standard deviation of the perturbations, as a share of the root mean square of the steady state.
    pub spread: f64,
    /// Distance, as a share of the steady state's norm, within which two states are one.
    pub tolerance: f64,
    /// Seed of the perturbations.
    pub seed: u64,
}

/// The steady states that other initial conditions of one area led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonoStability {
    /// Initial conditions that led to a steady state, of those tried.
    pub settled: usize,
    /// Number of initial conditions tried.
    pub tried: usize,
    /// Initial conditions that led to the steady state itself.
    pub agreeing: usize,
    /// Different steady states found, the one itself included.
    pub distinct: usize,
}

impl MonoStability {
    /// Whether every initial condition led to the same steady state. None where one did not settle. A steady state that
    /// Newton's method has found need not be stable.
    pub fn mono_stable(&self) -> Option<bool> {
        (self.settled == self.tried || self.distinct > 1).then_some(self.distinct == 1)
    }
}

/// Settles each area of a steady state again from other initial conditions, areas that drive each other together, the
/// drive being what it is: r = 0, the given states, then the steady state with noise of `spread` that keeps activity
/// non-negative. `inp` is the image's embedding.
pub(super) fn from_initial_conditions(
    net: &CordsNet<f64>,
    steady: &SteadyState,
    given: &[State<f64>],
    inp: &[f64],
    steady_options: &SteadyOptions,
    options: &InitialConditionOptions,
) -> Vec<MonoStability> {
    let mono_stability = |areas: &[usize]| {
        let of =
            |state: &State<f64>| -> Vec<f64> { areas.iter().flat_map(|area| &state.areas[*area]).copied().collect() };
        let state = &of(&steady.state);
        let settled = Component::at(net, areas, &steady.state, inp);
        let deviation = options.spread * norm(state) / (state.len() as f64).sqrt();
        let same = same_within(state, options.tolerance, steady_options.tolerance);
        let mut found: Vec<Vec<f64>> = vec![state.clone()];
        let mut mono_stability = MonoStability {
            settled: 0,
            tried: options.count,
            agreeing: 0,
            distinct: 1,
        };
        for start in 0..options.count {
            let mut activity = match (start, given.get(start.wrapping_sub(1))) {
                (0, _) => vec![0.0; state.len()],
                (_, Some(given)) => of(given),
                (_, None) => {
                    let mut stream = Stream::new(options.seed, Purpose::Probe, start as u64, 3, 0, areas[0] as u32);
                    state
                        .iter()
                        .map(|r| (r + deviation * stream.normal()).max(0.0))
                        .collect()
                }
            };
            let end = settled.settle(&mut activity, steady_options);
            // NaN is no steady state.
            if end.residual.is_nan() || end.residual > steady_options.tolerance {
                continue;
            }
            mono_stability.settled += 1;
            match found.iter().position(|other| distance(&activity, other) <= same) {
                Some(0) => mono_stability.agreeing += 1,
                Some(_) => {}
                None => found.push(activity),
            }
        }
        mono_stability.distinct = found.len();
        mono_stability
    };
    let mut found = vec![None; steady.state.areas.len()];
    for areas in net.architecture().components() {
        let of_component = mono_stability(areas);
        areas.iter().for_each(|area| found[*area] = Some(of_component));
    }
    found.into_iter().flatten().collect()
}

/// How far each area is from the spontaneous state so many steps after the image, as a share of how far the image's
/// steady state is; 0 where that is none.
pub(super) fn return_distances(
    net: &CordsNet<f64>,
    steady: &State<f64>,
    spontaneous: &State<f64>,
    steps: usize,
) -> Vec<f64> {
    let mut state = steady.clone();
    net.run(&mut state, Input::Blank, steps, &mut |_, _| {});
    let areas = 0..steady.areas.len();
    areas
        .map(|area| {
            let without_image = &spontaneous.areas[area];
            let before = distance(&steady.areas[area], without_image);
            if before > 0.0 {
                distance(&state.areas[area], without_image) / before
            } else {
                0.0
            }
        })
        .collect()
}
