//! Preparing an image set: read, resize, crop, divide, and write, with the same bytes for any number of threads.

mod config;
#[cfg(test)]
mod tests;

pub use config::{DEFAULT_TEST, DEFAULT_VALIDATION, Limit, Normalisation, OnBad, PrepareConfig, Store};

use super::decode::encode_like;
use super::image_set::{Form, MeanAndStd, Moments, OriginalsWriter, PACK, Packed, Shown, packed_bytes};
use super::resize::{self, Resizer};
use super::source::{Entry, Opened, Original, Part, Place, Reader};
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
