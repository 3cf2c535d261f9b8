//! Convolutions of maps `[images, side, side, channels]` with weights `[outputs, kernel, kernel, inputs]`, with sums in
//! double precision.

use rayon::prelude::*;

/// Which of the three a convolution computes from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    /// Outputs from inputs and weights.
    Forward,
    /// The gradient of inputs from that of outputs and weights.
    Inputs,
    /// The gradient of weights from inputs and the gradient of outputs.
    Weights,
}

/// Sizes of a convolution. Pairs are rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) side: [usize; 2],
    pub(crate) out: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) stride: [usize; 2],
}

impl Shape {
    /// Values of inputs, weights and outputs.
    pub(crate) fn lengths(&self) -> [usize; 3] {
        let area = |side: [usize; 2]| side[0] * side[1];
        [
            self.images * area(self.side) * self.inputs,
            self.outputs * area(self.kernel) * self.inputs,
            self.images * area(self.out) * self.outputs,
        ]
    }
}

/// Channels that are computed together, and positions.
const CHANNELS: usize = 8;
const POSITIONS: usize = 4;

/// The sums of one pass. `a` and `b` are: inputs and weights; the gradient of outputs and weights; inputs and the
/// gradient of outputs.
pub(crate) fn convolve(pass: Pass, shape: &Shape, a: &[f32], b: &[f32]) -> Vec<f64> {
    match pass {
        Pass::Forward => correlate(
            &Maps::padded(
                a,
                shape.images,
                shape.side,
                shape.inputs,
                shape.padding,
                [1, 1],
                reach(shape),
            ),
            &Weights::new(shape.outputs, shape.kernel, shape.inputs, |o, ky, kx, i| {
                b[((o * shape.kernel[0] + ky) * shape.kernel[1] + kx) * shape.inputs + i]
            }),
            shape.out,
            shape.stride,
        ),
        Pass::Inputs => {
            // The gradient of outputs, with zeros between its positions, correlated with the weights turned.
            let before = [0, 1].map(|axis| (shape.kernel[axis] - 1).saturating_sub(shape.padding[axis]));
            let sizes = [0, 1].map(|axis| shape.side[axis] + shape.kernel[axis] - 1);
            correlate(
                &Maps::padded(a, shape.images, shape.out, shape.outputs, before, shape.stride, sizes),
                &Weights::new(shape.inputs, shape.kernel, shape.outputs, |i, ky, kx, o| {
                    let (ky, kx) = (shape.kernel[0] - 1 - ky, shape.kernel[1] - 1 - kx);
                    b[((o * shape.kernel[0] + ky) * shape.kernel[1] + kx) * shape.inputs + i]
                }),
                shape.side,
                [1, 1],
            )
        }
        Pass::Weights => weights(shape, a, b),
    }
}

/// Sizes of padded inputs that all outputs read.
fn reach(shape: &Shape) -> [usize; 2] {
    [0, 1].map(|axis| {
        let read = (shape.out[axis] - 1) * shape.stride[axis] + shape.kernel[axis];
        read.max(shape.side[axis] + shape.padding[axis])
    })
}

/// Maps with zeros about them and between their positions.
struct Maps {
    values: Vec<f64>,
    images: usize,
    sizes: [usize; 2],
    channels: usize,
}

impl Maps {
    fn padded(
        values: &[f32],
        images: usize,
        side: [usize; 2],
        channels: usize,
        before: [usize; 2],
        apart: [usize; 2],
        sizes: [usize; 2],
    ) -> Self {
        let mut padded = vec![0.0; images * sizes[0] * sizes[1] * channels];
        padded
            .par_chunks_mut(sizes[0] * sizes[1] * channels)
            .enumerate()
            .for_each(|(image, to)| {
                for (y, x) in (0..side[0]).flat_map(|y| (0..side[1]).map(move |x| (y, x))) {
                    let (row, column) = (before[0] + y * apart[0], before[1] + x * apart[1]);
                    if row < sizes[0] && column < sizes[1] {
                        let from = ((image * side[0] + y) * side[1] + x) * channels;
                        let at = (row * sizes[1] + column) * channels;
                        let from = &values[from..from + channels];
                        to[at..at + channels]
                            .iter_mut()
                            .zip(from)
                            .for_each(|(to, from)| *to = f64::from(*from));
                    }
                }
            });
        Self {
            values: padded,
            images,
            sizes,
            channels,
        }
    }
}

/// Weights `[outputs / 8, kernel, kernel, inputs, 8]`, zeros for outputs that there are not.
struct Weights {
    values: Vec<f64>,
    outputs: usize,
    kernel: [usize; 2],
    inputs: usize,
}

