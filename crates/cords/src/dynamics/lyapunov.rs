//! Lyapunov exponents along a trajectory (Benettin et al. 1980): tangent vectors are carried along and orthonormalised.
//!
//! The tangent map is block triangular in the network's components, so the exponents of the network are those of its
//! areas, and of areas that drive each other together, each computed on its own block.

use std::ops::Range;

use super::krylov::{add_scaled, dot, norm};
use super::operator::{Block, blocks, coupled_areas, ranges, state_vector};
use crate::net::{CordsNet, Input, NeuralNoise, State};
use crate::rng::{Purpose, Stream};
use crate::statistics::{NORMAL, student};

/// How exponents are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LyapunovOptions {
    /// Number of exponents, the largest first.
    pub count: usize,
    /// Steps before anything is counted; up to a whole interval more.
    pub burn_in: usize,
    /// Steps that count; up to a whole interval more.
    pub steps: usize,
    /// Steps from one orthonormalisation to the next.
    pub interval: usize,
    /// Seed of the first tangent vectors.
    pub seed: u64,
}

impl Default for LyapunovOptions {
    fn default() -> Self {
        Self {
            count: 6,
            burn_in: 200,
            steps: 1000,
            interval: 10,
            seed: 0,
        }
    }
}

/// One Lyapunov exponent with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponent {
    /// Rate at which nearby trajectories separate, in 1/ms.
    pub per_ms: f64,
    /// Error of the time average, of correlated values ([`error_of_time_average`]); NaN of fewer than four intervals.
    pub error_per_ms: f64,
}

/// Error of the mean of a sequence whose values are correlated: the largest one that blocks of the sequence give, from
/// a quarter of it (4 blocks) down to a 32nd (Flyvbjerg and Petersen 1989, who look for a plateau). Blocks shorter than
/// what correlates give too small an error, which is why one length does not do: a pair of directions that turns slowly
/// stretches and shrinks in turn.
///
/// The standard error between few blocks is widened as Student's t asks, so that two of it hold the truth like two
/// standard errors of a normal variable: in 97 of 100 cases where correlations last a thirtieth of the sequence, in 93
/// where they last a tenth (measured). What takes longer than about the whole sequence cannot be seen in it. NaN of
/// fewer than four values.
pub fn error_of_time_average(values: &[f64]) -> f64 {
    const BLOCKS: [usize; 4] = [4, 8, 16, 32];
    let of_blocks = |blocks: usize| {
        let size = values.len() / blocks;
        // The first ones are left out where the division leaves a rest.
        let means: Vec<f64> = values[values.len() - blocks * size..]
            .chunks_exact(size)
            .map(|block| block.iter().sum::<f64>() / size as f64)
            .collect();
        student(blocks as f64 - 1.0) / NORMAL * super::Estimate::of(&means).error
    };
    let possible = BLOCKS.into_iter().filter(|blocks| *blocks <= values.len());
    possible.map(of_blocks).fold(f64::NAN, f64::max)
}

/// Tangent vectors on their way.
pub struct Tangents {
    vectors: Vec<Vec<f64>>,
    /// log of the stretching of each vector in every interval that counts.
    logs: Vec<Vec<f64>>,
}

impl Tangents {
    /// `count` random orthonormal vectors of `dim` values; fewer where there are not so many.
    pub fn new(dim: usize, count: usize, seed: u64) -> Self {
        let vector = |index: usize| {
            let mut stream = Stream::new(seed, Purpose::Probe, index as u64, 2, 0, 0);
            (0..dim).map(|_| stream.normal()).collect()
        };
        let mut tangents = Self {
            vectors: (0..count.min(dim)).map(vector).collect(),
            logs: Vec::new(),
        };
        tangents.orthonormalise();
        tangents
    }

    /// The vectors, which a step of the tangent map changes.
    pub fn vectors(&mut self) -> &mut [Vec<f64>] {
        &mut self.vectors
    }

    /// Makes them orthonormal, in order, and returns the lengths that were left of them.
    fn orthonormalise(&mut self) -> Vec<f64> {
        let mut lengths = Vec::with_capacity(self.vectors.len());
        for i in 0..self.vectors.len() {
            let (before, rest) = self.vectors.split_at_mut(i);
            let vector = &mut rest[0];
            // Twice is enough.
            for _ in 0..2 {
                for earlier in &*before {
                    let along = dot(earlier, vector);
                    add_scaled(vector, -along, earlier);
                }
            }
            let length = norm(vector);
            if length > 0.0 {
                vector.iter_mut().for_each(|x| *x /= length);
            }
            lengths.push(length);
        }
        lengths
    }

    /// Ends an interval, which counts or does not.
    pub fn end_interval(&mut self, counts: bool) {
        let lengths = self.orthonormalise();
        if counts {
            self.logs.push(lengths.into_iter().map(f64::ln).collect());
        }
    }

