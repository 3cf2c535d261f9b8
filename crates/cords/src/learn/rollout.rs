//! One trial of one group of images, forward and backward through time, by hand.
//!
//! The activities r_t are kept, or some of them; everything else is derived from them on the way back: phi(u_t) = (r_{t+1} - (1-alpha) r_t)/alpha
//! (its sign is kept where they are rounded),
//! sources x_l from r_t. The current from a constant input is formed once, and its gradient gathered over the
//! whole phase. Weight gradients are summed over all steps in the form that the device's algorithms want.

use super::history::History;
use super::memory::Plan;
use super::{Batch, Objective};
use crate::Real;
use crate::device::{Device, largest};
use crate::net::{Connections, ConvName, StepScratch, conv_shapes};

/// Gradients of effective weights and biases, before weight norm's adjoint.
pub(crate) struct Gradients<B> {
    /// Per convolution in the fixed order.
    pub(crate) weights: Vec<B>,
    /// Bias per area, then the readout's.
    pub(crate) biases: Vec<B>,
}

/// Sums over the images of a group that the loss is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupLoss {
    /// Summed cross-entropy at every step of the readout window.
    pub(crate) cross_entropy: Vec<f64>,
    /// The group's share of the return term.
    pub(crate) return_term: f64,
    /// Images classified rightly at the end of the stimulus.
    pub(crate) correct: usize,
    /// Area with the largest activity at the end of the stimulus or of the trial, and that activity.
    pub(crate) largest: (usize, f64),
}

/// What numbers in a trial's tally are.
enum Left {
    /// Of each image, at one step of the readout window.
    CrossEntropy,
    /// Squared distances, and their factor in the return term.
    ReturnTerm { factor: f64 },
    /// Largest magnitudes of an area.
    Largest { area: usize },
}

/// One group's trial, in memory that is reused from batch to batch.
pub(crate) struct Rollout<T: Real, D: Device<T>> {
    trial: Trial<T, D>,
    tally: D::Tally,
    recording: D::Recording,
    /// What the recording holds for: connections, and images over which the loss is a mean.
    recorded: (u64, usize),
}

/// What a trial reads and writes.
struct Trial<T: Real, D: Device<T>> {
    batch: usize,
    scratch: StepScratch<T, D>,
    /// Activity after 0, 1, ... steps from the spontaneous state on.
    history: History<T, D>,
    /// The constant part of the current during the stimulus, and after it.
    stimulus_current: Vec<D::Buffer>,
    after_current: Vec<D::Buffer>,
    images: D::Buffer,
    labels: D::Labels,
    /// Spontaneous state of one image per area.
    rest: Vec<D::Buffer>,
    /// Output of the input convolution, and its gradient.
    convolved: D::Buffer,
    inp: D::Buffer,
    skipped: D::Buffer,
    dinp: D::Buffer,
    dskipped: D::Buffer,
    pooled: Vec<D::Buffer>,
    dpooled: D::Buffer,
    logits: D::Buffer,
    dlogits: Vec<D::Buffer>,
    /// What the numbers in the tally are.
    left: Vec<Left>,
    /// dL/dr per area.
    gradient: Vec<D::Buffer>,
    /// dL/du per area: of the step being passed, and summed over the steps of a phase.
    delta: Vec<D::Buffer>,
    delta_sum: Vec<D::Buffer>,
    /// Gradient of the source per area.
    dsource: Vec<D::Buffer>,
    /// Gradient of a source's part, before it is masked.
    spare: Vec<D::Buffer>,
    /// Weight gradients per convolution in the fixed order.
    sums: Vec<D::WeightSum>,
    gradients: Gradients<D::Buffer>,
}

impl<T: Real, D: Device<T>> Rollout<T, D> {
    /// Memory for a group of `batch` images as planned.
    pub(crate) fn new(connections: &Connections<T, D>, objective: &Objective, batch: usize, plan: Plan) -> Self {
        Self {
            trial: Trial::new(connections, objective, batch, plan),
            tally: D::Tally::default(),
            recording: D::Recording::default(),
            recorded: (connections.id, 0),
        }
    }

