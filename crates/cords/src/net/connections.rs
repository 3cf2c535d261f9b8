//! The connections of a CordsNet on a device, one group of images at a time: what simulation and training run on.
//!
//! Activity is a buffer per area; every area reads the previous step's activity.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::{AreaCell, CellStep};
use super::filters::Weights;
use super::graph::{INPUT, Inlet, Way};
use super::parameters::{READOUT_BIAS, bias_name};
use super::{Euler, Graph};
use crate::Real;
use crate::device::{Device, Maps, NormalNoise, Phi, Relaxation};
use crate::rng::Stream;

/// Filters and biases on a device.
pub(crate) struct Connections<T: Real, D: Device<T>> {
    /// No two have the same.
    pub(crate) id: u64,
    pub(crate) device: D,
    pub(crate) architecture: Graph,
    pub(crate) phi: Phi,
    pub(crate) dt_ms: f64,
    pub(crate) leaks: Vec<Leak<D::Buffer>>,
    /// None where units are leaky and nothing else.
    pub(crate) cells: Vec<Option<AreaCell>>,
    /// Areas of hidden variables, in the order in which states have them after the activities.
    hidden: Vec<usize>,
    /// Where time constant and parameters of each area's cell are among those that are no convolution's.
    area_parameters: Vec<Range<usize>>,
    filters: Vec<D::Filter>,
    pub(super) biases: Vec<D::Buffer>,
    readout_bias: D::Buffer,
}

/// The leak of an area.
pub(crate) struct Leak<B> {
    /// dt/tau; 1 where channels have their own.
    pub(crate) alpha: f64,
    pub(crate) channels: Option<ChannelLeaks<B>>,
}

/// dt/tau of every channel of an area.
pub(crate) struct ChannelLeaks<B> {
    pub(crate) alphas: Vec<f64>,
    /// The same on the device, and 1 - dt/tau.
    pub(crate) alpha: B,
    pub(crate) keep: B,
    /// sqrt(2 tau/dt).
    noise: B,
}

/// Scratch of one group's steps.
pub(crate) struct StepScratch<T: Real, D: Device<T>> {
    pub(crate) work: D::Workspace,
    /// Sum of an inlet's sources from areas, per area and inlet; empty where an activity is read itself.
    pub(crate) source: Vec<Vec<D::Buffer>>,
    /// max(r, 0) per area, where activity can be negative.
    pub(crate) rectified: Vec<D::Buffer>,
    /// Maps per area: its current as its cell changes it, and spare ones for noise and the way back where channels have
    /// their own leaks; empty where neither is so.
    pub(crate) current: Vec<D::Buffer>,
}

/// What an image gives to a network: the output of the input layer, and what it becomes on its way to each inlet that
/// reads it, by area and inlet; empty where the inlet reads `inp` itself, or no image.
pub(crate) struct Embedding<B> {
    pub(crate) inp: B,
    pub(crate) read: Vec<Vec<B>>,
}

impl<B> ChannelLeaks<B> {
    fn new<T: Real, D: Device<T, Buffer = B>>(device: &D, alphas: Vec<f64>) -> Self {
        let upload = |of: &dyn Fn(f64) -> f64| {
            let host: Vec<T> = alphas.iter().map(|alpha| T::from_f64(of(*alpha))).collect();
            device.upload(&host)
        };
        Self {
            alpha: upload(&|alpha| alpha),
            keep: upload(&|alpha| 1.0 - alpha),
            noise: upload(&|alpha| (2.0 / alpha).sqrt()),
            alphas,
        }
    }
}

impl<B> Embedding<B> {
    /// What the convolution of an area's inlet reads of the image.
    pub(crate) fn read_by(&self, area: usize, number: usize, inlet: &Inlet) -> &B {
        if inlet.image == [Way::Direct] {
            &self.inp
        } else {
            &self.read[area][number]
        }
    }
}

