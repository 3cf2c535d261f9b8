//! What `dynvis benchmark` has timed, kept beside the results: one JSON object a line in `cache/benchmarks.jsonl`, to
//! which is only appended. Lines that are damaged, or of a later version, are passed over: they can be timed again.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use cords::device::cuda::Precision;
use dynvis_runner::kind::Device;
use serde::{Deserialize, Serialize};

use crate::stage::extent::{Steps, Trial};

const FILE: &str = "benchmarks.jsonl";
/// Of the file, from its beginning: more lines than anybody times.
const LARGEST: u64 = 16 << 20;

/// Training steps of a published network that were timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Benchmark {
    /// The device, as its maker calls it, or the processor with its threads.
    pub(super) device: String,
    pub(super) is_gpu: bool,
    pub(super) areas: usize,
    pub(super) side: usize,
    pub(super) batch: usize,
    /// Time steps with the image, and as many without one before and after.
    pub(super) steps: usize,
    pub(super) precision: Precision,
    pub(super) images_per_second: f64,
    /// When, in UTC.
    pub(super) at: String,
    /// Version of the program.
    pub(super) dynvis: String,
}

impl Benchmark {
    /// Whether its numbers can be reckoned with.
    fn is_sound(&self) -> bool {
        let rate = self.images_per_second;
        rate.is_finite() && rate > 0.0 && self.batch > 0 && self.steps > 0
    }

    /// Steps that each image took: there and back with the image and after it; before it, once for all of a batch.
    fn steps_each(&self) -> Steps {
        Steps {
            with_gradient: 2.0 * self.steps as f64,
            without: self.steps as f64 / self.batch as f64,
        }
    }

    /// Images a second of another trial of the same network, in proportion to its steps.
    pub(super) fn rate(&self, trial: &Trial) -> f64 {
        self.images_per_second * self.steps_each().cost() / trial.steps.cost()
    }

    fn fits(&self, trial: &Trial, device: Device) -> bool {
        let is_there = match device {
            Device::Auto => true,
            Device::Cpu => !self.is_gpu,
            Device::Cuda(_) => self.is_gpu,
        };
        // A processor computes in float32 whatever was asked for.
        let is_precise = !self.is_gpu || self.precision == trial.precision;
        is_there && is_precise && (self.areas, self.side) == (trial.areas, trial.side)
    }

    /// When, without fractions of a second.
    pub(super) fn day(&self) -> &str {
        self.at.get(..10).unwrap_or(&self.at)
    }
}

/// The benchmark that says how fast a trial is on a device: that of the nearest batch, and of those the last.
pub(super) fn fitting(benchmarks: &[Benchmark], trial: &Trial, device: Device) -> Option<usize> {
    let distance = |benchmark: &Benchmark| {
        let batch = trial.batch.map(|batch| batch.max(1) as f64);
        batch.map_or(0.0, |batch| (benchmark.batch as f64 / batch).ln().abs())
    };
    let fitting = benchmarks.iter().enumerate().rev();
    let fitting = fitting.filter(|(_, benchmark)| benchmark.fits(trial, device));
    // Of equal ones the first, which was timed last.
    let nearest = fitting.min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
    nearest.map(|(place, _)| place)
}

/// All that is kept in a cache, in order of time; none where it cannot be read.
pub(super) fn read(cache: &Path) -> Vec<Benchmark> {
    let mut bytes = Vec::new();
    let read = dynvis_base::files::open(&cache.join(FILE)).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let lines = bytes.split(|byte| *byte == b'\n');
    let sound = lines.filter_map(|line| serde_json::from_slice::<Benchmark>(line).ok());
    sound.filter(Benchmark::is_sound).collect()
}

/// Adds one.
pub(super) fn append(cache: &Path, benchmark: &Benchmark) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(cache.join(FILE))?;
    file.lock()?;
    let mut line = serde_json::to_string(benchmark)?;
    line.push('\n');
    // The last line of one who was killed while writing it spoils no other.
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        line.insert(0, '\n');
    }
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn benchmark(areas: usize, batch: usize, is_gpu: bool, images_per_second: f64) -> Benchmark {
        Benchmark {
            device: if is_gpu { "a GPU" } else { "processor, 2 threads" }.to_owned(),
            is_gpu,
            areas,
            side: 224,
            batch,
            steps: 100,
            precision: Precision::Float32,
            images_per_second,
            at: "2026-01-02T03:04:05Z".to_owned(),
            dynvis: "1.0.0".to_owned(),
        }
    }

    fn trial(areas: usize, batch: Option<usize>, with_gradient: f64, without: f64) -> Trial {
        Trial {
            areas,
            side: 224,
            batch,
            precision: Precision::Float32,
            steps: Steps { with_gradient, without },
        }
    }

    #[test]
    fn what_was_timed_is_kept_and_damaged_lines_are_passed_over() {
        let folder = tempfile::tempdir().expect("folder");
        let cache = folder.path();
        assert_eq!(read(cache), []);
        let (first, second) = (benchmark(2, 4, false, 10.0), benchmark(8, 4, true, 20.0));
        append(cache, &first).expect("written");
        let path = cache.join(FILE);
        let mut bytes = std::fs::read(&path).expect("kept");
        bytes.extend_from_slice(b"\xff\x00 no text\n{\"device\": 3}\n\n");
        let unsound = Benchmark {
            images_per_second: 0.0,
            ..first.clone()
        };
        bytes.extend(serde_json::to_vec(&unsound).expect("JSON"));
        // The end of a line that was cut.
        bytes.extend_from_slice(b"\n{\"device\": \"a GP");
        std::fs::write(&path, bytes).expect("written");
        append(cache, &second).expect("written");
        assert_eq!(read(cache), [first, second]);
        // What is no file holds nothing.
        assert_eq!(read(&path), []);
    }

    #[test]
    fn the_nearest_batch_counts_and_of_those_the_last() {
        let all = [
            benchmark(2, 8, false, 1.0),
            benchmark(2, 32, true, 2.0),
            benchmark(2, 8, true, 3.0),
            benchmark(2, 8, true, 4.0),
            benchmark(4, 8, true, 5.0),
        ];
        let find = |trial, device| fitting(&all, &trial, device);
        assert_eq!(find(trial(2, Some(8), 200.0, 0.0), Device::Auto), Some(3));
        assert_eq!(find(trial(2, Some(20), 200.0, 0.0), Device::Auto), Some(1));
        assert_eq!(find(trial(2, Some(256), 200.0, 0.0), Device::Cpu), Some(0));
        assert_eq!(find(trial(2, None, 0.0, 100.0), Device::Cuda(1)), Some(3));
        assert_eq!(find(trial(4, None, 0.0, 100.0), Device::Cpu), None);
        assert_eq!(find(trial(6, Some(8), 200.0, 0.0), Device::Auto), None);
        let rounded = Trial {
            precision: Precision::Tf32,
            ..trial(2, Some(8), 200.0, 0.0)
        };
        assert_eq!(find(rounded, Device::Auto), Some(0), "a processor has float32 alone");
    }

    #[test]
    fn rates_are_in_proportion_to_steps() {
        let timed = benchmark(2, 4, false, 12.0);
        // 200 steps with gradient, and 100 without for four images.
        let same = trial(2, Some(4), 200.0, 25.0);
        assert!((timed.rate(&same) - 12.0).abs() < 1e-12);
        // 208 1/3 against 100.
        assert!((timed.rate(&trial(2, Some(4), 100.0, 0.0)) - 25.0).abs() < 1e-12);
        assert!((timed.rate(&trial(2, None, 0.0, 100.0)) - 75.0).abs() < 1e-12);
    }
}
