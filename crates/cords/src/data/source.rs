//! The sources of images: what each needs on disk, and how it is opened. Formats are read in a file each.

use super::decode::Pixels;
use super::{DataError, cifar, digits, idx, image_folder};
use dynvis_base::memory;
use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where images come from. A path is the folder that holds the files of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
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
    /// EMNIST as IDX files, compressed or not, turned upright (in the files images are transposed).
    Emnist {
        /// Folder of the four files.
        path: PathBuf,
        /// Which of its six divisions.
        division: Emnist,
    },
    /// CIFAR-10, binary or Python version: `cifar-10-binary.tar.gz`, `cifar-10-python.tar.gz` or what they unpack to.
    Cifar10 {
        /// Folder of the archive or of its files.
        path: PathBuf,
    },
    /// CIFAR-100, binary or Python version, fine labels: `cifar-100-binary.tar.gz`, `cifar-100-python.tar.gz` or what
    /// they unpack to.
    Cifar100 {
        /// Folder of the archive or of its files.
        path: PathBuf,
    },
    /// JPEG and PNG files, one sub-folder a class (sorted by name); or `train/` with such sub-folders, and `val/` and
    /// `test/` likewise. `val/` without `test/` is the test part (as for ImageNet); both give both parts. Where images
    /// lie in no class folders, a table beside them gives their classes.
    ImageFolder {
        /// Folder of the images, or of `train/`, `val/` and `test/`.
        path: PathBuf,
    },
    /// JPEG and PNG files whose classes (and parts) a table gives: columns `file`, `class` and, if need be, `split`.
    LabelledImages {
        /// Folder that the table's file names start from.
        path: PathBuf,
        /// The table: CSV with commas, semicolons or tabs.
        labels: PathBuf,
    },
}

/// The six divisions of EMNIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emnist {
    /// 47 classes of equal size.
    Balanced,
    /// 62 classes: digits, capital and small letters.
    Byclass,
    /// 47 classes, of which 11 are small letters.
    Bymerge,
    /// 10 classes, the digits.
    Digits,
    /// 26 letters, capital and small ones in one class.
    Letters,
    /// 10 digits in MNIST's numbers.
    Mnist,
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
    /// Name of image `i`: its path in the source's folder, or the file that holds it with its number there, from 0.
    fn file(&self, i: usize) -> String;
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
    /// The files that must exist before the source can be read; empty for sources inside the program.
    pub fn required_files(&self) -> Vec<Requirement> {
        match self {
            Self::Digits => Vec::new(),
            Self::Mnist { path } => idx::Variant::Mnist.requirements(path),
            Self::FashionMnist { path } => idx::Variant::FashionMnist.requirements(path),
            Self::Emnist { path, division } => idx::Variant::Emnist(*division).requirements(path),
            Self::Cifar10 { path } => cifar::Variant::Cifar10.requirements(path),
            Self::Cifar100 { path } => cifar::Variant::Cifar100.requirements(path),
            Self::ImageFolder { path } => vec![folder_of_images(path)],
            Self::LabelledImages { path, labels } => {
                let table = Requirement {
                    what: "table of labels".to_owned(),
                    alternatives: vec![labels.clone()],
                };
                vec![folder_of_images(path), table]
            }
        }
    }

    /// Every file that is read, sorted and without repetition: their contents decide the image set's.
    ///
    /// # Errors
    /// [`DataError::Missing`] where a required file is missing; what is wrong with a folder of images or its table.
    pub fn input_files(&self) -> Result<Vec<PathBuf>, DataError> {
        let mut files = match self {
            Self::ImageFolder { path } => image_folder::list(path, None)?.files(),
            Self::LabelledImages { path, labels } => image_folder::list(path, Some(labels))?.files(),
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
            // Mean and standard deviation of its letters and digits differ by division; none are in common use.
            Self::Emnist { .. } => return None,
            Self::Mnist { .. } => (&[0.1307], &[0.3081]),
            Self::FashionMnist { .. } => (&[0.2860], &[0.3530]),
            Self::Cifar10 { .. } => (&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616]),
            Self::Cifar100 { .. } => (&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]),
            Self::ImageFolder { .. } | Self::LabelledImages { .. } => (&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
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
            Self::Emnist { path, division } => idx::open(path, idx::Variant::Emnist(*division)),
            Self::ImageFolder { path } => image_folder::open(path, None),
            Self::LabelledImages { path, labels } => image_folder::open(path, Some(labels)),
        }
    }
}

fn folder_of_images(path: &Path) -> Requirement {
    Requirement {
        what: "folder of images".to_owned(),
        alternatives: vec![path.to_owned()],
    }
}

/// A file's name within a folder, as results hold it: two names are never written alike. Bytes outside UTF-8 become
/// `\xff` and the like; a backslash is doubled.
pub fn file_name(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The content of a file that memory has room for.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = dynvis_base::files::open(path)?;
    memory::check_room(file.metadata()?.len()).map_err(|error| DataError::too_large(path, error))?;
    Ok(dynvis_base::files::read_opened(&file)?)
}

/// First bytes of a gzip archive.
const GZIP: [u8; 2] = [0x1f, 0x8b];

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
