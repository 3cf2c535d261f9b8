//! Classification by perturbed networks and of perturbed images, with the controls that make the comparison fair.
//!
//! Images are evaluated in groups of fixed size, side by side; results do not depend on the number of threads, and the
//! result of one condition does not depend on which other conditions are evaluated with it.

use serde::{Deserialize, Serialize};

use super::frames::{CleanImages, MeanFrame, NoisyFrames};
use super::networks::Network;
use super::options::{EvaluationOptions, NoiseError, Observer, check};
use super::statistics::{Score, wilson_interval};
use super::{Condition, Perturbation};
use crate::data::ImageSet;
use crate::device::{Device, Maps, NormalNoise};
use crate::net::{Cnn, CordsNet, Input, Model, NeuralNoise, State, View, diverged};
use crate::progress::Counter;
use crate::rng::Stream;

/// Accuracy at one time after image onset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimePoint {
    /// Time after image onset in ms.
    pub time_ms: f64,
    /// Number of images classified correctly.
    pub correct: usize,
    /// Images whose logits or activity were not finite then: they have no answer.
    pub diverged: usize,
    /// Fraction of the images with an answer that were classified correctly; none where all diverged.
    pub accuracy: Option<f64>,
}

/// How far an area's activity is from that of the unperturbed network on the unperturbed image, at the end of the
/// presentation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AreaChange {
    /// E |dr|^2 / E |r|^2 over units and the images that diverged neither with nor without the perturbation; none where
    /// activity is 0 or there are no such images.
    pub change: Option<f64>,
    /// The change over E |dx|^2 / E |x|^2 of one normalised frame x (a CordsNet's last one, a CNN's first): how much of
    /// a frame's noise is left. None where the images have no noise.
    pub gain: Option<f64>,
}

/// How one observer did under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseResult {
    /// Network and control that was evaluated.
    pub observer: Observer,
    /// Perturbation and level under which it was evaluated.
    pub condition: Condition,
    /// Step in ms at which frames follow each other; of a CNN's single frame the one at which levels are stated.
    pub dt_ms: f64,
    /// The level, measured. Of noise on images: the standard deviation of what was added to the pixels (after
    /// clipping); of neural noise, that of the first step's draws; of silencing, the fraction of units; of noise on
    /// weights, its root mean square relative to the weights.
    pub achieved: f64,
    /// Whether each image was classified correctly, in the order in which they were given; none where it diverged.
    pub right: Vec<Option<bool>>,
    /// Number of images classified correctly.
    pub correct: usize,
    /// Fraction of the images that did not diverge; none where all did.
    pub accuracy: Option<f64>,
    /// Wilson's 95 % interval of `accuracy`.
    pub accuracy_interval: Option<[f64; 2]>,
    /// Fraction of the images that did not diverge whose label is among the five largest logits; only with more than
    /// five classes.
    pub top5: Option<f64>,
    /// Wilson's 95 % interval of `top5`.
    pub top5_interval: Option<[f64; 2]>,
    /// Mean cross-entropy in nats over the images that did not diverge; none where all did.
    pub cross_entropy: Option<f64>,
    /// Images that diverged: whose logits, or the activity of any unit, were not finite. They have no answer and count
    /// neither as right nor as wrong.
    pub diverged: usize,
    /// Accuracy after every step; empty for a CNN.
    pub over_time: Vec<TimePoint>,
    /// Every area; empty where logits are averaged.
    pub areas: Vec<AreaChange>,
}

/// What one group of images gives under one condition.
pub(super) struct GroupResponse<D: Device<f32>> {
    pub(super) scores: Vec<Score>,
    /// Correct answers after every step, and images that had diverged.
    correct_at: Vec<[usize; 2]>,
    /// Sum of squares of the noise, and how many values it is of.
    noise: (f64, u64),
    /// One normalised frame, where it was not clean.
    frame: Option<D::Buffer>,
    /// Activity of every area at the end.
    activity: Vec<D::Buffer>,
}

/// What a group of images adds to the result of its condition.
struct GroupScore {
    scores: Vec<Score>,
    correct_at: Vec<[usize; 2]>,
    noise: (f64, u64),
    /// Squares of the change and of the whole, of the frame and of every area.
    frame: [f64; 2],
    areas: Vec<[f64; 2]>,
}

/// A network and the conditions that it is seen under.
struct NetworkConditions<D: Device<f32>> {
    network: Network<D>,
    /// How much the network itself was perturbed.
    achieved: f64,
    /// Indices of conditions into those of the options.
    conditions: Vec<usize>,
}

