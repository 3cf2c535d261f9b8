//! Scores of single neurons.

use cords::neural::{LEAST_EXPLAINABLE, NeuronScore, neuron_scores};

use super::super::params::{NeuronRows, Params};
use super::super::scoring::{Cell, Scored};
use super::scores::best;
use super::{FitKeys, SourceKeys, limits};
use crate::stage::recordings::{ANIMAL, SESSION, known};
use dynvis_runner::table::Row;

/// Scores of single neurons
#[derive(Row)]
#[table(name = "neurons")]
pub(in crate::stage::predictivity) struct OfNeuron<'a> {
    #[column(flatten)]
    source: SourceKeys,
    #[column(flatten)]
    fit: FitKeys,
    /// The stage that gave the neuron
    #[column(key, slot = "recordings")]
    recordings: usize,
    #[column(key, description = ANIMAL)]
    animal: Option<&'a str>,
    #[column(key, description = SESSION)]
    session: Option<&'a str>,
    /// Id of the neuron
    #[column(key)]
    neuron: &'a str,
    /// Brain region
    region: &'a str,
    /// Pearson's r on test images, mean over splits
    #[column(absolute = 1e-9, relative = 1e-9)]
    r: Option<f64>,
    /// Its standard deviation over splits / root of their number
    #[column(absolute = 1e-9, relative = 1e-9)]
    error: Option<f64>,
    /// Split-half reliability (Spearman-Brown), mean over halvings
    #[column(absolute = 1e-9, relative = 1e-9)]
    ceiling: Option<f64>,
    /// r^2 / ceiling, 0 where r is negative; none where the ceiling is below 0.1, which noise alone decides
    #[column(absolute = 1e-9, relative = 1e-9)]
    explained: Option<f64>,
    /// Share of the variance of single presentations that the stimulus explains: 1 - noise / total variance
    #[column(absolute = 1e-9, relative = 1e-9)]
    explainable: Option<f64>,
    /// Fraction of explainable variance explained, 1 - (MSE - noise) / (total - noise variance); none where less than
    /// 15 % can be explained
    #[column(absolute = 1e-9, relative = 1e-9)]
    feve: Option<f64>,
}

impl<'a> OfNeuron<'a> {
    pub(in crate::stage::predictivity) fn rows(params: &Params, scored: &'a Scored) -> Vec<Self> {
        match params.neurons {
            NeuronRows::Best => {
                let best = best(scored).into_iter();
                best.flat_map(|best| Self::of(scored, best.cell, best.group)).collect()
            }
            NeuronRows::All => {
                let everyone: Vec<usize> = (0..scored.recordings.neurons.len()).collect();
                let cells = scored.cells.iter();
                cells.flat_map(|cell| Self::of(scored, cell, &everyone)).collect()
            }
        }
    }

    fn of(scored: &'a Scored, cell: &'a Cell, group: &[usize]) -> impl Iterator<Item = Self> {
        let scores: Vec<NeuronScore> = neuron_scores(&cell.found, limits(scored, cell));
        group.iter().map(move |n| {
            let (neuron, score) = (&scored.recordings.neurons[*n], scores[*n]);
            let explained = score
                .variance
                .filter(|variance| variance.explainable >= LEAST_EXPLAINABLE);
            OfNeuron {
                source: scored.source(cell.source),
                fit: FitKeys::of(scored, cell),
                recordings: scored.origin[*n],
                animal: known(&neuron.animal),
                session: known(&neuron.session),
                neuron: &neuron.id,
                region: &neuron.region,
                r: score.r,
                error: score.error,
                ceiling: score.ceiling,
                explained: score.explained,
                explainable: score.variance.map(|variance| variance.explainable),
                feve: explained.and_then(|variance| variance.feve),
            }
        })
    }
}
