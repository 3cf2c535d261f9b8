//! Writing image sets: levels of one size into a folder or into memory, or originals into packs.

use super::originals::{Originals, Packed, Packer, Shown};
use super::{
    IMAGES, ImageSet, LABELS, MANIFEST, Manifest, ORIGINALS_VERSION, Pixels, SPLITS, Splits, check_splits, map,
};
use crate::data::DataError;
use fs_err::File;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where images go while a set is written.
#[derive(Debug)]
enum Sink {
    Folder { dir: PathBuf, images: BufWriter<File> },
    Memory(Vec<u8>),
}

/// Writes an image set image by image: into a folder, where no more than one image is held in memory, or into memory.
#[derive(Debug)]
pub struct ImageSetWriter {
    manifest: Manifest,
    sink: Sink,
    labels: Vec<u32>,
}

impl ImageSetWriter {
    /// Starts an image set in `dir` (created if need be): images are square, `side` pixels, with `channels` channels.
    ///
    /// # Errors
    /// [`DataError::Option`] where channels, side or classes are none, [`DataError::Io`] where a file cannot be
    /// created.
    pub fn create(dir: &Path, name: &str, channels: usize, side: usize, classes: &[String]) -> Result<Self, DataError> {
        let manifest = Manifest::new(name, channels, side, classes)?;
        fs_err::create_dir_all(dir)?;
        Ok(Self {
            manifest,
            sink: Sink::Folder {
                dir: dir.to_owned(),
                images: BufWriter::with_capacity(1 << 20, File::create(dir.join(IMAGES))?),
            },
            labels: Vec::new(),
        })
    }

    /// Starts an image set that is in memory alone, of the same images.
    ///
    /// # Errors
    /// [`DataError::Option`] where channels, side or classes are none.
    ///
    /// ```
    /// # fn main() -> Result<(), cords::data::DataError> {
    /// use cords::data::{ImageSetWriter, Splits};
    ///
    /// let classes = ["dark", "bright"].map(str::to_owned);
    /// let mut writer = ImageSetWriter::in_memory("contrasts", 1, 8, &classes)?;
    /// for image in 0..10u8 {
    ///     let brightness = 20 * image;
    ///     writer.push(&[brightness; 64], u32::from(brightness > 90))?;
    /// }
    /// let splits = Splits {
    ///     train: (0..6).collect(),
    ///     validation: vec![6, 7],
    ///     test: vec![8, 9],
    /// };
    /// let set = writer.finish(&splits, None, "made here", "brightness in steps of 20")?;
    /// assert_eq!((set.len(), set.side(), set.label(9)), (10, 8, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_memory(name: &str, channels: usize, side: usize, classes: &[String]) -> Result<Self, DataError> {
        Ok(Self {
            manifest: Manifest::new(name, channels, side, classes)?,
            sink: Sink::Memory(Vec::new()),
            labels: Vec::new(),
        })
    }

    /// Appends an image of `channels * side * side` bytes (channel by channel) and its label.
    ///
    /// # Errors
    /// [`DataError::Option`] where the image has another number of bytes or the label is not that of a class,
    /// [`DataError::Io`] where writing fails.
    pub fn push(&mut self, image: &[u8], label: u32) -> Result<(), DataError> {
        let expected = self.manifest.channels * self.manifest.side * self.manifest.side;
        if image.len() != expected {
            return Err(DataError::option(
                "image",
                format!("{} bytes given, {expected} expected", image.len()),
            ));
        }
        self.manifest.check_label(label)?;
        match &mut self.sink {
            Sink::Folder { images, .. } => images.write_all(image)?,
            Sink::Memory(images) => images.extend_from_slice(image),
        }
        self.labels.push(label);
        Ok(())
    }

    /// Completes the image set. `normalisation` gives (mean, std) per channel in units of [0, 1]; `None` computes them
    /// over the training images: exactly (integer sums), with the population standard deviation.
    ///
    /// # Errors
    /// [`DataError::Option`] where there are no images or more than 2^32 - 1, or `splits` or `normalisation` do not fit
    /// them; [`DataError::ConstantChannel`] where a channel does not vary; [`DataError::Io`] where writing fails.
    pub fn finish(
        mut self,
        splits: &Splits,
        normalisation: Option<(Vec<f64>, Vec<f64>)>,
        attribution: &str,
        source: &str,
    ) -> Result<ImageSet, DataError> {
        let images = self.labels.len();
        check_splits(splits.parts(), images).map_err(|what| DataError::option("splits", what))?;
        let (folder, pixels) = match self.sink {
            Sink::Folder { dir, mut images } => {
                images.flush()?;
                drop(images);
                let map = map(&dir.join(IMAGES))?;
                (Some(dir), Pixels::Mapped(map))
            }
            Sink::Memory(images) => (None, Pixels::Owned(images)),
        };
        let constants = match normalisation {
            Some(given) => given,
            None => {
                let Manifest { channels, side, .. } = self.manifest;
                let mut moments = Moments::new(channels);
                for &image in &splits.train {
                    let len = channels * side * side;
                    moments.add(&pixels.as_slice()[image as usize * len..][..len]);
                }
                moments.mean_and_std()?
            }
        };
        self.manifest.complete(images, splits, constants, attribution, source)?;
        match folder {
            None => Ok(ImageSet::new(self.manifest, pixels, self.labels, splits.clone())),
            Some(dir) => write_rest(&dir, &self.manifest, &self.labels, splits),
        }
    }
}

