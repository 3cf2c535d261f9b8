use super::*;
use crate::assoc::train::{TEST, VALIDATION};
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

#[test]
fn evidence_of_no_two_trials_has_the_same_noise_and_that_of_a_trial_comes_back() {
    let (pool, name) = (pool(), TaskName::NoisyEvidence);
    let (task, timing) = (name.build(), name.timing());
    let noise = |content: u64, presentation: u64| {
        let trial = task.trial(&mut Draw::new(
            &pool,
            &timing,
            3,
            content,
            presentation,
            Delay::UpTo(1.0),
        ));
        trial
            .epochs
            .iter()
            .find_map(|epoch| epoch.scene.as_ref()?.noise)
            .expect("noise")
    };
    let numbers = || [0, VALIDATION, TEST].into_iter().flat_map(|first| first..first + 500);
    let names: std::collections::BTreeSet<(u16, u32)> = numbers().map(|number| noise(number, number)).collect();
    assert_eq!(names.len(), numbers().count(), "of training, validation and test");
    assert_eq!(noise(5, 5), noise(5, 4101));
}

/// What is shown from the delay's end on, and the right answer, of every answer of a trial.
fn after_delays(trial: &Trial) -> Vec<(String, usize)> {
    let mut shown = String::new();
    let mut found = Vec::new();
    for epoch in &trial.epochs {
        if epoch.name == "delay" {
            shown.clear();
        }
        if let Some(scene) = epoch.scene.as_ref().filter(|_| epoch.name != "delay") {
            shown += &format!("{:?} for {} ms;", scene.items, epoch.ms);
        }
        if epoch.judged {
            found.push((format!("{shown} {:?}", epoch.cues), epoch.target));
        }
    }
    found
}

/// The share of right answers of whoever knows, of everything shown after the delay, how often it came with each
/// answer.
fn best_without_memory(name: TaskName, pool: &Pool, timing: &Timing, count: u64) -> f64 {
    let task = name.build();
    let mut counts = std::collections::BTreeMap::<String, std::collections::BTreeMap<usize, usize>>::new();
    for n in 0..count {
        let trial = task.trial(&mut Draw::new(pool, timing, 3, n, n, Delay::UpTo(1.0)));
        for (shown, target) in after_delays(&trial) {
            *counts.entry(shown).or_default().entry(target).or_default() += 1;
        }
    }
    let all: usize = counts.values().flat_map(|of| of.values()).sum();
    let best: usize = counts.values().filter_map(|of| of.values().max()).sum();
    best as f64 / all as f64
}

#[test]
fn chance_is_the_best_strategy_that_ignores_the_memory_in_every_task() {
    // Few images, so that each comes often: five classes, which pairs do not divide.
    let pool = Pool::new((0..10).map(|image| (image, image / 2)), 5).expect("every class has images");
    for name in TaskName::ALL {
        let timing = Timing {
            objects: 1,
            ..name.timing()
        };
        let found = best_without_memory(name, &pool, &timing, 20_000);
        let expected = name.build().chance(&pool, &timing);
        // 20,000 answers over 80 things shown at most: whoever counts them gains 0.5 * 0.8 / sqrt(250) = 0.025 by luck
        // alone.
        assert!(
            (-0.012..0.035).contains(&(found - expected)),
            "{name:?}: {found} for {expected}"
        );
    }
    let timing = TaskName::IntervalDiscrimination.timing();
    let chance = TaskName::IntervalDiscrimination.build().chance(&pool, &timing);
    assert!(
        (chance - 5.0 / 6.0).abs() < 1e-12,
        "one of four intervals alone: {chance}"
    );
}

#[test]
fn chance_of_matching_images_counts_classes_of_a_single_image() {
    // Classes of 1, 1 and 3 images.
    let pool = Pool::new([(0, 0), (1, 1), (2, 2), (3, 2), (4, 2)], 3).expect("every class has images");
    let name = TaskName::DelayedMatchImage;
    let found = best_without_memory(name, &pool, &name.timing(), 40_000);
    let expected = name.build().chance(&pool, &name.timing());
    assert!(
        expected > 0.5 && (found - expected).abs() < 0.01,
        "{found} for {expected}"
    );
}

