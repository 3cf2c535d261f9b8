//! The phases of staged training: folding and inversion against float64 reference tensors and against the networks that
//! they must agree with, and all of them in a row on a small task.
//!
//! Error measure, per tensor: largest difference over largest entry. Only the order of sums differs in float64, so 1e-9
//! leaves a wide margin; float32 rounds by 6e-8 in sums of about 1e3 terms, a dozen layers deep.

use crate::support::{Fixture, assert_close};
use cords::data::{DataError, Images};
use cords::device::{Cpu, Phi};
use cords::learn::{
    AreaInversion, CnnConfig, Data, DirectConfig, Fit, Initialisation, InvertConfig, PhiSchedule, Schedule, TrainError,
    Training, evaluate,
};
use cords::net::{Architecture, Cnn, Euler, Graph, ModelInfo, NetError, Parameters, fold};
use cords::rng::{Purpose, Stream};
use cords::{Real, Tensor};

const DOUBLE: f64 = 1e-9;

/// The CNN of the fixture after its one training pass.
fn trained_cnn<T: Real>(fixture: &Fixture) -> Parameters<T> {
    let mut parameters = fixture.parameters::<T>("param.");
    for (name, tensor) in fixture.parameters::<T>("running.").iter() {
        parameters.insert(name, tensor.clone());
    }
    parameters
}

fn check_fold<T: Real>(tolerance: f64) {
    let fixture = Fixture::open("cnn.safetensors");
    let architecture = fixture.architecture();
    let folded = fold(&architecture, &trained_cnn::<T>(&fixture)).expect("the fixture is a CNN");
    let cnn = Cnn::new(&architecture, &folded).expect("a folded CNN");
    let images = fixture.tensor("images").cast::<T>();
    let (logits, activity) = cnn.evaluate(&images.data, fixture.labels().len());
    assert_close("logits", &logits, &fixture.tensor("logits_eval_after").data, tolerance);
    for (area, found) in activity.iter().enumerate() {
        let expected = fixture.tensor(&format!("activity_eval_after.{area}")).data;
        assert_close(&format!("area {area}"), found, &expected, tolerance);
    }
}

#[test]
fn fixture_folded_cnn_in_double() {
    check_fold::<f64>(DOUBLE);
}

#[test]
fn fixture_folded_cnn_in_single() {
    check_fold::<f32>(1e-5);
}

/// Large shifts, so that every border counts, and batch norms that turn signs around or remove a channel.
#[test]
fn folding_keeps_any_batch_norm() {
    let fixture = Fixture::open("cnn.safetensors");
    let architecture = fixture.architecture();
    let mut parameters = trained_cnn::<f64>(&fixture);
    let names: Vec<String> = parameters.iter().map(|(name, _)| name.to_owned()).collect();
    for (seed, name) in names.iter().enumerate() {
        let Some((module, part)) = name.rsplit_once('.') else {
            continue;
        };
        if !(module.contains("norm") || module.contains("nrm2")) {
            continue;
        }
        let tensor = parameters.get_mut(name).expect("named by itself");
        for (channel, value) in tensor.data.iter_mut().enumerate() {
            let wave = ((seed * 31 + channel * 7) as f64).sin();
            *value = match part {
                "weight" if channel == 2 => 0.0,
                "running_var" => 0.5 + wave * wave,
                _ => 2.0 * wave,
            };
        }
    }
    let images = fixture.tensor("images").data;
    let count = fixture.labels().len();
    let evaluate = |parameters| {
        Cnn::new(&architecture, parameters)
            .expect("a CNN")
            .evaluate(&images, count)
    };
    let folded = fold(&architecture, &parameters).expect("a CNN");
    let (expected, areas) = evaluate(&parameters);
    let (found, folded_areas) = evaluate(&folded);
    assert_close("logits", &found, &expected, DOUBLE);
    for (found, expected) in folded_areas.iter().zip(&areas) {
        assert_close("activity", found, expected, DOUBLE);
    }
    // Biases differ between border and centre: one value a channel could not have done it.
    let bias = folded.get("area_bias.1").expect("an area's bias");
    let side = bias.shape[2];
    let differ = bias
        .data
        .chunks_exact(side * side)
        .filter(|map| (map[0] - map[side / 2 * (side + 1)]).abs() > 1e-3);
    assert!(differ.count() > 1, "{:?}", bias.data);
    assert!(matches!(fold(&architecture, &folded), Err(NetError::Missing { .. })));
}

