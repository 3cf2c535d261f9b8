//! The kernel interface: everything a network or a training step needs from a processor, and nothing about networks.
//!
//! Buffers are flat and their layout is the device's own secret: host values go in and out through
//! `upload_maps`/`download_maps` as `[batch, channels, height, width]`. A kernel works on one *group* of images by
//! itself; `for_each` is the only place where groups run side by side, and no result depends on how many do.
//!
//! # How a device is begun
//!
//! What [`Device`] requires is memory and primitive operations. Everything else has a body in terms of those, so that a
//! device that has only them runs and trains networks. It is made fast by replacing such bodies one at a time, the
//! fused ones first, and each is held against float64 by [`selftest`](crate::selftest). [`Cpu`] and [`cuda::Cuda`]
//! replace nearly all of them; `plain.rs`, a device for tests, replaces none.
//!
//! Both kinds of methods are in one trait. In a trait of their own, fused operations would need either one
//! implementation for all devices, which none could replace (Rust has no specialisation), or an empty one for each.
//!
//! The associated types that say how a device works have simple forms: `(ConvShape, Buffer)` for a filter and for a sum
//! of gradients, `Vec<Vec<f64>>` for reductions, `()` for workspace and capture, and [`Kept`] for packed maps.
//!
//! Bodies that bring values to the host and back stand in `host.rs`. They are the first to be replaced, and must be on
//! a device whose [`repeat`](Device::repeat) does not ask again.

mod adam;
mod cpu;
pub mod cuda;
mod error;
mod host;
mod peers;
mod phi;
#[cfg(test)]
pub(crate) mod plain;
mod real;
mod relaxation;
mod shapes;
mod target;

pub use adam::AdamStep;
pub(crate) use cpu::vectorised;
pub use cpu::{Aligned, Cpu, Kernels, Packed};
pub use error::DeviceError;
pub use peers::Peers;
pub(crate) use peers::of_all_ranks;
pub use phi::Phi;
pub use real::Real;
pub use relaxation::{Adjoint, Kept, PackedMaps, Relaxation};
pub use shapes::{ConvShape, Interpolation, Maps};
pub use target::Target;

