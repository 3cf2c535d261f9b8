//! The memory that training takes, held against its budget.
#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stdout,
    reason = "a process tells what it has measured, and the test what it has seen"
)]

use std::process::Command;

use cords::data::{DataError, Images};
use cords::device::Cpu;
use cords::learn::{Data, DirectConfig, Fit, HistoryPrecision, TrainError, Training};
use cords::net::Graph;
use cords::rng::{Purpose, Stream};

/// So many images of noise.
struct Noise(usize);

const SIDE: usize = 96;
/// Tells a process what to measure, and marks what it has measured.
const CASE: &str = "CORDS_MEMORY_CASE";
const TAKEN: &str = "taken: ";

impl Images for Noise {
    fn len(&self) -> usize {
        self.0
    }
    fn channels(&self) -> usize {
        3
    }
    fn side(&self) -> usize {
        SIDE
    }
    fn classes(&self) -> usize {
        10
    }
    fn label(&self, i: usize) -> u32 {
        (i % 10) as u32
    }
    fn fill(&self, i: usize, _epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        Stream::new(1, Purpose::Probe, i as u64, 0, 0, 0).normal_fill(out);
        Ok(())
    }
}

/// One of the memory sizes that Linux states for this process, bytes.
fn status(field: &str) -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a size in kB") * 1024
}

fn train(history: HistoryPrecision, memory_budget: Option<u64>) -> Result<(), TrainError> {
    let architecture = Graph::published(4, 3, SIDE, 10)?;
    let config = DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 60.0,
        after_ms: 60.0,
        readout_window_ms: 20.0,
        history,
        memory_budget,
        fit: Fit {
            epochs: 2,
            batch: 15,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let data = Data {
        // Groups of 8 and of 7 images.
        train: &Noise(15),
        validation: &Noise(8),
    };
    Training::new(&architecture, &config, &data).run(&Cpu)?;
    Ok(())
}

/// Bytes that training takes at most, beyond what the process had, or none where the system does not tell. In a process
/// of its own, as an allocator may keep what an earlier training has given back.
fn peak(history: HistoryPrecision, budget: Option<u64>) -> Option<u64> {
    let case = serde_json::to_string(&(history, budget)).expect("plain values");
    let program = std::env::current_exe().expect("this test");
    let output = Command::new(program)
        .args([
            "--exact",
            "memory::training_takes_no_more_than_its_budget",
            "--nocapture",
        ])
        .env(CASE, case)
        .output()
        .expect("this test runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let taken = text.lines().find_map(|line| line.strip_prefix(TAKEN));
    taken.map(|taken| taken.trim().parse().expect("a number"))
}

fn measure(case: &str) {
    let (history, budget): (HistoryPrecision, Option<u64>) = serde_json::from_str(case).expect("a case");
    // The peak starts anew.
    if let Err(error) = fs_err::write("/proc/self/clear_refs", "5") {
        println!("this system does not let peaks start anew: {error}");
        return;
    }
    let before = status("VmRSS:");
    train(history, budget).expect("trained");
    println!("\n{TAKEN}{}", status("VmHWM:") - before);
}

#[test]
fn training_takes_no_more_than_its_budget() {
    if let Ok(case) = std::env::var(CASE) {
        return measure(&case);
    }
    for history in [HistoryPrecision::Float32, HistoryPrecision::Bfloat16] {
        let Err(TrainError::Memory { needed, .. }) = train(history, Some(1)) else {
            panic!("a budget of one byte must be refused");
        };
        let [Some(taken), Some(unlimited)] = [Some(needed), None].map(|budget| peak(history, budget)) else {
            println!("nothing measured: the system does not tell");
            return;
        };
        let mb = |bytes: u64| bytes / 1_000_000;
        let [taken_mb, needed_mb, unlimited_mb] = [taken, needed, unlimited].map(mb);
        println!("{history:?}: {taken_mb} MB of {needed_mb} MB, {unlimited_mb} MB without a budget");
        assert!(taken <= needed, "{history:?} takes {taken_mb} MB of {needed_mb} MB");
        // The plan's figures are no mere upper bounds, and without a budget training takes more.
        assert!(
            taken > needed / 2,
            "{history:?} takes {taken_mb} MB only of {needed_mb} MB"
        );
        assert!(
            unlimited > needed,
            "{history:?} takes {unlimited_mb} MB without a budget of {needed_mb} MB"
        );
    }
}
