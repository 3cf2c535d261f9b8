//! `dynvis benchmark`: how long training steps take here.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use clap::ValueEnum;
use cords::data::{DataError, Images};
use cords::device::cuda::{Precision, Recording, with_images_that_fit};
use cords::device::{Cpu, Device};
use cords::learn::{Data, DirectConfig, Fit, HistoryPrecision, Progress, TrainError, Training};
use cords::net::{Euler, Graph};
use cords::rng::{Purpose, Stream};

use super::benchmarks::{self, Benchmark};
use super::error::CommandError;
use super::gpu;
use super::tables::simple_table;
use super::takes::precision_name;
use super::ui::Ui;
use super::{make_store, project_here};
use dynvis_runner::kind::Device as Asked;

/// Time training steps of a published network, on noise; kept for `run --dry-run`
#[derive(clap::Args)]
pub(crate) struct BenchmarkArgs {
    /// Where: `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU
    #[arg(long, default_value_t = Asked::Auto)]
    device: Asked,
    /// Areas of the network, 1 to 12, of which 2, 4, 6 and 8 are published
    #[arg(long, default_value_t = 8)]
    areas: usize,
    /// Height and width of an image in pixels
    #[arg(long, default_value_t = 224)]
    side: usize,
    /// Images of a batch
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Time steps with the image, and as many without one before and after
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Batches that are timed, after two that are not: the first takes memory, the second may be recorded
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Products of convolutions on a GPU
    #[arg(long, value_enum, default_value_t = Products::Float32)]
    precision: Products,
    /// Activity that the backward pass reads
    #[arg(long, value_enum, default_value_t = History::Float32)]
    history: History,
    /// Memory that a step may take, GiB
    #[arg(long)]
    memory_budget: Option<f64>,
    /// One line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Products {
    Float32,
    Tf32,
    Bfloat16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum History {
    Float32,
    Bfloat16,
}

const GIB: f64 = (1u64 << 30) as f64;
const CLASSES: usize = 1000;

/// One image of noise, again and again: its making takes no time.
struct Noise {
    image: Vec<f32>,
    side: usize,
    count: usize,
}

impl Images for Noise {
    fn len(&self) -> usize {
        self.count
    }
    fn channels(&self) -> usize {
        3
    }
    fn side(&self) -> usize {
        self.side
    }
    fn classes(&self) -> usize {
        CLASSES
    }
    fn label(&self, i: usize) -> u32 {
        (i % CLASSES) as u32
    }
    fn fill(&self, _i: usize, _epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        out.copy_from_slice(&self.image);
        Ok(())
    }
}

pub(crate) fn benchmark(ui: &mut Ui, cache: Option<&Path>, args: &BenchmarkArgs) -> Result<u8, CommandError> {
    // Sizes that no network has are wrong use, not a step that failed.
    let architecture =
        Graph::published(args.areas, 3, args.side, CLASSES).map_err(|error| CommandError::user(error.to_string()))?;
    let budget = args.memory_budget.map(|gib| (gib * GIB) as u64);
    let precision = match args.precision {
        Products::Float32 => Precision::Float32,
        Products::Tf32 => Precision::Tf32,
        Products::Bfloat16 => Precision::Bfloat16,
    };
    let gpu = gpu::open(ui, args.device, precision)?;
    let (name, together, seconds, peak) = match &gpu {
        Some(hardware) => {
            let budget = hardware.budget(budget).map_err(TrainError::from)?;
            let (seconds, images) = with_images_that_fit(hardware, usize::from(args.batch), None, |device| {
                // Not what an attempt has taken that did not fit.
                hardware.take_peak_memory()?;
                hardware.take_recording();
                time(device, args, &architecture, Some(budget))
            })?;
            let peak = hardware.take_peak_memory().map_err(TrainError::from)?;
            (hardware.description().name.clone(), images, seconds, peak)
        }
        None => {
            let seconds = time(&Cpu, args, &architecture, budget)?;
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            (
                format!("processor, {threads} threads"),
                usize::from(args.batch).min(Device::<f32>::group_images(&Cpu)),
                seconds,
                dynvis_base::platform::peak_memory().unwrap_or_default(),
            )
        }
    };
    let recording = gpu.as_ref().map(|hardware| hardware.take_recording());
    let mut sorted = seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let per_second = f64::from(args.batch) / median;
    let timed = Benchmark {
        device: name.clone(),
        is_gpu: gpu.is_some(),
        areas: args.areas,
        side: args.side,
        batch: usize::from(args.batch),
        steps: usize::from(args.steps),
        precision,
        images_per_second: per_second,
        at: jiff::Timestamp::now().to_string(),
        dynvis: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let kept = make_store(cache, &project_here())
        .map_err(|error| error.to_string())
        .and_then(|store| benchmarks::append(store.root(), &timed).map_err(|error| error.to_string()));
    if let Err(problem) = kept {
        ui.status(&format!(
            "`dynvis run --dry-run` will not know of this: it could not be kept: {problem}"
        ));
    }
    if args.json {
        let figures = serde_json::json!({
            "device": name, "areas": args.areas, "side": args.side, "batch": args.batch, "steps": args.steps,
            "precision": precision_name(precision),
            "history": format!("{:?}", args.history).to_lowercase(),
            "images_at_a_time": together, "seconds": seconds, "images_per_second": per_second, "peak_bytes": peak,
            "recorded": recording.as_ref().map(Recording::is_whole),
            "not_recorded_because": recording.as_ref().and_then(|recording| recording.refused.as_deref()),
        });
        ui.out(&format!("{figures}\n"))?;
        return Ok(0);
    }
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        row("device", name),
        row(
            "step",
            format!(
                "CordsNet-R{}, {side} x {side}, {} steps each before, with and after the image",
                args.areas,
                args.steps,
                side = args.side
            ),
        ),
        row("batch", format!("{}, {together} at a time", args.batch)),
        row("seconds a batch", format!("{median:.3}, median of {}", seconds.len())),
        row("images a second", format!("{per_second:.3}")),
        row("peak memory", format!("{:.2} GiB", peak as f64 / GIB)),
        row(
            "ImageNet, one epoch",
            format!("{:.1} days", 1_281_167.0 / per_second / 86_400.0),
        ),
    ];
    rows.extend(recording.map(|recording| match recording.refused {
        Some(reason) => row("CUDA graph", format!("not recorded: {reason}")),
        None => row("CUDA graph", format!("replayed {} times", recording.replays)),
    }));
    ui.out(&simple_table(&["what", "figure"], rows, ui.width()))?;
    Ok(0)
}

/// Batches that are not timed: one in which memory is taken and algorithms are chosen, and one that may be recorded.
const LEFT_OUT: usize = 2;

/// Seconds of every batch but the first ones.
fn time<D: Device<f32>>(
    device: &D,
    args: &BenchmarkArgs,
    architecture: &Graph,
    memory_budget: Option<u64>,
) -> Result<Vec<f64>, TrainError> {
    let euler = Euler::published();
    let (batch, repeats) = (usize::from(args.batch), usize::from(args.repeats));
    let trial_ms = f64::from(args.steps) * euler.dt_ms;
    let config = DirectConfig {
        spontaneous_ms: trial_ms,
        stimulus_ms: trial_ms,
        after_ms: trial_ms,
        readout_window_ms: trial_ms.min(30.0 * euler.dt_ms),
        return_window_ms: trial_ms.min(10.0 * euler.dt_ms),
        history: match args.history {
            History::Float32 => HistoryPrecision::Float32,
            History::Bfloat16 => HistoryPrecision::Bfloat16,
        },
        memory_budget,
        fit: Fit {
            epochs: 1,
            batch,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let mut image = vec![0.0; 3 * args.side * args.side];
    Stream::new(1, Purpose::Probe, 0, 0, 0, 0).normal_fill(&mut image);
    let noise = |count| Noise {
        image: image.clone(),
        side: args.side,
        count,
    };
    let data = Data {
        train: &noise((LEFT_OUT + repeats) * batch),
        validation: &noise(1),
    };
    let (mut seconds, mut ends) = (Vec::new(), Vec::new());
    let mut observer = |progress: Progress<'_>| {
        if let Progress::Batch { .. } = progress {
            let now = Instant::now();
            if ends.len() >= LEFT_OUT
                && let Some(last) = ends.last()
            {
                seconds.push(now.duration_since(*last).as_secs_f64());
            }
            ends.push(now);
        }
        if seconds.len() == repeats {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let training = Training::new(architecture, &config, &data).euler(&euler);
    match training.observer(&mut observer).run(device) {
        Ok(_) | Err(TrainError::Stopped { .. }) => Ok(seconds),
        Err(error) => Err(error),
    }
}
