//! Folders of JPEG and PNG files, one sub-folder a class; optionally under `train/`, `val/` and `test/`. Where images
//! lie in no class folders, a table beside them gives their classes.
//!
//! Classes and files are ordered by name. What is no picture (notes, tables, `desktop.ini`, `__MACOSX`) is passed over
//! with a note, hidden files without one; a picture of another format is an error, since leaving images out changes the
//! data set.

use super::DataError;
use super::decode::{is_image, other_picture};
use super::encoded_files::{EncodedFile, EncodedFiles, has_image_extension, is_left_behind, name_within};
use super::labels::{self, Row};
use super::source::{Entry, Opened, Part, Requirement, file_name};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files of an image folder, in order.
pub(crate) struct Listing {
    classes: Vec<String>,
    images: Vec<(PathBuf, Entry)>,
    /// Tables whose labels are used.
    tables: Vec<PathBuf>,
    notes: Vec<String>,
}

impl Listing {
    /// What was passed over.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn files(self) -> Vec<PathBuf> {
        let images = self.images.into_iter().map(|(file, _)| file);
        images.chain(self.tables).collect()
    }
}

/// Opens a folder of images. Results name its files below `root`, in which it lies or which it is.
pub(crate) fn open(root: &Path, folder: &Path, table: Option<&Path>) -> Result<Opened, DataError> {
    let Listing {
        classes, images, notes, ..
    } = list(folder, table)?;
    let (images, entries) = images
        .into_iter()
        .map(|(file, entry)| (EncodedFile::File(file), entry))
        .unzip();
    Ok(Opened {
        name: "image_folder",
        classes,
        attribution: "",
        entries,
        reader: Box::new(EncodedFiles {
            root: root.to_owned(),
            archives: Vec::new(),
            images,
        }),
        described: "image folder",
        notes,
    })
}

/// What lies in a part's folder.
enum Layout {
    /// One folder a class: its name, itself, and its images.
    Classes(Vec<(String, PathBuf, Vec<PathBuf>)>),
    /// A table, and images without class folders with what it says of each.
    Table(PathBuf, Vec<(PathBuf, Row)>),
    /// Images of which nothing tells the class.
    Unlabelled(Vec<PathBuf>),
    /// No images at all.
    Empty,
}

/// Goes through folders, and collects what is wrong and what was passed over.
struct Lister<'a> {
    /// A table of labels that was named.
    table: Option<&'a Path>,
    tables: Vec<PathBuf>,
    problems: Vec<DataError>,
    passed_over: BTreeSet<PathBuf>,
    /// Files and folders that a problem was noted of: folders are looked at more than once.
    bad: BTreeSet<PathBuf>,
    notes: Vec<String>,
}

/// Lists classes and files; of images, no more than the first bytes of files with other extensions are read.
pub(crate) fn list(folder: &Path, table: Option<&Path>) -> Result<Listing, DataError> {
    Requirement {
        what: "folder of images".to_owned(),
        alternatives: vec![folder.to_owned()],
    }
    .locate()?;
    let mut lister = Lister {
        table,
        tables: Vec::new(),
        problems: Vec::new(),
        passed_over: BTreeSet::new(),
        bad: BTreeSet::new(),
        notes: Vec::new(),
    };
    let (classes, mut images) = lister.parts(folder)?;
    if let Some(error) = DataError::all(std::mem::take(&mut lister.problems)) {
        return Err(error);
    }
    if !lister.passed_over.is_empty() {
        let names: Vec<String> = lister
            .passed_over
            .iter()
            .map(|path| name_within(folder, path))
            .collect();
        let what = match names.len() {
            1 => "1 entry that is not an image".to_owned(),
            n => format!("{n} entries that are not images"),
        };
        lister.notes.push(format!("skipped {what}: {}", labels::some(&names)));
    }
    // Parts of a table are in no order of their own.
    images.sort_by_key(|(_, entry)| entry.part as usize);
    Ok(Listing {
        classes,
        images,
        tables: lister.tables,
        notes: lister.notes,
    })
}

