//! What intervals are made of.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// 97.5 % point of the standard normal distribution.
pub(crate) const NORMAL: f64 = 1.959_963_984_540_054;

/// 97.5 % point of Student's distribution; infinite for less than one degree of freedom.
#[must_use]
pub fn student(degrees: f64) -> f64 {
    // From here on the first term of Fisher and Cornish's expansion (Abramowitz and Stegun 26.7.5) is right to 1e-5,
    // and the library's iteration does not end for some large numbers.
    const MANY: f64 = 1000.0;
    if degrees > MANY {
        return NORMAL + (NORMAL.powi(3) + NORMAL) / (4.0 * degrees);
    }
    let distribution = StudentsT::new(0.0, 1.0, degrees).ok().filter(|_| degrees >= 1.0);
    distribution.map_or(f64::INFINITY, |distribution| distribution.inverse_cdf(0.975))
}

/// Probability of the standard normal distribution above `x`, to the last digits also far out.
pub(crate) fn normal_tail(x: f64) -> f64 {
    0.5 * libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Wilson's interval (Wilson 1927) of a share among `n` independent answers, at a quantile: 1.96 of a normal variable
/// for 95 %. [0, 1] where nothing is known.
pub(crate) fn wilson(share: f64, n: f64, quantile: f64) -> [f64; 2] {
    if !quantile.is_finite() || n <= 0.0 {
        return [0.0, 1.0];
    }
    let square = quantile * quantile / n;
    let middle = (share + square / 2.0) / (1.0 + square);
    let half = (share * (1.0 - share) * square + square * square / 4.0).sqrt() / (1.0 + square);
    // Rounding must not leave the share outside.
    [(middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_students_distribution() {
        for (degrees, expected) in [
            (1.0, 12.7062),
            (2.0, 4.3027),
            (3.0, 3.1824),
            (6.0, 2.4469),
            (10.0, 2.2281),
            (30.0, 2.0423),
            (1000.0, 1.96234),
            (1001.0, 1.96234),
            (1e9, 1.95996),
        ] {
            let found = student(degrees);
            assert!((found - expected).abs() < 1e-4, "{degrees}: {found}");
        }
        assert_eq!(student(0.0), f64::INFINITY);
    }

    #[test]
    fn tails_of_the_normal_distribution() {
        // The last one: SciPy's `norm.sf(10)`.
        for (x, expected) in [
            (0.0, 0.5),
            (NORMAL, 0.025),
            (-NORMAL, 0.975),
            (10.0, 7.619853024160527e-24),
        ] {
            let found = normal_tail(x);
            assert!((found / expected - 1.0).abs() < 1e-12, "{x}: {found}");
        }
    }
}
