//! Two frames of several objects a delay apart; whether one object is of another class in the second.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct ChangeDetection;

impl Task for ChangeDetection {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["same".into(), "changed".into()]
    }

    fn placed(&self) -> bool {
        true
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        // Either frame alone is one of objects of any classes.
        0.5
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let (before, place, class) = draw.objects(t.objects);
        let changed = draw.coin();
        let mut after = before.clone();
        let new = draw.other_class(class);
        let image = draw.image_of(new);
        if let Some(first) = after.first_mut().filter(|_| changed) {
            first.0 = image;
        }
        let target = 1 + usize::from(changed);
        let delay = draw.delay();
        Trial::new(if changed { "changed" } else { "same" })
            .hold("fixation", t.fixation, None)
            .hold("first", t.stimulus, Some(Scene::placed(&before)))
            .hold("delay", delay, None)
            .answer_to("second", t, Some(Scene::placed(&after)), target)
            .delay(delay)
            .variable("place", place)
            .variable("class", class)
            .variable("choice", target)
    }
}
