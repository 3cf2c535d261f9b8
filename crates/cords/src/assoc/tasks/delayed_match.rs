//! Delayed match to sample and to non-match.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

/// What counts as a match, and what is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The very same image; two answers. Half of the non-matches are other images of the same class.
    Image,
    /// A match is of the same class, by the same image or another; two answers.
    Class,
    /// A match is of the same class; an answer only where the second image is of another.
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

    fn chance(&self, pool: &Pool, _: &Timing) -> f64 {
        match self.0 {
            // The class of the second image says nothing.
            Rule::Class | Rule::NonMatch => 0.5,
            // Nor does the image, but for classes of a single one, whose non-matches are all of another class.
            Rule::Image => {
                let classes = pool.classes() as f64;
                let lone = pool.counts().filter(|count| *count == 1).count() as f64;
                let of_class = |count: usize| {
                    let moved = (lone - f64::from(u8::from(count == 1))) / (classes - 1.0).max(1.0);
                    let other = 1.0 + f64::from(u8::from(count > 1)) + moved;
                    // In quarters of the class's share: two for a match.
                    f64::max(2.0, other) / (4.0 * classes)
                };
                pool.counts().map(of_class).sum()
            }
        }
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let matches = draw.coin();
        let class = draw.class();
        let sample = draw.image_of(class);
        let other = draw.other_class(class);
        let (test_class, test) = match (self.0, matches) {
            (Rule::Image, true) => (class, sample),
            (Rule::Image, false) if draw.coin() => draw.other_image(sample, class),
            (Rule::Class | Rule::NonMatch, true) => (class, draw.image_of(class)),
            (_, false) => (other, draw.image_of(other)),
        };
        let target = match self.0 {
            Rule::NonMatch => usize::from(!matches),
            Rule::Image | Rule::Class => 1 + usize::from(!matches),
        };
        // Whoever compares classes alone fails where the image is another one of the same class, and nowhere else.
        let condition = match (self.0, matches) {
            (_, true) => "match",
            (Rule::Image, false) if test_class == class => "non-match, same class",
            (Rule::Image, false) => "non-match, other class",
            (_, false) => "non-match",
        };
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
        .answer_to("test", t, Some(Scene::image(test)), target)
        .delay(delay)
        .variable("sample", sample_class)
        .variable("test", test_class)
        .variable("choice", target)
}
