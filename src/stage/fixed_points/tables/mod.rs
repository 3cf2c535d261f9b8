//! Result tables of `fixed_points`, and the keys that they share.

mod exponents;
mod networks;
mod noise;
mod sizes;
mod states;

pub(super) use exponents::exponents_table;
pub(super) use networks::{classes_table, convolutions_table};
pub(super) use noise::{noise_modes_table, noise_table, power_table};
pub(super) use sizes::{growth_table, network_growth_table, network_sizes_table, sizes_table};
pub(super) use states::{eigenvalues_table, network_table, starts_table, states_table};

use super::{Found, Network};
use dynvis_runner::table::{DType, TableSchema, Value};

/// Keys of what belongs to a model.
fn model_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("models", DType::Int, "The stage that gave the model")
        .slot("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("seed", DType::Int, "Seed of the model's training")
}

fn area_key(schema: TableSchema) -> TableSchema {
    schema.key("area", DType::Int, "Area, from 0")
}

/// Keys of what belongs to a steady state of the whole network.
fn whole_keys(schema: TableSchema) -> TableSchema {
    model_keys(schema).key("image", DType::Int, "Index in the dataset; -1 without input")
}

fn whole_values(found: &Found) -> Vec<Value> {
    vec![
        Value::Int(found.slot as i64),
        Value::Text(found.network.clone()),
        Value::Int(found.seed as i64),
        Value::Int(found.image),
    ]
}

/// Keys of what belongs to an area at a steady state.
fn keys(schema: TableSchema) -> TableSchema {
    area_key(whole_keys(schema))
}

fn key_values(found: &Found, area: usize) -> Vec<Value> {
    let mut values = whole_values(found);
    values.push(Value::Int(area as i64));
    values
}

/// Keys of what belongs to a network and an area, whatever the image.
pub(super) fn network_keys(schema: TableSchema) -> TableSchema {
    area_key(model_keys(schema))
}

fn network_values(network: &Network, area: usize) -> Vec<Value> {
    vec![
        Value::Int(network.slot as i64),
        Value::Text(network.name.clone()),
        Value::Int(network.seed as i64),
        Value::Int(area as i64),
    ]
}
