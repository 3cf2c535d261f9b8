//! Steady states, what they are, and the eigenvalues that say so.

use cords::dynamics::{AreaFixedPoint, Mode, NetworkSpectrum, Spectrum, Stability, ranks_in_union};

use super::super::Found;
use super::{key_values, keys, whole_keys, whole_values};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

fn stability_value(stability: Option<Stability>) -> Value {
    let Some(stability) = stability else { return Value::Null };
    let name = match stability {
        Stability::StableNode => "stable node",
        Stability::StableFocus => "stable focus",
        Stability::Marginal => "marginal",
        Stability::Saddle => "saddle",
        Stability::SaddleOrUnstable => "saddle or unstable",
        Stability::Unstable => "unstable",
    };
    Value::Text(name.into())
}

pub(in crate::stage::fixed_points) fn states_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "states",
            "Steady states of each area, with and without an image",
        ))
        .value("label", DType::Text, "Class of the image")
        .allow_missing()
        .value(
            "converged",
            DType::Bool,
            "Whether the residual reached the tolerance, here and in all areas before, whose activity is this one's input",
        )
        .value(
            "diverged",
            DType::Bool,
            "Whether activity grew beyond all bounds, here or in an area before; the figures are missing then",
        )
        .value("residual", DType::Float, "max|phi(u) - r|")
        .tolerance(1e-6, 0.0)
        .allow_missing()
        .value("relative_residual", DType::Float, "|phi(u) - r| / |r|, Euclidean norms")
        .tolerance(1e-6, 0.0)
        .allow_missing()
        .value("speed", DType::Float, "|dr/dt| = |phi(u) - r| / tau")
        .unit("1/ms")
        .tolerance(1e-6, 0.0)
        .allow_missing()
        .value(
            "products",
            DType::Int,
            "Products with this area's recurrent convolution, after the joint steps",
        )
        .value("norm", DType::Float, "Euclidean norm of the activity")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("distance", DType::Float, "Distance from the spontaneous state")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "relative_distance",
            DType::Float,
            "The same over the norm of the spontaneous state",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("active", DType::Float, "Fraction of units that are active")
        .allow_missing()
        .value(
            "kind",
            DType::Text,
            "stable node or focus (the slowest mode turns), marginal (|Re lambda| tau < 0.02), saddle, unstable; by the modes computed",
        )
        .allow_missing()
        .value("growing", DType::Int, "Modes that grow, among those computed")
        .allow_missing()
        .value("marginal", DType::Int, "Modes that are marginal, among those computed")
        .allow_missing()
        .value(
            "stable",
            DType::Bool,
            "Whether the slowest mode decays, in continuous time",
        )
        .allow_missing()
        .value("euler_kind", DType::Text, "What it is under Euler steps, (|1 + dt lambda| - 1) / alpha in place of Re lambda tau")
        .allow_missing()
        .value("euler_stable", DType::Bool, "Whether all modes decay under Euler steps too")
        .allow_missing()
        .value("euler_radius", DType::Float, "Largest |1 + dt lambda| of the whole spectrum")
        .tolerance(1e-9, 1e-6)
        .allow_missing()
        .value("time_constant", DType::Float, "Slowest time constant")
        .unit("ms")
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    let flag = |v: Option<bool>| v.map_or(Value::Null, Value::Bool);
    for f in found {
        for (area, AreaFixedPoint { steady, spectrum, .. }) in f.point.areas.iter().enumerate() {
            let spectrum = spectrum.as_ref();
            let slowest = spectrum.filter(|s| s.converged).and_then(|s| s.modes.first());
            let number = |value: Option<f64>| Value::optional(value.filter(|v| v.is_finite() && !steady.diverged));
            let counts = spectrum.filter(|s| s.converged).map(|s| s.growing_and_marginal());
            let mut row = key_values(f, area);
            row.extend([
                f.label.clone().map_or(Value::Null, Value::Text),
                Value::Bool(steady.converged),
                Value::Bool(steady.diverged),
                number(Some(steady.residual)),
                number(steady.relative_residual),
                number(Some(steady.speed_per_ms)),
                Value::Int(steady.products as i64),
                number(Some(steady.norm)),
                number(Some(steady.distance)),
                number(steady.relative_distance),
                number(Some(steady.active_fraction)),
                stability_value(spectrum.and_then(|s| s.stability())),
                counts.map_or(Value::Null, |(growing, _)| Value::Int(growing as i64)),
                counts.map_or(Value::Null, |(_, marginal)| Value::Int(marginal as i64)),
                flag(spectrum.and_then(|s| s.stable)),
                stability_value(spectrum.and_then(|s| s.euler_stability(f.dt_ms))),
                flag(spectrum.and_then(|s| s.euler_stable)),
                Value::optional(spectrum.filter(|s| s.converged).map(|s| s.euler_radius)),
                Value::optional(slowest.and_then(|m| m.time_constant_ms)),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
}

pub(in crate::stage::fixed_points) fn eigenvalues_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "eigenvalues",
            "Leading eigenvalues of each area's Jacobian J = (-I + D W) / tau at its steady state",
        ))
        .key("order", DType::Text, "real: by real part, or magnitude")
        .key("mode", DType::Int, "Rank in that order within the area, from 0")
        .value(
            "network_mode",
            DType::Int,
            "Rank in that order in the whole network; none where an area's modes that were not computed may come before",
        )
        .allow_missing()
        .value("real", DType::Float, "Real part")
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .value("imaginary", DType::Float, "Imaginary part")
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .value("residual", DType::Float, "|J v - lambda v| for the unit eigenvector v")
        .unit("1/ms")
        .tolerance(1e-6, 0.0)
        .value(
            "time_constant",
            DType::Float,
            "-1 / real part; none if the mode does not decay",
        )
        .unit("ms")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("frequency", DType::Float, "|imaginary part| / 2 pi")
        .unit("Hz")
        .tolerance(1e-6, 1e-6)
        .value(
            "euler_factor",
            DType::Float,
            "|1 + dt lambda|: the mode's factor in each Euler step",
        )
        .tolerance(1e-9, 1e-6)
        .value(
            "participation",
            DType::Float,
            "Share of the area's units in which the mode lives: (sum |v|^2)^2 / sum |v|^4 over the units; none of units without coupling",
        )
        .tolerance(1e-6, 1e-3)
        .allow_missing()
        .value(
            "converged",
            DType::Bool,
            "Whether all eigenvalues of this area reached the tolerance",
        )
        .value(
            "products",
            DType::Int,
            "Products with the area's recurrent convolution, for all its eigenvalues together",
        ),
    )?;
    for f in found {
        let in_order = |order: &str, of: fn(&Spectrum) -> &[Mode], rank: fn(&Mode) -> f64| {
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
                for (mode, m) in of(spectrum).iter().enumerate() {
                    let rank = ranks[area].get(mode).copied().flatten();
                    let mut row = key_values(f, area);
                    row.extend([
                        Value::Text(order.into()),
                        Value::Int(mode as i64),
                        rank.map_or(Value::Null, |rank| Value::Int(rank as i64)),
                        Value::Float(m.real_per_ms),
                        Value::Float(m.imaginary_per_ms),
                        Value::Float(m.residual_per_ms),
                        Value::optional(m.time_constant_ms),
                        Value::Float(m.frequency_hz),
                        Value::Float(m.euler_factor),
                        Value::optional(m.participation),
                        Value::Bool(spectrum.converged),
                        Value::Int(spectrum.products as i64),
                    ]);
                    rows.push(row);
                }
            }
            rows
        };
        let by_real = in_order("real", |spectrum| &spectrum.modes, |mode| mode.real_per_ms);
        let by_magnitude = in_order("magnitude", |spectrum| &spectrum.by_magnitude, Mode::magnitude_per_ms);
        for row in by_real.into_iter().chain(by_magnitude) {
            table.push_row(row)?;
        }
    }
    table.finish()
}

