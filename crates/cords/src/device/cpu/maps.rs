//! Kernels that know about images, channels and planes: layout changes, broadcasting, pooling, cross-entropy,
//! distances, weight norm and batch norm. Maps are `[batch][block of channels][side][side][16]`; channels that fill up
//! the last block are zero.

use rayon::prelude::*;

use super::elementwise::{centred_dot, positive, sum_squares, vectorised};
use super::tiles::{BLOCK, blocks};
use crate::Real;
use crate::device::{Interpolation, Maps, NormalNoise, Target};

/// Values that maps take on the CPU.
pub(super) fn stored(maps: Maps) -> usize {
    maps.batch * image(maps)
}

/// Values of one image.
fn image(maps: Maps) -> usize {
    blocks(maps.channels) * block(maps)
}

/// Values of one block of channels of one image.
fn block(maps: Maps) -> usize {
    maps.plane() * BLOCK
}

/// Values below which a kernel stays on its thread.
const WORTH_SHARING: usize = 1 << 16;

/// How many neighbouring items of `len` values one task takes, of `total` values in all.
fn together(len: usize, total: usize) -> usize {
    if total < WORTH_SHARING {
        total / len.max(1) + 1
    } else {
        1
    }
}

/// `[channels, plane]` into `[blocks][plane][16]`.
fn interleave<T: Real>(maps: Maps, host: &[T], out: &mut [T]) {
    let plane = maps.plane();
    out.fill(T::ZERO);
    for (channel, host) in host.chunks_exact(plane).enumerate() {
        let out = &mut out[channel / BLOCK * block(maps)..][..block(maps)];
        for (host, out) in host.iter().zip(out.chunks_exact_mut(BLOCK)) {
            out[channel % BLOCK] = *host;
        }
    }
}

pub(super) fn upload<T: Real>(maps: Maps, host: &[T], out: &mut [T]) {
    assert_eq!((host.len(), out.len()), (maps.len(), stored(maps)));
    let each = together(image(maps), out.len());
    let images = maps.channels * maps.plane();
    host.par_chunks(images)
        .zip(out.par_chunks_mut(image(maps)))
        .with_min_len(each)
        .for_each(|(host, out)| interleave(maps, host, out));
}

pub(super) fn download<T: Real>(maps: Maps, buffer: &[T], out: &mut [T]) {
    assert_eq!((buffer.len(), out.len()), (stored(maps), maps.len()));
    let plane = maps.plane();
    let each = together(plane * maps.channels, out.len());
    buffer
        .par_chunks(image(maps))
        .zip(out.par_chunks_mut(maps.channels * plane))
        .with_min_len(each)
        .for_each(|(buffer, out)| {
            for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
                let buffer = &buffer[channel / BLOCK * block(maps)..][..block(maps)];
                for (out, values) in out.iter_mut().zip(buffer.chunks_exact(BLOCK)) {
                    *out = values[channel % BLOCK];
                }
            }
        });
}

pub(super) fn add_normal<T: Real>(maps: Maps, noise: NormalNoise<'_>, x: &[T], y: &mut [T]) {
    assert_eq!((x.len(), y.len()), (stored(maps), stored(maps)));
    assert_eq!(noise.streams.len(), maps.batch);
    let plane = maps.plane();
    let std = T::from_f64(noise.std);
    // Drawing takes so long that every block of channels is worth sharing.
    let each = 2048usize.div_ceil(block(maps).max(1));
    x.par_chunks(block(maps))
        .zip(y.par_chunks_mut(block(maps)))
        .enumerate()
        .with_min_len(each)
        .for_each_init(
            || vec![0.0f32; plane],
            |drawn, (index, (x, y))| {
                let (image, first) = (index / blocks(maps.channels), index % blocks(maps.channels) * BLOCK);
                y.fill(T::ZERO);
                for channel in first..maps.channels.min(first + BLOCK) {
                    noise.streams[image].normals_at(channel * plane, drawn);
                    let place = channel - first;
                    for ((x, y), drawn) in x.chunks_exact(BLOCK).zip(y.chunks_exact_mut(BLOCK)).zip(&*drawn) {
                        let added = std * T::from_f64(f64::from(*drawn));
                        y[place] = x[place] + if noise.proportional { added * x[place] } else { added };
                    }
                }
            },
        );
}

