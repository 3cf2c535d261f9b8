//! What a gradient step's memory goes to, and how it is made to fit into a budget.
//!
//! A plan decides how many groups of images run side by side and how many steps lie between the activities that are
//! kept. Neither shows in a result: sums go group by group in order, and what is computed twice has the same bits. (How
//! many images a group has, which a GPU's memory decides, does show in the last bits.)

use std::collections::BTreeSet;

use super::TrainError;
use super::gathered::gradient_bytes;
use super::history::{HeldStates, HistoryPrecision};
use crate::Real;
use crate::device::{Device, PackedMaps};
use crate::net::{Connections, INPUT};

/// What limits the activities that a gradient step keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// All of them are kept.
    #[default]
    Unlimited,
    /// As many as fit into so many bytes, with everything else that the step needs.
    Budget(u64),
    /// Activities of every so many steps, from 1, are kept; the others are computed again when they are needed.
    Every(usize),
}

/// How the groups of a batch are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Groups side by side.
    pub(crate) groups: usize,
    /// Trials whose memory may exist at a time, idle ones of another size included; from `groups` on.
    pub(crate) trials: usize,
    /// Steps between the activities that are kept; all of them where it is the trial's length.
    pub(crate) interval: usize,
    /// How they are kept.
    pub(crate) precision: HistoryPrecision,
}

impl Plan {
    /// As fast as can be.
    pub(crate) fn unlimited<T: Real, D: Device<T>>(
        connections: &Connections<T, D>,
        steps: usize,
        precision: HistoryPrecision,
    ) -> Self {
        Self {
            groups: connections
                .device
                .groups_in_flight(connections.architecture.units())
                .max(1),
            trials: usize::MAX,
            interval: steps,
            precision,
        }
    }

    /// The fastest for gradient steps of up to `images` images, in trials of some steps of which a number is read out.
    ///
    /// # Errors
    /// [`TrainError::Memory`] where none fits into the budget.
    pub(crate) fn new<T: Real, D: Device<T>>(
        connections: &Connections<T, D>,
        (steps, window): (usize, usize),
        images: usize,
        memory: Memory,
        precision: HistoryPrecision,
    ) -> Result<Self, TrainError> {
        if precision == HistoryPrecision::Bfloat16
            && let Some(area) = connections.leaks.iter().position(|leak| leak.channels.is_some())
        {
            let name = &connections.architecture.area(area).name;
            return Err(TrainError::Setting {
                field: "history",
                problem: format!(
                    "bfloat16 does not tell the sign of a current where channels have their own time constants, as in \
                     area {name}: take float32"
                ),
            });
        }
        let unlimited = Self::unlimited(connections, steps, precision);
        let budget = match memory {
            Memory::Unlimited => return Ok(unlimited),
            Memory::Every(interval) => return Ok(Self { interval, ..unlimited }),
            Memory::Budget(bytes) => bytes,
        };
        let (device, units) = (&connections.device, connections.architecture.units());
        let group = images.min(device.group_images());
        let most = images.div_ceil(group).min(device.groups_in_flight(units));
        let needs = Needs::new(connections, group, steps, window);
        needs.plan(most, precision, |groups| device.slowdown(units, groups), budget)
    }
}

/// Bytes that gradient steps of a network need.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// Weights in every form, the optimiser's memory, gradients.
    shared: u64,
    /// Activity of one group at one step, as it is and packed.
    state: u64,
    packed: u64,
    /// A group's trial, apart from the activities that are kept.
    group: u64,
    steps: usize,
}

/// A trial that computes its activities a second time takes about this much longer: forward, forward again, backward.
const TWICE: f64 = 4.0 / 3.0;

