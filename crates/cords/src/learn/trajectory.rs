//! A group of images over a trial, forward and backward through time, by hand, whatever the loss.
//!
//! The activities r_t are kept, or some of them; everything else is derived from them on the way back: phi(u_t) =
//! (r_{t+1} - (1-alpha) r_t)/alpha (its sign is kept where they are rounded),
//! sources x_l from r_t. The current from an input that is held is formed once, and its gradient gathered over the
//! part of the trial in which it is. Weight gradients are summed over all steps in the form that the device's
//! algorithms want.

use super::history::History;
use super::memory::Plan;
use crate::Real;
use crate::device::Device;
use crate::net::{Connections, ConvName, StepScratch, conv_shapes};

/// Gradients of effective weights and biases, before weight norm's adjoint.
pub(crate) struct Gradients<B> {
    /// Per convolution in the fixed order.
    pub(crate) weights: Vec<B>,
    /// Bias per area, then the readout's.
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
    /// Spontaneous state of one image per area.
    spontaneous: Vec<D::Buffer>,
    /// Output of the input convolution, and its gradient.
    convolved: D::Buffer,
    dinp: D::Buffer,
    dskipped: D::Buffer,
    /// dL/dr of every area, on the device.
    gradient: Vec<D::Buffer>,
    /// dL/du per area: of the step being passed, and summed over the steps of a part.
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

/// A part of the trial.
struct PeriodInput<B> {
    /// Steps of the trial before it, and up to its end.
    before: usize,
    end: usize,
    /// The constant part of the current.
    current: Vec<B>,
    shown: Option<EmbeddedImages<B>>,
}

/// What is seen: images, the output of the input layer, and its skip.
struct EmbeddedImages<B> {
    images: B,
    inp: B,
    skipped: B,
}

impl<T: Real, D: Device<T>> Trajectory<T, D> {
    /// Memory for a group of `batch` images as planned; parts have a step at least.
    pub(crate) fn new(connections: &Connections<T, D>, parts: &[Period], batch: usize, plan: Plan) -> Self {
        let device = &connections.device;
        let architecture = &connections.architecture;
        let areas = architecture.areas();
        let image_maps = ConvName::InpConv.shape(architecture).in_maps(batch);
        let mut end = 0;
        let held = |part: &Period| {
            let before = end;
            end += part.steps;
            PeriodInput {
                before,
                end,
                current: connections.buffers(batch),
                shown: part.shows.then(|| EmbeddedImages {
                    images: device.zeros_maps(image_maps),
                    inp: connections.inp(batch),
                    skipped: connections.inp(batch),
                }),
            }
        };
        let parts: Vec<PeriodInput<D::Buffer>> = parts.iter().map(held).collect();
        Self {
            batch,
            scratch: connections.scratch(batch),
            history: History::new(connections, batch, end, plan.interval, plan.precision),
            parts,
            spontaneous: connections.buffers(1),
            convolved: connections.convolved(batch),
            dinp: connections.inp(batch),
            dskipped: connections.inp(batch),
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
    pub(crate) fn readout(&mut self) -> (&mut D::Workspace, &mut D::WeightSum, &mut D::Buffer) {
        let areas = self.spontaneous.len();
        (
            &mut self.scratch.work,
            &mut self.sums[ConvName::Readout.index(areas)],
            &mut self.gradients.biases[areas],
        )
    }

    /// Takes over what a part shows, `[batch, channels, side, side]`.
    pub(crate) fn show(&mut self, connections: &Connections<T, D>, part: usize, images: &[T]) {
        let maps = ConvName::InpConv.shape(&connections.architecture).in_maps(self.batch);
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
            let input = part.shown.as_mut().map(|EmbeddedImages { images, inp, skipped }| {
                connections.embed(work, batch, images, &mut self.convolved, inp);
                connections.skip(work, batch, inp, skipped);
                (&*inp, &*skipped)
            });
            connections.constant_current(work, batch, input, &mut part.current);
        }
        for (area, (spontaneous, start)) in self.spontaneous.iter().zip(self.history.begin()).enumerate() {
            device.broadcast(connections.maps(area, batch), spontaneous, start);
        }
        for part in &self.parts {
            for step in part.before + 1..=part.end {
                let scratch = &mut self.scratch;
                self.history.advance(device, step, |before, after| {
                    connections.step(scratch, batch, &part.current, before, after);
                });
                let moment = TrialState {
                    step,
                    state: self.history.state(step),
                    spontaneous: &self.spontaneous,
                };
                after(&mut self.scratch.work, moment);
            }
        }
    }

    /// Gradients of a loss over the last forward pass, but for the readout's: `direct` adds to dL/dr what the loss
    /// takes from the activity after a step. To be finished.
    pub(crate) fn backward(
        &mut self,
        connections: &Connections<T, D>,
        mut direct: impl FnMut(&mut D::Workspace, TrialState<'_, D::Buffer>, &mut [D::Buffer]),
    ) {
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
        for part in (0..self.parts.len()).rev() {
            for step in (self.parts[part].before + 1..=self.parts[part].end).rev() {
                let (scratch, parts) = (&mut self.scratch, &self.parts);
                self.history.recall(device, step, |step, before, after| {
                    let part = parts.partition_point(|part| part.end < step);
                    connections.step(scratch, self.batch, &parts[part].current, before, after);
                });
                let moment = TrialState {
                    step,
                    state: self.history.state(step),
                    spontaneous: &self.spontaneous,
                };
                direct(&mut self.scratch.work, moment, &mut self.gradient);
                self.step_back(connections, step);
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

    /// Gradients of everything between the image and areas 0 and 1, from dL/du summed over the part that showed it.
    fn input_gradients(&mut self, connections: &Connections<T, D>, part: usize) {
        let Some(EmbeddedImages { images, inp, skipped }) = &self.parts[part].shown else {
            return;
        };
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
        gradient(work, ConvName::Feedforward(0), inp, &self.delta_sum[0]);
        transpose(work, ConvName::Feedforward(0), &self.delta_sum[0], dinp, false);
        gradient(work, ConvName::Feedforward(1), skipped, &self.delta_sum[1]);
        transpose(work, ConvName::Feedforward(1), &self.delta_sum[1], dskipped, false);
        gradient(work, ConvName::InpSkip, inp, dskipped);
        transpose(work, ConvName::InpSkip, dskipped, dinp, true);
        let maps = ConvName::InpConv.shape(architecture).out_maps(batch);
        device.avg_pool_transpose(maps, dinp, &mut self.convolved);
        gradient(work, ConvName::InpConv, images, &self.convolved);
    }
}
