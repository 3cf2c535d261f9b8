//! Training of phase 2: every area's W and b by gradient descent on the error of three linear sweeps.
//!
//! What comes out is a CordsNet with phi = identity: the folded CNN's other weights, and W and b as its recurrent ones.

use serde::{Deserialize, Serialize};

use super::evaluate::{Evaluation, evaluate_trials};
use super::fit::{StepResult, Trainee};
use super::invert::Inverse;
use super::rollout::{keep_largest, keep_largest_of_all};
use super::snapshot::{Record, Snapshot, SnapshotError};
use super::train::check_data;
use super::{AreaInverse, Batch, EpochRecord, Fit, Optimiser, TrainError, Training, clip_gradient_norm};
use crate::data::{DataError, Images};
use crate::device::{Device, DeviceError, Peers, Phi, of_all_ranks};
use crate::net::{
    Connections, Euler, FoldedGraph, Graph, Model, ModelInfo, Parameters, Presentation, Weights, area_bias_name,
    bias_name, cordsnet_others,
};

/// Settings of phase 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InvertConfig {
    /// Weight of mean((W^3 (b + i))^2) beside the mean squared error.
    pub contraction_weight: f64,
    /// Time with the image, from r = 0, after which the linear network is validated.
    pub stimulus_ms: f64,
    /// Everything else. W starts from random weights of `initialisation.recurrent`, b from 0.
    pub fit: Fit,
}

impl Default for InvertConfig {
    fn default() -> Self {
        Self {
            contraction_weight: 10.0,
            stimulus_ms: Presentation::published().stimulus_ms,
            fit: Fit::default(),
        }
    }
}

impl InvertConfig {
    /// Steps of the validation trial.
    fn check(&self, euler: &Euler) -> Result<usize, TrainError> {
        let wrong = |field, problem| Err(TrainError::Setting { field, problem });
        self.fit.check()?;
        if !(self.contraction_weight.is_finite() && self.contraction_weight >= 0.0) {
            return wrong("contraction_weight", "must be finite and not negative".to_owned());
        }
        match euler.unfit(self.stimulus_ms, 1) {
            None => Ok(euler.steps(self.stimulus_ms)),
            Some(problem) => wrong("stimulus_ms", problem),
        }
    }

    /// The trial as a model remembers it.
    pub fn presentation(&self) -> Presentation {
        Presentation {
            spontaneous_ms: 0.0,
            stimulus_ms: self.stimulus_ms,
        }
    }
}

/// A linear network that reproduces a folded CNN.
#[derive(Clone, Debug)]
pub struct TrainedInverse {
    /// The network.
    pub architecture: Graph,
    /// Step and time constants.
    pub euler: Euler,
    /// Weights under a CordsNet's published names.
    pub parameters: Parameters<f32>,
    /// One record for each epoch; nothing in them comes from labels but the validation.
    pub epochs: Vec<EpochRecord>,
    /// Epoch, from 0, and error of every area on the validation images.
    pub areas: Vec<(usize, AreaInverse)>,
}

impl TrainedInverse {
    /// The network as a model file's content.
    pub fn into_model(self, info: ModelInfo) -> Model {
        Model::CordsNet {
            architecture: self.architecture,
            euler: self.euler,
            phi: Phi::Identity,
            parameters: self.parameters,
            info,
        }
    }
}

/// Epoch and area, then what was measured.
impl Record for (usize, AreaInverse) {
    const VALUES: usize = 5;

    fn values(&self) -> Vec<f64> {
        let (epoch, area) = self;
        vec![
            *epoch as f64,
            area.area as f64,
            area.error,
            area.contraction,
            area.explained,
        ]
    }

    fn from_values(row: &[f64]) -> Self {
        let area = AreaInverse {
            area: row[1] as usize,
            error: row[2],
            contraction: row[3],
            explained: row[4],
        };
        (row[0] as usize, area)
    }
}

struct InverseTrainee<D: Device<f32>> {
    euler: Euler,
    contraction_weight: f64,
    clip: Option<f64>,
    stimulus_steps: usize,
    /// A CordsNet's, whose recurrent ones are overwritten by the trained ones.
    parameters: Parameters<f32>,
    inverse: Inverse<f32, D>,
    optimiser: Optimiser<f32, D>,
    areas: Vec<(usize, AreaInverse)>,
}

/// Names of an area's trained parameters.
fn trained_names(architecture: &Graph, area: usize) -> [String; 3] {
    let recurrent = architecture.recurrent(area).expect("every area of a twin has one");
    let [g, v] = architecture.convs()[recurrent].parameter_names();
    [g, v, bias_name(area)]
}

impl<D: Device<f32>> InverseTrainee<D> {
    fn architecture(&self) -> &Graph {
        self.inverse.architecture()
    }

    fn names(&self) -> Vec<String> {
        let names = |area| trained_names(self.architecture(), area);
        (0..self.architecture().areas()).flat_map(names).collect()
    }

    fn parameters(&self) -> Parameters<f32> {
        let mut parameters = self.parameters.clone();
        for (name, buffer) in self.names().iter().zip(&self.inverse.buffers) {
            if let Some(tensor) = parameters.get_mut(name) {
                tensor.data = self.inverse.device().download(buffer);
            }
        }
        parameters
    }
}