impl Weights {
    fn new(
        outputs: usize,
        kernel: [usize; 2],
        inputs: usize,
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let block = kernel[0] * kernel[1] * inputs * CHANNELS;
        let mut values = vec![0.0; outputs.div_ceil(CHANNELS) * block];
        values.par_iter_mut().enumerate().for_each(|(at, value)| {
            let (output, rest) = (at / block * CHANNELS + at % CHANNELS, at % block / CHANNELS);
            let (input, position) = (rest % inputs, rest / inputs);
            if output < outputs {
                *value = f64::from(weight(output, position / kernel[1], position % kernel[1], input));
            }
        });
        Self {
            values,
            outputs,
            kernel,
            inputs,
        }
    }
}

/// Sums of products over positions of the kernel and input channels.
fn correlate(maps: &Maps, weights: &Weights, out: [usize; 2], stride: [usize; 2]) -> Vec<f64> {
    let row = out[1] * weights.outputs;
    let mut sums = vec![0.0; maps.images * out[0] * row];
    sums.par_chunks_mut(row).enumerate().for_each(|(i, sums)| {
        let (image, y) = (i / out[0], i % out[0]);
        let first = (image * maps.sizes[0] + y * stride[0]) * maps.sizes[1] * maps.channels;
        let line = Line {
            from: &maps.values[first..],
            pitch: maps.sizes[1] * maps.channels,
            weights: &weights.values,
            kernel: weights.kernel,
            inputs: weights.inputs,
            step: stride[1] * maps.channels,
        };
        fast(
            #[inline(always)]
            || line.sums(out[1], weights.outputs, sums),
        );
    });
    sums
}

/// A row of outputs.
struct Line<'a> {
    from: &'a [f64],
    /// Values from a row of inputs to the next, and from an output's first input to the next one's.
    pitch: usize,
    step: usize,
    weights: &'a [f64],
    kernel: [usize; 2],
    inputs: usize,
}

impl Line<'_> {
    #[inline(always)]
    fn sums(&self, out: usize, outputs: usize, sums: &mut [f64]) {
        let run = self.kernel[1] * self.inputs;
        for (block, weights) in self.weights.chunks_exact(self.kernel[0] * run * CHANNELS).enumerate() {
            for x in (0..out).step_by(POSITIONS) {
                // Positions behind the last compute it again.
                let starts: [usize; POSITIONS] = std::array::from_fn(|j| (x + j).min(out - 1) * self.step);
                let mut totals = [[0.0; CHANNELS]; POSITIONS];
                for (ky, weights) in weights.chunks_exact(run * CHANNELS).enumerate() {
                    let rows = starts.map(|start| &self.from[ky * self.pitch + start..][..run]);
                    for (k, weights) in weights.chunks_exact(CHANNELS).enumerate() {
                        for (row, totals) in rows.iter().zip(&mut totals) {
                            let value = row[k];
                            for (total, weight) in totals.iter_mut().zip(weights) {
                                *total += value * *weight;
                            }
                        }
                    }
                }
                let channels = CHANNELS.min(outputs - block * CHANNELS);
                for (j, totals) in totals.iter().enumerate().take(out - x) {
                    let at = (x + j) * outputs + block * CHANNELS;
                    sums[at..at + channels].copy_from_slice(&totals[..channels]);
                }
            }
        }
    }
}

/// Sums of products over images and positions.
fn weights(shape: &Shape, inputs: &[f32], outputs: &[f32]) -> Vec<f64> {
    // Channels of inputs in eights, of outputs in fours.
    let wide = shape.inputs.next_multiple_of(CHANNELS);
    let sizes = reach(shape);
    let inputs: Vec<f32> = inputs
        .chunks_exact(shape.inputs)
        .flat_map(|channels| {
            channels
                .iter()
                .copied()
                .chain(std::iter::repeat_n(0.0, wide - shape.inputs))
        })
        .collect();
    let maps = Maps::padded(&inputs, shape.images, shape.side, wide, shape.padding, [1, 1], sizes);
    let area = shape.kernel[0] * shape.kernel[1];
    let mut sums = vec![0.0; shape.outputs * area * shape.inputs];
    sums.par_chunks_mut(POSITIONS * area * shape.inputs)
        .enumerate()
        .for_each(|(block, sums)| {
            let mut totals = vec![[[0.0; CHANNELS]; POSITIONS]; area * wide / CHANNELS];
            let first = block * POSITIONS;
            let channels = POSITIONS.min(shape.outputs - first);
            let mut gradients = vec![[0.0; POSITIONS]; shape.out[1]];
            for (image, y) in (0..shape.images).flat_map(|image| (0..shape.out[0]).map(move |y| (image, y))) {
                for (x, gradients) in gradients.iter_mut().enumerate() {
                    let at = ((image * shape.out[0] + y) * shape.out[1] + x) * shape.outputs + first;
                    let values = &outputs[at..at + channels];
                    gradients
                        .iter_mut()
                        .zip(values)
                        .for_each(|(to, from)| *to = f64::from(*from));
                }
                for (k, totals) in totals.chunks_exact_mut(wide / CHANNELS).enumerate() {
                    let (ky, kx) = (k / shape.kernel[1], k % shape.kernel[1]);
                    let row = (image * sizes[0] + y * shape.stride[0] + ky) * sizes[1] + kx;
                    let from = &maps.values[row * wide..];
                    fast(
                        #[inline(always)]
                        || add_products(from, shape.stride[1] * wide, &gradients, totals),
                    );
                }
            }
            for (k, totals) in totals.chunks_exact(wide / CHANNELS).enumerate() {
                for (output, input) in (0..channels).flat_map(|o| (0..shape.inputs).map(move |i| (o, i))) {
                    sums[(output * area + k) * shape.inputs + input] =
                        totals[input / CHANNELS][output][input % CHANNELS];
                }
            }
        });
    sums
}

