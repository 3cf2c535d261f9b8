//! One stage in a process of its own: how the parent starts it and what the process does.

use std::fs::File;
use std::io::{BufRead, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dynvis_base::platform;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::protocol::Message;
use super::ranks::with_ranks;
use super::signals::Termination;
use crate::fail::{self, FailAt, Step};
use crate::kind::{AnyKind, AnyStage, Conditions, Context, Device, Input, Ranks, Registry, Said, StageError, Update};

/// What a worker is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WorkerSpec {
    pub kind: String,
    pub params: Json,
    pub inputs: Vec<Input>,
    pub ensure: Conditions,
    pub key: String,
    pub scratch: PathBuf,
    pub checkpoint: PathBuf,
    pub lineage: Option<PathBuf>,
    pub root: PathBuf,
    pub threads: usize,
    pub device: Device,
    /// Bytes that it may take of the GPU; all of them if none.
    pub gpu_memory: Option<u64>,
    /// All of its GPUs, as `CUDA_VISIBLE_DEVICES` names them.
    pub gpus: Vec<String>,
    pub parent: u32,
    /// In tests.
    pub fail_at: Option<FailAt>,
}

/// How often progress within a phase is sent at most.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Starts a worker in its own process group, in which no other GPUs are seen than `gpus`. `tell` hears what it says, and
/// `None` when the worker closes its output. The worker holds the `locks` too, so that nobody else computes its key, or
/// has its GPUs, while a worker whose parent was killed still writes its checkpoint.
pub(super) fn start(
    spec: &WorkerSpec,
    spec_path: &Path,
    log: &Path,
    gpus: &str,
    locks: &[&File],
    tell: impl Fn(Option<Message>) + Send + 'static,
) -> std::io::Result<Child> {
    fs_err::write(spec_path, serde_json::to_vec(spec)?)?;
    // Where it is tried again, behind what the attempts before have said.
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    // Not its path: the file there may have been replaced by a newer build while this run goes on.
    let mut child = Command::new(platform::own_program()?)
        .arg0("dynvis")
        .arg("worker")
        .arg(spec_path)
        .env("CUDA_VISIBLE_DEVICES", gpus)
        .stdin(Stdio::from(holding(locks)?))
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take();
    let reading = std::thread::Builder::new().spawn(move || {
        if let Some(stdout) = stdout {
            for line in std::io::BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if let Ok(parsed) = serde_json::from_str(&line) {
                    tell(Some(parsed));
                }
            }
        }
        tell(None);
    });
    if let Err(error) = reading {
        // Nobody would hear of it.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok(child)
}

/// Locks in one message at most.
const PER_MESSAGE: usize = 200;

/// A standard input that holds locks. A lock belongs to the open file; files on their way through a socket are open
/// until it is closed, also where nobody reads them, and it closes with the worker.
fn holding(locks: &[&File]) -> std::io::Result<OwnedFd> {
    let (end, sender) = UnixStream::pair()?;
    for locks in locks.chunks(PER_MESSAGE) {
        let files: Vec<BorrowedFd<'_>> = locks.iter().map(|lock| lock.as_fd()).collect();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(files.len()))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        // There is room for them.
        message.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(&sender, &[IoSlice::new(b"locks")], &mut message, SendFlags::empty())?;
    }
    Ok(end.into())
}

/// The worker's side: runs the stage that the spec names, speaking on `out` and logging to `log`.
///
/// # Errors
/// Why the stage failed; the parent was told, unless the spec could not be read or the parent is gone.
pub fn serve(
    registry: &Registry,
    spec_path: &Path,
    out: &mut (dyn Write + Send),
    log: &mut (dyn Write + Send),
) -> Result<(), StageError> {
    // The parent's death must end the worker and everything that it started.
    let termination = Termination::listen()?;
    let spec: WorkerSpec = serde_json::from_slice(&fs_err::read(spec_path)?)?;
    platform::end_with_parent(spec.parent, rustix::process::Signal::TERM)?;
    if let Some(at) = spec.fail_at {
        fail::plan(at);
    }
    let out = Mutex::new(out);
    let result = run_stage(registry, spec, spec_path, &termination, &out, log);
    let last = match &result {
        Ok(()) => Message::Done,
        Err(error) => Message::Failed(error.clone()),
    };
    send(&out, &last);
    result
}

