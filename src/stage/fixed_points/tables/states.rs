//! Steady states, what they are, and the eigenvalues that say so.

use cords::dynamics::{AreaFixedPoint, Mode, NetworkSpectrum, Spectrum, Stability, ranks_in_union};

use super::super::NetworkFixedPoint;
use super::{InArea, StateKeys};
use dynvis_runner::table::Row;

/// What `kind` says.
const KIND: &str = "stable node or focus (the slowest mode turns), marginal (|Re lambda| tau < 0.02), saddle, unstable; \
     by the modes computed";

fn stability_name(stability: Stability) -> &'static str {
    match stability {
        Stability::StableNode => "stable node",
        Stability::StableFocus => "stable focus",
        Stability::Marginal => "marginal",
        Stability::Saddle => "saddle",
        Stability::SaddleOrUnstable => "saddle or unstable",
        Stability::Unstable => "unstable",
    }
}

/// Steady states of each area, with and without an image
#[derive(Row)]
#[table(name = "states")]
pub(in crate::stage::fixed_points) struct State<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Class of the image
    label: Option<&'a str>,
    /// Whether the residual reached the tolerance, here and in all areas before, whose activity is this one's input
    converged: bool,
    /// Whether activity grew beyond all bounds, here or in an area before; the figures are missing then
    diverged: bool,
    /// max|phi(u) - r|
    #[column(absolute = 1e-6)]
    residual: Option<f64>,
    /// |phi(u) - r| / |r|, Euclidean norms
    #[column(absolute = 1e-6)]
    relative_residual: Option<f64>,
    /// |dr/dt| = |phi(u) - r| / tau
    #[column(unit = "1/ms", absolute = 1e-6)]
    speed: Option<f64>,
    /// Products with this area's recurrent convolution, after the joint steps
    products: usize,
    /// Euclidean norm of the activity
    #[column(absolute = 1e-6, relative = 1e-6)]
    norm: Option<f64>,
    /// Distance from the spontaneous state
    #[column(absolute = 1e-6, relative = 1e-6)]
    distance: Option<f64>,
    /// The same over the norm of the spontaneous state
    #[column(absolute = 1e-6, relative = 1e-6)]
    relative_distance: Option<f64>,
    /// Fraction of units that are active
    active: Option<f64>,
    #[column(description = KIND)]
    kind: Option<&'static str>,
    /// Modes that grow, among those computed
    growing: Option<usize>,
    /// Modes that are marginal, among those computed
    marginal: Option<usize>,
    /// Whether the slowest mode decays, in continuous time
    stable: Option<bool>,
    /// What it is under Euler steps, (|1 + dt lambda| - 1) / alpha in place of Re lambda tau
    euler_kind: Option<&'static str>,
    /// Whether all modes decay under Euler steps too
    euler_stable: Option<bool>,
    /// Largest |1 + dt lambda| of the whole spectrum
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_radius: Option<f64>,
    /// Slowest time constant
    #[column(unit = "ms", absolute = 1e-6, relative = 1e-6)]
    time_constant: Option<f64>,
}

impl<'a> State<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        let areas = |f: &'a NetworkFixedPoint| f.point.areas.iter().enumerate();
        found
            .iter()
            .flat_map(move |f| areas(f).map(|(area, point)| State::of(f, area, point)))
    }

    fn of(f: &'a NetworkFixedPoint, area: usize, AreaFixedPoint { steady, spectrum, .. }: &AreaFixedPoint) -> Self {
        let spectrum = spectrum.as_ref();
        let converged = spectrum.filter(|spectrum| spectrum.converged);
        let counts = converged.map(Spectrum::growing_and_marginal);
        let number = |value: f64| (!steady.diverged).then_some(value);
        State {
            keys: f.in_area(area),
            label: f.label.as_deref(),
            converged: steady.converged,
            diverged: steady.diverged,
            residual: number(steady.residual),
            relative_residual: steady.relative_residual.and_then(number),
            speed: number(steady.speed_per_ms),
            products: steady.products,
            norm: number(steady.norm),
            distance: number(steady.distance),
            relative_distance: steady.relative_distance.and_then(number),
            active: number(steady.active_fraction),
            kind: spectrum.and_then(Spectrum::stability).map(stability_name),
            growing: counts.map(|(growing, _)| growing),
            marginal: counts.map(|(_, marginal)| marginal),
            stable: spectrum.and_then(|spectrum| spectrum.stable),
            euler_kind: spectrum.and_then(|s| s.euler_stability(f.dt_ms)).map(stability_name),
            euler_stable: spectrum.and_then(|spectrum| spectrum.euler_stable),
            euler_radius: converged.map(|spectrum| spectrum.euler_radius),
            time_constant: converged.and_then(|spectrum| spectrum.modes.first()?.time_constant_ms),
        }
    }
}

