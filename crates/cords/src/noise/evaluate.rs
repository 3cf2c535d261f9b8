//! Classification of perturbed test images by CordsNet and CNN, with the controls that make the comparison fair.
//!
//! Images are evaluated in groups of fixed size, side by side; results do not depend on the number of threads, and the
//! result of one condition does not depend on which other conditions are evaluated with it.

use super::statistics::{Score, wilson_interval};
use super::{Condition, ImageNoise};
use crate::data::ImageSet;
use crate::device::{Device, DeviceError, OutOfMemory};
use crate::net::{Cnn, CordsNet, Input, Model, NetError, Presentation, State, View};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which network looks at the perturbed images, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observer {
    /// The CordsNet, from its spontaneous state; the answer is read at the end of the presentation.
    Cordsnet,
    /// The CordsNet with its recurrent weights set to 0: what leaky integration alone does.
    CordsnetWithoutRecurrence,
    /// The CNN on the first frame.
    CnnFirstFrame,
    /// The CNN on the average of the frames that the CordsNet sees.
    CnnMeanFrame,
    /// The CNN on every frame that the CordsNet sees, its logits averaged.
    CnnMeanLogits,
}

/// What is evaluated, and on which perturbations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationOptions {
    /// Networks; all must fit the model.
    pub observers: Vec<Observer>,
    /// Perturbations.
    pub conditions: Vec<Condition>,
    /// Durations of the spontaneous phase (without noise) and of the image.
    pub presentation: Presentation,
    /// Step in ms at which a CNN's frames follow each other; a CordsNet has its own.
    pub dt_ms: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// Number of the repetition: other draws at the same seed.
    #[serde(default)]
    pub trial: u32,
    /// Whether pixels are clipped to [0, 1] after the noise is added.
    #[serde(default)]
    pub clip: bool,
}

/// Accuracy at one time after image onset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimePoint {
    /// Time after image onset in ms.
    pub time_ms: f64,
    /// Images classified correctly.
    pub correct: usize,
    /// Fraction of images classified correctly.
    pub accuracy: f64,
}

/// How one observer did under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseResult {
    /// Who looked.
    pub observer: Observer,
    /// At what.
    pub condition: Condition,
    /// Whether pixels were clipped to [0, 1].
    pub clip: bool,
    /// Standard deviation of the noise in one frame as asked for, in pixel units.
    pub frame_std: f64,
    /// Standard deviation of the noise in the frames shown, measured (after clipping), in pixel units.
    pub achieved_std: f64,
    /// Images.
    pub images: usize,
    /// Images classified correctly.
    pub correct: usize,
    /// Fraction classified correctly.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson).
    pub accuracy_interval: [f64; 2],
    /// Fraction whose label is among the five largest logits; only with more than five classes.
    pub top5: Option<f64>,
    /// Its 95 % interval (Wilson).
    pub top5_interval: Option<[f64; 2]>,
    /// Mean cross-entropy in nats over the images with finite activity and logits; none where there are no such images.
    pub cross_entropy: Option<f64>,
    /// Images whose logits or activity were not finite (counted as wrong).
    pub diverged: usize,
    /// Accuracy after every step; empty for a CNN.
    pub over_time: Vec<TimePoint>,
}

/// An evaluation that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The model's parameters do not make a network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// An observer that needs the other kind of model.
    #[error("observer {observer:?} needs a {needed} model, but the model is a {found}")]
    Observer {
        /// The observer.
        observer: Observer,
        /// Kind that it needs.
        needed: &'static str,
        /// Kind of the model.
        found: &'static str,
    },
    /// Images and model do not fit together.
    #[error("the image set has {what} {found}, but the model takes {expected}; prepare the images for this model")]
    Mismatch {
        /// Which property.
        what: &'static str,
        /// The image set's.
        found: String,
        /// The model's.
        expected: String,
    },
    /// An option outside its range.
    #[error("{option}: {what}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it and what would be right.
        what: String,
    },
    /// The device has failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl OutOfMemory for NoiseError {
    fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Device(error) if error.is_out_of_memory())
    }
}

/// A network made ready for one observer.
enum Network<D: Device<f32>> {
    Cordsnet {
        net: CordsNet<f32, D>,
        spontaneous: State<f32>,
    },
    Cnn(Cnn<f32, D>),
}

/// What a group of images adds to the result of its condition.
struct GroupScore {
    scores: Vec<Score>,
    /// Correct answers after every step.
    correct_at: Vec<usize>,
    /// Sum of squared noise over pixels and frames, and their number.
    squared_noise: f64,
    pixels: u64,
}

/// Normalised frames of a group of images, and the noise that was really added.
struct Frames<'a> {
    set: &'a ImageSet,
    mean: &'a [f32],
    std: &'a [f32],
    noise: ImageNoise,
    images: &'a [u32],
    clean: Vec<f32>,
    squared_noise: f64,
    pixels: u64,
}

