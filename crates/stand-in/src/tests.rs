//! The stand-in as a program uses it: what it does, and what it is strict about.

#![expect(unsafe_code, reason = "calls the libraries' functions")]
#![expect(clippy::print_stdout, reason = "says why it tests nothing")]

use std::ffi::{c_char, c_int, c_void};
use std::process::Command;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::codes::{
    CONTEXT_IS_DESTROYED, INVALID_CONTEXT, INVALID_HANDLE, NOT_READY, STREAM_CAPTURE_INVALIDATED,
    STREAM_CAPTURE_UNSUPPORTED, SUCCESS,
};
use crate::counts::count;
use crate::driver::Handle;
use crate::{Counts, Traffic};

unsafe extern "C" {
    fn cuInit(flags: u32) -> c_int;
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) -> c_int;
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int;
    fn cuCtxSetCurrent(context: Handle) -> c_int;
    fn cuStreamCreate(stream: *mut Handle, flags: u32) -> c_int;
    fn cuStreamSynchronize(stream: Handle) -> c_int;
    fn cuStreamQuery(stream: Handle) -> c_int;
    fn cuStreamDestroy_v2(stream: Handle) -> c_int;
    fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> c_int;
    fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> c_int;
    fn cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, flags: u64) -> c_int;
    fn cuGraphLaunch(executable: Handle, stream: Handle) -> c_int;
    fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle) -> c_int;
    fn cuMemFreeAsync(address: u64, stream: Handle) -> c_int;
    fn cuMemHostAlloc(place: *mut Handle, bytes: usize, flags: u32) -> c_int;
    fn cuMemFreeHost(place: Handle) -> c_int;
    fn cuMemsetD8Async(address: u64, byte: u8, bytes: usize, stream: Handle) -> c_int;
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle) -> c_int;
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> c_int;
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> c_int;
    fn cuModuleLoadData(module: *mut Handle, image: *const c_void) -> c_int;
    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> c_int;
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared: u32,
        stream: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> c_int;
    fn nvrtcCreateProgram(
        program: *mut Handle,
        source: *const c_char,
        name: *const c_char,
        headers: c_int,
        texts: *const *const c_char,
        names: *const *const c_char,
    ) -> c_int;
    fn nvrtcCompileProgram(program: Handle, count: c_int, options: *const *const c_char) -> c_int;
    fn nvrtcGetProgramLogSize(program: Handle, bytes: *mut usize) -> c_int;
    fn nvrtcGetProgramLog(program: Handle, log: *mut c_char) -> c_int;
    fn nvrtcGetCUBINSize(program: Handle, bytes: *mut usize) -> c_int;
    fn nvrtcGetCUBIN(program: Handle, binary: *mut c_char) -> c_int;
    fn ncclCommInitRank(communicator: *mut Handle, ranks: c_int, id: UniqueId, rank: c_int) -> c_int;
    fn ncclAllReduce(
        from: *const c_void,
        to: *mut c_void,
        number: usize,
        kind: c_int,
        reduction: c_int,
        communicator: Handle,
        stream: Handle,
    ) -> c_int;
    fn ncclCommGetAsyncError(communicator: Handle, error: *mut c_int) -> c_int;
}

/// As NCCL has it.
#[repr(C)]
struct UniqueId([c_char; 128]);

/// One GPU in use by one test at a time.
struct Gpu {
    stream: Handle,
    context: Handle,
    _one: MutexGuard<'static, ()>,
}

