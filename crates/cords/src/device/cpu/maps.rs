//! Kernels that know about images, channels and planes: layout changes, broadcasting, pooling, readout, loss,
//! weight norm and batch norm. Maps are `[channels, batch, side, side]`.

use super::elementwise::{centred_dot, positive, sum, sum_squared_differences, sum_squares, vectorised};
use crate::Real;
use crate::device::Maps;

/// Swaps the two outer axes: `[outer, inner, plane]` to `[inner, outer, plane]`.
fn swap_outer<T: Real>(outer: usize, inner: usize, plane: usize, from: &[T], to: &mut [T]) {
    assert_eq!((from.len(), to.len()), (outer * inner * plane, outer * inner * plane));
    if outer == 1 || inner == 1 {
        return to.copy_from_slice(from);
    }
    for (o, from) in from.chunks_exact(inner * plane).enumerate() {
        for (i, from) in from.chunks_exact(plane).enumerate() {
            to[(i * outer + o) * plane..][..plane].copy_from_slice(from);
        }
    }
}

pub(super) fn upload<T: Real>(maps: Maps, host: &[T], out: &mut [T]) {
    swap_outer(maps.batch, maps.channels, maps.plane(), host, out);
}

pub(super) fn download<T: Real>(maps: Maps, buffer: &[T], out: &mut [T]) {
    swap_outer(maps.channels, maps.batch, maps.plane(), buffer, out);
}

pub(super) fn broadcast<T: Real>(maps: Maps, one: &[T], out: &mut [T]) {
    assert_eq!((one.len() * maps.batch, out.len()), (maps.len(), maps.len()));
    let plane = maps.plane();
    for (one, out) in one.chunks_exact(plane).zip(out.chunks_exact_mut(plane * maps.batch)) {
        for out in out.chunks_exact_mut(plane) {
            out.copy_from_slice(one);
        }
    }
}

pub(super) fn add_batch_sum<T: Real>(maps: Maps, x: &[T], out: &mut [T]) {
    assert_eq!((x.len(), out.len() * maps.batch), (maps.len(), maps.len()));
    let plane = maps.plane();
    vectorised(|| {
        for (x, out) in x.chunks_exact(plane * maps.batch).zip(out.chunks_exact_mut(plane)) {
            for x in x.chunks_exact(plane) {
                for (x, out) in x.iter().zip(out.iter_mut()) {
                    *out += *x;
                }
            }
        }
    });
}

/// The input positions that output position `p` of a 3-wide, stride-2, padding-1 window covers.
fn pool_window(p: usize, side: usize) -> std::ops::Range<usize> {
    (2 * p).saturating_sub(1)..(2 * p + 2).min(side)
}

pub(super) fn avg_pool<T: Real>(maps: Maps, x: &[T], y: &mut [T]) {
    let (side, out) = (maps.side, maps.side.div_ceil(2));
    assert_eq!((x.len(), y.len()), (maps.len(), maps.batch * maps.channels * out * out));
    let ninth = T::from_f64(1.0 / 9.0);
    for (x, y) in x.chunks_exact(side * side).zip(y.chunks_exact_mut(out * out)) {
        for (oy, y) in y.chunks_exact_mut(out).enumerate() {
            for (ox, y) in y.iter_mut().enumerate() {
                let mut total = T::ZERO;
                for iy in pool_window(oy, side) {
                    for ix in pool_window(ox, side) {
                        total += x[iy * side + ix];
                    }
                }
                *y = total * ninth;
            }
        }
    }
}

pub(super) fn avg_pool_transpose<T: Real>(maps: Maps, dy: &[T], dx: &mut [T]) {
    let (side, out) = (maps.side, maps.side.div_ceil(2));
    assert_eq!(
        (dx.len(), dy.len()),
        (maps.len(), maps.batch * maps.channels * out * out)
    );
    let ninth = T::from_f64(1.0 / 9.0);
    dx.fill(T::ZERO);
    for (dx, dy) in dx.chunks_exact_mut(side * side).zip(dy.chunks_exact(out * out)) {
        for (oy, dy) in dy.chunks_exact(out).enumerate() {
            for (ox, dy) in dy.iter().enumerate() {
                for iy in pool_window(oy, side) {
                    for ix in pool_window(ox, side) {
                        dx[iy * side + ix] += *dy * ninth;
                    }
                }
            }
        }
    }
}

pub(super) fn pool_pair<T: Real>(maps: Maps, a: &[T], b: &[T], pooled: &mut [T]) {
    let plane = maps.plane();
    assert_eq!(
        (a.len(), b.len(), pooled.len() * plane),
        (maps.len(), maps.len(), maps.len())
    );
    vectorised(|| {
        for ((a, b), pooled) in a.chunks_exact(plane).zip(b.chunks_exact(plane)).zip(pooled) {
            let mut sums = [0.0f64; 8];
            for (a, b) in a.chunks(8).zip(b.chunks(8)) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += (positive(*a) + positive(*b)).to_f64();
                }
            }
            *pooled = T::from_f64(sums.iter().sum::<f64>() / plane as f64);
        }
    });
}

