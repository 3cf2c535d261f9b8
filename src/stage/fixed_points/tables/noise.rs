//! The response to small noise.

use cords::dynamics::Response;

use super::super::NetworkFixedPoint;
use super::{InArea, StateKeys};
use dynvis_runner::table::Row;

/// Stationary fluctuations of each area at its steady state, from noise in the currents of all areas, in continuous
/// time and under Euler steps, whose fluctuations are larger
#[derive(Row)]
#[table(name = "noise")]
pub(in crate::stage::fixed_points) struct Noise<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Variance summed over the area's units in continuous time, for noise of standard deviation 1; none where it does
    /// not settle
    #[column(absolute = 1e-9, relative = 1e-6)]
    trace: Option<f64>,
    /// Its standard error, from the probes
    #[column(absolute = 1e-9, relative = 1e-6)]
    error: Option<f64>,
    /// The same without any connections
    #[column(absolute = 1e-9, relative = 1e-6)]
    uncoupled: f64,
    /// trace over uncoupled; none where no unit is active or there is no trace
    #[column(absolute = 1e-9, relative = 1e-6)]
    amplification: Option<f64>,
    /// Whether fluctuations died away in the time allowed
    converged: bool,
    /// Variance summed over the area's units under Euler steps, for noise of standard deviation 1; none where it does
    /// not settle
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_trace: Option<f64>,
    /// Its standard error, from the probes
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_error: Option<f64>,
    /// The same without any connections
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_uncoupled: f64,
    /// euler_trace over euler_uncoupled; none where no unit is active or there is no euler_trace
    #[column(absolute = 1e-9, relative = 1e-6)]
    euler_amplification: Option<f64>,
    /// Whether fluctuations died away in the time allowed
    euler_converged: bool,
}

impl<'a> Noise<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> impl Iterator<Item = Self> {
        responses(found).map(|(keys, continuous, euler)| {
            // At an unstable steady state there are no stationary fluctuations.
            let [trace, euler_trace] = [continuous, euler].map(|r| r.converged.then_some(r.trace));
            let [amplification, euler_amplification] = [continuous, euler].map(|r| {
                let is_active = r.converged && r.uncoupled > 0.0;
                is_active.then(|| r.trace.value / r.uncoupled)
            });
            Noise {
                keys,
                trace: trace.map(|trace| trace.value),
                error: trace.map(|trace| trace.error),
                uncoupled: continuous.uncoupled,
                amplification,
                converged: continuous.converged,
                euler_trace: euler_trace.map(|trace| trace.value),
                euler_error: euler_trace.map(|trace| trace.error),
                euler_uncoupled: euler.uncoupled,
                euler_amplification,
                euler_converged: euler.converged,
            }
        })
    }
}

/// Areas that have a response to noise, with that in continuous time and that under Euler steps.
fn responses(found: &[NetworkFixedPoint]) -> impl Iterator<Item = (InArea<StateKeys<'_>>, &Response, &Response)> {
    found.iter().flat_map(|f| {
        f.point.areas.iter().enumerate().filter_map(|(area, point)| {
            let euler = point.response.as_ref()?;
            Some((f.in_area(area), point.continuous_response.as_ref()?, euler))
        })
    })
}

/// Power of each area's stationary fluctuations by frequency, in continuous time and under Euler steps
#[derive(Row)]
#[table(name = "power")]
pub(in crate::stage::fixed_points) struct Power<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Frequency
    #[column(key, unit = "Hz")]
    frequency: f64,
    /// Variance per Hz summed over the area's units in continuous time, for noise of standard deviation 1; over
    /// negative frequencies there is as much again. None where fluctuations do not settle
    #[column(unit = "1/Hz", absolute = 1e-12, relative = 1e-6)]
    power: Option<f64>,
    /// Its standard error, from the probes
    #[column(unit = "1/Hz", absolute = 1e-12, relative = 1e-6)]
    error: Option<f64>,
    /// Variance per Hz summed over the area's units under Euler steps, for noise of standard deviation 1; over negative
    /// frequencies there is as much again. None where fluctuations do not settle
    #[column(unit = "1/Hz", absolute = 1e-12, relative = 1e-6)]
    euler_power: Option<f64>,
    /// Its standard error, from the probes
    #[column(unit = "1/Hz", absolute = 1e-12, relative = 1e-6)]
    euler_error: Option<f64>,
}

impl<'a> Power<'a> {
    pub(in crate::stage::fixed_points) fn rows(
        found: &'a [NetworkFixedPoint],
        frequencies: &'a [f64],
    ) -> impl Iterator<Item = Self> {
        responses(found).flat_map(move |(keys, continuous, euler)| {
            frequencies.iter().enumerate().map(move |(at, frequency)| {
                let of = |response: &Response| response.converged.then(|| response.spectrum[at]);
                let [power, euler_power] = [continuous, euler].map(of);
                Power {
                    keys,
                    frequency: *frequency,
                    power: power.map(|power| power.value),
                    error: power.map(|power| power.error),
                    euler_power: euler_power.map(|power| power.value),
                    euler_error: euler_power.map(|power| power.error),
                }
            })
        })
    }
}

/// Directions in which the whole network fluctuates most at its steady state under Euler steps, from noise in the
/// currents of all areas
#[derive(Row)]
#[table(name = "noise_modes")]
pub(in crate::stage::fixed_points) struct NoiseMode<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Rank by variance, from 0
    #[column(key)]
    mode: usize,
    /// Variance along the mode, for noise of standard deviation 1
    #[column(absolute = 1e-9, relative = 1e-6)]
    variance: f64,
    /// Share of the mode that lies in the area
    #[column(absolute = 1e-6, relative = 1e-4)]
    share: f64,
    /// |S v - variance v| of the covariance S and the unit mode v
    #[column(absolute = 1e-3)]
    residual: f64,
    /// Whether all modes of this state reached the tolerance
    converged: bool,
}

impl<'a> NoiseMode<'a> {
    pub(in crate::stage::fixed_points) fn rows(found: &'a [NetworkFixedPoint]) -> Vec<Self> {
        let mut rows = Vec::new();
        for f in found {
            for area in 0..f.point.areas.len() {
                rows.extend(f.point.fluctuations.iter().enumerate().map(|(mode, found)| NoiseMode {
                    keys: f.in_area(area),
                    mode,
                    variance: found.variance,
                    share: found.shares[area],
                    residual: found.residual,
                    converged: found.converged,
                }));
            }
        }
        rows
    }
}