/// A stage as its spec names it.
pub(super) struct Prepared {
    pub(super) kind: &'static dyn AnyKind,
    pub(super) stage: Box<dyn AnyStage>,
    /// Processes that compute it together, and threads of each.
    pub(super) world: usize,
    threads: usize,
}

impl Prepared {
    /// Makes the thread pool, too.
    pub(super) fn of(registry: &Registry, spec: &WorkerSpec) -> Result<Self, StageError> {
        let kind = registry
            .kind(&spec.kind)
            .ok_or_else(|| StageError::new(format!("unknown stage kind `{}`", spec.kind)))?;
        let stage = kind.stage(spec.params.clone()).map_err(StageError::new)?;
        let world = match kind.uses_several_gpus() {
            true => spec.gpus.len().max(1),
            false => 1,
        };
        let threads = (spec.threads / world).max(1);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| StageError::new(error.to_string()))?;
        Ok(Self {
            kind,
            stage,
            world,
            threads,
        })
    }

    /// What the stage sees as one of its ranks.
    pub(super) fn context<'a>(
        &self,
        spec: WorkerSpec,
        ranks: Ranks<'a>,
        stop: Arc<AtomicBool>,
        said: impl FnMut(Said) + Send + 'a,
    ) -> Context<'a> {
        Context {
            inputs: spec.inputs.into_iter().map(|i| (i.slot.clone(), i)).collect(),
            scratch: spec.scratch,
            root: spec.root,
            threads: self.threads,
            device: spec.device,
            gpu_memory: spec.gpu_memory,
            ranks,
            key: spec.key,
            checkpoint: spec.checkpoint,
            lineage: spec.lineage,
            stop,
            said: Box::new(said),
        }
    }
}

fn run_stage(
    registry: &Registry,
    spec: WorkerSpec,
    spec_path: &Path,
    termination: &Termination,
    out: &Out<'_>,
    log: &mut (dyn Write + Send),
) -> Result<(), StageError> {
    let prepared = Prepared::of(registry, &spec)?;
    let start = Instant::now();
    let mut last_sent: Option<(Instant, String)> = None;
    // A lost log line must not fail the stage.
    let said = move |said: Said| match said {
        Said::Progress(update) => {
            if update.milestone {
                let _ = writeln!(log, "{}", log_line(&update, start.elapsed()));
            }
            let is_known = |(at, phase): &(Instant, String)| at.elapsed() < REPORT_EVERY && *phase == update.phase;
            if update.milestone || !last_sent.as_ref().is_some_and(is_known) {
                last_sent = Some((Instant::now(), update.phase.clone()));
                send(out, &Message::Progress(update));
            }
        }
        Said::Note(text) => {
            let _ = writeln!(log, "{:9.2} s  {text}", start.elapsed().as_secs_f64());
            send(out, &Message::Note(text));
        }
    };
    termination
        .is_heeded
        .store(prepared.kind.keeps_checkpoints(), Ordering::SeqCst);
    let (scratch, ensure, gpus) = (spec.scratch.clone(), spec.ensure.clone(), spec.gpus.clone());
    let stop = termination.requested.clone();
    with_ranks(prepared.world, &gpus, spec_path, out, |ranks| {
        prepared.stage.run(&mut prepared.context(spec, ranks, stop, said))
    })?;
    fail::at(Step::Written)?;
    match ensure.broken(|output| Some(scratch.join(output))) {
        Some(broken) => return Err(broken.published(prepared.kind).into()),
        None => fail::at(Step::Ensured)?,
    }
    Ok(())
}

fn log_line(update: &Update, elapsed: Duration) -> String {
    let mut line = format!(
        "{:9.2} s  {}  {}/{} {}",
        elapsed.as_secs_f64(),
        update.phase,
        update.done,
        update.total,
        update.unit
    );
    for (name, value) in &update.figures {
        line += &format!("  {name} {value:.4}");
    }
    line
}

/// Where a worker speaks to its parent.
pub(super) type Out<'a> = Mutex<&'a mut (dyn Write + Send)>;

pub(super) fn send(out: &Out<'_>, message: &Message) {
    // The parent may be gone; then the death signal ends this process.
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}
