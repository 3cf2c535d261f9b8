//! Logits, accuracy and cross-entropy of a network over a set of images, groups side by side.

use super::TrainError;
use super::ahead::for_each_group;
use super::rollout::largest_index;
use crate::data::{DataError, Images, PartOfImages};
use crate::device::{Device, Target};
use crate::net::{Cnn, Connections, Graph, Model, Presentation, Weights, cordsnet_others, diverged};
use dynvis_base::memory::check_room;

/// How well a network does on a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Logits `[images, classes]`, at the end of the stimulus; of a device with peers, those of its part of the images.
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
    /// Of logits and the cross-entropy of each image, none of which is mixed.
    fn of(logits: &[f32], targets: &[Target], cross_entropy: &[f64], diverged: &[bool]) -> Self {
        let rows = logits.chunks_exact(logits.len() / targets.len());
        let images = rows.zip(targets).zip(cross_entropy).zip(diverged);
        images.fold(Self::default(), |mut sums, (((row, target), entropy), diverged)| {
            if *diverged || row.iter().any(|logit| !logit.is_finite()) {
                sums.diverged += 1;
            } else {
                sums.right += usize::from(largest_index(row) == target.label as usize);
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
/// [`TrainError::Data`] where one cannot be read, [`TrainError::Net`] where the model is no network,
/// [`TrainError::Setting`] where a CordsNet has no presentation at all, [`TrainError::Device`] where the device fails.
pub fn evaluate<D: Device<f32>>(
    device: &D,
    model: &Model,
    images: &dyn Images,
    presentation: Option<Presentation>,
) -> Result<Evaluation, TrainError> {
    let architecture = model.architecture();
    check_images(architecture, images, "evaluation")?;
    let evaluation = match model {
        Model::Cnn { parameters, .. } => evaluate_cnn(&Cnn::on(device, architecture, parameters)?, images)?,
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
            // Those of groups side by side, and of all together.
            let sums = (device.groups_in_flight(architecture.units()).max(1) + 1) * size_of::<Sums>();
            check_room((steps as u64).saturating_mul(sums as u64)).map_err(|error| TrainError::Setting {
                field: "stimulus_ms",
                problem: format!("{steps} steps for {} images: {error}", images.len()),
            })?;
            let weights = Weights::upload(device, architecture, &parameters, cordsnet_others(architecture));
            let connections = Connections::new(device, architecture, euler, *phi, &weights);
            let spontaneous = connections.spontaneous(euler.steps(presentation.spontaneous_ms));
            evaluate_trials(&connections, &spontaneous, images, steps)?
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

/// Answers to groups of images, gathered.
#[derive(Default)]
struct Gathered {
    images: usize,
    logits: Vec<f32>,
    /// Sums after every step of the stimulus.
    over_time: Vec<Sums>,
}

impl Gathered {
    /// Adds the answers to one more group.
    fn add(&mut self, group: Gathered) {
        self.images += group.images;
        self.logits.extend(group.logits);
        self.over_time.resize(group.over_time.len(), Sums::default());
        for (all, sums) in self.over_time.iter_mut().zip(&group.over_time) {
            all.right += sums.right;
            all.cross_entropy += sums.cross_entropy;
            all.diverged += sums.diverged;
        }
    }

    /// Those of all peers; `steps` are the steps of the stimulus. Logits are those of the own part.
    fn of_all_peers<D: Device<f32>>(mut self, device: &D, steps: usize) -> Self {
        if device.peers().world > 1 {
            self.over_time.resize(steps, Sums::default());
            let each = self.over_time.iter();
            let each = each.flat_map(|sums| [sums.right as f64, sums.cross_entropy, sums.diverged as f64]);
            let mut numbers: Vec<f64> = [self.images as f64].into_iter().chain(each).collect();
            device.sum_over_peers(&mut [], &mut numbers);
            self.images = numbers[0] as usize;
            for (sums, numbers) in self.over_time.iter_mut().zip(numbers[1..].chunks(3)) {
                *sums = Sums {
                    right: numbers[0] as usize,
                    cross_entropy: numbers[1],
                    diverged: numbers[2] as usize,
                };
            }
        }
        self
    }

    fn answers(&self) -> Vec<Answers> {
        let answers = |sums: &Sums| Answers::of(self.images, *sums);
        self.over_time.iter().map(answers).collect()
    }
}

/// One stimulus for every image, from the spontaneous state.
///
/// # Errors
/// Where an image cannot be read.
pub(crate) fn evaluate_trials<D: Device<f32>>(
    connections: &Connections<f32, D>,
    spontaneous: &[D::Buffer],
    images: &dyn Images,
    steps: usize,
) -> Result<Evaluation, DataError> {
    let device = &connections.device;
    let classes = connections.architecture.classes();
    let group = |images: &[f32], targets: &[Target]| {
        let batch = targets.len();
        let image_maps = connections.architecture.image_maps(batch);
        let mut uploaded = device.zeros_maps(image_maps);
        device.upload_maps(image_maps, images, &mut uploaded);
        let mut scratch = connections.scratch(batch);
        let (mut convolved, mut seen) = (connections.convolved(batch), connections.embedding(batch));
        connections.embed(&mut scratch.work, batch, &uploaded, &mut convolved, &mut seen.inp);
        connections.spread(&mut scratch.work, batch, &mut seen);
        let mut constant = connections.buffers(batch);
        connections.constant_current(&mut scratch.work, batch, Some(&seen), &mut constant);
        let (mut now, mut next) = (connections.activity_buffers(batch), connections.activity_buffers(batch));
        for ((start, now), maps) in spontaneous.iter().zip(&mut now).zip(connections.state_maps(batch)) {
            device.broadcast(maps, start, now);
        }
        let logit_maps = connections.architecture.logit_maps(batch);
        let mut pooled = device.zeros_maps(connections.architecture.pooled_maps(batch));
        let (mut out, mut gradient) = (device.zeros_maps(logit_maps), device.zeros_maps(logit_maps));
        let mut reductions = D::Reductions::default();
        let mut wanted = device.zeros(0);
        device.upload_targets(targets, &mut wanted);
        let mut logits = vec![0.0f32; batch * classes];
        let mut over_time = Vec::with_capacity(steps);
        for _ in 0..steps {
            connections.step(&mut scratch, batch, &constant, &now, &mut next);
            std::mem::swap(&mut now, &mut next);
            connections.read_out(&mut scratch.work, batch, &now, &mut pooled, &mut out);
            device.cross_entropy(classes, &out, &wanted, 0.0, &mut gradient, &mut reductions);
            device.download_maps(logit_maps, &out, &mut logits);
            let entropy = device.read(&mut reductions).concat();
            let areas = now.iter().take(connections.architecture.areas()).enumerate();
            let activity: Vec<_> = areas.map(|(area, r)| (connections.maps(area, batch), r)).collect();
            let diverged = diverged(device, &activity, batch);
            over_time.push(Sums::of(&logits, targets, &entropy, &diverged));
        }
        Gathered {
            images: batch,
            logits,
            over_time,
        }
    };
    let mut all = Gathered::default();
    let own = PartOfImages::new(images, device.peers().part(images.len()));
    for_each_group(device, connections.architecture.units(), &own, group, |group| {
        all.add(group)
    })?;
    let all = all.of_all_peers(device, steps);
    let over_time = all.answers();
    Ok(Evaluation {
        logits: all.logits,
        answers: last(&over_time),
        over_time,
    })
}

/// The answers after the last step. Without any step, and without images, there are none.
fn last(over_time: &[Answers]) -> Answers {
    let none = Answers::of(0, Sums::default());
    over_time.last().copied().unwrap_or(none)
}

/// One evaluation-mode pass for every image.
///
/// # Errors
/// Where an image cannot be read.
pub(crate) fn evaluate_cnn<D: Device<f32>>(cnn: &Cnn<f32, D>, images: &dyn Images) -> Result<Evaluation, DataError> {
    let device = cnn.device();
    let classes = cnn.architecture().classes();
    let group = |images: &[f32], targets: &[Target]| {
        let batch = targets.len();
        let image_maps = cnn.architecture().image_maps(batch);
        let mut shown = device.zeros_maps(image_maps);
        device.upload_maps(image_maps, images, &mut shown);
        let (logits, activity) = cnn.evaluate_group(&shown, batch);
        let diverged = diverged(device, &cnn.with_maps(&activity, batch), batch);
        let maps = cnn.architecture().logit_maps(batch);
        let (mut uploaded, mut gradient) = (device.zeros_maps(maps), device.zeros_maps(maps));
        device.upload_maps(maps, &logits, &mut uploaded);
        let mut reductions = D::Reductions::default();
        let mut wanted = device.zeros(0);
        device.upload_targets(targets, &mut wanted);
        device.cross_entropy(classes, &uploaded, &wanted, 0.0, &mut gradient, &mut reductions);
        let entropy = device.read(&mut reductions).concat();
        Gathered {
            images: batch,
            over_time: vec![Sums::of(&logits, targets, &entropy, &diverged)],
            logits,
        }
    };
    let mut all = Gathered::default();
    let own = PartOfImages::new(images, device.peers().part(images.len()));
    for_each_group(device, cnn.architecture().units(), &own, group, |group| all.add(group))?;
    let all = all.of_all_peers(device, 1);
    Ok(Evaluation {
        answers: last(&all.answers()),
        logits: all.logits,
        over_time: Vec::new(),
    })
}
