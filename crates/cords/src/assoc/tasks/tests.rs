use super::*;
use crate::assoc::trial::Trial;

/// Three images of each of ten classes; image 3 k + i is of class k.
fn pool() -> Pool {
    Pool::new((0..30).map(|image| (image, image / 3)), 10).expect("every class has images")
}

fn trials(name: TaskName, count: u64, delay: Delay) -> Vec<Trial> {
    let (pool, timing, task) = (pool(), name.timing(), name.build());
    (0..count)
        .map(|n| task.trial(&mut Draw::new(&pool, &timing, 3, n, n, delay)))
        .collect()
}

fn class(image: u32) -> usize {
    image as usize / 3
}

/// The images of a named epoch.
fn images(trial: &Trial, epoch: &str) -> Vec<u32> {
    let scenes = trial
        .epochs
        .iter()
        .filter(|e| e.name == epoch)
        .filter_map(|e| e.scene.as_ref());
    scenes
        .flat_map(|scene| scene.items.iter().map(|item| item.image))
        .collect()
}

#[test]
fn every_trial_is_well_formed() {
    for name in TaskName::ALL {
        let (task, timing) = (name.build(), name.timing());
        timing.validate().expect("defaults are durations");
        let outputs = 1 + task.choices(10).len();
        let mut balance = vec![0usize; outputs];
        for trial in trials(name, 400, Delay::UpTo(1.0)) {
            assert!(
                trial.ms() > 0.0 && trial.epochs.iter().any(|epoch| epoch.judged),
                "{name:?}"
            );
            let places = trial.epochs.iter().filter_map(|epoch| epoch.scene.as_ref());
            let mut items = places.flat_map(|scene| &scene.items);
            assert!(
                items.all(|item| item.place.is_some() == task.placed() && item.image < 30),
                "{name:?}"
            );
            for epoch in &trial.epochs {
                assert!(
                    epoch.cues.is_empty() || epoch.cues.len() == task.cues().len(),
                    "{name:?}"
                );
                assert!(
                    epoch.target < outputs && (epoch.judged || epoch.target == 0),
                    "{name:?}"
                );
                balance[epoch.target] += usize::from(epoch.judged);
            }
        }
        // Answers are balanced over what can be right; 400 or more draws over at most 10 answers: 40 +- 6 at the least.
        let used: Vec<usize> = balance.iter().copied().filter(|count| *count > 0).collect();
        let expected = used.iter().sum::<usize>() as f64 / used.len() as f64;
        assert!(used.len() >= 2, "{name:?}: {balance:?}");
        assert!(
            used.iter()
                .all(|count| (*count as f64 - expected).abs() < 5.0 * expected.sqrt()),
            "{name:?}: {balance:?}"
        );
    }
}

#[test]
fn matches_are_what_the_rule_says() {
    for (name, rule) in [
        (TaskName::DelayedMatchImage, (|a, b| a == b) as fn(u32, u32) -> bool),
        (TaskName::DelayedMatchClass, |a, b| class(a) == class(b)),
        (TaskName::PairedAssociation, |a, b| class(a) ^ 1 == class(b)),
    ] {
        let mut right = 0;
        for trial in trials(name, 200, Delay::UpTo(1.0)) {
            let (sample, test) = (images(&trial, "sample")[0], images(&trial, "test")[0]);
            let target = trial.epochs.last().expect("epochs").target;
            assert_eq!(target == 1, rule(sample, test), "{name:?}");
            right += usize::from(target == 1);
        }
        // Half of 200, five standard deviations of 7.
        assert!((65..=135).contains(&right), "{name:?}: {right}");
    }
    for trial in trials(TaskName::DelayedNonMatch, 50, Delay::UpTo(1.0)) {
        let same = class(images(&trial, "sample")[0]) == class(images(&trial, "test")[0]);
        assert_eq!(trial.epochs.last().expect("epochs").target, usize::from(!same));
    }
}

#[test]
fn context_and_place_decide() {
    for trial in trials(TaskName::ContextDecision, 100, Delay::UpTo(1.0)) {
        let shown = images(&trial, "stimulus");
        let epoch = trial.epochs.last().expect("epochs");
        let cued = usize::from(epoch.cues == [0.0, 1.0]);
        assert_eq!(class(shown[cued]), 2 * cued + epoch.target - 1);
    }
    for trial in trials(TaskName::CuedSaccade, 100, Delay::UpTo(1.0)) {
        let scene = trial
            .epochs
            .iter()
            .find_map(|epoch| epoch.scene.as_ref())
            .expect("a scene");
        let place = usize::from(scene.items[0].place.expect("a place"));
        let epoch = trial.epochs.last().expect("epochs");
        let anti = epoch.cues == [0.0, 1.0];
        assert_eq!(epoch.target - 1, if anti { (place + 4) % 8 } else { place });
        assert_eq!(trial.condition == "anti", anti);
    }
}

#[test]
fn n_back_compares_with_the_item_n_before() {
    for (name, n) in [(TaskName::OneBack, 1), (TaskName::TwoBack, 2), (TaskName::ThreeBack, 3)] {
        for trial in trials(name, 30, Delay::UpTo(1.0)) {
            let items: Vec<usize> = images(&trial, "item").into_iter().map(class).collect();
            let targets: Vec<usize> = trial.epochs.iter().filter(|e| e.judged).map(|e| e.target).collect();
            let expected: Vec<usize> = (n..items.len())
                .map(|i| 1 + usize::from(items[i] != items[i - n]))
                .collect();
            assert_eq!(targets, expected);
        }
    }
}

#[test]
fn contents_come_back_with_other_delays() {
    let (pool, task) = (pool(), TaskName::DelayedMatchClass.build());
    let timing = Timing {
        delays: vec![800.0, 200.0, 400.0],
        ..TaskName::DelayedMatchClass.timing()
    };
    let trial = |presentation, delay| task.trial(&mut Draw::new(&pool, &timing, 0, 5, presentation, delay));
    let of = |trial: &Trial| (images(trial, "sample"), images(trial, "test"));
    let all: Vec<Trial> = (0..40)
        .map(|presentation| trial(presentation, Delay::UpTo(1.0)))
        .collect();
    assert!(all.iter().all(|t| of(t) == of(&all[0])));
    let delays: std::collections::BTreeSet<u64> = all.iter().filter_map(|t| t.delay_ms).map(|d| d as u64).collect();
    assert_eq!(delays.into_iter().collect::<Vec<_>>(), [200, 400, 800]);
    assert!((0..20).all(|p| trial(p, Delay::UpTo(0.01)).delay_ms == Some(200.0)));
    assert!((0..20).all(|p| trial(p, Delay::Times(2.0)).delay_ms.is_some_and(|d| d >= 400.0)));
}
