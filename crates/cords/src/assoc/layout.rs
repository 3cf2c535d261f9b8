//! Areas and projections: which unit may drive which, and with what sign. No weights yet.
//!
//! Not a [`Graph`](crate::net::Graph), with which it shares names, time constants and pairs of areas. There an area is
//! maps, a projection one convolution of a sum of sources, and weights are named tensors. Here an area is so many units
//! with noise, a projection a random choice of pairs, signs belong to units, and all weights are one masked matrix. One
//! type would have both halves, of which every use refuses one, and still two forms in files, as both are stored. What
//! works on either is shared below them: the search for steady states (`dynamics`).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::AssocError;
use crate::rng::{Purpose, Stream};

/// One area of rate units: tau dr/dt = -r + max(u, 0), u being current, drive and noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// What tables call it.
    pub name: String,
    /// Number of units of the area.
    pub units: usize,
    /// Time constant in ms.
    pub tau_ms: f64,
    /// Standard deviation sigma of each unit's private noise: sqrt(2 / alpha) sigma xi within the current of every
    /// step, so that the noise of a linear unit's rate does not depend on the step.
    pub noise: f64,
}

/// Connections from one area to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// Area it comes from.
    pub from: usize,
    /// Area it goes to.
    pub to: usize,
    /// Share of pairs that are connected; under Dale's law of pairs whose first unit is excitatory.
    pub density: f64,
}

impl Projection {
    /// Whether it goes back towards the stimulus.
    pub fn is_feedback(&self) -> bool {
        self.to < self.from
    }
}

/// Everything about a network of areas but its weights. Units of all areas stand one after the other.
///
/// Within an area all pairs of different units are connected. Stimulus features reach the first area, cues the areas
/// `cue_areas`; the output is read from the last area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Areas, from the one that the stimulus reaches to the one that is read.
    pub areas: Vec<Area>,
    /// Projections between different areas.
    pub projections: Vec<Projection>,
    /// Under Dale's law the share of excitatory units in each area (0.8 is usual); none without the law. Only
    /// excitatory units then project to other areas and to the output.
    pub excitatory: Option<f64>,
    /// Euler step in ms.
    pub dt_ms: f64,
    /// Features of the stimulus.
    pub features: usize,
    /// Cues, the fixation signal among them.
    pub cues: usize,
    /// Areas that the cues reach.
    pub cue_areas: Vec<usize>,
    /// Number of outputs: fixation and the choices.
    pub outputs: usize,
    /// Seed of the choice of connected pairs.
    pub seed: u64,
}

