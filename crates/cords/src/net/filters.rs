//! The convolutions of a network in one fixed order, their published names and shapes, and weight normalisation.
//!
//! The readout is a 1x1 convolution of pooled maps of side 1.

use std::marker::PhantomData;

use super::{Architecture, Parameters};
use crate::Real;
use crate::device::{ConvShape, Device};

/// One of a network's convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConvName {
    /// Image to input layer, 7x7 stride 2.
    InpConv,
    /// Input layer to area 1's source, 3x3.
    InpSkip,
    /// Within an area, 3x3.
    Recurrent(usize),
    /// Source to area, 3x3 with the area's stride.
    Feedforward(usize),
    /// Activity of area `area - 2` to the source of an odd area from 3 on, 1x1 stride 2.
    Shortcut(usize),
    /// Pooled activity to classes.
    Readout,
}

/// All convolutions in the fixed order; `ConvName::index` is the place in it.
pub(crate) fn conv_names(architecture: &Architecture) -> Vec<ConvName> {
    let areas = architecture.areas();
    let mut names = vec![ConvName::InpConv, ConvName::InpSkip];
    names.extend((0..areas).map(ConvName::Recurrent));
    names.extend((0..areas).map(ConvName::Feedforward));
    names.extend((3..areas).step_by(2).map(ConvName::Shortcut));
    names.push(ConvName::Readout);
    names
}

/// Shapes of all convolutions in the fixed order.
pub(crate) fn conv_shapes(architecture: &Architecture) -> Vec<ConvShape> {
    conv_names(architecture)
        .into_iter()
        .map(|name| name.shape(architecture))
        .collect()
}

impl ConvName {
    /// Place in the fixed order for a network of `areas` areas.
    pub(crate) fn index(self, areas: usize) -> usize {
        match self {
            Self::InpConv => 0,
            Self::InpSkip => 1,
            Self::Recurrent(area) => 2 + area,
            Self::Feedforward(area) => 2 + areas + area,
            Self::Shortcut(area) => 2 + 2 * areas + (area - 3) / 2,
            Self::Readout => 2 + 2 * areas + (areas - 2) / 2,
        }
    }

    /// Published name of the module.
    pub(crate) fn module(self) -> String {
        match self {
            Self::InpConv => "inp_conv".to_owned(),
            Self::InpSkip => "inp_skip".to_owned(),
            Self::Recurrent(area) => format!("area_conv.{area}"),
            Self::Feedforward(area) => format!("area_area.{area}"),
            Self::Shortcut(area) => format!("skip_area.{}", (area - 3) / 2),
            Self::Readout => "out_fc".to_owned(),
        }
    }

    /// Published name of the batch norm that follows this convolution in the CNN twin.
    pub(crate) fn norm(self) -> Option<String> {
        match self {
            Self::InpConv => Some("inp_norm".to_owned()),
            Self::InpSkip | Self::Readout => None,
            Self::Feedforward(area) => Some(format!("area_norm.{area}")),
            Self::Recurrent(area) => Some(format!("area_nrm2.{area}")),
            Self::Shortcut(area) => Some(format!("skip_norm.{}", (area - 3) / 2)),
        }
    }

    /// Names of g (row lengths) and v (directions).
    pub(crate) fn parameter_names(self) -> [String; 2] {
        let module = self.module();
        [0, 1].map(|part| format!("{module}.parametrizations.weight.original{part}"))
    }

    /// Names and shapes of g and v.
    pub(crate) fn parameter_shapes(self, architecture: &Architecture) -> [(String, Vec<usize>); 2] {
        let shape = self.shape(architecture);
        let [g, v] = self.parameter_names();
        if self == Self::Readout {
            return [(g, vec![shape.outputs, 1]), (v, vec![shape.outputs, shape.inputs])];
        }
        [
            (g, vec![shape.outputs, 1, 1, 1]),
            (v, vec![shape.outputs, shape.inputs, shape.kernel, shape.kernel]),
        ]
    }

