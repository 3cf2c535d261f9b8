//! The two kinds of network in training, and what starts them. The loop itself is in `fit`.

use super::cnn_gradient::{CnnBatch, cnn_batch, update_running, write_running};
use super::evaluate::{Answers, Evaluation, check_images, evaluate_cnn, evaluate_trials};
use super::fit::{StepResult, Trainee};
use super::gradient::{BatchGradient, zero_gradients};
use super::memory::{Memory, Plan};
use super::snapshot::{Snapshot, SnapshotError, record};
use super::trajectory::Gradients;
use super::{
    Batch, CnnConfig, Data, DirectConfig, EpochRecord, Fit, Keep, Objective, Optimiser, OptimiserSettings, TrainError,
    Training, clip_gradient_norm,
};
use crate::data::{DataError, Images};
use crate::device::{Device, DeviceError, Peers, Phi, of_all_ranks};
use crate::net::{
    Cnn, CnnGraph, Connections, Euler, Graph, Model, ModelInfo, Parameters, Running, SpontaneousPhase, Weights,
    cnn_others, cordsnet_others, running_from,
};

/// Validation in one time window of the stimulus.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRecord {
    /// Training epoch, from 0.
    pub epoch: usize,
    /// Start of the window after stimulus onset, in ms.
    pub start_ms: f64,
    /// End of the window after stimulus onset, in ms.
    pub end_ms: f64,
    /// Share of validation images classified rightly, mean over the window's steps; NaN where all had diverged at one
    /// of them.
    pub accuracy: f64,
    /// Validation cross-entropy, mean over the window's steps; NaN where all had diverged at one of them.
    pub cross_entropy: f64,
    /// Validation images that had diverged by the window's end.
    pub diverged: usize,
}

record!(WindowRecord {
    epoch,
    start_ms,
    end_ms,
    accuracy,
    cross_entropy,
    diverged,
});

/// A CordsNet after its training, with what was measured on the way.
#[derive(Clone, Debug)]
pub struct TrainedCordsNet {
    /// The network.
    pub architecture: Graph,
    /// Step and time constants.
    pub euler: Euler,
    /// phi of the last epoch.
    pub phi: Phi,
    /// Weights after the last epoch.
    pub parameters: Parameters<f32>,
    /// One record for each epoch.
    pub epochs: Vec<EpochRecord>,
    /// One record for each epoch and time window.
    pub windows: Vec<WindowRecord>,
}

impl TrainedCordsNet {
    /// The network as a model file's content.
    pub fn into_model(self, info: ModelInfo) -> Model {
        Model::CordsNet {
            architecture: self.architecture,
            euler: self.euler,
            phi: self.phi,
            parameters: self.parameters,
            info,
        }
    }
}

/// A CNN twin after its training, with what was measured on the way.
#[derive(Clone, Debug)]
pub struct TrainedCnn {
    /// The network.
    pub architecture: Graph,
    /// Weights and running statistics after the last epoch.
    pub parameters: Parameters<f32>,
    /// One record for each epoch.
    pub epochs: Vec<EpochRecord>,
}

impl TrainedCnn {
    /// The network as a model file's content.
    pub fn into_model(self, info: ModelInfo) -> Model {
        Model::Cnn {
            architecture: self.architecture,
            parameters: self.parameters,
            info,
        }
    }
}

/// phi over the epochs of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PhiSchedule {
    /// One activation function in all epochs.
    Held(Phi),
    /// A negative slope that falls evenly to 0 (over 20 epochs 0.95, 0.90, ... 0), with a fresh optimiser in every
    /// epoch.
    Annealed,
}

impl PhiSchedule {
    /// phi of one epoch, from 0.
    pub fn at(self, epoch: usize, epochs: usize) -> Phi {
        match self {
            Self::Held(phi) => phi,
            Self::Annealed if epoch + 1 >= epochs => Phi::Relu,
            Self::Annealed => Phi::LeakyRelu(1.0 - (epoch + 1) as f64 / epochs as f64),
        }
    }
}

struct CordsNetTrainee<D: Device<f32>> {
    architecture: Graph,
    euler: Euler,
    schedule: PhiSchedule,
    objective: Objective,
    fit: Fit,
    plan: Plan,
    weights: Weights<f32, D>,
    optimiser: Optimiser<f32, D>,
    connections: Connections<f32, D>,
    spontaneous: SpontaneousPhase<f32, D>,
    batch: BatchGradient<f32, D>,
    sums: Gradients<D::Buffer>,
    logits: Vec<f32>,
    accuracy_window_ms: f64,
    windows: Vec<WindowRecord>,
}

