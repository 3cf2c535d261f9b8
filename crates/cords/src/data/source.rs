//! The sources of images: what each needs on disk, and how it is opened. Formats are read in a file each.

use super::archive::GZIP;
use super::decode::{Pixels, decode};
use super::resize::Rule;
use super::{
    DataError, arrays, cifar, digits, idx, image_folder, imagenet, imagenette, parquet, stimuli, svhn, tiny_imagenet,
    webdataset,
};
use dynvis_base::memory;
use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// 1,797 handwritten digits of 8 x 8 pixels, part of dynvis
    Digits,
    /// MNIST as IDX files, .gz or not
    Mnist,
    /// Fashion-MNIST as IDX files, .gz or not
    FashionMnist,
    /// EMNIST's 47 classes of equal size, IDX files
    EmnistBalanced,
    /// EMNIST's 62 classes: digits, capital and small letters
    EmnistByclass,
    /// EMNIST's 47 classes in which letters that look alike are one
    EmnistBymerge,
    /// EMNIST's 10 digits
    EmnistDigits,
    /// EMNIST's 26 letters
    EmnistLetters,
    /// EMNIST's digits in MNIST's numbers
    EmnistMnist,
    /// CIFAR-10, binary or Python version, or train/ and test/ with class folders
    Cifar10,
    /// CIFAR-100 with fine labels, binary or Python version, or train/ and test/ with class folders
    Cifar100,
    /// SVHN's cropped digits, train_32x32.mat and test_32x32.mat
    Svhn,
    /// Tiny ImageNet, tiny-imagenet-200.zip or what it unpacks to; val is the test part
    TinyImagenet,
    /// Imagenette (2, 320 or 160 pixels), .tgz or what it unpacks to; val is the test part
    Imagenette,
    /// ImageNet (ILSVRC 2012): ILSVRC2012_img_train.tar or train/SYNSET/, ILSVRC2012_img_val.tar or val/, and
    /// ILSVRC2012_devkit_t12.tar.gz where val has no class folders; val is the test part
    Imagenet,
    /// JPEG and PNG files, one sub-folder a class; train/ and val/ (or test/) above them give the splits. Without class
    /// folders a table beside the images gives the classes
    ImageFolder,
    /// WebDataset: .tar files with KEY.jpg or KEY.png and KEY.cls, or KEY.json with a field `label`; parts by names
    /// (train-000.tar, train/000.tar, val, test); names of classes from classnames.txt, one a line
    Webdataset,
    /// Parquet files of Hugging Face with columns `image` (bytes) and `label`; parts by names (train-*.parquet,
    /// validation, test)
    Parquet,
    /// NumPy arrays, one .npz or .npy files: `train_images` and `train_labels` (or `x_train` and `y_train`), the same
    /// with `val` and `test`, or `images` and `labels`; images are bytes [N, H, W], [N, H, W, C] or [N, C, H, W]
    Arrays,
    /// images in a folder or .zip, and a CSV with their names (`filename`, `stimulus_id`, `image_id`) and classes
    /// (`object_name`, `category_name`, `label`), as Brain-Score's stimulus sets
    Stimuli,
}

impl SourceName {
    /// Channels that the source's images have; where they are known from the files alone, those of colour images.
    pub fn channels(self) -> usize {
        match self.format() {
            Format::Digits | Format::Idx(_) => 1,
            _ => 3,
        }
    }

    /// Whether which files are read depends on what lies in the source's folders, not on their names alone.
    pub fn finds_files(self) -> bool {
        !matches!(self.format(), Format::Digits | Format::Idx(_) | Format::Svhn)
    }

    /// Whether a table of labels may be given with the source.
    pub fn takes_labels(self) -> bool {
        matches!(self, Self::ImageFolder | Self::Stimuli)
    }

