//! A small training whose memory can be held against its plan.

use crate::data::Images;
use crate::device::Device;
use crate::learn::{Data, DirectConfig, Fit, HistoryPrecision, TrainError, Training};
use crate::net::Graph;
use crate::rng::{Purpose, Stream};

/// Images of a batch.
pub const BATCH: usize = 16;

/// Images of normal noise, their classes in turn.
pub(crate) struct Noise {
    pub(crate) count: usize,
    pub(crate) channels: usize,
    pub(crate) side: usize,
    pub(crate) classes: usize,
}

impl Images for Noise {
    fn len(&self) -> usize {
        self.count
    }
    fn channels(&self) -> usize {
        self.channels
    }
    fn side(&self) -> usize {
        self.side
    }
    fn classes(&self) -> usize {
        self.classes
    }
    fn label(&self, i: usize) -> u32 {
        (i % self.classes) as u32
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
    let architecture = Graph::published(4, 3, 64, 10)?;
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
    let noise = |count| Noise {
        count,
        channels: 3,
        side: 64,
        classes: 10,
    };
    let data = Data {
        train: &noise(3 * BATCH),
        validation: &noise(BATCH),
    };
    Training::new(&architecture, &config, &data).run(device).map(|_| ())
}

/// The least number of bytes that [`train_within`] takes.
///
/// # Errors
/// [`TrainError`] of [`train_within`], but for its want of memory.
pub fn needed<D: Device<f32>>(device: &D, history: HistoryPrecision) -> Result<u64, TrainError> {
    match train_within(device, history, 1) {
        Err(TrainError::Memory { needed, .. }) => Ok(needed),
        Err(error) => Err(error),
        Ok(()) => Ok(0),
    }
}
