//! Several objects; the class of the one at the place that is cued afterwards.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::{PLACES, Scene};
use crate::assoc::trial::Trial;

pub(super) struct MultiObject;

impl Task for MultiObject {
    fn choices(&self, classes: usize) -> Vec<String> {
        (0..classes).map(|class| format!("class {class}")).collect()
    }

    fn cues(&self) -> Vec<String> {
        (0..PLACES).map(|place| format!("place {place}")).collect()
    }

    fn placed(&self) -> bool {
        true
    }

    fn chance(&self, pool: &Pool, _: &Timing) -> f64 {
        // The cue says where, and nothing of what.
        1.0 / pool.classes() as f64
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let (items, place, class) = draw.objects(t.objects);
        let mut cue = [0.0; PLACES];
        cue[place % PLACES] = 1.0;
        let delay = draw.delay();
        Trial::new(format!("{} objects", items.len()))
            .hold("fixation", t.fixation, None)
            .hold("stimulus", t.stimulus, Some(Scene::placed(&items)))
            .hold("delay", delay, None)
            .hold("cue", t.test, None)
            .cue(&cue)
            .respond("response", t.response, None, 1 + class)
            .cue(&cue)
            .delay(delay)
            .variable("class", class)
            .variable("place", place)
            .variable("choice", 1 + class)
    }
}
