//! The shipped program on a GPU that is none: a stand-in for NVIDIA's libraries runs what is asked of them on the
//! processor, and says what a real GPU might not forgive (`crates/stand-in`).

use std::path::PathBuf;
use std::process::Command;

use dynvis_stand_in::{Counts, Installed, install};

use crate::harness::{Project, Ran, number, rows, say};

/// A project with the libraries beside it, or none, with a word, where no C compiler can make its kernels.
pub(crate) struct OnGpu {
    pub(crate) project: Project,
    pub(crate) libraries: Installed,
}

impl OnGpu {
    pub(crate) fn new() -> Option<Self> {
        if Command::new("cc").arg("--version").output().is_err() {
            say("nothing is computed on a GPU: there is no C compiler, `cc`");
            return None;
        }
        let project = Project::with_presets();
        let libraries = install(&project.path("nvidia")).expect("the libraries");
        Some(Self { project, libraries })
    }

    fn counts_file(&self) -> PathBuf {
        self.project.path("counts")
    }

    /// The program, where it finds these libraries. `settings` are the stand-in's, without what their names have in
    /// common.
    pub(crate) fn command(&self, settings: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command
            .env("LD_LIBRARY_PATH", self.libraries.folder())
            .env("XDG_CACHE_HOME", self.project.path("kept"))
            .env("DYNVIS_STAND_IN_COUNTS", self.counts_file())
            .env_remove("CUDA_VISIBLE_DEVICES");
        for (name, value) in settings {
            command.env(format!("DYNVIS_STAND_IN_{name}"), value);
        }
        command
    }

    pub(crate) fn run(&self, settings: &[(&str, &str)], arguments: &[&str]) -> Ran {
        self.command(settings, arguments)
            .output()
            .expect("the binary starts")
            .into()
    }

    /// What was counted since this was last asked, by all processes; none of them has done what a GPU might not
    /// forgive.
    #[track_caller]
    pub(crate) fn counts(&self) -> Vec<Counts> {
        let counts = Counts::read(&self.counts_file()).expect("counts");
        let _ = std::fs::remove_file(self.counts_file());
        assert!(!counts.is_empty(), "nothing was asked of the GPU");
        for count in &counts {
            assert_eq!(count.violations, [""; 0], "{:?}", count.command);
        }
        counts
    }
}

/// A gradient step on noise, small. `more` are further arguments.
fn benchmark<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let command = "benchmark --json --device cuda --areas 2 --side 16 --batch 4 --steps 3 --repeats 2";
    command.split(' ').chain(more.iter().copied()).collect()
}

#[test]
fn doctor_finds_the_gpu() {
    let Some(gpu) = OnGpu::new() else { return };
    let doctor = gpu.run(&[("GPUS", "2"), ("CAPABILITY", "8.6")], &["doctor"]).expect(0);
    for part in [
        "GPU 0",
        "stand-in 1",
        "compute capability 8.6",
        "4.0 GiB free",
        "13.0",
        "9.19.0",
    ] {
        assert!(doctor.stdout.contains(part), "{part}: {}", doctor.stdout);
    }
    gpu.counts();
}

/// Every kernel and whole networks against float64, in three precisions.
#[test]
fn selftest_passes_in_every_precision() {
    let Some(gpu) = OnGpu::new() else { return };
    let selftest = gpu.run(&[], &["selftest", "--device", "cuda"]).expect(0);
    assert_eq!(
        selftest.stdout.matches(" results, 0 missed").count(),
        3,
        "{}",
        selftest.stdout
    );
    let counts = gpu.counts();
    let used: u64 = counts.iter().map(|counts| counts.convolutions.weights).sum();
    assert!(used > 0 && counts.iter().any(|counts| counts.graph_launches > 0));
}

const TRAINING: &str = "
name: small
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 20, side: 16 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 8, epochs: 1, warmup: 0, batch: 16, learning_rate: 5e-3 }
";

/// Losses of every epoch, in training and validation.
fn losses(gpu: &OnGpu, device: &str) -> Vec<f64> {
    let arguments = ["run", "p.yaml", "--progress", "plain", "--device", device];
    // With an eye on every access of a kernel to memory.
    gpu.run(&[("BYTES", "1")], &arguments).expect(0);
    let rows = rows(&gpu.project, "net/training");
    let columns = ["loss", "validation_cross_entropy"];
    rows.iter()
        .flat_map(|row| columns.map(|column| number(row, column)))
        .collect()
}

