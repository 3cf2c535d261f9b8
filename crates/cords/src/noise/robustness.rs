//! Robustness of a network to noise: the level at which half of its accuracy is left, and the area under accuracy over
//! level.

use rayon::prelude::*;

use crate::rng::{Purpose, Stream};

/// Which images were classified correctly at a level.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// Level of the noise, in the unit of its kind.
    pub level: f64,
    /// Every image, in the same order at every level; none where it diverged.
    pub right: &'a [Option<bool>],
}

/// Where a threshold lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdPosition {
    /// Between the first noisy level and the last.
    Within,
    /// Below the first noisy level: how far below is not known.
    Below,
    /// Beyond the last level.
    Beyond,
    /// There is none: clean accuracy is not above twice chance, or there are answers at fewer than two noisy levels or
    /// at none without noise.
    Nowhere,
}

/// A number with its 95 % interval from resampled images. None where it, or the end of its interval, is not known; a
/// lower end below the first noisy level is 0, an upper end there is that level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// From the images as they are.
    pub value: Option<f64>,
    /// 2.5 and 97.5 % of the resamples.
    pub interval: [Option<f64>; 2],
}

/// Robustness of a network to noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robustness {
    /// Accuracy at level 0; none where all images diverged.
    pub clean: Option<f64>,
    /// Level at which accuracy is half of that.
    pub threshold: Estimate,
    /// Where the threshold lies among the levels, if there is one.
    pub threshold_position: ThresholdPosition,
    /// Area under accuracy over level by the trapezoid rule, over the range of levels: a mean accuracy. None where all
    /// images diverged at a level.
    pub area: Estimate,
    /// Images that diverged at any level. They have no answer there, and accuracy is that of the others.
    pub diverged: usize,
}

/// Resamples of the images.
const RESAMPLES: u64 = 1000;

/// From accuracy at several levels, among them 0, of which `chance` is what guessing gives. The curve
/// p = chance + (p0 - chance)/(1 + (level/m)^k), with p0 the accuracy at level 0, is fitted by maximum likelihood;
/// intervals are percentiles over resampled images, the same in every network of as many images. None without level 0
/// and another one.
pub fn robustness(measured: &[Measured<'_>], chance: f64, seed: u64) -> Option<Robustness> {
    let mut measured = measured.to_vec();
    measured.sort_by(|a, b| a.level.total_cmp(&b.level));
    let (clean, last) = (measured.first()?, measured.last()?);
    let images = clean.right.len();
    if clean.level != 0.0 || last.level <= 0.0 || images == 0 || measured.iter().any(|m| m.right.len() != images) {
        return None;
    }
    let levels: Vec<f64> = measured.iter().map(|m| m.level).collect();
    let counts = |times: &dyn Fn(usize) -> u32| -> Vec<Count> {
        let count = |m: &Measured<'_>| {
            let answers = m
                .right
                .iter()
                .enumerate()
                .filter_map(|(i, right)| Some((times(i), (*right)?)));
            answers.fold(Count::default(), |count, (times, right)| Count {
                right: count.right + if right { f64::from(times) } else { 0.0 },
                of: count.of + f64::from(times),
            })
        };
        measured.iter().map(count).collect()
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
            (threshold(&levels, &counts, chance), area(&levels, &counts))
        })
        .collect();
    // 2.5 and 97.5 %.
    let ends = |mut resampled: Vec<f64>| {
        resampled.sort_by(f64::total_cmp);
        [0.025, 0.975].map(|share| resampled[(share * (resampled.len() - 1) as f64).round() as usize])
    };
    let (thresholds, areas): (Vec<f64>, Vec<f64>) = resampled.into_iter().unzip();
    let found = threshold(&levels, &here, chance);
    let first = levels.iter().copied().find(|level| *level > 0.0);
    let place = match found {
        _ if found.is_nan() => ThresholdPosition::Nowhere,
        0.0 => ThresholdPosition::Below,
        f64::INFINITY => ThresholdPosition::Beyond,
        _ => ThresholdPosition::Within,
    };
    // Resamples without a threshold say nothing of where it is.
    let thresholds: Vec<f64> = thresholds.into_iter().filter(|threshold| !threshold.is_nan()).collect();
    let interval = if place == ThresholdPosition::Nowhere || thresholds.is_empty() {
        [None; 2]
    } else {
        let [low, high] = ends(thresholds);
        let high = if high == 0.0 { first } else { Some(high) };
        [Some(low), high].map(|end| end.filter(|end| end.is_finite()))
    };
    let under = area(&levels, &here);
    let areas: Vec<f64> = areas.into_iter().filter(|area| area.is_finite()).collect();
    let has_diverged = |image: &usize| measured.iter().any(|m| m.right[*image].is_none());
    Some(Robustness {
        clean: here[0].share(),
        threshold: Estimate {
            value: (place == ThresholdPosition::Within).then_some(found),
            interval,
        },
        threshold_position: place,
        area: Estimate {
            value: under.is_finite().then_some(under),
            // A level at which few images have an answer may have none in every resample.
            interval: if under.is_finite() && !areas.is_empty() {
                ends(areas).map(Some)
            } else {
                [None; 2]
            },
        },
        diverged: (0..images).filter(has_diverged).count(),
    })
}

