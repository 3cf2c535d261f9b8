//! Where activity goes in the long run: the attractors of a network under its own Euler steps, whatever steady states a
//! solver finds.
//!
//! The whole network is simulated from several initial conditions with its input held, and each component of it is
//! looked at.
//!
//! Where all areas come to rest, it must be a state that attracts: no mode of its linearisation grows, and activity
//! comes back from small noise. Otherwise the simulation goes on from that noise.
//!
//! Where they do not, limit cycles are looked for in the last third of the time (`recurrence`). Areas that rest in the
//! second half of it while others do not, or that came to rest late, are at a steady state if no mode is found to grow;
//! no noise is added there.

mod recurrence;

use std::cmp::Reverse;

use self::recurrence::Window;
use super::krylov::{distance, norm};
use super::operator::{AreaJacobian, Block, blocks, state_vector};
use super::solve::largest;
use super::spectrum::{SpectrumOptions, area_spectrum};
use super::steady::{SteadyState, same_within};
use crate::net::{CordsNet, Graph, Input, State};
use crate::rng::{Purpose, Stream};

/// From where, how long and how precisely attractors are searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttractorOptions {
    /// Number of initial conditions of the whole network: r = 0, the spontaneous state, a point of the trajectory,
    /// another image's activity, then perturbations of the steady state.
    pub initial_conditions: usize,
    /// Euler steps from each of them at most: two thirds to come to rest, one third in which cycles are looked for.
    pub steps: usize,
    /// Largest max |phi(u) - r| of activity at rest.
    pub tolerance: f64,
    /// Standard deviation of perturbations, as a share of the root mean square of an area's steady state; of a silent
    /// area as a share of the largest current that there is without activity.
    pub spread: f64,
    /// Distance, as a share of the steady state's norm, within which two steady states are one.
    pub same: f64,
    /// Seed of perturbations and of the iterations' first vectors.
    pub seed: u64,
}

impl Default for AttractorOptions {
    /// 8 initial conditions, 1,500 steps (of 2 ms: 3 s), tolerance 1e-6, spread 0.5, same 1e-3.
    fn default() -> Self {
        Self {
            initial_conditions: 8,
            steps: 1500,
            tolerance: 1e-6,
            spread: 0.5,
            same: 1e-3,
            seed: 0,
        }
    }
}

/// What activity does in the long run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttractorKind {
    /// It rests.
    SteadyState,
    /// It repeats itself.
    LimitCycle {
        /// Period in Euler steps; not a whole number where no state comes back exactly.
        period_steps: f64,
    },
    /// It is bounded and did neither in the time given: chaos, several incommensurate periods, a period of more than a
    /// fifth of the time in which cycles are looked for or of less than 6 steps and no whole number of them, a rest
    /// that a mode grows out of, or an approach that is slower than that time.
    Unsettled,
    /// It is no longer finite, or grew beyond 1e9 times the largest current that there is without activity (beyond 1e9
    /// where there is none); here or in an area that drives this one.
    Diverged,
}

/// An attractor of one component. Unsettled activity from all initial conditions counts as one, and so does activity
/// that diverged. Figures are of the first initial condition that led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attractor {
    /// What activity does there.
    pub kind: AttractorKind,
    /// Initial conditions that led to it. They are no sample of all that there are: the spontaneous state and the point
    /// of the trajectory from it, without an image r = 0 and that point, lie on one trajectory.
    pub reached: usize,
    /// Half of the range of the unit whose activity varies most, in the time in which cycles are looked for; 0 of a
    /// steady state. None where activity diverged.
    pub amplitude: Option<f64>,
    /// Euclidean norm of the mean activity over that time. None where activity diverged.
    pub norm: Option<f64>,
    /// Euclidean distance of the mean activity from that of the nearest other attractor at which activity is bounded.
    /// None where there is no such other, and where activity diverged.
    pub distance: Option<f64>,
    /// Whether it is the steady state that the solver found.
    pub is_found_state: bool,
    /// Whether all modes of the linearisation decay under Euler steps. None of what is no steady state, where an area
    /// that drives the component does not rest, and where the modes did not converge.
    pub euler_stable: Option<bool>,
}

