//! Result tables of the `noise` stage.

use cords::noise::{
    CIFAR_C, Condition, Estimate, IMAGENET_C, Measured, Observer, Perturbation, Pixels, Place, Robustness, Severities,
    Timing, robustness,
};
use indexmap::IndexMap;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::Evaluated;
use super::params::Params;
use crate::stage::Spread;
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

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
fn severity(condition: &Condition, set: &Severities) -> Option<i64> {
    let Perturbation::Pixels {
        noise,
        timing,
        clip: true,
    } = condition.perturbation
    else {
        return None;
    };
    // What was published are single images.
    if timing != Timing::Static && !condition.is_clean() {
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
            Timing::Static => "static".into(),
            Timing::Dynamic => "dynamic".into(),
            Timing::OrnsteinUhlenbeck { tau_ms } => format!("over {tau_ms} ms"),
        },
        Perturbation::Neural => "dynamic".into(),
        Perturbation::Silencing | Perturbation::Weights => "static".into(),
    }
}

const ANSWERED: &str = "Images classified rightly, of those that did not diverge; missing where all did";
const VIEW: &str =
    "How the network looks: dynamics, no recurrence (recurrent weights 0), one frame, mean of frames, mean of logits";
const NOISE: &str =
    "What is perturbed: pixels by gaussian, correlated, shot, impulse or speckle noise; neural; silencing; weights";
const PRESENTATION: &str =
    "static: one draw held; dynamic: fresh at every step; over T ms: forgets with that time constant";
const DT: &str = "Step of the network, or of the frames that a CNN sees; a single frame under dynamic noise is that of a step of 2 ms";
const STEP_BOUND: &str = "Whether the noise is drawn anew at every step. Then networks of other steps see another experiment, unless the noise \
                          is small beside what rectifies it";
const DIVERGED: &str = "Images whose logits or activity were not finite; they have no answer";
const LEVEL: &str =
    "How much, in the units of its kind (`dynvis stages noise`); of pixels the standard deviation in [0, 1]";

/// Who was evaluated.
fn network_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("models", DType::Int, "The stage that gave the model")
        .slot("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("view", DType::Text, VIEW)
        .key("seed", DType::Int, "Seed of the model's training")
        .key("trial", DType::Int, "Repetition of the noise")
}

fn network_values(e: &Evaluated) -> Vec<Value> {
    vec![
        Value::Int(e.slot as i64),
        Value::Text(e.model.clone()),
        Value::Text(view(e.result.observer).into()),
        Value::Int(e.seed as i64),
        Value::Int(i64::from(e.trial)),
    ]
}

fn noise_keys(schema: TableSchema) -> TableSchema {
    schema
        .key("noise", DType::Text, NOISE)
        .key("presentation", DType::Text, PRESENTATION)
}

fn noise_values(e: &Evaluated) -> [Value; 2] {
    [
        Value::Text(e.noise_name()),
        Value::Text(presentation_name(&e.result.condition)),
    ]
}

/// What one evaluated condition is known by.
fn condition_keys(schema: TableSchema) -> TableSchema {
    noise_keys(network_keys(schema)).key("level", DType::Float, LEVEL)
}

/// Values of [`condition_keys`].
fn condition_values(e: &Evaluated) -> Vec<Value> {
    let mut row = network_values(e);
    row.extend(noise_values(e));
    row.push(Value::Float(e.result.condition.level));
    row
}

