//! A training that is stopped or killed goes on to the same bits as one that is not.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use cords::device::Cpu;
use cords::learn::{
    AreaInverse, CheckpointProgress, Checkpoints, CnnConfig, Data, DirectConfig, EpochRecord, Fit, Initialisation,
    InvertConfig, Keep, OptimiserKind, OptimiserSettings, PhiSchedule, Progress, Schedule, TrainError, Training,
    TrainingPosition, WarmUp, WindowRecord,
};
use cords::net::{Euler, ModelInfo, fold};

use crate::class_noise::{ClassNoise, architecture};

/// Images of a set.
fn noise(count: usize, seed: u64) -> ClassNoise {
    ClassNoise {
        count,
        seed,
        distance: 1.0,
        mixes: true,
    }
}

/// 3 epochs of 4 batches of 10 or 11 images, so that the last group of a batch is a remainder.
fn fit(optimiser: OptimiserSettings) -> Fit {
    Fit {
        epochs: 3,
        batch: 11,
        optimiser,
        schedule: Schedule::Cosine { end: 0.1 },
        warm_up: Some(WarmUp { steps: 5, start: 0.1 }),
        seed: 4,
        ..Fit::default()
    }
}

#[derive(Clone, Copy, Debug)]
enum Network {
    CordsNet,
    Cnn,
    /// Phase `invert`, from a folded random CNN.
    Inverse,
    /// Phase `anneal`, from random weights: phi and optimiser change at every epoch.
    Annealed,
    /// As the first, with the weights of the best epoch.
    Best,
}

const ALL: [Network; 5] = [
    Network::CordsNet,
    Network::Cnn,
    Network::Inverse,
    Network::Annealed,
    Network::Best,
];

/// What must not depend on interruptions: the model file's bytes, records without their times, windows.
#[derive(Clone, Debug, PartialEq)]
struct Trained {
    model: Vec<u8>,
    epochs: Vec<EpochRecord>,
    windows: Vec<WindowRecord>,
    areas: Vec<(usize, AreaInverse)>,
}

fn train(
    network: Network,
    threads: usize,
    checkpoints: Option<&Checkpoints>,
    observer: &mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send),
) -> Result<Trained, TrainError> {
    let (train, validation) = (noise(42, 1), noise(13, 2));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a thread pool");
    let (model, epochs, windows, areas) = pool.install(|| {
        let data = Data {
            train: &train,
            validation: &validation,
        };
        let euler = Euler::new(5.0, 10.0);
        match network {
            Network::CordsNet | Network::Annealed | Network::Best => {
                let keep = match network {
                    Network::Best => Keep::Best,
                    _ => Keep::Last,
                };
                let config = DirectConfig {
                    spontaneous_ms: 20.0,
                    stimulus_ms: 30.0,
                    after_ms: 15.0,
                    readout_window_ms: 10.0,
                    return_window_ms: 10.0,
                    fit: Fit {
                        keep,
                        ..fit(OptimiserSettings::new(OptimiserKind::AdamW, 0.01))
                    },
                    ..DirectConfig::default()
                };
                let architecture = architecture();
                let training = Training::new(&architecture, &config, &data).euler(&euler);
                let training = training.checkpoints(checkpoints).observer(observer);
                let mut trained = match network {
                    Network::CordsNet | Network::Best => training.run(&Cpu)?,
                    _ => {
                        let start = Initialisation::default().cordsnet(&architecture, 8);
                        training.run_from(&Cpu, &start, PhiSchedule::Annealed)?
                    }
                };
                let (epochs, windows) = (
                    std::mem::take(&mut trained.epochs),
                    std::mem::take(&mut trained.windows),
                );
                let model = trained.into_model(ModelInfo::default());
                Ok::<_, TrainError>((model, epochs, windows, Vec::new()))
            }
            Network::Cnn => {
                let config = CnnConfig {
                    fit: fit(OptimiserSettings {
                        momentum: 0.9,
                        ..OptimiserSettings::new(OptimiserKind::Sgd, 1e-4)
                    }),
                };
                let architecture = architecture();
                let training = Training::new(&architecture, &config, &data).checkpoints(checkpoints);
                let mut trained = training.observer(observer).run(&Cpu)?;
                let epochs = std::mem::take(&mut trained.epochs);
                let model = trained.into_model(ModelInfo::default());
                Ok((model, epochs, Vec::new(), Vec::new()))
            }
            Network::Inverse => {
                let config = InvertConfig {
                    stimulus_ms: 30.0,
                    fit: fit(OptimiserSettings::new(OptimiserKind::AdamW, 0.01)),
                    ..InvertConfig::default()
                };
                let cnn = Initialisation::default().cnn(&architecture(), 8);
                let start = fold(&architecture(), &cnn)?;
                let architecture = architecture();
                let training = Training::new(&architecture, &config, &data).euler(&euler);
                let training = training.checkpoints(checkpoints).observer(observer);
                let mut trained = training.run(&Cpu, &start)?;
                let (epochs, areas) = (std::mem::take(&mut trained.epochs), std::mem::take(&mut trained.areas));
                Ok((trained.into_model(ModelInfo::default()), epochs, Vec::new(), areas))
            }
        }
    })?;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    model.save(&path).expect("saved");
    let timeless = |record: EpochRecord| EpochRecord {
        seconds: 0.0,
        waiting_seconds: 0.0,
        ..record
    };
    Ok(Trained {
        model: std::fs::read(path).expect("read"),
        epochs: epochs.into_iter().map(timeless).collect(),
        windows,
        areas,
    })
}

