//! A GPU as a device: its memory, what it may take of it, and what becomes of a failure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Whether its peers know that it has failed.
    pub(super) told: Arc<AtomicBool>,
}

impl<G: Gpu> Clone for Cuda<G> {
    fn clone(&self) -> Self {
        Self {
            gpu: self.gpu.clone(),
            group_images: self.group_images,
            left: Arc::clone(&self.left),
            failure: Arc::clone(&self.failure),
            told: Arc::clone(&self.told),
        }
    }
}

/// Values on a GPU: as they are, in the form in which convolutions read them, or in both.
pub struct Buffer<M> {
    /// None where they are in the other form alone, there are none, or the device has failed.
    wide: Option<Room<M>>,
    operand: Option<Operand<M>>,
    /// Whether `wide` is not what `operand` holds.
    stale: bool,
    /// Number of values that the memory is for.
    pub(super) len: usize,
}

/// Memory of a device, which has it again when this is dropped.
pub(super) struct Room<M> {
    pub(super) memory: M,
    _taken: Taken,
}

/// Values as bfloat16, which another may hold too.
pub(super) struct Operand<M> {
    pub(super) values: Arc<Room<M>>,
    /// A bit for each value: whether the argument of phi that it came from was positive.
    pub(super) signs: Option<Arc<Room<M>>>,
    /// Whether they are the values of the buffer, and its signs.
    valid: AtomicBool,
    signed: AtomicBool,
}

impl<M> Operand<M> {
    /// Room that holds nothing yet.
    pub(super) fn new(values: Arc<Room<M>>, signs: Option<Arc<Room<M>>>) -> Self {
        Self {
            values,
            signs,
            valid: AtomicBool::new(false),
            signed: AtomicBool::new(false),
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        self.valid.load(Ordering::Relaxed)
    }

    pub(super) fn is_signed(&self) -> bool {
        self.is_valid() && self.signed.load(Ordering::Relaxed)
    }

    /// It holds the buffer's values from now on, perhaps with their signs.
    pub(super) fn now_holds(&self, signed: bool) {
        self.valid.store(true, Ordering::Relaxed);
        self.signed.store(signed, Ordering::Relaxed);
    }
}

impl<M> Default for Buffer<M> {
    fn default() -> Self {
        Self {
            wide: None,
            operand: None,
            stale: false,
            len: 0,
        }
    }
}

impl<M> Buffer<M> {
    /// Its memory, to be read as values as they are.
    pub(super) fn memory(&self) -> Option<&M> {
        assert!(!self.stale, "values that were not asked for are read");
        assert!(
            self.wide.is_some() || self.operand.is_none(),
            "values for convolutions are read as others"
        );
        self.wide.as_ref().map(|room| &room.memory)
    }

    /// Its memory, to be changed; what convolutions read follows when they do.
    pub(super) fn memory_mut(&mut self) -> Option<&mut M> {
        assert!(!self.stale, "values that were not asked for are changed");
        self.overwritten()
    }

    /// Its memory, all of which is written.
    pub(super) fn overwritten(&mut self) -> Option<&mut M> {
        assert!(
            self.wide.is_some() || self.operand.is_none(),
            "values for convolutions are written as others"
        );
        self.stale = false;
        if let Some(operand) = &self.operand {
            operand.valid.store(false, Ordering::Relaxed);
        }
        self.wide.as_mut().map(|room| &mut room.memory)
    }

    /// Its memory, of which all is written unless it is added to.
    pub(super) fn memory_for(&mut self, added: bool) -> Option<&mut M> {
        if added { self.memory_mut() } else { self.overwritten() }
    }

    /// What convolutions read, where there is room for it.
    pub(super) fn operand(&self) -> Option<&Operand<M>> {
        self.operand.as_ref()
    }

    /// Whether it has no other form than that in which convolutions read it.
    pub(super) fn is_operand(&self) -> bool {
        self.wide.is_none() && self.operand.is_some()
    }

    /// Whether its values can be read as they are.
    pub(super) fn is_whole(&self) -> bool {
        !self.stale && !self.is_operand()
    }

    /// Memory of what convolutions read, for one of them to write.
    pub(super) fn operand_mut(&mut self) -> Option<&mut M> {
        let operand = self.operand.as_mut()?;
        operand.now_holds(false);
        let room = Arc::get_mut(&mut operand.values).expect("convolutions write what nothing else holds");
        Some(&mut room.memory)
    }

    /// Other room for what convolutions read of it, which holds nothing yet.
    pub(super) fn lend(&mut self, operand: Operand<M>) {
        self.operand = Some(operand);
    }

    /// Says that only what convolutions read is right.
    pub(super) fn set_stale(&mut self) {
        self.stale = true;
    }
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
            told: Arc::default(),
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

    /// So many bytes, all zero; none where the device has failed.
    pub(super) fn take_memory(&self, bytes: usize) -> Option<Room<G::Memory>> {
        let taken = || {
            self.attempt(|gpu| {
                let want = DeviceError::Memory { bytes: bytes as u64 };
                let taken = Taken::from(&self.left, bytes as u64).ok_or(want)?;
                Ok(Room {
                    memory: gpu.allocate(bytes)?,
                    _taken: taken,
                })
            })
        };
        (bytes > 0).then(taken).flatten()
    }

    /// Room for `len` values of `size` bytes, all zero.
    pub(super) fn room(&self, len: usize, size: usize) -> Buffer<G::Memory> {
        Buffer {
            wide: self.take_memory(len * size),
            len,
            ..Buffer::default()
        }
    }

    /// Room for `len` values in the form in which convolutions read them, all zero.
    pub(super) fn operand_room(&self, len: usize) -> Buffer<G::Memory> {
        let values = self.take_memory(len * size_of::<u16>());
        let operand = values.map(|room| Operand::new(Arc::new(room), None));
        if let Some(operand) = &operand {
            operand.now_holds(false);
        }
        Buffer {
            operand,
            len,
            ..Buffer::default()
        }
    }

    pub(super) fn room_f32(&self, len: usize) -> Buffer<G::Memory> {
        self.room(len, size_of::<f32>())
    }

    /// Host values in a buffer of their own.
    pub(super) fn uploaded<V: bytemuck::NoUninit>(&self, host: &[V]) -> Buffer<G::Memory> {
        let mut buffer = self.room(host.len(), size_of::<V>());
        if let Some(memory) = buffer.memory_mut() {
            self.attempt(|gpu| gpu.write(bytemuck::cast_slice(host), memory));
        }
        buffer
    }

    /// The values of a buffer; zeros where the device has failed.
    pub(super) fn fetched<V: bytemuck::Pod>(&self, buffer: &Buffer<G::Memory>) -> Vec<V> {
        let mut host = vec![V::zeroed(); buffer.len];
        if let Some(memory) = buffer.memory() {
            self.attempt(|gpu| gpu.read(memory, bytemuck::cast_slice_mut(&mut host)));
        }
        host
    }

    /// Runs a kernel, where there are items and all arguments have memory.
    pub(super) fn launch<const N: usize>(
        &self,
        kernel: &'static str,
        items: usize,
        arguments: [Option<Argument<'_, G::Memory>>; N],
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
        self.launch("exchange", x.len, arguments!(r x, long channels, long plane, w y));
    }
}

/// The number of values of buffers that have as many; panics where they differ.
pub(super) fn same<const N: usize>(lens: [usize; N]) -> usize {
    assert!(lens.iter().all(|len| *len == lens[0]), "{lens:?}");
    lens[0]
}