use crate::rng::Stream;

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
///
/// Required are memory and primitive operations; provided are scheduling as on a device that does one thing at a time,
/// and operations in terms of the primitive ones.
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
    /// Work that a device has been asked for before.
    type Capture: Send + Sync + Default;
    /// Maps kept for an adjoint in less memory.
    type Packed: PackedMaps<T, Self>;

    // --- memory ------------------------------------------------------------------------------------------------------

    /// A buffer of maps, all zero.
    fn zeros_maps(&self, maps: Maps) -> Self::Buffer;
    /// A buffer with the host's values in the host's order (parameters).
    fn upload(&self, host: &[T]) -> Self::Buffer;
    /// Values of a parameter buffer in the host's order.
    fn download(&self, buffer: &Self::Buffer) -> Vec<T>;
    /// Host `[batch, channels, side, side]` into a buffer of maps.
    fn upload_maps(&self, maps: Maps, host: &[T], out: &mut Self::Buffer);
    /// A buffer of maps into host `[batch, channels, side, side]`.
    fn download_maps(&self, maps: Maps, buffer: &Self::Buffer, out: &mut [T]);
    /// A second buffer with the same values.
    fn duplicate(&self, buffer: &Self::Buffer) -> Self::Buffer;
    /// Sets every value to 0, whatever it was.
    fn clear(&self, x: &mut Self::Buffer);
    /// y = x.
    fn copy(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// All results of the queued reductions, which are none afterwards: a list for every kernel that left some. Waits
    /// for the device.
    fn read(&self, reductions: &mut Self::Reductions) -> Vec<Vec<f64>>;

    // --- primitive operations ----------------------------------------------------------------------------------------

    /// x *= factor.
    fn scale(&self, factor: f64, x: &mut Self::Buffer);
    /// y += factor x.
    fn add_scaled(&self, factor: f64, x: &Self::Buffer, y: &mut Self::Buffer);
    /// y += q where x > 0.
    fn add_where_positive(&self, x: &Self::Buffer, q: &Self::Buffer, y: &mut Self::Buffer);
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
    /// Leaves numbers whose sum is that of (x - y)^2.
    fn sum_squared_differences(&self, x: &Self::Buffer, y: &Self::Buffer, reductions: &mut Self::Reductions);
    /// Leaves numbers of which the largest is the largest magnitude; NaN where a value is NaN.
    fn max_abs(&self, x: &Self::Buffer, reductions: &mut Self::Reductions);
    /// One image's maps repeated for every image of `maps`.
    fn broadcast(&self, maps: Maps, one: &Self::Buffer, out: &mut Self::Buffer);
    /// out += sum over images, for a parameter `[channels, side, side]`: adjoint of
    /// [`broadcast_parameter`](Self::broadcast_parameter).
    fn add_batch_sum(&self, maps: Maps, x: &Self::Buffer, out: &mut Self::Buffer);
    /// Prepares weights `[outputs, inputs, kernel, kernel]`.
    fn filter(&self, shape: ConvShape, weight: &Self::Buffer) -> Self::Filter;
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
    /// Leaves the cross-entropy of each image, weighted over the classes of its [`Target`] where that has two;
    /// dlogits = scale (softmax - target). `logits` are maps of side 1, `targets` come from
    /// [`upload_targets`](Self::upload_targets). A target of one class has the same bits whatever the partner.
    fn cross_entropy(
        &self,
        classes: usize,
        logits: &Self::Buffer,
        targets: &Self::Buffer,
        scale: f64,
        dlogits: &mut Self::Buffer,
        reductions: &mut Self::Reductions,
    );

    // --- scheduling and sizes ----------------------------------------------------------------------------------------

    /// Whether everything so far has worked. Where it has not, results are worthless; nothing else tells.
    ///
    /// # Errors
    /// The first [`DeviceError`] of the device.
    fn check(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    /// Images of one group. A constant of the device, so that sums over groups do not depend on the number of threads.
    fn group_images(&self) -> usize {
        8
    }
    /// Groups worth holding in memory at once, where an image is so many values.
    fn groups_in_flight(&self, _values: usize) -> usize {
        1
    }
    /// How many times longer a batch takes with only so many groups in memory at once, where an image is so many
    /// values.
    fn slowdown(&self, _values: usize, _groups: usize) -> f64 {
        1.0
    }
    /// Runs `task(index, item)` on every item, perhaps side by side.
    fn for_each<S: Send>(&self, items: &mut [S], task: impl Fn(usize, &mut S) + Send + Sync) {
        for (index, item) in items.iter_mut().enumerate() {
            task(index, item);
        }
    }
    /// Does `work`, perhaps without asking it: what it did when it was called before with this recording may be done
    /// again.
    ///
    /// So `work` must ask the device for the same on the same buffers every time. From the second time on it makes and
    /// drops no buffer, and brings no value to or from the device but numbers in `reductions`, which is empty before.
    fn repeat(
        &self,
        _capture: &mut Self::Capture,
        reductions: &mut Self::Reductions,
        mut work: impl FnMut(&mut Self::Reductions),
    ) {
        work(reductions);
    }
    /// Which of the devices that train one network together this is.
    fn peers(&self) -> Peers {
        Peers::ALONE
    }
    /// Adds up what every peer gives, as many buffers of as many float32 values and as many numbers, in the order of
    /// ranks. All have the same bits afterwards.
    ///
    /// All peers must ask for the same in the same order; each waits for all others. Where one has no memory left, all
    /// have failed for want of memory afterwards. One that has failed otherwise leaves its peers waiting: whoever runs
    /// them ends them.
    fn sum_over_peers(&self, _buffers: &mut [&mut Self::Buffer], _numbers: &mut [f64]) {}
    /// Bytes of memory that is kept for later use, whatever it held.
    fn spare_bytes(&self) -> u64 {
        0
    }
    /// How many steps' `delta` are kept for one sum of them on the way back through relaxations, where gradients that
    /// convolutions give, so many for each step, are left apart until the next adjoint adds them
    /// ([`gathered_adjoint`](Self::gathered_adjoint)); none where each step adds everything at once.
    fn gathers(&self, _maps: Maps, _parts: usize) -> Option<usize> {
        None
    }
    /// Bytes of a buffer of maps.
    fn maps_bytes(&self, maps: Maps) -> u64 {
        (maps.len() * size_of::<T>()) as u64
    }
    /// Bytes of a filter that is used both ways, and of a sum of weight gradients.
    fn weight_bytes(&self, shape: ConvShape) -> [u64; 2] {
        [(shape.outputs * shape.patch() * size_of::<T>()) as u64; 2]
    }
    /// Bytes of the scratch memory that convolutions of so many images share, both ways.
    fn scratch_bytes(&self, _shapes: &[ConvShape], _batch: usize) -> u64 {
        0
    }

    /// Bytes of maps in the form in which convolutions read them.
    fn operand_bytes(&self, maps: Maps) -> u64 {
        self.maps_bytes(maps)
    }

    // --- further forms of the primitive operations -------------------------------------------------------------------

    /// Maps that a relaxation makes and convolutions read, all zero: as they are, and in the form in which convolutions
    /// read them, where that is another.
    fn zeros_relaxed(&self, maps: Maps) -> Self::Buffer {
        self.zeros_maps(maps)
    }
    /// Maps that convolutions read, all zero, in the form in which they do. They can be `x` of [`conv`](Self::conv) and
    /// its adjoints and what these give without adding, terms of a relaxation, `delta` of a gathered adjoint and its
    /// parts, and what [`sum_rectified`](Self::sum_rectified) and [`rectify`](Self::rectify) make; [`add`](Self::add) and
    /// [`add_where_positive`](Self::add_where_positive) take them.
    fn zeros_operand(&self, maps: Maps) -> Self::Buffer {
        self.zeros_maps(maps)
    }
    /// x = sum of convolutions and of max(r, 0) of the `rectified` ones; there is at least one of either.
    fn sum_rectified(
        &self,
        work: &mut Self::Workspace,
        convolved: &[(&Self::Filter, &Self::Buffer)],
        rectified: &[&Self::Buffer],
        batch: usize,
        x: &mut Self::Buffer,
    ) {
        for (index, (filter, r)) in convolved.iter().enumerate() {
            self.conv(work, filter, batch, r, x, index > 0);
        }
        for (index, r) in rectified.iter().enumerate() {
            match convolved.is_empty() && index == 0 {
                true => self.rectify(r, x),
                false => self.add_rectified(r, x),
            }
        }
    }
    /// A parameter buffer of zeros.
    fn zeros(&self, len: usize) -> Self::Buffer {
        self.upload(&vec![T::ZERO; len])
    }
    /// What images are to be answered with, to the memory that holds as many already; `out` is a parameter of any size
    /// before.
    fn upload_targets(&self, targets: &[Target], out: &mut Self::Buffer) {
        *out = self.upload(&Target::numbers(targets));
    }
    /// y += x.
    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.add_scaled(1.0, x, y);
    }
    /// y += max(x, 0).
    fn add_rectified(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.add_where_positive(x, x, y);
    }
    /// y = max(x, 0).
    fn rectify(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.clear(y);
        self.add_where_positive(x, x, y);
    }
    /// y = 0 where x <= 0: adjoint of [`rectify`](Self::rectify) from its output.
    fn clear_where_not_positive(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        let before = self.duplicate(y);
        self.clear(y);
        self.add_where_positive(x, &before, y);
    }
    /// x, at least 0 and at most 1.
    fn clamp_unit(&self, maps: Maps, x: &mut Self::Buffer) {
        host::clamp_unit(self, maps, x);
    }
    /// y = x + noise.
    fn add_normal(&self, maps: Maps, noise: NormalNoise<'_>, x: &Self::Buffer, y: &mut Self::Buffer) {
        host::add_normal(self, maps, noise, x, y);
    }
    /// Leaves numbers whose sum is the sum of squares.
    fn sum_squares(&self, x: &Self::Buffer, reductions: &mut Self::Reductions) {
        let mut zeros = self.duplicate(x);
        self.clear(&mut zeros);
        self.sum_squared_differences(x, &zeros, reductions);
    }
    /// Leaves numbers whose sum is that of (x - centre)^2, with `centre` the same for every image.
    fn sum_squared_distances(
        &self,
        maps: Maps,
        x: &Self::Buffer,
        centre: &Self::Buffer,
        reductions: &mut Self::Reductions,
    ) {
        let mut centres = self.duplicate(x);
        self.broadcast(maps, centre, &mut centres);
        self.sum_squared_differences(x, &centres, reductions);
    }
    /// g += 2 scale (x - centre): gradient of scale times [`sum_squared_distances`](Self::sum_squared_distances).
    fn add_distance_gradient(
        &self,
        maps: Maps,
        x: &Self::Buffer,
        centre: &Self::Buffer,
        scale: f64,
        g: &mut Self::Buffer,
    ) {
        // centre - x.
        let mut difference = self.duplicate(x);
        self.broadcast(maps, centre, &mut difference);
        self.add_scaled(-1.0, x, &mut difference);
        self.add_scaled(-2.0 * scale, &difference, g);
    }
    /// A parameter `[channels, side, side]` repeated for every image of `maps`.
    fn broadcast_parameter(&self, maps: Maps, parameter: &Self::Buffer, out: &mut Self::Buffer) {
        host::broadcast_parameter(self, maps, parameter, out);
    }
    /// Prepares other weights of the same shape; large forms in the memory of the earlier ones.
    fn fill_filter(&self, shape: ConvShape, filter: &mut Self::Filter, weight: &Self::Buffer) {
        *filter = self.filter(shape, weight);
    }

    // --- relaxation --------------------------------------------------------------------------------------------------

    /// y = (1 - alpha) x + alpha phi(u) with u = offset + sum of conv(z) over the terms (conv, z).
    ///
    /// All convolutions have outputs of the same shape. Where phi(u) = 0, y is (1 - alpha) x bit by bit, the product
    /// rounded by itself.
    fn relax(
        &self,
        work: &mut Self::Workspace,
        terms: &[(&Self::Filter, &Self::Buffer)],
        batch: usize,
        step: Relaxation<'_, Self::Buffer>,
    ) {
        relaxation::relax(self, work, terms, batch, step);
    }
    /// delta = alpha phi'(u) g, sum += delta and g *= 1 - alpha, with the sign of u recovered from
    /// phi(u) = (y - (1 - alpha) x)/alpha.
    fn relax_adjoint(
        &self,
        (alpha, phi): (f64, Phi),
        x: &Self::Buffer,
        y: &Self::Buffer,
        g: &mut Self::Buffer,
        delta: &mut Self::Buffer,
        sum: &mut Self::Buffer,
    ) {
        let added = relaxation::added(self, alpha, x, y);
        relaxation::adjoint(self, (alpha, phi), &added, [g, delta, sum]);
    }

    /// The adjoint of a relaxation from x to y, with more gradients and sums of `delta` as [`Adjoint`] has them.
    fn gathered_adjoint(&self, x: &Self::Buffer, y: &Self::Buffer, adjoint: Adjoint<'_, Self::Buffer>) {
        relaxation::gathered(self, y, adjoint, |step, [g, delta, sum]| {
            self.relax_adjoint(step, x, y, g, delta, sum);
        });
    }

    // --- maps of other sides -----------------------------------------------------------------------------------------

    /// Average pool 3x3, stride 2, padding 1, zeros counted.
    fn avg_pool(&self, maps: Maps, x: &Self::Buffer, y: &mut Self::Buffer) {
        host::resample(self, maps, &host::thirds(maps.side), x, y, false);
    }
    /// dx = transpose of [`avg_pool`](Self::avg_pool) applied to dy; `maps` are the input's.
    fn avg_pool_transpose(&self, maps: Maps, dy: &Self::Buffer, dx: &mut Self::Buffer) {
        host::resample_transpose(self, maps, &host::thirds(maps.side), dy, dx, false);
    }
    /// y = x enlarged to maps of another side, not below theirs, or y += where `accumulate`; `maps` are the input's.
    fn upsample(
        &self,
        maps: Maps,
        enlargement: (usize, Interpolation),
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        accumulate: bool,
    ) {
        host::resample(self, maps, &host::enlarged(maps.side, enlargement), x, y, accumulate);
    }
    /// dx = transpose of [`upsample`](Self::upsample) applied to dy, or dx += where `accumulate`; `maps` are the
    /// input's.
    fn upsample_transpose(
        &self,
        maps: Maps,
        enlargement: (usize, Interpolation),
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        accumulate: bool,
    ) {
        host::resample_transpose(self, maps, &host::enlarged(maps.side, enlargement), dy, dx, accumulate);
    }
    /// pooled `[channels, 1, 1]` per image = mean over the plane of max(a, 0), or of max(a, 0) + max(b, 0), or
    /// pooled += where `accumulate`.
    fn pool(
        &self,
        maps: Maps,
        a: &Self::Buffer,
        b: Option<&Self::Buffer>,
        pooled: &mut Self::Buffer,
        accumulate: bool,
    ) {
        let mut sum = self.duplicate(a);
        self.rectify(a, &mut sum);
        if let Some(b) = b {
            self.add_rectified(b, &mut sum);
        }
        host::resample(self, maps, &host::mean(maps.side), &sum, pooled, accumulate);
    }
    /// g += pooled gradient / plane where x > 0, or everywhere unless `rectified`: adjoint of one term of
    /// [`pool`](Self::pool).
    fn add_unpooled(
        &self,
        maps: Maps,
        dpooled: &Self::Buffer,
        x: &Self::Buffer,
        rectified: bool,
        g: &mut Self::Buffer,
    ) {
        let mut shares = self.duplicate(x);
        host::resample_transpose(self, maps, &host::mean(maps.side), dpooled, &mut shares, false);
        if rectified {
            self.add_where_positive(x, &shares, g);
        } else {
            self.add(&shares, g);
        }
    }

    // --- norms -------------------------------------------------------------------------------------------------------

    /// w = g v / |v| per row of `rows` (weight norm; Salimans and Kingma 2016).
    fn weight_norm(&self, rows: usize, g: &Self::Buffer, v: &Self::Buffer) -> Self::Buffer {
        host::weight_norm(self, rows, g, v)
    }
    /// Gradients of g and v from that of w (overwritten).
    fn weight_norm_adjoint(
        &self,
        rows: usize,
        g: &Self::Buffer,
        v: &Self::Buffer,
        dw: &Self::Buffer,
        dg: &mut Self::Buffer,
        dv: &mut Self::Buffer,
    ) {
        [*dg, *dv] = host::weight_norm_adjoint(self, rows, [g, v, dw]);
    }
    /// x *= factors, of which a parameter has one for each channel.
    fn scale_channels(&self, maps: Maps, factors: &Self::Buffer, x: &mut Self::Buffer) {
        host::scale_channels(self, maps, factors, x);
    }
    /// y += factor factors x, with `factors` of each channel as above.
    fn add_scaled_channels(
        &self,
        maps: Maps,
        factor: f64,
        factors: &Self::Buffer,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
    ) {
        host::add_scaled_channels(self, maps, (factor, factors), x, y);
    }
    /// sums += factor <x, y> of each channel; `sums` is a parameter of one value a channel.
    fn add_channel_dots(
        &self,
        _work: &mut Self::Workspace,
        maps: Maps,
        factor: f64,
        xy: [&Self::Buffer; 2],
        sums: &mut Self::Buffer,
    ) {
        *sums = host::channel_dots_added(self, maps, factor, xy, sums);
    }
    /// Per channel: mean, and sum of squared differences from it.
    fn channel_moments(&self, maps: Maps, x: &Self::Buffer) -> Vec<[f64; 2]> {
        host::channel_moments(self, maps, x)
    }
    /// y = scale x + shift per channel.
    fn channel_affine(&self, maps: Maps, scale: &[f64], shift: &[f64], x: &Self::Buffer, y: &mut Self::Buffer) {
        host::channel_affine(self, maps, [scale, shift], x, y);
    }
    /// Per channel: sum of dy, and sum of dy (x - mean).
    fn channel_gradient_sums(&self, maps: Maps, mean: &[f64], x: &Self::Buffer, dy: &Self::Buffer) -> Vec<[f64; 2]> {
        host::channel_gradient_sums(self, maps, mean, x, dy)
    }
    /// dy = a dy + b (x - mean) + c per channel, with `[mean, a, b, c]` for each.
    fn channel_combine(&self, maps: Maps, coefficients: &[[f64; 4]], x: &Self::Buffer, dy: &mut Self::Buffer) {
        host::channel_combine(self, maps, coefficients, x, dy);
    }

    // --- steps of optimisers -----------------------------------------------------------------------------------------

    /// One step of SGD: velocity = momentum velocity + gradient + decay parameter; parameter -= rate velocity.
    fn sgd_step(
        &self,
        rate: f64,
        momentum: f64,
        weight_decay: f64,
        gradient: &Self::Buffer,
        velocity: &mut Self::Buffer,
        parameter: &mut Self::Buffer,
    ) {
        self.scale(momentum, velocity);
        self.add(gradient, velocity);
        self.add_scaled(weight_decay, parameter, velocity);
        self.add_scaled(-rate, velocity, parameter);
    }
    /// One step of Adam or AdamW.
    fn adam_step(
        &self,
        step: AdamStep,
        gradient: &Self::Buffer,
        moments: &mut [Self::Buffer; 2],
        parameter: &mut Self::Buffer,
    ) {
        host::adam_step(self, step, gradient, moments, parameter);
    }
}
