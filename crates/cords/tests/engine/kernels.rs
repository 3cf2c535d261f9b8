//! Convolution kernels against a direct float64 loop, on odd sizes too.
//!
//! In float32 each output is a sum of K = inputs x kernel^2 products (or, for weight gradients, of K = batch x
//! positions of each pair); its rounding error is at most about K u times the sum of the products' magnitudes, u =
//! 6e-8, and like sqrt(K) u when errors are random. Compared norm-wise with K up to 5,000, 20 sqrt(K) u is an ample
//! bound.

use cords::Real;
use cords::device::{ConvShape, Cpu, Device, Interpolation, Maps, Phi, Relaxation};

type Buffer<T> = <Cpu as Device<T>>::Buffer;
use crate::support::assert_close;
use cords::rng::{Purpose, Stream};

fn normal(n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, Purpose::Probe, 0, 0, 0, 0);
    // Values that float32 holds exactly, so that both precisions see the same numbers.
    (0..n).map(|_| f64::from(stream.normal() as f32)).collect()
}

/// Calls `visit(weight index, output index, input index)` for every product of a convolution of
/// `[batch, channels, side, side]` maps.
fn products(shape: ConvShape, batch: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let (side, out, kernel) = (shape.in_side, shape.out_side(), shape.kernel);
    for image in 0..batch {
        for o in 0..shape.outputs {
            for i in 0..shape.inputs {
                for (y, x) in (0..out).flat_map(|y| (0..out).map(move |x| (y, x))) {
                    for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                        let (iy, ix) = (y * shape.stride + ky, x * shape.stride + kx);
                        let inside = |p: usize| (shape.padding..shape.padding + side).contains(&p);
                        if inside(iy) && inside(ix) {
                            let weight = ((o * shape.inputs + i) * kernel + ky) * kernel + kx;
                            let output = ((image * shape.outputs + o) * out + y) * out + x;
                            let row = (image * shape.inputs + i) * side + iy - shape.padding;
                            visit(weight, output, row * side + ix - shape.padding);
                        }
                    }
                }
            }
        }
    }
}

fn upload<T: Real>(maps: Maps, values: &[f64]) -> Buffer<T> {
    let host: Vec<T> = values.iter().map(|v| T::from_f64(*v)).collect();
    let mut out = Cpu.zeros_maps(maps);
    Cpu.upload_maps(maps, &host, &mut out);
    out
}

fn download<T: Real>(maps: Maps, buffer: &Buffer<T>) -> Vec<T> {
    let mut out = vec![T::ZERO; maps.len()];
    Cpu.download_maps(maps, buffer, &mut out);
    out
}

fn check<T: Real>(shape: ConvShape, batch: usize, tolerance: f64) {
    let what = format!("{shape:?}, batch {batch}");
    let (from, to) = (shape.in_maps(batch), shape.out_maps(batch));
    let pairs = 3;
    let weight = normal(shape.outputs * shape.patch(), 1);
    let x: Vec<Vec<f64>> = (0..pairs).map(|i| normal(from.len(), 2 + i)).collect();
    let dy: Vec<Vec<f64>> = (0..pairs).map(|i| normal(to.len(), 12 + i)).collect();
    let (mut y, mut dx) = (vec![0.0; to.len()], vec![0.0; from.len()]);
    let mut dw = vec![0.0; weight.len()];
    products(shape, batch, |w, o, i| {
        y[o] += weight[w] * x[0][i];
        dx[i] += weight[w] * dy[0][o];
        for pair in 0..pairs as usize {
            dw[w] += x[pair][i] * dy[pair][o];
        }
    });

    let device_weight: Vec<T> = weight.iter().map(|v| T::from_f64(*v)).collect();
    let filter = Device::<T>::filter(&Cpu, shape, &Cpu.upload(&device_weight));
    let mut work = <Cpu as Device<T>>::Workspace::default();
    let xs: Vec<Buffer<T>> = x.iter().map(|x| upload(from, x)).collect();
    let dys: Vec<Buffer<T>> = dy.iter().map(|dy| upload(to, dy)).collect();
    for accumulate in [false, true] {
        let start = |maps: Maps| upload::<T>(maps, &vec![7.0; maps.len()]);
        let expected =
            |values: &[f64]| -> Vec<f64> { values.iter().map(|v| v + if accumulate { 7.0 } else { 0.0 }).collect() };
        let mut found = start(to);
        Cpu.conv(&mut work, &filter, batch, &xs[0], &mut found, accumulate);
        assert_close(
            &format!("{what}: forward"),
            &download(to, &found),
            &expected(&y),
            tolerance,
        );
        let mut found = start(from);
        Cpu.conv_transpose(&mut work, &filter, batch, &dys[0], &mut found, accumulate);
        assert_close(
            &format!("{what}: transpose"),
            &download(from, &found),
            &expected(&dx),
            tolerance,
        );
    }
    let mut sum = Device::<T>::weight_sum(&Cpu, shape);
    // What was added before clearing leaves no trace.
    Cpu.add_weight_gradient(&mut work, &mut sum, batch, &xs[1], &dys[0]);
    Device::<T>::clear_weight_sum(&Cpu, &mut sum);
    let mut found = Cpu.zeros(dw.len());
    for (x, dy) in xs.iter().zip(&dys) {
        Cpu.add_weight_gradient(&mut work, &mut sum, batch, x, dy);
    }
    Cpu.finish_weight_gradient(&mut sum, &mut found);
    assert_close(&format!("{what}: weight gradient"), &found, &dw, tolerance);
}

