//! An NVIDIA GPU: memory and kernels through the driver, convolutions through cuDNN, all in the order of one stream.

#![expect(unsafe_code, reason = "calls the driver and cuDNN")]

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::cudnn::{result as cudnn, sys as dnn};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError, result as driver, sys,
};
use cudarc::nvrtc::Ptx;

use super::gpu::{Argument, Gpu, Pass};
use super::{compile, libraries};
use crate::device::{ConvShape, DeviceError};

/// What the products of convolutions are computed from. Sums are float32, and so is everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// float32 rounded to eleven significant bits, on tensor cores.
    Tf32,
}

/// How a GPU is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Which GPU, from 0, of those that `CUDA_VISIBLE_DEVICES` leaves.
    pub ordinal: usize,
    /// Precision of convolutions.
    pub precision: Precision,
    /// Whether only algorithms are used that give the same bits every time.
    pub deterministic: bool,
}

/// What a GPU says of itself.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name.
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
}

struct Inner {
    // Given back in this order: cuDNN works in the stream.
    convolutions: Mutex<Convolutions>,
    kernels: HashMap<&'static str, CudaFunction>,
    stream: Arc<CudaStream>,
    settings: Settings,
    description: Description,
}

/// Threads of a block, as `kernels.cu` is bounded, and blocks that are enough for every GPU.
const BLOCK: usize = 256;
const BLOCKS: usize = 1 << 12;

/// Bytes of scratch memory that a convolution may take.
const SCRATCH: usize = 1 << 30;

fn failed(call: impl Into<String>) -> impl FnOnce(DriverError) -> DeviceError {
    move |error| DeviceError::Failed {
        call: call.into(),
        reason: format!("{error:?}"),
    }
}

fn dnn_failed(call: impl Into<String>) -> impl FnOnce(cudnn::CudnnError) -> DeviceError {
    move |error| DeviceError::Failed {
        call: call.into(),
        reason: format!("{:?}", error.0),
    }
}

/// GPUs that can be used.
///
/// # Errors
/// [`DeviceError::Absent`] with what is missing, in one line.
pub fn count() -> Result<usize, DeviceError> {
    libraries::require().map_err(DeviceError::Absent)?;
    // Everything that cudarc calls is there now. The number is asked for by hand: this error has no text before the driver runs.
    if let Err(error) = driver::init() {
        let reason = match error.0 as u32 {
            100 => "the driver runs but finds no GPU: see `nvidia-smi` and CUDA_VISIBLE_DEVICES".to_owned(),
            code => format!("the driver does not start (error {code}): see `nvidia-smi`"),
        };
        return Err(DeviceError::Absent(reason));
    }
    let count = CudaContext::device_count().map_err(failed("counting GPUs"))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Whether kernels can be compiled for a GPU: NVRTC 13 knows those from compute capability 7.5 on.
///
/// # Errors
/// As [`count`], and [`DeviceError::Failed`] where it does not answer.
pub fn is_usable(ordinal: usize) -> Result<bool, DeviceError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    if ordinal >= count()? {
        return Ok(false);
    }
    let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    let device = driver::device::get(number).map_err(failed("asking for a GPU"))?;
    // SAFETY: the device was just found.
    let ask = |attribute| unsafe { driver::device::get_attribute(device, attribute) };
    let capability = ask(MAJOR).and_then(|major| Ok((major, ask(MINOR)?)));
    Ok(capability.map_err(failed("asking for its capability"))? >= (7, 5))
}

