//! CordsNet as a dynamical system: simulation and linear operators, with host values in and out.

use super::cell::{AreaCell, HiddenVariable};
use super::connections::{Connections, Embedding, StepScratch, cordsnet_others};
use super::filters::Weights;
use super::graph::{Inlet, Way};
use super::parameters::bias_name;
use super::{Euler, Graph, NetError, Parameters};
use crate::device::{Cpu, Device, Maps, Phi};
use crate::rng::{Purpose, Stream};
use crate::{Real, Tensor, interrupt};
use std::ops::Range;

/// Activity of every area for a batch of images: `areas[l]` is `[batch, channels, side, side]`.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    /// Number of images of the batch.
    pub batch: usize,
    /// Activity of each area, `[batch, channels, side, side]`.
    pub areas: Vec<Vec<T>>,
    /// Hidden variables of areas whose cells have some, in the order of the areas, of their areas' shapes.
    pub hidden: Vec<Vec<T>>,
}

impl<T: Real> State<T> {
    /// One image's state repeated for a batch.
    pub fn repeated(&self, batch: usize) -> Self {
        Self {
            batch: self.batch * batch,
            areas: self.areas.iter().map(|area| area.repeat(batch)).collect(),
            hidden: self.hidden.iter().map(|hidden| hidden.repeat(batch)).collect(),
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
        let mut state = zeros(self.connections, self.batch);
        self.write(&mut state);
        state
    }

    /// Logits of the present state, `[batch, classes]`.
    pub fn logits(&mut self) -> Vec<T> {
        let connections = self.connections;
        let (device, classes) = (&connections.device, connections.architecture.classes());
        let mut logits = vec![T::ZERO; self.batch * classes];
        let outs = logits.chunks_mut(device.group_images() * classes);
        let mut tasks: Vec<_> = self.groups.iter_mut().zip(outs).collect();
        device.for_each(&mut tasks, |_, (group, out)| {
            let mut pooled = device.zeros_maps(connections.architecture.pooled_maps(group.batch));
            let mut held = device.zeros_maps(connections.architecture.logit_maps(group.batch));
            connections.read_out(&mut group.scratch.work, group.batch, &group.now, &mut pooled, &mut held);
            device.download_maps(connections.architecture.logit_maps(group.batch), &held, out);
        });
        logits
    }

    /// Activity of every area on the device, of a run whose images are one group.
    pub(crate) fn buffers(&self) -> &[D::Buffer] {
        &self.groups[0].now[..self.connections.architecture.areas()]
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
            let values = state.areas.iter_mut().chain(&mut state.hidden);
            for ((out, maps), buffer) in values.zip(connections.state_maps(group.batch)).zip(&group.now) {
                let units = maps.with_batch(1).len();
                let out = &mut out[group.first * units..][..group.batch * units];
                connections.device.download_maps(maps, buffer, out);
            }
        }
    }
}

impl<T: Real> CordsNet<T, Cpu> {
    /// A network on the CPU.
    ///
    /// # Errors
    /// A [`NetError`] where architecture, time constants or parameters do not fit together.
    pub fn new(architecture: &Graph, parameters: &Parameters<T>, euler: &Euler, phi: Phi) -> Result<Self, NetError> {
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
        architecture: &Graph,
        parameters: &Parameters<T>,
        euler: &Euler,
        phi: Phi,
    ) -> Result<Self, NetError> {
        let euler = architecture.euler(euler)?;
        let parameters = parameters.arranged_cordsnet(architecture, euler.dt_ms)?;
        Ok(Self::assemble(device, architecture, parameters, &euler, phi))
    }

    fn assemble(device: &D, architecture: &Graph, parameters: Parameters<T>, euler: &Euler, phi: Phi) -> Self {
        let weights = Weights::upload(device, architecture, &parameters, cordsnet_others(architecture));
        let connections = Connections::new(device, architecture, euler, phi, &weights);
        let mut net = Self {
            euler: euler.clone(),
            parameters,
            connections,
        };
        net.take_time_constants();
        net
    }

    /// Those that are parameters.
    fn take_time_constants(&mut self) {
        let (architecture, dt_ms) = (&self.connections.architecture, self.euler.dt_ms);
        if (0..architecture.areas()).any(|area| architecture.area(area).trains_tau) {
            let tau = |area| match self.connections.area_alphas(area) {
                [alpha] => dt_ms / alpha,
                alphas => {
                    let logarithms = alphas.iter().map(|alpha| (dt_ms / alpha).ln());
                    (logarithms.sum::<f64>() / alphas.len() as f64).exp()
                }
            };
            self.euler.tau_ms = (0..architecture.areas()).map(tau).collect();
        }
    }

