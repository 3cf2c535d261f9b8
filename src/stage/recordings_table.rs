//! Recordings from a table (Parquet, CSV) with a row for each presentation, neuron and time bin.

use std::collections::BTreeMap;
use std::path::Path;

use cords::neural::{NeuralError, Neuron, Presentations, Recordings, from_presentations};
use indexmap::IndexSet;

use super::StageError;
use crate::table::{Table, Value};

/// Columns `stimulus_id`, `repetition` (where there are several), `object_name` (if known), `neuroid_id`, `region` (if known),
/// `time_bin_start`, `time_bin_end` in ms and `response`.
pub(super) fn from_table(table: &Table, path: &Path) -> Result<Recordings, StageError> {
    let wrong = |variable: &str, problem: String| {
        StageError::from(NeuralError::Variable {
            path: path.to_owned(),
            variable: variable.to_owned(),
            problem,
        })
    };
    let has = |name: &str| table.schema().position(name).is_some();
    let text = |name: &str| -> Result<Vec<String>, StageError> {
        let values = table.column(name).map_err(|error| wrong(name, error.to_string()))?;
        if let Some(row) = values.iter().position(|v| *v == Value::Null) {
            return Err(wrong(name, format!("row {} has no value", row + 1)));
        }
        Ok(values.iter().map(id).collect())
    };
    let numbers = |name: &str| -> Result<Vec<f64>, StageError> {
        let values = table.column(name).map_err(|error| wrong(name, error.to_string()))?;
        let number = |(row, value): (usize, &Value)| match value {
            Value::Null => Ok(f64::NAN),
            value => value
                .number()
                .ok_or_else(|| wrong(name, format!("row {} holds `{value}`, which is no number", row + 1))),
        };
        values.iter().enumerate().map(number).collect()
    };
    let stimuli = text("stimulus_id")?;
    let repetitions = if has("repetition") {
        text("repetition")?
    } else {
        vec!["0".to_owned(); stimuli.len()]
    };
    let objects = if has("object_name") {
        text("object_name")?
    } else {
        Vec::new()
    };
    let neurons = text("neuroid_id")?;
    let regions = if has("region") {
        text("region")?
    } else {
        vec![String::new(); stimuli.len()]
    };
    let (starts, ends) = (numbers("time_bin_start")?, numbers("time_bin_end")?);
    let responses = numbers("response")?;

    let shown: IndexSet<(&String, &String)> = stimuli.iter().zip(&repetitions).collect();
    let ids: IndexSet<&String> = neurons.iter().collect();
    let mut bins: Vec<[f64; 2]> = starts.iter().zip(&ends).map(|(a, b)| [*a, *b]).collect();
    bins.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    bins.dedup();
    if bins.iter().flatten().any(|edge| !edge.is_finite()) {
        return Err(wrong("time_bin_start", "a row has no time bin".to_owned()));
    }
    let bin_of: BTreeMap<[u64; 2], usize> = bins
        .iter()
        .enumerate()
        .map(|(i, bin)| (bin.map(f64::to_bits), i))
        .collect();
    let mut values = vec![f64::NAN; shown.len() * ids.len() * bins.len()];
    let mut seen = vec![false; values.len()];
    let mut region_of = vec![String::new(); ids.len()];
    let mut object_of = vec![String::new(); shown.len()];
    for row in 0..stimuli.len() {
        let presentation = shown.get_index_of(&(&stimuli[row], &repetitions[row])).unwrap_or(0);
        let neuron = ids.get_index_of(&neurons[row]).unwrap_or(0);
        let bin = bin_of
            .get(&[starts[row].to_bits(), ends[row].to_bits()])
            .copied()
            .unwrap_or(0);
        let place = (presentation * ids.len() + neuron) * bins.len() + bin;
        if std::mem::replace(&mut seen[place], true) {
            return Err(wrong(
                "response",
                format!(
                    "row {} is a second one for stimulus `{}`, repetition `{}`, neuron `{}` in the same time bin",
                    row + 1,
                    stimuli[row],
                    repetitions[row],
                    neurons[row]
                ),
            ));
        }
        values[place] = responses[row];
        region_of[neuron].clone_from(&regions[row]);
        if let Some(object) = objects.get(row) {
            object_of[presentation].clone_from(object);
        }
    }
    let presentations = Presentations {
        stimuli: shown.iter().map(|(s, _)| (*s).clone()).collect(),
        repetitions: shown.iter().map(|(_, r)| (*r).clone()).collect(),
        objects: if objects.is_empty() { Vec::new() } else { object_of },
    };
    let neurons = ids.iter().zip(region_of).map(|(id, region)| Neuron {
        id: (*id).clone(),
        region,
    });
    let (count, width) = (ids.len(), bins.len());
    Ok(from_presentations(
        &presentations,
        neurons.collect(),
        bins,
        |p, n, b| values[(p * count + n) * width + b],
    )?)
}

/// Ids: whole numbers without a point.
fn id(value: &Value) -> String {
    match value {
        Value::Float(number) => number.to_string(),
        value => value.to_string(),
    }
}
