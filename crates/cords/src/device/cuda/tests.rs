use std::ops::ControlFlow;

use super::emulated::{Emulated, launched, signatures};
use super::*;
use crate::learn::{
    Data, DirectConfig, Fit, HistoryPrecision, Images, TrainError, train_cordsnet, with_images_that_fit,
};
use crate::net::{Architecture, Euler};
use crate::rng::{Purpose, Stream};
use crate::selftest;

const ENOUGH: usize = 1 << 30;

fn device() -> Cuda<Emulated> {
    Cuda::new(Emulated::new(ENOUGH), 8)
}

#[test]
fn every_kernel_equals_float64() {
    let findings = selftest::kernels(&device(), 6e-8).expect("it does not fail");
    assert!(findings.len() > 200, "{}", findings.len());
    let missed: Vec<_> = findings.iter().filter(|finding| !finding.passed()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    let launched = launched().lock().expect("no panic in there").clone();
    let known: Vec<String> = signatures().into_keys().collect();
    let idle: Vec<_> = known.iter().filter(|name| !launched.contains(name.as_str())).collect();
    assert!(idle.is_empty(), "kernels that no method uses: {idle:?}");
}

/// A device that has no memory left does nothing more, and says so; what it held goes back.
#[test]
fn the_first_failure_stays() {
    let gpu = Emulated::new(1000);
    let device = Cuda::new(gpu.clone(), 8);
    let x = device.upload(&[1.0; 200]);
    assert_eq!(device.check(), Ok(()));
    let mut y = device.zeros(100);
    let failure = Err(DeviceError::Memory { bytes: 400 });
    assert_eq!(device.check(), failure);
    device.add(&device.zeros(100), &mut y);
    assert_eq!(device.download(&y), vec![0.0; 100]);
    // There would be room now.
    assert_eq!(device.download(&device.zeros(1)), [0.0]);
    assert_eq!(device.clone().check(), failure);
    drop(x);
    assert_eq!(gpu.left(), 1000);
}

#[test]
fn networks_equal_float64() {
    let findings = selftest::networks(&device(), [6e-6, 6e-5]).expect("it does not fail");
    let missed: Vec<_> = findings.iter().filter(|finding| !finding.passed()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// What the selftest allows for a GPU that rounds the factors of convolutions to eleven significant bits is enough for that; what
/// is allowed for float32 is not.
#[test]
fn rounded_products_are_found_and_allowed_for() {
    let device = Cuda::new(Emulated::new(ENOUGH).rounded(11), 8);
    let run = |rounding, bounds| {
        let mut findings = selftest::kernels(&device, rounding).expect("it does not fail");
        findings.extend(selftest::networks(&device, bounds).expect("it does not fail"));
        findings.retain(|finding| !finding.passed());
        findings
    };
    let missed = run(4.9e-4, [1e-2, 1e-1]);
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(run(6e-8, [6e-6, 6e-5]).len() > 50);
}

/// So many images of noise.
struct Noise(usize);

impl Images for Noise {
    fn len(&self) -> usize {
        self.0
    }
    fn channels(&self) -> usize {
        2
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
    fn fill(&self, i: usize, _epoch: u32, out: &mut [f32]) {
        Stream::new(1, Purpose::Probe, i as u64, 0, 0, 0).normal_fill(out);
    }
}

fn train<D: Device<f32>>(
    device: &D,
    history: HistoryPrecision,
    memory_budget: Option<u64>,
) -> Result<Vec<f32>, TrainError> {
    let architecture = Architecture {
        in_channels: 2,
        image_side: 16,
        channels: vec![8, 8, 8],
        strides: vec![1, 1],
        classes: 3,
    };
    let config = DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 40.0,
        after_ms: 60.0,
        readout_window_ms: 20.0,
        history,
        memory_budget,
        fit: Fit {
            epochs: 2,
            batch: 12,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let data = Data {
        train: &Noise(12),
        validation: &Noise(8),
    };
    let euler = Euler::published();
    let mut go = |_: crate::learn::Progress<'_>| ControlFlow::Continue(());
    let trained = train_cordsnet(device, &architecture, &euler, &config, &data, None, &mut go)?;
    Ok(trained
        .parameters
        .iter()
        .flat_map(|(_, tensor)| tensor.data.clone())
        .collect())
}

/// Training on both devices goes the same way; what is asked for as a budget is enough, and too little memory is an error of its
/// own kind.
#[test]
fn training_goes_as_on_the_cpu_and_within_its_budget() {
    for history in [HistoryPrecision::Exact, HistoryPrecision::Bfloat16] {
        let expected = train(&crate::device::Cpu, history, None).expect("trained");
        let gpu = Emulated::new(ENOUGH);
        let found = train(&Cuda::new(gpu.clone(), 8), history, None).expect("trained");
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let difference = found
            .iter()
            .zip(&expected)
            .fold(0.0f32, |d, (a, b)| d.max((a - b).abs()));
        assert!(difference < 1e-4 * largest, "{history:?}: {difference} of {largest}");
        assert_eq!(gpu.left(), ENOUGH, "everything goes back");
        let unlimited = ENOUGH - gpu.least();

        let Err(TrainError::Memory { needed, .. }) = train(&device(), history, Some(1)) else {
            panic!("a budget of one byte must be refused");
        };
        let exactly = Emulated::new(needed as usize);
        let small = train(&Cuda::new(exactly.clone(), 8), history, Some(needed)).expect("its budget is enough");
        assert!(small == found, "the memory does not show");
        let taken = needed as usize - exactly.least();
        assert!(
            taken > needed as usize / 2 && taken < unlimited,
            "{history:?}: {taken} of {needed}, {unlimited}"
        );

        // Where twelve images at a time do not fit, fewer do.
        let little = Emulated::new(taken);
        let (fewer, images) =
            with_images_that_fit(&little, 12, |device| train(device, history, None)).expect("fewer images fit");
        assert!(images < 12, "{images}");
        let difference = fewer
            .iter()
            .zip(&expected)
            .fold(0.0f32, |d, (a, b)| d.max((a - b).abs()));
        assert!(difference < 1e-4 * largest, "{history:?}: {difference} of {largest}");

        let none = Cuda::new(Emulated::new(taken / 2), 8);
        let error = train(&none, history, None).expect_err("no room");
        assert!(
            matches!(error, TrainError::Device(DeviceError::Memory { .. })),
            "{error}"
        );
    }
}
