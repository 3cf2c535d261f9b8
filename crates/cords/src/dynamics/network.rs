//! The linearisation of the whole network at one state, areas coupled as they are.

use super::operator::{Block, LinearOperator, blocks, derivative};
use crate::net::{CordsNet, State, spread};

/// Jacobian of tau_l dr_l/dt = -r_l + phi(u_l) over all areas, in 1/ms: block triangular in the network's components. A
/// vector holds the areas one after the other, each `[channels, side, side]`.
pub struct NetworkJacobian<'a> {
    net: &'a CordsNet<f64>,
    /// phi'(u) of every unit, per area.
    derivatives: Vec<Vec<f64>>,
    /// Derivative of max(r, 0) per area: sources are rectified.
    passes: Vec<Vec<f64>>,
    /// Time constants of each area in ms, one or one for each channel.
    taus_ms: Vec<Vec<f64>>,
    /// Where each area begins, and where the last one ends.
    offsets: Vec<usize>,
    /// Hidden variables of all areas, which follow after the activities.
    hidden: Vec<Block>,
}

impl<'a> NetworkJacobian<'a> {
    /// At the state of one image; `inp` is its embedding (see [`CordsNet::embed`]), zeros for no input.
    pub fn at(net: &'a CordsNet<f64>, state: &State<f64>, inp: &[f64]) -> Self {
        let areas = 0..state.areas.len();
        let derivatives: Vec<Vec<f64>> = areas.map(|area| derivative(net, area, state, inp)).collect();
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
            taus_ms: (0..state.areas.len()).map(|area| net.area_taus_ms(area)).collect(),
            offsets,
            hidden: blocks(net, &(0..state.areas.len()).collect::<Vec<_>>())
                .into_iter()
                .filter(|block| block.gain.is_some())
                .collect(),
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
        let activities = (0..self.areas()).flat_map(|area| self.area_taus_ms(area));
        let hidden = self.hidden.iter().flat_map(Block::unit_taus_ms);
        activities.chain(hidden).collect()
    }

    /// Time constant of each unit of an area.
    fn area_taus_ms(&self, area: usize) -> impl Iterator<Item = f64> + '_ {
        spread(&self.taus_ms[area], self.range(area).len())
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
        self.hidden
            .last()
            .map_or(self.offsets[self.areas()], |block| block.range.end)
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let net = self.net;
        for area in 0..self.areas() {
            let own = &x[self.range(area)];
            let mut coupled = net.recurrent(area, own, 1);
            if let Some(driven) = net.projected(area, &|from| self.passed(from, x), 1) {
                coupled
                    .iter_mut()
                    .zip(&driven)
                    .for_each(|(coupled, driven)| *coupled += driven);
            }
            for block in self.hidden.iter().filter(|block| block.area == area) {
                coupled
                    .iter_mut()
                    .zip(&x[block.range.clone()])
                    .for_each(|(coupled, h)| *coupled -= h);
            }
            let range = self.range(area);
            for ((((out, x), coupled), derivative), tau) in out[range]
                .iter_mut()
                .zip(own)
                .zip(&coupled)
                .zip(&self.derivatives[area])
                .zip(self.area_taus_ms(area))
            {
                *out = (derivative * coupled - x) / tau;
            }
        }
        for block in &self.hidden {
            let units = self.range(block.area).zip(block.range.clone());
            for (unit, hidden) in units {
                out[hidden] = block.gain.unwrap_or_default() * x[unit] - x[hidden];
            }
            for (out, tau) in out[block.range.clone()].iter_mut().zip(block.unit_taus_ms()) {
                *out /= tau;
            }
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let net = self.net;
        let mut weighted = Vec::with_capacity(self.areas());
        for area in 0..self.areas() {
            let own = &x[self.range(area)];
            let scaled: Vec<f64> = own
                .iter()
                .zip(&self.derivatives[area])
                .zip(self.area_taus_ms(area))
                .map(|((x, d), tau)| x * d / tau)
                .collect();
            let coupled = net.recurrent_transpose(area, &scaled, 1);
            let range = self.range(area);
            let units = out[range].iter_mut().zip(own).zip(&coupled);
            for (((out, x), coupled), tau) in units.zip(self.area_taus_ms(area)) {
                *out = coupled - x / tau;
            }
            weighted.push(scaled);
        }
        for block in &self.hidden {
            let scaled = &weighted[block.area];
            let units = self.range(block.area).zip(block.range.clone());
            for (((unit, hidden), scaled), tau) in units.zip(scaled).zip(block.unit_taus_ms()) {
                let along = x[hidden] / tau;
                out[unit] += block.gain.unwrap_or_default() * along;
                out[hidden] = -scaled - along;
            }
        }
        // Every area has been written.
        for (area, scaled) in weighted.iter().enumerate() {
            net.projected_transpose(area, scaled, 1, &mut |from, y| self.add_passed(from, y, out));
        }
    }
}
