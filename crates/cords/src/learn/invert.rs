//! Phase 2: a recurrent convolution W and bias b for every area whose linear dynamics settle at the folded CNN's
//! currents.
//!
//! With c = b + i, i = area_area(x) from the folded CNN, three sweeps r <- W r + c from r = c end in r = sum over k =
//! 0..3 of W^k c. Of every area: error = mean((target - r)^2) with target = area_conv(i + area_bias) + conv_bias, and
//! contraction = mean((W^3 c)^2), which is small where the sweeps have converged. Areas do not depend on each other.

use super::TrainError;
use super::ahead::for_each_group;
use crate::data::{DataError, Images, PartOfImages};
use crate::device::{ConvShape, Cpu, Device, Maps, Target, largest};
use crate::net::{FoldedGraph, Graph, current};
use crate::{Real, Tensor};

/// Sweeps r <- W r + c.
const SWEEPS: usize = 3;

/// Factors of an area's summed squares in the loss: 1 over the number of terms, and times the weight.
#[derive(Clone, Copy)]
struct Factors {
    error: f64,
    contraction: f64,
}

/// Sums of squares of one area: target - r, and W^3 c.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Squares {
    pub(crate) error: f64,
    pub(crate) contraction: f64,
    /// Largest magnitude among the terms W^k c.
    pub(crate) largest: f64,
}

impl Squares {
    fn add(&mut self, part: &Self) {
        self.error += part.error;
        self.contraction += part.contraction;
        self.largest = largest(&[self.largest, part.largest]);
    }
}

/// Three sweeps of one area for one group of images. Where `gradient` is given, adds to the gradients of W and b.
#[expect(clippy::too_many_arguments, reason = "the equation's symbols")]
fn sweep<T: Real, D: Device<T>>(
    device: &D,
    work: &mut D::Workspace,
    shape: ConvShape,
    filter: &D::Filter,
    batch: usize,
    bias: &D::Buffer,
    drive: &D::Buffer,
    target: &D::Buffer,
    gradient: Option<(Factors, &mut D::WeightSum, &mut D::Buffer)>,
) -> Squares {
    let maps = shape.out_maps(batch);
    let mut first = device.zeros_maps(maps);
    device.broadcast_parameter(maps, bias, &mut first);
    device.add(drive, &mut first);
    // W^k c for k = 0..3.
    let mut terms = vec![first];
    for k in 0..SWEEPS {
        let mut next = device.zeros_maps(maps);
        device.conv(work, filter, batch, &terms[k], &mut next, false);
        terms.push(next);
    }
    let mut difference = device.duplicate(target);
    device.scale(-1.0, &mut difference);
    for term in &terms {
        device.add(term, &mut difference);
    }
    let mut reductions = D::Reductions::default();
    device.sum_squares(&difference, &mut reductions);
    device.sum_squares(&terms[SWEEPS], &mut reductions);
    for term in &terms {
        device.max_abs(term, &mut reductions);
    }
    let lists = device.read(&mut reductions);
    let (sums, magnitudes) = lists.split_at(2);
    let sum = |index: usize| sums[index].iter().sum();
    let squares = Squares {
        error: sum(0),
        contraction: sum(1),
        largest: largest(&magnitudes.concat()),
    };
    if let Some((factors, weight, bias)) = gradient {
        device.scale(2.0 * factors.error, &mut difference);
        let mut last = device.duplicate(&terms[SWEEPS]);
        device.scale(2.0 * factors.contraction, &mut last);
        device.add(&difference, &mut last);
        // Gradients of W^k c for k = 3..0: each is in r, and the next one is made of it.
        let mut adjoints = vec![last];
        for k in 0..SWEEPS {
            let mut before = device.duplicate(&difference);
            device.conv_transpose(work, filter, batch, &adjoints[k], &mut before, true);
            adjoints.push(before);
        }
        for (term, adjoint) in terms[..SWEEPS].iter().zip(adjoints[..SWEEPS].iter().rev()) {
            device.add_weight_gradient(work, weight, batch, term, adjoint);
        }
        device.add_batch_sum(maps, &adjoints[SWEEPS], bias);
    }
    squares
}

/// g, v and b of every area, in this order, on the device.
pub(crate) struct Inverse<T: Real, D: Device<T>> {
    teacher: FoldedGraph<T, D>,
    pub(crate) buffers: Vec<D::Buffer>,
}

