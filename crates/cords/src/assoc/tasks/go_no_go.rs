//! Go/no-go by class: the first half of the classes calls for an answer.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct GoNoGo;

impl Task for GoNoGo {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["go".into()]
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        0.5
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let half = (draw.classes() / 2).max(1);
        let go = draw.coin();
        let class = if go {
            draw.below(half)
        } else {
            half + draw.below(draw.classes().saturating_sub(half))
        };
        let image = draw.image_of(class);
        let delay = draw.delay();
        Trial::new(if go { "go" } else { "no-go" })
            .hold("fixation", t.fixation, None)
            .hold("stimulus", t.stimulus, Some(Scene::image(image)))
            .hold("delay", delay, None)
            .respond("response", t.response, None, usize::from(go))
            .delay(delay)
            .variable("stimulus", class)
            .variable("choice", usize::from(go))
    }
}
