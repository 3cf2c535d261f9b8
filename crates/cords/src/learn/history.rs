//! The activities of a trial that the backward pass needs: all of them, or checkpoints from which segments are computed
//! anew; as they are, or rounded to bfloat16.
//!
//! Checkpoints are exact and a segment computed twice has the same bits, so the interval never shows in a gradient.

use serde::{Deserialize, Serialize};

use crate::Real;
use crate::device::{Adjoint, Device, Maps, PackedMaps};
use crate::net::Connections;

/// How the activities that the backward pass reads are kept. A bit for the sign of each current stands beside rounded
/// ones, so that the derivatives of phi stay exact, as do the forward pass and its loss. Weight gradients see rounded
/// activity, the return term's gradient sees its distance from the spontaneous state, and the gradients of time
/// constants see its change in a step: where that is below the rounding, mostly noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HistoryPrecision {
    /// in float32, as computed
    #[default]
    Float32,
    /// rounded to 8 significant bits: half the memory; weight gradients change by some thousandths, that of the return
    /// term by as much as the rounding exceeds the distance
    Bfloat16,
}

/// States after 0, 1, ... steps, of which those of one segment are held.
pub(crate) struct History<T: Real, D: Device<T>> {
    /// Steps of a segment.
    interval: usize,
    steps: usize,
    /// States at the start of every segment; empty where one segment holds everything.
    kept: Vec<Vec<D::Buffer>>,
    segment: Segment<T, D>,
    start: usize,
    /// Of the areas in this trial, then of hidden variables.
    alphas: Vec<f64>,
}

/// `[t][area]`: activity after `start + t` steps.
enum Segment<T: Real, D: Device<T>> {
    Exact(Vec<Vec<D::Buffer>>),
    Packed {
        states: Vec<Vec<D::Packed>>,
        /// The states before and after the step at hand.
        live: [Vec<D::Buffer>; LIVE],
        /// The step that `live` belongs to.
        at: usize,
        /// Whether `live` has values, not just what convolutions read.
        whole: bool,
    },
}

/// How many states a history holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldStates {
    /// Checkpoints: none where one segment holds everything.
    checkpoints: usize,
    /// States of a segment, its start included.
    segment: usize,
    precision: HistoryPrecision,
}

impl HeldStates {
    /// For a trial of `steps` steps with a checkpoint every `interval`.
    pub(crate) fn new(steps: usize, interval: usize, precision: HistoryPrecision) -> Self {
        Self {
            checkpoints: if interval < steps { steps.div_ceil(interval) } else { 0 },
            segment: interval.min(steps) + 1,
            precision,
        }
    }

    /// States as they are, and packed.
    pub(crate) fn counts(self) -> [usize; 2] {
        match self.precision {
            HistoryPrecision::Float32 => [self.checkpoints + self.segment, 0],
            HistoryPrecision::Bfloat16 => [self.checkpoints + LIVE, self.segment],
        }
    }
}

/// States at hand where the others are packed: before and after a step.
const LIVE: usize = 2;

impl<T: Real, D: Device<T>> History<T, D> {
    /// Room for a trial of `steps` steps of `batch` images with a checkpoint every `interval`.
    pub(crate) fn new(
        connections: &Connections<T, D>,
        batch: usize,
        steps: usize,
        interval: usize,
        precision: HistoryPrecision,
    ) -> Self {
        let interval = interval.clamp(1, steps.max(1));
        let held = HeldStates::new(steps, interval, precision);
        let state = || connections.state_buffers(batch);
        let maps: Vec<Maps> = connections.state_maps(batch);
        let packed = || {
            maps.iter()
                .map(|maps| D::Packed::room(&connections.device, *maps))
                .collect()
        };
        Self {
            interval,
            steps,
            kept: (0..held.checkpoints).map(|_| state()).collect(),
            segment: match precision {
                HistoryPrecision::Float32 => Segment::Exact((0..held.segment).map(|_| state()).collect()),
                HistoryPrecision::Bfloat16 => Segment::Packed {
                    states: (0..held.segment).map(|_| packed()).collect(),
                    live: [state(), state()],
                    at: 0,
                    whole: true,
                },
            },
            start: 0,
            // Of hidden variables, which keep this one, the signs that are kept beside them are never read.
            alphas: vec![1.0; maps.len()],
        }
    }

    /// The state that the trial starts from, to be written before the first [`advance`](Self::advance).
    pub(crate) fn begin(&mut self, connections: &Connections<T, D>) -> &mut [D::Buffer] {
        self.start = 0;
        // Those of trained time constants have changed since the last trial.
        for (alpha, leak) in self.alphas.iter_mut().zip(&connections.leaks) {
            *alpha = leak.alpha;
        }
        match &mut self.segment {
            Segment::Exact(states) => &mut states[0],
            Segment::Packed { live, at, whole, .. } => {
                (*at, *whole) = (0, true);
                &mut live[1]
            }
        }
    }

    /// The state after `step` steps: of those held, the last one made or recalled and the one before it.
    pub(crate) fn state(&self, step: usize) -> &[D::Buffer] {
        match &self.segment {
            Segment::Exact(states) => &states[step - self.start],
            Segment::Packed { live, at, .. } => &live[step + 1 - at],
        }
    }

