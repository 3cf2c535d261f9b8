//! A GPU for tests, on the processor: the host's C compiler compiles `kernels.cu`, every launch is held against the
//! kernel's signature, and convolutions are plain sums in double precision. Work is recorded under a real one's
//! restrictions.

#![expect(unsafe_code, reason = "calls into the library that was just compiled")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::emulated_peers::Rank;
use super::gpu::{Argument, Gpu, KERNELS, Pass};
use crate::device::{ConvShape, DeviceError, Peers};

/// Memory, from which allocations are counted.
#[derive(Clone)]
pub(super) struct Emulated {
    left: Arc<AtomicUsize>,
    /// The least that ever was left.
    least: Arc<AtomicUsize>,
    /// Significant bits of a convolution's factors.
    bits: u32,
    /// Whether they are bfloat16 where channels come in eights.
    narrow: bool,
    capture: Arc<Mutex<CaptureState>>,
    rank: Option<Rank>,
}

/// What becomes of work that is asked for.
#[derive(Default)]
struct CaptureState {
    /// Work that is recorded, where any is.
    work: Option<Vec<Work>>,
    /// What was asked for that cannot be recorded.
    spoiled: Option<&'static str>,
    /// Bytes of scratch memory that convolutions have wanted so far.
    scratch: usize,
    generation: u64,
    replays: usize,
    refuses: bool,
}

type Work = Box<dyn Fn() + Send + Sync>;

/// Bytes, aligned for every type that kernels know.
pub(super) struct Memory {
    words: Vec<u64>,
    bytes: usize,
    left: Arc<AtomicUsize>,
    capture: Arc<Mutex<CaptureState>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
        let mut capture = self.capture.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if capture.work.is_some() {
            capture.spoiled = Some("memory was given back");
        }
    }
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    fn place(&self) -> MemoryRange {
        MemoryRange(self.words.as_ptr() as usize, self.bytes)
    }
}

/// Address and bytes of memory that outlives the work that is asked of it.
#[derive(Clone, Copy)]
struct MemoryRange(usize, usize);

impl MemoryRange {
    /// # Safety
    /// The memory exists, and nothing writes to it meanwhile.
    unsafe fn get<'a, T: bytemuck::Pod>(self) -> &'a [T] {
        // SAFETY: it is made of words that are aligned for every type.
        bytemuck::cast_slice(unsafe { std::slice::from_raw_parts(self.0 as *const u8, self.1) })
    }

    /// # Safety
    /// The memory exists, and nothing else reads or writes it meanwhile.
    unsafe fn get_mut<'a, T: bytemuck::Pod>(self) -> &'a mut [T] {
        // SAFETY: as above.
        bytemuck::cast_slice_mut(unsafe { std::slice::from_raw_parts_mut(self.0 as *mut u8, self.1) })
    }
}

type Entry = unsafe extern "C" fn(*mut *mut c_void);

/// A kernel that the host's compiler has compiled.
struct Kernel {
    entry: Entry,
    /// Types of its parameters.
    types: Vec<String>,
}

/// Names of kernels that were launched.
pub(super) fn launched() -> &'static Mutex<BTreeSet<&'static str>> {
    static LAUNCHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    &LAUNCHED
}

/// Every kernel's name and the types of its parameters, `const` and `*` included.
pub(super) fn signatures() -> BTreeMap<String, Vec<String>> {
    let signature = |text: &str| {
        let (name, rest) = text.split_once('(').expect("parameters");
        let (parameters, _) = rest.split_once(')').expect("their end");
        let of = |parameter: &str| {
            let name = |c: char| c.is_alphanumeric() || c == '_';
            let parameter = parameter.split_whitespace().collect::<Vec<_>>().join(" ");
            parameter.trim_end_matches(name).trim().to_owned()
        };
        (name.trim().to_owned(), parameters.split(',').map(of).collect())
    };
    let starts = KERNELS.split("\nKERNEL ").skip(1);
    starts.map(signature).collect()
}

fn kernels() -> &'static BTreeMap<String, Kernel> {
    static KERNELS_ON_HOST: OnceLock<BTreeMap<String, Kernel>> = OnceLock::new();
    KERNELS_ON_HOST.get_or_init(compile)
}