impl<D: Device<f32>> CordsNetTrainee<D> {
    fn new(
        device: &D,
        architecture: &Graph,
        euler: &Euler,
        schedule: PhiSchedule,
        config: &DirectConfig,
        images: usize,
        parameters: &Parameters<f32>,
    ) -> Result<Self, TrainError> {
        let objective = config.objective(euler)?;
        let fit = config.fit.clone();
        let phi = schedule.at(0, fit.epochs);
        let weights = Weights::upload(device, architecture, parameters, cordsnet_others(architecture));
        let connections = Connections::new(device, architecture, euler, phi, &weights);
        let memory = config.memory_budget.map_or(Memory::Unlimited, Memory::Budget);
        let trial = (objective.steps(), objective.ramp.len());
        // The largest part of a batch, so that all peers have the same plan.
        let part = images.min(fit.batch).div_ceil(device.peers().world);
        let plan = Plan::new(&connections, trial, part, memory, config.history)?;
        Ok(Self {
            architecture: architecture.clone(),
            euler: euler.clone(),
            schedule,
            plan,
            optimiser: optimiser(device, architecture, fit.optimiser, &weights.buffers),
            sums: zero_gradients(&connections),
            spontaneous: SpontaneousPhase::new(&connections),
            connections,
            batch: BatchGradient::new(&objective, plan),
            weights,
            objective,
            fit,
            logits: Vec::new(),
            accuracy_window_ms: config.accuracy_window_ms,
            windows: Vec::new(),
        })
    }
}

impl<D: Device<f32>> Trainee for CordsNetTrainee<D> {
    fn check(&self) -> Result<(), DeviceError> {
        self.connections.device.check()
    }

    fn peers(&self) -> Peers {
        self.connections.device.peers()
    }

    fn of_all_ranks(&self, own: &[f64]) -> Vec<f64> {
        of_all_ranks(&self.connections.device, own)
    }

    fn begin_epoch(&mut self, epoch: usize) {
        if self.schedule == PhiSchedule::Annealed {
            let device = &self.connections.device;
            self.optimiser = optimiser(device, &self.architecture, self.fit.optimiser, &self.weights.buffers);
        }
        let phi = self.schedule.at(epoch, self.fit.epochs);
        if phi != self.connections.phi {
            self.connections.phi = phi;
            // Its memory was laid out for another phi.
            self.batch = BatchGradient::new(&self.objective, self.plan);
            self.spontaneous = SpontaneousPhase::new(&self.connections);
        }
    }

    fn step(&mut self, part: Batch<'_, f32>, whole: usize, learning_rate: f64) -> StepResult {
        let device = self.connections.device.clone();
        let spontaneous = self
            .spontaneous
            .run(&self.connections, self.objective.spontaneous_steps);
        self.logits
            .resize(part.targets.len() * self.architecture.classes(), 0.0);
        let (connections, logits) = (&self.connections, &mut self.logits);
        let loss = self
            .batch
            .run(connections, spontaneous, (part, whole), logits, &mut self.sums, |_| {});
        let mut gradients = self.weights.gradients(&device, &self.sums.weights, &self.sums.biases);
        let gradient_norm = clip_gradient_norm(&device, self.fit.clip, &mut gradients);
        if loss.loss.is_finite() && gradient_norm.is_finite() {
            self.optimiser
                .step(learning_rate, &gradients, &mut self.weights.buffers);
            self.weights
                .bound_time_constants(&device, &self.architecture, self.euler.dt_ms);
            self.connections.fill(&self.weights);
        }
        StepResult {
            loss: loss.loss,
            cross_entropy: loss.cross_entropy.last().copied().unwrap_or_default(),
            return_term: loss.return_term,
            right: loss.right,
            gradient_norm,
            largest: loss.largest,
        }
    }

    fn evaluate(&mut self, epoch: usize, images: &dyn Images) -> Result<Evaluation, DataError> {
        // Trials of both would not fit into the budget.
        self.batch.release();
        let spontaneous = self
            .spontaneous
            .run(&self.connections, self.objective.spontaneous_steps);
        let evaluation = evaluate_trials(&self.connections, spontaneous, images, self.objective.stimulus_steps)?;
        let dt_ms = self.euler.dt_ms;
        let windows = time_windows(epoch, &evaluation.over_time, dt_ms, self.accuracy_window_ms);
        self.windows.extend(windows);
        Ok(evaluation)
    }

    fn save(&self, snapshot: &mut Snapshot) {
        let device = &self.connections.device;
        snapshot.put_weights(device, &self.weights);
        self.optimiser.save(snapshot);
        snapshot.put_records("windows", &self.windows);
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let device = self.connections.device.clone();
        snapshot.fill_weights(&device, &mut self.weights)?;
        self.optimiser.restore(snapshot)?;
        self.windows = snapshot.records("windows")?;
        self.connections.fill(&self.weights);
        Ok(())
    }
}

