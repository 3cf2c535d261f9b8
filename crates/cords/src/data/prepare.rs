//! Preparing an image set: read, resize, crop, divide, and write, with the same bytes for any number of threads.

use super::decode::encode_like;
use super::image_set::{Form, MeanAndStd, Moments, OriginalsWriter, PACK, Packed, Shown, packed_bytes};
use super::resize::{self, Resizer};
use super::source::{Entry, ImageSource, Opened, Original, Part, Place, Reader};
use super::split::Choice;
use super::{DataError, ImageSet, ImageSetWriter, Split, Splits, split};
use dynvis_base::{Classified, ErrorKind};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

/// Images that are decoded side by side before they are written in order.
const BATCH: usize = 256;
/// The same of originals, which are held in memory meanwhile.
const ORIGINALS_BATCH: usize = 64;
/// Files whose lengths a thread looks up at a time.
const LOOKED_AT: usize = 1024;

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

/// What an image set keeps of its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// levels of one size: each image resized and cropped
    #[default]
    Raw,
    /// the files as they are, so that random crops are those of the originals; images are decoded when they are used
    Encoded,
}

/// What is done about an image that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// the data set is not prepared; up to 20 such images are named, the others counted
    #[default]
    Error,
    /// the image is left out, and a table tells which were
    Skip,
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
    /// What is kept of the images.
    #[serde(default)]
    pub store: Store,
    /// Longest side in pixels of what is kept of an original: larger ones are shrunk and encoded again.
    #[serde(default)]
    pub max_side: Option<usize>,
    /// Whether images are turned and mirrored as their EXIF or XMP data say; torchvision's `ImageFolder` does not.
    #[serde(default)]
    pub upright: bool,
    /// What is done about images that cannot be read.
    #[serde(default)]
    pub on_bad: OnBad,
}