fn whole(network: Network, threads: usize) -> Trained {
    train(network, threads, None, &mut |_| ControlFlow::Continue(())).expect("trained")
}

fn checkpoints(folder: &Path, every: Duration) -> Checkpoints {
    Checkpoints {
        folder: folder.to_owned(),
        identity: "a training".to_owned(),
        every,
    }
}

const NEVER: Duration = Duration::from_secs(1 << 30);

#[test]
fn a_stopped_training_goes_on_to_the_same_bytes_on_any_number_of_threads() {
    for network in ALL {
        let expected = whole(network, 1);
        assert_eq!(whole(network, 2), expected, "{network:?}, whole, 2 threads");
        // Stops after every so many batches: within epochs, at their end, before the last batch of all.
        for (stride, threads) in [(1, 1), (1, 2), (3, 2), (4, 1), (11, 2)] {
            let folder = tempfile::tempdir().expect("a folder");
            let checkpoints = checkpoints(folder.path(), NEVER);
            let mut stops = 0;
            let trained = loop {
                let mut batches = 0;
                let mut continued = false;
                let result = train(network, threads, Some(&checkpoints), &mut |progress| {
                    match progress {
                        Progress::Batch { .. } => batches += 1,
                        Progress::Checkpoint(CheckpointProgress::Continued(_)) => continued = true,
                        Progress::Checkpoint(CheckpointProgress::Written(_)) => {}
                        Progress::Checkpoint(other) => panic!("{other:?}"),
                        _ => {}
                    }
                    if batches == stride {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                assert_eq!(continued, stops > 0);
                match result {
                    Ok(trained) => break trained,
                    Err(TrainError::Stopped { checkpoint: true, .. }) => stops += 1,
                    Err(other) => panic!("{other}"),
                }
            };
            // A stop that is asked for by the last batch of all still validates in the next process.
            assert_eq!(stops, 12 / stride, "{network:?}");
            assert!(
                trained == expected,
                "{network:?} stopped after every {stride} batches on {threads} threads differs"
            );
        }
    }
}

/// A killed training has an older checkpoint and has computed further: what it did since then is repeated.
#[test]
fn a_killed_training_goes_on_from_any_of_its_checkpoints() {
    for network in ALL {
        let expected = whole(network, 2);
        let folder = tempfile::tempdir().expect("a folder");
        let mut kept: Vec<(TrainingPosition, Vec<u8>)> = Vec::new();
        let file = folder.path().join("training.safetensors");
        let every_batch = checkpoints(folder.path(), Duration::ZERO);
        let trained = train(network, 1, Some(&every_batch), &mut |progress| {
            if let Progress::Checkpoint(CheckpointProgress::Written(place)) = progress {
                kept.push((place, std::fs::read(&file).expect("the checkpoint")));
            }
            ControlFlow::Continue(())
        });
        assert!(trained.expect("trained") == expected, "writing changes nothing");
        // After each of 12 batches, and after the validation of every epoch but the last.
        assert_eq!(kept.len(), 14);
        for (place, bytes) in kept {
            std::fs::write(&file, bytes).expect("put back");
            let mut continued = None;
            let trained = train(network, 2, Some(&checkpoints(folder.path(), NEVER)), &mut |progress| {
                if let Progress::Checkpoint(CheckpointProgress::Continued(place)) = progress {
                    continued = Some(place);
                }
                ControlFlow::Continue(())
            });
            assert_eq!(continued, Some(place));
            assert!(
                trained.expect("trained") == expected,
                "{network:?} from {place:?} differs"
            );
        }
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["training.safetensors"], "nothing else is left");
    }
}

/// Stops after five batches and returns the checkpoint's bytes.
fn interrupted(folder: &Path) -> Vec<u8> {
    let mut batches = 0;
    let result = train(
        Network::CordsNet,
        1,
        Some(&checkpoints(folder, NEVER)),
        &mut |progress| {
            batches += usize::from(matches!(progress, Progress::Batch { .. }));
            if batches == 5 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    assert!(matches!(result, Err(TrainError::Stopped { checkpoint: true, .. })));
    std::fs::read(folder.join("training.safetensors")).expect("the checkpoint")
}

/// Why a training refused the checkpoint that lies in `folder`, after which it came to its end from the start.
fn refusal(network: Network, folder: &Path, identity: &str, expected: &Trained) -> String {
    let checkpoints = Checkpoints {
        identity: identity.to_owned(),
        ..checkpoints(folder, NEVER)
    };
    let mut refused = None;
    let mut first = None;
    let trained = train(network, 1, Some(&checkpoints), &mut |progress| {
        match progress {
            Progress::Checkpoint(CheckpointProgress::Refused(reason)) => refused = Some(reason),
            Progress::Checkpoint(CheckpointProgress::Continued(place)) => panic!("went on from {place:?}"),
            Progress::Batch { epoch, batch, .. } => first = first.or(Some((epoch, batch))),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(
        trained.expect("trained") == *expected,
        "a refused checkpoint leaves a trace"
    );
    assert_eq!(first, Some((0, 0)));
    refused.expect("refused")
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let expected = whole(Network::CordsNet, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let good = interrupted(folder.path());
    let file = folder.path().join("training.safetensors");
    for length in [0, 7, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&file, &good[..length]).expect("written");
        let reason = refusal(Network::CordsNet, folder.path(), "a training", &expected);
        assert!(reason.contains("damaged"), "cut at {length}: {reason}");
    }
    // One bit in the description's length, in the description, in the numbers.
    let header = u64::from_le_bytes(*good.first_chunk().expect("a length")) as usize;
    for place in [
        0,
        8,
        40,
        header - 30,
        header + 8,
        (header + good.len()) / 2,
        good.len() - 1,
    ] {
        let mut bytes = good.clone();
        bytes[place] ^= 4;
        std::fs::write(&file, bytes).expect("written");
        refusal(Network::CordsNet, folder.path(), "a training", &expected);
    }
}

#[test]
fn a_foreign_checkpoint_is_refused() {
    let expected = whole(Network::CordsNet, 1);
    let folder = tempfile::tempdir().expect("a folder");
    interrupted(folder.path());
    let reason = refusal(Network::CordsNet, folder.path(), "another training", &expected);
    assert_eq!(reason, "it belongs to another training");
    // An identity that says too little: the state itself does not fit, and nothing of it stays.
    interrupted(folder.path());
    let reason = refusal(Network::Cnn, folder.path(), "a training", &whole(Network::Cnn, 1));
    assert!(reason.contains("parameter."), "{reason}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_does_not_end_the_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let blocked = folder.path().join("a file");
    std::fs::write(&blocked, "").expect("written");
    let mut failures = 0;
    let trained = train(
        Network::Cnn,
        1,
        Some(&checkpoints(&blocked, Duration::ZERO)),
        &mut |progress| {
            failures += usize::from(matches!(progress, Progress::Checkpoint(CheckpointProgress::Failed(_))));
            ControlFlow::Continue(())
        },
    );
    assert!(trained.expect("trained") == whole(Network::Cnn, 1));
    assert_eq!(failures, 14);
}

/// At every word that a training says: between batches, before and behind validations, at its end.
#[test]
fn a_stop_at_every_kind_of_moment_goes_on_to_the_same_bytes() {
    for network in ALL {
        let mut moments = Vec::new();
        let expected = train(network, 2, None, &mut |progress| {
            moments.push(match progress {
                Progress::Batch { .. } => "a batch",
                Progress::Validation { .. } => "the beginning of a validation",
                Progress::Epoch { .. } => "an epoch",
                _ => "something else",
            });
            ControlFlow::Continue(())
        });
        let expected = expected.expect("trained");
        assert_eq!(moments.len(), 12 + 3 + 3);
        for (stop, moment) in moments.iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            let checkpoints = checkpoints(folder.path(), NEVER);
            let mut said = 0;
            let stopped = train(network, 2, Some(&checkpoints), &mut |progress| {
                if !matches!(progress, Progress::Checkpoint(CheckpointProgress::Written(_))) {
                    said += 1;
                }
                if said > stop {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            let trained = match stopped {
                Err(TrainError::Stopped { checkpoint: true, .. }) => {
                    train(network, 2, Some(&checkpoints), &mut |_| ControlFlow::Continue(())).expect("trained")
                }
                // What is complete is not stopped.
                Ok(trained) => trained,
                Err(other) => panic!("{other}"),
            };
            assert!(trained == expected, "{network:?} differs after {} ({stop})", moment);
        }
    }
}
