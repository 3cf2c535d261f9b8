//! Kernels for the CPU. Maps lie `[batch][block of 16 channels][side][side][16]`, so that one pixel of a block is a
//! vector; vector instructions are chosen at run time.
//!
//! Where an image has few values, groups of images run one per rayon task, otherwise each kernel is shared between
//! threads. No result depends on the number of threads or on the instruction set: every output is one chain of
//! operations in a fixed order.

mod aligned;
mod conv;
mod direct;
mod elementwise;
mod lanes;
mod maps;
mod packed;
mod parallel;
mod tiles;
mod winograd;

use rayon::prelude::*;

pub use aligned::Aligned;
pub use conv::Kernels;
pub(crate) use elementwise::vectorised;
pub use packed::Packed;

use super::{AdamStep, ConvShape, Device, Interpolation, Maps, NormalNoise, Relaxation};
use crate::Real;
use crate::device::Phi;

/// The CPU, through rayon's current thread pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

/// Images of one group: with maps of 8 x 8 the matrix products have 512 columns, and a batch of 32 still
/// occupies four cores.
const GROUP_IMAGES: usize = 8;

/// Values of an image from which on kernels are worth sharing between threads one by one.
const LARGE: usize = 50_000;

impl<T: Real> Device<T> for Cpu {
    type Buffer = Aligned<T>;
    type Filter = conv::Filter<T>;
    type WeightSum = conv::WeightSum<T>;
    type Reductions = Vec<Vec<f64>>;
    type Capture = ();
    type Workspace = conv::Workspace<T>;
    type Packed = Packed;

    fn group_images(&self) -> usize {
        GROUP_IMAGES
    }

    fn groups_in_flight(&self, values: usize) -> usize {
        if values < LARGE {
            2 * rayon::current_num_threads()
        } else {
            1
        }
    }

    fn slowdown(&self, values: usize, groups: usize) -> f64 {
        let threads = if values < LARGE {
            rayon::current_num_threads()
        } else {
            1
        };
        threads as f64 / threads.min(groups) as f64
    }

    fn spare_bytes(&self) -> u64 {
        aligned::SPARE as u64
    }

    fn for_each<S: Send>(&self, items: &mut [S], task: impl Fn(usize, &mut S) + Send + Sync) {
        if let [item] = items {
            // On a thread of the pool, from where kernels share their work at least cost.
            return rayon::scope(|_| task(0, item));
        }
        items
            .par_iter_mut()
            .with_max_len(1)
            .enumerate()
            .for_each(|(index, item)| task(index, item));
    }

    fn zeros(&self, len: usize) -> Aligned<T> {
        Aligned::zeros(len)
    }

    fn maps_bytes(&self, maps: Maps) -> u64 {
        (maps::stored(maps) * size_of::<T>()) as u64
    }

    fn zeros_maps(&self, maps: Maps) -> Aligned<T> {
        Aligned::zeros(maps::stored(maps))
    }

    fn upload(&self, host: &[T]) -> Aligned<T> {
        Aligned::from_slice(host)
    }

    fn duplicate(&self, buffer: &Aligned<T>) -> Aligned<T> {
        buffer.clone()
    }

    fn download(&self, buffer: &Aligned<T>) -> Vec<T> {
        buffer.to_vec()
    }

    fn broadcast_parameter(&self, maps: Maps, parameter: &Aligned<T>, out: &mut Aligned<T>) {
        maps::broadcast_parameter(maps, parameter, out);
    }

    fn upload_maps(&self, maps: Maps, host: &[T], out: &mut Aligned<T>) {
        maps::upload(maps, host, out);
    }

    fn download_maps(&self, maps: Maps, buffer: &Aligned<T>, out: &mut [T]) {
        maps::download(maps, buffer, out);
    }

    fn clear(&self, x: &mut Aligned<T>) {
        x.fill(T::ZERO);
    }

    fn copy(&self, x: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::copy(x, y);
    }

    fn add(&self, x: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::add(x, y);
    }

    fn add_rectified(&self, x: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::add_rectified(x, y);
    }

    fn rectify(&self, x: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::rectify(x, y);
    }

    fn add_where_positive(&self, x: &Aligned<T>, q: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::add_where_positive(x, q, y);
    }

    fn clear_where_not_positive(&self, x: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::clear_where_not_positive(x, y);
    }

    fn read(&self, reductions: &mut Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        std::mem::take(reductions)
    }

    fn sum_squares(&self, x: &Aligned<T>, reductions: &mut Vec<Vec<f64>>) {
        reductions.push(vec![elementwise::sum_squares(x)]);
    }

    fn max_abs(&self, x: &Aligned<T>, reductions: &mut Vec<Vec<f64>>) {
        reductions.push(vec![elementwise::max_abs(x)]);
    }

    fn sum_squared_differences(&self, x: &Aligned<T>, y: &Aligned<T>, reductions: &mut Vec<Vec<f64>>) {
        reductions.push(vec![elementwise::sum_squared_differences(x, y)]);
    }

