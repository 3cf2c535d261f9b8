//! Model files, published names, and the training loops on a small artificial task.

use std::ops::ControlFlow;
use std::sync::Mutex;

use cords::data::{DataError, Images};
use cords::device::{Cpu, Phi};
use cords::learn::{
    CnnConfig, Data, DirectConfig, Fit, Initialisation, Progress, Schedule, TrainError, TrainedCordsNet, Training,
    evaluate,
};
use cords::net::{Architecture, CordsNet, Euler, Graph, Model, ModelInfo, NetError, TrainedPhase, fold};
use cords::rng::{Purpose, Stream};

fn info(config: &DirectConfig) -> ModelInfo {
    ModelInfo {
        seed: 3,
        data: "bars".to_owned(),
        mean: vec![0.5],
        std: vec![0.25],
        classes: vec!["across".to_owned(), "down".to_owned()],
        presentation: Some(config.presentation()),
        phases: Vec::new(),
        network: None,
    }
}

/// Horizontal and vertical gratings of random phase in noise.
struct Gratings {
    count: usize,
    seed: u64,
    poisoned: bool,
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
        2
    }
    fn label(&self, i: usize) -> u32 {
        (i % 2) as u32
    }
    fn fill(&self, i: usize, _epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        let mut stream = Stream::new(self.seed, Purpose::Probe, i as u64, 0, 0, 0);
        let phase = stream.uniform() * std::f64::consts::TAU;
        let mut noise = vec![0.0f32; out.len()];
        stream.normal_fill(&mut noise);
        for (index, (value, noise)) in out.iter_mut().zip(&noise).enumerate() {
            let position = if i.is_multiple_of(2) { index / 16 } else { index % 16 };
            *value = (position as f64 * 0.8 + phase).sin() as f32 + 0.5 * noise;
        }
        if self.poisoned && i == 5 {
            out[0] = f32::NAN;
        }
        Ok(())
    }
}

fn architecture() -> Graph {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![6, 6, 6, 7, 7],
        strides: vec![1, 1, 2, 1],
        classes: 2,
    }
    .graph()
    .expect("valid")
}

fn config(epochs: usize) -> DirectConfig {
    DirectConfig {
        spontaneous_ms: 50.0,
        stimulus_ms: 50.0,
        after_ms: 30.0,
        readout_window_ms: 20.0,
        return_window_ms: 10.0,
        fit: Fit {
            epochs,
            batch: 24,
            learning_rate: 4e-3,
            schedule: Schedule::Constant,
            warm_up: None,
            ..Fit::default()
        },
        ..DirectConfig::default()
    }
}

fn train(config: &DirectConfig, poisoned: bool) -> Result<TrainedCordsNet, TrainError> {
    let train = Gratings {
        count: 120,
        seed: 1,
        poisoned,
    };
    let validation = Gratings {
        count: 41,
        seed: 2,
        poisoned: false,
    };
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let euler = Euler::new(5.0, 10.0);
    Training::new(&architecture(), config, &data).euler(&euler).run(&Cpu)
}

