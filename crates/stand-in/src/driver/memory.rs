//! `libcuda.so.1`: memory.

#![expect(unsafe_code, reason = "copies from and to places that C gives")]

use std::ffi::{c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::sync::Arc;

use super::{Handle, calls, finish, put, stream};
use crate::codes::{Code, INVALID_VALUE, NOT_SUPPORTED};
use crate::context::{self, Context, answer};
use crate::counts::{Traffic, count, violation};
use crate::host;
use crate::memory::{self, allocate, range};
use crate::settings::settings;
use crate::stream::{Stream, Work, refuse_while_capturing};

/// Address in a GPU's memory.
type Address = c_ulonglong;

/// Bytes of a place that C has given.
fn read(address: usize, bytes: usize) -> Vec<u8> {
    // SAFETY: the caller of a driver's function gives so many bytes.
    unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }.to_vec()
}

/// Copies between places that exist and do not overlap.
fn copy(from: usize, to: usize, bytes: usize) {
    // SAFETY: places in a GPU's memory were looked up, and others are the caller's.
    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
}

/// Memory set, `value` again and again.
fn set(call: &str, stream: &Stream, to: usize, value: &[u8], count: usize) -> Result<(), Code> {
    let bytes = value.len() * count;
    if bytes == 0 {
        return Ok(());
    }
    let to = range(stream.context, to, bytes, || call.to_owned())?;
    let value = value.to_vec();
    let run = move || {
        // SAFETY: the memory is there, and work of a GPU is done by one thread at a time.
        let memory = unsafe { std::slice::from_raw_parts_mut(to.address as *mut u8, to.bytes) };
        memory
            .chunks_exact_mut(value.len())
            .for_each(|part| part.copy_from_slice(&value));
        let written = to.bytes as u64;
        Ok(Traffic { read: 0, written })
    };
    let work = Work {
        name: "memset".into(),
        kernel: false,
        ranges: vec![to],
        run: Box::new(run),
    };
    stream.ask(call, work)
}

/// A copy from the host. Where the GPU can reach the host's memory, it is read when the work is done; else at once.
fn upload(call: &str, stream: &Stream, to: usize, from: usize, bytes: usize) -> Result<(), Code> {
    if bytes == 0 {
        return Ok(());
    }
    let to = range(stream.context, to, bytes, || call.to_owned())?;
    count(|counts| counts.host_copies += 1);
    let run: Box<dyn Fn() + Send + Sync> = if host::is_pinned(from, bytes) {
        Box::new(move || match host::is_pinned(from, bytes) {
            true => copy(from, to.address, bytes),
            false => violation("a copy to the GPU: the host's memory was given back before it was done".to_owned()),
        })
    } else {
        stream.refuse_in_capture(&format!("{call} of memory that the GPU cannot reach"), true)?;
        let staged = read(from, bytes);
        Box::new(move || copy(staged.as_ptr() as usize, to.address, staged.len()))
    };
    let work = Work {
        name: "copy from the host".into(),
        kernel: false,
        ranges: vec![to],
        run: Box::new(move || {
            run();
            let written = bytes as u64;
            Ok(Traffic { read: 0, written })
        }),
    };
    stream.ask(call, work)
}

/// A copy to the host. Where the GPU can reach the host's memory, it is written when the work is done; else the host
/// waits.
fn download(call: &str, stream: &Stream, to: usize, from: usize, bytes: usize) -> Result<(), Code> {
    if bytes == 0 {
        return Ok(());
    }
    let from = range(stream.context, from, bytes, || call.to_owned())?;
    count(|counts| counts.host_copies += 1);
    let waits = !host::is_pinned(to, bytes);
    if waits {
        stream.refuse_in_capture(&format!("{call} to memory that the GPU cannot reach"), true)?;
    }
    let work = Work {
        name: "copy to the host".into(),
        kernel: false,
        ranges: vec![from],
        run: Box::new(move || {
            if waits || host::is_pinned(to, bytes) {
                copy(from.address, to, bytes);
            } else {
                violation("a copy from the GPU: the host's memory was given back before it was done".to_owned());
            }
            let read = bytes as u64;
            Ok(Traffic { read, written: 0 })
        }),
    };
    stream.ask(call, work)?;
    if waits { stream.finish() } else { Ok(()) }
}

fn copy_within(call: &str, stream: &Stream, to: usize, from: usize, bytes: usize) -> Result<(), Code> {
    if bytes == 0 {
        return Ok(());
    }
    let from = range(stream.context, from, bytes, || call.to_owned())?;
    let to = range(stream.context, to, bytes, || call.to_owned())?;
    if from.address < to.address + bytes && to.address < from.address + bytes {
        violation(format!("{call} between places that overlap"));
        return Err(INVALID_VALUE);
    }
    let work = Work {
        name: "copy".into(),
        kernel: false,
        ranges: vec![from, to],
        run: Box::new(move || {
            copy(from.address, to.address, bytes);
            let bytes = bytes as u64;
            Ok(Traffic {
                read: bytes,
                written: bytes,
            })
        }),
    };
    stream.ask(call, work)
}

/// The stream that calls use which wait.
fn waiting(call: &str) -> Result<Arc<Stream>, Code> {
    refuse_while_capturing()?;
    stream(call, std::ptr::null_mut())
}

