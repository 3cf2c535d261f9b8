//! Durations and strengths as the environments of NeuroGym 2.3.1 have them by default.
//!
//! Distributions are told as lists of equally probable values, each a multiple of the step between their ends.
//! (NeuroGym rounds down to its own step, with 80 ms also below 300.) `docs/tasks.md` holds both side by side, with
//! what else differs.

use super::{TaskName, Timing};

/// Values that a distribution is told by, at most.
const VALUES: usize = 100;

impl TaskName {
    /// The environment that the task corresponds to; none where NeuroGym has none.
    pub fn neurogym_name(self) -> Option<&'static str> {
        match self {
            Self::DelayedMatchImage => Some("DelayMatchSample-v0"),
            Self::DelayedMatchClass => Some("DelayMatchCategory-v0"),
            Self::DelayedNonMatch => Some("yang19.dnms-v0"),
            Self::PairedAssociation => Some("DelayPairedAssociation-v0"),
            Self::ContextDecision => Some("ContextDecisionMaking-v0"),
            Self::GoNoGo => Some("GoNogo-v0"),
            Self::ProSaccade => Some("yang19.go-v0"),
            Self::AntiSaccade => Some("AntiReach-v0"),
            Self::CuedSaccade => Some("yang19.go-v0 and yang19.anti-v0"),
            Self::NoisyEvidence => Some("PerceptualDecisionMaking-v0"),
            Self::IntervalDiscrimination => Some("IntervalDiscrimination-v0"),
            Self::DelayedCategory
            | Self::MultiObject
            | Self::ChangeDetection
            | Self::OneBack
            | Self::TwoBack
            | Self::ThreeBack => None,
        }
    }

    /// The defaults of that environment, at a step of `dt_ms`.
    pub fn neurogym(self, dt_ms: f64) -> Option<Timing> {
        self.neurogym_name()?;
        let own = self.timing();
        Some(match self {
            Self::DelayedMatchImage | Self::DelayedNonMatch => Timing {
                fixation: 300.0,
                stimulus: 500.0,
                delays: vec![1000.0],
                test: 500.0,
                response: 900.0,
                ..own
            },
            Self::DelayedMatchClass => Timing {
                fixation: 500.0,
                stimulus: 650.0,
                delays: vec![1000.0],
                test: 650.0,
                answer_at_test: true,
                ..own
            },
            Self::PairedAssociation => Timing {
                fixation: 0.0,
                stimulus: 1000.0,
                delays: vec![1000.0],
                test: 1000.0,
                wait: 1000.0,
                response: 500.0,
                ..own
            },
            Self::ContextDecision => Timing {
                fixation: 300.0,
                stimulus: 750.0,
                delays: truncated_exponential(600.0, 300.0, 3000.0, dt_ms),
                response: 100.0,
                ..own
            },
            Self::GoNoGo => Timing {
                fixation: 0.0,
                stimulus: 500.0,
                delays: vec![500.0],
                response: 500.0,
                ..own
            },
            Self::ProSaccade | Self::AntiSaccade | Self::CuedSaccade => Timing {
                fixation: 500.0,
                stimulus: 500.0,
                delays: vec![0.0],
                response: 500.0,
                ..own
            },
            Self::NoisyEvidence => Timing {
                fixation: 100.0,
                durations: vec![2000.0],
                delays: vec![0.0],
                response: 100.0,
                strengths: vec![0.0, 0.064, 0.128, 0.256, 0.512],
                ..own
            },
            Self::IntervalDiscrimination => Timing {
                fixation: 300.0,
                durations: uniform(300.0, 600.0, dt_ms),
                delays: uniform(800.0, 1500.0, dt_ms),
                wait: 500.0,
                response: 300.0,
                ..own
            },
            _ => own,
        })
    }
}

/// Multiples of the step from `low` on and below `high`; every so many of them where there are many.
fn uniform(low: f64, high: f64, dt_ms: f64) -> Vec<f64> {
    let (first, end) = ((low / dt_ms - 1e-9).ceil(), (high / dt_ms - 1e-9).ceil());
    let count = (end - first).max(1.0);
    let stride = (count / VALUES as f64).ceil();
    let values = (count / stride).ceil() as usize;
    (0..values)
        .map(|place| decimal((first + stride * place as f64) * dt_ms))
        .collect()
}

/// The middles of equally probable parts of an exponential distribution of that mean between two ends, each as a
/// multiple of the step that is not above it.
fn truncated_exponential(mean: f64, low: f64, high: f64, dt_ms: f64) -> Vec<f64> {
    let [above_low, above_high] = [low, high].map(|end: f64| (-end / mean).exp());
    (0..VALUES)
        .map(|place| {
            let share = (place as f64 + 0.5) / VALUES as f64;
            let value = -mean * (above_low - share * (above_low - above_high)).ln();
            decimal((value / dt_ms).floor().max((low / dt_ms - 1e-9).ceil()) * dt_ms)
        })
        .collect()
}

/// Without what rounding leaves behind decimals.
fn decimal(ms: f64) -> f64 {
    (ms * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_those_of_neurogym() {
        assert_eq!(
            uniform(300.0, 600.0, 10.0),
            (30..60).map(|step| 10.0 * f64::from(step)).collect::<Vec<_>>()
        );
        assert_eq!(uniform(300.0, 600.0, 80.0), [320.0, 400.0, 480.0, 560.0]);
        let fine = uniform(800.0, 1500.0, 1.0);
        assert_eq!((fine.len(), fine[0], fine[99]), (100, 800.0, 1493.0));
        let drawn = truncated_exponential(600.0, 300.0, 3000.0, 10.0);
        assert!(drawn.iter().all(|ms| (300.0..3000.0).contains(ms)));
        // Mean of 600 exp(-x / 600) between 300 and 3000: 870 ms to within half a step and the coarseness of a hundred
        // parts.
        let (a, b) = ((-0.5f64).exp(), (-5.0f64).exp());
        let expected = (900.0 * a - 3600.0 * b) / (a - b);
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((mean - expected).abs() < 12.0, "{mean} for {expected}");
    }

    #[test]
    fn presets_fit_common_steps() {
        for task in TaskName::ALL {
            for dt in [1.0, 2.0, 5.0, 10.0] {
                if let Some(timing) = task.neurogym(dt) {
                    timing.validate().expect("durations");
                    assert_eq!(timing.misfits(task, dt), [], "{task:?} at {dt}");
                }
            }
            assert_eq!(task.neurogym(10.0).is_some(), task.neurogym_name().is_some());
        }
    }
}
