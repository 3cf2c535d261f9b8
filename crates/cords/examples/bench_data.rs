//! Our side of `benches/data/compare.py`: a set of original images, prepared and loaded in batches.
//!
//! `bench_data prepare CONFIG SET` prepares what the JSON CONFIG (a `PrepareConfig`) says into the folder SET.
//! `bench_data load SET AUGMENT THREADS EPOCHS PACE` loads all training images EPOCHS times in batches of 256, changed
//! as the JSON AUGMENT says, on THREADS threads; a consumer takes PACE images a second, or all that come if PACE is 0.
//! `bench_data evaluate SET OUT` writes the views for evaluation, `[3, side, side]` levels in the order of the source.
//! Each prints one line of JSON: images, seconds from the first image asked for, processor seconds of all threads, peak
//! memory and the seconds that the consumer waited after its first batch.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use cords::data::{Augment, DataError, ImageSet, Images, PrepareConfig, Split, SplitImages, prepare};
use rayon::prelude::*;

const BATCH: usize = 256;
/// Batches that wait for the consumer: none, as in training, where one is made while another is at work.
const AHEAD: usize = 0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run() -> Result<String, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["prepare", config, set] => {
            let config: PrepareConfig = serde_json::from_str(config)?;
            let start = Instant::now();
            let summary = prepare(&config, Path::new(set), &mut |_, _| {})?;
            Ok(line(summary.images, start, 0.0))
        }
        ["load", set, augment, threads, epochs, pace] => {
            let augment: Augment = serde_json::from_str(augment)?;
            let set = ImageSet::open(Path::new(set))?;
            let images = SplitImages::new(&set, Split::Train, Some(&augment), 0)?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?;
            let start = Instant::now();
            let (count, waited) = load(&images, &pool, epochs.parse()?, pace.parse()?)?;
            Ok(line(count, start, waited))
        }
        ["evaluate", set, out] => {
            let set = ImageSet::open(Path::new(set))?;
            let start = Instant::now();
            let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
            for i in 0..set.len() {
                out.write_all(&set.image(i)?)?;
            }
            Ok(line(set.len(), start, 0.0))
        }
        _ => Err("prepare CONFIG SET, load SET AUGMENT THREADS EPOCHS PACE, or evaluate SET OUT".into()),
    }
}

/// Loads batches on the pool ahead of a consumer of a pace. Images, and seconds that the consumer waited.
fn load(images: &SplitImages<'_>, pool: &rayon::ThreadPool, epochs: u32, pace: f64) -> Result<(usize, f64), Failure> {
    let len = images.channels() * images.side() * images.side();
    std::thread::scope(|scope| {
        let (send, batches) = sync_channel::<Result<Vec<f32>, DataError>>(AHEAD);
        // Batches that were consumed, to be filled again.
        let (give_back, spent) = std::sync::mpsc::channel::<Vec<f32>>();
        scope.spawn(move || {
            for epoch in 0..epochs {
                let order: Vec<usize> = (0..images.len()).collect();
                for chunk in order.chunks(BATCH) {
                    let mut batch = spent.try_recv().unwrap_or_default();
                    batch.resize(chunk.len() * len, 0.0);
                    let filled = pool.install(|| {
                        let places = batch.par_chunks_exact_mut(len).zip(chunk);
                        places.try_for_each(|(out, i)| images.fill(*i, epoch, out))
                    });
                    // The consumer has gone, or there is nothing to go on with.
                    if send.send(filled.map(|()| batch)).is_err() {
                        return;
                    }
                }
            }
        });
        let (mut count, mut waited) = (0, 0.0);
        loop {
            let asked = Instant::now();
            let Ok(batch) = batches.recv() else {
                return Ok((count, waited));
            };
            let batch = batch?;
            if count > 0 {
                waited += asked.elapsed().as_secs_f64();
            }
            let size = batch.len() / len;
            count += size;
            if pace > 0.0 {
                std::thread::sleep(Duration::from_secs_f64(size as f64 / pace));
            }
            // The loader may have finished.
            let _ = give_back.send(batch);
        }
    })
}

fn line(images: usize, start: Instant, waited: f64) -> String {
    let seconds = start.elapsed().as_secs_f64();
    let (cpu, peak) = (processor_seconds(), peak_memory());
    serde_json::json!({
        "images": images, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak, "waited": waited,
    })
    .to_string()
}

/// Processor seconds of the process so far.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Largest resident memory of the process so far, in MB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1000.0
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]
fn main() -> std::process::ExitCode {
    match run() {
        Ok(line) => {
            println!("{line}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
