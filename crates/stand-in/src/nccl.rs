//! `libnccl.so.2`: collective operations of several processes on one machine.

#![expect(unsafe_code, reason = "the library's functions, as C calls them")]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::codes::Code;
use crate::collective::{Communicator, Kind, Operation, Reduction};
use crate::context::{self, Context};
use crate::counts::{Traffic, count, refused, violation};
use crate::driver::{self, Handle};
use crate::handles::Handles;
use crate::memory::range;
use crate::settings::settings;
use crate::stream::{Stream, Work};

/// What the library's functions return.
type Status = c_int;

const SUCCESS: Status = 0;
const UNHANDLED_CUDA_ERROR: Status = 1;
const SYSTEM_ERROR: Status = 2;
const INVALID_ARGUMENT: Status = 4;
const INVALID_USAGE: Status = 5;
const REMOTE_ERROR: Status = 6;

/// What a stream fails with when an operation in it does.
const LAUNCH_FAILED: Code = 719;

/// The name by which ranks find each other.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId {
    text: [c_char; 128],
}

struct Member {
    context: Context,
    communicator: Arc<Communicator>,
}

static MEMBERS: Handles<Member> = Handles::new("communicator");

/// Work that an open group has collected.
type Collected = (Arc<Stream>, Work);

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static GROUP: RefCell<Vec<Collected>> = const { RefCell::new(Vec::new()) };
}

/// Text of the last error.
static LAST: Mutex<Option<CString>> = Mutex::new(None);

fn status(call: &str, result: Result<(), (Status, String)>) -> Status {
    let Err((status, text)) = result else { return SUCCESS };
    refused(call, status);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // It is read for as long as the process runs.
    if let Some(old) = std::mem::replace(&mut *last, CString::new(format!("{call}: {text}")).ok()) {
        std::mem::forget(old);
    }
    status
}

type Answer = Result<(), (Status, String)>;

fn wrong(status: Status, text: impl Into<String>) -> (Status, String) {
    (status, text.into())
}

fn put<T>(place: *mut T, value: T) -> Answer {
    driver::put(place, value).map_err(|_| wrong(INVALID_ARGUMENT, "there is no place for the result"))
}

fn member(call: &str, handle: Handle) -> Result<Arc<Member>, (Status, String)> {
    MEMBERS
        .get(call, handle)
        .ok_or_else(|| wrong(INVALID_ARGUMENT, "there is no such communicator"))
}

fn kind(number: c_int) -> Result<Kind, (Status, String)> {
    Ok(match number {
        0 => Kind::Int8,
        1 => Kind::Uint8,
        2 => Kind::Int32,
        3 => Kind::Uint32,
        4 => Kind::Int64,
        5 => Kind::Uint64,
        7 => Kind::Float32,
        8 => Kind::Float64,
        9 => Kind::Bfloat16,
        _ => {
            return Err(wrong(
                INVALID_ARGUMENT,
                format!("the stand-in has no values of type {number}"),
            ));
        }
    })
}

fn reduction(number: c_int) -> Result<Reduction, (Status, String)> {
    Ok(match number {
        0 => Reduction::Sum,
        1 => Reduction::Product,
        2 => Reduction::Largest,
        3 => Reduction::Least,
        4 => Reduction::Mean,
        _ => {
            return Err(wrong(
                INVALID_ARGUMENT,
                format!("the stand-in has no reduction {number}"),
            ));
        }
    })
}

/// An operation: where what this rank gives lies, and what it gets, in bytes.
struct Asked {
    operation: Operation,
    kind: Kind,
    reduction: Reduction,
    from: (usize, usize),
    to: (usize, usize),
}

