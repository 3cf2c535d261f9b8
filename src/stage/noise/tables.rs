//! Result tables of the `noise` stage.

use cords::noise::{
    AreaChange, Condition, Measured, NoisePresentation, Observer, Perturbation, Pixels, Robustness, Severities,
    ThresholdPosition, TimePoint, robustness,
};
use dynvis_runner::table::Row;
use indexmap::IndexMap;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::Evaluated;
use super::params::Params;
use crate::stage::Spread;

/// How a network looks at the frames, in a reader's words.
pub(super) fn view(observer: Observer) -> &'static str {
    match observer {
        Observer::Cordsnet => "dynamics",
        Observer::CordsnetWithoutRecurrence => "no recurrence",
        Observer::CnnFirstFrame => "one frame",
        Observer::CnnMeanFrame => "mean of frames",
        Observer::CnnMeanLogits => "mean of logits",
    }
}

/// The kind of noise, with what sets it apart from others of its kind.
pub(super) fn noise_name(condition: &Condition, areas: Option<&[usize]>) -> String {
    let of_areas = |kind: &str| match areas {
        None => kind.to_owned(),
        Some(areas) => {
            let areas: Vec<String> = areas.iter().map(usize::to_string).collect();
            format!("{kind} in area {}", areas.join(", "))
        }
    };
    match condition.perturbation {
        Perturbation::Pixels { noise, clip, .. } => {
            let kind = match noise {
                Pixels::Gaussian => "gaussian".into(),
                Pixels::Correlated { length } => format!("correlated over {length} px"),
                Pixels::Shot => "shot".into(),
                Pixels::Impulse => "impulse".into(),
                Pixels::Speckle => "speckle".into(),
            };
            if clip { format!("{kind}, clipped") } else { kind }
        }
        Perturbation::Neural => of_areas("neural"),
        Perturbation::Silencing => of_areas("silencing"),
        Perturbation::Weights => of_areas("weights"),
    }
}

/// The published severity that a condition is; 0 for the clean image.
fn severity(condition: &Condition, set: Severities) -> Option<i64> {
    let Perturbation::Pixels {
        noise,
        timing,
        clip: true,
    } = condition.perturbation
    else {
        return None;
    };
    // What was published are single images.
    if timing != NoisePresentation::Static && !condition.is_clean() {
        return None;
    }
    let levels = set.levels(noise)?;
    let place = [0.0]
        .iter()
        .chain(&levels)
        .position(|level| *level == condition.level)?;
    Some(place as i64)
}

pub(super) fn presentation_name(condition: &Condition) -> String {
    match condition.perturbation {
        Perturbation::Pixels { timing, .. } => match timing {
            NoisePresentation::Static => "static".into(),
            NoisePresentation::Dynamic => "dynamic".into(),
            NoisePresentation::OrnsteinUhlenbeck { tau_ms } => format!("over {tau_ms} ms"),
        },
        Perturbation::Neural => "dynamic".into(),
        Perturbation::Silencing | Perturbation::Weights => "static".into(),
    }
}

const ANSWERED: &str = "Images classified rightly, of those that did not diverge; missing where all did";
const VIEW: &str =
    "How the network looks: dynamics, no recurrence (recurrent weights 0), one frame, mean of frames, mean of logits";
const DT: &str = "Step of the network, or of the frames that a CNN sees; a single frame under dynamic noise is that of \
                  a step of 2 ms";
const STEP_BOUND: &str = "Whether the noise is drawn anew at every step. Then networks of other steps see another \
                          experiment, unless the noise is small beside what rectifies it";
const DIVERGED: &str = "Images whose logits or activity were not finite; they have no answer";
const LEVEL: &str =
    "How much, in the units of its kind (`dynvis stages noise`); of pixels the standard deviation in [0, 1]";

/// Who was evaluated.
#[derive(Row)]
struct NetworkKeys {
    /// The stage that gave the model
    #[column(key, slot = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: String,
    #[column(key, description = VIEW)]
    view: &'static str,
    /// Seed of the model's training
    #[column(key)]
    seed: i64,
    /// Repetition of the noise
    #[column(key)]
    trial: u32,
}

impl NetworkKeys {
    fn of(e: &Evaluated) -> Self {
        Self {
            models: e.slot,
            network: e.model.clone(),
            view: view(e.result.observer),
            seed: e.seed as i64,
            trial: e.trial,
        }
    }
}