impl<T: Real, D: Device<T>> Connections<T, D> {
    pub(crate) fn new(device: &D, architecture: &Graph, euler: &Euler, phi: Phi, weights: &Weights<T, D>) -> Self {
        let kinds = (0..architecture.areas()).map(|area| &architecture.area(area).cell);
        let cells: Vec<Option<AreaCell>> = kinds.map(|kind| AreaCell::new(kind, euler.dt_ms)).collect();
        let count = |cell: &Option<AreaCell>| cell.as_ref().map_or(0, |cell| cell.cell.hidden());
        let hidden = cells.iter().map(count).enumerate();
        // After every area's bias and the readout's.
        let mut next = architecture.areas() + 1;
        let area_parameters = |area: usize| {
            let first = next;
            next += architecture.area(area).parameters(area).len();
            first..next
        };
        let mut connections = Self {
            area_parameters: (0..architecture.areas()).map(area_parameters).collect(),
            id: number(),
            hidden: hidden
                .flat_map(|(area, count)| std::iter::repeat_n(area, count))
                .collect(),
            cells,
            dt_ms: euler.dt_ms,
            device: device.clone(),
            architecture: architecture.clone(),
            phi,
            leaks: (0..architecture.areas())
                .map(|area| Leak {
                    alpha: architecture.alpha(euler, area),
                    channels: None,
                })
                .collect(),
            biases: (0..architecture.areas())
                .map(|area| device.zeros_maps(architecture.maps(area, 1)))
                .collect(),
            readout_bias: device.zeros_maps(architecture.logit_maps(1)),
            filters: weights.filters(device),
        };
        connections.fill_biases(weights);
        connections
    }

    /// Takes over other weights, in the same memory.
    pub(crate) fn fill(&mut self, weights: &Weights<T, D>) {
        weights.fill_filters(&self.device, &mut self.filters);
        self.fill_biases(weights);
        if self.architecture.area_parameters().next().is_some() {
            // Factors of steps: work that was recorded with others is not this.
            self.id = number();
        }
    }

    /// Their order is that of `cordsnet_others`: one of each area, then the readout's, then time constants and
    /// parameters of cells.
    fn fill_biases(&mut self, weights: &Weights<T, D>) {
        let architecture = &self.architecture;
        let areas = (0..architecture.areas()).map(|area| architecture.maps(area, 1));
        let maps = areas.chain([architecture.logit_maps(1)]);
        let held = self.biases.iter_mut().chain([&mut self.readout_bias]);
        for ((bias, maps), held) in weights.others().iter().zip(maps).zip(held) {
            self.device.broadcast_parameter(maps, bias, held);
        }
        for (area, cell) in self.cells.iter_mut().enumerate() {
            let description = architecture.area(area);
            let own = &weights.others()[self.area_parameters[area].clone()];
            let mut values = own.iter().map(|buffer| self.device.download(buffer));
            if description.trains_tau
                && let Some(log_taus) = values.next()
            {
                // A step that is as long as the time constant but for its rounding.
                let alpha = |log_tau: &T| (self.dt_ms / log_tau.to_f64().exp()).min(1.0);
                let alphas: Vec<f64> = log_taus.iter().map(alpha).collect();
                self.leaks[area] = if description.tau_per_channel {
                    Leak {
                        alpha: 1.0,
                        channels: Some(ChannelLeaks::new::<T, D>(&self.device, alphas)),
                    }
                } else {
                    Leak {
                        alpha: alphas[0],
                        channels: None,
                    }
                };
            }
            if let Some(cell) = cell {
                cell.set(values.flatten().map(T::to_f64).collect());
            }
        }
    }

    /// Values of each parameter that is no convolution's, in the order of `cordsnet_others`.
    pub(crate) fn other_lengths(&self) -> Vec<usize> {
        let architecture = &self.architecture;
        let biases = (0..architecture.areas()).map(|area| architecture.area_units(area));
        let of_cells = architecture.area_parameters().map(|parameter| parameter.values);
        biases.chain([architecture.classes()]).chain(of_cells).collect()
    }

    /// Where time constant and parameters of an area's cell are among those that are no convolution's.
    pub(crate) fn area_parameters(&self, area: usize) -> Range<usize> {
        self.area_parameters[area].clone()
    }

    /// Where the hidden variables of an area are among all of them.
    pub(crate) fn hidden(&self, area: usize) -> Range<usize> {
        let first = self.hidden.partition_point(|of| *of < area);
        first..self.hidden.partition_point(|of| *of <= area)
    }

