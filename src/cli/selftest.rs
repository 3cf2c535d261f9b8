//! `dynvis selftest`: a device against float64.

use cords::device::cuda::{Cuda, Hardware, Precision, Settings};
use cords::device::{Cpu, Device};
use cords::learn::TrainError;
use cords::selftest::{Finding, kernels, networks};

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use crate::run::Device as Asked;

/// Hold a device's kernels and whole networks against float64 on the processor
#[derive(clap::Args)]
pub(crate) struct SelftestArgs {
    /// What to test: `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU
    #[arg(long, default_value_t = Asked::Auto)]
    device: Asked,
    /// Every result, instead of a line for each kernel
    #[arg(long)]
    all: bool,
}

/// Rounding of a convolution's factors, and what a network's results may be off by, forward and backward. Many sums of many
/// products amplify the first: a hundredfold forward, tenfold again backward, in float32; less where it is itself large.
const FLOAT32: (f64, [f64; 2]) = (6e-8, [6e-6, 6e-5]);
const TF32: (f64, [f64; 2]) = (4.9e-4, [1e-2, 1e-1]);

pub(crate) fn selftest(ui: &mut Ui, args: &SelftestArgs) -> Result<u8, CommandError> {
    let mut missed = 0;
    match args.device.resolve()? {
        Asked::Cuda(ordinal) => {
            for (precision, bounds) in [(Precision::Float32, FLOAT32), (Precision::Tf32, TF32)] {
                let settings = Settings {
                    ordinal,
                    precision,
                    deterministic: true,
                };
                let hardware = Hardware::open(settings).map_err(TrainError::from)?;
                let what = format!("{}, {precision:?}", hardware.description().name);
                // A precision that fails altogether does not hide what becomes of the other.
                missed += match test(ui, &what, &Cuda::new(hardware, 8), bounds, args.all) {
                    Err(CommandError::Training(error)) => {
                        ui.out(&format!("{what}: {error}\n"))?;
                        1
                    }
                    result => result?,
                };
            }
        }
        Asked::Auto | Asked::Cpu => missed += test(ui, "processor, float32", &Cpu, FLOAT32, args.all)?,
    }
    match missed {
        0 => Ok(0),
        count => Err(CommandError::hinted(
            format!("{count} results are further from float64 than they should be"),
            "do not trust this device; `dynvis doctor` shows the libraries that it is used through",
        )),
    }
}

/// Prints what was found and returns the number of misses.
fn test<D: Device<f32>>(
    ui: &mut Ui,
    what: &str,
    device: &D,
    (rounding, bounds): (f64, [f64; 2]),
    all: bool,
) -> Result<usize, CommandError> {
    let mut findings = kernels(device, rounding).map_err(TrainError::from)?;
    findings.extend(networks(device, bounds)?);
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
