//! What a stage sees while it runs in its worker: filled inputs, a scratch folder, threads, and a way to report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{Artifact, Device, Member, Ranks, StageError};
use crate::table::{Table, TableRow};

/// A filled input slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// Name of the slot: `data`, or `models.3` for an item of a list.
    pub slot: String,
    /// What kind of output fills the slot.
    pub artifact: Artifact,
    /// The folder with the artifact's files; read-only.
    pub path: PathBuf,
    /// Which member it is, for kinds that [see groups](super::Kind::SEES_GROUPS).
    #[serde(default)]
    pub member: Member,
}

/// Progress of a stage, streamed to the parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// How many units are done in this phase.
    pub done: u64,
    /// How many units this phase has.
    pub total: u64,
    /// What is counted: `images`, `batches`.
    pub unit: String,
    /// Where the stage is: `epoch 3/10`.
    pub phase: String,
    /// Short figures to show beside the bar: (`loss`, 0.12).
    pub figures: Vec<(String, f64)>,
    /// Worth a line of its own in logs.
    pub milestone: bool,
}

/// What a stage says while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// How far the stage is.
    Progress(Update),
    /// A line for the user and the log.
    Note(String),
}

/// Handed to [`super::Kind::run`].
pub struct Context<'a> {
    /// Filled input slots by their names.
    pub inputs: BTreeMap<String, Input>,
    /// The folder in which each output has a folder of its slot's name. Published from there once the stage has ended.
    pub scratch: PathBuf,
    /// The project's folder.
    pub root: PathBuf,
    /// Processor threads that the stage has leased; the global rayon pool has as many.
    pub threads: usize,
    /// Where a kind computes that [can choose](super::Kind::USES_DEVICE).
    pub device: Device,
    /// Bytes that it may take of the GPU; all of them if none.
    pub gpu_memory: Option<u64>,
    /// The processes that compute the stage together; one alone unless its kind
    /// [uses several GPUs](super::Kind::USES_SEVERAL_GPUS).
    pub ranks: Ranks<'a>,
    /// The stage's identity.
    pub key: String,
    /// A folder that outlives this attempt: what is kept there lets a later one at the same key go on. Not made yet.
    pub checkpoint: PathBuf,
    /// A folder that stages have in common which differ in the parameter alone [by which they
    /// grow](super::Kind::grows_by); its name says all that they have in common. Not made yet.
    pub lineage: Option<PathBuf>,
    /// Set once the stage shall end; [`stop_requested`](Self::stop_requested) reads it.
    pub stop: Arc<AtomicBool>,
    /// Takes progress and notes; [`report`](Self::report) and [`note`](Self::note) call it.
    pub said: Box<dyn FnMut(Said) + Send + 'a>,
}

impl Context<'_> {
    /// Half of this machine's memory, shared among stages by their threads; in a job whose memory is bounded half of that;
    /// none where the system does not say how much there is.
    pub fn share_of_memory(&self) -> Option<u64> {
        let (memory, cores) = match of_job(self.threads) {
            Some(of_job) => of_job,
            None => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                (dynvis_base::platform::total_memory()?, cores)
            }
        };
        let half = memory / 2;
        Some((half as f64 * self.threads as f64 / cores.max(self.threads) as f64) as u64)
    }

    /// Tells the parent how far the stage is.
    pub fn report(&mut self, mut update: Update) {
        // The accuracy of a network that diverged is none.
        update.figures.retain(|(_, figure)| figure.is_finite());
        (self.said)(Said::Progress(update));
    }

    /// Tells the user something that stays on the screen.
    pub fn note(&mut self, text: impl Into<String>) {
        (self.said)(Said::Note(text.into()));
    }

    /// Whether a stage that [keeps checkpoints](super::Kind::KEEPS_CHECKPOINTS) shall write one and end.
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The folder that an input slot holds.
    ///
    /// # Errors
    /// No slot of that name is filled.
    pub fn input(&self, slot: &str) -> Result<&Path, StageError> {
        self.inputs
            .get(slot)
            .map(|i| i.path.as_path())
            .ok_or_else(|| StageError::new(format!("input `{slot}` is missing")))
    }

    /// The result table that an input slot holds.
    ///
    /// # Errors
    /// The slot is not filled, holds no table or several, or the table cannot be read.
    pub fn table_input(&self, slot: &str) -> Result<Table, StageError> {
        let mut files: Vec<_> = fs_err::read_dir(self.input(slot)?)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
        match files.as_slice() {
            [file] => Ok(Table::read(file)?),
            _ => Err(StageError::new("an input is not a table").hint("name tables: `stage/table`")),
        }
    }

    /// The folder to write an output's files into; made if needed.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn output(&self, slot: &str) -> Result<PathBuf, StageError> {
        let folder = self.scratch.join(slot);
        fs_err::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Writes rows as an output: a result table.
    ///
    /// # Errors
    /// The rows are no valid table ([`TableRow::table`]), or writing fails.
    pub fn write_rows<R: TableRow>(&self, slot: &str, rows: impl IntoIterator<Item = R>) -> Result<(), StageError> {
        self.write_table(slot, &R::table(rows)?)
    }

    /// Writes a result table as an output.
    ///
    /// # Errors
    /// Encoding or writing fails.
    pub fn write_table(&self, slot: &str, table: &Table) -> Result<(), StageError> {
        let path = self.output(slot)?.join(format!("{slot}.parquet"));
        table.write_parquet(&path)?;
        Ok(())
    }
}

/// In a job that the commands of a profile have submitted: MiB of memory that it asked for.
pub(crate) const JOB_MEMORY: &str = "DYNVIS_JOB_MEMORY";

/// Bytes and processor threads that the queue of a site has given the job that this process is in, where it has bounded
/// them.
fn of_job(threads: usize) -> Option<(u64, usize)> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()?
            .parse::<u64>()
            .ok()
            .filter(|number| *number > 0)
    };
    if let Some(mib) = number(JOB_MEMORY) {
        return Some((mib.saturating_mul(1 << 20), threads));
    }
    let (_, mib) = (std::env::var_os("SLURM_JOB_ID")?, number("SLURM_MEM_PER_NODE")?);
    let cores = usize::try_from(number("SLURM_CPUS_ON_NODE")?).ok()?;
    Some((mib.saturating_mul(1 << 20), cores))
}