impl Gpu {
    fn new() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        count(|counts| counts.violations.clear());
        let (mut context, mut stream) = (null_mut(), null_mut());
        // SAFETY (in all of this module): places for results are there, and handles are the library's own.
        unsafe {
            assert_eq!(cuInit(0), SUCCESS);
            assert_eq!(cuDevicePrimaryCtxRetain(&raw mut context, 0), SUCCESS);
            assert_eq!(cuCtxSetCurrent(context), SUCCESS);
            assert_eq!(cuStreamCreate(&raw mut stream, 1), SUCCESS);
        }
        Self {
            stream,
            context,
            _one: one,
        }
    }

    fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        assert_eq!(
            unsafe { cuMemAllocAsync(&raw mut address, bytes, self.stream) },
            SUCCESS
        );
        address
    }

    fn free(&self, address: u64) {
        assert_eq!(unsafe { cuMemFreeAsync(address, self.stream) }, SUCCESS);
    }

    fn write(&self, address: u64, values: &[f32]) -> c_int {
        unsafe { cuMemcpyHtoDAsync_v2(address, values.as_ptr().cast(), size_of_val(values), self.stream) }
    }

    fn read(&self, address: u64, count: usize) -> Vec<f32> {
        let mut values = vec![0f32; count];
        let bytes = size_of_val(&values[..]);
        let code = unsafe { cuMemcpyDtoHAsync_v2(values.as_mut_ptr().cast(), address, bytes, self.stream) };
        assert_eq!(code, SUCCESS);
        values
    }

    fn wait(&self) -> c_int {
        unsafe { cuStreamSynchronize(self.stream) }
    }

    fn begin(&self) {
        const THREAD_LOCAL: c_int = 1;
        assert_eq!(unsafe { cuStreamBeginCapture_v2(self.stream, THREAD_LOCAL) }, SUCCESS);
    }

    fn end(&self) -> Result<Handle, c_int> {
        let (mut graph, mut executable) = (null_mut(), null_mut());
        unsafe {
            match cuStreamEndCapture(self.stream, &raw mut graph) {
                SUCCESS => assert_eq!(cuGraphInstantiateWithFlags(&raw mut executable, graph, 0), SUCCESS),
                code => return Err(code),
            }
        }
        Ok(executable)
    }

    fn launch(&self, function: Handle, threads: u32, parameters: &mut [*mut c_void]) -> c_int {
        unsafe {
            cuLaunchKernel(
                function,
                1,
                1,
                1,
                threads,
                1,
                1,
                0,
                self.stream,
                parameters.as_mut_ptr(),
                null_mut(),
            )
        }
    }

    fn violations(&self) -> Vec<String> {
        count(|counts| std::mem::take(&mut counts.violations))
    }

    #[track_caller]
    fn expect(&self, parts: &[&str]) {
        let violations = self.violations();
        assert_eq!(violations.len(), parts.len(), "{violations:?}");
        for (violation, part) in violations.iter().zip(parts) {
            assert!(violation.contains(part), "{violation:?} without {part:?}");
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        unsafe {
            cuCtxSetCurrent(self.context);
            cuStreamDestroy_v2(self.stream);
            cuDevicePrimaryCtxRelease_v2(0);
        }
    }
}

/// Compiles a program, if there is a C compiler.
fn compile(source: &str, options: &[&str]) -> Option<Result<Vec<u8>, (c_int, String)>> {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("nothing compiled: there is no C compiler, `cc`");
        return None;
    }
    let text = |text: &str| std::ffi::CString::new(text).expect("a text");
    let (source, name) = (text(source), text("kernels.cu"));
    let options: Vec<_> = options.iter().map(|option| text(option)).collect();
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program = null_mut();
    unsafe {
        let no = std::ptr::null();
        assert_eq!(
            nvrtcCreateProgram(&raw mut program, source.as_ptr(), name.as_ptr(), 0, no, no),
            0
        );
        let code = nvrtcCompileProgram(program, options.len() as c_int, options.as_ptr());
        let mut size = 0;
        if code != 0 {
            assert_eq!(nvrtcGetProgramLogSize(program, &raw mut size), 0);
            let mut log = vec![0u8; size];
            assert_eq!(nvrtcGetProgramLog(program, log.as_mut_ptr().cast()), 0);
            return Some(Err((code, String::from_utf8_lossy(&log[..size - 1]).into_owned())));
        }
        assert_eq!(nvrtcGetCUBINSize(program, &raw mut size), 0);
        let mut binary = vec![0u8; size];
        assert_eq!(nvrtcGetCUBIN(program, binary.as_mut_ptr().cast()), 0);
        Some(Ok(binary))
    }
}

