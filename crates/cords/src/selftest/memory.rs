//! A small training whose memory can be held against its plan.

use crate::data::MemoryImages;
use crate::device::Device;
use crate::learn::{Data, DirectConfig, Fit, HistoryPrecision, TrainError, Training};
use crate::net::Graph;
use crate::rng::{Purpose, Stream};

/// Images of a batch.
pub const BATCH: usize = 16;

/// So many images of normal noise, `[channels, side, side]` each, their classes in turn.
pub(crate) fn noise(count: usize, [channels, side]: [usize; 2], classes: usize) -> MemoryImages {
    let len = channels * side * side;
    let mut values = vec![0.0; count * len];
    for (image, out) in values.chunks_exact_mut(len).enumerate() {
        Stream::new(1, Purpose::Probe, image as u64, 0, 0, 0).normal_fill(out);
    }
    let labels = (0..count).map(|image| (image % classes) as u32).collect();
    MemoryImages::new([channels, side], classes, values, labels).expect("finite values and labels of classes")
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
    let data = Data {
        train: &noise(3 * BATCH, [3, 64], 10),
        validation: &noise(BATCH, [3, 64], 10),
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
