//! The published trial of a group of images: its loss at every step, and where the gradient of it enters.

use super::memory::Plan;
use super::trajectory::{Gradients, Trajectory, TrialState};
use super::{Batch, Objective};
use crate::Real;
use crate::device::{Device, Target, largest, of_all_ranks};
use crate::net::Connections;

/// Sums over the images of a group that the loss is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupLoss {
    /// Summed cross-entropy at every step of the readout window.
    pub(crate) cross_entropy: Vec<f64>,
    /// The group's share of the return term.
    pub(crate) return_term: f64,
    /// Shares of the answers at the end of the stimulus in the images' targets.
    pub(crate) right: f64,
    /// Area with the largest activity at the end of the stimulus or of the trial, and that activity.
    pub(crate) largest: (usize, f64),
}

/// What the reductions of a trial are.
enum Left {
    /// Cross-entropies of each image, at one step of the readout window.
    CrossEntropy,
    /// Squared distances, and their factor in the return term.
    ReturnTerm { factor: f64 },
    /// Largest magnitudes of an area.
    Largest { area: usize },
}

/// One group's trial, in memory that is reused from batch to batch.
pub(crate) struct Rollout<T: Real, D: Device<T>> {
    trajectory: Trajectory<T, D>,
    reading: Reading<T, D>,
    reductions: D::Reductions,
    capture: D::Capture,
    /// What the recording holds for: connections, and images over which the loss is a mean.
    recorded: (u64, usize),
}

/// What is read from the activity, and compared.
struct Reading<T: Real, D: Device<T>> {
    targets: D::Buffer,
    pooled: Vec<D::Buffer>,
    dpooled: D::Buffer,
    logits: D::Buffer,
    dlogits: Vec<D::Buffer>,
    /// What the numbers in the tally are.
    left: Vec<Left>,
}

impl<T: Real, D: Device<T>> Rollout<T, D> {
    /// Memory for a group of `batch` images as planned.
    pub(crate) fn new(connections: &Connections<T, D>, objective: &Objective, batch: usize, plan: Plan) -> Self {
        Self {
            trajectory: Trajectory::new(connections, &objective.parts(), batch, plan),
            reading: Reading::new(connections, objective, batch),
            reductions: D::Reductions::default(),
            capture: D::Capture::default(),
            recorded: (connections.id, 0),
        }
    }

    /// Images of the group.
    pub(crate) fn batch(&self) -> usize {
        self.trajectory.batch()
    }

    /// Activity after `step` steps from the spontaneous state on, where the history holds all steps.
    pub(crate) fn state(&self, step: usize) -> &[D::Buffer] {
        self.trajectory.state(step)
    }

    /// Gradients that the last trial has left.
    pub(crate) fn gradients(&self) -> &Gradients<D::Buffer> {
        self.trajectory.gradients()
    }

    /// Runs the trial from the spontaneous state and back; `whole` is the number of images of the whole batch, over
    /// which the loss is a mean. `logits` receives those at the end of the stimulus, `[batch, classes]`.
    pub(crate) fn run(
        &mut self,
        connections: &Connections<T, D>,
        objective: &Objective,
        spontaneous: &[D::Buffer],
        Batch { images, targets }: Batch<'_, T>,
        whole: usize,
        logits: &mut [T],
    ) -> GroupLoss {
        let device = &connections.device;
        let (trajectory, reading) = (&mut self.trajectory, &mut self.reading);
        trajectory.show(connections, 0, images);
        device.upload_targets(targets, &mut reading.targets);
        trajectory.start_from(device, spontaneous);
        if self.recorded != (connections.id, whole) {
            self.capture = D::Capture::default();
            self.recorded = (connections.id, whole);
        }
        // The device goes on while the host asks for more: what it leaves is read at the end.
        device.repeat(&mut self.capture, &mut self.reductions, |reductions| {
            reading.left.clear();
            let batch = trajectory.batch();
            trajectory.forward(connections, |work, moment| {
                reading.read(connections, objective, (batch, whole), work, &moment, reductions);
            });
            let reads = |step| {
                let rectified = objective.ramp_index(step).is_some() && !connections.non_negative();
                objective.returns(step) || rectified
            };
            trajectory.backward(connections, reads, |work, moment, gradient| {
                reading.add_gradient(connections, objective, (batch, whole), work, &moment, gradient);
            });
            reading.readout_gradients(connections, trajectory);
            trajectory.finish(device);
        });
        let mut loss = GroupLoss::default();
        for (left, values) in reading.left.iter().zip(device.read(&mut self.reductions)) {
            let sum = || values.iter().sum::<f64>();
            match left {
                Left::CrossEntropy => loss.cross_entropy.push(sum()),
                Left::ReturnTerm { factor } => loss.return_term += factor * sum(),
                Left::Largest { area } => keep_largest(&mut loss.largest, (*area, largest(&values))),
            }
        }
        device.download_maps(
            connections.architecture.logit_maps(trajectory.batch()),
            &reading.logits,
            logits,
        );
        let rows = logits.chunks_exact(connections.architecture.classes());
        loss.right = right(rows, targets);
        loss
    }
}