/// The sums of all peers, of the squares of every area and of what is beside them.
fn sum_squares_over_peers<T: Real, D: Device<T>>(device: &D, buffers: &mut [&mut D::Buffer], squares: &mut [Squares]) {
    let each = squares.iter();
    let mut numbers: Vec<f64> = each.flat_map(|area| [area.error, area.contraction]).collect();
    device.sum_over_peers(buffers, &mut numbers);
    for (area, numbers) in squares.iter_mut().zip(numbers.chunks(2)) {
        (area.error, area.contraction) = (numbers[0], numbers[1]);
    }
}

/// What one batch gives.
pub(crate) struct InverseBatch<B> {
    /// Per area, over all images and units.
    pub(crate) squares: Vec<Squares>,
    /// Gradients of `Inverse::buffers`, in their order.
    pub(crate) gradients: Vec<B>,
}

/// What one group of images reads and computes.
struct GroupWork<'a, T: Real, D: Device<T>> {
    images: &'a [T],
    squares: Vec<Squares>,
    /// Gradients of W and of b per area.
    gradients: Vec<(D::WeightSum, D::Buffer)>,
}

impl<T: Real, D: Device<T>> Inverse<T, D> {
    /// `buffers` are g, v and b of every area.
    pub(crate) fn new(teacher: FoldedGraph<T, D>, buffers: Vec<D::Buffer>) -> Self {
        Self { teacher, buffers }
    }

    pub(crate) fn architecture(&self) -> &Graph {
        &self.teacher.architecture
    }

    pub(crate) fn device(&self) -> &D {
        &self.teacher.device
    }

    fn shape(&self, area: usize) -> ConvShape {
        let architecture = self.architecture();
        let recurrent = architecture.recurrent(area).expect("every area of a twin has one");
        architecture.convs()[recurrent].shape
    }

    /// Units of an area.
    fn units(&self, area: usize) -> usize {
        self.shape(area).out_maps(1).len()
    }

    fn filters(&self) -> Vec<D::Filter> {
        let (device, each) = (self.device(), self.buffers.chunks_exact(3).enumerate());
        each.map(|(area, gvb)| {
            let shape = self.shape(area);
            device.filter(shape, &device.weight_norm(shape.outputs, &gvb[0], &gvb[1]))
        })
        .collect()
    }

    /// Sums of squares over a batch of `whole` images, and the gradient of the mean over areas of error + weight x
    /// contraction. `images` are this device's part of it, normalised, `[images, in_channels, side, side]`. Groups of
    /// images run side by side and are summed in order.
    pub(crate) fn batch(&self, images: &[T], whole: usize, contraction_weight: f64) -> InverseBatch<D::Buffer> {
        let device = self.device();
        let areas = self.architecture().areas();
        let image_len = self.architecture().image_len();
        let filters = self.filters();
        let factors = |area: usize| {
            let error = 1.0 / ((areas * whole * self.units(area)) as f64);
            Factors {
                error,
                contraction: contraction_weight * error,
            }
        };
        let mut squares = vec![Squares::default(); areas];
        let mut sums: Vec<[D::Buffer; 2]> = (0..areas)
            .map(|area| {
                let shape = self.shape(area);
                [
                    device.zeros(shape.outputs * shape.patch()),
                    device.zeros(self.units(area)),
                ]
            })
            .collect();
        let mut group_work: Vec<GroupWork<'_, T, D>> = images
            .chunks(device.group_images() * image_len)
            .map(|images| GroupWork {
                images,
                squares: vec![Squares::default(); areas],
                gradients: Vec::new(),
            })
            .collect();
        // Waves bound the memory; sums go group by group, so the size of a wave does not show in the result.
        for wave in group_work.chunks_mut(device.groups_in_flight(self.architecture().units()).max(1)) {
            device.for_each(wave, |_, task| {
                let batch = task.images.len() / image_len;
                let gradient = |area| (device.weight_sum(self.shape(area)), device.zeros(self.units(area)));
                task.gradients = (0..areas).map(gradient).collect();
                let gradients = &mut task.gradients;
                let found = &mut task.squares;
                let mut work = D::Workspace::default();
                let images = self.teacher.upload(task.images, batch);
                self.teacher
                    .forward(&mut work, &images, batch, |work, area, drive, target| {
                        let (weight, sum) = &mut gradients[area];
                        let gradient = Some((factors(area), weight, sum));
                        let (shape, bias) = (self.shape(area), &self.buffers[3 * area + 2]);
                        let filter = &filters[area];
                        found[area] = sweep(device, work, shape, filter, batch, bias, drive, target, gradient);
                    });
            });
            for task in wave {
                for (sum, part) in squares.iter_mut().zip(&task.squares) {
                    sum.add(part);
                }
                for ([weight, bias], (weight_sum, bias_part)) in sums.iter_mut().zip(&mut task.gradients) {
                    device.finish_weight_gradient(weight_sum, weight);
                    device.add(bias_part, bias);
                }
                task.gradients.clear();
            }
        }
        let mut buffers: Vec<&mut D::Buffer> = sums.iter_mut().flatten().collect();
        sum_squares_over_peers(device, &mut buffers, &mut squares);
        let gradients = sums.into_iter().enumerate().flat_map(|(area, [weight, bias])| {
            let rows = self.shape(area).outputs;
            let [g, v] = [&self.buffers[3 * area], &self.buffers[3 * area + 1]];
            let (mut dg, mut dv) = (device.zeros(rows), device.zeros(rows * self.shape(area).patch()));
            device.weight_norm_adjoint(rows, g, v, &weight, &mut dg, &mut dv);
            [dg, dv, bias]
        });
        InverseBatch {
            squares,
            gradients: gradients.collect(),
        }
    }
}

