//! Tables and pictures of what was scored.

use std::collections::BTreeSet;

use cords::neural::{
    Interval, LEAST_CEILING, LEAST_EXPLAINABLE, LatencyEstimate, Limits, NeuronScore, Summary, estimate_latency,
    half_rise, mean_and_deviation, neuron_scores, paired, summarise,
};

use super::params::{NeuronRows, Params};
use super::picture::Matrix;
use super::scoring::{Cell, Scored};
use super::sources::Role;
use crate::stage::Members;
use crate::stage::recordings::{ANIMAL, SESSION, label};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

/// What a feature set is known by.
fn source_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("activity", DType::Int, "The stage that recorded the activity")
        .slot("activity")
        .key(
            "features",
            DType::Text,
            "network, or a control: pixels, time_shuffled, frozen, image_shuffled",
        )
        .key("area", DType::Int, "Area, from 0; none for pixels")
        .allow_missing()
}

fn source_values(scored: &Scored, source: usize) -> Vec<Value> {
    let label = &scored.labels[source];
    vec![
        Value::Int(label.slot as i64),
        Value::Text(label.role.name().to_owned()),
        label.area.map_or(Value::Null, |area| Value::Int(area as i64)),
    ]
}

fn bin_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("bin_start", DType::Float, "Start of the time bin after stimulus onset")
        .unit("ms")
        .key("bin_end", DType::Float, "End of the time bin")
        .unit("ms")
}

fn bin_values(scored: &Scored, bin: usize) -> [Value; 2] {
    scored.recordings.bins_ms[bin].map(Value::Float)
}

