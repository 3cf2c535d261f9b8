//! Blobs: what is there already, sending the others, and fetching, held against hash and size while the bytes come.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};

use crate::backend::{Content, Trouble};
use crate::{Patience, Remote, RemoteError, side_by_side};

/// A blob on this machine.
#[derive(Clone, Debug)]
pub struct Blob {
    /// blake3 of the bytes.
    pub hash: Hash,
    /// How many there are.
    pub size: u64,
    /// The file that holds them; for a blob that is to be fetched the file that will.
    pub file: PathBuf,
}

fn name_of(hash: &Hash) -> String {
    let hex = hash.to_hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

impl Remote {
    /// Which of these are there with their whole size. That they hold the right bytes is not looked at.
    ///
    /// # Errors
    /// Those of transfers.
    pub fn has(&self, blobs: &[Blob]) -> Result<Vec<bool>, RemoteError> {
        let names: Vec<String> = blobs.iter().map(|blob| name_of(&blob.hash)).collect();
        let sizes = self.sizes(&names)?;
        Ok(sizes
            .iter()
            .zip(blobs)
            .map(|(size, blob)| *size == Some(blob.size))
            .collect())
    }

    /// Reads a blob where it is, and says whether it is what its name says.
    ///
    /// # Errors
    /// Those of transfers.
    pub fn is_sound(&self, blob: &Blob) -> Result<bool, RemoteError> {
        let name = name_of(&blob.hash);
        let mut patience = Patience::new(self, &name);
        loop {
            let mut hasher = Hasher::new();
            let mut take = |bytes: &[u8]| {
                hasher.update(bytes);
                Ok(())
            };
            match self.backend.read(&name, 0, &mut take) {
                Ok(false) => return Ok(false),
                Ok(true) => return Ok(hasher.finalize() == blob.hash),
                Err(trouble) => patience.bear(trouble, 0)?,
            }
        }
    }

    /// Sends blobs, whatever is there of them, some side by side. `done` is told each that has arrived. The first error
    /// is given once the others have come to their end.
    ///
    /// # Errors
    /// Those of transfers, and of reading the files.
    pub fn send(&self, blobs: &[Blob], done: &(dyn Fn(&Blob) + Sync)) -> Result<(), RemoteError> {
        self.each(blobs, |blob| {
            let name = name_of(&blob.hash);
            self.write(&name, Content::File(&blob.file, blob.size))?;
            done(blob);
            Ok(())
        })
    }

    /// Fetches blobs into their files, some side by side; files that are there already are held against their hash.
    /// What breaks off stays beside the file, as `FILE.part`, and is gone on with. `done` is told each that is there.
    ///
    /// # Errors
    /// [`RemoteError::Gone`], [`RemoteError::Damaged`], and those of transfers and of writing.
    pub fn fetch(&self, blobs: &[Blob], done: &(dyn Fn(&Blob) + Sync)) -> Result<(), RemoteError> {
        self.each(blobs, |blob| {
            self.fetch_one(blob)?;
            done(blob);
            Ok(())
        })
    }

    fn each(&self, blobs: &[Blob], work: impl Fn(&Blob) -> Result<(), RemoteError> + Sync) -> Result<(), RemoteError> {
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let results = side_by_side(blobs, self.backend.lanes(), |blob| {
            if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(());
            }
            work(blob).inspect_err(|_| is_over.store(true, std::sync::atomic::Ordering::Relaxed))
        });
        results.into_iter().collect()
    }

    fn fetch_one(&self, blob: &Blob) -> Result<(), RemoteError> {
        let name = name_of(&blob.hash);
        let local = |action: String| move |source| RemoteError::Local { action, source };
        if let Ok(file) = dynvis_base::files::open(&blob.file)
            && file.metadata().is_ok_and(|metadata| metadata.len() == blob.size)
            && hash_of(file).is_ok_and(|hash| hash == blob.hash)
        {
            return Ok(());
        }
        let writing = || local(format!("write `{}`", blob.file.display()));
        let mut part = Part::open(&blob.file, blob.size).map_err(writing())?;
        let mut patience = Patience::new(self, &name).with(part.length);
        // Bytes of an earlier call may be wrong; those of this one are so once, where a wire is bad.
        let mut second_tries = 2;
        loop {
            let before = part.length;
            let outcome = match part.length == blob.size {
                true => Ok(true),
                false => self
                    .backend
                    .read(&name, part.length, &mut |bytes| part.append(bytes, blob.size)),
            };
            match outcome {
                Ok(false) => {
                    part.give_up();
                    return Err(RemoteError::Gone {
                        url: self.url.clone(),
                        item: name,
                    });
                }
                Ok(true) if part.length == blob.size && part.hasher.finalize() == blob.hash => {
                    return part.complete(&blob.file).map_err(writing());
                }
                Ok(true) if part.length < blob.size && part.length > before => {
                    let reason = format!("it broke off after {} of {} bytes", part.length, blob.size);
                    patience.bear(Trouble::passing(reason), part.length)?;
                }
                // Too short, too long, or other bytes.
                Ok(true) | Err(Trouble::Damaged(_)) => {
                    let reason = match outcome {
                        Err(_) => format!("it is no file of {} bytes", blob.size),
                        Ok(_) if part.length < blob.size => format!("it has {} of {} bytes", part.length, blob.size),
                        Ok(_) => "its bytes are not those that were sent".into(),
                    };
                    part.clear().map_err(writing())?;
                    second_tries -= 1;
                    if second_tries == 0 {
                        part.give_up();
                        return Err(RemoteError::Damaged {
                            url: self.url.clone(),
                            item: name,
                            reason,
                        });
                    }
                }
                Err(trouble) => patience.bear(trouble, part.length)?,
            }
        }
    }
}

fn hash_of(from: impl Read) -> std::io::Result<Hash> {
    Ok(Hasher::new().update_reader(from)?.finalize())
}

/// What has come of a blob.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Hasher,
}

impl Part {
    /// With what an earlier call left. Where another process fetches the same blob, one of its own, which goes where it
    /// breaks off.
    fn open(target: &Path, size: u64) -> std::io::Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let (mut file, path) = match dynvis_base::files::open_part(&path)? {
            Some(file) => (file.into_file(), path),
            None => {
                let folder = target.parent().unwrap_or(Path::new("."));
                dynvis_base::files::temporary(folder)?
                    .keep()
                    .map_err(|error| error.error)?
            }
        };
        let mut length = file.metadata()?.len();
        if length > size {
            file.set_len(0)?;
            length = 0;
        }
        let mut hasher = Hasher::new();
        hasher.update_reader(&mut file)?;
        Ok(Self {
            path,
            file,
            length,
            hasher,
        })
    }

    fn append(&mut self, bytes: &[u8], size: u64) -> Result<(), Trouble> {
        if self.length + bytes.len() as u64 > size {
            return Err(Trouble::Damaged("it is too long".into()));
        }
        let written = self
            .file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(bytes));
        written.map_err(Trouble::local(format!("write `{}`", self.path.display())))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.length = 0;
        self.hasher = Hasher::new();
        Ok(())
    }

    fn complete(self, target: &Path) -> std::io::Result<()> {
        self.file.sync_data()?;
        fs_err::rename(&self.path, target)
    }

    /// Leaves nothing.
    fn give_up(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