/// Answers at a level, each as often as it was drawn.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    right: f64,
    of: f64,
}

impl Count {
    fn share(self) -> Option<f64> {
        (self.of > 0.0).then_some(self.right / self.of)
    }
}

/// Area under accuracy over ascending levels, over their range; NaN where a level has no answers.
fn area(levels: &[f64], counts: &[Count]) -> f64 {
    let share = |count: &Count| count.right / count.of;
    let pieces = levels.windows(2).zip(counts.windows(2));
    let sum: f64 = pieces
        .map(|(l, c)| (l[1] - l[0]) * (share(&c[0]) + share(&c[1])) / 2.0)
        .sum();
    sum / (levels[levels.len() - 1] - levels[0])
}

/// Level at half of the accuracy at level 0: 0 where that lies below the first noisy level, infinite where it lies
/// beyond the last, NaN where there is none. Levels without answers say nothing.
///
/// With q = 1/(1 + (level/m)^k) the odds of q are linear in log level, so that this is a regression with a link of its
/// own, fitted by Fisher's scoring.
fn threshold(levels: &[f64], counts: &[Count], chance: f64) -> f64 {
    let Some(clean) = counts[0].share() else {
        return f64::NAN;
    };
    let height = clean - chance;
    let share = (clean / 2.0 - chance) / height;
    let noisy: Vec<(f64, Count)> = levels
        .iter()
        .zip(counts)
        .filter(|(level, count)| **level > 0.0 && count.of > 0.0)
        .map(|(level, count)| (level.ln(), *count))
        .collect();
    if !(height > 0.0 && share > 0.0 && share < 1.0) || noisy.len() < 2 {
        return f64::NAN;
    }
    let p_at = |[a, b]: [f64; 2], x: f64| {
        let q = 1.0 / (1.0 + (-(a + b * x)).exp());
        let p = (chance + height * q).clamp(1e-9, 1.0 - 1e-9);
        (p, height * q * (1.0 - q))
    };
    let likelihood = |beta: [f64; 2]| -> f64 {
        let of = |(x, count): &(f64, Count)| {
            let (p, _) = p_at(beta, *x);
            count.right * p.ln() + (count.of - count.right) * (1.0 - p).ln()
        };
        noisy.iter().map(of).sum()
    };
    // From a curve that falls through the middle of the levels.
    let middle = noisy.iter().map(|(x, _)| x).sum::<f64>() / noisy.len() as f64;
    let mut beta = [2.0 * middle, -2.0];
    let mut best = likelihood(beta);
    let mut fitted = false;
    for _ in 0..200 {
        let (mut gradient, mut information) = ([0.0; 2], [0.0; 3]);
        for (x, count) in &noisy {
            let (p, slope) = p_at(beta, *x);
            let (score, weight) = (
                (count.right - count.of * p) * slope / (p * (1.0 - p)),
                count.of * slope * slope / (p * (1.0 - p)),
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
        if factor < 1e-6 {
            break;
        }
        fitted = true;
        let moved = (next[0] - beta[0]).abs() + (next[1] - beta[1]).abs();
        beta = next;
        if moved < 1e-10 {
            break;
        }
    }
    let (first, last) = (noisy[0].0, noisy[noisy.len() - 1].0);
    let level = ((share / (1.0 - share)).ln() - beta[0]) / beta[1];
    let mean = noisy.iter().map(|(_, count)| count.right / count.of).sum::<f64>() / noisy.len() as f64;
    // Accuracy that does not fall over the levels has fallen before them, or will fall beyond.
    let below = if fitted && beta[1] < 0.0 {
        level < first
    } else {
        mean < clean / 2.0
    };
    let beyond = if fitted && beta[1] < 0.0 { level > last } else { !below };
    match (below, beyond) {
        (true, _) => 0.0,
        (_, true) => f64::INFINITY,
        _ => level.exp(),
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
        let answers: Vec<Vec<Option<bool>>> = answers.iter().map(|right| all(right)).collect();
        let measured: Vec<Measured<'_>> = LEVELS
            .iter()
            .zip(&answers)
            .map(|(level, right)| Measured { level: *level, right })
            .collect();
        robustness(&measured, 0.1, 0)
    }

    /// Answers to images none of which diverged.
    fn all(right: &[bool]) -> Vec<Option<bool>> {
        right.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_known_curve_is_found() {
        // Half of 0.9 is 0.45: (level/m)^k = 0.8/0.35 - 1 = 9/7.
        for (m, k) in [(0.3, 2.0), (0.5, 3.0), (0.15, 1.5)] {
            let found = of(&answers(m, k, 100_000)).expect("levels");
            let expected = m * (9.0f64 / 7.0).powf(1.0 / k);
            let threshold = found.threshold.value.expect("within the levels");
            assert!(
                (threshold / expected - 1.0).abs() < 1e-3,
                "{threshold} against {expected}"
            );
            let [low, high] = found.threshold.interval.map(|end| end.expect("within the levels"));
            assert!(
                low < threshold && threshold < high && high / low < 1.1,
                "{low} {threshold} {high}"
            );
            assert!((found.clean.expect("answers") - 0.9).abs() < 1e-12);
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
        let thresholds: Vec<f64> = sets.iter().filter_map(|r| r.threshold.value).collect();
        assert_eq!(thresholds.len(), 60);
        let mean = thresholds.iter().sum::<f64>() / 60.0;
        let spread = (thresholds.iter().map(|h| (h - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
        let expected = m * (9.0f64 / 7.0).powf(1.0 / k);
        // Five standard errors of the mean.
        assert!(
            (mean - expected).abs() < 5.0 * spread / 60f64.sqrt(),
            "{mean} against {expected}"
        );
        let widths = sets
            .iter()
            .map(|r| r.threshold.interval[1].expect("end") - r.threshold.interval[0].expect("end"));
        let width = widths.sum::<f64>() / 60.0;
        // 2 x 1.96 standard deviations; the spread of 60 has a standard error of 9 %, so 30 % is over three of them.
        assert!(
            (width / (3.92 * spread) - 1.0).abs() < 0.3,
            "{width} against {}",
            3.92 * spread
        );
    }

    /// Of 95 % intervals from sets of images that are drawn anew, about 95 % hold the curve's own threshold and area.
    /// 200 sets have a standard error of 1.5 %; percentiles of resamples are known to hold somewhat less than they say.
    #[test]
    fn intervals_of_thresholds_and_areas_hold_the_truth_as_often_as_they_say() {
        const SETS: u32 = 200;
        for (m, k, images) in [(0.4, 2.5, 100), (0.25, 1.5, 400)] {
            let share = |level: f64| 0.1 + 0.8 / (1.0 + (level / m).powf(k));
            let threshold = m * (9.0f64 / 7.0).powf(1.0 / k);
            let pieces = LEVELS.windows(2);
            let area: f64 = pieces
                .map(|l| (l[1] - l[0]) * (share(l[0]) + share(l[1])) / 2.0)
                .sum::<f64>()
                / LEVELS[5];
            let holds = |interval: [Option<f64>; 2], truth: f64| {
                interval[0].is_some_and(|low| low <= truth) && interval[1].is_none_or(|high| truth <= high)
            };
            let held = (0..SETS).map(|set| {
                // An image that is wrong under little noise is wrong under more, as images are.
                let mut stream = Stream::new(5, Purpose::Probe, 0, set, 0, 0);
                let drawn: Vec<f64> = (0..images).map(|_| stream.uniform()).collect();
                let answers: Vec<Vec<bool>> = LEVELS
                    .iter()
                    .map(|level| drawn.iter().map(|drawn| *drawn < share(*level)).collect())
                    .collect();
                let found = of(&answers).expect("levels");
                [
                    holds(found.threshold.interval, threshold),
                    holds(found.area.interval, area),
                ]
            });
            let held = held.fold([0u32; 2], |sum, held| {
                [sum[0] + u32::from(held[0]), sum[1] + u32::from(held[1])]
            });
            for (what, held) in ["threshold", "area"].iter().zip(held) {
                let share = f64::from(held) / f64::from(SETS);
                assert!((0.90..=0.99).contains(&share), "{what} at {m}, {k}: {share}");
            }
        }
    }

    #[test]
    fn images_that_diverged_have_no_answer_at_a_level() {
        let right = answers(0.4, 2.5, 100);
        let mut answers: Vec<Vec<Option<bool>>> = right.iter().map(|right| all(right)).collect();
        let of = |answers: &[Vec<Option<bool>>]| {
            let levels = LEVELS.iter().zip(answers);
            let measured: Vec<Measured<'_>> = levels.map(|(level, right)| Measured { level: *level, right }).collect();
            robustness(&measured, 0.1, 0).expect("levels")
        };
        let whole = of(&answers);
        assert_eq!(whole.diverged, 0);
        // Half of all images diverge at the strongest noise, as many right ones as wrong ones: the curve stays.
        for image in (0..100).step_by(2) {
            answers[5][image] = None;
        }
        let some = of(&answers);
        assert_eq!(some.diverged, 50);
        let [a, b] = [whole, some].map(|r| r.threshold.value.expect("within the levels"));
        assert!((a / b - 1.0).abs() < 0.05, "{a} against {b}");
        // All of them: that level says nothing, and there is no accuracy over all levels.
        answers[5].fill(None);
        let lost = of(&answers);
        assert_eq!(
            (lost.diverged, lost.area.value, lost.area.interval),
            (100, None, [None; 2])
        );
        assert!(lost.threshold.value.is_some());
        answers[0].fill(None);
        let nothing = of(&answers);
        assert_eq!(
            (nothing.clean, nothing.threshold.value, nothing.threshold_position),
            (None, None, ThresholdPosition::Nowhere)
        );
    }

    #[test]
    fn what_lies_beyond_the_levels_or_before_them_is_said_and_not_given() {
        let found = of(&answers(10.0, 2.0, 1000)).expect("levels");
        assert_eq!(
            (found.threshold.value, found.threshold_position),
            (None, ThresholdPosition::Beyond)
        );
        assert!(found.area.value.expect("always") > 0.85);
        let right = |counts: [usize; 6]| -> Robustness {
            let answers: Vec<Vec<bool>> = counts.iter().map(|n| (0..200).map(|i| i < *n).collect()).collect();
            of(&answers).expect("levels")
        };
        // At chance from the first level on, exactly, nearly, and rising by chance.
        for counts in [
            [180, 20, 20, 20, 20, 20],
            [179, 29, 18, 22, 17, 20],
            [179, 15, 18, 22, 26, 29],
        ] {
            let found = right(counts);
            assert_eq!(
                (found.threshold.value, found.threshold_position),
                (None, ThresholdPosition::Below),
                "{counts:?}"
            );
            assert_eq!(found.threshold.interval, [Some(0.0), Some(0.1)], "{counts:?}");
        }
        // Unharmed.
        assert_eq!(
            right([180, 181, 179, 180, 182, 180]).threshold_position,
            ThresholdPosition::Beyond
        );
        // Guessing all along.
        let guessing = right([20; 6]);
        assert_eq!(
            (guessing.threshold.value, guessing.threshold_position),
            (None, ThresholdPosition::Nowhere)
        );
        assert_eq!(guessing.threshold.interval, [None; 2]);
    }

    #[test]
    fn the_area_is_a_mean_accuracy() {
        let right = |share: usize| (0..100).map(|i| Some(i < share)).collect::<Vec<Option<bool>>>();
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
