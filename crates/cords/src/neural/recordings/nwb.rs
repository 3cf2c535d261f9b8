//! Neurodata Without Borders (HDF5): spike times of units, counted in time bins after the onsets of a stimulus table.

use std::collections::BTreeMap;
use std::path::Path;

use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};

use super::assembly::{Values, guarded, variable};
use super::filters::registry;
use super::{Neuron, Presentations, Recordings, from_presentations};
use crate::neural::NeuralError;
use dynvis_base::memory;

/// What to take from an NWB file.
#[derive(Clone, Debug, PartialEq)]
pub struct NwbOptions {
    /// Time bins, start and end in ms after stimulus onset.
    pub bins_ms: Vec<[f64; 2]>,
    /// Name of the table of stimuli below `intervals`.
    pub table: String,
    /// Column of the table of stimuli with their ids.
    pub stimulus: String,
    /// Column of the table of stimuli with their classes, if there is one.
    pub object: String,
}

impl Default for NwbOptions {
    fn default() -> Self {
        Self {
            bins_ms: vec![[70.0, 170.0]],
            table: "trials".to_owned(),
            stimulus: "stimulus_id".to_owned(),
            object: "object_name".to_owned(),
        }
    }
}

struct Nwb<'a> {
    path: &'a Path,
    file: Hdf5File,
}

/// Where electrodes are described.
const EPHYS: &str = "/general/extracellular_ephys";

impl Recordings {
    /// Reads units and stimuli; responses are rates in spikes/s in bins that hold their start and not their end. Units
    /// are called by their `id`, and their regions come from their own column `region`, `brain_area` or `location`,
    /// else from the `location` of their first electrode, else from that of their `electrode_group`. Animal and session
    /// are the file's `subject_id` and `session_id`.
    ///
    /// Responses are missing (NaN) in trials without a start time, and in bins that a unit's `obs_intervals` do not
    /// cover.
    ///
    /// # Errors
    /// [`NeuralError::File`] where the file is no HDF5; [`NeuralError::Variable`] with the path of the data set that is
    /// missing, damaged or contradicts another, or of ids and spike times that are no numbers.
    pub fn from_nwb(path: &Path, options: &NwbOptions) -> Result<Self, NeuralError> {
        guarded(path, || {
            let limits = OpenOptions::default()
                .with_filter_registry(registry())
                .with_max_read_bytes(usize::try_from(memory::room()).unwrap_or(usize::MAX));
            let file = Hdf5File::open_with_options(path, limits).map_err(|error| NeuralError::File {
                path: path.to_owned(),
                problem: format!("is not an HDF5 file, or damaged: {error}"),
            })?;
            Nwb { path, file }.recordings(options)
        })
    }
}

/// When each unit was recorded, in s; `None` where a file does not say.
type Observed = Option<Vec<Vec<[f64; 2]>>>;

