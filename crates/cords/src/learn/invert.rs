//! Phase 2: a recurrent convolution W and bias b for every area whose linear dynamics settle at the folded CNN's currents.
//!
//! With c = b + i, i = area_area(x) from the folded CNN, three sweeps r <- W r + c from r = c end in r = sum over k = 0..3
//! of W^k c. Of every area: error = mean((target - r)^2) with target = area_conv(i + area_bias) + conv_bias, and
//! contraction = mean((W^3 c)^2), which is small where the sweeps have converged. Areas do not depend on each other.

use super::TrainError;
use crate::device::{ConvShape, Cpu, Device, Maps};
use crate::net::current;
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
struct Squares {
    error: f64,
    contraction: f64,
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
    let squares = Squares {
        error: device.sum_squares(&difference),
        contraction: device.sum_squares(&terms[SWEEPS]),
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

/// One area's part of the phase, for one batch. Weights are effective ones, `[channels, channels, 3, 3]`, biases
/// `[channels, side, side]`, the drive `[batch, channels, side, side]`.
#[derive(Clone, Copy, Debug)]
pub struct AreaInversion<'a, T> {
    /// The folded CNN's area_conv.
    pub target_weight: &'a Tensor<T>,
    /// Its bias after area_area.
    pub area_bias: &'a Tensor<T>,
    /// Its bias after area_conv.
    pub conv_bias: &'a Tensor<T>,
    /// area_area(x) of the folded CNN, without bias.
    pub drive: &'a Tensor<T>,
    /// W.
    pub weight: &'a Tensor<T>,
    /// b.
    pub bias: &'a Tensor<T>,
}

/// What [`AreaInversion::gradient`] gives.
#[derive(Clone, Debug)]
pub struct AreaInversionGradient<T> {
    /// What the sweeps should end in, `[batch, channels, side, side]`.
    pub target: Vec<T>,
    /// mean((target - r)^2).
    pub error: f64,
    /// mean((W^3 c)^2).
    pub contraction: f64,
    /// Gradient of error + weight x contraction by W.
    pub weight: Vec<T>,
    /// The same by b.
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
