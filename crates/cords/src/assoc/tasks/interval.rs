//! Interval discrimination: two images of the same class, shown for different times; which was shown longer.

use super::{Draw, Task};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct IntervalDiscrimination;

impl Task for IntervalDiscrimination {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["first".into(), "second".into()]
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let class = draw.class();
        let images = [draw.image_of(class), draw.image_of(class)];
        let count = t.durations.len();
        let first = draw.below(count);
        let second = (first + 1 + draw.below(count.saturating_sub(1))) % count.max(1);
        let of = |index: usize| t.durations.get(index).copied().unwrap_or(0.0);
        let (first, second) = (of(first), of(second));
        let target = 1 + usize::from(second > first);
        let delay = draw.delay();
        Trial::new(format!("{first} ms, {second} ms"))
            .hold("fixation", t.fixation, None)
            .hold("first", first, Some(Scene::image(images[0])))
            .hold("delay", delay, None)
            .hold("second", second, Some(Scene::image(images[1])))
            .respond("response", t.response, None, target)
            .delay(delay)
            .strength(second - first)
            .variable("choice", target)
    }
}