    /// Exponents, largest first, from the intervals that count, each of so many ms.
    pub fn exponents(&self, interval_ms: f64) -> Vec<Exponent> {
        let exponent = |index: usize| {
            let rates: Vec<f64> = self.logs.iter().map(|logs| logs[index] / interval_ms).collect();
            Exponent {
                per_ms: rates.iter().sum::<f64>() / rates.len() as f64,
                error_per_ms: error_of_time_average(&rates),
            }
        };
        let mut exponents: Vec<Exponent> = (0..self.vectors.len()).map(exponent).collect();
        exponents.sort_by(|a, b| b.per_ms.total_cmp(&a.per_ms));
        exponents
    }
}

/// Dimension of the attractor by Kaplan and Yorke (1979): k + (sum of the first k exponents) / |exponent k + 1|, k the
/// largest number of them whose sum is not negative. None where the exponents given do not reach a negative sum.
pub fn kaplan_yorke(exponents: &[f64]) -> Option<f64> {
    let mut sum = 0.0;
    for (k, exponent) in exponents.iter().enumerate() {
        if sum + exponent < 0.0 {
            return Some(k as f64 + sum / exponent.abs());
        }
        sum += exponent;
    }
    None
}

/// Exponents of every area along the trajectory from `start` (batch 1) under an input: `[area][exponent]`, largest
/// first; those of areas that drive each other stand at the first of them, and the others have none. `progress` is
/// called with (steps done, steps).
///
/// The tangent map of a step is (1 - alpha) I + alpha D W, D = diag phi'(u) taken from the step itself.
pub fn exponents(
    net: &CordsNet<f64>,
    start: &State<f64>,
    input: Input<'_, f64>,
    noise: Option<&NeuralNoise>,
    options: &LyapunovOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<Vec<Exponent>> {
    let slope = net.phi().slope();
    let components = net.architecture().components();
    let mut tangents: Vec<Tangents> = components
        .iter()
        .map(|areas| {
            let dim = blocks(net, areas).last().map_or(0, |block| block.range.end);
            Tangents::new(dim, options.count, options.seed.wrapping_add(areas[0] as u64))
        })
        .collect();
    let interval = options.interval.max(1);
    // Intervals are whole: one that begins before the burn-in ends would count some of it.
    let whole = |steps: usize| steps.div_ceil(interval) * interval;
    let burn_in = whole(options.burn_in);
    let total = burn_in + whole(options.steps);
    let mut before = start.clone();
    let mut state = start.clone();
    net.run_with_noise(&mut state, input, noise, total, &mut |step, view| {
        let after = view.state();
        for (areas, tangents) in components.iter().zip(&mut tangents) {
            let blocks = blocks(net, areas);
            let alphas: Vec<f64> = blocks.iter().flat_map(Block::unit_alphas).collect();
            let (r, next) = (state_vector(net, areas, &before), state_vector(net, areas, &after));
            let units = ranges(net, areas).last().map_or(0, |(_, range)| range.end);
            // phi(u) > 0 where the activity is above what the leak has left of it.
            let mut derivative: Vec<f64> = next[..units]
                .iter()
                .zip(&r)
                .zip(&alphas)
                .map(|((next, r), alpha)| if *next > (1.0 - alpha) * r { 1.0 } else { slope })
                .collect();
            derivative.resize(next.len(), 1.0);
            let vectors = tangents.vectors();
            let coupled = match areas[..] {
                [area] if !net.is_coupled(areas) && blocks.len() == 1 => {
                    net.recurrent(area, &vectors.concat(), vectors.len())
                }
                _ => vectors
                    .iter()
                    .flat_map(|x| {
                        let passed = |range: Range<usize>| {
                            let passes = |unit: usize| if r[unit] > 0.0 { x[unit] } else { 0.0 };
                            range.map(passes).collect()
                        };
                        coupled_areas(net, areas, x, &passed)
                    })
                    .collect(),
            };
            for (vector, coupled) in vectors.iter_mut().zip(coupled.chunks_exact(derivative.len())) {
                let units = vector.iter_mut().zip(coupled).zip(&derivative).zip(&alphas);
                for (((x, coupled), derivative), alpha) in units {
                    *x = (1.0 - alpha) * *x + alpha * derivative * coupled;
                }
            }
            if (step + 1) % interval == 0 {
                tangents.end_interval(step >= burn_in);
            }
        }
        before = after;
        progress(step + 1, total);
    });
    let interval_ms = interval as f64 * net.euler().dt_ms;
    let mut found = vec![Vec::new(); start.areas.len()];
    for (areas, tangents) in components.iter().zip(&tangents) {
        found[areas[0]] = tangents.exponents(interval_ms);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Lorenz system at sigma = 10, rho = 28, beta = 8/3 by Runge and Kutta's method of fourth order. Its exponents
    /// are 0.9056, 0 and -14.572 (Sprott 2003, p. 431), their sum is -(sigma + 1 + beta) exactly, its dimension 2.062.
    #[test]
    fn exponents_of_lorenz() {
        const DT: f64 = 0.002;
        let slope = |[x, y, z]: [f64; 3]| [10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z];
        let tangent = |[x, y, z]: [f64; 3], v: [f64; 3]| {
            [
                10.0 * (v[1] - v[0]),
                (28.0 - z) * v[0] - v[1] - x * v[2],
                y * v[0] + x * v[1] - 8.0 / 3.0 * v[2],
            ]
        };
        let along = |a: [f64; 3], b: [f64; 3], h: f64| [0, 1, 2].map(|i| a[i] + h * b[i]);
        let mut state = [1.0, 1.0, 20.0];
        let mut tangents = Tangents::new(3, 3, 1);
        let (burn_in, steps, interval) = (10_000, 400_000, 20);
        for step in 0..burn_in + steps {
            let k1 = slope(state);
            let s2 = along(state, k1, DT / 2.0);
            let k2 = slope(s2);
            let s3 = along(state, k2, DT / 2.0);
            let k3 = slope(s3);
            let s4 = along(state, k3, DT);
            let k4 = slope(s4);
            for vector in tangents.vectors() {
                let v = [vector[0], vector[1], vector[2]];
                let l1 = tangent(state, v);
                let l2 = tangent(s2, along(v, l1, DT / 2.0));
                let l3 = tangent(s3, along(v, l2, DT / 2.0));
                let l4 = tangent(s4, along(v, l3, DT));
                let next = [0, 1, 2].map(|i| v[i] + DT / 6.0 * (l1[i] + 2.0 * l2[i] + 2.0 * l3[i] + l4[i]));
                vector.copy_from_slice(&next);
            }
            state = [0, 1, 2].map(|i| state[i] + DT / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]));
            if (step + 1) % interval == 0 {
                tangents.end_interval(step >= burn_in);
            }
        }
        let found = tangents.exponents(interval as f64 * DT);
        for (found, (expected, bound)) in found.iter().zip([(0.9056, 0.02), (0.0, 0.005), (-14.572, 0.02)]) {
            assert!((found.per_ms - expected).abs() < bound, "{found:?} for {expected}");
            assert!(found.error_per_ms < 0.02, "{found:?}");
        }
        let values: Vec<f64> = found.iter().map(|exponent| exponent.per_ms).collect();
        assert!((values.iter().sum::<f64>() + 41.0 / 3.0).abs() < 1e-3, "{values:?}");
        assert!((kaplan_yorke(&values).expect("it contracts") - 2.062).abs() < 0.002);
    }

    /// Pairs that turn, slowly or fast, of an operator that is not normal: both exponents are the real part. The error
    /// that is stated holds it, from any first vectors.
    #[test]
    fn errors_of_rotating_pairs_hold_the_exponent() {
        const DT: f64 = 2.0;
        let (interval, burn_in, steps) = (10, 200, 1000);
        let (mut far, mut all) = (0, 0);
        // Turns in the 2,000 ms that count.
        for turns in [0.8, 1.3, 2.0, 3.7, 9.1, 40.0] {
            let omega = turns * std::f64::consts::TAU / (steps as f64 * DT);
            for seed in 0..20 {
                for stretch in [1.5, 4.0] {
                    // Rows (a, -w s), (w / s, a): eigenvalues a +- i w.
                    let a = -0.01;
                    let mut tangents = Tangents::new(2, 2, seed);
                    for step in 0..burn_in + steps {
                        for v in tangents.vectors() {
                            let size = (a * DT).exp();
                            let (sin, cos) = (omega * DT).sin_cos();
                            let next = [cos * v[0] - stretch * sin * v[1], sin / stretch * v[0] + cos * v[1]];
                            v.copy_from_slice(&next.map(|x| size * x));
                        }
                        if (step + 1) % interval == 0 {
                            tangents.end_interval(step >= burn_in);
                        }
                    }
                    for exponent in tangents.exponents(interval as f64 * DT) {
                        all += 1;
                        far += usize::from((exponent.per_ms - a).abs() > 2.0 * exponent.error_per_ms);
                    }
                }
            }
        }
        assert!(far * 20 <= all, "{far} of {all} are more than two standard errors off");
    }

    /// Values that are correlated over some thirty of them: two standard errors hold the mean as often as they should.
    #[test]
    fn errors_of_correlated_values_hold_the_mean() {
        let held = (0..400).filter(|&seed| {
            let mut stream = Stream::new(seed, Purpose::Probe, 0, 9, 0, 0);
            let mut x = 0.0;
            let values: Vec<f64> = (0..1000)
                .map(|_| {
                    x = 0.97 * x + stream.normal();
                    x
                })
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            mean.abs() <= 2.0 * error_of_time_average(&values)
        });
        let held = held.count();
        assert!((368..=398).contains(&held), "{held} of 400");
    }

    #[test]
    fn dimension_of_known_exponents() {
        assert_eq!(kaplan_yorke(&[-1.0, -2.0]), Some(0.0));
        assert_eq!(kaplan_yorke(&[1.0, -0.5, -1.0]), Some(2.5));
        assert_eq!(kaplan_yorke(&[1.0, -0.5]), None);
        assert_eq!(kaplan_yorke(&[]), None);
    }
}
