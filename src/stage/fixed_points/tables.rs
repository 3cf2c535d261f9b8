//! Result tables of `fixed_points`.

use cords::dynamics::{
    AreaFixedPoint, Mode, NetworkSpectrum, Sizes, Spectrum, Stability, kaplan_yorke, ranks_in_union,
};

use super::{Found, Network};
use crate::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

fn keys(schema: TableSchema) -> TableSchema {
    whole_keys(schema).key("area", DType::Int, "Area, from 0")
}

fn key_values(found: &Found, area: usize) -> Vec<Value> {
    let mut values = whole_values(found);
    values.push(Value::Int(area as i64));
    values
}

/// Keys of what belongs to a steady state of the whole network.
fn whole_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("models", DType::Int, "The stage that gave the model")
        .slot("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("seed", DType::Int, "Seed of the model's training")
        .key("image", DType::Int, "Index in the dataset; -1 without input")
}

fn whole_values(found: &Found) -> Vec<Value> {
    vec![
        Value::Int(found.slot as i64),
        Value::Text(found.network.clone()),
        Value::Int(found.seed as i64),
        Value::Int(found.image),
    ]
}

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

pub(super) fn states_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(super) fn eigenvalues_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(super) fn network_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(super) fn starts_table(found: &[Found]) -> Result<Table, TableError> {
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

/// Columns of singular values and non-normality, of `K` in the words of the table.
fn size_columns(schema: TableSchema) -> TableSchema {
    schema
        .key("rank", DType::Int, "Rank of the singular value, from 0")
        .value("singular_value", DType::Float, "Singular value of K")
        .tolerance(1e-7, 1e-6)
        .value("converged", DType::Bool, "Whether all singular values reached the tolerance")
        .value(
            "abscissa",
            DType::Float,
            "Largest eigenvalue of (J + J^T)/2: above 0, some perturbations grow at first",
        )
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .allow_missing()
        .value("frobenius", DType::Float, "|K|_F; estimated from probes where `departure` is missing, else computed")
        .tolerance(1e-9, 1e-6)
        .value(
            "commutator",
            DType::Float,
            "|K^T K - K K^T|_F / |K|_F^2, estimated from probes; 0 where K is normal",
        )
        .tolerance(1e-9, 1e-6)
        .value(
            "departure",
            DType::Float,
            "Henrici's departure from normality sqrt(|K|_F^2 - sum |kappa|^2) / |K|_F, from all eigenvalues kappa: 0 where K is \
             normal, 1 where it is nilpotent; none where an area has more than 1024 units",
        )
        .tolerance(1e-9, 1e-6)
        .allow_missing()
        .value(
            "departure_at_least",
            DType::Float,
            "Lower bound of the departure, commutator / sqrt(6): often far too low",
        )
        .tolerance(1e-9, 1e-6)
        .value(
            "departure_at_most",
            DType::Float,
            "Upper bound of the departure, sqrt(1 - |tr K^2| / |K|_F^2), estimated from probes",
        )
        .tolerance(1e-9, 1e-6)
}

/// A row for each singular value.
fn size_rows(sizes: &Sizes) -> impl Iterator<Item = Vec<Value>> {
    let non_normality = sizes.non_normality;
    let values = sizes.singular_values.values.iter().enumerate();
    values.map(move |(rank, value)| {
        vec![
            Value::Int(rank as i64),
            Value::Float(*value),
            Value::Bool(sizes.singular_values.converged),
            Value::finite(sizes.abscissa_per_ms),
            Value::Float(non_normality.squared_norm.value.sqrt()),
            Value::Float(non_normality.commutator),
            Value::optional(non_normality.departure),
            Value::Float(non_normality.departure_at_least),
            Value::Float(non_normality.departure_at_most),
        ]
    })
}

pub(super) fn sizes_table(found: &[Found]) -> Result<Table, TableError> {
    let schema = keys(TableSchema::new(
        "sizes",
        "Singular values of each area's coupling K = D W at its steady state, and how far from normal it is",
    ));
    let mut table = TableWriter::new(
        size_columns(schema)
            .value(
                "norm_bound",
                DType::Float,
                "Bound of |W| from its transfer function; below 1 the area has one steady state, which attracts everything",
            )
            .tolerance(1e-9, 1e-6)
            .allow_missing()
            .value("contracts", DType::Bool, "Whether that bound is below 1")
            .allow_missing(),
    )?;
    for f in found {
        for (area, point) in f.point.areas.iter().enumerate() {
            let bound = f.bounds[area];
            for of_rank in point.sizes.iter().flat_map(size_rows) {
                let mut row = key_values(f, area);
                row.extend(of_rank);
                row.extend([
                    Value::optional(bound),
                    bound.map_or(Value::Null, |bound| Value::Bool(bound < 1.0)),
                ]);
                table.push_row(row)?;
            }
        }
    }
    table.finish()
}

pub(super) fn network_sizes_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(size_columns(whole_keys(TableSchema::new(
        "network_sizes",
        "Singular values of the whole network's coupling K = D W at its steady state, connections between areas included, and how \
         far from normal it is. Rows where all areas settled",
    ))))?;
    for f in found {
        for of_rank in f.point.sizes.iter().flat_map(size_rows) {
            let mut row = whole_values(f);
            row.extend(of_rank);
            table.push_row(row)?;
        }
    }
    table.finish()
}

