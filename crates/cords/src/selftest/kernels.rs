//! Every kernel on random values of odd shapes.

use super::{Finding, error};
use crate::Real;
use crate::device::{
    AdamStep, Adjoint, ConvShape, Cpu, Device, DeviceError, Interpolation, Maps, NormalNoise, PackedMaps, Phi,
    Relaxation, Target, largest,
};
use crate::rng::{Purpose, Stream};

/// Results of a device's kernels, with what they may be off.
struct Probe {
    name: String,
    values: Vec<f64>,
    bound: f64,
}

/// Half a unit in the last place of float32.
const UNIT: f64 = 6e-8;

/// Every kernel on random values, held against float64.
///
/// A value that is a function of few others may be off by some roundings, a sum of K products by 20 sqrt(K) of them,
/// which is ample for errors that are independent. `product_rounding` is what a factor of a convolution is rounded by:
/// 6e-8 for float32, more for reduced precision.
///
/// # Errors
/// [`DeviceError`] where the device fails.
pub fn kernels<D: Device<f32>>(device: &D, product_rounding: f64) -> Result<Vec<Finding>, DeviceError> {
    let found = probes::<f32, D>(device, product_rounding);
    device.check()?;
    let expected = probes::<f64, Cpu>(&Cpu, product_rounding);
    Ok(found.into_iter().zip(expected).map(finding).collect())
}

fn finding((found, expected): (Probe, Probe)) -> Finding {
    Finding {
        name: found.name,
        error: error(&found.values, &expected.values),
        bound: found.bound,
    }
}

/// Normal values that float32 holds exactly.
fn normal<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let mut stream = Stream::new(seed, Purpose::Probe, 0, 0, 0, 0);
    (0..n).map(|_| T::from_f64(f64::from(stream.normal() as f32))).collect()
}

struct Prober<'a, T: Real, D: Device<T>> {
    device: &'a D,
    probes: Vec<Probe>,
    scalar: std::marker::PhantomData<T>,
}

impl<T: Real, D: Device<T>> Prober<'_, T, D> {
    fn maps(&self, maps: Maps, seed: u64) -> D::Buffer {
        let mut buffer = self.device.zeros_maps(maps);
        self.device
            .upload_maps(maps, &normal::<T>(maps.len(), seed), &mut buffer);
        buffer
    }

    /// The same in the form in which convolutions read them.
    fn operand(&self, maps: Maps, seed: u64) -> D::Buffer {
        let mut buffer = self.device.zeros_operand(maps);
        self.device
            .upload_maps(maps, &normal::<T>(maps.len(), seed), &mut buffer);
        buffer
    }

    fn parameter(&self, len: usize, seed: u64) -> D::Buffer {
        self.device.upload(&normal::<T>(len, seed))
    }

    fn note(&mut self, name: &str, values: Vec<f64>, bound: f64) {
        let name = name.to_owned();
        self.probes.push(Probe { name, values, bound });
    }

    fn note_maps(&mut self, name: &str, maps: Maps, buffer: &D::Buffer, bound: f64) {
        let mut host = vec![T::ZERO; maps.len()];
        self.device.download_maps(maps, buffer, &mut host);
        self.note(name, host.into_iter().map(T::to_f64).collect(), bound);
    }

    fn note_parameter(&mut self, name: &str, buffer: &D::Buffer, bound: f64) {
        let host = self.device.download(buffer);
        self.note(name, host.into_iter().map(T::to_f64).collect(), bound);
    }
}