    /// The states before and after step `step`, which must follow the one made last: `make(before, after)` is to
    /// compute the second.
    pub(crate) fn advance(&mut self, device: &D, step: usize, make: impl FnOnce(&[D::Buffer], &mut [D::Buffer])) {
        if step == 1 || step - 1 == self.start + self.interval {
            if let Segment::Exact(states) = &mut self.segment {
                states.swap(0, step - 1 - self.start);
            }
            self.start = step - 1;
            if let Some(kept) = self.kept.get_mut(self.start / self.interval) {
                let state = match &self.segment {
                    Segment::Exact(states) => &states[0],
                    Segment::Packed { live, .. } => &live[1],
                };
                for (from, to) in state.iter().zip(kept) {
                    device.copy(from, to);
                }
            }
            self.segment.begin(device, &self.alphas);
        }
        self.segment.make(device, &self.alphas, self.start, step, make);
    }

    /// Sees to it that the states before and after step `step` are held, computing its segment anew where they are not:
    /// `make(step, before, after)` as in [`advance`](Self::advance). Unless they are to be `whole`, nothing but
    /// convolutions reads them.
    pub(crate) fn recall(
        &mut self,
        device: &D,
        (step, asked_whole): (usize, bool),
        mut make: impl FnMut(usize, &[D::Buffer], &mut [D::Buffer]),
    ) {
        if step <= self.start {
            self.start = (step - 1) / self.interval * self.interval;
            let first = match &mut self.segment {
                Segment::Exact(states) => &mut states[0],
                Segment::Packed { live, whole, .. } => {
                    *whole = true;
                    &mut live[1]
                }
            };
            for (from, to) in self.kept[self.start / self.interval].iter().zip(first) {
                device.copy(from, to);
            }
            self.segment.begin(device, &self.alphas);
            for step in self.start + 1..=self.steps.min(self.start + self.interval) {
                self.segment
                    .make(device, &self.alphas, self.start, step, |before, after| {
                        make(step, before, after)
                    });
            }
        }
        if let Segment::Packed {
            states,
            live,
            at,
            whole,
        } = &mut self.segment
        {
            // What was before the step recalled last is after this one.
            let known = usize::from(*at == step + 1);
            live.rotate_right(known);
            let known = if *whole || !asked_whole { known } else { 0 };
            let rounded = states[step - 1 - self.start..].iter().zip(live);
            for (states, live) in rounded.take(LIVE - known) {
                for (state, live) in states.iter().zip(live) {
                    match asked_whole {
                        true => state.unpack(device, live),
                        false => state.recall(device, live),
                    }
                }
            }
            (*at, *whole) = (step, asked_whole);
        }
    }

    /// The adjoint of an area's step `step`, which has been recalled, on a device that gathers.
    pub(crate) fn gathered_adjoint(
        &self,
        connections: &Connections<T, D>,
        (step, area): (usize, usize),
        adjoint: Adjoint<'_, D::Buffer>,
    ) {
        let (device, at) = (&connections.device, step - self.start);
        match &self.segment {
            Segment::Exact(states) => device.gathered_adjoint(&states[at - 1][area], &states[at][area], adjoint),
            Segment::Packed { states, .. } => states[at][area].gathered_adjoint(device, adjoint),
        }
    }

    /// delta = alpha phi'(u) g, sum += delta and g *= 1 - alpha for an area's step `step`, which has been recalled;
    /// `outputs` are g, delta and sum.
    pub(crate) fn leaky_adjoint(
        &self,
        connections: &Connections<T, D>,
        step: usize,
        area: usize,
        [g, delta, sum]: [&mut D::Buffer; 3],
    ) {
        let (device, leak) = (&connections.device, (connections.leaks[area].alpha, connections.phi));
        let at = step - self.start;
        match &self.segment {
            Segment::Exact(states) => {
                device.relax_adjoint(leak, &states[at - 1][area], &states[at][area], g, delta, sum);
            }
            Segment::Packed { states, .. } => states[at][area].relax_adjoint(device, leak, g, delta, sum),
        }
    }
}

impl<T: Real, D: Device<T>> Segment<T, D> {
    /// Takes over the first state.
    fn begin(&mut self, device: &D, alphas: &[f64]) {
        if let Self::Packed { states, live, .. } = self {
            for ((state, packed), alpha) in live[1].iter_mut().zip(&mut states[0]).zip(alphas) {
                packed.lend(device, state);
                // Whatever made it belongs to the segment before.
                packed.pack(device, *alpha, state, state);
            }
        }
    }

    /// Makes the state after `step` steps of the one before.
    fn make(
        &mut self,
        device: &D,
        alphas: &[f64],
        start: usize,
        step: usize,
        make: impl FnOnce(&[D::Buffer], &mut [D::Buffer]),
    ) {
        match self {
            Self::Exact(states) => {
                let (past, future) = states.split_at_mut(step - start);
                make(&past[past.len() - 1], &mut future[0]);
            }
            Self::Packed {
                states,
                live,
                at,
                whole,
            } => {
                live.swap(0, 1);
                let [before, after] = live;
                for (packed, after) in states[step - start].iter().zip(&mut *after) {
                    packed.lend(device, after);
                }
                make(before, after);
                (*at, *whole) = (step, true);
                let packed = states[step - start].iter_mut();
                for (((before, after), packed), alpha) in before.iter().zip(after.iter()).zip(packed).zip(alphas) {
                    packed.pack(device, *alpha, before, after);
                }
            }
        }
    }
}