/// How well one area's linear dynamics reproduce the folded CNN's currents, over a set of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AreaInverse {
    /// Index of the area, from 0.
    pub area: usize,
    /// Mean squared distance from the target after three sweeps.
    pub error: f64,
    /// Mean square of W^3 c.
    pub contraction: f64,
    /// Share of the target's variance over images, summed over units, that is explained: 1 - error / variance. NaN
    /// where a target does not vary.
    pub explained: f64,
}

impl<D: Device<f32>> Inverse<f32, D> {
    /// Every area's error over a set of images.
    ///
    /// # Errors
    /// Where an image cannot be read.
    pub(crate) fn measure(&self, images: &dyn Images) -> Result<Vec<AreaInverse>, DataError> {
        let device = self.device();
        let areas = self.architecture().areas();
        let filters = self.filters();
        let mut squares = vec![Squares::default(); areas];
        let mut moments: Vec<Vec<[f64; 2]>> = (0..areas).map(|area| vec![[0.0; 2]; self.units(area)]).collect();
        // Sums per area, and per unit the target's sum and sum of squares.
        let group = |images: &[f32], targets: &[Target]| {
            let batch = targets.len();
            let values = self.teacher.upload(images, batch);
            let mut work = D::Workspace::default();
            let mut squares = vec![Squares::default(); areas];
            let mut moments = vec![Vec::new(); areas];
            self.teacher
                .forward(&mut work, &values, batch, |work, area, drive, target| {
                    let (shape, bias) = (self.shape(area), &self.buffers[3 * area + 2]);
                    let filter = &filters[area];
                    squares[area] = sweep(device, work, shape, filter, batch, bias, drive, target, None);
                    let mut host = vec![0.0f32; shape.out_maps(batch).len()];
                    device.download_maps(shape.out_maps(batch), target, &mut host);
                    let mut units = vec![[0.0; 2]; self.units(area)];
                    for image in host.chunks_exact(units.len()) {
                        for ([sum, square], value) in units.iter_mut().zip(image) {
                            *sum += f64::from(*value);
                            *square += f64::from(*value).powi(2);
                        }
                    }
                    moments[area] = units;
                });
            (squares, moments)
        };
        let own = PartOfImages::new(images, device.peers().part(images.len()));
        for_each_group(device, self.architecture().units(), &own, group, |(found, units)| {
            for (sum, part) in squares.iter_mut().zip(&found) {
                sum.add(part);
            }
            for (sum, part) in moments.iter_mut().flatten().zip(units.iter().flatten()) {
                sum[0] += part[0];
                sum[1] += part[1];
            }
        })?;
        sum_squares_over_peers(device, &mut [], &mut squares);
        let mut numbers: Vec<f64> = moments.iter().flatten().flatten().copied().collect();
        device.sum_over_peers(&mut [], &mut numbers);
        for (sums, numbers) in moments.iter_mut().flatten().zip(numbers.chunks(2)) {
            sums.copy_from_slice(numbers);
        }
        let count = images.len() as f64;
        let record = |(area, (squares, units)): (usize, (Squares, Vec<[f64; 2]>))| {
            let terms = count * units.len() as f64;
            let variance: f64 = units.iter().map(|[sum, square]| square - sum * sum / count).sum();
            AreaInverse {
                area,
                error: squares.error / terms,
                contraction: squares.contraction / terms,
                explained: if variance > 0.0 {
                    1.0 - squares.error / variance
                } else {
                    f64::NAN
                },
            }
        };
        Ok(squares.into_iter().zip(moments).enumerate().map(record).collect())
    }
}

