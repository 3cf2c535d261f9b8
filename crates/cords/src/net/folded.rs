//! The CNN twin after its batch norms were folded into weights and biases: what the later phases of training start
//! from.
//!
//! Per area `r = ReLU(area_conv(area_area(x) + area_bias) + conv_bias)`, both biases per unit; sources and readout are
//! the CNN's, and so are the outputs in evaluation mode. Nothing here trains.

use super::connections::pool_readout;
use super::filters::Weights;
use super::graph::{INPUT, TwinArea, Way};
use super::parameters::{READOUT_BIAS, bias_name};
use super::{Graph, Parameters};
use crate::Real;
use crate::device::{Device, Maps};

/// Name of the bias per unit that follows an area's feed-forward convolution.
pub(crate) fn area_bias_name(area: usize) -> String {
    format!("area_bias.{area}")
}

impl Graph {
    /// Names and shapes of a folded CNN's parameters: a CordsNet's, and `area_bias.l` for every area.
    pub fn folded_cnn_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = self.cordsnet_shapes();
        shapes.truncate(shapes.len() - self.area_parameters().count());
        shapes.extend(self.bias_shapes(area_bias_name));
        shapes
    }
}

impl<T: Real> Parameters<T> {
    /// Whether these are a CNN's with its batch norms folded in.
    pub fn is_folded_cnn(&self) -> bool {
        self.get(&area_bias_name(0)).is_some()
    }

    /// The same tensors in a CNN's order, with batch norms or folded.
    ///
    /// # Errors
    /// As [`arranged`](Self::arranged).
    pub(crate) fn arranged_cnn(&self, architecture: &Graph) -> Result<Self, super::NetError> {
        if self.is_folded_cnn() {
            self.arranged(&architecture.folded_cnn_shapes())
        } else {
            self.arranged(&architecture.cnn_shapes())
        }
    }
}

/// A folded CNN on a device.
pub(crate) struct FoldedGraph<T: Real, D: Device<T>> {
    pub(crate) device: D,
    pub(crate) architecture: Graph,
    filters: Vec<D::Filter>,
    /// area_bias and conv_bias of every area.
    biases: Vec<[D::Buffer; 2]>,
    readout_bias: D::Buffer,
}

/// What a forward pass over one group of images gives.
pub(crate) struct FoldedPass<B> {
    /// Activity of every area, `[batch, channels, side, side]` on the device.
    pub(crate) activity: Vec<B>,
    /// Logits, maps of side 1.
    pub(crate) logits: B,
}

impl<T: Real, D: Device<T>> FoldedGraph<T, D> {
    /// `parameters` must be arranged as [`Graph::folded_cnn_shapes`], and the network must have a twin.
    pub(crate) fn new(device: &D, architecture: &Graph, parameters: &Parameters<T>) -> Self {
        let areas = architecture.areas();
        let others = (0..areas)
            .flat_map(|area| [area_bias_name(area), bias_name(area)])
            .chain([READOUT_BIAS.to_owned()]);
        let weights = Weights::upload(device, architecture, parameters, others.collect());
        let mut biases = weights.others().iter().map(|buffer| device.duplicate(buffer));
        // The order of `others`: two biases an area, then the readout's.
        let mut next = || biases.next().expect("as many buffers as names");
        Self {
            device: device.clone(),
            architecture: architecture.clone(),
            filters: weights.filters(device),
            biases: (0..areas).map(|_| [next(), next()]).collect(),
            readout_bias: next(),
        }
    }

    /// Maps of an area for `batch` images.
    pub(crate) fn maps(&self, area: usize, batch: usize) -> Maps {
        self.architecture.maps(area, batch)
    }

    /// Host images `[batch, in_channels, side, side]` on the device.
    pub(crate) fn upload(&self, images: &[T], batch: usize) -> D::Buffer {
        let maps = self.architecture.image_maps(batch);
        let mut uploaded = self.device.zeros_maps(maps);
        self.device.upload_maps(maps, images, &mut uploaded);
        uploaded
    }

