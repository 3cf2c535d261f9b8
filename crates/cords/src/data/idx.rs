//! MNIST, Fashion-MNIST and EMNIST: IDX files (big-endian header, raw bytes), compressed or not, in the folder itself,
//! in `raw/` or where torchvision puts them.

use super::DataError;
use super::decode::Pixels;
use super::source::{Emnist, Entry, Opened, Original, Part, Reader, Requirement, file_name, read_maybe_gzip};
use std::path::{Path, PathBuf};

const IMAGE_MAGIC: u32 = 0x0000_0803;
const LABEL_MAGIC: u32 = 0x0000_0801;

/// Which of the data sets of this format.
#[derive(Clone, Copy)]
pub(crate) enum Variant {
    Mnist,
    FashionMnist,
    Emnist(Emnist),
}

/// (what, MNIST's and EMNIST's name up to the dot or dash before `idx`, dimensions) in the order of [training, test] x
/// [images, labels].
const FILES: [(&str, &str, &str, u32); 4] = [
    ("training images", "train-images", "train-images", 3),
    ("training labels", "train-labels", "train-labels", 1),
    ("test images", "t10k-images", "test-images", 3),
    ("test labels", "t10k-labels", "test-labels", 1),
];

impl Variant {
    pub(crate) fn requirements(self, folder: &Path) -> Vec<Requirement> {
        let places = match self {
            Self::Mnist => ["", "raw", "MNIST/raw"],
            Self::FashionMnist => ["", "raw", "FashionMNIST/raw"],
            // The archive of all divisions unpacks to `gzip/`.
            Self::Emnist(_) => ["", "gzip", "EMNIST/raw"],
        };
        let requirement = |(what, mnist, emnist, dims): (&str, &str, &str, u32)| {
            let mut stems = vec![mnist.to_owned()];
            if let Self::Emnist(division) = self {
                stems.insert(0, format!("emnist-{}-{emnist}", division_name(division)));
            }
            let names = stems.iter().flat_map(|stem| {
                let plain = [format!("{stem}-idx{dims}-ubyte"), format!("{stem}.idx{dims}-ubyte")];
                plain.into_iter().flat_map(|name| [format!("{name}.gz"), name])
            });
            let names: Vec<String> = names.collect();
            Requirement {
                what: format!("{what} (IDX file)"),
                alternatives: places
                    .iter()
                    .flat_map(|place| names.iter().map(move |name| folder.join(place).join(name)))
                    .collect(),
            }
        };
        FILES.map(requirement).into()
    }

    /// Class names, by label from the first label on.
    fn classes(self) -> Vec<String> {
        let digits = || ('0'..='9').map(String::from);
        let small = || ('a'..='z').map(String::from);
        let capital = || ('A'..='Z').map(String::from);
        match self {
            Self::Mnist | Self::Emnist(Emnist::Digits | Emnist::Mnist) => digits().collect(),
            Self::FashionMnist => [
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ]
            .map(str::to_owned)
            .into(),
            Self::Emnist(Emnist::Letters) => small().collect(),
            Self::Emnist(Emnist::Byclass) => digits().chain(capital()).chain(small()).collect(),
            // Small letters that look like capital ones are in one class with them.
            Self::Emnist(Emnist::Balanced | Emnist::Bymerge) => digits()
                .chain(capital())
                .chain("abdefghnqrt".chars().map(String::from))
                .collect(),
        }
    }
}

fn division_name(division: Emnist) -> &'static str {
    match division {
        Emnist::Balanced => "balanced",
        Emnist::Byclass => "byclass",
        Emnist::Bymerge => "bymerge",
        Emnist::Digits => "digits",
        Emnist::Letters => "letters",
        Emnist::Mnist => "mnist",
    }
}

struct Idx {
    /// The source's.
    folder: PathBuf,
    size: [usize; 2],
    /// Training and then test images.
    levels: Vec<u8>,
    /// Columns of the image lie one after the other, as EMNIST has them.
    transposed: bool,
    /// Name of each file of images and the number of images in it.
    files: [(String, usize); 2],
}

impl Reader for Idx {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let [height, width] = self.size;
        let levels = &self.levels[i * height * width..][..height * width];
        let (width, height, data) = if self.transposed {
            let turned = (0..height * width).map(|at| levels[at % height * width + at / height]);
            (height, width, turned.collect())
        } else {
            (width, height, levels.to_vec())
        };
        Ok(Original::Pixels(Pixels {
            width,
            height,
            channels: 1,
            data,
        }))
    }

    fn file(&self, i: usize) -> String {
        let [(train, count), (test, _)] = &self.files;
        match i.checked_sub(*count) {
            None => format!("{train}[{i}]"),
            Some(i) => format!("{test}[{i}]"),
        }
    }

    fn path(&self, i: usize) -> PathBuf {
        self.folder.join(self.file(i))
    }

    fn length(&self, _i: usize) -> Result<Option<u64>, DataError> {
        let [height, width] = self.size;
        Ok(Some((height * width) as u64))
    }
}

