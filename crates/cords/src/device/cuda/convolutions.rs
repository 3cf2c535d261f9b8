//! Convolutions by cuDNN in NHWC: an algorithm for each shape, chosen once, and scratch memory that all of them share.

#![expect(unsafe_code, reason = "calls cuDNN")]

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use cudarc::cudnn::{result as cudnn, sys as dnn};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut};

use super::gpu::Pass;
use super::hardware::{Precision, Settings, allocate};
use crate::device::{ConvShape, DeviceError};

/// Bytes of scratch memory that a convolution may take.
pub(super) const SCRATCH: usize = 1 << 30;

pub(super) fn dnn_failed(call: impl Into<String>) -> impl FnOnce(cudnn::CudnnError) -> DeviceError {
    move |error| DeviceError::Failed {
        call: call.into(),
        reason: format!("{:?}", error.0),
    }
}

/// What tells convolutions apart.
/// Whether it is bfloat16 comes last.
type Key = (Pass, ConvShape, usize, bool);

/// cuDNN with what it has been asked for so far.
pub(super) struct Convolutions {
    handle: dnn::cudnnHandle_t,
    plans: HashMap<Key, Plan>,
    scratch: Option<CudaSlice<u8>>,
    /// How often scratch memory was given back.
    pub(super) generation: u64,
    /// Whether work is being recorded: scratch memory stays what it is.
    pub(super) capturing: bool,
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
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, DeviceError> {
        let handle = cudnn::create_handle().map_err(dnn_failed("opening cuDNN"))?;
        let convolutions = Self {
            handle,
            plans: HashMap::new(),
            scratch: None,
            generation: 0,
            capturing: false,
        };
        // SAFETY: both exist.
        unsafe { cudnn::set_stream(handle, stream.cu_stream().cast()) }.map_err(dnn_failed("giving cuDNN a stream"))?;
        Ok(convolutions)
    }

    /// Chooses an algorithm where this convolution is new.
    pub(super) fn prepare(&mut self, settings: Settings, key: Key) -> Result<(), DeviceError> {
        if self.plans.contains_key(&key) {
            return Ok(());
        }
        let (pass, shape, batch, narrow) = key;
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
        let values = if narrow {
            dnn::cudnnDataType_t::CUDNN_DATA_BFLOAT16
        } else {
            float
        };
        let layout = dnn::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        // `CUDNN_CROSS_CORRELATION`: the kernel is not turned.
        let mode = dnn::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let math = match settings.precision {
            Precision::Float32 => dnn::cudnnMathType_t::CUDNN_FMA_MATH,
            Precision::Tf32 => dnn::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            Precision::Bfloat16 if narrow => dnn::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            Precision::Bfloat16 => dnn::cudnnMathType_t::CUDNN_DEFAULT_MATH,
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
            cudnn::set_tensor4d_descriptor(plan.inputs, layout, values, [batch, inputs, side, side])
                .and_then(|()| cudnn::set_tensor4d_descriptor(plan.outputs, layout, values, [batch, outputs, out, out]))
                .and_then(|()| {
                    cudnn::set_filter4d_descriptor(plan.weights, values, layout, [outputs, inputs, kernel, kernel])
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
    pub(super) fn reserve(&mut self, stream: &Arc<CudaStream>, key: Key) -> Result<(), DeviceError> {
        let proposal = self.plans.get(&key).and_then(|plan| plan.proposals.front());
        let wanted = proposal.map_or(0, |proposal| proposal.scratch);
        if wanted > self.scratch.as_ref().map_or(0, CudaSlice::len) {
            if self.capturing {
                return Err(DeviceError::Failed {
                    call: "recording".to_owned(),
                    reason: "more scratch memory is wanted".to_owned(),
                });
            }
            // The old one goes first.
            self.scratch = None;
            self.generation += 1;
            self.scratch = Some(allocate(stream, wanted)?);
        }
        Ok(())
    }

    /// Drops the algorithm in use where there is another.
    pub(super) fn pass_over(&mut self, key: Key) -> bool {
        self.plans.get_mut(&key).is_some_and(|plan| {
            plan.proposals.pop_front();
            !plan.proposals.is_empty()
        })
    }

    pub(super) fn run(
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
        // SAFETY: descriptors and memory have the same shape, as `Cuda` has checked; scratch is as large as was asked
        // for.
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
