//! The engine's side of `benches/pytorch/compare.py`: kernels and training steps, run and timed on request.
//!
//! Reads one JSON request a line from standard input and answers each with one JSON line; tensors come and go as
//! safetensors files. Work is done by rayon's threads (`RAYON_NUM_THREADS`). Nothing is judged here: the script
//! compares the numbers.

mod kernels;
mod training;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use cords::Tensor;
use cords::net::Parameters;
use rustix::time::{ClockId, clock_gettime};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn std::error::Error>;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// Builds a case from a file of tensors.
    Prepare { case: Case, inputs: PathBuf },
    /// Runs it once and writes what it gives.
    Run { outputs: PathBuf },
    /// Runs it for at least so many seconds.
    Time { seconds: f64 },
    /// Runs it once and measures the memory that it takes.
    Memory,
}

/// What is run and timed, as a request describes it.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Case {
    Recurrent(kernels::RecurrentCase),
    Convolution(kernels::ConvolutionCase),
    Pool(kernels::PoolCase),
    Training(training::TrainingCase),
}

#[derive(Serialize, Default)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passes: Option<usize>,
    /// Resident memory before the pass and its peak during the pass, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<[u64; 2]>,
}

/// A case with its tensors on the device.
trait Prepared {
    fn pass(&mut self) -> Result<(), Failure>;
    /// What the last pass gave.
    fn outputs(&self) -> Parameters<f32>;
}

fn main() -> Result<(), Failure> {
    let mut prepared: Option<Box<dyn Prepared>> = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = answer(serde_json::from_str(&line?)?, &mut prepared)?;
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(request: Request, prepared: &mut Option<Box<dyn Prepared>>) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    match request {
        Request::Prepare { case, inputs } => {
            // The old case's memory is free before the new one takes its own.
            *prepared = None;
            *prepared = Some(prepare(case, &read(&inputs)?)?);
        }
        Request::Run { outputs } => {
            let case = held(prepared)?;
            case.pass()?;
            write(&outputs, &case.outputs())?;
        }
        Request::Time { seconds } => {
            let case = held(prepared)?;
            let (cpu, wall) = (cpu_seconds(), Instant::now());
            let mut passes = 0;
            while passes == 0 || wall.elapsed().as_secs_f64() < seconds {
                case.pass()?;
                passes += 1;
            }
            answer.wall_s = Some(wall.elapsed().as_secs_f64());
            answer.cpu_s = Some(cpu_seconds() - cpu);
            answer.passes = Some(passes);
        }
        Request::Memory => {
            let case = held(prepared)?;
            // Linux: the peak of resident memory starts anew.
            fs_err::write("/proc/self/clear_refs", "5")?;
            let before = status_bytes("VmRSS:")?;
            case.pass()?;
            answer.memory = Some([before, status_bytes("VmHWM:")?]);
        }
    }
    Ok(answer)
}

fn held(prepared: &mut Option<Box<dyn Prepared>>) -> Result<&mut (dyn Prepared + 'static), Failure> {
    Ok(prepared.as_deref_mut().ok_or("prepare comes first")?)
}

/// CPU time of all threads of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// One of the memory sizes that Linux states for this process.
fn status_bytes(field: &str) -> Result<u64, Failure> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no such size")?.parse::<u64>()? * 1024)
}

fn read(path: &Path) -> Result<Parameters<f32>, Failure> {
    let bytes = fs_err::read(path)?;
    let mut tensors = Parameters::new();
    for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
        let values = view.data().as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
        let tensor = Tensor::new(view.shape(), values.collect());
        tensors.insert(name, tensor.ok_or("tensors are float32")?);
    }
    Ok(tensors)
}

fn write(path: &Path, tensors: &Parameters<f32>) -> Result<(), Failure> {
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(&tensor.data);
            TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map(|view| (name, view))
        })
        .collect();
    fs_err::write(path, safetensors::serialize(views?, None)?)?;
    Ok(())
}

fn prepare(case: Case, tensors: &Parameters<f32>) -> Result<Box<dyn Prepared>, Failure> {
    Ok(match case {
        Case::Recurrent(case) => Box::new(kernels::Recurrent::new(case, tensors)?),
        Case::Convolution(case) => Box::new(kernels::Convolution::new(case, tensors)?),
        Case::Pool(case) => Box::new(kernels::Pool::new(case, tensors)?),
        Case::Training(case) => Box::new(training::Training::new(case, tensors)?),
    })
}

/// The tensor of that name.
fn tensor<'a>(tensors: &'a Parameters<f32>, name: &str) -> Result<&'a Tensor<f32>, Failure> {
    Ok(tensors.get(name).ok_or(format!("no tensor {name}"))?)
}
