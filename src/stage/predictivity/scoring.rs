//! Correlations of every feature set, model time and time bin.

use cords::neural::{
    Features, FitOptions, NeuralError, PredictionQuality, Recordings, Split, SplitOptions, TestVariance, fit_each,
    fit_once, fit_shared, test_variances, times_reached, times_within,
};
use dynvis_base::memory::check_room;

use super::feature_sets::{FeatureSet, Role};
use super::params::{NeuronRows, Params, ReductionName, WeightsName};
use crate::stage::{Context, StageError, Update};

/// What is predicted, and the divisions that it is predicted over.
pub(super) struct Study {
    pub(super) recordings: Recordings,
    /// Which of the given recordings each neuron is from.
    pub(super) origin: Vec<usize>,
    pub(super) splits: Vec<Split>,
}

/// One feature set at one model time, against one time bin.
pub(super) struct Cell {
    /// Place among the sources.
    pub(super) source: usize,
    /// Mean of the model times in ms.
    pub(super) model_ms: f64,
    /// Place of the time bin.
    pub(super) bin: usize,
    /// Where the fit was made for this latency alone.
    pub(super) latency_ms: Option<f64>,
    pub(super) found: PredictionQuality,
}

/// What a feature set is known by.
pub(super) struct Label {
    pub(super) slot: usize,
    pub(super) role: Role,
    pub(super) area: Option<usize>,
}

/// Everything that tables are made of.
pub(super) struct Scored {
    pub(super) recordings: Recordings,
    /// Which of the given recordings each neuron is from.
    pub(super) origin: Vec<usize>,
    /// The latencies that recorded times reach.
    pub(super) latencies_ms: Vec<f64>,
    pub(super) labels: Vec<Label>,
    pub(super) cells: Vec<Cell>,
    /// `[bin][neuron][halving]`; `None` with a single repetition.
    pub(super) reliability: Vec<Option<Vec<Vec<Option<f64>>>>>,
    /// `[bin][split][neuron]`; `None` with a single repetition.
    pub(super) variances: Vec<Option<Vec<Vec<TestVariance>>>>,
    /// Regions in order of their names, and their neurons.
    pub(super) regions: Vec<(String, Vec<usize>)>,
}

/// Whether there is memory for the splits and for what is kept of every fit.
pub(super) fn check_size(
    params: &Params,
    recordings: &Recordings,
    sources: &[FeatureSet<'_>],
) -> Result<(), StageError> {
    /// What a row takes, as it is and in a table.
    const ROW_BYTES: u64 = 512;
    /// Two numbers of a neuron in a split, in one fit.
    const SCORE_BYTES: u64 = 16;
    let bins = recordings.bins_ms.len() as u64;
    let (stimuli, neurons) = (recordings.stimuli.len() as u64, recordings.neurons.len() as u64);
    let fits = |source: &FeatureSet<'_>| match params.weights {
        WeightsName::PerBin | WeightsName::Window => source.times_ms.len() as u64,
        WeightsName::Shared if source.is_static() => 1,
        WeightsName::Shared => params.latencies.len() as u64,
    };
    let cells = sources.iter().map(fits).sum::<u64>().saturating_mul(bins);
    // Those of a table of their own are there already.
    let splits = if params.split_file.is_some() {
        1
    } else {
        params.splits as u64
    };
    let regions = regions(recordings).len() as u64;
    let rows = match params.neurons {
        NeuronRows::All => cells.saturating_mul(regions + neurons),
        NeuronRows::Best => cells.saturating_mul(regions),
    };
    let parts: [(u64, String, &str); 4] = [
        (
            // As they are, and once more for the fits.
            splits.saturating_mul(2 * stimuli * size_of::<usize>() as u64),
            format!("{splits} `splits` of {stimuli} stimuli"),
            "lower `splits`",
        ),
        (
            cells.saturating_mul(splits).saturating_mul(neurons * SCORE_BYTES),
            format!(
                "scores of {neurons} neurons in {splits} `splits` of {cells} fits (times or latencies, bins and areas)"
            ),
            "lower `splits`, or name fewer `times`, `latencies`, `bins`, `areas` or `regions`",
        ),
        (
            (params.halvings as u64).saturating_mul(bins * neurons * size_of::<Option<f64>>() as u64),
            format!(
                "{} `halvings` for {neurons} neurons in {bins} time bins",
                params.halvings
            ),
            "lower `halvings`",
        ),
        (
            rows.saturating_mul(ROW_BYTES),
            format!("{rows} rows, one for every fit and each of {regions} regions"),
            "name fewer `times`, `latencies`, `bins`, `areas` or `regions`",
        ),
    ];
    for (bytes, what, hint) in parts {
        check_room(bytes).map_err(|error| StageError::new(format!("{what}: {error}")).hint(hint))?;
    }
    Ok(())
}

