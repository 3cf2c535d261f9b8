//! A GPU as a device: its memory, what it may take of it, and what becomes of a failure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::gpu::{Argument, Gpu};
use crate::device::DeviceError;
use dynvis_base::{Classified, ErrorKind};

/// A GPU as a device.
pub struct Cuda<G: Gpu> {
    pub(super) gpu: G,
    pub(super) group_images: usize,
    /// Bytes that may still be taken.
    left: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<DeviceError>>>,
}

impl<G: Gpu> Clone for Cuda<G> {
    fn clone(&self) -> Self {
        Self {
            gpu: self.gpu.clone(),
            group_images: self.group_images,
            left: Arc::clone(&self.left),
            failure: Arc::clone(&self.failure),
        }
    }
}

impl<M> Default for Buffer<M> {
    fn default() -> Self {
        Self {
            memory: None,
            _taken: None,
            len: 0,
        }
    }
}

/// Values on a GPU.
pub struct Buffer<M> {
    /// None where it holds nothing, or the device has failed.
    pub(super) memory: Option<M>,
    _taken: Option<Taken>,
    /// Number of values that the memory is for.
    pub(super) len: usize,
}

/// Bytes of a device's budget, which has them again when this is dropped.
struct Taken {
    left: Arc<AtomicU64>,
    bytes: u64,
}

impl Taken {
    fn from(left: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        let order = Ordering::Relaxed;
        let found = left.fetch_update(order, order, |left| left.checked_sub(bytes));
        found.ok().map(|_| Self {
            left: Arc::clone(left),
            bytes,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Does `work` on a GPU with `images` images at a time, with half as many wherever its memory does not suffice, or
/// `budget` bytes of it where they are given. Also returns how many it were. That number shows in the last bits, as
/// sums are grouped by it.
///
/// # Errors
/// What `work` ends with, want of memory only where one image is too many.
pub fn with_images_that_fit<G: Gpu, R, E: Classified>(
    gpu: &G,
    mut images: usize,
    budget: Option<u64>,
    mut work: impl FnMut(&Cuda<G>) -> Result<R, E>,
) -> Result<(R, usize), E> {
    // Convolutions take theirs beside it, of a small budget no more than half.
    let budget = budget.map_or(u64::MAX, |bytes| {
        bytes.saturating_sub(gpu.convolution_scratch()).max(bytes / 2)
    });
    loop {
        match work(&Cuda::within(gpu.clone(), images, budget)) {
            Err(error) if error.kind() == ErrorKind::Memory && images > 1 => {
                images = images.div_ceil(2);
            }
            result => return result.map(|result| (result, images)),
        }
    }
}

impl<G: Gpu> Cuda<G> {
    /// A device that works on up to `group_images` images at a time.
    pub fn new(gpu: G, group_images: usize) -> Self {
        Self::within(gpu, group_images, u64::MAX)
    }

    /// The same, which takes no more than `budget` bytes.
    fn within(gpu: G, group_images: usize, budget: u64) -> Self {
        Self {
            gpu,
            group_images: group_images.max(1),
            left: Arc::new(AtomicU64::new(budget)),
            failure: Arc::default(),
        }
    }

    pub(super) fn failure(&self) -> std::sync::MutexGuard<'_, Option<DeviceError>> {
        // The error in there is whole, whatever became of the thread that held the lock.
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What `work` gives, or nothing once the device has failed.
    pub(super) fn attempt<R>(&self, work: impl FnOnce(&G) -> Result<R, DeviceError>) -> Option<R> {
        if self.failure().is_some() {
            return None;
        }
        match work(&self.gpu) {
            Ok(result) => Some(result),
            Err(error) => {
                self.failure().get_or_insert(error);
                None
            }
        }
    }

    /// Room for `len` values of `size` bytes, all zero.
    pub(super) fn room(&self, len: usize, size: usize) -> Buffer<G::Memory> {
        let bytes = len * size;
        let found = (len > 0).then(|| {
            self.attempt(|gpu| {
                let want = DeviceError::Memory { bytes: bytes as u64 };
                let taken = Taken::from(&self.left, bytes as u64).ok_or(want)?;
                Ok((gpu.allocate(bytes)?, taken))
            })
        });
        let (memory, taken) = found.flatten().unzip();
        Buffer {
            memory,
            _taken: taken,
            len,
        }
    }

    pub(super) fn room_f32(&self, len: usize) -> Buffer<G::Memory> {
        self.room(len, size_of::<f32>())
    }

    /// Host values in a buffer of their own.
    pub(super) fn uploaded<V: bytemuck::NoUninit>(&self, host: &[V]) -> Buffer<G::Memory> {
        let mut buffer = self.room(host.len(), size_of::<V>());
        if let Some(memory) = &mut buffer.memory {
            self.attempt(|gpu| gpu.write(bytemuck::cast_slice(host), memory));
        }
        buffer
    }

    /// The values of a buffer; zeros where the device has failed.
    pub(super) fn fetched<V: bytemuck::Pod>(&self, buffer: &Buffer<G::Memory>) -> Vec<V> {
        let mut host = vec![V::zeroed(); buffer.len];
        if let Some(memory) = &buffer.memory {
            self.attempt(|gpu| gpu.read(memory, bytemuck::cast_slice_mut(&mut host)));
        }
        host
    }

    /// Runs a kernel, where there are items and all arguments have memory.
    pub(super) fn launch<const N: usize>(
        &self,
        kernel: &'static str,
        arguments: [Option<Argument<'_, G::Memory>>; N],
        items: usize,
    ) {
        let arguments: Option<Vec<_>> = arguments.into_iter().collect();
        if let Some(mut arguments) = arguments
            && items > 0
        {
            self.attempt(|gpu| gpu.launch(kernel, &mut arguments, items));
        }
    }

    /// `[rows, channels, plane]` as `[rows, plane, channels]`.
    pub(super) fn exchange(&self, channels: usize, plane: usize, x: &Buffer<G::Memory>, y: &mut Buffer<G::Memory>) {
        assert_eq!(x.len, y.len);
        self.launch("exchange", arguments!(r x, long channels, long plane, w y), x.len);
    }
}

/// The number of values of buffers that have as many; panics where they differ.
pub(super) fn same<const N: usize>(lens: [usize; N]) -> usize {
    assert!(lens.iter().all(|len| *len == lens[0]), "{lens:?}");
    lens[0]
}