fn probes<T: Real, D: Device<T>>(device: &D, product_rounding: f64) -> Vec<Probe> {
    let mut prober = Prober {
        device,
        probes: Vec::new(),
        scalar: std::marker::PhantomData,
    };
    // The last has more values than a device may take a sum of in one go.
    for (channels, side, batch) in [(5, 7, 3), (64, 9, 2), (40, 1, 2), (8, 65, 1)] {
        let maps = Maps { batch, channels, side };
        values(&mut prober, maps);
        steps(&mut prober, maps);
        operands(&mut prober, maps, product_rounding);
        images(&mut prober, maps);
    }
    for classes in [2, 37] {
        readout(&mut prober, classes);
    }
    parameters(&mut prober);
    for [inputs, outputs, kernel, stride, padding, in_side, batch] in [
        [3, 5, 3, 1, 1, 1, 1],
        [7, 9, 3, 1, 1, 5, 2],
        [32, 48, 3, 1, 1, 14, 3],
        [3, 16, 7, 2, 3, 33, 2],
        [9, 5, 1, 2, 0, 7, 3],
        [16, 32, 1, 2, 0, 8, 2],
        [5, 7, 3, 2, 1, 8, 3],
        [24, 40, 3, 2, 1, 7, 2],
        [64, 10, 1, 1, 0, 1, 4],
        // So many positions that a sum of weight gradients is taken in two goes, and in three.
        [8, 16, 3, 1, 1, 20, 4],
        [8, 16, 3, 1, 1, 40, 4],
    ] {
        let shape = ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            in_side,
        };
        convolutions(&mut prober, shape, batch, product_rounding);
    }
    prober.probes
}

/// Kernels that treat every value alike, and sums over all of them.
fn values<T: Real, D: Device<T>>(prober: &mut Prober<'_, T, D>, maps: Maps) {
    let device = prober.device;
    let at = format!("{} x {}^2, {} images", maps.channels, maps.side, maps.batch);
    let name = |kernel: &str| format!("{kernel}, {at}");
    let (x, q) = (prober.maps(maps, 1), prober.maps(maps, 2));
    let few = 4.0 * UNIT;
    let changed = |kernel: &str, prober: &mut Prober<'_, T, D>, change: &dyn Fn(&mut D::Buffer)| {
        let mut y = prober.maps(maps, 3);
        change(&mut y);
        prober.note_maps(&name(kernel), maps, &y, few);
    };
    changed("copy", prober, &|y| device.copy(&x, y));
    changed("clear and add", prober, &|y| {
        device.clear(y);
        device.add(&x, y);
    });
    changed("add", prober, &|y| device.add(&x, y));
    changed("add_rectified", prober, &|y| device.add_rectified(&x, y));
    changed("rectify", prober, &|y| device.rectify(&x, y));
    changed("add_where_positive", prober, &|y| device.add_where_positive(&x, &q, y));
    changed("clear_where_not_positive", prober, &|y| {
        device.clear_where_not_positive(&x, y)
    });
    changed("add_scaled", prober, &|y| device.add_scaled(0.7, &x, y));
    changed("add_product", prober, &|y| device.add_product(-0.6, &x, &q, y));
    changed("scale", prober, &|y| device.scale(-1.7, y));
    changed("clamp_unit", prober, &|y| device.clamp_unit(maps, y));
    let images = 0..maps.batch as u64;
    let streams: Vec<Stream> = images
        .map(|image| Stream::new(9, Purpose::NeuralNoise, image, 1, 2, 3))
        .collect();
    for proportional in [false, true] {
        let noise = NormalNoise {
            streams: &streams,
            std: 0.75,
            proportional,
        };
        let kernel = if proportional {
            "add_normal, proportional"
        } else {
            "add_normal"
        };
        changed(kernel, prober, &|y| device.add_normal(maps, noise, &x, y));
    }
    let one = prober.maps(maps.with_batch(1), 4);
    changed("broadcast", prober, &|y| device.broadcast(maps, &one, y));
    let parameter = prober.parameter(maps.channels * maps.plane(), 5);
    changed("broadcast_parameter", prober, &|y| {
        device.broadcast_parameter(maps, &parameter, y)
    });
    let copy = device.duplicate(&x);
    prober.note_maps(&name("duplicate"), maps, &copy, few);
    let mut sum = prober.parameter(maps.channels * maps.plane(), 6);
    device.add_batch_sum(maps, &x, &mut sum);
    prober.note_parameter(&name("add_batch_sum"), &sum, few);
    let mut dot = prober.parameter(1, 9);
    device.add_dot(&mut D::Workspace::default(), 0.3, &x, &q, &mut dot);
    prober.note_parameter(&name("add_dot"), &dot, 20.0 * UNIT);
    let factors = prober.parameter(maps.channels, 10);
    changed("scale_channels", prober, &|y| device.scale_channels(maps, &factors, y));
    changed("add_scaled_channels", prober, &|y| {
        device.add_scaled_channels(maps, -0.4, &factors, &x, y);
    });
    let mut dots = prober.parameter(maps.channels, 11);
    device.add_channel_dots(&mut D::Workspace::default(), maps, 0.3, [&x, &q], &mut dots);
    prober.note_parameter(&name("add_channel_dots"), &dots, 20.0 * UNIT);
    let mut reductions = D::Reductions::default();
    device.sum_squares(&x, &mut reductions);
    device.max_abs(&x, &mut reductions);
    // A largest magnitude that is not a number stays one.
    let mut host = normal::<T>(maps.len(), 1);
    host[maps.len() / 2] = T::from_f64(f64::NAN);
    let mut broken = device.zeros_maps(maps);
    device.upload_maps(maps, &host, &mut broken);
    device.max_abs(&broken, &mut reductions);
    device.sum_squared_differences(&x, &q, &mut reductions);
    let centre = prober.maps(maps.with_batch(1), 7);
    let mut g = prober.maps(maps, 8);
    device.sum_squared_distances(maps, &x, &centre, &mut reductions);
    device.add_distance_gradient(maps, &x, &centre, 0.3, &mut g);
    prober.note_maps(&name("add_distance_gradient"), maps, &g, few);
    let left = device.read(&mut reductions);
    let sum = |index: usize| vec![left[index].iter().sum()];
    prober.note(&name("sum_squares"), sum(0), few);
    prober.note(&name("max_abs"), vec![largest(&left[1])], few);
    let nan = largest(&left[2]).is_nan();
    prober.note(&name("max_abs of one NaN is NaN"), vec![f64::from(u8::from(nan))], 0.0);
    prober.note(&name("sum_squared_differences"), sum(3), few);
    prober.note(&name("sum_squared_distances"), sum(4), few);
    // More than a device may hold at a time; each in its place.
    for index in 0..1200 {
        match index % 2 {
            0 => device.sum_squares(&x, &mut reductions),
            _ => device.sum_squared_distances(maps, &x, &centre, &mut reductions),
        }
    }
    let many: Vec<f64> = device
        .read(&mut reductions)
        .iter()
        .map(|parts| parts.iter().sum())
        .collect();
    prober.note(&name("1200 sums"), many, few);
}

