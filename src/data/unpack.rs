//! Archives whose files pipelines read: what one folder in them holds comes into the set's folder.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

use super::catalogue::{Format, Unpacked};
use super::checksum::each_block;
use super::part::{part_of, sync_folder};

/// A file that was unpacked, by which it is known again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) blake3: String,
}

/// Writes the files of an archive into a folder. `progress` is given the bytes that are written and may end it with an
/// error; what is complete by then stays.
///
/// # Errors
/// What is wrong with the archive, as [`ErrorKind::InvalidData`]; more bytes than the catalogue says; those of writing
/// and of `progress`.
pub(crate) fn unpack(
    archive: &Path,
    unpacked: Unpacked,
    folder: &Path,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<Member>> {
    let file = dynvis_base::files::open(archive)?;
    let mut out = Output {
        unpacked,
        folder,
        members: Vec::new(),
        written: 0,
        progress,
    };
    match unpacked.format {
        Format::Zip => {
            let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
            for at in 0..archive.len() {
                let mut entry = archive.by_index(at).map_err(damaged)?;
                if entry.is_file() && !entry.is_symlink() {
                    let name = entry.name().map_err(damaged)?.into_owned();
                    out.take(&name, &mut entry)?;
                }
            }
        }
        Format::Tar => {
            let mut archive = tar::Archive::new(file);
            for entry in archive.entries()? {
                let mut entry = entry?;
                if entry.header().entry_type().is_file() {
                    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                    out.take(&name, &mut entry)?;
                }
            }
        }
    }
    if out.members.is_empty() {
        return Err(damaged(format!("it has no files in `{}/`", unpacked.folder)));
    }
    Ok(out.members)
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_string())
}

struct Output<'a> {
    unpacked: Unpacked,
    folder: &'a Path,
    members: Vec<Member>,
    written: u64,
    progress: &'a mut dyn FnMut(u64) -> Result<()>,
}

impl Output<'_> {
    /// Writes one file of the archive, if it lies in the folder that is unpacked, without folders below it.
    fn take(&mut self, path: &str, reader: &mut dyn Read) -> Result<()> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let within = path.strip_prefix(self.unpacked.folder);
        let Some(name) = within.and_then(|rest| rest.strip_prefix('/')) else {
            return Ok(());
        };
        // Nothing that leads elsewhere, or is hidden.
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Ok(());
        }
        let target = self.folder.join(name);
        let part = part_of(&target);
        let mut file = fs_err::File::create(&part)?;
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        each_block(reader, |block| {
            bytes += block.len() as u64;
            self.written += block.len() as u64;
            if self.written > self.unpacked.bytes {
                return Err(damaged(format!("it holds more than {} bytes", self.unpacked.bytes)));
            }
            hasher.update(block);
            file.write_all(block)?;
            (self.progress)(self.written)
        })?;
        file.sync_all()?;
        fs_err::rename(&part, &target)?;
        sync_folder(&target)?;
        self.members.push(Member {
            name: name.to_owned(),
            bytes,
            blake3: hasher.finalize().to_hex().to_string(),
        });
        Ok(())
    }
}
