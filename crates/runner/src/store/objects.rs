//! Files of outputs under their content's name: hashing, making durable, moving into place.

use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StoredFile;
use crate::fail::{self, Step};
use crate::key::{ContentHash, hash_file};
use dynvis_base::files::irregular;

/// What stands in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub hash: ContentHash,
    pub files: Vec<StoredFile>,
    /// Folders in it that hold nothing.
    pub empty: Vec<String>,
}

/// Content of a folder: hash of (relative path, file hash) in order of the paths, and then of the empty folders' paths.
///
/// Fails where something in it is neither a regular file nor a folder, or has a name that is not UTF-8.
pub(super) fn hash_folder(folder: &Path) -> std::io::Result<Content> {
    let Listing { files: paths, empty } = list(folder)?;
    let mut files = Vec::new();
    for path in paths {
        let full = folder.join(&path);
        let hash = hash_file(&full)?;
        files.push(StoredFile {
            size: fs_err::metadata(&full)?.len(),
            path,
            hash,
        });
    }
    let hash = content_hash(&files, &empty);
    Ok(Content { hash, files, empty })
}

/// The content that these files and empty folders make, which are in order.
pub(super) fn content_hash(files: &[StoredFile], empty: &[String]) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.path.len() as u64).to_le_bytes());
        hasher.update(file.path.as_bytes());
        hasher.update(file.hash.as_str().as_bytes());
    }
    for path in empty {
        // A path ends with a slash nowhere else, so that a result without empty folders keeps its hash.
        let path = format!("{path}/");
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
    }
    ContentHash::new(&hasher.finalize())
}

/// Files and empty folders below a folder, by their paths within, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) files: Vec<String>,
    pub(super) empty: Vec<String>,
}

/// What lies below a folder. Fails as [`hash_folder`] does.
pub(super) fn list(folder: &Path) -> std::io::Result<Listing> {
    let mut listing = Listing::default();
    collect(folder, "", &mut listing)?;
    listing.files.sort();
    listing.empty.sort();
    Ok(listing)
}

fn collect(folder: &Path, prefix: &str, listing: &mut Listing) -> std::io::Result<()> {
    let wrong = |message: String| Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            let name = entry.file_name();
            return wrong(format!("the name of `{prefix}{}` is not UTF-8", name.to_string_lossy()));
        };
        let name = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let before = (listing.files.len(), listing.empty.len());
            collect(&entry.path(), &format!("{name}/"), listing)?;
            if before == (listing.files.len(), listing.empty.len()) {
                listing.empty.push(name);
            }
        } else if let Some(what) = irregular(kind) {
            // What a link points to may go or change while the object stays; a pipe has no content.
            return wrong(format!("`{name}` is {what}, and a result needs regular files"));
        } else {
            listing.files.push(name);
        }
    }
    Ok(())
}

/// Makes a folder's files durable and read-only, then renames it. Equal content that is already there stays; of content
/// that was damaged since, the fresh copy takes the place.
pub(super) fn move_into_place(from: &Path, to: &Path, content: &Content) -> std::io::Result<()> {
    for file in &content.files {
        let path = from.join(&file.path);
        let handle = fs_err::File::open(&path)?;
        handle.sync_all()?;
        let mut permissions = handle.metadata()?.permissions();
        if !permissions.readonly() {
            permissions.set_readonly(true);
            fs_err::set_permissions(&path, permissions)?;
        }
    }
    sync_folders(from)?;
    fail::at(Step::Durable)?;
    let parent = to.parent().unwrap_or(to);
    make_folder(parent)?;
    if to.exists() {
        if hash_folder(to).is_ok_and(|found| found == *content) {
            // The process that renamed it may have been killed before it did the rest.
            set_writable(to, false)?;
            sync_folder(parent)?;
            return fs_err::remove_dir_all(from);
        }
        remove(to)?;
    }
    match fs_err::rename(from, to) {
        Ok(()) => {}
        // Another run published the same content a moment ago.
        Err(_) if to.exists() => fs_err::remove_dir_all(from)?,
        Err(e) => return Err(e),
    }
    // Only now: a folder that cannot be written cannot be moved.
    set_writable(to, false)?;
    fail::at(Step::Renamed)?;
    sync_folder(parent)
}

/// Where another user has written a folder, a copy of it as our own, beside it: nobody but the owner may make files
/// read-only.
pub(super) fn as_own(folder: &Path, content: &Content) -> std::io::Result<Option<PathBuf>> {
    let user = rustix::process::geteuid();
    if user.is_root() || fs_err::metadata(folder)?.uid() == user.as_raw() {
        return Ok(None);
    }
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".own");
    let copy = folder.with_file_name(name);
    if copy.exists() {
        // Of one who was killed.
        remove(&copy)?;
    }
    fs_err::create_dir_all(&copy)?;
    for path in &content.empty {
        fs_err::create_dir_all(copy.join(path))?;
    }
    for file in &content.files {
        let to = copy.join(&file.path);
        fs_err::create_dir_all(to.parent().unwrap_or(&copy))?;
        fs_err::copy(folder.join(&file.path), to)?;
    }
    match hash_folder(&copy)? == *content {
        true => Ok(Some(copy)),
        false => Err(std::io::Error::other("a copy of an output has other bytes")),
    }
}