    /// Maps of everything that a state has: activities, then hidden variables.
    pub(crate) fn state_maps(&self, batch: usize) -> Vec<Maps> {
        let areas = (0..self.architecture.areas()).chain(self.hidden.iter().copied());
        areas.map(|area| self.maps(area, batch)).collect()
    }

    /// Buffers for a state.
    pub(crate) fn state_buffers(&self, batch: usize) -> Vec<D::Buffer> {
        let maps = self.state_maps(batch).into_iter();
        maps.map(|maps| self.device.zeros_maps(maps)).collect()
    }

    /// The same for one that steps make and read.
    pub(crate) fn activity_buffers(&self, batch: usize) -> Vec<D::Buffer> {
        let maps = self.state_maps(batch).into_iter();
        maps.map(|maps| self.device.zeros_relaxed(maps)).collect()
    }

    /// A convolution's weights, by its number.
    pub(crate) fn filter(&self, conv: usize) -> &D::Filter {
        &self.filters[conv]
    }

    /// Maps of an area for `batch` images.
    pub(crate) fn maps(&self, area: usize, batch: usize) -> Maps {
        self.architecture.maps(area, batch)
    }

    /// A buffer for every area.
    pub(crate) fn buffers(&self, batch: usize) -> Vec<D::Buffer> {
        (0..self.architecture.areas())
            .map(|area| self.device.zeros_maps(self.maps(area, batch)))
            .collect()
    }

    /// The area whose activity an inlet's convolution reads itself, without a sum of sources: there is no other source,
    /// and nothing to rectify.
    pub(crate) fn reads_activity(&self, inlet: &Inlet) -> Option<usize> {
        match inlet.areas[..] {
            [(area, Way::Direct)] if self.non_negative() => Some(area),
            _ => None,
        }
    }

    /// Maps of an inlet's sum of sources from areas, where one is formed.
    pub(crate) fn source_maps(&self, inlet: &Inlet, batch: usize) -> Option<Maps> {
        let formed = !inlet.areas.is_empty() && self.reads_activity(inlet).is_none();
        formed.then(|| inlet.reads.with_batch(batch))
    }

    /// Whether an inlet's sum of sources from areas is formed of nothing but maps that convolutions read and give.
    pub(crate) fn sums_operands(&self, inlet: &Inlet) -> bool {
        !inlet.areas.iter().any(|(_, way)| matches!(way, Way::Upsampled(_)))
    }

    /// Whether an inlet reads an enlarged form of an area's activity.
    fn is_enlarged(&self, area: usize) -> bool {
        let inlets = self.architecture.all_inlets().map(|(_, inlet)| inlet);
        let mut sources = inlets.flat_map(|inlet| &inlet.areas);
        sources.any(|(from, way)| *from == area && matches!(way, Way::Upsampled(_)))
    }

    /// How many gradients of an area's activity convolutions give in a step.
    pub(crate) fn readers(&self, area: usize) -> usize {
        let inlets = self.architecture.all_inlets().map(|(_, inlet)| inlet);
        let sources = inlets.flat_map(|inlet| inlet.areas.iter().filter(|(from, _)| *from == area));
        sources.count() + usize::from(self.architecture.recurrent(area).is_some())
    }

    /// How many convolutions of activity an area's step has.
    pub(crate) fn terms(&self, area: usize) -> usize {
        let inlets = self.architecture.inlets(area).iter();
        let recurrent = usize::from(self.architecture.recurrent(area).is_some());
        recurrent + inlets.filter(|inlet| !inlet.areas.is_empty()).count()
    }

    /// Whether steps of an area need maps for its current, or noise and the way back spare ones.
    pub(crate) fn changes_current(&self, area: usize) -> bool {
        self.cells[area].is_some() || self.leaks[area].channels.is_some()
    }

    /// A buffer for every inlet, by area, of maps that some have.
    fn inlet_buffers(&self, maps: impl Fn(&Inlet) -> Option<Maps>) -> Vec<Vec<D::Buffer>> {
        let buffer = |inlet: &Inlet| maps(inlet).map_or(self.device.zeros(0), |maps| self.device.zeros_maps(maps));
        let areas = 0..self.architecture.areas();
        areas
            .map(|area| self.architecture.inlets(area).iter().map(buffer).collect())
            .collect()
    }

