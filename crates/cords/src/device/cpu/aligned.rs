//! Buffers that start on a cache line, so that a vector of 64 bytes never straddles two.

#![expect(unsafe_code, reason = "a line of bytes is plain data")]

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;
use memmap2::MmapMut;

/// 64 bytes: one cache line, one AVX-512 vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: an array of bytes: all zeros and every other pattern are valid, and there is no padding.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// Bytes of a huge page, and of the smallest buffer that lies in some: with ordinary pages, a kernel that streams
/// weights spends much of its time on finding out where they are, and so does the system on handing them out.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes of the smallest buffer whose pages go back to the system when it is dropped. An allocator keeps them, for the
/// thread that asked for them, and more and more of them.
const PAGES: usize = 128 << 10;

/// Bytes of dropped buffers' pages that are kept for the next buffers of the same sizes: the system takes longer to
/// give a page than a kernel to fill it.
pub(super) const SPARE: usize = 32 << 20;

/// Those pages, the latest last.
static SPARES: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

fn spares() -> MutexGuard<'static, Vec<MmapMut>> {
    // A list of whole buffers at any time.
    SPARES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pages of a dropped buffer of this size.
fn take_spare(bytes: usize) -> Option<MmapMut> {
    let mut spares = spares();
    let index = spares.iter().rposition(|map| map.len() == bytes)?;
    Some(spares.remove(index))
}

fn keep_spare(map: MmapMut) {
    if map.len() > HUGE_PAGE {
        return;
    }
    let mut spares = spares();
    spares.push(map);
    let mut kept: usize = spares.iter().map(|map| map.len()).sum();
    let mut surplus = 0;
    while kept > SPARE {
        kept -= spares[surplus].len();
        surplus += 1;
    }
    spares.drain(..surplus);
}

/// Values on the CPU, aligned to 64 bytes.
pub struct Aligned<T> {
    memory: Memory,
    len: usize,
    element: std::marker::PhantomData<T>,
}

enum Memory {
    Lines(Vec<Line>),
    /// Pages of zeros, of which the system takes those that are used; the values begin at byte `first`.
    Pages {
        map: MmapMut,
        first: usize,
    },
}

impl Memory {
    fn zeros(bytes: usize) -> Self {
        if bytes >= HUGE_PAGE
            && let Ok(map) = MmapMut::map_anon(bytes + HUGE_PAGE)
        {
            let first = map.as_ptr().align_offset(HUGE_PAGE);
            // A hint. What is left of the last huge page stays in ordinary ones, so that no more memory is taken than
            // is used.
            #[cfg(target_os = "linux")]
            let _ = map.advise_range(memmap2::Advice::HugePage, first, bytes / HUGE_PAGE * HUGE_PAGE);
            return Self::Pages { map, first };
        }
        if bytes >= PAGES {
            if let Some(mut map) = take_spare(bytes) {
                map.fill(0);
                return Self::Pages { map, first: 0 };
            }
            if let Ok(map) = MmapMut::map_anon(bytes) {
                return Self::Pages { map, first: 0 };
            }
        }
        Self::Lines(vec![Line([0; 64]); bytes.div_ceil(64)])
    }
}

impl<T> Drop for Aligned<T> {
    fn drop(&mut self) {
        if let Memory::Pages { map, .. } = std::mem::replace(&mut self.memory, Memory::Lines(Vec::new())) {
            keep_spare(map);
        }
    }
}

impl<T: Pod> Aligned<T> {
    pub(super) fn zeros(len: usize) -> Self {
        Self {
            memory: Memory::zeros(len * size_of::<T>()),
            len,
            element: std::marker::PhantomData,
        }
    }

    pub(super) fn from_slice(values: &[T]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// At least `len` values of any content.
    pub(super) fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self[..len]
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self {
            memory: Memory::Lines(Vec::new()),
            len: 0,
            element: std::marker::PhantomData,
        }
    }
}

impl<T: Pod> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Lines(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Memory::Pages { map, first } => bytemuck::cast_slice(&map[*first..][..self.len * size_of::<T>()]),
        }
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Memory::Pages { map, first } => bytemuck::cast_slice_mut(&mut map[*first..][..self.len * size_of::<T>()]),
        }
    }
}
