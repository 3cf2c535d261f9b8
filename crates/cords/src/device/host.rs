//! Operations by way of the host: bodies for a device that has none of its own.

use super::{AdamStep, Device, Interpolation, Maps, NormalNoise, Real};

/// Host values of maps.
fn fetch<T: Real, D: Device<T>>(device: &D, maps: Maps, x: &D::Buffer) -> Vec<T> {
    let mut host = vec![T::ZERO; maps.len()];
    device.download_maps(maps, x, &mut host);
    host
}

/// y = the values of x after a change of each, which is given its channel and its place.
fn change<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    x: &D::Buffer,
    y: &mut D::Buffer,
    change: impl Fn(usize, usize, T) -> T,
) {
    let mut values = fetch(device, maps, x);
    for (at, value) in values.iter_mut().enumerate() {
        *value = change(channel(maps, at), at, *value);
    }
    device.upload_maps(maps, &values, y);
}

/// Channel of the value at a place.
fn channel(maps: Maps, at: usize) -> usize {
    at / maps.plane() % maps.channels
}

pub(super) fn clamp_unit<T: Real, D: Device<T>>(device: &D, maps: Maps, x: &mut D::Buffer) {
    let mut values = fetch(device, maps, x);
    for value in &mut values {
        let positive = if *value > T::ZERO { *value } else { T::ZERO };
        *value = if positive < T::ONE { positive } else { T::ONE };
    }
    device.upload_maps(maps, &values, x);
}

pub(super) fn add_normal<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    noise: NormalNoise<'_>,
    x: &D::Buffer,
    y: &mut D::Buffer,
) {
    let image = maps.channels * maps.plane();
    let mut drawn = vec![0.0f32; maps.len()];
    for (stream, drawn) in noise.streams.iter().zip(drawn.chunks_exact_mut(image)) {
        stream.normals_at(0, drawn);
    }
    let std = T::from_f64(noise.std);
    change(device, maps, x, y, |_, at, x| {
        let added = std * T::from_f64(f64::from(drawn[at]));
        x + if noise.proportional { added * x } else { added }
    });
}

pub(super) fn scale_channels<T: Real, D: Device<T>>(device: &D, maps: Maps, factors: &D::Buffer, x: &mut D::Buffer) {
    let (factors, before) = (device.download(factors), device.duplicate(x));
    change(device, maps, &before, x, |channel, _, x| x * factors[channel]);
}

pub(super) fn add_scaled_channels<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    (factor, factors): (f64, &D::Buffer),
    x: &D::Buffer,
    y: &mut D::Buffer,
) {
    let (factors, x, before) = (device.download(factors), fetch(device, maps, x), device.duplicate(y));
    let factor = T::from_f64(factor);
    change(device, maps, &before, y, |channel, at, y| {
        y + factor * factors[channel] * x[at]
    });
}

pub(super) fn channel_dots_added<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    factor: f64,
    xy: [&D::Buffer; 2],
    sums: &D::Buffer,
) -> D::Buffer {
    let [x, y] = xy.map(|maps_of| fetch(device, maps, maps_of));
    let mut dots = vec![0.0; maps.channels];
    for (at, (x, y)) in x.iter().zip(&y).enumerate() {
        dots[channel(maps, at)] += x.to_f64() * y.to_f64();
    }
    let sums = device.download(sums).into_iter().zip(dots);
    let added: Vec<T> = sums.map(|(sum, dot)| sum + T::from_f64(factor * dot)).collect();
    device.upload(&added)
}

pub(super) fn broadcast_parameter<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    parameter: &D::Buffer,
    out: &mut D::Buffer,
) {
    device.upload_maps(maps, &device.download(parameter).repeat(maps.batch), out);
}

/// What every position of an axis reads: positions of another axis, with weights.
pub(super) type Taps = Vec<Vec<(usize, f64)>>;

/// Windows of three positions around every second one, with equal weights.
pub(super) fn thirds(side: usize) -> Taps {
    let window = |out: usize| (2 * out).saturating_sub(1)..(2 * out + 2).min(side);
    let taps = (0..side.div_ceil(2)).map(|out| window(out).map(|at| (at, 1.0 / 3.0)).collect());
    taps.collect()
}

/// One position that reads all others with equal weights.
pub(super) fn mean(side: usize) -> Taps {
    vec![(0..side).map(|at| (at, 1.0 / side as f64)).collect()]
}

/// An axis that is enlarged.
pub(super) fn enlarged(side: usize, (out, interpolation): (usize, Interpolation)) -> Taps {
    (0..out)
        .map(|position| interpolation.taps(side, out, position).to_vec())
        .collect()
}

/// y = x resampled along both axes of its planes, or y += where `accumulate`; `maps` are those of x.
pub(super) fn resample<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    taps: &Taps,
    x: &D::Buffer,
    y: &mut D::Buffer,
    accumulate: bool,
) {
    let out = Maps {
        side: taps.len(),
        ..maps
    };
    let x = fetch(device, maps, x);
    let mut sums = if accumulate {
        fetch(device, out, y)
    } else {
        vec![T::ZERO; out.len()]
    };
    let planes = x.chunks_exact(maps.plane()).zip(sums.chunks_exact_mut(out.plane()));
    for (x, sums) in planes {
        for (index, sum) in sums.iter_mut().enumerate() {
            for (row, down) in &taps[index / out.side] {
                for (column, right) in &taps[index % out.side] {
                    *sum += T::from_f64(down * right) * x[row * maps.side + column];
                }
            }
        }
    }
    device.upload_maps(out, &sums, y);
}

