//! The states that trainings ended with: what a training goes on from that differs in its number of epochs alone.
//!
//! A longer training begins as a shorter one does wherever nothing in it depends on how long it will be: with a
//! learning rate that is constant or falls in steps, but not along a cosine that spans all epochs, and not where phi
//! bends over all of them.

use std::path::PathBuf;

use super::Fit;
use super::checkpoint::{self, WriteError};
use super::optimise::Schedule;
use super::snapshot::Snapshot;

/// Where trainings that differ in their number of epochs alone keep the states that they end with.
#[derive(Clone, Debug)]
pub struct FinalStates {
    /// Folder of the files, one a training, of which the longest is kept; made when there is something to write.
    pub folder: PathBuf,
    /// Names everything that determines the trainings' results but the number of epochs; files of another identity are
    /// passed over.
    pub identity: String,
}

const PREFIX: &str = "epochs-";
const ENDING: &str = ".safetensors";

impl Fit {
    /// Whether its epochs are the first of a training that has more of them and is the same otherwise.
    pub(crate) fn begins_a_longer_one(&self) -> bool {
        match self.schedule {
            Schedule::Constant | Schedule::Step { .. } => true,
            Schedule::Cosine { .. } => false,
        }
    }
}

impl FinalStates {
    /// The epochs of the states that there are, the most first.
    fn lengths(&self) -> Vec<usize> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let length = |name: String| name.strip_prefix(PREFIX)?.strip_suffix(ENDING)?.parse().ok();
        let mut lengths: Vec<usize> = names.filter_map(length).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths
    }

    fn path(&self, epochs: usize) -> PathBuf {
        self.folder.join(format!("{PREFIX}{epochs}{ENDING}"))
    }

    /// The state after the most epochs below a number, with how many those are. What is damaged is passed over.
    pub(crate) fn read(&self, below: usize) -> Option<(usize, Snapshot)> {
        let mut shorter = self.lengths().into_iter().filter(|epochs| *epochs < below);
        shorter.find_map(|epochs| {
            let file = dynvis_base::files::read(&self.path(epochs)).ok()?;
            Some((epochs, checkpoint::parse(&file, &self.identity).ok()?))
        })
    }

    /// Keeps a state, and removes those of fewer epochs.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn write(&self, epochs: usize, snapshot: &Snapshot) -> Result<(), WriteError> {
        checkpoint::write(&self.path(epochs), &self.identity, snapshot)?;
        for shorter in self.lengths().into_iter().filter(|length| *length < epochs) {
            // Best effort: it costs disk and nothing else.
            let _ = std::fs::remove_file(self.path(shorter));
        }
        Ok(())
    }
}
