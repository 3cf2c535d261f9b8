//! What was asked of the stand-in, written to a file when the process ends.

#![expect(unsafe_code, reason = "asks to be called when the process ends")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use serde::{Deserialize, Serialize};

use crate::memory;
use crate::settings::settings;

/// Bytes that work reads and writes in a GPU's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes read, each once for each piece of work.
    pub read: u64,
    /// Bytes written, likewise.
    pub written: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.written += other.written;
    }
}

/// Pieces of work of one name: a kernel, `memset`, `copy`, `convolution forward`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// How often it was done, within graphs or not.
    pub count: u64,
    /// Bytes, where they are counted.
    pub bytes: Traffic,
}

/// Convolutions that were done, by pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convolutions {
    /// Outputs from inputs and weights.
    pub forward: u64,
    /// The gradient of inputs.
    pub inputs: u64,
    /// The gradient of weights.
    pub weights: u64,
}

/// Work that was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Pieces of work in it, by name.
    pub nodes: BTreeMap<String, u64>,
    /// How often it was launched.
    pub launches: u64,
    /// Bytes of all launches, where they are counted.
    pub bytes: Traffic,
}

/// What one process has asked of the stand-in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of the process.
    pub process: u32,
    /// Its arguments.
    pub command: Vec<String>,
    /// Kernels launched by themselves, not within a graph.
    pub launches: u64,
    /// Graphs launched.
    pub graph_launches: u64,
    /// Pieces of work done within graphs.
    pub nodes_replayed: u64,
    /// Memory set, within graphs or not.
    pub memsets: u64,
    /// Copies within a GPU's memory, within graphs or not.
    pub copies: u64,
    /// Copies from and to the host.
    pub host_copies: u64,
    /// Convolutions done, within graphs or not.
    pub convolutions: Convolutions,
    /// Collective operations done, within graphs or not.
    pub collectives: u64,
    /// Waits of the host for a stream, a context or an event.
    pub synchronisations: u64,
    /// Allocations of memory.
    pub allocations: u64,
    /// Allocations that were never given back.
    pub allocations_left: u64,
    /// Bytes in use at most at a time, of all GPUs together.
    pub peak_bytes: u64,
    /// Captures begun.
    pub captures: u64,
    /// Contexts that were retained and not released.
    pub contexts_left: u64,
    /// Calls that were answered with an error, by `call: code`.
    pub refused: BTreeMap<String, u64>,
    /// What a real GPU might not forgive.
    pub violations: Vec<String>,
    /// Work that was done, by name.
    pub work: BTreeMap<String, Work>,
    /// Bytes of all work, where they are counted.
    pub bytes: Traffic,
    /// Graphs, in the order in which they were made.
    pub graphs: Vec<Graph>,
}

impl Counts {
    /// What the processes of a run have written to the file that `DYNVIS_STAND_IN_COUNTS` named, in the order in which
    /// they ended. None where there is no such file.
    ///
    /// # Errors
    /// Where it cannot be read or holds something else.
    pub fn read(file: &Path) -> std::io::Result<Vec<Self>> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let counts = text.lines().map(serde_json::from_str);
        Ok(counts.collect::<Result<_, _>>()?)
    }
}

static COUNTS: Mutex<Option<Counts>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Counts>> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the counts.
pub(crate) fn count<T>(change: impl FnOnce(&mut Counts) -> T) -> T {
    change(lock().get_or_insert_default())
}

/// Says and counts what a real GPU might not forgive.
#[expect(clippy::print_stderr, reason = "a library that stands for another has no other way")]
pub(crate) fn violation(text: String) {
    const MOST: usize = 1000;
    count(|counts| {
        if counts.violations.len() < MOST {
            eprintln!("stand-in for CUDA: {text}");
            counts.violations.push(text);
        }
    });
}

/// Counts work that was done.
pub(crate) fn done(name: &str, bytes: Traffic) {
    count(|counts| {
        let work = match counts.work.get_mut(name) {
            Some(work) => work,
            None => counts.work.entry(name.to_owned()).or_default(),
        };
        work.count += 1;
        work.bytes += bytes;
        counts.bytes += bytes;
        match name {
            "memset" => counts.memsets += 1,
            "copy" => counts.copies += 1,
            "convolution forward" => counts.convolutions.forward += 1,
            "convolution inputs" => counts.convolutions.inputs += 1,
            "convolution weights" => counts.convolutions.weights += 1,
            _ => {}
        }
    });
}

/// Counts a call that is answered with an error.
pub(crate) fn refused(call: &str, code: i32) {
    count(|counts| *counts.refused.entry(format!("{call}: {code}")).or_default() += 1);
}

/// Sees to it that counts are written when the process ends.
pub(crate) fn write_at_exit() {
    extern "C" fn write() {
        memory::check_all();
        let contexts = crate::context::retained();
        let Some(file) = &settings().counts else { return };
        let (left, peak) = memory::left_and_peak();
        let line = count(|counts| {
            counts.process = std::process::id();
            counts.command = std::env::args().collect();
            counts.allocations_left = left;
            counts.peak_bytes = peak;
            counts.contexts_left = contexts;
            serde_json::to_string(&counts)
        });
        let Ok(line) = line else { return };
        // A line at once, so that lines of several processes do not mix. Nobody is left to tell of an error.
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let _ = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
    static ONCE: Once = Once::new();
    // SAFETY: `write` stays in memory: a library that is in use at exit is not closed before.
    ONCE.call_once(|| unsafe {
        libc::atexit(write);
    });
}
