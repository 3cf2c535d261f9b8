//! A GPU's memory, in the host's: every allocation lies between zones that nobody may write to, is handed out as
//! garbage, and is kept out of use for a while after it was given back.

#![expect(unsafe_code, reason = "takes memory and gives addresses of it away")]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::codes::{Code, ILLEGAL_ADDRESS, INVALID_VALUE, OUT_OF_MEMORY};
use crate::context::Context;
use crate::counts::{count, violation};
use crate::settings::settings;

/// Bytes before and behind an allocation, and its alignment.
const ZONE: usize = 512;
/// What the zones hold.
const ZONE_BYTE: u8 = 0xA5;
/// What memory holds before it is written: NaN, of 16 bits, 32 or 64.
const GARBAGE: u8 = 0xFF;
/// What it holds after it was given back.
const GIVEN_BACK: u8 = 0xDD;
/// Bytes that were given back and are kept out of use.
const KEPT: usize = 64 << 20;

/// Memory that a piece of work uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// Allocation that it lies in; another one may have its address later.
    pub(crate) allocation: u64,
    pub(crate) address: usize,
    pub(crate) bytes: usize,
}

/// An allocation as others see it.
#[derive(Clone, Copy)]
pub(crate) struct Allocation {
    pub(crate) id: u64,
    pub(crate) address: usize,
    pub(crate) bytes: usize,
}

struct Block {
    seen: Allocation,
    context: Context,
    /// Of the pool, from which memory is taken in the order of a stream.
    pooled: bool,
    /// Given back, though work that was asked for before may still use it.
    given_back: bool,
}

/// Bytes of one GPU.
#[derive(Clone, Copy, Default)]
struct Use {
    pooled: u64,
    others: u64,
    /// Bytes that the pool has of the GPU, used or not.
    reserved: u64,
    /// Bytes that the pool keeps, used or not, when the host waits for the GPU.
    threshold: u64,
    /// The most that `pooled` has been since it was asked for.
    high: u64,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By address.
    live: BTreeMap<usize, Block>,
    devices: BTreeMap<usize, Use>,
    kept: VecDeque<Allocation>,
    kept_bytes: usize,
    used: u64,
    peak: u64,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn with<T>(change: impl FnOnce(&mut Table) -> T) -> T {
    let mut table: MutexGuard<'_, Option<Table>> = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    change(table.get_or_insert_default())
}

/// Bytes that an allocation takes of a GPU's memory.
fn taken(bytes: usize) -> u64 {
    bytes.next_multiple_of(ZONE) as u64
}

fn layout(bytes: usize) -> Option<Layout> {
    let size = bytes.checked_next_multiple_of(ZONE)?.checked_add(2 * ZONE)?;
    Layout::from_size_align(size, ZONE).ok()
}

/// The bytes of a place.
///
/// # Safety
/// They exist, and nobody else uses them meanwhile.
unsafe fn bytes_of<'a>(address: usize, bytes: usize) -> &'a mut [u8] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }
}

/// Takes memory.
pub(crate) fn allocate(context: Context, bytes: usize, pooled: bool) -> Result<usize, Code> {
    if bytes == 0 {
        violation("an allocation of 0 bytes".to_owned());
        return Err(INVALID_VALUE);
    }
    with(|table| {
        let device = table.devices.entry(context.device).or_default();
        let limit = settings().memory;
        if device.pooled + device.others + taken(bytes) > limit {
            return Err(OUT_OF_MEMORY);
        }
        let layout = layout(bytes).ok_or(OUT_OF_MEMORY)?;
        // SAFETY: the layout is not empty; the block is written before it is read, within its bounds.
        let address = unsafe {
            let base = alloc(layout);
            if base.is_null() {
                return Err(OUT_OF_MEMORY);
            }
            let all = bytes_of(base as usize, layout.size());
            all[..ZONE].fill(ZONE_BYTE);
            all[ZONE..ZONE + bytes].fill(GARBAGE);
            all[ZONE + bytes..].fill(ZONE_BYTE);
            base as usize + ZONE
        };
        if pooled {
            device.pooled += taken(bytes);
            device.high = device.high.max(device.pooled);
            // Memory that the pool has and does not use is given to others before they go without.
            device.reserved = device.reserved.max(device.pooled);
        } else {
            device.others += taken(bytes);
        }
        device.reserved = device.reserved.min(limit - device.others).max(device.pooled);
        table.next += 1;
        let seen = Allocation {
            id: table.next,
            address,
            bytes,
        };
        let block = Block {
            seen,
            context,
            pooled,
            given_back: false,
        };
        table.live.insert(address, block);
        table.used += taken(bytes);
        table.peak = table.peak.max(table.used);
        Ok(address)
    })
    .inspect(|_| count(|counts| counts.allocations += 1))
}

