//! Logits, accuracy and cross-entropy of a network over a set of images, groups side by side.

use super::TrainError;
use super::rollout::largest_index;
use crate::data::Images;
use crate::device::Device;
use crate::net::{Cnn, Connections, Graph, Model, Presentation, Weights, cordsnet_others, diverged};
use dynvis_base::memory::check_room;

/// How well a network does on a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Logits `[images, classes]`, at the end of the stimulus.
    pub logits: Vec<f32>,
    /// The answers, at the end of the stimulus.
    pub answers: Answers,
    /// The answers after every step of the stimulus; empty for a CNN.
    pub over_time: Vec<Answers>,
}

/// Answers to a set of images. An image has diverged where a logit or the activity of any unit is not finite: it has no
/// answer and counts neither as right nor as wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// Number of images classified rightly.
    pub right: usize,
    /// Share of the images with an answer that are classified rightly; NaN where all diverged.
    pub accuracy: f64,
    /// Mean cross-entropy over the images with an answer; NaN where all diverged.
    pub cross_entropy: f64,
    /// Number of images that diverged.
    pub diverged: usize,
}

impl Answers {
    fn of(images: usize, sums: Sums) -> Self {
        let answered = (images - sums.diverged) as f64;
        Self {
            right: sums.right,
            // 0/0 is NaN.
            accuracy: sums.right as f64 / answered,
            cross_entropy: sums.cross_entropy / answered,
            diverged: sums.diverged,
        }
    }
}

/// Answers, not yet divided by the number of images.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    right: usize,
    cross_entropy: f64,
    diverged: usize,
}

impl Sums {
    /// Of logits, and the cross-entropy of each image.
    fn of(logits: &[f32], labels: &[u32], cross_entropy: &[f64], diverged: &[bool]) -> Self {
        let rows = logits.chunks_exact(logits.len() / labels.len());
        let images = rows.zip(labels).zip(cross_entropy).zip(diverged);
        images.fold(Self::default(), |mut sums, (((row, label), entropy), diverged)| {
            if *diverged || row.iter().any(|logit| !logit.is_finite()) {
                sums.diverged += 1;
            } else {
                sums.right += usize::from(largest_index(row) == *label as usize);
                sums.cross_entropy += entropy;
            }
            sums
        })
    }
}

/// Evaluates a model file's network on a device: a CordsNet from its spontaneous state through one stimulus, a CNN at
/// once.
///
/// `presentation` replaces the one that the model was trained with.
///
/// # Errors
/// [`TrainError::Images`], [`TrainError::NoImages`] or [`TrainError::Label`] where the images do not fit,
/// [`TrainError::Net`] where the model is no network, [`TrainError::Setting`] where a CordsNet has no presentation at
/// all, [`TrainError::Device`] where the device fails.
pub fn evaluate<D: Device<f32>>(
    device: &D,
    model: &Model,
    images: &dyn Images,
    presentation: Option<Presentation>,
) -> Result<Evaluation, TrainError> {
    let architecture = model.architecture();
    check_images(architecture, images, "evaluation")?;
    let evaluation = match model {
        Model::Cnn { parameters, .. } => evaluate_cnn(&Cnn::on(device, architecture, parameters)?, images),
        Model::CordsNet {
            euler,
            phi,
            parameters,
            info,
            ..
        } => {
            architecture.euler(euler)?;
            let parameters = parameters.arranged_cordsnet(architecture, euler.dt_ms)?;
            let presentation = presentation.or(info.presentation).ok_or_else(|| TrainError::Setting {
                field: "presentation",
                problem: "the model does not say how long images were shown, so it must be given".to_owned(),
            })?;
            let unfit = |(field, ms, least)| Some((field, euler.unfit(ms, least)?));
            let times = [
                ("spontaneous_ms", presentation.spontaneous_ms, 0),
                ("stimulus_ms", presentation.stimulus_ms, 1),
            ];
            if let Some((field, problem)) = times.into_iter().find_map(unfit) {
                return Err(TrainError::Setting { field, problem });
            }
            let steps = euler.steps(presentation.stimulus_ms);
            let groups = images.len().div_ceil(device.group_images()) as u64;
            let sums = groups * (steps * size_of::<Sums>()) as u64;
            check_room(sums).map_err(|error| TrainError::Setting {
                field: "stimulus_ms",
                problem: format!("{steps} steps for {} images: {error}", images.len()),
            })?;
            let weights = Weights::upload(device, architecture, &parameters, cordsnet_others(architecture));
            let connections = Connections::new(device, architecture, euler, *phi, &weights);
            let spontaneous = connections.spontaneous(euler.steps(presentation.spontaneous_ms));
            evaluate_trials(&connections, &spontaneous, images, steps)
        }
    };
    device.check()?;
    Ok(evaluation)
}