pub(super) fn broadcast<T: Real>(maps: Maps, one: &[T], out: &mut [T]) {
    assert_eq!((one.len(), out.len()), (image(maps), stored(maps)));
    for out in out.chunks_exact_mut(one.len()) {
        super::elementwise::copy(one, out);
    }
}

/// `out` is a parameter `[channels, side, side]`.
pub(super) fn add_batch_sum<T: Real>(maps: Maps, x: &[T], out: &mut [T]) {
    assert_eq!((x.len(), out.len()), (stored(maps), maps.channels * maps.plane()));
    let plane = maps.plane();
    for x in x.chunks_exact(image(maps)) {
        for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
            let x = &x[channel / BLOCK * block(maps)..][..block(maps)];
            for (out, x) in out.iter_mut().zip(x.chunks_exact(BLOCK)) {
                *out += x[channel % BLOCK];
            }
        }
    }
}

/// The input positions that output position `p` of a 3-wide, stride-2, padding-1 window covers.
fn pool_window(p: usize, side: usize) -> std::ops::Range<usize> {
    (2 * p).saturating_sub(1)..(2 * p + 2).min(side)
}

/// Calls `visit(output value, input value)` for every pair of positions of which one is in the other's window.
#[inline(always)]
fn pool_pairs(side: usize, out: usize, mut visit: impl FnMut(usize, usize)) {
    for oy in 0..out {
        for iy in pool_window(oy, side) {
            for ox in 0..out {
                for ix in pool_window(ox, side) {
                    visit((oy * out + ox) * BLOCK, (iy * side + ix) * BLOCK);
                }
            }
        }
    }
}

pub(super) fn avg_pool<T: Real>(maps: Maps, x: &[T], y: &mut [T]) {
    let (side, out) = (maps.side, maps.side.div_ceil(2));
    assert_eq!((x.len(), y.len()), (stored(maps), stored(Maps { side: out, ..maps })));
    let ninth = T::from_f64(1.0 / 9.0);
    let each = together(block(maps), x.len());
    x.par_chunks(block(maps))
        .zip(y.par_chunks_mut(out * out * BLOCK))
        .with_min_len(each)
        .for_each(|(x, y)| {
            vectorised(|| {
                y.fill(T::ZERO);
                pool_pairs(side, out, |o, i| {
                    let (y, x) = (&mut y[o..o + BLOCK], &x[i..i + BLOCK]);
                    for (y, x) in y.iter_mut().zip(x) {
                        *y += *x;
                    }
                });
                for y in y.iter_mut() {
                    *y *= ninth;
                }
            });
        });
}

pub(super) fn avg_pool_transpose<T: Real>(maps: Maps, dy: &[T], dx: &mut [T]) {
    let (side, out) = (maps.side, maps.side.div_ceil(2));
    assert_eq!((dx.len(), dy.len()), (stored(maps), stored(Maps { side: out, ..maps })));
    let ninth = T::from_f64(1.0 / 9.0);
    let each = together(block(maps), dx.len());
    dx.par_chunks_mut(block(maps))
        .zip(dy.par_chunks(out * out * BLOCK))
        .with_min_len(each)
        .for_each(|(dx, dy)| {
            vectorised(|| {
                dx.fill(T::ZERO);
                pool_pairs(side, out, |o, i| {
                    let (dx, dy) = (&mut dx[i..i + BLOCK], &dy[o..o + BLOCK]);
                    for (dx, dy) in dx.iter_mut().zip(dy) {
                        *dx += *dy * ninth;
                    }
                });
            });
        });
}

/// What each position of an enlarged axis reads: positions of the axis before, with weights.
type Axis = Vec<[(usize, f64); 2]>;

fn enlarged(side: usize, (out, interpolation): (usize, Interpolation)) -> Axis {
    (0..out)
        .map(|position| interpolation.taps(side, out, position))
        .collect()
}