/// An image that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name, as [`Summary::files`] has those of the others.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
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
    /// Images that cannot be read, where those are skipped.
    pub skipped: Vec<Skipped>,
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
            store: Store::default(),
            max_side: None,
            upright: false,
            on_bad: OnBad::default(),
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
        if let Some(max_side) = self.max_side {
            if self.store == Store::Raw {
                let what = "levels of one size are kept, so there are no larger images".to_owned();
                return Err(DataError::option("max_side", what));
            }
            if max_side < self.resize.unwrap_or(self.side) || max_side > LARGEST {
                let least = self.resize.unwrap_or(self.side);
                let what = format!("{max_side} given; it must be at least {least}, to which images are resized");
                return Err(DataError::option("max_side", what));
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
        let (resize, side) = (self.resize_to(), self.side);
        let view = format!("shorter side resized to {resize} (antialiased bilinear), centre crop {side} x {side}");
        match (self.store, self.max_side) {
            (Store::Raw, _) => format!("{kind}; {view}"),
            (Store::Encoded, None) => format!("{kind}; originals; for evaluation {view}"),
            (Store::Encoded, Some(longest)) => {
                format!("{kind}; originals, larger ones shrunk to {longest}; for evaluation {view}")
            }
        }
    }

    /// Length of the shorter side before the crop.
    fn resize_to(&self) -> usize {
        self.resize.unwrap_or(self.side)
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
    prepare_resumable(config, out_dir, out_dir, &mut |done, total| {
        progress(done, total);
        ControlFlow::Continue(())
    })
}

/// The same, broken off where `progress` says so. Of a set of originals, what was written until then stays in `work`,
/// and the next call with the same `config`, source and `work` goes on from there, to the same bytes; other sets are
/// begun anew.
///
/// # Errors
/// As [`prepare`]; [`DataError::Stopped`] where it is broken off.
pub fn prepare_resumable(
    config: &PrepareConfig,
    out_dir: &Path,
    work: &Path,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Summary, DataError> {
    prepare_with_packs(config, out_dir, work, PACK, progress)
}

/// The same with packs of other sizes.
fn prepare_with_packs(
    config: &PrepareConfig,
    out_dir: &Path,
    work: &Path,
    pack: u64,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Summary, DataError> {
    let chosen = Chosen::of(config)?;
    chosen.reader.verify()?;
    let (set, lost) = match config.store {
        Store::Raw => {
            let writer = ImageSetWriter::create(out_dir, chosen.name, config.channels, config.side, &chosen.classes)?;
            chosen.write_levels(config, writer, progress)?
        }
        Store::Encoded => chosen.write_originals(config, out_dir, (work, pack), progress)?,
    };
    Ok(chosen.summary(&set, lost))
}

/// Reads the source and prepares its images as [`prepare`] does, into memory, where a small set needs no folder.
///
/// # Errors
/// As [`prepare`]; [`DataError::Option`] where originals are to be kept, which are so in files alone.
pub fn prepare_in_memory(
    config: &PrepareConfig,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(ImageSet, Summary), DataError> {
    if config.store == Store::Encoded {
        return Err(DataError::option(
            "store",
            "originals are kept in a folder, not in memory",
        ));
    }
    let chosen = Chosen::of(config)?;
    chosen.reader.verify()?;
    let writer = ImageSetWriter::in_memory(chosen.name, config.channels, config.side, &chosen.classes)?;
    let (set, lost) = chosen.write_levels(config, writer, &mut |done, total| {
        progress(done, total);
        ControlFlow::Continue(())
    })?;
    let summary = chosen.summary(&set, lost);
    Ok((set, summary))
}

/// What an image set will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub validation: usize,
    /// Number of test images.
    pub test: usize,
    /// Number of classes.
    pub classes: usize,
    /// Bytes of images, index, labels and splits; `None` where only reading the images tells. With
    /// [`PrepareConfig::max_side`] those of the originals as they are, so that it will be less, unless shrunk images
    /// are encoded so much better that they grow.
    pub bytes: Option<u64>,
}

/// Opens the source and says what the image set will be, without reading an image. Where bad images are skipped, it is
/// what it will be without any.
///
/// # Errors
/// As [`prepare`], before it reads images.
pub fn outlook(config: &PrepareConfig) -> Result<Outlook, DataError> {
    /// Of an image: its label and its place in the splits, a `u32` each.
    const LABEL_AND_PLACE: u64 = 8;
    let chosen = Chosen::of(config)?;
    let kept = &chosen.choice.kept;
    let images = match config.store {
        Store::Raw => Some((kept.len() * config.channels * config.side * config.side) as u64),
        Store::Encoded => {
            let of = |images: &[usize]| -> Result<Option<Vec<u64>>, DataError> {
                images.iter().map(|&i| chosen.reader.length(i)).collect()
            };
            // The first error in the order of images, whichever thread met one first.
            let lengths: Vec<_> = kept.par_chunks(LOOKED_AT).map(of).collect();
            let lengths: Result<Option<Vec<Vec<u64>>>, DataError> = lengths.into_iter().collect();
            lengths?.map(|lengths| packed_bytes(lengths.into_iter().flatten()))
        }
    };
    let Splits {
        train,
        validation,
        test,
    } = &chosen.choice.splits;
    Ok(Outlook {
        train: train.len(),
        validation: validation.len(),
        test: test.len(),
        classes: chosen.classes.len(),
        bytes: images.map(|images| images + kept.len() as u64 * LABEL_AND_PLACE),
    })
}

/// An opened source, and which of its images become which part of the set.
struct Chosen {
    name: &'static str,
    classes: Vec<String>,
    attribution: &'static str,
    entries: Vec<Entry>,
    reader: Box<dyn Reader>,
    described: &'static str,
    notes: Vec<String>,
    choice: Choice,
    /// Of the normalisation, where they are not to be measured.
    constants: Option<MeanAndStd>,
}

/// An image that is left out: its place among the chosen ones, and what is wrong with it.
type Lost = (usize, String);

/// Appends an image to the set: its place among the chosen ones, its label, itself, and what is lost so far.
type Write<'a, T> = dyn FnMut(usize, u32, T, &[Lost]) -> Result<(), DataError> + 'a;

/// How far a set of originals is.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    /// Chosen images that were read.
    read: usize,
    lost: Vec<Lost>,
    /// Levels of training images, as evaluation shows them, where the constants are to be measured.
    moments: Option<Moments>,
}

/// An original that was read and looked at.
struct Ready<'a> {
    bytes: Cow<'a, [u8]>,
    form: Form,
    place: Option<Place>,
    size: [usize; 2],
    channels: usize,
    /// As evaluation shows it, where that is asked for.
    levels: Option<Vec<u8>>,
}

impl Chosen {
    fn of(config: &PrepareConfig) -> Result<Self, DataError> {
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
                Part::Validation,
                "validation",
            ),
            ("test_fraction", config.test_fraction, Part::Test, "test"),
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
        Ok(Self {
            name,
            classes,
            attribution,
            entries,
            reader,
            described,
            notes,
            choice,
            constants,
        })
    }

    fn write_levels(
        &self,
        config: &PrepareConfig,
        mut writer: ImageSetWriter,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(ImageSet, Vec<Lost>), DataError> {
        let fit = |resizer: &mut Resizer, i: usize| {
            let original = self.reader.original(i)?;
            let pixels = original.decode(&self.reader.path(i), config.upright)?;
            let (pixels, rule) = (pixels.with_channels(config.channels), original.rule());
            Ok(resize::fit(resizer, pixels, config.resize_to(), config.side, rule))
        };
        let mut lost = Vec::new();
        self.each(
            config,
            BATCH,
            0,
            &fit,
            &mut lost,
            progress,
            &mut |_, label, image: Vec<u8>, _| writer.push(&image, label),
        )?;
        let splits = without(&self.choice.splits, &lost);
        let source = config.describe(self.described);
        let set = writer.finish(&splits, self.constants.clone(), self.attribution, &source)?;
        Ok((set, lost))
    }

    fn write_originals(
        &self,
        config: &PrepareConfig,
        out_dir: &Path,
        (work, pack): (&Path, u64),
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(ImageSet, Vec<Lost>), DataError> {
        let shape = [config.channels, config.side];
        let (mut writer, saved) = OriginalsWriter::begin::<Progress>(work, pack, self.name, shape, &self.classes)?;
        let Progress {
            read,
            mut lost,
            mut moments,
        } = saved.unwrap_or_else(|| Progress {
            read: 0,
            lost: Vec::new(),
            moments: self.constants.is_none().then(|| Moments::new(config.channels)),
        });
        let mut trains = vec![false; self.choice.kept.len()];
        for &position in &self.choice.splits.train {
            trains[position as usize] = true;
        }
        let look = |resizer: &mut Resizer, i: usize| self.look(resizer, i, config);
        let mut write = |position: usize, label: u32, ready: Ready<'_>, lost: &[Lost]| {
            if let (Some(moments), Some(levels), true) = (&mut moments, &ready.levels, trains[position]) {
                moments.add(levels);
            }
            let packed = Packed {
                bytes: &ready.bytes,
                form: ready.form,
                place: ready.place.as_ref(),
                size: ready.size,
                channels: ready.channels,
            };
            if writer.push(&packed, label)? {
                writer.save(&Progress {
                    read: position + 1,
                    lost: lost.to_vec(),
                    moments: moments.clone(),
                })?;
            }
            Ok(())
        };
        self.each(config, ORIGINALS_BATCH, read, &look, &mut lost, progress, &mut write)?;
        let constants = match (&self.constants, &moments) {
            (Some(constants), _) => constants.clone(),
            (None, moments) => moments
                .as_ref()
                .map_or_else(|| Ok(MeanAndStd::default()), Moments::mean_and_std)?,
        };
        let splits = without(&self.choice.splits, &lost);
        let source = config.describe(self.described);
        let shown = Shown {
            resize: config.resize_to(),
            upright: config.upright,
        };
        let set = writer.finish(out_dir, &splits, constants, [self.attribution, &source], shown)?;
        Ok((set, lost))
    }

    /// Reads an original, makes sure that it can be decoded, and shrinks it where it is too large.
    fn look(&self, resizer: &mut Resizer, i: usize, config: &PrepareConfig) -> Result<Ready<'_>, DataError> {
        let original = self.reader.original(i)?;
        let rule = original.rule();
        let pixels = original.decode(&self.reader.path(i), config.upright)?;
        let bytes = match original {
            Original::Encoded(bytes) => Some(bytes),
            Original::Pixels(_) => None,
        };
        let longest = pixels.width.max(pixels.height);
        let (bytes, pixels, place) = match config.max_side {
            Some(max_side) if max_side < longest => {
                let pixels = resize::shrink(resizer, pixels, max_side);
                let bytes = bytes.map(|bytes| encode_like(&bytes, &pixels)).transpose()?;
                (bytes.map(Cow::Owned), pixels, None)
            }
            _ => (bytes, pixels, self.reader.place(i)),
        };
        let (size, channels) = ([pixels.width, pixels.height], pixels.channels);
        let levels = match self.constants {
            Some(_) => None,
            None => {
                let pixels = pixels.clone().with_channels(config.channels);
                Some(resize::fit(resizer, pixels, config.resize_to(), config.side, rule))
            }
        };
        let (bytes, form) = match bytes {
            Some(bytes) => (bytes, Form::Encoded),
            None => (Cow::Owned(pixels.data), Form::Levels),
        };
        Ok(Ready {
            bytes,
            form,
            place,
            size,
            channels,
            levels,
        })
    }

    /// Does `read` with the chosen images from one on, side by side, and `write` in their order.
    #[expect(clippy::too_many_arguments, reason = "the two ways to write a set share this loop")]
    fn each<T: Send>(
        &self,
        config: &PrepareConfig,
        batch_size: usize,
        first: usize,
        read: &(dyn Fn(&mut Resizer, usize) -> Result<T, DataError> + Sync),
        lost: &mut Vec<Lost>,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
        write: &mut Write<'_, T>,
    ) -> Result<(), DataError> {
        let total = self.choice.kept.len();
        let mut problems = Vec::new();
        if progress(first, total).is_break() {
            return Err(DataError::Stopped);
        }
        let mut position = first;
        for batch in self.choice.kept[first..].chunks(batch_size) {
            let all: Vec<Result<T, DataError>> = batch
                .par_iter()
                .map_init(Resizer::default, |resizer, &i| read(resizer, i))
                .collect();
            // All bad images are reported, in order, whichever thread met one first; nothing is written once there is
            // one.
            for (&i, image) in batch.iter().zip(all) {
                match image {
                    Ok(image) if problems.is_empty() => write(position, self.entries[i].label, image, lost)?,
                    Ok(_) => {}
                    // What is wrong with the machine is no fault of the image.
                    Err(problem) if config.on_bad == OnBad::Skip && problem.kind() == ErrorKind::Input => {
                        lost.push((position, problem.to_string()));
                    }
                    Err(problem) => problems.push(problem),
                }
                position += 1;
            }
            if progress(position, total).is_break() {
                return Err(DataError::Stopped);
            }
        }
        DataError::all(problems).map_or(Ok(()), Err)
    }

    fn summary(self, set: &ImageSet, lost: Vec<Lost>) -> Summary {
        let mut counts: Vec<ClassCount> = self
            .classes
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
        let file = |position: usize| self.reader.file(self.choice.kept[position]);
        let mut left_out = lost.iter().map(|(position, _)| *position).peekable();
        let kept = (0..self.choice.kept.len()).filter(|position| left_out.next_if_eq(position).is_none());
        Summary {
            name: self.name.to_owned(),
            images: set.len(),
            channels: set.channels(),
            side: set.side(),
            classes: counts,
            mean: set.manifest().mean.clone(),
            std: set.manifest().std.clone(),
            files: kept.map(file).collect(),
            notes: self.notes,
            skipped: lost
                .into_iter()
                .map(|(position, problem)| Skipped {
                    file: file(position),
                    problem,
                })
                .collect(),
        }
    }
}