    /// A buffer for every inlet's sum of sources.
    pub(crate) fn source_buffers(&self, batch: usize) -> Vec<Vec<D::Buffer>> {
        let buffer = |inlet: &Inlet| match self.source_maps(inlet, batch) {
            None => self.device.zeros(0),
            Some(maps) if self.sums_operands(inlet) => self.device.zeros_operand(maps),
            Some(maps) => self.device.zeros_maps(maps),
        };
        let areas = 0..self.architecture.areas();
        areas
            .map(|area| self.architecture.inlets(area).iter().map(buffer).collect())
            .collect()
    }

    /// Whether activity stays non-negative, so that max(r, 0) = r: ReLU with alpha <= 1 from a non-negative state.
    pub(crate) fn non_negative(&self) -> bool {
        self.phi == Phi::Relu
    }

    pub(crate) fn scratch(&self, batch: usize) -> StepScratch<T, D> {
        let rectified = |area: usize| {
            let maps = self.maps(area, batch);
            match self.non_negative() {
                true => self.device.zeros(0),
                false if self.is_enlarged(area) => self.device.zeros_maps(maps),
                false => self.device.zeros_operand(maps),
            }
        };
        StepScratch {
            work: D::Workspace::default(),
            source: self.source_buffers(batch),
            rectified: (0..self.architecture.areas()).map(rectified).collect(),
            current: (0..self.architecture.areas())
                .map(|area| match self.changes_current(area) {
                    true => self.device.zeros_maps(self.maps(area, batch)),
                    false => self.device.zeros(0),
                })
                .collect(),
        }
    }

    /// A buffer for the input convolution's output.
    pub(crate) fn convolved(&self, batch: usize) -> D::Buffer {
        self.device.zeros_maps(self.convolved_maps(batch))
    }

    /// Maps of the input convolution's output.
    pub(crate) fn convolved_maps(&self, batch: usize) -> Maps {
        self.architecture.convs()[INPUT].shape.out_maps(batch)
    }

    /// Maps of what an image is on its way to an inlet, where that is not `inp` itself.
    pub(crate) fn image_source_maps(&self, inlet: &Inlet, batch: usize) -> Option<Maps> {
        let formed = !inlet.image.is_empty() && inlet.image != [Way::Direct];
        formed.then(|| inlet.reads.with_batch(batch))
    }

    /// Buffers for what images give.
    pub(crate) fn embedding(&self, batch: usize) -> Embedding<D::Buffer> {
        Embedding {
            inp: self.device.zeros_maps(self.architecture.inp_maps(batch)),
            read: self.inlet_buffers(|inlet| self.image_source_maps(inlet, batch)),
        }
    }

    /// One synchronous Euler step of all areas: every area reads the previous step's activity. States are as
    /// [`state_buffers`](Self::state_buffers).
    pub(crate) fn step(
        &self,
        scratch: &mut StepScratch<T, D>,
        batch: usize,
        constant: &[D::Buffer],
        activity: &[D::Buffer],
        next: &mut [D::Buffer],
    ) {
        let StepScratch {
            work,
            source,
            rectified,
            current,
        } = scratch;
        let areas = self.architecture.areas();
        let (activity, hidden) = activity.split_at(areas);
        let (next, next_hidden) = next.split_at_mut(areas);
        for (area, source) in source.iter_mut().enumerate() {
            let inlets = self.architecture.inlets(area);
            for (inlet, x) in inlets.iter().zip(source.iter_mut()) {
                if self.source_maps(inlet, batch).is_some() {
                    self.read_source(work, rectified, inlet, batch, activity, x);
                }
            }
            let recurrent = self.architecture.recurrent(area);
            let mut terms: Vec<(&D::Filter, &D::Buffer)> = Vec::with_capacity(1 + inlets.len());
            terms.extend(recurrent.map(|conv| (self.filter(conv), &activity[area])));
            for (inlet, x) in inlets.iter().zip(&*source).filter(|(inlet, _)| !inlet.areas.is_empty()) {
                let x = self.reads_activity(inlet).map_or(x, |from| &activity[from]);
                terms.push((self.filter(inlet.conv), x));
            }
            let current = match &self.cells[area] {
                None => &constant[area],
                Some(cell) => {
                    let current = &mut current[area];
                    self.device.copy(&constant[area], current);
                    let step = CellStep {
                        r: &activity[area],
                        hidden: &hidden[self.hidden(area)],
                        current,
                        next_hidden: &mut next_hidden[self.hidden(area)],
                    };
                    cell.step(&self.device, work, step);
                    &*current
                }
            };
            let step = Relaxation {
                alpha: self.leaks[area].alpha,
                phi: self.phi,
                offset: current,
                x: &activity[area],
                y: &mut next[area],
            };
            self.device.relax(work, &terms, batch, step);
            if let Some(leaks) = &self.leaks[area].channels {
                // That was phi(u).
                let (maps, next) = (self.maps(area, batch), &mut next[area]);
                self.device.scale_channels(maps, &leaks.alpha, next);
                self.device
                    .add_scaled_channels(maps, 1.0, &leaks.keep, &activity[area], next);
            }
        }
    }

