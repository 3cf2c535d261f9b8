//! The recording itself: groups of images through one trial, and mean rate, dimensionality and accuracy from what was
//! written.

use std::path::Path;

use dynvis_base::{Classified, ErrorKind};

use super::file::{ActivityFile, Contents};
use super::participation::participation_ratio;
use crate::data::{DataError, ImageSet, fill_images};
use crate::device::{Device, DeviceError};
use crate::net::{Area, Cnn, CordsNet, Graph, Input, MOST_STEPS, Model, NetError, Presentation, State, View};
use dynvis_base::memory::check_room;

/// What to record of a CordsNet's trial: nothing, then an image, then nothing again.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordOptions {
    /// Areas, from 0, ascending.
    pub areas: Vec<usize>,
    /// Times after image onset in ms, ascending; 0 is the spontaneous state. Each stands for the nearest step. Empty
    /// for a CNN.
    pub times_ms: Vec<f64>,
    /// Mean over each channel's map instead of all units.
    pub pooled: bool,
    /// Time without input from r = 0, then with the image.
    pub presentation: Presentation,
}

/// An area at a time, over the recorded images.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaTime {
    /// Index of the area, from 0.
    pub area: usize,
    /// Time after image onset in ms, that of the step; 0 for a CNN.
    pub time_ms: f64,
    /// Mean over units and the images that had not diverged; `None` where all had.
    pub mean_rate: Option<f64>,
    /// Participation ratio of the recorded values' covariance over the images that had not diverged; `None` where
    /// nothing varies.
    pub participation_ratio: Option<f64>,
    /// Share of the images that had not diverged whose label has the largest logit at that time; `None` where all had,
    /// and where the images' classes are not the network's.
    pub accuracy: Option<f64>,
    /// Images that had diverged: whose logits or activity, in any area, were not finite.
    pub diverged: usize,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The model is no network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Writing or reading back failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Images that do not fit the network.
    #[error("the network takes images of {channels} x {side}^2, the image set has {found_channels} x {found_side}^2")]
    Images {
        /// Channels that the network needs.
        channels: usize,
        /// Side that it needs.
        side: usize,
        /// Channels of the image set.
        found_channels: usize,
        /// Height and width of the image set's images.
        found_side: usize,
    },
    /// A choice that cannot be recorded.
    #[error("{option}: {problem}")]
    Option {
        /// Name of the option that is at fault.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An image cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device has failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Classified for RecordError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Net(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Io(error) => Classified::kind(error),
            Self::Device(error) => error.kind(),
            Self::Images { .. } | Self::Option { .. } => ErrorKind::Input,
        }
    }
}

/// A network that answers with activity.
enum Network<D: Device<f32>> {
    CordsNet {
        net: Box<CordsNet<f32, D>>,
        spontaneous: State<f32>,
    },
    Cnn(Box<Cnn<f32, D>>),
}