pub(super) fn add_unpooled<T: Real>(maps: Maps, dpooled: &[T], r: &[T], rectified: bool, g: &mut [T]) {
    let plane = maps.plane();
    assert_eq!(
        (r.len(), g.len(), dpooled.len() * plane),
        (maps.len(), maps.len(), maps.len())
    );
    let share = T::from_f64(1.0 / plane as f64);
    vectorised(|| {
        for ((r, g), dpooled) in r.chunks_exact(plane).zip(g.chunks_exact_mut(plane)).zip(dpooled) {
            let value = *dpooled * share;
            for (r, g) in r.iter().zip(g) {
                *g += if !rectified || *r > T::ZERO { value } else { T::ZERO };
            }
        }
    });
}

pub(super) fn cross_entropy<T: Real>(
    classes: usize,
    logits: &[T],
    labels: &[u32],
    scale: f64,
    dlogits: &mut [T],
) -> Vec<f64> {
    let batch = labels.len();
    assert_eq!((logits.len(), dlogits.len()), (classes * batch, classes * batch));
    let mut weights = vec![0.0f64; classes];
    labels
        .iter()
        .enumerate()
        .map(|(image, label)| {
            let logit = |class: usize| logits[class * batch + image].to_f64();
            let largest = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
            for (class, weight) in weights.iter_mut().enumerate() {
                *weight = (logit(class) - largest).exp();
            }
            let total: f64 = weights.iter().sum();
            for (class, weight) in weights.iter().enumerate() {
                let target = f64::from(u8::from(class == *label as usize));
                dlogits[class * batch + image] = T::from_f64(scale * (weight / total - target));
            }
            largest + total.ln() - logit(*label as usize)
        })
        .collect()
}

pub(super) fn return_term<T: Real>(maps: Maps, r: &[T], rest: &[T], scale: f64, g: Option<&mut Vec<T>>) -> f64 {
    let plane = maps.plane();
    assert_eq!((r.len(), rest.len() * maps.batch), (maps.len(), maps.len()));
    let factor = T::from_f64(2.0 * scale);
    let mut total = 0.0;
    let mut gradient = g.map(|g| g.as_mut_slice());
    assert!(gradient.as_ref().is_none_or(|g| g.len() == maps.len()));
    for (index, r) in r.chunks_exact(plane).enumerate() {
        let rest = &rest[index / maps.batch * plane..][..plane];
        total += vectorised(|| {
            let mut sums = [0.0f64; 8];
            for (r, rest) in r.chunks(8).zip(rest.chunks(8)) {
                for ((sum, r), rest) in sums.iter_mut().zip(r).zip(rest) {
                    let difference = (*r - *rest).to_f64();
                    *sum += difference * difference;
                }
            }
            sums.iter().sum::<f64>()
        });
        if let Some(g) = gradient.as_deref_mut() {
            let g = &mut g[index * plane..][..plane];
            vectorised(|| {
                for ((r, rest), g) in r.iter().zip(rest).zip(g) {
                    *g += factor * (*r - *rest);
                }
            });
        }
    }
    total
}

pub(super) fn weight_norm<T: Real>(rows: usize, g: &[T], v: &[T]) -> Vec<T> {
    assert_eq!(g.len(), rows);
    let mut w = v.to_vec();
    for (g, w) in g.iter().zip(w.chunks_exact_mut(v.len() / rows)) {
        let factor = T::from_f64(g.to_f64() / sum_squares(w).sqrt());
        super::elementwise::scale(factor, w);
    }
    w
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

pub(super) fn channel_moments<T: Real>(maps: Maps, x: &[T]) -> Vec<[f64; 2]> {
    assert_eq!(x.len(), maps.len());
    let count = maps.batch * maps.plane();
    x.chunks_exact(count)
        .map(|x| {
            let mean = sum(x) / count as f64;
            [mean, sum_squared_differences(x, mean)]
        })
        .collect()
}

pub(super) fn channel_affine<T: Real>(maps: Maps, scale: &[f64], shift: &[f64], x: &[T], y: &mut [T]) {
    assert_eq!((x.len(), y.len()), (maps.len(), maps.len()));
    let count = maps.batch * maps.plane();
    let channels = x.chunks_exact(count).zip(y.chunks_exact_mut(count));
    for ((x, y), (scale, shift)) in channels.zip(scale.iter().zip(shift)) {
        let (scale, shift) = (T::from_f64(*scale), T::from_f64(*shift));
        vectorised(|| {
            for (x, y) in x.iter().zip(y) {
                *y = scale * *x + shift;
            }
        });
    }
}

pub(super) fn channel_gradient_sums<T: Real>(maps: Maps, mean: &[f64], x: &[T], dy: &[T]) -> Vec<[f64; 2]> {
    assert_eq!((x.len(), dy.len()), (maps.len(), maps.len()));
    let count = maps.batch * maps.plane();
    let channels = x.chunks_exact(count).zip(dy.chunks_exact(count));
    channels
        .zip(mean)
        .map(|((x, dy), mean)| [sum(dy), centred_dot(dy, x, *mean)])
        .collect()
}

pub(super) fn channel_combine<T: Real>(maps: Maps, coefficients: &[[f64; 4]], x: &[T], dy: &mut [T]) {
    assert_eq!((x.len(), dy.len()), (maps.len(), maps.len()));
    let count = maps.batch * maps.plane();
    let channels = x.chunks_exact(count).zip(dy.chunks_exact_mut(count));
    for ((x, dy), coefficients) in channels.zip(coefficients) {
        let [mean, a, b, c] = coefficients.map(T::from_f64);
        vectorised(|| {
            for (x, dy) in x.iter().zip(dy) {
                *dy = a * *dy + b * (*x - mean) + c;
            }
        });
    }
}