#[test]
fn the_two_kinds_of_non_match_of_images_are_told_apart() {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for trial in trials(TaskName::DelayedMatchImage, 400, Delay::UpTo(1.0)) {
        let (sample, test) = (images(&trial, "sample")[0], images(&trial, "test")[0]);
        let expected = match (sample == test, class(sample) == class(test)) {
            (true, _) => "match",
            (_, true) => "non-match, same class",
            (_, false) => "non-match, other class",
        };
        assert_eq!(trial.condition, expected);
        assert_eq!(trial.variables[1], ("test", class(test)));
        *counts.entry(trial.condition).or_default() += 1;
    }
    // Half, a quarter and a quarter of 400; five standard deviations of 10 at most.
    assert!(counts["match"].abs_diff(200) < 50, "{counts:?}");
    assert!(
        counts["non-match, same class"].abs_diff(100) < 50 && counts.len() == 3,
        "{counts:?}"
    );
    // A class of a single image has no other: those non-matches are of another class, and say so.
    let pool = Pool::one_hot(4);
    let (task, timing) = (
        TaskName::DelayedMatchImage.build(),
        TaskName::DelayedMatchImage.timing(),
    );
    for n in 0..100 {
        let trial = task.trial(&mut Draw::new(&pool, &timing, 3, n, n, Delay::UpTo(1.0)));
        assert_ne!(trial.condition, "non-match, same class");
    }
}

#[test]
fn durations_that_no_steps_add_up_to_are_refused_with_the_nearest() {
    let said = |timing: Timing, name: TaskName, dt: f64| -> Vec<String> {
        let found = timing.misfits(name, dt).into_iter();
        found
            .map(|(duration, problem)| format!("{}: {problem}", duration.name()))
            .collect()
    };
    let name = TaskName::DelayedMatchClass;
    for dt in [1.0, 2.5, 5.0, 10.0] {
        assert_eq!(name.timing().misfits(name, dt), []);
    }
    let short = Timing {
        stimulus: 3.0,
        ..name.timing()
    };
    assert_eq!(
        said(short.clone(), name, 10.0),
        ["stimulus: 3 ms shows nothing at steps of 10 ms; the nearest is 10 ms"]
    );
    assert_eq!(short.misfits(name, 1.0), []);
    let several = Timing {
        delays: vec![100.0, 104.0],
        test: 0.0,
        response: 25.0,
        durations: vec![3.0],
        ..name.timing()
    };
    let nearest = |ms, below, above| {
        format!("{ms} ms, which is not a multiple of the step of 10 ms; the nearest are {below} and {above} ms")
    };
    assert_eq!(
        said(several, name, 10.0),
        [
            format!("delays: {}", nearest(104, 100, 110)),
            "test: 0 ms shows nothing; give 10 ms or more".to_owned(),
            format!("response: {}", nearest(25, 20, 30)),
        ],
        "what the task does not have does not count"
    );
    let own = said(TaskName::DelayedCategory.timing(), TaskName::DelayedCategory, 20.0);
    assert_eq!(own.len(), 1, "its own 650 ms do not fit either: {own:?}");
    let huge = Timing {
        delays: vec![1e300],
        ..name.timing()
    };
    assert!(
        said(huge, name, 10.0)[0].contains("delays"),
        "bounded where it is formed"
    );
    let many = said(
        Timing {
            delays: vec![1e7],
            ..name.timing()
        },
        name,
        10.0,
    );
    assert!(many[0].contains("at most 100000 are allowed"), "{many:?}");
}

#[test]
fn strengths_finer_than_a_thousandth_are_refused() {
    let timing = |strengths: Vec<f64>, noise| Timing {
        strengths,
        noise,
        ..TaskName::NoisyEvidence.timing()
    };
    assert!(timing(vec![0.0, 0.064, 0.512, 1.0], 0.5).validate().is_ok());
    for (timing, said) in [
        (
            timing(vec![0.0004], 0.5),
            "strengths: 0.0004 is finer than a thousandth; the nearest are 0 and 0.001",
        ),
        (
            timing(vec![0.5], 0.0305),
            "evidence_noise: 0.0305 is finer than a thousandth; the nearest are 0.03 and 0.031",
        ),
    ] {
        assert_eq!(timing.validate().expect_err("refused").to_string(), said);
    }
}

