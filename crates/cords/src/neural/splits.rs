//! Divisions of stimuli into training and test sets: index for index those of scikit-learn's `ShuffleSplit` and
//! `StratifiedShuffleSplit` with a whole number as `random_state`.

use std::collections::BTreeMap;

use super::NeuralError;
use super::mersenne::RandomState;

/// One division. Positions of stimuli; not every stimulus need be in one of the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Stimuli that regressions are fitted to.
    pub train: Vec<usize>,
    /// Stimuli that they are tested on.
    pub test: Vec<usize>,
}

/// Which divisions to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// Number of divisions of the stimuli.
    pub splits: usize,
    /// Fraction of the stimuli that is fitted to, in (0, 1); all others are tested on.
    pub train: f64,
    /// Seed of NumPy's generator, as scikit-learn's `random_state`.
    pub seed: u32,
}

/// Numbers of training and test stimuli: floor(train * n), and the others.
fn sizes(n: usize, options: &SplitOptions) -> Result<(usize, usize), NeuralError> {
    let wrong = |problem: String| NeuralError::Option {
        option: "splits",
        problem,
    };
    if options.splits == 0 {
        return Err(wrong("at least one is needed".to_owned()));
    }
    if !(options.train > 0.0 && options.train < 1.0) {
        return Err(wrong(format!(
            "the training fraction is {}, and must lie between 0 and 1",
            options.train
        )));
    }
    let train = (options.train * n as f64).floor() as usize;
    if train == 0 || train >= n {
        return Err(wrong(format!(
            "a training fraction of {} leaves one part of {n} empty",
            options.train
        )));
    }
    Ok((train, n - train))
}

/// `ShuffleSplit(n_splits, train_size, random_state)` of `n` stimuli.
///
/// # Errors
/// [`NeuralError::Option`] where a part would be empty.
pub fn shuffle_splits(n: usize, options: &SplitOptions) -> Result<Vec<Split>, NeuralError> {
    let (train, test) = sizes(n, options)?;
    let mut random = RandomState::new(options.seed);
    Ok((0..options.splits)
        .map(|_| {
            let order = random.permutation((0..n).collect());
            Split {
                test: order[..test].to_vec(),
                train: order[test..test + train].to_vec(),
            }
        })
        .collect())
}

/// `StratifiedShuffleSplit(n_splits, train_size, random_state)` of stimuli of these classes: each part has them in
/// about the proportion of the whole. Classes are taken in the order that their names sort in.
///
/// # Errors
/// [`NeuralError::Option`] where a part would be empty or smaller than the number of classes, or a class has a single
/// stimulus.
pub fn stratified_splits(classes: &[String], options: &SplitOptions) -> Result<Vec<Split>, NeuralError> {
    let (train, test) = sizes(classes.len(), options)?;
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (stimulus, class) in classes.iter().enumerate() {
        members.entry(class).or_default().push(stimulus);
    }
    let wrong = |problem: String| NeuralError::Option {
        option: "splits",
        problem,
    };
    if let Some((class, _)) = members.iter().find(|(_, stimuli)| stimuli.len() < 2) {
        return Err(wrong(format!(
            "class `{class}` has one stimulus, which cannot be in both parts; use splits that are not stratified"
        )));
    }
    if train.min(test) < members.len() {
        return Err(wrong(format!(
            "{train} training and {test} test stimuli are too few for {} classes",
            members.len()
        )));
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let counts: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut random = RandomState::new(options.seed);
    let mut splits = Vec::with_capacity(options.splits);
    for _ in 0..options.splits {
        let in_train = apportion(&counts, train, &mut random);
        let left: Vec<usize> = counts.iter().zip(&in_train).map(|(all, taken)| all - taken).collect();
        let in_test = apportion(&left, test, &mut random);
        let mut split = Split {
            train: Vec::with_capacity(train),
            test: Vec::with_capacity(test),
        };
        for (stimuli, (train, test)) in members.iter().zip(in_train.iter().zip(&in_test)) {
            let order = random.permutation((0..stimuli.len()).collect());
            split.train.extend(order[..*train].iter().map(|i| stimuli[*i]));
            split
                .test
                .extend(order[*train..train + test].iter().map(|i| stimuli[*i]));
        }
        split.train = random.permutation(split.train);
        split.test = random.permutation(split.test);
        splits.push(split);
    }
    Ok(splits)
}

/// How many of `draws` fall to each class: its share rounded down, and the rest to the largest remainders, where equal
/// ones are drawn among.
fn apportion(counts: &[usize], draws: usize, random: &mut RandomState) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    // In this order of operations: remainders are compared for equality.
    let shares: Vec<f64> = counts
        .iter()
        .map(|count| *count as f64 / total as f64 * draws as f64)
        .collect();
    let mut taken: Vec<usize> = shares.iter().map(|share| share.floor() as usize).collect();
    let mut missing = draws.saturating_sub(taken.iter().sum());
    let remainders: Vec<f64> = shares.iter().map(|share| share - share.floor()).collect();
    let mut values = remainders.clone();
    values.sort_by(|a, b| b.total_cmp(a));
    values.dedup();
    for value in values {
        if missing == 0 {
            break;
        }
        let equal: Vec<usize> = (0..counts.len()).filter(|i| remainders[*i] == value).collect();
        let add = equal.len().min(missing);
        for class in random.choice(&equal, add) {
            taken[class] += 1;
        }
        missing -= add;
    }
    taken
}
