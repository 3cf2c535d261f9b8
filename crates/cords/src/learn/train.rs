//! The training loop, and the two kinds of network that it trains.

use std::ops::ControlFlow;
use std::time::Instant;

use rayon::prelude::*;

use super::cnn_gradient::{CnnBatch, cnn_batch, update_running, write_running};
use super::evaluate::{Evaluation, check_images, evaluate_cnn, evaluate_trials};
use super::gradient::{BatchGradient, zero_gradients};
use super::{
    Batch, CnnConfig, DirectConfig, Fit, Images, Objective, Optimiser, TrainError, clip_gradient_norm, learning_rate,
};
use crate::device::{Cpu, Device};
use crate::net::{
    Architecture, Cnn, CnnGraph, Connections, Euler, Model, ModelInfo, Parameters, Phi, Running, Weights, cnn_others,
    cordsnet_others, running_from,
};
use crate::rng::{Purpose, Stream};

/// What an observer is told while a network trains.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// A batch is done.
    Batch {
        /// Epoch, from 0.
        epoch: usize,
        /// Number of epochs.
        epochs: usize,
        /// Batch within the epoch, from 0.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Loss of this batch.
        loss: f64,
        /// Training images per second since the epoch began.
        images_per_second: f64,
    },
    /// An epoch is done, validation included.
    Epoch {
        /// Number of epochs.
        epochs: usize,
        /// Its record.
        record: &'a EpochRecord,
    },
}

/// One epoch of training.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Mean training loss.
    pub loss: f64,
    /// Mean training cross-entropy, at the end of the stimulus.
    pub cross_entropy: f64,
    /// Mean squared distance from the spontaneous state over the return window; 0 for a CNN.
    pub return_term: f64,
    /// Share of training images classified rightly (as augmented, while the weights were changing).
    pub accuracy: f64,
    /// Validation cross-entropy, at the end of the stimulus.
    pub validation_loss: f64,
    /// Share of validation images classified rightly.
    pub validation_accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping, mean over steps.
    pub gradient_norm: f64,
    /// Wall-clock time of the epoch, validation included.
    pub seconds: f64,
    /// Training images seen.
    pub images: usize,
}

/// Validation in one time window of the stimulus.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRecord {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Start of the window after stimulus onset, in ms.
    pub start_ms: f64,
    /// Its end.
    pub end_ms: f64,
    /// Share of validation images classified rightly, mean over the window's steps.
    pub accuracy: f64,
    /// Validation cross-entropy, mean over the window's steps.
    pub cross_entropy: f64,
}

/// A trained CordsNet.
#[derive(Clone, Debug)]
pub struct TrainedCordsNet {
    /// Sizes.
    pub architecture: Architecture,
    /// Step and time constants.
    pub euler: Euler,
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
            parameters: self.parameters,
            info,
        }
    }
}

/// A trained CNN.
#[derive(Clone, Debug)]
pub struct TrainedCnn {
    /// Sizes.
    pub architecture: Architecture,
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

/// The images that a training works with.
pub struct Data<'a> {
    /// Images to learn from.
    pub train: &'a dyn Images,
    /// Images to watch.
    pub validation: &'a dyn Images,
}

/// Sums over one batch.
struct StepResult {
    loss: f64,
    cross_entropy: f64,
    return_term: f64,
    correct: usize,
    gradient_norm: f64,
    largest: (usize, f64),
}

/// A network in training.
trait Trainee {
    /// One optimiser step on a batch.
    fn step(&mut self, images: &[f32], labels: &[u32], learning_rate: f64) -> StepResult;
    /// The network as it is now, on other images.
    fn evaluate(&self, images: &dyn Images) -> Evaluation;
}

struct CordsNetTrainee<D: Device<f32>> {
    architecture: Architecture,
    euler: Euler,
    objective: Objective,
    clip: Option<f64>,
    weights: Weights<f32, D>,
    optimiser: Optimiser<f32, D>,
    connections: Connections<f32, D>,
    batch: BatchGradient<f32, D>,
    logits: Vec<f32>,
}

impl<D: Device<f32>> CordsNetTrainee<D> {
    fn new(
        device: &D,
        architecture: &Architecture,
        euler: &Euler,
        objective: Objective,
        fit: &Fit,
        parameters: &Parameters<f32>,
    ) -> Self {
        let weights = Weights::upload(device, architecture, parameters, cordsnet_others(architecture));
        Self {
            architecture: architecture.clone(),
            euler: euler.clone(),
            clip: fit.clip,
            optimiser: Optimiser::new(device, fit.optimiser, &lengths(&weights, parameters)),
            connections: Connections::new(device, architecture, euler, Phi::Relu, &weights),
            batch: BatchGradient::new(&objective),
            weights,
            objective,
            logits: Vec::new(),
        }
    }
}