    /// Images of the group.
    pub(crate) fn batch(&self) -> usize {
        self.trial.batch
    }

    /// Activity after `step` steps from the spontaneous state on, where the history holds all steps.
    pub(crate) fn state(&self, step: usize) -> &[D::Buffer] {
        self.trial.history.state(step)
    }

    /// Gradients that the last trial has left.
    pub(crate) fn gradients(&self) -> &Gradients<D::Buffer> {
        &self.trial.gradients
    }

    /// Runs the trial from the spontaneous state and back; `whole` is the number of images of the whole batch, over which the loss
    /// is a mean. `logits` receives those at the end of the stimulus, `[batch, classes]`.
    pub(crate) fn run(
        &mut self,
        connections: &Connections<T, D>,
        objective: &Objective,
        spontaneous: &[D::Buffer],
        Batch { images, labels }: Batch<'_, T>,
        whole: usize,
        logits: &mut [T],
    ) -> GroupLoss {
        let (device, trial) = (&connections.device, &mut self.trial);
        let image_maps = ConvName::InpConv.shape(&connections.architecture).in_maps(trial.batch);
        device.upload_maps(image_maps, images, &mut trial.images);
        device.upload_labels(labels, &mut trial.labels);
        for (from, to) in spontaneous.iter().zip(&mut trial.rest) {
            device.copy(from, to);
        }
        if self.recorded != (connections.id, whole) {
            self.recording = D::Recording::default();
            self.recorded = (connections.id, whole);
        }
        // The device goes on while the host asks for more: what it leaves is read at the end.
        device.repeat(&mut self.recording, &mut self.tally, |tally| {
            trial.forward(connections, objective, whole, tally);
            trial.backward(connections, objective, whole);
        });
        let mut loss = GroupLoss::default();
        for (left, values) in trial.left.iter().zip(device.read(&mut self.tally)) {
            let sum = || values.iter().sum::<f64>();
            match left {
                Left::CrossEntropy => loss.cross_entropy.push(sum()),
                Left::ReturnTerm { factor } => loss.return_term += factor * sum(),
                Left::Largest { area } => keep_largest(&mut loss.largest, (*area, largest(&values))),
            }
        }
        device.download_maps(connections.logit_maps(trial.batch), &trial.logits, logits);
        let rows = logits.chunks_exact(connections.architecture.classes);
        loss.correct = rows
            .zip(labels)
            .filter(|(row, label)| largest_index(row) == **label as usize)
            .count();
        loss
    }
}

impl<T: Real, D: Device<T>> Trial<T, D> {
    fn new(connections: &Connections<T, D>, objective: &Objective, batch: usize, plan: Plan) -> Self {
        let device = &connections.device;
        let architecture = &connections.architecture;
        let areas = architecture.areas();
        let pooled = connections.pooled_maps(batch);
        let logits = connections.logit_maps(batch);
        let image_maps = ConvName::InpConv.shape(architecture).in_maps(batch);
        let window = objective.ramp.len();
        Self {
            batch,
            scratch: connections.scratch(batch),
            history: History::new(connections, batch, objective.steps(), plan.interval, plan.precision),
            stimulus_current: connections.buffers(batch),
            after_current: if objective.after_steps > 0 {
                connections.buffers(batch)
            } else {
                Vec::new()
            },
            images: device.zeros_maps(image_maps),
            labels: D::Labels::default(),
            rest: connections.buffers(1),
            convolved: connections.convolved(batch),
            inp: connections.inp(batch),
            skipped: connections.inp(batch),
            dinp: connections.inp(batch),
            dskipped: connections.inp(batch),
            pooled: (0..window).map(|_| device.zeros_maps(pooled)).collect(),
            dpooled: device.zeros_maps(pooled),
            logits: device.zeros_maps(logits),
            dlogits: (0..window).map(|_| device.zeros_maps(logits)).collect(),
            left: Vec::new(),
            gradient: connections.buffers(batch),
            delta: connections.buffers(batch),
            delta_sum: connections.buffers(batch),
            dsource: connections.source_buffers(batch),
            spare: connections.buffers(batch),
            sums: conv_shapes(architecture)
                .into_iter()
                .map(|shape| device.weight_sum(shape))
                .collect(),
            gradients: Gradients {
                weights: conv_shapes(architecture)
                    .iter()
                    .map(|shape| device.zeros(shape.outputs * shape.patch()))
                    .collect(),
                biases: (0..areas)
                    .map(|area| device.zeros(connections.maps(area, 1).len()))
                    .chain([device.zeros(architecture.classes)])
                    .collect(),
            },
        }
    }

