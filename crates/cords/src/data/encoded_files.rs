//! Images that lie as JPEG or PNG files in folders and archives.

use super::DataError;
use super::archive::Archive;
use super::source::{Original, Place, Reader, file_name, read_file};
use std::path::{Path, PathBuf};

/// The images of a source, in the order of its entries.
pub(crate) struct EncodedFiles {
    /// The source's folder, below which results name its files.
    pub(crate) root: PathBuf,
    pub(crate) archives: Vec<Archive>,
    pub(crate) images: Vec<EncodedFile>,
}

/// Where an image lies.
pub(crate) enum EncodedFile {
    File(PathBuf),
    Member {
        /// Which of the archives.
        archive: usize,
        /// Which of its members.
        member: usize,
    },
}

impl Reader for EncodedFiles {
    fn original(&self, i: usize) -> Result<Original<'_>, DataError> {
        let bytes = match &self.images[i] {
            EncodedFile::File(path) => read_file(path)?,
            EncodedFile::Member { archive, member } => self.archives[*archive].read(*member)?,
        };
        Ok(Original::Encoded(bytes.into()))
    }

    fn file(&self, i: usize) -> String {
        match &self.images[i] {
            EncodedFile::File(path) => name_within(&self.root, path),
            EncodedFile::Member { archive, member } => {
                let archive = &self.archives[*archive];
                // Names of members are written as names of files already.
                let name = &archive.members()[*member].name;
                format!("{}/{name}", name_within(&self.root, archive.path()))
            }
        }
    }

    fn path(&self, i: usize) -> PathBuf {
        match &self.images[i] {
            EncodedFile::File(path) => path.clone(),
            EncodedFile::Member { archive, member } => self.archives[*archive].member_path(*member),
        }
    }

    fn place(&self, i: usize) -> Option<Place> {
        match &self.images[i] {
            EncodedFile::File(path) => Some(Place {
                path: path.clone(),
                offset: 0,
                length: None,
            }),
            EncodedFile::Member { archive, member } => self.archives[*archive].place(*member),
        }
    }

    fn length(&self, i: usize) -> Result<Option<u64>, DataError> {
        Ok(Some(match &self.images[i] {
            EncodedFile::File(path) => fs_err::metadata(path)?.len(),
            EncodedFile::Member { archive, member } => self.archives[*archive].members()[*member].size,
        }))
    }
}

/// A file's name within a folder, as results hold it.
pub(super) fn name_within(folder: &Path, file: &Path) -> String {
    file_name(file.strip_prefix(folder).unwrap_or(file))
}

/// Whether a file's name ends as those of JPEG and PNG files do.
pub(super) fn has_image_extension(name: &str) -> bool {
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ["jpg", "jpeg", "jpe", "jfif", "png"].contains(&extension.as_str()))
}

/// Whether a part of a path is one of those that file systems and programs leave behind.
pub(super) fn is_left_behind(name: &str) -> bool {
    const OTHERS: [&str; 7] = [
        "__MACOSX",
        "__pycache__",
        "@eaDir",
        "lost+found",
        "$RECYCLE.BIN",
        "System Volume Information",
        "Thumbs.db",
    ];
    name.starts_with('.') || OTHERS.contains(&name)
}