/// On a device, evaluates every observer under every condition on the given images (indices into the set): results in the order of
/// observers, then conditions. `progress` is called with (groups of images done, groups in all).
///
/// # Errors
/// A [`NoiseError`] where model, images and options do not fit together, or the device fails.
pub fn evaluate<D: Device<f32>>(
    device: &D,
    model: &Model,
    set: &ImageSet,
    images: &[u32],
    options: &EvaluationOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<NoiseResult>, NoiseError> {
    check(model, set, images, options)?;
    let networks: Vec<Network<D>> = options
        .observers
        .iter()
        .map(|observer| prepare(device, model, *observer, options))
        .collect::<Result<_, _>>()?;
    let groups: Vec<&[u32]> = images.chunks(device.group_images()).collect();
    let pairs: Vec<(usize, Condition)> = (0..networks.len())
        .flat_map(|observer| options.conditions.iter().map(move |condition| (observer, *condition)))
        .collect();
    let tasks: Vec<(usize, &[u32])> = (0..pairs.len())
        .flat_map(|pair| groups.iter().map(move |group| (pair, *group)))
        .collect();

    let mut scores: Vec<GroupScore> = Vec::with_capacity(tasks.len());
    progress(0, tasks.len());
    // Rounds serve the progress report alone: tasks are independent, so their grouping does not reach a result.
    for round in tasks.chunks(2 * rayon::current_num_threads()) {
        let mut round: Vec<_> = round.iter().map(|task| (task, None)).collect();
        device.for_each(&mut round, |_, ((pair, group), done)| {
            let (observer, condition) = pairs[*pair];
            let (mean, std) = model.info().normalisation((set.mean(), set.std()));
            let noise = ImageNoise {
                seed: options.seed,
                trial: options.trial,
                condition,
                clip: options.clip,
                dt_ms: step_ms(&networks[observer], options),
            };
            let frames = Frames::new(set, mean, std, noise, group);
            *done = Some(score_group(
                &networks[observer],
                options.observers[observer],
                options,
                frames,
            ));
        });
        device.check()?;
        scores.extend(round.into_iter().filter_map(|(_, done)| done));
        progress(scores.len(), tasks.len());
    }

    let per_pair = scores.chunks(groups.len());
    Ok(pairs
        .iter()
        .zip(per_pair)
        .map(|((observer, condition), scores)| {
            let dt_ms = step_ms(&networks[*observer], options);
            summarise(
                options.observers[*observer],
                *condition,
                options,
                dt_ms,
                set.classes().len(),
                scores,
            )
        })
        .collect())
}

fn step_ms<D: Device<f32>>(network: &Network<D>, options: &EvaluationOptions) -> f64 {
    match network {
        Network::Cordsnet { net, .. } => net.euler().dt_ms,
        Network::Cnn(_) => options.dt_ms,
    }
}

fn check(model: &Model, set: &ImageSet, images: &[u32], options: &EvaluationOptions) -> Result<(), NoiseError> {
    let architecture = model.architecture();
    let mismatch = |what: &'static str, found: String, expected: String| {
        if found == expected {
            Ok(())
        } else {
            Err(NoiseError::Mismatch { what, found, expected })
        }
    };
    mismatch(
        "channels",
        set.channels().to_string(),
        architecture.in_channels.to_string(),
    )?;
    mismatch(
        "image side",
        set.side().to_string(),
        architecture.image_side.to_string(),
    )?;
    mismatch(
        "classes",
        set.classes().len().to_string(),
        architecture.classes.to_string(),
    )?;
    let info = model.info();
    if !info.classes.is_empty() {
        mismatch(
            "class names",
            format!("{:?}", set.classes()),
            format!("{:?}", info.classes),
        )?;
    }
    if !info.mean.is_empty() {
        let constants = [info.mean.len(), info.std.len()];
        mismatch(
            "channels",
            format!("{:?}", [set.channels(); 2]),
            format!("{constants:?}"),
        )?;
    }
    let option = |option: &'static str, what: String| Err(NoiseError::Option { option, what });
    if images.is_empty() {
        return option("images", "none given; the part of the image set is empty".to_owned());
    }
    if let Some(image) = images.iter().find(|image| **image as usize >= set.len()) {
        return option(
            "images",
            format!("index {image} given, but the set has {} images", set.len()),
        );
    }
    if let Some(bad) = options
        .conditions
        .iter()
        .find(|c| !c.level.is_finite() || c.level < 0.0)
    {
        return option(
            "level",
            format!("{} given; it must be finite and not negative", bad.level),
        );
    }
    if !(options.dt_ms.is_finite() && options.dt_ms > 0.0) {
        return option("dt_ms", format!("{} given; it must be above 0", options.dt_ms));
    }
    let Presentation {
        spontaneous_ms,
        stimulus_ms,
    } = options.presentation;
    let dt_ms = match model {
        Model::CordsNet { euler, .. } => euler.dt_ms,
        Model::Cnn { .. } => options.dt_ms,
    };
    if !(spontaneous_ms.is_finite() && spontaneous_ms >= 0.0) {
        return option(
            "spontaneous_ms",
            format!("{spontaneous_ms} given; it must be finite and not negative"),
        );
    }
    if !(stimulus_ms.is_finite() && stimulus_ms / dt_ms >= 0.5) {
        return option(
            "stimulus_ms",
            format!("{stimulus_ms} given; it must be at least one step of {dt_ms} ms"),
        );
    }
    Ok(())
}