#[test]
fn an_epoch_gives_what_the_processor_gives() {
    let Some(gpu) = OnGpu::new() else { return };
    gpu.project.write("p.yaml", TRAINING);
    let on_gpu = losses(&gpu, "cuda");
    let counts = gpu.counts();
    assert!(
        counts.iter().any(|counts| counts.graph_launches > 1),
        "the trial is recorded and replayed"
    );
    std::fs::remove_dir_all(gpu.project.path("cache")).expect("removed");
    let on_processor = losses(&gpu, "cpu");
    assert!(!on_gpu.is_empty());
    for (a, b) in on_gpu.iter().zip(&on_processor) {
        // Sums are taken in another order; a wrong gradient is off by per cents.
        assert!(
            (a - b).abs() <= 1e-3 * b.abs(),
            "{on_gpu:?} on the GPU, {on_processor:?} on the processor"
        );
    }
}

#[test]
fn with_little_memory_fewer_images_are_computed_at_a_time() {
    let Some(gpu) = OnGpu::new() else { return };
    // Scratch memory of convolutions is 1 GiB of what is planned; numbers do not matter.
    let large = benchmark(&[])
        .join(" ")
        .replace("--side 16 --batch 4", "--side 96 --batch 16");
    let large: Vec<&str> = large.split(' ').collect();
    let run = |memory| gpu.run(&[("NO_CONVOLUTIONS", "1"), ("MEMORY", memory)], &large);
    let all = run("4000000000").expect(0).json();
    assert_eq!(all["images_at_a_time"], 16);
    let peak = gpu.counts().iter().map(|counts| counts.peak_bytes).max();
    assert_eq!(all["peak_bytes"].as_u64(), peak);
    let some = run("1270000000").expect(0).json();
    let images = some["images_at_a_time"].as_u64();
    assert!(images.is_some_and(|images| (1..16).contains(&images)), "{some}");
    gpu.counts();
    let none = run("100000");
    assert!(none.code != 0 && none.stderr.contains("memory"), "{}", none.stderr);
    gpu.counts();
}

#[test]
fn a_gpu_without_memory_pools_will_do() {
    let Some(gpu) = OnGpu::new() else { return };
    gpu.run(&[("NO_POOL", "1")], &benchmark(&[])).expect(0);
    gpu.counts();
}

/// Whatever an algorithm fails with, the next one is tried; where none works, that is said.
#[test]
fn another_algorithm_takes_the_place_of_one_that_fails() {
    let Some(gpu) = OnGpu::new() else { return };
    for status in ["2000", "3000", "3001", "3007", "5000"] {
        for setting in ["FIRST_PROPOSAL", "ALL_PROPOSALS"] {
            // Convolutions that add to what there is can be computed by themselves and added.
            let only = if setting == "ALL_PROPOSALS" { "1" } else { "0" };
            gpu.run(&[(setting, status), ("ONLY_ACCUMULATING", only)], &benchmark(&[]))
                .expect(0);
            gpu.counts();
        }
    }
    let failed = gpu.run(&[("ALL_PROPOSALS", "3001")], &benchmark(&[]));
    assert!(failed.code != 0 && failed.stderr.contains("3001"), "{}", failed.stderr);
    gpu.counts();
}

/// Work that cannot be recorded is done anew each time, to the same numbers, and it is said why.
#[test]
fn work_that_cannot_be_recorded_is_done_all_the_same() {
    let Some(gpu) = OnGpu::new() else { return };
    let recorded = gpu.run(&[], &benchmark(&[])).expect(0).json();
    assert_eq!(recorded["recorded"], true, "{recorded}");
    assert!(gpu.counts().iter().any(|counts| counts.graph_launches > 0));
    for place in ["begin", "convolution", "instantiate"] {
        let refused = gpu.run(&[("CAPTURE", place)], &benchmark(&[])).expect(0).json();
        assert_eq!(refused["recorded"], false, "{place}: {refused}");
        assert!(refused["not_recorded_because"].is_string(), "{place}: {refused}");
        assert!(gpu.counts().iter().all(|counts| counts.graph_launches == 0));
    }
}

#[test]
fn two_processes_use_one_gpu() {
    let Some(gpu) = OnGpu::new() else { return };
    let start = |_| {
        let mut command = gpu.command(&[], &benchmark(&[]));
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let children: Vec<_> = (0..2).map(start).collect();
    for child in children {
        Ran::from(child.wait_with_output().expect("it ends")).expect(0);
    }
    assert_eq!(gpu.counts().len(), 2);
}
