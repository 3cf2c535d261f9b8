//! Recordings from named axes and their coordinates, as arrays in files have them.

use std::path::{Path, PathBuf};

use super::{Neuron, Presentations, Recordings, from_presentations};
use crate::neural::NeuralError;
use dynvis_base::guard::guard;

/// A variable of a file, as text or as numbers.
pub(super) enum Values {
    Text(Vec<String>),
    /// NaN where a value is missing.
    Numbers(Vec<f64>),
    /// Whole numbers, exact; `None` where a value is missing.
    Whole(Vec<Option<i128>>),
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Numbers(values) => values.len(),
            Self::Whole(values) => values.len(),
        }
    }

    /// Ids, `None` where one is missing: whole numbers without a point.
    pub(super) fn into_optional_ids(self) -> Vec<Option<String>> {
        match self {
            Self::Text(values) => values.into_iter().map(Some).collect(),
            Self::Numbers(values) => values.iter().map(|v| (!v.is_nan()).then(|| v.to_string())).collect(),
            Self::Whole(values) => values.iter().map(|v| v.map(|v| v.to_string())).collect(),
        }
    }

    /// Ids, all of which must be there.
    pub(super) fn into_ids(self) -> Result<Vec<String>, String> {
        let ids = self.into_optional_ids();
        let count = ids.len();
        let id = |(place, id): (usize, Option<String>)| {
            id.ok_or_else(|| format!("value {} of {count} is missing (NaN)", place + 1))
        };
        ids.into_iter().enumerate().map(id).collect()
    }

    /// Numbers, NaN where a value is missing; `None` for text.
    pub(super) fn into_numbers(self) -> Option<Vec<f64>> {
        match self {
            Self::Text(_) => None,
            Self::Numbers(values) => Some(values),
            Self::Whole(values) => Some(values.iter().map(|v| v.map_or(f64::NAN, |v| v as f64)).collect()),
        }
    }
}

/// A file whose variables can be read by name.
pub(super) trait VariableFile {
    fn path(&self) -> &Path;
    /// Whether there is a variable of that name.
    fn has(&self, name: &str) -> bool;
    /// Its values, or what is wrong with it.
    fn read(&self, name: &str) -> Result<Values, String>;
    /// Milliseconds in the unit of a variable of times, which is ms where it states none.
    fn unit_ms(&self, _name: &str) -> Result<f64, String> {
        Ok(1.0)
    }
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
const ANIMAL: [&str; 3] = ["animal", "subject", "subject_id"];
const SESSION: [&str; 2] = ["session", "session_id"];

/// Runs the reader of a file: where it gives up by a panic, that is an error which names the file.
pub(super) fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, NeuralError>) -> Result<T, NeuralError> {
    dynvis_base::files::check(path)?;
    guard(read).unwrap_or_else(|panicked| {
        Err(NeuralError::File {
            path: path.to_owned(),
            problem: panicked.to_string(),
        })
    })
}

/// Makes recordings of the responses and of the coordinates that stand beside them.
pub(super) fn assemble(source: &dyn VariableFile, array: &Array) -> Result<Recordings, NeuralError> {
    let extent = |axis: Axis| {
        let place = array.axes.iter().position(|a| *a == axis);
        place.map_or(1, |place| array.shape[place])
    };
    let (shown, repeated) = (extent(Axis::Presentation), extent(Axis::Repetition));
    let (neurons, bins) = (extent(Axis::Neuron), extent(Axis::Bin));
    let stimuli =
        ids(source, &STIMULUS, shown)?.ok_or_else(|| missing(source, STIMULUS[0], "one id for each presentation"))?;
    let objects = ids(source, &OBJECT, shown)?.unwrap_or_default();
    let has_axis = array.axes.contains(&Axis::Repetition);
    let repetitions = match has_axis {
        true => (0..shown * repeated).map(|i| (i % repeated).to_string()).collect(),
        false => ids(source, &REPETITION, shown)?.unwrap_or_default(),
    };
    let each = |values: Vec<String>| -> Vec<String> {
        values
            .into_iter()
            .flat_map(|v| std::iter::repeat_n(v, repeated))
            .collect()
    };
    let names = ids(source, &NEURON, neurons)?.unwrap_or_else(|| (0..neurons).map(|n| n.to_string()).collect());
    // A neuron may have none of these.
    let labels = |names: &[&str]| -> Result<Vec<String>, NeuralError> {
        Ok(match optional(source, names, neurons)? {
            None => vec![String::new(); neurons],
            Some((_, values)) => values
                .into_optional_ids()
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect(),
        })
    };
    let (regions, animals, sessions) = (labels(&REGION)?, labels(&ANIMAL)?, labels(&SESSION)?);
    let edge = |name: &str| -> Result<Vec<f64>, NeuralError> {
        let wrong = |problem: &str| variable(source.path(), name, problem);
        let found = optional(source, &[name], bins)?;
        let (_, values) = found.ok_or_else(|| missing(source, name, "the edge of each time bin in ms"))?;
        let values = values.into_numbers().ok_or_else(|| wrong("is text, not times in ms"))?;
        let unit = source.unit_ms(name).map_err(|problem| wrong(&problem))?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(wrong("has a time bin without an edge (NaN)"));
        }
        // Rounded, since 0.07 s is 70 ms and no bit more.
        let ms = |v: &f64| {
            if unit == 1.0 {
                *v
            } else {
                (v * unit * 1e9).round() / 1e9
            }
        };
        Ok(values.iter().map(ms).collect())
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
    let neurons = names
        .into_iter()
        .zip(regions)
        .zip(animals.into_iter().zip(sessions))
        .map(|((id, region), (animal, session))| Neuron {
            id,
            region,
            animal,
            session,
        })
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

fn missing(source: &dyn VariableFile, name: &str, what: &str) -> NeuralError {
    variable(source.path(), name, &format!("is missing; it holds {what}"))
}

/// The first of several names that is there, and its values, of the right length.
fn optional<'a>(
    source: &dyn VariableFile,
    names: &[&'a str],
    length: usize,
) -> Result<Option<(&'a str, Values)>, NeuralError> {
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
    Ok(Some((name, values)))
}

/// Ids under the first of several names that is there.
fn ids(source: &dyn VariableFile, names: &[&str], length: usize) -> Result<Option<Vec<String>>, NeuralError> {
    let Some((name, values)) = optional(source, names, length)? else {
        return Ok(None);
    };
    let ids = values.into_ids();
    Ok(Some(ids.map_err(|problem| variable(source.path(), name, &problem))?))
}
