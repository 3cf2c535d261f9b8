//! From features to correlations: which responses are fitted on what, over all splits.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatRef, Side};
use rayon::prelude::*;

use super::NeuralError;
use super::algebra::{centre_columns, map_columns, product};
use super::gram::{Centred, Features, Gram, for_blocks};
use super::pls::{PlsRule, pls};
use super::ridge::{Principal, RidgePath};
use super::scores::pearson;
use super::splits::Split;

/// How responses are predicted from features.
#[derive(Clone, Debug, PartialEq)]
pub enum Regression {
    /// Partial least squares on a number of components.
    Pls {
        /// Components, 25 in published benchmarks.
        components: usize,
        /// How their weights are found.
        rule: PlsRule,
        /// Divide features and responses by their standard deviation over the training stimuli.
        scale: bool,
    },
    /// Ridge regression with a given penalty.
    Ridge {
        /// Penalty of the squared coefficients, positive.
        alpha: f64,
    },
    /// Ridge regression with the penalty that predicts left-out training stimuli best.
    RidgeCv {
        /// Penalties to choose from, positive.
        alphas: Vec<f64>,
    },
    /// Each neuron by the one feature that correlates best with it over the training stimuli.
    NeuronToNeuron,
}

/// A regression and what it is fitted to and tested on.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// How responses are predicted.
    pub regression: Regression,
    /// Fit in this many principal components of the training stimuli's features.
    pub principal_components: Option<usize>,
    /// Training and test stimuli.
    pub splits: Vec<Split>,
}

/// Pearson's r of prediction and response over the test stimuli, `[split][neuron]`; NaN where one of them does not
/// vary.
pub type Correlations = Vec<Vec<f64>>;

/// How predictions agree with mean responses over the test stimuli.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictionQuality {
    /// Pearson's r of prediction and response, `[split][neuron]`.
    pub r: Correlations,
    /// Mean squared difference, `[split][neuron]`; `None` where predictions are not on the scale of responses.
    pub squared_error: Option<Vec<Vec<f64>>>,
}

/// Pearson's r and mean squared difference of each neuron.
type SplitQuality = Vec<(f64, Option<f64>)>;

/// Entries of the Gram matrices of splits that are worked on side by side: 64 MiB. Within a split work is divided too.
const SIDE_BY_SIDE: usize = 1 << 23;

/// Rows of a Gram matrix at most: 3 GB.
const LARGEST: usize = 20_000;

/// Fits responses `[stimulus, neuron]` of each time bin on its own from one feature set.
///
/// # Errors
/// [`NeuralError`].
pub fn fit_each(
    features: &dyn Features,
    responses: &[Mat<f64>],
    options: &FitOptions,
) -> Result<Vec<PredictionQuality>, NeuralError> {
    check(features.stimuli(), responses, options)?;
    if options.regression == Regression::NeuronToNeuron {
        return neuron_to_neuron(features, responses, options);
    }
    let gram = shared_gram(features, options)?;
    let of_split = |split: &Split| -> Result<Vec<SplitQuality>, NeuralError> {
        let Centred { train, test } = centred(gram.as_ref(), features, split)?;
        let fitter = Fitter::new(train, options)?;
        responses
            .iter()
            .map(|responses| {
                let fit = fitter.fit(rows(responses, &split.train))?;
                Ok(agreement(&fit.predict(test.as_ref()), responses, &split.test))
            })
            .collect()
    };
    Ok(by_bin(over_splits(&options.splits, of_split)?))
}