impl Layout {
    /// Checks that sizes, time constants and projections make a network.
    ///
    /// # Errors
    /// [`AssocError::Setting`] for the first thing found wrong.
    pub fn validate(&self) -> Result<(), AssocError> {
        let wrong = |setting, problem: String| Err(AssocError::setting(setting, problem));
        if self.areas.is_empty() {
            return wrong("areas", "there are none; give at least one".into());
        }
        if !(self.dt_ms.is_finite() && self.dt_ms > 0.0) {
            return wrong("dt", format!("{} ms is not a step; give one above 0", self.dt_ms));
        }
        for area in &self.areas {
            let name = &area.name;
            if area.units == 0 || area.units > 10_000 {
                return wrong("units", format!("{} in area {name}; give 1 to 10000", area.units));
            }
            // Not below the step: with alpha <= 1 rates cannot become negative.
            if !(area.tau_ms.is_finite() && area.tau_ms >= self.dt_ms) {
                let (tau, dt) = (area.tau_ms, self.dt_ms);
                return wrong("tau", format!("{tau} ms in area {name} is below the step of {dt} ms"));
            }
            if !(area.noise.is_finite() && area.noise >= 0.0) {
                return wrong("noise", format!("{} in area {name}; give 0 or more", area.noise));
            }
        }
        let count = self.areas.len();
        for (index, projection) in self.projections.iter().enumerate() {
            let Projection { from, to, density } = *projection;
            if from >= count || to >= count || from == to {
                return wrong(
                    "projections",
                    format!(
                        "from area {from} to area {to}, but projections join two different areas of 0 to {}",
                        count - 1
                    ),
                );
            }
            if !(density > 0.0 && density <= 1.0) {
                return wrong(
                    "density",
                    format!("{density} from area {from} to area {to}; give more than 0, at most 1"),
                );
            }
            let same = |other: &Projection| (other.from, other.to) == (from, to);
            if self.projections[..index].iter().any(same) {
                return wrong("projections", format!("from area {from} to area {to} is given twice"));
            }
        }
        if let Some(share) = self.excitatory.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return wrong("excitatory", format!("{share} is not a share above 0 and up to 1"));
        }
        if let Some(area) = self.cue_areas.iter().find(|area| **area >= count) {
            return wrong(
                "cue_areas",
                format!("area {area}, but there are areas 0 to {}", count - 1),
            );
        }
        if self.outputs < 2 {
            return wrong(
                "outputs",
                format!("{}; give fixation and at least one choice", self.outputs),
            );
        }
        Ok(())
    }

    /// Units of all areas.
    pub fn units(&self) -> usize {
        self.areas.iter().map(|area| area.units).sum()
    }

    /// Rows of the input matrix: features, cues and a constant 1 that carries the bias.
    pub fn inputs(&self) -> usize {
        self.features + self.cues + 1
    }

    /// Places of an area's units among all units; empty for an area that does not exist.
    pub fn range(&self, area: usize) -> Range<usize> {
        let first = self.areas.iter().take(area).map(|area| area.units).sum();
        first..first + self.areas.get(area).map_or(0, |area| area.units)
    }

    /// alpha = dt / tau of every unit.
    pub fn alpha(&self) -> Vec<f64> {
        let of = |area: &Area| std::iter::repeat_n(self.dt_ms / area.tau_ms, area.units);
        self.areas.iter().flat_map(of).collect()
    }

    /// Whether a unit, counted within its area of `units`, is excitatory: the first ones are.
    fn is_excitatory(&self, unit: usize, units: usize) -> bool {
        self.excitatory
            .is_none_or(|share| unit < ((share * units as f64).round() as usize).max(1))
    }

    /// For every pair of units (row: from, column: to) 0 where they are not connected, else the sign of the connection
    /// under Dale's law and 1 without it; `[units, units]`.
    pub fn recurrent_mask(&self) -> Vec<f64> {
        let units = self.units();
        let mut mask = vec![0.0; units * units];
        for area in 0..self.areas.len() {
            let range = self.range(area);
            for from in range.clone() {
                let sign = if self.is_excitatory(from - range.start, range.len()) {
                    1.0
                } else {
                    -1.0
                };
                // No unit drives itself.
                for to in range.clone().filter(|to| *to != from) {
                    mask[from * units + to] = sign;
                }
            }
        }
        for projection in &self.projections {
            let (from, to) = (self.range(projection.from), self.range(projection.to));
            let (first, second) = (projection.from as u32, projection.to as u32);
            for unit in from
                .clone()
                .filter(|unit| self.is_excitatory(unit - from.start, from.len()))
            {
                let mut stream = Stream::new(self.seed, Purpose::Initialisation, unit as u64, first, second, 1);
                for to in to.clone() {
                    if stream.uniform() < projection.density {
                        mask[unit * units + to] = 1.0;
                    }
                }
            }
        }
        mask
    }

    /// 1 where an input reaches a unit, else 0; `[inputs, units]`.
    pub fn input_mask(&self) -> Vec<f64> {
        let (inputs, units) = (self.inputs(), self.units());
        let mut mask = vec![0.0; inputs * units];
        for (input, row) in mask.chunks_exact_mut(units).enumerate() {
            if input < self.features {
                row[self.range(0)].fill(1.0);
            } else if input + 1 < inputs {
                self.cue_areas.iter().for_each(|area| row[self.range(*area)].fill(1.0));
            } else {
                row.fill(1.0);
            }
        }
        mask
    }

    /// 1 where a unit is read, else 0; `[units, outputs]`.
    pub fn output_mask(&self) -> Vec<f64> {
        let mut mask = vec![0.0; self.units() * self.outputs];
        let last = self.range(self.areas.len().saturating_sub(1));
        for unit in last
            .clone()
            .filter(|unit| self.is_excitatory(unit - last.start, last.len()))
        {
            mask[unit * self.outputs..][..self.outputs].fill(1.0);
        }
        mask
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::assoc) fn small(excitatory: Option<f64>) -> Layout {
        let area = |name: &str, units, tau_ms| Area {
            name: name.into(),
            units,
            tau_ms,
            noise: 0.0,
        };
        let projection = |from, to, density| Projection { from, to, density };
        Layout {
            areas: vec![area("a", 10, 50.0), area("b", 5, 100.0)],
            projections: vec![projection(0, 1, 0.5), projection(1, 0, 0.25)],
            excitatory,
            dt_ms: 10.0,
            features: 3,
            cues: 2,
            cue_areas: vec![1],
            outputs: 3,
            seed: 4,
        }
    }

    #[test]
    fn under_dales_law_signs_belong_to_units_and_only_excitatory_ones_project() {
        let layout = small(Some(0.8));
        let mask = layout.recurrent_mask();
        for (from, row) in mask.chunks_exact(15).enumerate() {
            let inhibitory = matches!(from, 8 | 9 | 14);
            assert!(
                row.iter()
                    .all(|sign| if inhibitory { *sign <= 0.0 } else { *sign >= 0.0 })
            );
            assert_eq!(row[from], 0.0, "no unit drives itself");
            let away: Vec<f64> = row
                .iter()
                .enumerate()
                .filter(|(to, _)| (*to < 10) != (from < 10))
                .map(|(_, s)| *s)
                .collect();
            assert!(!inhibitory || away.iter().all(|sign| *sign == 0.0));
        }
        let read: Vec<usize> = (0..15).filter(|unit| layout.output_mask()[unit * 3] != 0.0).collect();
        assert_eq!(read, [10, 11, 12, 13]);
    }

    /// 40,000 pairs at density 0.1: standard deviation 60, bound five of them.
    #[test]
    fn projections_have_their_density() {
        let mut layout = small(None);
        layout.areas.iter_mut().for_each(|area| area.units = 200);
        layout.projections = vec![Projection {
            from: 0,
            to: 1,
            density: 0.1,
        }];
        let mask = layout.recurrent_mask();
        let count = |from: Range<usize>, to: Range<usize>| {
            from.map(|f| to.clone().filter(|t| mask[f * 400 + t] != 0.0).count())
                .sum::<usize>() as i64
        };
        assert!((count(0..200, 200..400) - 4000).abs() < 300);
        assert_eq!(count(200..400, 0..200), 0);
        assert_eq!(count(0..200, 0..200), 200 * 199);
    }

    #[test]
    fn inputs_reach_their_areas() {
        let mask = small(None).input_mask();
        let reached = |input: usize| -> Vec<usize> { (0..15).filter(|unit| mask[input * 15 + unit] != 0.0).collect() };
        assert_eq!(reached(0), (0..10).collect::<Vec<_>>());
        assert_eq!(reached(3), (10..15).collect::<Vec<_>>());
        assert_eq!(reached(5), (0..15).collect::<Vec<_>>());
    }

    #[test]
    fn what_makes_no_network_is_named() {
        let refused = |change: fn(&mut Layout)| {
            let mut layout = small(None);
            change(&mut layout);
            layout.validate().expect_err("refused").to_string()
        };
        assert!(small(None).validate().is_ok());
        assert!(refused(|l| l.areas.clear()).contains("areas"));
        assert!(refused(|l| l.areas[1].tau_ms = 5.0).contains("5 ms in area b is below the step of 10 ms"));
        assert!(refused(|l| l.projections[0].to = 0).contains("two different areas"));
        assert!(refused(|l| l.projections[1] = l.projections[0]).contains("twice"));
        assert!(refused(|l| l.projections[0].density = 0.0).contains("density"));
        assert!(refused(|l| l.cue_areas = vec![2]).contains("cue_areas"));
        assert!(refused(|l| l.excitatory = Some(1.5)).contains("1.5"));
    }
}