#[test]
fn published_names_and_shapes() {
    let text = include_str!("../fixtures/published_r2_shapes.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let size = |key: &str| json["architecture"][key].as_u64().expect("an integer") as usize;
    let architecture =
        Graph::published(size("areas"), size("in_channels"), size("image_side"), size("classes")).expect("valid");
    let published: Vec<(String, Vec<usize>)> =
        serde_json::from_value(json["tensors"].clone()).expect("names and shapes");
    assert_eq!(architecture.cordsnet_shapes(), published);
    // 53 tensors, 12,475,280 numbers for R8 on ImageNet; 11,966,420 with ten classes.
    let r8 = |classes| Graph::published(8, 3, 224, classes).expect("valid").cordsnet_shapes();
    let numbers =
        |shapes: &[(String, Vec<usize>)]| shapes.iter().map(|(_, s)| s.iter().product::<usize>()).sum::<usize>();
    assert_eq!(
        (r8(1000).len(), numbers(&r8(1000)), numbers(&r8(10))),
        (53, 12_475_280, 11_966_420)
    );
}

#[test]
fn a_model_file_gives_back_the_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = config(1);
    let initial = Initialisation::default();
    let cordsnet = Model::CordsNet {
        architecture: architecture(),
        euler: Euler {
            dt_ms: 0.1,
            tau_ms: vec![10.0, 20.0, 30.0, 1.0 / 3.0],
        },
        phi: Phi::LeakyRelu(0.35),
        parameters: initial.cordsnet(&architecture(), 1),
        info: info(&config),
    };
    let cnn = Model::Cnn {
        architecture: architecture(),
        parameters: initial.cnn(&architecture(), 1),
        info: ModelInfo::default(),
    };
    let folded = Model::Cnn {
        architecture: architecture(),
        parameters: fold(&architecture(), cnn.parameters()).expect("a CNN"),
        info: ModelInfo {
            phases: vec![TrainedPhase {
                phase: "cnn".to_owned(),
                epochs: 3,
            }],
            ..ModelInfo::default()
        },
    };
    for (name, model) in [("a", cordsnet), ("b", cnn), ("c", folded)] {
        let [first, second] = ["1", "2"].map(|n| folder.path().join(format!("{name}{n}.safetensors")));
        model.save(&first).expect("saved");
        let loaded = Model::load(&first).expect("loaded");
        assert_eq!(loaded, model);
        loaded.save(&second).expect("saved again");
        assert_eq!(
            std::fs::read(&first).expect("read"),
            std::fs::read(&second).expect("read"),
            "equal bytes"
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("read").count(),
        6,
        "no scratch file is left"
    );
}

#[test]
fn a_damaged_or_foreign_file_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.safetensors");
    assert!(matches!(Model::load(&path), Err(NetError::Io(_))));
    let model = Model::Cnn {
        architecture: architecture(),
        parameters: Initialisation::default().cnn(&architecture(), 1),
        info: ModelInfo::default(),
    };
    model.save(&path).expect("saved");
    let whole = std::fs::read(&path).expect("read");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        assert!(
            matches!(Model::load(&path), Err(NetError::File { .. })),
            "cut at {length}"
        );
    }
    // A value that is not finite, in a file that is otherwise whole.
    let mut damaged = whole.clone();
    let end = damaged.len();
    damaged[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &damaged).expect("written");
    assert!(matches!(Model::load(&path), Err(NetError::NotFinite { .. })));
    let foreign =
        safetensors::serialize(Vec::<(&str, safetensors::tensor::TensorView<'_>)>::new(), None).expect("empty");
    std::fs::write(&path, foreign).expect("written");
    let error = Model::load(&path).expect_err("no metadata").to_string();
    assert!(error.contains("cords.model"), "{error}");
}

#[test]
fn parameters_that_do_not_fit_are_named() {
    let architecture = architecture();
    let good = Initialisation::default().cordsnet(&architecture, 0);
    let make = |parameters| CordsNet::new(&architecture, &parameters, &Euler::published(), Phi::Relu).err();
    assert!(make(good.clone()).is_none());
    let mut wrong = good.clone();
    wrong.insert("conv_bias.1", cords::Tensor::zeros(&[6, 4, 5]));
    assert!(matches!(make(wrong), Some(NetError::Shape { name, .. }) if name == "conv_bias.1"));
    let mut extra = good.clone();
    extra.insert("conv_bias.4", cords::Tensor::zeros(&[1]));
    assert!(matches!(make(extra), Some(NetError::Unexpected { name }) if name == "conv_bias.4"));
    let mut zero = good.clone();
    let name = "area_area.2.parametrizations.weight.original1";
    let directions = zero.get_mut(name).expect("a direction tensor");
    directions.data[54..108].fill(0.0);
    assert!(matches!(make(zero), Some(NetError::ZeroRow { name: found, row: 1 }) if found == name));
    assert!(matches!(
        make(cords::net::Parameters::new()),
        Some(NetError::Missing { .. })
    ));
}

/// Two epochs of training on 1, 2 and 3 threads: the same bits everywhere. 120 images in batches of 24 are groups of 8.
#[test]
fn the_number_of_threads_does_not_show() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a thread pool");
        pool.install(|| {
            let config = config(2);
            let cordsnet = train(&config, false).expect("trained");
            let (train, validation) = (
                Gratings {
                    count: 60,
                    seed: 1,
                    poisoned: false,
                },
                Gratings {
                    count: 20,
                    seed: 2,
                    poisoned: false,
                },
            );
            let data = Data {
                train: &train,
                validation: &validation,
            };
            let cnn = CnnConfig { fit: config.fit };
            let cnn = Training::new(&architecture(), &cnn, &data).run(&Cpu).expect("trained");
            let losses: Vec<u64> = cordsnet
                .epochs
                .iter()
                .chain(&cnn.epochs)
                .flat_map(|e| [e.loss, e.return_term, e.validation_loss, e.gradient_norm])
                .map(f64::to_bits)
                .collect();
            (cordsnet.parameters, cordsnet.windows, cnn.parameters, losses)
        })
    };
    let one = on(1);
    for threads in [2, 3] {
        assert!(on(threads) == one, "{threads} threads differ from one");
    }
}

