//! Loss and gradient of one batch of a CordsNet: groups of images side by side, their gradients summed in order.

use std::sync::Mutex;

use super::history::HistoryPrecision;
use super::memory::{Memory, Plan};
use super::rollout::{GroupLoss, Rollout, keep_largest, keep_largest_of_all};
use super::trajectory::Gradients;
use super::{Objective, TrainError};
use crate::device::{Cpu, Device, Phi, Target};
use crate::net::{Connections, Euler, Graph, Parameters, Weights, cordsnet_others};
use crate::{Real, Tensor};

/// Images with what they are to be answered with.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// Normalised images, `[targets.len(), in_channels, side, side]`.
    pub images: &'a [T],
    /// What each image is to be answered with.
    pub targets: &'a [Target],
}

/// Loss of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLoss {
    /// Objective: cross-entropy and return term, weighted.
    pub loss: f64,
    /// Mean cross-entropy at each step of the readout window, unweighted.
    pub cross_entropy: Vec<f64>,
    /// Mean squared distance from the spontaneous state over the return window, unweighted.
    pub return_term: f64,
    /// Shares of the answers at the end of the stimulus in the images' targets, summed: the number of images that are
    /// classified rightly, where none is mixed.
    pub right: f64,
    /// Area with the largest activity, and that activity.
    pub largest: (usize, f64),
}

/// Trials of a batch on a device.
pub(crate) struct BatchGradient<T: Real, D: Device<T>> {
    objective: Objective,
    plan: Plan,
    kept: Mutex<Kept<T, D>>,
}

/// Rollouts that wait for a group of their size.
struct Kept<T: Real, D: Device<T>> {
    idle: Vec<Rollout<T, D>>,
    /// All that exist, those at work included.
    made: usize,
}

/// What one group of images reads and computes.
struct GroupWork<'a, T: Real, D: Device<T>> {
    part: Batch<'a, T>,
    logits: &'a mut [T],
    loss: GroupLoss,
    rollout: Option<Rollout<T, D>>,
}