/// A relaxation's adjoint, from exact and from packed maps.
fn steps<T: Real, D: Device<T>>(prober: &mut Prober<'_, T, D>, maps: Maps) {
    let device = prober.device;
    let shape = ConvShape {
        inputs: maps.channels,
        outputs: maps.channels,
        kernel: 1,
        stride: 1,
        padding: 0,
        in_side: maps.side,
    };
    let few = 8.0 * UNIT;
    for (phi, alpha) in [(Phi::Relu, 0.2), (Phi::LeakyRelu(0.35), 0.7), (Phi::Identity, 1.0)] {
        let name = |kernel: &str| format!("{kernel}, {phi:?}, {} x {}^2", maps.channels, maps.side);
        // A convolution that gives nothing, so that the argument of phi is exact.
        let filter = device.filter(shape, &device.zeros(shape.outputs * shape.patch()));
        let (offset, x) = (prober.maps(maps, 1), prober.maps(maps, 2));
        let mut y = device.zeros_maps(maps);
        let mut work = D::Workspace::default();
        let step = Relaxation {
            alpha,
            phi,
            offset: &offset,
            x: &x,
            y: &mut y,
        };
        device.relax(&mut work, &[(&filter, &x)], maps.batch, step);
        prober.note_maps(&name("relax"), maps, &y, few);
        let mut packed = D::Packed::room(device, maps);
        packed.pack(device, alpha, &x, &y);
        let mut unpacked = device.zeros_maps(maps);
        packed.unpack(device, &mut unpacked);
        // Rounding to eight bits may go another way where float32 was rounded before.
        prober.note_maps(&name("pack and unpack"), maps, &unpacked, 1.0 / 256.0);
        let outputs = |prober: &Prober<'_, T, D>| [3, 4, 5].map(|seed| prober.maps(maps, seed));
        let mut exact = outputs(prober);
        let [g, delta, sum] = &mut exact;
        device.relax_adjoint((alpha, phi), &x, &y, g, delta, sum);
        let mut from_packed = outputs(prober);
        let [g, delta, sum] = &mut from_packed;
        packed.relax_adjoint(device, (alpha, phi), g, delta, sum);
        for (kernel, outputs) in [("relax_adjoint", exact), ("relax_adjoint of packed maps", from_packed)] {
            for (output, part) in outputs.iter().zip(["g", "delta", "sum"]) {
                prober.note_maps(&name(&format!("{kernel}: {part}")), maps, output, few);
            }
        }
    }
}