pub(in crate::stage::fixed_points) fn network_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        whole_keys(TableSchema::new(
            "network",
            "What the steady states of the whole network are: its eigenvalues are those of its areas. Rows where all areas settled and all their eigenvalues were found",
        ))
        .value("label", DType::Text, "Class of the image")
        .allow_missing()
        .value(
            "kind",
            DType::Text,
            "stable node or focus (the slowest mode turns), marginal (|Re lambda| tau < 0.02), saddle, unstable; by the modes computed",
        )
        .allow_missing()
        .value("growing", DType::Int, "Modes that grow, among those computed")
        .value("marginal", DType::Int, "Modes that are marginal, among those computed")
        .value("stable", DType::Bool, "Whether all modes decay, in continuous time")
        .value("euler_kind", DType::Text, "What they are under Euler steps, (|1 + dt lambda| - 1) / alpha in place of Re lambda tau")
        .allow_missing()
        .value("euler_stable", DType::Bool, "Whether all modes decay under Euler steps too")
        .value("euler_radius", DType::Float, "Largest |1 + dt lambda| of the whole spectrum")
        .tolerance(1e-9, 1e-6)
        .value("time_constant", DType::Float, "Slowest time constant; none where a mode grows")
        .unit("ms")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("slowest_area", DType::Int, "Area whose mode that is"),
    )?;
    for f in found {
        let spectra = f.point.areas.iter().map(|area| area.spectrum.as_ref());
        let Some(network) = NetworkSpectrum::of(spectra, f.dt_ms) else {
            continue;
        };
        let Some((area, slowest)) = network.slowest else {
            continue;
        };
        let mut row = whole_values(f);
        row.extend([
            f.label.clone().map_or(Value::Null, Value::Text),
            stability_value(network.stability),
            Value::Int(network.growing as i64),
            Value::Int(network.marginal as i64),
            Value::Bool(network.stable),
            stability_value(network.euler_stability),
            Value::Bool(network.euler_radius < 1.0),
            Value::Float(network.euler_radius),
            Value::optional(slowest.time_constant_ms),
            Value::Int(area as i64),
        ]);
        table.push_row(row)?;
    }
    table.finish()
}

