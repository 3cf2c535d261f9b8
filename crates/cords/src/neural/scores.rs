//! Agreement of predictions and responses, and how reliable responses are.

use super::NeuralError;
use super::splits::{SplitOptions, shuffle_splits};

/// Pearson's correlation over the positions where both are finite; `None` where one of them does not vary.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let pairs = || a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite());
    let count = pairs().count() as f64;
    let mean_a = pairs().map(|(a, _)| a).sum::<f64>() / count;
    let mean_b = pairs().map(|(_, b)| b).sum::<f64>() / count;
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    let (mut largest_a, mut largest_b) = (0.0f64, 0.0f64);
    for (a, b) in pairs() {
        let (da, db) = (a - mean_a, b - mean_b);
        aa += da * da;
        bb += db * db;
        ab += da * db;
        largest_a = largest_a.max(a.abs());
        largest_b = largest_b.max(b.abs());
    }
    // The rounding of a constant's mean is no variation.
    let varies = |squares: f64, largest: f64| squares.sqrt() > 1e-13 * largest * count.sqrt();
    (varies(aa, largest_a) && varies(bb, largest_b)).then(|| (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0))
}

/// Reliability of the mean over twice as many repetitions as each of two halves that correlate by `r`: 2 r / (1 + r).
pub fn spearman_brown(r: f64) -> f64 {
    2.0 * r / (1.0 + r)
}

/// The middle value, or the mean of the two middle ones; `None` of nothing. Values that are not numbers are left out.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|v| !v.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let (n, middle) = (values.len(), values.len() / 2);
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

/// Mean and standard deviation (of n, as NumPy's `std`); `None` of nothing. Values that are not numbers are left out.
pub fn mean_and_deviation(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = values.into_iter().filter(|v| !v.is_nan()).collect();
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    Some((mean, variance.sqrt()))
}

/// Mean of the values that are there; NaN of nothing.
pub(super) fn mean_of_present(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values.into_iter().filter(|v| !v.is_nan()) {
        sum += value;
        count += 1.0;
    }
    sum / count
}

/// Split-half reliability of one neuron: its repetitions are halved `options.splits` times, and the halves' means over
/// repetitions are correlated over stimuli and corrected by Spearman and Brown. `responses` is
/// `[stimulus, repetition]`, NaN where a presentation is missing. One value for each halving, `None` where a half does
/// not vary.
///
/// # Errors
/// [`NeuralError::Option`] where there is a single repetition, which has no halves.
pub fn split_half(
    responses: &[f64],
    repetitions: usize,
    options: &SplitOptions,
) -> Result<Vec<Option<f64>>, NeuralError> {
    let halves = shuffle_splits(repetitions, options)?;
    Ok(halves
        .iter()
        .map(|halves| {
            let mean = |half: &[usize]| -> Vec<f64> {
                responses
                    .chunks_exact(repetitions)
                    .map(|stimulus| mean_of_present(half.iter().map(|r| stimulus[*r])))
                    .collect()
            };
            pearson(&mean(&halves.train), &mean(&halves.test)).map(spearman_brown)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_of_what_is_known() {
        let a = [1.0, 2.0, 3.0, 4.0];
        // But for the rounding of two roots and a quotient.
        let is = |found: Option<f64>, expected: f64| (found.expect("both vary") - expected).abs() < 1e-15;
        assert!(is(pearson(&a, &[2.0, 4.0, 6.0, 8.0]), 1.0));
        assert!(is(pearson(&a, &[-1.0, -2.0, -3.0, -4.0]), -1.0));
        // Covariance 1/2 x 4, variances 5/4 and 1 of four values: 2 / (sqrt(5) sqrt(4)).
        let r = pearson(&a, &[0.0, 2.0, 0.0, 2.0]).expect("both vary");
        assert!((r - 2.0 / 20f64.sqrt()).abs() < 1e-15);
        assert_eq!(pearson(&a, &[0.1; 4]), None);
        assert!(is(pearson(&[f64::NAN, 1.0, 2.0], &[5.0, 1.0, 2.0]), 1.0));
        assert!((spearman_brown(0.5) - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, f64::NAN, 1.0]), Some(2.0));
        assert_eq!(median([5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    /// Repetitions that are all the same are perfectly reliable, however they are halved.
    #[test]
    fn equal_repetitions_are_reliable() {
        let responses: Vec<f64> = (0..20).flat_map(|s| [f64::from(s % 7); 6]).collect();
        let options = SplitOptions {
            splits: 10,
            train: 0.5,
            seed: 1,
        };
        let found = split_half(&responses, 6, &options).expect("six repetitions");
        assert_eq!(found.len(), 10);
        assert!(found.iter().all(|r| (r.expect("it varies") - 1.0).abs() < 1e-14));
        assert!(split_half(&responses, 1, &options).is_err());
    }
}
