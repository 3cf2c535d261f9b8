//! In place of the engine's way to open files that others made.

use std::path::Path;

pub(crate) fn open(path: &Path) -> std::io::Result<fs_err::File> {
    fs_err::File::open(path)
}

pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    fs_err::read(path)
}

pub(crate) fn read_to_string(path: &Path) -> std::io::Result<String> {
    fs_err::read_to_string(path)
}

pub(crate) fn irregular(kind: std::fs::FileType) -> Option<&'static str> {
    (!kind.is_file()).then_some("no regular file")
}
