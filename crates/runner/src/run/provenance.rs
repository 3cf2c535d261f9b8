//! What a run's record says of where its numbers come from: the project's revision, this binary, the driver.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use super::resources::Gpus;
use crate::key::ContentHash;
use crate::kind::{GpuDriver, Registry};
use crate::store::{GitState, Store};

/// Git's answer, asked for while the run goes on: it takes longer than a run that has nothing to do.
pub(super) struct Git(Option<JoinHandle<Option<GitState>>>);

impl Git {
    pub(super) fn ask(project: &Path) -> Self {
        let project: PathBuf = project.to_owned();
        // Without a thread to spare the record says nothing of it.
        Self(std::thread::Builder::new().spawn(move || git_state(&project)).ok())
    }

    /// `None` where the project is no git repository, or there is no git.
    pub(super) fn answer(self) -> Option<GitState> {
        self.0?.join().ok().flatten()
    }
}

fn git_state(project: &Path) -> Option<GitState> {
    // Nothing is looked for where nothing can be: a process costs more than this.
    project.ancestors().find(|folder| folder.join(".git").exists())?;
    let output = Command::new("git")
        .arg("--no-optional-locks")
        .arg("-C")
        .arg(project)
        .args(["status", "--porcelain=v2", "--branch", "--untracked-files=no"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    parse_status(&String::from_utf8_lossy(&output.stdout))
}

fn parse_status(text: &str) -> Option<GitState> {
    let revision = text.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    Some(GitState {
        revision: revision.to_owned(),
        is_dirty: text.lines().any(|line| !line.starts_with('#')),
    })
}

/// This program. Its bytes are read once, then known by its times.
pub(super) fn binary(store: &mut Store) -> Option<ContentHash> {
    let path = std::env::current_exe().ok()?;
    store.fingerprints.file(&path).ok()
}

/// The versions of all libraries that this program was built from.
pub(super) fn lock_file(registry: &Registry) -> ContentHash {
    ContentHash::new(&blake3::hash(registry.lock_file))
}

/// The GPUs that stages could have, each kind once, and their driver.
pub(super) fn driver(let_out: &Gpus, driver: &dyn GpuDriver) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for gpu in &let_out.0 {
        let name = driver.name(gpu.ordinal)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return None;
    }
    Some(format!("{}, {}", names.join(", "), driver.version()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_repository_is_read_from_what_git_says() {
        let clean = "# branch.oid 0123\n# branch.head main\n";
        let state = |is_dirty| {
            Some(GitState {
                revision: "0123".into(),
                is_dirty,
            })
        };
        assert_eq!(parse_status(clean), state(false));
        let changed = format!("{clean}1 .M N... 100644 100644 100644 aa bb file\n");
        assert_eq!(parse_status(&changed), state(true));
        assert_eq!(parse_status(""), None);
    }
}
