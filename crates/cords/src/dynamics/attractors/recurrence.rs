//! Whether a trajectory comes back to where it was.
//!
//! A stretch of it is compared with its first state. Activity is on a limit cycle if it crosses the plane through that
//! state, normal to its change there (a Poincaré section), at that state again and again, at equal intervals and to the
//! end of the stretch. Under Euler steps a limit cycle is a closed curve on which activity need not come back to any
//! state exactly (it is quasi-periodic there), so that a period is no whole number of steps: crossings are interpolated
//! between steps. Nothing lies between the steps of an oscillation from step to step and the like: below 6 steps only
//! orbits that come back exactly, after a whole number of steps, are cycles.
//!
//! Both are asked of a component together with all areas that drive it, since only these together have a future that
//! follows from their state. What decays to a steady state with a time constant of more than some 25 times the stretch
//! cannot be told from a cycle, nor can a cycle that varies by less than 2% from turn to turn.

use std::collections::VecDeque;

use super::super::krylov::{distance, norm};
use super::{AttractorKind, End, Search, Values, difference, values};
use crate::net::State;

/// Distance from the first state, as a share of the largest one, at which a crossing of the plane is a return. What
/// varies by less from period to period is not seen.
const RETURN: f64 = 0.02;
/// The same after a whole number of steps.
const EXACT: f64 = 1e-4;
/// Period in steps from which on there is something between steps.
const SMOOTH: f64 = 6.0;
/// Returns that make a cycle, and how far intervals between them may differ, as a share of their mean.
const RETURNS: usize = 5;
const INTERVALS: f64 = 0.05;

/// Where a trajectory crosses the plane through its first state: after how many steps, and how far from that state in
/// each area of a component and of what drives it.
struct Crossing {
    steps: f64,
    distances: Vec<f64>,
}

/// A point of a known cycle, and the squared distance from it after each step.
struct Known {
    component: usize,
    place: usize,
    squared: Vec<f64>,
}

/// A stretch of a trajectory, which is compared with its first state.
pub(super) struct Window<'a, 'b> {
    search: &'b Search<'a>,
    steps: usize,
    first: Values,
    /// The change in the first step.
    normal: Values,
    /// At most four states, the latest one last.
    latest: VecDeque<Values>,
    /// `[step][area]`: distance from the first state.
    distances: Vec<Vec<f64>>,
    /// `[step][component]`: height above the plane.
    heights: Vec<Vec<f64>>,
    /// Of each component.
    crossings: Vec<Vec<Crossing>>,
    /// Largest residual of each area in the second half.
    residuals: Vec<f64>,
    /// Range and sum of each area's activity.
    lowest: Values,
    highest: Values,
    sum: Values,
    known: Vec<Known>,
}

impl<'a, 'b> Window<'a, 'b> {
    pub(super) fn new(search: &'b Search<'a>, state: &State<f64>, steps: usize) -> Self {
        let first = values(search.net, state);
        let (areas, components) = (state.areas.len(), search.components().len());
        let cycles = search.found.iter().enumerate().flat_map(|(component, ends)| {
            let ends = ends.iter().enumerate().filter(|(_, end)| !end.point.is_empty());
            ends.map(move |(place, _)| Known {
                component,
                place,
                squared: Vec::new(),
            })
        });
        Self {
            search,
            steps,
            normal: Vec::new(),
            latest: VecDeque::from([first.clone()]),
            first,
            distances: vec![vec![0.0; areas]],
            heights: vec![vec![0.0; components]],
            crossings: (0..components).map(|_| Vec::new()).collect(),
            residuals: vec![0.0; areas],
            lowest: state.areas.clone(),
            highest: state.areas.clone(),
            sum: state.areas.clone(),
            known: cycles.collect(),
        }
    }