/// What every GPU says of itself.
///
/// # Errors
/// As [`count`], and [`DeviceError::Failed`] where one does not answer.
pub fn gpus() -> Result<Vec<Description>, DeviceError> {
    let open = |ordinal| CudaContext::new(ordinal).map_err(failed("opening the GPU"));
    (0..count()?).map(|ordinal| describe(&*open(ordinal)?)).collect()
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
    /// [`DeviceError::Absent`] where there is none or something is missing, [`DeviceError::Failed`] where it cannot be used.
    pub fn open(settings: Settings) -> Result<Self, DeviceError> {
        let count = count()?;
        if settings.ordinal >= count {
            return Err(DeviceError::Absent(format!(
                "there is no GPU {}: there are {count}, counted from 0",
                settings.ordinal
            )));
        }
        let context = CudaContext::new(settings.ordinal).map_err(failed("opening the GPU"))?;
        // SAFETY: all work goes to one stream, in order.
        unsafe { context.disable_event_tracking() };
        let description = describe(&context)?;
        keep_memory(&context)?;
        let stream = context.new_stream().map_err(failed("making a stream"))?;
        let binary = compile::compile(description.capability)?;
        let module = context
            .load_module(Ptx::from_binary(binary))
            .map_err(failed("loading the kernels"))?;
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
            }),
        })
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
        let (free, _) = self
            .inner
            .stream
            .context()
            .mem_get_info()
            .map_err(failed("asking for its memory"))?;
        Ok(free as u64)
    }

    /// Bytes that work may plan with: those asked for, where so many are free. Libraries take some for themselves later.
    ///
    /// # Errors
    /// As [`free_memory`](Self::free_memory).
    pub fn budget(&self, asked: Option<u64>) -> Result<u64, DeviceError> {
        Ok(asked.unwrap_or(u64::MAX).min(self.free_memory()? / 10 * 9))
    }

    /// Bytes that were taken at most at a time, since it was opened.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the driver does not tell.
    pub fn peak_memory(&self) -> Result<u64, DeviceError> {
        let context = self.inner.stream.context();
        let mut bytes = 0u64;
        // SAFETY: the device was opened, and the attribute is a `cuuint64_t`.
        unsafe {
            let pool =
                driver::device::get_default_mem_pool(context.cu_device()).map_err(failed("asking for memory"))?;
            let high = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
            driver::mem_pool::get_attribute(pool, high, (&raw mut bytes).cast())
        }
        .map_err(failed("asking for memory"))?;
        Ok(bytes)
    }

    fn convolutions(&self) -> MutexGuard<'_, Convolutions> {
        // Plans in there are whole.
        self.inner.convolutions.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
        allocate(&self.inner.stream, bytes)
    }

    fn write(&self, from: &[u8], to: &mut CudaSlice<u8>) -> Result<(), DeviceError> {
        self.inner
            .stream
            .memcpy_htod(from, to)
            .map_err(failed("copying to the GPU"))
    }

    fn read(&self, from: &CudaSlice<u8>, to: &mut [u8]) -> Result<(), DeviceError> {
        let stream = &self.inner.stream;
        let from = from.slice(..to.len());
        let copied = stream.memcpy_dtoh(&from, to).and_then(|()| stream.synchronize());
        copied.map_err(failed("waiting for the GPU"))
    }

    fn copy(&self, from: &CudaSlice<u8>, to: &mut CudaSlice<u8>, bytes: usize) -> Result<(), DeviceError> {
        let from = from.slice(..bytes);
        self.inner
            .stream
            .memcpy_dtod(&from, to)
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
                Argument::Write(memory) => launch.arg(&mut **memory),
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
        from: [&CudaSlice<u8>; 2],
        to: &mut CudaSlice<u8>,
        accumulate: bool,
    ) -> Result<(), DeviceError> {
        let stream = &self.inner.stream;
        stream.context().bind_to_thread().map_err(failed("using the GPU"))?;
        let mut convolutions = self.convolutions();
        let key = (pass, shape, batch);
        convolutions.prepare(self.inner.settings, key)?;
        loop {
            convolutions.reserve(stream, key)?;
            match convolutions.run(stream, key, from, to, accumulate) {
                // Nothing was computed: the next proposal's turn.
                Err(error)
                    if error.0 == dnn::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED && convolutions.pass_over(key) => {}
                run => return run.map_err(dnn_failed(format!("{pass:?} of {shape:?}, {batch} images"))),
            }
        }
    }

    fn convolution_scratch(&self) -> u64 {
        SCRATCH as u64
    }
}

