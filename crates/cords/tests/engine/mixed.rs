//! Images that are mixed with each other, images that cannot be read, and what a training makes of both.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Duration;

use cords::data::{DataError, Images};
use cords::device::{Cpu, Phi, Target};
use cords::learn::{
    Batch, CheckpointProgress, Checkpoints, CnnConfig, CordsNetGradient, Data, DirectConfig, Fit, Initialisation,
    InvertConfig, Objective, Progress, TrainError, TrainedCordsNet, Training, cnn_gradient, evaluate, logspace,
};
use cords::net::{Architecture, Euler, Graph, Model, ModelInfo, Parameters, fold};
use cords::rng::{Purpose, Stream};

const COUNT: usize = 20;

/// Noise of three classes.
#[derive(Default)]
struct Noise {
    /// What a batch says of its mixing; its images stay as they are.
    weight: Option<f32>,
    /// Images that cannot be read, and the epoch from which they cannot.
    damaged: Vec<usize>,
    damaged_from: u32,
    /// What was asked for: labels of images, and mixing of batches of epochs.
    labels: Mutex<Vec<usize>>,
    mixed: Mutex<Vec<(u32, u32)>>,
}

impl Noise {
    fn mixed(weight: f32) -> Self {
        Self {
            weight: Some(weight),
            ..Self::default()
        }
    }

    fn damaged(images: &[usize], epoch: u32) -> Self {
        Self {
            damaged: images.to_vec(),
            damaged_from: epoch,
            ..Self::default()
        }
    }
}

impl Images for Noise {
    fn len(&self) -> usize {
        COUNT
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
        self.labels.lock().expect("no panic").push(i);
        (i % 3) as u32
    }
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        if self.damaged.contains(&i) && epoch >= self.damaged_from {
            return Err(DataError::Damaged {
                file: format!("image_{i}.jpg").into(),
                offset: 0,
                what: "it ends early".to_owned(),
                advice: "replace it".to_owned(),
            });
        }
        Stream::new(1, Purpose::Probe, i as u64, 0, epoch, 0).normal_fill(out);
        Ok(())
    }
    fn mix(&self, epoch: u32, batch: u32, images: &mut [f32]) -> Option<f32> {
        assert!(images.len().is_multiple_of(16 * 16) && images.iter().any(|value| *value != 0.0));
        self.mixed.lock().expect("no panic").push((epoch, batch));
        self.weight
    }
}

fn architecture() -> Graph {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4, 4, 4],
        strides: vec![1, 1],
        classes: 3,
    }
    .graph()
    .expect("valid")
}

fn fit(epochs: usize, batch: usize) -> Fit {
    Fit {
        epochs,
        batch,
        seed: 4,
        ..Fit::default()
    }
}

fn config(epochs: usize, batch: usize) -> DirectConfig {
    DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 30.0,
        after_ms: 15.0,
        readout_window_ms: 10.0,
        return_window_ms: 10.0,
        fit: fit(epochs, batch),
        ..DirectConfig::default()
    }
}

fn euler() -> Euler {
    Euler::new(5.0, 10.0)
}

fn direct(train: &Noise, validation: &Noise, config: &DirectConfig) -> Result<TrainedCordsNet, TrainError> {
    let data = Data { train, validation };
    Training::new(&architecture(), config, &data).euler(&euler()).run(&Cpu)
}

fn largest(logits: &[f64]) -> usize {
    (0..logits.len())
        .rev()
        .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
        .expect("classes")
}

