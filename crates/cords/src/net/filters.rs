//! Published names of a network's convolutions, shapes of their parameters, and weight normalisation.
//!
//! The readout is a 1x1 convolution of pooled maps of side 1.

use std::marker::PhantomData;

use super::graph::{Conv, ConvKind};
use super::{Graph, Parameters};
use crate::Real;
use crate::device::{ConvShape, Device};

impl Conv {
    /// Name of the batch norm that follows this convolution in the CNN twin.
    pub(crate) fn norm(&self) -> Option<String> {
        if matches!(self.kind, ConvKind::ImageShortcut | ConvKind::Readout) {
            return None;
        }
        const PUBLISHED: [(&str, &str); 4] = [
            ("inp_conv", "inp_norm"),
            ("area_area.", "area_norm."),
            ("area_conv.", "area_nrm2."),
            ("skip_area.", "skip_norm."),
        ];
        let published = PUBLISHED
            .iter()
            .find_map(|(conv, norm)| Some((self.module.strip_prefix(conv)?, norm)));
        Some(match published {
            Some((rest, norm)) => format!("{norm}{rest}"),
            None => format!("{}.norm", self.module),
        })
    }

    /// Names of weight, bias, running mean and running variance of its batch norm.
    pub(crate) fn norm_names(&self) -> Option<[String; 4]> {
        let norm = self.norm()?;
        Some(["weight", "bias", "running_mean", "running_var"].map(|part| format!("{norm}.{part}")))
    }

    /// Names of g (row lengths) and v (directions).
    pub(crate) fn parameter_names(&self) -> [String; 2] {
        [0, 1].map(|part| format!("{}.parametrizations.weight.original{part}", self.module))
    }

    /// Names and shapes of g and v.
    pub(crate) fn parameter_shapes(&self) -> [(String, Vec<usize>); 2] {
        let shape = self.shape;
        let [g, v] = self.parameter_names();
        if self.kind == ConvKind::Readout {
            return [(g, vec![shape.outputs, 1]), (v, vec![shape.outputs, shape.inputs])];
        }
        [
            (g, vec![shape.outputs, 1, 1, 1]),
            (v, vec![shape.outputs, shape.inputs, shape.kernel, shape.kernel]),
        ]
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
    pub(crate) fn upload(device: &D, architecture: &Graph, parameters: &Parameters<T>, others: Vec<String>) -> Self {
        let convs = architecture.convs().iter();
        let mut names: Vec<String> = convs.flat_map(Conv::parameter_names).collect();
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
            shapes: architecture.conv_shapes(),
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
            device.fill_filter(self.shapes[index], filter, &self.effective(device, index));
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

    /// Raises time constants of a CordsNet that a gradient step has brought below the Euler step to it.
    pub(crate) fn bound_time_constants(&mut self, device: &D, architecture: &Graph, dt_ms: f64) {
        // Rounded to single precision it is not below.
        let least = dt_ms.ln() + dt_ms.ln().abs() * f64::from(f32::EPSILON);
        let first = self.buffers.len() - architecture.area_parameters().count();
        for (parameter, buffer) in architecture.area_parameters().zip(&mut self.buffers[first..]) {
            if !parameter.is_log_tau {
                continue;
            }
            let mut values = device.download(buffer);
            if values.iter().any(|log_tau| log_tau.to_f64() < least) {
                let raised = |log_tau: &mut T| *log_tau = T::from_f64(log_tau.to_f64().max(least));
                values.iter_mut().for_each(raised);
                *buffer = device.upload(&values);
            }
        }
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
