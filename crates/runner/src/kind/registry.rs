//! What a program is made of: the stage kinds and presets that its pipelines can name, and how it finds GPUs.

use super::{AnyKind, Kind, erased};

/// The stage kinds and presets that pipelines can name, and what the program says of itself.
pub struct Registry {
    kinds: Vec<&'static dyn AnyKind>,
    presets: &'static [(&'static str, &'static str)],
    gpus: &'static dyn GpuDriver,
    /// The text of the program's `Cargo.lock`: which versions of libraries it was built from.
    pub(crate) lock_file: &'static [u8],
    /// What is wrong with the address of a remote.
    pub(crate) check_remote: fn(&str) -> Result<(), String>,
    /// The program's version.
    pub(crate) version: &'static str,
}

impl Registry {
    /// One without kinds.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        Self {
            kinds: Vec::new(),
            presets: &[],
            gpus: &NoGpus,
            lock_file: &[],
            check_remote: |_| Ok(()),
            version,
        }
    }

    /// The program's version.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Adds a stage kind, behind those that are there.
    ///
    /// # Panics
    /// Where there is a kind of that name.
    #[must_use]
    pub fn with<K: Kind>(mut self) -> Self {
        assert!(
            self.kind(K::NAME).is_none(),
            "there is a stage kind `{}` already",
            K::NAME
        );
        self.kinds.push(erased::<K>());
        self
    }

    /// Presets that are part of the program, in order of their names: name (`train/cnn`) and text.
    ///
    /// # Panics
    /// Where they are in another order.
    #[must_use]
    pub fn with_presets(mut self, presets: &'static [(&'static str, &'static str)]) -> Self {
        assert!(
            presets.is_sorted_by_key(|(name, _)| name),
            "presets must stand in order of their names"
        );
        self.presets = presets;
        self
    }

    /// What finds GPUs for stages to lease.
    #[must_use]
    pub fn with_gpus(mut self, gpus: &'static dyn GpuDriver) -> Self {
        self.gpus = gpus;
        self
    }

    /// What the address of a remote in a pipeline is held against: the message says what is wrong with it.
    #[must_use]
    pub fn with_remotes(mut self, check: fn(&str) -> Result<(), String>) -> Self {
        self.check_remote = check;
        self
    }

    /// The text of the program's `Cargo.lock`, whose hash goes into the record of every run.
    #[must_use]
    pub fn with_lock_file(mut self, text: &'static [u8]) -> Self {
        self.lock_file = text;
        self
    }

    /// Every kind, in order.
    #[must_use]
    pub fn kinds(&self) -> &[&'static dyn AnyKind] {
        &self.kinds
    }

    /// The kind of that name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&'static dyn AnyKind> {
        self.kinds.iter().copied().find(|kind| kind.name() == name)
    }

    /// Presets that are part of the program: name and text, in order of their names.
    #[must_use]
    pub fn presets(&self) -> &'static [(&'static str, &'static str)] {
        self.presets
    }

    /// The text of a preset that is part of the program.
    #[must_use]
    pub fn preset(&self, name: &str) -> Option<&'static str> {
        let at = self.presets.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        Some(self.presets[at].1)
    }

    /// What finds GPUs.
    #[must_use]
    pub fn gpus(&self) -> &'static dyn GpuDriver {
        self.gpus
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        f.debug_struct("Registry")
            .field("kinds", &names)
            .finish_non_exhaustive()
    }
}

/// What finds GPUs: the runner leases them to stages, and starts workers that see no others. GPUs are counted from 0
/// among those that `CUDA_VISIBLE_DEVICES` leaves.
pub trait GpuDriver: Sync {
    /// How many there are.
    ///
    /// # Errors
    /// [`GpuError::Absent`] where there is none, [`GpuError::Unusable`] where none can be looked for.
    fn count(&self) -> Result<usize, GpuError>;

    /// Finds out whether the program can compute on one. What that takes of the GPU is given back.
    ///
    /// # Errors
    /// Why it cannot.
    fn try_out(&self, ordinal: usize) -> Result<(), String>;

    /// Memory of a GPU in bytes.
    ///
    /// # Errors
    /// Why the driver does not tell.
    fn total_memory(&self, ordinal: usize) -> Result<u64, String>;

    /// Name of a GPU, as its maker calls it.
    fn name(&self, ordinal: usize) -> Option<String>;

    /// Name and version of the driver, for the record of a run.
    fn version(&self) -> Option<String>;
}

/// Why there is no GPU to compute on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// This machine has none, or none is shown to the process.
    #[error("{0}")]
    Absent(String),
    /// There is something, which does not work.
    #[error("{0}")]
    Unusable(String),
}

/// No GPU is ever found.
struct NoGpus;

impl GpuDriver for NoGpus {
    fn count(&self) -> Result<usize, GpuError> {
        Ok(0)
    }

    fn try_out(&self, _: usize) -> Result<(), String> {
        Err("there is none".to_owned())
    }

    fn total_memory(&self, _: usize) -> Result<u64, String> {
        Err("there is none".to_owned())
    }

    fn name(&self, _: usize) -> Option<String> {
        None
    }

    fn version(&self) -> Option<String> {
        None
    }
}
