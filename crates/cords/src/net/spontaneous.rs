//! The spontaneous state of a network: steps without input from r = 0.

use super::connections::{Connections, StepScratch};
use crate::Real;
use crate::device::Device;

/// The spontaneous phase of one image, in memory that is kept from one time to the next.
pub(crate) struct SpontaneousPhase<T: Real, D: Device<T>> {
    scratch: StepScratch<T, D>,
    /// Activity after an even and after an odd number of steps.
    states: [Vec<D::Buffer>; 2],
    reductions: D::Reductions,
    capture: D::Capture,
    /// What the recording holds for: connections, and steps.
    recorded: (u64, usize),
}

impl<T: Real, D: Device<T>> SpontaneousPhase<T, D> {
    pub(crate) fn new(connections: &Connections<T, D>) -> Self {
        Self {
            scratch: connections.scratch(1),
            states: [connections.activity_buffers(1), connections.activity_buffers(1)],
            reductions: D::Reductions::default(),
            capture: D::Capture::default(),
            recorded: (connections.id, 0),
        }
    }

    /// The state after `steps` steps without input from r = 0.
    pub(crate) fn run(&mut self, connections: &Connections<T, D>, steps: usize) -> &[D::Buffer] {
        let device = &connections.device;
        if self.recorded != (connections.id, steps) {
            self.capture = D::Capture::default();
            self.recorded = (connections.id, steps);
        }
        let (scratch, [even, odd]) = (&mut self.scratch, &mut self.states);
        device.repeat(&mut self.capture, &mut self.reductions, |_| {
            even.iter_mut().for_each(|activity| device.clear(activity));
            for step in 0..steps {
                let (now, next) = match step % 2 {
                    0 => (&*even, &mut *odd),
                    _ => (&*odd, &mut *even),
                };
                // Biases are the constant current of one image.
                connections.step(scratch, 1, &connections.biases, now, next);
            }
        });
        &self.states[steps % 2]
    }
}

impl<T: Real, D: Device<T>> Connections<T, D> {
    /// Spontaneous state of one image: `steps` steps without input from r = 0.
    pub(crate) fn spontaneous(&self, steps: usize) -> Vec<D::Buffer> {
        let mut phase = SpontaneousPhase::new(self);
        phase.run(self, steps);
        let [now, next] = phase.states;
        if steps.is_multiple_of(2) { now } else { next }
    }
}