/// Chance is 0.5; the gratings are easy. Windows cover the stimulus; a saved model evaluates as the trained one did.
#[test]
fn both_networks_learn_to_tell_gratings_apart() {
    let config = config(8);
    let trained = train(&config, false).expect("trained");
    let last = trained.epochs.last().expect("epochs").clone();
    assert_eq!(trained.epochs.len(), 8);
    assert!(last.validation_accuracy > 0.9, "CordsNet: {last:?}");
    assert!(
        last.loss < 0.5 * trained.epochs[0].loss,
        "loss {} to {}",
        trained.epochs[0].loss,
        last.loss
    );
    let windows: Vec<_> = trained.windows.iter().filter(|window| window.epoch == 7).collect();
    assert_eq!(
        windows.iter().map(|w| (w.start_ms, w.end_ms)).collect::<Vec<_>>(),
        [(0.0, 20.0), (20.0, 40.0), (40.0, 50.0)]
    );
    assert!(
        windows[0].accuracy < windows[2].accuracy,
        "accuracy builds up over time: {windows:?}"
    );

    let validation = Gratings {
        count: 41,
        seed: 2,
        poisoned: false,
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.safetensors");
    trained.into_model(info(&config)).save(&path).expect("saved");
    let evaluation = evaluate(&Cpu, &Model::load(&path).expect("loaded"), &validation, None).expect("evaluated");
    assert_eq!(
        (evaluation.answers.accuracy, evaluation.answers.cross_entropy),
        (last.validation_accuracy, last.validation_loss)
    );
    assert_eq!(evaluation.logits.len(), 41 * 2);
    assert_eq!(evaluation.over_time.len(), 10);

    let train = Gratings {
        count: 120,
        seed: 1,
        poisoned: false,
    };
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let cnn = CnnConfig { fit: config.fit };
    let cnn = Training::new(&architecture(), &cnn, &data).run(&Cpu).expect("trained");
    let last = cnn.epochs.last().expect("epochs").clone();
    assert!(last.validation_accuracy > 0.9, "CNN: {last:?}");
    let evaluation = evaluate(&Cpu, &cnn.into_model(ModelInfo::default()), &validation, None).expect("evaluated");
    assert_eq!(evaluation.answers.accuracy, last.validation_accuracy);
}

/// The least memory that will do leads to the same bits, and one byte less is refused before anything is computed.
#[test]
fn the_memory_budget_does_not_show() {
    let within = |memory_budget| {
        let config = DirectConfig {
            memory_budget,
            ..config(2)
        };
        train(&config, false)
    };
    let Err(TrainError::Memory { needed, budget: 1 }) = within(Some(1)) else {
        panic!("a budget of one byte must be refused");
    };
    let refused = within(Some(needed - 1));
    assert!(matches!(refused, Err(TrainError::Memory { needed: again, .. }) if again == needed));
    let [least, unlimited] = [Some(needed), None].map(|budget| within(budget).expect("trained"));
    assert!(least.parameters == unlimited.parameters);
    let losses = |trained: &TrainedCordsNet| trained.epochs.iter().map(|epoch| epoch.loss).collect::<Vec<_>>();
    assert_eq!(losses(&least), losses(&unlimited));
}

#[test]
fn training_that_diverges_says_where() {
    match train(&config(2), true) {
        Err(TrainError::NonFinite {
            epoch: 0,
            step,
            largest,
            place,
            ..
        }) => {
            assert!(step < 5 && largest.is_nan(), "step {step}, {largest} in {place}");
        }
        other => panic!("expected a non-finite loss, got {:?}", other.map(|_| ())),
    }
}

#[test]
fn the_observer_can_stop_and_sees_every_batch() {
    let (train, validation) = (
        Gratings {
            count: 48,
            seed: 1,
            poisoned: false,
        },
        Gratings {
            count: 8,
            seed: 2,
            poisoned: false,
        },
    );
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let mut seen = Vec::new();
    let mut observer = |progress: Progress<'_>| {
        match progress {
            Progress::Batch {
                epoch, batch, batches, ..
            } => seen.push((epoch, batch, batches)),
            Progress::Validation { epoch, epochs } => assert_eq!((epoch, epochs, seen.len()), (0, 4, 2)),
            Progress::Epoch { record, .. } => assert_eq!(record.images, 48),
            other => panic!("no checkpoints were asked for: {other:?}"),
        }
        if seen.len() == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let (architecture, config) = (architecture(), config(4));
    let training = Training::new(&architecture, &config, &data).euler(&Euler::new(5.0, 10.0));
    let result = training.observer(&mut observer).run(&Cpu);
    match result {
        Err(TrainError::Stopped { records, checkpoint }) => assert_eq!((records.len(), checkpoint), (1, false)),
        other => panic!("expected a stop, got {:?}", other.map(|_| ())),
    }
    assert_eq!(seen, [(0, 0, 2), (0, 1, 2), (1, 0, 2)]);
}

/// Images that note what is asked of them.
struct Watched {
    images: Gratings,
    labels: Mutex<Vec<usize>>,
    filled: Mutex<Vec<(u32, usize)>>,
}

impl Images for Watched {
    fn len(&self) -> usize {
        self.images.len()
    }
    fn channels(&self) -> usize {
        self.images.channels()
    }
    fn side(&self) -> usize {
        self.images.side()
    }
    fn classes(&self) -> usize {
        self.images.classes()
    }
    fn label(&self, i: usize) -> u32 {
        self.labels.lock().expect("no panic").push(i);
        self.images.label(i)
    }
    fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        self.filled.lock().expect("no panic").push((epoch, i));
        self.images.fill(i, epoch, out)
    }
}