impl<T: Real, D: Device<T>> Reading<T, D> {
    fn new(connections: &Connections<T, D>, objective: &Objective, batch: usize) -> Self {
        let device = &connections.device;
        let pooled = connections.architecture.pooled_maps(batch);
        let logits = connections.architecture.logit_maps(batch);
        let window = objective.ramp.len();
        Self {
            targets: device.zeros(0),
            pooled: (0..window).map(|_| device.zeros_maps(pooled)).collect(),
            dpooled: device.zeros_maps(pooled),
            logits: device.zeros_maps(logits),
            dlogits: (0..window).map(|_| device.zeros_maps(logits)).collect(),
            left: Vec::new(),
        }
    }

    /// Logits and their gradients after a step, and numbers for the loss; sizes are the images of the group and of the
    /// batch.
    fn read(
        &mut self,
        connections: &Connections<T, D>,
        objective: &Objective,
        (batch, whole): (usize, usize),
        work: &mut D::Workspace,
        TrialState {
            step,
            state,
            spontaneous,
        }: &TrialState<'_, D::Buffer>,
        reductions: &mut D::Reductions,
    ) {
        let device = &connections.device;
        if let Some(k) = objective.ramp_index(*step) {
            connections.read_out(work, batch, state, &mut self.pooled[k], &mut self.logits);
            let scale = objective.ramp[k] / (objective.ramp.len() * whole) as f64;
            let classes = connections.architecture.classes();
            device.cross_entropy(
                classes,
                &self.logits,
                &self.targets,
                scale,
                &mut self.dlogits[k],
                reductions,
            );
            self.left.push(Left::CrossEntropy);
        }
        if objective.returns(*step) {
            for (area, spontaneous) in spontaneous.iter().enumerate() {
                let factor = objective.return_factor(connections, area, whole);
                let maps = connections.maps(area, batch);
                device.sum_squared_distances(maps, &state[area], spontaneous, reductions);
                self.left.push(Left::ReturnTerm { factor });
            }
        }
        if *step == objective.stimulus_steps || *step == objective.steps() {
            for (area, activity) in state.iter().enumerate() {
                device.max_abs(activity, reductions);
                self.left.push(Left::Largest { area });
            }
        }
    }

    /// Adds to dL/dr what the loss takes from the activity after a step.
    fn add_gradient(
        &mut self,
        connections: &Connections<T, D>,
        objective: &Objective,
        (batch, whole): (usize, usize),
        work: &mut D::Workspace,
        TrialState {
            step,
            state,
            spontaneous,
        }: &TrialState<'_, D::Buffer>,
        gradient: &mut [D::Buffer],
    ) {
        let device = &connections.device;
        if objective.returns(*step) {
            for (area, spontaneous) in spontaneous.iter().enumerate() {
                let scale = objective.return_weight * objective.return_factor(connections, area, whole);
                let maps = connections.maps(area, batch);
                device.add_distance_gradient(maps, &state[area], spontaneous, scale, &mut gradient[area]);
            }
        }
        if let Some(k) = objective.ramp_index(*step) {
            let readout = connections.filter(connections.architecture.readout_conv());
            device.conv_transpose(work, readout, batch, &self.dlogits[k], &mut self.dpooled, false);
            for area in connections.architecture.readout().iter().copied() {
                let maps = connections.maps(area, batch);
                let rectified = !connections.non_negative();
                device.add_unpooled(maps, &self.dpooled, &state[area], rectified, &mut gradient[area]);
            }
        }
    }

    fn readout_gradients(&self, connections: &Connections<T, D>, trajectory: &mut Trajectory<T, D>) {
        let (device, batch) = (&connections.device, trajectory.batch());
        let (work, sum, bias) = trajectory.readout(connections);
        for (pooled, dlogits) in self.pooled.iter().zip(&self.dlogits) {
            device.add_weight_gradient(work, sum, batch, pooled, dlogits);
        }
        for dlogits in &self.dlogits {
            device.add_batch_sum(connections.architecture.logit_maps(batch), dlogits, bias);
        }
    }
}

/// Keeps the larger of two (area, magnitude); NaN is larger than any number.
pub(crate) fn keep_largest(held: &mut (usize, f64), new: (usize, f64)) {
    if !held.1.is_nan() && (new.1.is_nan() || new.1 > held.1) {
        *held = new;
    }
}

/// The largest of what all peers have found.
pub(crate) fn keep_largest_of_all<T: Real, D: Device<T>>(device: &D, held: &mut (usize, f64)) {
    for found in of_all_ranks(device, &[held.0 as f64, held.1]).chunks(2) {
        keep_largest(held, (found[0] as usize, found[1]));
    }
}

/// Shares of the answers in the targets of their images, summed; answers are the classes of the largest logits.
pub(crate) fn right<'a, T: Real>(rows: impl Iterator<Item = &'a [T]>, targets: &[Target]) -> f64 {
    rows.zip(targets)
        .map(|(row, target)| target.share(largest_index(row)))
        .sum()
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