/// (inputs, outputs, kernel, stride, padding, side, batch)
const SHAPES: &[[usize; 7]] = &[
    [3, 5, 3, 1, 1, 1, 1],
    [3, 5, 3, 1, 1, 1, 8],
    [5, 3, 3, 1, 1, 2, 3],
    [7, 9, 3, 1, 1, 5, 1],
    [16, 16, 3, 1, 1, 8, 8],
    [13, 17, 3, 1, 1, 9, 5],
    [20, 20, 3, 1, 1, 33, 2],
    [6, 7, 3, 1, 1, 3, 2],
    [20, 24, 3, 1, 1, 7, 19],
    [17, 40, 3, 1, 1, 11, 2],
    [40, 36, 3, 1, 1, 14, 6],
    [3, 11, 7, 2, 3, 33, 2],
    [1, 6, 7, 2, 3, 32, 3],
    [3, 4, 7, 2, 3, 2, 1],
    [9, 5, 1, 2, 0, 7, 3],
    [9, 5, 1, 2, 0, 8, 1],
    [6, 10, 1, 1, 0, 1, 4],
    [6, 10, 1, 1, 0, 5, 2],
    [5, 7, 3, 2, 1, 8, 3],
    [5, 7, 3, 2, 1, 7, 1],
    [4, 6, 3, 2, 1, 1, 2],
    [150, 3, 3, 1, 1, 30, 1],
    // Weights that are transformed at each use.
    [513, 520, 3, 1, 1, 5, 2],
];

/// Against plain loops, with channels that fill no block and that fill several.
fn check_channels<T: Real>(tolerance: f64) {
    for channels in [5, 16, 35] {
        let maps = Maps {
            batch: 3,
            channels,
            side: 7,
        };
        let channel = |i: usize| i / maps.plane() % channels;
        let [x, y] = [1, 2].map(|seed| normal(maps.len(), seed));
        let factors = normal(channels, 3);
        let held = Cpu.upload(&factors.iter().map(|factor| T::from_f64(*factor)).collect::<Vec<T>>());
        let [held_x, held_y] = [&x, &y].map(|values| upload::<T>(maps, values));
        let mut out = upload::<T>(maps, &y);
        Cpu.scale_channels(maps, &held, &mut out);
        let expected: Vec<f64> = y.iter().enumerate().map(|(i, y)| factors[channel(i)] * y).collect();
        assert_close("scaled", &download::<T>(maps, &out), &expected, tolerance);
        let mut out = upload::<T>(maps, &y);
        Cpu.add_scaled_channels(maps, -0.5, &held, &held_x, &mut out);
        let added = |(i, (x, y)): (usize, (&f64, &f64))| y - 0.5 * factors[channel(i)] * x;
        let expected: Vec<f64> = x.iter().zip(&y).enumerate().map(added).collect();
        assert_close("added", &download::<T>(maps, &out), &expected, tolerance);
        let mut sums = Cpu.upload(&vec![T::from_f64(2.0); channels]);
        let mut work = <Cpu as Device<T>>::Workspace::default();
        Cpu.add_channel_dots(&mut work, maps, 0.25, [&held_x, &held_y], &mut sums);
        let mut expected = vec![2.0; channels];
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            expected[channel(i)] += 0.25 * x * y;
        }
        assert_close("dots", &Cpu.download(&sums), &expected, tolerance);
    }
}

#[test]
fn channels_equal_plain_loops() {
    check_channels::<f64>(1e-12);
    check_channels::<f32>(1e-5);
}