/// The attractors of one component.
#[derive(Clone, Debug, PartialEq)]
pub struct Attractors {
    /// Number of initial conditions.
    pub tried: usize,
    /// Attractors, those first that most initial conditions led to.
    pub found: Vec<Attractor>,
}

impl Attractors {
    /// Whether initial conditions led to several steady states or limit cycles. Unsettled activity is none: it may be
    /// on its way to one of them. Nor is divergence.
    pub fn is_multistable(&self) -> bool {
        let is_one = |attractor: &&Attractor| {
            matches!(
                attractor.kind,
                AttractorKind::SteadyState | AttractorKind::LimitCycle { .. }
            )
        };
        self.found.iter().filter(is_one).count() > 1
    }

    /// Whether activity from an initial condition was unsettled at the end of the time.
    pub fn has_unsettled(&self) -> bool {
        let is_unsettled = |attractor: &Attractor| attractor.kind == AttractorKind::Unsettled;
        self.found.iter().any(is_unsettled)
    }
}

/// Size of activity, in largest currents without activity, at which it counts as diverged.
const BOUND: f64 = 1e9;
/// Steps between two looks at whether activity rests.
const STRIDE: usize = 25;
/// Noise that a steady state must return from: as a share of `same` times its root mean square, and at least so many
/// tolerances.
const NUDGE: f64 = 0.25;
const LEAST_NUDGE: f64 = 100.0;
/// |1 + dt lambda| - 1 above which a mode grows: e-fold in a million steps.
const GROWTH: f64 = 1e-6;
/// How far periods of one cycle may differ, and how far from a known cycle another orbit may pass, as a share of its
/// largest distance.
const SAME_PERIOD: f64 = 0.02;
const SAME_ORBIT: f64 = 0.05;

/// Activity, then hidden variables, of each area.
type Values = Vec<Vec<f64>>;

/// A state in which all areas rest.
struct Resting {
    values: Values,
    /// Of each component, whether all modes decay under Euler steps.
    euler_stable: Vec<Option<bool>>,
    /// Whether a mode grows.
    grows: bool,
    /// Whether activity came back to it from small noise.
    holds: bool,
}

/// What one simulation ended in, of one component; those that end there later are counted.
struct End {
    kind: AttractorKind,
    reached: usize,
    /// Mean activity.
    mean: Vec<f64>,
    amplitude: f64,
    /// Values of the component at a point of a cycle.
    point: Vec<f64>,
    /// Largest distance from it on the cycle.
    excursion: f64,
    euler_stable: Option<bool>,
}

impl End {
    fn of(kind: AttractorKind, mean: Vec<f64>) -> Self {
        Self {
            kind,
            reached: 1,
            mean,
            amplitude: 0.0,
            point: Vec::new(),
            excursion: 0.0,
            euler_stable: None,
        }
    }
}

/// Simulates the network from several initial conditions until it rests or the time is over, and tells the attractors
/// of each component, in the order of [`Graph::components`]. `given` are initial conditions after r = 0 and before the
/// perturbations of `steady`; `inp` is the image's embedding.
pub(super) fn attractors(
    net: &CordsNet<f64>,
    steady: &SteadyState,
    given: &[State<f64>],
    inp: &[f64],
    options: &AttractorOptions,
) -> Vec<Attractors> {
    let mut search = Search::new(net, inp, options);
    let zeros = net.zeros(1);
    let is_sound = |state: &&State<f64>| values(net, state).iter().all(|values| !search.is_lost(values));
    let centre = Some(&steady.state).filter(is_sound).unwrap_or(&zeros);
    let mut starts = vec![zeros.clone()];
    starts.extend(given.iter().filter(is_sound).cloned());
    starts.truncate(options.initial_conditions);
    for start in starts.len()..options.initial_conditions {
        let mut perturbed = centre.clone();
        search.perturb(&mut perturbed, options.spread, 0.0, (start, 4, 0));
        starts.push(perturbed);
    }
    for (start, state) in starts.into_iter().enumerate() {
        search.follow(start, state);
    }
    let components = net.architecture().components();
    let found = search.found.into_iter().zip(components);
    found
        .map(|(ends, areas)| {
            let reference: Vec<f64> = areas
                .iter()
                .flat_map(|area| &steady.state.areas[*area])
                .copied()
                .collect();
            let is_steady = areas.iter().all(|area| steady.areas[*area].converged);
            summary(ends, options, Some(&reference).filter(|_| is_steady))
        })
        .collect()
}

