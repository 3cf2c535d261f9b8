//! The way from one GPU to those that train one network with it: NCCL, between processes with a GPU each.

#![expect(unsafe_code, reason = "calls NCCL")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};

use super::bindings::{Handle, Nccl, UniqueId};
use super::hardware::{self, Hardware};
use super::libraries;
use crate::device::{DeviceError, Peers};

/// Numbers of one rank that are exchanged at a time.
const NUMBERS: usize = 1 << 14;
/// Bytes, as NCCL numbers types.
const BYTES: c_int = 0;

/// A rank of a world.
///
/// It is not given back: that would wait for the others, which may be gone. It ends with its process.
pub(super) struct Communicator {
    library: &'static Nccl,
    handle: Handle,
    pub(super) peers: Peers,
    /// Room for the own numbers and for those of all, taken while there is memory.
    rooms: Mutex<[CudaSlice<u8>; 2]>,
}

// SAFETY: a communicator may be used by any thread, by one at a time; training asks for one exchange after the other.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

/// What NCCL said, where it was no success.
fn checked(library: &Nccl, call: &str, status: c_int) -> Result<(), DeviceError> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: it is a text of the library for every number.
    let text = unsafe { CStr::from_ptr((library.ncclGetErrorString)(status)) };
    Err(DeviceError::Failed {
        call: call.to_owned(),
        reason: format!("NCCL's status {status}, {}", text.to_string_lossy()),
    })
}

fn nccl() -> Result<&'static Nccl, DeviceError> {
    libraries::nccl().map_err(DeviceError::Absent)
}

/// NCCL's unique id, by which the ranks of a new world find each other, [`Hardware::with_peers`]. The process that asks for it must
/// be rank 0.
///
/// # Errors
/// [`DeviceError::Absent`] without NCCL, [`DeviceError::Failed`] where it does not work.
pub fn unique_id() -> Result<Vec<u8>, DeviceError> {
    let library = nccl()?;
    let mut id = UniqueId([0; 128]);
    // SAFETY: there is room for it.
    let status = unsafe { (library.ncclGetUniqueId)(&raw mut id) };
    checked(library, "naming a group of GPUs", status)?;
    Ok(id.0.iter().map(|c| *c as u8).collect())
}

impl Hardware {
    /// The same as one of the GPUs that train one network together, whose processes have the same `id` of
    /// [`unique_id`]. Waits for all others.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] without NCCL, [`DeviceError::Failed`] where `id` is none or the others are not found.
    pub fn with_peers(self, peers: Peers, id: &[u8]) -> Result<Self, DeviceError> {
        let stream = self.stream();
        let communicator = Communicator::new(stream, peers, id)?;
        Ok(self.reaching(communicator))
    }
}

impl Communicator {
    fn new(stream: &Arc<CudaStream>, peers: Peers, id: &[u8]) -> Result<Self, DeviceError> {
        const CALL: &str = "reaching the other GPUs";
        let library = nccl()?;
        let failed = |reason: String| DeviceError::Failed {
            call: CALL.to_owned(),
            reason,
        };
        let id: [u8; 128] = id
            .try_into()
            .map_err(|_| failed(format!("their unique id has {} bytes, not 128", id.len())))?;
        let [Ok(rank), Ok(world)] = [peers.rank, peers.world].map(c_int::try_from) else {
            return Err(failed(format!("there is no rank {} of {}", peers.rank, peers.world)));
        };
        let rooms = [NUMBERS, peers.world * NUMBERS].map(|len| hardware::allocate(stream, len * size_of::<f64>()));
        let [own, all] = rooms;
        let rooms = Mutex::new([own?, all?]);
        stream.context().bind_to_thread().map_err(hardware::failed(CALL))?;
        let mut handle: Handle = std::ptr::null_mut();
        let id = UniqueId(id.map(|byte| byte as c_char));
        // SAFETY: there is room for the handle.
        let status = unsafe { (library.ncclCommInitRank)(&raw mut handle, world, id, rank) };
        checked(library, CALL, status)?;
        Ok(Self {
            library,
            handle,
            peers,
            rooms,
        })
    }

    /// The first bytes of every rank's `own`, in the order of ranks.
    pub(super) fn gather(
        &self,
        stream: &Arc<CudaStream>,
        own: &CudaSlice<u8>,
        bytes: usize,
        all: &mut CudaSlice<u8>,
    ) -> Result<(), DeviceError> {
        const CALL: &str = "an exchange with other GPUs";
        assert!(bytes <= own.len() && self.peers.world * bytes <= all.len());
        let mut lost = 0;
        // SAFETY: the communicator is there, and room for the number.
        let status = unsafe { (self.library.ncclCommGetAsyncError)(self.handle, &raw mut lost) };
        checked(self.library, CALL, status)?;
        checked(self.library, CALL, lost)?;
        stream.context().bind_to_thread().map_err(hardware::failed(CALL))?;
        let ((own, _own), (all, _all)) = (own.device_ptr(stream), all.device_ptr_mut(stream));
        let (own, all) = (own as *const c_void, all as *mut c_void);
        // SAFETY: both are memory of this GPU, as long as it reads and writes; the stream is of its context.
        let status =
            unsafe { (self.library.ncclAllGather)(own, all, bytes, BYTES, self.handle, stream.cu_stream().cast()) };
        checked(self.library, CALL, status)
    }

    /// Numbers of every rank, in the order of ranks. Waits for all.
    pub(super) fn gather_numbers(&self, stream: &Arc<CudaStream>, own: &[f64]) -> Result<Vec<f64>, DeviceError> {
        const CALL: &str = "exchanging numbers with other GPUs";
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let [own_room, all_room] = &mut *rooms;
        let world = self.peers.world;
        let mut all = vec![0.0; world * own.len()];
        for (chunk, part) in own.chunks(NUMBERS).enumerate() {
            let bytes = size_of_val(part);
            let mut host = vec![0.0f64; world * part.len()];
            stream
                .memcpy_htod(bytemuck::cast_slice::<f64, u8>(part), own_room)
                .map_err(hardware::failed(CALL))?;
            self.gather(stream, own_room, bytes, all_room)?;
            let from = all_room.slice(..world * bytes);
            let copied = stream.memcpy_dtoh(&from, bytemuck::cast_slice_mut::<f64, u8>(&mut host));
            copied
                .and_then(|()| stream.synchronize())
                .map_err(hardware::failed(CALL))?;
            for (rank, theirs) in host.chunks(part.len()).enumerate() {
                all[rank * own.len() + chunk * NUMBERS..][..part.len()].copy_from_slice(theirs);
            }
        }
        Ok(all)
    }
}
