//! Correlations of every feature set, model time and time bin.

use cords::neural::{
    Agreement, Features, FitOptions, NeuralError, Recordings, Split, SplitOptions, TestVariance, fit_each, fit_once,
    fit_shared, test_variances, times_within,
};

use super::params::{Params, ReductionName, WeightsName};
use super::sources::{Role, Source};
use crate::stage::{Context, StageError, Update};

/// What is predicted, and the divisions that it is predicted over.
pub(super) struct Study {
    pub(super) recordings: Recordings,
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
    pub(super) found: Agreement,
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
    pub(super) labels: Vec<Label>,
    pub(super) cells: Vec<Cell>,
    /// `[bin][neuron][halving]`; `None` with a single repetition.
    pub(super) reliability: Vec<Option<Vec<Vec<Option<f64>>>>>,
    /// `[bin][split][neuron]`; `None` with a single repetition.
    pub(super) variances: Vec<Option<Vec<Vec<TestVariance>>>>,
    /// Regions in order of their names, and their neurons.
    pub(super) regions: Vec<(String, Vec<usize>)>,
}

/// Fits and tests everything.
pub(super) fn score(
    params: &Params,
    study: &Study,
    sources: &[Source<'_>],
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
        let mut keep = |model_ms: f64, latency_ms: Option<f64>, of_bins: Vec<Agreement>| {
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
                let from = times_within(&source.times_ms, params.fit_times.unwrap_or(params.fit_bin));
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
                    &params.latencies[..1]
                } else {
                    &params.latencies[..]
                };
                for latency in latencies {
                    let times: Vec<Vec<usize>> = recordings
                        .bins_ms
                        .iter()
                        .map(|bin| times_within(&source.times_ms, bin.map(|edge| edge - latency)))
                        .collect();
                    let of_bins = with_all(params, source, &times, &[], &mut |features| {
                        fit_shared(features, &responses, &options)
                    })?;
                    for (bin, found) in of_bins.into_iter().enumerate() {
                        let own = &times[bin];
                        cells.push(Cell {
                            source: number,
                            model_ms: own.iter().map(|t| source.times_ms[*t]).sum::<f64>() / own.len().max(1) as f64,
                            bin,
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

/// What is done with the feature sets of all bins.
type Then<'a, T> = dyn FnMut(&[&dyn Features]) -> Result<T, NeuralError> + 'a;

/// Hands over the feature sets of all bins at once.
fn with_all<T>(
    params: &Params,
    source: &Source<'_>,
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