/// Checks a set of images against a network.
pub(crate) fn check_images(architecture: &Graph, images: &dyn Images, set: &'static str) -> Result<(), TrainError> {
    let (channels, side, classes) = (images.channels(), images.side(), images.classes());
    if (channels, side, classes)
        != (
            architecture.in_channels(),
            architecture.image_side(),
            architecture.classes(),
        )
    {
        return Err(TrainError::Images {
            set,
            expected_channels: architecture.in_channels(),
            expected_side: architecture.image_side(),
            expected_classes: architecture.classes(),
            channels,
            side,
            classes,
        });
    }
    if images.is_empty() {
        return Err(TrainError::NoImages { set });
    }
    match (0..images.len()).find(|image| images.label(*image) as usize >= architecture.classes()) {
        None => Ok(()),
        Some(image) => Err(TrainError::Label {
            set,
            image,
            label: images.label(image),
            classes: architecture.classes(),
        }),
    }
}

/// One group's images and results.
struct GroupWork<'a> {
    first: usize,
    labels: Vec<u32>,
    logits: &'a mut [f32],
    /// Sums over the group after every step of the stimulus.
    over_time: Vec<Sums>,
}

fn group_work<'a>(images: &dyn Images, size: usize, logits: &'a mut [f32]) -> Vec<GroupWork<'a>> {
    let count = images.len();
    let classes = images.classes();
    logits
        .chunks_mut(size * classes)
        .enumerate()
        .map(|(index, logits)| {
            let first = index * size;
            GroupWork {
                first,
                labels: (first..(first + size).min(count))
                    .map(|image| images.label(image))
                    .collect(),
                logits,
                over_time: Vec::new(),
            }
        })
        .collect()
}

/// Images from `first` on, `[count, channels, side, side]`.
pub(crate) fn load(images: &dyn Images, first: usize, count: usize) -> Vec<f32> {
    let len = images.channels() * images.side() * images.side();
    let mut values = vec![0.0; count * len];
    for (index, out) in values.chunks_exact_mut(len).enumerate() {
        images.fill(first + index, 0, out);
    }
    values
}

