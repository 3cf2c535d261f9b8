//! The kernel interface: everything a network or a training step needs from a processor, and nothing about networks.
//!
//! [`Cpu`] is the implementation at hand. Buffers are flat and their layout is the device's own secret: host values go
//! in and out through `upload_maps`/`download_maps` as `[batch, channels, height, width]`. A kernel works on one
//! *group* of images by itself; `for_each` is the only place where groups run side by side, and no result depends
//! on how many do.

mod cpu;
pub mod cuda;
mod phi;
mod real;

pub use cpu::{Aligned, Cpu, Kernels, Packed};
pub use phi::Phi;
pub use real::Real;

use crate::rng::Stream;
use dynvis_base::{Classified, ErrorKind};
use serde::{Deserialize, Serialize};

/// A batch of square maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Number of images of the batch.
    pub batch: usize,
    /// Channels of one image.
    pub channels: usize,
    /// Height and width of one map.
    pub side: usize,
}

impl Maps {
    /// Values of all maps.
    pub fn len(self) -> usize {
        self.batch * self.channels * self.plane()
    }

    /// Whether there are no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Values of one map.
    pub fn plane(self) -> usize {
        self.side * self.side
    }

    /// The same maps of another number of channels.
    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// The same maps for another number of images.
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}

/// A convolution of square maps without bias: `weight` is `[outputs, inputs, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Side of the input maps.
    pub in_side: usize,
}

impl ConvShape {
    /// Side of the output maps.
    pub fn out_side(self) -> usize {
        (self.in_side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Inputs that one output value reads: inputs x kernel x kernel.
    pub fn patch(self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    /// Input maps of `batch` images.
    pub fn in_maps(self, batch: usize) -> Maps {
        Maps {
            batch,
            channels: self.inputs,
            side: self.in_side,
        }
    }

    /// Output maps of `batch` images.
    pub fn out_maps(self, batch: usize) -> Maps {
        Maps {
            batch,
            channels: self.outputs,
            side: self.out_side(),
        }
    }
}

/// One step of Adam or AdamW on one parameter (Kingma and Ba 2015; Loshchilov and Hutter 2019), as PyTorch computes it.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Factor of the decay of weights; 0 for none.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter itself (AdamW) or is added to the gradient (Adam).
    pub decoupled: bool,
    /// Number of this step, from 1.
    pub step: u64,
}

/// What a step of Adam comes down to once its number is known.
pub(crate) struct AdamFactors {
    /// Learning rate over the first moment's bias correction.
    pub(crate) rate: f64,
    /// Root of the second moment's bias correction.
    pub(crate) root: f64,
    /// What AdamW multiplies the parameter with.
    pub(crate) shrink: f64,
    /// The parameter's share in Adam's gradient.
    pub(crate) added: f64,
}

impl AdamStep {
    /// Formed in double precision: 1 - 0.999^1 loses four digits in single.
    pub(crate) fn factors(&self) -> AdamFactors {
        let count = self.step as f64;
        let [beta1, beta2] = self.betas;
        AdamFactors {
            rate: self.learning_rate / (1.0 - beta1.powf(count)),
            root: (1.0 - beta2.powf(count)).sqrt(),
            shrink: if self.decoupled {
                1.0 - self.learning_rate * self.weight_decay
            } else {
                1.0
            },
            added: if self.decoupled { 0.0 } else { self.weight_decay },
        }
    }
}

/// How maps are enlarged, as by PyTorch's `interpolate`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Every value is that of the input pixel that it lies in.
    Nearest,
    /// Linear between the centres of pixels, constant beyond the outermost (`align_corners=False`).
    Bilinear,
}

impl Interpolation {
    /// The two input positions that an output position of an axis reads, and their weights, for `from` positions that
    /// become `to`, at least as many.
    pub(crate) fn taps(self, from: usize, to: usize, position: usize) -> [(usize, f64); 2] {
        match self {
            Self::Nearest => [(position * from / to, 1.0), (position * from / to, 0.0)],
            Self::Bilinear => {
                let place = ((position as f64 + 0.5) * (from as f64 / to as f64) - 0.5).max(0.0);
                let first = (place as usize).min(from - 1);
                let weight = place - first as f64;
                [(first, 1.0 - weight), ((first + 1).min(from - 1), weight)]
            }
        }
    }
}

/// Why a device cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such device, or something that it needs is missing.
    #[error("{0}")]
    Absent(String),
    /// The device's memory does not suffice.
    #[error("the device has no {bytes} bytes left")]
    Memory {
        /// What was asked for.
        bytes: u64,
    },
    /// The device or its driver has failed.
    #[error("{call} failed: {reason}")]
    Failed {
        /// What was asked of it.
        call: String,
        /// What the driver answered.
        reason: String,
    },
}

