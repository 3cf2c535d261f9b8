//! A device held against float64 on the CPU: its kernels, and whole networks forward and backward.

mod kernels;
mod networks;

pub use kernels::kernels;
pub use networks::networks;

/// How far one result of a device is from what it should be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was computed.
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
        let mut findings = kernels(&Cpu, 6e-8).expect("a processor");
        findings.extend(networks(&Cpu, [6e-6, 6e-5]).expect("a processor"));
        let missed: Vec<_> = findings.iter().filter(|finding| !finding.passed()).collect();
        assert!(missed.is_empty(), "{missed:#?}");
    }
}