#[test]
fn an_answer_is_given_after_a_wait_or_while_the_second_image_is_shown() {
    let (pool, name) = (pool(), TaskName::DelayedMatchClass);
    let at_test = name.neurogym(10.0).expect("a counterpart");
    let trial = name
        .build()
        .trial(&mut Draw::new(&pool, &at_test, 3, 0, 0, Delay::UpTo(1.0)));
    let last = trial.epochs.last().expect("epochs");
    assert!(last.name == "test" && last.judged && !last.fixate && last.scene.is_some() && last.ms == 650.0);
    let name = TaskName::PairedAssociation;
    let waits = name.neurogym(10.0).expect("a counterpart");
    let trial = name
        .build()
        .trial(&mut Draw::new(&pool, &waits, 3, 0, 0, Delay::UpTo(1.0)));
    let told: Vec<(&str, f64, bool)> = trial.epochs.iter().map(|e| (e.name, e.ms, e.judged)).collect();
    let expected = [
        ("fixation", 0.0, false),
        ("sample", 1000.0, false),
        ("delay", 1000.0, false),
        ("test", 1000.0, false),
        ("wait", 1000.0, false),
        ("response", 500.0, true),
    ];
    assert_eq!(told, expected);
}

/// Whether the parts of a cell of docs/tasks.md are a task's durations, distributions being told by their ends.
fn holds(said: &str, name: TaskName, timing: &Timing) {
    let numbers = |part: &str| -> Vec<f64> {
        let words = part.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let shown = if name.has(Duration::Durations) {
        Duration::Durations
    } else {
        Duration::Stimulus
    };
    let columns = [
        Duration::Fixation,
        shown,
        Duration::Delays,
        Duration::Test,
        Duration::Wait,
        Duration::Response,
    ];
    let parts: Vec<&str> = said.split(", ").collect();
    assert_eq!(
        parts.len(),
        if timing.answer_at_test { 4 } else { 6 },
        "{name:?}: {said}"
    );
    for (duration, part) in columns.into_iter().zip(parts) {
        let values: &[f64] = if name.has(duration) {
            timing.values(duration)
        } else {
            &[]
        };
        let told = numbers(part);
        if part.contains(" from ") {
            let ends = told[told.len() - 2]..told[told.len() - 1];
            assert!(
                values.len() > 8 && values.iter().all(|ms| ends.contains(ms)),
                "{name:?}: {part}"
            );
        } else {
            assert_eq!(told, values, "{name:?}, {}", duration.name());
        }
    }
}

#[test]
fn the_documented_durations_are_those_of_the_tasks() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tasks.md");
    let text = std::fs::read_to_string(file).expect("docs/tasks.md");
    let list = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let (_, behind) = text.split_once("## Durations").expect("a heading");
    let (table, _) = behind.split_once("## ").expect("another heading");
    let mut told = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [names, ours, theirs, others] = cells[..] else {
            panic!("{row}")
        };
        for written in names.split(", ") {
            let name: TaskName = serde_json::from_str(&written.replace('`', "\"")).expect(written);
            told.push(name);
            holds(ours, name, &name.timing());
            let Some(timing) = name.neurogym(10.0) else {
                assert_eq!(theirs, "none", "{name:?}");
                continue;
            };
            let (environment, durations) = theirs.split_once(": ").expect("an environment");
            assert_eq!(Some(environment.replace('`', "").as_str()), name.neurogym_name());
            holds(durations.split(';').next().unwrap_or_default(), name, &timing);
            if name == TaskName::NoisyEvidence {
                let [own, neurogym] = [&name.timing(), &timing].map(|timing| list(&timing.strengths));
                let said = format!("contrasts {own}; there, and under `timing: neurogym`, {neurogym}.");
                assert!(others.contains(&said), "{others}");
            }
        }
    }
    let missing: Vec<TaskName> = TaskName::ALL.into_iter().filter(|name| !told.contains(name)).collect();
    assert!(missing.is_empty() && told.len() == TaskName::ALL.len(), "{missing:?}");
}
