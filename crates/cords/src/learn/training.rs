//! What all trainings take, with defaults for what is seldom given.

use std::ops::ControlFlow;

use super::fit::{Trainee, TrainingFiles, fit};
use super::{Checkpoints, Data, EpochRecord, FinalStates, Fit, Observer, Progress, TrainError};
use crate::net::{Euler, Graph};

/// A training of a network on images. Its settings say of which network: [`DirectConfig`](super::DirectConfig) of a
/// CordsNet, [`CnnConfig`](super::CnnConfig) of a CNN twin, [`InvertConfig`](super::InvertConfig) of phase `invert`.
///
/// Everything else has a default: published step and time constants, no checkpoints, nobody who watches.
pub struct Training<'a, C> {
    pub(super) architecture: &'a Graph,
    pub(super) config: &'a C,
    pub(super) data: &'a Data<'a>,
    pub(super) euler: Euler,
    checkpoints: Option<&'a Checkpoints>,
    pub(super) final_states: Option<&'a FinalStates>,
    observer: Option<&'a mut Observer<'a>>,
}

impl<'a, C> Training<'a, C> {
    /// Of a network, by settings, on images. Nothing is checked or computed before it runs.
    pub fn new(architecture: &'a Graph, config: &'a C, data: &'a Data<'a>) -> Self {
        Self {
            architecture,
            config,
            data,
            euler: Euler::published(),
            checkpoints: None,
            final_states: None,
            observer: None,
        }
    }

    /// In steps and with time constants other than the published ones; a CNN twin has neither.
    pub fn euler(mut self, euler: &Euler) -> Self {
        self.euler = euler.clone();
        self
    }

    /// With its state on disk, from which a training that was stopped goes on to the same bits.
    pub fn checkpoints(mut self, checkpoints: Option<&'a Checkpoints>) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// With the states that trainings like it ended with, which differ from it in the number of epochs alone: it goes
    /// on from the longest that is shorter, to the same bits as from the beginning, and leaves its own. Where its
    /// epochs depend on how many there are to be, as with [`Schedule::Cosine`](super::Schedule::Cosine) and
    /// [`PhiSchedule::Annealed`](super::PhiSchedule::Annealed), it does neither.
    pub fn final_states(mut self, final_states: Option<&'a FinalStates>) -> Self {
        self.final_states = final_states;
        self
    }

    /// With an observer, who is told after every batch and epoch and may stop the training.
    pub fn observer(mut self, observer: &'a mut Observer<'a>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Trains in the loop that all trainings share.
    pub(super) fn fit(self, trainee: &mut dyn Trainee, settings: &Fit) -> Result<Vec<EpochRecord>, TrainError> {
        let kept = TrainingFiles {
            checkpoints: self.checkpoints,
            final_states: self.final_states.filter(|_| settings.begins_a_longer_one()),
        };
        match self.observer {
            Some(observer) => fit(trainee, settings, self.data, kept, observer),
            None => fit(trainee, settings, self.data, kept, &mut |_: Progress<'_>| {
                ControlFlow::Continue(())
            }),
        }
    }
}