/// On a device, evaluates every observer under every condition that means something to it ([`Observer::sees`]) on the
/// given images (indices into the set): results in the order of observers, then conditions. `progress` is called with
/// (conditions of groups of images done, in all), from any thread.
///
/// # Errors
/// A [`NoiseError`] where model, images and options do not fit together, an image cannot be read, or the device fails.
pub fn evaluate<D: Device<f32>>(
    device: &D,
    model: &Model,
    set: &ImageSet,
    images: &[u32],
    options: &EvaluationOptions,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Vec<NoiseResult>, NoiseError> {
    check(model, set, images, options)?;
    let groups: Vec<&[u32]> = images.chunks(device.group_images()).collect();
    let seen = |observer: &Observer| options.conditions.iter().filter(|c| observer.sees(c)).count();
    let total = options.observers.iter().map(seen).sum::<usize>() * groups.len();
    let done = Counter::new(total, progress);
    let mut results = Vec::new();
    for observer in &options.observers {
        let (intact, _) = Network::new(device, model, *observer, None, options)?;
        let dt_ms = intact.dt_ms(*observer, options);
        let sees = |index: &usize| observer.sees(&options.conditions[*index]);
        let (own, common): (Vec<usize>, Vec<usize>) = (0..options.conditions.len())
            .filter(sees)
            .partition(|index| is_of_network(&options.conditions[*index]));
        let mut found: Vec<(usize, f64, Vec<GroupScore>)> = Vec::new();
        let mut follow = |evaluated: &NetworkConditions<D>, intact: &Network<D>| -> Result<(), NoiseError> {
            let mut scores: Vec<Vec<GroupScore>> = evaluated.conditions.iter().map(|_| Vec::new()).collect();
            if scores.is_empty() {
                return Ok(());
            }
            // After a round it shows whether the device still works; tasks are independent, so rounds do not reach a
            // result.
            for round in groups.chunks(2 * rayon::current_num_threads()) {
                let mut round: Vec<_> = round.iter().map(|images| (*images, Ok(Vec::new()))).collect();
                device.for_each(&mut round, |_, (images, found)| {
                    let normalisation = model.info().normalisation((set.mean(), set.std()));
                    *found = CleanImages::new(device, set, normalisation, images)
                        .map(|clean| score_group(intact, evaluated, *observer, options, &clean, set, &done));
                });
                device.check()?;
                for (_, found) in round {
                    scores
                        .iter_mut()
                        .zip(found?)
                        .for_each(|(scores, found)| scores.push(found));
                }
            }
            let conditions = evaluated.conditions.iter().zip(scores);
            found.extend(conditions.map(|(condition, scores)| (*condition, evaluated.achieved, scores)));
            Ok(())
        };
        let intact = NetworkConditions {
            network: intact,
            achieved: 0.0,
            conditions: common,
        };
        follow(&intact, &intact.network)?;
        for index in own {
            let condition = Some(&options.conditions[index]);
            let (network, achieved) = Network::new(device, model, *observer, condition, options)?;
            let conditions = vec![index];
            let evaluated = NetworkConditions {
                network,
                achieved,
                conditions,
            };
            follow(&evaluated, &intact.network)?;
        }
        found.sort_by_key(|(condition, ..)| *condition);
        results.extend(found.into_iter().map(|(index, achieved, scores)| {
            let condition = options.conditions[index];
            summarise(*observer, condition, achieved, dt_ms, set.classes().len(), &scores)
        }));
    }
    Ok(results)
}

/// Whether a condition needs a network of its own.
fn is_of_network(condition: &Condition) -> bool {
    let of_network = matches!(condition.perturbation, Perturbation::Silencing | Perturbation::Weights);
    of_network && !condition.is_clean()
}

/// One group of images under all conditions of a course.
fn score_group<D: Device<f32>>(
    intact: &Network<D>,
    evaluated: &NetworkConditions<D>,
    observer: Observer,
    options: &EvaluationOptions,
    clean: &CleanImages<'_, D>,
    set: &ImageSet,
    done: &Counter<'_>,
) -> Vec<GroupScore> {
    let labels: Vec<u32> = clean.images.iter().map(|image| set.label(*image as usize)).collect();
    let unperturbed = respond(intact, observer, options, clean, None, &labels);
    let conditions = evaluated.conditions.iter().map(|index| &options.conditions[*index]);
    conditions
        .map(|condition| {
            let other;
            let seen = if condition.is_clean() {
                &unperturbed
            } else {
                other = respond(&evaluated.network, observer, options, clean, Some(condition), &labels);
                &other
            };
            let score = GroupScore {
                scores: seen.scores.clone(),
                correct_at: seen.correct_at.clone(),
                noise: seen.noise,
                ..changes(intact, clean, seen, &unperturbed)
            };
            done.add();
            score
        })
        .collect()
}

/// How much of the frame and of every area's activity differs from what the intact network sees and does without noise.
fn changes<D: Device<f32>>(
    intact: &Network<D>,
    clean: &CleanImages<'_, D>,
    seen: &GroupResponse<D>,
    unperturbed: &GroupResponse<D>,
) -> GroupScore {
    let device = clean.device();
    let batch = seen.scores.len();
    // Images that diverged would make a sum over all of them no number; they are left out of both.
    let lost: Vec<bool> = seen
        .scores
        .iter()
        .zip(&unperturbed.scores)
        .map(|(a, b)| a.has_diverged() || b.has_diverged())
        .collect();
    let kept = |maps: Maps, buffer: &D::Buffer| -> D::Buffer {
        let mut host = vec![0.0f32; maps.len()];
        device.download_maps(maps, buffer, &mut host);
        let images = host.chunks_exact_mut(maps.len() / batch).zip(&lost);
        images.filter(|(_, lost)| **lost).for_each(|(image, _)| image.fill(0.0));
        let mut out = device.zeros_maps(maps);
        device.upload_maps(maps, &host, &mut out);
        out
    };
    let compare = |maps: Maps, x: &D::Buffer, y: &D::Buffer| -> [f64; 2] {
        if lost.contains(&true) {
            let (x, y) = (kept(maps, x), kept(maps, y));
            [clean.difference(&x, &y), clean.squares(&y)]
        } else {
            [clean.difference(x, y), clean.squares(y)]
        }
    };
    let shown = seen.frame.as_ref().unwrap_or(&clean.normalised);
    let areas = seen.activity.iter().zip(&unperturbed.activity).enumerate();
    GroupScore {
        scores: Vec::new(),
        correct_at: Vec::new(),
        noise: (0.0, 0),
        frame: compare(clean.maps, shown, &clean.normalised),
        areas: areas
            .map(|(area, (x, y))| compare(intact.area_maps(area, batch), x, y))
            .collect(),
    }
}

/// Shows a network a group of images under a condition.
pub(super) fn respond<D: Device<f32>>(
    network: &Network<D>,
    observer: Observer,
    options: &EvaluationOptions,
    clean: &CleanImages<'_, D>,
    condition: Option<&Condition>,
    labels: &[u32],
) -> GroupResponse<D> {
    let dt_ms = network.dt_ms(observer, options);
    let shown = condition
        .and_then(|condition| options.pixel_noise(condition, dt_ms))
        .map(|(noise, clip)| NoisyFrames::new(clean, noise, clip));
    let steps = network.steps(observer, options);
    match network {
        Network::Cordsnet { net, spontaneous } => {
            let neural = condition.and_then(|c| options.neural_noise(c, net.architecture(), clean.images));
            run_cordsnet(
                net,
                spontaneous.repeated(labels.len()),
                clean,
                shown,
                neural.as_ref(),
                steps,
                labels,
            )
        }
        Network::Cnn(cnn) => run_cnn(cnn, observer, clean, shown, steps, labels),
    }
}

fn score(logits: &[f32], labels: &[u32]) -> Vec<Score> {
    let classes = logits.len() / labels.len();
    logits
        .chunks_exact(classes)
        .zip(labels)
        .map(|(logits, label)| Score::of(logits, *label))
        .collect()
}

/// A CordsNet over a presentation, from `state` on.
fn run_cordsnet<D: Device<f32>>(
    net: &CordsNet<f32, D>,
    mut state: State<f32>,
    clean: &CleanImages<'_, D>,
    mut shown: Option<NoisyFrames<'_, D>>,
    neural: Option<&NeuralNoise>,
    steps: usize,
    labels: &[u32],
) -> GroupResponse<D> {
    let device = net.device();
    let (mut scores, mut correct_at, mut activity) = (Vec::new(), Vec::new(), Vec::new());
    let mut observe = |step: usize, view: &mut View<'_, f32, D>| {
        scores = score(&view.logits(), labels);
        // Rectification in the readout would hide activity that is not a number.
        if !view.is_finite() {
            let state = view.state();
            let images = scores.iter_mut().enumerate();
            for (_, score) in images.filter(|(i, _)| !is_finite(&state, *i)) {
                *score = Score::DIVERGED;
            }
        }
        let count = |is: fn(&Score) -> bool| scores.iter().filter(|score| is(score)).count();
        correct_at.push([count(|score| score.rank == 0), count(Score::has_diverged)]);
        if step + 1 == steps {
            activity = view.buffers().iter().map(|r| device.duplicate(r)).collect();
        }
    };
    let mut frame = shown.as_ref().map(|_| device.zeros_maps(clean.maps));
    match (&mut shown, &mut frame) {
        (Some(shown), Some(frame)) if !shown.is_held() => {
            let mut write = |step: usize, _: std::ops::Range<usize>, out: &mut D::Buffer| {
                shown.write(step, out);
                if step + 1 == steps {
                    device.copy(out, frame);
                }
            };
            net.run_with_noise(&mut state, Input::Varying(&mut write), neural, steps, &mut observe);
        }
        (shown, frame) => {
            let held = match (shown, frame) {
                (Some(shown), Some(frame)) => {
                    shown.write(0, frame);
                    &*frame
                }
                _ => &clean.normalised,
            };
            let mut images = vec![0.0; clean.maps.len()];
            device.download_maps(clean.maps, held, &mut images);
            let inp = net.embed(&images, labels.len());
            net.run_with_noise(&mut state, Input::Constant(&inp), neural, steps, &mut observe);
        }
    }
    let noise = match (shown, neural) {
        (Some(shown), _) => shown.noise(),
        (None, Some(neural)) => drawn(net, neural, clean),
        (None, None) => (0.0, 0),
    };
    GroupResponse {
        scores,
        correct_at,
        noise,
        frame,
        activity,
    }
}