/// Adds an operation to a stream, or to the group that is open.
fn ask(call: &str, handle: Handle, stream: Handle, asked: Asked) -> Answer {
    let member = member(call, handle)?;
    if member.communicator.error() != SUCCESS {
        return Err(wrong(member.communicator.error(), "an operation before has failed"));
    }
    let stream = driver::stream(call, stream).map_err(|_| wrong(INVALID_ARGUMENT, "there is no such stream"))?;
    if stream.context != member.context {
        return Err(wrong(
            INVALID_USAGE,
            "the stream is of another GPU than the communicator",
        ));
    }
    let Asked {
        operation,
        kind,
        reduction,
        from,
        to,
    } = asked;
    if from.1 == 0 {
        return Ok(());
    }
    let find = |(address, bytes): (usize, usize), what: &str| {
        let found = range(stream.context, address, bytes, || format!("{call}: {what}"));
        found.map_err(|_| wrong(INVALID_ARGUMENT, format!("{what} is no memory of this GPU")))
    };
    let (from, to) = (find(from, "what is sent")?, find(to, "what is received")?);
    // In place is as good; half in place is not.
    let (first, second) = (from.address.min(to.address), from.address.max(to.address));
    let apart = second - first >= if first == from.address { from.bytes } else { to.bytes };
    let inside = (second - first).is_multiple_of(from.bytes.min(to.bytes));
    if !apart && !inside {
        violation(format!("{call}: what is sent and what is received overlap"));
    }
    let communicator = Arc::clone(&member.communicator);
    let run = move || {
        // SAFETY: the memory is there, and work of a GPU is done by one thread at a time.
        let mine = unsafe { std::slice::from_raw_parts(from.address as *const u8, from.bytes) }.to_vec();
        let result = communicator.run(operation, kind, reduction, &mine).map_err(|_| {
            communicator.fail(REMOTE_ERROR);
            communicator.abort();
            LAUNCH_FAILED
        })?;
        // SAFETY: as above.
        let place = unsafe { std::slice::from_raw_parts_mut(to.address as *mut u8, to.bytes) };
        if result.len() != place.len() {
            communicator.fail(INVALID_USAGE);
            return Err(LAUNCH_FAILED);
        }
        place.copy_from_slice(&result);
        count(|counts| counts.collectives += 1);
        Ok(Traffic {
            read: from.bytes as u64,
            written: to.bytes as u64,
        })
    };
    let work = Work {
        name: "collective".into(),
        kernel: false,
        ranges: vec![from, to],
        run: Box::new(run),
    };
    if DEPTH.get() > 0 {
        GROUP.with_borrow_mut(|group| group.push((stream, work)));
        return Ok(());
    }
    submit(call, &stream, work)
}

fn submit(call: &str, stream: &Stream, work: Work) -> Answer {
    stream
        .ask(call, work)
        .map_err(|code| wrong(UNHANDLED_CUDA_ERROR, format!("the driver's error {code}")))
}

fn place(id: &UniqueId) -> Option<PathBuf> {
    let bytes: Vec<u8> = id.text.iter().map(|c| *c as u8).collect();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok()?;
    (!text.is_empty()).then(|| PathBuf::from(text))
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(status: Status) -> *const c_char {
    match status {
        SUCCESS => c"no error",
        UNHANDLED_CUDA_ERROR => c"unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        SYSTEM_ERROR => c"unhandled system error (run with NCCL_DEBUG=INFO for details)",
        INVALID_ARGUMENT => c"invalid argument (run with NCCL_DEBUG=WARN for details)",
        INVALID_USAGE => c"invalid usage (run with NCCL_DEBUG=WARN for details)",
        REMOTE_ERROR => c"remote process exited or there was a network error",
        _ => c"unknown result code",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_communicator: Handle) -> *const c_char {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.as_ref().map_or(c"".as_ptr(), |text| text.as_ptr())
}

/// Functions of C that return a status. `CALL` is the name of each within it.
macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> Status {
            #[allow(dead_code, reason = "not every call can go wrong")]
            const CALL: &str = stringify!($name);
            #[allow(clippy::too_many_arguments, reason = "NVIDIA's functions")]
            fn called($($argument: $kind),*) -> Answer { $body }
            status(CALL, called($($argument),*))
        }
    )* };
}

