//! ImageNet (ILSVRC 2012), from the archives as they are published or from folders of their files.
//!
//! Training images lie in `ILSVRC2012_img_train.tar`, an archive of one archive for each synset, or in `train/SYNSET/`;
//! validation images in `ILSVRC2012_img_val.tar` or flat in `val/`, with their classes in the devkit
//! (`ILSVRC2012_devkit_t12.tar.gz` or the folder that it unpacks to), or in `val/SYNSET/`. Classes are the synsets in
//! order of name, which is torchvision's order; the devkit's ILSVRC2012_ID has another one, and its `meta.mat` tells
//! which synset that is.

use super::DataError;
use super::archive::Archive;
use super::encoded_files::{EncodedFile, EncodedFiles, has_image_extension};
use super::image_folder::{self, Heads};
use super::matlab::{self, Values};
use super::source::{Entry, Opened, Part, Requirement, read_file};
use dynvis_base::FileList;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const TRAIN: &str = "ILSVRC2012_img_train.tar";
const VALIDATION: &str = "ILSVRC2012_img_val.tar";
const DEVKIT: &str = "ILSVRC2012_devkit_t12";
const META: &str = "meta.mat";
const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
/// Bytes of `meta.mat`'s variable; that of 2012 has under a million.
const LARGEST_META: u64 = 64 << 20;

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    let requirement = |what: &str, names: [String; 2]| Requirement {
        what: what.to_owned(),
        alternatives: names.map(|name| folder.join(name)).into(),
    };
    let mut all = vec![
        requirement("ImageNet's training images", [TRAIN.to_owned(), "train".to_owned()]),
        requirement(
            "ImageNet's validation images",
            [VALIDATION.to_owned(), "val".to_owned()],
        ),
    ];
    if needs_devkit(folder) {
        let names = [format!("{DEVKIT}.tar.gz"), DEVKIT.to_owned()];
        all.push(requirement(
            "ImageNet's development kit (classes of the validation images)",
            names,
        ));
    }
    all
}

/// Whether the classes of the validation images are told by the devkit alone.
fn needs_devkit(folder: &Path) -> bool {
    let has_folders = || {
        let entries = std::fs::read_dir(folder.join("val")).into_iter().flatten().flatten();
        entries
            .into_iter()
            .any(|entry| is_synset(&entry.file_name().to_string_lossy()) && entry.path().is_dir())
    };
    folder.join(VALIDATION).exists() || !has_folders()
}