#[test]
fn convolutions_equal_the_direct_loop() {
    for [inputs, outputs, kernel, stride, padding, in_side, batch] in SHAPES.iter().copied() {
        let shape = ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            in_side,
        };
        let terms = shape.patch().max(3 * batch * shape.out_side().pow(2)) as f64;
        check::<f64>(shape, batch, 20.0 * terms.sqrt() * f64::EPSILON);
        check::<f32>(shape, batch, 20.0 * terms.sqrt() * f64::from(f32::EPSILON) / 2.0);
    }
}

/// The average pool counts the padding; its transpose is its adjoint. Odd and even sides.
#[test]
fn average_pool_and_its_transpose() {
    for side in [1, 2, 3, 8, 9] {
        let maps = Maps {
            batch: 2,
            channels: 3,
            side,
        };
        let out = Maps {
            side: side.div_ceil(2),
            ..maps
        };
        let x = upload::<f64>(maps, &normal(maps.len(), 1));
        let mut pooled = Cpu.zeros_maps(out);
        Cpu.avg_pool(maps, &x, &mut pooled);
        let (x, y) = (download(maps, &x), download(out, &pooled));
        for (plane, (x, y)) in x.chunks(side * side).zip(y.chunks(out.plane())).enumerate() {
            for (oy, ox) in (0..out.side).flat_map(|oy| (0..out.side).map(move |ox| (oy, ox))) {
                let mut sum = 0.0;
                for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                    let (iy, ix) = (2 * oy + ky, 2 * ox + kx);
                    if (1..=side).contains(&iy) && (1..=side).contains(&ix) {
                        sum += x[(iy - 1) * side + ix - 1];
                    }
                }
                assert!(
                    (y[oy * out.side + ox] - sum / 9.0).abs() < 1e-14,
                    "side {side}, plane {plane}"
                );
            }
        }
        let dy = upload::<f64>(out, &normal(out.len(), 2));
        let mut spread = Cpu.zeros_maps(maps);
        Cpu.avg_pool_transpose(maps, &dy, &mut spread);
        let (dy, dx) = (download(out, &dy), download(maps, &spread));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert!((dot(&dy, &y) - dot(&dx, &x)).abs() < 1e-12);
    }
}

/// Enlarging equals the definition, value by value, and its transpose is its adjoint; at any ratio from 1 on.
#[test]
fn enlarging_and_its_transpose() {
    for (side, large) in [(1, 1), (1, 5), (2, 4), (3, 3), (3, 8), (4, 12), (5, 7), (7, 14)] {
        let maps = Maps {
            batch: 2,
            channels: 19,
            side,
        };
        let out = Maps { side: large, ..maps };
        let host = normal(maps.len(), 1);
        let x = upload::<f64>(maps, &host);
        let ratio = side as f64 / large as f64;
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
            let value = |plane: &[f64], y: usize, x: usize| {
                if interpolation == Interpolation::Nearest {
                    return plane[y * side / large * side + x * side / large];
                }
                // Tents about the centres of pixels; positions outside are those of the outermost pixels.
                let place = |p: usize| ((p as f64 + 0.5) * ratio - 0.5).clamp(0.0, side as f64 - 1.0);
                let tent = |place: f64, pixel: usize| (1.0 - (place - pixel as f64).abs()).max(0.0);
                let pixels = (0..side).flat_map(|iy| (0..side).map(move |ix| (iy, ix)));
                let terms = pixels.map(|(iy, ix)| tent(place(y), iy) * tent(place(x), ix) * plane[iy * side + ix]);
                terms.sum::<f64>()
            };
            for accumulate in [false, true] {
                let mut y = upload::<f64>(out, &vec![7.0; out.len()]);
                Cpu.upsample(maps, (large, interpolation), &x, &mut y, accumulate);
                let y = download(out, &y);
                let start = if accumulate { 7.0 } else { 0.0 };
                for (plane, y) in host.chunks(maps.plane()).zip(y.chunks(out.plane())) {
                    for (position, y) in y.iter().enumerate() {
                        let expected = start + value(plane, position / large, position % large);
                        assert!((y - expected).abs() < 1e-12, "{interpolation:?} from {side} to {large}");
                    }
                }
                let dy = normal(out.len(), 2);
                let mut dx = upload::<f64>(maps, &vec![7.0; maps.len()]);
                let uploaded = upload::<f64>(out, &dy);
                Cpu.upsample_transpose(maps, (large, interpolation), &uploaded, &mut dx, accumulate);
                let dx = download(maps, &dx);
                let dot =
                    |a: &[f64], b: &[f64], start: f64| -> f64 { a.iter().zip(b).map(|(a, b)| a * (b - start)).sum() };
                let (left, right) = (dot(&dy, &y, start), dot(&host, &dx, start));
                assert!(
                    (left - right).abs() < 1e-9,
                    "{interpolation:?} from {side} to {large}: {left} {right}"
                );
            }
        }
    }
}