    /// Activity of all steps, logits and their gradients, and numbers for the loss.
    fn forward(&mut self, connections: &Connections<T, D>, objective: &Objective, whole: usize, tally: &mut D::Tally) {
        let (device, batch) = (&connections.device, self.batch);
        let work = &mut self.scratch.work;
        connections.embed(work, batch, &self.images, &mut self.convolved, &mut self.inp);
        connections.skip(work, batch, &self.inp, &mut self.skipped);
        let input = Some((&self.inp, &self.skipped));
        connections.constant_current(work, batch, input, &mut self.stimulus_current);
        connections.constant_current(work, batch, None, &mut self.after_current);
        for (area, (rest, start)) in self.rest.iter().zip(self.history.begin()).enumerate() {
            device.broadcast(connections.maps(area, batch), rest, start);
        }
        self.left.clear();
        for step in 1..=objective.steps() {
            let current = if step <= objective.stimulus_steps {
                &self.stimulus_current
            } else {
                &self.after_current
            };
            let scratch = &mut self.scratch;
            self.history.advance(device, step, |before, after| {
                connections.step(scratch, batch, current, before, after);
            });
            let state = self.history.state(step);
            if let Some(k) = objective.ramp_index(step) {
                connections.read_out(
                    &mut self.scratch.work,
                    batch,
                    state,
                    &mut self.pooled[k],
                    &mut self.logits,
                );
                let scale = objective.ramp[k] / (objective.ramp.len() * whole) as f64;
                let classes = connections.architecture.classes;
                device.cross_entropy(classes, &self.logits, &self.labels, scale, &mut self.dlogits[k], tally);
                self.left.push(Left::CrossEntropy);
            }
            if objective.returns(step) {
                for (area, rest) in self.rest.iter().enumerate() {
                    let factor = objective.return_factor(connections, area, whole);
                    device.return_term(connections.maps(area, batch), &state[area], rest, tally);
                    self.left.push(Left::ReturnTerm { factor });
                }
            }
            if step == objective.stimulus_steps || step == objective.steps() {
                for (area, activity) in state.iter().enumerate() {
                    device.max_abs(activity, tally);
                    self.left.push(Left::Largest { area });
                }
            }
        }
    }

    /// Gradients of the loss over the last forward pass.
    fn backward(&mut self, connections: &Connections<T, D>, objective: &Objective, whole: usize) {
        let device = &connections.device;
        let sums = self.gradient.iter_mut().chain(&mut self.delta_sum);
        for buffer in sums
            .chain(&mut self.gradients.weights)
            .chain(&mut self.gradients.biases)
        {
            device.clear(buffer);
        }
        for sum in &mut self.sums {
            device.clear_weight_sum(sum);
        }
        for step in (1..=objective.steps()).rev() {
            let scratch = &mut self.scratch;
            let currents = (&self.stimulus_current, &self.after_current);
            self.history.recall(device, step, |step, before, after| {
                let current = if step <= objective.stimulus_steps {
                    currents.0
                } else {
                    currents.1
                };
                connections.step(scratch, self.batch, current, before, after);
            });
            self.add_direct_gradient(connections, objective, whole, step);
            self.step_back(connections, step);
            if step == objective.stimulus_steps + 1 {
                // What follows belongs to the stimulus, whose delta_sum also feeds the gradient of the constant input.
                self.take_bias_gradients(connections);
                for sum in &mut self.delta_sum {
                    device.clear(sum);
                }
            }
        }
        self.take_bias_gradients(connections);
        self.input_gradients(connections);
        self.readout_gradients(connections);
        for (sum, dw) in self.sums.iter_mut().zip(&mut self.gradients.weights) {
            device.finish_weight_gradient(sum, dw);
        }
    }

