//! Convolutions by cuDNN in NHWC: an algorithm for each shape, chosen once, and scratch memory that all of them share.

#![expect(unsafe_code, reason = "calls cuDNN")]

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};

use super::bindings::{Cudnn, Handle, Performance, cudnn};
use super::choice::{Choice, NOT_PREPARED, Proposal, Status};
use super::gpu::Pass;
use super::hardware::{Precision, Settings, allocate};
use super::libraries;
use crate::device::{ConvShape, DeviceError};

/// What tells convolutions apart.
/// Whether it is bfloat16 comes last.
type Key = (Pass, ConvShape, usize, bool);

/// Adds so many numbers of the first memory to those of the second.
pub(super) type Add<'a> = &'a dyn Fn(&CudaSlice<u8>, &mut CudaSlice<u8>, usize) -> Result<(), DeviceError>;

fn named(key: &Key) -> String {
    let (pass, shape, batch, narrow) = key;
    let kind = if *narrow { ", bfloat16" } else { "" };
    format!("{pass:?} of {shape:?}, {batch} images{kind}")
}

fn failed(call: impl Into<String>) -> impl FnOnce(Status) -> DeviceError {
    move |status| DeviceError::Failed {
        call: call.into(),
        reason: status.to_string(),
    }
}

/// cuDNN with what it has been asked for so far.
pub(super) struct Convolutions {
    library: &'static Cudnn,
    handle: Handle,
    plans: HashMap<Key, Plan>,
    scratch: Option<CudaSlice<u8>>,
    /// Results that cuDNN cannot add to others.
    apart: Option<CudaSlice<u8>>,
    /// How often scratch memory was given back.
    pub(super) generation: u64,
    /// Whether work is being recorded: scratch memory and algorithms stay what they are.
    pub(super) capturing: bool,
}

// SAFETY: cuDNN's handle and descriptors may be used by any thread, by one at a time; a mutex sees to that.
unsafe impl Send for Convolutions {}

/// Algorithms for one convolution, chosen once.
struct Plan {
    library: &'static Cudnn,
    inputs: Handle,
    outputs: Handle,
    weights: Handle,
    convolution: Handle,
    choice: Choice,
}

impl Drop for Plan {
    fn drop(&mut self) {
        let library = self.library;
        for (descriptor, destroy) in [
            (self.inputs, library.cudnnDestroyTensorDescriptor),
            (self.outputs, library.cudnnDestroyTensorDescriptor),
            (self.weights, library.cudnnDestroyFilterDescriptor),
            (self.convolution, library.cudnnDestroyConvolutionDescriptor),
        ] {
            if !descriptor.is_null() {
                // SAFETY: made by cuDNN, and nowhere else. What cannot be given back is lost to the process.
                let _ = unsafe { destroy(descriptor) };
            }
        }
    }
}

impl Drop for Convolutions {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: as above.
        let _ = unsafe { (self.library.cudnnDestroy)(self.handle) };
    }
}

/// A handle or descriptor that cuDNN makes.
///
/// # Safety
/// `make` is a function of cuDNN that writes one.
unsafe fn made(make: unsafe extern "C" fn(*mut Handle) -> c_int) -> Result<Handle, Status> {
    let mut handle = std::ptr::null_mut();
    // SAFETY: as asked for above.
    Status::of(unsafe { make(&raw mut handle) }).map(|()| handle)
}

impl Convolutions {
    /// Opens cuDNN for work in this stream, whose context is that of the calling thread.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] without cuDNN, [`DeviceError::Failed`] where it does not start.
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, DeviceError> {
        let library = libraries::cudnn().map_err(DeviceError::Absent)?;
        // SAFETY: it makes a handle.
        let handle = unsafe { made(library.cudnnCreate) }.map_err(failed("opening cuDNN"))?;
        let convolutions = Self {
            library,
            handle,
            plans: HashMap::new(),
            scratch: None,
            apart: None,
            generation: 0,
            capturing: false,
        };
        // SAFETY: both exist.
        let given = unsafe { (library.cudnnSetStream)(handle, stream.cu_stream().cast()) };
        Status::of(given).map_err(failed("giving cuDNN a stream"))?;
        Ok(convolutions)
    }

