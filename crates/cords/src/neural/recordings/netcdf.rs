//! Assemblies in netCDF4 (HDF5) or classic netCDF, as Brain-Score ships them and xarray writes them: one variable over
//! presentations, neurons and time bins, under any name, beside flat coordinates `stimulus_id`, `repetition`, `object_name`,
//! `neuroid_id`, `region`, `time_bin_start` and `time_bin_end`.

use std::path::{Path, PathBuf};

use netcdf_reader::{NcFile, NcType, NcVariable};

use super::Recordings;
use super::assembly::{Array, Axis, Source, Values, assemble, variable};
use crate::neural::NeuralError;

struct Assembly {
    path: PathBuf,
    file: NcFile,
}

impl Recordings {
    /// Reads an assembly.
    ///
    /// # Errors
    /// A file that is no netCDF; a variable that is missing, damaged or of the wrong length, by its name.
    pub fn from_netcdf(path: &Path) -> Result<Self, NeuralError> {
        let file = NcFile::open(path).map_err(|error| NeuralError::File {
            path: path.to_owned(),
            problem: format!("is not a netCDF file, or damaged: {error}"),
        })?;
        let assembly = Assembly {
            path: path.to_owned(),
            file,
        };
        let variables = assembly.variables()?;
        let Some(responses) = variables.iter().find(|v| axes(v).is_some()) else {
            let names: Vec<&str> = variables.iter().map(|v| v.name()).collect();
            return Err(NeuralError::File {
                path: path.to_owned(),
                problem: format!(
                    "no variable over `presentation` and `neuroid`; it has {}",
                    names.join(", ")
                ),
            });
        };
        let name = responses.name().to_owned();
        let read = assembly.file.read_variable_masked(&name);
        let read = read.map_err(|error| variable(path, &name, &format!("cannot be read: {error}")))?;
        let array = Array {
            values: read.iter().copied().collect(),
            shape: read.shape().to_vec(),
            axes: axes(responses).unwrap_or_default(),
            variable: name,
        };
        assemble(&assembly, &array)
    }
}

/// The axes of a variable, where it is one of responses.
fn axes(variable: &NcVariable) -> Option<Vec<Axis>> {
    let axes: Option<Vec<Axis>> = variable
        .dimensions()
        .iter()
        .map(|dimension| match dimension.name.as_str() {
            "presentation" | "stimulus" | "image" | "stimulus_id" | "image_id" => Some(Axis::Presentation),
            "repetition" => Some(Axis::Repetition),
            "neuroid" | "neuron" | "neuroid_id" => Some(Axis::Neuron),
            "time_bin" | "time" => Some(Axis::Bin),
            _ => None,
        })
        .collect();
    axes.filter(|axes| axes.contains(&Axis::Presentation) && axes.contains(&Axis::Neuron))
}

impl Assembly {
    fn variables(&self) -> Result<&[NcVariable], NeuralError> {
        self.file.variables().map_err(|error| NeuralError::File {
            path: self.path.clone(),
            problem: format!("its variables cannot be listed: {error}"),
        })
    }
}

impl Source for Assembly {
    fn path(&self) -> &Path {
        &self.path
    }

    fn has(&self, name: &str) -> bool {
        self.file.variable(name).is_ok()
    }

    fn read(&self, name: &str) -> Result<Values, String> {
        let cannot = |error: netcdf_reader::Error| format!("cannot be read: {error}");
        let text = matches!(
            self.file.variable(name).map_err(cannot)?.dtype(),
            NcType::String | NcType::Char
        );
        if text {
            return Ok(Values::Text(self.file.read_variable_as_strings(name).map_err(cannot)?));
        }
        let numbers = self.file.read_variable_as_f64(name).map_err(cannot)?;
        Ok(Values::Numbers(numbers.iter().copied().collect()))
    }
}
