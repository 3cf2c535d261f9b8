//! Steady states of rate units, by simulation and faster: Anderson acceleration (Walker and Ni 2011), and a semismooth
//! Newton-Krylov method that also reaches unstable ones.
//!
//! g(r) = phi(W r + c) - r, whose largest magnitude is the residual. phi is piecewise linear, so Newton's method ends
//! after finitely many steps: exactly, once the set of active units is right.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::krylov::{add_scaled, dot, norm};
use super::operator::coupled_areas;
use super::steady::SteadyOptions;
use crate::linear::solve_positive;
use crate::net::{CordsNet, State};

/// How activity is brought to a steady state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SteadyMethod {
    /// the network's own steps
    #[default]
    Simulation,
    /// Anderson acceleration
    Anderson,
    /// Newton's method with GMRES, which also reaches unstable states
    NewtonKrylov,
}

/// What became of activity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settled {
    /// max |phi(u) - r| at the end.
    pub(crate) residual: f64,
    /// |phi(u) - r|, the Euclidean norm.
    pub(crate) size: f64,
    /// Number of products with W.
    pub(crate) products: usize,
}

impl Settled {
    /// The end, where g is small enough, the products are used up, or activity is no longer finite.
    fn of(g: &[f64], products: usize, options: &SteadyOptions) -> Option<Self> {
        let residual = largest(g);
        let ends = residual <= options.tolerance || products > options.max_steps || !residual.is_finite();
        ends.then(|| Self {
            residual,
            size: norm(g),
            products,
        })
    }
}

/// Activity that relaxes towards phi(u), u = W r + constant: tau dr/dt = -r + phi(u), with phi linear on either side of
/// 0.
pub(crate) trait Relaxation {
    /// W x, the recurrent part of the current.
    fn coupled(&self, x: &[f64]) -> Vec<f64>;
    /// The same of a change x of activity, where W depends on the activity that it is applied to.
    fn linearised(&self, _activity: &[f64], x: &[f64]) -> Vec<f64> {
        self.coupled(x)
    }
    /// The part of the current that activity has no share in.
    fn constant(&self) -> &[f64];
    /// phi' below 0; it is 1 above.
    fn slope(&self) -> f64;
    /// dt/tau of a unit.
    fn alpha(&self, unit: usize) -> f64;

    /// g(r) = phi(u) - r and phi'(u) of every unit.
    fn residuals(&self, activity: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut g = self.coupled(activity);
        let mut derivative = vec![1.0; g.len()];
        for (((g, derivative), constant), r) in g.iter_mut().zip(&mut derivative).zip(self.constant()).zip(activity) {
            let u = *g + constant;
            *derivative = if u > 0.0 { 1.0 } else { self.slope() };
            *g = *derivative * u - r;
        }
        (g, derivative)
    }

    /// One Euler step, given g(r).
    fn step(&self, activity: &mut [f64], g: &[f64]) {
        for (unit, (r, g)) in activity.iter_mut().zip(g).enumerate() {
            *r += self.alpha(unit) * g;
        }
    }

    /// Brings `activity` to a steady state, from where it is.
    fn settle(&self, activity: &mut [f64], options: &SteadyOptions) -> Settled {
        match options.method {
            SteadyMethod::Simulation => self.simulate(activity, options),
            SteadyMethod::Anderson => self.accelerate(activity, options),
            SteadyMethod::NewtonKrylov => self.newton(activity, options),
        }
    }

    fn simulate(&self, activity: &mut [f64], options: &SteadyOptions) -> Settled {
        let mut products = 0;
        loop {
            let (g, _) = self.residuals(activity);
            products += 1;
            if let Some(settled) = Settled::of(&g, products, options) {
                return settled;
            }
            self.step(activity, &g);
        }
    }