struct CnnTrainee<D: Device<f32>> {
    device: D,
    architecture: Graph,
    clip: Option<f64>,
    weights: Weights<f32, D>,
    running: Vec<Option<Running>>,
    parameters: Parameters<f32>,
    optimiser: Optimiser<f32, D>,
    logits: Vec<f32>,
}

impl<D: Device<f32>> CnnTrainee<D> {
    fn parameters(&self) -> Parameters<f32> {
        let mut parameters = self.parameters.clone();
        self.weights.download(&self.device, &mut parameters);
        write_running(&self.architecture, &self.running, &mut parameters);
        parameters
    }
}

impl<D: Device<f32>> Trainee for CnnTrainee<D> {
    fn check(&self) -> Result<(), DeviceError> {
        self.device.check()
    }

    fn peers(&self) -> Peers {
        self.device.peers()
    }

    fn of_all_ranks(&self, own: &[f64]) -> Vec<f64> {
        of_all_ranks(&self.device, own)
    }

    fn step(&mut self, part: Batch<'_, f32>, whole: usize, learning_rate: f64) -> StepResult {
        let graph = CnnGraph::new(&self.device, &self.architecture, &self.weights, &self.running);
        let CnnBatch {
            loss,
            weights: dweights,
            others,
            statistics,
        } = cnn_batch(&graph, (part, whole), &mut self.logits);
        let mut gradients = self.weights.gradients(&self.device, &dweights, &others);
        let gradient_norm = clip_gradient_norm(&self.device, self.clip, &mut gradients);
        if loss.loss.is_finite() && gradient_norm.is_finite() {
            update_running(&mut self.running, &statistics);
            self.optimiser
                .step(learning_rate, &gradients, &mut self.weights.buffers);
        }
        StepResult {
            loss: loss.loss,
            cross_entropy: loss.loss,
            return_term: 0.0,
            right: loss.right,
            gradient_norm,
            largest: loss.largest,
        }
    }

    fn evaluate(&mut self, _epoch: usize, images: &dyn Images) -> Result<Evaluation, DataError> {
        let graph = CnnGraph::new(&self.device, &self.architecture, &self.weights, &self.running);
        evaluate_cnn(&Cnn::from_graph(self.parameters.clone(), graph), images)
    }

    fn save(&self, snapshot: &mut Snapshot) {
        snapshot.put_weights(&self.device, &self.weights);
        self.optimiser.save(snapshot);
        for (index, running) in self.running.iter().enumerate() {
            let Some(running) = running else { continue };
            snapshot.put(format!("running.{index}.mean"), &running.mean);
            snapshot.put(format!("running.{index}.variance"), &running.variance);
        }
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        snapshot.fill_weights(&self.device, &mut self.weights)?;
        self.optimiser.restore(snapshot)?;
        for (index, running) in self.running.iter_mut().enumerate() {
            let Some(running) = running else { continue };
            running.mean = snapshot.get(&format!("running.{index}.mean"), running.mean.len())?;
            running.variance = snapshot.get(&format!("running.{index}.variance"), running.variance.len())?;
        }
        Ok(())
    }
}

/// A fresh optimiser of a CordsNet's parameters. Those of areas, which are the last, are not weights.
fn optimiser<D: Device<f32>>(
    device: &D,
    architecture: &Graph,
    settings: OptimiserSettings,
    parameters: &[D::Buffer],
) -> Optimiser<f32, D> {
    let optimiser = Optimiser::<f32, D>::of(device, settings, parameters);
    optimiser.without_decay_of_last(architecture.area_parameters().count())
}