/// Cross-entropy is linear in the target, and so is everything that follows from it.
#[test]
fn a_mixed_target_teaches_the_mean_of_what_its_classes_teach() {
    let graph = architecture();
    // Two groups, of which one is a remainder: partners are of the batch, not of the group.
    let labels: Vec<u32> = [0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 1].into();
    let mut images = vec![0.0f32; labels.len() * graph.image_len()];
    Stream::new(1, Purpose::Probe, 0, 0, 0, 0).normal_fill(&mut images);
    let images: Vec<f64> = images.into_iter().map(f64::from).collect();
    let weight = 0.625;
    let mixed = Target::of_mixed(&labels, weight);
    let partners: Vec<u32> = mixed.iter().map(|target| target.partner).collect();
    assert_eq!(partners, [1, 0, 2, 1, 1, 0, 2, 2, 0, 1, 0]);
    let targets = [mixed, Target::of(&labels), Target::of(&partners)];
    let objective = Objective {
        spontaneous_steps: 4,
        stimulus_steps: 7,
        after_steps: 5,
        ramp: logspace(-1.0, 0.0, 3),
        return_weight: 0.5,
        return_window: 2,
    };
    fn batch<'a>(images: &'a [f64], targets: &'a [Target]) -> Batch<'a, f64> {
        Batch { images, targets }
    }
    let initialisation = Initialisation::default();
    let parameters: Parameters<f64> = initialisation.cordsnet(&graph, 3).cast();
    let cordsnet = targets.each_ref().map(|targets| {
        let gradient = CordsNetGradient::new(&Cpu, &graph, &parameters, &euler(), Phi::Relu, &objective);
        let gradient = gradient.and_then(|mut gradient| gradient.run(batch(&images, targets), &[]));
        let gradient = gradient.expect("a batch");
        (
            gradient.loss.loss,
            gradient.loss.right,
            gradient.logits,
            gradient.gradients,
        )
    });
    let parameters: Parameters<f64> = initialisation.cnn(&graph, 3).cast();
    let cnn = targets.each_ref().map(|targets| {
        let gradient = cnn_gradient(&Cpu, &graph, &parameters, batch(&images, targets)).expect("a batch");
        (
            gradient.loss.loss,
            gradient.loss.right,
            gradient.logits,
            gradient.gradients,
        )
    });
    for [mixed, own, other] in [cordsnet, cnn] {
        let weight = f64::from(weight);
        let mean = |own: f64, other: f64| weight * own + (1.0 - weight) * other;
        assert!((mixed.0 - mean(own.0, other.0)).abs() < 1e-12, "{}", mixed.0);
        assert!(own.0 != other.0);
        let rows = mixed.2.chunks_exact(3).zip(&targets[0]);
        let right: f64 = rows.map(|(logits, target)| target.share(largest(logits))).sum();
        assert_eq!([mixed.1, mixed.1], [right, mean(own.1, other.1)]);
        for (name, gradient) in mixed.3.iter() {
            let [own, other] = [&own, &other].map(|hard| &hard.3.get(name).expect("the same network").data);
            let size = gradient.data.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            for (found, (own, other)) in gradient.data.iter().zip(own.iter().zip(other)) {
                // Rounding of sums that cancel.
                let error = (found - mean(*own, *other)).abs();
                assert!(error <= 1e-9 * size + 1e-14, "{name}: {error:e} of {size:e}");
            }
        }
    }
    let refused = |target| {
        let mut targets = targets[0].clone();
        targets[5] = target;
        cnn_gradient(&Cpu, &graph, &parameters, batch(&images, &targets)).expect_err("refused")
    };
    let wrong = |weight| Target {
        weight,
        ..Target::from(1)
    };
    for weight in [-0.1, 1.5, f32::NAN] {
        assert!(matches!(
            refused(wrong(weight)),
            TrainError::Setting { field: "targets", .. }
        ));
    }
    let beyond = Target {
        partner: 3,
        ..Target::from(1)
    };
    assert!(matches!(refused(beyond), TrainError::Label { image: 5, label: 3, .. }));
}

/// Of an answer that is one of two classes, the weight of that class; records are of the network before each step.
#[test]
fn accuracy_counts_the_weight_of_the_class_that_is_answered() {
    let (train, config) = (Noise::mixed(0.75), config(1, COUNT));
    let trained = direct(&train, &Noise::default(), &config).expect("trained");
    let asked = train.labels.lock().expect("no panic").clone();
    // After the check of the images, the one batch in its order.
    let order = &asked[COUNT..];
    assert_eq!(order.len(), COUNT);
    let labels: Vec<u32> = order.iter().map(|image| (image % 3) as u32).collect();
    let untrained = Model::CordsNet {
        architecture: architecture(),
        euler: euler(),
        phi: Phi::Relu,
        parameters: config.fit.initialisation.cordsnet(&architecture(), config.fit.seed),
        info: ModelInfo {
            presentation: Some(config.presentation()),
            ..ModelInfo::default()
        },
    };
    let evaluation = evaluate(&Cpu, &untrained, &train, None).expect("evaluated");
    let (mut right, mut entropy) = (0.0, 0.0);
    for (image, target) in order.iter().zip(Target::of_mixed(&labels, 0.75)) {
        let logits = &evaluation.logits[3 * image..][..3];
        let logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        right += target.share(largest(&logits));
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let wanted = (0..3).map(|class| target.share(class) * (total.ln() - logits[class]));
        entropy += wanted.sum::<f64>();
    }
    let [record] = &trained.epochs[..] else {
        panic!("one epoch")
    };
    assert_eq!(record.accuracy, right / COUNT as f64);
    let expected = entropy / COUNT as f64;
    assert!((record.cross_entropy - expected).abs() < 1e-5, "{expected}: {record:?}");
}