    /// The next activity is the combination of the last ones whose g is smallest in the least-squares sense, plus that
    /// g.
    fn accelerate(&self, activity: &mut [f64], options: &SteadyOptions) -> Settled {
        let mut products = 0;
        let (mut changes, mut differences): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        let mut last: Option<(Vec<f64>, Vec<f64>)> = None;
        let mut best = f64::INFINITY;
        loop {
            let (g, _) = self.residuals(activity);
            products += 1;
            if let Some(settled) = Settled::of(&g, products, options) {
                return settled;
            }
            let size = norm(&g);
            if size > GROWTH * best {
                // What was learnt does not hold here: a step of the network itself.
                (changes, differences, last) = (Vec::new(), Vec::new(), None);
                best = size;
                self.step(activity, &g);
                continue;
            }
            best = best.min(size);
            if let Some((r, before)) = last.take() {
                if changes.len() == DEPTH {
                    changes.remove(0);
                    differences.remove(0);
                }
                changes.push(activity.iter().zip(&r).map(|(a, b)| a - b).collect());
                differences.push(g.iter().zip(&before).map(|(a, b)| a - b).collect());
            }
            last = Some((activity.to_vec(), g.clone()));
            let weights = least_squares(&differences, &g);
            add_scaled(activity, 1.0, &g);
            for ((weight, change), difference) in weights.iter().zip(&changes).zip(&differences) {
                add_scaled(activity, -weight, change);
                add_scaled(activity, -weight, difference);
            }
        }
    }

    fn newton(&self, activity: &mut [f64], options: &SteadyOptions) -> Settled {
        let (mut g, mut derivative) = self.residuals(activity);
        let mut products = 1;
        let mut forcing = LOOSEST;
        loop {
            if let Some(settled) = Settled::of(&g, products, options) {
                return settled;
            }
            // (I - D W) step = g.
            let apply = |x: &[f64]| {
                let mut y = self.linearised(activity, x);
                for ((y, x), derivative) in y.iter_mut().zip(x).zip(&derivative) {
                    *y = x - derivative * *y;
                }
                y
            };
            let (step, used) = gmres(&apply, &g, forcing, options.max_steps.saturating_sub(products));
            products += used;
            let size = norm(&g);
            let mut length = 1.0;
            let accepted = loop {
                let mut tried = activity.to_vec();
                add_scaled(&mut tried, length, &step);
                let (next, slopes) = self.residuals(&tried);
                products += 1;
                // Armijo's condition on |g|^2 / 2.
                if norm(&next) <= (1.0 - DECREASE * length) * size {
                    break Some((tried, next, slopes));
                }
                length /= 2.0;
                if length < SHORTEST {
                    break None;
                }
            };
            let (tried, next, slopes) = accepted.unwrap_or_else(|| {
                // No descent along that direction, across kinks of phi: a step of the network itself.
                let mut tried = activity.to_vec();
                self.step(&mut tried, &g);
                let (next, slopes) = self.residuals(&tried);
                products += 1;
                (tried, next, slopes)
            });
            // Eisenstat and Walker (1996), choice 2.
            forcing = (0.9 * (norm(&next) / size).powi(2)).clamp(TIGHTEST, LOOSEST);
            activity.copy_from_slice(&tried);
            (g, derivative) = (next, slopes);
        }
    }
}

/// One area of a CordsNet, or areas that drive each other, under a constant drive; hidden variables are at their steady
/// states for the activity.
pub(super) struct Component<'a> {
    net: &'a CordsNet<f64>,
    areas: &'a [usize],
    /// Drive and bias.
    constant: Vec<f64>,
    /// dt/tau of each unit.
    alphas: Vec<f64>,
    /// What hidden variables at their steady state, h = gain r, take from each unit's current, per unit of activity.
    gain: Vec<f64>,
}

impl<'a> Component<'a> {
    /// Driven by the other areas at a state, and by an image's embedding.
    pub(super) fn at(net: &'a CordsNet<f64>, areas: &'a [usize], state: &State<f64>, inp: &[f64]) -> Self {
        let mut others = state.clone();
        if net.is_coupled(areas) {
            areas.iter().for_each(|area| others.areas[*area].fill(0.0));
        }
        Self::new(net, areas, areas.iter().flat_map(|area| net.drive(*area, &others, inp)))
    }

