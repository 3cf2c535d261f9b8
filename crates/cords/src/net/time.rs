//! Durations in steps. Nothing is rounded, so that tables and models say what was simulated.

use super::Euler;

/// Steps of one duration that are simulated at most.
pub const MOST_STEPS: f64 = 1e6;

/// Whether a duration is a multiple of the step, but for the rounding of decimals.
pub(crate) fn fits(ms: f64, dt_ms: f64) -> bool {
    let steps = ms / dt_ms;
    steps.is_finite() && steps >= 0.0 && (steps - steps.round()).abs() <= 1e-9 * steps.max(1.0)
}

/// What is wrong with a duration that is no multiple of the step, with the nearest that are; none where it is one.
pub fn no_multiple(ms: f64, dt_ms: f64) -> Option<String> {
    (!fits(ms, dt_ms)).then(|| misfit(ms, dt_ms))
}

/// Says of a duration that does not fit which ones do.
pub(crate) fn misfit(ms: f64, dt_ms: f64) -> String {
    let whole = (ms / dt_ms).floor();
    let (below, above) = (decimal(whole * dt_ms), decimal((whole + 1.0) * dt_ms));
    format!("{ms} ms, which is not a multiple of the step of {dt_ms} ms; the nearest are {below} and {above} ms")
}

/// A number as one would write it.
fn decimal(ms: f64) -> f64 {
    (ms * 1e9).round() / 1e9
}

impl Euler {
    /// Why a duration cannot be simulated: it is no whole number of steps (with the nearest that are), has fewer than
    /// `least` or more than [`MOST_STEPS`]. None where it can.
    pub fn unfit(&self, ms: f64, least: usize) -> Option<String> {
        unfit(ms, self.dt_ms, least)
    }
}

/// [`Euler::unfit`] for steps of `dt_ms`.
pub fn unfit(ms: f64, dt_ms: f64, least: usize) -> Option<String> {
    let steps = ms / dt_ms;
    if !(steps.is_finite() && steps >= 0.0) {
        return Some(format!("{ms} ms, which is not a duration"));
    }
    if steps > MOST_STEPS {
        // Without hundreds of digits.
        let steps = if steps < 1e15 {
            format!("{steps:.0}")
        } else {
            format!("{steps:.3e}")
        };
        return Some(format!(
            "{ms} ms, which is {steps} steps of {dt_ms} ms; at most {MOST_STEPS} are simulated"
        ));
    }
    if fits(ms, dt_ms) && steps.round() >= least as f64 {
        return None;
    }
    // Where the shorter of the two nearest is too short, the least is nearest.
    if steps.floor() < least as f64 {
        let least = decimal(least as f64 * dt_ms);
        return Some(format!(
            "{ms} ms at steps of {dt_ms} ms; the nearest that can be simulated is {least} ms"
        ));
    }
    Some(misfit(ms, dt_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_do_not_make_a_duration_unfit() {
        for (ms, dt) in [
            (0.0, 10.0),
            (0.3, 0.1),
            (650.0, 10.0),
            (100.0, 0.1),
            (7.5, 2.5),
            (1e5, 0.7e-1 * 10.0 / 7.0),
        ] {
            assert!(fits(ms, dt), "{ms} at {dt}");
            assert_eq!(unfit(ms, dt, 0), None);
        }
        for (ms, dt) in [
            (3.0, 10.0),
            (5.0, 10.0),
            (650.0, 20.0),
            (0.35, 0.1),
            (f64::NAN, 1.0),
            (1e300, 1e-300),
        ] {
            assert!(!fits(ms, dt), "{ms} at {dt}");
            assert!(unfit(ms, dt, 0).is_some());
        }
        assert_eq!(
            misfit(0.35, 0.1),
            "0.35 ms, which is not a multiple of the step of 0.1 ms; the nearest are 0.3 and 0.4 ms"
        );
    }

    #[test]
    fn a_duration_that_cannot_be_simulated_names_the_nearest_that_can() {
        let euler = Euler::new(5.0, 10.0);
        let said = |ms, least| euler.unfit(ms, least).unwrap_or_default();
        assert_eq!((said(200.0, 1), said(0.0, 0)), (String::new(), String::new()));
        assert_eq!(
            said(12.0, 1),
            "12 ms, which is not a multiple of the step of 5 ms; the nearest are 10 and 15 ms"
        );
        for (ms, least) in [(3.0, 1), (0.0, 1), (7.0, 2)] {
            let nearest = format!(
                "{ms} ms at steps of 5 ms; the nearest that can be simulated is {} ms",
                5 * least
            );
            assert_eq!(said(ms, least), nearest);
        }
        assert_eq!(
            said(1e7, 1),
            "10000000 ms, which is 2000000 steps of 5 ms; at most 1000000 are simulated"
        );
        assert!(said(f64::INFINITY, 1).contains("not a duration") && said(-5.0, 0).contains("not a duration"));
        assert!(said(1e300, 0).len() < 400);
    }
}
