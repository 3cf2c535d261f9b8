//! CIFAR-10 and CIFAR-100, from the unpacked files or straight from the .tar.gz. Binary version: records of label bytes
//! and 3 x 32 x 32 levels. Python version: pickled dicts of an array of the same levels and a list of labels. CIFAR-100
//! has a coarse label too; the fine label is used.

use super::DataError;
use super::decode::Pixels;
use super::pickle::Pickle;
use super::source::{Entry, Opened, Original, Part, Reader, Requirement, file_name, gunzip, read_file};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const BLOCK: usize = 512;

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

    fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Cifar10 => &CIFAR10,
            Self::Cifar100 => &CIFAR100,
        }
    }

    pub(crate) fn requirements(self, folder: &Path) -> Vec<Requirement> {
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
}

pub(crate) fn open(folder: &Path, variant: Variant) -> Result<Opened, DataError> {
    let files = variant
        .requirements(folder)
        .iter()
        .map(Requirement::locate)
        .collect::<Result<Vec<_>, _>>()?;
    let mut archive: Option<(PathBuf, Vec<u8>)> = None;
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
        let (shown, own);
        let bytes: &[u8] = if archived(version) {
            if archive.as_ref().is_none_or(|(open, _)| open != file) {
                archive = Some((file.clone(), gunzip(file, &read_file(file)?)?));
            }
            let (_, tar) = archive.as_ref().expect("opened just above");
            shown = file.join(&member);
            tar_member(file, tar, &member)?
        } else {
            shown = file.clone();
            own = read_file(file)?;
            &own
        };
        let images = match version {
            Version::Binary => records(&shown, bytes, variant)?,
            Version::Python => batch(&shown, bytes, variant)?,
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
        attribution: "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
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

/// The content of the member of a tar archive whose file name (without folders) is `name`.
fn tar_member<'a>(file: &Path, tar: &'a [u8], name: &str) -> Result<&'a [u8], DataError> {
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        // POSIX ustar header: name in bytes 0..100 ended by a zero, size in octal digits in bytes 124..136.
        let path: &[u8] = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let digits = header[124..136].iter().filter(|byte| byte.is_ascii_digit());
        let size = digits.fold(0usize, |size, digit| {
            size.saturating_mul(8).saturating_add(usize::from(digit - b'0'))
        });
        let start = at + BLOCK;
        let content = start
            .checked_add(size)
            .and_then(|end| tar.get(start..end))
            .ok_or_else(|| {
                let shown = String::from_utf8_lossy(path);
                DataError::damaged(
                    file,
                    tar.len() as u64,
                    format!("the archive ends within its member `{shown}`"),
                )
            })?;
        // Other types describe the member that follows, under a name that may end alike.
        let regular = matches!(header[156], b'0' | 0);
        if regular && path.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes()) {
            return Ok(content);
        }
        at = start + size.next_multiple_of(BLOCK);
    }
    Err(DataError::damaged(
        file,
        at as u64,
        format!("the archive has no member `{name}`"),
    ))
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