/// Figures of a component's attractors; `reference` is the steady state that the solver found.
fn summary(mut ends: Vec<End>, options: &AttractorOptions, reference: Option<&Vec<f64>>) -> Attractors {
    ends.sort_by_key(|end| Reverse(end.reached));
    let bounded = |end: &&End| end.kind != AttractorKind::Diverged;
    let attractor = |(place, end): (usize, &End)| {
        let others = ends.iter().enumerate().filter(|(other, _)| *other != place);
        let distances = others
            .map(|(_, other)| other)
            .filter(bounded)
            .map(|other| distance(&other.mean, &end.mean));
        let here = Some(end).filter(bounded);
        let is_here = |reference: &Vec<f64>| distance(reference, &end.mean) <= nearby(reference, options);
        Attractor {
            kind: end.kind,
            reached: end.reached,
            amplitude: here.map(|end| end.amplitude),
            norm: here.map(|end| norm(&end.mean)),
            distance: here.and(distances.reduce(f64::min)),
            is_found_state: end.kind == AttractorKind::SteadyState && reference.is_some_and(is_here),
            euler_stable: end.euler_stable,
        }
    };
    Attractors {
        tried: options.initial_conditions,
        found: ends.iter().enumerate().map(attractor).collect(),
    }
}

/// Distance from a steady state within which another is the same.
fn nearby(state: &[f64], options: &AttractorOptions) -> f64 {
    same_within(state, options.same, options.tolerance)
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn values(net: &CordsNet<f64>, state: &State<f64>) -> Values {
    (0..state.areas.len())
        .map(|area| state_vector(net, &[area], state))
        .collect()
}

/// Of each component, its areas and all that drive them.
fn upstream(graph: &Graph) -> Vec<Vec<usize>> {
    let mut of_areas: Vec<Vec<usize>> = vec![Vec::new(); graph.areas()];
    let components = graph.components().iter().map(|areas| {
        let sources = areas.iter().flat_map(|area| graph.inlets(*area));
        let sources = sources.flat_map(|inlet| &inlet.areas).map(|(from, _)| *from);
        // Components come after those that drive them.
        let mut all: Vec<usize> = sources.flat_map(|from| of_areas[from].clone()).collect();
        all.extend(areas);
        all.sort_unstable();
        all.dedup();
        areas.iter().for_each(|area| of_areas[*area].clone_from(&all));
        all
    });
    components.collect()
}

struct Search<'a> {
    net: &'a CordsNet<f64>,
    inp: &'a [f64],
    options: &'a AttractorOptions,
    upstream: Vec<Vec<usize>>,
    /// dt/tau of every value.
    alphas: Values,
    /// The largest current without activity; 1 where there is none, as then no size is special.
    scale: f64,
    resting: Vec<Resting>,
    /// Of each component.
    found: Vec<Vec<End>>,
}

impl<'a> Search<'a> {
    fn new(net: &'a CordsNet<f64>, inp: &'a [f64], options: &'a AttractorOptions) -> Self {
        let graph = net.architecture();
        let silent = net.zeros(1);
        let current = |area: usize| {
            let drive = net.drive(area, &silent, inp);
            let current: Vec<f64> = drive
                .iter()
                .zip(net.bias(area))
                .map(|(drive, bias)| drive + bias)
                .collect();
            largest(&current)
        };
        let scale = (0..graph.areas()).map(current).fold(0.0, f64::max);
        let alphas = |area: usize| -> Vec<f64> {
            let blocks = blocks(net, &[area]);
            blocks.iter().flat_map(Block::unit_alphas).collect()
        };
        Self {
            net,
            inp,
            options,
            upstream: upstream(graph),
            alphas: (0..graph.areas()).map(alphas).collect(),
            scale: if scale > 0.0 { scale } else { 1.0 },
            resting: Vec::new(),
            found: graph.components().iter().map(|_| Vec::new()).collect(),
        }
    }

