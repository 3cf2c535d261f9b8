//! Arrays that NumPy saved: one archive (`.npz`), or `.npy` files, of images and labels.
//!
//! Names of arrays (without regard to case): `train_images` or `x_train` and `train_labels` or `y_train`; the same with
//! `val` (or `validation`) and `test`; `images` or `x` and `labels` or `y` where nothing is divided. Images are unsigned
//! bytes [N, height, width], [N, height, width, channels] or [N, channels, height, width] with 1 or 3 channels; labels
//! are whole numbers `[N]` or `[N, 1]`. Classes are the labels that occur, in order of number.

use super::DataError;
use super::archive::Archive;
use super::decode::Pixels;
use super::encoded_files::name_within;
use super::npy::NpyFile;
use super::source::{Entry, Opened, Original, Part, Reader, Requirement};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Parts in the order of images, and how names of arrays call them.
const PARTS: [(Part, &[&str]); 4] = [
    (Part::Train, &[""]),
    (Part::Train, &["train"]),
    (Part::Validation, &["val", "validation"]),
    (Part::Test, &["test"]),
];

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    vec![Requirement {
        what: "folder with one .npz file, or .npy files".to_owned(),
        alternatives: vec![folder.to_owned()],
    }]
}

/// The arrays of a source by their names in small letters: an archive, or files.
enum Found {
    Archive(PathBuf),
    Files(BTreeMap<String, PathBuf>),
}

fn find(folder: &Path) -> Result<Found, DataError> {
    requirements(folder)[0].locate()?;
    let (mut archives, mut files) = (Vec::new(), BTreeMap::new());
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".npz") {
            archives.push(path);
        } else if let Some(stem) = name.strip_suffix(".npy") {
            files.insert(stem.to_owned(), path);
        }
    }
    archives.sort();
    match archives.as_slice() {
        [] => Ok(Found::Files(files)),
        [archive] => Ok(Found::Archive(archive.clone())),
        [first, second, ..] => {
            let what = format!(
                "{} and {} lie side by side; give each a folder of its own",
                first.display(),
                second.display()
            );
            Err(DataError::option("source", what))
        }
    }
}

/// Names of the arrays of images and labels of a part.
fn names_of(part: &[&str]) -> [Vec<String>; 2] {
    let of = |long: &str, short: &str| {
        part.iter()
            .flat_map(|part| match *part {
                "" => [long.to_owned(), short.to_owned()],
                part => [format!("{part}_{long}"), format!("{short}_{part}")],
            })
            .collect()
    };
    [of("images", "x"), of("labels", "y")]
}

pub(crate) fn inputs(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    match find(folder)? {
        Found::Archive(archive) => Ok(vec![archive]),
        Found::Files(files) => {
            let names = PARTS.iter().flat_map(|(_, part)| names_of(part)).flatten();
            Ok(names.filter_map(|name| files.get(&name).cloned()).collect())
        }
    }
}

/// One array of images.
struct Images {
    /// What messages call it.
    path: PathBuf,
    /// What results call it.
    name: String,
    array: NpyFile,
    height: usize,
    width: usize,
    channels: usize,
    /// Whether channels come before rows.
    planes: bool,
    /// Index of its first image.
    first: usize,
}

struct Arrays {
    parts: Vec<Images>,
    /// That they lie in, if they lie in one.
    archive: Option<Archive>,
}

impl Arrays {
    /// The array that holds image `i`, and its number there.
    fn locate(&self, i: usize) -> (&Images, usize) {
        let part = &self.parts[self.parts.partition_point(|part| part.first <= i) - 1];
        (part, i - part.first)
    }
}

