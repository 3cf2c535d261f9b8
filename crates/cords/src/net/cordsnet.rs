//! CordsNet as a dynamical system: simulation with host values in and out, and the connections it is made of.
//!
//! `Connections` is the network on a device, one group of images at a time; training runs on it too.

use super::filters::{ConvName, Weights};
use super::parameters::{READOUT_BIAS, bias_name};
use super::{Architecture, Euler, NetError, Parameters, Phi};
use crate::device::{Cpu, Device, Maps};
use crate::{Real, Tensor};

/// Activity of every area for a batch of images: `areas[l]` is `[batch, channels, side, side]`.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    /// Images.
    pub batch: usize,
    /// Activity per area.
    pub areas: Vec<Vec<T>>,
}

impl<T: Real> State<T> {
    /// One image's state repeated for a batch.
    pub fn repeated(&self, batch: usize) -> Self {
        Self {
            batch: self.batch * batch,
            areas: self.areas.iter().map(|area| area.repeat(batch)).collect(),
        }
    }
}

/// What the network sees while it runs.
pub enum Input<'a, T> {
    /// Nothing: `inp` is zero.
    Blank,
    /// An image held for all steps, given as its embedding `[batch, channels, side, side]` from [`CordsNet::embed`].
    Constant(&'a [T]),
    /// Normalised images `[batch, in_channels, image_side, image_side]` written anew for every step.
    Varying(&'a mut dyn FnMut(usize, &mut Vec<T>)),
}

/// Filters and biases on a device.
pub(crate) struct Connections<T: Real, D: Device<T>> {
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
    /// Input current per area.
    pub(crate) current: Vec<D::Buffer>,
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
        // The order of `cordsnet_others`: a bias per area, then the readout's.
        let mut biases: Vec<D::Buffer> = weights.others().iter().map(|buffer| device.duplicate(buffer)).collect();
        let readout_bias = biases.pop().expect("the readout's bias comes last");
        let sides = architecture.sides();
        let maps = |area: usize| Maps {
            batch: 1,
            channels: architecture.channels[area + 1],
            side: sides[area],
        };
        Self {
            device: device.clone(),
            architecture: architecture.clone(),
            phi,
            alphas: (0..architecture.areas()).map(|area| euler.alpha(area)).collect(),
            areas: (0..architecture.areas()).map(maps).collect(),
            filters: weights.filters(device),
            biases,
            readout_bias,
        }
    }

    pub(crate) fn filter(&self, name: ConvName) -> &D::Filter {
        &self.filters[name.index(self.architecture.areas())]
    }

    /// Maps of an area for `batch` images.
    pub(crate) fn maps(&self, area: usize, batch: usize) -> Maps {
        self.areas[area].with_batch(batch)
    }

    /// A buffer for every area.
    pub(crate) fn buffers(&self, batch: usize) -> Vec<D::Buffer> {
        (0..self.areas.len())
            .map(|area| self.device.zeros(self.maps(area, batch).len()))
            .collect()
    }

    /// Whether activity stays non-negative, so that max(r, 0) = r: ReLU with alpha <= 1 from a non-negative state.
    pub(crate) fn non_negative(&self) -> bool {
        self.phi == Phi::Relu
    }

    pub(crate) fn scratch(&self, batch: usize) -> StepScratch<T, D> {
        let source = |area: usize| match area {
            0 => 0,
            _ => ConvName::Feedforward(area)
                .shape(&self.architecture)
                .in_maps(batch)
                .len(),
        };
        let rectified = |area: usize| {
            if self.non_negative() {
                0
            } else {
                self.maps(area, batch).len()
            }
        };
        let areas = 0..self.areas.len();
        StepScratch {
            work: D::Workspace::default(),
            current: self.buffers(batch),
            source: areas.clone().map(|area| self.device.zeros(source(area))).collect(),
            rectified: areas.map(|area| self.device.zeros(rectified(area))).collect(),
        }
    }

    /// `inp` = average pool of the input convolution of the images; also returns the convolution's output maps.
    pub(crate) fn embed(&self, work: &mut D::Workspace, batch: usize, images: &D::Buffer) -> D::Buffer {
        let shape = ConvName::InpConv.shape(&self.architecture);
        let mut convolved = self.device.zeros(shape.out_maps(batch).len());
        self.device.conv(
            work,
            self.filter(ConvName::InpConv),
            batch,
            images,
            &mut convolved,
            false,
        );
        let mut inp = self.device.zeros(self.inp_maps(batch).len());
        self.device.avg_pool(shape.out_maps(batch), &convolved, &mut inp);
        inp
    }

    /// Maps of `inp`.
    pub(crate) fn inp_maps(&self, batch: usize) -> Maps {
        ConvName::InpSkip.shape(&self.architecture).in_maps(batch)
    }

    /// inp_skip(inp).
    pub(crate) fn skip(&self, work: &mut D::Workspace, batch: usize, inp: &D::Buffer) -> D::Buffer {
        let mut skipped = self.device.zeros(self.inp_maps(batch).len());
        self.device
            .conv(work, self.filter(ConvName::InpSkip), batch, inp, &mut skipped, false);
        skipped
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
            _ if area % 2 == 0 => {
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
        let device = &self.device;
        for area in 0..self.areas.len() {
            let StepScratch {
                work,
                current,
                source,
                rectified,
            } = scratch;
            let current = &mut current[area];
            device.copy(&constant[area], current);
            device.conv(
                work,
                self.filter(ConvName::Recurrent(area)),
                batch,
                &activity[area],
                current,
                true,
            );
            if area == 1 && self.non_negative() {
                device.conv(
                    work,
                    self.filter(ConvName::Feedforward(1)),
                    batch,
                    &activity[0],
                    current,
                    true,
                );
            } else if area > 0 {
                self.read_source(work, rectified, area, batch, activity, &mut source[area]);
                device.conv(
                    work,
                    self.filter(ConvName::Feedforward(area)),
                    batch,
                    &source[area],
                    current,
                    true,
                );
            }
            device.leaky_update(self.alphas[area], self.phi, &activity[area], current, &mut next[area]);
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

/// A CordsNet ready to run: architecture, time constants, weight-normalised weights.
pub struct CordsNet<T: Real, D: Device<T> = Cpu> {
    euler: Euler,
    parameters: Parameters<T>,
    connections: Connections<T, D>,
}

/// Working memory of a run over one group of images.
struct Group<T: Real, D: Device<T>> {
    first: usize,
    batch: usize,
    scratch: StepScratch<T, D>,
    constant: Vec<D::Buffer>,
    now: Vec<D::Buffer>,
    next: Vec<D::Buffer>,
    images: D::Buffer,
}

impl<T: Real> CordsNet<T, Cpu> {
    /// A network on the CPU.
    ///
    /// # Errors
    /// A [`NetError`] where architecture, time constants or parameters do not fit together.
    pub fn new(
        architecture: &Architecture,
        parameters: &Parameters<T>,
        euler: &Euler,
        phi: Phi,
    ) -> Result<Self, NetError> {
        Self::on(&Cpu, architecture, parameters, euler, phi)
    }

    /// The same network in another number type.
    pub fn cast<U: Real>(&self) -> CordsNet<U, Cpu> {
        let parameters = self.parameters.cast();
        CordsNet::assemble(
            &Cpu,
            &self.connections.architecture,
            parameters,
            &self.euler,
            self.connections.phi,
        )
    }
}

impl<T: Real, D: Device<T>> CordsNet<T, D> {
    /// A network on a given device.
    ///
    /// # Errors
    /// A [`NetError`] where architecture, time constants or parameters do not fit together.
    pub fn on(
        device: &D,
        architecture: &Architecture,
        parameters: &Parameters<T>,
        euler: &Euler,
        phi: Phi,
    ) -> Result<Self, NetError> {
        architecture.validate()?;
        euler.validate(architecture.areas())?;
        let parameters = parameters.arranged(&architecture.cordsnet_shapes())?;
        Ok(Self::assemble(device, architecture, parameters, euler, phi))
    }

    fn assemble(device: &D, architecture: &Architecture, parameters: Parameters<T>, euler: &Euler, phi: Phi) -> Self {
        let weights = Weights::upload(device, architecture, &parameters, cordsnet_others(architecture));
        let connections = Connections::new(device, architecture, euler, phi, &weights);
        Self {
            euler: euler.clone(),
            parameters,
            connections,
        }
    }

    /// The network's sizes.
    pub fn architecture(&self) -> &Architecture {
        &self.connections.architecture
    }

    /// Step and time constants.
    pub fn euler(&self) -> &Euler {
        &self.euler
    }

    /// The activation function.
    pub fn phi(&self) -> Phi {
        self.connections.phi
    }

    /// Parameters in the published order.
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// Channels, height and width of an area.
    pub fn area_shape(&self, area: usize) -> [usize; 3] {
        let maps = self.connections.maps(area, 1);
        [maps.channels, maps.side, maps.side]
    }

    /// Bias per unit of an area, `[channels, side, side]`.
    pub fn bias(&self, area: usize) -> &[T] {
        &held(&self.parameters, &bias_name(area)).data
    }

    /// r = 0.
    pub fn zeros(&self, batch: usize) -> State<T> {
        let area = |area| vec![T::ZERO; self.connections.maps(area, batch).len()];
        State {
            batch,
            areas: (0..self.connections.areas.len()).map(area).collect(),
        }
    }

    /// `inp` of normalised images `[batch, in_channels, image_side, image_side]`: `[batch, channels[0], side, side]`.
    pub fn embed(&self, images: &[T], batch: usize) -> Vec<T> {
        let connections = &self.connections;
        let from = ConvName::InpConv.shape(self.architecture()).in_maps(1);
        self.map_groups(from, connections.inp_maps(1), images, batch, |work, batch, x, y| {
            *y = connections.embed(work, batch, x);
        })
    }

    /// Feed-forward drive of an area, area_area_l(x_l), with x_l formed from the state's activity and `inp`
    /// (`[batch, channels[0], side, side]`; zeros for a blank input): `[batch, channels, side, side]`.
    pub fn drive(&self, area: usize, state: &State<T>, inp: &[T]) -> Vec<T> {
        let batch = state.batch;
        let x = match area {
            0 => inp.to_vec(),
            1 => {
                let mut x = self.one_conv(ConvName::InpSkip, inp, batch);
                add_positive(&mut x, &state.areas[0]);
                x
            }
            _ => {
                let mut x = vec![T::ZERO; state.areas[area - 2].len()];
                add_positive(&mut x, &state.areas[area - 2]);
                if area % 2 == 1 {
                    x = self.one_conv(ConvName::Shortcut(area), &x, batch);
                }
                add_positive(&mut x, &state.areas[area - 1]);
                x
            }
        };
        self.one_conv(ConvName::Feedforward(area), &x, batch)
    }

    /// area_conv_l(v) without bias, `[batch, channels, side, side]` in and out.
    pub fn recurrent(&self, area: usize, v: &[T], batch: usize) -> Vec<T> {
        self.one_conv(ConvName::Recurrent(area), v, batch)
    }

    /// Transpose of [`recurrent`](Self::recurrent).
    pub fn recurrent_transpose(&self, area: usize, v: &[T], batch: usize) -> Vec<T> {
        self.one_transpose(ConvName::Recurrent(area), v, batch)
    }

    /// area_area_l(x): from the maps that the area reads to its own.
    pub fn feedforward(&self, area: usize, x: &[T], batch: usize) -> Vec<T> {
        self.one_conv(ConvName::Feedforward(area), x, batch)
    }

    /// Transpose of [`feedforward`](Self::feedforward).
    pub fn feedforward_transpose(&self, area: usize, y: &[T], batch: usize) -> Vec<T> {
        self.one_transpose(ConvName::Feedforward(area), y, batch)
    }

    /// The 1x1 stride-2 shortcut from area `area - 2` into the source of an odd area from 3 on; for an even area the
    /// identity.
    pub fn shortcut(&self, area: usize, x: &[T], batch: usize) -> Vec<T> {
        if area % 2 == 1 && area >= 3 {
            self.one_conv(ConvName::Shortcut(area), x, batch)
        } else {
            x.to_vec()
        }
    }

    /// Transpose of [`shortcut`](Self::shortcut).
    pub fn shortcut_transpose(&self, area: usize, y: &[T], batch: usize) -> Vec<T> {
        if area % 2 == 1 && area >= 3 {
            self.one_transpose(ConvName::Shortcut(area), y, batch)
        } else {
            y.to_vec()
        }
    }

    /// Spontaneous state: `steps` steps without input from r = 0, batch 1.
    pub fn spontaneous(&self, steps: usize) -> State<T> {
        let buffers = self.connections.spontaneous(steps);
        let mut state = self.zeros(1);
        for (area, (buffer, out)) in buffers.iter().zip(&mut state.areas).enumerate() {
            self.connections
                .device
                .download_maps(self.connections.maps(area, 1), buffer, out);
        }
        state
    }

    /// One synchronous Euler step with `inp` held (see [`embed`](Self::embed)).
    pub fn step(&self, state: &mut State<T>, inp: &[T]) {
        self.run(state, Input::Constant(inp), 1, &mut |_, _| {});
    }

    /// Runs `steps` Euler steps; `observe(step, state)` sees the state after every step, counted from 0.
    ///
    /// The current from a constant input is computed once. Groups of images run side by side within a step.
    pub fn run(
        &self,
        state: &mut State<T>,
        mut input: Input<'_, T>,
        steps: usize,
        observe: &mut dyn FnMut(usize, &State<T>),
    ) {
        let connections = &self.connections;
        let device = &connections.device;
        let inp_len = connections.inp_maps(1).len();
        let image_maps = ConvName::InpConv.shape(self.architecture()).in_maps(1);
        let mut groups: Vec<Group<T, D>> = self.groups(state);
        let held = match &input {
            Input::Constant(inp) => Some(*inp),
            Input::Blank | Input::Varying(_) => None,
        };
        device.for_each(&mut groups, |_, group| {
            let inp = held.map(|inp| {
                let mut buffer = device.zeros(inp_len * group.batch);
                let from = &inp[group.first * inp_len..][..group.batch * inp_len];
                device.upload_maps(connections.inp_maps(group.batch), from, &mut buffer);
                buffer
            });
            group.set_input(connections, inp.as_ref());
        });
        let varying = matches!(input, Input::Varying(_));
        let mut images = Vec::new();
        for step in 0..steps {
            if let Input::Varying(write) = &mut input {
                images.resize(image_maps.len() * state.batch, T::ZERO);
                write(step, &mut images);
            }
            device.for_each(&mut groups, |_, group| {
                if varying {
                    let from = &images[group.first * image_maps.len()..][..group.batch * image_maps.len()];
                    if step == 0 {
                        group.images = device.zeros(from.len());
                    }
                    device.upload_maps(image_maps.with_batch(group.batch), from, &mut group.images);
                    let inp = connections.embed(&mut group.scratch.work, group.batch, &group.images);
                    group.set_input(connections, Some(&inp));
                }
                connections.step(
                    &mut group.scratch,
                    group.batch,
                    &group.constant,
                    &group.now,
                    &mut group.next,
                );
                std::mem::swap(&mut group.now, &mut group.next);
            });
            for group in &groups {
                for (area, out) in state.areas.iter_mut().enumerate() {
                    let units = connections.maps(area, 1).len();
                    let out = &mut out[group.first * units..][..group.batch * units];
                    device.download_maps(connections.maps(area, group.batch), &group.now[area], out);
                }
            }
            observe(step, state);
        }
    }

    /// Logits `[batch, classes]` from a state.
    pub fn logits(&self, state: &State<T>) -> Vec<T> {
        let connections = &self.connections;
        let classes = self.architecture().classes;
        let mut logits = vec![T::ZERO; state.batch * classes];
        for group in &mut self.groups(state) {
            let mut pooled = connections.device.zeros(connections.pooled_maps(group.batch).len());
            let mut out = connections.device.zeros(connections.logit_maps(group.batch).len());
            connections.read_out(&mut group.scratch.work, group.batch, &group.now, &mut pooled, &mut out);
            let to = &mut logits[group.first * classes..][..group.batch * classes];
            connections
                .device
                .download_maps(connections.logit_maps(group.batch), &out, to);
        }
        logits
    }

    /// The state cut into the device's groups.
    fn groups(&self, state: &State<T>) -> Vec<Group<T, D>> {
        let connections = &self.connections;
        let device = &connections.device;
        let size = device.group_images();
        (0..state.batch)
            .step_by(size)
            .map(|first| {
                let batch = size.min(state.batch - first);
                let mut now = connections.buffers(batch);
                for (area, (buffer, from)) in now.iter_mut().zip(&state.areas).enumerate() {
                    let units = connections.maps(area, 1).len();
                    let from = &from[first * units..][..batch * units];
                    device.upload_maps(connections.maps(area, batch), from, buffer);
                }
                Group {
                    first,
                    batch,
                    scratch: connections.scratch(batch),
                    constant: connections.buffers(batch),
                    now,
                    next: connections.buffers(batch),
                    images: device.zeros(0),
                }
            })
            .collect()
    }

    fn one_conv(&self, name: ConvName, x: &[T], batch: usize) -> Vec<T> {
        let shape = name.shape(self.architecture());
        self.map_groups(shape.in_maps(1), shape.out_maps(1), x, batch, |work, batch, x, y| {
            self.connections
                .device
                .conv(work, self.connections.filter(name), batch, x, y, false);
        })
    }

    fn one_transpose(&self, name: ConvName, y: &[T], batch: usize) -> Vec<T> {
        let shape = name.shape(self.architecture());
        self.map_groups(shape.out_maps(1), shape.in_maps(1), y, batch, |work, batch, y, x| {
            self.connections
                .device
                .conv_transpose(work, self.connections.filter(name), batch, y, x, false);
        })
    }

    /// Applies a kernel to host maps, group by group.
    fn map_groups(
        &self,
        from: Maps,
        to: Maps,
        x: &[T],
        batch: usize,
        kernel: impl Fn(&mut D::Workspace, usize, &D::Buffer, &mut D::Buffer) + Send + Sync,
    ) -> Vec<T> {
        let device = &self.connections.device;
        let size = device.group_images();
        let mut out = vec![T::ZERO; to.len() * batch];
        let mut groups: Vec<(&[T], &mut [T])> = x[..from.len() * batch]
            .chunks(from.len() * size)
            .zip(out.chunks_mut(to.len() * size))
            .collect();
        device.for_each(&mut groups, |_, (x, out)| {
            let batch = x.len() / from.len();
            let mut input = device.zeros(x.len());
            device.upload_maps(from.with_batch(batch), x, &mut input);
            let mut output = device.zeros(out.len());
            kernel(&mut D::Workspace::default(), batch, &input, &mut output);
            device.download_maps(to.with_batch(batch), &output, out);
        });
        out
    }
}

impl<T: Real, D: Device<T>> Group<T, D> {
    /// Sets the constant current for an input held from now on.
    fn set_input(&mut self, connections: &Connections<T, D>, inp: Option<&D::Buffer>) {
        let work = &mut self.scratch.work;
        let skipped = inp.map(|inp| connections.skip(work, self.batch, inp));
        connections.constant_current(work, self.batch, inp.zip(skipped.as_ref()), &mut self.constant);
    }
}

/// Names of a CordsNet's parameters apart from g and v.
pub(crate) fn cordsnet_others(architecture: &Architecture) -> Vec<String> {
    (0..architecture.areas())
        .map(bias_name)
        .chain([READOUT_BIAS.to_owned()])
        .collect()
}

fn held<'a, T: Real>(parameters: &'a Parameters<T>, name: &str) -> &'a Tensor<T> {
    parameters
        .get(name)
        .expect("parameters are arranged for this architecture when a network is made")
}

fn add_positive<T: Real>(x: &mut [T], activity: &[T]) {
    for (x, r) in x.iter_mut().zip(activity) {
        if *r > T::ZERO {
            *x += *r;
        }
    }
}