    /// Asks for algorithms where this convolution is new.
    fn prepare(&mut self, settings: &Settings, key: Key) -> Result<(), DeviceError> {
        if self.plans.contains_key(&key) {
            return Ok(());
        }
        let (pass, shape, batch, narrow) = key;
        let call = || format!("choosing a convolution, {}", named(&key));
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
        let values = if narrow { cudnn::BFLOAT16 } else { cudnn::FLOAT };
        let math = match settings.precision {
            Precision::Float32 => cudnn::FMA_MATH,
            Precision::Tf32 => cudnn::DEFAULT_MATH,
            Precision::Bfloat16 if narrow => cudnn::TENSOR_OP_MATH,
            Precision::Bfloat16 => cudnn::DEFAULT_MATH,
        };
        let library = self.library;
        let no = std::ptr::null_mut();
        let mut plan = Plan {
            library,
            inputs: no,
            outputs: no,
            weights: no,
            convolution: no,
            choice: Choice::default(),
        };
        let maps = |descriptor, channels, side| {
            // SAFETY: the descriptor was made.
            Status::of(unsafe {
                (library.cudnnSetTensor4dDescriptor)(descriptor, cudnn::NHWC, values, batch, channels, side, side)
            })
        };
        // SAFETY: descriptors are made, filled and used in this order; `Plan` gives them back.
        let proposed = unsafe {
            let mut prepare = || {
                plan.inputs = made(library.cudnnCreateTensorDescriptor)?;
                plan.outputs = made(library.cudnnCreateTensorDescriptor)?;
                plan.weights = made(library.cudnnCreateFilterDescriptor)?;
                plan.convolution = made(library.cudnnCreateConvolutionDescriptor)?;
                maps(plan.inputs, inputs, side)?;
                maps(plan.outputs, outputs, out)?;
                let (format, convolution) = (cudnn::NHWC, plan.convolution);
                Status::of((library.cudnnSetFilter4dDescriptor)(
                    plan.weights,
                    values,
                    format,
                    outputs,
                    inputs,
                    kernel,
                    kernel,
                ))?;
                Status::of((library.cudnnSetConvolution2dDescriptor)(
                    convolution,
                    padding,
                    padding,
                    stride,
                    stride,
                    1,
                    1,
                    cudnn::CROSS_CORRELATION,
                    cudnn::FLOAT,
                ))?;
                Status::of((library.cudnnSetConvolutionMathType)(convolution, math))?;
                self.proposals(pass, &plan)
            };
            prepare().map_err(failed(call()))?
        };
        plan.choice = Choice::of(&proposed, settings, math);
        self.plans.insert(key, plan);
        Ok(())
    }

    /// What cuDNN thinks of its algorithms, the fastest first.
    ///
    /// # Safety
    /// The plan's descriptors are filled.
    unsafe fn proposals(&self, pass: Pass, plan: &Plan) -> Result<Vec<Performance>, Status> {
        const MOST: usize = 16;
        let (library, handle) = (self.library, self.handle);
        let Plan {
            inputs,
            outputs,
            weights,
            convolution,
            ..
        } = *plan;
        let mut results = vec![Performance::default(); MOST];
        let mut count: c_int = 0;
        let (list, most, found) = (results.as_mut_ptr(), MOST as c_int, &raw mut count);
        // SAFETY: there is room for `MOST` results.
        Status::of(unsafe {
            match pass {
                Pass::Forward => (library.cudnnGetConvolutionForwardAlgorithm_v7)(
                    handle,
                    inputs,
                    weights,
                    convolution,
                    outputs,
                    most,
                    found,
                    list,
                ),
                Pass::Inputs => (library.cudnnGetConvolutionBackwardDataAlgorithm_v7)(
                    handle,
                    weights,
                    outputs,
                    convolution,
                    inputs,
                    most,
                    found,
                    list,
                ),
                Pass::Weights => (library.cudnnGetConvolutionBackwardFilterAlgorithm_v7)(
                    handle,
                    inputs,
                    outputs,
                    convolution,
                    weights,
                    most,
                    found,
                    list,
                ),
            }
        })?;
        results.truncate(usize::try_from(count).unwrap_or_default());
        Ok(results)
    }

