//! Noisy evidence: an image of class 0 or 1, weak under noise that is fresh at every step, for one of several
//! durations.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct NoisyEvidence;

impl Task for NoisyEvidence {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["class 0".into(), "class 1".into()]
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        0.5
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let class = draw.below(2);
        let image = draw.image_of(class);
        let (strength, duration) = (draw.one_of(&t.strengths), draw.one_of(&t.durations));
        let scene = Scene {
            contrast: (1000.0 * strength).round() as u16,
            noise: (t.noise > 0.0).then(|| ((1000.0 * t.noise).round() as u16, draw.noise_name())),
            ..Scene::image(image)
        };
        let delay = draw.delay();
        Trial::new(format!("{duration} ms"))
            .hold("fixation", t.fixation, None)
            .hold("evidence", duration, Some(scene))
            .hold("delay", delay, None)
            .respond("response", t.response, None, 1 + class)
            .delay(delay)
            .strength(if class == 1 { strength } else { -strength })
            .variable("stimulus", class)
            .variable("choice", 1 + class)
    }
}
