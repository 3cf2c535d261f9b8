//! Model files: parameters as safetensors under their published names, everything else as JSON in the metadata.
//!
//! A file is written beside its place and renamed into it. Equal models give equal bytes.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::graph::{AnyForm, GraphError};
use super::{Cnn, CordsNet, Euler, Graph, NetError, OwnCell, Parameters};
use crate::Tensor;
use crate::device::{Cpu, Device, Phi};

/// Metadata key, and the version that a change of the layout raises.
const KEY: &str = "cords.model";
const VERSION: u32 = 1;

/// How long a network sees nothing and then an image.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Presentation {
    /// Time without input from r = 0, in ms.
    pub spontaneous_ms: f64,
    /// Time with the image, in ms.
    pub stimulus_ms: f64,
}

impl Presentation {
    /// The published trial's: 200 ms and 200 ms.
    pub fn published() -> Self {
        Self {
            spontaneous_ms: 200.0,
            stimulus_ms: 200.0,
        }
    }
}

/// Where a model comes from and what its inputs and outputs mean.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// Seed of its initialisation and training order.
    pub seed: u64,
    /// Name of the data set it was trained on.
    pub data: String,
    /// Mean per image channel, in pixel units [0, 1].
    pub mean: Vec<f32>,
    /// Standard deviation per image channel, in pixel units [0, 1].
    pub std: Vec<f32>,
    /// Name of each class, by label.
    pub classes: Vec<String>,
    /// Phase durations of the training trial; none for a CNN.
    pub presentation: Option<Presentation>,
    /// What it was trained by, the first phase first; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<TrainedPhase>,
    /// How the network is called, where it is not by its kind and number of areas: `BLT-4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

impl ModelInfo {
    /// Mean and standard deviation per image channel that the network was trained with, or those of the images where it
    /// states none for their channels.
    pub fn normalisation<'a>(&'a self, (mean, std): (&'a [f32], &'a [f32])) -> (&'a [f32], &'a [f32]) {
        if (self.mean.len(), self.std.len()) == (mean.len(), std.len()) {
            (&self.mean, &self.std)
        } else {
            (mean, std)
        }
    }
}

/// One phase of a model's training.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct TrainedPhase {
    /// Name of the phase.
    pub phase: String,
    /// Passes over the training images.
    pub epochs: usize,
}

/// A network with its weights, as stored in one file.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// A convolutional network with recurrent dynamics.
    CordsNet {
        /// The network without its weights.
        architecture: Graph,
        /// Step and time constants.
        euler: Euler,
        /// ReLU, but for a network between its training phases.
        phi: Phi,
        /// Weights under their published names.
        parameters: Parameters<f32>,
        /// Where the weights come from, and what inputs and outputs mean.
        info: ModelInfo,
    },
    /// A CNN twin, with its batch norms or with them folded in.
    Cnn {
        /// The network without its weights.
        architecture: Graph,
        /// Weights and running statistics under their published names.
        parameters: Parameters<f32>,
        /// Where the weights come from, and what inputs and outputs mean.
        info: ModelInfo,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<G> {
    version: u32,
    kind: Kind,
    architecture: G,
    euler: Option<Euler>,
    /// Where it is not ReLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phi: Option<Phi>,
    info: ModelInfo,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Cordsnet,
    Cnn,
}

/// What a model file says of itself, without its weights.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The network without its weights.
    pub architecture: Graph,
    /// Step and time constants; none of a CNN.
    pub euler: Option<Euler>,
    /// Where the weights come from, and what inputs and outputs mean.
    pub info: ModelInfo,
}

impl Outline {
    /// Reads the beginning of a model file. Weights are neither read nor checked.
    ///
    /// # Errors
    /// [`NetError::Io`] where reading fails, [`NetError::File`] where the file does not begin as a model file does.
    pub fn read(path: &Path) -> Result<Self, NetError> {
        // As the format limits it.
        const LONGEST: u64 = 100_000_000;
        let wrong = |reason: &str| NetError::File {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let mut file = dynvis_base::files::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|_| wrong("it is no safetensors file"))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST {
            return Err(wrong("it is no safetensors file"));
        }
        let mut json = Vec::new();
        file.take(length).read_to_end(&mut json)?;
        let json: serde_json::Value = serde_json::from_slice(&json).map_err(|_| wrong("it is no safetensors file"))?;
        let header = json["__metadata__"][KEY].as_str();
        let header = header.ok_or_else(|| wrong(&format!("its metadata has no `{KEY}`")))?;
        let header = read_header(header, path, &[])?;
        Ok(Self {
            architecture: header.architecture,
            euler: header.euler,
            info: header.info,
        })
    }
}

/// The description that a file holds beside its tensors.
fn read_header(text: &str, path: &Path, cells: &[OwnCell]) -> Result<Header<Graph>, NetError> {
    let wrong = |reason: String| NetError::File {
        path: path.to_owned(),
        reason,
    };
    let header: Header<AnyForm> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if header.version != VERSION {
        return Err(wrong(format!(
            "layout version {}, this program reads {VERSION}",
            header.version
        )));
    }
    let architecture = header.architecture.graph(cells).map_err(|error| match error {
        // A model's, but of another program.
        NetError::Graph(GraphError::UnknownCell { .. }) => error,
        error => wrong(error.to_string()),
    })?;
    Ok(Header {
        version: header.version,
        kind: header.kind,
        architecture,
        euler: header.euler,
        phi: header.phi,
        info: header.info,
    })
}

impl Model {
    /// The network without its weights.
    pub fn architecture(&self) -> &Graph {
        match self {
            Self::CordsNet { architecture, .. } | Self::Cnn { architecture, .. } => architecture,
        }
    }

