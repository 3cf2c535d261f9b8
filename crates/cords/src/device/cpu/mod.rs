//! Kernels for the CPU: maps lie `[channels, batch, side, side]`, one group of images per rayon task,
//! every kernel on one thread, vector instructions chosen at run time.

mod conv;
mod elementwise;
mod lanes;
mod maps;
mod panel;

use rayon::prelude::*;

use super::{AdamStep, ConvShape, Device, Maps};
use crate::Real;
use crate::net::Phi;

/// The CPU, through rayon's current thread pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

/// Images of one group: with maps of 8 x 8 the matrix products have 512 columns, and a batch of 32 still
/// occupies four cores.
const GROUP_IMAGES: usize = 8;

impl<T: Real> Device<T> for Cpu {
    type Buffer = Vec<T>;
    type Filter = conv::Filter<T>;
    type Workspace = conv::Workspace<T>;

    fn group_images(&self) -> usize {
        GROUP_IMAGES
    }

    fn groups_in_flight(&self) -> usize {
        2 * rayon::current_num_threads()
    }

    fn for_each<S: Send>(&self, items: &mut [S], task: impl Fn(usize, &mut S) + Send + Sync) {
        if let [item] = items {
            return task(0, item);
        }
        items
            .par_iter_mut()
            .with_max_len(1)
            .enumerate()
            .for_each(|(index, item)| task(index, item));
    }

    fn zeros(&self, len: usize) -> Vec<T> {
        vec![T::ZERO; len]
    }

    fn upload(&self, host: &[T]) -> Vec<T> {
        host.to_vec()
    }

    fn duplicate(&self, buffer: &Vec<T>) -> Vec<T> {
        buffer.clone()
    }

    fn download(&self, buffer: &Vec<T>) -> Vec<T> {
        buffer.clone()
    }

    fn upload_maps(&self, maps: Maps, host: &[T], out: &mut Vec<T>) {
        maps::upload(maps, host, out);
    }

    fn download_maps(&self, maps: Maps, buffer: &Vec<T>, out: &mut [T]) {
        maps::download(maps, buffer, out);
    }

    fn clear(&self, x: &mut Vec<T>) {
        x.fill(T::ZERO);
    }

    fn copy(&self, x: &Vec<T>, y: &mut Vec<T>) {
        y.copy_from_slice(x);
    }

    fn add(&self, x: &Vec<T>, y: &mut Vec<T>) {
        elementwise::add(x, y);
    }

    fn add_rectified(&self, x: &Vec<T>, y: &mut Vec<T>) {
        elementwise::add_rectified(x, y);
    }

    fn rectify(&self, x: &Vec<T>, y: &mut Vec<T>) {
        elementwise::rectify(x, y);
    }

    fn add_where_positive(&self, r: &Vec<T>, q: &Vec<T>, g: &mut Vec<T>) {
        elementwise::add_where_positive(r, q, g);
    }

    fn clear_where_not_positive(&self, r: &Vec<T>, g: &mut Vec<T>) {
        elementwise::clear_where_not_positive(r, g);
    }

    fn sum_squares(&self, x: &Vec<T>) -> f64 {
        elementwise::sum_squares(x)
    }

    fn max_abs(&self, x: &Vec<T>) -> f64 {
        elementwise::max_abs(x)
    }

    fn scale(&self, factor: f64, x: &mut Vec<T>) {
        elementwise::scale(T::from_f64(factor), x);
    }

    fn broadcast(&self, maps: Maps, one: &Vec<T>, out: &mut Vec<T>) {
        maps::broadcast(maps, one, out);
    }

    fn add_batch_sum(&self, maps: Maps, x: &Vec<T>, out: &mut Vec<T>) {
        maps::add_batch_sum(maps, x, out);
    }

    fn filter(&self, shape: ConvShape, weight: &Vec<T>) -> conv::Filter<T> {
        conv::Filter::new(shape, weight)
    }

    fn conv(
        &self,
        work: &mut conv::Workspace<T>,
        filter: &conv::Filter<T>,
        batch: usize,
        x: &Vec<T>,
        y: &mut Vec<T>,
        accumulate: bool,
    ) {
        conv::conv(work, filter, batch, x, y, accumulate);
    }