type Labelled = (Vec<String>, Vec<(PathBuf, Entry)>);
type LabelledByTable = (PathBuf, Vec<(PathBuf, Row)>);

impl Lister<'_> {
    /// Classes and images of all parts.
    fn parts(&mut self, folder: &Path) -> Result<Labelled, DataError> {
        let training = folder.join("train");
        // A class folder holds files only, so a `train` that has folders is a part and not a class of that name.
        let is_part = training.is_dir()
            && (self.table.is_some() || !self.sorted(&training)?.0.is_empty() || !tables_in(&training)?.is_empty());
        self.passed_over.clear();
        self.problems.clear();
        self.bad.clear();
        if !is_part {
            let layout = self.layout(folder)?;
            return Ok(self.label(folder, vec![(Part::Train, folder.to_owned(), layout)]));
        }
        let mut parts = vec![(Part::Train, training.clone(), self.layout(&training)?)];
        let known = class_names(&parts[0].2);
        let mut of = |name: &str| {
            let part = folder.join(name);
            Ok::<_, DataError>(match part.is_dir() {
                true => Some((without_classes(self.layout(&part)?, &known), part)),
                false => None,
            })
        };
        let (val, mut test) = (of("val")?, of("test")?);
        // The images of a competition, whose classes nobody tells.
        if let Some((Layout::Unlabelled(images), part)) = &test {
            self.notes.push(format!(
                "skipped {} images in `{}`, whose class is not given",
                images.len(),
                name_within(folder, part)
            ));
            test = None;
        }
        if let Some((layout, root)) = val {
            let part = if test.is_some() { Part::Validation } else { Part::Test };
            parts.push((part, root, layout));
        }
        if let Some((layout, root)) = test {
            parts.push((Part::Test, root, layout));
        }
        Ok(self.label(folder, parts))
    }

    /// Classes and labels of the images of all parts; the first is the training part.
    fn label(&mut self, folder: &Path, parts: Vec<(Part, PathBuf, Layout)>) -> Labelled {
        // A set of stimuli, say: all are of one class.
        let one_class = match &parts[0] {
            (_, root, Layout::Unlabelled(images)) if root == folder => Some(images.len()),
            _ => None,
        };
        let classes = match one_class {
            Some(images) => {
                self.notes.push(format!(
                    "no classes are given for the {images} images: all are of one class, `images`"
                ));
                vec!["images".to_owned()]
            }
            None => class_names(&parts[0].2),
        };
        let training = parts[0].1.clone();
        let label_of: HashMap<String, u32> = classes.iter().cloned().zip(0..).collect();
        let mut images = Vec::new();
        for (part, root, layout) in parts {
            match layout {
                Layout::Classes(folders) => {
                    for (class, class_folder, files) in folders {
                        match label_of.get(class.as_str()) {
                            Some(&label) => {
                                images.extend(files.into_iter().map(|file| (file, Entry { label, part })));
                            }
                            None => self.problems.push(DataError::UnknownClass {
                                folder: class_folder,
                                training: training.clone(),
                            }),
                        }
                    }
                }
                Layout::Table(table, rows) => {
                    for (file, row) in rows {
                        // A table of one part says nothing of parts, or has them all in the one that is there.
                        let part = if part == Part::Train {
                            row.part.unwrap_or(part)
                        } else {
                            part
                        };
                        match label_of.get(row.class.as_str()) {
                            Some(&label) => images.push((file, Entry { label, part })),
                            None => {
                                let what = format!("class `{}` is none of the training part", row.class);
                                self.problems.push(DataError::labels(&table, Some(row.line), what));
                            }
                        }
                    }
                }
                Layout::Unlabelled(files) if one_class.is_some() => {
                    images.extend(files.into_iter().map(|file| (file, Entry { label: 0, part })));
                }
                Layout::Unlabelled(files) => {
                    let n = files.len();
                    let more = match part {
                        Part::Train => "",
                        _ => " (ImageNet's validation images must first be sorted by class, or have a table)",
                    };
                    self.problems.push(DataError::NoClasses {
                        folder: root,
                        hint: format!(", but {n} images lie in it{more}"),
                    });
                }
                Layout::Empty => self.problems.push(DataError::NoClasses {
                    folder: root,
                    hint: String::new(),
                }),
            }
        }
        (classes, images)
    }

    fn layout(&mut self, root: &Path) -> Result<Layout, DataError> {
        let (folders, files) = self.sorted(root)?;
        let flat = match folders.as_slice() {
            [] => Some(files.clone()),
            // A table that was named tells the classes of images in whatever folders.
            some if self.table.is_some() => {
                let mut images = files.clone();
                for folder in some {
                    let (nested, inside) = self.sorted(folder)?;
                    self.note_folders(&nested);
                    images.extend(inside);
                }
                Some(images)
            }
            [only] => {
                let (nested, inside) = self.sorted(only)?;
                (files.is_empty() && nested.is_empty() && !inside.is_empty()).then_some(inside)
            }
            _ => None,
        };
        if let Some(images) = flat.filter(|images| !images.is_empty()) {
            if let Some((table, rows)) = self.labelled(root, &images)? {
                return Ok(Layout::Table(table, rows));
            }
            if folders.is_empty() {
                return Ok(Layout::Unlabelled(images));
            }
        }
        if folders.is_empty() {
            return Ok(Layout::Empty);
        }
        if !files.is_empty() {
            let names: Vec<String> = files.iter().map(|file| name_within(root, file)).collect();
            self.notes.push(format!(
                "skipped {} images beside the class folders: {}",
                names.len(),
                labels::some(&names)
            ));
        }
        let mut classes = Vec::new();
        for folder in folders {
            let class = file_name(Path::new(folder.file_name().unwrap_or_default()));
            let (nested, mut images) = self.sorted(&folder)?;
            match nested.as_slice() {
                // As Tiny ImageNet has them.
                [only] if images.is_empty() && only.file_name() == Some(OsStr::new("images")) => {
                    let (deeper, inside) = self.sorted(only)?;
                    self.note_folders(&deeper);
                    images = inside;
                }
                _ => self.note_folders(&nested),
            }
            if images.is_empty() && !self.bad.iter().any(|bad| bad.starts_with(&folder)) {
                self.problems.push(DataError::EmptyClass { class, folder });
            } else {
                classes.push((class, folder, images));
            }
        }
        Ok(Layout::Classes(classes))
    }

    /// A table and what it says of images below `root`: the one that was named, or the only one that lies there and is
    /// about images.
    fn labelled(&mut self, root: &Path, images: &[PathBuf]) -> Result<Option<LabelledByTable>, DataError> {
        let names: Vec<String> = images.iter().map(|image| name_within(root, image)).collect();
        let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let mut bases: HashSet<String> = names.iter().map(|name| base(name)).collect();
        let images_alone = bases.clone();
        let is_image = |text: &str| images_alone.contains(text.rsplit('/').next().unwrap_or(text));
        // A table may name images without their extensions.
        for name in &names {
            let base = base(name);
            bases.extend(base.rsplit_once('.').map(|(stem, _)| stem.to_owned()));
        }
        let mut found = Vec::new();
        if let Some(table) = self.table {
            let rows = labels::read(table, &is_image)?.ok_or_else(|| {
                let what = "no column for the image's file (`file`) and none for its class (`class`) in the first line";
                DataError::labels(table, None, what)
            })?;
            found.push((table.to_owned(), rows));
        } else {
            for table in tables_in(root)? {
                if let Some(rows) = labels::read(&table, &is_image)?
                    && rows
                        .iter()
                        .any(|row| bases.contains(row.file.rsplit('/').next().unwrap_or(&row.file)))
                {
                    found.push((table, rows));
                }
            }
        }
        match found.as_slice() {
            [] => Ok(None),
            [(table, rows)] => {
                let (rows, unknown) = labels::assign(table, rows, &names)?;
                if unknown > 0 {
                    let table = name_within(root, table);
                    self.notes
                        .push(format!("{unknown} rows of {table} name images that are not there"));
                }
                self.passed_over.remove(table);
                self.tables.push(table.clone());
                Ok(Some((table.clone(), images.iter().cloned().zip(rows).collect())))
            }
            [(first, _), (second, _), ..] => {
                let what = format!(
                    "{} gives classes too; name the one to use as `labels`",
                    name_within(root, second)
                );
                Err(DataError::labels(first, None, what))
            }
        }
    }

    /// Sub-folders and images of a folder, each sorted by name. Hidden entries are left out, others that are no images
    /// noted, and pictures that cannot be read are problems.
    fn sorted(&mut self, folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
        let mut folders = Vec::new();
        let mut files = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let known = name.to_string_lossy();
            if known.starts_with('.') || known == "Thumbs.db" {
                continue;
            }
            // Follows links: data sets are often trees of links.
            let mut kind = entry.file_type()?;
            if kind.is_symlink() {
                match fs_err::metadata(&path) {
                    Ok(metadata) => kind = metadata.file_type(),
                    Err(_) => {
                        self.note_problem(&path, "it is a link that leads nowhere");
                        continue;
                    }
                }
            }
            if kind.is_dir() {
                match is_left_behind(&known) {
                    true => {
                        self.passed_over.insert(path);
                    }
                    false => folders.push(path),
                }
            } else if !kind.is_file() {
                self.note_problem(
                    &path,
                    &format!(
                        "it is {}",
                        dynvis_base::files::irregular(kind).unwrap_or("no regular file")
                    ),
                );
            } else if has_image_extension(&known) {
                files.push(path);
            } else {
                let mut head = Vec::new();
                dynvis_base::files::open(&path)?.take(16).read_to_end(&mut head)?;
                match other_picture(&head) {
                    _ if is_image(&head) => files.push(path),
                    Some(kind) => self.note_problem(&path, &format!("it is {kind}")),
                    None => {
                        self.passed_over.insert(path);
                    }
                }
            }
        }
        folders.sort();
        files.sort();
        Ok((folders, files))
    }

    /// Folders where images should be.
    fn note_folders(&mut self, folders: &[PathBuf]) {
        for folder in folders {
            self.note_problem(folder, "it is a folder");
        }
    }

    /// Once for every file, however often it is met.
    fn note_problem(&mut self, path: &Path, found: &str) {
        if self.bad.insert(path.to_owned()) {
            self.problems.push(DataError::NotAnImage {
                file: path.to_owned(),
                found: found.to_owned(),
            });
        }
    }
}