const SM_90: &str = "--gpu-architecture=sm_90";

const KERNELS: &str = "
#ifdef __CUDACC_RTC__
#define EACH(i) no
#else
typedef long long Long;
#define KERNEL static void
#define EACH(i) for (Long i = 0; i < items; i++)
#endif

KERNEL scaled(float factor, const float *x, float *y, Long items) { EACH(i) y[i] = factor * x[i]; }

KERNEL every_eighth(const float *x, float *y, Long items) { EACH(i) y[i] = x[8 * i]; }

KERNEL previous(float *x, Long items) { EACH(i) x[i] = i ? x[i - 1] : 0; }
";

fn kernels(names: &[&str]) -> Option<Vec<Handle>> {
    let binary = compile(KERNELS, &[SM_90, "--fmad=false"])?.expect("it compiles");
    let mut module = null_mut();
    assert_eq!(
        unsafe { cuModuleLoadData(&raw mut module, binary.as_ptr().cast()) },
        SUCCESS
    );
    let get = |name: &&str| {
        let name = std::ffi::CString::new(*name).expect("a name");
        let mut function = null_mut();
        assert_eq!(
            unsafe { cuModuleGetFunction(&raw mut function, module, name.as_ptr()) },
            SUCCESS
        );
        function
    };
    Some(names.iter().map(get).collect())
}

fn place<T>(value: &mut T) -> *mut c_void {
    std::ptr::from_mut(value).cast()
}