    /// Adds to dL/dr what the loss takes from the state after `step` steps.
    fn add_direct_gradient(
        &mut self,
        connections: &Connections<T, D>,
        objective: &Objective,
        whole: usize,
        step: usize,
    ) {
        let (device, batch) = (&connections.device, self.batch);
        let state = self.history.state(step);
        if objective.returns(step) {
            for (area, rest) in self.rest.iter().enumerate() {
                let scale = objective.return_weight * objective.return_factor(connections, area, whole);
                let gradient = &mut self.gradient[area];
                device.add_return_gradient(connections.maps(area, batch), &state[area], rest, scale, gradient);
            }
        }
        if let Some(k) = objective.ramp_index(step) {
            let readout = connections.filter(ConvName::Readout);
            let work = &mut self.scratch.work;
            device.conv_transpose(work, readout, batch, &self.dlogits[k], &mut self.dpooled, false);
            let last = state.len() - 1;
            for area in [last, last - 1] {
                let maps = connections.maps(area, batch);
                let rectified = !connections.non_negative();
                device.add_unpooled(maps, &self.dpooled, &state[area], rectified, &mut self.gradient[area]);
            }
        }
    }

    /// From dL/dr after `step` steps to dL/dr one step earlier; adds the step's weight gradients.
    fn step_back(&mut self, connections: &Connections<T, D>, step: usize) {
        let (device, batch) = (&connections.device, self.batch);
        let areas = connections.architecture.areas();
        let before = self.history.state(step - 1);
        let (gradient, delta) = (&mut self.gradient, &mut self.delta);
        for area in 0..areas {
            let outputs = [&mut gradient[area], &mut delta[area], &mut self.delta_sum[area]];
            self.history.leaky_adjoint(connections, step, area, outputs);
        }
        let StepScratch {
            work,
            source,
            rectified,
        } = &mut self.scratch;
        let sums = &mut self.sums;
        let mut add_weights = |work: &mut D::Workspace, name: ConvName, x: &D::Buffer, dy: &D::Buffer| {
            device.add_weight_gradient(work, &mut sums[name.index(areas)], batch, x, dy);
        };
        let transpose = |work: &mut D::Workspace, name: ConvName, dy: &D::Buffer, dx: &mut D::Buffer, accumulate| {
            device.conv_transpose(work, connections.filter(name), batch, dy, dx, accumulate);
        };
        // The state that the trial starts from has no gradient.
        let first = step == 1;
        for area in 0..areas {
            let (recurrent, feedforward) = (ConvName::Recurrent(area), ConvName::Feedforward(area));
            let delta = &delta[area];
            add_weights(work, recurrent, &before[area], delta);
            if !first {
                transpose(work, recurrent, delta, &mut gradient[area], true);
            }
            if area == 0 {
                continue;
            }
            if area == 1 && connections.non_negative() {
                add_weights(work, feedforward, &before[0], delta);
                if !first {
                    transpose(work, feedforward, delta, &mut gradient[0], true);
                }
                continue;
            }
            let x = &mut source[area];
            connections.read_source(work, rectified, area, batch, before, x);
            add_weights(work, feedforward, x, delta);
            let shortcut = area >= 3 && area % 2 == 1;
            if first && !shortcut {
                continue;
            }
            let dx = &mut self.dsource[area];
            transpose(work, feedforward, delta, dx, false);
            if shortcut {
                let from = if connections.non_negative() {
                    &before[area - 2]
                } else {
                    &rectified[area - 2]
                };
                add_weights(work, ConvName::Shortcut(area), from, dx);
            }
            if first {
                continue;
            }
            let mut add = |from: &D::Buffer, area: usize| {
                if connections.non_negative() {
                    device.add(from, &mut gradient[area]);
                } else {
                    device.add_where_positive(&before[area], from, &mut gradient[area]);
                }
            };
            add(dx, area - 1);
            if shortcut {
                let spare = &mut self.spare[area - 2];
                transpose(work, ConvName::Shortcut(area), dx, spare, false);
                add(spare, area - 2);
            } else if area >= 2 {
                add(dx, area - 2);
            }
        }
    }