/// Calls `visit(output value, input value, weight)` for every pair of positions of which one is read for the other.
#[inline(always)]
fn enlarged_pairs<T: Real>(side: usize, axis: &Axis, mut visit: impl FnMut(usize, usize, T)) {
    for (oy, rows) in axis.iter().enumerate() {
        for (ox, columns) in axis.iter().enumerate() {
            for (iy, row) in rows {
                for (ix, column) in columns {
                    if row * column != 0.0 {
                        let (o, i) = ((oy * axis.len() + ox) * BLOCK, (iy * side + ix) * BLOCK);
                        visit(o, i, T::from_f64(row * column));
                    }
                }
            }
        }
    }
}

/// Calls `each` with the blocks of channels of x and y, of sides `sides`, that lie in each other's place; those of y are
/// cleared before unless `accumulate`.
fn for_each_block<T: Real>(
    maps: Maps,
    sides: [usize; 2],
    x: &[T],
    y: &mut [T],
    accumulate: bool,
    each: impl Fn(&[T], &mut [T]) + Send + Sync,
) {
    let [from, to] = sides.map(|side| Maps { side, ..maps });
    assert_eq!((x.len(), y.len()), (stored(from), stored(to)));
    let largest = x.len().max(y.len());
    x.par_chunks(block(from))
        .zip(y.par_chunks_mut(block(to)))
        .with_min_len(together(block(from).max(block(to)), largest))
        .for_each(|(x, y)| {
            if !accumulate {
                y.fill(T::ZERO);
            }
            vectorised(|| each(x, y));
        });
}

/// y += weight x.
#[inline(always)]
fn add_weighted<T: Real>(weight: T, x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += weight * *x;
    }
}

pub(super) fn upsample<T: Real>(
    maps: Maps,
    enlargement: (usize, Interpolation),
    x: &[T],
    y: &mut [T],
    accumulate: bool,
) {
    let axis = enlarged(maps.side, enlargement);
    for_each_block(maps, [maps.side, axis.len()], x, y, accumulate, |x, y| {
        enlarged_pairs(maps.side, &axis, |o, i, weight| {
            add_weighted(weight, &x[i..i + BLOCK], &mut y[o..o + BLOCK]);
        });
    });
}

pub(super) fn upsample_transpose<T: Real>(
    maps: Maps,
    enlargement: (usize, Interpolation),
    dy: &[T],
    dx: &mut [T],
    accumulate: bool,
) {
    let axis = enlarged(maps.side, enlargement);
    for_each_block(maps, [axis.len(), maps.side], dy, dx, accumulate, |dy, dx| {
        enlarged_pairs(maps.side, &axis, |o, i, weight| {
            add_weighted(weight, &dy[o..o + BLOCK], &mut dx[i..i + BLOCK]);
        });
    });
}

pub(super) fn pool<T: Real>(maps: Maps, a: &[T], b: Option<&[T]>, pooled: &mut [T], accumulate: bool) {
    let single = Maps { side: 1, ..maps };
    assert_eq!((a.len(), pooled.len()), (stored(maps), stored(single)));
    assert!(b.is_none_or(|b| b.len() == a.len()));
    let plane = maps.plane() as f64;
    for (index, (a, pooled)) in a
        .chunks_exact(block(maps))
        .zip(pooled.chunks_exact_mut(BLOCK))
        .enumerate()
    {
        let b = b.map(|b| &b[index * block(maps)..][..block(maps)]);
        vectorised(|| {
            let mut sums = [0.0f64; BLOCK];
            let a = a.as_chunks::<BLOCK>().0;
            match b {
                Some(b) => {
                    for (a, b) in a.iter().zip(b.as_chunks::<BLOCK>().0) {
                        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                            *sum += (positive(*a) + positive(*b)).to_f64();
                        }
                    }
                }
                None => {
                    for a in a {
                        for (sum, a) in sums.iter_mut().zip(a) {
                            *sum += positive(*a).to_f64();
                        }
                    }
                }
            }
            for (pooled, sum) in pooled.iter_mut().zip(sums) {
                let mean = T::from_f64(sum / plane);
                *pooled = if accumulate { *pooled + mean } else { mean };
            }
        });
    }
}

