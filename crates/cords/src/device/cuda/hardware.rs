//! An NVIDIA GPU: memory and kernels through the driver, convolutions through cuDNN, all in the order of one stream.

#![expect(unsafe_code, reason = "calls the driver and cuDNN")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DriverError, result as driver, sys};
use cudarc::nvrtc::Ptx;
use serde::{Deserialize, Serialize};

use super::choice::SCRATCH;
use super::communicator::Communicator;
use super::convolutions::{Add, Convolutions};
use super::gpu::{Argument, Gpu, Pass};
use super::{compile, libraries};
use crate::device::{ConvShape, DeviceError, Peers};

/// What the products of convolutions are computed from. bfloat16 is used where channels come in eights, and TF32
/// elsewhere in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// float32 as it is, without tensor cores
    #[default]
    Float32,
    /// rounded to 11 significant bits, several times faster
    Tf32,
    /// of 8 significant bits, faster again; activity, sums, weights and the optimiser's memory stay float32
    Bfloat16,
}

/// How a GPU is used.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which GPU, from 0, of those that `CUDA_VISIBLE_DEVICES` leaves.
    pub ordinal: usize,
    /// What products of convolutions are computed from.
    pub precision: Precision,
    /// Whether only algorithms are used that give the same bits every time.
    pub deterministic: bool,
    /// A folder in which compiled kernels are kept; without one they are compiled each time, for some seconds.
    pub kernels: Option<PathBuf>,
}

/// What became of work that was to be recorded once and done again by the GPU alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// How often recorded work was done.
    pub replays: u64,
    /// Why work could not be recorded, where that happened; it is asked for piece by piece then, which takes longer.
    pub refused: Option<String>,
}

impl Recording {
    /// Whether work was recorded, and all that was to be.
    pub fn is_whole(&self) -> bool {
        self.replays > 0 && self.refused.is_none()
    }
}

/// What a GPU says of itself.
#[derive(Clone, Debug)]
pub struct Description {
    /// Name of the GPU, as the driver gives it.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of its memory, and those that are free.
    pub memory: [u64; 2],
}

/// One GPU in use.
#[derive(Clone)]
pub struct Hardware {
    inner: Arc<Inner>,
    /// The way to those that train with it.
    communicator: Option<Arc<Communicator>>,
}

struct Inner {
    // Given back in this order: cuDNN works in the stream.
    convolutions: Mutex<Convolutions>,
    kernels: HashMap<&'static str, CudaFunction>,
    stream: Arc<CudaStream>,
    settings: Settings,
    description: Description,
    is_recording: AtomicBool,
    recording: Mutex<Recording>,
}

/// Threads of a block, as `kernels.cu` is bounded, and blocks that are enough for every GPU.
const BLOCK: usize = 256;
const BLOCKS: usize = 1 << 12;