/// Columns of growth.
fn growth_columns(schema: TableSchema) -> TableSchema {
    schema
        .key("time", DType::Float, "Time after the perturbation")
        .unit("ms")
        .value(
            "factor",
            DType::Float,
            "|e^(J t)|, in continuous time; none where it was not found",
        )
        .tolerance(1e-7, 1e-6)
        .allow_missing()
        .value(
            "euler_factor",
            DType::Float,
            "|(I + dt J)^k|, k the Euler steps of that time; none where it was not found",
        )
        .tolerance(1e-7, 1e-6)
        .allow_missing()
}

fn growth_rows(sizes: &Sizes, dt_ms: f64) -> impl Iterator<Item = Vec<Value>> {
    sizes.growth.iter().map(move |growth| {
        vec![
            Value::Float(growth.steps as f64 * dt_ms),
            Value::finite(growth.continuous),
            Value::finite(growth.euler),
        ]
    })
}

pub(super) fn growth_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(growth_columns(keys(TableSchema::new(
        "growth",
        "Largest growth of a perturbation of each area's steady state, other areas left as they are",
    ))))?;
    for f in found {
        for (area, point) in f.point.areas.iter().enumerate() {
            for of_time in point.sizes.iter().flat_map(|sizes| growth_rows(sizes, f.dt_ms)) {
                let mut row = key_values(f, area);
                row.extend(of_time);
                table.push_row(row)?;
            }
        }
    }
    table.finish()
}

pub(super) fn network_growth_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(growth_columns(whole_keys(TableSchema::new(
        "network_growth",
        "Largest growth of a perturbation of the whole network's steady state, which passes from area to area. Rows where all areas \
         settled",
    ))))?;
    for f in found {
        for of_time in f.point.sizes.iter().flat_map(|sizes| growth_rows(sizes, f.dt_ms)) {
            let mut row = whole_values(f);
            row.extend(of_time);
            table.push_row(row)?;
        }
    }
    table.finish()
}

