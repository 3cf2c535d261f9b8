//! A training goes on from where a shorter one ended, to the same bytes as from the beginning.

use std::ops::ControlFlow;
use std::path::Path;

use cords::device::Cpu;
use cords::learn::{
    CheckpointProgress, CnnConfig, Data, DirectConfig, EpochRecord, FinalStates, Fit, Initialisation, Keep,
    OptimiserKind, OptimiserSettings, PhiSchedule, Progress, Schedule, Training, TrainingPosition, WarmUp,
    WindowRecord,
};
use cords::net::{Euler, ModelInfo};

use crate::class_noise::{ClassNoise, architecture};

/// Images of a set.
fn noise(count: usize, seed: u64) -> ClassNoise {
    ClassNoise {
        count,
        seed,
        distance: 1.0,
        mixes: false,
    }
}

/// Batches of an epoch of 42 images.
const BATCHES: usize = 4;

/// The learning rate falls after every second epoch, and its warm-up begins anew.
fn fit(epochs: usize) -> Fit {
    Fit {
        epochs,
        batch: 11,
        optimiser: OptimiserSettings::new(OptimiserKind::AdamW, 0.01),
        schedule: Schedule::Step { epochs: 2, factor: 0.1 },
        warm_up: Some(WarmUp { steps: 5, start: 0.1 }),
        seed: 4,
        ..Fit::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Network {
    CordsNet,
    Cnn,
    /// Phase `anneal`: phi bends over all epochs.
    Annealed,
}

/// What must not depend on where a training began.
#[derive(Debug, PartialEq)]
struct Trained {
    model: Vec<u8>,
    epochs: Vec<EpochRecord>,
    windows: Vec<WindowRecord>,
}

/// What was trained, in how many batches, and where it went on from.
fn train(network: Network, fit: Fit, folder: Option<&Path>) -> (Trained, usize, Option<TrainingPosition>) {
    let (train, validation) = (noise(42, 1), noise(13, 2));
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let states = folder.map(|folder| FinalStates {
        folder: folder.to_owned(),
        identity: format!("{network:?}"),
    });
    let (mut batches, mut grown) = (0, None);
    let mut observer = |progress: Progress<'_>| {
        match progress {
            Progress::Batch { .. } => batches += 1,
            Progress::Checkpoint(CheckpointProgress::Grown(place)) => grown = Some(place),
            Progress::Checkpoint(other) => panic!("{other:?}"),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let architecture = architecture();
    let (model, epochs, windows) = match network {
        Network::Cnn => {
            let config = CnnConfig { fit };
            let training = Training::new(&architecture, &config, &data).final_states(states.as_ref());
            let mut trained = training.observer(&mut observer).run(&Cpu).expect("trained");
            let epochs = std::mem::take(&mut trained.epochs);
            (trained.into_model(ModelInfo::default()), epochs, Vec::new())
        }
        Network::CordsNet | Network::Annealed => {
            let config = DirectConfig {
                spontaneous_ms: 20.0,
                stimulus_ms: 30.0,
                after_ms: 15.0,
                readout_window_ms: 10.0,
                return_window_ms: 10.0,
                fit,
                ..DirectConfig::default()
            };
            let training = Training::new(&architecture, &config, &data).euler(&Euler::new(5.0, 10.0));
            let training = training.final_states(states.as_ref()).observer(&mut observer);
            let trained = match network {
                Network::Annealed => {
                    let start = Initialisation::default().cordsnet(&architecture, 8);
                    training.run_from(&Cpu, &start, PhiSchedule::Annealed)
                }
                _ => training.run(&Cpu),
            };
            let mut trained = trained.expect("trained");
            let epochs = std::mem::take(&mut trained.epochs);
            let windows = std::mem::take(&mut trained.windows);
            (trained.into_model(ModelInfo::default()), epochs, windows)
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    model.save(&path).expect("saved");
    let timeless = |record: EpochRecord| EpochRecord {
        seconds: 0.0,
        waiting_seconds: 0.0,
        ..record
    };
    let trained = Trained {
        model: std::fs::read(path).expect("read"),
        epochs: epochs.into_iter().map(timeless).collect(),
        windows,
    };
    (trained, batches, grown)
}

#[test]
fn a_longer_training_goes_on_from_a_shorter_one_to_the_same_bytes() {
    for network in [Network::CordsNet, Network::Cnn] {
        for keep in [Keep::Last, Keep::Best] {
            let fit = |epochs| Fit { keep, ..fit(epochs) };
            let folder = tempfile::tempdir().expect("a folder");
            let mut before = 0;
            for epochs in [1, 3, 5] {
                let (expected, ..) = train(network, fit(epochs), None);
                let (trained, batches, grown) = train(network, fit(epochs), Some(folder.path()));
                assert!(trained == expected, "{network:?}, {keep:?}, {epochs} epochs");
                assert_eq!(batches, (epochs - before) * BATCHES);
                assert_eq!(grown.map(|place| place.epoch), (before > 0).then_some(before));
                before = epochs;
            }
            // The longest is kept, and a shorter one begins anew.
            let names: Vec<_> = std::fs::read_dir(folder.path())
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            assert_eq!(names, ["epochs-5.safetensors"]);
            let (_, batches, grown) = train(network, fit(2), Some(folder.path()));
            assert_eq!((batches, grown), (2 * BATCHES, None));
        }
    }
}

#[test]
fn a_training_whose_epochs_depend_on_their_number_begins_anew() {
    let cosine = |epochs| Fit {
        schedule: Schedule::Cosine { end: 0.0 },
        ..fit(epochs)
    };
    for (network, of) in [
        (Network::Cnn, &cosine as &dyn Fn(usize) -> Fit),
        (Network::Annealed, &fit),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        for epochs in [1, 2] {
            let (_, batches, grown) = train(network, of(epochs), Some(folder.path()));
            assert_eq!((batches, grown), (epochs * BATCHES, None), "{network:?}");
        }
    }
}

#[test]
fn states_that_are_damaged_or_of_other_trainings_are_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    train(Network::Cnn, fit(1), Some(folder.path()));
    let file = folder.path().join("epochs-1.safetensors");
    let mut bytes = std::fs::read(&file).expect("a state");
    // Another network's, under the same folder.
    let (_, batches, grown) = train(Network::CordsNet, fit(2), Some(folder.path()));
    assert_eq!((batches, grown), (2 * BATCHES, None));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::remove_dir_all(folder.path()).expect("removed");
    std::fs::create_dir(folder.path()).expect("made");
    std::fs::write(&file, bytes).expect("written");
    let (_, batches, grown) = train(Network::Cnn, fit(2), Some(folder.path()));
    assert_eq!((batches, grown), (2 * BATCHES, None));
}