/// Under what kind of noise.
#[derive(Row)]
struct NoiseKeys {
    /// What is perturbed: pixels by gaussian, correlated, shot, impulse or speckle noise; neural; silencing; weights
    #[column(key)]
    noise: String,
    /// static: one draw held; dynamic: fresh at every step; over T ms: forgets with that time constant
    #[column(key)]
    presentation: String,
}

impl NoiseKeys {
    fn of(e: &Evaluated) -> Self {
        Self {
            noise: e.noise_name(),
            presentation: presentation_name(&e.result.condition),
        }
    }
}

/// What one evaluated condition is known by.
#[derive(Row)]
struct ConditionKeys {
    #[column(flatten)]
    network: NetworkKeys,
    #[column(flatten)]
    noise: NoiseKeys,
    #[column(key, description = LEVEL)]
    level: f64,
}

impl ConditionKeys {
    fn of(e: &Evaluated) -> Self {
        Self {
            network: NetworkKeys::of(e),
            noise: NoiseKeys::of(e),
            level: e.result.condition.level,
        }
    }
}

/// Accuracy of every model, view, noise and level
#[derive(Row)]
#[table(name = "accuracy")]
pub(super) struct Accuracy {
    #[column(flatten)]
    of: ConditionKeys,
    #[column(description = ANSWERED)]
    accuracy: Option<f64>,
    /// Lower end of the 95 % interval (Wilson)
    accuracy_low: Option<f64>,
    /// Upper end of the 95 % interval (Wilson)
    accuracy_high: Option<f64>,
    /// Images whose label is among the five largest logits
    top5: Option<f64>,
    /// Lower end of its 95 % interval (Wilson)
    top5_low: Option<f64>,
    /// Upper end of its 95 % interval (Wilson)
    top5_high: Option<f64>,
    /// Mean cross-entropy of images that did not diverge; missing where all did
    #[column(unit = "nat", absolute = 1e-6, relative = 1e-4)]
    cross_entropy: Option<f64>,
    /// The level, measured: for noise on pixels the standard deviation of what was added, in [0, 1]
    #[column(absolute = 1e-6, relative = 1e-6)]
    achieved: f64,
    /// Severity of ImageNet-C that this is, of noise that is held; 0 for the clean image
    imagenet_c: Option<i64>,
    /// Severity of CIFAR-10-C that this is, of noise that is held; 0 for the clean image
    cifar_c: Option<i64>,
    /// Number of images
    images: usize,
    #[column(description = DIVERGED)]
    diverged: usize,
    #[column(unit = "ms", description = DT)]
    dt: f64,
    #[column(description = STEP_BOUND)]
    step_bound: bool,
}

impl Accuracy {
    pub(super) fn of(e: &Evaluated) -> Self {
        let r = &e.result;
        Self {
            of: ConditionKeys::of(e),
            accuracy: r.accuracy,
            accuracy_low: r.accuracy_interval.map(|[low, _]| low),
            accuracy_high: r.accuracy_interval.map(|[_, high]| high),
            top5: r.top5,
            top5_low: r.top5_interval.map(|[low, _]| low),
            top5_high: r.top5_interval.map(|[_, high]| high),
            cross_entropy: r.cross_entropy,
            achieved: r.achieved,
            imagenet_c: severity(&r.condition, Severities::ImagenetC),
            cifar_c: severity(&r.condition, Severities::CifarC),
            images: r.right.len(),
            diverged: r.diverged,
            dt: e.dt_ms,
            step_bound: is_step_bound(&r.condition),
        }
    }
}

/// Accuracy by network and noise: mean and standard deviation over trials and models that differ in their seed alone
#[derive(Row)]
#[table(name = "summary")]
pub(super) struct Summary {
    /// The stage that gave the models, by all matrix fields but `seed`
    #[column(key, group = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: String,
    #[column(key, description = VIEW)]
    view: &'static str,
    #[column(flatten)]
    noise: NoiseKeys,
    #[column(key, description = LEVEL)]
    level: f64,
    /// Images classified rightly, mean; missing where all diverged
    accuracy: Option<f64>,
    /// Standard deviation over models and trials
    deviation: Option<f64>,
    /// Models times trials, of those with an accuracy
    n: usize,
    #[column(description = DIVERGED)]
    diverged: usize,
    #[column(unit = "ms", description = DT)]
    dt: f64,
}

