//! Cognitive tasks from outside the library: responses of a front-end, training, the same bits for any number of
//! threads.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::support::digits;
use cords::assoc::{
    Answer, Area, AssocError, Clip, Delay, FrontEnd, FrontEndSettings, FrontEndTraining, Layout, Lesion, LossKind,
    Mask, Objective, OneHot, Pool, Presented, Projection, Readout, Responses, Scene, Setting, Simulation,
    StimulusEncoder, TaskName, TestTrials, Timing, TrainOptions, TrainProgress, Trained, Training, Trial, Weights,
    clips,
};
use cords::data::ImageSet;
use cords::device::Phi;
use cords::learn::{CheckpointProgress, Checkpoints, Initialisation, Memory};
use cords::net::{Architecture, CordsNet, Euler, Input, Parameters};

fn net() -> CordsNet<f32> {
    let architecture = Architecture {
        in_channels: 1,
        image_side: 16,
        channels: vec![4; 3],
        strides: vec![1; 2],
        classes: 10,
    }
    .graph()
    .expect("valid");
    let parameters = Initialisation::default().cordsnet(&architecture, 2);
    CordsNet::new(&architecture, &parameters, &Euler::published(), Phi::Relu).expect("a network")
}

fn front_end(set: &ImageSet, grid: usize, dt_ms: f64) -> FrontEnd<'_> {
    let settings = FrontEndSettings {
        mean: set.mean().to_vec(),
        std: set.std().to_vec(),
        readout: Readout { areas: vec![1], grid },
        dt_ms,
        spontaneous_ms: 50.0,
        seed: 0,
    };
    FrontEnd::new(net(), set, settings).expect("fits")
}

#[test]
fn a_clips_response_is_that_of_the_network_step_by_step() {
    let (set, _dir) = digits();
    let front_end = front_end(&set, 1, 10.0);
    let clip = Clip(vec![(Some(Scene::image(7)), 2), (None, 1)]);
    let found = front_end.respond(&[&clip]).expect("shown").remove(0);

    let net = net();
    let mut image = vec![0.0; set.image_len()];
    set.fill_unit(7, &mut image).expect("a sound image");
    set.normalise(&mut image);
    let inp = net.embed(&image, 1);
    let mut state = net.spontaneous(25);
    let means = |state: &cords::net::State<f32>| -> Vec<f32> {
        let maps = state.areas[1].chunks_exact(state.areas[1].len() / 4);
        maps.map(|map| map.iter().sum::<f32>() / map.len() as f32).collect()
    };
    let resting = means(&state);
    let mut expected = Vec::new();
    for step in 0..15 {
        match step {
            0..10 => net.step(&mut state, &inp),
            _ => net.run(&mut state, Input::Blank, 1, &mut |_, _| {}),
        }
        if step % 5 == 4 {
            expected.extend(means(&state).iter().zip(&resting).map(|(r, rest)| r - rest));
        }
    }
    assert_eq!(found.len(), expected.len());
    // Sums of 16 values in another order: a few units in the last place of rates of order 1.
    assert!(
        found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
        "{found:?} against {expected:?}"
    );
    assert!(found.iter().any(|r| r.abs() > 1e-3), "the network responds");
}

#[test]
fn clips_side_by_side_and_alone_respond_the_same() {
    let (set, _dir) = digits();
    let front_end = front_end(&set, 2, 10.0);
    let noisy = Scene {
        noise: Some((300, 5)),
        ..Scene::image(3)
    };
    let scenes = [
        Scene::image(1),
        Scene::superposed(&[1, 20]),
        Scene::placed(&[(4, 0), (5, 3)]),
        noisy,
    ];
    let shown: Vec<Clip> = scenes
        .iter()
        .map(|scene| Clip(vec![(Some(scene.clone()), 2), (None, 2)]))
        .collect();
    let together = front_end.respond(&shown.iter().collect::<Vec<_>>()).expect("shown");
    for (clip, response) in shown.iter().zip(&together) {
        assert_eq!(&front_end.respond(&[clip]).expect("shown")[0], response);
        assert_eq!(response.len(), 4 * front_end.features());
    }
    let beyond = Clip(vec![(Some(Scene::image(5000)), 1)]);
    let error = front_end.respond(&[&beyond]).expect_err("refused").to_string();
    assert!(error.contains("5000"), "{error}");
}