impl<D: Device<f32>> Trainee for InverseTrainee<D> {
    fn check(&self) -> Result<(), DeviceError> {
        self.inverse.device().check()
    }

    fn learns_classes(&self) -> bool {
        false
    }

    fn peers(&self) -> Peers {
        self.inverse.device().peers()
    }

    fn of_all_ranks(&self, own: &[f64]) -> Vec<f64> {
        of_all_ranks(self.inverse.device(), own)
    }

    fn step(&mut self, part: Batch<'_, f32>, whole: usize, learning_rate: f64) -> StepResult {
        let device = self.inverse.device().clone();
        let count = whole as f64;
        let mut batch = self.inverse.batch(part.images, whole, self.contraction_weight);
        let gradient_norm = clip_gradient_norm(&device, self.clip, &mut batch.gradients);
        let areas = batch.squares.len() as f64;
        let loss = batch.squares.iter().enumerate().map(|(area, squares)| {
            let terms = count * self.architecture().area_units(area) as f64;
            (squares.error + self.contraction_weight * squares.contraction) / (areas * terms)
        });
        let loss: f64 = loss.sum();
        let mut largest = (0, 0.0f64);
        for (area, squares) in batch.squares.iter().enumerate() {
            keep_largest(&mut largest, (area, squares.largest));
        }
        keep_largest_of_all(&device, &mut largest);
        if loss.is_finite() && gradient_norm.is_finite() {
            self.optimiser
                .step(learning_rate, &batch.gradients, &mut self.inverse.buffers);
        }
        StepResult {
            loss,
            cross_entropy: 0.0,
            return_term: 0.0,
            right: 0.0,
            gradient_norm,
            largest,
        }
    }

    fn evaluate(&mut self, epoch: usize, images: &dyn Images) -> Result<Evaluation, DataError> {
        let measured = self.inverse.measure(images)?;
        self.areas.extend(measured.into_iter().map(|area| (epoch, area)));
        let (device, architecture) = (self.inverse.device(), self.architecture());
        let others = cordsnet_others(architecture);
        let weights = Weights::upload(device, architecture, &self.parameters(), others);
        let connections = Connections::new(device, architecture, &self.euler, Phi::Identity, &weights);
        evaluate_trials(&connections, &connections.spontaneous(0), images, self.stimulus_steps)
    }

    fn save(&self, snapshot: &mut Snapshot) {
        for (name, buffer) in self.names().iter().zip(&self.inverse.buffers) {
            snapshot.put_buffer(format!("parameter.{name}"), self.inverse.device(), buffer);
        }
        self.optimiser.save(snapshot);
        snapshot.put_records("areas", &self.areas);
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let device = self.inverse.device().clone();
        for (name, buffer) in self.names().iter().zip(&mut self.inverse.buffers) {
            snapshot.fill_buffer(&format!("parameter.{name}"), &device, buffer)?;
        }
        self.optimiser.restore(snapshot)?;
        self.areas = snapshot.records("areas")?;
        Ok(())
    }
}

impl Training<'_, InvertConfig> {
    /// Trains W and b of every area so that three linear sweeps give the currents of the folded CNN `folded`
    /// ([`Graph::folded_cnn_shapes`]). In float32.
    ///
    /// # Errors
    /// [`TrainError::Net`] where `folded` is not a folded CNN, otherwise as the training of a CordsNet.
    pub fn run<D: Device<f32>>(self, device: &D, folded: &Parameters<f32>) -> Result<TrainedInverse, TrainError> {
        let (architecture, config, euler) = (self.architecture, self.config, self.euler.clone());
        architecture.euler(&euler)?;
        architecture.twin()?;
        let stimulus_steps = config.check(&euler)?;
        check_data(architecture, self.data)?;
        let start = folded.arranged(&architecture.folded_cnn_shapes())?;
        let teacher = FoldedGraph::new(device, architecture, &start);
        let initial = config.fit.initialisation.cordsnet(architecture, config.fit.seed);
        let mut parameters = Parameters::new();
        for (name, tensor) in start.iter() {
            let is = |names: [String; 3]| names.iter().any(|trained| trained == name);
            if (0..architecture.areas()).any(|area| is(trained_names(architecture, area))) {
                let tensor = initial.get(name).expect("the same architecture");
                parameters.insert(name, tensor.clone());
            } else if !(0..architecture.areas()).any(|area| name == area_bias_name(area)) {
                parameters.insert(name, tensor.clone());
            }
        }
        let buffers: Vec<_> = (0..architecture.areas())
            .flat_map(|area| trained_names(architecture, area))
            .map(|name| device.upload(&parameters.get(&name).expect("a CordsNet's name").data))
            .collect();
        let mut trainee = InverseTrainee {
            euler: euler.clone(),
            contraction_weight: config.contraction_weight,
            clip: config.fit.clip,
            stimulus_steps,
            optimiser: Optimiser::of(device, config.fit.optimiser, &buffers),
            inverse: Inverse::new(teacher, buffers),
            parameters,
            areas: Vec::new(),
        };
        let epochs = self.fit(&mut trainee, &config.fit)?;
        Ok(TrainedInverse {
            architecture: architecture.clone(),
            euler,
            parameters: trainee.parameters(),
            epochs,
            areas: trainee.areas,
        })
    }
}
