//! Kernels through the interface that training uses: the recurrent convolution with its leaky update, other
//! convolutions, pooling. A batch is cut into the device's groups, as in training.

use std::ops::Range;

use cords::Tensor;
use cords::device::{ConvShape, Cpu, Device, Maps, Phi, Relaxation};
use cords::net::Parameters;
use serde::Deserialize;

use crate::{Failure, Prepared, tensor};

type Buffer = <Cpu as Device<f32>>::Buffer;
type Filter = <Cpu as Device<f32>>::Filter;
type WeightSum = <Cpu as Device<f32>>::WeightSum;
type Workspace = <Cpu as Device<f32>>::Workspace;

/// `steps` of `r <- (1 - alpha) r + alpha relu(conv(r) + drive)`, and back to the gradients of weight and drive.
/// Tensors: `weight`, `drive`, `start` (r before the first step), `gradient` (dL/dr after the last).
#[derive(Deserialize)]
pub(crate) struct RecurrentCase {
    channels: usize,
    side: usize,
    batch: usize,
    steps: usize,
    alpha: f64,
    backward: bool,
}

/// A convolution of `steps` inputs, and back to the gradients of weight and, where asked for, inputs.
/// Tensors: `weight`, `x`, `dy`.
#[derive(Deserialize)]
pub(crate) struct ConvolutionCase {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    side: usize,
    batch: usize,
    steps: usize,
    backward: bool,
    input_gradient: bool,
}

/// Average pool 3x3, stride 2, padding 1 of `steps` inputs, and back. Tensors: `x`, `dy`.
#[derive(Deserialize)]
pub(crate) struct PoolCase {
    channels: usize,
    side: usize,
    batch: usize,
    steps: usize,
    backward: bool,
}

/// One of something for the images of each group, in order.
fn groups<G>(batch: usize, group: impl Fn(Range<usize>) -> Result<G, Failure>) -> Result<Vec<G>, Failure> {
    let size = Device::<f32>::group_images(&Cpu);
    let images = (0..batch).step_by(size).map(|first| first..batch.min(first + size));
    images.map(group).collect()
}

/// Images from `first` on as maps on the device.
fn upload(maps: Maps, tensor: &Tensor<f32>, first: usize) -> Buffer {
    let mut buffer = Cpu.zeros_maps(maps);
    let values = maps.with_batch(1).len();
    Cpu.upload_maps(maps, &tensor.data[first * values..][..maps.len()], &mut buffer);
    buffer
}

/// One tensor `[batch, channels, side, side]` from the maps of every group.
fn download<'a>(groups: impl Iterator<Item = (Maps, &'a Buffer)>) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(&[0, 0, 0, 0]);
    for (maps, buffer) in groups {
        let first = tensor.data.len();
        tensor.data.resize(first + maps.len(), 0.0);
        Cpu.download_maps(maps, buffer, &mut tensor.data[first..]);
        tensor.shape = vec![tensor.shape[0] + maps.batch, maps.channels, maps.side, maps.side];
    }
    tensor
}

/// The groups' weight gradients added up, `[outputs, inputs, kernel, kernel]`.
fn weight_gradient<'a>(shape: ConvShape, groups: impl Iterator<Item = &'a Buffer>) -> Tensor<f32> {
    let mut sum = Cpu.zeros(shape.outputs * shape.patch());
    for part in groups {
        Cpu.add(part, &mut sum);
    }
    Tensor {
        shape: vec![shape.outputs, shape.inputs, shape.kernel, shape.kernel],
        data: Cpu.download(&sum),
    }
}

pub(crate) struct Recurrent {
    shape: ConvShape,
    steps: usize,
    alpha: f64,
    backward: bool,
    weight: Buffer,
    filter: Filter,
    groups: Vec<RecurrentGroup>,
}

struct RecurrentGroup {
    batch: usize,
    work: Workspace,
    drive: Buffer,
    start: Buffer,
    /// All states for the way back, else two in turn.
    history: Vec<Buffer>,
    /// dL/dr after the last step.
    seed: Buffer,
    gradient: Buffer,
    delta: Buffer,
    drive_gradient: Buffer,
    weight_sum: WeightSum,
    weight_gradient: Buffer,
}

