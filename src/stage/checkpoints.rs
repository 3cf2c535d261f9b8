//! Checkpoints of the kinds that train: where and how often they are written, what is said of them, and stops.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use cords::learn::{CheckpointProgress, Checkpoints};

use super::Context;

/// The place of a stage's checkpoints.
pub(super) struct CheckpointPlace {
    folder: PathBuf,
    identity: String,
    minutes: f64,
}

impl CheckpointPlace {
    /// Of this stage, with so many minutes between two checkpoints.
    pub(super) fn of(context: &Context, minutes: f64) -> Self {
        Self {
            folder: context.checkpoint.clone(),
            identity: context.key.clone(),
            minutes,
        }
    }

    pub(super) fn checkpoints(&self) -> Checkpoints<'_> {
        Checkpoints {
            folder: &self.folder,
            identity: &self.identity,
            every: Duration::try_from_secs_f64(60.0 * self.minutes).unwrap_or(Duration::MAX),
        }
    }
}

/// Says what happened to a checkpoint; `words` say how far a training is.
pub(super) fn tell<P>(progress: &CheckpointProgress<P>, words: impl Fn(&P) -> String, context: &mut Context) {
    match progress {
        CheckpointProgress::Continued(place) => {
            context.note(format!("resumes from its checkpoint: {}", words(place)));
        }
        CheckpointProgress::Refused(reason) => context.note(format!(
            "cannot use its checkpoint, starts from the beginning: {reason}"
        )),
        CheckpointProgress::Written(place) if context.stop_requested() => {
            context.note(format!("wrote a checkpoint: {}", words(place)));
        }
        CheckpointProgress::Written(_) => {}
        CheckpointProgress::Failed(reason) => context.note(format!("cannot write a checkpoint: {reason}")),
    }
}

/// Breaks off where the stage was asked to stop.
pub(super) fn heed(context: &Context) -> ControlFlow<()> {
    match context.stop_requested() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}