pub(super) fn accuracy(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        condition_keys(TableSchema::new(
            "accuracy",
            "Accuracy of every model, view, noise and level",
        ))
        .value("accuracy", DType::Float, ANSWERED)
        .allow_missing()
        .value("accuracy_low", DType::Float, "Lower end of the 95 % interval (Wilson)")
        .allow_missing()
        .value("accuracy_high", DType::Float, "Upper end of the 95 % interval (Wilson)")
        .allow_missing()
        .value(
            "top5",
            DType::Float,
            "Images whose label is among the five largest logits",
        )
        .allow_missing()
        .value("top5_low", DType::Float, "Lower end of its 95 % interval (Wilson)")
        .allow_missing()
        .value("top5_high", DType::Float, "Upper end of its 95 % interval (Wilson)")
        .allow_missing()
        .value(
            "cross_entropy",
            DType::Float,
            "Mean cross-entropy of images that did not diverge; missing where all did",
        )
        .unit("nat")
        .tolerance(1e-6, 1e-4)
        .allow_missing()
        .value(
            "achieved",
            DType::Float,
            "The level, measured: for noise on pixels the standard deviation of what was added, in [0, 1]",
        )
        .tolerance(1e-6, 1e-6)
        .value(
            "imagenet_c",
            DType::Int,
            "Severity of ImageNet-C that this is, of noise that is held; 0 for the clean image",
        )
        .allow_missing()
        .value(
            "cifar_c",
            DType::Int,
            "Severity of CIFAR-10-C that this is, of noise that is held; 0 for the clean image",
        )
        .allow_missing()
        .value("images", DType::Int, "Number of images")
        .value("diverged", DType::Int, DIVERGED)
        .value("dt", DType::Float, DT)
        .unit("ms")
        .value("step_bound", DType::Bool, STEP_BOUND),
    )?;
    for e in evaluated {
        let r = &e.result;
        let mut row = condition_values(e);
        row.extend([
            Value::optional(r.accuracy),
            Value::optional(r.accuracy_interval.map(|interval| interval[0])),
            Value::optional(r.accuracy_interval.map(|interval| interval[1])),
            Value::optional(r.top5),
            Value::optional(r.top5_interval.map(|interval| interval[0])),
            Value::optional(r.top5_interval.map(|interval| interval[1])),
            Value::optional(r.cross_entropy),
            Value::Float(r.achieved),
            severity(&r.condition, &IMAGENET_C).map_or(Value::Null, Value::Int),
            severity(&r.condition, &CIFAR_C).map_or(Value::Null, Value::Int),
            Value::Int(r.right.len() as i64),
            Value::Int(r.diverged as i64),
            Value::Float(e.dt_ms),
            Value::Bool(is_step_bound(&r.condition)),
        ]);
        table.push_row(row)?;
    }
    table.finish()
}

/// Mean and spread over the models that repeat each other, and over trials.
pub(super) fn summary(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let schema = TableSchema::new(
        "summary",
        "Accuracy by network and noise: mean and standard deviation over trials and models that differ in their seed alone",
    )
    .key("models", DType::Int, "The stage that gave the models, by all matrix fields but `seed`")
    .slot_groups("models")
    .key("network", DType::Text, "Kind and number of areas")
    .key("view", DType::Text, VIEW);
    let mut table = TableWriter::new(
        noise_keys(schema)
            .key("level", DType::Float, LEVEL)
            .value(
                "accuracy",
                DType::Float,
                "Images classified rightly, mean; missing where all diverged",
            )
            .allow_missing()
            .value("deviation", DType::Float, "Standard deviation over models and trials")
            .allow_missing()
            .value("n", DType::Int, "Models times trials, of those with an accuracy")
            .value("diverged", DType::Int, DIVERGED)
            .value("dt", DType::Float, DT)
            .unit("ms"),
    )?;
    for OfKind {
        first,
        spread,
        diverged,
    } in over_models(evaluated)
    {
        let [noise, presentation] = noise_values(first);
        table.push_row([
            Value::Int(first.group as i64),
            Value::Text(first.model.clone()),
            Value::Text(view(first.result.observer).into()),
            noise,
            presentation,
            Value::Float(first.result.condition.level),
            Value::optional(spread.mean),
            Value::optional(spread.deviation),
            Value::Int(spread.n as i64),
            Value::Int(diverged as i64),
            Value::Float(first.dt_ms),
        ])?;
    }
    table.finish()
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
        Perturbation::Pixels { timing, .. } => timing == Timing::Dynamic,
        Perturbation::Neural => true,
        Perturbation::Silencing | Perturbation::Weights => false,
    };
    fresh && !condition.is_clean()
}

