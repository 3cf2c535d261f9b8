//! MNIST and Fashion-MNIST: IDX files (big-endian header, raw bytes), compressed or not.

use super::DataError;
use super::decode::Pixels;
use super::source::{Entry, Opened, Part, Reader, Requirement, read_maybe_gzip};
use std::path::Path;

const IMAGE_MAGIC: u32 = 0x0000_0803;
const LABEL_MAGIC: u32 = 0x0000_0801;
const CLASSES: u32 = 10;

/// Which of the two data sets of this format.
#[derive(Clone, Copy)]
pub(crate) enum Variant {
    Mnist,
    FashionMnist,
}

/// (what, name up to the dot or dash before `idx`, dimensions) in the order of [training, test] x [images, labels].
const FILES: [(&str, &str, u32); 4] = [
    ("training images", "train-images", 3),
    ("training labels", "train-labels", 1),
    ("test images", "t10k-images", 3),
    ("test labels", "t10k-labels", 1),
];

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    let names = |stem: &str, dims: u32| {
        let plain = [format!("{stem}-idx{dims}-ubyte"), format!("{stem}.idx{dims}-ubyte")];
        plain.into_iter().flat_map(|name| [format!("{name}.gz"), name])
    };
    let requirement = |(what, stem, dims): (&str, &str, u32)| Requirement {
        what: format!("{what} (IDX file)"),
        alternatives: names(stem, dims).map(|name| folder.join(name)).collect(),
    };
    FILES.map(requirement).into()
}

struct Idx {
    size: [usize; 2],
    /// Training and then test images.
    levels: Vec<u8>,
}

impl Reader for Idx {
    fn pixels(&self, i: usize) -> Result<Pixels, DataError> {
        let [height, width] = self.size;
        let data = self.levels[i * height * width..][..height * width].to_vec();
        Ok(Pixels {
            width,
            height,
            channels: 1,
            data,
        })
    }
}

pub(crate) fn open(folder: &Path, variant: Variant) -> Result<Opened, DataError> {
    let files = requirements(folder)
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
    let mut entries = Vec::new();
    for (part, levels, image_file, label_file) in [
        (Part::Train, &levels, &files[0], &files[1]),
        (Part::Test, &test_levels, &files[2], &files[3]),
    ] {
        let labels = read_labels(label_file)?;
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
        entries.extend(labels.into_iter().map(|label| Entry { label, part }));
    }
    levels.extend_from_slice(&test_levels);
    let (name, classes, attribution): (_, Vec<String>, _) = match variant {
        Variant::Mnist => (
            "mnist",
            (0..CLASSES).map(|digit| digit.to_string()).collect(),
            "Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits, CC BY-SA 3.0",
        ),
        Variant::FashionMnist => (
            "fashion_mnist",
            [
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
            "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, Zalando SE 2017, MIT licence",
        ),
    };
    Ok(Opened {
        name,
        classes,
        attribution,
        entries,
        reader: Box::new(Idx { size, levels }),
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

fn read_labels(file: &Path) -> Result<Vec<u32>, DataError> {
    const HEADER: usize = 8;
    let bytes = read_maybe_gzip(file)?;
    check_magic(file, &bytes, LABEL_MAGIC, "labels")?;
    let count = number(file, &bytes, 4)?;
    check_length(file, &bytes, HEADER as u64 + u64::from(count))?;
    let labels = bytes[HEADER..].iter().map(|label| u32::from(*label));
    let checked = labels.enumerate().map(|(image, label)| {
        if label < CLASSES {
            return Ok(label);
        }
        let (file, offset) = (file.to_owned(), (HEADER + image) as u64);
        Err(DataError::LabelOutOfRange {
            file,
            offset,
            image,
            label,
            max: CLASSES - 1,
        })
    });
    checked.collect()
}