fn pool(handle: Handle) -> Result<usize, Code> {
    const FIRST: usize = 0xB001;
    (handle as usize)
        .checked_sub(FIRST)
        .filter(|device| *device < settings().gpus.len())
        .ok_or(INVALID_VALUE)
}

/// Gives memory back at once.
fn free(call: &str, context: Context, address: Address) -> Result<(), Code> {
    let allocation = memory::give_back(call, context, address as usize, false)?;
    finish(context)?;
    memory::free(allocation);
    Ok(())
}

calls! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let context = context::current(CALL)?;
        put(free, memory::free_bytes(context) as usize)?;
        put(total, settings().memory as usize)
    }

    fn cuMemAlloc_v2(address: *mut Address, bytes: usize) {
        let context = context::current(CALL)?;
        refuse_while_capturing()?;
        put(address, allocate(context, bytes, false)? as Address)
    }

    fn cuMemFree_v2(address: Address) {
        let context = context::current(CALL)?;
        refuse_while_capturing()?;
        free(CALL, context, address)
    }

    fn cuMemAllocAsync(address: *mut Address, bytes: usize, handle: Handle) {
        let stream = stream(CALL, handle)?;
        if !settings().pool {
            return Err(NOT_SUPPORTED);
        }
        // A GPU would take the memory each time that the graph is launched.
        stream.refuse_in_capture(CALL, true)?;
        put(address, allocate(stream.context, bytes, true)? as Address)
    }

    fn cuMemFreeAsync(address: Address, handle: Handle) {
        let stream = stream(CALL, handle)?;
        stream.refuse_in_capture(CALL, true)?;
        stream.free(memory::give_back(CALL, stream.context, address as usize, true)?)
    }

    fn cuMemHostAlloc(place: *mut Handle, bytes: usize, _flags: c_uint) {
        context::current(CALL)?;
        refuse_while_capturing()?;
        put(place, host::allocate(bytes)? as Handle)
    }

    fn cuMemAllocHost_v2(place: *mut Handle, bytes: usize) {
        context::current(CALL)?;
        refuse_while_capturing()?;
        put(place, host::allocate(bytes)? as Handle)
    }

    fn cuMemFreeHost(place: Handle) {
        let context = context::current(CALL)?;
        refuse_while_capturing()?;
        // Work that reads it comes first, as on a GPU.
        finish(context)?;
        host::free(place as usize)
    }

    fn cuMemsetD8Async(address: Address, byte: c_uchar, bytes: usize, handle: Handle) {
        set(CALL, &*stream(CALL, handle)?, address as usize, &[byte], bytes)
    }

    fn cuMemsetD32Async(address: Address, word: c_uint, words: usize, handle: Handle) {
        set(CALL, &*stream(CALL, handle)?, address as usize, &word.to_ne_bytes(), words)
    }

    fn cuMemsetD8_v2(address: Address, byte: c_uchar, bytes: usize) {
        set(CALL, &*waiting(CALL)?, address as usize, &[byte], bytes)
    }

    fn cuMemcpyHtoDAsync_v2(to: Address, from: *const c_void, bytes: usize, handle: Handle) {
        upload(CALL, &*stream(CALL, handle)?, to as usize, from as usize, bytes)
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: Address, bytes: usize, handle: Handle) {
        download(CALL, &*stream(CALL, handle)?, to as usize, from as usize, bytes)
    }

    fn cuMemcpyDtoDAsync_v2(to: Address, from: Address, bytes: usize, handle: Handle) {
        copy_within(CALL, &*stream(CALL, handle)?, to as usize, from as usize, bytes)
    }

    fn cuMemcpyHtoD_v2(to: Address, from: *const c_void, bytes: usize) {
        let stream = waiting(CALL)?;
        upload(CALL, &stream, to as usize, from as usize, bytes)?;
        stream.finish()
    }

    fn cuMemcpyDtoH_v2(to: *mut c_void, from: Address, bytes: usize) {
        let stream = waiting(CALL)?;
        download(CALL, &stream, to as usize, from as usize, bytes)?;
        stream.finish()
    }

    fn cuMemcpyDtoD_v2(to: Address, from: Address, bytes: usize) {
        copy_within(CALL, &*waiting(CALL)?, to as usize, from as usize, bytes)
    }

    fn cuDeviceGetDefaultMemPool(pool: *mut Handle, device: c_int) {
        let device = context::device(device)?;
        if !settings().pool {
            return Err(NOT_SUPPORTED);
        }
        put(pool, (0xB001 + device) as Handle)
    }

    fn cuDeviceGetMemPool(pool: *mut Handle, device: c_int) {
        let device = context::device(device)?;
        if !settings().pool {
            return Err(NOT_SUPPORTED);
        }
        put(pool, (0xB001 + device) as Handle)
    }

    fn cuMemPoolGetAttribute(handle: Handle, attribute: c_int, value: *mut c_void) {
        let found = memory::pool_attribute(pool(handle)?, attribute).ok_or(INVALID_VALUE)?;
        put(value.cast::<u64>(), found)
    }

    fn cuMemPoolSetAttribute(handle: Handle, attribute: c_int, value: *mut c_void) {
        let pool = pool(handle)?;
        if value.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: attributes that can be set are such numbers.
        memory::set_pool_attribute(pool, attribute, unsafe { value.cast::<u64>().read() })
    }

    fn cuMemPoolTrimTo(handle: Handle, bytes: usize) { memory::trim(pool(handle)?, bytes as u64) }
}
