//! Preparing an image set: read, resize, crop, divide, and write, with the same bytes for any number of threads.

use super::decode::Pixels;
use super::resize::{self, Resizer};
use super::source::{ImageSource, Opened};
use super::{DataError, ImageSet, ImageSetWriter, Split, split};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Images that are decoded side by side before they are written in order.
const BATCH: usize = 256;
/// Mean and standard deviation per channel.
type MeanAndStd = (Vec<f64>, Vec<f64>);

/// Fraction of every class's training images that become validation images where none is given.
pub const DEFAULT_VALIDATION: f64 = 0.1;
/// Fraction of every class's images that become test images where none is given.
pub const DEFAULT_TEST: f64 = 0.2;

/// At most so many images, chosen by seed. Applied to training and official test (and validation) images separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Images of every class.
    PerClass(usize),
    /// Images in all, divided over the classes in proportion to their sizes.
    Total(usize),
}

/// Where the constants of the per-channel normalisation come from, mean and standard deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// measured on the training split
    #[default]
    TrainingSplit,
    /// the constants that the literature uses for this data set
    Published,
}

/// How to prepare an image set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareConfig {
    /// Where the images come from.
    pub source: ImageSource,
    /// Height and width of the prepared images in pixels (centre crop).
    pub side: usize,
    /// Length of the shorter side before the crop; `side` if not given.
    #[serde(default)]
    pub resize: Option<usize>,
    /// 1 or 3: colour becomes luminance, grey is repeated.
    pub channels: usize,
    /// Fraction of every class's training images that become validation images; 0.1 if not given. Not allowed where
    /// the source has a validation part of its own.
    #[serde(default)]
    pub validation_fraction: Option<f64>,
    /// Fraction of every class's images that become test images; 0.2 if not given. Not allowed where the source has a
    /// test part of its own.
    #[serde(default)]
    pub test_fraction: Option<f64>,
    /// Seed of the division and of the choice under a limit.
    #[serde(default)]
    pub seed: u64,
    /// Fewer images, for quick tests.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// Constants of the normalisation.
    #[serde(default)]
    pub normalisation: Normalisation,
}

/// Images of one class in each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Name of the class.
    pub class: String,
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub validation: usize,
    /// Number of test images.
    pub test: usize,
}

/// What an image set was prepared to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Short name of the data set.
    pub name: String,
    /// Number of images that were prepared.
    pub images: usize,
    /// Channels of every image.
    pub channels: usize,
    /// Height and width of every image in pixels.
    pub side: usize,
    /// Counts in label order.
    pub classes: Vec<ClassCount>,
    /// Mean per channel in units of [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation per channel in units of [0, 1].
    pub std: Vec<f64>,
    /// Name of each image: its path in the source's folder, or the file that holds it with its number there, from 0.
    pub files: Vec<String>,
    /// What was passed over in the source.
    pub notes: Vec<String>,
}

impl PrepareConfig {
    /// All images of a source at a side in pixels, with the defaults for everything else.
    pub fn new(source: ImageSource, channels: usize, side: usize) -> Self {
        Self {
            source,
            side,
            resize: None,
            channels,
            validation_fraction: None,
            test_fraction: None,
            seed: 0,
            limit: None,
            normalisation: Normalisation::default(),
        }
    }

    fn check(&self) -> Result<(), DataError> {
        const LARGEST: usize = 1 << 14;
        if self.side == 0 || self.side > LARGEST {
            return Err(DataError::option(
                "side",
                format!("{} given; it must be 1 to {LARGEST}", self.side),
            ));
        }
        if let Some(resize) = self.resize
            && (resize < self.side || resize > LARGEST)
        {
            let range = format!(
                "{resize} given; it must be at least the side, {}, and at most {LARGEST}",
                self.side
            );
            return Err(DataError::option("resize", range));
        }
        if ![1, 3].contains(&self.channels) {
            return Err(DataError::option(
                "channels",
                format!("{} given; it must be 1 or 3", self.channels),
            ));
        }
        for (option, fraction) in [
            ("validation_fraction", self.validation_fraction),
            ("test_fraction", self.test_fraction),
        ] {
            if let Some(fraction) = fraction
                && !(0.0..1.0).contains(&fraction)
            {
                return Err(DataError::option(
                    option,
                    format!("{fraction} given; it must be at least 0 and below 1"),
                ));
            }
        }
        if let Some(Limit::PerClass(0) | Limit::Total(0)) = self.limit {
            return Err(DataError::option("limit", "0 given; it must keep at least one image"));
        }
        Ok(())
    }

