//! The prepared image set: on disk, written once by streaming and then opened as a memory map, or in memory.
//!
//! On disk it is a directory of `manifest.json`, `images.u8` ([N, C, H, W]), `labels.u32` and `splits.u32` (training,
//! validation and test indices one after the other), integers little-endian. The bytes depend on the content alone: no
//! times, no paths. The manifest is written last, so a directory with a manifest is complete.

use super::images::normalise;
use super::{DataError, Split};
use fs_err::File;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const FORMAT: &str = "cords image set";
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
const IMAGES: &str = "images.u8";
const LABELS: &str = "labels.u32";
const SPLITS: &str = "splits.u32";

/// What `manifest.json` says about an image set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Short name of the data set.
    pub name: String,
    /// Number of images, in splits or not.
    pub images: usize,
    /// Channels of every image (1 or 3).
    pub channels: usize,
    /// Height and width of every image in pixels.
    pub side: usize,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Mean of every channel for normalisation, in units of [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of every channel for normalisation, in units of [0, 1].
    pub std: Vec<f64>,
    /// Number of training, validation and test images.
    pub splits: [usize; 3],
    /// Who made the images and under what licence they may be used, as far as it is known.
    pub attribution: String,
    /// How the images were read and resized.
    pub source: String,
}

impl Manifest {
    /// Of a set without images.
    fn new(name: &str, channels: usize, side: usize, classes: &[String]) -> Result<Self, DataError> {
        if channels == 0 || side == 0 || classes.is_empty() {
            return Err(DataError::option(
                "image set",
                "channels, side and the number of classes must be at least 1",
            ));
        }
        Ok(Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            name: name.to_owned(),
            images: 0,
            channels,
            side,
            classes: classes.to_vec(),
            mean: Vec::new(),
            std: Vec::new(),
            splits: [0; 3],
            attribution: String::new(),
            source: String::new(),
        })
    }
}

/// Indices of the three parts; ascending, disjoint, and together at most all images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// Training images, by index from 0.
    pub train: Vec<u32>,
    /// Validation images, by index from 0.
    pub validation: Vec<u32>,
    /// Test images, by index from 0.
    pub test: Vec<u32>,
}

impl Splits {
    fn parts(&self) -> [&[u32]; 3] {
        [&self.train, &self.validation, &self.test]
    }
}

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
        if label as usize >= self.manifest.classes.len() {
            return Err(DataError::option(
                "label",
                format!("{label} given, but there are {} classes", self.manifest.classes.len()),
            ));
        }
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
        if images == 0 || images > u32::MAX as usize {
            return Err(DataError::option(
                "image set",
                format!("{images} images; there must be 1 to 2^32 - 1"),
            ));
        }
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
        let (mean, std) = match normalisation {
            Some(given) => given,
            None => {
                let Manifest { channels, side, .. } = self.manifest;
                training_moments(pixels.as_slice(), &splits.train, channels, side)?
            }
        };
        let given = |values: &[f64]| values.len() == self.manifest.channels && values.iter().all(|v| v.is_finite());
        if !given(&mean) || !given(&std) || std.iter().any(|s| *s <= 0.0) {
            return Err(DataError::option(
                "normalisation",
                format!(
                    "mean {mean:?} and std {std:?} must have one finite value for each of {} channels, std above 0",
                    self.manifest.channels
                ),
            ));
        }

        self.manifest.images = images;
        self.manifest.mean = mean;
        self.manifest.std = std;
        self.manifest.splits = splits.parts().map(<[u32]>::len);
        self.manifest.attribution = attribution.to_owned();
        self.manifest.source = source.to_owned();
        let Some(dir) = folder else {
            return Ok(ImageSet::new(self.manifest, pixels, self.labels, splits.clone()));
        };
        write_u32(&dir.join(LABELS), self.labels.iter())?;
        write_u32(&dir.join(SPLITS), splits.parts().into_iter().flatten())?;
        let mut text = serde_json::to_vec_pretty(&self.manifest).map_err(std::io::Error::other)?;
        text.push(b'\n');
        fs_err::write(dir.join(MANIFEST), text)?;
        ImageSet::open(&dir)
    }
}