/// What convolutions read and give: sums of it, and the adjoint of a relaxation that takes it up.
fn operands<T: Real, D: Device<T>>(prober: &mut Prober<'_, T, D>, maps: Maps, product_rounding: f64) {
    let device = prober.device;
    let name = |what: &str| format!("{what}, {} x {}^2, {} images", maps.channels, maps.side, maps.batch);
    // Some factors and their sum are rounded.
    let few = 8.0 * product_rounding;
    let (p, q) = (prober.operand(maps, 1), prober.operand(maps, 2));
    prober.note_maps(&name("values for convolutions"), maps, &p, few);
    let mut y = prober.maps(maps, 3);
    device.add(&p, &mut y);
    prober.note_maps(&name("add of values for convolutions"), maps, &y, few);
    let x = prober.maps(maps, 4);
    device.add_where_positive(&x, &p, &mut y);
    prober.note_maps(&name("add_where_positive of values for convolutions"), maps, &y, few);
    let mut work = D::Workspace::default();
    let mut sum = device.zeros_operand(maps);
    device.rectify(&x, &mut sum);
    prober.note_maps(&name("rectify to values for convolutions"), maps, &sum, few);
    let one = ConvShape {
        inputs: maps.channels,
        outputs: maps.channels,
        kernel: 1,
        stride: 1,
        padding: 0,
        in_side: maps.side,
    };
    let filter = device.filter(one, &prober.parameter(one.outputs * one.patch(), 5));
    let products = 20.0 * (maps.channels as f64).sqrt() * product_rounding;
    for (convolved, rectified) in [(0, 1), (0, 2), (1, 1), (1, 2), (2, 0), (2, 3)] {
        let terms = [(&filter, &p), (&filter, &x)];
        device.sum_rectified(
            &mut work,
            &terms[..convolved],
            &[&x, &q, &p][..rectified],
            maps.batch,
            &mut sum,
        );
        let what = format!("sum of {convolved} convolutions and {rectified} rectified maps");
        prober.note_maps(&name(&what), maps, &sum, products);
    }
    for (phi, parts, earlier, summed) in [
        (Phi::Relu, 0, 0, false),
        (Phi::LeakyRelu(0.3), 1, 0, true),
        (Phi::Relu, 2, 1, true),
        (Phi::Identity, 3, 3, true),
    ] {
        let alpha = 0.3;
        let offset = prober.maps(maps, 6);
        let mut y = device.zeros_relaxed(maps);
        let mut packed = D::Packed::room(device, maps);
        packed.lend(device, &mut y);
        let step = Relaxation {
            alpha,
            phi,
            offset: &offset,
            x: &x,
            y: &mut y,
        };
        device.relax(&mut work, &[], maps.batch, step);
        packed.pack(device, alpha, &x, &y);
        let all = [(&p, false), (&q, true), (&sum, true)];
        let waiting = [&q, &p, &sum];
        for from_packed in [false, true] {
            let (mut g, mut total) = (prober.maps(maps, 7), prober.maps(maps, 8));
            let mut delta = device.zeros_operand(maps);
            let adjoint = Adjoint {
                alpha,
                phi,
                parts: &all[..parts],
                g: &mut g,
                delta: &mut delta,
                earlier: &waiting[..earlier],
                sum: summed.then_some(&mut total),
            };
            match from_packed {
                false => device.gathered_adjoint(&x, &y, adjoint),
                true => packed.gathered_adjoint(device, adjoint),
            }
            let kept = if from_packed { ", packed" } else { "" };
            for (part, output) in [("g", &g), ("delta", &delta), ("sum", &total)] {
                let what = format!("gathered adjoint of {parts} parts, {phi:?}{kept}: {part}");
                prober.note_maps(&name(&what), maps, output, if parts > 2 { products } else { few });
            }
        }
    }
}