    fn conv(&self, work: &mut D::Workspace, conv: usize, batch: usize, x: &D::Buffer) -> D::Buffer {
        let maps = self.architecture.convs()[conv].shape.out_maps(batch);
        let mut y = self.device.zeros_maps(maps);
        self.device.conv(work, &self.filters[conv], batch, x, &mut y, false);
        y
    }

    /// Forward pass of one group of images on the device. `inspect` sees of every area its drive area_area(x), without
    /// bias, and its current area_conv(drive + area_bias) + conv_bias.
    pub(crate) fn forward(
        &self,
        work: &mut D::Workspace,
        images: &D::Buffer,
        batch: usize,
        mut inspect: impl FnMut(&mut D::Workspace, usize, &D::Buffer, &D::Buffer),
    ) -> FoldedPass<D::Buffer> {
        let device = &self.device;
        let architecture = &self.architecture;
        let convolved = self.conv(work, INPUT, batch, images);
        let mut inp = device.zeros_maps(architecture.inp_maps(batch));
        device.avg_pool(architecture.convs()[INPUT].shape.out_maps(batch), &convolved, &mut inp);
        let mut activity: Vec<D::Buffer> = (0..architecture.areas()).map(|_| device.zeros(0)).collect();
        for TwinArea { area, inlet, recurrent } in architecture.twin().expect("checked when the network was made") {
            let image = inlet.image.iter().map(|way| (*way, architecture.inp_maps(batch), &inp));
            let areas = inlet
                .areas
                .iter()
                .map(|(from, way)| (*way, self.maps(*from, batch), &activity[*from]));
            let mut sum: Option<D::Buffer> = None;
            for (way, maps, from) in image.chain(areas) {
                let source = match way {
                    Way::Direct => None,
                    Way::Conv(conv) => Some(self.conv(work, conv, batch, from)),
                    Way::Upsampled(interpolation) => {
                        let mut large = device.zeros_maps(inlet.reads.with_batch(batch));
                        device.upsample(maps, (inlet.reads.side, interpolation), from, &mut large, false);
                        Some(large)
                    }
                };
                match &mut sum {
                    Some(sum) => device.add(source.as_ref().unwrap_or(from), sum),
                    None => sum = Some(source.unwrap_or_else(|| device.duplicate(from))),
                }
            }
            let source = sum.expect("every projection has sources");
            let drive = self.conv(work, inlet.conv, batch, &source);
            let current = current(
                device,
                work,
                &self.filters[recurrent],
                self.maps(area, batch),
                [&self.biases[area][0], &self.biases[area][1]],
                &drive,
            );
            inspect(work, area, &drive, &current);
            activity[area] = device.zeros_maps(self.maps(area, batch));
            device.rectify(&current, &mut activity[area]);
        }
        let mut pooled = device.zeros_maps(architecture.pooled_maps(batch));
        pool_readout(device, architecture, batch, &activity, &mut pooled);
        let mut logits = device.zeros_maps(architecture.logit_maps(batch));
        device.broadcast_parameter(architecture.logit_maps(batch), &self.readout_bias, &mut logits);
        let filter = &self.filters[architecture.readout_conv()];
        device.conv(work, filter, batch, &pooled, &mut logits, true);
        FoldedPass { activity, logits }
    }
}

/// area_conv(drive + area_bias) + conv_bias for a group of images; `biases` are the two, per unit.
pub(crate) fn current<T: Real, D: Device<T>>(
    device: &D,
    work: &mut D::Workspace,
    area_conv: &D::Filter,
    maps: Maps,
    biases: [&D::Buffer; 2],
    drive: &D::Buffer,
) -> D::Buffer {
    let mut biased = device.zeros_maps(maps);
    device.broadcast_parameter(maps, biases[0], &mut biased);
    device.add(drive, &mut biased);
    let mut current = device.zeros_maps(maps);
    device.broadcast_parameter(maps, biases[1], &mut current);
    device.conv(work, area_conv, maps.batch, &biased, &mut current, true);
    current
}