pub(super) fn add_unpooled<T: Real>(maps: Maps, dpooled: &[T], x: &[T], rectified: bool, g: &mut [T]) {
    let single = Maps { side: 1, ..maps };
    assert_eq!(
        (x.len(), g.len(), dpooled.len()),
        (stored(maps), stored(maps), stored(single))
    );
    let share = T::from_f64(1.0 / maps.plane() as f64);
    let planes = x.chunks_exact(block(maps)).zip(g.chunks_exact_mut(block(maps)));
    for ((x, g), dpooled) in planes.zip(dpooled.chunks_exact(BLOCK)) {
        vectorised(|| {
            for (x, g) in x.chunks_exact(BLOCK).zip(g.chunks_exact_mut(BLOCK)) {
                for ((x, g), dpooled) in x.iter().zip(g).zip(dpooled) {
                    *g += if !rectified || *x > T::ZERO {
                        *dpooled * share
                    } else {
                        T::ZERO
                    };
                }
            }
        });
    }
}

pub(super) fn cross_entropy<T: Real>(
    classes: usize,
    logits: &[T],
    targets: &[T],
    scale: f64,
    dlogits: &mut [T],
) -> Vec<f64> {
    let row = blocks(classes) * BLOCK;
    let (targets, _) = targets.as_chunks();
    assert_eq!(
        (logits.len(), dlogits.len()),
        (row * targets.len(), row * targets.len())
    );
    dlogits.fill(T::ZERO);
    let mut weights = vec![0.0f64; classes];
    let rows = logits.chunks_exact(row).zip(dlogits.chunks_exact_mut(row));
    rows.zip(targets)
        .map(|((logits, dlogits), target)| {
            let (logits, target) = (&logits[..classes], Target::of_numbers(*target));
            let largest = logits
                .iter()
                .map(|logit| logit.to_f64())
                .fold(f64::NEG_INFINITY, f64::max);
            for (weight, logit) in weights.iter_mut().zip(logits) {
                *weight = (logit.to_f64() - largest).exp();
            }
            let total: f64 = weights.iter().sum();
            for (class, (weight, dlogit)) in weights.iter().zip(dlogits).enumerate() {
                *dlogit = T::from_f64(scale * (weight / total - target.share(class)));
            }
            let (weight, [label, partner]) = (f64::from(target.weight), [target.label, target.partner]);
            let [own, other] = [label, partner].map(|class| logits[class as usize].to_f64());
            largest + total.ln() - (weight * own + (1.0 - weight) * other)
        })
        .collect()
}

/// g += 2 scale (x - centre).
pub(super) fn add_distance_gradient<T: Real>(maps: Maps, x: &[T], centre: &[T], scale: f64, g: &mut [T]) {
    assert_eq!(
        (x.len(), centre.len(), g.len()),
        (stored(maps), image(maps), stored(maps))
    );
    let factor = T::from_f64(2.0 * scale);
    for (x, g) in x.chunks_exact(centre.len()).zip(g.chunks_exact_mut(centre.len())) {
        super::elementwise::add_difference(factor, x, centre, g);
    }
}

pub(super) fn sum_squared_distances<T: Real>(maps: Maps, x: &[T], centre: &[T]) -> f64 {
    assert_eq!((x.len(), centre.len()), (stored(maps), image(maps)));
    let each = |x: &[T]| {
        vectorised(|| {
            let mut sums = [0.0f64; BLOCK];
            for (x, centre) in x.chunks_exact(BLOCK).zip(centre.chunks_exact(BLOCK)) {
                for ((sum, x), centre) in sums.iter_mut().zip(x).zip(centre) {
                    let difference = (*x - *centre).to_f64();
                    *sum += difference * difference;
                }
            }
            sums.iter().sum::<f64>()
        })
    };
    x.chunks_exact(centre.len()).map(each).sum()
}

pub(super) fn weight_norm<T: Real>(rows: usize, g: &[T], w: &mut [T]) {
    assert_eq!(g.len(), rows);
    let patch = w.len() / rows;
    for (g, w) in g.iter().zip(w.chunks_exact_mut(patch)) {
        let factor = T::from_f64(g.to_f64() / sum_squares(w).sqrt());
        super::elementwise::scale(factor, w);
    }
}

