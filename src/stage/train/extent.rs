//! What a training takes, told before it runs.

use std::sync::Arc;

use super::network::ImageSizes;
use super::params::{Params, Phase};
use crate::stage::extent::{Facts, ImageCounts, Network, Shown, Steps, facts};
use crate::stage::{Extent, InputExtents, Size};

/// From the parameters, and what the data set and the stage before told.
pub(super) fn extent(params: &Params, inputs: &InputExtents) -> Extent {
    let images = facts(inputs, &params.data.0).and_then(|told| told.images);
    let network = network(params, images, inputs);
    let size = network.as_ref().map(|network| Size {
        bytes: weight_bytes(params.phase, network),
        is_most: false,
    });
    let shown = images.map(|images| shown(params, &images, network.as_ref()));
    let told = Facts {
        images: None,
        network,
        shown: shown.unwrap_or_default(),
    };
    Extent::with_facts(size, told)
}

/// The network that the phase gives.
fn network(params: &Params, images: Option<ImageCounts>, inputs: &InputExtents) -> Option<Network> {
    let start = match &params.start {
        Some(start) => Some(facts(inputs, &start.0)?.network.as_ref()?),
        None => None,
    };
    let graph = match start {
        Some(start) => Arc::clone(&start.graph),
        None => {
            let images = images?;
            let sizes = ImageSizes {
                channels: images.channels,
                side: images.side,
                classes: images.classes,
            };
            Arc::new(params.graph(sizes).ok()?)
        }
    };
    let euler = || params.euler(start.and_then(|start| start.euler.as_ref()));
    let (euler, presentation) = match (params.phase, params.fit()) {
        (Phase::Cnn | Phase::Fold, _) | (_, None) => (None, None),
        (Phase::Invert, Some(fit)) => (Some(euler()), Some(params.inversion(fit).presentation())),
        (_, Some(fit)) => (Some(euler()), Some(params.trials(fit, None).presentation())),
    };
    Some(Network {
        graph,
        euler,
        presentation,
    })
}

/// Of the model's weights, float32.
fn weight_bytes(phase: Phase, network: &Network) -> u64 {
    let shapes = match phase {
        Phase::Cnn => network.graph.cnn_shapes(),
        Phase::Fold => network.graph.folded_cnn_shapes(),
        _ => network.graph.cordsnet_shapes(),
    };
    let values = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64);
    4 * values.sum::<u64>()
}

fn shown(params: &Params, images: &ImageCounts, network: Option<&Network>) -> Vec<Shown> {
    let shown = |purpose, images, trial| Shown { purpose, images, trial };
    let Some(fit) = params.fit().filter(|_| params.phase != Phase::Fold) else {
        // Before and after the batch norms are folded in.
        return vec![shown("evaluation", 2 * images.validation, None)];
    };
    let (epochs, batch) = (fit.epochs as u64, fit.batch);
    let (training, validation) = match network.and_then(|network| Some((network, network.euler.as_ref()?))) {
        Some((network, euler)) if params.phase.has_trials() => {
            let trial = params.trials(fit, None);
            let steps = |ms: f64| ms / euler.dt_ms;
            let of = |steps| network.trial(params.precision, Some(batch), steps);
            let training = of(Steps {
                with_gradient: steps(trial.stimulus_ms + trial.after_ms),
                // From rest to the spontaneous state, once for all images of a batch.
                without: steps(trial.spontaneous_ms) / batch.max(1) as f64,
            });
            let validation = of(Steps {
                with_gradient: 0.0,
                without: steps(trial.stimulus_ms),
            });
            (training, validation)
        }
        _ => (None, None),
    };
    vec![
        shown("training", images.train.saturating_mul(epochs), training),
        shown("validation", images.validation.saturating_mul(epochs), validation),
    ]
}
