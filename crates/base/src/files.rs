//! Files that others made, opened only where they are regular files: a pipe, a terminal or a device would hold the
//! program up for as long as nobody writes, or give bytes without end. Files of our own, written so that others may read
//! them.

use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;

/// Opens a file to read it.
///
/// # Errors
/// What opening says, and [`ErrorKind::InvalidInput`] with the path and what it is where it is no regular file.
pub fn open(path: &Path) -> std::io::Result<fs_err::File> {
    // Before it is opened, since to open a device can do things; and after it, since it may have been replaced.
    check(path)?;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs_err::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(path, &file.metadata()?)?;
    Ok(file)
}

/// All bytes of a file.
///
/// # Errors
/// Those of [`open`] and of [`read_opened`].
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    read_opened(&open(path)?)
}

/// All bytes of an opened file.
///
/// # Errors
/// Those of reading, with the path.
pub fn read_opened(file: &fs_err::File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The standard library's reader makes room for the file's size at once; that of `fs_err` does not.
    let mut inner = file.file();
    let named = |error: Error| Error::new(error.kind(), format!("`{}`: {error}", file.path().display()));
    inner.read_to_end(&mut bytes).map_err(named)?;
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// Those of [`read`], and [`ErrorKind::InvalidData`] where it is not UTF-8.
pub fn read_to_string(path: &Path) -> std::io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

/// That there is a regular file (or a link to one) at a path, for readers that open it themselves.
///
/// # Errors
/// Those of [`open`].
pub fn check(path: &Path) -> std::io::Result<()> {
    regular(path, &fs_err::metadata(path)?)
}

fn regular(path: &Path, metadata: &std::fs::Metadata) -> std::io::Result<()> {
    let Some(kind) = irregular(metadata.file_type()) else {
        return Ok(());
    };
    let message = format!("`{}` is {kind}, and only regular files are read", path.display());
    Err(Error::new(ErrorKind::InvalidInput, message))
}

/// What something in a folder is, where it is no regular file.
#[must_use]
pub fn irregular(kind: std::fs::FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_symlink() => Some("a symbolic link"),
        kind if kind.is_fifo() => Some("a named pipe"),
        kind if kind.is_socket() => Some("a socket"),
        kind if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        _ => Some("no file"),
    }
}

/// A temporary file that others may read or write as the user's umask says, not its owner alone: users of one group
/// share a cache.
///
/// # Errors
/// Those of making a file in `folder`.
pub fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
}

/// Opens a file that is written over several tries, and not by several processes: with what an earlier try left. None
/// while another process has it open so, as far as the file system has locks.
///
/// # Errors
/// Those of opening it, and of removing what stands there and is no regular file.
pub fn open_part(path: &Path) -> std::io::Result<Option<fs_err::File>> {
    // A pipe would be waited for.
    if fs_err::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        fs_err::remove_file(path)?;
    }
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path)?;
    if let Err(std::fs::TryLockError::WouldBlock) = file.file().try_lock() {
        return Ok(None);
    }
    // Whoever had it before may have renamed it since.
    let inode = |metadata: std::io::Result<std::fs::Metadata>| metadata.map(|m| (m.dev(), m.ino())).ok();
    let is_same = inode(file.metadata()) == inode(std::fs::metadata(path));
    Ok(is_same.then_some(file))
}

/// Writes a file that appears whole or not at all, beside its place first. A power cut may leave what was
/// there before.
///
/// # Errors
/// Those of writing and renaming.
pub fn persist(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut scratch = temporary(folder)?;
    scratch.write_all(bytes)?;
    scratch.as_file().sync_data()?;
    scratch.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_the_others_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").expect("written");
        std::os::unix::fs::symlink("file", path("link")).expect("linked");
        std::os::unix::fs::symlink("/dev/zero", path("zero")).expect("linked");
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status()
            .expect("mkfifo");
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("bound");
        assert_eq!(read_to_string(&path("file")).expect("read"), "text");
        assert_eq!(read(&path("link")).expect("read"), b"text");
        for (name, what) in [
            ("zero", "a device"),
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
            (".", "a folder"),
        ] {
            let error = open(&path(name)).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(
                error.to_string().contains(what) && error.to_string().contains(name),
                "{error}"
            );
        }
        assert_eq!(open(&path("gone")).expect_err("refused").kind(), ErrorKind::NotFound);
    }
}