/// The sum of squares of the neural noise of a first step in units of its level, and how many values it is of.
fn drawn<D: Device<f32>>(net: &CordsNet<f32, D>, neural: &NeuralNoise, clean: &CleanImages<'_, D>) -> (f64, u64) {
    let device = net.device();
    let (mut squares, mut values) = (0.0, 0);
    for area in &neural.areas {
        let [channels, side, _] = net.area_shape(*area);
        let maps = Maps {
            batch: neural.images.len(),
            channels,
            side,
        };
        let streams: Vec<Stream> = neural
            .images
            .iter()
            .map(|image| neural.stream(*image, 0, *area))
            .collect();
        let noise = NormalNoise {
            streams: &streams,
            std: neural.std,
            proportional: false,
        };
        let (nothing, mut drawn) = (device.zeros_maps(maps), device.zeros_maps(maps));
        device.add_normal(maps, noise, &nothing, &mut drawn);
        squares += clean.squares(&drawn);
        values += maps.len() as u64;
    }
    (squares, values)
}

/// Whether the activity of image `i` is finite in every area.
fn is_finite(state: &State<f32>, i: usize) -> bool {
    let finite = |area: &Vec<f32>| {
        let units = area.len() / state.batch;
        area[i * units..][..units].iter().all(|r| r.is_finite())
    };
    state.areas.iter().all(finite)
}

