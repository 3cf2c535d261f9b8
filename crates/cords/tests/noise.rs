//! Image noise and its evaluation: what draws depend on, how levels scale, and figures against direct computation.

use cords::Tensor;
use cords::data::{ImageSet, Limit, Normalisation, PrepareConfig, Source, Split, prepare};
use cords::device::Cpu;
use cords::net::{Architecture, Cnn, CordsNet, Euler, Input, Model, ModelInfo, Parameters, Phi, Presentation};
use cords::noise::*;
use cords::rng::{Purpose, Stream};

fn noise(timing: Timing, level: f64, dt_ms: f64) -> ImageNoise {
    ImageNoise {
        seed: 3,
        trial: 0,
        condition: Condition { timing, level },
        clip: false,
        dt_ms,
    }
}

fn frame(noise: &ImageNoise, image: u64, step: u32, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    noise.frame(&vec![0.5; n], image, step, &mut out);
    out
}

#[test]
fn levels_scale_the_same_draw() {
    let draw = |level| frame(&noise(Timing::Dynamic, level, 2.0), 7, 3, 500);
    let (weak, strong) = (draw(0.1), draw(0.4));
    for (weak, strong) in weak.iter().zip(&strong) {
        // Values up to 3 in f32 after one product and one sum.
        assert!((4.0 * (weak - 0.5) - (strong - 0.5)).abs() < 2e-6);
    }
    assert_eq!(draw(0.0), vec![0.5; 500]);
    // 500 values of standard deviation 0.1: standard error of the estimate 0.0032; bound 5 of them.
    let std = (weak.iter().map(|v| f64::from(v - 0.5).powi(2)).sum::<f64>() / 500.0).sqrt();
    assert!((std - 0.1).abs() < 0.016, "{std}");
}

#[test]
fn a_finer_step_has_stronger_frames_of_the_same_experiment() {
    assert_eq!(noise(Timing::Dynamic, 0.2, 2.0).frame_std(), 0.2);
    assert!((noise(Timing::Dynamic, 0.2, 0.5).frame_std() - 0.4).abs() < 1e-15);
    assert_eq!(noise(Timing::Static, 0.2, 0.5).frame_std(), 0.2);
}

#[test]
fn draws_depend_on_seed_image_trial_and_step_alone() {
    let dynamic = noise(Timing::Dynamic, 0.3, 2.0);
    let base = frame(&dynamic, 1, 1, 40);
    assert_eq!(base, frame(&dynamic, 1, 1, 40));
    // The first values do not depend on how many are drawn.
    assert_eq!(base[..9], frame(&dynamic, 1, 1, 9));
    assert_ne!(base, frame(&dynamic, 2, 1, 40));
    assert_ne!(base, frame(&dynamic, 1, 2, 40));
    assert_ne!(base, frame(&ImageNoise { seed: 4, ..dynamic }, 1, 1, 40));
    assert_ne!(base, frame(&ImageNoise { trial: 1, ..dynamic }, 1, 1, 40));
    let held = noise(Timing::Static, 0.3, 2.0);
    assert_eq!(frame(&held, 1, 0, 40), frame(&held, 1, 9, 40));
    assert_eq!(frame(&held, 1, 0, 40), frame(&dynamic, 1, 0, 40));
}

#[test]
fn clipping_is_an_option() {
    let strong = noise(Timing::Static, 2.0, 2.0);
    assert!(frame(&strong, 0, 0, 100).iter().any(|v| !(0.0..=1.0).contains(v)));
    let clipped = frame(&ImageNoise { clip: true, ..strong }, 0, 0, 100);
    assert!(clipped.iter().all(|v| (0.0..=1.0).contains(v)));
}

// ----------------------------------------------------------------------------------------------------------- evaluation