    fn add_scaled(&self, factor: f64, x: &Aligned<T>, y: &mut Aligned<T>) {
        elementwise::add_scaled(T::from_f64(factor), x, y);
    }

    fn add_product(&self, factor: f64, x: &Aligned<T>, y: &Aligned<T>, z: &mut Aligned<T>) {
        elementwise::add_product(T::from_f64(factor), x, y, z);
    }

    fn add_dot(
        &self,
        _work: &mut conv::Workspace<T>,
        factor: f64,
        x: &Aligned<T>,
        y: &Aligned<T>,
        sum: &mut Aligned<T>,
    ) {
        sum[0] += T::from_f64(factor * elementwise::centred_dot(x, y, 0.0));
    }

    fn scale(&self, factor: f64, x: &mut Aligned<T>) {
        elementwise::scale(T::from_f64(factor), x);
    }

    fn clamp_unit(&self, _maps: Maps, x: &mut Aligned<T>) {
        elementwise::clamp_unit(x);
    }

    fn add_normal(&self, maps: Maps, noise: NormalNoise<'_>, x: &Aligned<T>, y: &mut Aligned<T>) {
        maps::add_normal(maps, noise, x, y);
    }

    fn broadcast(&self, maps: Maps, one: &Aligned<T>, out: &mut Aligned<T>) {
        maps::broadcast(maps, one, out);
    }

    fn add_batch_sum(&self, maps: Maps, x: &Aligned<T>, out: &mut Aligned<T>) {
        maps::add_batch_sum(maps, x, out);
    }

    fn filter(&self, shape: ConvShape, weight: &Aligned<T>) -> conv::Filter<T> {
        conv::Filter::new(shape, weight)
    }

    fn fill_filter(&self, _shape: ConvShape, filter: &mut conv::Filter<T>, weight: &Aligned<T>) {
        filter.fill(weight);
    }

    fn weight_bytes(&self, shape: ConvShape) -> [u64; 2] {
        conv::weight_values(shape).map(|values| (values * size_of::<T>()) as u64)
    }

    fn scratch_bytes(&self, shapes: &[ConvShape], batch: usize) -> u64 {
        (conv::scratch_values(shapes, batch) * size_of::<T>()) as u64
    }

    fn conv(
        &self,
        work: &mut conv::Workspace<T>,
        filter: &conv::Filter<T>,
        batch: usize,
        x: &Aligned<T>,
        y: &mut Aligned<T>,
        accumulate: bool,
    ) {
        conv::conv(work, filter, batch, x, y, accumulate);
    }

    fn conv_transpose(
        &self,
        work: &mut conv::Workspace<T>,
        filter: &conv::Filter<T>,
        batch: usize,
        dy: &Aligned<T>,
        dx: &mut Aligned<T>,
        accumulate: bool,
    ) {
        conv::conv_transpose(work, filter, batch, dy, dx, accumulate);
    }

    fn weight_sum(&self, shape: ConvShape) -> conv::WeightSum<T> {
        conv::WeightSum::new(shape)
    }

    fn clear_weight_sum(&self, sum: &mut conv::WeightSum<T>) {
        sum.clear();
    }

    fn add_weight_gradient(
        &self,
        work: &mut conv::Workspace<T>,
        sum: &mut conv::WeightSum<T>,
        batch: usize,
        x: &Aligned<T>,
        dy: &Aligned<T>,
    ) {
        sum.add(work, batch, x, dy);
    }

    fn finish_weight_gradient(&self, sum: &mut conv::WeightSum<T>, dw: &mut Aligned<T>) {
        sum.finish(dw);
    }

    fn relax(
        &self,
        work: &mut conv::Workspace<T>,
        terms: &[(&conv::Filter<T>, &Aligned<T>)],
        batch: usize,
        Relaxation {
            alpha,
            phi,
            offset,
            x,
            y,
        }: Relaxation<'_, Aligned<T>>,
    ) {
        let terms: Vec<(&conv::Filter<T>, &[T])> = terms.iter().map(|(filter, z)| (*filter, &***z)).collect();
        conv::relax(work, &terms, batch, offset, (alpha, phi.slope()), x, y);
    }

    fn relax_adjoint(
        &self,
        (alpha, phi): (f64, Phi),
        x: &Aligned<T>,
        y: &Aligned<T>,
        g: &mut Aligned<T>,
        delta: &mut Aligned<T>,
        sum: &mut Aligned<T>,
    ) {
        elementwise::relax_adjoint((alpha, phi.slope()), x, y, [g, delta, sum]);
    }

    fn avg_pool(&self, maps: Maps, x: &Aligned<T>, y: &mut Aligned<T>) {
        maps::avg_pool(maps, x, y);
    }

