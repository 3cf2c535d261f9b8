//! The sources of images: what each needs on disk, and how it is opened. Formats are read in a file each.

use super::decode::Pixels;
use super::{DataError, cifar, digits, idx, image_folder};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where images come from. A path is the folder that holds the files of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// 1,797 handwritten digits of 8 x 8 pixels, part of this program (UCI optdigits, test part).
    Digits,
    /// MNIST as IDX files, compressed or not.
    Mnist {
        /// Folder of the four files.
        path: PathBuf,
    },
    /// Fashion-MNIST as IDX files, compressed or not.
    FashionMnist {
        /// Folder of the four files.
        path: PathBuf,
    },
    /// CIFAR-10, binary version: `cifar-10-binary.tar.gz` or what it unpacks to.
    Cifar10 {
        /// Folder of the archive or of its files.
        path: PathBuf,
    },
    /// CIFAR-100, binary version, fine labels: `cifar-100-binary.tar.gz` or what it unpacks to.
    Cifar100 {
        /// Folder of the archive or of its files.
        path: PathBuf,
    },
    /// JPEG and PNG files, one sub-folder a class (sorted by name); or `train/` with such sub-folders, and `val/`
    /// and `test/` likewise. `val/` without `test/` is the test part (as for ImageNet); both give both parts.
    ImageFolder {
        /// The folder.
        path: PathBuf,
    },
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

/// Gives the pixels of the images of an opened source.
pub(crate) trait Reader: Sync {
    /// Image `i` in the order of the entries.
    fn pixels(&self, i: usize) -> Result<Pixels, DataError>;
}

/// A source whose labels are known and checked.
pub(crate) struct Opened {
    pub(crate) name: &'static str,
    pub(crate) classes: Vec<String>,
    pub(crate) attribution: &'static str,
    pub(crate) entries: Vec<Entry>,
    pub(crate) reader: Box<dyn Reader>,
}

impl Source {
    /// The files that must exist before the source can be read; empty for sources inside the program.
    pub fn required_files(&self) -> Vec<Requirement> {
        match self {
            Self::Digits => Vec::new(),
            Self::Mnist { path } | Self::FashionMnist { path } => idx::requirements(path),
            Self::Cifar10 { path } => cifar::Variant::Cifar10.requirements(path),
            Self::Cifar100 { path } => cifar::Variant::Cifar100.requirements(path),
            Self::ImageFolder { path } => {
                vec![Requirement {
                    what: "folder of images".to_owned(),
                    alternatives: vec![path.clone()],
                }]
            }
        }
    }

    /// Every file that is read, sorted and without repetition: their contents decide the image set's.
    /// Fails where a required file is missing.
    pub fn input_files(&self) -> Result<Vec<PathBuf>, DataError> {
        let mut files = match self {
            Self::ImageFolder { path } => image_folder::list(path)?.files(),
            _ => self
                .required_files()
                .iter()
                .map(Requirement::locate)
                .collect::<Result<_, _>>()?,
        };
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Channel means and standard deviations that the literature uses for this data set, in units of [0, 1].
    pub fn published_normalisation(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let (mean, std): (&[f64], &[f64]) = match self {
            Self::Digits => return None,
            Self::Mnist { .. } => (&[0.1307], &[0.3081]),
            Self::FashionMnist { .. } => (&[0.2860], &[0.3530]),
            Self::Cifar10 { .. } => (&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616]),
            Self::Cifar100 { .. } => (&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]),
            Self::ImageFolder { .. } => (&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
        };
        Some((mean.to_vec(), std.to_vec()))
    }

    pub(crate) fn open(&self) -> Result<Opened, DataError> {
        match self {
            Self::Digits => digits::open(),
            Self::Mnist { path } => idx::open(path, idx::Variant::Mnist),
            Self::FashionMnist { path } => idx::open(path, idx::Variant::FashionMnist),
            Self::Cifar10 { path } => cifar::open(path, cifar::Variant::Cifar10),
            Self::Cifar100 { path } => cifar::open(path, cifar::Variant::Cifar100),
            Self::ImageFolder { path } => image_folder::open(path),
        }
    }
}

/// The content of a file, decompressed if it is gzip (told by its first bytes, not by its name).
pub(crate) fn read_maybe_gzip(path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = crate::files::read(path)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        gunzip(path, &bytes)
    } else {
        Ok(bytes)
    }
}

/// Decompresses the content of `path`.
pub(crate) fn gunzip(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let mut out = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut out).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "truncated gzip archive".to_owned(),
            _ => format!("damaged gzip archive ({error})"),
        };
        DataError::damaged(path, out.len() as u64, what + " (offset counted after decompression)")
    })?;
    Ok(out)
}