/// Every image once an epoch, drawn for that epoch, in an order of its own that neither batch size nor threads change.
#[test]
fn the_order_of_images_depends_on_seed_and_epoch_alone() {
    let order = |batch: usize, threads: usize, seed: u64| {
        let images = |count, seed| Gratings {
            count,
            seed,
            poisoned: false,
        };
        let train = Watched {
            images: images(45, 1),
            labels: Mutex::default(),
            filled: Mutex::default(),
        };
        let data = Data {
            train: &train,
            validation: &images(8, 2),
        };
        let config = CnnConfig {
            fit: Fit {
                epochs: 2,
                batch,
                seed,
                ..Fit::default()
            },
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| Training::new(&architecture(), &config, &data).run(&Cpu))
            .expect("trained");
        let mut filled = train.filled.into_inner().expect("no panic");
        filled.sort_unstable();
        let each: Vec<(u32, usize)> = (0..2).flat_map(|epoch| (0..45).map(move |i| (epoch, i))).collect();
        assert_eq!(filled, each);
        // The first look at every label is the check of the images.
        train.labels.into_inner().expect("no panic").split_off(45)
    };
    let expected = order(45, 1, 0);
    assert_eq!(expected.len(), 90);
    assert_ne!(expected[..45], expected[45..], "a fresh order in every epoch");
    for (batch, threads) in [(1, 1), (7, 2), (16, 3)] {
        assert_eq!(order(batch, threads, 0), expected, "batches of {batch}");
    }
    assert_ne!(order(45, 1, 1), expected);
}

#[test]
fn unusable_settings_are_named() {
    let field = |change: &dyn Fn(&mut DirectConfig)| {
        let mut config = config(1);
        change(&mut config);
        match train(&config, false) {
            Err(TrainError::Setting { field, .. }) => field,
            other => panic!("expected a setting error, got {:?}", other.map(|_| ())),
        }
    };
    assert_eq!(field(&|c| c.fit.epochs = 0), "epochs");
    assert_eq!(field(&|c| c.fit.batch = 0), "batch");
    assert_eq!(field(&|c| c.fit.learning_rate = -1.0), "learning_rate");
    assert_eq!(field(&|c| c.fit.clip = Some(0.0)), "clip");
    assert_eq!(field(&|c| c.stimulus_ms = f64::NAN), "stimulus_ms");
    assert_eq!(field(&|c| c.readout_window_ms = 60.0), "objective");
    assert_eq!(field(&|c| c.return_window_ms = 40.0), "objective");
    assert_eq!(field(&|c| c.accuracy_window_ms = 1.0), "accuracy_window_ms");
    assert_eq!(
        field(&|c| c.fit.initialisation.recurrent = f64::INFINITY),
        "initialisation"
    );
}
