//! Networks made ready for an observer, with silenced units or noisy weights where a condition asks for them.

use super::options::{EvaluationOptions, NoiseError, Observer};
use super::pixels::REFERENCE_DT_MS;
use super::{Condition, Perturbation};
use crate::device::{Device, Maps, Phi};
use crate::net::{Cnn, Conv, CordsNet, Euler, Graph, Model, Parameters, State, bias_name, fold};
use crate::rng::{Purpose, Stream};

/// Bias of a silenced unit: no current reaches up to 0.
const SILENT: f32 = -1e30;

/// A network made ready for one observer.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(super) enum Network<D: Device<f32>> {
    Cordsnet {
        net: CordsNet<f32, D>,
        spontaneous: State<f32>,
    },
    Cnn(Cnn<f32, D>),
}

impl<D: Device<f32>> Network<D> {
    /// The network of an observer, perturbed where the condition is about the network itself; also how much it was
    /// perturbed.
    pub(super) fn new(
        device: &D,
        model: &Model,
        observer: Observer,
        condition: Option<&Condition>,
        options: &EvaluationOptions,
    ) -> Result<(Self, f64), NoiseError> {
        let wrong = |needed: &'static str, found: &'static str| NoiseError::Observer {
            observer,
            needed,
            found,
        };
        match (model, observer) {
            (
                Model::CordsNet {
                    architecture,
                    euler,
                    phi,
                    parameters,
                    ..
                },
                Observer::Cordsnet | Observer::CordsnetWithoutRecurrence,
            ) => {
                let mut parameters = parameters.clone();
                if observer == Observer::CordsnetWithoutRecurrence {
                    for conv in architecture.loop_convs()? {
                        // Weight norm: w = g v / |v|, so g = 0 removes the convolution, with what its sources bring.
                        let [gain, _] = architecture.convs()[conv].parameter_names();
                        if let Some(gain) = parameters.get_mut(&gain) {
                            gain.data.fill(0.0);
                        }
                    }
                }
                let achieved = perturb(architecture, &mut parameters, condition, options);
                let spontaneous_ms = options.presentation.spontaneous_ms;
                let (net, spontaneous) = cordsnet(device, architecture, &parameters, euler, *phi, spontaneous_ms)?;
                Ok((Self::Cordsnet { net, spontaneous }, achieved))
            }
            (
                Model::Cnn {
                    architecture,
                    parameters,
                    ..
                },
                Observer::CnnFirstFrame | Observer::CnnMeanFrame | Observer::CnnMeanLogits,
            ) => {
                // Only a folded CNN has biases per unit.
                let silences = condition.is_some_and(|c| c.perturbation == Perturbation::Silencing);
                let mut parameters = if silences && !parameters.is_folded_cnn() {
                    fold(architecture, parameters)?
                } else {
                    parameters.clone()
                };
                let achieved = perturb(architecture, &mut parameters, condition, options);
                Ok((Self::Cnn(Cnn::on(device, architecture, &parameters)?), achieved))
            }
            (Model::CordsNet { .. }, _) => Err(wrong("CNN", "CordsNet")),
            (Model::Cnn { .. }, _) => Err(wrong("CordsNet", "CNN")),
        }
    }

    /// Step in ms at which frames follow each other. A single frame follows none: it is that of the step at which
    /// levels are stated.
    pub(super) fn dt_ms(&self, observer: Observer, options: &EvaluationOptions) -> f64 {
        match (self, observer) {
            (Self::Cordsnet { net, .. }, _) => net.euler().dt_ms,
            (Self::Cnn(_), Observer::CnnFirstFrame) => REFERENCE_DT_MS,
            (Self::Cnn(_), _) => options.dt_ms,
        }
    }

    /// Shape of an area's activity.
    pub(super) fn area_maps(&self, area: usize, batch: usize) -> Maps {
        let architecture = match self {
            Self::Cordsnet { net, .. } => net.architecture(),
            Self::Cnn(cnn) => cnn.architecture(),
        };
        architecture.maps(area, batch)
    }