fn digits() -> (ImageSet, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("can make a folder");
    let config = PrepareConfig {
        source: Source::Digits,
        side: 16,
        resize: None,
        channels: 1,
        validation_fraction: None,
        test_fraction: None,
        seed: 1,
        limit: Some(Limit::PerClass(12)),
        normalisation: Normalisation::TrainingSplit,
    };
    prepare(&config, dir.path(), &mut |_, _| {}).expect("embedded");
    (ImageSet::open(dir.path()).expect("just written"), dir)
}

fn architecture() -> Architecture {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4; 3],
        strides: vec![1; 2],
        classes: 10,
    }
}

fn fill(shapes: Vec<(String, Vec<usize>)>) -> Parameters<f32> {
    let mut parameters = Parameters::new();
    for (i, (name, shape)) in shapes.into_iter().enumerate() {
        let mut tensor = Tensor::zeros(&shape);
        Stream::new(2, Purpose::Initialisation, i as u64, 0, 0, 0).normal_fill(&mut tensor.data);
        if name.ends_with("original0") {
            tensor.data.fill(if name.starts_with("area_conv") { 0.6 } else { 1.0 });
        } else if name.ends_with("running_var") {
            tensor.data.fill(1.5);
        }
        parameters.insert(name, tensor);
    }
    parameters
}

fn info(set: &ImageSet) -> ModelInfo {
    ModelInfo {
        mean: set.mean().to_vec(),
        std: set.std().to_vec(),
        classes: set.classes().to_vec(),
        ..Default::default()
    }
}

fn cordsnet(set: &ImageSet) -> Model {
    let parameters = fill(architecture().cordsnet_shapes());
    Model::CordsNet {
        architecture: architecture(),
        euler: Euler::published(),
        phi: Phi::Relu,
        parameters,
        info: info(set),
    }
}

fn cnn(set: &ImageSet) -> Model {
    Model::Cnn {
        architecture: architecture(),
        parameters: fill(architecture().cnn_shapes()),
        info: info(set),
    }
}

fn options(observers: &[Observer], conditions: &[(Timing, f64)]) -> EvaluationOptions {
    EvaluationOptions {
        observers: observers.to_vec(),
        conditions: conditions
            .iter()
            .map(|&(timing, level)| Condition { timing, level })
            .collect(),
        presentation: Presentation {
            spontaneous_ms: 20.0,
            stimulus_ms: 30.0,
        },
        dt_ms: 2.0,
        seed: 11,
        trial: 0,
        clip: false,
    }
}

fn run(model: &Model, set: &ImageSet, options: &EvaluationOptions) -> Vec<NoiseResult> {
    let mut last = (0, 0);
    let results = evaluate(&Cpu, model, set, set.split(Split::Test), options, &mut |done, total| {
        last = (done, total)
    });
    assert_eq!(last.0, last.1);
    results.expect("everything fits")
}

const RECURRENT: [Observer; 2] = [Observer::Cordsnet, Observer::CordsnetWithoutRecurrence];
const FEEDFORWARD: [Observer; 3] = [Observer::CnnFirstFrame, Observer::CnnMeanFrame, Observer::CnnMeanLogits];