    /// Weights under their published names.
    pub fn parameters(&self) -> &Parameters<f32> {
        match self {
            Self::CordsNet { parameters, .. } | Self::Cnn { parameters, .. } => parameters,
        }
    }

    /// Where the weights come from, and what inputs and outputs mean.
    pub fn info(&self) -> &ModelInfo {
        match self {
            Self::CordsNet { info, .. } | Self::Cnn { info, .. } => info,
        }
    }

    /// What it is, in messages.
    fn kind(&self) -> &'static str {
        match self {
            Self::CordsNet { .. } => "CordsNet",
            Self::Cnn { .. } => "CNN",
        }
    }

    /// The dynamical system on the CPU.
    ///
    /// # Errors
    /// [`NetError::Kind`] where this is a CNN, otherwise as [`CordsNet::new`].
    pub fn cordsnet(&self) -> Result<CordsNet<f32>, NetError> {
        self.cordsnet_on(&Cpu)
    }

    /// The same on a given device.
    ///
    /// # Errors
    /// As [`cordsnet`](Self::cordsnet).
    pub fn cordsnet_on<D: Device<f32>>(&self, device: &D) -> Result<CordsNet<f32, D>, NetError> {
        match self {
            Self::CordsNet {
                architecture,
                euler,
                phi,
                parameters,
                ..
            } => CordsNet::on(device, architecture, parameters, euler, *phi),
            Self::Cnn { .. } => Err(NetError::Kind {
                found: self.kind(),
                needed: "CordsNet",
            }),
        }
    }

    /// The feed-forward network on a given device.
    ///
    /// # Errors
    /// [`NetError::Kind`] where this is a CordsNet, otherwise as [`Cnn::new`].
    pub fn cnn_on<D: Device<f32>>(&self, device: &D) -> Result<Cnn<f32, D>, NetError> {
        match self {
            Self::Cnn {
                architecture,
                parameters,
                ..
            } => Cnn::on(device, architecture, parameters),
            Self::CordsNet { .. } => Err(NetError::Kind {
                found: self.kind(),
                needed: "CNN",
            }),
        }
    }

    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`NetError::Io`] where writing fails, [`NetError::File`] where the description cannot be written as JSON.
    pub fn save(&self, path: &Path) -> Result<(), NetError> {
        let unwritable = |reason: String| NetError::File {
            path: path.to_owned(),
            reason,
        };
        let (kind, euler, phi) = match self {
            Self::CordsNet { euler, phi, .. } => {
                let phi = Some(*phi).filter(|phi| *phi != Phi::Relu);
                (Kind::Cordsnet, Some(euler.clone()), phi)
            }
            Self::Cnn { .. } => (Kind::Cnn, None, None),
        };
        let header = Header {
            version: VERSION,
            kind,
            architecture: self.architecture().clone(),
            euler,
            phi,
            info: self.info().clone(),
        };
        let header = serde_json::to_string(&header).map_err(|error| unwritable(error.to_string()))?;
        // Little-endian bytes, as the format demands.
        let bytes: Vec<(&str, &[usize], Vec<u8>)> = self
            .parameters()
            .iter()
            .map(|(name, tensor)| {
                let data = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
                (name, tensor.shape.as_slice(), data)
            })
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, shape, data) in &bytes {
            let view =
                TensorView::new(Dtype::F32, shape.to_vec(), data).map_err(|error| unwritable(error.to_string()))?;
            views.push((*name, view));
        }
        let metadata = HashMap::from([(KEY.to_owned(), header)]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(|error| unwritable(error.to_string()))?;
        Ok(dynvis_base::files::persist(path, &file)?)
    }

    /// Reads a model and checks its parameters against its architecture.
    ///
    /// # Errors
    /// [`NetError::Io`] where reading fails, [`NetError::File`] where the file is no model file, any other
    /// [`NetError`] where its content is no network.
    pub fn load(path: &Path) -> Result<Self, NetError> {
        Self::load_with(path, &[])
    }

    /// The same of a network with cells that are not of this crate, which its file knows by their names.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`NetError::Graph`] where a cell that the file names is not given.
    pub fn load_with(path: &Path, cells: &[OwnCell]) -> Result<Self, NetError> {
        let wrong = |reason: String| NetError::File {
            path: path.to_owned(),
            reason,
        };
        let file = dynvis_base::files::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|error| wrong(error.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header = header.ok_or_else(|| wrong(format!("its metadata has no `{KEY}`")))?;
        let Header {
            kind,
            architecture,
            euler,
            phi,
            info,
            ..
        } = read_header(header, path, cells)?;
        let tensors = SafeTensors::deserialize(&file).map_err(|error| wrong(error.to_string()))?;
        let mut parameters = Parameters::new();
        for (name, view) in tensors.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(wrong(format!("`{name}` is {:?}, expected F32", view.dtype())));
            }
            let data = view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            let tensor = Tensor::new(view.shape(), data).ok_or_else(|| wrong(format!("`{name}` is truncated")))?;
            parameters.insert(name, tensor);
        }
        match (kind, euler, phi) {
            (Kind::Cordsnet, Some(euler), phi) => {
                architecture.euler(&euler)?;
                let parameters = parameters.arranged_cordsnet(&architecture, euler.dt_ms)?;
                Ok(Self::CordsNet {
                    architecture,
                    euler,
                    phi: phi.unwrap_or(Phi::Relu),
                    parameters,
                    info,
                })
            }
            (Kind::Cnn, None, None) => {
                architecture.twin()?;
                let parameters = parameters.arranged_cnn(&architecture)?;
                Ok(Self::Cnn {
                    architecture,
                    parameters,
                    info,
                })
            }
            _ => Err(wrong(
                "time constants and phi belong to a CordsNet and to nothing else".to_owned(),
            )),
        }
    }
}
