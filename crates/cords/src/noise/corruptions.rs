//! Classification of corrupted versions of images that come from files, read ahead while a device works on those before
//! them: no more than a few groups of images are in memory, however large the set is.

use std::sync::mpsc::{SyncSender, sync_channel};

use rayon::prelude::*;

use super::evaluate::respond;
use super::frames::CleanImages;
use super::networks::Network;
use super::options::{EvaluationOptions, NoiseError, Observer, check};
use super::pixels::{Pixels, Severities};
use super::statistics::{Score, wilson_interval};
use crate::data::{CorruptedImages, Corruption, CorruptionSet, DataError, ImageSet};
use crate::device::Device;
use crate::net::{Model, Presentation};
use crate::progress::Counter;

/// How a network did on one version of the images.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionResult {
    /// Whether each image was classified correctly, in the order in which they were given; none where it diverged.
    pub right: Vec<Option<bool>>,
    /// Number of images classified correctly.
    pub correct: usize,
    /// Fraction of the images that did not diverge; none where all did.
    pub accuracy: Option<f64>,
    /// Wilson's 95 % interval of `accuracy`.
    pub accuracy_interval: Option<[f64; 2]>,
    /// Images whose logits, or the activity of any unit, were not finite. They have no answer.
    pub diverged: usize,
    /// Root mean square of what differs from the clean images, in pixel units of [0, 1].
    pub change: f64,
}

/// The noise that a corruption is, with its five levels in a set. None of corruptions that are more than noise on
/// pixels.
///
/// The images in files are noise of the same kind after more: levels were cut to whole ones, and those of ImageNet-C
/// stored as JPEG.
pub fn drawn_noise(corruption: Corruption, set: CorruptionSet) -> Option<(Pixels, [f64; 5])> {
    let noise = match corruption {
        Corruption::GaussianNoise => Pixels::Gaussian,
        Corruption::ShotNoise => Pixels::Shot,
        Corruption::ImpulseNoise => Pixels::Impulse,
        Corruption::SpeckleNoise => Pixels::Speckle,
        _ => return None,
    };
    let severities = match set {
        CorruptionSet::Cifar10C | CorruptionSet::Cifar100C => Severities::CifarC,
        CorruptionSet::ImagenetC => Severities::ImagenetC,
    };
    Some((noise, severities.levels(noise)?))
}

/// Images of a version, or clean ones, that a device works on together.
struct Group<'a> {
    /// From 0; none for the clean images.
    version: Option<usize>,
    /// Indices into the set.
    images: &'a [u32],
    /// Values in [0, 1].
    values: Vec<f32>,
    /// Sum of squares of what differs from the clean images.
    squares: f64,
    scores: Vec<Score>,
}

