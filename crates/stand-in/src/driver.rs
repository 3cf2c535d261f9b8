//! `libcuda.so.1`: devices, contexts, streams, graphs and modules.

#![expect(unsafe_code, reason = "the driver's functions, as C calls them")]

mod memory;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_float, c_int, c_uint, c_ulonglong, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use crate::codes::{
    Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY, STREAM_CAPTURE_UNSUPPORTED, STREAM_CAPTURE_WRONG_THREAD, words,
};
use crate::context::{self, Context, Device, answer};
use crate::counts::{count, violation};
use crate::handles::Handles;
use crate::module::{self, Function, Module};
use crate::settings::settings;
use crate::stream::{Captured, Executable, Stream, refuse_while_capturing};

pub(crate) type Handle = *mut c_void;

pub(crate) static STREAMS: Handles<Stream> = Handles::new("stream");
static EVENTS: Handles<Event> = Handles::new("event");
static GRAPHS: Handles<Arc<Captured>> = Handles::new("graph");
static EXECUTABLES: Handles<Executable> = Handles::new("executable graph");
static MODULES: Handles<Module> = Handles::new("module");
static FUNCTIONS: Handles<Function> = Handles::new("function");

/// A point of a stream: all that it had been asked for when the event was recorded.
struct Event {
    context: Context,
    recorded: Mutex<Option<(Arc<Stream>, u64)>>,
}

/// Functions of C that return a code. `CALL` is the name of each within it.
macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> Code {
            #[allow(dead_code, reason = "not every call can go wrong")]
            const CALL: &str = stringify!($name);
            #[allow(clippy::too_many_arguments, reason = "NVIDIA's functions")]
            fn run($($argument: $kind),*) -> Result<(), Code> { $body }
            answer(CALL, run($($argument),*))
        }
    )* };
}
pub(super) use calls;

/// Writes a result to where the caller wants it.
pub(crate) fn put<T>(place: *mut T, value: T) -> Result<(), Code> {
    if place.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller of a driver's function gives a place for its result.
    unsafe { place.write(value) };
    Ok(())
}

/// The stream of a call, in the context in use.
pub(crate) fn stream(call: &str, handle: Handle) -> Result<Arc<Stream>, Code> {
    let context = context::current(call)?;
    if handle.is_null() {
        return Ok(default_stream(context));
    }
    let stream = STREAMS.get(call, handle).ok_or(INVALID_HANDLE)?;
    if stream.context != context {
        violation(format!("{call} with a stream of another context"));
        return Err(INVALID_HANDLE);
    }
    Ok(stream)
}

/// The stream that is named by no handle. Other streams do not wait for it: they are made so.
fn default_stream(context: Context) -> Arc<Stream> {
    static DEFAULT: Mutex<BTreeMap<u64, Arc<Stream>>> = Mutex::new(BTreeMap::new());
    let mut streams = DEFAULT.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(
        streams
            .entry(context.id)
            .or_insert_with(|| Arc::new(Stream::new(context))),
    )
}

/// Does all work of a context.
pub(crate) fn finish(context: Context) -> Result<(), Code> {
    default_stream(context).finish()?;
    for stream in STREAMS.all() {
        if stream.context == context {
            stream.finish()?;
        }
    }
    crate::memory::waited(context);
    Ok(())
}

fn is_capturing(context: Context) -> bool {
    STREAMS
        .all()
        .iter()
        .any(|stream| stream.context == context && stream.is_capturing())
}

