//! What can be read from an area at a time: a linear classifier (ridge regression on class indicators) that is fitted on
//! every other trial and tested on the rest, then the other way round.

use super::AssocError;
use super::measure::Score;
use crate::linear::solve_positive;

/// Cross-validated decoding of `classes` (one for each trial) from `activity`, `[trials, units]`. `ridge` is relative to the
/// mean variance of a unit. None where fewer than two classes occur in either half.
///
/// # Errors
/// [`AssocError::Shape`] where there is not one class and one row of `units` values for each trial.
pub fn decode(activity: &[f64], units: usize, classes: &[usize], ridge: f64) -> Result<Option<Score>, AssocError> {
    let trials = classes.len();
    if activity.len() != trials * units {
        return Err(AssocError::Shape {
            what: "activity to decode from",
            found: activity.len(),
            expected: trials * units,
        });
    }
    let halves: [Vec<usize>; 2] = [0, 1].map(|half| (half..trials).step_by(2).collect());
    let count = classes.iter().max().map_or(0, |most| most + 1);
    let varied = |half: &Vec<usize>| half.iter().any(|trial| classes[*trial] != classes[half[0]]);
    if !halves.iter().all(varied) {
        return Ok(None);
    }
    let mut score = Score::default();
    for (fit, test) in [(&halves[0], &halves[1]), (&halves[1], &halves[0])] {
        let rows: Vec<&[f64]> = fit.iter().map(|trial| &activity[trial * units..][..units]).collect();
        let labels: Vec<usize> = fit.iter().map(|trial| classes[*trial]).collect();
        let Some(readout) = Readout::fit(&rows, &labels, count, ridge) else {
            return Ok(None);
        };
        for trial in test {
            score.answers += 1;
            score.right += usize::from(readout.class(&activity[trial * units..][..units]) == classes[*trial]);
        }
    }
    Ok(Some(score))
}

struct Readout {
    mean: Vec<f64>,
    /// `[units, classes]`.
    weights: Vec<f64>,
    /// Share of each class among the fitted trials.
    offset: Vec<f64>,
}

impl Readout {
    /// (X'X / n + lambda I) W = X'Y / n, with X and Y centred.
    fn fit(rows: &[&[f64]], labels: &[usize], classes: usize, ridge: f64) -> Option<Self> {
        let (n, units) = (rows.len() as f64, rows.first()?.len());
        let mut mean = vec![0.0; units];
        rows.iter()
            .for_each(|row| mean.iter_mut().zip(*row).for_each(|(m, r)| *m += r / n));
        let mut offset = vec![0.0; classes];
        labels.iter().for_each(|label| offset[*label] += 1.0 / n);
        let mut normal = vec![0.0; units * units];
        let mut weights = vec![0.0; units * classes];
        for (row, label) in rows.iter().zip(labels) {
            let centred: Vec<f64> = row.iter().zip(&mean).map(|(r, m)| r - m).collect();
            for (i, x) in centred.iter().enumerate() {
                let own = &mut normal[i * units..][..units];
                own.iter_mut().zip(&centred).for_each(|(a, y)| *a += x * y / n);
                for (class, w) in weights[i * classes..][..classes].iter_mut().enumerate() {
                    *w += x * (f64::from(u8::from(class == *label)) - offset[class]) / n;
                }
            }
        }
        let variance = (0..units).map(|i| normal[i * units + i]).sum::<f64>() / units as f64;
        if !(variance.is_finite() && variance > 0.0) {
            // Nothing varies: the most frequent class is all that can be said.
            return Some(Self {
                mean,
                weights: vec![0.0; units * classes],
                offset,
            });
        }
        (0..units).for_each(|i| normal[i * units + i] += ridge * variance);
        let weights = solve_positive(&normal, &weights, classes)?;
        Some(Self { mean, weights, offset })
    }

    fn class(&self, row: &[f64]) -> usize {
        let mut scores = self.offset.clone();
        let classes = scores.len();
        for ((r, mean), weights) in row.iter().zip(&self.mean).zip(self.weights.chunks_exact(classes)) {
            scores
                .iter_mut()
                .zip(weights)
                .for_each(|(score, w)| *score += (r - mean) * w);
        }
        let larger = |best: usize, (class, score): (usize, &f64)| if *score > scores[best] { class } else { best };
        scores.iter().enumerate().fold(0, larger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn separate_classes_are_read_and_noise_is_not() {
        let (trials, units) = (400, 6);
        let mut stream = Stream::new(0, Purpose::Probe, 0, 0, 0, 0);
        let classes: Vec<usize> = (0..trials).map(|_| stream.below(4) as usize).collect();
        let noise: Vec<f64> = (0..trials * units).map(|_| stream.normal()).collect();
        let signal: Vec<f64> = noise
            .iter()
            .enumerate()
            .map(|(i, xi)| 0.1 * xi + f64::from(u8::from(i % units == classes[i / units])))
            .collect();
        let read = |activity: &[f64]| {
            decode(activity, units, &classes, 1e-3)
                .expect("sizes fit")
                .expect("classes")
        };
        assert_eq!(read(&signal).right, trials, "ten standard deviations apart");
        // Chance is 1/4 of 400 with a standard deviation of 9: bound five of them.
        assert!((55..=145).contains(&read(&noise).right), "{:?}", read(&noise));
        assert_eq!(decode(&noise, units, &vec![1; trials], 1e-3).expect("sizes fit"), None);
        assert!(decode(&noise[1..], units, &classes, 1e-3).is_err());
    }
}
