//! Recordings from a table (Parquet, CSV) with a row for each presentation, neuron and time bin.

use std::collections::BTreeMap;
use std::path::Path;

use cords::neural::{NeuralError, Neuron, Recordings, id_order, plan_size, running_numbers};
use dynvis_runner::table::{Table, TableError, Value};
use indexmap::IndexSet;

use super::StageError;

/// Columns `stimulus_id`, `repetition` (where there are several), `object_name` (if known), `neuroid_id`, `region`,
/// `animal` and `session` (if known), `time_bin_start`, `time_bin_end` in ms and `response`.
///
/// Without `repetition`, the rows of a stimulus, neuron and time bin are its presentations in their order. Running
/// numbers of trials as `repetition` ([`running_numbers`]) count the presentations of each stimulus to each neuron.
pub(super) fn from_table(table: &Table, path: &Path) -> Result<Recordings, StageError> {
    let wrong = |variable: &str, problem: String| {
        StageError::from(NeuralError::Variable {
            path: path.to_owned(),
            variable: variable.to_owned(),
            problem,
        })
    };
    let column = |name: &str| table.column(name).map_err(|error| wrong(name, error.to_string()));
    // Each name once, and which of them stands in each row.
    let ids = |name: &str| -> Result<Named, StageError> {
        let mut names = IndexSet::new();
        let mut of_row = Vec::new();
        for (row, value) in column(name)?.iter().enumerate() {
            let missing = *value == Value::Null || value.number().is_some_and(f64::is_nan);
            if missing {
                return Err(wrong(name, format!("{} has no value", table.place(row))));
            }
            of_row.push(names.insert_full(id(value)).0);
        }
        Ok(Named { names, of_row })
    };
    let has = |name: &str| table.schema().position(name).is_some();
    let if_there = |name: &str| has(name).then(|| ids(name)).transpose();
    let numbers = |name: &str| -> Result<Vec<f64>, StageError> {
        table.numbers(name).map_err(|error| match error {
            TableError::NoNumber { place, found, .. } => {
                wrong(name, format!("{place} holds `{found}`, which is not a number"))
            }
            error => wrong(name, error.to_string()),
        })
    };
    // What a neuron is labelled with may be missing.
    let labels = |name: &str| -> Result<Option<&[Value]>, StageError> { has(name).then(|| column(name)).transpose() };

    let stimuli = ids("stimulus_id")?;
    let rows = stimuli.of_row.len();
    let repetitions = if_there("repetition")?;
    let objects = if_there("object_name")?;
    let neurons = ids("neuroid_id")?;
    let (regions, animals, sessions) = (labels("region")?, labels("animal")?, labels("session")?);
    let (starts, ends) = (numbers("time_bin_start")?, numbers("time_bin_end")?);
    let responses = numbers("response")?;
    if let Some(row) = (0..rows).find(|row| !(starts[*row].is_finite() && ends[*row].is_finite())) {
        return Err(wrong("time_bin_start", format!("{} has no time bin", table.place(row))));
    }
    // Zero has no sign here: bins from 0 and from -0 are one.
    let bin_of = |row: usize| [starts[row] + 0.0, ends[row] + 0.0];
    let mut bins: Vec<[f64; 2]> = (0..rows).map(bin_of).collect();
    bins.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    bins.dedup();
    let number_of: BTreeMap<[u64; 2], usize> = bins
        .iter()
        .enumerate()
        .map(|(number, bin)| (bin.map(f64::to_bits), number))
        .collect();
    let bin: Vec<usize> = (0..rows).map(|row| number_of[&bin_of(row).map(f64::to_bits)]).collect();

    // A neuron is one of an animal and a session.
    let label = |column: Option<&[Value]>, row: usize| match column.map(|values| &values[row]) {
        None | Some(Value::Null) => String::new(),
        Some(value) => id(value),
    };
    let mut found: IndexSet<Neuron> = IndexSet::new();
    let mut by_id: BTreeMap<(usize, String, String), usize> = BTreeMap::new();
    let mut neuron = Vec::with_capacity(rows);
    for row in 0..rows {
        let own = (neurons.of_row[row], label(animals, row), label(sessions, row));
        let region = label(regions, row);
        let place = *by_id.entry(own).or_insert_with_key(|(id, animal, session)| {
            let (place, _) = found.insert_full(Neuron {
                id: neurons.names[*id].clone(),
                region: region.clone(),
                animal: animal.clone(),
                session: session.clone(),
            });
            place
        });
        if found[place].region != region {
            let problem = format!(
                "{} puts neuron `{}` into `{region}`, an earlier one into `{}`",
                table.place(row),
                found[place].id,
                found[place].region
            );
            return Err(wrong("region", problem));
        }
        neuron.push(place);
    }

    let order = RowsOf {
        stimulus: &stimuli.of_row,
        neuron: &neuron,
        bin: &bin,
    };
    let repetition = order.repetitions(repetitions.as_ref());
    let count = repetition.iter().max().map_or(0, |last| last + 1);
    let sizes = [stimuli.names.len(), count, found.len(), bins.len()];
    let total = plan_size(sizes, &format!("{rows} rows")).map_err(|error| wrong("response", error.to_string()))?;
    let mut values = vec![f64::NAN; total];
    let mut seen = vec![false; total];
    let mut object_of: Vec<Option<usize>> = vec![None; stimuli.names.len()];
    for row in 0..rows {
        let stimulus = stimuli.of_row[row];
        let place = ((stimulus * count + repetition[row]) * found.len() + neuron[row]) * bins.len() + bin[row];
        if std::mem::replace(&mut seen[place], true) {
            let named = repetitions.as_ref().map_or("", |all| all.name(row));
            return Err(wrong(
                "response",
                format!(
                    "{} is a second one for stimulus `{}`, repetition `{named}`, neuron `{}` in the same time bin",
                    table.place(row),
                    stimuli.name(row),
                    neurons.name(row)
                ),
            ));
        }
        values[place] = responses[row];
        if let Some(objects) = &objects {
            let own = objects.of_row[row];
            if object_of[stimulus].replace(own).is_some_and(|before| before != own) {
                let problem = format!(
                    "{} gives stimulus `{}` a second class, `{}`",
                    table.place(row),
                    stimuli.name(row),
                    objects.name(row)
                );
                return Err(wrong("object_name", problem));
            }
        }
    }
    let objects = objects.map_or_else(Vec::new, |objects| {
        object_of
            .into_iter()
            .flatten()
            .map(|own| objects.names[own].clone())
            .collect()
    });
    let recordings = Recordings {
        stimuli: stimuli.names.into_iter().collect(),
        objects,
        neurons: found.into_iter().collect(),
        bins_ms: bins,
        repetitions: count,
        responses: values,
    };
    Ok(recordings.new()?)
}

