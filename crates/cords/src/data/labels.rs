//! Tables that give images their classes, and parts if need be: CSV with commas, semicolons or tabs, as stimulus sets,
//! Tiny ImageNet and Kaggle's ImageNet have them.

use super::DataError;
use super::source::{Part, read_file};
use std::collections::HashMap;
use std::path::Path;

/// Names of the column that names the image, without regard to case.
const FILE: [&str; 21] = [
    "file",
    "filename",
    "file_name",
    "image",
    "image_name",
    "image_file",
    "image_file_name",
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
    parse(path, &read_file(path)?, is_image)
}

/// The rows of a table of stimuli, which names their files; where it has no column of classes, all are of one class,
/// `images`.
pub(super) fn stimuli(path: &Path) -> Result<Vec<Row>, DataError> {
    let rows = parse_with(path, &read_file(path)?, &|_| false, Some("images"))?;
    rows.ok_or_else(|| {
        let what = "no column for the image's file (such as `filename` or `stimulus_id`) in the first line";
        DataError::labels(path, None, what)
    })
}

/// The rows of a table with this content.
pub(super) fn parse(path: &Path, bytes: &[u8], is_image: &dyn Fn(&str) -> bool) -> Result<Option<Vec<Row>>, DataError> {
    parse_with(path, bytes, is_image, None)
}

/// As [`parse`]; `only_class` is the class of all where no column has classes.
fn parse_with(
    path: &Path,
    bytes: &[u8],
    is_image: &dyn Fn(&str) -> bool,
    only_class: Option<&str>,
) -> Result<Option<Vec<Row>>, DataError> {
    let text = std::str::from_utf8(bytes)
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
        let line = error.position().map(|at| Lines::default().of(text, at));
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
        (Some(file), Some(class)) => (file, Some(class), column(&SPLIT), None),
        (Some(file), None) if only_class.is_some() => (file, None, column(&SPLIT), None),
        _ if header.len() >= 2 && is_image(&header[0]) => (0, Some(1), None, Some(header.clone())),
        _ => return Ok(None),
    };
    let kaggle = class
        .and_then(|class| header.get(class))
        .is_some_and(|title| title.eq_ignore_ascii_case("PredictionString"));
    let mut rows = Vec::new();
    let mut lines = Lines::default();
    for record in headless.into_iter().map(Ok).chain(records) {
        let record = record.map_err(damaged)?;
        let line = record.position().map_or(1, |at| lines.of(text, at));
        if record.iter().all(str::is_empty) {
            continue;
        }
        let field = |column: usize| record.get(column).filter(|field| !field.is_empty());
        let missing = |what: &str| DataError::labels(path, Some(line), format!("no {what}"));
        let class = match class {
            Some(class) => field(class).ok_or_else(|| missing("class"))?,
            None => only_class.unwrap_or_default(),
        };
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

/// Numbers of lines. The reader of CSV counts one too few where lines end with a carriage return and a line feed: a
/// record begins with the line feed before it there.
#[derive(Default)]
struct Lines {
    /// Bytes that were looked at, and line feeds among them.
    seen: usize,
    feeds: u64,
}

impl Lines {
    /// The line, from 1, in which a record begins; records come in their order.
    fn of(&mut self, text: &str, at: &csv::Position) -> u64 {
        let start = at.byte() as usize;
        let ends = text[start..].bytes().take_while(|byte| b"\r\n".contains(byte));
        let begin = start + ends.count();
        self.feeds += memchr::memchr_iter(b'\n', &text.as_bytes()[self.seen.min(begin)..begin]).count() as u64;
        self.seen = begin;
        self.feeds + 1
    }
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

/// Images by what a table may name them by: their paths in their folder, or else their files' names or those without
/// extensions, where only one image has it.
struct Names<'a> {
    by_path: HashMap<&'a str, usize>,
    /// `None` where several images have the name.
    by_name: HashMap<&'a str, Option<usize>>,
}

impl<'a> Names<'a> {
    fn of(images: &'a [String]) -> Self {
        let by_path = images.iter().map(String::as_str).zip(0..).collect();
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
        Self { by_path, by_name }
    }

    /// The image that a row of a table is about, if there is one.
    fn find(&self, table: &Path, row: &Row) -> Result<Option<usize>, DataError> {
        let name = row.file.strip_prefix("./").unwrap_or(&row.file);
        match (self.by_path.get(name), self.by_name.get(name)) {
            (Some(image), _) | (None, Some(Some(image))) => Ok(Some(*image)),
            (None, Some(None)) => {
                let what = format!("several images are called `{name}`; name them by their paths in the folder");
                Err(DataError::labels(table, Some(row.line), what))
            }
            (None, None) => Ok(None),
        }
    }
}

/// That two rows about one image agree.
fn check_same(table: &Path, row: &Row, before: &Row) -> Result<(), DataError> {
    if (&before.class, before.part) == (&row.class, row.part) {
        return Ok(());
    }
    let name = row.file.strip_prefix("./").unwrap_or(&row.file);
    let what = format!("`{name}` is of another class or part here than in line {}", before.line);
    Err(DataError::labels(table, Some(row.line), what))
}

/// The row of each image, and how many rows name no image.
pub(super) fn assign(path: &Path, rows: &[Row], images: &[String]) -> Result<(Vec<Row>, usize), DataError> {
    let names = Names::of(images);
    let mut assigned: Vec<Option<&Row>> = vec![None; images.len()];
    let mut unknown = 0;
    for row in rows {
        match names.find(path, row)? {
            Some(image) => {
                if let Some(other) = assigned[image] {
                    check_same(path, row, other)?;
                }
                assigned[image] = Some(row);
            }
            None => unknown += 1,
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

/// The image of each row, once for each image, in the order of the rows. Rows that name no image are problems.
pub(super) fn images_of_rows<'a>(
    path: &Path,
    rows: &'a [Row],
    images: &[String],
) -> Result<Vec<(&'a Row, usize)>, DataError> {
    let names = Names::of(images);
    let mut first: HashMap<usize, &Row> = HashMap::new();
    let (mut found, mut missing, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match names.find(path, row) {
            Ok(Some(image)) => match first.get(&image) {
                Some(before) => problems.extend(check_same(path, row, before).err()),
                None => {
                    first.insert(image, row);
                    found.push((row, image));
                }
            },
            Ok(None) => missing.push(&row.file),
            Err(problem) => problems.push(problem),
        }
    }
    if !missing.is_empty() {
        let what = format!(
            "{} rows name images that are not there: {}",
            missing.len(),
            some(&missing)
        );
        problems.push(DataError::labels(path, None, what));
    }
    DataError::all(problems).map_or(Ok(found), Err)
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