#[test]
fn objects_are_drawn_at_their_places() {
    let (set, _dir) = digits();
    let front_end = front_end(&set, 1, 10.0);
    // Places 0 and 4 lie at the right and the left, 2 and 6 at the top and the bottom, on a quarter of 16 pixels.
    for (place, rows, columns) in [
        (0, 6..10, 12..16),
        (2, 0..4, 6..10),
        (4, 6..10, 0..4),
        (6, 12..16, 6..10),
    ] {
        let canvas = front_end.canvas(&Scene::placed(&[(0, place)])).expect("a sound image");
        for (pixel, value) in canvas.iter().enumerate() {
            let within = rows.contains(&(pixel / 16)) && columns.contains(&(pixel % 16));
            assert!(within || *value == set.mean()[0], "place {place}, pixel {pixel}");
        }
        assert!(canvas.iter().any(|value| *value != set.mean()[0]));
    }
}

fn timing(name: TaskName) -> Timing {
    Timing {
        fixation: 60.0,
        stimulus: 100.0,
        delays: vec![40.0, 80.0],
        test: 100.0,
        response: 100.0,
        ..name.timing()
    }
}

fn layout(features: usize, cues: usize, outputs: usize) -> Layout {
    let area = |name: &str| Area {
        name: name.into(),
        units: 24,
        tau_ms: 50.0,
        noise: 0.05,
    };
    Layout {
        areas: vec![area("first"), area("second")],
        projections: vec![
            Projection {
                from: 0,
                to: 1,
                density: 0.5,
            },
            Projection {
                from: 1,
                to: 0,
                density: 0.25,
            },
        ],
        excitatory: Some(0.8),
        dt_ms: 20.0,
        features,
        cues,
        cue_areas: vec![1],
        outputs,
        seed: 0,
    }
}

fn options(steps: usize) -> TrainOptions {
    TrainOptions {
        objective: Objective {
            loss: LossKind::CrossEntropy,
            rate: 1e-4,
            weight: 1e-6,
        },
        steps,
        batch: 64,
        learning_rate: 5e-3,
        clip: 1.0,
        distinct: 500,
        validate_every: 25,
        validation_trials: 64,
        criterion: 0.95,
        patience: 2,
        curriculum: true,
    }
}

/// Trains on one-hot stimuli and says how test trials are answered.
fn one_hot(name: TaskName, steps: usize) -> (Trained, f64) {
    let task = name.build();
    let source = OneHot {
        classes: 4,
        placed: task.placed(),
        dt_ms: 20.0,
        seed: 0,
    };
    let timing = timing(name);
    let setting = Setting {
        task: task.as_ref(),
        timing: &timing,
        mask: Mask {
            grace_ms: 40.0,
            ..Mask::default()
        },
        settle: 0,
        seed: 1,
    };
    let pool = Pool::one_hot(4);
    let sample: Vec<Clip> = setting
        .draw(&pool, 0, 32, None, Delay::UpTo(1.0))
        .iter()
        .flat_map(|p| setting.clips(&p.trial, 20.0))
        .map(|(_, clip)| clip)
        .collect();
    let features = source.features();
    let mut responses = Responses::new(StimulusEncoder::OneHot(source), &sample).expect("responds");
    let layout = layout(features, 1 + task.cues().len(), 1 + task.choices(4).len());
    let start = Weights::initial(&layout, 1.2, 0);
    let options = options(steps);
    let training = Training::new(&layout, &setting, (&pool, &pool), &options);
    let trained = training.run(start, &mut responses).expect("trains");
    let trials = TestTrials::new(&setting, &mut responses, &pool, 200, Delay::UpTo(1.0), 20.0).expect("drawn");
    let acting = trained.weights.effective(&layout);
    let simulation = Simulation::new(&setting, &layout, &responses);
    let answers = trials.answers(&simulation, &acting).expect("runs");
    let accuracy = answers.iter().filter(|answer| answer.is_right()).count() as f64 / answers.len() as f64;
    (trained, accuracy)
}

