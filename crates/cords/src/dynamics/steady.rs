//! Steady states: r with r = phi(W r + b + drive) in every area.
//!
//! The whole network is simulated for a while, so that the state follows the trajectory that the network would take;
//! then the areas are settled in order, each with its drive from areas that are settled already, and areas that drive
//! each other together. That costs one area's steps instead of all areas' and has the same steady states, since nothing
//! feeds back from one component of the network to another before it.

use super::krylov::{distance, norm};
use super::operator::ranges;
use super::solve::{Component, Relaxation, SteadyMethod, largest};
use crate::net::{CordsNet, Input, State, spread};
use serde::{Deserialize, Serialize};

/// How long is simulated, and when an area counts as settled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SteadyOptions {
    /// Steps of the whole network before areas are settled one by one.
    pub joint_steps: usize,
    /// Largest change max |phi(u) - r| at which an area counts as settled.
    pub tolerance: f64,
    /// Products with its recurrent convolution (steps, where it is simulated) after which an area is given up.
    pub max_steps: usize,
    /// How areas are settled after the joint steps.
    pub method: SteadyMethod,
}

impl Default for SteadyOptions {
    /// 100 joint steps (the published 200 ms), 1e-6, 20,000 products, by simulation.
    fn default() -> Self {
        Self {
            joint_steps: 100,
            tolerance: 1e-6,
            max_steps: 20_000,
            method: SteadyMethod::Simulation,
        }
    }
}

/// One area's steady state in figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AreaSteadyState {
    /// Whether the residual reached the tolerance, here and in all areas before: the steady state of an area whose
    /// input has not settled is none of the network.
    pub converged: bool,
    /// Whether activity of this area or of one before is no longer finite. The figures below say nothing then.
    pub diverged: bool,
    /// max |phi(u) - r| at the end, for the input from the areas before as it is then.
    pub residual: f64,
    /// |phi(u) - r| / |r|, Euclidean norms; none where r = 0.
    pub relative_residual: Option<f64>,
    /// |dr/dt| = |phi(u) - r| / tau in 1/ms.
    pub speed_per_ms: f64,
    /// Products with the area's recurrent convolution, after the joint steps.
    pub products: usize,
    /// |r|, the Euclidean norm.
    pub norm: f64,
    /// |r - spontaneous|; 0 for the spontaneous state itself.
    pub distance: f64,
    /// `distance` over |spontaneous|; none where that is 0.
    pub relative_distance: Option<f64>,
    /// Fraction of units whose activity exceeds the tolerance: activity of silent units decays and never quite ends.
    pub active_fraction: f64,
}

/// A steady state of one image (or of no input), with the figures of its areas.
#[derive(Clone, Debug)]
pub struct SteadyState {
    /// Activity of all areas, for a batch of one image.
    pub state: State<f64>,
    /// Residual, convergence and size of every area.
    pub areas: Vec<AreaSteadyState>,
}

impl SteadyState {
    /// Whether every area converged.
    pub fn converged(&self) -> bool {
        self.areas.iter().all(|area| area.converged)
    }
}

/// Brings one area to a steady state under a constant feed-forward drive (without bias), changing `activity` from where
/// it starts. Returns the residual max |phi(u) - r| at the returned activity, and the products with the recurrent
/// convolution that it took. Stops early where activity is no longer finite.
pub fn settle_area(
    net: &CordsNet<f64>,
    area: usize,
    drive: &[f64],
    activity: &mut [f64],
    options: &SteadyOptions,
) -> (f64, usize) {
    let settled = Component::new(net, &[area], drive.iter().copied()).settle(activity, options);
    (settled.residual, settled.products)
}

