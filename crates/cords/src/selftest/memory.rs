//! A small training whose memory can be held against its plan.

use std::ops::ControlFlow;

use crate::device::Device;
use crate::learn::{Data, DirectConfig, Fit, HistoryPrecision, Images, TrainError, train_cordsnet};
use crate::net::{Architecture, Euler};
use crate::rng::{Purpose, Stream};

/// Images of a batch.
pub const BATCH: usize = 16;

/// So many images of noise.
struct Noise(usize);

impl Images for Noise {
    fn len(&self) -> usize {
        self.0
    }
    fn channels(&self) -> usize {
        3
    }
    fn side(&self) -> usize {
        64
    }
    fn classes(&self) -> usize {
        10
    }
    fn label(&self, i: usize) -> u32 {
        (i % 10) as u32
    }
    fn fill(&self, i: usize, _epoch: u32, out: &mut [f32]) {
        Stream::new(1, Purpose::Probe, i as u64, 0, 0, 0).normal_fill(out);
    }
}

/// Trains a network of four areas for three batches and looks at the result, in so many bytes of the device's memory.
///
/// # Errors
/// [`TrainError::Memory`] with what it needs where that is more, [`TrainError::Device`] where the device fails.
pub fn train_within<D: Device<f32>>(device: &D, history: HistoryPrecision, bytes: u64) -> Result<(), TrainError> {
    let architecture = Architecture::published(4, 3, 64, 10)?;
    let config = DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 60.0,
        after_ms: 60.0,
        readout_window_ms: 20.0,
        history,
        memory_budget: Some(bytes),
        fit: Fit {
            epochs: 1,
            batch: BATCH,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let data = Data {
        train: &Noise(3 * BATCH),
        validation: &Noise(BATCH),
    };
    let mut go = |_: crate::learn::Progress<'_>| ControlFlow::Continue(());
    train_cordsnet(
        device,
        &architecture,
        &Euler::published(),
        &config,
        &data,
        None,
        &mut go,
    )
    .map(|_| ())
}

/// The least number of bytes that [`train_within`] takes.
///
/// # Errors
/// As there.
pub fn needed<D: Device<f32>>(device: &D, history: HistoryPrecision) -> Result<u64, TrainError> {
    match train_within(device, history, 1) {
        Err(TrainError::Memory { needed, .. }) => Ok(needed),
        Err(error) => Err(error),
        Ok(()) => Ok(0),
    }
}