/// What a CNN says of a group of images, of which some may have activity that is not finite.
fn score_cnn<D: Device<f32>>(cnn: &Cnn<f32, D>, logits: &[f32], activity: &[D::Buffer], labels: &[u32]) -> Vec<Score> {
    let batch = labels.len();
    let lost = diverged(cnn.device(), &cnn.with_maps(activity, batch), batch);
    without(score(logits, labels), &lost)
}

/// Scores of which those of lost images are none.
fn without(mut scores: Vec<Score>, lost: &[bool]) -> Vec<Score> {
    let images = scores.iter_mut().zip(lost);
    images
        .filter(|(_, lost)| **lost)
        .for_each(|(score, _)| *score = Score::DIVERGED);
    scores
}

/// A CNN on frames.
fn run_cnn<D: Device<f32>>(
    cnn: &Cnn<f32, D>,
    observer: Observer,
    clean: &CleanImages<'_, D>,
    shown: Option<NoisyFrames<'_, D>>,
    steps: usize,
    labels: &[u32],
) -> GroupResponse<D> {
    let batch = labels.len();
    let device = cnn.device();
    let Some(mut shown) = shown else {
        let (logits, activity) = cnn.evaluate_group(&clean.normalised, batch);
        return GroupResponse {
            scores: score_cnn(cnn, &logits, &activity, labels),
            correct_at: Vec::new(),
            noise: (0.0, 0),
            frame: None,
            activity: if observer == Observer::CnnMeanLogits {
                Vec::new()
            } else {
                activity
            },
        };
    };
    let first_only = shown.is_held() || observer == Observer::CnnFirstFrame;
    let frames = if first_only { 1 } else { steps };
    let (scores, frame, activity) = match observer {
        Observer::CnnMeanLogits => {
            let mut sum: Vec<f64> = Vec::new();
            let mut frame = device.zeros_maps(clean.maps);
            let mut lost = vec![false; batch];
            for step in 0..frames {
                shown.write(step, &mut frame);
                let (logits, activity) = cnn.evaluate_group(&frame, batch);
                let now = diverged(device, &cnn.with_maps(&activity, batch), batch);
                lost.iter_mut().zip(now).for_each(|(lost, now)| *lost |= now);
                sum.resize(logits.len(), 0.0);
                sum.iter_mut().zip(logits).for_each(|(sum, x)| *sum += f64::from(x));
            }
            let logits: Vec<f32> = sum.iter().map(|sum| (sum / frames as f64) as f32).collect();
            (without(score(&logits, labels), &lost), None, Vec::new())
        }
        _ => {
            let mut first = device.zeros_maps(clean.maps);
            let mut mean = MeanFrame::new(clean);
            for step in 0..frames {
                if step == 0 {
                    shown.write(0, &mut first);
                    mean.add(clean, shown.frame());
                } else {
                    mean.add(clean, shown.draw(step));
                }
            }
            let (logits, activity) = cnn.evaluate_group(&mean.normalised(clean), batch);
            (score_cnn(cnn, &logits, &activity, labels), Some(first), activity)
        }
    };
    GroupResponse {
        scores,
        correct_at: Vec::new(),
        noise: shown.noise(),
        frame,
        activity,
    }
}

