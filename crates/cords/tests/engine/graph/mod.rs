//! Networks that are not the published ones: simulation against the equations written out in plain loops, gradients
//! against finite differences, and dynamics of areas that drive each other against those of the steps and PyTorch's.

mod cells;
mod dynamics;
mod plain;
mod training;

use cords::device::Phi;
use cords::learn::{Initialisation, Objective, logspace};
use cords::net::{Architecture, Euler, Graph, Model, ModelInfo, Parameters, Preset};
use cords::rng::{Purpose, Stream};

fn normal(n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, Purpose::Probe, 0, 0, 0, 0);
    (0..n).map(|_| stream.normal()).collect()
}

/// Sizes of all presets here: odd sides, so that nothing is a whole multiple.
fn architecture() -> Architecture {
    Architecture {
        in_channels: 2,
        image_side: 25,
        channels: vec![3, 4, 4, 5, 5],
        strides: vec![1, 1, 2, 1],
        classes: 3,
    }
}

/// Areas that are not in the order of the loop that they form, kernels of three sizes, a shortcut from the image, an
/// enlargement that is no whole multiple, two projections to one area, time constants of their own.
const STREAMS: &str = r#"{
    "in_channels": 2, "image_side": 25, "classes": 3, "input_channels": 3,
    "areas": [
        {"name": "late", "channels": 5, "side": 4, "tau_ms": 20.0},
        {"name": "coarse", "channels": 4, "side": 4, "tau_ms": 25.0},
        {"name": "fine", "channels": 4, "side": 7,
         "cell": {"adapting": {"tau_a_ms": 30.0, "beta": 0.7, "trained": true}}},
        {"name": "middle", "channels": 6, "side": 4},
        {"name": "end", "channels": 5, "side": 4, "tau_ms": 8.0,
         "cell": {"adapting": {"tau_a_ms": 50.0, "beta": 0.4}}}
    ],
    "projections": [
        {"name": "coarse.in", "to": "coarse", "from": ["image"], "kernel": 5, "stride": 2},
        {"name": "coarse.rec", "to": "coarse", "from": ["coarse"]},
        {"name": "fine.in", "to": "fine", "from": ["image"]},
        {"name": "fine.rec", "to": "fine", "from": ["fine"], "kernel": 5},
        {"name": "fine.back", "to": "fine", "from": [{"from": "late", "upsample": "bilinear"}]},
        {"name": "middle.in", "to": "middle", "from": ["fine"], "stride": 2},
        {"name": "middle.side", "to": "middle", "from": ["coarse"], "kernel": 1},
        {"name": "middle.rec", "to": "middle", "from": ["middle"]},
        {"name": "late.in", "to": "late", "stride": 2, "kernel": 1,
         "from": [{"from": "middle", "upsample": "nearest"}, {"from": "fine", "shortcut": {"name": "late.skip", "kernel": 1, "stride": 1}}]},
        {"name": "end.in", "to": "end", "from": [
            {"from": "late", "upsample": "nearest"},
            {"from": "coarse", "shortcut": {"name": "end.skip"}},
            {"from": "image", "shortcut": {"name": "end.image", "stride": 2}}]}
    ],
    "readout": ["late", "end"]
}"#;

fn streams() -> Graph {
    serde_json::from_str(STREAMS).unwrap_or_else(|error| panic!("{error}"))
}

fn networks() -> Vec<(String, Graph)> {
    let presets = [
        Preset::Published,
        Preset::Feedback,
        Preset::Feedforward,
        Preset::Blt,
        Preset::CornetRt,
    ];
    let mut networks: Vec<(String, Graph)> = presets
        .iter()
        .map(|preset| (format!("{preset:?}"), architecture().preset(*preset).expect("valid")))
        .collect();
    networks.push(("streams".to_owned(), streams()));
    let mut description = streams().description().clone();
    for (number, is_one) in [(0, false), (1, true), (4, false)] {
        let area = &mut description.areas[number];
        (area.trains_tau, area.tau_per_channel) = (true, !is_one);
    }
    let trained = Graph::new(description).expect("valid");
    networks.push(("trained time constants".to_owned(), trained));
    networks
}

/// Weights of a size at which activity stays small, biases that are not 0, and channels that differ in time constants.
fn parameters(graph: &Graph, seed: u64) -> Parameters<f64> {
    let initialisation = Initialisation {
        feedforward: 0.8,
        recurrent: 0.6,
        ..Initialisation::default()
    };
    let mut parameters: Parameters<f64> = initialisation.cordsnet(graph, seed).cast();
    for area in 0..graph.areas() {
        let bias = parameters.get_mut(&format!("conv_bias.{area}")).expect("a bias");
        bias.data = normal(bias.data.len(), 100 + seed + area as u64)
            .iter()
            .map(|b| 0.3 * b)
            .collect();
        let log_taus = parameters.get_mut(&format!("log_tau.{area}"));
        for (channel, log_tau) in log_taus.into_iter().flat_map(|tensor| &mut tensor.data).enumerate() {
            *log_tau += 0.2 * channel as f64;
        }
    }
    parameters
}

/// Of a short trial with a return term.
fn objective(spontaneous_steps: usize) -> Objective {
    Objective {
        spontaneous_steps,
        stimulus_steps: 5,
        after_steps: 3,
        ramp: logspace(-1.0, 0.0, 3),
        return_weight: 0.5,
        return_window: 2,
    }
}

#[test]
fn a_model_of_any_graph_goes_through_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, graph) in networks() {
        let model = Model::CordsNet {
            parameters: parameters(&graph, 1).cast(),
            architecture: graph,
            euler: Euler::published(),
            phi: Phi::Relu,
            info: ModelInfo::default(),
        };
        let path = folder.path().join(format!("{name}.safetensors"));
        model.save(&path).expect("saved");
        assert_eq!(Model::load(&path).expect("loaded"), model, "{name}");
    }
}
