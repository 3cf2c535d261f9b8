//! Scores over neurons and splits, as Brain-Score aggregates them, and control comparisons paired by neuron.

use super::explainable::{Explained, LEAST_EXPLAINABLE, TestVariance, variance_explained};
use super::fit::{Correlations, PredictionQuality};
use super::scores::{mean_and_deviation, median};

/// Least reliability that a score is divided by: below, the quotient tells of the noise in the reliability and has no
/// bound.
pub const LEAST_CEILING: f64 = 0.1;

/// Scores of a group of neurons in one condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Neurons of the group.
    pub neurons: usize,
    /// Median over neurons of Pearson's r, mean over splits.
    pub r: Option<f64>,
    /// Standard deviation of that median over splits, divided by the root of their number.
    pub error: Option<f64>,
    /// Median over neurons of the split-half reliability, mean over halvings: an estimate of the r^2 that the best
    /// model could reach.
    pub ceiling: Option<f64>,
    /// Standard deviation of that median over halvings, divided by the root of their number.
    pub ceiling_error: Option<f64>,
    /// r^2 / ceiling: Brain-Score since version 4. `None` where the ceiling is below [`LEAST_CEILING`].
    pub ceiled: Option<f64>,
    /// (r / ceiling)^2: Brain-Score until version 3. `None` where the ceiling is below [`LEAST_CEILING`].
    pub ceiled_squared: Option<f64>,
    /// Mean of r_n^2 / ceiling_n, 0 where r_n is negative, over neurons whose ceiling_n is at least [`LEAST_CEILING`]:
    /// explained variance of what can be explained.
    pub explained: Option<f64>,
    /// Mean over neurons of the fraction of explainable variance explained (see [`Explained::feve`]), of neurons of
    /// whose variance at least [`LEAST_EXPLAINABLE`] can be explained.
    pub feve: Option<f64>,
    /// Number of those neurons; `None` where it cannot be said of any.
    pub feve_neurons: Option<usize>,
}

/// One neuron in one condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeuronScore {
    /// Mean over splits of Pearson's r.
    pub r: Option<f64>,
    /// Standard deviation of r over splits, divided by the root of their number.
    pub error: Option<f64>,
    /// Mean over halvings of the reliability.
    pub ceiling: Option<f64>,
    /// r^2 / ceiling, 0 where r is negative; `None` where the ceiling is below [`LEAST_CEILING`].
    pub explained: Option<f64>,
    /// Explained and explainable variance, from single presentations.
    pub variance: Option<Explained>,
}

/// Split-half reliability of each neuron in each halving, `[neuron][halving]`.
pub type Reliabilities = [Vec<Option<f64>>];

/// How far recordings can be predicted at all; nothing of it with a single repetition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// Split-half reliabilities of the neurons; none with a single repetition.
    pub reliability: Option<&'a Reliabilities>,
    /// Variances over test stimuli, `[split][neuron]`, of the splits that were fitted.
    pub variances: Option<&'a [Vec<TestVariance>]>,
}

/// Scores of each neuron.
pub fn neuron_scores(found: &PredictionQuality, limits: Limits<'_>) -> Vec<NeuronScore> {
    let r = &found.r;
    let Limits { reliability, variances } = limits;
    let neurons = r.first().map_or(0, Vec::len);
    (0..neurons)
        .map(|n| {
            let own = mean_and_deviation(r.iter().map(|split| split[n]));
            let ceiling = reliability
                .and_then(|all| mean_and_deviation(all[n].iter().flatten().copied()))
                .map(|(mean, _)| mean);
            let explained = match (own, ceiling) {
                (Some((r, _)), Some(ceiling)) if ceiling >= LEAST_CEILING => Some(r.max(0.0).powi(2) / ceiling),
                _ => None,
            };
            NeuronScore {
                r: own.map(|(mean, _)| mean),
                error: own.map(|(_, deviation)| deviation / (r.len() as f64).sqrt()),
                ceiling,
                explained,
                variance: variances.and_then(|variances| variance_explained(found, variances, n)),
            }
        })
        .collect()
}