impl Training<'_, DirectConfig> {
    /// Trains a CordsNet from random weights by the published objective, in float32.
    ///
    /// Time constants that are trained stay at the Euler step at least: after a gradient step, smaller ones are raised
    /// to it. Below it activity would overshoot in every step, and under ReLU could become negative.
    ///
    /// A batch is run in groups of 8 images, each of which takes, with exact history, about
    /// `4 B x units x (stimulus + after steps + 10)` an image (published R8 at 224 x 224: 3.0 MB an image and step, so
    /// 630 MB an image for 200 steps) and a sum of weight gradients. `memory_budget` bounds that: fewer groups side by
    /// side, or activities that are computed twice.
    ///
    /// # Errors
    /// [`TrainError::Net`], [`TrainError::Setting`], [`TrainError::Images`], [`TrainError::NoImages`] or
    /// [`TrainError::Label`] for what cannot be trained, [`TrainError::Memory`] where the budget is too small,
    /// [`TrainError::NonFinite`] where training diverges, [`TrainError::Data`] where an image cannot be read,
    /// [`TrainError::Device`] where the device fails, [`TrainError::Stopped`] where the observer breaks off.
    pub fn run<D: Device<f32>>(self, device: &D) -> Result<TrainedCordsNet, TrainError> {
        let Fit {
            initialisation, seed, ..
        } = self.config.fit;
        let parameters = initialisation.cordsnet(self.architecture, seed);
        self.run_from(device, &parameters, PhiSchedule::Held(Phi::Relu))
    }

    /// Trains a CordsNet by the published objective from the weights of another training: phases `linear` (phi =
    /// identity, from r = 0, no return term), `anneal` and `finetune`. In float32.
    ///
    /// # Errors
    /// As `run`, and where `start` is not of this network.
    pub fn run_from<D: Device<f32>>(
        self,
        device: &D,
        start: &Parameters<f32>,
        schedule: PhiSchedule,
    ) -> Result<TrainedCordsNet, TrainError> {
        let (architecture, config, euler) = (self.architecture, self.config, self.euler.clone());
        architecture.euler(&euler)?;
        config.objective(&euler)?;
        if schedule == PhiSchedule::Annealed && (config.fit.early_stop, config.fit.keep) != (None, Keep::Last) {
            return Err(TrainError::Setting {
                field: "keep",
                problem: "phi is ReLU in the last epoch alone, whose weights are therefore those to keep".to_owned(),
            });
        }
        check_data(architecture, self.data)?;
        let mut parameters = start.arranged_cordsnet(architecture, euler.dt_ms)?;
        let images = self.data.train.len();
        let begins_a_longer_one = schedule != PhiSchedule::Annealed;
        let mut trainee = CordsNetTrainee::new(device, architecture, &euler, schedule, config, images, &parameters)?;
        let final_states = self.final_states.filter(|_| begins_a_longer_one);
        let epochs = self.final_states(final_states).fit(&mut trainee, &config.fit)?;
        trainee.weights.download(device, &mut parameters);
        Ok(TrainedCordsNet {
            architecture: architecture.clone(),
            euler,
            phi: trainee.connections.phi,
            parameters,
            epochs,
            windows: trainee.windows,
        })
    }
}

impl Training<'_, CnnConfig> {
    /// Trains the CNN twin from random weights by cross-entropy, in float32.
    ///
    /// # Errors
    /// As the training of a CordsNet, but for [`TrainError::Memory`].
    pub fn run<D: Device<f32>>(self, device: &D) -> Result<TrainedCnn, TrainError> {
        let (architecture, config) = (self.architecture, self.config);
        architecture.twin()?;
        config.check()?;
        check_data(architecture, self.data)?;
        let parameters = config.fit.initialisation.cnn(architecture, config.fit.seed);
        let weights = Weights::upload(device, architecture, &parameters, cnn_others(architecture));
        let mut trainee = CnnTrainee {
            device: device.clone(),
            architecture: architecture.clone(),
            clip: config.fit.clip,
            optimiser: Optimiser::of(device, config.fit.optimiser, &weights.buffers),
            running: running_from(architecture, &parameters),
            weights,
            parameters,
            logits: Vec::new(),
        };
        let epochs = self.fit(&mut trainee, &config.fit)?;
        Ok(TrainedCnn {
            architecture: architecture.clone(),
            parameters: trainee.parameters(),
            epochs,
        })
    }
}

/// Checks the images to learn from and those to watch.
pub(crate) fn check_data(architecture: &Graph, data: &Data<'_>) -> Result<(), TrainError> {
    check_images(architecture, data.train, "training")?;
    check_images(architecture, data.validation, "validation")
}

/// Means over windows of `window_ms` from stimulus onset; the last one may be shorter.
fn time_windows(epoch: usize, over_time: &[Answers], dt_ms: f64, window_ms: f64) -> Vec<WindowRecord> {
    let steps = ((window_ms / dt_ms).round() as usize).max(1);
    let window = |(index, part): (usize, &[Answers])| {
        let mean = |of: fn(&Answers) -> f64| part.iter().map(of).sum::<f64>() / part.len() as f64;
        let first = index * steps;
        WindowRecord {
            epoch,
            start_ms: first as f64 * dt_ms,
            end_ms: (first + part.len()) as f64 * dt_ms,
            accuracy: mean(|answers| answers.accuracy),
            cross_entropy: mean(|answers| answers.cross_entropy),
            diverged: part.last().map_or(0, |answers| answers.diverged),
        }
    };
    over_time.chunks(steps).enumerate().map(window).collect()
}