/// One area's part of the phase, for one batch. Weights are effective ones, `[channels, channels, 3, 3]`, biases
/// `[channels, side, side]`, the drive `[batch, channels, side, side]`.
#[derive(Clone, Copy, Debug)]
pub struct AreaInversion<'a, T> {
    /// The folded CNN's area_conv.
    pub target_weight: &'a Tensor<T>,
    /// Bias of the folded CNN after area_area.
    pub area_bias: &'a Tensor<T>,
    /// Bias of the folded CNN after area_conv.
    pub conv_bias: &'a Tensor<T>,
    /// area_area(x) of the folded CNN, without bias.
    pub drive: &'a Tensor<T>,
    /// Recurrent weights W of the linear network.
    pub weight: &'a Tensor<T>,
    /// Bias b of the linear network.
    pub bias: &'a Tensor<T>,
}

/// Target, error and gradient that [`AreaInversion::gradient`] gives.
#[derive(Clone, Debug)]
pub struct AreaInversionGradient<T> {
    /// What the sweeps should end in, `[batch, channels, side, side]`.
    pub target: Vec<T>,
    /// Error of the sweeps, mean((target - r)^2).
    pub error: f64,
    /// Contraction of the dynamics, mean((W^3 c)^2).
    pub contraction: f64,
    /// Gradient of error + weight x contraction by W.
    pub weight: Vec<T>,
    /// Gradient of error + weight x contraction by b.
    pub bias: Vec<T>,
}

impl<T: Real> AreaInversion<'_, T> {
    /// Error, contraction and the gradient of error + `contraction_weight` x contraction, on the CPU.
    ///
    /// # Errors
    /// [`TrainError::Setting`] where the shapes do not fit together.
    pub fn gradient(&self, contraction_weight: f64) -> Result<AreaInversionGradient<T>, TrainError> {
        let &[batch, channels, side, width] = self.drive.shape.as_slice() else {
            return Err(shape_error("drive", &self.drive.shape, "[batch, channels, side, side]"));
        };
        let unit_shape = [channels, side, side];
        let weight_shape = [channels, channels, 3, 3];
        if width != side || batch == 0 {
            return Err(shape_error(
                "drive",
                &self.drive.shape,
                "square maps of at least one image",
            ));
        }
        for (field, tensor, shape) in [
            ("target_weight", self.target_weight, &weight_shape[..]),
            ("weight", self.weight, &weight_shape[..]),
            ("area_bias", self.area_bias, &unit_shape[..]),
            ("conv_bias", self.conv_bias, &unit_shape[..]),
            ("bias", self.bias, &unit_shape[..]),
        ] {
            if tensor.shape != shape {
                return Err(shape_error(field, &tensor.shape, &format!("{shape:?}")));
            }
        }
        let device = &Cpu;
        let shape = ConvShape {
            inputs: channels,
            outputs: channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            in_side: side,
        };
        let maps: Maps = shape.out_maps(batch);
        let mut work = <Cpu as Device<T>>::Workspace::default();
        let upload = |tensor: &Tensor<T>| Device::<T>::upload(device, &tensor.data);
        let mut drive = Device::<T>::zeros_maps(device, maps);
        device.upload_maps(maps, &self.drive.data, &mut drive);
        let biases = [&upload(self.area_bias), &upload(self.conv_bias)];
        let filter = device.filter(shape, &upload(self.target_weight));
        let target = current(device, &mut work, &filter, maps, biases, &drive);
        let filter = device.filter(shape, &upload(self.weight));
        let error = 1.0 / maps.len() as f64;
        let factors = Factors {
            error,
            contraction: contraction_weight * error,
        };
        let mut sum = Device::<T>::weight_sum(device, shape);
        let mut bias = Device::<T>::zeros(device, shape.out_maps(1).len());
        let squares = sweep(
            device,
            &mut work,
            shape,
            &filter,
            batch,
            &upload(self.bias),
            &drive,
            &target,
            Some((factors, &mut sum, &mut bias)),
        );
        let mut weight = Device::<T>::zeros(device, shape.outputs * shape.patch());
        device.finish_weight_gradient(&mut sum, &mut weight);
        let mut host = vec![T::ZERO; maps.len()];
        device.download_maps(maps, &target, &mut host);
        Ok(AreaInversionGradient {
            target: host,
            error: squares.error * error,
            contraction: squares.contraction * error,
            weight: Device::<T>::download(device, &weight),
            bias: Device::<T>::download(device, &bias),
        })
    }
}

fn shape_error(field: &'static str, found: &[usize], expected: &str) -> TrainError {
    TrainError::Setting {
        field,
        problem: format!("it has shape {found:?}, expected {expected}"),
    }
}