/// Pooling and batch norm.
fn images<T: Real, D: Device<T>>(prober: &mut Prober<'_, T, D>, maps: Maps) {
    let device = prober.device;
    let name = |kernel: &str| format!("{kernel}, {} x {}^2, {} images", maps.channels, maps.side, maps.batch);
    let few = 20.0 * UNIT;
    let (x, dy) = (prober.maps(maps, 1), prober.maps(maps, 2));
    let pooled = Maps {
        side: maps.side.div_ceil(2),
        ..maps
    };
    let mut y = prober.maps(pooled, 3);
    device.avg_pool(maps, &x, &mut y);
    prober.note_maps(&name("avg_pool"), pooled, &y, few);
    let mut dx = prober.maps(maps, 4);
    device.avg_pool_transpose(maps, &y, &mut dx);
    prober.note_maps(&name("avg_pool_transpose"), maps, &dx, few);
    let single = Maps { side: 1, ..maps };
    let mut mean = device.zeros_maps(single);
    for (second, accumulate) in [(None, false), (Some(&dy), true), (Some(&dy), false)] {
        device.pool(maps, &x, second, &mut mean, accumulate);
        let both = if second.is_some() { "two" } else { "one" };
        let again = if accumulate { ", added" } else { "" };
        prober.note_maps(&name(&format!("pool of {both}{again}")), single, &mean, few);
    }
    for (side, interpolation) in [1, 2, 3].into_iter().flat_map(|factor| {
        // A whole multiple, and one that is none.
        let side = maps.side * factor + factor / 3;
        [Interpolation::Nearest, Interpolation::Bilinear].map(|interpolation| (side, interpolation))
    }) {
        let large = Maps { side, ..maps };
        for accumulate in [false, true] {
            let again = if accumulate { ", added" } else { "" };
            let name = |kernel: &str| name(&format!("{kernel} to side {side}, {interpolation:?}{again}"));
            let mut y = prober.maps(large, 20);
            device.upsample(maps, (side, interpolation), &x, &mut y, accumulate);
            prober.note_maps(&name("upsample"), large, &y, few);
            let mut dx = prober.maps(maps, 21);
            device.upsample_transpose(maps, (side, interpolation), &y, &mut dx, accumulate);
            prober.note_maps(&name("upsample_transpose"), maps, &dx, few);
        }
    }
    for rectified in [false, true] {
        let mut g = prober.maps(maps, 5);
        device.add_unpooled(maps, &mean, &x, rectified, &mut g);
        prober.note_maps(&name(&format!("add_unpooled, rectified: {rectified}")), maps, &g, few);
    }
    let moments = device.channel_moments(maps, &x);
    prober.note(&name("channel_moments"), moments.concat(), few);
    let host = |seed: u64| normal::<f64>(maps.channels, seed);
    let sums = device.channel_gradient_sums(maps, &host(6), &x, &dy);
    prober.note(&name("channel_gradient_sums"), sums.concat(), few);
    let mut y = device.zeros_maps(maps);
    device.channel_affine(maps, &host(7), &host(8), &x, &mut y);
    prober.note_maps(&name("channel_affine"), maps, &y, few);
    let coefficients: Vec<[f64; 4]> = (0..maps.channels)
        .map(|channel| [9, 10, 11, 12].map(|seed| host(seed)[channel]))
        .collect();
    let mut gradient = device.duplicate(&dy);
    device.channel_combine(maps, &coefficients, &x, &mut gradient);
    prober.note_maps(&name("channel_combine"), maps, &gradient, few);
}