fn finish(group_work: &[GroupWork<'_>], images: usize) -> Vec<Answers> {
    let steps = group_work.first().map_or(0, |task| task.over_time.len());
    let answers = |step: usize| {
        let sums = group_work.iter().map(|task| task.over_time[step]);
        let sums = sums.fold(Sums::default(), |all, sums| Sums {
            right: all.right + sums.right,
            cross_entropy: all.cross_entropy + sums.cross_entropy,
            diverged: all.diverged + sums.diverged,
        });
        Answers::of(images, sums)
    };
    (0..steps).map(answers).collect()
}

/// One stimulus for every image, from the spontaneous state.
pub(crate) fn evaluate_trials<D: Device<f32>>(
    connections: &Connections<f32, D>,
    spontaneous: &[D::Buffer],
    images: &dyn Images,
    steps: usize,
) -> Evaluation {
    let device = &connections.device;
    let classes = connections.architecture.classes();
    let mut logits = vec![0.0f32; images.len() * classes];
    let mut groups = group_work(images, device.group_images(), &mut logits);
    device.for_each(&mut groups, |_, task| {
        let batch = task.labels.len();
        let values = load(images, task.first, batch);
        let image_maps = connections.architecture.image_maps(batch);
        let mut uploaded = device.zeros_maps(image_maps);
        device.upload_maps(image_maps, &values, &mut uploaded);
        let mut scratch = connections.scratch(batch);
        let (mut convolved, mut seen) = (connections.convolved(batch), connections.embedding(batch));
        connections.embed(&mut scratch.work, batch, &uploaded, &mut convolved, &mut seen.inp);
        connections.spread(&mut scratch.work, batch, &mut seen);
        let mut constant = connections.buffers(batch);
        connections.constant_current(&mut scratch.work, batch, Some(&seen), &mut constant);
        let (mut now, mut next) = (connections.state_buffers(batch), connections.state_buffers(batch));
        for ((start, now), maps) in spontaneous.iter().zip(&mut now).zip(connections.state_maps(batch)) {
            device.broadcast(maps, start, now);
        }
        let logit_maps = connections.architecture.logit_maps(batch);
        let mut pooled = device.zeros_maps(connections.architecture.pooled_maps(batch));
        let (mut out, mut gradient) = (device.zeros_maps(logit_maps), device.zeros_maps(logit_maps));
        let mut reductions = D::Reductions::default();
        let mut labels = device.zeros(0);
        device.upload_labels(&task.labels, &mut labels);
        for _ in 0..steps {
            connections.step(&mut scratch, batch, &constant, &now, &mut next);
            std::mem::swap(&mut now, &mut next);
            connections.read_out(&mut scratch.work, batch, &now, &mut pooled, &mut out);
            device.cross_entropy(classes, &out, &labels, 0.0, &mut gradient, &mut reductions);
            device.download_maps(logit_maps, &out, task.logits);
            let entropy = device.read(&mut reductions).concat();
            let areas = now.iter().take(connections.architecture.areas()).enumerate();
            let activity: Vec<_> = areas.map(|(area, r)| (connections.maps(area, batch), r)).collect();
            let diverged = diverged(device, &activity, batch);
            task.over_time
                .push(Sums::of(task.logits, &task.labels, &entropy, &diverged));
        }
    });
    let over_time = finish(&groups, images.len());
    Evaluation {
        logits,
        answers: last(&over_time),
        over_time,
    }
}

/// The answers after the last step. Without any step, and without images, there are none.
fn last(over_time: &[Answers]) -> Answers {
    let none = Answers::of(0, Sums::default());
    over_time.last().copied().unwrap_or(none)
}

/// One evaluation-mode pass for every image.
pub(crate) fn evaluate_cnn<D: Device<f32>>(cnn: &Cnn<f32, D>, images: &dyn Images) -> Evaluation {
    let device = cnn.device();
    let classes = cnn.architecture().classes();
    let mut logits = vec![0.0f32; images.len() * classes];
    let mut groups = group_work(images, device.group_images(), &mut logits);
    device.for_each(&mut groups, |_, task| {
        let batch = task.labels.len();
        let values = load(images, task.first, batch);
        let image_maps = cnn.architecture().image_maps(batch);
        let mut shown = device.zeros_maps(image_maps);
        device.upload_maps(image_maps, &values, &mut shown);
        let (answer, activity) = cnn.evaluate_group(&shown, batch);
        task.logits.copy_from_slice(&answer);
        let diverged = diverged(device, &cnn.with_maps(&activity, batch), batch);
        let maps = cnn.architecture().logit_maps(batch);
        let (mut uploaded, mut gradient) = (device.zeros_maps(maps), device.zeros_maps(maps));
        device.upload_maps(maps, task.logits, &mut uploaded);
        let mut reductions = D::Reductions::default();
        let mut labels = device.zeros(0);
        device.upload_labels(&task.labels, &mut labels);
        device.cross_entropy(classes, &uploaded, &labels, 0.0, &mut gradient, &mut reductions);
        let entropy = device.read(&mut reductions).concat();
        task.over_time
            .push(Sums::of(task.logits, &task.labels, &entropy, &diverged));
    });
    let answers = last(&finish(&groups, images.len()));
    Evaluation {
        logits,
        answers,
        over_time: Vec::new(),
    }
}