#[test]
fn clean_images_are_scored_as_by_hand() {
    let (set, _dir) = digits();
    let model = cordsnet(&set);
    let images = set.split(Split::Test);
    let result = &run(&model, &set, &options(&RECURRENT, &[(Timing::Static, 0.0)]))[0];

    let net: CordsNet<f32> = model.cordsnet().expect("a CordsNet").expect("valid");
    let (mut correct, mut top5, mut loss, mut early) = (0, 0, 0.0, 0);
    for &i in images {
        let mut pixels = vec![0.0; 256];
        set.fill_unit(i as usize, &mut pixels);
        set.normalise(&mut pixels);
        let mut state = net.spontaneous(10);
        let label = set.label(i as usize) as usize;
        let rank = |logits: &[f32]| logits.iter().filter(|logit| **logit > logits[label]).count();
        net.run(
            &mut state,
            Input::Constant(&net.embed(&pixels, 1)),
            15,
            &mut |step, view| {
                early += usize::from(step == 4 && rank(&view.logits()) == 0);
            },
        );
        let logits = net.logits(&state);
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        loss += sum.ln() - f64::from(logits[label]);
        correct += usize::from(rank(&logits) == 0);
        top5 += usize::from(rank(&logits) < 5);
    }
    assert_eq!(
        (result.images, result.correct, result.diverged),
        (images.len(), correct, 0)
    );
    assert_eq!(result.top5, Some(top5 as f64 / images.len() as f64));
    assert_eq!(result.accuracy_interval, wilson_interval(correct, images.len()));
    let difference = result.cross_entropy.expect("finite") - loss / images.len() as f64;
    // Logits of size 10 in f32, groups of other sizes.
    assert!(difference.abs() < 1e-5, "{difference}");
    assert_eq!(result.over_time.len(), 15);
    assert_eq!(
        (result.over_time[4].time_ms, result.over_time[4].correct),
        (10.0, early)
    );
    assert_eq!(result.over_time[14].correct, correct);
    assert_eq!(result.achieved_std, 0.0);
}

#[test]
fn results_depend_neither_on_threads_nor_on_other_conditions() {
    let (set, _dir) = digits();
    let all = [
        (Timing::Static, 0.0),
        (Timing::Static, 0.3),
        (Timing::Dynamic, 0.3),
        (Timing::Dynamic, 0.8),
    ];
    for (model, observers) in [(cordsnet(&set), &RECURRENT[..]), (cnn(&set), &FEEDFORWARD[..])] {
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads")
        };
        let results = pool(1).install(|| run(&model, &set, &options(observers, &all)));
        assert_eq!(
            results,
            pool(3).install(|| run(&model, &set, &options(observers, &all)))
        );
        assert_eq!(results.len(), observers.len() * all.len());
        let alone = run(&model, &set, &options(&observers[1..2], &[all[3]]));
        assert_eq!(alone[0], results[all.len() + 3]);
        let other_seed = EvaluationOptions {
            seed: 12,
            ..options(observers, &all)
        };
        assert_ne!(results, run(&model, &set, &other_seed));
    }
}

/// The same images in another order, hence in other groups, and one by one: each sees the noise that is its own. Counts
/// are equal; sums of as many f32 products in another order differ by rounding.
#[test]
fn an_images_noise_does_not_depend_on_the_images_beside_it() {
    let (set, _dir) = digits();
    let images = set.split(Split::Test);
    let moved: Vec<u32> = images.iter().rev().copied().collect();
    assert!(
        images.len() > 8 && !images.len().is_multiple_of(8),
        "groups would be the same"
    );
    let conditions = [(Timing::Static, 0.4), (Timing::Dynamic, 0.8)];
    for (model, observers) in [(cordsnet(&set), &RECURRENT[..]), (cnn(&set), &FEEDFORWARD[..])] {
        let options = options(observers, &conditions);
        let of =
            |images: &[u32]| evaluate(&Cpu, &model, &set, images, &options, &mut |_, _| {}).expect("everything fits");
        let (together, reversed) = (of(images), of(&moved));
        let alone: Vec<_> = images.iter().map(|image| of(&[*image])).collect();
        for (index, result) in together.iter().enumerate() {
            let entropy = result.cross_entropy.expect("finite");
            for (correct, other) in [
                (reversed[index].correct, reversed[index].cross_entropy.expect("finite")),
                (
                    alone.iter().map(|each| each[index].correct).sum(),
                    alone
                        .iter()
                        .map(|each| each[index].cross_entropy.expect("finite"))
                        .sum::<f64>()
                        / images.len() as f64,
                ),
            ] {
                assert_eq!(result.correct, correct, "{:?} {:?}", result.observer, result.condition);
                assert!((entropy - other).abs() < 1e-5 * entropy.max(1.0), "{entropy} {other}");
            }
            let squares: f64 = alone.iter().map(|each| each[index].achieved_std.powi(2)).sum();
            let achieved = (squares / images.len() as f64).sqrt();
            assert!((achieved - result.achieved_std).abs() < 1e-12, "{achieved}");
        }
    }
}