/// With n = |v| and h = <v, dw>/n: dg = h, dv = g/n (dw - h v/n).
pub(super) fn weight_norm_adjoint<T: Real>(rows: usize, g: &[T], v: &[T], dw: &[T], dg: &mut [T], dv: &mut [T]) {
    assert_eq!((g.len(), dg.len(), dw.len(), dv.len()), (rows, rows, v.len(), v.len()));
    let patch = v.len() / rows;
    for row in 0..rows {
        let range = row * patch..(row + 1) * patch;
        let (v, dw, dv) = (&v[range.clone()], &dw[range.clone()], &mut dv[range]);
        let norm = sum_squares(v).sqrt();
        let along = centred_dot(dw, v, 0.0) / norm;
        dg[row] = T::from_f64(along);
        let (outer, inner) = (g[row].to_f64() / norm, along / norm);
        for ((dv, dw), v) in dv.iter_mut().zip(dw).zip(v) {
            *dv = T::from_f64(outer * (dw.to_f64() - inner * v.to_f64()));
        }
    }
}

/// Per channel, the results of `block(block of channels, values of that block for every image)`, one block a task.
fn by_channel<R: Copy + Send>(maps: Maps, each: impl Fn(usize) -> [R; BLOCK] + Sync + Send) -> Vec<R> {
    let min = together(block(maps) * maps.batch, stored(maps));
    let parts: Vec<[R; BLOCK]> = (0..blocks(maps.channels))
        .into_par_iter()
        .with_min_len(min)
        .map(each)
        .collect();
    parts.into_iter().flatten().take(maps.channels).collect()
}

/// Adds `f(values of 16 channels at one position)` over all images and positions of a block of channels.
#[inline(always)]
fn sums<T: Real, const I: usize>(
    maps: Maps,
    index: usize,
    x: [&[T]; I],
    f: impl Fn(usize, [f64; I]) -> f64,
) -> [f64; BLOCK] {
    vectorised(|| {
        let mut sums = [0.0f64; BLOCK];
        for start in (0..maps.batch).map(|batch| batch * image(maps) + index * block(maps)) {
            let x = x.map(|x| &x[start..start + block(maps)]);
            for at in (0..block(maps)).step_by(BLOCK) {
                let x: [&[T; BLOCK]; I] = x.map(|x| x[at..].first_chunk().expect("positions are whole blocks"));
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum += f(lane, x.map(|x| x[lane].to_f64()));
                }
            }
        }
        sums
    })
}

pub(super) fn channel_moments<T: Real>(maps: Maps, x: &[T]) -> Vec<[f64; 2]> {
    assert_eq!(x.len(), stored(maps));
    let count = (maps.batch * maps.plane()) as f64;
    by_channel(maps, |index| {
        let mean = sums(maps, index, [x], |_, [x]| x).map(|sum| sum / count);
        let squares = sums(maps, index, [x], |lane, [x]| (x - mean[lane]) * (x - mean[lane]));
        std::array::from_fn(|lane| [mean[lane], squares[lane]])
    })
}

pub(super) fn channel_gradient_sums<T: Real>(maps: Maps, mean: &[f64], x: &[T], dy: &[T]) -> Vec<[f64; 2]> {
    assert_eq!((x.len(), dy.len()), (stored(maps), stored(maps)));
    by_channel(maps, |index| {
        let mean = lanes(mean, index, |mean| *mean);
        let sum = sums(maps, index, [dy], |_, [dy]| dy);
        let centred = sums(maps, index, [dy, x], |lane, [dy, x]| dy * (x - mean[lane]));
        std::array::from_fn(|lane| [sum[lane], centred[lane]])
    })
}

pub(super) fn scale_channels<T: Real>(maps: Maps, factors: &[T], x: &mut [T]) {
    assert_eq!((factors.len(), x.len()), (maps.channels, stored(maps)));
    let each = together(block(maps), x.len());
    x.par_chunks_mut(block(maps))
        .enumerate()
        .with_min_len(each)
        .for_each(|(index, x)| {
            let factors = lanes(factors, index % blocks(maps.channels), |factor| *factor);
            vectorised(|| {
                for x in x.as_chunks_mut::<BLOCK>().0 {
                    for (x, factor) in x.iter_mut().zip(&factors) {
                        *x *= *factor;
                    }
                }
            });
        });
}