/// Scores of the neurons `group`.
pub fn summarise(found: &PredictionQuality, limits: Limits<'_>, group: &[usize]) -> Summary {
    let r = &found.r;
    let reliability = limits.reliability;
    let medians = r.iter().filter_map(|split| median(group.iter().map(|n| split[*n])));
    let score = mean_and_deviation(medians);
    let halvings = reliability.map_or(0, |all| all.first().map_or(0, Vec::len));
    let ceilings = (0..halvings).filter_map(|h| {
        let all = reliability?;
        median(group.iter().filter_map(|n| all[*n][h]))
    });
    let ceiling = mean_and_deviation(ceilings);
    let ceiled = |of: fn(f64, f64) -> f64| match (score, ceiling) {
        (Some((r, _)), Some((ceiling, _))) if ceiling >= LEAST_CEILING => Some(of(r, ceiling)),
        _ => None,
    };
    let each = neuron_scores(found, limits);
    let explained = mean_and_deviation(group.iter().filter_map(|n| each[*n].explained));
    let variances: Vec<Explained> = group.iter().filter_map(|n| each[*n].variance).collect();
    let enough = variances
        .iter()
        .filter(|variance| variance.explainable >= LEAST_EXPLAINABLE);
    let feve: Vec<f64> = enough.filter_map(|variance| variance.feve).collect();
    Summary {
        neurons: group.len(),
        r: score.map(|(mean, _)| mean),
        error: score.map(|(_, deviation)| deviation / (r.len() as f64).sqrt()),
        ceiling: ceiling.map(|(mean, _)| mean),
        ceiling_error: ceiling.map(|(_, deviation)| deviation / (halvings as f64).sqrt()),
        ceiled: ceiled(|r, ceiling| r * r / ceiling),
        ceiled_squared: ceiled(|r, ceiling| (r / ceiling).powi(2)),
        explained: explained.map(|(mean, _)| mean),
        feve: mean_and_deviation(feve.iter().copied()).map(|(mean, _)| mean),
        feve_neurons: (!variances.is_empty()).then_some(feve.len()),
    }
}

/// How much better one feature set predicts neurons than another, on the same splits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Neurons with a score by both.
    pub neurons: usize,
    /// Mean over neurons of the difference of their r.
    pub difference: f64,
    /// Standard error of that mean over neurons; `None` of one neuron.
    pub error: Option<f64>,
    /// Share of neurons that the first predicts better.
    pub better: f64,
}

/// Differences of r, first less second, paired by neuron; `None` where no neuron has both.
pub fn paired(first: &Correlations, second: &Correlations, group: &[usize]) -> Option<Paired> {
    let mean = |r: &Correlations, neuron: usize| mean_and_deviation(r.iter().map(|split| split[neuron]));
    let differences: Vec<f64> = group
        .iter()
        .filter_map(|n| Some(mean(first, *n)?.0 - mean(second, *n)?.0))
        .collect();
    let n = differences.len() as f64;
    let (mean, deviation) = mean_and_deviation(differences.iter().copied())?;
    Some(Paired {
        neurons: differences.len(),
        difference: mean,
        error: (differences.len() > 1).then(|| deviation / (n - 1.0).sqrt()),
        better: differences.iter().filter(|d| **d > 0.0).count() as f64 / n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// r of 0.04 by a ceiling of 0.0005 is no score of 6,400.
    #[test]
    fn quotients_of_a_tiny_ceiling_are_blank() {
        let found = PredictionQuality {
            r: vec![vec![0.04, 0.04, 0.5]],
            squared_error: None,
        };
        let reliability = vec![vec![Some(0.0005)], vec![Some(-0.2)], vec![Some(0.5)]];
        let limits = Limits {
            reliability: Some(&reliability),
            variances: None,
        };
        let tiny = summarise(&found, limits, &[0, 1]);
        assert_eq!((tiny.ceiled, tiny.ceiled_squared, tiny.explained), (None, None, None));
        assert_eq!(tiny.r, Some(0.04));
        let all = summarise(&found, limits, &[0, 1, 2]);
        assert_eq!(all.explained, Some(0.5), "of the neuron that can be predicted");
        let reliable = summarise(&found, limits, &[2]);
        assert_eq!((reliable.ceiled, reliable.ceiled_squared), (Some(0.5), Some(1.0)));
        let scores = neuron_scores(&found, limits);
        assert_eq!([0, 1, 2].map(|n: usize| scores[n].explained), [None, None, Some(0.5)]);
    }
}
