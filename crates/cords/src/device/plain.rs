//! The smallest device, for tests: host values, the primitive operations in plain loops, and nothing else.

use super::{ConvShape, Device, Kept, Maps, Real, Target, largest};

/// A processor without a single fused kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

/// Calls `visit(weight, input, output)` for every product of a convolution: the places of its factors, and of the sum
/// that it belongs to.
fn products(shape: ConvShape, batch: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let ConvShape {
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        in_side,
    } = shape;
    let side = shape.out_side();
    // The padded position lies on the maps.
    let on_maps = |position: usize| (padding..in_side + padding).contains(&position);
    for output in 0..outputs * batch * side * side {
        let (channel, image) = (output / (side * side) % outputs, output / (side * side * outputs));
        for weight in channel * shape.patch()..(channel + 1) * shape.patch() {
            let y = output / side % side * stride + weight / kernel % kernel;
            let x = output % side * stride + weight % kernel;
            if on_maps(y) && on_maps(x) {
                let plane = image * inputs + weight / (kernel * kernel) % inputs;
                let input = (plane * in_side + y - padding) * in_side + x - padding;
                visit(weight, input, output);
            }
        }
    }
}

impl<T: Real> Device<T> for Plain {
    type Buffer = Vec<T>;
    type Filter = (ConvShape, Vec<T>);
    type WeightSum = (ConvShape, Vec<T>);
    type Workspace = ();
    type Reductions = Vec<Vec<f64>>;
    type Capture = ();
    type Packed = Kept<Vec<T>>;

    fn zeros_maps(&self, maps: Maps) -> Vec<T> {
        vec![T::ZERO; maps.len()]
    }

    fn upload(&self, host: &[T]) -> Vec<T> {
        host.to_vec()
    }

    fn download(&self, buffer: &Vec<T>) -> Vec<T> {
        buffer.clone()
    }

    fn upload_maps(&self, _maps: Maps, host: &[T], out: &mut Vec<T>) {
        out.copy_from_slice(host);
    }

    fn download_maps(&self, _maps: Maps, buffer: &Vec<T>, out: &mut [T]) {
        out.copy_from_slice(buffer);
    }

    fn duplicate(&self, buffer: &Vec<T>) -> Vec<T> {
        buffer.clone()
    }

    fn clear(&self, x: &mut Vec<T>) {
        x.fill(T::ZERO);
    }

    fn copy(&self, x: &Vec<T>, y: &mut Vec<T>) {
        y.copy_from_slice(x);
    }

    fn read(&self, reductions: &mut Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        std::mem::take(reductions)
    }

    fn scale(&self, factor: f64, x: &mut Vec<T>) {
        for x in x {
            *x *= T::from_f64(factor);
        }
    }

    fn add_scaled(&self, factor: f64, x: &Vec<T>, y: &mut Vec<T>) {
        for (x, y) in x.iter().zip(y) {
            *y += T::from_f64(factor) * *x;
        }
    }

    fn add_product(&self, factor: f64, x: &Vec<T>, y: &Vec<T>, z: &mut Vec<T>) {
        for ((x, y), z) in x.iter().zip(y).zip(z) {
            *z += T::from_f64(factor) * *x * *y;
        }
    }

    fn add_where_positive(&self, x: &Vec<T>, q: &Vec<T>, y: &mut Vec<T>) {
        for ((x, q), y) in x.iter().zip(q).zip(y) {
            if *x > T::ZERO {
                *y += *q;
            }
        }
    }

    fn add_dot(&self, _work: &mut (), factor: f64, x: &Vec<T>, y: &Vec<T>, sum: &mut Vec<T>) {
        let dot: f64 = x.iter().zip(y).map(|(x, y)| x.to_f64() * y.to_f64()).sum();
        sum[0] += T::from_f64(factor * dot);
    }

    fn sum_squared_differences(&self, x: &Vec<T>, y: &Vec<T>, reductions: &mut Vec<Vec<f64>>) {
        let squares = x.iter().zip(y).map(|(x, y)| (x.to_f64() - y.to_f64()).powi(2));
        reductions.push(vec![squares.sum()]);
    }