    pub(crate) fn connections(&self) -> &Connections<T, D> {
        &self.connections
    }

    /// Takes over trained values.
    pub(crate) fn take(&mut self, weights: &Weights<T, D>) {
        weights.download(&self.connections.device, &mut self.parameters);
        self.connections.fill(weights);
        self.take_time_constants();
    }

    /// The network without its weights.
    pub fn architecture(&self) -> &Graph {
        &self.connections.architecture
    }

    /// Step and time constants; of an area whose channels have their own, their geometric mean.
    pub fn euler(&self) -> &Euler {
        &self.euler
    }

    /// Time constants of an area in ms: one, or one for each channel.
    pub fn area_taus_ms(&self, area: usize) -> Vec<f64> {
        let alphas = self.area_alphas(area).into_iter();
        alphas.map(|alpha| self.euler.dt_ms / alpha).collect()
    }

    /// dt/tau likewise.
    pub(crate) fn area_alphas(&self, area: usize) -> Vec<f64> {
        self.connections.area_alphas(area).to_vec()
    }

    /// dt/tau of each unit of an area, `[channels, side, side]`.
    pub(crate) fn unit_alphas(&self, area: usize) -> Vec<f64> {
        let units = self.architecture().area_units(area);
        spread(&self.area_alphas(area), units).collect()
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
        self.connections.architecture.image_maps(batch)
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
        zeros(&self.connections, batch)
    }

    /// `inp` of normalised images `[batch, in_channels, image_side, image_side]`:
    /// `[batch, input channels, side, side]`.
    pub fn embed(&self, images: &[T], batch: usize) -> Vec<T> {
        let connections = &self.connections;
        self.map_groups(
            connections.architecture.image_maps(1),
            connections.architecture.inp_maps(1),
            images,
            batch,
            |work, batch, x, y| {
                connections.embed(work, batch, x, &mut connections.convolved(batch), y);
            },
        )
    }

    /// `inp` of no image.
    pub fn blank(&self, batch: usize) -> Vec<T> {
        vec![T::ZERO; self.architecture().inp_maps(batch).len()]
    }

    /// What the projections to an area, but for its recurrent convolution, give to its current at a state and `inp`
    /// (`[batch, input channels, side, side]`, zeros for a blank input): `[batch, channels, side, side]`.
    pub fn drive(&self, area: usize, state: &State<T>, inp: &[T]) -> Vec<T> {
        let batch = state.batch;
        let positive = |area: usize| {
            let positive = |r: &T| if *r > T::ZERO { *r } else { T::ZERO };
            state.areas[area].iter().map(positive).collect()
        };
        let inlets = self.architecture().inlets(area).iter().map(|inlet| {
            let image = inlet.image.iter().map(|way| {
                let maps = self.architecture().inp_maps(1);
                self.bring(*way, [maps, inlet.reads], inp.to_vec(), batch)
            });
            let sum = sum(image.chain(self.sources(inlet, &positive, batch)));
            self.one_conv(inlet.conv, &sum.unwrap_or_default(), batch)
        });
        sum(inlets).unwrap_or_else(|| vec![T::ZERO; self.architecture().maps(area, batch).len()])
    }

    /// What other areas' activity gives to the current of an area, without rectification: linear in `activity(area)`,
    /// `[batch, channels, side, side]`. `None` where no projection has an area among its sources.
    pub fn projected(&self, area: usize, activity: &dyn Fn(usize) -> Vec<T>, batch: usize) -> Option<Vec<T>> {
        let inlets = self.architecture().inlets(area).iter();
        sum(inlets.filter_map(|inlet| {
            let x = sum(self.sources(inlet, activity, batch))?;
            Some(self.one_conv(inlet.conv, &x, batch))
        }))
    }

    /// Transpose of [`projected`](Self::projected): `add(area, values)` is called for what every source gets.
    pub fn projected_transpose(&self, area: usize, y: &[T], batch: usize, add: &mut dyn FnMut(usize, &[T])) {
        for inlet in self.architecture().inlets(area) {
            if inlet.areas.is_empty() {
                continue;
            }
            let dx = self.one_transpose(inlet.conv, y, batch);
            // Direct sources first, as they are the nearer areas'.
            for (from, way) in inlet.areas.iter().rev() {
                let maps = [self.architecture().maps(*from, 1), inlet.reads];
                match way {
                    Way::Direct => add(*from, &dx),
                    way => add(
                        *from,
                        &self.map_groups(maps[1], maps[0], &dx, batch, |work, batch, dx, out| {
                            let maps = maps.map(|maps| maps.with_batch(batch));
                            self.connections.bring_back(work, *way, maps, dx, out, false);
                        }),
                    ),
                }
            }
        }
    }