/// Fits the responses of all time bins together, with one set of weights: the feature set of a bin predicts the
/// responses in it. All bins of a stimulus are in the same part of a split.
///
/// # Errors
/// [`NeuralError`]; more stimuli x bins than a Gram matrix can have rows.
pub fn fit_shared(
    features: &[&dyn Features],
    responses: &[Mat<f64>],
    options: &FitOptions,
) -> Result<Vec<PredictionQuality>, NeuralError> {
    let stacked = Stacked { sets: features };
    let n = features.first().map_or(0, |set| set.stimuli());
    check(n, responses, options)?;
    if features.len() != responses.len() || features.iter().any(|set| set.stimuli() != n) {
        return Err(NeuralError::Option {
            option: "features",
            problem: format!("{} feature sets for {} time bins", features.len(), responses.len()),
        });
    }
    if stacked.stimuli() > LARGEST {
        return Err(NeuralError::Option {
            option: "weights",
            problem: format!(
                "{n} stimuli x {} bins are more than the {LARGEST} that one fit can take; name fewer windows",
                responses.len()
            ),
        });
    }
    if options.regression == Regression::NeuronToNeuron {
        return unsupported("one set of weights for all bins");
    }
    let all = Mat::from_fn(stacked.stimuli(), responses[0].ncols(), |row, j| {
        responses[row / n][(row % n, j)]
    });
    let everywhere = |stimuli: &[usize]| -> Vec<usize> {
        (0..responses.len())
            .flat_map(|bin| stimuli.iter().map(move |s| bin * n + s))
            .collect()
    };
    let splits: Vec<Split> = options
        .splits
        .iter()
        .map(|split| Split {
            train: everywhere(&split.train),
            test: everywhere(&split.test),
        })
        .collect();
    let gram = shared_gram(&stacked, options)?;
    let of_split = |split: &Split| -> Result<Vec<SplitQuality>, NeuralError> {
        let Centred { train, test } = centred(gram.as_ref(), &stacked, split)?;
        let predicted = Fitter::new(train, options)?
            .fit(rows(&all, &split.train))?
            .predict(test.as_ref());
        // The first bin's rows of both parts are the stimuli themselves.
        let count = split.test.len() / responses.len();
        Ok(responses
            .iter()
            .enumerate()
            .map(|(bin, responses)| {
                let own = predicted.subrows(bin * count, count).to_owned();
                agreement(&own, responses, &split.test[..count])
            })
            .collect())
    };
    Ok(by_bin(over_splits(&splits, of_split)?))
}

/// Fits the responses of one window from one feature set, and applies those weights to other feature sets, each
/// compared with the responses in each time bin: `[applied][bin]`.
///
/// # Errors
/// [`NeuralError`]; a regression that has no weights to carry over.
pub fn fit_once(
    fitted: &dyn Features,
    window: &Mat<f64>,
    applied: &[&dyn Features],
    responses: &[Mat<f64>],
    options: &FitOptions,
) -> Result<Vec<Vec<PredictionQuality>>, NeuralError> {
    check(fitted.stimuli(), responses, options)?;
    check(fitted.stimuli(), std::slice::from_ref(window), options)?;
    if let Regression::NeuronToNeuron | Regression::Pls { scale: true, .. } = options.regression {
        return unsupported("weights of one window at other times, without scaling");
    }
    let gram = Gram::new(fitted)?;
    let fits = over_splits(&options.splits, |split| {
        let Centred { train, .. } = gram.centred(&split.train, &[]);
        Fitter::new(train, options)?.fit(rows(window, &split.train))
    })?;
    applied
        .iter()
        .map(|features| {
            let cross = Gram::cross(*features, fitted)?;
            let of_split = |(split, fit): (&Split, &Fit)| -> Vec<SplitQuality> {
                let predicted = fit.predict(gram.centred_cross(&cross, &split.test, &split.train).as_ref());
                responses
                    .iter()
                    .map(|r| agreement(&predicted, r, &split.test))
                    .collect()
            };
            Ok(by_bin(options.splits.par_iter().zip(&fits).map(of_split).collect()))
        })
        .collect()
}

fn unsupported<T>(what: &str) -> Result<T, NeuralError> {
    Err(NeuralError::Option {
        option: "regression",
        problem: format!("it cannot give {what}; take `pls` without scaling, or a ridge regression"),
    })
}