    /// Computes a convolution by the first of cuDNN's proposals that can; it is the first from then on. Where none can
    /// add to what is there, `add` adds so many numbers of the first memory to the second.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where no algorithm can or, while work is recorded, the one in use cannot;
    /// [`DeviceError::Memory`] where scratch memory does not suffice.
    pub(super) fn compute(
        &mut self,
        stream: &Arc<CudaStream>,
        settings: &Settings,
        key: Key,
        from: [&CudaSlice<u8>; 2],
        to: &mut CudaSlice<u8>,
        add: Option<Add<'_>>,
    ) -> Result<(), DeviceError> {
        self.prepare(settings, key)?;
        let use_of = usize::from(add.is_some());
        while let Some(plan) = self.plans.get(&key)
            && let Some(proposal) = plan.choice.in_use(use_of)
        {
            self.reserve(stream, proposal.scratch)?;
            let Err(status) = self.run(stream, key, proposal, from, to, add.is_some()) else {
                return Ok(());
            };
            // What was recorded so far may hold part of it.
            if self.capturing {
                return Err(failed(named(&key))(status));
            }
            if let Some(plan) = self.plans.get_mut(&key) {
                plan.choice.pass_over(use_of, status);
            }
        }
        match add {
            Some(add) => self.compute_apart(stream, settings, key, from, to, add),
            None => Err(self.plans.get(&key).map_or_else(
                || failed(named(&key))(NOT_PREPARED),
                |plan| plan.choice.exhausted(named(&key)),
            )),
        }
    }

    /// Computes a convolution by itself and adds it to what is there.
    fn compute_apart(
        &mut self,
        stream: &Arc<CudaStream>,
        settings: &Settings,
        key: Key,
        from: [&CudaSlice<u8>; 2],
        to: &mut CudaSlice<u8>,
        add: Add<'_>,
    ) -> Result<(), DeviceError> {
        let (pass, shape, batch, narrow) = key;
        if narrow {
            return Err(DeviceError::Failed {
                call: named(&key),
                reason: "bfloat16 is not added to".to_owned(),
            });
        }
        let values = match pass {
            Pass::Forward => batch * shape.outputs * shape.out_side().pow(2),
            Pass::Inputs => batch * shape.inputs * shape.in_side.pow(2),
            Pass::Weights => shape.outputs * shape.inputs * shape.kernel.pow(2),
        };
        let mut result = match self.apart.take() {
            Some(memory) if memory.len() >= values * size_of::<f32>() => memory,
            old => {
                self.may_exchange()?;
                drop(old);
                allocate(stream, values * size_of::<f32>())?
            }
        };
        let computed = self
            .compute(stream, settings, key, from, &mut result, None)
            .and_then(|()| add(&result, to, values));
        self.apart = Some(result);
        computed
    }

    /// Sees to it that there is scratch memory enough.
    fn reserve(&mut self, stream: &Arc<CudaStream>, wanted: usize) -> Result<(), DeviceError> {
        if wanted > self.scratch.as_ref().map_or(0, CudaSlice::len) {
            self.may_exchange()?;
            // The old one goes first.
            self.scratch = None;
            self.scratch = Some(allocate(stream, wanted)?);
        }
        Ok(())
    }

    /// Before memory that recorded work may use is given back.
    fn may_exchange(&mut self) -> Result<(), DeviceError> {
        if self.capturing {
            return Err(DeviceError::Failed {
                call: "recording".to_owned(),
                reason: "more scratch memory is wanted".to_owned(),
            });
        }
        self.generation += 1;
        Ok(())
    }

    fn run(
        &mut self,
        stream: &Arc<CudaStream>,
        key: Key,
        proposal: Proposal,
        [a, b]: [&CudaSlice<u8>; 2],
        to: &mut CudaSlice<u8>,
        accumulate: bool,
    ) -> Result<(), Status> {
        let (library, handle) = (self.library, self.handle);
        let plan = self.plans.get(&key).ok_or(NOT_PREPARED)?;
        let Plan {
            inputs,
            outputs,
            weights,
            convolution,
            ..
        } = *plan;
        // SAFETY: the descriptor exists.
        Status::of(unsafe { (library.cudnnSetConvolutionMathType)(convolution, proposal.math) })?;
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
        let algorithm = proposal.algorithm;
        // SAFETY: descriptors and memory have the same shape, as `Cuda` has checked; scratch is as large as was asked
        // for.
        Status::of(unsafe {
            match key.0 {
                Pass::Forward => (library.cudnnConvolutionForward)(
                    handle,
                    one,
                    inputs,
                    a,
                    weights,
                    b,
                    convolution,
                    algorithm,
                    scratch,
                    size,
                    beta,
                    outputs,
                    to,
                ),
                Pass::Inputs => (library.cudnnConvolutionBackwardData)(
                    handle,
                    one,
                    weights,
                    b,
                    outputs,
                    a,
                    convolution,
                    algorithm,
                    scratch,
                    size,
                    beta,
                    inputs,
                    to,
                ),
                Pass::Weights => (library.cudnnConvolutionBackwardFilter)(
                    handle,
                    one,
                    inputs,
                    a,
                    outputs,
                    b,
                    convolution,
                    algorithm,
                    scratch,
                    size,
                    beta,
                    weights,
                    to,
                ),
            }
        })
    }
}
