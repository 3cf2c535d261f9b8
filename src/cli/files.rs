//! Files that a user asks for, outside the cache.

use std::path::Path;

use super::error::CommandError;

/// What went wrong with a file that was to be written.
pub(super) fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> CommandError {
    let action = format!("cannot write {}", path.display());
    move |source| CommandError::Io { action, source }
}

/// Makes the folder that a file is to lie in.
pub(super) fn make_folder_of(path: &Path) -> Result<(), CommandError> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs_err::create_dir_all(folder).map_err(cannot_write(path)),
        None => Ok(()),
    }
}

/// Writes a file and makes its folder.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    make_folder_of(path)?;
    fs_err::write(path, bytes).map_err(cannot_write(path))
}

/// Copies a file's content and makes the copy's folder. What lies in the cache is read-only, the copy is not.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), CommandError> {
    make_folder_of(to)?;
    let copied = fs_err::File::open(from).and_then(|mut source| {
        let mut target = fs_err::File::create(to)?;
        std::io::copy(&mut source, &mut target)
    });
    copied.map(|_| ()).map_err(cannot_write(to))
}
