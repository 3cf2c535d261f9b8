//! A group of images over a trial, forward and backward through time, by hand, whatever the loss.
//!
//! The activities r_t are kept, or some of them; everything else is derived from them on the way back: phi(u_t) =
//! (r_{t+1} - (1-alpha) r_t)/alpha (its sign is kept where they are rounded), sources x_l from r_t. The current from an
//! input that is held is formed once, and its gradient gathered over the part of the trial in which it is. Weight
//! gradients are summed over all steps in the form that the device's algorithms want.

use super::gathered::{Deltas, PendingGradients, gathered_adjoint, pass_back};
use super::history::History;
use super::memory::Plan;
use crate::Real;
use crate::device::Device;
use crate::net::{CellGradient, Connections, Embedding, INPUT, StepScratch, Way};

/// Gradients of effective weights and biases, before weight norm's adjoint.
pub(crate) struct Gradients<B> {
    /// Per convolution in the fixed order.
    pub(crate) weights: Vec<B>,
    /// Bias per area, then the readout's, then parameters of cells.
    pub(crate) biases: Vec<B>,
}

/// Steps during which images are held, or nothing is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) steps: usize,
    pub(crate) shows: bool,
}

/// The activity at one time of a trial.
pub(crate) struct TrialState<'a, B> {
    /// Steps from the spontaneous state on.
    pub(crate) step: usize,
    /// Activity of every area, `[batch, channels, side, side]` on the device.
    pub(crate) state: &'a [B],
    /// Spontaneous state of one image per area.
    pub(crate) spontaneous: &'a [B],
}

/// What a group's trial reads and writes, in memory that is reused from batch to batch.
pub(crate) struct Trajectory<T: Real, D: Device<T>> {
    batch: usize,
    scratch: StepScratch<T, D>,
    /// Activity after 0, 1, ... steps from the spontaneous state on.
    history: History<T, D>,
    parts: Vec<PeriodInput<D::Buffer>>,
    /// Spontaneous state of one image.
    spontaneous: Vec<D::Buffer>,
    /// Output of the input convolution, then its gradient.
    convolved: D::Buffer,
    /// Gradients of what images give.
    dseen: Embedding<D::Buffer>,
    /// dL/dr per area, and of hidden variables.
    gradient: Vec<D::Buffer>,
    /// What of dL/dr is left apart until the step before it is passed, per area.
    apart: Vec<PendingGradients<D::Buffer>>,
    /// dL/du per area: of the step being passed, and summed over the steps of a part.
    delta: Vec<Deltas<D::Buffer>>,
    delta_sum: Vec<D::Buffer>,
    /// Gradient of the sum of sources, per area and inlet.
    dsource: Vec<Vec<D::Buffer>>,
    /// Gradient of a source's part, before it is masked.
    spare: Vec<D::Buffer>,
    /// Weight gradients per convolution in the fixed order.
    sums: Vec<D::WeightSum>,
    gradients: Gradients<D::Buffer>,
}

/// A part of the trial.
struct PeriodInput<B> {
    /// Steps of the trial before it, and up to its end.
    before: usize,
    end: usize,
    /// The constant part of the current.
    current: Vec<B>,
    shown: Option<EmbeddedImages<B>>,
}

/// Images, and what they give.
struct EmbeddedImages<B> {
    images: B,
    seen: Embedding<B>,
}

impl<T: Real, D: Device<T>> Trajectory<T, D> {
    /// Memory for a group of `batch` images as planned; parts have a step at least.
    pub(crate) fn new(connections: &Connections<T, D>, parts: &[Period], batch: usize, plan: Plan) -> Self {
        let device = &connections.device;
        let architecture = &connections.architecture;
        let mut end = 0;
        let held = |part: &Period| {
            let before = end;
            end += part.steps;
            PeriodInput {
                before,
                end,
                current: connections.buffers(batch),
                shown: part.shows.then(|| EmbeddedImages {
                    images: device.zeros_maps(architecture.image_maps(batch)),
                    seen: connections.embedding(batch),
                }),
            }
        };
        let parts: Vec<PeriodInput<D::Buffer>> = parts.iter().map(held).collect();
        Self {
            batch,
            scratch: connections.scratch(batch),
            history: History::new(connections, batch, end, plan.interval, plan.precision),
            parts,
            spontaneous: connections.state_buffers(1),
            convolved: connections.convolved(batch),
            dseen: connections.embedding(batch),
            gradient: connections.state_buffers(batch),
            apart: (0..architecture.areas())
                .map(|area| connections.apart(area, batch))
                .collect(),
            delta: (0..architecture.areas())
                .map(|area| connections.deltas(area, batch))
                .collect(),
            delta_sum: connections.buffers(batch),
            dsource: connections.source_buffers(batch),
            spare: connections.buffers(batch),
            sums: architecture
                .conv_shapes()
                .into_iter()
                .map(|shape| device.weight_sum(shape))
                .collect(),
            gradients: Gradients {
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
            },
        }
    }

