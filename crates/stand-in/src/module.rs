//! Compiled programs in use: kernels, and how one is launched.

#![expect(unsafe_code, reason = "opens compiled programs and calls what is in them")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codes::{Code, INVALID_IMAGE, INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES, NO_BINARY_FOR_GPU, NOT_FOUND};
use crate::context::Context;
use crate::counts::{Traffic, violation};
use crate::memory::{self, Range};
use crate::settings::settings;
use crate::stream::Work;

/// As `c/after.c` has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameter {
    size: c_uint,
    alignment: c_uint,
    is_pointer: c_int,
    is_integer: c_int,
}

type Run = unsafe extern "C" fn(*mut *mut c_void);

#[repr(C)]
#[derive(Clone, Copy)]
struct RawKernel {
    name: *const c_char,
    run: Option<Run>,
    count: c_uint,
    parameters: *const Parameter,
}

/// As `c/count.c` has it.
#[repr(C)]
struct RawRange {
    first: usize,
    end: usize,
    read: *mut u8,
    written: *mut u8,
}

#[derive(Clone, Copy)]
struct Counting {
    run: Run,
    begin: unsafe extern "C" fn(*mut RawRange, c_uint),
    end: unsafe extern "C" fn(*mut usize, *mut c_uint, *mut c_int) -> u64,
}

/// A program in a context. What was opened stays open: work that was asked for may still need it.
pub(crate) struct Module {
    pub(crate) context: Context,
    kernels: HashMap<CString, Kernel>,
}

#[derive(Clone)]
struct Kernel {
    name: Arc<str>,
    run: Run,
    counting: Option<Counting>,
    parameters: Vec<Parameter>,
    bounds: u32,
}

/// A kernel of a module.
pub(crate) struct Function {
    pub(crate) context: Context,
    kernel: Arc<Kernel>,
}

/// Length of a program that begins here: where the table of its sections ends.
///
/// # Safety
/// It is a whole ELF file, or something else of at least four bytes.
unsafe fn length(image: *const u8) -> Option<usize> {
    // SAFETY: there are four bytes, and 64 where they begin an ELF file.
    let header = unsafe {
        if std::slice::from_raw_parts(image, 4) != b"\x7fELF" {
            return None;
        }
        std::slice::from_raw_parts(image, 64)
    };
    let number = |at: usize, bytes: usize| {
        header[at..at + bytes]
            .iter()
            .rev()
            .fold(0, |n, b| n << 8 | usize::from(*b))
    };
    let (sections, size, count) = (number(40, 8), number(58, 2), number(60, 2));
    sections.checked_add(size * count)
}

/// Opens a compiled program.
///
/// # Safety
/// As of [`length`].
pub(crate) unsafe fn load(context: Context, image: *const u8) -> Result<Module, Code> {
    // SAFETY: as above; the program is that long.
    let bytes = unsafe {
        let length = length(image).ok_or(INVALID_IMAGE)?;
        std::slice::from_raw_parts(image, length)
    };
    let file = rustix::fs::memfd_create("kernels", rustix::fs::MemfdFlags::CLOEXEC).map_err(|_| INVALID_IMAGE)?;
    let mut left = bytes;
    while !left.is_empty() {
        let written = rustix::io::write(&file, left).map_err(|_| INVALID_IMAGE)?;
        left = &left[written..];
    }
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| INVALID_IMAGE)?;
    // SAFETY: a program that this library has compiled runs nothing when it is opened; others lack the symbols.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(INVALID_IMAGE);
    }
    // A file of that name may be another program later; the loader must not take it for this one.
    std::mem::forget(file);
    // SAFETY: the library is open.
    let symbol = |name: &CStr| unsafe { libc::dlsym(library, name.as_ptr()) };
    let number = |name: &CStr| {
        let place: *const c_uint = symbol(name).cast();
        // SAFETY: `source` declares these symbols as such numbers.
        (!place.is_null()).then(|| unsafe { *place })
    };
    let [Some(architecture), Some(bounds)] = [c"stand_in_architecture", c"stand_in_bounds"].map(number) else {
        return Err(INVALID_IMAGE);
    };
    let (major, minor) = settings().capability;
    if architecture / 10 != major || architecture % 10 > minor {
        return Err(NO_BINARY_FOR_GPU);
    }
    // SAFETY (both): `source` declares the tables so, and they end with an entry without a name.
    let table = |name: &CStr| unsafe { entries(symbol(name).cast()) };
    let counted = table(c"stand_in_counted_kernels");
    let [begin, end] = [c"stand_in_begin", c"stand_in_end"].map(symbol);
    let kernels = table(c"stand_in_kernels")
        .into_iter()
        .enumerate()
        .filter_map(|(i, kernel)| {
            // SAFETY: as above; the functions are declared so in `c/count.c`.
            unsafe {
                let name = CStr::from_ptr(kernel.name).to_owned();
                let counting = counted.get(i).and_then(|counted| counted.run).map(|run| Counting {
                    run,
                    begin: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut RawRange, c_uint)>(begin),
                    end: std::mem::transmute::<
                        *mut c_void,
                        unsafe extern "C" fn(*mut usize, *mut c_uint, *mut c_int) -> u64,
                    >(end),
                });
                let kernel = Kernel {
                    name: name.to_string_lossy().into(),
                    run: kernel.run?,
                    counting,
                    parameters: std::slice::from_raw_parts(kernel.parameters, kernel.count as usize).to_vec(),
                    bounds,
                };
                Some((name, kernel))
            }
        });
    Ok(Module {
        context,
        kernels: kernels.collect(),
    })
}

