//! Parameters of `predictivity`, and what they mean to the engine.

use cords::neural::{PlsRule, Regression};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::{ActivityRef, AnyRef, DatasetRef, RecordingsRef, Violation};

/// How responses are predicted from activity: by name alone, as what the engine's `Regression` holds of each are
/// parameters of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RegressionName {
    /// partial least squares
    #[default]
    Pls,
    /// ridge regression with a given penalty
    Ridge,
    /// ridge regression with the penalty that predicts left-out training images best
    RidgeCv,
    /// each neuron by the one unit that correlates best with it on the training images
    NeuronToNeuron,
}

/// What responses of different time bins share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WeightsName {
    /// a fit for every pair of model time and time bin
    #[default]
    PerBin,
    /// one fit for all time bins together, at each latency
    Shared,
    /// weights fitted to `fit_bin` from `fit_times`, and applied to every pair of model time and time bin
    Window,
}

/// What activity is reduced to before the fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReductionName {
    /// nothing: all recorded values
    #[default]
    None,
    /// principal components of the training images, fitted anew in every split
    Pca,
    /// a sparse random projection, which is not fitted at all
    RandomProjection,
}

/// What the network is compared with, besides the other activities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ControlName {
    /// the images' pixels; needs `data`
    Pixels,
    /// the recorded times of each image in an order of their own
    TimeShuffled,
    /// activity at the last recorded time, for all time bins
    Frozen,
    /// activity of another image: nothing can be predicted
    ImageShuffled,
}

/// Which neurons get rows of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NeuronRows {
    /// all, at the model time and time bin that predict their region best
    #[default]
    Best,
    /// all, at every model time and time bin
    All,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct Params {
    /// Activity of networks for the recordings' stimuli. The first is the network in question; it is compared with all
    /// others: an untrained one, a CNN twin.
    #[schemars(length(min = 1))]
    pub(super) activity: Vec<ActivityRef>,
    /// Responses of neurons. Several recordings (sessions, animals) go into one fit over the stimuli that all of them
    /// have. The id of a stimulus is the index of its image in the dataset, or with `files` its file's name, unless
    /// `stimuli` says otherwise.
    #[schemars(length(min = 1))]
    pub(super) recordings: Vec<RecordingsRef>,
    /// The dataset whose images were shown, for the control `pixels`; none, without that control, if not given.
    #[serde(default)]
    pub(super) data: Option<DatasetRef>,
    /// The dataset's table of images, `DATASET/files`: with it stimuli may be called by the names of their files;
    /// only by their indices if not given.
    #[serde(default)]
    pub(super) files: Option<AnyRef>,
    /// Table (.csv, .parquet) with columns `stimulus_id` and `image` (index in the dataset) or `file` or `filename`
    /// (with `files`: a file's name, or its last parts), relative to the project's folder. If not given, a stimulus's
    /// id is its image's index or, with `files`, its file's name.
    #[serde(default)]
    #[schemars(extend("x-path" = true))]
    pub(super) stimuli: Option<String>,
    /// Areas, from 0; all recorded ones if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) areas: Option<Vec<usize>>,
    /// Model times after image onset, each the nearest recorded one; all recorded ones if not given.
    #[serde(default)]
    #[schemars(length(min = 1), extend("x-unit" = "ms"))]
    pub(super) times: Option<Vec<f64>>,
    /// Time bins after stimulus onset, averaged from the recorded ones; those as they are if not given.
    #[serde(default)]
    #[schemars(length(min = 1), extend("x-unit" = "ms"))]
    pub(super) bins: Option<Vec<[f64; 2]>>,
    /// Brain regions; all if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) regions: Option<Vec<String>>,
    /// How responses are predicted.
    #[serde(default)]
    pub(super) regression: RegressionName,
    /// Number of components of PLS regression.
    #[serde(default = "twenty_five")]
    #[schemars(range(min = 1))]
    pub(super) components: usize,
    /// How the weights of a PLS component are found.
    #[serde(default)]
    pub(super) rule: PlsRule,
    /// Divide features and responses by their standard deviation over the training images, in PLS.
    #[serde(default)]
    pub(super) scale: bool,
    /// Penalty of ridge regression.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub(super) alpha: f64,
    /// Penalties that `ridge_cv` chooses from.
    #[serde(default = "decades")]
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    pub(super) alphas: Vec<f64>,
    /// What responses of different time bins share.
    #[serde(default)]
    pub(super) weights: WeightsName,
    /// Time bin that the weights of `window` are fitted to.
    #[serde(default = "published_window")]
    #[schemars(extend("x-unit" = "ms"))]
    pub(super) fit_bin: [f64; 2],
    /// Model times whose mean activity the weights of `window` are fitted from; those of `fit_bin` if not given.
    #[serde(default)]
    #[schemars(extend("x-unit" = "ms"))]
    pub(super) fit_times: Option<[f64; 2]>,
    /// How long neurons may respond after the model, to be searched.
    #[serde(default = "latencies")]
    #[schemars(length(min = 1), extend("x-unit" = "ms"))]
    pub(super) latencies: Vec<f64>,
    /// What activity is reduced to before the fit.
    #[serde(default)]
    pub(super) reduction: ReductionName,
    /// Dimensions of the reduction.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1))]
    pub(super) dimensions: usize,
    /// Divisions of the images into training and test part, as scikit-learn's (Stratified)ShuffleSplit makes them.
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    pub(super) splits: usize,
    /// Fraction of the images that is fitted to.
    #[serde(default = "nine_tenths")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub(super) train: f64,
    /// Keep the classes' proportions in both parts; yes, where the recordings name classes, if not given.
    #[serde(default)]
    pub(super) stratify: Option<bool>,
    /// `random_state` of the splits and of the halvings of repetitions. Published scores use 1.
    #[serde(default = "one_seed")]
    pub(super) split_seed: u32,
    /// Table (.csv, .parquet) with columns `split`, `stimulus_id` and `part` (`train` or `test`), relative to the
    /// project's folder. If not given, the `splits` are drawn.
    #[serde(default)]
    #[schemars(extend("x-path" = true))]
    pub(super) split_file: Option<String>,
    /// Halvings of the repetitions for the reliability.
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    pub(super) halvings: usize,
    /// What the network is compared with, besides the other activities.
    #[serde(default)]
    pub(super) controls: Vec<ControlName>,
    /// Which neurons get rows of their own.
    #[serde(default)]
    pub(super) neurons: NeuronRows,
    /// Seed of the random projection and of controls; the pipeline's if not given.
    #[serde(default)]
    pub(super) seed: u64,
}