    /// Images of the group.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Activity after `step` steps from the spontaneous state on, where the history holds all steps.
    pub(crate) fn state(&self, step: usize) -> &[D::Buffer] {
        self.history.state(step)
    }

    /// Gradients that the last trial has left.
    pub(crate) fn gradients(&self) -> &Gradients<D::Buffer> {
        &self.gradients
    }

    /// What the readout's gradients are added to: the sum of its weights', its bias's, and what it takes.
    pub(crate) fn readout(
        &mut self,
        connections: &Connections<T, D>,
    ) -> (&mut D::Workspace, &mut D::WeightSum, &mut D::Buffer) {
        (
            &mut self.scratch.work,
            &mut self.sums[connections.architecture.readout_conv()],
            &mut self.gradients.biases[connections.architecture.areas()],
        )
    }

    /// Takes over what a part shows, `[batch, channels, side, side]`.
    pub(crate) fn show(&mut self, connections: &Connections<T, D>, part: usize, images: &[T]) {
        let maps = connections.architecture.image_maps(self.batch);
        if let Some(shown) = self.parts.get_mut(part).and_then(|part| part.shown.as_mut()) {
            connections.device.upload_maps(maps, images, &mut shown.images);
        }
    }

    /// Takes over the spontaneous state of one image, that the trial starts from.
    pub(crate) fn start_from(&mut self, device: &D, spontaneous: &[D::Buffer]) {
        for (from, to) in spontaneous.iter().zip(&mut self.spontaneous) {
            device.copy(from, to);
        }
    }