#[test]
fn a_network_under_dales_law_learns_a_task() {
    let (trained, accuracy) = one_hot(TaskName::GoNoGo, 400);
    assert!(
        trained.reached && accuracy >= 0.95,
        "{accuracy}: {:?}",
        trained.records.last()
    );
    let delays: Vec<f64> = trained.records.iter().map(|record| record.delays).collect();
    assert!(
        delays[0] == 0.5 && delays.last() == Some(&1.0),
        "the curriculum takes delays in: {delays:?}"
    );
}

#[test]
fn training_gives_the_same_bits_for_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| one_hot(TaskName::ContextDecision, 4)).0.weights
    };
    assert_eq!(run(1), run(3));
}

/// What a run through a front-end trains.
struct Through {
    set: ImageSet,
    _dir: tempfile::TempDir,
}

impl Through {
    fn new() -> Self {
        let (set, dir) = digits();
        Self { set, _dir: dir }
    }

    /// Trains areas and front-end; `stop` ends it after so many steps of this attempt.
    fn train(
        &self,
        steps: usize,
        rate: Option<f64>,
        checkpoints: Option<&Checkpoints>,
        stop: Option<usize>,
    ) -> (Result<Trained, AssocError>, Parameters<f32>, Vec<String>) {
        let (mut done, mut said) = (0, Vec::new());
        let (trained, parameters) = self.watched(steps, rate, checkpoints, 1.1, &mut |progress| {
            if matches!(progress, TrainProgress::Step(_)) {
                done += 1;
            } else if let TrainProgress::Checkpoint(progress) = progress {
                said.push(format!("{progress:?}"));
            }
            match stop {
                Some(stop) if done >= stop => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        (trained, parameters, said)
    }

    /// The same with a criterion at which training ends, watched by `observe`.
    fn watched(
        &self,
        steps: usize,
        rate: Option<f64>,
        checkpoints: Option<&Checkpoints>,
        criterion: f64,
        observe: &mut dyn FnMut(TrainProgress<'_>) -> ControlFlow<()>,
    ) -> (Result<Trained, AssocError>, Parameters<f32>) {
        let name = TaskName::GoNoGo;
        let task = name.build();
        let timing = timing(name);
        let setting = Setting {
            task: task.as_ref(),
            timing: &timing,
            mask: Mask::default(),
            settle: 2,
            seed: 1,
        };
        let set = &self.set;
        let pool = Pool::new((0..set.len() as u32).map(|i| (i, set.label(i as usize))), 10).expect("images");
        let sample: Vec<Clip> = setting
            .draw(&pool, 0, 16, None, Delay::UpTo(1.0))
            .iter()
            .flat_map(|p| setting.clips(&p.trial, 20.0))
            .map(|(_, clip)| clip)
            .collect();
        let mut front_end = front_end(set, 1, 20.0);
        if let Some(learning_rate) = rate {
            front_end = front_end.trained(FrontEndTraining {
                learning_rate,
                memory: Memory::Unlimited,
            });
        }
        let features = front_end.features();
        let mut responses = Responses::new(StimulusEncoder::FrontEnd(Box::new(front_end)), &sample).expect("responds");
        let layout = layout(features, 1 + task.cues().len(), 1 + task.choices(10).len());
        let options = TrainOptions {
            batch: 40,
            validate_every: 3,
            validation_trials: 32,
            criterion,
            patience: 1,
            ..options(steps)
        };
        let start = Weights::initial(&layout, 1.2, 0);
        let training = Training::new(&layout, &setting, (&pool, &pool), &options);
        let training = training.checkpoints(checkpoints).observer(observe);
        let trained = training.run(start, &mut responses);
        let StimulusEncoder::FrontEnd(front_end) = responses.source() else {
            panic!("a front-end");
        };
        (trained, front_end.parameters().clone())
    }
}

/// At every word that training says, in both modes, with an end at the last step and one by a validation before it.
#[test]
fn a_stop_at_every_kind_of_moment_goes_on_to_the_same_bits() {
    let through = Through::new();
    let never = Duration::MAX;
    for (rate, criterion) in [(None, 1.1), (Some(1e-2), 1.1), (None, 0.0), (Some(1e-2), 0.0)] {
        let mut moments = Vec::new();
        let (expected, parameters) = through.watched(7, rate, None, criterion, &mut |progress| {
            moments.push(format!("{progress:?}"));
            ControlFlow::Continue(())
        });
        let expected = expected.expect("trains");
        let steps: Vec<usize> = expected.records.iter().map(|record| record.step).collect();
        assert_eq!(steps, if criterion > 1.0 { vec![0, 3, 6, 7] } else { vec![0, 3] });
        for (stop, moment) in moments.iter().enumerate() {
            let dir = tempfile::tempdir().expect("a folder");
            let checkpoints = Checkpoints {
                folder: dir.path().to_owned(),
                identity: "a".to_owned(),
                every: never,
            };
            let mut said = 0;
            let (stopped, _) = through.watched(7, rate, Some(&checkpoints), criterion, &mut |_| {
                said += 1;
                if said > stop {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            assert!(matches!(stopped, Err(AssocError::Stopped) | Ok(_)), "{}", moment);
            let mut continued = false;
            let (trained, learned) = through.watched(7, rate, Some(&checkpoints), criterion, &mut |progress| {
                continued |= matches!(progress, TrainProgress::Checkpoint(CheckpointProgress::Continued(_)));
                ControlFlow::Continue(())
            });
            let trained = trained.expect("trains");
            assert!(continued, "after {}", moment);
            assert!(trained.records == expected.records, "records after {}", moment);
            assert!(
                trained.weights == expected.weights && trained.reached == expected.reached,
                "{}",
                moment
            );
            assert!(learned == parameters, "the front-end after {}", moment);
        }
    }
}

/// A kill leaves the checkpoint that is there: each that a training writes, after every step, and at its end.
#[test]
fn a_kill_with_any_checkpoint_goes_on_to_the_same_bits() {
    let through = Through::new();
    for rate in [None, Some(1e-2)] {
        let (expected, parameters) = through.watched(7, rate, None, 1.1, &mut |_| ControlFlow::Continue(()));
        let expected = expected.expect("trains");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("training.safetensors");
        let checkpoints = |every| Checkpoints {
            folder: dir.path().to_owned(),
            identity: "a".to_owned(),
            every,
        };
        let mut kept = Vec::new();
        let every_step = checkpoints(Duration::ZERO);
        let (trained, _) = through.watched(7, rate, Some(&every_step), 1.1, &mut |progress| {
            if let TrainProgress::Checkpoint(CheckpointProgress::Written(step)) = progress {
                kept.push((step, std::fs::read(&file).expect("the checkpoint")));
            }
            ControlFlow::Continue(())
        });
        assert_eq!(trained.expect("trains").records, expected.records);
        let steps: Vec<usize> = kept.iter().map(|(step, _)| *step).collect();
        assert_eq!(
            steps,
            [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 7],
            "behind validations, too, and the last one after that which ends it"
        );
        for (step, bytes) in kept {
            std::fs::write(&file, bytes).expect("put back");
            let (trained, learned) = through.watched(7, rate, Some(&checkpoints(Duration::MAX)), 1.1, &mut |_| {
                ControlFlow::Continue(())
            });
            let trained = trained.expect("trains");
            assert!(
                trained.records == expected.records && trained.weights == expected.weights,
                "from step {step}"
            );
            assert!(learned == parameters, "the front-end from step {step}");
        }
    }
}

/// Of one-hot stimuli of four classes, wherever they are.
fn one_hot_responses() -> Responses<'static> {
    let source = OneHot {
        classes: 4,
        placed: false,
        dt_ms: 20.0,
        seed: 0,
    };
    let sample = [Clip(vec![(Some(Scene::image(1)), 1)])];
    Responses::new(StimulusEncoder::OneHot(source), &sample).expect("responds")
}

/// Neither what is said before the signal counts, nor in the first half of the time to answer, nor the end alone.
#[test]
fn an_answer_is_the_output_that_is_largest_on_average_over_the_second_half() {
    let task = TaskName::GoNoGo.build();
    let timing = timing(TaskName::GoNoGo);
    let setting = Setting {
        task: task.as_ref(),
        timing: &timing,
        mask: Mask::default(),
        settle: 0,
        seed: 1,
    };
    let trial = Trial::new("any")
        .hold("fixation", 40.0, None)
        .respond("response", 80.0, None, 1);
    let outputs: [[f32; 3]; 6] = [
        [0.0, 0.0, 9.0],
        [0.0, 0.0, 9.0],
        [0.0, 0.0, 9.0],
        [0.0, 0.0, 9.0],
        [0.0, 3.0, 0.0],
        [1.0, 0.0, 2.0],
    ];
    let presented = [Presented { number: 0, trial }];
    let answers = setting.answers(&layout(4, 1, 3), &presented, &outputs.concat());
    let expected = Answer {
        trial: 0,
        target: 1,
        choice: Some(1),
    };
    assert_eq!(answers, [expected]);
}

#[test]
fn a_trial_that_is_no_multiple_of_the_step_is_refused() {
    let task = TaskName::GoNoGo.build();
    let short = Timing {
        stimulus: 3.0,
        ..timing(TaskName::GoNoGo)
    };
    let setting = Setting {
        task: task.as_ref(),
        timing: &short,
        mask: Mask::default(),
        settle: 0,
        seed: 1,
    };
    let pool = Pool::one_hot(4);
    let mut responses = one_hot_responses();
    let trials = TestTrials::new(&setting, &mut responses, &pool, 2, Delay::UpTo(1.0), 20.0);
    let error = trials.err().expect("refused").to_string();
    assert!(
        error.contains("`stimulus` of a trial lasts 3 ms") && error.contains("0 and 20 ms"),
        "{error}"
    );
}

/// Lesions side by side answer as each would alone.
#[test]
fn networks_that_are_measured_together_answer_as_each_alone() {
    let task = TaskName::NoisyEvidence.build();
    let timing = timing(TaskName::NoisyEvidence);
    let setting = Setting {
        task: task.as_ref(),
        timing: &timing,
        mask: Mask::default(),
        settle: 0,
        seed: 1,
    };
    let pool = Pool::one_hot(4);
    let mut responses = one_hot_responses();
    let layout = layout(4, 1, 3);
    let acting = Weights::initial(&layout, 1.2, 0).effective(&layout);
    let trials = TestTrials::new(&setting, &mut responses, &pool, 300, Delay::UpTo(1.0), 20.0).expect("drawn");
    let networks: Vec<Weights<f32>> = Lesion::all(&layout).iter().map(|l| l.cut(&layout, &acting)).collect();
    let mut told = Vec::new();
    let simulation = Simulation::new(&setting, &layout, &responses);
    let together = trials.measure(&simulation, &networks, &mut |done, all| {
        told.push((done, all));
        ControlFlow::Continue(())
    });
    let together = together.expect("runs");
    assert_eq!(told.last(), Some(&(900, 900)));
    for (network, (answers, rates)) in networks.iter().zip(&together) {
        assert_eq!(&trials.answers(&simulation, network).expect("runs"), answers);
        assert!(rates.iter().all(|(_, _, rate)| rate.is_finite()) && !rates.is_empty());
    }
    let stopped = trials.measure(&simulation, &networks, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(AssocError::Stopped)));

    // One of them explodes: its answers are none, and the others stay as they are.
    let mut exploding = acting.clone();
    exploding.recurrent.iter_mut().for_each(|weight| *weight = 1e20);
    let pair = [exploding, acting];
    let found = trials.measure(&simulation, &pair, &mut |_, _| ControlFlow::Continue(()));
    let found = found.expect("runs");
    let score = trials.score(&found[0].0);
    assert_eq!((score.answers, score.diverged, score.accuracy()), (0, 300, None));
    assert_eq!(found[1], together[0]);
}

#[test]
fn a_front_end_learns_with_the_areas_to_the_same_bits_for_any_number_of_threads() {
    let through = Through::new();
    let run = |threads: usize, rate| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let (trained, parameters, _) = pool.install(|| through.train(12, rate, None, None));
        (trained.expect("trains"), parameters)
    };
    let (one, moved) = run(1, Some(1e-2));
    let (three, again) = run(3, Some(1e-2));
    assert_eq!((&one.weights, &moved), (&three.weights, &again));
    assert!(one.records.iter().skip(1).all(|record| record.front_end_norm > 0.0));

    let (frozen, still) = run(2, None);
    assert_eq!(&still, net().parameters());
    assert!(frozen.records.iter().all(|record| record.front_end_norm == 0.0));
    for (name, before) in still.iter() {
        let after = &moved.get(name).expect("a parameter").data;
        assert!(after.iter().all(|value| value.is_finite()), "{name}");
        // Nothing reads the readout.
        assert_eq!(after == &before.data, name.starts_with("out_fc"), "{name}");
    }
    // With a front-end that helps, the loss falls further.
    let last = |trained: &Trained| trained.records.last().expect("validations").loss;
    assert!(last(&one) < last(&frozen), "{} against {}", last(&one), last(&frozen));
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() {
    let through = Through::new();
    for rate in [None, Some(1e-2)] {
        let (expected, parameters, _) = through.train(8, rate, None, None);
        let expected = expected.expect("trains");
        let dir = tempfile::tempdir().expect("a folder");
        let checkpoints = |identity: &str| Checkpoints {
            folder: dir.path().to_owned(),
            identity: identity.to_owned(),
            every: Duration::MAX,
        };
        // Between validations, and right after one.
        for stop in [2, 1, 3] {
            let (stopped, ..) = through.train(8, rate, Some(&checkpoints("a")), Some(stop));
            assert!(matches!(stopped, Err(AssocError::Stopped)));
        }
        let (trained, learned, said) = through.train(8, rate, Some(&checkpoints("a")), None);
        let trained = trained.expect("trains");
        assert_eq!(said, ["Continued(6)", "Written(8)"]);
        assert_eq!(
            (&trained.weights, &trained.records),
            (&expected.weights, &expected.records)
        );
        assert_eq!(learned, parameters);
        // The end itself is kept, so that what is done with it may be interrupted.
        let (ended, learned, said) = through.train(8, rate, Some(&checkpoints("a")), None);
        assert_eq!(said[0], "Continued(8)");
        assert_eq!(
            (ended.expect("trains").weights, learned),
            (expected.weights.clone(), parameters.clone())
        );
        // That of another training is refused, and so is a damaged one.
        let (other, learned, said) = through.train(8, rate, Some(&checkpoints("b")), None);
        assert!(said[0].contains("another training"), "{said:?}");
        assert_eq!(
            (other.expect("trains").weights, learned),
            (expected.weights.clone(), parameters)
        );
        let path = dir.path().join("training.safetensors");
        let mut bytes = std::fs::read(&path).expect("written");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let (_, _, said) = through.train(1, rate, Some(&checkpoints("b")), None);
        assert!(said[0].contains("damaged"), "{said:?}");
    }
}

#[test]
fn trials_of_the_front_end_are_cut_into_clips_that_repeat() {
    let (set, _dir) = digits();
    let task = TaskName::DelayedMatchClass.build();
    let timing = timing(TaskName::DelayedMatchClass);
    let setting = Setting {
        task: task.as_ref(),
        timing: &timing,
        mask: Mask::default(),
        settle: 2,
        seed: 1,
    };
    let pool = Pool::new((0..set.len() as u32).map(|i| (i, set.label(i as usize))), 10).expect("images");
    let drawn = setting.draw(&pool, 0, 200, None, Delay::UpTo(1.0));
    let found: std::collections::BTreeSet<Clip> = drawn
        .iter()
        .flat_map(|p| setting.clips(&p.trial, 20.0))
        .map(|(_, clip)| clip)
        .collect();
    // 400 presentations of 120 images, each for one duration.
    assert!(found.len() <= 120, "{}", found.len());
    assert!(found.iter().all(|clip| clip.0.len() == 2 && clip.steps() == 7));
    assert!(clips(&[(None, 3)], 2).is_empty());
}