fn check(stimuli: usize, responses: &[Mat<f64>], options: &FitOptions) -> Result<(), NeuralError> {
    let wrong = |option, problem: String| Err(NeuralError::Option { option, problem });
    if stimuli > LARGEST {
        return wrong(
            "images",
            format!("{stimuli} stimuli, and {LARGEST} can be taken at most"),
        );
    }
    let Some(first) = responses.first() else {
        return wrong("responses", "there are no time bins".to_owned());
    };
    if responses
        .iter()
        .any(|r| (r.nrows(), r.ncols()) != (stimuli, first.ncols()))
        || first.ncols() == 0
    {
        return wrong(
            "responses",
            format!(
                "features of {stimuli} stimuli for responses of {} x {}",
                first.nrows(),
                first.ncols()
            ),
        );
    }
    if responses
        .iter()
        .any(|r| r.col_iter().any(|column| column.iter().any(|v| !v.is_finite())))
    {
        return wrong("responses", "some are missing; leave those neurons out".to_owned());
    }
    if options.splits.is_empty() {
        return wrong("splits", "there are none".to_owned());
    }
    for split in &options.splits {
        if split.train.len() < 2 || split.test.len() < 2 {
            return wrong("splits", "training and test part need at least two stimuli".to_owned());
        }
        if split.train.iter().chain(&split.test).any(|s| *s >= stimuli) {
            return wrong("splits", format!("a stimulus beyond the {stimuli} that there are"));
        }
        if split.test.iter().any(|s| split.train.contains(s)) {
            return wrong("splits", "a stimulus is in both parts".to_owned());
        }
        if let Regression::Pls { components, .. } = options.regression
            && components > split.train.len()
        {
            return wrong(
                "components",
                format!("{components} components of {} training stimuli", split.train.len()),
            );
        }
    }
    let positive = |alpha: f64| alpha.is_finite() && alpha > 0.0;
    match &options.regression {
        Regression::Ridge { alpha } if !positive(*alpha) => wrong("alpha", format!("{alpha} is not positive")),
        Regression::RidgeCv { alphas } if alphas.is_empty() || alphas.iter().any(|a| !positive(*a)) => {
            wrong("alphas", "positive penalties are needed".to_owned())
        }
        _ => Ok(()),
    }
}

/// As many splits side by side as their Gram matrices leave memory for.
fn over_splits<T: Send>(
    splits: &[Split],
    of_split: impl Fn(&Split) -> Result<T, NeuralError> + Sync,
) -> Result<Vec<T>, NeuralError> {
    let largest = splits.iter().map(|split| split.train.len().pow(2)).max().unwrap_or(1);
    let mut found = Vec::with_capacity(splits.len());
    for group in splits.chunks((SIDE_BY_SIDE / largest.max(1)).max(1)) {
        let of_group: Result<Vec<T>, NeuralError> = group.par_iter().map(&of_split).collect();
        found.extend(of_group?);
    }
    Ok(found)
}

/// The Gram matrix of all splits, unless each has its own.
fn shared_gram(features: &dyn Features, options: &FitOptions) -> Result<Option<Gram>, NeuralError> {
    match options.regression {
        Regression::Pls { scale: true, .. } => Ok(None),
        _ => Gram::new(features).map(Some),
    }
}

fn centred(gram: Option<&Gram>, features: &dyn Features, split: &Split) -> Result<Centred, NeuralError> {
    match gram {
        Some(gram) => Ok(gram.centred(&split.train, &split.test)),
        None => Ok(Gram::scaled(features, &split.train)?.centred(&split.train, &split.test)),
    }
}

fn rows(values: &Mat<f64>, which: &[usize]) -> Mat<f64> {
    Mat::from_fn(which.len(), values.ncols(), |i, j| values[(which[i], j)])
}

/// Agreement of each column of a prediction with the responses of the test stimuli.
fn agreement(predicted: &Mat<f64>, responses: &Mat<f64>, test: &[usize]) -> SplitQuality {
    let mut found = vec![0.0; test.len()];
    let mut expected = vec![0.0; test.len()];
    (0..responses.ncols())
        .map(|j| {
            for (i, s) in test.iter().enumerate() {
                found[i] = predicted[(i, j)];
                expected[i] = responses[(*s, j)];
            }
            let squares = found
                .iter()
                .zip(&expected)
                .map(|(found, expected)| (found - expected).powi(2));
            let squared_error = squares.sum::<f64>() / test.len() as f64;
            (pearson(&found, &expected).unwrap_or(f64::NAN), Some(squared_error))
        })
        .collect()
}