fn summary_columns(schema: TableSchema) -> TableSchema {
    schema
        .value(
            "r",
            DType::Float,
            "Pearson's r on test images: median over neurons, mean over splits",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "error",
            DType::Float,
            "Standard deviation of that median over splits / root of their number",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "ceiling",
            DType::Float,
            "Split-half reliability (Spearman-Brown): median over neurons, mean over halvings",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "ceiling_error",
            DType::Float,
            "Standard deviation of that median over halvings / root of their number",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "r2_over_ceiling",
            DType::Float,
            "r^2 / ceiling (Brain-Score since version 4); none where the ceiling is below 0.1, which noise alone decides",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "r_over_ceiling_squared",
            DType::Float,
            "(r / ceiling)^2 (Brain-Score until version 3); none where the ceiling is below 0.1, which noise alone decides",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "explained",
            DType::Float,
            "Mean of r^2 / ceiling, 0 where r is negative, over neurons whose ceiling is at least 0.1",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "feve",
            DType::Float,
            "Fraction of explainable variance explained, 1 - (MSE - noise) / (total - noise variance) of single presentations: \
             mean over neurons of whose variance at least 15 % can be explained",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value("feve_neurons", DType::Int, "Number of those neurons")
        .allow_missing()
        .value("neurons", DType::Int, "Number of neurons")
}

fn summary_values(summary: &Summary) -> [Value; 10] {
    [
        Value::finite(summary.r),
        Value::finite(summary.error),
        Value::finite(summary.ceiling),
        Value::finite(summary.ceiling_error),
        Value::finite(summary.ceiled),
        Value::finite(summary.ceiled_squared),
        Value::finite(summary.explained),
        Value::finite(summary.feve),
        summary
            .feve_neurons
            .map_or(Value::Null, |count| Value::Int(count as i64)),
        Value::Int(summary.neurons as i64),
    ]
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

/// Each feature set where it predicts best.
pub(super) fn summary(scored: &Scored) -> Result<Table, TableError> {
    let schema = TableSchema::new(
        "summary",
        "Each feature set at the model time and time bin where it predicts a region best, chosen by the same r",
    )
    .key("region", DType::Text, "Brain region");
    let schema = source_keys(schema)
        .value("model_time", DType::Float, "Model time after image onset")
        .unit("ms")
        .value("bin_start", DType::Float, "Start of the time bin after stimulus onset")
        .unit("ms")
        .value("bin_end", DType::Float, "End of the time bin")
        .unit("ms");
    let mut table = TableWriter::new(summary_columns(schema))?;
    for Best {
        region, cell, summary, ..
    } in best(scored)
    {
        let mut row = vec![Value::Text(region.to_owned())];
        row.extend(source_values(scored, cell.source));
        row.push(Value::Float(cell.model_ms));
        row.extend(bin_values(scored, cell.bin));
        row.extend(summary_values(&summary));
        table.push_row(row)?;
    }
    table.finish()
}

/// Every feature set, model time, time bin and region.
pub(super) fn scores(scored: &Scored) -> Result<Table, TableError> {
    let schema = source_keys(TableSchema::new(
        "scores",
        "Scores by area, model time, neural time and region",
    ))
    .key("model_time", DType::Float, "Model time after image onset")
    .unit("ms")
    .key(
        "latency",
        DType::Float,
        "Latency that the fit was made for; none where every pair of times has its own",
    )
    .unit("ms")
    .allow_missing();
    let schema = bin_keys(schema).key("region", DType::Text, "Brain region");
    let mut table = TableWriter::new(summary_columns(schema))?;
    for cell in &scored.cells {
        for (region, group) in &scored.regions {
            let mut row = source_values(scored, cell.source);
            row.extend([Value::Float(cell.model_ms), Value::finite(cell.latency_ms)]);
            row.extend(bin_values(scored, cell.bin));
            row.push(Value::Text(region.clone()));
            row.extend(summary_values(&summary_of(scored, cell, group)));
            table.push_row(row)?;
        }
    }
    table.finish()
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

fn ends_of(interval: Option<Interval>) -> [Value; 2] {
    match interval.and_then(|interval| interval.ends) {
        Some(ends) => ends.map(Value::Float),
        None => [Value::Null, Value::Null],
    }
}

/// Scores by latency over the time bins that every latency reaches, and which of them cannot be told from the best.
pub(super) fn latencies(scored: &Scored, by_latency: &[ByLatency]) -> Result<Table, TableError> {
    let schema = source_keys(TableSchema::new(
        "latencies",
        "Scores by latency of the neurons after the model, over the time bins that all latencies reach",
    ))
    .key("region", DType::Text, "Brain region")
    .key("latency", DType::Float, "How long the neurons respond after the model")
    .unit("ms")
    .value("r", DType::Float, "Median over neurons, mean over splits and time bins")
    .tolerance(1e-9, 1e-9)
    .value(
        "best",
        DType::Bool,
        "Whether no other latency is better beyond chance: that with the largest mean r over neurons, and all that are tied \
         with it",
    )
    .value(
        "behind",
        DType::Float,
        "Mean over neurons of the r of the latency with the largest one, less r at this one",
    )
    .tolerance(1e-9, 1e-9)
    .allow_missing()
    .value(
        "behind_low",
        DType::Float,
        "Lower end of its 95 % interval, neurons resampled; a tie where it is 0 or less, or missing",
    )
    .tolerance(1e-9, 1e-9)
    .allow_missing()
    .value("behind_high", DType::Float, "Upper end of that interval")
    .tolerance(1e-9, 1e-9)
    .allow_missing()
    .value("bins", DType::Int, "Number of time bins");
    let mut table = TableWriter::new(schema)?;
    for found in by_latency {
        let (region, _) = &scored.regions[found.region];
        for (place, latency) in scored.latencies_ms.iter().enumerate() {
            let behind = found.estimate.as_ref().map(|estimate| estimate.behind[place]);
            let mut row = source_values(scored, found.source);
            row.extend([
                Value::Text(region.clone()),
                Value::Float(*latency),
                Value::Float(found.r[place]),
                Value::Bool(found.estimate.as_ref().is_some_and(|estimate| estimate.tied[place])),
                Value::optional(behind.map(|behind| behind.value)),
            ]);
            row.extend(ends_of(behind));
            row.push(Value::Int(found.bins as i64));
            table.push_row(row)?;
        }
    }
    table.finish()
}

/// When each region's responses begin to depend on the stimulus, and how long after the model it responds.
pub(super) fn onsets(scored: &Scored, by_latency: &[ByLatency]) -> Result<Table, TableError> {
    let low = "Lower end of its 95 % interval: neurons resampled, images as they are";
    let high = "Upper end of that interval";
    let schema = source_keys(TableSchema::new(
        "onsets",
        "Onset of each region, and its latency with an interval from resampled neurons",
    ))
    .key("region", DType::Text, "Brain region")
    .value(
        "latency",
        DType::Float,
        "How long the neurons respond after the model: the latency with the largest mean r over neurons; none for what does \
         not change over time",
    )
    .unit("ms")
    .allow_missing()
    .value("latency_low", DType::Float, low)
    .unit("ms")
    .allow_missing()
    .value("latency_high", DType::Float, high)
    .unit("ms")
    .allow_missing()
    .value(
        "tied",
        DType::Int,
        "Number of latencies that cannot be told from it (its `best` rows in `latencies`), itself included",
    )
    .allow_missing()
    .value(
        "onset",
        DType::Float,
        "When the mean over neurons of the split-half reliability first reaches half of its largest value, between centres of \
         time bins; none with one presentation a stimulus, where it never is 0.1, or is above half from the first bin on",
    )
    .unit("ms")
    .allow_missing()
    .value("neurons", DType::Int, "Number of neurons");
    let mut table = TableWriter::new(schema)?;
    let onsets: Vec<Option<f64>> = scored.regions.iter().map(|(_, group)| onset(scored, group)).collect();
    for source in 0..scored.labels.len() {
        for (place, (region, group)) in scored.regions.iter().enumerate() {
            let found = by_latency.iter().find(|f| (f.source, f.region) == (source, place));
            let found = found.and_then(|found| found.estimate.as_ref());
            let latency = found.map(|found| found.latency);
            let mut row = source_values(scored, source);
            row.push(Value::Text(region.clone()));
            row.push(Value::optional(latency.map(|latency| latency.value)));
            row.extend(ends_of(latency));
            let tied = found.map(|found| found.tied.iter().filter(|tied| **tied).count());
            row.push(tied.map_or(Value::Null, |tied| Value::Int(tied as i64)));
            row.push(Value::optional(onsets[place]));
            row.push(Value::Int(group.len() as i64));
            table.push_row(row)?;
        }
    }
    table.finish()
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

/// The network less every other feature set, neuron by neuron.
pub(super) fn paired_table(scored: &Scored) -> Result<Table, TableError> {
    let schema = source_keys(TableSchema::new(
        "paired",
        "r of the network's area less r of a control or of another network, paired by neuron, at the same times",
    ))
    .key("network_area", DType::Int, "Area of the network that is compared")
    .key("model_time", DType::Float, "Model time after image onset")
    .unit("ms")
    .key("latency", DType::Float, "Latency that the fit was made for")
    .unit("ms")
    .allow_missing();
    let schema = bin_keys(schema)
        .key("region", DType::Text, "Brain region")
        .value(
            "difference",
            DType::Float,
            "Mean over neurons of the network's r less the other's",
        )
        .tolerance(1e-9, 1e-9)
        .value("error", DType::Float, "Standard error of that mean over neurons")
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "better",
            DType::Float,
            "Share of neurons that the network predicts better",
        )
        .value("neurons", DType::Int, "Number of neurons");
    let mut table = TableWriter::new(schema)?;
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
            for (region, group) in &scored.regions {
                let Some(paired) = paired(&cell.found.r, &other.found.r, group) else {
                    continue;
                };
                let mut row = source_values(scored, source);
                row.extend([
                    Value::Int(area as i64),
                    Value::Float(cell.model_ms),
                    Value::finite(cell.latency_ms),
                ]);
                row.extend(bin_values(scored, cell.bin));
                row.extend([
                    Value::Text(region.clone()),
                    Value::Float(paired.difference),
                    Value::finite(paired.error),
                    Value::Float(paired.better),
                    Value::Int(paired.neurons as i64),
                ]);
                table.push_row(row)?;
            }
        }
    }
    table.finish()
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

/// Single neurons.
pub(super) fn neurons(params: &Params, scored: &Scored) -> Result<Table, TableError> {
    let schema = source_keys(TableSchema::new("neurons", "Scores of single neurons"))
        .key("model_time", DType::Float, "Model time after image onset")
        .unit("ms")
        .key("latency", DType::Float, "Latency that the fit was made for")
        .unit("ms")
        .allow_missing();
    let schema = bin_keys(schema)
        .key("recordings", DType::Int, "The stage that gave the neuron")
        .slot("recordings")
        .key("animal", DType::Text, ANIMAL)
        .allow_missing()
        .key("session", DType::Text, SESSION)
        .allow_missing()
        .key("neuron", DType::Text, "Id of the neuron")
        .value("region", DType::Text, "Brain region")
        .value("r", DType::Float, "Pearson's r on test images, mean over splits")
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "error",
            DType::Float,
            "Its standard deviation over splits / root of their number",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "ceiling",
            DType::Float,
            "Split-half reliability (Spearman-Brown), mean over halvings",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "explained",
            DType::Float,
            "r^2 / ceiling, 0 where r is negative; none where the ceiling is below 0.1, which noise alone decides",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "explainable",
            DType::Float,
            "Share of the variance of single presentations that the stimulus explains: 1 - noise / total variance",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing()
        .value(
            "feve",
            DType::Float,
            "Fraction of explainable variance explained, 1 - (MSE - noise) / (total - noise variance); none where less than \
             15 % can be explained",
        )
        .tolerance(1e-9, 1e-9)
        .allow_missing();
    let mut table = TableWriter::new(schema)?;
    let mut push = |cell: &Cell, group: &[usize]| -> Result<(), TableError> {
        let scores: Vec<NeuronScore> = neuron_scores(&cell.found, limits(scored, cell));
        for n in group {
            let neuron = &scored.recordings.neurons[*n];
            let mut row = source_values(scored, cell.source);
            row.extend([Value::Float(cell.model_ms), Value::finite(cell.latency_ms)]);
            row.extend(bin_values(scored, cell.bin));
            row.extend([
                Value::Int(scored.origin[*n] as i64),
                label(&neuron.animal),
                label(&neuron.session),
                Value::Text(neuron.id.clone()),
                Value::Text(neuron.region.clone()),
                Value::finite(scores[*n].r),
                Value::finite(scores[*n].error),
                Value::finite(scores[*n].ceiling),
                Value::finite(scores[*n].explained),
                Value::optional(scores[*n].variance.map(|variance| variance.explainable)),
                Value::optional(
                    scores[*n]
                        .variance
                        .filter(|variance| variance.explainable >= LEAST_EXPLAINABLE)
                        .and_then(|variance| variance.feve),
                ),
            ]);
            table.push_row(row)?;
        }
        Ok(())
    };
    match params.neurons {
        NeuronRows::Best => {
            for Best { cell, group, .. } in best(scored) {
                push(cell, group)?;
            }
        }
        NeuronRows::All => {
            let everyone: Vec<usize> = (0..scored.recordings.neurons.len()).collect();
            for cell in &scored.cells {
                push(cell, &everyone)?;
            }
        }
    }
    table.finish()
}

/// The time bins that a feature set has cells of, which are not all where latencies do not reach some, and its cells row by
/// row.
fn rows_of(cells: &[Cell], source: usize) -> (Vec<usize>, Vec<Vec<&Cell>>) {
    let own: Vec<&Cell> = cells.iter().filter(|cell| cell.source == source).collect();
    let bins: BTreeSet<usize> = own.iter().map(|cell| cell.bin).collect();
    // Cells come row by row, and within a row bin by bin.
    let rows = own.chunks(bins.len().max(1)).map(<[&Cell]>::to_vec).collect();
    (bins.into_iter().collect(), rows)
}

/// The network's scores by neural time and by model time, or by latency where fits were made for each, for every area and
/// region; of other members of its stage too, each in a picture of its own whose title names its matrix fields.
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
    use cords::neural::Agreement;

    use super::*;

    /// Bins 0 and 3 are not reached by all latencies.
    #[test]
    fn rows_of_a_picture_have_the_bins_that_were_fitted() {
        let cell = |source: usize, latency: f64, bin: usize| Cell {
            source,
            model_ms: 10.0 * bin as f64 - latency,
            bin,
            latency_ms: Some(latency),
            found: Agreement {
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