pub(super) fn noise_table(found: &[Found]) -> Result<Table, TableError> {
    let columns = |schema: TableSchema, prefix: &str, system: &str| {
        let name = |name: &str| format!("{prefix}{name}");
        schema
            .value(
                name("trace"),
                DType::Float,
                format!("Variance summed over the area's units {system}, for noise of standard deviation 1; none where it does not settle"),
            )
            .tolerance(1e-9, 1e-6)
            .allow_missing()
            .value(name("error"), DType::Float, "Its standard error, from the probes")
            .tolerance(1e-9, 1e-6)
            .allow_missing()
            .value(name("uncoupled"), DType::Float, "The same without any connections")
            .tolerance(1e-9, 1e-6)
            .value(
                name("amplification"),
                DType::Float,
                format!("{0} over {1}; none where no unit is active or there is no {0}", name("trace"), name("uncoupled")),
            )
            .tolerance(1e-9, 1e-6)
            .allow_missing()
            .value(
                name("converged"),
                DType::Bool,
                "Whether fluctuations died away in the time allowed",
            )
    };
    let schema = keys(TableSchema::new(
        "noise",
        "Stationary fluctuations of each area at its steady state, from noise in the currents of all areas, in continuous time and \
         under Euler steps, whose fluctuations are larger",
    ));
    let schema = columns(schema, "", "in continuous time");
    let mut table = TableWriter::new(columns(schema, "euler_", "under Euler steps"))?;
    for f in found {
        for (area, point) in f.point.areas.iter().enumerate() {
            let (Some(continuous), Some(euler)) = (&point.continuous_response, &point.response) else {
                continue;
            };
            let mut row = key_values(f, area);
            for response in [continuous, euler] {
                // At an unstable steady state there are no stationary fluctuations.
                let trace = response.converged.then_some(response.trace);
                let active = trace.filter(|_| response.uncoupled > 0.0);
                let amplification = active.map(|trace| trace.value / response.uncoupled);
                row.extend([
                    Value::optional(trace.map(|trace| trace.value)),
                    Value::optional(trace.map(|trace| trace.error)),
                    Value::Float(response.uncoupled),
                    Value::optional(amplification),
                    Value::Bool(response.converged),
                ]);
            }
            table.push_row(row)?;
        }
    }
    table.finish()
}

pub(super) fn power_table(found: &[Found], frequencies: &[f64]) -> Result<Table, TableError> {
    let columns = |schema: TableSchema, prefix: &str, system: &str| {
        schema
            .value(
                format!("{prefix}power"),
                DType::Float,
                format!(
                    "Variance per Hz summed over the area's units {system}, for noise of standard deviation 1; over negative \
                     frequencies there is as much again. None where fluctuations do not settle"
                ),
            )
            .unit("1/Hz")
            .tolerance(1e-12, 1e-6)
            .allow_missing()
            .value(format!("{prefix}error"), DType::Float, "Its standard error, from the probes")
            .unit("1/Hz")
            .tolerance(1e-12, 1e-6)
            .allow_missing()
    };
    let schema = keys(TableSchema::new(
        "power",
        "Power of each area's stationary fluctuations by frequency, in continuous time and under Euler steps",
    ))
    .key("frequency", DType::Float, "Frequency")
    .unit("Hz");
    let schema = columns(schema, "", "in continuous time");
    let mut table = TableWriter::new(columns(schema, "euler_", "under Euler steps"))?;
    for f in found {
        for (area, point) in f.point.areas.iter().enumerate() {
            let (Some(continuous), Some(euler)) = (&point.continuous_response, &point.response) else {
                continue;
            };
            for (at, frequency) in frequencies.iter().enumerate() {
                let mut row = key_values(f, area);
                row.push(Value::Float(*frequency));
                for response in [continuous, euler] {
                    let power = response.converged.then(|| response.spectrum[at]);
                    row.extend([
                        Value::optional(power.map(|power| power.value)),
                        Value::optional(power.map(|power| power.error)),
                    ]);
                }
                table.push_row(row)?;
            }
        }
    }
    table.finish()
}

/// Keys of what belongs to a network and an area, whatever the image.
fn network_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("models", DType::Int, "The stage that gave the model")
        .slot("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("seed", DType::Int, "Seed of the model's training")
        .key("area", DType::Int, "Area, from 0")
}

fn network_values(network: &Network, area: usize) -> Vec<Value> {
    vec![
        Value::Int(network.slot as i64),
        Value::Text(network.name.clone()),
        Value::Int(network.seed as i64),
        Value::Int(area as i64),
    ]
}