    /// The state after one more step.
    pub(super) fn see(&mut self, state: &State<f64>) {
        let now = values(self.search.net, state);
        let step = self.distances.len();
        if let Some(before) = self.latest.back().filter(|_| 2 * step > self.steps) {
            for (area, residual) in self.residuals.iter_mut().enumerate() {
                *residual = residual.max(self.search.residual(area, &before[area], &now[area]));
            }
        }
        for (area, activity) in state.areas.iter().enumerate() {
            let ranges = self.lowest[area].iter_mut().zip(&mut self.highest[area]);
            for (((lowest, highest), sum), r) in ranges.zip(&mut self.sum[area]).zip(activity) {
                *lowest = lowest.min(*r);
                *highest = highest.max(*r);
                *sum += r;
            }
        }
        let changes: Values = now
            .iter()
            .zip(&self.first)
            .map(|(now, first)| difference(now, first))
            .collect();
        if self.normal.is_empty() {
            self.normal.clone_from(&changes);
        }
        let of_areas: Vec<f64> = changes
            .iter()
            .zip(&self.normal)
            .map(|(change, normal)| change.iter().zip(normal).map(|(a, b)| a * b).sum())
            .collect();
        let upstream = self.search.upstream.iter();
        let heights = upstream.map(|areas| areas.iter().map(|area| of_areas[*area]).sum());
        self.heights.push(heights.collect());
        self.distances.push(changes.iter().map(|change| norm(change)).collect());
        for known in &mut self.known {
            let point = &self.search.found[known.component][known.place].point;
            let here: Vec<f64> = self.search.components()[known.component]
                .iter()
                .flat_map(|area| &now[*area])
                .copied()
                .collect();
            known.squared.push(distance(&here, point).powi(2));
        }
        self.latest.push_back(now);
        if self.latest.len() > 4 {
            self.latest.pop_front();
        }
        if step >= 3 {
            self.cross(step - 2);
        }
    }

    /// Notes which components crossed the plane upwards in the step after `step`, on the cubic through the latest four
    /// states.
    fn cross(&mut self, step: usize) {
        for (component, crossings) in self.crossings.iter_mut().enumerate() {
            let height = |step: usize| self.heights[step][component];
            let crosses = height(step) < 0.0 && height(step + 1) >= 0.0;
            if !crosses {
                continue;
            }
            let heights = [step - 1, step, step + 1, step + 2].map(height);
            let (mut below, mut above) = (0.0, 1.0);
            for _ in 0..50 {
                let middle = (below + above) / 2.0;
                let height: f64 = cubic(middle)
                    .iter()
                    .zip(heights)
                    .map(|(weight, height)| weight * height)
                    .sum();
                if height < 0.0 {
                    below = middle;
                } else {
                    above = middle;
                }
            }
            let weights = cubic(above);
            let distance = |area: &usize| {
                let mut from_first: Vec<f64> = self.first[*area].iter().map(|first| -first).collect();
                for (weight, state) in weights.iter().zip(&self.latest) {
                    let values = from_first.iter_mut().zip(&state[*area]);
                    values.for_each(|(sum, value)| *sum += weight * value);
                }
                norm(&from_first)
            };
            crossings.push(Crossing {
                steps: step as f64 + above,
                distances: self.search.upstream[component].iter().map(distance).collect(),
            });
        }
    }

    /// Whether an area rested in the second half.
    fn rests(&self, area: usize) -> bool {
        self.distances.len() > 1 && self.residuals[area] <= self.search.options.tolerance
    }

    /// Largest distance of an area from its first state.
    fn excursion(&self, area: usize) -> f64 {
        self.distances
            .iter()
            .map(|distances| distances[area])
            .fold(0.0, f64::max)
    }

    /// The period of a component in steps, if it has one.
    fn period(&self, component: usize) -> Option<f64> {
        let areas = &self.search.upstream[component];
        // How near an area's first state counts as there, as a share of its excursion; what rests is there.
        let reach = |share: f64| -> Vec<f64> {
            let reach = |area: &usize| match self.rests(*area) {
                true => f64::INFINITY,
                false => share * self.excursion(*area),
            };
            areas.iter().map(reach).collect()
        };
        let near = reach(RETURN);
        let is_return = |crossing: &&Crossing| {
            let mut distances = crossing.distances.iter().zip(&near);
            distances.all(|(distance, near)| distance <= near)
        };
        let returns: Vec<f64> = self.crossings[component]
            .iter()
            .filter(is_return)
            .map(|crossing| crossing.steps)
            .collect();
        let total = self.steps as f64;
        if let Some(last) = returns.last().filter(|_| returns.len() >= RETURNS) {
            let mean = last / returns.len() as f64;
            let befores = std::iter::once(&0.0).chain(&returns);
            let mut intervals = returns.iter().zip(befores).map(|(now, before)| now - before);
            let is_regular = intervals.all(|interval| (interval - mean).abs() <= INTERVALS * mean);
            // Crossings near the end are not seen whole.
            if is_regular && mean >= SMOOTH && last + 1.5 * mean + 2.0 >= total {
                return Some(mean);
            }
        }
        let exact = reach(EXACT);
        let is_there = |step: usize| {
            let mut distances = areas.iter().map(|area| self.distances[step][*area]).zip(&exact);
            distances.all(|(distance, exact)| distance <= *exact)
        };
        let seen = self.distances.len() - 1;
        let period = (1..=seen / RETURNS).find(|step| is_there(*step))?;
        let mut multiples = (period..=seen).step_by(period);
        multiples.all(is_there).then_some(period as f64)
    }

