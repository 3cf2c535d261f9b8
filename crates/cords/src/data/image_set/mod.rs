//! The prepared image set: on disk, written once by streaming and then opened as a memory map, or in memory.
//!
//! On disk it is a directory of `manifest.json`, `labels.u32`, `splits.u32` (training, validation and test indices one
//! after the other), integers little-endian, and the images: `images.u8` ([N, C, H, W]), levels of one size, or
//! originals of any size (`originals`). The bytes depend on the content alone: no times, no paths. The manifest is
//! written last, so a directory with a manifest is complete.

mod originals;
mod writer;

pub(crate) use originals::{Form, PACK, Packed, Window, packed_bytes};
pub use originals::{Originals, Shown};
pub use writer::ImageSetWriter;
pub(crate) use writer::{MeanAndStd, Moments, OriginalsWriter};

use super::images::normalise;
use super::{DataError, Split};
use crate::data::decode;
use crate::data::resize::{self, Resizer};
use memmap2::Mmap;
use originals::Packs;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::Path;

const FORMAT: &str = "cords image set";
const VERSION: u32 = 1;
/// Of sets of originals.
const ORIGINALS_VERSION: u32 = 2;
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
    /// Where images are kept as their source has them: how they are shown. None of a set of levels of one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originals: Option<Originals>,
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
            originals: None,
        })
    }

    fn check_label(&self, label: u32) -> Result<(), DataError> {
        let classes = self.classes.len();
        if (label as usize) < classes {
            return Ok(());
        }
        let what = format!("{label} given, but there are {classes} classes");
        Err(DataError::option("label", what))
    }

    /// What is known once all images are written.
    fn complete(
        &mut self,
        images: usize,
        splits: &Splits,
        (mean, std): MeanAndStd,
        attribution: &str,
        source: &str,
    ) -> Result<(), DataError> {
        if images == 0 || images > u32::MAX as usize {
            return Err(DataError::option(
                "image set",
                format!("{images} images; there must be 1 to 2^32 - 1"),
            ));
        }
        let given = |values: &[f64]| values.len() == self.channels && values.iter().all(|v| v.is_finite());
        if !given(&mean) || !given(&std) || std.iter().any(|s| *s <= 0.0) {
            return Err(DataError::option(
                "normalisation",
                format!(
                    "mean {mean:?} and std {std:?} must have one finite value for each of {} channels, std above 0",
                    self.channels
                ),
            ));
        }
        self.images = images;
        (self.mean, self.std) = (mean, std);
        self.splits = splits.parts().map(<[u32]>::len);
        self.attribution = attribution.to_owned();
        self.source = source.to_owned();
        Ok(())
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

/// Levels as floats in [0, 1].
pub(super) fn as_unit(levels: &[u8], out: &mut [f32]) {
    for (out, level) in out.iter_mut().zip(levels) {
        *out = f32::from(*level) / 255.0;
    }
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

/// The images of a set.
#[derive(Debug)]
enum Pixels {
    /// Levels, `[images, channels, side, side]`.
    Mapped(Mmap),
    /// Levels, `[images, channels, side, side]`.
    Owned(Vec<u8>),
    /// Images of any size.
    Originals(Packs),
}

impl Pixels {
    /// Levels of all images; none of originals.
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(levels) => levels,
            Self::Originals(_) => &[],
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
        let version = match manifest.originals {
            Some(_) => ORIGINALS_VERSION,
            None => VERSION,
        };
        if manifest.format != FORMAT || manifest.version != version {
            let what = format!(
                "format `{}` version {}, but this program reads `{FORMAT}` version {version}",
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
        let images = match &manifest.originals {
            Some(originals) => Pixels::Originals(Packs::open(dir, originals, &manifest)?),
            None => {
                let images_path = dir.join(IMAGES);
                let images = map(&images_path)?;
                if images.len() != image_bytes {
                    let what = format!("{} bytes, but the manifest calls for {image_bytes}", images.len());
                    return Err(fail(&images_path, what));
                }
                Pixels::Mapped(images)
            }
        };
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
        Ok(Self::new(manifest, images, labels, splits))
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

    /// Image `i`, [C, H, W], levels 0 to 255; an original as evaluation shows it, decoded for this call.
    ///
    /// # Errors
    /// [`DataError::NotAnImageSet`] where an original cannot be decoded.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn image(&self, i: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let len = self.image_len();
        match &self.images {
            Pixels::Originals(packs) => Ok(Cow::Owned(packs.evaluated(i, self.channels(), self.side())?)),
            levels => Ok(Cow::Borrowed(&levels.as_slice()[i * len..][..len])),
        }
    }

    /// Width and height of image `i` in pixels, before it is resized or cropped where originals are kept.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn original_size(&self, i: usize) -> [usize; 2] {
        match &self.images {
            Pixels::Originals(packs) => packs.size(i),
            _ => [self.side(); 2],
        }
    }

    /// A window of image `i`, given in pixels of its [original size](Self::original_size), resized to the set's side:
    /// [C, H, W].
    pub(crate) fn window(&self, i: usize, window: Window) -> Result<Vec<u8>, DataError> {
        match &self.images {
            Pixels::Originals(packs) => packs.window(i, window, self.channels(), self.side()),
            levels => {
                let len = self.image_len();
                let (side, mut resizer) = (self.side(), Resizer::default());
                let planes = levels.as_slice()[i * len..][..len].chunks_exact(side * side);
                let of_plane = |plane: &[u8]| {
                    let plane = decode::Pixels {
                        width: side,
                        height: side,
                        channels: 1,
                        data: plane.to_vec(),
                    };
                    resize::square(&mut resizer, plane.cropped(window), side).data
                };
                Ok(planes.flat_map(of_plane).collect())
            }
        }
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
    /// As [`image`](Self::image).
    ///
    /// # Panics
    /// If `i` is out of range or `out` does not have [`image_len`](Self::image_len) values.
    pub fn fill_unit(&self, i: usize, out: &mut [f32]) -> Result<(), DataError> {
        assert_eq!(out.len(), self.image_len(), "one value per pixel and channel");
        as_unit(&self.image(i)?, out);
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