fn twenty_five() -> usize {
    25
}

fn one() -> f64 {
    1.0
}

fn one_seed() -> u32 {
    1
}

fn ten() -> usize {
    10
}

fn thousand() -> usize {
    1000
}

fn nine_tenths() -> f64 {
    0.9
}

fn published_window() -> [f64; 2] {
    [70.0, 170.0]
}

fn decades() -> Vec<f64> {
    (-2..=7).map(|power| 10f64.powi(power)).collect()
}

fn latencies() -> Vec<f64> {
    (0..=6).map(|step| 10.0 * f64::from(step)).collect()
}

impl Params {
    pub(super) fn regression(&self) -> Regression {
        match self.regression {
            RegressionName::Pls => Regression::Pls {
                components: self.components,
                rule: self.rule,
                scale: self.scale,
            },
            RegressionName::Ridge => Regression::Ridge { alpha: self.alpha },
            RegressionName::RidgeCv => Regression::RidgeCv {
                alphas: self.alphas.clone(),
            },
            RegressionName::NeuronToNeuron => Regression::NeuronToNeuron,
        }
    }

    pub(super) fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut wrong = |parameter, message: &str| found.push(Violation::new(parameter, message));
        if self.controls.contains(&ControlName::Pixels) && self.data.is_none() {
            wrong("controls", "`pixels` needs `data`, the dataset whose images were shown");
        }
        let twice = |i: usize| self.controls[..i].contains(&self.controls[i]);
        if (0..self.controls.len()).any(twice) {
            wrong("controls", "a control is given twice");
        }
        let ordered = |[start, end]: &[f64; 2]| start < end;
        if !self.bins.iter().flatten().all(ordered) {
            wrong("bins", "a time bin must end after it starts");
        }
        if !ordered(&self.fit_bin) {
            wrong("fit_bin", "a time bin must end after it starts");
        }
        if !self.fit_times.iter().all(ordered) {
            wrong("fit_times", "a window must end after it starts");
        }
        if self.regression != RegressionName::Pls && self.scale {
            wrong("scale", "only `pls` scales");
        }
        if self.weights != WeightsName::PerBin && self.regression == RegressionName::NeuronToNeuron {
            wrong("weights", "`neuron_to_neuron` has no weights to share; take `per_bin`");
        }
        if self.weights == WeightsName::Window && self.scale {
            wrong("scale", "weights of one window at other times are not scaled");
        }
        if self.reduction == ReductionName::Pca && (self.scale || self.regression == RegressionName::NeuronToNeuron) {
            wrong(
                "reduction",
                "`pca` works on unscaled activity and is not a feature by itself; leave out `scale`, or take another \
                 regression",
            );
        }
        let mut latencies = self.latencies.clone();
        latencies.sort_by(f64::total_cmp);
        if latencies.windows(2).any(|pair| pair[0] == pair[1]) {
            wrong("latencies", "a latency is given twice");
        }
        found
    }
}