/// Mean and population standard deviation per channel in units of [0, 1]. The sums are integers, so they are exact
/// and do not depend on the order: 255^2 times 2^48 pixels still fits in 64 bits.
fn training_moments(
    images: &[u8],
    train: &[u32],
    channels: usize,
    side: usize,
) -> Result<(Vec<f64>, Vec<f64>), DataError> {
    let plane = side * side;
    let mut sums = vec![(0u64, 0u64); channels];
    for &i in train {
        let image = &images[i as usize * channels * plane..][..channels * plane];
        for (pixels, (sum, squares)) in image.chunks_exact(plane).zip(&mut sums) {
            for &pixel in pixels {
                *sum += u64::from(pixel);
                *squares += u64::from(pixel) * u64::from(pixel);
            }
        }
    }
    let n = train.len() as u128 * plane as u128;
    let mut mean = Vec::with_capacity(channels);
    let mut std = Vec::with_capacity(channels);
    for (channel, &(sum, squares)) in sums.iter().enumerate() {
        let spread = n * u128::from(squares) - u128::from(sum) * u128::from(sum);
        if spread == 0 {
            return Err(DataError::ConstantChannel { channel });
        }
        mean.push(sum as f64 / n as f64 / 255.0);
        std.push((spread as f64).sqrt() / n as f64 / 255.0);
    }
    Ok((mean, std))
}

fn check_splits(parts: [&[u32]; 3], images: usize) -> Result<(), String> {
    if parts[0].is_empty() {
        return Err("no training images".to_owned());
    }
    let mut seen = vec![false; images];
    for &index in parts.into_iter().flatten() {
        match seen.get_mut(index as usize) {
            None => return Err(format!("index {index}, but there are {images} images")),
            Some(true) => return Err(format!("image {index} is in two places")),
            Some(place) => *place = true,
        }
    }
    Ok(())
}

fn write_u32<'a>(path: &Path, values: impl Iterator<Item = &'a u32>) -> Result<(), DataError> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