    /// Activity of all steps; `after` sees every one.
    pub(crate) fn forward(
        &mut self,
        connections: &Connections<T, D>,
        mut after: impl FnMut(&mut D::Workspace, TrialState<'_, D::Buffer>),
    ) {
        let (device, batch) = (&connections.device, self.batch);
        let work = &mut self.scratch.work;
        for part in &mut self.parts {
            let seen = part.shown.as_mut().map(|EmbeddedImages { images, seen }| {
                connections.embed(work, batch, images, &mut self.convolved, &mut seen.inp);
                connections.spread(work, batch, seen);
                &*seen
            });
            connections.constant_current(work, batch, seen, &mut part.current);
        }
        let states = self.spontaneous.iter().zip(self.history.begin(connections));
        for ((spontaneous, start), maps) in states.zip(connections.state_maps(batch)) {
            device.broadcast(maps, spontaneous, start);
        }
        let areas = connections.architecture.areas();
        for part in &self.parts {
            for step in part.before + 1..=part.end {
                let scratch = &mut self.scratch;
                self.history.advance(device, step, |before, after| {
                    connections.step(scratch, batch, &part.current, before, after);
                });
                let moment = TrialState {
                    step,
                    state: &self.history.state(step)[..areas],
                    spontaneous: &self.spontaneous[..areas],
                };
                after(&mut self.scratch.work, moment);
            }
        }
    }

    /// Gradients of a loss over the last forward pass, but for the readout's: `direct` adds to dL/dr what the loss
    /// takes from the activity after a step, whose values it reads after those steps that `reads` says. To be finished.
    pub(crate) fn backward(
        &mut self,
        connections: &Connections<T, D>,
        reads: impl Fn(usize) -> bool,
        mut direct: impl FnMut(&mut D::Workspace, TrialState<'_, D::Buffer>, &mut [D::Buffer]),
    ) {
        let (device, areas) = (&connections.device, connections.architecture.areas());
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
        self.apart.iter_mut().for_each(PendingGradients::clear);
        // Without gathering, steps back read activity as it is.
        let whole = (0..areas).any(|area| connections.gathers(area, self.batch).is_none());
        for part in (0..self.parts.len()).rev() {
            for step in (self.parts[part].before + 1..=self.parts[part].end).rev() {
                let (scratch, parts) = (&mut self.scratch, &self.parts);
                let whole = whole || reads(step);
                self.history.recall(device, (step, whole), |step, before, after| {
                    let part = parts.partition_point(|part| part.end < step);
                    connections.step(scratch, self.batch, &parts[part].current, before, after);
                });
                let moment = TrialState {
                    step,
                    state: &self.history.state(step)[..areas],
                    spontaneous: &self.spontaneous[..areas],
                };
                direct(&mut self.scratch.work, moment, &mut self.gradient);
                self.step_back(connections, step, step == self.parts[part].before + 1);
            }
            self.take_bias_gradients(connections);
            self.input_gradients(connections, part);
            if part > 0 {
                // What follows belongs to another part, whose delta_sum also feeds the gradient of its own input.
                for sum in &mut self.delta_sum {
                    device.clear(sum);
                }
            }
        }
    }

    /// Brings the sums of weight gradients to their end.
    pub(crate) fn finish(&mut self, device: &D) {
        for (sum, dw) in self.sums.iter_mut().zip(&mut self.gradients.weights) {
            device.finish_weight_gradient(sum, dw);
        }
    }

    /// From dL/dr after `step` steps to dL/dr one step earlier; adds the step's weight gradients. Sums of dL/du are
    /// brought to their end with the `last` step of a part.
    fn step_back(&mut self, connections: &Connections<T, D>, step: usize, last: bool) {
        let (device, batch) = (&connections.device, self.batch);
        let architecture = &connections.architecture;
        let before = self.history.state(step - 1);
        let areas = architecture.areas();
        let (before, hidden) = before.split_at(areas);
        let after = self.history.state(step);
        let (gradient, hidden_gradient) = self.gradient.split_at_mut(areas);
        let delta = &mut self.delta;
        let StepScratch {
            work,
            source,
            rectified,
            current,
        } = &mut self.scratch;
        for (area, cell) in connections.cells.iter().enumerate() {
            let parameters = &mut self.gradients.biases[connections.area_parameters(area)];
            let trained = usize::from(architecture.area(area).trains_tau);
            let (log_tau, parameters) = parameters.split_at_mut(trained);
            let (maps, leaks) = (connections.maps(area, batch), &connections.leaks[area].channels);
            for log_tau in log_tau {
                // dr'/dalpha = phi(u) - r = (r' - r)/alpha, and dalpha/dlog tau = -alpha.
                for (factor, r) in [(-1.0, &after[area]), (1.0, &before[area])] {
                    match leaks {
                        None => device.add_dot(work, factor, &gradient[area], r, log_tau),
                        Some(_) => device.add_channel_dots(work, maps, factor, [&gradient[area], r], log_tau),
                    }
                }
            }
            let (sum, deltas) = (&mut self.delta_sum[area], &mut delta[area]);
            if connections.gathers(area, batch).is_some() {
                gathered_adjoint(
                    connections,
                    (&self.history, step, area),
                    (&mut self.apart[area], &self.dsource),
                    (&mut gradient[area], deltas, sum),
                    last,
                );
                continue;
            }
            let delta = deltas.alone();
            match leaks {
                None => {
                    let outputs = [&mut gradient[area], delta, sum];
                    self.history.leaky_adjoint(connections, step, area, outputs);
                }
                Some(leaks) => {
                    // alpha phi(u) = r' - (1 - alpha) r has the sign of u, and is exactly 0 where phi(u) is.
                    let (driven, g) = (&mut self.spare[area], &mut current[area]);
                    device.copy(&after[area], driven);
                    device.add_scaled_channels(maps, -1.0, &leaks.keep, &before[area], driven);
                    // dL/dphi(u), whose step has no leak.
                    device.copy(&gradient[area], g);
                    device.scale_channels(maps, &leaks.alpha, g);
                    device.relax_adjoint((1.0, connections.phi), &before[area], driven, g, delta, sum);
                    device.scale_channels(maps, &leaks.keep, &mut gradient[area]);
                }
            }
            if let Some(cell) = cell {
                let own = CellGradient {
                    r: &before[area],
                    hidden: &hidden[connections.hidden(area)],
                    delta: deltas.now(),
                    g: &mut gradient[area],
                    g_hidden: &mut hidden_gradient[connections.hidden(area)],
                    parameters,
                };
                cell.adjoint(device, work, own);
            }
        }
        let sums = &mut self.sums;
        let apart = &mut self.apart;
        apart.iter_mut().for_each(PendingGradients::clear);
        // The state that the trial starts from has no gradient.
        let first = step == 1;
        for (area, delta) in delta.iter().enumerate() {
            let delta = delta.now();
            if let Some(conv) = architecture.recurrent(area) {
                device.add_weight_gradient(work, &mut sums[conv], batch, &before[area], delta);
                if !first {
                    pass_back(
                        connections,
                        work,
                        (conv, batch, delta),
                        &mut apart[area],
                        &mut gradient[area],
                    );
                }
            }
            let inlets = architecture.inlets(area).iter().enumerate();
            for (number, inlet) in inlets.filter(|(_, inlet)| !inlet.areas.is_empty()) {
                if let Some(from) = connections.reads_activity(inlet) {
                    device.add_weight_gradient(work, &mut sums[inlet.conv], batch, &before[from], delta);
                    if !first {
                        let to = (&mut apart[from], &mut gradient[from]);
                        pass_back(connections, work, (inlet.conv, batch, delta), to.0, to.1);
                    }
                    continue;
                }
                let x = &mut source[area][number];
                connections.read_source(work, rectified, inlet, batch, before, x);
                device.add_weight_gradient(work, &mut sums[inlet.conv], batch, x, delta);
                let shortcuts = inlet.areas.iter().any(|(_, way)| matches!(way, Way::Conv(_)));
                if first && !shortcuts {
                    continue;
                }
                let dx = &mut self.dsource[area][number];
                let filter = connections.filter(inlet.conv);
                device.conv_transpose(work, filter, batch, delta, dx, false);
                for (from, way) in inlet.areas.iter().copied() {
                    if let Way::Conv(conv) = way {
                        let non_negative = connections.non_negative();
                        let read = if non_negative { &before[from] } else { &rectified[from] };
                        device.add_weight_gradient(work, &mut sums[conv], batch, read, dx);
                    }
                    if first {
                        continue;
                    }
                    let maps = [connections.maps(from, batch), inlet.reads.with_batch(batch)];
                    let masked = !connections.non_negative();
                    if way == Way::Direct
                        && connections.sums_operands(inlet)
                        && connections.gathers(from, batch).is_some()
                    {
                        apart[from].add_source(area, number);
                        continue;
                    }
                    if matches!(way, Way::Conv(_))
                        && let Some(part) = apart[from].room(masked)
                    {
                        connections.bring_back(work, way, maps, dx, part, false);
                        continue;
                    }
                    let spare = &mut self.spare[from];
                    let passed = if way == Way::Direct {
                        &*dx
                    } else {
                        connections.bring_back(work, way, maps, dx, spare, false);
                        &*spare
                    };
                    if masked {
                        device.add_where_positive(&before[from], passed, &mut gradient[from]);
                    } else {
                        device.add(passed, &mut gradient[from]);
                    }
                }
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

    /// Gradients of everything between the image and the areas, from dL/du summed over the part that showed it.
    fn input_gradients(&mut self, connections: &Connections<T, D>, part: usize) {
        let Some(EmbeddedImages { images, seen }) = &self.parts[part].shown else {
            return;
        };
        let (device, batch) = (&connections.device, self.batch);
        let architecture = &connections.architecture;
        let (work, sums) = (&mut self.scratch.work, &mut self.sums);
        let Embedding { inp: dinp, read } = &mut self.dseen;
        let mut added = false;
        for (area, (delta, dread)) in self.delta_sum.iter().zip(read).enumerate() {
            let inlets = architecture.inlets(area).iter().zip(dread).enumerate();
            for (number, (inlet, dread)) in inlets.filter(|(_, (inlet, _))| !inlet.image.is_empty()) {
                let filter = connections.filter(inlet.conv);
                let x = seen.read_by(area, number, inlet);
                device.add_weight_gradient(work, &mut sums[inlet.conv], batch, x, delta);
                if connections.image_source_maps(inlet, batch).is_none() {
                    device.conv_transpose(work, filter, batch, delta, dinp, added);
                    added = true;
                    continue;
                }
                device.conv_transpose(work, filter, batch, delta, dread, false);
                for way in inlet.image.iter().copied() {
                    if let Way::Conv(conv) = way {
                        device.add_weight_gradient(work, &mut sums[conv], batch, &seen.inp, dread);
                    }
                    let maps = [architecture.inp_maps(batch), inlet.reads.with_batch(batch)];
                    connections.bring_back(work, way, maps, dread, dinp, added);
                    added = true;
                }
            }
        }
        device.avg_pool_transpose(connections.convolved_maps(batch), dinp, &mut self.convolved);
        device.add_weight_gradient(work, &mut sums[INPUT], batch, images, &self.convolved);
    }

    /// Gradient of the images that the first part shows, `[batch, channels, side, side]`, after a backward pass.
    pub(crate) fn take_image_gradient(&mut self, connections: &Connections<T, D>, out: &mut [T]) {
        let (device, batch) = (&connections.device, self.batch);
        let maps = connections.architecture.image_maps(batch);
        let Some(EmbeddedImages { images, .. }) = self.parts.first_mut().and_then(|part| part.shown.as_mut()) else {
            return out.fill(T::ZERO);
        };
        // Read for the last time, so that their place is free.
        let (work, filter) = (&mut self.scratch.work, connections.filter(INPUT));
        device.conv_transpose(work, filter, batch, &self.convolved, images, false);
        device.download_maps(maps, images, out);
    }
}
