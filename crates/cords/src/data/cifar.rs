//! CIFAR-10 and CIFAR-100, from the unpacked files or straight from the .tar.gz. Binary version: records of label bytes
//! and 3 x 32 x 32 levels. Python version: pickled dicts of an array of the same levels and a list of labels. CIFAR-100
//! has a coarse label too; the fine label is used. Copies that have the images in class folders are read too.

use super::DataError;
use super::archive::Archive;
use super::decode::Pixels;
use super::image_folder;
use super::pickle::Pickle;
use super::source::{Entry, Opened, Original, Part, Reader, Requirement, file_name, read_file};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

#[derive(Clone, Copy)]
pub(crate) enum Variant {
    Cifar10,
    Cifar100,
}

/// How the files are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Binary,
    Python,
}

impl Variant {
    /// Names without `.bin`, under which the Python version has them.
    fn files(self) -> &'static [(Part, &'static str)] {
        match self {
            Self::Cifar10 => &[
                (Part::Train, "data_batch_1"),
                (Part::Train, "data_batch_2"),
                (Part::Train, "data_batch_3"),
                (Part::Train, "data_batch_4"),
                (Part::Train, "data_batch_5"),
                (Part::Test, "test_batch"),
            ],
            Self::Cifar100 => &[(Part::Train, "train"), (Part::Test, "test")],
        }
    }

    /// Name of the archive, and of the folder it unpacks to.
    fn archive(self, version: Version) -> (&'static str, &'static str) {
        match (self, version) {
            (Self::Cifar10, Version::Binary) => ("cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
            (Self::Cifar10, Version::Python) => ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
            (Self::Cifar100, Version::Binary) => ("cifar-100-binary.tar.gz", "cifar-100-binary"),
            (Self::Cifar100, Version::Python) => ("cifar-100-python.tar.gz", "cifar-100-python"),
        }
    }

    fn label_bytes(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    /// The data set's name in results, and what images in class folders are called.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Cifar10 => ("cifar10", "CIFAR-10, class folders"),
            Self::Cifar100 => ("cifar100", "CIFAR-100, class folders"),
        }
    }

    fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 => &CIFAR10,
            Self::Cifar100 => &CIFAR100,
        }
    }

    /// Whether the images lie in class folders below `train`, as copies of the data set have them.
    pub(crate) fn is_folders(self, folder: &Path) -> bool {
        let train = folder.join("train");
        self.classes().iter().any(|class| train.join(class).is_dir())
    }

    pub(crate) fn requirements(self, folder: &Path) -> Vec<Requirement> {
        if self.is_folders(folder) {
            return Vec::new();
        }
        let requirement = |(_, name): &(Part, &str)| {
            let of = |version: Version| {
                let (archive, unpacked) = self.archive(version);
                let name = version.file(name);
                let unpacked = folder.join(unpacked).join(&name);
                // `train` and `test` alone are folders of another data set.
                let bare = match (self, version) {
                    (Self::Cifar100, Version::Python) if folder.join(&name).is_dir() => unpacked.clone(),
                    _ => folder.join(&name),
                };
                [bare, unpacked, folder.join(archive)]
            };
            Requirement {
                what: format!("{name}.bin of the binary version, or {name} of the Python version"),
                alternatives: [of(Version::Binary), of(Version::Python)].concat(),
            }
        };
        self.files().iter().map(requirement).collect()
    }
}

impl Version {
    fn file(self, name: &str) -> String {
        match self {
            Self::Binary => format!("{name}.bin"),
            Self::Python => name.to_owned(),
        }
    }
}

struct Cifar {
    /// The source's.
    folder: PathBuf,
    /// Levels of all images, channel by channel.
    levels: Vec<u8>,
    /// Name of each file and the number of images in it and in those before.
    files: Vec<(String, usize)>,
}

