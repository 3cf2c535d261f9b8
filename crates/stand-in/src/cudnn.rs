//! `libcudnn.so.9`: convolutions of NHWC maps, as its older interface has them.

#![expect(unsafe_code, reason = "the library's functions, as C calls them")]

use std::ffi::{c_char, c_float, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use crate::context::{self, Context};
use crate::convolution::{Pass, Shape, convolve};
use crate::counts::{Traffic, refused, violation};
use crate::driver::{self, Handle};
use crate::handles::Handles;
use crate::memory::{Range, range};
use crate::settings::{BrokenCapture, settings};
use crate::stream::{Stream, Work};

/// What the library's functions return.
type Status = c_int;

const SUCCESS: Status = 0;
const NOT_INITIALIZED: Status = 1001;
const BAD_PARAM: Status = 2000;
const NULL_POINTER: Status = 2002;
const MISALIGNED_POINTER: Status = 2003;
const SIZE_INSUFFICIENT: Status = 2006;
const SHAPE_MISMATCH: Status = 2008;
const NOT_SUPPORTED: Status = 3000;
const NOT_SUPPORTED_SHAPE: Status = 3002;
const EXECUTION_FAILED: Status = 5000;

// Numbers of its enumerations.
const FLOAT: c_int = 0;
const BFLOAT16: c_int = 9;
const NHWC: c_int = 1;
const CROSS_CORRELATION: c_int = 1;
const FMA_MATH: c_int = 3;

static LIBRARIES: Handles<Library> = Handles::new("cuDNN handle");
static TENSORS: Handles<Mutex<Tensor>> = Handles::new("tensor descriptor");
static FILTERS: Handles<Mutex<Tensor>> = Handles::new("filter descriptor");
static CONVOLUTIONS: Handles<Mutex<Convolution>> = Handles::new("convolution descriptor");

struct Library {
    context: Context,
    stream: Mutex<Option<Arc<Stream>>>,
}

/// Maps or weights.
#[derive(Clone, Copy, Default)]
struct Tensor {
    format: c_int,
    kind: c_int,
    /// Images or outputs, channels or inputs, height, width.
    sizes: [usize; 4],
}

#[derive(Clone, Copy, Default)]
struct Convolution {
    padding: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    mode: c_int,
    kind: c_int,
    math: c_int,
}

/// What the library thinks of an algorithm.
#[repr(C)]
#[derive(Clone, Copy)]
struct Proposal {
    algorithm: c_int,
    status: Status,
    time: c_float,
    memory: usize,
    determinism: c_int,
    math: c_int,
    reserved: [c_int; 3],
}

/// Forgets what was made in a context.
pub(crate) fn forget(context: Context) {
    LIBRARIES.retain(|library| library.context != context);
}

fn status(call: &str, result: Result<(), Status>) -> Status {
    match result {
        Ok(()) => SUCCESS,
        Err(status) => {
            refused(call, status);
            status
        }
    }
}

fn put<T>(place: *mut T, value: T) -> Result<(), Status> {
    driver::put(place, value).map_err(|_| NULL_POINTER)
}

fn get<T: Copy>(all: &Handles<Mutex<T>>, call: &str, handle: Handle) -> Result<T, Status> {
    let found = all.get(call, handle).ok_or(BAD_PARAM)?;
    Ok(*found.lock().unwrap_or_else(PoisonError::into_inner))
}

fn set<T>(all: &Handles<Mutex<T>>, call: &str, handle: Handle, value: T) -> Result<(), Status> {
    let found = all.get(call, handle).ok_or(BAD_PARAM)?;
    *found.lock().unwrap_or_else(PoisonError::into_inner) = value;
    Ok(())
}

fn library(call: &str, handle: Handle) -> Result<Arc<Library>, Status> {
    let context = context::current(call).map_err(|_| NOT_INITIALIZED)?;
    let library = LIBRARIES.get(call, handle).ok_or(NOT_INITIALIZED)?;
    if library.context != context {
        violation(format!("{call} in another context than that in which cuDNN was opened"));
        return Err(BAD_PARAM);
    }
    Ok(library)
}

fn tensor(format: c_int, kind: c_int, sizes: [c_int; 4]) -> Result<Tensor, Status> {
    if ![FLOAT, BFLOAT16].contains(&kind) || format != NHWC {
        violation(format!(
            "cuDNN: values of type {kind} in layout {format}, which the stand-in does not have"
        ));
        return Err(NOT_SUPPORTED);
    }
    let sizes = sizes.map(|size| usize::try_from(size).unwrap_or_default());
    if sizes.contains(&0) {
        return Err(BAD_PARAM);
    }
    Ok(Tensor { format, kind, sizes })
}

/// The shape that descriptors agree on.
fn shape(x: Tensor, w: Tensor, convolution: Convolution, y: Tensor) -> Result<Shape, Status> {
    let [images, inputs, height, width] = x.sizes;
    let [outputs, weight_inputs, kernel_height, kernel_width] = w.sizes;
    let kernel = [kernel_height, kernel_width];
    let same_layout = [x, w, y]
        .iter()
        .all(|tensor| tensor.format == NHWC && tensor.kind == x.kind);
    if !same_layout || convolution.kind != FLOAT || convolution.mode != CROSS_CORRELATION {
        violation("cuDNN: maps and weights of different types, or sums that are not float32".to_owned());
        return Err(NOT_SUPPORTED);
    }
    let Convolution {
        padding,
        stride,
        dilation,
        ..
    } = convolution;
    let fits = [0, 1].iter().all(|axis| {
        let side = [height, width][*axis] + 2 * padding[*axis];
        side >= kernel[*axis] && (side - kernel[*axis]) / stride[*axis] + 1 == y.sizes[2 + axis]
    });
    if !fits || weight_inputs != inputs || y.sizes[..2] != [images, outputs] || dilation != [1, 1] {
        violation(format!(
            "cuDNN: inputs {:?}, weights {:?}, outputs {:?} do not fit",
            x.sizes, w.sizes, y.sizes
        ));
        return Err(SHAPE_MISMATCH);
    }
    if [0, 1].iter().any(|axis| padding[*axis] >= kernel[*axis]) {
        return Err(NOT_SUPPORTED_SHAPE);
    }
    Ok(Shape {
        images,
        inputs,
        outputs,
        side: [height, width],
        out: [y.sizes[2], y.sizes[3]],
        kernel,
        padding,
        stride,
    })
}

/// Bytes of scratch memory that an algorithm takes, where it can compute the shape.
fn scratch(algorithm: c_int, shape: &Shape) -> Option<usize> {
    match algorithm {
        0 => Some(0),
        1 => Some(4 * shape.images * shape.out[0] * shape.out[1] + 64),
        TILES => Some(8 * shape.images * shape.out[0] * shape.out[1] + 128),
        // More than anybody should give.
        FFT => Some((1 << 30) + 256),
        _ => None,
    }
}

/// Transforms, which take much memory, and of tiles, which take less.
const FFT: c_int = 4;
const TILES: c_int = 5;

/// Writes what the library thinks of its algorithms, the fastest first, the last of no use.
fn propose(
    pass: Pass,
    descriptors: [Handle; 4],
    room: c_int,
    count: *mut c_int,
    proposals: *mut Proposal,
) -> Result<(), Status> {
    const CALL: &str = "cudnnGetConvolutionAlgorithm_v7";
    let [x, w, convolution, y] = descriptors;
    let convolution = get(&CONVOLUTIONS, CALL, convolution)?;
    let x = get(&TENSORS, CALL, x)?;
    let shape = shape(x, get(&FILTERS, CALL, w)?, convolution, get(&TENSORS, CALL, y)?)?;
    let proposal = |algorithm: c_int| {
        let scratch = scratch(algorithm, &shape);
        Proposal {
            algorithm,
            status: if scratch.is_some() { SUCCESS } else { NOT_SUPPORTED },
            time: -1.0,
            memory: scratch.unwrap_or_default(),
            // Gradients are summed in any order by the first algorithm.
            determinism: c_int::from(pass == Pass::Forward || algorithm != 0),
            // One without tensor cores is among those that may have them.
            math: if algorithm == 0 && x.kind == FLOAT {
                FMA_MATH
            } else {
                convolution.math
            },
            reserved: [0; 3],
        }
    };
    let all = [1, 0, TILES, FFT, 2].map(proposal);
    let written = usize::try_from(room).unwrap_or_default().min(all.len());
    if written == 0 || proposals.is_null() {
        return Err(BAD_PARAM);
    }
    for (i, proposal) in all[..written].iter().enumerate() {
        // SAFETY: the caller has room for them.
        unsafe { proposals.add(i).write(*proposal) };
    }
    put(count, written as c_int)
}

/// One pass: descriptors of inputs, weights, convolution and outputs; places of its two factors and its result.
struct Asked {
    pass: Pass,
    descriptors: [Handle; 4],
    places: [usize; 3],
    factors: [*const c_void; 2],
    algorithm: c_int,
    scratch: (usize, usize),
}

fn run(call: &str, handle: Handle, asked: Asked) -> Result<(), Status> {
    let library = library(call, handle)?;
    let stream = library.stream.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(stream) = stream else {
        violation(format!("{call}: cuDNN was given no stream"));
        return Err(BAD_PARAM);
    };
    let [x, w, convolution, y] = asked.descriptors;
    let convolution = get(&CONVOLUTIONS, call, convolution)?;
    let x = get(&TENSORS, call, x)?;
    let shape = shape(x, get(&FILTERS, call, w)?, convolution, get(&TENSORS, call, y)?)?;
    // SAFETY: the caller gives two numbers of single precision, as sums are.
    let [alpha, beta] = asked
        .factors
        .map(|place| (!place.is_null()).then(|| unsafe { *place.cast::<f32>() }));
    let (Some(alpha), Some(beta)) = (alpha, beta) else {
        return Err(NULL_POINTER);
    };
    if !settings().only_accumulating || beta != 0.0 {
        let first = settings().first_proposal.filter(|_| asked.algorithm == 1);
        if let Some(status) = first.or(settings().all_proposals) {
            return Err(status);
        }
    }
    let Some(wanted) = scratch(asked.algorithm, &shape) else {
        return Err(NOT_SUPPORTED);
    };
    if asked.algorithm == 0 && x.kind == FLOAT && convolution.math != FMA_MATH {
        violation(format!("{call}: algorithm 0 was proposed with another kind of math"));
    }
    let [inputs, weights, outputs] = shape.lengths();
    let lengths = match asked.pass {
        Pass::Forward => [inputs, weights, outputs],
        Pass::Inputs => [outputs, weights, inputs],
        Pass::Weights => [inputs, outputs, weights],
    };
    let size = if x.kind == FLOAT { 4 } else { 2 };
    let find = |address: usize, bytes: usize, what: &str| {
        if !address.is_multiple_of(16) {
            violation(format!("{call}: {what} is not aligned to 16 bytes"));
            return Err(MISALIGNED_POINTER);
        }
        range(stream.context, address, bytes, || format!("{call}: {what}")).map_err(|_| BAD_PARAM)
    };
    let [a, b, to] = [0, 1, 2].map(|i| {
        find(
            asked.places[i],
            size * lengths[i],
            ["a factor", "a factor", "the result"][i],
        )
    });
    let [a, b, to] = [a?, b?, to?];
    let overlap = |one: &Range, other: &Range| {
        one.address < other.address + other.bytes && other.address < one.address + one.bytes
    };
    let mut ranges = vec![a, b, to];
    if wanted > 0 {
        let (address, bytes) = asked.scratch;
        if bytes < wanted {
            violation(format!("{call}: {bytes} bytes of scratch memory, {wanted} are wanted"));
            return Err(SIZE_INSUFFICIENT);
        }
        // All that it is told is there may be used.
        ranges.push(find(address, bytes, "scratch memory")?);
    }
    let used = ranges.clone();
    let overlaps = |i: usize| {
        used.iter()
            .enumerate()
            .any(|(j, other)| i != j && overlap(&used[i], other))
    };
    if overlaps(2) || (used.len() > 3 && overlaps(3)) {
        violation(format!(
            "{call}: its result or its scratch memory is among what it reads"
        ));
    }
    if stream.is_capturing() && settings().capture == Some(BrokenCapture::Convolution) {
        stream.invalidate();
    }
    let job = Job {
        pass: asked.pass,
        shape,
        narrow: x.kind == BFLOAT16,
        tensor_cores: convolution.math != FMA_MATH,
        ranges: used,
        wanted,
        factors: [alpha, beta],
    };
    let name = match asked.pass {
        Pass::Forward => "convolution forward",
        Pass::Inputs => "convolution inputs",
        Pass::Weights => "convolution weights",
    };
    let work = Work {
        name: name.into(),
        kernel: false,
        ranges,
        run: Box::new(move || Ok(job.run())),
    };
    stream.ask(call, work).map_err(|_| EXECUTION_FAILED)
}

/// A convolution to be done.
struct Job {
    pass: Pass,
    shape: Shape,
    narrow: bool,
    /// Whether factors of single precision are rounded to TF32.
    tensor_cores: bool,
    /// Two factors, the result, and scratch memory where any is used.
    ranges: Vec<Range>,
    wanted: usize,
    factors: [f32; 2],
}

impl Job {
    fn run(&self) -> Traffic {
        let [a, b, to] = [0, 1, 2].map(|i| self.ranges[i]);
        if let Some(scratch) = self.ranges.get(3) {
            // SAFETY: the memory is there, and work of a GPU is done by one thread at a time.
            unsafe { std::slice::from_raw_parts_mut(scratch.address as *mut u8, self.wanted) }.fill(0xEE);
        }
        if settings().computes_convolutions {
            let sums = convolve(self.pass, &self.shape, &self.values(a), &self.values(b));
            self.write(to, &sums);
        } else {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts_mut(to.address as *mut u8, to.bytes) }.fill(0);
        }
        let accumulated = if self.factors[1] == 0.0 { 0 } else { to.bytes };
        Traffic {
            read: (a.bytes + b.bytes + accumulated) as u64,
            written: to.bytes as u64,
        }
    }

    /// Values of a factor, as the products are computed from them.
    fn values(&self, range: Range) -> Vec<f32> {
        let wide = |half: &u16| f32::from_bits(u32::from(*half) << 16);
        // To 11 significant bits, ties away from zero.
        let rounded = |value: &f32| match value.is_finite() && self.tensor_cores {
            true => f32::from_bits((value.to_bits() + (1 << 12)) & !((1 << 13) - 1)),
            false => *value,
        };
        // SAFETY (both): as above; ranges are aligned.
        unsafe {
            if self.narrow {
                let halves = std::slice::from_raw_parts(range.address as *const u16, range.bytes / 2);
                halves.iter().map(wide).collect()
            } else {
                let floats = std::slice::from_raw_parts(range.address as *const f32, range.bytes / 4);
                floats.iter().map(rounded).collect()
            }
        }
    }

    fn write(&self, range: Range, sums: &[f64]) {
        let [alpha, beta] = self.factors;
        // What is not added to is not read: it may be NaN.
        let value = |sum: &f64, old: f32| alpha * *sum as f32 + if beta == 0.0 { 0.0 } else { beta * old };
        // SAFETY (both): as above.
        unsafe {
            if self.narrow {
                let halves = std::slice::from_raw_parts_mut(range.address as *mut u16, range.bytes / 2);
                for (half, sum) in halves.iter_mut().zip(sums) {
                    *half = narrowed(value(sum, f32::from_bits(u32::from(*half) << 16)));
                }
            } else {
                let floats = std::slice::from_raw_parts_mut(range.address as *mut f32, range.bytes / 4);
                floats
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(float, sum)| *float = value(sum, *float));
            }
        }
    }
}

