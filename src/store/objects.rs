//! Files of outputs under their content's name: hashing, making durable, moving into place.

use std::path::Path;

use super::StoredFile;
use crate::fail::{self, Step};
use crate::key::{ContentHash, hash_file};

/// Content of a folder: hash of (relative path, file hash) in order of the paths.
pub(crate) fn hash_folder(folder: &Path) -> std::io::Result<(ContentHash, Vec<StoredFile>)> {
    let mut paths = Vec::new();
    collect(folder, String::new(), &mut paths)?;
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    let mut files = Vec::new();
    for path in paths {
        let full = folder.join(&path);
        let hash = hash_file(&full)?;
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(hash.as_str().as_bytes());
        files.push(StoredFile {
            size: fs_err::metadata(&full)?.len(),
            path,
            hash,
        });
    }
    Ok((ContentHash::new(&hasher.finalize()), files))
}

fn collect(folder: &Path, prefix: String, paths: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), format!("{name}/"), paths)?;
        } else if kind.is_symlink() {
            // What it points to may go or change while the object stays.
            let message = format!("`{name}` is a symbolic link, a result needs the file itself");
            return Err(std::io::Error::other(message));
        } else {
            paths.push(name);
        }
    }
    Ok(())
}

/// Makes a folder's files durable and read-only, then renames it. Equal content that is already there stays,
/// unless one of its files is gone or has another size: then the fresh copy takes its place.
pub(crate) fn move_into_place(from: &Path, to: &Path, files: &[StoredFile]) -> std::io::Result<()> {
    for file in files {
        let path = from.join(&file.path);
        let handle = fs_err::File::open(&path)?;
        handle.sync_all()?;
        let mut permissions = handle.metadata()?.permissions();
        permissions.set_readonly(true);
        fs_err::set_permissions(&path, permissions)?;
    }
    sync_folders(from)?;
    fail::at(Step::Durable)?;
    let parent = to.parent().unwrap_or(to);
    make_folder(parent)?;
    if to.exists() {
        if let Ok((_, found)) = hash_folder(to)
            && found == files
        {
            return fs_err::remove_dir_all(from);
        }
        fs_err::remove_dir_all(to)?;
    }
    match fs_err::rename(from, to) {
        Ok(()) => {}
        // Another run published the same content a moment ago.
        Err(_) if to.exists() => fs_err::remove_dir_all(from)?,
        Err(e) => return Err(e),
    }
    fail::at(Step::Renamed)?;
    sync_folder(parent)
}

/// A temporary file that others may read or write as the umask says, not its owner alone: users of one group share a cache.
fn shared_temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
}

/// Writes a file so that other processes see it absent, old, or complete. A power cut may lose it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = shared_temporary(path.parent().unwrap_or(Path::new(".")))?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Writes a file so that it is either absent, old, or complete, after a power cut, too.
pub(crate) fn persist(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = shared_temporary(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// Makes a folder, so that it is still there after a power cut if its parent is.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs_err::create_dir_all(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// The names in a folder and in those below it.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_no_result() {
        let folder = tempfile::tempdir().expect("folder");
        let (output, elsewhere) = (folder.path().join("output"), folder.path().join("elsewhere"));
        fs_err::create_dir_all(output.join("below")).expect("folders");
        fs_err::write(output.join("below/file"), "1").expect("written");
        let (hash, files) = hash_folder(&output).expect("hashed");
        assert_eq!(
            files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
            ["below/file"]
        );
        fs_err::write(&elsewhere, "1").expect("written");
        fs_err::remove_file(output.join("below/file")).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, output.join("below/file")).expect("linked");
        let error = hash_folder(&output).expect_err("refused").to_string();
        assert!(error.contains("`below/file` is a symbolic link"), "{error}");
        fs_err::remove_file(output.join("below/file")).expect("removed");
        fs_err::write(output.join("below/file"), "1").expect("written");
        assert_eq!(hash_folder(&output).expect("hashed").0, hash);
    }
}