    /// Steps that an image is shown for.
    pub(super) fn steps(&self, observer: Observer, options: &EvaluationOptions) -> usize {
        (options.presentation.stimulus_ms / self.dt_ms(observer, options)).round() as usize
    }
}

fn cordsnet<D: Device<f32>>(
    device: &D,
    architecture: &Graph,
    parameters: &Parameters<f32>,
    euler: &Euler,
    phi: Phi,
    spontaneous_ms: f64,
) -> Result<(CordsNet<f32, D>, State<f32>), NoiseError> {
    let net = CordsNet::on(device, architecture, parameters, euler, phi)?;
    let spontaneous = net.spontaneous(euler.steps(spontaneous_ms));
    Ok((net, spontaneous))
}

/// Silences units or adds noise to weights in the areas that the options name. Returns the fraction of their units that
/// is silenced, or the root mean square of the weights' noise relative to the weights.
fn perturb(
    architecture: &Graph,
    parameters: &mut Parameters<f32>,
    condition: Option<&Condition>,
    options: &EvaluationOptions,
) -> f64 {
    let Some(condition) = condition else { return 0.0 };
    let stream =
        |purpose, part: u64, area: usize| Stream::new(options.seed, purpose, part, options.trial, 0, area as u32);
    let (mut changed, mut all) = (0.0, 0.0);
    for area in options.perturbed_areas(architecture) {
        match condition.perturbation {
            Perturbation::Pixels { .. } | Perturbation::Neural => {}
            Perturbation::Silencing => {
                if let Some(bias) = parameters.get_mut(&bias_name(area)) {
                    let mut stream = stream(Purpose::Silencing, 0, area);
                    for bias in &mut bias.data {
                        if stream.uniform() < condition.level {
                            *bias = SILENT;
                            changed += 1.0;
                        }
                    }
                    all += bias.data.len() as f64;
                }
            }
            Perturbation::Weights => {
                let inlets = architecture.inlets(area).iter().map(|inlet| Some(inlet.conv));
                for (part, conv) in [architecture.recurrent(area)].into_iter().chain(inlets).enumerate() {
                    let Some(conv) = conv else { continue };
                    let mut stream = stream(Purpose::WeightNoise, part as u64, area);
                    let conv = &architecture.convs()[conv];
                    let squares = noisy_weights(parameters, conv, condition.level, &mut stream);
                    changed += squares[0];
                    all += squares[1];
                }
            }
        }
    }
    let share = if all > 0.0 { changed / all } else { 0.0 };
    match condition.perturbation {
        Perturbation::Weights => share.sqrt(),
        _ => share,
    }
}

/// w (1 + level xi) for every weight of a convolution: with w = g v/|v|, v takes the noise and g the change of its
/// length. Returns the sum of (level xi)^2 and the number of weights.
fn noisy_weights(parameters: &mut Parameters<f32>, conv: &Conv, level: f64, stream: &mut Stream) -> [f64; 2] {
    let [gains, directions] = conv.parameter_names();
    let Some(v) = parameters.get_mut(&directions) else {
        return [0.0; 2];
    };
    let mut noise = vec![0.0f32; v.data.len()];
    stream.normal_fill(&mut noise);
    let rows = v.shape.first().copied().unwrap_or(1).max(1);
    let length = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let patch = v.data.len() / rows;
    let mut stretched = Vec::with_capacity(rows);
    for (row, noise) in v.data.chunks_exact_mut(patch).zip(noise.chunks_exact(patch)) {
        let before = length(row);
        for (v, noise) in row.iter_mut().zip(noise) {
            *v *= 1.0 + level as f32 * noise;
        }
        stretched.push(length(row) / before);
    }
    let squares = noise.iter().map(|xi| (level * f64::from(*xi)).powi(2)).sum();
    if let Some(g) = parameters.get_mut(&gains) {
        for (g, stretched) in g.data.iter_mut().zip(stretched) {
            *g = (f64::from(*g) * stretched) as f32;
        }
    }
    [squares, noise.len() as f64]
}