pub(super) fn noise_modes_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "noise_modes",
            "Directions in which the whole network fluctuates most at its steady state under Euler steps, from noise in the currents of all areas",
        ))
        .key("mode", DType::Int, "Rank by variance, from 0")
        .value("variance", DType::Float, "Variance along the mode, for noise of standard deviation 1")
        .tolerance(1e-9, 1e-6)
        .value("share", DType::Float, "Share of the mode that lies in the area")
        .tolerance(1e-6, 1e-4)
        .value("residual", DType::Float, "|S v - variance v| of the covariance S and the unit mode v")
        .tolerance(1e-3, 0.0)
        .value("converged", DType::Bool, "Whether all modes of this state reached the tolerance"),
    )?;
    for f in found {
        for area in 0..f.point.areas.len() {
            for (mode, fluctuation) in f.point.fluctuations.iter().enumerate() {
                let mut row = key_values(f, area);
                row.extend([
                    Value::Int(mode as i64),
                    Value::Float(fluctuation.variance),
                    Value::Float(fluctuation.shares[area]),
                    Value::Float(fluctuation.residual),
                    Value::Bool(fluctuation.converged),
                ]);
                table.push_row(row)?;
            }
        }
    }
    table.finish()
}

pub(super) fn convolutions_table(networks: &[Network]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        network_keys(TableSchema::new(
            "convolutions",
            "Leading eigenvalues of each area's recurrent convolution W itself, without activation function",
        ))
        .key("order", DType::Text, "magnitude, or real: by real part")
        .key("rank", DType::Int, "Rank, from 0")
        .value("real", DType::Float, "Real part")
        .tolerance(1e-7, 1e-6)
        .value("imaginary", DType::Float, "Imaginary part")
        .tolerance(1e-7, 1e-6)
        .value("magnitude", DType::Float, "Magnitude")
        .tolerance(1e-7, 1e-6)
        .value("residual", DType::Float, "|W v - kappa v| for the unit eigenvector v")
        .tolerance(1e-6, 0.0)
        .value("converged", DType::Bool, "Whether all of them reached the tolerance"),
    )?;
    for network in networks {
        for (area, found) in network.convolutions.iter().enumerate() {
            for (order, leading) in ["magnitude", "real"].into_iter().zip(found) {
                for (rank, pair) in leading.pairs.iter().enumerate() {
                    // Eigenvalues are real or come in pairs: an imaginary part smaller than the error is 0.
                    let is_real = pair.value.im.abs() <= pair.residual;
                    let mut row = network_values(network, area);
                    row.extend([
                        Value::Text(order.into()),
                        Value::Int(rank as i64),
                        Value::Float(pair.value.re),
                        Value::Float(if is_real { 0.0 } else { pair.value.im }),
                        Value::Float(pair.value.norm()),
                        Value::Float(pair.residual),
                        Value::Bool(leading.converged),
                    ]);
                    table.push_row(row)?;
                }
            }
        }
    }
    table.finish()
}

