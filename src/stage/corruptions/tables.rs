//! Result tables of the `corruptions` stage.

use cords::data::Corruption;
use cords::noise::{CorruptionError, Estimate};
use dynvis_runner::table::Row;
use indexmap::IndexMap;

use super::Evaluated;
use crate::stage::Spread;
use crate::stage::noise::mcnemar;

const DIVERGED: &str = "Images whose logits or activity were not finite; they have no answer";
const CORRUPTION: &str = "Corruption, under its published name; none: the clean image";
const SEVERITY: &str = "Severity, 1 to 5; 0: the clean image";
const CATEGORY: &str = "noise, blur, weather, digital, or extra, which is no part of any mean";

/// Who was evaluated.
#[derive(Row)]
struct NetworkKeys {
    /// The stage that gave the model
    #[column(key, slot = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: String,
    /// Seed of the model's training
    #[column(key)]
    seed: i64,
}

impl NetworkKeys {
    fn of(e: &Evaluated) -> Self {
        Self {
            models: e.slot,
            network: e.network.clone(),
            seed: e.seed as i64,
        }
    }
}

/// Accuracy of every model on every corruption and severity
#[derive(Row)]
#[table(name = "accuracy")]
pub(super) struct Accuracy {
    #[column(flatten)]
    network: NetworkKeys,
    /// clean: the dataset's image; file: the published corrupted image; drawn: noise of the same kind and level that
    /// was added here
    #[column(key)]
    source: &'static str,
    #[column(key, description = CORRUPTION)]
    corruption: &'static str,
    #[column(key, description = SEVERITY)]
    severity: u32,
    #[column(description = CATEGORY)]
    category: Option<&'static str>,
    /// Images classified rightly, of those that did not diverge; missing where all did
    accuracy: Option<f64>,
    /// Lower end of the 95 % interval (Wilson)
    accuracy_low: Option<f64>,
    /// Upper end of the 95 % interval (Wilson)
    accuracy_high: Option<f64>,
    /// Root mean square of what was changed in the pixels, in [0, 1], at the size of the dataset
    #[column(absolute = 1e-6, relative = 1e-6)]
    change: f64,
    /// Number of images
    images: usize,
    #[column(description = DIVERGED)]
    diverged: usize,
}

impl Accuracy {
    pub(super) fn all(e: &Evaluated) -> impl Iterator<Item = Self> {
        let clean = Self {
            network: NetworkKeys::of(e),
            source: "clean",
            corruption: "none",
            severity: 0,
            category: None,
            accuracy: e.clean.accuracy,
            accuracy_low: e.clean.accuracy_interval.map(|[low, _]| low),
            accuracy_high: e.clean.accuracy_interval.map(|[_, high]| high),
            change: 0.0,
            images: e.clean.right.len(),
            diverged: e.clean.diverged,
        };
        let files = e.files.iter().map(|shown| Self {
            network: NetworkKeys::of(e),
            source: "file",
            corruption: shown.corruption.name(),
            severity: u32::from(shown.severity),
            category: Some(shown.corruption.category().name()),
            accuracy: shown.result.accuracy,
            accuracy_low: shown.result.accuracy_interval.map(|[low, _]| low),
            accuracy_high: shown.result.accuracy_interval.map(|[_, high]| high),
            change: shown.result.change,
            images: shown.result.right.len(),
            diverged: shown.result.diverged,
        });
        let drawn = e.drawn.iter().map(|shown| Self {
            network: NetworkKeys::of(e),
            source: "drawn",
            corruption: shown.corruption.name(),
            severity: u32::from(shown.severity),
            category: Some(shown.corruption.category().name()),
            accuracy: shown.result.accuracy,
            accuracy_low: shown.result.accuracy_interval.map(|[low, _]| low),
            accuracy_high: shown.result.accuracy_interval.map(|[_, high]| high),
            change: shown.result.achieved,
            images: shown.result.right.len(),
            diverged: shown.result.diverged,
        });
        [clean].into_iter().chain(files).chain(drawn)
    }
}