/// A fraction; none of nothing.
fn share_of(count: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

fn summarise(
    observer: Observer,
    condition: Condition,
    achieved: f64,
    dt_ms: f64,
    classes: usize,
    groups: &[GroupScore],
) -> NoiseResult {
    let scores: Vec<Score> = groups.iter().flat_map(|group| group.scores.iter().copied()).collect();
    let images = scores.len();
    let within = |rank: usize| scores.iter().filter(|score| score.rank < rank).count();
    let correct = within(1);
    let in_five = (classes > 5).then(|| within(5));
    let finite: Vec<f64> = scores.iter().filter_map(|score| score.cross_entropy).collect();
    let squared: f64 = groups.iter().map(|group| group.noise.0).sum();
    let values: u64 = groups.iter().map(|group| group.noise.1).sum();
    let over_time = (0..groups[0].correct_at.len()).map(|step| {
        let sum = |which: usize| groups.iter().map(|group| group.correct_at[step][which]).sum();
        let (correct, diverged): (usize, usize) = (sum(0), sum(1));
        TimePoint {
            time_ms: (step + 1) as f64 * dt_ms,
            correct,
            diverged,
            accuracy: share_of(correct, images - diverged),
        }
    });
    let answered = finite.len();
    let interval = |count: usize| (answered > 0).then(|| wilson_interval(count, answered));
    let share = |part: &dyn Fn(&GroupScore) -> [f64; 2]| {
        let [change, whole] = groups.iter().fold([0.0; 2], |sum, group| {
            let part = part(group);
            [sum[0] + part[0], sum[1] + part[1]]
        });
        Some(change / whole).filter(|share| share.is_finite())
    };
    let shown = share(&|group| group.frame).filter(|shown| *shown > 0.0);
    let areas = (0..groups[0].areas.len()).map(|area| {
        let change = share(&|group| group.areas[area]);
        AreaChange {
            change,
            gain: change.zip(shown).map(|(change, shown)| change / shown),
        }
    });
    NoiseResult {
        observer,
        condition,
        dt_ms,
        achieved: if values > 0 {
            (squared / values as f64).sqrt()
        } else {
            achieved
        },
        right: scores
            .iter()
            .map(|score| (!score.has_diverged()).then_some(score.rank == 0))
            .collect(),
        correct,
        accuracy: share_of(correct, answered),
        accuracy_interval: interval(correct),
        top5: in_five.and_then(|n| share_of(n, answered)),
        top5_interval: in_five.and_then(interval),
        cross_entropy: (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64),
        diverged: images - answered,
        over_time: over_time.collect(),
        areas: areas.collect(),
    }
}