/// Names, each once, and which of them stands in each row.
struct Named {
    names: IndexSet<String>,
    of_row: Vec<usize>,
}

impl Named {
    fn name(&self, row: usize) -> &str {
        &self.names[self.of_row[row]]
    }
}

/// What each row is of.
struct RowsOf<'a> {
    stimulus: &'a [usize],
    neuron: &'a [usize],
    bin: &'a [usize],
}

impl RowsOf<'_> {
    /// The repetition of each row, from 0.
    fn repetitions(&self, named: Option<&Named>) -> Vec<usize> {
        let rows = self.stimulus.len();
        // The next free number of a stimulus, neuron and time bin.
        let count_up = |order: &[usize]| -> Vec<usize> {
            let mut next: BTreeMap<[usize; 3], usize> = BTreeMap::new();
            let mut repetition = vec![0; rows];
            for row in order {
                let own = next
                    .entry([self.stimulus[*row], self.neuron[*row], self.bin[*row]])
                    .or_default();
                repetition[*row] = *own;
                *own += 1;
            }
            repetition
        };
        let in_order: Vec<usize> = (0..rows).collect();
        let Some(named) = named else {
            return count_up(&in_order);
        };
        let rank = rank(&named.names);
        let number = |row: usize| rank[named.of_row[row]];
        // The names that stand with each stimulus and neuron, in their order: its presentations.
        let mut pairs: Vec<[usize; 3]> = (0..rows)
            .map(|row| [self.stimulus[row], self.neuron[row], number(row)])
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        let most = pairs
            .chunk_by(|a, b| a[..2] == b[..2])
            .map(<[_]>::len)
            .max()
            .unwrap_or(0);
        if !running_numbers(named.names.len(), most) {
            return (0..rows).map(number).collect();
        }
        (0..rows)
            .map(|row| {
                let own = [self.stimulus[row], self.neuron[row], number(row)];
                let first = pairs.partition_point(|pair| *pair < [own[0], own[1], 0]);
                pairs.binary_search(&own).unwrap_or(first) - first
            })
            .collect()
    }
}

/// The place of each name in the order of ids.
fn rank(names: &IndexSet<String>) -> Vec<usize> {
    let names: Vec<String> = names.iter().cloned().collect();
    let mut rank = vec![0; names.len()];
    for (place, name) in id_order(&names).into_iter().enumerate() {
        rank[name] = place;
    }
    rank
}

/// Ids: whole numbers without a point.
pub(super) fn id(value: &Value) -> String {
    match value {
        Value::Float(number) => number.to_string(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_with_a_sign_begins_the_same_bin() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.csv");
        let text = "stimulus_id,neuroid_id,time_bin_start,time_bin_end,response\na,n,0.0,10,1\nb,n,-0.0,10,2\n";
        std::fs::write(&path, text).expect("written");
        let found = from_table(&Table::read(&path).expect("a table"), &path).expect("recordings");
        assert_eq!((found.bins_ms, found.responses), (vec![[0.0, 10.0]], vec![1.0, 2.0]));
    }
}