/// Turns `[split][bin][neuron]` into one quality per bin, each `[split][neuron]`.
fn by_bin(of_splits: Vec<Vec<SplitQuality>>) -> Vec<PredictionQuality> {
    let bins = of_splits.first().map_or(0, Vec::len);
    let of_bin = |bin: usize| {
        let splits = || of_splits.iter().map(|of_bins| of_bins[bin].iter());
        PredictionQuality {
            r: splits().map(|neurons| neurons.map(|(r, _)| *r).collect()).collect(),
            squared_error: splits()
                .map(|mut neurons| {
                    neurons.try_fold(Vec::new(), |mut all, (_, error)| {
                        all.push((*error)?);
                        Some(all)
                    })
                })
                .collect(),
        }
    };
    (0..bins).map(of_bin).collect()
}

/// What a regression needs of the training stimuli's features, for any number of responses.
struct Fitter<'a> {
    options: &'a FitOptions,
    kernel: Mat<f64>,
    principal: Option<Principal>,
    path: Option<RidgePath>,
    factor: Option<Llt<f64>>,
}

impl<'a> Fitter<'a> {
    fn new(kernel: Mat<f64>, options: &'a FitOptions) -> Result<Self, NeuralError> {
        let principal = match options.principal_components {
            Some(components) => Some(Principal::new(kernel.as_ref(), components)?),
            None => None,
        };
        let mut kernel = principal.as_ref().map_or(kernel, Principal::kernel);
        let (mut path, mut factor) = (None, None);
        match options.regression {
            Regression::RidgeCv { .. } => path = Some(RidgePath::new(kernel.as_ref())?),
            Regression::Ridge { alpha } => {
                for i in 0..kernel.nrows() {
                    kernel[(i, i)] += alpha;
                }
                factor = Some(kernel.llt(Side::Lower).map_err(|error| NeuralError::Numerics {
                    what: "the Cholesky factorisation of ridge regression",
                    problem: format!("{error:?}"),
                })?);
            }
            _ => {}
        }
        Ok(Self {
            options,
            kernel,
            principal,
            path,
            factor,
        })
    }

    /// Fits responses `[train, neuron]`.
    fn fit(&self, mut responses: Mat<f64>) -> Result<Fit, NeuralError> {
        let means = centre_columns(&mut responses);
        let coefficients = match (&self.options.regression, &self.path, &self.factor) {
            (Regression::RidgeCv { alphas }, Some(path), _) => path.best(responses.as_ref(), alphas)?.1,
            (_, _, Some(factor)) => factor.solve(&responses),
            (
                Regression::Pls {
                    components,
                    rule,
                    scale,
                },
                ..,
            ) => {
                let scales = if *scale {
                    scale_columns(&mut responses)
                } else {
                    vec![1.0; responses.ncols()]
                };
                let mut fit = pls(self.kernel.as_ref(), responses.as_ref(), *components, *rule)?.coefficients;
                let mut scales = scales.into_iter();
                map_columns(&mut fit, |column| {
                    let scale = scales.next().unwrap_or(1.0);
                    column.iter_mut().for_each(|v| *v *= scale);
                });
                fit
            }
            _ => return unsupported("a fit from inner products"),
        };
        let coefficients = match &self.principal {
            Some(principal) => principal.lift(coefficients.as_ref()),
            None => coefficients,
        };
        Ok(Fit { coefficients, means })
    }
}

