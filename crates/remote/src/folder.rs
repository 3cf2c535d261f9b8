//! A plain folder: a mounted share, a disk that goes by post.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::backend::{Backend, Content, Take, Trouble, pump};

pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
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
        pump(&mut file, take, &|error| self.trouble(error))?;
        Ok(true)
    }

    fn write(&self, name: &str, content: Content) -> Result<(), Trouble> {
        self.root()?;
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        fs_err::create_dir_all(folder).map_err(|error| self.trouble(error))?;
        let file = dynvis_base::files::temporary(folder).map_err(|error| self.trouble(error))?;
        let mut source = content.from(0).map_err(Trouble::local("read what is to be sent"))?;
        let mut block = vec![0; 1 << 17];
        let mut written = 0;
        loop {
            let count = source
                .read(&mut block)
                .map_err(Trouble::local("read what is to be sent"))?;
            if count == 0 {
                break;
            }
            let mut out = file.as_file();
            out.write_all(&block[..count]).map_err(|error| self.trouble(error))?;
            written += count as u64;
        }
        if written != content.size() {
            let short = std::io::Error::new(ErrorKind::UnexpectedEof, "a file is shorter than it was");
            return Err(Trouble::local("read what is to be sent")(short));
        }
        file.as_file().sync_data().map_err(|error| self.trouble(error))?;
        file.persist(&path).map_err(|error| self.trouble(error.error))?;
        Ok(())
    }

    fn lanes(&self) -> usize {
        2
    }
}
