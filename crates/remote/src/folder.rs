//! A plain folder: a mounted share, a disk that goes by post.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Options;
use crate::backend::{Backend, Content, Take, Trouble, part_of, pump};

pub(crate) struct Folder {
    root: PathBuf,
    /// What parts of files are called that are sent from here.
    sender: String,
}

impl Folder {
    pub(crate) fn new(root: PathBuf, options: &Options) -> Self {
        let sender = options.sender();
        Self { root, sender }
    }

    /// What an error of the folder means: a share that is away may come back, but nobody waits for a path that is wrong.
    fn trouble(&self, error: std::io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Trouble::lasting(error.to_string(), "make room there, then give the same command again")
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::lasting(
                error.to_string(),
                "ask for the right to write there, or name another remote",
            ),
            ErrorKind::StaleNetworkFileHandle | ErrorKind::TimedOut | ErrorKind::HostUnreachable => {
                Trouble::passing(error.to_string())
            }
            _ => Trouble::lasting(error.to_string(), ""),
        }
    }

    /// A share that is not mounted must not look like an empty remote.
    fn root(&self) -> Result<(), Trouble> {
        match self.root.is_dir() {
            true => Ok(()),
            false => Err(Trouble::lasting(
                "there is no such folder",
                "mount it, or make it if it is to be a new remote",
            )),
        }
    }
}

impl Backend for Folder {
    fn sizes(&self, names: &[String]) -> Result<Vec<Option<u64>>, Trouble> {
        self.root()?;
        let size = |name: &String| match std::fs::metadata(self.root.join(name)) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.trouble(error)),
        };
        names.iter().map(size).collect()
    }

    fn read(&self, name: &str, from: u64, take: &mut Take) -> Result<bool, Trouble> {
        self.root()?;
        let mut file = match dynvis_base::files::open(&self.root.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            // A pipe, a folder: what stands there is damaged, and the remote is well.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return Err(Trouble::Damaged("it is no file".into()));
            }
            Err(error) => return Err(self.trouble(error)),
        };
        file.seek(SeekFrom::Start(from)).map_err(|error| self.trouble(error))?;
        pump(&mut file, take, None, &|error| self.trouble(error))?;
        Ok(true)
    }

    fn write(&self, name: &str, content: Content, arrived: &AtomicU64) -> Result<(), Trouble> {
        self.root()?;
        let reading = || Trouble::local("read what is to be sent");
        let there = |error: std::io::Error| self.trouble(error);
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        fs_err::create_dir_all(folder).map_err(there)?;
        let part = self.root.join(part_of(name, &content, &self.sender));
        let mut file = open_part(&part).map_err(there)?;
        let mut written = common_beginning(&mut file, &content)?;
        file.set_len(written).map_err(there)?;
        file.seek(SeekFrom::Start(written)).map_err(there)?;
        arrived.store(written, Ordering::Relaxed);
        let mut source = content.from(written).map_err(reading())?;
        let mut block = vec![0; 1 << 17];
        loop {
            let count = source.read(&mut block).map_err(reading())?;
            if count == 0 {
                break;
            }
            file.write_all(&block[..count]).map_err(there)?;
            written += count as u64;
            arrived.store(written, Ordering::Relaxed);
        }
        if written != content.size() {
            let short = std::io::Error::new(ErrorKind::UnexpectedEof, "a file is shorter than it was");
            return Err(reading()(short));
        }
        file.sync_data().map_err(there)?;
        match fs_err::rename(&part, &path) {
            // Another process has sent the same meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_file() => Ok(()),
            renamed => renamed.map_err(there),
        }
    }

    fn lanes(&self) -> usize {
        2
    }
}

/// With what an earlier call left.
fn open_part(path: &Path) -> std::io::Result<fs_err::File> {
    // A pipe would be waited for.
    if fs_err::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        fs_err::remove_file(path)?;
    }
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(path)
}

/// How many bytes of a file are those with which the content begins: a machine that went down may have left others.
fn common_beginning(file: &mut fs_err::File, content: &Content) -> Result<u64, Trouble> {
    let reading = || Trouble::local("read what is to be sent");
    let mut source = content.from(0).map_err(reading())?;
    let (mut ours, mut theirs) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    let mut length = 0;
    loop {
        let count = match file.read(&mut theirs) {
            // What cannot be read is written anew.
            Ok(0) | Err(_) => return Ok(length),
            Ok(count) => count,
        };
        if source.read_exact(&mut ours[..count]).is_err() || ours[..count] != theirs[..count] {
            return Ok(length);
        }
        length += count as u64;
    }
}
