//! How much noise a network stands: the level at which half of its accuracy is left, and the area under accuracy over level.

use rayon::prelude::*;

use crate::rng::{Purpose, Stream};

/// Which images were classified correctly at a level.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The level.
    pub level: f64,
    /// Every image, in the same order at every level.
    pub right: &'a [bool],
}

/// A number with its 95 % interval from resampled images; an end is none where it lies beyond the levels measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// From the images as they are; none where it lies beyond the levels measured.
    pub value: Option<f64>,
    /// 2.5 and 97.5 % of the resamples.
    pub interval: [Option<f64>; 2],
}

/// How much noise a network stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robustness {
    /// Accuracy at level 0.
    pub clean: f64,
    /// Level at which accuracy is half of that.
    pub half: Estimate,
    /// Area under accuracy over level by the trapezoid rule, over the range of levels: a mean accuracy.
    pub area: Estimate,
}

/// Resamples of the images.
const RESAMPLES: u64 = 1000;

/// From accuracy at several levels, among them 0, of which `chance` is what guessing gives. The curve
/// p = chance + (p0 - chance)/(1 + (level/m)^k), with p0 the accuracy at level 0, is fitted by maximum likelihood; intervals are
/// percentiles over resampled images, the same in every network of as many images. None without level 0 and another one.
pub fn robustness(measured: &[Measured<'_>], chance: f64, seed: u64) -> Option<Robustness> {
    let mut measured = measured.to_vec();
    measured.sort_by(|a, b| a.level.total_cmp(&b.level));
    let (clean, last) = (measured.first()?, measured.last()?);
    let images = clean.right.len();
    if clean.level != 0.0 || last.level <= 0.0 || images == 0 || measured.iter().any(|m| m.right.len() != images) {
        return None;
    }
    let levels: Vec<f64> = measured.iter().map(|m| m.level).collect();
    let counts = |times: &dyn Fn(usize) -> u32| -> Vec<f64> {
        let right = |m: &Measured<'_>| (0..images).filter(|i| m.right[*i]).map(|i| f64::from(times(i))).sum();
        measured.iter().map(right).collect()
    };
    let here = counts(&|_| 1);
    let resampled: Vec<(f64, f64)> = (0..RESAMPLES)
        .into_par_iter()
        .map(|resample| {
            let mut stream = Stream::new(seed, Purpose::Bootstrap, resample, 0, 0, 0);
            let mut times = vec![0u32; images];
            for _ in 0..images {
                times[stream.below(images as u64) as usize] += 1;
            }
            let counts = counts(&|i| times[i]);
            (half(&levels, &counts, images, chance), area(&levels, &counts, images))
        })
        .collect();
    let estimate = |value: f64, mut resampled: Vec<f64>| {
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[(share * (RESAMPLES - 1) as f64).round() as usize];
        let measured = |value: f64| Some(value).filter(|value| value.is_finite());
        Estimate {
            value: measured(value),
            interval: [measured(at(0.025)), measured(at(0.975))],
        }
    };
    let (halves, areas) = resampled.into_iter().unzip();
    Some(Robustness {
        clean: here[0] / images as f64,
        half: estimate(half(&levels, &here, images, chance), halves),
        area: estimate(area(&levels, &here, images), areas),
    })
}

/// Area under accuracy over ascending levels, over their range.
fn area(levels: &[f64], counts: &[f64], images: usize) -> f64 {
    let pieces = levels.windows(2).zip(counts.windows(2));
    let sum: f64 = pieces.map(|(l, c)| (l[1] - l[0]) * (c[0] + c[1]) / 2.0).sum();
    sum / (levels[levels.len() - 1] - levels[0]) / images as f64
}

/// Level at half of the accuracy at level 0; infinite where that lies beyond the last level.
///
/// With q = 1/(1 + (level/m)^k) the odds of q are linear in log level, so that this is a regression with a link of its own,
/// fitted by Fisher's scoring.
fn half(levels: &[f64], counts: &[f64], images: usize, chance: f64) -> f64 {
    let n = images as f64;
    let height = counts[0] / n - chance;
    let share = (counts[0] / n / 2.0 - chance) / height;
    if !(height > 0.0 && share > 0.0 && share < 1.0) {
        return f64::INFINITY;
    }
    let noisy: Vec<(f64, f64)> = levels
        .iter()
        .zip(counts)
        .filter(|(level, _)| **level > 0.0)
        .map(|(level, count)| (level.ln(), *count))
        .collect();
    if noisy.len() < 2 {
        return f64::INFINITY;
    }
    let p_at = |[a, b]: [f64; 2], x: f64| {
        let q = 1.0 / (1.0 + (-(a + b * x)).exp());
        let p = (chance + height * q).clamp(1e-9, 1.0 - 1e-9);
        (p, height * q * (1.0 - q))
    };
    let likelihood = |beta: [f64; 2]| -> f64 {
        let of = |(x, count): &(f64, f64)| {
            let (p, _) = p_at(beta, *x);
            count * p.ln() + (n - count) * (1.0 - p).ln()
        };
        noisy.iter().map(of).sum()
    };
    // From a curve that falls through the middle of the levels.
    let middle = noisy.iter().map(|(x, _)| x).sum::<f64>() / noisy.len() as f64;
    let mut beta = [2.0 * middle, -2.0];
    let mut best = likelihood(beta);
    for _ in 0..200 {
        let (mut gradient, mut information) = ([0.0; 2], [0.0; 3]);
        for (x, count) in &noisy {
            let (p, slope) = p_at(beta, *x);
            let (score, weight) = (
                (count - n * p) * slope / (p * (1.0 - p)),
                n * slope * slope / (p * (1.0 - p)),
            );
            gradient = [gradient[0] + score, gradient[1] + score * x];
            information = [
                information[0] + weight,
                information[1] + weight * x,
                information[2] + weight * x * x,
            ];
        }
        let determinant = information[0] * information[2] - information[1] * information[1];
        // Nothing left to learn from: all levels lie on a plateau.
        if !(determinant.is_finite() && determinant > 1e-12 * information[0] * information[2]) {
            break;
        }
        let step = [
            (information[2] * gradient[0] - information[1] * gradient[1]) / determinant,
            (information[0] * gradient[1] - information[1] * gradient[0]) / determinant,
        ];
        let mut factor = 1.0;
        let next = loop {
            let next = [beta[0] + factor * step[0], beta[1] + factor * step[1]];
            let reached = likelihood(next);
            if reached >= best || factor < 1e-6 {
                best = best.max(reached);
                break next;
            }
            factor /= 2.0;
        };
        let moved = (next[0] - beta[0]).abs() + (next[1] - beta[1]).abs();
        if factor < 1e-6 {
            break;
        }
        beta = next;
        if moved < 1e-10 {
            break;
        }
    }
    let level = ((share / (1.0 - share)).ln() - beta[0]) / beta[1];
    let level = level.exp();
    let last = levels[levels.len() - 1];
    if beta[1] < 0.0 && level <= last {
        level
    } else {
        f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [f64; 6] = [0.0, 0.1, 0.2, 0.4, 0.8, 1.6];

    /// Answers whose shares are a curve's but for rounding: the first so many images are right.
    fn answers(m: f64, k: f64, images: usize) -> Vec<Vec<bool>> {
        let share = |level: f64| 0.1 + 0.8 / (1.0 + (level / m).powf(k));
        let right = |level: &f64| {
            let right = (share(*level) * images as f64).round() as usize;
            (0..images).map(|i| i < right).collect()
        };
        LEVELS.iter().map(right).collect()
    }

    fn of(answers: &[Vec<bool>]) -> Option<Robustness> {
        let measured: Vec<Measured<'_>> = LEVELS
            .iter()
            .zip(answers)
            .map(|(level, right)| Measured { level: *level, right })
            .collect();
        robustness(&measured, 0.1, 0)
    }

    #[test]
    fn a_known_curve_is_found() {
        // Half of 0.9 is 0.45: (level/m)^k = 0.8/0.35 - 1 = 9/7.
        for (m, k) in [(0.3, 2.0), (0.5, 3.0), (0.15, 1.5)] {
            let found = of(&answers(m, k, 100_000)).expect("levels");
            let expected = m * (9.0f64 / 7.0).powf(1.0 / k);
            let half = found.half.value.expect("within the levels");
            assert!((half / expected - 1.0).abs() < 1e-3, "{half} against {expected}");
            let [low, high] = found.half.interval.map(|end| end.expect("within the levels"));
            assert!(low < half && half < high && high / low < 1.1, "{low} {half} {high}");
            assert!((found.clean - 0.9).abs() < 1e-12);
        }
    }

    /// Width of the interval against the spread of the estimate over many independent sets of images.
    #[test]
    fn the_interval_is_as_wide_as_the_estimate_varies() {
        let (m, k, images) = (0.4, 2.5, 400);
        let drawn = |set: u32| -> Vec<Vec<bool>> {
            let at = |(index, level): (usize, &f64)| {
                let mut stream = Stream::new(3, Purpose::Probe, 0, set, index as u32, 0);
                let share = 0.1 + 0.8 / (1.0 + (level / m).powf(k));
                (0..images).map(|_| stream.uniform() < share).collect()
            };
            LEVELS.iter().enumerate().map(at).collect()
        };
        let sets: Vec<Robustness> = (0..60).map(|set| of(&drawn(set)).expect("levels")).collect();
        let halves: Vec<f64> = sets.iter().filter_map(|r| r.half.value).collect();
        assert_eq!(halves.len(), 60);
        let mean = halves.iter().sum::<f64>() / 60.0;
        let spread = (halves.iter().map(|h| (h - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
        let expected = m * (9.0f64 / 7.0).powf(1.0 / k);
        // Five standard errors of the mean.
        assert!(
            (mean - expected).abs() < 5.0 * spread / 60f64.sqrt(),
            "{mean} against {expected}"
        );
        let widths = sets
            .iter()
            .map(|r| r.half.interval[1].expect("end") - r.half.interval[0].expect("end"));
        let width = widths.sum::<f64>() / 60.0;
        // 2 x 1.96 standard deviations; the spread of 60 has a standard error of 9 %, so 30 % is over three of them.
        assert!(
            (width / (3.92 * spread) - 1.0).abs() < 0.3,
            "{width} against {}",
            3.92 * spread
        );
    }

    #[test]
    fn what_lies_beyond_the_levels_is_not_given() {
        let found = of(&answers(10.0, 2.0, 1000)).expect("levels");
        assert_eq!(found.half.value, None);
        assert!(found.area.value.expect("always") > 0.85);
        // At chance already.
        let guessing: Vec<Vec<bool>> = LEVELS.iter().map(|_| (0..1000).map(|i| i < 100).collect()).collect();
        assert_eq!(of(&guessing).expect("levels").half.value, None);
    }

    #[test]
    fn the_area_is_a_mean_accuracy() {
        let right = |share: usize| (0..100).map(|i| i < share).collect::<Vec<bool>>();
        let (a, b, c) = (right(90), right(50), right(10));
        let measured = [
            Measured { level: 1.0, right: &c },
            Measured { level: 0.0, right: &a },
            Measured { level: 0.5, right: &b },
        ];
        let found = robustness(&measured, 0.1, 0).expect("levels");
        assert!((found.area.value.expect("always") - 0.5).abs() < 1e-12);
        assert!(robustness(&measured[..1], 0.1, 0).is_none(), "no level 0");
        assert!(robustness(&measured[1..2], 0.1, 0).is_none(), "only level 0");
    }
}