pub(super) fn time(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        condition_keys(TableSchema::new(
            "time",
            "Accuracy of recurrent networks as a function of time after image onset",
        ))
        .key("time", DType::Float, "Time after image onset")
        .unit("ms")
        .value("accuracy", DType::Float, ANSWERED)
        .allow_missing()
        .value("diverged", DType::Int, DIVERGED),
    )?;
    for e in evaluated {
        for point in &e.result.over_time {
            let mut row = condition_values(e);
            row.extend([
                Value::Float(point.time_ms),
                Value::optional(point.accuracy),
                Value::Int(point.diverged as i64),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
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

fn place_name(place: Place) -> &'static str {
    match place {
        Place::Within => "within",
        Place::Below => "below",
        Place::Beyond => "beyond",
        Place::Nowhere => "nowhere",
    }
}

pub(super) fn robustness_table(params: &Params, evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let schema = TableSchema::new(
        "robustness",
        "How much noise every network stands: the level at half of its clean accuracy, and accuracy over all levels",
    );
    let mut table = TableWriter::new(
        noise_keys(network_keys(schema))
            .value("clean", DType::Float, "Accuracy at level 0; missing where all images diverged")
            .allow_missing()
            .value(
                "half",
                DType::Float,
                "Level at half of that, by a logistic curve over log level, where it lies within the levels",
            )
            .allow_missing()
            .value(
                "half_is",
                DType::Text,
                "within the levels; below the first noisy one; beyond the last; nowhere: clean accuracy is not above twice chance, or all \
                 images diverged",
            )
            .value(
                "half_low",
                DType::Float,
                "Lower end of its 95 % interval (images resampled)",
            )
            .allow_missing()
            .value(
                "half_high",
                DType::Float,
                "Upper end of its 95 % interval (images resampled)",
            )
            .allow_missing()
            .value(
                "area",
                DType::Float,
                "Area under accuracy over level, as a mean accuracy over the range of levels; missing where all images diverged at a level",
            )
            .allow_missing()
            .value(
                "area_low",
                DType::Float,
                "Lower end of its 95 % interval (images resampled)",
            )
            .allow_missing()
            .value(
                "area_high",
                DType::Float,
                "Upper end of its 95 % interval (images resampled)",
            )
            .allow_missing()
            .value(
                "intervals_over",
                DType::Text,
                "What the intervals are over. images: other images and their noise; images, one draw: the same silenced units or noisy \
                 weights, of which other draws (`trials`) give other values",
            )
            .value("diverged", DType::Int, "Images that diverged at any level; they have no answer there")
            .value("dt", DType::Float, DT)
            .unit("ms")
            .value("step_bound", DType::Bool, STEP_BOUND),
    )?;
    for series in series(evaluated) {
        let first = series[0];
        let measured: Vec<Measured<'_>> = series
            .iter()
            .map(|e| Measured {
                level: e.result.condition.level,
                right: &e.result.right,
            })
            .collect();
        let chance = 1.0 / first.classes as f64;
        let Some(found) = robustness(&measured, chance, params.seed) else {
            continue;
        };
        let Robustness {
            clean,
            half,
            area,
            diverged,
            ..
        } = found;
        let one_draw = matches!(
            first.result.condition.perturbation,
            Perturbation::Silencing | Perturbation::Weights
        );
        let mut row = network_values(first);
        row.extend(noise_values(first));
        let ends = |of: Estimate| of.interval.map(Value::optional);
        row.extend([
            Value::optional(clean),
            Value::optional(half.value),
            Value::Text(place_name(found.half_place).into()),
        ]);
        row.extend(ends(half));
        row.push(Value::optional(area.value));
        row.extend(ends(area));
        row.extend([
            Value::Text(if one_draw { "images, one draw" } else { "images" }.into()),
            Value::Int(diverged as i64),
            Value::Float(first.dt_ms),
            Value::Bool(series.iter().any(|e| is_step_bound(&e.result.condition))),
        ]);
        table.push_row(row)?;
    }
    table.finish()
}

pub(super) fn gains(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        condition_keys(TableSchema::new(
            "gains",
            "How much of the noise reaches each area, at the end of the presentation",
        ))
        .key("area", DType::Int, "Area, from 0")
        .value(
            "change",
            DType::Float,
            "E|dr|^2 / E|r|^2: r is activity without, dr what the perturbation changes; over units and images that did not diverge",
        )
        .tolerance(1e-9, 1e-4)
        .allow_missing()
        .value(
            "gain",
            DType::Float,
            "The same over E|dx|^2 / E|x|^2 of one normalised frame x; of noise on pixels only",
        )
        .tolerance(1e-9, 1e-4)
        .allow_missing()
        .value("diverged", DType::Int, DIVERGED),
    )?;
    for e in evaluated.iter().filter(|e| !e.result.condition.is_clean()) {
        for (area, found) in e.result.areas.iter().enumerate() {
            let mut row = condition_values(e);
            row.extend([
                Value::Int(area as i64),
                Value::optional(found.change),
                Value::optional(found.gain),
                Value::Int(e.result.diverged as i64),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
}

/// Every network beside every CordsNet, on the same images.
pub(super) fn paired(evaluated: &[Evaluated]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        condition_keys(TableSchema::new(
            "paired",
            "Every network against every CordsNet with its dynamics, image by image (McNemar's exact test)",
        ))
        .key("against", DType::Int, "The stage that gave the CordsNet")
        .slot("models")
        .value(
            "difference",
            DType::Float,
            "Accuracy, less the CordsNet's, on images that diverged in neither; missing where there are none",
        )
        .allow_missing()
        .value(
            "only_this",
            DType::Int,
            "Images that only this network classifies rightly",
        )
        .value(
            "only_cordsnet",
            DType::Int,
            "Images that only the CordsNet classifies rightly",
        )
        .value(
            "p",
            DType::Float,
            "Two-sided, exact: how likely so uneven a split of those images is by chance",
        )
        .allow_missing()
        .value(
            "diverged",
            DType::Int,
            "Images that diverged in either network; they are not compared",
        )
        .value("dt", DType::Float, DT)
        .unit("ms")
        .value("against_dt", DType::Float, "Step of the CordsNet")
        .unit("ms")
        .value("step_bound", DType::Bool, STEP_BOUND),
    )?;
    let is_reference = |e: &&Evaluated| e.result.observer == Observer::Cordsnet;
    for e in evaluated {
        let same = |other: &&Evaluated| {
            let itself = other.slot == e.slot && other.result.observer == e.result.observer;
            !itself && other.trial == e.trial && other.result.condition == e.result.condition
        };
        for reference in evaluated.iter().filter(is_reference).filter(same) {
            let pairs = e.result.right.iter().zip(&reference.result.right);
            let pairs: Vec<(bool, bool)> = pairs.filter_map(|(this, that)| (*this).zip(*that)).collect();
            let only = |which: (bool, bool)| pairs.iter().filter(|pair| **pair == which).count() as u64;
            let (only_this, only_that) = (only((true, false)), only((false, true)));
            let compared = pairs.len() as f64;
            let difference = (only_this as f64 - only_that as f64) / compared;
            let mut row = condition_values(e);
            row.extend([
                Value::Int(reference.slot as i64),
                Value::finite(difference),
                Value::Int(only_this as i64),
                Value::Int(only_that as i64),
                Value::finite((compared > 0.0).then(|| mcnemar(only_this, only_that))),
                Value::Int((e.result.right.len() - pairs.len()) as i64),
                Value::Float(e.dt_ms),
                Value::Float(reference.dt_ms),
                Value::Bool(is_step_bound(&e.result.condition)),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
}

/// The two-sided p of a split of discordant pairs, which by chance is binomial with 1/2 (McNemar 1947, exact form).
fn mcnemar(a: u64, b: u64) -> f64 {
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
        let of = |timing: Timing, level: f64| {
            let perturbation = Perturbation::Pixels {
                noise: Pixels::Gaussian,
                timing,
                clip: true,
            };
            severity(&Condition { perturbation, level }, &IMAGENET_C)
        };
        let third = IMAGENET_C.levels(Pixels::Gaussian).expect("published")[2];
        assert_eq!(of(Timing::Static, third), Some(3));
        for timing in [Timing::Dynamic, Timing::OrnsteinUhlenbeck { tau_ms: 20.0 }] {
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