    fn format(self) -> Format {
        match self {
            Self::Digits => Format::Digits,
            Self::Mnist => Format::Idx(idx::Variant::Mnist),
            Self::FashionMnist => Format::Idx(idx::Variant::FashionMnist),
            Self::EmnistBalanced => Format::Idx(idx::Variant::Emnist(Emnist::Balanced)),
            Self::EmnistByclass => Format::Idx(idx::Variant::Emnist(Emnist::Byclass)),
            Self::EmnistBymerge => Format::Idx(idx::Variant::Emnist(Emnist::Bymerge)),
            Self::EmnistDigits => Format::Idx(idx::Variant::Emnist(Emnist::Digits)),
            Self::EmnistLetters => Format::Idx(idx::Variant::Emnist(Emnist::Letters)),
            Self::EmnistMnist => Format::Idx(idx::Variant::Emnist(Emnist::Mnist)),
            Self::Cifar10 => Format::Cifar(cifar::Variant::Cifar10),
            Self::Cifar100 => Format::Cifar(cifar::Variant::Cifar100),
            Self::Svhn => Format::Svhn,
            Self::TinyImagenet => Format::TinyImagenet,
            Self::Imagenette => Format::Imagenette,
            Self::Imagenet => Format::Imagenet,
            Self::ImageFolder => Format::ImageFolder,
            Self::Webdataset => Format::Webdataset,
            Self::Parquet => Format::Parquet,
            Self::Arrays => Format::Arrays,
            Self::Stimuli => Format::Stimuli,
        }
    }

    /// Channel means and standard deviations that the literature uses for this data set, in units of [0, 1].
    pub fn published_normalisation(self) -> Option<(Vec<f64>, Vec<f64>)> {
        let (mean, std): (&[f64], &[f64]) = match self.format() {
            // Mean and standard deviation of EMNIST's letters and digits differ by division; none are in common use.
            Format::Digits | Format::Idx(idx::Variant::Emnist(_)) | Format::Arrays => return None,
            Format::Idx(idx::Variant::Mnist) => (&[0.1307], &[0.3081]),
            Format::Idx(idx::Variant::FashionMnist) => (&[0.2860], &[0.3530]),
            Format::Cifar(cifar::Variant::Cifar10) => (&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616]),
            Format::Cifar(cifar::Variant::Cifar100) => (&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]),
            Format::Svhn => (&[0.4377, 0.4438, 0.4728], &[0.1980, 0.2010, 0.1970]),
            Format::ImageFolder
            | Format::TinyImagenet
            | Format::Imagenette
            | Format::Imagenet
            | Format::Webdataset
            | Format::Parquet
            | Format::Stimuli => (&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
        };
        Some((mean.to_vec(), std.to_vec()))
    }
}

/// What reads a source.
enum Format {
    Digits,
    Idx(idx::Variant),
    Cifar(cifar::Variant),
    Svhn,
    TinyImagenet,
    Imagenette,
    Imagenet,
    ImageFolder,
    Webdataset,
    Parquet,
    Arrays,
    Stimuli,
}

/// The six divisions of EMNIST.
#[derive(Clone, Copy)]
pub(crate) enum Emnist {
    Balanced,
    Byclass,
    Bymerge,
    Digits,
    Letters,
    Mnist,
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// What they are.
    pub name: SourceName,
    /// Folder of the files: of IDX files, of archives or what they unpack to, of images. Not read for `digits`.
    pub path: PathBuf,
    /// Table of the classes (and parts) of a folder's images or stimuli: CSV with commas, semicolons or tabs and columns
    /// `file`, `class` and, if need be, `split`. Other sources do not read it.
    #[serde(default)]
    pub labels: Option<PathBuf>,
}

/// A file (or folder) that a source needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What it holds, for a message.
    pub what: String,
    /// Paths of which one must exist, the first being the usual one.
    pub alternatives: Vec<PathBuf>,
}

impl Requirement {
    /// The alternative that exists, the earliest if there are several.
    pub fn found(&self) -> Option<&Path> {
        self.alternatives
            .iter()
            .map(PathBuf::as_path)
            .find(|path| path.exists())
    }

    /// The alternative that exists, or the error that says what is missing.
    pub(crate) fn locate(&self) -> Result<PathBuf, DataError> {
        self.found().map(Path::to_owned).ok_or_else(|| DataError::Missing {
            what: self.what.clone(),
            alternatives: self.alternatives.clone(),
        })
    }
}

/// The part of a source that an image belongs to. Images that the source does not divide are training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Validation,
    Test,
}

/// What is known of an image before its pixels are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) label: u32,
    pub(crate) part: Part,
}

