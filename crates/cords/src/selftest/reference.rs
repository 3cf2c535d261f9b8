//! A trial that was computed in float64 by other code: by PyTorch from the equations.

use safetensors::SafeTensors;
use serde::Deserialize;

use super::{Finding, error};
use crate::device::{Device, Phi, Target};
use crate::learn::{Batch, CordsNetGradient, Objective, TrainError, logspace};
use crate::net::{Architecture, Euler, NetError, Parameters};
use crate::{Tensor, selftest::networks};

/// Four areas, 32 x 32 images, ReLU: all that [`reference()`] compares.
const FILE: &[u8] = include_bytes!("../../tests/fixtures/rollout.safetensors");

/// How it was computed.
#[derive(Deserialize)]
struct Description {
    in_channels: usize,
    image: usize,
    channels: Vec<usize>,
    strides: Vec<usize>,
    classes: usize,
    alpha: f64,
    steps: usize,
    window: usize,
    spont_window: usize,
    spont_weight: f64,
}

/// Activity, loss, logits and every gradient of a trial, held against what PyTorch gives in float64.
///
/// `bounds` are what results may be off by, forward and backward.
///
/// # Errors
/// [`TrainError::Device`] where the device fails.
pub fn reference<D: Device<f32>>(device: &D, [forward, backward]: [f64; 2]) -> Result<Vec<Finding>, TrainError> {
    let (description, tensors) = read().map_err(|reason| NetError::File {
        path: "rollout.safetensors".into(),
        reason,
    })?;
    let steps = description.steps;
    let architecture = Architecture {
        in_channels: description.in_channels,
        image_side: description.image,
        channels: description.channels,
        strides: description.strides,
        classes: description.classes,
    }
    .graph()?;
    let objective = Objective {
        spontaneous_steps: steps,
        stimulus_steps: steps,
        after_steps: steps,
        ramp: logspace(-3.0, 0.0, description.window),
        return_weight: description.spont_weight,
        return_window: description.spont_window,
    };
    let tensor = |name: &str| doubles(&tensors, name).unwrap_or_default();
    let labels: Vec<u32> = tensors.tensor("labels").map_or_else(
        |_| Vec::new(),
        |view| {
            let numbers = view.data().as_chunks().0;
            numbers.iter().map(|bytes| i64::from_le_bytes(*bytes) as u32).collect()
        },
    );
    let images: Vec<f32> = tensor("images").iter().map(|value| *value as f32).collect();
    let mut gradient = CordsNetGradient::new(
        device,
        &architecture,
        &parameters(&tensors, "param.").cast(),
        &Euler::new(10.0 * description.alpha, 10.0),
        Phi::Relu,
        &objective,
    )?;
    let batch = Batch {
        images: &images,
        targets: &Target::of(&labels),
    };
    let found = gradient.run(batch, &[1, steps, 2 * steps])?;
    let mut findings = Vec::new();
    let mut note = |name: String, error: f64, bound: f64| findings.push(Finding { name, error, bound });
    let name = |what: &str| format!("PyTorch's float64 trial: {what}");
    note(name("loss"), error(&[found.loss.loss], &tensor("loss")), forward);
    note(
        name("cross-entropy"),
        error(&found.loss.cross_entropy, &tensor("ce")),
        forward,
    );
    let logits = error(&networks::wide(&found.logits), &tensor("logits_last"));
    note(name("logits"), logits, forward);
    for (when, areas) in ["stimulus_first", "stimulus_last", "after_last"]
        .iter()
        .zip(&found.activity)
    {
        for (area, activity) in areas.iter().enumerate() {
            let error = error(&networks::wide(activity), &tensor(&format!("{when}.{area}")));
            note(name(&format!("{when}, area {area}")), error, forward);
        }
    }
    let expected = parameters(&tensors, "grad.");
    networks::gradients(&name, &found.gradients, &expected, backward, &mut note);
    Ok(findings)
}

fn read() -> Result<(Description, SafeTensors<'static>), String> {
    let (_, metadata) = SafeTensors::read_metadata(FILE).map_err(|error| error.to_string())?;
    let json = metadata.metadata().as_ref().and_then(|metadata| metadata.get("json"));
    let json = json.ok_or("its metadata has no `json`")?;
    let description = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(FILE).map_err(|error| error.to_string())?;
    Ok((description, tensors))
}

fn doubles(tensors: &SafeTensors<'_>, name: &str) -> Option<Vec<f64>> {
    let view = tensors.tensor(name).ok()?;
    let numbers = view.data().as_chunks().0;
    Some(numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// What is named with a prefix, without it.
fn parameters(tensors: &SafeTensors<'_>, prefix: &str) -> Parameters<f64> {
    let mut parameters = Parameters::new();
    for (name, view) in tensors.iter() {
        let tensor = doubles(tensors, name).and_then(|data| Tensor::new(view.shape(), data));
        if let (Some(short), Some(tensor)) = (name.strip_prefix(prefix), tensor) {
            parameters.insert(short, tensor);
        }
    }
    parameters
}