/// Removes a published folder.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        // What another user of the cache has published may be removed all the same.
        let _ = set_writable(folder, true);
    }
    fs_err::remove_dir_all(folder)
}

/// Lets its owner write into a folder and those below it, or nobody but the group. A stage that leaves a file in its
/// input's folder would change what later stages read; a group that shares a cache must be able to remove.
fn set_writable(folder: &Path, writable: bool) -> std::io::Result<()> {
    const OWNER: u32 = 0o200;
    const OTHERS: u32 = 0o002;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_writable(&entry.path(), writable)?;
        }
    }
    let mut permissions = fs_err::metadata(folder)?.permissions();
    let mode = permissions.mode();
    let wanted = if writable {
        mode | OWNER
    } else {
        mode & !(OWNER | OTHERS)
    };
    if wanted == mode {
        // Nobody but its owner may set even what is set already.
        return Ok(());
    }
    permissions.set_mode(wanted);
    fs_err::set_permissions(folder, permissions)
}

/// Writes a file so that other processes see it absent, old, or complete. A power cut may lose it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace_by(path, |out| out.write_all(bytes))
}

/// [`replace`] by what is written piece by piece.
pub(super) fn replace_by(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let file = dynvis_base::files::temporary(path.parent().unwrap_or(Path::new(".")))?;
    let mut out = BufWriter::new(file.as_file());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Writes a file so that it is either absent, old, or complete, after a power cut, too.
pub(crate) fn persist(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    dynvis_base::files::persist(path, bytes)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a folder, so that it is still there after a power cut if its parent is.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
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

pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
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
        let content = hash_folder(&output).expect("hashed");
        assert_eq!(
            content.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
            ["below/file"]
        );
        fs_err::write(&elsewhere, "1").expect("written");
        fs_err::remove_file(output.join("below/file")).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, output.join("below/file")).expect("linked");
        let error = hash_folder(&output).expect_err("refused").to_string();
        assert!(error.contains("`below/file` is a symbolic link"), "{error}");
        fs_err::remove_file(output.join("below/file")).expect("removed");
        fs_err::write(output.join("below/file"), "1").expect("written");
        assert_eq!(hash_folder(&output).expect("hashed"), content);
    }

    /// [`a_link_is_no_result`] is one of these.
    #[test]
    fn what_is_no_regular_file_is_no_result_and_is_not_waited_for() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().expect("folder");
        let refused = |name: &str| {
            let error = hash_folder(folder.path()).expect_err("refused").to_string();
            assert!(error.contains(name), "{error}");
        };
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo");
        assert!(made.success());
        refused("`pipe` is a named pipe");
        fs_err::remove_file(&pipe).expect("removed");
        let socket = folder.path().join("socket");
        let bound = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        refused("`socket` is a socket");
        drop(bound);
        fs_err::remove_file(&socket).expect("removed");
        let name = std::ffi::OsStr::from_bytes(b"sub-\xff.csv");
        fs_err::write(folder.path().join(name), "1").expect("written");
        refused("is not UTF-8");
    }

    #[test]
    fn empty_folders_are_content_and_others_keep_their_hash() {
        let folder = tempfile::tempdir().expect("folder");
        let nothing = hash_folder(folder.path()).expect("hashed");
        assert_eq!(nothing.hash.as_str(), blake3::hash(b"").to_hex().as_str());
        fs_err::create_dir_all(folder.path().join("a/b")).expect("folders");
        let nested = hash_folder(folder.path()).expect("hashed");
        assert_eq!(nested.empty, ["a/b"]);
        assert_ne!(nested.hash, nothing.hash);
        fs_err::write(folder.path().join("a/b/x"), "1").expect("written");
        let full = hash_folder(folder.path()).expect("hashed");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&5u64.to_le_bytes()).update(b"a/b/x");
        hasher.update(blake3::hash(b"1").to_hex().as_bytes());
        assert_eq!(
            (full.hash, full.empty),
            (ContentHash::new(&hasher.finalize()), Vec::new())
        );
    }

    #[test]
    fn a_published_folder_is_read_only_and_can_be_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("objects/to"));
        fs_err::create_dir_all(from.join("below")).expect("folders");
        fs_err::write(from.join("below/x"), "1").expect("written");
        let content = hash_folder(&from).expect("hashed");
        move_into_place(&from, &to, &content).expect("moved");
        for path in ["", "below", "below/x"] {
            let mode = fs_err::metadata(to.join(path)).expect("there").permissions().mode();
            assert_eq!(mode & 0o202, 0, "{path}: {mode:o}");
        }
        remove(&to).expect("removed");
        assert!(!to.exists());
    }
}