/// The steady state without input, from r = 0. `progress` is called with (areas settled, areas).
pub fn spontaneous_steady_state(
    net: &CordsNet<f64>,
    options: &SteadyOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> SteadyState {
    let inp = blank(net);
    let mut steady = settle(net, &inp, net.spontaneous(options.joint_steps), options, progress);
    steady.compare(None, options.tolerance);
    steady
}

/// The steady state of one image, given as its embedding `inp` (see [`CordsNet::embed`]), from the spontaneous one.
/// `progress` is called with (areas settled, areas).
pub fn steady_state(
    net: &CordsNet<f64>,
    inp: &[f64],
    spontaneous: &SteadyState,
    options: &SteadyOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> SteadyState {
    let mut state = spontaneous.state.clone();
    net.run(&mut state, Input::Constant(inp), options.joint_steps, &mut |_, _| {});
    let mut steady = settle(net, inp, state, options, progress);
    steady.compare(Some(&spontaneous.state), options.tolerance);
    steady
}

/// The embedding of no input.
pub(super) fn blank(net: &CordsNet<f64>) -> Vec<f64> {
    net.blank(1)
}

/// Distance per unit, in tolerances of a steady state, at which two of them are one in any case.
const REMNANT: f64 = 10.0;

/// Distance from a steady state within which another is the same: a share of its norm and some tolerances.
pub(super) fn same_within(state: &[f64], share: f64, tolerance: f64) -> f64 {
    // Activity that decays towards silence is given up at the tolerance of each unit.
    share * norm(state) + REMNANT * tolerance * (state.len() as f64).sqrt()
}

fn settle(
    net: &CordsNet<f64>,
    inp: &[f64],
    mut state: State<f64>,
    options: &SteadyOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> SteadyState {
    let count = state.areas.len();
    let mut found: Vec<Option<AreaSteadyState>> = vec![None; count];
    for component in net.architecture().components() {
        let system = Component::at(net, component, &state, inp);
        let mut activity: Vec<f64> = component.iter().flat_map(|area| &state.areas[*area]).copied().collect();
        let settled = system.settle(&mut activity, options);
        // Areas get input from all areas before, directly or through others.
        let before = || found.iter().flatten();
        let input_settled = before().all(|before| before.converged);
        let diverged = !norm(&activity).is_finite() || before().any(|before| before.diverged);
        let alphas: Vec<Vec<f64>> = component.iter().map(|area| net.area_alphas(*area)).collect();
        let is_one = component.len() == 1 && alphas.iter().all(|alphas| alphas.len() == 1);
        let g = (!is_one).then(|| system.residuals(&activity).0);
        for ((area, range), alphas) in ranges(net, component).into_iter().zip(&alphas) {
            state.areas[area].copy_from_slice(&activity[range.clone()]);
            let (variables, hidden) = net.hidden(area);
            for (variable, h) in variables.iter().zip(&mut state.hidden[hidden]) {
                h.iter_mut()
                    .zip(&state.areas[area])
                    .for_each(|(h, r)| *h = variable.gain * r);
            }
            let size = norm(&state.areas[area]);
            let (residual, change) = match &g {
                Some(g) => (largest(&g[range.clone()]), norm(&g[range.clone()])),
                None => (settled.residual, settled.size),
            };
            let step = match &g {
                Some(g) if alphas.len() > 1 => {
                    let units = spread(alphas, range.len()).zip(&g[range]);
                    norm(&units.map(|(alpha, g)| alpha * g).collect::<Vec<f64>>())
                }
                _ => change * alphas[0],
            };
            found[area] = Some(AreaSteadyState {
                converged: settled.residual <= options.tolerance && input_settled && !diverged,
                diverged,
                residual,
                relative_residual: (size > 0.0).then(|| change / size),
                speed_per_ms: step / net.euler().dt_ms,
                products: settled.products,
                norm: size,
                distance: 0.0,
                relative_distance: None,
                active_fraction: 0.0,
            });
        }
        progress(found.iter().flatten().count(), count);
    }
    SteadyState {
        state,
        areas: found.into_iter().flatten().collect(),
    }
}

impl SteadyState {
    /// Fills in the figures that compare with the spontaneous state; `None` is the spontaneous state itself.
    fn compare(&mut self, spontaneous: Option<&State<f64>>, tolerance: f64) {
        for (area, (figures, activity)) in self.areas.iter_mut().zip(&self.state.areas).enumerate() {
            figures.active_fraction =
                activity.iter().filter(|r| **r > tolerance).count() as f64 / activity.len() as f64;
            let reference = match spontaneous {
                Some(spontaneous) => &spontaneous.areas[area],
                None => activity,
            };
            figures.distance = distance(activity, reference);
            let size = norm(reference);
            figures.relative_distance = (size > 0.0).then(|| figures.distance / size);
        }
    }
}
