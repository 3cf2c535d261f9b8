//! Interval discrimination: two images of the same class, shown for different times; which was shown longer.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct IntervalDiscrimination;

/// Intervals of which every pair is a condition of its own.
const FEW: usize = 8;

impl Task for IntervalDiscrimination {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["first".into(), "second".into()]
    }

    fn chance(&self, _: &Pool, timing: &Timing) -> f64 {
        // The second interval alone: long ones are mostly the longer ones. The same holds for the first alone.
        let durations = &timing.durations;
        let pairs = |second: f64, place: usize| {
            let others = durations.iter().enumerate().filter(move |(other, _)| *other != place);
            let longer = others.clone().filter(|(_, first)| second > **first).count();
            longer.max(others.count() - longer)
        };
        let right: usize = durations.iter().enumerate().map(|(place, ms)| pairs(*ms, place)).sum();
        let all = durations.len() * durations.len().saturating_sub(1);
        match all {
            0 => 1.0,
            all => right as f64 / all as f64,
        }
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
        let condition = match count > FEW {
            true => format!("{} longer", if second > first { "second" } else { "first" }),
            false => format!("{first} ms, {second} ms"),
        };
        Trial::new(condition)
            .hold("fixation", t.fixation, None)
            .hold("first", first, Some(Scene::image(images[0])))
            .hold("delay", delay, None)
            .hold("second", second, Some(Scene::image(images[1])))
            .hold("wait", t.wait, None)
            .respond("response", t.response, None, target)
            .delay(delay)
            .strength(second - first)
            .variable("choice", target)
    }
}
