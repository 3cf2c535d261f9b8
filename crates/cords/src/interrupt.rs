//! Ending a long computation from another thread.
//!
//! What is started within [`interruptible`] looks between products and steps whether it is to end, and unwinds where it
//! is, as a cancelled query does in salsa. A flag in every signature would be the alternative. Nothing is left half-done:
//! computations read their network, and what they have made of it goes with them. No message is printed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// What ends the computation that this thread has started.
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// What any thread asks a computation to end by.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

/// A computation ended before it had a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Stop {
    /// Asks the computation to end at its next step.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Ends the computation where that was asked for.
    pub(crate) fn check(&self) {
        if self.0.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Interrupted));
        }
    }
}

/// Runs `work` until it is done or `stop` asks it to end: simulations, gradients with respect to images, steady states
/// and spectra do so within a step or a product. Panics of other origin go through.
///
/// # Errors
/// [`Interrupted`] where it ended early.
pub fn interruptible<R>(stop: &Stop, work: impl FnOnce() -> R) -> Result<R, Interrupted> {
    let before = CURRENT.replace(Some(stop.clone()));
    let done = catch_unwind(AssertUnwindSafe(work));
    CURRENT.set(before);
    done.map_err(|panic| match panic.downcast::<Interrupted>() {
        Ok(interrupted) => *interrupted,
        Err(panic) => resume_unwind(panic),
    })
}

/// What ends the present computation, for its parts on other threads.
pub(crate) fn current() -> Stop {
    CURRENT.with_borrow(Clone::clone).unwrap_or_default()
}

/// Ends the present computation where that was asked for.
pub(crate) fn check() {
    CURRENT.with_borrow(|current| {
        if let Some(stop) = current {
            stop.check();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Architecture, CordsNet, Euler, Input};

    fn network() -> CordsNet<f32> {
        let graph = Architecture {
            in_channels: 1,
            image_side: 16,
            channels: vec![4, 4, 4],
            strides: vec![1, 1],
            classes: 3,
        };
        let graph = graph.graph().expect("a network");
        let parameters = crate::learn::Initialisation::default().cordsnet(&graph, 1);
        CordsNet::new(&graph, &parameters, &Euler::published(), crate::device::Phi::Relu).expect("a network")
    }

    #[test]
    fn a_simulation_ends_within_a_step_and_the_network_stays_as_it_was() {
        let net = network();
        let stop = Stop::default();
        let mut steps = 0;
        let ended = interruptible(&stop, || {
            let mut state = net.zeros(3);
            net.run(&mut state, Input::Blank, 1_000_000, &mut |step, _| {
                steps = step;
                if step == 5 {
                    stop.ask();
                }
            });
        });
        assert_eq!((ended, steps), (Err(Interrupted), 5));
        // Nothing that has not been asked to end does, on this thread neither.
        let again = interruptible(&Stop::default(), || net.spontaneous(10));
        assert_eq!(again, Ok(net.spontaneous(10)));
    }

    #[test]
    fn other_panics_go_through() {
        let panics = || interruptible::<()>(&Stop::default(), || resume_unwind(Box::new("another")));
        let panic = catch_unwind(AssertUnwindSafe(panics)).expect_err("a panic");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"another"));
    }
}