    /// The sources of an inlet from areas, as they come to it.
    fn sources<'a>(
        &'a self,
        inlet: &'a Inlet,
        activity: &'a dyn Fn(usize) -> Vec<T>,
        batch: usize,
    ) -> impl Iterator<Item = Vec<T>> + 'a {
        inlet.areas.iter().map(move |(area, way)| {
            let maps = [self.architecture().maps(*area, 1), inlet.reads];
            self.bring(*way, maps, activity(*area), batch)
        })
    }

    /// A source on its way to an inlet; maps are those of one image, before and after.
    fn bring(&self, way: Way, maps: [Maps; 2], source: Vec<T>, batch: usize) -> Vec<T> {
        if way == Way::Direct {
            return source;
        }
        self.map_groups(maps[0], maps[1], &source, batch, |work, batch, x, y| {
            let maps = maps.map(|maps| maps.with_batch(batch));
            self.connections.bring(work, way, maps, x, y, false);
        })
    }

    /// The recurrent convolution of an area applied to v, without bias; `[batch, channels, side, side]` in and out,
    /// zeros where the area has none.
    pub fn recurrent(&self, area: usize, v: &[T], batch: usize) -> Vec<T> {
        let conv = self.architecture().recurrent(area);
        conv.map_or_else(|| vec![T::ZERO; v.len()], |conv| self.one_conv(conv, v, batch))
    }

    /// Transpose of [`recurrent`](Self::recurrent) as a linear map.
    pub fn recurrent_transpose(&self, area: usize, v: &[T], batch: usize) -> Vec<T> {
        let conv = self.architecture().recurrent(area);
        conv.map_or_else(|| vec![T::ZERO; v.len()], |conv| self.one_transpose(conv, v, batch))
    }

    /// Whether all cells have a linearisation, without which `dynamics` do not take the network.
    ///
    /// # Errors
    /// [`NetError::NotLinear`] with the first area whose cell has none.
    pub fn check_linear(&self) -> Result<(), NetError> {
        let cells = self.connections.cells.iter().enumerate();
        for (area, cell) in cells.filter_map(|(area, cell)| Some((area, cell.as_ref()?))) {
            if cell.linearisation().is_none() {
                let area = self.architecture().area(area);
                return Err(NetError::NotLinear {
                    area: area.name.clone(),
                    cell: area.cell.name().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Hidden variables of an area's cell, and where they are among those of a state.
    ///
    /// # Panics
    /// Where they have no linearisation, which [`check_linear`](Self::check_linear) tells.
    pub(crate) fn hidden(&self, area: usize) -> (Vec<HiddenVariable>, Range<usize>) {
        let cell = self.connections.cells[area].as_ref();
        let variables = cell.map_or(Some(Vec::new()), AreaCell::linearisation);
        let variables = variables.expect("only linear cells have dynamics: `CordsNet::check_linear` tells");
        (variables, self.connections.hidden(area))
    }

    /// Whether any of some areas is among the sources of a projection to one of them that is not a recurrent
    /// convolution: areas of one component that has several, or an area that also drives itself otherwise.
    pub(crate) fn is_coupled(&self, areas: &[usize]) -> bool {
        let inlets = areas.iter().flat_map(|area| self.architecture().inlets(*area));
        inlets
            .flat_map(|inlet| &inlet.areas)
            .any(|(from, _)| areas.contains(from))
    }

    /// Spontaneous state: `steps` steps without input from r = 0, batch 1.
    pub fn spontaneous(&self, steps: usize) -> State<T> {
        let buffers = self.connections.spontaneous(steps);
        let mut state = self.zeros(1);
        let values = state.areas.iter_mut().chain(&mut state.hidden);
        for ((buffer, out), maps) in buffers.iter().zip(values).zip(self.connections.state_maps(1)) {
            self.connections.device.download_maps(maps, buffer, out);
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
        let inp_len = connections.architecture.inp_maps(1).len();
        let mut groups: Vec<Group<T, D>> = self.groups(state);
        let held = match &input {
            Input::Constant(inp) => Some(*inp),
            Input::Blank | Input::Varying(_) => None,
        };
        device.for_each(&mut groups, |_, group| {
            let seen = held.map(|inp| {
                let mut seen = connections.embedding(group.batch);
                let from = &inp[group.first * inp_len..][..group.batch * inp_len];
                let maps = connections.architecture.inp_maps(group.batch);
                device.upload_maps(maps, from, &mut seen.inp);
                seen
            });
            group.set_input(connections, seen);
            if noise.is_some() {
                group.noisy = connections.buffers(group.batch);
            }
        });
        let varying = matches!(input, Input::Varying(_));
        for step in 0..steps {
            interrupt::check();
            if let Input::Varying(write) = &mut input {
                for group in &mut groups {
                    if step == 0 {
                        group.images = device.zeros_maps(connections.architecture.image_maps(group.batch));
                    }
                    write(step, group.first..group.first + group.batch, &mut group.images);
                }
            }
            device.for_each(&mut groups, |_, group| {
                if varying {
                    let (batch, work) = (group.batch, &mut group.scratch.work);
                    let (mut convolved, mut seen) = (connections.convolved(batch), connections.embedding(batch));
                    connections.embed(work, batch, &group.images, &mut convolved, &mut seen.inp);
                    group.set_input(connections, Some(seen));
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
                let mut now = connections.activity_buffers(batch);
                let values = state.areas.iter().chain(&state.hidden);
                for ((buffer, from), maps) in now.iter_mut().zip(values).zip(connections.state_maps(batch)) {
                    let units = maps.with_batch(1).len();
                    let from = &from[first * units..][..batch * units];
                    device.upload_maps(maps, from, buffer);
                }
                Group {
                    first,
                    batch,
                    scratch: connections.scratch(batch),
                    constant: connections.buffers(batch),
                    noisy: Vec::new(),
                    now,
                    next: connections.activity_buffers(batch),
                    images: device.zeros(0),
                }
            })
            .collect()
    }

    fn one_conv(&self, conv: usize, x: &[T], batch: usize) -> Vec<T> {
        let shape = self.architecture().convs()[conv].shape;
        self.map_groups(shape.in_maps(1), shape.out_maps(1), x, batch, |work, batch, x, y| {
            self.connections
                .device
                .conv(work, self.connections.filter(conv), batch, x, y, false);
        })
    }

    fn one_transpose(&self, conv: usize, y: &[T], batch: usize) -> Vec<T> {
        let shape = self.architecture().convs()[conv].shape;
        self.map_groups(shape.out_maps(1), shape.in_maps(1), y, batch, |work, batch, y, x| {
            self.connections
                .device
                .conv_transpose(work, self.connections.filter(conv), batch, y, x, false);
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
        interrupt::check();
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
    fn set_input(&mut self, connections: &Connections<T, D>, mut seen: Option<Embedding<D::Buffer>>) {
        let work = &mut self.scratch.work;
        if let Some(seen) = &mut seen {
            connections.spread(work, self.batch, seen);
        }
        connections.constant_current(work, self.batch, seen.as_ref(), &mut self.constant);
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
            let spare = &mut self.scratch.current[area];
            connections.add_noise(area, &streams, noise.std, constant, spare, noisy);
        }
    }
}

/// Values of equal parts of some units, for each of the units.
pub(crate) fn spread(parts: &[f64], units: usize) -> impl Iterator<Item = f64> + Clone + '_ {
    let each = units / parts.len().max(1);
    parts.iter().flat_map(move |value| std::iter::repeat_n(*value, each))
}

/// r = 0, and no hidden variable that is not 0.
fn zeros<T: Real, D: Device<T>>(connections: &Connections<T, D>, batch: usize) -> State<T> {
    let maps = connections.state_maps(batch).into_iter();
    let mut areas: Vec<Vec<T>> = maps.map(|maps| vec![T::ZERO; maps.len()]).collect();
    let hidden = areas.split_off(connections.architecture.areas());
    State { batch, areas, hidden }
}

fn held<'a, T: Real>(parameters: &'a Parameters<T>, name: &str) -> &'a Tensor<T> {
    parameters
        .get(name)
        .expect("parameters are arranged for this architecture when a network is made")
}

/// The sum of maps, where there are any.
fn sum<T: Real>(mut terms: impl Iterator<Item = Vec<T>>) -> Option<Vec<T>> {
    let mut sum = terms.next()?;
    for term in terms {
        sum.iter_mut().zip(&term).for_each(|(sum, term)| *sum += *term);
    }
    Some(sum)
}
