//! The ranks of a stage: processes that compute it together, a GPU each. The worker is rank 0 and starts the others as
//! its children, in its process group. They end with it. Where one of them fails, the worker says why and ends them all,
//! itself too, since it may wait in a GPU's driver for what that one will never send.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dynvis_base::platform;
use rustix::process::Signal;

use super::protocol::Message;
use super::signals::Termination;
use super::worker::{Out, Prepared, WorkerSpec, send};
use crate::kind::{ErrorClass, Ranks, Registry, Said, StageError};

/// How long the worker may take to fail by itself after another rank has failed, as it does where all fail in the same
/// way, and how long it waits to hear why, after it has failed for want of another.
const BY_ITSELF: Duration = Duration::from_secs(2);
/// How long the others may take to end after their work.
const ENDING: Duration = Duration::from_secs(20);

/// What a rank other than the first is started with.
#[derive(Clone, Debug)]
pub struct RankArguments {
    /// What the worker was asked to do.
    pub spec: PathBuf,
    /// Process id of the worker.
    pub parent: u32,
    /// Which rank it is, from 1.
    pub rank: usize,
    /// How many ranks there are.
    pub world: usize,
    /// The id by which they find each other, two hexadecimal digits for each byte.
    pub id: String,
}

/// The ranks after the first, as the worker sees them.
#[derive(Default)]
struct Others {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    children: Vec<Child>,
    /// How many have ended.
    ended: usize,
    /// Why the first that failed did.
    failure: Option<StageError>,
    /// Whether the worker's own part is over.
    over: bool,
}

impl Others {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds, for so long at most.
    fn wait(&self, longest: Duration, mut holds: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), longest, |state| !holds(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Hears a rank to its end. One that fails while the worker is at work ends the process group.
    fn hear(&self, index: usize, world: usize, gpu: &str, said: ChildStdout, out: &Out<'_>) {
        let messages = BufReader::new(said)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str(&line).ok());
        let last: Option<Message> = messages.last();
        let (mut state, status) = loop {
            let mut state = self.state();
            match state.children[index].try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => break (state, Ok(status)),
                Err(error) => break (state, Err(error)),
            }
            // It ends now, or is ended.
            drop(state);
            std::thread::sleep(Duration::from_millis(5));
        };
        state.ended += 1;
        let rank = format!("rank {} of {world}, on GPU {gpu}", index + 1);
        let failure = match (last, status) {
            (Some(Message::Done), _) => None,
            (Some(Message::Failed(error)), _) => Some(StageError {
                message: format!("{} ({rank})", error.message),
                ..error
            }),
            (_, Ok(status)) => Some(ended_silently(&rank, status)),
            (_, Err(error)) => Some(StageError::new(format!("{rank} cannot be waited for: {error}"))),
        };
        self.changed.notify_all();
        let Some(failure) = failure.filter(|_| state.failure.is_none()) else {
            return;
        };
        state.failure = Some(failure.clone());
        drop(state);
        if self.wait(BY_ITSELF, |state| state.over).over {
            return;
        }
        send(out, &Message::Failed(failure));
        let _ = rustix::process::kill_current_process_group(Signal::KILL);
    }
}

/// A rank that said nothing at its end. The system kills processes where memory is short.
fn ended_silently(rank: &str, status: ExitStatus) -> StageError {
    let killed = status.signal() == Some(Signal::KILL.as_raw());
    StageError::new(format!("{rank}, ended with {status}")).class(killed.then_some(ErrorClass::Oom))
}

