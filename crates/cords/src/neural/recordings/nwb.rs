//! Neurodata Without Borders (HDF5): spike times of units, counted in time bins after the onsets of a stimulus table.

use std::path::Path;

use hdf5_reader::{Dataset, Hdf5File};

use super::assembly::variable;
use super::{Neuron, Presentations, Recordings, from_presentations};
use crate::neural::NeuralError;

/// What to take from an NWB file.
#[derive(Clone, Debug, PartialEq)]
pub struct NwbOptions {
    /// Time bins, start and end in ms after stimulus onset.
    pub bins_ms: Vec<[f64; 2]>,
    /// Name of the table of stimuli below `intervals`.
    pub table: String,
    /// Its column with the stimulus's id.
    pub stimulus: String,
    /// Its column with the stimulus's class, if there is one.
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

impl Recordings {
    /// Reads units and stimuli; responses are rates in spikes/s in bins that hold their start and not their end. Units are
    /// called by their `id`, and their regions come from their own column `region`, `brain_area` or `location`, else from
    /// the `location` of their first electrode.
    ///
    /// # Errors
    /// A file that is no HDF5; a data set that is missing or damaged, by its path within the file.
    pub fn from_nwb(path: &Path, options: &NwbOptions) -> Result<Self, NeuralError> {
        let file = Hdf5File::open(path).map_err(|error| NeuralError::File {
            path: path.to_owned(),
            problem: format!("is not an HDF5 file, or damaged: {error}"),
        })?;
        let nwb = Nwb { path, file };
        let table = format!("/intervals/{}", options.table);
        let onsets = nwb.numbers(&format!("{table}/start_time"))?;
        let stimuli = nwb.ids(&format!("{table}/{}", options.stimulus))?;
        let class = format!("{table}/{}", options.object);
        let objects = if nwb.has(&class) { nwb.ids(&class)? } else { Vec::new() };
        if stimuli.len() != onsets.len() {
            let problem = format!("has {} ids of {} onsets", stimuli.len(), onsets.len());
            return Err(variable(path, &format!("{table}/{}", options.stimulus), &problem));
        }
        let spikes = nwb.ragged("/units/spike_times")?;
        let ids = nwb.ids("/units/id")?;
        if ids.len() != spikes.len() {
            let problem = format!("has {} units, spike times {}", ids.len(), spikes.len());
            return Err(variable(path, "/units/id", &problem));
        }
        let regions = nwb.regions(spikes.len())?;
        let spikes: Vec<Vec<f64>> = spikes
            .into_iter()
            .map(|mut times| {
                times.sort_by(f64::total_cmp);
                times
            })
            .collect();
        let shown = Presentations {
            stimuli,
            repetitions: Vec::new(),
            objects,
        };
        let neurons = ids
            .into_iter()
            .zip(regions)
            .map(|(id, region)| Neuron { id, region })
            .collect();
        from_presentations(&shown, neurons, options.bins_ms.clone(), |p, n, b| {
            let [start, end] = options.bins_ms[b].map(|edge| edge * 1e-3);
            let before = |time: f64| spikes[n].partition_point(|spike| *spike < onsets[p] + time);
            (before(end) - before(start)) as f64 / (end - start)
        })
    }
}

impl Nwb<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.dataset(name).is_ok()
    }

    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Dataset) -> Result<T, hdf5_reader::error::Error>,
    ) -> Result<T, NeuralError> {
        let dataset = self.file.dataset(name);
        let dataset = dataset.map_err(|error| variable(self.path, name, &format!("cannot be found: {error}")))?;
        read(&dataset).map_err(|error| variable(self.path, name, &format!("cannot be read: {error}")))
    }

    /// Numbers of any type.
    fn numbers(&self, name: &str) -> Result<Vec<f64>, NeuralError> {
        macro_rules! of_type {
            ($dataset:ident, $($type:ty),*) => {
                $(if let Ok(values) = $dataset.read_array::<$type>() {
                    return Ok(values.iter().map(|v| *v as f64).collect());
                })*
            };
        }
        self.read(name, |dataset| {
            of_type!(dataset, f32, u8, u16, u32, u64, i8, i16, i32, i64);
            dataset
                .read_array::<f64>()
                .map(|values| values.iter().copied().collect())
        })
    }

    fn ids(&self, name: &str) -> Result<Vec<String>, NeuralError> {
        if let Ok(text) = self.read(name, Dataset::read_strings) {
            return Ok(text);
        }
        Ok(self.numbers(name)?.iter().map(f64::to_string).collect())
    }

    /// A ragged column: its values, and the end of each row's under `name_index`.
    fn ragged(&self, name: &str) -> Result<Vec<Vec<f64>>, NeuralError> {
        let values = self.numbers(name)?;
        let index = format!("{name}_index");
        let ends = self.numbers(&index)?;
        let mut start = 0;
        ends.into_iter()
            .map(|end| {
                let end = end as usize;
                let row = values.get(start..end).ok_or_else(|| {
                    variable(
                        self.path,
                        &index,
                        &format!("row {start} to {end} of {} values", values.len()),
                    )
                })?;
                start = end;
                Ok(row.to_vec())
            })
            .collect()
    }

    fn regions(&self, units: usize) -> Result<Vec<String>, NeuralError> {
        let own = ["region", "brain_area", "location"].map(|column| format!("/units/{column}"));
        if let Some(column) = own.iter().find(|column| self.has(column)) {
            let regions = self.ids(column)?;
            return if regions.len() == units {
                Ok(regions)
            } else {
                Err(variable(
                    self.path,
                    column,
                    &format!("has {} values of {units} units", regions.len()),
                ))
            };
        }
        let places = "/general/extracellular_ephys/electrodes/location";
        if !(self.has("/units/electrodes") && self.has(places)) {
            return Ok(vec![String::new(); units]);
        }
        let places = self.ids(places)?;
        let electrodes = self.ragged("/units/electrodes")?;
        let place = |rows: &Vec<f64>| {
            let row = rows.first().map(|row| *row as usize);
            row.and_then(|row| places.get(row)).cloned().unwrap_or_default()
        };
        Ok((0..units)
            .map(|unit| electrodes.get(unit).map_or_else(String::new, place))
            .collect())
    }
}