/// Errors over severities, of one corruption or of several.
#[derive(Row)]
struct Errors {
    /// Wrong answers, mean over severities (and corruptions)
    mean_error: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    mean_error_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    mean_error_high: Option<f64>,
    /// The same, less the wrong answers to clean images
    increase: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    increase_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    increase_high: Option<f64>,
}

impl Errors {
    fn of(errors: Option<&CorruptionError>) -> Self {
        let of = |which: fn(&CorruptionError) -> Estimate| columns(errors.map(which));
        let [mean_error, mean_error_low, mean_error_high] = of(|errors| errors.mean_error);
        let [increase, increase_low, increase_high] = of(|errors| errors.increase);
        Self {
            mean_error,
            mean_error_low,
            mean_error_high,
            increase,
            increase_low,
            increase_high,
        }
    }
}

/// Errors relative to the baseline's.
#[derive(Row)]
struct RelativeErrors {
    /// Wrong answers over the baseline's, sums over severities (mean of that over corruptions): 1 is as many; missing
    /// without a baseline
    corruption_error: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    corruption_error_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    corruption_error_high: Option<f64>,
    /// The same with the wrong answers to clean images taken off both; missing where the baseline does not err more on
    /// corrupted images
    relative_corruption_error: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    relative_corruption_error_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    relative_corruption_error_high: Option<f64>,
}

impl RelativeErrors {
    fn of(errors: &CorruptionError) -> Self {
        let [corruption_error, corruption_error_low, corruption_error_high] = columns(Some(errors.corruption_error));
        let [
            relative_corruption_error,
            relative_corruption_error_low,
            relative_corruption_error_high,
        ] = columns(Some(errors.relative_corruption_error));
        Self {
            corruption_error,
            corruption_error_low,
            corruption_error_high,
            relative_corruption_error,
            relative_corruption_error_low,
            relative_corruption_error_high,
        }
    }
}

/// A value with the ends of its interval.
fn columns(estimate: Option<Estimate>) -> [Option<f64>; 3] {
    estimate.map_or(
        [None; 3],
        |Estimate {
             value,
             interval: [low, high],
         }| [value, low, high],
    )
}

/// Errors of every model and corruption over severities, alone and relative to the baseline
#[derive(Row)]
#[table(name = "errors")]
pub(super) struct Error {
    #[column(flatten)]
    network: NetworkKeys,
    /// Corruption, under its published name
    #[column(key)]
    corruption: &'static str,
    #[column(description = CATEGORY)]
    category: &'static str,
    /// Severities that they are over
    severities: String,
    #[column(flatten)]
    errors: Errors,
    #[column(flatten)]
    relative: RelativeErrors,
}

impl Error {
    pub(super) fn all(e: &Evaluated) -> impl Iterator<Item = Self> {
        e.errors.corruptions.iter().map(|(corruption, errors)| Self {
            network: NetworkKeys::of(e),
            corruption: corruption.name(),
            category: corruption.category().name(),
            severities: severities(e, *corruption),
            errors: Errors::of(Some(errors)),
            relative: RelativeErrors::of(errors),
        })
    }
}

/// The severities of a corruption that were shown, as `1, 2, 3`.
fn severities(e: &Evaluated, corruption: Corruption) -> String {
    let shown = e.files.iter().filter(|shown| shown.corruption == corruption);
    let severities: Vec<String> = shown.map(|shown| shown.severity.to_string()).collect();
    severities.join(", ")
}

/// Errors of every model by category: means over its corruptions
#[derive(Row)]
#[table(name = "categories")]
pub(super) struct Category {
    #[column(flatten)]
    network: NetworkKeys,
    /// noise, blur, weather or digital
    #[column(key)]
    category: &'static str,
    /// Corruptions that the means are over: of noise there are three, of the others four
    corruptions: usize,
    /// Severities that they are over
    severities: String,
    #[column(flatten)]
    errors: Errors,
    #[column(flatten)]
    relative: RelativeErrors,
}

