//! The loop of every training: gradient steps and validations, checkpoints between them, stops.
//!
//! What a step or a validation does is the training's own: on images in `fit`, on trials of a task where association
//! areas are. A training that was stopped or killed goes on to the same bits as one that was not.

use std::ops::ControlFlow;
use std::time::Instant;

use super::Checkpoints;
use super::checkpoint::StoredCheckpoint;
use super::snapshot::{Snapshot, SnapshotError};

/// What an observer is told of a training's checkpoints. `P` says how far a training is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointProgress<P> {
    /// The training goes on from a checkpoint instead of starting.
    Continued(P),
    /// The training goes on from where a shorter one ended, which was the same but for its length.
    Grown(P),
    /// There is a checkpoint that cannot be used, and why; the training starts from the beginning.
    Refused(String),
    /// The state is on disk.
    Written(P),
    /// The state could not be written, and why; the training goes on.
    Failed(String),
}

/// What a training does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GradientStep,
    Validation,
    /// Nothing: it is complete.
    End,
}

/// A training as the loop sees it. Between two of its parts, which are gradient steps and validations, its state can be
/// saved.
pub(crate) trait Resumable {
    /// How far it is, as its observer is told.
    type Position;
    /// What a gradient step learns from.
    type Batch;
    /// Why it ends early.
    type Error;

    /// What comes next.
    fn next(&self) -> Next;
    /// How far it is.
    fn position(&self) -> Self::Position;
    /// Takes one gradient step, and tells the observer, who may ask to stop.
    ///
    /// # Errors
    /// What ends the training, such as loss or gradient that are not finite.
    fn step(&mut self, batch: Self::Batch) -> Result<ControlFlow<()>, Self::Error>;
    /// Validates, keeps the record, and tells the observer before and behind it. A request to stop is heeded behind it.
    ///
    /// # Errors
    /// What ends the training.
    fn validate(&mut self) -> Result<ControlFlow<()>, Self::Error>;
    /// Whether it is the one that writes checkpoints, of those that train together.
    fn is_first(&self) -> bool {
        true
    }
    /// Whether the first of those that train together is to stop, and whether a checkpoint of this place is on disk: all
    /// of them do the same at the same place.
    ///
    /// # Errors
    /// What ends the training: another one has failed, or is at another place.
    fn agree(&mut self, stop: bool, written: bool) -> Result<[bool; 2], Self::Error> {
        Ok([stop, written])
    }
    /// Tells the observer of a checkpoint.
    fn tell(&mut self, progress: CheckpointProgress<Self::Position>) -> ControlFlow<()>;
    /// The error of a training that was asked to stop; `checkpoint`: whether its state is on disk.
    fn stopped(&self, checkpoint: bool) -> Self::Error;
    /// Writes everything that steps and validations change, bit for bit.
    fn save(&self, snapshot: &mut Snapshot);
    /// Takes over what [`save`](Self::save) wrote. Where it fails, the loop restores a state that fits, so nothing need
    /// be undone.
    ///
    /// # Errors
    /// Where a part is missing or does not fit this training.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError>;
}

/// A training that the loop carries to its end.
pub(crate) struct TrainingLoop<'a, T> {
    training: &'a mut T,
    checkpoints: Option<&'a Checkpoints>,
    /// When a checkpoint was written last, or the loop began.
    last: Instant,
}

impl<'a, T: Resumable> TrainingLoop<'a, T> {
    /// Brings a training to its last checkpoint, where there is one that can be used.
    ///
    /// # Errors
    /// [`Resumable::stopped`] where the observer breaks off; those of [`Resumable::agree`].
    pub(crate) fn begin(training: &'a mut T, checkpoints: Option<&'a Checkpoints>) -> Result<Self, T::Error> {
        let resumed = resume(training, checkpoints);
        let continued = matches!(resumed, Ok(true));
        let flow = match resumed {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => training.tell(CheckpointProgress::Continued(training.position())),
            Err(reason) => training.tell(CheckpointProgress::Refused(reason)),
        };
        if let [true, continued] = training.agree(flow.is_break(), continued)? {
            return Err(training.stopped(continued));
        }
        Ok(Self {
            training,
            checkpoints,
            last: Instant::now(),
        })
    }

    /// The training, as far as it is.
    pub(crate) fn training(&self) -> &T {
        self.training
    }

    /// Goes on to the end. `next_batch` gives one batch after the other, from the training's position on.
    ///
    /// # Errors
    /// Those of steps and validations; [`Resumable::stopped`] where the observer breaks off before the end.
    pub(crate) fn run(&mut self, next_batch: &mut dyn FnMut(&T) -> T::Batch) -> Result<(), T::Error> {
        loop {
            let flow = match self.training.next() {
                Next::GradientStep => {
                    let batch = next_batch(self.training);
                    self.training.step(batch)?
                }
                Next::Validation => self.training.validate()?,
                Next::End => return Ok(()),
            };
            // What is complete is not stopped.
            if self.training.next() != Next::End {
                self.pause(flow)?;
            }
        }
    }

    /// Between two parts: writes a checkpoint where one is due, stops where `flow` or the observer say so.
    fn pause(&mut self, flow: ControlFlow<()>) -> Result<(), T::Error> {
        let (mut stop, mut written) = (flow.is_break(), false);
        let due = |checkpoints: &Checkpoints| self.last.elapsed() >= checkpoints.every;
        if self.training.is_first() && (stop || self.checkpoints.is_some_and(due)) {
            let (checkpoint, flow) = self.write();
            written = checkpoint;
            stop |= flow.is_break();
        }
        match self.training.agree(stop, written)? {
            [true, written] => Err(self.training.stopped(written)),
            [false, _] => Ok(()),
        }
    }

    /// Writes a checkpoint where there is a place for one: whether it did, and what the observer says.
    pub(crate) fn write(&mut self) -> (bool, ControlFlow<()>) {
        let Some(checkpoints) = self.checkpoints else {
            return (false, ControlFlow::Continue(()));
        };
        let mut snapshot = Snapshot::default();
        self.training.save(&mut snapshot);
        let written = checkpoints.write(&snapshot);
        // Also after a failure: a full disk is not asked again after every batch.
        self.last = Instant::now();
        let done = written.is_ok();
        let progress = match written {
            Ok(()) => CheckpointProgress::Written(self.training.position()),
            Err(error) => CheckpointProgress::Failed(error.to_string()),
        };
        (done, self.training.tell(progress))
    }
}

/// Whether there was a checkpoint to go on from; `Err` says why it cannot be used.
fn resume<T: Resumable>(training: &mut T, checkpoints: Option<&Checkpoints>) -> Result<bool, String> {
    let snapshot = match checkpoints.map(Checkpoints::read) {
        None | Some(StoredCheckpoint::Nothing) => return Ok(false),
        Some(StoredCheckpoint::Refused(reason)) => return Err(reason),
        Some(StoredCheckpoint::Usable(snapshot)) => snapshot,
    };
    let mut initial = Snapshot::default();
    training.save(&mut initial);
    training.restore(&snapshot).map(|()| true).map_err(|error| {
        // What the training has just written fits it.
        let _ = training.restore(&initial);
        error.to_string()
    })
}
