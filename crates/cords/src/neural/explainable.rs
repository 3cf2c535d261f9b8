//! Fraction of explainable variance explained (FEVE), from single presentations:
//! 1 - (MSE - noise variance) / (total variance - noise variance) (Cadena et al., PLoS Comput. Biol. 15, e1006897,
//! 2019).

use super::Recordings;
use super::fit::PredictionQuality;
use super::splits::Split;

/// Least share of a neuron's variance that must be explainable for it to enter means of FEVE: below, the quotient is of
/// noise alone.
pub const LEAST_EXPLAINABLE: f64 = 0.15;

/// Variances of a neuron's responses to the test stimuli of one split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestVariance {
    /// Over all presentations (of n - 1).
    pub total: f64,
    /// Over presentations of a stimulus (of n - 1), mean over the stimuli that were presented more than once: what
    /// nothing predicts that knows the stimulus alone.
    pub noise: f64,
    /// Mean squared distance of presentations from the mean of their stimulus, mean over stimuli.
    pub spread: f64,
}

/// What can be explained of a neuron's variance, and what is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explained {
    /// (total - noise) / total.
    pub explainable: f64,
    /// 1 - (MSE - noise) / (total - noise), MSE being that of predictions for single presentations: 1 for the best
    /// prediction, 0 for that of the mean response, and below for worse. `None` where nothing can be explained.
    pub feve: Option<f64>,
}

/// Variances over the test stimuli of each split, `[split][neuron]`; `None` where no stimulus was presented twice.
pub fn test_variances(recordings: &Recordings, bin: usize, splits: &[Split]) -> Option<Vec<Vec<TestVariance>>> {
    if recordings.repetitions < 2 {
        return None;
    }
    let neurons = 0..recordings.neurons.len();
    let of_split = |split: &Split| -> Vec<TestVariance> {
        neurons
            .clone()
            .map(|neuron| variance(recordings, neuron, bin, &split.test))
            .collect()
    };
    Some(splits.iter().map(of_split).collect())
}

fn variance(recordings: &Recordings, neuron: usize, bin: usize, stimuli: &[usize]) -> TestVariance {
    let (mut all, mut noise, mut spread) = (Vec::new(), Vec::new(), 0.0);
    for stimulus in stimuli {
        let own: Vec<f64> = (0..recordings.repetitions)
            .map(|repetition| recordings.response(*stimulus, repetition, neuron, bin))
            .filter(|response| !response.is_nan())
            .collect();
        let (squares, count) = (squares(&own), own.len() as f64);
        spread += squares / count / stimuli.len() as f64;
        if own.len() > 1 {
            noise.push(squares / (count - 1.0));
        }
        all.extend(own);
    }
    TestVariance {
        total: squares(&all) / (all.len() as f64 - 1.0),
        noise: noise.iter().sum::<f64>() / noise.len() as f64,
        spread,
    }
}

/// Summed squared distances from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// Of one neuron: errors and variances are means over splits, of which the quotient is taken, since that of one split's
/// few stimuli is hardly bounded. `None` where predictions have no scale, or no split has repeated stimuli.
pub fn variance_explained(
    found: &PredictionQuality,
    variances: &[Vec<TestVariance>],
    neuron: usize,
) -> Option<Explained> {
    let errors = found.squared_error.as_ref()?;
    let (mut error, mut total, mut noise) = (0.0, 0.0, 0.0);
    for (errors, variances) in errors.iter().zip(variances) {
        let variance = variances[neuron];
        error += errors[neuron] + variance.spread;
        total += variance.total;
        noise += variance.noise;
    }
    (error.is_finite() && noise.is_finite() && total > 0.0).then(|| Explained {
        explainable: (total - noise) / total,
        feve: (total > noise).then(|| 1.0 - (error - noise) / (total - noise)),
    })
}