/// Leading eigenvalues of each area's Jacobian J = (-I + D W) / tau at its steady state
#[derive(Row)]
#[table(name = "eigenvalues")]
pub(in crate::stage::fixed_points) struct Eigenvalue<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// real: by real part, or magnitude
    #[column(key)]
    order: &'static str,
    /// Rank in that order within the area, from 0
    #[column(key)]
    mode: usize,
    /// Rank in that order in the whole network; none where an area's modes that were not computed may come before
    network_mode: Option<usize>,
    /// Real part
    #[column(unit = "1/ms", absolute = 1e-9, relative = 1e-6)]
    real: f64,
    /// Imaginary part
    #[column(unit = "1/ms", absolute = 1e-9, relative = 1e-6)]
    imaginary: f64,
    /// |J v - lambda v| for the unit eigenvector v
    #[column(unit = "1/ms", absolute = 1e-6)]
    residual: f64,
    /// -1 / real part; none if the mode does not decay
    #[column(unit = "ms", absolute = 1e-6, relative = 1e-6)]
    time_constant: Option<f64>,
    /// |imaginary part| / 2 pi
    #[column(unit = "Hz", absolute = 1e-6, relative = 1e-6)]
    frequency: f64,
    /// |1 + dt lambda|: the mode's factor in each Euler step
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_factor: f64,
    /// Share of the area's units in which the mode lives: (sum |v|^2)^2 / sum |v|^4 over the units; none of units
    /// without coupling
    #[column(absolute = 1e-6, relative = 1e-3)]
    participation: Option<f64>,
    /// Whether all eigenvalues of this area reached the tolerance
    converged: bool,
    /// Products with the area's recurrent convolution, for all its eigenvalues together
    products: usize,
}

impl<'a> Eigenvalue<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        found.iter().flat_map(|f| {
            let by_real = Self::in_order(f, "real", |spectrum| &spectrum.modes, |mode| mode.real_per_ms);
            let magnitude = Mode::magnitude_per_ms;
            let by_magnitude = Self::in_order(f, "magnitude", |spectrum| &spectrum.by_magnitude, magnitude);
            by_real.into_iter().chain(by_magnitude)
        })
    }

    /// `of` are a spectrum's modes in descending order of `rank`.
    fn in_order(
        f: &'a NetworkFixedPoint,
        order: &'static str,
        of: fn(&Spectrum) -> &[Mode],
        rank: fn(&Mode) -> f64,
    ) -> Vec<Self> {
        let spectra = || f.point.areas.iter().map(|area| area.spectrum.as_ref());
        let list = |spectrum: Option<&Spectrum>| {
            let modes = spectrum.filter(|spectrum| spectrum.converged).map_or(&[][..], of);
            let is_all = spectrum.is_some_and(|spectrum| modes.len() >= spectrum.units);
            (modes.iter().map(rank).collect(), is_all)
        };
        let ranks = ranks_in_union(&spectra().map(list).collect::<Vec<_>>());
        let mut rows = Vec::new();
        for (area, spectrum) in spectra().enumerate() {
            let Some(spectrum) = spectrum else { continue };
            rows.extend(of(spectrum).iter().enumerate().map(|(mode, m)| Eigenvalue {
                keys: f.in_area(area),
                order,
                mode,
                network_mode: ranks[area].get(mode).copied().flatten(),
                real: m.real_per_ms,
                imaginary: m.imaginary_per_ms,
                residual: m.residual_per_ms,
                time_constant: m.time_constant_ms,
                frequency: m.frequency_hz,
                euler_factor: m.euler_factor,
                participation: m.participation,
                converged: spectrum.converged,
                products: spectrum.products,
            }));
        }
        rows
    }
}