pub(super) fn failed(call: impl Into<String>) -> impl FnOnce(DriverError) -> DeviceError {
    move |error| DeviceError::Failed {
        call: call.into(),
        reason: match (error.error_string(), error.error_name()) {
            (Ok(text), Ok(name)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
            _ => format!("error {}", error.0 as u32),
        },
    }
}

/// The oldest compute capability that kernels are compiled for: NVRTC 13 knows none below.
const OLDEST: (u32, u32) = (7, 5);

/// GPUs that the driver finds.
///
/// # Errors
/// [`DeviceError::Absent`] where there is no driver or no GPU, [`DeviceError::Failed`] where the driver does not work.
pub fn count() -> Result<usize, DeviceError> {
    let found = libraries::driver()?;
    // Everything that cudarc calls is there now. The number is asked for by hand: this error has no text before the
    // driver runs.
    if let Err(error) = driver::init() {
        let path = found.path.unwrap_or_default();
        let reason = match error.0 as u32 {
            100 => {
                let reason = "the driver runs but finds no GPU: see `nvidia-smi` and CUDA_VISIBLE_DEVICES";
                return Err(DeviceError::Absent(reason.to_owned()));
            }
            34 => format!(
                "{} is a stub for linking: take its folder out of LD_LIBRARY_PATH",
                path.display()
            ),
            code => format!("error {code} of {}: see `nvidia-smi`", path.display()),
        };
        return Err(DeviceError::Failed {
            call: "starting the driver".to_owned(),
            reason,
        });
    }
    let count = CudaContext::device_count().map_err(failed("counting GPUs"))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Version of the newest CUDA that the driver runs.
///
/// # Errors
/// [`DeviceError::Absent`] where there is no driver, [`DeviceError::Failed`] where it cannot be used.
pub fn driver_version() -> Result<String, DeviceError> {
    Ok(libraries::driver()?.version)
}

/// The driver's number of a GPU.
fn device(ordinal: usize) -> Result<sys::CUdevice, DeviceError> {
    let count = count()?;
    let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    if ordinal >= count {
        return Err(DeviceError::Absent(format!(
            "there is no GPU {ordinal}: there are {count}, counted from 0"
        )));
    }
    driver::device::get(number).map_err(failed("asking for a GPU"))
}

/// Bytes of a GPU's memory, without opening it.
///
/// # Errors
/// As [`count`], [`DeviceError::Absent`] where there is no such GPU.
pub fn total_memory(ordinal: usize) -> Result<u64, DeviceError> {
    let device = device(ordinal)?;
    // SAFETY: the device was just found.
    let bytes = unsafe { driver::device::total_mem(device) };
    Ok(bytes.map_err(failed("asking for its memory"))? as u64)
}

/// Name of a GPU, as the driver gives it, without opening it.
///
/// # Errors
/// As [`total_memory`].
pub fn name(ordinal: usize) -> Result<String, DeviceError> {
    driver::device::get_name(device(ordinal)?).map_err(failed("asking for its name"))
}

/// What every GPU says of itself, or why one says nothing.
///
/// # Errors
/// As [`count`].
pub fn gpus() -> Result<Vec<Result<Description, DeviceError>>, DeviceError> {
    let gpus = (0..count()?).map(|ordinal| describe(&*context(ordinal)?));
    Ok(gpus.collect())
}

/// The primary context of a GPU. It stays as long as the process: making one takes a moment, and one that is given back
/// takes with it what libraries have in it.
fn context(ordinal: usize) -> Result<Arc<CudaContext>, DeviceError> {
    static CONTEXTS: Mutex<BTreeMap<usize, Arc<CudaContext>>> = Mutex::new(BTreeMap::new());
    device(ordinal)?;
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = contexts.get(&ordinal) {
        return Ok(Arc::clone(context));
    }
    let context = CudaContext::new(ordinal).map_err(failed(format!("opening GPU {ordinal}")))?;
    // SAFETY: all work of a `Hardware` goes to one stream, in order, and its memory to no other.
    unsafe { context.disable_event_tracking() };
    keep_memory(&context)?;
    contexts.insert(ordinal, Arc::clone(&context));
    Ok(context)
}

fn describe(context: &CudaContext) -> Result<Description, DeviceError> {
    let (major, minor) = context
        .compute_capability()
        .map_err(failed("asking for its capability"))?;
    let (free, total) = context.mem_get_info().map_err(failed("asking for its memory"))?;
    Ok(Description {
        name: context.name().map_err(failed("asking for its name"))?,
        capability: (major.unsigned_abs(), minor.unsigned_abs()),
        memory: [total as u64, free as u64],
    })
}

impl Hardware {
    /// Opens a GPU and compiles the kernels for it.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] where there is none or something is missing, [`DeviceError::Failed`] where it cannot be
    /// used.
    pub fn open(settings: Settings) -> Result<Self, DeviceError> {
        let context = context(settings.ordinal)?;
        let description = describe(&context)?;
        if description.capability < OLDEST {
            return Err(DeviceError::Absent(format!(
                "{} has compute capability {}.{}, and {}.{} is the oldest that can be used",
                description.name, description.capability.0, description.capability.1, OLDEST.0, OLDEST.1
            )));
        }
        let stream = context.new_stream().map_err(failed("making a stream"))?;
        let kept = settings.kernels.as_deref();
        let load = |anew| {
            let binary = compile::compile(description.capability, kept, anew)?;
            let module = context.load_module(Ptx::from_binary(binary));
            module.map_err(failed("loading the kernels"))
        };
        // What was kept may be of another driver's making.
        let module = match load(false) {
            Err(_) if kept.is_some() => load(true)?,
            module => module?,
        };
        let kernels = super::gpu::names().map(|name| {
            let kernel = module.load_function(name).map_err(failed(format!("loading {name}")))?;
            Ok((name, kernel))
        });
        let kernels = kernels.collect::<Result<_, DeviceError>>()?;
        let convolutions = Mutex::new(Convolutions::new(&stream)?);
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                description,
                stream,
                kernels,
                convolutions,
                is_recording: AtomicBool::new(false),
                recording: Mutex::default(),
            }),
            communicator: None,
        })
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.inner.stream
    }

    /// The same with a way to others.
    pub(super) fn reaching(self, communicator: Communicator) -> Self {
        Self {
            communicator: Some(Arc::new(communicator)),
            ..self
        }
    }

    /// How it is used.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The GPU in use.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// Bytes that are free now.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the driver does not tell.
    pub fn free_memory(&self) -> Result<u64, DeviceError> {
        let context = self.inner.stream.context();
        let (free, _) = context.mem_get_info().map_err(failed("asking for its memory"))?;
        if !context.has_async_alloc() {
            return Ok(free as u64);
        }
        // What was given back stays with the process and is taken again.
        use sys::CUmemPool_attribute::{
            CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED, CU_MEMPOOL_ATTR_USED_MEM_CURRENT as USED,
        };
        let [reserved, used] = [RESERVED, USED].map(|attribute| pool_bytes(context, attribute));
        Ok(free as u64 + reserved?.saturating_sub(used?))
    }

    /// Bytes that work may plan with: those asked for, where so many are free. Libraries take some for themselves
    /// later.
    ///
    /// # Errors
    /// As [`free_memory`](Self::free_memory).
    pub fn budget(&self, asked: Option<u64>) -> Result<u64, DeviceError> {
        Ok(asked.unwrap_or(u64::MAX).min(self.free_memory()? / 10 * 9))
    }

    /// Bytes that were taken at most at a time, since this was last asked or it was opened, and from now on; 0 where the
    /// GPU's driver has no memory pools, which count them.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the driver does not tell.
    pub fn take_peak_memory(&self) -> Result<u64, DeviceError> {
        let context = self.inner.stream.context();
        if !context.has_async_alloc() {
            return Ok(0);
        }
        let high = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        let bytes = pool_bytes(context, high)?;
        let mut none = 0u64;
        // SAFETY: the device was opened, and the attribute is a `cuuint64_t`, which can be set to 0 alone.
        unsafe {
            driver::device::get_default_mem_pool(context.cu_device())
                .and_then(|pool| driver::mem_pool::set_attribute(pool, high, (&raw mut none).cast()))
        }
        .map_err(failed("asking for memory"))?;
        Ok(bytes)
    }

    /// What became of work that was to be recorded, since this was last asked or it was opened.
    pub fn take_recording(&self) -> Recording {
        std::mem::take(&mut *self.recording())
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.inner.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What cannot be recorded: a GPU would do it again on memory that is gone by then.
    fn at_once(&self, what: &str) -> Result<(), DeviceError> {
        if self.inner.is_recording.load(Ordering::Relaxed) {
            return Err(DeviceError::Failed {
                call: "recording".to_owned(),
                reason: format!("{what} cannot be recorded"),
            });
        }
        Ok(())
    }

    fn convolutions(&self) -> MutexGuard<'_, Convolutions> {
        // Plans in there are whole.
        self.inner.convolutions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the numbers that a GPU's memory pool counts.
fn pool_bytes(context: &CudaContext, attribute: sys::CUmemPool_attribute) -> Result<u64, DeviceError> {
    let mut bytes = 0u64;
    // SAFETY: the device was opened, and the attribute is a `cuuint64_t`.
    unsafe {
        driver::device::get_default_mem_pool(context.cu_device())
            .and_then(|pool| driver::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()))
    }
    .map_err(failed("asking for memory"))?;
    Ok(bytes)
}