#[test]
fn calls_need_a_context_that_is_there() {
    let gpu = Gpu::new();
    let mut address = 0;
    let allocate = |address: &mut u64| unsafe { cuMemAllocAsync(address, 4, gpu.stream) };
    unsafe {
        cuCtxSetCurrent(null_mut());
        assert_eq!(allocate(&mut address), INVALID_CONTEXT);
        gpu.expect(&["cuMemAllocAsync by a thread without a context"]);
        cuCtxSetCurrent(gpu.context);
        assert_eq!(allocate(&mut address), SUCCESS);
        // Its memory and its streams go with it.
        let mut again = null_mut();
        assert_eq!(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
        assert_eq!(allocate(&mut address), CONTEXT_IS_DESTROYED);
        assert_eq!(cuDevicePrimaryCtxRetain(&raw mut again, 0), SUCCESS);
        assert_ne!(again, gpu.context);
        cuCtxSetCurrent(again);
        assert_eq!(allocate(&mut address), INVALID_HANDLE);
        gpu.expect(&["in a context that was destroyed", "is no stream, or was destroyed"]);
    }
}

#[test]
fn memory_is_garbage_and_poisoned_and_between_zones() {
    let gpu = Gpu::new();
    let memory = gpu.allocate(40);
    assert!(gpu.read(memory, 10).iter().all(|value| value.is_nan()));
    let other = gpu.allocate(40);
    unsafe {
        assert_eq!(cuMemsetD8Async(memory, 0, 41, gpu.stream), 700);
        gpu.expect(&["reach behind the end of their allocation"]);
        // As a kernel of its own might.
        *((memory + 40) as *mut u8) = 1;
        *((other - 3) as *mut u8) = 1;
    }
    gpu.free(memory);
    gpu.free(other);
    assert_eq!(gpu.write(memory, &[0.0]), 700);
    gpu.expect(&["lie in memory that was given back"]);
    assert_eq!(gpu.wait(), SUCCESS);
    gpu.expect(&[
        "behind an allocation of 40 bytes, 0 bytes",
        "before an allocation of 40 bytes, 3 bytes",
    ]);
    assert_eq!(unsafe { cuMemFreeAsync(memory, gpu.stream) }, 1);
    gpu.expect(&["where no allocation begins"]);
}

#[test]
fn work_is_done_when_the_host_waits() {
    let gpu = Gpu::new();
    let memory = gpu.allocate(8);
    let mut pinned = null_mut();
    unsafe {
        assert_eq!(cuMemHostAlloc(&raw mut pinned, 8, 0), SUCCESS);
        let values: &mut [f32] = std::slice::from_raw_parts_mut(pinned.cast(), 2);
        values.copy_from_slice(&[1.0, 2.0]);
        assert_eq!(cuMemcpyHtoDAsync_v2(memory, pinned, 8, gpu.stream), SUCCESS);
        assert_eq!(cuStreamQuery(gpu.stream), NOT_READY);
        assert_eq!(cuStreamQuery(gpu.stream), SUCCESS);
        assert_eq!(cuMemcpyHtoDAsync_v2(memory, pinned, 8, gpu.stream), SUCCESS);
        // Too early: the copy has not been waited for.
        values[1] = 3.0;
        assert_eq!(gpu.read(memory, 2), [1.0, 3.0]);
        // Other memory of the host is read at once.
        let ordinary = vec![5f32, 6.0];
        assert_eq!(gpu.write(memory, &ordinary), SUCCESS);
        drop(ordinary);
        assert_eq!(gpu.read(memory, 2), [5.0, 6.0]);
        assert_eq!(cuMemFreeHost(pinned), SUCCESS);
    }
    gpu.expect(&[]);
}

#[test]
fn what_a_graph_cannot_hold_breaks_its_capture() {
    let gpu = Gpu::new();
    let [memory, other] = [8, 8].map(|bytes| gpu.allocate(bytes));
    let breaks: [(&dyn Fn() -> c_int, &[&str]); 4] = [
        (&|| gpu.wait(), &[]),
        (
            &|| unsafe { cuMemAllocAsync(&raw mut *Box::leak(Box::new(0)), 8, gpu.stream) },
            &["cuMemAllocAsync while the stream is being captured"],
        ),
        (
            &|| unsafe { cuMemFreeAsync(memory, gpu.stream) },
            &["cuMemFreeAsync while the stream is being captured"],
        ),
        (
            &|| gpu.write(memory, &[1.0]),
            &["memory that the GPU cannot reach while"],
        ),
    ];
    for (call, violations) in breaks {
        gpu.begin();
        assert_eq!(call(), STREAM_CAPTURE_UNSUPPORTED);
        assert_eq!(gpu.end(), Err(STREAM_CAPTURE_INVALIDATED));
        gpu.expect(violations);
    }
    // What it can hold is not done before it is launched, and then each time.
    gpu.begin();
    unsafe {
        assert_eq!(cuMemsetD8Async(memory, 0, 4, gpu.stream), SUCCESS);
        assert_eq!(cuMemcpyDtoDAsync_v2(other, memory, 8, gpu.stream), SUCCESS);
    }
    let graph = gpu.end().expect("it is whole");
    assert!(gpu.read(memory, 1)[0].is_nan());
    for value in [1.0, 2.0] {
        assert_eq!(gpu.write(memory, &[value, value]), SUCCESS);
        assert_eq!(unsafe { cuGraphLaunch(graph, gpu.stream) }, SUCCESS);
        assert_eq!(gpu.read(other, 2), [0.0, value]);
    }
    gpu.expect(&[]);
    gpu.free(memory);
    assert_eq!(unsafe { cuGraphLaunch(graph, gpu.stream) }, 700);
    gpu.expect(&["cuGraphLaunch: memset uses memory that was given back"]);
    // As after any such error, nothing works any more.
    assert_eq!(gpu.wait(), 700);
}

#[test]
fn launches_are_held_against_kernels() {
    let gpu = Gpu::new();
    let Some(found) = kernels(&["scaled"]) else { return };
    let [x, y] = [40, 40].map(|bytes| gpu.allocate(bytes));
    assert_eq!(gpu.write(x, &[3.0; 10]), SUCCESS);
    let (mut factor, mut from, mut to, mut items) = (2f32, x, y, 10i64);
    let mut parameters = [place(&mut factor), place(&mut from), place(&mut to), place(&mut items)];
    assert_eq!(gpu.launch(found[0], 256, &mut parameters), SUCCESS);
    assert_eq!(gpu.read(y, 10), [6.0; 10]);
    gpu.expect(&[]);
    assert_eq!(gpu.launch(found[0], 0, &mut parameters), 1);
    gpu.expect(&["launched with a grid"]);
    // A number of 32 bits where 64 are wanted.
    let mut short = 0x7000_0000_0000_0007u64;
    parameters[3] = place(&mut short);
    assert_eq!(gpu.launch(found[0], 256, &mut parameters), 1);
    gpu.expect(&["parameter 3 is 0x7000000000000007: has it 64 bits?"]);
    // Items are done from the last to the first, so that one which reads another's result is found out.
    drop(gpu);
    let gpu = Gpu::new();
    let Some(found) = kernels(&["previous"]) else { return };
    let (memory, mut items) = (gpu.allocate(40), 10i64);
    assert_eq!(gpu.write(memory, &[3.0; 10]), SUCCESS);
    let mut address = memory;
    assert_eq!(
        gpu.launch(found[0], 1, &mut [place(&mut address), place(&mut items)]),
        SUCCESS
    );
    assert_eq!(gpu.read(memory, 10), [0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
    // Memory that was given back.
    gpu.free(memory);
    assert_eq!(
        gpu.launch(found[0], 1, &mut [place(&mut address), place(&mut items)]),
        700
    );
    gpu.expect(&["previous: parameter 0: 1 bytes"]);
}

#[test]
fn programs_that_cannot_be_compiled_say_why() {
    let Some(result) = compile("KERNEL wrong() { no }", &[SM_90]) else {
        return;
    };
    let (code, log) = result.expect_err("no C");
    assert!(code == 6 && log.contains("kernels.cu(1): error:"), "{log}");
    for (option, part) in [
        ("--gpu-architecture=sm_10", "gpu-architecture"),
        ("--no-such-thing", "unrecognized option"),
    ] {
        let result = compile(KERNELS, &[option]).expect("a compiler");
        let (code, log) = result.expect_err("no such option");
        assert!(code == 5 && log.contains(part), "{log}");
    }
    // For another GPU.
    let gpu = Gpu::new();
    let binary = compile(KERNELS, &["--gpu-architecture=sm_80"])
        .expect("a compiler")
        .expect("it compiles");
    let mut module = null_mut();
    assert_eq!(
        unsafe { cuModuleLoadData(&raw mut module, binary.as_ptr().cast()) },
        209
    );
    assert_eq!(
        unsafe { cuModuleLoadData(&raw mut module, c"text".as_ptr().cast()) },
        200
    );
    gpu.expect(&[]);
}

/// Runs a test of this module in a process of its own, with variables of the environment.
fn alone(test: &str, variables: &[(&str, &str)]) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command
        .args(["--exact", &format!("tests::{test}"), "--nocapture"])
        .envs(variables.iter().copied());
    command.spawn().expect("it starts")
}

/// Bytes are those of sectors that kernels touch, and accesses outside memory are found, reads included.
#[test]
fn bytes_are_counted() {
    if std::env::var_os("DYNVIS_STAND_IN_BYTES").is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("counts");
        let name = file.to_str().expect("a name");
        let variables = [("DYNVIS_STAND_IN_BYTES", "1"), ("DYNVIS_STAND_IN_COUNTS", name)];
        assert!(
            alone("bytes_are_counted", &variables)
                .wait()
                .expect("it ends")
                .success()
        );
        let counts = Counts::read(&file).expect("counts");
        let Some(Counts {
            work,
            violations,
            graphs,
            ..
        }) = counts.first()
        else {
            println!("nothing counted: there is no C compiler, `cc`");
            return;
        };
        let of = |name: &str| work.get(name).copied().unwrap_or_default();
        let (read, written) = (4000, 4000);
        assert_eq!(
            (of("scaled").count, of("scaled").bytes),
            (
                7,
                Traffic {
                    read: 7 * read,
                    written: 7 * written
                }
            )
        );
        // Every eighth value is in a sector of its own; 504 bytes are 16 sectors.
        assert_eq!(
            of("every_eighth").bytes,
            Traffic {
                read: 4000,
                written: 512
            }
        );
        assert_eq!(graphs.len(), 1);
        assert_eq!(
            (graphs[0].launches, graphs[0].bytes),
            (
                5,
                Traffic {
                    read: 5 * read,
                    written: 5 * written
                }
            )
        );
        assert!(
            matches!(&violations[..], [one] if one.contains("every_eighth: reads 4 bytes outside its memory, 1 times")),
            "{violations:?}"
        );
        return;
    }
    let gpu = Gpu::new();
    let Some(found) = kernels(&["scaled", "every_eighth"]) else {
        return;
    };
    let [x, y] = [4000, 4000].map(|bytes| gpu.allocate(bytes));
    assert_eq!(gpu.write(x, &[1.0; 1000]), SUCCESS);
    let (mut factor, mut from, mut to, mut items) = (2f32, x, y, 1000i64);
    let mut parameters = [place(&mut factor), place(&mut from), place(&mut to), place(&mut items)];
    for _ in 0..2 {
        assert_eq!(gpu.launch(found[0], 256, &mut parameters), SUCCESS);
    }
    gpu.begin();
    assert_eq!(gpu.launch(found[0], 256, &mut parameters), SUCCESS);
    let graph = gpu.end().expect("it is whole");
    for _ in 0..5 {
        assert_eq!(unsafe { cuGraphLaunch(graph, gpu.stream) }, SUCCESS);
    }
    // The last of 126 is behind the end.
    let mut items = 126i64;
    assert_eq!(
        gpu.launch(
            found[1],
            256,
            &mut [place(&mut from), place(&mut to), place(&mut items)]
        ),
        SUCCESS
    );
    assert_eq!(gpu.wait(), SUCCESS);
    assert_eq!(gpu.read(y, 2)[..1], [1.0]);
}

/// Ranks as processes: a sum within a graph, and what becomes of the others when one is gone.
#[test]
fn ranks_compute_together() {
    const RANKS: usize = 3;
    let Ok(rank) = std::env::var("DYNVIS_STAND_IN_TEST_RANK") else {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("ranks");
        let start = |rank: usize| {
            let rank = rank.to_string();
            let variables = [
                ("DYNVIS_STAND_IN_TEST_RANK", &*rank),
                ("DYNVIS_STAND_IN_TEST_PLACE", place.to_str().expect("a name")),
                ("DYNVIS_STAND_IN_GPUS", "3"),
                ("CUDA_VISIBLE_DEVICES", &*rank),
            ];
            alone("ranks_compute_together", &variables)
        };
        let ranks: Vec<_> = (0..RANKS).map(start).collect();
        assert!(
            ranks
                .into_iter()
                .all(|mut rank| rank.wait().expect("it ends").success())
        );
        return;
    };
    let rank: usize = rank.parse().expect("a number");
    let gpu = Gpu::new();
    let mut id = UniqueId([0; 128]);
    let path = std::env::var("DYNVIS_STAND_IN_TEST_PLACE").expect("a place");
    id.0.iter_mut()
        .zip(path.bytes())
        .for_each(|(to, from)| *to = from as c_char);
    let mut all = null_mut();
    let memory = gpu.allocate(8);
    unsafe {
        assert_eq!(ncclCommInitRank(&raw mut all, RANKS as c_int, id, rank as c_int), 0);
        gpu.begin();
        let sum = || ncclAllReduce(memory as *const c_void, memory as *mut c_void, 2, 7, 0, all, gpu.stream);
        assert_eq!(sum(), 0);
        let graph = gpu.end().expect("it is whole");
        assert_eq!(gpu.write(memory, &[rank as f32, 1.0]), SUCCESS);
        for times in 1..4 {
            assert_eq!(cuGraphLaunch(graph, gpu.stream), SUCCESS);
            let three = 3f32.powi(times - 1);
            assert_eq!(gpu.read(memory, 2), [3.0 * three, 3.0 * three]);
        }
        if rank == 1 {
            return;
        }
        assert_eq!(sum(), 0);
        assert_eq!(gpu.wait(), 719);
        let mut error = 0;
        assert_eq!(ncclCommGetAsyncError(all, &raw mut error), 0);
        assert_eq!(error, 6);
    }
    gpu.expect(&[]);
}