fn readout<T: Real, D: Device<T>>(prober: &mut Prober<'_, T, D>, classes: usize) {
    let device = prober.device;
    let labels: Vec<u32> = (0..6).map(|image| image * 5 % classes as u32).collect();
    let maps = Maps {
        batch: labels.len(),
        channels: classes,
        side: 1,
    };
    let logits = prober.maps(maps, 1);
    for (of, targets) in [
        ("", Target::of(&labels)),
        (" of mixed images", Target::of_mixed(&labels, 0.3)),
    ] {
        let mut dlogits = prober.maps(maps, 2);
        let mut reductions = D::Reductions::default();
        let mut uploaded = device.zeros(0);
        device.upload_targets(&targets, &mut uploaded);
        device.cross_entropy(classes, &logits, &uploaded, 0.25, &mut dlogits, &mut reductions);
        let losses = device.read(&mut reductions).concat();
        prober.note(&format!("cross_entropy{of}, {classes} classes"), losses, 4.0 * UNIT);
        let name = format!("cross_entropy's gradient{of}, {classes} classes");
        prober.note_maps(&name, maps, &dlogits, 4.0 * UNIT);
    }
}

/// Weight norm and optimisers.
fn parameters<T: Real, D: Device<T>>(prober: &mut Prober<'_, T, D>) {
    let device = prober.device;
    let few = 8.0 * UNIT;
    for (rows, patch) in [(1, 1), (7, 45), (33, 64)] {
        let name = |kernel: &str| format!("{kernel}, {rows} x {patch}");
        let (g, v, dw) = (
            prober.parameter(rows, 1),
            prober.parameter(rows * patch, 2),
            prober.parameter(rows * patch, 3),
        );
        let w = device.weight_norm(rows, &g, &v);
        prober.note_parameter(&name("weight_norm"), &w, few);
        // With one value a row, dv is the difference of two equal numbers.
        if patch > 1 {
            let (mut dg, mut dv) = (device.zeros(rows), device.zeros(rows * patch));
            device.weight_norm_adjoint(rows, &g, &v, &dw, &mut dg, &mut dv);
            prober.note_parameter(&name("weight_norm_adjoint: g"), &dg, few);
            prober.note_parameter(&name("weight_norm_adjoint: v"), &dv, 100.0 * UNIT);
        }
    }
    let len = 1001;
    let gradient = prober.parameter(len, 4);
    let (mut velocity, mut parameter) = (prober.parameter(len, 5), prober.parameter(len, 6));
    device.sgd_step(0.1, 0.9, 0.01, &gradient, &mut velocity, &mut parameter);
    prober.note_parameter("sgd_step: velocity", &velocity, few);
    prober.note_parameter("sgd_step: parameter", &parameter, few);
    for decoupled in [false, true] {
        let mut moments = [device.zeros(len), device.zeros(len)];
        let mut parameter = prober.parameter(len, 7);
        for step in 1..=3 {
            let step = AdamStep {
                learning_rate: 0.01,
                betas: [0.9, 0.999],
                epsilon: 1e-8,
                weight_decay: 0.1,
                decoupled,
                step,
            };
            device.adam_step(step, &gradient, &mut moments, &mut parameter);
        }
        for (buffer, part) in moments.iter().chain([&parameter]).zip(["first", "second", "parameter"]) {
            let name = format!("adam_step, decoupled: {decoupled}: {part}");
            prober.note_parameter(&name, buffer, 20.0 * UNIT);
        }
    }
}

