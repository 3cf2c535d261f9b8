//! Several emulated GPUs in threads of this process against one.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::super::emulated::Emulated;
use super::super::emulated_peers::Meeting;
use super::super::with_images_that_fit;
use super::*;
use crate::data::{DataError, Images};
use crate::device::Device;
use crate::learn::{
    Checkpoints, CnnConfig, Data, DirectConfig, EpochRecord, Fit, Initialisation, InvertConfig, OptimiserKind,
    OptimiserSettings, Progress, TrainError, Training,
};
use crate::net::{Architecture, Euler, Graph, Parameters, fold};
use crate::rng::{Purpose, Stream};

const ENOUGH: usize = 1 << 30;

/// What every rank of a world gives, on a GPU of `bytes(rank)` each.
fn on_ranks<R: Send>(
    world: usize,
    bytes: impl Fn(usize) -> usize + Sync,
    work: impl Fn(&Emulated) -> R + Sync,
) -> Vec<R> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = Meeting::of(world)
            .map(|(rank, leaving)| {
                let (bytes, work) = (&bytes, &work);
                scope.spawn(move || {
                    let bytes = bytes(rank.peers.rank);
                    let result = work(&Emulated::new(bytes).ranked(rank));
                    drop(leaving);
                    result
                })
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        ended.collect()
    })
}

/// A sum over three, as each has it.
pub(in super::super) fn sum_over_three() -> Vec<([Vec<f32>; 3], [f64; 2])> {
    on_ranks(
        3,
        |_| ENOUGH,
        |gpu| {
            let device = Cuda::new(gpu.clone(), 8);
            let rank = gpu.peers().rank;
            // In single precision, one of these would be lost.
            let value = [1e9f32, 1.0, -1e9][rank];
            let mut buffers = [
                device.upload(&[value, rank as f32]),
                device.zeros(0),
                device.upload(&[0.5; 70]),
            ];
            let mut numbers = [[1e17, -1e17, 1.0][rank], rank as f64];
            device.sum_over_peers(&mut buffers.each_mut(), &mut numbers);
            device.check().expect("it works");
            (buffers.each_ref().map(|buffer| device.download(buffer)), numbers)
        },
    )
}

#[test]
fn sums_are_in_the_order_of_ranks_and_have_the_same_bits_everywhere() {
    let expected = ([vec![1.0, 3.0], Vec::new(), vec![1.5; 70]], [1.0, 3.0]);
    assert_eq!(sum_over_three(), vec![expected; 3]);
}

/// Where one has no memory, all are told, once, and go on together with less.
#[test]
fn want_of_memory_on_one_is_that_of_all() {
    let found = on_ranks(
        3,
        |rank| if rank == 1 { 5000 } else { ENOUGH },
        |gpu| {
            with_images_that_fit(gpu, 8, None, |device| {
                let mut buffer = device.zeros(100 * device.group_images());
                for _ in 0..3 {
                    device.sum_over_peers(&mut [&mut buffer], &mut []);
                }
                device.check()
            })
        },
    );
    // Room for itself and for all three.
    assert_eq!(found, vec![Ok(((), 2)); 3]);
}

/// Noise whose class shows in its mean, fresh in every epoch, and mixed in every other batch.
struct Noise {
    count: usize,
    /// None can be read from here on.
    damaged: usize,
}

const SIDE: usize = 16;

impl Images for Noise {
    fn len(&self) -> usize {
        self.count
    }
    fn channels(&self) -> usize {
        1
    }
    fn side(&self) -> usize {
        SIDE
    }
    fn classes(&self) -> usize {
        3
    }
    fn label(&self, i: usize) -> u32 {
        (i % 3) as u32
    }
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        if i >= self.damaged {
            return Err(DataError::option("an image", "it is damaged"));
        }
        Stream::new(7, Purpose::Augmentation, i as u64, 0, epoch, 0).normal_fill(out);
        out.iter_mut().for_each(|value| *value += (i % 3) as f32 - 1.0);
        Ok(())
    }
    fn mix(&self, _epoch: u32, batch: u32, images: &mut [f32]) -> Option<f32> {
        batch.is_multiple_of(2).then(|| {
            let before = images.to_vec();
            let (own, len) = (images.len(), SIDE * SIDE);
            for (index, value) in images.iter_mut().enumerate() {
                *value = 0.7 * *value + 0.3 * before[(index + own - len) % own];
            }
            0.7
        })
    }
}