/// What the steady states of the whole network are: its eigenvalues are those of its areas. Rows where all areas
/// settled and all their eigenvalues were found
#[derive(Row)]
#[table(name = "network")]
pub(in crate::stage::fixed_points) struct NetworkState<'a> {
    #[column(flatten)]
    keys: StateKeys<'a>,
    /// Class of the image
    label: Option<&'a str>,
    #[column(description = KIND)]
    kind: Option<&'static str>,
    /// Modes that grow, among those computed
    growing: usize,
    /// Modes that are marginal, among those computed
    marginal: usize,
    /// Whether all modes decay, in continuous time
    stable: bool,
    /// What they are under Euler steps, (|1 + dt lambda| - 1) / alpha in place of Re lambda tau
    euler_kind: Option<&'static str>,
    /// Whether all modes decay under Euler steps too
    euler_stable: bool,
    /// Largest |1 + dt lambda| of the whole spectrum
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_radius: f64,
    /// Slowest time constant; none where a mode grows
    #[column(unit = "ms", absolute = 1e-6, relative = 1e-6)]
    time_constant: Option<f64>,
    /// Area whose mode that is
    slowest_area: usize,
}

impl<'a> NetworkState<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        found.iter().filter_map(|f| {
            let spectra = f.point.areas.iter().map(|area| area.spectrum.as_ref());
            let network = NetworkSpectrum::of(spectra, f.dt_ms)?;
            let (slowest_area, slowest) = network.slowest?;
            Some(NetworkState {
                keys: f.keys(),
                label: f.label.as_deref(),
                kind: network.stability.map(stability_name),
                growing: network.growing,
                marginal: network.marginal,
                stable: network.stable,
                euler_kind: network.euler_stability.map(stability_name),
                euler_stable: network.euler_radius < 1.0,
                euler_radius: network.euler_radius,
                time_constant: slowest.time_constant_ms,
                slowest_area,
            })
        })
    }
}

/// Whether a steady state is the only one, and whether activity returns after the image
#[derive(Row)]
#[table(name = "starts")]
pub(in crate::stage::fixed_points) struct Starts<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Other starts of the area
    #[column(name = "starts")]
    initial_conditions: Option<usize>,
    /// Starts that came to a steady state
    settled: Option<usize>,
    /// Share of the starts that came to this one
    agreeing: Option<f64>,
    /// Different steady states found, this one included
    distinct: Option<usize>,
    /// Whether all starts led to one state; none where one did not settle
    mono_stable: Option<bool>,
    /// Distance from the spontaneous state after the image, over that of the steady state
    #[column(absolute = 1e-6, relative = 1e-6)]
    left_after: Option<f64>,
}

impl<'a> Starts<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        found.iter().flat_map(|f| {
            f.point.areas.iter().enumerate().map(|(area, point)| Starts {
                keys: f.in_area(area),
                initial_conditions: point
                    .initial_conditions
                    .map(|initial_conditions| initial_conditions.tried),
                settled: point
                    .initial_conditions
                    .map(|initial_conditions| initial_conditions.settled),
                agreeing: point.initial_conditions.map(|initial_conditions| {
                    initial_conditions.agreeing as f64 / initial_conditions.tried.max(1) as f64
                }),
                distinct: point
                    .initial_conditions
                    .map(|initial_conditions| initial_conditions.distinct),
                mono_stable: point
                    .initial_conditions
                    .and_then(|initial_conditions| initial_conditions.mono_stable()),
                left_after: point.return_distance,
            })
        })
    }
}
