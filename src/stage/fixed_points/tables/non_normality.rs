//! Singular values, non-normality and growth, of areas and of whole networks.

use cords::dynamics::NonNormality;

use super::super::NetworkFixedPoint;
use super::{InArea, StateKeys};
use dynvis_runner::table::Row;

/// Singular values and non-normality, of `K` in the words of the table.
#[derive(Row)]
struct OfCoupling {
    /// Rank of the singular value, from 0
    #[column(key)]
    rank: usize,
    /// Singular value of K
    #[column(absolute = 1e-7, relative = 1e-6)]
    singular_value: f64,
    /// Whether all singular values reached the tolerance
    converged: bool,
    /// Largest eigenvalue of (J + J^T)/2: above 0, some perturbations grow at first; none where it was not found
    #[column(unit = "1/ms", absolute = 1e-9, relative = 1e-6)]
    abscissa: Option<f64>,
    /// |K|_F; estimated from probes where `departure` is missing, else computed
    #[column(absolute = 1e-9, relative = 1e-6)]
    frobenius: f64,
    /// |K^T K - K K^T|_F / |K|_F^2, estimated from probes; 0 where K is normal
    #[column(absolute = 1e-9, relative = 1e-6)]
    commutator: f64,
    /// Henrici's departure from normality sqrt(|K|_F^2 - sum |kappa|^2) / |K|_F, from all eigenvalues kappa: 0 where K
    /// is normal, 1 where it is nilpotent; none where an area has more than 1024 units or a network more than 4096
    #[column(absolute = 1e-9, relative = 1e-6)]
    departure: Option<f64>,
    /// Lower bound of the departure, commutator / sqrt(6): often far too low
    #[column(absolute = 1e-9, relative = 1e-6)]
    departure_at_least: f64,
    /// Upper bound of the departure, sqrt(1 - |tr K^2| / |K|_F^2), estimated from probes
    #[column(absolute = 1e-9, relative = 1e-6)]
    departure_at_most: f64,
}

impl OfCoupling {
    /// For each singular value.
    fn rows(non_normality: &NonNormality) -> impl Iterator<Item = Self> {
        let departure_from_normality = non_normality.departure_from_normality;
        let values = non_normality.singular_values.values.iter().enumerate();
        values.map(move |(rank, value)| Self {
            rank,
            singular_value: *value,
            converged: non_normality.singular_values.converged,
            abscissa: non_normality.abscissa_per_ms,
            frobenius: departure_from_normality.squared_norm.value.sqrt(),
            commutator: departure_from_normality.commutator,
            departure: departure_from_normality.departure,
            departure_at_least: departure_from_normality.departure_at_least,
            departure_at_most: departure_from_normality.departure_at_most,
        })
    }
}

/// Singular values of each area's coupling K = D W at its steady state, and how far from normal it is
#[derive(Row)]
#[table(name = "sizes")]
pub(in crate::stage::fixed_points) struct Size<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    #[column(flatten)]
    coupling: OfCoupling,
    /// Bound of |W| from its transfer function; below 1 the area has one steady state, which attracts everything
    #[column(absolute = 1e-9, relative = 1e-6)]
    norm_bound: Option<f64>,
    /// Whether that bound is below 1
    contracts: Option<bool>,
}

impl<'a> Size<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        of_areas(found).flat_map(|(f, area, non_normality)| {
            OfCoupling::rows(non_normality).map(move |coupling| Size {
                keys: f.in_area(area),
                coupling,
                norm_bound: f.bounds[area],
                contracts: f.bounds[area].map(|bound| bound < 1.0),
            })
        })
    }
}

fn of_areas(found: &[NetworkFixedPoint]) -> impl Iterator<Item = (&NetworkFixedPoint, usize, &NonNormality)> {
    found.iter().flat_map(|f| {
        let areas = f.point.areas.iter().enumerate();
        areas.filter_map(move |(area, point)| Some((f, area, point.non_normality.as_ref()?)))
    })
}

fn of_networks(found: &[NetworkFixedPoint]) -> impl Iterator<Item = (&NetworkFixedPoint, &NonNormality)> {
    found.iter().filter_map(|f| Some((f, f.point.non_normality.as_ref()?)))
}

/// Singular values of the whole network's coupling K = D W at its steady state, connections between areas included, and
/// how far from normal it is. Rows where all areas settled
#[derive(Row)]
#[table(name = "network_sizes")]
pub(in crate::stage::fixed_points) struct NetworkSize<'a> {
    #[column(flatten)]
    keys: StateKeys<'a>,
    #[column(flatten)]
    coupling: OfCoupling,
}

impl<'a> NetworkSize<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        of_networks(found).flat_map(|(f, non_normality)| {
            let keys = f.keys();
            OfCoupling::rows(non_normality).map(move |coupling| NetworkSize { keys, coupling })
        })
    }
}

/// Growth over a time.
#[derive(Row)]
struct OverTime {
    /// Time after the perturbation
    #[column(key, unit = "ms")]
    time: f64,
    /// |e^(J t)|, in continuous time; none where it was not found
    #[column(absolute = 1e-7, relative = 1e-6)]
    factor: Option<f64>,
    /// |(I + dt J)^k|, k the Euler steps of that time; none where it was not found
    #[column(absolute = 1e-7, relative = 1e-6)]
    euler_factor: Option<f64>,
}

impl OverTime {
    fn rows(non_normality: &NonNormality, dt_ms: f64) -> impl Iterator<Item = Self> {
        non_normality.growth.iter().map(move |growth| Self {
            time: growth.steps as f64 * dt_ms,
            factor: Some(growth.continuous),
            euler_factor: Some(growth.euler),
        })
    }
}

/// Largest growth of a perturbation of each area's steady state, other areas left as they are
#[derive(Row)]
#[table(name = "growth")]
pub(in crate::stage::fixed_points) struct Growth<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    #[column(flatten)]
    growth: OverTime,
}

impl<'a> Growth<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        of_areas(found).flat_map(|(f, area, non_normality)| {
            let keys = f.in_area(area);
            OverTime::rows(non_normality, f.dt_ms).map(move |growth| Growth { keys, growth })
        })
    }
}

/// Largest growth of a perturbation of the whole network's steady state, which passes from area to area. Rows where all
/// areas settled
#[derive(Row)]
#[table(name = "network_growth")]
pub(in crate::stage::fixed_points) struct NetworkGrowth<'a> {
    #[column(flatten)]
    keys: StateKeys<'a>,
    #[column(flatten)]
    growth: OverTime,
}

impl<'a> NetworkGrowth<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        of_networks(found).flat_map(|(f, non_normality)| {
            let keys = f.keys();
            OverTime::rows(non_normality, f.dt_ms).map(move |growth| NetworkGrowth { keys, growth })
        })
    }
}