/// Mean and spread over the models that repeat each other, and over trials.
pub(super) fn summary(evaluated: &[Evaluated]) -> impl Iterator<Item = Summary> {
    over_models(evaluated).into_iter().map(|of_kind| Summary {
        models: of_kind.first.group,
        network: of_kind.first.model.clone(),
        view: view(of_kind.first.result.observer),
        noise: NoiseKeys::of(of_kind.first),
        level: of_kind.first.result.condition.level,
        accuracy: of_kind.spread.mean,
        deviation: of_kind.spread.deviation,
        n: of_kind.spread.n,
        diverged: of_kind.diverged,
        dt: of_kind.first.dt_ms,
    })
}

/// Accuracy of models that repeat each other under one condition, over trials.
pub(super) struct OfKind<'a> {
    /// The first of them.
    pub(super) first: &'a Evaluated,
    pub(super) spread: Spread,
    /// Images of all of them that diverged.
    diverged: usize,
}

pub(super) fn over_models<'a>(evaluated: impl IntoIterator<Item = &'a Evaluated>) -> Vec<OfKind<'a>> {
    let mut groups: IndexMap<_, Vec<&Evaluated>> = IndexMap::new();
    for e in evaluated {
        let condition = &e.result.condition;
        let key = (
            e.group,
            e.model.as_str(),
            e.result.observer,
            e.noise_name(),
            presentation_name(condition),
            condition.level.to_bits(),
        );
        groups.entry(key).or_default().push(e);
    }
    let of_kind = |group: Vec<&'a Evaluated>| {
        let accuracies: Vec<f64> = group.iter().map(|e| e.result.accuracy.unwrap_or(f64::NAN)).collect();
        OfKind {
            first: group[0],
            spread: Spread::of(&accuracies),
            diverged: group.iter().map(|e| e.result.diverged).sum(),
        }
    };
    groups.into_values().map(of_kind).collect()
}

/// Whether the noise of a condition is drawn anew at every step, so that it is another experiment at other steps.
pub(super) fn is_step_bound(condition: &Condition) -> bool {
    let fresh = match condition.perturbation {
        Perturbation::Pixels { timing, .. } => timing == NoisePresentation::Dynamic,
        Perturbation::Neural => true,
        Perturbation::Silencing | Perturbation::Weights => false,
    };
    fresh && !condition.is_clean()
}

/// Accuracy of recurrent networks as a function of time after image onset
#[derive(Row)]
#[table(name = "time")]
pub(super) struct AtTime {
    #[column(flatten)]
    of: ConditionKeys,
    /// Time after image onset
    #[column(key, unit = "ms")]
    time: f64,
    #[column(description = ANSWERED)]
    accuracy: Option<f64>,
    #[column(description = DIVERGED)]
    diverged: usize,
}

pub(super) fn over_time(evaluated: &[Evaluated]) -> impl Iterator<Item = AtTime> {
    let of = |e| {
        move |point: &TimePoint| AtTime {
            of: ConditionKeys::of(e),
            time: point.time_ms,
            accuracy: point.accuracy,
            diverged: point.diverged,
        }
    };
    evaluated.iter().flat_map(move |e| e.result.over_time.iter().map(of(e)))
}

/// The conditions of one model, view, trial, noise and presentation, which differ in their level alone.
fn series(evaluated: &[Evaluated]) -> Vec<Vec<&Evaluated>> {
    let mut series: IndexMap<_, Vec<&Evaluated>> = IndexMap::new();
    for e in evaluated {
        let condition = &e.result.condition;
        let key = (
            e.slot,
            e.result.observer,
            e.trial,
            e.noise_name(),
            presentation_name(condition),
        );
        series.entry(key).or_default().push(e);
    }
    series.into_values().collect()
}

fn position_name(place: ThresholdPosition) -> &'static str {
    match place {
        ThresholdPosition::Within => "within",
        ThresholdPosition::Below => "below",
        ThresholdPosition::Beyond => "beyond",
        ThresholdPosition::Nowhere => "nowhere",
    }
}