impl<T: Real, D: Device<T>> BatchGradient<T, D> {
    pub(crate) fn new(objective: &Objective, plan: Plan) -> Self {
        Self {
            objective: objective.clone(),
            plan,
            kept: Mutex::new(Kept {
                idle: Vec::new(),
                made: 0,
            }),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept<T, D>> {
        // Nothing is left half-done in there if a thread panics while it holds the lock.
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives back what trials keep from batch to batch.
    pub(crate) fn release(&self) {
        let mut kept = self.kept();
        kept.made -= kept.idle.len();
        kept.idle.clear();
    }

    fn rollout(&self, connections: &Connections<T, D>, batch: usize) -> Rollout<T, D> {
        let mut kept = self.kept();
        if let Some(index) = kept.idle.iter().position(|rollout| rollout.batch() == batch) {
            return kept.idle.swap_remove(index);
        }
        // Where no more may exist, another size's memory is given back first.
        if kept.made < self.plan.trials || kept.idle.pop().is_none() {
            kept.made += 1;
        }
        drop(kept);
        Rollout::new(connections, &self.objective, batch, self.plan)
    }

    /// Loss of a batch of `whole` images and the gradients of effective weights and biases (overwritten), both of the
    /// whole batch; images and targets are this device's part of it.
    /// `logits` receives those of the part at the end of the stimulus, `[batch, classes]`.
    pub(crate) fn run(
        &self,
        connections: &Connections<T, D>,
        spontaneous: &[D::Buffer],
        (Batch { images, targets }, whole): (Batch<'_, T>, usize),
        logits: &mut [T],
        gradients: &mut Gradients<D::Buffer>,
        mut inspect: impl FnMut(&Rollout<T, D>),
    ) -> BatchLoss {
        let device = &connections.device;
        let size = device.group_images();
        let image_len = connections.architecture.image_len();
        let classes = connections.architecture.classes();
        let mut group_work: Vec<GroupWork<'_, T, D>> = images
            .chunks(size * image_len)
            .zip(targets.chunks(size))
            .zip(logits.chunks_mut(size * classes))
            .map(|((images, targets), logits)| GroupWork {
                part: Batch { images, targets },
                logits,
                loss: GroupLoss::default(),
                rollout: None,
            })
            .collect();
        for buffer in gradients.weights.iter_mut().chain(&mut gradients.biases) {
            device.clear(buffer);
        }
        // Waves bound the memory; sums go group by group, so the size of a wave does not show in the result.
        for wave in group_work.chunks_mut(self.plan.groups) {
            device.for_each(wave, |_, task| {
                let mut rollout = self.rollout(connections, task.part.targets.len());
                task.loss = rollout.run(connections, &self.objective, spontaneous, task.part, whole, task.logits);
                task.rollout = Some(rollout);
            });
            for task in wave {
                let Some(rollout) = task.rollout.take() else { continue };
                let sums = gradients.weights.iter_mut().chain(&mut gradients.biases);
                let parts = rollout.gradients();
                for (part, sum) in parts.weights.iter().chain(&parts.biases).zip(sums) {
                    device.add(part, sum);
                }
                inspect(&rollout);
                self.kept().idle.push(rollout);
            }
        }
        self.combine(device, &group_work, whole, gradients)
    }

    fn combine(
        &self,
        device: &D,
        group_work: &[GroupWork<'_, T, D>],
        whole: usize,
        gradients: &mut Gradients<D::Buffer>,
    ) -> BatchLoss {
        let objective = &self.objective;
        let mut cross_entropy = vec![0.0; objective.ramp.len()];
        let mut batch = BatchLoss {
            loss: 0.0,
            cross_entropy: Vec::new(),
            return_term: 0.0,
            right: 0.0,
            largest: (0, 0.0),
        };
        for task in group_work {
            for (sum, part) in cross_entropy.iter_mut().zip(&task.loss.cross_entropy) {
                *sum += part;
            }
            batch.return_term += task.loss.return_term;
            batch.right += task.loss.right;
            keep_largest(&mut batch.largest, task.loss.largest);
        }
        let window = cross_entropy.len();
        cross_entropy.extend([batch.return_term, batch.right]);
        let mut sums: Vec<&mut D::Buffer> = gradients.weights.iter_mut().chain(&mut gradients.biases).collect();
        device.sum_over_peers(&mut sums, &mut cross_entropy);
        (batch.return_term, batch.right) = (cross_entropy[window], cross_entropy[window + 1]);
        cross_entropy.truncate(window);
        keep_largest_of_all(device, &mut batch.largest);
        cross_entropy.iter_mut().for_each(|sum| *sum /= whole as f64);
        let weighted: f64 = cross_entropy
            .iter()
            .zip(&objective.ramp)
            .map(|(ce, weight)| ce * weight)
            .sum();
        batch.loss = weighted / objective.ramp.len() as f64 + objective.return_weight * batch.return_term;
        batch.cross_entropy = cross_entropy;
        batch
    }
}

/// Zeroed gradients of effective weights and biases.
pub(crate) fn zero_gradients<T: Real, D: Device<T>>(connections: &Connections<T, D>) -> Gradients<D::Buffer> {
    let device = &connections.device;
    let architecture = &connections.architecture;
    Gradients {
        weights: architecture
            .conv_shapes()
            .iter()
            .map(|shape| device.zeros(shape.outputs * shape.patch()))
            .collect(),
        biases: connections
            .other_lengths()
            .into_iter()
            .map(|len| device.zeros(len))
            .collect(),
    }
}

/// What one batch gives: loss, logits, activity at chosen steps and the gradient of every parameter.
#[derive(Clone, Debug)]
pub struct Gradient<T> {
    /// The objective and its parts.
    pub loss: BatchLoss,
    /// Logits at the end of the stimulus, `[batch, classes]`.
    pub logits: Vec<T>,
    /// Gradients under the parameters' names.
    pub gradients: Parameters<T>,
    /// Activity `[batch, channels, side, side]` per area for each step asked for.
    pub activity: Vec<Vec<Vec<T>>>,
}

/// Loss and gradient of a CordsNet's batches, in memory that is kept from batch to batch.
pub struct CordsNetGradient<T: Real, D: Device<T> = Cpu> {
    parameters: Parameters<T>,
    weights: Weights<T, D>,
    connections: Connections<T, D>,
    objective: Objective,
    memory: Memory,
    precision: HistoryPrecision,
    /// Trials as the last batch's memory was planned.
    trials: BatchGradient<T, D>,
    sums: Gradients<D::Buffer>,
}

impl<T: Real, D: Device<T>> CordsNetGradient<T, D> {
    /// For a network with these parameters, by this objective; all activities are kept as they are.
    ///
    /// # Errors
    /// [`TrainError::Net`] where the network's parts do not fit together, [`TrainError::Setting`] where the objective
    /// is out of range.
    pub fn new(
        device: &D,
        architecture: &Graph,
        parameters: &Parameters<T>,
        euler: &Euler,
        phi: Phi,
        objective: &Objective,
    ) -> Result<Self, TrainError> {
        let precision = HistoryPrecision::default();
        architecture.euler(euler)?;
        if let Some(problem) = objective.problem() {
            return Err(TrainError::Setting {
                field: "objective",
                problem,
            });
        }
        let parameters = parameters.arranged_cordsnet(architecture, euler.dt_ms)?;
        let weights = Weights::upload(device, architecture, &parameters, cordsnet_others(architecture));
        let connections = Connections::new(device, architecture, euler, phi, &weights);
        Ok(Self {
            trials: BatchGradient::new(objective, Plan::unlimited(&connections, objective.steps(), precision)),
            sums: zero_gradients(&connections),
            parameters,
            weights,
            connections,
            objective: objective.clone(),
            memory: Memory::default(),
            precision,
        })
    }

    /// With so many activities kept, and at this precision.
    pub fn keeping(mut self, memory: Memory, precision: HistoryPrecision) -> Self {
        (self.memory, self.precision) = (memory, precision);
        self
    }

    /// Takes over other parameters.
    ///
    /// # Errors
    /// [`TrainError::Net`] where they are not this network's.
    pub fn set_parameters(&mut self, parameters: &Parameters<T>) -> Result<(), TrainError> {
        let Connections {
            device,
            architecture,
            dt_ms,
            ..
        } = &self.connections;
        self.parameters = parameters.arranged_cordsnet(architecture, *dt_ms)?;
        self.weights = Weights::upload(device, architecture, &self.parameters, cordsnet_others(architecture));
        self.connections.fill(&self.weights);
        Ok(())
    }

    /// Loss and gradient of one batch.
    ///
    /// `steps` are counted from the spontaneous state (0), through
    /// the stimulus, to the end of the trial. Where there are any, all activities are kept as they are.
    ///
    /// # Errors
    /// [`TrainError::Setting`] where a step or the number of images is out of range, [`TrainError::Label`] where a
    /// label is no class, [`TrainError::Memory`] where the budget is too small, [`TrainError::Device`] where the device
    /// has failed.
    pub fn run(&mut self, batch: Batch<'_, T>, steps: &[usize]) -> Result<Gradient<T>, TrainError> {
        let (device, connections) = (self.connections.device.clone(), &self.connections);
        let architecture = &connections.architecture;
        if let Some(step) = steps.iter().find(|step| **step > self.objective.steps()) {
            return Err(TrainError::Setting {
                field: "steps",
                problem: format!("step {step} is after the trial's end, {}", self.objective.steps()),
            });
        }
        check_batch(architecture, batch)?;
        let (memory, precision) = if steps.is_empty() {
            (self.memory, self.precision)
        } else {
            (Memory::Unlimited, HistoryPrecision::Float32)
        };
        let plan = Plan::new(
            connections,
            (self.objective.steps(), self.objective.ramp.len()),
            batch.targets.len(),
            memory,
            precision,
        )?;
        if plan != self.trials.plan {
            self.trials = BatchGradient::new(&self.objective, plan);
        }
        let spontaneous = connections.spontaneous(self.objective.spontaneous_steps);
        let mut logits = vec![T::ZERO; batch.targets.len() * architecture.classes()];
        let mut activity = vec![vec![Vec::new(); architecture.areas()]; steps.len()];
        let loss = self.trials.run(
            connections,
            &spontaneous,
            (batch, batch.targets.len()),
            &mut logits,
            &mut self.sums,
            |rollout| {
                for (step, areas) in steps.iter().zip(&mut activity) {
                    for (area, out) in areas.iter_mut().enumerate() {
                        let maps = connections.maps(area, rollout.batch());
                        let first = out.len();
                        out.resize(first + maps.len(), T::ZERO);
                        device.download_maps(maps, &rollout.state(*step)[area], &mut out[first..]);
                    }
                }
            },
        );
        let gradients = named_gradients(&device, &self.parameters, &self.weights, &self.sums);
        device.check()?;
        Ok(Gradient {
            loss,
            logits,
            gradients,
            activity,
        })
    }
}

/// Gradients of all parameters under their names, from those of effective weights and biases; empty for what is not
/// trained.
pub(crate) fn named_gradients<T: Real, D: Device<T>>(
    device: &D,
    parameters: &Parameters<T>,
    weights: &Weights<T, D>,
    sums: &Gradients<D::Buffer>,
) -> Parameters<T> {
    let buffers = weights.gradients(device, &sums.weights, &sums.biases);
    let mut gradients = Parameters::new();
    for (name, parameter) in parameters.iter() {
        let index = weights.names.iter().position(|trained| trained == name);
        let data = index.map(|index| device.download(&buffers[index])).unwrap_or_default();
        let shape = parameter.shape.clone();
        gradients.insert(name, Tensor { shape, data });
    }
    gradients
}

/// Checks the number of images, that every target is of classes, and that weights are shares.
pub(crate) fn check_batch<T: Real>(
    architecture: &Graph,
    Batch { images, targets }: Batch<'_, T>,
) -> Result<(), TrainError> {
    if images.len() != targets.len() * architecture.image_len() || targets.is_empty() {
        return Err(TrainError::Setting {
            field: "images",
            problem: format!("{} values for {} targets", images.len(), targets.len()),
        });
    }
    let classes = architecture.classes();
    for (image, target) in targets.iter().enumerate() {
        let labels = [target.label, target.partner];
        if let Some(label) = labels.into_iter().find(|label| *label as usize >= classes) {
            return Err(TrainError::Label {
                set: "given",
                image,
                label,
                classes,
            });
        }
        if !(0.0..=1.0).contains(&target.weight) {
            return Err(TrainError::Setting {
                field: "targets",
                problem: format!("image {image} has weight {}, which is not from 0 to 1", target.weight),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Initialisation, logspace};

    fn architecture() -> Graph {
        crate::net::Architecture {
            in_channels: 2,
            image_side: 24,
            channels: vec![5, 5, 5, 7, 7],
            strides: vec![1, 1, 2, 1],
            classes: 3,
        }
        .graph()
        .expect("valid")
    }

    fn images(count: usize) -> (Vec<f32>, Vec<Target>) {
        let values = 0..count * architecture().image_len();
        (
            values.map(|i| (i as f32).sin()).collect(),
            (0..count as u32).map(|i| Target::from(i % 3)).collect(),
        )
    }

    /// The same, with a time constant that is trained.
    fn with_trained_tau() -> Graph {
        let mut description = architecture().description().clone();
        description.areas[2].tau_ms = Some(10.0);
        description.areas[2].trains_tau = true;
        Graph::new(description).expect("valid")
    }

    /// Neither earlier batches, of other sizes, nor earlier parameters show, time constants among them.
    #[test]
    fn memory_that_is_kept_holds_nothing_of_earlier_batches() {
        let objective = Objective {
            spontaneous_steps: 3,
            stimulus_steps: 5,
            after_steps: 4,
            ramp: logspace(-1.0, 0.0, 3),
            return_weight: 0.5,
            return_window: 2,
        };
        let run = |gradient: &mut CordsNetGradient<f32>, count| {
            let (images, targets) = images(count);
            let batch = Batch {
                images: &images,
                targets: &targets,
            };
            gradient.run(batch, &[]).expect("a batch")
        };
        for graph in [architecture(), with_trained_tau()] {
            let [first, mut second]: [Parameters<f32>; 2] =
                [3, 4].map(|seed| Initialisation::default().cordsnet(&graph, seed));
            for log_tau in graph.area_parameters() {
                let log_tau = second.get_mut(&log_tau.name).expect("a parameter");
                log_tau.data.fill(4f32.ln());
            }
            let new = |parameters| {
                let euler = Euler::new(2.0, 10.0);
                let precision = HistoryPrecision::Bfloat16;
                CordsNetGradient::new(&Cpu, &graph, parameters, &euler, Phi::Relu, &objective)
                    .expect("a network")
                    .keeping(Memory::Every(4), precision)
            };
            let mut kept = new(&first);
            let earlier = [11, 9].map(|count| run(&mut kept, count));
            kept.set_parameters(&second).expect("the same network");
            let found = run(&mut kept, 9);
            let expected = run(&mut new(&second), 9);
            assert!((&found.loss, &found.logits) == (&expected.loss, &expected.logits));
            assert!(found.gradients == expected.gradients);
            assert!(found.gradients != earlier[1].gradients);
        }
    }

    /// A budget of nothing computes every segment twice, and gives the same bits as the whole history, in both of the
    /// phases and where the last segment is shorter.
    #[test]
    fn checkpoints_leave_no_trace_in_the_gradient() {
        let architecture = architecture();
        let parameters: Parameters<f32> = Initialisation::default().cordsnet(&architecture, 3);
        let weights = Weights::upload(&Cpu, &architecture, &parameters, cordsnet_others(&architecture));
        let connections = Connections::new(
            &Cpu,
            &architecture,
            &Euler::new(2.0, 10.0),
            Phi::LeakyRelu(0.3),
            &weights,
        );
        let (images, targets) = images(11);
        for (stimulus_steps, after_steps) in [(7, 6), (8, 0), (4, 1)] {
            let objective = Objective {
                spontaneous_steps: 3,
                stimulus_steps,
                after_steps,
                ramp: logspace(-1.0, 0.0, 3),
                return_weight: 0.5,
                return_window: after_steps.min(2),
            };
            let spontaneous = connections.spontaneous(objective.spontaneous_steps);
            let run = |trials: BatchGradient<f32, Cpu>| {
                let mut sums = zero_gradients(&connections);
                let mut logits = vec![0.0; targets.len() * architecture.classes()];
                let batch = Batch {
                    images: &images,
                    targets: &targets,
                };
                let loss = trials.run(
                    &connections,
                    &spontaneous,
                    (batch, targets.len()),
                    &mut logits,
                    &mut sums,
                    |_| {},
                );
                let gradients: Vec<Vec<f32>> = sums
                    .weights
                    .iter()
                    .chain(&sums.biases)
                    .map(|sum| sum.to_vec())
                    .collect();
                (loss, logits, gradients)
            };
            let precisions = [HistoryPrecision::Float32, HistoryPrecision::Bfloat16];
            let [exact, rounded] = precisions.map(|precision| {
                let everything = Plan::unlimited(&connections, objective.steps(), precision);
                let whole = run(BatchGradient::new(&objective, everything));
                let gradients = &whole.2;
                assert!(
                    gradients
                        .iter()
                        .all(|gradient| gradient.iter().any(|value| *value != 0.0))
                );
                for interval in 1..objective.steps() {
                    for groups in [1, 2] {
                        let plan = Plan {
                            trials: usize::MAX,
                            groups,
                            interval,
                            precision,
                        };
                        let sparse = run(BatchGradient::new(&objective, plan));
                        assert_eq!(whole, sparse, "{plan:?}");
                    }
                }
                whole
            });
            // Rounded activity, of eight significant bits, shows in the gradient alone.
            assert_eq!((&exact.0, &exact.1), (&rounded.0, &rounded.1));
            assert_ne!(exact.2, rounded.2);
            for (exact, rounded) in exact.2.iter().zip(&rounded.2) {
                let largest = exact.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                for (exact, rounded) in exact.iter().zip(rounded) {
                    assert!(
                        (exact - rounded).abs() <= largest / 256.0,
                        "{rounded} for {exact} of {largest}"
                    );
                }
            }
        }
    }
}
