//! Folders of JPEG and PNG files, one sub-folder a class; optionally under `train/`, `val/` and `test/`.
//!
//! Classes and files are ordered by name. Hidden files (`.DS_Store` and the like) and `Thumbs.db` are passed over;
//! anything else that is not an image is an error.

use super::DataError;
use super::decode::{Pixels, decode};
use super::source::{Entry, Opened, Part, Reader, Requirement};
use std::path::{Path, PathBuf};

/// The files of an image folder, in order.
pub(crate) struct Listing {
    classes: Vec<String>,
    images: Vec<(PathBuf, Entry)>,
}

impl Listing {
    pub(crate) fn files(self) -> Vec<PathBuf> {
        self.images.into_iter().map(|(file, _)| file).collect()
    }
}

struct Folder {
    files: Vec<PathBuf>,
}

impl Reader for Folder {
    fn pixels(&self, i: usize) -> Result<Pixels, DataError> {
        let file = &self.files[i];
        decode(file, &crate::files::read(file)?)
    }
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let Listing { classes, images } = list(folder)?;
    let (files, entries) = images.into_iter().unzip();
    Ok(Opened {
        name: "image_folder",
        classes,
        attribution: "",
        entries,
        reader: Box::new(Folder { files }),
    })
}

/// Lists classes and files; reads no image.
pub(crate) fn list(folder: &Path) -> Result<Listing, DataError> {
    Requirement {
        what: "folder of images".to_owned(),
        alternatives: vec![folder.to_owned()],
    }
    .locate()?;
    // A class folder holds files only, so a `train` that has folders is a part and not a class of that name.
    let training = folder.join("train");
    let parts = if training.is_dir() && !sorted(&training)?.0.is_empty() {
        let (val, test) = (folder.join("val"), folder.join("test"));
        let mut parts = vec![(Part::Train, training)];
        if val.is_dir() {
            parts.push((if test.is_dir() { Part::Validation } else { Part::Test }, val));
        }
        if test.is_dir() {
            parts.push((Part::Test, test));
        }
        parts
    } else {
        vec![(Part::Train, folder.to_owned())]
    };

    let mut classes: Vec<String> = Vec::new();
    let mut images = Vec::new();
    for (part, root) in &parts {
        let (class_folders, files) = sorted(root)?;
        if class_folders.is_empty() {
            let hint = match (part, files.len()) {
                (_, 0) => String::new(),
                (Part::Train, n) => format!(", but {n} files lie directly in it"),
                (_, n) => format!(
                    ", but {n} files lie directly in it (ImageNet's validation images must first be sorted by class)"
                ),
            };
            return Err(DataError::NoClasses {
                folder: root.clone(),
                hint,
            });
        }
        if *part == Part::Train {
            classes = class_folders.iter().map(|folder| name(folder)).collect();
        }
        for class_folder in class_folders {
            let class = name(&class_folder);
            let label = classes.binary_search(&class).map_err(|_| DataError::UnknownClass {
                folder: class_folder.clone(),
                training: parts[0].1.clone(),
            })?;
            let (nested, files) = sorted(&class_folder)?;
            if let Some(nested) = nested.into_iter().next() {
                return Err(DataError::NotAnImage {
                    file: nested,
                    found: "it is a folder".to_owned(),
                });
            }
            if files.is_empty() {
                return Err(DataError::EmptyClass {
                    class,
                    folder: class_folder,
                });
            }
            images.extend(files.into_iter().map(|file| {
                (
                    file,
                    Entry {
                        label: label as u32,
                        part: *part,
                    },
                )
            }));
        }
    }
    Ok(Listing { classes, images })
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Sub-folders and files of a folder, each sorted by name; hidden ones left out.
fn sorted(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let mut folders = Vec::new();
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = name(&path);
        if name.starts_with('.') || name == "Thumbs.db" {
            continue;
        }
        // Follows links: data sets are often trees of links.
        if path.is_dir() {
            folders.push(path)
        } else {
            files.push(path)
        }
    }
    folders.sort_by_key(|path| name(path));
    files.sort_by_key(|path| name(path));
    Ok((folders, files))
}
