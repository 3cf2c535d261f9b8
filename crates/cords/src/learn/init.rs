//! Initial weights from which a network can be trained directly.
//!
//! Directions are normal; a row's length sets the size of its weights. With inputs of unit mean square, a row of length
//! sqrt(2) keeps the mean square through a ReLU (He et al. 2015).

use serde::{Deserialize, Serialize};

use crate::Tensor;
use crate::net::{Conv, ConvKind, Graph, Parameters};
use crate::rng::{Purpose, Stream};

/// Sizes of initial weights. Biases are zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Initialisation {
    /// Length of a row of the input and feed-forward convolutions (He: sqrt 2).
    pub feedforward: f64,
    /// Length of a row of the shortcuts (inp_skip, skip_area).
    pub shortcut: f64,
    /// Spectral radius of a recurrent convolution of an unbounded map. Independent normal weights of row length rho
    /// have it by the circular law; below 1 the dynamics start contractive.
    pub recurrent: f64,
    /// Length of a row of the readout.
    pub readout: f64,
}

impl Default for Initialisation {
    fn default() -> Self {
        Self {
            feedforward: std::f64::consts::SQRT_2,
            shortcut: 1.0,
            recurrent: 0.5,
            readout: 1.0,
        }
    }
}

impl Initialisation {
    /// Row length of one convolution.
    fn length(&self, conv: &Conv) -> f64 {
        match conv.kind {
            ConvKind::Input | ConvKind::Feedforward => self.feedforward,
            ConvKind::ImageShortcut | ConvKind::Shortcut | ConvKind::FeedbackShortcut => self.shortcut,
            // What closes a loop starts contractive.
            ConvKind::Recurrent | ConvKind::Feedback => self.recurrent,
            ConvKind::Readout => self.readout,
        }
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let all = [self.feedforward, self.shortcut, self.recurrent, self.readout];
        (!all.iter().all(|length| length.is_finite() && *length >= 0.0))
            .then(|| "a row length is negative or not finite".to_owned())
    }

    fn convolutions(&self, architecture: &Graph, seed: u64, length: impl Fn(&Conv) -> f64) -> Parameters<f32> {
        let mut parameters = Parameters::new();
        for (index, conv) in architecture.convs().iter().enumerate() {
            let [(g, g_shape), (v, v_shape)] = conv.parameter_shapes();
            let patch = conv.shape.patch();
            let row_length = length(conv);
            let mut lengths = Tensor::zeros(&g_shape);
            lengths.data.fill(row_length as f32);
            let mut directions = Tensor::zeros(&v_shape);
            Stream::new(seed, Purpose::Initialisation, index as u64, 0, 0, 0).normal_fill(&mut directions.data);
            // v starts with |v| near 1, so that one learning rate suits g, v and the biases.
            let scale = (1.0 / (patch as f64).sqrt()) as f32;
            directions.data.iter_mut().for_each(|value| *value *= scale);
            parameters.insert(g, lengths);
            parameters.insert(v, directions);
        }
        parameters
    }

    /// Initial parameters of a CordsNet.
    pub fn cordsnet(&self, architecture: &Graph, seed: u64) -> Parameters<f32> {
        let mut parameters = self.convolutions(architecture, seed, |conv| self.length(conv));
        for parameter in architecture.area_parameters() {
            let mut tensor = Tensor::zeros(&[1]);
            tensor.data.fill(parameter.first as f32);
            parameters.insert(parameter.name, tensor);
        }
        self.complete(architecture.cordsnet_shapes(), parameters)
    }

    /// Initial parameters of the CNN twin: the recurrent convolution is a feed-forward one here, batch norm the
    /// identity.
    pub fn cnn(&self, architecture: &Graph, seed: u64) -> Parameters<f32> {
        let length = |conv: &Conv| match conv.kind {
            ConvKind::Recurrent => self.feedforward,
            _ => self.length(conv),
        };
        let mut parameters = self.convolutions(architecture, seed, length);
        for conv in architecture.convs() {
            if let Some([weight, _, _, variance]) = conv.norm_names() {
                let mut ones = Tensor::zeros(&[conv.shape.outputs]);
                ones.data.fill(1.0);
                parameters.insert(weight, ones.clone());
                parameters.insert(variance, ones);
            }
        }
        self.complete(architecture.cnn_shapes(), parameters)
    }

    /// The parameters in order, zeros where there are none yet.
    fn complete(&self, shapes: Vec<(String, Vec<usize>)>, parameters: Parameters<f32>) -> Parameters<f32> {
        let mut complete = Parameters::new();
        for (name, shape) in shapes {
            let tensor = parameters.get(&name).cloned().unwrap_or_else(|| Tensor::zeros(&shape));
            complete.insert(name, tensor);
        }
        complete
    }
}