/// The tables in a folder that are not hidden, sorted.
fn tables_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut tables = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let (path, hidden) = (entry.path(), entry.file_name().as_encoded_bytes().starts_with(b"."));
        if labels::is_table(&path) && !hidden && path.is_file() {
            tables.push(path);
        }
    }
    tables.sort();
    Ok(tables)
}

/// The classes that a training part has, in label order.
fn class_names(training: &Layout) -> Vec<String> {
    match training {
        Layout::Classes(folders) => folders.iter().map(|(class, ..)| class.clone()).collect(),
        Layout::Table(_, images) => labels::classes(&images.iter().map(|(_, row)| row).collect::<Vec<_>>()),
        Layout::Unlabelled(_) | Layout::Empty => Vec::new(),
    }
}

/// The layout of another part than the training part. As Tiny ImageNet has them, a single folder `images` is no class,
/// unless the training part has a class of that name.
fn without_classes(layout: Layout, known: &[String]) -> Layout {
    let is_no_class = |folders: &[(String, PathBuf, Vec<PathBuf>)]| match folders {
        [(class, ..)] => class == "images" && !known.contains(class),
        _ => false,
    };
    match layout {
        Layout::Classes(mut folders) if is_no_class(&folders) => Layout::Unlabelled(folders.remove(0).2),
        other => other,
    }
}
