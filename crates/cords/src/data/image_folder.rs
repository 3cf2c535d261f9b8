//! Folders of JPEG and PNG files, one sub-folder a class; optionally under `train/`, `val/` and `test/`. Where images
//! lie in no class folders, a table beside them gives their classes.
//!
//! Classes and files are ordered by name. What is no picture (notes, tables, `desktop.ini`, `__MACOSX`) is passed over
//! with a note, hidden files without one; a picture of another format is an error, since leaving images out changes the
//! data set.

use super::decode::{is_image, other_picture};
use super::encoded_files::{has_image_extension, is_left_behind, name_within};
use super::labels::{self, Row};
use super::source::{
    Entry, ImageSource, Opened, Original, Part, Place, Reader, Requirement, SourceName, file_name, read_file,
};
use super::{DataError, imagenet};
use dynvis_base::{FileList, Head};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Puts a list in order and gives the first bytes of its files.
pub(crate) type Heads<'a> = dyn FnMut(&mut FileList) -> std::io::Result<Vec<Head>> + 'a;

/// The files of an image folder.
pub(crate) struct Listing {
    classes: Vec<String>,
    /// The images in order.
    images: FileList,
    /// Of each image.
    entries: Vec<Entry>,
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
        let (images, tables) = self.lists();
        (0..images.len()).map(|i| images.path(i)).chain(tables).collect()
    }

    /// The images, and tables whose labels are used.
    pub(crate) fn lists(self) -> (FileList, Vec<PathBuf>) {
        (self.images, self.tables)
    }
}

impl ImageSource {
    /// The files of the source's folder that are read: those that lie in it, and tables that lie elsewhere. A million
    /// files of an image folder take about 50 MB of memory. `heads` puts a list in order and gives the first bytes of
    /// its files; files with the extension of an image are not among those that it is asked for.
    ///
    /// # Errors
    /// What is wrong with the folder or its table.
    pub fn folder_files(&self, heads: &mut Heads<'_>) -> Result<(FileList, Vec<PathBuf>), DataError> {
        let (mut files, others) = match self.name {
            SourceName::ImageFolder => list_with(&self.path, self.labels.as_deref(), heads)?.lists(),
            SourceName::Imagenet => imagenet::inputs(&self.path, heads)?,
            _ => (FileList::new(&self.path), self.input_files()?),
        };
        let mut elsewhere = Vec::new();
        let mut last: Option<(&Path, usize)> = None;
        for file in &others {
            let within = file.strip_prefix(&self.path).ok();
            let (Some(above), Some(name)) = (within.and_then(Path::parent), file.file_name()) else {
                elsewhere.push(file.clone());
                continue;
            };
            let folder = match last {
                Some((folder, number)) if folder == above => number,
                _ => files.add_folder(above),
            };
            last = Some((above, folder));
            files.push(folder, name);
        }
        Ok((files, elsewhere))
    }
}

struct Folder {
    /// What stands before a file's name within the folder in results.
    prefix: String,
    files: FileList,
}

impl Reader for Folder {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        Ok(Original::Encoded(read_file(&self.files.path(i))?.into()))
    }

    fn file(&self, i: usize) -> String {
        format!("{}{}", self.prefix, self.files.within(i))
    }

    fn path(&self, i: usize) -> PathBuf {
        self.files.path(i)
    }

    fn place(&self, i: usize) -> Option<Place> {
        Some(Place {
            path: self.files.path(i),
            offset: 0,
            length: None,
        })
    }
}

/// Opens a folder of images. Results name its files below `root`, in which it lies or which it is.
pub(crate) fn open(root: &Path, folder: &Path, table: Option<&Path>) -> Result<Opened, DataError> {
    let Listing {
        classes,
        images,
        entries,
        notes,
        ..
    } = list(folder, table)?;
    Ok(Opened {
        name: "image_folder",
        classes,
        attribution: "",
        entries,
        reader: Box::new(Folder {
            prefix: match name_within(root, folder) {
                within if within.is_empty() => within,
                within => format!("{within}/"),
            },
            files: images,
        }),
        described: "image folder",
        notes,
    })
}

/// What lies in a part's folder.
enum Layout {
    /// One folder a class: its name, itself, and its images.
    Classes(Vec<(String, PathBuf, FileList)>),
    /// A table, and images without class folders with what it says of each.
    Table(PathBuf, FileList, Vec<Row>),
    /// Images of which nothing tells the class.
    Unlabelled(FileList),
    /// No images at all.
    Empty,
}

/// Goes through folders, and collects what is wrong and what was passed over.
struct Lister<'a> {
    /// The folder that is listed.
    folder: &'a Path,
    heads: &'a mut Heads<'a>,
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
    list_with(folder, table, &mut read_heads)
}

/// First bytes of files of a list that is put in order.
pub(crate) fn read_heads(files: &mut FileList) -> std::io::Result<Vec<Head>> {
    files.sort();
    let head = |i| Head::read(&files.path(i));
    // The first error in the order of the files, whichever thread met one first.
    let heads: Vec<_> = (0..files.len()).into_par_iter().map(head).collect();
    heads.into_iter().collect()
}

