//! A device held against float64: its kernels, whole networks forward and backward, and its memory against what is
//! planned.

mod kernels;
pub mod memory;
mod networks;
mod reference;

pub use kernels::kernels;
pub use networks::networks;
pub use reference::reference;

/// What a factor of a convolution is rounded by, and what a network's results may be off by, forward and backward. Many
/// sums of many products amplify the first: a hundredfold forward, tenfold again backward, in float32; less where it is
/// itself large.
pub type Allowed = (f64, [f64; 2]);
/// Products of float32 as it is.
pub const FLOAT32: Allowed = (6e-8, [6e-6, 6e-5]);
/// Products of float32 rounded to eleven significant bits.
pub const TF32: Allowed = (4.9e-4, [1e-2, 1e-1]);
/// Products, and sums of them, of eight significant bits.
pub const BFLOAT16: Allowed = (3.9e-3, [2e-2, 1.5e-1]);

/// How far one result of a device is from what it should be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Name of the computation and its sizes.
    pub name: String,
    /// Largest difference over largest magnitude.
    pub error: f64,
    /// What it may be.
    pub bound: f64,
}

impl Finding {
    /// Whether the result is as exact as it should be. NaN is not.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// Largest difference over largest magnitude; NaN where there is one, or where the numbers of values differ.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::NAN;
    }
    let size = expected.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(
        0.0f64,
        |largest, d| {
            if largest.is_nan() || d <= largest { largest } else { d }
        },
    );
    largest / size.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    #[test]
    fn a_difference_of_any_kind_is_found() {
        assert_eq!(error(&[1.0, -3.0], &[1.0, -4.0]), 0.25);
        assert!(error(&[1.0, f64::NAN, 2.0], &[1.0, 2.0, 2.0]).is_nan());
        assert!(error(&[1.0], &[1.0, 2.0]).is_nan());
        let finding = |error| Finding {
            name: String::new(),
            error,
            bound: 1.0,
        };
        assert!(finding(1.0).passed() && !finding(1.1).passed() && !finding(f64::NAN).passed());
    }

    #[test]
    fn the_cpu_passes() {
        let mut findings = kernels(&Cpu, FLOAT32.0).expect("a processor");
        findings.extend(networks(&Cpu, FLOAT32.1).expect("a processor"));
        findings.extend(reference(&Cpu, FLOAT32.1).expect("a processor"));
        let missed: Vec<_> = findings.iter().filter(|finding| !finding.passed()).collect();
        assert!(missed.is_empty(), "{missed:#?}");
    }
}