/// Marks memory as given back, which it is when [`free`] follows: work that was asked for before may still use it.
pub(crate) fn give_back(call: &str, context: Context, address: usize, pooled: bool) -> Result<Allocation, Code> {
    with(|table| {
        let block = match table.live.get_mut(&address) {
            Some(block) if !block.given_back => block,
            Some(_) => {
                violation(format!("{call} of memory that was given back"));
                return Err(INVALID_VALUE);
            }
            None => {
                violation(format!("{call} of {address:#x}, where no allocation begins"));
                return Err(INVALID_VALUE);
            }
        };
        if block.context != context {
            violation(format!("{call} of memory of another context"));
        }
        if block.pooled != pooled {
            violation(format!("{call} of memory that was taken by another call"));
        }
        block.given_back = true;
        let device = table.devices.entry(block.context.device).or_default();
        if block.pooled {
            device.pooled -= taken(block.seen.bytes);
        } else {
            device.others -= taken(block.seen.bytes);
        }
        table.used -= taken(block.seen.bytes);
        Ok(block.seen)
    })
}

/// Poisons memory that was given back. Nothing uses it any more.
pub(crate) fn free(allocation: Allocation) {
    with(|table| {
        if table.live.remove(&allocation.address).is_some() {
            check(allocation);
            keep(table, allocation);
        }
    });
}

/// Checks the zones about an allocation.
fn check(allocation: Allocation) {
    let Allocation { address, bytes, .. } = allocation;
    let behind = (bytes.next_multiple_of(ZONE) + ZONE) - bytes;
    // SAFETY: the zones are part of the block, which exists.
    let (before, after) = unsafe { (bytes_of(address - ZONE, ZONE), bytes_of(address + bytes, behind)) };
    for (zone, place) in [(before, "before"), (after, "behind")] {
        if let Some(at) = zone.iter().position(|byte| *byte != ZONE_BYTE) {
            let distance = if place == "before" { ZONE - at } else { at };
            violation(format!(
                "something wrote {place} an allocation of {bytes} bytes, {distance} bytes from it"
            ));
        }
    }
}

/// Poisons a block and keeps it out of use; the oldest such blocks go.
fn keep(table: &mut Table, allocation: Allocation) {
    // SAFETY: the block exists, and nobody uses it.
    unsafe { bytes_of(allocation.address, allocation.bytes) }.fill(GIVEN_BACK);
    table.kept_bytes += allocation.bytes;
    table.kept.push_back(allocation);
    while table.kept_bytes > KEPT {
        let Some(oldest) = table.kept.pop_front() else { break };
        table.kept_bytes -= oldest.bytes;
        check_kept(oldest);
        if let Some(layout) = layout(oldest.bytes) {
            // SAFETY: taken with this layout, and in no table any more.
            unsafe { dealloc((oldest.address - ZONE) as *mut u8, layout) };
        }
    }
}

fn check_kept(allocation: Allocation) {
    // SAFETY: the block exists, and nobody uses it.
    let memory = unsafe { bytes_of(allocation.address, allocation.bytes) };
    if let Some(at) = memory.iter().position(|byte| *byte != GIVEN_BACK) {
        violation(format!(
            "something wrote to byte {at} of an allocation of {} bytes after it was given back",
            allocation.bytes
        ));
    }
}

/// Checks all zones, and memory that was given back.
pub(crate) fn check_all() {
    with(|table| {
        table.live.values().for_each(|block| check(block.seen));
        table.kept.iter().for_each(|allocation| check_kept(*allocation));
    });
}

