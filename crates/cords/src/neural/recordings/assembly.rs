//! Recordings from named axes and their coordinates, as arrays in files have them.

use std::path::{Path, PathBuf};

use super::{Neuron, Presentations, Recordings, from_presentations};
use crate::neural::NeuralError;

/// A variable of a file, as text or as numbers.
pub(super) enum Values {
    Text(Vec<String>),
    Numbers(Vec<f64>),
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Numbers(values) => values.len(),
        }
    }

    /// Ids: whole numbers without a point.
    fn into_ids(self) -> Vec<String> {
        match self {
            Self::Text(values) => values,
            Self::Numbers(values) => values.iter().map(f64::to_string).collect(),
        }
    }
}

/// A file whose variables can be read by name.
pub(super) trait Source {
    fn path(&self) -> &Path;
    /// Whether there is a variable of that name.
    fn has(&self, name: &str) -> bool;
    /// Its values, or what is wrong with it.
    fn read(&self, name: &str) -> Result<Values, String>;
}

/// The responses within a file and what its axes are.
pub(super) struct Array {
    /// Name of the variable.
    pub(super) variable: String,
    pub(super) values: Vec<f64>,
    /// Extents of `values`, in the order of its axes.
    pub(super) shape: Vec<usize>,
    pub(super) axes: Vec<Axis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// A presentation, or a stimulus beside an axis of repetitions.
    Presentation,
    Repetition,
    Neuron,
    Bin,
}

const STIMULUS: [&str; 2] = ["stimulus_id", "image_id"];
const OBJECT: [&str; 2] = ["object_name", "category_name"];
const REPETITION: [&str; 1] = ["repetition"];
const NEURON: [&str; 3] = ["neuroid_id", "neuron_id", "unit_id"];
const REGION: [&str; 2] = ["region", "brain_area"];

/// Makes recordings of the responses and of the coordinates that stand beside them.
pub(super) fn assemble(source: &dyn Source, array: &Array) -> Result<Recordings, NeuralError> {
    let extent = |axis: Axis| {
        let place = array.axes.iter().position(|a| *a == axis);
        place.map_or(1, |place| array.shape[place])
    };
    let (shown, repeated) = (extent(Axis::Presentation), extent(Axis::Repetition));
    let (neurons, bins) = (extent(Axis::Neuron), extent(Axis::Bin));
    let stimuli = required(source, &STIMULUS, shown, "one id for each presentation")?.into_ids();
    let objects = optional(source, &OBJECT, shown)?.map_or_else(Vec::new, Values::into_ids);
    let has_axis = array.axes.contains(&Axis::Repetition);
    let repetitions = match has_axis {
        true => (0..shown * repeated).map(|i| (i % repeated).to_string()).collect(),
        false => optional(source, &REPETITION, shown)?.map_or_else(Vec::new, Values::into_ids),
    };
    let each = |values: Vec<String>| -> Vec<String> {
        values
            .into_iter()
            .flat_map(|v| std::iter::repeat_n(v, repeated))
            .collect()
    };
    let ids = optional(source, &NEURON, neurons)?
        .map_or_else(|| (0..neurons).map(|n| n.to_string()).collect(), Values::into_ids);
    let regions = optional(source, &REGION, neurons)?.map_or_else(|| vec![String::new(); neurons], Values::into_ids);
    let edge = |name: &str| match required(source, &[name], bins, "the edge of each time bin in ms")? {
        Values::Numbers(values) => Ok(values),
        Values::Text(_) => Err(variable(source.path(), name, "is text, not times in ms")),
    };
    let bins_ms = edge("time_bin_start")?
        .into_iter()
        .zip(edge("time_bin_end")?)
        .map(|(a, b)| [a, b]);
    let mut strides = vec![1; array.shape.len()];
    for i in (1..array.shape.len()).rev() {
        strides[i - 1] = strides[i] * array.shape[i];
    }
    let stride = |axis: Axis| {
        array
            .axes
            .iter()
            .position(|a| *a == axis)
            .map_or(0, |place| strides[place])
    };
    let by = [Axis::Presentation, Axis::Repetition, Axis::Neuron, Axis::Bin].map(stride);
    let shown = Presentations {
        stimuli: each(stimuli),
        repetitions,
        objects: each(objects),
    };
    let neurons = ids
        .into_iter()
        .zip(regions)
        .map(|(id, region)| Neuron { id, region })
        .collect();
    from_presentations(&shown, neurons, bins_ms.collect(), |p, n, b| {
        array.values[p / repeated * by[0] + p % repeated * by[1] + n * by[2] + b * by[3]]
    })
    .map_err(|error| match error {
        NeuralError::Recordings { problem } => variable(source.path(), &array.variable, &problem),
        other => other,
    })
}

pub(super) fn variable(path: &Path, name: &str, problem: &str) -> NeuralError {
    NeuralError::Variable {
        path: PathBuf::from(path),
        variable: name.to_owned(),
        problem: problem.to_owned(),
    }
}

/// The first of several names that is there, of the right length.
fn optional(source: &dyn Source, names: &[&str], length: usize) -> Result<Option<Values>, NeuralError> {
    let Some(name) = names.iter().find(|name| source.has(name)) else {
        return Ok(None);
    };
    let values = source
        .read(name)
        .map_err(|problem| variable(source.path(), name, &problem))?;
    if values.len() != length {
        let problem = format!("has {} values, the responses need {length}", values.len());
        return Err(variable(source.path(), name, &problem));
    }
    Ok(Some(values))
}

fn required(source: &dyn Source, names: &[&str], length: usize, what: &str) -> Result<Values, NeuralError> {
    let missing = || variable(source.path(), names[0], &format!("is missing; it holds {what}"));
    optional(source, names, length)?.ok_or_else(missing)
}