    /// dt/tau of an area, one or one for each channel.
    pub(crate) fn area_alphas(&self, area: usize) -> &[f64] {
        let Leak { alpha, channels } = &self.leaks[area];
        let one = std::slice::from_ref(alpha);
        channels.as_ref().map_or(one, |leaks| &leaks.alphas)
    }

    /// A current with noise whose standard deviation is `std` times sqrt(2 tau/dt), from a stream for each image.
    /// `spare` are the area's maps of [`StepScratch::current`].
    pub(crate) fn add_noise(
        &self,
        area: usize,
        streams: &[Stream],
        std: f64,
        current: &D::Buffer,
        spare: &mut D::Buffer,
        noisy: &mut D::Buffer,
    ) {
        let maps = self.maps(area, streams.len());
        let normal = |std| NormalNoise {
            streams,
            std,
            proportional: false,
        };
        match &self.leaks[area].channels {
            None => {
                let noise = normal((2.0 / self.leaks[area].alpha).sqrt() * std);
                self.device.add_normal(maps, noise, current, noisy);
            }
            Some(leaks) => {
                self.device.clear(spare);
                self.device.add_normal(maps, normal(std), spare, noisy);
                self.device.scale_channels(maps, &leaks.noise, noisy);
                self.device.add(current, noisy);
            }
        }
    }

    /// Pooled activity and logits, both maps of side 1.
    pub(crate) fn read_out(
        &self,
        work: &mut D::Workspace,
        batch: usize,
        activity: &[D::Buffer],
        pooled: &mut D::Buffer,
        logits: &mut D::Buffer,
    ) {
        pool_readout(&self.device, &self.architecture, batch, activity, pooled);
        self.device
            .broadcast(self.architecture.logit_maps(batch), &self.readout_bias, logits);
        let readout = self.filter(self.architecture.readout_conv());
        self.device.conv(work, readout, batch, pooled, logits, true);
    }
}

/// The mean over the plane of the rectified activity of the areas that are read out, summed.
pub(crate) fn pool_readout<T: Real, D: Device<T>>(
    device: &D,
    architecture: &Graph,
    batch: usize,
    activity: &[D::Buffer],
    pooled: &mut D::Buffer,
) {
    for (index, (first, second)) in architecture.readout_pairs().iter().enumerate() {
        let maps = architecture.maps(*first, batch);
        let second = second.map(|area| &activity[area]);
        device.pool(maps, &activity[*first], second, pooled, index > 0);
    }
}

/// Names of a CordsNet's parameters apart from g and v.
pub(crate) fn cordsnet_others(architecture: &Graph) -> Vec<String> {
    (0..architecture.areas())
        .map(bias_name)
        .chain([READOUT_BIAS.to_owned()])
        .chain(architecture.area_parameters().map(|parameter| parameter.name))
        .collect()
}

/// A number that no connections have had.
fn number() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    MADE.fetch_add(1, Ordering::Relaxed)
}
