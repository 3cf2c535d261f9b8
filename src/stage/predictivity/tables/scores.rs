//! Scores of regions: at all times, and where each feature set predicts best.

use cords::neural::Summary;

use super::super::scoring::{Cell, Scored};
use super::{BinKeys, SourceKeys, summary_of};
use dynvis_runner::table::Row;

/// What is said of a group of neurons.
#[derive(Row)]
struct OfNeurons {
    /// Pearson's r on test images: median over neurons, mean over splits
    #[column(absolute = 1e-9, relative = 1e-9)]
    r: Option<f64>,
    /// Standard deviation of that median over splits / root of their number
    #[column(absolute = 1e-9, relative = 1e-9)]
    error: Option<f64>,
    /// Split-half reliability (Spearman-Brown): median over neurons, mean over halvings
    #[column(absolute = 1e-9, relative = 1e-9)]
    ceiling: Option<f64>,
    /// Standard deviation of that median over halvings / root of their number
    #[column(absolute = 1e-9, relative = 1e-9)]
    ceiling_error: Option<f64>,
    /// r^2 / ceiling (Brain-Score since version 4); none where the ceiling is below 0.1, which noise alone decides
    #[column(absolute = 1e-9, relative = 1e-9)]
    r2_over_ceiling: Option<f64>,
    /// (r / ceiling)^2 (Brain-Score until version 3); none where the ceiling is below 0.1, which noise alone decides
    #[column(absolute = 1e-9, relative = 1e-9)]
    r_over_ceiling_squared: Option<f64>,
    /// Mean of r^2 / ceiling, 0 where r is negative, over neurons whose ceiling is at least 0.1
    #[column(absolute = 1e-9, relative = 1e-9)]
    explained: Option<f64>,
    /// Fraction of explainable variance explained, 1 - (MSE - noise) / (total - noise variance) of single
    /// presentations: mean over neurons of whose variance at least 15 % can be explained
    #[column(absolute = 1e-9, relative = 1e-9)]
    feve: Option<f64>,
    /// Number of those neurons
    feve_neurons: Option<usize>,
    /// Number of neurons
    neurons: usize,
}

impl From<Summary> for OfNeurons {
    fn from(summary: Summary) -> Self {
        Self {
            r: summary.r,
            error: summary.error,
            ceiling: summary.ceiling,
            ceiling_error: summary.ceiling_error,
            r2_over_ceiling: summary.ceiled,
            r_over_ceiling_squared: summary.ceiled_squared,
            explained: summary.explained,
            feve: summary.feve,
            feve_neurons: summary.feve_neurons,
            neurons: summary.neurons,
        }
    }
}

/// Where a feature set predicts a region best.
pub(super) struct Best<'a> {
    region: &'a str,
    pub(super) group: &'a [usize],
    pub(super) cell: &'a Cell,
    summary: Summary,
}

/// The cell of each feature set that predicts a region best, in order of regions and feature sets.
pub(super) fn best(scored: &Scored) -> Vec<Best<'_>> {
    let mut found = Vec::new();
    for (region, group) in &scored.regions {
        for source in 0..scored.labels.len() {
            let cells = scored.cells.iter().filter(|cell| cell.source == source);
            let scores = cells.map(|cell| (cell, summary_of(scored, cell, group)));
            // The first of equal ones.
            let best = scores.reduce(|best, next| if next.1.r > best.1.r { next } else { best });
            found.extend(best.map(|(cell, summary)| Best {
                region,
                group,
                cell,
                summary,
            }));
        }
    }
    found
}

/// Each feature set at the model time and time bin where it predicts a region best, chosen by the same r
#[derive(Row)]
#[table(name = "summary")]
pub(in crate::stage::predictivity) struct BestScore<'a> {
    /// Brain region
    #[column(key)]
    region: &'a str,
    #[column(flatten)]
    source: SourceKeys,
    /// Model time after image onset
    #[column(unit = "ms")]
    model_time: f64,
    /// Start of the time bin after stimulus onset
    #[column(unit = "ms")]
    bin_start: f64,
    /// End of the time bin
    #[column(unit = "ms")]
    bin_end: f64,
    #[column(flatten)]
    of: OfNeurons,
}

impl<'a> BestScore<'a> {
    pub(in crate::stage::predictivity) fn rows(scored: &'a Scored) -> impl Iterator<Item = Self> {
        best(scored).into_iter().map(|best| {
            let BinKeys { bin_start, bin_end } = scored.bin(best.cell.bin);
            BestScore {
                region: best.region,
                source: scored.source(best.cell.source),
                model_time: best.cell.model_ms,
                bin_start,
                bin_end,
                of: best.summary.into(),
            }
        })
    }
}

/// Scores by area, model time, neural time and region
#[derive(Row)]
#[table(name = "scores")]
pub(in crate::stage::predictivity) struct Score<'a> {
    #[column(flatten)]
    source: SourceKeys,
    /// Model time after image onset
    #[column(key, unit = "ms")]
    model_time: f64,
    /// Latency that the fit was made for; none where every pair of times has its own
    #[column(key, unit = "ms")]
    latency: Option<f64>,
    #[column(flatten)]
    bin: BinKeys,
    /// Brain region
    #[column(key)]
    region: &'a str,
    #[column(flatten)]
    of: OfNeurons,
}

impl<'a> Score<'a> {
    pub(in crate::stage::predictivity) fn rows(scored: &'a Scored) -> impl Iterator<Item = Self> {
        scored.cells.iter().flat_map(|cell| {
            scored.regions.iter().map(|(region, group)| Score {
                source: scored.source(cell.source),
                model_time: cell.model_ms,
                latency: cell.latency_ms,
                bin: scored.bin(cell.bin),
                region,
                of: summary_of(scored, cell, group).into(),
            })
        })
    }
}
