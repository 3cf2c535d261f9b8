//! `dynvis selftest`: a device against float64, and its memory against what is planned.

use cords::device::cuda::{Cuda, Hardware, Precision, Settings};
use cords::device::{Cpu, Device};
use cords::learn::{HistoryPrecision, TrainError};
use cords::selftest::{Allowed, BFLOAT16, FLOAT32, Finding, TF32, kernels, memory, networks, reference};

use super::error::CommandError;
use super::gpu;
use super::tables::simple_table;
use super::ui::Ui;
use dynvis_runner::kind::Device as Asked;

/// Compare a device's kernels, whole networks and memory use with reference values
#[derive(clap::Args)]
pub(crate) struct SelftestArgs {
    /// What to test: `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU
    #[arg(long, default_value_t = Asked::Auto)]
    device: Asked,
    /// Every result, instead of a line for each kernel
    #[arg(long)]
    all: bool,
}

pub(crate) fn selftest(ui: &mut Ui, args: &SelftestArgs) -> Result<u8, CommandError> {
    let mut missed = 0;
    match gpu::open(ui, args.device, Precision::Float32)? {
        Some(opened) => {
            for (precision, allowed) in [
                (Precision::Float32, FLOAT32),
                (Precision::Tf32, TF32),
                (Precision::Bfloat16, BFLOAT16),
            ] {
                let settings = Settings {
                    precision,
                    ..opened.settings().clone()
                };
                let hardware = Hardware::open(settings).map_err(TrainError::from)?;
                let what = format!("{}, {precision:?}", hardware.description().name);
                let findings = find(&Cuda::new(hardware.clone(), 8), allowed).and_then(|mut findings| {
                    findings.extend(memory_taken(&hardware)?);
                    Ok(findings)
                });
                missed += match findings {
                    Ok(findings) => tell(ui, &what, &findings, args.all)?,
                    // A precision that fails altogether does not hide what becomes of the others.
                    Err(error) => {
                        ui.out(&format!("{what}: {error}\n"))?;
                        1
                    }
                };
            }
        }
        None => missed += tell(ui, "processor, float32", &find(&Cpu, FLOAT32)?, args.all)?,
    }
    match missed {
        0 => Ok(0),
        count => Err(CommandError::hinted(
            format!("{count} results exceed their error bounds"),
            "do not trust this device; `dynvis doctor` shows the libraries that it is used through",
        )),
    }
}

/// Everything that is held against float64.
fn find<D: Device<f32>>(device: &D, (rounding, bounds): Allowed) -> Result<Vec<Finding>, TrainError> {
    let mut findings = kernels(device, rounding)?;
    findings.extend(networks(device, bounds)?);
    findings.extend(reference(device, bounds)?);
    Ok(findings)
}

/// The memory that training takes as a share of what was planned.
fn memory_taken(hardware: &Hardware) -> Result<Vec<Finding>, TrainError> {
    let device = Cuda::new(hardware.clone(), memory::BATCH);
    [HistoryPrecision::Float32, HistoryPrecision::Bfloat16]
        .map(|history| {
            let planned = memory::needed(&device, history)?;
            hardware.take_peak_memory()?;
            memory::train_within(&device, history, planned)?;
            Ok(Finding {
                name: format!("memory taken, as a share of what is planned: history {history:?}"),
                error: hardware.take_peak_memory()? as f64 / planned as f64,
                bound: 1.0,
            })
        })
        .into_iter()
        .collect()
}

/// Prints what was found and returns the number of misses.
fn tell(ui: &mut Ui, what: &str, findings: &[Finding], all: bool) -> Result<usize, CommandError> {
    let missed = findings.iter().filter(|finding| !finding.passed()).count();
    let rows = if all {
        findings.iter().map(|finding| row(&finding.name, 1, finding)).collect()
    } else {
        // A line for what comes before the first comma or colon: the kernel, or the kind of network; and each miss.
        let mut rows = Vec::new();
        let family = |finding: &Finding| finding.name.split([',', ':']).next().unwrap_or_default().to_owned();
        let mut rest: Vec<&Finding> = findings.iter().collect();
        while let Some(first) = rest.first().map(|finding| family(finding)) {
            let (of_it, others): (Vec<&Finding>, Vec<&Finding>) =
                rest.iter().partition(|finding| family(finding) == first);
            let share = |finding: &Finding| finding.error / finding.bound.max(f64::MIN_POSITIVE);
            // NaN is worst.
            let worst = of_it.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
            rows.extend(worst.map(|worst| row(&first, of_it.len(), worst)));
            rest = others;
        }
        let misses = findings.iter().filter(|finding| !finding.passed());
        rows.extend(misses.map(|finding| row(&finding.name, 1, finding)));
        rows
    };
    ui.out(&format!("{what}: {} results, {missed} missed\n", findings.len()))?;
    let header = ["what", "results", "worst error", "allowed", "passed"];
    ui.out(&simple_table(&header, rows, ui.width()))?;
    Ok(missed)
}

fn row(name: &str, count: usize, finding: &Finding) -> Vec<String> {
    let passed = if finding.passed() { "yes" } else { "NO" };
    vec![
        name.to_owned(),
        count.to_string(),
        format!("{:.1e}", finding.error),
        format!("{:.1e}", finding.bound),
        passed.to_owned(),
    ]
}
