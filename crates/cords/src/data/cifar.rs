//! CIFAR-10 and CIFAR-100, binary version: records of label bytes and 3 x 32 x 32 levels, from the unpacked files or
//! straight from the .tar.gz. CIFAR-100 records have a coarse label first; the fine label is used.

use super::DataError;
use super::decode::Pixels;
use super::source::{Entry, Opened, Part, Reader, Requirement, gunzip};
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

impl Variant {
    fn files(self) -> &'static [(Part, &'static str)] {
        match self {
            Self::Cifar10 => &[
                (Part::Train, "data_batch_1.bin"),
                (Part::Train, "data_batch_2.bin"),
                (Part::Train, "data_batch_3.bin"),
                (Part::Train, "data_batch_4.bin"),
                (Part::Train, "data_batch_5.bin"),
                (Part::Test, "test_batch.bin"),
            ],
            Self::Cifar100 => &[(Part::Train, "train.bin"), (Part::Test, "test.bin")],
        }
    }

    /// Name of the archive, and of the folder it unpacks to.
    fn archive(self) -> (&'static str, &'static str) {
        match self {
            Self::Cifar10 => ("cifar-10-binary.tar.gz", "cifar-10-batches-bin"),
            Self::Cifar100 => ("cifar-100-binary.tar.gz", "cifar-100-binary"),
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
        let (archive, unpacked) = self.archive();
        let requirement = |(_, name): &(Part, &str)| Requirement {
            what: format!("{name} of the binary version"),
            alternatives: vec![
                folder.join(name),
                folder.join(unpacked).join(name),
                folder.join(archive),
            ],
        };
        self.files().iter().map(requirement).collect()
    }
}

struct Cifar {
    label_bytes: usize,
    /// Records of all files.
    records: Vec<u8>,
}

impl Reader for Cifar {
    fn pixels(&self, i: usize) -> Result<Pixels, DataError> {
        let record = &self.records[i * (self.label_bytes + 3 * PLANE)..];
        let planes = &record[self.label_bytes..][..3 * PLANE];
        let data = (0..PLANE)
            .flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]])
            .collect();
        Ok(Pixels {
            width: SIDE,
            height: SIDE,
            channels: 3,
            data,
        })
    }
}

pub(crate) fn open(folder: &Path, variant: Variant) -> Result<Opened, DataError> {
    let files = variant
        .requirements(folder)
        .iter()
        .map(Requirement::locate)
        .collect::<Result<Vec<_>, _>>()?;
    let archive_name = OsStr::new(variant.archive().0);
    let mut archive: Option<(PathBuf, Vec<u8>)> = None;
    let mut entries = Vec::new();
    let mut records = Vec::new();
    for ((part, name), file) in variant.files().iter().zip(&files) {
        if file.file_name() == Some(archive_name) {
            if archive.is_none() {
                archive = Some((file.clone(), gunzip(file, &crate::files::read(file)?)?));
            }
            let (_, tar) = archive.as_ref().expect("opened just above");
            let member = tar_member(file, tar, name)?;
            append(&file.join(name), member, variant, *part, &mut entries, &mut records)?;
        } else {
            append(
                file,
                &crate::files::read(file)?,
                variant,
                *part,
                &mut entries,
                &mut records,
            )?;
        }
    }
    let name = match variant {
        Variant::Cifar10 => "cifar10",
        Variant::Cifar100 => "cifar100",
    };
    Ok(Opened {
        name,
        classes: variant.classes().iter().map(|class| (*class).to_owned()).collect(),
        attribution: "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        entries,
        reader: Box::new(Cifar {
            label_bytes: variant.label_bytes(),
            records,
        }),
    })
}

/// Checks the records of one file and appends them.
fn append(
    file: &Path,
    bytes: &[u8],
    variant: Variant,
    part: Part,
    entries: &mut Vec<Entry>,
    records: &mut Vec<u8>,
) -> Result<(), DataError> {
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
    for (image, record) in bytes.chunks_exact(record_len).enumerate() {
        let at = variant.label_bytes() - 1;
        let (label, max) = (u32::from(record[at]), variant.classes().len() as u32 - 1);
        if label > max {
            let offset = (image * record_len + at) as u64;
            return Err(DataError::LabelOutOfRange {
                file: file.to_owned(),
                offset,
                image,
                label,
                max,
            });
        }
        entries.push(Entry { label, part });
    }
    records.extend_from_slice(bytes);
    Ok(())
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
        if path.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes()) {
            return Ok(content);
        }
        at = start + size.next_multiple_of(BLOCK);
    }
    Err(DataError::damaged(
        file,
        at as u64,
        format!("the archive has no member `{name}`; it must be the binary version"),
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