pub(crate) fn list_with(folder: &Path, table: Option<&Path>, heads: &mut Heads<'_>) -> Result<Listing, DataError> {
    Requirement {
        what: "folder of images".to_owned(),
        alternatives: vec![folder.to_owned()],
    }
    .locate()?;
    let mut heads = |files: &mut FileList| heads(files);
    let mut lister = Lister {
        folder,
        heads: &mut heads,
        table,
        tables: Vec::new(),
        problems: Vec::new(),
        passed_over: BTreeSet::new(),
        bad: BTreeSet::new(),
        notes: Vec::new(),
    };
    let (classes, mut images, mut entries) = lister.parts(folder)?;
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
    if !entries.is_sorted_by_key(|entry| entry.part as usize) {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|i| entries[*i].part as usize);
        entries = order.iter().map(|i| entries[*i]).collect();
        images = images.reordered(&order);
    }
    Ok(Listing {
        classes,
        images,
        entries,
        tables: lister.tables,
        notes: lister.notes,
    })
}

/// Classes, and images with what is known of each.
type Labelled = (Vec<String>, FileList, Vec<Entry>);

/// What lies in a folder.
struct Contents {
    /// Folders, sorted by name.
    folders: Vec<PathBuf>,
    /// Images, sorted by name.
    files: FileList,
    /// What cannot be read, and what it is instead.
    problems: Vec<(PathBuf, String)>,
    passed_over: Vec<PathBuf>,
}

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
        let mut images = FileList::new(folder);
        let mut entries = Vec::new();
        for (part, root, layout) in parts {
            match layout {
                Layout::Classes(folders) => {
                    for (class, class_folder, files) in folders {
                        match label_of.get(class.as_str()) {
                            Some(&label) => {
                                entries.extend(std::iter::repeat_n(Entry { label, part }, files.len()));
                                images.append(files);
                            }
                            None => self.problems.push(DataError::UnknownClass {
                                folder: class_folder,
                                training: training.clone(),
                            }),
                        }
                    }
                }
                Layout::Table(table, files, rows) => {
                    let mut labelled = Vec::new();
                    for (i, row) in rows.iter().enumerate() {
                        // A table of one part says nothing of parts, or has them all in the one that is there.
                        let part = if part == Part::Train {
                            row.part.unwrap_or(part)
                        } else {
                            part
                        };
                        match label_of.get(row.class.as_str()) {
                            Some(&label) => {
                                labelled.push(i);
                                entries.push(Entry { label, part });
                            }
                            None => {
                                let what = format!("class `{}` is none of the training part", row.class);
                                self.problems.push(DataError::labels(&table, Some(row.line), what));
                            }
                        }
                    }
                    images.append(files.reordered(&labelled));
                }
                Layout::Unlabelled(files) if one_class.is_some() => {
                    entries.extend(std::iter::repeat_n(Entry { label: 0, part }, files.len()));
                    images.append(files);
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
        (classes, images, entries)
    }

    fn layout(&mut self, root: &Path) -> Result<Layout, DataError> {
        let (folders, files) = self.sorted(root)?;
        let flat = match folders.as_slice() {
            [] => Some(files.clone()),
            // A table that was named tells the classes of images in whatever folders.
            some if self.table.is_some() => {
                let mut images = files.clone();
                for contents in self.contents(some)? {
                    let (nested, inside) = self.noted(contents);
                    self.note_folders(&nested);
                    images.append(inside);
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
                return Ok(Layout::Table(table, images, rows));
            }
            if folders.is_empty() {
                return Ok(Layout::Unlabelled(images));
            }
        }
        if folders.is_empty() {
            return Ok(Layout::Empty);
        }
        if !files.is_empty() {
            let names: Vec<String> = (0..files.len()).map(|i| name_within(root, &files.path(i))).collect();
            self.notes.push(format!(
                "skipped {} images beside the class folders: {}",
                names.len(),
                labels::some(&names)
            ));
        }
        let all = self.contents(&folders)?;
        // As Tiny ImageNet has them.
        let inner = |contents: &Contents| match contents.folders.as_slice() {
            [only] if contents.files.is_empty() && only.file_name() == Some(OsStr::new("images")) => Some(only.clone()),
            _ => None,
        };
        let inner_folders: Vec<PathBuf> = all.iter().filter_map(inner).collect();
        let mut inner_contents = self.contents(&inner_folders)?.into_iter();
        let mut classes = Vec::new();
        for (folder, contents) in folders.into_iter().zip(all) {
            let class = file_name(Path::new(folder.file_name().unwrap_or_default()));
            let has_inner = inner(&contents).is_some();
            let (mut nested, mut images) = self.noted(contents);
            if has_inner && let Some(contents) = inner_contents.next() {
                (nested, images) = self.noted(contents);
            }
            self.note_folders(&nested);
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
    fn labelled(&mut self, root: &Path, images: &FileList) -> Result<Option<(PathBuf, Vec<Row>)>, DataError> {
        let tables = match self.table {
            Some(_) => Vec::new(),
            None => tables_in(root)?,
        };
        if self.table.is_none() && tables.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = (0..images.len()).map(|i| name_within(root, &images.path(i))).collect();
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
            for table in tables {
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
                Ok(Some((table.clone(), rows)))
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
    fn sorted(&mut self, folder: &Path) -> Result<(Vec<PathBuf>, FileList), DataError> {
        let contents = self.contents(&[folder.to_owned()])?.pop();
        Ok(contents.map_or_else(Default::default, |contents| self.noted(contents)))
    }

    /// What lies in folders, side by side.
    fn contents(&mut self, folders: &[PathBuf]) -> Result<Vec<Contents>, DataError> {
        let root = self.folder;
        let read: Vec<_> = folders.par_iter().map(|folder| Entries::of(root, folder)).collect();
        // The first error in the order of the folders, whichever thread met one first.
        let mut read: Vec<Entries> = read.into_iter().collect::<Result<_, _>>()?;
        let mut unknown = FileList::new(root);
        for (folder, entries) in folders.iter().zip(&read) {
            let number = unknown.add_folder(within(root, folder));
            entries.unknown.iter().for_each(|name| unknown.push(number, name));
        }
        if !unknown.is_empty() {
            let heads = (self.heads)(&mut unknown)?;
            for (i, head) in heads.iter().enumerate() {
                let entries = &mut read[unknown.folder_of(i)];
                match other_picture(head.bytes()) {
                    _ if is_image(head.bytes()) => {
                        let name = OsStr::from_bytes(unknown.name(i).to_bytes());
                        entries.images.push(0, name);
                    }
                    Some(kind) => entries.problems.push((unknown.path(i), format!("it is {kind}"))),
                    None => entries.passed_over.push(unknown.path(i)),
                }
            }
        }
        let contents = |mut entries: Entries| {
            if !entries.unknown.is_empty() {
                entries.images.sort_names();
            }
            entries.folders.sort_unstable();
            entries.problems.sort_unstable();
            Contents {
                folders: entries.folders,
                files: entries.images,
                problems: entries.problems,
                passed_over: entries.passed_over,
            }
        };
        Ok(read.into_iter().map(contents).collect())
    }

    /// Takes up what is wrong with a folder and what was passed over in it; gives its folders and images.
    fn noted(&mut self, contents: Contents) -> (Vec<PathBuf>, FileList) {
        for (path, found) in contents.problems {
            self.note_problem(&path, &found);
        }
        self.passed_over.extend(contents.passed_over);
        (contents.folders, contents.files)
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

fn within<'p>(folder: &Path, path: &'p Path) -> &'p Path {
    path.strip_prefix(folder).unwrap_or(path)
}

/// What a folder's entries are, as far as their names and types tell.
#[derive(Default)]
struct Entries {
    folders: Vec<PathBuf>,
    /// Images, sorted by name.
    images: FileList,
    /// Files whose first bytes tell whether they are images.
    unknown: Vec<OsString>,
    problems: Vec<(PathBuf, String)>,
    passed_over: Vec<PathBuf>,
}

impl Entries {
    /// Of a folder, which lies below `root`.
    fn of(root: &Path, folder: &Path) -> std::io::Result<Self> {
        let mut found = Self::default();
        let mut images = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") || name == "Thumbs.db" {
                continue;
            }
            // Follows links: data sets are often trees of links.
            let mut kind = entry.file_type()?;
            if kind.is_symlink() {
                match fs_err::metadata(entry.path()) {
                    Ok(metadata) => kind = metadata.file_type(),
                    Err(_) => {
                        let what = "it is a link that leads nowhere".to_owned();
                        found.problems.push((entry.path(), what));
                        continue;
                    }
                }
            }
            if kind.is_dir() {
                match is_left_behind(&name.to_string_lossy()) {
                    true => found.passed_over.push(entry.path()),
                    false => found.folders.push(entry.path()),
                }
            } else if !kind.is_file() {
                let what = dynvis_base::files::irregular(kind).unwrap_or("no regular file");
                found.problems.push((entry.path(), format!("it is {what}")));
            } else if has_image_extension(&name.to_string_lossy()) {
                images.push(name);
            } else {
                found.unknown.push(name);
            }
        }
        images.sort_unstable();
        found.images = FileList::new(root);
        let number = found.images.add_folder(within(root, folder));
        images.iter().for_each(|name| found.images.push(number, name));
        found.images.shrink_to_fit();
        Ok(found)
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
        Layout::Table(_, _, rows) => labels::classes(&rows.iter().collect::<Vec<_>>()),
        Layout::Unlabelled(_) | Layout::Empty => Vec::new(),
    }
}

/// The layout of another part than the training part. As Tiny ImageNet has them, a single folder `images` is no class,
/// unless the training part has a class of that name.
fn without_classes(layout: Layout, known: &[String]) -> Layout {
    let is_no_class = |folders: &[(String, PathBuf, FileList)]| match folders {
        [(class, ..)] => class == "images" && !known.contains(class),
        _ => false,
    };
    match layout {
        Layout::Classes(mut folders) if is_no_class(&folders) => Layout::Unlabelled(folders.remove(0).2),
        other => other,
    }
}