pub(super) fn add_scaled_channels<T: Real>(maps: Maps, factor: T, factors: &[T], x: &[T], y: &mut [T]) {
    assert_eq!(
        (factors.len(), x.len(), y.len()),
        (maps.channels, stored(maps), stored(maps))
    );
    let each = together(block(maps), x.len());
    x.par_chunks(block(maps))
        .zip(y.par_chunks_mut(block(maps)))
        .enumerate()
        .with_min_len(each)
        .for_each(|(index, (x, y))| {
            let factors = lanes(factors, index % blocks(maps.channels), |of| factor * *of);
            vectorised(|| {
                for (x, y) in x.as_chunks::<BLOCK>().0.iter().zip(y.as_chunks_mut::<BLOCK>().0) {
                    for lane in 0..BLOCK {
                        y[lane] += factors[lane] * x[lane];
                    }
                }
            });
        });
}

pub(super) fn add_channel_dots<T: Real>(maps: Maps, factor: f64, x: &[T], y: &[T], out: &mut [T]) {
    assert_eq!(
        (x.len(), y.len(), out.len()),
        (stored(maps), stored(maps), maps.channels)
    );
    let dots = by_channel(maps, |index| sums(maps, index, [x, y], |_, [x, y]| x * y));
    for (out, dot) in out.iter_mut().zip(dots) {
        *out += T::from_f64(factor * dot);
    }
}

/// Values of the channels of one block; the default for channels that fill it up.
fn lanes<C, R: Copy + Default>(channels: &[C], index: usize, f: impl Fn(&C) -> R) -> [R; BLOCK] {
    std::array::from_fn(|lane| channels.get(index * BLOCK + lane).map(&f).unwrap_or_default())
}

pub(super) fn channel_affine<T: Real>(maps: Maps, scale: &[f64], shift: &[f64], x: &[T], y: &mut [T]) {
    assert_eq!((x.len(), y.len()), (stored(maps), stored(maps)));
    let each = together(block(maps), x.len());
    x.par_chunks(block(maps))
        .zip(y.par_chunks_mut(block(maps)))
        .enumerate()
        .with_min_len(each)
        .for_each(|(index, (x, y))| {
            let index = index % blocks(maps.channels);
            let (scale, shift) = (
                lanes(scale, index, |scale| T::from_f64(*scale)),
                lanes(shift, index, |shift| T::from_f64(*shift)),
            );
            vectorised(|| {
                for (x, y) in x.as_chunks::<BLOCK>().0.iter().zip(y.as_chunks_mut::<BLOCK>().0) {
                    for lane in 0..BLOCK {
                        y[lane] = scale[lane] * x[lane] + shift[lane];
                    }
                }
            });
        });
}

pub(super) fn channel_combine<T: Real>(maps: Maps, coefficients: &[[f64; 4]], x: &[T], dy: &mut [T]) {
    assert_eq!((x.len(), dy.len()), (stored(maps), stored(maps)));
    let each = together(block(maps), x.len());
    x.par_chunks(block(maps))
        .zip(dy.par_chunks_mut(block(maps)))
        .enumerate()
        .with_min_len(each)
        .for_each(|(index, (x, dy))| {
            let index = index % blocks(maps.channels);
            let [mean, a, b, c] =
                [0, 1, 2, 3].map(|which| lanes(coefficients, index, |values| T::from_f64(values[which])));
            vectorised(|| {
                for (x, dy) in x.as_chunks::<BLOCK>().0.iter().zip(dy.as_chunks_mut::<BLOCK>().0) {
                    for lane in 0..BLOCK {
                        dy[lane] = a[lane] * dy[lane] + b[lane] * (x[lane] - mean[lane]) + c[lane];
                    }
                }
            });
        });
}

pub(super) fn broadcast_parameter<T: Real>(maps: Maps, parameter: &[T], out: &mut [T]) {
    assert_eq!((parameter.len() * maps.batch, out.len()), (maps.len(), stored(maps)));
    for out in out.chunks_exact_mut(image(maps)) {
        interleave(maps, parameter, out);
    }
}