/// Writes a set of originals, in a folder of its own until it is complete: after a stop, writing goes on from there.
#[derive(Debug)]
pub(crate) struct OriginalsWriter {
    manifest: Manifest,
    packer: Packer,
    labels: Vec<u32>,
}

impl OriginalsWriter {
    /// Begins in `work`, or goes on there with what was [saved](Self::save) last; that is given, too. A pack is
    /// complete once it has `pack` bytes.
    pub(crate) fn begin<P: DeserializeOwned>(
        work: &Path,
        pack: u64,
        name: &str,
        [channels, side]: [usize; 2],
        classes: &[String],
    ) -> Result<(Self, Option<P>), DataError> {
        let manifest = Manifest::new(name, channels, side, classes)?;
        let (packer, labels, progress) = match Packer::resume::<(Vec<u32>, P)>(work, pack) {
            Some((packer, (labels, progress))) if labels.len() == packer.images() => (packer, labels, Some(progress)),
            _ => (Packer::begin(work, pack)?, Vec::new(), None),
        };
        let writer = Self {
            manifest,
            packer,
            labels,
        };
        Ok((writer, progress))
    }

    /// Appends an image. True where what was written so far can be taken up after a stop, once it is
    /// [saved](Self::save).
    pub(crate) fn push(&mut self, original: &Packed<'_>, label: u32) -> Result<bool, DataError> {
        self.manifest.check_label(label)?;
        let can_be_saved = self.packer.push(original)?;
        self.labels.push(label);
        Ok(can_be_saved)
    }

    /// Makes durable what was written so far, and how far the caller is.
    pub(crate) fn save<P: Serialize>(&self, progress: &P) -> Result<(), DataError> {
        self.packer.save(&(&self.labels, progress))
    }

    /// Completes the set and moves it to `dir`. `constants` are mean and standard deviation per channel.
    pub(crate) fn finish(
        mut self,
        dir: &Path,
        splits: &Splits,
        constants: MeanAndStd,
        [attribution, source]: [&str; 2],
        shown: Shown,
    ) -> Result<ImageSet, DataError> {
        check_splits(splits.parts(), self.labels.len()).map_err(|what| DataError::option("splits", what))?;
        let packs = self.packer.finish(dir)?;
        self.manifest.version = ORIGINALS_VERSION;
        self.manifest.originals = Some(Originals { packs, shown });
        self.manifest
            .complete(self.labels.len(), splits, constants, attribution, source)?;
        write_rest(dir, &self.manifest, &self.labels, splits)
    }
}

/// Labels, splits and, last of all, the manifest.
fn write_rest(dir: &Path, manifest: &Manifest, labels: &[u32], splits: &Splits) -> Result<ImageSet, DataError> {
    write_u32(&dir.join(LABELS), labels.iter())?;
    write_u32(&dir.join(SPLITS), splits.parts().into_iter().flatten())?;
    let mut text = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::other)?;
    text.push(b'\n');
    fs_err::write(dir.join(MANIFEST), text)?;
    ImageSet::open(dir)
}

fn write_u32<'a>(path: &Path, values: impl Iterator<Item = &'a u32>) -> Result<(), DataError> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// Mean and standard deviation per channel in units of [0, 1].
pub(crate) type MeanAndStd = (Vec<f64>, Vec<f64>);

/// Sums of the levels of each channel and of their squares. They are integers, so they are exact and do not depend on
/// the order: 255^2 times 2^48 pixels still fits in 64 bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moments {
    sums: Vec<(u64, u64)>,
    /// Pixels of a channel.
    pixels: u64,
}

impl Moments {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            sums: vec![(0, 0); channels],
            pixels: 0,
        }
    }

    /// Adds an image, channel by channel.
    pub(crate) fn add(&mut self, image: &[u8]) {
        let plane = image.len() / self.sums.len();
        for (pixels, (sum, squares)) in image.chunks_exact(plane).zip(&mut self.sums) {
            for &pixel in pixels {
                *sum += u64::from(pixel);
                *squares += u64::from(pixel) * u64::from(pixel);
            }
        }
        self.pixels += plane as u64;
    }

    /// Mean and population standard deviation.
    pub(crate) fn mean_and_std(&self) -> Result<MeanAndStd, DataError> {
        let n = u128::from(self.pixels);
        let mut mean = Vec::with_capacity(self.sums.len());
        let mut std = Vec::with_capacity(self.sums.len());
        for (channel, &(sum, squares)) in self.sums.iter().enumerate() {
            let spread = n * u128::from(squares) - u128::from(sum) * u128::from(sum);
            if spread == 0 {
                return Err(DataError::ConstantChannel { channel });
            }
            mean.push(sum as f64 / n as f64 / 255.0);
            std.push((spread as f64).sqrt() / n as f64 / 255.0);
        }
        Ok((mean, std))
    }
}
