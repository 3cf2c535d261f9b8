//! The activities of a trial that the backward pass needs: all of them, or checkpoints from which segments are computed anew.
//!
//! A segment computed twice has the same bits, so the interval never shows in a gradient.

use crate::Real;
use crate::device::Device;

/// States after 0, 1, ... steps, of which those of one segment are held.
pub(crate) struct History<B> {
    /// Steps of a segment.
    interval: usize,
    steps: usize,
    /// States at the start of every segment but the first, which follows from the trial's start; empty where one segment
    /// holds everything.
    kept: Vec<Vec<B>>,
    /// `segment[t][area]`: activity after `start + t` steps.
    segment: Vec<Vec<B>>,
    start: usize,
}

impl<B> History<B> {
    /// Room for a trial of `steps` steps with a checkpoint every `interval`; `state` gives zeroed buffers for all areas.
    pub(crate) fn new(steps: usize, interval: usize, state: impl Fn() -> Vec<B>) -> Self {
        let interval = interval.clamp(1, steps.max(1));
        let kept = if interval < steps { steps.div_ceil(interval) } else { 0 };
        Self {
            interval,
            steps,
            kept: (0..kept).map(|_| state()).collect(),
            segment: (0..=interval.min(steps)).map(|_| state()).collect(),
            start: 0,
        }
    }

    /// States that a trial of `steps` steps holds.
    pub(crate) fn states(steps: usize, interval: usize) -> usize {
        if interval < steps {
            steps.div_ceil(interval) + interval + 1
        } else {
            steps + 1
        }
    }

    /// The state that the trial starts from, to be written before the first [`advance`](Self::advance).
    pub(crate) fn begin(&mut self) -> &mut [B] {
        self.start = 0;
        &mut self.segment[0]
    }

    /// The state after `step` steps, where its segment is held.
    pub(crate) fn state(&self, step: usize) -> &[B] {
        &self.segment[step - self.start]
    }

    /// The states before and after step `step`, which must follow the one made last: `make(before, after)` is to compute
    /// the second.
    pub(crate) fn advance<T: Real, D: Device<T, Buffer = B>>(
        &mut self,
        device: &D,
        step: usize,
        make: impl FnOnce(&[B], &mut [B]),
    ) {
        if step == 1 {
            self.keep(device, 0);
        } else if step - 1 == self.start + self.interval {
            self.segment.swap(0, self.interval);
            self.start = step - 1;
            self.keep(device, self.start / self.interval);
        }
        let (past, future) = self.segment.split_at_mut(step - self.start);
        make(&past[past.len() - 1], &mut future[0]);
    }

    fn keep<T: Real, D: Device<T, Buffer = B>>(&mut self, device: &D, index: usize) {
        if let Some(kept) = self.kept.get_mut(index) {
            for (from, to) in self.segment[0].iter().zip(kept) {
                device.copy(from, to);
            }
        }
    }

    /// Sees to it that the states before and after step `step` are held, computing its segment anew where they are not:
    /// `make(step, before, after)` as in [`advance`](Self::advance).
    pub(crate) fn recall<T: Real, D: Device<T, Buffer = B>>(
        &mut self,
        device: &D,
        step: usize,
        mut make: impl FnMut(usize, &[B], &mut [B]),
    ) {
        if step > self.start {
            return;
        }
        self.start = (step - 1) / self.interval * self.interval;
        for (from, to) in self.kept[self.start / self.interval].iter().zip(&mut self.segment[0]) {
            device.copy(from, to);
        }
        for offset in 1..=self.interval.min(self.steps - self.start) {
            let (past, future) = self.segment.split_at_mut(offset);
            make(self.start + offset, &past[offset - 1], &mut future[0]);
        }
    }
}