fn is_synset(name: &str) -> bool {
    let digits = name.strip_prefix('n').unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where each of the required things lies.
struct Located {
    train: PathBuf,
    validation: PathBuf,
    devkit: Option<PathBuf>,
}

fn locate(folder: &Path) -> Result<Located, DataError> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for requirement in requirements(folder) {
        match requirement.locate() {
            Ok(path) => found.push(path),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    let mut found = found.into_iter();
    let (Some(train), Some(validation)) = (found.next(), found.next()) else {
        return Err(DataError::option("source", "no files of ImageNet are asked for"));
    };
    Ok(Located {
        train,
        validation,
        devkit: found.next(),
    })
}

/// Images that lie in folders, and all other files that are read.
pub(crate) fn inputs(folder: &Path, heads: &mut Heads<'_>) -> Result<(FileList, Vec<PathBuf>), DataError> {
    let located = locate(folder)?;
    let (mut images, mut files) = (FileList::new(folder), Vec::new());
    for (path, archive) in [(&located.train, TRAIN), (&located.validation, VALIDATION)] {
        if path.ends_with(archive) {
            files.push(path.clone());
        } else {
            let (listed, tables) = image_folder::list_with(path, None, heads)?.lists();
            images.append(listed.below(folder));
            files.extend(tables);
        }
    }
    match located.devkit {
        Some(devkit) if devkit.is_dir() => files.extend([META, TRUTH].map(|name| devkit.join("data").join(name))),
        Some(devkit) => files.push(devkit),
        None => {}
    }
    Ok((images, files))
}

/// The synset that the place of an image tells, if it does, and the name of its file.
fn described<'a>(image: &'a EncodedFile, archives: &'a [Archive]) -> (Option<Cow<'a, str>>, Cow<'a, str>) {
    match image {
        EncodedFile::File(path) => {
            let above = path
                .parent()
                .and_then(Path::file_name)
                .unwrap_or_default()
                .to_string_lossy();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (Some(above).filter(|above| is_synset(above)), name)
        }
        EncodedFile::Member { archive, member } => {
            let name = &*archives[*archive].members()[*member].name;
            let (above, name) = name.rsplit_once('/').unwrap_or(("", name));
            let above = above.rsplit('/').next().filter(|above| is_synset(above));
            (above.map(Cow::Borrowed), Cow::Borrowed(name))
        }
    }
}

/// The images of an archive, or of a folder with or without folders of synsets, in order of synset and name.
fn images(
    path: &Path,
    is_train: bool,
    archives: &mut Vec<Archive>,
    notes: &mut Vec<String>,
) -> Result<Vec<EncodedFile>, DataError> {
    if path.is_dir() {
        let listing = image_folder::list(path, None)?;
        let listed = listing.notes().to_vec();
        let images: Vec<EncodedFile> = listing.files().into_iter().map(EncodedFile::File).collect();
        // Of flat images it says that they have no classes.
        if images.iter().any(|image| described(image, archives).0.is_some()) {
            notes.extend(listed);
        }
        return Ok(images);
    }
    let archive = Archive::open(path)?;
    archives.push(if is_train { archive.flattened()? } else { archive });
    let archive = archives.len() - 1;
    let members = archives[archive].members().len();
    let images = (0..members).map(|member| EncodedFile::Member { archive, member });
    let mut images: Vec<EncodedFile> = images
        .filter(|image| {
            let (_, name) = described(image, archives);
            has_image_extension(&name) && !name.starts_with('.')
        })
        .collect();
    images.sort_by(|a, b| described(a, archives).cmp(&described(b, archives)));
    let skipped = members - images.len() + archives[archive].passed_over().len();
    if skipped > 0 {
        let name = path.file_name().unwrap_or_default().display();
        notes.push(format!("skipped {skipped} members of {name} that are not images"));
    }
    Ok(images)
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let located = locate(folder)?;
    let (mut archives, mut notes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = |path: &Path, is_train: bool| {
        images(path, is_train, &mut archives, &mut notes).map_err(|problem| problems.push(problem))
    };
    let (train, validation) = (read(&located.train, true), read(&located.validation, false));
    let devkit = match located.devkit.as_deref().map(Devkit::read).transpose() {
        Ok(devkit) => devkit,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    let (train, validation) = (train.unwrap_or_default(), validation.unwrap_or_default());
    let mut classes: Vec<String> = Vec::new();
    for synset in train.iter().filter_map(|image| described(image, &archives).0) {
        if classes.last().is_none_or(|last| *last != synset) {
            classes.push(synset.into_owned());
        }
    }
    classes.sort();
    classes.dedup();
    if classes.is_empty() {
        return Err(DataError::NoClasses {
            folder: located.train,
            hint: String::new(),
        });
    }
    let label_of: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    let mut problems = Vec::new();
    let mut entries = Vec::with_capacity(train.len() + validation.len());
    let mut images = Vec::with_capacity(train.len() + validation.len());
    let mut outside = 0;
    for image in train {
        let synset = described(&image, &archives).0;
        match synset.and_then(|synset| label_of.get(&*synset).copied()) {
            Some(label) => {
                let part = Part::Train;
                entries.push(Entry { label, part });
                images.push(image);
            }
            None => outside += 1,
        }
    }
    if outside > 0 {
        notes.push(format!(
            "skipped {outside} training images outside the synsets' archives or folders"
        ));
    }
    let count = validation.len();
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for image in validation {
        let synset = match (described(&image, &archives), &devkit) {
            ((Some(synset), _), _) => Ok(synset.into_owned()),
            ((None, name), Some(devkit)) => devkit.synset(&name),
            ((None, name), None) => Err(format!("`{name}` lies in no synset's folder")),
        };
        match synset {
            Ok(synset) => match label_of.get(synset.as_str()) {
                Some(&label) => {
                    let part = Part::Test;
                    entries.push(Entry { label, part });
                    images.push(image);
                }
                None => *unknown.entry(synset).or_default() += 1,
            },
            Err(what) => {
                let path = devkit.as_ref().map_or(&located.validation, |devkit| &devkit.truth_path);
                problems.push(DataError::labels(path, None, what));
            }
        }
    }
    if let Some(devkit) = devkit.as_ref().filter(|devkit| devkit.truth.len() != count) {
        // A part of the images has labels all the same.
        notes.push(format!(
            "{count} validation images, and {} in the devkit's list",
            devkit.truth.len()
        ));
    }
    problems.extend(unknown.into_iter().map(|(synset, images)| {
        let what = format!("{images} validation images are of {synset}, and no training images are");
        DataError::labels(&located.train, None, what)
    }));
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    Ok(Opened {
        name: "imagenet",
        classes,
        attribution: "O. Russakovsky, J. Deng, H. Su and others: ImageNet Large Scale Visual Recognition Challenge, \
                      2015",
        entries,
        reader: Box::new(EncodedFiles {
            root: folder.to_owned(),
            archives,
            images,
        }),
        described: "ImageNet, ILSVRC 2012",
        notes,
    })
}

/// What the development kit tells of the validation images.
struct Devkit {
    truth_path: PathBuf,
    /// ILSVRC2012_ID of each image, from image 1 on.
    truth: Vec<u32>,
    synset_of: BTreeMap<u32, String>,
}

impl Devkit {
    /// Reads the archive or the folder that it unpacks to.
    fn read(path: &Path) -> Result<Self, DataError> {
        let [(meta_path, meta), (truth_path, truth)] = if path.is_dir() {
            let read = |name: &str| {
                let path = path.join("data").join(name);
                read_file(&path).map(|bytes| (path, bytes))
            };
            [read(META)?, read(TRUTH)?]
        } else {
            let archive = Archive::open(path)?;
            let read = |name: &str| {
                let member = archive
                    .find(name)
                    .ok_or_else(|| DataError::damaged(path, 0, format!("the archive has no member `{name}`")))?;
                Ok::<_, DataError>((archive.member_path(member), archive.read(member)?))
            };
            [read(META)?, read(TRUTH)?]
        };
        Ok(Self {
            synset_of: synsets(&meta_path, &meta)?,
            truth: numbers(&truth_path, &truth)?,
            truth_path,
        })
    }

    /// The synset of a validation image by its number, the last digits of its file's name.
    fn synset(&self, name: &str) -> Result<String, String> {
        let stem = name.split('.').next().unwrap_or(name);
        let digits = stem.rsplit('_').next().unwrap_or(stem);
        let number: usize = digits
            .parse()
            .map_err(|_| format!("`{name}` is not called as validation images are (ILSVRC2012_val_00000001.JPEG)"))?;
        let id = number.checked_sub(1).and_then(|at| self.truth.get(at));
        let id = id.ok_or_else(|| format!("no line {number}, for `{name}`: {} lines", self.truth.len()))?;
        let synset = self.synset_of.get(id);
        synset
            .cloned()
            .ok_or_else(|| format!("line {number}: no synset has the ILSVRC2012_ID {id}"))
    }
}

/// The ids of the list of validation images, one a line.
fn numbers(path: &Path, text: &[u8]) -> Result<Vec<u32>, DataError> {
    let text = String::from_utf8_lossy(text);
    let number = |(line, text): (usize, &str)| {
        let wrong = || DataError::labels(path, Some(line as u64 + 1), format!("`{text}` is not a whole number"));
        text.trim().parse().map_err(|_| wrong())
    };
    text.trim_end().lines().enumerate().map(number).collect()
}

/// Synsets by ILSVRC2012_ID, of those that images belong to.
fn synsets(path: &Path, bytes: &[u8]) -> Result<BTreeMap<u32, String>, DataError> {
    let variables = matlab::read(path, bytes, &["synsets"], LARGEST_META)?;
    let variable = variables
        .first()
        .ok_or_else(|| DataError::damaged(path, 0, "no variable `synsets`"))?;
    let array = variable.array()?;
    let wrong = |what: &str| variable.wrong(what.to_owned());
    let Values::Structs(fields, values) = &array.values else {
        return Err(wrong("it is no struct"));
    };
    let field = |name: &str| {
        let at = fields.iter().position(|field| field == name);
        at.ok_or_else(|| wrong(&format!("no field `{name}`")))
    };
    let (id, synset) = (field("ILSVRC2012_ID")?, field("WNID")?);
    let mut synset_of = BTreeMap::new();
    for values in values.chunks_exact(fields.len()) {
        let number = variable.whole_numbers(&values[id]).unwrap_or_default();
        let (&[number], Values::Text(synset)) = (number.as_slice(), &values[synset].values) else {
            return Err(wrong("an ILSVRC2012_ID is no number, or a WNID no text"));
        };
        let number = u32::try_from(number).map_err(|_| wrong(&format!("ILSVRC2012_ID {number}")))?;
        if !is_synset(synset) {
            return Err(wrong(&format!("WNID `{synset}`")));
        }
        if let Some(other) = synset_of.insert(number, synset.clone()) {
            return Err(wrong(&format!("{other} and {synset} have the ILSVRC2012_ID {number}")));
        }
    }
    Ok(synset_of)
}