impl Needs {
    /// For groups of `images` images and trials of `steps` steps, `window` of which are read out.
    fn new<T: Real, D: Device<T>>(connections: &Connections<T, D>, images: usize, steps: usize, window: usize) -> Self {
        let (device, architecture) = (&connections.device, &connections.architecture);
        let bytes = |maps| device.maps_bytes(maps);
        let states = connections.state_maps(images);
        let state: u64 = states.iter().copied().map(bytes).sum();
        let hidden = states[architecture.areas()..].iter().copied().map(bytes).sum::<u64>();
        let packed = states.iter().map(|maps| D::Packed::bytes(device, *maps)).sum();
        let inlets = || architecture.all_inlets().map(|(_, inlet)| inlet);
        let sources: u64 = inlets()
            .filter_map(|inlet| connections.source_maps(inlet, images))
            .map(bytes)
            .sum();
        let of_image = inlets().filter_map(|inlet| connections.image_source_maps(inlet, images));
        let seen = bytes(architecture.inp_maps(images)) + of_image.map(bytes).sum::<u64>();
        let shapes = architecture.conv_shapes();
        let weights: u64 = shapes
            .iter()
            .map(|shape| (shape.outputs * shape.patch() * size_of::<T>()) as u64)
            .sum();
        let [filters, sums] = shapes.iter().fold([0, 0], |[filters, sums], shape| {
            let [filter, sum] = device.weight_bytes(*shape);
            [filters + filter, sums + sum]
        });
        // Devices may have fused steps for one or two convolutions; the current of others is in memory, of one area at
        // a time, and room for it is kept by its size.
        let areas = (0..architecture.areas()).filter(|area| !(1..=2).contains(&connections.terms(*area)));
        let currents: BTreeSet<u64> = areas.map(|area| bytes(connections.maps(area, images))).collect();
        let scratch = device.scratch_bytes(&shapes, images) + currents.iter().sum::<u64>();
        // Of areas with hidden variables there is room for it in what is counted of their states below.
        let areas = (0..architecture.areas()).filter(|area| connections.hidden(*area).is_empty());
        let changed = areas.filter(|area| connections.changes_current(*area));
        let changed: u64 = changed.map(|area| bytes(connections.maps(area, images))).sum();
        let biases = state / images as u64;
        let input = shapes[INPUT];
        let read = bytes(architecture.pooled_maps(images)) + bytes(architecture.logit_maps(images));
        Self {
            // Parameters, two moments, gradients of effective weights and of parameters, and what else of them is held
            // while they are given and taken; the spontaneous phase of one image.
            shared: device.spare_bytes() + filters + 6 * (weights + biases) + 4 * biases,
            state,
            packed,
            // Two constant currents, gradients of hidden variables, and max(r, 0) where activity can be negative; sources
            // and their gradients.
            group: state * if connections.non_negative() { 2 } else { 3 }
                + gradient_bytes(connections, images)
                + hidden
                + 2 * sources
                + bytes(input.out_maps(images))
                // As they are, and as they come from the host.
                + 2 * bytes(input.in_maps(images))
                // With its gradients.
                + 2 * seen
                + (window as u64 + 1) * read
                + scratch
                + changed
                + sums
                + weights
                // Of gradients, and the spontaneous state.
                + 2 * biases,
            steps,
        }
    }

    /// Of one group's trial.
    fn trial(&self, plan: Plan) -> u64 {
        let [exact, packed] = HeldStates::new(self.steps, plan.interval, plan.precision).counts();
        self.group + exact as u64 * self.state + packed as u64 * self.packed
    }

    fn total(&self, plan: Plan) -> u64 {
        self.shared + plan.groups as u64 * self.trial(plan)
    }