impl Reader for Arrays {
    fn verify(&self) -> Result<(), DataError> {
        let Some(archive) = &self.archive else {
            return Ok(());
        };
        // Of those that are read in place nothing else looks at the checksum.
        let in_place = (0..archive.members().len()).filter(|member| archive.place(*member).is_some());
        let problems = in_place.filter_map(|member| archive.verify(member).err());
        DataError::all(problems.collect()).map_or(Ok(()), Err)
    }

    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let (images, at) = self.locate(i);
        let (pixels, channels) = (images.height * images.width, images.channels);
        let mut data = vec![0; pixels * channels];
        images.array.levels(at * data.len(), &mut data)?;
        if images.planes && channels > 1 {
            data = (0..pixels)
                .flat_map(|pixel| (0..channels).map(move |channel| channel * pixels + pixel))
                .map(|from| data[from])
                .collect();
        }
        Ok(Original::Pixels(Pixels {
            width: images.width,
            height: images.height,
            channels,
            data,
        }))
    }

    fn file(&self, i: usize) -> String {
        let (images, at) = self.locate(i);
        format!("{}[{at}]", images.name)
    }

    fn path(&self, i: usize) -> PathBuf {
        let (images, at) = self.locate(i);
        let mut path = images.path.clone().into_os_string();
        path.push(format!("[{at}]"));
        path.into()
    }

    fn length(&self, i: usize) -> Result<Option<u64>, DataError> {
        let (images, _) = self.locate(i);
        Ok(Some((images.height * images.width * images.channels) as u64))
    }
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let found = find(folder)?;
    let archive = match &found {
        Found::Archive(path) => Some(Archive::open(path)?),
        Found::Files(_) => None,
    };
    let known: Vec<String> = match (&found, &archive) {
        (Found::Files(files), _) => files.keys().cloned().collect(),
        (_, Some(archive)) => archive
            .members()
            .iter()
            .map(|member| array_name(&member.name))
            .collect(),
        _ => Vec::new(),
    };
    // Labels decide what the set will be, so they are held against their checksum at once.
    let open = |names: &[String], are_labels: bool| -> Result<Option<(PathBuf, NpyFile)>, DataError> {
        let Some(name) = names.iter().find(|name| known.contains(name)) else {
            return Ok(None);
        };
        let opened = match (&found, &archive) {
            (Found::Files(files), _) => (files[name].clone(), NpyFile::open(&files[name])?),
            (_, Some(archive)) => {
                let member = known.iter().position(|other| other == name).unwrap_or_default();
                if are_labels {
                    archive.verify(member)?;
                }
                member_array(archive, member)?
            }
            _ => return Ok(None),
        };
        Ok(Some(opened))
    };
    let (mut parts, mut labels, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (part, words) in PARTS {
        let [images, targets] = names_of(words);
        let (images, targets) = match (open(&images, false), open(&targets, true)) {
            (Ok(Some(images)), Ok(Some(targets))) => (images, targets),
            (Ok(None), Ok(None)) => continue,
            (Ok(Some((path, _))), Ok(None)) => {
                let what = format!("no array of its labels: `{}` is needed", targets.join("` or `"));
                problems.push(DataError::labels(&path, None, what));
                continue;
            }
            (Ok(None), Ok(Some((path, _)))) => {
                let what = format!("no array of the images: `{}` is needed", images.join("` or `"));
                problems.push(DataError::labels(&path, None, what));
                continue;
            }
            (a, b) => {
                problems.extend(a.err().into_iter().chain(b.err()));
                continue;
            }
        };
        let read = images_of(folder, images, labels.len()).and_then(|images| {
            let numbers = numbers_of(&targets)?;
            let count = images.array.shape()[0];
            if numbers.len() != count {
                return Err(DataError::CountMismatch {
                    image_file: images.path,
                    images: count,
                    label_file: targets.0,
                    labels: numbers.len(),
                });
            }
            Ok((images, numbers))
        });
        match read {
            Ok((images, numbers)) => {
                parts.push(images);
                labels.extend(numbers.into_iter().map(|label| (label, part)));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    if parts.is_empty() {
        let what = match known.as_slice() {
            [] => "no .npz and no .npy file".to_owned(),
            known => format!("only arrays `{}`", known.join("`, `")),
        };
        return Err(DataError::Missing {
            what: format!(
                "arrays of images and labels ({what} in {}; name them `train_images` and `train_labels`, `x_train` and \
                 `y_train`, or `images` and `labels`)",
                folder.display()
            ),
            alternatives: vec![folder.join("images.npy"), folder.join("x_train.npy")],
        });
    }
    let mut label_of: BTreeMap<i64, u32> = labels.iter().map(|(label, _)| (*label, 0)).collect();
    label_of.values_mut().zip(0..).for_each(|(label, rank)| *label = rank);
    Ok(Opened {
        name: "arrays",
        classes: label_of.keys().map(i64::to_string).collect(),
        attribution: "",
        entries: labels
            .into_iter()
            .map(|(label, part)| Entry {
                label: label_of[&label],
                part,
            })
            .collect(),
        reader: Box::new(Arrays { parts, archive }),
        described: "arrays of NumPy",
        notes: Vec::new(),
    })
}

/// The name by which an archive's member is asked for.
fn array_name(member: &str) -> String {
    let name = member.to_lowercase();
    name.strip_suffix(".npy").unwrap_or(&name).to_owned()
}

/// An array in an archive: where it lies, or decompressed.
fn member_array(archive: &Archive, member: usize) -> Result<(PathBuf, NpyFile), DataError> {
    let path = archive.member_path(member);
    let size = archive.members()[member].size;
    let array = match archive.place(member) {
        Some(place) => {
            let file = dynvis_base::files::open(&place.path)?.into_file();
            NpyFile::within(&path, file, place.offset, size)?
        }
        None => {
            let file = archive.unpacked(member)?;
            NpyFile::within(&path, file, 0, size)?
        }
    };
    Ok((path, array))
}

fn images_of(folder: &Path, (path, array): (PathBuf, NpyFile), first: usize) -> Result<Images, DataError> {
    let wrong = |what: String| {
        let needed = "images are unsigned bytes [N, height, width], [N, height, width, channels] or [N, channels, \
                      height, width] with 1 or 3 channels";
        DataError::damaged(&path, 0, format!("{what}; {needed}"))
    };
    if !array.has_levels() {
        return Err(wrong(format!("values of type {}", array.kind())));
    }
    let (height, width, channels, planes) = match *array.shape() {
        [_, height, width] => (height, width, 1, false),
        [_, height, width, channels @ (1 | 3)] => (height, width, channels, false),
        [_, channels @ (1 | 3), height, width] => (height, width, channels, true),
        _ => return Err(wrong(format!("an array of shape {:?}", array.shape()))),
    };
    const LARGEST: usize = 1 << 14;
    if [height, width].iter().any(|side| *side == 0 || *side > LARGEST) {
        return Err(wrong(format!("images of {height} x {width} pixels")));
    }
    Ok(Images {
        name: name_within(folder, &path),
        path,
        array,
        height,
        width,
        channels,
        planes,
        first,
    })
}

fn numbers_of((path, array): &(PathBuf, NpyFile)) -> Result<Vec<i64>, DataError> {
    match array.shape() {
        [_] | [_, 1] => array.whole_numbers(),
        shape => {
            let what = format!("an array of shape {shape:?}; labels are whole numbers [N] or [N, 1]");
            Err(DataError::damaged(path, 0, what))
        }
    }
}
