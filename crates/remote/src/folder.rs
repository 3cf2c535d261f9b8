//! A plain folder: a mounted share, a disk that goes by post.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Options;
use crate::backend::{Backend, Content, Sender, Take, Trouble, pump};

pub(crate) struct Folder {
    root: PathBuf,
    sender: Sender,
}

impl Folder {
    pub(crate) fn new(root: PathBuf, options: &Options) -> Self {
        let sender = Sender::new(options.state.clone());
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
        let part = self.root.join(self.sender.part_of(name));
        let (mut file, part, _own) = match dynvis_base::files::open_part(&part).map_err(there)? {
            Some(file) => (file, part, None),
            // Another process sends the same: one of our own, which goes where it breaks off.
            None => {
                let (file, own) = dynvis_base::files::temporary(folder).map_err(there)?.into_parts();
                let part = own.to_path_buf();
                (fs_err::File::from_parts(file, part.clone()), part, Some(own))
            }
        };
        let mut written = common_beginning(&mut file, &mut *content.from(0).map_err(reading())?);
        file.set_len(written).map_err(there)?;
        file.seek(SeekFrom::Start(written)).map_err(there)?;
        arrived.store(written, Ordering::Relaxed);
        let mut source = content.from(written).map_err(reading())?;
        let mut take = |bytes: &[u8]| {
            file.write_all(bytes).map_err(there)?;
            written += bytes.len() as u64;
            arrived.store(written, Ordering::Relaxed);
            Ok(())
        };
        pump(&mut source, &mut take, None, &|error| reading()(error))?;
        if written != content.size() {
            return Err(Content::is_short());
        }
        file.sync_data().map_err(there)?;
        fs_err::rename(&part, &path).map_err(there)
    }

    fn lanes(&self) -> usize {
        2
    }
}

/// How many bytes of a file are those with which the content begins: a machine that went down may have left others.
fn common_beginning(file: &mut dyn Read, content: &mut dyn Read) -> u64 {
    let (mut ours, mut theirs) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    let mut length = 0;
    loop {
        let count = match file.read(&mut theirs) {
            // What cannot be read is written anew.
            Ok(0) | Err(_) => return length,
            Ok(count) => count,
        };
        if content.read_exact(&mut ours[..count]).is_err() || ours[..count] != theirs[..count] {
            return length;
        }
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_on_with_is_the_contents_beginning() {
        let content: Vec<u8> = (0..1_000_000_u32).map(|place| (place / 7) as u8).collect();
        let length = |file: &[u8]| common_beginning(&mut &*file, &mut &*content);
        assert_eq!(length(&[]), 0);
        assert_eq!(length(&content[..300_000]), 300_000);
        assert_eq!(length(&content), 1_000_000);
        let mut damaged = content[..700_000].to_vec();
        damaged[500_000] ^= 1;
        assert!((1..=500_000).contains(&length(&damaged)));
        damaged[0] ^= 1;
        assert_eq!(length(&damaged), 0);
        assert!(length(&[&content[..], b"more"].concat()) <= 1_000_000);
    }
}