fn allocate(stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
    stream.alloc_zeros::<u8>(bytes).map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Memory { bytes: bytes as u64 },
        _ => failed("allocating memory")(error),
    })
}

/// What tells convolutions apart.
type Key = (Pass, ConvShape, usize);

/// cuDNN with what it has been asked for so far.
struct Convolutions {
    handle: dnn::cudnnHandle_t,
    plans: HashMap<Key, Plan>,
    scratch: Option<CudaSlice<u8>>,
}

// SAFETY: cuDNN's handle and descriptors may be used by any thread, by one at a time; a mutex sees to that.
unsafe impl Send for Convolutions {}

/// Algorithms for one convolution, chosen once.
struct Plan {
    inputs: dnn::cudnnTensorDescriptor_t,
    outputs: dnn::cudnnTensorDescriptor_t,
    weights: dnn::cudnnFilterDescriptor_t,
    convolution: dnn::cudnnConvolutionDescriptor_t,
    /// The first is used; the others take its place where cuDNN finds that it cannot compute what it has proposed.
    proposals: VecDeque<Proposal>,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(dnn::cudnnConvolutionFwdAlgo_t),
    Inputs(dnn::cudnnConvolutionBwdDataAlgo_t),
    Weights(dnn::cudnnConvolutionBwdFilterAlgo_t),
}

/// One of cuDNN's proposals, best first.
#[derive(Clone, Copy)]
struct Proposal {
    algorithm: Algorithm,
    scratch: usize,
    math: dnn::cudnnMathType_t,
    usable: bool,
    deterministic: bool,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by cuDNN, and nowhere else. What cannot be given back is lost to the process.
        unsafe {
            let _ = cudnn::destroy_tensor_descriptor(self.inputs);
            let _ = cudnn::destroy_tensor_descriptor(self.outputs);
            let _ = cudnn::destroy_filter_descriptor(self.weights);
            let _ = cudnn::destroy_convolution_descriptor(self.convolution);
        }
    }
}

impl Drop for Convolutions {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: as above.
        let _ = unsafe { cudnn::destroy_handle(self.handle) };
    }
}

impl Convolutions {
    fn new(stream: &Arc<CudaStream>) -> Result<Self, DeviceError> {
        let handle = cudnn::create_handle().map_err(dnn_failed("opening cuDNN"))?;
        let convolutions = Self {
            handle,
            plans: HashMap::new(),
            scratch: None,
        };
        // SAFETY: both exist.
        unsafe { cudnn::set_stream(handle, stream.cu_stream().cast()) }.map_err(dnn_failed("giving cuDNN a stream"))?;
        Ok(convolutions)
    }