fn read_u32(path: &Path, expected: usize) -> Result<Vec<u32>, DataError> {
    let bytes = dynvis_base::files::read(path)?;
    if bytes.len() != 4 * expected {
        return Err(DataError::NotAnImageSet {
            file: path.to_owned(),
            what: format!("{} bytes, but the manifest calls for {}", bytes.len(), 4 * expected),
        });
    }
    Ok(bytes
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

#[expect(unsafe_code, reason = "memory-mapping a file is unsafe in Rust")]
fn map(path: &Path) -> Result<Mmap, DataError> {
    let file = dynvis_base::files::open(path)?;
    // SAFETY: the map is read-only and private to this process's view; image sets are never modified once their
    // manifest is written (writers create new directories), so the bytes behind the map do not change under it.
    Ok(unsafe { Mmap::map(file.file()) }?)
}

/// Levels of all images, `[images, channels, side, side]`.
#[derive(Debug)]
enum Pixels {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Pixels {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(levels) => levels,
        }
    }
}

/// A prepared image set: memory-mapped, so that opening reads the manifest, labels and splits, never all images; or in
/// memory ([`ImageSetWriter::in_memory`]).
#[derive(Debug)]
pub struct ImageSet {
    manifest: Manifest,
    images: Pixels,
    labels: Vec<u32>,
    splits: Splits,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl ImageSet {
    /// Opens the image set in `dir` and checks its files against the manifest.
    ///
    /// # Errors
    /// [`DataError::NotAnImageSet`] where a file is damaged or of another version, [`DataError::Io`] where one cannot
    /// be read.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(MANIFEST);
        let fail = |file: &Path, what: String| DataError::NotAnImageSet {
            file: file.to_owned(),
            what,
        };
        let manifest: Manifest = serde_json::from_slice(&dynvis_base::files::read(&path)?)
            .map_err(|error| fail(&path, error.to_string()))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let what = format!(
                "format `{}` version {}, but this program reads `{FORMAT}` version {VERSION}",
                manifest.format, manifest.version
            );
            return Err(fail(&path, what));
        }
        let constants = |values: &[f64]| values.len() == manifest.channels && values.iter().all(|v| v.is_finite());
        if !constants(&manifest.mean) || !constants(&manifest.std) || manifest.std.iter().any(|s| *s <= 0.0) {
            return Err(fail(&path, "mean or std does not fit the channels".to_owned()));
        }
        let image_bytes = [manifest.images, manifest.channels, manifest.side, manifest.side]
            .iter()
            .try_fold(1usize, |product, n| product.checked_mul(*n))
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| fail(&path, "impossible size".to_owned()))?;
        let images_path = dir.join(IMAGES);
        let images = map(&images_path)?;
        if images.len() != image_bytes {
            let what = format!("{} bytes, but the manifest calls for {image_bytes}", images.len());
            return Err(fail(&images_path, what));
        }
        let labels_path = dir.join(LABELS);
        let labels = read_u32(&labels_path, manifest.images)?;
        if let Some(label) = labels.iter().find(|label| **label as usize >= manifest.classes.len()) {
            let what = format!("label {label}, but there are {} classes", manifest.classes.len());
            return Err(fail(&labels_path, what));
        }
        let splits_path = dir.join(SPLITS);
        let [train, validation, test] = manifest.splits;
        let total = train.checked_add(validation).and_then(|sum| sum.checked_add(test));
        let total = total.ok_or_else(|| fail(&path, "impossible split sizes".to_owned()))?;
        let indices = read_u32(&splits_path, total)?;
        let splits = Splits {
            train: indices[..train].to_vec(),
            validation: indices[train..train + validation].to_vec(),
            test: indices[train + validation..].to_vec(),
        };
        check_splits(splits.parts(), manifest.images).map_err(|what| fail(&splits_path, what))?;
        Ok(Self::new(manifest, Pixels::Mapped(images), labels, splits))
    }

    /// Of parts that fit together.
    fn new(manifest: Manifest, images: Pixels, labels: Vec<u32>, splits: Splits) -> Self {
        let single = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
        Self {
            mean: single(&manifest.mean),
            std: single(&manifest.std),
            manifest,
            images,
            labels,
            splits,
        }
    }

    /// Number of images, in splits or not.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images; never true of an image set that could be opened.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels of every image.
    pub fn channels(&self) -> usize {
        self.manifest.channels
    }

    /// Height and width of every image in pixels.
    pub fn side(&self) -> usize {
        self.manifest.side
    }

    /// Values of one image: channels x side x side.
    pub fn image_len(&self) -> usize {
        self.manifest.channels * self.manifest.side * self.manifest.side
    }

    /// Class names in label order.
    pub fn classes(&self) -> &[String] {
        &self.manifest.classes
    }

    /// Indices of the images of a part, ascending.
    pub fn split(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.splits.train,
            Split::Validation => &self.splits.validation,
            Split::Test => &self.splits.test,
        }
    }

    /// Image `i`, [C, H, W], levels 0 to 255.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn image(&self, i: usize) -> &[u8] {
        let len = self.image_len();
        &self.images.as_slice()[i * len..][..len]
    }

    /// Label of image `i`.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }

    /// Mean of every channel for normalisation, in units of [0, 1].
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Standard deviation of every channel for normalisation, in units of [0, 1].
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// Short name of the data set.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// All that the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes image `i` as floats in [0, 1] (level / 255).
    ///
    /// # Errors
    /// [`DataError`] where the image is damaged or cannot be read.
    ///
    /// # Panics
    /// If `i` is out of range or `out` does not have [`image_len`](Self::image_len) values.
    pub fn fill_unit(&self, i: usize, out: &mut [f32]) -> Result<(), DataError> {
        assert_eq!(out.len(), self.image_len(), "one value per pixel and channel");
        for (out, level) in out.iter_mut().zip(self.image(i)) {
            *out = f32::from(*level) / 255.0;
        }
        Ok(())
    }

    /// Normalises an image in [0, 1] in place: (x - mean) / std per channel.
    ///
    /// # Panics
    /// If `image` does not have [`image_len`](Self::image_len) values.
    pub fn normalise(&self, image: &mut [f32]) {
        self.normalise_by((&self.mean, &self.std), image);
    }

    /// The same by other constants per channel, a model's for example.
    ///
    /// # Panics
    /// As [`normalise`](Self::normalise).
    pub fn normalise_by(&self, constants: (&[f32], &[f32]), image: &mut [f32]) {
        assert_eq!(image.len(), self.image_len(), "one value per pixel and channel");
        normalise(image, self.side() * self.side(), constants);
    }
}