/// Entries of a table before the one without a name.
///
/// # Safety
/// It is such a table, or null.
unsafe fn entries(table: *const RawKernel) -> Vec<RawKernel> {
    if table.is_null() {
        return Vec::new();
    }
    // SAFETY: as above.
    let all = (0..).map(|i| unsafe { *table.add(i) });
    all.take_while(|entry| !entry.name.is_null()).collect()
}

impl Module {
    pub(crate) fn function(&self, name: &CStr) -> Result<Function, Code> {
        let kernel = self.kernels.get(name).ok_or(NOT_FOUND)?;
        Ok(Function {
            context: self.context,
            kernel: Arc::new(kernel.clone()),
        })
    }
}

impl Function {
    pub(crate) fn name(&self) -> &str {
        &self.kernel.name
    }

    pub(crate) fn bounds(&self) -> u32 {
        self.kernel.bounds
    }

    /// A launch, held against the kernel's parameters.
    ///
    /// # Safety
    /// `parameters` points to a pointer for each.
    pub(crate) unsafe fn launch(
        &self,
        [grid, block]: [[u32; 3]; 2],
        shared: u32,
        parameters: *mut *mut c_void,
    ) -> Result<Work, Code> {
        let kernel = &self.kernel;
        let threads: u64 = block.iter().map(|side| u64::from(*side)).product();
        if grid.contains(&0) || threads == 0 || grid[1] > 65535 || grid[2] > 65535 {
            violation(format!(
                "{}: launched with a grid of {grid:?} blocks of {block:?}",
                kernel.name
            ));
            return Err(INVALID_VALUE);
        }
        if threads > u64::from(kernel.bounds) {
            violation(format!(
                "{}: {threads} threads in a block are more than it is compiled for",
                kernel.name
            ));
            return Err(LAUNCH_OUT_OF_RESOURCES);
        }
        if shared > 48 << 10 {
            return Err(INVALID_VALUE);
        }
        if parameters.is_null() && !kernel.parameters.is_empty() {
            return Err(INVALID_VALUE);
        }
        let (mut values, mut ranges) = (Vec::new(), Vec::new());
        for (i, parameter) in kernel.parameters.iter().enumerate() {
            // SAFETY: as above.
            let place = unsafe { *parameters.add(i) };
            if place.is_null() || !(place as usize).is_multiple_of(parameter.alignment as usize) {
                violation(format!("{}: parameter {i} is missing or misplaced", kernel.name));
                return Err(INVALID_VALUE);
            }
            let mut value = 0u64;
            let size = (parameter.size as usize).min(size_of::<u64>());
            // SAFETY: the caller's value has the parameter's size; a number of 64 bits has room for it.
            unsafe { std::ptr::copy_nonoverlapping(place.cast::<u8>(), (&raw mut value).cast(), size) };
            values.push(value);
            if parameter.is_pointer != 0 {
                let what = || format!("{}: parameter {i}", kernel.name);
                ranges.push(memory::range(self.context, value as usize, 1, what)?);
                // Sixteen bytes at once must not straddle.
                if !value.is_multiple_of(16) {
                    violation(format!("{}: parameter {i} is not aligned to 16 bytes", kernel.name));
                }
            } else if parameter.is_integer != 0 && parameter.size == 8 && (value as i64).unsigned_abs() >= 1 << 48 {
                violation(format!("{}: parameter {i} is {value:#x}: has it 64 bits?", kernel.name));
                return Err(INVALID_VALUE);
            }
        }
        let pointers: Vec<bool> = kernel
            .parameters
            .iter()
            .map(|parameter| parameter.is_pointer != 0)
            .collect();
        let kernel = Arc::clone(kernel);
        let used = ranges.clone();
        Ok(Work {
            name: Arc::clone(&self.kernel.name),
            kernel: true,
            ranges,
            run: Box::new(move || Ok(run(&kernel, &values, &pointers, &used))),
        })
    }
}

/// Runs a kernel, and says what it reads and writes where that is asked for.
fn run(kernel: &Kernel, values: &[u64], pointers: &[bool], ranges: &[Range]) -> Traffic {
    let mut values = values.to_vec();
    let mut places: Vec<*mut c_void> = values
        .iter_mut()
        .map(|value| std::ptr::from_mut(value).cast())
        .collect();
    let Some(counting) = kernel.counting else {
        // SAFETY: every parameter has a place of its size, and memory is there. What a kernel does beyond that is seen
        // in the zones about its memory.
        unsafe { (kernel.run)(places.as_mut_ptr()) };
        return Traffic::default();
    };
    let key = key(kernel, &values, pointers, ranges);
    if let Some(known) = known(&key) {
        // SAFETY: as above.
        unsafe { (kernel.run)(places.as_mut_ptr()) };
        return known;
    }
    let traffic = counted(kernel, counting, &values, &mut places, ranges);
    learn(key, traffic);
    traffic
}