    /// Chooses an algorithm where this convolution is new.
    fn prepare(&mut self, settings: Settings, key: Key) -> Result<(), DeviceError> {
        if self.plans.contains_key(&key) {
            return Ok(());
        }
        let (pass, shape, batch) = key;
        let call = || format!("choosing a convolution, {pass:?} of {shape:?}, {batch} images");
        let number = |value: usize| {
            c_int::try_from(value).map_err(|_| DeviceError::Failed {
                call: call(),
                reason: format!("{value} is too large"),
            })
        };
        let (side, out) = (number(shape.in_side)?, number(shape.out_side())?);
        let (inputs, outputs) = (number(shape.inputs)?, number(shape.outputs)?);
        let (kernel, batch) = (number(shape.kernel)?, number(batch)?);
        let (padding, stride) = (number(shape.padding)?, number(shape.stride)?);
        let float = dnn::cudnnDataType_t::CUDNN_DATA_FLOAT;
        let layout = dnn::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        // `CUDNN_CROSS_CORRELATION`: the kernel is not turned.
        let mode = dnn::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let math = match settings.precision {
            Precision::Float32 => dnn::cudnnMathType_t::CUDNN_FMA_MATH,
            Precision::Tf32 => dnn::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        };
        // SAFETY: descriptors are made, filled and used in this order; `Plan` gives them back.
        let plan = unsafe {
            let tensor = || cudnn::create_tensor_descriptor().map_err(dnn_failed(call()));
            let mut plan = Plan {
                inputs: tensor()?,
                outputs: tensor()?,
                weights: cudnn::create_filter_descriptor().map_err(dnn_failed(call()))?,
                convolution: cudnn::create_convolution_descriptor().map_err(dnn_failed(call()))?,
                proposals: VecDeque::new(),
            };
            cudnn::set_tensor4d_descriptor(plan.inputs, layout, float, [batch, inputs, side, side])
                .and_then(|()| cudnn::set_tensor4d_descriptor(plan.outputs, layout, float, [batch, outputs, out, out]))
                .and_then(|()| {
                    cudnn::set_filter4d_descriptor(plan.weights, float, layout, [outputs, inputs, kernel, kernel])
                })
                .and_then(|()| {
                    cudnn::set_convolution2d_descriptor(
                        plan.convolution,
                        padding,
                        padding,
                        stride,
                        stride,
                        1,
                        1,
                        mode,
                        float,
                    )
                })
                .and_then(|()| cudnn::set_convolution_math_type(plan.convolution, math))
                .map_err(dnn_failed(call()))?;
            let proposals = self.proposals(pass, &plan).map_err(dnn_failed(call()))?;
            let allowed = |proposal: &Proposal| {
                proposal.usable
                    && (proposal.deterministic || !settings.deterministic)
                    && (settings.precision != Precision::Float32 || proposal.math == math)
            };
            let (fitting, large): (Vec<_>, Vec<_>) = proposals
                .into_iter()
                .filter(allowed)
                .partition(|proposal| proposal.scratch <= SCRATCH);
            plan.proposals = fitting.into();
            if plan.proposals.is_empty() {
                return Err(match large.first() {
                    // Fewer images at a time need less.
                    Some(proposal) => DeviceError::Memory {
                        bytes: proposal.scratch as u64,
                    },
                    None => DeviceError::Failed {
                        call: call(),
                        reason: "cuDNN has no algorithm for it".to_owned(),
                    },
                });
            }
            plan
        };
        self.plans.insert(key, plan);
        Ok(())
    }

    /// What cuDNN thinks of its algorithms, the fastest first.
    ///
    /// # Safety
    /// The plan's descriptors are filled.
    unsafe fn proposals(&self, pass: Pass, plan: &Plan) -> Result<Vec<Proposal>, cudnn::CudnnError> {
        const MOST: usize = 16;
        let mut count = 0;
        macro_rules! ask {
            ($ask:path, $arguments:tt, $results:ty, $algorithm:path) => {{
                let mut results = [const { std::mem::MaybeUninit::<$results>::uninit() }; MOST];
                let list: *mut $results = results.as_mut_ptr().cast();
                // SAFETY: there is room for `MOST` results.
                unsafe { ask!(@call $ask, $arguments, &raw mut count, list) }?;
                let count = usize::try_from(count).unwrap_or_default().min(MOST);
                let proposal = |result: &std::mem::MaybeUninit<$results>| {
                    // SAFETY: cuDNN has filled the first `count`.
                    let result = unsafe { result.assume_init_ref() };
                    Proposal {
                        algorithm: $algorithm(result.algo),
                        scratch: result.memory,
                        math: result.mathType,
                        usable: result.status == dnn::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
                        deterministic: result.determinism == dnn::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                    }
                };
                Ok(results[..count].iter().map(proposal).collect())
            }};
            (@call $ask:path, ($($argument:expr),*), $count:expr, $list:expr) => {
                $ask(self.handle, $($argument),*, MOST as c_int, $count, $list)
            };
        }
        match pass {
            Pass::Forward => ask!(
                cudnn::get_convolution_forward_algorithm,
                (plan.inputs, plan.weights, plan.convolution, plan.outputs),
                dnn::cudnnConvolutionFwdAlgoPerf_t,
                Algorithm::Forward
            ),
            Pass::Inputs => ask!(
                cudnn::get_convolution_backward_data_algorithm,
                (plan.weights, plan.outputs, plan.convolution, plan.inputs),
                dnn::cudnnConvolutionBwdDataAlgoPerf_t,
                Algorithm::Inputs
            ),
            Pass::Weights => ask!(
                cudnn::get_convolution_backward_filter_algorithm,
                (plan.inputs, plan.outputs, plan.convolution, plan.weights),
                dnn::cudnnConvolutionBwdFilterAlgoPerf_t,
                Algorithm::Weights
            ),
        }
    }