impl Recurrent {
    pub(crate) fn new(case: RecurrentCase, tensors: &Parameters<f32>) -> Result<Self, Failure> {
        let shape = ConvShape {
            inputs: case.channels,
            outputs: case.channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            in_side: case.side,
        };
        let group = |images: Range<usize>| {
            let maps = shape.in_maps(images.len());
            let zeros = || Cpu.zeros_maps(maps);
            let upload = |name| Ok::<_, Failure>(upload(maps, tensor(tensors, name)?, images.start));
            Ok(RecurrentGroup {
                batch: images.len(),
                work: Workspace::default(),
                drive: upload("drive")?,
                start: upload("start")?,
                history: (0..=if case.backward { case.steps } else { 1 })
                    .map(|_| zeros())
                    .collect(),
                seed: upload("gradient")?,
                gradient: zeros(),
                delta: zeros(),
                drive_gradient: zeros(),
                weight_sum: Device::<f32>::weight_sum(&Cpu, shape),
                weight_gradient: Cpu.zeros(shape.outputs * shape.patch()),
            })
        };
        let weight = Cpu.upload(&tensor(tensors, "weight")?.data);
        Ok(Self {
            shape,
            steps: case.steps,
            alpha: case.alpha,
            backward: case.backward,
            filter: Cpu.filter(shape, &weight),
            weight,
            groups: groups(case.batch, group)?,
        })
    }
}

impl Prepared for Recurrent {
    fn pass(&mut self) -> Result<(), Failure> {
        if self.backward {
            // Training meets new weights in every pass.
            Cpu.fill_filter(self.shape, &mut self.filter, &self.weight);
        }
        let (steps, alpha, backward, filter) = (self.steps, self.alpha, self.backward, &self.filter);
        Device::<f32>::for_each(&Cpu, &mut self.groups, |_, group| {
            group.forward(filter, alpha, steps);
            if backward {
                group.backward(filter, alpha, steps);
            }
        });
        Ok(())
    }

    fn outputs(&self) -> Parameters<f32> {
        let maps = |group: &RecurrentGroup| self.shape.in_maps(group.batch);
        let mut outputs = Parameters::new();
        if self.backward {
            let gradients = self.groups.iter().map(|group| &group.weight_gradient);
            outputs.insert("weight", weight_gradient(self.shape, gradients));
            let gradients = self.groups.iter().map(|group| (maps(group), &group.drive_gradient));
            outputs.insert("drive", download(gradients));
        }
        let last = |group: &RecurrentGroup| self.steps % group.history.len();
        let states = self
            .groups
            .iter()
            .map(|group| (maps(group), &group.history[last(group)]));
        outputs.insert("state", download(states));
        outputs
    }
}

impl RecurrentGroup {
    fn forward(&mut self, filter: &Filter, alpha: f64, steps: usize) {
        let kept = self.history.len();
        Device::<f32>::copy(&Cpu, &self.start, &mut self.history[0]);
        for step in 1..=steps {
            let mut next = std::mem::take(&mut self.history[step % kept]);
            let now = &self.history[(step - 1) % kept];
            let step_of = Relaxation {
                alpha,
                phi: Phi::Relu,
                offset: &self.drive,
                x: now,
                y: &mut next,
            };
            Cpu.relax(&mut self.work, &[(filter, now)], self.batch, step_of);
            self.history[step % kept] = next;
        }
    }

    fn backward(&mut self, filter: &Filter, alpha: f64, steps: usize) {
        Device::<f32>::copy(&Cpu, &self.seed, &mut self.gradient);
        Device::<f32>::clear(&Cpu, &mut self.drive_gradient);
        Device::<f32>::clear_weight_sum(&Cpu, &mut self.weight_sum);
        for step in (1..=steps).rev() {
            let (before, after) = (&self.history[step - 1], &self.history[step]);
            let leak = (alpha, Phi::Relu);
            let (g, delta) = (&mut self.gradient, &mut self.delta);
            Cpu.relax_adjoint(leak, before, after, g, delta, &mut self.drive_gradient);
            Cpu.add_weight_gradient(&mut self.work, &mut self.weight_sum, self.batch, before, delta);
            if step > 1 {
                Cpu.conv_transpose(&mut self.work, filter, self.batch, delta, g, true);
            }
        }
        Device::<f32>::clear(&Cpu, &mut self.weight_gradient);
        Cpu.finish_weight_gradient(&mut self.weight_sum, &mut self.weight_gradient);
    }
}

pub(crate) struct Convolution {
    shape: ConvShape,
    backward: bool,
    input_gradient: bool,
    weight: Buffer,
    filter: Filter,
    groups: Vec<ConvolutionGroup>,
}

struct ConvolutionGroup {
    batch: usize,
    work: Workspace,
    x: Vec<Buffer>,
    dy: Vec<Buffer>,
    y: Buffer,
    dx: Buffer,
    weight_sum: WeightSum,
    weight_gradient: Buffer,
}

