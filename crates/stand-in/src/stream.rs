//! Streams: work is kept until the host waits for it, and then done in order. A GPU may be as late, and a program that
//! does not wait finds what was there before.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use crate::codes::{
    Code, ILLEGAL_ADDRESS, ILLEGAL_STATE, NOT_SUPPORTED, STREAM_CAPTURE_INVALIDATED, STREAM_CAPTURE_UNMATCHED,
    STREAM_CAPTURE_UNSUPPORTED, STREAM_CAPTURE_WRONG_THREAD,
};
use crate::context::{Context, Device};
use crate::counts::{Graph, Traffic, count, done, violation};
use crate::memory::{self, Allocation, Range};
use crate::settings::{BrokenCapture, settings};

/// Pieces of work, and bytes that were given back, that a stream keeps at most before it does them.
const KEPT: (usize, usize) = (1 << 12, 64 << 20);

/// A piece of work, which may be done again and again.
pub(crate) struct Work {
    /// What it is counted as.
    pub(crate) name: Arc<str>,
    /// Whether it is a kernel.
    pub(crate) kernel: bool,
    /// Memory that must be there when it is done.
    pub(crate) ranges: Vec<Range>,
    /// Does it, and says what it has read and written.
    pub(crate) run: Box<dyn Fn() -> Result<Traffic, Code> + Send + Sync>,
}

/// Captured work that is ready to run.
pub(crate) struct Executable {
    pub(crate) context: Context,
    graph: Arc<Captured>,
}

/// Captured work.
pub(crate) struct Captured {
    pub(crate) context: Context,
    work: Vec<Work>,
    /// All memory that it uses, each allocation once.
    ranges: Vec<Range>,
    /// Place in [`Counts::graphs`](crate::Counts::graphs).
    place: usize,
}

enum Queued {
    Work(Work),
    Graph(Arc<Executable>),
    Free(Allocation),
    /// All that another stream had been asked for.
    Wait(Arc<Stream>, u64),
}

/// A stream.
pub(crate) struct Stream {
    pub(crate) context: Context,
    state: Mutex<State>,
    /// Pieces of work that were done.
    done: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// Pieces of work that were asked for.
    asked: u64,
    /// Bytes that the queue gives back.
    freed: usize,
    capture: Option<Capture>,
}

struct Capture {
    thread: ThreadId,
    work: Vec<Work>,
    invalid: bool,
}

thread_local! {
    /// Streams whose captures this thread has begun. Until they end it may not call what other threads may.
    static CAPTURING: RefCell<Vec<Arc<Stream>>> = const { RefCell::new(Vec::new()) };
}

/// A call that waits, or may wait, for work of any stream. Within a capture that its thread has begun it is refused,
/// and invalidates the capture.
pub(crate) fn refuse_while_capturing() -> Result<(), Code> {
    CAPTURING.with_borrow(|streams| match streams.last() {
        Some(stream) => {
            stream.invalidate();
            Err(STREAM_CAPTURE_UNSUPPORTED)
        }
        None => Ok(()),
    })
}

impl Stream {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            state: Mutex::default(),
            done: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_capturing(&self) -> bool {
        self.state().capture.is_some()
    }

    /// Status of the capture, as the driver numbers it.
    pub(crate) fn capture_status(&self) -> i32 {
        match &self.state().capture {
            None => 0,
            Some(capture) if capture.invalid => 2,
            Some(_) => 1,
        }
    }

    pub(crate) fn invalidate(&self) {
        if let Some(capture) = &mut self.state().capture {
            capture.invalid = true;
        }
    }

    /// Refuses what cannot be captured, which invalidates the capture. Where a GPU would capture it, but not as what
    /// is meant, it is a violation too.
    pub(crate) fn refuse_in_capture(&self, call: &str, is_violation: bool) -> Result<(), Code> {
        if !self.is_capturing() {
            return Ok(());
        }
        if is_violation {
            violation(format!("{call} while the stream is being captured"));
        }
        self.invalidate();
        Err(STREAM_CAPTURE_UNSUPPORTED)
    }

    /// Asks for work, or adds it to what is captured.
    pub(crate) fn ask(&self, call: &str, work: Work) -> Result<(), Code> {
        if let Some(capture) = &mut self.state().capture {
            if capture.thread != std::thread::current().id() {
                violation(format!(
                    "{call} by another thread than the one that captures the stream"
                ));
            }
            if capture.invalid {
                return Err(STREAM_CAPTURE_INVALIDATED);
            }
            capture.work.push(work);
            return Ok(());
        }
        self.push(Queued::Work(work), 0)
    }

    /// Gives memory back when everything that was asked for is done.
    pub(crate) fn free(&self, allocation: Allocation) -> Result<(), Code> {
        self.push(Queued::Free(allocation), allocation.bytes)
    }

    /// Waits for all that another stream has been asked for so far, before anything else is done.
    pub(crate) fn wait_for(&self, other: &Arc<Self>, asked: u64) -> Result<(), Code> {
        self.push(Queued::Wait(Arc::clone(other), asked), 0)
    }

    /// Pieces of work that were asked for so far.
    pub(crate) fn asked(&self) -> u64 {
        self.state().asked
    }

    /// Whether so many of them are done.
    pub(crate) fn has_done(&self, asked: u64) -> bool {
        self.done.load(Ordering::SeqCst) >= asked
    }

    fn push(&self, queued: Queued, freed: usize) -> Result<(), Code> {
        let mut state = self.state();
        state.asked += 1;
        state.freed += freed;
        state.queue.push_back(queued);
        let full = state.queue.len() > KEPT.0 || state.freed > KEPT.1;
        drop(state);
        if full { self.finish() } else { Ok(()) }
    }

