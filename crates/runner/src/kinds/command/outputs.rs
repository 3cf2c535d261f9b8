//! What a program wrote, on its way to the store: real files below its working folder and nothing else.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dynvis_base::files::irregular;

use super::{OutputSpec, OutputType};
use crate::kind::{Artifact, Context, StageError};

/// Where an output lies with the links on its way followed. What lies elsewhere is the user's own and must stay there.
pub(super) fn place(work: &Path, written: &Path, name: &str) -> Result<PathBuf, StageError> {
    let elsewhere = |place: &Path| {
        StageError::new(format!(
            "output `{name}` leads out of the working folder, to `{}`",
            place.display()
        ))
        .hint("write the file or folder itself, not a link on the way to it")
    };
    let (Some(parent), Some(file)) = (written.parent(), written.file_name()) else {
        return Err(elsewhere(written));
    };
    let parent = fs_err::canonicalize(parent)?;
    if !parent.starts_with(work) {
        return Err(elsewhere(&parent));
    }
    // A link to a file is copied later; one to a folder could hold anything.
    let place = parent.join(file);
    match fs_err::symlink_metadata(&place)?.is_symlink() && place.is_dir() {
        true => Err(link_to_folder(&place)),
        false => Ok(place),
    }
}

fn link_to_folder(path: &Path) -> StageError {
    StageError::new(format!("`{}` is a link to a folder", path.display())).hint("write the folder itself")
}

/// Removes what a program left beside its working folder, where the outputs will stand.
pub(super) fn clear(scratch: &Path, work: &str) -> std::io::Result<()> {
    for entry in fs_err::read_dir(scratch)? {
        let entry = entry?;
        if entry.file_name() == work {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs_err::remove_dir_all(entry.path())?,
            false => fs_err::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Puts copies in the place of links, so that a result does not change with files elsewhere, and refuses what has no
/// content: pipes, sockets, devices. What the program made unreadable becomes readable.
pub(super) fn make_real(path: &Path) -> Result<(), StageError> {
    let metadata = fs_err::symlink_metadata(path)?;
    let grant = |mode: u32| {
        let mut permissions = metadata.permissions();
        let (is, wanted) = (permissions.mode(), permissions.mode() | mode);
        permissions.set_mode(wanted);
        if is == wanted {
            Ok(())
        } else {
            fs_err::set_permissions(path, permissions)
        }
    };
    if metadata.is_dir() {
        grant(0o700)?;
        for entry in fs_err::read_dir(path)? {
            make_real(&entry?.path())?;
        }
        return Ok(());
    }
    if !metadata.is_symlink() {
        if let Some(what) = irregular(metadata.file_type()) {
            return Err(not_regular(path, what));
        }
        if metadata.nlink() == 1 {
            return Ok(grant(0o400)?);
        }
    }
    let Ok(target) = std::fs::canonicalize(path) else {
        return Err(
            StageError::new(format!("`{}` is a link to what is not there", path.display()))
                .hint("write the file itself"),
        );
    };
    let kind = fs_err::metadata(&target)?.file_type();
    if kind.is_dir() {
        return Err(link_to_folder(path));
    }
    if let Some(what) = irregular(kind) {
        return Err(not_regular(path, what));
    }
    let copy = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(path))?.into_temp_path();
    fs_err::copy(&target, &copy)?;
    copy.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn not_regular(path: &Path, what: &str) -> StageError {
    StageError::new(format!(
        "`{}` is {what}, and a result needs regular files",
        path.display()
    ))
    .hint("remove it before the program ends, or put it elsewhere")
}

/// Moves what the program wrote to where the store takes it from, in the form that its type promises; copies it where
/// it also belongs to another output.
pub(super) fn publish<T: OutputType>(
    context: &mut Context,
    name: &str,
    output: &OutputSpec<T>,
    written: &Path,
    is_shared: bool,
) -> Result<(), StageError> {
    let hand_over = |from: &Path, to: &Path| match is_shared {
        true => copy(from, to),
        false => fs_err::rename(from, to),
    };
    match output.kind.artifact() {
        Artifact::TABLE => {
            let table = crate::table::Table::read(written)?;
            context.write_table(name, &table)
        }
        Artifact::FILES if written.is_dir() => Ok(hand_over(written, &context.scratch.join(name))?),
        Artifact::FILES => {
            let file = written.file_name().map(PathBuf::from).unwrap_or_default();
            let target = context.output(name)?.join(file);
            Ok(hand_over(written, &target)?)
        }
        _ => {
            let file = output.kind.check(written)?;
            let target = context.output(name)?.join(file);
            Ok(hand_over(written, &target)?)
        }
    }
}

/// Of a file or of a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return fs_err::copy(from, to).map(|_| ());
    }
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