/// How much noise every network stands: the level at half of its clean accuracy, and accuracy over all levels
#[derive(Row)]
#[table(name = "robustness")]
pub(super) struct Robust {
    #[column(flatten)]
    network: NetworkKeys,
    #[column(flatten)]
    noise: NoiseKeys,
    /// Accuracy at level 0; missing where all images diverged
    clean: Option<f64>,
    /// Level at half of that, by a logistic curve over log level, where it lies within the levels
    #[column(name = "half")]
    threshold: Option<f64>,
    /// within the levels; below the first noisy one; beyond the last; nowhere: clean accuracy is not above twice
    /// chance, or all images diverged
    half_is: &'static str,
    /// Lower end of its 95 % interval (images resampled)
    half_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    half_high: Option<f64>,
    /// Area under accuracy over level, as a mean accuracy over the range of levels; missing where all images diverged
    /// at a level
    area: Option<f64>,
    /// Lower end of its 95 % interval (images resampled)
    area_low: Option<f64>,
    /// Upper end of its 95 % interval (images resampled)
    area_high: Option<f64>,
    /// What the intervals are over. images: other images and their noise; images, one draw: the same silenced units or
    /// noisy weights, of which other draws (`trials`) give other values
    intervals_over: &'static str,
    /// Images that diverged at any level; they have no answer there
    diverged: usize,
    #[column(unit = "ms", description = DT)]
    dt: f64,
    #[column(description = STEP_BOUND)]
    step_bound: bool,
}

impl Robust {
    /// None where the levels of a series say nothing of it.
    fn of(series: &[&Evaluated], seed: u64) -> Option<Self> {
        let first = series[0];
        let measured = series.iter().map(|e| Measured {
            level: e.result.condition.level,
            right: &e.result.right,
        });
        let measured: Vec<Measured<'_>> = measured.collect();
        let Robustness {
            clean,
            threshold,
            threshold_position,
            area,
            diverged,
        } = robustness(&measured, 1.0 / first.classes as f64, seed)?;
        let one_draw = matches!(
            first.result.condition.perturbation,
            Perturbation::Silencing | Perturbation::Weights
        );
        Some(Self {
            network: NetworkKeys::of(first),
            noise: NoiseKeys::of(first),
            clean,
            threshold: threshold.value,
            half_is: position_name(threshold_position),
            half_low: threshold.interval[0],
            half_high: threshold.interval[1],
            area: area.value,
            area_low: area.interval[0],
            area_high: area.interval[1],
            intervals_over: if one_draw { "images, one draw" } else { "images" },
            diverged,
            dt: first.dt_ms,
            step_bound: series.iter().any(|e| is_step_bound(&e.result.condition)),
        })
    }
}

pub(super) fn robust(params: &Params, evaluated: &[Evaluated]) -> impl Iterator<Item = Robust> {
    let seed = params.seed;
    let series = series(evaluated).into_iter();
    series.filter_map(move |series| Robust::of(&series, seed))
}

/// How much of the noise reaches each area, at the end of the presentation
#[derive(Row)]
#[table(name = "gains")]
pub(super) struct Gain {
    #[column(flatten)]
    of: ConditionKeys,
    /// Area, from 0
    #[column(key)]
    area: usize,
    /// E|dr|^2 / E|r|^2: r is activity without, dr what the perturbation changes; over units and images that did not
    /// diverge
    #[column(absolute = 1e-9, relative = 1e-4)]
    change: Option<f64>,
    /// The same over E|dx|^2 / E|x|^2 of one normalised frame x; of noise on pixels only
    #[column(absolute = 1e-9, relative = 1e-4)]
    gain: Option<f64>,
    #[column(description = DIVERGED)]
    diverged: usize,
}

pub(super) fn gains(evaluated: &[Evaluated]) -> impl Iterator<Item = Gain> {
    let of = |e: &Evaluated, area, found: &AreaChange| Gain {
        of: ConditionKeys::of(e),
        area,
        change: found.change,
        gain: found.gain,
        diverged: e.result.diverged,
    };
    let noisy = evaluated.iter().filter(|e| !e.result.condition.is_clean());
    noisy.flat_map(move |e| {
        let areas = e.result.areas.iter().enumerate();
        areas.map(move |(area, found)| of(e, area, found))
    })
}