impl<D: Device<f32>> Trainee for CordsNetTrainee<D> {
    fn step(&mut self, images: &[f32], labels: &[u32], learning_rate: f64) -> StepResult {
        let device = self.connections.device.clone();
        let spontaneous = self.connections.spontaneous(self.objective.spontaneous_steps);
        let mut sums = zero_gradients(&self.connections);
        self.logits.resize(labels.len() * self.architecture.classes, 0.0);
        let (connections, logits) = (&self.connections, &mut self.logits);
        let loss = self.batch.run(
            connections,
            &spontaneous,
            Batch { images, labels },
            logits,
            Some(&mut sums),
            |_| {},
        );
        let mut gradients = self.weights.gradients(&device, &sums.weights, sums.biases);
        let gradient_norm = clip_gradient_norm(&device, self.clip, &mut gradients);
        if loss.loss.is_finite() && gradient_norm.is_finite() {
            self.optimiser
                .step(learning_rate, &gradients, &mut self.weights.buffers);
            self.connections = Connections::new(&device, &self.architecture, &self.euler, Phi::Relu, &self.weights);
        }
        StepResult {
            loss: loss.loss,
            cross_entropy: loss.cross_entropy.last().copied().unwrap_or_default(),
            return_term: loss.return_term,
            correct: loss.correct,
            gradient_norm,
            largest: loss.largest,
        }
    }

    fn evaluate(&self, images: &dyn Images) -> Evaluation {
        let spontaneous = self.connections.spontaneous(self.objective.spontaneous_steps);
        evaluate_trials(&self.connections, &spontaneous, images, self.objective.stimulus_steps)
    }
}

struct CnnTrainee<D: Device<f32>> {
    device: D,
    architecture: Architecture,
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
    fn step(&mut self, images: &[f32], labels: &[u32], learning_rate: f64) -> StepResult {
        let graph = CnnGraph::new(&self.device, &self.architecture, &self.weights, &self.running);
        let CnnBatch {
            loss,
            weights: dweights,
            others,
            statistics,
        } = cnn_batch(&graph, Batch { images, labels }, &mut self.logits);
        let mut gradients = self.weights.gradients(&self.device, &dweights, others);
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
            correct: loss.correct,
            gradient_norm,
            largest: loss.largest,
        }
    }

    fn evaluate(&self, images: &dyn Images) -> Evaluation {
        let graph = CnnGraph::new(&self.device, &self.architecture, &self.weights, &self.running);
        evaluate_cnn(&Cnn::from_graph(self.parameters.clone(), graph), images)
    }
}

fn lengths<D: Device<f32>>(weights: &Weights<f32, D>, parameters: &Parameters<f32>) -> Vec<usize> {
    let length = |name: &String| parameters.get(name).map_or(0, |tensor| tensor.len());
    weights.names.iter().map(length).collect()
}