impl Reader for Cifar {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let planes = &self.levels[i * 3 * PLANE..][..3 * PLANE];
        let data = (0..PLANE)
            .flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
            .collect();
        Ok(Original::Pixels(Pixels {
            width: SIDE,
            height: SIDE,
            channels: 3,
            data,
        }))
    }

    fn file(&self, i: usize) -> String {
        let at = self.files.partition_point(|(_, end)| *end <= i);
        let first = at.checked_sub(1).map_or(0, |before| self.files[before].1);
        format!("{}[{}]", self.files[at].0, i - first)
    }

    fn path(&self, i: usize) -> PathBuf {
        self.folder.join(self.file(i))
    }

    fn length(&self, _i: usize) -> Result<Option<u64>, DataError> {
        Ok(Some(3 * PLANE as u64))
    }
}

pub(crate) fn inputs(folder: &Path, variant: Variant) -> Result<Vec<PathBuf>, DataError> {
    if variant.is_folders(folder) {
        return Ok(image_folder::list(folder, None)?.files());
    }
    variant.requirements(folder).iter().map(Requirement::locate).collect()
}

/// Images in class folders. Their classes are in the data set's order, which is that of their names.
fn open_folders(folder: &Path, variant: Variant) -> Result<Opened, DataError> {
    let opened = image_folder::open(folder, folder, None)?;
    let others: Vec<&String> = (opened.classes.iter())
        .filter(|class| !variant.classes().contains(&class.as_str()))
        .collect();
    let missing = variant.classes().len() + others.len() - opened.classes.len();
    if let Some(other) = others.first() {
        let what = format!("the folder `train/{other}` is no class of {}", variant.describe().0);
        return Err(DataError::option("source", what));
    }
    if missing > 0 {
        let what = format!(
            "{missing} classes of {} have no folder in `train`",
            variant.describe().0
        );
        return Err(DataError::option("source", what));
    }
    let (name, described) = variant.describe();
    Ok(Opened {
        name,
        attribution: ATTRIBUTION,
        described,
        ..opened
    })
}

const ATTRIBUTION: &str = "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009";

pub(crate) fn open(folder: &Path, variant: Variant) -> Result<Opened, DataError> {
    if variant.is_folders(folder) {
        return open_folders(folder, variant);
    }
    let files = variant
        .requirements(folder)
        .iter()
        .map(Requirement::locate)
        .collect::<Result<Vec<_>, _>>()?;
    let mut archive: Option<Archive> = None;
    let mut entries = Vec::new();
    let mut levels = Vec::new();
    let mut names = Vec::new();
    let mut python = false;
    for ((part, name), file) in variant.files().iter().zip(&files) {
        let archived = |version: Version| file.file_name() == Some(OsStr::new(variant.archive(version).0));
        let version = if archived(Version::Python) || file.extension().is_none() {
            Version::Python
        } else {
            Version::Binary
        };
        python |= version == Version::Python;
        let member = version.file(name);
        let (shown, bytes) = if archived(version) {
            let opened = match archive.take().filter(|open| open.path() == file) {
                Some(opened) => opened,
                None => Archive::open(file)?,
            };
            let found = opened
                .find(&member)
                .ok_or_else(|| DataError::damaged(file, 0, format!("the archive has no member `{member}`")))?;
            let bytes = opened.read(found)?;
            archive = Some(opened);
            (file.join(&member), bytes)
        } else {
            (file.clone(), read_file(file)?)
        };
        let images = match version {
            Version::Binary => records(&shown, &bytes, variant)?,
            Version::Python => batch(&shown, &bytes, variant)?,
        };
        entries.extend(images.labels.into_iter().map(|label| Entry { label, part: *part }));
        levels.extend_from_slice(&images.levels);
        names.push((file_name(shown.strip_prefix(folder).unwrap_or(&shown)), entries.len()));
    }
    let (name, described) = match (variant, python) {
        (Variant::Cifar10, false) => ("cifar10", "CIFAR-10, binary version"),
        (Variant::Cifar10, true) => ("cifar10", "CIFAR-10, Python version"),
        (Variant::Cifar100, false) => ("cifar100", "CIFAR-100, binary version, fine labels"),
        (Variant::Cifar100, true) => ("cifar100", "CIFAR-100, Python version, fine labels"),
    };
    Ok(Opened {
        name,
        classes: variant.classes().iter().map(|class| (*class).to_owned()).collect(),
        attribution: ATTRIBUTION,
        entries,
        reader: Box::new(Cifar {
            folder: folder.to_owned(),
            levels,
            files: names,
        }),
        described,
        notes: Vec::new(),
    })
}