/// An image as its source holds it.
#[derive(Debug)]
pub(crate) enum Original<'a> {
    /// A JPEG or PNG file, byte for byte; whether it is sound shows when it is decoded.
    Encoded(Cow<'a, [u8]>),
    /// An image of a set of arrays.
    Pixels(Pixels),
}

impl Original<'_> {
    /// The whole image, turned as its EXIF data say where `upright`; `path` is what messages call it.
    pub(crate) fn decode(&self, path: &Path, upright: bool) -> Result<Pixels, DataError> {
        match self {
            Self::Encoded(bytes) => decode(path, bytes, upright),
            Self::Pixels(pixels) => Ok(pixels.clone()),
        }
    }

    /// By whose arithmetic the image is resized for evaluation.
    pub(crate) fn rule(&self) -> Rule {
        match self {
            Self::Encoded(_) => Rule::Pillow,
            Self::Pixels(_) => Rule::Arrays,
        }
    }
}

/// Where the bytes of an encoded image lie as they are: all of a file, or a range of an archive that is not compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// In bytes from the beginning of the file.
    pub(crate) offset: u64,
    /// Bytes; `None` for a whole file, whose length was not looked at.
    pub(crate) length: Option<u64>,
}

/// Gives the images of an opened source.
pub(crate) trait Reader: Sync {
    /// Image `i` in the order of the entries. Errors name its file, and the member of an archive.
    fn original(&self, i: usize) -> Result<Original<'_>, DataError>;

    /// Name of image `i` in results: its path in the source's folder, or the file that holds it with its number there,
    /// from 0, or with its name there.
    fn file(&self, i: usize) -> String;

    /// What messages call image `i`: the path of its file; of an archive's member, that of the archive and its own.
    fn path(&self, i: usize) -> PathBuf;

    /// Looks at what opening left unread as it takes long, before images are read.
    ///
    /// # Errors
    /// What is damaged.
    fn verify(&self) -> Result<(), DataError> {
        Ok(())
    }

    /// Where image `i` lies in a file of the source, if it lies there as [`Original::Encoded`] gives it.
    fn place(&self, _i: usize) -> Option<Place> {
        None
    }

    /// Bytes of image `i` as [`original`](Self::original) gives it, without reading it; `None` where only that tells.
    fn length(&self, i: usize) -> Result<Option<u64>, DataError> {
        Ok(match self.place(i) {
            Some(Place {
                length: Some(length), ..
            }) => Some(length),
            Some(Place { path, .. }) => Some(fs_err::metadata(path)?.len()),
            None => None,
        })
    }
}

/// A source whose labels are known and checked.
pub(crate) struct Opened {
    pub(crate) name: &'static str,
    pub(crate) classes: Vec<String>,
    pub(crate) attribution: &'static str,
    pub(crate) entries: Vec<Entry>,
    pub(crate) reader: Box<dyn Reader>,
    /// What the source is, for the manifest.
    pub(crate) described: &'static str,
    /// What was passed over.
    pub(crate) notes: Vec<String>,
}

impl ImageSource {
    /// A source without a table of labels of its own.
    pub fn new(name: SourceName, path: impl Into<PathBuf>) -> Self {
        Self {
            name,
            path: path.into(),
            labels: None,
        }
    }

    /// The files that must exist before the source can be read; empty for sources inside the program.
    pub fn required_files(&self) -> Vec<Requirement> {
        match self.name.format() {
            Format::Digits => Vec::new(),
            Format::Idx(variant) => variant.requirements(&self.path),
            Format::Cifar(variant) => variant.requirements(&self.path),
            Format::Svhn => svhn::requirements(&self.path),
            Format::TinyImagenet => tiny_imagenet::requirements(&self.path),
            Format::Imagenette => imagenette::requirements(&self.path),
            Format::Imagenet => imagenet::requirements(&self.path),
            Format::ImageFolder => {
                let folder = Requirement {
                    what: "folder of images".to_owned(),
                    alternatives: vec![self.path.clone()],
                };
                let table = self.labels.iter().map(|labels| Requirement {
                    what: "table of labels".to_owned(),
                    alternatives: vec![labels.clone()],
                });
                [folder].into_iter().chain(table).collect()
            }
            Format::Webdataset => webdataset::requirements(&self.path),
            Format::Parquet => parquet::requirements(&self.path),
            Format::Arrays => arrays::requirements(&self.path),
            Format::Stimuli => stimuli::requirements(&self.path, self.labels.as_deref()),
        }
    }