    fn components(&self) -> &'a [Vec<usize>] {
        self.net.architecture().components()
    }

    fn is_lost(&self, values: &[f64]) -> bool {
        let size = largest(values);
        size.is_nan() || size > BOUND * self.scale
    }

    /// Adds noise to all activity whose standard deviation is a share of an area's root mean square, and at least so
    /// much; under ReLU activity below 0 is reflected. The draws are named by initial condition, purpose and repetition.
    fn perturb(&self, state: &mut State<f64>, share: f64, least: f64, (start, purpose, repetition): (usize, u32, u32)) {
        let is_rectified = self.net.phi().slope() == 0.0;
        for (area, activity) in state.areas.iter_mut().enumerate() {
            let size = norm(activity) / (activity.len() as f64).sqrt();
            let size = if size > self.options.tolerance {
                size
            } else {
                self.scale
            };
            let deviation = (share * size).max(least);
            let (seed, area) = (self.options.seed, area as u32);
            let mut stream = Stream::new(seed, Purpose::Probe, start as u64, purpose, repetition, area);
            for r in activity {
                *r += deviation * stream.normal();
                if is_rectified {
                    *r = r.abs();
                }
            }
        }
    }

    /// max |phi(u) - r| of an area between two states that are a step apart, infinite where one is not finite. Hidden
    /// variables count as well.
    fn residual(&self, area: usize, before: &[f64], after: &[f64]) -> f64 {
        let changes = difference(after, before);
        let residuals: Vec<f64> = changes
            .iter()
            .zip(&self.alphas[area])
            .map(|(change, alpha)| change / alpha)
            .collect();
        let residual = largest(&residuals);
        if residual.is_nan() { f64::INFINITY } else { residual }
    }

    /// Runs some steps and tells whether all areas rest at their end.
    fn advance(&self, state: &mut State<f64>, steps: usize) -> bool {
        self.net.run(
            state,
            Input::Constant(self.inp),
            steps.saturating_sub(1),
            &mut |_, _| {},
        );
        let before = values(self.net, state);
        self.net.step(state, self.inp);
        let after = values(self.net, state);
        let areas = before.iter().zip(&after).enumerate();
        areas
            .map(|(area, (before, after))| self.residual(area, before, after))
            .all(|residual| residual <= self.options.tolerance)
    }

    /// Follows activity from one initial condition to its end, which is counted.
    fn follow(&mut self, start: usize, mut state: State<f64>) {
        let watched = self.options.steps / 3;
        let mut left = self.options.steps - watched;
        // The resting state at which activity was last perturbed, and how often in a row.
        let mut last: Option<(usize, u32)> = None;
        while left > 0 {
            let steps = left.min(STRIDE);
            left -= steps;
            let rests = self.advance(&mut state, steps);
            let lost = self.lost(&values(self.net, &state));
            if lost.iter().all(|lost| *lost) {
                for component in 0..lost.len() {
                    self.take(component, End::of(AttractorKind::Diverged, Vec::new()), &[]);
                }
                return;
            }
            if !rests {
                continue;
            }
            let place = self.resting_at(&state);
            let before = last
                .filter(|(before, _)| *before == place)
                .map_or(0, |(_, times)| times);
            let resting = &mut self.resting[place];
            resting.holds |= before > 0 && !resting.grows;
            if resting.holds {
                self.take_resting(place);
                return;
            }
            // Where a mode grows slowly, activity is given a larger push each time.
            let push = f64::from(before).exp2();
            let least = push * LEAST_NUDGE * self.options.tolerance;
            self.perturb(&mut state, push * NUDGE * self.options.same, least, (start, 5, before));
            last = Some((place, before + 1));
        }
        self.watch(state, watched);
    }

    /// Which components have diverged, or are driven by an area that has.
    fn lost(&self, values: &[Vec<f64>]) -> Vec<bool> {
        let lost: Vec<bool> = values.iter().map(|values| self.is_lost(values)).collect();
        let any = |areas: &Vec<usize>| areas.iter().any(|area| lost[*area]);
        self.upstream.iter().map(any).collect()
    }

    /// Number of the resting state that activity is at, which is a new one where it is at none that is known.
    fn resting_at(&mut self, state: &State<f64>) -> usize {
        let now = values(self.net, state);
        let is_here = |resting: &Resting| {
            let mut areas = resting.values.iter().zip(&now);
            areas.all(|(there, now)| distance(there, now) <= nearby(there, self.options))
        };
        if let Some(place) = self.resting.iter().position(is_here) {
            return place;
        }
        let stability: Vec<(Option<bool>, bool)> = self
            .components()
            .iter()
            .map(|areas| self.stability(areas, state))
            .collect();
        self.resting.push(Resting {
            values: now,
            euler_stable: stability.iter().map(|(euler_stable, _)| *euler_stable).collect(),
            grows: stability.iter().any(|(_, grows)| *grows),
            holds: false,
        });
        self.resting.len() - 1
    }

    /// Whether all modes of a component at rest decay under Euler steps, where they converged, and whether one grows.
    fn stability(&self, areas: &[usize], state: &State<f64>) -> (Option<bool>, bool) {
        let jacobian = AreaJacobian::of_component(self.net, areas, state, self.inp);
        let options = SpectrumOptions {
            modes: 1,
            seed: self.options.seed,
            ..SpectrumOptions::default()
        };
        let spectrum = area_spectrum(&jacobian, self.net.euler().dt_ms, &options, &mut |_, _| {});
        let grows = spectrum.converged && spectrum.euler_radius > 1.0 + GROWTH;
        (spectrum.euler_stable, grows)
    }

    /// Counts a resting state for every component.
    fn take_resting(&mut self, place: usize) {
        for (component, areas) in self.components().iter().enumerate() {
            let resting = &self.resting[place];
            let activity = areas.iter().flat_map(|area| {
                let units = self.net.architecture().area_units(*area);
                resting.values[*area].iter().take(units).copied()
            });
            let end = End {
                euler_stable: resting.euler_stable[component],
                ..End::of(AttractorKind::SteadyState, activity.collect())
            };
            self.take(component, end, &[]);
        }
    }

    /// Counts an end. `passes` are known ends of the component with the smallest distance that activity passed them at.
    fn take(&mut self, component: usize, end: End, passes: &[(usize, f64)]) {
        let options = self.options;
        let is_same = |(place, known): (usize, &End)| match (known.kind, end.kind) {
            (AttractorKind::SteadyState, AttractorKind::SteadyState) => {
                distance(&known.mean, &end.mean) <= nearby(&known.mean, options)
            }
            (AttractorKind::LimitCycle { period_steps: a }, AttractorKind::LimitCycle { period_steps: b }) => {
                let passed = passes.iter().find(|(passed, _)| *passed == place);
                let is_near = passed.is_some_and(|(_, distance)| *distance <= SAME_ORBIT * known.excursion);
                is_near && (a - b).abs() <= SAME_PERIOD * a
            }
            (AttractorKind::Unsettled, AttractorKind::Unsettled)
            | (AttractorKind::Diverged, AttractorKind::Diverged) => true,
            _ => false,
        };
        let known = self.found[component].iter().enumerate().position(is_same);
        match known {
            Some(known) => self.found[component][known].reached += 1,
            None => self.found[component].push(end),
        }
    }

    /// Looks for cycles in so many steps from a state, and counts what activity did.
    fn watch(&mut self, mut state: State<f64>, steps: usize) {
        let mut window = Window::new(self, &state, steps);
        self.net
            .run(&mut state, Input::Constant(self.inp), steps, &mut |_, view| {
                window.see(&view.state());
            });
        let lost = self.lost(&values(self.net, &state));
        let ends: Vec<(End, Vec<(usize, f64)>)> = (0..lost.len())
            .map(|component| {
                if lost[component] {
                    return (End::of(AttractorKind::Diverged, Vec::new()), Vec::new());
                }
                let end = window.end(component, &state);
                let passes = window.passes(component, &end);
                (end, passes)
            })
            .collect();
        for (component, (end, passes)) in ends.into_iter().enumerate() {
            self.take(component, end, &passes);
        }
    }
}
