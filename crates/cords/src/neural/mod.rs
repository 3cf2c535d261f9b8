//! Neural predictivity: how well a network's activity predicts recorded responses of neurons.

mod algebra;
mod error;
mod explainable;
mod features;
mod fit;
mod gram;
mod latency;
mod mersenne;
mod pls;
mod recordings;
mod ridge;
mod scores;
mod splits;
mod summary;
mod synthetic;

pub use error::NeuralError;
pub use explainable::{Explained, LEAST_EXPLAINABLE, TestVariance, test_variances, variance_explained};
pub use features::{ActivityFile, AreaFeatures, FeatureMatrix, PixelFeatures, Reordered, When};
pub use fit::{Correlations, FitOptions, PredictionQuality, Regression, fit_each, fit_once, fit_shared};
pub use gram::{Centred, Features, Gram};
pub use latency::{Interval, LatencyEstimate, estimate_latency, half_rise};
pub use pls::{PlsFit, PlsRule, pls};
pub use recordings::{
    Merged, Neuron, NwbOptions, Presentations, Recordings, from_presentations, id_order, merge, plan_size,
    running_numbers,
};
pub use ridge::{Principal, RidgePath, ridge};
pub use scores::{mean_and_deviation, median, pearson, spearman_brown, split_half};
pub use splits::{Split, SplitOptions, shuffle_splits, stratified_splits};
pub use summary::{
    LEAST_CEILING, Limits, NeuronScore, Paired, Reliabilities, Summary, neuron_scores, paired, summarise,
};
pub use synthetic::{SimulatedRegion, SimulationOptions, Truth, simulate, times_reached, times_within};