#[test]
fn achieved_noise_is_measured() {
    let (set, _dir) = digits();
    let conditions = [(Timing::Static, 0.2), (Timing::Dynamic, 0.2)];
    let images = set.split(Split::Test).len() as f64;
    let check = |options: &EvaluationOptions, frames: [f64; 2], std: [f64; 2]| {
        for (i, result) in run(&cordsnet(&set), &set, options).iter().enumerate() {
            // Standard error of a standard deviation from n values: std / sqrt(2 n); bound 5 of them.
            let bound = 5.0 * std[i] / (2.0 * images * 256.0 * frames[i]).sqrt();
            assert!((result.frame_std - std[i]).abs() < 1e-12);
            assert!(
                (result.achieved_std - std[i]).abs() < bound,
                "{} against {}",
                result.achieved_std,
                std[i]
            );
        }
    };
    let base = options(&[Observer::Cordsnet], &conditions);
    check(&base, [1.0, 15.0], [0.2, 0.2]);
    let clipped = EvaluationOptions { clip: true, ..base };
    for result in run(&cordsnet(&set), &set, &clipped) {
        // Digits have many pixels at 0, where clipping takes half of the noise away.
        assert!(result.clip && result.achieved_std < 0.17, "{}", result.achieved_std);
    }
}

#[test]
fn cnn_sees_the_frames_that_were_promised() {
    let (set, _dir) = digits();
    let model = cnn(&set);
    let net: Cnn<f32> = model.cnn_on(&Cpu).expect("a CNN").expect("valid");
    let results = run(
        &model,
        &set,
        &options(&FEEDFORWARD, &[(Timing::Dynamic, 0.5), (Timing::Static, 0.5)]),
    );
    let images = set.split(Split::Test);
    let shown = noise(Timing::Dynamic, 0.5, 2.0);
    let shown = ImageNoise { seed: 11, ..shown };
    let (mut first, mut mean_frame, mut mean_logits) = (0, 0, 0);
    for &i in images {
        let mut clean = vec![0.0; 256];
        set.fill_unit(i as usize, &mut clean);
        let frames: Vec<Vec<f32>> = (0..15)
            .map(|step| {
                let mut frame = vec![0.0; 256];
                shown.frame(&clean, u64::from(i), step, &mut frame);
                frame
            })
            .collect();
        let logits = |frame: &[f32]| {
            let mut frame = frame.to_vec();
            set.normalise(&mut frame);
            net.logits_eval(&frame, 1)
        };
        let correct = |logits: &[f32]| {
            let label = set.label(i as usize) as usize;
            usize::from(logits.iter().all(|logit| *logit <= logits[label]))
        };
        let average = |all: &[Vec<f32>]| -> Vec<f32> {
            (0..all[0].len())
                .map(|k| all.iter().map(|v| f64::from(v[k])).sum::<f64>() as f32 / all.len() as f32)
                .collect()
        };
        first += correct(&logits(&frames[0]));
        mean_frame += correct(&logits(&average(&frames)));
        mean_logits += correct(&average(&frames.iter().map(|f| logits(f)).collect::<Vec<_>>()));
    }
    let counted: Vec<usize> = results.iter().map(|result| result.correct).collect();
    assert_eq!([counted[0], counted[2], counted[4]], [first, mean_frame, mean_logits]);
    // A held frame: all three see the same.
    assert!(counted[1] == counted[3] && counted[3] == counted[5]);
    assert!(results.iter().all(|result| result.over_time.is_empty()));
}

