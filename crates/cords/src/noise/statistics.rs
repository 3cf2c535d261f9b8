//! Interval of a proportion, rank of a label, cross-entropy: what is counted per image.

use crate::statistics::{NORMAL, wilson};

/// Wilson's 95 % interval of a proportion (Wilson 1927); [0, 1] where nothing was counted.
pub fn wilson_interval(successes: usize, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    wilson(successes as f64 / n as f64, n as f64, NORMAL)
}

/// What logits say about one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// Classes that come before the label: 0 is a correct answer. Of equal logits the lower class comes first.
    pub(crate) rank: usize,
    /// `-ln softmax(logits)[label]`; `None` where a logit is not finite, and then the rank is the worst.
    pub(crate) cross_entropy: Option<f64>,
}

impl Score {
    /// Score of an image that diverged.
    pub(crate) const DIVERGED: Self = Self {
        rank: usize::MAX,
        cross_entropy: None,
    };

    /// Whether it is no answer.
    pub(crate) fn has_diverged(&self) -> bool {
        self.cross_entropy.is_none()
    }

    pub(crate) fn of(logits: &[f32], label: u32) -> Self {
        let label = label as usize;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Self::DIVERGED;
        }
        let own = logits[label];
        let before = |(class, logit): (usize, &f32)| *logit > own || (*logit == own && class < label);
        let rank = logits.iter().enumerate().filter(|entry| before(*entry)).count();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        Self {
            rank,
            cross_entropy: Some(sum.ln() - f64::from(own - largest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, table I (Wilson without continuity correction): 81/263, 15/148, 0/20, 1/29.
        for (successes, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let [a, b] = wilson_interval(successes, n);
            assert!(
                (a - low).abs() < 5e-5 && (b - high).abs() < 5e-5,
                "{successes}/{n}: {a}, {b}"
            );
        }
        assert_eq!(wilson_interval(7, 7)[1], 1.0);
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
    }

    /// The chance that the interval of a count holds the share that the count was drawn with, by the binomial
    /// distribution itself.
    #[test]
    fn wilson_intervals_hold_the_truth_as_often_as_they_say() {
        for n in [20usize, 100, 1000] {
            let shares: Vec<f64> = (2..=98).map(|percent| f64::from(percent) / 100.0).collect();
            let coverage = |p: f64| -> f64 {
                // Logarithms of the binomial's terms, one from the other.
                let mut term = n as f64 * (1.0 - p).ln();
                let mut held = 0.0;
                for successes in 0..=n {
                    let [low, high] = wilson_interval(successes, n);
                    if low <= p && p <= high {
                        held += term.exp();
                    }
                    term += ((n - successes) as f64 / (successes + 1) as f64).ln() + (p / (1.0 - p)).ln();
                }
                held
            };
            let covered: Vec<f64> = shares.iter().map(|p| coverage(*p)).collect();
            let mean = covered.iter().sum::<f64>() / covered.len() as f64;
            let least = covered.iter().copied().fold(1.0, f64::min);
            // Counts are whole, so coverage jumps about what is said; near 0 and 1 by more.
            assert!(
                (mean - 0.95).abs() < 0.01 && least > 0.92,
                "{n}: mean {mean}, least {least}"
            );
        }
    }

    #[test]
    fn scores_of_known_logits() {
        let score = Score::of(&[1.0, 3.0, 2.0, 3.0], 2);
        assert_eq!(score.rank, 2);
        let expected = (1.0f64.exp() + 2.0 * 3.0f64.exp() + 2.0f64.exp()).ln() - 2.0;
        assert!((score.cross_entropy.expect("finite") - expected).abs() < 1e-12);
        assert_eq!((Score::of(&[1.0, 1.0], 0).rank, Score::of(&[1.0, 1.0], 1).rank), (0, 1));
        assert_eq!(Score::of(&[f32::NAN, 1.0], 1), Score::DIVERGED);
        // Large logits do not overflow.
        assert_eq!(Score::of(&[3e38, 0.0], 0).cross_entropy, Some(0.0));
    }
}
