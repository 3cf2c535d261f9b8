//! Data sets that are divided into many files of one kind, in order of their names, and what they have in common.

use super::source::{Entry, Part, Requirement, read_file};
use super::{DataError, labels};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of a folder (or else of its folder `data`) and of their folders that are named after parts, whose names
/// end so; training first, each part sorted by name. The part is told by the folder's or file's name; others are
/// training images.
pub(super) fn list(folder: &Path, endings: &[&str]) -> Result<Vec<(Part, PathBuf)>, DataError> {
    let is_wanted = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        !name.starts_with('.') && endings.iter().any(|ending| name.ends_with(ending)) && path.is_file()
    };
    let mut found = Vec::new();
    if folder.is_dir() {
        found = of_folder(folder, &is_wanted)?;
        if found.is_empty() && folder.join("data").is_dir() {
            found = of_folder(&folder.join("data"), &is_wanted)?;
        }
    }
    found.sort_by(|(a, x), (b, y)| (*a as usize, x).cmp(&(*b as usize, y)));
    match found.as_slice() {
        [] => Err(missing(folder, endings)),
        _ => Ok(found),
    }
}

/// What a source of such files needs.
pub(super) fn requirement(folder: &Path, endings: &[&str]) -> Requirement {
    Requirement {
        what: format!("folder of files `{}`", endings.join("`, `")),
        alternatives: vec![folder.to_owned()],
    }
}

fn missing(folder: &Path, endings: &[&str]) -> DataError {
    let ending = endings.first().unwrap_or(&"");
    DataError::Missing {
        what: format!("files `{}` of images", endings.join("`, `")),
        alternatives: ["train-00000", "train/00000"]
            .map(|name| folder.join(format!("{name}{ending}")))
            .into(),
    }
}

fn of_folder(folder: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<(Part, PathBuf)>, DataError> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_wanted(&path) {
            found.push((part_of(&name).unwrap_or(Part::Train), path));
        } else if let Some(part) = part_of(&name).filter(|_| path.is_dir()) {
            for entry in fs_err::read_dir(&path)? {
                let path = entry?.path();
                if is_wanted(&path) {
                    found.push((part, path));
                }
            }
        }
    }
    Ok(found)
}

/// The part that the first such word of a name tells.
fn part_of(name: &str) -> Option<Part> {
    let name = name.to_lowercase();
    name.split(|c: char| !c.is_ascii_alphabetic())
        .find_map(|word| match word {
            "train" | "training" => Some(Part::Train),
            "val" | "valid" | "validation" => Some(Part::Validation),
            "test" => Some(Part::Test),
            _ => None,
        })
}

/// Where nothing is for testing, what is for validation is.
pub(super) fn test_what_is_there(entries: &mut [Entry]) {
    if entries.iter().any(|entry| entry.part == Part::Test) {
        return;
    }
    for entry in entries {
        if entry.part == Part::Validation {
            entry.part = Part::Test;
        }
    }
}

/// Names of classes in order of label, and the label of what images call their classes. Where all are called by whole
/// numbers, those are labels from 0 on if there is a list of names (a text file with one a line), and in order of number
/// otherwise; other classes are in order of name.
pub(super) fn classes<'a>(
    called: impl Iterator<Item = &'a String>,
    list: Option<&Path>,
) -> Result<(Vec<String>, BTreeMap<String, u32>), DataError> {
    let called: BTreeSet<&String> = called.collect();
    let numbers: Option<Vec<(u32, &String)>> = called
        .iter()
        .map(|class| class.parse::<u32>().ok().map(|number| (number, *class)))
        .collect();
    let Some(numbers) = numbers else {
        let label_of = called.iter().map(|class| (*class).clone()).zip(0..).collect();
        return Ok((called.into_iter().cloned().collect(), label_of));
    };
    let Some(path) = list else {
        // `7` and `007` are one class.
        let ranks: BTreeSet<u32> = numbers.iter().map(|(number, _)| *number).collect();
        let rank: BTreeMap<u32, u32> = ranks.iter().copied().zip(0..).collect();
        let label_of = numbers.iter().map(|(number, class)| ((*class).clone(), rank[number]));
        return Ok((ranks.iter().map(u32::to_string).collect(), label_of.collect()));
    };
    let text = String::from_utf8_lossy(&read_file(path)?).into_owned();
    let lines = text.lines().map(|line| line.trim().to_owned());
    let names: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    let largest = numbers.iter().map(|(number, _)| *number).max().unwrap_or(0);
    if largest as usize >= names.len() {
        let what = format!(
            "{} names, and an image is of class {largest}, counted from 0",
            names.len()
        );
        return Err(DataError::labels(path, None, what));
    }
    check_names(path, &names)?;
    let label_of = numbers
        .into_iter()
        .map(|(number, class)| (class.clone(), number))
        .collect();
    Ok((names, label_of))
}

/// That no two classes have one name.
pub(super) fn check_names(path: &Path, names: &[String]) -> Result<(), DataError> {
    let mut seen = BTreeSet::new();
    let twice: Vec<&String> = names.iter().filter(|name| !seen.insert(*name)).collect();
    if twice.is_empty() {
        return Ok(());
    }
    let what = format!("names of classes that stand twice: {}", labels::some(&twice));
    Err(DataError::labels(path, None, what))
}