    /// Sees to it that there is scratch memory enough.
    fn reserve(&mut self, stream: &Arc<CudaStream>, key: Key) -> Result<(), DeviceError> {
        let proposal = self.plans.get(&key).and_then(|plan| plan.proposals.front());
        let wanted = proposal.map_or(0, |proposal| proposal.scratch);
        if wanted > self.scratch.as_ref().map_or(0, CudaSlice::len) {
            // The old one goes first.
            self.scratch = None;
            self.scratch = Some(allocate(stream, wanted)?);
        }
        Ok(())
    }

    /// Drops the algorithm in use where there is another.
    fn pass_over(&mut self, key: Key) -> bool {
        self.plans.get_mut(&key).is_some_and(|plan| {
            plan.proposals.pop_front();
            !plan.proposals.is_empty()
        })
    }

    fn run(
        &mut self,
        stream: &Arc<CudaStream>,
        key: Key,
        [a, b]: [&CudaSlice<u8>; 2],
        to: &mut CudaSlice<u8>,
        accumulate: bool,
    ) -> Result<(), cudnn::CudnnError> {
        // Prepared, with at least one proposal.
        let Some((plan, proposal)) = self
            .plans
            .get(&key)
            .and_then(|plan| Some((plan, *plan.proposals.front()?)))
        else {
            return Err(cudnn::CudnnError(dnn::cudnnStatus_t::CUDNN_STATUS_BAD_PARAM));
        };
        // SAFETY: the descriptor exists.
        unsafe { cudnn::set_convolution_math_type(plan.convolution, proposal.math) }?;
        let (one, beta) = (1.0f32, if accumulate { 1.0f32 } else { 0.0 });
        let (one, beta): (*const c_void, *const c_void) = ((&raw const one).cast(), (&raw const beta).cast());
        let ((a, _a), (b, _b), (to, _to)) = (a.device_ptr(stream), b.device_ptr(stream), to.device_ptr_mut(stream));
        let (a, b, to) = (a as *const c_void, b as *const c_void, to as *mut c_void);
        let (scratch, size) = match &mut self.scratch {
            Some(scratch) if proposal.scratch > 0 => {
                let len = scratch.len();
                (scratch.device_ptr_mut(stream).0 as *mut c_void, len)
            }
            _ => (std::ptr::null_mut(), 0),
        };
        let handle = self.handle;
        // SAFETY: descriptors and memory have the same shape, as `Cuda` has checked; scratch is as large as was asked for.
        unsafe {
            match proposal.algorithm {
                Algorithm::Forward(algorithm) => cudnn::convolution_forward(
                    handle,
                    one,
                    plan.inputs,
                    a,
                    plan.weights,
                    b,
                    plan.convolution,
                    algorithm,
                    scratch,
                    size,
                    beta,
                    plan.outputs,
                    to,
                ),
                Algorithm::Inputs(algorithm) => cudnn::convolution_backward_data(
                    handle,
                    one,
                    plan.weights,
                    b,
                    plan.outputs,
                    a,
                    plan.convolution,
                    algorithm,
                    scratch,
                    size,
                    beta,
                    plan.inputs,
                    to,
                ),
                Algorithm::Weights(algorithm) => cudnn::convolution_backward_filter(
                    handle,
                    one,
                    plan.inputs,
                    a,
                    plan.outputs,
                    b,
                    plan.convolution,
                    algorithm,
                    scratch,
                    size,
                    beta,
                    plan.weights,
                    to,
                ),
            }
        }
    }
}