    /// Sizes of the convolution.
    pub(crate) fn shape(self, architecture: &Architecture) -> ConvShape {
        let sides = architecture.sides();
        let channels = &architecture.channels;
        let (inputs, outputs, kernel, stride, padding, in_side) = match self {
            Self::InpConv => (architecture.in_channels, channels[0], 7, 2, 3, architecture.image_side),
            Self::InpSkip => (channels[0], channels[0], 3, 1, 1, architecture.inp_side()),
            Self::Recurrent(area) => (channels[area + 1], channels[area + 1], 3, 1, 1, sides[area]),
            Self::Feedforward(area) => {
                let side = if area == 0 {
                    architecture.inp_side()
                } else {
                    sides[area - 1]
                };
                (
                    channels[area],
                    channels[area + 1],
                    3,
                    architecture.strides[area],
                    1,
                    side,
                )
            }
            // Source and target of the shortcut: area - 2, and the maps of area - 1 that it is added to.
            Self::Shortcut(area) => (channels[area - 1], channels[area], 1, 2, 0, sides[area - 2]),
            Self::Readout => (channels[architecture.areas()], architecture.classes, 1, 1, 0, 1),
        };
        ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            in_side,
        }
    }
}

/// Parameters that are trained, on the device: g and v of every convolution in the fixed order, then the others by
/// name.
pub(crate) struct Weights<T: Real, D: Device<T>> {
    pub(crate) names: Vec<String>,
    pub(crate) buffers: Vec<D::Buffer>,
    shapes: Vec<ConvShape>,
    number: PhantomData<T>,
}

impl<T: Real, D: Device<T>> Weights<T, D> {
    /// Uploads g, v and `others`. `parameters` must have been arranged for this architecture.
    pub(crate) fn upload(
        device: &D,
        architecture: &Architecture,
        parameters: &Parameters<T>,
        others: Vec<String>,
    ) -> Self {
        let mut names: Vec<String> = conv_names(architecture)
            .into_iter()
            .flat_map(ConvName::parameter_names)
            .collect();
        names.extend(others);
        let upload = |name: &String| {
            let tensor = parameters
                .get(name)
                .expect("parameters are arranged for this architecture");
            device.upload(&tensor.data)
        };
        Self {
            buffers: names.iter().map(upload).collect(),
            names,
            shapes: conv_shapes(architecture),
            number: PhantomData,
        }
    }

    /// Weights w = g v/|v| of every convolution, prepared for use.
    pub(crate) fn filters(&self, device: &D) -> Vec<D::Filter> {
        let mut filters: Vec<Option<D::Filter>> = self.shapes.iter().map(|_| None).collect();
        device.for_each(&mut filters, |index, filter| {
            *filter = Some(device.filter(self.shapes[index], &self.effective(device, index)));
        });
        filters.into_iter().flatten().collect()
    }

    /// The same in the memory of earlier ones.
    pub(crate) fn fill_filters(&self, device: &D, filters: &mut [D::Filter]) {
        device.for_each(filters, |index, filter| {
            device.fill_filter(filter, &self.effective(device, index));
        });
    }

    /// Effective weights of a convolution.
    fn effective(&self, device: &D, index: usize) -> D::Buffer {
        device.weight_norm(
            self.shapes[index].outputs,
            &self.buffers[2 * index],
            &self.buffers[2 * index + 1],
        )
    }

    /// The parameters that are not g or v of a convolution, in the order of their names.
    pub(crate) fn others(&self) -> &[D::Buffer] {
        &self.buffers[2 * self.shapes.len()..]
    }

    /// Gradients of all parameters, in order, from those of the effective weights and of the others.
    pub(crate) fn gradients(&self, device: &D, weights: &[D::Buffer], others: &[D::Buffer]) -> Vec<D::Buffer> {
        let mut gradients = Vec::with_capacity(self.buffers.len());
        for ((shape, gv), dw) in self.shapes.iter().zip(self.buffers.chunks_exact(2)).zip(weights) {
            let mut dg = device.zeros(shape.outputs);
            let mut dv = device.zeros(shape.outputs * shape.patch());
            device.weight_norm_adjoint(shape.outputs, &gv[0], &gv[1], dw, &mut dg, &mut dv);
            gradients.extend([dg, dv]);
        }
        gradients.extend(others.iter().map(|other| device.duplicate(other)));
        gradients
    }

    /// Writes the trained values into `parameters`.
    pub(crate) fn download(&self, device: &D, parameters: &mut Parameters<T>) {
        for (name, buffer) in self.names.iter().zip(&self.buffers) {
            if let Some(tensor) = parameters.get_mut(name) {
                tensor.data = device.download(buffer);
            }
        }
    }
}
