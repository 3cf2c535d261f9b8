//! Loss and gradient of one batch of the CNN twin: chunks of images side by side, batch norm over all of them.

use super::rollout::{keep_largest, keep_largest_of_all, right};
use super::{Batch, TrainError};
use crate::device::{self, ConvShape, Device, Target};
use crate::net::{
    CnnChunk, CnnGraph, ConvInput, Graph, INPUT, NORM_EPSILON, Parameters, Running, Statistics, TwinArea, Way, Weights,
    cnn_others, running_from,
};
use crate::{Real, Tensor};

/// Share of a new batch in the running statistics (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Loss of one batch of the CNN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CnnLoss {
    /// Cross-entropy in nats, mean over the batch.
    pub loss: f64,
    /// Shares of the answers in the images' targets, summed: the number of images that are classified rightly, where
    /// none is mixed.
    pub right: f64,
    /// Area with the largest activity, and that activity.
    pub largest: (usize, f64),
}

/// Memory and results of the backward pass of one chunk.
struct Backward<'a, T: Real, D: Device<T>> {
    chunk: &'a mut CnnChunk<T, D>,
    targets: &'a [Target],
    losses: Vec<f64>,
    /// dL/dr of every area, on the device.
    activity: Vec<D::Buffer>,
    dinp: D::Buffer,
    /// Gradient at the output of the convolution being passed, then at its input.
    flow: D::Buffer,
    /// Gradient of the sum of sources of the area being passed.
    source: D::Buffer,
    sums: Vec<[f64; 2]>,
    weights: Vec<D::Buffer>,
    readout_bias: D::Buffer,
}

/// What a training-mode pass gives.
pub(crate) struct CnnBatch<B> {
    pub(crate) loss: CnnLoss,
    /// Gradients of effective weights, in the fixed order.
    pub(crate) weights: Vec<B>,
    /// Gradients of the other parameters, in the order of `cnn_others`.
    pub(crate) others: Vec<B>,
    /// What each batch norm used, in the fixed order.
    pub(crate) statistics: Vec<Statistics>,
}

