//! The connections of a CordsNet on a device, one group of images at a time: what simulation and training run on.
//!
//! Activity is a buffer per area; every area reads the previous step's activity.

use std::sync::atomic::{AtomicU64, Ordering};

use super::filters::{ConvName, Weights};
use super::parameters::{READOUT_BIAS, bias_name};
use super::{Architecture, Euler};
use crate::Real;
use crate::device::{Device, LeakyStep, Maps, Phi};

/// Filters and biases on a device.
pub(crate) struct Connections<T: Real, D: Device<T>> {
    /// No two have the same.
    pub(crate) id: u64,
    pub(crate) device: D,
    pub(crate) architecture: Architecture,
    pub(crate) phi: Phi,
    pub(crate) alphas: Vec<f64>,
    areas: Vec<Maps>,
    filters: Vec<D::Filter>,
    biases: Vec<D::Buffer>,
    readout_bias: D::Buffer,
}

/// Scratch of one group's steps.
pub(crate) struct StepScratch<T: Real, D: Device<T>> {
    pub(crate) work: D::Workspace,
    /// Source x_l per area, without the part that comes from `inp`.
    pub(crate) source: Vec<D::Buffer>,
    /// max(r, 0) per area, where activity can be negative.
    pub(crate) rectified: Vec<D::Buffer>,
}

impl<T: Real, D: Device<T>> Connections<T, D> {
    pub(crate) fn new(
        device: &D,
        architecture: &Architecture,
        euler: &Euler,
        phi: Phi,
        weights: &Weights<T, D>,
    ) -> Self {
        let sides = architecture.sides();
        let maps = |area: usize| Maps {
            batch: 1,
            channels: architecture.channels[area + 1],
            side: sides[area],
        };
        let areas: Vec<Maps> = (0..architecture.areas()).map(maps).collect();
        let readout = ConvName::Readout.shape(architecture).out_maps(1);
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut connections = Self {
            id: MADE.fetch_add(1, Ordering::Relaxed),
            device: device.clone(),
            architecture: architecture.clone(),
            phi,
            alphas: (0..architecture.areas()).map(|area| euler.alpha(area)).collect(),
            biases: areas.iter().map(|maps| device.zeros_maps(*maps)).collect(),
            readout_bias: device.zeros_maps(readout),
            areas,
            filters: weights.filters(device),
        };
        connections.fill_biases(weights);
        connections
    }

    /// Takes over other weights, in the same memory.
    pub(crate) fn fill(&mut self, weights: &Weights<T, D>) {
        weights.fill_filters(&self.device, &mut self.filters);
        self.fill_biases(weights);
    }

    /// Their order is that of `cordsnet_others`: one of each area, then the readout's.
    fn fill_biases(&mut self, weights: &Weights<T, D>) {
        let readout = self.logit_maps(1);
        let maps = self.areas.iter().chain([&readout]);
        let held = self.biases.iter_mut().chain([&mut self.readout_bias]);
        for ((bias, maps), held) in weights.others().iter().zip(maps).zip(held) {
            self.device.broadcast_parameter(*maps, bias, held);
        }
    }

    pub(crate) fn filter(&self, name: ConvName) -> &D::Filter {
        &self.filters[name.index(self.architecture.areas())]
    }

    /// Maps of an area for `batch` images.
    pub(crate) fn maps(&self, area: usize, batch: usize) -> Maps {
        self.areas[area].with_batch(batch)
    }

    /// Units of one image.
    pub(crate) fn units(&self) -> usize {
        self.areas.iter().map(|maps| maps.len()).sum()
    }

    /// A buffer for every area.
    pub(crate) fn buffers(&self, batch: usize) -> Vec<D::Buffer> {
        (0..self.areas.len())
            .map(|area| self.device.zeros_maps(self.maps(area, batch)))
            .collect()
    }

    /// A buffer for every area's source (empty for area 0, which reads `inp`).
    pub(crate) fn source_buffers(&self, batch: usize) -> Vec<D::Buffer> {
        (0..self.areas.len())
            .map(|area| match area {
                0 => self.device.zeros(0),
                _ => {
                    let shape = ConvName::Feedforward(area).shape(&self.architecture);
                    self.device.zeros_maps(shape.in_maps(batch))
                }
            })
            .collect()
    }

    /// Whether activity stays non-negative, so that max(r, 0) = r: ReLU with alpha <= 1 from a non-negative state.
    pub(crate) fn non_negative(&self) -> bool {
        self.phi == Phi::Relu
    }

    pub(crate) fn scratch(&self, batch: usize) -> StepScratch<T, D> {
        let rectified = |area: usize| {
            if self.non_negative() {
                self.device.zeros(0)
            } else {
                self.device.zeros_maps(self.maps(area, batch))
            }
        };
        StepScratch {
            work: D::Workspace::default(),
            source: self.source_buffers(batch),
            rectified: (0..self.areas.len()).map(rectified).collect(),
        }
    }

    /// A buffer for the input convolution's output.
    pub(crate) fn convolved(&self, batch: usize) -> D::Buffer {
        let shape = ConvName::InpConv.shape(&self.architecture);
        self.device.zeros_maps(shape.out_maps(batch))
    }

    /// A buffer for `inp`, or its skip.
    pub(crate) fn inp(&self, batch: usize) -> D::Buffer {
        self.device.zeros_maps(self.inp_maps(batch))
    }