    /// What a component did, `state` being the last one.
    pub(super) fn end(&self, component: usize, state: &State<f64>) -> End {
        let areas = &self.search.components()[component];
        let count = self.distances.len() as f64;
        let mean = areas.iter().flat_map(|area| &self.sum[*area]).map(|sum| sum / count);
        if areas.iter().all(|area| self.rests(*area)) {
            let activity = areas.iter().flat_map(|area| &state.areas[*area]).copied().collect();
            let is_all = self.search.upstream[component].iter().all(|area| self.rests(*area));
            let (euler_stable, grows) = if is_all {
                self.search.stability(areas, state)
            } else {
                (None, false)
            };
            // It has not left yet.
            let kind = if grows {
                AttractorKind::Unsettled
            } else {
                AttractorKind::SteadyState
            };
            return End {
                euler_stable: euler_stable.filter(|_| !grows),
                ..End::of(kind, activity)
            };
        }
        let halves = areas.iter().flat_map(|area| {
            let units = self.highest[*area].iter().zip(&self.lowest[*area]);
            units.map(|(highest, lowest)| (highest - lowest) / 2.0)
        });
        let amplitude = halves.fold(0.0, f64::max);
        let Some(period_steps) = self.period(component) else {
            return End {
                amplitude,
                ..End::of(AttractorKind::Unsettled, mean.collect())
            };
        };
        let squares = areas.iter().map(|area| self.excursion(*area).powi(2));
        End {
            amplitude,
            excursion: squares.sum::<f64>().sqrt(),
            point: areas.iter().flat_map(|area| &self.first[*area]).copied().collect(),
            ..End::of(AttractorKind::LimitCycle { period_steps }, mean.collect())
        }
    }

    /// Known cycles of a component, with the smallest distance that activity passed their points at, if it is on a cycle.
    pub(super) fn passes(&self, component: usize, end: &End) -> Vec<(usize, f64)> {
        let AttractorKind::LimitCycle { period_steps } = end.kind else {
            return Vec::new();
        };
        let known = self.known.iter().filter(|known| known.component == component);
        known
            .map(|known| (known.place, passed(&known.squared, period_steps >= SMOOTH)))
            .collect()
    }
}

/// Lagrange's weights of the values at -1, 0, 1 and 2.
fn cubic(x: f64) -> [f64; 4] {
    [
        -x * (x - 1.0) * (x - 2.0) / 6.0,
        (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0,
        -(x + 1.0) * x * (x - 2.0) / 2.0,
        (x + 1.0) * x * (x - 1.0) / 6.0,
    ]
}

/// The smallest distance of a trajectory from a point, of its squared distances after each step; of a smooth one on the
/// parabola through the smallest one and its neighbours.
fn passed(squared: &[f64], is_smooth: bool) -> f64 {
    let numbered = squared.iter().enumerate();
    let Some((place, smallest)) = numbered.min_by(|a, b| a.1.total_cmp(b.1)) else {
        return f64::INFINITY;
    };
    let before = place.checked_sub(1).filter(|_| is_smooth);
    let lower = before.zip(squared.get(place + 1)).map_or(0.0, |(before, after)| {
        let bend = squared[before] - 2.0 * smallest + after;
        if bend > 0.0 {
            (squared[before] - after).powi(2) / (8.0 * bend)
        } else {
            0.0
        }
    });
    (smallest - lower).max(0.0).sqrt()
}
