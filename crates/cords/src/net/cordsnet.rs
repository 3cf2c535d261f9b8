//! CordsNet as a dynamical system: simulation and linear operators, with host values in and out.

use super::connections::{Connections, StepScratch, cordsnet_others};
use super::filters::{ConvName, Weights};
use super::parameters::bias_name;
use super::{Architecture, Euler, NetError, Parameters};
use crate::device::{Cpu, Device, Maps, NormalNoise, Phi};
use crate::rng::{Purpose, Stream};
use crate::{Real, Tensor};
use std::ops::Range;

/// Activity of every area for a batch of images: `areas[l]` is `[batch, channels, side, side]`.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    /// Number of images of the batch.
    pub batch: usize,
    /// Activity of each area, `[batch, channels, side, side]`.
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
pub enum Input<'a, T: Real, D: Device<T> = Cpu> {
    /// Nothing: `inp` is zero.
    Blank,
    /// An image held for all steps, given as its embedding `[batch, channels, side, side]` from [`CordsNet::embed`].
    Constant(&'a [T]),
    /// Normalised images `[batch, in_channels, image_side, image_side]`, which are written to the device anew for every
    /// step.
    Varying(WriteImages<'a, D::Buffer>),
}

/// `write(step, images, maps)` writes to `maps` what these of a run's images look like in a step.
pub type WriteImages<'a, B> = &'a mut dyn FnMut(usize, Range<usize>, &mut B);

/// Noise inside the activation function: u + sqrt(2/alpha) std xi with alpha = dt/tau, xi white and normal, drawn anew
/// for every unit and step.
#[derive(Clone, Debug, PartialEq)]
pub struct NeuralNoise {
    /// Seed of all draws.
    pub seed: u64,
    /// Number of the repetition.
    pub trial: u32,
    /// Which image each of the run's is, so that it sees the same noise beside any others.
    pub images: Vec<u64>,
    /// In units of activity: the stationary standard deviation of a linear unit without connections is
    /// std sqrt(2/(2 - alpha)).
    pub std: f64,
    /// Areas that it enters.
    pub areas: Vec<usize>,
}

impl NeuralNoise {
    /// What an image's noise in an area is drawn from at a step.
    pub(crate) fn stream(&self, image: u64, step: usize, area: usize) -> Stream {
        let purpose = Purpose::NeuralNoise;
        Stream::new(self.seed, purpose, image, self.trial, step as u32, area as u32)
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
    /// The constant current and a step's noise, where there is noise.
    noisy: Vec<D::Buffer>,
    now: Vec<D::Buffer>,
    next: Vec<D::Buffer>,
    images: D::Buffer,
}

/// The activity of a network at one time of a run, where it is.
pub struct View<'a, T: Real, D: Device<T>> {
    connections: &'a Connections<T, D>,
    groups: &'a mut [Group<T, D>],
    batch: usize,
}

impl<T: Real, D: Device<T>> View<'_, T, D> {
    /// Activity of every area.
    pub fn state(&self) -> State<T> {
        let maps = |area| self.connections.maps(area, self.batch);
        let areas = 0..self.connections.alphas.len();
        let mut state = State {
            batch: self.batch,
            areas: areas.map(|area| vec![T::ZERO; maps(area).len()]).collect(),
        };
        self.write(&mut state);
        state
    }

    /// Logits of the present state, `[batch, classes]`.
    pub fn logits(&mut self) -> Vec<T> {
        let connections = self.connections;
        let (device, classes) = (&connections.device, connections.architecture.classes);
        let mut logits = vec![T::ZERO; self.batch * classes];
        let outs = logits.chunks_mut(device.group_images() * classes);
        let mut tasks: Vec<_> = self.groups.iter_mut().zip(outs).collect();
        device.for_each(&mut tasks, |_, (group, out)| {
            let mut pooled = device.zeros_maps(connections.pooled_maps(group.batch));
            let mut held = device.zeros_maps(connections.logit_maps(group.batch));
            connections.read_out(&mut group.scratch.work, group.batch, &group.now, &mut pooled, &mut held);
            device.download_maps(connections.logit_maps(group.batch), &held, out);
        });
        logits
    }

    /// Activity of every area on the device, of a run whose images are one group.
    pub(crate) fn buffers(&self) -> &[D::Buffer] {
        &self.groups[0].now
    }

    /// Whether all activity is finite.
    pub fn is_finite(&self) -> bool {
        let device = &self.connections.device;
        let mut reductions = D::Reductions::default();
        for activity in self.groups.iter().flat_map(|group| &group.now) {
            device.max_abs(activity, &mut reductions);
        }
        device
            .read(&mut reductions)
            .concat()
            .iter()
            .all(|value| value.is_finite())
    }

    fn write(&self, state: &mut State<T>) {
        let connections = self.connections;
        for group in &*self.groups {
            for (area, out) in state.areas.iter_mut().enumerate() {
                let units = connections.maps(area, 1).len();
                let out = &mut out[group.first * units..][..group.batch * units];
                let maps = connections.maps(area, group.batch);
                connections.device.download_maps(maps, &group.now[area], out);
            }
        }
    }
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

    pub(crate) fn connections(&self) -> &Connections<T, D> {
        &self.connections
    }

    /// Takes over trained values.
    pub(crate) fn take(&mut self, weights: &Weights<T, D>) {
        weights.download(&self.connections.device, &mut self.parameters);
        self.connections.fill(weights);
    }

    /// Sizes of the areas.
    pub fn architecture(&self) -> &Architecture {
        &self.connections.architecture
    }

    /// Step and time constants.
    pub fn euler(&self) -> &Euler {
        &self.euler
    }

    /// Activation function of all units.
    pub fn phi(&self) -> Phi {
        self.connections.phi
    }

    /// Parameters in the published order.
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// Maps of normalised images on the device.
    pub fn image_maps(&self, batch: usize) -> Maps {
        self.connections.image_maps(batch)
    }

    /// The device that the network is on.
    pub fn device(&self) -> &D {
        &self.connections.device
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

    /// The state r = 0 for a batch of images.
    pub fn zeros(&self, batch: usize) -> State<T> {
        let area = |area| vec![T::ZERO; self.connections.maps(area, batch).len()];
        State {
            batch,
            areas: (0..self.architecture().areas()).map(area).collect(),
        }
    }

    /// `inp` of normalised images `[batch, in_channels, image_side, image_side]`: `[batch, channels[0], side, side]`.
    pub fn embed(&self, images: &[T], batch: usize) -> Vec<T> {
        let connections = &self.connections;
        self.map_groups(
            connections.image_maps(1),
            connections.inp_maps(1),
            images,
            batch,
            |work, batch, x, y| {
                connections.embed(work, batch, x, &mut connections.convolved(batch), y);
            },
        )
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

    /// Transpose of [`recurrent`](Self::recurrent) as a linear map.
    pub fn recurrent_transpose(&self, area: usize, v: &[T], batch: usize) -> Vec<T> {
        self.one_transpose(ConvName::Recurrent(area), v, batch)
    }

    /// area_area_l(x): from the maps that the area reads to its own.
    pub fn feedforward(&self, area: usize, x: &[T], batch: usize) -> Vec<T> {
        self.one_conv(ConvName::Feedforward(area), x, batch)
    }

    /// Transpose of [`feedforward`](Self::feedforward) as a linear map: from the area's maps to those that it reads.
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

    /// Transpose of [`shortcut`](Self::shortcut) as a linear map.
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

    /// Runs `steps` Euler steps; `observe(step, view)` sees the activity after every step, counted from 0.
    ///
    /// The current from a constant input is computed once. Groups of images run side by side within a step.
    pub fn run(
        &self,
        state: &mut State<T>,
        input: Input<'_, T, D>,
        steps: usize,
        observe: &mut dyn FnMut(usize, &mut View<'_, T, D>),
    ) {
        self.run_with_noise(state, input, None, steps, observe);
    }

    /// As [`run`](Self::run), with noise inside the activation function.
    pub fn run_with_noise(
        &self,
        state: &mut State<T>,
        mut input: Input<'_, T, D>,
        noise: Option<&NeuralNoise>,
        steps: usize,
        observe: &mut dyn FnMut(usize, &mut View<'_, T, D>),
    ) {
        let connections = &self.connections;
        let device = &connections.device;
        let inp_len = connections.inp_maps(1).len();
        let mut groups: Vec<Group<T, D>> = self.groups(state);
        let held = match &input {
            Input::Constant(inp) => Some(*inp),
            Input::Blank | Input::Varying(_) => None,
        };
        device.for_each(&mut groups, |_, group| {
            let inp = held.map(|inp| {
                let mut buffer = device.zeros_maps(connections.inp_maps(group.batch));
                let from = &inp[group.first * inp_len..][..group.batch * inp_len];
                device.upload_maps(connections.inp_maps(group.batch), from, &mut buffer);
                buffer
            });
            group.set_input(connections, inp.as_ref());
            if noise.is_some() {
                group.noisy = connections.buffers(group.batch);
            }
        });
        let varying = matches!(input, Input::Varying(_));
        for step in 0..steps {
            if let Input::Varying(write) = &mut input {
                for group in &mut groups {
                    if step == 0 {
                        group.images = device.zeros_maps(connections.image_maps(group.batch));
                    }
                    write(step, group.first..group.first + group.batch, &mut group.images);
                }
            }
            device.for_each(&mut groups, |_, group| {
                if varying {
                    let (batch, work) = (group.batch, &mut group.scratch.work);
                    let (mut convolved, mut inp) = (connections.convolved(batch), connections.inp(batch));
                    connections.embed(work, batch, &group.images, &mut convolved, &mut inp);
                    group.set_input(connections, Some(&inp));
                }
                if let Some(noise) = noise {
                    group.add_noise(connections, noise, step);
                }
                let constant = if noise.is_some() { &group.noisy } else { &group.constant };
                connections.step(&mut group.scratch, group.batch, constant, &group.now, &mut group.next);
                std::mem::swap(&mut group.now, &mut group.next);
            });
            observe(step, &mut self.view(&mut groups, state.batch));
        }
        self.view(&mut groups, state.batch).write(state);
    }

    fn view<'a>(&'a self, groups: &'a mut [Group<T, D>], batch: usize) -> View<'a, T, D> {
        View {
            connections: &self.connections,
            groups,
            batch,
        }
    }

    /// Logits `[batch, classes]` from a state.
    pub fn logits(&self, state: &State<T>) -> Vec<T> {
        self.view(&mut self.groups(state), state.batch).logits()
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
                    noisy: Vec::new(),
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
            let mut input = device.zeros_maps(from.with_batch(batch));
            device.upload_maps(from.with_batch(batch), x, &mut input);
            let mut output = device.zeros_maps(to.with_batch(batch));
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
        let skipped = inp.map(|inp| {
            let mut skipped = connections.inp(self.batch);
            connections.skip(work, self.batch, inp, &mut skipped);
            skipped
        });
        connections.constant_current(work, self.batch, inp.zip(skipped.as_ref()), &mut self.constant);
    }

    /// A step's noise on the constant current.
    fn add_noise(&mut self, connections: &Connections<T, D>, noise: &NeuralNoise, step: usize) {
        let images = &noise.images[self.first..][..self.batch];
        for (area, (constant, noisy)) in self.constant.iter().zip(&mut self.noisy).enumerate() {
            if !noise.areas.contains(&area) {
                connections.device.copy(constant, noisy);
                continue;
            }
            let streams: Vec<Stream> = images.iter().map(|image| noise.stream(*image, step, area)).collect();
            let current = NormalNoise {
                streams: &streams,
                std: (2.0 / connections.alphas[area]).sqrt() * noise.std,
                proportional: false,
            };
            let maps = connections.maps(area, self.batch);
            connections.device.add_normal(maps, current, constant, noisy);
        }
    }
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
