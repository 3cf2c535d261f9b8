//! GPUs, and their primary contexts, of which a thread has one in use.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::codes::{CONTEXT_IS_DESTROYED, Code, INVALID_CONTEXT, INVALID_DEVICE, NO_DEVICE, NOT_INITIALIZED};
use crate::counts::{refused, violation, write_at_exit};
use crate::memory;
use crate::settings::settings;

/// A primary context, from when it is first retained until it is last released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// What no other context has.
    pub(crate) id: u64,
    /// GPU that it is of.
    pub(crate) device: usize,
}

/// One GPU.
pub(crate) struct Device {
    /// Number of its primary context, 0 where there is none, and how often it is retained.
    primary: Mutex<(u64, u64)>,
    /// Held by the thread that does a GPU's work.
    pub(crate) at_work: Mutex<()>,
    /// The first error that came late; all calls fail with it.
    fault: AtomicI32,
}

static INITIALISED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Number of the context in use, 0 where there is none.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let device = |_| Device {
            primary: Mutex::new((0, 0)),
            at_work: Mutex::new(()),
            fault: AtomicI32::new(0),
        };
        settings().gpus.iter().map(device).collect()
    })
}

/// `cuInit`.
pub(crate) fn initialise() -> Result<(), Code> {
    write_at_exit();
    if let Some(code) = settings().init {
        return Err(code);
    }
    if devices().is_empty() {
        return Err(NO_DEVICE);
    }
    INITIALISED.store(true, Ordering::SeqCst);
    Ok(())
}

/// How many GPUs there are.
pub(crate) fn count() -> Result<usize, Code> {
    initialised().map(|()| devices().len())
}

fn initialised() -> Result<(), Code> {
    match INITIALISED.load(Ordering::SeqCst) {
        true => Ok(()),
        false => Err(NOT_INITIALIZED),
    }
}

/// A GPU by its number.
pub(crate) fn device(ordinal: i32) -> Result<usize, Code> {
    initialised()?;
    let ordinal = usize::try_from(ordinal).map_err(|_| INVALID_DEVICE)?;
    (ordinal < devices().len()).then_some(ordinal).ok_or(INVALID_DEVICE)
}

impl Device {
    pub(crate) fn of(context: Context) -> &'static Self {
        &devices()[context.device]
    }

    fn primary(&self) -> MutexGuard<'_, (u64, u64)> {
        self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an error that came late.
    pub(crate) fn fail(&self, code: Code) {
        let _ = self.fault.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(crate) fn fault(&self) -> Result<(), Code> {
        match self.fault.load(Ordering::SeqCst) {
            0 => Ok(()),
            code => Err(code),
        }
    }
}

/// Retains the primary context of a GPU.
pub(crate) fn retain(device: usize) -> Result<u64, Code> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if let Some(code) = settings().context {
        return Err(code);
    }
    let mut primary = devices()[device].primary();
    if primary.1 == 0 {
        // No address that memory has.
        primary.0 = NEXT.fetch_add(1, Ordering::SeqCst) << 6;
        devices()[device].fault.store(0, Ordering::SeqCst);
    }
    primary.1 += 1;
    Ok(primary.0)
}

/// Releases it; all that was made in it goes with the last release. The context that is gone, where it is.
pub(crate) fn release(device: usize) -> Result<Option<Context>, Code> {
    let mut primary = devices()[device].primary();
    if primary.1 == 0 {
        violation("cuDevicePrimaryCtxRelease of a context that is not retained".to_owned());
        return Err(INVALID_CONTEXT);
    }
    primary.1 -= 1;
    let gone = Context { id: primary.0, device };
    if primary.1 > 0 {
        return Ok(None);
    }
    primary.0 = 0;
    memory::forget(gone);
    Ok(Some(gone))
}

/// How often contexts are retained.
pub(crate) fn retained() -> u64 {
    devices().iter().map(|device| device.primary().1).sum()
}

fn find(id: u64) -> Option<Context> {
    let device = devices().iter().position(|device| device.primary().0 == id)?;
    Some(Context { id, device })
}

/// Makes a context the one in use, none where it is 0.
pub(crate) fn set_current(id: u64) -> Result<(), Code> {
    initialised()?;
    if id != 0 && find(id).is_none() {
        violation("cuCtxSetCurrent of a context that was destroyed".to_owned());
        return Err(INVALID_CONTEXT);
    }
    CURRENT.set(id);
    Ok(())
}

/// Number of the context in use, 0 where there is none.
pub(crate) fn current_id() -> Result<u64, Code> {
    initialised().map(|()| CURRENT.get())
}

/// The context in use, which every call but a few needs.
pub(crate) fn current(call: &str) -> Result<Context, Code> {
    initialised()?;
    let id = CURRENT.get();
    if id == 0 {
        violation(format!("{call} by a thread without a context"));
        return Err(INVALID_CONTEXT);
    }
    let Some(context) = find(id) else {
        violation(format!("{call} in a context that was destroyed"));
        return Err(CONTEXT_IS_DESTROYED);
    };
    Device::of(context).fault()?;
    Ok(context)
}

/// The code of a call; one that is not 0 is counted.
pub(crate) fn answer(call: &str, result: Result<(), Code>) -> Code {
    match result {
        Ok(()) => 0,
        Err(code) => {
            refused(call, code);
            code
        }
    }
}
