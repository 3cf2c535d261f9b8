//! Where activity goes in the long run.

use cords::dynamics::{AttractorKind, Attractors};

use super::super::NetworkFixedPoint;
use super::{InArea, StateKeys};
use dynvis_runner::table::Row;

/// What `kind` says.
const KIND: &str = "steady state, limit cycle, unsettled (bounded, but neither in the time given), or diverged, here \
     or in an area that drives these; activity that is unsettled, or that diverged, counts as one attractor";

/// Where the activity of areas that drive each other goes in the long run, by simulation of the whole network from
/// several initial conditions: one row for each attractor. It is found whether or not a steady state was
#[derive(Row)]
#[table(name = "attractors")]
pub(in crate::stage::fixed_points) struct Attractor<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Rank by the share of initial conditions that led there, from 0
    #[column(key)]
    attractor: usize,
    /// Class of the image
    label: Option<&'a str>,
    /// Areas that drive each other, the first of which is `area`; that one alone where no other feeds back to it
    areas: String,
    #[column(description = KIND)]
    kind: &'static str,
    /// Share of the initial conditions that led there; no size of a basin, as they are few and chosen
    share: f64,
    /// Initial conditions that were tried
    initial_conditions: usize,
    /// Period of a limit cycle
    #[column(unit = "ms", absolute = 1e-6, relative = 1e-3)]
    period: Option<f64>,
    /// The same in Euler steps; no whole number where activity comes back between two steps
    #[column(absolute = 1e-6, relative = 1e-3)]
    period_steps: Option<f64>,
    /// Half of the range of the unit whose activity varies most, in the last third of the time; 0 of a steady state.
    /// This and what follows are of the first initial condition that led there
    #[column(absolute = 1e-6, relative = 1e-3)]
    amplitude: Option<f64>,
    /// Euclidean norm of the mean activity in that time
    #[column(absolute = 1e-6, relative = 1e-6)]
    norm: Option<f64>,
    /// Euclidean distance of the mean activity from that of the nearest other attractor that is bounded
    #[column(absolute = 1e-6, relative = 1e-6)]
    distance: Option<f64>,
    /// Whether it is the steady state that stands in `states`
    in_states: bool,
    /// Whether all modes of the steady state decay under Euler steps
    euler_stable: Option<bool>,
}

impl<'a> Attractor<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        found.iter().flat_map(|f| {
            let areas = f.point.areas.iter().enumerate();
            areas.flat_map(move |(area, point)| point.attractors.iter().flat_map(move |of| Self::of(f, area, of)))
        })
    }

    fn of(f: &'a NetworkFixedPoint, area: usize, attractors: &'a Attractors) -> impl Iterator<Item = Self> {
        let areas = f.together(area).join(", ");
        attractors.found.iter().enumerate().map(move |(rank, attractor)| {
            let period_steps = match attractor.kind {
                AttractorKind::LimitCycle { period_steps } => Some(period_steps),
                _ => None,
            };
            Attractor {
                keys: f.in_area(area),
                attractor: rank,
                label: f.label.as_deref(),
                areas: areas.clone(),
                kind: match attractor.kind {
                    AttractorKind::SteadyState => "steady state",
                    AttractorKind::LimitCycle { .. } => "limit cycle",
                    AttractorKind::Unsettled => "unsettled",
                    AttractorKind::Diverged => "diverged",
                },
                share: attractor.reached as f64 / attractors.tried.max(1) as f64,
                initial_conditions: attractors.tried,
                period: period_steps.map(|steps| steps * f.dt_ms),
                period_steps,
                amplitude: attractor.amplitude,
                norm: attractor.norm,
                distance: attractor.distance,
                in_states: attractor.is_found_state,
                euler_stable: attractor.euler_stable,
            }
        })
    }
}