/// Records activity and logits of the images `images` (indices in `set`) into a new file at `path`, whose format the
/// tensors `area.L`, `logits`, `times`, `images` and `labels` make up; a row for each area and time comes back. Images
/// are normalised as the model was trained, else with the set's constants. `progress(done, total)` counts images, then
/// areas and times.
///
/// # Errors
/// [`RecordError`]; the file may then be there in part.
pub fn record<D: Device<f32>>(
    device: &D,
    model: &Model,
    set: &ImageSet,
    images: &[u32],
    options: &RecordOptions,
    path: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<AreaTime>, RecordError> {
    let architecture = model.architecture();
    check(model, set, images, options)?;
    let steps = steps(model, options)?;
    check_size(architecture, images, options, steps.len())?;
    let network = network(device, model, options)?;
    let dt_ms = match model {
        Model::CordsNet { euler, .. } => euler.dt_ms,
        _ => 0.0,
    };
    let times_ms: Vec<f64> = steps.iter().map(|step| *step as f64 * dt_ms).collect();
    let labels: Vec<u32> = images.iter().map(|image| set.label(*image as usize)).collect();
    let areas: Vec<(usize, Vec<usize>)> = options
        .areas
        .iter()
        .map(|&area| {
            let Area { channels, side, .. } = *architecture.area(area);
            let extents = if options.pooled {
                vec![channels]
            } else {
                vec![channels, side, side]
            };
            (area, extents)
        })
        .collect();
    let file = ActivityFile::create(
        path,
        &Contents {
            times_ms: &times_ms,
            images,
            labels: &labels,
            classes: architecture.classes(),
            areas: &areas,
        },
    )?;
    let info = model.info();
    let classes = set.classes();
    let same = classes.len() == architecture.classes() && (info.classes.is_empty() || info.classes == classes);
    let mut writer = ActivityWriter {
        file,
        options,
        classes: architecture.classes(),
        sums: vec![vec![0.0; times_ms.len()]; areas.len()],
        correct: vec![0; times_ms.len()],
        lost: vec![vec![false; images.len()]; times_ms.len()],
    };
    // Whole groups of the device, so that how many run side by side does not change which images run together.
    let chunk = device.group_images() * device.groups_in_flight(architecture.units()).max(1);
    let total = images.len() + areas.len() * times_ms.len();
    for (index, part) in images.chunks(chunk).enumerate() {
        let first = index * chunk;
        let shown = ImageGroup {
            first,
            images: normalised(model, set, part)?,
            labels: &labels[first..first + part.len()],
        };
        writer.run(&network, &shown, &steps)?;
        device.check()?;
        progress(first + part.len(), total);
    }
    let ActivityWriter {
        mut file,
        sums,
        correct,
        lost,
        ..
    } = writer;
    // Images with an answer at each time.
    let kept = lost
        .iter()
        .map(|lost| (0..images.len()).filter(|image| !lost[*image]).collect());
    let kept: Vec<Vec<usize>> = kept.collect();
    let mut rows = Vec::new();
    for (index, (area, _)) in areas.iter().enumerate() {
        let block = file.areas[index];
        for (time, time_ms) in times_ms.iter().enumerate() {
            let kept = &kept[time];
            let mean_rate = sums[index][time] / (kept.len() * block.len) as f64;
            let ratio = participation_ratio(kept.len(), block.len, &mut |image, range, out| {
                file.read(block, kept[image], time, range, out)
            })?;
            let accuracy = correct[time] as f64 / kept.len() as f64;
            rows.push(AreaTime {
                area: *area,
                time_ms: *time_ms,
                mean_rate: mean_rate.is_finite().then_some(mean_rate),
                participation_ratio: ratio,
                accuracy: (same && !kept.is_empty()).then_some(accuracy),
                diverged: images.len() - kept.len(),
            });
            progress(images.len() + rows.len(), total);
        }
    }
    Ok(rows)
}

/// Normalised images `[image, channel, side, side]`.
fn normalised(model: &Model, set: &ImageSet, images: &[u32]) -> Result<Vec<f32>, DataError> {
    let mut shown = vec![0.0; set.image_len() * images.len()];
    let constants = model.info().normalisation((set.mean(), set.std()));
    fill_images(images, &mut shown, |image, out| {
        set.fill_unit(image as usize, out)?;
        set.normalise_by(constants, out);
        Ok(())
    })?;
    Ok(shown)
}

fn network<D: Device<f32>>(device: &D, model: &Model, options: &RecordOptions) -> Result<Network<D>, RecordError> {
    if let Model::Cnn { .. } = model {
        return Ok(Network::Cnn(Box::new(model.cnn_on(device)?)));
    }
    let net = model.cordsnet_on(device)?;
    let blank = net.euler().steps(options.presentation.spontaneous_ms);
    Ok(Network::CordsNet {
        spontaneous: net.spontaneous(blank),
        net: Box::new(net),
    })
}

/// Steps after image onset, ascending; a single 0 for a CNN, which sees an image at once.
fn steps(model: &Model, options: &RecordOptions) -> Result<Vec<usize>, RecordError> {
    let wrong = |problem: String| RecordError::Option {
        option: "times",
        problem,
    };
    let Model::CordsNet { euler, .. } = model else {
        return match options.times_ms.first() {
            None => Ok(vec![0]),
            Some(_) => Err(wrong("a CNN has no time; leave them out".to_owned())),
        };
    };
    if options.times_ms.is_empty() {
        return Err(wrong("none are given".to_owned()));
    }
    let is_time = |time: &&f64| time.is_finite() && **time >= 0.0;
    if let Some(time) = options.times_ms.iter().find(|time| !is_time(time)) {
        return Err(wrong(format!("{time} ms is not a time after image onset")));
    }
    if let Some(time) = options.times_ms.iter().find(|time| **time / euler.dt_ms > MOST_STEPS) {
        let problem = format!(
            "{time} ms is beyond the {MOST_STEPS} steps of {} ms that are simulated",
            euler.dt_ms
        );
        return Err(wrong(problem));
    }
    let steps: Vec<usize> = options.times_ms.iter().map(|time| euler.steps(*time)).collect();
    match steps.windows(2).position(|pair| pair[0] >= pair[1]) {
        None => Ok(steps),
        Some(at) => Err(wrong(format!(
            "{} ms is followed by {} ms, which is not a later step of {} ms",
            options.times_ms[at],
            options.times_ms[at + 1],
            euler.dt_ms
        ))),
    }
}

fn check(model: &Model, set: &ImageSet, images: &[u32], options: &RecordOptions) -> Result<(), RecordError> {
    let architecture = model.architecture();
    if (set.channels(), set.side()) != (architecture.in_channels(), architecture.image_side()) {
        return Err(RecordError::Images {
            channels: architecture.in_channels(),
            side: architecture.image_side(),
            found_channels: set.channels(),
            found_side: set.side(),
        });
    }
    let wrong = |option, problem: String| Err(RecordError::Option { option, problem });
    if images.is_empty() {
        return wrong("images", "there are none to record".to_owned());
    }
    if let Some(image) = images.iter().find(|image| **image as usize >= set.len()) {
        return wrong("images", format!("index {image}, but the image set has {}", set.len()));
    }
    if options.areas.is_empty() {
        return wrong("areas", "none are given".to_owned());
    }
    let areas = architecture.areas();
    if let Some(area) = options.areas.iter().find(|area| **area >= areas) {
        return wrong(
            "areas",
            format!("area {area}, but the network has areas 0 to {}", areas - 1),
        );
    }
    if options.areas.windows(2).any(|pair| pair[0] >= pair[1]) {
        return wrong("areas", format!("{:?} is not in ascending order", options.areas));
    }
    let Presentation {
        spontaneous_ms,
        stimulus_ms,
    } = options.presentation;
    let Model::CordsNet { euler, .. } = model else {
        return Ok(());
    };
    for (what, ms) in [
        ("the time without input", spontaneous_ms),
        ("the stimulus", stimulus_ms),
    ] {
        if let Some(problem) = euler.unfit(ms, 0) {
            return wrong("presentation", format!("{what} is {problem}"));
        }
    }
    Ok(())
}

/// Values of one image at one time in each recorded area.
fn values_each(architecture: &Graph, options: &RecordOptions) -> Vec<u64> {
    let values = |number: &usize| {
        let area = architecture.description().areas.get(*number);
        area.map_or(0, |area| {
            let plane = if options.pooled { 1 } else { area.side * area.side };
            (area.channels * plane) as u64
        })
    };
    options.areas.iter().map(values).collect()
}

/// Bytes of the file that [`record`] writes for so many images, but for its head.
pub fn recorded_bytes(model: &Model, images: usize, options: &RecordOptions) -> u64 {
    let architecture = model.architecture();
    let each = values_each(architecture, options).iter().sum::<u64>() + architecture.classes() as u64;
    let shown = (images as u64).saturating_mul(options.times_ms.len().max(1) as u64);
    shown.saturating_mul(each).saturating_mul(4)
}

/// Whether what is recorded of `times` times can be placed in a file, and what is gathered beside it held in memory.
fn check_size(architecture: &Graph, images: &[u32], options: &RecordOptions, times: usize) -> Result<(), RecordError> {
    let areas = values_each(architecture, options);
    let (images, times) = (images.len() as u64, times as u64);
    let shown = images.saturating_mul(times);
    let each = areas.iter().sum::<u64>() + architecture.classes() as u64;
    let too_much = |problem: String| RecordError::Option {
        option: "times",
        problem: format!("{images} images at {times} times, with {each} values each: {problem}"),
    };
    // 8 PiB: what of a file can be counted in float64, and more than disks have.
    const LARGEST_FILE: u64 = 1 << 53;
    if shown.saturating_mul(each).saturating_mul(4) > LARGEST_FILE {
        return Err(too_much("no file can be that long; record fewer".to_owned()));
    }
    // Which images have diverged at each time, those that have not, and the rows of the table.
    let kept = shown.saturating_mul(1 + 8) + times * areas.len() as u64 * ROW_BYTES;
    // Of the largest area's values, over images or features.
    let side = areas.iter().copied().max().unwrap_or(0).min(images);
    check_room(kept.saturating_add(side * side * 8)).map_err(|error| too_much(format!("{error}; record fewer")))
}

/// What a row for each area and time takes, as it is and in a table.
const ROW_BYTES: u64 = 512;

/// Writes what a group of images answers, and gathers what can be summed on the way.
struct ActivityWriter<'a> {
    file: ActivityFile,
    options: &'a RecordOptions,
    classes: usize,
    /// Sum of all recorded values, per area and time.
    sums: Vec<Vec<f64>>,
    /// Images classified rightly, per time.
    correct: Vec<usize>,
    /// Images that had diverged, per time: whose logits or activity, of any area, were not finite.
    lost: Vec<Vec<bool>>,
}