/// The same parts without what is lost, in the numbers of the images that are left.
fn without(splits: &Splits, lost: &[Lost]) -> Splits {
    let part = |images: &[u32]| {
        images
            .iter()
            .filter_map(
                |&image| match lost.binary_search_by_key(&(image as usize), |(position, _)| *position) {
                    Ok(_) => None,
                    Err(before) => Some(image - before as u32),
                },
            )
            .collect()
    };
    Splits {
        train: part(&splits.train),
        validation: part(&splits.validation),
        test: part(&splits.test),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SourceName;

    /// The digits, at 8 x 8 pixels: 64 bytes an image.
    fn digits(store: Store) -> PrepareConfig {
        PrepareConfig {
            store,
            limit: Some(Limit::PerClass(30)),
            ..PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 16)
        }
    }

    fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs_err::read_dir(folder)
            .expect("a folder")
            .map(|entry| {
                let entry = entry.expect("a file");
                let name = entry.file_name().into_string().expect("text");
                (name, fs_err::read(entry.path()).expect("readable"))
            })
            .collect();
        files.sort();
        files
    }

    /// What lies in a folder but the manifest, which is text.
    fn bytes_of(files: &[(String, Vec<u8>)]) -> u64 {
        let files = files.iter().filter(|(name, _)| name != "manifest.json");
        files.map(|(_, content)| content.len() as u64).sum()
    }

    #[test]
    fn what_a_set_will_be_is_told_to_the_byte() {
        for store in [Store::Raw, Store::Encoded] {
            let config = digits(store);
            let told = outlook(&config).expect("embedded");
            let out = tempfile::tempdir().expect("folder");
            let summary = prepare(&config, out.path(), &mut |_, _| {}).expect("embedded");
            let count = |part: fn(&ClassCount) -> usize| summary.classes.iter().map(part).sum::<usize>();
            assert_eq!(told.train, count(|class| class.train));
            assert_eq!(told.validation, count(|class| class.validation));
            assert_eq!(told.test, count(|class| class.test));
            assert_eq!(told.classes, 10);
            assert_eq!(told.bytes, Some(bytes_of(&bytes(out.path()))), "{store:?}");
        }
    }

    /// Packs of 50 images, so that 300 images make six.
    const PACK: u64 = 50 * 64;

    #[test]
    fn a_set_of_originals_that_was_stopped_goes_on_to_the_same_bytes() {
        let config = digits(Store::Encoded);
        let whole = tempfile::tempdir().expect("folder");
        let go_on = &mut |_, _| ControlFlow::Continue(());
        prepare_with_packs(&config, whole.path(), whole.path(), PACK, go_on).expect("embedded");
        let expected = bytes(whole.path());
        let packs = expected
            .iter()
            .filter(|(name, _)| name.starts_with("originals-"))
            .count();
        assert_eq!(packs, 6);

        for stop_at in [0, 64, 128, 256] {
            let (work, out) = (
                tempfile::tempdir().expect("folder"),
                tempfile::tempdir().expect("folder"),
            );
            let stop = &mut |done, _| {
                if done >= stop_at {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let stopped = prepare_with_packs(&config, out.path(), work.path(), PACK, stop);
            assert!(matches!(stopped, Err(DataError::Stopped)), "{stopped:?}");
            assert!(
                bytes(out.path()).is_empty(),
                "nothing is published before it is complete"
            );
            let mut first = None;
            let count = &mut |done, _| {
                first.get_or_insert(done);
                ControlFlow::Continue(())
            };
            prepare_with_packs(&config, out.path(), work.path(), PACK, count).expect("embedded");
            // What was read after the last complete pack is read again.
            assert_eq!(first, Some(stop_at / 50 * 50));
            assert!(bytes(out.path()) == expected, "stopped at {stop_at}");
            assert!(bytes(work.path()).is_empty(), "nothing is left behind");
        }
    }

    #[test]
    fn what_changed_while_preparing_was_stopped_is_not_taken_up() {
        let config = digits(Store::Encoded);
        let (work, out) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        let stop = &mut |done, _| {
            if done >= 128 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        prepare_with_packs(&config, out.path(), work.path(), PACK, stop).expect_err("stopped");
        let pack = work.path().join("originals-00001");
        let mut damaged = fs_err::read(&pack).expect("a pack");
        damaged[7] ^= 1;
        fs_err::write(&pack, damaged).expect("written");
        let mut first = None;
        let count = &mut |done, _| {
            first.get_or_insert(done);
            ControlFlow::Continue(())
        };
        prepare_with_packs(&config, out.path(), work.path(), PACK, count).expect("embedded");
        assert_eq!(first, Some(0));
        let whole = tempfile::tempdir().expect("folder");
        let go_on = &mut |_, _| ControlFlow::Continue(());
        prepare_with_packs(&config, whole.path(), whole.path(), PACK, go_on).expect("embedded");
        assert!(bytes(out.path()) == bytes(whole.path()));
    }

    #[test]
    fn originals_are_shown_as_levels_are_prepared() {
        let (raw, _) = prepare_in_memory(&digits(Store::Raw), &mut |_, _| {}).expect("embedded");
        let out = tempfile::tempdir().expect("folder");
        let summary = prepare(&digits(Store::Encoded), out.path(), &mut |_, _| {}).expect("embedded");
        let set = ImageSet::open(out.path()).expect("just written");
        assert_eq!((summary.images, set.len()), (raw.len(), raw.len()));
        // The same constants, too: they are measured on what evaluation shows.
        assert_eq!((set.mean(), set.std()), (raw.mean(), raw.std()));
        for i in 0..raw.len() {
            assert_eq!(set.image(i).expect("shown"), raw.image(i).expect("levels"));
            assert_eq!(set.label(i), raw.label(i));
            assert_eq!(set.original_size(i), [8, 8]);
        }
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert_eq!(set.split(split), raw.split(split));
        }
        // All of an image as a window is what evaluation shows, where nothing is cropped, but for rounding.
        let (window, shown) = (
            set.window(3, [0, 0, 8, 8]).expect("shown"),
            set.image(3).expect("shown"),
        );
        let differences = window.iter().zip(&*shown).map(|(a, b)| a.abs_diff(*b));
        assert!(differences.max().expect("pixels") <= 2);
    }

    /// Pictures are shown alike whichever way they are stored, turned or not.
    #[test]
    fn pictures_are_turned_where_that_is_asked_for() {
        const FIXTURES: &[u8] = include_bytes!("../../tests/fixtures/images.safetensors");
        let fixtures = safetensors::SafeTensors::deserialize(FIXTURES).expect("the fixture is whole");
        let source = tempfile::tempdir().expect("folder");
        let class = source.path().join("class");
        fs_err::create_dir(&class).expect("created");
        for (number, extension) in [(1, "jpeg"), (6, "jpeg"), (3, "png"), (8, "png")] {
            let bytes = fixtures.tensor(&format!("oriented/{extension}_{number}"));
            let path = class.join(format!("{number}.{extension}"));
            fs_err::write(path, bytes.expect("in the fixture").data()).expect("written");
        }
        // In order of name: 1, 3, 6, 8. Each is the same picture of 21 x 14 pixels, stored otherwise.
        for (upright, sizes) in [(false, [[21, 14]; 4]), (true, [[21, 14], [21, 14], [14, 21], [14, 21]])] {
            let config = |store| PrepareConfig {
                store,
                upright,
                test_fraction: Some(0.0),
                validation_fraction: Some(0.0),
                resize: Some(10),
                ..PrepareConfig::new(ImageSource::new(SourceName::ImageFolder, source.path()), 3, 8)
            };
            let (raw, _) = prepare_in_memory(&config(Store::Raw), &mut |_, _| {}).expect("sound pictures");
            let out = tempfile::tempdir().expect("folder");
            prepare(&config(Store::Encoded), out.path(), &mut |_, _| {}).expect("sound pictures");
            let encoded = ImageSet::open(out.path()).expect("just written");
            assert_eq!((encoded.mean(), encoded.std()), (raw.mean(), raw.std()));
            for (i, size) in sizes.into_iter().enumerate() {
                assert_eq!(encoded.original_size(i), size, "{i}");
                assert_eq!(encoded.image(i).expect("shown"), raw.image(i).expect("levels"), "{i}");
            }
        }
    }
}
