//! Initial weights from which a network can be trained directly.
//!
//! Directions are normal; a row's length sets the size of its weights. With inputs of unit mean square, a row of length
//! sqrt(2) keeps the mean square through a ReLU (He et al. 2015).

use serde::{Deserialize, Serialize};

use crate::Tensor;
use crate::net::{Architecture, ConvName, Parameters, conv_names, norm_names};
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
    fn length(&self, name: ConvName) -> f64 {
        match name {
            ConvName::InpConv | ConvName::Feedforward(_) => self.feedforward,
            ConvName::InpSkip | ConvName::Shortcut(_) => self.shortcut,
            ConvName::Recurrent(_) => self.recurrent,
            ConvName::Readout => self.readout,
        }
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let all = [self.feedforward, self.shortcut, self.recurrent, self.readout];
        (!all.iter().all(|length| length.is_finite() && *length >= 0.0))
            .then(|| "a row length is negative or not finite".to_owned())
    }

    fn convolutions(
        &self,
        architecture: &Architecture,
        seed: u64,
        length: impl Fn(ConvName) -> f64,
    ) -> Parameters<f32> {
        let mut parameters = Parameters::new();
        for (index, name) in conv_names(architecture).into_iter().enumerate() {
            let [(g, g_shape), (v, v_shape)] = name.parameter_shapes(architecture);
            let patch = name.shape(architecture).patch();
            let row_length = length(name);
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

    /// Initial parameters of a CordsNet. `architecture` must be valid.
    pub fn cordsnet(&self, architecture: &Architecture, seed: u64) -> Parameters<f32> {
        self.complete(
            architecture.cordsnet_shapes(),
            self.convolutions(architecture, seed, |name| self.length(name)),
        )
    }

    /// Initial parameters of the CNN twin: the recurrent convolution is a feed-forward one here, batch norm the
    /// identity. `architecture` must be valid.
    pub fn cnn(&self, architecture: &Architecture, seed: u64) -> Parameters<f32> {
        let length = |name| match name {
            ConvName::Recurrent(_) => self.feedforward,
            _ => self.length(name),
        };
        let mut parameters = self.convolutions(architecture, seed, length);
        for name in conv_names(architecture) {
            if let Some([weight, _, _, variance]) = norm_names(name) {
                let mut ones = Tensor::zeros(&[name.shape(architecture).outputs]);
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