/// A whole step of an area equals its parts: the sum of convolutions, phi, and the leaky update. Then one step back:
/// delta = alpha phi'(u) g for the sign that u had, and g shrinks.
fn check_step<T: Real>(side: usize, stride: usize, phi: Phi, tolerance: f64) {
    let what = format!("{phi:?}, side {side}, stride {stride}");
    let (inputs, outputs, batch, alpha) = (5, 19, 3, 0.2);
    let shape = |inputs, stride, in_side| ConvShape {
        inputs,
        outputs,
        kernel: 3,
        stride,
        padding: 1,
        in_side,
    };
    let (recurrent, feedforward) = (shape(outputs, 1, side), shape(inputs, stride, side * stride));
    let maps = recurrent.out_maps(batch);
    let from = feedforward.in_maps(batch);
    let weights = [recurrent, feedforward].map(|shape| normal(shape.outputs * shape.patch(), 1));
    let (r, x, current) = (normal(maps.len(), 2), normal(from.len(), 3), normal(maps.len(), 4));
    let r: Vec<f64> = r.into_iter().map(f64::abs).collect();
    let mut u = current.clone();
    products(recurrent, batch, |w, o, i| u[o] += weights[0][w] * r[i]);
    products(feedforward, batch, |w, o, i| u[o] += weights[1][w] * x[i]);
    let filters = [(recurrent, &weights[0]), (feedforward, &weights[1])].map(|(shape, weight)| {
        let weight: Vec<T> = weight.iter().map(|v| T::from_f64(*v)).collect();
        Device::<T>::filter(&Cpu, shape, &Cpu.upload(&weight))
    });
    let (r_maps, x_maps, current_maps) = (upload(maps, &r), upload(from, &x), upload(maps, &current));
    let mut next: Buffer<T> = Cpu.zeros_maps(maps);
    let mut work = <Cpu as Device<T>>::Workspace::default();
    let terms = [(&filters[0], &r_maps), (&filters[1], &x_maps)];
    let step = Relaxation {
        alpha,
        phi,
        offset: &current_maps,
        x: &r_maps,
        y: &mut next,
    };
    Cpu.relax(&mut work, &terms, batch, step);
    let value = |u: f64| if u > 0.0 { u } else { phi.slope() * u };
    let expected: Vec<f64> = r
        .iter()
        .zip(&u)
        .map(|(r, u)| (1.0 - alpha) * r + alpha * value(*u))
        .collect();
    assert_close(&what, &download(maps, &next), &expected, tolerance);

    let ones = upload(maps, &vec![1.0; maps.len()]);
    let mut g: Buffer<T> = Cpu.duplicate(&ones);
    let (mut delta, mut sum): (Buffer<T>, Buffer<T>) = (Cpu.zeros_maps(maps), Cpu.duplicate(&ones));
    Cpu.relax_adjoint((alpha, phi), &r_maps, &next, &mut g, &mut delta, &mut sum);
    let (g, delta, sum) = (download(maps, &g), download(maps, &delta), download(maps, &sum));
    for (index, u) in u.iter().enumerate() {
        // The sign of a current within rounding of zero may be lost.
        if u.abs() < 1e-4 {
            continue;
        }
        let slope = if *u > 0.0 { 1.0 } else { phi.slope() };
        assert_eq!(delta[index], T::from_f64(alpha * slope), "{what}: u = {u}");
        assert_eq!(sum[index], T::ONE + delta[index], "{what}: sum");
        assert_eq!(g[index], T::from_f64(1.0 - alpha), "{what}: g");
    }
}

#[test]
fn a_step_equals_its_parts_and_its_sign_is_recovered() {
    for phi in [Phi::Relu, Phi::LeakyRelu(0.3), Phi::Identity] {
        for (side, stride) in [(1, 1), (2, 2), (3, 1), (6, 2), (9, 1), (13, 1)] {
            // 24 x 9 products to a sum, as in `convolutions_equal_the_direct_loop`.
            check_step::<f64>(side, stride, phi, 1e-12);
            check_step::<f32>(side, stride, phi, 2e-5);
        }
    }
}
