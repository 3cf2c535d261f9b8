//! A psychometric function: the probability of the second choice over the signed strength of evidence,
//! p(x) = 1 / (1 + exp(-(x - bias) / spread)), by maximum likelihood.

/// Choices at one strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choices {
    /// Signed strength.
    pub strength: f64,
    /// Answers with either choice.
    pub answers: usize,
    /// Those with the second.
    pub second: usize,
}

/// The fitted function, with standard errors from the observed information.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Psychometric {
    /// Strength at which both choices are as likely.
    pub bias: f64,
    /// Its standard error.
    pub bias_error: f64,
    /// Distance from there at which the second choice has 73 %; smaller is steeper.
    pub spread: f64,
    /// Its standard error.
    pub spread_error: f64,
    /// Twice the log-likelihood that a value of its own for each strength would gain.
    pub deviance: f64,
}

/// Fits by Newton's method (iteratively reweighted least squares). None where the likelihood has no maximum inside: choices
/// that do not overlap, or that do not depend on strength in a rising way.
pub fn psychometric(choices: &[Choices]) -> Option<Psychometric> {
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
        for c in choices {
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
    let [var_a, cov, var_b] = [
        information[2] / determinant,
        -information[1] / determinant,
        information[0] / determinant,
    ];
    let bias = -a / b;
    // Delta method: d bias / da = -1 / b, d bias / db = a / b^2.
    let bias_variance = var_a / (b * b) - 2.0 * a / b.powi(3) * cov + a * a / b.powi(4) * var_b;
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
        bias_error: bias_variance.max(0.0).sqrt() * unit,
        spread: unit / b,
        spread_error: unit * var_b.sqrt() / (b * b),
        deviance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_proportions_give_the_function_back() {
        let (bias, spread) = (0.1, 0.4);
        let choices: Vec<Choices> = [-1.0, -0.5, -0.2, 0.0, 0.3, 0.9]
            .iter()
            .map(|x| Choices {
                strength: *x,
                answers: 1_000_000,
                second: (1e6 / (1.0 + (-(x - bias) / spread).exp())).round() as usize,
            })
            .collect();
        let fit = psychometric(&choices).expect("overlap");
        // Counts are rounded to 1e-6 of themselves.
        assert!(
            (fit.bias - bias).abs() < 1e-5 && (fit.spread - spread).abs() < 1e-5,
            "{fit:?}"
        );
        assert!(fit.deviance < 1e-3 && fit.bias_error > 0.0 && fit.spread_error > 0.0);
    }

    #[test]
    fn what_has_no_maximum_is_not_fitted() {
        let of = |strength, second| Choices {
            strength,
            answers: 10,
            second,
        };
        assert_eq!(psychometric(&[of(-1.0, 0), of(1.0, 10)]), None, "no overlap");
        assert_eq!(psychometric(&[of(-1.0, 8), of(1.0, 2)]), None, "falling");
        assert_eq!(psychometric(&[of(0.0, 5)]), None, "one strength");
        assert_eq!(psychometric(&[]), None);
    }
}
