//! What is said of a network and an area, whatever the image.

use super::super::Network;
use super::{network_keys, network_values};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(in crate::stage::fixed_points) fn convolutions_table(networks: &[Network]) -> Result<Table, TableError> {
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

pub(in crate::stage::fixed_points) fn classes_table(networks: &[Network]) -> Result<Table, TableError> {
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
