//! Assemblies in netCDF4 (HDF5) or classic netCDF, as Brain-Score ships them and xarray writes them: one variable over
//! presentations, neurons and time bins, under any name, beside flat coordinates `stimulus_id`, `repetition`,
//! `object_name`, `neuroid_id`, `region`, `animal`, `session`, `time_bin_start` and `time_bin_end`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use netcdf_reader::masked::MaskParams;
use netcdf_reader::unpack::{SignParams, UnpackParams};
use netcdf_reader::{NcFile, NcOpenOptions, NcType, NcValue, NcVariable};

use super::Recordings;
use super::assembly::{Array, Axis, Values, VariableFile, assemble, guarded, variable};
use super::filters::registry;
use crate::neural::NeuralError;
use dynvis_base::memory;

struct Assembly {
    path: PathBuf,
    file: NcFile,
}

impl Recordings {
    /// Reads an assembly. Values are taken as their attributes say: fill values, `missing_value` and what lies outside
    /// of `valid_range` are missing, `scale_factor` and `add_offset` are applied, `_Unsigned` integers are read as
    /// such, and time bins in another unit than ms are converted.
    ///
    /// `wanted` names the variable of responses; without it there must be one alone over presentations and neurons.
    ///
    /// # Errors
    /// [`NeuralError::File`] where the file is no netCDF, needs more memory than there is, or has several variables
    /// that could be the responses, which are named; [`NeuralError::Variable`] with the variable that is missing,
    /// damaged, compressed in a way that is not read or of the wrong length.
    pub fn from_netcdf(path: &Path, wanted: Option<&str>) -> Result<Self, NeuralError> {
        guarded(path, || {
            let options = NcOpenOptions {
                filter_registry: Some(registry()),
                max_read_bytes: usize::try_from(memory::room()).unwrap_or(usize::MAX),
                ..NcOpenOptions::default()
            };
            let file = NcFile::open_with_options(path, options).map_err(|error| NeuralError::File {
                path: path.to_owned(),
                problem: format!("is not a netCDF file, or damaged: {error}"),
            })?;
            let assembly = Assembly {
                path: path.to_owned(),
                file,
            };
            let (name, axes) = responses(path, assembly.variables()?, wanted)?;
            let wrong = |problem: String| variable(path, &name, &problem);
            let found = assembly.variable(&name).map_err(wrong)?;
            let shape: Vec<usize> = found.shape().iter().map(|n| *n as usize).collect();
            if matches!(found.dtype(), NcType::String | NcType::Char) {
                return Err(wrong("is text, not responses".to_owned()));
            }
            room_for(found).map_err(wrong)?;
            let values = assembly.numbers(found).map_err(wrong)?;
            let array = Array {
                values,
                shape,
                axes,
                variable: name,
            };
            assemble(&assembly, &array)
        })
    }
}