    /// Driven by so much, one area after the other.
    pub(super) fn new(net: &'a CordsNet<f64>, areas: &'a [usize], drive: impl IntoIterator<Item = f64>) -> Self {
        let biases = areas.iter().flat_map(|area| net.bias(*area));
        let units = areas.iter().map(|area| (*area, net.architecture().area_units(*area)));
        Self {
            net,
            areas,
            constant: drive
                .into_iter()
                .zip(biases)
                .map(|(drive, bias)| drive + bias)
                .collect(),
            gain: units
                .flat_map(|(area, units)| {
                    let gain = net.hidden(area).0.iter().map(|hidden| hidden.gain).sum();
                    std::iter::repeat_n(gain, units)
                })
                .collect(),
            alphas: areas.iter().flat_map(|area| net.unit_alphas(*area)).collect(),
        }
    }

    /// W x; sources are rectified but under ReLU, where activity is not negative.
    fn apply(&self, x: &[f64], passes: &dyn Fn(usize) -> bool) -> Vec<f64> {
        let all = self.slope() == 0.0;
        let passed = |range: Range<usize>| {
            range
                .map(|unit| if all || passes(unit) { x[unit] } else { 0.0 })
                .collect()
        };
        let mut coupled = coupled_areas(self.net, self.areas, x, &passed);
        for ((coupled, x), gain) in coupled.iter_mut().zip(x).zip(&self.gain) {
            if *gain != 0.0 {
                *coupled -= gain * x;
            }
        }
        coupled
    }
}

impl Relaxation for Component<'_> {
    fn coupled(&self, x: &[f64]) -> Vec<f64> {
        self.apply(x, &|unit| x[unit] > 0.0)
    }

    fn linearised(&self, activity: &[f64], x: &[f64]) -> Vec<f64> {
        self.apply(x, &|unit| activity[unit] > 0.0)
    }

    fn constant(&self) -> &[f64] {
        &self.constant
    }

    fn slope(&self) -> f64 {
        self.net.phi().slope()
    }

    fn alpha(&self, unit: usize) -> f64 {
        self.alphas[unit]
    }
}

/// Earlier activities that Anderson's method combines.
const DEPTH: usize = 5;
/// Growth of |g| over its least value so far at which it starts anew.
const GROWTH: f64 = 2.0;
/// Share of the squared differences that is added to keep weights bounded.
const REGULARISATION: f64 = 1e-10;
/// Bounds of the relative residual at which a linear system counts as solved.
const LOOSEST: f64 = 0.1;
const TIGHTEST: f64 = 1e-10;
/// Armijo's constant, and the shortest step that is tried.
const DECREASE: f64 = 1e-4;
const SHORTEST: f64 = 1.0 / 1024.0;
/// Dimension of GMRES's Krylov space before it restarts.
const SPACE: usize = 50;

/// The largest magnitude; NaN where one is.
pub(super) fn largest(values: &[f64]) -> f64 {
    crate::device::largest(&values.iter().map(|value| value.abs()).collect::<Vec<_>>())
}

/// Weights w with |g - sum of w_i differences_i| smallest, a little regularised; 0 where there are none.
fn least_squares(differences: &[Vec<f64>], g: &[f64]) -> Vec<f64> {
    let m = differences.len();
    let products = differences.iter().flat_map(|a| differences.iter().map(|b| dot(a, b)));
    let mut matrix: Vec<f64> = products.collect();
    let trace: f64 = (0..m).map(|i| matrix[i * m + i]).sum();
    (0..m).for_each(|i| matrix[i * m + i] += REGULARISATION * trace);
    let right: Vec<f64> = differences.iter().map(|a| dot(a, g)).collect();
    solve_positive(&matrix, &right, 1).unwrap_or_else(|| vec![0.0; m])
}