/// Drops all that was made in a context.
fn forget(context: Context) -> Result<(), Code> {
    STREAMS.retain(|stream| stream.context != context);
    EVENTS.retain(|event| event.context != context);
    GRAPHS.retain(|graph| graph.context != context);
    EXECUTABLES.retain(|executable| executable.context != context);
    MODULES.retain(|module| module.context != context);
    FUNCTIONS.retain(|function| function.context != context);
    crate::cudnn::forget(context);
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(code: Code, name: *mut *const c_char) -> Code {
    let found = words(code).ok_or(INVALID_VALUE);
    found
        .and_then(|(text, _)| put(name, text.as_ptr()))
        .err()
        .unwrap_or_default()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(code: Code, text: *mut *const c_char) -> Code {
    let found = words(code).ok_or(INVALID_VALUE);
    found
        .and_then(|(_, words)| put(text, words.as_ptr()))
        .err()
        .unwrap_or_default()
}

calls! {
    fn cuInit(_flags: c_uint) { context::initialise() }

    fn cuDriverGetVersion(version: *mut c_int) { put(version, 13_000) }

    fn cuDeviceGetCount(number: *mut c_int) { put(number, context::count()? as c_int) }

    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        context::device(ordinal)?;
        put(device, ordinal)
    }

    fn cuDeviceGetName(name: *mut c_char, room: c_int, device: c_int) {
        let text = format!("stand-in {}\0", context::device(device)?);
        for (i, byte) in text.bytes().take(usize::try_from(room).unwrap_or_default()).enumerate() {
            // SAFETY: there is so much room.
            unsafe { name.add(i).write(byte as c_char) };
        }
        Ok(())
    }

    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) {
        put(uuid, [context::device(device)? as u8; 16])
    }

    fn cuDeviceGetPCIBusId(name: *mut c_char, room: c_int, device: c_int) {
        let text = format!("0000:{:02x}:00.0\0", context::device(device)? + 1);
        for (i, byte) in text.bytes().take(usize::try_from(room).unwrap_or_default()).enumerate() {
            // SAFETY: there is so much room.
            unsafe { name.add(i).write(byte as c_char) };
        }
        Ok(())
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) {
        context::device(device)?;
        put(bytes, settings().memory as usize)
    }

    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) {
        context::device(device)?;
        let (major, minor) = settings().capability;
        put(value, match attribute {
            1 | 2 => 1024,           // threads of a block, its width
            10 => 32,                // threads of a warp
            16 => 132,               // multiprocessors
            39 => 2048,              // threads of a multiprocessor
            75 => major as c_int,
            76 => minor as c_int,
            8 => 48 << 10,           // shared memory of a block
            41 | 83 => 1,            // unified addresses, managed memory
            115 => c_int::from(settings().pool),
            _ => 0,
        })
    }

    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) {
        let id = context::retain(context::device(device)?)?;
        put(context, id as Handle)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        // What is still in its streams is never done.
        context::release(context::device(device)?)?.map_or(Ok(()), forget)
    }

    fn cuCtxSetCurrent(context: Handle) { context::set_current(context as u64) }

    fn cuCtxGetCurrent(context: *mut Handle) { put(context, context::current_id()? as Handle) }

    fn cuCtxGetDevice(device: *mut c_int) { put(device, context::current(CALL)?.device as c_int) }

    fn cuCtxSynchronize() {
        let context = context::current(CALL)?;
        refuse_while_capturing()?;
        if is_capturing(context) {
            return Err(STREAM_CAPTURE_UNSUPPORTED);
        }
        count(|counts| counts.synchronisations += 1);
        finish(context)
    }

    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        context::current(CALL)?;
        put(least, 0)?;
        put(greatest, -5)
    }

    fn cuStreamCreate(stream: *mut Handle, flags: c_uint) {
        let context = context::current(CALL)?;
        // Streams that wait for the default stream are not made here.
        if flags != 1 {
            violation(format!("{CALL} with flags {flags}, which the stand-in does not have"));
        }
        put(stream, STREAMS.add(Stream::new(context)))
    }

    fn cuStreamCreateWithPriority(stream: *mut Handle, flags: c_uint, _priority: c_int) {
        let context = context::current(CALL)?;
        if flags != 1 {
            violation(format!("{CALL} with flags {flags}, which the stand-in does not have"));
        }
        put(stream, STREAMS.add(Stream::new(context)))
    }

    fn cuStreamDestroy_v2(handle: Handle) {
        let stream = stream(CALL, handle)?;
        if stream.is_capturing() {
            violation(format!("{CALL} of a stream that is being captured"));
        }
        STREAMS.take(CALL, handle);
        // What was asked for is done all the same.
        stream.finish()
    }

    fn cuStreamSynchronize(handle: Handle) {
        let stream = stream(CALL, handle)?;
        stream.refuse_in_capture(CALL, false)?;
        count(|counts| counts.synchronisations += 1);
        stream.finish()?;
        crate::memory::waited(stream.context);
        Ok(())
    }

    fn cuStreamQuery(handle: Handle) {
        let stream = stream(CALL, handle)?;
        stream.refuse_in_capture(CALL, false)?;
        // It is done before it is asked for again.
        if stream.has_done(stream.asked()) { Ok(()) } else { stream.finish().and(Err(NOT_READY)) }
    }

    fn cuStreamWaitEvent(handle: Handle, event: Handle, _flags: c_uint) {
        let stream = stream(CALL, handle)?;
        stream.refuse_in_capture(CALL, true)?;
        let event = EVENTS.get(CALL, event).ok_or(INVALID_HANDLE)?;
        let recorded = event.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match recorded {
            Some((other, asked)) if !Arc::ptr_eq(&other, &stream) => stream.wait_for(&other, asked),
            _ => Ok(()),
        }
    }

    fn cuEventCreate(event: *mut Handle, _flags: c_uint) {
        let context = context::current(CALL)?;
        let recorded = Mutex::default();
        put(event, EVENTS.add(Event { context, recorded }))
    }

    fn cuEventDestroy_v2(event: Handle) {
        context::current(CALL)?;
        EVENTS.take(CALL, event).map(|_| ()).ok_or(INVALID_HANDLE)
    }

    fn cuEventRecord(event: Handle, handle: Handle) {
        let stream = stream(CALL, handle)?;
        stream.refuse_in_capture(CALL, true)?;
        let event = EVENTS.get(CALL, event).ok_or(INVALID_HANDLE)?;
        if event.context != stream.context {
            return Err(INVALID_HANDLE);
        }
        let asked = stream.asked();
        *event.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some((stream, asked));
        Ok(())
    }

    fn cuEventSynchronize(event: Handle) {
        context::current(CALL)?;
        refuse_while_capturing()?;
        let event = EVENTS.get(CALL, event).ok_or(INVALID_HANDLE)?;
        count(|counts| counts.synchronisations += 1);
        let recorded = event.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        recorded.map_or(Ok(()), |(stream, asked)| stream.finish_until(asked))
    }

    fn cuEventQuery(event: Handle) {
        context::current(CALL)?;
        refuse_while_capturing()?;
        let event = EVENTS.get(CALL, event).ok_or(INVALID_HANDLE)?;
        let recorded = event.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match recorded {
            // It is done before it is asked for again.
            Some((stream, asked)) if !stream.has_done(asked) => stream.finish_until(asked).and(Err(NOT_READY)),
            _ => Ok(()),
        }
    }

    fn cuEventElapsedTime_v2(milliseconds: *mut c_float, from: Handle, to: Handle) {
        context::current(CALL)?;
        EVENTS.get(CALL, from).ok_or(INVALID_HANDLE)?;
        EVENTS.get(CALL, to).ok_or(INVALID_HANDLE)?;
        put(milliseconds, 1.0)
    }

    fn cuStreamBeginCapture_v2(handle: Handle, mode: c_int) {
        if handle.is_null() {
            return Err(STREAM_CAPTURE_UNSUPPORTED);
        }
        stream(CALL, handle)?.begin_capture(mode)
    }

    fn cuStreamIsCapturing(handle: Handle, status: *mut c_int) {
        put(status, stream(CALL, handle)?.capture_status())
    }

    fn cuStreamEndCapture(handle: Handle, graph: *mut Handle) {
        put(graph, std::ptr::null_mut())?;
        let captured = stream(CALL, handle)?.end_capture()?;
        put(graph, GRAPHS.add(Arc::new(captured)))
    }

    fn cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, _flags: c_ulonglong) {
        context::current(CALL)?;
        let graph = GRAPHS.get(CALL, graph).ok_or(INVALID_HANDLE)?;
        put(executable, EXECUTABLES.add(Executable::new(Arc::clone(&graph))?))
    }

    fn cuGraphUpload(executable: Handle, handle: Handle) {
        stream(CALL, handle)?;
        EXECUTABLES.get(CALL, executable).map(|_| ()).ok_or(INVALID_HANDLE)
    }

    fn cuGraphLaunch(executable: Handle, handle: Handle) {
        let stream = stream(CALL, handle)?;
        let executable = EXECUTABLES.get(CALL, executable).ok_or(INVALID_HANDLE)?;
        if executable.context != stream.context {
            return Err(INVALID_HANDLE);
        }
        let launched = stream.launch(executable);
        if launched == Err(crate::codes::ILLEGAL_ADDRESS) {
            Device::of(stream.context).fail(crate::codes::ILLEGAL_ADDRESS);
        }
        launched
    }

    fn cuGraphExecDestroy(executable: Handle) {
        EXECUTABLES.take(CALL, executable).map(|_| ()).ok_or(INVALID_HANDLE)
    }

    fn cuGraphDestroy(graph: Handle) { GRAPHS.take(CALL, graph).map(|_| ()).ok_or(INVALID_HANDLE) }

    fn cuThreadExchangeStreamCaptureMode(_mode: *mut c_int) {
        violation(format!("{CALL}, which the stand-in does not have"));
        Err(STREAM_CAPTURE_WRONG_THREAD)
    }

    fn cuModuleLoadData(module: *mut Handle, image: *const c_void) {
        let context = context::current(CALL)?;
        refuse_while_capturing()?;
        if image.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller gives a whole program.
        let loaded = unsafe { module::load(context, image.cast()) }?;
        put(module, MODULES.add(loaded))
    }

    fn cuModuleUnload(handle: Handle) {
        context::current(CALL)?;
        refuse_while_capturing()?;
        MODULES.take(CALL, handle).map(|_| ()).ok_or(INVALID_HANDLE)
    }

    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) {
        let context = context::current(CALL)?;
        let module = MODULES.get(CALL, module).ok_or(INVALID_HANDLE)?;
        if module.context != context || name.is_null() {
            return Err(INVALID_HANDLE);
        }
        // SAFETY: the caller gives a text.
        let found = module.function(unsafe { CStr::from_ptr(name) })?;
        put(function, FUNCTIONS.add(found))
    }

    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: Handle) {
        let function = FUNCTIONS.get(CALL, function).ok_or(INVALID_HANDLE)?;
        // The first attribute is how many threads a block may have.
        put(value, if attribute == 0 { function.bounds() as c_int } else { 0 })
    }

    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        handle: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let stream = stream(CALL, handle)?;
        let function = FUNCTIONS.get(CALL, function).ok_or(INVALID_HANDLE)?;
        if function.context != stream.context || !extra.is_null() {
            return Err(INVALID_HANDLE);
        }
        let sizes = [[grid_x, grid_y, grid_z], [block_x, block_y, block_z]];
        // SAFETY: the caller gives a pointer for each parameter.
        let launched = unsafe { function.launch(sizes, shared, parameters) };
        if launched.is_err() {
            stream.invalidate();
        }
        stream.ask(function.name(), launched?)
    }
}
