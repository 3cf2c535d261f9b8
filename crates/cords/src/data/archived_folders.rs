//! Data sets of class folders in an archive: what `image_folder` reads where it lies unpacked. Images lie in
//! `train/CLASS/`, `val/CLASS/` and `test/CLASS/`, or in folders `images` within those; flat images of `val` have their
//! classes from `val_annotations.txt`, and flat ones of `test` are passed over.

use super::DataError;
use super::archive::Archive;
use super::encoded_files::{EncodedFile, EncodedFiles, has_image_extension, is_left_behind};
use super::labels;
use super::source::{Entry, Part};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// Images of an archive.
pub(crate) struct ArchivedFolders {
    /// Names of the class folders, sorted.
    pub(crate) classes: Vec<String>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) files: EncodedFiles,
    pub(crate) notes: Vec<String>,
}

/// An image before its class has a number.
struct Found {
    part: Part,
    class: String,
    member: usize,
}

/// Lists an archive that lies in the source's folder.
pub(crate) fn open(folder: &Path, path: &Path) -> Result<ArchivedFolders, DataError> {
    let archive = Archive::open(path)?;
    let mut found = Vec::new();
    let (mut flat, mut unlabelled, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for (member, file) in archive.members().iter().enumerate() {
        let parts: Vec<&str> = file.name.split('/').collect();
        if parts.iter().any(|part| is_left_behind(part)) || !has_image_extension(&file.name) {
            continue;
        }
        let part_of = |name: &str| match name {
            "train" => Some(Part::Train),
            "val" => Some(Part::Validation),
            "test" => Some(Part::Test),
            _ => None,
        };
        // Below at most one folder with the data set's name.
        let place = parts.iter().take(2).position(|name| part_of(name).is_some());
        let inside = place.map(|place| (part_of(parts[place]), &parts[place + 1..]));
        match inside {
            Some((Some(Part::Validation), ["images", _] | [_])) => flat.push(member),
            Some((Some(Part::Test), ["images", _] | [_])) => unlabelled.push(member),
            Some((Some(part), [class, _] | [class, "images", _])) => found.push(Found {
                part,
                class: (*class).to_owned(),
                member,
            }),
            _ => elsewhere.push(file.name.to_string()),
        }
    }
    let mut notes = Vec::new();
    if !elsewhere.is_empty() {
        notes.push(format!(
            "skipped {} images outside class folders: {}",
            elsewhere.len(),
            labels::some(&elsewhere)
        ));
    }
    if !archive.passed_over().is_empty() {
        notes.push(format!(
            "skipped {} links in the archive: {}",
            archive.passed_over().len(),
            labels::some(archive.passed_over())
        ));
    }
    if !unlabelled.is_empty() {
        notes.push(format!(
            "skipped {} images in `test`, whose class is not given",
            unlabelled.len()
        ));
    }
    found.extend(annotated(&archive, flat)?);
    let classes: BTreeSet<&String> = found
        .iter()
        .filter(|image| image.part == Part::Train)
        .map(|image| &image.class)
        .collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    if classes.is_empty() {
        return Err(DataError::NoClasses {
            folder: path.join("train"),
            hint: String::new(),
        });
    }
    let label_of: HashMap<String, u32> = classes.iter().cloned().zip(0..).collect();
    // What is evaluated stands as the test part where there is no other.
    let has_test = found.iter().any(|image| image.part == Part::Test);
    let mut unknown = BTreeSet::new();
    let mut images = Vec::new();
    for Found { part, class, member } in found {
        let part = match part {
            Part::Validation if !has_test => Part::Test,
            part => part,
        };
        match label_of.get(&class) {
            Some(&label) => images.push((Entry { label, part }, member)),
            None => drop(unknown.insert(class)),
        }
    }
    let unknown = unknown.into_iter().map(|class| DataError::UnknownClass {
        folder: path.join(class),
        training: path.join("train"),
    });
    if let Some(error) = DataError::all(unknown.collect()) {
        return Err(error);
    }
    let name = |member: usize| &archive.members()[member].name;
    images.sort_by(|(a, x), (b, y)| (a.part as usize, name(*x)).cmp(&(b.part as usize, name(*y))));
    let (entries, images) = images
        .into_iter()
        .map(|(entry, member)| (entry, EncodedFile::Member { archive: 0, member }))
        .unzip();
    Ok(ArchivedFolders {
        classes,
        entries,
        files: EncodedFiles {
            root: folder.to_owned(),
            archives: vec![archive],
            images,
        },
        notes,
    })
}

/// The flat images of `val` with the classes that a table gives them.
fn annotated(archive: &Archive, flat: Vec<usize>) -> Result<Vec<Found>, DataError> {
    if flat.is_empty() {
        return Ok(Vec::new());
    }
    let table = archive
        .find("val_annotations.txt")
        .ok_or_else(|| DataError::NoClasses {
            folder: archive.path().join("val"),
            hint: format!(", but {} images lie in it", flat.len()),
        })?;
    let path = archive.member_path(table);
    let last = |member: usize| {
        let name = &archive.members()[member].name;
        name.rsplit('/').next().unwrap_or(name).to_owned()
    };
    let names: Vec<String> = flat.iter().map(|member| last(*member)).collect();
    let is_image = |text: &str| has_image_extension(text);
    let rows = labels::parse(&path, &archive.read(table)?, &is_image)?
        .ok_or_else(|| DataError::labels(&path, None, "no columns for the image's file and its class"))?;
    let (rows, _) = labels::assign(&path, &rows, &names)?;
    let found = rows.into_iter().zip(flat).map(|(row, member)| Found {
        part: Part::Validation,
        class: row.class,
        member,
    });
    Ok(found.collect())
}