/// dx = transpose of [`resample`] applied to dy, or dx += where `accumulate`; `maps` are those of dx.
pub(super) fn resample_transpose<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    taps: &Taps,
    dy: &D::Buffer,
    dx: &mut D::Buffer,
    accumulate: bool,
) {
    let mut transposed: Taps = vec![Vec::new(); maps.side];
    for (position, reads) in taps.iter().enumerate() {
        for (from, weight) in reads {
            transposed[*from].push((position, *weight));
        }
    }
    let out = Maps {
        side: taps.len(),
        ..maps
    };
    resample(device, out, &transposed, dy, dx, accumulate);
}

fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

pub(super) fn weight_norm<T: Real, D: Device<T>>(device: &D, rows: usize, g: &D::Buffer, v: &D::Buffer) -> D::Buffer {
    let (g, mut w) = (device.download(g), device.download(v));
    let patch = w.len() / rows;
    for (g, row) in g.iter().zip(w.chunks_exact_mut(patch)) {
        let factor = T::from_f64(g.to_f64() / dot(row, row).sqrt());
        for w in row {
            *w *= factor;
        }
    }
    device.upload(&w)
}

/// With n = |v| and h = <v, dw>/n: dg = h, dv = g/n (dw - h v/n). Given are g, v and dw.
pub(super) fn weight_norm_adjoint<T: Real, D: Device<T>>(
    device: &D,
    rows: usize,
    buffers: [&D::Buffer; 3],
) -> [D::Buffer; 2] {
    let [g, v, dw] = buffers.map(|buffer| device.download(buffer));
    let patch = v.len() / rows;
    let (mut dg, mut dv) = (Vec::with_capacity(rows), Vec::with_capacity(v.len()));
    for ((g, v), dw) in g.iter().zip(v.chunks_exact(patch)).zip(dw.chunks_exact(patch)) {
        let norm = dot(v, v).sqrt();
        let along = dot(v, dw) / norm;
        dg.push(T::from_f64(along));
        let values = v.iter().zip(dw).map(|(v, dw)| dw.to_f64() - along / norm * v.to_f64());
        dv.extend(values.map(|value| T::from_f64(g.to_f64() / norm * value)));
    }
    [device.upload(&dg), device.upload(&dv)]
}

/// Per channel the sum of a function of channel and place.
fn channel_sums(maps: Maps, f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; maps.channels];
    for at in 0..maps.len() {
        let channel = channel(maps, at);
        sums[channel] += f(channel, at);
    }
    sums
}

pub(super) fn channel_moments<T: Real, D: Device<T>>(device: &D, maps: Maps, x: &D::Buffer) -> Vec<[f64; 2]> {
    let x = fetch(device, maps, x);
    let count = (maps.batch * maps.plane()) as f64;
    let sums = channel_sums(maps, |_, at| x[at].to_f64());
    let means: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
    let squares = channel_sums(maps, |channel, at| (x[at].to_f64() - means[channel]).powi(2));
    means.into_iter().zip(squares).map(<[f64; 2]>::from).collect()
}

pub(super) fn channel_gradient_sums<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    mean: &[f64],
    x: &D::Buffer,
    dy: &D::Buffer,
) -> Vec<[f64; 2]> {
    let [x, dy] = [x, dy].map(|buffer| fetch(device, maps, buffer));
    let sums = channel_sums(maps, |_, at| dy[at].to_f64());
    let centred = channel_sums(maps, |channel, at| dy[at].to_f64() * (x[at].to_f64() - mean[channel]));
    sums.into_iter().zip(centred).map(<[f64; 2]>::from).collect()
}

pub(super) fn channel_affine<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    [scale, shift]: [&[f64]; 2],
    x: &D::Buffer,
    y: &mut D::Buffer,
) {
    change(device, maps, x, y, |channel, _, x| {
        T::from_f64(scale[channel]) * x + T::from_f64(shift[channel])
    });
}

pub(super) fn channel_combine<T: Real, D: Device<T>>(
    device: &D,
    maps: Maps,
    coefficients: &[[f64; 4]],
    x: &D::Buffer,
    dy: &mut D::Buffer,
) {
    let before = fetch(device, maps, dy);
    change(device, maps, x, dy, |channel, at, x| {
        let [mean, a, b, c] = coefficients[channel].map(T::from_f64);
        a * before[at] + b * (x - mean) + c
    });
}

pub(super) fn adam_step<T: Real, D: Device<T>>(
    device: &D,
    step: AdamStep,
    gradient: &D::Buffer,
    moments: &mut [D::Buffer; 2],
    parameter: &mut D::Buffer,
) {
    let factors = step.factors();
    let [rate, root, shrink, added] = [factors.rate, factors.root, factors.shrink, factors.added].map(T::from_f64);
    let [beta1, beta2] = step.betas.map(T::from_f64);
    let [new1, new2] = step.betas.map(|beta| T::from_f64(1.0 - beta));
    let epsilon = T::from_f64(step.epsilon);
    let [mut first, mut second] = [&moments[0], &moments[1]].map(|moment| device.download(moment));
    let (gradients, mut values) = (device.download(gradient), device.download(parameter));
    for (index, value) in values.iter_mut().enumerate() {
        let gradient = gradients[index] + added * *value;
        first[index] = beta1 * first[index] + new1 * gradient;
        second[index] = beta2 * second[index] + new2 * gradient * gradient;
        *value = shrink * *value - rate * first[index] / (second[index].sqrt() / root + epsilon);
    }
    *moments = [device.upload(&first), device.upload(&second)];
    *parameter = device.upload(&values);
}
