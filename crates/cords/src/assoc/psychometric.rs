//! A psychometric function: the probability of the second choice over the signed strength of evidence,
//! p(x) = 1 / (1 + exp(-(x - bias) / spread)), by maximum likelihood.

use std::collections::BTreeMap;

use super::dependence::Dependence;

/// One choice on evidence of graded strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Graded {
    /// Number of the trial.
    pub trial: usize,
    /// Signed strength of the evidence: positive where the second choice is right.
    pub strength: f64,
    /// Whether the second choice was made.
    pub second: bool,
}

/// Choices at one strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choices {
    /// Signed strength of the evidence: positive where the second choice is right.
    pub strength: f64,
    /// Answers with either choice.
    pub answers: usize,
    /// Answers with the second choice.
    pub second: usize,
}

impl Choices {
    /// Choices by strength, ascending; strengths are told apart to a millionth.
    pub fn of(graded: &[Graded]) -> Vec<Self> {
        let mut found: BTreeMap<i64, Self> = BTreeMap::new();
        for one in graded {
            let choices = found.entry((one.strength * 1e6).round() as i64).or_insert(Self {
                strength: one.strength,
                answers: 0,
                second: 0,
            });
            choices.answers += 1;
            choices.second += usize::from(one.second);
        }
        found.into_values().collect()
    }
}

/// The fitted function, with standard errors over images and trials: the covariance of the scores of all pairs of
/// trials that share an image between two inverses of the observed information, and never less than that inverse alone,
/// which is right for independent trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Psychometric {
    /// Strength at which both choices are as likely.
    pub bias: f64,
    /// Standard error of the bias.
    pub bias_error: f64,
    /// Distance from there at which the second choice has 73 %; smaller is steeper.
    pub spread: f64,
    /// Standard error of the spread.
    pub spread_error: f64,
    /// Twice the log-likelihood that a value of its own for each strength would gain.
    pub deviance: f64,
}

