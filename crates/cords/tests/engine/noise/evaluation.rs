//! Classification of perturbed images and by perturbed networks.

use cords::data::Split;
use cords::device::{Cpu, Phi};
use cords::net::{Architecture, Cnn, CordsNet, Euler, Graph, Input, Model, Origin, Parameters, Presentation, Preset};
use cords::noise::*;

use super::nets::*;
use super::pixels::noise;

#[test]
fn clean_images_are_scored_as_by_hand() {
    let (set, _dir) = digits();
    let model = cordsnet(&set);
    let images = set.split(Split::Test);
    let result = &run(&model, &set, &options(&RECURRENT, &[(NoisePresentation::Static, 0.0)]))[0];

    let net: CordsNet<f32> = model.cordsnet().expect("valid");
    let (mut correct, mut top5, mut loss, mut early) = (0, 0, 0.0, 0);
    for &i in images {
        let mut pixels = vec![0.0; 256];
        set.fill_unit(i as usize, &mut pixels).expect("a sound image");
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
        (NoisePresentation::Static, 0.0),
        (NoisePresentation::Static, 0.3),
        (NoisePresentation::Dynamic, 0.3),
        (NoisePresentation::Dynamic, 0.8),
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
    let conditions = [(NoisePresentation::Static, 0.4), (NoisePresentation::Dynamic, 0.8)];
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
    let conditions = [(NoisePresentation::Static, 0.2), (NoisePresentation::Dynamic, 0.2)];
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
    let net: Cnn<f32> = model.cnn_on(&Cpu).expect("valid");
    let results = run(
        &model,
        &set,
        &options(
            &FEEDFORWARD,
            &[(NoisePresentation::Dynamic, 0.5), (NoisePresentation::Static, 0.5)],
        ),
    );
    let images = set.split(Split::Test);
    let shown = noise(NoisePresentation::Dynamic, 0.5, 2.0);
    let shown = PixelNoise { seed: 11, ..shown };
    let (mut first, mut mean_frame, mut mean_logits) = (0, 0, 0);
    for &i in images {
        let mut clean = vec![0.0; 256];
        set.fill_unit(i as usize, &mut clean).expect("a sound image");
        let frames: Vec<Vec<f32>> = (0..15)
            .map(|step| {
                let mut frame = vec![0.0; 256];
                FrameSequence::new(shown, 16, u64::from(i)).frame(&clean, step, &mut frame);
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
    let control = with_gain(model.clone(), 0.0);
    assert!(control.cordsnet().is_ok());
    let conditions = [(NoisePresentation::Dynamic, 0.4)];
    let mut expected = run(&control, &set, &options(&RECURRENT[..1], &conditions)).remove(0);
    let found = run(&model, &set, &options(&RECURRENT, &conditions));
    assert_ne!(found[0].cross_entropy, found[1].cross_entropy);
    expected.observer = Observer::CordsnetWithoutRecurrence;
    assert_eq!(found[1], expected);
}

/// The same weights without the projections from an area itself and from later ones, which are not in the description
/// at all.
#[test]
fn removing_recurrence_leaves_the_feed_forward_part_of_networks_with_feedback() {
    let (set, _dir) = digits();
    let short = Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4; 5],
        strides: vec![1, 1, 2, 1],
        classes: 10,
    };
    for preset in [Preset::Feedback, Preset::Blt] {
        let graph = short.preset(preset).expect("valid");
        let mut description = graph.description().clone();
        let all = description.projections.len();
        description.projections.retain(|projection| {
            let mut sources = projection.sources.iter();
            sources.any(|source| match source.from {
                Origin::Image => true,
                Origin::Area(from) => from < projection.to,
            })
        });
        // One into each area.
        assert!(all > 4 && description.projections.len() == 4, "{preset:?}");
        let rest = Graph::new(description).expect("valid");
        let parameters = fill(graph.cordsnet_shapes());
        let model = |architecture: Graph, parameters: Parameters<f32>| Model::CordsNet {
            architecture,
            euler: Euler::published(),
            phi: Phi::Relu,
            parameters,
            info: info(&set),
        };
        let whole = model(graph, parameters.clone());
        let mut kept = Parameters::new();
        for (name, _) in rest.cordsnet_shapes() {
            let tensor = parameters.get(&name).expect("there").clone();
            kept.insert(name, tensor);
        }
        let rest = model(rest, kept);
        let conditions = [(NoisePresentation::Dynamic, 0.4)];
        let expected = run(&rest, &set, &options(&RECURRENT[..1], &conditions)).remove(0);
        let found = run(&whole, &set, &options(&RECURRENT, &conditions));
        assert_ne!(found[0].cross_entropy, found[1].cross_entropy, "{preset:?}");
        assert_eq!(found[1].right, expected.right, "{preset:?}");
        let [a, b] = [&found[1], &expected].map(|result| result.cross_entropy.expect("finite"));
        assert!((a - b).abs() <= 1e-5 * b.max(1.0), "{preset:?}: {a} {b}");
    }
}

/// How much noise changes activity, at a fine step against a coarse one: the same under noise that goes on in time;
/// under fresh noise only while it is small.
#[test]
fn a_network_of_another_step_sees_the_same_experiment_in_noise_that_goes_on_in_time() {
    let (set, _dir) = digits();
    let ratio = |timing: NoisePresentation, level: f64| -> f64 {
        let change = |dt_ms: f64| {
            let options = EvaluationOptions {
                presentation: Presentation {
                    spontaneous_ms: 20.0,
                    stimulus_ms: 100.0,
                },
                ..options(&[Observer::Cordsnet], &[(timing, level)])
            };
            let mut model = cordsnet(&set);
            if let Model::CordsNet { euler, .. } = &mut model {
                euler.dt_ms = dt_ms;
            }
            let result = run(&model, &set, &options).remove(0);
            result.areas[1].change.expect("activity")
        };
        change(1.0) / change(5.0)
    };
    let process = NoisePresentation::OrnsteinUhlenbeck { tau_ms: 20.0 };
    let (small, large) = (
        ratio(NoisePresentation::Dynamic, 0.02),
        ratio(NoisePresentation::Dynamic, 2.0),
    );
    let (small_process, large_process) = (ratio(process, 0.02), ratio(process, 2.0));
    let found = format!("fresh {small}, {large}; process {small_process}, {large_process}");
    // Euler's steps leave 2/(2 - dt/tau) of fresh noise: 0.79 as much at 1 ms as at 5 ms, in two areas one behind the
    // other.
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
            ..options(&FEEDFORWARD, &[(NoisePresentation::Dynamic, 0.5)])
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
    let good = options(&[Observer::Cordsnet], &[(NoisePresentation::Static, 0.1)]);
    let fails = |model: &Model, images: &[u32], options: &EvaluationOptions| {
        evaluate(&Cpu, model, &set, images, options, &mut |_, _| {}).expect_err("must fail")
    };
    let images = set.split(Split::Test);
    let model = cordsnet(&set);
    assert!(matches!(fails(&cnn(&set), images, &good), NoiseError::Observer { .. }));
    let feedforward = options(&FEEDFORWARD, &[(NoisePresentation::Static, 0.1)]);
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
    let negative = options(&[Observer::Cordsnet], &[(NoisePresentation::Static, -0.1)]);
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
        let mut larger = architecture.architecture().expect("a short form");
        larger.image_side = 32;
        *architecture = larger.graph().expect("valid");
    }
    assert!(matches!(
        fails(&other, images, &good),
        NoiseError::Mismatch { what: "image side", .. }
    ));
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
    let process = |tau_ms| NoisePresentation::OrnsteinUhlenbeck { tau_ms };
    assert_eq!(refused(pixels(Pixels::Shot, process(5.0)), 0.1, None), "timing");
    assert_eq!(refused(pixels(Pixels::Gaussian, process(0.0)), 0.1, None), "tau_ms");
    let wide = Pixels::Correlated { length: 17.0 };
    assert_eq!(refused(pixels(wide, NoisePresentation::Static), 0.1, None), "length");
    assert_eq!(
        refused(pixels(Pixels::Impulse, NoisePresentation::Static), 1.1, None),
        "level"
    );
    assert_eq!(refused(Perturbation::Silencing, 1.1, None), "level");
    assert_eq!(refused(Perturbation::Neural, 0.1, Some(vec![0, 2])), "areas");
    assert_eq!(refused(Perturbation::Neural, f64::NAN, None), "level");
}