/// Gives back all memory of a context.
pub(crate) fn forget(context: Context) {
    with(|table| {
        let of_it = |block: &Block| block.context == context;
        let addresses: Vec<usize> = table
            .live
            .values()
            .filter(|block| of_it(block))
            .map(|block| block.seen.address)
            .collect();
        for block in addresses
            .iter()
            .filter_map(|address| table.live.remove(address))
            .collect::<Vec<_>>()
        {
            check(block.seen);
            if !block.given_back {
                table.used -= taken(block.seen.bytes);
            }
            keep(table, block.seen);
        }
        table.devices.insert(context.device, Use::default());
    });
}

/// The allocation that a place lies in, and the place as part of it.
///
/// `what` is said where it lies in none, or not wholly, or where the memory was given back or is another GPU's.
pub(crate) fn range(context: Context, address: usize, bytes: usize, what: impl Fn() -> String) -> Result<Range, Code> {
    let fail = |reason: &str| {
        violation(format!("{}: {bytes} bytes at {address:#x} {reason}", what()));
        Err(ILLEGAL_ADDRESS)
    };
    with(|table| {
        let Some(block) = table.live.range(..=address).next_back().map(|(_, block)| block) else {
            return fail("are no memory of a GPU");
        };
        let end = block.seen.address + block.seen.bytes;
        if address >= end {
            return fail("are no memory of a GPU");
        }
        if address.checked_add(bytes).is_none_or(|last| last > end) {
            return fail("reach behind the end of their allocation");
        }
        if block.given_back {
            return fail("lie in memory that was given back");
        }
        if block.context != context {
            return fail("lie in memory of another context");
        }
        Ok(Range {
            allocation: block.seen.id,
            address,
            bytes,
        })
    })
}

/// Whether memory that work was captured or asked for with is still that memory. Where it is to be done later, memory
/// must not have been given back either.
pub(crate) fn is_there(range: &Range, later: bool) -> bool {
    with(|table| {
        let block = table.live.range(..=range.address).next_back().map(|(_, block)| block);
        block.is_some_and(|block| block.seen.id == range.allocation && !(later && block.given_back))
    })
}

/// The allocation of a range that is there.
pub(crate) fn allocation(range: &Range) -> Option<Allocation> {
    with(|table| {
        let (_, block) = table.live.range(..=range.address).next_back()?;
        (block.seen.id == range.allocation).then_some(block.seen)
    })
}

/// Bytes of a GPU that are free, for all but the pool.
pub(crate) fn free_bytes(context: Context) -> u64 {
    with(|table| {
        let device = table.devices.entry(context.device).or_default();
        settings().memory.saturating_sub(device.reserved + device.others)
    })
}

/// The host has waited for a GPU: its pool gives back what it does not have to keep.
pub(crate) fn waited(context: Context) {
    with(|table| {
        let device = table.devices.entry(context.device).or_default();
        device.reserved = device.reserved.min(device.threshold).max(device.pooled);
    });
}

/// A pool gives back all but so many bytes of what it does not use.
pub(crate) fn trim(device: usize, bytes: u64) -> Result<(), Code> {
    with(|table| {
        let device = table.devices.entry(device).or_default();
        device.reserved = device.reserved.min(bytes).max(device.pooled);
        Ok(())
    })
}

/// Attributes of a pool, by their numbers.
pub(crate) fn pool_attribute(device: usize, attribute: i32) -> Option<u64> {
    with(|table| {
        let device = table.devices.entry(device).or_default();
        Some(match attribute {
            4 => device.threshold,
            5 | 6 => device.reserved,
            7 => device.pooled,
            8 => device.high,
            _ => return None,
        })
    })
}

/// Sets one of those that can be set.
pub(crate) fn set_pool_attribute(device: usize, attribute: i32, value: u64) -> Result<(), Code> {
    with(|table| {
        let device = table.devices.entry(device).or_default();
        match attribute {
            4 => device.threshold = value,
            // The mark starts again; no other value is taken.
            8 if value == 0 => device.high = device.pooled,
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    })
}

/// Allocations that were not given back, and bytes in use at most at a time.
pub(crate) fn left_and_peak() -> (u64, u64) {
    with(|table| {
        let left = table.live.values().filter(|block| !block.given_back).count();
        (left as u64, table.peak)
    })
}
