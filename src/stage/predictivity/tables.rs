//! Tables and pictures of what was scored.

use std::collections::BTreeSet;

use cords::neural::{
    LEAST_CEILING, LEAST_EXPLAINABLE, LatencyEstimate, Limits, NeuronScore, Summary, estimate_latency, half_rise,
    mean_and_deviation, neuron_scores, paired, summarise,
};

use super::feature_sets::Role;
use super::params::{NeuronRows, Params};
use super::picture::Matrix;
use super::scoring::{Cell, Scored};
use crate::stage::Members;
use crate::stage::recordings::{ANIMAL, SESSION, known};
use dynvis_runner::table::Row;

/// What a feature set is known by.
#[derive(Row)]
struct SourceKeys {
    /// The stage that recorded the activity
    #[column(key, slot = "activity")]
    activity: usize,
    /// network, or a control: pixels, time_shuffled, frozen, image_shuffled
    #[column(key)]
    features: &'static str,
    /// Area, from 0; none for pixels
    #[column(key)]
    area: Option<usize>,
}

/// When the neurons responded.
#[derive(Row)]
struct BinKeys {
    /// Start of the time bin after stimulus onset
    #[column(key, unit = "ms")]
    bin_start: f64,
    /// End of the time bin
    #[column(key, unit = "ms")]
    bin_end: f64,
}

impl Scored {
    fn source(&self, source: usize) -> SourceKeys {
        let label = &self.labels[source];
        SourceKeys {
            activity: label.slot,
            features: label.role.name(),
            area: label.area,
        }
    }

    fn bin(&self, bin: usize) -> BinKeys {
        let [bin_start, bin_end] = self.recordings.bins_ms[bin];
        BinKeys { bin_start, bin_end }
    }
}

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

fn summary_of(scored: &Scored, cell: &Cell, group: &[usize]) -> Summary {
    summarise(&cell.found, limits(scored, cell), group)
}

fn limits<'a>(scored: &'a Scored, cell: &Cell) -> Limits<'a> {
    Limits {
        reliability: scored.reliability[cell.bin].as_deref(),
        variances: scored.variances[cell.bin].as_deref(),
    }
}

/// Where a feature set predicts a region best.
struct Best<'a> {
    region: &'a str,
    group: &'a [usize],
    cell: &'a Cell,
    summary: Summary,
}