/// bfloat16, ties to even.
pub(crate) fn narrowed(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16 | 64) as u16;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetVersion() -> usize {
    91_900
}

#[unsafe(no_mangle)]
extern "C" fn cudnnGetErrorString(status: Status) -> *const c_char {
    match status {
        SUCCESS => c"CUDNN_STATUS_SUCCESS",
        1000..2000 => c"CUDNN_STATUS_NOT_INITIALIZED",
        2000..3000 => c"CUDNN_STATUS_BAD_PARAM",
        3000..4000 => c"CUDNN_STATUS_NOT_SUPPORTED",
        4000..5000 => c"CUDNN_STATUS_INTERNAL_ERROR",
        _ => c"CUDNN_STATUS_EXECUTION_FAILED",
    }
    .as_ptr()
}

/// Functions of C that return a status. `CALL` is the name of each within it.
macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $kind),*) -> Status {
            #[allow(dead_code, reason = "not every call can go wrong")]
            const CALL: &str = stringify!($name);
            #[allow(clippy::too_many_arguments, reason = "NVIDIA's functions")]
            fn called($($argument: $kind),*) -> Result<(), Status> { $body }
            status(CALL, called($($argument),*))
        }
    )* };
}

calls! {
    fn cudnnCreate(library: *mut Handle) {
        let context = context::current(CALL).map_err(|_| NOT_INITIALIZED)?;
        let stream = Mutex::default();
        put(library, LIBRARIES.add(Library { context, stream }))
    }

    fn cudnnDestroy(handle: Handle) {
        library(CALL, handle)?;
        LIBRARIES.take(CALL, handle).map(|_| ()).ok_or(BAD_PARAM)
    }

    fn cudnnSetStream(handle: Handle, stream: Handle) {
        let library = library(CALL, handle)?;
        let stream = driver::stream(CALL, stream).map_err(|_| BAD_PARAM)?;
        *library.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }

    fn cudnnCreateTensorDescriptor(handle: *mut Handle) { put(handle, TENSORS.add(Mutex::default())) }

    fn cudnnDestroyTensorDescriptor(handle: Handle) { TENSORS.take(CALL, handle).map(|_| ()).ok_or(BAD_PARAM) }

    fn cudnnSetTensor4dDescriptor(
        handle: Handle, format: c_int, kind: c_int, n: c_int, c: c_int, h: c_int, w: c_int,
    ) {
        set(&TENSORS, CALL, handle, tensor(format, kind, [n, c, h, w])?)
    }

    fn cudnnCreateFilterDescriptor(handle: *mut Handle) { put(handle, FILTERS.add(Mutex::default())) }

    fn cudnnDestroyFilterDescriptor(handle: Handle) { FILTERS.take(CALL, handle).map(|_| ()).ok_or(BAD_PARAM) }

    fn cudnnSetFilter4dDescriptor(
        handle: Handle, kind: c_int, format: c_int, k: c_int, c: c_int, h: c_int, w: c_int,
    ) {
        set(&FILTERS, CALL, handle, tensor(format, kind, [k, c, h, w])?)
    }

    fn cudnnCreateConvolutionDescriptor(handle: *mut Handle) { put(handle, CONVOLUTIONS.add(Mutex::default())) }

    fn cudnnDestroyConvolutionDescriptor(handle: Handle) {
        CONVOLUTIONS.take(CALL, handle).map(|_| ()).ok_or(BAD_PARAM)
    }

    fn cudnnSetConvolution2dDescriptor(
        handle: Handle, pad_h: c_int, pad_w: c_int, stride_h: c_int, stride_w: c_int, dilation_h: c_int,
        dilation_w: c_int, mode: c_int, kind: c_int,
    ) {
        let pair = |a: c_int, b: c_int| [a, b].map(|n| usize::try_from(n).unwrap_or_default());
        let stride = pair(stride_h, stride_w);
        if stride.contains(&0) || pad_h < 0 || pad_w < 0 {
            return Err(BAD_PARAM);
        }
        let (padding, dilation) = (pair(pad_h, pad_w), pair(dilation_h, dilation_w));
        set(&CONVOLUTIONS, CALL, handle, Convolution { padding, stride, dilation, mode, kind, math: 0 })
    }

    fn cudnnSetConvolutionMathType(handle: Handle, math: c_int) {
        let convolution = get(&CONVOLUTIONS, CALL, handle)?;
        set(&CONVOLUTIONS, CALL, handle, Convolution { math, ..convolution })
    }

    fn cudnnGetConvolutionForwardAlgorithm_v7(
        handle: Handle, x: Handle, w: Handle, convolution: Handle, y: Handle, room: c_int, count: *mut c_int,
        proposals: *mut Proposal,
    ) {
        library(CALL, handle)?;
        propose(Pass::Forward, [x, w, convolution, y], room, count, proposals)
    }

    fn cudnnGetConvolutionBackwardDataAlgorithm_v7(
        handle: Handle, w: Handle, y: Handle, convolution: Handle, x: Handle, room: c_int, count: *mut c_int,
        proposals: *mut Proposal,
    ) {
        library(CALL, handle)?;
        propose(Pass::Inputs, [x, w, convolution, y], room, count, proposals)
    }

    fn cudnnGetConvolutionBackwardFilterAlgorithm_v7(
        handle: Handle, x: Handle, y: Handle, convolution: Handle, w: Handle, room: c_int, count: *mut c_int,
        proposals: *mut Proposal,
    ) {
        library(CALL, handle)?;
        propose(Pass::Weights, [x, w, convolution, y], room, count, proposals)
    }

    fn cudnnConvolutionForward(
        handle: Handle, alpha: *const c_void, x: Handle, x_place: usize, w: Handle, w_place: usize, convolution: Handle,
        algorithm: c_int, scratch: usize, bytes: usize, beta: *const c_void, y: Handle, y_place: usize,
    ) {
        run(CALL, handle, Asked {
            pass: Pass::Forward,
            descriptors: [x, w, convolution, y],
            places: [x_place, w_place, y_place],
            factors: [alpha, beta],
            algorithm,
            scratch: (scratch, bytes),
        })
    }

    fn cudnnConvolutionBackwardData(
        handle: Handle, alpha: *const c_void, w: Handle, w_place: usize, y: Handle, y_place: usize, convolution: Handle,
        algorithm: c_int, scratch: usize, bytes: usize, beta: *const c_void, x: Handle, x_place: usize,
    ) {
        run(CALL, handle, Asked {
            pass: Pass::Inputs,
            descriptors: [x, w, convolution, y],
            places: [y_place, w_place, x_place],
            factors: [alpha, beta],
            algorithm,
            scratch: (scratch, bytes),
        })
    }

    fn cudnnConvolutionBackwardFilter(
        handle: Handle, alpha: *const c_void, x: Handle, x_place: usize, y: Handle, y_place: usize, convolution: Handle,
        algorithm: c_int, scratch: usize, bytes: usize, beta: *const c_void, w: Handle, w_place: usize,
    ) {
        run(CALL, handle, Asked {
            pass: Pass::Weights,
            descriptors: [x, w, convolution, y],
            places: [x_place, y_place, w_place],
            factors: [alpha, beta],
            algorithm,
            scratch: (scratch, bytes),
        })
    }
}