pub(crate) fn open(folder: &Path, variant: Variant) -> Result<Opened, DataError> {
    let files = variant
        .requirements(folder)
        .iter()
        .map(Requirement::locate)
        .collect::<Result<Vec<_>, _>>()?;
    let (size, mut levels) = read_images(&files[0])?;
    let (test_size, test_levels) = read_images(&files[2])?;
    if test_size != size {
        let (file, other) = (files[2].clone(), files[0].clone());
        return Err(DataError::MixedSizes {
            file,
            found: test_size,
            other,
            expected: size,
        });
    }
    let classes = variant.classes();
    let labels = [read_labels(&files[1])?, read_labels(&files[3])?];
    // EMNIST's letters are counted from 1; copies of it count from 0.
    let first = match variant {
        Variant::Emnist(Emnist::Letters) => u32::from(!labels.iter().flatten().any(|label| *label == 0)),
        _ => 0,
    };
    let mut entries = Vec::new();
    for (part, levels, labels, image_file, label_file) in [
        (Part::Train, &levels, &labels[0], &files[0], &files[1]),
        (Part::Test, &test_levels, &labels[1], &files[2], &files[3]),
    ] {
        let images = levels.len() / (size[0] * size[1]);
        if labels.len() != images {
            let (image_file, label_file) = (image_file.clone(), label_file.clone());
            return Err(DataError::CountMismatch {
                image_file,
                images,
                label_file,
                labels: labels.len(),
            });
        }
        for (image, label) in labels.iter().enumerate() {
            let label = label - first;
            if label as usize >= classes.len() {
                return Err(DataError::LabelOutOfRange {
                    file: label_file.clone(),
                    offset: (LABEL_HEADER + image) as u64,
                    image,
                    label: label + first,
                    max: classes.len() as u32 - 1 + first,
                });
            }
            entries.push(Entry { label, part });
        }
    }
    let training = levels.len() / (size[0] * size[1]);
    levels.extend_from_slice(&test_levels);
    let (name, attribution, described) = match variant {
        Variant::Mnist => (
            "mnist",
            "Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits, CC BY-SA 3.0",
            "MNIST, IDX files",
        ),
        Variant::FashionMnist => (
            "fashion_mnist",
            "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, Zalando SE 2017, MIT licence",
            "Fashion-MNIST, IDX files",
        ),
        Variant::Emnist(_) => (
            "emnist",
            "G. Cohen, S. Afshar, J. Tapson, A. van Schaik: EMNIST, an extension of MNIST to handwritten letters, 2017",
            "EMNIST, IDX files, turned upright",
        ),
    };
    let file = |at: usize| file_name(files[at].strip_prefix(folder).unwrap_or(&files[at]));
    Ok(Opened {
        name,
        classes,
        attribution,
        entries,
        reader: Box::new(Idx {
            folder: folder.to_owned(),
            size,
            levels,
            transposed: matches!(variant, Variant::Emnist(_)),
            files: [(file(0), training), (file(2), 0)],
        }),
        described,
        notes: Vec::new(),
    })
}

/// Reads the big-endian number at `at`.
fn number(file: &Path, bytes: &[u8], at: usize) -> Result<u32, DataError> {
    let four = bytes.get(at..at + 4).ok_or_else(|| {
        DataError::damaged(
            file,
            bytes.len() as u64,
            format!("the file ends within its header ({} bytes)", bytes.len()),
        )
    })?;
    Ok(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

fn check_magic(file: &Path, bytes: &[u8], expected: u32, what: &str) -> Result<(), DataError> {
    let magic = number(file, bytes, 0)?;
    if magic == expected {
        return Ok(());
    }
    Err(DataError::Damaged {
        file: file.to_owned(),
        offset: 0,
        what: format!("the magic number is {magic:#010x}, not {expected:#010x} (IDX {what})"),
        advice: "check that the file is what its name says and is not a web page or the other kind of file".to_owned(),
    })
}

fn check_length(file: &Path, bytes: &[u8], expected: u64) -> Result<(), DataError> {
    let found = bytes.len() as u64;
    if found == expected {
        return Ok(());
    }
    let what = if found < expected { "truncated" } else { "too long" };
    let what = format!("{what}: {found} bytes, but the header calls for {expected}");
    Err(DataError::damaged(file, found.min(expected), what))
}

/// Height and width, and the levels of all images.
fn read_images(file: &Path) -> Result<([usize; 2], Vec<u8>), DataError> {
    let mut bytes = read_maybe_gzip(file)?;
    check_magic(file, &bytes, IMAGE_MAGIC, "images")?;
    let [count, height, width] = [4, 8, 12].map(|at| number(file, &bytes, at));
    let (count, height, width) = (count?, height?, width?);
    if [count, height, width].contains(&0) || height > 1 << 14 || width > 1 << 14 {
        return Err(DataError::damaged(
            file,
            4,
            format!("the header says {count} images of {height} x {width} pixels"),
        ));
    }
    check_length(
        file,
        &bytes,
        16 + u64::from(count) * u64::from(height) * u64::from(width),
    )?;
    bytes.drain(..16);
    Ok(([height as usize, width as usize], bytes))
}

/// Bytes before the labels.
const LABEL_HEADER: usize = 8;

fn read_labels(file: &Path) -> Result<Vec<u32>, DataError> {
    let bytes = read_maybe_gzip(file)?;
    check_magic(file, &bytes, LABEL_MAGIC, "labels")?;
    let count = number(file, &bytes, 4)?;
    check_length(file, &bytes, LABEL_HEADER as u64 + u64::from(count))?;
    Ok(bytes[LABEL_HEADER..].iter().map(|label| u32::from(*label)).collect())
}