    /// Bias gradients from the summed dL/du.
    fn take_bias_gradients(&mut self, connections: &Connections<T, D>) {
        for (area, sum) in self.delta_sum.iter().enumerate() {
            let maps = connections.maps(area, self.batch);
            connections
                .device
                .add_batch_sum(maps, sum, &mut self.gradients.biases[area]);
        }
    }

    /// Gradients of everything between the image and areas 0 and 1, from dL/du summed over the stimulus.
    fn input_gradients(&mut self, connections: &Connections<T, D>) {
        let (device, batch) = (&connections.device, self.batch);
        let architecture = &connections.architecture;
        let areas = architecture.areas();
        let work = &mut self.scratch.work;
        let sums = &mut self.sums;
        let mut gradient = |work: &mut D::Workspace, name: ConvName, x: &D::Buffer, dy: &D::Buffer| {
            device.add_weight_gradient(work, &mut sums[name.index(areas)], batch, x, dy);
        };
        let transpose = |work: &mut D::Workspace, name: ConvName, dy: &D::Buffer, dx: &mut D::Buffer, accumulate| {
            device.conv_transpose(work, connections.filter(name), batch, dy, dx, accumulate);
        };
        let (dinp, dskipped) = (&mut self.dinp, &mut self.dskipped);
        gradient(work, ConvName::Feedforward(0), &self.inp, &self.delta_sum[0]);
        transpose(work, ConvName::Feedforward(0), &self.delta_sum[0], dinp, false);
        gradient(work, ConvName::Feedforward(1), &self.skipped, &self.delta_sum[1]);
        transpose(work, ConvName::Feedforward(1), &self.delta_sum[1], dskipped, false);
        gradient(work, ConvName::InpSkip, &self.inp, dskipped);
        transpose(work, ConvName::InpSkip, dskipped, dinp, true);
        let maps = ConvName::InpConv.shape(architecture).out_maps(batch);
        device.avg_pool_transpose(maps, dinp, &mut self.convolved);
        gradient(work, ConvName::InpConv, &self.images, &self.convolved);
    }

    fn readout_gradients(&mut self, connections: &Connections<T, D>) {
        let (device, batch) = (&connections.device, self.batch);
        let areas = connections.architecture.areas();
        let sum = &mut self.sums[ConvName::Readout.index(areas)];
        for (pooled, dlogits) in self.pooled.iter().zip(&self.dlogits) {
            device.add_weight_gradient(&mut self.scratch.work, sum, batch, pooled, dlogits);
        }
        for dlogits in &self.dlogits {
            device.add_batch_sum(
                connections.logit_maps(batch),
                dlogits,
                &mut self.gradients.biases[areas],
            );
        }
    }
}

/// Keeps the larger of two (area, magnitude); NaN is larger than any number.
pub(crate) fn keep_largest(held: &mut (usize, f64), new: (usize, f64)) {
    if !held.1.is_nan() && (new.1.is_nan() || new.1 > held.1) {
        *held = new;
    }
}

/// Index of the first largest value.
pub(crate) fn largest_index<T: Real>(row: &[T]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}
