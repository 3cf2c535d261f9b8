//! Stimulus sets: images in a folder or a .zip, and beside them a CSV that has a row for each, as Brain-Score packages
//! them. The CSV names the images in a column such as `filename`, `image_file_name`, `stimulus_id` or `image_id`, and
//! their classes, if they have any, in one such as `object_name`, `category_name` or `label`.
//!
//! Images are in the order of the CSV's rows.

use super::DataError;
use super::archive::Archive;
use super::encoded_files::{EncodedFile, EncodedFiles, has_image_extension, is_left_behind, name_within};
use super::labels::{self, Row};
use super::source::{Entry, Opened, Part, Requirement};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub(crate) fn requirements(folder: &Path, table: Option<&Path>) -> Vec<Requirement> {
    let folder = Requirement {
        what: "folder of stimuli".to_owned(),
        alternatives: vec![folder.to_owned()],
    };
    let table = table.map(|table| Requirement {
        what: "table of stimuli".to_owned(),
        alternatives: vec![table.to_owned()],
    });
    [folder].into_iter().chain(table).collect()
}

/// The images, by what a table may name them, and the table.
struct Found {
    table: PathBuf,
    archive: Option<PathBuf>,
    /// Files in the folder and the folders in it, sorted.
    files: Vec<PathBuf>,
}

fn find(folder: &Path, table: Option<&Path>) -> Result<Found, DataError> {
    for requirement in requirements(folder, table) {
        requirement.locate()?;
    }
    let (mut tables, mut archives, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut look = vec![(folder.to_owned(), true)];
    while let Some((inside, is_top)) = look.pop() {
        for entry in fs_err::read_dir(inside)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_left_behind(&name) {
                continue;
            }
            if path.is_dir() {
                if is_top {
                    look.push((path, false));
                }
            } else if has_image_extension(&name) {
                files.push(path);
            } else if is_top && labels::is_table(&path) {
                tables.push(path);
            } else if is_top && name.to_lowercase().ends_with(".zip") {
                archives.push(path);
            }
        }
    }
    files.sort();
    let one = |mut found: Vec<PathBuf>, what: &str| {
        found.sort();
        match found.as_slice() {
            [] | [_] => Ok(found.pop()),
            [first, second, ..] => {
                let what = format!("{} and {} lie side by side; {what}", first.display(), second.display());
                Err(DataError::option("source", what))
            }
        }
    };
    let table = match table {
        Some(table) => Some(table.to_owned()),
        None => one(tables, "name the table as `labels`")?,
    };
    let table = table.ok_or_else(|| DataError::Missing {
        what: "table of stimuli (CSV)".to_owned(),
        alternatives: vec![folder.join("stimuli.csv")],
    })?;
    let archive = match files.as_slice() {
        [] => one(archives, "give each set of stimuli a folder of its own")?,
        _ => None,
    };
    Ok(Found { table, archive, files })
}

pub(crate) fn inputs(folder: &Path, table: Option<&Path>) -> Result<Vec<PathBuf>, DataError> {
    let found = find(folder, table)?;
    Ok(found
        .files
        .into_iter()
        .chain(found.archive)
        .chain([found.table])
        .collect())
}

pub(crate) fn open(folder: &Path, table: Option<&Path>) -> Result<Opened, DataError> {
    let found = find(folder, table)?;
    let archive = found.archive.as_deref().map(Archive::open).transpose()?;
    let mut notes = Vec::new();
    let (names, mut places): (Vec<String>, Vec<Option<EncodedFile>>) = match &archive {
        Some(archive) => {
            let images = archive
                .members()
                .iter()
                .enumerate()
                .filter(|(_, file)| has_image_extension(&file.name) && !file.name.split('/').any(is_left_behind));
            let place = |(member, file): (usize, &super::archive::Member)| {
                (file.name.to_string(), Some(EncodedFile::Member { archive: 0, member }))
            };
            images.map(place).unzip()
        }
        None => {
            let place = |file: &PathBuf| (name_within(folder, file), Some(EncodedFile::File(file.clone())));
            found.files.iter().map(place).unzip()
        }
    };
    if names.is_empty() {
        return Err(DataError::Missing {
            what: "images of stimuli".to_owned(),
            alternatives: vec![folder.join("stimuli.zip"), folder.join("stimulus.png")],
        });
    }
    let rows = labels::stimuli(&found.table)?;
    let mut entries = Vec::new();
    let mut images = Vec::new();
    let classes = labels::classes(&rows.iter().collect::<Vec<&Row>>());
    let label_of: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    for (row, image) in labels::images_of_rows(&found.table, &rows, &names)? {
        images.extend(places[image].take());
        entries.push(Entry {
            label: label_of[row.class.as_str()],
            part: row.part.unwrap_or(Part::Train),
        });
    }
    let more = places.iter().flatten().count();
    if more > 0 {
        notes.push(format!("skipped {more} images that the table does not name"));
    }
    // Parts are in order, as in every source.
    let mut all: Vec<(Entry, EncodedFile)> = entries.into_iter().zip(images).collect();
    all.sort_by_key(|(entry, _)| entry.part as usize);
    let (entries, images) = all.into_iter().unzip();
    Ok(Opened {
        name: "stimuli",
        classes,
        attribution: "",
        entries,
        reader: Box::new(EncodedFiles {
            root: folder.to_owned(),
            archives: archive.into_iter().collect(),
            images,
        }),
        described: "stimulus set",
        notes,
    })
}
