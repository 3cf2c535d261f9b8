//! Delayed report of an image's class.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct DelayedCategory;

impl Task for DelayedCategory {
    fn choices(&self, classes: usize) -> Vec<String> {
        (0..classes).map(|class| format!("class {class}")).collect()
    }

    fn chance(&self, pool: &Pool, _: &Timing) -> f64 {
        1.0 / pool.classes() as f64
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let class = draw.class();
        let image = draw.image_of(class);
        let delay = draw.delay();
        Trial::new(format!("class {class}"))
            .hold("fixation", t.fixation, None)
            .hold("sample", t.stimulus, Some(Scene::image(image)))
            .hold("delay", delay, None)
            .respond("response", t.response, None, 1 + class)
            .delay(delay)
            .variable("sample", class)
            .variable("choice", 1 + class)
    }
}
