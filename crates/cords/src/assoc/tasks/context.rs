//! Context-dependent decision: two superposed images of different sets of classes, and a cue that says which set
//! counts.
//!
//! The first set are classes 0 and 1, the second 2 and 3; within a set the even class calls for the first answer. The
//! images agree in half of the trials.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct ContextDecision;

impl Task for ContextDecision {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["even".into(), "odd".into()]
    }

    fn cues(&self) -> Vec<String> {
        vec!["first set".into(), "second set".into()]
    }

    fn least_classes(&self) -> usize {
        4
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        0.5
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let second = draw.coin();
        let answers = [draw.below(2), draw.below(2)];
        let images = [draw.image_of(answers[0]), draw.image_of(2 + answers[1])];
        let target = 1 + answers[usize::from(second)];
        let agree = answers[0] == answers[1];
        let cue = if second { [0.0, 1.0] } else { [1.0, 0.0] };
        let delay = draw.delay();
        Trial::new(if agree { "congruent" } else { "incongruent" })
            .hold("fixation", t.fixation, None)
            .hold("stimulus", t.stimulus, Some(Scene::superposed(&images)))
            .hold("delay", delay, None)
            .respond("response", t.response, None, target)
            .cue_throughout(&cue)
            .delay(delay)
            .variable("first", answers[0])
            .variable("second", answers[1])
            .variable("context", usize::from(second))
            .variable("choice", target)
    }
}