calls! {
    fn ncclGetVersion(version: *mut c_int) { put(version, 22_809) }

    fn ncclGetUniqueId(id: *mut UniqueId) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dynvis-stand-in-nccl-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut text = [0; 128];
        let bytes = path.as_os_str().as_encoded_bytes();
        // The longest name that a socket may have.
        if bytes.len() > 107 {
            return Err(wrong(SYSTEM_ERROR, format!("{} is too long for a socket", path.display())));
        }
        text.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from as c_char);
        put(id, UniqueId { text })
    }

    fn ncclCommInitRank(communicator: *mut Handle, ranks: c_int, id: UniqueId, rank: c_int) {
        let context = context::current(CALL).map_err(|_| wrong(UNHANDLED_CUDA_ERROR, "there is no context"))?;
        let place = place(&id).ok_or_else(|| wrong(INVALID_ARGUMENT, "it is no unique id"))?;
        let (Ok(ranks), Ok(rank)) = (usize::try_from(ranks), usize::try_from(rank)) else {
            return Err(wrong(INVALID_ARGUMENT, format!("rank {rank} of {ranks}")));
        };
        if rank >= ranks {
            return Err(wrong(INVALID_ARGUMENT, format!("rank {rank} of {ranks}")));
        }
        let made = Communicator::new(&place, rank, ranks, settings().gpus[context.device]);
        let made = made.map_err(|error| wrong(SYSTEM_ERROR, error.to_string()))?;
        put(communicator, MEMBERS.add(Member { context, communicator: Arc::new(made) }))
    }

    fn ncclCommDestroy(communicator: Handle) {
        MEMBERS.take(CALL, communicator).map(|_| ()).ok_or_else(|| wrong(INVALID_ARGUMENT, "there is none"))
    }

    fn ncclCommFinalize(communicator: Handle) { member(CALL, communicator).map(|_| ()) }

    fn ncclCommAbort(communicator: Handle) {
        let member = MEMBERS.take(CALL, communicator);
        let member = member.ok_or_else(|| wrong(INVALID_ARGUMENT, "there is none"))?;
        member.communicator.abort();
        Ok(())
    }

    fn ncclCommGetAsyncError(communicator: Handle, error: *mut Status) {
        put(error, member(CALL, communicator)?.communicator.error())
    }

    fn ncclCommCount(communicator: Handle, ranks: *mut c_int) {
        put(ranks, member(CALL, communicator)?.communicator.ranks as c_int)
    }

    fn ncclCommUserRank(communicator: Handle, rank: *mut c_int) {
        put(rank, member(CALL, communicator)?.communicator.rank as c_int)
    }

    fn ncclCommCuDevice(communicator: Handle, device: *mut c_int) {
        put(device, member(CALL, communicator)?.context.device as c_int)
    }

    fn ncclGroupStart() {
        DEPTH.set(DEPTH.get() + 1);
        Ok(())
    }

    fn ncclGroupEnd() {
        let depth = DEPTH.get();
        if depth == 0 {
            return Err(wrong(INVALID_USAGE, "no group was begun"));
        }
        DEPTH.set(depth - 1);
        if depth > 1 {
            return Ok(());
        }
        let group = GROUP.take();
        group.into_iter().try_for_each(|(stream, work)| submit(CALL, &stream, work))
    }

    fn ncclAllReduce(
        from: *const c_void, to: *mut c_void, number: usize, type_: c_int, reduction_: c_int, communicator: Handle,
        stream: Handle,
    ) {
        let kind = kind(type_)?;
        let bytes = number * kind.bytes();
        ask(CALL, communicator, stream, Asked {
            operation: Operation::AllReduce,
            kind,
            reduction: reduction(reduction_)?,
            from: (from as usize, bytes),
            to: (to as usize, bytes),
        })
    }

    fn ncclBroadcast(
        from: *const c_void, to: *mut c_void, number: usize, type_: c_int, root: c_int, communicator: Handle,
        stream: Handle,
    ) {
        let kind = kind(type_)?;
        let bytes = number * kind.bytes();
        let member = member(CALL, communicator)?;
        let root = u32::try_from(root).ok().filter(|root| (*root as usize) < member.communicator.ranks);
        let root = root.ok_or_else(|| wrong(INVALID_ARGUMENT, "there is no such root"))?;
        // What other ranks send is of no interest, and need not be there.
        let is_root = member.communicator.rank == root as usize;
        ask(CALL, communicator, stream, Asked {
            operation: Operation::Broadcast { root },
            kind,
            reduction: Reduction::Sum,
            from: (if is_root { from as usize } else { to as usize }, bytes),
            to: (to as usize, bytes),
        })
    }

    fn ncclAllGather(
        from: *const c_void, to: *mut c_void, number: usize, type_: c_int, communicator: Handle, stream: Handle,
    ) {
        let kind = kind(type_)?;
        let bytes = number * kind.bytes();
        let ranks = member(CALL, communicator)?.communicator.ranks;
        ask(CALL, communicator, stream, Asked {
            operation: Operation::AllGather,
            kind,
            reduction: Reduction::Sum,
            from: (from as usize, bytes),
            to: (to as usize, ranks * bytes),
        })
    }

    fn ncclReduceScatter(
        from: *const c_void, to: *mut c_void, number: usize, type_: c_int, reduction_: c_int, communicator: Handle,
        stream: Handle,
    ) {
        let kind = kind(type_)?;
        let bytes = number * kind.bytes();
        let ranks = member(CALL, communicator)?.communicator.ranks;
        ask(CALL, communicator, stream, Asked {
            operation: Operation::ReduceScatter,
            kind,
            reduction: reduction(reduction_)?,
            from: (from as usize, ranks * bytes),
            to: (to as usize, bytes),
        })
    }
}
