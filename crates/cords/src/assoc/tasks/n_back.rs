//! n-back: a stream of images; from the (n + 1)-th on, whether the image is of the class of the one n before.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

/// The task that compares each image with the one so many before.
pub(super) struct NBack(pub(super) usize);

impl Task for NBack {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["match".into(), "non-match".into()]
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        // An item of any class is a match as often as not.
        0.5
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let (n, t) = (self.0, draw.timing());
        let delay = draw.delay();
        let mut classes: Vec<usize> = Vec::new();
        let mut trial = Trial::new(format!("{n}-back"))
            .hold("fixation", t.fixation, None)
            .delay(delay);
        for item in 0..t.items.max(n + 1) {
            let back = item.checked_sub(n).and_then(|before| classes.get(before)).copied();
            let class = match back {
                Some(class) if draw.coin() => class,
                Some(class) => draw.other_class(class),
                None => draw.class(),
            };
            classes.push(class);
            let scene = Some(Scene::image(draw.image_of(class)));
            trial = match back {
                None => trial.hold("item", t.stimulus, scene).hold("delay", delay, None),
                Some(back) => trial
                    .hold("item", t.stimulus, scene)
                    .respond("response", t.response, None, 1 + usize::from(back != class))
                    .hold("delay", delay, None),
            };
        }
        trial
    }
}
