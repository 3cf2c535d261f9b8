//! Imagenette: ten classes of ImageNet, from the .tgz as it is or the folder that it unpacks to.

use super::DataError;
use super::source::{Opened, Requirement};
use super::{archived_folders, image_folder};
use std::path::{Path, PathBuf};

/// The three sizes that are published, the largest first.
const SIZES: [&str; 3] = ["imagenette2", "imagenette2-320", "imagenette2-160"];

/// Names of the class folders, and what is in them.
const CLASSES: [(&str, &str); 10] = [
    ("n01440764", "tench"),
    ("n02102040", "English springer"),
    ("n02979186", "cassette player"),
    ("n03000684", "chain saw"),
    ("n03028079", "church"),
    ("n03394916", "French horn"),
    ("n03417042", "garbage truck"),
    ("n03425413", "gas pump"),
    ("n03445777", "golf ball"),
    ("n03888257", "parachute"),
];

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    let bare = [folder.join("train")];
    let unpacked = SIZES.iter().map(|size| folder.join(size).join("train"));
    let archives = SIZES.iter().map(|size| folder.join(format!("{size}.tgz")));
    vec![Requirement {
        what: "Imagenette (folder or .tgz)".to_owned(),
        alternatives: bare.into_iter().chain(unpacked).chain(archives).collect(),
    }]
}

/// The archive, or the folder above `train`.
fn located(folder: &Path) -> Result<(PathBuf, bool), DataError> {
    let found = requirements(folder)[0].locate()?;
    match found.parent() {
        Some(above) if found.ends_with("train") => Ok((above.to_owned(), false)),
        _ => Ok((found, true)),
    }
}

pub(crate) fn inputs(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    match located(folder)? {
        (archive, true) => Ok(vec![archive]),
        (unpacked, false) => Ok(image_folder::list(&unpacked, None)?.files()),
    }
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let opened = match located(folder)? {
        (archive, true) => {
            let found = archived_folders::open(folder, &archive)?;
            Opened {
                name: "",
                classes: found.classes,
                attribution: "",
                entries: found.entries,
                reader: Box::new(found.files),
                described: "",
                notes: found.notes,
            }
        }
        (unpacked, false) => image_folder::open(folder, &unpacked, None)?,
    };
    let readable = |class: String| match CLASSES.iter().find(|(wnid, _)| *wnid == class) {
        Some((_, name)) => (*name).to_owned(),
        None => class,
    };
    Ok(Opened {
        name: "imagenette",
        classes: opened.classes.into_iter().map(readable).collect(),
        attribution: "J. Howard: Imagenette, fast.ai 2019, Apache License 2.0; images from ImageNet",
        described: "Imagenette",
        ..opened
    })
}