/// Which variable holds the responses, and its axes.
fn responses(path: &Path, variables: &[NcVariable], wanted: Option<&str>) -> Result<(String, Vec<Axis>), NeuralError> {
    let file = |problem: String| NeuralError::File {
        path: path.to_owned(),
        problem,
    };
    let listed = |variables: &mut dyn Iterator<Item = &NcVariable>| -> String {
        let dimensions = |v: &NcVariable| {
            v.dimensions()
                .iter()
                .map(|d| d.name.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let names: Vec<String> = variables
            .map(|v| format!("`{}` ({})", v.name(), dimensions(v)))
            .collect();
        names.join(", ")
    };
    if let Some(wanted) = wanted {
        let Some(found) = variables.iter().find(|v| v.name() == wanted) else {
            let all = listed(&mut variables.iter());
            return Err(file(format!("has no variable `{wanted}`; it has {all}")));
        };
        let all = listed(&mut std::iter::once(found));
        let needs = || {
            variable(
                path,
                wanted,
                &format!("is not over `presentation` and `neuroid`: {all}"),
            )
        };
        return Ok((wanted.to_owned(), axes(found).ok_or_else(needs)?));
    }
    // Coordinates may be over both axes too.
    let coordinates: BTreeSet<String> = variables
        .iter()
        .filter_map(|v| v.attribute("coordinates")?.value.as_string())
        .flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let is_text = |v: &NcVariable| matches!(v.dtype(), NcType::String | NcType::Char);
    let candidates: Vec<&NcVariable> = variables
        .iter()
        .filter(|v| axes(v).is_some() && !is_text(v) && !coordinates.contains(v.name()))
        .collect();
    match candidates.as_slice() {
        [only] => Ok((only.name().to_owned(), axes(only).unwrap_or_default())),
        [] => Err(file(format!(
            "no variable over `presentation` and `neuroid`; it has {}",
            listed(&mut variables.iter())
        ))),
        several => Err(file(format!(
            "{} variables could be the responses: {}; say which one as `variable`",
            several.len(),
            listed(&mut several.iter().copied())
        ))),
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
    let once = |axes: &[Axis]| (0..axes.len()).all(|i| !axes[..i].contains(&axes[i]));
    axes.filter(|axes| axes.contains(&Axis::Presentation) && axes.contains(&Axis::Neuron) && once(axes))
}

/// What a writer that states no fill value leaves where nothing was written; bytes have none.
fn default_fill(dtype: &NcType) -> Option<f64> {
    match dtype {
        NcType::Short => Some(-32767.0),
        NcType::Int => Some(-2_147_483_647.0),
        NcType::Float => Some(f64::from(9.969_21e36_f32)),
        NcType::Double => Some(9.969_209_968_386_869e36),
        _ => None,
    }
}

impl Assembly {
    fn variables(&self) -> Result<&[NcVariable], NeuralError> {
        self.file.variables().map_err(|error| NeuralError::File {
            path: self.path.clone(),
            problem: format!("its variables cannot be listed: {error}"),
        })
    }

    fn variable(&self, name: &str) -> Result<&NcVariable, String> {
        self.file.variable(name).map_err(cannot)
    }

    /// Whole numbers beyond what a float holds exactly.
    fn whole(&self, variable: &NcVariable) -> Result<Vec<Option<i128>>, String> {
        let name = variable.name();
        let values: Vec<i128> = match variable.dtype() {
            NcType::UInt64 => {
                let values = self.file.read_variable::<u64>(name).map_err(cannot)?;
                values.iter().map(|v| i128::from(*v)).collect()
            }
            _ => {
                let values = self.file.read_variable::<i64>(name).map_err(cannot)?;
                values.iter().map(|v| i128::from(*v)).collect()
            }
        };
        let sign = SignParams::from_variable(variable).map(|sign| sign.reinterpret(-1.0) > 0.0);
        // Attributes hold the same type, which their floats round; only few values are near one.
        let mask = MaskParams::from_variable(variable);
        let value = |v: i128| {
            let v = match sign {
                Some(true) if v < 0 => v + (1 << 64),
                Some(false) if v >= 1 << 63 => v - (1 << 64),
                _ => v,
            };
            let masked = mask.as_ref().is_some_and(|mask| {
                let float = v as f64;
                mask.fill_value == Some(float)
                    || mask.missing_values.contains(&float)
                    || mask.valid_min.is_some_and(|least| float < least)
                    || mask.valid_max.is_some_and(|most| float > most)
            });
            (!masked).then_some(v)
        };
        Ok(values.into_iter().map(value).collect())
    }

    /// Numbers as they are meant.
    fn numbers(&self, variable: &NcVariable) -> Result<Vec<f64>, String> {
        let mut values = self.file.read_variable_as_f64(variable.name()).map_err(cannot)?;
        if let Some(sign) = SignParams::from_variable(variable) {
            sign.apply(&mut values);
        }
        let states_fill = ["_FillValue", "missing_value"]
            .iter()
            .any(|name| variable.attribute(name).is_some());
        if let Some(fill) = default_fill(variable.dtype()).filter(|_| !states_fill) {
            values.mapv_inplace(|v| if v == fill { f64::NAN } else { v });
        }
        if let Some(mask) = MaskParams::from_variable(variable) {
            mask.apply(&mut values);
        }
        for name in ["scale_factor", "add_offset"] {
            if let Some(attribute) = variable.attribute(name) {
                let number = attribute.value.as_f64();
                if !number.is_some_and(f64::is_finite) {
                    return Err(format!("its attribute `{name}` is not a number"));
                }
            }
        }
        if let Some(packed) = UnpackParams::from_variable(variable) {
            packed.apply(&mut values);
        }
        Ok(match values.is_standard_layout() {
            true => values.into_raw_vec_and_offset().0,
            false => values.iter().copied().collect(),
        })
    }
}

/// Whether memory suffices for a variable as it is stored, as floats, and in the order of stimuli.
fn room_for(variable: &NcVariable) -> Result<(), String> {
    let count = variable.num_elements().map_err(|error| error.to_string())?;
    memory::check_room(count.saturating_mul(3 * 8)).map_err(|error| error.to_string())
}

fn cannot(error: netcdf_reader::Error) -> String {
    format!("cannot be read: {error}")
}

impl VariableFile for Assembly {
    fn path(&self) -> &Path {
        &self.path
    }

    fn has(&self, name: &str) -> bool {
        self.file.variable(name).is_ok()
    }

    fn read(&self, name: &str) -> Result<Values, String> {
        let variable = self.variable(name)?;
        room_for(variable)?;
        let is_packed = ["scale_factor", "add_offset"]
            .iter()
            .any(|name| variable.attribute(name).is_some());
        match variable.dtype() {
            NcType::String | NcType::Char => {
                Ok(Values::Text(self.file.read_variable_as_strings(name).map_err(cannot)?))
            }
            NcType::Enum { .. } => {
                let values = self.file.read_variable_user_defined(name).map_err(cannot)?;
                let member = |value: &NcValue| match value {
                    NcValue::Enum(value) => value.member.clone().ok_or("holds a value that its type does not name"),
                    _ => Err("is damaged"),
                };
                let names: Result<Vec<String>, &str> = values.iter().map(member).collect();
                Ok(Values::Text(names?))
            }
            NcType::Int64 | NcType::UInt64 if !is_packed => Ok(Values::Whole(self.whole(variable)?)),
            _ => Ok(Values::Numbers(self.numbers(variable)?)),
        }
    }

    fn unit_ms(&self, name: &str) -> Result<f64, String> {
        let Some(unit) = self
            .variable(name)?
            .attribute("units")
            .and_then(|a| a.value.as_string())
        else {
            return Ok(1.0);
        };
        match unit.trim().to_lowercase().as_str() {
            "" | "1" | "ms" | "msec" | "millisecond" | "milliseconds" => Ok(1.0),
            "s" | "sec" | "second" | "seconds" => Ok(1e3),
            "us" | "usec" | "microsecond" | "microseconds" => Ok(1e-3),
            "ns" | "nanosecond" | "nanoseconds" => Ok(1e-6),
            _ => Err(format!(
                "has the unit `{unit}`; edges of time bins are times after stimulus onset in ms, s, us or ns"
            )),
        }
    }
}
