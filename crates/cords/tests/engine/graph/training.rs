//! Gradients against finite differences, and training of time constants.

use cords::data::MemoryImages;
use cords::device::{Cpu, Phi, Target};
use cords::learn::{
    Batch, CordsNetGradient, Data, DirectConfig, Fit, HistoryPrecision, Memory, Objective, OptimiserKind,
    OptimiserSettings, Schedule, Training,
};
use cords::net::{Adaptation, CellKind, CordsNet, Euler, Graph};

use super::cells::{Quadratic, with_cell};
use super::{architecture, networks, normal, objective, parameters};

/// Central differences of the objective along single parameters, in float64; the trial starts from r = 0, so that no
/// parameter moves its start.
#[test]
fn gradients_of_every_graph_equal_finite_differences() {
    let objective = objective(0);
    let own = (
        "a cell of one's own".to_owned(),
        with_cell(3, "quadratic", Quadratic(30.0)),
    );
    for (name, graph) in networks().into_iter().chain([own]) {
        let start = parameters(&graph, 7);
        let (images, targets) = (normal(graph.image_len() * 2, 8), Target::of_mixed(&[1, 0], 0.8));
        let batch = Batch {
            images: &images,
            targets: &targets,
        };
        for phi in [Phi::Relu, Phi::LeakyRelu(0.3)] {
            let with = |memory| {
                let euler = Euler::new(2.0, 10.0);
                let precision = HistoryPrecision::Float32;
                CordsNetGradient::new(&Cpu, &graph, &start, &euler, phi, &objective)
                    .expect("a network")
                    .keeping(memory, precision)
            };
            let mut gradient = with(Memory::Unlimited);
            let found = gradient.run(batch, &[]).expect("a batch").gradients;
            let sparse = with(Memory::Every(2)).run(batch, &[]).expect("a batch").gradients;
            assert!(sparse == found, "{name}, {phi:?}: checkpoints leave no trace");
            for (parameter, values) in found.iter() {
                let size = values.data.iter().map(|g| g.abs()).fold(0.0, f64::max);
                assert!(size > 0.0, "{name}, {phi:?}: {parameter} matters");
                let place = values.data.len() / 3;
                let mut loss = |change: f64| {
                    let mut moved = start.clone();
                    moved.get_mut(parameter).expect("a parameter").data[place] += change;
                    gradient.set_parameters(&moved).expect("the same network");
                    gradient.run(batch, &[]).expect("a batch").loss.loss
                };
                const STEP: f64 = 1e-6;
                let difference = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                let error = (difference - values.data[place]).abs() / size;
                assert!(
                    error < 1e-4,
                    "{name}, {phi:?}: {parameter}[{place}] {difference} {}",
                    values.data[place]
                );
            }
        }
    }
}

/// Rounded activity does not tell the sign of currents there.
#[test]
fn channels_with_time_constants_take_no_bfloat16() {
    let (_, graph) = networks().pop().expect("networks");
    let objective = Objective {
        spontaneous_steps: 1,
        stimulus_steps: 3,
        after_steps: 0,
        ramp: vec![1.0],
        return_weight: 0.0,
        return_window: 0,
    };
    let (start, euler) = (parameters(&graph, 7), Euler::published());
    let gradient = CordsNetGradient::new(&Cpu, &graph, &start, &euler, Phi::Relu, &objective).expect("a network");
    let images = normal(graph.image_len(), 8);
    let batch = Batch {
        images: &images,
        targets: &[Target::from(1)],
    };
    let mut gradient = gradient.keeping(Memory::Unlimited, HistoryPrecision::Bfloat16);
    let refused = gradient.run(batch, &[]).expect_err("refused").to_string();
    assert!(
        refused.contains("bfloat16") && refused.contains("area late"),
        "{refused}"
    );
    // They are parameters.
    let mut description = graph.description().clone();
    description.areas[0].trains_tau = false;
    let refused = Graph::new(description).expect_err("refused").to_string();
    assert!(
        refused.contains("area late") && refused.contains("trains_tau"),
        "{refused}"
    );
}

/// A return term that outweighs the loss shortens time constants, which stop at the Euler step.
#[test]
fn trained_time_constants_stay_at_the_step_at_least() {
    let euler = Euler::new(5.0, 10.0);
    let mut description = architecture().graph().expect("valid").description().clone();
    for area in &mut description.areas {
        (area.tau_ms, area.trains_tau) = (Some(5.2), true);
    }
    description.areas[1].cell = CellKind::Adapting(Adaptation {
        tau_a_ms: 5.2,
        beta: 0.3,
        trained: true,
    });
    let graph = Graph::new(description).expect("valid");
    let values = normal(12 * graph.image_len(), 9)
        .iter()
        .map(|value| *value as f32)
        .collect();
    let labels = (0..12).map(|image| image % 3).collect();
    let images = MemoryImages::new([2, 25], 3, values, labels).expect("images");
    let config = DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 40.0,
        after_ms: 20.0,
        readout_window_ms: 20.0,
        return_window_ms: 10.0,
        // Activity returns sooner where time constants are shorter.
        return_weight: 1e3,
        fit: Fit {
            epochs: 3,
            batch: 4,
            optimiser: OptimiserSettings::new(OptimiserKind::Adam, 0.0),
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            warm_up: None,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let data = Data {
        train: &images,
        validation: &images,
    };
    let trained = Training::new(&graph, &config, &data)
        .euler(&euler)
        .run(&Cpu)
        .expect("trained");
    assert!(trained.epochs.iter().all(|epoch| epoch.loss.is_finite()));
    // One step of the optimiser is longer than the way from 5.2 ms to the Euler step.
    let names = ["log_tau.0", "log_tau.1", "log_tau.2", "log_tau.3", "log_tau_a.1"];
    let taus = names.map(|name| f64::from(trained.parameters.get(name).expect("trained").data[0]).exp());
    assert!(taus.iter().all(|tau| *tau >= 5.0), "{taus:?} ms");
    assert!(taus.iter().any(|tau| *tau < 5.01), "{taus:?} ms");
    let net = CordsNet::new(&graph, &trained.parameters, &euler, Phi::Relu).expect("a network");
    assert!(net.euler().tau_ms.iter().all(|tau| *tau >= 5.0));
    // Below the step they are refused, whoever has trained them.
    for name in ["log_tau.2", "log_tau_a.1"] {
        let mut parameters = trained.parameters.clone();
        parameters.get_mut(name).expect("trained").data[0] = 1.2;
        let refused = CordsNet::new(&graph, &parameters, &euler, Phi::Relu);
        let refused = refused.err().expect("too fast").to_string();
        assert!(
            refused.contains(name) && refused.contains("Euler step of 5 ms"),
            "{refused}"
        );
    }
}
