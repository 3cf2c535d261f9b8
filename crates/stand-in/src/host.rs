//! Host memory that a GPU can reach: work that copies from and to it is done as late as the stream allows.

#![expect(unsafe_code, reason = "takes memory and gives its address away")]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::codes::{Code, INVALID_VALUE, OUT_OF_MEMORY};
use crate::counts::violation;

/// Alignment, a page.
const PAGE: usize = 4096;

/// Bytes by address.
static PINNED: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());

fn pinned() -> MutexGuard<'static, BTreeMap<usize, Layout>> {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes memory of the host.
pub(crate) fn allocate(bytes: usize) -> Result<usize, Code> {
    if bytes == 0 {
        return Err(INVALID_VALUE);
    }
    let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| OUT_OF_MEMORY)?;
    // SAFETY: the layout is not empty.
    let address = unsafe { alloc(layout) } as usize;
    if address == 0 {
        return Err(OUT_OF_MEMORY);
    }
    // SAFETY: just taken. Nobody may count on what it holds.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }.fill(0xFF);
    pinned().insert(address, layout);
    Ok(address)
}

/// Gives it back.
pub(crate) fn free(address: usize) -> Result<(), Code> {
    let Some(layout) = pinned().remove(&address) else {
        violation(format!("cuMemFreeHost of {address:#x}, where no allocation begins"));
        return Err(INVALID_VALUE);
    };
    // SAFETY: taken with this layout, and in no table any more.
    unsafe { dealloc(address as *mut u8, layout) };
    Ok(())
}

/// Whether these bytes lie in such memory.
pub(crate) fn is_pinned(address: usize, bytes: usize) -> bool {
    let pinned = pinned();
    let block = pinned.range(..=address).next_back();
    block.is_some_and(|(start, layout)| address + bytes <= start + layout.size())
}
