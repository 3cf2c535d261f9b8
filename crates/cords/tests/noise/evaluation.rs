//! Classification of perturbed images and by perturbed networks.

use cords::Tensor;
use cords::data::{ImageSet, Limit, Normalisation, PrepareConfig, Source, Split, prepare};
use cords::device::Cpu;
use cords::net::{Architecture, Cnn, CordsNet, Euler, Input, Model, ModelInfo, Parameters, Phi, Presentation};
use cords::noise::*;
use cords::rng::{Purpose, Stream};

use crate::pixels::noise;

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

pub(crate) fn architecture() -> Architecture {
    Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4; 3],
        strides: vec![1; 2],
        classes: 10,
    }
}

pub(crate) fn fill(shapes: Vec<(String, Vec<usize>)>) -> Parameters<f32> {
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

fn gaussian(timing: Timing, level: f64) -> Condition {
    Condition {
        perturbation: Perturbation::Pixels {
            noise: Pixels::Gaussian,
            timing,
            clip: false,
        },
        level,
    }
}

fn options(observers: &[Observer], conditions: &[(Timing, f64)]) -> EvaluationOptions {
    EvaluationOptions {
        observers: observers.to_vec(),
        conditions: conditions
            .iter()
            .map(|&(timing, level)| gaussian(timing, level))
            .collect(),
        areas: None,
        presentation: Presentation {
            spontaneous_ms: 20.0,
            stimulus_ms: 30.0,
        },
        dt_ms: 2.0,
        seed: 11,
        trial: 0,
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
        (result.right.len(), result.correct, result.diverged),
        (images.len(), correct, 0)
    );
    assert_eq!(result.top5, Some(top5 as f64 / images.len() as f64));
    assert_eq!(result.accuracy_interval, Some(wilson_interval(correct, images.len())));
    let difference = result.cross_entropy.expect("finite") - loss / images.len() as f64;
    // Logits of size 10 in f32, groups of other sizes.
    assert!(difference.abs() < 1e-5, "{difference}");
    assert_eq!(result.over_time.len(), 15);
    assert_eq!(
        (result.over_time[4].time_ms, result.over_time[4].correct),
        (10.0, early)
    );
    assert_eq!(result.over_time[14].correct, correct);
    assert_eq!(result.achieved, 0.0);
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
            let squares: f64 = alone.iter().map(|each| each[index].achieved.powi(2)).sum();
            let achieved = (squares / images.len() as f64).sqrt();
            assert!((achieved - result.achieved).abs() < 1e-12, "{achieved}");
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
            assert!(
                (result.achieved - std[i]).abs() < bound,
                "{} against {}",
                result.achieved,
                std[i]
            );
        }
    };
    let base = options(&[Observer::Cordsnet], &conditions);
    check(&base, [1.0, 15.0], [0.2, 0.2]);
    let mut clipped = base;
    for condition in &mut clipped.conditions {
        if let Perturbation::Pixels { clip, .. } = &mut condition.perturbation {
            *clip = true;
        }
    }
    for result in run(&cordsnet(&set), &set, &clipped) {
        // Digits have many pixels at 0, where clipping takes half of the noise away.
        assert!(result.achieved < 0.17, "{}", result.achieved);
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
    let shown = PixelNoise { seed: 11, ..shown };
    let (mut first, mut mean_frame, mut mean_logits) = (0, 0, 0);
    for &i in images {
        let mut clean = vec![0.0; 256];
        set.fill_unit(i as usize, &mut clean);
        let frames: Vec<Vec<f32>> = (0..15)
            .map(|step| {
                let mut frame = vec![0.0; 256];
                Film::new(shown, 16, u64::from(i)).frame(&clean, step, &mut frame);
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
        (result.right.len(), 0, None)
    );
}

/// The same network with other gains of its recurrent weights and another step.
fn altered(set: &ImageSet, gain: Option<f32>, dt_ms: f64) -> Model {
    let Model::CordsNet {
        architecture,
        euler,
        phi,
        mut parameters,
        info,
    } = cordsnet(set)
    else {
        panic!("a CordsNet")
    };
    for area in 0..2 {
        let name = format!("area_conv.{area}.parametrizations.weight.original0");
        if let Some(gain) = gain {
            parameters.get_mut(&name).expect("there").data.fill(gain);
        }
    }
    Model::CordsNet {
        architecture,
        euler: Euler { dt_ms, ..euler },
        phi,
        parameters,
        info,
    }
}

/// A network that explodes, some images before others: whichever have diverged have no answer, and the others' answers count.
#[test]
fn single_images_that_diverged_have_no_answer_in_noise_and_evaluation() {
    let (set, _dir) = digits();
    // From rest, so that images differ by what they drive.
    let presentation = Presentation {
        spontaneous_ms: 0.0,
        stimulus_ms: 800.0,
    };
    let options = EvaluationOptions {
        presentation,
        ..options(&[Observer::Cordsnet], &[(Timing::Static, 0.0), (Timing::Static, 0.2)])
    };
    // How fast it explodes decides whether images do so in different steps.
    let (model, results, between) = [6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0]
        .into_iter()
        .find_map(|gain| {
            let model = altered(&set, Some(gain), 2.0);
            let results = run(&model, &set, &options);
            let some = |point: &TimePoint| point.diverged > 0 && point.diverged < results[0].right.len();
            let between = results[0].over_time.iter().position(some)?;
            (results.iter().all(|result| result.diverged == result.right.len())).then_some((model, results, between))
        })
        .expect("a network that explodes for some images before others");
    let images = results[0].right.len();
    let diverged: Vec<usize> = results[0].over_time.iter().map(|point| point.diverged).collect();
    assert!(diverged.windows(2).all(|pair| pair[0] <= pair[1]), "{diverged:?}");
    assert_eq!((diverged[0], diverged[diverged.len() - 1]), (0, images));
    for point in &results[0].over_time {
        let answered = images - point.diverged;
        let expected = (answered > 0).then(|| point.correct as f64 / answered as f64);
        assert_eq!(point.accuracy, expected);
    }
    assert_eq!(
        (results[1].diverged, results[1].accuracy, results[1].top5),
        (images, None, None)
    );
    assert_eq!(results[1].accuracy_interval, None);
    assert!(
        results[1]
            .areas
            .iter()
            .all(|area| area.change.is_none() && area.gain.is_none())
    );

    // Shown for as long as only some have diverged: the same images, and a change that is that of the others.
    let shorter = EvaluationOptions {
        presentation: Presentation {
            stimulus_ms: (between + 1) as f64 * 2.0,
            ..presentation
        },
        ..options
    };
    let some = &run(&model, &set, &shorter)[0];
    assert!(some.diverged > 0 && some.diverged < images, "{}", some.diverged);
    assert_eq!(some.right.iter().filter(|right| right.is_none()).count(), some.diverged);
    assert!(some.accuracy.is_some() && some.cross_entropy.is_some_and(f64::is_finite));
    // Without noise nothing changes, in the images that are left.
    assert!(
        some.areas.iter().all(|area| area.change == Some(0.0)),
        "{:?}",
        some.areas
    );

    let split = cords::data::SplitImages::new(&set, Split::Test, None, 0).expect("images");
    let evaluation = cords::learn::evaluate(&Cpu, &model, &split, Some(presentation)).expect("evaluated");
    let same: Vec<usize> = evaluation.over_time.iter().map(|answers| answers.diverged).collect();
    assert_eq!(same, diverged);
    assert!(evaluation.answers.accuracy.is_nan() && evaluation.answers.cross_entropy.is_nan());
    let part = &evaluation.over_time[between];
    assert_eq!(Some(part.accuracy), results[0].over_time[between].accuracy);
    assert!(part.cross_entropy.is_finite());
}

/// ReLU makes 0 of what is not a number, so that logits look fine.
#[test]
fn a_cnn_that_overflows_has_no_answers() {
    let (set, _dir) = digits();
    let Model::Cnn {
        architecture,
        mut parameters,
        info,
    } = cnn(&set)
    else {
        panic!("a CNN")
    };
    for area in 0..2 {
        let name = format!("area_conv.{area}.parametrizations.weight.original0");
        parameters.get_mut(&name).expect("there").data.fill(3e38);
    }
    let model = Model::Cnn {
        architecture,
        parameters,
        info,
    };
    for result in run(
        &model,
        &set,
        &options(&FEEDFORWARD, &[(Timing::Static, 0.1), (Timing::Dynamic, 0.1)]),
    ) {
        assert_eq!(
            (result.diverged, result.accuracy),
            (result.right.len(), None),
            "{:?}",
            result.observer
        );
    }
    let split = cords::data::SplitImages::new(&set, Split::Test, None, 0).expect("images");
    let evaluation = cords::learn::evaluate(&Cpu, &model, &split, None).expect("evaluated");
    assert_eq!(evaluation.answers.diverged, split_len(&set));
}

fn split_len(set: &ImageSet) -> usize {
    set.split(Split::Test).len()
}

/// How much noise changes activity, at a fine step against a coarse one: the same under noise that goes on in time; under fresh
/// noise only while it is small.
#[test]
fn a_network_of_another_step_sees_the_same_experiment_in_noise_that_goes_on_in_time() {
    let (set, _dir) = digits();
    let ratio = |timing: Timing, level: f64| -> f64 {
        let change = |dt_ms: f64| {
            let options = EvaluationOptions {
                presentation: Presentation {
                    spontaneous_ms: 20.0,
                    stimulus_ms: 100.0,
                },
                ..options(&[Observer::Cordsnet], &[(timing, level)])
            };
            let result = run(&altered(&set, None, dt_ms), &set, &options).remove(0);
            result.areas[1].change.expect("activity")
        };
        change(1.0) / change(5.0)
    };
    let process = Timing::OrnsteinUhlenbeck { tau_ms: 20.0 };
    let (small, large) = (ratio(Timing::Dynamic, 0.02), ratio(Timing::Dynamic, 2.0));
    let (small_process, large_process) = (ratio(process, 0.02), ratio(process, 2.0));
    let found = format!("fresh {small}, {large}; process {small_process}, {large_process}");
    // Euler's steps leave 2/(2 - dt/tau) of fresh noise: 0.79 as much at 1 ms as at 5 ms, in two areas one behind the other.
    assert!((0.6..1.1).contains(&small), "{found}");
    assert!(large > 1.4 * small, "{found}");
    for process in [small_process, large_process] {
        assert!((process - 1.0).abs() < 0.15, "{found}");
    }
}

/// A single frame follows no other: whatever the step of the networks beside it, it is that of a step of 2 ms.
#[test]
fn a_cnns_single_frame_does_not_depend_on_the_step_of_frames() {
    let (set, _dir) = digits();
    let at = |dt_ms: f64| {
        let options = EvaluationOptions {
            dt_ms,
            ..options(&FEEDFORWARD, &[(Timing::Dynamic, 0.5)])
        };
        run(&cnn(&set), &set, &options)
    };
    let (fine, coarse) = (at(1.0), at(5.0));
    assert_eq!(fine[0], coarse[0]);
    assert_eq!(fine[0].dt_ms, 2.0);
    assert_ne!(fine[1].achieved, coarse[1].achieved);
    assert_eq!((fine[1].dt_ms, coarse[2].dt_ms), (1.0, 5.0));
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

fn condition(perturbation: Perturbation, level: f64) -> Condition {
    Condition { perturbation, level }
}

/// Gains from their definition, with activity from a run of the network itself.
#[test]
fn gains_are_what_their_definition_says() {
    let (set, _dir) = digits();
    let model = cordsnet(&set);
    let images = set.split(Split::Test);
    let held = options(&RECURRENT[..1], &[(Timing::Static, 0.3), (Timing::Static, 0.0)]);
    let results = run(&model, &set, &held);
    let net: CordsNet<f32> = model.cordsnet().expect("a CordsNet").expect("valid");
    let noise = PixelNoise {
        seed: 11,
        ..noise(Timing::Static, 0.3, 2.0)
    };
    let [mut dx, mut x, mut dr, mut r] = [[0.0f64; 2]; 4];
    for &i in images {
        let mut clean = vec![0.0; 256];
        set.fill_unit(i as usize, &mut clean);
        let mut noisy = vec![0.0; 256];
        Film::new(noise, 16, u64::from(i)).frame(&clean, 0, &mut noisy);
        let [clean, noisy] = [clean, noisy].map(|mut pixels| {
            set.normalise(&mut pixels);
            let mut state = net.spontaneous(10);
            net.run(&mut state, Input::Constant(&net.embed(&pixels, 1)), 15, &mut |_, _| {});
            (pixels, state)
        });
        let squares = |a: &[f32], b: &[f32]| -> (f64, f64) {
            let change = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            (change, b.iter().map(|b| f64::from(*b).powi(2)).sum())
        };
        let (change, whole) = squares(&noisy.0, &clean.0);
        (dx[0], x[0]) = (dx[0] + change, x[0] + whole);
        for area in 0..2 {
            let (change, whole) = squares(&noisy.1.areas[area], &clean.1.areas[area]);
            (dr[area], r[area]) = (dr[area] + change, r[area] + whole);
        }
    }
    for area in 0..2 {
        let found = results[0].areas[area];
        let change = dr[area] / r[area];
        // float32 activity in groups of other sizes.
        assert!(
            (found.change.expect("finite") / change - 1.0).abs() < 1e-4,
            "{found:?} {change}"
        );
        let gain = change / (dx[0] / x[0]);
        assert!(
            (found.gain.expect("noisy") / gain - 1.0).abs() < 1e-4,
            "{found:?} {gain}"
        );
        assert_eq!(results[1].areas[area].change, Some(0.0));
        assert_eq!(results[1].areas[area].gain, None);
    }
}

#[test]
fn silenced_units_are_silent_and_grow_in_number() {
    let (set, _dir) = digits();
    let (cordsnet, cnn) = (cordsnet(&set), cnn(&set));
    let levels = [0.0, 0.2, 0.5, 1.0];
    let conditions: Vec<Condition> = levels.map(|level| condition(Perturbation::Silencing, level)).to_vec();
    for (model, observers) in [(&cordsnet, &RECURRENT[..]), (&cnn, &FEEDFORWARD[..])] {
        let options = EvaluationOptions {
            conditions: conditions.clone(),
            ..options(observers, &[])
        };
        let results = run(model, &set, &options);
        // A CNN is seen in one way only.
        let expected = if observers.len() == 2 { 8 } else { 4 };
        assert_eq!(results.len(), expected);
        for results in results.chunks(4) {
            for (result, level) in results.iter().zip(levels) {
                // 512 units: a standard error of at most 0.022, bound 5 of them; none and all are exact.
                let bound = if level == 0.0 || level == 1.0 { 0.0 } else { 0.11 };
                assert!(
                    (result.achieved - level).abs() <= bound,
                    "{} at {level}",
                    result.achieved
                );
            }
            // Nothing is left of the activity, so all of it has changed.
            for area in &results[3].areas {
                assert!((area.change.expect("finite") - 1.0).abs() < 1e-6, "{area:?}");
            }
            let changes = results.iter().map(|result| result.areas[0].change.expect("finite"));
            assert!(changes.is_sorted(), "{results:?}");
        }
        let clean = EvaluationOptions {
            conditions: vec![gaussian(Timing::Static, 0.0)],
            ..options.clone()
        };
        assert_eq!(run(model, &set, &clean)[0].cross_entropy, results[0].cross_entropy);
        // Only in the area that is named, and in what reads it.
        let second = EvaluationOptions {
            areas: Some(vec![1]),
            conditions: vec![condition(Perturbation::Silencing, 1.0)],
            ..options
        };
        let areas = &run(model, &set, &second)[0].areas;
        // A CNN's batch norms are folded for it, which rounds.
        assert!(areas[0].change.expect("finite") < 1e-10, "{areas:?}");
        assert!((areas[1].change.expect("finite") - 1.0).abs() < 1e-6);
    }
}

#[test]
fn noise_on_weights_multiplies_each_of_them() {
    let (set, _dir) = digits();
    for model in [cordsnet(&set), cnn(&set)] {
        let observer = match &model {
            Model::CordsNet { .. } => Observer::Cordsnet,
            Model::Cnn { .. } => Observer::CnnFirstFrame,
        };
        let options = EvaluationOptions {
            conditions: [0.1, 0.4].map(|level| condition(Perturbation::Weights, level)).to_vec(),
            areas: Some(vec![1]),
            ..options(&[observer], &[])
        };
        let results = run(&model, &set, &options);
        // The same by hand: effective weights w = g v/|v| of area 1, each times 1 + level xi.
        let (Model::CordsNet { parameters, .. } | Model::Cnn { parameters, .. }) = &model;
        let mut noisy = parameters.clone();
        let mut squares = 0.0;
        for (part, module) in ["area_conv.1", "area_area.1"].into_iter().enumerate() {
            let name = |which: &str| format!("{module}.parametrizations.weight.{which}");
            let (g, v) = (
                parameters.get(&name("original0")).expect("there").data.clone(),
                parameters.get(&name("original1")).expect("there").data.clone(),
            );
            let patch = v.len() / g.len();
            let mut xi = vec![0.0f32; v.len()];
            Stream::new(11, Purpose::WeightNoise, part as u64, 0, 0, 1).normal_fill(&mut xi);
            squares += xi.iter().map(|xi| f64::from(*xi).powi(2)).sum::<f64>() / v.len() as f64 / 2.0;
            let mut weights: Vec<f32> = Vec::new();
            for (row, v) in v.chunks(patch).enumerate() {
                let norm = v.iter().map(|v| v * v).sum::<f32>().sqrt();
                weights.extend(
                    v.iter()
                        .zip(&xi[row * patch..])
                        .map(|(v, xi)| g[row] * v / norm * (1.0 + 0.4 * xi)),
                );
            }
            let norms = weights
                .chunks(patch)
                .map(|w| w.iter().map(|w| w * w).sum::<f32>().sqrt())
                .collect();
            noisy.get_mut(&name("original1")).expect("there").data = weights;
            noisy.get_mut(&name("original0")).expect("there").data = norms;
        }
        let mut by_hand = model.clone();
        match &mut by_hand {
            Model::CordsNet { parameters, .. } | Model::Cnn { parameters, .. } => *parameters = noisy,
        }
        let clean = EvaluationOptions {
            conditions: vec![gaussian(Timing::Static, 0.0)],
            ..options
        };
        let expected = run(&by_hand, &set, &clean)[0].cross_entropy.expect("finite");
        let found = results[1].cross_entropy.expect("finite");
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} against {expected}");
        assert!(
            (results[1].achieved - 0.4 * squares.sqrt()).abs() < 1e-6,
            "{}",
            results[1].achieved
        );
        assert_ne!(results[0].cross_entropy, results[1].cross_entropy);
    }
}

#[test]
fn conditions_that_cannot_be_are_refused() {
    let (set, _dir) = digits();
    let model = cordsnet(&set);
    let refused = |perturbation: Perturbation, level: f64, areas: Option<Vec<usize>>| -> &'static str {
        let options = EvaluationOptions {
            conditions: vec![condition(perturbation, level)],
            areas,
            ..options(&RECURRENT[..1], &[])
        };
        match evaluate(&Cpu, &model, &set, set.split(Split::Test), &options, &mut |_, _| {}) {
            Err(NoiseError::Option { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    };
    let pixels = |noise, timing| Perturbation::Pixels {
        noise,
        timing,
        clip: false,
    };
    let process = |tau_ms| Timing::OrnsteinUhlenbeck { tau_ms };
    assert_eq!(refused(pixels(Pixels::Shot, process(5.0)), 0.1, None), "timing");
    assert_eq!(refused(pixels(Pixels::Gaussian, process(0.0)), 0.1, None), "tau_ms");
    let wide = Pixels::Correlated { length: 17.0 };
    assert_eq!(refused(pixels(wide, Timing::Static), 0.1, None), "length");
    assert_eq!(refused(pixels(Pixels::Impulse, Timing::Static), 1.1, None), "level");
    assert_eq!(refused(Perturbation::Silencing, 1.1, None), "level");
    assert_eq!(refused(Perturbation::Neural, 0.1, Some(vec![0, 2])), "areas");
    assert_eq!(refused(Perturbation::Neural, f64::NAN, None), "level");
}
