//! Images, networks and conditions to test with.

pub(crate) use crate::support::digits;
use cords::Tensor;
use cords::data::{ImageSet, Split};
use cords::device::{Cpu, Phi};
use cords::net::{Architecture, Euler, Graph, Model, ModelInfo, Parameters, Presentation};
use cords::noise::*;
use cords::rng::{Purpose, Stream};

pub(crate) fn architecture() -> Graph {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4; 3],
        strides: vec![1; 2],
        classes: 10,
    }
    .graph()
    .expect("valid")
}

pub(crate) fn fill(shapes: Vec<(String, Vec<usize>)>) -> Parameters<f32> {
    let mut parameters = Parameters::new();
    for (i, (name, shape)) in shapes.into_iter().enumerate() {
        let mut tensor = Tensor::zeros(&shape);
        Stream::new(2, Purpose::Initialisation, i as u64, 0, 0, 0).normal_fill(&mut tensor.data);
        if name.ends_with("original0") {
            tensor.data.fill(if name.starts_with("area_conv") { 0.6 } else { 1.0 });
        } else if name.ends_with("running_var") {
            tensor.data.fill(1.5);
        }
        parameters.insert(name, tensor);
    }
    parameters
}

pub(crate) fn info(set: &ImageSet) -> ModelInfo {
    ModelInfo {
        mean: set.mean().to_vec(),
        std: set.std().to_vec(),
        classes: set.classes().to_vec(),
        ..Default::default()
    }
}

pub(crate) fn cordsnet(set: &ImageSet) -> Model {
    let parameters = fill(architecture().cordsnet_shapes());
    Model::CordsNet {
        architecture: architecture(),
        euler: Euler::published(),
        phi: Phi::Relu,
        parameters,
        info: info(set),
    }
}

pub(crate) fn cnn(set: &ImageSet) -> Model {
    Model::Cnn {
        architecture: architecture(),
        parameters: fill(architecture().cnn_shapes()),
        info: info(set),
    }
}

pub(crate) fn gaussian(timing: NoisePresentation, level: f64) -> Condition {
    Condition {
        perturbation: Perturbation::Pixels {
            noise: Pixels::Gaussian,
            timing,
            clip: false,
        },
        level,
    }
}

pub(crate) fn options(observers: &[Observer], conditions: &[(NoisePresentation, f64)]) -> EvaluationOptions {
    EvaluationOptions {
        observers: observers.to_vec(),
        conditions: conditions
            .iter()
            .map(|&(timing, level)| gaussian(timing, level))
            .collect(),
        areas: None,
        presentation: Presentation {
            spontaneous_ms: 20.0,
            stimulus_ms: 30.0,
        },
        dt_ms: 2.0,
        seed: 11,
        trial: 0,
    }
}

pub(crate) fn run(model: &Model, set: &ImageSet, options: &EvaluationOptions) -> Vec<NoiseResult> {
    let mut last = (0, 0);
    let results = evaluate(&Cpu, model, set, set.split(Split::Test), options, &mut |done, total| {
        last = (done, total)
    });
    assert_eq!(last.0, last.1);
    results.expect("everything fits")
}

pub(crate) const RECURRENT: [Observer; 2] = [Observer::Cordsnet, Observer::CordsnetWithoutRecurrence];
pub(crate) const FEEDFORWARD: [Observer; 3] =
    [Observer::CnnFirstFrame, Observer::CnnMeanFrame, Observer::CnnMeanLogits];

/// The same network with this gain of all its recurrent weights.
pub(crate) fn with_gain(mut model: Model, gain: f32) -> Model {
    let (Model::CordsNet { parameters, .. } | Model::Cnn { parameters, .. }) = &mut model;
    for area in 0..2 {
        let name = format!("area_conv.{area}.parametrizations.weight.original0");
        parameters.get_mut(&name).expect("there").data.fill(gain);
    }
    model
}

pub(crate) fn condition(perturbation: Perturbation, level: f64) -> Condition {
    Condition { perturbation, level }
}