fn check_inversion<T: Real>(tolerance: f64) {
    let fixture = Fixture::open("invert.safetensors");
    let mut areas = 0;
    while !fixture.parameters::<f64>(&format!("{areas}.")).is_empty() {
        let area = areas;
        let reference = |name: &str| fixture.tensor(&format!("{area}.{name}"));
        let given = |name: &str| -> Tensor<T> { reference(name).cast() };
        let found = AreaInversion {
            target_weight: &given("target_weight"),
            area_bias: &given("area_bias"),
            conv_bias: &given("conv_bias"),
            drive: &given("input"),
            weight: &given("weight"),
            bias: &given("bias"),
        }
        .gradient(fixture.number("eigen_weight"))
        .expect("shapes fit");
        let check = |name: &str, found: &[T]| {
            assert_close(
                &format!("{name} of area {area}"),
                found,
                &reference(name).data,
                tolerance,
            );
        };
        check("target", &found.target);
        check("error", &[T::from_f64(found.error)]);
        check("eigen", &[T::from_f64(found.contraction)]);
        check("grad_weight", &found.weight);
        check("grad_bias", &found.bias);
        areas += 1;
    }
    assert!(areas > 0, "the fixture has no areas");
}

#[test]
fn fixture_inversion_in_double() {
    check_inversion::<f64>(DOUBLE);
}

#[test]
fn fixture_inversion_in_single() {
    check_inversion::<f32>(1e-4);
}

/// Horizontal, vertical and diagonal gratings of random phase in noise.
struct Gratings {
    count: usize,
    seed: u64,
}

impl Images for Gratings {
    fn len(&self) -> usize {
        self.count
    }
    fn channels(&self) -> usize {
        1
    }
    fn side(&self) -> usize {
        16
    }
    fn classes(&self) -> usize {
        3
    }
    fn label(&self, i: usize) -> u32 {
        (i % 3) as u32
    }
    fn fill(&self, i: usize, _epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        let mut stream = Stream::new(self.seed, Purpose::Probe, i as u64, 0, 0, 0);
        let phase = stream.uniform() * std::f64::consts::TAU;
        let mut noise = vec![0.0f32; out.len()];
        stream.normal_fill(&mut noise);
        for (index, (value, noise)) in out.iter_mut().zip(&noise).enumerate() {
            let (row, column) = (index / 16, index % 16);
            let position = [row, column, row + column][i % 3];
            *value = (position as f64 * 0.8 + phase).sin() as f32 + 0.3 * noise;
        }
        Ok(())
    }
}

fn architecture() -> Graph {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![6, 6, 6, 8, 8],
        strides: vec![1, 1, 2, 1],
        classes: 3,
    }
    .graph()
    .expect("valid")
}

fn fit(epochs: usize, learning_rate: f64) -> Fit {
    Fit {
        epochs,
        batch: 24,
        learning_rate,
        schedule: Schedule::Constant,
        warm_up: None,
        ..Fit::default()
    }
}

fn trials(fit: Fit) -> DirectConfig {
    DirectConfig {
        spontaneous_ms: 50.0,
        stimulus_ms: 50.0,
        after_ms: 50.0,
        readout_window_ms: 20.0,
        return_window_ms: 10.0,
        fit,
        ..DirectConfig::default()
    }
}

/// What phase `linear` asks for: the readout alone, from r = 0.
fn linear_trials(fit: Fit) -> DirectConfig {
    DirectConfig {
        spontaneous_ms: 0.0,
        after_ms: 0.0,
        return_weight: 0.0,
        return_window_ms: 0.0,
        ..trials(fit)
    }
}

fn proceed(
    start: &Parameters<f32>,
    schedule: PhiSchedule,
    config: &DirectConfig,
) -> Result<cords::learn::TrainedCordsNet, TrainError> {
    let (train, validation) = (Gratings { count: 144, seed: 1 }, Gratings { count: 60, seed: 2 });
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let euler = Euler::new(5.0, 10.0);
    let architecture = architecture();
    let training = Training::new(&architecture, config, &data).euler(&euler);
    training.run_from(&Cpu, start, schedule)
}