    fn avg_pool_transpose(&self, maps: Maps, dy: &Aligned<T>, dx: &mut Aligned<T>) {
        maps::avg_pool_transpose(maps, dy, dx);
    }

    fn upsample(
        &self,
        maps: Maps,
        enlargement: (usize, Interpolation),
        x: &Aligned<T>,
        y: &mut Aligned<T>,
        accumulate: bool,
    ) {
        maps::upsample(maps, enlargement, x, y, accumulate);
    }

    fn upsample_transpose(
        &self,
        maps: Maps,
        enlargement: (usize, Interpolation),
        dy: &Aligned<T>,
        dx: &mut Aligned<T>,
        accumulate: bool,
    ) {
        maps::upsample_transpose(maps, enlargement, dy, dx, accumulate);
    }

    fn pool(&self, maps: Maps, a: &Aligned<T>, b: Option<&Aligned<T>>, pooled: &mut Aligned<T>, accumulate: bool) {
        maps::pool(maps, a, b.map(|b| &**b), pooled, accumulate);
    }

    fn add_unpooled(&self, maps: Maps, dpooled: &Aligned<T>, x: &Aligned<T>, rectified: bool, g: &mut Aligned<T>) {
        maps::add_unpooled(maps, dpooled, x, rectified, g);
    }

    fn cross_entropy(
        &self,
        classes: usize,
        logits: &Aligned<T>,
        labels: &Aligned<T>,
        scale: f64,
        dlogits: &mut Aligned<T>,
        reductions: &mut Vec<Vec<f64>>,
    ) {
        reductions.push(maps::cross_entropy(classes, logits, labels, scale, dlogits));
    }

    fn sum_squared_distances(&self, maps: Maps, x: &Aligned<T>, centre: &Aligned<T>, reductions: &mut Vec<Vec<f64>>) {
        reductions.push(vec![maps::sum_squared_distances(maps, x, centre)]);
    }

    fn add_distance_gradient(&self, maps: Maps, x: &Aligned<T>, centre: &Aligned<T>, scale: f64, g: &mut Aligned<T>) {
        maps::add_distance_gradient(maps, x, centre, scale, g);
    }

    fn weight_norm(&self, rows: usize, g: &Aligned<T>, v: &Aligned<T>) -> Aligned<T> {
        let mut w = v.clone();
        maps::weight_norm(rows, g, &mut w);
        w
    }

    fn weight_norm_adjoint(
        &self,
        rows: usize,
        g: &Aligned<T>,
        v: &Aligned<T>,
        dw: &Aligned<T>,
        dg: &mut Aligned<T>,
        dv: &mut Aligned<T>,
    ) {
        maps::weight_norm_adjoint(rows, g, v, dw, dg, dv);
    }

    fn channel_moments(&self, maps: Maps, x: &Aligned<T>) -> Vec<[f64; 2]> {
        maps::channel_moments(maps, x)
    }

    fn scale_channels(&self, maps: Maps, factors: &Aligned<T>, x: &mut Aligned<T>) {
        maps::scale_channels(maps, factors, x);
    }

    fn add_scaled_channels(&self, maps: Maps, factor: f64, factors: &Aligned<T>, x: &Aligned<T>, y: &mut Aligned<T>) {
        maps::add_scaled_channels(maps, T::from_f64(factor), factors, x, y);
    }

    fn add_channel_dots(
        &self,
        _work: &mut conv::Workspace<T>,
        maps: Maps,
        factor: f64,
        [x, y]: [&Aligned<T>; 2],
        sums: &mut Aligned<T>,
    ) {
        maps::add_channel_dots(maps, factor, x, y, sums);
    }

    fn channel_affine(&self, maps: Maps, scale: &[f64], shift: &[f64], x: &Aligned<T>, y: &mut Aligned<T>) {
        maps::channel_affine(maps, scale, shift, x, y);
    }

    fn channel_gradient_sums(&self, maps: Maps, mean: &[f64], x: &Aligned<T>, dy: &Aligned<T>) -> Vec<[f64; 2]> {
        maps::channel_gradient_sums(maps, mean, x, dy)
    }

    fn channel_combine(&self, maps: Maps, coefficients: &[[f64; 4]], x: &Aligned<T>, dy: &mut Aligned<T>) {
        maps::channel_combine(maps, coefficients, x, dy);
    }

    fn sgd_step(
        &self,
        rate: f64,
        momentum: f64,
        weight_decay: f64,
        gradient: &Aligned<T>,
        velocity: &mut Aligned<T>,
        parameter: &mut Aligned<T>,
    ) {
        elementwise::sgd_step(rate, momentum, weight_decay, gradient, velocity, parameter);
    }

    fn adam_step(
        &self,
        step: AdamStep,
        gradient: &Aligned<T>,
        moments: &mut [Aligned<T>; 2],
        parameter: &mut Aligned<T>,
    ) {
        let [first, second] = moments;
        elementwise::adam_step(step, gradient, [first, second], parameter);
    }
}
