//! Many files of one folder and those below it, held compactly: names end to end, and 8 bytes a file.

use std::cmp::Ordering;
use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::files;

/// Files below one folder. Each has a name within that folder, written so that two names are never written alike
/// ([`write_name`]).
#[derive(Clone, Debug, Default)]
pub struct FileList {
    root: PathBuf,
    folders: Vec<Folder>,
    files: Vec<Place>,
    /// Whether some name is written in another way than it is.
    has_odd_names: bool,
}

/// A folder of a list.
#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    /// How it is written, with a slash at its end; empty for the folder that the list is of.
    written: Vec<u8>,
    /// Of its files, each ended by a zero byte, which no name of a file holds.
    names: Vec<u8>,
}

/// Where a file's name stands. There are fewer folders, and fewer bytes in the names of one, than these can count:
/// a list of 2^32 folders would take more memory than machines have, and a folder's names beyond that begin another
/// entry of the same folder.
#[derive(Clone, Copy, Debug)]
struct Place {
    folder: u32,
    start: u32,
}

impl FileList {
    /// An empty list of files below a folder.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            ..Self::default()
        }
    }

    /// The folder that all files lie below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a folder, by its path within the list's folder (empty for that itself), and gives its number for
    /// [`push`](Self::push).
    pub fn add_folder(&mut self, within: &Path) -> usize {
        let bytes = within.as_os_str().as_bytes();
        let mut written = Vec::new();
        write_name(bytes, &mut written);
        self.has_odd_names |= written != bytes;
        if !written.is_empty() {
            written.push(b'/');
        }
        let path = match bytes {
            [] => self.root.clone(),
            _ => self.root.join(within),
        };
        let names = Vec::new();
        self.folders.push(Folder { path, written, names });
        self.folders.len() - 1
    }

    /// Adds a file of the folder with that number.
    pub fn push(&mut self, folder: usize, name: &OsStr) {
        let bytes = name.as_bytes();
        self.has_odd_names |= is_odd(bytes);
        let names = &mut self.folders[folder].names;
        let Ok(start) = u32::try_from(names.len()) else {
            let (path, written) = (self.folders[folder].path.clone(), self.folders[folder].written.clone());
            let names = Vec::new();
            self.folders.push(Folder { path, written, names });
            return self.push(self.folders.len() - 1, name);
        };
        names.extend_from_slice(bytes);
        names.push(0);
        let folder = folder as u32;
        self.files.push(Place { folder, start });
    }

    /// Adds the files of another list, of the same folder, behind those that are there.
    pub fn append(&mut self, other: Self) {
        let folders = self.folders.len() as u32;
        self.has_odd_names |= other.has_odd_names;
        self.folders.extend(other.folders);
        self.files.extend(other.files.iter().map(|place| Place {
            folder: folders + place.folder,
            ..*place
        }));
    }

    /// The same files as a list of a folder above.
    ///
    /// # Panics
    /// If the list's folder does not lie below `root`.
    #[must_use]
    pub fn below(self, root: &Path) -> Self {
        let mut list = Self::new(root);
        for folder in self.folders {
            let within = folder.path.strip_prefix(root).expect("a folder above");
            let number = list.add_folder(within);
            list.folders[number].names = folder.names;
        }
        list.files = self.files;
        list.has_odd_names |= self.has_odd_names;
        list
    }

    /// Gives back memory that is reserved for more files.
    pub fn shrink_to_fit(&mut self) {
        self.folders.iter_mut().for_each(|folder| folder.names.shrink_to_fit());
        self.folders.shrink_to_fit();
        self.files.shrink_to_fit();
    }

    /// Puts files of one folder in the order of their names' bytes.
    pub fn sort_names(&mut self) {
        let mut files = std::mem::take(&mut self.files);
        files.sort_by(|a, b| self.bytes_from(a).cmp(self.bytes_from(b)));
        self.files = files;
    }

    /// Number of files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Paths of the folders, by their numbers.
    pub fn folders(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.folders.iter().map(|folder| folder.path.as_path())
    }

    /// Path of the folder with a number.
    #[must_use]
    pub fn folder(&self, folder: usize) -> &Path {
        &self.folders[folder].path
    }

    /// Number of the folder of file `i`.
    #[must_use]
    pub fn folder_of(&self, i: usize) -> usize {
        self.files[i].folder as usize
    }

    fn its_folder(&self, i: usize) -> &Folder {
        &self.folders[self.folder_of(i)]
    }

    /// Name of file `i` in its folder, as the system takes it.
    #[must_use]
    pub fn name(&self, i: usize) -> &CStr {
        let names = &self.its_folder(i).names[self.files[i].start as usize..];
        CStr::from_bytes_until_nul(names).unwrap_or_default()
    }

    /// Path of file `i`.
    #[must_use]
    pub fn path(&self, i: usize) -> PathBuf {
        self.folder(self.folder_of(i))
            .join(OsStr::from_bytes(self.name(i).to_bytes()))
    }

    /// Appends to `out` how the path of file `i` within the list's folder is written: UTF-8.
    pub fn write_within(&self, i: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.its_folder(i).written);
        match self.has_odd_names {
            true => write_name(self.name(i).to_bytes(), out),
            false => out.extend_from_slice(self.name(i).to_bytes()),
        }
    }

    /// How the path of file `i` within the list's folder is written.
    #[must_use]
    pub fn within(&self, i: usize) -> String {
        let mut out = Vec::new();
        self.write_within(i, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Puts the files in the order of the bytes of their written paths, and leaves out those that stand there twice.
    pub fn sort(&mut self) {
        let mut files = std::mem::take(&mut self.files);
        if !files.is_sorted_by(|a, b| self.compare(a, b).is_lt()) {
            files.sort_by(|a, b| self.compare(a, b));
            files.dedup_by(|a, b| self.compare(a, b).is_eq());
        }
        self.files = files;
    }

    /// Puts the files in the order in which `order` names them by their present places.
    #[must_use]
    pub fn reordered(mut self, order: &[usize]) -> Self {
        self.files = order.iter().map(|i| self.files[*i]).collect();
        self
    }

    /// Whether the same files stand at the same places of two lists, whichever folders they are of.
    #[must_use]
    pub fn is_same_file(&self, i: usize, other: &Self, j: usize) -> bool {
        self.its_folder(i).written == other.its_folder(j).written && self.name(i) == other.name(j)
    }

    fn bytes_from(&self, place: &Place) -> &[u8] {
        let rest = &self.folders[place.folder as usize].names[place.start as usize..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        &rest[..end]
    }

    fn compare(&self, a: &Place, b: &Place) -> Ordering {
        let (name_a, name_b) = (self.bytes_from(a), self.bytes_from(b));
        if !self.has_odd_names && a.folder == b.folder {
            return name_a.cmp(name_b);
        }
        let written = |place: &Place, name: &[u8]| {
            let mut written = self.folders[place.folder as usize].written.clone();
            write_name(name, &mut written);
            written
        };
        written(a, name_a).cmp(&written(b, name_b))
    }
}

fn is_odd(name: &[u8]) -> bool {
    !name.is_ascii() && std::str::from_utf8(name).is_err() || name.contains(&b'\\')
}

/// Appends a file's name or path as results hold it, UTF-8: two are never written alike. Bytes outside UTF-8 become
/// `\xff` and the like; a backslash is doubled.
pub fn write_name(name: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for chunk in name.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            out.push(byte);
            if byte == b'\\' {
                out.push(byte);
            }
        }
        for byte in chunk.invalid() {
            let digit = |four_bits: u8| DIGITS[usize::from(four_bits)];
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// The first bytes of a file: enough to tell what kind of picture it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl Head {
    /// So many bytes of a file at most.
    pub const LONGEST: usize = 16;

    /// Of bytes of a file, the first ones.
    #[must_use]
    pub fn new(file: &[u8]) -> Self {
        let len = file.len().min(Self::LONGEST);
        let mut bytes = [0; Self::LONGEST];
        bytes[..len].copy_from_slice(&file[..len]);
        Self { bytes, len: len as u8 }
    }

    /// Reads them.
    ///
    /// # Errors
    /// Those of [`files::open`] and of reading.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        files::open(path)?.take(Self::LONGEST as u64).read_to_end(&mut bytes)?;
        Ok(Self::new(&bytes))
    }

    /// The bytes; fewer than [`LONGEST`](Self::LONGEST) are all that the file has.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As paths are written one by one.
    fn written(path: &str) -> String {
        let mut out = Vec::new();
        write_name(path.as_bytes(), &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn files_stand_in_the_order_of_their_written_paths() {
        let mut list = FileList::new("/data");
        let folders: Vec<usize> = ["cat", "cat-big", "", "cat/deep", "b\\c"]
            .iter()
            .map(|folder| list.add_folder(Path::new(folder)))
            .collect();
        for (folder, name) in [
            (0, "b"),
            (0, "a"),
            (1, "x"),
            (2, "cat.txt"),
            (3, "z"),
            (4, "n\\"),
            (0, "a"),
        ] {
            list.push(folders[folder], OsStr::new(name));
        }
        list.push(folders[2], OsStr::from_bytes(b"\xe2\x82"));
        list.sort();
        let names: Vec<String> = (0..list.len()).map(|i| list.within(i)).collect();
        let expected = [
            "\\xe2\\x82",
            "b\\\\c/n\\\\",
            "cat-big/x",
            "cat.txt",
            "cat/a",
            "cat/b",
            "cat/deep/z",
        ];
        assert_eq!(names, expected);
        assert!(names.is_sorted());
        assert_eq!(list.path(1), Path::new("/data/b\\c/n\\"));
        assert_eq!(list.path(0).as_os_str().as_bytes(), b"/data/\xe2\x82");
        assert_eq!(list.folder(list.folder_of(4)), Path::new("/data/cat"));
        let above = list.clone().below(Path::new("/"));
        let names_above: Vec<String> = (0..above.len()).map(|i| above.within(i)).collect();
        assert_eq!(names_above, expected.map(|name| format!("data/{name}")));
        assert_eq!((above.path(0), above.path(1)), (list.path(0), list.path(1)));
        let mut both = FileList::new("/data");
        let folder = both.add_folder(Path::new("first"));
        both.push(folder, OsStr::new("b"));
        both.push(folder, OsStr::new("a"));
        both.sort_names();
        both.append(list.clone());
        both.shrink_to_fit();
        let seen: Vec<String> = [0, 1, 2, 8].iter().map(|i| both.within(*i)).collect();
        assert_eq!(seen, ["first/a", "first/b", "\\xe2\\x82", "cat/deep/z"]);
        let turned = list.clone().reordered(&[6, 0]);
        assert_eq!((turned.len(), turned.within(0).as_str()), (2, "cat/deep/z"));
        assert!(turned.is_same_file(0, &list, 6) && !turned.is_same_file(1, &list, 1));
    }

    #[test]
    fn two_names_are_never_written_alike() {
        assert_eq!(written("a/b c"), "a/b c");
        assert_eq!(written("\\xff"), "\\\\xff");
        let mut out = Vec::new();
        write_name(b"\xff\\", &mut out);
        assert_eq!(out, b"\\xff\\\\");
    }

    #[test]
    fn a_head_is_what_a_file_begins_with() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x");
        for (content, expected) in [
            (&b""[..], &b""[..]),
            (b"ab", b"ab"),
            (b"0123456789abcdefgh", b"0123456789abcdef"),
        ] {
            std::fs::write(&path, content).expect("written");
            assert_eq!(Head::read(&path).expect("read").bytes(), expected);
        }
        assert!(Head::read(folder.path()).is_err());
    }
}