    /// Every file that is read, sorted and without repetition: their contents decide the image set's.
    ///
    /// # Errors
    /// [`DataError::Missing`] where a required file is missing; what is wrong with a folder of images or its table.
    pub fn input_files(&self) -> Result<Vec<PathBuf>, DataError> {
        let (path, labels) = (&self.path, self.labels.as_deref());
        let mut files = match self.name.format() {
            Format::Digits | Format::Idx(_) | Format::Svhn => {
                let required = self.required_files();
                required.iter().map(Requirement::locate).collect::<Result<_, _>>()?
            }
            Format::Cifar(variant) => cifar::inputs(path, variant)?,
            Format::TinyImagenet => tiny_imagenet::inputs(path)?,
            Format::Imagenette => imagenette::inputs(path)?,
            Format::Imagenet => {
                let (images, mut others) = imagenet::inputs(path, &mut image_folder::read_heads)?;
                others.extend((0..images.len()).map(|i| images.path(i)));
                others
            }
            Format::ImageFolder => image_folder::list(path, labels)?.files(),
            Format::Webdataset => webdataset::inputs(path)?,
            Format::Parquet => parquet::inputs(path)?,
            Format::Arrays => arrays::inputs(path)?,
            Format::Stimuli => stimuli::inputs(path, labels)?,
        };
        files.sort();
        files.dedup();
        Ok(files)
    }

    pub(crate) fn open(&self) -> Result<Opened, DataError> {
        match self.name.format() {
            Format::Digits => digits::open(),
            Format::Idx(variant) => idx::open(&self.path, variant),
            Format::Cifar(variant) => cifar::open(&self.path, variant),
            Format::Svhn => svhn::open(&self.path),
            Format::TinyImagenet => tiny_imagenet::open(&self.path),
            Format::Imagenette => imagenette::open(&self.path),
            Format::Imagenet => imagenet::open(&self.path),
            Format::ImageFolder => image_folder::open(&self.path, &self.path, self.labels.as_deref()),
            Format::Webdataset => webdataset::open(&self.path),
            Format::Parquet => parquet::open(&self.path),
            Format::Arrays => arrays::open(&self.path),
            Format::Stimuli => stimuli::open(&self.path, self.labels.as_deref()),
        }
    }
}

/// A file's name within a folder, as results hold it: two names are never written alike. Bytes outside UTF-8 become
/// `\xff` and the like; a backslash is doubled.
pub fn file_name(path: &Path) -> String {
    let mut out = Vec::new();
    dynvis_base::write_name(path.as_os_str().as_encoded_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The content of a file that memory has room for.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = dynvis_base::files::open(path)?;
    memory::check_room(file.metadata()?.len()).map_err(|error| DataError::too_large(path, error))?;
    Ok(dynvis_base::files::read_opened(&file)?)
}

/// The content of a file, decompressed if it is gzip (told by its first bytes, not by its name).
pub(crate) fn read_maybe_gzip(path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = read_file(path)?;
    if bytes.starts_with(&GZIP) {
        gunzip(path, &bytes)
    } else {
        Ok(bytes)
    }
}

/// Decompresses the content of `path`: any number of gzip archives one after the other, and zeros after them, with
/// which tapes and block devices fill up their blocks.
pub(crate) fn gunzip(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let mut out = Vec::new();
    let mut rest = bytes;
    loop {
        let mut decoder = GzDecoder::new(rest);
        memory::read_to_end(&mut decoder, u64::MAX, &mut out)
            .map_err(|error| DataError::unpacking(path, out.len(), error))?;
        rest = decoder.into_inner();
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(out);
        }
        if !rest.starts_with(&GZIP) {
            let at = (bytes.len() - rest.len()) as u64;
            let what = format!("{} bytes that are not a gzip archive follow the archive", rest.len());
            return Err(DataError::damaged(path, at, what));
        }
    }
}
