//! WebDataset: tar archives (.tar, .tar.gz, .tgz) whose members are grouped by name: an image `KEY.jpg`, `KEY.jpeg` or
//! `KEY.png`, and its class in `KEY.cls` (a number or a name) or in `KEY.json` (its field `label`, `cls` or `class`).
//! The key is the name up to the first dot of its last part.
//!
//! Archives are taken in order of their names, and images in that of the archives. The part is told by the folder
//! below the source's (`train/`, `val/` or `validation/`, `test/`) or by such a word in the archive's name; others are
//! training images. Class names come from `classnames.txt` or `classes.txt` beside the archives, one a line in order of
//! number, where there is one.

use super::archive::Archive;
use super::encoded_files::{EncodedFile, EncodedFiles};
use super::source::{Entry, Opened, Part, Requirement};
use super::{DataError, labels, shards};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Files with names of classes.
const NAMES: [&str; 2] = ["classnames.txt", "classes.txt"];

const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    vec![shards::requirement(folder, &ENDINGS)]
}

fn class_names(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

pub(crate) fn inputs(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let archives = shards::list(folder, &ENDINGS)?.into_iter().map(|(_, path)| path);
    Ok(archives.chain(class_names(folder)).collect())
}

/// What the members of a key hold.
#[derive(Default)]
struct Sample {
    image: Option<usize>,
    class: Option<usize>,
    json: Option<usize>,
}

/// Members that are images, each with what its class is called.
type Labelled = Vec<(usize, String)>;

/// The images of an archive in its order, and names of samples that have a class and no image.
fn samples(archive: &Archive) -> Result<(Labelled, Vec<String>), DataError> {
    let mut order: Vec<&str> = Vec::new();
    let mut by_key: HashMap<&str, Sample> = HashMap::new();
    let mut problems = Vec::new();
    for (member, file) in archive.members().iter().enumerate() {
        let base = file.name.rfind('/').map_or(0, |slash| slash + 1);
        if file.name[base..].starts_with('.') {
            continue;
        }
        let Some(dot) = file.name[base..].find('.') else {
            continue;
        };
        let (key, extension) = (&file.name[..base + dot], file.name[base + dot + 1..].to_lowercase());
        let sample = by_key.entry(key).or_insert_with(|| {
            order.push(key);
            Sample::default()
        });
        let slot = match extension.as_str() {
            "jpg" | "jpeg" | "png" => &mut sample.image,
            "cls" => &mut sample.class,
            "json" => &mut sample.json,
            _ => continue,
        };
        if let Some(other) = slot.replace(member) {
            let what = format!(
                "its sample has two such members; the other is {}",
                archive.members()[other].name
            );
            problems.push(DataError::labels(&archive.member_path(member), None, what));
        }
    }
    let (mut samples, mut without) = (Vec::new(), Vec::new());
    for key in order {
        let Some(image) = by_key[key].image else {
            if by_key[key].class.is_some() || by_key[key].json.is_some() {
                let name = archive.path().file_name().unwrap_or_default();
                without.push(format!("{}/{key}", name.display()));
            }
            continue;
        };
        match class_of(archive, key, &by_key[key]) {
            Ok(class) => samples.push((image, class)),
            Err(problem) => problems.push(problem),
        }
    }
    DataError::all(problems).map_or(Ok((samples, without)), Err)
}

fn class_of(archive: &Archive, key: &str, sample: &Sample) -> Result<String, DataError> {
    const LARGEST: u64 = 16 << 20;
    let content = |member: usize| {
        let path = archive.member_path(member);
        if archive.members()[member].size > LARGEST {
            let what = format!("{} bytes, too many for a label", archive.members()[member].size);
            return Err(DataError::labels(&path, None, what));
        }
        let text = String::from_utf8(archive.read(member)?);
        let text = text.map_err(|_| DataError::labels(&path, None, "not UTF-8 text"))?;
        Ok((path, text))
    };
    if let Some(member) = sample.class {
        let (path, text) = content(member)?;
        return match text.trim() {
            "" => Err(DataError::labels(&path, None, "no class: the member is empty")),
            class => Ok(class.to_owned()),
        };
    }
    let Some(member) = sample.json else {
        let what = format!("no class for this image: neither `{key}.cls` nor `{key}.json` is in the archive");
        return Err(DataError::labels(&archive.path().join(key), None, what));
    };
    let (path, text) = content(member)?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| DataError::labels(&path, Some(error.line() as u64), format!("no JSON ({error})")))?;
    let field = ["label", "cls", "class"].iter().find_map(|name| value.get(name));
    match field {
        Some(serde_json::Value::String(class)) if !class.is_empty() => Ok(class.clone()),
        Some(serde_json::Value::Number(class)) if class.is_i64() || class.is_u64() => Ok(class.to_string()),
        _ => {
            let what = "no field `label` (or `cls` or `class`) with a whole number or a name";
            Err(DataError::labels(&path, None, what))
        }
    }
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let paths = shards::list(folder, &ENDINGS)?;
    let read = |(part, path): &(Part, PathBuf)| {
        let archive = Archive::open(path)?;
        let samples = samples(&archive)?;
        Ok((*part, archive, samples))
    };
    let read: Vec<Result<_, DataError>> = paths.par_iter().map(read).collect();
    let (mut archives, mut images, mut found, mut problems) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut without: Vec<String> = Vec::new();
    for result in read {
        match result {
            Ok((part, archive, (samples, none))) => {
                without.extend(none);
                for (member, class) in samples {
                    let archive = archives.len();
                    images.push(EncodedFile::Member { archive, member });
                    found.push((part, class));
                }
                archives.push(archive);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(error) = DataError::all(problems) {
        return Err(error);
    }
    if images.is_empty() {
        return Err(DataError::Missing {
            what: format!(
                "images: the {} archives have no members KEY.jpg, KEY.jpeg or KEY.png",
                archives.len()
            ),
            alternatives: paths.into_iter().map(|(_, path)| path).take(1).collect(),
        });
    }
    let mut notes = Vec::new();
    if !without.is_empty() {
        notes.push(format!(
            "skipped {} samples with a class and without KEY.jpg, KEY.jpeg or KEY.png: {}",
            without.len(),
            labels::some(&without)
        ));
    }
    let called = found.iter().map(|(_, class)| class);
    let (classes, label_of) = shards::classes(called, class_names(folder).as_deref())?;
    let entry = |(part, class): (Part, String)| Entry {
        label: label_of[&class],
        part,
    };
    let mut entries: Vec<Entry> = found.into_iter().map(entry).collect();
    shards::test_what_is_there(&mut entries);
    Ok(Opened {
        name: "webdataset",
        classes,
        attribution: "",
        entries,
        reader: Box::new(EncodedFiles {
            root: folder.to_owned(),
            archives,
            images,
        }),
        described: "WebDataset",
        notes,
    })
}