/// What tells launches apart that may differ in bytes: the kernel, its numbers, how large its memory is and where it
/// begins, and which pointers are the same.
type Key = (Arc<str>, Vec<u64>, Vec<[usize; 3]>);

fn key(kernel: &Kernel, values: &[u64], pointers: &[bool], ranges: &[Range]) -> Key {
    let numbers = values.iter().zip(pointers).filter(|(_, is_pointer)| !**is_pointer);
    let memory = ranges.iter().map(|range| {
        let first = ranges.iter().position(|other| other.allocation == range.allocation);
        let allocation = memory::allocation(range);
        let (start, bytes) = allocation.map_or((0, 0), |it| (range.address - it.address, it.bytes));
        [first.unwrap_or_default(), start, bytes]
    });
    (
        Arc::clone(&kernel.name),
        numbers.map(|(value, _)| *value).collect(),
        memory.collect(),
    )
}

/// Bytes of launches: of the last one, and how often in a row it was the same.
static KNOWN: Mutex<Option<HashMap<Key, (Traffic, u32)>>> = Mutex::new(None);

/// Bytes that do not depend on what the memory holds, as several launches in a row have shown.
fn known(key: &Key) -> Option<Traffic> {
    const ENOUGH: u32 = 3;
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let (traffic, times) = known.as_ref()?.get(key)?;
    (*times >= ENOUGH).then_some(*traffic)
}

fn learn(key: Key, traffic: Traffic) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = known.get_or_insert_default().entry(key).or_insert((traffic, 0));
    *entry = if entry.0 == traffic {
        (traffic, entry.1 + 1)
    } else {
        (traffic, 1)
    };
}

/// Bytes of a sector, of which memory is made.
const SECTOR: usize = 32;

/// Runs a kernel so that every access is seen.
fn counted(
    kernel: &Kernel,
    counting: Counting,
    values: &[u64],
    places: &mut [*mut c_void],
    ranges: &[Range],
) -> Traffic {
    // There is one list of ranges.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut allocations: Vec<memory::Allocation> = ranges.iter().filter_map(memory::allocation).collect();
    allocations.sort_by_key(|allocation| allocation.id);
    allocations.dedup_by_key(|allocation| allocation.id);
    let map = |allocation: &memory::Allocation| vec![0u8; allocation.bytes.div_ceil(SECTOR)];
    let mut maps: Vec<[Vec<u8>; 2]> = allocations.iter().map(|it| [map(it), map(it)]).collect();
    let raw = allocations
        .iter()
        .zip(&mut maps)
        .map(|(allocation, [read, written])| RawRange {
            first: allocation.address,
            end: allocation.address + allocation.bytes,
            read: read.as_mut_ptr(),
            written: written.as_mut_ptr(),
        });
    let mut raw: Vec<RawRange> = raw.collect();
    // Parameters are read too, from memory of the host, which is not counted.
    let mut ignored = vec![0u8; values.len() + 1];
    let mut host = |first: usize, bytes: usize| RawRange {
        first,
        end: first + bytes,
        read: ignored.as_mut_ptr(),
        written: ignored.as_mut_ptr(),
    };
    raw.push(host(values.as_ptr() as usize, size_of_val(values)));
    raw.push(host(places.as_ptr() as usize, size_of_val(places)));
    let (mut first, mut bytes, mut writes) = (0, 0, 0);
    // SAFETY: the list outlives the run, and maps have a place for each sector. For the rest see `run`.
    let outside = unsafe {
        (counting.begin)(raw.as_mut_ptr(), raw.len() as c_uint);
        (counting.run)(places.as_mut_ptr());
        (counting.end)(&raw mut first, &raw mut bytes, &raw mut writes)
    };
    if outside > 0 {
        let verb = if writes != 0 { "writes" } else { "reads" };
        let nearest = allocations.iter().min_by_key(|it| it.address.abs_diff(first));
        let place = nearest.map_or_else(String::new, |it| {
            let offset = first.wrapping_sub(it.address) as isize;
            format!(", the first at byte {offset} of one of {} bytes", it.bytes)
        });
        violation(format!(
            "{}: {verb} {bytes} bytes outside its memory, {outside} times in a launch{place}",
            kernel.name
        ));
    }
    let total = |which: usize| -> u64 {
        let of = |(allocation, maps): (&memory::Allocation, &[Vec<u8>; 2])| {
            let touched = maps[which].iter().filter(|sector| **sector != 0).count() * SECTOR;
            // The last sector may be cut short.
            touched.min(allocation.bytes) as u64
        };
        allocations.iter().zip(&maps).map(of).sum()
    };
    Traffic {
        read: total(0),
        written: total(1),
    }
}
