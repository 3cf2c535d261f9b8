//! The shared library under the names of those that it stands for.

use std::io;
use std::path::{Path, PathBuf};

/// File names that programs open.
const NAMES: [&str; 5] = [
    "libcuda.so.1",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libnccl.so.2",
];

/// The stand-in in a folder.
#[derive(Clone, Debug)]
pub struct Installed {
    folder: PathBuf,
}

/// Makes the libraries in a folder, which is made where there is none.
///
/// # Errors
/// Where the shared library does not lie beside this program or in `deps` below it, where cargo leaves it for tests, or
/// where the folder cannot be written to.
pub fn install(folder: &Path) -> io::Result<Installed> {
    let library = library()?;
    std::fs::create_dir_all(folder)?;
    for name in NAMES {
        std::os::unix::fs::symlink(&library, folder.join(name))?;
    }
    Ok(Installed {
        folder: folder.to_owned(),
    })
}

impl Installed {
    /// The folder, for `LD_LIBRARY_PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes one of the libraries, by the start of its name.
    ///
    /// # Errors
    /// Where there is none, or it cannot be removed.
    pub fn without(&self, start: &str) -> io::Result<()> {
        let name = NAMES.iter().find(|name| name.starts_with(start));
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, start.to_owned()))?;
        std::fs::remove_file(self.folder.join(name))
    }
}

/// Where cargo has left the shared library.
fn library() -> io::Result<PathBuf> {
    const NAME: &str = "libdynvis_stand_in.so";
    let program = std::env::current_exe()?;
    let folders = program.ancestors().skip(1).take(3);
    let places = folders.flat_map(|folder| [folder.to_owned(), folder.join("deps")]);
    let found = places.map(|folder| folder.join(NAME)).find(|path| path.exists());
    found.ok_or_else(|| {
        let text = format!("{NAME} is not beside {}: `cargo test` builds it", program.display());
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}