/// Memory that is freed stays with the process, so that the next allocation costs nothing.
fn keep_memory(context: &CudaContext) -> Result<(), DeviceError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut all = u64::MAX;
    // SAFETY: the device was opened, and the attribute is a `cuuint64_t`.
    unsafe {
        let pool =
            driver::device::get_default_mem_pool(context.cu_device()).map_err(failed("asking for its memory"))?;
        driver::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut all).cast(),
        )
    }
    .map_err(failed("keeping memory"))
}

impl Gpu for Hardware {
    type Memory = CudaSlice<u8>;
    type Graph = Graph;

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
        self.at_once("taking memory")?;
        allocate(&self.inner.stream, bytes)
    }

    fn write(&self, from: &[u8], to: &mut CudaSlice<u8>) -> Result<(), DeviceError> {
        self.at_once("a copy from the host")?;
        self.inner
            .stream
            .memcpy_htod(from, to)
            .map_err(failed("copying to the GPU"))
    }

    fn read(&self, from: &CudaSlice<u8>, to: &mut [u8]) -> Result<(), DeviceError> {
        self.at_once("a copy to the host")?;
        let stream = &self.inner.stream;
        let from = from.slice(..to.len());
        let copied = stream.memcpy_dtoh(&from, to).and_then(|()| stream.synchronize());
        copied.map_err(failed("waiting for the GPU"))
    }

    fn copy(
        &self,
        from: &CudaSlice<u8>,
        to: &mut CudaSlice<u8>,
        first: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        let (from, mut to) = (from.slice(..bytes), to.slice_mut(first..first + bytes));
        self.inner
            .stream
            .memcpy_dtod(&from, &mut to)
            .map_err(failed("copying on the GPU"))
    }

    fn clear(&self, memory: &mut CudaSlice<u8>, bytes: usize) -> Result<(), DeviceError> {
        let mut part = memory.slice_mut(..bytes);
        self.inner
            .stream
            .memset_zeros(&mut part)
            .map_err(failed("clearing memory"))
    }

    fn launch(
        &self,
        kernel: &'static str,
        arguments: &mut [Argument<'_, CudaSlice<u8>>],
        items: usize,
    ) -> Result<(), DeviceError> {
        let stream = &self.inner.stream;
        let function = self.inner.kernels.get(kernel).ok_or_else(|| DeviceError::Failed {
            call: kernel.to_owned(),
            reason: "there is no such kernel".to_owned(),
        })?;
        let count = items as i64;
        let mut launch = stream.launch_builder(function);
        for argument in arguments.iter_mut() {
            use cudarc::driver::PushKernelArg;
            match argument {
                Argument::Read(memory) => launch.arg(*memory),
                Argument::Write(memory) => launch.arg(*memory),
                Argument::Long(value) => launch.arg(&*value),
                Argument::Int(value) => launch.arg(&*value),
                Argument::Float(value) => launch.arg(&*value),
                Argument::Double(value) => launch.arg(&*value),
            };
        }
        cudarc::driver::PushKernelArg::arg(&mut launch, &count);
        let blocks = items.div_ceil(BLOCK).min(BLOCKS) as u32;
        let grid = cudarc::driver::LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (BLOCK as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: tests hold every launch against the kernel's signature, and buffers against what it reads and writes.
        unsafe { launch.launch(grid) }.map(|_| ()).map_err(failed(kernel))
    }

    fn convolve(
        &self,
        pass: Pass,
        shape: ConvShape,
        batch: usize,
        narrow: bool,
        from: [&CudaSlice<u8>; 2],
        to: &mut CudaSlice<u8>,
        accumulate: bool,
    ) -> Result<(), DeviceError> {
        let stream = &self.inner.stream;
        stream.context().bind_to_thread().map_err(failed("using the GPU"))?;
        let key = (pass, shape, batch, narrow);
        let add = |sum: &CudaSlice<u8>, to: &mut CudaSlice<u8>, values: usize| {
            self.launch("add", &mut [Argument::Read(sum), Argument::Write(to)], values)
        };
        let add = accumulate.then_some(&add as Add<'_>);
        self.convolutions()
            .compute(stream, &self.inner.settings, key, from, to, add)
    }

    fn computes_from_bfloat16(&self) -> bool {
        self.inner.settings.precision == Precision::Bfloat16
    }

    fn convolution_scratch(&self) -> u64 {
        SCRATCH as u64
    }

    fn begin_recording(&self) -> Result<(), DeviceError> {
        // What other threads ask of the driver meanwhile does not matter.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.inner.stream.begin_capture(mode).map_err(failed("recording"))?;
        self.convolutions().capturing = true;
        self.inner.is_recording.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn end_recording(&self) -> Result<Graph, DeviceError> {
        self.convolutions().capturing = false;
        self.inner.is_recording.store(false, Ordering::Relaxed);
        let stream = &self.inner.stream;
        // Memory that was given back while work was recorded has left its error there, which would keep the recording
        // from being ended.
        let given_back = stream.context().check_err();
        let plain = sys::CUgraphInstantiate_flags_enum(0);
        let graph = stream.end_capture(plain).map_err(failed("recording"));
        given_back.map_err(failed("giving memory back while work is recorded"))?;
        let graph = graph?.ok_or_else(|| DeviceError::Failed {
            call: "recording".to_owned(),
            reason: "it was broken off".to_owned(),
        })?;
        Ok(Graph(Mutex::new(Exclusive(graph))))
    }

    fn recording_refused(&self, reason: &DeviceError) {
        self.recording().refused = Some(reason.to_string());
    }

    fn replay(&self, Graph(graph): &Graph) -> Result<(), DeviceError> {
        let graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
        graph.0.launch().map_err(failed("doing recorded work"))?;
        self.recording().replays += 1;
        Ok(())
    }

    fn peers(&self) -> Peers {
        self.communicator.as_ref().map_or(Peers::ALONE, |others| others.peers)
    }

    fn gather(&self, own: &CudaSlice<u8>, bytes: usize, all: &mut CudaSlice<u8>) -> Result<(), DeviceError> {
        match &self.communicator {
            None => self.copy(own, all, 0, bytes),
            Some(others) => {
                self.at_once("an exchange with other GPUs")?;
                others.gather(&self.inner.stream, own, bytes, all)
            }
        }
    }

    fn gather_numbers(&self, own: &[f64]) -> Result<Vec<f64>, DeviceError> {
        match &self.communicator {
            None => Ok(own.to_vec()),
            Some(others) => {
                self.at_once("an exchange with other GPUs")?;
                others.gather_numbers(&self.inner.stream, own)
            }
        }
    }

    fn generation(&self) -> u64 {
        self.convolutions().generation
    }
}

/// Work that was recorded, to be done again on the GPU that recorded it.
pub struct Graph(Mutex<Exclusive>);

struct Exclusive(CudaGraph);

// SAFETY: a graph may be used by any thread, by one at a time; a mutex sees to that.
unsafe impl Send for Exclusive {}

pub(super) fn allocate(stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
    stream.alloc_zeros::<u8>(bytes).map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Memory { bytes: bytes as u64 },
        _ => failed("allocating memory")(error),
    })
}