/// Does the work of rank 0. The others are started when it asks for them, each where it sees one of the `gpus`, and end
/// with it.
///
/// # Errors
/// That of the work, or of the rank that failed first.
pub(super) fn with_ranks(
    world: usize,
    gpus: &[String],
    spec: &Path,
    out: &Out<'_>,
    work: impl FnOnce(Ranks<'_>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    if world == 1 {
        return work(Ranks::alone());
    }
    let others = Others::default();
    std::thread::scope(|scope| {
        let others = &others;
        let start = |id: &[u8]| -> Result<(), StageError> {
            for (index, gpu) in gpus.iter().enumerate().skip(1) {
                let mut child = start_rank(index, world, gpu, spec, id)?;
                let said = child.stdout.take();
                others.state().children.push(child);
                if let Some(said) = said {
                    let hear = move || others.hear(index - 1, world, gpu, said, out);
                    std::thread::Builder::new().spawn_scoped(scope, hear)?;
                }
            }
            Ok(())
        };
        let result = work(Ranks::first(world, Box::new(start)));
        others.end(result)
    })
}

impl Others {
    /// Ends the others after the worker's own part.
    fn end(&self, result: Result<(), StageError>) -> Result<(), StageError> {
        let longest = if result.is_ok() { ENDING } else { BY_ITSELF };
        let all_ended = |state: &State| state.ended == state.children.len();
        let mut state = self.wait(longest, |state| state.failure.is_some() || all_ended(state));
        state.over = true;
        self.changed.notify_all();
        for child in &mut state.children {
            // It may have ended by itself.
            let _ = child.kill();
        }
        match (result, state.failure.take()) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(theirs)) => Err(theirs),
            (Err(own), None) => Err(own),
            // All have failed in the same way.
            (Err(own), Some(theirs)) if theirs.message.starts_with(&own.message) => Err(own),
            (Err(_), Some(theirs)) => Err(theirs),
        }
    }
}

/// Starts a rank other than the first.
fn start_rank(rank: usize, world: usize, gpu: &str, spec: &Path, id: &[u8]) -> std::io::Result<Child> {
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    // Not its path, as for the worker itself. What the system does where the thread that starts it ends, it does where
    // the worker ends: that is its first thread.
    Command::new(platform::own_program()?)
        .arg0("dynvis")
        .arg("rank")
        .arg(spec)
        .args([std::process::id().to_string(), rank.to_string(), world.to_string(), id])
        .env("CUDA_VISIBLE_DEVICES", gpu)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}

/// Another rank's side: computes its part of the stage, speaking to the worker on `out` and logging to `log`. Signals
/// are the worker's to heed; it says what all do.
///
/// # Errors
/// Why the rank failed; the worker was told, unless the spec could not be read or the worker is gone.
pub fn serve_rank(
    registry: &Registry,
    arguments: &RankArguments,
    out: &mut (dyn Write + Send),
    log: &mut (dyn Write + Send),
) -> Result<(), StageError> {
    let termination = Termination::listen()?;
    termination.is_heeded.store(true, Ordering::SeqCst);
    platform::end_with_parent(arguments.parent, Signal::KILL)?;
    let out = Mutex::new(out);
    let result = run_rank(registry, arguments, log);
    let last = match &result {
        Ok(()) => Message::Done,
        Err(error) => Message::Failed(error.clone()),
    };
    send(&out, &last);
    result
}

fn run_rank(
    registry: &Registry,
    RankArguments {
        spec, rank, world, id, ..
    }: &RankArguments,
    log: &mut (dyn Write + Send),
) -> Result<(), StageError> {
    let spec: WorkerSpec = serde_json::from_slice(&fs_err::read(spec)?)?;
    let bytes = id.as_bytes().chunks(2).map(|digits| {
        let digits = std::str::from_utf8(digits).ok()?;
        u8::from_str_radix(digits, 16).ok()
    });
    let id = bytes
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| StageError::new("the id by which ranks find each other is damaged"))?;
    let prepared = Prepared::of(registry, &spec)?;
    let started = Instant::now();
    let said = move |said: Said| {
        if let Said::Note(text) = said {
            let _ = writeln!(log, "{:9.2} s  rank {rank}: {text}", started.elapsed().as_secs_f64());
        }
    };
    let ranks = Ranks::other(*rank, *world, id);
    prepared
        .stage
        .run(&mut prepared.context(spec, ranks, Arc::default(), said))
}
