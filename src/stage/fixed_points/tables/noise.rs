//! The response to small noise.

use super::super::Found;
use super::{key_values, keys};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(in crate::stage::fixed_points) fn noise_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(in crate::stage::fixed_points) fn power_table(found: &[Found], frequencies: &[f64]) -> Result<Table, TableError> {
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

pub(in crate::stage::fixed_points) fn noise_modes_table(found: &[Found]) -> Result<Table, TableError> {
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
