//! Scores over neurons and splits, as Brain-Score aggregates them, and control comparisons paired by neuron.

use super::fit::Correlations;
use super::scores::{mean_and_deviation, median};

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
    /// r^2 / ceiling: Brain-Score since version 4.
    pub ceiled: Option<f64>,
    /// (r / ceiling)^2: Brain-Score until version 3.
    pub ceiled_squared: Option<f64>,
    /// Mean over neurons of r_n^2 / ceiling_n, of neurons whose r_n and ceiling_n are positive 0 where r_n is not: explained
    /// variance of what can be explained.
    pub explained: Option<f64>,
}

/// One neuron in one condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeuronScore {
    /// Mean over splits of Pearson's r.
    pub r: Option<f64>,
    /// Its standard deviation over splits, divided by the root of their number.
    pub error: Option<f64>,
    /// Mean over halvings of the reliability.
    pub ceiling: Option<f64>,
    /// r^2 / ceiling where both are positive, 0 where r is not.
    pub explained: Option<f64>,
}

/// Reliabilities `[neuron][halving]`.
pub type Reliabilities = [Vec<Option<f64>>];

/// Scores of each neuron.
pub fn neuron_scores(r: &Correlations, reliability: Option<&Reliabilities>) -> Vec<NeuronScore> {
    let neurons = r.first().map_or(0, Vec::len);
    (0..neurons)
        .map(|n| {
            let own = mean_and_deviation(r.iter().map(|split| split[n]));
            let ceiling = reliability
                .and_then(|all| mean_and_deviation(all[n].iter().flatten().copied()))
                .map(|(mean, _)| mean);
            let explained = match (own, ceiling) {
                (Some((r, _)), Some(ceiling)) if ceiling > 0.0 => Some(r.max(0.0).powi(2) / ceiling),
                _ => None,
            };
            NeuronScore {
                r: own.map(|(mean, _)| mean),
                error: own.map(|(_, deviation)| deviation / (r.len() as f64).sqrt()),
                ceiling,
                explained,
            }
        })
        .collect()
}

/// Scores of the neurons `group`.
pub fn summarise(r: &Correlations, reliability: Option<&Reliabilities>, group: &[usize]) -> Summary {
    let medians = r.iter().filter_map(|split| median(group.iter().map(|n| split[*n])));
    let score = mean_and_deviation(medians);
    let halvings = reliability.map_or(0, |all| all.first().map_or(0, Vec::len));
    let ceilings = (0..halvings).filter_map(|h| {
        let all = reliability?;
        median(group.iter().filter_map(|n| all[*n][h]))
    });
    let ceiling = mean_and_deviation(ceilings);
    let ceiled = |of: fn(f64, f64) -> f64| match (score, ceiling) {
        (Some((r, _)), Some((ceiling, _))) if ceiling > 0.0 => Some(of(r, ceiling)),
        _ => None,
    };
    let each = neuron_scores(r, reliability);
    let explained = mean_and_deviation(group.iter().filter_map(|n| each[*n].explained));
    Summary {
        neurons: group.len(),
        r: score.map(|(mean, _)| mean),
        error: score.map(|(_, deviation)| deviation / (r.len() as f64).sqrt()),
        ceiling: ceiling.map(|(mean, _)| mean),
        ceiling_error: ceiling.map(|(_, deviation)| deviation / (halvings as f64).sqrt()),
        ceiled: ceiled(|r, ceiling| r * r / ceiling),
        ceiled_squared: ceiled(|r, ceiling| (r / ceiling).powi(2)),
        explained: explained.map(|(mean, _)| mean),
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
    let (first, second) = (neuron_scores(first, None), neuron_scores(second, None));
    let differences: Vec<f64> = group
        .iter()
        .filter_map(|n| Some(first[*n].r? - second[*n].r?))
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