/// Adds products of a row of gradients and a row of inputs, whose positions lie `step` values apart.
#[inline(always)]
fn add_products(
    from: &[f64],
    step: usize,
    gradients: &[[f64; POSITIONS]],
    totals: &mut [[[f64; CHANNELS]; POSITIONS]],
) {
    for (block, total) in totals.iter_mut().enumerate() {
        let mut sums = *total;
        for (x, gradients) in gradients.iter().enumerate() {
            let values = &from[x * step + block * CHANNELS..][..CHANNELS];
            for (gradient, sums) in gradients.iter().zip(&mut sums) {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += gradient * *value;
                }
            }
        }
        *total = sums;
    }
}

/// Does work with the processor's vectors where it has them.
#[inline(always)]
fn fast(work: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_vectors(work: impl FnOnce()) {
            work();
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "the processor was asked")]
            // SAFETY: the processor has both.
            return unsafe { with_vectors(work) };
        }
    }
    work();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pass against its definition, on sizes that do not come in eights.
    #[test]
    fn passes_are_what_they_are_defined_as() {
        for (stride, padding, kernel, side) in [(1, 1, 3, 6), (2, 1, 3, 7), (2, 3, 7, 11), (1, 0, 1, 4), (2, 0, 1, 5)] {
            let out = (side + 2 * padding - kernel) / stride + 1;
            let pair = |n: usize| [n, n];
            let shape = Shape {
                images: 2,
                inputs: 5,
                outputs: 11,
                side: pair(side),
                out: pair(out),
                kernel: pair(kernel),
                padding: pair(padding),
                stride: pair(stride),
            };
            let [inputs, weights, outputs] = shape.lengths().map(|len| {
                let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
                (0..len).map(value).collect::<Vec<f32>>()
            });
            for pass in [Pass::Forward, Pass::Inputs, Pass::Weights] {
                let (a, b) = match pass {
                    Pass::Forward => (&inputs, &weights),
                    Pass::Inputs => (&outputs, &weights),
                    Pass::Weights => (&inputs, &outputs),
                };
                let found = convolve(pass, &shape, a, b);
                let expected = defined(pass, &shape, a, b);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found - expected).abs() < 1e-10,
                        "{pass:?} {shape:?}: {found} {expected}"
                    );
                }
            }
        }
    }

    fn defined(pass: Pass, shape: &Shape, a: &[f32], b: &[f32]) -> Vec<f64> {
        let lengths = shape.lengths();
        let mut sums = vec![
            0.0;
            lengths[match pass {
                Pass::Forward => 2,
                Pass::Inputs => 0,
                Pass::Weights => 1,
            }]
        ];
        let [side, out, kernel] = [shape.side[0], shape.out[0], shape.kernel[0]];
        for (n, oy, ox) in (0..shape.images).flat_map(|n| (0..out * out).map(move |p| (n, p / out, p % out))) {
            for (ky, kx) in (0..kernel * kernel).map(|k| (k / kernel, k % kernel)) {
                let [iy, ix] =
                    [(oy, ky), (ox, kx)].map(|(o, k)| (o * shape.stride[0] + k).wrapping_sub(shape.padding[0]));
                if iy >= side || ix >= side {
                    continue;
                }
                for (o, i) in (0..shape.outputs).flat_map(|o| (0..shape.inputs).map(move |i| (o, i))) {
                    let x = ((n * side + iy) * side + ix) * shape.inputs + i;
                    let w = ((o * kernel + ky) * kernel + kx) * shape.inputs + i;
                    let y = ((n * out + oy) * out + ox) * shape.outputs + o;
                    let (to, a, b) = match pass {
                        Pass::Forward => (y, a[x], b[w]),
                        Pass::Inputs => (x, a[y], b[w]),
                        Pass::Weights => (w, a[x], b[y]),
                    };
                    sums[to] += f64::from(a) * f64::from(b);
                }
            }
        }
        sums
    }
}
