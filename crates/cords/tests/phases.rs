//! The phases between the CNN and the recurrent network: folding and inversion, against float64 reference tensors and
//! against the networks that they must agree with.
//!
//! Error measure, per tensor: largest difference over largest entry. Only the order of sums differs in float64, so 1e-9
//! leaves a wide margin; float32 rounds by 6e-8 in sums of about 1e3 terms, a dozen layers deep.

mod support;

use cords::learn::{AreaInversion, fold};
use cords::net::{Cnn, NetError, Parameters};
use cords::{Real, Tensor};
use support::{Fixture, assert_close};

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
    let (corner, centre) = (bias.data[0], bias.data[side / 2 * (side + 1)]);
    assert!((corner - centre).abs() > 1e-3, "{corner} {centre}");
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