/// Fits and tests everything.
pub(super) fn score(
    params: &Params,
    study: &Study,
    sources: &[FeatureSet<'_>],
    context: &mut Context,
) -> Result<Scored, StageError> {
    let recordings = &study.recordings;
    let bins = recordings.bins_ms.len();
    let responses: Vec<_> = (0..bins).map(|bin| recordings.means(bin)).collect();
    let options = FitOptions {
        regression: params.regression(),
        principal_components: (params.reduction == ReductionName::Pca).then_some(params.dimensions),
        splits: study.splits.clone(),
    };
    let reached = Reached::new(params, recordings, sources, context)?;
    let mut cells = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let area = source.area.map_or_else(String::new, |area| format!(", area {area}"));
        context.report(Update {
            done: number as u64,
            total: sources.len() as u64,
            unit: "feature sets".into(),
            phase: format!("{}{area}, activity {}", source.role.name(), source.slot + 1),
            figures: Vec::new(),
            milestone: true,
        });
        let mut keep = |model_ms: f64, latency_ms: Option<f64>, of_bins: Vec<PredictionQuality>| {
            cells.extend(of_bins.into_iter().enumerate().map(|(bin, found)| Cell {
                source: number,
                model_ms,
                bin,
                latency_ms,
                found,
            }));
        };
        match params.weights {
            WeightsName::PerBin => {
                for (time, model_ms) in source.times_ms.iter().enumerate() {
                    let fit = |features: &dyn Features| fit_each(features, &responses, &options);
                    keep(*model_ms, None, source.with_features(params, &[time], fit)?);
                }
            }
            WeightsName::Window => {
                let window = recordings.windows(&[params.fit_bin])?.means(0);
                let from = window_times(params, source)?;
                for (time, model_ms) in source.times_ms.iter().enumerate() {
                    let fit = |fitted: &dyn Features| {
                        source.with_features(params, &[time], |applied| {
                            fit_once(fitted, &window, &[applied], &responses, &options)
                        })
                    };
                    let found = source.with_features(params, &from, fit)?;
                    keep(*model_ms, None, found.into_iter().next().unwrap_or_default());
                }
            }
            WeightsName::Shared => {
                // What does not change has no latency.
                let latencies = if source.is_static() {
                    &reached.latencies_ms[..1]
                } else {
                    &reached.latencies_ms[..]
                };
                let own_responses: Vec<_> = reached.bins.iter().map(|bin| responses[*bin].clone()).collect();
                for latency in latencies {
                    let times: Vec<Vec<usize>> = reached
                        .bins
                        .iter()
                        .map(|bin| times_within(&source.times_ms, shifted(recordings.bins_ms[*bin], *latency)))
                        .collect();
                    let of_bins = with_all(params, source, &times, &[], &mut |features| {
                        fit_shared(features, &own_responses, &options)
                    })?;
                    for ((found, own), bin) in of_bins.into_iter().zip(&times).zip(&reached.bins) {
                        cells.push(Cell {
                            source: number,
                            model_ms: own.iter().map(|t| source.times_ms[*t]).sum::<f64>() / own.len().max(1) as f64,
                            bin: *bin,
                            latency_ms: Some(*latency),
                            found,
                        });
                    }
                }
            }
        }
    }
    let halvings = SplitOptions {
        splits: params.halvings,
        train: 0.5,
        seed: params.split_seed,
    };
    let reliability = (0..bins)
        .map(|bin| recordings.reliability(bin, &halvings))
        .collect::<Result<_, NeuralError>>()?;
    let labels = sources.iter().map(|source| Label {
        slot: source.slot,
        role: source.role,
        area: source.area,
    });
    Ok(Scored {
        origin: study.origin.clone(),
        latencies_ms: reached.latencies_ms,
        labels: labels.collect(),
        cells,
        reliability,
        variances: (0..bins)
            .map(|bin| test_variances(recordings, bin, &study.splits))
            .collect(),
        regions: regions(recordings),
        recordings: recordings.clone(),
    })
}

