//! Delayed match to sample and to non-match.

use super::{Draw, Task};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

/// What counts as a match, and what is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The very same image; two answers. Half of the non-matches are other images of the same class.
    Image,
    /// The same class, shown by another image; two answers.
    Class,
    /// The same class; an answer only where it is another.
    NonMatch,
}

pub(super) struct DelayedMatch(pub(super) Rule);

impl Task for DelayedMatch {
    fn choices(&self, _: usize) -> Vec<String> {
        match self.0 {
            Rule::NonMatch => vec!["non-match".into()],
            Rule::Image | Rule::Class => vec!["match".into(), "non-match".into()],
        }
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let matches = draw.coin();
        let class = draw.class();
        let sample = draw.image_of(class);
        let other = draw.other_class(class);
        let (test_class, test) = match (self.0, matches) {
            (Rule::Image, true) => (class, sample),
            (Rule::Image, false) if draw.coin() => (class, draw.other_image(sample, class)),
            (Rule::Class | Rule::NonMatch, true) => (class, draw.image_of(class)),
            (_, false) => (other, draw.image_of(other)),
        };
        let target = match self.0 {
            Rule::NonMatch => usize::from(!matches),
            Rule::Image | Rule::Class => 1 + usize::from(!matches),
        };
        let condition = if matches { "match" } else { "non-match" };
        sample_and_test(draw, condition, (class, sample), (test_class, test), target)
    }
}

/// A sample, a delay, a test and the answer to both; sample and test with their classes.
pub(super) fn sample_and_test(
    draw: &mut Draw<'_>,
    condition: &str,
    (sample_class, sample): (usize, u32),
    (test_class, test): (usize, u32),
    target: usize,
) -> Trial {
    let (t, delay) = (draw.timing(), draw.delay());
    Trial::new(condition)
        .hold("fixation", t.fixation, None)
        .hold("sample", t.stimulus, Some(Scene::image(sample)))
        .hold("delay", delay, None)
        .hold("test", t.test, Some(Scene::image(test)))
        .respond("response", t.response, None, target)
        .delay(delay)
        .variable("sample", sample_class)
        .variable("test", test_class)
        .variable("choice", target)
}