fn steps(ms: f64, dt_ms: f64) -> usize {
    (ms / dt_ms).round() as usize
}

fn prepare<D: Device<f32>>(
    device: &D,
    model: &Model,
    observer: Observer,
    options: &EvaluationOptions,
) -> Result<Network<D>, NoiseError> {
    let wrong = |needed: &'static str, found: &'static str| NoiseError::Observer {
        observer,
        needed,
        found,
    };
    match (model, observer) {
        (
            Model::CordsNet {
                architecture,
                euler,
                phi,
                parameters,
                ..
            },
            Observer::Cordsnet | Observer::CordsnetWithoutRecurrence,
        ) => {
            let mut parameters = parameters.clone();
            if observer == Observer::CordsnetWithoutRecurrence {
                for area in 0..architecture.areas() {
                    // Weight norm: w = g v / |v|, so g = 0 removes the convolution.
                    let gain = format!("area_conv.{area}.parametrizations.weight.original0");
                    if let Some(gain) = parameters.get_mut(&gain) {
                        gain.data.fill(0.0);
                    }
                }
            }
            let net = CordsNet::on(device, architecture, &parameters, euler, *phi)?;
            let spontaneous = net.spontaneous(steps(options.presentation.spontaneous_ms, euler.dt_ms));
            Ok(Network::Cordsnet { net, spontaneous })
        }
        (
            Model::Cnn {
                architecture,
                parameters,
                ..
            },
            Observer::CnnFirstFrame | Observer::CnnMeanFrame | Observer::CnnMeanLogits,
        ) => Ok(Network::Cnn(Cnn::on(device, architecture, parameters)?)),
        (Model::CordsNet { .. }, _) => Err(wrong("CNN", "CordsNet")),
        (Model::Cnn { .. }, _) => Err(wrong("CordsNet", "CNN")),
    }
}

impl<'a> Frames<'a> {
    fn new(set: &'a ImageSet, mean: &'a [f32], std: &'a [f32], noise: ImageNoise, images: &'a [u32]) -> Self {
        let len = set.image_len();
        let mut clean = vec![0.0; len * images.len()];
        for (pixels, image) in clean.chunks_exact_mut(len).zip(images) {
            set.fill_unit(*image as usize, pixels);
        }
        Self {
            set,
            mean,
            std,
            noise,
            images,
            clean,
            squared_noise: 0.0,
            pixels: 0,
        }
    }

    fn len(&self) -> usize {
        self.clean.len()
    }

    /// The group's frames at a step, in [0, 1] units; counts the noise that they hold.
    fn draw(&mut self, step: usize, out: &mut [f32]) {
        let len = self.set.image_len();
        let images = out.par_chunks_exact_mut(len).zip(self.clean.par_chunks_exact(len));
        let squares: Vec<f64> = images
            .zip(self.images)
            .map(|((out, clean), image)| {
                self.noise.frame(clean, u64::from(*image), step as u32, out);
                let squares = out
                    .iter()
                    .zip(clean)
                    .map(|(noisy, clean)| f64::from(noisy - clean).powi(2));
                squares.sum()
            })
            .collect();
        for squares in squares {
            self.squared_noise += squares;
            self.pixels += len as u64;
        }
    }

    fn normalise(&self, frames: &mut [f32]) {
        let plane = self.set.side() * self.set.side();
        for (channel, pixels) in frames.chunks_exact_mut(plane).enumerate() {
            let channel = channel % self.mean.len();
            let (mean, scale) = (self.mean[channel], 1.0 / self.std[channel]);
            pixels.iter_mut().for_each(|pixel| *pixel = (*pixel - mean) * scale);
        }
    }
}

