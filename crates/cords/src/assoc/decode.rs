//! What can be read from an area at a time: a linear classifier (ridge regression on class indicators) that is fitted
//! on the trials of one half of the images and tested on those of the other, then the other way round.

use super::AssocError;
use super::dependence::Dependence;
use super::measure::Score;
use crate::linear::solve_positive;

/// By how much a decoding varies more than its answers tell. Half of the images are fitted on and half tested on, and
/// then the other way round: what is read varies with the images in either role, and the answers show the second alone.
/// Were both to count as much and apart, the variance would be twice that of the answers. In simulations (2 to 10
/// classes, 20 to 400 images, 10 to 100 units) it was 1.1 to 1.8 times as much: with 2, intervals held the truth in 96
/// to 99 % of cases, without in 86 to 95 %.
const FITTED_TOO: f64 = 2.0;

/// Cross-validated decoding of `classes` from `activity`, `[trials, units]`. Trials that show an image in common are
/// never on both sides: an image that comes back would be recognised, whatever its class. Trials without a class, or
/// with activity that is not finite, count as diverged. `ridge` is relative to the mean variance of a unit. None where
/// fewer than two classes occur in either half.
///
/// # Errors
/// [`AssocError::Shape`] where there is not one class, one row of `units` values and one place in `dependence` for each
/// trial.
pub fn decode(
    activity: &[f64],
    units: usize,
    classes: &[Option<usize>],
    dependence: &Dependence,
    ridge: f64,
) -> Result<Option<Score>, AssocError> {
    let trials = classes.len();
    for (what, found, expected) in [
        ("activity to decode from", activity.len(), trials * units),
        ("trials to decode from", dependence.len(), trials),
    ] {
        if found != expected {
            return Err(AssocError::Shape { what, found, expected });
        }
    }
    let row = |trial: usize| &activity[trial * units..][..units];
    let finite = |trial: &usize| row(*trial).iter().all(|value| value.is_finite());
    let used = (0..trials).filter(finite);
    let (used, known): (Vec<usize>, Vec<usize>) = used.filter_map(|trial| Some((trial, classes[trial]?))).unzip();
    let Some(half_of) = dependence.halves(&used, &known) else {
        return Ok(None);
    };
    let halves: [Vec<usize>; 2] = [0, 1].map(|half| (0..used.len()).filter(|place| half_of[*place] == half).collect());
    let count = known.iter().max().map_or(0, |most| most + 1);
    let varied = |half: &Vec<usize>| half.iter().any(|place| known[*place] != known[half[0]]);
    if !halves.iter().all(varied) {
        return Ok(None);
    }
    let mut read: Vec<(usize, Option<bool>)> = Vec::with_capacity(trials);
    for (fit, test) in [(&halves[0], &halves[1]), (&halves[1], &halves[0])] {
        let rows: Vec<&[f64]> = fit.iter().map(|place| row(used[*place])).collect();
        let labels: Vec<usize> = fit.iter().map(|place| known[*place]).collect();
        let Some(readout) = Readout::fit(&rows, &labels, count, ridge) else {
            return Ok(None);
        };
        for place in test {
            let right = readout.class(row(used[*place])) == known[*place];
            read.push((used[*place], Some(right)));
        }
    }
    let mut score = dependence.score_varying(read, FITTED_TOO);
    score.diverged = trials - used.len();
    Ok(Some(score))
}

struct Readout {
    mean: Vec<f64>,
    /// Weights of the readout, `[units, classes]`.
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

    /// So many trials, each of which shows one of so many images.
    fn shown(trials: usize, images: u64, stream: &mut Stream) -> (Vec<usize>, Dependence) {
        let shown: Vec<u32> = (0..trials).map(|_| stream.below(images) as u32).collect();
        let dependence = Dependence::new(shown.chunks_exact(1));
        (shown.iter().map(|image| *image as usize).collect(), dependence)
    }

    #[test]
    fn separate_classes_are_read_and_noise_is_not() {
        let (trials, units) = (400, 6);
        let mut stream = Stream::new(0, Purpose::Probe, 0, 0, 0, 0);
        let (images, dependence) = shown(trials, 200, &mut stream);
        let classes: Vec<Option<usize>> = images.iter().map(|image| Some(image % 4)).collect();
        let noise: Vec<f64> = (0..trials * units).map(|_| stream.normal()).collect();
        let signal: Vec<f64> = noise
            .iter()
            .enumerate()
            .map(|(i, xi)| 0.1 * xi + f64::from(u8::from(Some(i % units) == classes[i / units])))
            .collect();
        let read = |activity: &[f64]| {
            decode(activity, units, &classes, &dependence, 1e-3)
                .expect("sizes fit")
                .expect("classes")
        };
        assert_eq!(read(&signal).right, trials, "ten standard deviations apart");
        // Chance is 1/4 of 400 with a standard deviation of 9: bound five of them.
        assert!((55..=145).contains(&read(&noise).right), "{:?}", read(&noise));
        let one = vec![Some(1); trials];
        assert_eq!(decode(&noise, units, &one, &dependence, 1e-3).expect("sizes fit"), None);
        assert!(decode(&noise[1..], units, &classes, &dependence, 1e-3).is_err());
    }