    /// `inp` = average pool of the input convolution of the images, which is left in `convolved`.
    pub(crate) fn embed(
        &self,
        work: &mut D::Workspace,
        batch: usize,
        images: &D::Buffer,
        convolved: &mut D::Buffer,
        inp: &mut D::Buffer,
    ) {
        let maps = ConvName::InpConv.shape(&self.architecture).out_maps(batch);
        let filter = self.filter(ConvName::InpConv);
        self.device.conv(work, filter, batch, images, convolved, false);
        self.device.avg_pool(maps, convolved, inp);
    }

    /// Maps of the images.
    pub(crate) fn image_maps(&self, batch: usize) -> Maps {
        ConvName::InpConv.shape(&self.architecture).in_maps(batch)
    }

    /// Maps of the input layer's output `inp`.
    pub(crate) fn inp_maps(&self, batch: usize) -> Maps {
        ConvName::InpSkip.shape(&self.architecture).in_maps(batch)
    }

    /// Convolves `inp` into the source of area 1: skipped = inp_skip(inp).
    pub(crate) fn skip(&self, work: &mut D::Workspace, batch: usize, inp: &D::Buffer, skipped: &mut D::Buffer) {
        let filter = self.filter(ConvName::InpSkip);
        self.device.conv(work, filter, batch, inp, skipped, false);
    }

    /// The constant part of every area's current: its bias, and for areas 0 and 1 what comes straight from `inp`
    /// (area_area_0(inp) and area_area_1(inp_skip(inp))). `None` is a blank input.
    pub(crate) fn constant_current(
        &self,
        work: &mut D::Workspace,
        batch: usize,
        inp: Option<(&D::Buffer, &D::Buffer)>,
        out: &mut [D::Buffer],
    ) {
        for (area, out) in out.iter_mut().enumerate() {
            self.device.broadcast(self.maps(area, batch), &self.biases[area], out);
        }
        if let Some((inp, skipped)) = inp {
            self.device.conv(
                work,
                self.filter(ConvName::Feedforward(0)),
                batch,
                inp,
                &mut out[0],
                true,
            );
            self.device.conv(
                work,
                self.filter(ConvName::Feedforward(1)),
                batch,
                skipped,
                &mut out[1],
                true,
            );
        }
    }

    /// The part of x_l that comes from other areas' activity, written to `x` (nothing for area 0).
    pub(crate) fn read_source(
        &self,
        work: &mut D::Workspace,
        rectified: &mut [D::Buffer],
        area: usize,
        batch: usize,
        activity: &[D::Buffer],
        x: &mut D::Buffer,
    ) {
        let device = &self.device;
        match area {
            0 => {}
            1 => device.rectify(&activity[0], x),
            _ if area.is_multiple_of(2) => {
                device.rectify(&activity[area - 1], x);
                device.add_rectified(&activity[area - 2], x);
            }
            _ => {
                let from = if self.non_negative() {
                    &activity[area - 2]
                } else {
                    device.rectify(&activity[area - 2], &mut rectified[area - 2]);
                    &rectified[area - 2]
                };
                device.conv(work, self.filter(ConvName::Shortcut(area)), batch, from, x, false);
                device.add_rectified(&activity[area - 1], x);
            }
        }
    }

    /// One synchronous Euler step of all areas: every area reads the previous step's activity.
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
        } = scratch;
        for area in 0..self.areas.len() {
            let recurrent = (self.filter(ConvName::Recurrent(area)), &activity[area]);
            let step = LeakyStep {
                alpha: self.alphas[area],
                phi: self.phi,
                current: &constant[area],
                r: &activity[area],
                next: &mut next[area],
            };
            if area == 0 {
                self.device.leaky_conv(work, &[recurrent], batch, step);
                continue;
            }
            let x = if area == 1 && self.non_negative() {
                &activity[0]
            } else {
                self.read_source(work, rectified, area, batch, activity, &mut source[area]);
                &source[area]
            };
            let feedforward = (self.filter(ConvName::Feedforward(area)), x);
            self.device.leaky_conv(work, &[recurrent, feedforward], batch, step);
        }
    }

    /// Spontaneous state of one image: `steps` steps without input from r = 0.
    pub(crate) fn spontaneous(&self, steps: usize) -> Vec<D::Buffer> {
        let mut scratch = self.scratch(1);
        let (mut now, mut next) = (self.buffers(1), self.buffers(1));
        for _ in 0..steps {
            // Biases are the constant current of one image.
            self.step(&mut scratch, 1, &self.biases, &now, &mut next);
            std::mem::swap(&mut now, &mut next);
        }
        now
    }

    /// Pooled activity of the last two areas and logits, both maps of side 1.
    pub(crate) fn read_out(
        &self,
        work: &mut D::Workspace,
        batch: usize,
        activity: &[D::Buffer],
        pooled: &mut D::Buffer,
        logits: &mut D::Buffer,
    ) {
        let last = self.areas.len() - 1;
        self.device
            .pool_pair(self.maps(last, batch), &activity[last], &activity[last - 1], pooled);
        self.device
            .broadcast(self.logit_maps(batch), &self.readout_bias, logits);
        self.device
            .conv(work, self.filter(ConvName::Readout), batch, pooled, logits, true);
    }

    /// Maps of the logits.
    pub(crate) fn logit_maps(&self, batch: usize) -> Maps {
        ConvName::Readout.shape(&self.architecture).out_maps(batch)
    }

    /// Maps of the pooled activity.
    pub(crate) fn pooled_maps(&self, batch: usize) -> Maps {
        ConvName::Readout.shape(&self.architecture).in_maps(batch)
    }
}

/// Names of a CordsNet's parameters apart from g and v.
pub(crate) fn cordsnet_others(architecture: &Architecture) -> Vec<String> {
    (0..architecture.areas())
        .map(bias_name)
        .chain([READOUT_BIAS.to_owned()])
        .collect()
}