    fn conv_transpose(
        &self,
        work: &mut conv::Workspace<T>,
        filter: &conv::Filter<T>,
        batch: usize,
        dy: &Vec<T>,
        dx: &mut Vec<T>,
        accumulate: bool,
    ) {
        conv::conv_transpose(work, filter, batch, dy, dx, accumulate);
    }

    fn conv_weight_gradient(
        &self,
        work: &mut conv::Workspace<T>,
        shape: ConvShape,
        batch: usize,
        pairs: &[(&Vec<T>, &Vec<T>)],
        dw: &mut Vec<T>,
    ) {
        conv::conv_weight_gradient(work, shape, batch, pairs, dw);
    }

    fn leaky_update(&self, alpha: f64, phi: Phi, r: &Vec<T>, u: &Vec<T>, next: &mut Vec<T>) {
        elementwise::leaky_update(alpha, phi.slope(), r, u, next);
    }

    fn leaky_adjoint(&self, alpha: f64, phi: Phi, r: &Vec<T>, next: &Vec<T>, g: &mut Vec<T>, delta: &mut Vec<T>) {
        elementwise::leaky_adjoint(alpha, phi.slope(), r, next, g, delta);
    }

    fn avg_pool(&self, maps: Maps, x: &Vec<T>, y: &mut Vec<T>) {
        maps::avg_pool(maps, x, y);
    }

    fn avg_pool_transpose(&self, maps: Maps, dy: &Vec<T>, dx: &mut Vec<T>) {
        maps::avg_pool_transpose(maps, dy, dx);
    }

    fn pool_pair(&self, maps: Maps, a: &Vec<T>, b: &Vec<T>, pooled: &mut Vec<T>) {
        maps::pool_pair(maps, a, b, pooled);
    }

    fn add_unpooled(&self, maps: Maps, dpooled: &Vec<T>, r: &Vec<T>, rectified: bool, g: &mut Vec<T>) {
        maps::add_unpooled(maps, dpooled, r, rectified, g);
    }

    fn cross_entropy(
        &self,
        classes: usize,
        logits: &Vec<T>,
        labels: &[u32],
        scale: f64,
        dlogits: &mut Vec<T>,
    ) -> Vec<f64> {
        maps::cross_entropy(classes, logits, labels, scale, dlogits)
    }

    fn return_term(&self, maps: Maps, r: &Vec<T>, rest: &Vec<T>, scale: f64, g: Option<&mut Vec<T>>) -> f64 {
        maps::return_term(maps, r, rest, scale, g)
    }

    fn weight_norm(&self, rows: usize, g: &Vec<T>, v: &Vec<T>) -> Vec<T> {
        maps::weight_norm(rows, g, v)
    }

    fn weight_norm_adjoint(&self, rows: usize, g: &Vec<T>, v: &Vec<T>, dw: &Vec<T>, dg: &mut Vec<T>, dv: &mut Vec<T>) {
        maps::weight_norm_adjoint(rows, g, v, dw, dg, dv);
    }

    fn channel_moments(&self, maps: Maps, x: &Vec<T>) -> Vec<[f64; 2]> {
        maps::channel_moments(maps, x)
    }

    fn channel_affine(&self, maps: Maps, scale: &[f64], shift: &[f64], x: &Vec<T>, y: &mut Vec<T>) {
        maps::channel_affine(maps, scale, shift, x, y);
    }

    fn channel_gradient_sums(&self, maps: Maps, mean: &[f64], x: &Vec<T>, dy: &Vec<T>) -> Vec<[f64; 2]> {
        maps::channel_gradient_sums(maps, mean, x, dy)
    }

    fn channel_combine(&self, maps: Maps, coefficients: &[[f64; 4]], x: &Vec<T>, dy: &mut Vec<T>) {
        maps::channel_combine(maps, coefficients, x, dy);
    }

    fn sgd_step(
        &self,
        rate: f64,
        momentum: f64,
        weight_decay: f64,
        gradient: &Vec<T>,
        velocity: &mut Vec<T>,
        parameter: &mut Vec<T>,
    ) {
        elementwise::sgd_step(rate, momentum, weight_decay, gradient, velocity, parameter);
    }

    fn adam_step(&self, step: AdamStep, gradient: &Vec<T>, moments: &mut [Vec<T>; 2], parameter: &mut Vec<T>) {
        elementwise::adam_step(step, gradient, moments, parameter);
    }
}