fn compile() -> BTreeMap<String, Kernel> {
    let folder = tempfile::tempdir().expect("a folder");
    let signatures = signatures();
    let mut source = KERNELS.to_owned();
    for (name, types) in &signatures {
        let values = types.iter().enumerate();
        let values: Vec<String> = values.map(|(i, kind)| format!("*({kind} *)p[{i}]")).collect();
        source += &format!("void run_{name}(void **p) {{ {name}({}); }}\n", values.join(", "));
    }
    let [from, to] = ["kernels.c", "kernels.so"].map(|name| folder.path().join(name));
    fs_err::write(&from, source).expect("written");
    let output = std::process::Command::new("cc")
        .args(["-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o"])
        .args([&to, &from])
        .arg("-lm")
        .output()
        .expect("a C compiler, `cc`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library holds functions of plain C and runs nothing when it is loaded.
    let library = unsafe { libloading::Library::new(&to) }.expect("loaded");
    let kernels = signatures.into_iter().map(|(name, types)| {
        let symbol = format!("run_{name}");
        // SAFETY: it was declared so above.
        let entry = unsafe { *library.get::<Entry>(symbol.as_bytes()).expect("compiled") };
        (name, Kernel { entry, types })
    });
    let kernels = kernels.collect();
    // It stays for as long as the tests run.
    std::mem::forget(library);
    kernels
}

impl Emulated {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(bytes)),
            least: Arc::new(AtomicUsize::new(bytes)),
            bits: f32::MANTISSA_DIGITS,
            narrow: false,
            capture: Arc::default(),
            rank: None,
        }
    }

    fn capture(&self) -> MutexGuard<'_, CaptureState> {
        self.capture.lock().expect("no panic in there")
    }

    /// How often recorded work was done.
    pub(super) fn replays(&self) -> usize {
        self.capture().replays
    }

    /// Does the work, or adds it to what is being recorded.
    fn ask(&self, work: impl Fn() + Send + Sync + 'static) {
        match &mut self.capture().work {
            Some(recorded) => recorded.push(Box::new(work)),
            None => work(),
        }
    }

    /// What cannot be recorded.
    fn at_once(&self, call: &'static str) -> Result<(), DeviceError> {
        let mut capture = self.capture();
        if capture.work.is_none() {
            return Ok(());
        }
        capture.spoiled = Some(call);
        Err(DeviceError::Failed {
            call: call.to_owned(),
            reason: "work is being recorded".to_owned(),
        })
    }

    /// The same with factors of convolutions rounded to so many significant bits.
    pub(super) fn rounded(self, bits: u32) -> Self {
        Self { bits, ..self }
    }

    /// The same with convolutions of bfloat16.
    pub(super) fn narrow(self) -> Self {
        Self { narrow: true, ..self }
    }

    /// The same as one of several.
    pub(super) fn ranked(self, rank: Rank) -> Self {
        Self {
            rank: Some(rank),
            ..self
        }
    }

    fn factor(&self, x: f32) -> f32 {
        let dropped = f32::MANTISSA_DIGITS - self.bits;
        let half = (1u32 << dropped) >> 1;
        f32::from_bits((x.to_bits() + half) >> dropped << dropped)
    }

    /// The same without recorded work.
    pub(super) fn without_recording(self) -> Self {
        self.capture().refuses = true;
        self
    }

    /// The least number of bytes that was not taken at any time.
    pub(super) fn least(&self) -> usize {
        self.least.load(Ordering::Relaxed)
    }

    /// Bytes that are not taken.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl Gpu for Emulated {
    type Memory = Memory;
    type Graph = Vec<Work>;

    fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        self.at_once("taking memory")?;
        let taken = |left: usize| left.checked_sub(bytes);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        let left = taken.map_err(|_| DeviceError::Memory { bytes: bytes as u64 })? - bytes;
        self.least.fetch_min(left, Ordering::Relaxed);
        Ok(Memory {
            words: vec![0; bytes.div_ceil(8)],
            bytes,
            left: Arc::clone(&self.left),
            capture: Arc::clone(&self.capture),
        })
    }

    fn write(&self, from: &[u8], to: &mut Memory) -> Result<(), DeviceError> {
        self.at_once("writing")?;
        to.bytes_mut()[..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn read(&self, from: &Memory, to: &mut [u8]) -> Result<(), DeviceError> {
        self.at_once("reading")?;
        to.copy_from_slice(&from.bytes()[..to.len()]);
        Ok(())
    }

    fn copy(&self, from: &Memory, to: &mut Memory, first: usize, bytes: usize) -> Result<(), DeviceError> {
        let (from, to) = (from.place(), to.place());
        // SAFETY: two buffers; recorded work is done while they exist.
        self.ask(move || unsafe { to.get_mut::<u8>()[first..first + bytes].copy_from_slice(&from.get()[..bytes]) });
        Ok(())
    }

    fn clear(&self, memory: &mut Memory, bytes: usize) -> Result<(), DeviceError> {
        let place = memory.place();
        // SAFETY: recorded work is done while the buffer exists.
        self.ask(move || unsafe { place.get_mut::<u8>()[..bytes].fill(0) });
        Ok(())
    }

    fn launch(
        &self,
        name: &'static str,
        arguments: &mut [Argument<'_, Memory>],
        items: usize,
    ) -> Result<(), DeviceError> {
        launched().lock().expect("no panic in there").insert(name);
        let kernel = kernels().get(name).expect("a kernel");
        assert_eq!(kernel.types.len(), arguments.len() + 1, "parameters of {name}");
        let mut values: Vec<u64> = Vec::new();
        for (argument, kind) in arguments.iter_mut().zip(&kernel.types) {
            let (value, fits) = match argument {
                Argument::Read(memory) => (
                    memory.words.as_ptr() as u64,
                    kind.starts_with("const ") && kind.ends_with('*'),
                ),
                Argument::Write(memory) => (
                    memory.words.as_ptr() as u64,
                    !kind.starts_with("const ") && kind.ends_with('*'),
                ),
                Argument::Long(value) => (*value as u64, kind == "Long"),
                Argument::Int(value) => (u64::from(*value as u32), kind == "int"),
                Argument::Float(value) => (u64::from(value.to_bits()), kind == "float"),
                Argument::Double(value) => (value.to_bits(), kind == "double"),
            };
            assert!(fits, "{name} wants `{kind}`");
            values.push(value);
        }
        assert_eq!(
            kernel.types.last().map(String::as_str),
            Some("Long"),
            "the items of {name}"
        );
        values.push(items as u64);
        self.ask(move || {
            let mut values = values.clone();
            let mut pointers: Vec<*mut c_void> = values
                .iter_mut()
                .map(|value| std::ptr::from_mut(value).cast())
                .collect();
            // SAFETY: every parameter has the type that the kernel declares; buffers are as long as `Cuda` has checked,
            // and nothing else reads or writes them meanwhile. The processor is little-endian, so that a value's low
            // bytes come first.
            unsafe { (kernel.entry)(pointers.as_mut_ptr()) };
        });
        Ok(())
    }

    fn convolve(
        &self,
        pass: Pass,
        shape: ConvShape,
        batch: usize,
        narrow: bool,
        from: [&Memory; 2],
        to: &mut Memory,
        accumulate: bool,
    ) -> Result<(), DeviceError> {
        let outputs = 4 * shape.out_maps(batch).len();
        if outputs > self.capture().scratch {
            self.at_once("taking scratch memory")?;
            let mut capture = self.capture();
            capture.scratch = outputs;
            capture.generation += 1;
        }
        let (from, to, gpu) = (from.map(Memory::place), to.place(), self.clone());
        assert!(!(narrow && accumulate));
        // SAFETY: three buffers; recorded work is done while they exist.
        self.ask(move || unsafe {
            if narrow {
                let from = from.map(|from| from.get().iter().map(|x: &u16| f32::from_bits(u32::from(*x) << 16)));
                let from = from.map(Iterator::collect::<Vec<f32>>);
                let to = to.get_mut::<u16>();
                let mut sums = vec![0.0; to.len()];
                gpu.sum(pass, shape, batch, [&from[0], &from[1]], &mut sums, false);
                let rounded = sums.into_iter().map(|sum| half::bf16::from_f32(sum).to_bits());
                to.iter_mut().zip(rounded).for_each(|(to, sum)| *to = sum);
            } else {
                gpu.sum(
                    pass,
                    shape,
                    batch,
                    from.map(|from| from.get()),
                    to.get_mut(),
                    accumulate,
                );
            }
        });
        Ok(())
    }

    fn convolution_scratch(&self) -> u64 {
        0
    }

    fn computes_from_bfloat16(&self) -> bool {
        self.narrow
    }

    fn begin_recording(&self) -> Result<(), DeviceError> {
        let mut capture = self.capture();
        assert!(capture.work.is_none());
        if capture.refuses {
            return Err(DeviceError::Failed {
                call: "recording".to_owned(),
                reason: "it is switched off".to_owned(),
            });
        }
        (capture.work, capture.spoiled) = (Some(Vec::new()), None);
        Ok(())
    }

    fn end_recording(&self) -> Result<Vec<Work>, DeviceError> {
        let mut capture = self.capture();
        let work = capture.work.take().expect("a recording");
        match capture.spoiled.take() {
            None => Ok(work),
            Some(what) => Err(DeviceError::Failed {
                call: "recording".to_owned(),
                reason: what.to_owned(),
            }),
        }
    }

    fn replay(&self, graph: &Vec<Work>) -> Result<(), DeviceError> {
        self.at_once("doing recorded work")?;
        self.capture().replays += 1;
        graph.iter().for_each(|work| work());
        Ok(())
    }

    fn generation(&self) -> u64 {
        self.capture().generation
    }

    fn peers(&self) -> Peers {
        self.rank.as_ref().map_or(Peers::ALONE, |rank| rank.peers)
    }

    fn gather(&self, own: &Memory, bytes: usize, all: &mut Memory) -> Result<(), DeviceError> {
        self.at_once("an exchange with other GPUs")?;
        let own = own.bytes()[..bytes].to_vec();
        let gathered = match &self.rank {
            None => own,
            Some(rank) => rank.exchange(own)?,
        };
        all.bytes_mut()[..gathered.len()].copy_from_slice(&gathered);
        Ok(())
    }

    fn gather_numbers(&self, own: &[f64]) -> Result<Vec<f64>, DeviceError> {
        self.at_once("an exchange with other GPUs")?;
        let Some(rank) = &self.rank else {
            return Ok(own.to_vec());
        };
        let gathered = rank.exchange(bytemuck::cast_slice(own).to_vec())?;
        let numbers = gathered.chunks_exact(size_of::<f64>());
        Ok(numbers.map(bytemuck::pod_read_unaligned).collect())
    }
}

impl Emulated {
    /// One pass of a convolution.
    fn sum(&self, pass: Pass, shape: ConvShape, batch: usize, from: [&[f32]; 2], to: &mut [f32], accumulate: bool) {
        let [a, b] = from.map(|values| -> Vec<f32> { values.iter().map(|x| self.factor(*x)).collect() });
        let mut sums = vec![0.0f64; to.len()];
        let (side, out) = (shape.in_side, shape.out_side());
        for (image, oy, ox) in (0..batch).flat_map(|n| (0..out).flat_map(move |y| (0..out).map(move |x| (n, y, x)))) {
            for (ky, kx) in (0..shape.kernel).flat_map(|y| (0..shape.kernel).map(move |x| (y, x))) {
                let [iy, ix] = [(oy, ky), (ox, kx)].map(|(o, k)| (o * shape.stride + k).wrapping_sub(shape.padding));
                if iy >= side || ix >= side {
                    continue;
                }
                for output in 0..shape.outputs {
                    let y = ((image * out + oy) * out + ox) * shape.outputs + output;
                    let x = ((image * side + iy) * side + ix) * shape.inputs;
                    let w = ((output * shape.kernel + ky) * shape.kernel + kx) * shape.inputs;
                    for input in 0..shape.inputs {
                        let (to, a, b) = match pass {
                            Pass::Forward => (y, a[x + input], b[w + input]),
                            Pass::Inputs => (x + input, a[y], b[w + input]),
                            Pass::Weights => (w + input, a[x + input], b[y]),
                        };
                        sums[to] += f64::from(a) * f64::from(b);
                    }
                }
            }
        }
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = if accumulate { *to + sum as f32 } else { sum as f32 };
        }
    }
}
