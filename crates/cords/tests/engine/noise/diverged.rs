//! Networks whose activity overflows: their images have no answer.

use cords::data::Split;
use cords::device::Cpu;
use cords::net::Presentation;
use cords::noise::*;

use super::nets::*;

#[test]
fn diverged_networks_are_counted_and_not_averaged() {
    let (set, _dir) = digits();
    let model = with_gain(cordsnet(&set), 1e30);
    let result = &run(
        &model,
        &set,
        &options(&[Observer::Cordsnet], &[(NoisePresentation::Static, 0.1)]),
    )[0];
    assert_eq!(
        (result.diverged, result.correct, result.cross_entropy),
        (result.right.len(), 0, None)
    );
}

/// A network that explodes, some images before others: whichever have diverged have no answer, and the others' answers
/// count.
#[test]
fn single_images_that_diverged_have_no_answer_in_noise_and_evaluation() {
    let (set, _dir) = digits();
    // From r = 0, so that images differ by what they drive.
    let presentation = Presentation {
        spontaneous_ms: 0.0,
        stimulus_ms: 800.0,
    };
    let options = EvaluationOptions {
        presentation,
        ..options(
            &[Observer::Cordsnet],
            &[(NoisePresentation::Static, 0.0), (NoisePresentation::Static, 0.2)],
        )
    };
    // How fast it explodes decides whether images do so in different steps.
    let (model, results, between) = [6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0]
        .into_iter()
        .find_map(|gain| {
            let model = with_gain(cordsnet(&set), gain);
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
    let model = with_gain(cnn(&set), 3e38);
    for result in run(
        &model,
        &set,
        &options(
            &FEEDFORWARD,
            &[(NoisePresentation::Static, 0.1), (NoisePresentation::Dynamic, 0.1)],
        ),
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
    assert_eq!(evaluation.answers.diverged, set.split(Split::Test).len());
}
