//! Tiny ImageNet: 200 classes of ImageNet at 64 x 64 pixels, from the .zip as it is or the folder that it unpacks to.
//! The images of `val` are the test part, since nobody tells the classes of those of `test`.

use super::DataError;
use super::archive::Archive;
use super::source::{Opened, Requirement, read_file};
use super::{archived_folders, image_folder};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const NAME: &str = "tiny-imagenet-200";
/// The lists of classes, and of the names of all synsets of WordNet.
const LISTS: [&str; 2] = ["wnids.txt", "words.txt"];

pub(crate) fn requirements(folder: &Path) -> Vec<Requirement> {
    vec![Requirement {
        what: "Tiny ImageNet (folder or .zip)".to_owned(),
        alternatives: vec![
            folder.join("train"),
            folder.join(NAME).join("train"),
            folder.join(format!("{NAME}.zip")),
        ],
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
        (unpacked, false) => {
            let lists = LISTS.iter().map(|name| unpacked.join(name));
            let lists = lists.filter(|path| path.exists());
            Ok(image_folder::list(&unpacked, None)?
                .files()
                .into_iter()
                .chain(lists)
                .collect())
        }
    }
}

pub(crate) fn open(folder: &Path) -> Result<Opened, DataError> {
    let (opened, lists) = match located(folder)? {
        (archive, true) => {
            let found = archived_folders::open(folder, &archive)?;
            let lists = LISTS.map(|name| list_in(&found.files.archives[0], name));
            let opened = Opened {
                name: "",
                classes: found.classes,
                attribution: "",
                entries: found.entries,
                reader: Box::new(found.files),
                described: "",
                notes: found.notes,
            };
            (opened, lists)
        }
        (unpacked, false) => {
            let list = |name: &str| {
                let path = unpacked.join(name);
                let bytes = path.exists().then(|| read_file(&path)).transpose()?;
                Ok(bytes.map(|bytes| (path, bytes)))
            };
            (image_folder::open(folder, &unpacked, None)?, LISTS.map(list))
        }
    };
    let [wnids, words] = lists;
    if let Some((path, bytes)) = wnids? {
        check_classes(&path, &bytes, &opened.classes)?;
    }
    let words = words?.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Opened {
        name: "tiny_imagenet",
        classes: names(opened.classes, &words.unwrap_or_default()),
        attribution: "Stanford CS231n: Tiny ImageNet, 2015; images from ImageNet",
        described: "Tiny ImageNet",
        ..opened
    })
}

/// Name and content of a list, where there is one.
type List = Result<Option<(PathBuf, Vec<u8>)>, DataError>;

fn list_in(archive: &Archive, name: &str) -> List {
    let member = archive.find(name);
    let read = |member: usize| Ok((archive.member_path(member), archive.read(member)?));
    member.map(read).transpose()
}

/// That the list of classes names the folders that there are.
fn check_classes(path: &Path, list: &[u8], classes: &[String]) -> Result<(), DataError> {
    let text = String::from_utf8_lossy(list);
    let mut listed: Vec<&str> = text.split_whitespace().collect();
    listed.sort_unstable();
    let missing: Vec<&&str> = listed
        .iter()
        .filter(|wnid| !classes.iter().any(|class| class == **wnid))
        .collect();
    let more: Vec<&String> = classes
        .iter()
        .filter(|class| listed.binary_search(&class.as_str()).is_err())
        .collect();
    let mut problems = Vec::new();
    if let Some(first) = missing.first() {
        let what = format!(
            "{} classes have no folder in `train`, the first being {first}",
            missing.len()
        );
        problems.push(DataError::labels(
            path,
            None,
            what + "; unpack or download the set again",
        ));
    }
    if let Some(first) = more.first() {
        let what = format!(
            "{} folders of `train` are not in this list, the first being {first}",
            more.len()
        );
        problems.push(DataError::labels(path, None, what));
    }
    DataError::all(problems).map_or(Ok(()), Err)
}

/// The first word that `words.txt` (lines of synset, tab, words) has for each class, with the synset where several
/// classes have that word; the synset alone where it has none.
pub(super) fn names(wnids: Vec<String>, words: &str) -> Vec<String> {
    let words: HashMap<&str, &str> = words
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(wnid, words)| (wnid, words.split(',').next().unwrap_or(words).trim()))
        .collect();
    let word = |wnid: &String| words.get(wnid.as_str()).copied().filter(|word| !word.is_empty());
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for word in wnids.iter().filter_map(word) {
        *uses.entry(word).or_default() += 1;
    }
    let name = |wnid: &String| match word(wnid) {
        Some(word) if uses[word] == 1 => word.to_owned(),
        Some(word) => format!("{word} ({wnid})"),
        None => wnid.clone(),
    };
    wnids.iter().map(name).collect()
}