/// Divides each column by its standard deviation (of n - 1), 1 where that is 0.
fn scale_columns(values: &mut Mat<f64>) -> Vec<f64> {
    map_columns(values, |column| {
        let n = column.len() as f64;
        let mean = column.iter().sum::<f64>() / n;
        let std = (column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let std = if std == 0.0 { 1.0 } else { std };
        column.iter_mut().for_each(|v| *v /= std);
        std
    })
}

/// A fitted regression in dual form.
struct Fit {
    coefficients: Mat<f64>,
    means: Vec<f64>,
}

impl Fit {
    /// Predictions from inner products with the training stimuli.
    fn predict(&self, inner: MatRef<'_, f64>) -> Mat<f64> {
        let mut predicted = product(inner, self.coefficients.as_ref());
        let mut means = self.means.iter();
        map_columns(&mut predicted, |column| {
            let mean = means.next().unwrap_or(&0.0);
            column.iter_mut().for_each(|v| *v += mean);
        });
        predicted
    }
}

/// Each neuron by the feature with the largest correlation over the training stimuli.
fn neuron_to_neuron(
    features: &dyn Features,
    responses: &[Mat<f64>],
    options: &FitOptions,
) -> Result<Vec<PredictionQuality>, NeuralError> {
    let q = responses[0].ncols();
    let columns = q * responses.len();
    /// Standardised responses of a split's training stimuli, and the best feature so far of each.
    struct Search {
        responses: Mat<f64>,
        best: Vec<(f64, Option<usize>)>,
    }
    let mut searches: Vec<Search> = options
        .splits
        .iter()
        .map(|split| {
            let mut own = Mat::from_fn(split.train.len(), columns, |i, c| {
                responses[c / q][(split.train[i], c % q)]
            });
            unit_columns(&mut own);
            Search {
                responses: own,
                best: vec![(f64::NEG_INFINITY, None); columns],
            }
        })
        .collect();
    let mut first = 0;
    for_blocks(&[features], |block, width| {
        searches
            .par_iter_mut()
            .zip(&options.splits)
            .for_each(|(search, split)| {
                let mut own = Mat::from_fn(split.train.len(), width, |i, f| block[split.train[i] * width + f]);
                unit_columns(&mut own);
                let r = product(own.transpose(), search.responses.as_ref());
                for (c, best) in search.best.iter_mut().enumerate() {
                    for f in 0..width {
                        if r[(f, c)] > best.0 {
                            *best = (r[(f, c)], Some(first + f));
                        }
                    }
                }
            });
        first += width;
    })?;
    let of_split = |(search, split): (&Search, &Split)| -> Result<Vec<SplitQuality>, NeuralError> {
        let mut all: Vec<SplitQuality> = vec![vec![(f64::NAN, None); q]; responses.len()];
        for (c, (_, feature)) in search.best.iter().enumerate() {
            let Some(feature) = feature else { continue };
            let mut value = [0.0];
            let mut found = Vec::with_capacity(split.test.len());
            for s in &split.test {
                features.read(*s, *feature..feature + 1, &mut value)?;
                found.push(value[0]);
            }
            let expected: Vec<f64> = split.test.iter().map(|s| responses[c / q][(*s, c % q)]).collect();
            // A unit's activity is not on the scale of responses.
            all[c / q][c % q].0 = pearson(&found, &expected).unwrap_or(f64::NAN);
        }
        Ok(all)
    };
    Ok(by_bin(
        searches
            .par_iter()
            .zip(&options.splits)
            .map(of_split)
            .collect::<Result<_, _>>()?,
    ))
}

/// Centres columns and gives them length 1; those that do not vary become NaN, which no comparison prefers.
fn unit_columns(values: &mut Mat<f64>) {
    centre_columns(values);
    map_columns(values, |column| {
        let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
        column.iter_mut().for_each(|v| *v /= length);
    });
}

/// Feature sets one below the other.
struct Stacked<'a> {
    sets: &'a [&'a dyn Features],
}

impl Features for Stacked<'_> {
    fn stimuli(&self) -> usize {
        self.sets.iter().map(|set| set.stimuli()).sum()
    }

    fn len(&self) -> usize {
        self.sets.first().map_or(0, |set| set.len())
    }

    fn read(&self, row: usize, range: std::ops::Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        let each = self.sets[0].stimuli();
        self.sets[row / each].read(row % each, range, out)
    }
}