/// A group of images within the recording.
struct ImageGroup<'a> {
    /// Place of its first image.
    first: usize,
    /// Normalised images, `[labels.len(), channels, side, side]`.
    images: Vec<f32>,
    labels: &'a [u32],
}

impl ActivityWriter<'_> {
    fn run<D: Device<f32>>(
        &mut self,
        network: &Network<D>,
        shown: &ImageGroup<'_>,
        steps: &[usize],
    ) -> Result<(), RecordError> {
        let batch = shown.labels.len();
        let (net, spontaneous) = match network {
            Network::Cnn(cnn) => {
                let (logits, activity) = cnn.evaluate(&shown.images, batch);
                return Ok(self.keep(shown, 0, &activity, &logits)?);
            }
            Network::CordsNet { net, spontaneous } => (net, spontaneous),
        };
        let last = steps.last().copied().unwrap_or(0);
        let stimulus = net.euler().steps(self.options.presentation.stimulus_ms).min(last);
        let inp = net.embed(&shown.images, batch);
        let mut state = spontaneous.repeated(batch);
        let mut result = Ok(());
        if steps.first() == Some(&0) {
            self.keep(shown, 0, &state.areas, &net.logits(&state))?;
        }
        let mut keep = |done: usize, view: &mut View<'_, f32, D>| {
            if let (Ok(()), Ok(time)) = (&result, steps.binary_search(&done)) {
                result = self.keep(shown, time, &view.state().areas, &view.logits());
            }
        };
        net.run(&mut state, Input::Constant(&inp), stimulus, &mut |step, view| {
            keep(step + 1, view)
        });
        net.run(&mut state, Input::Blank, last - stimulus, &mut |step, view| {
            keep(stimulus + step + 1, view);
        });
        Ok(result?)
    }

    /// Activity `[batch, channels, side, side]` of every area, and logits `[batch, classes]`, at one time.
    fn keep(
        &mut self,
        shown: &ImageGroup<'_>,
        time: usize,
        activity: &[Vec<f32>],
        logits: &[f32],
    ) -> std::io::Result<()> {
        let batch = shown.labels.len();
        let is_finite = |values: &[f32], image: usize| {
            let len = values.len() / batch;
            values[image * len..][..len].iter().all(|value| value.is_finite())
        };
        for (image, lost) in self.lost[time][shown.first..][..batch].iter_mut().enumerate() {
            let areas = activity.iter().all(|area| is_finite(area, image));
            *lost = !(areas && is_finite(logits, image));
        }
        for (index, area) in self.options.areas.iter().enumerate() {
            let block = self.file.areas[index];
            let units = activity[*area].len() / batch;
            for (image, maps) in activity[*area].chunks_exact(units).enumerate() {
                let pooled: Vec<f32>;
                let values = if self.options.pooled {
                    pooled = maps.chunks_exact(units / block.len).map(mean).collect();
                    &pooled
                } else {
                    maps
                };
                if !self.lost[time][shown.first + image] {
                    self.sums[index][time] += values.iter().map(|v| f64::from(*v)).sum::<f64>();
                }
                self.file.write(block, shown.first + image, time, values)?;
            }
        }
        for (image, (logits, label)) in logits.chunks_exact(self.classes).zip(shown.labels).enumerate() {
            let answers = !self.lost[time][shown.first + image];
            self.correct[time] += usize::from(answers && is_right(logits, *label as usize));
            self.file.write(self.file.logits, shown.first + image, time, logits)?;
        }
        Ok(())
    }
}

