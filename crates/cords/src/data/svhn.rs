//! SVHN's cropped digits, and others that are stored alike: `train_32x32.mat` and `test_32x32.mat` with images `X`
//! [height, width, channels, N] and labels `y`, where 10 is the digit 0. `extra_32x32.mat` is not read.

use super::DataError;
use super::decode::Pixels;
use super::encoded_files::name_within;
use super::matlab::{self, Number, Values, Variable};
use super::source::{Entry, Opened, Original, Part, Reader, Requirement};
use std::ops::Range;
use std::path::{Path, PathBuf};

const FILES: [(Part, &str, &str); 2] = [
    (Part::Train, "train_32x32.mat", "training images"),
    (Part::Test, "test_32x32.mat", "test images"),
];

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    let requirement = |(_, name, what): &(Part, &str, &str)| Requirement {
        what: format!("{what} (.mat file)"),
        alternatives: vec![folder.join(name)],
    };
    FILES.iter().map(requirement).collect()
}

/// The images of a file.
struct Images {
    path: PathBuf,
    levels: Variable,
    /// Where its levels lie in the variable.
    range: Range<usize>,
    height: usize,
    width: usize,
    channels: usize,
    /// Index of its first image.
    first: usize,
}

struct Svhn {
    folder: PathBuf,
    parts: Vec<Images>,
}

impl Svhn {
    /// The file that holds image `i`, and its number there.
    fn locate(&self, i: usize) -> (&Images, usize) {
        let part = &self.parts[self.parts.partition_point(|part| part.first <= i) - 1];
        (part, i - part.first)
    }
}

impl Reader for Svhn {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let (images, at) = self.locate(i);
        let &Images {
            height,
            width,
            channels,
            ..
        } = images;
        let size = height * width * channels;
        let levels = &images.levels.bytes(&images.range)[at * size..][..size];
        let mut data = Vec::with_capacity(size);
        for row in 0..height {
            for column in 0..width {
                data.extend((0..channels).map(|channel| levels[row + height * (column + width * channel)]));
            }
        }
        Ok(Original::Pixels(Pixels {
            width,
            height,
            channels,
            data,
        }))
    }

    fn file(&self, i: usize) -> String {
        let (images, at) = self.locate(i);
        format!("{}[{at}]", name_within(&self.folder, &images.path))
    }

    fn path(&self, i: usize) -> PathBuf {
        self.folder.join(self.file(i))
    }

    fn length(&self, i: usize) -> Result<Option<u64>, DataError> {
        let (images, _) = self.locate(i);
        Ok(Some((images.height * images.width * images.channels) as u64))
    }
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let (mut parts, mut entries, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for ((part, ..), requirement) in FILES.iter().zip(requirements(folder)) {
        let read = requirement.locate().and_then(|path| read(path, entries.len()));
        match read {
            Ok((images, labels)) => {
                parts.push(images);
                entries.extend(labels.into_iter().map(|label| Entry { label, part: *part }));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    let extra = folder.join("extra_32x32.mat").exists();
    Ok(Opened {
        name: "svhn",
        classes: ('0'..='9').map(String::from).collect(),
        attribution: "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng: Reading Digits in Natural Images \
                      with Unsupervised Feature Learning, 2011",
        entries,
        reader: Box::new(Svhn {
            folder: folder.to_owned(),
            parts,
        }),
        described: "SVHN, cropped digits",
        notes: if extra {
            vec!["extra_32x32.mat is not read".to_owned()]
        } else {
            Vec::new()
        },
    })
}

/// Images and labels of a file.
fn read(path: PathBuf, first: usize) -> Result<(Images, Vec<u32>), DataError> {
    let stream = std::io::BufReader::new(dynvis_base::files::open(&path)?);
    let variables = matlab::read(&path, stream, &["X", "y"], u64::MAX)?;
    let missing = |name: &str| DataError::damaged(&path, 0, format!("no variable `{name}`"));
    let (mut levels, mut labels) = (None, None);
    for variable in variables {
        match variable.name.as_str() {
            "X" => levels = Some(variable),
            _ => labels = Some(variable),
        }
    }
    let (levels, labels) = (levels.ok_or_else(|| missing("X"))?, labels.ok_or_else(|| missing("y"))?);
    let array = levels.array()?;
    let (range, height, width, channels, count) = match (&array.values, array.dims.as_slice()) {
        (Values::Numbers(Number::Unsigned(1), range), &[height, width, channels @ (1 | 3), count])
            if height > 0 && width > 0 =>
        {
            (range.clone(), height, width, channels, count)
        }
        _ => {
            let what = format!(
                "it has shape {:?}; unsigned bytes [height, width, 3, N] are needed",
                array.dims
            );
            return Err(levels.wrong(what));
        }
    };
    let array = labels.array()?;
    let numbers = labels
        .whole_numbers(&array)
        .ok_or_else(|| labels.wrong("it holds no whole numbers".to_owned()))?;
    if numbers.len() != count {
        return Err(labels.wrong(format!("{} labels for {count} images", numbers.len())));
    }
    let digit = |(image, label): (usize, &i64)| match label {
        0..=9 => Ok(*label as u32),
        10 => Ok(0),
        _ => Err(labels.wrong(format!(
            "image {image} has label {label}; labels are digits, with 10 for 0"
        ))),
    };
    let digits = numbers.iter().enumerate().map(digit).collect::<Result<_, _>>()?;
    let images = Images {
        path,
        levels,
        range,
        height,
        width,
        channels,
        first,
    };
    Ok((images, digits))
}