impl Nwb<'_> {
    fn recordings(&self, options: &NwbOptions) -> Result<Recordings, NeuralError> {
        let path = self.path;
        let table = format!("/intervals/{}", options.table);
        let onsets = self.numbers(&format!("{table}/start_time"))?;
        let named = format!("{table}/{}", options.stimulus);
        let stimuli = self.values(&named)?.into_optional_ids();
        if stimuli.len() != onsets.len() {
            let problem = format!("has {} ids of {} onsets", stimuli.len(), onsets.len());
            return Err(variable(path, &named, &problem));
        }
        let class = format!("{table}/{}", options.object);
        let objects = if self.has(&class) {
            let objects = self.values(&class)?.into_optional_ids();
            if objects.len() != onsets.len() {
                let problem = format!("has {} classes of {} onsets", objects.len(), onsets.len());
                return Err(variable(path, &class, &problem));
            }
            objects
        } else {
            Vec::new()
        };
        // A trial that has neither an onset nor a stimulus is none.
        let trials: Vec<usize> = (0..onsets.len())
            .filter(|t| stimuli[*t].is_some() || !onsets[*t].is_nan())
            .collect();
        let of_trials = |name: &str, ids: &[Option<String>]| -> Result<Vec<String>, NeuralError> {
            let id = |t: &usize| {
                let missing = || variable(path, name, &format!("trial {t} (from 0) has none (NaN)"));
                ids[*t].clone().ok_or_else(missing)
            };
            trials.iter().map(id).collect()
        };
        let shown = Presentations {
            stimuli: of_trials(&named, &stimuli)?,
            repetitions: Vec::new(),
            objects: if objects.is_empty() {
                Vec::new()
            } else {
                of_trials(&class, &objects)?
            },
        };
        let onsets: Vec<f64> = trials.iter().map(|t| onsets[*t]).collect();

        let mut spikes = self.ragged("/units/spike_times")?;
        let ids = self.values("/units/id")?;
        let ids = ids
            .into_ids()
            .map_err(|problem| variable(path, "/units/id", &problem))?;
        if ids.len() != spikes.len() {
            let problem = format!("has {} units, spike times {}", ids.len(), spikes.len());
            return Err(variable(path, "/units/id", &problem));
        }
        for (times, id) in spikes.iter_mut().zip(&ids) {
            if let Some(place) = times.iter().position(|time| time.is_nan()) {
                let problem = format!("spike {} of unit `{id}` has no time (NaN)", place + 1);
                return Err(variable(path, "/units/spike_times", &problem));
            }
            times.sort_by(f64::total_cmp);
        }
        let observed = self.observed(spikes.len())?;
        let regions = self.regions(spikes.len())?;
        let animal = self.text("/general/subject/subject_id");
        let session = self.text("/general/session_id");
        let neurons = ids
            .into_iter()
            .zip(regions)
            .map(|(id, region)| Neuron {
                id,
                region,
                animal: animal.clone(),
                session: session.clone(),
            })
            .collect();
        from_presentations(&shown, neurons, options.bins_ms.clone(), |p, n, b| {
            let [start, end] = options.bins_ms[b].map(|edge| edge * 1e-3);
            let [from, to] = [onsets[p] + start, onsets[p] + end];
            // A trial without an onset has no bins.
            if from.is_nan() || observed.as_ref().is_some_and(|all| !covers(&all[n], from, to)) {
                return f64::NAN;
            }
            let before = |time: f64| spikes[n].partition_point(|spike| *spike < time);
            (before(to) - before(from)) as f64 / (end - start)
        })
    }

    fn has(&self, name: &str) -> bool {
        self.file.dataset(name).is_ok()
    }

    fn dataset(&self, name: &str) -> Result<Dataset, NeuralError> {
        let dataset = self.file.dataset(name);
        dataset.map_err(|error| variable(self.path, name, &format!("cannot be found: {error}")))
    }

    /// A text that may be missing.
    fn text(&self, name: &str) -> String {
        let text = self.file.dataset(name).and_then(|dataset| dataset.read_string());
        text.unwrap_or_default()
    }

    /// Values of any type; of an enumeration their names.
    fn values(&self, name: &str) -> Result<Values, NeuralError> {
        let dataset = self.dataset(name)?;
        let values = self
            .read(&dataset)
            .map_err(|problem| variable(self.path, name, &problem))?;
        let Some(elements) = self.elements(name, &dataset)? else {
            return Ok(values);
        };
        let wrong = |problem: String| variable(self.path, name, &problem);
        let numbers = values
            .into_numbers()
            .ok_or_else(|| wrong("is text and has elements".to_owned()))?;
        let element = |number: &f64| {
            let place = (*number >= 0.0 && number.fract() == 0.0).then_some(*number as usize);
            let found = place.and_then(|place| elements.get(place)).cloned();
            found.ok_or_else(|| {
                wrong(format!(
                    "holds {number}, which is none of its {} elements",
                    elements.len()
                ))
            })
        };
        Ok(Values::Text(numbers.iter().map(element).collect::<Result<_, _>>()?))
    }

    fn read(&self, dataset: &Dataset) -> Result<Values, String> {
        let cannot = |error: hdf5_reader::error::Error| format!("cannot be read: {error}");
        let count = dataset.num_elements().map_err(cannot)?;
        memory::check_room(count.saturating_mul(3 * 8)).map_err(|error| error.to_string())?;
        macro_rules! numbers {
            ($type:ty) => {
                Values::Numbers(
                    dataset
                        .read_array::<$type>()
                        .map_err(cannot)?
                        .iter()
                        .map(|v| *v as f64)
                        .collect(),
                )
            };
        }
        macro_rules! whole {
            ($type:ty) => {{
                let values = dataset.read_array::<$type>().map_err(cannot)?;
                Values::Whole(values.iter().map(|v| Some(i128::from(*v))).collect())
            }};
        }
        Ok(match dataset.dtype() {
            Datatype::FixedPoint { size, signed, .. } => match (*size, *signed) {
                (1, true) => numbers!(i8),
                (2, true) => numbers!(i16),
                (4, true) => numbers!(i32),
                (8, true) => whole!(i64),
                (1, false) => numbers!(u8),
                (2, false) => numbers!(u16),
                (4, false) => numbers!(u32),
                (8, false) => whole!(u64),
                (size, _) => return Err(format!("has whole numbers of {size} bytes, which are not read")),
            },
            Datatype::FloatingPoint { size: 4, .. } => numbers!(f32),
            Datatype::FloatingPoint { .. } => numbers!(f64),
            Datatype::Enum { base, members } => {
                let size = hdf5_reader::dtype_element_size(base).map_err(cannot)?;
                let raw = dataset.read_raw_bytes().map_err(cannot)?;
                let member = |value: &[u8]| {
                    let member = members.iter().find(|member| member.value == value);
                    member
                        .map(|m| m.name.clone())
                        .ok_or("holds a value that its type does not name")
                };
                Values::Text(raw.chunks_exact(size.max(1)).map(member).collect::<Result<_, _>>()?)
            }
            _ => Values::Text(dataset.read_strings().map_err(cannot)?),
        })
    }

    /// The names that an enumerated column's numbers stand for: the data set `NAME_elements` beside it, or what its
    /// attribute `elements` refers to.
    fn elements(&self, name: &str, dataset: &Dataset) -> Result<Option<Vec<String>>, NeuralError> {
        let beside = format!("{name}_elements");
        let named = |name: &str| -> Result<Option<Vec<String>>, NeuralError> {
            let found = self.dataset(name)?;
            let names = self.read(&found).and_then(Values::into_ids);
            Ok(Some(names.map_err(|problem| variable(self.path, name, &problem))?))
        };
        if self.has(&beside) {
            return named(&beside);
        }
        let Ok(attribute) = dataset.attribute("elements") else {
            return Ok(None);
        };
        let (folder, _) = name.rsplit_once('/').unwrap_or_default();
        let address = address(&attribute.raw_data);
        let siblings = self
            .file
            .group(folder)
            .and_then(|group| group.datasets())
            .unwrap_or_default();
        match siblings.iter().find(|sibling| Some(sibling.address()) == address) {
            Some(sibling) => named(&format!(
                "{folder}/{}",
                sibling.name().rsplit('/').next().unwrap_or_default()
            )),
            None => Err(variable(
                self.path,
                name,
                "is enumerated (attribute `elements`), and its elements are not in the same table",
            )),
        }
    }

    /// Numbers of any type.
    fn numbers(&self, name: &str) -> Result<Vec<f64>, NeuralError> {
        let values = self.values(name)?.into_numbers();
        values.ok_or_else(|| variable(self.path, name, "is text, not numbers"))
    }

    /// The rows of a ragged column: where each starts and ends, of `count` values, from `NAME_index`.
    fn rows(&self, name: &str, count: usize) -> Result<Vec<std::ops::Range<usize>>, NeuralError> {
        let index = format!("{name}_index");
        let ends = self.numbers(&index)?;
        let wrong = |problem: String| variable(self.path, &index, &problem);
        let mut start = 0;
        let mut rows = Vec::with_capacity(ends.len());
        for (row, end) in ends.iter().enumerate() {
            if end.is_nan() || end.fract() != 0.0 || *end < start as f64 || *end > count as f64 {
                return Err(wrong(format!(
                    "row {row} (from 0) ends at {end}; ends must not decrease (the one before is {start}), and \
                     `{name}` has {count} values"
                )));
            }
            rows.push(start..*end as usize);
            start = *end as usize;
        }
        if start != count {
            return Err(wrong(format!("ends at {start}, but `{name}` has {count} values")));
        }
        Ok(rows)
    }

    /// A column with a list of numbers in every row of the table.
    fn ragged(&self, name: &str) -> Result<Vec<Vec<f64>>, NeuralError> {
        let values = self.numbers(name)?;
        let rows = self.rows(name, values.len())?;
        Ok(rows.into_iter().map(|row| values[row].to_vec()).collect())
    }

    /// Intervals in which each unit was observed.
    fn observed(&self, units: usize) -> Result<Observed, NeuralError> {
        let name = "/units/obs_intervals";
        if !(self.has(name) && self.has(&format!("{name}_index"))) {
            return Ok(None);
        }
        let edges = self.numbers(name)?;
        let wrong = |problem: &str| variable(self.path, name, problem);
        let (intervals, rest) = edges.as_chunks::<2>();
        if !rest.is_empty()
            || intervals
                .iter()
                .any(|[start, end]| start.is_nan() || end.is_nan() || end < start)
        {
            return Err(wrong("an interval has no end, or ends before it starts"));
        }
        let rows = self.rows(name, intervals.len())?;
        if rows.len() != units {
            return Err(wrong(&format!("has {} rows of {units} units", rows.len())));
        }
        Ok(Some(rows.into_iter().map(|row| joined(&intervals[row])).collect()))
    }

    fn regions(&self, units: usize) -> Result<Vec<String>, NeuralError> {
        let counted = |name: &str, count: usize| match count == units {
            true => Ok(()),
            false => Err(variable(
                self.path,
                name,
                &format!("has {count} values of {units} units"),
            )),
        };
        let own = ["region", "brain_area", "location"].map(|column| format!("/units/{column}"));
        if let Some(column) = own.iter().find(|column| self.has(column)) {
            let regions = self.values(column)?.into_optional_ids();
            counted(column, regions.len())?;
            return Ok(regions.into_iter().map(Option::unwrap_or_default).collect());
        }
        let mut regions = vec![String::new(); units];
        let places = format!("{EPHYS}/electrodes/location");
        let column = "/units/electrodes";
        if self.has(column) && self.has(&places) {
            let places = self.values(&places)?.into_optional_ids();
            let electrodes = self.ragged(column)?;
            counted(column, electrodes.len())?;
            for (region, rows) in regions.iter_mut().zip(&electrodes) {
                let Some(row) = rows.first() else { continue };
                let place = (*row >= 0.0 && row.fract() == 0.0).then_some(*row as usize);
                let Some(found) = place.and_then(|place| places.get(place)) else {
                    let problem = format!("refers to electrode {row} (from 0) of {}", places.len());
                    return Err(variable(self.path, column, &problem));
                };
                *region = found.clone().unwrap_or_default();
            }
        }
        let column = "/units/electrode_group";
        if regions.iter().any(String::is_empty) && self.has(column) {
            let groups = self.of_groups(column)?;
            counted(column, groups.len())?;
            for (region, group) in regions.iter_mut().zip(groups).filter(|(region, _)| region.is_empty()) {
                *region = group;
            }
        }
        Ok(regions)
    }

    /// The `location` of the groups of electrodes that a column refers to, by reference or by name.
    fn of_groups(&self, column: &str) -> Result<Vec<String>, NeuralError> {
        let wrong = |problem: String| variable(self.path, column, &problem);
        let cannot = |error: hdf5_reader::error::Error| wrong(format!("cannot be read: {error}"));
        let groups = self
            .file
            .group(EPHYS)
            .and_then(|group| group.groups())
            .map_err(cannot)?;
        let mut by_address = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for group in groups {
            // The current format has an attribute, the first one had a data set.
            let location = match group
                .attribute("location")
                .and_then(|attribute| attribute.read_string())
            {
                Ok(location) => location,
                Err(_) => self.text(&format!("{EPHYS}/{}/location", group.name())),
            };
            by_address.insert(group.address(), location.clone());
            by_name.insert(group.name().to_owned(), location);
        }
        let dataset = self.dataset(column)?;
        if !matches!(dataset.dtype(), Datatype::Reference { .. }) {
            let names = self.values(column)?.into_optional_ids();
            let place = |name: Option<String>| match name {
                None => Ok(String::new()),
                Some(name) => {
                    let found = by_name.get(name.rsplit('/').next().unwrap_or_default()).cloned();
                    found.ok_or_else(|| wrong(format!("names `{name}`, which is not a group in {EPHYS}")))
                }
            };
            return names.into_iter().map(place).collect();
        }
        let size = hdf5_reader::dtype_element_size(dataset.dtype()).map_err(cannot)?;
        let raw = dataset.read_raw_bytes().map_err(cannot)?;
        let place = |reference: &[u8]| match address(reference) {
            // A reference to nothing.
            Some(0 | u64::MAX) | None => Ok(String::new()),
            Some(address) => {
                let found = by_address.get(&address).cloned();
                found.ok_or_else(|| wrong(format!("refers to something that is not a group in {EPHYS}")))
            }
        };
        raw.chunks_exact(size.max(1)).map(place).collect()
    }
}