/// By epoch and batch; images to validate on never, and none where nothing is learned from classes.
#[test]
fn batches_are_mixed_where_classes_are_learned() {
    let (graph, validation) = (architecture(), Noise::mixed(0.5));
    let expected = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
    let train = Noise::mixed(0.75);
    direct(&train, &validation, &config(2, 8)).expect("trained");
    assert_eq!(*train.mixed.lock().expect("no panic"), expected);
    let train = Noise::mixed(0.75);
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let cnn = CnnConfig { fit: fit(2, 8) };
    Training::new(&graph, &cnn, &data).run(&Cpu).expect("trained");
    assert_eq!(*train.mixed.lock().expect("no panic"), expected);
    let inverse = InvertConfig {
        stimulus_ms: 30.0,
        fit: fit(2, 8),
        ..InvertConfig::default()
    };
    let start = fold(&graph, &Initialisation::default().cnn(&graph, 8)).expect("a CNN");
    let training = Training::new(&graph, &inverse, &data).euler(&euler());
    training.run(&Cpu, &start).expect("trained");
    assert_eq!(train.mixed.lock().expect("no panic").len(), expected.len());
    assert!(validation.mixed.lock().expect("no panic").is_empty());
}

/// The first image of the batch that cannot be read is named, whatever the number of threads.
#[test]
fn an_image_that_cannot_be_read_ends_what_reads_it() {
    let named = |result: Result<(), TrainError>| match result {
        Err(TrainError::Data(error @ DataError::Damaged { .. })) => error.to_string(),
        other => panic!("expected a damaged image, got {other:?}"),
    };
    let (graph, sound) = (architecture(), Noise::default());
    direct(&sound, &Noise::default(), &config(1, COUNT)).expect("trained");
    let order = sound.labels.lock().expect("no panic")[COUNT..].to_vec();
    let first = order
        .iter()
        .find(|image| [3, 11, 17].contains(*image))
        .expect("all images");
    let damaged = Noise::damaged(&[3, 11, 17], 0);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let found = pool
            .expect("threads")
            .install(|| direct(&damaged, &sound, &config(1, COUNT)));
        let text = named(found.map(|_| ()));
        assert!(text.contains(&format!("image_{first}.jpg")), "{first}: {text}");
    }
    let cnn = CnnConfig { fit: fit(1, 8) };
    for (train, validation) in [(&damaged, &sound), (&sound, &damaged)] {
        let data = Data { train, validation };
        named(Training::new(&graph, &cnn, &data).run(&Cpu).map(|_| ()));
        let start = fold(&graph, &Initialisation::default().cnn(&graph, 8)).expect("a CNN");
        let inverse = InvertConfig {
            stimulus_ms: 30.0,
            fit: fit(1, 8),
            ..InvertConfig::default()
        };
        let training = Training::new(&graph, &inverse, &data).euler(&euler());
        named(training.run(&Cpu, &start).map(|_| ()));
    }
    // Evaluation goes through a set in its order.
    let text = named(direct(&sound, &damaged, &config(1, 8)).map(|_| ()));
    assert!(text.contains("image_3.jpg"), "{text}");
    let parameters = Initialisation::default().cnn(&graph, 8);
    let model = Model::Cnn {
        architecture: graph,
        parameters,
        info: ModelInfo::default(),
    };
    let text = named(evaluate(&Cpu, &model, &damaged, None).map(|_| ()));
    assert!(text.contains("image_3.jpg"), "{text}");
}

/// What was reached before stays, and goes on to the same bits with the image in its place.
#[test]
fn a_training_goes_on_once_its_images_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Checkpoints {
        folder: folder.path().to_owned(),
        identity: "a training".to_owned(),
        every: Duration::ZERO,
    };
    let (graph, validation, config) = (architecture(), Noise::default(), config(2, 8));
    let run = |train: &Noise| {
        let data = Data {
            train,
            validation: &validation,
        };
        let mut continued = None;
        let mut observer = |progress: Progress<'_>| {
            if let Progress::Checkpoint(CheckpointProgress::Continued(place)) = progress {
                continued = Some((place.epoch, place.batch));
            }
            ControlFlow::Continue(())
        };
        let training = Training::new(&graph, &config, &data).euler(&euler());
        let training = training.checkpoints(Some(&checkpoints)).observer(&mut observer);
        let result = training.run(&Cpu);
        (result, continued)
    };
    let (failed, _) = run(&Noise::damaged(&[7], 1));
    assert!(matches!(failed, Err(TrainError::Data(_))));
    let (trained, continued) = run(&Noise::default());
    assert_eq!(continued.expect("from a checkpoint").0, 1);
    let whole = direct(&Noise::default(), &validation, &config).expect("trained");
    assert!(trained.expect("trained").parameters == whole.parameters);
}
