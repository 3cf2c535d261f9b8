//! Files of outputs under their content's name: hashing, making durable, moving into place.

use std::path::Path;

use super::StoredFile;
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
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), format!("{name}/"), paths)?;
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
    let parent = to.parent().unwrap_or(to);
    fs_err::create_dir_all(parent)?;
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
    sync_folder(parent)
}

/// Writes a file so that it is either absent, old, or complete.
pub(crate) fn persist(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}