fn architecture() -> Graph {
    Architecture {
        in_channels: 1,
        image_side: SIDE,
        channels: vec![4, 4, 4],
        strides: vec![1, 1],
        classes: 3,
    }
    .graph()
    .expect("valid")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Network {
    CordsNet,
    Cnn,
    Inverse,
}

const ALL: [Network; 3] = [Network::CordsNet, Network::Cnn, Network::Inverse];

/// Weights, and records without their times.
type Trained = (Parameters<f32>, Vec<EpochRecord>);

/// How a training goes, besides its network.
#[derive(Clone, Copy)]
struct Course<'a> {
    batch: usize,
    damaged: usize,
    checkpoints: Option<&'a Path>,
    /// Gradient steps after which rank 0 is told to stop.
    stops_after: usize,
}

const COURSE: Course<'_> = Course {
    batch: 11,
    damaged: usize::MAX,
    checkpoints: None,
    stops_after: usize::MAX,
};

fn train(network: Network, course: Course<'_>, gpu: &Emulated) -> Result<Trained, TrainError> {
    let device = &Cuda::new(gpu.clone(), 4);
    let graph = architecture();
    let (train, validation) = (
        Noise {
            count: 31,
            damaged: course.damaged,
        },
        Noise {
            count: 7,
            damaged: usize::MAX,
        },
    );
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let fit = Fit {
        epochs: 2,
        batch: course.batch,
        // Adam would make much of a difference between two gradients that are nearly 0.
        optimiser: OptimiserSettings {
            momentum: 0.9,
            ..OptimiserSettings::new(OptimiserKind::Sgd, 1e-3)
        },
        learning_rate: if network == Network::Inverse { 0.001 } else { 0.05 },
        seed: 4,
        ..Fit::default()
    };
    let checkpoints = course.checkpoints.map(|folder| Checkpoints {
        folder: folder.to_owned(),
        identity: "test".to_owned(),
        every: Duration::MAX,
    });
    let mut steps = 0;
    let is_first = gpu.peers().is_first();
    let mut observer = |progress: Progress<'_>| {
        if let Progress::Batch { .. } = progress {
            steps += 1;
        }
        match is_first && steps >= course.stops_after {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let euler = Euler::new(5.0, 10.0);
    let (parameters, mut epochs) = match network {
        Network::CordsNet => {
            let config = DirectConfig {
                spontaneous_ms: 20.0,
                stimulus_ms: 30.0,
                after_ms: 15.0,
                readout_window_ms: 10.0,
                return_window_ms: 10.0,
                fit,
                ..DirectConfig::default()
            };
            let training = Training::new(&graph, &config, &data).euler(&euler);
            let training = training.checkpoints(checkpoints.as_ref()).observer(&mut observer);
            let trained = training.run(device)?;
            (trained.parameters, trained.epochs)
        }
        Network::Cnn => {
            let config = CnnConfig { fit };
            let training = Training::new(&graph, &config, &data);
            let training = training.checkpoints(checkpoints.as_ref()).observer(&mut observer);
            let trained = training.run(device)?;
            (trained.parameters, trained.epochs)
        }
        Network::Inverse => {
            let start = fold(&graph, &Initialisation::default().cnn(&graph, 8)).expect("a CNN");
            let config = InvertConfig {
                stimulus_ms: 30.0,
                fit,
                ..InvertConfig::default()
            };
            let training = Training::new(&graph, &config, &data).euler(&euler);
            let training = training.checkpoints(checkpoints.as_ref()).observer(&mut observer);
            let trained = training.run(device, &start)?;
            (trained.parameters, trained.epochs)
        }
    };
    for record in &mut epochs {
        (record.seconds, record.waiting_seconds) = (0.0, 0.0);
    }
    Ok((parameters, epochs))
}

/// What a world has trained: every rank the same bits.
fn trained(network: Network, course: Course<'_>, world: usize) -> Trained {
    let mut ranks = on_ranks(world, |_| ENOUGH, |gpu| train(network, course, gpu).expect("it trains"));
    let first = ranks.remove(0);
    for (rank, other) in ranks.iter().enumerate() {
        assert!(*other == first, "{network:?}: rank {} of {world}", rank + 1);
    }
    first
}

/// Weights as far apart as rounding may bring them, losses and answers too.
#[track_caller]
fn near(network: Network, [a, b]: [&Trained; 2]) {
    for (name, tensor) in a.0.iter() {
        let other = &b.0.get(name).expect("the same network").data;
        let largest = other.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for (x, y) in tensor.data.iter().zip(other) {
            assert!(
                (x - y).abs() <= 2e-5 + 1e-4 * largest,
                "{network:?}, {name}: {x} and {y}"
            );
        }
    }
    for (a, b) in a.1.iter().zip(&b.1) {
        let pairs = [
            (a.loss, b.loss),
            (a.cross_entropy, b.cross_entropy),
            (a.return_term, b.return_term),
            (a.accuracy, b.accuracy),
            (a.gradient_norm, b.gradient_norm),
            (a.validation_loss, b.validation_loss),
            (a.validation_accuracy, b.validation_accuracy),
        ];
        for (x, y) in pairs {
            assert!((x - y).abs() <= 1e-5 + 1e-3 * y.abs(), "{network:?}: {a:?} and {b:?}");
        }
        assert_eq!((a.epoch, a.images), (b.epoch, b.images));
    }
}

/// Batches of 10 and 11 images in parts of different sizes, some of them mixed; and batches with fewer images than
/// there are ranks.
#[test]
fn several_gpus_train_what_one_does() {
    for network in ALL {
        for (batch, worlds) in [(11, &[2, 3, 4][..]), (2, &[3])] {
            let course = Course { batch, ..COURSE };
            let one = trained(network, course, 1);
            assert_eq!(one.1.len(), 2);
            for world in worlds {
                near(network, [&trained(network, course, *world), &one]);
            }
        }
    }
}

#[test]
fn the_same_number_of_gpus_gives_the_same_bits() {
    for network in ALL {
        assert!(
            trained(network, COURSE, 3) == trained(network, COURSE, 3),
            "{network:?}"
        );
    }
}

/// Rank 0 alone is asked to stop and writes a checkpoint; all stop at the same step, and go on from it to the same
/// bits.
#[test]
fn all_stop_and_go_on_together() {
    for network in ALL {
        let whole = trained(network, COURSE, 3);
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoints = folder.path().join("checkpoints");
        let course = Course {
            checkpoints: Some(&checkpoints),
            ..COURSE
        };
        let stopped = on_ranks(
            3,
            |_| ENOUGH,
            |gpu| {
                let course = Course {
                    stops_after: 4,
                    ..course
                };
                train(network, course, gpu).expect_err("it was stopped").to_string()
            },
        );
        let text = "stopped by request after 1 whole epochs, to be resumed from its checkpoint";
        assert_eq!(stopped, [text; 3], "{network:?}");
        assert!(trained(network, course, 3) == whole, "{network:?}");
    }
}

/// Nobody waits for a rank that has ended.
#[test]
fn an_image_that_one_cannot_read_ends_all() {
    let course = Course { damaged: 30, ..COURSE };
    let ended = on_ranks(3, |_| ENOUGH, |gpu| train(Network::CordsNet, course, gpu).map(|_| ()));
    let texts: Vec<String> = ended
        .into_iter()
        .map(|result| result.expect_err("there is one").to_string())
        .collect();
    let of_image = texts.iter().filter(|text| text.contains("it is damaged")).count();
    let of_others = texts
        .iter()
        .filter(|text| text.contains("one of them has ended"))
        .count();
    assert!(of_image >= 1 && of_image + of_others == 3, "{texts:?}");
}