    /// Activity that tells images apart perfectly, and a class of each image that is drawn: whoever reads more than
    /// chance has seen the image before. Seven classes of 70 images; 20 draws of 500 trials.
    #[test]
    fn random_labels_of_images_that_recur_stay_at_chance() {
        let (units, count) = (40, 7);
        let (mut right, mut all) = (0, 0);
        let mut held = 0;
        for draw in 0..20 {
            let mut stream = Stream::new(draw, Purpose::Probe, 0, 0, 2, 0);
            let (images, dependence) = shown(500, 70, &mut stream);
            let labels: Vec<usize> = (0..70).map(|_| stream.below(count) as usize).collect();
            let codes: Vec<f64> = (0..70 * units).map(|_| stream.normal()).collect();
            let classes: Vec<Option<usize>> = images.iter().map(|image| Some(labels[*image])).collect();
            let activity: Vec<f64> = images
                .iter()
                .flat_map(|image| codes[image * units..][..units].to_vec())
                .map(|code| code + 0.1 * stream.normal())
                .collect();
            let score = decode(&activity, units, &classes, &dependence, 1e-2)
                .expect("fits")
                .expect("classes");
            (right, all) = (right + score.right, all + score.answers);
            let [low, high] = score.interval;
            held += usize::from(low <= 1.0 / count as f64 && 1.0 / count as f64 <= high);
        }
        // 1,400 images, of which 1 / 7 are read by chance: 0.143 with a standard deviation of 0.0094, bound four of
        // them.
        let share = f64::from(right as u32) / f64::from(all as u32);
        assert!((share - 1.0 / count as f64).abs() < 0.038, "{share}");
        // Of 20 intervals of 95 % at least 16 hold it but once in 2,600 times.
        assert!(held >= 16, "{held}");
    }

    /// The interval of what is decoded, against the mean of many decodings of other images.
    #[test]
    fn intervals_of_decoding_hold_the_truth() {
        let units = 10;
        let once = |draw: u64| {
            let mut stream = Stream::new(draw, Purpose::Probe, 0, 0, 3, 0);
            let (images, dependence) = shown(300, 60, &mut stream);
            let classes: Vec<Option<usize>> = images.iter().map(|image| Some(image % 3)).collect();
            let codes: Vec<f64> = (0..60 * units)
                .map(|i| 0.8 * f64::from(u8::from(i % units == i / units % 3)) + stream.normal())
                .collect();
            let activity: Vec<f64> = images
                .iter()
                .flat_map(|image| codes[image * units..][..units].to_vec())
                .map(|code| code + 0.5 * stream.normal())
                .collect();
            decode(&activity, units, &classes, &dependence, 1e-2)
                .expect("fits")
                .expect("classes")
        };
        let truth = (1000..1300)
            .map(|draw| once(draw).accuracy().expect("answers"))
            .sum::<f64>()
            / 300.0;
        let held = (0..200).filter(|draw| {
            let [low, high] = once(*draw).interval;
            low <= truth && truth <= high
        });
        let held = held.count();
        // 95 % of 200 are 190 with a standard deviation of 3.
        assert!(held >= 180, "{held} of 200 at {truth}");
    }

    #[test]
    fn trials_that_diverged_are_left_out_and_counted() {
        let (trials, units) = (200, 3);
        let mut stream = Stream::new(0, Purpose::Probe, 0, 0, 4, 0);
        let (images, dependence) = shown(trials, 50, &mut stream);
        let mut classes: Vec<Option<usize>> = images.iter().map(|image| Some(image % 2)).collect();
        let mut activity: Vec<f64> = (0..trials * units)
            .map(|i| f64::from(u8::from(Some(i % units) == classes[i / units])) + 0.01 * stream.normal())
            .collect();
        classes[7] = None;
        activity[20 * units] = f64::NAN;
        activity[21 * units + 2] = f64::INFINITY;
        let score = decode(&activity, units, &classes, &dependence, 1e-3)
            .expect("fits")
            .expect("classes");
        assert_eq!((score.answers, score.right, score.diverged), (197, 197, 3));
        let none = decode(&vec![f64::NAN; trials * units], units, &classes, &dependence, 1e-3).expect("fits");
        assert_eq!(none, None);
    }
}