    /// The constants of the normalisation; `None` where they are to be measured.
    fn constants(&self) -> Result<Option<MeanAndStd>, DataError> {
        if self.normalisation == Normalisation::TrainingSplit {
            return Ok(None);
        }
        let published = self.source.name.published_normalisation();
        let (mean, std) = published
            .ok_or_else(|| DataError::option("normalisation", "there are no published constants for this source"))?;
        // A grey source has the same constants in all of its repeated channels.
        if mean.len() == 1 {
            return Ok(Some((vec![mean[0]; self.channels], vec![std[0]; self.channels])));
        }
        if mean.len() != self.channels {
            let what = format!(
                "the published constants are those of {} channels, and {} were asked for",
                mean.len(),
                self.channels
            );
            return Err(DataError::option("normalisation", what));
        }
        Ok(Some((mean, std)))
    }

    fn describe(&self, kind: &str) -> String {
        let (resize, side) = (self.resize.unwrap_or(self.side), self.side);
        format!("{kind}; shorter side resized to {resize} (antialiased bilinear), centre crop {side} x {side}")
    }
}

/// Reads the source, prepares its images and writes the image set into `out_dir`. Images keep the order of the source;
/// `progress` is called with (images done, images in all).
///
/// # Errors
/// [`DataError::Option`] where `config` contradicts itself or the source, otherwise what of the source's files is
/// missing, damaged or does not fit, all that can be told at once as [`DataError::Several`]; [`DataError::Io`] where
/// reading or writing fails.
pub fn prepare(
    config: &PrepareConfig,
    out_dir: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Summary, DataError> {
    let start =
        |name: &str, classes: &[String]| ImageSetWriter::create(out_dir, name, config.channels, config.side, classes);
    prepare_into(config, start, progress).map(|(_, summary)| summary)
}

/// Reads the source and prepares its images as [`prepare`] does, into memory, where a small set needs no folder.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_in_memory(
    config: &PrepareConfig,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(ImageSet, Summary), DataError> {
    let start = |name: &str, classes: &[String]| ImageSetWriter::in_memory(name, config.channels, config.side, classes);
    prepare_into(config, start, progress)
}

/// Prepares images into what `start(name, classes)` begins.
fn prepare_into(
    config: &PrepareConfig,
    start: impl FnOnce(&str, &[String]) -> Result<ImageSetWriter, DataError>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(ImageSet, Summary), DataError> {
    config.check()?;
    let constants = config.constants()?;
    let Opened {
        name,
        classes,
        attribution,
        entries,
        reader,
        described,
        notes,
    } = config.source.open()?;
    for (option, given, part, called) in [
        (
            "validation_fraction",
            config.validation_fraction,
            super::source::Part::Validation,
            "validation",
        ),
        ("test_fraction", config.test_fraction, super::source::Part::Test, "test"),
    ] {
        if given.is_some() && entries.iter().any(|entry| entry.part == part) {
            let what = format!("the source has {called} images of its own, so this option must be left out");
            return Err(DataError::option(option, what));
        }
    }
    let choice = split::choose(
        &entries,
        &classes,
        config.limit,
        config.validation_fraction.unwrap_or(DEFAULT_VALIDATION),
        config.test_fraction.unwrap_or(DEFAULT_TEST),
        config.seed,
    )?;

    let total = choice.kept.len();
    let mut writer = start(name, &classes)?;
    let resize_to = config.resize.unwrap_or(config.side);
    let mut problems = Vec::new();
    progress(0, total);
    for (batch_index, batch) in choice.kept.chunks(BATCH).enumerate() {
        let fitted: Vec<Result<Vec<u8>, DataError>> = batch
            .par_iter()
            .map_init(Resizer::default, |resizer, &i| {
                let pixels: Pixels = reader.pixels(i)?.with_channels(config.channels);
                Ok(resize::fit(resizer, pixels, resize_to, config.side))
            })
            .collect();
        // All bad images are reported, in order, whichever thread met one first; nothing is written once there is one.
        for (&i, image) in batch.iter().zip(fitted) {
            match image {
                Ok(image) if problems.is_empty() => writer.push(&image, entries[i].label)?,
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
        }
        progress(batch_index * BATCH + batch.len(), total);
    }
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    let set = writer.finish(&choice.splits, constants, attribution, &config.describe(described))?;

    let mut counts: Vec<ClassCount> = classes
        .into_iter()
        .map(|class| ClassCount {
            class,
            train: 0,
            validation: 0,
            test: 0,
        })
        .collect();
    for part in [Split::Train, Split::Validation, Split::Test] {
        for &i in set.split(part) {
            let count = &mut counts[set.label(i as usize) as usize];
            *match part {
                Split::Train => &mut count.train,
                Split::Validation => &mut count.validation,
                Split::Test => &mut count.test,
            } += 1;
        }
    }
    let summary = Summary {
        name: name.to_owned(),
        images: set.len(),
        channels: set.channels(),
        side: set.side(),
        classes: counts,
        mean: set.manifest().mean.clone(),
        std: set.manifest().std.clone(),
        files: choice.kept.iter().map(|&i| reader.file(i)).collect(),
        notes,
    };
    Ok((set, summary))
}
