//! Latencies of regions behind the model, and their onsets.

use cords::neural::{LEAST_CEILING, LatencyEstimate, estimate_latency, half_rise, mean_and_deviation};

use super::super::scoring::{Cell, Scored};
use super::{SourceKeys, summary_of};
use dynvis_runner::table::Row;

/// A feature set's scores of a region by latency, over the time bins that all latencies reach.
pub(in crate::stage::predictivity) struct ByLatency {
    source: usize,
    /// Place among the regions.
    region: usize,
    bins: usize,
    /// Median over neurons, mean over splits and bins.
    r: Vec<f64>,
    /// None where no neuron has a score at every latency.
    estimate: Option<LatencyEstimate>,
}

/// Of all feature sets and regions that have two latencies to compare.
pub(in crate::stage::predictivity) fn by_latency(scored: &Scored, seed: u64) -> Vec<ByLatency> {
    let regions = 0..scored.regions.len();
    (0..scored.labels.len())
        .flat_map(|source| regions.clone().map(move |region| (source, region)))
        .filter_map(|(source, region)| compared(scored, source, region, seed))
        .collect()
}

fn compared(scored: &Scored, source: usize, region: usize, seed: u64) -> Option<ByLatency> {
    let (_, group) = &scored.regions[region];
    let bins = 0..scored.recordings.bins_ms.len();
    // Of each latency and bin the cell and its r.
    let cells: Vec<Vec<Option<(&Cell, f64)>>> = scored
        .latencies_ms
        .iter()
        .map(|latency| {
            let scores = |bin| {
                let cell = cell_at(scored, source, bin, *latency)?;
                Some((cell, summary_of(scored, cell, group).r?))
            };
            bins.clone().map(scores).collect()
        })
        .collect();
    let reached: Vec<usize> = bins
        .filter(|bin| cells.iter().all(|of_bins| of_bins[*bin].is_some()))
        .collect();
    if reached.is_empty() || cells.len() < 2 {
        return None;
    }
    let own: Vec<Vec<(&Cell, f64)>> = cells
        .iter()
        .map(|of_bins| reached.iter().filter_map(|bin| of_bins[*bin]).collect())
        .collect();
    let mean = |cells: &Vec<(&Cell, f64)>| cells.iter().map(|(_, r)| r).sum::<f64>() / cells.len() as f64;
    // Of a neuron, the mean over splits and bins.
    let of_neuron = |cells: &Vec<(&Cell, f64)>, n: usize| {
        let all = cells
            .iter()
            .flat_map(|(cell, _)| cell.found.r.iter().map(|split| split[n]));
        mean_and_deviation(all).map_or(f64::NAN, |(mean, _)| mean)
    };
    let scores: Vec<Vec<f64>> = own
        .iter()
        .map(|cells| group.iter().map(|n| of_neuron(cells, *n)).collect())
        .collect();
    Some(ByLatency {
        source,
        region,
        bins: reached.len(),
        r: own.iter().map(mean).collect(),
        estimate: estimate_latency(&scored.latencies_ms, &scores, seed),
    })
}

/// Scores by latency of the neurons after the model, over the time bins that all latencies reach
#[derive(Row)]
#[table(name = "latencies")]
pub(in crate::stage::predictivity) struct Latency<'a> {
    #[column(flatten)]
    source: SourceKeys,
    /// Brain region
    #[column(key)]
    region: &'a str,
    /// How long the neurons respond after the model
    #[column(key, unit = "ms")]
    latency: f64,
    /// Median over neurons, mean over splits and time bins
    #[column(absolute = 1e-9, relative = 1e-9)]
    r: f64,
    /// Whether no other latency is better beyond chance: that with the largest mean r over neurons, and all that are
    /// tied with it
    best: bool,
    /// Mean over neurons of the r of the latency with the largest one, less r at this one
    #[column(absolute = 1e-9, relative = 1e-9)]
    behind: Option<f64>,
    /// Lower end of its 95 % interval, neurons resampled; a tie where it is 0 or less, or missing
    #[column(absolute = 1e-9, relative = 1e-9)]
    behind_low: Option<f64>,
    /// Upper end of that interval
    #[column(absolute = 1e-9, relative = 1e-9)]
    behind_high: Option<f64>,
    /// Number of time bins
    bins: usize,
}

impl<'a> Latency<'a> {
    pub(in crate::stage::predictivity) fn rows(
        scored: &'a Scored,
        by_latency: &[ByLatency],
    ) -> impl Iterator<Item = Self> {
        by_latency.iter().flat_map(|found| {
            scored.latencies_ms.iter().enumerate().map(|(place, latency)| {
                let behind = found.estimate.as_ref().map(|estimate| estimate.behind[place]);
                let ends = behind.and_then(|behind| behind.ends);
                Latency {
                    source: scored.source(found.source),
                    region: &scored.regions[found.region].0,
                    latency: *latency,
                    r: found.r[place],
                    best: found.estimate.as_ref().is_some_and(|estimate| estimate.tied[place]),
                    behind: behind.map(|behind| behind.value),
                    behind_low: ends.map(|[low, _]| low),
                    behind_high: ends.map(|[_, high]| high),
                    bins: found.bins,
                }
            })
        })
    }
}