/// The cell of each feature set that predicts a region best, in order of regions and feature sets.
fn best(scored: &Scored) -> Vec<Best<'_>> {
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
pub(super) struct BestScore<'a> {
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
    pub(super) fn rows(scored: &'a Scored) -> impl Iterator<Item = Self> {
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
pub(super) struct Score<'a> {
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
    pub(super) fn rows(scored: &'a Scored) -> impl Iterator<Item = Self> {
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

/// A feature set's scores of a region by latency, over the time bins that all latencies reach.
pub(super) struct ByLatency {
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
pub(super) fn by_latency(scored: &Scored, seed: u64) -> Vec<ByLatency> {
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
pub(super) struct Latency<'a> {
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
    pub(super) fn rows(scored: &'a Scored, by_latency: &[ByLatency]) -> impl Iterator<Item = Self> {
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
pub(super) struct Onset<'a> {
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
    pub(super) fn rows(scored: &'a Scored, by_latency: &[ByLatency]) -> Vec<Self> {
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

/// The times that a fit was made for.
#[derive(Row)]
struct FitKeys {
    /// Model time after image onset
    #[column(key, unit = "ms")]
    model_time: f64,
    /// Latency that the fit was made for
    #[column(key, unit = "ms")]
    latency: Option<f64>,
    #[column(flatten)]
    bin: BinKeys,
}

impl FitKeys {
    fn of(scored: &Scored, cell: &Cell) -> Self {
        Self {
            model_time: cell.model_ms,
            latency: cell.latency_ms,
            bin: scored.bin(cell.bin),
        }
    }
}

/// r of the network's area less r of a control or of another network, paired by neuron, at the same times
#[derive(Row)]
#[table(name = "paired")]
pub(super) struct PairedScore<'a> {
    #[column(flatten)]
    source: SourceKeys,
    /// Area of the network that is compared
    #[column(key)]
    network_area: usize,
    #[column(flatten)]
    fit: FitKeys,
    /// Brain region
    #[column(key)]
    region: &'a str,
    /// Mean over neurons of the network's r less the other's
    #[column(absolute = 1e-9, relative = 1e-9)]
    difference: f64,
    /// Standard error of that mean over neurons
    #[column(absolute = 1e-9, relative = 1e-9)]
    error: Option<f64>,
    /// Share of neurons that the network predicts better
    better: f64,
    /// Number of neurons
    neurons: usize,
}

impl<'a> PairedScore<'a> {
    pub(super) fn rows(scored: &'a Scored) -> Vec<Self> {
        let mut rows = Vec::new();
        for cell in &scored.cells {
            let own = &scored.labels[cell.source];
            let Some(area) = own.area.filter(|_| own.slot == 0 && own.role == Role::Network) else {
                continue;
            };
            for (source, label) in scored.labels.iter().enumerate() {
                // The same area of another network or control, or what has no area.
                if source == cell.source || label.area.is_some_and(|other| other != area) {
                    continue;
                }
                let Some(other) = counterpart(scored, source, cell) else {
                    continue;
                };
                rows.extend(scored.regions.iter().filter_map(|(region, group)| {
                    let paired = paired(&cell.found.r, &other.found.r, group)?;
                    Some(PairedScore {
                        source: scored.source(source),
                        network_area: area,
                        fit: FitKeys::of(scored, cell),
                        region,
                        difference: paired.difference,
                        error: paired.error,
                        better: paired.better,
                        neurons: paired.neurons,
                    })
                }));
            }
        }
        rows
    }
}

/// Another feature set's cell at the same bin, latency and model time, or its only one where it does not change.
fn counterpart<'a>(scored: &'a Scored, source: usize, cell: &Cell) -> Option<&'a Cell> {
    let own: Vec<&Cell> = scored
        .cells
        .iter()
        .filter(|c| c.source == source && c.bin == cell.bin)
        .collect();
    match own.as_slice() {
        [only] => Some(only),
        several => several
            .iter()
            .copied()
            .find(|other| other.latency_ms == cell.latency_ms && (other.model_ms - cell.model_ms).abs() < 1e-6),
    }
}

/// Scores of single neurons
#[derive(Row)]
#[table(name = "neurons")]
pub(super) struct OfNeuron<'a> {
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
    pub(super) fn rows(params: &Params, scored: &'a Scored) -> Vec<Self> {
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

/// The time bins that a feature set has cells of, which are not all where latencies do not reach some, and its cells
/// row by row.
fn rows_of(cells: &[Cell], source: usize) -> (Vec<usize>, Vec<Vec<&Cell>>) {
    let own: Vec<&Cell> = cells.iter().filter(|cell| cell.source == source).collect();
    let bins: BTreeSet<usize> = own.iter().map(|cell| cell.bin).collect();
    // Cells come row by row, and within a row bin by bin.
    let rows = own.chunks(bins.len().max(1)).map(<[&Cell]>::to_vec).collect();
    (bins.into_iter().collect(), rows)
}

/// The network's scores by neural time and by model time, or by latency where fits were made for each, for every area
/// and region; of other members of its stage too, each in a picture of its own whose title names its matrix fields.
pub(super) fn matrices(scored: &Scored, members: &Members) -> Vec<(String, Matrix)> {
    let mut found = Vec::new();
    for (source, label) in scored.labels.iter().enumerate() {
        let shown = label.role == Role::Network && members.same_stage(0, label.slot);
        let Some(area) = label.area.filter(|_| shown) else {
            continue;
        };
        let (suffix, fields) = match (label.slot, members.fields(label.slot)) {
            (0, fields) => (String::new(), fields),
            (slot, fields) if members.group(slot) == slot => (format!("_{slot}"), fields),
            // Fields do not tell it from another one.
            (slot, fields) => (
                format!("_{slot}"),
                format!("{fields}{}#{slot}", if fields.is_empty() { "" } else { ", " }),
            ),
        };
        let fields = if fields.is_empty() {
            fields
        } else {
            format!(" ({fields})")
        };
        let (bins, rows) = rows_of(&scored.cells, source);
        let by_latency = rows.iter().flatten().all(|cell| cell.latency_ms.is_some());
        for (region, group) in &scored.regions {
            let value = |cell: &&Cell| summary_of(scored, cell, group).r.unwrap_or(f64::NAN);
            let place = if region.is_empty() { "all neurons" } else { region };
            let matrix = Matrix {
                title: format!("Pearson's r: area {area}, {place}{fields}"),
                rows: if by_latency {
                    "latency [ms]"
                } else {
                    "model time [ms after image onset]"
                },
                rows_ms: rows
                    .iter()
                    .filter_map(|row| row.first())
                    .map(|cell| cell.latency_ms.unwrap_or(cell.model_ms))
                    .collect(),
                neural_ms: bins
                    .iter()
                    .map(|bin| {
                        let [start, end] = scored.recordings.bins_ms[*bin];
                        0.5 * (start + end)
                    })
                    .collect(),
                values: rows.iter().map(|row| row.iter().map(value).collect()).collect(),
            };
            let name: String = region
                .chars()
                .map(|c| if c.is_alphanumeric() { c } else { '_' })
                .collect();
            found.push((
                format!(
                    "area{area}_{}{suffix}",
                    if name.is_empty() { "all" } else { name.as_str() }
                ),
                matrix,
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use cords::neural::PredictionQuality;

    use super::*;

    /// Bins 0 and 3 are not reached by all latencies.
    #[test]
    fn rows_of_a_picture_have_the_bins_that_were_fitted() {
        let cell = |source: usize, latency: f64, bin: usize| Cell {
            source,
            model_ms: 10.0 * bin as f64 - latency,
            bin,
            latency_ms: Some(latency),
            found: PredictionQuality {
                r: Vec::new(),
                squared_error: None,
            },
        };
        let cells = [(0, 0.0, 1), (1, 0.0, 1), (1, 0.0, 2), (1, 40.0, 1), (1, 40.0, 2)];
        let cells = cells.map(|(source, latency, bin)| cell(source, latency, bin));
        let (bins, rows) = rows_of(&cells, 1);
        assert_eq!(bins, [1, 2]);
        let found: Vec<Vec<(Option<f64>, usize)>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| (cell.latency_ms, cell.bin)).collect())
            .collect();
        let of = |latency: f64| vec![(Some(latency), 1), (Some(latency), 2)];
        assert_eq!(found, [of(0.0), of(40.0)]);
    }
}
