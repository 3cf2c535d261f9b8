//! Tables that give images their classes, and parts if need be: CSV with commas, semicolons or tabs, as stimulus sets,
//! Tiny ImageNet and Kaggle's ImageNet have them.

use super::DataError;
use super::source::{Part, read_file};
use std::collections::HashMap;
use std::path::Path;

/// Names of the column that names the image, without regard to case.
const FILE: [&str; 20] = [
    "file",
    "filename",
    "file_name",
    "image",
    "image_name",
    "image_file",
    "imagename",
    "path",
    "filepath",
    "file_path",
    "image_path",
    "stimulus",
    "stimulus_name",
    "stimulus_id",
    "image_id",
    "imageid",
    "img",
    "name",
    "id",
    "fname",
];

/// Names of the column that names the class.
const CLASS: [&str; 13] = [
    "class",
    "label",
    "category",
    "class_name",
    "classname",
    "label_name",
    "category_name",
    "object_name",
    "object",
    "target",
    "synset",
    // Kaggle's ImageNet: the class, then the boxes.
    "predictionstring",
    "y",
];

/// Names of the column that names the part.
const SPLIT: [&str; 4] = ["split", "part", "subset", "set"];

/// What a table says of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The image's name as the table has it.
    pub(super) file: String,
    pub(super) class: String,
    pub(super) part: Option<Part>,
    /// Line of the table, from 1.
    pub(super) line: u64,
}

/// Whether a file's name is that of a table.
pub(super) fn is_table(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| extension == "csv" || extension == "tsv")
        || path.file_name().is_some_and(|name| name == "val_annotations.txt")
}

/// The rows of a table; `None` where it has no column of images and none of classes, so that it is about something
/// else. `is_image` tells whether a text names an image: a table whose first row does has no header, and its first two
/// columns are image and class.
pub(super) fn read(path: &Path, is_image: &dyn Fn(&str) -> bool) -> Result<Option<Vec<Row>>, DataError> {
    let bytes = read_file(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| DataError::labels(path, None, "not UTF-8 text; save it as UTF-8 or remove it"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().next().unwrap_or_default();
    let delimiter = [b',', b';', b'\t']
        .into_iter()
        .max_by_key(|delimiter| {
            (
                first.bytes().filter(|byte| byte == delimiter).count(),
                *delimiter == b',',
            )
        })
        .unwrap_or(b',');
    let mut records = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes())
        .into_records();
    let damaged = |error: csv::Error| {
        let line = error.position().map(csv::Position::line);
        DataError::labels(path, line, format!("no CSV ({error})"))
    };
    let Some(header) = records.next().transpose().map_err(damaged)? else {
        return Ok(None);
    };
    let column = |names: &[&str]| {
        let at = |name: &&str| header.iter().position(|title| title.eq_ignore_ascii_case(name));
        names.iter().find_map(at)
    };
    let (file, class, split, headless) = match (column(&FILE), column(&CLASS)) {
        (Some(file), Some(class)) => (file, class, column(&SPLIT), None),
        _ if header.len() >= 2 && is_image(&header[0]) => (0, 1, None, Some(header.clone())),
        _ => return Ok(None),
    };
    let kaggle = header
        .get(class)
        .is_some_and(|title| title.eq_ignore_ascii_case("PredictionString"));
    let mut rows = Vec::new();
    for record in headless.into_iter().map(Ok).chain(records) {
        let record = record.map_err(damaged)?;
        let line = record.position().map_or(1, csv::Position::line);
        if record.iter().all(str::is_empty) {
            continue;
        }
        let field = |column: usize| record.get(column).filter(|field| !field.is_empty());
        let missing = |what: &str| DataError::labels(path, Some(line), format!("no {what}"));
        let class = field(class).ok_or_else(|| missing("class"))?;
        let class = if kaggle {
            class.split(' ').next().unwrap_or(class)
        } else {
            class
        };
        rows.push(Row {
            file: field(file).ok_or_else(|| missing("name of an image"))?.to_owned(),
            class: class.to_owned(),
            part: split
                .map(|split| part(path, line, record.get(split).unwrap_or_default()))
                .transpose()?,
            line,
        });
    }
    Ok(Some(rows))
}

fn part(path: &Path, line: u64, name: &str) -> Result<Part, DataError> {
    match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Ok(Part::Train),
        "val" | "valid" | "validation" | "dev" => Ok(Part::Validation),
        "test" | "testing" => Ok(Part::Test),
        _ => Err(DataError::labels(
            path,
            Some(line),
            format!("`{name}` is not a split: train, validation and test are"),
        )),
    }
}

/// The row of each image, by what a table may name it by: its path in its folder, or else its file's name or that
/// without its extension, where only one image has it. Also how many rows name no image.
pub(super) fn assign(path: &Path, rows: &[Row], images: &[String]) -> Result<(Vec<Row>, usize), DataError> {
    let by_path: HashMap<&str, usize> = images.iter().map(String::as_str).zip(0..).collect();
    // `None` where several images have the name.
    let mut by_name: HashMap<&str, Option<usize>> = HashMap::new();
    for (image, name) in images.iter().enumerate() {
        let base = name.rsplit('/').next().unwrap_or(name);
        let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
        for name in [base, stem] {
            by_name
                .entry(name)
                .and_modify(|found| *found = found.filter(|other| *other == image))
                .or_insert(Some(image));
        }
    }
    let mut assigned: Vec<Option<&Row>> = vec![None; images.len()];
    let mut unknown = 0;
    for row in rows {
        let name = row.file.strip_prefix("./").unwrap_or(&row.file);
        let image = match (by_path.get(name), by_name.get(name)) {
            (Some(image), _) | (None, Some(Some(image))) => *image,
            (None, Some(None)) => {
                let what = format!("several images are called `{name}`; name them by their paths in the folder");
                return Err(DataError::labels(path, Some(row.line), what));
            }
            (None, None) => {
                unknown += 1;
                continue;
            }
        };
        match assigned[image] {
            Some(other) if (&other.class, other.part) != (&row.class, row.part) => {
                let what = format!("`{name}` is of another class or part here than in line {}", other.line);
                return Err(DataError::labels(path, Some(row.line), what));
            }
            _ => assigned[image] = Some(row),
        }
    }
    let without: Vec<&String> = (assigned.iter().zip(images))
        .filter_map(|(row, name)| row.is_none().then_some(name))
        .collect();
    if !without.is_empty() {
        let what = format!("{} images have no row: {}", without.len(), some(&without));
        return Err(DataError::labels(path, None, what));
    }
    Ok((assigned.into_iter().flatten().cloned().collect(), unknown))
}

/// The first few of many names.
pub(super) fn some<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    if names.len() > SHOWN { shown + ", ..." } else { shown }
}

/// Class names in label order: by number where all are whole numbers, by name otherwise.
pub(super) fn classes(rows: &[&Row]) -> Vec<String> {
    let mut names: Vec<&String> = rows.iter().map(|row| &row.class).collect();
    names.sort();
    names.dedup();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().ok());
    }
    names.into_iter().cloned().collect()
}