/// Labels and levels of one file.
struct Images {
    labels: Vec<u32>,
    levels: Vec<u8>,
}

/// The records of a file of the binary version.
fn records(file: &Path, bytes: &[u8], variant: Variant) -> Result<Images, DataError> {
    let record_len = variant.label_bytes() + 3 * PLANE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record_len) {
        let what = format!(
            "{} bytes are not a whole number of {record_len}-byte records: truncated, or not the binary version",
            bytes.len()
        );
        return Err(DataError::damaged(
            file,
            (bytes.len() - bytes.len() % record_len) as u64,
            what,
        ));
    }
    let at = variant.label_bytes() - 1;
    let mut images = Images {
        labels: Vec::new(),
        levels: Vec::with_capacity(bytes.len()),
    };
    for (image, record) in bytes.chunks_exact(record_len).enumerate() {
        let offset = (image * record_len + at) as u64;
        images
            .labels
            .push(checked(file, offset, image, i64::from(record[at]), variant)?);
        images.levels.extend_from_slice(&record[at + 1..]);
    }
    Ok(images)
}

/// The images of a file of the Python version.
fn batch(file: &Path, bytes: &[u8], variant: Variant) -> Result<Images, DataError> {
    let wrong = |what: &str| DataError::damaged(file, 0, format!("{what}; it must be a batch of the Python version"));
    let pickle = Pickle::read(bytes).ok_or_else(|| wrong("truncated, or no pickle"))?;
    let key = match variant {
        Variant::Cifar10 => "labels",
        Variant::Cifar100 => "fine_labels",
    };
    let labels = pickle
        .entry(key)
        .and_then(|at| pickle.whole_numbers(at))
        .ok_or_else(|| wrong(&format!("no list of labels `{key}`")))?;
    let data = pickle
        .entry("data")
        .and_then(|at| pickle.array(at))
        .filter(|data| {
            let bytes = data.shape.first().and_then(|images| images.checked_mul(3 * PLANE));
            data.item_size == 1 && bytes == Some(data.bytes.len())
        })
        .ok_or_else(|| wrong("no array `data` of 3072 bytes an image"))?;
    if labels.is_empty() || data.shape[0] != labels.len() {
        return Err(wrong(&format!("{} images and {} labels", data.shape[0], labels.len())));
    }
    let labels = labels
        .iter()
        .enumerate()
        .map(|(image, label)| checked(file, 0, image, *label, variant));
    Ok(Images {
        labels: labels.collect::<Result<_, _>>()?,
        levels: data.bytes,
    })
}

fn checked(file: &Path, offset: u64, image: usize, label: i64, variant: Variant) -> Result<u32, DataError> {
    let max = variant.classes().len() as u32 - 1;
    match u32::try_from(label) {
        Ok(label) if label <= max => Ok(label),
        _ => Err(DataError::LabelOutOfRange {
            file: file.to_owned(),
            offset,
            image,
            label: u32::try_from(label).unwrap_or(u32::MAX),
            max,
        }),
    }
}

const CIFAR10: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// Fine labels in the order of the data set's `fine_label_names.txt`.
const CIFAR100: [&str; 100] = [
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn_mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple_tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak_tree",
    "orange",
    "orchid",
    "otter",
    "palm_tree",
    "pear",
    "pickup_truck",
    "pine_tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet_pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow_tree",
    "wolf",
    "woman",
    "worm",
];