pub(super) fn classes_table(networks: &[Network]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        network_keys(TableSchema::new(
            "classes",
            "How the steady states of images lie in each area, and how well classes are told apart from them",
        ))
        .value("within", DType::Float, "Mean distance between steady states of a class")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "between",
            DType::Float,
            "Mean distance between those of different classes",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("ratio", DType::Float, "between over within")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "readout",
            DType::Float,
            "Images whose class a linear readout (ridge) names rightly when it is fitted to all others; chance is 1 / classes",
        )
        .allow_missing()
        .value(
            "own_readout",
            DType::Float,
            "Images that the network's own readout names rightly at its steady states",
        )
        .allow_missing()
        .value("images", DType::Int, "Images that settled")
        .value("classes", DType::Int, "Classes that they are of"),
    )?;
    for network in networks {
        for (area, separation) in network.separations.iter().enumerate() {
            let ratio = separation.within.filter(|within| *within > 0.0);
            let ratio = ratio.zip(separation.between).map(|(within, between)| between / within);
            let mut row = network_values(network, area);
            row.extend([separation.within, separation.between, ratio, separation.readout].map(Value::optional));
            row.extend([
                Value::optional(network.answers),
                Value::Int(separation.images as i64),
                Value::Int(separation.classes as i64),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
}

pub(super) fn exponents_table(found: &[Found], levels: &[f64], asked: usize) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "exponents",
            "Lyapunov exponents of each area along the trajectory from the spontaneous state",
        ))
        .key("noise", DType::Float, "Level of neural noise on the trajectory")
        .key("rank", DType::Int, "Rank, from 0")
        .value(
            "exponent",
            DType::Float,
            "Lyapunov exponent; none where nothing is left of a direction",
        )
        .unit("1/ms")
        .tolerance(1e-7, 1e-6)
        .allow_missing()
        .value(
            "error",
            DType::Float,
            "Its error as of a time average of correlated values, two of which hold the exponent in some 95 of 100 cases: the \
             largest of those between 4, 8, 16 and 32 parts of the trajectory; what turns more slowly than the trajectory is long \
             does not show in it",
        )
        .unit("1/ms")
        .tolerance(1e-7, 1e-6)
        .allow_missing()
        .value(
            "dimension",
            DType::Float,
            "Kaplan-Yorke dimension of the area; none where the exponents given do not reach it",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "network_rank",
            DType::Int,
            "Rank in the whole network; none where an area's exponents that were not computed may come before",
        )
        .allow_missing()
        .value(
            "network_dimension",
            DType::Float,
            "Kaplan-Yorke dimension of the whole network; none where the exponents with a `network_rank` do not reach it",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    for f in found {
        let areas = &f.point.areas;
        // [level][area].
        let of_levels: Vec<NetworkExponents> = (0..levels.len())
            .map(|level| NetworkExponents::of(areas, level, asked))
            .collect();
        for (area, point) in areas.iter().enumerate() {
            for ((level, exponents), network) in levels.iter().zip(point.exponents.iter().flatten()).zip(&of_levels) {
                let values: Vec<f64> = exponents.iter().map(|exponent| exponent.per_ms).collect();
                for (rank, exponent) in exponents.iter().enumerate() {
                    let mut row = key_values(f, area);
                    row.extend([
                        Value::Float(*level),
                        Value::Int(rank as i64),
                        Value::finite(exponent.per_ms),
                        Value::finite(exponent.error_per_ms),
                        Value::optional(kaplan_yorke(&values)),
                        network.ranks[area]
                            .get(rank)
                            .copied()
                            .flatten()
                            .map_or(Value::Null, |rank| Value::Int(rank as i64)),
                        Value::optional(network.dimension),
                    ]);
                    table.push_row(row)?;
                }
            }
        }
    }
    table.finish()
}

/// The exponents of all areas as those of the whole network.
struct NetworkExponents {
    /// `[area][rank within it]`.
    ranks: Vec<Vec<Option<usize>>>,
    dimension: Option<f64>,
}

impl NetworkExponents {
    /// `asked` exponents of every area were to be computed; fewer are all that it has.
    fn of(areas: &[AreaFixedPoint], level: usize, asked: usize) -> Self {
        let list = |area: &AreaFixedPoint| {
            let Some(exponents) = area.exponents.as_ref().and_then(|levels| levels.get(level)) else {
                return (Vec::new(), false);
            };
            let values: Vec<f64> = exponents.iter().map(|exponent| exponent.per_ms).collect();
            if values.iter().any(|value| value.is_nan()) {
                // Along a trajectory that diverges there are none.
                return (Vec::new(), false);
            }
            (values, exponents.len() < asked)
        };
        let lists: Vec<(Vec<f64>, bool)> = areas.iter().map(list).collect();
        let ranks = ranks_in_union(&lists);
        let mut ranked: Vec<(usize, f64)> = lists
            .iter()
            .zip(&ranks)
            .flat_map(|((values, _), ranks)| ranks.iter().zip(values))
            .filter_map(|(rank, value)| rank.map(|rank| (rank, *value)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let values: Vec<f64> = ranked.into_iter().map(|(_, value)| value).collect();
        Self {
            dimension: kaplan_yorke(&values),
            ranks,
        }
    }
}