    /// Does everything that was asked for.
    pub(crate) fn finish(&self) -> Result<(), Code> {
        self.finish_until(self.asked())
    }

    /// Does the first so many pieces of work.
    pub(crate) fn finish_until(&self, asked: u64) -> Result<(), Code> {
        let device = Device::of(self.context);
        let _at_work = device.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        self.work_until(asked);
        device.fault()
    }

    /// The same, by the thread that does the GPU's work.
    fn work_until(&self, asked: u64) {
        while !self.has_done(asked) {
            let next = {
                let mut state = self.state();
                let next = state.queue.pop_front();
                if let Some(Queued::Free(allocation)) = &next {
                    state.freed -= allocation.bytes;
                }
                next
            };
            let Some(next) = next else { return };
            // After an error nothing is done any more.
            if Device::of(self.context).fault().is_ok() {
                match next {
                    Queued::Work(work) => {
                        count(|counts| counts.launches += u64::from(work.kernel));
                        self.run(&work);
                    }
                    Queued::Graph(executable) => self.run_graph(&executable.graph),
                    Queued::Free(allocation) => memory::free(allocation),
                    Queued::Wait(other, asked) if other.context == self.context => other.work_until(asked),
                    Queued::Wait(other, asked) => {
                        let _ = other.finish_until(asked);
                    }
                }
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn run(&self, work: &Work) -> Traffic {
        let result = match work.ranges.iter().all(|range| memory::is_there(range, false)) {
            true => (work.run)(),
            false => {
                violation(format!("{}: its memory was given back before it was done", work.name));
                Err(ILLEGAL_ADDRESS)
            }
        };
        let traffic = result.unwrap_or_else(|code| {
            Device::of(self.context).fail(code);
            Traffic::default()
        });
        done(&work.name, traffic);
        traffic
    }

    fn run_graph(&self, graph: &Captured) {
        let mut total = Traffic::default();
        for work in &graph.work {
            if Device::of(self.context).fault().is_err() {
                break;
            }
            total += self.run(work);
        }
        count(|counts| {
            counts.graph_launches += 1;
            counts.nodes_replayed += graph.work.len() as u64;
            if let Some(counted) = counts.graphs.get_mut(graph.place) {
                counted.launches += 1;
                counted.bytes += total;
            }
        });
    }

    pub(crate) fn begin_capture(self: &Arc<Self>, mode: i32) -> Result<(), Code> {
        const THREAD_LOCAL: i32 = 1;
        if mode != THREAD_LOCAL {
            violation(format!("a capture in mode {mode}, which the stand-in does not have"));
            return Err(NOT_SUPPORTED);
        }
        if settings().capture == Some(BrokenCapture::Begin) {
            return Err(NOT_SUPPORTED);
        }
        let mut state = self.state();
        if state.capture.is_some() {
            return Err(ILLEGAL_STATE);
        }
        state.capture = Some(Capture {
            thread: std::thread::current().id(),
            work: Vec::new(),
            invalid: false,
        });
        CAPTURING.with_borrow_mut(|streams| streams.push(Arc::clone(self)));
        count(|counts| counts.captures += 1);
        Ok(())
    }

    pub(crate) fn end_capture(self: &Arc<Self>) -> Result<Captured, Code> {
        let mut state = self.state();
        match &state.capture {
            None => return Err(STREAM_CAPTURE_UNMATCHED),
            Some(capture) if capture.thread != std::thread::current().id() => {
                violation("a capture is ended by another thread than the one that began it".to_owned());
                return Err(STREAM_CAPTURE_WRONG_THREAD);
            }
            Some(_) => {}
        }
        let capture = state.capture.take();
        CAPTURING.with_borrow_mut(|streams| streams.retain(|stream| !Arc::ptr_eq(stream, self)));
        let Some(Capture {
            work, invalid: false, ..
        }) = capture
        else {
            return Err(STREAM_CAPTURE_INVALIDATED);
        };
        let mut ranges: Vec<Range> = work.iter().flat_map(|work| work.ranges.clone()).collect();
        ranges.sort_by_key(|range| range.allocation);
        ranges.dedup_by_key(|range| range.allocation);
        let mut counted = Graph::default();
        for work in &work {
            *counted.nodes.entry(work.name.to_string()).or_default() += 1;
        }
        let place = count(|counts| {
            counts.graphs.push(counted);
            counts.graphs.len() - 1
        });
        Ok(Captured {
            context: self.context,
            work,
            ranges,
            place,
        })
    }

    pub(crate) fn launch(&self, executable: Arc<Executable>) -> Result<(), Code> {
        self.refuse_in_capture("cuGraphLaunch", true)?;
        if settings().capture == Some(BrokenCapture::Launch) {
            return Err(NOT_SUPPORTED);
        }
        if let Some(range) = executable
            .graph
            .ranges
            .iter()
            .find(|range| !memory::is_there(range, true))
        {
            let names = executable.graph.work.iter();
            let user = names.filter(|work| work.ranges.iter().any(|other| other.allocation == range.allocation));
            let names: Vec<&str> = user.map(|work| &*work.name).take(1).collect();
            violation(format!(
                "cuGraphLaunch: {} uses memory that was given back",
                names.concat()
            ));
            return Err(ILLEGAL_ADDRESS);
        }
        self.push(Queued::Graph(executable), 0)
    }
}

impl Executable {
    pub(crate) fn new(graph: Arc<Captured>) -> Result<Self, Code> {
        if settings().capture == Some(BrokenCapture::Instantiate) {
            return Err(NOT_SUPPORTED);
        }
        Ok(Self {
            context: graph.context,
            graph,
        })
    }
}