/// Training-mode pass over one batch of `whole` images; images and targets are this device's part of it. `logits`
/// receives those of the part, `[batch, classes]`.
pub(crate) fn cnn_batch<T: Real, D: Device<T>>(
    graph: &CnnGraph<T, D>,
    (Batch { images, targets }, whole): (Batch<'_, T>, usize),
    logits: &mut Vec<T>,
) -> CnnBatch<D::Buffer> {
    let device = &graph.device;
    let architecture = &graph.architecture;
    let (areas, classes) = (architecture.areas(), architecture.classes());
    let size = device.group_images();
    let image_len = architecture.image_len();
    let mut chunks: Vec<CnnChunk<T, D>> = images
        .chunks(size * image_len)
        .map(|images| graph.chunk(images, images.len() / image_len))
        .collect();
    let statistics = graph.forward(&mut chunks, true);
    logits.clear();
    for chunk in &chunks {
        let first = logits.len();
        logits.resize(first + chunk.batch * classes, T::ZERO);
        let maps = architecture.logit_maps(chunk.batch);
        device.download_maps(maps, &chunk.logits, &mut logits[first..]);
    }
    let mut reductions = D::Reductions::default();
    for activity in chunks.iter().flat_map(|chunk| &chunk.activity) {
        device.max_abs(activity, &mut reductions);
    }
    let mut largest = (0, 0.0f64);
    for (index, magnitudes) in device.read(&mut reductions).iter().enumerate() {
        keep_largest(&mut largest, (index % areas, device::largest(magnitudes)));
    }
    let mut passes: Vec<Backward<'_, T, D>> = chunks
        .iter_mut()
        .zip(targets.chunks(size))
        .map(|(chunk, targets)| Backward {
            targets,
            losses: Vec::new(),
            activity: (0..areas)
                .map(|area| device.zeros_maps(graph.maps(area, chunk.batch)))
                .collect(),
            dinp: device.zeros_maps(architecture.inp_maps(chunk.batch)),
            flow: device.zeros(0),
            source: device.zeros(0),
            sums: Vec::new(),
            weights: zero_weights(graph),
            readout_bias: device.zeros(classes),
            chunk,
        })
        .collect();
    let norms = backward(graph, &mut passes, &statistics, whole);
    let losses = passes.iter().flat_map(|pass| &pass.losses);
    let mut numbers = [losses.sum::<f64>(), right(logits.chunks_exact(classes), targets)];
    let mut passes = passes.into_iter();
    let (mut weights, mut readout_bias) = match passes.next() {
        Some(pass) => (pass.weights, pass.readout_bias),
        None => (zero_weights(graph), device.zeros(classes)),
    };
    for pass in passes {
        for (sum, part) in weights.iter_mut().zip(&pass.weights) {
            device.add(part, sum);
        }
        device.add(&pass.readout_bias, &mut readout_bias);
    }
    // Those of batch norms are of the whole batch already.
    let mut sums: Vec<&mut D::Buffer> = weights.iter_mut().chain([&mut readout_bias]).collect();
    device.sum_over_peers(&mut sums, &mut numbers);
    keep_largest_of_all(device, &mut largest);
    let loss = CnnLoss {
        loss: numbers[0] / whole as f64,
        right: numbers[1],
        largest,
    };
    let upload = |values: &Vec<f64>| device.upload(&values.iter().map(|v| T::from_f64(*v)).collect::<Vec<_>>());
    let mut others: Vec<D::Buffer> = norms.iter().flatten().map(upload).collect();
    others.push(readout_bias);
    CnnBatch {
        loss,
        weights,
        others,
        statistics,
    }
}

/// Gradients of effective weights to which nothing has been added.
fn zero_weights<T: Real, D: Device<T>>(graph: &CnnGraph<T, D>) -> Vec<D::Buffer> {
    let shapes = graph.architecture.conv_shapes();
    let zeros = shapes
        .iter()
        .map(|shape| graph.device.zeros(shape.outputs * shape.patch()));
    zeros.collect()
}

/// Gradients of weight and bias of every batch norm, in the fixed order; the rest is left in the passes.
fn backward<T: Real, D: Device<T>>(
    graph: &CnnGraph<T, D>,
    passes: &mut [Backward<'_, T, D>],
    statistics: &[Statistics],
    whole: usize,
) -> Vec<[Vec<f64>; 2]> {
    let device = &graph.device;
    let mut norms: Vec<Option<[Vec<f64>; 2]>> = vec![None; statistics.len()];
    let mut normalise = |conv: usize, passes: &mut [Backward<'_, T, D>]| {
        norms[conv] = Some(norm_backward(graph, conv, passes, &statistics[conv]));
    };
    device.for_each(passes, |_, pass| readout_backward(graph, pass, whole));
    for TwinArea { area, inlet, recurrent } in graph.areas().into_iter().rev() {
        device.for_each(passes, |_, pass| {
            pass.flow = device.duplicate(&pass.activity[area]);
            device.clear_where_not_positive(&pass.chunk.activity[area], &mut pass.flow);
        });
        normalise(recurrent, passes);
        device.for_each(passes, |_, pass| {
            conv_backward(graph, pass, recurrent, ConvInput::Normed(inlet.conv));
        });
        normalise(inlet.conv, passes);
        device.for_each(passes, |_, pass| {
            conv_backward(graph, pass, inlet.conv, ConvInput::of(area, inlet));
            // Gradient of the sum of sources, which each of them has.
            pass.source = std::mem::replace(&mut pass.flow, device.zeros(0));
        });
        let image = inlet.image.iter().map(|way| (None, *way));
        let areas = inlet.areas.iter().map(|(from, way)| (Some(*from), *way));
        for (from, way) in areas.chain(image) {
            if let Way::Conv(conv) = way {
                device.for_each(passes, |_, pass| pass.flow = device.duplicate(&pass.source));
                if graph.norms[conv].is_some() {
                    normalise(conv, passes);
                }
            }
            device.for_each(passes, |_, pass| {
                let batch = pass.chunk.batch;
                let (maps, input) = match from {
                    None => (graph.architecture.inp_maps(batch), ConvInput::Inp),
                    Some(from) => (graph.maps(from, batch), ConvInput::Activity(from)),
                };
                if let Way::Conv(conv) = way {
                    conv_backward(graph, pass, conv, input);
                }
                let sum = match from {
                    None => &mut pass.dinp,
                    Some(from) => &mut pass.activity[from],
                };
                match way {
                    Way::Direct => device.add(&pass.source, sum),
                    Way::Conv(_) => device.add(&pass.flow, sum),
                    Way::Upsampled(interpolation) => {
                        let enlargement = (inlet.reads.side, interpolation);
                        device.upsample_transpose(maps, enlargement, &pass.source, sum, true);
                    }
                }
            });
        }
    }
    let input = graph.conv(INPUT).shape;
    device.for_each(passes, |_, pass| {
        let maps = input.out_maps(pass.chunk.batch);
        pass.flow = device.zeros_maps(maps);
        device.avg_pool_transpose(maps, &pass.dinp, &mut pass.flow);
    });
    normalise(INPUT, passes);
    device.for_each(passes, |_, pass| {
        let chunk = &mut *pass.chunk;
        let dw = &mut pass.weights[INPUT];
        weight_gradient(
            device,
            &mut chunk.work,
            input,
            chunk.batch,
            (&chunk.images, &pass.flow),
            dw,
        );
    });
    norms.into_iter().flatten().collect()
}

fn readout_backward<T: Real, D: Device<T>>(graph: &CnnGraph<T, D>, pass: &mut Backward<'_, T, D>, whole: usize) {
    let device = &graph.device;
    let readout = graph.architecture.readout_conv();
    let shape = graph.conv(readout).shape;
    let chunk = &mut *pass.chunk;
    let logit_maps = shape.out_maps(chunk.batch);
    let mut dlogits = device.zeros_maps(logit_maps);
    let mut reductions = D::Reductions::default();
    let mut targets = device.zeros(0);
    device.upload_targets(pass.targets, &mut targets);
    device.cross_entropy(
        shape.outputs,
        &chunk.logits,
        &targets,
        1.0 / whole as f64,
        &mut dlogits,
        &mut reductions,
    );
    pass.losses = device.read(&mut reductions).concat();
    device.add_batch_sum(logit_maps, &dlogits, &mut pass.readout_bias);
    let dw = &mut pass.weights[readout];
    weight_gradient(
        device,
        &mut chunk.work,
        shape,
        chunk.batch,
        (&chunk.pooled, &dlogits),
        dw,
    );
    let mut dpooled = device.zeros_maps(shape.in_maps(chunk.batch));
    let filter = graph.filter(readout);
    device.conv_transpose(&mut chunk.work, filter, chunk.batch, &dlogits, &mut dpooled, false);
    for area in graph.architecture.readout().iter().copied() {
        let maps = graph.maps(area, chunk.batch);
        device.add_unpooled(maps, &dpooled, &chunk.activity[area], true, &mut pass.activity[area]);
    }
}

/// dw += gradient of `<dy, conv(x)>`.
fn weight_gradient<T: Real, D: Device<T>>(
    device: &D,
    work: &mut D::Workspace,
    shape: ConvShape,
    batch: usize,
    (x, dy): (&D::Buffer, &D::Buffer),
    dw: &mut D::Buffer,
) {
    let mut sum = device.weight_sum(shape);
    device.add_weight_gradient(work, &mut sum, batch, x, dy);
    device.finish_weight_gradient(&mut sum, dw);
}

/// Weight gradient of one convolution; `flow` goes from its output to its input.
fn conv_backward<T: Real, D: Device<T>>(
    graph: &CnnGraph<T, D>,
    pass: &mut Backward<'_, T, D>,
    conv: usize,
    input: ConvInput,
) {
    let device = &graph.device;
    let shape = graph.conv(conv).shape;
    let chunk = &mut *pass.chunk;
    let mut work = std::mem::take(&mut chunk.work);
    let dw = &mut pass.weights[conv];
    weight_gradient(
        device,
        &mut work,
        shape,
        chunk.batch,
        (chunk.input(input), &pass.flow),
        dw,
    );
    chunk.work = work;
    let mut dx = device.zeros_maps(shape.in_maps(chunk.batch));
    device.conv_transpose(
        &mut chunk.work,
        graph.filter(conv),
        chunk.batch,
        &pass.flow,
        &mut dx,
        false,
    );
    pass.flow = dx;
}

/// `flow` from the output of a batch norm to its input; returns the gradients of its weight and bias.
///
/// With n values a channel, s = 1/sqrt(variance + epsilon) and y = weight (x - mean) s + bias:
/// dbias = sum dy, dweight = s sum dy (x - mean), dx = weight s (dy - dbias/n - (x - mean) s dweight/n).
fn norm_backward<T: Real, D: Device<T>>(
    graph: &CnnGraph<T, D>,
    index: usize,
    passes: &mut [Backward<'_, T, D>],
    statistics: &Statistics,
) -> [Vec<f64>; 2] {
    let device = &graph.device;
    let maps = graph.conv(index).shape.out_maps(1);
    device.for_each(passes, |_, pass| {
        let maps = maps.with_batch(pass.chunk.batch);
        pass.sums = device.channel_gradient_sums(maps, &statistics.mean, &pass.chunk.convolved[index], &pass.flow);
    });
    let mut sums = vec![[0.0; 2]; maps.channels];
    for pass in passes.iter() {
        for (sum, part) in sums.iter_mut().zip(&pass.sums) {
            sum[0] += part[0];
            sum[1] += part[1];
        }
    }
    device.sum_over_peers(&mut [], sums.as_flattened_mut());
    let norm = graph.norms[index]
        .as_ref()
        .expect("only convolutions that have a batch norm are normalised");
    let count = statistics.count as f64;
    let mut dweight = Vec::with_capacity(sums.len());
    let mut dbias = Vec::with_capacity(sums.len());
    let mut coefficients = Vec::with_capacity(sums.len());
    for (channel, [sum, centred]) in sums.into_iter().enumerate() {
        let inverse = 1.0 / (statistics.variance[channel] + NORM_EPSILON).sqrt();
        let scale = norm.weight[channel] * inverse;
        dbias.push(sum);
        dweight.push(inverse * centred);
        let along = -scale * inverse * inverse * centred / count;
        coefficients.push([statistics.mean[channel], scale, along, -scale * sum / count]);
    }
    device.for_each(passes, |_, pass| {
        let maps = maps.with_batch(pass.chunk.batch);
        device.channel_combine(maps, &coefficients, &pass.chunk.convolved[index], &mut pass.flow);
    });
    [dweight, dbias]
}

/// Moves running statistics towards a batch's; the variance with Bessel's correction, as PyTorch keeps it.
pub(crate) fn update_running(running: &mut [Option<Running>], statistics: &[Statistics]) {
    for (running, statistics) in running.iter_mut().zip(statistics) {
        let Some(running) = running else { continue };
        let count = statistics.count as f64;
        let bessel = if statistics.count > 1 {
            count / (count - 1.0)
        } else {
            1.0
        };
        for (held, new) in running.mean.iter_mut().zip(&statistics.mean) {
            *held += MOMENTUM * (new - *held);
        }
        for (held, new) in running.variance.iter_mut().zip(&statistics.variance) {
            *held += MOMENTUM * (bessel * new - *held);
        }
    }
}

/// Writes running statistics into `parameters`.
pub(crate) fn write_running<T: Real>(
    architecture: &Graph,
    running: &[Option<Running>],
    parameters: &mut Parameters<T>,
) {
    for (conv, running) in architecture.convs().iter().zip(running) {
        let (Some([_, _, mean, variance]), Some(running)) = (conv.norm_names(), running) else {
            continue;
        };
        for (name, values) in [(mean, &running.mean), (variance, &running.variance)] {
            if let Some(tensor) = parameters.get_mut(&name) {
                tensor.data = values.iter().map(|value| T::from_f64(*value)).collect();
            }
        }
    }
}

/// What one training-mode batch of the CNN gives.
#[derive(Clone, Debug)]
pub struct CnnGradient<T> {
    /// Mean cross-entropy and what goes with it.
    pub loss: CnnLoss,
    /// Logits of the training-mode pass, `[batch, classes]`.
    pub logits: Vec<T>,
    /// Gradients under the parameters' names (none for running statistics).
    pub gradients: Parameters<T>,
    /// The parameters with the running statistics after this batch.
    pub parameters: Parameters<T>,
}

/// Loss and gradient of one training-mode batch.
///
/// # Errors
/// [`TrainError::Net`] where the network's parts do not fit together, [`TrainError::Setting`] where the number of
/// images is out of range, [`TrainError::Label`] where a label is no class, [`TrainError::Device`] where the device
/// fails.
pub fn cnn_gradient<T: Real, D: Device<T>>(
    device: &D,
    architecture: &Graph,
    parameters: &Parameters<T>,
    batch: Batch<'_, T>,
) -> Result<CnnGradient<T>, TrainError> {
    architecture.twin()?;
    super::gradient::check_batch(architecture, batch)?;
    let mut parameters = parameters.arranged(&architecture.cnn_shapes())?;
    let weights = Weights::<T, D>::upload(device, architecture, &parameters, cnn_others(architecture));
    let mut running = running_from(architecture, &parameters);
    let graph = CnnGraph::new(device, architecture, &weights, &running);
    let mut logits = Vec::new();
    let pass = cnn_batch(&graph, (batch, batch.targets.len()), &mut logits);
    update_running(&mut running, &pass.statistics);
    write_running(architecture, &running, &mut parameters);
    let buffers = weights.gradients(device, &pass.weights, &pass.others);
    let mut gradients = Parameters::new();
    for (name, data) in weights.names.iter().zip(buffers) {
        let shape = parameters
            .get(name)
            .map(|tensor| tensor.shape.clone())
            .unwrap_or_default();
        let data = device.download(&data);
        gradients.insert(name.as_str(), Tensor { shape, data });
    }
    device.check()?;
    Ok(CnnGradient {
        loss: pass.loss,
        logits,
        gradients,
        parameters,
    })
}