/// All six phases: every one leaves a network that knows far more than chance (1/3) of images that it has not seen.
#[test]
fn the_phases_in_a_row() {
    let architecture = architecture();
    let (train, validation) = (Gratings { count: 144, seed: 1 }, Gratings { count: 60, seed: 2 });
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let config = CnnConfig { fit: fit(15, 5e-3) };
    let cnn = Training::new(&architecture, &config, &data).run(&Cpu).expect("a CNN");
    let folded = fold(&architecture, &cnn.parameters).expect("folded");
    let accuracy = |parameters: &Parameters<f32>| {
        let model = cords::net::Model::Cnn {
            architecture: architecture.clone(),
            parameters: parameters.clone(),
            info: ModelInfo::default(),
        };
        evaluate(&Cpu, &model, &validation, None)
            .expect("evaluated")
            .answers
            .accuracy
    };
    let baseline = accuracy(&folded);
    assert_eq!(baseline, accuracy(&cnn.parameters), "folding changes no answer");
    assert!(baseline > 0.8, "{baseline}");

    let config = InvertConfig {
        stimulus_ms: 50.0,
        fit: fit(15, 5e-3),
        ..InvertConfig::default()
    };
    let euler = Euler::new(5.0, 10.0);
    let training = Training::new(&architecture, &config, &data).euler(&euler);
    let inverse = training.run(&Cpu, &folded).expect("an inverse");
    assert_eq!(inverse.areas.len(), 15 * 4);
    for area in 0..4 {
        let errors: Vec<f64> = inverse
            .areas
            .iter()
            .filter(|(_, record)| record.area == area)
            .map(|(_, record)| record.error)
            .collect();
        assert!(errors[14] < 0.7 * errors[0], "area {area}: {errors:?}");
    }
    let last = |trained: &cords::learn::TrainedCordsNet| trained.epochs.last().expect("records").validation_accuracy;
    let config = linear_trials(fit(10, 5e-3));
    let linear = proceed(&inverse.parameters, PhiSchedule::Held(Phi::Identity), &config).expect("linear");
    assert_eq!(linear.phi, Phi::Identity);
    assert!(last(&linear) > 0.8, "linear: {}", last(&linear));
    let config = trials(fit(10, 2e-3));
    let annealed = proceed(&linear.parameters, PhiSchedule::Annealed, &config).expect("annealed");
    assert_eq!(annealed.phi, Phi::Relu);
    assert!(last(&annealed) > 0.8, "anneal: {}", last(&annealed));
    let config = trials(fit(3, 1e-3));
    let tuned = proceed(&annealed.parameters, PhiSchedule::Held(Phi::Relu), &config).expect("fine-tuned");
    assert!(last(&tuned) > 0.8, "finetune: {}", last(&tuned));
}

/// Where every area_conv is 1.25 times the identity, W = 0.2 is nearly exact: 1 + 0.2 + 0.04 + 0.008.
#[test]
fn an_inverse_that_exists_is_found() {
    let architecture = architecture();
    let mut folded = fold(&architecture, &Initialisation::default().cnn(&architecture, 3)).expect("folded");
    for area in 0..4 {
        let name = |part: usize| format!("area_conv.{area}.parametrizations.weight.original{part}");
        folded.get_mut(&name(0)).expect("g").data.fill(1.25);
        let v = folded.get_mut(&name(1)).expect("v");
        let channels = v.shape[0];
        v.data.fill(0.0);
        for channel in 0..channels {
            v.data[(channel * channels + channel) * 9 + 4] = 1.0;
        }
        let bias = folded.get_mut(&format!("area_bias.{area}")).expect("a bias");
        bias.data
            .iter_mut()
            .enumerate()
            .for_each(|(unit, bias)| *bias = (unit as f32).sin());
    }
    let (train, validation) = (Gratings { count: 144, seed: 1 }, Gratings { count: 60, seed: 2 });
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let config = InvertConfig {
        fit: Fit {
            schedule: Schedule::Cosine { end: 0.0 },
            ..fit(40, 2e-2)
        },
        ..InvertConfig::default()
    };
    let euler = Euler::new(5.0, 10.0);
    let training = || Training::new(&architecture, &config, &data).euler(&euler);
    let inverse = training().run(&Cpu, &folded).expect("an inverse");
    for (_, record) in inverse.areas.iter().rev().take(4) {
        assert!(record.explained > 0.95, "{record:?}");
        assert!(record.contraction < 0.01 * record.error.max(1.0), "{record:?}");
    }
    assert!(matches!(
        training().run(&Cpu, &Initialisation::default().cnn(&architecture, 3)),
        Err(TrainError::Net(NetError::Missing { .. }))
    ));
}

#[test]
fn slopes_fall_evenly_to_relu() {
    let slopes: Vec<f64> = (0..20)
        .map(|epoch| PhiSchedule::Annealed.at(epoch, 20).slope())
        .collect();
    let expected: Vec<f64> = (1..=20).map(|k| 1.0 - 0.05 * f64::from(k)).collect();
    let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
    assert!(slopes.iter().zip(&expected).all(close), "{slopes:?}");
    assert_eq!(PhiSchedule::Annealed.at(19, 20), Phi::Relu);

    // One epoch of annealing is one of ReLU. Of two, the second begins as if nothing had been before but the first's
    // weights: with a fresh optimiser.
    let start = Initialisation::default().cordsnet(&architecture(), 5);
    let run = |start: &Parameters<f32>, schedule, epochs| {
        proceed(start, schedule, &trials(fit(epochs, 2e-3))).expect("trained")
    };
    let relu = run(&start, PhiSchedule::Held(Phi::Relu), 1);
    assert_eq!(run(&start, PhiSchedule::Annealed, 1).parameters, relu.parameters);
    let bent = run(&start, PhiSchedule::Held(Phi::LeakyRelu(0.5)), 1);
    assert_ne!(bent.parameters, relu.parameters);
    let annealed = run(&start, PhiSchedule::Annealed, 2);
    assert_eq!(annealed.epochs[0].validation_loss, bent.epochs[0].validation_loss);
    assert_eq!(annealed.phi, Phi::Relu);
}
