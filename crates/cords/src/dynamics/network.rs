//! The linearisation of the whole network at one state, areas coupled as they are.

use super::operator::LinearOperator;
use crate::net::{CordsNet, State};

/// Jacobian of tau_l dr_l/dt = -r_l + phi(u_l) over all areas, in 1/ms: block lower-triangular. A vector holds the
/// areas one after the other, each `[channels, side, side]`.
pub struct NetworkJacobian<'a> {
    net: &'a CordsNet<f64>,
    /// phi'(u) of every unit, per area.
    derivatives: Vec<Vec<f64>>,
    /// Derivative of max(r, 0) per area: sources are rectified.
    passes: Vec<Vec<f64>>,
    /// Where each area begins, and where the last one ends.
    offsets: Vec<usize>,
}

impl<'a> NetworkJacobian<'a> {
    /// At the state of one image; `inp` is its embedding (see [`CordsNet::embed`]), zeros for no input.
    pub fn at(net: &'a CordsNet<f64>, state: &State<f64>, inp: &[f64]) -> Self {
        let slope = net.phi().slope();
        let derivative = |area: usize| -> Vec<f64> {
            let drive = net.drive(area, state, inp);
            let recurrent = net.recurrent(area, &state.areas[area], 1);
            let current = recurrent.iter().zip(&drive).zip(net.bias(area));
            current
                .map(|((w, drive), bias)| if w + drive + bias > 0.0 { 1.0 } else { slope })
                .collect()
        };
        let derivatives: Vec<Vec<f64>> = (0..state.areas.len()).map(derivative).collect();
        let mut offsets = vec![0];
        for area in &derivatives {
            offsets.push(offsets[offsets.len() - 1] + area.len());
        }
        let passes = state
            .areas
            .iter()
            .map(|area| area.iter().map(|r| f64::from(u8::from(*r > 0.0))).collect());
        Self {
            net,
            derivatives,
            passes: passes.collect(),
            offsets,
        }
    }

    /// Number of areas of the network.
    pub fn areas(&self) -> usize {
        self.derivatives.len()
    }

    /// Where an area's units lie in a vector.
    pub fn range(&self, area: usize) -> std::ops::Range<usize> {
        self.offsets[area]..self.offsets[area + 1]
    }

    /// phi'(u) of an area's units.
    pub fn derivative(&self, area: usize) -> &[f64] {
        &self.derivatives[area]
    }

    /// Time constant of each unit in ms.
    pub fn unit_tau_ms(&self) -> Vec<f64> {
        let of_area = |area: usize| std::iter::repeat_n(self.tau_ms(area), self.range(area).len());
        (0..self.areas()).flat_map(of_area).collect()
    }

    fn tau_ms(&self, area: usize) -> f64 {
        let euler = self.net.euler();
        euler.dt_ms / euler.alpha(area)
    }

    /// What passes the rectification of an area's activity.
    fn passed(&self, area: usize, x: &[f64]) -> Vec<f64> {
        let x = &x[self.range(area)];
        x.iter().zip(&self.passes[area]).map(|(x, passes)| x * passes).collect()
    }

    fn add_passed(&self, area: usize, y: &[f64], out: &mut [f64]) {
        let range = self.range(area);
        for ((out, y), passes) in out[range].iter_mut().zip(y).zip(&self.passes[area]) {
            *out += passes * y;
        }
    }
}

impl LinearOperator for NetworkJacobian<'_> {
    fn dim(&self) -> usize {
        self.offsets[self.areas()]
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let net = self.net;
        for area in 0..self.areas() {
            let own = &x[self.range(area)];
            let mut coupled = net.recurrent(area, own, 1);
            if area > 0 {
                let mut source = self.passed(area - 1, x);
                if area > 1 {
                    let skipped = net.shortcut(area, &self.passed(area - 2, x), 1);
                    source
                        .iter_mut()
                        .zip(&skipped)
                        .for_each(|(source, skipped)| *source += skipped);
                }
                let driven = net.feedforward(area, &source, 1);
                coupled
                    .iter_mut()
                    .zip(&driven)
                    .for_each(|(coupled, driven)| *coupled += driven);
            }
            let tau = self.tau_ms(area);
            let range = self.range(area);
            for (((out, x), coupled), derivative) in out[range]
                .iter_mut()
                .zip(own)
                .zip(&coupled)
                .zip(&self.derivatives[area])
            {
                *out = (derivative * coupled - x) / tau;
            }
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let net = self.net;
        for area in 0..self.areas() {
            let tau = self.tau_ms(area);
            let own = &x[self.range(area)];
            let scaled: Vec<f64> = own
                .iter()
                .zip(&self.derivatives[area])
                .map(|(x, d)| x * d / tau)
                .collect();
            let coupled = net.recurrent_transpose(area, &scaled, 1);
            let range = self.range(area);
            for ((out, x), coupled) in out[range].iter_mut().zip(own).zip(&coupled) {
                *out = coupled - x / tau;
            }
            if area > 0 {
                // Earlier areas have been written.
                let source = net.feedforward_transpose(area, &scaled, 1);
                self.add_passed(area - 1, &source, out);
                if area > 1 {
                    let skipped = net.shortcut_transpose(area, &source, 1);
                    self.add_passed(area - 2, &skipped, out);
                }
            }
        }
    }
}