/// Mean of a map.
fn mean(map: &[f32]) -> f32 {
    (map.iter().map(|v| f64::from(*v)).sum::<f64>() / map.len() as f64) as f32
}

/// Whether the label's logit is the first of the largest, all being finite.
fn is_right(logits: &[f32], label: usize) -> bool {
    let Some(own) = logits.get(label) else { return false };
    let beaten = |(class, other): (usize, &f32)| other < own || (other == own && class >= label);
    logits.iter().all(|logit| logit.is_finite()) && logits.iter().enumerate().all(beaten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_beyond_files_and_memory_are_refused_with_their_size() {
        let architecture = Graph::published(8, 3, 224, 1000).expect("published sizes are valid");
        let said = |images: u32, times: usize, pooled: bool| {
            let options = RecordOptions {
                areas: (0..8).collect(),
                times_ms: vec![0.0; times],
                pooled,
                presentation: Presentation {
                    spontaneous_ms: 0.0,
                    stimulus_ms: 200.0,
                },
            };
            let images: Vec<u32> = (0..images).collect();
            let refused = check_size(&architecture, &images, &options, times).err();
            refused.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said(10, 100, false), "");
        // 10^6 x 10^6 x 753,640 values of 4 bytes, where a file has 9 x 10^15 at most.
        let file = said(1_000_000, 1_000_000, false);
        assert!(
            file.starts_with("times: 1000000 images at 1000000 times, with 753640 values each: no file"),
            "{file}"
        );
        let memory = said(1_000_000, 500_000, true);
        assert!(memory.contains("with 2920 values each: it takes"), "{memory}");
    }
}