    /// The fastest plan that fits, of up to `most` groups side by side; `slowdown` says what fewer of them cost.
    ///
    /// # Errors
    /// [`TrainError::Memory`] where none does.
    fn plan(
        &self,
        most: usize,
        precision: HistoryPrecision,
        slowdown: impl Fn(usize) -> f64,
        budget: u64,
    ) -> Result<Plan, TrainError> {
        // Any interval costs the same time; this one takes least memory. Checkpoints are exact.
        let of_segment = match precision {
            HistoryPrecision::Float32 => self.state,
            HistoryPrecision::Bfloat16 => self.packed,
        };
        let sparse = (self.steps as f64 * self.state as f64 / of_segment as f64)
            .sqrt()
            .ceil() as usize;
        let plans = (1..=most.max(1)).rev().flat_map(|groups| {
            [self.steps, sparse].map(|interval| Plan {
                groups,
                trials: groups,
                interval,
                precision,
            })
        });
        let time = |plan: &Plan| slowdown(plan.groups) * if plan.interval < self.steps { TWICE } else { 1.0 };
        plans
            .clone()
            .filter(|plan| self.total(*plan) <= budget)
            .min_by(|a, b| time(a).total_cmp(&time(b)))
            .map(|plan| Plan {
                trials: ((budget - self.shared) / self.trial(plan).max(1)) as usize,
                ..plan
            })
            .ok_or_else(|| TrainError::Memory {
                needed: plans.map(|plan| self.total(plan)).min().unwrap_or_default(),
                budget,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        shared: 1000,
        state: 10,
        packed: 5,
        group: 100,
        steps: 100,
    };

    fn plan(budget: u64) -> Option<(usize, usize)> {
        plan_with(budget, HistoryPrecision::Float32)
    }

    fn plan_with(budget: u64, precision: HistoryPrecision) -> Option<(usize, usize)> {
        // Two threads: one group alone takes twice as long.
        let slowdown = |groups: usize| 2.0 / groups.min(2) as f64;
        NEEDS
            .plan(4, precision, slowdown, budget)
            .ok()
            .map(|plan| (plan.groups, plan.interval))
    }

    #[test]
    fn the_fastest_plan_that_fits_is_taken() {
        // A group with all 101 states takes 1110, with every tenth 310.
        assert_eq!(plan(1000 + 4 * 1110), Some((4, 100)));
        assert_eq!(plan(1000 + 4 * 1110 - 1), Some((3, 100)));
        assert_eq!(plan(1000 + 2 * 1110), Some((2, 100)));
        assert_eq!(plan(1000 + 2 * 1110 - 1), Some((4, 10)));
        assert_eq!(plan(1000 + 2 * 310), Some((2, 10)));
        assert_eq!(plan(1000 + 2 * 310 - 1), Some((1, 10)));
        assert_eq!(plan(1000 + 310), Some((1, 10)));
        // Packed: 100 + 2 x 10 + 101 x 5.
        let packed = |budget| plan_with(budget, HistoryPrecision::Bfloat16);
        assert_eq!(packed(1000 + 4 * 625), Some((4, 100)));
        assert_eq!(packed(1000 + 4 * 625 - 1), Some((3, 100)));
        // With every fifteenth exact: 100 + (2 + 7) x 10 + 16 x 5.
        assert_eq!(packed(1000 + 270), Some((1, 15)));
        assert_eq!(packed(1000 + 269), None);
    }

    #[test]
    fn what_is_left_of_the_budget_holds_trials_of_other_sizes() {
        let trials = |budget| {
            NEEDS
                .plan(2, HistoryPrecision::Float32, |_| 1.0, budget)
                .ok()
                .map(|plan| plan.trials)
        };
        assert_eq!(trials(1000 + 2 * 1110), Some(2));
        assert_eq!(trials(1000 + 3 * 1110 - 1), Some(2));
        assert_eq!(trials(1000 + 3 * 1110), Some(3));
    }

    #[test]
    fn too_small_a_budget_is_an_error_that_says_what_is_needed() {
        let error = NEEDS.plan(4, HistoryPrecision::Float32, |_| 1.0, 1000 + 309);
        assert!(
            matches!(
                error,
                Err(TrainError::Memory {
                    needed: 1310,
                    budget: 1309
                })
            ),
            "{error:?}"
        );
    }
}
