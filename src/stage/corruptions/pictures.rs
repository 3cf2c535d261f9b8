//! Pictures of the `corruptions` stage: error over severity.

use std::path::Path;

use cords::data::Corruption;
use cords::noise::wilson_interval;
use indexmap::IndexMap;

use super::Evaluated;
use crate::stage::picture::{Curve, Curves};
use crate::stage::{Members, Spread, StageError};

/// Share of wrong answers, with its 95 % interval.
type Error = (f64, [f64; 2]);

/// One picture of every corruption, with noise that was drawn here beside that of the files, and one of the mean over
/// all corruptions that were shown.
pub(super) fn write(evaluated: &[Evaluated], members: &Members, folder: &Path) -> Result<(), StageError> {
    let mut corruptions: Vec<Corruption> = Vec::new();
    for shown in evaluated.iter().flat_map(|e| &e.files) {
        if !corruptions.contains(&shown.corruption) {
            corruptions.push(shown.corruption);
        }
    }
    for corruption in &corruptions {
        let name = corruption.name();
        let title = members.title(&name.replace('_', " "));
        over_severity(evaluated, &[*corruption], &title).write(folder, &format!("error_{name}"))?;
    }
    if corruptions.len() > 1 {
        let title = members.title(&format!("mean over {} corruptions", corruptions.len()));
        over_severity(evaluated, &corruptions, &title).write(folder, "error")?;
    }
    Ok(())
}

/// Mean error over corruptions, from the clean image on; over models that repeat each other, with their standard
/// deviation, or of one model and one corruption with its 95 % interval.
fn over_severity(evaluated: &[Evaluated], corruptions: &[Corruption], title: &str) -> Curves {
    // Curve -> severity -> errors of models.
    let mut curves: IndexMap<String, IndexMap<u8, Vec<Error>>> = IndexMap::new();
    for e in evaluated {
        let mut add = |label: String, shown: &[(Corruption, u8, &[Option<bool>])]| {
            let points = curves.entry(label).or_default();
            points.entry(0).or_default().extend(error(&e.clean.right));
            for severity in Corruption::SEVERITIES {
                let of = |corruption: &Corruption| {
                    let mut found = shown.iter().filter(|(c, s, _)| (c, s) == (corruption, &severity));
                    error(found.next()?.2)
                };
                let errors: Vec<Error> = corruptions.iter().filter_map(of).collect();
                match errors.as_slice() {
                    [one] if corruptions.len() == 1 => points.entry(severity).or_default().push(*one),
                    some if some.len() == corruptions.len() => {
                        let mean = some.iter().map(|(error, _)| error).sum::<f64>() / some.len() as f64;
                        points.entry(severity).or_default().push((mean, [mean; 2]));
                    }
                    _ => {}
                }
            }
        };
        let files: Vec<_> = e
            .files
            .iter()
            .map(|s| (s.corruption, s.severity, s.result.right.as_slice()))
            .collect();
        add(e.label.clone(), &files);
        let drawn: Vec<_> = e
            .drawn
            .iter()
            .map(|s| (s.corruption, s.severity, s.result.right.as_slice()))
            .collect();
        if corruptions
            .iter()
            .all(|corruption| drawn.iter().any(|(c, ..)| c == corruption))
        {
            add(format!("{}, drawn here", e.label), &drawn);
        }
    }
    let curve = |(label, points): (String, IndexMap<u8, Vec<Error>>)| {
        let mut points: Vec<_> = points.into_iter().collect();
        points.sort_by_key(|(severity, _)| *severity);
        let point = |(severity, errors): (u8, Vec<Error>)| {
            let values: Vec<f64> = errors.iter().map(|(error, _)| *error).collect();
            let spread = Spread::of(&values);
            let mean = spread.mean?;
            let band = match spread.deviation {
                Some(deviation) => [mean - deviation, mean + deviation],
                None => errors[0].1,
            };
            Some(((f64::from(severity), mean), band))
        };
        let (points, band) = points.into_iter().filter_map(point).unzip();
        Curve { label, points, band }
    };
    Curves {
        title: title.to_owned(),
        x_label: "severity".into(),
        y_label: "error".into(),
        y_range: Some([0.0, 1.0]),
        counts_x: true,
        curves: curves
            .into_iter()
            .map(curve)
            .filter(|curve: &Curve| !curve.points.is_empty())
            .collect(),
        ..Curves::default()
    }
}

/// Of answers, those that are wrong; none where all images diverged.
fn error(right: &[Option<bool>]) -> Option<Error> {
    let answered = right.iter().flatten().count();
    let wrong = right.iter().flatten().filter(|right| !**right).count();
    (answered > 0).then(|| (wrong as f64 / answered as f64, wilson_interval(wrong, answered)))
}