/// A convolution, its transpose, and the gradient of its weights over several steps.
fn convolutions<T: Real, D: Device<T>>(
    prober: &mut Prober<'_, T, D>,
    shape: ConvShape,
    batch: usize,
    product_rounding: f64,
) {
    let device = prober.device;
    let (from, to) = (shape.in_maps(batch), shape.out_maps(batch));
    let name = |kernel: &str| {
        format!(
            "{kernel}, {}x{} of stride {}, {} -> {} channels, side {}, {batch} images",
            shape.kernel, shape.kernel, shape.stride, shape.inputs, shape.outputs, shape.in_side
        )
    };
    let bound = |terms: usize| 20.0 * (terms as f64).sqrt() * product_rounding;
    let filter = device.filter(shape, &prober.parameter(shape.outputs * shape.patch(), 1));
    let mut work = D::Workspace::default();
    for accumulate in [false, true] {
        let again = if accumulate { ", added" } else { "" };
        let x = prober.maps(from, 2);
        let mut y = prober.maps(to, 3);
        device.conv(&mut work, &filter, batch, &x, &mut y, accumulate);
        prober.note_maps(&name(&format!("conv{again}")), to, &y, bound(shape.patch()));
        let dy = prober.maps(to, 4);
        let mut dx = prober.maps(from, 5);
        device.conv_transpose(&mut work, &filter, batch, &dy, &mut dx, accumulate);
        let terms = shape.outputs * shape.kernel * shape.kernel;
        prober.note_maps(&name(&format!("conv_transpose{again}")), from, &dx, bound(terms));
    }
    let mut sum = device.weight_sum(shape);
    let mut add = |seed: u64, sum: &mut D::WeightSum| {
        let (x, dy) = (prober.maps(from, seed), prober.maps(to, seed + 10));
        device.add_weight_gradient(&mut work, sum, batch, &x, &dy);
    };
    add(6, &mut sum);
    // What was added before leaves no trace.
    device.clear_weight_sum(&mut sum);
    (7..10).for_each(|seed| add(seed, &mut sum));
    let mut dw = prober.parameter(shape.outputs * shape.patch(), 20);
    device.finish_weight_gradient(&mut sum, &mut dw);
    let terms = 3 * batch * to.plane();
    prober.note_parameter(&name("weight gradient"), &dw, bound(terms));
    // Other weights in the same memory.
    let mut filter = filter;
    device.fill_filter(shape, &mut filter, &prober.parameter(shape.outputs * shape.patch(), 21));
    let x = prober.maps(to, 22);
    let (z, offset) = (prober.maps(from, 23), prober.maps(to, 24));
    let mut y = device.zeros_maps(to);
    let step = Relaxation {
        alpha: 0.2,
        phi: Phi::Relu,
        offset: &offset,
        x: &x,
        y: &mut y,
    };
    // Twice the same term: what the second adds is added.
    device.relax(&mut work, &[(&filter, &z), (&filter, &z)], batch, step);
    prober.note_maps(&name("relax"), to, &y, bound(2 * shape.patch()));
    for terms in [0, 3] {
        let step = Relaxation {
            alpha: 0.2,
            phi: Phi::Relu,
            offset: &offset,
            x: &x,
            y: &mut y,
        };
        device.relax(&mut work, &[(&filter, &z); 3][..terms], batch, step);
        let rounding = bound(terms.max(1) * shape.patch());
        prober.note_maps(&name(&format!("relax with {terms} terms")), to, &y, rounding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::plain::Plain;

    /// A device that has only the primitive operations computes everything else from them.
    #[test]
    fn bodies_of_primitive_operations_equal_the_processors_kernels() {
        let found = probes::<f64, Plain>(&Plain, UNIT);
        let expected = probes::<f64, Cpu>(&Cpu, UNIT);
        assert_eq!(found.len(), expected.len());
        for Finding { name, error, .. } in found.into_iter().zip(expected).map(finding) {
            // What the processor keeps as bfloat16 is kept as it is.
            let bound = if name.starts_with("pack and unpack") {
                1.0 / 256.0
            } else {
                1e-10
            };
            assert!(error <= bound, "{name}: {error}");
        }
    }
}
