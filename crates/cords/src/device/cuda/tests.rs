use super::emulated::{Emulated, launched, signatures};
use super::*;
use crate::data::{ImageSetWriter, MemoryImages, Split, SplitImages, Splits};
use crate::device::{ConvShape, Cpu, Device, DeviceError, Target};
use crate::learn::{
    Batch, CordsNetGradient, Data, DirectConfig, Evaluation, Fit, HistoryPrecision, Initialisation, Objective,
    OptimiserKind, OptimiserSettings, TrainError, Training, evaluate, logspace,
};
use crate::net::{Adaptation, Architecture, CellKind, Euler, Graph, Model, ModelInfo, Parameters, Presentation};
use crate::noise::{
    Condition, EvaluationOptions, NoiseError, NoisePresentation, NoiseResult, Observer, Perturbation, Pixels,
    evaluate as noisy,
};
use crate::record::{AreaTime, RecordError, RecordOptions, record};
use crate::rng::{Purpose, Stream};
use crate::selftest;

const ENOUGH: usize = 1 << 30;

fn device() -> Cuda<Emulated> {
    Cuda::new(Emulated::new(ENOUGH), 8)
}

#[test]
fn every_kernel_equals_float64() {
    let [exact, narrow] = [Emulated::new(ENOUGH), Emulated::new(ENOUGH).narrow()].map(|gpu| Cuda::new(gpu, 8));
    selftest::kernels(&narrow, selftest::BFLOAT16.0).expect("it does not fail");
    let findings = selftest::kernels(&exact, selftest::FLOAT32.0).expect("it does not fail");
    assert!(findings.len() > 200, "{}", findings.len());
    let missed: Vec<_> = findings.iter().filter(|finding| !finding.passed()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    super::peers::tests::sum_over_three();
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
    let mut findings = selftest::networks(&device(), selftest::FLOAT32.1).expect("it does not fail");
    findings.extend(selftest::reference(&device(), selftest::FLOAT32.1).expect("it does not fail"));
    let missed: Vec<_> = findings.iter().filter(|finding| !finding.passed()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// What of a whole selftest is further off than allowed.
fn missed(device: &Cuda<Emulated>, (rounding, bounds): selftest::Allowed) -> Vec<selftest::Finding> {
    let mut findings = selftest::kernels(device, rounding).expect("it does not fail");
    findings.extend(selftest::networks(device, bounds).expect("it does not fail"));
    findings.extend(selftest::reference(device, bounds).expect("it does not fail"));
    findings.retain(|finding| !finding.passed());
    findings
}

/// What the selftest allows for a GPU that rounds the factors of convolutions to eleven significant bits is enough for
/// that; what is allowed for float32 is not.
#[test]
fn rounded_products_are_found_and_allowed_for() {
    let device = Cuda::new(Emulated::new(ENOUGH).rounded(11), 8);
    let found = missed(&device, selftest::TF32);
    assert!(found.is_empty(), "{found:#?}");
    assert!(missed(&device, selftest::FLOAT32).len() > 50);
}

/// The same where convolutions are computed from bfloat16, as far as their channels allow it.
#[test]
fn bfloat16_is_found_and_allowed_for() {
    let device = Cuda::new(Emulated::new(ENOUGH).rounded(11).narrow(), 8);
    let found = missed(&device, selftest::BFLOAT16);
    assert!(found.is_empty(), "{found:#?}");
    assert!(missed(&device, selftest::FLOAT32).len() > 50);
}

/// So many images for [`architecture`].
fn noise(count: usize) -> MemoryImages {
    selftest::memory::noise(count, [2, 16], 3)
}

fn architecture() -> Graph {
    Architecture {
        in_channels: 2,
        image_side: 16,
        channels: vec![8, 8, 8],
        strides: vec![1, 1],
        classes: 3,
    }
    .graph()
    .expect("valid")
}

fn train<D: Device<f32>>(
    device: &D,
    history: HistoryPrecision,
    memory_budget: Option<u64>,
) -> Result<Vec<f32>, TrainError> {
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
            // Adam would make much of a difference between two gradients that are nearly 0.
            optimiser: OptimiserSettings {
                momentum: 0.9,
                ..OptimiserSettings::new(OptimiserKind::Sgd, 0.0)
            },
            learning_rate: 0.1,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let data = Data {
        train: &noise(24),
        validation: &noise(8),
    };
    let euler = Euler::published();
    let trained = Training::new(&architecture(), &config, &data)
        .euler(&euler)
        .run(device)?;
    Ok(trained
        .parameters
        .iter()
        .flat_map(|(_, tensor)| tensor.data.clone())
        .collect())
}

fn gradients<T: crate::Real, D: Device<T>>(device: &D, graph: &Graph) -> Parameters<f64> {
    let objective = Objective {
        spontaneous_steps: 4,
        stimulus_steps: 7,
        after_steps: 5,
        ramp: logspace(-1.0, 0.0, 3),
        return_weight: 0.5,
        return_window: 2,
    };
    let mut stream = Stream::new(1, Purpose::Probe, 0, 0, 0, 0);
    let labels: Vec<u32> = (0..12).map(|image| image % 3).collect();
    let targets = Target::of_mixed(&labels, 0.7);
    let values = (0..labels.len() * graph.image_len()).map(|_| T::from_f64(stream.normal()));
    let images: Vec<T> = values.collect();
    let batch = Batch {
        images: &images,
        targets: &targets,
    };
    let parameters = Initialisation::default().cordsnet(graph, 3).cast();
    let (euler, phi) = (Euler::published(), crate::device::Phi::Relu);
    let gradient = CordsNetGradient::new(device, graph, &parameters, &euler, phi, &objective);
    let twice = gradient.and_then(|mut gradient| {
        // What is done again is what was recorded.
        gradient.run(batch, &[])?;
        gradient.run(batch, &[])
    });
    twice.expect("it does not fail").gradients.cast()
}

#[test]
fn cells_and_leaks_of_channels_go_as_on_the_cpu() {
    let mut description = architecture().description().clone();
    for area in &mut description.areas {
        (area.tau_ms, area.trains_tau, area.tau_per_channel) = (Some(12.0), true, true);
    }
    description.areas[1].cell = CellKind::Adapting(Adaptation {
        tau_a_ms: 30.0,
        beta: 0.5,
        trained: true,
    });
    let graph = Graph::new(description).expect("valid");
    let found = gradients::<f32, _>(&device(), &graph);
    for (name, expected) in gradients::<f64, _>(&Cpu, &graph).iter() {
        let found = &found.get(name).expect("a gradient").data;
        let size = expected.data.iter().fold(0.0, |size: f64, g| size.max(g.abs()));
        for (found, expected) in found.iter().zip(&expected.data) {
            assert!((found - expected).abs() <= 1e-3 * size, "{name}: {found} {expected}");
        }
    }
}

/// Work that is asked for once more is done as it was recorded, with the values of now, and with other scratch memory
/// recorded anew.
#[test]
fn repeated_work_is_recorded() {
    let gpu = Emulated::new(ENOUGH);
    let device = Cuda::new(gpu.clone(), 8);
    let mut capture = Default::default();
    let mut reductions = Reductions::default();
    let mut x = device.upload(&[0.0; 4]);
    let mut y = device.zeros(4);
    let mut asked = 0;
    let shape = |side| ConvShape {
        inputs: 1,
        outputs: 1,
        kernel: 1,
        stride: 1,
        padding: 0,
        in_side: side,
    };
    let filter = device.filter(shape(2), &device.upload(&[2.0]));
    let mut work = Workspace::default();
    let mut sums = Vec::new();
    for (round, value) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
        if round == 3 {
            // Needs more scratch memory.
            let one = device.upload(&[1.0]);
            let (large, mut out) = (device.filter(shape(9), &one), device.zeros(81));
            device.conv(&mut work, &large, 1, &device.zeros(81), &mut out, false);
        }
        device.copy(&device.upload(&[value; 4]), &mut x);
        device.repeat(&mut capture, &mut reductions, |reductions| {
            asked += 1;
            device.conv(&mut work, &filter, 1, &x, &mut y, false);
            device.clear(&mut x);
            device.sum_squares(&y, reductions);
        });
        sums.push(device.read(&mut reductions).concat().iter().sum::<f64>());
    }
    assert_eq!(sums, [16.0, 64.0, 144.0, 256.0]);
    assert_eq!(device.check(), Ok(()));
    // Done, recorded, done again from that, recorded again.
    assert_eq!((asked, gpu.replays()), (3, 3));
}

/// What cannot be recorded is asked for every time, and nothing of the attempt remains.
#[test]
fn work_that_takes_memory_is_not_recorded() {
    let gpu = Emulated::new(ENOUGH);
    let device = Cuda::new(gpu.clone(), 8);
    let (mut capture, mut reductions) = (Default::default(), Reductions::default());
    for value in [1.0, 2.0, 3.0] {
        device.repeat(&mut capture, &mut reductions, |reductions| {
            device.sum_squares(&device.upload(&[value; 4]), reductions);
        });
        assert_eq!(
            device.read(&mut reductions).concat().iter().sum::<f64>(),
            4.0 * f64::from(value * value)
        );
    }
    assert_eq!((device.check(), gpu.replays()), (Ok(()), 0));
}

/// Training on both devices goes the same way; what is asked for as a budget is enough, and too little memory is an
/// error of its own kind.
#[test]
fn training_goes_as_on_the_cpu_and_within_its_budget() {
    for history in [HistoryPrecision::Float32, HistoryPrecision::Bfloat16] {
        let expected = train(&Cpu, history, None).expect("trained");
        let gpu = Emulated::new(ENOUGH);
        let found = train(&Cuda::new(gpu.clone(), 8), history, None).expect("trained");
        // Groups of eight and of four images and the spontaneous phase, of four gradient steps and two validations: done
        // once, then from what was recorded.
        assert_eq!(gpu.replays(), 4 + 5);
        let asked = Emulated::new(ENOUGH).without_recording();
        assert!(train(&Cuda::new(asked, 8), history, None).expect("trained") == found);
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
            with_images_that_fit(&little, 12, None, |device| train(device, history, None)).expect("fewer images fit");
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

/// What bfloat16 convolutions keep beside everything else is in the plan, and they train to about the same weights.
#[test]
fn bfloat16_training_stays_within_its_budget() {
    let history = HistoryPrecision::Bfloat16;
    let expected = train(&Cpu, history, None).expect("trained");
    let narrow = |bytes| Emulated::new(bytes).rounded(11).narrow();
    let Err(TrainError::Memory { needed, .. }) = train(&Cuda::new(narrow(ENOUGH), 8), history, Some(1)) else {
        panic!("a budget of one byte must be refused");
    };
    let exactly = narrow(needed as usize);
    let found = train(&Cuda::new(exactly.clone(), 8), history, Some(needed)).expect("its budget is enough");
    assert!(
        exactly.least() < needed as usize / 2,
        "{} of {needed} left",
        exactly.least()
    );
    let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let difference = size(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    assert!(
        difference > 0.0 && difference < 0.05 * size(&mut expected.iter().copied()),
        "{difference}"
    );
}

/// Everything that uses a trained network gives on both devices what differs by roundings, in groups of other sizes.
#[test]
fn evaluation_noise_and_recording_go_as_on_the_cpu() {
    let folder = tempfile::tempdir().expect("a folder");
    let classes = ["a", "b", "c"].map(str::to_owned);
    let mut writer = ImageSetWriter::create(&folder.path().join("set"), "noise", 2, 16, &classes).expect("created");
    for image in 0..11u64 {
        let mut stream = Stream::new(1, Purpose::Probe, image, 0, 0, 0);
        let pixels: Vec<u8> = (0..2 * 16 * 16).map(|_| stream.below(256) as u8).collect();
        writer.push(&pixels, (image % 3) as u32).expect("pushed");
    }
    let splits = Splits {
        train: vec![0],
        test: (1..11).collect(),
        ..Splits::default()
    };
    let set = writer.finish(&splits, None, "", "").expect("finished");
    let presentation = Presentation {
        spontaneous_ms: 10.0,
        stimulus_ms: 20.0,
    };
    let (architecture, initialisation) = (architecture(), Initialisation::default());
    let cordsnet = Model::CordsNet {
        architecture: architecture.clone(),
        euler: Euler::published(),
        phi: crate::device::Phi::Relu,
        parameters: initialisation.cordsnet(&architecture, 1),
        info: ModelInfo::default(),
    };
    let cnn = Model::Cnn {
        parameters: initialisation.cnn(&architecture, 1),
        architecture,
        info: ModelInfo::default(),
    };
    let gpu = Cuda::new(Emulated::new(ENOUGH), 5);
    let (set, images) = (&set, set.split(Split::Test));
    let close = |what: &str, found: &[f64], expected: &[f64]| {
        let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        let difference = found
            .iter()
            .zip(expected)
            .fold(0.0f64, |d, (a, b)| d.max((a - b).abs()));
        assert!(
            found.len() == expected.len() && difference < 1e-5 * largest,
            "{what}: {difference} of {largest}"
        );
        assert!(largest > 0.0, "{what}");
    };
    let pixels = |noise, timing, clip| Perturbation::Pixels { noise, timing, clip };
    let perturbations = [
        pixels(Pixels::Gaussian, NoisePresentation::Static, false),
        pixels(Pixels::Gaussian, NoisePresentation::Dynamic, true),
        pixels(Pixels::Speckle, NoisePresentation::Dynamic, false),
        pixels(Pixels::Shot, NoisePresentation::Dynamic, true),
        pixels(
            Pixels::Gaussian,
            NoisePresentation::OrnsteinUhlenbeck { tau_ms: 10.0 },
            false,
        ),
        Perturbation::Neural,
        Perturbation::Silencing,
        Perturbation::Weights,
    ];
    for (model, observers) in [
        (
            &cordsnet,
            &[Observer::Cordsnet, Observer::CordsnetWithoutRecurrence][..],
        ),
        (&cnn, &[Observer::CnnMeanFrame, Observer::CnnMeanLogits][..]),
    ] {
        let logits = |evaluation: Result<Evaluation, TrainError>| -> Vec<f64> {
            let logits = evaluation.expect("evaluated").logits;
            logits.into_iter().map(f64::from).collect()
        };
        let of = SplitImages::new(set, Split::Test, None, 0).expect("images");
        let [found, expected] = [
            logits(evaluate(&gpu, model, &of, Some(presentation))),
            logits(evaluate(&Cpu, model, &of, Some(presentation))),
        ];
        close("logits", &found, &expected);

        let options = EvaluationOptions {
            observers: observers.to_vec(),
            conditions: perturbations
                .iter()
                .map(|perturbation| Condition {
                    perturbation: *perturbation,
                    level: 0.2,
                })
                .collect(),
            areas: None,
            presentation,
            dt_ms: 2.0,
            seed: 3,
            trial: 0,
        };
        let losses = |results: Result<Vec<NoiseResult>, NoiseError>| -> Vec<f64> {
            let results = results.expect("evaluated");
            results
                .iter()
                .flat_map(|result| {
                    let changes = result.areas.iter().map(|area| area.change.expect("finite"));
                    changes.chain([result.cross_entropy.expect("finite"), result.achieved])
                })
                .collect()
        };
        let [found, expected] = [
            losses(noisy(&gpu, model, set, images, &options, &mut |_, _| {})),
            losses(noisy(&Cpu, model, set, images, &options, &mut |_, _| {})),
        ];
        close("cross-entropy under noise", &found, &expected);

        let options = RecordOptions {
            areas: vec![0, 1],
            times_ms: match model {
                Model::CordsNet { .. } => vec![0.0, 10.0, 30.0],
                Model::Cnn { .. } => Vec::new(),
            },
            pooled: false,
            presentation,
        };
        let rates = |name: &str, rows: Result<Vec<AreaTime>, RecordError>| -> Vec<f64> {
            let rows = rows.unwrap_or_else(|error| panic!("{name}: {error}"));
            rows.iter().map(|row| row.mean_rate.expect("finite")).collect()
        };
        let path = folder.path().join("activity.safetensors");
        let [found, expected] = [
            rates("GPU", record(&gpu, model, set, images, &options, &path, &mut |_, _| {})),
            rates("CPU", record(&Cpu, model, set, images, &options, &path, &mut |_, _| {})),
        ];
        close("mean rates", &found, &expected);
    }

    // Want of memory is told as such, so that fewer images are tried.
    let of = SplitImages::new(set, Split::Test, None, 0).expect("images");
    let all = Emulated::new(ENOUGH);
    evaluate(&Cuda::new(all.clone(), 10), &cordsnet, &of, Some(presentation)).expect("all fit");
    let little = Emulated::new(ENOUGH - all.least() - 1);
    let fit = |gpu: &Emulated, budget| {
        with_images_that_fit(gpu, 10, budget, |device| {
            evaluate(device, &cordsnet, &of, Some(presentation))
        })
    };
    let (evaluation, together) = fit(&little, None).expect("fewer fit");
    assert!(together < 10, "{together}");
    assert_eq!(evaluation.logits.len(), 30);
    // A budget below what there is does the same.
    let budget = (ENOUGH - all.least() - 1) as u64;
    let plenty = Emulated::new(ENOUGH);
    let (within, as_many) = fit(&plenty, Some(budget)).expect("fewer fit");
    assert!(as_many == together && within.logits == evaluation.logits);
    assert!((ENOUGH - plenty.least()) as u64 <= budget, "it is kept");
}