/// On a device, shows a network the given images of a set (indices) and every version of them: the clean ones' result
/// first, then those of the versions in their order. A CordsNet answers at the end of the presentation, from its
/// spontaneous state; a CNN at once. `progress` is called with (groups of images done, in all), from any thread.
///
/// Results do not depend on the number of threads, and that of a version not on which others there are.
///
/// # Errors
/// A [`NoiseError`] where model, images and presentation do not fit together, corrupted images cannot be read (all of
/// them that cannot, by name), or the device fails.
pub fn evaluate_versions<D: Device<f32>>(
    device: &D,
    model: &Model,
    set: &ImageSet,
    images: &[u32],
    corrupted: &dyn CorruptedImages,
    presentation: Presentation,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Vec<VersionResult>, NoiseError> {
    let observer = match model {
        Model::CordsNet { .. } => Observer::Cordsnet,
        Model::Cnn { .. } => Observer::CnnFirstFrame,
    };
    let options = EvaluationOptions {
        observers: vec![observer],
        presentation,
        ..EvaluationOptions::default()
    };
    check(model, set, images, &options)?;
    let (network, _) = Network::new(device, model, observer, None, &options)?;
    let versions: Vec<Option<usize>> = [None].into_iter().chain((0..corrupted.versions()).map(Some)).collect();
    let source = Source {
        set,
        images,
        corrupted,
        versions: &versions,
        group: device.group_images(),
    };
    let done = Counter::new(versions.len() * images.len().div_ceil(source.group), progress);
    let mut scores: Vec<Vec<Score>> = versions.iter().map(|_| Vec::with_capacity(images.len())).collect();
    let mut squares = vec![0.0; versions.len()];
    let mut follow = |mut round: Vec<Group<'_>>| -> Result<(), NoiseError> {
        device.for_each(&mut round, |_, group| {
            let normalisation = model.info().normalisation((set.mean(), set.std()));
            let labels: Vec<u32> = group.images.iter().map(|image| set.label(*image as usize)).collect();
            let values = std::mem::take(&mut group.values);
            let shown = CleanImages::of_values(device, set, values, normalisation, group.images);
            group.scores = respond(&network, observer, &options, &shown, None, &labels).scores;
            done.add();
        });
        device.check()?;
        for group in round {
            let place = group.version.map_or(0, |version| version + 1);
            scores[place].extend(group.scores);
            squares[place] += group.squares;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<(), NoiseError> {
        // One round waits, beside the one that is being read.
        let (sender, receiver) = sync_channel(1);
        let reader = std::thread::Builder::new()
            .spawn_scoped(scope, || source.read(sender))
            .map_err(DataError::from)?;
        for round in receiver {
            follow(round)?;
        }
        match reader.join() {
            Ok(problems) => DataError::all(problems).map_or(Ok(()), |error| Err(error.into())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let values = (images.len() * set.image_len()) as f64;
    let results = scores.into_iter().zip(squares);
    Ok(results
        .map(|(scores, squares)| summarise(&scores, (squares / values).sqrt()))
        .collect())
}

fn summarise(scores: &[Score], change: f64) -> VersionResult {
    let answer = |score: &Score| (!score.has_diverged()).then_some(score.rank == 0);
    let right: Vec<Option<bool>> = scores.iter().map(answer).collect();
    let answered = right.iter().flatten().count();
    let correct = right.iter().flatten().filter(|right| **right).count();
    VersionResult {
        correct,
        accuracy: (answered > 0).then(|| correct as f64 / answered as f64),
        accuracy_interval: (answered > 0).then(|| wilson_interval(correct, answered)),
        diverged: right.len() - answered,
        change,
        right,
    }
}

/// Where groups of images come from.
struct Source<'a> {
    set: &'a ImageSet,
    images: &'a [u32],
    corrupted: &'a dyn CorruptedImages,
    versions: &'a [Option<usize>],
    /// Images of a group.
    group: usize,
}

/// Problems that are collected at most: a message names fewer.
const PROBLEMS: usize = 1000;

impl<'a> Source<'a> {
    /// Reads all versions of all images, group by group. Once an image cannot be read, the others still are, to tell of
    /// all that cannot, but no group is sent any more.
    fn read(&self, sender: SyncSender<Vec<Group<'a>>>) -> Vec<DataError> {
        // As many images as keep every thread busy, whatever the size of a group.
        const IMAGES_OF_A_THREAD: usize = 16;
        let groups = (rayon::current_num_threads() * IMAGES_OF_A_THREAD).div_ceil(self.group);
        let mut sender = Some(sender);
        let mut problems = Vec::new();
        let chunks = self.images.chunks(self.group).enumerate();
        let of_version =
            |version: &'a Option<usize>| chunks.clone().map(move |(place, images)| (*version, place, images));
        let all: Vec<(Option<usize>, usize, &[u32])> = self.versions.iter().flat_map(of_version).collect();
        for round in all.chunks(groups) {
            let read = |(version, place, images): &(Option<usize>, usize, &'a [u32])| {
                self.group(*version, place * self.group, images)
            };
            let read: Vec<Result<Group<'a>, Vec<DataError>>> = round.par_iter().map(read).collect();
            let mut sound = Vec::with_capacity(read.len());
            for group in read {
                match group {
                    Ok(group) => sound.push(group),
                    Err(found) => problems.extend(found),
                }
            }
            if !problems.is_empty() {
                sender = None;
            }
            // Nobody listens any more where the device has failed.
            if problems.len() >= PROBLEMS || sender.as_ref().is_some_and(|sender| sender.send(sound).is_err()) {
                break;
            }
        }
        problems
    }

    /// The images from the given place on, in a version.
    fn group(&self, version: Option<usize>, first: usize, images: &'a [u32]) -> Result<Group<'a>, Vec<DataError>> {
        let len = self.set.image_len();
        let mut values = vec![0.0f32; len * images.len()];
        let (mut squares, mut problems) = (0.0, Vec::new());
        let mut clean = vec![0.0f32; len];
        for (at, (image, out)) in images.iter().zip(values.chunks_exact_mut(len)).enumerate() {
            if let Err(problem) = self.set.fill_unit(*image as usize, &mut clean) {
                problems.push(problem);
                continue;
            }
            let Some(version) = version else {
                out.copy_from_slice(&clean);
                continue;
            };
            match self.corrupted.levels(version, first + at) {
                Ok(levels) if levels.len() == len => {
                    for ((out, level), clean) in out.iter_mut().zip(levels).zip(&clean) {
                        *out = f32::from(level) / 255.0;
                        squares += f64::from(*out - clean).powi(2);
                    }
                }
                Ok(levels) => {
                    let what = format!("{} levels given, {len} expected", levels.len());
                    problems.push(DataError::option("corrupted images", what));
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Group {
            version,
            images,
            values,
            squares,
            scores: Vec::new(),
        })
    }
}