pub(in crate::stage::fixed_points) fn starts_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "starts",
            "Whether a steady state is the only one, and whether activity returns after the image",
        ))
        .value("starts", DType::Int, "Other starts of the area")
        .allow_missing()
        .value("settled", DType::Int, "Starts that came to a steady state")
        .allow_missing()
        .value("agreeing", DType::Float, "Share of the starts that came to this one")
        .allow_missing()
        .value(
            "distinct",
            DType::Int,
            "Different steady states found, this one included",
        )
        .allow_missing()
        .value(
            "mono_stable",
            DType::Bool,
            "Whether all starts led to one state; none where one did not settle",
        )
        .allow_missing()
        .value(
            "left_after",
            DType::Float,
            "Distance from the spontaneous state after the image, over that of the steady state",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    for f in found {
        for (area, point) in f.point.areas.iter().enumerate() {
            let starts = point.starts;
            let int = |value: Option<usize>| value.map_or(Value::Null, |value| Value::Int(value as i64));
            let mut row = key_values(f, area);
            row.extend([
                int(starts.map(|starts| starts.tried)),
                int(starts.map(|starts| starts.settled)),
                Value::optional(starts.map(|starts| starts.agreeing as f64 / starts.tried.max(1) as f64)),
                int(starts.map(|starts| starts.distinct)),
                starts
                    .and_then(|starts| starts.mono_stable())
                    .map_or(Value::Null, Value::Bool),
                Value::optional(point.return_distance),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
}
