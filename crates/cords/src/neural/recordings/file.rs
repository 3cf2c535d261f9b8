//! `recordings.safetensors`: `responses` F64 `[stimulus, repetition, neuron, bin]` (NaN where a presentation is
//! missing), `bins` F64 `[bin, 2]` in ms, and ids, classes, regions, animals and sessions as JSON under the metadata
//! key `recordings`.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Neuron, Recordings};
use crate::neural::NeuralError;

/// Version of the file.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Names {
    format: u32,
    stimuli: Vec<String>,
    objects: Vec<String>,
    neurons: Vec<String>,
    regions: Vec<String>,
    /// Empty where no neuron has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    animals: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sessions: Vec<String>,
}

impl Recordings {
    /// Writes the file.
    ///
    /// # Errors
    /// [`NeuralError::Io`] or [`NeuralError::File`] where writing fails.
    pub fn save(&self, path: &Path) -> Result<(), NeuralError> {
        let wrong = |problem: String| NeuralError::File {
            path: path.to_owned(),
            problem,
        };
        let bytes = |values: &mut dyn Iterator<Item = f64>| -> Vec<u8> { values.flat_map(f64::to_le_bytes).collect() };
        let responses = bytes(&mut self.responses.iter().copied());
        let bins = bytes(&mut self.bins_ms.iter().flatten().copied());
        let shape = [
            self.stimuli.len(),
            self.repetitions,
            self.neurons.len(),
            self.bins_ms.len(),
        ];
        let view = |shape: &[usize], data| {
            TensorView::new(Dtype::F64, shape.to_vec(), data).map_err(|error| wrong(error.to_string()))
        };
        let labels = |label: fn(&Neuron) -> &String| -> Vec<String> {
            let labels: Vec<String> = self.neurons.iter().map(|neuron| label(neuron).clone()).collect();
            if labels.iter().all(String::is_empty) {
                Vec::new()
            } else {
                labels
            }
        };
        let names = serde_json::to_string(&Names {
            format: FORMAT,
            stimuli: self.stimuli.clone(),
            objects: self.objects.clone(),
            neurons: self.neurons.iter().map(|neuron| neuron.id.clone()).collect(),
            regions: self.neurons.iter().map(|neuron| neuron.region.clone()).collect(),
            animals: labels(|neuron| &neuron.animal),
            sessions: labels(|neuron| &neuron.session),
        })
        .map_err(|error| wrong(error.to_string()))?;
        let tensors = [
            ("responses", view(&shape, &responses)?),
            ("bins", view(&[self.bins_ms.len(), 2], &bins)?),
        ];
        let metadata = HashMap::from([("recordings".to_owned(), names)]);
        let file = safetensors::serialize(tensors, Some(metadata)).map_err(|error| wrong(error.to_string()))?;
        Ok(fs_err::write(path, file)?)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`NeuralError::Io`] where the file cannot be read, [`NeuralError::File`] where it is of another kind or damaged.
    pub fn open(path: &Path) -> Result<Self, NeuralError> {
        let wrong = |problem: String| NeuralError::File {
            path: path.to_owned(),
            problem,
        };
        let file = dynvis_base::files::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|error| wrong(error.to_string()))?;
        let names = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("recordings"))
            .ok_or_else(|| wrong("is not a file of recordings".to_owned()))?;
        let names: Names = serde_json::from_str(names).map_err(|error| wrong(error.to_string()))?;
        if names.format != FORMAT {
            return Err(wrong(format!(
                "has format {}, this program reads {FORMAT}",
                names.format
            )));
        }
        let tensors = SafeTensors::deserialize(&file).map_err(|error| wrong(error.to_string()))?;
        let tensor = |name: &str, axes: usize| -> Result<(Vec<usize>, Vec<f64>), NeuralError> {
            let view = tensors
                .tensor(name)
                .map_err(|error| wrong(format!("`{name}`: {error}")))?;
            if view.dtype() != Dtype::F64 || view.shape().len() != axes {
                return Err(wrong(format!("`{name}` is {:?} {:?}", view.dtype(), view.shape())));
            }
            let words = view.data().as_chunks().0;
            Ok((
                view.shape().to_vec(),
                words.iter().map(|w| f64::from_le_bytes(*w)).collect(),
            ))
        };
        let (shape, responses) = tensor("responses", 4)?;
        let (_, bins) = tensor("bins", 2)?;
        if names.regions.len() != names.neurons.len() {
            return Err(wrong("has not one region for each neuron".to_owned()));
        }
        let count = names.neurons.len();
        let labels = |labels: Vec<String>, what: &str| match labels.len() {
            0 => Ok(vec![String::new(); count]),
            n if n == count => Ok(labels),
            n => Err(wrong(format!("has {n} {what} of {count} neurons"))),
        };
        let (animals, sessions) = (labels(names.animals, "animals")?, labels(names.sessions, "sessions")?);
        let neurons = names
            .neurons
            .into_iter()
            .zip(names.regions)
            .zip(animals.into_iter().zip(sessions));
        Self {
            stimuli: names.stimuli,
            objects: names.objects,
            neurons: neurons
                .map(|((id, region), (animal, session))| Neuron {
                    id,
                    region,
                    animal,
                    session,
                })
                .collect(),
            bins_ms: bins.as_chunks().0.to_vec(),
            repetitions: shape[1],
            responses,
        }
        .new()
    }
}