impl Convolution {
    pub(crate) fn new(case: ConvolutionCase, tensors: &Parameters<f32>) -> Result<Self, Failure> {
        let shape = ConvShape {
            inputs: case.inputs,
            outputs: case.outputs,
            kernel: case.kernel,
            stride: case.stride,
            padding: case.padding,
            in_side: case.side,
        };
        let (x, dy) = (tensor(tensors, "x")?, tensor(tensors, "dy")?);
        let group = |images: Range<usize>| {
            let (from, to) = (shape.in_maps(images.len()), shape.out_maps(images.len()));
            Ok(ConvolutionGroup {
                batch: images.len(),
                work: Workspace::default(),
                x: (0..case.steps).map(|_| upload(from, x, images.start)).collect(),
                dy: (0..case.steps).map(|_| upload(to, dy, images.start)).collect(),
                y: Cpu.zeros_maps(to),
                dx: Cpu.zeros_maps(from),
                weight_sum: Device::<f32>::weight_sum(&Cpu, shape),
                weight_gradient: Cpu.zeros(shape.outputs * shape.patch()),
            })
        };
        let weight = Cpu.upload(&tensor(tensors, "weight")?.data);
        Ok(Self {
            shape,
            backward: case.backward,
            input_gradient: case.input_gradient,
            filter: Cpu.filter(shape, &weight),
            weight,
            groups: groups(case.batch, group)?,
        })
    }
}

impl Prepared for Convolution {
    fn pass(&mut self) -> Result<(), Failure> {
        if self.backward {
            Cpu.fill_filter(self.shape, &mut self.filter, &self.weight);
        }
        let (backward, input_gradient, filter) = (self.backward, self.input_gradient, &self.filter);
        Device::<f32>::for_each(&Cpu, &mut self.groups, |_, group| {
            for x in &group.x {
                Cpu.conv(&mut group.work, filter, group.batch, x, &mut group.y, false);
            }
            if !backward {
                return;
            }
            if input_gradient {
                for dy in &group.dy {
                    Cpu.conv_transpose(&mut group.work, filter, group.batch, dy, &mut group.dx, false);
                }
            }
            Device::<f32>::clear_weight_sum(&Cpu, &mut group.weight_sum);
            for (x, dy) in group.x.iter().zip(&group.dy) {
                Cpu.add_weight_gradient(&mut group.work, &mut group.weight_sum, group.batch, x, dy);
            }
            Device::<f32>::clear(&Cpu, &mut group.weight_gradient);
            Cpu.finish_weight_gradient(&mut group.weight_sum, &mut group.weight_gradient);
        });
        Ok(())
    }

    fn outputs(&self) -> Parameters<f32> {
        let (groups, shape) = (&self.groups, self.shape);
        let mut outputs = Parameters::new();
        outputs.insert(
            "y",
            download(groups.iter().map(|group| (shape.out_maps(group.batch), &group.y))),
        );
        if self.backward {
            let gradients = groups.iter().map(|group| &group.weight_gradient);
            outputs.insert("weight", weight_gradient(shape, gradients));
        }
        if self.backward && self.input_gradient {
            outputs.insert(
                "dx",
                download(groups.iter().map(|group| (shape.in_maps(group.batch), &group.dx))),
            );
        }
        outputs
    }
}

pub(crate) struct Pool {
    backward: bool,
    groups: Vec<PoolGroup>,
}

struct PoolGroup {
    from: Maps,
    to: Maps,
    x: Vec<Buffer>,
    dy: Vec<Buffer>,
    y: Buffer,
    dx: Buffer,
}

impl Pool {
    pub(crate) fn new(case: PoolCase, tensors: &Parameters<f32>) -> Result<Self, Failure> {
        let (x, dy) = (tensor(tensors, "x")?, tensor(tensors, "dy")?);
        let group = |images: Range<usize>| {
            let from = Maps {
                batch: images.len(),
                channels: case.channels,
                side: case.side,
            };
            let to = Maps {
                side: case.side.div_ceil(2),
                ..from
            };
            Ok(PoolGroup {
                from,
                to,
                x: (0..case.steps).map(|_| upload(from, x, images.start)).collect(),
                dy: (0..case.steps).map(|_| upload(to, dy, images.start)).collect(),
                y: Cpu.zeros_maps(to),
                dx: Cpu.zeros_maps(from),
            })
        };
        Ok(Self {
            backward: case.backward,
            groups: groups(case.batch, group)?,
        })
    }
}

impl Prepared for Pool {
    fn pass(&mut self) -> Result<(), Failure> {
        let backward = self.backward;
        Device::<f32>::for_each(&Cpu, &mut self.groups, |_, group| {
            for x in &group.x {
                Cpu.avg_pool(group.from, x, &mut group.y);
            }
            if backward {
                for dy in &group.dy {
                    Cpu.avg_pool_transpose(group.from, dy, &mut group.dx);
                }
            }
        });
        Ok(())
    }

    fn outputs(&self) -> Parameters<f32> {
        let mut outputs = Parameters::new();
        outputs.insert("y", download(self.groups.iter().map(|group| (group.to, &group.y))));
        if self.backward {
            outputs.insert("dx", download(self.groups.iter().map(|group| (group.from, &group.dx))));
        }
        outputs
    }
}
