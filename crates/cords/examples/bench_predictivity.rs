//! Our side of `benches/predictivity/compare.py`: PLS over splits from a file of activity and a file of recordings.
//!
//! `bench_predictivity FOLDER COMPONENTS SPLITS [scaled] [ridge ALPHA]` reads `activity.safetensors` (area 0, its first
//! time) and `recordings.safetensors` below FOLDER, and prints one line of JSON: seconds, peak memory and Pearson's r
//! `[split][neuron]`.

use std::path::PathBuf;
use std::time::Instant;

use cords::neural::{
    ActivityFile, FitOptions, NeuralError, PlsRule, Recordings, Regression, SplitOptions, When, fit_each,
    shuffle_splits,
};

fn run() -> Result<String, NeuralError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize, option: &'static str| {
        arguments.get(place).ok_or(NeuralError::Option {
            option,
            problem: "is not given".to_owned(),
        })
    };
    let number = |place: usize, option: &'static str| -> Result<f64, NeuralError> {
        argument(place, option)?.parse().map_err(|error| NeuralError::Option {
            option,
            problem: format!("{error}"),
        })
    };
    let folder = PathBuf::from(argument(0, "FOLDER")?);
    let components = number(1, "COMPONENTS")? as usize;
    let splits = number(2, "SPLITS")? as usize;
    let regression = match arguments.get(3).map(String::as_str) {
        Some("ridge") => Regression::Ridge {
            alpha: number(4, "ALPHA")?,
        },
        scaled => Regression::Pls {
            components,
            rule: PlsRule::Sklearn,
            scale: scaled == Some("scaled"),
        },
    };
    let start = Instant::now();
    let activity = ActivityFile::open(&folder.join("activity.safetensors"))?;
    let recordings = Recordings::open(&folder.join("recordings.safetensors"))?;
    let rows: Vec<usize> = (0..activity.images().len()).collect();
    let features = activity.features(0, rows, When::Mean(vec![0]))?;
    let options = FitOptions {
        regression,
        principal_components: None,
        splits: shuffle_splits(
            recordings.stimuli.len(),
            &SplitOptions {
                splits,
                train: 0.9,
                seed: 1,
            },
        )?,
    };
    let found = fit_each(&features, &[recordings.means(0)], &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let memory = peak_memory();
    Ok(serde_json::json!({ "seconds": seconds, "peak_mb": memory, "r": found[0].r }).to_string())
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