/// Latencies and time bins that recorded times of all networks stand for.
struct Reached {
    latencies_ms: Vec<f64>,
    /// Bins that all of these latencies reach, so that they are fitted to the same responses; all where weights are not
    /// shared.
    bins: Vec<usize>,
}

impl Reached {
    /// What is left out is said.
    fn new(
        params: &Params,
        recordings: &Recordings,
        sources: &[FeatureSet<'_>],
        context: &mut Context,
    ) -> Result<Self, StageError> {
        let bins = &recordings.bins_ms;
        let reaches = |latency: f64, bin: [f64; 2]| {
            let mut changing = sources.iter().filter(|source| !source.is_static());
            changing.all(|source| !times_reached(&source.times_ms, shifted(bin, latency)).is_empty())
        };
        let reached = |latency: &f64| bins.iter().any(|bin| reaches(*latency, *bin));
        let (latencies_ms, others): (Vec<f64>, Vec<f64>) = params.latencies.iter().copied().partition(reached);
        let of_times = || {
            sources
                .iter()
                .filter(|source| !source.is_static())
                .flat_map(|source| &source.times_ms)
        };
        let [first, last] = [
            of_times().copied().fold(f64::INFINITY, f64::min),
            of_times().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
        let list = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        let hint =
            format!("the recorded times go from {first} to {last} ms; record earlier or later ones, or choose others");
        let shared = params.weights == WeightsName::Shared;
        if latencies_ms.is_empty() && shared {
            let message = format!(
                "no recorded time is earlier than a time bin by any of the latencies {} ms",
                list(&others)
            );
            return Err(StageError::new(message).hint(hint));
        }
        if !others.is_empty() {
            context.note(format!(
                "left out: the latencies {} ms, which no recorded time reaches; {hint}",
                list(&others)
            ));
        }
        if !shared {
            return Ok(Self {
                latencies_ms,
                bins: (0..bins.len()).collect(),
            });
        }
        let (kept, lost): (Vec<usize>, Vec<usize>) =
            (0..bins.len()).partition(|bin| latencies_ms.iter().all(|latency| reaches(*latency, bins[*bin])));
        let lost: Vec<String> = lost
            .iter()
            .map(|bin| format!("{} to {}", bins[*bin][0], bins[*bin][1]))
            .collect();
        if kept.is_empty() {
            let message = format!(
                "no time bin is reached by all of the latencies {} ms",
                list(&latencies_ms)
            );
            return Err(StageError::new(message).hint(hint));
        }
        if !lost.is_empty() {
            context.note(format!(
                "left out: the time bins {} ms, which not every latency reaches from a recorded time; {hint}",
                lost.join(", ")
            ));
        }
        Ok(Self {
            latencies_ms,
            bins: kept,
        })
    }
}

fn shifted(bin: [f64; 2], latency: f64) -> [f64; 2] {
    bin.map(|edge| edge - latency)
}

/// The times that the weights of `window` are fitted from.
fn window_times(params: &Params, source: &FeatureSet<'_>) -> Result<Vec<usize>, StageError> {
    let wanted = params.fit_times.unwrap_or(params.fit_bin);
    let found = match source.is_static() {
        true => vec![0],
        false => times_reached(&source.times_ms, wanted),
    };
    if found.is_empty() {
        let [start, end] = wanted;
        return Err(
            StageError::new(format!("no recorded model time lies within {start} to {end} ms"))
                .hint("choose `fit_times` among the recorded times, or record others"),
        );
    }
    Ok(found)
}

/// What is done with the feature sets of all bins.
type Then<'a, T> = dyn FnMut(&[&dyn Features]) -> Result<T, NeuralError> + 'a;

/// Hands over the feature sets of all bins at once.
fn with_all<T>(
    params: &Params,
    source: &FeatureSet<'_>,
    times: &[Vec<usize>],
    so_far: &[&dyn Features],
    then: &mut Then<'_, T>,
) -> Result<T, NeuralError> {
    let Some((first, rest)) = times.split_first() else {
        return then(so_far);
    };
    source.with_features(params, first, |features| {
        let mut all = so_far.to_vec();
        all.push(features);
        with_all(params, source, rest, &all, then)
    })
}

fn regions(recordings: &Recordings) -> Vec<(String, Vec<usize>)> {
    let mut regions: std::collections::BTreeMap<String, Vec<usize>> = std::collections::BTreeMap::new();
    for (n, neuron) in recordings.neurons.iter().enumerate() {
        regions.entry(neuron.region.clone()).or_default().push(n);
    }
    regions.into_iter().collect()
}