    fn max_abs(&self, x: &Vec<T>, reductions: &mut Vec<Vec<f64>>) {
        let magnitudes: Vec<f64> = x.iter().map(|x| x.to_f64().abs()).collect();
        reductions.push(vec![largest(&magnitudes)]);
    }

    fn broadcast(&self, maps: Maps, one: &Vec<T>, out: &mut Vec<T>) {
        out.copy_from_slice(&one.repeat(maps.batch));
    }

    fn add_batch_sum(&self, _maps: Maps, x: &Vec<T>, out: &mut Vec<T>) {
        for image in x.chunks_exact(out.len()) {
            for (x, out) in image.iter().zip(out.iter_mut()) {
                *out += *x;
            }
        }
    }

    fn filter(&self, shape: ConvShape, weight: &Vec<T>) -> (ConvShape, Vec<T>) {
        (shape, weight.clone())
    }

    fn conv(
        &self,
        _work: &mut (),
        (shape, weights): &(ConvShape, Vec<T>),
        batch: usize,
        x: &Vec<T>,
        y: &mut Vec<T>,
        accumulate: bool,
    ) {
        if !accumulate {
            y.fill(T::ZERO);
        }
        products(*shape, batch, |weight, input, output| {
            y[output] += weights[weight] * x[input]
        });
    }

    fn conv_transpose(
        &self,
        _work: &mut (),
        (shape, weights): &(ConvShape, Vec<T>),
        batch: usize,
        dy: &Vec<T>,
        dx: &mut Vec<T>,
        accumulate: bool,
    ) {
        if !accumulate {
            dx.fill(T::ZERO);
        }
        products(*shape, batch, |weight, input, output| {
            dx[input] += weights[weight] * dy[output]
        });
    }

    fn weight_sum(&self, shape: ConvShape) -> (ConvShape, Vec<T>) {
        (shape, vec![T::ZERO; shape.outputs * shape.patch()])
    }

    fn clear_weight_sum(&self, (_, sum): &mut (ConvShape, Vec<T>)) {
        sum.fill(T::ZERO);
    }

    fn add_weight_gradient(
        &self,
        _work: &mut (),
        (shape, sum): &mut (ConvShape, Vec<T>),
        batch: usize,
        x: &Vec<T>,
        dy: &Vec<T>,
    ) {
        products(*shape, batch, |weight, input, output| {
            sum[weight] += dy[output] * x[input]
        });
    }

    fn finish_weight_gradient(&self, (_, sum): &mut (ConvShape, Vec<T>), dw: &mut Vec<T>) {
        for (sum, dw) in sum.iter().zip(dw) {
            *dw += *sum;
        }
    }

    fn cross_entropy(
        &self,
        classes: usize,
        logits: &Vec<T>,
        targets: &Vec<T>,
        scale: f64,
        dlogits: &mut Vec<T>,
        reductions: &mut Vec<Vec<f64>>,
    ) {
        let mut losses = Vec::with_capacity(targets.len() / 3);
        let rows = logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
        for ((logits, dlogits), target) in rows.zip(targets.as_chunks().0) {
            let target = Target::of_numbers(*target);
            let largest = logits.iter().fold(f64::NEG_INFINITY, |most, x| most.max(x.to_f64()));
            let total: f64 = logits.iter().map(|x| (x.to_f64() - largest).exp()).sum();
            for (class, (x, dx)) in logits.iter().zip(dlogits).enumerate() {
                let probability = (x.to_f64() - largest).exp() / total;
                *dx = T::from_f64(scale * (probability - target.share(class)));
            }
            let (weight, [label, partner]) = (f64::from(target.weight), [target.label, target.partner]);
            let [own, other] = [label, partner].map(|class| logits[class as usize].to_f64());
            losses.push(largest + total.ln() - (weight * own + (1.0 - weight) * other));
        }
        reductions.push(losses);
    }
}
