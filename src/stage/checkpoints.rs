//! Checkpoints of the kinds that train: where and how often they are written, what is said of them, and stops.

use std::ops::ControlFlow;
use std::time::Duration;

use cords::learn::{CheckpointProgress, Checkpoints, FinalStates};

use super::Context;

/// Those of a stage, with so many minutes between two.
pub(super) fn of(context: &Context, minutes: f64) -> Checkpoints {
    Checkpoints {
        folder: context.checkpoint.clone(),
        identity: context.key.clone(),
        every: Duration::try_from_secs_f64(60.0 * minutes).unwrap_or(Duration::MAX),
    }
}

/// The states that trainings ended with which differ from a stage in the parameter alone by which they grow.
pub(super) fn final_states(context: &Context) -> Option<FinalStates> {
    let folder = context.lineage.clone()?;
    let identity = folder.file_name()?.to_string_lossy().into_owned();
    Some(FinalStates { folder, identity })
}

/// Says what happened to a checkpoint; `words` say how far a training is.
pub(super) fn tell<P>(progress: &CheckpointProgress<P>, words: impl Fn(&P) -> String, context: &mut Context) {
    match progress {
        CheckpointProgress::Continued(place) => {
            context.note(format!("resumes from its checkpoint: {}", words(place)));
        }
        CheckpointProgress::Grown(place) => {
            context.note(format!("goes on from where a shorter training ended: {}", words(place)));
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