/// An object's address, as a reference holds it.
fn address(reference: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..reference.len())?.copy_from_slice(reference);
    (!reference.is_empty()).then(|| u64::from_le_bytes(bytes))
}

/// Sums of times in s are rounded: so much may be missing at the end of an interval.
const ROUNDING: f64 = 1e-6;

/// Intervals in order, those that touch as one.
fn joined(intervals: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut sorted = intervals.to_vec();
    sorted.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut found: Vec<[f64; 2]> = Vec::with_capacity(sorted.len());
    for [start, end] in sorted {
        match found.last_mut() {
            Some(last) if start <= last[1] + ROUNDING => last[1] = last[1].max(end),
            _ => found.push([start, end]),
        }
    }
    found
}

/// Whether one of the intervals, in order, holds all of a time bin.
fn covers(intervals: &[[f64; 2]], from: f64, to: f64) -> bool {
    let place = intervals.partition_point(|[start, _]| *start <= from + ROUNDING);
    place > 0 && to <= intervals[place - 1][1] + ROUNDING
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial's interval from 0.1 to 0.3 s holds its bin of 200 ms, which ends at 0.1 + 0.2 > 0.3.
    #[test]
    fn intervals_cover_bins_in_spite_of_rounding() {
        let intervals = joined(&[[0.5, 0.7], [0.1, 0.3], [0.7 + 1e-9, 0.9]]);
        assert_eq!(intervals, [[0.1, 0.3], [0.5, 0.9]]);
        assert!(0.1 + 0.2 > 0.3 && covers(&intervals, 0.1, 0.1 + 0.2));
        assert!(covers(&intervals, 0.6, 0.8) && covers(&intervals, 0.5 - 1e-9, 0.6));
        assert!(!covers(&intervals, 0.1, 0.301) && !covers(&intervals, 0.099, 0.2) && !covers(&intervals, 0.3, 0.5));
    }
}