/// Every network against every CordsNet with its dynamics, image by image (McNemar's exact test)
#[derive(Row)]
#[table(name = "paired")]
pub(super) struct Pair {
    #[column(flatten)]
    of: ConditionKeys,
    /// The stage that gave the CordsNet
    #[column(key, slot = "models")]
    against: usize,
    /// Accuracy, less the CordsNet's, on images that diverged in neither; missing where there are none
    difference: Option<f64>,
    /// Images that only this network classifies rightly
    only_this: u64,
    /// Images that only the CordsNet classifies rightly
    only_cordsnet: u64,
    /// Two-sided, exact: how likely so uneven a split of those images is by chance
    p: Option<f64>,
    /// Images that diverged in either network; they are not compared
    diverged: usize,
    #[column(unit = "ms", description = DT)]
    dt: f64,
    /// Step of the CordsNet
    #[column(unit = "ms")]
    against_dt: f64,
    #[column(description = STEP_BOUND)]
    step_bound: bool,
}

impl Pair {
    fn of(e: &Evaluated, reference: &Evaluated) -> Self {
        let pairs = e.result.right.iter().zip(&reference.result.right);
        let pairs: Vec<(bool, bool)> = pairs.filter_map(|(this, that)| (*this).zip(*that)).collect();
        let only = |which: (bool, bool)| pairs.iter().filter(|pair| **pair == which).count() as u64;
        let (only_this, only_cordsnet) = (only((true, false)), only((false, true)));
        let compared = pairs.len() as f64;
        Self {
            of: ConditionKeys::of(e),
            against: reference.slot,
            difference: Some((only_this as f64 - only_cordsnet as f64) / compared),
            only_this,
            only_cordsnet,
            p: (compared > 0.0).then(|| mcnemar(only_this, only_cordsnet)),
            diverged: e.result.right.len() - pairs.len(),
            dt: e.dt_ms,
            against_dt: reference.dt_ms,
            step_bound: is_step_bound(&e.result.condition),
        }
    }
}

/// Every network beside every CordsNet, on the same images.
pub(super) fn pairs(evaluated: &[Evaluated]) -> impl Iterator<Item = Pair> {
    let is_reference = |e: &&Evaluated| e.result.observer == Observer::Cordsnet;
    evaluated.iter().flat_map(move |e| {
        let same = |other: &&Evaluated| {
            let itself = other.slot == e.slot && other.result.observer == e.result.observer;
            !itself && other.trial == e.trial && other.result.condition == e.result.condition
        };
        let references = evaluated.iter().filter(is_reference).filter(same);
        references.map(|reference| Pair::of(e, reference))
    })
}

/// The two-sided p of a split of discordant pairs, which by chance is binomial with 1/2 (McNemar 1947, exact form).
pub(in crate::stage) fn mcnemar(a: u64, b: u64) -> f64 {
    let (fewer, n) = (a.min(b), a + b);
    match Binomial::new(0.5, n) {
        Ok(binomial) if 2 * fewer < n => (2.0 * binomial.cdf(fewer)).min(1.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_severities_are_of_images_that_are_held() {
        let of = |timing: NoisePresentation, level: f64| {
            let perturbation = Perturbation::Pixels {
                noise: Pixels::Gaussian,
                timing,
                clip: true,
            };
            severity(&Condition { perturbation, level }, Severities::ImagenetC)
        };
        let third = Severities::ImagenetC.levels(Pixels::Gaussian).expect("published")[2];
        assert_eq!(of(NoisePresentation::Static, third), Some(3));
        for timing in [
            NoisePresentation::Dynamic,
            NoisePresentation::OrnsteinUhlenbeck { tau_ms: 20.0 },
        ] {
            assert_eq!((of(timing, third), of(timing, 0.0)), (None, Some(0)));
        }
    }

    #[test]
    fn mcnemar_of_known_splits() {
        // Twice the sums of binomial coefficients over 2^n: (1 + 10 + 45)/1024, 1/2^6.
        assert!((mcnemar(2, 8) - 112.0 / 1024.0).abs() < 1e-12);
        assert!((mcnemar(6, 0) - 2.0 / 64.0).abs() < 1e-12);
        assert_eq!((mcnemar(5, 5), mcnemar(0, 0), mcnemar(3, 4)), (1.0, 1.0, 1.0));
        // Far out, where the coefficients would overflow: from exact integers.
        assert!((mcnemar(400, 600) / 2.728_464_156_066e-10 - 1.0).abs() < 1e-9);
    }
}