#[test]
fn removing_recurrence_sets_its_weights_to_zero() {
    let (set, _dir) = digits();
    let model = cordsnet(&set);
    let Model::CordsNet {
        architecture,
        euler,
        phi,
        mut parameters,
        info,
    } = model.clone()
    else {
        panic!("a CordsNet")
    };
    for area in 0..2 {
        let name = format!("area_conv.{area}.parametrizations.weight.original0");
        parameters.get_mut(&name).expect("there").data.fill(0.0);
    }
    assert!(CordsNet::new(&architecture, &parameters, &euler, Phi::Relu).is_ok());
    let control = Model::CordsNet {
        architecture,
        euler,
        phi,
        parameters,
        info,
    };
    let conditions = [(Timing::Dynamic, 0.4)];
    let mut expected = run(&control, &set, &options(&RECURRENT[..1], &conditions)).remove(0);
    let found = run(&model, &set, &options(&RECURRENT, &conditions));
    assert_ne!(found[0].cross_entropy, found[1].cross_entropy);
    expected.observer = Observer::CordsnetWithoutRecurrence;
    assert_eq!(found[1], expected);
}

#[test]
fn diverged_networks_are_counted_and_not_averaged() {
    let (set, _dir) = digits();
    let Model::CordsNet {
        architecture,
        euler,
        phi,
        mut parameters,
        info,
    } = cordsnet(&set)
    else {
        panic!("a CordsNet")
    };
    for area in 0..2 {
        let name = format!("area_conv.{area}.parametrizations.weight.original0");
        parameters.get_mut(&name).expect("there").data.fill(1e30);
    }
    let model = Model::CordsNet {
        architecture,
        euler,
        phi,
        parameters,
        info,
    };
    let result = &run(&model, &set, &options(&[Observer::Cordsnet], &[(Timing::Static, 0.1)]))[0];
    assert_eq!(
        (result.diverged, result.correct, result.cross_entropy),
        (result.images, 0, None)
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let (set, _dir) = digits();
    let good = options(&[Observer::Cordsnet], &[(Timing::Static, 0.1)]);
    let fails = |model: &Model, images: &[u32], options: &EvaluationOptions| {
        evaluate(&Cpu, model, &set, images, options, &mut |_, _| {}).expect_err("must fail")
    };
    let images = set.split(Split::Test);
    let model = cordsnet(&set);
    assert!(matches!(fails(&cnn(&set), images, &good), NoiseError::Observer { .. }));
    let feedforward = options(&FEEDFORWARD, &[(Timing::Static, 0.1)]);
    assert!(matches!(
        fails(&model, images, &feedforward),
        NoiseError::Observer { .. }
    ));
    assert!(matches!(
        fails(&model, &[], &good),
        NoiseError::Option { option: "images", .. }
    ));
    assert!(matches!(
        fails(&model, &[9999], &good),
        NoiseError::Option { option: "images", .. }
    ));
    let negative = options(&[Observer::Cordsnet], &[(Timing::Static, -0.1)]);
    assert!(matches!(
        fails(&model, images, &negative),
        NoiseError::Option { option: "level", .. }
    ));
    let mut short = good.clone();
    short.presentation.stimulus_ms = 0.5;
    assert!(matches!(
        fails(&model, images, &short),
        NoiseError::Option {
            option: "stimulus_ms",
            ..
        }
    ));
    let mut other = model.clone();
    if let Model::CordsNet { info, .. } = &mut other {
        info.classes[3] = "three".to_owned();
    }
    assert!(matches!(
        fails(&other, images, &good),
        NoiseError::Mismatch {
            what: "class names",
            ..
        }
    ));
    let mut other = model.clone();
    if let Model::CordsNet { architecture, .. } = &mut other {
        architecture.image_side = 32;
    }
    assert!(matches!(
        fails(&other, images, &good),
        NoiseError::Mismatch { what: "image side", .. }
    ));
}