impl Category {
    pub(super) fn all(e: &Evaluated) -> impl Iterator<Item = Self> {
        e.errors.categories.iter().map(|(category, corruptions, errors)| {
            let first = e
                .errors
                .corruptions
                .iter()
                .find(|(corruption, _)| corruption.category() == *category);
            Self {
                network: NetworkKeys::of(e),
                category: category.name(),
                corruptions: *corruptions,
                // All corruptions are shown at the same ones.
                severities: first.map_or_else(String::new, |(corruption, _)| severities(e, *corruption)),
                errors: Errors::of(Some(errors)),
                relative: RelativeErrors::of(errors),
            }
        })
    }
}

/// Means over the fifteen corruptions at five severities, mCE among them; missing unless all of them were evaluated
#[derive(Row)]
#[table(name = "mce")]
pub(super) struct Mean {
    #[column(flatten)]
    network: NetworkKeys,
    /// What corruption errors are relative to
    baseline: String,
    /// Wrong answers to the clean images
    clean_error: Option<f64>,
    #[column(flatten)]
    errors: Errors,
    /// Mean corruption error: 1 is the baseline's; missing without one
    mce: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    mce_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    mce_high: Option<f64>,
    /// Relative mean corruption error: errors on clean images are taken off both
    relative_mce: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    relative_mce_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    relative_mce_high: Option<f64>,
    /// Corruptions and severities that are missing of the 75
    missing: usize,
    /// Number of images, the same under every corruption and severity
    images: usize,
    /// Images that diverged, clean or under any corruption; they have no answer there
    diverged: usize,
}

impl Mean {
    pub(super) fn of(e: &Evaluated, baseline: &str) -> Self {
        let mean = e.errors.mean.as_ref();
        let [mce, mce_low, mce_high] = columns(mean.map(|errors| errors.corruption_error));
        let relative = columns(mean.map(|errors| errors.relative_corruption_error));
        let [relative_mce, relative_mce_low, relative_mce_high] = relative;
        Self {
            network: NetworkKeys::of(e),
            baseline: baseline.to_owned(),
            clean_error: e.errors.clean_error.value,
            errors: Errors::of(mean),
            mce,
            mce_low,
            mce_high,
            relative_mce,
            relative_mce_low,
            relative_mce_high,
            missing: e.errors.missing.len(),
            images: e.clean.right.len(),
            diverged: e.errors.diverged,
        }
    }
}

/// Means over the fifteen corruptions by network: mean and standard deviation over models that differ in their seed
/// alone
#[derive(Row)]
#[table(name = "summary")]
pub(super) struct Summary {
    /// The stage that gave the models, by all matrix fields but `seed`
    #[column(key, group = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: String,
    /// Wrong answers to the clean images, mean over models
    clean_error: Option<f64>,
    /// Standard deviation over models
    clean_error_deviation: Option<f64>,
    /// Wrong answers, mean over the fifteen corruptions, five severities and models
    mean_error: Option<f64>,
    /// Standard deviation over models
    mean_error_deviation: Option<f64>,
    /// Mean corruption error, mean over models; missing without a baseline
    mce: Option<f64>,
    /// Standard deviation over models
    mce_deviation: Option<f64>,
    /// Relative mean corruption error, mean over models; missing without a baseline
    relative_mce: Option<f64>,
    /// Standard deviation over models
    relative_mce_deviation: Option<f64>,
    /// Models that these are over
    n: usize,
}