impl Classified for DeviceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Absent(_) | Self::Failed { .. } => ErrorKind::Device,
        }
    }
}

/// What one step of an area reads and writes, apart from its convolutions.
#[derive(Debug)]
pub struct LeakyStep<'a, B> {
    /// dt/tau of the area, at most 1.
    pub alpha: f64,
    /// Activation function of the units.
    pub phi: Phi,
    /// The part of the input current that no convolution gives.
    pub current: &'a B,
    /// Activity before the step.
    pub r: &'a B,
    /// Activity after the step.
    pub next: &'a mut B,
}

/// Normal noise on maps.
#[derive(Clone, Copy, Debug)]
pub struct NormalNoise<'a> {
    /// A stream for every image. The image's noise is the stream's normal values in the host's order
    /// `[channels, side, side]`.
    pub streams: &'a [Stream],
    /// Standard deviation of the noise, absolute or as a fraction of each value.
    pub std: f64,
    /// Whether `std` is a fraction of each value.
    pub proportional: bool,
}

/// The largest of some magnitudes, 0 of none; NaN where one is.
pub(crate) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| {
        if largest.is_nan() || *value <= largest {
            largest
        } else {
            *value
        }
    })
}

/// A processor. Sizes that do not fit together are bugs of the caller; implementations may panic on them.
pub trait Device<T: Real>: Clone + Send + Sync + 'static {
    /// Values on the device.
    type Buffer: Send + Sync;
    /// A convolution's weights, prepared for repeated use.
    type Filter: Send + Sync;
    /// Gradient of a convolution's weights, summed over steps.
    type WeightSum: Send + Sync;
    /// Scratch memory of one group's kernels. Its content never reaches a result.
    type Workspace: Send + Sync + Default;

    /// Numbers that kernels leave for the host, in the order in which they were asked for.
    type Reductions: Send + Sync + Default;
    /// Classes of a group's images, on the device.
    type Labels: Send + Sync + Default;
    /// Work that a device has been asked for before.
    type Capture: Send + Sync + Default;
    /// Activity as bfloat16, with the signs of the currents that it came from.
    type Packed: Send + Sync;

    /// Whether everything so far has worked. Where it has not, results are worthless; nothing else tells.
    ///
    /// # Errors
    /// The first [`DeviceError`] of the device.
    fn check(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Images of one group. A constant of the device, so that sums over groups do not depend on the number of threads.
    fn group_images(&self) -> usize;
    /// Groups worth holding in memory at once, for networks of so many units an image.
    fn groups_in_flight(&self, units: usize) -> usize;
    /// How many times longer a batch takes with only so many groups in memory at once, for networks of so many units.
    fn slowdown(&self, units: usize, groups: usize) -> f64;
    /// Bytes of memory that is kept for later use, whatever it held.
    fn spare_bytes(&self) -> u64;
    /// Does `work`, perhaps without asking it: what it did when it was called before with this recording may be done
    /// again.
    ///
    /// So `work` must ask the device for the same on the same buffers every time. From the second time on it makes and
    /// drops no buffer, and brings no value to or from the device but numbers in `reductions`, which is empty before.
    fn repeat(
        &self,
        capture: &mut Self::Capture,
        reductions: &mut Self::Reductions,
        work: impl FnMut(&mut Self::Reductions),
    );
    /// Runs `task(index, item)` on every item, perhaps side by side.
    fn for_each<S: Send>(&self, items: &mut [S], task: impl Fn(usize, &mut S) + Send + Sync);

    /// A parameter buffer of zeros.
    fn zeros(&self, len: usize) -> Self::Buffer;
    /// Bytes of a buffer of maps.
    fn maps_bytes(&self, maps: Maps) -> u64;
    /// A buffer of maps, all zero.
    fn zeros_maps(&self, maps: Maps) -> Self::Buffer;
    /// A buffer with the host's values in the host's order (parameters).
    fn upload(&self, host: &[T]) -> Self::Buffer;
    /// A second buffer with the same values.
    fn duplicate(&self, buffer: &Self::Buffer) -> Self::Buffer;
    /// Values of a parameter buffer in the host's order.
    fn download(&self, buffer: &Self::Buffer) -> Vec<T>;
    /// Host `[batch, channels, side, side]` into a buffer of maps.
    fn upload_maps(&self, maps: Maps, host: &[T], out: &mut Self::Buffer);
    /// A buffer of maps into host `[batch, channels, side, side]`.
    fn download_maps(&self, maps: Maps, buffer: &Self::Buffer, out: &mut [T]);
    /// Sets every value to 0.
    fn clear(&self, x: &mut Self::Buffer);
    /// y = x.
    fn copy(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// y += x.
    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// y += max(x, 0).
    fn add_rectified(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// y = max(x, 0).
    fn rectify(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// g += q where r > 0: adjoint of [`add_rectified`](Self::add_rectified) at r.
    fn add_where_positive(&self, r: &Self::Buffer, q: &Self::Buffer, g: &mut Self::Buffer);
    /// g = 0 where r <= 0: adjoint of [`rectify`](Self::rectify) from its output.
    fn clear_where_not_positive(&self, r: &Self::Buffer, g: &mut Self::Buffer);
    /// All results of the queued reductions, which are none afterwards: a list for every kernel that left some. Waits
    /// for the device.
    fn read(&self, reductions: &mut Self::Reductions) -> Vec<Vec<f64>>;
    /// Leaves numbers whose sum is the sum of squares.
    fn sum_squares(&self, x: &Self::Buffer, reductions: &mut Self::Reductions);
    /// Leaves numbers of which the largest is the largest magnitude; NaN where a value is NaN.
    fn max_abs(&self, x: &Self::Buffer, reductions: &mut Self::Reductions);
    /// Leaves numbers whose sum is that of (x - y)^2.
    fn sum_squared_differences(&self, x: &Self::Buffer, y: &Self::Buffer, reductions: &mut Self::Reductions);
    /// y += factor x.
    fn add_scaled(&self, factor: f64, x: &Self::Buffer, y: &mut Self::Buffer);
    /// z += factor x y, value by value.
    fn add_product(&self, factor: f64, x: &Self::Buffer, y: &Self::Buffer, z: &mut Self::Buffer);
    /// sum += factor <x, y>, of maps of one shape; `sum` is a parameter of one value.
    fn add_dot(
        &self,
        work: &mut Self::Workspace,
        factor: f64,
        x: &Self::Buffer,
        y: &Self::Buffer,
        sum: &mut Self::Buffer,
    );
    /// x *= factor.
    fn scale(&self, factor: f64, x: &mut Self::Buffer);
    /// x, at least 0 and at most 1.
    fn clamp_unit(&self, x: &mut Self::Buffer);
    /// y = x + noise.
    fn add_normal(&self, maps: Maps, noise: NormalNoise<'_>, x: &Self::Buffer, y: &mut Self::Buffer);

    /// One image's maps repeated for every image of `maps`.
    fn broadcast(&self, maps: Maps, one: &Self::Buffer, out: &mut Self::Buffer);
    /// A parameter `[channels, side, side]` repeated for every image of `maps`.
    fn broadcast_parameter(&self, maps: Maps, parameter: &Self::Buffer, out: &mut Self::Buffer);
    /// out += sum over images, for a parameter `[channels, side, side]`: adjoint of
    /// [`broadcast_parameter`](Self::broadcast_parameter).
    fn add_batch_sum(&self, maps: Maps, x: &Self::Buffer, out: &mut Self::Buffer);

    /// Prepares weights `[outputs, inputs, kernel, kernel]`.
    fn filter(&self, shape: ConvShape, weight: &Self::Buffer) -> Self::Filter;
    /// Prepares other weights of the same shape; large forms in the memory of the earlier ones.
    fn fill_filter(&self, filter: &mut Self::Filter, weight: &Self::Buffer);
    /// Bytes of a filter that is used both ways, and of a sum of weight gradients.
    fn weight_bytes(&self, shape: ConvShape) -> [u64; 2];
    /// Bytes of the scratch memory that convolutions of so many images share, both ways.
    fn scratch_bytes(&self, shapes: &[ConvShape], batch: usize) -> u64;
    /// y = conv(x), or y += conv(x) where `accumulate`.
    fn conv(
        &self,
        work: &mut Self::Workspace,
        filter: &Self::Filter,
        batch: usize,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        accumulate: bool,
    );
    /// dx = transpose of conv applied to dy, or dx += where `accumulate`.
    fn conv_transpose(
        &self,
        work: &mut Self::Workspace,
        filter: &Self::Filter,
        batch: usize,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        accumulate: bool,
    );
    /// A gradient of weights to which nothing has been added.
    fn weight_sum(&self, shape: ConvShape) -> Self::WeightSum;
    /// Forgets everything that was added.
    fn clear_weight_sum(&self, sum: &mut Self::WeightSum);
    /// Adds the gradient of `<dy, conv(x)>` with respect to the weights.
    fn add_weight_gradient(
        &self,
        work: &mut Self::Workspace,
        sum: &mut Self::WeightSum,
        batch: usize,
        x: &Self::Buffer,
        dy: &Self::Buffer,
    );
    /// dw += everything that was added, `[outputs, inputs, kernel, kernel]`. To be called once, before the next
    /// clearing.
    fn finish_weight_gradient(&self, sum: &mut Self::WeightSum, dw: &mut Self::Buffer);

    /// next = (1 - alpha) r + alpha phi(current + sum of conv(x)): a whole step of one area.
    /// All convolutions have outputs of the same shape.
    fn leaky_conv(
        &self,
        work: &mut Self::Workspace,
        terms: &[(&Self::Filter, &Self::Buffer)],
        batch: usize,
        step: LeakyStep<'_, Self::Buffer>,
    );
    /// delta = alpha phi'(u) g, sum += delta and g *= 1 - alpha, with the sign of u recovered from
    /// phi(u) = (next - (1 - alpha) r)/alpha.
    fn leaky_adjoint(
        &self,
        leak: (f64, Phi),
        r: &Self::Buffer,
        next: &Self::Buffer,
        g: &mut Self::Buffer,
        delta: &mut Self::Buffer,
        sum: &mut Self::Buffer,
    );

    /// Room for packed maps.
    fn packed(&self, maps: Maps) -> Self::Packed;
    /// Bytes of packed maps.
    fn packed_bytes(&self, maps: Maps) -> u64;
    /// packed = next, which a step with `alpha` = dt/tau has made of r.
    fn pack(&self, alpha: f64, r: &Self::Buffer, next: &Self::Buffer, packed: &mut Self::Packed);
    /// x = the activity that was packed, rounded to bfloat16.
    fn unpack(&self, packed: &Self::Packed, x: &mut Self::Buffer);
    /// As [`leaky_adjoint`](Self::leaky_adjoint), to the same bits, from `next` packed.
    fn packed_adjoint(
        &self,
        leak: (f64, Phi),
        packed: &Self::Packed,
        g: &mut Self::Buffer,
        delta: &mut Self::Buffer,
        sum: &mut Self::Buffer,
    );

    /// Average pool 3x3, stride 2, padding 1, zeros counted.
    fn avg_pool(&self, maps: Maps, x: &Self::Buffer, y: &mut Self::Buffer);
    /// dx = transpose of [`avg_pool`](Self::avg_pool) applied to dy; `maps` are the input's.
    fn avg_pool_transpose(&self, maps: Maps, dy: &Self::Buffer, dx: &mut Self::Buffer);
    /// y = x enlarged to maps of another side, not below theirs, or y += where `accumulate`; `maps` are the input's.
    fn upsample(
        &self,
        maps: Maps,
        enlargement: (usize, Interpolation),
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        accumulate: bool,
    );
    /// dx = transpose of [`upsample`](Self::upsample) applied to dy, or dx += where `accumulate`; `maps` are the input's.
    fn upsample_transpose(
        &self,
        maps: Maps,
        enlargement: (usize, Interpolation),
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        accumulate: bool,
    );
    /// pooled `[channels, 1, 1]` per image = mean over the plane of max(a, 0), or of max(a, 0) + max(b, 0), or pooled +=
    /// where `accumulate`.
    fn pool(&self, maps: Maps, a: &Self::Buffer, b: Option<&Self::Buffer>, pooled: &mut Self::Buffer, accumulate: bool);
    /// g += pooled gradient / plane where r > 0, or everywhere unless `rectified`: adjoint of one term of
    /// [`pool`](Self::pool).
    fn add_unpooled(&self, maps: Maps, dpooled: &Self::Buffer, r: &Self::Buffer, rectified: bool, g: &mut Self::Buffer);

    /// Classes of images, to the memory that holds as many already.
    fn upload_labels(&self, labels: &[u32], out: &mut Self::Labels);
    /// Leaves the cross-entropy of each image; dlogits = scale (softmax - one-hot). `logits` are maps of side 1.
    fn cross_entropy(
        &self,
        classes: usize,
        logits: &Self::Buffer,
        labels: &Self::Labels,
        scale: f64,
        dlogits: &mut Self::Buffer,
        reductions: &mut Self::Reductions,
    );
    /// Leaves numbers whose sum is that of (r - spontaneous)^2, with `spontaneous` broadcast over images.
    fn return_term(&self, maps: Maps, r: &Self::Buffer, spontaneous: &Self::Buffer, reductions: &mut Self::Reductions);
    /// g += 2 scale (r - spontaneous): gradient of [`return_term`](Self::return_term).
    fn add_return_gradient(
        &self,
        maps: Maps,
        r: &Self::Buffer,
        spontaneous: &Self::Buffer,
        scale: f64,
        g: &mut Self::Buffer,
    );

    /// w = g v / |v| per row of `rows` (weight norm; Salimans and Kingma 2016).
    fn weight_norm(&self, rows: usize, g: &Self::Buffer, v: &Self::Buffer) -> Self::Buffer;
    /// Gradients of g and v from that of w (overwritten).
    fn weight_norm_adjoint(
        &self,
        rows: usize,
        g: &Self::Buffer,
        v: &Self::Buffer,
        dw: &Self::Buffer,
        dg: &mut Self::Buffer,
        dv: &mut Self::Buffer,
    );

    /// x *= factors, of which a parameter has one for each channel.
    fn scale_channels(&self, maps: Maps, factors: &Self::Buffer, x: &mut Self::Buffer);
    /// y += factor factors x, with `factors` of each channel as above.
    fn add_scaled_channels(
        &self,
        maps: Maps,
        factor: f64,
        factors: &Self::Buffer,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
    );
    /// sums += factor <x, y> of each channel; `sums` is a parameter of one value a channel.
    fn add_channel_dots(
        &self,
        work: &mut Self::Workspace,
        maps: Maps,
        factor: f64,
        xy: [&Self::Buffer; 2],
        sums: &mut Self::Buffer,
    );
    /// Per channel: mean, and sum of squared differences from it.
    fn channel_moments(&self, maps: Maps, x: &Self::Buffer) -> Vec<[f64; 2]>;
    /// y = scale x + shift per channel.
    fn channel_affine(&self, maps: Maps, scale: &[f64], shift: &[f64], x: &Self::Buffer, y: &mut Self::Buffer);
    /// Per channel: sum of dy, and sum of dy (x - mean).
    fn channel_gradient_sums(&self, maps: Maps, mean: &[f64], x: &Self::Buffer, dy: &Self::Buffer) -> Vec<[f64; 2]>;
    /// dy = a dy + b (x - mean) + c per channel, with `[mean, a, b, c]` for each.
    fn channel_combine(&self, maps: Maps, coefficients: &[[f64; 4]], x: &Self::Buffer, dy: &mut Self::Buffer);

    /// One step of SGD: velocity = momentum velocity + gradient + decay parameter; parameter -= rate velocity.
    fn sgd_step(
        &self,
        rate: f64,
        momentum: f64,
        weight_decay: f64,
        gradient: &Self::Buffer,
        velocity: &mut Self::Buffer,
        parameter: &mut Self::Buffer,
    );
    /// One step of Adam or AdamW.
    fn adam_step(
        &self,
        step: AdamStep,
        gradient: &Self::Buffer,
        moments: &mut [Self::Buffer; 2],
        parameter: &mut Self::Buffer,
    );
}
