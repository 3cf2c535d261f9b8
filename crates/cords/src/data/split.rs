//! Which images are kept and which part each belongs to: by seed, class by class.
//!
//! For a class of n kept images, round(n * fraction) (halves up) go to test and as many by their own fraction to
//! validation; training keeps the rest and must not be left empty. Official parts of the source stay what they are.

use super::prepare::Limit;
use super::source::{Entry, Part};
use super::{DataError, Splits};
use crate::rng::{Purpose, Stream};

/// The kept images (indices into the source, ascending) and their parts (indices into the kept images, ascending).
pub(crate) struct Choice {
    pub(crate) kept: Vec<usize>,
    pub(crate) splits: Splits,
}

/// Divides the images of a source. Every class and part has its own random order, keyed by (seed, class, part); a limit
/// keeps the first images of that order, so a smaller limit keeps a subset of what a larger one keeps.
pub(crate) fn choose(
    entries: &[Entry],
    classes: &[String],
    limit: Option<Limit>,
    validation_fraction: f64,
    test_fraction: f64,
    seed: u64,
) -> Result<Choice, DataError> {
    let has = |part| entries.iter().any(|entry| entry.part == part);
    let test_fraction = if has(Part::Test) { 0.0 } else { test_fraction };
    let validation_fraction = if has(Part::Validation) {
        0.0
    } else {
        validation_fraction
    };
    let mut assigned: Vec<(usize, Part)> = Vec::new();
    for part in [Part::Train, Part::Validation, Part::Test] {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes.len()];
        for (i, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.part == part) {
            members[entry.label as usize].push(i);
        }
        let keep = kept_per_class(&members, limit);
        for (class, (members, keep)) in members.iter().zip(keep).enumerate() {
            let mut stream = Stream::new(seed, Purpose::Split, class as u64, part as u32, 0, 0);
            let order = stream.permutation(members.len());
            let kept: Vec<usize> = order[..keep].iter().map(|at| members[*at as usize]).collect();
            let (test, validation) = match part {
                Part::Train => (share(keep, test_fraction), share(keep, validation_fraction)),
                Part::Validation | Part::Test => (0, 0),
            };
            if part == Part::Train && test + validation >= keep {
                return Err(DataError::TooFewImages {
                    class: classes[class].clone(),
                    images: keep,
                    taken: test + validation,
                });
            }
            assigned.extend(kept.iter().enumerate().map(|(rank, &i)| match rank {
                _ if rank < test => (i, Part::Test),
                _ if rank < test + validation => (i, Part::Validation),
                _ => (i, part),
            }));
        }
    }
    assigned.sort_unstable_by_key(|(i, _)| *i);
    let of = |part: Part| {
        let members = assigned.iter().enumerate().filter(move |(_, (_, p))| *p == part);
        members.map(|(at, _)| at as u32).collect()
    };
    Ok(Choice {
        splits: Splits {
            train: of(Part::Train),
            validation: of(Part::Validation),
            test: of(Part::Test),
        },
        kept: assigned.iter().map(|(i, _)| *i).collect(),
    })
}

fn share(n: usize, fraction: f64) -> usize {
    (n as f64 * fraction + 0.5).floor() as usize
}

/// How many images of every class a limit keeps. A total is divided in proportion to the class sizes: whole parts
/// first, the rest by largest remainder, the earlier class where remainders are equal.
fn kept_per_class(members: &[Vec<usize>], limit: Option<Limit>) -> Vec<usize> {
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let total: usize = sizes.iter().sum();
    match limit {
        None => sizes,
        Some(Limit::PerClass(n)) => sizes.iter().map(|size| (*size).min(n)).collect(),
        Some(Limit::Total(n)) if n >= total => sizes,
        Some(Limit::Total(n)) => {
            let mut keep: Vec<usize> = sizes
                .iter()
                .map(|size| (*size as u128 * n as u128 / total as u128) as usize)
                .collect();
            let mut order: Vec<usize> = (0..sizes.len()).collect();
            order.sort_by_key(|&class| std::cmp::Reverse(sizes[class] as u128 * n as u128 % total as u128));
            let rest = n - keep.iter().sum::<usize>();
            for &class in order.iter().take(rest) {
                keep[class] += 1;
            }
            keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(sizes: &[usize], part: Part) -> Vec<Entry> {
        let labels = sizes
            .iter()
            .enumerate()
            .flat_map(|(class, n)| std::iter::repeat_n(class as u32, *n));
        labels.map(|label| Entry { label, part }).collect()
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn counts_are_rounded_class_by_class() {
        let entries = entries(&[10, 7, 25], Part::Train);
        let choice = choose(&entries, &names(3), None, 0.1, 0.2, 1).expect("enough images");
        let count = |split: &[u32], class| {
            split
                .iter()
                .filter(|i| entries[choice.kept[**i as usize]].label == class)
                .count()
        };
        // test: round(2.0, 1.4, 5.0); validation: round(1.0, 0.7, 2.5).
        assert_eq!([0, 1, 2].map(|c| count(&choice.splits.test, c)), [2, 1, 5]);
        assert_eq!([0, 1, 2].map(|c| count(&choice.splits.validation, c)), [1, 1, 3]);
        assert_eq!([0, 1, 2].map(|c| count(&choice.splits.train, c)), [7, 5, 17]);
    }

    #[test]
    fn official_test_part_stays_whole_and_validation_comes_from_train() {
        let mut all = entries(&[20, 20], Part::Train);
        all.extend(entries(&[5, 5], Part::Test));
        let choice = choose(&all, &names(2), None, 0.1, 0.5, 1).expect("enough images");
        assert_eq!(choice.splits.test, (40..50).collect::<Vec<_>>());
        assert_eq!(choice.splits.validation.len(), 4);
        assert!(choice.splits.validation.iter().all(|i| *i < 40));
    }

    #[test]
    fn smaller_limit_keeps_a_subset() {
        let entries = entries(&[30, 50], Part::Train);
        let kept = |limit, seed| {
            choose(&entries, &names(2), Some(limit), 0.1, 0.2, seed)
                .expect("enough images")
                .kept
        };
        let (small, large) = (kept(Limit::PerClass(10), 3), kept(Limit::PerClass(20), 3));
        assert_eq!((small.len(), large.len()), (20, 40));
        assert!(small.iter().all(|i| large.contains(i)));
        assert_ne!(kept(Limit::PerClass(10), 4), small);
        // 16 of 80 in proportion 30 : 50 is 6 : 10; 17 is 6.375 : 10.625, the larger remainder takes the rest.
        let split_at = |kept: &[usize]| kept.iter().filter(|i| **i < 30).count();
        assert_eq!(split_at(&kept(Limit::Total(16), 3)), 6);
        assert_eq!(split_at(&kept(Limit::Total(17), 3)), 6);
        assert_eq!(kept(Limit::Total(17), 3).len(), 17);
    }

    #[test]
    fn training_is_never_left_empty() {
        let result = choose(&entries(&[10, 1], Part::Train), &names(2), None, 0.0, 0.5, 1);
        assert!(matches!(
            result,
            Err(DataError::TooFewImages {
                images: 1,
                taken: 1,
                ..
            })
        ));
    }
}