/// Fits by Newton's method (iteratively reweighted least squares). None where the likelihood has no maximum inside:
/// choices that do not overlap, or that do not depend on strength in a rising way.
pub fn psychometric(graded: &[Graded], dependence: &Dependence) -> Option<Psychometric> {
    let choices = Choices::of(graded);
    // p = 1 / (1 + exp(-(a + b x))) with x in units of its largest magnitude.
    let unit = choices.iter().map(|c| c.strength.abs()).fold(0.0, f64::max);
    if !(unit.is_finite() && unit > 0.0) {
        return None;
    }
    let (mut a, mut b) = (0.0, 0.0);
    let mut information = [0.0; 3];
    for iteration in 0..100 {
        let mut gradient = [0.0; 2];
        information = [0.0; 3];
        for c in &choices {
            let (x, n) = (c.strength / unit, c.answers as f64);
            let p = 1.0 / (1.0 + (-(a + b * x)).exp());
            let (residual, weight) = (c.second as f64 - n * p, n * p * (1.0 - p));
            gradient = [gradient[0] + residual, gradient[1] + residual * x];
            information = [
                information[0] + weight,
                information[1] + weight * x,
                information[2] + weight * x * x,
            ];
        }
        let determinant = information[0] * information[2] - information[1] * information[1];
        if !(determinant.is_finite() && determinant > 1e-12) {
            return None;
        }
        let step = [
            (information[2] * gradient[0] - information[1] * gradient[1]) / determinant,
            (information[0] * gradient[1] - information[1] * gradient[0]) / determinant,
        ];
        // Long steps overshoot where the likelihood is flat.
        let scale = (2.0 / step[0].hypot(step[1])).min(1.0);
        (a, b) = (a + scale * step[0], b + scale * step[1]);
        if step[0].abs() + step[1].abs() < 1e-10 {
            break;
        }
        // Without overlap the slope grows for ever.
        if iteration == 99 || b.abs() > 1e3 {
            return None;
        }
    }
    if b <= 0.0 {
        return None;
    }
    let determinant = information[0] * information[2] - information[1] * information[1];
    let inverse = [
        [information[2] / determinant, -information[1] / determinant],
        [-information[1] / determinant, information[0] / determinant],
    ];
    let scores = graded.iter().map(|one| {
        let x = one.strength / unit;
        let residual = f64::from(u8::from(one.second)) - 1.0 / (1.0 + (-(a + b * x)).exp());
        (one.trial, [residual, residual * x])
    });
    let (pairs, middle) = dependence.pairs(scores);
    let small = if pairs.mean < pairs.count {
        pairs.count / (pairs.count - pairs.mean)
    } else {
        1.0
    };
    let bias = -a / b;
    // Delta method: d bias / da = -1 / b, d bias / db = a / b^2; d spread / db = -1 / b^2.
    let variance = |gradient: [f64; 2]| {
        let through: [f64; 2] = std::array::from_fn(|i| gradient[0] * inverse[0][i] + gradient[1] * inverse[1][i]);
        let form = |matrix: &[[f64; 2]; 2], x: [f64; 2]| -> f64 {
            (0..2)
                .flat_map(|i| (0..2).map(move |j| (i, j)))
                .map(|(i, j)| x[i] * matrix[i][j] * x[j])
                .sum()
        };
        form(&inverse, gradient).max(small * form(&middle, through)).max(0.0)
    };
    let bias_variance = variance([-1.0 / b, a / (b * b)]);
    let spread_variance = variance([0.0, -1.0 / (b * b)]);
    let mut deviance = 0.0;
    for c in choices.iter().filter(|c| c.answers > 0) {
        let (n, k) = (c.answers as f64, c.second as f64);
        let p = 1.0 / (1.0 + (-(a + b * c.strength / unit)).exp());
        let part = |count: f64, expected: f64| {
            if count > 0.0 {
                2.0 * count * (count / expected).ln()
            } else {
                0.0
            }
        };
        deviance += part(k, n * p) + part(n - k, n * (1.0 - p));
    }
    Some(Psychometric {
        bias: bias * unit,
        bias_error: bias_variance.sqrt() * unit,
        spread: unit / b,
        spread_error: spread_variance.sqrt() * unit,
        deviance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn repeated(choices: &[(f64, usize, usize)]) -> (Vec<Graded>, Dependence) {
        let mut graded = Vec::new();
        for (strength, answers, second) in choices {
            graded.extend((0..*answers).map(|answer| Graded {
                trial: 0,
                strength: *strength,
                second: answer < *second,
            }));
        }
        graded.iter_mut().enumerate().for_each(|(trial, one)| one.trial = trial);
        let alone: Vec<&[u32]> = vec![&[]; graded.len()];
        (graded, Dependence::new(alone))
    }

    #[test]
    fn exact_proportions_give_the_function_back() {
        let (bias, spread) = (0.1, 0.4);
        let choices = [-1.0, -0.5, -0.2, 0.0, 0.3, 0.9].map(|x: f64| {
            let share = 1.0 / (1.0 + (-(x - bias) / spread).exp());
            (x, 20_000, (2e4 * share).round() as usize)
        });
        let (graded, dependence) = repeated(&choices);
        let fit = psychometric(&graded, &dependence).expect("overlap");
        // Counts are rounded to a few 1e-5 of themselves.
        assert!(
            (fit.bias - bias).abs() < 1e-4 && (fit.spread - spread).abs() < 1e-4,
            "{fit:?}"
        );
        assert!(fit.deviance < 1e-2 && fit.bias_error > 0.0 && fit.spread_error > 0.0);
    }

    #[test]
    fn what_has_no_maximum_is_not_fitted() {
        let fit = |choices: &[(f64, usize, usize)]| {
            let (graded, dependence) = repeated(choices);
            psychometric(&graded, &dependence)
        };
        assert_eq!(fit(&[(-1.0, 10, 0), (1.0, 10, 10)]), None, "no overlap");
        assert_eq!(fit(&[(-1.0, 10, 8), (1.0, 10, 2)]), None, "falling");
        assert_eq!(fit(&[(0.0, 10, 5)]), None, "one strength");
        assert_eq!(fit(&[]), None);
    }

    /// Bias and spread within two standard errors, in simulation: every image moves the point of equal choices.
    #[test]
    fn errors_of_bias_and_spread_hold_the_truth_where_trials_share_images() {
        let strengths = [-0.8, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.8];
        let run = |number: u64, shift: f64| {
            let mut stream = Stream::new(number, Purpose::Probe, 0, 0, 5, 0);
            let shifts: Vec<f64> = (0..50).map(|_| shift * stream.normal()).collect();
            let shown: Vec<u32> = (0..800).map(|_| stream.below(50) as u32).collect();
            let graded: Vec<Graded> = shown
                .iter()
                .enumerate()
                .map(|(trial, image)| {
                    let strength = strengths[stream.below(8) as usize];
                    let p = 1.0 / (1.0 + (-(strength - 0.1 - shifts[*image as usize]) / 0.2f64).exp());
                    Graded {
                        trial,
                        strength,
                        second: stream.uniform() < p,
                    }
                })
                .collect();
            psychometric(&graded, &Dependence::new(shown.chunks_exact(1))).expect("overlap")
        };
        for shift in [0.0, 0.3] {
            let mean = |of: fn(&Psychometric) -> f64| (1000..1200).map(|n| of(&run(n, shift))).sum::<f64>() / 200.0;
            // What is estimated is the function of all images together, which is flatter than that of each.
            let (bias, spread) = (mean(|fit| fit.bias), mean(|fit| fit.spread));
            let (mut biases, mut spreads) = (0, 0);
            for number in 0..200 {
                let fit = run(number, shift);
                biases += usize::from((fit.bias - bias).abs() <= 2.0 * fit.bias_error);
                spreads += usize::from((fit.spread - spread).abs() <= 2.0 * fit.spread_error);
            }
            // 95 % of 200 are 190 with a standard deviation of 3.
            assert!(
                biases >= 180 && spreads >= 180,
                "{biases} and {spreads} of 200 at {shift}"
            );
        }
    }
}