/// Trains a CordsNet from random weights by the published objective, on the CPU, in float32.
///
/// A batch needs memory for the groups of 8 images in flight (two for each thread): about
/// `4 B x units x (stimulus + after steps + 30)` an image, and a copy of the weights for each group.
/// (Published R8 at 224 x 224: 3.0 MB an image and step, so 690 MB an image for 200 steps.)
///
/// # Errors
/// [`TrainError::Net`], [`TrainError::Setting`], [`TrainError::Images`], [`TrainError::NoImages`] or [`TrainError::Label`] for what cannot
/// be trained, [`TrainError::NonFinite`] where training diverges, [`TrainError::Stopped`] where the observer breaks off.
pub fn train_cordsnet(
    architecture: &Architecture,
    euler: &Euler,
    config: &DirectConfig,
    data: &Data<'_>,
    observer: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<TrainedCordsNet, TrainError> {
    architecture.validate()?;
    euler.validate(architecture.areas())?;
    let objective = config.objective(euler)?;
    check_data(architecture, data)?;
    let mut parameters = config.fit.initialisation.cordsnet(architecture, config.fit.seed);
    let mut trainee = CordsNetTrainee::new(&Cpu, architecture, euler, objective, &config.fit, &parameters);
    let mut windows = Vec::new();
    let epochs = fit(&mut trainee, &config.fit, data, observer, |epoch, evaluation| {
        windows.extend(time_windows(
            epoch,
            &evaluation.over_time,
            euler.dt_ms,
            config.accuracy_window_ms,
        ));
    })?;
    trainee.weights.download(&Cpu, &mut parameters);
    Ok(TrainedCordsNet {
        architecture: architecture.clone(),
        euler: euler.clone(),
        parameters,
        epochs,
        windows,
    })
}

/// Trains the CNN twin from random weights by cross-entropy, on the CPU, in float32.
///
/// # Errors
/// As [`train_cordsnet`].
pub fn train_cnn(
    architecture: &Architecture,
    config: &CnnConfig,
    data: &Data<'_>,
    observer: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<TrainedCnn, TrainError> {
    architecture.validate()?;
    config.check()?;
    check_data(architecture, data)?;
    let parameters = config.fit.initialisation.cnn(architecture, config.fit.seed);
    let weights = Weights::upload(&Cpu, architecture, &parameters, cnn_others(architecture));
    let mut trainee = CnnTrainee {
        device: Cpu,
        architecture: architecture.clone(),
        clip: config.fit.clip,
        optimiser: Optimiser::new(&Cpu, config.fit.optimiser, &lengths(&weights, &parameters)),
        running: running_from(architecture, &parameters),
        weights,
        parameters,
        logits: Vec::new(),
    };
    let epochs = fit(&mut trainee, &config.fit, data, observer, |_, _| {})?;
    Ok(TrainedCnn {
        architecture: architecture.clone(),
        parameters: trainee.parameters(),
        epochs,
    })
}

fn check_data(architecture: &Architecture, data: &Data<'_>) -> Result<(), TrainError> {
    check_images(architecture, data.train, "training")?;
    check_images(architecture, data.validation, "validation")
}

/// Means over windows of `window_ms` from stimulus onset; the last one may be shorter.
fn time_windows(epoch: usize, over_time: &[[f64; 2]], dt_ms: f64, window_ms: f64) -> Vec<WindowRecord> {
    let steps = ((window_ms / dt_ms).round() as usize).max(1);
    let window = |(index, part): (usize, &[[f64; 2]])| {
        let mean = |which: usize| part.iter().map(|step| step[which]).sum::<f64>() / part.len() as f64;
        let first = index * steps;
        WindowRecord {
            epoch,
            start_ms: first as f64 * dt_ms,
            end_ms: (first + part.len()) as f64 * dt_ms,
            accuracy: mean(0),
            cross_entropy: mean(1),
        }
    };
    over_time.chunks(steps).enumerate().map(window).collect()
}

/// All epochs. The order of the images depends on the seed and the epoch alone.
fn fit(
    trainee: &mut dyn Trainee,
    config: &Fit,
    data: &Data<'_>,
    observer: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    mut validated: impl FnMut(usize, &Evaluation),
) -> Result<Vec<EpochRecord>, TrainError> {
    let count = data.train.len();
    let batches = count.div_ceil(config.batch);
    let image_len = data.train.channels() * data.train.side() * data.train.side();
    let mut records: Vec<EpochRecord> = Vec::with_capacity(config.epochs);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for epoch in 0..config.epochs {
        let started = Instant::now();
        let order = Stream::new(config.seed, Purpose::Shuffle, 0, 0, epoch as u32, 0).permutation(count);
        let mut record = EpochRecord {
            epoch,
            loss: 0.0,
            cross_entropy: 0.0,
            return_term: 0.0,
            accuracy: 0.0,
            validation_loss: 0.0,
            validation_accuracy: 0.0,
            learning_rate: 0.0,
            gradient_norm: 0.0,
            seconds: 0.0,
            images: count,
        };
        for batch in 0..batches {
            let chosen = &order[batch * count / batches..(batch + 1) * count / batches];
            images.resize(chosen.len() * image_len, 0.0f32);
            images
                .par_chunks_exact_mut(image_len)
                .zip(chosen)
                .for_each(|(out, image)| {
                    data.train.fill(*image as usize, epoch as u32, out);
                });
            labels.clear();
            labels.extend(chosen.iter().map(|image| data.train.label(*image as usize)));
            let step = epoch * batches + batch;
            let rate = learning_rate(
                config.learning_rate,
                config.schedule,
                config.warm_up,
                step,
                batches,
                config.epochs,
            );
            let result = trainee.step(&images, &labels, rate);
            for (what, value) in [("the loss", result.loss), ("the gradient", result.gradient_norm)] {
                if !value.is_finite() {
                    return Err(TrainError::NonFinite {
                        what,
                        epoch,
                        step: batch,
                        largest: result.largest.1,
                        place: format!("area {}", result.largest.0),
                    });
                }
            }
            let share = chosen.len() as f64 / count as f64;
            record.loss += share * result.loss;
            record.cross_entropy += share * result.cross_entropy;
            record.return_term += share * result.return_term;
            record.accuracy += result.correct as f64 / count as f64;
            record.gradient_norm += result.gradient_norm / batches as f64;
            record.learning_rate = rate;
            let seen = (batch + 1) * count / batches;
            let progress = Progress::Batch {
                epoch,
                epochs: config.epochs,
                batch,
                batches,
                loss: result.loss,
                images_per_second: seen as f64 / started.elapsed().as_secs_f64(),
            };
            if observer(progress).is_break() {
                return Err(TrainError::Stopped { records });
            }
        }
        let evaluation = trainee.evaluate(data.validation);
        record.validation_loss = evaluation.cross_entropy;
        record.validation_accuracy = evaluation.accuracy;
        record.seconds = started.elapsed().as_secs_f64();
        validated(epoch, &evaluation);
        let progress = Progress::Epoch {
            epochs: config.epochs,
            record: &record,
        };
        let flow = observer(progress);
        records.push(record);
        if flow.is_break() && epoch + 1 < config.epochs {
            return Err(TrainError::Stopped { records });
        }
    }
    Ok(records)
}