/// Mean and spread over the models that repeat each other.
pub(super) fn summary(evaluated: &[Evaluated]) -> Vec<Summary> {
    let mut groups: IndexMap<(usize, &str), Vec<&Evaluated>> = IndexMap::new();
    for e in evaluated {
        groups.entry((e.group, e.network.as_str())).or_default().push(e);
    }
    let of_group = |((models, network), group): ((usize, &str), Vec<&Evaluated>)| {
        let of = |which: &dyn Fn(&Evaluated) -> Option<f64>| {
            let values: Vec<f64> = group.iter().filter_map(|e| which(e)).collect();
            // Of some of the models there is no mean.
            let all = values.len() == group.len();
            let Spread { mean, deviation, .. } = Spread::of(&values);
            (mean.filter(|_| all), deviation.filter(|_| all))
        };
        let mean = |which: fn(&CorruptionError) -> Estimate| of(&|e| which(e.errors.mean.as_ref()?).value);
        let (clean_error, clean_error_deviation) = of(&|e| e.errors.clean_error.value);
        let (mean_error, mean_error_deviation) = mean(|errors| errors.mean_error);
        let (mce, mce_deviation) = mean(|errors| errors.corruption_error);
        let (relative_mce, relative_mce_deviation) = mean(|errors| errors.relative_corruption_error);
        Summary {
            models,
            network: network.to_owned(),
            clean_error,
            clean_error_deviation,
            mean_error,
            mean_error_deviation,
            mce,
            mce_deviation,
            relative_mce,
            relative_mce_deviation,
            n: group.len(),
        }
    };
    groups.into_iter().map(of_group).collect()
}

/// Noise from files beside noise of the same kind and level drawn here, on the same clean images; other draws, and
/// those of the files were cut to whole levels (and those of ImageNet-C stored as JPEG)
#[derive(Row)]
#[table(name = "agreement")]
pub(super) struct Agreement {
    #[column(flatten)]
    network: NetworkKeys,
    /// Corruption, under its published name
    #[column(key)]
    corruption: &'static str,
    /// Severity, 1 to 5
    #[column(key)]
    severity: u32,
    /// Accuracy on the files' images
    file: Option<f64>,
    /// Accuracy under noise drawn here
    drawn: Option<f64>,
    /// The latter, less the former, on images that diverged in neither; missing where there are none
    difference: Option<f64>,
    /// Images classified rightly in the files alone
    only_file: u64,
    /// Images classified rightly under drawn noise alone
    only_drawn: u64,
    /// Two-sided, exact: how likely so uneven a split of those images is by chance
    p: Option<f64>,
    /// Root mean square of what the file changes in the pixels, in [0, 1]
    #[column(absolute = 1e-6, relative = 1e-6)]
    change_file: f64,
    /// Root mean square of what drawn noise changes
    #[column(absolute = 1e-6, relative = 1e-6)]
    change_drawn: f64,
}

impl Agreement {
    pub(super) fn all(e: &Evaluated) -> impl Iterator<Item = Self> {
        e.drawn.iter().filter_map(|drawn| {
            let same = |file: &&super::Shown<_>| (file.corruption, file.severity) == (drawn.corruption, drawn.severity);
            let file = e.files.iter().find(same)?;
            let pairs = file.result.right.iter().zip(&drawn.result.right);
            let pairs: Vec<(bool, bool)> = pairs.filter_map(|(file, drawn)| (*file).zip(*drawn)).collect();
            let only = |which: (bool, bool)| pairs.iter().filter(|pair| **pair == which).count() as u64;
            let (only_file, only_drawn) = (only((true, false)), only((false, true)));
            let compared = !pairs.is_empty();
            Some(Self {
                network: NetworkKeys::of(e),
                corruption: drawn.corruption.name(),
                severity: u32::from(drawn.severity),
                file: file.result.accuracy,
                drawn: drawn.result.accuracy,
                difference: compared.then(|| (only_drawn as f64 - only_file as f64) / pairs.len() as f64),
                only_file,
                only_drawn,
                p: compared.then(|| mcnemar(only_file, only_drawn)),
                change_file: file.result.change,
                change_drawn: drawn.result.achieved,
            })
        })
    }
}