/// Onset of each region, and its latency with an interval from resampled neurons
#[derive(Row)]
#[table(name = "onsets")]
pub(in crate::stage::predictivity) struct Onset<'a> {
    #[column(flatten)]
    source: SourceKeys,
    /// Brain region
    #[column(key)]
    region: &'a str,
    /// How long the neurons respond after the model: the latency with the largest mean r over neurons; none for what
    /// does not change over time
    #[column(unit = "ms")]
    latency: Option<f64>,
    /// Lower end of its 95 % interval: neurons resampled, images as they are
    #[column(unit = "ms")]
    latency_low: Option<f64>,
    /// Upper end of that interval
    #[column(unit = "ms")]
    latency_high: Option<f64>,
    /// Number of latencies that cannot be told from it (its `best` rows in `latencies`), itself included
    tied: Option<usize>,
    /// When the mean over neurons of the split-half reliability first reaches half of its largest value, between
    /// centres of time bins; none with one presentation a stimulus, where it never is 0.1, or is above half from the
    /// first bin on
    #[column(unit = "ms")]
    onset: Option<f64>,
    /// Number of neurons
    neurons: usize,
}

impl<'a> Onset<'a> {
    pub(in crate::stage::predictivity) fn rows(scored: &'a Scored, by_latency: &[ByLatency]) -> Vec<Self> {
        let onsets: Vec<Option<f64>> = scored.regions.iter().map(|(_, group)| onset(scored, group)).collect();
        let mut rows = Vec::new();
        for source in 0..scored.labels.len() {
            for (place, (region, group)) in scored.regions.iter().enumerate() {
                let found = by_latency.iter().find(|f| (f.source, f.region) == (source, place));
                let found = found.and_then(|found| found.estimate.as_ref());
                let ends = found.and_then(|found| found.latency.ends);
                rows.push(Onset {
                    source: scored.source(source),
                    region,
                    latency: found.map(|found| found.latency.value),
                    latency_low: ends.map(|[low, _]| low),
                    latency_high: ends.map(|[_, high]| high),
                    tied: found.map(|found| found.tied.iter().filter(|tied| **tied).count()),
                    onset: onsets[place],
                    neurons: group.len(),
                });
            }
        }
        rows
    }
}

/// The rise of a region's reliability.
fn onset(scored: &Scored, group: &[usize]) -> Option<f64> {
    let mut bins: Vec<usize> = (0..scored.recordings.bins_ms.len()).collect();
    let centre = |bin: usize| 0.5 * (scored.recordings.bins_ms[bin][0] + scored.recordings.bins_ms[bin][1]);
    bins.sort_by(|a, b| centre(*a).total_cmp(&centre(*b)));
    let of_bin = |bin: &usize| -> Option<Vec<f64>> {
        let all = scored.reliability[*bin].as_ref()?;
        let mean = |n: &usize| mean_and_deviation(all[*n].iter().flatten().copied()).map_or(f64::NAN, |(mean, _)| mean);
        Some(group.iter().map(mean).collect())
    };
    let values: Vec<Vec<f64>> = bins.iter().map(of_bin).collect::<Option<_>>()?;
    let times: Vec<f64> = bins.iter().map(|bin| centre(*bin)).collect();
    half_rise(&times, &values, LEAST_CEILING)
}

/// The cell of a bin whose model time is that much earlier, to half the distance of model times.
fn cell_at(scored: &Scored, source: usize, bin: usize, latency: f64) -> Option<&Cell> {
    let [start, end] = scored.recordings.bins_ms[bin];
    let own = || {
        scored
            .cells
            .iter()
            .filter(|cell| cell.source == source && cell.bin == bin)
    };
    if let Some(cell) = own().find(|cell| cell.latency_ms == Some(latency)) {
        return Some(cell);
    }
    let mut times: Vec<f64> = own()
        .filter(|cell| cell.latency_ms.is_none())
        .map(|cell| cell.model_ms)
        .collect();
    times.sort_by(f64::total_cmp);
    let spacing = times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(f64::INFINITY, f64::min);
    if !spacing.is_finite() {
        return None;
    }
    let wanted = 0.5 * (start + end) - latency;
    let distance = |cell: &Cell| (cell.model_ms - wanted).abs();
    own()
        .filter(|cell| cell.latency_ms.is_none())
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .filter(|cell| distance(cell) <= 0.5 * spacing + 1e-9)
}