/// Solves A x = b to |b - A x| <= tolerance |b| by restarted GMRES (Saad and Schultz 1986), or for as long as the
/// products suffice. Also returns the products used.
pub(super) fn gmres(apply: &dyn Fn(&[f64]) -> Vec<f64>, b: &[f64], tolerance: f64, most: usize) -> (Vec<f64>, usize) {
    let mut x = vec![0.0; b.len()];
    let (goal, mut products) = (tolerance * norm(b), 0);
    let mut residual = b.to_vec();
    loop {
        let size = norm(&residual);
        if size <= goal || products >= most || !size.is_finite() {
            return (x, products);
        }
        let mut basis = vec![residual.iter().map(|r| r / size).collect::<Vec<f64>>()];
        // Columns of the triangle that rotations leave, and the right side they turn.
        let (mut columns, mut rotations): (Vec<Vec<f64>>, Vec<(f64, f64)>) = (Vec::new(), Vec::new());
        let mut right = vec![size];
        while columns.len() < SPACE && products < most {
            let j = columns.len();
            let mut next = apply(&basis[j]);
            products += 1;
            let mut column = vec![0.0; j + 1];
            for _ in 0..2 {
                for (v, h) in basis.iter().zip(&mut column) {
                    let along = dot(v, &next);
                    add_scaled(&mut next, -along, v);
                    *h += along;
                }
            }
            let below = norm(&next);
            for (i, (c, s)) in rotations.iter().enumerate() {
                (column[i], column[i + 1]) = (c * column[i] + s * column[i + 1], c * column[i + 1] - s * column[i]);
            }
            let length = column[j].hypot(below);
            let (c, s) = if length > 0.0 {
                (column[j] / length, below / length)
            } else {
                (1.0, 0.0)
            };
            column[j] = length;
            rotations.push((c, s));
            right.push(-s * right[j]);
            right[j] *= c;
            columns.push(column);
            if right[j + 1].abs() <= goal || below <= 1e-14 * length {
                break;
            }
            next.iter_mut().for_each(|value| *value /= below);
            basis.push(next);
        }
        let n = columns.len();
        let mut weights = right[..n].to_vec();
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| columns[k][i] * weights[k]).sum();
            weights[i] = if columns[i][i] == 0.0 {
                0.0
            } else {
                (weights[i] - sum) / columns[i][i]
            };
        }
        for (v, weight) in basis.iter().zip(&weights) {
            add_scaled(&mut x, *weight, v);
        }
        let ax = apply(&x);
        products += 1;
        residual = b.iter().zip(&ax).map(|(b, ax)| b - ax).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// A well-conditioned matrix that is not symmetric, larger than the Krylov space.
    #[test]
    fn gmres_solves_with_restarts() {
        let n = 120;
        let mut stream = Stream::new(1, Purpose::Probe, 0, 0, 0, 0);
        let mut matrix: Vec<Vec<f64>> = (0..n)
            .map(|_| (0..n).map(|_| 0.9 * stream.normal() / (n as f64).sqrt()).collect())
            .collect();
        (0..n).for_each(|i| matrix[i][i] += 1.1);
        let apply = |x: &[f64]| matrix.iter().map(|row| dot(row, x)).collect::<Vec<f64>>();
        let expected: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let b = apply(&expected);
        let (x, products) = gmres(&apply, &b, 1e-12, 10_000);
        let residual: Vec<f64> = apply(&x).iter().zip(&b).map(|(a, b)| a - b).collect();
        assert!(norm(&residual) <= 1e-12 * norm(&b), "{}", norm(&residual));
        assert!(products > SPACE, "restarted: {products}");
        // Nothing to do, and nothing allowed.
        assert_eq!(gmres(&apply, &vec![0.0; n], 1e-12, 10), (vec![0.0; n], 0));
        assert_eq!(gmres(&apply, &b, 1e-12, 0).1, 0);
    }
}
