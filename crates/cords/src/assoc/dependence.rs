//! Which trials depend on one another, and what that leaves of the precision of a share.
//!
//! Trials that show the same image err together, so a thousand trials of ten images say little more about other images
//! than ten do. The variance of a share is therefore summed over all pairs of trials that have an image in common
//! (Fafchamps and Gubert 2007; for one image a trial it is the variance between images), and Wilson's interval is taken
//! at the number of independent answers that would vary as much, with Student's quantile for the number of images.

use crate::statistics::{student, wilson};
use std::collections::BTreeMap;

use super::experiment::Presented;
use super::measure::Score;

/// Trials in sets that show the same images, and which sets have an image in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependence {
    /// The set of every trial.
    set_of: Vec<usize>,
    /// The images of every set, by number.
    images: Vec<Vec<usize>>,
    /// The sets that show an image, by its number; ascending.
    showing: Vec<Vec<usize>>,
}

/// Sums over pairs of dependent values: what a variance is made of.
pub(super) struct Pairs {
    /// Number of values that the sums are of.
    pub(super) count: f64,
    /// Mean number of values that a value shares an image with, itself counted.
    pub(super) mean: f64,
    /// Number of different images that the values' trials show.
    pub(super) images: usize,
}

impl Dependence {
    /// Of trials that each show the images named; one without any is independent of all others.
    pub fn new<'a>(images_of: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
        let mut sets: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let (mut set_of, mut images) = (Vec::new(), Vec::new());
        let mut showing: Vec<Vec<usize>> = Vec::new();
        for shown in images_of {
            let mut own: Vec<usize> = shown
                .iter()
                .map(|image| {
                    *numbers.entry(*image).or_insert_with(|| {
                        showing.push(Vec::new());
                        showing.len() - 1
                    })
                })
                .collect();
            own.sort_unstable();
            own.dedup();
            if own.is_empty() {
                // A number that no image has.
                showing.push(Vec::new());
                own.push(showing.len() - 1);
            }
            let set = *sets.entry(own.clone()).or_insert_with(|| {
                own.iter().for_each(|image| showing[*image].push(images.len()));
                images.push(own);
                images.len() - 1
            });
            set_of.push(set);
        }
        Self {
            set_of,
            images,
            showing,
        }
    }

    /// Of trials by what they show; `by_image` is false for stimuli that are no images, each trial of which stands for
    /// itself.
    pub fn of(presented: &[Presented], by_image: bool) -> Self {
        let shown: Vec<Vec<u32>> = presented
            .iter()
            .map(|p| if by_image { p.trial.images() } else { Vec::new() })
            .collect();
        Self::new(shown.iter().map(Vec::as_slice))
    }

    /// Number of trials, those without images among them.
    pub fn len(&self) -> usize {
        self.set_of.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set_of.is_empty()
    }

    /// Two parts of the trials given, which show no image in common: 0 or 1 for each, by place in `trials`. Parts have
    /// as equal shares of every class as the images allow. None where all trials hang together.
    pub fn halves(&self, trials: &[usize], classes: &[usize]) -> Option<Vec<usize>> {
        let mut root: Vec<usize> = (0..self.images.len()).collect();
        fn find(root: &mut [usize], mut set: usize) -> usize {
            while root[set] != set {
                root[set] = root[root[set]];
                set = root[set];
            }
            set
        }
        let mut used = vec![false; self.images.len()];
        trials.iter().for_each(|trial| used[self.set_of[*trial]] = true);
        for showing in &self.showing {
            let mut showing = showing.iter().copied().filter(|set| used[*set]);
            let Some(first) = showing.next() else { continue };
            for other in showing {
                let (a, b) = (find(&mut root, first), find(&mut root, other));
                root[a.max(b)] = a.min(b);
            }
        }
        // What hangs together, with its trials of each class; the largest first.
        let mut parts: BTreeMap<usize, (Vec<usize>, BTreeMap<usize, usize>)> = BTreeMap::new();
        for (place, trial) in trials.iter().enumerate() {
            let part = parts.entry(find(&mut root, self.set_of[*trial])).or_default();
            part.0.push(place);
            *part.1.entry(classes[place]).or_default() += 1;
        }
        let mut parts: Vec<_> = parts.into_values().collect();
        if parts.len() < 2 {
            return None;
        }
        parts.sort_by_key(|(places, _)| std::cmp::Reverse(places.len()));
        let mut half_of = vec![0; trials.len()];
        let mut held: [(usize, BTreeMap<usize, usize>); 2] = Default::default();
        for (places, of_class) in parts {
            let load = |half: usize| -> (usize, usize) {
                let same = of_class
                    .iter()
                    .map(|(class, count)| count * held[half].1.get(class).copied().unwrap_or(0));
                (same.sum(), held[half].0)
            };
            let half = usize::from(load(1) < load(0));
            held[half].0 += places.len();
            for (class, count) in of_class {
                *held[half].1.entry(class).or_default() += count;
            }
            places.into_iter().for_each(|place| half_of[place] = half);
        }
        Some(half_of)
    }

    /// Sums of products over all pairs of values whose trials share an image; `values` come with their trials, `N` at a
    /// time.
    pub(super) fn pairs<const N: usize>(
        &self,
        values: impl Iterator<Item = (usize, [f64; N])>,
    ) -> (Pairs, [[f64; N]; N]) {
        let mut sums: BTreeMap<usize, (f64, [f64; N])> = BTreeMap::new();
        for (trial, value) in values {
            let (count, sum) = sums.entry(self.set_of[trial]).or_insert((0.0, [0.0; N]));
            *count += 1.0;
            sum.iter_mut().zip(value).for_each(|(sum, value)| *sum += value);
        }
        let mut products = [[0.0; N]; N];
        let (mut count, mut dependent) = (0.0, 0.0);
        let mut images: Vec<usize> = Vec::new();
        let mut sharing: Vec<usize> = Vec::new();
        for (set, (own_count, own)) in &sums {
            images.extend(&self.images[*set]);
            count += own_count;
            sharing.clear();
            self.images[*set]
                .iter()
                .for_each(|image| sharing.extend(&self.showing[*image]));
            // A set that shares several images counts once.
            sharing.sort_unstable();
            sharing.dedup();
            for (other_count, other) in sharing.iter().filter_map(|other| sums.get(other)) {
                dependent += own_count * other_count;
                for (row, a) in products.iter_mut().zip(own) {
                    row.iter_mut().zip(other).for_each(|(sum, b)| *sum += a * b);
                }
            }
        }
        images.sort_unstable();
        images.dedup();
        let pairs = Pairs {
            count,
            mean: dependent / f64::max(count, 1.0),
            images: images.len(),
        };
        (pairs, products)
    }

    /// The score of answers, each with its trial and whether it was right; none where activity has diverged.
    pub fn score(&self, answers: impl IntoIterator<Item = (usize, Option<bool>)>) -> Score {
        self.score_varying(answers, 1.0)
    }

    /// The same where the share varies more than its answers alone tell, by a factor of its variance.
    pub(super) fn score_varying(&self, answers: impl IntoIterator<Item = (usize, Option<bool>)>, factor: f64) -> Score {
        let answers: Vec<(usize, Option<bool>)> = answers.into_iter().collect();
        let finite: Vec<(usize, bool)> = answers
            .iter()
            .filter_map(|(trial, right)| right.map(|right| (*trial, right)))
            .collect();
        let right = finite.iter().filter(|(_, right)| *right).count();
        Score {
            answers: finite.len(),
            right,
            diverged: answers.len() - finite.len(),
            interval: self.interval(&finite, right, factor),
        }
    }

    /// 95 % interval of the share of right answers, over images and trials.
    fn interval(&self, answers: &[(usize, bool)], right: usize, factor: f64) -> [f64; 2] {
        if answers.is_empty() {
            return [0.0, 1.0];
        }
        let share = right as f64 / answers.len() as f64;
        let error = |right: bool| f64::from(u8::from(right)) - share;
        let (pairs, [[sum]]) = self.pairs(answers.iter().map(|(trial, right)| (*trial, [error(*right)])));
        let Pairs { count, mean, images } = pairs;
        // Few errors say nothing about whether images differ. One image more that is always right and one that never is
        // make shares of 0 and 1 count images, and do not show elsewhere.
        let pseudo = (right as f64 + mean) / (count + 2.0 * mean);
        let small = if mean < count { count / (count - mean) } else { 1.0 };
        let offset = (share - pseudo).powi(2) * count * mean;
        let ends = mean * mean * (pseudo * pseudo + (1.0 - pseudo).powi(2));
        let variance = small * (sum.max(0.0) + offset) + ends;
        let inflation = variance / ((count + 2.0 * mean) * pseudo * (1.0 - pseudo));
        wilson(
            share,
            count / (factor * inflation.max(1.0)),
            student(images.saturating_sub(1) as f64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn independent_trials_have_wilsons_interval() {
        let alone: Vec<&[u32]> = vec![&[]; 1000];
        let dependence = Dependence::new(alone);
        let score = dependence.score((0..1000).map(|trial| (trial, Some(trial % 5 != 0))));
        let expected = crate::noise::wilson_interval(800, 1000);
        for (found, expected) in score.interval.into_iter().zip(expected) {
            // Student's quantile at 999 degrees of freedom and two answers more.
            assert!((found - expected).abs() < 2e-4, "{found} for {expected}");
        }
        assert_eq!(Dependence::new([]).score([]).interval, [0.0, 1.0]);
    }

    #[test]
    fn a_thousand_trials_of_one_image_say_nothing_about_others() {
        let images: [&[u32]; 2] = [&[1], &[2]];
        let one = Dependence::new(std::iter::repeat_n(images[0], 1000));
        let score = one.score((0..1000).map(|trial| (trial, Some(true))));
        assert_eq!(score.interval, [0.0, 1.0]);
        // All right on each of 50 images: no more is known than from 50 answers.
        let each: Vec<Vec<u32>> = (0..1000).map(|trial| vec![trial % 50]).collect();
        let fifty = Dependence::new(each.iter().map(Vec::as_slice));
        let low = fifty.score((0..1000).map(|trial| (trial, Some(true)))).interval[0];
        let [expected, _] = crate::noise::wilson_interval(50, 50);
        assert!((low - expected).abs() < 0.01, "{low} for {expected}");
    }

    /// Against the sum over all pairs of trials as it is defined: trials of no image to three, several times the same
    /// ones.
    #[test]
    fn pairs_are_those_of_trials_that_share_an_image() {
        let mut stream = Stream::new(4, Purpose::Probe, 0, 0, 0, 0);
        let shown: Vec<Vec<u32>> = (0..80)
            .map(|trial| (0..trial % 4).map(|_| stream.below(8) as u32).collect())
            .collect();
        let dependence = Dependence::new(shown.iter().map(Vec::as_slice));
        // Not of every trial.
        let values: Vec<(usize, f64)> = (0..80)
            .filter(|trial| trial % 7 != 0)
            .map(|trial| (trial, stream.normal()))
            .collect();
        let (pairs, [[sum]]) = dependence.pairs(values.iter().map(|(trial, value)| (*trial, [*value])));
        let share = |a: usize, b: usize| a == b || shown[a].iter().any(|image| shown[b].contains(image));
        let (mut expected, mut count) = (0.0, 0.0);
        for (a, x) in &values {
            for (_, y) in values.iter().filter(|(b, _)| share(*a, *b)) {
                expected += x * y;
                count += 1.0;
            }
        }
        // Sums of some 3,000 products of order 1 in another order.
        assert!((sum - expected).abs() < 1e-10, "{sum} for {expected}");
        assert_eq!(
            (pairs.count, pairs.mean),
            (values.len() as f64, count / values.len() as f64)
        );
        let alone = values.iter().filter(|(trial, _)| shown[*trial].is_empty()).count();
        assert_eq!(
            pairs.images,
            8 + alone,
            "one that shows nothing counts as an image of its own"
        );
    }

    #[test]
    fn what_has_diverged_is_counted_apart() {
        let alone: Vec<&[u32]> = vec![&[]; 4];
        let dependence = Dependence::new(alone);
        let score = dependence.score([(0, Some(true)), (1, None), (2, Some(false)), (3, None)]);
        assert_eq!((score.answers, score.right, score.diverged), (2, 1, 2));
        assert_eq!(score.accuracy(), Some(0.5));
        let score = dependence.score([(0, None)]);
        assert_eq!((score.accuracy(), score.bounds()), (None, None));
    }

    /// Share of intervals that hold the truth, the probability of a right answer on any image being a draw that is
    /// known.
    fn coverage(images: u32, trials: usize, shown: usize, spread: f64, mean: f64) -> f64 {
        let (mut held, runs) = (0, 400);
        // The truth by a fine sum over a normal effect of each image.
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut truths = Stream::new(9, Purpose::Probe, 0, 0, 0, 0);
        let effect = |draw: f64| mean + spread * draw;
        let truth = (0..200_000).map(|_| logistic(effect(truths.normal()))).sum::<f64>() / 200_000.0;
        for run in 0..runs {
            let mut stream = Stream::new(run, Purpose::Probe, 0, 0, 1, 0);
            let effects: Vec<f64> = (0..images).map(|_| stream.normal()).collect();
            let drawn: Vec<Vec<u32>> = (0..trials)
                .map(|_| (0..shown).map(|_| stream.below(u64::from(images)) as u32).collect())
                .collect();
            let dependence = Dependence::new(drawn.iter().map(Vec::as_slice));
            let answers = drawn.iter().enumerate().map(|(trial, own)| {
                let sum: f64 = own.iter().map(|image| effects[*image as usize]).sum();
                // Images of a trial add up to the same spread.
                let draw = sum / (shown as f64).sqrt();
                (trial, logistic(effect(draw)))
            });
            let answers: Vec<(usize, Option<bool>)> =
                answers.map(|(trial, p)| (trial, Some(stream.uniform() < p))).collect();
            let [low, high] = dependence.score(answers).interval;
            held += usize::from(low <= truth && truth <= high);
        }
        held as f64 / runs as f64
    }

    /// The interval of an accuracy, in simulation: images that differ much, a little and not at all, few and many of
    /// them, one or several a trial, at middle and at high accuracy. The standard deviation of
    /// 400 runs at 95 % is 1.1 %.
    #[test]
    fn intervals_of_accuracies_hold_the_truth_where_trials_share_images() {
        for (images, trials, shown, spread, mean) in [
            (60, 500, 1, 2.0, 0.5),
            (60, 500, 1, 0.0, 0.5),
            (12, 500, 1, 1.0, 0.0),
            (60, 500, 2, 2.0, 1.0),
            (40, 300, 3, 2.0, 0.0),
            (100, 1000, 1, 2.0, 5.0),
            (100, 64, 1, 1.0, 1.0),
        ] {
            let share = coverage(images, trials, shown, spread, mean);
            assert!(
                share >= 0.92,
                "{share} of {images} images, {trials} trials of {shown}, {spread}, {mean}"
            );
        }
    }

    #[test]
    fn halves_have_no_image_in_common() {
        let mut stream = Stream::new(2, Purpose::Probe, 0, 0, 0, 0);
        let drawn: Vec<Vec<u32>> = (0..200).map(|_| vec![stream.below(20) as u32]).collect();
        let dependence = Dependence::new(drawn.iter().map(Vec::as_slice));
        let trials: Vec<usize> = (0..200).collect();
        let classes: Vec<usize> = drawn.iter().map(|own| own[0] as usize % 4).collect();
        let halves = dependence.halves(&trials, &classes).expect("many images");
        let of = |half: usize| -> std::collections::BTreeSet<u32> {
            let own = drawn.iter().zip(&halves).filter(|(_, own)| **own == half);
            own.map(|(images, _)| images[0]).collect()
        };
        assert!(of(0).is_disjoint(&of(1)) && of(0).len() + of(1).len() == 20);
        for class in 0..4 {
            let count = |half: usize| {
                classes
                    .iter()
                    .zip(&halves)
                    .filter(|(c, h)| (**c, **h) == (class, half))
                    .count()
            };
            assert!(
                count(0) > 10 && count(1) > 10,
                "class {class}: {} and {}",
                count(0),
                count(1)
            );
        }
        // A chain of pairs hangs together.
        let chain: Vec<Vec<u32>> = (0..10).map(|i| vec![i, i + 1]).collect();
        let chain = Dependence::new(chain.iter().map(Vec::as_slice));
        assert_eq!(chain.halves(&[0, 1, 2], &[0, 1, 0]), None);
        // Without its link it does not.
        assert_eq!(chain.halves(&[0, 2], &[0, 1]), Some(vec![0, 1]));
    }
}
