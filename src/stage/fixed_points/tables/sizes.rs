//! Singular values, non-normality and growth, of areas and of whole networks.

use cords::dynamics::Sizes;

use super::super::Found;
use super::{key_values, keys, whole_keys, whole_values};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

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
            "Largest eigenvalue of (J + J^T)/2: above 0, some perturbations grow at first; none where it was not found",
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
             normal, 1 where it is nilpotent; none where an area has more than 1024 units or a network more than 4096",
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
            Value::optional(sizes.abscissa_per_ms),
            Value::Float(non_normality.squared_norm.value.sqrt()),
            Value::Float(non_normality.commutator),
            Value::optional(non_normality.departure),
            Value::Float(non_normality.departure_at_least),
            Value::Float(non_normality.departure_at_most),
        ]
    })
}

pub(in crate::stage::fixed_points) fn sizes_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(in crate::stage::fixed_points) fn network_sizes_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(in crate::stage::fixed_points) fn growth_table(found: &[Found]) -> Result<Table, TableError> {
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

pub(in crate::stage::fixed_points) fn network_growth_table(found: &[Found]) -> Result<Table, TableError> {
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