fn score_group<D: Device<f32>>(
    network: &Network<D>,
    observer: Observer,
    options: &EvaluationOptions,
    mut frames: Frames<'_>,
) -> GroupScore {
    let batch = frames.images.len();
    let labels: Vec<u32> = frames
        .images
        .iter()
        .map(|image| frames.set.label(*image as usize))
        .collect();
    let steps = steps(options.presentation.stimulus_ms, frames.noise.dt_ms);
    let score = |logits: &[f32]| -> Vec<Score> {
        let classes = logits.len() / batch;
        logits
            .chunks_exact(classes)
            .zip(&labels)
            .map(|(logits, label)| Score::of(logits, *label))
            .collect()
    };
    let mut correct_at = Vec::new();
    let scores = match network {
        Network::Cordsnet { net, spontaneous } => {
            let mut state = spontaneous.repeated(batch);
            let mut scores = Vec::new();
            let mut observe = |_: usize, view: &mut View<'_, f32, D>| {
                scores = score(&view.logits());
                // Rectification in the readout would hide activity that is not a number.
                if !view.is_finite() {
                    let state = view.state();
                    let images = scores.iter_mut().enumerate();
                    for (_, score) in images.filter(|(i, _)| !is_finite(&state, *i)) {
                        *score = Score::DIVERGED;
                    }
                }
                correct_at.push(scores.iter().filter(|score| score.rank == 0).count());
            };
            if frames.noise.is_held() {
                let mut shown = vec![0.0; frames.len()];
                frames.draw(0, &mut shown);
                frames.normalise(&mut shown);
                net.run(
                    &mut state,
                    Input::Constant(&net.embed(&shown, batch)),
                    steps,
                    &mut observe,
                );
            } else {
                let mut write = |step: usize, shown: &mut Vec<f32>| {
                    frames.draw(step, shown);
                    frames.normalise(shown);
                };
                net.run(&mut state, Input::Varying(&mut write), steps, &mut observe);
            }
            scores
        }
        Network::Cnn(cnn) => score(&cnn_logits(cnn, observer, steps, &mut frames)),
    };
    GroupScore {
        scores,
        correct_at,
        squared_noise: frames.squared_noise,
        pixels: frames.pixels,
    }
}

/// Whether the activity of image `i` is finite in every area.
fn is_finite(state: &State<f32>, i: usize) -> bool {
    let finite = |area: &Vec<f32>| {
        let units = area.len() / state.batch;
        area[i * units..][..units].iter().all(|r| r.is_finite())
    };
    state.areas.iter().all(finite)
}

fn cnn_logits<D: Device<f32>>(
    cnn: &Cnn<f32, D>,
    observer: Observer,
    steps: usize,
    frames: &mut Frames<'_>,
) -> Vec<f32> {
    let batch = frames.images.len();
    let mut shown = vec![0.0; frames.len()];
    let frames_seen = if frames.noise.is_held() || observer == Observer::CnnFirstFrame {
        1
    } else {
        steps
    };
    match observer {
        Observer::CnnMeanLogits => {
            let mut sum: Vec<f64> = Vec::new();
            for step in 0..frames_seen {
                frames.draw(step, &mut shown);
                frames.normalise(&mut shown);
                add(&mut sum, &cnn.logits_eval(&shown, batch));
            }
            mean(&sum, frames_seen)
        }
        _ => {
            let mut sum: Vec<f64> = Vec::new();
            for step in 0..frames_seen {
                frames.draw(step, &mut shown);
                add(&mut sum, &shown);
            }
            let mut shown = mean(&sum, frames_seen);
            frames.normalise(&mut shown);
            cnn.logits_eval(&shown, batch)
        }
    }
}

fn add(sum: &mut Vec<f64>, values: &[f32]) {
    sum.resize(values.len(), 0.0);
    sum.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += f64::from(*value));
}

fn mean(sum: &[f64], n: usize) -> Vec<f32> {
    sum.iter().map(|sum| (sum / n as f64) as f32).collect()
}

fn summarise(
    observer: Observer,
    condition: Condition,
    options: &EvaluationOptions,
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
    let squared: f64 = groups.iter().map(|group| group.squared_noise).sum();
    let pixels: u64 = groups.iter().map(|group| group.pixels).sum();
    let over_time = (0..groups[0].correct_at.len()).map(|step| {
        let correct: usize = groups.iter().map(|group| group.correct_at[step]).sum();
        TimePoint {
            time_ms: (step + 1) as f64 * dt_ms,
            correct,
            accuracy: correct as f64 / images as f64,
        }
    });
    let noise = ImageNoise {
        seed: options.seed,
        trial: options.trial,
        condition,
        clip: options.clip,
        dt_ms,
    };
    NoiseResult {
        observer,
        condition,
        clip: options.clip,
        frame_std: noise.frame_std(),
        achieved_std: (squared / pixels as f64).sqrt(),
        images,
        correct,
        accuracy: correct as f64 / images as f64,
        accuracy_interval: wilson_interval(correct, images),
        top5: in_five.map(|n| n as f64 / images as f64),
        top5_interval: in_five.map(|n| wilson_interval(n, images)),
        cross_entropy: (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64),
        diverged: images - finite.len(),
        over_time: over_time.collect(),
    }
}
