//! Pictures of the `noise` stage: accuracy over level, gain per area, accuracy over time.

use std::path::Path;

use cords::noise::Observer;
use indexmap::IndexMap;

use super::Evaluated;
use super::tables::{OfKind, over_models, presentation_name, view};
use crate::stage::picture::{Curve, Curves, file_name};
use crate::stage::{Members, Spread, StageError};

/// One picture of each sort for every kind of noise and presentation.
pub(super) fn write(evaluated: &[Evaluated], members: &Members, folder: &Path) -> Result<(), StageError> {
    let mut kinds: IndexMap<(String, String), Vec<&Evaluated>> = IndexMap::new();
    for e in evaluated {
        let kind = (e.noise_name(), presentation_name(&e.result.condition));
        kinds.entry(kind).or_default().push(e);
    }
    for ((noise, presentation), of_kind) in &kinds {
        let title = members.title(&format!("{noise} noise, {presentation}"));
        let name = |sort: &str| format!("{sort}_{}_{}", file_name(noise), file_name(presentation));
        let accuracy = over_level(of_kind, &title);
        let (gain, time) = (gain(of_kind, &title), over_time(of_kind, &title));
        for (sort, curves) in [("accuracy", accuracy), ("gain", gain), ("time", time)] {
            if !curves.curves.is_empty() {
                curves.write(folder, &name(sort))?;
            }
        }
    }
    Ok(())
}

fn label(e: &Evaluated) -> String {
    format!("{}, {}", e.label, view(e.result.observer))
}

/// Mean accuracy over models that repeat each other and trials, with their standard deviation, or with one model's 95 %
/// interval.
fn over_level(of_kind: &[&Evaluated], title: &str) -> Curves {
    let mut curves: IndexMap<String, Vec<(f64, f64, [f64; 2])>> = IndexMap::new();
    for OfKind { first, spread, .. } in over_models(of_kind.iter().copied()) {
        // Where all images diverged there is no accuracy.
        let Some(mean) = spread.mean else { continue };
        let band = match spread.deviation {
            Some(deviation) => [mean - deviation, mean + deviation],
            None => first.result.accuracy_interval.unwrap_or([mean; 2]),
        };
        let point = (first.result.condition.level, mean, band);
        curves.entry(label(first)).or_default().push(point);
    }
    let curve = |(label, mut points): (String, Vec<(f64, f64, [f64; 2])>)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Curve {
            label,
            points: points.iter().map(|p| (p.0, p.1)).collect(),
            band: points.iter().map(|p| p.2).collect(),
        }
    };
    Curves {
        title: title.to_owned(),
        x_label: "level".into(),
        y_label: "accuracy".into(),
        y_range: Some([0.0, 1.0]),
        curves: curves
            .into_iter()
            .map(curve)
            .filter(|curve| !curve.points.is_empty())
            .collect(),
        ..Curves::default()
    }
}

/// The lowest level above 0 that was measured, where noise is small; mean over models and trials.
fn gain(of_kind: &[&Evaluated], title: &str) -> Curves {
    let levels = of_kind
        .iter()
        .map(|e| e.result.condition.level)
        .filter(|level| *level > 0.0);
    let level = levels.fold(f64::INFINITY, f64::min);
    let mut curves: IndexMap<String, IndexMap<usize, Vec<f64>>> = IndexMap::new();
    let is_gain = of_kind
        .iter()
        .any(|e| e.result.areas.iter().any(|area| area.gain.is_some()));
    for e in of_kind.iter().filter(|e| e.result.condition.level == level) {
        for (area, found) in e.result.areas.iter().enumerate() {
            let value = if is_gain { found.gain } else { found.change };
            if let Some(value) = value.filter(|value| *value > 0.0) {
                let values = curves.entry(label(e)).or_default();
                values.entry(area).or_default().push(value);
            }
        }
    }
    let curve = |(label, areas): (String, IndexMap<usize, Vec<f64>>)| Curve {
        label,
        points: areas
            .into_iter()
            .map(|(area, values)| (area as f64, values.iter().sum::<f64>() / values.len() as f64))
            .collect(),
        band: Vec::new(),
    };
    Curves {
        title: format!("{title}, level {level}"),
        x_label: "area".into(),
        y_label: if is_gain {
            "noise left, relative to the frame"
        } else {
            "E|dr|² / E|r|²"
        }
        .into(),
        log_y: true,
        counts_x: true,
        curves: curves
            .into_iter()
            .map(curve)
            .filter(|curve| !curve.points.is_empty())
            .collect(),
        ..Curves::default()
    }
}

/// Every level of the CordsNets with their dynamics, mean over models and trials.
fn over_time(of_kind: &[&Evaluated], title: &str) -> Curves {
    let mut curves: IndexMap<String, Vec<(f64, Vec<f64>)>> = IndexMap::new();
    for e in of_kind.iter().filter(|e| e.result.observer == Observer::Cordsnet) {
        let label = format!("{}, level {}", e.label, e.result.condition.level);
        let points = curves.entry(label).or_default();
        for (index, point) in e.result.over_time.iter().enumerate() {
            let accuracy = point.accuracy.unwrap_or(f64::NAN);
            match points.get_mut(index) {
                Some((_, values)) => values.push(accuracy),
                None => points.push((point.time_ms, vec![accuracy])),
            }
        }
    }
    let curve = |(label, points): (String, Vec<(f64, Vec<f64>)>)| Curve {
        label,
        points: points
            .into_iter()
            .filter_map(|(time, values)| Some((time, Spread::of(&values).mean?)))
            .collect(),
        band: Vec::new(),
    };
    Curves {
        title: title.to_owned(),
        x_label: "time after image onset [ms]".into(),
        y_label: "accuracy".into(),
        y_range: Some([0.0, 1.0]),
        curves: curves
            .into_iter()
            .map(curve)
            .filter(|curve| !curve.points.is_empty())
            .collect(),
        ..Curves::default()
    }
}
